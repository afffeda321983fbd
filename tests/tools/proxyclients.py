"""xmpp-jat-proxy between clients of a library (slixclient.py) on a real server that has stream
management: what dies, hangs and comes back, and exchanges of several steps."""

import collections
import os
import re
import signal
import subprocess
import sys
import time

from proxyservers import ALICE, HOST, IMPL, Impl, Proxy, again, served, text, user, warm
from stanzas import Mismatch, check
from xmppclient import WAIT_S, Client

POLICIES = "random", "round-robin", "least-pending", "sticky"
SLIX = ["/usr/bin/python3", os.path.join(os.path.dirname(__file__), "slixclient.py")]


class Slix:
    """One client of the library, a process of its own."""

    def __init__(self, resource):
        self.resource = resource
        self.name = "slix-%s-%d.out" % (resource, time.monotonic_ns())
        with open(self.name, "wb") as out:
            self.process = subprocess.Popen(SLIX + ["serve", IMPL + "/" + resource, os.environ["C2S_PORT"]],
                                            stdout=out, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + WAIT_S
        while "ready" not in self.output:
            if self.process.poll() is not None:
                raise Mismatch(self.output)
            again(deadline, "not ready: " + self.output)

    @property
    def output(self):
        with open(self.name, encoding="utf-8", errors="replace") as f:
            return f.read()

    def did(self, kind="set"):
        return re.findall(r"^did %s (\S+)" % kind, self.output, re.M)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        """Nothing of it stays for the next scenario: a dead session that hibernates is taken over and
        logged out."""
        dead = self.process.poll() is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if dead and kind is None:
            with Slix(self.resource):
                pass
        if kind is not None:
            print("--- output of", self.resource, self.output[-1000:], sep="\n")


def use(to, what, times, name="bob"):
    """Let a user of the library ask; assert that all goes well."""
    got = subprocess.run(SLIX + ["use", "%s@%s/slix" % (name, HOST), os.environ["C2S_PORT"], to, what, str(times)],
                         capture_output=True, text=True, timeout=120)
    lines = [line for line in got.stdout.splitlines() if line != "ready"]
    assert lines == ["ok"] * times, (what, lines[:3], got.stderr[-500:])


def counters(p):
    before = len(re.findall("open_requests=", p.stderr))
    p.signal(signal.SIGUSR1)
    p.wait_stderr("open_requests=", before + 1)
    line = re.findall(r"open_requests=.*\n", p.stderr)[-1]
    return {name: int(value) for name, value in re.findall(r"(\S+)=(\d+)(?: |$)", line)}


def handed(p, number):
    return counters(p).get('session_requests{target="%s",session="%d"}' % (IMPL, number), 0)


def ask_all(users, kinds, n):
    """Send n requests of these users; assert that each is answered once; return the answers by id."""
    sent = {}
    for i in range(n):
        id = "%s-%d" % (kinds[i % len(kinds)], i)
        asker = users[i % len(users)]
        sent[id] = asker
        asker.send("<iq type='%s' id='%s' to='proxy.test'><q xmlns='urn:x'/></iq>" % (kinds[i % len(kinds)], id))
    answers = {}
    for asker in users:
        open = {id for id in sent if sent[id] is asker}
        while open:
            answer = asker.expect_where(lambda s: s["id"] in open and s["type"] in ("result", "error"), 30)
            open.remove(answer["id"])
            answers[answer["id"]] = answer
    for asker in users:
        assert not [s for s in asker.settle() if s["id"] in answers], "two answers"
    return answers


def users_of(n):
    return [Client("%s@%s/u%d" % (("alice", "bob", "carol", "mallory", "john")[i % 5], HOST, i)) for i in range(n)]


def dead_one(how):
    """Two sessions, of which one is dead or hangs, under each policy."""
    users = users_of(10)
    for policy in POLICIES:
        with Slix("one") as one, Slix("two") as two, \
                Proxy("--timeout", "3", "--try-timeout", "1", "--policy", policy) as p:
            warm(users[0], "one", "two") if policy not in ("sticky",) else served(users[0])
            deadline = time.monotonic() + WAIT_S
            while counters(p)["sessions"] < 2:
                again(deadline, "the proxy does not know both")
            one.process.send_signal(how)
            if how == signal.SIGKILL:
                one.process.wait()
            before = counters(p)["retries"]
            answers = ask_all(users, ["get"], 200)
            assert {a["type"] for a in answers.values()} == {"result"}, [a for a in answers.values() if a["type"] != "result"][:2]
            now = counters(p)
            first = handed(p, 1), handed(p, 2)
            # each that was handed to the dead one was handed on once: none needed a third try
            assert now["retries"] - before <= 200, now
            suspects = [n for n in (1, 2) if now.get('session_suspect{target="%s",session="%d"}' % (IMPL, n))]
            assert len(suspects) == 1 or now["retries"] == before, (policy, now)
            if not suspects:
                continue
            # no new request goes to it
            answers = ask_all(users, ["get", "set"], 40)
            assert {text(a) for a in answers.values()} == {"two"}, answers
            assert (handed(p, 1), handed(p, 2))[suspects[0] - 1] == first[suspects[0] - 1]
            if how == signal.SIGSTOP:
                one.process.send_signal(signal.SIGCONT)
                p.wait_stderr("session '%s/one' answers again" % IMPL)
                deadline = time.monotonic() + WAIT_S
                while policy != "sticky" and "one" not in {text(users[0].ask("proxy.test")) for i in range(4)}:
                    again(deadline, "the one that is well again gets no work")


def killed_one():
    dead_one(signal.SIGKILL)


def hung_one():
    dead_one(signal.SIGSTOP)


def sets_are_done_once():
    users = users_of(4)
    with Proxy("--timeout", "3", "--try-timeout", "1", "--policy", "round-robin") as p, \
            Slix("one") as one, Slix("two") as two:
        warm(users[0], "one", "two")
        one.process.kill()
        one.process.wait()
        answers = ask_all(users, ["set", "get", "get"], 60)
        done = collections.Counter(one.did() + two.did())
        assert max(done.values()) == 1, done
        for id, answer in answers.items():
            if id.startswith("set"):
                assert answer["type"] == "result" and done[id] == 1 or answer["type"] == "error", answer
                assert answer["type"] == "result" or answer.error.startswith("wait/"), answer
            else:
                assert answer["type"] == "result", answer


def resumes():
    """A session that comes back gets work again."""
    alice = user("alice")
    with Proxy("--timeout", "3", "--try-timeout", "1", "--policy", "round-robin") as p, Slix("two") as two:
        with Slix("one") as one:
            warm(alice, "one", "two")
            one.process.kill()
            one.process.wait()
            p_answers = {text(alice.ask("proxy.test")) for i in range(4)}
            assert p_answers == {"two"}, p_answers
        with Slix("one"):
            warm(alice, "one", "two")


def bounces():
    """The hibernation ends: the server returns what the dead one had in hand, and says then that it
    has left. Gets go to another session; a set is refused, because it may have been done."""
    alice = user("alice")
    with Proxy("--timeout", "60", "--try-timeout", "0", "--policy", "round-robin") as p, Slix("two") as two:
        with Slix("one") as one:
            warm(alice, "one", "two")
            one.process.kill()
            one.process.wait()
        answers = ask_all([alice], ["get", "set", "get"], 20)
        done = collections.Counter(two.did())
        for id, answer in answers.items():
            if id.startswith("get"):
                assert answer["type"] == "result", answer
            else:
                assert answer["type"] == "result" or answer.error == "wait/recipient-unavailable", answer
        assert max(done.values()) == 1, done


def steps():
    for policy in POLICIES:
        with Proxy("--policy", policy), Slix("one"), Slix("two"):
            alice = user("alice")
            served(alice)
            use("proxy.test", "command", 20)
            alice.close()


def ping_version_disco():
    with Proxy() as p, Slix("one"), Slix("two"):
        served(user("alice"))
        for what in "ping", "version", "disco":
            use("proxy.test", what, 3)


def bytestream():
    for policy in POLICIES:
        with Proxy("--outbound-iq", "--policy", policy), Slix("one"), Slix("two"):
            served(user("alice"))
            use("proxy.test", "bytestream", 5)


def jitsi():
    """The recipe: plain encoding and a target with its resource; a stand-in for jicofo reads the user
    from the resource, as it does with mod_client_proxy."""
    focus = "focus." + HOST
    with Proxy("--encoding", "plain", targets=[IMPL + "/focus"], domain=focus) as p:
        other, jicofo, alice = Impl("other"), Impl("focus", hold=True), user("alice", "web")
        deadline = time.monotonic() + WAIT_S
        while True:
            id = alice.fresh()
            alice.send("<iq type='set' id='%s' to='%s'><conference xmlns='http://jitsi.org/protocol/focus' "
                       "room='r@conference.%s' machine-uid='m'/></iq>" % (id, focus, HOST))
            try:
                asked = jicofo.expect_where(lambda s: s["id"] == id, 1)
                break
            except Mismatch:
                again(deadline, "jicofo is not asked")
        check(asked, "<iq type='set' id='%s' from='%s/%s/web' to='%s/focus'><conference xmlns='http://jitsi.org/protocol/focus' "
              "room='r@conference.%s' machine-uid='m'/></iq>" % (id, focus, ALICE, IMPL, HOST))
        requester = asked["from"].split("/", 1)[1]
        jicofo.answer(asked, "<conference xmlns='http://jitsi.org/protocol/focus' ready='true' focusjid='%s' room='%s'/>"
                      % (IMPL, requester))
        check(alice.expect_where(lambda s: s["id"] == id and s["type"] == "result"),
              "<iq type='result' id='%s' from='%s' to='%s/web'><conference xmlns='http://jitsi.org/protocol/focus' "
              "ready='true' focusjid='%s' room='%s/web'/></iq>" % (id, focus, ALICE, IMPL, ALICE))
        assert not [s for s in other.settle() if s.name == "iq"], "another client of the account was asked"
