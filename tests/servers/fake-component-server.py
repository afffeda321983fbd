#!/usr/bin/env python3
"""A component port (XEP-0114) that misbehaves on command.

    fake-component-server.py [--port N] [--secret S] [--timeout S] [--forever] SCRIPT...

Each SCRIPT is what happens on one connection, in the order they come in (they may overlap);
with --forever the last one serves all that follow. Without it the server ends when the last
script has: status 0, or 1 if any `expect` waited in vain, which it says on stderr.
Prints "port N" once it listens, then a line per event ("connection 1", "connection 1: end").
A script is steps, one a line or separated by " ; ":

    up                    the stream header, check of the handshake, <handshake/>
    open [ID]             the client's header, then ours with this id (default: a random one;
                          "-" for none)
    handshake             wait for the client's, answer it, or end with not-authorized
    any-handshake         wait for the client's, say nothing
    log-in JID            of a user instead: RFC 6120, PLAIN without TLS, any password
    take N                wait for N more requests: their ids are @1, @2... in what is sent
    serve N XML           send XML for each of N more requests, its id being @id
    answer A B XML        send XML for each of the ids @A to @B, being @id
    send XML              as it stands; \\n, \\xHH and \\\\ are escapes
    drip XML              the same, one byte a packet
    repeat N XML          N times, %d is the number from 0
    flood XML             again and again until nothing has fitted for a second; prints how many
    expect REGEX          read until it matches what has come since the last expect
    count N REGEX         read until it has matched N times
    reply [N] XML         to each of the next N (1) requests; %i is its id
    route-ping [error]    wait for a ping from the component's domain to D/RANDOM; route it back as a
                          server does, or answer it with an error
    spaces N S            a space, N times, S seconds apart
    silent S REGEX        reads S seconds; it must not match what comes
    end                   </stream:stream>
    error NAME [TEXT]     a stream error, </stream:stream>, close
    half-close            end our direction
    wait-close            read until the client has closed; its </stream:stream> is answered
    close, reset          at once
    pause S               neither read nor write
    deaf                  a small receive buffer for all connections to come; at the beginning
    vanish S              stop listening, close, listen again on the same port after S seconds
    say TEXT              print it: a mark for the test
    wait-for FILE         until that file exists
"""

import argparse
import hashlib
import os
import re
import secrets
import select
import signal
import socket
import struct
import sys
import threading
import time

ERRORS = "urn:ietf:params:xml:ns:xmpp-streams"


def unescape(text):
    return re.sub(
        rb"\\(n|\\|x[0-9a-fA-F]{2})",
        lambda m: {b"n": b"\n", b"\\": b"\\"}.get(m[1]) or bytes([int(m[1][1:], 16)]),
        os.fsencode(text),
    )


class Failed(Exception):
    pass


class Closed(Exception):
    pass


class Server:
    def __init__(self, options):
        self.options = options
        self.failures = 0
        self.lock = threading.Lock()
        self.deaf = any(s.strip().startswith("deaf") for s in options.script)
        self.listener = None
        self.port = options.port
        self.listen()

    def listen(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.deaf:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(16)
        self.port = listener.getsockname()[1]
        self.listener = listener

    def say(self, text):
        with self.lock:
            print(text, flush=True)

    def vanish(self, seconds):
        # shutdown() wakes the accept() of the main thread, close() alone does not
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        time.sleep(seconds)
        self.listen()

    def accept(self):
        while True:
            listener = self.listener
            try:
                return listener.accept()[0]
            except OSError:
                time.sleep(0.01)

    def run(self):
        self.say(f"port {self.port}")
        scripts = self.options.script
        threads = []
        number = 0
        while number < len(scripts) or self.options.forever:
            connection = self.accept()
            script = scripts[min(number, len(scripts) - 1)]
            number += 1
            thread = threading.Thread(target=self.serve, args=(connection, number, script))
            thread.daemon = True
            thread.start()
            threads.append(thread)
        self.listener.close()
        for thread in threads:
            thread.join()
        return 1 if self.failures else 0

    def serve(self, connection, number, script):
        self.say(f"connection {number}")
        try:
            Connection(self, connection, number).run(script)
        except Closed:
            pass
        except (Failed, OSError) as failure:
            with self.lock:
                self.failures += 1
                print(f"connection {number}: {failure}", file=sys.stderr, flush=True)
        connection.close()
        self.say(f"connection {number}: end")


class Connection:
    def __init__(self, server, sock, number):
        self.server = server
        self.sock = sock
        self.number = number
        self.received = b""
        self.id = ""
        self.ids = []
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self, script):
        for line in re.split(r"\n| ; ", script):
            line = line.strip()
            if not line:
                continue
            name, _, rest = line.partition(" ")
            step = getattr(self, "do_" + name.replace("-", "_"), None)
            if step is None:
                raise Failed(f"no step '{name}'")
            step(rest.strip())

    def read(self, deadline, what):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.sock], [], [], left)[0]:
            raise Failed(f"{what}: in vain; there is {self.received[-2000:]!r}")
        piece = self.sock.recv(1 << 16)
        self.received += piece
        return piece

    def deadline(self):
        return time.monotonic() + self.server.options.timeout

    def send(self, piece):
        self.sock.settimeout(self.server.options.timeout)
        self.sock.sendall(piece)
        self.sock.settimeout(None)

    def do_deaf(self, _):
        pass

    def do_expect(self, pattern):
        deadline = self.deadline()
        while not (m := re.search(os.fsencode(pattern), self.received, re.DOTALL)):
            if not self.read(deadline, f"expect {pattern}"):
                raise Failed(f"expect {pattern}: closed; there is {self.received[-2000:]!r}")
        self.received = self.received[m.end() :]
        return m

    def do_count(self, rest):
        n, _, pattern = rest.partition(" ")
        compiled = re.compile(os.fsencode(pattern), re.DOTALL)
        deadline = self.deadline()
        seen = 0
        while seen < int(n):
            end = 0
            for m in compiled.finditer(self.received):
                seen += 1
                end = m.end()
                if seen == int(n):
                    break
            self.received = self.received[end:]
            if seen < int(n) and not self.read(deadline, f"count {rest} (have {seen})"):
                raise Failed(f"count {rest}: closed after {seen}")

    def do_reply(self, rest):
        n, _, text = rest.partition(" ")
        if not n.isdigit():
            n, text = "1", rest
        for _ in range(int(n)):
            request = rb"<iq [^>]*?\bid=['\"]([^'\"]*)['\"]"
            given = self.do_expect(request)[1]
            self.send(unescape(text).replace(b"%i", given))

    def do_route_ping(self, rest):
        m = self.do_expect(
            r"<iq type='get' id='([^']+)' to='(([^'/]+)/[^']+)' from='\3'>"
            r"<ping xmlns='urn:xmpp:ping'/></iq>"
        )
        if rest == "error":
            self.send(
                b"<iq type='error' id='%s' from='%s' to='%s'><error type='cancel'/></iq>"
                % (m[1], m[2], m[3])
            )
        else:
            self.send(m[0])

    def do_spaces(self, rest):
        n, seconds = rest.split()
        for _ in range(int(n)):
            time.sleep(float(seconds))
            self.send(b" ")

    def do_silent(self, rest):
        seconds, _, pattern = rest.partition(" ")
        deadline = time.monotonic() + float(seconds)
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.sock], [], [], left)[0]:
                if not (piece := self.sock.recv(1 << 16)):
                    break
                self.received += piece
        if m := re.search(os.fsencode(pattern), self.received):
            raise Failed(f"silent: there is {m[0]!r}")

    def do_open(self, rest):
        self.do_expect(r"<stream:stream[^>]*>")
        self.id = rest or secrets.token_hex(8)
        header = (
            "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
            "xmlns:stream='http://etherx.jabber.org/streams'"
        )
        if self.id != "-":
            header += f" id='{self.id}'"
        self.send(header.encode() + b">")

    def do_handshake(self, _):
        given = self.do_expect(r"<handshake>([0-9a-f]{40})</handshake>")[1].decode()
        right = hashlib.sha1((self.id + self.server.options.secret).encode()).hexdigest()
        if given != right:
            self.do_error("not-authorized")
        self.send(b"<handshake/>")

    def do_any_handshake(self, _):
        self.do_expect(r"<handshake>[0-9a-f]{40}</handshake>")

    def do_up(self, _):
        self.do_open("")
        self.do_handshake("")

    def do_log_in(self, jid):
        domain = jid.partition("/")[0].rpartition("@")[2]
        mechanism = "<mechanism>PLAIN</mechanism>"
        for feature in (
            f"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{mechanism}</mechanisms>",
            "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>",
        ):
            self.do_expect(r"<stream:stream[^>]*>")
            self.send(
                "<?xml version='1.0'?><stream:stream xmlns='jabber:client' version='1.0' "
                f"id='1' from='{domain}' xmlns:stream='http://etherx.jabber.org/streams'>"
                f"<stream:features>{feature}</stream:features>".encode()
            )
            if "PLAIN" in feature:
                self.do_expect(r"</auth>")
                self.send(b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
        self.do_expect(r"</iq>")
        self.send(
            "<iq type='result' id='_xmpp_bind1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
            f"<jid>{jid}</jid></bind></iq>".encode()
        )

    def take(self):
        return self.do_expect(r"<iq\b[^>]*?\bid=['\"]([^'\"]*)['\"]")[1]

    def do_take(self, n):
        self.ids += [self.take() for _ in range(int(n))]

    def do_serve(self, rest):
        n, _, text = rest.partition(" ")
        text = unescape(text)
        for _ in range(int(n)):
            self.send(text.replace(b"@id", self.take()))

    def do_answer(self, rest):
        first, last, text = rest.split(" ", 2)
        text = unescape(text)
        ids = self.ids[int(first) - 1 : int(last)]
        self.send(b"".join(text.replace(b"@id", taken) for taken in ids))

    def do_send(self, text):
        ids = {b"@%d" % (i + 1): taken for i, taken in enumerate(self.ids)}
        self.send(re.sub(rb"@\d+", lambda m: ids.get(m[0], m[0]), unescape(text)))

    def do_drip(self, text):
        for byte in unescape(text):
            self.send(bytes([byte]))
            time.sleep(0.0005)

    def do_repeat(self, rest):
        n, _, text = rest.partition(" ")
        text = unescape(text)
        self.send(b"".join(text.replace(b"%d", b"%d" % i) for i in range(int(n))))

    def do_flood(self, text):
        text = unescape(text)
        count = 0
        rest = b""
        self.sock.setblocking(False)
        while True:
            if not rest:
                rest = b"".join(text.replace(b"%d", b"%d" % (count + i)) for i in range(100))
                count += 100
            if not select.select([], [self.sock], [], 1)[1]:
                break
            rest = rest[self.sock.send(rest) :]
        self.sock.setblocking(True)
        self.server.say(f"connection {self.number}: flooded {count}")
        # send what did not fit, so that the stream is whole; the client may have to be read meanwhile
        sender = threading.Thread(target=self.send, args=(rest,))
        sender.start()
        self.do_count(f"{count} {self.flood_pattern}")
        sender.join()

    flood_pattern = r"type='(result|error)'"

    def do_end(self, _):
        self.send(b"</stream:stream>")

    def do_error(self, rest):
        name, _, text = rest.partition(" ")
        text = f"<text xmlns='{ERRORS}'>{text}</text>" if text else ""
        self.send(
            f"<stream:error><{name} xmlns='{ERRORS}'/>{text}</stream:error>"
            "</stream:stream>".encode()
        )
        self.do_close("")

    def do_half_close(self, _):
        self.sock.shutdown(socket.SHUT_WR)

    def do_wait_close(self, _):
        deadline = self.deadline()
        ended = False
        while True:
            if not ended and b"</stream:stream>" in self.received:
                ended = True
                try:
                    self.send(b"</stream:stream>")
                except OSError:
                    pass
            self.received = self.received[-100:]
            try:
                if not self.read(deadline, "wait-close"):
                    return
            except ConnectionResetError:
                if not ended:
                    raise
                return  # it did not wait for our end tag

    def do_close(self, _):
        # read what is there: close(2) with unread bytes would reset the connection
        self.sock.setblocking(False)
        try:
            while self.sock.recv(1 << 16):
                pass
        except OSError:
            pass
        raise Closed

    def do_reset(self, _):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Closed

    def do_pause(self, seconds):
        time.sleep(float(seconds))

    def do_vanish(self, seconds):
        self.sock.close()
        self.server.vanish(float(seconds))
        raise Closed

    def do_say(self, text):
        self.server.say(text)

    def do_wait_for(self, name):
        deadline = self.deadline()
        while not os.path.exists(name):
            if time.monotonic() > deadline:
                raise Failed(f"wait-for {name}: in vain")
            time.sleep(0.02)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--secret", default="secret")
    parser.add_argument("--timeout", type=float, default=20)
    parser.add_argument("--forever", action="store_true")
    parser.add_argument("script", nargs="+")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    sys.exit(Server(parser.parse_args()).run())


main()
