"""Two nodes of an ejabberd cluster, a proxy at each, users and clients on both; parts are killed and
come back. The facts of the nodes are in A_* and B_* (tests/ejabberd-cluster.bats)."""

import atexit
import collections
import os
import re
import signal
import subprocess
import tempfile
import threading
import time

from stanzas import Mismatch
from xmppclient import WAIT_S, Client, Component, result

HOST = os.environ["A_XMPP_HOST"]
DOMAIN = "cluster.test"
REQUESTS = int(os.environ.get("CLUSTER_REQUESTS", "5000"))
WINDOW = 10
LOST_S = 15           # an answer that has not come by then is lost: three deadlines


def wait_until(condition, what, wait_s=None):
    deadline = time.monotonic() + (wait_s or WAIT_S)
    while not condition():
        if time.monotonic() > deadline:
            raise Mismatch("waited in vain: " + what)
        time.sleep(0.02)


def port(node, name):
    return int(os.environ["%s_%s_PORT" % (node, name)])


class Program:
    """A daemon at a node; killed and started again with the same words."""

    def __init__(self, *command):
        self.command = command
        self.start()

    def start(self):
        read, write = os.pipe()
        self.errors = tempfile.NamedTemporaryFile("w+b", dir=".", suffix=".err", delete=False)
        self.process = subprocess.Popen([*self.command, "--ready-fd", str(write)], stdin=subprocess.DEVNULL,
                                        stderr=self.errors, pass_fds=[write])
        atexit.register(self.reap, self.process)
        os.close(write)
        with os.fdopen(read, "rb", buffering=0) as ready:
            if ready.read(1) != b"\n":
                raise Mismatch("not ready: " + self.says())

    def says(self):
        with open(self.errors.name, encoding="utf-8", errors="replace") as f:
            return f.read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    @staticmethod
    def reap(process):
        if process.poll() is None:
            process.kill()
        process.wait()


def proxy(node, reply_domain):
    """xmpp-jat-proxy at one node; both have one key file and nothing else in common."""
    state = "state-" + node
    os.makedirs(state, mode=0o700, exist_ok=True)
    return Program("xmpp-jat-proxy", "--domain", DOMAIN, "--reply-domain", reply_domain,
                   "--connect", "127.0.0.1:%d" % port(node, "LISTENER"), "--secret-file", os.environ["A_SECRET_FILE"],
                   "--target", "impl@" + HOST, "--key-file", os.path.abspath("keys"), "--state-dir", state,
                   "--timeout", "5", "--try-timeout", "1")


class Worker:
    """An implementing client on a node: accepts subscriptions, counts what it did."""

    done = collections.Counter()
    lock = threading.Lock()

    def __init__(self, node):
        self.node = node
        self.connect()

    def connect(self):
        self.client = Client("impl@%s/%s" % (HOST, self.node), port=port(self.node, "C2S"))
        self.client.handler = self.handle
        self.client.presence()
        self.client.settle()

    def handle(self, stanza):
        if stanza.name == "presence" and stanza["type"] == "subscribe":
            self.client.presence(to=stanza["from"], type="subscribed")
            return True
        if stanza.name != "iq" or stanza["type"] not in ("get", "set"):
            return stanza.name == "presence"
        asked = stanza.element[0].get("n")           # the server pushes rosters by sets of its own
        if stanza["type"] == "set" and asked:
            with self.lock:
                self.done[asked] += 1
        try:
            self.client.send(result(stanza, "<ok xmlns='urn:x'/>"))
        except OSError:
            pass
        return True


class User:
    """Asks until it has asked `count` times, WINDOW at once."""

    def __init__(self, name, node, count):
        self.name, self.node, self.count = name, node, count
        self.sent = {}                          # id -> when
        self.answers = collections.defaultdict(list)
        self.free = threading.Semaphore(WINDOW)
        self.lost, self.kills = set(), 0
        self.asked = 0
        self.connect()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def connect(self):
        self.client = Client("%s@%s/%s" % (self.name, HOST, self.node), port=port(self.node, "C2S"))
        self.client.handler = self.handle

    def handle(self, stanza):
        if stanza.name == "iq" and stanza["type"] in ("result", "error") and stanza["id"] in self.sent:
            self.answers[stanza["id"]].append(stanza.error or "result")
            if len(self.answers[stanza["id"]]) == 1 and stanza["id"] not in self.lost:
                self.free.release()
            return True
        return False

    def open(self):
        return {i for i in list(self.sent) if i not in self.answers}

    def reap(self):
        """Give up what is too old."""
        for i in self.open() - self.lost:
            if time.monotonic() - self.sent[i] > LOST_S:
                self.lost.add(i)
                self.free.release()

    def run(self):
        while self.asked < self.count:
            if not self.free.acquire(timeout=0.2):
                self.reap()
                continue
            self.asked += 1
            i = "%s-%d" % (self.name, self.asked)
            self.sent[i] = time.monotonic()
            kind = "set" if self.asked % 3 == 0 else "get"
            try:
                self.client.send("<iq type='%s' id='%s' to='%s'><q xmlns='urn:x' n='%s'/></iq>" % (kind, i, DOMAIN, i))
            except OSError:
                pass
        deadline = time.monotonic() + LOST_S
        while self.open() - self.lost and time.monotonic() < deadline:
            time.sleep(0.02)
        self.lost |= self.open()

    def wait(self):
        self.thread.join(300)
        assert not self.thread.is_alive(), "%s has not ended" % self.name


def server(node, command, *words):
    subprocess.run(["bash", "-c", '. "$TESTS/servers/servers.bash" && %s "$%s_SERVER_DIR" %s' % (command, node, " ".join(words))],
                   check=True)


def answered(users):
    return sum(len(u.answers) for u in users)


def report(users):
    for u in users:
        kinds = collections.Counter(a for answers in u.answers.values() for a in answers)
        print("# %s at %s: %d asked, %s, %d lost" % (u.name, u.node, u.asked, dict(kinds), len(u.lost)))


def check_users(users):
    """Nothing twice; nothing lost but what was open when a part was killed that the user depends on."""
    for u in users:
        twice = {i: a for i, a in u.answers.items() if len(a) > 1}
        assert not twice, (u.name, twice)
        assert len(u.lost) <= WINDOW * u.kills, (u.name, sorted(u.lost)[:20])
        if not u.kills:
            results = sum(a[0] == "result" for a in u.answers.values())
            assert results > 0.9 * u.asked, (u.name, results, u.asked)


def proxies_and_nodes_die():
    subprocess.run(["jat-encode", "--create-key", "--key-file", "keys", "--domain", DOMAIN],
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    workers = {n: Worker(n) for n in "AB"}
    proxies = {"A": proxy("A", "r1.test"), "B": proxy("B", "r2.test")}
    users = [User("alice", "A", REQUESTS // 3), User("carol", "A", REQUESTS // 3),
             User("bob", "B", REQUESTS - 2 * (REQUESTS // 3))]
    survivors = users[:2]
    for u in users:
        wait_until(lambda u=u: u.client.ask(DOMAIN)["type"] == "result", "sessions for %s" % u.name)
    for u in users:
        u.thread.start()
    quarter = REQUESTS // 5

    wait_until(lambda: answered(users) > quarter, "a fifth", 120)
    bob = users[2]
    bob.kills += 1
    proxies["B"].kill()                                  # its users are served by the other proxy
    wait_until(lambda: answered(users) > 2 * quarter, "two fifths", 120)
    proxies["B"].start()
    wait_until(lambda: answered(users) > 3 * quarter, "three fifths", 120)

    bob.kills += 1
    server("B", "server_kill", "KILL")                   # the node of bob, of one client and of one proxy
    bob.count = 0                                        # his connection is gone
    before = answered(survivors)
    wait_until(lambda: answered(survivors) > before + 50 or not any(u.thread.is_alive() for u in survivors),
               "the surviving node goes on", 60)
    server("B", "ejabberd_restart")
    workers["B"].connect()
    again = User("michael", "B", max(60, REQUESTS // 10))
    wait_until(lambda: again.client.ask(DOMAIN)["type"] == "result", "node B serves again", 60)
    again.thread.start()
    for u in users + [again]:
        u.wait()
    report(users + [again])
    check_users(users + [again])
    twice = [i for i, n in Worker.done.items() if n > 1]
    assert not twice, "done twice: %s" % twice[:20]


def share_on_two_nodes():
    """An xmpp-share at each node, two instances behind each."""
    def share(node, listen):
        return Program("xmpp-share", "--domain", DOMAIN, "--connect", "127.0.0.1:%d" % port(node, "LISTENER"),
                       "--secret-file", os.environ["A_SECRET_FILE"], "--listen", "127.0.0.1:%d" % listen,
                       "--timeout", "5", "--try-timeout", "1")

    def free_port():
        import socket
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            return s.getsockname()[1]

    def instance(listen):
        c = Component(DOMAIN, port=listen)
        c.serve(lambda s: "<iq type='result' id='%s' to='%s' from='%s'/>" % (s["id"], s["from"], s["to"]))
        return c

    ports = {n: free_port() for n in "AB"}
    shares = {n: share(n, ports[n]) for n in "AB"}
    instances = [instance(ports[n]) for n in "AABB"]
    users = [User("alice", "A", 400), User("bob", "B", 400)]
    for u in users:
        assert u.client.ask(DOMAIN)["type"] == "result"
        u.thread.start()
    wait_until(lambda: answered(users) > 200, "a quarter")
    users[1].kills += 1
    shares["B"].kill()
    wait_until(lambda: answered(users) > 400, "a half")
    shares["B"].start()
    instances += [instance(ports["B"]) for _ in "BB"]
    for u in users:
        u.wait()
    report(users)
    check_users(users)
