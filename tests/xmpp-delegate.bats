#!/usr/bin/env bats
# xmpp-delegate as a filter: every clause of its contract.
# installcheck

load lib
load stream
load tools/scenario

teardown() { stop_all; }

# delegation: run the scenario on standard input, with the names of tests/tools/delegation.py
delegation() { scenario delegation; }

# --- start

@test "start: the advertisement, then the nesting queries; answered ones are not repeated" {
	delegation <<-'END'
		with Delegate('--delegate', 'urn:two[a,b]=ent.test', '--delegate', 'urn:three=other.test', told=False) as p:
		    p.advertised(ENT, NS, ('urn:two', 'a', 'b'))
		    first = p.nesting(ENT, (NS, 'urn:two'))
		    p.advertised('other.test', 'urn:three')
		    second = p.nesting('other.test', ('urn:three',))
		    assert len({q['id'] for q in first + second}) == 6
		    for query in first[1:] + second:
		        p.answer_nesting(query)
		    p.nothing()
		    # the missing delegation comes back after its advertisement
		    p.advertised(ENT, NS, ('urn:two', 'a', 'b'))
		    query = p.next()
		    assert query.element[0].get('node') == first[0].element[0].get('node')
		    p.answer_nesting(query)
		    p.nothing()
	END
}

@test "start: what is bounced or unanswered is repeated after 1 s, then 2 s" {
	delegation <<-'END'
		with Delegate(told=False) as p:
		    begin = time.monotonic()
		    for round in range(3):
		        p.advertised(ENT, NS)
		        at = time.monotonic() - begin
		        assert (0, 0.8, 2.7)[round] <= at < (1, 2.8, 7)[round], (round, at)
		        for query in p.nesting(ENT):
		            if round == 0:
		                p.send("<iq type='error' id='%s' from='ent.test' to='host.test'>%s</iq>" % (query['id'], error('wait/remote-server-timeout')))
		        if round == 0:
		            p.send("<message type='error' from='ent.test' to='host.test'>%s</message>" % error('wait/remote-server-timeout'))
		    p.nothing()
	END
}

@test "--delegation-version 1" {
	delegation <<-'END'
		with Delegate('--delegation-version', '1', told=False) as p:
		    p.tell(version=1)
		    p.request()
		    outer, inner = p.forwarded(version=1)
		    p.reply(outer, inner, version=1)
		    p.result()
		    p.request()
		    p.reply(*p.forwarded(version=1))      # :2
		    p.refused()
		    assert 'urn:xmpp:delegation:1' in features(p.info())
	END
}

# --- what is forwarded

@test "forwarded: get and set to the domain and to accounts; the inner iq whole, outer ids unguessable" {
	delegation <<-'END'
		with Delegate() as p:
		    ids = set()
		    for to in (HOSTD, 'x@host.test'):
		        for kind in ('get', 'set'):
		            outer, inner = p.asked("i'd", type=kind, to=to, content="<query xmlns='urn:test:one' a='b'><x>t</x></query>")
		            check(inner, "<iq xmlns='jabber:client' type='%s' id=\"i'd\" from='%s' to='%s'><query xmlns='urn:test:one' a='b'><x>t</x></query></iq>" % (kind, ALICE, to))
		            assert len(outer['id']) >= 22
		            ids.add(outer['id'])
		            p.reply(outer, inner)
		            p.expect("<iq type='result' id=\"i'd\" to='%s' from='%s'>%s</iq>" % (ALICE, to, OK))
		    assert len(ids) == 4
	END
}

@test "not forwarded: full JIDs, other namespaces, results, errors, messages; they pass through" {
	delegation <<-'END'
		with Delegate() as p:
		    for foreign in ("<iq type='get' id='1' from='%s' to='host.test/r'><query xmlns='urn:test:one'/></iq>" % ALICE,
		                    "<iq type='set' id='1' from='%s' to='x@host.test/r'><query xmlns='urn:test:one'/></iq>" % ALICE,
		                    "<iq type='get' id='1' from='%s' to='host.test'><query xmlns='urn:test:one2'/></iq>" % ALICE,
		                    "<iq type='get' id='1' from='%s' to='host.test'><query xmlns='urn:other'><query xmlns='urn:test:one'/></query></iq>" % ALICE,
		                    "<iq type='get' id='1' from='%s' to='sub.host.test'><query xmlns='urn:test:one'/></iq>" % ALICE,
		                    "<message from='%s' to='host.test'><body>x</body></message>" % ALICE,
		                    "<presence from='%s' to='host.test'/>" % ALICE,
		                    "<iq type='result' id='1' from='%s' to='x@host.test'/>" % ALICE,
		                    "<message to='elsewhere.test'/>"):
		        p.send(foreign)
		        assert p.next().raw == foreign, foreign
		    p.send("<iq type='result' id='1' from='%s' to='host.test'><query xmlns='urn:test:one'/></iq>" % ALICE,
		           "<iq type='error' id='1' from='%s' to='host.test'><query xmlns='urn:test:one'/></iq>" % ALICE)
		    p.nothing()
		    for bad in ("<iq type='get' from='%s' to='host.test'><query xmlns='urn:test:one'/></iq>", "<iq type='get' id='1' from='%s' to='host.test'/>",
		                "<iq id='1' from='%s' to='host.test'><query xmlns='urn:test:one'/></iq>",
		                "<iq type='get' id='1' from='%s' to='host.test'><query xmlns='urn:test:one'/><b xmlns='urn:b'/></iq>"):
		        p.send(bad % ALICE)
		        assert p.next().error == 'modify/bad-request'
	END
}

@test "filtering: all attributes must be there, empty counts, look-alikes do not" {
	delegation <<-'END'
		with Delegate(rules=('urn:f[node,kind]=ent.test',)) as p:
		    p.advertised(ENT, ('urn:f', 'node', 'kind'))
		    for query in p.nesting(ENT, ('urn:f',)):
		        p.answer_nesting(query)
		    p.nothing()
		    for attributes in ("", "node='x'", "kind='x'", "Node='' kind=''", "xmlns:y='urn:y' y:node='1' kind='2'",
		                       "xmlns:node='urn:y' kind='2'"):
		        text = "<iq type='get' id='1' from='%s' to='host.test'><query xmlns='urn:f' %s/></iq>" % (ALICE, attributes)
		        p.send(text)
		        assert p.next()['to'] == HOSTD, text
		    for attributes in ("node='x' kind='y'", "kind='' node=''", "xmlns:y='urn:y' y:node='1' node='2' kind='3' more='4'"):
		        outer, inner = p.asked(content="<query xmlns='urn:f' %s/>" % attributes)
		        p.reply(outer, inner)
		        p.result()
	END
}

@test "requests of the managing entity's own addresses are not forwarded to it" {
	delegation <<-'END'
		with Delegate() as p:
		    for own in (ENT, 'x@ent.test', 'ent.test/r'):
		        p.request(from_=own)
		        assert p.next()['to'] == HOSTD
		    p.reply(*p.asked(from_='sub.ent.test'))
		    p.result(to='sub.ent.test')
		with Delegate(rules=('urn:test:one=carol@vhost.test/c',)) as p:
		    p.advertised('carol@vhost.test/c', NS)
		    p.nesting('carol@vhost.test/c')
		    for own in ('carol@vhost.test/c', 'carol@vhost.test/d', 'carol@vhost.test'):
		        p.request(from_=own)
		        assert p.next()['to'] == HOSTD
		    p.asked(entity='carol@vhost.test/c')
	END
}

@test "a look-alike from, to or id is not the stanza's" {
	delegation <<-'END'
		with Delegate() as p:
		    p.send("<iq xmlns:y='urn:y' y:from='bob@vhost.test/b1' y:id='9' y:to='evil.test' type='get' id='1' from='%s' to='host.test'><query xmlns='urn:test:one'/></iq>" % ALICE)
		    outer, inner = p.forwarded()
		    assert (inner['from'], inner['to'], inner['id']) == (ALICE, HOSTD, '1')
		    p.send(envelope("<iq xmlns='jabber:client' xmlns:y='urn:y' y:from='host.test' type='result' id='1' to='%s'/>" % ALICE, outer['id'], ENT, HOSTD, type='result'))
		    p.refused()
		    outer, inner = p.asked()
		    p.send(envelope("<iq xmlns='jabber:client' type='result' id='1' from='host.test' to='%s'/>" % ALICE, outer['id'], 'evil.test', HOSTD, type='result').replace("<iq ", "<iq xmlns:y='urn:y' y:from='ent.test' ", 1))
		    p.nothing()
		    p.reply(outer, inner)
		    p.result()
	END
}

# --- answers

@test "right answers: a result, an empty one, an error with and without echo, however large" {
	delegation <<-'END'
		large = "<query xmlns='urn:test:one'>%s</query>" % ("<item/>" * 3000)
		with Delegate() as p:
		    for content in (OK, "", large):
		        p.reply(*p.asked(), content)
		        p.result(content=content)
		    for echo in ("", "<query xmlns='urn:test:one'/>", large):
		        p.reply(*p.asked(content=large), echo + error('cancel/conflict'), 'error')
		        p.refused(condition='cancel/conflict')
		        assert len(p.seen[-1].raw) > len(echo) and 'xmlns=\'jabber:client\'' not in p.seen[-1].raw
	END
}

@test "every bad answer: service-unavailable to the user at once, nothing to anybody else, a warning" {
	delegation <<-'END'
		f = "<forwarded xmlns='urn:xmpp:forward:0'>%s</forwarded>"
		d = "<delegation xmlns='urn:xmpp:delegation:2'>%s</delegation>"
		iq = "<iq xmlns='jabber:client' type='result' id='1' from='host.test' to='%s'/>" % ALICE
		def bad(content):
		    return lambda p, outer, inner: p.send("<iq type='result' id='%s' from='ent.test' to='host.test'>%s</iq>" % (outer['id'], content))
		wrong = [
		    lambda p, o, i: p.reply(o, i, id='2'), lambda p, o, i: p.reply(o, i, id=None),
		    lambda p, o, i: p.reply(o, i, to=BOB), lambda p, o, i: p.reply(o, i, to=None), lambda p, o, i: p.reply(o, i, to='alice@vhost.test'),
		    lambda p, o, i: p.reply(o, i, **{'from__': None}),
		    lambda p, o, i: p.reply(o, i, **{'from__': 'bob@vhost.test'}), lambda p, o, i: p.reply(o, i, **{'from__': 'evil.test'}),
		    lambda p, o, i: p.reply(o, i, **{'from__': 'x@host.test'}), lambda p, o, i: p.reply(o, i, **{'from__': ENT}),
		    lambda p, o, i: p.reply(o, i, type='set'), lambda p, o, i: p.reply(o, i, type='get'), lambda p, o, i: p.reply(o, i, **{'type_': None}),
		    lambda p, o, i: p.reply(o, i, type='error'), lambda p, o, i: p.reply(o, i, error('cancel/conflict') * 2, 'error'),
		    lambda p, o, i: p.reply(o, i, "<a xmlns='urn:a'/><b xmlns='urn:b'/>"),
		    lambda p, o, i: p.reply(o, i, "<a xmlns='urn:a'/><b xmlns='urn:b'/>" + error('cancel/conflict'), 'error'),
		    lambda p, o, i: p.reply(o, i, "<error type='cancel'/>", 'error'),
		    lambda p, o, i: p.reply(o, i, version=1),
		    bad(d % (f % iq.replace(" xmlns='jabber:client'", " xmlns=''"))), bad(d % (f % iq.replace(" xmlns='jabber:client'", ""))),
		    bad(d % (f % iq.replace('<iq', '<message'))),
		    bad(d % (f % "")), bad(d % ""), bad(""), bad("<x xmlns='urn:x'/>"), bad(iq), bad(d % iq), bad(d % (f % (iq * 2))), bad(d % (f % iq * 2)),
		    bad(d % (f % iq) * 2), bad(d % (f % iq) + "<x xmlns='urn:x'/>"), bad((d % (f % iq)).replace('urn:xmpp:delegation:2', 'urn:xmpp:delegation:3')),
		    bad((d % (f % iq)).replace('urn:xmpp:forward:0', 'urn:xmpp:forward:1')),
		]
		with Delegate() as p:
		    for number, give in enumerate(wrong):
		        outer, inner = p.asked()
		        give(p, outer, inner)
		        p.refused()
		        p.wait_stderr('is wrong: ', number + 1)
		        p.reply(outer, inner)       # the right answer, too late
		        p.nothing()
		    assert p.stderr.count("answer of 'ent.test' to a request of '%s' is wrong: no from" % ALICE) == 1, p.stderr
		    p.served()
		    p.expected_status = 0
	END
}

@test "outer errors: service-unavailable; silence: remote-server-timeout" {
	delegation <<-'END'
		with Delegate('--timeout', '1') as p:
		    for condition in ('cancel/service-unavailable', 'wait/remote-server-timeout', 'auth/forbidden'):
		        outer, inner = p.asked()
		        p.send("<iq type='error' id='%s' from='ent.test' to='host.test'>%s</iq>" % (outer['id'], error(condition)))
		        p.refused()
		    p.asked('silent')
		    while True:
		        s = p.next()
		        if s['id'] == 'silent':
		            break
		    assert s.error == 'wait/remote-server-timeout' and s['to'] == ALICE and s['from'] == HOSTD
		    p.drain()
		    p.expected_status = 0
	END
}

@test "replays, strangers, wrong ids: ignored, the open request survives them" {
	delegation <<-'END'
		with Delegate() as p:
		    outer, inner = p.asked()
		    for stranger in ('mallory@vhost.test/m', 'x@ent.test', 'ent.test/r', 'other.test', HOSTD, 'sub.ent.test'):
		        p.reply(outer, inner, from_=stranger)
		        p.send("<iq type='error' id='%s' from='%s' to='host.test'/>" % (outer['id'], stranger))
		    guess = Stanza(outer.raw.replace(outer['id'], 'f' * len(outer['id'])))
		    p.reply(guess, inner)
		    p.send("<message type='error' id='%s' from='ent.test' to='host.test'/>" % outer['id'],
		           "<iq type='result' id='%s' from='ent.test' to='x@host.test'/>" % outer['id'])
		    assert all(s['id'] == outer['id'] or s.name == 'message' for s in p.drain())
		    p.reply(outer, inner)
		    p.result()
		    p.reply(outer, inner)
		    p.reply(outer, inner, id='2')
		    p.nothing()
	END
}

@test "the same id from two users, twice from one: each gets his own" {
	delegation <<-'END'
		with Delegate() as p:
		    asked = [p.asked('same', from_=u) for u in (ALICE, BOB, ALICE)]
		    for n, (outer, inner) in reversed(list(enumerate(asked))):
		        p.reply(outer, inner, "<n xmlns='urn:n'>%d</n>" % n)
		        p.result('same', to=inner['from'], content="<n xmlns='urn:n'>%d</n>" % n)
	END
}

@test "after a bounce the nesting queries are repeated; a request is tried all the same, and served at once" {
	delegation <<-'END'
		with Delegate() as p:
		    outer, inner = p.asked()
		    p.send("<iq type='error' id='%s' from='ent.test' to='host.test'>%s</iq>" % (outer['id'], error('cancel/service-unavailable')))
		    p.refused()
		    p.served('2')
		    p.tell()
		    p.served('3')
	END
}

@test "an entity over a limit, a request over --max-send-bytes once it is wrapped, --max-pending" {
	delegation <<-'END'
		with Delegate('--max-send-bytes', '2000', '--max-pending', '2') as p:
		    p.request(content="<query xmlns='urn:test:one'>%s</query>" % ('x' * 1800))      # 1900 itself
		    p.refused(condition='modify/policy-violation')
		    p.reply(*p.asked(content="<query xmlns='urn:test:one'>%s</query>" % ('x' * 1400)))
		    p.result()
		    one, two = p.asked('1'), p.asked('2')
		    p.request('3')
		    p.refused('3', 'wait/resource-constraint')
		    p.reply(*two)
		    p.result('2')
		    p.reply(*one, "<query xmlns='urn:test:one'>%s</query>" % ('x' * 2500))
		    p.refused('1', 'modify/policy-violation')
		with Delegate('--max-stanza-bytes', '20000') as p:
		    p.reply(*p.asked(), "<query xmlns='urn:test:one'>%s</query>" % ('x' * 30000))
		    p.refused()
		    p.request(content="<query xmlns='urn:test:one'>%s</query>" % ('x' * 30000))
		    p.refused(condition='modify/policy-violation')
		    p.expected_status = 65
	END
}

# --- disco

@test "disco#info: own, less what is delegated, and what the entity answered, for host and accounts" {
	delegation <<-'END'
		form = "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>urn:form</value></field></x>"
		with Delegate('--identity', 'component/generic/My name', '--feature', 'urn:own', '--feature', 'urn:test:one', '--feature', 'urn:test:one#sub', told=False) as p:
		    own = p.advertised(ENT, NS)
		    queries = p.nesting(ENT)
		    got = features(p.info())
		    assert 'urn:own' in got and not any(f.startswith(NS) for f in got) and 'urn:xmpp:delegation:2' in got and DISCO in got, got
		    for query in queries:
		        bare = ':bare:' in query.element[0].get('node')
		        p.answer_nesting(query, "<identity category='a' type='%s' name='N&lt;'/><feature var='urn:test:one'/><feature var='urn:%s'/>%s"
		                         % ('bare' if bare else 'host', 'bare' if bare else 'host', '' if bare else form))
		    host, account = p.info(), p.info('someone@host.test')
		    assert ('component', 'generic', 'My name') in identities(host) and ('a', 'host', 'N<') in identities(host)
		    assert ('a', 'bare', 'N<') in identities(account) and ('a', 'host', 'N<') not in identities(account)
		    assert {'urn:host', NS, 'urn:own', DISCO, 'urn:xmpp:delegation:2'} == set(features(host)), features(host)
		    assert 'urn:bare' in features(account) and 'urn:host' not in features(account)
		    assert forms(host) == [{'FORM_TYPE': ['urn:form']}] and forms(account) == []
		    assert len(features(host)) == len(set(features(host)))
		    # a full address belongs to no account here
		    p.send("<iq type='get' id='i' from='%s' to='host.test/r'><query xmlns='%s'/></iq>" % (ALICE, DISCO))
		    assert p.next()['to'] == 'host.test/r'
	END
}

@test "disco#info is refreshed when the entity returns" {
	delegation <<-'END'
		with Delegate(told=False) as p:
		    p.tell(host="<feature var='urn:old'/>")
		    assert 'urn:old' in features(p.info())
		    outer, inner = p.asked()
		    p.send("<iq type='error' id='%s' from='ent.test' to='host.test'>%s</iq>" % (outer['id'], error('wait/remote-server-timeout')))
		    p.refused()
		    p.tell(host="<feature var='urn:new'/>")
		    assert 'urn:new' in features(p.info()) and 'urn:old' not in features(p.info())
	END
}

@test "nesting answers of strangers and with another node change nothing" {
	delegation <<-'END'
		with Delegate(told=False) as p:
		    p.advertised(ENT, NS)
		    queries = p.nesting(ENT)
		    for q in queries:
		        p.send("<iq type='result' id='%s' from='evil.test' to='host.test'><query xmlns='%s' node='%s'><feature var='urn:evil'/></query></iq>"
		               % (q['id'], DISCO, q.element[0].get('node')))
		    p.answer_nesting(queries[0], "<feature var='urn:evil'/>", node='urn:xmpp:delegation:2::urn:other')
		    assert 'urn:evil' not in features(p.info()) + features(p.info('x@host.test'))
	END
}

@test "a node: remaining delegation, else it passes; alone on a stream item-not-found" {
	delegation <<-'END'
		node = "<query xmlns='%s' node='n'/>" % DISCO
		items = "<query xmlns='http://jabber.org/protocol/disco#items'/>"
		with Delegate() as p:
		    p.request(content=node)
		    assert p.next()['to'] == HOSTD
		rules = ('urn:xmpp:delegation:2:bare:disco#info:*=ent.test', 'urn:xmpp:delegation:2:bare:disco#items:*=ent.test')
		with Delegate(rules=rules) as p:
		    p.tell(ns=[r.rpartition('=')[0] for r in rules])
		    for content in (node, items):
		        outer, inner = p.asked(to='x@host.test', content=content)
		        p.reply(outer, inner, content)
		        p.expect("<iq type='result' id='1' to='%s' from='x@host.test'>%s</iq>" % (ALICE, content))
		        p.request(content=content)           # :bare: is for accounts
		        assert p.next()['to'] == HOSTD
		    assert features(p.info('x@host.test'))    # without node: answered here
	END
}

# --- OTHERWISE

@test "OTHERWISE: what is not delegated, under ids of our own; its answers are checked" {
	delegation <<-'END'
		h = Handler()
		with Delegate('--', *h.command) as p:
		    for to in (HOSTD, 'x@host.test', 'host.test/r'):
		        p.request('q', ns='urn:other', to=to)
		        asked = h.next()
		        check(asked, "<iq type='get' id='{id}' from='%s' to='%s'><query xmlns='urn:other'/></iq>" % (ALICE, to))
		        assert asked['id'] != 'q'
		        h.answer(asked)
		        p.result('q', from_=to)
		    for wrong in ({'to': BOB}, {'from_': ENT}, {'type': 'error', 'content': ''}, {'content': "<a xmlns='a'/><b xmlns='b'/>"}):
		        p.request('q', ns='urn:other')
		        h.answer(h.next(), **wrong)
		        p.refused('q', 'cancel/internal-server-error')
		    p.served()
		    p.request('q', ns='urn:other')
		    h.next()
		    h.die()
		    p.refused('q', 'cancel/internal-server-error')
		    h.started()
		    p.request('q', content="<query xmlns='%s' node='n'/>" % DISCO)
		    h.answer(h.next(), error('cancel/item-not-found'), 'error')
		    p.refused('q', 'cancel/item-not-found')
		    # the handler cannot answer a request that went to an entity
		    outer, inner = p.asked('mine')
		    h.send("<iq type='result' id='%s' from='host.test' to='%s'/>" % (outer['id'], ALICE))
		    p.wait_stderr('answers no open request')
		    p.reply(outer, inner)
		    p.result('mine')
	END
}

@test "OTHERWISE that is silent: the timeout; end of input waits for what it holds" {
	delegation <<-'END'
		h = Handler()
		with Delegate('--timeout', '0.5', '--', *h.command) as p:
		    p.request('q', ns='urn:other')
		    asked = h.next()
		    p.refused('q', 'wait/remote-server-timeout')
		    h.answer(asked)
		    p.request('r', ns='urn:other')
		    asked = h.next()
		    p.eof()
		    h.answer(asked)
		    p.result('r')
	END
}

@test "OTHERWISE: while the server reads nothing its answers wait in its pipe; when it does all are there" {
	secret_file
	cat >rest <<-'END'
		while read -r line; do
		    id=${line#* id=?}
		    echo "<iq id='${id%%[\"\']*}' type='result'><got>$1</got></iq>"
		done
	END
	fake "deaf
		up
		repeat 150 <iq type='get' id='o%d' from='alice@vhost.test/a' to='host.test'><q xmlns='urn:other'/></iq>
		say asked
		wait-for go
		count 150 <got>
		end"
	start delegate xmpp-delegate --domain host.test --connect "127.0.0.1:$FAKE_PORT" --secret-file secret \
		--delegate urn:test:one=ent.test --timeout 600 --max-queue-bytes 65536 --max-stanza-bytes 65536 \
		-- sh rest "$(head -c 60000 /dev/zero | tr '\0' x)"
	wait_for grep -q asked fake.out
	wait_for stuck delegate
	: >go
	await fake
	end delegate
}

@test "OTHERWISE with --json: objects in and out, bad ones are one error to who they name or nobody" {
	delegation <<-'END'
		h = JsonHandler()
		with Delegate('--json', '--max-stanza-bytes', '20000', '--', *h.command) as p:
		    for to in (HOSTD, 'x@host.test', 'host.test/r'):
		        p.request("i'd", ns='urn:other', to=to)
		        asked = h.next()
		        assert asked['id'] != "i'd"
		        assert asked == {'v': 1, 'kind': 'iq', 'type': 'get', 'id': asked['id'], 'from': ALICE, 'to': to, 'attrs': {}, 'ns': 'urn:other',
		                         'name': 'query', 'payload': [{'name': 'query', 'ns': 'urn:other', 'attrs': {}, 'children': []}]}, asked
		        h.answer(asked)
		        p.result('i&apos;d', from_=to)
		    p.request('q', content="<p:query xmlns:p='urn:other' p:a='1' xml:lang='en'><x xmlns=''/>t</p:query>")
		    asked = h.next()
		    h.answer(asked, asked['payload'])
		    p.result('q', content="<p:query xmlns:p='urn:other' p:a='1' xml:lang='en'><x xmlns=''/>t</p:query>")
		    p.request('q', ns='urn:other')
		    h.send({'id': h.next()['id'], 'type': 'error', 'error': {'type': 'auth', 'condition': 'forbidden'}})
		    p.refused('q', 'auth/forbidden')
		    for n, (members, logged) in enumerate(BAD_OBJECTS[::3]):
		        p.request('q%d' % n, ns='urn:other')
		        asked = h.next()
		        before = p.stderr.count(logged)
		        h.send({'id': asked['id'], **members})
		        p.refused('q%d' % n, 'cancel/internal-server-error')
		        assert p.stderr.count(logged) == before + 1, (logged, p.stderr)
		        h.answer(asked)     # too late
		    p.request('q', ns='urn:other')
		    asked = h.next()
		    for line, logged in STRAY_LINES:
		        before = p.stderr.count(logged)
		        h.send(line.replace('%s', asked['id']))
		        p.wait_stderr(logged, before + 1)
		    p.nothing()
		    h.answer(asked)
		    p.result('q')
		    # the handler can neither answer nor spoil a request that went to an entity
		    outer, inner = p.asked('mine')
		    before = p.stderr.count('no open request')
		    h.send({'id': outer['id'], 'type': 'result'}, {'id': outer['id'], 'type': 'result', 'payload': 1})
		    p.wait_stderr('no open request', before + 1)
		    p.wait_stderr("'payload' is no list", 2)
		    p.reply(outer, inner)
		    p.result('mine')
		    # 17 KB of markup would become 8 MB
		    p.request('q', content="<query xmlns='urn:other' xmlns:p='urn:%s'>%s</query>" % ('x' * 14000, '<p:a/>' * 500))
		    p.refused('q', 'cancel/service-unavailable')
		    assert 'too large as JSON' in p.stderr
		    p.request('q', ns='urn:other')
		    h.next()
		    h.die()
		    p.refused('q', 'cancel/internal-server-error')
	END
}

# --- clients as managing entities

@test "a full client JID manages" {
	delegation <<-'END'
		carol = 'carol@vhost.test/c'
		with Delegate(rules=('urn:test:one=' + carol,)) as p:
		    p.tell(carol)
		    outer, inner = p.asked(entity=carol)
		    p.reply(outer, inner, from_='carol@vhost.test')
		    p.reply(outer, inner, from_='carol@vhost.test/d')
		    p.nothing()
		    p.reply(outer, inner)
		    p.result()
	END
}

@test "a bare client JID: subscribed to; the first resource manages, the next takes over" {
	delegation <<-'END'
		carol = 'carol@vhost.test'
		def presence(r, type=''):
		    return "<presence from='%s/%s' to='host.test'%s/>" % (carol, r, type and " type='%s'" % type)
		with Delegate(rules=('urn:test:one=' + carol,)) as p:
		    p.expect("<presence type='subscribe' from='host.test' to='%s'/>" % carol)
		    p.nothing()
		    p.request('0')
		    p.refused('0')
		    p.send("<presence type='subscribed' from='%s' to='host.test'/>" % carol)
		    p.expect("<presence type='probe' from='host.test' to='%s'/>" % carol)
		    p.send(presence('a'))
		    p.tell(carol + '/a')
		    p.send(presence('b'))
		    p.nothing()
		    p.reply(*p.asked(entity=carol + '/a'))
		    p.result()
		    p.asked('held', entity=carol + '/a')
		    p.send(presence('x', 'unavailable'))
		    p.nothing()
		    p.send(presence('a', 'unavailable'))
		    got = [p.next() for i in range(4)]
		    held = [s for s in got if s['id'] == 'held']
		    assert len(held) == 1 and held[0].error == 'cancel/service-unavailable' and held[0]['to'] == ALICE, got
		    rest = [s for s in got if s['id'] != 'held']
		    assert [s.name for s in rest] == ['message', 'iq', 'iq'] and all(s['to'] == carol + '/b' for s in rest), rest
		    for q in rest[1:]:
		        p.answer_nesting(q)
		    outer, inner = p.asked('now', entity=carol + '/b')
		    p.reply(outer, inner, from_=carol + '/a')
		    p.nothing()
		    p.reply(outer, inner)
		    p.result('now')
		    p.send(presence('b', 'unavailable'))
		    p.request('none')
		    p.refused('none')
	END
}

# --- configuration

@test "--delegate splits at the last =, attributes in brackets" {
	delegation <<-'END'
		with Delegate(rules=('urn:a=b[x]c=ent.test',)) as p:
		    p.advertised(ENT, 'urn:a=b[x]c')
		    p.nesting(ENT, ('urn:a=b[x]c',))
		with Delegate(rules=('urn:a=b[x,y]=Ent.Test',)) as p:
		    p.advertised(ENT, ('urn:a=b', 'x', 'y'))
		    p.nesting(ENT, ('urn:a=b',))
	END
}

@test "--config FILE: the shape of the module's table; odd names" {
	cat >config.json <<-'END'
		{"urn:xmpp:mam:0": {"filtering": ["node"], "jid": "Pubsub.Example"},
		 "urn:odd=[x]=": {"jid": "carol@vhost.test/c", "filtering": []}}
	END
	delegation <<-'END'
		with Delegate('--config', 'config.json', rules=()) as p:
		    p.advertised('pubsub.example', ('urn:xmpp:mam:0', 'node'))
		    p.nesting('pubsub.example', ('urn:xmpp:mam:0',))
		    p.advertised('carol@vhost.test/c', 'urn:odd=[x]=')
		    p.nesting('carol@vhost.test/c', ('urn:odd=[x]=',))
	END
}

@test "a configuration that is wrong: 78, the key is named" {
	wrong() {
		printf '%s' "$1" >config.json
		run -78 xmpp-delegate --domain host.test --config config.json </dev/null
		assert_output --partial "config.json"
		assert_output --partial "$2"
	}
	wrong '' config
	wrong '{' config
	wrong '[]' config
	wrong '{} x' config
	wrong '{"urn:a":{"jid":"e.test"}' config
	wrong $'{"urn:a":{"jid":"e.test"},"x":"\xff"}' config
	wrong '{"urn:ok":{"jid":"e.test"},"urn:key":{}}' urn:key
	wrong '{"urn:key":[]}' urn:key
	wrong '{"urn:key":{"jid":1}}' urn:key
	wrong '{"urn:key":{"jid":""}}' urn:key
	wrong '{"urn:key":{"jid":"a@@b"}}' urn:key
	wrong '{"urn:key":{"jid":"host.test"}}' urn:key
	wrong '{"urn:key":{"jid":"x@Host.test"}}' urn:key
	wrong '{"urn:key":{"jid":"e.test","filtering":"node"}}' urn:key
	wrong '{"urn:key":{"jid":"e.test","filtering":[1]}}' urn:key
	wrong '{"urn:key":{"jid":"e.test","filtering":[""]}}' urn:key
	wrong '{"urn:key":{"jid":"e.test","filter":[]}}' urn:key
	wrong '{"urn:xmpp:delegation:2":{"jid":"e.test"}}' urn:xmpp:delegation:2
	wrong '{"":{"jid":"e.test"}}' namespace
	rm config.json
	run -78 xmpp-delegate --domain host.test --config config.json </dev/null
	assert_output --partial "cannot read 'config.json'"
}

@test "usage errors: 64, two lines that say what" {
	wrong() {
		local what=$1
		shift
		run -64 xmpp-delegate "$@" </dev/null
		assert_line --index 0 --partial "$what"
		assert_equal "${#lines[@]}" 2
	}
	wrong --domain --delegate urn:a=e.test
	wrong --domain --domain a@b --delegate urn:a=e.test
	wrong --delegate --domain host.test
	wrong --delegate --domain host.test --delegate urn:a=e.test --config x
	wrong 'NS=JID' --domain host.test --delegate urn:a
	wrong JID --domain host.test --delegate urn:a=
	wrong namespace --domain host.test --delegate =e.test
	wrong JID --domain host.test --delegate 'urn:a=a@@b'
	wrong attribute --domain host.test --delegate 'urn:a[]=e.test'
	wrong attribute --domain host.test --delegate 'urn:a[x,]=e.test'
	wrong 'NS[attr' --domain host.test --delegate 'urn:a[x=e.test'
	wrong 'NS[attr' --domain host.test --delegate 'urn:ax]=e.test'
	wrong twice --domain host.test --delegate urn:a=e.test --delegate 'urn:a[x]=f.test'
	wrong delegating --domain host.test --delegate urn:a=host.test
	wrong delegat --domain host.test --delegate urn:xmpp:delegation:1=e.test
	wrong --identity --domain host.test --delegate urn:a=e.test --identity x
	wrong --feature --domain host.test --delegate urn:a=e.test --feature ''
	wrong OTHERWISE --domain host.test --delegate urn:a=e.test --json
	wrong --secret-file --domain host.test --delegate urn:a=e.test --connect 127.0.0.1:1
	wrong --delegation-version --domain host.test --delegate urn:a=e.test --delegation-version 3
}

@test "SIGHUP: changes are advertised, requests in flight finished, a bad file changes nothing" {
	delegation <<-'END'
		def config(**rules):
		    with open('config.new', 'w') as f:
		        json.dump({'urn:' + k: {'jid': v[0], 'filtering': list(v[1:])} for k, v in rules.items()}, f)
		    os.rename('config.new', 'config.json')
		config(a=(ENT,), b=('other.test',))
		with Delegate('--config', 'config.json', rules=()) as p:
		    for entity, ns in ((ENT, 'urn:a'), ('other.test', 'urn:b')):
		        p.advertised(entity, ns)
		        for q in p.nesting(entity, (ns,)):
		            p.answer_nesting(q, "<feature var='urn:f:%s'/>" % entity)
		    outer, inner = p.asked('flying', ns='urn:a')
		    # the same configuration: no entity is told again
		    p.signal(signal.SIGHUP)
		    p.request('x', ns='urn:b')
		    x = p.forwarded('other.test')
		    p.reply(*x)
		    p.result('x')
		    # urn:a moves, urn:b gets an attribute
		    config(a=('third.test',), b=('other.test', 'node'))
		    p.signal(signal.SIGHUP)
		    p.advertised('third.test', 'urn:a')
		    for q in p.nesting('third.test', ('urn:a',)):
		        p.answer_nesting(q)
		    p.advertised('other.test', ('urn:b', 'node'))
		    p.nothing()
		    assert 'urn:f:other.test' in features(p.info()) and 'urn:f:ent.test' not in features(p.info())
		    p.reply(outer, inner)
		    p.result('flying')
		    p.reply(*p.asked('new', 'third.test', ns='urn:a'))
		    p.result('new')
		    with open('config.json', 'w') as f:
		        f.write('{"urn:a": 1}')
		    p.signal(signal.SIGHUP)
		    p.wait_stderr("'urn:a'")
		    p.reply(*p.asked('again', 'third.test', ns='urn:a'))
		    p.result('again')
		    # the disco answer of an entity for a namespace that has moved to another entity
		    queries = {}
		    for entity in ('fourth.test', 'fifth.test'):
		        config(a=(entity,))
		        p.signal(signal.SIGHUP)
		        p.advertised(entity, 'urn:a')
		        queries[entity] = p.nesting(entity, ('urn:a',))
		    for entity, told in (('fourth.test', []), ('fifth.test', ['urn:f:fifth.test'])):
		        for q in queries[entity]:
		            p.answer_nesting(q, "<feature var='urn:f:%s'/>" % entity)
		        assert [f for f in features(p.info()) if f.startswith('urn:f:')] == told
	END
}

@test "SIGHUP: an account's client keeps its requests and its task" {
	delegation <<-'END'
		carol = 'carol@vhost.test'
		def config(more):
		    with open('config.new', 'w') as f:
		        json.dump(dict({NS: {'jid': carol}}, **more), f)
		    os.rename('config.new', 'config.json')
		config({})
		with Delegate('--config', 'config.json', rules=()) as p:
		    p.expect("<presence type='subscribe' from='host.test' to='%s'/>" % carol)
		    p.send("<presence from='carol@vhost.test/a' to='host.test'/>")
		    p.tell(carol + '/a')
		    outer, inner = p.asked('flying', entity=carol + '/a')
		    config({'urn:b': {'jid': ENT}})
		    p.signal(signal.SIGHUP)
		    p.advertised(ENT, 'urn:b')
		    p.nesting(ENT, ('urn:b',))
		    p.send("<presence from='carol@vhost.test/b' to='host.test'/>")
		    p.reply(*p.asked('next', entity=carol + '/a'))
		    p.result('next')
		    p.reply(outer, inner)
		    p.result('flying')
		    # another account is subscribed to; open requests are finished
		    outer, inner = p.asked('flying', entity=carol + '/a')
		    config({'urn:b': {'jid': 'bob@vhost.test'}})
		    p.signal(signal.SIGHUP)
		    p.expect_any(*("<presence type='subscribe' from='host.test' to='%s'/>" % j for j in (carol, 'bob@vhost.test')))
		    p.send("<presence from='carol@vhost.test/b' to='host.test'/>")
		    p.reply(outer, inner)
		    assert 'result' in [s['type'] for s in p.drain() if s['id'] == 'flying']
	END
}

# --- the end

@test "end of input, SIGTERM: each open request is answered" {
	delegation <<-'END'
		with Delegate() as p:
		    p.asked('1')
		    p.asked('2')
		    assert sorted((s['id'], s.error) for s in p.end()) == [('1', 'wait/recipient-unavailable'), ('2', 'wait/recipient-unavailable')]
		with Delegate('--drain-time', '10') as p:
		    outer, inner = p.asked('1')
		    p.signal(signal.SIGTERM)
		    deadline = time.monotonic() + WAIT_S
		    while True:
		        p.request('new')
		        s = p.next()
		        if s.error == 'wait/recipient-unavailable':
		            break
		        assert time.monotonic() < deadline
		        p.reply(s, inner_of(s))
		        p.result('new')
		    p.reply(outer, inner)
		    assert [(s['id'], s['type']) for s in p.ended()] == [('1', 'result')]
	END
}

@test "counters: what happened, by name" {
	delegation <<-'END'
		with Delegate() as p:
		    p.served()
		    outer, inner = p.asked()
		    p.reply(outer, inner, id='2')
		    p.refused()
		    p.reply(outer, inner)
		    p.nothing()
		    c = p.counters()
		    assert (c['requests'], c['answers'], c['errors{reason="bad-answer"}'], c['dropped{reason="stray"}']) == (2, 1, 1, 1), c
	END
}

# --- both

@test "xmpp-delegate to xmpp-manage to a shell script and back, in pipes" {
	mkfifo back
	xmpp-delegate --domain host.test --delegate urn:test:one=ent.test -v <back 2>delegate.err |
		tee wire | grep --line-buffered "to='ent.test'" |
		xmpp-manage --domain ent.test --host host.test --namespace urn:test:one --per-request -- \
			sh -c 'cat >/dev/null; echo "<iq type=\"result\"><query xmlns=\"urn:test:one\">for $XMPP_FROM</query></iq>"' >answers 2>manage.err &
	exec {to}>back
	answered() { [[ -s answers ]] && (($(wc -l <answers) >= $1)); }
	wait_for answered 2
	cat answers >&"$to"
	echo "<iq type='get' id='1' from='alice@vhost.test/a' to='x@host.test'><query xmlns='urn:test:one'/></iq>" >&"$to"
	wait_for answered 3
	tail -n 1 answers >&"$to"
	result() { grep -q "<iq type=.result. .*for alice@vhost.test/a" <(grep -v delegation wire); }
	wait_for result
	exec {to}>&-
	wait $!
}

# --- clients that manage

@test "a managing client that shows no life: the next one manages at once, and its gets go there; it does not take over again" {
	delegation <<-'END'
		carol = 'carol@vhost.test'
		def presence(r, type=''):
		    return "<presence from='%s/%s' to='host.test'%s/>" % (carol, r, type and " type='%s'" % type)
		with Delegate('--timeout', '6', '--try-timeout', '1', rules=('urn:test:one=' + carol,)) as p:
		    p.expect("<presence type='subscribe' from='host.test' to='%s'/>" % carol)
		    p.send("<presence type='subscribed' from='%s' to='host.test'/>" % carol)
		    p.expect("<presence type='probe' from='host.test' to='%s'/>" % carol)
		    p.send(presence('a'))
		    p.tell(carol + '/a')
		    p.send(presence('b'))
		    get = p.asked('get', entity=carol + '/a')
		    set_ = p.asked('set', type='set', entity=carol + '/a')
		    got = [p.next() for i in range(4)]      # a second later
		    again, = [s for s in got if s['type'] == 'set']
		    assert again['to'] == carol + '/b' and inner_of(again)['id'] == 'get', again
		    rest = [s for s in got if s['type'] != 'set']
		    assert [s.name for s in rest] == ['message', 'iq', 'iq'] and all(s['to'] == carol + '/b' for s in rest), rest
		    assert "shows no life" in p.stderr, p.stderr
		    for q in rest[1:]:
		        p.answer_nesting(q)
		    p.reply(again, inner_of(again))
		    p.result('get')
		    p.served('new', entity=carol + '/b')
		    p.reply(*get)      # too late, but life
		    p.nothing()
		    p.reply(*set_)     # a set waited
		    p.result('set')
		    p.served('still', entity=carol + '/b')
		    p.send(presence('b', 'unavailable'))
		    p.tell(carol + '/a')
		    p.served('back', entity=carol + '/a')
	END
}

@test "a managing client of which there is only one is never put aside; --try-timeout 0; no component is" {
	delegation <<-'END'
		carol = 'carol@vhost.test'
		for options, clients in ((('--try-timeout', '0.3'), ('a',)), (('--try-timeout', '0'), ('a', 'b'))):
		    with Delegate('--timeout', '2', *options, rules=('urn:test:one=' + carol,)) as p:
		        p.expect("<presence type='subscribe' from='host.test' to='%s'/>" % carol)
		        p.send("<presence type='subscribed' from='%s' to='host.test'/>" % carol)
		        p.expect("<presence type='probe' from='host.test' to='%s'/>" % carol)
		        p.send("<presence from='%s/a' to='host.test'/>" % carol)
		        p.tell(carol + '/a')
		        for r in clients[1:]:
		            p.send("<presence from='%s/%s' to='host.test'/>" % (carol, r))
		        p.asked('1', entity=carol + '/a')
		        p.refused('1', 'wait/remote-server-timeout')
		with Delegate('--timeout', '2', '--try-timeout', '0.3') as p:
		    p.asked('1')
		    p.refused('1', 'wait/remote-server-timeout')
	END
}

@test "SIGHUP: an account that is new as managing entity is subscribed to, and one more, and another" {
	delegation <<-'END'
		import json, signal
		def rules(**entities):
		    with open('rules', 'w') as f:
		        json.dump({'urn:test:' + ns: {'jid': jid} for ns, jid in entities.items()}, f)
		rules(one='ent.test')
		with Delegate('--config', 'rules', rules=()) as p:
		    p.tell()
		    known = []
		    for n in range(6):
		        account = 'u%d@vhost.test' % n
		        rules(one='ent.test', **{'a%d' % n: account})
		        p.signal(signal.SIGHUP)
		        p.expect("<presence type='subscribe' from='host.test' to='%s'/>" % account)
		        p.send("<presence type='subscribed' from='%s' to='host.test'/>" % account)
		        p.expect("<presence type='probe' from='host.test' to='%s'/>" % account)
		        p.send("<presence from='%s/r' to='host.test'/>" % account)
		        p.tell(account + '/r', ns=('urn:test:a%d' % n,))
		    p.nothing()
	END
}

# --- what is wrong is said once

@test "how an entity fails to answer nesting queries is said once, and what it means" {
	delegation <<-'END'
		for condition, words in (('auth/forbidden', '--host'), ('cancel/item-not-found', 'does not know delegation'),
		                         ('wait/remote-server-timeout', 'it is not connected)'), ('cancel/remote-server-not-found', 'it is not connected)'),
		                         ('cancel/service-unavailable', 'not connected, or does not know')):
		    with Delegate(told=False) as p:
		        for round_ in range(2):
		            p.advertised(ENT, NS)
		            for q in p.nesting(ENT):
		                p.send("<iq type='error' id='%s' from='ent.test' to='host.test'>%s</iq>" % (q['id'], error(condition)))
		            p.wait_stderr(words)
		        assert p.stderr.count("'ent.test'") == 1 and condition.split('/')[1] in p.stderr and NS in p.stderr, p.stderr
		with Delegate('--timeout', '0.5', told=False) as p:
		    p.advertised(ENT, NS)
		    p.nesting(ENT)
		    p.wait_stderr('mod_privilege')
		    p.drain()
	END
}

@test "an OTHERWISE that answers too late is asked whether it flushes; ids over 1023 bytes are refused" {
	delegation <<-'END'
		with Delegate('--timeout', '1', '--', 'sh', '-c', 'cat >/dev/null; :') as p:
		    p.request('1', ns='urn:other')
		    p.refused('1', 'wait/remote-server-timeout')
		    p.wait_stderr('flush')
		    p.request('q' * 1024)
		    p.refused('q' * 1024, 'modify/bad-request')
		    p.served('q' * 1023)
	END
}

# --- debts and shares

@test "an entity's thousand requests that time out, an OTHERWISE that dies with thousands: each gets one answer" {
	delegation <<-'END'
		small = ('--max-queue-bytes', '65536', '--max-stanza-bytes', '2048', '--timeout', '3')
		for ns, options, why in ((NS, (), 'wait/remote-server-timeout'),
		                         ('urn:other', ('--', 'sh', '-c', 'head -c 1 >/dev/null'), 'cancel/internal-server-error')):
		    with Delegate(*small, *options) as p:
		        ids = {'i%d' % i for i in range(4000)}
		        for i in range(0, 4000, 100):
		            p.send(*(ask('i%d' % n, from_='u%d@vhost.test/r' % (n % 20), to=HOSTD, ns=ns).replace(" xmlns='jabber:client'", "", 1)
		                     for n in range(i, i + 100)))
		        # a request that arrives while there is no handler, or no room at it, is refused at
		        # once
		        full = {'cancel/service-unavailable'} if options else set()
		        seen = set()
		        while ids:
		            stanza = p.next()
		            if stanza['to'].startswith('u'):
		                assert stanza.error in full | {why}, stanza
		                seen.add(stanza.error)
		                ids.remove(stanza['id'])
		        assert why in seen
		        assert p.counters()['open_requests'] == 0
		        p.drain()
	END
}

@test "shares: --limit user-pending, domain-pending, trusted" {
	delegation <<-'END'
		with Delegate('--timeout', '3', '--limit', 'user-pending=2', '--limit', 'domain-pending=3', '--limit', 'trusted=good.test') as p:
		    p.asked('1'); p.asked('2')
		    p.request('3')
		    p.refused('3', 'wait/resource-constraint')
		    p.asked('4', from_='bob@vhost.test/b')
		    p.request('5', from_='dave@vhost.test/b')
		    p.refused('5', 'wait/resource-constraint', to='dave@vhost.test/b')
		    for i in range(10):
		        p.asked('t', from_='u@good.test/r')
		    for _ in range(13):
		        assert p.next().error == 'wait/remote-server-timeout'
		    p.drain()
	END
}

@test "an entity may announce 64 features, 16 identities and 16 KiB; the merged answer is made once" {
	delegation <<-'END'
		many = "".join("<feature var='f%d'/>" % i for i in range(70)) + "".join("<identity category='c' type='t%d'/>" % i for i in range(20))
		many += "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE'><value>%s</value></field></x>" % ('x' * 20000)
		with Delegate(told=False) as p:
		    p.tell(host=many)
		    info = p.info()
		    assert sum(e.tag.endswith('feature') and e.get('var').startswith('f') for e in info) == 64
		    assert sum(e.tag.endswith('identity') and e.get('category') == 'c' for e in info) == 16
		    assert not any(e.tag.endswith('}x') for e in info)
		    assert p.stderr.count('the rest is dropped') == 1, p.stderr
	END
}
