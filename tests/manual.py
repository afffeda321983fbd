#!/usr/bin/env python3
"""What a manual page says, for tests to hold against the programs.

  manual.py pages DIR PAGE...      of each PAGE, as its base name in DIR: .sections, one a line; .synopsis,
                                   one form a line; .options, NAME TAB LETTER TAB VALUE, sorted; .limits, the names
                                   in LIMITS; .statuses, the numbers in EXIT STATUS
  manual.py helps DIR PAGE...      the same of what the program of PAGE prints with --help: .synopsis,
                                   .options and .limits; .defaults, numbers that are defaults there and not in the
                                   option's text in the page; prints how many were looked up
  manual.py statuses PAGE          the numbers in EXIT STATUS
  manual.py examples PAGE DIR      every display of EXAMPLES into DIR/01, DIR/02...
  manual.py displays PAGE DIR      every display of the page, numbered in its section or subsection, into
                                   DIR/SECTION.1, DIR/SECTION: SUBSECTION.1, ...

Pages are read as mandoc renders them, so what is compared (and, for examples, executed)
is what a reader sees.
"""
import html.parser
import os
import re
import subprocess
import sys


class Page(html.parser.HTMLParser):
    """Per section: its text, list heads (dt), synopsis rows and displays (pre)."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.sections = {}  # name -> {"dt": [], "row": [], "pre": [], "literal": []}
        self.name = None
        self.subsection = None
        self.catch = None  # tag whose text is being collected
        self.text = ""
        self.literal = False
        out = subprocess.run(["mandoc", "-T", "html", "-O", "fragment", path],
                             stdout=subprocess.PIPE, check=True).stdout
        self.feed(out.decode())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        classes = (attrs.get("class") or "").split()
        if tag == "div" and "Bd" in classes:
            self.literal = "Li" in classes
        if tag == "h1" and "Sh" in classes:
            self.begin("h1")
        elif tag == "h2" and "Ss" in classes:
            self.begin("h2")
        elif tag == "table" and "Nm" in classes:
            self.begin("table")
        elif tag in ("dt", "pre") and not self.catch:
            self.begin(tag)

    def begin(self, tag):
        self.catch = tag
        self.text = ""

    def handle_endtag(self, tag):
        if tag != self.catch:
            return
        self.catch = None
        if tag == "h1":
            self.name = " ".join(self.text.split())
            self.sections[self.name] = {"dt": [], "row": [], "pre": []}
            self.subsection = None
        elif tag == "h2":
            self.subsection = " ".join(self.text.split())
        elif tag == "pre":
            self.sections[self.name]["pre"].append((self.literal, self.text, self.subsection))
        else:
            key = "dt" if tag == "dt" else "row"
            self.sections[self.name][key].append(" ".join(self.text.split()))

    def handle_data(self, data):
        if self.catch:
            self.text += data

    def section(self, name):
        if name not in self.sections:
            sys.exit("no section %s" % name)
        return self.sections[name]


def tight(text):
    """One form of writing for brackets and bars, which the two sides space differently."""
    text = " ".join(text.split())
    text = re.sub(r"\s*\|\s*", "|", text)
    text = re.sub(r"\[\s+", "[", text)
    text = re.sub(r"\s+\]", "]", text)
    return text.replace(" ...", "...")


def option(head):
    """'-d, --domain D' -> (name, letter, value)"""
    m = re.match(r"(?:-(\w),? ?)?(?:--([a-z0-9][a-z0-9-]*))?(.*)$", head)
    letter, name, value = m.group(1) or "", m.group(2) or "", m.group(3)
    # --name=VALUE and --name VALUE are the same thing, --name[=VALUE] is not
    return name, letter, re.sub(r"^=|\s+", "", value)


def help_usage(text):
    usage = []
    for line in text.splitlines():
        if not line.strip():
            break
        program = usage[0].split()[0] if usage else ""
        line = line.removeprefix("usage:").strip()
        if not usage or line.split()[0] == program:
            usage.append(line)
        else:
            usage[-1] += " " + line
    return [tight(u) for u in usage]


def help_options(text):
    found = []
    for line in text.splitlines():
        m = re.match(r"\s{1,8}((?:-\w, |\s*)--[a-z0-9].*?)(?:\s{2,}.*)?$", line.rstrip())
        if m:
            found.append(option(m.group(1).strip()))
    return found


def help_limits(text):
    """The part of --help with the limits: (name, words)"""
    part = re.search(r"(?ms)^limits, set by --limit=NAME=N:\n(.*)", text)
    return re.findall(r"(?m)^  ([a-z-]+) +(.*)$", part.group(1)) if part else []


def items_of(source, section):
    """The items of a section's list in a page's source"""
    part = re.search(r"(?ms)^\.Sh %s\n(.*?)^\.Sh " % section, source)
    return re.split(r"(?m)^\.It ", part.group(1))[1:] if part else []


def defaults_missing(path, text):
    """(how many were looked up, those that are not in the page)"""
    # an option's lines in --help, and its item in the source of the page
    helped = re.findall(r"(?m)^ {1,8}(?:-\w, )? *--([a-z0-9-]+)(.*(?:\n {9,}(?!-).*)*)", text)
    with open(path) as f:
        source = f.read()
    items = {}
    for item in items_of(source, "OPTIONS"):
        for name in re.findall(r"-([a-z0-9-]{2,})", item.split("\n", 1)[0]):
            items[name] = item
    for item in items_of(source, "LIMITS"):
        items["limit " + item.split()[1]] = item
    checked, missing = 0, []
    for name, words in helped + [("limit " + name, words) for name, words in help_limits(text)]:
        m = re.search(r"\(default ([0-9]\w*)\b", " ".join(words.split()))
        if m:
            checked += 1
            item = items.get(name, "")
            if "default" not in item or not re.search(r"\b%s\b" % m.group(1), item):
                missing.append("--%s: default %s" % (name, m.group(1)))
    return checked, missing


def write(folder, path, kind, lines):
    with open("%s/%s.%s" % (folder, os.path.basename(path), kind), "w") as f:
        f.write("".join(line + "\n" for line in lines))


def options_lines(options):
    return ["\t".join(o) for o in sorted(options)]


def statuses(page):
    return [n for dt in page.section("EXIT STATUS")["dt"] for n in re.findall(r"\d+", dt)]


def pages(folder, paths):
    for path in paths:
        page = Page(path)
        write(folder, path, "sections", page.sections)
        if path.endswith(".7"):
            continue
        write(folder, path, "synopsis", [tight(row) for row in page.section("SYNOPSIS")["row"]])
        write(folder, path, "options", options_lines(
            option(dt) for dt in page.section("OPTIONS")["dt"] if dt.startswith("-")))
        limits = page.sections.get("LIMITS", {"dt": []})["dt"]
        write(folder, path, "limits", sorted(limits))
        write(folder, path, "statuses", statuses(page))


def helps(folder, paths):
    total = 0
    for path in paths:
        program = os.path.basename(path).rsplit(".", 1)[0]
        text = subprocess.run([program, "--help"], stdout=subprocess.PIPE, check=True).stdout.decode()
        write(folder, path, "synopsis", help_usage(text))
        write(folder, path, "options", options_lines(help_options(text)))
        write(folder, path, "limits", sorted(name for name, _ in help_limits(text)))
        checked, missing = defaults_missing(path, text)
        total += checked
        write(folder, path, "defaults", missing)
    print(total)


def main():
    command, args = sys.argv[1], sys.argv[2:]
    if command == "pages":
        return pages(args[0], args[1:])
    if command == "helps":
        return helps(args[0], args[1:])
    page = Page(args[0])
    if command == "statuses":
        print("\n".join(statuses(page)))
    elif command == "examples":
        displays = page.section("EXAMPLES")["pre"]
        for i, (literal, text, _) in enumerate(displays, 1):
            if not literal:
                sys.exit("display %d of EXAMPLES is not .Bd -literal" % i)
            with open(os.path.join(args[1], "%02d" % i), "w") as f:
                f.write(text.strip("\n") + "\n")
        print(len(displays))
    elif command == "displays":
        for section, parts in page.sections.items():
            numbers = {}
            for literal, text, subsection in parts["pre"]:
                if not literal:
                    sys.exit("a display of %s is not .Bd -literal" % section)
                name = "%s: %s" % (section, subsection) if subsection else section
                numbers[name] = numbers.get(name, 0) + 1
                with open(os.path.join(args[1], "%s.%d" % (name, numbers[name])), "w") as f:
                    f.write(text.strip("\n") + "\n")
    else:
        sys.exit(__doc__)


main()
