# shellcheck shell=bash
# shellcheck disable=SC2154 # started: lib
# Component streams for tests; loaded after lib.
#
#   fake [OPTION...] SCRIPT...   start servers/fake-component-server.py; its port in $FAKE_PORT,
#                           its output in fake.out; `await fake` is 0 if all went as expected;
#                           ends an earlier one
#   echo_service OPTION...  start build/tools/echo-service as "echo" for the component jat.test
#                           with the secret "secret" on $FAKE_PORT (or $COMPONENT_PORT)
#   echo_counters PATTERN   make it print its counters; succeeds if they match (for wait_for)
#   stuck NAME              succeeds when the daemon NAME has answered some requests and its counters
#                           no longer change (for wait_for)
#   hwm_kib PID             the most memory it ever had
#   supervisor              listen on a socket in $NOTIFY_SOCKET; its datagrams are in notify.out, one a line
#   ready_again             succeeds when it has received READY after RELOADING (for wait_for)

secret_file()
{
	[[ -e secret ]] || (umask 077 && echo secret >secret)
}

fake()
{
	[[ -z ${started[fake]:-} ]] || end fake || true
	rm -f fake.out
	start fake "$TESTS/servers/fake-component-server.py" "$@"
	wait_for grep -q '^port ' fake.out
	FAKE_PORT=$(sed -n 's/^port //p' fake.out)
}

echo_service()
{
	secret_file
	# shellcheck disable=SC2086
	start echo ${WRAP:-} "$BUILDDIR/tools/echo-service" --domain jat.test \
		--connect "127.0.0.1:${FAKE_PORT:-${COMPONENT_PORT:-}}" --secret-file secret "$@"
}

# run_echo_service OPTION...: as echo_service, until it ends, under bats' run
run_echo_service()
{
	secret_file
	run timeout 60 "$BUILDDIR/tools/echo-service" --domain jat.test \
		--connect "127.0.0.1:${FAKE_PORT:-${COMPONENT_PORT:-}}" --secret-file secret "$@"
}

echo_counters()
{
	# it catches signals only after that
	grep -q ' up$' echo.err || return
	kill -USR1 "${started[echo]}"
	grep -q "$1" echo.err
}

stuck()
{
	local before=${counted:-}
	kill -USR1 "${started[$1]}"
	counted=$(grep -o 'queued_bytes=[0-9]*\|answers=[0-9]*' "$1.err" | tail -n 2)
	[[ -n $counted && $counted == "$before" && $counted != *answers=0* ]]
}

hwm_kib() { sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$1/status"; }

supervisor()
{
	rm -f notify.out
	start notify python3 -u -c '
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("notify")
print("bound")
while True:
    print(s.recv(65536).decode().replace("\n", " "))'
	wait_for grep -q bound notify.out
	export NOTIFY_SOCKET=$PWD/notify
}

ready_again() { sed -n '/^RELOADING/,$p' notify.out | grep -q '^READY=1'; }
