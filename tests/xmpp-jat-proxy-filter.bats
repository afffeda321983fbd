#!/usr/bin/env bats
# xmpp-jat-proxy as a filter: every row of its contract, stanza by stanza.
# installcheck

load lib
load tools/scenario

teardown() { stop_all; }

# --- start, presence

@test "start: subscribes to each target, probes only after subscribed" {
	scenario <<-'END'
		with Proxy(targets=['impl@vhost.test', 'impl2@vhost.test']) as p:
		    p.nothing()
		    p.send("<presence type='subscribed' from='impl2@vhost.test' to='proxy.test'/>")
		    p.expect("<presence type='probe' to='impl2@vhost.test' from='proxy.test'/>")
		    p.nothing()
		    p.send("<presence type='subscribed' from='impl@vhost.test' to='proxy.test'/>")
		    p.expect("<presence type='probe' to='impl@vhost.test' from='proxy.test'/>")
		    p.send("<presence type='subscribed' from='mallory@vhost.test' to='proxy.test'/>")
		    p.nothing()
	END
}

@test "start: a subscribe answered by an error is repeated, after 1 s, then 2 s" {
	scenario <<-'END'
		again = "<presence type='subscribe' to='impl@vhost.test' from='proxy.test'/>"
		refused = ("<presence type='error' from='impl@vhost.test' to='proxy.test'><error type='wait'>"
		           "<remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>")
		with Proxy() as p:
		    p.send(refused)
		    p.nothing()
		    p.expect(again)
		    p.send(refused)
		    p.nothing()
		    p.expect(again)
		    p.send("<presence type='subscribed' from='impl@vhost.test' to='proxy.test'/>")
		    p.expect("<presence type='probe' to='impl@vhost.test' from='proxy.test'/>")
	END
}

@test "presence: available adds a session, unavailable removes just that one" {
	scenario <<-'END'
		with Proxy('--policy', 'round-robin') as p:
		    p.online('a', 'b', 'c')
		    assert sorted(p.served(str(i))['to'] for i in range(3)) == [IMPL + '/a', IMPL + '/b', IMPL + '/c']
		    p.leave(IMPL + '/b')
		    for round in range(2):
		        assert sorted(p.served('%d-%d' % (round, i))['to'] for i in range(2)) == [IMPL + '/a', IMPL + '/c']
		    p.online('b')
		    assert sorted(p.served('back%d' % i)['to'] for i in range(3)) == [IMPL + '/a', IMPL + '/b', IMPL + '/c']
	END
}

@test "presence: repeated availability is one session, not two" {
	scenario <<-'END'
		with Proxy('--policy', 'round-robin') as p:
		    p.online('a', 'a', 'a', 'b')
		    p.online('a', extra='<show>away</show><priority>5</priority>')
		    got = [p.served(str(i))['to'] for i in range(8)]
		    assert got.count(IMPL + '/a') == 4, got
		    p.leave(IMPL + '/a')
		    assert {p.served('l%d' % i)['to'] for i in range(4)} == {IMPL + '/b'}
	END
}

@test "presence error from a full address ends that session, from the bare address all of the target" {
	scenario <<-'END'
		def failed(jid):
		    return ("<presence type='error' from='%s' to='proxy.test'><error type='cancel'>"
		            "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>" % jid)
		with Proxy('--policy', 'round-robin', targets=[IMPL, 'impl2@vhost.test']) as p:
		    p.online('a', 'b')
		    p.online('z', target='impl2@vhost.test')
		    p.send(failed(IMPL + '/a'))
		    assert {p.served('x%d' % i)['to'] for i in range(4)} == {IMPL + '/b', 'impl2@vhost.test/z'}
		    p.online('a')
		    p.send(failed(IMPL))
		    assert {p.served('y%d' % i)['to'] for i in range(4)} == {'impl2@vhost.test/z'}
	END
}

@test "presence: subscribe of a target is answered subscribed" {
	scenario <<-'END'
		with Proxy() as p:
		    p.send("<presence type='subscribe' from='impl@vhost.test' to='proxy.test'/>")
		    p.expect("<presence type='subscribed' to='impl@vhost.test' from='proxy.test'/>")
	END
}

@test "presence: unsubscribed drops the target's sessions, is logged, SIGHUP subscribes again" {
	scenario <<-'END'
		with Proxy(targets=[IMPL, 'impl2@vhost.test']) as p:
		    p.online('a', 'b')
		    p.online('z', target='impl2@vhost.test')
		    p.send("<presence type='subscribed' from='impl2@vhost.test' to='proxy.test'/>")
		    p.expect("<presence type='probe' to='impl2@vhost.test' from='proxy.test'/>")
		    p.send("<presence type='unsubscribed' from='impl@vhost.test' to='proxy.test'/>")
		    assert {p.served(str(i))['to'] for i in range(6)} == {'impl2@vhost.test/z'}
		    p.wait_stderr("impl@vhost.test")
		    p.signal(signal.SIGHUP)
		    p.expect("<presence type='subscribe' to='impl@vhost.test' from='proxy.test'/>")
	END
}

@test "presence of others never makes a session" {
	scenario <<-'END'
		with Proxy() as p:
		    p.send("<presence from='mallory@vhost.test/x' to='proxy.test'/>",
		           "<presence from='impl@evil.test/x' to='proxy.test'/>",
		           "<presence from='impl@vhost.test.evil.test/x' to='proxy.test'/>",
		           "<presence xmlns:y='urn:y' y:from='impl@vhost.test/x' from='mallory@vhost.test/x' to='proxy.test'/>")
		    assert [s['to'] for s in p.drain()] == ['mallory@vhost.test/x', 'impl@evil.test/x',
		        'impl@vhost.test.evil.test/x', 'mallory@vhost.test/x']
		    p.send_request('1')
		    p.error('cancel/service-unavailable', '1', ALICE, 'proxy.test')
	END
}

@test "presence of others: subscribe, probe, available are answered, the rest ignored" {
	scenario <<-'END'
		with Proxy() as p:
		    p.send("<presence type='subscribe' id='s' from='alice@vhost.test' to='proxy.test'/>")
		    reply = p.next()
		    assert (reply.name, reply['type'], reply['to'], reply['from']) == \
		        ('presence', 'unsubscribed', 'alice@vhost.test', 'proxy.test'), reply
		    p.send("<presence type='probe' from='alice@vhost.test/a1' to='proxy.test'/>")
		    reply = p.next()
		    assert (reply.name, reply['type'], reply['to'], reply['from']) == \
		        ('presence', 'unavailable', 'alice@vhost.test/a1', 'proxy.test'), reply
		    p.send("<presence from='alice@vhost.test/a1' to='proxy.test'/>")
		    p.error('cancel/bad-request', None, ALICE, 'proxy.test', kind='presence')
		    p.send("<presence id='p2' from='alice@vhost.test/a1' to='room@proxy.test/nick'><show>away</show></presence>")
		    p.error('cancel/bad-request', 'p2', ALICE, 'room@proxy.test/nick', kind='presence')
		    for type in 'unavailable', 'subscribed', 'unsubscribed', 'unsubscribe', 'error':
		        p.send("<presence type='%s' from='alice@vhost.test/a1' to='proxy.test'/>" % type)
		    p.nothing()
	END
}

# --- requests and answers

@test "the seed's example: a request to a session and its answer back, payload byte for byte" {
	scenario <<-'END'
		payload = ("<query  xmlns='urn:x' b = \"2\" a='1'><![CDATA[<raw>&]]>&#65;&quot;<y:z xmlns:y='urn:y' y:q=''/>"
		           "<none xmlns=''/><e></e>\u05d0 \U0001f600</query>")
		with Proxy() as p:
		    p.online('a')
		    for kind, id in ('get', '1234'), ('set', 'id &lt;&quot;&gt;'):
		        p.send("<iq type='%s' id='%s' to='proxy.test' from='user@some.example/abc'>%s</iq>" % (kind, id, payload))
		        asked = p.next()
		        assert asked.raw.endswith('>' + payload + '</iq>'), asked.raw
		        assert (asked.name, asked['type'], asked['to']) == ('iq', kind, 'impl@vhost.test/a'), asked
		        assert asked['id'] == ('1234' if kind == 'get' else 'id <">'), asked
		        assert asked['from'].startswith('proxy.test/') and 'some.example' not in asked['from'], asked
		        p.send("<iq from='impl@vhost.test/a' id='%s' type='result' to='%s'>%s</iq>" % (id, asked['from'], payload))
		        back = p.next()
		        assert back.raw.endswith('>' + payload + '</iq>'), back.raw
		        assert (back.name, back['type'], back['to'], back['from'], back['id']) == \
		            ('iq', 'result', 'user@some.example/abc', 'proxy.test', asked['id']), back
	END
}

@test "the answer comes from the address asked: domain, node, resource, both" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a')
		    for n, address in enumerate(['proxy.test', 'room@proxy.test', 'proxy.test/res', 'room@proxy.test/a b/c@d']):
		        p.served('id%d' % n, to=address)
		    # one id at four addresses at once: each answer comes from the address asked
		    asked = {}
		    for address in ['proxy.test', 'room@proxy.test', 'proxy.test/res']:
		        asked[address] = p.ask('same', to=address)
		    for address in reversed(list(asked)):
		        p.answer(asked[address], content="<ok xmlns='urn:%s'/>" % address)
		        p.answered('same', from_=address, content="<ok xmlns='urn:%s'/>" % address)
	END
}

@test "an error answer goes to the user with its payload" {
	scenario <<-'END'
		error = ("<query xmlns='urn:x'/><error type='modify' code='406'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
		         "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='he'>no</text><app xmlns='urn:app'/></error>")
		with Proxy() as p:
		    p.online('a')
		    asked = p.ask('1', to='x@proxy.test')
		    p.send("<iq type='error' id='1' from='impl@vhost.test/a' to='%s'>%s</iq>" % (asked['from'], error))
		    back = p.next()
		    assert back.raw.endswith('>' + error + '</iq>'), back.raw
		    assert (back['type'], back['id'], back['to'], back['from']) == ('error', '1', ALICE, 'x@proxy.test')
	END
}

@test "disco, ping and version go to the implementing client like all else" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a')
		    for n, payload in enumerate(["<query xmlns='http://jabber.org/protocol/disco#info'/>",
		                                 "<query xmlns='http://jabber.org/protocol/disco#items' node='n'/>",
		                                 "<ping xmlns='urn:xmpp:ping'/>", "<query xmlns='jabber:iq:version'/>"]):
		        p.send("<iq type='get' id='%d' from='%s' to='proxy.test'>%s</iq>" % (n, ALICE, payload))
		        p.expect("<iq type='get' id='%d' from='{}' to='impl@vhost.test/a'>%s</iq>" % (n, payload))
	END
}

@test "an answer counts once, from the exact session asked, and only while it is awaited" {
	scenario <<-'END'
		with Proxy('--policy', 'round-robin') as p:
		    p.online('a', 'b')
		    asked = p.ask('1')
		    other = IMPL + ('/b' if asked['to'].endswith('/a') else '/a')
		    for from_ in other, IMPL, IMPL + '/A', 'mallory@vhost.test/a', 'impl@evil.test/a', 'vhost.test', ALICE:
		        p.answer(asked, from_=from_)
		        p.bounce(asked, from_=from_)
		    p.nothing()
		    p.send("<iq type='result' id='2' from='%s' to='%s'/>" % (asked['to'], asked['from']))
		    p.send("<iq type='result' from='%s' to='%s'/>" % (asked['to'], asked['from']))
		    p.nothing()
		    p.answer(asked)
		    p.answered('1')
		    p.answer(asked)
		    p.bounce(asked)
		    p.nothing()
	END
}

@test "stray and forged results are dropped and counted, never answered" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a')
		    for to in 'proxy.test', 'proxy.test/nothing', 'proxy.test/alice@vhost.test/a1', 'x@proxy.test', 'x@proxy.test/y':
		        for from_ in IMPL + '/a', 'mallory@vhost.test/m':
		            p.send("<iq type='result' id='1' from='%s' to='%s'/>" % (from_, to))
		            p.send("<iq type='error' id='1' from='%s' to='%s'><error type='cancel'><bad-request "
		                   "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>" % (from_, to))
		    p.nothing()
		    assert p.counters()['dropped{reason="stray"}'] == 20, p.counters()
	END
}

@test "a token of another proxy, cut, changed or in another spelling does not verify" {
	echo "k $(printf '%064d' 7)" >keys
	chmod 600 keys
	scenario <<-'END'
		with Proxy('--key-file', 'keys', domain='other.test') as other:
		    other.online('a')
		    foreign = other.ask('1')['from'].split('/')[1]
		    with Proxy('--key-file', 'keys') as p:
		        p.online('a')
		        asked = p.ask('1')
		        good = asked['from'].split('/')[1]
		        assert good != foreign
		        changed = good[:-5] + ('A' if good[-5] != 'A' else 'B') + good[-4:]
		        for token in foreign, good[:-1], good + 'A', good + '=', good.swapcase(), changed, good[1:], good + '/':
		            p.send("<iq type='result' id='1' from='%s' to='proxy.test/%s'/>" % (asked['to'], token))
		        p.send("<iq type='result' id='1' from='%s' to='x@proxy.test/%s'/>" % (asked['to'], good))
		        p.nothing()
		        p.answer(asked)
		        p.answered('1')
	END
}

@test "the target's own account is a user like any other, not asked itself where another session is" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a', 'b')
		    for n in range(12):
		        p.served('n%d' % n, user=IMPL + '/a', session=IMPL + '/b')
		    p.leave(IMPL + '/b')
		    p.served('alone', user=IMPL + '/a', session=IMPL + '/a')
		with Proxy('--drain', 'dnd') as p:
		    p.online('a')
		    p.online('b', extra='<show>dnd</show>')
		    p.served('another', user=IMPL + '/a', session=IMPL + '/b')
		    p.served('user', session=IMPL + '/a')
	END
}

@test "same id from two users, and from one user at two resources: each gets its own answer" {
	scenario <<-'END'
		users = [ALICE, 'alice@vhost.test/a2', BOB, 'vhost.test', 'alice@vhost.test']
		with Proxy() as p:
		    p.online('a')
		    asked = {u: p.ask('same', user=u) for u in users}
		    assert len({a['from'] for a in asked.values()}) == len(users)
		    for n, user in enumerate(reversed(users)):
		        p.answer(asked[user], content="<n%d xmlns='urn:x'/>" % n)
		        p.answered('same', user=user, content="<n%d xmlns='urn:x'/>" % n)
	END
}

@test "same id, user and address while open: to another session; to the same, answers in order" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a', 'b')
		    first, second = p.ask('1'), p.ask('1')
		    assert first['to'] != second['to']
		    third = p.ask('1')
		    same = first if third['to'] == first['to'] else second
		    lone = second if same is first else first
		    p.answer(lone, content="<lone xmlns='urn:x'/>")
		    p.answered('1', content="<lone xmlns='urn:x'/>")
		    for n in range(2):
		        p.answer(third, content="<n%d xmlns='urn:x'/>" % n)
		        p.answered('1', content="<n%d xmlns='urn:x'/>" % n)
		    p.answer(third)
		    p.answer(lone)
		    p.nothing()
	END
}

@test "no session: service-unavailable from the address asked" {
	scenario <<-'END'
		with Proxy() as p:
		    for to in 'proxy.test', 'room@proxy.test', 'proxy.test/x', 'room@proxy.test/x':
		        for kind in 'get', 'set':
		            p.send_request('1', to=to, kind=kind)
		            p.error('cancel/service-unavailable', '1', ALICE, to)
	END
}

@test "many requests in flight: each answered exactly once, in whatever order" {
	scenario <<-'END'
		import random
		with Proxy() as p:
		    p.online('a', 'b', 'c')
		    users = ['user%d@vhost.test/r' % (n % 100) for n in range(2000)]
		    for n, user in enumerate(users):
		        p.send_request(str(n), user=user)
		    asked = [p.got_request(str(n)) for n in range(2000)]
		    random.Random(1).shuffle(asked)
		    for request in asked:
		        p.answer(request)
		        p.answer(request)
		    got = {}
		    for stanza in p.drain():
		        assert stanza['type'] == 'result' and stanza['to'] == users[int(stanza['id'])], stanza
		        got[stanza['id']] = got.get(stanza['id'], 0) + 1
		    assert len(got) == 2000 and set(got.values()) == {1}, len(got)
	END
}

@test "bad requests: no id, unknown type, not exactly one child: bad-request; no from: dropped" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a')
		    p.send("<iq type='get' from='%s' to='proxy.test'><q xmlns='urn:x'/></iq>" % ALICE)
		    p.error('modify/bad-request', None, ALICE, 'proxy.test')
		    bad = ["<iq type='get' id='1' from='%s' to='x@proxy.test'/>",
		           "<iq type='get' id='1' from='%s' to='x@proxy.test'>text</iq>",
		           "<iq type='get' id='1' from='%s' to='x@proxy.test'><a xmlns='urn:x'/><b xmlns='urn:x'/></iq>",
		           "<iq type='set' id='1' from='%s' to='x@proxy.test'></iq>",
		           "<iq type='put' id='1' from='%s' to='x@proxy.test'><a xmlns='urn:x'/></iq>",
		           "<iq type='GET' id='1' from='%s' to='x@proxy.test'><a xmlns='urn:x'/></iq>",
		           "<iq type='' id='1' from='%s' to='x@proxy.test'><a xmlns='urn:x'/></iq>",
		           "<iq id='1' from='%s' to='x@proxy.test'><a xmlns='urn:x'/></iq>"]
		    for stanza in bad:
		        p.send(stanza % ALICE)
		        p.error('modify/bad-request', '1', ALICE, 'x@proxy.test')
		    p.send("<iq type='get' id='1' to='proxy.test'><q xmlns='urn:x'/></iq>",
		           "<iq type='get' id='1' from='' to='proxy.test'><q xmlns='urn:x'/></iq>",
		           "<message to='proxy.test'/>", "<presence to='proxy.test'/>",
		           "<presence type='subscribe' to='proxy.test'/>",
		           "<iq xmlns:y='urn:y' y:from='%s' type='get' id='1' to='proxy.test'><q xmlns='urn:x'/></iq>" % ALICE)
		    p.nothing()
		    assert p.counters()['dropped{reason="no-from"}'] == 6, p.counters()
		    p.send("<iq type='get' id='ws' from='%s' to='proxy.test'>\t <q xmlns='urn:x'/> </iq>" % ALICE)
		    p.expect("<iq type='get' id='ws' from='{}' to='impl@vhost.test/a'>...</iq>")
	END
}

@test "attributes with a prefix are never from, to, id or type" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a')
		    p.send("<iq xmlns:y='urn:y' y:from='admin@vhost.test/x' y:type='result' y:id='9' y:to='elsewhere.test' "
		           "from='%s' type='get' id='1' to='proxy.test'><query xmlns='urn:x'/></iq>" % ALICE)
		    asked = p.next()
		    assert (asked['type'], asked['id'], asked['to']) == ('get', '1', 'impl@vhost.test/a'), asked
		    p.answer(asked)
		    p.answered('1')
		    asked = p.ask('2')
		    p.send("<iq xmlns:y='urn:y' y:from='%s' from='mallory@vhost.test/a' type='result' id='2' to='%s'/>"
		           % (asked['to'], asked['from']))
		    p.nothing()
		    p.send("<iq xmlns:y='urn:y' y:to='%s' to='other.test' from='%s' type='result' id='2'/>"
		           % (asked['from'], asked['to']))
		    passed = p.next()
		    assert passed['to'] == 'other.test', passed
		    p.nothing()
	END
}

@test "addresses that no server has normalised: letters of either case are one, also a target's" {
	scenario <<-'END'
		with Proxy('--encoding', 'plain') as p:
		    p.send("<presence from='Impl@VHOST.test/A' to='Proxy.test'/>")
		    p.send("<iq type='get' id='1' from='Alice@VHOST.test/Res' to='X@PROXY.test./R'><query xmlns='urn:x'/></iq>")
		    p.expect("<iq type='get' id='1' from='proxy.test/{}' to='impl@vhost.test/A'><query xmlns='urn:x'/></iq>")
		    p.send("<iq type='result' id='1' from='IMPL@vhost.test/A' to='%s'/>" % p.seen[-1]['from'].replace('proxy', 'PROXY'))
		    p.expect("<iq type='result' id='1' from='x@proxy.test/R' to='alice@vhost.test/Res'/>")
		    foreign = "<iq type='get' id='1' from='Alice@VHOST.test' to='Other.TEST'><query xmlns='urn:x'/></iq>"
		    p.send(foreign)
		    assert p.next().raw == foreign
	END
}

@test "stanzas for other domains pass through unchanged" {
	scenario <<-'END'
		foreign = ["<message to='other.test' from=\"alice@vhost.test/a\"><body>a &amp; b<![CDATA[<]]></body></message>",
		           "<iq type='get' id='1' to='alice@proxy.test.other.test' from='a@b'><q xmlns='urn:x'/></iq>",
		           "<presence from='impl@vhost.test/a' to='other.test'/>",
		           "<iq type='result' id='1' to='xproxy.test' from='a@b'/>",
		           "<message to='proxy.test@other.test/proxy.test'/>"]
		with Proxy() as p:
		    p.send(*foreign)
		    assert [p.next().raw for _ in foreign] == foreign
		    p.send_request('1')
		    p.error('cancel/service-unavailable', '1', ALICE, 'proxy.test')
	END
}

@test "roots: the component and client namespaces, prefixed or not, are one and leave bare" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a')
		    for n, (start, end) in enumerate([("<iq xmlns='jabber:client'", "</iq>"), ("<iq xmlns='jabber:component:accept'", "</iq>"),
		                                      ("<c:iq xmlns:c='jabber:client'", "</c:iq>")]):
		        p.send("%s type='get' id='r%d' from='%s' to='proxy.test'><query xmlns='urn:x'/>%s" % (start, n, ALICE, end))
		        asked = p.next()
		        assert asked.raw.startswith('<iq ') and asked.element.tag == 'iq', asked.raw
		        assert (asked['id'], asked['to'], asked.payload) == ('r%d' % n, 'impl@vhost.test/a', '{urn:x}query')
	END
}

@test "all else at the root stays: xml:lang, own and foreign attributes, namespace declarations" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a')
		    p.send("<iq custom='q' xml:lang='he' xmlns:y='urn:y' y:to='a' type='get' id='1' from='a@b/&#x41;' to='proxy.test'><y:q/></iq>")
		    asked = p.expect("<iq custom='q' xml:lang='he' xmlns:y='urn:y' y:to='a' type='get' id='1' from='{from}' "
		                     "to='impl@vhost.test/a'><y:q/></iq>")['from']
		    # however the address is written, it is one user
		    p.send("<iq type='get' id='2' from='a@b/A' to='proxy.test'><q xmlns='urn:x'/></iq>")
		    assert p.next()['from'] == asked
		    p.send("<iq type='result' id='1' from='impl@vhost.test/a' to='%s' custom='x' xml:lang='fr' xmlns:z='urn:z'><z:r/></iq>" % asked)
		    p.expect("<iq type='result' id='1' from='proxy.test' to='a@b/A' custom='x' xml:lang='fr' xmlns:z='urn:z'><z:r/></iq>")
	END
}

@test "stanzas over several lines and several on one line are read alike" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a')
		    p.send("<iq type='get'\n id='1' from='%s'\n\tto='proxy.test'>\n<query xmlns='urn:x'>a\nb\r\nc</query\n></iq>" % ALICE)
		    asked = p.next()
		    assert asked.children[0].text == 'a\nb\nc' or asked.children[0].text == 'a\nb\r\nc', asked
		    p.send("   <iq type='get' id='2' from='%s' to='proxy.test'><a xmlns='urn:x'/></iq>  "
		           "<iq type='get' id='3' from='%s' to='proxy.test'><a xmlns='urn:x'/></iq>\t" % (ALICE, ALICE))
		    assert [p.next()['id'] for _ in 'ab'] == ['2', '3']
	END
}

# --- sessions that leave, time

@test "session left, then the bounce: get and set go to another session" {
	scenario <<-'END'
		with Proxy('--bounce-wait', '60', '--timeout', '120') as p:
		    p.online('a', 'b')
		    for condition in 'service-unavailable', 'recipient-unavailable', 'item-not-found':
		        for kind in 'get', 'set':
		            id = condition + kind
		            first = p.ask(id, kind=kind, to='x@proxy.test')
		            other = IMPL + ('/b' if first['to'].endswith('/a') else '/a')
		            p.leave(first['to'])
		            p.nothing()
		            p.bounce(first, condition, from_=other)
		            p.bounce(first, condition, from_=IMPL)
		            p.bounce(first, condition, from_='mallory@vhost.test/a')
		            p.nothing()
		            p.bounce(first, condition)
		            second = p.got_request(id, other, kind)
		            p.answer(first)
		            p.nothing()
		            p.answer(second)
		            p.answered(id, from_='x@proxy.test')
		            p.online(first['to'].split('/')[1])
	END
}

@test "session left: its answer in the bounce wait is delivered" {
	scenario <<-'END'
		with Proxy('--bounce-wait', '60', '--timeout', '120') as p:
		    p.online('a', 'b')
		    for kind in 'get', 'set':
		        first = p.ask(kind, kind=kind)
		        p.leave(first['to'])
		        p.nothing()
		        p.answer(first)
		        p.answered(kind)
		        p.online(first['to'].split('/')[1])
		    # an error that is no bounce is the session's own answer
		    first = p.ask('e')
		    p.leave(first['to'])
		    p.bounce(first, 'not-acceptable', 'modify')
		    p.error('modify/not-acceptable', 'e', ALICE, 'proxy.test')
	END
}

@test "session left without a bounce: a get goes to another, a set is answered recipient-unavailable" {
	scenario <<-'END'
		with Proxy('--bounce-wait', '1', '--policy', 'round-robin') as p:
		    p.online('a')
		    get, put = p.ask('get', to='x@proxy.test'), p.ask('set', kind='set', to='y@proxy.test')
		    p.online('b')
		    p.leave(IMPL + '/a')
		    p.nothing()
		    again = None
		    for _ in range(2):
		        stanza = p.next()
		        if stanza['id'] == 'get':
		            check(stanza, "<iq type='get' id='get' from='{}' to='impl@vhost.test/b'><query xmlns='urn:x'/></iq>")
		            again = stanza
		        else:
		            check(stanza, "<iq type='error' id='set' to='%s' from='y@proxy.test'><error type='wait'>"
		                          "<recipient-unavailable/></error></iq>" % ALICE)
		    p.answer(get)
		    p.answer(put)
		    p.nothing()
		    p.answer(again)
		    p.answered('get', from_='x@proxy.test')
	END
}

@test "session left and no other is there: the user gets an error, once" {
	scenario <<-'END'
		with Proxy('--bounce-wait', '1') as p:
		    for kind in 'get', 'set':
		        for bounced in True, False:
		            id = '%s%s' % (kind, bounced)
		            p.online('a')
		            first = p.ask(id, kind=kind)
		            p.leave(first['to'])
		            if bounced:
		                p.bounce(first)
		            stanza = p.next()
		            assert (stanza['type'], stanza['id'], stanza['to'], stanza['from']) == \
		                ('error', id, ALICE, 'proxy.test'), stanza
		            assert stanza.error in ('wait/recipient-unavailable', 'cancel/service-unavailable'), stanza
		            p.answer(first)
		            p.nothing()
	END
}

@test "session left and came back: its answer to what it had in hand counts, what it forgot is asked again" {
	scenario <<-'END'
		with Proxy('--bounce-wait', '1') as p:
		    p.online('a')
		    asked = p.ask('1')
		    p.leave(IMPL + '/a')
		    p.online('a')
		    p.answer(asked)
		    p.answered('1')
		    asked, put = p.ask('2'), p.ask('3', kind='set')
		    p.leave(IMPL + '/a')
		    p.online('a')
		    got = {s['id']: s for s in (p.next(), p.next())}
		    assert got['3'].error == 'wait/recipient-unavailable', got
		    check(got['2'], "<iq type='get' id='2' from='{}' to='impl@vhost.test/a'><query xmlns='urn:x'/></iq>")
		    p.answer(got['2'])
		    p.answered('2')
		    p.nothing()
	END
}

@test "a target that unsubscribes or whose bare address fails: its requests in hand move or are answered" {
	scenario <<-'END'
		for end in "unsubscribed", "error":
		    with Proxy('--bounce-wait', '1', targets=[IMPL, 'impl2@vhost.test']) as p:
		        p.online('a')
		        p.ask('get'), p.ask('set', kind='set')
		        p.online('z', target='impl2@vhost.test')
		        p.send("<presence type='%s' from='impl@vhost.test' to='proxy.test'/>" % end)
		        seen = {}
		        while not {'get result', 'set error'} <= set(seen):
		            stanza = p.next()
		            if stanza.name == 'presence':      # after the error it subscribes again
		                continue
		            seen['%s %s' % (stanza['id'], stanza['type'])] = stanza
		            if stanza['type'] == 'get':
		                p.answer(stanza)
		        assert seen['set error'].error == 'wait/recipient-unavailable', seen
		        assert seen['get get']['to'] == 'impl2@vhost.test/z', seen
		        p.end()
	END
}

@test "at most two more tries" {
	scenario <<-'END'
		with Proxy('--bounce-wait', '60', '--timeout', '120') as p:
		    p.online(*'abcdef')
		    asked, tried = p.ask('1'), set()
		    for n in range(3):
		        tried.add(asked['to'])
		        p.leave(asked['to'])
		        p.bounce(asked)
		        if n < 2:
		            asked = p.got_request('1')
		    assert len(tried) == 3
		    stanza = p.next()
		    assert (stanza['type'], stanza['id'], stanza['to'], stanza['from']) == ('error', '1', ALICE, 'proxy.test'), stanza
		    p.nothing()
	END
}

@test "the tries share one deadline" {
	scenario <<-'END'
		with Proxy('--bounce-wait', '1', '--timeout', '2') as p:
		    p.online('a')
		    moved = p.ask('moved')
		    p.online('b')
		    p.leave(IMPL + '/a')
		    later = p.ask('later', user=BOB, session=IMPL + '/b')
		    moved = p.got_request('moved', IMPL + '/b')
		    p.error('wait/remote-server-timeout', 'moved', ALICE, 'proxy.test')
		    p.error('wait/remote-server-timeout', 'later', BOB, 'proxy.test')
		    p.answer(moved)
		    p.answer(later)
		    p.nothing()
	END
}

@test "errors of a session that has not left are the client's own answer" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a', 'b')
		    for n, (condition, type) in enumerate([('service-unavailable', 'cancel'), ('remote-server-timeout', 'wait'),
		                                           ('item-not-found', 'cancel')]):
		        asked = p.ask(str(n), to='x@proxy.test')
		        p.bounce(asked, condition, type)
		        p.error(type + '/' + condition, str(n), ALICE, 'x@proxy.test')
		        p.nothing()
	END
}

@test "no answer in time: remote-server-timeout from the address asked; a late answer is dropped, counted" {
	scenario <<-'END'
		with Proxy('--timeout', '1') as p:
		    p.online('a')
		    get, put = p.ask('1', to='x@proxy.test'), p.ask('2', user=BOB, kind='set')
		    p.error('wait/remote-server-timeout', '1', ALICE, 'x@proxy.test')
		    p.error('wait/remote-server-timeout', '2', BOB, 'proxy.test')
		    p.answer(get)
		    p.answer(put)
		    p.nothing()
		    p.served('3')
		    assert p.counters()['dropped{reason="late"}'] == 2, p.counters()
	END
}

@test "--max-pending: one more gets resource-constraint; an answer makes room" {
	scenario <<-'END'
		with Proxy('--max-pending', '3') as p:
		    p.online('a', 'b')
		    asked = [p.ask(str(n)) for n in range(3)]
		    for kind in 'get', 'set':
		        p.send_request('over', to='x@proxy.test', kind=kind)
		        p.error('wait/resource-constraint', 'over', ALICE, 'x@proxy.test')
		    p.answer(asked[1])
		    p.answered('1')
		    p.ask('again')
		    p.send_request('over')
		    p.error('wait/resource-constraint', 'over', ALICE, 'proxy.test')
	END
}

@test "--max-send-bytes: too large a request is refused, too large an answer replaced, the rest dropped" {
	scenario <<-'END'
		large = "<query xmlns='urn:x'>%s</query>" % ('x' * 3000)
		with Proxy('--max-send-bytes', '3000') as p:
		    p.online('a')
		    p.send("<iq type='get' id='1' from='%s' to='x@proxy.test'>%s</iq>" % (ALICE, large))
		    p.error('modify/policy-violation', '1', ALICE, 'x@proxy.test')
		    asked = p.ask('2', to='y@proxy.test')
		    p.answer(asked, content=large)
		    p.error('modify/policy-violation', '2', ALICE, 'y@proxy.test')
		    p.answer(asked)
		    p.nothing()
		    fits = "<query xmlns='urn:x'>%s</query>" % ('x' * 2000)
		    p.send("<iq type='get' id='3' from='%s' to='proxy.test'>%s</iq>" % (ALICE, fits))
		    p.expect("<iq type='get' id='3' from='{}' to='impl@vhost.test/a'>%s</iq>" % fits)
		with Proxy('--max-send-bytes', '0') as p:
		    p.online('a')
		    large = "<query xmlns='urn:x'>%s</query>" % ('x' * 900000)
		    p.send("<iq type='get' id='1' from='%s' to='x@proxy.test'>%s</iq>" % (ALICE, large))
		    assert len(p.next().raw) > 900000
	END
}

# --- messages (default)

@test "messages are refused, those of type error never answered" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a')
		    for to in 'proxy.test', 'x@proxy.test', 'proxy.test/res':
		        for type in '', "type='chat' ", "type='groupchat' ", "type='headline' ", "type='normal' ":
		            p.send("<message %sid='m' from='%s' to='%s'><body>hi</body></message>" % (type, ALICE, to))
		            p.error('cancel/feature-not-implemented', 'm', ALICE, to, kind='message')
		        p.send("<message type='error' id='m' from='%s' to='%s'><error type='cancel'><bad-request "
		               "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>" % (ALICE, to))
		    p.nothing()
	END
}

@test "what a target sends by itself to D/TOKEN is refused: get, set, message" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a', 'b')
		    asked = p.ask('1')
		    for kind in 'get', 'set':
		        p.send("<iq type='%s' id='own' from='%s' to='%s'><q xmlns='urn:x'/></iq>" % (kind, asked['to'], asked['from']))
		        p.error('cancel/feature-not-implemented', 'own', asked['to'], asked['from'])
		    p.send("<message id='own' from='%s' to='%s'><body>hi</body></message>" % (asked['to'], asked['from']))
		    p.error('cancel/feature-not-implemented', 'own', asked['to'], asked['from'], kind='message')
		    p.answer(asked)
		    p.answered('1')
	END
}

# --- tokens

@test "sealed tokens: stable for a user, hide the address, tell users apart, decode with the key" {
	echo "k $(printf '%064d' 7)" >keys
	chmod 600 keys
	scenario <<-'END'
		with Proxy('--key-file', 'keys') as p:
		    p.online('a', 'b')
		    one, two, bob, node = p.ask('1'), p.ask('2'), p.ask('3', user=BOB), p.ask('4', to='x@proxy.test')
		    assert one['from'] == two['from'] and one['from'] != bob['from'] and one['from'] != node['from']
		    assert 'alice' not in one['from'] and one['from'].startswith('proxy.test/k')
		    assert re.fullmatch('[0-9A-Za-z][A-Za-z0-9_-]+', one['from'].split('/')[1])
		    assert decode(one['from'], 'keys') == ALICE
		    assert decode(node['from'], 'keys') == ALICE
		with Proxy('--key-file', 'keys') as p:
		    p.online('a')
		    assert p.ask('1')['from'] == one['from']
		with Proxy() as p, Proxy() as q:
		    p.online('a'), q.online('a')
		    assert p.ask('1')['from'] != q.ask('1')['from']
		    p.wait_stderr('restart')
	END
}

@test "signed tokens: the address in the clear after a code" {
	echo "k $(printf '%064d' 7)" >keys
	chmod 600 keys
	scenario <<-'END'
		with Proxy('--key-file', 'keys', '--encoding', 'signed') as p:
		    p.online('a')
		    request = p.served('1')
		    assert re.fullmatch(r'proxy\.test/k[A-Za-z0-9_-]{22}\.alice@vhost\.test/a1', request['from']), request
		    assert decode(request['from'], 'keys') == ALICE
		    p.served('2', to='x@proxy.test')
		    asked = p.ask('3')
		    for forged in asked['from'].replace('alice@', 'mallory@'), asked['from'].replace('/a1', '/a2'), 'proxy.test/' + ALICE:
		        p.send("<iq type='result' id='3' from='%s' to='%s'/>" % (asked['to'], forged))
		    p.nothing()
	END
}

@test "plain tokens: exactly domain/JID" {
	scenario <<-'END'
		with Proxy('--encoding', 'plain') as p:
		    p.online('a')
		    for n, user in enumerate([ALICE, 'alice@vhost.test', 'vhost.test', 'comp.test/res', 'a@b/proxy.test/x@y/z',
		                              'u@h/a b', 'u@h/q\'"<&>', 'u@h/%41%2f', 'u@h/a\\20b', 'u@h/a/b@c', 'u@h/\u00fcn\u00ef']):
		        asked = p.served(str(n), user=user, to='x@proxy.test')
		        assert asked['from'] == 'proxy.test/' + user, asked
	END
}

@test "addresses no encoding may carry still work, in all encodings" {
	scenario <<-'END'
		local, host, resource = 'l' * 1023, '.'.join(['d' * 63] * 15), 'r' * 1023
		users = ['%s@%s/%s' % (local, host, resource), 'u@h/' + 'r' * 1023, 'u@h/' + 'r' * 1010,
		         'u@h/latin \u05d0\u05d1 mixed', 'u@h/\u0627\u0644 latin', 'u@h/\u2460', 'u@h/\ufb01', 'u@h/\U0001f600', 'u@h/ ', 'u@h/\u00a0x',
		         'u@h/a/b@c/d', 'u@h/"\'<']
		for encoding in 'sealed', 'signed', 'plain':
		    with Proxy('--encoding', encoding) as p:
		        p.online('a')
		        for n, user in enumerate(users):
		            asked = p.served(str(n), user=user, to='x@proxy.test')
		            assert len(asked['from'].split('/', 1)[1].encode()) <= 1023, asked
	END
}

# --- policies

@test "--policy random spreads over all sessions" {
	scenario <<-'END'
		for options in [[], ['--policy', 'random']]:
		    with Proxy('--limit', 'user-pending=300', *options) as p:
		        p.online('a', 'b', 'c')
		        for n in range(300):
		            p.send_request(str(n))
		        got = [p.got_request(str(n))['to'] for n in range(300)]
		        assert all(got.count(IMPL + '/' + r) > 50 for r in 'abc'), [got.count(IMPL + '/' + r) for r in 'abc']
		        assert got != sorted(got)
	END
}

@test "--policy round-robin takes turns" {
	scenario <<-'END'
		with Proxy('--policy', 'round-robin', targets=[IMPL, 'impl2@vhost.test']) as p:
		    p.online('a', 'b')
		    p.online('z', target='impl2@vhost.test')
		    got = [p.served(str(n))['to'] for n in range(9)]
		    assert len(set(got[:3])) == 3 and got[:3] * 3 == got, got
	END
}

@test "--policy least-pending asks the idlest" {
	scenario <<-'END'
		with Proxy('--policy', 'least-pending') as p:
		    p.online('a', 'b', 'c')
		    asked = [p.ask(str(n)) for n in range(6)]
		    busy = [a['to'] for a in asked]
		    assert len(set(busy[:3])) == 3 and len(set(busy[3:])) == 3, busy
		    for request in asked:
		        if request['to'] == IMPL + '/b':
		            p.answer(request)
		            p.answered(request['id'])
		    p.ask('x', session=IMPL + '/b')
		    p.ask('y', session=IMPL + '/b')
	END
}

@test "--policy sticky: one user, one session; when another session leaves, nobody else moves" {
	scenario <<-'END'
		users = ['user%d@vhost.test' % n for n in range(60)]
		def where(p):
		    return {u: p.served('1', user=u + '/r')['to'] for u in users}
		with Proxy('--policy', 'sticky') as p:
		    p.online('a', 'b', 'c')
		    before = where(p)
		    assert where(p) == before
		    assert len(set(before.values())) == 3
		    for n in range(5):
		        p.served('1', user=users[0] + '/other%d' % n, session=before[users[0]])
		    p.leave(IMPL + '/b')
		    after = where(p)
		    assert all(after[u] == before[u] for u in users if before[u] != IMPL + '/b')
		    p.online('b')
		    assert where(p) == before
		with Proxy('--policy', 'sticky') as p:
		    p.online('c', 'b', 'a')
		    assert where(p) == before
	END
}

@test "--drain: sessions showing so get no new requests, unless they are the last" {
	scenario <<-'END'
		with Proxy('--drain', 'xa,dnd', '--policy', 'round-robin') as p:
		    p.online('a', 'b', 'c')
		    p.online('b', extra='<show>xa</show>')
		    p.online('c', extra='<show>dnd</show>')
		    for n in range(4):
		        p.served(str(n), session=IMPL + '/a')
		    asked = p.ask('open', session=IMPL + '/a')
		    p.online('a', extra='<show>xa</show>')
		    p.answer(asked)
		    p.answered('open')
		    p.served('last')
		    p.online('b', extra='<show>away</show>')
		    for n in range(3):
		        p.served('b%d' % n, session=IMPL + '/b')
		    p.online('c')
		    assert {p.served('c%d' % n)['to'] for n in range(4)} == {IMPL + '/b', IMPL + '/c'}
	END
}

@test "--min-priority: sessions below it are left out, unless they are the last" {
	scenario <<-'END'
		with Proxy('--min-priority', '0', '--policy', 'round-robin') as p:
		    p.online('a', extra='<priority>-1</priority>')
		    p.served('last', session=IMPL + '/a')
		    p.online('b', extra='<priority>0</priority>')
		    for n in range(3):
		        p.served(str(n), session=IMPL + '/b')
		    p.online('c')
		    assert {p.served('c%d' % n)['to'] for n in range(4)} == {IMPL + '/b', IMPL + '/c'}
		    p.leave(IMPL + '/b', IMPL + '/c')
		    p.served('last again', session=IMPL + '/a')
		    p.online('a', extra='<priority>9</priority>')
		    p.served('more', session=IMPL + '/a')
		with Proxy('--policy', 'round-robin') as p:
		    p.online('a', extra='<priority>-128</priority>')
		    p.online('b')
		    assert {p.served('c%d' % n)['to'] for n in range(4)} == {IMPL + '/a', IMPL + '/b'}
	END
}

# --- modes

@test "--messages: a conversation stays with one session, both ways, ids kept" {
	scenario <<-'END'
		def said(p, id, user=ALICE, to='proxy.test', type="type='chat' "):
		    p.send("<message %sid='%s' from='%s' to='%s'><body>hi &amp; so</body></message>" % (type, id, user, to))
		    got = p.next()
		    check(got, "<message %sid='%s' from='proxy.test/{}' to='{}'><body>hi &amp; so</body></message>" % (type, id))
		    return got
		with Proxy('--messages', '--policy', 'round-robin') as p:
		    p.online('a', 'b', 'c')
		    first = said(p, 'm1')
		    for n in range(4):
		        assert said(p, 'n%d' % n)['to'] == first['to']
		    other = said(p, 'b1', user=BOB)
		    assert other['from'] != first['from']
		    # the reply of a session comes from the address asked; another session takes over by writing
		    second = [IMPL + '/' + r for r in 'abc' if IMPL + '/' + r != first['to']][0]
		    for session in first['to'], second:
		        p.send("<message id='r' type='chat' from='%s' to='%s'><body>yes</body></message>" % (session, first['from']))
		        p.expect("<message id='r' type='chat' from='proxy.test' to='%s'><body>yes</body></message>" % ALICE)
		        assert said(p, 'again')['to'] == session
		    node = said(p, 'node', to='x@proxy.test', type='')
		    p.send("<message id='r' from='%s' to='%s'><body>yes</body></message>" % (node['to'], node['from']))
		    p.expect("<message id='r' from='x@proxy.test' to='%s'><body>yes</body></message>" % ALICE)
		    p.leave(second)
		    assert said(p, 'moved')['to'] != second
	END
}

@test "--messages: without a session to the bare target; errors both ways, never answered; groupchat refused" {
	scenario <<-'END'
		failure = "<error type='wait'><recipient-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
		with Proxy('--messages') as p:
		    p.send("<message id='1' from='%s' to='proxy.test'><body>hi</body></message>" % ALICE)
		    token = p.expect("<message id='1' from='{token}' to='impl@vhost.test'><body>hi</body></message>")['token']
		    p.online('a', 'b')
		    p.send("<message id='2' from='impl@vhost.test/b' to='%s'><body>hi</body></message>" % token)
		    p.expect("<message id='2' from='proxy.test' to='%s'><body>hi</body></message>" % ALICE)
		    p.send("<message type='error' id='2' from='%s' to='proxy.test'>%s</message>" % (ALICE, failure))
		    back = p.next()
		    assert back['to'] == 'impl@vhost.test/b', back
		    assert (back['type'], back['id'], back['from']) == ('error', '2', token), back
		    p.send("<message type='groupchat' id='3' from='%s' to='proxy.test'><body>hi</body></message>" % ALICE)
		    back = p.next()
		    assert (back['type'], back['id'], back['to'], back['from']) == ('error', '3', ALICE, 'proxy.test'), back
		    # a stanza with an invalid token is not delivered
		    for bad in 'proxy.test/x', token[:-1], token.replace('proxy.test/', 'proxy.test/x'), 'proxy.test/' + ALICE:
		        p.send("<message type='error' id='4' from='impl@vhost.test/a' to='%s'>%s</message>" % (bad, failure))
		    p.nothing()
		    # nor does a third party that knows a token
		    p.send("<message id='5' from='mallory@vhost.test/m' to='%s'><body>hi</body></message>" % token)
		    for stanza in p.drain():
		        assert stanza['to'] != ALICE, stanza
	END
}

@test "--messages: what the target's bare address sends to a token reaches the user, bounces too" {
	scenario <<-'END'
		failure = "<error type='wait'><recipient-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
		with Proxy('--messages') as p:
		    p.send("<message id='1' from='%s' to='x@proxy.test'><body>hi</body></message>" % ALICE)
		    token = p.expect("<message id='1' from='{token}' to='impl@vhost.test'><body>hi</body></message>")['token']
		    p.send("<message type='error' id='1' from='impl@vhost.test' to='%s'>%s</message>" % (token, failure))
		    p.error('wait/recipient-unavailable', '1', ALICE, 'x@proxy.test', kind='message')
		    p.send("<message id='2' from='impl@vhost.test' to='%s'><body>later</body></message>" % token)
		    p.expect("<message id='2' from='x@proxy.test' to='%s'><body>later</body></message>" % ALICE)
	END
}

@test "--outbound-iq: a target asks a user through the token; the answer comes back once" {
	scenario <<-'END'
		with Proxy('--outbound-iq') as p:
		    p.online('a', 'b')
		    for address in 'proxy.test', 'x@proxy.test':
		        token = p.served('1', to=address)['from']
		        for kind in 'get', 'set':
		            p.send("<iq type='%s' id='own' from='impl@vhost.test/a' to='%s'><query xmlns='urn:x'/></iq>" % (kind, token))
		            fresh = p.expect("<iq type='%s' id='{fresh}' from='%s' to='%s'><query xmlns='urn:x'/></iq>"
		                             % (kind, address, ALICE))['fresh']
		            assert fresh != 'own'
		            for user, to, id in [(BOB, address, fresh), ('alice@vhost.test', address, fresh), (ALICE, address, 'own'),
		                                 (ALICE, 'other@proxy.test', fresh)]:
		                p.send("<iq type='result' id='%s' from='%s' to='%s'/>" % (id, user, to))
		            p.nothing()
		            answer = "<iq type='result' id='%s' from='%s' to='%s'><ok xmlns='urn:x'/></iq>" % (fresh, ALICE, address)
		            p.send(answer, answer)
		            p.expect("<iq type='result' id='own' from='%s' to='impl@vhost.test/a'><ok xmlns='urn:x'/></iq>" % token)
		            p.nothing()
		    p.send("<iq type='get' id='own' from='impl@vhost.test/b' to='%s'><query xmlns='urn:x'/></iq>" % token)
		    fresh = p.expect("<iq type='get' id='{fresh}' from='x@proxy.test' to='%s'><query xmlns='urn:x'/></iq>" % ALICE)['fresh']
		    p.send("<iq type='error' id='%s' from='%s' to='x@proxy.test'><error type='cancel'><service-unavailable "
		           "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>" % (fresh, ALICE))
		    p.error('cancel/service-unavailable', 'own', 'impl@vhost.test/b', token)
	END
}

@test "--outbound-iq: no answer, too many, bad requests; what is no token is an ordinary request" {
	scenario <<-'END'
		with Proxy('--outbound-iq', '--timeout', '1', '--max-pending', '2') as p:
		    p.online('a', 'b')
		    token = p.served('1')['from']
		    for n in range(2):
		        p.send("<iq type='get' id='o%d' from='impl@vhost.test/a' to='%s'><query xmlns='urn:x'/></iq>" % (n, token))
		    fresh = [p.next()['id'] for _ in range(2)]
		    assert len(set(fresh)) == 2
		    p.send("<iq type='get' id='o2' from='impl@vhost.test/a' to='%s'><query xmlns='urn:x'/></iq>" % token)
		    p.error('wait/resource-constraint', 'o2', IMPL + '/a', token)
		    p.error('wait/remote-server-timeout', 'o0', IMPL + '/a', token)
		    p.error('wait/remote-server-timeout', 'o1', IMPL + '/a', token)
		    p.send("<iq type='result' id='%s' from='%s' to='proxy.test'/>" % (fresh[0], ALICE))
		    p.nothing()
		    p.send("<iq type='get' id='o3' from='impl@vhost.test/a' to='%s'/>" % token)
		    p.error('modify/bad-request', 'o3', IMPL + '/a', token)
		    p.served('ordinary', user=IMPL + '/a', to='proxy.test/res', session=IMPL + '/b')
		    p.served('ordinary', user=IMPL + '/a', to=token[:-1], session=IMPL + '/b')
		    # a request of a third party that knows a token goes to the service, not to the user
		    p.served('third', user='mallory@vhost.test/m', to=token)
		with Proxy('--outbound-iq', '--encoding', 'plain') as p:
		    p.online('a', 'b')
		    p.send("<iq type='get' id='o' from='impl@vhost.test/a' to='proxy.test/alice@vhost.test/a1'><query xmlns='urn:x'/></iq>")
		    p.expect("<iq type='get' id='{}' from='proxy.test' to='alice@vhost.test/a1'><query xmlns='urn:x'/></iq>")
		    p.served('ordinary', user=IMPL + '/a', to='proxy.test/res/x@y', session=IMPL + '/b')
	END
}

@test "--show-presence: D is shown available while a session is, to its subscribers" {
	mkdir state
	scenario <<-'END'
		def shown(p):
		    return sorted((s['to'], s['from'], s['type'] or 'available') for s in p.drain())
		with Proxy('--show-presence', '--state-dir', 'state') as p:
		    p.send("<presence type='subscribe' from='alice@vhost.test' to='proxy.test'/>")
		    got = shown(p)
		    assert ('alice@vhost.test', 'proxy.test', 'subscribed') in got, got
		    assert not any(s[2] == 'available' for s in got), got
		    p.send("<presence from='impl@vhost.test/a' to='proxy.test'/>")
		    assert shown(p) == [('alice@vhost.test', 'proxy.test', 'available')]
		    p.send("<presence type='subscribe' from='bob@vhost.test' to='x@proxy.test'/>")
		    assert shown(p) == [('bob@vhost.test', 'x@proxy.test', 'available'), ('bob@vhost.test', 'x@proxy.test', 'subscribed')]
		    p.send("<presence from='impl@vhost.test/b' to='proxy.test'/>")
		    p.leave(IMPL + '/a')
		    assert not any(s[2] == 'unavailable' for s in shown(p))
		    p.leave(IMPL + '/b')
		    gone = [('alice@vhost.test', 'proxy.test', 'unavailable'), ('bob@vhost.test', 'x@proxy.test', 'unavailable')]
		    assert shown(p) == gone
		    p.send("<presence type='probe' from='alice@vhost.test/a1' to='proxy.test'/>")
		    assert shown(p) == [('alice@vhost.test/a1', 'proxy.test', 'unavailable')]
		    p.send("<presence from='impl@vhost.test/b' to='proxy.test'/>")
		    shown(p)
		    p.send("<presence type='probe' from='alice@vhost.test/a1' to='proxy.test'/>")
		    assert shown(p) == [('alice@vhost.test/a1', 'proxy.test', 'available')]
		    p.send("<presence type='probe' from='mallory@vhost.test/m' to='proxy.test'/>")
		    assert all(s[2] != 'available' for s in shown(p))
		    p.send("<presence type='unsubscribe' from='alice@vhost.test' to='proxy.test'/>")
		    shown(p)
		    p.leave(IMPL + '/b')
		    assert shown(p) == [('bob@vhost.test', 'x@proxy.test', 'unavailable')]
		# subscribers are kept over a restart
		with Proxy('--show-presence', '--state-dir', 'state', subscribe=False) as p:
		    shown(p)
		    p.send("<presence from='impl@vhost.test/a' to='proxy.test'/>")
		    assert shown(p) == [('bob@vhost.test', 'x@proxy.test', 'available')]
		    # when it stops, D becomes unavailable to its subscribers
		    assert [(s['to'], s['from'], s['type']) for s in p.end()] == [('bob@vhost.test', 'x@proxy.test', 'unavailable')]
	END
}

@test "--show-presence: killed, and the session is not there any more: the subscribers are told" {
	mkdir state
	scenario <<-'END'
		available = "<presence from='impl@vhost.test/a' to='proxy.test'/>"
		shown = "<presence to='alice@vhost.test' from='x@proxy.test'/>"
		gone = "<presence type='unavailable' to='alice@vhost.test' from='x@proxy.test'/>"
		with Proxy('--show-presence', '--state-dir', 'state') as p:
		    p.send("<presence type='subscribe' from='alice@vhost.test' to='x@proxy.test'/>", available)
		    p.expect("<presence type='subscribed' to='alice@vhost.test' from='x@proxy.test'/>", shown)
		    p.kill()
		with Proxy('--show-presence', '--state-dir', 'state') as p:
		    p.nothing()          # the server has not said yet who is there
		    p.expect(gone)
		    p.send(available)
		    p.expect(shown)
		    p.kill()
		# a proxy that is stopped before it knows any session says so, too
		with Proxy('--show-presence', '--state-dir', 'state') as p:
		    assert [s.raw for s in p.end()] == [gone]
	END
}

# --- start and end

@test "end of input: each open request is answered recipient-unavailable, exit 0" {
	scenario <<-'END'
		with Proxy('--timeout', '600') as p:
		    p.online('a')
		    for n in range(50):
		        p.ask('e%d' % n, to='x@proxy.test', kind='get' if n % 2 else 'set')
		    p.answer(p.ask('done'))
		    p.answered('done')
		    got = p.end()
		    assert sorted(s['id'] for s in got) == sorted('e%d' % n for n in range(50)), got
		    for s in got:
		        check(s, "<iq type='error' id='{}' to='%s' from='x@proxy.test'><error type='wait'><recipient-unavailable/></error></iq>" % ALICE)
	END
}

@test "end of input right behind the stanzas: printf | xmpp-jat-proxy" {
	printf '%s\n' "<presence from='impl@vhost.test/a' to='proxy.test'/>" \
		"<iq type='get' id='1' from='alice@vhost.test/a1' to='proxy.test'><q xmlns='urn:x'/></iq>" >in
	run --separate-stderr xmpp-jat-proxy --domain proxy.test --target impl@vhost.test <in
	assert_success
	assert_equal "${#lines[@]}" 3
	assert_line -n 0 --partial 'subscribe'
	assert_line -n 1 --partial 'impl@vhost.test/a'
	assert_line -n 2 --regexp "recipient-unavailable.*</iq>$"
	# without a newline at the end
	printf '%s' "<message to='other.test'/>" >in
	run --separate-stderr xmpp-jat-proxy --domain proxy.test --target impl@vhost.test <in
	assert_success
	assert_line -n 1 "<message to='other.test'/>"
}

@test "SIGTERM: requests in flight are still answered, then it ends with 0" {
	scenario <<-'END'
		with Proxy('--timeout', '60') as p:
		    p.online('a')
		    asked = [p.ask(str(n)) for n in range(3)]
		    p.signal(signal.SIGTERM)
		    for n, request in enumerate(asked):
		        p.answer(request)
		        p.answered(str(n))
		    assert p.ended(0) == []
	END
}

@test "SIGTERM with nothing open ends at once" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a')
		    p.served('1')
		    p.signal(signal.SIGTERM)
		    assert p.ended(0) == []
	END
}

@test "SIGTERM: what nobody answers while draining is answered with an error" {
	scenario <<-'END'
		with Proxy('--timeout', '60', '--drain-time', '1') as p:
		    p.online('a')
		    p.ask('1', to='x@proxy.test')
		    p.signal(signal.SIGTERM)
		    got = p.ended(0)
		    assert len(got) == 1, got
		    assert (got[0]['type'], got[0]['id'], got[0]['to'], got[0]['from']) == ('error', '1', ALICE, 'x@proxy.test')
	END
}

@test "SIGTERM: a request that comes while it drains is refused, not lost" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a')
		    asked = p.ask('1')
		    p.signal(signal.SIGTERM)
		    p.nothing()
		    p.send_request('2', to='x@proxy.test')
		    late = p.next()
		    if late['type'] == 'get':          # it had not seen the signal yet
		        p.answer(late)
		        p.answered('2', from_='x@proxy.test')
		    else:
		        assert late.error.startswith('wait/') and (late['to'], late['from'], late['id']) == (ALICE, 'x@proxy.test', '2'), late
		    p.answer(asked)
		    p.answered('1')
		    assert p.ended(0) == []
	END
}

@test "SIGTERM in the middle of a stanza: nothing half-done leaves" {
	scenario <<-'END'
		with Proxy('--drain-time', '1') as p:
		    p.online('a')
		    p.send_bytes(b"<message to='other.test'><body>half")
		    p.signal(signal.SIGTERM)
		    assert p.ended(p.process.wait(WAIT_S)) == []
		    assert p.process.returncode in (0, 65), p.process.returncode
	END
}

@test "a slow reader: reading stops before memory grows, and nothing is lost" {
	scenario <<-'END'
		p = Proxy()
		p.online('a')
		filler, sent, rest = "x" * 1000, 0, b""
		quiet = selectors.DefaultSelector()
		quiet.register(p.process.stdin, selectors.EVENT_WRITE)
		while quiet.select(1):                 # until it takes no more for a second
		    if not rest:
		        rest = ("<message to='o.test' id='%d'>%s</message>\n" % (sent, filler)).encode()
		        sent += 1
		    rest = rest[os.write(p.process.stdin.fileno(), rest):]
		    assert sent < 100000, 'it reads on and on'
		if not os.environ.get('WRAP'):
		    peak_kib = int(re.search(r'VmHWM:\s+(\d+)', open('/proc/%d/status' % p.process.pid).read()).group(1))
		    assert peak_kib < 64 << 10, peak_kib
		p.send_bytes(rest)
		for n in range(sent):
		    assert p.next()['id'] == str(n)
		assert p.end() == []
	END
}

@test "the bounds on sessions and subscribers hold and are said" {
	scenario <<-'END'
		with Proxy('--max-sessions', '2') as p:
		    p.online(*'abc')
		    assert {p.served(str(n))['to'] for n in range(30)} == {IMPL + '/a', IMPL + '/b'}
		    p.wait_stderr(IMPL + '/c')
		with Proxy('--show-presence', '--max-subscribers', '2') as p:
		    for user in 'abc':
		        p.send("<presence type='subscribe' from='%s@b' to='proxy.test'/>" % user)
		    got = [(s['to'], s['type']) for s in p.drain()]
		    assert [g for g in got if g[1] in ('subscribed', 'unsubscribed')] == \
		        [('a@b', 'subscribed'), ('b@b', 'subscribed'), ('a@b', 'unsubscribed'), ('c@b', 'subscribed')], got
	END
}

@test "one user alone fills no table: 256 requests with one id, 32 subscriptions" {
	scenario <<-'END'
		with Proxy('--show-presence', '--encoding', 'plain') as p:
		    p.send("<presence from='%s/a' to='proxy.test'/>" % IMPL)
		    for i in range(256):
		        p.send("<iq type='get' id='1' from='%s' to='proxy.test'><q xmlns='urn:x'/></iq>" % ALICE)
		        assert p.next()['to'] == IMPL + '/a'
		    p.send("<iq type='get' id='1' from='%s' to='proxy.test'><q xmlns='urn:x'/></iq>" % ALICE)
		    p.error('wait/resource-constraint', '1', ALICE, 'proxy.test')
		    answer = "<iq type='result' id='1' from='%s/a' to='proxy.test/%s'/>" % (IMPL, ALICE)
		    p.send(answer)
		    p.expect("<iq type='result' id='1' from='proxy.test' to='%s'/>" % ALICE)
		    p.send("<iq type='get' id='1' from='%s' to='proxy.test'><q xmlns='urn:x'/></iq>" % ALICE)
		    assert p.next()['to'] == IMPL + '/a'
		    def subscribe(type, user, i):
		        p.send("<presence type='%s' from='%s' to='x%d@proxy.test'/>" % (type, user, i))
		        got = p.next()['type']
		        if got == 'subscribed':
		            assert p.next()['type'] is None
		        return got
		    assert [subscribe('subscribe', 'mallory@vhost.test', i) for i in range(33)] == ['subscribed'] * 32 + ['unsubscribed']
		    assert subscribe('subscribe', 'mallory@vhost.test', 0) == 'subscribed'
		    assert subscribe('subscribe', 'carol@vhost.test', 0) == 'subscribed'
		    assert subscribe('unsubscribe', 'mallory@vhost.test', 5) == 'unsubscribed'
		    assert subscribe('subscribe', 'mallory@vhost.test', 32) == 'subscribed'
		    goodbyes = [x for x in p.end() if x['type'] == 'unavailable']
		    assert len(goodbyes) == 33, goodbyes
	END
}

@test "killed and started again with the same key: answers in flight arrive, each once" {
	echo "k $(printf '%064d' 7)" >keys
	chmod 600 keys
	mkdir state
	scenario <<-'END'
		options = ['--key-file', 'keys', '--state-dir', 'state', '--timeout', '60']
		for encoding in 'sealed', 'signed':
		    p = Proxy(*options, '--encoding', encoding)
		    with p:
		        p.online('a')
		        one, two, three = p.ask('1', to='x@proxy.test'), p.ask('2'), p.ask('3', user=BOB)
		        p.kill()
		    with Proxy(*options, '--encoding', encoding) as p:
		        for from_ in 'mallory@vhost.test/a', IMPL, 'vhost.test', ALICE:
		            p.answer(one, from_=from_)
		        p.nothing()
		        p.answer(one)
		        p.answered('1', from_='x@proxy.test')
		        p.answer(one)
		        p.nothing()
		        p.bounce(two, 'not-allowed')
		        p.error('cancel/not-allowed', '2', ALICE, 'proxy.test')
		        p.answer(two)
		        p.nothing()
		        p.answer(three)
		        p.answered('3', user=BOB)
		        p.send("<iq type='result' id='1' from='impl@vhost.test/a' to='proxy.test/kforged'/>")
		        p.nothing()
		    # the predecessor stopped cleanly: nothing is taken on the token alone
		    with Proxy(*options, '--encoding', encoding) as p:
		        p.answer(one)
		        p.answer(dict(one.element.attrib, id='other'))
		        p.nothing()
	END
}

@test "the grace after a kill lasts one --timeout, and needs the key file and the state folder" {
	echo "k $(printf '%064d' 7)" >keys
	chmod 600 keys
	mkdir state
	scenario <<-'END'
		def killed(*options):
		    with Proxy(*options) as p:
		        p.online('a')
		        asked = p.ask('1')
		        p.kill()
		    return asked
		for options in [['--state-dir', 'state'], ['--key-file', 'keys'], ['--state-dir', 'state', '--key-file', 'keys', '--encoding', 'plain']]:
		    asked = killed(*options)
		    with Proxy(*options) as p:
		        p.answer(asked)
		        p.nothing()
		# once a request has timed out, the grace is over
		options = ['--key-file', 'keys', '--state-dir', 'state', '--timeout', '1']
		asked = killed(*options)
		with Proxy(*options) as p:
		    p.online('b')
		    p.ask('2')
		    p.error('wait/remote-server-timeout', '2', ALICE, 'proxy.test')
		    p.answer(asked)
		    p.nothing()
	END
}

@test "marks that cannot be written, or would wait for a reader: said once, and nobody waits" {
	echo "k $(printf '%064d' 7)" >keys
	chmod 600 keys
	mkdir fifo folder folder/answered link
	mkfifo fifo/answered fifo/answered.old fifo/subscribers
	ln -s ../aim link/answered
	scenario <<-'END'
		for state in ('fifo', 'folder', 'link'):
		    with Proxy('--key-file', 'keys', '--state-dir', state, '--timeout', '0.2', '--show-presence') as p:
		        p.online('a')
		        for id in ('1', '2'):
		            p.ask(id)
		            p.error('wait/remote-server-timeout', id, ALICE, 'proxy.test')
		        p.end()
		        assert p.stderr.count("cannot write '%s/answered'" % state) == 1, p.stderr
		assert not os.path.exists('aim')
	END
}

@test "killed after it has answered itself: in the grace the session's late answer is not taken" {
	echo "k $(printf '%064d' 7)" >keys
	chmod 600 keys
	mkdir state
	scenario <<-'END'
		options = ['--key-file', 'keys', '--state-dir', 'state', '--timeout', '0.2']
		def late(*more):
		    with Proxy(*options) as p:
		        p.online('a')
		        asked = [p.ask(id) for id in more]
		        for id in more:
		            p.error('wait/remote-server-timeout', id, ALICE, 'proxy.test')
		        p.kill()
		    return asked
		asked = late('1', '2')
		assert sorted(os.listdir('state')) == ['answered', 'running']
		# no other user can read or write the marks
		assert os.stat('state/answered').st_mode & 0o777 == 0o600
		assert len(open('state/answered').read().splitlines()) == 2
		# when a full disk has cut off a mark, the next one is still a line of its own
		with open('state/answered', 'a') as f:
		    f.write('0123')
		# a clean stop leaves the marks
		with Proxy(*options) as p:
		    p.end()
		assert os.listdir('state') == ['answered']
		# a proxy that is killed later still knows the earlier marks
		asked += late('3')
		assert len(open('state/answered').read().splitlines()) == 3
		options = options[:-1] + ['60']
		with Proxy(*options) as p:
		    p.online('a')
		    for request in asked:
		        p.answer(request)
		    p.nothing()
		    # the mark is for that request and no other
		    p.answer(dict(asked[0].element.attrib, id='other'))
		    p.answered('other')
		    p.kill()
		# a user may use the same id again, so a mark is forgotten after a time
		with open('state/answered') as f:
		    marks = [line.split() for line in f]
		with open('state/answered', 'w') as f:
		    f.writelines('%s %012d\n' % (mark, int(when) - 601) for mark, when in marks)
		# but not while it is young
		with Proxy(*options[:-1], '700') as p:
		    p.answer(asked[1])
		    p.nothing()
		    p.kill()
		with Proxy(*options) as p:
		    p.answer(asked[1])
		    p.answered('2')
	END
}

@test "SIGHUP: the key file is read again, old keys still decode" {
	echo "k $(printf '%064d' 7)" >keys
	chmod 600 keys
	scenario <<-'END'
		with Proxy('--key-file', 'keys') as p:
		    p.send("<presence type='subscribed' from='impl@vhost.test' to='proxy.test'/>")
		    p.next()
		    p.online('a')
		    old = p.ask('1')
		    assert old['from'].startswith('proxy.test/k')
		    keys = open('keys').read()
		    with open('keys.new', 'w') as f:
		        f.write('n %064d\n' % 8 + keys)
		    os.chmod('keys.new', 0o600)
		    os.rename('keys.new', 'keys')
		    p.signal(signal.SIGHUP)
		    for n in range(1000):
		        if p.served('w%d' % n)['from'].startswith('proxy.test/n'):
		            break
		    else:
		        raise AssertionError('the new key is never used')
		    p.answer(old)
		    p.answered('1')
	END
}

@test "a full disk is 74, said in words" {
	run --separate-stderr bash -c 'printf "%s\n" "<message to=\"other.test\"/>" |
		xmpp-jat-proxy --domain proxy.test --target impl@vhost.test >/dev/full'
	assert_equal "$status" 74
	# shellcheck disable=SC2154 # set by run
	assert_regex "$stderr" '^xmpp-jat-proxy: .*No space left on device'
	scenario <<-'END'
		p = Filter('xmpp-jat-proxy', '--domain', 'proxy.test', '--target', IMPL, stdout=open('/dev/full', 'w'))
		p.process.stdout = None
		p.closed = True
		p.process.stdin.close()
		assert p.process.wait(WAIT_S) == 74, p.process.returncode
	END
}

@test "closed standard output is 74, closed standard input is the end of input" {
	run --separate-stderr bash -c 'printf "%s\n" "<message to=\"other.test\"/>" |
		xmpp-jat-proxy --domain proxy.test --target impl@vhost.test >&-'
	assert_equal "$status" 74
	run --separate-stderr bash -c 'xmpp-jat-proxy --domain proxy.test --target impl@vhost.test <&-'
	assert [ "$status" -eq 0 ] || [ "$status" -eq 74 ]
}

@test "a reader that went away is 74, not a signal" {
	scenario <<-'END'
		p = Proxy()
		p.process.stdout.close()
		p.closed = True
		try:
		    for n in range(1000):
		        p.send("<message to='other.test'/>")
		    p.eof()
		except BrokenPipeError:
		    pass
		assert p.process.wait(WAIT_S) == 74, (p.process.returncode, p.stderr)
	END
}

@test "wrong usage is 64 in two lines on stderr" {
	local wrong
	for wrong in "--target impl@vhost.test" "--domain proxy.test" "--domain proxy.test --target impl@vhost.test --policy best" \
		"--domain proxy.test --target impl@vhost.test --encoding rot13" "--domain proxy.test --target impl@vhost.test --timeout soon" \
		"--domain proxy.test --target impl@vhost.test --no-such" "--domain proxy.test --target impl@vhost.test --max-pending -3"; do
		# shellcheck disable=SC2086
		run --separate-stderr xmpp-jat-proxy $wrong </dev/null
		assert_equal "$status $wrong" "64 $wrong"
		# shellcheck disable=SC2154 # set by run
		assert_equal "${#stderr_lines[@]} $wrong" "2 $wrong"
		assert_output ''
	done
	run --separate-stderr xmpp-jat-proxy --help
	assert_success
	assert_output --partial '--bounce-wait'
	run --separate-stderr xmpp-jat-proxy --version
	assert_success
}

@test "secret files others can read, a broken key file, a state folder that is none: 78" {
	echo "k $(printf '%064d' 7)" >keys
	chmod 644 keys
	run --separate-stderr xmpp-jat-proxy --domain proxy.test --target impl@vhost.test --key-file keys </dev/null
	assert_equal "$status" 78
	chmod 600 keys
	echo 'k 1234' >keys
	run --separate-stderr xmpp-jat-proxy --domain proxy.test --target impl@vhost.test --key-file keys </dev/null
	assert_equal "$status" 78
	refute_regex "$stderr" '1234'
	run --separate-stderr xmpp-jat-proxy --domain proxy.test --target impl@vhost.test --key-file none </dev/null
	assert_equal "$status" 78
	echo secret >secret
	chmod 644 secret
	run --separate-stderr xmpp-jat-proxy --domain proxy.test --target impl@vhost.test --connect 127.0.0.1:1 --secret-file secret
	assert_equal "$status" 78
	refute_regex "$stderr" '[^-]secret$'
	run --separate-stderr xmpp-jat-proxy --domain proxy.test --target impl@vhost.test --state-dir none/there </dev/null
	assert_equal "$status" 78
}
