#!/usr/bin/env python3
"""A web application that answers as the last part of the path says; for tests.

  web-app.py [--log FILE]      prints its port, then serves until it is ended

  GET /ROSTER/USER, ROSTER being
    ok          a roster of one contact, named after the user
    status-NNN  that status, with a page
    redirect-NNN to /ok/USER          loop        to itself
    away?to=URL to another server (percent-encoded)
    hang        nothing, ever         hang-body   a status, then nothing
    drip        one byte every 50 ms  close       no answer at all
    reset       resets at once        short       Content-Length larger than the body
    long        Content-Length smaller            chunked-cut a chunked body that breaks off
    no-length   a body that ends with the connection
    huge        an endless body       huge-length announces 1 TB
    headers     endless headers       garbage     no HTTP
    gzip        a compressed body; gzip-bomb: one that becomes 100 MB
    fresh       ETag and a Last-Modified that is the answer's Date; aged: 3 s before it
    body        what the query says
    bomb        100 000 open brackets nul, nan, inf, control, utf8, empty, null, array, string,
                number, trail, two, surrogate, comment, single: JSON that is none, or no roster
    etag        ETag and 304          modified    Last-Modified and 304
    no-store    ETag, but not to be kept
    flaky       503 twice, then ok    busy        429 with Retry-After: 1, then ok
    patience    503 with Retry-After: 3600
    gate        waits until GET /open/USER
    echo        the request's headers as names of contacts of the roster
The log has one line a request: method, raw path, selected headers.
"""
import socket
import struct
import sys
import threading
import time
import urllib.parse

seen = {}
gates = {}
lock = threading.Lock()
log = open(sys.argv[sys.argv.index("--log") + 1], "a") if "--log" in sys.argv else None


def roster(user, name="Marie"):
    return ('{"marie@example.com":{"name":"%s of %s"}}' % (name, user)).encode()


BODIES = {
    "bomb": b"[" * 100000,
    "deep": b'{"a@b":{"name":' + b'{"a":' * 30 + b"1" + b"}" * 30 + b"}}",
    "nul": b'{"a@b":{"name":"x\\u0000y"}}',
    "nan": b'{"a@b":{"name":"x","age":NaN}}',
    "inf": b'{"a@b":{"name":"x","age":-Infinity}}',
    "control": b'{"a@b":{"name":"x\ny"}}',
    "utf8": b'{"a@b":{"name":"\xff"}}',
    "empty": b"",
    "null": b"null",
    "array": b'["a@b"]',
    "string": b'"a@b"',
    "number": b"17",
    "trail": b'{"a@b":{}} x',
    "two": b'{"a@b":{}}{"c@d":{}}',
    "comment": b'{"a@b":{}/* no */}',
    "single": b"{'a@b':{}}",
    "zero": b'{"a@b":{"age":01}}',
    "cut": b'{"a@b":{"name":"x"',
    "same": b'{"a@b":{},"A@B":{}}',
    "none": b"{}",
    "bad-contact": b'{"@@":{},"a@b/c":{},"a@b":{"name": true},"c@d":{"name":"C"}}',
}


class Connection:
    def __init__(self, sock):
        self.sock = sock
        self.file = sock.makefile("rb")

    def request(self):
        line = self.file.readline()
        if not line:
            return None
        method, target, _ = line.decode("latin-1").split()
        headers = {}
        while True:
            line = self.file.readline().decode("latin-1").strip()
            if not line:
                return method, target, headers
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()

    def send(self, *parts):
        self.sock.sendall(b"".join(p if isinstance(p, bytes) else p.encode("latin-1") for p in parts))

    def answer(self, body, status="200 OK", *headers):
        lines = ["HTTP/1.1 " + status, "Content-Length: %d" % len(body), *headers]
        self.send("\r\n".join(lines), "\r\n\r\n", body)

    def wait_for_end(self):
        """Wait until the other side has gone."""
        try:
            while self.sock.recv(4096):
                pass
        except OSError:
            pass

    def serve(self):
        try:
            while True:
                request = self.request()
                if not request or not self.handle(*request):
                    break
        except OSError:
            pass
        finally:
            self.file.close()
            self.sock.close()

    def handle(self, method, target, headers):
        """Handle a request; return whether the connection stays."""
        if log:
            with lock:
                log.write("%s %s %s\n" % (method, target, " ".join(
                    "%s=%s" % (h, headers[h]) for h in (
                        "authorization", "x-key", "if-none-match", "if-modified-since", "accept",
                        "accept-encoding") if h in headers)))
                log.flush()
        path, _, query = target.partition("?")
        self.query = query
        _, kind, user = (path + "//").split("/")[:3]
        with lock:
            seen[path] = times = seen.get(path, 0) + 1
        if kind in BODIES:
            self.answer(BODIES[kind])
        elif kind.startswith("status-"):
            self.answer(b"<p>a page</p>", kind[7:] + " Because")
        elif kind.startswith("redirect-"):
            self.answer(b"", kind[9:] + " Elsewhere", "Location: /ok/" + user)
        elif kind == "loop":
            self.answer(b"", "302 Elsewhere", "Location: " + path)
        elif kind == "away":
            to = urllib.parse.parse_qs(query)["to"][0]
            self.answer(b"", "302 Elsewhere", "Location: " + to)
        else:
            return getattr(self, "do_" + kind.replace("-", "_"))(user, headers, times)
        return True

    def do_ok(self, user, headers, times):
        self.answer(roster(user))
        return True

    def do_hang(self, user, headers, times):
        self.wait_for_end()

    def do_hang_body(self, user, headers, times):
        self.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", '{"a@b":')
        self.wait_for_end()

    def do_drip(self, user, headers, times):
        body = roster(user)
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body:
            self.send(bytes([byte]))
            time.sleep(0.05)
        return True

    def do_close(self, user, headers, times):
        pass

    def do_reset(self, user, headers, times):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def do_short(self, user, headers, times):
        self.send("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", roster(user))

    def do_long(self, user, headers, times):
        self.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", roster(user))
        self.wait_for_end()

    def do_chunked_cut(self, user, headers, times):
        body = roster(user)
        self.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "%x\r\n" % len(body), body)

    def do_no_length(self, user, headers, times):
        self.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", roster(user))

    def do_huge(self, user, headers, times):
        self.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", '{"a@b":{"name":"')
        while True:
            self.send(b"x" * 65536)

    def do_huge_length(self, user, headers, times):
        self.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", "{")
        self.wait_for_end()

    def do_headers(self, user, headers, times):
        self.send("HTTP/1.1 200 OK\r\n")
        while True:
            self.send(b"X-Y: " + b"z" * 1000 + b"\r\n")

    def do_garbage(self, user, headers, times):
        self.send("SSH-2.0-OpenSSH_9.2p1\r\n")

    def do_gzip(self, user, headers, times):
        import gzip
        self.answer(gzip.compress(roster(user)), "200 OK", "Content-Encoding: gzip")
        return True

    def do_gzip_bomb(self, user, headers, times):
        import gzip
        self.answer(gzip.compress(b'{"a@b":"' + b" " * 100000000 + b'"}'), "200 OK",
                    "Content-Encoding: gzip")
        return True

    def dated(self, user, headers, age):
        from email.utils import formatdate
        now = time.time()
        if "if-none-match" in headers or "if-modified-since" in headers:
            self.send("HTTP/1.1 304 Not Modified\r\n\r\n")
        else:
            self.answer(roster(user), "200 OK", 'ETag: "v"',
                        "Last-Modified: " + formatdate(now - age, usegmt=True),
                        "Date: " + formatdate(now, usegmt=True))
        return True

    def do_fresh(self, user, headers, times):
        return self.dated(user, headers, 1)

    def do_aged(self, user, headers, times):
        return self.dated(user, headers, 5)

    def do_body(self, user, headers, times):
        self.answer(urllib.parse.unquote_to_bytes(self.query))
        return True

    def do_etag(self, user, headers, times):
        if headers.get("if-none-match") == '"v1"':
            self.send("HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n")
        else:
            self.answer(roster(user), "200 OK", 'ETag: "v1"')
        return True

    def do_modified(self, user, headers, times):
        date = "Sat, 21 Nov 2026 08:00:00 GMT"
        if headers.get("if-modified-since") == date:
            self.send("HTTP/1.1 304 Not Modified\r\n\r\n")
        else:
            self.answer(roster(user), "200 OK", "Last-Modified: " + date)
        return True

    def do_no_store(self, user, headers, times):
        self.answer(roster(user), "200 OK", 'ETag: "v1"', "Cache-Control: private, no-store")
        return True

    def do_flaky(self, user, headers, times):
        if times <= 2:
            self.answer(b"", "503 Later")
        else:
            self.answer(roster(user))
        return True

    def do_busy(self, user, headers, times):
        if times == 1:
            self.answer(b"", "429 Slowly", "Retry-After: 1")
        else:
            self.answer(roster(user))
        return True

    def do_dropping(self, user, headers, times):
        """Close without an answer, the first time."""
        if times > 1:
            self.answer(roster(user))
            return True

    def do_patience(self, user, headers, times):
        self.answer(b"", "503 Later", "Retry-After: 3600")
        return True

    def do_gate(self, user, headers, times):
        with lock:
            gate = gates.setdefault(user, threading.Event())
        gate.wait(60)
        self.answer(roster(user, "Marie %d" % times))
        return True

    def do_open(self, user, headers, times):
        with lock:
            gates.setdefault(user, threading.Event()).set()
        self.answer(b"")
        return True

    def do_seen(self, user, headers, times):
        """Return how many requests there were for /gate/USER."""
        with lock:
            n = seen.get("/gate/" + user, 0)
        self.answer(b"%d" % n)
        return True

    def do_echo(self, user, headers, times):
        contacts = ",".join('"%s@h":"%s"' % (name, value.replace('"', "'"))
                            for name, value in headers.items())
        self.answer(("{" + contacts + "}").encode())
        return True


def main():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    print(listener.getsockname()[1], flush=True)
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Connection(sock).serve, daemon=True).start()


main()
