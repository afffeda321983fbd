"""Requests through xmpp-jat-proxy on a real server while the proxy, the implementing clients and the
server are killed and started again, under a load that does not stop for it. What became of each
request is in the books of account.py, which say what may be lost and what fails the run.

The implementing clients answer most requests at once, some late, and a few later than the proxy
waits for: by then the proxy has answered itself, and whatever happens in between nobody may hear
a second answer. Now and then a client hibernates: it answers nothing, and much later all that it was
asked. Now and then more is asked than the proxy has room for.

With SOAK_SHARE two proxies stand behind xmpp-share. Then a proxy that is killed excuses nothing:
xmpp-share answers for what it had in hand.
"""

import collections
import heapq
import os
import random
import select
import signal
import sys
import time
import zlib

from account import Account
from proxyservers import Impl, Mismatch, Proxy, server, user
from sharing import Share
from xmppclient import Closed

TOTAL = int(os.environ["SOAK_REQUESTS"])
SEED = os.environ["SOAK_SEED"]
RANDOM = random.Random(int(SEED))
WINDOW = 200                    # requests open at once
TIMEOUT_S = 1                   # of the proxy
OPTIONS = ("--timeout", str(TIMEOUT_S), "--key-file", "keys", "--bounce-wait", "0.5", "--drain-time", "1",
           "--limit", "pending=%d" % (2 * WINDOW), "--limit", "user-pending=%d" % (2 * WINDOW))
SHARE = bool(os.environ.get("SOAK_SHARE"))
SHARE_OPTIONS = ("--timeout", str(3 * TIMEOUT_S), "--drain-time", "2", "--limit", "domain-pending=100%",
                 "--limit", "pending=%d" % (2 * WINDOW), "--limit", "user-pending=%d" % (2 * WINDOW))
PATIENCE_S = 60                 # for what must happen in the end
# in a thousand requests, how often what happens; at least once a run each
EVENTS = {"proxy killed": 0.25, "proxy ended": 0.25, "client cut": 1.0, "client leaves": 0.5,
          "client hibernates": 0.5, "table filled": 0.1, "server killed": 0.03, "server stopped": 0.03}
if SHARE:
    EVENTS.update({"share killed": 0.1, "share ended": 0.1})


def now():
    return time.monotonic()


def asked(request):
    """The user's id of it: xmpp-share gives it another one."""
    return request.children[0].text if request.children else None


class Worker(Impl):
    """An implementing client whose answers say which request they are to."""

    def __init__(self, resource, soak):
        self.soak = soak
        self.asleep = None                                # or what it was asked meanwhile
        super().__init__(resource)

    def answer(self, request, content=None):
        if self.asleep is not None:
            self.asleep.append(request)
            return
        chance = zlib.crc32(("%s %s" % (SEED, asked(request))).encode()) % 10000
        delay_s = 0
        if chance < 300:
            delay_s = chance / 1000
        elif chance < 350:
            delay_s = TIMEOUT_S + (chance - 299) / 30
        if delay_s:
            self.soak.later(delay_s, self, request)
        else:
            self.answer_now(request)

    def answer_now(self, request):
        try:
            super().answer(request, "<by xmlns='urn:x'>%s</by>" % asked(request))
        except OSError:
            pass                                          # it is gone

    def wake(self):
        """Wake up, and give all answers that it owes."""
        owed, self.asleep = self.asleep, None
        for request in owed:
            self.answer_now(request)


class Soak:
    def __init__(self):
        os.system("jat-encode --create-key --key-file keys --domain proxy.test </dev/null")
        self.account = Account()
        self.happened = collections.Counter()
        self.number = 0
        self.notes = open("events", "w")
        self.held = []                                    # heap of (when, number, worker, request)
        self.absent_until = 0                             # the server said that nobody is connected
        self.ended_badly = []
        self.share = Share(*SHARE_OPTIONS) if SHARE else None
        self.proxies = {}
        self.window = WINDOW
        self.workers = {r: Worker(r, self) for r in "abc"}
        self.user = user("alice")
        for name in ("one", "two") if SHARE else ("one",):
            self.start_proxy(name)

    # --- load

    def later(self, delay_s, worker, request):
        heapq.heappush(self.held, (now() + delay_s, request["id"], id(worker), worker, request))

    def release(self, until):
        while self.held and self.held[0][0] <= until:
            worker, request = heapq.heappop(self.held)[3:]
            worker.answer_now(request)

    def ask(self, limit):
        batch = []
        room = min(limit - self.number, self.window - len(self.account.open))
        if now() < self.absent_until:                     # just to see when that is over
            room = 0
        elif self.absent_until:
            room = min(room, 2)
        for _ in range(room):
            id = "s%d" % self.number
            kind = "get" if self.number % 3 else "set"
            batch.append("<iq type='%s' id='%s' to='proxy.test'><q xmlns='urn:x'>%s</q></iq>" % (kind, id, id))
            self.account.ask(id)
            self.number += 1
        if batch:
            if self.absent_until:
                self.absent_until = now() + 0.005
            try:
                self.user.send(*batch)
            except OSError:
                pass                                      # take() will see the end

    def take(self, wait_s):
        """Return the id of a stanza, if one comes in that time."""
        try:
            stanza = self.user.next(wait_s)
        except Mismatch:
            return None
        id = stanza["id"] or "none"
        if stanza.name != "iq" or not id.startswith("s") or stanza["type"] not in ("result", "error"):
            return id
        nobody = stanza.error and "not-connected" in stanza.raw
        # by the server, or by a proxy that is about to end
        refused = nobody or stanza.error == "wait/recipient-unavailable" or \
            (SHARE and stanza.error == "cancel/service-unavailable")
        self.absent_until = (self.absent_until or now() + 0.005) if refused else 0
        if stanza["from"] != "proxy.test" or (not stanza.error and stanza.children[0].text != id):
            self.account.wrong.append("not the answer to %s: %r" % (id, stanza))
        faults = len(self.account.wrong)
        self.account.answer(id, stanza.error and stanza.error + (", by the server" if nobody else ""),
                            bool(nobody))
        if len(self.account.wrong) > faults:
            self.note(self.account.wrong[-1])
        return id

    def note(self, what):
        """Print what helps to find the reason of a fault."""
        print("%.3f %d %s" % (now(), self.number, what), file=self.notes, flush=True)

    def turn(self, limit=sys.maxsize):
        self.release(now())
        self.ask(limit)
        wait_s = min(0.05, max(0.001, self.held[0][0] - now())) if self.held else 0.05
        if now() < self.absent_until:
            wait_s = 0.002
        if self.take(wait_s):
            while not self.user.inbox.empty() and self.take(0.01):
                pass

    def until(self, condition, what):
        """Keep up the load until then."""
        deadline = now() + PATIENCE_S
        while not condition():
            self.turn()
            if now() > deadline:
                sys.exit("soak: waited in vain until %s" % what)

    # --- what happens

    @staticmethod
    def state_dir(name):
        os.makedirs("state-" + name, exist_ok=True)
        return "state-" + name

    def start_proxy(self, name):
        port = self.share.port if SHARE else None
        proxy = Proxy(*OPTIONS, "--state-dir", self.state_dir(name), port=port, ready=False)
        self.until_ready(proxy)
        self.proxies[name] = proxy

    def until_ready(self, program):
        self.until(lambda: select.select([program.ready_pipe], [], [], 0)[0], "it is ready")
        if program.ready_pipe.read(1) != b"\n":
            sys.exit("soak: not ready: " + program.stderr)
        self.note("ready: " + program.stderr_file.name)

    def proxy_killed(self):
        name = RANDOM.choice(sorted(self.proxies))
        self.proxies[name].kill()
        if not SHARE:
            self.connection_killed()
        self.start_proxy(name)

    def connection_killed(self):
        self.account.excuse("proxy killed")
        self.until(lambda: self.account.gap is None, "the server knows that the proxy is gone")

    def ended(self, program):
        status = program.process.returncode
        if status:
            self.ended_badly.append("%s ended with %d: %s" % (program.process.args[0], status, program.stderr[-300:]))

    def end(self, program):
        # This excuses no loss: the proxy answers what is open, and the server what comes while nobody is connected.
        program.process.send_signal(signal.SIGTERM)
        self.until(lambda: program.process.poll() is not None, "it ends")
        self.ended(program)

    def proxy_ended(self):
        name = RANDOM.choice(sorted(self.proxies))
        self.end(self.proxies[name])
        self.start_proxy(name)

    def start_share(self):
        """Start xmpp-share again; the proxies reconnect by themselves."""
        self.share = Share(*SHARE_OPTIONS, at=self.share.port, ready=False)
        self.until_ready(self.share)

    def share_killed(self):
        self.share.end(signal.SIGKILL)
        self.connection_killed()
        self.start_share()

    def share_ended(self):
        self.end(self.share)
        self.start_share()

    def client_returns(self, resource):
        goal = self.number + RANDOM.randrange(1, 2 * WINDOW)
        self.until(lambda: self.number >= goal, "a client returns")
        self.workers[resource] = Worker(resource, self)

    def client_cut(self):
        resource = RANDOM.choice(sorted(self.workers))
        self.workers[resource].cut()
        self.client_returns(resource)

    def client_leaves(self):
        resource = RANDOM.choice(sorted(self.workers))
        self.workers[resource].leave()
        self.client_returns(resource)

    def client_hibernates(self):
        resource = RANDOM.choice(sorted(self.workers))
        worker = self.workers[resource]
        worker.asleep = []
        goal, until = self.number + RANDOM.randrange(1, 4 * WINDOW), now() + RANDOM.random() * 3 * TIMEOUT_S
        self.until(lambda: self.number >= goal and now() >= until, "a client wakes")
        worker.wake()

    def table_filled(self):
        """Ask for more than there is room for; not while the server or everybody is away."""
        self.window = 5 * WINDOW
        goal = self.number + 10 * WINDOW
        self.until(lambda: self.number >= goal, "the table was full")
        self.window = WINDOW

    def server_gone(self, number, reason):
        with open(os.path.join(os.environ["SERVER_DIR"], "pid")) as pid:
            os.kill(int(pid.read().split()[0]), number)
        try:
            self.until(lambda: False, "the server ends")
        except Closed:                                    # all that came before is booked
            pass
        self.account.excuse(reason)
        server("restart")
        self.workers = {r: Worker(r, self) for r in self.workers}
        self.user = user("alice")

    def server_killed(self):
        self.server_gone(signal.SIGKILL, "server killed")

    def server_stopped(self):
        self.server_gone(signal.SIGTERM, "server stopped")

    # --- all of it

    def run(self):
        plan = []
        for event, often in EVENTS.items():
            times = max(1, int(often * TOTAL / 1000))
            plan += [(RANDOM.randrange(TOTAL // 20, TOTAL * 19 // 20), event) for _ in range(times)]
        plan.sort()
        started = now()
        while self.number < TOTAL:
            if plan and self.number >= plan[0][0]:
                event = plan.pop(0)[1]
                self.happened[event] += 1
                self.note(event)
                getattr(self, event.replace(" ", "_"))()
            else:
                self.turn(min(TOTAL, plan[0][0] if plan else TOTAL))
        # What is open now is answered by the proxy: by a session, or when its time is over.
        deadline = now() + 3 * TIMEOUT_S
        while self.account.open and now() < deadline:
            self.turn(self.number)
        self.release(float("inf"))                        # the last late ones
        for worker in self.workers.values():
            worker.settle()
        # The proxy ends when the server has taken all its output; then the server has dealt with that.
        for program in [*self.proxies.values()] + ([self.share] if SHARE else []):
            program.end()
            self.ended(program)
        self.user.send("<iq type='get' id='end' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>" % self.user.host)
        deadline = now() + PATIENCE_S
        while self.take(1) != "end":
            if now() > deadline:
                sys.exit("soak: the server does not answer")
        return now() - started

    def report(self, seconds):
        print("%s: %d requests in %.0f s" % ("xmpp-share with two xmpp-jat-proxy" if SHARE else "xmpp-jat-proxy",
                                             self.account.sent, seconds))
        for name, count in self.account.table().items():
            print("  %-24s %d" % (name, count))
        print("  %-24s %d" % ("twice, or not asked", len(self.account.wrong)))
        for name, count in sorted(self.account.errors.items()):
            print("  refused with %s: %d" % (name, count))
        for name, count in sorted(self.happened.items()):
            print("  %s: %d times" % (name, count))
        faults = self.account.faults() + self.ended_badly
        for fault in faults[:20]:
            print("soak: " + fault, file=sys.stderr)
        if faults:
            sys.exit("soak: %d faults in the books" % len(faults))


soak = Soak()
soak.report(soak.run())
