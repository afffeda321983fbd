#!/usr/bin/env bats
# xmpp-iq: it prints the reply to its own request and no other, on real servers and on one that misbehaves on
# command.
# check-servers

# Variables are named after processes, and functions are called by name.
# shellcheck disable=SC2154,SC2317
load lib
load stream
load servers/both

setup_file() { both_start; }
setup() { secret_file; }
teardown() { stop_all; }

# --- on real servers

as_component()
{
	xmpp-iq --domain jat.test --connect "127.0.0.1:$(component_port jat.test)" \
		--secret-file "$SECRET_FILE" "$@"
}

as_user()
{
	xmpp-iq --jid "alice@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" --password-file "$PASSWORD_FILE" \
		--tls-ca "$TLS_CA" -q "$@"
}

both()
{
	for who in as_component as_user; do
		"$@"
	done
}

asks()
{
	run -0 "$who" --to "$XMPP_HOST" --disco-info
	assert_output --regexp "^<query .*http://jabber.org/protocol/disco#info.*</query>$"
	run -0 "$who" --to "${XMPP_HOST^^}" --ping
	assert_output ""
	run -0 "$who" --to "$XMPP_HOST" --disco-items --json
	assert_equal "$(jq -r '.type + " " + .from' <<<"$output")" "result $XMPP_HOST"
	run -0 "$who" --to "$XMPP_HOST" --version-of --stanza
	assert_output --regexp "^<iq .*jabber:iq:version.*</iq>$"
	run -0 "$who" --to "$XMPP_HOST" "<ping xmlns='urn:xmpp:ping'/>"
	run -0 "$who" --to "$XMPP_HOST" - <<<"<ping xmlns='urn:xmpp:ping'/>"
	run -0 "$who" --to "$XMPP_HOST" <<<"<ping xmlns='urn:xmpp:ping'/>"
	run -1 --separate-stderr "$who" --to "$XMPP_HOST" "<x xmlns='urn:x'/>"
	assert_output ""
	# shellcheck disable=SC2154
	[[ $stderr == "xmpp-iq: "*service-unavailable* || $stderr == "xmpp-iq: "*feature-not-implemented* ]]
	run -1 --separate-stderr "$who" --to "$XMPP_HOST" --disco-info --node "no such 'node'"
	assert_output ""
	[[ $stderr == "xmpp-iq: item-not-found"* ]]
	for bad in '' 'text' '<a>' '<a/><b/>' '<a/></iq><iq type="get"><b/>' '<!-- c -->'; do
		run -65 "$who" --to "$XMPP_HOST" - <<<"$bad"
	done
}

@test "one request, its own reply, errors, bad payloads (prosody)" {
	server_facts "$BATS_FILE_TMPDIR/prosody"
	both asks
}
@test "one request, its own reply, errors, bad payloads (ejabberd)" {
	server_facts "$BATS_FILE_TMPDIR/ejabberd"
	both asks
}

in_batches()
{
	for id in same same 3 4; do
		echo "<iq type='get' id='$id'><ping xmlns='urn:xmpp:ping'/></iq>"
	done >in
	run -0 "$who" --to "$XMPP_HOST" --batch --json <in
	assert_equal "$(jq -r .id <<<"$output" | tr '\n' ' ')" "same same 3 4 "
	run -0 "$who" --to "$XMPP_HOST" --batch --unordered --max-pending 1 <in
	assert_equal "${#lines[@]}" 4
	echo "<iq type='get' id='x'><x xmlns='urn:x'/></iq>" >>in
	run -1 "$who" --to "$XMPP_HOST" --batch --json <in
	assert_equal "$(tail -n 1 <<<"$output" | jq -r '.id + " " + .type')" "x error"
	# objects in, objects out; ids are restored, whatever they are, and an absent id stays absent
	printf '%s\n' "'\"<&>" $'a\nb\tc' 'ünï' '' "$(printf %05000d 1)" |
		jq -cR '{kind: "iq", type: "get", id: ., ns: "urn:xmpp:ping", name: "ping"}' >objects
	run -0 "$who" --to "$XMPP_HOST" --batch --json <objects
	assert_equal "$(jq -c '.id // ""' <<<"$output")" "$(jq -c .id objects)"
}

@test "--batch: in order, ids restored, 1 if any is an error (prosody)" {
	server_facts "$BATS_FILE_TMPDIR/prosody"
	both in_batches
}
@test "--batch: in order, ids restored, 1 if any is an error (ejabberd)" {
	server_facts "$BATS_FILE_TMPDIR/ejabberd"
	both in_batches
}

own_account()
{
	server_facts "$BATS_FILE_TMPDIR/$1"
	roster="<query xmlns='jabber:iq:roster'/>"
	run -0 as_user "$roster"
	assert_output --partial jabber:iq:roster
	for to in "" "to='alice@$XMPP_HOST'"; do
		run -0 as_user --batch <<<"<iq type='get' id='r' $to>$roster</iq>"
		assert_output --regexp "^<iq [^>]*id='r'.*jabber:iq:roster"
	done
	run -0 as_user --type set "<query xmlns='jabber:iq:roster'><item jid='x@y' name='X'/></query>"
	run -0 as_user --json "$roster"
	assert_equal "$(jq -r '.payload[0].children[0].attrs.name' <<<"$output")" X
	run -0 as_user --type set "<query xmlns='jabber:iq:roster'><item jid='x@y' subscription='remove'/></query>"
}
@test "a user's own account, named or not, get and set (prosody)" { own_account prosody; }
@test "a user's own account, named or not, get and set (ejabberd)" { own_account ejabberd; }

@test "standard output that cannot be written: 74, also while nothing is to be written" {
	server_facts "$BATS_FILE_TMPDIR/prosody"
	ping="<iq type='get' to='$XMPP_HOST'><ping xmlns='urn:xmpp:ping'/></iq>"
	to_full() { "$@" >/dev/full; }
	to_nothing() { "$@" >&-; }
	for who in as_component as_user; do
		run -74 to_full "$who" --batch <<<"$ping"
		assert_output 'xmpp-iq: cannot write standard output: No space left on device'
		run -74 to_nothing "$who" --batch <<<"$ping"
		assert_output 'xmpp-iq: cannot write standard output: Bad file descriptor'
		run -74 to_full "$who" --to "$XMPP_HOST" --disco-info
		run -74 to_nothing "$who" --to "$XMPP_HOST" --disco-info
	done
	# the reader has gone, and the reply never comes
	fake 'up ; take 1 ; say taken ; wait-close'
	mkfifo gone
	start reader cat gone
	write_to=gone start asking asking --ping
	wait_for grep -q taken fake.out
	end reader || true
	status=0
	await asking || status=$?
	assert_equal "$status" 74
}

# --- on a server that misbehaves on command

# ask OPTION...: run xmpp-iq with a time limit. asking: the same for start; reads the file $read_from, writes the
# file $write_to
asking()
{
	[[ -z ${read_from:-} ]] || exec <"$read_from"
	[[ -z ${write_to:-} ]] || exec >"$write_to"
	exec ${limit:-} xmpp-iq --domain d.test --to vhost.test --connect "127.0.0.1:$FAKE_PORT" \
		--secret-file secret "$@"
}
asking_as_user()
{
	[[ -z ${read_from:-} ]] || exec <"$read_from"
	exec ${limit:-} xmpp-iq --jid john@vhost.test/r --tls off --connect "127.0.0.1:$FAKE_PORT" \
		--password-file secret -q "$@"
}
ask() { (limit="timeout 60" asking "$@"); }
ask_as_user() { (limit="timeout 60" asking_as_user "$@"); }

# requests N [TEXT]: print requests with the ids 1 to N
requests() { seq "$1" | sed "s|.*|<iq type='get' id='&'><q xmlns='urn:q'>${2:-}</q></iq>|"; }
# ids_of FILE: print each id with the type, or with the condition of the error
ids_of()
{
	sed -E "s/^<iq [^>]*id=[\"']([^\"']*)[^>]*><error[^>]*><([a-z-]+) .*/\1 \2/; t
		s/^<iq [^>]*id=[\"']([^\"']*).*/\1/" "$1" | paste -sd,
}

reply="<iq type='result' from='vhost.test' to='d.test' id='@1'><right xmlns='urn:q'/></iq>"
forged=(
	"from='mallory@evil.test/x' id='@1'"
	"from='evil.test' id='@1'"
	"from='vhost.test/x' id='@1'"
	"from='x@vhost.test' id='@1'"
	"from='VHOST.test' id='@1'"
	"from='d.test' id='@1'"
	"from='' id='@1'"
	"id='@1'"
	"xmlns:y='urn:y' y:from='vhost.test' id='@1'"
	"from='vhost.test'"
	"from='vhost.test' id=''"
	"from='vhost.test' id='@1x'"
	"from='vhost.test' id=' @1'"
	"from='vhost.test' id='q'"
	"from='vhost.test' id='00000000000000000000000000000000-1'"
	"from='vhost.test' xmlns:y='urn:y' y:id='@1'"
)

@test "a reply is taken from who was asked, with the request's own id, and no other" {
	lies=
	for lie in "${forged[@]}"; do
		lies+="send <iq type='result' to='d.test' $lie><wrong xmlns='urn:q'/></iq>
			send <iq type='error' to='d.test' $lie><error type='cancel'/></iq>
			"
	done
	lies+="send <message from='vhost.test' id='@1'><wrong xmlns='urn:q'/></message>
		send <iq type='get' from='vhost.test' to='d.test' id='@1'><wrong xmlns='urn:q'/></iq>
		expect <iq type=.error. id=.[^>]* to=.vhost.test. from=.d.test.><error type=.wait.><recipient-unavailable
		send <iq type='nothing' from='vhost.test' id='@1'><wrong xmlns='urn:q'/></iq>"
	fake "up
		take 1
		$lies
		send $reply
		wait-close"
	run -0 ask --ping
	assert_output "<right xmlns='urn:q'/>"
	await fake
	# nothing waits for the second reply
	fake "up
		take 2
		$lies
		send $reply
		send ${reply/right/second}
		send ${reply/1/2}
		send ${reply/right/third}
		wait-close"
	run -0 ask --batch < <(requests 2)
	assert_line --index 0 "${reply/@1/1}"
	assert_line --index 1 "${reply/@1/2}"
	assert_equal "${#lines[@]}" 2
	await fake
	# --to need not be in prepared form
	fake "up
		take 2
		send ${reply/vhost/Vhost}
		send ${reply/vhost/VHOST}
		send ${reply/@1/@2}
		wait-close"
	run -0 ask --to VHOST.test --batch < <(requests 2)
	assert_line --index 0 --partial VHOST.test
	assert_line --index 1 --partial vhost.test
}

@test "where a user names nobody, the account answers, with its address, none or the server's" {
	lies=
	for lie in "from='mallory@vhost.test'" "from='mallory@evil.test/x'" "from='john@vhost.test/r'" "from='evil.test'" \
		"from='john@evil.test'" "from='JOHN@vhost.test'" "from='vhost.test/john'"; do
		lies+="send <iq type='result' id='@1' $lie><wrong xmlns='urn:q'/></iq>
			"
	done
	right="><right xmlns='urn:q'/></iq>"
	wrong="><wrong xmlns='urn:q'/></iq>"
	fake "log-in john@vhost.test/r
		take 5
		$lies
		send <iq type='result' id='@1' to='john@vhost.test/r'$right
		send <iq type='result' id='@2' from='john@vhost.test'$right
		send <iq type='result' id='@3' from='vhost.test'$right
		send <iq type='result' id='@4' from='vhost.test'$wrong
		send <iq type='result' id='@4' from='john@vhost.test'$right
		send <iq type='error' id='@5'$wrong
		send <iq type='error' id='@5' from='john@vhost.test'$wrong
		send <iq type='result' id='@5' from='other.test'$right
		wait-close"
	for to in "" "" "" "to='john@vhost.test'" "to='other.test'"; do
		echo "<iq type='get' $to><q xmlns='urn:q'/></iq>"
	done >in
	run -0 ask_as_user --batch <in
	assert_equal "${#lines[@]}" 5
	refute_output --partial wrong
	assert_line --index 3 --partial "from='john@vhost.test'"
	assert_line --index 4 --partial "from='other.test'"
}

@test "an error: condition and text on stderr, 1; the whole of it with --stanza and --json" {
	error="<error type='modify'><bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no &lt;such&gt; thing</text></error>"
	fake --forever "up
		take 1
		send <iq type='error' from='vhost.test' id='@1'>$error</iq>
		wait-close"
	run -1 --separate-stderr ask --ping
	assert_output ''
	assert_equal "$stderr" 'xmpp-iq: bad-request: no <such> thing'
	run -1 --separate-stderr ask --ping --stanza
	assert_output --partial "$error</iq>"
	assert_equal "$stderr" 'xmpp-iq: bad-request: no <such> thing'
	run -1 --separate-stderr ask --ping --json
	assert_equal "$(jq -r '.error.condition + " " + .error.text' <<<"$output")" 'bad-request no <such> thing'
	run -1 --separate-stderr ask --batch <<<"<iq type='get' id='1'><x/></iq>"
	assert_output --partial "id='1'"
	assert_equal "$stderr" ''
	fake 'up ; take 1 ; send <iq type="error" from="vhost.test" id="@1"/> ; wait-close'
	run -1 --separate-stderr ask --ping
	assert_equal "$stderr" 'xmpp-iq: undefined-condition'
}

@test "what the options ask for" {
	scripts=()
	asks=()
	asks_for()
	{
		scripts+=("up ; expect $1 ; close")
		asks+=("$(printf '%q ' "${@:2}")")
	}
	asks_for "^<iq type=.get. to=.vhost.test. from=.d.test. id=.[0-9a-f-]{34,}.><ping xmlns=.urn:xmpp:ping./></iq>$" --ping
	asks_for "type=.get.[^>]*><query xmlns=.jabber:iq:version./></iq>$" --version-of
	asks_for "type=.get.[^>]*><query xmlns=.http://jabber.org/protocol/disco#info./></iq>$" --disco-info
	asks_for "<query xmlns=.[^ ]*#info. node='a&amp;&apos;b\"'/></iq>$" --disco-info --node "a&'b\""
	asks_for "<query xmlns=.[^ ]*#items. node='x'/></iq>$" --disco-items --node x
	asks_for "type=.set.[^>]*> <a xmlns=.urn:a.>&#10;<iq type=.get. id=.x./></a></iq>$" --type set \
		" <a xmlns='urn:a'>
<iq type='get' id='x'/></a>"
	fake "${scripts[@]}"
	for ask in "${asks[@]}"; do eval "run -75 ask $ask"; done
	await fake
}

@test "a payload that is none: 65, before anything is connected to" {
	FAKE_PORT=1
	deep=$(printf '<a>%.0s' {1..300})
	for bad in '' ' ' text '<a>' '</a>' '<a/><b/>' '<a/>b' 'a<b/>' '<a/>&#65;' '<![CDATA[]]><a/>' '<a></b>' '<a b/>' \
		'<a/></iq>' '<a/></iq><iq type="get"><b/>' '<a/></iq></stream:stream>' '<!-- c --><a/>' '<?pi?><a/>' \
		'<!DOCTYPE a><a/>' '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>' '<a>&b;</a>' '<b:a/>' $'<a>\xff</a>' \
		"$deep${deep//</<\/}"; do
		run -65 ask "$bad"
		assert_output --partial 'xmpp-iq: the payload: '
		run -65 ask <<<"$bad"
		assert_output --partial 'xmpp-iq: the payload: '
	done
	run -65 ask < <(printf '<a>\0</a>')
	run -69 ask '<a/>'
	run -69 ask <<<$'\n <a>\n</a>\n'
	run -74 ask </
	without_input() { "$@" <&-; } # `run` itself needs its descriptors
	run -74 without_input ask
	run -64 ask '<a/>' '<b/>'
	run -64 ask --ping '<a/>'
	run -64 ask --ping --type set
	run -64 ask --ping --version-of
	run -64 ask --batch --ping
	run -64 ask --batch '<a/>'
	run -64 ask --node x '<a/>'
	run -64 ask --unordered '<a/>'
	run -64 ask --stanza --json '<a/>'
	run -64 ask --to 'a b@c' '<a/>'
	run -64 ask --disco-info --node $'\x01'
	# it does not wait for a payload on standard input that never comes
	mkfifo open
	exec {open}<>open
	for signal in TERM INT; do
		read_from=open start asking asking
		wait_for caught "$asking_pid"
		status=0
		end asking "$signal" || status=$?
		assert_equal "$status" 75
	done
	exec {open}>&-
}
# caught PID: PID is xmpp-iq and catches SIGTERM and SIGINT. Its name is checked first: the shell that becomes
# xmpp-iq catches signals, too.
caught()
{
	local signals
	! grep -q '^Name:.*bash' "/proc/$1/status" || return 1
	signals=$(sed -n 's/^SigCgt:.*\(....\)$/\1/p' "/proc/$1/status")
	(((0x$signals & 0x4002) == 0x4002))
}

@test "no reply in time: 124; in a batch an error in its place, in order, and 1" {
	fake 'up ; take 1 ; wait-close'
	run -124 --separate-stderr ask --ping --timeout 3 # the login counts
	assert_equal "$stderr" 'xmpp-iq: no reply'
	fake 'up ; take 1 ; wait-close'
	run -124 --separate-stderr ask --ping --json --reply-timeout 0.1
	assert_output ''
	assert_equal "$stderr" 'xmpp-iq: no reply'
	fake 'up
		take 5
		send <iq type="result" from="vhost.test" id="@4"/>
		send <iq type="result" from="vhost.test" id="@2"/>
		wait-close'
	ask --batch --reply-timeout 3 < <(requests 5) >out || status=$?
	assert_equal "$status" 1
	assert_equal "$(ids_of out)" '1 remote-server-timeout,2,3 remote-server-timeout,4,5 remote-server-timeout'
	assert_equal "$(head -n 1 out)" "<iq type='error' id='1' to='d.test' from='vhost.test'><error type='wait'><remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no reply</text></error></iq>"
	# each timeout runs from the moment its request was sent
	fake 'up ; wait-close'
	ask --batch --json --reply-timeout 0.1 --max-pending 2 < <(requests 5) >out || status=$?
	assert_equal "$status" 1
	assert_equal "$(jq -r '.id + .error.condition' out | paste -sd,)" "$(printf '%sremote-server-timeout\n' 1 2 3 4 5 | paste -sd,)"
}

# Once the request behind it is answered, the third reply has been read.
delayed='up
	take 3
	send <iq type="result" from="vhost.test" id="@3"/>
	send <iq type="get" from="vhost.test" to="d.test" id="p"><x/></iq>
	expect recipient-unavailable
	say looked-at
	wait-for go
	send <iq type="result" from="vhost.test" id="@2"/>
	send <iq type="result" from="vhost.test" id="@1"/>
	wait-close'

@test "replies come in the order of the requests, with --unordered as they come" {
	requests 3 >in
	fake "$delayed"
	read_from=in start asking asking --batch
	wait_for grep -q looked-at fake.out
	assert_equal "$(cat asking.out)" ''
	touch go
	await asking
	assert_equal "$(ids_of asking.out)" 1,2,3
	rm go
	fake "$delayed"
	read_from=in start asking asking --batch --unordered
	wait_for grep -q "id='3'" asking.out
	assert_equal "$(ids_of asking.out)" 3
	touch go
	await asking
	assert_equal "$(ids_of asking.out)" 3,2,1
}

@test "what is wrong with a line is said with its number; each request has one line out; 65" {
	ok='serve 3 <iq type="result" from="vhost.test" id="@id"/>'
	fake "up ; $ok ; wait-close" "up ; $ok ; wait-close"
	cat >in <<-END
		<iq type='get' id='1'><q/></iq>
		<iq type='get' id='2'><q></iq>
		<message to='vhost.test'><body>hi</body></message>
		<presence/>
		<iq type='result' id='5' to='vhost.test'/>
		<iq type='error' id='6' to='vhost.test'/>
		<iq type='get' id='7'/>
		<iq type='set' id='8'><a/><b/></iq>
		<iq type='get' id='9' to='@'><a/></iq>

		<iq id='11'><a/></iq>
		<iq type='get'
			id='12'><q/></iq> <iq type='set' id='13'><q/></iq>
		<iq type='get' id='14'><q>$(printf %03000d 1)</q></iq>
		<x/>
		<iq type='get' id='16
	END
	status=0
	ask --batch --max-stanza-bytes 2K <in >out 2>err || status=$?
	assert_equal "$status" 65
	assert_equal "$(ids_of out)" '1,7 bad-request,8 bad-request,9 bad-request,12,13,14 policy-violation'
	assert_equal "$(grep -o '^xmpp-iq: stdin:[0-9]*: ' err | grep -o '[0-9]*' | paste -sd,)" 2,3,4,5,6,7,8,9,11,14,15,16
	# the same with objects among them
	sed -e '1s/.*/ {"kind":"iq","type":"get","id":"1","payload":[{"name":"q"}]}/' \
		-e '2s/.*/{"kind":"iq","type":"get","id":"2"/' -e '3s/.*/{"kind":"message"}/' \
		-e '4s/.*/{"kind":"iq","type":"get","id":4}/' \
		-e '7s/.*/{"kind":"iq","type":"get","id":"7"}/' in >objects
	status=0
	ask --batch --json --max-stanza-bytes 2K <objects >out 2>err || status=$?
	assert_equal "$status" 65
	assert_equal "$(jq -r '[.id, .error.condition // empty] | join(" ")' out | paste -sd,)" \
		'1,7 bad-request,8 bad-request,9 bad-request,12,13,14 policy-violation'
	assert_equal "$(grep -o '^xmpp-iq: stdin:[0-9]*: ' err | grep -o '[0-9]*' | paste -sd,)" 2,3,4,5,6,7,8,9,11,14,15,16
	# a component must give --to
	fake --forever 'up ; wait-close'
	run -65 xmpp-iq --domain d.test --connect "127.0.0.1:$FAKE_PORT" --secret-file secret --batch < <(requests 1)
	assert_line "xmpp-iq: stdin:1: no 'to' and no --to"
	assert_line --partial '<bad-request '
	# a reply over a limit
	fake "up ; take 1 ; send <iq type='result' from='vhost.test' id='@1'><q>$(printf %03000d 1)</q></iq> ; wait-close"
	run -1 ask --batch --max-stanza-bytes 2K < <(requests 1)
	assert_output --partial 'policy-violation'
	assert_output --partial 'the reply is over a limit'
	# a request larger than servers take
	fake "up ; serve 1 <iq type='result' from='vhost.test' id='@id'/> ; wait-close"
	ask --batch --max-send-bytes 2K < <(requests 1 "$(printf %03000d 1)"; requests 2 | tail -n 1) >out || status=$?
	assert_equal "$(ids_of out)" '1 policy-violation,2'
}

# ended STATUS: asking has ended with STATUS and has written one line for each request, after the replies that
# had come
ended()
{
	local status=0
	await asking || status=$?
	assert_equal "$status" "$1"
	assert_equal "$(ids_of asking.out)" '1,2 recipient-unavailable,3,4 recipient-unavailable'
}

@test "a connection that is lost: what has come is printed, an error for each that is open, 75" {
	lost='take 4
		send <iq type="result" from="vhost.test" id="@3"/>
		send <iq type="result" from="vhost.test" id="@1"/>
		wait-for go
		reset'
	mkfifo open
	exec {open}<>open
	requests 4 >&"$open"
	fake "up
		$lost"
	read_from=open start asking asking --batch
	wait_for grep -q "id='1'" asking.out
	touch go
	ended 75
	rm go
	assert_file_contains asking.err 'connection lost: 2 requests without reply'
	requests 4 >in
	fake "log-in john@vhost.test/r
		$lost"
	read_from=in start asking asking_as_user --batch --to vhost.test
	wait_for grep -q "id='1'" asking.out
	touch go
	ended 75
	exec {open}>&-
	# requests that were read but not sent are reported, too; a single request prints nothing
	fake 'up
		take 1
		close'
	ask --batch --max-pending 1 < <(requests 3) >out || status=$?
	assert_equal "$status" 75
	assert_equal "$(ids_of out)" '1 recipient-unavailable,2 recipient-unavailable,3 recipient-unavailable'
	assert_equal "$(grep -c '>not sent<' out)" 2
	fake --forever 'up
		take 1
		close'
	ask --batch --json --max-pending 1 < <(requests 3) >out || status=$?
	assert_equal "$status" 75
	assert_equal "$(jq -r .error.condition out | sort | uniq -c | xargs)" '3 recipient-unavailable'
	ask --batch --json --max-pending 1 < <(requests 3 | tr -d '\n') >out || status=$?
	assert_equal "$status" 75
	assert_equal "$(jq -r '.id + " " + .error.text' out | paste -sd,)" '1 connection lost,2 not sent,3 not sent'
	run -75 --separate-stderr ask --ping --stanza
	assert_output ''
}

@test "SIGTERM and SIGINT: what has come is printed, an error for each that is open, 75" {
	mkfifo open
	exec {open}<>open
	for signal in TERM INT; do
		requests 4 >&"$open"
		fake 'up
			take 4
			send <iq type="result" from="vhost.test" id="@3"/>
			send <iq type="result" from="vhost.test" id="@1"/>
			expect </stream:stream>
			end
			close'
		read_from=open start asking asking --batch
		wait_for grep -q "id='1'" asking.out
		kill -s "$signal" "$asking_pid"
		ended 75
		assert_file_contains asking.err 'interrupted: 2 requests without reply'
		await fake # the stream was closed in order
	done
	exec {open}>&-
	fake 'up ; take 1 ; say taken ; wait-close'
	start asking asking --ping --stanza
	wait_for grep -q taken fake.out
	status=0
	end asking || status=$?
	assert_equal "$status" 75
	assert_equal "$(cat asking.out)" ''
}

@test "ten thousand requests, few on their way" {
	fake --forever "up ; serve 10000 <iq type='result' from='vhost.test' id='@id'/> ; wait-close"
	ask --batch --max-pending 50 < <(requests 10000) >out
	assert_equal "$(ids_of out | md5sum)" "$(seq 10000 | paste -sd, | md5sum)"
	seq 10000 | sed 's/.*/{"kind":"iq","type":"get","id":"&","ns":"urn:q","name":"q"}/' >objects
	ask --batch --json --unordered <objects >out
	assert_equal "$(jq -r .id out | sort -n | paste -sd, | md5sum)" "$(seq 10000 | paste -sd, | md5sum)"
	# all on one line
	fake --forever "up ; serve 500 <iq type='result' from='vhost.test' id='@id'/> ; wait-close"
	for json in '' --json; do
		# shellcheck disable=SC2086
		ask --batch $json --max-pending 3 < <(requests 500 | tr -d '\n') >out
		assert_equal "$(grep -o "id[=:'\"]*[0-9]*" out | grep -o '[0-9]*' | paste -sd,)" "$(seq 500 | paste -sd,)"
	done
}

# reads NAME BYTES: NAME has read so many bytes of the file that is its standard input
reads() { (($(sed -n 's/^pos:[[:space:]]*//p' "/proc/${started[$1]}/fdinfo/0" || echo 0) >= $2)); }
# thrifty NAME KIB: it never had more memory; not with sanitizers and valgrind, which keep freed memory
thrifty()
{
	[[ -n ${WRAP:-} || ! -e $BUILDDIR/preload/failmalloc.so ]] ||
		assert [ "$(hwm_kib "${started[$1]}")" -lt "$2" ]
}

@test "a server that does not read: requests wait, none is refused" {
	requests 2500 "$(printf %06000d 1)" >in
	fake "deaf
		up
		wait-for go
		serve 2500 <iq type='result' from='vhost.test' id='@id'/>
		wait-close"
	read_from=in start asking asking --batch --max-queue-bytes 64K --max-stanza-bytes 16K --max-pending 100000
	wait_for reads asking 60000
	touch go
	await asking
	assert_equal "$(ids_of asking.out | md5sum)" "$(seq 2500 | paste -sd, | md5sum)"
}

# held_up FIFO SECONDS: for so long more is written to the FIFO than it takes
held_up()
{
	python3 -c '
import array, fcntl, sys, termios, time
held = array.array("i", [0])
fcntl.ioctl(int(sys.argv[1]), termios.FIONREAD, held)
if held[0] < 60000: sys.exit(1)
time.sleep(float(sys.argv[2]))' "$1" "$2"
}

@test "a reader that does not read: bounded, nothing lost, and nothing is late for it" {
	requests 800 >in
	body=$(printf %010000d 1)
	fake --forever "up ; serve 800 <iq type='result' from='vhost.test' id='@id'><q xmlns='urn:q'>$body</q></iq> ; wait-close"
	mkfifo slow
	exec {slow}<>slow
	# longer than a reply may take
	for options in '2 --reply-timeout 1.5' '0 --unordered'; do
		# shellcheck disable=SC2086
		read_from=in write_to=slow start asking asking --batch --max-pending 20 \
			--max-queue-bytes 256K --max-stanza-bytes 16K ${options#* }
		wait_for held_up "$slow" "${options%% *}"
		thrifty asking 8000
		head -n 800 <slow | cut -c 1-100 >out
		await asking
		assert_equal "$(ids_of out | md5sum)" "$(seq 800 | paste -sd, | md5sum)"
	done
	# after a signal the program does not wait for its reader for ever
	read_from=in write_to=slow start asking asking --batch --max-queue-bytes 256K --max-stanza-bytes 16K
	wait_for held_up "$slow" 0
	kill -TERM "$asking_pid"
	wait_for grep -q interrupted asking.err
	status=0
	end asking || status=$?
	assert_equal "$status" 75
	# nor is it ended by a reader that takes the rest after all
	exec {slow}>&- # what it holds would look like the next one's output
	rm slow
	mkfifo slow
	exec {slow}<>slow
	read_from=in write_to=slow start asking asking --batch --max-pending 20 --max-queue-bytes 256K --max-stanza-bytes 16K
	wait_for held_up "$slow" 0
	kill -TERM "$asking_pid"
	wait_for grep -q interrupted asking.err
	start reader cat slow
	status=0
	await asking || status=$?
	assert_equal "$status" 75
	end reader || true
	exec {slow}>&-
}

@test "replies that wait for an earlier one are bounded in bytes: it is given up" {
	body=$(printf %020000d 1)
	# 300 requests are on their way before the size of a reply is known
	fake "up
		take 300
		answer 2 300 <iq type='result' from='vhost.test' id='@id'><q xmlns='urn:q'>$body</q></iq>
		wait-for go
		send <iq type='result' from='vhost.test' id='@1'/>
		wait-close"
	requests 300 >in
	read_from=in start asking asking --batch --max-queue-bytes 1M --max-stanza-bytes 64K
	wait_for grep -q "id='300'" asking.out
	thrifty asking 10000
	touch go
	status=0
	await asking || status=$?
	assert_equal "$status" 1
	assert_equal "$(ids_of asking.out)" "1 resource-constraint,$(seq 2 300 | paste -sd,)"
	# once replies are known to be large, requests wait until there is room
	rm go
	large="<iq type='result' from='vhost.test' id='@id'><q xmlns='urn:q'>$body</q></iq>"
	fake "up
		serve 1 $large
		take 40
		silent 0.2 (<iq.*){20}
		answer 2 40 $large
		silent 0.2 (<iq.*){20}
		answer 1 1 $large
		serve 259 $large
		wait-close"
	mkfifo open
	read_from=open start asking asking --batch --max-queue-bytes 1M --max-stanza-bytes 64K
	exec {open}>open
	head -n 1 in >&"$open"
	wait_for grep -q "id='1'" asking.out
	tail -n +2 in >&"$open"
	exec {open}>&-
	await asking
	await fake
	assert_equal "$(ids_of asking.out)" "$(seq 300 | paste -sd,)"
}

# --- one payload to each address

asks_each()
{
	printf '%s\n' "$XMPP_HOST" '' " ${XMPP_HOST^^} " "nobody@$XMPP_HOST/x" '@' >jids
	run -65 --separate-stderr "$who" --ping --each <jids
	assert_line --index 0 "$XMPP_HOST"$'\t'
	assert_line --index 1 "${XMPP_HOST^^}"$'\t'
	assert_line --index 2 "nobody@$XMPP_HOST/x"$'\tservice-unavailable'
	assert_line --index 3 $'@\tbad-request'
	assert_equal "${#lines[@]}" 4
	assert_equal "$stderr" "xmpp-iq: stdin:5: 'to' is no address"
	head -n 4 jids >good
	run -1 "$who" --each --version-of <good
	assert_line --index 0 --regexp "^$XMPP_HOST"$'\t'"<query .*jabber:iq:version.*</query>$"
	run -1 "$who" --each --version-of --json <good
	assert_equal "$(jq -r '.from + " " + .type' <<<"$output" | tr '[:upper:]' '[:lower:]')" \
		"$XMPP_HOST result"$'\n'"$XMPP_HOST result"$'\n'"nobody@$XMPP_HOST/x error"
	run -1 "$who" --each --stanza "<ping xmlns='urn:xmpp:ping'/>" <good
	assert_line --index 0 --regexp "^$XMPP_HOST"$'\t'"<iq .*type='result'"
	run -0 "$who" --each --ping </dev/null
	assert_output ''
	# many, and without order
	yes "$XMPP_HOST" | head -n 3000 >many
	run -0 "$who" --each --ping --unordered <many
	assert_equal "$(sort <<<"$output" | uniq -c | xargs)" "3000 $XMPP_HOST"
}
@test "--each: one payload to each JID, a line for each (prosody)" { server_facts "$BATS_FILE_TMPDIR/prosody" && both asks_each; }
@test "--each: one payload to each JID, a line for each (ejabberd)" { server_facts "$BATS_FILE_TMPDIR/ejabberd" && both asks_each; }

@test "--each goes with a payload, and not with what else says whom to ask" {
	for wrong in '--each' '--each -' '--each --to a.test --ping' '--each --batch --ping' '--batch --ping'; do
		# shellcheck disable=SC2086
		run -64 xmpp-iq --domain d.test --secret-file secret $wrong </dev/null
	done
	assert_line --index 0 --partial '--each sends one payload'
}

@test "--each: what nobody answers in time, and a wrong address is told at -v" {
	fake "up
		take 2
		send <iq type='result' id='@1' from='other.test' to='d.test'/>
		send <iq type='result' id='@2' from='b.test' to='d.test'/>
		wait-close"
	run -1 --separate-stderr ask_each --reply-timeout 3 -v < <(printf 'a.test\nb.test\n')
	assert_equal "$output" $'a.test\tremote-server-timeout\nb.test\t'
	assert_regex "$stderr" "right id from a wrong address: from 'other.test', asked was 'a.test'"
	await fake
	fake "up
		take 1
		send <iq type='result' id='@1' from='other.test' to='d.test'/>
		send <iq type='result' id='@1' from='a.test' to='d.test'/>
		wait-close"
	run -0 --separate-stderr ask_each <<<a.test
	assert_equal "$stderr" ''
}
ask_each() { limit="timeout 60" xmpp-iq --domain d.test --connect "127.0.0.1:$FAKE_PORT" --secret-file secret --each --ping "$@"; }
