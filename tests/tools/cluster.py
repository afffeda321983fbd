"""Two nodes of an ejabberd cluster, a proxy at each, users and clients on both; parts are killed and
come back. The facts of the nodes are in A_* and B_* (tests/ejabberd-cluster.bats)."""

import atexit
import collections
import http.client
import http.server
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import threading
import time

from stanzas import Mismatch
from xmppclient import WAIT_S, Client, Component, free_port, result

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

    def gauge(self, name):
        """Return a gauge as SIGUSR1 prints it."""
        before = len(re.findall(r"\b%s=" % name, self.says()))
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: len(re.findall(r"\b%s=" % name, self.says())) > before, name)
        return int(re.findall(r"\b%s=(\d+)" % name, self.says())[-1])

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
        self.lost, self.excuses = set(), {}     # id -> what was killed while it was open
        self.dying = None                       # what was killed, and when, until the server has noticed
        self.asked = 0
        self.connect()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def connect(self):
        self.client = Client("%s@%s/%s" % (self.name, HOST, self.node), port=port(self.node, "C2S"))
        self.client.handler = self.handle

    def handle(self, stanza):
        if stanza.name == "iq" and stanza["type"] in ("result", "error") and stanza["id"] in self.sent:
            self.answers[stanza["id"]].append(stanza.error or "result")
            if self.dying and self.sent[stanza["id"]] > self.dying[1]:
                self.dying = None
            if len(self.answers[stanza["id"]]) == 1 and stanza["id"] not in self.lost:
                self.free.release()
            return True
        return False

    def open(self):
        return {i for i in list(self.sent) if i not in self.answers}

    def depends_on(self, what, killed=float("inf")):
        """This part is being killed: what is open now may be lost, and what is asked until the server has noticed,
        that is until something that was asked after the kill is answered."""
        self.dying = what, killed
        for i in self.open():
            self.excuses.setdefault(i, what)

    def reap(self):
        """Give up requests that are too old."""
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
            dying = self.dying                  # before the time is taken
            self.sent[i] = time.monotonic()
            if dying:
                self.excuses[i] = dying[0]
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
        print("# %s at %s: %d asked, %s, lost: %s" % (u.name, u.node, u.asked, dict(kinds), dict(
            collections.Counter(u.excuses.get(i, "no reason") for i in u.lost))))


def check_users(users):
    """Nothing twice; nothing lost but what was open when a part was killed that the user depends on."""
    for u in users:
        twice = {i: a for i, a in u.answers.items() if len(a) > 1}
        assert not twice, (u.name, twice)
        assert u.lost <= set(u.excuses), (u.name, sorted(u.lost - set(u.excuses))[:20])
        assert len(u.lost) <= WINDOW * len(set(u.excuses.values())), (u.name, len(u.lost))
        if not u.excuses:
            results = sum(a[0] == "result" for a in u.answers.values())
            assert results > 0.9 * u.asked, (u.name, results, u.asked)


def kill(program, user, what):
    """Kill a program that one user depends on: no more is lost than it had open, and the user, too."""
    gauge = program.gauge("pending_requests")
    user.depends_on(what)
    program.kill()
    user.depends_on(what, time.monotonic())
    print("# %s: %d requests open by its gauge, %d by the user" % (what, gauge, len(user.open())))


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
    kill(proxies["B"], bob, "the proxy was killed")      # its users are served by the other proxy
    wait_until(lambda: answered(users) > 2 * quarter, "two fifths", 120)
    proxies["B"].start()
    wait_until(lambda: answered(users) > 3 * quarter, "three fifths", 120)

    server("B", "server_kill", "KILL")                   # the node of bob, of one client and of one proxy
    planned, bob.count = bob.count, 0                    # his connection is gone
    bob.depends_on("the node was killed")
    before = answered(survivors)
    wait_until(lambda: answered(survivors) > before + 50 or not any(u.thread.is_alive() for u in survivors),
               "the surviving node goes on", 60)
    server("B", "ejabberd_restart")
    workers["B"].connect()
    again = User("michael", "B", planned - bob.asked)
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

    def instance(listen):
        c = Component(DOMAIN, port=listen)
        c.serve(lambda s: "<iq type='result' id='%s' to='%s' from='%s'/>" % (s["id"], s["from"], s["to"]))
        return c

    ports = {n: free_port() for n in "AB"}
    shares = {n: share(n, ports[n]) for n in "AB"}
    instances = [instance(ports[n]) for n in "AABB"]
    users = [User("alice", "A", REQUESTS // 2), User("bob", "B", REQUESTS // 2)]
    for u in users:
        assert u.client.ask(DOMAIN)["type"] == "result"
        u.thread.start()
    wait_until(lambda: answered(users) > REQUESTS // 4, "a quarter", 120)
    kill(shares["B"], users[1], "xmpp-share was killed")
    wait_until(lambda: answered(users) > REQUESTS // 2, "a half", 120)
    shares["B"].start()
    instances += [instance(ports["B"]) for _ in "BB"]
    for u in users:
        u.wait()
    report(users)
    check_users(users)


# --- rosters: an endpoint at each node, and a broker

def displays(page, folder):
    """The displays of a manual page as files in folder."""
    os.mkdir(folder)
    subprocess.run(["python3", "%s/manual.py" % os.environ["TESTS"], "displays",
                    "%s/../man/%s" % (os.environ["TESTS"], page), folder], check=True)


class Machine:
    """One machine of outboard-scale(7): its folders and processes."""

    def __init__(self, node, web_port):
        self.node, self.root = node, os.path.abspath("machine-" + node)
        self.web_port, self.http_port = web_port, free_port()
        self.running = {}
        for folder in "usr/local/lib", "var/lib", "run":
            os.makedirs("%s/%s/outboard" % (self.root, folder))
        self.install("scale/ROSTERS.1")
        self.install("recipes/ROSTERS: Several machines and a broker.3")

    def text(self, display):
        with open(display, encoding="utf-8") as f:
            text = re.sub(r"/(usr/local/lib|var/lib|run)/outboard\b", r"%s/\1/outboard" % self.root, f.read())
        for here, there in (6379, os.environ["REDIS_PORT"]), (8080, self.web_port), (5280, self.http_port):
            text = text.replace("127.0.0.1:%d" % here, "127.0.0.1:%s" % there)
        return text

    def install(self, display):
        subprocess.run(["sh", "-eu", "-c", self.text(display)], check=True)

    def run(self, name, command):
        with open("%s/%s.err" % (self.root, name), "ab") as errors:
            self.running[name] = subprocess.Popen(["sh", "-eu", "-c", command], stdin=subprocess.DEVNULL,
                                                  stdout=errors, stderr=errors, start_new_session=True)
        atexit.register(self.kill, name)

    def apply(self):
        self.run("apply", "exec roster-apply -q --via ejabberd-api --api http://127.0.0.1:%d/api --host %s "
                 "--listen-unix %s/run/outboard/rosters.sock" % (port(self.node, "HTTP_API"), HOST, self.root))
        wait_until(lambda: os.path.exists(self.root + "/run/outboard/rosters.sock"), "roster-apply")

    def endpoint(self):
        self.run("endpoint", self.text("scale/ROSTERS.2"))
        wait_until(lambda: self.status("GET", "/health") == 200, "the endpoint")

    def consumer(self, stream):
        text = self.text("recipes/ROSTERS: Several machines and a broker.4")
        self.run("consumer%d" % stream, text.replace("rosters.0", "rosters.%d" % stream).replace(
            "consumer 0", "consumer %d" % stream))

    def status(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=WAIT_S)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            self.said = answer.read()
            return answer.status
        except OSError:
            return None
        finally:
            connection.close()

    def refresh(self, user):
        status = self.status("POST", "/roster_admin/refresh", json.dumps([user]))
        assert status == 200 and json.loads(self.said)["updated"] == 1, (status, self.said)

    def kill(self, name):
        process = self.running.pop(name, None)
        if process:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()

    def die(self):
        for name in list(self.running):
            self.kill(name)


class Web(http.server.ThreadingHTTPServer):
    """The web application: each user has one contact, whose name is the version of the roster. An answer
    can be old when it comes."""

    def __init__(self):
        self.versions, self.random = collections.Counter(), random.Random(1)
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                user = self.path.rpartition("/")[2]
                body = json.dumps({"friend@" + HOST: {"name": "v%d" % web.versions[user]}}).encode()
                time.sleep(web.random.random() * 0.1)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Owner:
    """A user at a node who watches the own roster."""

    def __init__(self, name, node):
        self.name, self.seen = name, []
        self.client = Client("%s@%s/watch" % (name, HOST), port=port(node, "C2S"))
        self.client.handler = self.handle
        self.client.ask(self.client.bare, "<query xmlns='jabber:iq:roster'/>")

    def handle(self, stanza):
        if stanza.name != "iq" or stanza["type"] != "set":
            return False
        self.seen += [int(v) for v in re.findall(r"name=['\"]v(\d+)['\"]", stanza.raw)]
        self.client.send("<iq type='result' id='%s'/>" % stanza["id"])
        return True


def rosters_on_two_nodes():
    """A user's rosters come in their order, whichever endpoint is told; a machine that dies loses none."""
    displays("outboard-scale.7", "scale")
    displays("outboard-recipes.7", "recipes")
    web = Web()
    machines = {n: Machine(n, web.server_port) for n in "AB"}
    machines["A"].install("recipes/ROSTERS: Several machines and a broker.1")
    for stream, machine in enumerate(machines.values()):
        machine.apply()
        machine.endpoint()
        machine.consumer(stream)
    owners = [Owner(name, "AB"[n % 2]) for n, name in enumerate(("john", "marie", "aaron", "michael"))]
    asked = 0

    def changes(times, endpoints):
        nonlocal asked
        for _ in range(times):
            for owner in owners:
                web.versions[owner.name] += 1
                asked += 1
                machines[endpoints[asked % len(endpoints)]].refresh(owner.name)

    def all_seen():
        return all(o.seen and o.seen[-1] == web.versions[o.name] for o in owners)

    changes(20, "AB")
    wait_until(all_seen, "the last roster of each")
    changes(5, "AB")
    machines["A"].die()
    changes(5, "B")
    machines["B"].consumer(0)                            # as the page says
    wait_until(all_seen, "the rosters after a machine has died", 60)
    machines["A"].apply()
    machines["A"].endpoint()
    changes(5, "A")
    wait_until(all_seen, "the rosters of the endpoint that is back")
    for owner in owners:
        assert owner.seen == sorted(owner.seen), (owner.name, owner.seen)
        print("# %s: %d changes, %d rosters seen, in order" % (owner.name, web.versions[owner.name], len(owner.seen)))
    for machine in machines.values():
        machine.die()
