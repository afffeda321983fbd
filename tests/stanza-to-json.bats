#!/usr/bin/env bats
# stanza-to-json: stanzas as objects, and back where one rule holds for both ways.
# installcheck
# shellcheck disable=SC2154 # run and stanza-json set them

load lib
load stanza-json

teardown() { stop_all; }

@test "a stanza as one object, each member in its place" {
	to_json "<iq type='get' id='a1' from='u@h/r' to='h' xml:lang='en'><query xmlns='jabber:iq:roster'>text<item jid='j'/></query></iq>" \
		'{"v":1,"kind":"iq","type":"get","id":"a1","from":"u@h/r","to":"h","lang":"en","attrs":{},"ns":"jabber:iq:roster","name":"query","payload":[{"name":"query","ns":"jabber:iq:roster","attrs":{},"children":["text",{"name":"item","attrs":{"jid":"j"},"children":[]}]}]}'
	to_json "<presence/>" '{"v":1,"kind":"presence","attrs":{},"payload":[]}'
	to_json "<message to='' x='1'/>" '{"v":1,"kind":"message","to":"","attrs":{"x":"1"},"payload":[]}'
}

@test "a root in any stanza namespace or none is the same" {
	for ns in '' " xmlns='jabber:client'" " xmlns='jabber:component:accept'"; do
		to_json "<message$ns><body>x</body></message>" \
			'{"v":1,"kind":"message","attrs":{},"ns":"","name":"body","payload":[{"name":"body","attrs":{},"children":["x"]}]}'
	done
}

@test "a child's absent ns is its parent's; none is the empty string" {
	json='{"v":1,"kind":"message","attrs":{},"ns":"q","name":"a","payload":[{"name":"a","ns":"q","attrs":{},"children":[{"name":"b","attrs":{},"children":[]},{"name":"c","ns":"","attrs":{},"children":[{"name":"d","attrs":{},"children":[]}]}]}]}'
	to_json "<message><p:a xmlns:p='q'><p:b/><c><d/></c></p:a></message>" "$json"
	to_stanza "$json" "<message><a xmlns='q'><b/><c xmlns=''><d/></c></a></message>"
	# below the root, "no namespace" differs from the stanza's own namespace
	to_json "<message><a xmlns=''/></message>" \
		'{"v":1,"kind":"message","attrs":{},"ns":"","name":"a","payload":[{"name":"a","ns":"","attrs":{},"children":[]}]}'
	to_stanza '{"kind":"message","payload":[{"name":"a","ns":""},{"name":"b"}]}' "<message><a xmlns=''/><b/></message>"
}

@test "the answer is the same before and behind a filter" {
	cat >mixed <<-'END'
		<message xmlns='jabber:client' to='a@b'><body>x</body><thread/></message>
		<n:message xmlns:n='jabber:client' to='a@b'><n:body>x</n:body><y xmlns='urn:y'><n:z/></y></n:message>
		<message xmlns='jabber:component:accept'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body>x</body></message></forwarded></message>
		<?xml version='1.0'?><presence><show xmlns=''>away</show><c xmlns='urn:c' x:a='1' xmlns:x='urn:x'/></presence>
		<!-- between --><iq type='result' xmlns='jabber:client'><q xmlns='jabber:client'><r/></q></iq>
	END
	printf '\xef\xbb\xbf' | cat - mixed >input
	run -0 stanza-to-json <input
	before=$output
	assert_equal "${#lines[@]}" 5
	jat-encode --create-key --key-file keys
	run -0 bash -o pipefail -c 'jat-encode --domain d.test --key-file keys --stanza <input | stanza-to-json'
	assert_equal "$output" "$before"
	run -0 bash -o pipefail -c 'stanza-to-json <input | json-to-stanza | stanza-to-json'
	assert_equal "$output" "$before"
}

@test "foreign attributes are {namespace}local, xml:lang is lang at the root" {
	json='{"v":1,"kind":"message","lang":"de","attrs":{"{urn:x}from":"1"},"ns":"","name":"a","payload":[{"name":"a","attrs":{"{http://www.w3.org/XML/1998/namespace}lang":"en","{u}b}c":"2"},"children":[]}]}'
	to_json "<message xmlns:x='urn:x' x:from='1' xml:lang='de'><a xml:lang='en' xmlns:y='u}b' y:c='2'/></message>" "$json"
	to_stanza "$json" "<message xml:lang='de' xmlns:ns1='urn:x' ns1:from='1'><a xml:lang='en' xmlns:ns1='u}b' ns1:c='2'/></message>"
	refused '{"kind":"iq","attrs":{"{}a":"1"}}'
	refused '{"kind":"iq","attrs":{"{a":"1"}}'
	refused '{"kind":"iq","attrs":{"{http://www.w3.org/2000/xmlns/}a":"1"}}'
	refused '{"kind":"iq","attrs":{"xmlns":"1"}}'
	refused '{"kind":"iq","attrs":{"a:b":"1"}}'
	refused '{"kind":"iq","attrs":{"id":"1"}}'
	refused '{"kind":"iq","id":"2","attrs":{"id":"1"}}'
	refused '{"kind":"iq","lang":"en","attrs":{"{http://www.w3.org/XML/1998/namespace}lang":"de"}}'
}

@test "an element in the namespace that only a prefix can say" {
	json='{"v":1,"kind":"message","attrs":{},"ns":"http://www.w3.org/XML/1998/namespace","name":"a","payload":[{"name":"a","ns":"http://www.w3.org/XML/1998/namespace","attrs":{},"children":[{"name":"b","ns":"","attrs":{},"children":[]}]}]}'
	to_json "<message><xml:a><b xmlns=''/></xml:a></message>" "$json"
	to_stanza "$json" "<message><xml:a><b xmlns=''/></xml:a></message>"
}

@test "text: references and sections decoded, white space kept, in document order" {
	to_json "<message>a&#13;<b> </b>&amp;&quot;<![CDATA[<x>]]>&#xe9;</message>" \
		'{"v":1,"kind":"message","attrs":{},"ns":"","name":"b","payload":["a\u000d",{"name":"b","attrs":{},"children":[" "]},"&\"<x>é"]}'
	to_stanza '{"kind":"message","payload":["a\r\n","<&>\u00e9\ud83d\ude00",{"name":"b","children":["\t"]}],"attrs":{"a":"\n\t'"'"'"}}' \
		"<message a='&#10;&#9;&apos;'>a&#13;&#10;&lt;&amp;&gt;é😀<b>	</b></message>"
}

@test "an error stanza has its error as a member" {
	run -0 stanza-to-json <<<"<iq type='error' id='1'><q xmlns='x'/><error type='cancel'><item-not-found xmlns='$stanzas'/><text xmlns='$stanzas'>no &lt;</text><a xmlns='b'/></error></iq>"
	assert_equal "$(jq -c .error <<<"$output")" '{"type":"cancel","condition":"item-not-found","text":"no <","app":"a"}'
	assert_equal "$(jq -r '.ns + " " + .name' <<<"$output")" 'x q'
	run -0 json-to-stanza <<<"$output"
	assert_output "<iq type='error' id='1'><q xmlns='x'/><error type='cancel'><item-not-found xmlns='$stanzas'/><text xmlns='$stanzas'>no &lt;</text><a xmlns='b'/></error></iq>"
	# a payload in another namespace may have that name
	stanza="<iq type='error' id='1'><error xmlns='x'/><error type='cancel'><conflict xmlns='$stanzas'/></error></iq>"
	run -0 stanza-to-json <<<"$stanza"
	assert_equal "$(jq -c .error <<<"$output")" '{"type":"cancel","condition":"conflict"}'
	run -0 json-to-stanza <<<"$output"
	assert_output "$stanza"
	run -0 stanza-to-json <<<"<iq type='error' id='1'><error xmlns='x'><conflict xmlns='$stanzas'/></error></iq>"
	assert_equal "$(jq -c .error <<<"$output")" null
	# only in stanzas of type error
	run -0 stanza-to-json <<<"<message><error type='cancel'><item-not-found xmlns='$stanzas'/></error></message>"
	assert_equal "$(jq -c .error <<<"$output")" null
}

@test "deep nesting and crowds of attributes: refused, and the rest goes on" {
	python3 - >deep <<-'END'
		print('<iq>' + '<a>' * 100000 + '</a>' * 100000 + '</iq>')
		print('<iq><a ' + ' '.join("a%d=''" % n for n in range(20000)) + '/></iq>')
		print('<presence/>')
	END
	run -65 --separate-stderr stanza-to-json <deep
	assert_output '{"v":1,"kind":"presence","attrs":{},"payload":[]}'
	assert_equal "${#stderr_lines[@]}" 2
	# nesting up to the limit goes there and back
	python3 -c "print('<iq>' + '<a>' * 400 + '</a>' * 400 + '</iq>')" >deep
	stanza-to-json --max-depth 500 <deep | json-to-stanza >out
	assert_equal "$(tr -d '\n' <out)" "$(python3 -c "print('<iq>' + '<a>' * 399 + '<a/>' + '</a>' * 399 + '</iq>')")"
}

@test "a million bytes of empty elements, and namespaces that make much of little" {
	python3 - >big <<-'END'
		print('<message>' + '<a/>' * 250000 + '</message>')
		print("<message xmlns:p='%s'>" % ('x' * 20000) + "<p:a p:b=''/><a/>" * 4000 + '</message>')
		print('<presence/>')
	END
	run -65 bash -c 'timeout 60 stanza-to-json <big >out'
	assert_output "stanza-to-json: stdin:2: too large as JSON"
	assert_equal "$(wc -l <out)" 2
	head -n 1 out | json-to-stanza | cmp - <(head -n 1 big)
	assert_equal "$(jq -c .kind <out)" $'"message"\n"presence"'
	# a limit that is multiplied does not overflow 32 bits
	python3 -c "print('<message>' + '<a/>' * 500000 + '</message>')" |
		timeout 60 stanza-to-json --max-stanza-bytes 512M | jq -c '.payload | length' >out
	assert_equal "$(cat out)" 500000
	# elements with xmlns='' deep inside many declarations: each declaration is looked at once
	python3 -c "if True:
	import itertools
	names = itertools.count()
	outer = ['<a%s>' % ''.join(\" xmlns:p%d='u'\" % next(names) for i in range(250)) for depth in range(250)]
	print('<message>%s%s%s</message>' % (''.join(outer), \"<a xmlns=''/>\" * 400000, '</a>' * 250))" >deep
	timeout 30 stanza-to-json --max-stanza-bytes 8M <deep >out
	assert_equal "$(grep -o '"ns":""' out | wc -l)" 400001
}

@test "the second pass is byte-stable, valid JSON whatever the payload" {
	cat >in <<-'END'
		<iq type='set' from="a'b"><q xmlns="x" a='&lt;"&#9;'>&#x7f;\ "/<![CDATA[]]]]><![CDATA[>]]>&#13;</q></iq>
		<message><p:a xmlns:p='u' p:b='1' b='2'>&#xfffd;</p:a>  <b/></message>
	END
	stanza-to-json <in >first.json
	json-to-stanza <first.json >first
	stanza-to-json <first >second.json
	json-to-stanza <second.json >second
	cmp first.json second.json
	cmp first second
	assert_equal "$(python3 -c 'import json; print(*(json.loads(l)["kind"] for l in open("first.json")))')" "iq message"
	# also with input that a person wrote
	to_stanza '{"kind":"iq","payload":[{"name":"a","children":["",""]}]}' "<iq><a/></iq>"
	to_stanza '{"kind":"iq","payload":[""]}' "<iq/>"
}

@test "bad stanzas are reported with their lines, the rest passes" {
	run -65 --separate-stderr stanza-to-json <<-'END'
		<iq/>
		<iq><a></iq>
		<foo/>
		<presence/>
	END
	assert_equal "$(jq -r .kind <<<"$output" | tr '\n' ' ')" "iq presence "
	assert_equal "${#stderr_lines[@]}" 2
	[[ ${stderr_lines[0]} == "stanza-to-json: stdin:2: "* && ${stderr_lines[1]} == "stanza-to-json: stdin:3: "* ]]
}

@test "each stanza is there as soon as it was read" {
	at_once stanza-to-json '<iq/>'
}

@test "a full disk, no standard output, a reader that goes: 74; no standard input: 74" {
	lost_descriptors stanza-to-json '<iq/>'
}
