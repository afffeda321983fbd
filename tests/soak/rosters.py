"""Refreshes accepted by roster-refresh-listen --spool while it and its worker are killed and started
again: whatever was answered with "updated", and whatever was in the spool when it was killed, has
been done by the worker afterwards. Nothing of it may be lost; doing it twice is no harm.
"""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

TOTAL = max(2000, int(os.environ["SOAK_REQUESTS"]) // 20)
RANDOM = random.Random(int(os.environ["SOAK_SEED"]))
WORKER = r"""
echo $$ >worker.pid
while read -r user; do
	read -r -t 0.002 _ <>wait
	echo "$user" >>done
	printf '{"user":"%s","status":"ok","added":1,"updated":0,"removed":0}\n' "$user"
done
"""
lock = threading.Lock()
counts = {"updated": 0, "refused": 0, "broken": 0}
accepted, asked = set(), iter(range(TOTAL))


class Listener:
    def __init__(self):
        read, write = os.pipe()
        self.process = subprocess.Popen(
            ["roster-refresh-listen", "--unix", "socket", "--spool", "spool", "--ready-fd", str(write),
             "--", "bash", "-c", WORKER], pass_fds=[write], stdin=subprocess.DEVNULL,
            stderr=open("listen.err", "a"))
        os.close(write)
        with os.fdopen(read, "rb") as ready:
            if ready.read(1) != b"\n":
                sys.exit("soak: the listener does not start: " + open("listen.err").read()[-500:])


class Unix(http.client.HTTPConnection):
    def connect(self):
        import socket
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect("socket")


def ask():
    while True:
        with lock:
            number = next(asked, None)
        if number is None:
            return
        name = "u%d" % number
        try:
            connection = Unix("localhost", timeout=30)
            connection.request("POST", "/roster_admin/refresh", json.dumps([name]),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = json.loads(answer.read())
            connection.close()
            kind = "updated" if answer.status == 200 and body["updated"] == 1 else "refused"
        except (OSError, http.client.HTTPException, ValueError):
            kind = "broken"
            time.sleep(0.01)
        with lock:
            counts[kind] += 1
            if kind == "updated":
                accepted.add(name)


def done():
    try:
        return set(open("done").read().split())
    except FileNotFoundError:
        return set()


def spooled():
    """The names that the journals of the spool hold: "+NAME" came, "-NAME" was done."""
    found = set()
    for file in os.listdir("spool"):
        try:
            lines = open(os.path.join("spool", file), errors="replace").read().split("\n")
        except FileNotFoundError:
            continue
        names = set()
        for line in lines:
            if line.startswith("+"):
                names.add(line[1:])
            elif line.startswith("-"):
                names.discard(line[1:])
        found |= names
    return found


os.mkfifo("wait")
os.makedirs("spool", mode=0o700, exist_ok=True)
listener = Listener()
askers = [threading.Thread(target=ask) for _ in range(16)]
started = time.monotonic()
for thread in askers:
    thread.start()
kills = {"listener killed": 0, "listener ended": 0, "worker killed": 0}
left = set()
while any(t.is_alive() for t in askers):
    time.sleep(RANDOM.uniform(0.1, 0.5))
    event = RANDOM.choice(sorted(kills))
    kills[event] += 1
    if event == "worker killed":
        try:
            os.kill(int(open("worker.pid").read()), signal.SIGKILL)
        except (OSError, ValueError):
            pass
        continue
    listener.process.send_signal(signal.SIGKILL if event == "listener killed" else signal.SIGTERM)
    listener.process.wait(30)
    left |= spooled()
    listener = Listener()
deadline = time.monotonic() + 60
while spooled() and time.monotonic() < deadline:
    time.sleep(0.1)
listener.process.terminate()
listener.process.wait(30)
finished = done()
lost = sorted((accepted | left) - finished)
print("roster-refresh-listen: %d refreshes in %.0f s" % (sum(counts.values()), time.monotonic() - started))
for name, count in counts.items():
    print("  %-12s %d" % (name, count))
print("  %-12s %d, all of them done" % ("spooled", len(left)) if not lost else "  lost: %s" % lost[:20])
for name, count in kills.items():
    print("  %s: %d times" % (name, count))
if lost or spooled() or not counts["updated"]:
    sys.exit("soak: %d lost, %d still in the spool" % (len(lost), len(spooled())))
