"""Stanzas as tests see them: parsed, compared by meaning, never by attribute order.

    stanza = parse("<iq type='get' id='1' to='a@b'><query xmlns='urn:x'/></iq>")
    stanza['type'], stanza.name, stanza.error, stanza.raw
    caught = check(stanza, "<iq type='get' id='{id}' to='a@b'>...</iq>")   # {'id': '1'}

In a pattern an attribute value may hold {name} (anything, caught under that name; seen before:
the same again) or {} (anything). Content `...` matches any content. An <error type='T'><CONDITION/></error>
in a pattern matches an error of that type and condition, with or without text and with or
without an echo of the payload before it. xml:lang of the root counts only where the pattern has
one: servers add it.
"""

import re
import xml.etree.ElementTree as ET

STANZAS_NS = "urn:ietf:params:xml:ns:xmpp-stanzas"
ROOT_NS = ("jabber:client", "jabber:component:accept")
XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


class Mismatch(AssertionError):
    pass


def _plain(tag):
    """Write the three namespaces of a root as one."""
    for ns in ROOT_NS:
        if tag.startswith("{" + ns + "}"):
            return tag[len(ns) + 2:]
    return tag


class Stanza:
    def __init__(self, raw):
        self.raw = raw
        holder = ET.fromstring("<w xmlns:stream='http://etherx.jabber.org/streams'>%s</w>" % raw)
        if len(holder) != 1:
            raise Mismatch("not one stanza: %.300r" % raw)
        self.element = holder[0]
        self.name = _plain(self.element.tag)
        self.lineage_namespace = self.element.tag

    def __getitem__(self, attribute):
        return self.element.get(attribute)

    @property
    def children(self):
        return list(self.element)

    @property
    def payload(self):
        """Return the expanded name of the first child, or None."""
        return _plain(self.element[0].tag) if len(self.element) else None

    @property
    def error(self):
        """Return 'type/condition' of an error stanza, or None."""
        for child in self.element:
            if _plain(child.tag) != "error":
                continue
            for condition in child:
                if condition.tag.startswith("{%s}" % STANZAS_NS) and not condition.tag.endswith("}text"):
                    return "%s/%s" % (child.get("type"), condition.tag.split("}")[1])
        return None

    def __repr__(self):
        return self.raw if len(self.raw) < 600 else self.raw[:400] + " ... " + self.raw[-150:]


def parse(raw):
    return Stanza(raw)


def _value(pattern, actual, caught, where):
    if actual is None:
        raise Mismatch("%s is missing" % where)
    names = []

    def part(match):
        name = match.group(1)
        if name == "":
            return ".*"
        if name in caught:
            return re.escape(caught[name])
        if name in names:
            return "(?P=%s)" % name
        names.append(name)
        return "(?P<%s>.*)" % name

    pieces = re.split(r"(\{[a-z_0-9]*\})", pattern)
    text = "".join(re.sub(r"\{([a-z_0-9]*)\}", part, p) if p.startswith("{") and p.endswith("}")
                   else re.escape(p) for p in pieces)
    match = re.fullmatch(text, actual, re.DOTALL)
    if not match:
        raise Mismatch("%s is %.200r, not %.200r" % (where, actual, pattern))
    caught.update(match.groupdict())


def _element(pattern, actual, caught, root):
    where = "<%s>" % _plain(pattern.tag)
    if _plain(pattern.tag) != _plain(actual.tag):
        raise Mismatch("<%s> instead of %s" % (_plain(actual.tag), where))
    wanted, have = dict(pattern.attrib), dict(actual.attrib)
    if root and XML_LANG not in wanted:
        have.pop(XML_LANG, None)
    for name, value in wanted.items():
        _value(value, have.pop(name, None), caught, "%s of %s" % (name, where))
    if have:
        raise Mismatch("%s has %s besides" % (where, ", ".join(sorted(have))))
    if (pattern.text or "").strip() == "...":
        return
    pattern_children, actual_children = list(pattern), list(actual)
    if root and len(pattern_children) == 1 and _plain(pattern_children[0].tag) == "error":
        wanted_error = pattern_children[0]
        if not actual_children or _plain(actual_children[-1].tag) != "error":
            raise Mismatch("no <error/> at the end of %s" % where)
        error = actual_children[-1]
        if error.get("type") != wanted_error.get("type"):
            raise Mismatch("error type %r, not %r" % (error.get("type"), wanted_error.get("type")))
        conditions = ["{%s}%s" % (STANZAS_NS, _plain(c.tag).split("}")[-1]) for c in wanted_error]
        have_conditions = [c.tag for c in error
                           if c.tag.startswith("{%s}" % STANZAS_NS) and not c.tag.endswith("}text")]
        if conditions != have_conditions:
            raise Mismatch("condition %s, not %s" % (have_conditions, conditions))
        return
    if (pattern.text or "") != (actual.text or ""):
        raise Mismatch("text %.200r, not %.200r in %s" % (actual.text, pattern.text, where))
    if len(pattern_children) != len(actual_children):
        raise Mismatch("%d children, not %d in %s"
                       % (len(actual_children), len(pattern_children), where))
    for p, a in zip(pattern_children, actual_children):
        _element(p, a, caught, False)
        if (p.tail or "") != (a.tail or ""):
            raise Mismatch("text %.200r after <%s>, not %.200r" % (a.tail, a.tag, p.tail))


def check(stanza, pattern, caught=None):
    """Raise Mismatch unless the stanza is what the pattern says; return what its {names} stood for."""
    caught = {} if caught is None else caught
    trial = dict(caught)
    try:
        _element(parse(pattern).element, stanza.element, trial, True)
    except Mismatch as why:
        raise Mismatch("%s\n  expected: %.600s\n  got:      %r" % (why, pattern, stanza)) from None
    caught.update(trial)
    return caught


def matches(stanza, pattern, caught=None):
    try:
        check(stanza, pattern, caught)
        return True
    except Mismatch:
        return False
