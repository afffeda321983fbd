#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2153,SC2034 # echo_pid: start; FREE_PORT: servers; FAKE_PORT: stream
# The component stream against a server that misbehaves on command.

load lib
load stream

teardown() { stop_all; }

REQUEST="<iq type='get' id='q%d' from='u@h.test/r' to='jat.test'><x xmlns='urn:x'/></iq>"

@test "handshake, stanzas both ways, an orderly end" {
	fake 'up
		send <iq type="get" id="1" from="u@h.test/r" to="jat.test"><x xmlns="urn:x"/></iq>
		expect <iq type=.result. id="1" from=.jat.test. to=.u@h.test/r.><x xmlns="urn:x"/></iq>
		say answered
		expect ^<presence type=.unavailable. to=.jat.test. from=.jat.test./></stream:stream>$
		end'
	echo_service
	wait_for grep -q answered fake.out
	end echo
	await fake
	assert_equal "$(cat echo.err)" 'echo-service: up'
}

@test "the handshake is the lowercase SHA-1 of id and secret, the id decoded" {
	want=$(printf "it's<&>secret" | sha1sum | cut -d' ' -f1)
	fake "expect to='jat.test'>
		send <?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='it&apos;s&lt;&amp;>'>
		expect <handshake>$want</handshake>
		send <handshake/>
		expect </stream:stream>
		end"
	echo_service
	wait_for grep -q up echo.err
	end echo
	await fake
}

@test "bytes that come one by one" {
	fake "open
		expect </handshake>
		drip <handshake/>
		drip ${REQUEST//%d/1}
		expect id='q1'.*</iq>
		say answered
		wait-close"
	echo_service
	wait_for grep -q answered fake.out
	end echo
	await fake
}

@test "many stanzas in one write are answered each once, in few writes" {
	fake "up
		repeat 20000 $REQUEST
		count 20000 type='result' id='q[0-9]+'
		silent 0.2 <iq
		say answered
		wait-close"
	echo_service
	wait_for grep -q answered fake.out
	end echo
	await fake
}

@test "a wrong secret: 77 at once, whatever --retries says" {
	fake --secret other up
	run_echo_service
	assert_failure 77
	assert_output --partial 'stream error not-authorized'
	assert_output --partial 'the secret is wrong'
	refute_output --partial 'next attempt'
	await fake
	assert_equal "$(grep -c 'connection .*end' fake.out)" 1
}

@test "a domain the server does not know: 78" {
	fake 'open -
		error host-unknown no such component here'
	run_echo_service
	assert_failure 78
	assert_output 'echo-service: stream error host-unknown for jat.test: the server does not know this component (no such component here)'
}

@test "no component port, but another server: 76 once retries are used up" {
	fake --forever 'send HTTP/1.1 400 Bad Request\n\n
		expect not-well-formed
		wait-close'
	run_echo_service --retries 1
	assert_failure 76
	assert_output --partial 'sent what is not XMPP'
}

@test "a domain that was known and is gone: long backoff, not 78" {
	fake 'up ; error host-gone' 'open - ; error host-unknown'
	echo_service
	wait_for grep -q 'host-unknown.*next attempt in [12][0-9]\.[0-9] s' echo.err
	await fake
	end echo
}

@test "absent server: --retries 0 ends with 75, --retries 1 with 69 after one backoff" {
	server_free_port
	COMPONENT_PORT=$FREE_PORT
	run_echo_service --retries 0
	assert_failure 75
	assert_output "echo-service: cannot connect to 127.0.0.1:$FREE_PORT: Connection refused"
	run_echo_service --retries 1
	assert_failure 69
	assert_line --index 0 --regexp "Connection refused; next attempt in 0\.[3-6] s$"
	assert_line --index 1 "echo-service: cannot connect to 127.0.0.1:$FREE_PORT: Connection refused"
}

@test "a name without address is a failed connection" {
	secret_file
	run timeout 60 "$BUILDDIR/tools/echo-service" --domain jat.test --secret-file secret \
		--connect no-such-host.invalid:5347 --retries 0
	assert_failure 75
	assert_output --partial "cannot find the address of 'no-such-host.invalid': "
}

@test "unusable settings are told before anything is tried" {
	secret_file
	run "$BUILDDIR/tools/echo-service" --domain jat.test --secret-file secret --connect nonsense
	assert_failure 64
	assert_output "echo-service: invalid value 'nonsense' for --connect: not HOST:PORT
echo-service: try 'echo-service --help'"
	run "$BUILDDIR/tools/echo-service" --secret-file secret --connect 127.0.0.1:5347
	assert_failure 64
	run "$BUILDDIR/tools/echo-service" --domain jat.test --connect 127.0.0.1:5347
	assert_failure 78
	chmod 644 secret
	run "$BUILDDIR/tools/echo-service" --domain jat.test --secret-file secret --connect 127.0.0.1:5347
	assert_failure 78
}

@test "the secret shows nowhere" {
	(umask 077 && echo unspeakable >secret)
	fake --secret other 'up'
	run_echo_service -v -v -v
	assert_failure 77
	refute_output --partial unspeakable
}

@test "conflict: long backoff, then it takes over; with --retries used up 75" {
	fake 'open ; any-handshake ; error conflict' 'open ; any-handshake ; error conflict'
	run_echo_service --retries 0
	assert_failure 75
	assert_output --partial 'stream error conflict'
	echo_service
	wait_for grep -q 'conflict.*next attempt in 1[1-8]\.[0-9] s' echo.err
	end echo
	await fake
}

# lost HOW MESSAGE: the stream ends in this way with this message, and is up again on the next connection
lost()
{
	rm -f echo.err
	fake "up ; $1" 'up ; say back ; wait-close'
	echo_service
	wait_for grep -q back fake.out
	wait_for _ups 2
	grep -q "$2; next attempt in 0\.[3-6] s$" echo.err
	assert_equal "$(sed -n 's/^echo-service: \(up\|down\)$/\1/p' echo.err | tr '\n' ' ')" 'up down up '
	end echo
	await fake
}

_ups() { [[ $(grep -c ' up$' echo.err) == "$1" ]]; }

@test "a lost connection comes back: down, up again" {
	lost close 'closed the connection'
	lost 'half-close ; wait-close' 'closed the connection'
	lost reset 'was lost: Connection reset by peer'
	lost 'end ; expect </stream:stream> ; wait-close' 'ended the stream'
	lost 'error system-shutdown' 'stream error system-shutdown for jat.test'
	lost 'error policy-violation too&#10;big' \
		'stream error policy-violation for jat.test (too?big)'
}

@test "a lost connection with --retries 0 is 75" {
	fake 'up ; close'
	run_echo_service --retries 0
	assert_failure 75
	assert_line --regexp 'closed the connection$'
}

@test "a server that closes right after the handshake is not hammered" {
	fake --forever 'up ; close'
	run_echo_service --retries 3
	assert_failure 75
	# pauses of 0.5, 1 and 2 s, each up to a quarter shorter or longer
	assert_equal "$(grep -c 'connection [0-9]*$' fake.out)" 4
	assert_output --regexp 'attempt in 0\.[3-6] s.*attempt in (0\.[789]|1\.[0-3]) s.*attempt in (1\.[4-9]|2\.[0-5]) s'
	end fake
}

attempts_planned() { [[ $(grep -c 'next attempt' echo.err) -ge $1 ]]; }
times_up() { [[ $(grep -c 'echo-service: up' echo.err) -ge $1 ]]; }

@test "a server on this machine is tried again every 5 s at most" {
	server_free_port
	COMPONENT_PORT=$FREE_PORT FAKE_PORT=
	echo_service
	wait_for attempts_planned 5
	run awk '/next attempt/ { print $(NF - 1) <= 5 }' echo.err
	assert_output $'1\n1\n1\n1\n1'
	end echo
}

@test "--ping-interval: a ping to itself that comes back keeps the stream, and goes no further" {
	fake 'up
		route-ping
		route-ping error
		route-ping
		silent 0.5 type=.(result|error).
		say three
		wait-close'
	echo_service --ping-interval 1
	wait_for grep -q three fake.out
	assert_equal "$(cat echo.err)" 'echo-service: up'
	end echo
	await fake
}

@test "--ping-interval: any byte is life" {
	fake 'up
		spaces 20 0.2
		say spoken
		expect <ping
		say pinged
		wait-close'
	echo_service --ping-interval 1
	wait_for grep -q spoken fake.out
	assert_equal "$(cat echo.err)" 'echo-service: up'
	wait_for grep -q pinged fake.out
	end echo
	await fake
}

@test "--ping-interval: two pings without an answer are a lost stream" {
	fake --forever 'up
		count 2 <ping xmlns=.urn:xmpp:ping./>
		say two
		wait-close'
	echo_service --ping-interval 1
	wait_for grep -q 'does not answer pings any more; next attempt' echo.err
	wait_for times_up 2
	grep -q two fake.out
	end echo
}

@test "--ping-interval 0: a silent server is not asked" {
	fake 'up ; silent 3 <ping ; say quiet ; wait-close'
	echo_service --ping-interval 0
	wait_for grep -q quiet fake.out
	end echo
	await fake
}

@test "a server that vanishes and returns on the same port" {
	fake "up ; vanish 1" "up
		send ${REQUEST//%d/1}
		expect id='q1'
		say back ; wait-close"
	echo_service
	wait_for grep -q back fake.out
	grep -q 'Connection refused; next attempt' echo.err
	end echo
	await fake
}

@test "malformed stanza: stream error, reconnect, 76 when retries are used up" {
	fake "up
		send ${REQUEST//%d/1}<iq type='get' <
		expect id='q1'
		expect <stream:error><not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>
		wait-close" 'up ; send <!-- hello --> ; expect <restricted-xml ; wait-close' \
		'up ; send <!DOCTYPE x> ; expect <restricted-xml|<not-well-formed ; wait-close'
	run_echo_service --retries 2
	assert_failure 76
	assert_equal "$(grep -c ' up$' <<<"$output")" 3
	await fake
}

@test "the stream error says what is wrong, whatever the words of the log are" {
	fake 'up ; send <?pi x?> ; expect <restricted-xml ; wait-close' \
		'up ; send <iq type="get"><x>&nbsp;</x></iq> ; expect <restricted-xml ; wait-close' \
		'up ; send <iq type="get" id="large comment"><x></iq> ; expect <not-well-formed ; wait-close' \
		"up ; send <iq type='get' to=' ; repeat 120000 0123456789 ; expect <policy-violation ; wait-close"
	run_echo_service --retries 3
	assert_failure 76
	await fake
}

@test "a stanza without to is to the domain, and the answer says so" {
	fake 'up ; send <iq type="get" id="q1" from="u@h.test/r"><x xmlns="urn:x"/></iq>
		expect <iq [^>]*from=.jat.test.
		say answered ; wait-close'
	echo_service
	wait_for grep -q answered fake.out
	end echo
	await fake
}

@test "a truncated stanza is not taken for one" {
	fake "up ; send <iq type='get' id='1' from='u@h.test' to='jat.test'><x xmlns='urn:x'/></iq
		half-close
		silent 1 <iq"
	echo_service
	wait_for grep -q 'closed the connection' echo.err
	await fake
	end echo
}

@test "unknown elements are ignored and counted" {
	fake "up
		send <features xmlns='http://etherx.jabber.org/streams'/><foo/><bar/>
		send ${REQUEST//%d/1}
		expect id='q1'
		say answered ; wait-close"
	echo_service
	wait_for grep -q answered fake.out
	wait_for echo_counters 'bad_input{reason="unknown"}=3'
	assert_equal "$(grep -c ignored echo.err)" 1
	end echo
	await fake
}

@test "a stanza over a limit: the request is answered, the stream goes on" {
	{
		printf "up ; send <iq type='get' id='big' from='u@h.test/r' to='jat.test'><x xmlns='urn:x'>"
		head -c 100000 /dev/zero | tr '\0' x
		echo "</x></iq>"
		echo "expect type='error' id='big'.*<policy-violation"
		echo "send ${REQUEST//%d/1}"
		echo "expect type='result' id='q1'"
		echo "say answered ; wait-close"
	} >script
	fake "$(<script)"
	echo_service --max-stanza-bytes 20000
	wait_for grep -q answered fake.out
	end echo
	await fake
}

@test "a stanza too large to send is not sent" {
	fake "up
		send <iq type='get' id='1' from='u@h.test/r' to='jat.test'><big xmlns='urn:x'>30000</big></iq>
		expect type='error'.*<policy-violation
		say answered ; wait-close"
	echo_service --max-send-bytes 20000
	wait_for grep -q answered fake.out
	wait_for echo_counters not_sent=1
	end echo
	await fake
}

@test "a server that stops reading: we stop reading too, bounded, and nothing is lost" {
	fake "deaf
		up
		flood <iq type='get' id='q%d' from='u@h.test/r' to='jat.test'><x xmlns='urn:x'>0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789</x></iq>
		say answered ; wait-close"
	echo_service --max-queue-bytes 1M
	wait_for grep -q answered fake.out
	# The kernel's socket buffers take some megabytes; ours must not.
	[[ -n ${WRAP:-} || $(hwm_kib "$echo_pid") -lt 40000 ]]
	end echo
	await fake
}

@test "what was queued when the stream was lost is told in bytes" {
	fake "deaf
		up
		repeat 50000 $REQUEST
		reset" 'up ; say again ; wait-close'
	echo_service
	wait_for grep -q again fake.out
	grep -qE ': [1-9][0-9]* bytes of output were lost with the stream$' echo.err
	end echo
	await fake
}

@test "no handshake, no header: the attempt ends" {
	fake 'open ; any-handshake ; close' 'close' 'open - ; end ; wait-close'
	run_echo_service --retries 2
	assert_failure 75
	assert_line --index 0 --partial 'closed the connection before the handshake was done'
	assert_line --index 1 --partial 'before the handshake was done'
	assert_line --index 2 --partial 'ended the stream before the handshake was done'
}

@test "SIGTERM while connecting, while waiting, during the handshake: 0 at once" {
	server_free_port
	# shellcheck disable=SC2034 # for echo_service
	COMPONENT_PORT=$FREE_PORT
	echo_service
	wait_for grep -q 'next attempt' echo.err
	end echo
	fake 'open ; any-handshake ; say waiting ; wait-close' 'pause 0 ; say silent ; wait-close'
	echo_service
	wait_for grep -q waiting fake.out
	end echo
	echo_service
	wait_for grep -q silent fake.out
	end echo
	await fake
}

@test "SIGTERM drains: open requests are answered, new ones refused, then the stream ends" {
	fake "up
		send ${REQUEST//%d/1}
		wait-for terminated
		send ${REQUEST//%d/2}
		expect type='error' id='q2'.*<recipient-unavailable
		expect type='result'[^>]* id='q1'
		expect </stream:stream>
		end"
	echo_service -v --delay 1
	wait_for echo_counters open_requests=1
	kill "$echo_pid"
	wait_for grep -q 'stopping: 1 requests open' echo.err
	: >terminated
	await echo
	await fake
}

@test "drain time over, or a second SIGTERM: open requests are answered with an error" {
	fake "up ; send ${REQUEST//%d/1}
		expect type='error'.*id='q1'.*<recipient-unavailable.*</stream:stream>
		end" "up ; send ${REQUEST//%d/1}
		expect type='error'.*id='q1'.*<recipient-unavailable.*</stream:stream>
		end"
	echo_service --delay 100 --drain-time 0.2
	wait_for echo_counters open_requests=1
	end echo
	echo_service -v --delay 100 --drain-time 100
	wait_for echo_counters open_requests=1
	kill "$echo_pid"
	# two signals of one kind that arrive at once count as one
	wait_for grep -q 'stopping: 1 requests open' echo.err
	end echo
	await fake
}

# a queue that has room for a few hundred answers
SMALL_QUEUE='--limit queue-bytes=64K --max-stanza-bytes 2K'

@test "10000 answers that are due at once all leave, with an output queue for a few hundred" {
	fake "up
		repeat 10000 $REQUEST
		count 10000 type='result' to=
		silent 0.5 <iq
		say answered
		wait-close"
	# shellcheck disable=SC2086
	echo_service --delay 3 $SMALL_QUEUE
	wait_for grep -q answered fake.out
	end echo
	await fake
}

@test "10000 open requests at the end all get their error, with an output queue for a few hundred" {
	fake "up
		repeat 10000 $REQUEST
		say given
		count 10000 type='error'
		expect </stream:stream>
		end"
	# shellcheck disable=SC2086
	echo_service --delay 100 --drain-time 0.1 $SMALL_QUEUE
	wait_for grep -q given fake.out
	wait_for echo_counters open_requests=10000
	end echo
	await fake
}

@test "a reader that takes the last words slowly gets them all" {
	fake "deaf
		up
		repeat 12000 $REQUEST
		say given
		count 4000 type='error' ; pause 3 ; count 4000 type='error' ; pause 3
		count 4000 type='error'
		expect </stream:stream>
		end"
	# shellcheck disable=SC2086
	echo_service --delay 100 --drain-time 0.1 $SMALL_QUEUE
	wait_for grep -q given fake.out
	wait_for echo_counters open_requests=12000
	end echo
	await fake
}

@test "answers that became due while the stream was down all leave on the next one" {
	fake "up
		repeat 5000 $REQUEST
		say given
		wait-for go ; close" "pause 3
		up
		count 5000 type='result' to=
		say answered
		wait-close"
	# shellcheck disable=SC2086
	echo_service --delay 3 $SMALL_QUEUE
	wait_for grep -q given fake.out
	wait_for echo_counters open_requests=5000
	touch go
	wait_for grep -q answered fake.out
	end echo
	await fake
}

@test "what comes after the end of the stream is answered on another one, until nothing comes any more" {
	local late="<iq type='set' id='q%d' from='u@h.test/r' to='x@jat.test'><x xmlns='urn:x'/></iq>"
	# the first answers and the end of the stream leave in one write, so that little can come in between
	fake "up
		say up
		expect </stream:stream>$
		send ${late//%d/1}${late//%d/2}
		send <iq type='result' id='no' from='u@h.test/r' to='jat.test'/><message from='u@h.test/r' to='jat.test'/>
		end
		wait-close" "up
		expect ^<iq type='error' id='q1' to='u@h.test/r' from='x@jat.test'.*recipient-unavailable.*id='q2'.*</iq></stream:stream>$
		send ${late//%d/3}
		end
		wait-close" "up
		expect ^<iq type='error'[^>]*id='q3'.*recipient-unavailable.*</iq></stream:stream>$
		end
		wait-close"
	echo_service
	wait_for grep -q 'up$' fake.out
	end echo
	await fake
	assert_equal "$(cat echo.err)" 'echo-service: up'
}

@test "a server that is gone by then: what got no answer is told" {
	fake "up
		say up
		expect </stream:stream>$
		send ${REQUEST//%d/1}
		end
		wait-close" "close"
	echo_service
	wait_for grep -q 'up$' fake.out
	end echo
	await fake
	run cat echo.err
	assert_output --partial '1 requests came after the end of the stream and got no answer'
}

@test "SIGTERM while the stream is down waits for it if requests are open" {
	fake "up ; send ${REQUEST//%d/1} ; wait-for held ; vanish 1" \
		"up
		expect type='result'[^>]* id='q1'.*</stream:stream>
		end"
	echo_service --delay 2 --drain-time 30
	wait_for echo_counters open_requests=1
	: >held
	wait_for grep -q ' down$' echo.err
	end echo
	await fake
}

@test "SIGHUP reads the secret again for the next connection" {
	fake --secret new 'pause 0 ; close' 'up ; say in ; wait-close'
	secret_file
	echo_service
	wait_for grep -q 'next attempt' echo.err
	(umask 077 && echo new >secret.new && mv secret.new secret)
	kill -HUP "$echo_pid"
	wait_for grep -q '^in' fake.out
	grep -q 'reloaded while not connected' echo.err
	end echo
	await fake
}

@test "a connection beyond this machine is warned about once" {
	address=$(hostname -I | tr ' ' '\n' | grep -m1 '^[0-9.]\+$') || not_here 'no address but loopback'
	secret_file
	server_free_port
	start relay socat "TCP-LISTEN:$FREE_PORT,bind=$address,reuseaddr,fork" OPEN:/dev/null
	wait_for bash -c ": <>/dev/tcp/$address/$FREE_PORT" 2>/dev/null
	run timeout 60 "$BUILDDIR/tools/echo-service" --domain jat.test --secret-file secret \
		--connect "$address:$FREE_PORT" --retries 1
	assert_failure 75
	assert_equal "$(grep -c 'is not encrypted' <<<"$output")" 1
}
