#!/usr/bin/env python3
"""slowreader.py [--lines N] [--beside COMMAND] -- INPUT OUTPUT PROGRAM...

Run the program on the file INPUT with its standard output a pipe that nobody reads until the pipe is
full and the program waits; then read it to its end, or with --lines N to the Nth line, when it is
sent SIGTERM. What was read is in OUTPUT; prints the most memory it had (KiB); exits as it did.
COMMAND runs beside it.
"""
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import time


def look(pid):
    """Return whether the process waits, and its CPU time."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return fields[0] == "S", fields[11:13]


def memory_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("VmHWM:")), 0)


def main():
    options = {"--lines": None, "--beside": None}
    words = sys.argv[1:]
    while words[0] != "--":
        options[words[0]] = words[1]
        words = words[2:]
    given, kept, *program = words[1:]
    reading, writing = os.pipe()
    room = fcntl.fcntl(reading, fcntl.F_GETPIPE_SZ)
    with open(given) as file:
        child = subprocess.Popen(program, stdin=file, stdout=writing)
    os.close(writing)
    beside = options["--beside"] and subprocess.Popen(
        options["--beside"], shell=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    before, calm = None, 0
    while calm < 5:
        if time.monotonic() > deadline:
            sys.exit("slowreader: the pipe does not get full")
        if child.poll() is not None:
            sys.exit("slowreader: it does not wait for its reader")
        filled = struct.unpack("i", fcntl.ioctl(reading, termios.FIONREAD, b"\0" * 4))[0]
        now = look(child.pid)
        calm = calm + 1 if filled > room // 2 and now[0] and now == before else 0
        before = now
        time.sleep(0.01)
    lines = 0
    most = memory_kib(child.pid)
    with open(kept, "wb") as file:
        while piece := os.read(reading, 1 << 16):
            file.write(piece)
            lines += piece.count(b"\n")
            if options["--lines"] and lines >= int(options["--lines"]):
                child.send_signal(signal.SIGTERM)
                options["--lines"] = None
            try:
                most = max(most, memory_kib(child.pid))
            except OSError:
                pass
    status = child.wait(60)
    if beside:
        beside.wait(60)
    print(most)
    sys.exit(status)


main()
