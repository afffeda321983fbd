"""Drives a stanza filter from a test: lines in, lines out, each with a deadline, never a sleep.

    with Proxy('--timeout', '2') as p:          # xmpp-jat-proxy --domain proxy.test --target impl@vhost.test
        p.expect("<presence type='subscribe' to='impl@vhost.test' from='proxy.test'/>")
        p.send("<presence from='impl@vhost.test/r1' to='proxy.test'/>")
        p.nothing()                             # all it was sent is decided, nothing came of it
        asked = p.ask('1', 'alice@vhost.test/a1')
        ...
    # leaving the block: end of input, exit status 0, nothing but errors for open requests left

Every test of the filter mode is a few lines of this, run by `scenario` in the bats files.
"""

import atexit
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
from xml.sax.saxutils import quoteattr

from stanzas import Mismatch, check, matches, parse

WAIT_S = float(os.environ.get("WAIT_S", "20"))
ALICE = "alice@vhost.test/a1"
BOB = "bob@vhost.test/b1"
IMPL = "impl@vhost.test"


class Filter:
    """A running filter. stdout is read as it comes, so that neither side can block the other."""

    def __init__(self, *command, env=None, stdout=None):
        self.command = command
        self.stderr_file = tempfile.NamedTemporaryFile("w+b", dir=".", suffix=".err", delete=False)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=stdout or subprocess.PIPE,
            stderr=self.stderr_file, env=dict(os.environ, **(env or {})), bufsize=0)
        atexit.register(self._reap)
        self.buffer = b""
        self.closed = False
        self.barriers = 0
        self.seen = []
        self.expected_status = 0
        os.set_blocking(self.process.stdin.fileno(), False)
        if self.process.stdout:
            os.set_blocking(self.process.stdout.fileno(), False)

    # --- words on stderr

    @property
    def stderr(self):
        with open(self.stderr_file.name, encoding="utf-8", errors="surrogateescape") as f:
            return f.read()

    def wait_stderr(self, text, count=1):
        """Wait until stderr holds the text."""
        deadline = time.monotonic() + WAIT_S
        while self.stderr.count(text) < count:
            self._pump(deadline, 0.02)
            if time.monotonic() > deadline:
                raise Mismatch("stderr never said %r: %s" % (text, self.stderr))

    def counters(self):
        """What SIGUSR1 prints: {'requests': 3, 'dropped{reason="late"}': 1, ...}."""
        before = len(re.findall("^xmpp-[a-z-]+: open_requests=", self.stderr, re.M))
        self.signal(signal.SIGUSR1)
        deadline = time.monotonic() + WAIT_S
        while True:
            lines = re.findall(r"^xmpp-[a-z-]+: (open_requests=.*)\n", self.stderr, re.M)
            if len(lines) > before:
                return {name: int(value) for name, value in re.findall(r"(\S+)=(\d+)(?: |$)", lines[-1])}
            self._pump(deadline, 0.02)
            if time.monotonic() > deadline:
                raise Mismatch("no counters: %s" % self.stderr)

    # --- bytes

    def _pump(self, deadline, at_most_s=None, outgoing=None):
        """Wait once for readable (and writable) pipes; return how much of outgoing was written."""
        selector = selectors.DefaultSelector()
        if not self.closed:
            selector.register(self.process.stdout, selectors.EVENT_READ)
        if outgoing:
            selector.register(self.process.stdin, selectors.EVENT_WRITE)
        left = max(0.0, deadline - time.monotonic())
        written = 0
        for key, _ in selector.select(left if at_most_s is None else min(left, at_most_s)):
            if key.fileobj is self.process.stdin:
                written = os.write(self.process.stdin.fileno(), outgoing[:65536])
            else:
                got = os.read(self.process.stdout.fileno(), 1 << 20)
                self.buffer += got
                self.closed = not got
        selector.close()
        return written

    def send_bytes(self, octets):
        view = memoryview(octets)
        deadline = time.monotonic() + WAIT_S
        while view:
            written = self._pump(deadline, outgoing=view)
            view = view[written:]
            if not written and time.monotonic() > deadline:
                raise Mismatch("the filter does not read")

    def send(self, *stanzas):
        self.send_bytes("".join(s + "\n" for s in stanzas).encode("utf-8", "surrogateescape"))

    # --- stanzas

    def next(self, wait_s=None):
        """Return the next stanza on stdout."""
        deadline = time.monotonic() + (WAIT_S if wait_s is None else wait_s)
        while b"\n" not in self.buffer:
            if self.closed:
                raise Mismatch("the filter closed its output; stderr: %s" % self.stderr)
            if time.monotonic() > deadline:
                raise Mismatch("no stanza came; before: %r; stderr: %s" % (self.seen[-3:], self.stderr))
            self._pump(deadline)
        line, self.buffer = self.buffer.split(b"\n", 1)
        stanza = parse(line.decode("utf-8"))
        self.seen.append(stanza)
        return stanza

    def expect(self, *patterns, **caught):
        """Assert that the next stanzas are these, in this order; return what their {names} stood for."""
        for pattern in patterns:
            check(self.next(), pattern, caught)
        return caught

    def expect_any(self, *patterns, **caught):
        """Assert that the next stanzas are these, in any order."""
        left = list(patterns)
        while left:
            stanza = self.next()
            for pattern in left:
                if matches(stanza, pattern, caught):
                    left.remove(pattern)
                    break
            else:
                raise Mismatch("unexpected: %r\n  expected one of: %s" % (stanza, "\n  ".join(left)))
        return caught

    def error(self, error, id, to, from_, kind="iq"):
        """Assert that the next stanza is this error; error is 'type/condition'."""
        type_, condition = error.split("/")
        id_ = "" if id is None else " id='%s'" % id
        return self.expect("<%s type='error'%s to='%s' from='%s'><error type='%s'><%s/></error></%s>"
                           % (kind, id_, to, from_, type_, condition, kind))

    def drain(self):
        """Return all stanzas that answer what was sent so far: send a foreign stanza, read until it comes out."""
        self.barriers += 1
        barrier = "<message to='barrier.test' id='barrier-%d'/>" % self.barriers
        self.send(barrier)
        got = []
        while True:
            stanza = self.next()
            if stanza.raw == barrier:
                return got
            got.append(stanza)

    def nothing(self):
        got = self.drain()
        if got:
            raise Mismatch("nothing expected, got: %r" % got)

    # --- the end

    def signal(self, number):
        self.process.send_signal(number)

    def eof(self):
        self.process.stdin.close()

    def rest(self):
        """Return what still comes until the filter closes its output."""
        got = []
        deadline = time.monotonic() + WAIT_S
        while not self.closed or b"\n" in self.buffer:
            if b"\n" in self.buffer:
                got.append(self.next())
            else:
                self._pump(deadline)
                if time.monotonic() > deadline:
                    raise Mismatch("the filter does not end")
        if self.buffer:
            raise Mismatch("unfinished line: %r" % self.buffer)
        return got

    def end(self, status=0):
        """End its input, assert its exit status, return the last stanzas."""
        if not self.process.stdin.closed:
            self.eof()
        return self.ended(status)

    def ended(self, status=0):
        got = self.rest()
        self.process.wait(WAIT_S)
        if self.process.returncode != status:
            raise Mismatch("exit status %s, not %s: %s" % (self.process.returncode, status, self.stderr))
        return got

    def _reap(self):
        """End the process, however the test has ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_S)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None and self.process.returncode is None:
                for stanza in self.end(self.expected_status):
                    if stanza.error != "wait/recipient-unavailable":
                        raise Mismatch("nobody expected %r" % stanza)
        finally:
            self._reap()
            if kind is not None:
                print("--- stdout", *self.seen[-10:], sep="\n")
                print("--- stderr", self.stderr, sep="\n")


class Proxy(Filter):
    """xmpp-jat-proxy as a filter for proxy.test, its subscribe already read."""

    def __init__(self, *options, targets=(IMPL,), domain="proxy.test", subscribe=True, **more):
        command = ["xmpp-jat-proxy", "--domain", domain]
        for target in targets:
            command += ["--target", target]
        super().__init__(*command, *options, **more)
        self.domain = domain
        if subscribe:
            self.expect_any(*("<presence type='subscribe' to='%s' from='%s'/>" % (t, domain)
                              for t in targets))

    def online(self, *resources, target=IMPL, extra=""):
        """Let sessions of the target appear."""
        self.send(*("<presence from='%s/%s' to='%s'>%s</presence>" % (target, r, self.domain, extra)
                    for r in resources))
        self.nothing()

    def leave(self, *jids):
        self.send(*("<presence type='unavailable' from='%s' to='%s'/>" % (j, self.domain) for j in jids))

    def gone(self, ids):
        """Their session has left: each of these sets gets its one error."""
        left = set(ids)
        while left:
            stanza = self.next()
            assert stanza.error == "wait/recipient-unavailable", stanza
            left.remove(stanza["id"])

    def send_request(self, id, user=ALICE, to=None, kind="get"):
        self.send("<iq type='%s' id='%s' from=%s to='%s'><query xmlns='urn:x'/></iq>"
                  % (kind, id, quoteattr(user), to or self.domain))

    def got_request(self, id, session="{session}", kind="get"):
        """The next stanza is this request, sent on to a session; it (token under 'from')."""
        stanza = self.next()
        check(stanza, "<iq type='%s' id='%s' from='%s/{}' to='%s'><query xmlns='urn:x'/></iq>"
              % (kind, id, self.domain, session))
        return stanza

    def ask(self, id, user=ALICE, to=None, kind="get", session="{session}"):
        self.send_request(id, user, to, kind)
        return self.got_request(id, session, kind)

    def answer(self, request, from_=None, content="<ok xmlns='urn:x'/>"):
        """Return the implementing client's result to a request that it got."""
        self.send("<iq type='result' id=%s from=%s to=%s>%s</iq>"
                  % (quoteattr(request["id"]), quoteattr(from_ or request["to"]), quoteattr(request["from"]), content))

    def bounce(self, request, condition="service-unavailable", type_="cancel", from_=None):
        self.send("<iq type='error' id=%s from=%s to=%s><error type='%s'><%s "
                  "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
                  % (quoteattr(request["id"]), quoteattr(from_ or request["to"]), quoteattr(request["from"]),
                     type_, condition))

    def answered(self, id, user=ALICE, from_=None, content="<ok xmlns='urn:x'/>"):
        self.expect("<iq type='result' id='%s' from='%s' to=%s>%s</iq>"
                    % (id, from_ or self.domain, quoteattr(user), content))

    def served(self, id, user=ALICE, to=None, kind="get", session="{session}"):
        """Do a whole round trip."""
        request = self.ask(id, user, to, kind, session)
        self.answer(request)
        self.answered(id, user, to)
        return request


def decode(token, key_file, domain="proxy.test", asked=None):
    """Return what jat-decode makes of an address."""
    command = ["jat-decode", "--domain", domain, "--key-file", key_file]
    if asked:
        command += ["--asked", asked]
    return subprocess.run(command + [token], check=True, capture_output=True,
                          text=True).stdout.rstrip("\n")
