#!/usr/bin/env bats
# Secrets, keys and configurations that the operator gives: a FIFO or a pipe of the shell is as good as a file,
# and nobody waits for its writer without an end. (The component's secret: supervision.bats.)
# installcheck

load lib
load tools/scenario

teardown() { stop_all; }

# each FUNCTION: call FUNCTION CONTENT OPTION COMMAND... for each file that a program is given
each()
{
	local key rules
	key="k $(printf '%064d' 7)" rules='{"urn:x":{"jid":"e.test"}}'
	local server=(--connect 127.0.0.1:1 --domain d.test)
	"$1" "$key" --key-file jat-encode --domain d.test alice@h.test/r
	"$1" "$key" --key-file jat-decode --domain d.test
	"$1" "$key" --key-file xmpp-jat-proxy --domain d.test --target impl@h.test
	"$1" "$rules" --config xmpp-delegate --domain d.test
	"$1" '{}' --disco xmpp-manage --domain d.test --host h.test --namespace urn:x -- cat
	"$1" token --token-file roster-fetch --url 'http://127.0.0.1:1/%s' john
	"$1" 'X-A: b' --header-file roster-fetch --url 'http://127.0.0.1:1/%s' john
	"$1" me:secret --basic-auth-file roster-fetch --url 'http://127.0.0.1:1/%s' john
	"$1" token --token-file roster-apply --via ejabberd-api --api http://127.0.0.1:1/api --host h.test
	"$1" secret --secret-file xmpp-iq "${server[@]}" --to h.test --ping
	"$1" secret --secret-file xmpp-message "${server[@]}" --to h.test
	"$1" secret --secret-file xmpp-connect "${server[@]}"
	"$1" secret --password-file xmpp-iq --jid me@h.test --connect 127.0.0.1:1 --to h.test --ping
}

# run_with FILE OPTION COMMAND...: start COMMAND with the option as "p", with an input that ends
run_with()
{
	local file=$1 option=$2 program=$3
	shift 3
	echo "# $program $option"
	: >input
	[[ $program != xmpp-message ]] || echo hello >input
	# shellcheck disable=SC2086
	start p bash -c 'exec "$@" <input' - ${WRAP:-} "$BINDIR/$program" "$option" "$file" "$@"
}

# opened PATH: p has this file open (for wait_for)
# shellcheck disable=SC2154 # started: lib
opened() { find "/proc/${started[p]}/fd" -lname "$PWD/$1" 2>/dev/null | grep -q .; }

# ended_by_sigterm: p ends, although nothing comes
ended_by_sigterm()
{
	kill -TERM "${started[p]}"
	wait_for _gone "${started[p]}"
	await p || true
}

nobody_writes()
{
	rm -f fifo
	mkfifo -m 600 fifo
	run_with fifo "${@:2}"
	wait_for opened fifo
	ended_by_sigterm
}

writer_is_silent()
{
	rm -f fifo
	mkfifo -m 600 fifo
	run_with fifo "${@:2}"
	exec 7>fifo
	ended_by_sigterm
	exec 7>&-
}

@test "nobody writes to the FIFO: SIGTERM ends the program" {
	each nobody_writes
}

@test "the FIFO's writer is silent: SIGTERM ends the program" {
	each writer_is_silent
}

somebody_writes()
{
	local status=0
	rm -f fifo
	mkfifo -m 600 fifo
	run_with fifo "${@:2}"
	echo "$1" >fifo
	await p || status=$?
	[[ $status != 78 ]]
	refute grep -q 'fifo' p.err
	run_with /dev/fd/5 "${@:2}" 5< <(echo "$1")
	status=0
	await p || status=$?
	[[ $status != 78 ]]
	refute grep -q '/dev/fd' p.err
}

@test "what is written to a FIFO or a pipe of the shell is read" {
	each somebody_writes
}

@test "nobody writes to the FIFO for ten seconds: 78" {
	mkfifo -m 600 fifo late
	# a writer that has come in time may take longer
	start late jat-encode --domain d.test --key-file late alice@h.test
	wait_for eval 'find "/proc/${started[late]}/fd" -lname "$PWD/late" | grep -q .'
	exec 7>late
	run -78 jat-encode --domain d.test --key-file fifo alice@h.test
	assert_output "jat-encode: cannot use key file 'fifo': nobody has written to it in time"
	printf 'k %064d\n' 7 >&7
	exec 7>&-
	await late
	assert_file_contains late.out '^d.test/k'
}

@test "files that a library reads: a FIFO is refused" {
	mkfifo -m 600 fifo
	for option in --tls-ca --tls-cert --tls-key; do
		other=()
		[[ $option != --tls-cert ]] || other=(--tls-key /dev/null)
		[[ $option != --tls-key ]] || other=(--tls-cert /dev/null)
		run -78 roster-fetch --url 'https://127.0.0.1:1/%s' "$option" fifo "${other[@]}" john
		assert_output "roster-fetch: cannot open 'fifo': it is a FIFO"
	done
	(umask 077 && echo secret >password)
	run -78 xmpp-iq --jid me@h.test --password-file password --connect 127.0.0.1:1 --tls-ca fifo --to h.test --ping
	assert_output --partial "cannot open 'fifo': it is a FIFO"
}

@test "SIGHUP: keys and rules from a FIFO are read if they come within a second, else the old ones stay" {
	scenario <<-'END'
		import threading
		def put(name, text):
		    with open(name, 'w') as f:
		        f.write(text)
		    os.chmod(name, 0o600)
		def fifo(name):
		    os.remove(name)
		    os.mkfifo(name, 0o600)
		put('keys', 'k %064d\n' % 7)
		with Proxy('--key-file', 'keys') as p:
		    p.online('a')
		    p.served('1')
		    fifo('keys')
		    p.signal(signal.SIGHUP)
		    p.wait_stderr("'keys': nobody has written to it in time")
		    p.expect("<presence type='subscribe' to='impl@vhost.test' from='proxy.test'/>")
		    assert p.served('2')['from'].startswith('proxy.test/k')
		    p.signal(signal.SIGHUP)
		    with open('keys', 'w') as f:
		        f.write('n %064d\n' % 8)
		    p.wait_stderr('1 keys read')
		    p.expect("<presence type='subscribe' to='impl@vhost.test' from='proxy.test'/>")
		    assert p.served('3')['from'].startswith('proxy.test/n')
	END
	scenario <<-'END'
		def rules(entity):
		    return '{"urn:x": {"jid": "%s"}}' % entity
		with open('rules', 'w') as f:
		    f.write(rules('one.test'))
		with Filter('xmpp-delegate', '--domain', 'd.test', '--config', 'rules', '-v') as p:
		    def told(entity):
		        deadline = time.monotonic() + WAIT_S
		        while p.next()['to'] != entity:
		            assert time.monotonic() < deadline
		    told('one.test')
		    os.remove('rules')
		    os.mkfifo('rules')
		    p.signal(signal.SIGHUP)
		    p.wait_stderr("'rules': nobody has written to it in time")
		    p.signal(signal.SIGHUP)
		    with open('rules', 'w') as f:
		        f.write(rules('two.test'))
		    told('two.test')
		    p.kill()
	END
}
