#!/usr/bin/env bats
# xmpp-jat-proxy as a filter: no answer is lost, and no user can keep the service from the others.
# installcheck

load lib
load tools/scenario

teardown() { stop_all; }

# --- debts: a queue so small that almost nothing fits

@test "all that is owed comes, whatever the queue holds: session leaves, timeouts, end of input" {
	scenario <<-'END'
		N = 3000
		tiny = ['--limit', 'queue-bytes=65536', '--limit', 'user-pending=%d' % N, '--limit', 'domain-pending=100%']
		def fill(p, kind, sessions='a'):
		    p.online(*sessions)
		    asked = {}
		    for n in range(N):
		        id = "%d'%s" % (n, "'" * 100)       # six bytes each in an error
		        p.send_request(id.replace("'", '&apos;'), user='user%d@vhost.test/r' % (n % 50), kind=kind)
		    for n in range(N):
		        stanza = p.next()
		        assert stanza['to'].startswith(IMPL), stanza
		        asked[stanza['id']] = stanza
		    assert len(asked) == N
		    return asked
		def owed(p, condition, n=N):
		    seen = set()
		    while len(seen) < n:
		        stanza = p.next()
		        assert stanza.error == condition and stanza['id'] not in seen, stanza
		        assert stanza['to'] == 'user%d@vhost.test/r' % (int(stanza['id'].split("'")[0]) % 50), stanza
		        seen.add(stanza['id'])
		with Proxy('--bounce-wait', '0.2', *tiny) as p:
		    fill(p, 'set')
		    p.leave(IMPL + '/a')
		    owed(p, 'wait/recipient-unavailable')
		    p.nothing()
		with Proxy('--timeout', '4', '--try-timeout', '0', *tiny) as p:
		    fill(p, 'get')
		    owed(p, 'wait/remote-server-timeout')
		    p.nothing()
		with Proxy(*tiny) as p:
		    asked = fill(p, 'get')
		    rest = p.end()
		    assert {s['id'] for s in rest} == set(asked) and len(rest) == N, len(rest)
		# to another session, none refused for its size
		with Proxy('--bounce-wait', '0.2', '--policy', 'least-pending', *tiny) as p:
		    fill(p, 'get')
		    p.online('b')
		    p.leave(IMPL + '/a')
		    for n in range(N):
		        again = p.next()
		        assert again['to'] == IMPL + '/b', again
		        p.answer(again)
		    answered = set()
		    while len(answered) < N:
		        stanza = p.next()
		        assert stanza['type'] == 'result', stanza
		        answered.add(stanza['id'])
	END
}

@test "each subscriber is told, however small the queue is" {
	scenario <<-'END'
		N = 5000
		with Proxy('--show-presence', '--limit', 'queue-bytes=65536') as p:
		    for n in range(N):
		        p.send("<presence type='subscribe' from='user%d@vhost.test' to='x@proxy.test'/>" % n)
		    for n in range(N):
		        assert p.next()['type'] == 'subscribed'
		    p.send("<presence from='%s/a' to='proxy.test'><show>away</show></presence>" % IMPL)
		    assert {s['to'] for s in (p.next() for n in range(N))} == {'user%d@vhost.test' % n for n in range(N)}
		    p.leave(IMPL + '/a')
		    told = [p.next() for n in range(N)]
		    assert {s['to'] for s in told} == {'user%d@vhost.test' % n for n in range(N)}
		    assert {s['type'] for s in told} == {'unavailable'}
		    p.nothing()
		    p.send("<presence from='%s/a' to='proxy.test'/>" % IMPL)
		    p.drain()
		    assert len([s for s in p.end() if s['type'] == 'unavailable']) == N
	END
}

# --- grace

@test "in the grace an answer to what is open here is taken only from the session that was asked" {
	mkdir state
	jat-encode --create-key --key-file keys
	scenario <<-'END'
		options = ['--key-file', 'keys', '--state-dir', 'state']
		with Proxy(*options) as p:
		    p.online('a')
		    p.ask('before')
		    p.kill()
		with Proxy(*options, '--policy', 'least-pending') as p:
		    p.online('a')
		    asked = p.ask('1', session=IMPL + '/a')
		    p.online('b')
		    p.answer(asked, from_=IMPL + '/b')
		    p.nothing()
		    p.answer(asked)
		    p.answered('1')
		    p.answer(asked)
		    p.answer(asked, from_=IMPL + '/b')
		    p.nothing()
		    assert p.counters()['dropped{reason="late"}'] == 3, p.counters()
	END
}

# --- shares

@test "--limit user-pending: one bare JID, all its resources; others are served" {
	scenario <<-'END'
		with Proxy('--limit', 'user-pending=3') as p:
		    p.online('a')
		    held = [p.ask(str(n), user='alice@vhost.test/r%d' % n) for n in range(3)]
		    p.send_request('over', user='alice@vhost.test/r9')
		    p.error('wait/resource-constraint', 'over', 'alice@vhost.test/r9', 'proxy.test')
		    p.served('bob', user=BOB)
		    p.answer(held[0])
		    p.answered('0', user='alice@vhost.test/r0')
		    p.ask('again', user='alice@vhost.test/r9')
		    for n in range(10):                    # an address without localpart is no user
		        p.ask('c%d' % n, user='vhost.test/r')
		with Proxy() as p:                         # the default
		    p.online('a')
		    for n in range(257):
		        p.send_request(str(n))
		    for n in range(256):
		        assert p.next()['to'] == IMPL + '/a'
		    p.error('wait/resource-constraint', '256', ALICE, 'proxy.test')
	END
}

@test "--limit domain-pending: of one domain that is not our own; trusted lifts both" {
	scenario <<-'END'
		for share in '4', '25%':
		    with Proxy('--limit', 'pending=16', '--limit', 'domain-pending=' + share) as p:
		        p.online('a')
		        for n in range(4):
		            p.ask('e%d' % n, user='u%d@evil.example/r' % n)
		        p.send_request('over', user='u9@evil.example/r')
		        p.error('wait/resource-constraint', 'over', 'u9@evil.example/r', 'proxy.test')
		        p.send_request('gateway', user='evil.example')
		        p.error('wait/resource-constraint', 'gateway', 'evil.example', 'proxy.test')
		        for n in range(6):                 # the target's domain, and ours, have no share
		            p.ask('v%d' % n, user='u%d@vhost.test/r' % n)
		            p.ask('p%d' % n, user='u%d@proxy.test/r' % n)
		        p.send_request('full', user='u7@vhost.test/r')
		        p.error('wait/resource-constraint', 'full', 'u7@vhost.test/r', 'proxy.test')
		with Proxy('--limit', 'domain-pending=2', '--limit', 'user-pending=2', '--limit', 'trusted=a.example', '--limit', 'trusted=B.example') as p:
		    p.online('a')
		    for domain in 'a.example', 'b.example':
		        for n in range(10):
		            p.ask(domain + str(n), user='u@%s/r' % domain)
		    for n in range(2):
		        p.ask(str(n), user='u@c.example/r')
		    p.send_request('over', user='v@c.example/r')
		    p.error('wait/resource-constraint', 'over', 'v@c.example/r', 'proxy.test')
	END
}

@test "the same shares of bytes, counted after escaping; one request alone is never over one" {
	scenario <<-'END'
		with Proxy('--limit', 'pending-bytes=1M', '--limit', 'user-pending=65536') as p:
		    p.online('a')
		    big = "<iq type='get' id='%s' from='%s' to='proxy.test'><q xmlns='urn:x'>" + "x" * 100000 + "</q></iq>"
		    fold = "<iq type='get' id='%s' from='%s' to='proxy.test'><q xmlns='urn:x'><![CDATA[" + "\n" * 10000 + "]]></q></iq>"
		    for template in big, fold:             # 100 KB each, or 10 KB that become 170 KB
		        for user in 'u@a.example/r', 'v@b.example/r':
		            p.send(*(template % (n, user) for n in range(10)))
		        got = [p.next() for n in range(20)]
		        for user in 'u@a.example/r', 'v@b.example/r':
		            refused = [s for s in got if s.error == 'wait/resource-constraint' and s['to'] == user]
		            assert 7 <= len(refused) <= 9, len(refused)
		        for stanza in got:
		            if stanza['to'] == IMPL + '/a':
		                p.answer(stanza)
		        p.drain()
		    p.served('small', user='w@c.example/r')
	END
}

@test "with one hostile user twenty others get at least 95 % of their answers" {
	scenario <<-'END'
		N = 20
		with Proxy('--limit', 'pending=400', '--limit', 'user-pending=50', '--limit', 'pending-bytes=4M', '--timeout', '60', '--try-timeout', '0') as p:
		    p.online('a')
		    bad = "<iq type='get' id='h%d' from='evil@vhost.test/r' to='x%d@proxy.test'><silent xmlns='urn:x'>" + "x" * 20000 + "</silent></iq>"
		    good = answered = refused = 0
		    for turn in range(20):
		        p.send(*(bad % (n, n) for n in range(turn * 100, turn * 100 + 100)))
		        for n in range(N):
		            p.send_request('%d-%d' % (turn, n), user='u%d@vhost.test/r' % n)
		            good += 1
		        last = p.drain()
		        while last:
		            for stanza in last:
		                if stanza['to'] == IMPL + '/a' and 'silent' not in stanza.raw:
		                    p.answer(stanza)
		                elif stanza['to'] == 'evil@vhost.test/r':
		                    refused += 1
		                elif stanza['type'] == 'result':
		                    answered += 1
		            last = p.drain()
		    print('one hostile user: %d of %d others answered, %d of its 2000 refused' % (answered, good, refused))
		    assert answered >= good * 0.95, (answered, good)
		    assert refused >= 1900
	END
}

@test "ids: 1023 bytes are taken, 1024 are bad-request" {
	scenario <<-'END'
		with Proxy() as p:
		    p.online('a')
		    p.served('i' * 1023)
		    p.send_request('i' * 1024)
		    p.error('modify/bad-request', 'i' * 1024, ALICE, 'proxy.test')
	END
}

# --- tables that users fill

@test "subscribers: the oldest of whoever has most goes, and is told" {
	scenario <<-'END'
		def subscribe(user, to):
		    p.send("<presence type='subscribe' from='%s' to='%s'/>" % (user, to))
		    return [(s['to'], s['from'], s['type']) for s in p.drain()]
		with Proxy('--show-presence', '--limit', 'subscribers=6') as p:
		    subscribe('first@vhost.test', 'proxy.test')
		    for n in range(5):
		        subscribe('u%d@evil.example' % n, 'x@proxy.test')
		    for n in range(5, 50):                 # a domain that fills it loses its own
		        got = subscribe('u%d@evil.example' % n, 'x@proxy.test')
		        assert got == [('u%d@evil.example' % (n - 5), 'x@proxy.test', 'unsubscribed'),
		                       ('u%d@evil.example' % n, 'x@proxy.test', 'subscribed')], got
		    got = subscribe('second@vhost.test', 'proxy.test')
		    assert got == [('u45@evil.example', 'x@proxy.test', 'unsubscribed'), ('second@vhost.test', 'proxy.test', 'subscribed')], got
		    assert p.counters()['subscribers'] == 6
		with Proxy('--show-presence', '--limit', 'subscribers=4') as p:
		    subscribe('a@vhost.test', 'proxy.test')
		    for n in range(3):
		        subscribe('b@vhost.test', 'x%d@proxy.test' % n)
		    assert subscribe('c@vhost.test', 'proxy.test')[0] == ('b@vhost.test', 'x0@proxy.test', 'unsubscribed')
	END
}

@test "handles: full of idle ones the oldest of whoever has most goes, never one with an open request" {
	scenario <<-'END'
		long = 'l' * 900
		with Proxy('--limit', 'handles=4', '--timeout', '1', '--try-timeout', '0') as p:
		    p.online('a')
		    # half of the table: more of one domain finds no room while its requests are open
		    p.send_request('1', user='u1@evil.example/' + long)
		    p.send_request('2', user='u2@evil.example/' + long)
		    first, second = p.next(), p.next()
		    p.send_request('3', user='u3@evil.example/' + long)
		    assert p.next().error == 'wait/resource-constraint'
		    p.served('4', user='alice@vhost.test/' + long)
		    p.answer(first)
		    assert p.next()['id'] == '1'
		    assert p.next().error == 'wait/remote-server-timeout'
		    time.sleep(1.1)                        # by now no request can need them
		    p.served('5', user='u3@evil.example/' + long)
	END
}

@test "--show-presence: changes are appended to the file, which is read and made small at the start" {
	mkdir state
	scenario <<-'END'
		with Proxy('--show-presence', '--state-dir', 'state') as p:
		    for n in range(3):
		        p.send("<presence type='subscribe' from='u%d@vhost.test' to='x@proxy.test'/>" % n)
		    p.send("<presence type='unsubscribe' from='u1@vhost.test' to='x@proxy.test'/>")
		    p.drain()
		    lines = open('state/subscribers').read().splitlines()
		    assert lines == ['u0@vhost.test\tx@proxy.test', 'u1@vhost.test\tx@proxy.test', 'u2@vhost.test\tx@proxy.test',
		                     '-\tu1@vhost.test\tx@proxy.test'], lines
		    p.kill()
		with open('state/subscribers', 'a') as f:
		    f.write('cut@vhost')                   # a write that the end of the disk cut off
		with Proxy('--show-presence', '--state-dir', 'state') as p:
		    lines = open('state/subscribers').read().splitlines()
		    assert lines == ['u0@vhost.test\tx@proxy.test', 'u2@vhost.test\tx@proxy.test'], lines
		    p.send("<presence type='subscribe' from='a@vhost.test' to='x&#9;y@proxy.test'/>")
		    assert all(s['type'] != 'subscribed' for s in p.drain())
		    assert open('state/subscribers').read().splitlines() == lines
		    p.kill()
	END
}

# --- marks: what must not be answered again after a crash

# keys: a key file that outlives a run
keys()
{
	echo "k $(printf '%064d' 7)" >keys
	chmod 600 keys
	mkdir state
}

@test "marks: whoever makes most is refused, others go on, no young mark is given up, not at a restart either" {
	keys
	scenario <<-'END'
		options = ['--key-file', 'keys', '--state-dir', 'state', '--bounce-wait', '0', '--limit', 'marks=90']
		HOG = 'hog@vhost.test/r'
		def marks():
		    return open('state/answered').read().splitlines()
		def hog(p, n, taken):
		    """n requests of one user: so many go to the session, the others are refused at once."""
		    handed, refused = [], 0
		    for i in range(n):
		        p.send_request('h%d' % i, user=HOG, kind='set')
		        stanza = p.next()
		        if stanza['to'] == HOG:
		            assert stanza.error == 'wait/resource-constraint', stanza
		            refused += 1
		        else:
		            handed.append(stanza)
		    assert (len(handed), refused) == (taken, n - taken), (len(handed), refused)
		    return handed
		with Proxy(*options) as p:
		    p.online('a')
		    asked = hog(p, 100, 30)
		    p.leave(IMPL + '/a')
		    p.gone([request['id'] for request in asked])
		    assert len(marks()) == 30
		    p.online('a')
		    hog(p, 5, 0)
		    # what is answered by the session leaves no mark and no place taken
		    for n in range(100):
		        p.served('o%d' % n, user='u%d@vhost.test/r' % (n % 20))
		    for user in ('x@else.test/r', 'gateway.test'):
		        p.served('o', user=user)
		    assert len(marks()) == 30
		    p.kill()
		with Proxy(*options) as p:
		    p.online('a')
		    for request in asked:
		        p.answer(request)
		    p.nothing()
		    # the young marks of the last run take places: 60 are free
		    asked = hog(p, 100, 20)
		    for n in range(100):
		        p.served('p%d' % n, user='u%d@vhost.test/r' % (n % 20))
	END
}

@test "marks: after --timeout their places are free again" {
	keys
	scenario <<-'END'
		with Proxy('--key-file', 'keys', '--state-dir', 'state', '--timeout', '0.5', '--limit', 'marks=3') as p:
		    p.online('a')
		    for id in ('1', '2', '3', '4'):
		        p.send_request(id)
		        first = p.next()
		        if first['to'] == ALICE:        # the mark of the last one is still young
		            assert first.error == 'wait/resource-constraint', first
		            continue
		        p.error('wait/remote-server-timeout', id, ALICE, 'proxy.test')
		    deadline = time.monotonic() + WAIT_S
		    while True:
		        p.send_request('again')
		        if p.next()['to'] != ALICE:
		            break
		        assert time.monotonic() < deadline
	END
}

@test "marks: a file of young ones is not replaced, however large the next one is" {
	keys
	scenario <<-'END'
		def marked(*ids):
		    """Requests that end with their session, so that each leaves a mark."""
		    with Proxy('--key-file', 'keys', '--state-dir', 'state', '--bounce-wait', '0', '--limit', 'marks=1000000') as p:
		        p.online('a')
		        for id in ids:
		            p.ask(id, kind='set')
		        p.leave(IMPL + '/a')
		        p.gone(ids)
		        p.end()
		now = int(time.time())
		with open('state/answered.old', 'w') as f:
		    f.write('%032x %012d\n' % (7, now))
		with open('state/answered', 'w') as f:
		    f.writelines('%032x %012d\n' % (n, now) for n in range(400000))
		marked('1', '2')
		assert os.path.getsize('state/answered.old') == 46
		assert os.path.getsize('state/answered') == 400002 * 46
		# with a smaller bound they are read, too, and take all places
		with Proxy('--key-file', 'keys', '--state-dir', 'state', '--limit', 'marks=10') as p:
		    p.online('a')
		    p.send_request('3')
		    p.error('wait/resource-constraint', '3', ALICE, 'proxy.test')
		    assert p.stderr == '', p.stderr
		# when they are old the file may go
		os.utime('state/answered.old', (now - 100, now - 100))
		marked('3', '4')
		assert os.path.getsize('state/answered.old') == 400003 * 46
		assert os.path.getsize('state/answered') == 46
	END
}

@test "grace: it ends for a user who has too many answers in it, and not for others" {
	keys
	scenario <<-'END'
		options = ['--key-file', 'keys', '--state-dir', 'state', '--limit', 'marks=30']
		with Proxy(*options) as p:
		    p.online('a')
		    hogs = p.ask('hogs', user='hog@vhost.test/r')
		    mine = p.ask('mine')
		    p.kill()
		with Proxy(*options) as p:
		    p.online('a')
		    for n in range(100):
		        p.served('h%d' % n, user='hog@vhost.test/r')
		    p.answer(hogs)
		    p.nothing()
		    p.answer(mine)
		    p.answered('mine')
		    p.answer(mine)
		    p.nothing()
	END
}
