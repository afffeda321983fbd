#!/usr/bin/env bats
# What every program does when memory, descriptors, disks or pipes fail it.
# takes long

load lib
load faults

programs() { for p in "$ROOT"/cmd/*.c; do basename "$p" .c; done; }

# Filters that need no server, each after the name of its input.
filters()
{
	cat <<-'END'
		stanzas stanza-to-json
		objects json-to-stanza
		stanzas xmpp-jat-proxy --domain proxy.example.org --target impl@example.org --encoding plain
		stanzas xmpp-delegate --domain proxy.example.org --delegate vcard-temp=impl@example.org
		envelopes xmpp-manage --domain ent.example.org --host proxy.example.org --namespace urn:other -- cat
		addresses jat-encode --domain proxy.example.org --key-file keys
		stanzas jat-encode --domain proxy.example.org --key-file keys --stanza
		tokens jat-decode --domain proxy.example.org --key-file keys
		answers jat-decode --domain proxy.example.org --key-file keys --stanza
		stanzas stanza-to-json
		objects json-to-stanza
	END
}

# each_line LIST COMMAND...: COMMAND with each line that LIST prints, and the input it names in `in`
each_line()
{
	local lines line wrong=0
	mapfile -t lines < <("$1")
	shift
	for line in "${lines[@]}"; do
		echo "# $line"
		cp "${line%% *}" in
		# shellcheck disable=SC2086
		"$@" ${line#* } || wrong=1
	done
	return "$wrong"
}

# What is injected comes from a preloaded library, and so do the sanitizers.
needs_injectors()
{
	[[ -e $BUILDDIR/preload/failmalloc.so ]] || not_here "not with sanitizers"
}

setup()
{
	: >nothing
	cat >stanzas <<-'END'
		<iq type='get' id='a1' from='john@example.org/x' to='proxy.example.org'><ping xmlns='urn:xmpp:ping'/></iq>
		<message from='john@example.org/x' to='proxy.example.org'><body>hello</body></message>
		<iq type='set' id='a2' from='john@example.org/x' to='proxy.example.org'><vCard xmlns='vcard-temp'/></iq>
	END
	cat >envelopes <<-'END'
		<iq type='set' id='e1' from='proxy.example.org' to='ent.example.org'><delegation xmlns='urn:xmpp:delegation:2'><forwarded xmlns='urn:xmpp:forward:0'><iq xmlns='jabber:client' type='get' id='1' from='john@example.org/x' to='proxy.example.org'><ping xmlns='urn:xmpp:ping'/></iq></forwarded></delegation></iq>
		<iq type='get' id='e2' from='proxy.example.org' to='ent.example.org'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>
	END
	stanza-to-json <stanzas >objects
	printf '%s\n' john@example.org/x example.org 'j\20o@example.org' >addresses
	printf '%s\n' '{"kind":"iq","type":"get","id":"1","ns":"urn:xmpp:ping","name":"ping"}' '{"kind":"presence"}' >objects
	jat-encode --create-key --key-file keys
	jat-encode --domain proxy.example.org --key-file keys <addresses >tokens
	while read -r token; do
		echo "<iq type='result' id='a1' to='$token' from='impl@example.org/y'/>"
	done <tokens >answers
}

@test "every program without memory: 75 and 'out of memory', for --help, --version and wrong usage" {
	needs_injectors
	wrong=0
	cp nothing in
	for program in $(programs); do
		echo "# $program"
		out_of_memory "$program" --help || wrong=1
		out_of_memory "$program" --version || wrong=1
		out_of_memory "$program" --no-such-option || wrong=1
	done
	assert_equal "$wrong" 0
}

@test "every filter without memory: 75 and 'out of memory'" {
	needs_injectors
	each_line filters out_of_memory
}

@test "xmpp-manage with a handler that speaks JSON, without memory: 75 and 'out of memory'" {
	needs_injectors
	cp envelopes in
	each_fault FAILMALLOC=N 75! xmpp-manage --domain ent.example.org --host proxy.example.org \
		--namespace urn:xmpp:ping --per-request --json -- echo '{"type":"result"}'
}

# Programs that connect to a server, to an address: the libc's search for a name does not survive
# a lack of memory itself.
connecting()
{
	cat <<-'END'
		nothing xmpp-jat-proxy --domain proxy.example.org --target impl@example.org --retries 0 --connect 127.0.0.1:1 --secret-file secret
		nothing xmpp-connect --domain proxy.example.org --connect 127.0.0.1:1 --secret-file secret
		nothing xmpp-connect --jid john@example.org --connect 127.0.0.1:1 --password-file secret
	END
}

failing_connection()
{
	out_of_memory "$@" &&
		each_fault FAILCALL=socket:N:EMFILE 75 "$@" &&
		each_fault FAILCALL=pipe2:N:EMFILE 75! "$@" &&
		each_fault FAILCALL=open:N:EMFILE 75! "$@" &&
		each_fault FAILCALL=poll:N:EINTR same "$@"
}

@test "every connection that is not made for want of memory or descriptors: 75 or 69" {
	needs_injectors
	(umask 077 && echo secret >secret)
	each_line connecting failing_connection
}

@test "a session with a server without memory: 75 and 'out of memory'; with one byte at a time" {
	needs_injectors
	prosody_start "$BATS_TEST_TMPDIR/prosody"
	echo "<iq type='get' id='1' from='jat.test' to='$XMPP_HOST'><ping xmlns='urn:xmpp:ping'/></iq>" >in
	session=(xmpp-connect --domain jat.test --connect "127.0.0.1:$COMPONENT_PORT"
		--secret-file "$SECRET_FILE")
	out_of_memory "${session[@]}"
	each_fault FAILCALL=poll:N:EINTR same "${session[@]}"
	each_fault FAILCALL=recv:N:EINTR same "${session[@]}"
	each_fault FAILCALL=send:N:EINTR same "${session[@]}"
	run -0 faulty DRIP_READ=1 -- "${session[@]}" <in
	assert_output --partial "type='result'"
	prosody_stop "$BATS_TEST_TMPDIR/prosody"
}

@test "every program's help on a full disk, on a closed standard output: 74" {
	for program in $(programs); do
		run bash -c "$BINDIR/$program --help >/dev/full"
		assert_failure 74
		assert_output "$program: cannot write standard output: No space left on device"
		run bash -c "$BINDIR/$program --help >&-"
		assert_failure 74
		assert_output "$program: cannot write standard output: Bad file descriptor"
	done
}

# fails_with STATUS TEXT COMMAND...: in `err`, what COMMAND said
fails_with()
{
	local want=$1 text=$2 status=0
	shift 2
	"$@" || status=$?
	if ((status != want)) || ! grep -qF "$text" err; then
		echo "exit status $status: $(cat err)"
		return 1
	fi
}

to_full_disk() { "$@" <in >/dev/full 2>err; }
to_nothing() { "$@" <in >&- 2>err; }
from_nothing() { "$@" <&- >out 2>err; }

full_disk() { fails_with 74 "cannot write standard output: No space left on device" to_full_disk "$@"; }
closed_stdout() { fails_with 74 "cannot write standard output: Bad file descriptor" to_nothing "$@"; }
closed_stdin() { fails_with 74 "cannot read standard input: Bad file descriptor" from_nothing "$@"; }

@test "every filter on a full disk, without standard output, without standard input: 74" {
	each_line filters full_disk
	each_line filters closed_stdout
	each_line filters closed_stdin
}

broken_calls()
{
	each_fault FAILCALL=read:N:EIO '74! 78' "$@" &&
		each_fault FAILCALL=write:N:EIO 74! "$@" &&
		each_fault FAILCALL=write:N:ENOSPC 74! "$@" &&
		each_fault FAILCALL=poll:N:ENOMEM '74 75' "$@" &&
		each_fault FAILCALL=pipe2:N:EMFILE 75 "$@" &&
		each_fault FAILCALL=open:N:EMFILE 75 "$@"
}

@test "every filter whose reads, writes and waits fail: 74 or 75" {
	needs_injectors
	each_line filters broken_calls
}

interrupted_calls()
{
	local call
	for call in read write poll; do
		each_fault FAILCALL=$call:N:EINTR same "$@" || return
		each_fault FAILCALL=$call:N:EAGAIN same "$@" || return
	done
}

@test "every filter goes on after interrupted calls" {
	needs_injectors
	each_line filters interrupted_calls
}

byte_by_byte()
{
	local bytes
	"$@" <in >undisturbed
	for bytes in 1 2 3 7 100; do
		faulty "DRIP=$bytes" -- "$@" <in >out || return
		cmp undisturbed out || { echo "other output for $bytes bytes at a time" && return 1; }
	done
}

@test "every filter gives the same with one byte at a time" {
	needs_injectors
	each_line filters byte_by_byte
}

@test "roster-refresh-listen without memory or descriptors: 75" {
	needs_injectors
	: >in
	listening=(roster-refresh-listen --spool spool --listen 127.0.0.1:0 --listen 192.0.2.1:1)
	out_of_memory "${listening[@]}"
	each_fault FAILCALL=socket:N:EMFILE 75! "${listening[@]}"
}

# The filters that are services, too: they catch signals, and have --ready-fd.
services() { filters | grep ' xmpp-'; }

stopped()
{
	local signal status ready in half
	for signal in TERM INT; do
		rm -f fifo ready
		mkfifo fifo ready
		exec {ready}<>ready {in}<>fifo
		start stopped "$BINDIR/$1" --ready-fd "$ready" "${@:2}" <fifo
		read -r -t 20 -u "$ready" _
		half=$(head -c 30 stanzas)
		printf '%s' "$half" >&"$in"
		status=0
		end stopped "$signal" || status=$?
		exec {ready}<&- {in}<&-
		if ((status)) || grep -q "$half" stopped.out; then
			echo "SIG$signal: exit status $status: $(cat stopped.out stopped.err)"
			return 1
		fi
	done
}

@test "every service stopped by SIGTERM or SIGINT in the middle of a stanza: 0, nothing of it leaves" {
	each_line services stopped
}

# A reader that has gone: 74 and words, not death by SIGPIPE.
reader_gone()
{
	mkfifo gone
	# one that opened it and went
	: <gone &
	exec {out}>gone
	wait $!
	status=0
	"$@" <in 1>&"$out" 2>err || status=$?
	exec {out}>&-
	rm gone
	if ((status != 74)) || ! grep -q 'cannot write standard output: Broken pipe' err; then
		echo "exit status $status: $(cat err)"
		return 1
	fi
}

@test "every filter whose reader has gone: 74" {
	each_line filters reader_gone
}
