"""Requests through xmpp-jat-proxy on a real server while the proxy, the implementing clients and the
server are killed and started again. Each request ends as one of

    answered     by a session, once
    refused      an error came, once
    lost         nothing came, and a kill -9 of the proxy or an end of the server, which nobody can
                 answer for, fell into its time
    unexplained  nothing came, and nothing of that kind happened
    twice        more than one answer

The last two fail the run.
"""

import collections
import os
import random
import signal
import sys
import threading
import time

from proxyservers import Impl, Mismatch, Proxy, server, user
from xmppclient import Closed

TOTAL = int(os.environ["SOAK_REQUESTS"])
RANDOM = random.Random(int(os.environ["SOAK_SEED"]))
WINDOW = 200
TIMEOUT_S = 10                  # of the proxy; nothing is open for longer than twice that
OPTIONS = ("--timeout", str(TIMEOUT_S), "--state-dir", "state", "--key-file", "keys",
           "--bounce-wait", "0.5", "--drain-time", "2")
# in a thousand requests, how often what happens, at least once a run each
EVENTS = {"proxy killed": 0.25, "proxy ended": 0.25, "client cut": 1.0, "client leaves": 0.5,
          "server killed": 0.03, "server restarted": 0.03}


def now():
    return time.monotonic()


class Soak:
    def __init__(self):
        os.mkdir("state")
        os.system("jat-encode --create-key --key-file keys --domain proxy.test </dev/null")
        self.proxy = Proxy(*OPTIONS)
        self.impls = {r: Impl(r) for r in "abc"}
        self.user = user("alice")
        self.sent = 0
        self.open = {}                                    # id: when it was sent
        self.outcome = {}                                 # id: the first answer
        self.lost = {}
        self.table = collections.Counter()
        self.errors = collections.Counter()
        self.excuses = []                                 # when what was open may be lost
        self.happened = collections.Counter()

    def excuse(self):
        self.excuses.append(now())

    # --- load

    def fill(self, limit):
        batch = []
        while self.sent < limit and len(self.open) < WINDOW:
            id = "s%d" % self.sent
            kind = "get" if self.sent % 3 else "set"
            batch.append("<iq type='%s' id='%s' to='proxy.test'><q xmlns='urn:x'/></iq>" % (kind, id))
            self.open[id] = now()
            self.sent += 1
        if batch:
            self.user.send(*batch)

    def take(self, wait_s):
        """One answer, if one comes in that time."""
        try:
            stanza = self.user.next(wait_s)
        except Mismatch:
            return False
        id = stanza["id"] or ""
        if stanza.name != "iq" or not id.startswith("s") or stanza["type"] not in ("result", "error"):
            return True
        if id in self.outcome:
            self.table["twice"] += 1
            print("twice: %s" % id, file=sys.stderr)
            return True
        self.lost.pop(id, None)
        self.open.pop(id, None)
        self.outcome[id] = stanza["type"]
        if stanza["type"] == "error":
            self.errors[stanza.error] += 1
        return True

    def give_up_old(self, age_s):
        for id, at in list(self.open.items()):
            if now() - at > age_s:
                self.lost[id] = at
                del self.open[id]

    # --- what happens

    def proxy_killed(self):
        self.excuse()
        self.proxy.kill()
        self.proxy = Proxy(*OPTIONS)
        self.excuse()

    def proxy_ended(self):
        # No excuse: it answers what is open, and what comes while nobody is connected the server does.
        self.proxy.end()
        self.proxy = Proxy(*OPTIONS)

    def client_cut(self):
        resource = RANDOM.choice(sorted(self.impls))
        self.impls[resource].cut()
        self.impls[resource] = Impl(resource)

    def client_leaves(self):
        resource = RANDOM.choice(sorted(self.impls))
        self.impls[resource].leave()
        self.impls[resource] = Impl(resource)

    def server_gone(self, number):
        self.excuse()
        if number == signal.SIGKILL:
            os.kill(int(open(os.path.join(os.environ["SERVER_DIR"], "pid")).read().split()[0]), number)
        server("restart")
        # everybody's session is gone, ours too, and with it what was on its way to us
        self.drain_closed()
        self.impls = {r: Impl(r) for r in self.impls}
        self.user = user("alice")
        self.excuse()
        for id, at in self.open.items():
            self.lost[id] = at
        self.open.clear()

    def server_killed(self):
        self.server_gone(signal.SIGKILL)

    def server_restarted(self):
        self.server_gone(signal.SIGTERM)

    def drain_closed(self):
        try:
            while self.take(0.2):
                pass
        except Closed:
            pass

    # --- all of it

    def run(self):
        plan = []
        for event, often in EVENTS.items():
            times = max(1, int(often * TOTAL / 1000))
            plan += [(RANDOM.randrange(TOTAL // 20, TOTAL * 19 // 20), event) for _ in range(times)]
        plan.sort()
        started = now()
        while self.sent < TOTAL or self.open:
            if plan and self.sent >= plan[0][0]:
                event = plan.pop(0)[1]
                self.happened[event] += 1
                getattr(self, event.replace(" ", "_"))()
            self.fill(min(TOTAL, plan[0][0] if plan else TOTAL))
            if not self.take(1.0):
                self.give_up_old(2 * TIMEOUT_S if not self.excused_all() else 2.0)
        # answers that are late, or second ones
        self.user.send("<iq type='get' id='end' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>" % self.user.host)
        while self.take(2.0):
            pass
        self.proxy.end()
        while self.take(0.5):
            pass
        return now() - started

    def excused_all(self):
        """Whether each open request is one that was open at an excuse."""
        return all(self.excused(at) for at in self.open.values())

    def excused(self, at):
        return any(at - 1 <= e <= at + TIMEOUT_S for e in self.excuses)

    def report(self, seconds):
        for kind in self.outcome.values():
            self.table["answered" if kind == "result" else "refused"] += 1
        for id, at in self.lost.items():
            self.table["lost" if self.excused(at) else "unexplained"] += 1
        print("xmpp-jat-proxy: %d requests in %.0f s" % (self.sent, seconds))
        for name in "answered", "refused", "lost", "unexplained", "twice":
            print("  %-12s %d" % (name, self.table[name]))
        for name, count in sorted(self.errors.items()):
            print("  refused with %s: %d" % (name, count))
        for name, count in sorted(self.happened.items()):
            print("  %s: %d times" % (name, count))
        accounted = sum(self.table[n] for n in ("answered", "refused", "lost"))
        if accounted != self.sent or self.table["twice"] or self.table["unexplained"]:
            sys.exit("soak: %d requests, %d accounted for" % (self.sent, accounted))


soak = Soak()
soak.report(soak.run())
