#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2153 # daemon_pid: start; FREE_PORT: server_free_port
# Every daemon under its supervisors. A daemon is a program with a unit in cmd/; all of them must behave the
# same.

load lib
load stream

daemons()
{
	local unit
	for unit in "$ROOT"/cmd/*.service; do
		unit=$(basename "$unit" .service)
		echo "${unit%@}"
	done | sort -u
}

# The domain of all components here, and the clients or entities behind them.
GRANT="send <message to='d.test' from='vhost.test'><privilege xmlns='urn:xmpp:privilege:2'><perm access='roster' type='both'/></privilege></message>"
UP="up ; send <presence from='impl@vhost.test/r' to='d.test'/>"

# Set `words` to the beginning of NAME's command line.
words_of()
{
	words=("$1" --domain d.test --secret-file secret)
	case $1 in
	xmpp-jat-proxy) words+=(--target impl@vhost.test --encoding plain) ;;
	xmpp-delegate) words+=(--delegate urn:x=impl@vhost.test) ;;
	xmpp-manage) words+=(--host vhost.test --namespace urn:x) ;;
	xmpp-share) words+=(--listen-unix "$PWD/share.sock") ;;
	roster-apply) words+=(--host vhost.test --listen-unix "$PWD/socket") ;;
	*)
		echo "supervision.bats does not know how to start $1"
		return 1
		;;
	esac
}

# Set `tail` to the end of its command line.
tail_of()
{
	tail=()
	# a handler that never answers
	[[ $1 != xmpp-manage ]] || tail=(-- sh -c 'while read -r line; do :; done')
}

# A request to NAME that is never answered, and the beginning of the stanza that shows that NAME has it.
request_of()
{
	request="<iq type='get' id='q1' from='john@vhost.test/x' to='d.test'><x xmlns='urn:x'/></iq>"
	in_hand="<iq [^>]*to='impl@vhost.test[^>]*><(x|delegation) "
	answer="<iq [^>]*type='error'[^>]*id='q1'|<iq [^>]*id='q1'[^>]*type='error'"
	if [[ $1 == xmpp-manage ]]; then
		request="<iq type='set' id='o1' from='vhost.test' to='d.test'><delegation xmlns='urn:xmpp:delegation:2'><forwarded xmlns='urn:xmpp:forward:0'>${request/<iq /<iq xmlns=\'jabber:client\' }</forwarded></delegation></iq>"
		request=${request/to=\'d.test\'><x/to=\'vhost.test\'><x}
		in_hand=
		answer="<iq [^>]*id='o1'.*recipient-unavailable|recipient-unavailable.*id='o1'"
	fi
}

# daemon NAME [OPTION...]: start it as "daemon", connected to $FAKE_PORT
daemon()
{
	local words tail
	words_of "$1"
	tail_of "$1"
	secret_file
	# shellcheck disable=SC2086
	start daemon ${WRAP:-} "$BINDIR/$1" "${words[@]:1}" --connect "127.0.0.1:$FAKE_PORT" "${@:2}" "${tail[@]}"
}

# each_daemon FUNCTION [BUT]: call FUNCTION for each component except BUT, in a folder of its own. The server
# sends $grant after the handshake, which grants roster-apply its privileges.
each_daemon()
{
	local name grant top=$PWD
	for name in $(daemons); do
		# the program is not a component, and has its own tests below
		[[ $name != roster-refresh-listen && $name != "${2:-}" ]] || continue
		echo "# $name"
		grant='send <presence from="impl@vhost.test/r" to="d.test"/>'
		[[ $name != roster-apply ]] || grant=$GRANT
		mkdir "$name"
		cd "$name" || return
		"$1" "$name"
		cd "$top" || return
	done
}

teardown() { stop_all; }

notified()
{
	supervisor
	fake "open ; any-handshake ; say asked ; wait-for go ; send <handshake/> ; $grant ; wait-close"
	export WATCHDOG_USEC=300000
	daemon "$1"
	unset WATCHDOG_USEC
	wait_for grep -q 'asked' fake.out
	wait_for grep -q '^STATUS=not connected' notify.out
	refute grep -q '^READY=1' notify.out
	: >go
	wait_for grep -q '^READY=1' notify.out
	wait_for grep -q '^STATUS=connected to 127.0.0.1:[0-9]* as d.test; [0-9]* stanzas in' notify.out
	wait_for grep -q '^WATCHDOG=1' notify.out
	kill -HUP "$daemon_pid"
	wait_for grep -q '^RELOADING=1 MONOTONIC_USEC=[0-9]' notify.out
	wait_for ready_again
	end daemon
	await fake
	grep -q '^STOPPING=1' notify.out
	assert [ ! -e socket ]
	# READY once before the reload and once after it, and not after STOPPING
	assert_equal "$(grep -c '^READY=1' notify.out)" 2
	run sed -n '/^STOPPING=1/,$p' notify.out
	refute_output --partial 'READY=1'
	end notify || true
	unset NOTIFY_SOCKET
}

@test "READY after the handshake, STATUS, WATCHDOG, RELOADING, READY again, STOPPING" {
	each_daemon notified
}

like_systemd_notify()
{
	supervisor
	systemd-notify --ready 2>notify.err || skip "no systemd-notify here: $(<notify.err)"
	wait_for grep -q '^READY=1' notify.out
	grep -o '^READY=1' notify.out >theirs
	fake --forever "up ; $grant ; wait-close"
	end notify || true
	rm notify
	supervisor
	daemon "$1"
	wait_for grep -q '^READY=1' notify.out
	grep -o '^READY=1' notify.out | cmp - theirs
	end daemon
	grep -q '^STOPPING=1' notify.out
	end fake || true
	end notify || true
	unset NOTIFY_SOCKET
}

@test "the same words as systemd-notify's" {
	each_daemon like_systemd_notify
	supervisor
	systemd-notify --ready
	wait_for grep -qx 'READY=1 *' notify.out
	listener
	ready_twice() { [[ $(grep -c '^READY=1' notify.out) == 2 ]]; }
	wait_for ready_twice
	end daemon
}

ready_fd()
{
	local ready line
	mkfifo ready
	fake "open ; any-handshake ; say asked ; wait-for go ; send <handshake/> ; $grant ; wait-close"
	exec {ready}<>ready
	daemon "$1" --ready-fd "$ready"
	wait_for grep -q asked fake.out
	run ! read -r -t 0.1 -u "$ready" _
	: >go
	read -r -t 20 -u "$ready" line
	assert_equal "$line" ''
	end daemon
	await fake
	exec {ready}<&-
}

@test "--ready-fd: a newline after the handshake, not before" {
	each_daemon ready_fd
}

under_s6()
{
	command -v s6-supervise >/dev/null || skip 'no s6 here'
	local words tail
	words_of "$1"
	tail_of "$1"
	secret_file
	mkdir service
	echo 3 >service/notification-fd
	fake --forever "open ; any-handshake ; say asked ; wait-for $PWD/go ; send <handshake/> ; $grant ; wait-close"
	{
		echo '#!/bin/sh'
		echo 'exec 2>>../s6.log'
		printf 'cd %q\n' "$PWD"
		printf 'exec'
		printf ' %q' "$BINDIR/$1" "${words[@]:1}" --connect "127.0.0.1:$FAKE_PORT" --ready-fd 3 "${tail[@]}"
		echo
	} >service/run
	chmod +x service/run
	start s6 "${unsearched[@]}" s6-supervise service
	wait_for grep -q asked fake.out
	run s6-svstat -o up,ready service
	assert_output 'true false'
	: >go
	wait_for s6_is 'true true'
	# after a kill it is started again and gets ready
	first=$(s6-svstat -o pid service)
	kill -KILL "$first"
	wait_for s6_again "$first"
	s6-svc -d service
	wait_for s6_is 'false false'
	assert_equal "$(s6-svstat -o exitcode service)" 0
	s6-svc -x service
	await s6
	end fake || true
}

s6_is() { [[ $(s6-svstat -o up,ready service) == "$1" ]]; }
s6_again()
{
	local now
	now=$(s6-svstat -o up,ready,pid service)
	[[ $now == 'true true '* && $now != *" $1" ]]
}

@test "under s6: ready by its descriptor, started again after a crash, down by s6-svc" {
	each_daemon under_s6
}

# A program that reads metrics files as a scraper would; skip if it is absent
metrics_parser_here() { /usr/bin/python3 -c 'import prometheus_client.openmetrics.parser' 2>/dev/null; }

counters()
{
	fake --forever "$UP ; send $request ; wait-close"
	daemon "$1" --metrics metrics --metrics-interval 0.1 --drain-time 0
	wait_for grep -q 'direction="in"} [1-9]' metrics
	wait_for printed_counters
	end daemon
	end fake || true
	run /usr/bin/python3 - metrics "$1" <<-'END'
		import sys
		from prometheus_client.openmetrics.parser import text_string_to_metric_families
		names = set()
		for family in text_string_to_metric_families(open(sys.argv[1]).read()):
		    assert family.documentation, family
		    for sample in family.samples:
		        assert sample.labels["program"] == sys.argv[2], sample
		        assert sample.name.startswith("outboard_"), sample
		        names.add(sample.name)
		print(*sorted(names))
	END
	[[ $output != *'No module named'* ]] || skip 'no prometheus_client here'
	assert_success
	assert_output --partial outboard_stanzas_total
	assert_output --partial outboard_up
	assert_output --partial outboard_open_requests
	# no temporary file is left
	assert_equal "$(find . -name '*metrics*')" ./metrics
}

printed_counters()
{
	kill -USR1 "$daemon_pid"
	grep -qE '(^| )stanzas\{direction="in"\}=[1-9]' daemon.err
}

each_counters()
{
	local request in_hand answer
	request_of "$1"
	counters "$1"
}

@test "SIGUSR1 prints the counters, --metrics keeps them as a real parser wants them" {
	each_daemon each_counters roster-apply
}

journal()
{
	local expected
	fake --forever 'up ; close' "up ; $grant ; wait-close"
	secret_file
	: >journal
	expected=$(stat -c '%d:%i' journal)
	words_of "$1"
	tail_of "$1"
	# shellcheck disable=SC2086
	JOURNAL_STREAM=$expected start daemon bash -c 'exec "$@" 2>>journal' - ${WRAP:-} "$BINDIR/$1" \
		"${words[@]:1}" --connect "127.0.0.1:$FAKE_PORT" -v -v "${tail[@]}"
	wait_for again_in journal
	end daemon
	end fake || true
	run grep -vE "^<[3-7]>$1: " journal
	assert_output ''
	# without the journal there are no priorities
	fake --forever "up ; $grant ; wait-close"
	JOURNAL_STREAM=1:2 daemon "$1" -v -v
	wait_for grep -q connected daemon.err
	end daemon
	end fake || true
	run grep -vE "^$1: " daemon.err
	assert_output ''
}

again_in() { [[ $(grep -c ' connected to ' "$1") == 2 ]]; }

each_journal()
{
	local words tail
	journal "$1"
}

@test "in the journal each line has its priority, elsewhere none" {
	each_daemon each_journal
}

json_log()
{
	# An error of the server with a text that needs escaping
	fake --forever "up ; send <stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>\"a\\\\\\\\b\" ü&#9;</text></stream:error></stream:stream> ; close" "up ; $grant ; wait-close"
	daemon "$1" --log-format json -v -v
	wait_for grep -qi 'conflict' daemon.err
	kill -USR1 "$daemon_pid"
	wait_for grep -q 'open_requests' daemon.err
	end daemon
	end fake || true
	python3 - daemon.err "$1" <<-'END'
		import json, sys
		lines = open(sys.argv[1], encoding="utf-8").read().splitlines()
		assert len(lines) > 1, lines
		for line in lines:
		    entry = json.loads(line)
		    assert entry["program"] == sys.argv[2] and entry["message"], line
		    assert entry["level"] in ("error", "warning", "notice", "info", "debug"), line
	END
}

@test "--log-format json: each line an object" {
	each_daemon json_log
}

drained()
{
	local request in_hand answer seen
	request_of "$1"
	if [[ $1 == xmpp-manage || $1 == xmpp-share ]]; then
		# the request is at the handler, or at an instance
		seen=
	else
		seen="expect $in_hand ;"
	fi
	local there=
	[[ $1 != xmpp-share ]] || there="wait-for go ;"
	fake "$UP ; $there send $request ; $seen say sent ; expect $answer ; say answered ; wait-close"
	daemon "$1" --drain-time 0.3
	if [[ $1 == xmpp-share ]]; then
		# an instance that never answers
		wait_for test -S share.sock
		printf '%s\n' '#!/bin/sh' 'echo "<presence from=\"d.test\" to=\"vhost.test\"/>"' 'exec cat >/dev/null' >instance.sh
		chmod +x instance.sh
		start instance socat -t 60 UNIX-CONNECT:share.sock EXEC:./instance.sh
		wait_for grep -q 'instance 1 has come' daemon.err
		: >go
	fi
	wait_for grep -q sent fake.out
	wait_for open_request
	end daemon
	await fake
	grep -q answered fake.out
}

open_request()
{
	kill -USR1 "$daemon_pid"
	grep -q 'open_requests=[1-9]' daemon.err
}

@test "SIGTERM: what is open is waited for as long as --drain-time, then answered; 0" {
	each_daemon drained roster-apply
}

wrong_secret()
{
	secret_file
	fake --secret other --forever 'open ; handshake ; wait-close'
	daemon "$1"
	status=0
	await daemon || status=$?
	assert_equal "$status" 77
	end fake || true
	# no server: with --retries 0 the supervisor decides
	FAKE_PORT=1
	daemon "$1" --retries 0
	status=0
	await daemon || status=$?
	assert_equal "$status" 75
}

@test "a bad secret ends it with 77, no server with --retries 0 with 75" {
	each_daemon wrong_secret
}

credentials()
{
	local words tail
	mkdir creds
	(umask 077 && echo secret >creds/component-secret)
	fake "up ; $grant ; say in ; wait-close"
	words_of "$1"
	tail_of "$1"
	words=("${words[@]/#--secret-file/--verbose}")
	words=("${words[@]/#secret/--verbose}")
	# shellcheck disable=SC2086
	CREDENTIALS_DIRECTORY=$PWD/creds start daemon ${WRAP:-} "$BINDIR/$1" "${words[@]:1}" \
		--connect "127.0.0.1:$FAKE_PORT" "${tail[@]}"
	wait_for grep -qx 'in' fake.out
	end daemon
	await fake
}

@test "secrets come from the credentials' folder, as the units have it" {
	each_daemon credentials
}

# opened NAME PATH: the process started as NAME has this file open (for wait_for)
opened() { find "/proc/${started[$1]}/fd" -lname "$PWD/$2" 2>/dev/null | grep -q .; }

fifo_at_start()
{
	local more=()
	mkfifo -m 600 secret
	# it would read it twice
	[[ $1 != xmpp-share ]] || { (umask 077 && echo other >other) && more=(--instance-secret-file other); }
	fake "up ; $grant ; say in ; wait-close"
	# nobody writes: a signal ends it
	daemon "$1" "${more[@]}"
	wait_for opened daemon secret
	status=0
	end daemon || status=$?
	assert_equal "$status" 143
	# the writer comes later, and takes its time
	daemon "$1" "${more[@]}"
	wait_for opened daemon secret
	exec 5>secret
	printf sec >&5
	printf 'ret\n' >&5
	exec 5>&-
	wait_for grep -qx 'in' fake.out
	end daemon
	await fake
}

@test "a FIFO as secret: its writer is waited for at the start, and a signal ends that" {
	each_daemon fifo_at_start
}

fifo_at_reload()
{
	fake "up ; $grant ; say in ; wait-close"
	daemon "$1"
	wait_for grep -qx 'in' fake.out
	rm secret
	mkfifo -m 600 secret
	kill -HUP "$daemon_pid"
	wait_for grep -q "'secret': nobody has written to it in time" daemon.err
	kill -HUP "$daemon_pid"
	echo secret >secret
	[[ $1 != xmpp-share ]] || echo secret >secret
	# nor does it keep it from ending
	kill -HUP "$daemon_pid"
	end daemon
	await fake
	# a pipe of the shell is read once: SIGHUP keeps what it gave
	[[ $1 != xmpp-share ]] || return 0
	fake "up ; $grant ; say in ; wait-close"
	supervisor
	daemon "$1" --secret-file /dev/fd/5 5< <(echo secret)
	wait_for grep -qx 'in' fake.out
	wait_for grep -q '^READY=1' notify.out
	kill -HUP "$daemon_pid"
	wait_for ready_again
	refute grep -q secret daemon.err
	end daemon
	await fake
}

@test "a FIFO as secret at SIGHUP: it is waited for a second, the service goes on and ends as ever" {
	each_daemon fifo_at_reload
}

# --- the daemon that listens

listener()
{
	server_free_port
	# shellcheck disable=SC2086
	start daemon ${WRAP:-} "$BINDIR/roster-refresh-listen" --listen "127.0.0.1:$FREE_PORT" "$@"
}

refresh() { curl -sS -m 20 -d "$1" "http://127.0.0.1:$FREE_PORT/roster_admin/refresh"; }

@test "roster-refresh-listen: READY when it listens, STATUS, WATCHDOG, RELOADING, STOPPING" {
	supervisor
	WATCHDOG_USEC=300000 listener
	wait_for grep -q '^READY=1' notify.out
	run refresh '["john"]'
	assert_success
	assert_output --partial '"status":"ok"'
	wait_for grep -q '^STATUS=' notify.out
	wait_for grep -q '^WATCHDOG=1' notify.out
	kill -HUP "$daemon_pid"
	wait_for grep -q '^RELOADING=1 MONOTONIC_USEC=[0-9]' notify.out
	wait_for ready_again
	end daemon
	grep -q '^STOPPING=1' notify.out
	assert_equal "$(<daemon.out)" john
}

@test "roster-refresh-listen: STATUS tells of the requests that are open" {
	supervisor
	listener -- sleep infinity
	wait_for grep -q '^STATUS=serving; 0 requests open' notify.out
	refresh '["john"]' &
	wait_for grep -q '^STATUS=serving; 1 requests open' notify.out
	end daemon
	wait "$!" || true
}

@test "roster-refresh-listen: --ready-fd, SIGUSR1, --metrics, the journal, JSON lines" {
	mkfifo ready
	exec {ready}<>ready
	listener --ready-fd "$ready" --metrics metrics --metrics-interval 0.1 --log-format json -v -v
	read -r -t 20 -u "$ready" line
	assert_equal "$line" ''
	exec {ready}<&-
	refresh '["john"]'
	kill -USR1 "$daemon_pid"
	wait_for grep -q '=' daemon.err
	end daemon
	metrics_parser_here || skip 'no prometheus_client here'
	/usr/bin/python3 - metrics daemon.err <<-'END'
		import json, sys
		from prometheus_client.openmetrics.parser import text_string_to_metric_families
		families = list(text_string_to_metric_families(open(sys.argv[1]).read()))
		samples = [s for f in families for s in f.samples]
		assert any(s.value == 1 for s in samples), samples
		# it has no stream, so it has no metrics of one
		assert not [s for s in samples if s.name in ("outboard_up", "outboard_connections_total")], samples
		assert all(s.labels["program"] == "roster-refresh-listen" for s in samples), samples
		for line in open(sys.argv[2], encoding="utf-8"):
		    assert json.loads(line)["message"], line
	END
	: >journal
	server_free_port
	JOURNAL_STREAM=$(stat -c '%d:%i' journal) start daemon bash -c 'exec "$@" 2>>journal' - \
		"$BINDIR/roster-refresh-listen" --listen "127.0.0.1:$FREE_PORT" -v -v
	wait_for refresh '["john"]'
	end daemon
	assert_file_not_empty journal
	run grep -vE '^<[3-7]>roster-refresh-listen: ' journal
	assert_output ''
}

@test "roster-refresh-listen under s6: ready by its descriptor, started again, down by s6-svc" {
	command -v s6-supervise >/dev/null || skip 'no s6 here'
	server_free_port
	mkdir service
	echo 3 >service/notification-fd
	printf '#!/bin/sh\nexec 2>>../s6.log\nexec %q --listen 127.0.0.1:%d --ready-fd 3\n' \
		"$BINDIR/roster-refresh-listen" "$FREE_PORT" >service/run
	chmod +x service/run
	start s6 "${unsearched[@]}" s6-supervise service
	wait_for s6_is 'true true'
	refresh '["john"]'
	first=$(s6-svstat -o pid service)
	kill -KILL "$first"
	wait_for s6_again "$first"
	refresh '["marie"]'
	s6-svc -d service
	wait_for s6_is 'false false'
	assert_equal "$(s6-svstat -o exitcode service)" 0
	s6-svc -x service
	await s6
	assert_equal "$(<s6.out)" $'john\nmarie'
}

# roster-apply takes records from a unix socket, at a server that grants it access
applier()
{
	secret_file
	daemon_words=(--host vhost.test --domain d.test --secret-file secret --listen-unix socket
		--connect "127.0.0.1:$FAKE_PORT")
	# shellcheck disable=SC2086
	start daemon ${WRAP:-} "$BINDIR/roster-apply" "${daemon_words[@]}" "$@"
}
GRANTED="up ; $GRANT ; wait-close"

@test "roster-apply: --ready-fd, SIGUSR1, --metrics, JSON lines" {
	fake --forever "$GRANTED"
	mkfifo ready
	exec {ready}<>ready
	applier --ready-fd "$ready" --metrics metrics --metrics-interval 0.1 --log-format json -v -v
	read -r -t 20 -u "$ready" line
	assert_equal "$line" ''
	exec {ready}<&-
	wait_for grep -q 'is granted' daemon.err
	kill -USR1 "$daemon_pid"
	wait_for grep -q 'jobs=0' daemon.err
	end daemon
	end fake || true
	metrics_parser_here || skip 'no prometheus_client here'
	/usr/bin/python3 - metrics daemon.err <<-'END'
		import json, sys
		from prometheus_client.openmetrics.parser import text_string_to_metric_families
		samples = [s for f in text_string_to_metric_families(open(sys.argv[1]).read()) for s in f.samples]
		assert any(s.name == "outboard_jobs" for s in samples), samples
		assert all(s.labels["program"] == "roster-apply" for s in samples), samples
		for line in open(sys.argv[2], encoding="utf-8"):
		    assert json.loads(line)["message"], line
	END
}
