#!/usr/bin/env bats
# xmpp-manage as a filter: every clause of its contract.
# installcheck

load lib
load stream
load tools/scenario

teardown() { stop_all; }

# delegation: run the scenario on standard input, with the names of tests/tools/delegation.py
delegation() { scenario delegation; }

# --- envelopes

@test "a request of a user to the handler and its answer back: both versions, get and set" {
	delegation <<-'END'
		h = Handler()
		with Manage(handler=h) as p:
		    for version in (1, 2):
		        for kind in ('get', 'set'):
		            p.send(envelope(ask('q1', kind), id='o%d%s' % (version, kind), version=version))
		            asked = h.next()
		            check(asked, "<iq type='%s' id='{}' from='alice@vhost.test/a1' to='vhost.test'><query xmlns='urn:test:one'/></iq>" % kind)
		            h.answer(asked)
		            p.result('o%d%s' % (version, kind), 'q1', version=version)
		            assert "<iq xmlns='jabber:client'" in p.seen[-1].raw
		    p.nothing()
	END
}

@test "inner to: host, own account without to, own bare JID, another's bare JID" {
	delegation <<-'END'
		h = Handler()
		with Manage(handler=h) as p:
		    for to, answerer in ((None, 'alice@vhost.test'), ('alice@vhost.test', 'alice@vhost.test'),
		                         ('bob@vhost.test', 'bob@vhost.test'), ('vhost.test', 'vhost.test'),
		                         ('vhost.test/x', 'vhost.test/x')):
		        p.send(envelope(ask('q', to=to)))
		        asked = h.next()
		        assert asked['to'] == to, asked
		        h.answer(asked)
		        p.result('o1', 'q', from_=answerer)
		        p.send(envelope(ask('q', to=to)))
		        h.answer(h.next(), error('cancel/item-not-found'), 'error')
		        p.failed('o1', 'cancel/item-not-found', 'q', from_=answerer)
	END
}

@test "absent from and to are filled in; the right ones may be there; wrong ones are an inner error" {
	delegation <<-'END'
		h = Handler()
		with Manage(handler=h) as p:
		    p.send(envelope(ask()))
		    h.answer(h.next(), to=ALICE, from_=HOST)
		    p.result('o1')
		    for wrong in ({'to': BOB}, {'to': 'alice@vhost.test'}, {'from_': 'bob@vhost.test'},
		                  {'from_': D}, {'to': ALICE, 'from_': ALICE}, {'to': ''.join([ALICE, 'x'])}):
		        p.send(envelope(ask()))
		        h.answer(h.next(), **wrong)
		        p.failed('o1', 'cancel/internal-server-error')
		    p.send(envelope(ask()))
		    h.send("<iq type='result' id='%s' to=''/>" % h.next()['id'])
		    p.failed('o1', 'cancel/internal-server-error')
		    # names that look alike are not the same
		    p.send(envelope(ask()))
		    h.send("<iq xmlns:y='urn:y' y:to='%s' y:from='%s' type='result' id='%s'/>" % (BOB, D, h.next()['id']))
		    stanza = p.next()
		    inner = inner_of(stanza)
		    assert (inner['to'], inner['from'], inner['id'], inner['type']) == (ALICE, HOST, '1', 'result'), stanza
	END
}

@test "ids of our own on the pipe, never reused; equal ids of users; answers in any order" {
	delegation <<-'END'
		h = Handler()
		with Manage(handler=h) as p:
		    for i in range(100):
		        p.send(envelope(ask('same', from_=ALICE if i % 2 else BOB), id='o%d' % i))
		    asked = [h.next() for i in range(100)]
		    assert len({a['id'] for a in asked}) == 100 and all(a['id'] != 'same' for a in asked)
		    for i, a in reversed(list(enumerate(asked))):
		        h.answer(a, "<query xmlns='urn:test:one'>%d</query>" % i)
		    for i in reversed(range(100)):
		        p.result('o%d' % i, 'same', to=ALICE if i % 2 else BOB, content="<query xmlns='urn:test:one'>%d</query>" % i)
		    p.send(envelope(ask('same')))
		    again = h.next()
		    assert again['id'] not in {a['id'] for a in asked}
		    h.answer(asked[0])      # answered long ago
		    h.answer(again)
		    h.answer(again)         # answered twice
		    p.result('o1', 'same')
		    p.wait_stderr('answers no open request', 2)
		    p.nothing()
	END
}

@test "unlisted namespaces: inner service-unavailable; the listed ones beside them" {
	delegation <<-'END'
		h = Handler()
		with Manage(handler=h, ns=(NS, 'urn:test:two')) as p:
		    for ns in ('urn:test:on', 'urn:test:one2', 'URN:TEST:ONE', 'jabber:client'):
		        p.send(envelope(ask(ns=ns)))
		        p.failed('o1', 'cancel/service-unavailable')
		    p.send(envelope(ask(ns='urn:test:two')))
		    h.answer(h.next())
		    p.result('o1')
	END
}

@test "envelopes, nesting queries and delegation stanzas of others: forbidden, messages ignored" {
	delegation <<-'END'
		with Manage(hosts=(HOST, 'other.test')) as p:
		    for other in (ALICE, 'alice@vhost.test', 'evil.test', 'vhost.test/x', 'sub.vhost.test', D):
		        p.send(envelope(ask(), from_=other))
		        p.error('auth/forbidden', 'o1', other, D)
		        p.ask_disco('urn:xmpp:delegation:2::' + NS, 'n1', other)
		        p.error('auth/forbidden', 'n1', other, D)
		        p.send("<iq type='set' id='b' from='%s' to='%s'><delegation xmlns='urn:xmpp:delegation:1'/></iq>" % (other, D))
		        p.error('auth/forbidden', 'b', other, D)
		        p.send("<message from='%s' to='%s'><delegation xmlns='urn:xmpp:delegation:2'><delegated namespace='%s'/></delegation></message>" % (other, D, NS))
		    p.nothing()
		    assert 'delegates' not in p.stderr
	END
}

@test "a look-alike from is not the host's" {
	delegation <<-'END'
		with Manage() as p:
		    forged = envelope(ask(), from_=MALLORY).replace("<iq ", "<iq xmlns:y='urn:y' y:from='vhost.test' ", 1)
		    p.send(forged)
		    p.error('auth/forbidden', 'o1', MALLORY, D)
	END
}

@test "a host's bad envelope: an outer error, nothing to the handler" {
	delegation <<-'END'
		h = Handler()
		with Manage(handler=h) as p:
		    f = "<forwarded xmlns='urn:xmpp:forward:0'>%s</forwarded>"
		    d = "<delegation xmlns='urn:xmpp:delegation:2'>%s</delegation>"
		    bad = [d % "", d % (f % ""), d % (f % (ask() + ask('2'))), d % (f % ask() * 2),
		           d % (f % ask().replace("jabber:client", "urn:other")), d % (f % ask(type='result')),
		           d % (f % "<message xmlns='jabber:client'/>"), d % ask(),
		           d % (f % ask().replace(" from='alice@vhost.test/a1'", "").replace(' from="alice@vhost.test/a1"', '')),
		           d % (f % ask().replace("jabber:client", ""))]
		    for i, content in enumerate(bad):
		        p.send("<iq type='set' id='o%d' from='%s' to='%s'>%s</iq>" % (i, HOST, D, content))
		        p.error('modify/bad-request', 'o%d' % i, HOST, D)
		    # a bad request that can be answered inside the envelope is answered there
		    p.send(envelope(ask(content="<a xmlns='urn:test:one'/><b xmlns='urn:test:one'/>")))
		    p.failed('o1', 'modify/bad-request')
		    p.send(envelope(ask(content=" ")))
		    p.failed('o1', 'modify/bad-request')
		    # one <delay/> is allowed (XEP-0297), two are not
		    delay = "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>"
		    p.send("<iq type='set' id='o1' from='%s' to='%s'>%s</iq>" % (HOST, D, d % (f % (delay * 2))))
		    p.error('modify/bad-request', 'o1', HOST, D)
		    for both in (delay + ask(content=" "), ask(content=" ") + delay):
		        p.send("<iq type='set' id='o1' from='%s' to='%s'>%s</iq>" % (HOST, D, d % (f % both)))
		        p.failed('o1', 'modify/bad-request')
		    # the handler has seen nothing of these: its first request is the next one
		    p.send(envelope(ask('good')))
		    h.answer(h.next())
		    p.result('o1', 'good')
	END
}

@test "advertisements are logged, what is not served too" {
	delegation <<-'END'
		with Manage() as p:
		    p.send("<message from='vhost.test' to='deleg.test'><delegation xmlns='urn:xmpp:delegation:2'>"
		           "<delegated namespace='urn:test:one'/><delegated namespace='urn:test:other'><attribute name='node'/></delegated></delegation></message>")
		    p.nothing()
		    p.wait_stderr("'vhost.test' delegates 'urn:test:one'\n")
		    p.wait_stderr("'vhost.test' delegates 'urn:test:other', which is not served here")
	END
}

@test "our own requests handed back (ejabberd): inner service-unavailable" {
	delegation <<-'END'
		with Manage() as p:
		    p.send(envelope(ask(from_=D)))
		    p.failed('o1', 'cancel/service-unavailable', to=D)
		    p.send(envelope(ask(from_='x@deleg.test/y')))
		    p.failed('o1', 'cancel/service-unavailable', to='x@deleg.test/y')
	END
}

@test "other stanzas: requests service-unavailable, answers and messages nothing, foreign ones pass" {
	delegation <<-'END'
		with Manage() as p:
		    p.send("<iq type='get' id='1' from='%s' to='%s'><query xmlns='urn:test:one'/></iq>" % (ALICE, D))
		    p.error('cancel/service-unavailable', '1', ALICE, D)
		    p.send("<iq type='set' id='2' from='vhost.test' to='x@deleg.test'><query xmlns='urn:test:one'/></iq>")
		    p.error('cancel/service-unavailable', '2', HOST, 'x@deleg.test')
		    p.send("<iq type='get' id='3' from='vhost.test' to='deleg.test'/>")
		    p.error('modify/bad-request', '3', HOST, D)
		    p.send("<iq type='result' id='4' from='vhost.test' to='deleg.test'/>",
		           "<iq type='error' id='5' from='vhost.test' to='deleg.test'/>",
		           "<message from='%s' to='%s'><body>hi</body></message>" % (ALICE, D),
		           "<presence from='%s' to='%s'/>" % (ALICE, D))
		    p.nothing()
		    for foreign in ("<iq type='get' id='f' from='a@b/c' to='elsewhere.test'><x xmlns='urn:x'/></iq>",
		                    "<message to='elsewhere.test'/>", "<presence from='a@b'/>"):
		        p.send(foreign)
		        assert p.next().raw == foreign
	END
}

# --- disco

@test "nesting queries: answered with the node echoed, for both versions; default: the namespace itself" {
	delegation <<-'END'
		with Manage(ns=(NS, 'urn:test:two')) as p:
		    for version in (1, 2):
		        for half in ('::', ':bare:'):
		            for ns in (NS, 'urn:test:two'):
		                query = p.disco('urn:xmpp:delegation:%d%s%s' % (version, half, ns))
		                assert features(query) == [ns], features(query)
		    p.ask_disco('urn:xmpp:delegation:2::urn:test:three')
		    p.error('cancel/item-not-found', 'd1', HOST, D)
		    for odd in ('urn:xmpp:delegation:3::' + NS, 'urn:xmpp:delegation:2:' + NS, 'whatever', 'urn:xmpp:delegation:2::'):
		        p.ask_disco(odd)
		        p.error('cancel/item-not-found', 'd1', HOST, D)
	END
}

@test "disco#info on the domain itself is answered for all" {
	delegation <<-'END'
		with Manage() as p:
		    for who in (HOST, ALICE, MALLORY, 'evil.test'):
		        query = p.disco(None, from_=who)
		        assert DISCO in features(query) and identities(query), p.seen[-1]
	END
}

@test "--feature, --bare-feature, --identity belong to the --namespace before them" {
	delegation <<-'END'
		with Manage('--feature', 'urn:f1', '--feature', 'urn:f2', '--identity', 'pubsub/pep/A name/with slash',
		            '--namespace', 'urn:test:two', '--bare-feature', "urn:b<&'", '--namespace', 'urn:test:three',
		            '--identity', 'a/b') as p:
		    query = p.disco('urn:xmpp:delegation:2::' + NS)
		    assert features(query) == ['urn:f1', 'urn:f2'] and identities(query) == [('pubsub', 'pep', 'A name/with slash')]
		    assert features(p.disco('urn:xmpp:delegation:2:bare:' + NS)) == [NS]
		    assert features(p.disco('urn:xmpp:delegation:2::urn:test:two')) == ['urn:test:two']
		    assert features(p.disco('urn:xmpp:delegation:1:bare:urn:test:two')) == ["urn:b<&'"]
		    query = p.disco('urn:xmpp:delegation:2::urn:test:three')
		    assert identities(query) == [('a', 'b', None)] and features(query) == ['urn:test:three'], p.seen[-1]
	END
}

@test "--disco FILE: identities, features, forms of host and accounts" {
	delegation <<-'END'
		with open('disco.json', 'w') as f:
		    json.dump({NS: {'host': {'identities': [{'category': 'pubsub', 'type': 'pep', 'name': "N'<"}, 'a/b/c'],
		                             'features': ['urn:f', NS], 'forms': [{'FORM_TYPE': 'urn:form', 'max': '10', 'many': ['1', '<2>']}]},
		                    'bare': {'features': ['urn:bare']}}}, f)
		with Manage('--disco', 'disco.json', ns=(NS, 'urn:test:two')) as p:
		    query = p.disco('urn:xmpp:delegation:2::' + NS)
		    assert identities(query) == [('pubsub', 'pep', "N'<"), ('a', 'b', 'c')]
		    assert features(query) == ['urn:f', NS]
		    assert forms(query) == [{'FORM_TYPE': ['urn:form'], 'max': ['10'], 'many': ['1', '<2>']}], forms(query)
		    assert features(p.disco('urn:xmpp:delegation:2:bare:' + NS)) == ['urn:bare']
		    assert features(p.disco('urn:xmpp:delegation:2::urn:test:two')) == ['urn:test:two']
	END
}

@test "--disco FILE that is wrong: 78, the key is named" {
	check() {
		printf '%s' "$1" >disco.json
		run -78 xmpp-manage --domain deleg.test --host vhost.test --namespace urn:test:one \
			--disco disco.json -- true </dev/null
		assert_output --partial "$2"
	}
	check '{' "disco.json"
	check '[]' "disco.json"
	check '{"urn:test:two":{}}' "urn:test:two"
	check '{"urn:test:one":[]}' "urn:test:one"
	check '{"urn:test:one":{"hosts":{}}}' "urn:test:one"
	check '{"urn:test:one":{"host":{"features":"x"}}}' "urn:test:one"
	check '{"urn:test:one":{"host":{"features":[1]}}}' "urn:test:one"
	check '{"urn:test:one":{"bare":{"identities":["x"]}}}' "urn:test:one"
	check '{"urn:test:one":{"bare":{"forms":[{"a":"b"}]}}}' "urn:test:one"
	check '{"urn:test:one":{"bare":{"forms":[{"FORM_TYPE":"f","a\u0008":"b"}]}}}' "urn:test:one"
	check '{"urn:test:one":{"bare":{"feature":[]}}}' "urn:test:one"
	run -78 xmpp-manage --domain deleg.test --host vhost.test --namespace urn:test:one \
		--disco nowhere.json -- true </dev/null
	assert_output --partial "nowhere.json"
}

@test "listing a remaining-disco name serves those payloads" {
	delegation <<-'END'
		items = 'http://jabber.org/protocol/disco#items'
		for name, ns, version in (('urn:xmpp:delegation:2:bare:disco#items:*', items, 2),
		                          ('urn:xmpp:delegation:1:bare:disco#items:*', items, 1),
		                          ('urn:xmpp:delegation:2:bare:disco#info:*', DISCO, 2),
		                          ('http://jabber.org/protocol/disco#items:*', items, 1)):
		    h = Handler(name=str(abs(hash(name)) % 1000000))
		    with Manage(handler=h, ns=(name,)) as p:
		        p.send(envelope(ask(content="<query xmlns='%s' node='n'/>" % ns, to='bob@vhost.test'), version=version))
		        h.answer(h.next(), "<query xmlns='%s' node='n'/>" % ns)
		        p.result('o1', from_='bob@vhost.test', content="<query xmlns='%s' node='n'/>" % ns, version=version)
		        p.send(envelope(ask()))
		        p.failed('o1', 'cancel/service-unavailable')
		        p.disco('urn:xmpp:delegation:%d::%s' % (version, name))
	END
}

# --- the persistent handler

@test "an error of the handler passes, with and without an echo, however large that is" {
	delegation <<-'END'
		h = Handler()
		with Manage(handler=h) as p:
		    large = "<query xmlns='urn:test:one'>%s</query>" % ("<item n='1'><a/><b/></item>" * 300)
		    for echo in ("", "<query xmlns='urn:test:one'/>", large):
		        p.send(envelope(ask(content=large)))
		        h.answer(h.next(), echo + error('modify/not-acceptable'), 'error')
		        p.failed('o1', 'modify/not-acceptable')
		        assert len(p.seen[-1].raw) > len(echo)
		    p.send(envelope(ask()))
		    h.answer(h.next(), large)
		    p.result('o1', content=large)
	END
}

@test "wrong replies are inner errors at once: two payloads, no error, two errors" {
	delegation <<-'END'
		h = Handler()
		with Manage(handler=h) as p:
		    for content, kind in (("<a xmlns='urn:x'/><b xmlns='urn:x'/>", 'result'), ("", 'error'),
		                          (error('cancel/conflict') * 2, 'error'),
		                          (error('cancel/conflict').replace('<error', "<error xmlns='urn:x'"), 'error'),
		                          ("<a xmlns='urn:x'/><b xmlns='urn:x'/>" + error('cancel/conflict'), 'error')):
		        p.send(envelope(ask()))
		        h.answer(h.next(), content, kind)
		        p.failed('o1', 'cancel/internal-server-error')
		    # a payload named "error" in another namespace is no error
		    p.send(envelope(ask()))
		    h.answer(h.next(), "<error xmlns='urn:x'/>" + error('cancel/conflict'), 'error')
		    assert '<conflict ' in p.next().raw, p.seen[-1]
	END
}

@test "an error of the handler gets the type and the condition that it lacks" {
	delegation <<-'END'
		h = Handler()
		with Manage(handler=h) as p:
		    for given, wanted in (("<error/>", "<error type='cancel'><undefined-condition xmlns='%s'/></error>" % STANZAS),
		                          ("<error type='wait'/>", "<error type='wait'><undefined-condition xmlns='%s'/></error>" % STANZAS),
		                          ("<error><conflict xmlns='%s'/></error>" % STANZAS, error('cancel/conflict')),
		                          ("<y xmlns='urn:y' a='&lt;'><z/></y><error/>",
		                           "<y xmlns='urn:y' a='&lt;'><z/></y><error type='cancel'><undefined-condition xmlns='%s'/></error>" % STANZAS)):
		        p.send(envelope(ask()))
		        h.answer(h.next(), given, 'error')
		        p.answered('o1', "<iq type='error' id='1' to='%s' from='%s'>%s</iq>" % (ALICE, HOST, wanted))
	END
}

@test "an id over 1023 bytes: bad-request, inside the envelope or outside" {
	delegation <<-'END'
		h = Handler()
		with Manage(handler=h) as p:
		    p.send(envelope(ask('q' * 1023)))
		    h.answer(h.next())
		    p.result('o1', 'q' * 1023)
		    p.send(envelope(ask('q' * 1024)))
		    p.failed('o1', 'modify/bad-request', 'q' * 1024)
		    p.send(envelope(ask('1'), id='o' * 1024))
		    assert p.next().error == 'modify/bad-request'
		    p.nothing()
		with Manage('--max-send-bytes', '3000', handler=Handler('two')) as p:  # the id itself cannot be sent
		    p.send(envelope(ask("'" * 2000)))
		    stanza = p.next()
		    assert inner_of(stanza).error == 'modify/bad-request', stanza
		with Manage('--per-request', handler=('sh', '-c', 'echo "<iq type=\'result\' id=\'$XMPP_ID\'/>"')) as p:
		    p.send(envelope(ask('q' * 200000)), envelope(ask('good'), id='o2'))
		    assert inner_of(p.next()).error == 'modify/bad-request'
		    p.answered('o2', "<iq type='result' id='good' to='%s' from='vhost.test'/>" % ALICE)
		    # an address that is none does not fit into the environment either
		    p.send(envelope(ask('1', to='alice@vhost.test/' + 'r' * 200000), id='o3'))
		    assert inner_of(p.next()).error == 'modify/bad-request'
		    assert 'could not be started' not in p.stderr, p.stderr
	END
}

@test "garbage, a message, a wrong id, silence: the timeout answers" {
	delegation <<-'END'
		h = Handler()
		with Manage('--timeout', '0.5', handler=h) as p:
		    for i, say in enumerate(("garbage", "<iq type='result' id='", "<message id='%s'/>", "<iq type='result' id='x%s'/>",
		                             "<iq type='result'/>", "<presence id='%s'/>", "")):
		        p.send(envelope(ask('q'), id='o%d' % i))
		        asked = h.next()
		        h.send(say % asked['id'] if '%s' in say else say)
		        p.failed('o%d' % i, 'wait/remote-server-timeout', 'q')
		        h.answer(asked)     # too late
		    p.send(envelope(ask('good')))
		    h.answer(h.next())
		    p.result('o1', 'good')
		    p.nothing()
	END
}

@test "a handler that dies: its requests are answered, it is started again with backoff" {
	delegation <<-'END'
		h = Handler()
		with Manage(handler=h) as p:
		    for i in range(3):
		        p.send(envelope(ask('a'), id='oa'), envelope(ask('b'), id='ob'))
		        a, b = h.next(), h.next()
		        h.answer(a)
		        h.die()
		        p.result('oa', 'a')
		        p.failed('ob', 'cancel/internal-server-error', 'b')
		        p.wait_stderr('has ended with status', i + 1)
		        begin = time.monotonic()
		        h.started()
		        waited = time.monotonic() - begin
		        # 100 ms, doubling
		        assert waited > 0.05 * 2 ** i, waited
		    p.send(envelope(ask('c')))
		    h.answer(h.next())
		    p.result('o1', 'c')
	END
}

@test "what a handler has written before it ends counts, also when we learn of both at once" {
	cat >once <<-'END'
		#!/bin/sh
		read -r request
		echo $$ >pid.new && mv pid.new pid
		until [ -e go ]; do sleep 0.02; done
		id=$(expr "$request" : ".* id='\([^']*\)'")
		echo "<iq type='result' id='$id'><query xmlns='urn:test:one'><ok/></query></iq>"
	END
	delegation <<-'END'
		def wait_for(condition):
		    while not condition():
		        time.sleep(0.01)
		def dead():
		    return open('/proc/%s/stat' % pid).read().rsplit(')', 1)[1].split()[0] == 'Z'
		with Manage(handler=('sh', './once')) as p:
		    p.send(envelope(ask()))
		    wait_for(lambda: os.path.exists('pid'))
		    pid = open('pid').read().strip()
		    p.signal(signal.SIGSTOP)
		    open('go', 'w').close()
		    wait_for(dead)
		    p.signal(signal.SIGCONT)
		    p.result('o1')
	END
}

manage()
{
	exec xmpp-manage --domain deleg.test --host vhost.test --namespace urn:test:one \
		--connect "127.0.0.1:$FAKE_PORT" --secret-file secret "$@"
}

@test "a handler that dies while the server is away: all that it had is answered when that is back" {
	secret_file
	inner="<iq xmlns='jabber:client' type='get' id='i%d' from='alice@vhost.test/a' to='vhost.test'><q xmlns='urn:test:one'/></iq>"
	inner="<forwarded xmlns='urn:xmpp:forward:0'>$inner</forwarded>"
	fake "up
		repeat 3 <iq type='set' id='o%d' from='vhost.test' to='deleg.test'><delegation xmlns='urn:xmpp:delegation:2'>${inner//i%d/i}</delegation></iq>
		wait-for handed
		close" \
		"wait-for died
		up
		count 3 remote-server-timeout
		end"
	start manage manage --timeout 600 -- \
		sh -c 'head -n 3 >/dev/null; : >handed; until [ -e away ]; do sleep 0.1; done; exit 9'
	wait_for grep -q 'next attempt' manage.err
	: >away
	wait_for grep -q 'status 9' manage.err
	: >died
	await fake
	end manage
}

@test "what the handler answers while the server is away reaches it when that is back" {
	secret_file
	inner="<iq xmlns='jabber:client' type='get' id='i' from='alice@vhost.test/a' to='vhost.test'><q xmlns='urn:test:one'/></iq>"
	cat >once <<-'END'
		read -r line
		: >handed
		until [ -e away ]; do sleep 0.1; done
		id=${line#* id=?}
		echo "<iq type='result' id='${id%%[\"\']*}'><got/></iq>"
		: >answered
		cat >/dev/null
	END
	fake "up
		send <iq type='set' id='o' from='vhost.test' to='deleg.test'><delegation xmlns='urn:xmpp:delegation:2'><forwarded xmlns='urn:xmpp:forward:0'>$inner</forwarded></delegation></iq>
		wait-for handed
		close" \
		"wait-for answered
		up
		expect id='o'.*<got/>
		end"
	start manage manage -- sh once
	wait_for grep -q 'next attempt' manage.err
	: >away
	await fake
	end manage
}

@test "while the server reads nothing its answers wait in the handler's pipe; when it does all are there" {
	secret_file
	inner="<iq xmlns='jabber:client' type='get' id='i' from='alice@vhost.test/a' to='vhost.test'><q xmlns='urn:test:one'/></iq>"
	inner="<delegation xmlns='urn:xmpp:delegation:2'><forwarded xmlns='urn:xmpp:forward:0'>$inner</forwarded></delegation>"
	echo " type='result'><got>$(head -c 60000 /dev/zero | tr '\0' x)</got></iq>" >rest
	cat >each <<-'END'
		while read -r line; do
		    id=${line#* id=?}
		    printf "<iq id='%s'" "${id%%[\"\']*}"
		    cat rest
		done
	END
	for handler in '-- sh each' "--per-request -- sh -c 'printf \"<iq\"; cat rest'"; do
		rm -f go
		fake "deaf
			up
			repeat 150 <iq type='set' id='o%d' from='vhost.test' to='deleg.test'>$inner</iq>
			say asked
			wait-for go
			count 150 <got>
			end"
		eval "start manage manage --timeout 600 --max-queue-bytes 65536 --max-stanza-bytes 65536 $handler"
		wait_for grep -q asked fake.out
		wait_for stuck manage
		: >go
		await fake
		end manage
	done
}

@test "while the handler is not there, and when it cannot be started: service-unavailable" {
	delegation <<-'END'
		with Manage(handler=('/nonexistent/handler',)) as p:
		    p.wait_stderr('cannot run')
		    p.wait_stderr('has ended with status 127')
		    p.send(envelope(ask()))
		    stanza = p.next()
		    assert inner_of(stanza).error in ('cancel/service-unavailable', 'cancel/internal-server-error'), stanza
	END
}

@test "what the handler says on stderr is shown; signals, environment and descriptors are clean" {
	delegation <<-'END'
		with open('look.sh', 'w') as f:
		    f.write("""env | cut -d= -f1 | sort | tr '\\n' ' ' >&2; ls /proc/self/fd | tr '\\n' ' ' >&2
		grep -E 'Sig(Blk|Ign)' /proc/$$/status | tr '\\n\\t' '  ' >&2; echo "pgid $(ps -o pgid= -p $$) pid $$" >&2; exec cat""")
		with Manage(handler=('sh', 'look.sh'), env={'NOTIFY_SOCKET': '/nowhere', 'SECRET_THING': 'x', 'CREDENTIALS_DIRECTORY': '/nowhere',
		                                            'LISTEN_FDS': '0', 'LC_TIME': 'C', 'TZ': 'UTC'}) as p:
		    p.wait_stderr('pgid')
		    said = p.stderr
		    assert 'SECRET' not in said and 'NOTIFY' not in said and 'CREDENTIALS' not in said and 'LISTEN' not in said, said
		    assert 'PATH' in said and 'TZ' in said and 'LC_TIME' in said, said
		    assert ' 0 1 2 3 ' in ' ' + said.split('\n')[0] + ' ' or '0 1 2 3 ' in said, said
		    import re
		    for name in ('SigBlk', 'SigIgn'):
		        # 32 and 33 belong to the C library and cannot be reset
		        assert int(re.search(name + r': *([0-9a-f]+)', said).group(1), 16) & ~(3 << 31) == 0, said
		    pgid, pid = re.search(r'pgid +(\d+) pid (\d+)', said).groups()
		    assert pgid == pid, said
	END
}

@test "end of input: the handler may finish what it holds; then it ends" {
	delegation <<-'END'
		with Manage(handler=('sh', '-c', "sed -uE \"s,.* id=['\\\"]([^'\\\"]*).*,<iq type='result' id='\\\\1'/>,\"; echo gone >&2")) as p:
		    for i in range(50):
		        p.send(envelope(ask('q%d' % i), id='o%d' % i))
		    rest = p.end(0)
		    assert len(rest) == 50 and {s['id'] for s in rest} == {'o%d' % i for i in range(50)}
		    for s in rest:
		        check(inner_of(s), "<iq type='result' id='{id}' to='%s' from='%s'/>" % (ALICE, HOST))
		    assert 'gone' in p.stderr
	END
}

@test "SIGTERM: open requests are awaited, new ones refused, the silent ones answered" {
	delegation <<-'END'
		h = Handler()
		p = Manage('--drain-time', '1', handler=h)
		with p:
		    p.send(envelope(ask('a'), id='oa'), envelope(ask('b'), id='ob'))
		    a, b = h.next(), h.next()
		    p.signal(signal.SIGTERM)
		    h.answer(a)
		    p.result('oa', 'a')
		    p.send(envelope(ask('c'), id='oc'))
		    stanzas = p.ended(0)
		    assert [s['id'] for s in stanzas] == ['oc', 'ob'] or [s['id'] for s in stanzas] == ['ob'], stanzas
		    assert inner_of(stanzas[-1]).error == 'wait/recipient-unavailable'
	END
}

@test "a handler that does not read holds nobody for longer than the timeout, memory is bounded" {
	delegation <<-'END'
		with Manage('--timeout', '1', '--max-queue-bytes', '65536', handler=('sleep', '100')) as p:
		    big = "<query xmlns='urn:test:one'>%s</query>" % ('x' * 9000)
		    for i in range(40):
		        p.send(envelope(ask('q', content=big), id='o%d' % i))
		    left = {'o%d' % i for i in range(40)}
		    while left:
		        stanza = p.next()
		        assert inner_of(stanza).error in ('wait/remote-server-timeout', 'cancel/service-unavailable', 'cancel/internal-server-error'), stanza
		        left.remove(stanza['id'])
		    p.nothing()
	END
}

@test "a handler that writes each answer before it reads on: all are answered, whatever waits in between" {
	# more than both pipes and the queue hold: a program that stops reading while it cannot write would wait for ever
	cat >echo.py <<-'END'
		import sys
		for line in sys.stdin:
		    id = line.split("id='")[1].split("'")[0]
		    print("<iq type='result' id='%s'><q xmlns='urn:test:one'>%s</q></iq>" % (id, 'x' * 2000), flush=True)
	END
	awk 'BEGIN {
		for (i = 0; i < 600; i++) {
			printf "<iq type=\"set\" id=\"o%d\" from=\"vhost.test\" to=\"deleg.test\">", i
			printf "<delegation xmlns=\"urn:xmpp:delegation:2\"><forwarded xmlns=\"urn:xmpp:forward:0\">"
			printf "<iq xmlns=\"jabber:client\" type=\"get\" id=\"q\" from=\"alice@vhost.test/a\">"
			printf "<q xmlns=\"urn:test:one\">%02000d</q></iq></forwarded></delegation></iq>\n", 0
		}
	}' >requests
	timeout 60 xmpp-manage --domain deleg.test --host vhost.test --namespace urn:test:one \
		--max-queue-bytes 65536 --timeout 50 -- python3 echo.py <requests >answers
	assert_equal "$(grep -c 'urn:test:one.*xxx' answers)" 600
}

@test "--limit pending: wait/resource-constraint" {
	delegation <<-'END'
		h = Handler()
		with Manage('--max-pending', '2', handler=h) as p:
		    p.send(*(envelope(ask('q%d' % i), id='o%d' % i) for i in range(3)))
		    p.failed('o2', 'wait/resource-constraint', 'q2')
		    h.answer(h.next()); h.answer(h.next())
		    p.result('o0', 'q0'); p.result('o1', 'q1')
		    p.send(envelope(ask('q')))
		    h.answer(h.next())
		    p.result('o1', 'q')
		with Manage('--max-pending-bytes', '4096', '--limit', 'trusted=vhost.test', '--timeout', '3', handler=('sh', '-c', 'cat >/dev/null')) as p:
		    p.send(*(envelope(ask('q' * 1000), id='o%d' % i) for i in range(6)))
		    answers = {}
		    while len(answers) < 6:
		        stanza = p.next()
		        answers[stanza['id']] = inner_of(stanza).error
		    assert answers['o5'] == 'wait/resource-constraint', answers
		    assert answers['o0'] != 'wait/resource-constraint', answers
		h = Handler('three')
		with Manage('--max-pending-bytes', '4G', handler=h) as p:  # 0 in 32 bits
		    p.send(envelope(ask()))
		    h.answer(h.next())
		    p.result('o1')
	END
}

@test "a handler that dies, or is silent, with thousands of requests in hand: each gets one answer, whatever the queue holds" {
	delegation <<-'END'
		small = ('--max-queue-bytes', '65536', '--max-stanza-bytes', '2048')
		for options, handler, why in (((), 'head -n 4000 >/dev/null', 'cancel/internal-server-error'),
		                              (('--timeout', '3'), 'cat >/dev/null', 'wait/remote-server-timeout')):
		    with Manage(*small, *options, handler=('sh', '-c', handler)) as p:
		        asked = {'o%d' % i: envelope(ask('i%d' % i, from_='u%d@vhost.test/%s' % (i % 20, 'r' * 30)), id='o%d' % i) for i in range(4000)}
		        p.send(*asked.values())
		        while asked:
		            stanza = p.next()
		            del asked[stanza.element.get('id')]
		            inner = inner_of(stanza)
		            assert inner.error == why and inner.element.get('id') == 'i' + stanza.element.get('id')[1:], stanza
		        p.nothing()
		        assert p.counters()['open_requests'] == 0
	END
}

@test "shares: one user has at most --limit user-pending requests open, one other domain domain-pending; trusted ones all" {
	delegation <<-'END'
		def busy(p, ids):
		    got = sorted(inner_of(p.next()).element.get('id') for _ in ids)
		    assert got == sorted(ids), got
		h = Handler()
		with Manage('--limit', 'user-pending=3', '--limit', 'domain-pending=5', '--limit', 'pending=100', '--limit', 'trusted=good.test',
		            '--timeout', '4', handler=h) as p:
		    p.send(*(envelope(ask('a%d' % i), id='o%d' % i) for i in range(5)))
		    busy(p, ['a3', 'a4'])
		    p.send(*(envelope(ask('b%d' % i, from_='u%d@other.test/r' % i)) for i in range(7)))
		    busy(p, ['b5', 'b6'])
		    p.send(*(envelope(ask('c%d' % i, from_='u%d@%s/r' % (i, HOST))) for i in range(20)))    # the host's own users
		    p.send(*(envelope(ask('d%d' % i, from_='u@good.test/r')) for i in range(20)))
		    p.send(*(envelope(ask('e%d' % i, from_='gateway.test')) for i in range(6)))    # an address without a local part is a domain
		    busy(p, ['e5'])
		    for _ in range(3 + 5 + 20 + 20 + 5):
		        assert inner_of(p.next()).error == 'wait/remote-server-timeout'
		    p.nothing()
		h = Handler('default')
		with Manage('--timeout', '4', handler=h) as p:
		    p.send(*(envelope(ask('a%d' % i)) for i in range(257)))
		    p.failed('o1', 'wait/resource-constraint', 'a256')
		    for _ in range(256):
		        p.next()
	END
}

@test "--per-request: one user of many has all jobs but one, the others' come in turns" {
	delegation <<-'END'
		with open('job.sh', 'w') as f:
		    f.write("""case $XMPP_FROM in mallory*) sleep 60;; esac; echo "<iq type='result'/>" """)
		with Manage('--per-request', '--jobs', '3', '--timeout', '6', handler=('sh', 'job.sh')) as p:
		    p.send(*(envelope(ask('m%d' % i, from_=MALLORY)) for i in range(100)))
		    names = ['q%d' % i for i in range(20)]
		    p.send(*(envelope(ask(name, from_='u%s@vhost.test/r' % name)) for name in names))
		    got = [inner_of(p.next()).element for _ in names]
		    assert sorted(s.get('id') for s in got) == sorted(names) and all(s.get('type') == 'result' for s in got)
		    for _ in range(100):
		        assert inner_of(p.next()).error == 'wait/remote-server-timeout'
		with Manage('--per-request', '--jobs', '1', handler=('echo', "<iq type='result'/>")) as p:    # at least one
		    p.send(envelope(ask('1')))
		    p.answered('o1', "<iq type='result' id='1' to='%s' from='%s'/>" % (ALICE, HOST))
	END
}

@test "a slow handler: the requests that wait are handed over in turns of domains and users" {
	delegation <<-'END'
		with open('slow.py', 'w') as f:
		    f.write("import sys, time\ntime.sleep(1)\nfor line in sys.stdin:\n"
		            "    print(\"<iq type='result' id='%s'/>\" % line.split(\" id='\")[1].split(\"'\")[0], flush=True)\n")
		big = "<query xmlns='urn:test:one'>%s</query>" % ('x' * 2000)
		with Manage('--limit', 'user-pending=5000', '--limit', 'pending-bytes=1G', handler=('python3', 'slow.py')) as p:
		    p.send(*(envelope(ask('m%d' % i, from_=MALLORY, content=big)) for i in range(3000)))
		    p.send(*(envelope(ask('q%d' % i, from_='u%d@vhost.test/r' % i)) for i in range(10)))
		    order = []
		    while not order or sum(o.startswith('q') for o in order) < 10:
		        order.append(inner_of(p.next()).element.get('id'))
		    assert len(order) < 1500, len(order)
		    for _ in range(3010 - len(order)):
		        p.next()
	END
}

@test "a handler that writes junk without end is complained of once" {
	delegation <<-'END'
		for options, line in (((), 'junk'), (('--json',), 'junk'), ((), "<iq type='result' id='x'/>"), (('--json',), '{"type":"result","id":"x"}'), ((), '<message/>')):
		    with Manage(*options, '--timeout', '3', handler=('sh', '-c', 'yes "$1" | head -n 100000; exec sleep 60', 'sh', line)) as p:
		        p.wait_stderr('handler' if line == '<message/>' else 'wrote')
		        p.send(envelope(ask()))
		        p.failed('o1', 'wait/remote-server-timeout')
		        assert p.stderr.count('\n') < 5, p.stderr
	END
}

@test "--max-send-bytes: an answer that is too large is replaced by policy-violation" {
	delegation <<-'END'
		h = Handler()
		with Manage('--max-send-bytes', '3000', handler=h) as p:
		    p.send(envelope(ask()))
		    h.answer(h.next(), "<query xmlns='urn:test:one'>%s</query>" % ('x' * 3000))
		    p.failed('o1', 'modify/policy-violation')
		    p.send(envelope(ask()))
		    h.answer(h.next())
		    p.result('o1')
	END
}

@test "a stanza over a limit: the envelope is refused, the handler's reply an inner error" {
	delegation <<-'END'
		h = Handler()
		with Manage('--max-stanza-bytes', '20000', handler=h) as p:
		    p.send(envelope(ask(content="<query xmlns='urn:test:one'>%s</query>" % ('x' * 20000))))
		    p.error('modify/policy-violation', 'o1', HOST, D)
		    p.send(envelope(ask()))
		    h.answer(h.next(), "<query xmlns='urn:test:one'>%s</query>" % ('x' * 20000))
		    p.failed('o1', 'cancel/internal-server-error')
		    p.expected_status = 65
	END
}

@test "namespaces, prefixes, xml:lang and CDATA of what is answered survive" {
	delegation <<-'END'
		h = Handler()
		with Manage(handler=h) as p:
		    p.send("<iq xmlns:p='urn:test:one' type='set' id='o1' from='vhost.test' to='deleg.test'><delegation xmlns='urn:xmpp:delegation:2'>"
		           "<forwarded xmlns='urn:xmpp:forward:0'><c:iq xmlns:c='jabber:client' xml:lang='de' type='get' id='1' from='%s' to='vhost.test'>"
		           "<p:query p:a='1'><x xmlns=''/><![CDATA[<&>]]></p:query></c:iq></forwarded></delegation></iq>" % ALICE)
		    asked = h.next()
		    query, = asked.element
		    assert asked.element.tag == 'iq' and query.tag == '{urn:test:one}query' and query[0].tag == 'x', asked
		    assert query.get('{urn:test:one}a') == '1' and '<![CDATA[<&>]]>' in asked.raw and "xml:lang='de'" in asked.raw
		    h.send("<iq xmlns:q='urn:q' type='result' id='%s' xml:lang='fr'><q:a><b xmlns=''/></q:a></iq>" % asked['id'])
		    inner = inner_of(p.next())
		    assert inner.element[0].tag == '{urn:q}a' and inner.element[0][0].tag == 'b', p.seen[-1]
		    assert "xml:lang='fr'" in p.seen[-1].raw
	END
}

# --- --handler-requests

@test "--handler-requests: to hosts and their accounts, one answer under the handler's id" {
	delegation <<-'END'
		h = Handler()
		with Manage('--handler-requests', handler=h) as p:
		    for to in (HOST, 'alice@vhost.test'):
		        h.send("<iq type='get' id='mine' to='%s'><query xmlns='jabber:iq:roster'/></iq>" % to)
		        sent = p.next()
		        check(sent, "<iq type='get' id='{id}' from='deleg.test' to='%s'><query xmlns='jabber:iq:roster'/></iq>" % to)
		        assert sent['id'] != 'mine'
		        answer = "<iq type='result' id='%s' from='%s' to='deleg.test'><query xmlns='jabber:iq:roster'/></iq>"
		        p.send(answer % (sent['id'], 'mallory@vhost.test'))     # from a stranger
		        p.send(answer % ('x' + sent['id'], to))
		        p.send(answer % (sent['id'], to))
		        p.send(answer % (sent['id'], to))                       # once
		        check(h.next(), "<iq type='result' id='mine' from='%s' to='deleg.test'><query xmlns='jabber:iq:roster'/></iq>" % to)
		        p.nothing()
		    # with the id of a delegated request that is open
		    p.send(envelope(ask('q')))
		    asked = h.next()
		    h.send("<iq type='set' id='%s' to='vhost.test'><x xmlns='urn:x'/></iq>" % asked['id'])
		    sent = p.next()
		    assert sent['to'] == HOST and sent['from'] == D and sent['type'] == 'set'
		    p.send("<iq type='error' id='%s' from='vhost.test' to='deleg.test'>%s</iq>" % (sent['id'], error('cancel/conflict')))
		    back = h.next()
		    assert back['id'] == asked['id'] and back.error == 'cancel/conflict'
		    h.answer(asked)
		    p.result('o1', 'q')
	END
}

@test "--handler-requests: to others, bad ones, and without the option: an error to the handler" {
	delegation <<-'END'
		h = Handler()
		with Manage('--handler-requests', '--timeout', '0.5', handler=h) as p:
		    for to in ('evil.test', 'alice@vhost.test/a1', 'alice@evil.test', D, 'sub.vhost.test'):
		        h.send("<iq type='get' id='m' to='%s'><x xmlns='urn:x'/></iq>" % to)
		        back = h.next()
		        assert (back['id'], back['type'], back['from']) == ('m', 'error', to), back
		    h.send("<iq type='get' id='m'><x xmlns='urn:x'/></iq>")
		    assert h.next()['type'] == 'error'
		    h.send("<iq type='get' id='m' to='vhost.test'><x xmlns='urn:x'/></iq>")
		    p.next()
		    back = h.next()
		    assert back.error == 'wait/remote-server-timeout' and back['id'] == 'm', back
		    p.nothing()
		h = Handler('large')
		with Manage('--handler-requests', '--max-stanza-bytes', '20000', handler=h) as p:
		    p.expected_status = 65
		    h.send("<iq type='get' id='m' to='vhost.test'><x xmlns='urn:x'/></iq>")
		    p.send("<iq type='result' id='%s' from='vhost.test' to='deleg.test'><x xmlns='urn:x'>%s</x></iq>" % (p.next()['id'], 'x' * 30000))
		    back = h.next()
		    assert (back['id'], back['from'], back.error) == ('m', HOST, 'modify/policy-violation'), back
		h = Handler('two')
		with Manage(handler=h) as p:
		    h.send("<iq type='get' id='m' to='vhost.test'><x xmlns='urn:x'/></iq>")
		    assert h.next()['type'] == 'error'
		    p.nothing()
	END
}

# --- --per-request

@test "--per-request: the inner iq with its id on stdin, the facts in the environment" {
	delegation <<-'END'
		script = """cat >seen; env | grep ^XMPP_ | sort >facts
		echo "<iq type='result'>
		<query xmlns='urn:test:one'><ok/></query>
		</iq>" """
		with Manage('--per-request', handler=('sh', '-c', script)) as p:
		    p.send(envelope(ask("i'd<1>", 'set')))
		    stanza = p.next()
		    inner = inner_of(stanza)
		    assert (inner['id'], inner['to'], inner['from'], inner['type']) == ("i'd<1>", ALICE, HOST, 'result'), stanza
		    seen = parse(open('seen').read().rstrip('\n'))
		    assert (seen['id'], seen['from'], seen['to'], seen['type']) == ("i'd<1>", ALICE, HOST, 'set')
		    assert open('facts').read() == "XMPP_FROM=%s\nXMPP_HOST=vhost.test\nXMPP_ID=i'd<1>\nXMPP_NAMESPACE=urn:test:one\nXMPP_TO=vhost.test\nXMPP_TYPE=set\n" % ALICE, open('facts').read()
		    p.send(envelope(ask('2', to=None)))
		    p.answered('o1', "<iq type='result' id='2' to='%s' from='alice@vhost.test'>\n<query xmlns='urn:test:one'><ok/></query>\n</iq>" % ALICE)
		    assert 'XMPP_TO=alice@vhost.test\n' in open('facts').read()
	END
}

@test "--per-request: no shell sees what users write" {
	delegation <<-'END'
		with Manage('--per-request', handler=('sh', '-c', 'cat >/dev/null; printf "<iq type=\'result\'/>"; printf "%s" "$XMPP_FROM" >who')) as p:
		    p.send(envelope(ask('1', from_="alice@vhost.test/$(touch owned)`touch owned`;touch owned")))
		    inner_of(p.next())
		    assert open('who').read() == "alice@vhost.test/$(touch owned)`touch owned`;touch owned" and not os.path.exists('owned')
	END
}

@test "--per-request: exit status, garbage, two stanzas, a message, nothing, a wrong id, a wrong to: internal-server-error" {
	delegation <<-'END'
		good = "<iq type='result'/>"
		for script in ("echo \"%s\"; exit 1" % good, "exit 3", "kill -9 $$", "echo garbage", "echo \"%s%s\"" % (good, good), ":",
		               "echo \"<message/>\"", "echo \"<iq type='result' id='other'/>\"", "echo \"<iq type='result' to='bob@vhost.test/b1'/>\"",
		               "echo \"<iq type='result' from='bob@vhost.test'/>\"", "echo \"<iq type='get'><x xmlns='urn:x'/></iq>\"",
		               "echo \"%s garbage\"" % good, "printf \"<iq type='result'>\"", "echo \"<iq type='error'/>\""):
		    with Manage('--per-request', handler=('sh', '-c', script)) as p:
		        p.send(envelope(ask('1')))
		        p.failed('o1', 'cancel/internal-server-error')
		        p.nothing()
		for script in (good, "<iq type='result' id='1'/>", "<iq type='result' to='%s' from='vhost.test'/>" % ALICE):
		    with Manage('--per-request', handler=('echo', script)) as p:
		        p.send(envelope(ask('1')))
		        p.answered('o1', "<iq type='result' id='1' to='%s' from='vhost.test'/>" % ALICE)
		with Manage('--per-request', handler=('/nonexistent',)) as p:
		    p.send(envelope(ask('1')))
		    p.failed('o1', 'cancel/internal-server-error')
		    assert 'cannot run' in p.stderr
	END
}

@test "--per-request: a program that fails is told once a minute, whatever users send" {
	delegation <<-'END'
		for script, told in (('exit 3', "'sh' has ended with status 3"), ('echo junk', 'is no reply')):
		    with Manage('--per-request', '--jobs', '4', handler=('sh', '-c', script)) as p:
		        for n in range(30):
		            p.send(envelope(ask('a%d' % n), id='o%d' % n))
		        for n in range(30):
		            assert inner_of(p.next()).error == 'cancel/internal-server-error'
		        assert p.stderr.count(told) == 1, p.stderr
	END
}

@test "--per-request: the deadline kills the process group, also what outlives the handler" {
	delegation <<-'END'
		def gone(name):
		    deadline = time.monotonic() + WAIT_S
		    pid = int(open(name).read())
		    while time.monotonic() < deadline:
		        try:
		            with open('/proc/%d/stat' % pid) as f:
		                if f.read().rsplit(')', 1)[1].split()[0] == 'Z':
		                    return
		        except FileNotFoundError:
		            return
		        time.sleep(0.02)
		    raise Mismatch('%s is still there' % name)
		def written(name):
		    deadline = time.monotonic() + WAIT_S
		    while not (os.path.exists(name) and open(name).read().endswith('\n')):
		        assert time.monotonic() < deadline
		        time.sleep(0.02)
		for i, script in enumerate(("sleep 100 & echo $! >child%d; trap '' TERM; wait",
		                            "sleep 100 & echo $! >child%d; exit 0", "sleep 100 & echo $! >child%d; exit 1")):
		    with Manage('--per-request', '--timeout', '1', handler=('sh', '-c', script % i)) as p:
		        p.send(envelope(ask('1')))
		        written('child%d' % i)
		        stanza = p.next()
		        assert inner_of(stanza).error in ('wait/remote-server-timeout', 'cancel/internal-server-error'), stanza
		        gone('child%d' % i)
		        p.nothing()
	END
}

@test "--per-request: too much output is killed" {
	delegation <<-'END'
		with Manage('--per-request', '--max-stanza-bytes', '10000', handler=('yes',)) as p:
		    p.send(envelope(ask('1')))
		    p.failed('o1', 'cancel/internal-server-error')
		    p.wait_stderr('wrote too much')
	END
}

@test "--jobs: at most so many at once, a slow one does not block the others, the rest wait their turn" {
	delegation <<-'END'
		script = "mkdir -p running; : >running/$$; ls running | wc -l >>most; test $XMPP_ID = slow && read -r go <>go; rm running/$$; echo \"<iq type='result'/>\""
		os.mkfifo('go')
		with Manage('--per-request', '--jobs', '3', handler=('sh', '-c', script)) as p:
		    p.send(envelope(ask('slow'), id='slow'))
		    for i in range(30):
		        p.send(envelope(ask(str(i)), id='o%d' % i))
		    got = {p.next()['id'] for i in range(30)}
		    assert got == {'o%d' % i for i in range(30)}, got
		    with open('go', 'w') as f:
		        f.write('\n')
		    p.answered('slow', "<iq type='result' id='slow' to='%s' from='vhost.test'/>" % ALICE)
		    most = max(int(n) for n in open('most').read().split())
		    assert 2 <= most <= 3, most
	END
}

@test "--per-request: what waits for its turn too long is answered, never run" {
	delegation <<-'END'
		with Manage('--per-request', '--jobs', '1', '--timeout', '1.5', handler=('sh', '-c', 'echo $XMPP_ID >>ran; sleep 100')) as p:
		    p.send(envelope(ask('1'), id='o1'), envelope(ask('2'), id='o2'))
		    assert {p.next()['id'], p.next()['id']} == {'o1', 'o2'}
		    assert all(inner_of(s).error == 'wait/remote-server-timeout' for s in p.seen[-2:])
		    p.nothing()
		    assert open('ran').read() == '1\n', open('ran').read()
	END
}

@test "--per-request: end of input waits for the jobs; SIGTERM twice does not" {
	delegation <<-'END'
		with Manage('--per-request', handler=('sh', '-c', "cat >/dev/null; echo \"<iq type='result'/>\"")) as p:
		    p.send(*(envelope(ask(str(i)), id='o%d' % i) for i in range(20)))
		    rest = p.end(0)
		    assert len(rest) == 20 and all(inner_of(s)['type'] == 'result' for s in rest), rest
		with Manage('--per-request', handler=('sleep', '100')) as p:
		    p.send(envelope(ask()))
		    p.nothing()
		    p.signal(signal.SIGTERM)
		    p.counters()        # prints counters once the first SIGTERM has been seen, so that the second is another one
		    p.signal(signal.SIGTERM)
		    rest = p.ended(0)
		    assert len(rest) == 1 and inner_of(rest[0]).error == 'wait/recipient-unavailable', rest
	END
}

@test "--per-request: what waits for its turn is answered when the program ends, not run" {
	delegation <<-'END'
		with Manage('--per-request', '--jobs', '1', handler=('sh', '-c', 'echo $XMPP_ID >>ran; echo runs >&2; exec sleep 100')) as p:
		    p.send(*(envelope(ask(str(i)), id='o%d' % i) for i in range(100)))
		    p.wait_stderr('runs')
		    p.nothing()
		    p.signal(signal.SIGTERM)
		    p.counters()
		    p.signal(signal.SIGTERM)
		    rest = p.ended(0)
		    assert len(rest) == 100 and all(inner_of(s).error == 'wait/recipient-unavailable' for s in rest), rest
		    assert open('ran').read() == '0\n', open('ran').read()
	END
}

# --- --json: the handler's pipe speaks it, standard input and output do not

@test "--json: requests are objects, and so are the answers: both types, absent and right addresses" {
	delegation <<-'END'
		h = JsonHandler()
		with Manage('--json', handler=h) as p:
		    for kind in ('get', 'set'):
		        p.send(envelope(ask("i'd<1>", kind)))
		        asked = h.next()
		        assert asked['id'] != "i'd<1>"
		        assert asked == {'v': 1, 'kind': 'iq', 'type': kind, 'id': asked['id'], 'from': ALICE, 'to': HOST, 'attrs': {},
		                         'ns': NS, 'name': 'query', 'payload': [{'name': 'query', 'ns': NS, 'attrs': {}, 'children': []}]}, asked
		        h.answer(asked)
		        p.result('o1', 'i&apos;d&lt;1&gt;')
		    p.send(envelope(ask(to=None)))
		    asked = h.next()
		    assert 'to' not in asked, asked
		    h.answer(asked, to=ALICE, **{'from': 'alice@vhost.test'})
		    p.result('o1', from_='alice@vhost.test')
		    # the shortest form: no kind, no v, an empty element
		    for short, content in (({'ns': 'urn:x', 'name': 'a'}, "<a xmlns='urn:x'/>"), ({}, ""), ({'payload': []}, ""), ({'kind': None, 'to': None}, "")):
		        p.send(envelope(ask()))
		        h.send({'id': h.next()['id'], 'type': 'result', **short})
		        p.result('o1', content=content)
	END
}

@test "--json: errors, in short and as payload, with their text and what else is in them" {
	delegation <<-'END'
		h = JsonHandler()
		with Manage('--json', handler=h) as p:
		    for said, condition in (({'condition': 'forbidden'}, 'cancel/forbidden'),
		                            ({'type': 'modify', 'condition': 'not-acceptable', 'text': "l'<&>"}, 'modify/not-acceptable')):
		        p.send(envelope(ask()))
		        h.send({'id': h.next()['id'], 'type': 'error', 'error': said})
		        p.failed('o1', condition)
		    assert "l'&lt;&amp;&gt;</text>" in p.seen[-1].raw, p.seen[-1]
		    payload = [*OK_OBJECT, {'name': 'error', 'attrs': {'type': 'auth'}, 'children': [
		        {'name': 'conflict', 'ns': STANZAS}, {'name': 'too-bad', 'ns': 'urn:x'}]}]
		    p.send(envelope(ask()))
		    h.answer(h.next(), payload, 'error', error={'type': 'auth', 'condition': 'conflict', 'app': 'too-bad'})
		    p.failed('o1', 'auth/conflict')
		    assert "<too-bad xmlns='urn:x'/>" in p.seen[-1].raw, p.seen[-1]
	END
}

@test "--json: namespaces, foreign attributes, xml:lang and xmlns='' survive, both ways" {
	delegation <<-'END'
		import xml.etree.ElementTree as ET
		h = JsonHandler()
		with Manage('--json', '--max-depth', '400', handler=h) as p:
		    p.send("<iq xmlns:p='urn:test:one' type='set' id='o1' from='vhost.test' to='deleg.test'><delegation xmlns='urn:xmpp:delegation:2'>"
		           "<forwarded xmlns='urn:xmpp:forward:0'><c:iq xmlns:c='jabber:client' xml:lang='de' c:d='e' type='get' id='1' from='%s' to='vhost.test'>"
		           "<p:query p:a='1' a='2' xml:lang='en'><x xmlns=''><y/></x>t&#13;<c:z/><![CDATA[<&>]]> &#10;%s</p:query></c:iq></forwarded></delegation></iq>"
		           % (ALICE, "<deep>" * 300 + "</deep>" * 300))
		    asked = h.next()
		    query, = asked['payload']
		    assert asked['lang'] == 'de' and asked['attrs'] == {'{jabber:client}d': 'e'}, asked
		    assert (query['ns'], query['attrs']) == (NS, {'{urn:test:one}a': '1', 'a': '2', '{http://www.w3.org/XML/1998/namespace}lang': 'en'}), query
		    x, t, z, rest, deep = query['children']
		    assert (x['ns'], x['children'][0]['name'], 'ns' in x['children'][0]) == ('', 'y', False), x
		    assert (t, z['ns'], rest) == ('t\r', 'jabber:client', '<&> \n'), query
		    h.answer(asked, asked['payload'], lang='fr', attrs=asked['attrs'])
		    inner = inner_of(p.next())
		    wanted = ET.fromstring("<p:query xmlns:p='urn:test:one' p:a='1' a='2' xml:lang='en'><x xmlns=''><y/></x>t&#13;<c:z xmlns:c='jabber:client'/>&lt;&amp;> &#10;%s</p:query>"
		                           % ("<deep xmlns='urn:xmpp:forward:0'>" + "<deep>" * 299 + "</deep>" * 300))
		    assert ET.canonicalize(ET.tostring(inner.element[0]), rewrite_prefixes=True) == ET.canonicalize(ET.tostring(wanted), rewrite_prefixes=True), p.seen[-1]
		    assert inner['{http://www.w3.org/XML/1998/namespace}lang'] == 'fr' and inner['{jabber:client}d'] == 'e', p.seen[-1]
		    # an element in no namespace at all, and one in the stanza's own
		    for ns, tag in (({'ns': ''}, 'a'), ({}, '{jabber:client}a')):
		        p.send(envelope(ask()))
		        h.answer(h.next(), [{'name': 'a', **ns}])
		        assert inner_of(p.next()).element[0].tag == tag, p.seen[-1]
	END
}

@test "--json: a wrong object is one inner error at once to who it names, and the reason is logged" {
	delegation <<-'END'
		h = JsonHandler()
		with Manage('--json', '--max-stanza-bytes', '20000', handler=h) as p:
		    for n, (members, logged) in enumerate(BAD_OBJECTS):
		        p.send(envelope(ask('q%d' % n), id='o%d' % n))
		        asked = h.next()
		        before = p.stderr.count(logged)
		        h.send({'id': asked['id'], **members})
		        p.failed('o%d' % n, 'cancel/internal-server-error', 'q%d' % n)
		        assert p.stderr.count(logged) == before + 1, (logged, p.stderr)
		        h.answer(asked)     # too late
		    assert p.counters()['errors{reason="bad-reply"}'] == len(BAD_OBJECTS)
		    p.send(envelope(ask('good')))
		    h.answer(h.next())
		    p.result('o1', 'good')
		    p.nothing()
	END
}

@test "--json: what names no open request is logged and dropped; then the timeout answers" {
	delegation <<-'END'
		h = JsonHandler()
		with Manage('--json', '--max-stanza-bytes', '20000', handler=h) as p:
		    p.send(envelope(ask('q')))
		    asked = h.next()
		    for line, logged in STRAY_LINES:
		        before = p.stderr.count(logged)
		        h.send(line.replace('%s', asked['id']))
		        p.wait_stderr(logged, before + 1)
		    h.connection.sendall(b'{"id":"' + asked['id'].encode() + b'","type":"result","name":"\xff"}\n')
		    p.wait_stderr('not JSON', sum(logged == 'not JSON' for _, logged in STRAY_LINES) + 1)
		    p.nothing()
		    h.answer(asked)
		    p.result('o1', 'q')
		with Manage('--json', '--timeout', '0.3', handler=('sh', '-c', 'while read -r line; do echo garbage; done')) as p:
		    p.send(envelope(ask()))
		    p.failed('o1', 'wait/remote-server-timeout')
		    assert 'not JSON' in p.stderr
	END
}

@test "--json: a handler that dies in the middle of an object; its last whole ones count" {
	delegation <<-'END'
		h = JsonHandler()
		with Manage('--json', handler=h) as p:
		    p.send(envelope(ask('a'), id='oa'), envelope(ask('b'), id='ob'), envelope(ask('c'), id='oc'))
		    a, b, c = h.next(), h.next(), h.next()
		    h.answer(a)
		    h.connection.sendall(json.dumps({'id': b['id'], 'type': 'result'}).encode()[:-1])
		    h.die()
		    p.result('oa', 'a')
		    assert {p.next()['id'], p.next()['id']} == {'ob', 'oc'}
		    assert all(inner_of(s).error == 'cancel/internal-server-error' for s in p.seen[-2:]), p.seen
		    h.started()
		    p.send(envelope(ask('d')))
		    h.answer(h.next())
		    p.result('o1', 'd')
		    # without a newline at its very end
		    p.send(envelope(ask('e')))
		    h.connection.sendall(json.dumps({'id': h.next()['id'], 'type': 'result', 'payload': OK_OBJECT}).encode())
		    h.die()
		    p.result('o1', 'e')
	END
}

@test "--json: what is too large as an object, or not read, is answered; memory is bounded" {
	delegation <<-'END'
		h = JsonHandler()
		with Manage('--json', '--max-stanza-bytes', '20000', handler=h) as p:
		    # 17 KB of markup would become 8 MB: each namespace is declared again
		    many = "<query xmlns='urn:test:one' xmlns:p='urn:%s'>%s</query>" % ('x' * 14000, '<p:a/>' * 500)
		    p.send(envelope(ask(content=many)))
		    p.failed('o1', 'cancel/service-unavailable')
		    assert "too large as JSON" in p.stderr
		    p.send(envelope(ask()))
		    h.answer(h.next())
		    p.result('o1')
		with Manage('--json', '--per-request', '--max-stanza-bytes', '20000', handler=('touch', 'ran')) as p:
		    p.send(envelope(ask(content=many)))
		    p.failed('o1', 'cancel/service-unavailable')
		    assert not os.path.exists('ran')
		with Manage('--json', '--timeout', '0.5', '--max-queue-bytes', '65536', handler=('sleep', '100')) as p:
		    for i in range(40):
		        p.send(envelope(ask('q', content="<query xmlns='urn:test:one'>%s</query>" % ('x' * 9000)), id='o%d' % i))
		    left = {'o%d' % i for i in range(40)}
		    while left:
		        stanza = p.next()
		        assert inner_of(stanza).error in ('wait/remote-server-timeout', 'cancel/service-unavailable', 'cancel/internal-server-error'), stanza
		        left.remove(stanza['id'])
		    p.nothing()
	END
}

@test "--json --per-request: one object in, one object out, on as many lines as it likes" {
	delegation <<-'END'
		with Manage('--json', '--per-request', handler=('sh', '-c', 'cat >seen; cat say')) as p:
		    for say in ('{"type":"result","ns":"urn:x","name":"a"}', '{"type":"result","ns":"urn:x","name":"a"}\n',
		                '\n{\n  "type": "result",\n  "payload": [\n    {"name": "a", "ns": "urn:x"}\n  ]\n}\n\n',
		                json.dumps({'v': 1, 'kind': 'iq', 'id': "i'd", 'to': ALICE, 'from': HOST, 'type': 'result', 'ns': 'urn:x', 'name': 'a'})):
		        with open('say', 'w') as f:
		            f.write(say)
		        p.send(envelope(ask("i'd")))
		        p.result('o1', 'i&apos;d', content="<a xmlns='urn:x'/>")
		    seen = open('seen').read()
		    assert seen.count('\n') == 1 and seen.endswith('\n'), seen
		    assert json.loads(seen) == {'v': 1, 'kind': 'iq', 'type': 'get', 'id': "i'd", 'from': ALICE, 'to': HOST, 'attrs': {}, 'ns': NS, 'name': 'query',
		                                'payload': [{'name': 'query', 'ns': NS, 'attrs': {}, 'children': []}]}, seen
		    with open('say', 'w') as f:
		        f.write('{"type":"error","error":{"type":"wait","condition":"resource-constraint"}}')
		    p.send(envelope(ask()))
		    p.failed('o1', 'wait/resource-constraint')
	END
}

@test "--json --per-request: exit status, garbage, two objects, wrong ids and addresses: internal-server-error" {
	delegation <<-'END'
		good = '{"type":"result"}'
		with Manage('--json', '--per-request', '--max-stanza-bytes', '20000', handler=('sh', '-c', '. ./say')) as p:
		    def bad(script, logged):
		        with open('say', 'w') as f:
		            f.write(script)
		        before = p.stderr.count(logged)
		        p.send(envelope(ask('1')))
		        p.failed('o1', 'cancel/internal-server-error')
		        assert p.stderr.count(logged) == before + 1, (script[:200], logged, p.stderr)
		    for script, logged in (("echo '%s'; exit 3" % good, 'status 3'), ('kill -9 $$', 'status 137'), (':', 'not JSON'),
		                           ("echo '%s%s'" % (good, good), 'not JSON'), ("echo '%s'; echo '%s'" % (good, good), 'not JSON'),
		                           ("echo \"<iq type='result'/>\"", 'not JSON'), ("echo '[%s]'" % good, 'not an object'),
		                           ("echo '%s'" % good[:-1], 'not JSON'), ("echo '%s' garbage" % good, 'not JSON'),
		                           ("echo '%s'" % json.dumps({'type': 'result', 'id': 'other'}), 'another id'),
		                           ("echo '%s'" % json.dumps({'type': 'get', 'ns': 'urn:x', 'name': 'a'}), 'neither a result nor an error'),
		                           ('yes', 'wrote too much')):
		        bad(script, logged)
		    for members, logged in BAD_OBJECTS[::4]:
		        bad("cat <<'END'\n%s\nEND\n" % json.dumps(members), logged)
		    p.nothing()
	END
}

@test "--json --handler-requests: the handler's own id comes back with the answer" {
	delegation <<-'END'
		h = JsonHandler()
		with Manage('--json', '--handler-requests', handler=h) as p:
		    for to in (HOST, 'alice@vhost.test'):
		        h.send({'kind': 'iq', 'type': 'get', 'id': 'mine', 'to': to, 'ns': 'jabber:iq:roster', 'name': 'query'})
		        sent = p.next()
		        check(sent, "<iq type='get' id='{id}' from='deleg.test' to='%s'><query xmlns='jabber:iq:roster'/></iq>" % to)
		        assert sent['id'] != 'mine'
		        h.send({'id': sent['id'], 'type': 'bad'})       # the handler cannot answer this
		        p.wait_stderr('answers no open request')
		        answer = "<iq type='result' id='%s' from='%s' to='deleg.test'><query xmlns='jabber:iq:roster'><item jid='a@b'><group>G</group></item></query></iq>"
		        p.send(answer % (sent['id'], 'mallory@vhost.test'))
		        p.send(answer % (sent['id'], to))
		        p.send(answer % (sent['id'], to))               # once
		        assert h.next() == {'v': 1, 'kind': 'iq', 'type': 'result', 'id': 'mine', 'from': to, 'to': D, 'attrs': {}, 'ns': 'jabber:iq:roster', 'name': 'query',
		            'payload': [{'name': 'query', 'ns': 'jabber:iq:roster', 'attrs': {}, 'children': [
		                {'name': 'item', 'attrs': {'jid': 'a@b'}, 'children': [{'name': 'group', 'attrs': {}, 'children': ['G']}]}]}]}
		    # with the id of a delegated request that is open
		    p.send(envelope(ask('q')))
		    asked = h.next()
		    h.send({'type': 'set', 'id': asked['id'], 'to': HOST, 'ns': 'urn:x', 'name': 'x'})
		    sent = p.next()
		    p.send("<iq type='error' id='%s' from='vhost.test' to='deleg.test'>%s</iq>" % (sent['id'], error('cancel/conflict')))
		    back = h.next()
		    assert (back['id'], back['error']) == (asked['id'], {'type': 'cancel', 'condition': 'conflict'}), back
		    h.answer(asked)
		    p.result('o1', 'q')
		    # requests of the handler that are not sent
		    for members in ({'to': 'evil.test'}, {'to': 'alice@vhost.test/a1'}, {}, {'to': HOST, 'payload': []}):
		        h.send({'type': 'get', 'id': 'm', 'ns': 'urn:x', 'name': 'x', **members} if 'payload' not in members else {'type': 'get', 'id': 'm', **members})
		        back = h.next()
		        assert (back['id'], back['type'], back['error']['condition']) == ('m', 'error', 'not-allowed'), back
		    h.send({'type': 'get', 'id': 'm', 'to': HOST, 'payload': 1})
		    p.wait_stderr("'payload' is no list")
		    p.nothing()
		h = JsonHandler('silence')
		with Manage('--json', '--handler-requests', '--timeout', '0.3', handler=h) as p:
		    h.send({'type': 'get', 'id': 'm', 'to': HOST, 'ns': 'urn:x', 'name': 'x'})
		    p.next()
		    back = h.next()
		    assert (back['id'], back['error']['condition']) == ('m', 'remote-server-timeout'), back
		h = JsonHandler('large')
		with Manage('--json', '--handler-requests', '--max-stanza-bytes', '20000', handler=h) as p:
		    h.send({'type': 'get', 'id': 'm', 'to': HOST, 'ns': 'urn:x', 'name': 'x'})
		    p.send("<iq type='result' id='%s' from='vhost.test' to='deleg.test'><x xmlns='urn:x' xmlns:p='urn:%s'>%s</x></iq>" % (p.next()['id'], 'x' * 14000, '<p:a/>' * 500))
		    back = h.next()
		    assert (back['id'], back['from'], back['error']['condition']) == ('m', HOST, 'policy-violation'), back
		h = JsonHandler('two')
		with Manage('--json', handler=h) as p:
		    h.send({'type': 'get', 'id': 'm', 'to': HOST, 'ns': 'urn:x', 'name': 'x'})
		    assert h.next()['error']['condition'] == 'not-allowed'
		    p.nothing()
	END
}

# --- usage

@test "usage errors: 64, two lines that say what" {
	wrong() {
		local what=$1
		shift
		run -64 xmpp-manage "$@" </dev/null
		assert_line --index 0 --partial "$what"
		assert_equal "${#lines[@]}" 2
	}
	ok=(--domain deleg.test --host vhost.test --namespace urn:x)
	wrong --domain --host vhost.test --namespace urn:x -- cat
	wrong --host --domain deleg.test --namespace urn:x -- cat
	wrong --namespace --domain deleg.test --host vhost.test -- cat
	wrong HANDLER "${ok[@]}"
	wrong HANDLER "${ok[@]}" --json
	wrong HANDLER "${ok[@]}" --per-request --connect 127.0.0.1:1 --secret-file s
	wrong --domain --domain a@b "${ok[@]:2}" -- cat
	wrong --host "${ok[@]}" --host a@b -- cat
	wrong --host "${ok[@]}" --host a/b -- cat
	wrong --feature --feature urn:f "${ok[@]}" -- cat
	wrong --bare-feature --bare-feature urn:f "${ok[@]}" -- cat
	wrong --identity --identity a/b "${ok[@]}" -- cat
	wrong --identity "${ok[@]}" --identity pubsub -- cat
	wrong --disco "${ok[@]}" --feature f --disco file -- cat
	wrong --namespace "${ok[@]}" --namespace '' -- cat
	wrong --namespace "${ok[@]}" --namespace $'a\001' -- cat
	wrong --feature "${ok[@]}" --feature $'a\001' -- cat
	wrong --namespace "${ok[@]}" --namespace urn:x -- cat
	wrong --handler-requests "${ok[@]}" --per-request --handler-requests -- cat
	wrong --secret-file "${ok[@]}" --connect 127.0.0.1:1 -- cat
	wrong --jobs "${ok[@]}" --per-request --jobs 0 -- cat
	wrong --timeout "${ok[@]}" --timeout 0 -- cat
}

@test "options of the handler are its own" {
	run --separate-stderr xmpp-manage --domain deleg.test --host vhost.test --namespace urn:test:one \
		--per-request -- sh -c 'printf "%s\n" "$@" >args; echo "<iq type=\"result\"/>"' x --verbose -- y \
		<<<"<iq type='set' id='o' from='vhost.test' to='deleg.test'><delegation xmlns='urn:xmpp:delegation:2'><forwarded xmlns='urn:xmpp:forward:0'><iq xmlns='jabber:client' type='get' id='1' from='a@vhost.test/r' to='vhost.test'><query xmlns='urn:test:one'/></iq></forwarded></delegation></iq>"
	assert_success
	assert_equal "$(cat args)" "--verbose
--
y"
}

@test "counters: what happened, by name" {
	delegation <<-'END'
		h = Handler()
		with Manage(handler=h) as p:
		    p.send(envelope(ask()), envelope(ask(), from_='evil.test'), envelope(ask(ns='urn:other')))
		    p.error('auth/forbidden', 'o1', 'evil.test', D)
		    p.failed('o1', 'cancel/service-unavailable')
		    h.answer(h.next())
		    p.result('o1')
		    c = p.counters()
		    assert c['requests'] == 1 and c['answers'] == 1, c
		    assert c['errors{reason="forbidden"}'] == 1 and c['errors{reason="unlisted"}'] == 1, c
		    assert c['pending_requests'] == 0, c
	END
}

# --- handlers that speak first, and what is said once

@test "--handler-messages: messages from DOMAIN, its accounts and resources; not from others, not without to, no errors" {
	delegation <<-'END'
		h = Handler()
		with Manage('--handler-messages', handler=h) as p:
		    for from_ in (None, D, 'news@' + D, D + '/news'):
		        h.send("<message to='%s' id='m'%s><event xmlns='urn:e'><x xmlns=''/></event></message>" % (ALICE, from_ and " from='%s'" % from_ or ''))
		        p.expect("<message to='%s' id='m' from='%s'><event xmlns='urn:e'><x xmlns=''/></event></message>" % (ALICE, from_ or D))
		    for bad, why in (("<message><a/></message>", 'without a valid to'), ("<message to='%s' type='error'/>" % ALICE, 'of type error'),
		                     ("<message to='%s' from='alice@vhost.test'/>" % ALICE, 'handler-messages=users'),
		                     ("<message to='%s' from='evil.test'/>" % ALICE, 'not ours'), ("<message to='%s' from='x@%s/r'/>" % (ALICE, D), 'not ours')):
		        h.send(bad)
		        p.wait_stderr(why)
		    p.send("<message type='error' from='%s' to='%s'><error type='cancel'><gone xmlns='%s'/></error></message>" % (ALICE, D, STANZAS))
		    p.send(envelope(ask()))
		    h.answer(h.next())
		    p.result('o1')
		h = Handler('none')
		with Manage(handler=h) as p:
		    h.send("<message to='%s'/>" % ALICE, "<message to='%s'/>" % ALICE)
		    p.wait_stderr('--handler-messages is not given')
		    p.nothing()
		    assert p.stderr.count('\n') == 1, p.stderr
		h = JsonHandler('json')
		with Manage('--handler-messages', '--json', handler=h) as p:
		    h.send(json.dumps(dict(kind='message', to=ALICE)))
		    p.expect("<message to='%s' from='%s'/>" % (ALICE, D))
	END
}

@test "--handler-messages=users: wrapped where it is granted; held for the grant, then refused with the lines to add" {
	delegation <<-'END'
		grant = ("<message from='%s' to='%s'><privilege xmlns='urn:xmpp:privilege:%d'><perm access='message' type='outgoing'/></privilege></message>")
		message = "<message to='bob@far.test' from='alice@vhost.test' id='m'><event xmlns='urn:e'/></message>"
		for version in (1, 2):
		    h = Handler('h%d' % version)
		    with Manage('--handler-messages=users', handler=h) as p:
		        h.send(message)
		        p.nothing()
		        p.send(grant % ('evil.test', D, version))
		        p.nothing()
		        p.send(grant % (HOST, D, version))
		        for _ in range(2):
		            p.expect("<message to='%s' from='%s'><privilege xmlns='urn:xmpp:privilege:%d'><forwarded xmlns='urn:xmpp:forward:0'>"
		                     "<message xmlns='jabber:client' to='bob@far.test' from='alice@vhost.test' id='m'><event xmlns='urn:e'/></message>"
		                     "</forwarded></privilege></message>" % (HOST, D, version))
		            h.send(message)
		        p.next()
		        h.send(message.replace('vhost.test', 'vhost.test/r'), message.replace('vhost.test', 'other.test'))
		        p.wait_stderr('neither ours nor a bare JID')
		        p.nothing()
		h = Handler('never')
		with Manage('--handler-messages=users', handler=h) as p:
		    h.send(message)
		    p.wait_stderr('Prosody, Component')
		    for line in ('has not granted', 'privileged_entities = { ["%s"] = { message = "outgoing" } }' % D, 'mod_privilege: message: outgoing'):
		        assert line in p.stderr, p.stderr
		    p.nothing()
	END
}

@test "a host that is no --host, in an envelope or an announcement, is named with the option to add" {
	delegation <<-'END'
		for stanza in (envelope(ask(to='new.test', from_='u@new.test/r'), from_='new.test'),
		               "<message from='new.test' to='%s'><delegation xmlns='urn:xmpp:delegation:2'><delegated namespace='%s'/></delegation></message>" % (D, NS),
		               "<iq type='get' id='n' from='new.test' to='%s'><query xmlns='%s' node='urn:xmpp:delegation:1::%s'/></iq>" % (D, DISCO, NS)):
		    with Manage(handler=('cat',)) as p:
		        p.send(stanza, stanza, stanza)
		        p.wait_stderr('add --host new.test')
		        p.drain()
		        assert p.stderr.count('--host new.test') == 1, p.stderr
	END
}

@test "nobody announces anything: the lines of both servers; a --namespace that is not announced: its name" {
	secret_file
	fake "up
		wait-for told
		end"
	start manage manage --host other.test -- cat
	wait_for grep -q 'ejabberd: mod_delegation' manage.err
	: >told
	grep -q 'no host has told that it delegates anything' manage.err
	grep -qF 'Prosody, VirtualHost "vhost.test": modules_enabled = { "delegation" }; delegations = { ["urn:test:one"] = { jid = "deleg.test" } }' manage.err
	grep -qF 'Prosody, VirtualHost "other.test"' manage.err
	grep -qF 'Prosody, Component "deleg.test": modules_enabled = { "delegation" }' manage.err
	grep -q 'mod_privilege' manage.err
	await fake
	end manage
	rm -f told
	fake "up
		send <message from='vhost.test' to='deleg.test'><delegation xmlns='urn:xmpp:delegation:2'><delegated namespace='urn:test:one'/></delegation></message>
		wait-for told
		end"
	start manage manage --namespace urn:test:two -- cat
	wait_for grep -q "delegates 'urn:test:two'" manage.err
	: >told
	refute grep -q "no host has told that it delegates 'urn:test:one'" manage.err
	await fake
	end manage
}
