#!/usr/bin/env bats
# shellcheck disable=SC2154 # echo_pid: start
# What the service gives every stanza program: the manners of a filter and of a daemon.

load lib
load stream

setup()
{
	PATH=$BUILDDIR/tools:$PATH
	IQ="<iq type='get' id='a1' from='john@example.org/x' to='d.test'><x xmlns='urn:x'/></iq>"
	RESULT="<iq type='result' id='a1' from='d.test' to='john@example.org/x'><x xmlns='urn:x'/></iq>"
	SILENT="<iq type='error' id='a1' to='john@example.org/x' from='d.test'><error type='wait'><recipient-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
}

teardown() { stop_all; }

# filter OPTION...: echo-service between two pipes, $in and the file echo.out (through cat)
filter()
{
	mkfifo in
	# shellcheck disable=SC2086
	start echo bash -c 'exec "$@" <in' - ${WRAP:-} echo-service "$@"
	exec {in}>in
	# from then on it catches the signals
	wait_for grep -q ' up$' echo.err
}

@test "filter: stanzas in, stanzas out, 0" {
	run --separate-stderr echo-service <<<"$IQ
		$IQ"
	assert_success
	assert_output "$RESULT
$RESULT"
	run --separate-stderr echo-service </dev/null
	assert_success
	assert_output ''
}

@test "filter: bad lines are reported, the rest goes on, 65" {
	run --separate-stderr echo-service <<-END
		$IQ
		<iq type='get'
		$IQ
		<hello xmlns='urn:x'/>
		</iq>
		$IQ
		<iq
	END
	assert_failure 65
	assert_output "$RESULT
$RESULT
$RESULT"
	# shellcheck disable=SC2154
	assert_equal "$(grep -o 'stdin:[0-9]*' <<<"$stderr" | tr '\n' ' ')" 'stdin:2 stdin:4 stdin:5 stdin:7 '
	grep -q "stdin:4: element 'hello' is no stanza" <<<"$stderr"
	grep -q "stdin:7: truncated stanza" <<<"$stderr"
}

@test "filter: stanzas over a limit are reported, their requests answered, 65" {
	long=$(head -c 5000 /dev/zero | tr '\0' x)
	run --separate-stderr echo-service --max-stanza-bytes 2K --max-depth 3 --max-attributes 8 <<-END
		${IQ/<x /<x y=\'$long\' }
		${IQ/<x /<a><b><c><d/></c></b></a><x }
		${IQ/<x /<x a=\'1\' b=\'1\' c=\'1\' d=\'1\' e=\'1\' f=\'1\' g=\'1\' h=\'1\' i=\'1\' }
		$IQ
	END
	assert_failure 65
	assert_equal "$(grep -c policy-violation <<<"$output")" 3
	assert_line --index 3 "$RESULT"
	grep -q 'stdin:1: stanza over --max-stanza-bytes' <<<"$stderr"
	grep -q 'stdin:2: stanza over --limit depth' <<<"$stderr"
	grep -q 'stdin:3: stanza over --limit attributes' <<<"$stderr"
}

@test "filter: the end of input answers what is held" {
	run --separate-stderr echo-service --delay 100 <<<"$IQ"
	assert_success
	assert_output "$SILENT"
}

@test "filter: full disk, closed standard output, closed standard input: 74" {
	run bash -c "echo-service <<<\"$IQ\" >/dev/full"
	assert_failure 74
	assert_output --partial 'cannot write standard output: No space left on device'
	run bash -c "echo-service <<<\"$IQ\" >&-"
	assert_failure 74
	assert_output --partial 'cannot write standard output: Bad file descriptor'
	run bash -c "echo-service <&-"
	assert_failure 74
	assert_output --partial 'cannot read standard input: Bad file descriptor'
	run bash -c "echo-service <."
	assert_failure 74
	assert_output --partial 'cannot read standard input: Is a directory'
}

@test "filter: a reader that goes away ends it with 74, also while nothing is written" {
	mkfifo in out
	start echo bash -c 'exec echo-service <in >out'
	exec {w}>in {r}<out
	wait_for grep -q ' up$' echo.err
	exec {r}<&-
	status=0
	await echo || status=$?
	assert_equal "$status" 74
	assert_file_contains echo.err 'cannot write standard output: Broken pipe'
	exec {w}>&-
}

@test "filter: a slow reader loses nothing, the pipe's flags stay" {
	mkfifo slow
	seq 0 19999 | sed "s|.*|<iq type='get' id='i&' from='a@b' to='c'><x xmlns='urn:x'/></iq>|" >input
	# The next program on the same pipe must find it blocking.
	start echo bash -c '{ echo-service --max-queue-bytes 64K <input; grep flags: /proc/self/fdinfo/1 >&2; } >slow'
	exec {r}<slow
	wait_for grep -q ' up$' echo.err
	wait_for _full "$r"
	cat <&"$r" >output
	await echo
	exec {r}<&-
	sed "s|get' id='\(i[0-9]*\)' from='a@b' to='c'|result' id='\1' from='c' to='a@b'|" input | cmp - output
	flags=$(sed -n 's/^flags:[[:space:]]*//p' echo.err)
	((!(8#$flags & 8#4000)))
}

# Wait until nothing has been read and the pipe takes no more.
_full() { python3 -c 'import fcntl, sys, termios
n = bytearray(4)
fcntl.ioctl(int(sys.argv[1]), termios.FIONREAD, n)
sys.exit(int.from_bytes(n, "little") < 60000)' "$1"; }

@test "filter: a file, a socket and a terminal do as well" {
	echo "$IQ" >input
	echo-service <input >output
	assert_equal "$(<output)" "$RESULT"
	run --separate-stderr socat -t5 EXEC:echo-service STDIO <<<"$IQ"
	assert_output "$RESULT"
	# a terminal ends its lines with CR LF
	run script -qec "echo-service <input" /dev/null
	assert_success
	assert_output --partial "$RESULT"
}

@test "SIGTERM drains a filter: answered in time, or at the end of --drain-time" {
	filter --delay 3 --drain-time 30
	echo "$IQ" >&"$in"
	wait_for echo_counters open_requests=1
	end echo
	assert_equal "$(sed 's/ from.*//' echo.out)" "<iq type='result' to='john@example.org/x'"
	exec {in}>&-
	rm in echo.err
	filter --delay 100 --drain-time 0.2
	echo "$IQ" >&"$in"
	wait_for echo_counters open_requests=1
	end echo INT
	assert_equal "$(<echo.out)" "$SILENT"
	exec {in}>&-
}

@test "a second SIGTERM finishes at once" {
	filter -v --delay 100 --drain-time 100
	echo "$IQ" >&"$in"
	wait_for echo_counters open_requests=1
	kill "$echo_pid"
	wait_for grep -q stopping echo.err
	end echo
	assert_equal "$(<echo.out)" "$SILENT"
	exec {in}>&-
}

@test "SIGTERM in the middle of a stanza: what was whole is answered, 0" {
	filter
	printf '%s\n%s' "$IQ" "<iq type='get' id='half" >&"$in"
	wait_for grep -q "id='a1'" echo.out
	end echo
	assert_equal "$(<echo.out)" "$RESULT"
	exec {in}>&-
}

@test "SIGTERM and a reader that takes nothing: the loss is told, 74" {
	mkfifo in out
	start echo bash -c 'exec echo-service -v --drain-time 0 <in >out'
	exec {w}>in {r}<out
	wait_for grep -q ' up$' echo.err
	yes "$IQ" | head -n 5000 >&"$w"
	wait_for echo_counters 'queued_bytes=[1-9]'
	kill "$echo_pid"
	wait_for grep -q stopping echo.err
	status=0
	end echo || status=$?
	assert_equal "$status" 74
	assert_file_contains echo.err ': [1-9][0-9]* bytes of output were not taken$'
	exec {w}>&- {r}<&-
}

@test "service_stop ends with the status asked for, what was said before is written" {
	run --separate-stderr echo-service <<-END
		$IQ
		<iq type='set' id='stop' from='a@b' to='c'><stop xmlns='urn:x'/></iq>
	END
	assert_failure 42
	assert_line --index 0 "$RESULT"
	assert_line --index 1 --partial "id='stop'"
}

@test "SIGUSR1 prints the counters, also with -q" {
	filter
	echo "$IQ" >&"$in"
	wait_for echo_counters 'stanzas{direction="in"}=1 stanzas{direction="out"}=1'
	grep -q 'open_requests=0' echo.err
	grep -q 'held=0' echo.err
	assert_equal "$(grep -c 'stanzas{' echo.err)" "$(wc -l <echo.err | awk '{ print $1 - 1 }')"
	end echo
	exec {in}>&-
	mkfifo in2
	start quiet bash -c 'exec echo-service -q -q --metrics m <in2'
	exec {in2}>in2
	wait_for test -e m
	kill -USR1 "$quiet_pid"
	wait_for grep -q 'open_requests=0' quiet.err
	end quiet
	exec {in2}>&-
}

@test "--metrics: there from the start, kept up, final at the end, valid OpenMetrics" {
	filter --metrics metrics --metrics-interval 0.1
	wait_for test -s metrics
	echo "$IQ" >&"$in"
	wait_for grep -q 'outboard_stanzas_total{program="echo-service",direction="in"} 1' metrics
	echo "$IQ" >&"$in"
	end echo
	exec {in}>&-
	assert_equal "$(tail -n 1 metrics)" '# EOF'
	run /usr/bin/python3 - metrics <<-'END'
		import sys
		from prometheus_client.openmetrics.parser import text_string_to_metric_families
		for family in text_string_to_metric_families(open(sys.argv[1]).read()):
		    for sample in family.samples:
		        print(sample.name, sample.labels.get("direction", ""), int(sample.value))
	END
	[[ $output != *'No module named'* ]] || skip 'no prometheus_client here'
	assert_success
	assert_line 'outboard_stanzas_total in 2'
	assert_line 'outboard_stanzas_total out 2'
	assert_line 'outboard_held_total  0'
	assert_line 'outboard_up  1'
	assert_equal "$(find . -name '*metrics*' | wc -l)" 1
}

@test "--metrics that cannot be written is no reason to stop" {
	run --separate-stderr echo-service --metrics /nowhere/at/all <<<"$IQ"
	assert_success
	assert_output "$RESULT"
	grep -q '/nowhere/at/all' <<<"$stderr"
}

@test "--metrics on what is no regular file neither hangs nor stops the program" {
	mkfifo fifo
	ln -s fifo link
	for file in fifo link /dev/full; do
		run --separate-stderr timeout 20 echo-service --metrics "$file" <<<"$IQ"
		assert_success
		assert_output "$RESULT"
		grep -q "cannot write metrics to '$file'" <<<"$stderr"
	done
	filter --metrics fifo --metrics-interval 0.1
	wait_for grep -q 'cannot write metrics' echo.err
	end echo
	exec {in}>&-
	# once, then a count a minute
	assert_equal "$(grep -c 'cannot write metrics' echo.err)" 1
}

@test "a supervisor hears READY, STATUS, WATCHDOG, RELOADING and READY again, STOPPING" {
	supervisor
	export WATCHDOG_USEC=200000
	filter --drain-time 30
	unset WATCHDOG_USEC
	wait_for grep -q '^READY=1' notify.out
	wait_for grep -q '^STATUS=filtering' notify.out
	wait_for grep -q '^WATCHDOG=1' notify.out
	kill -HUP "$echo_pid"
	wait_for grep -q '^RELOADING=1 MONOTONIC_USEC=[0-9]' notify.out
	wait_for ready_again
	grep -q ': reloaded$' echo.err
	end echo
	grep -q '^STOPPING=1' notify.out
	grep -q '^STATUS=stopping' notify.out
	exec {in}>&-
}

@test "a component is ready after the handshake, not before, and its status tells where it stands" {
	supervisor
	fake 'open ; any-handshake ; wait-for go ; close' 'up ; wait-for gone ; close' 'up ; wait-close'
	echo_service
	wait_for grep -q '^connection 1$' fake.out
	wait_for grep -q '^STATUS=not connected' notify.out
	refute grep -q '^READY=1' notify.out
	: >go
	wait_for grep -q '^READY=1' notify.out
	wait_for grep -q '^STATUS=connected to 127.0.0.1:[0-9]* as jat.test; 0 stanzas in, 0 out, 0 requests open' notify.out
	: >gone
	wait_for grep -q '^STATUS=not connected to 127.0.0.1:[0-9]*: .*closed the connection' notify.out
	wait_for grep -q '^connection 3$' fake.out
	end echo
	await fake
	assert_equal "$(grep -c '^READY=1' notify.out)" 1
}

@test "--ready-fd: a newline, once ready" {
	mkfifo ready
	fake 'open ; any-handshake ; wait-for go ; send <handshake/> ; wait-close'
	start echo bash -c 'exec "$@" 7>ready' - "$BUILDDIR/tools/echo-service" --domain jat.test \
		--connect "127.0.0.1:$FAKE_PORT" --secret-fd 8 --ready-fd 7 8<<<secret
	exec {ready}<ready
	wait_for grep -q '^connection 1$' fake.out
	run ! read -r -t 0.3 -u "$ready" _
	: >go
	read -r -t 20 -u "$ready" line
	assert_equal "$line" ''
	# and the stream is closed
	run ! read -r -t 20 -u "$ready" _
	end echo
	exec {ready}<&-
	await fake
}
