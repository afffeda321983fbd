#!/usr/bin/env bats
# xmpp-jat-proxy as a filter: sessions that live, hang, die or come back, and what is logged about them.
# installcheck

load lib
load tools/scenario

teardown() { stop_all; }

# --- health

@test "two sessions, one dead: 200 gets of ten users get 200 results, none needs a third try" {
	scenario <<-'END'
		for policy in 'random', 'round-robin', 'least-pending', 'sticky':
		    with Proxy('--timeout', '30', '--try-timeout', '1', '--policy', policy) as p:
		        p.online('dead', 'well')
		        for n in range(200):
		            p.send_request(str(n), user='user%d@vhost.test/r' % (n % 10))
		        results, dead = {}, 0
		        while len(results) < 200:
		            stanza = p.next()
		            if stanza['to'] == IMPL + '/dead':
		                dead += 'urn:x' in stanza.raw
		            elif stanza['to'] == IMPL + '/well':
		                p.answer(stanza)
		            else:
		                assert stanza['type'] == 'result', stanza
		                assert stanza['id'] not in results, stanza
		                results[stanza['id']] = stanza['to']
		        assert all(results[str(n)] == 'user%d@vhost.test/r' % (n % 10) for n in range(200))
		        assert 0 < dead < 200 or policy == 'sticky', dead
		        assert p.counters().get('retries', 0) == dead, (p.counters(), dead)
		        # a suspect session gets no new requests
		        for n in range(40):
		            p.served('new%d' % n, user='user%d@vhost.test/r' % (n % 10), session=IMPL + '/well')
		        # and it gets work again once it shows life
		        p.send("<message from='%s/dead' to='x@proxy.test'/>" % IMPL)
		        p.expect("<message type='error' to='%s/dead' from='x@proxy.test'>...</message>" % IMPL)
		        if policy == 'round-robin':
		            assert {p.served('back%d' % n)['to'] for n in range(4)} == {IMPL + '/dead', IMPL + '/well'}
	END
}

@test "a set in the hands of a suspect waits for the timeout; a get goes to one other, the first result wins" {
	scenario <<-'END'
		with Proxy('--timeout', '3', '--try-timeout', '0.5', '--policy', 'least-pending') as p:
		    p.online('a')
		    a = p.ask('get', session=IMPL + '/a')
		    b = p.ask('set', user=BOB, kind='set', session=IMPL + '/a')
		    p.online('b')
		    again = p.got_request('get', IMPL + '/b')
		    p.answer(a)
		    p.answered('get')
		    p.answer(again)                        # late, counted
		    p.error('wait/remote-server-timeout', 'set', BOB, 'proxy.test')
		    assert p.counters()['dropped{reason="late"}'] == 1, p.counters()
	END
}

@test "an error of one try does not end the request while another try is open" {
	scenario <<-'END'
		with Proxy('--timeout', '5', '--try-timeout', '0.5', '--policy', 'least-pending') as p:
		    p.online('a')
		    one, two = p.ask('1'), p.ask('2')
		    p.online('b')
		    again = {s['id']: s for s in (p.next(), p.next())}
		    assert set(again) == {'1', '2'} and {s['to'] for s in again.values()} == {IMPL + '/b'}
		    p.bounce(again['1'], 'not-acceptable', 'modify')
		    p.bounce(again['2'], 'not-acceptable', 'modify')
		    p.nothing()
		    p.answer(one)
		    p.answered('1')
		    p.bounce(two, 'forbidden', 'auth')     # nothing else is open: an error is the answer
		    p.error('auth/forbidden', '2', ALICE, 'proxy.test')
	END
}

@test "a session that answers slowly but steadily gets no second tries, and is not suspect" {
	scenario <<-'END'
		with Proxy('--timeout', '10', '--try-timeout', '1', '--policy', 'round-robin') as p:
		    p.online('a', 'b')
		    asked = [p.ask(str(n)) for n in range(12)]
		    for n, request in enumerate(asked):
		        time.sleep(0.25)                   # each takes its time, twelve together 3 s
		        p.answer(request)
		        p.answered(str(n))
		    assert p.counters().get('retries', 0) == 0, p.counters()
	END
}

@test "the last usable session is never put aside; --try-timeout 0 suspects nobody" {
	scenario <<-'END'
		with Proxy('--timeout', '2', '--try-timeout', '0.3') as p:
		    p.online('a')
		    p.ask('1', session=IMPL + '/a')
		    p.wait_stderr("session '%s/a' lets a request time out" % IMPL)
		    p.served('2', session=IMPL + '/a')
		    p.wait_stderr("session '%s/a' answers again" % IMPL)
		    p.error('wait/remote-server-timeout', '1', ALICE, 'proxy.test')
		with Proxy('--timeout', '1', '--try-timeout', '0', '--policy', 'round-robin') as p:
		    p.online('a', 'b')
		    p.ask('1')
		    p.error('wait/remote-server-timeout', '1', ALICE, 'proxy.test')
		    p.wait_stderr("has let a request time out")
		    assert {p.served(str(n))['to'] for n in range(4)} == {IMPL + '/a', IMPL + '/b'}
	END
}

@test "a suspect is pinged after 5 s; its answer, an error too, shows life" {
	scenario <<-'END'
		for answer in "<iq type='result' id='%s' from='%s/a' to='proxy.test'/>", \
		        "<iq type='error' id='%s' from='%s/a' to='proxy.test'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>":
		    with Proxy('--timeout', '60', '--try-timeout', '0.2') as p:
		        p.online('a', 'b')
		        p.send(*("<iq type='set' id='%d' from='%s' to='proxy.test'><query xmlns='urn:x'/></iq>" % (n, ALICE) for n in range(8)))
		        asked = [p.next() for n in range(8)]
		        for stanza in asked:
		            if stanza['to'] == IMPL + '/b':
		                p.answer(stanza)
		        p.drain()
		        held = [s for s in asked if s['to'] == IMPL + '/a']
		        if not held:
		            continue
		        ping = p.next(10)
		        check(ping, "<iq type='get' id='{}' to='%s/a' from='proxy.test'><ping xmlns='urn:xmpp:ping'/></iq>" % IMPL)
		        p.served('while', session=IMPL + '/b')
		        p.send(answer % (ping['id'], IMPL))
		        p.wait_stderr("session '%s/a' answers again" % IMPL)
		        for stanza in held:
		            p.answer(stanza)
		        p.drain()
	END
}

@test "sticky: users of a suspect move to the next in their order and stay there" {
	scenario <<-'END'
		with Proxy('--timeout', '30', '--try-timeout', '0.5', '--policy', 'sticky') as p:
		    p.online('a', 'b', 'c')
		    users = ['user%d@vhost.test/r' % n for n in range(12)]
		    home = {u: p.served('1', user=u)['to'] for u in users}
		    dead = home[users[0]]
		    p.send_request('held', user=users[0])
		    held = p.got_request('held', dead)
		    again = p.next(5)                      # a get goes to another, which is well
		    p.answer(again)
		    p.answered('held', user=users[0])
		    moved = {u: p.served('2', user=u)['to'] for u in users}
		    assert dead not in moved.values()
		    assert all(moved[u] == home[u] for u in users if home[u] != dead)
		    p.answer(held)                         # life
		    p.wait_stderr('answers again')
		    assert {u: p.served('3', user=u)['to'] for u in users} == moved
		    p.leave(moved[users[0]])
		    assert p.served('4', user=users[0])['to'] == dead
	END
}

# --- bounces

@test "bounces before unavailable: never delivered goes on, the rest only for a get" {
	scenario <<-'END'
		def text(words):
		    return words and "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>%s</text>" % words
		def returned(request, condition, words=''):
		    p.send("<iq type='error' id='%s' from='%s' to='%s'><error type='cancel'><%s xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>%s</error></iq>"
		           % (request['id'], request['to'], request['from'], condition, text(words)))
		for condition, words, done in [('recipient-unavailable', '', True),
		                               ('service-unavailable', 'User session terminated', True),
		                               ('item-not-found', 'User session terminated', True),
		                               ('service-unavailable', 'User session not found', False),
		                               ('item-not-found', 'User session not found', False)]:
		    for kind in 'get', 'set':
		        for leaves in False, True:
		            with Proxy('--bounce-wait', '0.5', '--timeout', '20', '--policy', 'least-pending') as p:
		                p.online('a')
		                asked = p.ask('1', kind=kind, session=IMPL + '/a')
		                p.online('b')
		                returned(asked, condition, words)
		                p.nothing()                # held
		                if leaves:
		                    p.leave(IMPL + '/a')
		                else:
		                    p.expect("<presence type='probe' to='impl@vhost.test' from='proxy.test'/>")
		                if kind == 'set' and done:
		                    p.error('wait/recipient-unavailable', '1', ALICE, 'proxy.test')
		                else:
		                    p.answer(p.got_request('1', IMPL + '/b', kind))
		                    p.answered('1')
		                # it is gone, or suspect
		                assert {p.served(str(n))['to'] for n in range(5)} == {IMPL + '/b'}
	END
}

@test "what the probe after a bounce does not bring again has left" {
	scenario <<-'END'
		bounce = ("<iq type='error' id='%s' from='%s' to='%s'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
		          "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>User session not found</text></error></iq>")
		with Proxy('--bounce-wait', '0.1', '--timeout', '1', '-v') as p:
		    p.online('a', 'b')
		    asked = p.ask('1')
		    p.send(bounce % ('1', asked['to'], asked['from']))
		    p.expect("<presence type='probe' to='impl@vhost.test' from='proxy.test'/>")
		    p.answer(p.got_request('1'))
		    p.answered('1')
		    other = IMPL + ('/b' if asked['to'].endswith('a') else '/a')
		    p.send("<presence from='%s' to='proxy.test'/>" % other)
		    p.wait_stderr("session '%s' has left" % asked['to'])
		    assert p.counters()['sessions'] == 1
	END
}

@test "all other errors of a session are the client's own and go to the user at once" {
	scenario <<-'END'
		with Proxy('--bounce-wait', '60') as p:
		    p.online('a')
		    for n, (condition, type) in enumerate([('service-unavailable', 'cancel'), ('item-not-found', 'cancel'),
		                                           ('remote-server-not-found', 'cancel'), ('gone', 'cancel')]):
		        p.bounce(p.ask(str(n)), condition, type)
		        p.error(type + '/' + condition, str(n), ALICE, 'proxy.test')
	END
}

# --- which sessions

@test "--target with a resource names one client, and no other of the account is known" {
	scenario <<-'END'
		with Proxy(targets=[IMPL + '/focus'], subscribe=False) as p:
		    p.expect("<presence type='subscribe' to='%s' from='proxy.test'/>" % IMPL)
		    p.online('other')
		    p.send_request('1')
		    p.error('cancel/service-unavailable', '1', ALICE, 'proxy.test')
		    p.online('focus')
		    for n in range(5):
		        p.served(str(n), session=IMPL + '/focus')
		    asked = p.ask('x')
		    p.answer(asked, from_=IMPL + '/other')  # was not asked
		    p.nothing()
		    p.answer(asked)
		    p.answered('x')
		with Proxy('--messages', targets=[IMPL + '/focus'], subscribe=False) as p:
		    p.next()
		    p.send("<message id='1' from='%s' to='proxy.test'/>" % ALICE)
		    assert p.next()['to'] == IMPL + '/focus'
	END
}

@test "--target: an account with and without resource is wrong usage" {
	run -64 xmpp-jat-proxy --domain proxy.test --target a@b --target a@b/c </dev/null
	assert_line --index 0 "xmpp-jat-proxy: --target names an account with and without a resource"
	run -64 xmpp-jat-proxy --domain proxy.test --target a@b/c --target A@B </dev/null
	run -0 xmpp-jat-proxy --domain proxy.test --target a@b/c --target a@b/d </dev/null
	assert_line "<presence type='subscribe' to='a@b' from='proxy.test'/>"
	run -64 xmpp-jat-proxy --domain proxy.test --target b/c </dev/null
}

# --- conversations

@test "steps of one conversation stay together under every policy" {
	scenario <<-'END'
		command = "<command xmlns='http://jabber.org/protocol/commands' node='c' sessionid='%s'/>"
		for policy in 'random', 'round-robin', 'least-pending', 'sticky':
		    with Proxy('--policy', policy) as p:
		        p.online('a', 'b', 'c')
		        for n in range(20):
		            p.send("<iq type='set' id='1' from='%s' to='proxy.test'><command xmlns='http://jabber.org/protocol/commands' node='c' action='execute'/></iq>" % ALICE)
		            first = p.next()
		            p.answer(first, content=command % n)   # the session gives the id
		            p.next()
		            for step in '2', '3':
		                p.send("<iq type='set' id='%s' from='%s' to='proxy.test'>%s</iq>" % (step, ALICE, command % n))
		                asked = p.next()
		                assert asked['to'] == first['to'], (policy, n, step)
		                p.answer(asked, content=command % n)
		                p.next()
		        # the user gives it: in-band bytestream, Jingle
		        for ns, name in ('http://jabber.org/protocol/ibb', 'open'), ('urn:xmpp:jingle:1', 'jingle'):
		            got = set()
		            for n in range(10):
		                p.send("<iq type='set' id='%d' from='%s' to='proxy.test'><%s xmlns='%s' sid='s'/></iq>" % (n, ALICE, name, ns))
		                asked = p.next()
		                got.add(asked['to'])
		                p.answer(asked, content='')
		                p.next()
		            assert len(got) == 1, (policy, ns, got)
	END
}

@test "a step goes to its session though that is suspect, and elsewhere once it has left; 16 a user" {
	scenario <<-'END'
		def step(id, sid, kind='set'):
		    p.send("<iq type='%s' id='%s' from='%s' to='proxy.test'><open xmlns='http://jabber.org/protocol/ibb' sid='%s'/></iq>" % (kind, id, ALICE, sid))
		    return p.next()
		with Proxy('--timeout', '60', '--try-timeout', '0.3', '--policy', 'round-robin') as p:
		    p.online('a', 'b')
		    first = step('1', 'one')
		    p.wait_stderr('lets a request time out')
		    assert step('2', 'one')['to'] == first['to']
		    assert step('3', 'one', 'get')['to'] == first['to']
		    p.nothing()
		    p.leave(first['to'])
		    assert step('4', 'one')['to'] != first['to']
		with Proxy('--policy', 'round-robin') as p:
		    p.online('a', 'b')
		    home = {n: step('x%d' % n, str(n))['to'] for n in range(17)}
		    assert all(step('y%d' % n, str(n))['to'] == home[n] for n in range(1, 17))
	END
}

# --- addresses of items

@test "items of disco#items that are the target's own get the address asked; --keep-item-jids" {
	scenario <<-'END'
		ns = "xmlns='http://jabber.org/protocol/disco#items'"
		sent = ("<query %s node='http://jabber.org/protocol/commands'><item jid='impl@vhost.test/a' node='a&amp;b' name='x'/>"
		        "<item node='2' jid='IMPL@vhost.test'></item><item jid=\"impl@vhost&#46;test/other\"/><item jid='alice@vhost.test'/>"
		        "<item jid='impl@vhost.test.example'/><x jid='impl@vhost.test'/></query>" % ns)
		changed = ("<query %s node='http://jabber.org/protocol/commands'><item jid='%%s' node='a&amp;b' name='x'/>"
		           "<item node='2' jid='%%s'/><item jid='%%s'/><item jid='alice@vhost.test'/>"
		           "<item jid='impl@vhost.test.example'/><x jid='impl@vhost.test'/></query>" % ns)
		for to in 'proxy.test', 'x@proxy.test', 'proxy.test/r':
		    with Proxy() as p:
		        p.online('a')
		        p.answer(p.ask('1', to=to), content=sent)
		        p.answered('1', from_=to, content=changed % (to, to, to))
		        # other payloads, and lists of others, are left alone
		        p.answer(p.ask('2', to=to), content="<query xmlns='urn:other'><item jid='impl@vhost.test/a'/></query>")
		        p.answered('2', from_=to, content="<query xmlns='urn:other'><item jid='impl@vhost.test/a'/></query>")
		for options in ['--keep-item-jids'], ['--encoding', 'plain']:
		    with Proxy(*options) as p:
		        p.online('a')
		        p.answer(p.ask('1'), content=sent)
		        got = p.next()
		        assert sent in got.raw, got
	END
}

# --- --show-presence

@test "--show-presence: capabilities and show of the best session; full: status, too" {
	scenario <<-'END'
		caps = "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:%s' ver='v=%s'/>"
		def shown(p, content):
		    p.expect("<presence to='alice@vhost.test' from='proxy.test'>%s</presence>" % content)
		for full in False, True:
		    with Proxy('--show-presence=full' if full else '--show-presence') as p:
		        p.send("<presence type='subscribe' from='alice@vhost.test' to='proxy.test'/>")
		        p.expect("<presence type='subscribed' to='alice@vhost.test' from='proxy.test'/>")
		        status = '<status>busy &amp; so</status>'
		        p.send("<presence from='%s/a' to='proxy.test'><priority>1</priority><show>dnd</show>%s%s</presence>" % (IMPL, status, caps % ('a', 'a')))
		        shown(p, '<show>dnd</show>' + (status if full else '') + caps % ('a', 'a'))
		        p.send("<presence from='%s/b' to='proxy.test'><priority>0</priority>%s</presence>" % (IMPL, caps % ('b', 'b')))
		        p.nothing()
		        # a request for the meaning of the capabilities goes to the session that is shown
		        for n in range(8):
		            p.send("<iq type='get' id='%d' from='%s' to='proxy.test'><query xmlns='http://jabber.org/protocol/disco#info' node='urn:a#v=a'/></iq>" % (n, ALICE))
		            asked = p.next()
		            assert asked['to'] == IMPL + '/a', asked
		        # another one becomes the best, or takes over: no moment offline
		        p.send("<presence from='%s/b' to='proxy.test'><priority>5</priority>%s</presence>" % (IMPL, caps % ('b', 'b')))
		        shown(p, caps % ('b', 'b'))
		        p.send("<presence type='unavailable' from='%s/b' to='proxy.test'/>" % IMPL)
		        shown(p, '<show>dnd</show>' + (status if full else '') + caps % ('a', 'a'))
		        p.send("<presence type='probe' from='alice@vhost.test/a1' to='proxy.test'/>")
		        p.expect("<presence to='alice@vhost.test/a1' from='proxy.test'><show>dnd</show>%s%s</presence>" % (status if full else '', caps % ('a', 'a')))
		        p.send("<presence type='unavailable' from='%s/a' to='proxy.test'/>" % IMPL)
		        p.expect("<presence type='unavailable' to='alice@vhost.test' from='proxy.test'/>")
		        for stanza in p.drain():
		            assert stanza['type'] == 'error', stanza
	END
}

# --- what is wrong is said

@test "a target without a session for 10 s is named, with what to look at" {
	scenario <<-'END'
		with Proxy(targets=['impl@vhost.test', 'other@vhost.test']) as p:
		    p.online('a')
		    deadline = time.monotonic() + 30
		    while 'no session of' not in p.stderr and time.monotonic() < deadline:
		        p._pump(deadline, 0.1)
		    assert p.stderr.count('no session of') == 1, p.stderr
		    assert "no session of 'other@vhost.test' for 10 s: is the account there, is its client logged in, and has it accepted the subscription of 'proxy.test'?" in p.stderr
	END
}

@test "a subscription that is refused within 10 s is not asked for again; no user is named" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a')
		    p.served('1')
		    p.send("<presence type='unsubscribed' from='impl@vhost.test' to='proxy.test'/>")
		    p.wait_stderr("'impl@vhost.test' has refused our subscription: asking again at the next reconnect or SIGHUP")
		    p.send_request('2')
		    p.error('cancel/service-unavailable', '2', ALICE, 'proxy.test')
		    assert 'alice' not in p.stderr
		    p.signal(signal.SIGHUP)
		    p.expect("<presence type='subscribe' to='impl@vhost.test' from='proxy.test'/>")
	END
}

@test "metrics of each session: its target and a number" {
	scenario <<-'END'
		with Proxy(targets=['impl@vhost.test', 'other@vhost.test']) as p:
		    p.online('a', 'b')
		    p.online('c', target='other@vhost.test')
		    asked = [p.ask(str(n)) for n in range(30)]
		    for request in asked[:20]:
		        p.answer(request)
		        p.next()
		    counters = p.counters()
		    labels = ['{target="impl@vhost.test",session="1"}', '{target="impl@vhost.test",session="2"}', '{target="other@vhost.test",session="1"}']
		    def total(name):
		        return sum(counters[name + label] for label in labels)
		    assert total('session_requests') == 30 and total('session_answers') == 20, counters
		    assert total('session_open_requests') == 10 and total('session_suspect') == 0, counters
		    # a number that has become free is used again
		    p.leave(IMPL + '/a')
		    p.online('d')
		    assert 'session_requests{target="impl@vhost.test",session="3"}' not in p.counters()
		    for stanza in p.drain():
		        pass
	END
}
