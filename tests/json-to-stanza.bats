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
	to_stanza '  { "kind" : "iq" , "x": [1, {"y": null}] }  ' "<iq/>"
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
