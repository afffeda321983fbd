#!/usr/bin/env bats
# roster-refresh-listen: each clause of the endpoint, and hostile clients.
# installcheck

# shellcheck disable=SC2154 # what start sets
load lib

# A worker that the files in its folder control: it writes the names it gets to the file `given`, and holds
# the record of NAME back for as long as hold.NAME exists.
setup()
{
	cat >worker <<-'END'
		#!/bin/bash
		dir=$(dirname "$0")
		echo $$ >>"$dir/pids"
		while read -r name; do
			echo "$name" >>"$dir/given"
			case $name in
			bad*) echo "{\"user\":\"$name\",\"status\":\"error\",\"error\":\"http-404\"}" ;;
			silent*) ;;
			die*) exit 3 ;;
			login*) echo "{\"user\":\"$name\",\"status\":\"ok\"}"
				echo "{\"event\":\"login\",\"user\":\"marie\"}" ;;
			*)
				while [[ -e $dir/hold.$name ]]; do read -rt 0.02 <>"$dir/never"; done
				echo "{\"user\":\"$name\",\"status\":\"ok\",\"added\":1}"
				;;
			esac
		done
	END
	chmod +x worker
	mkfifo never
}

teardown()
{
	stop_all
	if mountpoint -q small; then umount small; fi
}

# listener [OPTION...] [-- WORKER]: start it; sets url and port
listener()
{
	start listener roster-refresh-listen -v --listen 127.0.0.1:0 "$@"
	wait_for grep -q 'listening on' listener.err
	port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\)$/\1/p' listener.err)
	url=http://127.0.0.1:$port/roster_admin/refresh
}

# ask CURL-ARGUMENT...: print "STATUS BODY"
ask()
{
	run curl --silent --show-error --max-time 15 -D header -o body -w '%{http_code}' "$@"
	[[ $status == 0 ]] || return 1
	output="$output $(cat body)"
}

# answers STATUS UPDATED ERRORS CURL-ARGUMENT...: the request gets this status and these counts
answers()
{
	local want="$1 $2 $3"
	shift 3
	ask "$@"
	assert_equal "${output%% *} $(jq -r '"\(.updated) \(.errors)"' body)" "$want"
	assert_equal "$(jq -r 'keys_unsorted | map(select(. != "failed" and . != "pending")) | join(" ")' body)" \
		"status message updated errors"
	assert_equal "$(jq -r '(.failed // {}) | length' body)" "${want##* }"
	run grep -i '^content-type: application/json' header
	assert_success
}

@test "the seed's john and aaron: done, counted, answered" {
	listener -- ./worker
	ask --data '["john", "aaron"]' "$url"
	assert_output '200 {"status":"ok","message":"roster update complete","updated":2,"errors":0}'
	assert_equal "$(cat given)" $'john\naaron'
	answers 200 1 0 "$url/john"
	end listener
}

@test "GET of one user: the name is percent-decoded" {
	listener -- ./worker
	answers 200 1 0 "$url/j%C3%BCr%67en"
	answers 200 1 0 "$url/a%2Fb?c"
	assert_equal "$(cat given)" $'jürgen\na/b'
	answers 400 0 0 "$url/%00"
	answers 400 0 0 "$url/a%0Ab"
	answers 400 0 0 "$url/a%2"
	answers 400 0 0 "$url/%ff"
}

@test "honest counts: errors counted, all failed is 'error', duplicates once, nothing is zeros" {
	listener -- ./worker
	answers 200 2 1 --data '["john","bad","marie","john"]' "$url"
	assert_equal "$(jq -r .status body)" ok
	answers 200 0 2 --data '["bad1","bad2"]' "$url"
	assert_equal "$(jq -r .status body)" error
	answers 200 0 0 --data '[]' "$url"
	assert_equal "$(jq -r .status body)" ok
	assert_equal "$(grep -c john given)" 1
}

@test "bodies that are none: 400, nothing is begun" {
	listener -- ./worker
	for body in '' '[' 'john' 'null' '1' '"john"' '{"john":1}' '[1]' '["john",null]' '["john",["x"]]' \
		'[""]' '["a\nb"]' '["a\u0000b"]' '["john"] x' '[[[[[[[[]]]]]]]]' "[\"$(printf '%01100d' 0)\"]"; do
		answers 400 0 0 --data-binary "$body" "$url"
	done
	printf '["\xff"]' >latin
	answers 400 0 0 --data-binary @latin "$url"
	answers 400 0 0 -X POST "$url"
	assert_not_exist given
}

@test "404, 405 with Allow" {
	listener -- ./worker
	for path in /x /roster_admin /roster_admin/refreshx /roster_admin/refresh/ \
		/roster_admin/refresh/a/b '/roster_admin/refresh/..%2f/x'; do
		answers 404 0 0 --path-as-is "http://127.0.0.1:$port$path"
	done
	answers 405 0 0 "$url"
	assert_file_contains header '^Allow: POST'
	answers 405 0 0 -X POST --data '["a"]' "$url/john"
	assert_file_contains header '^Allow: GET'
	for method in PUT DELETE OPTIONS PATCH; do
		answers 405 0 0 -X "$method" "$url"
		assert_file_contains header '^Allow: POST'
	done
	assert_not_exist given
}

@test "a web page is refused: a POST with an Origin, unless a token matched" {
	listener -- ./worker
	answers 403 0 0 -H 'Origin: http://evil.example' --data '["john"]' "$url"
	answers 403 0 0 -H 'Origin: null' -H 'Content-Type: text/plain' --data '["john"]' "$url"
	end listener
	(umask 077 && echo open-sesame >token)
	listener --token-file token -- ./worker
	answers 401 0 0 -H 'Origin: http://evil.example' --data '["john"]' "$url"
	answers 200 1 0 -H 'Origin: http://good.example' -H 'Authorization: Bearer open-sesame' \
		--data '["john"]' "$url"
	assert_equal "$(cat given)" john
}

@test "401 with WWW-Authenticate: missing, wrong, longer, shorter; SIGHUP reads the token again" {
	(umask 077 && echo open-sesame >token)
	listener --token-file token -- ./worker
	for given in '' 'Bearer' 'Bearer ' 'Bearer open' 'Bearer open-sesame1' 'Basic open-sesame' \
		'Bearer open-sesamE'; do
		answers 401 0 0 -H "Authorization: $given" --data '["john"]' "$url"
		assert_file_contains header '^WWW-Authenticate: Bearer'
	done
	answers 401 0 0 "$url/john"
	answers 200 1 0 -H 'Authorization: bearer open-sesame' --data '["john"]' "$url"
	echo other >token
	kill -HUP "$listener_pid"
	changed() { ask -H 'Authorization: Bearer other' --data '["john"]' "$url" && [[ $output == 200* ]]; }
	wait_for changed
	answers 401 0 0 -H 'Authorization: Bearer open-sesame' --data '["john"]' "$url"
	run grep -E 'sesame' listener.err
	assert_failure
	chmod 644 token
	run -78 roster-refresh-listen --listen 127.0.0.1:0 --token-file token
}

@test "a request whose end is not clear: 400, and nothing behind it is taken for another" {
	listener -- ./worker
	smuggled=$'["john"]GET /roster_admin/refresh/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n'
	for header in $'Content-Length: 8\r\nContent-Length: 9' $'Content-Length : 8\r\nContent-Length: 8' \
		'Content-Length : 8' $'Content-Length: 8\r\nTransfer-Encoding: chunked' \
		'Transfer-Encoding: gzip, chunked' 'Transfer-Encoding: xchunked'; do
		exec {fd}<>"/dev/tcp/127.0.0.1/$port"
		printf 'POST /roster_admin/refresh HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n%s' "$header" "$smuggled" >request
		# in one write: the answer may come, and the connection be closed, after the first line
		cat request >&"$fd"
		run timeout 10 cat <&"$fd"
		exec {fd}>&-
		assert_line --index 0 $'HTTP/1.1 400 Bad Request\r'
		assert_equal "$(grep -c '^HTTP/' <<<"$output")" 1
	done
	answers 200 1 0 --data '["marie"]' "$url"
	assert_equal "$(cat given)" marie
}

@test "413: at once by Content-Length, after a chunked body within twice the limit, closed beyond" {
	listener --max-body-bytes 1000 -- ./worker
	head -c 1001 /dev/zero >over
	head -c 2000 /dev/zero >twice
	head -c 2001 /dev/zero >beyond
	answers 413 0 0 --data-binary @over "$url"
	exec {fd}<>"/dev/tcp/127.0.0.1/$port"
	printf 'POST /roster_admin/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n' >&"$fd"
	read -r -t 10 line <&"$fd"
	assert_equal "${line%$'\r'}" 'HTTP/1.1 413 Content Too Large' ||
		assert_equal "${line%$'\r'}" 'HTTP/1.1 413 Payload Too Large'
	exec {fd}>&-
	for body in over twice; do
		answers 413 0 0 -H 'Transfer-Encoding: chunked' --data-binary "@$body" "$url"
	done
	run curl --silent --max-time 10 -H 'Transfer-Encoding: chunked' --data-binary @beyond "$url"
	assert_equal "$status" 52
	wait_for grep -q 'body without end' listener.err
	# a large request that is sent whole before its answer is read
	head -c 3000000 /dev/zero >large
	answers 413 0 0 -H 'Expect:' --data-binary @large "$url"
	assert_not_exist given
}

@test "503 with Retry-After: more users than --max-pending" {
	listener --max-pending 2 -- ./worker
	answers 503 0 0 --data '["a","b","c"]' "$url"
	assert_file_contains header '^Retry-After: [1-9]'
	answers 200 2 0 --data '["a","b"]' "$url"
}

@test "a user asked for while at work is done once more, and who asked waits for that" {
	listener -- ./worker
	touch hold.john
	start one curl --silent --data '["john"]' "$url"
	wait_for grep -qs john given
	start two curl --silent --data '["john"]' "$url"
	start three curl --silent --data '["john","marie"]' "$url"
	waiting() { kill -USR1 "$listener_pid" && tail -n 1 listener.err | grep -q 'waiting_rosters=2.* http_connections=3'; }
	wait_for waiting
	rm hold.john
	await one
	await two
	await three
	assert_equal "$(grep -c john given)" 2
	assert_equal "$(jq .updated three.out)" 2
}

@test "the deadline: what is late is an error, and its record answers nobody" {
	listener --timeout 3 -- ./worker # long enough for a busy machine
	answers 200 1 1 --data '["marie","silent"]' "$url"
	assert_equal "$(jq -r .message body)" 'not all rosters were updated in time'
	touch hold.john
	answers 200 0 1 --data '["john"]' "$url"
	rm hold.john
	idle() { kill -USR1 "$listener_pid" && tail -n 1 listener.err | grep -q 'waiting_rosters=1'; }
	wait_for idle
	answers 200 1 0 --data '["john"]' "$url"
}

@test "the name of --listen that no name server answers: SIGTERM ends the start" {
	local resolver=$BUILDDIR/preload/resolver.so
	[[ -e $resolver && -z ${WRAP:-} ]] || not_here "no preloaded library here"
	start listener env "LD_PRELOAD=$LD_PRELOAD $resolver" roster-refresh-listen --listen slow.example:5280 -- ./worker
	wait_for grep -q ^roster-refresh- "/proc/$listener_pid/comm"
	status=0
	end listener || status=$?
	assert_equal "$status" 143
}

@test "a worker that dies is started again; its names are given once more, then they have failed" {
	listener -- ./worker
	answers 200 0 1 --data '["die"]' "$url"
	assert_equal "$(grep -c die given)" 2
	answers 200 1 0 --data '["john"]' "$url"
	assert_equal "$(wc -l <pids)" 3
	touch hold.marie
	start one curl --silent --data '["marie"]' "$url"
	wait_for grep -qs marie given
	rm hold.marie
	await one
	assert_equal "$(jq .updated one.out)" 1
}

@test "a worker that writes junk without end is complained of once" {
	listener -- sh -c 'yes junk | head -n 50000; exec sleep 60'
	all_read() { kill -USR1 "${started[listener]}" && grep -q 'stray_records=50000 ' listener.err; }
	wait_for all_read
	assert [ "$(grep -c 'no record' listener.err)" -lt 5 ]
}

@test "thousands at once, for a worker that writes each record before it reads on" {
	listener -- jq --unbuffered -Rc '{user: ., status: "ok"}'
	seq -f 'somebody-with-a-name-%g' 6000 | jq -Rnc '[inputs]' >names
	answers 200 6000 0 --data-binary @names "$url"
}

@test "a login event refreshes that user" {
	listener -- ./worker
	answers 200 1 0 --data '["login"]' "$url"
	wait_for grep -qs marie given
}

@test "without a worker names are printed, and the answer says how many" {
	listener
	answers 200 2 0 --data '["john","aaron","john"]' "$url"
	assert_equal "$(cat listener.out)" $'john\naaron'
	end listener
}

@test "a standard output that nobody reads: 74" {
	start listener bash -c 'exec roster-refresh-listen --listen 127.0.0.1:0 >/dev/full'
	wait_for grep -q 'listening on' listener.err
	port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\)$/\1/p' listener.err)
	curl --silent --max-time 10 --data '["john"]' "http://127.0.0.1:$port/roster_admin/refresh" || true
	status=0
	await listener || status=$?
	assert_equal "$status" 74
}

@test "slow-loris, half-open, lying Content-Length: closed in time, others are served meanwhile" {
	listener --receive-timeout 2 --max-connections 8 -- ./worker
	local -a fds=()
	for i in {1..6}; do
		exec {fd}<>"/dev/tcp/127.0.0.1/$port"
		fds+=("$fd")
	done
	printf 'POST /roster_ad' >&"${fds[0]}"
	printf 'POST /roster_admin/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n["john"]' >&"${fds[1]}"
	printf 'POST /roster_admin/refresh HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n["a' >&"${fds[2]}"
	answers 200 1 0 --data '["marie"]' "$url"
	for fd in "${fds[@]}"; do
		run timeout 10 cat <&"$fd"
		assert_success
		assert_output ''
		exec {fd}>&-
	done
	assert_equal "$(cat given)" marie
	kill -USR1 "$listener_pid"
	wait_for grep -q 'http_unfinished=6 ' listener.err
	# more clients than it serves at once: the rest waits, none is lost
	fds=()
	for i in {1..12}; do
		exec {fd}<>"/dev/tcp/127.0.0.1/$port"
		fds+=("$fd")
	done
	answers 200 1 0 --data '["john"]' "$url"
}

@test "a client that shuts down its side after its request is answered, also one whose requests follow a 404" {
	listener -- ./worker
	# a client that goes away in the middle must not matter
	exec {gone}<>"/dev/tcp/127.0.0.1/$port"
	printf 'POST /roster_admin/refresh HTTP/1.1\r\nContent-Length: 20\r\n\r\n["john"]' >&"$gone"
	exec {gone}>&-
	touch hold.marie
	{
		printf 'GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n'
		printf 'POST /roster_admin/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n["marie"]'
	} >requests
	socat -t 20 - "TCP:127.0.0.1:$port" <requests >answers &
	wait_for grep -q marie given
	rm hold.marie
	wait $!
	assert_equal "$(grep -c '^HTTP/1.1 404' answers)" 1
	assert_file_contains answers '"updated":1,"errors":0'
}

@test "kill -9 with names spooled: nothing that was accepted is lost" {
	listener --spool spool -- ./worker
	touch hold.john
	start one curl --silent --data '["john","marie","silent"]' "$url"
	wait_for grep -qs john given
	kill -KILL "$listener_pid"
	await listener || true
	await one || true
	: >given
	rm hold.john
	listener --spool spool -- ./worker
	given() { [[ $(sort given) == $'john\nmarie\nsilent' ]]; }
	wait_for given
	spooled() { kill -USR1 "$listener_pid" && tail -n 1 listener.err | grep -q 'spooled=1'; }
	wait_for spooled
	end listener
	: >given
	# a finished name is not done again
	listener --spool spool -- ./worker
	wait_for grep -qs silent given
	assert_equal "$(cat given)" silent
}

@test "two processes share a spool: neither takes the other's names" {
	mkdir spool
	mkfifo spool/names.fifo # no file of the spool
	listener --spool spool -- ./worker
	touch hold.john
	start one curl --silent --data '["john"]' "$url"
	wait_for grep -qs john given
	start second roster-refresh-listen --listen 127.0.0.1:0 --spool spool
	wait_for grep -q 'listening on' second.err
	end second
	assert_equal "$(cat second.out)" ''
	rm hold.john
	await one
	end listener
	assert_equal "$(ls spool)" $'lock\nnames.fifo'
}

@test "a spool on a full disk: 503, nothing accepted" {
	mkdir -p small
	mount -t tmpfs -o size=16k tmpfs small 2>/dev/null || not_here "no mount"
	listener --spool small/spool -- ./worker
	head -c 1000000 /dev/zero >small/fill 2>/dev/null || true
	ask --data '["john"]' "$url"
	first=${output%% *}
	rm small/fill
	answers 200 1 0 --data '["marie"]' "$url"
	end listener
	umount small
	assert_equal "$first" 503
	assert_equal "$(cat given)" marie
	assert_file_contains listener.err "cannot write to the spool 'small/spool': No space left on device"
}

@test "a unix socket, several clients" {
	start listener roster-refresh-listen --unix "$PWD/sock" -- ./worker
	wait_for listens "$PWD/sock"
	assert_equal "$(stat -c %a sock)" 600
	for i in 1 2 3; do
		start "client$i" curl --silent --unix-socket sock --data "[\"john$i\"]" http://x/roster_admin/refresh
	done
	for i in 1 2 3; do
		await "client$i"
		assert_equal "$(jq .updated "client$i.out")" 1
	done
	end listener
	assert_not_exist sock
}

@test "systemd sockets: Accept=no and Accept=yes" {
	server_free_port
	start no systemd-socket-activate -l "127.0.0.1:$FREE_PORT" "$BINDIR/roster-refresh-listen" "$PWD/worker"
	wait_for grep -q Listening no.err
	answers 200 1 0 --data '["john"]' "http://127.0.0.1:$FREE_PORT/roster_admin/refresh"
	answers 200 1 0 --data '["john"]' "http://127.0.0.1:$FREE_PORT/roster_admin/refresh"
	end no
	server_free_port
	start yes systemd-socket-activate --accept -l "127.0.0.1:$FREE_PORT" \
		"$BINDIR/roster-refresh-listen" "$PWD/worker"
	wait_for grep -q Listening yes.err
	answers 200 1 0 --data '["marie"]' "http://127.0.0.1:$FREE_PORT/roster_admin/refresh"
	answers 200 1 0 --data '["aaron"]' "http://127.0.0.1:$FREE_PORT/roster_admin/refresh"
	end yes || true
	assert_equal "$(cat given)" $'john\njohn\nmarie\naaron'
}

@test "a real inetd" {
	local inetd
	inetd=$(command -v inetd) || skip "no inetd"
	server_free_port
	echo "127.0.0.1:$FREE_PORT stream tcp nowait $(id -un) $BINDIR/roster-refresh-listen roster-refresh-listen --spool $PWD/spool $PWD/worker" >inetd.conf
	start inetd "$inetd" -d "$PWD/inetd.conf"
	ready() { ask --data '["john"]' "http://127.0.0.1:$FREE_PORT/roster_admin/refresh"; }
	wait_for ready
	assert_output '200 {"status":"ok","message":"roster update complete","updated":1,"errors":0}'
	answers 200 1 1 --data '["marie","bad"]' "http://127.0.0.1:$FREE_PORT/roster_admin/refresh"
	end inetd || true
}

@test "beyond loopback without a token: 78; a passed connection: 403" {
	run -78 roster-refresh-listen --listen 0.0.0.0:0 -- ./worker
	assert_output --partial 'beyond loopback'
	run -78 roster-refresh-listen --listen '[::]:0' -- ./worker
	local address
	address=$(ip -4 -o addr show scope global 2>/dev/null | awk '{sub("/.*", "", $4); print $4; exit}')
	[[ $address ]] || address=$(hostname -I 2>/dev/null | awk '{print $1}')
	[[ $address ]] || not_here "no address but loopback"
	server_free_port
	start no systemd-socket-activate -l "$address:$FREE_PORT" "$BINDIR/roster-refresh-listen" "$PWD/worker"
	wait_for grep -q Listening no.err
	curl --silent --max-time 10 "http://$address:$FREE_PORT/" || true
	status=0
	await no || status=$?
	assert_equal "$status" 78
	server_free_port
	start yes systemd-socket-activate --accept -l "$address:$FREE_PORT" \
		"$BINDIR/roster-refresh-listen" "$PWD/worker"
	wait_for grep -q Listening yes.err
	answers 403 0 0 --data '["john"]' "http://$address:$FREE_PORT/roster_admin/refresh"
	end yes || true
	assert_not_exist given
}

@test "IPv6, TLS, bad certificates" {
	# some machines have no IPv6
	if grep -qs '^0*1 ' /proc/net/if_inet6; then
		start six roster-refresh-listen --listen '[::1]:0' -- ./worker
		wait_for grep -q 'listening on' six.err
		answers 200 1 0 --data '["john"]' \
			"http://[::1]:$(sed -n 's/.*\]:\([0-9]*\)$/\1/p' six.err)/roster_admin/refresh"
		end six
	else
		run -78 roster-refresh-listen --listen '[::1]:0' -- ./worker
	fi
	(umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
		-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout key -out cert 2>/dev/null)
	listener --tls-cert cert --tls-key key -- ./worker
	answers 200 1 0 --cacert cert --data '["john"]' "https://127.0.0.1:$port/roster_admin/refresh"
	end listener
	run -78 roster-refresh-listen --listen 127.0.0.1:0 --tls-cert worker --tls-key key
	run -78 roster-refresh-listen --listen 127.0.0.1:0 --tls-cert nothing --tls-key key
	run -64 roster-refresh-listen --listen 127.0.0.1:0 --tls-cert cert
}

@test "SIGTERM: who has connected before it gets an answer" {
	listener -- ./worker
	kill -STOP "$listener_pid"
	for n in 1 2 3; do
		start "client$n" curl -sS -m 30 -w '%{http_code}' -o /dev/null -d '["john"]' "$url"
	done
	# all clients wait in the kernel's queue, with their requests sent
	sent()
	{
		[[ $(awk -v at="0100007F:$(printf %04X "$port")" \
			'$2 == at && $4 == "01" && $5 !~ /:00000000$/' /proc/net/tcp | wc -l) == 3 ]]
	}
	wait_for sent
	kill -TERM "$listener_pid"
	kill -CONT "$listener_pid"
	for n in 1 2 3; do
		await "client$n"
		assert_equal "$(cat "client$n.out")" 503
	done
	await listener
	assert_file_not_exist given
}

@test "SIGTERM waits for the open request" {
	listener -- ./worker
	touch hold.john
	start one curl --silent --data '["john"]' "$url"
	wait_for grep -qs john given
	kill -TERM "$listener_pid"
	wait_for grep -q stopping listener.err
	rm hold.john
	await one
	assert_equal "$(jq .updated one.out)" 1
	await listener
}

# raw REQUEST: the first line of the answer to these bytes
raw()
{
	printf '%b' "$1" | timeout 10 socat -t 5 - "TCP:127.0.0.1:$port" | head -n 1 | tr -d '\r'
}

@test "what failed is said, by name and kind; without a spool 502 when all failed for what passes" {
	cat >fails <<-'END'
		#!/bin/bash
		while read -r name; do
			case $name in ok*) echo "{\"user\":\"$name\",\"status\":\"ok\"}" ;;
			*) echo "{\"user\":\"$name\",\"status\":\"error\",\"error\":\"$name\"}" ;; esac
		done
	END
	chmod +x fails
	listener -- ./fails
	ask --data '["http-503","ok","not-json"]' "$url"
	assert_output '200 {"status":"ok","message":"some rosters could not be updated","updated":1,"errors":2,"failed":{"http-503":"http-503","not-json":"not-json"}}'
	for error in timeout connect tls truncated server-timeout http-500 http-599 http-408 http-429; do
		ask "$url/$error"
		assert_equal "$error ${output%% *}" "$error 502"
		assert_equal "$(jq -r ".failed[\"$error\"]" body)" "$error"
	done
	for error in http-404 rejected too-many-removals not-json forbidden; do
		ask "$url/$error"
		assert_equal "$error ${output%% *}" "$error 200"
	done
	ask --data '["http-503","http-404"]' "$url"
	assert_equal "${output%% *}" 200
	run cat listener.err
	assert_output --partial "2 of 3 rosters were not updated, the first one of 'http-503': http-503"
}

@test "--spool: what passes stays and is tried again until it is done; all else leaves" {
	cat >flaky <<-'END'
		#!/bin/bash
		while read -r name; do
			echo "$name" >>given
			if [[ $name == gone ]]; then
				echo "{\"user\":\"$name\",\"status\":\"error\",\"error\":\"http-404\"}"
			elif [[ -e down ]]; then
				echo "{\"user\":\"$name\",\"status\":\"error\",\"error\":\"http-503\"}"
			else
				echo "{\"user\":\"$name\",\"status\":\"ok\"}"
			fi
		done
	END
	chmod +x flaky
	touch down
	listener --spool spool -- ./flaky
	ask --data '["john","gone"]' "$url"
	assert_output '200 {"status":"error","message":"some rosters could not be updated","updated":0,"errors":2,"failed":{"john":"http-503","gone":"http-404"},"pending":1}'
	assert_equal "$(grep -ch '^+' spool/names.*)" 2
	tried() { [ "$(grep -c john given)" -ge 2 ]; }
	wait_for tried
	rm down
	# shellcheck disable=SC2317 # wait_for calls it
	emptied() { [ "$(cat spool/names.* | wc -c)" = 0 ]; }
	wait_for emptied
	assert_equal "$(grep -c gone given)" 1
	end listener
}

@test "--give-up: after that time it leaves the spool, told once" {
	printf '#!/bin/bash\nwhile read -r name; do echo "{\\"user\\":\\"$name\\",\\"status\\":\\"error\\",\\"error\\":\\"connect\\"}"; done' >down
	chmod +x down
	listener --spool spool --give-up 1 -- ./down
	ask "$url/john"
	assert_equal "$(jq -r .pending body)" 1
	wait_for grep -q "the roster of 'john' is given up: connect" listener.err
	# shellcheck disable=SC2317 # wait_for calls it
	emptied() { [ "$(cat spool/names.* | wc -c)" = 0 ]; }
	wait_for emptied
}

@test "targets: absolute form, percent-encoded paths; a missing or second Host is 400" {
	listener -- ./worker
	assert_equal "$(raw "GET http://localhost:$port/roster_admin/refresh/a HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\n\r\n")" 'HTTP/1.1 200 OK'
	assert_equal "$(raw "GET http://x.example/roster_admin/refresh/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")" 'HTTP/1.1 403 Forbidden'
	assert_equal "$(raw 'GET /%72oster%5Fadmin/refre%73h/a?x=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')" 'HTTP/1.1 200 OK'
	assert_equal "$(raw 'GET /roster_admin%2Frefresh/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')" 'HTTP/1.1 404 Not Found'
	assert_equal "$(raw 'GET /roster_admin/refresh/a HTTP/1.1\r\nConnection: close\r\n\r\n')" 'HTTP/1.1 400 Bad Request'
	assert_equal "$(raw 'GET /roster_admin/refresh/a HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n')" 'HTTP/1.1 400 Bad Request'
	assert_equal "$(raw 'GET /roster_admin/refresh/a HTTP/1.0\r\n\r\n' | cut -d' ' -f2)" 200
	assert_equal "$(raw 'GET /roster_admin/refresh/a%2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')" 'HTTP/1.1 400 Bad Request'
}

@test "a header as large as is allowed, and one that is larger" {
	listener -- ./worker
	ask -H "X-A: $(head -c 15800 /dev/zero | tr '\0' x)" "$url/john"
	assert_equal "${output%% *}" 200
	headers=()
	for i in {1..100}; do headers+=(-H "X-$i: $(head -c 140 /dev/zero | tr '\0' x)"); done
	ask "${headers[@]}" "$url/john"
	assert_equal "${output%% *}" 200
	ask -H "X-A: $(head -c 16400 /dev/zero | tr '\0' x)" "$url/john"
	assert_equal "${output%% *}" 431
}

@test "content codings are 415" {
	listener -- ./worker
	ask -H 'Content-Encoding: gzip' --data '["john"]' "$url"
	assert_equal "${output%% *}" 415
	ask -H 'Content-Encoding: identity' --data '["john"]' "$url"
	assert_equal "${output%% *}" 200
}

@test "/health: while the worker lives; HEAD; without a token" {
	(umask 077 && echo s3cret >token)
	listener --token-file token -- ./worker
	health=http://127.0.0.1:$port/health
	ask "$health"
	assert_output '200 ok'
	ask --head "$health"
	assert_equal "${output%% *}" 200
	ask -X POST "$health"
	assert_equal "${output%% *}" 405
	end listener
	printf '#!/bin/sh\nexit 1\n' >dies
	chmod +x dies
	listener -- ./dies
	down() { ask "http://127.0.0.1:$port/health" && [[ $output == '503 down' ]]; }
	wait_for down
}

@test "/health without a worker: while standard output is read" {
	mkfifo out
	exec 7<>out
	# shellcheck disable=SC2016
	start listener bash -c 'exec roster-refresh-listen -v --listen 127.0.0.1:0 >out 7>&-'
	exec 6<out 7>&-
	wait_for grep -q 'listening on' listener.err
	port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\)$/\1/p' listener.err)
	ask "http://127.0.0.1:$port/health"
	assert_output '200 ok'
	# with nobody who takes the names it is no service any more
	exec 6<&-
	status=0
	await listener || status=$?
	assert_equal "$status" 74
}

@test "no request of a web page without a token, by whatever sign" {
	listener -- ./worker
	echo '["john"]' >names
	for method in "--data @names $url" "$url/john"; do
		for header in 'Origin: http://localhost:3000' 'Origin: null' 'Referer: http://evil.example/x' \
			'Sec-Fetch-Site: cross-site' 'Sec-Fetch-Site: same-site' 'Host: evil.example' \
			'Host: 127.0.0.1.evil.example' 'Host: evil.localhost.example:80'; do
			# shellcheck disable=SC2086 # its words
			ask -H "$header" $method
			assert_equal "$header ${output%% *}" "$header 403"
		done
		for header in 'Host: localhost' 'Host: LOCALHOST:1' 'Host: 127.1.2.3' 'Host: [::1]:80' \
			"Host: $(hostname)" 'Sec-Fetch-Site: none' "Referer: http://127.0.0.1:$port/"; do
			# shellcheck disable=SC2086 # its words
			ask -H "$header" $method
			assert_equal "$header ${output%% *}" "$header 200"
		done
	done
	assert_equal "$(wc -l <given)" 14
	end listener
	listener --allow-host app.example -- ./worker
	ask -H 'Host: app.example:8080' "$url/john"
	assert_equal "${output%% *}" 200
	run -64 roster-refresh-listen --allow-host 'a/b' -- ./worker
}

@test "a unix socket has no Host of its own, but is for no web page either" {
	start listener roster-refresh-listen -v --listen-unix sock -- ./worker
	wait_for grep -q 'listening on' listener.err
	ask --unix-socket sock http://anything.example/roster_admin/refresh/john
	assert_equal "${output%% *}" 200
	ask --unix-socket sock -H 'Origin: http://x' http://anything.example/roster_admin/refresh/john
	assert_equal "${output%% *}" 403
}

@test "--allow-origin: exact, with a token only; the preflight is answered" {
	(umask 077 && echo s3cret >token)
	run -64 roster-refresh-listen --allow-origin http://app.example:8080 -- ./worker
	for origin in '*' null http://app.example/ app.example ftp://app.example; do
		run -64 roster-refresh-listen --token-file token --allow-origin "$origin" -- ./worker
	done
	listener --token-file token --allow-origin https://app.example:8443 --allow-origin http://b.example -- ./worker
	ask -X OPTIONS -H 'Origin: https://app.example:8443' -H 'Access-Control-Request-Method: POST' "$url"
	assert_equal "${output%% *}" 204
	run cat header
	assert_output --regexp 'Access-Control-Allow-Origin: https://app\.example:8443'
	assert_output --regexp 'Access-Control-Allow-Headers: .*Authorization'
	assert_output --regexp 'Vary: Origin'
	ask -X OPTIONS -H 'Origin: https://app.example' -H 'Access-Control-Request-Method: POST' "$url"
	assert_equal "${output%% *}" 403
	refute grep -qi 'allow-origin' header
	ask -H 'Origin: http://b.example' -H 'Authorization: Bearer s3cret' --data '["john"]' "$url"
	assert_equal "${output%% *}" 200
	assert grep -qi 'access-control-allow-origin: http://b.example' header
	ask -H 'Origin: http://b.example' --data '["john"]' "$url"
	assert_equal "${output%% *}" 401
}

@test "two tokens at once; clients use the first" {
	(umask 077 && printf 'new\nold\n' >token)
	listener --token-file token -- ./worker
	for token in new old; do
		ask -H "Authorization: Bearer $token" "$url/john"
		assert_equal "$token ${output%% *}" "$token 200"
	done
	for token in '' n newold 'new old' x; do
		ask -H "Authorization: Bearer $token" "$url/john"
		assert_equal "$token ${output%% *}" "$token 401"
	done
}

@test "--host: name@host is the name, any other @ is 400" {
	listener --host Example.org -- ./worker
	answers 200 1 0 --data '["john@example.org","john","john@EXAMPLE.org"]' "$url"
	assert_equal "$(cat given)" john
	answers 200 1 0 "$url/john%40example.org"
	ask --data '["john@example.com"]' "$url"
	assert_equal "${output%% *}" 400
	ask "$url/john@example.com"
	assert_equal "${output%% *}" 400
}

@test "--limit values: the body's JSON has a bound; a byte order mark is passed over" {
	listener --limit values=3 -- ./worker
	answers 200 2 0 --data '["a","b"]' "$url"
	ask --data '["a","b","c"]' "$url"
	assert_equal "${output%% *}" 400
	printf '\xef\xbb\xbf["a"]' >bom
	answers 200 1 0 --data-binary @bom "$url"
}

@test "380 idle sockets do not keep a POST waiting" {
	listener -- ./worker
	cat >idle.py <<-'END'
		import socket, sys, time, urllib.request
		port = int(sys.argv[1])
		idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(380)]
		for s in idle[::2]:
		    s.send(b"POST /roster_admin/refresh HTTP/1.1\r\nHo")
		begin = time.monotonic()
		request = urllib.request.Request("http://127.0.0.1:%d/roster_admin/refresh" % port, b'["john"]')
		print(urllib.request.urlopen(request, timeout=30).status)
		print("%.1f" % (time.monotonic() - begin))
	END
	run python3 idle.py "$port"
	assert_success
	assert_line 200
	echo "# behind 380 idle sockets: ${lines[1]} s" >&3
	assert [ "${lines[1]%.*}" -lt 5 ]
}

@test "a spool that others can write is not believed" {
	mkdir -m 777 spool
	run -78 roster-refresh-listen --listen 127.0.0.1:0 --spool spool -- ./worker
	assert_output --partial "'spool'"
}

@test "hostile bodies at the default limits: less than 160 MiB" {
	[[ -z ${WRAP:-} && -e $BUILDDIR/preload/failmalloc.so ]] || not_here "sanitizers take memory of their own"
	listener -- ./worker
	touch hold.x0
	cat >flood.py <<-'END'
		import socket, sys
		port = int(sys.argv[1])
		open_sockets = []
		for i in range(250):
		    body = ("[" + ",".join('"x%d"' % (n if n % 2 else n + 100000 * i) for n in range(32000)) + "]").encode()
		    s = socket.create_connection(("127.0.0.1", port))
		    s.sendall(b"POST /roster_admin/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
		    open_sockets.append(s)
		big = b'["' + b"y" * 1000000
		for i in range(250):
		    try:
		        s = socket.create_connection(("127.0.0.1", port), timeout=5)
		        s.sendall(b"POST /roster_admin/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048570\r\n\r\n" + big)
		        open_sockets.append(s)
		    except OSError:
		        pass
	END
	run timeout 60 python3 flood.py "$port"
	kib=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$listener_pid/status")
	echo "# the endpoint's memory at most: $((kib / 1024)) MiB" >&3
	assert [ "$kib" -lt $((160 * 1024)) ]
	rm hold.x0
}
