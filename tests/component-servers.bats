#!/usr/bin/env bats
# shellcheck disable=SC2154 # echo_pid: start
# The component stream with real servers.
# check-servers

load lib
load stream
load servers/both

setup_file() { both_start --tls off; }
teardown() { stop_all; }

# A request from another component of the server is answered.
answers()
{
	local id=r$RANDOM
	run timeout 60 xmpp-connect --domain jat2.test --connect "127.0.0.1:$COMPONENT_PORT" \
		--secret-file "$SECRET_FILE" <<-END
			<iq type='get' id='$id' from='jat2.test' to='jat.test'><x xmlns='urn:x'>$1</x></iq>
		END
	assert_success
	assert_output --partial "<x xmlns='urn:x'>$1</x>"
	assert_output --regexp "id=[\"']${id}[\"']"
	assert_output --regexp "type=[\"']result[\"']"
}

serves()
{
	on "$1"
	echo_service
	wait_for grep -q ' up$' echo.err
	answers 'tr&amp;iöl'
	end echo
	assert_equal "$(cat echo.err)" 'echo-service: up'
}

@test "Prosody: a request is served, SIGTERM ends the stream in order" { serves prosody; }
@test "ejabberd: a request is served, SIGTERM ends the stream in order" { serves ejabberd; }

denied()
{
	on "$1"
	(umask 077 && echo wrong >secret)
	run_echo_service
	assert_failure 77
	assert_line --regexp 'stream error not-authorized for jat.test: the secret is wrong'
	assert_equal "${#lines[@]}" 1
}

@test "Prosody: wrong secret, 77 at once" { denied prosody; }
@test "ejabberd: wrong secret, 77 at once" { denied ejabberd; }

# run_echo_as DOMAIN PORT OPTION...
run_echo_as()
{
	run timeout 60 "$BUILDDIR/tools/echo-service" --domain "$1" --connect "127.0.0.1:$2" \
		--secret-file "$SECRET_FILE" "${@:3}"
}

@test "Prosody: wrong domain, 78" {
	on prosody
	run_echo_as nosuch.test "$COMPONENT_PORT"
	assert_failure 78
	assert_output --partial 'stream error host-unknown for nosuch.test: the server does not know this component'
}

@test "ejabberd: wrong domain cannot be told from a wrong secret: 77, and the message names both" {
	on ejabberd
	run_echo_as nosuch.test "$COMPONENT_PORT"
	assert_failure 77
	assert_output --partial 'the secret is wrong, or the server does not know the domain'
}

@test "ejabberd: the domain of a virtual host is a conflict" {
	on ejabberd
	run_echo_as vhost.test "$COMPONENT_PORT" --retries 0
	assert_failure 75
	assert_output --partial 'stream error conflict for vhost.test'
}

@test "the port of clients is no component port: 78" {
	on prosody
	run_echo_as jat.test "$C2S_PORT"
	assert_failure 78
	on ejabberd
	run_echo_as jat.test "$C2S_PORT"
	assert_failure 78
	assert_output --partial 'this is no component port'
}

@test "Prosody: a second component for the domain waits and takes over" {
	on prosody
	secret_file
	start first "$BUILDDIR/tools/echo-service" --domain jat.test --secret-file secret \
		--connect "127.0.0.1:$COMPONENT_PORT"
	wait_for grep -q ' up$' first.err
	run_echo_service --retries 0
	assert_failure 75
	echo_service
	wait_for grep -q 'conflict.*next attempt in 1[1-8]\.[0-9] s' echo.err
	end first
	WAIT_S=40 wait_for grep -q ' up$' echo.err
	answers standby
	end echo
}

@test "ejabberd: several components of one domain are served side by side" {
	on ejabberd
	secret_file
	start first "$BUILDDIR/tools/echo-service" --domain jat.test --secret-file secret \
		--connect "127.0.0.1:$COMPONENT_PORT"
	wait_for grep -q ' up$' first.err
	echo_service
	wait_for grep -q ' up$' echo.err
	answers either
	end first
	answers one
	end echo
}

restarts()
{
	on "$1"
	echo_service
	wait_for grep -q ' up$' echo.err
	"${1}_restart" "$SERVER_DIR"
	wait_for _up_again
	answers again
	end echo
	grep -q ' down$' echo.err
}

_up_again() { [[ $(grep -c ' up$' echo.err) == 2 ]]; }

@test "Prosody: restart" { restarts prosody; }
@test "ejabberd: restart" { restarts ejabberd; }

killed()
{
	on "$1"
	start echo "$BUILDDIR/tools/echo-service" --domain jat2.test --secret-file "$SECRET_FILE" \
		--connect "127.0.0.1:$COMPONENT_PORT" --retries 0
	wait_for grep -q ' up$' echo.err
	server_kill "$SERVER_DIR" KILL
	status=0
	await echo || status=$?
	assert_equal "$status" 75
	"${1}_restart" "$SERVER_DIR"
}

@test "Prosody killed: with --retries 0 it is 75" { killed prosody; }

@test "ejabberd: a wrong from ends the stream, and we say why" {
	on ejabberd
	run timeout 60 xmpp-connect --domain jat2.test --connect "127.0.0.1:$COMPONENT_PORT" \
		--secret-file "$SECRET_FILE" <<<"<message from='other.test' to='jat.test'/>"
	assert_failure
	assert_output --partial 'invalid-from'
}
