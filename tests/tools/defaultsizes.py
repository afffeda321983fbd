"""Tables filled with ordinary requests at default options, and the counting of their answers.

Each scenario is one function: it plays the XMPP server of one program, fills its table with N
(--requests, 65 000) requests of some hundred users - ids are UUIDs, addresses have 45 bytes, stanzas 450 -
and lets happen what makes all of them due at once. Each request must get exactly one answer, by the
address that was asked, to the user who asked. The last line of a scenario says the figures.

    defaultsizes.py [--requests N] [--timeout S] SCENARIO...

Needs nothing but the programs in $PATH. With --timeout the deadline is not the default, so that CI need not wait.
"""

import argparse
import collections
import hashlib
import os
import re
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from xml.parsers import expat

WAIT_S = float(os.environ.get("WAIT_S", "20")) + 40
CONDITIONS = "urn:ietf:params:xml:ns:xmpp-stanzas"
DOMAIN, HOST = "service.test", "vhost.test"
IMPL = "impl@clients.test"
SECRET = "secret"
QUERY = "<query xmlns='urn:test:one'><item node='princely_musings'>%s</item></query>"

options = argparse.Namespace(requests=65000, timeout=None)
Stanza = collections.namedtuple("Stanza", "name attributes inner conditions")


class Splitter:
    """Cuts a stream into stanzas and keeps what the books need: attributes of the root and of an inner
    iq, error conditions."""

    def __init__(self):
        self.found = []
        self.depth = 0
        self.header = None
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.buffer_text = True

    def start(self, name, attributes):
        self.depth += 1
        if self.depth == 1:
            self.header = attributes
        elif self.depth == 2:
            self.current = Stanza(name, attributes, [], [])
        elif name == "iq":
            self.current.inner.append(attributes)
        elif attributes.get("xmlns") == CONDITIONS and name != "text":
            self.current.conditions.append(name)

    def end(self, name):
        self.depth -= 1
        if self.depth == 1:
            self.found.append(self.current)

    def take(self, octets):
        self.parser.Parse(octets)
        found, self.found = self.found, []
        return found


class Peer:
    """One end of a component stream. Reads whatever comes while it writes, so that neither side waits."""

    def __init__(self, connection):
        self.socket = connection
        self.socket.setblocking(False)
        self.splitter = Splitter()
        self.read = collections.deque()
        self.closed = False

    def pump(self, outgoing=None, wait_s=0.1):
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ | (selectors.EVENT_WRITE if outgoing else 0))
            written = 0
            for _, events in selector.select(wait_s):
                if events & selectors.EVENT_READ:
                    octets = self.socket.recv(1 << 18)
                    self.closed = not octets
                    self.read.extend(self.splitter.take(octets))
                if events & selectors.EVENT_WRITE:
                    written = self.socket.send(outgoing[:1 << 18])
        return written

    def send(self, text):
        view = memoryview(text.encode())
        while view:
            view = view[self.pump(view):]

    def until(self, condition, what):
        """Read until the condition holds."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert not self.closed, "the stream ended: " + what
            assert time.monotonic() < deadline, "waited in vain: %s; have %d" % (what, len(self.read))
            self.pump()

    def next(self):
        self.until(lambda: self.read, "a stanza")
        return self.read.popleft()

    def count(self, n):
        """Return the next n stanzas."""
        self.until(lambda: len(self.read) >= n, "%d stanzas" % n)
        return [self.read.popleft() for _ in range(n)]

    def nothing(self, address):
        """Assert that no answer comes of what was sent. A request with an id of 1024 bytes, which is refused
        at once, shows that all before it is decided."""
        id = "barrier".ljust(1024, "x")
        self.send("<iq type='get' id='%s' from='barrier.test' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>" % (id, address))
        while (stanza := self.next()).attributes.get("id") != id:
            assert stanza.name != "iq" or stanza.attributes["type"] == "get", "nothing expected, got %r" % (stanza,)


class Program:
    """A program under test and the server that it is connected to."""

    def __init__(self, name, *arguments, **pipes):
        self.name = name
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(WAIT_S)
        self.errors = tempfile.TemporaryFile("w+b")
        with open("secret", "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as f:
            f.write(SECRET)
        deadline = ["--timeout", str(options.timeout)] if options.timeout else []
        command = [name, "--connect", "127.0.0.1:%d" % self.listener.getsockname()[1], "--secret-file", "secret"]
        self.process = subprocess.Popen([*command, *deadline, *arguments], stderr=self.errors,
                                        **(pipes or {"stdin": subprocess.DEVNULL}))
        try:
            self.accept()
        except TimeoutError:
            self.__exit__(True, None, None)
            raise

    def accept(self):
        connection, _ = self.listener.accept()
        self.peer = Peer(connection)
        self.peer.until(lambda: self.peer.splitter.header, "a stream header")
        self.peer.send("<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' "
                       "id='i' from='%s'>" % self.peer.splitter.header["to"])
        assert self.peer.next().name == "handshake"
        self.peer.send("<handshake/>")
        return self.peer

    def stderr(self):
        # the program writes at the same place in the file, which must not move
        descriptor = self.errors.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")

    def wait_stderr(self, pattern):
        self.peer.until(lambda: re.search(pattern, self.stderr()), pattern)

    def open_requests(self):
        before = self.stderr().count(" open_requests=")
        self.process.send_signal(signal.SIGUSR1)
        self.peer.until(lambda: self.stderr().count(" open_requests=") > before, "counters")
        return int(re.findall(r" open_requests=(\d+)", self.stderr())[-1])

    def sleep_beyond(self, default):
        """Stop the program until all deadlines have passed: then it handles them in one turn."""
        self.process.send_signal(signal.SIGSTOP)
        time.sleep((options.timeout or default) + 1)
        self.process.send_signal(signal.SIGCONT)

    def cut(self, default):
        """Cut the link, and restore it only after all deadlines."""
        self.peer.socket.close()
        time.sleep((options.timeout or default) + 1)
        return self.accept()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.kill()
        self.process.wait()
        if kind:
            print(re.sub(r".* open_requests=.*\n", "", self.stderr())[-2000:], file=sys.stderr)


def user(n, hosts=1):
    """The address of one of some hundred users, each with far less than its share; 45 bytes."""
    return ("user%05d@%s/phone." % (n % 800, HOST if hosts == 1 else "%c.%s" % (ord("a") + n % hosts, HOST))).ljust(45, "r")


class Books:
    """Which user asked what, and what became of it."""

    def __init__(self, asked=DOMAIN, hosts=1):
        self.asked = asked
        self.open = {str(uuid.uuid4()): user(n, hosts) for n in range(options.requests)}
        self.answers = collections.Counter()
        self.begun = time.monotonic()

    def stanzas(self, to, wrap="%s", kind="get"):
        for id, from_ in self.open.items():
            head = "<iq type='%s' id='%s' from='%s' to='%s'>" % (kind, id, from_, to)
            yield wrap % (head + QUERY % "").replace("></item>", ">%s</item>" % ("x" * max(0, 450 - len(wrap) - len(head) - len(QUERY)))) + "</iq>"

    def answered(self, attributes, conditions):
        """Count one answer to a user."""
        id = attributes["id"]
        assert id in self.open, "a second answer, or one to nobody: %r" % (attributes,)
        assert attributes["to"] == self.open.pop(id), attributes
        assert attributes["from"] == self.asked, attributes
        assert (attributes["type"] == "error") == bool(conditions), attributes
        self.answers[conditions[0] if conditions else attributes["type"]] += 1

    def settled(self, name, peer, allowed, inner=False):
        """Read until nothing is open; assert that all answers are of these kinds."""
        while self.open:
            stanza = peer.next()
            if stanza.name == "iq" and stanza.attributes["type"] in ("result", "error"):
                self.answered(stanza.inner[0] if inner else stanza.attributes, stanza.conditions)
        peer.nothing(DOMAIN if inner else self.asked)
        assert set(self.answers) <= set(allowed), self.answers
        assert self.answers[allowed[0]] > sum(self.answers.values()) * 0.8, self.answers
        print("%s: %d requests, one answer each (%s), %.1f s" % (
            name, sum(self.answers.values()), ", ".join("%s %d" % a for a in self.answers.most_common()),
            time.monotonic() - self.begun), flush=True)


# --- all programs

TIMED_OUT = ["remote-server-timeout", "resource-constraint"]


def times_out(program, filled, timeout_s=30, **books_are):
    with program:
        books = filled(program)
        program.sleep_beyond(timeout_s)
        books.settled(program.name + ", all time out", program.peer, TIMED_OUT, **books_are)


def reconnects(program, filled, timeout_s=30, **books_are):
    with program:
        books = filled(program)
        before = list(program.peer.read)
        peer = program.cut(timeout_s)
        peer.read.extendleft(before)
        books.settled(program.name + ", the link comes back after the deadlines", peer, TIMED_OUT, **books_are)


# --- xmpp-manage

def envelope(n):
    return ("<iq type='set' id='o%d' from='%s' to='%s'><delegation xmlns='urn:xmpp:delegation:2'><forwarded "
            "xmlns='urn:xmpp:forward:0'>%%s</forwarded></delegation></iq>" % (n, HOST, DOMAIN))


def manage(handler, *arguments):
    return Program("xmpp-manage", "--domain", DOMAIN, "--host", HOST, "--namespace", "urn:test:one", *arguments,
                   "--", "sh", "-c", handler)


def manage_filled(program):
    books = Books(HOST)
    inner = books.stanzas(HOST)
    program.peer.send("".join(envelope(n) % iq.replace("<iq ", "<iq xmlns='jabber:client' ", 1)
                              for n, iq in enumerate(inner)))
    program.peer.until(lambda: program.open_requests() + len(program.peer.read) >= options.requests, "all read")
    return books


def manage_handler_dies():
    with manage("echo $$ >handler.pid; cat >/dev/null; exit") as program:
        books = manage_filled(program)
        with open("handler.pid", encoding="ascii") as f:
            os.kill(int(f.read()), signal.SIGKILL)
        books.settled("xmpp-manage, its handler dies", program.peer,
                      ["internal-server-error", "resource-constraint"], inner=True)


def manage_times_out():
    times_out(manage("cat >/dev/null; exit"), manage_filled, 25, inner=True)


def manage_reconnects():
    reconnects(manage("cat >/dev/null; exit"), manage_filled, 25, inner=True)


# --- xmpp-jat-proxy

def proxy(*arguments):
    program = Program("xmpp-jat-proxy", "--domain", DOMAIN, "--target", IMPL, *arguments)
    assert program.peer.next().attributes["type"] == "subscribe"
    return program


def online(peer, *resources):
    peer.send("".join("<presence from='%s/%s' to='%s'/>" % (IMPL, r, DOMAIN) for r in resources))


def proxy_filled(program, kind="get"):
    """books.held: the requests that the session has then, by the id that it got."""
    online(program.peer, "a")
    books = Books(hosts=8)  # of each at most a quarter of the table
    program.peer.send("".join(books.stanzas(DOMAIN, kind=kind)))
    books.held = {}
    for stanza in program.peer.count(options.requests):
        if stanza.attributes["type"] == "error":
            books.answered(stanza.attributes, stanza.conditions)
        else:
            assert stanza.attributes["to"] == IMPL + "/a", stanza
            books.held[stanza.attributes["id"]] = stanza.attributes
    return books


def leave(peer, resource):
    peer.send("<presence type='unavailable' from='%s/%s' to='%s'/>" % (IMPL, resource, DOMAIN))


def proxy_last_session_leaves():
    with proxy() as program:
        books = proxy_filled(program, "set")
        leave(program.peer, "a")
        books.settled("xmpp-jat-proxy, the only session leaves", program.peer,
                      ["recipient-unavailable", "resource-constraint"])


def proxy_session_leaves_another():
    with proxy("--policy", "least-pending") as program:
        books = proxy_filled(program)
        online(program.peer, "b")
        leave(program.peer, "a")
        again = {}
        for stanza in program.peer.count(len(books.held)):
            a = stanza.attributes
            assert a["type"] == "get" and a["to"] == IMPL + "/b" and a["id"] not in again, stanza
            again[a["id"]] = a
        program.peer.send("".join("<iq type='result' id='%s' from='%s' to='%s'/>" % (a["id"], a["to"], a["from"])
                                  for a in again.values()))
        books.settled("xmpp-jat-proxy, one session of two leaves", program.peer, ["result", "resource-constraint"])


def proxy_times_out():
    times_out(proxy("--try-timeout", "0"), proxy_filled)


def proxy_reconnects():
    reconnects(proxy(), proxy_filled)


def proxy_tells_subscribers():
    count = min(options.requests, 10000)
    with proxy("--show-presence") as program:
        peer = program.peer
        begun = time.monotonic()
        everybody = {"user%05d@%s" % (n, HOST) for n in range(count)}
        peer.send("".join("<presence type='subscribe' from='%s' to='x@%s'/>" % (u, DOMAIN) for u in everybody))
        assert {s.attributes["to"] for s in peer.count(count)} == everybody
        for stanza, type in (("<presence from='%s/a' to='%s'/>" % (IMPL, DOMAIN), None),
                             ("<presence type='unavailable' from='%s/a' to='%s'/>" % (IMPL, DOMAIN), "unavailable")):
            peer.send(stanza)
            told = peer.count(count)
            assert {s.attributes["to"] for s in told} == everybody
            assert {s.attributes.get("type") for s in told} == {type}
        peer.nothing(DOMAIN)
        print("xmpp-jat-proxy: %d subscribers told once that the target came and that it went, %.1f s" % (
            count, time.monotonic() - begun), flush=True)


# --- xmpp-delegate

def delegate(*arguments):
    return Program("xmpp-delegate", "--domain", HOST, *arguments)


def delegate_filled(program, ns="urn:test:one"):
    """Send all requests; read until each is at the client or refused."""
    books = Books(HOST)
    program.peer.send("".join(s.replace("urn:test:one", ns) for s in books.stanzas(HOST)))
    program.peer.until(lambda: program.open_requests() + sum(
        s.attributes.get("type") == "error" for s in program.peer.read) >= options.requests, "all read")
    return books


def managing_client(*arguments):
    program = delegate("--delegate", "urn:test:one=" + IMPL, *arguments)
    program.peer.send("<presence from='%s/a' to='%s'/>" % (IMPL, HOST))
    program.peer.until(lambda: any(s.inner or s.name == "message" for s in program.peer.read), "an advertisement")
    return program


def delegate_entity_leaves():
    with managing_client() as program:
        books = delegate_filled(program)
        program.peer.send("<presence type='unavailable' from='%s/a' to='%s'/>" % (IMPL, HOST))
        books.settled("xmpp-delegate, its entity leaves", program.peer, ["service-unavailable", "resource-constraint"])


def delegate_times_out():
    times_out(managing_client("--try-timeout", "0"), delegate_filled)


def delegate_reconnects():
    reconnects(managing_client(), delegate_filled)


def delegate_handler_dies():
    with delegate("--delegate", "urn:unused=nobody.test", "--", "sh", "-c", "echo $$ >handler.pid; cat >/dev/null; exit") as program:
        books = delegate_filled(program, "urn:other")
        with open("handler.pid", encoding="ascii") as f:
            os.kill(int(f.read()), signal.SIGKILL)
        books.settled("xmpp-delegate, OTHERWISE dies", program.peer, ["internal-server-error", "resource-constraint"])


# --- xmpp-share

class Instance(Peer):
    def __init__(self, port):
        super().__init__(socket.create_connection(("127.0.0.1", port)))
        self.send("<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' "
                  "to='%s'>" % DOMAIN)
        self.until(lambda: self.splitter.header, "a stream header")
        proof = hashlib.sha1((self.splitter.header["id"] + SECRET).encode()).hexdigest()
        self.send("<handshake>%s</handshake>" % proof)
        assert self.next().name == "handshake"


def share(*arguments):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    program = Program("xmpp-share", "--domain", DOMAIN, "--listen", "127.0.0.1:%d" % port, *arguments)
    program.port = port
    return program


def both(program, instance, condition, view=None):
    """Read, and write to the server's side, until the condition holds."""
    deadline = time.monotonic() + WAIT_S
    while view or not condition():
        view = view and view[program.peer.pump(view, 0):]
        program.peer.pump(wait_s=0)
        instance.pump(wait_s=0.001)
        assert time.monotonic() < deadline, (len(program.peer.read), len(instance.read))


def share_filled(program, kind="get"):
    first = Instance(program.port)
    books = Books(hosts=8)  # no host is its own: of each a quarter of the table
    books.first = first
    view = memoryview("".join(books.stanzas(DOMAIN, kind=kind)).encode())
    both(program, first, lambda: len(first.read) + len(program.peer.read) >= options.requests, view)
    return books


def share_last_instance_leaves():
    with share() as program:
        books = share_filled(program, "set")
        books.first.socket.close()
        books.settled("xmpp-share, the only instance leaves", program.peer,
                      ["recipient-unavailable", "resource-constraint"])


def share_instance_leaves_another():
    with share() as program:
        books = share_filled(program)
        held = len(books.first.read)
        second = Instance(program.port)
        books.first.socket.close()
        both(program, second, lambda: len(second.read) + len(program.peer.read) >= held)
        again = {s.attributes["id"]: s.attributes for s in second.read}
        second.send("".join("<iq type='result' id='%s' from='%s' to='%s'/>" % (a["id"], a["to"], a["from"])
                            for a in again.values()))
        books.settled("xmpp-share, one instance of two leaves", program.peer, ["result", "resource-constraint"])


def share_times_out():
    times_out(share("--try-timeout", "0"), share_filled)


def share_reconnects():
    reconnects(share(), share_filled)


# --- roster-apply

def apply_withdraws():
    """2000 contacts of one user are removed while 100 000 users are online: others are answered meanwhile."""
    count, online_count = 2000, 99990
    with Program("roster-apply", "--domain", DOMAIN, "--host", HOST, "--on-behalf", "--max-removals", "none",
                 stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        peer = program.peer
        peer.send("<message from='%s' to='%s'><privilege xmlns='urn:xmpp:privilege:2'><perm access='roster' "
                  "type='both'/><perm access='presence' type='managed_entity'/></privilege></message>" % (HOST, DOMAIN))
        contacts = ["user%06d@%s" % (n, HOST) for n in range(online_count)]
        peer.send("".join("<presence from='%s/phone' to='%s'/>" % (c, DOMAIN) for c in ["alice@" + HOST] + contacts))
        peer.nothing(DOMAIN)
        program.process.stdin.write(b'{"user":"alice","status":"ok","roster":{}}\n')
        program.process.stdin.close()
        begun, removed, pings, longest_s = time.monotonic(), set(), {}, 0.0
        while not select.select([program.process.stdout], [], [], 0)[0]:
            now = time.monotonic()
            assert now < begun + WAIT_S, "no result"
            if len(pings) < 100:
                pings[str(uuid.uuid4())] = now
                peer.send("<iq type='get' id='%s' from='x.test' to='%s'><q xmlns='urn:x'/></iq>" % ([*pings][-1], DOMAIN))
            peer.pump(wait_s=0.005)
            while peer.read:
                name, a = peer.read.popleft()[:2]
                if name != "iq":
                    continue
                if a["type"] in ("result", "error"):
                    longest_s = max(longest_s, time.monotonic() - pings.pop(a["id"]))
                    continue
                items = contacts[:count] if a["to"].startswith("alice@") else ["alice@" + HOST]
                if a["type"] == "set":
                    items = []
                    removed.add(a["id"])
                peer.send("<iq type='result' id='%s' from='%s' to='%s'><query xmlns='jabber:iq:roster'>%s</query></iq>" % (
                    a["id"], a["to"], a["from"], "".join("<item jid='%s' subscription='both'/>" % i for i in items)))
        result = program.process.stdout.readline().decode()
        assert '"removed":%d}' % count in result, result
        assert len(removed) >= count
        print("roster-apply: %d contacts withdrawn in %.1f s with %d users online, the longest wait of others %.2f s"
              % (count, time.monotonic() - begun, online_count + 1, longest_s), flush=True)
        assert longest_s < 2


SCENARIOS = [manage_handler_dies, manage_times_out, manage_reconnects,
             proxy_last_session_leaves, proxy_session_leaves_another, proxy_times_out, proxy_reconnects,
             proxy_tells_subscribers,
             delegate_entity_leaves, delegate_times_out, delegate_reconnects, delegate_handler_dies,
             share_last_instance_leaves, share_instance_leaves_another, share_times_out, share_reconnects,
             apply_withdraws]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=65000)
    parser.add_argument("--timeout", type=int)
    parser.add_argument("scenario", nargs="*")
    parser.parse_args(namespace=options)
    for scenario in SCENARIOS:
        if not options.scenario or scenario.__name__ in options.scenario:
            scenario()


if __name__ == "__main__":
    main()
