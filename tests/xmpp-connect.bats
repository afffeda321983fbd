#!/usr/bin/env bats
# xmpp-connect on real servers: as component and as user.
# check-servers

# Variables are named after processes, and functions are called by name.
# shellcheck disable=SC2154,SC2317
load lib
load servers/both

setup_file() { both_start; }
teardown() { stop_all; }

as_component()
{
	local domain=$1
	shift
	xmpp-connect --domain "$domain" --connect "127.0.0.1:$(component_port "$domain")" \
		--secret-file "$SECRET_FILE" "$@"
}

as_user()
{
	local jid=$1
	shift
	[[ $jid == *@* ]] || jid=$jid@$XMPP_HOST/$jid
	xmpp-connect --jid "$jid" --connect "127.0.0.1:$C2S_PORT" --password-file "$PASSWORD_FILE" \
		--tls-ca "$TLS_CA" -q "$@"
}

# listen NAME component|user WHO [OPTION...]: start it; it is logged in when this returns, and runs until
# `hang_up NAME`. `say NAME STANZA...` sends.
inputs=()
listen()
{
	local name=$1 kind=$2 who=$3 fd
	shift 3
	rm -f "$name.in" "$name.ready"
	mkfifo "$name.in" "$name.ready"
	start "$name" _listen "$name" "as_$kind" "$who" "$@"
	exec {fd}>"$name.in"
	inputs+=("$fd")
	printf -v "${name}_in" %s "$fd"
	read -r -t 20 <"$name.ready" || {
		echo "$name is not ready" >&2
		return 1
	}
}
# exec, so that start() knows the program's id; close the inputs of others.
_listen()
{
	local name=$1 fd
	shift
	for fd in "${inputs[@]}"; do
		exec {fd}>&-
	done
	exec <"$name.in"
	xmpp-connect() { exec env xmpp-connect --ready-fd 9 "$@" 9>"$name.ready"; }
	"$@"
}

# ends NAME STATUS: it ends by itself with STATUS
ends()
{
	local status=0
	await "$1" || status=$?
	assert_equal "$1: $status" "$1: $2"
}

say()
{
	local fd=${1}_in
	shift
	printf '%s\n' "$@" >&"${!fd}"
}

hang_up()
{
	local fd=${1}_in
	fd=${!fd}
	exec {fd}>&-
}

saw() { grep -q -- "$2" "$1.out"; }

disco="<query xmlns='http://jabber.org/protocol/disco#info'/>"

# --- logging in

component_asks_the_server()
{
	on "$1"
	as_component jat.test >out <<<"<iq type='get' id='a1' to='$XMPP_HOST'>$disco</iq>"
	assert_equal "$(wc -l <out)" 1
	assert_file_contains out "^<iq .*type='result'.*</iq>$"
	assert_file_contains out " to='jat.test'"
	run grep -c xmlns=.jabber:component out
	assert_output 0
	# ejabberd answers from the address in the form that was typed
	as_component jat.test >out <<<"<iq type='get' id='a1' to='${XMPP_HOST^^}'>$disco</iq>"
	assert_file_contains out "^<iq .*type='result'.*</iq>$"
}
@test "--connect :PORT with --jid is loopback" {
	(umask 077 && echo secret >password)
	run -69 xmpp-connect --jid me@h.test --password-file password --tls off --connect :1 </dev/null
	assert_output --partial 'cannot connect to :1: Connection refused'
}

@test "a component asks the server and gets its answer (prosody)" { component_asks_the_server prosody; }
@test "a component asks the server and gets its answer (ejabberd)" { component_asks_the_server ejabberd; }

user_asks_the_server()
{
	on "$1"
	# TLS is required, and the certificate is checked against the domain, not against --connect
	as_user alice >out <<<"<iq type='get' id='a1' to='$XMPP_HOST'>$disco</iq>"
	assert_file_contains out "^<iq .*type='result'.*</iq>$"
	as_user alice >out <<<"<iq type='get' id='a1' to='${XMPP_HOST^^}'>$disco</iq>"
	assert_file_contains out "^<iq .*type='result'.*</iq>$"
	# without `to` the user's own account answers, with its address or without one
	as_user "alice@$XMPP_HOST" >out <<<"<iq type='get' id='r1'><query xmlns='jabber:iq:roster'/></iq>"
	assert_file_contains out "^<iq .*type='result'.*jabber:iq:roster"
	run grep -c xmlns=.jabber:client out
	assert_output 0
}
@test "a user asks the server and gets its answer (prosody)" { user_asks_the_server prosody; }
@test "a user asks the server and gets its answer (ejabberd)" { user_asks_the_server ejabberd; }

@test "direct TLS" {
	on prosody
	C2S_PORT=$C2S_TLS_PORT
	as_user alice --tls direct >out <<<"<iq type='get' id='a1' to='$XMPP_HOST'>$disco</iq>"
	assert_file_contains out "type='result'"
	run as_user alice@badcert.test --tls direct <<<''
	assert_failure 76
	assert_output --partial mismatch
}

@test "addresses people type are normalised, also to match answers" {
	on prosody
	xmpp-connect --jid "ALICE@VHOST.test/r" --connect "localhost:$C2S_PORT" --tls off \
		--password-file "$PASSWORD_FILE" --wait 20 >out \
		<<<"<iq type='get' id='a1' to='VHOST.TEST'>$disco</iq>"
	assert_file_contains out "type='result'"
	for kind in prosody ejabberd; do # Prosody and ejabberd answer from different forms of this address
		on "$kind"
		as_component jat.test <<<"<iq type='get' id='a1' to='VHOST.TEST' from='X@jat.test'>$disco</iq>" >out
		assert_file_contains out "type='result'"
	done
}

@test "no TLS: on loopback addresses only" {
	on prosody
	xmpp-connect --jid "alice@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" --tls off -q \
		--password-file "$PASSWORD_FILE" >out <<<"<iq type='get' id='a1' to='$XMPP_HOST'>$disco</iq>"
	assert_file_contains out "type='result'"
	for address in 192.0.2.1:5222 '[2001:db8::1]:5222'; do
		run xmpp-connect --jid "alice@$XMPP_HOST" --connect "$address" --tls off -q \
			--password-file "$PASSWORD_FILE" </dev/null
		assert_failure 64
		assert_output --partial 'loopback addresses only'
	done
	# and not where the server requires TLS
	run xmpp-connect --jid alice@tls.test --connect "127.0.0.1:$C2S_PORT" --tls off -q \
		--password-file "$PASSWORD_FILE" </dev/null
	assert_failure 77
}

certificate_refused()
{
	on "$1"
	# the system's authorities do not know ours
	SSL_CERT_FILE=/dev/null run xmpp-connect --jid "alice@$XMPP_HOST" -q \
		--connect "127.0.0.1:$C2S_PORT" --password-file "$PASSWORD_FILE" <<<'<presence/>'
	assert_failure 76
	assert_output --partial 'refused'
	# --tls-ca names another authority, although the system trusts ours
	mkdir ca
	tls_ca "$PWD/ca"
	SSL_CERT_FILE=$TLS_CA run xmpp-connect --jid "alice@$XMPP_HOST" -q --tls-ca "$PWD/ca/ca.pem" \
		--connect "127.0.0.1:$C2S_PORT" --password-file "$PASSWORD_FILE" <<<'<presence/>'
	assert_failure 76
	# the system trusts our authority
	SSL_CERT_FILE=$TLS_CA run xmpp-connect --jid "alice@$XMPP_HOST" -q \
		--connect "127.0.0.1:$C2S_PORT" --password-file "$PASSWORD_FILE" <<<''
	assert_success
}
@test "a certificate of an unknown authority is refused (prosody)" { certificate_refused prosody; }
@test "a certificate of an unknown authority is refused (ejabberd)" { certificate_refused ejabberd; }

@test "a certificate for another domain is refused" {
	on prosody
	run as_user alice@badcert.test <<<''
	assert_failure 76
	assert_output --partial 'refused for badcert.test: hostname mismatch'
}

idn_login()
{
	"$1_start" "$PWD/$1" --host bücher.example
	server_facts "$PWD/$1"
	local jid
	server_add_user "$PWD/$1" ida pw
	# the certificate is for xn--bcher-kva.example, the server's domain has the U-label
	for jid in ida@bücher.example ida@xn--bcher-kva.example IDA@BÜCHER.example; do
		run -0 xmpp-iq --jid "$jid" --connect "127.0.0.1:$C2S_PORT" \
			--password-file "$PASSWORD_FILE" --tls-ca "$TLS_CA" --ping --stanza --to xn--bcher-kva.example
		assert_output --partial " from='bücher.example'"
		assert_output --partial " type='result'"
	done
	# a certificate for another name is not accepted
	tls_cert "$PWD/$1" other xn--bcher-kva.example.org buecher.example
	cp "$PWD/$1/other.crt" "$PWD/$1/xn--bcher-kva.example.crt"
	cp "$PWD/$1/other.key" "$PWD/$1/xn--bcher-kva.example.key"
	"$1_restart" "$PWD/$1"
	run -76 xmpp-iq --jid ida@bücher.example --connect "127.0.0.1:$C2S_PORT" \
		--password-file "$PASSWORD_FILE" --tls-ca "$TLS_CA" --ping
	assert_output --partial 'refused for xn--bcher-kva.example: hostname mismatch'
	"$1_stop" "$PWD/$1"
}
@test "a domain of other letters: its certificate has the A-labels, its stream the U-labels (prosody)" { idn_login prosody; }
@test "a domain of other letters: its certificate has the A-labels, its stream the U-labels (ejabberd)" { idn_login ejabberd; }

@test "the first login: how to trust a certificate, that TLS is wanted" {
	on prosody
	run -76 xmpp-iq --jid "alice@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" \
		--password-file "$PASSWORD_FILE" --ping
	assert_output --partial 'give --tls-ca FILE'
	run -77 xmpp-iq --jid alice@tls.test --connect "127.0.0.1:$C2S_PORT" --tls off \
		--password-file "$PASSWORD_FILE" --ping -q
	assert_output "xmpp-iq: server 127.0.0.1:$C2S_PORT lets nobody log in without TLS: leave out --tls off"
}

@test "that from can be forged is said where somebody reads it, else at -v" {
	on prosody
	login=(--jid "alice@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" --tls-ca "$TLS_CA"
		--password-file "$PASSWORD_FILE")
	xmpp-connect "${login[@]}" </dev/null 2>said
	if [[ -s said ]]; then # this libstrophe is affected
		assert_file_contains said 'can be forged'
		xmpp-iq "${login[@]}" --ping -v 2>said
		assert_file_contains said 'can be forged'
	fi
	xmpp-iq "${login[@]}" --ping 2>said
	assert [ ! -s said ]
}

@test "TLS that is not offered, or does not work, is not done without" {
	for kind in prosody ejabberd; do
		"${kind}_start" "$PWD/$kind" --tls off
		run xmpp-connect --jid "alice@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" -q \
			--password-file "$PASSWORD_FILE" <<<''
		assert_failure 76
		# Prosody offers it without having a certificate
		[[ $kind == prosody ]] || assert_output --partial 'does not offer TLS'
		# --tls off on loopback reaches the same server
		run xmpp-connect --jid "alice@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" -q \
			--tls off --password-file "$PASSWORD_FILE" <<<''
		assert_success
		"${kind}_stop" "$PWD/$kind"
	done
}

wrong_secrets()
{
	on "$1"
	install -m 600 /dev/null wrong
	echo not-it >wrong
	run as_component jat.test --secret-file wrong <<<''
	assert_failure 77
	run as_user alice --password-file wrong <<<''
	assert_failure 77
	assert_output "xmpp-connect: login of 'alice@$XMPP_HOST/alice' refused: not-authorized"
	run as_user nobody <<<''
	assert_failure 77
}
@test "wrong secret, wrong password, unknown user: 77 (prosody)" { wrong_secrets prosody; }
@test "wrong secret, wrong password, unknown user: 77 (ejabberd)" { wrong_secrets ejabberd; }

@test "a domain the server does not have: 78" {
	on prosody
	run as_component nowhere.test <<<''
	assert_failure 78
	for kind in prosody ejabberd; do
		on "$kind"
		run as_user alice@nowhere.test <<<''
		assert_failure 78
		assert_output --partial host-unknown
	done
}

@test "no such host, nobody there: 69" {
	on prosody
	server_free_port
	for address in "127.0.0.1:$FREE_PORT" "localhost:$FREE_PORT" no-such-host.invalid:5222; do
		run xmpp-connect --domain jat.test --secret-file "$SECRET_FILE" --connect "$address" <<<''
		assert_failure 69
		run xmpp-connect --jid alice@localhost -q --password-file "$PASSWORD_FILE" \
			--connect "$address" <<<''
		assert_failure 69
	done
}

@test "a name server that does not answer: --timeout holds, and SIGTERM ends it" {
	local resolver=$BUILDDIR/preload/resolver.so options
	[[ -e $resolver && -z ${WRAP:-} ]] || not_here "no preloaded library here"
	(umask 077 && echo pw >password)
	for options in '--jid alice@slow.example' '--jid alice@slow.example --tls direct' \
		'--jid alice@slow.example --connect slow.example:5222'; do
		read -ra options <<<"$options"
		run -124 env "LD_PRELOAD=$LD_PRELOAD $resolver" xmpp-connect -q --timeout 0.2 "${options[@]}" \
			--password-file password <<<''
		assert_output --partial 'no login at slow.example'
		# 600 s: more than a test may take
		start slow env "LD_PRELOAD=$LD_PRELOAD $resolver" xmpp-connect -q --timeout 600 "${options[@]}" --password-file password
		wait_for threads "$slow_pid" 3
		run -0 kill "$slow_pid"
		status=0
		await slow || status=$?
		assert_equal "$status" 0
	done
	# an address needs no name server
	server_free_port
	run -69 env "LD_PRELOAD=$LD_PRELOAD $resolver" xmpp-connect -q --jid alice@slow.example --connect "127.0.0.1:$FREE_PORT" \
		--password-file password <<<''
}

# threads PID N: the process has so many
threads()
{
	local tasks=("/proc/$1/task/"*)
	((${#tasks[@]} == $2))
}

@test "secrets: from a file, a descriptor or the credentials, never readable by others" {
	on prosody
	ask="<iq type='get' id='a1' to='$XMPP_HOST'>$disco</iq>"
	where="127.0.0.1:$COMPONENT_PORT"
	run xmpp-connect --domain jat.test --connect "$where" --secret-fd 5 5<"$SECRET_FILE" <<<"$ask"
	assert_success
	assert_output --partial result
	mkdir credentials
	cp "$SECRET_FILE" credentials/component-secret
	cp "$PASSWORD_FILE" credentials/password
	export CREDENTIALS_DIRECTORY=$PWD/credentials
	run xmpp-connect --domain jat.test --connect "$where" <<<"$ask"
	assert_success
	run xmpp-connect --jid "alice@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" \
		--tls-ca "$TLS_CA" <<<"$ask"
	assert_success
	chmod 644 credentials/*
	run xmpp-connect --domain jat.test --connect "$where" <<<"$ask"
	assert_failure 78
	run xmpp-connect --jid "alice@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" <<<"$ask"
	assert_failure 78
	unset CREDENTIALS_DIRECTORY
	run as_user alice --tls-ca no-such-file <<<''
	assert_failure 78
	assert_output "xmpp-connect: cannot open 'no-such-file': No such file or directory"
}

@test "the password is in no message, however much is said" {
	on prosody
	server_add_user "$SERVER_DIR" talkative 'hunter2-hunter2'
	install -m 600 /dev/null password
	echo 'hunter2-hunter2' >password
	for mode in required off; do
		options=(--tls "$mode")
		[[ $mode == required ]] && options+=(--tls-ca "$TLS_CA")
		xmpp-connect --jid "talkative@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" -vvvvvv \
			--password-file password "${options[@]}" \
			<<<"<iq type='get' id='a1' to='$XMPP_HOST'>$disco</iq>" >>out 2>&1
	done
	assert_file_contains out "type='result'"
	for secret in hunter2 "$(printf '\0talkative\0hunter2-hunter2' | base64)" \
		"$(printf 'hunter2-hunter2' | base64)"; do
		run grep -F -c -- "$secret" out
		assert_output 0
	done
}

@test "wrong use: 64" {
	on prosody
	use()
	{
		run xmpp-connect "$@" </dev/null
		((status != 64)) || assert_equal "${#lines[@]}" 2
	}
	use
	assert_failure 64
	assert_line --index 1 --partial "try 'xmpp-connect --help'"
	for wrong in '' '--jid a@b' '--password-file x' '--tls off' '--tls-ca x' '--presence'; do
		# shellcheck disable=SC2086
		use --domain jat.test $wrong
		assert_failure 64
	done
	for wrong in '' '--secret-file x' '--password-file x --presence=busy' '--password-file x --tls no'; do
		# shellcheck disable=SC2086
		use --jid a@b $wrong
		assert_failure 64
	done
	for jid in '' domain.test '@x' 'a b@c' 'a@' "a@b'c"; do
		use --jid "$jid" --password-file "$PASSWORD_FILE"
		assert_failure 64
	done
	for domain in a@b a/b ''; do
		use --domain "$domain" --secret-file "$SECRET_FILE"
		assert_failure 64
	done
	for address in nowhere 127.0.0.1: 127.0.0.1:x '[::1]' 127.0.0.1:0; do
		use --jid a@b --password-file "$PASSWORD_FILE" --connect "$address"
		assert_failure 64
	done
	use --jid a@b --password-file "$PASSWORD_FILE" --tls off --connect 192.0.2.1:5222
	assert_failure 64
}

@test "a server that says nothing: 124 after --timeout" {
	on prosody
	server_free_port
	start silent python3 -c '
import socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
kept = []
while True: kept.append(s.accept())' "$FREE_PORT"
	wait_for server_listens "$silent_pid" "$FREE_PORT"
	run xmpp-connect --domain jat.test --secret-file "$SECRET_FILE" --timeout 0.3 \
		--connect "127.0.0.1:$FREE_PORT" <<<''
	assert_failure 124
	# servers that are silent before the stream, and in the middle of a TLS handshake
	for tls in required direct; do
		run xmpp-connect --jid alice@vhost.test -q --password-file "$PASSWORD_FILE" \
			--timeout 0.3 --tls "$tls" --connect "127.0.0.1:$FREE_PORT" <<<''
		assert_failure 124
		assert_output --partial 'in time'
	done
}

@test "what the installed libstrophe does to attributes is told once, to users only" {
	on prosody
	run xmpp-connect --jid "alice@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" \
		--password-file "$PASSWORD_FILE" --tls-ca "$TLS_CA" <<<''
	assert_success
	assert [ "${#lines[@]}" -le 1 ]
	[[ ${#lines[@]} == 0 ]] || assert_output --partial CAVEATS
	run as_component jat.test <<<''
	assert_output ''
}

# --- stanzas

stanzas_arrive_whole()
{
	on "$1"
	listen bob user bob --presence
	wait_for saw bob '^<presence'
	as_component jat.test >answers <<-END
		<message to='bob@$XMPP_HOST/bob' xml:lang='de' id='m1'><body>one
		two &amp; &lt;three&gt; &quot;ü&quot; <![CDATA[<four>]]></body>
		<x xmlns='urn:y' a='&apos;1&#10;2' xml:lang='fr'>t<y xmlns=''/><z:q xmlns:z='urn:z' z:w='1'/></x></message>
	END
	wait_for saw bob "id='m1'"
	stanza=$(grep "id='m1'" bob.out)
	echo "$stanza"
	assert_equal "$(grep -c . bob.out)" "$(grep -c '^<\(presence\|message\|iq\)' bob.out)"
	[[ $stanza == *"from='jat.test'"* ]]
	[[ $stanza == *"xml:lang='de'"* ]]
	[[ $stanza == *"<body>one&#10;two &amp; &lt;three&gt; "*"ü"*" &lt;four&gt;</body>"* ]]
	[[ $stanza == *"<x xmlns='urn:y'"*"xml:lang='fr'"*">t<y xmlns=''/>"*"urn:z"* ]]
	# Prosody writes the newline as it is, and parsers read it as a space
	[[ $stanza == *"a='&apos;1&#"*"2'"* || $stanza == *"a='&apos;1 2'"* ]]
	# the other way: a component gets byte for byte what the server sends
	listen jat component jat.test
	as_user alice <<<"<message to='x@jat.test/y' id='m2' xml:lang='fr'><body>eins
zwei</body><p:a xmlns:p='urn:p' p:b='1'/></message>"
	wait_for saw jat "id='m2'"
	stanza=$(grep "id='m2'" jat.out)
	[[ $stanza == *"from='alice@$XMPP_HOST/alice'"* && $stanza == *"xml:lang='fr'"* ]]
	[[ $stanza == *"<body>eins&#10;zwei</body>"* ]]
	hang_up bob
	await bob
	hang_up jat
	await jat
}
@test "stanzas arrive whole, one a line (prosody)" { stanzas_arrive_whole prosody; }
@test "stanzas arrive whole, one a line (ejabberd)" { stanzas_arrive_whole ejabberd; }

presence_is_sent()
{
	on "$1"
	listen bob user bob --presence=away
	wait_for saw bob '<presence.*<show>away</show>'
	hang_up bob
	await bob
	listen bob user bob --presence
	wait_for saw bob '<presence'
	run grep -c show bob.out
	assert_output 0
	# a message to the bare address reaches the available session
	as_component jat.test <<<"<message to='bob@$XMPP_HOST' id='m1' type='chat'><body>hi</body></message>"
	wait_for saw bob "id='m1'"
	end bob
}
@test "--presence and --presence=SHOW (prosody)" { presence_is_sent prosody; }
@test "--presence and --presence=SHOW (ejabberd)" { presence_is_sent ejabberd; }

# Each stanza is sent when the one before has come back. With a delay of a second for each, the test would
# not end in time.
big_stanzas()
{
	on "$1"
	cat >echoing <<-'END'
		import os, sys
		jid, turns = os.environ["XMPP_JID"], 0
		for size in (5000, 10000, 17000, 30000, 60000, 100000, 200000):
		    for again in range(6):
		        turns += 1
		        body = "<body>%s</body>" % ("x" * size)
		        print("<message to='%s' id='n%d'>%s</message>" % (jid, turns, body), flush=True)
		        line = ""
		        while not ("id='n%d'" % turns in line and line.endswith(body + "</message>\n")):
		            line = sys.stdin.readline() or sys.exit(1)
		print(turns, file=open("turns", "w"))
	END
	timeout 30 bash -c "$(declare -f as_user); as_user alice -- python3 ./echoing"
	assert_equal "$(cat turns)" 42
	# the same as a component
	rm turns
	timeout 30 bash -c "$(declare -f as_component component_port); as_component jat.test -- python3 ./echoing"
	assert_equal "$(cat turns)" 42
}
@test "5 to 200 KB stanzas there and back without delay (prosody)" { big_stanzas prosody; }
@test "5 to 200 KB stanzas there and back without delay (ejabberd)" { big_stanzas ejabberd; }

user_sends_too_much()
{
	on "$1"
	head -c 300000 /dev/zero | tr '\0' x >long
	listen bob user bob --presence
	run -65 as_user alice < <(
		echo "<message to='bob@$XMPP_HOST/bob'><body>$(cat long)</body></message>"
		echo "<message to='bob@$XMPP_HOST/bob'><body>behind it</body></message>"
	)
	assert_output --partial 'stdin:1: stanza larger than --max-send-bytes'
	wait_for saw bob 'behind it'
	refute saw bob xxxx
	hang_up bob
	ends bob 0
}
@test "a user sends no larger stanza than servers take (prosody)" { user_sends_too_much prosody; }
@test "a user sends no larger stanza than servers take (ejabberd)" { user_sends_too_much ejabberd; }

@test "how large a stanza may be a server says in its last features (XEP-0478)" {
	# Prosody 13 does so by itself, and is overruled here
	mkdir modules
	cat >modules/mod_limits_said.lua <<-'END'
		module:hook("stream-features", function (event)
			event.features:remove_children("limits", "urn:xmpp:stream-limits:0")
			event.features:tag("limits", { xmlns = "urn:xmpp:stream-limits:0" })
				:text_tag("max-bytes", event.origin.type == "c2s_unauthed" and "100" or "3000"):up()
		end, -1000)
	END
	prosody_start "$PWD/prosody" --no-delegate --global "plugin_paths = { '$PWD/modules' }" \
		--vhost 'modules_enabled = { "limits_said" }'
	server_facts "$PWD/prosody"
	for bytes in 2700 3300; do
		echo "<message to='nobody@$XMPP_HOST'><body>$(head -c "$bytes" /dev/zero | tr '\0' x)</body></message>"
	done >messages
	run -65 as_user alice <messages
	assert_output --partial 'stdin:2: stanza larger than --max-send-bytes'
	refute_output --partial stdin:1
	# a client's own answer is passed on
	run -0 as_user alice --max-send-bytes 10000 <messages
	prosody_stop "$PWD/prosody"
}

@test "what is larger than --max-send-bytes is not sent: a request is answered here" {
	on prosody
	big=$(head -c 3000 /dev/zero | tr '\0' x)
	run as_component jat.test --max-send-bytes 2000 <<-END
		<message to='bob@$XMPP_HOST'><body>$big</body></message>
		<iq type='set' id='s1' to='$XMPP_HOST' from='x@jat.test'><q xmlns='urn:q'>$big</q></iq>
		<iq type='get' id='g1' to='$XMPP_HOST'>$disco</iq>
	END
	assert_failure 65
	assert_line --partial 'stdin:1: stanza larger'
	assert_line --partial 'stdin:2: stanza larger'
	assert_line "<iq type='error' id='s1' to='x@jat.test' from='$XMPP_HOST'><error type='modify'><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>larger than the server takes</text></error></iq>"
	assert_line --regexp "<iq .*type='result'"
	# an answer that is too large is replaced
	listen alice user alice
	listen jat component jat.test --max-send-bytes 2000
	say alice "<iq type='get' id='q1' to='jat.test'><q xmlns='urn:q'/></iq>"
	wait_for saw jat "id='q1'"
	say jat "<iq type='result' id='q1' to='alice@$XMPP_HOST/alice'><q xmlns='urn:q'>$big</q></iq>"
	wait_for saw alice policy-violation
	hang_up jat
	ends jat 65
}

@test "a stanza over a limit is not written; a request gets policy-violation" {
	on prosody
	for kind in component user; do
		to=$([[ $kind == user ]] && echo "bob@$XMPP_HOST/bob" || echo jat.test)
		listen limited "$kind" "$([[ $kind == user ]] && echo bob || echo jat.test)" \
			--max-stanza-bytes 2K
		big=$(head -c 5000 /dev/zero | tr '\0' x)
		as_user alice >answer <<<"<iq type='set' id='big' to='$to'><q xmlns='urn:q'>$big</q></iq>
<message to='$to' id='small'/>"
		assert_file_contains answer policy-violation
		wait_for saw limited "id='small'"
		run grep -c "id='big'" limited.out
		assert_output 0
		hang_up limited
		ends limited 65
		assert_file_contains limited.err 'too large'
	done
}

@test "bad input: each is told with its line, the rest goes on, 65" {
	on prosody
	listen bob user bob
	printf '%s\n' "<message to='bob@$XMPP_HOST/bob' id='ok1'/>" '' '<message' \
		"<iq/>" '<other/>' '<!-- -- no -->' "<message to='bob@$XMPP_HOST/bob' id='ok2'/>" \
		'words' '<presence>' >input
	for kind in 'user alice' 'component jat.test'; do
		# shellcheck disable=SC2086
		run as_$kind <input
		assert_failure 65
		for line in 3 5 6 8 9; do
			assert_line --partial "stdin:$line: "
		done
	done
	wait_for eval '(($(grep -c "id=.ok[12]" bob.out) == 4))'
}

@test "--json: objects in, objects out" {
	on prosody
	listen bob user bob --presence --json
	wait_for saw bob '"kind":"presence"'
	jq -nc --arg to "bob@$XMPP_HOST/bob" '
		{kind: "message", to: $to, id: "m1", lang: "fr",
		 payload: [{name: "body", children: ["un\ndeux <trois>"]},
			   {name: "x", ns: "urn:x", attrs: {"a": "1"}, children: [{name: "y", ns: ""}]}]},
		{kind: "iq", type: "get", to: $to, id: "q1", ns: "urn:q", name: "q"}' >objects
	as_component jat.test --json --wait 20 <objects >answers &
	asking=$!
	wait_for saw bob '"id":"q1"'
	run jq -c 'select(.id == "m1") | [.from, .to, .lang, .payload[0].children, .payload[1].children[0].ns]' bob.out
	assert_output "[\"jat.test\",\"bob@$XMPP_HOST/bob\",\"fr\",[\"un\\ndeux <trois>\"],\"\"]"
	say bob '{"kind":"iq","type":"result","id":"q1","to":"jat.test","ns":"urn:q","name":"q"}'
	wait "$asking"
	run jq -r 'select(.id == "q1") | .type + " " + .ns' answers
	assert_output 'result urn:q'
	# the same with bad lines and with stanzas that are answered here
	big=$(head -c 3000 /dev/zero | tr '\0' x)
	printf '%s\n' '<presence/>' '{"kind":' '{"kind":"other"}' >bad
	jq -nc --arg big "$big" '{kind: "iq", type: "set", id: "s1", to: "bob@vhost.test", payload: [{name: "q", ns: "urn:q", children: [$big]}]}' >>bad
	as_component jat.test --json --max-send-bytes 2000 <bad >answers 2>err || status=$?
	assert_equal "$status" 65
	for line in 1 2 3 4; do assert_file_contains err "stdin:$line: "; done
	run jq -r '[.id, .type, .from, .error.condition] | join(" ")' answers
	assert_output 's1 error bob@vhost.test policy-violation'
}

@test "a stream error that blames what was sent: 76" {
	for kind in prosody ejabberd; do
		on "$kind"
		run as_component jat.test <<<"<message from='elsewhere.test' to='bob@$XMPP_HOST'/>"
		assert_failure 76
		assert_output --partial invalid-from
	done
}

# --- open requests

# left_unanswered KIND: the error that answers a request after the reader has gone. A component's domain may
# be served by another program in a moment.
left_unanswered()
{
	if [[ $1 == component ]]; then
		echo "<error type='wait'><recipient-unavailable"
	else
		echo "<error type='cancel'><service-unavailable"
	fi
}

requests_are_waited_for()
{
	on "$1"
	listen bob user bob --presence
	listen deaf component deleg.test
	local kind
	for kind in component user; do
		who=$([[ $kind == user ]] && echo alice || echo jat.test)
		listen asker "$kind" "$who" --wait 20
		say asker "<iq type='get' id='q-$kind' to='bob@$XMPP_HOST/bob'><q xmlns='urn:q'/></iq>"
		hang_up asker
		wait_for saw bob "id='q-$kind'"
		asker=$([[ $kind == user ]] && echo "alice@$XMPP_HOST/alice" || echo jat.test)
		# no answers: that id from another address, another id
		say deaf "<iq type='result' id='q-$kind' to='$asker'/>"
		say bob "<iq type='result' id='other' to='$asker'/>"
		wait_for saw asker "id='other'"
		wait_for saw asker "from='deleg.test'"
		# requests that arrive meanwhile are still answered
		say bob "<iq type='get' id='late-$kind' to='$asker'><q xmlns='urn:q'/></iq>"
		wait_for grep -q "id='late-$kind'.*$(left_unanswered "$kind")" bob.out
		wait_for grep -q "id='late-$kind'" asker.out # perhaps written after the answer
		kill -0 "$asker_pid"
		say bob "<iq type='result' id='q-$kind' to='$asker'><q xmlns='urn:q'/></iq>"
		ends asker 0
		assert_equal "$(grep -c "id='q-$kind'" asker.out)" 2
	done
}
@test "requests are waited for, exactly (prosody)" { requests_are_waited_for prosody; }
@test "requests are waited for, exactly (ejabberd)" { requests_are_waited_for ejabberd; }

@test "requests without answer: 124 after --wait" {
	on prosody
	listen deaf component deleg.test
	for kind in 'component jat.test' 'user alice'; do
		# shellcheck disable=SC2086
		run as_$kind --wait 0.2 <<<"<iq type='get' id='1' to='deleg.test'><q xmlns='urn:q'/></iq>
<iq type='get' id='1' to='deleg.test'><q xmlns='urn:q'/></iq>"
		assert_failure 124
		assert_output 'xmpp-connect: 2 requests without answer'
	done
	wait_for eval '(($(grep -c "^<iq .*id=.1" deaf.out) == 4))'
}

@test "a full table of open requests stops the reading, not the answers" {
	on prosody
	seq 5000 | sed "s/.*/<iq type='get' id='&' to='$XMPP_HOST'><ping xmlns='urn:xmpp:ping'\/><\/iq>/" >pings
	as_component jat.test --max-pending 10 <pings >answers
	assert_equal "$(grep -o "id='[0-9]*'" answers | sort -u | wc -l)" 5000
	assert_equal "$(wc -l <answers)" 5000
	# without answers the oldest requests stop counting after --wait
	listen deaf component deleg.test
	sed 10q pings | sed "s/$XMPP_HOST/deleg.test/" >unanswered
	run as_user alice --max-pending 1 --wait 0.1 <unanswered
	assert_failure 124
	wait_for eval '(($(grep -c "^<iq" deaf.out) == 10))'
}

# --- what comes back

bounces_are_seen()
{
	on "$1"
	local kind who status
	for kind in component user; do
		who=$([[ $kind == user ]] && echo alice || echo jat.test)
		for check in '' --check; do
			status=0
			# shellcheck disable=SC2086
			as_$kind "$who" $check >out <<-END || status=$?
				<message to='nobody@$XMPP_HOST' id='m1' type='chat'><body>x</body></message>
				<message to='bob@$XMPP_HOST' id='m2' type='headline'><body>x</body></message>
			END
			assert_equal "$check $kind $status" "$check $kind $([[ -n $check ]] && echo 1 || echo 0)"
			assert_file_contains out "<message .*id='m1'.*<service-unavailable"
			run cat out
			refute_output --partial "<iq"
		done
		run -0 "as_$kind" "$who" --check <<<"<message to='bob@$XMPP_HOST' type='headline'><body>x</body></message>"
		# as objects, with no time left to wait for answers
		run -1 "as_$kind" "$who" --check --json --wait 0 \
			<<<"{\"kind\":\"message\",\"type\":\"chat\",\"to\":\"nobody@$XMPP_HOST\",\"body\":\"x\"}"
		assert_output --partial '"condition":"service-unavailable"'
		# a command has its own status, and bad input is worse
		run -7 "as_$kind" "$who" --check -- sh -c "echo \"<message to='nobody@$XMPP_HOST' type='chat'/>\"; exit 7"
		run -1 "as_$kind" "$who" --check -- echo "<message to='nobody@$XMPP_HOST' type='chat'/>"
		run -65 "as_$kind" "$who" --check <<<"<message to='nobody@$XMPP_HOST' type='chat'/>"$'\n<bad'
	done
}
@test "what bounces is printed before the stream is closed, and told by --check (prosody)" { bounces_are_seen prosody; }
@test "what bounces is printed before the stream is closed, and told by --check (ejabberd)" { bounces_are_seen ejabberd; }

# stays WHO OPTION...: as from cron, with nothing to read
stays()
{
	local kind=$1
	shift
	xmpp-connect() { exec env xmpp-connect --ready-fd 9 "$@" 9>stays.ready; }
	"as_$kind" "$@" </dev/null
}

stay_without_input()
{
	on "$1"
	local kind who address
	for kind in component user; do
		who=$([[ $kind == user ]] && echo "bob --presence" || echo jat.test)
		address=$([[ $kind == user ]] && echo "bob@$XMPP_HOST/bob" || echo jat.test)
		rm -f stays.ready
		mkfifo stays.ready
		# shellcheck disable=SC2086
		start it stays $kind $who --stay
		read -r -t 20 <stays.ready
		as_user alice <<<"<message to='$address' id='first' type='chat'><body>x</body></message>"
		wait_for saw it first
		# after the end of input the program answers requests itself
		as_user alice >answer <<<"<iq type='get' id='r1' to='$address'><q xmlns='urn:q'/></iq>"
		assert_file_contains answer "id='r1'.*$(left_unanswered "$kind")"
		as_user alice <<<"<message to='$address' id='second' type='chat'><body>x</body></message>"
		wait_for saw it second
		kill -TERM "$it_pid"
		ends it 0
	done
}
@test "--stay: the end of input is no end (prosody)" { stay_without_input prosody; }
@test "--stay: the end of input is no end (ejabberd)" { stay_without_input ejabberd; }

# --- requests that the reader does not answer

# asks WHO TIMEOUT OPTION...: an IQ to bob's session
asks()
{
	xmpp-iq --jid "alice@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" --password-file "$PASSWORD_FILE" \
		--tls-ca "$TLS_CA" --to "bob@$XMPP_HOST/bob" --reply-timeout "$@"
}

pings_are_answered()
{
	on "$1"
	local request="<q xmlns='urn:q'/>"
	listen bob user bob
	# the program answers only the ping; all other requests are the reader's while there is one
	run -0 asks 20 --ping
	run -124 asks 2 "$request"
	assert_equal "$(grep -c '<ping xmlns' bob.out)" 1
	# the reader is too late
	id=$(grep -o "id='[^']*'" bob.out | head -n 1)
	from=$(grep -o " from='[^']*'" bob.out | head -n 1)
	say bob "<iq type='result' $id to=${from#*=}/>"
	wait_for grep -q 'stdin:1: dropped: the request had to be answered meanwhile' bob.err
	# requests that the reader has not answered are answered when the input ends
	(exec {bob_in}>&- && asks 20 "$request") 2>asked &
	asks_pid=$!
	wait_for eval '(($(grep -c "urn:q" bob.out) == 2))'
	hang_up bob
	ends bob 0
	wait "$asks_pid" && return 1
	assert_file_contains asked 'service-unavailable'
	# the reader is quick enough: one answer, its own
	as_user bob --ready-fd 8 -- sh -c "while read -r stanza; do
		id=\$(expr \"\$stanza\" : \".* id='\\([^']*\\)'\")
		from=\$(expr \"\$stanza\" : \".* from='\\([^']*\\)'\")
		echo \"<iq type='error' id='\$id' to='\$from'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>\"
		break; done" 8>ready &
	bob_pid=$!
	wait_for test -s ready
	run -1 asks 20 --ping
	assert_output --partial gone
	wait "$bob_pid"
	# --no-answers
	listen bob user bob --no-answers
	run -124 asks 2 --ping
	hang_up bob
	ends bob 0
	# --auto-answer
	listen bob user bob --auto-answer
	run -1 asks 20 "$request"
	assert_output --partial service-unavailable
	run -0 asks 20 --ping
	hang_up bob
	ends bob 0
	# the reader of a component has to answer requests, too
	listen jat component jat.test --auto-answer
	run -1 asks 20 --to jat.test "$request"
	assert_output --partial recipient-unavailable
	hang_up jat
	ends jat 0
}
@test "pings are answered when the reader does not, all else with --auto-answer (prosody)" { pings_are_answered prosody; }
@test "pings are answered when the reader does not, all else with --auto-answer (ejabberd)" { pings_are_answered ejabberd; }

# --- commands

@test "a command instead of standard input and output" {
	for kind in prosody ejabberd; do
		on "$kind"
		cat >script <<-'END'
			echo "$PROTO $XMPP_DOMAIN $XMPP_JID" >&2
			echo "<iq type='get' id='c1' to='$1'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
			while read -r line; do
				[[ $line == *"id='c1'"* ]] && break
			done
			echo "$line" >&2
			exit 3
		END
		run as_user alice -- bash ./script "$XMPP_HOST"
		assert_failure 3
		assert_line --index 0 "XMPP $XMPP_HOST alice@$XMPP_HOST/alice"
		assert_line --index 1 --partial "type='result'"
		run as_component jat.test -- bash ./script "$XMPP_HOST"
		assert_failure 3
		assert_line --index 0 'XMPP jat.test jat.test'
	done
}

@test "a command's status, its signal, and one that is not there" {
	on prosody
	run as_component jat.test -- true
	assert_success
	# shellcheck disable=SC2016
	run as_component jat.test -- sh -c 'kill -9 $$'
	assert_failure 137
	run -127 as_component jat.test -- ./no-such-command
	assert_output "xmpp-connect: cannot run './no-such-command': No such file or directory"
	run as_component jat.test -- /dev/null
	assert_failure 126
	run as_component jat.test -- echo '<bad'
	assert_failure 65
	assert_output --partial 'echo:1:'
	run as_component jat.test -- sh -c 'echo "<bad"; exit 4'
	assert_failure 4
	# the command gets the resource limits and the SIGPIPE disposition of our caller
	run as_user alice -- sh -c "[ \$(ulimit -s) = $(ulimit -s) ]"
	assert_success
	run as_component jat.test -- sh -c 'trap "" TERM; yes | head -n 1 >/dev/null; exit 0'
	assert_success
}

@test "all that a command has written is sent, whether it reads or not" {
	on prosody
	listen bob user bob
	seq 3000 | sed "s/.*/<message to='bob@$XMPP_HOST\/bob' id='n&'><body>words and words<\/body><\/message>/" >messages
	as_component jat.test -- sh -c 'exec <&-; cat messages'
	wait_for eval '(($(grep -c "^<message" bob.out) == 3000))'
	: >bob.out
	as_user alice -- cat messages
	wait_for eval '(($(grep -c "^<message" bob.out) == 3000))'
}

# exec, for start()
commanded()
{
	xmpp-connect() { exec env xmpp-connect "$@"; }
	as_component jat.test -- bash ./script
}

@test "signals go to the command" {
	on prosody
	cat >script <<-'END'
		trap 'exit 5' TERM
		echo "<message to='$XMPP_JID' id='hello'/>"
		while read -r line; do echo "$line" >>seen; done
		exit 6
	END
	start commanded commanded
	wait_for grep -qs hello seen
	kill -TERM "$commanded_pid"
	ends commanded 5
	# a command that does not catch SIGTERM ends by it, and one that gets SIGKILL does, too
	for signal in TERM KILL; do
		rm seen
		cat >script <<-'END'
			echo $$ >script.pid
			echo "<message to='$XMPP_JID' id='hello'/>"
			while read -r line; do echo "$line" >>seen; done
		END
		start commanded commanded
		wait_for grep -qs hello seen
		if [[ $signal == TERM ]]; then kill -TERM "$commanded_pid"; else kill -KILL "$(<script.pid)"; fi
		ends commanded "$([[ $signal == TERM ]] && echo 0 || echo 137)"
	done
	# a command that goes on: the second signal closes the stream, and the command finds the end of its input
	cat >script <<-'END'
		exec python3 -c '
		import signal, sys
		signal.signal(signal.SIGTERM, lambda number, frame: print("trapped", file=log, flush=True))
		log = open("seen2", "w")
		print("<message to=%r id=%r/>" % (sys.argv[1], "hello"), flush=True)
		for line in sys.stdin: print(line, file=log, flush=True)
		sys.exit(6)' "$XMPP_JID"
	END
	start commanded commanded
	wait_for grep -qs hello seen2
	kill -TERM "$commanded_pid"
	wait_for grep -q trapped seen2
	kill -TERM "$commanded_pid"
	ends commanded 6
}

@test "a command is a job: signals reach all of a pipeline" {
	on prosody
	for signal in TERM INT HUP QUIT; do
		cat >script <<-'END'
			(echo $BASHPID >left.pid; exec sleep 1000) | (echo $BASHPID >right.pid; exec sleep 1000)
		END
		start commanded commanded
		wait_for test -s right.pid
		wait_for test -s left.pid
		kill "-$signal" "$commanded_pid"
		# bash does not end by SIGQUIT itself: its status is that of the pipeline
		ends commanded "$([[ $signal == QUIT ]] && echo 131 || echo 0)"
		wait_for eval '! kill -0 "$(<left.pid)" 2>/dev/null'
		wait_for eval '! kill -0 "$(<right.pid)" 2>/dev/null'
		rm left.pid right.pid
	done
}

@test "a command is the foreground job of a terminal, and stops and goes on with us" {
	on prosody
	cat >script <<-'END'
		ps -o pgid=,tpgid= -p $$ >groups
		trap 'echo int >>signals; exit 5' INT
		while :; do sleep 0.1; done
	END
	cat >terminal.py <<-'END'
		import os, pty, signal, sys, time
		def until(what):
		    for _ in range(400):
		        if what(): return
		        time.sleep(0.05)
		    sys.exit('waited in vain')
		pid, fd = pty.fork()
		if pid == 0:
		    os.execvp(sys.argv[1], sys.argv[1:])
		until(lambda: os.path.exists('groups') and len(open('groups').read().split()) == 2)
		group, foreground = map(int, open('groups').read().split())
		assert group == foreground != pid, (group, foreground, pid)
		os.write(fd, b'\x1a')  # ^Z stops the command, and us
		assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
		until(lambda: os.tcgetpgrp(fd) == pid)
		os.kill(pid, signal.SIGCONT)
		until(lambda: os.tcgetpgrp(fd) == group)
		os.write(fd, b'\x03')  # ^C goes to the command
		status = os.waitpid(pid, 0)[1]
		assert open('signals').read() == 'int\n'
		sys.exit(os.WEXITSTATUS(status))
	END
	run -5 python3 terminal.py xmpp-connect --domain jat.test --connect "127.0.0.1:$COMPONENT_PORT" \
		--secret-file "$SECRET_FILE" -- bash ./script
}

@test "a command whose connection is lost finds the end of its input" {
	prosody_start "$PWD/own" --tls off
	cat >script <<-'END'
		echo "<message to='$XMPP_JID' id='hello'/>"
		while read -r line; do echo "$line" >>seen; done
		echo end >>seen
	END
	start commanded commanded
	wait_for grep -qs hello seen
	prosody_stop "$PWD/own"
	ends commanded 75
	assert_equal "$(tail -n 1 seen)" end
}

# --- trouble

@test "output that cannot be written: 74, and the stream is closed in order" {
	for kind in prosody ejabberd; do
		on "$kind"
		ask="<iq type='get' id='a1' to='$XMPP_HOST'>$disco</iq>"
		for who in 'component jat.test' 'user alice'; do
			status=0
			# shellcheck disable=SC2086
			as_$who <<<"$ask" >/dev/full 2>err || status=$?
			assert_equal "$status" 74
			assert_file_contains err 'cannot write standard output: No space left on device'
			status=0
			# shellcheck disable=SC2086
			as_$who <<<"$ask" >&- 2>err || status=$?
			assert_equal "$status" 74
			# a reader that has closed the pipe
			mkfifo gone
			exec {reader}<>gone
			exec {writer}>gone
			exec {reader}<&-
			status=0
			# shellcheck disable=SC2086
			as_$who <<<"$ask" 1>&"$writer" 2>err || status=$?
			exec {writer}>&-
			rm gone
			assert_equal "$status" 74
		done
	done
}

@test "input that cannot be read: 74" {
	on prosody
	without_input() { "$@" <&-; } # `run` itself needs its descriptors
	run without_input as_component jat.test
	assert_failure 74
	run as_component jat.test </
	assert_failure 74
}

# refused NAME ID TO: send a request from NAME and see it answered with an error
refused()
{
	say "$1" "<iq type='get' id='$2' to='$3'><q xmlns='urn:q'/></iq>"
	grep -qE "id='$2'.*<(service|recipient)-unavailable" "$1.out"
}

signals_end_it()
{
	on "$1"
	listen deaf component priv.test
	local kind who address signal
	for kind in component user; do
		who=$([[ $kind == user ]] && echo bob || echo jat.test)
		address=$([[ $kind == user ]] && echo "bob@$XMPP_HOST/bob" || echo jat.test)
		for signal in TERM INT; do
			listen it "$kind" "$who"
			end it "$signal"
		done
		# the program waits for its open request
		listen it "$kind" "$who"
		say it "<iq type='get' id='a-$kind' to='priv.test'><q xmlns='urn:q'/></iq>"
		wait_for saw deaf "id='a-$kind'"
		kill -TERM "$it_pid"
		wait_for refused deaf "b-$kind" "$address" # true as soon as it has seen the signal
		say deaf "<iq type='result' id='a-$kind' to='$address'/>"
		ends it 0
		assert_file_contains it.out "id='a-$kind'"
		# a second signal does not wait
		listen it "$kind" "$who"
		say it "<iq type='get' id='c-$kind' to='priv.test'><q xmlns='urn:q'/></iq>"
		wait_for saw deaf "id='c-$kind'"
		kill -TERM "$it_pid"
		wait_for refused deaf "d-$kind" "$address" # true as soon as it has seen the signal
		kill -TERM "$it_pid"
		ends it 124
	done
}
@test "SIGTERM and SIGINT are an end of input (prosody)" { signals_end_it prosody; }
@test "SIGTERM and SIGINT are an end of input (ejabberd)" { signals_end_it ejabberd; }

@test "a session is gone with the program: nothing waits for a resumption" {
	for kind in prosody ejabberd; do
		on "$kind"
		as_user bob <<<''
		# if the server had kept the resource, this would get no answer at all
		run as_component jat.test --wait 20 <<<"<iq type='get' id='1' to='bob@$XMPP_HOST/bob'><q xmlns='urn:q'/></iq>"
		assert_success
		assert_output --partial service-unavailable
	done
}

@test "a server that breaks the protocol: 76" {
	server_free_port
	cat >server.py <<-'END'
		import re, socket, sys
		listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
		c = listener.accept()[0]
		def until(pattern):
		    seen = b""
		    while not re.search(pattern, seen):
		        seen += c.recv(65536) or sys.exit(1)
		def features(what):
		    c.sendall(b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' version='1.0' id='1' "
		        b"xmlns:stream='http://etherx.jabber.org/streams' from='localhost'>"
		        b"<stream:features>" + what + b"</stream:features>")
		until(b"<stream:stream[^>]*>")
		features(b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>")
		until(b"</auth>")
		c.sendall(b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
		until(b"<stream:stream[^>]*>")
		features(b"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>")
		until(b"</iq>")
		# behind the end of the login, in the same packet: a stanza, one that no stack has room for, a wrong one
		deep = 300000
		c.sendall(b"<iq type='result' id='_xmpp_bind1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
		    b"<jid>a@localhost/x</jid></bind></iq><message id='first'/>"
		    b"<message id='deep'>" + b"<b>" * deep + b"</b>" * deep + b"</message>"
		    b"<message id='xml'><xml:b xml:lang='x'><a xmlns=''/></xml:b></message><message></wrong>")
		while c.recv(65536): pass
	END
	start server python3 server.py "$FREE_PORT"
	wait_for server_listens "$server_pid" "$FREE_PORT"
	mkfifo open
	exec {keep}<>open
	run xmpp-connect --jid a@localhost --tls off --connect "127.0.0.1:$FREE_PORT" -q \
		--password-file "$PASSWORD_FILE" <open
	exec {keep}>&-
	assert_failure 76
	assert_line "<message id='first'/>"
	assert_line "xmpp-connect: dropped a stanza from '': stanza too deep"
	assert_line "<message id='xml'><xml:b xmlns='jabber:client' xml:lang='x'><a xmlns=''/></xml:b></message>"
	assert_line "xmpp-connect: 127.0.0.1:$FREE_PORT sent what is not XMPP"
}

@test "the same resource again: the first one ends with 75" {
	on ejabberd
	listen first user bob
	listen second user bob
	ends first 75
	assert_file_contains first.err conflict
	end second
}

server_restarts()
{
	local kind=$1 who
	"${kind}_start" "$PWD/own"
	listen component component jat.test
	listen user user bob
	"${kind}_restart" "$PWD/own"
	for who in component user; do
		ends "$who" 75
	done
	# killed, without a word
	listen component component jat.test
	listen user user bob
	server_kill "$PWD/own" KILL
	for who in component user; do
		ends "$who" 75
	done
}
@test "a server that restarts or dies: 75 (prosody)" { server_restarts prosody; }
@test "a server that restarts or dies: 75 (ejabberd)" { server_restarts ejabberd; }

# When its reader does not read, the program must neither grow nor lose anything.
slow_reader()
{
	on "$1"
	local who to kind=$2
	who=$([[ $kind == user ]] && echo bob || echo jat.test)
	to=$([[ $kind == user ]] && echo "bob@$XMPP_HOST/bob" || echo jat.test)
	mkfifo slow.fifo
	exec {keep}<>slow.fifo
	listen slow "$kind" "$who" --max-queue-bytes 64K -- sh -c 'cat >slow.fifo; :' # keeps its output open
	body=$(head -c 20000 /dev/zero | tr '\0' x)
	seq 1500 | sed "s/.*/<message to='${to//\//\\/}' id='n&'><body>$body<\/body><\/message>/" >messages
	as_component jat2.test <messages
	rss=$(awk '/VmHWM/ { print $2 }' "/proc/$slow_pid/status")
	# sanitizers and valgrind keep freed memory for a while
	[[ -n ${WRAP:-} || ! -e $BUILDDIR/preload/failmalloc.so ]] || assert [ "$rss" -lt 40000 ]
	grep -m 1500 -o "id='n[0-9]*'" <slow.fifo >got
	exec {keep}>&-
	assert_equal "$(sort -u got | wc -l)" 1500
}
@test "a reader that does not read: bounded, nothing lost (component)" { slow_reader prosody component; }
@test "a reader that does not read: bounded, nothing lost (user)" { slow_reader prosody user; }

speaks_json()
{
	on "$1"
	printf '%s\n' '{"kind":"iq","type":"get","id":"j1","to":"'"$XMPP_HOST"'","ns":"urn:xmpp:ping","name":"ping"}' \
		'{"kind":"iq","id":1}' |
		{ run -65 --separate-stderr as_component jat.test --json; echo "$output" >out; echo "$stderr" >err; }
	assert_equal "$(jq -r '.kind + " " + .type + " " + .id + " " + .from' out)" "iq result j1 $XMPP_HOST"
	assert_file_contains err 'stdin:2: '
	as_user alice --json <<<'{"kind":"iq","type":"get","id":"j2","to":"'"$XMPP_HOST"'","ns":"http://jabber.org/protocol/disco#info","name":"query"}' >out
	assert_equal "$(jq -r '.id + " " + .ns' out)" "j2 http://jabber.org/protocol/disco#info"
	# a request that is too large is answered here, as an object
	run -65 as_component jat.test --json --max-send-bytes 1000 -q \
		<<<'{"kind":"iq","type":"get","id":"j3","to":"'"$XMPP_HOST"'","payload":[{"name":"a","children":["'"$(printf %02000d 1)"'"]}]}'
	assert_equal "$(grep '^{' <<<"$output" | jq -r '.id + " " + .error.condition')" "j3 policy-violation"
}
@test "--json: objects both ways (prosody)" { speaks_json prosody; }
@test "--json: objects both ways (ejabberd)" { speaks_json ejabberd; }
