#!/usr/bin/env python3
"""sweep.py DIR USUAL EXPECTED...: whether the runs that preload/sweep.so left in DIR are as expected

The last run with each setting had no fault: it must have ended with the status USUAL. Every other
one ends as it did, with the same output, or as one EXPECTED says: STATUS, or STATUS:REGEX for a line
of its words or output; the first of them has to be seen. "same": all runs have to be as the last. Prints the
statuses seen.
"""
import os
import re
import sys


def read(folder, name):
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def output(folder, n):
    # the one line of an answer over HTTP that depends on the time
    return re.sub(rb"(?m)^Date: .*\r\n", b"", read(folder, n + ".out"))


def words(folder, n):
    # a port that the system has chosen is another one in each run
    return re.sub(rb"(listening on \S*):\d+", rb"\1:PORT", read(folder, n + ".err"))


def wrong_ones(folder, usual, expected, seen, statuses):
    runs = [line.split() for line in read(folder, "statuses").decode().splitlines()]
    last, status = runs.pop()
    words_usual = words(folder, last)
    if status != usual:
        yield f"without a fault: exit status {status}: {words_usual!r}"
    same = output(folder, last)
    for n, status in runs:
        told = words(folder, n)
        said = False
        statuses.add(status)
        for spec in expected:
            want, _, pattern = spec.partition(":")
            if want == status and (
                    not pattern or re.search(pattern, told.decode(), re.MULTILINE)
                    or re.search(pattern.encode(), output(folder, n))):
                seen.add(spec)
                said = True
        if said or (status == usual and output(folder, n) == same and (
                status != "75" or told == words_usual)):
            continue
        why = "other output" if status == usual else told.decode()[-500:]
        yield f"{n}: exit status {status}: {why}"


def main():
    top, usual, *expected = sys.argv[1:]
    seen, statuses, wrong = set(), {usual}, []
    for number in sorted(os.listdir(top), key=int):
        for one in wrong_ones(os.path.join(top, number), usual, expected, seen, statuses):
            wrong.append(f"setting {number}, {one}")
    if expected[0] != "same" and expected[0] not in seen:
        wrong.append(f"{expected[0]} was never seen")
    print(*sorted(statuses))
    if wrong:
        sys.exit("\n".join(wrong[:10]))


main()
