#!/usr/bin/env bats
# The private servers the other tests rely on.
# check-servers

load lib

# component_hello DOMAIN: do the XEP-0114 handshake and print what the server says until PATTERN
component_hello()
{
	local port id hash line
	port=$(component_port "$1")
	exec {fd}<>"/dev/tcp/127.0.0.1/$port"
	printf "<stream:stream xmlns='jabber:component:accept' to='%s' %s>" "$1" \
		"xmlns:stream='http://etherx.jabber.org/streams'" >&"$fd"
	IFS= read -r -t 20 -d '>' line <&"$fd"
	[[ $line == *'<?xml'* ]] && IFS= read -r -t 20 -d '>' line <&"$fd"
	id=$(sed -E "s/.* id=['\"]([^'\"]*).*/\1/" <<<"$line")
	hash=$(printf '%s%s' "$id" "$(cat "$SECRET_FILE")" | openssl sha1 -r | cut -d' ' -f1)
	printf '<handshake>%s</handshake>' "$hash" >&"$fd"
	IFS= read -r -t 20 -d '>' line <&"$fd"
	echo "$line>"
	until [[ $line == "${2:-<handshake}"* ]]; do
		IFS= read -r -t 20 -d '>' line <&"$fd" || break
		echo "$line>"
	done
	exec {fd}>&-
}

each_is_up_and_ends()
{
	local kind=$1 dir=$BATS_TEST_TMPDIR/$1 pid port
	shift
	"${kind}_start" "$dir" "$@"
	pid=$(server_pid "$dir")
	for port in $C2S_PORT $COMPONENT_PORT $OPEN_COMPONENT_PORT $HTTP_API_PORT $C2S_TLS_PORT; do
		server_listens "$pid" "$port"
	done
	assert_file_permission 600 "$SECRET_FILE"
	run component_hello jat.test
	assert_output --partial '<handshake'
	run component_hello priv.test '</privilege'
	assert_output --partial "<perm "
	run component_hello rosters.test '</privilege'
	assert_output --partial "<perm "

	port=$COMPONENT_PORT
	"${kind}_restart" "$dir"
	assert_equal "$COMPONENT_PORT" "$port"
	run component_hello jat.test
	assert_output --partial '<handshake'
	assert_not_equal "$(server_pid "$dir")" "$pid"

	pid=$(server_pid "$dir")
	"${kind}_stop" "$dir"
	run server_pid "$dir"
	assert_failure
	wait_for _gone "$pid"
}

@test "prosody starts, restarts on the same ports, ends" {
	each_is_up_and_ends prosody --component more.test
	run grep -q more.test "$SERVER_DIR/prosody.cfg.lua"
	assert_success
}

@test "ejabberd starts, restarts on the same ports, ends" {
	each_is_up_and_ends ejabberd --privileges
}

@test "nginx serves files over HTTP and HTTPS and logs the requests" {
	nginx_start "$BATS_TEST_TMPDIR/nginx" --tls on --server 'location /no { return 503; }'
	mkdir -p "$NGINX_DIR/www/contacts"
	echo '{}' >"$NGINX_DIR/www/contacts/john"
	run curl -sS "http://127.0.0.1:$NGINX_PORT/contacts/john"
	assert_output '{}'
	run curl -sS --cacert "$NGINX_TLS_CA" "https://localhost:$NGINX_TLS_PORT/contacts/john"
	assert_output '{}'
	run curl -sS -o /dev/null -w '%{http_code}' "http://127.0.0.1:$NGINX_PORT/no"
	assert_output 503
	assert_file_contains "$NGINX_DIR/access.log" '^GET /contacts/john 200$'
	nginx_stop "$NGINX_DIR"
}

@test "a server ends with the shell that started it, however that ends" {
	start owner bash -c '. "$TESTS/servers/servers.bash"; prosody_start "$1" --tls off; echo up
		exec sleep 1000' - "$PWD/prosody"
	wait_for grep -q up owner.out
	pid=$(server_pid "$PWD/prosody")
	end owner KILL || true
	wait_for _gone "$pid"
}

@test "a server that cannot start says so and shows its log" {
	run prosody_start "$BATS_TEST_TMPDIR/prosody" --tls off --global 'this is not lua'
	assert_failure
	assert_output --partial 'prosody in'
	assert_output --partial 'did not start'
}

@test "tests/run: a file whose run is killed, and one that is never begun, have failed" {
	printf 'load %s/lib\n@test "ok" {\n%s\n}\n' "$TESTS" true >first.bats
	cp first.bats never.bats
	# the nearest bats process above it is the one that runs this file
	# shellcheck disable=SC2016
	printf 'load %s/lib\n@test "ok" {\n%s\n}\n' "$TESTS" 'pid=$$
		until [[ $(tr "\0" " " </proc/$pid/cmdline) == "bash -c one_file "*killed.bats* ]]; do
			pid=$(sed -n "s/^PPid:[[:space:]]*//p" /proc/$pid/status)
			((pid > 1))
		done
		kill -KILL "$pid"' >killed.bats
	run -1 env BUILD="$PWD/build" "$TESTS/run" -j 1 "$PWD/first.bats" "$PWD/killed.bats" "$PWD/never.bats"
	assert_line 'tests: 1 ok, 2 not ok, 0 skipped'
}

@test "tests/lib: the timer of a test ends with it, however soon that is" {
	{
		echo "load $TESTS/lib"
		for n in {1..30}; do echo "@test \"$n\" { true; }"; done
	} >quick.bats
	run -0 env BATS_TEST_TIMEOUT=1000 timeout 100 bats --tap quick.bats
	assert_line --partial 'ok 30'
}
