#!/usr/bin/env python3
"""A system crontab (/etc/cron.d) as crontab(5) of Debian has it.

  crontab.py FILE DIR     checks every line; writes each command to DIR/N.command and what it gets on
                          standard input to DIR/N.stdin; prints "N USER". 1 and words if a line is wrong
"""
import os
import re
import sys

RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
NAMES = ({}, {}, {},
         dict(zip("jan feb mar apr may jun jul aug sep oct nov dec".split(), range(1, 13))),
         dict(zip("sun mon tue wed thu fri sat".split(), range(7))))
NICKNAMES = "reboot yearly annually monthly weekly daily midnight hourly".split()


def number(text, i):
    text = str(NAMES[i].get(text.lower(), text))
    return text.isdigit() and RANGES[i][0] <= int(text) <= RANGES[i][1]


def field_right(text, i):
    for part in text.split(","):
        m = re.fullmatch(r"(\*|\w+(?:-\w+)?)(?:/(\d+))?", part)
        if not m or m.group(2) == "0":
            return False
        if m.group(1) != "*" and not all(number(end, i) for end in m.group(1).split("-")):
            return False
        if m.group(2) and m.group(1).isdigit():
            return False
    return True


def command_and_input(text):
    """Return the command, up to the first % that is not escaped, and its input, in which % is a newline."""
    parts = re.split(r"(?<!\\)%", text)
    parts = [p.replace("\\%", "%") for p in parts]
    return parts[0], "".join(p + "\n" for p in parts[1:])


def main():
    n = 0
    raw = open(sys.argv[1]).read()
    if not raw.endswith("\n"):
        sys.exit("no newline at the end: cron refuses the file")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", os.path.basename(sys.argv[1])):
        sys.exit("cron does not look at a file of that name")
    for line in raw.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if re.match(r"\s*\w+\s*=", line):
            continue
        if len(line) > 998:
            sys.exit("line too long: " + line)
        if line.startswith("@"):
            fields = line.split(None, 2)
            right = fields[0][1:] in NICKNAMES and len(fields) == 3
        else:
            fields = line.split(None, 6)
            right = len(fields) == 7 and all(field_right(f, i) for i, f in enumerate(fields[:5]))
        if not right or not re.fullmatch(r"[a-z_][a-z0-9_-]*", fields[-2]):
            sys.exit("wrong: " + line)
        n += 1
        command, given = command_and_input(fields[-1])
        open("%s/%d.command" % (sys.argv[2], n), "w").write(command)
        open("%s/%d.stdin" % (sys.argv[2], n), "w").write(given)
        print(n, fields[-2])


main()
