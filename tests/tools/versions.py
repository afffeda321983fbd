#!/usr/bin/env python3
"""versions.py table                the table of tests/data/versions in Markdown
versions.py into README            put it between the marks in README
versions.py ran TAP VERSION...     whether the runs in the folder TAP show what the table says of these
                                   servers; VERSION is "Prosody 13.0.1" or "ejabberd 24.12"
"""
import os
import re
import sys

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
SERVERS = ["Prosody 0.12", "Prosody 13.0", "ejabberd 23.01", "ejabberd 24.12"]
NOTES = ["[1] ejabberd 24.10 to 24.12 drop the IQs of every component while `mod_privilege` is loaded."]
BEGIN, END = "<!-- made by `make versions` -->\n", "<!-- end of what is made -->\n"


def rows():
    with open(os.path.join(TESTS, "data", "versions"), encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                feature, prosody, ejabberd, *cells = (cell.strip() for cell in line.split("|"))
                assert len(cells) == len(SERVERS), line
                assert all(re.match(r"(works|cannot|not tried)\b|-$", cell) for cell in cells), line
                yield feature, {"Prosody": prosody, "ejabberd": ejabberd}, dict(zip(SERVERS, cells))


def table():
    lines = ["| | " + " | ".join(SERVERS) + " |", "|-" * (len(SERVERS) + 1) + "|"]
    lines += ["| %s | %s |" % (feature, " | ".join(cells.values())) for feature, _, cells in rows()]
    return "\n".join(lines + [""] + NOTES) + "\n"


def into(path):
    with open(path, encoding="utf-8") as file:
        before, _, rest = file.read().partition(BEGIN)
    assert rest, "no mark in " + path
    with open(path, "w", encoding="utf-8") as file:
        file.write(before + BEGIN + "\n" + table() + "\n" + END + rest.partition(END)[2])


def results(folder, tests):
    """{name of a test: whether it passed} of those that `tests` means"""
    found = {}
    for one in tests.split():
        file, _, pattern = one.partition("/")
        path = os.path.join(folder, file + ".tap")
        with open(path if os.path.exists(path) else os.devnull, encoding="utf-8", errors="replace") as tap:
            for line in tap:
                test = re.match(r"(not ok|ok) \d+ (.*)", line)
                # a test that cannot run here tells nothing
                if test and re.search(pattern, test[2]) and "# skip" not in line:
                    found[file + ": " + test[2]] = test[1] == "ok"
    return found


def ran(folder, versions):
    wrong = []
    for server in [s for s in SERVERS if any(v.startswith(s) for v in versions)]:
        for feature, tests, cells in rows():
            if not cells[server].startswith("works"):
                continue
            found = results(folder, tests[server.split()[0]])
            if not found:
                wrong.append("%s, %s: no test of it was run" % (feature, server))
            wrong += ["%s, %s: %s" % (feature, server, name) for name, passed in found.items() if not passed]
    return wrong


def main():
    what, *words = sys.argv[1:]
    if what == "table":
        print(table(), end="")
    elif what == "into":
        into(*words)
    else:
        wrong = ran(words[0], words[1:])
        if wrong:
            sys.exit("\n".join(wrong))


main()
