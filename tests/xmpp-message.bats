#!/usr/bin/env bats
# xmpp-message on real servers, as component and as user.
# check-servers

# shellcheck disable=SC2154,SC2317
load lib
load stream
load servers/both

setup_file() { both_start; }
teardown() { stop_all; }

# as KIND OPTION...: xmpp-message as jat.test, or as alice
as()
{
	local kind=$1
	shift
	if [[ $kind == component ]]; then
		xmpp-message --domain jat.test --connect "127.0.0.1:$(component_port jat.test)" \
			--secret-file "$SECRET_FILE" "$@"
	else
		xmpp-message --jid "alice@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" \
			--password-file "$PASSWORD_FILE" --tls-ca "$TLS_CA" "$@"
	fi
}

# inbox USER: what arrives for the user, as JSON in USER.out, until the test ends; `seen USER` begins anew
inbox()
{
	rm -f "$1.ready"
	mkfifo "$1.ready"
	start "$1" _inbox "$1"
	read -r -t 20 <"$1.ready"
}
_inbox()
{
	exec xmpp-connect --jid "$1@$XMPP_HOST/in" --connect "127.0.0.1:$C2S_PORT" --password-file "$PASSWORD_FILE" \
		--tls-ca "$TLS_CA" -q --presence --stay --json --ready-fd 9 </dev/null 9>"$1.ready"
}

seen() { declare -g "$1_seen=$(wc -l <"$1.out")"; }

# news USER: the messages since then, without Prosody's announcements of privileges
news()
{
	local seen=$1_seen
	tail -n "+$((${!seen:-0} + 1))" "$1.out" | jq -c 'select(.kind == "message" and .type != "error" and .name != "privilege")'
}

# bodies USER COUNT: the bodies that have come, as JSON strings
bodies()
{
	wait_for eval "(( \$(news $1 | wc -l) >= $2 ))"
	news "$1" | jq -c '[.payload[] | select(.name == "body").children[]] | join("")'
}

text_arrives()
{
	on "$1"
	inbox bob
	local kind
	for kind in component user; do
		seen bob
		printf 'disk is full\n<&>\n\n"two" lines\r\n' | as "$kind" --to "bob@$XMPP_HOST" --subject 'a & b'
		run bodies bob 1
		assert_output '"disk is full\n<&>\n\n\"two\" lines"'
		run jq -r '.type, (.payload[] | select(.name == "subject").children[])' <<<"$(news bob)"
		assert_output $'chat\na & b'
		run jq -r .from <<<"$(news bob)"
		assert_output --regexp "^$([[ $kind == user ]] && echo "alice@$XMPP_HOST/.+" || echo jat.test)\$"
		# the other types, and an address as people write it
		seen bob
		for type in headline normal chat; do
			as "$kind" --to "BOB@${XMPP_HOST^^}/in" --type "$type" <<<"$type"
		done
		run bodies bob 3
		assert_output $'"headline"\n"normal"\n"chat"'
		run jq -r '.type // "normal"' <<<"$(news bob)"
		assert_output $'headline\nnormal\nchat'
	done
}
@test "standard input is the body of a message (prosody)" { text_arrives prosody; }
@test "standard input is the body of a message (ejabberd)" { text_arrives ejabberd; }

@test "any bytes are a body: what is no character becomes U+FFFD" {
	on prosody
	inbox bob
	printf 'a\0b\x01\xff\xc3(\xed\xa0\x80\xef\xbf\xbf\x7f\tz\xf0\x9f\x98\x80 \xc3' | as component --to "bob@$XMPP_HOST"
	run bodies bob 1
	# a lone surrogate and U+FFFF are three bytes each
	u=$'\xef\xbf\xbd'
	assert_equal "$(jq -r . <<<"$output")" "a${u}b${u}${u}${u}(${u}${u}${u}${u}${u}${u}"$'\x7f\tz\xf0\x9f\x98\x80 '"$u"
}

several_recipients()
{
	on "$1"
	inbox bob
	inbox carol
	local kind
	for kind in component user; do
		seen bob
		seen carol
		run -1 as "$kind" --to "bob@$XMPP_HOST" --to "nobody@$XMPP_HOST" --to "carol@$XMPP_HOST" <<<text
		assert_output "xmpp-message: message to 'nobody@$XMPP_HOST' came back: service-unavailable"
		run bodies bob 1
		assert_output '"text"'
		run bodies carol 1
		assert_output '"text"'
		run -0 as "$kind" --to "bob@$XMPP_HOST" --to "carol@$XMPP_HOST" --wait 0.2 <<<text
		assert_output ''
	done
}
@test "of several recipients all are tried, and a bounce is exit 1 (prosody)" { several_recipients prosody; }
@test "of several recipients all are tried, and a bounce is exit 1 (ejabberd)" { several_recipients ejabberd; }

lines_are_messages()
{
	on "$1"
	inbox bob
	local kind
	for kind in component user; do
		seen bob
		mkfifo lines
		start sender _lines "$kind"
		exec {lines}>lines
		printf 'one\n' >&"$lines"
		wait_for grep -q one bob.out # the next one is not waited for
		printf '\ntwo & two\r\n  three' >&"$lines"
		exec {lines}>&-
		await sender
		run bodies bob 3
		assert_output $'"one"\n"two & two"\n"  three"'
		rm lines
	done
	# many, in order, to two
	inbox carol
	seen bob
	seq 2000 | as user --lines --to "bob@$XMPP_HOST" --to "carol@$XMPP_HOST"
	run bodies bob 2000
	assert_equal "$output" "$(seq 2000 | sed 's/.*/"&"/')"
	run bodies carol 2000
	assert_equal "$output" "$(seq 2000 | sed 's/.*/"&"/')"
}
_lines()
{
	exec <lines
	as "$1" --lines --to "bob@$XMPP_HOST"
}
@test "--lines: one message a line, when it comes (prosody)" { lines_are_messages prosody; }
@test "--lines: one message a line, when it comes (ejabberd)" { lines_are_messages ejabberd; }

@test "what is too large is not sent: 65, the rest is" {
	on prosody
	inbox bob
	head -c 5000 /dev/zero | tr '\0' x >long
	run -65 as component --max-send-bytes 2000 --to "bob@$XMPP_HOST" --to nobody@elsewhere.test <long
	assert_line "xmpp-message: not sent to 'bob@$XMPP_HOST': larger than --max-send-bytes"
	assert_line "xmpp-message: not sent to 'nobody@elsewhere.test': larger than --max-send-bytes"
	run -65 as component --max-send-bytes 2000 --lines --to "bob@$XMPP_HOST" < <(cat long; echo; echo short)
	assert_line "xmpp-message: stdin:1: not sent to 'bob@$XMPP_HOST': larger than --max-send-bytes"
	run bodies bob 1
	assert_output '"short"'
	run -65 as component --limit body-bytes=100 --to "bob@$XMPP_HOST" <long
	assert_output --partial 'text longer than --limit body-bytes'
	run -65 as component --limit body-bytes=100 --to "bob@$XMPP_HOST" < <(seq 100)
	assert_output --partial 'text longer than --limit body-bytes'
}

@test "nothing to say: 65 before anything is connected to" {
	on prosody
	run -65 xmpp-message --domain jat.test --connect 127.0.0.1:1 --secret-file "$SECRET_FILE" --to bob@b.test </dev/null
	assert_output 'xmpp-message: no text on standard input'
	# a subject is something
	inbox bob
	run -0 as component --to "bob@$XMPP_HOST" --subject gone </dev/null
	# no line is no error
	run -0 as component --to "bob@$XMPP_HOST" --lines </dev/null
}

@test "secrets, servers and addresses that are wrong" {
	on prosody
	run -64 xmpp-message --domain jat.test --secret-file "$SECRET_FILE" <<<text
	assert_line --index 0 'xmpp-message: --to is needed'
	run -64 as component --to @ <<<text
	run -64 as component --to bob@b.test --type groupchat <<<text
	run -64 as component --to bob@b.test --subject $'\x01' <<<text
	install -m 600 /dev/null wrong
	echo not-it >wrong
	run -77 as user --password-file wrong --to "bob@$XMPP_HOST" <<<text
	run -77 as component --secret-file wrong --to "bob@$XMPP_HOST" <<<text
	server_free_port
	run -69 as component --connect "127.0.0.1:$FREE_PORT" --to "bob@$XMPP_HOST" <<<text
	run -74 as component --to "bob@$XMPP_HOST" <"$PWD"
}

waits_for_late_bounces()
{
	on "$1"
	start late _late
	wait_for test -s late.ready
	# the other component answers when it likes
	run -0 as component --to late.test@deleg.test <<<text
	run -1 as component --to late.test@deleg.test --wait 20 <<<text
	assert_output "xmpp-message: message to 'late.test@deleg.test' came back: gone"
}
_late()
{
	exec xmpp-connect --domain deleg.test --connect "127.0.0.1:$COMPONENT_PORT" --secret-file "$SECRET_FILE" \
		--json --ready-fd 9 9>late.ready -- sh -c 'while read -r object; do
			sleep 1
			printf "%s\n" "$object" | jq -c "{kind, type: \"error\", id, to: .from, from: .to, error: {type: \"cancel\", condition: \"gone\"}}"
		done'
}
@test "--wait: a bounce that comes later (prosody)" { waits_for_late_bounces prosody; }

@test "requests that come meanwhile are answered" {
	on prosody
	mkfifo lines
	start sender _lines component
	exec {lines}>lines
	wait_for ask_it
	exec {lines}>&-
	await sender
}
ask_it()
{
	xmpp-iq -q --jid "alice@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" --password-file "$PASSWORD_FILE" \
		--tls-ca "$TLS_CA" --to jat.test --stanza "<q xmlns='urn:q'/>" >answer 2>/dev/null
	grep -q "<error type='wait'><recipient-unavailable" answer && [[ ! $(<answer) == *'component is not'* ]]
}

@test "a server that does not answer the handshake: 124" {
	fake 'open ; any-handshake ; wait-close'
	secret_file
	run -124 xmpp-message --domain d.test --connect "127.0.0.1:$FAKE_PORT" --secret-file secret \
		--timeout 0.3 --to vhost.test <<<'hello'
	assert_output --partial 'no login as d.test within 0.3 s'
}
