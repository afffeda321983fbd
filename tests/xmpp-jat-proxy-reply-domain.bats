#!/usr/bin/env bats
# xmpp-jat-proxy --reply-domain: tokens, subscription and pings are R's, users ask D.
# installcheck

load lib
load stream
load tools/scenario

teardown() { stop_all; }

@test "--reply-domain: users ask D, sessions see R" {
	jat-encode --create-key --key-file keys
	scenario <<-'END'
		class Reply(Proxy):
		    def __init__(self, *options):
		        super().__init__('--key-file', 'keys', '--reply-domain', 'r1.proxy.test', *options, subscribe=False)
		        self.expect("<presence type='subscribe' to='%s' from='r1.proxy.test'/>" % IMPL)
		        self.send("<presence from='%s/a' to='r1.proxy.test'/>" % IMPL)
		        self.nothing()
		def tool(name, *arguments):
		    return subprocess.run([name, '--domain', 'proxy.test', '--key-file', 'keys', *arguments], capture_output=True, text=True)
		for encoding in 'sealed', 'signed':
		    with Reply('--encoding', encoding) as p:
		        for to in 'proxy.test', 'x@proxy.test', 'proxy.test/res':
		            p.send_request('1', to=to)
		            asked = p.next()
		            assert asked['from'].startswith('r1.proxy.test/') and asked['to'] == IMPL + '/a', asked
		            got = tool('jat-decode', '--reply-domain', 'r1.proxy.test', '--asked', asked['from'])
		            assert got.stdout == ALICE + '\t' + to + '\n', got
		            got = tool('jat-encode', '--reply-domain', 'r1.proxy.test', '--encoding', encoding, '--asked', to, ALICE)
		            assert got.stdout == asked['from'] + '\n', got
		            # the bare D is left out, any other address is written in full
		            assert encoding == 'sealed' or ('.:' in asked['from']) == (to != 'proxy.test'), asked
		            assert tool('jat-decode', asked['from']).returncode == 65
		            p.answer(asked)
		            p.answered('1', from_=to)
		        # users must not ask R, and D takes no presence and no answers
		        p.send_request('2', to='r1.proxy.test')
		        p.error('cancel/service-unavailable', '2', ALICE, 'r1.proxy.test')
		        p.send_request('3')
		        asked = p.next()
		        p.send("<iq type='result' id='3' from='%s/a' to='proxy.test/%s'/>" % (IMPL, asked['from'].split('/', 1)[1]))
		        p.send("<presence type='unavailable' from='%s/a' to='proxy.test'/>" % IMPL)
		        p.nothing()
		        p.answer(asked)
		        p.answered('3')
	END
}

@test "--reply-domain does not go with --outbound-iq or --show-presence: 78" {
	for option in --outbound-iq --show-presence --show-presence=full; do
		run -78 xmpp-jat-proxy --domain proxy.test --reply-domain r.proxy.test --target a@b "$option" </dev/null
		assert_line --partial "--reply-domain does not go with ${option%=full}"
	done
	run -64 xmpp-jat-proxy --domain proxy.test --reply-domain 'r@proxy.test' --target a@b </dev/null
	assert_line --index 0 "xmpp-jat-proxy: --reply-domain is not a domain"
}

proxy()
{
	secret_file
	xmpp-jat-proxy --connect "127.0.0.1:$FAKE_PORT" --secret-file secret --domain proxy.test \
		--reply-domain r.proxy.test --target a@b "$@"
}

@test "--reply-domain: invalid-from after a stanza from R: 78 with the listener's lines, no loop" {
	fake --forever "up ; expect from='r.proxy.test' ; error invalid-from"
	run -78 proxy
	assert_line --partial "global_routes: true"
	assert_line --partial "proxy.test"
	assert_line --partial "r.proxy.test"
	assert_equal "$(grep -c 'connection .*end' fake.out)" 1
}

@test "--reply-domain: a ping from R to itself that does not come back: 78 naming global_routes" {
	fake --forever "up ; expect <ping ; pause 60"
	run -78 proxy --timeout 1
	assert_line --partial "global_routes"
}

@test "--reply-domain: the ping that comes back proves the routes; it is answered to nobody" {
	fake "up ; route-ping ; silent 2 <iq ; say proven ; wait-close"
	secret_file
	start proxy xmpp-jat-proxy --connect "127.0.0.1:$FAKE_PORT" --secret-file secret --domain proxy.test \
		--reply-domain r.proxy.test --target a@b --timeout 1
	wait_for grep -q proven fake.out
	end proxy
	await fake
}
