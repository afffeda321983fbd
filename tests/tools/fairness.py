"""One user who asks without end, and twenty others who ask now and then, of a worker that does 300
requests a second: how many of the others' requests are answered before their deadline. One scenario
a program, each at default limits; the last line says the figures.
"""

import collections
import sys
import time

import defaultsizes
from defaultsizes import DOMAIN, HOST, Instance, Splitter, delegate, manage, managing_client, proxy, online, share

OTHERS = 20
LOAD_S, EVERY_S = 4, 0.25       # the others ask that often
HOSTILE_PER_S, WORKER_PER_S = 1500, 300
defaultsizes.options.timeout = 8

HANDLER = """exec python3 -uc '
import sys, time
for line in sys.stdin:
    time.sleep(1 / %d)
    print("<iq type=\\"result\\" id=\\"%%s\\"/>" %% line.split(" id=")[1][1:].split(line.split(" id=")[1][0])[0])
'""" % WORKER_PER_S
JOB = """case $XMPP_FROM in hostile*) sleep 60;; esac; echo "<iq type='result'/>" """


def plain(id, user, to=DOMAIN):
    return "<iq type='get' id='%s' from='%s' to='%s'><query xmlns='urn:test:one'/></iq>" % (id, user, to)


def to_host(id, user):
    return plain(id, user, HOST)


def wrapped(id, user):
    return ("<iq type='set' id='o%s' from='%s' to='%s'><delegation xmlns='urn:xmpp:delegation:2'><forwarded "
            "xmlns='urn:xmpp:forward:0'>%s</forwarded></delegation></iq>"
            % (id, HOST, DOMAIN, to_host(id, user).replace("<iq ", "<iq xmlns='jabber:client' ")))


def result(asked):
    a = asked.attributes
    return "<iq type='result' id='%s' from='%s' to='%s'/>" % (a["id"], a["to"], a["from"])


def wrapped_result(asked):
    a, inner = asked.attributes, asked.inner[0]
    return ("<iq type='result' id='%s' from='%s' to='%s'><delegation xmlns='urn:xmpp:delegation:2'><forwarded "
            "xmlns='urn:xmpp:forward:0'><iq xmlns='jabber:client' type='result' id='%s' from='%s' to='%s'/>"
            "</forwarded></delegation></iq>" % (a["id"], a["to"], a["from"], inner["id"], HOST, inner["from"]))


class Load:
    """request: how a user's request reaches the program. worker: a peer that plays the worker, answering
    with answer; None: the program has one of its own."""

    def __init__(self, name, program, request, worker=None, answer=None, hostile_per_s=HOSTILE_PER_S):
        self.name, self.program, self.request, self.worker, self.answer = name, program, request, worker, answer
        self.hostile_per_s = hostile_per_s
        self.queue = collections.deque()                  # what the worker has in hand
        self.open = {}                                    # the others' requests, since when
        self.waits, self.failed = [], collections.Counter()
        self.hostile, self.served = collections.Counter(), 0

    def take(self, stanza):
        if stanza.name != "iq":
            return
        if stanza.attributes["type"] in ("get", "set"):
            if self.answer and (stanza.inner or self.answer is result):
                self.queue.append(stanza)
            return
        a = stanza.inner[0] if stanza.inner else stanza.attributes
        what = stanza.conditions[0] if stanza.conditions else "result"
        if a["id"].startswith("hostile"):
            self.hostile[what] += 1
        elif a["id"] in self.open:
            wait_s = time.monotonic() - self.open.pop(a["id"])
            if what == "result":
                self.waits.append(wait_s)
            else:
                self.failed[what] += 1

    def serve(self, elapsed_s):
        due = []
        while self.queue and self.served < elapsed_s * WORKER_PER_S:
            due.append(self.answer(self.queue.popleft()))
            self.served += 1
        if not self.queue:                                # an idle worker saves nothing up
            self.served = max(self.served, int(elapsed_s * WORKER_PER_S))
        if due:
            (self.worker or self.program.peer).send("".join(due))

    def ask(self, elapsed_s, asked):
        batch = []
        while asked["hostile"] < elapsed_s * self.hostile_per_s:
            batch.append(self.request("hostile%d" % asked["hostile"], "hostile@%s/r" % HOST))
            asked["hostile"] += 1
        while asked["turns"] < elapsed_s / EVERY_S:
            for n in range(OTHERS):
                id = "other%d-%d" % (asked["turns"], n)
                self.open[id] = time.monotonic()
                batch.append(self.request(id, "other%d@%s/r" % (n, HOST)))
            asked["turns"] += 1
        if batch:
            self.program.peer.send("".join(batch))

    def run(self):
        began, asked = time.monotonic(), collections.Counter()
        while True:
            elapsed_s = time.monotonic() - began
            if elapsed_s < LOAD_S:
                self.ask(elapsed_s, asked)
            elif not self.open or elapsed_s > LOAD_S + 3 * defaultsizes.options.timeout:
                break
            for peer in [self.program.peer] + ([self.worker] if self.worker else []):
                peer.pump(wait_s=0.005)
                while peer.read:
                    self.take(peer.read.popleft())
            if self.answer:
                self.serve(elapsed_s)
        total = OTHERS * asked["turns"]
        part = 100 * len(self.waits) / total
        print("%s: %d others: %.1f %% of %d answered in time, the slowest after %.1f s%s; the hostile user: %d asked, %s" % (
            self.name, OTHERS, part, total, max(self.waits, default=0),
            "".join(", %s %d" % f for f in self.failed.items()), asked["hostile"],
            ", ".join("%s %d" % h for h in self.hostile.most_common()) or "none answered yet"), flush=True)
        assert part >= 95, "less than 95 %"


def jat_proxy():
    with proxy("--try-timeout", "0") as program:
        online(program.peer, "a")
        Load("xmpp-jat-proxy", program, plain, answer=result).run()


def manage_persistent():
    with manage(HANDLER) as program:
        Load("xmpp-manage", program, wrapped).run()


def manage_per_request():
    with manage(JOB, "--per-request") as program:
        Load("xmpp-manage --per-request, the hostile user's jobs hang", program, wrapped).run()


def delegate_entity():
    with managing_client("--try-timeout", "0") as program:
        program.peer.read.clear()
        Load("xmpp-delegate, a managing client", program, to_host, answer=wrapped_result).run()


def delegate_otherwise():
    with delegate("--delegate", "urn:unused=nobody.test", "--", "sh", "-c", HANDLER) as program:
        Load("xmpp-delegate, OTHERWISE", program, to_host).run()


def share_instance():
    with share("--try-timeout", "0") as program:
        Load("xmpp-share", program, plain, worker=Instance(program.port), answer=result).run()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        globals()[name]()
