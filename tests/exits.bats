#!/usr/bin/env bats
# shellcheck disable=SC2154 # FREE_PORT, FAKE_PORT
# Exit statuses that need a server which is not there, or breaks the protocol: the same for every program
# that connects.
# installcheck

load lib
load stream

setup() { secret_file; }
teardown() { stop_all; }

# connecting PORT OPTION...: a command line for each component program that connects to PORT
connecting()
{
	local port=$1
	shift
	common=(--domain d.test --connect "127.0.0.1:$port" --secret-file secret "$@")
	programs=(
		"xmpp-jat-proxy --encoding plain --target impl@vhost.test"
		"xmpp-delegate --delegate urn:x=man.test"
		"xmpp-manage --host vhost.test --namespace urn:x"
		"roster-apply --host vhost.test"
		"xmpp-share --listen 127.0.0.1:0"
	)
}

# exits STATUS: each of them exits with STATUS. Their input is held open, because roster-apply ends with its
# input.
exits()
{
	local program words input
	mkfifo input
	exec {input}<>input
	for program in "${programs[@]}"; do
		read -ra words <<<"$program"
		set -- "$1"
		echo "# ${words[*]}"
		[[ ${words[0]} != xmpp-manage ]] || set -- "$1" -- cat
		run -"$1" timeout 60 "${words[@]}" "${common[@]}" "${@:2}" <input
	done
	exec {input}<&-
}

@test "no server, and retries used up: 69" {
	server_free_port
	connecting "$FREE_PORT" --retries 1
	exits 69
	run -69 timeout 60 xmpp-iq --domain d.test --connect "127.0.0.1:$FREE_PORT" \
		--secret-file secret --to vhost.test --ping
	assert_output --partial refused
}

@test "a server that breaks the protocol, and retries used up: 76" {
	fake --forever 'up ; send <!-- hello --> ; wait-close'
	connecting "$FAKE_PORT" --retries 1
	exits 76
	fake --forever 'open ; any-handshake ; send <!-- hello --> ; wait-close'
	run -76 timeout 60 xmpp-iq --domain d.test --connect "127.0.0.1:$FAKE_PORT" \
		--secret-file secret --to vhost.test --ping
}

@test "xmpp-iq: 77 for a wrong secret, 78 without one to read, 124 without a reply" {
	local ask=(timeout 60 xmpp-iq --domain d.test --to vhost.test --ping)
	fake --forever "open ; any-handshake ; send <stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error> ; wait-close"
	run -77 "${ask[@]}" --connect "127.0.0.1:$FAKE_PORT" --secret-file secret
	run -78 "${ask[@]}" --connect "127.0.0.1:$FAKE_PORT" --secret-file nothing
	fake --forever 'up ; wait-close'
	run -124 "${ask[@]}" --connect "127.0.0.1:$FAKE_PORT" --secret-file secret --reply-timeout 0.2
	assert_output --partial 'no reply'
}
