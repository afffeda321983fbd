"""xmpp-manage and xmpp-delegate as filters, and a handler in the hands of the test.

    h = Handler()
    with Manage(handler=h) as p:
        p.send(envelope(ask('1')))
        h.answer(h.next())
        p.answered('o1', "<iq type='result' id='1' .../>")
"""

import json
import os
import socket
import xml.etree.ElementTree as ET

from filter import *
from stanzas import Stanza

HOST = "vhost.test"
D = "deleg.test"
NS = "urn:test:one"
MALLORY = "mallory@vhost.test/m1"
DISCO = "http://jabber.org/protocol/disco#info"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
OK = "<query xmlns='urn:test:one'><ok/></query>"


def ask(id="1", type="get", from_=ALICE, to=HOST, ns=NS, content=None):
    """Return an inner iq."""
    to_ = "" if to is None else " to=%s" % quoteattr(to)
    return ("<iq xmlns='jabber:client' type='%s' id=%s from=%s%s>%s</iq>"
            % (type, quoteattr(id), quoteattr(from_), to_, content or "<query xmlns='%s'/>" % ns))


def envelope(inner, id="o1", from_=HOST, to=D, version=2, type="set"):
    return ("<iq type='%s' id='%s' from='%s' to='%s'><delegation xmlns='urn:xmpp:delegation:%d'>"
            "<forwarded xmlns='urn:xmpp:forward:0'>%s</forwarded></delegation></iq>"
            % (type, id, from_, to, version, inner))


def inner_of(stanza, version=2):
    """Return the iq in an envelope; assert that this is exactly as XEP-0355 has it."""
    delegation, = stanza.element
    if delegation.tag != "{urn:xmpp:delegation:%d}delegation" % version:
        raise Mismatch("no delegation: %r" % stanza)
    forwarded, = delegation
    if forwarded.tag != "{urn:xmpp:forward:0}forwarded":
        raise Mismatch("nothing forwarded: %r" % stanza)
    inner, = forwarded
    if inner.tag != "{jabber:client}iq":
        raise Mismatch("no iq in jabber:client: %r" % stanza)
    for child in inner:
        if child.tag.endswith("}error") and child.tag != "{jabber:client}error":
            raise Mismatch("an error of another namespace: %r" % stanza)
    return Stanza(ET.tostring(inner, encoding="unicode"))


def error(condition):
    type_, name = condition.split("/")
    return "<error type='%s'><%s xmlns='%s'/></error>" % (type_, name, STANZAS)


class Handler:
    """A persistent handler: every start of it is a new connection to this socket, whose lines the
    test reads and writes; when the test closes it, the handler ends."""

    def __init__(self, name="handler"):
        self.path = os.path.join(os.getcwd(), name + ".sock")
        self.command = ["socat", "-t", "0", "-", "UNIX-CONNECT:" + self.path]
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(WAIT_S)
        # the folder of a test may be deeper than a socket's address is long
        at = os.open(os.getcwd(), os.O_PATH)
        self.listener.bind("/proc/self/fd/%d/%s.sock" % (at, name))
        if len(self.path) > 100:
            link = os.path.join("/tmp", "h%d.%s" % (os.getpid(), name))
            os.symlink(self.path, link)
            self.link = link
            self.command[-1] = "UNIX-CONNECT:" + link
        os.close(at)
        self.listener.listen()
        self.connection = None

    def __del__(self):
        if hasattr(self, "link"):
            os.unlink(self.link)

    def started(self):
        """Wait until the handler is there (again)."""
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(WAIT_S)
        self.buffer = b""
        return self

    def line(self):
        if not self.connection:
            self.started()
        while b"\n" not in self.buffer:
            got = self.connection.recv(1 << 18)
            if not got:
                raise Mismatch("the handler's input has ended")
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def next(self):
        return parse(self.line())

    def send(self, *lines):
        self.connection.sendall("".join(line + "\n" for line in lines).encode())

    def answer(self, request, content=OK, type="result", to=None, from_=None):
        self.send("<iq type='%s' id=%s%s%s>%s</iq>" % (
            type, quoteattr(request["id"]), " to=%s" % quoteattr(to) if to else "",
            " from=%s" % quoteattr(from_) if from_ else "", content))

    def die(self):
        self.connection.close()
        self.connection = None


OK_OBJECT = [{"name": "query", "ns": NS, "attrs": {}, "children": [{"name": "ok"}]}]


class JsonHandler(Handler):
    """The handler of --json: next() is an object, and so is what it sends (or a string, as it is)."""

    def next(self):
        return json.loads(self.line())

    def send(self, *objects):
        super().send(*(o if isinstance(o, str) else json.dumps(o) for o in objects))

    def answer(self, request, payload=OK_OBJECT, type="result", **members):
        self.send({"kind": "iq", "type": type, "id": request["id"], "payload": payload, **members})


# What has an id of an open request and cannot be its answer: (members beside the id, what is logged).
BAD_OBJECTS = (
    ({"kind": "message", "type": "result"}, "not an iq"),
    ({"kind": "presence"}, "not an iq"),
    ({"kind": "other", "type": "result"}, "'kind' is none of"),
    ({"v": 2, "type": "result"}, "a version other than 1"),
    ({}, "neither a result nor an error"),
    ({"type": "other"}, "neither a result nor an error"),
    ({"type": 1}, "are strings"),
    ({"type": "result", "to": 1}, "are strings"),
    ({"type": "result", "attrs": {"to": BOB}}, "a member of its own"),
    ({"type": "result", "payload": {}}, "'payload' is no list"),
    ({"type": "result", "payload": [{}]}, "without a name"),
    ({"type": "result", "payload": [1]}, "neither an element nor a string"),
    ({"type": "result", "payload": [{"name": "a><b"}]}, "without a name"),
    ({"type": "result", "payload": ["\ufffe"]}, "string of XML characters"),
    ({"type": "result", "payload": [{"name": "a", "ns": "http://www.w3.org/2000/xmlns/"}]}, "no namespace there can be"),
    ({"type": "result", "payload": [{"name": "a", "ns": 1}]}, "no namespace there can be"),
    ({"type": "result", "payload": [{"name": "a", "attrs": {"b": 1}}]}, "an attribute that is no string"),
    ({"type": "result", "payload": [{"name": "a", "attrs": {"xmlns": "urn:x"}}]}, "an attribute name"),
    # the inner iq contradicts the outer one
    ({"type": "result", "ns": "urn:other", "name": "query", "payload": OK_OBJECT}, "not those of the payload"),
    ({"type": "result", "ns": NS, "name": "other", "payload": OK_OBJECT}, "not those of the payload"),
    ({"type": "result", "ns": NS, "name": "query", "payload": []}, "not those of the payload"),
    ({"type": "error", "error": {"condition": "conflict"}, "payload": OK_OBJECT}, "not that of the payload"),
    ({"type": "result", "error": {"condition": "conflict"}}, "whose type is another"),
    ({"type": "error", "error": {"type": "auth"}}, "without a condition"),
    ({"type": "error", "error": {"condition": "a b"}}, "without a condition"),
    ({"type": "error", "error": "forbidden"}, "'error' is no object"),
    # stanzas, but no answers
    ({"type": "error"}, "without its condition"),
    ({"type": "error", "payload": OK_OBJECT}, "without its condition"),
    ({"type": "result", "payload": OK_OBJECT + OK_OBJECT}, "more than one element"),
    ({"type": "result", "to": BOB}, "addressed to somebody else"),
    ({"type": "result", "to": ""}, "addressed to somebody else"),
    ({"type": "result", "from": BOB}, "that was not asked"),
    ({"type": "result", "payload": [{"name": "a", "children": ["x" * 30000]}]}, "over a limit"),
    ({"type": "result", "payload": [{"name": "a", "children": ["&" * 80000]}]}, "too large"),
)

# Lines that name no open request: they are logged, and nothing else happens.
STRAY_LINES = (
    ("garbage", "not JSON"), ("", "not JSON"), ("{", "not JSON"), ("null", "not an object"), ("[]", "not an object"),
    ('"%s"', "not an object"), ('[{"id":"%s","type":"result"}]', "not an object"), ('{"id":"%s","type":"result"', "not JSON"),
    ('{"id":"%s","type":"result"}{"id":"%s","type":"result"}', "not JSON"), ("{'id':'%s','type':'result'}", "not JSON"),
    ('{"id":"%s","type":"result"} x', "not JSON"), ('{"id":"%s","type":"result","x":"\\u0000"}', "U+0000"),
    ('{"id":"%s","type":"result","payload":' + "[" * 2000 + "]" * 2000 + "}", "nested too deeply"),
    ('{"id":"%s","type":"result","payload":["' + "x" * 400000 + '"]}', "line too long"),
    ('{"type":"result"}', "answers no open request"), ('{"id":"x%s","type":"result"}', "answers no open request"),
    ('{"id":"x%s","type":"error","error":{}}', "without a condition"), ('{"id":["%s"],"type":"result"}', "are strings"),
    ("<iq type='result' id='%s'/>", "not JSON"),
)


class Manage(Filter):
    """xmpp-manage for deleg.test as a filter. handler: a Handler, or a command."""

    def __init__(self, *options, handler=("true",), ns=(NS,), hosts=(HOST,), **more):
        command = ["xmpp-manage", "--domain", D]
        for host in hosts:
            command += ["--host", host]
        for name in ns:
            command += ["--namespace", name]
        super().__init__(*command, *options, "--",
                         *(handler.command if isinstance(handler, Handler) else handler), **more)
        if isinstance(handler, Handler):
            handler.started()

    def answered(self, id, pattern, version=2, to=HOST):
        """Assert that the next stanza is the envelope with this inner iq."""
        stanza = self.next()
        if dict(stanza.element.attrib) != {"type": "result", "id": id, "to": to, "from": D}:
            raise Mismatch("not the outer result %s: %r" % (id, stanza))
        return check(inner_of(stanza, version), pattern)

    def failed(self, outer_id, condition, id="1", to=ALICE, from_=HOST, version=2):
        return self.answered(outer_id, "<iq type='error' id='%s' to='%s' from='%s'>%s</iq>"
                             % (id, to, from_, error(condition)), version)

    def result(self, outer_id, id="1", to=ALICE, from_=HOST, content=OK, version=2):
        return self.answered(outer_id, "<iq type='result' id='%s' to='%s' from='%s'>%s</iq>"
                             % (id, to, from_, content), version)

    def ask_disco(self, node, id="d1", from_=HOST):
        self.send("<iq type='get' id='%s' from='%s' to='%s'><query xmlns='%s'%s/></iq>"
                  % (id, from_, D, DISCO, " node='%s'" % node if node else ""))

    def disco(self, node, id="d1", from_=HOST):
        """Return the query element of an answer."""
        self.ask_disco(node, id, from_)
        stanza = self.next()
        if (stanza["type"], stanza["id"], stanza["to"], stanza["from"]) != ("result", id, from_, D):
            raise Mismatch("no disco#info result: %r" % stanza)
        query, = stanza.element
        if query.tag != "{%s}query" % DISCO or query.get("node") != node:
            raise Mismatch("no disco#info of %s: %r" % (node, stanza))
        return query


def features(query):
    return [n.get("var") for n in query.findall("{%s}feature" % DISCO)]


def identities(query):
    return [(n.get("category"), n.get("type"), n.get("name")) for n in query.findall("{%s}identity" % DISCO)]


def forms(query):
    return [{field.get("var"): [v.text for v in field] for field in form}
            for form in query.findall("{jabber:x:data}x")]


ENT = "ent.test"
HOSTD = "host.test"


class Delegate(Filter):
    """xmpp-delegate for host.test as a filter; by default urn:test:one belongs to ent.test, which
    has been told and has answered."""

    def __init__(self, *options, rules=("urn:test:one=ent.test",), told=True, **more):
        command = ["xmpp-delegate", "--domain", HOSTD]
        for rule in rules:
            command += ["--delegate", rule]
        super().__init__(*command, *options, **more)
        if told and rules == ("urn:test:one=ent.test",):
            self.tell()

    def tell(self, entity=ENT, ns=(NS,), version=2, host="", bare=""):
        """Read the advertisement and the nesting queries, and answer these."""
        self.advertised(entity, *ns, version=version)
        for query in self.nesting(entity, ns, version):
            self.answer_nesting(query, bare if ":bare:" in query.element[0].get("node") else host)
        self.nothing()

    def advertised(self, entity, *ns, version=2):
        """Assert that the next stanza is the advertisement; a namespace may be (ns, attribute...)."""
        content = ""
        for name in ns:
            name, *attributes = [name] if isinstance(name, str) else name
            content += "<delegated namespace='%s'>%s</delegated>" % (
                name, "".join("<attribute name='%s'/>" % a for a in attributes))
        self.expect("<message from='%s' to='%s'><delegation xmlns='urn:xmpp:delegation:%d'>%s</delegation></message>"
                    % (HOSTD, entity, version, content))

    def nesting(self, entity, ns=(NS,), version=2):
        """Assert that the next stanzas are the nesting queries for these namespaces."""
        queries = [self.next() for i in range(2 * len(ns))]
        nodes = set()
        for query in queries:
            check(query, "<iq type='get' id='{id}' from='%s' to='%s'><query xmlns='%s' node='{node}'/></iq>" % (HOSTD, entity, DISCO))
            nodes.add(query.element[0].get("node"))
        wanted = {"urn:xmpp:delegation:%d%s%s" % (version, half, name) for half in ("::", ":bare:") for name in ns}
        if nodes != wanted:
            raise Mismatch("nesting queries for %r, not %r" % (nodes, wanted))
        return queries

    def answer_nesting(self, query, content="", node=None):
        self.send("<iq type='result' id='%s' from='%s' to='%s'><query xmlns='%s' node='%s'>%s</query></iq>"
                  % (query["id"], query["to"], query["from"], DISCO, node or query.element[0].get("node"), content))

    def request(self, id="1", type="get", from_=ALICE, to=HOSTD, ns=NS, content=None):
        self.send(ask(id, type, from_, to, ns, content).replace(" xmlns='jabber:client'", "", 1))

    def forwarded(self, entity=ENT, version=2):
        """Return the next stanza, which must be an envelope to the entity, and the iq in it."""
        outer = self.next()
        if (outer["type"], outer["to"], outer["from"]) != ("set", entity, HOSTD) or not outer["id"]:
            raise Mismatch("no envelope to %s: %r" % (entity, outer))
        return outer, inner_of(outer, version)

    def asked(self, id="1", entity=ENT, **more):
        self.request(id, **more)
        outer, inner = self.forwarded(entity)
        if inner["id"] != id:
            raise Mismatch("another request: %r" % outer)
        return outer, inner

    def reply(self, outer, inner, content=OK, type="result", from_=None, version=2, **attributes):
        """Return the entity's right answer with the attributes given exchanged (None: absent)."""
        a = {"type": type, "id": inner["id"], "from": inner["to"], "to": inner["from"]}
        a.update({k.rstrip("_"): v for k, v in attributes.items()})
        self.send(envelope("<iq xmlns='jabber:client'%s>%s</iq>" % (
            "".join(" %s=%s" % (k, quoteattr(v)) for k, v in a.items() if v is not None), content),
            id=outer["id"], from_=from_ or outer["to"], to=HOSTD, version=version, type="result"))

    def result(self, id="1", to=ALICE, from_=HOSTD, content=OK):
        self.expect("<iq type='result' id='%s' to='%s' from='%s'>%s</iq>" % (id, to, from_, content))

    def refused(self, id="1", condition="cancel/service-unavailable", to=ALICE, from_=HOSTD):
        self.error(condition, id, to, from_)

    def served(self, id="1", entity=ENT, **more):
        self.reply(*self.asked(id, entity, **more))
        self.result(id)

    def info(self, to=HOSTD, from_=ALICE):
        """Return the query element of the answer to disco#info."""
        self.send("<iq type='get' id='i' from='%s' to='%s'><query xmlns='%s'/></iq>" % (from_, to, DISCO))
        stanza = self.next()
        if (stanza["type"], stanza["id"], stanza["to"], stanza["from"]) != ("result", "i", from_, to):
            raise Mismatch("no disco#info result: %r" % stanza)
        return stanza.element[0]
