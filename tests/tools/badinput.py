"""One bad line among good ones: run(bad) feeds it to xmpp-jat-proxy as line 3 and says what came
of it. refused(bad) asserts what must come of every line that cannot be parsed."""

import os
import re
import resource
import subprocess

from filter import WAIT_S
from stanzas import parse

GOOD = "<iq type='get' id='%s' from='%s@vhost.test/r' to='proxy.test'><q xmlns='urn:x'/></iq>\n"
TO = " from='alice@vhost.test/r' to='proxy.test'"
IN = "<iq type='get' id='bad'" + TO + ">"


class Outcome:
    def __init__(self, status, stderr, stdout, rss_kib):
        self.status, self.stderr, self.rss_kib = status, stderr, rss_kib
        self.stanzas = [parse(line) for line in stdout.splitlines()]
        self.served = [s["id"] for s in self.stanzas if s["to"] == "impl@vhost.test/a"]
        self.reported = [int(n) for n in re.findall(r"^xmpp-jat-proxy: stdin:(\d+): .", stderr, re.M)]

    def __repr__(self):
        return "status %s, served %s, stderr %s, stdout %s" % (
            self.status, self.served, self.stderr, self.stanzas)


def run(bad, *options, after=True):
    """bad: text, bytes, or a list of (bytes, how often)."""
    if isinstance(bad, str):
        bad = bad.encode("utf-8", "surrogateescape")
    with open("in", "wb") as f:
        f.write(b"<presence from='impl@vhost.test/a' to='proxy.test'/>\n")
        f.write((GOOD % ("before", "alice")).encode())
        for octets, times in [(bad, 1)] if isinstance(bad, bytes) else bad:
            for _ in range(times):
                f.write(octets)
        if after:
            f.write(("\n" + GOOD % ("after1", "alice") + GOOD % ("after2", "bob")).encode())
    with open("in", "rb") as stdin, open("out", "wb") as out, open("err", "wb") as err:
        process = subprocess.Popen(["xmpp-jat-proxy", "--domain", "proxy.test", "--target", "impl@vhost.test",
                                    *options], stdin=stdin, stdout=out, stderr=err)
        try:
            process.wait(3 * WAIT_S)
            # of the children reaped so far; they begin with the size of this script itself
            rss_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    return Outcome(process.returncode, open("err", encoding="utf-8").read(),
                   open("out", encoding="utf-8", newline="\n").read(), rss_kib)


def refused(bad, *options, lines=(3,)):
    """Assert that the line is reported once, with its number, the others are served, and the status is 65."""
    o = run(bad, *options)
    assert o.status == 65, o
    assert o.served == ["before", "after1", "after2"], o
    assert tuple(o.reported) == tuple(lines), o
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", o.stderr), repr(o.stderr)
    assert max(map(len, o.stderr.splitlines())) < 1000, o
    return o


def accepted(stanza, *options):
    """Assert that nothing is reported; return what came of the stanza, without the good ones."""
    o = run(stanza, *options)
    assert o.status == 0, o
    assert o.reported == [], o
    assert [i for i in o.served if i in ("before", "after1", "after2")] == ["before", "after1", "after2"], o
    return [s for s in o.stanzas if s["id"] not in ("before", "after1", "after2")
            and s["type"] != "subscribe"]
