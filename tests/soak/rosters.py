"""Refreshes of rosters: roster-refresh-listen --spool with roster-fetch | roster-apply behind it,
between a web application and a real server, while the listener (kill -9 and SIGTERM) and each
process of its worker are killed. The web application counts up a roster's version before each
request; what must be on the server in the end the books of account.py know.
"""

import collections
import http.client
import http.server
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from account import Refreshes
from xmppclient import Client

TOTAL = max(1000, int(os.environ["SOAK_REQUESTS"]) // 20)
RANDOM = random.Random(int(os.environ["SOAK_SEED"]))
USERS = os.environ["SOAK_USERS"].split()
DOMAINS = os.environ["SOAK_DOMAINS"].split()
ASKERS = 24
PATIENCE_S = 60
# What a killed worker leaves behind finishes its work beside the next one, so each is a component of
# its own.
WORKER = r"""
url=$1 server=$2 secret=$3
shift 3
n=$(($(cat number 2>/dev/null) + 1))
echo $n >number
shift $((n % $#))
echo $$ >worker.new && mv worker.new worker
roster-fetch -q --url "$url" |
	roster-apply -q --host vhost.test --on-behalf --domain "$1" --connect "$server" --secret-file "$secret"
"""
lock = threading.Lock()
books = Refreshes()
versions = {user: 0 for user in USERS}      # of the web application
served = {user: 0 for user in USERS}        # the last that it gave out
asked = iter(range(TOTAL))
refusals = collections.Counter()


class WebApp(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1                           # an answer is one packet

    def do_GET(self):
        user = self.path.strip("/")
        with lock:
            version = served[user] = versions[user]
        body = json.dumps({"marie@vhost.test": {"name": "v%d" % version, "subscription": "none"}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class WebServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        pass                                # who asked has been killed


class Listener:
    def __init__(self):
        read, write = os.pipe()
        self.process = subprocess.Popen(
            ["roster-refresh-listen", "--unix", "socket", "--spool", "spool", "--ready-fd", str(write),
             "--", "bash", "-c", WORKER, "worker", "http://127.0.0.1:%d/%%s" % web_app.server_port,
             "127.0.0.1:" + os.environ["OPEN_COMPONENT_PORT"], os.environ["SECRET_FILE"], *DOMAINS], pass_fds=[write], stdin=subprocess.DEVNULL,
            stderr=open("listen.err", "a"))
        os.close(write)
        with os.fdopen(read, "rb") as ready:
            if ready.read(1) != b"\n":
                sys.exit("soak: the listener does not start: " + open("listen.err").read()[-500:])

    def end(self, number):
        with lock:
            books.listener_ends("killed" if number == signal.SIGKILL else "ended")
        self.process.send_signal(number)
        self.process.wait(PATIENCE_S)
        with lock:
            books.listener_ended(spooled())
        if number == signal.SIGTERM and self.process.returncode != 0:
            with lock:
                books.wrong.append("SIGTERM ended the listener with %d" % self.process.returncode)


class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect("socket")


def ask(choose):
    while True:
        with lock:
            number = next(asked, None)
        if number is None:
            return
        connection = Unix("localhost")
        user = choose.choice(USERS)
        with lock:
            versions[user] += 1
            books.ask(number, user, versions[user])
        while True:
            with lock:
                books.connects(number)
            try:
                connection.connect()
                break
            except OSError:                 # there is no listener: nothing was sent
                threading.Event().wait(0.005)
        try:
            connection.request("POST", "/roster_admin/refresh", json.dumps([user]),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = json.loads(answer.read())
            updated = answer.status == 200 and body["updated"] == 1
            with lock:
                if not updated:
                    refusals["%d, %s" % (answer.status, body["message"])] += 1
                books.answer(number, updated, served[user])
        except (OSError, http.client.HTTPException, ValueError):
            with lock:
                books.broke(number)
        connection.close()


def spooled():
    """The names that the journals of the spool hold: "+NAME" came, "-NAME" was done."""
    found = set()
    for file in os.listdir("spool"):
        try:
            lines = open(os.path.join("spool", file), errors="replace").read().split("\n")
        except FileNotFoundError:
            continue
        names = set()
        for line in lines[:-1]:
            if line.startswith("+"):
                names.add(line[1:])
            elif line.startswith("-"):
                names.discard(line[1:])
        found |= names
    return found


def kill_worker(which):
    """The shell (0), or one of the programs it has started (1, 2)."""
    try:
        shell = open("worker").read().strip()
        children = open("/proc/%s/task/%s/children" % (shell, shell)).read().split()
        os.kill(int(([shell] + children)[which]), signal.SIGKILL)
        return True
    except (OSError, ValueError, IndexError):
        return False                        # it is just being started


def on_the_server(user):
    client = Client("%s@vhost.test/look" % user)
    client.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
    items = client.expect_where(lambda s: s["id"] == "r").element[0]
    client.close()
    names = [i.get("name") for i in items if i.get("jid") == "marie@vhost.test"]
    return int(names[0][1:]) if names else 0


os.makedirs("spool", mode=0o700, exist_ok=True)
web_app = WebServer(("127.0.0.1", 0), WebApp)
threading.Thread(target=web_app.serve_forever, daemon=True).start()
listener = Listener()
askers = [threading.Thread(target=ask, args=(random.Random(RANDOM.random()),)) for _ in range(ASKERS)]
started = time.monotonic()
for thread in askers:
    thread.start()
happened = {"listener killed": 0, "listener ended": 0, "worker's shell killed": 0,
            "roster-fetch killed": 0, "roster-apply killed": 0}
while any(t.is_alive() for t in askers):
    # this waits for nothing: the next event comes at a random time
    threading.Event().wait(RANDOM.uniform(0.1, 0.6))
    event = RANDOM.choice(sorted(happened))
    if event.startswith("listener"):
        listener.end(signal.SIGKILL if event == "listener killed" else signal.SIGTERM)
        listener = Listener()
        happened[event] += 1
    else:
        happened[event] += kill_worker({"w": 0, "f": 1, "a": 2}[event.replace("roster-", "")[0]])
# A name whose worker has died twice has failed, and waits in the spool for the next start.
deadline = time.monotonic() + PATIENCE_S
while spooled() and time.monotonic() < deadline:
    listener.end(signal.SIGTERM)
    listener = Listener()
    patience = time.monotonic() + 5
    while spooled() and time.monotonic() < patience:
        threading.Event().wait(0.05)
listener.end(signal.SIGTERM)
final = {user: on_the_server(user) for user in USERS}
lost = books.lost(final)
print("roster-refresh-listen: %d refreshes of %d rosters in %.0f s"
      % (sum(books.counts.values()), len(USERS), time.monotonic() - started))
for name in "updated", "refused", "broken, listener killed", "broken, listener ended":
    print("  %-24s %d" % (name, books.counts[name]))
print("  %-24s %d" % ("of these in the spool", len(books.spooled)))
print("  %-24s %d" % ("lost", len(lost)))
print("  %-24s %d" % ("unexplained, too early", len(books.wrong)))
for name, count in sorted(refusals.items()):
    print("  refused with %s: %d" % (name, count))
for name, count in sorted(happened.items()):
    print("  %s: %d times" % (name, count))
faults = books.faults(final)
if spooled():
    faults.append("%d still in the spool" % len(spooled()))
if not books.counts["updated"]:
    faults.append("nothing was updated")
for fault in faults[:20]:
    print("soak: " + fault, file=sys.stderr)
if faults:
    sys.exit("soak: %d faults in the books" % len(faults))
