"""xmpp-jat-proxy between real clients on a real server. The facts of the server
(tests/servers/servers.bash) are in the environment; a scenario is one function, run by the bats
files of both servers, each on its own domain pair so that none inherits another's subscriptions.
"""

import atexit
import collections
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from xml.sax.saxutils import escape, quoteattr

from stanzas import Mismatch, check
from xmppclient import WAIT_S, Client, Closed, Component, result

HOST = os.environ.get("XMPP_HOST", "vhost.test")
ALICE, BOB, IMPL = "alice@" + HOST, "bob@" + HOST, "impl@" + HOST
OK = "<ok xmlns='urn:x'/>"


shares = {}


def component_port(domain):
    """Where a program of this domain connects to: the server, or with BEHIND_SHARE (options) in the environment
    an xmpp-share of that domain."""
    if "BEHIND_SHARE" not in os.environ:
        return os.environ["COMPONENT_PORT"]
    if domain not in shares:
        from sharing import Share
        shares[domain] = Share(*os.environ["BEHIND_SHARE"].split(), "--limit", "user-pending=100%", domain=domain)
    return shares[domain].port


class Proxy:
    """xmpp-jat-proxy --connect for DOMAIN; ready means: the server took its handshake."""

    def __init__(self, *options, targets=(IMPL,), domain="proxy.test", port=None, secret=None, ready=True):
        read, write = os.pipe()
        command = ["xmpp-jat-proxy", "--domain", domain, "--connect",
                   "127.0.0.1:%s" % (port or component_port(domain)),
                   "--secret-file", secret or os.environ["SECRET_FILE"], "--ready-fd", str(write)]
        for target in targets:
            command += ["--target", target]
        self.domain = domain
        self.stderr_file = tempfile.NamedTemporaryFile("w+b", dir=".", suffix=".err", delete=False)
        self.process = subprocess.Popen(command + list(options), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=self.stderr_file,
                                        pass_fds=[write])
        atexit.register(self._reap)
        os.close(write)
        self.ready_pipe = os.fdopen(read, "rb", buffering=0)
        if ready:
            self.ready()

    def ready(self):
        """Wait until the program is ready; raise its words if it does not become so."""
        answer = []
        reader = threading.Thread(target=lambda: answer.append(self.ready_pipe.read(1)), daemon=True)
        reader.start()
        reader.join(WAIT_S)
        if not answer or not answer[0]:
            raise Mismatch("not ready (status %s): %s" % (self.process.poll(), self.stderr))

    @property
    def stderr(self):
        with open(self.stderr_file.name, encoding="utf-8", errors="replace") as f:
            return f.read()

    def wait_stderr(self, pattern, count=1):
        deadline = time.monotonic() + WAIT_S
        while len(re.findall(pattern, self.stderr)) < count:
            again(deadline, "stderr never said %r: %s" % (pattern, self.stderr))

    def signal(self, number):
        self.process.send_signal(number)

    def ended(self, status=0):
        try:
            self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            raise Mismatch("does not end: %s" % self.stderr) from None
        if self.process.returncode != status:
            raise Mismatch("exit status %s, not %s: %s" % (self.process.returncode, status, self.stderr))

    def end(self, status=0):
        self.signal(signal.SIGTERM)
        self.ended(status)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def _reap(self):
        """End the process, however the test has ended."""
        if self.process.poll() is None:
            self.kill()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None and self.process.returncode is None:
                self.end()
        finally:
            self._reap()
            if kind is not None:
                print("--- stderr of the proxy", self.stderr, sep="\n")


class Impl(Client):
    """A session of the implementing client: accepts the subscription; answers each request with
    its own resource's name. While hold is set, requests wait in the inbox (sessions may share one)."""

    def __init__(self, resource, username="impl", hold=False, inbox=None):
        super().__init__("%s@%s/%s" % (username, HOST, resource))
        self.resource = resource
        self.hold = hold
        self.answered = 0
        self.inbox = inbox or self.inbox
        self.handler = self._handle
        self.presence()

    def _handle(self, stanza):
        if stanza.name == "presence":
            if stanza["type"] == "subscribe":
                self.send("<presence type='subscribed' to=%s/>" % quoteattr(stanza["from"]))
            return True
        if stanza.name == "message" and stanza.payload and stanza.payload.endswith("}privilege"):
            return True
        if stanza.name == "iq" and stanza["type"] in ("get", "set") and not self.hold:
            self.answer(stanza)
            return True
        return False

    def answer(self, request, content=None):
        self.answered += 1
        self.send(result(request, "<by xmlns='urn:x'>%s</by>" % escape(self.resource) if content is None else content))

    def leave(self):
        self.presence(type="unavailable")
        self.close()


def user(name, resource="r"):
    return Client("%s@%s/%s" % (name, HOST, resource))


def text(stanza):
    return stanza.children[0].text if stanza["type"] == "result" and stanza.children else None


def again(deadline, why):
    """Wait between two looks at something that has no event of its own."""
    if time.monotonic() > deadline:
        raise Mismatch(why)
    threading.Event().wait(0.02)


def warm(asker, *resources, to="proxy.test"):
    """Ask until each of these sessions has answered: then the proxy knows all of them, and no other."""
    missing, deadline = set(resources), time.monotonic() + WAIT_S
    while missing:
        answer = asker.ask(to)
        missing.discard(text(answer))
        if answer["type"] == "error" or time.monotonic() > deadline:
            again(deadline, "the proxy never asked %s" % sorted(missing))


def served(asker, to="proxy.test"):
    """Ask until a session answers. While a stream breaks, a request may be lost in it on its way to the
    proxy: then another one is sent."""
    deadline, refused = time.monotonic() + WAIT_S, None
    while True:
        try:
            answer = asker.ask(to, wait_s=WAIT_S / 4)
            if answer["type"] == "result":
                return answer
            refused = answer
        except Mismatch:
            pass
        again(deadline, "nobody answers: %r" % refused)


def server(verb):
    """Restart or stop the server in SERVER_DIR."""
    subprocess.run(["bash", "-c", '. "$TESTS/servers/servers.bash" && "$1_$2" "$3"', "server",
                    os.environ["SERVER_KIND"], verb, os.environ["SERVER_DIR"]], check=True)


class Relay:
    """A TCP relay in front of the component port, to break what the server would not."""

    def __init__(self):
        self.listener = socket.socket()
        # small, so that a proxy that is not read from notices soon
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        self.pairs = []
        self.reading = threading.Event()     # from the proxy
        self.reading.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            upstream = socket.create_connection(("127.0.0.1", int(os.environ["COMPONENT_PORT"])))
            for s in client, upstream:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.pairs.append((client, upstream))
            threading.Thread(target=self._copy, args=(client, upstream, self.reading), daemon=True).start()
            threading.Thread(target=self._copy, args=(upstream, client, None), daemon=True).start()

    @staticmethod
    def _copy(source, sink, gate):
        try:
            while True:
                if gate:
                    gate.wait()
                octets = source.recv(65536)
                if not octets:
                    break
                if gate:
                    gate.wait()
                sink.sendall(octets)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self):
        for s in self.pairs[-1]:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def reset(self):
        """Send RST instead of FIN to the proxy."""
        client, upstream = self.pairs[-1]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.shutdown(socket.SHUT_RD)       # our reading thread lets go of it
        client.close()
        try:
            upstream.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass                              # the copying thread was faster

    def half_close(self):
        """Pass nothing more from the server; the other direction stays open."""
        self.pairs[-1][0].shutdown(socket.SHUT_WR)

    def inject(self, octets):
        """Send this to the proxy as if the server had sent it."""
        self.pairs[-1][0].sendall(octets)


# --- scenarios

def seed_example():
    with Proxy() as p:
        r1 = Impl("r1")
        r2 = Impl("r2", inbox=r1.inbox)
        session = {r1.jid: r1, r2.jid: r2}
        alice = user("alice", "abc")
        warm(alice, "r1", "r2")
        r1.hold = r2.hold = True
        # servers may pass on an address as the user has typed it
        for n, address in enumerate(["proxy.test", "room@proxy.test", "proxy.test/res", "room@proxy.test/a b", "Proxy.TEST/Res"]):
            for kind in "get", "set":
                id = "1234-%d%s" % (n, kind)
                alice.send("<iq type='%s' id='%s' to='%s'><query xmlns='urn:x' a='1'><e/></query></iq>" % (kind, id, address))
                asked = r1.next()
                check(asked, "<iq type='%s' id='%s' to='%s/{}' from='proxy.test/{}'><query xmlns='urn:x' a='1'><e/></query></iq>"
                      % (kind, id, IMPL))
                assert "alice" not in asked["from"], asked
                session[asked["to"]].answer(asked, "<query xmlns='urn:x'><ok/></query>")
                check(alice.expect_where(lambda s: s["id"] == id),
                      "<iq type='result' id='%s' to='%s/abc' from='%s'><query xmlns='urn:x'><ok/></query></iq>"
                      % (id, ALICE, address.replace("Proxy.TEST", "proxy.test")))


def disco_ping_version():
    with Proxy() as p:
        impl, alice = Impl("r1"), user("alice")
        served(alice)
        impl.hold = True
        for payload in ["<query xmlns='http://jabber.org/protocol/disco#info'/>", "<query xmlns='http://jabber.org/protocol/disco#items'/>",
                        "<ping xmlns='urn:xmpp:ping'/>", "<query xmlns='jabber:iq:version'/>"]:
            alice.send("<iq type='get' id='d' to='proxy.test'>%s</iq>" % payload)
            got = impl.expect_where(lambda s: s.name == "iq")
            check(got, "<iq type='get' id='d' to='%s/r1' from='{}'>%s</iq>" % (IMPL, payload))
            impl.answer(got, payload)
            check(alice.expect_where(lambda s: s["id"] == "d"),
                  "<iq type='result' id='d' to='%s/r' from='proxy.test'>%s</iq>" % (ALICE, payload))


def thousand(change=None, kinds=("get",)):
    """1000 requests, 100 in flight, three sessions; change is done in the middle."""
    with Proxy("--bounce-wait", "1") as p:
        sessions = {r: Impl(r) for r in "abc"}
        alice = user("alice")
        warm(alice, "a", "b", "c")
        refusal = None
        sent, answers, types = 0, collections.Counter(), collections.Counter()
        while sum(answers.values()) < 1000:
            while sent < 1000 and sent - sum(answers.values()) < 100:
                alice.send("<iq type='%s' id='k%d' to='proxy.test'><q xmlns='urn:x'/></iq>" % (kinds[sent % len(kinds)], sent))
                sent += 1
            stanza = alice.expect_where(lambda s: (s["id"] or "").startswith("k"))
            answers[stanza["id"]] += 1
            assert stanza["from"] == "proxy.test", stanza
            types[stanza["type"] if stanza["type"] == "result" else stanza.error] += 1
            if stanza["type"] == "error":
                refusal = stanza
            if change:
                change(sum(answers.values()), sessions)
        served(alice)
        late = [s for s in alice.skipped + alice.settle() if (s["id"] or "").startswith("k")]
        assert not late and len(answers) == 1000 and set(answers.values()) == {1}, (late, len(answers))
        if "set" in kinds:
            assert set(types) <= {"result", "wait/recipient-unavailable"} and types["result"] > 800, (types, refusal)
        else:
            assert types == {"result": 1000}, (types, refusal)
        return sessions


def thousand_stay():
    sessions = thousand()
    assert all(s.answered > 200 for s in sessions.values()), {r: s.answered for r, s in sessions.items()}


def leaves_and_returns(done, sessions):
    if done == 250:
        sessions["b"].leave()
    if done == 600:
        sessions["b"] = Impl("b")


def killed_in_the_middle(done, sessions):
    if done == 300:
        sessions["c"].hold = True            # it has requests in hand when it dies
    if done == 350:
        sessions["c"].cut()


def thousand_leave_return():
    thousand(leaves_and_returns)


def thousand_killed():
    thousand(killed_in_the_middle)


def thousand_killed_sets():
    thousand(killed_in_the_middle, ("get", "set"))


def session_dies_holding():
    """All sessions but one die with requests in hand: gets move, sets are answered with an error."""
    with Proxy("--bounce-wait", "1", "--policy", "round-robin") as p:
        dying, alice = Impl("dying"), user("alice")
        warm(alice, "dying")
        dying.hold = True
        for kind in "get", "set":
            alice.send("<iq type='%s' id='%s' to='x@proxy.test'><q xmlns='urn:x'/></iq>" % (kind, kind))
            dying.expect_where(lambda s: s["id"] == kind)
        stays = Impl("stays")
        bob = user("bob")
        deadline = time.monotonic() + WAIT_S
        while stays.answered == 0:
            bob.send("<iq type='get' id='%s' to='proxy.test'><q xmlns='urn:x'/></iq>" % bob.fresh())
            bob.settle()
            again(deadline, "the second session is never asked")
        dying.cut()
        got = {s["id"]: s for s in (alice.expect_where(lambda s: s["id"] in ("get", "set")) for _ in range(2))}
        assert text(got["get"]) == "stays" and got["get"]["from"] == "x@proxy.test", got
        assert got["set"].error in ("wait/recipient-unavailable",) and got["set"]["from"] == "x@proxy.test", got


def restart_after_kill():
    with open("keys", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
        f.write("k %064d\n" % 7)
    os.mkdir("state")
    options = ["--key-file", "keys", "--state-dir", "state", "--timeout", "60"]
    impl, alice = Impl("r1"), user("alice")
    with Proxy(*options) as p:
        served(alice)
        impl.hold = True
        for n in range(20):
            alice.send("<iq type='%s' id='k%d' to='x@proxy.test'><q xmlns='urn:x'/></iq>" % ("set" if n % 2 else "get", n))
        asked = [impl.expect_where(lambda s: s.name == "iq") for _ in range(20)]
        p.kill()
    with Proxy(*options) as p:
        for twice in range(2):
            for request in asked:
                impl.answer(request)
        impl.hold = False
        got = set()
        while len(got) < 20:
            stanza = alice.expect_where(lambda s: (s["id"] or "").startswith("k"))
            check(stanza, "<iq type='result' id='{}' from='x@proxy.test' to='%s/r'>...</iq>" % ALICE)
            assert stanza["id"] not in got, stanza
            got.add(stanza["id"])
        served(alice)                         # what comes twice would have come before this
        assert not [s for s in alice.skipped + alice.settle() if (s["id"] or "").startswith("k")]


def sigterm_in_flight():
    impl, alice = Impl("r1"), user("alice")
    with Proxy("--timeout", "60") as p:
        served(alice)
        impl.hold = True
        for n in range(3):
            alice.send("<iq type='set' id='k%d' to='proxy.test'><q xmlns='urn:x'/></iq>" % n)
        asked = [impl.expect_where(lambda s: s.name == "iq") for _ in range(3)]
        p.signal(signal.SIGTERM)
        for request in asked:
            impl.answer(request)
        for n in range(3):
            assert alice.expect_where(lambda s: s["id"] == "k%d" % n)["type"] == "result"
        p.ended(0)
        impl.hold = False
    with Proxy("--timeout", "60", "--drain-time", "1") as p:
        served(alice)
        impl.hold = True
        alice.send("<iq type='get' id='k9' to='x@proxy.test'><q xmlns='urn:x'/></iq>")
        impl.expect_where(lambda s: s.name == "iq")
        p.signal(signal.SIGTERM)
        stanza = alice.expect_where(lambda s: s["id"] == "k9")
        assert (stanza["type"], stanza["from"]) == ("error", "x@proxy.test") and stanza.error.startswith("wait/"), stanza
        p.ended(0)


def server_restart_under_load():
    with Proxy() as p:
        impl, alice = Impl("r1"), user("alice")
        served(alice)
        try:
            for n in range(200):
                alice.send("<iq type='get' id='k%d' to='proxy.test'><q xmlns='urn:x'/></iq>" % n)
            server("restart")
        except OSError:
            pass
        impl, alice = Impl("r1"), user("alice")
        served(alice)
        assert p.process.poll() is None


def stream_cut_keeps_the_table():
    relay = Relay()
    with Proxy("--timeout", "60", port=relay.port) as p:
        impl, alice = Impl("r1"), user("alice")
        for broken in relay.cut, relay.reset, relay.half_close, lambda: relay.inject(
                b"<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"):
            served(alice)
            impl.hold = True
            alice.send("<iq type='get' id='held' to='x@proxy.test'><q xmlns='urn:x'/></iq>")
            asked = impl.expect_where(lambda s: s["id"] == "held")
            impl.hold = False
            broken()
            bob = user("bob")
            served(bob)                       # connected again, session known again
            bob.close()
            impl.answer(asked)
            check(alice.expect_where(lambda s: s["id"] == "held"),
                  "<iq type='result' id='held' from='x@proxy.test' to='%s/r'>...</iq>" % ALICE)


def session_leaves_after_a_reconnect():
    relay = Relay()
    with Proxy("--timeout", "60", "--policy", "least-pending", port=relay.port) as p:
        first, alice = Impl("r1"), user("alice")
        served(alice)
        first.hold = True
        alice.send("<iq type='get' id='held' to='x@proxy.test'><q xmlns='urn:x'/></iq>")
        first.expect_where(lambda s: s["id"] == "held")
        relay.cut()
        second, bob = Impl("r2"), user("bob")
        served(bob)                           # connected again; r1 still has the request in hand
        first.close()                         # and leaves with it
        check(alice.expect_where(lambda s: s["id"] == "held"),
              "<iq type='result' id='held' from='x@proxy.test' to='%s/r'>...</iq>" % ALICE)
        second.close()


def server_stops_reading():
    relay = Relay()
    with Proxy("--timeout", "60", "--limit", "user-pending=400", port=relay.port) as p:
        impl, alice = Impl("r1"), user("alice")
        served(alice)
        relay.reading.clear()
        big = "x" * 10000
        for n in range(400):
            alice.send("<iq type='get' id='k%d' to='proxy.test'><q xmlns='urn:x'>%s</q></iq>" % (n, big))
        alice.settle()
        relay.reading.set()
        seen = set()
        while len(seen) < 400:
            stanza = alice.expect_where(lambda s: (s["id"] or "").startswith("k"))
            assert stanza["id"] not in seen
            assert stanza["type"] == "result", stanza
            seen.add(stanza["id"])
        if not os.environ.get("WRAP"):
            with open("/proc/%d/status" % p.process.pid) as f:
                peak_kib = int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))
            assert peak_kib < 64 << 10, peak_kib


def subscribe_lost_at_start():
    target = "impl@jat2.test"
    with Proxy(targets=[target]) as p:
        alice = user("alice")
        assert alice.ask("proxy.test").error == "cancel/service-unavailable"
        there = Component("jat2.test")
        check(there.expect_where(lambda s: s["type"] == "subscribe"),
              "<presence type='subscribe' to='%s' from='proxy.test'/>" % target)
        there.send("<presence type='subscribed' from='%s' to='proxy.test'/>" % target)
        check(there.next(), "<presence type='probe' to='%s' from='proxy.test'/>" % target)
        there.send("<presence from='%s/r1' to='proxy.test'/>" % target)
        there.serve(lambda s: "<iq type='result' id='%s' from='%s' to=%s>%s</iq>" % (s["id"], s["to"], quoteattr(s["from"]), OK))
        served(alice)
        there.close()


def wrong_secret():
    with open("wrong", "w") as f:
        f.write("guess\n")
    os.chmod("wrong", 0o600)
    p = Proxy(secret="wrong", ready=False)
    p.ended(77)
    assert re.search(r"^xmpp-jat-proxy: .+", p.stderr) and "guess" not in p.stderr, p.stderr


def wrong_domain():
    p = Proxy(domain="nosuch.test", ready=False)
    # ejabberd answers an unknown domain as it does a wrong secret: not-authorized
    p.ended(78 if os.environ["SERVER_KIND"] == "prosody" else 77)
    assert "nosuch.test" in p.stderr, p.stderr


def server_absent():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    p = Proxy("--retries", "0", port=port, ready=False)
    p.ended(75)
    assert "127.0.0.1" in p.stderr or str(port) in p.stderr, p.stderr
    # by default it waits for the server
    p = Proxy(port=port, ready=False)
    p.wait_stderr("refused")
    p.end(0)


def duplicate_component():
    with Proxy("--timeout", "60") as first:
        impl, alice = Impl("r1"), user("alice")
        served(alice)
        second = Proxy("--retries", "0", ready=False)
        second.ended(75)
        assert "conflict" in second.stderr, second.stderr
        served(alice)


def malformed_from_the_server():
    relay = Relay()
    p = Proxy("--retries", "0", port=relay.port)
    relay.inject(b"<iq type='get'></broken>")
    p.ended(76)
    relay = Relay()
    with Proxy(port=relay.port) as p:
        impl, alice = Impl("r1"), user("alice")
        served(alice)
        relay.inject(b"<message><!-- comment --></message>")
        bob = user("bob")
        served(bob)
        assert len(relay.pairs) >= 2


def messages():
    with Proxy("--messages", "--policy", "round-robin") as p:
        a, alice = Impl("a"), user("alice")
        b = Impl("b", inbox=a.inbox)
        session_of = {a.jid: a, b.jid: b}
        alice.presence()
        warm(alice, "a", "b")

        def say(id):
            alice.send("<message type='chat' id='%s' to='x@proxy.test'><body>hello</body></message>" % id)
            got = a.next()
            check(got, "<message type='chat' id='%s' from='proxy.test/{}' to='{}'><body>hello</body></message>" % id)
            return session_of[got["to"]], got

        first, got = say("m0")
        for n in range(1, 5):
            again, got = say("m%d" % n)
            assert again is first
        second = b if first is a else a
        for session in first, second:
            session.send("<message type='chat' id='r' to='%s'><body>yes</body></message>" % got["from"])
            check(alice.expect_where(lambda s: s.name == "message" and s["id"] == "r"),
                  "<message type='chat' id='r' from='x@proxy.test' to='%s/r'><body>yes</body></message>" % ALICE)
            assert say("again")[0] is session
        # a message to a user who is gone comes back as an error to the session
        alice.close()
        second.send("<message type='chat' id='gone' to='%s'><body>still there?</body></message>" % got["from"])
        if os.environ["SERVER_KIND"] == "prosody":
            back = second.expect_where(lambda s: s["id"] == "gone")
            assert (back["type"], back["from"]) == ("error", got["from"]), back


def outbound_iq():
    with Proxy("--outbound-iq") as p:
        a, alice = Impl("a"), user("alice")
        b = Impl("b", inbox=a.inbox)
        session_of = {a.jid: a, b.jid: b}
        warm(alice, "a", "b")
        a.hold = b.hold = True
        alice.send("<iq type='get' id='tok' to='x@proxy.test'><q xmlns='urn:x'/></iq>")
        asked = a.next()
        token = asked["from"]
        alice.serve(lambda s: result(s, "<pong xmlns='urn:x' from=%s/>" % quoteattr(s["from"])))
        for asker in a, b:
            asker.send("<iq type='get' id='mine' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>" % token)
            check(asker.expect_where(lambda s: s["id"] == "mine"),
                  "<iq type='result' id='mine' from='%s' to='%s'><pong xmlns='urn:x' from='x@proxy.test'/></iq>" % (token, asker.jid))
        session_of[asked["to"]].answer(asked)
        # the user has gone: the server's bounce comes back
        alice.close()
        a.send("<iq type='get' id='gone' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>" % token)
        back = a.expect_where(lambda s: s["id"] == "gone")
        assert (back["type"], back["from"]) == ("error", token), back


def show_presence():
    os.mkdir("state")
    options = ["--show-presence", "--state-dir", "state"]

    def shown(client, type):
        return client.expect_where(lambda s: s.name == "presence" and s["from"] == "proxy.test" and s["type"] == type)
    alice = user("alice")
    with Proxy(*options) as p:
        # a client that has asked for the roster is told of subscriptions
        alice.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")
        alice.presence()
        alice.send("<presence type='subscribe' to='proxy.test'/>")
        shown(alice, "subscribed")
        impl = Impl("r1")
        shown(alice, None)
        served(alice)
        impl.leave()
        shown(alice, "unavailable")
        impl = Impl("r1")
        shown(alice, None)
    with Proxy(*options) as p:
        late = user("alice", "late")
        late.presence()                     # the server probes for the new session
        shown(late, None)
        impl.leave()
        shown(late, "unavailable")
        shown(alice, "unavailable")
        late.send("<presence type='unsubscribe' to='proxy.test'/>")
        late.settle()


def apostrophes():
    """The server makes six bytes of each: what would be too large for it is refused, the stream lives."""
    relay = Relay()
    with Proxy(port=relay.port) as p:
        impl, alice = Impl("r1"), user("alice")
        served(alice)
        for size in 261500, 150000, 100000:
            answer = alice.ask("x@proxy.test", "<q xmlns='urn:x'>%s</q>" % ("'" * size))
            assert (answer.error, answer["from"]) == ("modify/policy-violation", "x@proxy.test"), answer
        assert alice.ask("proxy.test", "<q xmlns='urn:x'>%s</q>" % ("'" * 60000))["type"] == "result"
        impl.hold = True
        for n, size in enumerate([261500, 100000]):
            alice.send("<iq type='get' id='a%d' to='proxy.test'><q xmlns='urn:x'/></iq>" % n)
            impl.answer(impl.expect_where(lambda s: s["id"] == "a%d" % n), "<q xmlns='urn:x'>%s</q>" % ("'" * size))
            answer = alice.expect_where(lambda s: s["id"] == "a%d" % n)
            assert answer.error == "modify/policy-violation" and answer["from"] == "proxy.test", answer
        impl.hold = False
        served(alice)
        assert len(relay.pairs) == 1, "the stream did not survive"


def long_attribute():
    """100 KB in one attribute: another user's stanza right behind it is not held up."""
    with Proxy() as p:
        impl, alice, bob = Impl("r1"), user("alice"), user("bob")
        served(alice)
        impl.hold = True
        padding = " " * 110000           # our own clients' streams must not hold it up either
        for n in range(3):
            alice.send("<iq type='get' id='long' to='proxy.test'><q xmlns='urn:x' a='%s'/></iq>" % ("v" * 100000), padding)
            alice.settle()
            bob.send("<iq type='get' id='short' to='proxy.test'><q xmlns='urn:x'/></iq>")
            asked = {}
            while len(asked) < 2:
                stanza = impl.expect_where(lambda s: s["id"] in ("long", "short"))
                asked[stanza["id"]] = stanza
            assert len(asked["long"].children[0].get("a")) == 100000
            impl.send(result(asked["long"], "<q xmlns='urn:x' a='%s'/>" % ("v" * 100000)), padding,
                      result(asked["short"], OK))
            assert bob.expect_where(lambda s: s["id"] == "short")["type"] == "result"
            assert alice.expect_where(lambda s: s["id"] == "long")["type"] == "result"


def odd_resources():
    """Users whose resources hold anything: they come from a component, which may name them freely."""
    resources = ["a b", "q'\"<&>", "\u00fcn\u00efc\u00f6d\u00e9", "a/b@c", "a@b", "a\\20b", "%41%2f", "proxy.test/x@y/z", "/", "@", "r" * 1023,
                 "r" * 900, "\u05d0\u05d1\u05d2"]
    if os.environ["SERVER_KIND"] == "prosody":
        resources += ["\U0001f600", "smile \U0001f600/@ \"x\""]
    for encoding in "sealed", "signed", "plain":
        with Proxy("--encoding", encoding) as p:
            impl, alice = Impl("r1"), user("alice")
            served(alice)
            users = Component("jat2.test")
            for n, resource in enumerate(resources):
                jid = "u@jat2.test/" + resource
                users.send("<iq type='get' id='%d' to='x@proxy.test' from=%s><q xmlns='urn:x'/></iq>" % (n, quoteattr(jid)))
                got = users.next()
                assert (got["type"], got["id"], got["from"], got["to"]) == ("result", str(n), "x@proxy.test", jid), got
            users.close()
            impl.close()
            alice.close()


def hostile_user():
    with Proxy() as p:
        impl, alice, mallory = Impl("r1"), user("alice"), user("mallory")
        served(alice)
        impl.hold = True
        alice.send("<iq type='get' id='secret' to='proxy.test'><q xmlns='urn:x'/></iq>")
        asked = impl.expect_where(lambda s: s["id"] == "secret")
        # mallory knows all there is to know: token, id, the address of the session
        forged = asked["from"]
        for target in forged, "proxy.test", "proxy.test/" + alice.jid, "x@" + forged:
            mallory.send("<iq type='result' id='secret' to='%s'><evil xmlns='urn:x'/></iq>" % target)
            mallory.send("<iq type='error' id='secret' to='%s'><error type='cancel'><item-not-found "
                         "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>" % target)
            mallory.send("<iq xmlns:y='urn:y' y:from='%s' type='result' id='secret' to='%s'><evil xmlns='urn:x'/></iq>" % (impl.jid, target))
        mallory.send("<presence to='proxy.test'/>")
        mallory.send("<presence xmlns:y='urn:y' y:from='%s' y:type='unavailable' to='proxy.test'/>" % impl.jid)
        mallory.send("<presence type='subscribed' to='proxy.test'/><presence type='unsubscribed' to='proxy.test'/>")
        mallory.settle()
        # an answer that nobody waits for is mallory's own request all the same
        mallory.send("<iq xmlns:y='urn:y' y:from='%s' y:type='result' y:id='secret' y:to='%s' type='get' id='m' to='%s'>"
                     "<evil xmlns='urn:x'/></iq>" % (impl.jid, forged, forged))
        got = impl.expect_where(lambda s: s.name == "iq")
        assert got["id"] == "m" and got["from"] != forged and got["type"] == "get", got
        impl.answer(got, OK)
        own = mallory.expect_where(lambda s: s.name == "iq")
        assert (own["id"], own["type"], own["from"]) == ("m", "result", forged), own
        assert [s for s in alice.settle() if s.name == "iq"] == []
        impl.answer(asked, OK)
        check(alice.expect_where(lambda s: s["id"] == "secret"),
              "<iq type='result' id='secret' from='proxy.test' to='%s/r'>%s</iq>" % (ALICE, OK))
