"""xmpp-share between a real server and instances of a component. A scenario is one function, run by
tests/xmpp-share.bats on each server; the facts of the server are in the environment."""

import atexit
import collections
import hashlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

from stanzas import Mismatch, check, parse
from xmppclient import WAIT_S, Client, Closed, Component, Header, Stream, free_port, result

HOST = os.environ.get("XMPP_HOST", "vhost.test")
ALICE, BOB = "alice@" + HOST, "bob@" + HOST
DOMAIN = "proxy.test"


def wait_until(condition, what, wait_s=None):
    deadline = time.monotonic() + (wait_s or WAIT_S)
    while not condition():
        if time.monotonic() > deadline:
            raise Mismatch("waited in vain: " + what)
        time.sleep(0.01)


class Share:
    """xmpp-share for a domain; ready means: the server took its handshake and it listens."""

    def __init__(self, *options, port=None, at=None, unix=None, ready=True, domain=DOMAIN):
        self.port, self.unix = at or free_port(), unix
        read, write = os.pipe()
        command = ["xmpp-share", "--domain", domain, "--connect",
                   "127.0.0.1:%s" % (port or os.environ["COMPONENT_PORT"]),
                   "--secret-file", os.environ["SECRET_FILE"], "--ready-fd", str(write)]
        command += ["--listen-unix", unix] if unix else ["--listen", "127.0.0.1:%d" % self.port]
        self.stderr_file = tempfile.NamedTemporaryFile("w+b", dir=".", suffix=".err", delete=False)
        self.process = subprocess.Popen(command + list(options), stdin=subprocess.DEVNULL,
                                        stderr=self.stderr_file, pass_fds=[write])
        atexit.register(self.reap)
        os.close(write)
        self.ready_pipe = os.fdopen(read, "rb", buffering=0)
        if ready and self.ready_pipe.read(1) != b"\n":
            raise Mismatch("not ready (status %s): %s" % (self.process.wait(), self.stderr))

    @property
    def stderr(self):
        with open(self.stderr_file.name, encoding="utf-8", errors="replace") as f:
            return f.read()

    def says(self, regex):
        wait_until(lambda: re.search(regex, self.stderr), "%s in: %s" % (regex, self.stderr))

    def counters(self):
        """Return the counters that SIGUSR1 prints as a dictionary."""
        before = self.stderr.count("instances=")
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: self.stderr.count("instances=") > before, "counters")
        line = [l for l in self.stderr.splitlines() if "instances=" in l][-1]
        return {k: int(v) for k, v in re.findall(r"(\S+?)=(\d+)(?:\s|$)", line)}

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)

    def reap(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def instance(self, **options):
        """Start one more instance; wait until it is in the rotation."""
        if self.unix:
            return Instance(self.unix, **options)
        return Instance(self.port, **options)


class Instance(Component):
    """A component that counts what it is asked and answers with its name."""

    def __init__(self, port, name="one", secret="secret", domain=DOMAIN, answer=True):
        self.name, self.asked = name, []
        super().__init__(domain, port=port, secret=secret)
        if answer:
            self.serve(self.answer)

    def answer(self, stanza):
        if "urn:xmpp:ping" in stanza.raw:
            return "<iq type='result' id='%s' to='%s' from='%s'/>" % (
                stanza["id"], stanza["from"], stanza["to"])
        self.asked.append(stanza)
        return "<iq type='result' id='%s' to='%s' from='%s'><by xmlns='urn:x'>%s</by></iq>" % (
            stanza["id"], stanza["from"], stanza["to"], self.name)


def who(answer):
    found = re.search(r">(\w+)</by>", answer.raw)
    return found.group(1) if found else answer.error


def secret_file(text, name="other-secret"):
    with open(name, "w", encoding="ascii") as f:
        f.write(text)
    os.chmod(name, 0o600)
    return name


# --- who may be an instance

def proves_the_secret():
    share = Share()
    for wrong in ("secret ", "", "Secret", "other"):
        try:
            Instance(share.port, secret=wrong)
            raise AssertionError("taken with secret %r" % wrong)
        except Mismatch as e:
            assert "not-authorized" in str(e), e
    share.says("its secret is wrong")
    try:
        Instance(share.port, domain="elsewhere.test")
        raise AssertionError("taken for another domain")
    except Mismatch as e:
        assert "host-unknown" in str(e), e
    share.instance()
    assert Client(ALICE + "/a").ask(DOMAIN)["type"] == "result"


def own_secret_of_instances():
    share = Share("--instance-secret-file", secret_file("inner"))
    try:
        Instance(share.port)
        raise AssertionError("taken with the server's secret")
    except Mismatch as e:
        assert "not-authorized" in str(e), e
    Instance(share.port, secret="inner")
    assert Client(ALICE + "/a").ask(DOMAIN)["type"] == "result"


def nothing_before_the_handshake():
    share = Share()
    s = Stream(share.port)
    s.send("<stream:stream xmlns='jabber:component:accept' to='%s' "
           "xmlns:stream='http://etherx.jabber.org/streams'>" % DOMAIN)
    assert isinstance(s.next(), Header)
    s.send("<message to='%s' from='%s'/>" % (ALICE, DOMAIN))
    assert "not-authorized" in s.next().raw
    s = Stream(share.port)
    s.send("<stream:stream xmlns='jabber:component:accept' to='%s' a='%s'" % (DOMAIN, "x" * 5000))
    try:
        while "policy-violation" not in str(getattr(s.next(), "raw", "")):
            pass
    except Closed:
        pass
    share.says("no handshake in its first 4 KiB")


def stream_ids_are_unguessable():
    share = Share()
    ids = set()
    for _ in range(4):
        s = Stream(share.port)
        s.send("<stream:stream xmlns='jabber:component:accept' to='%s' "
               "xmlns:stream='http://etherx.jabber.org/streams'>" % DOMAIN)
        ids.add(re.search(r" id='([0-9a-f]{32})'", s.next()).group(1))
        s.cut()
    assert len(ids) == 4


class BareStream(Stream):
    """Stanzas on a unix socket, without a stream around them."""

    def __init__(self, path):
        super().__init__(path)
        self.splitter.depth = 0


def unix_socket_without_a_stream():
    share = Share(unix=os.path.abspath("share.sock"))
    assert os.stat("share.sock").st_mode & 0o777 == 0o600
    bare = BareStream("share.sock")
    bare.serve(lambda s: "<iq type='result' id='%s' to='%s' from='%s'><by xmlns='urn:x'>bare</by></iq>\n" % (
        s["id"], s["from"], s["to"]))
    bare.send("<presence from='%s' to='%s'/>\n" % (DOMAIN, ALICE))   # the first stanza makes it one
    share.says("instance 1 has come")
    assert who(Client(ALICE + "/a").ask(DOMAIN)) == "bare"


def unix_socket_with_a_secret_wants_the_handshake():
    share = Share("--instance-secret-file", secret_file("inner"), unix=os.path.abspath("share.sock"))
    bare = BareStream("share.sock")
    bare.send("<presence from='%s' to='%s'/>\n" % (DOMAIN, ALICE))
    share.says("is no instance")


# --- requests

def shared_and_answered_once():
    share = Share("--policy", "round-robin")
    instances = [share.instance(name=n) for n in ("one", "two", "three")]
    alice = Client(ALICE + "/a")
    for n in range(250):
        alice.send("<iq type='get' id='q%d' to='%s'><q xmlns='urn:x'/></iq>" % (n, DOMAIN))
    seen = collections.Counter()
    for _ in range(250):
        answer = alice.expect_where(lambda s: s.name == "iq")
        assert answer["type"] == "result" and answer["from"] == DOMAIN, answer.raw
        seen[answer["id"]] += 1
    assert len(seen) == 250 and set(seen.values()) == {1}
    assert sorted(len(i.asked) for i in instances)[::-1] == [84, 83, 83]


def addresses_are_not_translated():
    share = Share()
    instance = share.instance()
    alice = Client(ALICE + "/a")
    for to in (DOMAIN, "room@" + DOMAIN, DOMAIN + "/res", "room@" + DOMAIN + "/nick"):
        answer = alice.ask(to, "<q xmlns='urn:x' x='&apos;'>&#10;<![CDATA[<]]></q>")
        assert answer["from"] == to and answer["type"] == "result", answer.raw
        assert instance.asked[-1]["to"] == to and instance.asked[-1]["from"] == alice.jid


def sticky_by_sender():
    share = Share()
    for n in ("one", "two", "three"):
        share.instance(name=n)
    users = [Client(ALICE + "/%d" % n) for n in range(3)] + [Client(BOB + "/b")]
    seen = collections.defaultdict(set)
    for user in users:
        for n in range(5):
            seen[user.bare].add(who(user.ask("room%d@%s" % (n, DOMAIN))))
    assert all(len(names) == 1 for names in seen.values()), seen


def sticky_by_recipient():
    share = Share("--sticky-by", "recipient")
    for n in ("one", "two", "three"):
        share.instance(name=n)
    alice, bob = Client(ALICE + "/a"), Client(BOB + "/b")
    used = set()
    for n in range(12):
        room = "room%d@%s" % (n, DOMAIN)
        names = {who(u.ask(to)) for u in (alice, bob) for to in (room, room + "/x")}
        assert len(names) == 1, names
        used |= names
    assert len(used) > 1


def steps_of_a_conversation_stay():
    share = Share("--policy", "round-robin")
    command = "<command xmlns='http://jabber.org/protocol/commands' node='n'%s/>"

    def serve(instance):
        # the first step begins a conversation, whose name its answer gives
        instance.serve(lambda s: "<iq type='result' id='%s' to='%s' from='%s'>%s</iq>" % (
            s["id"], s["from"], s["to"], command % (" sessionid='%s'" % instance.name)))
    for name in ("one", "two", "three"):
        serve(share.instance(name=name, answer=False))
    alice = Client(ALICE + "/a")

    def by(session=None):
        answer = alice.ask(DOMAIN, command % (" sessionid='%s'" % session if session else ""), kind="set")
        return re.search("sessionid='(\\w+)'", answer.raw).group(1)
    names = [by() for _ in range(3)]
    assert sorted(names) == ["one", "three", "two"], names
    for name in names * 2:
        assert by(name) == name


def no_instance():
    share = Share()
    alice = Client(ALICE + "/a")
    assert alice.ask(DOMAIN).error == "cancel/service-unavailable"
    alice.send("<message to='%s' id='m1'><body>x</body></message>" % DOMAIN)
    error = alice.expect_where(lambda s: s.name == "message" and s["id"] == "m1")
    assert error.error == "cancel/service-unavailable"
    share.instance()
    assert alice.ask(DOMAIN)["type"] == "result"


def instance_dies_with_requests_in_hand():
    """A get goes to the other one; a set may have been done."""
    share = Share("--policy", "round-robin")
    dying = share.instance(name="dying", answer=False)
    share.instance(name="well")
    alice = Client(ALICE + "/a")
    for n in range(20):
        alice.send("<iq type='%s' id='%d' to='%s'><q xmlns='urn:x'/></iq>" % ("get" if n < 10 else "set", n, DOMAIN))
    held = [dying.expect_where(lambda s: s.name == "iq") for _ in range(10)]
    dying.cut()
    answers = {}
    for _ in range(20):
        a = alice.expect_where(lambda s: s.name == "iq")
        assert a["id"] not in answers
        answers[a["id"]] = a
    for h in held:
        if h["type"] == "get":
            assert who(answers[h["id"]]) == "well", answers[h["id"]].raw
        else:
            assert answers[h["id"]].error == "wait/recipient-unavailable", answers[h["id"]].raw


def silent_instance_is_put_aside():
    share = Share("--policy", "round-robin", "--timeout", "20", "--try-timeout", "2")
    silent = share.instance(name="silent", answer=False)
    share.instance(name="well")
    alice = Client(ALICE + "/a")
    for n in range(10):
        assert who(alice.ask(DOMAIN)) == "well"        # second tries save the silent one's gets
    for n in range(10):
        assert who(alice.ask(DOMAIN)) == "well"
    asked = [s for s in list(silent.inbox.queue) if s is not None and "urn:x'" in s.raw]
    assert len(asked) <= 2, asked
    ping = silent.expect_where(lambda s: "urn:xmpp:ping" in s.raw)      # 5 s after it became suspect
    assert ping["to"] == DOMAIN and ping["from"].startswith(DOMAIN + "/"), ping.raw
    silent.send("<iq type='result' id='%s' to='%s' from='%s'/>" % (ping["id"], ping["from"], DOMAIN))
    silent.serve(silent.answer)
    share.says("answers again")


def answer_of_one_not_asked():
    share = Share("--policy", "round-robin", "--try-timeout", "0")
    one, two = share.instance(name="one", answer=False), share.instance(name="two", answer=False)
    alice = Client(ALICE + "/a")
    alice.send("<iq type='get' id='q' to='%s'><q xmlns='urn:x'/></iq>" % DOMAIN)
    wait_until(lambda: one.inbox.qsize() + two.inbox.qsize() == 1, "the request")
    asked, other = (one, two) if one.inbox.qsize() else (two, one)
    request = asked.next()
    forged = "<iq type='result' id='q' to='%s' from='%s'><forged xmlns='urn:x'/></iq>" % (alice.jid, DOMAIN)
    other.send(forged)
    wait_until(lambda: share.counters()['dropped{reason="stray"}'] == 1, "the forged one is dropped")
    asked.send("<iq type='result' id='q' to='%s' from='%s'/>" % (alice.jid, request["to"]))
    asked.send(forged)
    answer = alice.expect_where(lambda s: s.name == "iq" and s["id"] == "q")
    assert "forged" not in answer.raw
    wait_until(lambda: share.counters()['dropped{reason="stray"}'] == 2, "the second is dropped")
    alice.settle()


def timeout():
    share = Share("--timeout", "1")
    share.instance(answer=False)
    assert Client(ALICE + "/a").ask(DOMAIN).error == "wait/remote-server-timeout"


def one_user_is_no_more_than_a_share():
    share = Share("--limit", "user-pending=5", "--limit", "domain-pending=100%")
    instance = share.instance(answer=False)
    alice, bob = Client(ALICE + "/a"), Client(BOB + "/b")
    for n in range(8):
        alice.send("<iq type='get' id='%d' to='%s'><q xmlns='urn:x'/></iq>" % (n, DOMAIN))
    for n in range(5, 8):
        refused = alice.expect_where(lambda s: s.name == "iq")
        assert refused.error == "wait/resource-constraint"
    bob.send("<iq type='get' id='b' to='%s'><q xmlns='urn:x'/></iq>" % DOMAIN)
    instance.expect_where(lambda s: s["from"] == bob.jid)


# --- what instances send

def own_requests():
    share = Share("--policy", "round-robin")
    one, two = share.instance(name="one"), share.instance(name="two")
    alice = Client(ALICE + "/a")
    seen = []
    alice.serve(lambda s: seen.append(s) or result(s, "<ok xmlns='urn:x'/>"))
    for instance in (one, two):
        instance.send("<iq type='get' id='same' from='%s/me' to='%s'><q xmlns='urn:x'/></iq>" % (DOMAIN, alice.jid))
    for instance in (one, two):
        answer = instance.expect_where(lambda s: s.name == "iq" and s["type"] == "result")
        assert answer["id"] == "same" and answer["to"] == DOMAIN + "/me" and answer["from"] == alice.jid
    ids = {s["id"] for s in seen}
    assert len(ids) == 2 and all(re.fullmatch("[0-9a-f]{32}", i) for i in ids), ids


def answer_of_a_stranger_to_an_own_request():
    share = Share()
    one = share.instance()
    alice, bob = Client(ALICE + "/a"), Client(BOB + "/b")
    one.send("<iq type='get' id='x' from='%s' to='%s'><q xmlns='urn:x'/></iq>" % (DOMAIN, alice.jid))
    request = alice.expect_where(lambda s: s.name == "iq")
    bob.send("<iq type='result' id='%s' to='%s'><forged xmlns='urn:x'/></iq>" % (request["id"], DOMAIN))
    bob.settle()
    alice.send(result(request))
    answer = one.expect_where(lambda s: s.name == "iq")
    assert answer["id"] == "x" and answer["from"] == alice.jid and "forged" not in answer.raw


def refused_at_that_instance_alone():
    share = Share("--policy", "round-robin")
    well = share.instance(name="well")
    for stanza, condition in (
            ("<message to='%s'><body/></message>" % ALICE, "invalid-from"),
            ("<message to='%s' from='evil.test'/>" % ALICE, "invalid-from"),
            ("<message to='%s' from='sub.%s'/>" % (ALICE, DOMAIN), "invalid-from"),
            ("<message to='%s' from='x%s'/>" % (ALICE, DOMAIN), "invalid-from"),
            ("<message from='%s'/>" % DOMAIN, "improper-addressing"),
            ("<nonsense from='%s' to='%s'/>" % (DOMAIN, ALICE), "unsupported-stanza-type"),
            ("<message from='%s' to='%s'><a></message>" % (DOMAIN, ALICE), "not-well-formed"),
            ("<!-- comment -->", "not-well-formed")):
        bad = share.instance(name="bad")
        bad.send(stanza)
        error = bad.expect_where(lambda s: s.name.endswith("}error"))
        assert condition in error.raw, (stanza, error.raw)
    bad = share.instance(name="bad")
    for stanza, condition in (
            ("<iq type='get' id='n' from='%s' to='%s'/>" % (DOMAIN, ALICE), "modify/bad-request"),
            ("<iq type='set' id='t' from='%s' to='%s'><a xmlns='urn:x'/><b xmlns='urn:x'/></iq>" % (DOMAIN, ALICE),
             "modify/bad-request"),
            ("<iq type='get' id='l' from='%s' to='%s'><a xmlns='urn:x'>%s</a></iq>" % (DOMAIN, ALICE, "x" * 600000),
             "modify/policy-violation")):
        bad.send(stanza)
        assert bad.expect_where(lambda s: s.name == "iq" and s["type"] == "error").error == condition
    del well
    alice = Client(ALICE + "/a")
    assert [alice.ask(DOMAIN)["type"] for _ in range(4)] == ["result"] * 4
    assert "connection" not in share.stderr.split("has come")[0] and share.process.poll() is None
    assert share.counters()["instances"] == 2


def endless_answers():
    """Answers that nobody has asked for: users see none of them, and go on being served."""
    share = Share("--policy", "round-robin")
    hostile, well = share.instance(name="hostile"), share.instance(name="well")
    alice, bob = Client(ALICE + "/a"), Client(BOB + "/b")
    forged = "".join("<iq type='result' id='%d' to='%s' from='%s'><forged xmlns='urn:x'/></iq>" % (n, bob.jid, DOMAIN)
                     for n in range(1000))
    flood = threading.Thread(target=lambda: [hostile.send(forged) for _ in range(30)])
    flood.start()
    for n in range(50):
        assert who(alice.ask(DOMAIN)) in ("hostile", "well")
    flood.join()
    wait_until(lambda: share.counters()['dropped{reason="stray"}'] == 30000, "all are dropped")
    assert not [s for s in bob.settle() + alice.settle() if "forged" in s.raw]
    assert well.asked


def messages_of_one_user_have_a_share():
    """An instance that does not read for a while: one user's messages are refused, another's request is taken."""
    share = Share()
    one = share.instance(answer=False)
    alice, bob = Client(ALICE + "/a"), Client(BOB + "/b")
    go_on, came = threading.Event(), []
    def handle(stanza):
        go_on.wait()
        came.append(stanza["id"])
        if stanza.name == "iq":
            one.send(one.answer(stanza))
        return True
    one.handler = handle
    for n in range(3000):
        alice.send("<message to='%s' type='chat' id='m%d'><body>%s</body></message>" % (DOMAIN, n, "x" * 1000))
    refused = alice.settle()                             # the server has handed all of them on
    bob.send("<iq type='get' id='b' to='%s'><q xmlns='urn:x'/></iq>" % DOMAIN)
    wait_until(lambda: share.counters()["requests"] == 1, "the request")
    go_on.set()
    assert bob.expect_where(lambda s: s["id"] == "b")["type"] == "result"
    refused += alice.settle()                            # their errors were sent before the answer to bob
    assert {s.error for s in refused} == {"wait/resource-constraint"} and len(refused) > 1500, len(refused)
    assert len(refused) + len([i for i in came if i.startswith("m")]) == 3000


def flood_of_one_instance():
    """A server that takes nothing for a while: what another instance writes then does not stand behind all that one
    has to write."""
    listener = socket.create_server(("127.0.0.1", 0))
    share = Share(port=listener.getsockname()[1], ready=False)
    server, _ = listener.accept()
    def read_until(end):
        octets = b""
        while end not in octets[-200 - (1 << 16):]:
            more = server.recv(1 << 16)
            assert more, "the stream has ended"
            octets += more
        return octets
    read_until(b"to='%s'>" % DOMAIN.encode())
    server.sendall(b"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' "
                   b"from='%s' id='1'>" % DOMAIN.encode())
    read_until(b"</handshake>")
    server.sendall(b"<handshake/>")
    assert share.ready_pipe.read(1) == b"\n"
    flooder, well = share.instance(answer=False), share.instance(answer=False)
    one = "<message from='%s' to='%s'><body>%s</body></message>" % (DOMAIN, ALICE, "x" * 1000)
    sent, seen = [], []
    def flood():
        try:
            for _ in range(240):
                flooder.send(one * 100)
                sent.append(None)
        except OSError:                                  # the end of the test
            pass
    threading.Thread(target=flood, daemon=True).start()
    def no_more_is_taken():
        share.counters()                                 # it has had a turn since
        seen.append(len(sent))
        return seen[-1] > 0 and seen[-5:] == seen[-1:] * 5
    wait_until(no_more_is_taken, "all that is taken")
    well.send("<message from='%s' to='%s' id='well'><body>x</body></message>" % (DOMAIN, ALICE))
    ahead = len(read_until(b"id='well'"))
    assert ahead < 3 << 20, ahead


def huge_stanzas():
    """Larger than is read: refused to the sender; one without an end takes no memory."""
    share = Share("--policy", "round-robin", "--try-timeout", "0.5")
    hostile, well = share.instance(name="hostile"), share.instance(name="well")
    body = "x" * (3 << 20)
    hostile.send("<message from='%s' to='%s' id='big'><body>%s</body></message>" % (DOMAIN, ALICE, body))
    assert hostile.expect_where(lambda s: s["id"] == "big").error == "modify/policy-violation"
    hostile.send("<iq type='get' from='%s' to='%s' id='iq'><q xmlns='urn:x'>%s</q></iq>" % (DOMAIN, ALICE, body))
    assert hostile.expect_where(lambda s: s["id"] == "iq").error == "modify/policy-violation"
    hostile.send("<message from='%s' to='%s'><body>" % (DOMAIN, ALICE))
    for _ in range(20):
        hostile.send(body)
    alice = Client(ALICE + "/a")
    assert [who(alice.ask(DOMAIN)) for _ in range(4)] == ["well"] * 4 and well.asked
    if not os.environ.get("WRAP"):
        with open("/proc/%d/status" % share.process.pid) as f:
            peak_kib = int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))
        assert peak_kib < 32 << 10, peak_kib


def instance_that_does_not_read():
    """An instance's stream is ended; the others get all that is theirs."""
    share = Share("--limit", "queue-bytes=1M", "--max-stanza-bytes", "64K", unix=os.path.abspath("share.sock"))
    deaf, well = share.instance(name="deaf"), share.instance(name="well")
    alice = Client(ALICE + "/a")
    alice.presence()
    for instance in (deaf, well):
        instance.send("<presence type='subscribe' from='%s' to='%s'/>" % (DOMAIN, ALICE))
    wait_until(lambda: share.counters()["addresses"] == 2, "both are known")
    go_on = threading.Event()
    deaf.handler = lambda s: go_on.wait() and False
    for some in range(0, 300, 20):                       # less at once than the output holds: the other one keeps up
        for n in range(some, some + 20):
            alice.presence("<status>%d %s</status>" % (n, "x" * 10000), to=DOMAIN)
        for n in range(some, some + 20):
            well.expect_where(lambda s: "<status>%d " % n in s.raw)
    share.says("does not read what it is sent")
    wait_until(lambda: share.counters()["instances"] == 1, "it is sent away")
    assert who(alice.ask(DOMAIN)) == "well"
    go_on.set()


def silent_connections_keep_nobody_out():
    share = Share()
    silent = [socket.create_connection(("127.0.0.1", share.port)) for _ in range(100)]
    share.says("the oldest is ended")
    share.instance()
    assert Client(ALICE + "/a").ask(DOMAIN)["type"] == "result"
    silent[-1].settimeout(WAIT_S)                        # ten seconds
    said = b"".join(iter(lambda: silent[-1].recv(4096), b""))
    assert b"connection-timeout" in said, said


def strangers_displace_only_their_own():
    """Others' silent connections end none of another address, however many they are."""
    share = Share()
    slow = Stream(share.port)
    slow.send("<stream:stream xmlns='jabber:component:accept' to='%s' "
              "xmlns:stream='http://etherx.jabber.org/streams'>" % DOMAIN)
    stream_id = re.search(r" id='([0-9a-f]{32})'", slow.next()).group(1)
    silent = [socket.create_connection(("127.0.0.1", share.port), WAIT_S, ("127.0.0.2", 0)) for _ in range(40)]
    for s in silent[:40 - 31]:                          # the oldest of them; the other 31 stay
        assert b"policy-violation" in b"".join(iter(lambda: s.recv(4096), b""))
    slow.send("<handshake>%s</handshake>" % hashlib.sha1((stream_id + "secret").encode()).hexdigest())
    assert slow.next().name.endswith("handshake")


def no_more_instances_than_the_limit():
    share = Share("--limit", "instances=2")
    instances = [share.instance(), share.instance()]
    third = share.instance(answer=False)
    assert "resource-constraint" in third.expect_where(lambda s: s.name.endswith("}error")).raw
    try:
        third.next()
        raise AssertionError("a third one is taken")
    except (Closed, OSError):
        pass
    share.says("an instance is turned away: 2 are there")
    instances[0].cut()
    wait_until(lambda: share.counters()["instances"] == 1, "one is gone")
    share.instance()


def capitals_in_from_are_folded():
    share = Share()
    one = share.instance(answer=False)
    alice = Client(ALICE + "/a")
    one.send("<message from='Room@%s' to='%s' id='c'><body>hi</body></message>" % (DOMAIN.upper(), alice.jid))
    message = alice.expect_where(lambda s: s.name == "message")
    assert message["from"] == "room@" + DOMAIN, message.raw
    assert share.process.poll() is None


def answer_too_large_to_send():
    share = Share()
    one = share.instance(answer=False)
    one.serve(lambda s: "<iq type='result' id='%s' to='%s' from='%s'><a xmlns='urn:x'>%s</a></iq>" % (
        s["id"], s["from"], s["to"], "x" * 600000))
    assert Client(ALICE + "/a").ask(DOMAIN).error == "modify/policy-violation"


def own_domain_comes_back():
    """A component sends a stanza to itself to check its link."""
    share = Share("--policy", "round-robin")
    one, two = share.instance(answer=False), share.instance(answer=False)
    one.send("<iq type='get' id='p' from='%s' to='%s/r'><ping xmlns='urn:xmpp:ping'/></iq>" % (DOMAIN, DOMAIN))
    back = one.next()
    assert back["id"] == "p" and back["to"] == DOMAIN + "/r" and back["type"] == "get", back.raw
    assert two.inbox.empty()


# --- messages and presence

def messages_are_sticky_and_errors_go_back():
    share = Share("--policy", "random")
    instances = [share.instance(name=str(n), answer=False) for n in range(3)]
    alice = Client(ALICE + "/a")
    for n in range(6):
        alice.send("<message to='%s' type='chat' id='m%d'><body>x</body></message>" % (DOMAIN, n))
    wait_until(lambda: sum(i.inbox.qsize() for i in instances) == 6, "messages")
    assert sorted(i.inbox.qsize() for i in instances) == [0, 0, 6]
    for n, instance in enumerate(instances):      # each one's own bounce
        instance.send("<message from='%s' to='nobody@%s/x' id='same%d' type='headline'><body>x</body></message>"
                      % (DOMAIN, HOST, n))
        instance.send("<message from='%s' to='%s' id='e%d'><body>x</body></message>" % (DOMAIN, alice.jid, n))
    for n, instance in enumerate(instances):
        sent = alice.expect_where(lambda s: s.name == "message" and s["id"].startswith("e"))
        alice.send("<message type='error' to='%s' id='%s'><error type='cancel'><not-acceptable "
                   "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>" % (sent["from"], sent["id"]))
    for n, instance in enumerate(instances):
        error = instance.expect_where(lambda s: s["type"] == "error" and s["id"].startswith("e"))
        assert error["id"] == "e%d" % n, error.raw


def presence_goes_to_all_who_know_the_sender():
    share = Share()
    instances = [share.instance(name=str(n), answer=False) for n in range(3)]
    alice = Client(ALICE + "/a")
    alice.presence()
    for instance in instances[:2]:
        instance.send("<presence type='subscribe' from='%s' to='%s'/>" % (DOMAIN, ALICE))
    alice.expect_where(lambda s: s.name == "presence" and s["type"] == "subscribe")
    wait_until(lambda: share.counters()["addresses"] == 2, "both are known")
    alice.presence(to=DOMAIN, type="subscribed")
    alice.presence("<show>dnd</show>", to=DOMAIN)
    for instance in instances[:2]:
        instance.expect_where(lambda s: s.name == "presence" and "dnd" in s.raw)
    assert instances[2].inbox.empty()
    instances[0].cut()
    wait_until(lambda: share.counters()["addresses"] == 1, "the one that left is forgotten")
    alice.presence("<show>xa</show>", to=DOMAIN)
    instances[1].expect_where(lambda s: s.name == "presence" and "xa" in s.raw)


# --- ends

def says_it_leaves(instance, witness):
    """Unavailable presence, and a message behind it that shows that it was read."""
    instance.send("<presence type='unavailable' from='%s' to='%s'/>" % (DOMAIN, DOMAIN),
                  "<message from='%s' to='%s' id='mark'><body>x</body></message>" % (DOMAIN, witness.jid))
    witness.expect_where(lambda s: s["id"] == "mark")


def leaves_in_order():
    share = Share("--policy", "round-robin")
    one, two = share.instance(name="one", answer=False), share.instance(name="two")
    alice, bob = Client(ALICE + "/a"), Client(BOB + "/b")
    for n in range(4):
        alice.send("<iq type='set' id='%d' to='%s'><q xmlns='urn:x'/></iq>" % (n, DOMAIN))
    held = [one.expect_where(lambda s: s.name == "iq") for _ in range(2)]
    says_it_leaves(one, bob)
    assert [who(bob.ask(DOMAIN)) for _ in range(6)] == ["two"] * 6
    for request in held:
        one.send(one.answer(request))
    try:
        while True:
            assert one.next().name != "iq"
    except Closed:
        pass
    share.says("has left in order")
    answers = [alice.expect_where(lambda s: s.name == "iq" and s["type"] == "result") for _ in range(4)]
    assert sorted(a["id"] for a in answers) == ["0", "1", "2", "3"]


def last_one_that_leaves_gets_nothing_new():
    share = Share("--drain-time", "20")
    one = share.instance(answer=False)
    alice = Client(ALICE + "/a")
    alice.send("<iq type='set' id='0' to='%s'><q xmlns='urn:x'/></iq>" % DOMAIN)
    held = one.expect_where(lambda s: s.name == "iq")
    says_it_leaves(one, alice)
    assert alice.ask(DOMAIN).error == "cancel/service-unavailable"
    one.send(one.answer(held))
    assert who(alice.expect_where(lambda s: s["id"] == "0")) == "one"


def sigterm_drains():
    share = Share("--drain-time", "20")
    one = share.instance()
    held = []
    one.serve(lambda s: held.append(s) if s["id"] == "held" else one.answer(s))
    alice, bob = Client(ALICE + "/a"), Client(BOB + "/b")
    alice.send("<iq type='set' id='held' to='%s'><q xmlns='urn:x'/></iq>" % DOMAIN)
    wait_until(lambda: held, "the request")
    share.process.send_signal(signal.SIGTERM)
    wait_until(lambda: bob.ask(DOMAIN).error == "wait/recipient-unavailable", "draining")
    one.send(one.answer(held[0]))
    assert who(alice.expect_where(lambda s: s["id"] == "held")) == "one"
    assert share.process.wait(WAIT_S) == 0
    assert "system-shutdown" in one.expect_where(lambda s: s.name.endswith("}error")).raw


def restarts_and_serves_again():
    share = Share()
    share.instance()
    alice = Client(ALICE + "/a")
    assert alice.ask(DOMAIN)["type"] == "result"
    share.end(signal.SIGKILL)
    share = Share()
    share.instance()
    assert alice.ask(DOMAIN)["type"] == "result"


def restarts_under_its_instances():
    """xmpp-share is killed, then ended in order, each time with a request open; our programs reconnect."""
    share = Share("--drain-time", "0")
    impl = Client("impl@%s/x" % HOST)
    held = []
    def handle(stanza):
        if stanza.name == "presence" and stanza["type"] == "subscribe":
            impl.presence(to=stanza["from"], type="subscribed")
        elif stanza.name == "iq" and "<held " in stanza.raw:
            held.append(stanza)
        elif stanza.name == "iq" and stanza["type"] in ("get", "set"):
            impl.send(result(stanza, "<by xmlns='urn:x'>impl</by>"))
        return True
    impl.handler = handle
    impl.presence()
    proxy = program(share, "xmpp-jat-proxy", "--target", "impl@" + HOST)
    alice = Client(ALICE + "/a")
    for n, number in enumerate((signal.SIGKILL, signal.SIGTERM)):
        wait_until(lambda: who(alice.ask(DOMAIN)) == "impl", "the proxy serves")
        alice.send("<iq type='set' id='held%d' to='%s'><held xmlns='urn:x'/></iq>" % (n, DOMAIN))
        wait_until(lambda: len(held) == n + 1, "the request")
        share.end(number)
        if number == signal.SIGTERM:                     # in order: it has its answer
            assert alice.expect_where(lambda s: s["id"] == "held1").error == "wait/recipient-unavailable"
        share = Share("--drain-time", "0", at=share.port)
    wait_until(lambda: who(alice.ask(DOMAIN)) == "impl", "the proxy serves again")
    assert proxy.poll() is None


# --- our own programs behind it

def program(share, *command, **options):
    path = "program%d" % len(os.listdir("."))
    with open(path + ".out", "wb") as out, open(path + ".err", "wb") as err:
        child = subprocess.Popen([*command, "--domain", DOMAIN, "--connect", "127.0.0.1:%d" % share.port,
                                  "--secret-file", os.environ["SECRET_FILE"]] + options.get("rest", []),
                                 stdin=subprocess.PIPE, stdout=out, stderr=err)
    atexit.register(lambda: (child.poll() is None and child.kill(), child.wait()))
    return child


def jat_proxy_behind_it():
    share = Share("--policy", "round-robin")
    impl = Client("impl@%s/x" % HOST)
    impl.serve(lambda s: result(s, "<by xmlns='urn:x'>impl</by>"))
    def accept(stanza, serve=impl.handler):
        if stanza.name == "presence" and stanza["type"] == "subscribe":
            impl.presence(to=stanza["from"], type="subscribed")
            return True
        return serve(stanza)
    impl.handler = accept
    impl.presence()
    proxies = [program(share, "xmpp-jat-proxy", "--target", "impl@" + HOST) for _ in range(2)]
    alice = Client(ALICE + "/a")
    wait_until(lambda: share.counters()["instances"] == 2, "two proxies")
    wait_until(lambda: who(alice.ask(DOMAIN)) == "impl" and who(alice.ask(DOMAIN)) == "impl", "both have sessions")
    for n in range(20):
        assert who(alice.ask(DOMAIN, wait_s=WAIT_S)) == "impl"
    proxies[0].terminate()
    assert proxies[0].wait(WAIT_S) == 0
    for n in range(6):
        assert who(alice.ask(DOMAIN)) == "impl"


def connect_behind_it():
    share = Share()
    program(share, "xmpp-connect", rest=["--", "sh", "-c", """while read -r line; do
        case $line in *type=?get*) ;; *) continue ;; esac
        id=$(printf '%s' "$line" | sed "s/.* id=['\\"]\\([^'\\"]*\\).*/\\1/")
        from=$(printf '%s' "$line" | sed "s/.* from=['\\"]\\([^'\\"]*\\).*/\\1/")
        echo "<iq type='result' id='$id' to='$from' from='proxy.test'><by xmlns='urn:x'>shell</by></iq>"
        done"""])
    wait_until(lambda: share.counters()["instances"] == 1, "the shell")
    assert who(Client(ALICE + "/a").ask(DOMAIN)) == "shell"


# --- instances written with other people's libraries

def started(*command):
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    atexit.register(lambda: (child.poll() is None and child.kill(), child.wait()))
    if child.stdout.readline() != b"ready\n":
        raise Mismatch("%s: not ready" % command[1])
    return child


def library_behind_it(*command):
    """Three of them share 60 requests; one is killed; messages and presence come through."""
    share = Share("--policy", "round-robin")
    children = [started(*command, DOMAIN, str(share.port), "secret", name) for name in ("one", "two", "three")]
    alice = Client(ALICE + "/a")
    seen = collections.Counter(who(alice.ask("room@" + DOMAIN)) for _ in range(60))
    assert seen == {"one": 20, "two": 20, "three": 20}, seen
    for n in range(10):
        assert alice.ask(DOMAIN, "<ping xmlns='urn:xmpp:ping'/>")["type"] == "result"
    children[0].kill()
    wait_until(lambda: share.counters()["instances"] == 2, "one is gone")
    seen = collections.Counter(who(alice.ask(DOMAIN)) for _ in range(20))
    assert seen == {"two": 10, "three": 10}, seen
    return alice


def slixmpp_behind_it():
    alice = library_behind_it("/usr/bin/python3", os.path.join(os.environ["TESTS"], "tools/slixcomponent.py"))
    assert "jabber:iq:version" in alice.ask(DOMAIN, "<query xmlns='jabber:iq:version'/>").raw
    alice.presence()
    alice.ask(DOMAIN + "/x", "<say xmlns='urn:x'/>", kind="set")
    said = alice.skipped + [alice.next() for _ in range(0)]
    assert {s.name for s in said if s["from"] == DOMAIN + "/x"} == {"presence", "message"}, said


def npm_component_behind_it():
    library_behind_it("node", os.path.join(os.environ["TESTS"], "tools/npmcomponent.mjs"),
                      os.environ["NPM_FOLDER"])
