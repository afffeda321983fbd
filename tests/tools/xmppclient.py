"""A minimal XMPP client and component for scripted tests: loopback, plain SASL, no TLS.

    alice = Client('alice@vhost.test/a1', port=5222)      # logged in, bound, reading in a thread
    alice.presence()
    alice.send("<iq type='get' id='1' to='proxy.test'><q xmlns='urn:x'/></iq>")
    alice.expect("<iq type='result' id='1' from='proxy.test' to='{}'>...</iq>")
    alice.expect_where(lambda s: s['id'] == '1')           # skips what is something else
    impl.serve(lambda stanza: result(stanza))              # answers requests in its reading thread

Stanzas are stanzas.Stanza; every wait has a deadline and none sleeps. A stanza is complete when its
last byte came: nothing here waits for more input than that.
"""

import base64
import hashlib
import os
import queue
import random
import re
import socket
import threading
import time
from xml.sax.saxutils import quoteattr

from stanzas import Mismatch, check, parse

WAIT_S = float(os.environ.get("WAIT_S", "20"))
_TAG = re.compile(rb"<(/?)([^\s/>]+)(?:[^>\"']|\"[^\"]*\"|'[^']*')*?(/?)>")


def free_port():
    """A port that nobody has, below the range that the kernel gives to outgoing connections: no client takes
    it while its program is away."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


class Closed(Exception):
    """The stream has ended."""


class Header(str):
    """The start tag of a stream."""


class Splitter:
    """Bytes of a stream -> its Header, then stanzas as text. Servers write neither comments nor CDATA."""

    def __init__(self):
        self.restart()

    def restart(self):
        """Begin a new stream (after SASL)."""
        self.buffer = b""
        self.scanned = 0          # every tag that begins before this is counted
        self.begin = 0            # of the stanza that is open
        self.depth = -1           # of the stream header, that is: it did not come yet

    def feed(self, octets):
        """Return the Header and the stanzas that are whole; None stands for the end of the stream."""
        self.buffer += octets
        found, done = [], 0
        while True:
            start = self.buffer.find(b"<", self.scanned)
            if start < 0:
                self.scanned = len(self.buffer)
                break
            self.scanned = start
            match = self.buffer.find(b">", start) >= 0 and _TAG.match(self.buffer, start)
            if not match:
                break
            self.scanned = match.end()
            if match.group(2).startswith(b"?"):
                continue
            if self.depth < 0:
                self.depth = 0
                found.append(Header(match.group().decode()))
                done = match.end()
                continue
            if self.depth == 0:
                if match.group(1):
                    found.append(None)
                    break
                self.begin = start
            self.depth += -1 if match.group(1) else 0 if match.group(3) else 1
            if self.depth == 0:
                found.append(self.buffer[self.begin:match.end()].decode())
                done = match.end()
        if done:
            self.buffer = self.buffer[done:]
            self.scanned -= done
            self.begin = max(0, self.begin - done)
        return found


class Stream:
    """A socket (port: a number, or the path of a unix socket), its stanzas in a queue (or given to a
    handler as they come)."""

    def __init__(self, port, host="127.0.0.1"):
        if isinstance(port, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(port)
        else:
            self.socket = socket.create_connection((host, port), WAIT_S)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(None)
        self.splitter = Splitter()
        self.inbox = queue.Queue()
        self.handler = None
        self.sending = threading.Lock()
        self.jid = None
        self.ids = 0
        self.recent = []
        self.skipped = []         # what expect_where let go
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        try:
            while True:
                octets = self.socket.recv(1 << 18)
                if not octets:
                    break
                for raw in self.splitter.feed(octets):
                    if raw is None:
                        self.inbox.put(None)
                        return
                    stanza = raw if isinstance(raw, Header) else parse(raw)
                    if isinstance(raw, Header) or not (self.handler and self.handler(stanza)):
                        self.inbox.put(stanza)
        except OSError:
            pass
        self.inbox.put(None)

    def send(self, *stanzas):
        octets = "".join(stanzas).encode("utf-8")
        with self.sending:
            self.socket.sendall(octets)

    def next(self, wait_s=None):
        try:
            stanza = self.inbox.get(timeout=WAIT_S if wait_s is None else wait_s)
        except queue.Empty:
            raise Mismatch("%s: nothing came; before: %r" % (self.jid, self.recent[-3:])) from None
        if stanza is None:
            self.inbox.put(None)
            raise Closed("%s: stream closed; before: %r" % (self.jid, self.recent[-3:]))
        self.recent = self.recent[-20:] + [stanza]
        return stanza

    def expect(self, pattern, caught=None):
        return check(self.next(), pattern, caught)

    def expect_where(self, wanted, wait_s=None):
        """Return the next stanza for which wanted(stanza) holds; drop those before it."""
        deadline = time.monotonic() + (WAIT_S if wait_s is None else wait_s)
        while True:
            stanza = self.next(max(0.01, deadline - time.monotonic()))
            if wanted(stanza):
                return stanza
            self.skipped.append(stanza)

    def fresh(self):
        self.ids += 1
        return "t%d" % self.ids

    def serve(self, answer):
        """From now on every iq get/set is given to answer(stanza) in the reading thread; what it
        returns (None: nothing) is sent. Other stanzas go to the inbox."""
        def handle(stanza):
            if stanza.name != "iq" or stanza["type"] not in ("get", "set"):
                return False
            reply = answer(stanza)
            if reply:
                self.send(reply)
            return True
        self.handler = handle

    def close(self):
        """End the stream in order."""
        try:
            self.send("</stream:stream>")
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self.reader.join(WAIT_S)
        self.socket.close()

    def cut(self):
        """Break the connection."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


class Client(Stream):
    """A logged-in client; the resource is the server's where the JID has none."""

    def __init__(self, jid, port=None, password="pw", resource=None):
        super().__init__(port or int(os.environ["C2S_PORT"]))
        bare, _, asked = jid.partition("/")
        self.bare, self.jid = bare, jid
        user, _, self.host = bare.partition("@")
        self._open()
        plain = base64.b64encode(("\0%s\0%s" % (user, password)).encode()).decode()
        self.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>" % plain)
        stanza = self.next()
        if not stanza.name.endswith("}success"):
            raise Mismatch("login of %s: %r" % (bare, stanza))
        self._open()
        wanted = resource if resource is not None else asked
        self.send("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>%s</bind></iq>"
                  % ("<resource>%s</resource>" % quoteattr(wanted)[1:-1] if wanted else ""))
        bound = self.next()
        if bound["type"] != "result":
            raise Mismatch("bind of %s: %r" % (jid, bound))
        self.jid = bound.element[0][0].text

    def _open(self):
        self.splitter.restart()
        self.send("<?xml version='1.0'?><stream:stream xmlns='jabber:client' to='%s' version='1.0' "
                  "xmlns:stream='http://etherx.jabber.org/streams'>" % self.host)
        header = self.next()
        if not isinstance(header, Header):
            raise Mismatch("no stream header: %r" % header)
        features = self.next()
        if not features.name.endswith("}features"):
            raise Mismatch("no features: %r" % features)

    def presence(self, content="", to=None, type=None):
        self.send("<presence%s%s>%s</presence>" % (" to='%s'" % to if to else "",
                                                   " type='%s'" % type if type else "", content))

    def settle(self):
        """Wait until the server has dealt with all that we sent: it answers in order."""
        id = self.fresh()
        self.send("<iq type='get' id='%s' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>" % (id, self.host))
        got = []
        while True:
            stanza = self.next()
            if stanza["id"] == id and stanza.name == "iq":
                return got
            got.append(stanza)

    def ask(self, to, payload="<q xmlns='urn:x'/>", kind="get", wait_s=None):
        """Send a request; return its answer, from whatever address."""
        id = self.fresh()
        self.send("<iq type='%s' id='%s' to=%s>%s</iq>" % (kind, id, quoteattr(to), payload))
        return self.expect_where(lambda s: s.name == "iq" and s["id"] == id and s["type"] in ("result", "error"),
                                 wait_s)


class Component(Stream):
    """An XEP-0114 component."""

    def __init__(self, domain, port=None, secret="secret"):
        super().__init__(port or int(os.environ["COMPONENT_PORT"]))
        self.jid = domain
        self.send("<stream:stream xmlns='jabber:component:accept' to='%s' "
                  "xmlns:stream='http://etherx.jabber.org/streams'>" % domain)
        header = self.next()
        stream_id = re.search(r"\bid=[\"']([^\"']*)", header).group(1)
        self.send("<handshake>%s</handshake>" % hashlib.sha1((stream_id + secret).encode()).hexdigest())
        handshake = self.next()
        if not handshake.name.endswith("handshake"):
            raise Mismatch("handshake of %s: %r" % (domain, handshake))


def result(request, content=""):
    """Return the text of a result to a request."""
    return "<iq type='result' id=%s to=%s>%s</iq>" % (
        quoteattr(request["id"]), quoteattr(request["from"]), content)
