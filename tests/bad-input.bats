#!/usr/bin/env bats
# Bad input on a pipe: it is reported with its line, the exit status is 65, and all other input is handled as
# usual.
# installcheck

load lib
load tools/scenario

@test "malformed stanzas" {
	scenario badinput <<-'END'
		for bad in [IN + "<a></b></iq>", IN + "</message>", "</iq>", "<>", "< iq/>", "hello", "&amp;",
		            "<iq type=get" + TO + "/>", "<iq type" + TO + "/>", "<iq type='a'id='b'/>", IN + "&nbsp;</iq>", IN + "&#0;</iq>",
		            IN + "&#x1;</iq>", IN + "&#xd800;</iq>", IN + "]]></iq>", IN + "<a b='<'/></iq>", IN + "<a:b/></iq>",
		            IN + "<a b:c='1'/></iq>", IN + "<1/></iq>", IN + "a & b</iq>", IN + "\x01</iq>", "<message/><", "<message/>x"]:
		    refused(bad)
	END
}

@test "truncated stanzas: in the middle of the input and at its end" {
	scenario badinput <<-'END'
		for bad in "<iq", "<iq" + TO + "/", "<iq type='get' id='", "<iq" + TO, IN + "<a", IN + "<a b='", IN + "</iq", IN + "&am", IN + "<![CDATA[x]]":
		    o = run(bad)
		    assert o.status == 65 and o.served[0] == 'before', (bad, o)
		    assert len(o.reported) >= 1 and o.reported[0] in (3, 4), (bad, o)
		    o = run(bad, after=False)
		    assert (o.status, o.served, len(o.reported)) == (65, ['before'], 1), (bad, o)
		# a start tag that is cut off does not spoil the next line
		for bad in "<iq", "<iq type='get' id='x' from=", "<iq" + TO, IN + "<a", IN + "</iq":
		    assert run(bad).served == ['before', 'after1', 'after2'], bad
		# nor does an element that is left open
		for bad in IN, IN + "<a>", IN + "<a/>":
		    o = run(bad)
		    assert (o.status, o.served, o.reported) == (65, ['before', 'after1', 'after2'], [3]), (bad, o)
	END
}

@test "DOCTYPE, entity definitions; in stanzas also processing instructions, comments, XML declarations" {
	scenario badinput <<-'END'
		bomb = ("<!DOCTYPE iq [<!ENTITY a 'aaaaaaaaaa'>" +
		        "".join("<!ENTITY %s '%s'>" % (chr(98 + n), ("&%s;" % chr(97 + n)) * 10) for n in range(9)) + "]>")
		for bad in ["<!DOCTYPE iq>", "<!DOCTYPE iq SYSTEM 'file:///etc/passwd'>" + IN + "<q/></iq>", bomb + IN + "<q>&j;</q></iq>",
		            bomb, "<!ENTITY a 'b'>", "<!-- -- -->", "<!-- x", "<?pi", IN + "<?xml version='1.0'?><q/></iq>",
		            IN + "<!-- x --><q/></iq>", IN + "<q><?pi x?></q></iq>", IN + "<q><!DOCTYPE q></q></iq>", "<!--" + 65530 * "x" + "-->", "<?x " + 65531 * "x" + "?>"]:
		    refused(bad)
	END
}

@test "what tools write between stanzas is passed over: declaration, byte order mark, comments, instructions" {
	printf '%s\n' $'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>' "<message from='a@vhost.test/a' id='1'/>" \
		'<!-- two' "<message from='a@vhost.test/a' id='no'/>" 'lines --> <?pi > ?>' \
		$'\xef\xbb\xbf<message from=\'a@vhost.test/a\' id=\'2\'/><!---->' >in
	{ printf '<!--%65529s-->' '' && echo "<message from='a@vhost.test/a' id='3'/>"; } >>in
	run --separate-stderr jat-encode --domain proxy.test --encoding plain --stanza <in
	assert_equal "$status" 0
	# shellcheck disable=SC2154 # stderr: run
	assert_equal "$stderr" ''
	assert_equal "$(grep -o "id='.*'" <<<"$output" | grep -o "id='[^']*'" | tr '\n' ' ')" "id='1' id='2' id='3' "
	{ printf '<!--%65530s-->' '' && echo "<message from='a@vhost.test/a' id='4'/>"; } >>in
	echo "<message from='a@vhost.test/a' id='5'/>" >>in
	run --separate-stderr jat-encode --domain proxy.test --encoding plain --stanza <in
	assert_equal "$status" 65
	assert_regex "$stderr" 'stdin:8: comment or instruction too large'
	assert_line -n 3 --partial "id='5'"
}

@test "what stands in jabber:client moves with its stanza: JSON is the same before and behind a filter" {
	printf '%s\n' "<ns0:message xmlns:ns0='jabber:client' from='a@vhost.test/a'><ns0:body>hi</ns0:body></ns0:message>" \
		"<message xmlns='jabber:client' from='a@vhost.test/a'><body>hi</body><x:x xmlns:x='urn:x'><y/></x:x></message>" \
		"<message xmlns='jabber:client' from='a@vhost.test/a'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body>hi</body></message></forwarded></message>" \
		"<c:iq xmlns:c='jabber:client' xmlns='urn:d' type='error' id='1' from='a@vhost.test/a'><q/><c:error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></c:error></c:iq>" >in
	jat-encode --domain proxy.test --encoding plain --stanza <in >behind
	refute grep -E '<(ns0|c):(body|error)' behind
	for file in in behind; do
		stanza-to-json <"$file" | jq -c 'del(.from)' >"$file.json"
	done
	assert_equal "$(wc -l <in.json)" 4
	cmp in.json behind.json
	assert_equal "$(jq -r '.payload[] | select(.name == "body").children[0]' behind.json | tr '\n' ' ')" 'hi hi '
}

@test "NUL and invalid UTF-8" {
	scenario badinput <<-'END'
		for octets in [b"\0", b"a\0b", b"\xff", b"\xfe\xff", b"\xc0\x80", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"]:
		    for bad in [IN.encode() + b"<q>" + octets + b"</q></iq>", IN.encode() + b"<q a='" + octets + b"'/></iq>", octets,
		                b"<iq type='get' id='" + octets + b"'" + TO.encode() + b"><q/></iq>"]:
		        refused(bad)
		refused((IN + "<q/></iq>").encode("utf-16"))
		refused((IN + "<q/></iq>").encode("utf-16-be"))
		# a byte order mark is no stanza
		o = run("\ufeff" + IN + "<q xmlns='urn:x'/></iq>")
		assert [i for i in o.served if i != 'bad'] == ['before', 'after1', 'after2'], o
	END
}

@test "duplicate attributes, also by namespace" {
	scenario badinput <<-'END'
		for bad in ["<iq type='get' type='set' id='1'" + TO + "><q/></iq>", "<iq type='get' id='1' from='a@b' from='c@d' to='proxy.test'><q/></iq>",
		            IN + "<q a='1' b='2' a='1'/></iq>", IN + "<q xmlns:x='urn:u' xmlns:y='urn:u' x:a='' y:a=''/></iq>",
		            IN + "<q xmlns='urn:a' xmlns='urn:b'/></iq>"]:
		    refused(bad)
	END
}

@test "too large, too deep, too many attributes" {
	scenario badinput <<-'END'
		refused(IN + "<q>" + "x" * (1 << 20) + "</q></iq>")
		refused(IN + "<q a='" + "x" * (1 << 20) + "'/></iq>")
		refused(IN + "<q " + "x" * (1 << 20) + "='1'/></iq>")
		refused(IN + "<q/>" * (1 << 18) + "</iq>")
		refused(IN + "<a>" * 100000 + "</a>" * 100000 + "</iq>")
		refused(IN + "<a " + " ".join("a%d=''" % n for n in range(50000)) + "/></iq>")
		# a request over a limit is answered; a result is not
		for request in IN + "<q>" + "x" * (2 << 20) + "</q></iq>", IN + "<a>" * 300 + "</a>" * 300 + "</iq>":
		    o = refused(request)
		    assert [s.error for s in o.stanzas if s['id'] == 'bad'] == ['modify/policy-violation'], o
		    o = refused(request.replace("'get'", "'result'"))
		    assert [s for s in o.stanzas if s['id'] == 'bad'] == [], o
		# the limit is exact, however the bytes come
		around = len(IN + "<q xmlns='urn:x'></q></iq>")
		for limit in 2000, 70000, 200000:
		    fits = IN + "<q xmlns='urn:x'>" + "x" * (limit - around) + "</q></iq>"
		    assert run(fits, '--max-stanza-bytes', str(limit)).status == 0
		    refused(fits.replace("x<", "xx<"), '--max-stanza-bytes', str(limit))
		# just below the limit: no complaint about size
		o = run(IN + "<q xmlns='urn:x'>" + "x" * ((1 << 20) - 1000) + "</q></iq>")
		assert o.status == 0 and o.reported == [], o
	END
}

@test "an endless line is read in bounded memory" {
	scenario badinput <<-'END'
		for bad in [((IN + "<q>").encode(), 1), (b"x" * (1 << 20), 150), (b"</q></iq>", 1)], [(b"x" * (1 << 20), 150)], \
		           [(IN.encode(), 1), (b"<a b='c'/>\n" * 1000, 10000), (b"</iq>", 1)]:
		    o = refused(bad)
		    if not os.environ.get('WRAP'):
		        assert o.rss_kib < 64 << 10, o.rss_kib
	END
}

@test "60 000 children, 100 KB attributes, 256 KiB of apostrophes: legal and done in time" {
	scenario badinput <<-'END'
		for payload in ["<q xmlns='urn:x'>" + "<x/>" * 60000 + "</q>", "<q xmlns='urn:x'>" + "<x>&amp;</x>" * 30000 + "</q>",
		                "<q xmlns='urn:x' a='" + "v" * 100000 + "'/>", "<q xmlns='urn:x'>" + "'" * (256 << 10) + "</q>",
		                "<q xmlns='urn:x'>" + "&apos;" * 60000 + "</q>", "<q xmlns='urn:x'>" + "<a>" * 40 + "</a>" * 40 + "</q>"]:
		    got = accepted(IN + payload + "</iq>")
		    assert got[0].raw.endswith(">" + payload + "</iq>") and got[0]['to'] == 'impl@vhost.test/a', got[0]
		# all the children at the top level: more than one, so a stanza error and nothing else
		got = accepted(IN + "<x/>" * 60000 + "</iq>")
		assert [s.error for s in got] == ['modify/bad-request'], got
	END
}

@test "stanzas that parse but are wrong get their stanza error or are dropped" {
	scenario badinput <<-'END'
		for wrong in ["<iq type='get'" + TO + "><q/></iq>", "<iq type='get' id='w'" + TO + "><q/><q/></iq>", "<iq type='set' id='w'" + TO + "/>",
		              "<iq type='what' id='w'" + TO + "><q/></iq>", "<iq id='w'" + TO + "><q/></iq>"]:
		    got = accepted(wrong)
		    assert [(s['to'], s['from'], s.error) for s in got] == [('alice@vhost.test/r', 'proxy.test', 'modify/bad-request')], (wrong, got)
		for dropped in ["<iq type='get' id='w' from='' to='proxy.test'><q/></iq>", "<iq type='get' id='w' to='proxy.test'><q/></iq>",
		                "<message from='' to='proxy.test'><body/></message>", "<presence from='' to='proxy.test'/>",
		                "<iq xmlns:y='urn:y' y:from='impl@vhost.test/a' type='get' id='w' to='proxy.test'><q/></iq>",
		                "<iq xmlns:y='urn:y' y:type='get' type='result' id='w'" + TO + "><q/></iq>"]:
		    assert accepted(dropped) == [], dropped
		got = accepted("<iq xmlns:y='urn:y' y:type='result' y:id='z' y:to='alice@vhost.test/r' y:from='impl@vhost.test/a' type='get' id='w'"
		               + TO + "><q/></iq>")
		assert (got[0]['to'], got[0]['id'], got[0]['type']) == ('impl@vhost.test/a', 'w', 'get'), got
	END
}

@test "an unknown root is said or passed on, never lost in silence" {
	scenario badinput <<-'END'
		for root in "<foo/>", "<foo" + TO + "/>", "<IQ type='get' id='u'" + TO + "><q/></IQ>", \
		            "<iq xmlns='urn:other' type='get' id='u'" + TO + "><q/></iq>", "<stream:error xmlns:stream='urn:s'/>":
		    o = run(root)
		    assert o.served == ['before', 'after1', 'after2'], (root, o)
		    passed = root in [s.raw for s in o.stanzas]
		    said = o.status == 65 and o.reported == [3]
		    assert passed != said, (root, o)
		    if passed:
		        assert o.status == 0, o
	END
}

@test "odd resources and the longest addresses get their answer" {
	scenario <<-'END'
		local, host, resource = 'l' * 1023, '.'.join(['d' * 63] * 15 + ['d' * 63]), 'r' * 1023
		assert len(local) + len(host) + len(resource) + 2 == 3071
		with Proxy() as p:
		    p.online('a')
		    for n, user in enumerate(['%s@%s/%s' % (local, host, resource), 'u@h/ ', 'u@h/a b', 'u@h/a  b ', 'u@h/q"\'', 'u@h/<&>',
		                              'u@h/a/b', 'u@h/a@b', 'u@h//', 'u@h/@', 'u@h/proxy.test/x@y/z', 'u@h/\U0001f600', 'u@h/abc \u05d0\u05d1\u05d2',
		                              'u@h/\u05d0 abc', '\u05d0\u05d1@h/abc', 'u@h/e\u0301', 'u@h/\u00e9', 'h/a b', 'h']):
		        p.served(str(n), user=user)
	END
}

@test "several bad lines are each reported with their own line" {
	printf '%s\n' "<message to='a.test' id='1'/>" '<bad' "<message to='a.test' id='3'" "/>" 'text' "" \
		"<message to='a.test' id='7'/>" '<!-- -- -->' "<message to='a.test' id='9'/>" >in
	sed -i 2s,.*,'<bad></worse>', in
	run --separate-stderr xmpp-jat-proxy --domain proxy.test --target impl@vhost.test <in
	assert_equal "$status" 65
	# shellcheck disable=SC2154 # set by run
	assert_equal "$(grep -o 'stdin:[0-9]*:' <<<"$stderr" | tr '\n' ' ')" 'stdin:2: stdin:5: stdin:8: '
	assert_equal "$(grep -o "id='.'" <<<"$output" | tr '\n' ' ')" "id='1' id='3' id='7' id='9' "
}

@test "jat-encode --stanza, jat-decode --stanza: a bad stanza among good ones" {
	echo "k $(printf '%064d' 7)" >keys
	chmod 600 keys
	printf '%s\n' "<message from='alice@vhost.test/a' to='x'/>" '<bad></worse>' "<message from='bob@vhost.test/b' to='x'/>" >in
	run --separate-stderr jat-encode --domain proxy.test --key-file keys --stanza <in
	assert_equal "$status" 65
	assert_equal "${#lines[@]}" 2
	assert_regex "$stderr" 'stdin:2: '
	printf '%s\n' "${lines[@]}" | sed "s/ to='x'//; s/from=/to=/; 1a <!-- -- -->" >back
	run --separate-stderr jat-decode --domain proxy.test --key-file keys --stanza <back
	assert_equal "$status" 65
	assert_line -n 0 --partial 'alice@vhost.test/a'
	assert_line -n 1 --partial 'bob@vhost.test/b'
	assert_regex "$stderr" 'stdin:2: '
}

@test "jat-encode and jat-decode: what is no address or no token is reported with its line, the rest goes on" {
	echo "k $(printf '%064d' 7)" >keys
	chmod 600 keys
	printf '%s\n' alice@vhost.test/a '@' bob@vhost.test/b '' 'a@b@c' 'x@' carol@vhost.test >jids
	run --separate-stderr jat-encode --domain proxy.test --key-file keys <jids
	assert_equal "$status" 65
	assert_equal "${#lines[@]}" 3
	assert_regex "$stderr" 'stdin:2: '
	{
		printf '%s\n' "${lines[0]}" 'proxy.test/kAAAA' "${lines[1]%?}" 'other.test/x' 'nonsense' "${lines[0]}=" "${lines[2]}"
	} >tokens
	run --separate-stderr jat-decode --domain proxy.test --key-file keys <tokens
	assert_equal "$status" 65
	assert_equal "$output" $'alice@vhost.test/a\ncarol@vhost.test'
	assert_equal "$(grep -o 'stdin:[0-9]*:' <<<"$stderr" | tr '\n' ' ')" 'stdin:2: stdin:3: stdin:4: stdin:5: stdin:6: '
}
