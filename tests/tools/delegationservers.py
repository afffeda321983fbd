"""xmpp-manage and xmpp-delegate between real clients on a real server (its facts are in the
environment). A scenario is one function, run by the bats files on both servers: deleg.test manages
urn:test:one for the host; proxy.test is the domain of xmpp-delegate, deleg2.test, jat.test and
jat2.test are its managing entities.
"""

import atexit
import itertools
import json

import delegation
from delegation import Handler, envelope, error, features, identities, inner_of
from proxyservers import *
from stanzas import parse

KIND = os.environ.get("SERVER_KIND", "prosody")
VERSION = 2 if KIND == "prosody" else 1
D = "deleg.test"
NS = "urn:test:one"
QUERY = "<query xmlns='urn:test:one'/>"
ANSWER = "<query xmlns='urn:test:one'><ok/></query>"
# the simplest handler there is: each line's id into an answer
ECHO = ["sed", "-uE", r"s,.* id=['\"]([^'\"]*).*,<iq type='result' id='\1'><query xmlns='urn:test:one'><ok/></query></iq>,"]


class Daemon(Proxy):
    """A program of ours on the component port; ready means: the server took its handshake."""

    def __init__(self, program, domain, *options, handler=(), ready=True, pipes=False, port=None):
        read, write = os.pipe()
        if isinstance(handler, Handler):
            handler = handler.command
        command = [program, "--domain", domain, "--connect", "127.0.0.1:%s" % (port or component_port(domain)),
                   "--secret-file", os.environ["SECRET_FILE"], "--ready-fd", str(write), *options]
        self.domain = domain
        self.stderr_file = tempfile.NamedTemporaryFile("w+b", dir=".", suffix=".err", delete=False)
        end = subprocess.PIPE if pipes else subprocess.DEVNULL
        self.process = subprocess.Popen(command + (["--", *handler] if handler else []), stdin=end, stdout=end,
                                        stderr=self.stderr_file, pass_fds=[write])
        atexit.register(self._reap)
        os.close(write)
        self.ready_pipe = os.fdopen(read, "rb", buffering=0)
        if ready:
            self.ready()


class Manage(Daemon):
    """xmpp-manage for urn:test:one; the server has told it what it delegates."""

    def __init__(self, *options, handler=ECHO, hosts=(HOST,), domain=D, advertised=True, **more):
        hosts_ = [word for host in hosts for word in ("--host", host)]
        super().__init__("xmpp-manage", domain, *hosts_, "--namespace", NS, *options, handler=handler, **more)
        self.handler = handler if isinstance(handler, Handler) else None
        if self.handler:
            self.handler.started()
        if advertised:
            # ejabberd: once for the host, once for the accounts
            self.wait_stderr("delegates 'urn:test:one'\n", 1 if KIND == "prosody" else 2)


def ask(client, id, to=HOST, type="get", content=QUERY):
    to_ = "" if to is None else " to=%s" % quoteattr(to)
    client.send("<iq type='%s' id='%s'%s>%s</iq>" % (type, id, to_, content))


def answered(client, id):
    return client.expect_where(lambda s: s.name == "iq" and s["id"] == id and s["type"] in ("result", "error"))


def known_as_gone(client, domain):
    """Wait until the server knows that a component was killed: until then it hands on, and loses, what is for it."""
    deadline = time.monotonic() + WAIT_S
    for n in itertools.count():
        ask(client, "there%d" % n, domain, content="<ping xmlns='urn:xmpp:ping'/>")
        try:
            stanza = client.expect_where(lambda s: (s["id"] or "").startswith("there"), wait_s=0.5)
        except Mismatch:
            if time.monotonic() > deadline:
                raise
            continue
        assert stanza["type"] == "error", stanza
        return


def served(client, id="s", to=HOST):
    ask(client, id, to)
    stanza = answered(client, id)
    check(stanza, "<iq type='result' id='%s' from='%s' to='%s'>%s</iq>" % (id, to, client.jid, ANSWER))


def once(client, *ids):
    """Assert that nothing more has come for these."""
    more = [s for s in client.settle() + client.skipped if s["id"] in ids]
    assert not more, more


# --- xmpp-manage

def addresses():
    with Manage():
        alice = user("alice")
        for type in "get", "set":
            for to, by in ((HOST, HOST), (None, ALICE), (ALICE, ALICE), (BOB, BOB)):
                ask(alice, "q", to, type)
                stanza = answered(alice, "q")
                if stanza["from"] is None and by == ALICE:
                    continue    # the own account may be left out
                check(stanza, "<iq type='result' id='q' from='%s' to='%s'>%s</iq>" % (by, alice.jid, ANSWER))
        once(alice, "q")
        # the server answers what is not delegated itself
        ask(alice, "ping", content="<ping xmlns='urn:xmpp:ping'/>")
        check(answered(alice, "ping"), "<iq type='result' id='ping' from='%s' to='%s'/>" % (HOST, alice.jid))


def errors_pass():
    h = Handler()
    with Manage(handler=h):
        alice = user("alice")
        ask(alice, "q")
        h.answer(h.next(), error("modify/not-acceptable"), "error")
        assert answered(alice, "q").error == "modify/not-acceptable"


def five_hundred():
    with Manage():
        users = [user("alice"), user("bob"), user("carol", "c1"), user("carol", "c2")]
        for n in range(500):
            ask(users[n % 4], "n%d" % n, (HOST, None, ALICE)[n % 3], ("get", "set")[n % 2])
        for n in range(500):
            assert answered(users[n % 4], "n%d" % n)["type"] == "result"
        for client in users:
            once(client, *("n%d" % n for n in range(500)))


def same_id_twice():
    h = Handler()
    with Manage(handler=h):
        alice = user("alice")
        ask(alice, "same", HOST)
        ask(alice, "same", BOB)
        first, second = h.next(), h.next()
        assert first["id"] != second["id"]
        for request in second, first:
            h.answer(request, "<to xmlns='urn:test:one'>%s</to>" % request["to"])
        got = [answered(alice, "same") for i in range(2)]
        assert {(s["from"], text(s)) for s in got} == {(HOST, HOST), (BOB, BOB)}, got


def slow_ones():
    h = Handler()
    with Manage(handler=h):
        alice, bob = user("alice"), user("bob")
        ask(alice, "slow")
        slow = h.next()
        for n in range(20):
            ask(bob, "b%d" % n)
            h.answer(h.next())
            assert answered(bob, "b%d" % n)["type"] == "result"
        h.answer(slow)
        assert answered(alice, "slow")["type"] == "result"
    os.mkfifo("go")
    script = "[ \"$XMPP_ID\" = slow ] && read -r go <go; echo \"<iq type='result'/>\""
    with Manage("--per-request", handler=["sh", "-c", script]):
        ask(alice, "slow")
        for n in range(20):
            ask(bob, "p%d" % n)
            assert answered(bob, "p%d" % n)["type"] == "result"
        with open("go", "w") as f:
            f.write("\n")
        assert answered(alice, "slow")["type"] == "result"


def broken_handlers():
    h = Handler()
    alice = user("alice")
    with Manage("--timeout", "1", handler=h):
        for n, say in enumerate((
                "garbage <", "<message id='%s'/>", "<iq type='result' id='x%s'/>", "<iq type='result' id='%s' to='bob@vhost.test'/>",
                "<iq type='result' id='%s' from='evil.test'/>", "<iq type='result' id='%s'><a xmlns='a'/><b xmlns='b'/></iq>",
                "<iq type='error' id='%s'/>", "<iq type='set' id='%s'><a xmlns='a'/></iq>", "")):
            id = "b%d" % n
            ask(alice, id)
            request = h.next()
            while request["type"] == "error":       # its own request was refused
                request = h.next()
            h.send(say % request["id"] if "%s" in say else say)
            stanza = answered(alice, id)
            assert stanza.error in ("cancel/internal-server-error", "wait/remote-server-timeout"), stanza
            assert stanza["from"] == HOST and stanza["to"] == alice.jid
            h.answer(request)
            once(alice, id)
        ask(alice, "d1")
        h.next()
        h.die()
        # on a busy machine its end may be seen after the second is over
        assert answered(alice, "d1").error in ("cancel/internal-server-error", "wait/remote-server-timeout")
        h.started()
        ask(alice, "d2")
        h.answer(h.next())
        assert answered(alice, "d2")["type"] == "result"
    for n, script in enumerate(("exit 3", "echo garbage", "echo \"<iq type='result'/><iq type='result'/>\"", "echo '<message/>'", "sleep 60",
                                "echo \"<iq type='result' id='other'/>\"", "echo \"<iq type='result' to='bob@vhost.test'/>\"", "kill -9 $$", ":")):
        with Manage("--per-request", "--timeout", "1", handler=["sh", "-c", script]):
            ask(alice, "p%d" % n)
            assert answered(alice, "p%d" % n).error in ("cancel/internal-server-error", "wait/remote-server-timeout")
            once(alice, "p%d" % n)


def component_restart():
    alice = user("alice")
    with Manage() as m:
        served(alice)
        m.kill()
    known_as_gone(alice, D)
    ask(alice, "gone")
    assert answered(alice, "gone").error == "cancel/service-unavailable"
    with Manage() as m:
        served(alice)
    with Manage():
        served(alice)


def server_restart():
    with Manage() as m:
        served(user("alice"))
        server("restart")
        # behind xmpp-share an instance that connects again is told once what is the same
        m.wait_stderr("delegates 'urn:test:one'\n", 2 if KIND == "prosody" else 3 if shares else 4)
        served(user("alice"))
        assert m.process.poll() is None


def own_pipe():
    with Manage(handler=(), pipes=True) as m:
        alice = user("alice")
        for n in range(3):
            ask(alice, "q%d" % n)
            request = parse(m.process.stdout.readline().decode())
            m.process.stdin.write(("<iq type='result' id='%s'>%s</iq>\n" % (request["id"], ANSWER)).encode())
            m.process.stdin.flush()
            assert answered(alice, "q%d" % n)["type"] == "result"
        ask(alice, "last")
        m.process.stdout.readline()
        m.process.stdin.close()     # nobody is there to answer any more
        assert answered(alice, "last").error == "wait/recipient-unavailable"
        m.ended(0)


def json_handlers():
    """--json: a handler in jq that stays, one per request, and our own pipe."""
    alice = user("alice")
    echo = '{id, type: "result", ns, name, payload: [.payload[0] | .children += [{name: "ok"}]]}'
    with Manage("--json", handler=["jq", "--unbuffered", "-c", echo]):
        for n, to in enumerate((HOST, ALICE, BOB)):
            served(alice, "j%d" % n, to)
        ask(alice, "deep", content="<query xmlns='urn:test:one' xmlns:p='urn:p' p:a='1' xml:lang='fr'><x xmlns=''>t</x></query>")
        check(answered(alice, "deep"), "<iq type='result' id='deep' from='%s' to='%s'><query xmlns='urn:test:one' xmlns:p='urn:p' p:a='1' xml:lang='fr'>"
              "<x xmlns=''>t</x><ok/></query></iq>" % (HOST, alice.jid))
    with Manage("--json", "--per-request", handler=["echo", '{"type": "error", "error": {"type": "auth", "condition": "forbidden", "text": "no"}}']):
        ask(alice, "p")
        assert answered(alice, "p").error == "auth/forbidden"
        once(alice, "p")
    with Manage("--json", handler=(), pipes=True) as m:
        def asked(id):
            ask(alice, id)
            return json.loads(m.process.stdout.readline())["id"]

        def say(line):
            m.process.stdin.write((line + "\n").encode())
            m.process.stdin.flush()
        say("garbage")
        m.wait_stderr("stdin:1: not JSON")
        id = asked("bad")
        say(json.dumps({"id": id, "type": "result", "payload": [{}]}))
        assert answered(alice, "bad").error == "cancel/internal-server-error"
        say(json.dumps({"id": id, "type": "result"}))
        once(alice, "bad")
        say(json.dumps({"id": asked("good"), "type": "result", "payload": delegation.OK_OBJECT}))
        check(answered(alice, "good"), "<iq type='result' id='good' from='%s' to='%s'>%s</iq>" % (HOST, alice.jid, ANSWER))
        asked("last")
        m.process.stdin.close()     # nobody is there to answer any more
        assert answered(alice, "last").error == "wait/recipient-unavailable"
        m.ended(0)


def announced():
    if KIND == "prosody":
        server("restart")       # it asks only once
    with Manage("--feature", "urn:f:host", "--bare-feature", "urn:f:bare", "--identity", "pubsub/pep/Ours"):
        alice = user("alice")
        for to, feature in ((HOST, "urn:f:host"), (ALICE, "urn:f:bare")):
            stanza = alice.ask(to, "<query xmlns='%s'/>" % delegation.DISCO)
            assert feature in features(stanza.element[0]), stanza
        stanza = alice.ask(HOST, "<query xmlns='%s'/>" % delegation.DISCO)
        assert ("pubsub", "pep", "Ours") in identities(stanza.element[0]), stanza


def forged():
    """A user plays the server: nothing of that reaches the handler."""
    h = Handler()
    with Manage(handler=h) as m:
        mallory = user("mallory")
        inner = delegation.ask(from_=ALICE)
        for version in 1, 2:
            mallory.send(envelope(inner, "e%d" % version, version=version, from_=mallory.jid))
            assert answered(mallory, "e%d" % version).error == "auth/forbidden"
            mallory.send("<iq xmlns:y='urn:y' y:from='%s' type='set' id='y%d' to='%s'>%s</iq>" % (
                HOST, version, D, re.sub("^<iq[^>]*>|</iq>$", "", envelope(inner, version=version))))
            assert answered(mallory, "y%d" % version).error == "auth/forbidden"
        stanza = mallory.ask(D, "<query xmlns='%s' node='urn:xmpp:delegation:2::urn:test:one'/>" % delegation.DISCO)
        assert stanza.error == "auth/forbidden", stanza
        mallory.send("<message to='%s'><delegation xmlns='urn:xmpp:delegation:2'><delegated namespace='urn:mallory'/></delegation></message>" % D)
        ask(mallory, "good")
        h.answer(h.next())
        assert answered(mallory, "good")["type"] == "result"
        assert "urn:mallory" not in m.stderr


def apostrophes():
    """The largest payload of a user, which the server makes larger still, and an answer that would
    close the stream."""
    h = Handler()
    with Manage(handler=h) as m:
        alice, bob = user("alice"), user("bob")
        ask(alice, "big", content="<query xmlns='urn:test:one'>%s</query>" % ("'" * 120000))
        h.answer(h.next(), "<query xmlns='urn:test:one'>%s</query>" % ("&apos;" * 120000))
        assert answered(alice, "big").error == "modify/policy-violation"
        ask(bob, "b")
        h.answer(h.next())
        assert answered(bob, "b")["type"] == "result"
        assert m.process.poll() is None and "lost" not in m.stderr


def handler_requests():
    h = Handler()
    if KIND == "prosody":
        with Manage("--handler-requests", handler=h):
            alice = user("alice")
            ask(alice, "q")
            request = h.next()
            h.send("<iq type='get' id='mine' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>" % HOST)
            check(h.next(), "<iq type='result' id='mine' from='%s' to='%s'/>" % (HOST, D))
            h.send("<iq type='get' id='mine' to='evil.test'><ping xmlns='urn:xmpp:ping'/></iq>")
            assert h.next()["type"] == "error"
            h.answer(request)
            assert answered(alice, "q")["type"] == "result"
        return
    # ejabberd hands our own request back: it must not reach the handler, nor go round for ever
    with Manage("--handler-requests", handler=h):
        h.send("<iq type='get' id='mine' to='%s'>%s</iq>" % (HOST, QUERY))
        stanza = h.next()
        assert (stanza["id"], stanza["type"]) == ("mine", "error"), stanza


# --- xmpp-delegate

ENT = "deleg2.test"
P = "proxy.test"


class Delegate(Daemon):
    def __init__(self, *options, entity=ENT, domain=P, **more):
        super().__init__("xmpp-delegate", domain, "--delegate", NS + "=" + entity, *options, **more)


class Entity(Component):
    """A managing entity that the test plays: it answers nesting queries and keeps envelopes."""

    def __init__(self, domain=ENT, **more):
        super().__init__(domain, **more)
        self.told = threading.Event()
        self.handler = self._handle

    def _handle(self, stanza):
        if stanza.name == "iq" and stanza["type"] == "get" and stanza.payload == "{%s}query" % delegation.DISCO:
            node = stanza.element[0].get("node")
            self.send("<iq type='result' id=%s from='%s' to='%s'><query xmlns='%s' node='%s'><feature var='urn:ent%s'/></query></iq>"
                      % (quoteattr(stanza["id"]), stanza["to"], stanza["from"], delegation.DISCO, node, ":bare" if ":bare:" in node else ""))
            self.told.set()
            return True
        return stanza.name == "message"

    def envelope(self):
        outer = self.expect_where(lambda s: s.name == "iq" and s["type"] == "set")
        return outer, inner_of(outer)

    def reply(self, outer, inner, content=ANSWER, type="result", version=2, sender=None, **attributes):
        a = {"type": type, "id": inner["id"], "from": inner["to"], "to": inner["from"]}
        a.update(attributes)
        self.send(envelope("<iq xmlns='jabber:client'%s>%s</iq>" % (
            "".join(" %s=%s" % (k, quoteattr(v)) for k, v in a.items() if v is not None), content),
            id=outer["id"], from_=sender or outer["to"], to=outer["from"], version=version, type="result"))


def through_manage():
    share = "--limit", "user-pending=1000"    # all are alice's
    with Manage(*share, hosts=(P,), domain=ENT, advertised=False) as m, Delegate(*share) as d:
        m.wait_stderr("'proxy.test' delegates 'urn:test:one'")
        alice = user("alice")
        for to in P, "x@" + P:
            for type in "get", "set":
                ask(alice, "q", to, type)
                check(answered(alice, "q"), "<iq type='result' id='q' from='%s' to='%s'>%s</iq>" % (to, alice.jid, ANSWER))
        ask(alice, "r", P + "/r")
        assert answered(alice, "r").error == "cancel/service-unavailable"
        for n in range(500):
            ask(alice, "n%d" % n, P)
        assert all(answered(alice, "n%d" % n)["type"] == "result" for n in range(500))
        deadline = time.monotonic() + WAIT_S
        while True:
            info = alice.ask(P, "<query xmlns='%s'/>" % delegation.DISCO)
            if NS in features(info.element[0]):
                break
            again(deadline, "the nested features never came")
        assert "urn:xmpp:delegation:2" in features(info.element[0])


def manage_restarts():
    h = Handler()
    alice = user("alice")
    with Delegate() as d:
        with Manage(hosts=(P,), domain=ENT, advertised=False, handler=h) as m:
            m.wait_stderr("delegates 'urn:test:one'")
            ask(alice, "flying", P)
            h.next()
            m.kill()
        known_as_gone(alice, ENT)
        ask(alice, "gone", P)
        assert answered(alice, "gone").error == "cancel/service-unavailable"
        with Manage(hosts=(P,), domain=ENT, advertised=False) as m:
            served(alice, to=P)         # at once
            m.wait_stderr("delegates 'urn:test:one'")


def dies_holding():
    alice = user("alice")
    with Delegate("--timeout", "2"):
        ent = Entity()
        ask(alice, "held", P)
        ent.envelope()
        ent.cut()
        stanza = answered(alice, "held")
        assert stanza.error in ("wait/remote-server-timeout", "cancel/service-unavailable"), stanza
        ask(alice, "absent", P)
        assert answered(alice, "absent").error == "cancel/service-unavailable"
        ent = Entity()
        ask(alice, "back", P)
        ent.reply(*ent.envelope())
        assert answered(alice, "back")["type"] == "result"
        if not ent.told.wait(WAIT_S):
            raise Mismatch("the entity that came back was never asked what it announces")


def absent():
    with Delegate():
        alice = user("alice")
        ask(alice, "a", P)
        assert answered(alice, "a").error == "cancel/service-unavailable"
        ent = Entity()
        if not ent.told.wait(WAIT_S):
            raise Mismatch("never told")
        ask(alice, "b", P)
        ent.reply(*ent.envelope())
        assert answered(alice, "b")["type"] == "result"


def bad_answers():
    """Give each bad answer of a managing entity; servers differ in which of them they take."""
    with Delegate() as d:
        ent, alice, bob = Entity(), user("alice"), user("bob")
        third = Component("jat.test")
        f = "<forwarded xmlns='urn:xmpp:forward:0'>%s</forwarded>"
        de = "<delegation xmlns='urn:xmpp:delegation:2'>%s</delegation>"
        iq = "<iq xmlns='jabber:client' type='result' id='%%s' from='proxy.test' to='%s'/>" % alice.jid

        def raw(content):
            return lambda o, i: ent.send("<iq type='result' id='%s' from='%s' to='%s'>%s</iq>" % (o["id"], ENT, P, content % i["id"] if "%s" in content else content))
        wrong = [lambda o, i: ent.reply(o, i, id="other"), lambda o, i: ent.reply(o, i, to=bob.jid), lambda o, i: ent.reply(o, i, type="set"),
                 lambda o, i: ent.reply(o, i, **{"from": BOB}), lambda o, i: ent.reply(o, i, **{"from": "evil.test"}), lambda o, i: ent.reply(o, i, **{"from": None}),
                 lambda o, i: ent.reply(o, i, version=1), lambda o, i: ent.reply(o, i, "<a xmlns='a'/><b xmlns='b'/>"),
                 raw(de % (f % iq.replace(" xmlns='jabber:client'", " xmlns='urn:none'"))), raw(de % (f % iq.replace("<iq", "<message"))),
                 raw(de % (f % "")), raw(""), raw(de % (f % iq) + "<x xmlns='x'/>"), raw(de % (f % (iq.replace("%s", "1") * 2))),
                 lambda o, i: ent.send("<iq type='error' id='%s' from='%s' to='%s'>%s</iq>" % (o["id"], ENT, P, error("cancel/conflict")))]
        for n, give in enumerate(wrong):
            ask(alice, "w%d" % n, P)
            outer, inner = ent.envelope()
            give(outer, inner)
            stanza = answered(alice, "w%d" % n)
            assert stanza.error == "cancel/service-unavailable" and stanza["from"] == P, (n, stanza)
            ent.reply(outer, inner)
            once(alice, "w%d" % n)
        assert d.stderr.count("is wrong") == len(wrong) - 1
        # these must not end the request: an unknown id, another address, a third party, a user
        ask(alice, "stays", P)
        outer, inner = ent.envelope()
        ent.send("<iq type='result' id='unknown' from='%s' to='%s'/>" % (ENT, P))
        ent.reply(outer, inner, sender="x@" + ENT)
        third.send(envelope("<iq xmlns='jabber:client' type='result' id='stays' from='proxy.test' to='%s'/>" % alice.jid,
                            outer["id"], "jat.test", P, type="result"))
        bob.send("<iq type='result' id='%s' to='%s'/>" % (outer["id"], P))
        bob.settle()
        ent.reply(outer, inner)
        check(answered(alice, "stays"), "<iq type='result' id='stays' from='proxy.test' to='%s'>%s</iq>" % (alice.jid, ANSWER))
        ent.reply(outer, inner)
        once(alice, "stays")
        once(bob, "stays", outer["id"])
        ask(alice, "echo", P)
        outer, inner = ent.envelope()
        ent.reply(outer, inner, QUERY + error("cancel/conflict"), "error")
        assert answered(alice, "echo").error == "cancel/conflict"


def clients_manage():
    """A bare client JID: the first resource manages, the next takes over."""
    class Manager(Client):
        def __init__(self, resource):
            super().__init__("carol@%s/%s" % (HOST, resource))
            self.resource, self.told = resource, threading.Event()
            self.handler = self._handle
            self.presence()

        def _handle(self, s):
            if s.name == "presence":
                if s["type"] == "subscribe":
                    self.send("<presence type='subscribed' to='%s'/>" % s["from"])
                return True
            if s.name == "iq" and s.payload == "{%s}query" % delegation.DISCO:
                self.send("<iq type='result' id=%s to='%s'><query xmlns='%s' node='%s'/></iq>" % (
                    quoteattr(s["id"]), s["from"], delegation.DISCO, s.element[0].get("node")))
                self.told.set()
                return True
            if s.name == "iq" and s["type"] == "set" and s.payload.endswith("}delegation"):
                inner = inner_of(s)
                reply = envelope("<iq xmlns='jabber:client' type='result' id=%s from='%s' to='%s'><by xmlns='urn:x'>%s</by></iq>" % (
                    quoteattr(inner["id"]), inner["to"], inner["from"], self.resource), s["id"], "", s["from"], type="result")
                self.send(reply.replace(" from=''", "", 1))
                return True
            return False
    with Delegate(entity="carol@" + HOST):
        first = Manager("c1")
        if not first.told.wait(WAIT_S):
            raise Mismatch("the first client was never asked")
        second, alice = Manager("c2"), user("alice")
        second.settle()
        for n in range(5):
            ask(alice, "a%d" % n, P)
            assert text(answered(alice, "a%d" % n)) == "c1"
        first.presence(type="unavailable")
        first.close()
        if not second.told.wait(WAIT_S):
            raise Mismatch("the second client was never asked")
        ask(alice, "b", P)
        assert text(answered(alice, "b")) == "c2"
        second.close()
        alice.settle()
        deadline = time.monotonic() + WAIT_S
        n = 0
        while answered_error(alice, "c%d" % n) != "cancel/service-unavailable":
            n += 1
            again(deadline, "still served by nobody")
    with Delegate(entity="carol@%s/c3" % HOST):
        third = Manager("c3")
        ask(alice, "full", P)
        assert text(answered(alice, "full")) == "c3"


def answered_error(client, id):
    ask(client, id, P)
    return answered(client, id).error


def delegate_server_restart():
    with Manage(hosts=(P,), domain=ENT, advertised=False) as m, Delegate() as d:
        served(user("alice"), to=P)
        server("restart")
        m.wait_stderr("delegates 'urn:test:one'", 2)
        served(user("alice"), to=P)


def delegate_restart():
    with Manage(hosts=(P,), domain=ENT, advertised=False) as m:
        alice = user("alice")
        with Delegate() as d:
            served(alice, to=P)
            d.kill()
        with Delegate():
            served(alice, to=P)


def delegate_apostrophes():
    """Wrapping makes it larger: the request is refused, the stream stays."""
    with Delegate() as d:
        ent, alice, bob = Entity(), user("alice"), user("bob")
        ask(alice, "big", P, content="<query xmlns='urn:test:one'>%s</query>" % ("'" * 120000))
        assert answered(alice, "big").error == "modify/policy-violation"
        ask(bob, "b", P)
        ent.reply(*ent.envelope())
        assert answered(bob, "b")["type"] == "result"
        assert d.process.poll() is None and "lost" not in d.stderr


def delegate_forged():
    """A user plays the managing entity."""
    with Delegate() as d:
        ent, alice, mallory = Entity(), user("alice"), user("mallory")
        ask(alice, "q", P)
        outer, inner = ent.envelope()
        mallory.send(envelope("<iq xmlns='jabber:client' type='result' id='q' from='proxy.test' to='%s'/>" % alice.jid,
                              outer["id"], mallory.jid, P, type="result"))
        mallory.send(envelope("<iq xmlns='jabber:client' type='result' id='q' from='proxy.test' to='%s'/>" % alice.jid,
                              outer["id"], mallory.jid, P, type="result").replace("<iq ", "<iq xmlns:y='urn:y' y:from='%s' " % ENT, 1))
        mallory.send("<message to='%s'><delegation xmlns='urn:xmpp:delegation:2'><delegated namespace='urn:mallory'/></delegation></message>" % P)
        mallory.settle()
        ent.reply(outer, inner)
        check(answered(alice, "q"), "<iq type='result' id='q' from='proxy.test' to='%s'>%s</iq>" % (alice.jid, ANSWER))
        # an envelope of the user's own is an ordinary request that nobody handles
        mallory.send(envelope(delegation.ask(from_=ALICE), "e", mallory.jid, P))
        assert answered(mallory, "e").error == "cancel/service-unavailable"


def both_with_a_script():
    script = "cat >/dev/null; echo \"<iq type='result'><query xmlns='urn:test:one'>$XMPP_FROM asked $XMPP_TO at $XMPP_HOST</query></iq>\""
    with Manage("--per-request", hosts=(P,), domain=ENT, advertised=False, handler=["sh", "-c", script]), Delegate():
        alice = user("alice")
        ask(alice, "q", "x@" + P)
        assert text(answered(alice, "q")) == "%s asked x@proxy.test at proxy.test" % alice.jid


def otherwise_in_json():
    """--json: a handler in jq answers what is delegated to nobody."""
    echo = '{id, type: "result", payload: [.payload[0] | .children += [{name: "ok"}]]}'
    with Delegate("--json", handler=["jq", "--unbuffered", "-c", echo]):
        alice = user("alice")
        content = "<query xmlns='urn:other' xmlns:p='urn:p' p:a='1' xml:lang='fr'><x xmlns=''>t</x></query>"
        for n, to in enumerate((P, "x@" + P, P + "/res")):
            ask(alice, "j%d" % n, to, content=content)
            check(answered(alice, "j%d" % n), "<iq type='result' id='j%d' from='%s' to='%s'>%s</iq>" % (
                n, to, alice.jid, content.replace("</query>", "<ok/></query>")))
    with Delegate("--json", handler=["jq", "--unbuffered", "-c", '{id, type: "error", error: {type: "auth", condition: "forbidden"}}']):
        ask(alice, "no", P, content=content)
        assert answered(alice, "no").error == "auth/forbidden"
        once(alice, "no", "j0", "j1", "j2")


# --- two instances behind xmpp-share (BEHIND_SHARE is set)

def named(name):
    return ["sed", "-uE", r"s,.* id=['\"]([^'\"]*).*,<iq type='result' id='\1'><query xmlns='urn:test:one'>%s</query></iq>," % name]


def instances(domain, count):
    deadline = time.monotonic() + WAIT_S
    while shares[domain].counters()["instances"] != count:
        again(deadline, "not %d instances" % count)


def two_manage():
    """All envelopes come from the host: with --policy round-robin both instances get their part."""
    with Manage(handler=named("one")) as one, Manage(handler=named("two"), advertised=False) as two:
        two.wait_stderr("delegates 'urn:test:one'\n")     # although the server has said it before
        instances(D, 2)
        alice = user("alice")
        seen = collections.Counter()
        for n in range(20):
            ask(alice, "q%d" % n, (HOST, ALICE)[n % 2])
            seen[text(answered(alice, "q%d" % n))] += 1
        assert set(seen) == {"one", "two"}, seen
        one.kill()
        instances(D, 1)
        for n in range(6):
            ask(alice, "k%d" % n)
            assert text(answered(alice, "k%d" % n)) == "two"


def two_delegates():
    with Manage(hosts=(P,), domain=ENT, advertised=False), Delegate() as one, Delegate():
        instances(P, 2)
        alice = user("alice")
        for n in range(20):
            served(alice, "s%d" % n, (P, "x@" + P)[n % 2])
        deadline = time.monotonic() + WAIT_S
        for n in range(4):                          # both have asked the entity
            while NS not in features(alice.ask(P, "<query xmlns='%s'/>" % delegation.DISCO).element[0]):
                again(deadline, "the nested features never came")
        one.kill()
        instances(P, 1)
        for n in range(6):
            served(alice, "k%d" % n, P)
        once(alice, *["s%d" % n for n in range(20)], *["k%d" % n for n in range(6)])
