#!/usr/bin/env bats
# json-to-stanza: objects that become stanzas, and objects that are refused.
# installcheck
# shellcheck disable=SC2154 # run and stanza-json set them

load lib
load stanza-json

teardown() { stop_all; }

@test "without payload: error, name and ns build it" {
	to_stanza '{"kind":"iq","type":"get","ns":"urn:xmpp:ping","name":"ping"}' "<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
	to_stanza '{"kind":"message","name":"body"}' "<message><body/></message>"
	to_stanza '{"kind":"message","type":"error","error":{"type":"wait","condition":"conflict","text":"a<b"}}' \
		"<message type='error'><error type='wait'><conflict xmlns='$stanzas'/><text xmlns='$stanzas'>a&lt;b</text></error></message>"
	to_stanza '{"kind":"iq","type":"error","name":"q","ns":"x","error":{"condition":"conflict"}}' \
		"<iq type='error'><q xmlns='x'/><error type='cancel'><conflict xmlns='$stanzas'/></error></iq>"
	refused '{"kind":"iq","type":"get","ns":"urn:xmpp:ping"}'
	refused '{"kind":"iq","type":"get","ns":1,"name":"ping"}'
	refused '{"kind":"iq","type":"error","error":{}}'
	refused '{"kind":"iq","type":"error","error":{"condition":"text"}}'
	refused '{"kind":"iq","type":"error","error":{"condition":"conflict","text":1}}'
	refused '{"kind":"iq","type":"error","error":{"condition":"conflict","app":"a"}}'
	refused '{"kind":"iq","type":"error","error":"conflict"}'
}

@test "body, subject and thread of a message, show, status and priority of a presence" {
	to_stanza '{"kind":"message","to":"a@b","body":"x < y","subject":"s","thread":"t"}' \
		"<message to='a@b'><subject>s</subject><body>x &lt; y</body><thread>t</thread></message>"
	to_stanza '{"kind":"message","body":""}' "<message><body></body></message>"
	to_stanza '{"kind":"message","body":"two\nlines","ns":"urn:x","name":"x"}' \
		"<message><body>two&#10;lines</body><x xmlns='urn:x'/></message>"
	to_stanza '{"kind":"message","type":"error","body":"x","error":{"condition":"gone"}}' \
		"<message type='error'><body>x</body><error type='cancel'><gone xmlns='$stanzas'/></error></message>"
	to_stanza '{"kind":"presence","show":"away","status":"gone for a walk","priority":-5}' \
		"<presence><show>away</show><status>gone for a walk</status><priority>-5</priority></presence>"
	to_stanza '{"kind":"presence","priority":"7"}' "<presence><priority>7</priority></presence>"
	for wrong in '"message","body":1' '"message","subject":["a"]' '"message","thread":"\u0001"' \
		'"presence","show":true' '"presence","priority":1.5' '"presence","priority":{}'; do
		refused "{\"kind\":$wrong}"
	done
	# payload counts, and members beside it must agree with it
	body='"payload":["t",{"name":"body","children":["x","y"]}]'
	to_stanza '{"kind":"message","body":"xy",'"$body}" "<message>t<body>xy</body></message>"
	refused '{"kind":"message","body":"x",'"$body}"
	refused '{"kind":"message","subject":"xy",'"$body}"
	refused '{"kind":"message","body":"x","payload":[{"name":"body","ns":"urn:other","children":["x"]}]}'
}

@test "what means nothing is told with its line; in an element it is bad input" {
	run -0 --separate-stderr json-to-stanza < <(
		echo '{"kind":"message"}'
		echo '{"kind":"message","Body":"x","to":"a@b","foo":{"bar":1}}'
		echo '{"kind":"presence","body":"x"}'
		echo '{"kind":"iq","type":"result","show":"away"}'
		echo '{"kind":"message","to":null,"body":null,"subject":"s"}'
	)
	assert_output "<message/>
<message to='a@b'/>
<presence/>
<iq type='result'/>
<message><subject>s</subject></message>"
	assert_equal "$stderr" "json-to-stanza: stdin:2: a member that means nothing: 'Body', 'foo'
json-to-stanza: stdin:3: a member that means nothing: 'body'
json-to-stanza: stdin:4: a member that means nothing: 'show'
json-to-stanza: stdin:5: a member that means nothing: 'body'"
	refused '{"kind":"message","payload":[{"name":"body","text":"x"}]}'
	refused '{"kind":"message","payload":[{"name":"a","children":[{"name":"b","xmlns":"x"}]}]}'
	refused '{"kind":"message","type":"error","error":{"condition":"gone","code":"404"}}'
}

@test "an iq get or set without payload is bad input" {
	for type in get set; do
		run -65 json-to-stanza <<<"{\"kind\":\"iq\",\"type\":\"$type\",\"query\":\"x\"}"
		assert_line "json-to-stanza: stdin:1: a member that means nothing: 'query'"
		assert_line 'json-to-stanza: stdin:1: an iq of type get or set without payload'
		refused "{\"kind\":\"iq\",\"type\":\"$type\"}"
		refused "{\"kind\":\"iq\",\"type\":\"$type\",\"payload\":[]}"
		refused "{\"kind\":\"iq\",\"type\":\"$type\",\"payload\":[\"text\"]}"
	done
	to_stanza '{"kind":"iq","type":"set","payload":[{"name":"a"}]}' "<iq type='set'><a/></iq>"
	to_stanza '{"kind":"iq","type":"result"}' "<iq type='result'/>"
}

@test "objects may stand on several lines" {
	for shape in . --tab '--indent 7'; do
		# shellcheck disable=SC2086
		printf "%s\n" '{"kind":"iq","type":"get","payload":[{"name":"q","ns":"urn:{","attrs":{"a":"}\\\""},"children":["[",{"name":"b"}]}]}' |
			jq ${shape#.} . >pretty
		run -0 json-to-stanza < <(cat pretty pretty)
		assert_line --index 0 "<iq type='get'><q xmlns='urn:{' a='}\\\"'>[<b/></q></iq>"
		assert_line --index 1 "${lines[0]}"
		assert_equal "${#lines[@]}" 2
	done
	# an error is reported with the line where its object begins
	run -65 --separate-stderr json-to-stanza < <(
		printf '{\n "kind":"message",\n "x": 1\n}\n'
		printf '{\n "kind":"nothing"\n}\n'
	)
	assert_output '<message/>'
	assert_equal "$stderr" "json-to-stanza: stdin:1: a member that means nothing: 'x'
json-to-stanza: stdin:5: 'kind' is none of iq, message, presence"
}

@test "an object that is not closed ends where the next one begins" {
	run -65 --separate-stderr json-to-stanza < <(
		printf '{"kind":"message","id":"1"}\n'
		printf '{"kind":"message",\n "id":"2",\n'
		printf '{"kind":"message","id":"3"}\n'
		printf '{"kind":"message","id":"4\n "more":[\n'
		printf '{"kind":"message","id":"5"}\n'
		printf ' {"kind":"message","id":"6"}\n'
		printf '{"kind":\n'
	)
	assert_output "<message id='1'/>
<message id='3'/>
<message id='5'/>
<message id='6'/>"
	assert_equal "$stderr" "json-to-stanza: stdin:2: an object that is not closed
json-to-stanza: stdin:5: not JSON
json-to-stanza: stdin:9: an object that is not closed"
	# an object on many lines that is larger than a line may be
	run -65 --separate-stderr json-to-stanza --limit line-bytes=2000 < <(
		printf '{"kind":"message",\n'
		for _ in {1..100}; do printf '    "id":\n  \n"%020d",\n' 1; done
		printf '}\n{"kind":"presence"}\n'
	)
	assert_output '<presence/>'
	assert_equal "$stderr" 'json-to-stanza: stdin:1: an object too large'
}

@test "payload wins, and what contradicts it is bad input" {
	to_stanza '{"kind":"iq","payload":[{"name":"a","ns":"x"}]}' "<iq><a xmlns='x'/></iq>"
	to_stanza '{"kind":"iq","ns":"x","name":"a","payload":["t",{"name":"a","ns":"x"},{"name":"b"}]}' "<iq>t<a xmlns='x'/><b/></iq>"
	refused '{"kind":"iq","name":"b","payload":[{"name":"a","ns":"x"}]}'
	refused '{"kind":"iq","ns":"y","payload":[{"name":"a","ns":"x"}]}'
	refused '{"kind":"iq","name":"a","payload":[]}'
	refused '{"kind":"iq","type":"result","error":{"condition":"conflict"}}'
	refused '{"kind":"iq","error":{"condition":"conflict"}}'
	error='[{"name":"error","attrs":{"type":"wait"},"children":[{"name":"conflict","ns":"'$stanzas'"},{"name":"text","ns":"'$stanzas'","children":["no"]},{"name":"x","ns":"u"}]}]'
	run -0 json-to-stanza <<<'{"kind":"iq","type":"error","error":{"type":"wait","condition":"conflict","text":"no","app":"x"},"payload":'"$error}"
	for other in '"type":"cancel"' '"condition":"gone"' '"condition":"text"' '"text":"yes"' '"app":"y"'; do
		refused '{"kind":"iq","type":"error","error":{'"$other"'},"payload":'"$error}"
	done
	refused '{"kind":"iq","type":"error","error":{"condition":"conflict"},"payload":[]}'
}

@test "no number is guessed, no kind, no type of value" {
	for bad in '{"kind":"iq","id":1}' '{"kind":"iq","id":true}' '{"kind":"iq","to":["a"]}' '{"kind":"iq","lang":{}}' \
		'{"kind":"iq","attrs":{"a":1}}' '{"kind":"iq","attrs":{"a":null}}' '{"kind":"iq","attrs":[]}' \
		'{"kind":"iq","payload":[1]}' '{"kind":"iq","payload":[null]}' '{"kind":"iq","payload":{}}' '{"kind":"iq","payload":"a"}' \
		'{"kind":"iq","payload":[{"name":"a","children":[1]}]}' '{"kind":"iq","payload":[{"name":"a","children":"b"}]}' \
		'{"kind":"iq","payload":[{"name":"a","ns":1}]}' '{"kind":"iq","payload":[{}]}' '{"kind":"iq","payload":[["a"]]}' \
		'{"kind":"iq","payload":[{"name":1}]}' '{"kind":"a"}' '{}' '[]' '1' '"iq"' 'null' '{"v":2,"kind":"iq"}' '{"v":"1","kind":"iq"}'; do
		refused "$bad"
	done
}

@test "what no XML can hold is refused" {
	for bad in '"\u0000"' '"\u0001"' '"\uffff"' '"\ud83d"' '"\uDE00\uD83D"' '"\ud83d\\\ude00"' $'"\x01"' $'"\xff"' $'"\xed\xa0\x80"'; do
		refused '{"kind":"iq","id":'"$bad}"
		refused '{"kind":"iq","attrs":{"a":'"$bad}}"
		refused '{"kind":"iq","payload":['"$bad]}"
		refused '{"kind":"iq","payload":[{"name":"a","ns":'"$bad}]}"
	done
	for bad in '' 'a b' 'a:b' '1a' '<' 'a>' '×' $'\u2028' '/' "'"; do
		refused '{"kind":"iq","payload":[{"name":"'"$bad"'"}]}'
		refused '{"kind":"iq","attrs":{"'"$bad"'":"1"}}'
	done
	to_stanza '{"kind":"iq","payload":[{"name":"é"}]}' "<iq><é/></iq>"
}

@test "what is not one object of JSON a line is refused" {
	for bad in '' 'iq' '<iq/>' '{"kind":"iq"' '{"kind":"iq"}}' '{"kind":"iq"} {"kind":"iq"}' "{'kind':'iq'}" '{"kind":"iq",}' \
		'{"kind":"iq"}//' '{"v":01,"kind":"iq"}' '{"v":NaN,"kind":"iq"}' '{"kind":"iq","x":tru}'; do
		refused "$bad"
	done
	# only JSON's white space counts as such
	to_stanza '  { "kind" : "iq" , "payload": [ ] , "attrs":{ } }  ' "<iq/>"
	# the last line needs no newline
	run -0 json-to-stanza < <(printf '{"kind":"iq"}')
	assert_output "<iq/>"
}

@test "deep nesting, long lines, large stanzas: refused, and the rest goes on" {
	python3 - >deep.json <<-'END'
		print('{"kind":"iq","payload":[' + '{"name":"a","children":[' * 100000 + ']}' * 100000 + ']}')
		print('{"kind":"iq","x":' + '[' * 1000000 + '}')
		print('{"kind":"presence"}')
	END
	run -65 --separate-stderr json-to-stanza <deep.json
	assert_output "<presence/>"
	assert_equal "${#stderr_lines[@]}" 2
	run -65 --separate-stderr json-to-stanza --max-line-bytes 1024 < <(printf '{"kind":"iq","id":"%02000d"}\n{"kind":"iq"}\n' 1)
	assert_output "<iq/>"
	assert_equal "$stderr" "json-to-stanza: stdin:1: line too long"
	run -65 --separate-stderr json-to-stanza --max-stanza-bytes 1024 < <(printf '{"kind":"iq","id":"%02000d"}\n{"kind":"iq"}\n' 1)
	assert_output "<iq/>"
	assert_equal "$stderr" "json-to-stanza: stdin:1: stanza too large"
	# JSON whose memory would be hundreds of times its size
	run -65 --separate-stderr json-to-stanza --max-stanza-bytes 1024 < <(
		printf '{"kind":"iq","x":['
		printf '{},%.0s' {1..2000}
		printf '{}]}\n{"kind":"iq"}\n'
	)
	assert_output "<iq/>"
	assert_equal "$stderr" "json-to-stanza: stdin:1: too much for a stanza"
}

@test "each stanza is there as soon as it was read" {
	at_once json-to-stanza '{"kind":"iq"}'
}

@test "a full disk, no standard output, a reader that goes: 74; no standard input: 74" {
	lost_descriptors json-to-stanza '{"kind":"iq"}'
}
