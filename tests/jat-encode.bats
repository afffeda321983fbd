#!/usr/bin/env bats
# jat-encode: the encodings, key files, operands, lines, stanzas, failures.
# installcheck

load lib
load faults

KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
# The token that another implementation of AES-SIV and HMAC makes for alice@example.org/a1 with KEY as key a
SEALED=proxy.example.org/aZKZDMhY2k62YoUjDhMyuQOvCDGxM7w8KQlVP8t4kozOdnAsUZnE
SEALED_ASKED=proxy.example.org/anv8u7gBgiqDGmaLy1mymHyky_neC1topha81AbFCy0v7X8P8R6JGVkVHnOHaZiqtAbHMffboeLpH
SIGNED=proxy.example.org/alSm3qQGFY35oedJmNLTlDg.alice@example.org/a1
SIGNED_ASKED=proxy.example.org/aSdLe5SnhX8xCDxlAu9IJUw.:19:x@proxy.example.orgalice@example.org/a1

setup()
{
	umask 077
	echo "a $KEY" >keys
}

teardown() { stop_all; }

encode() { jat-encode --domain proxy.example.org --key-file keys "$@"; }
# `run` must be given a program: a preloaded library notes the exit status of programs
args=(--domain proxy.example.org --key-file keys)

@test "sealed is the default; the address asked is in the token" {
	run -0 jat-encode "${args[@]}" alice@example.org/a1
	assert_output "$SEALED"
	run -0 jat-encode "${args[@]}" --encoding sealed alice@example.org/a1
	assert_output "$SEALED"
	run -0 jat-encode "${args[@]}" --asked x@proxy.example.org alice@example.org/a1
	assert_output "$SEALED_ASKED"
	run -0 jat-encode "${args[@]}" --asked proxy.example.org alice@example.org/a1
	assert_output "$SEALED"
}

@test "signed: a code, a dot, the address in the clear" {
	run -0 jat-encode "${args[@]}" -e signed alice@example.org/a1
	assert_output "$SIGNED"
	run -0 jat-encode "${args[@]}" -e signed -a X@Proxy.Example.ORG alice@example.org/a1
	assert_output "$SIGNED_ASKED"
}

@test "plain: domain/JID, without a key" {
	run -0 jat-encode -d proxy.example.org -e plain alice@example.org/a1 example.org "u@h/a/b@c d"
	assert_output "proxy.example.org/alice@example.org/a1
proxy.example.org/example.org
proxy.example.org/u@h/a/b@c d"
}

@test "addresses are normalised: case, stringprep, the domain's last dot" {
	run -0 jat-encode -d Proxy.Example.ORG. -e plain Alice@Example.ORG./A1 STRASSE@h straße@h 'a@h/ﬁ'
	assert_output "proxy.example.org/alice@example.org/A1
proxy.example.org/strasse@h
proxy.example.org/strasse@h
proxy.example.org/a@h/fi"
	assert_equal "$(encode Alice@EXAMPLE.org/a1)" "$SEALED"
}

@test "lines are as good as operands, the last one also without its newline" {
	printf 'alice@example.org/a1\nbob@example.org\ncarol@example.org/ c' >jids
	encode alice@example.org/a1 bob@example.org 'carol@example.org/ c' >operands
	run -0 jat-encode "${args[@]}" <jids
	assert_output "$(cat operands)"
	assert_equal "${#lines[@]}" 3
}

@test "an operand after -- may look like an option" {
	run -0 jat-encode -d proxy.example.org -e plain -- -a@h
	assert_output proxy.example.org/-a@h
}

second_line() { [[ $(wc -l <encode.out) == 2 ]]; }

@test "each line is answered before the next one is waited for" {
	mkfifo in
	exec 7<>in
	start encode bash -c "exec jat-encode ${args[*]} <in 7>&-"
	echo alice@example.org/a1 >&7
	wait_for grep -qx "$SEALED" encode.out
	printf bob@exam >&7
	echo ple.org >&7
	wait_for second_line
	exec 7>&-
	await encode
	run -0 jat-decode "${args[@]}" <encode.out
	assert_output "alice@example.org/a1
bob@example.org"
}

@test "bad lines are reported with their number, the rest goes on: 65" {
	printf '%s\n' alice@example.org/a1 '@' '' 'a@b@c' "$(printf '%05000d' 1)" $'a@b/\x01' $'a@b/\xff' \
		"u@h/$(printf '%0745d' 1)" bob@example.org 'a b@c' >jids
	printf 'a@b\0c\nlast@' >>jids
	run -65 --separate-stderr jat-encode "${args[@]}" <jids
	assert_equal "${#lines[@]}" 2
	assert_line -n 0 "$SEALED"
	# shellcheck disable=SC2154 # set by run
	assert_equal "$stderr" "jat-encode: stdin:2: not an address
jat-encode: stdin:3: not an address
jat-encode: stdin:4: not an address
jat-encode: stdin:5: line too long for an address
jat-encode: stdin:6: not an address
jat-encode: stdin:7: not an address
jat-encode: stdin:8: too long for a sealed token
jat-encode: stdin:10: not an address
jat-encode: stdin:11: not an address
jat-encode: stdin:12: not an address"
}

@test "bad operands are reported as they are, the rest goes on: 65" {
	run -65 --separate-stderr jat-encode "${args[@]}" '@' alice@example.org/a1 ''
	assert_output "$SEALED"
	assert_equal "$stderr" "jat-encode: '@': not an address
jat-encode: '': not an address"
}

@test "what does not survive resourceprep fits sealed alone" {
	for jid in 'u@h/latin אב mixed' 'u@h/x ال'; do
		run -0 jat-encode "${args[@]}" "$jid"
		run -0 jat-decode "${args[@]}" "$output"
		assert_output "$jid"
		for encoding in signed plain; do
			run -65 --separate-stderr jat-encode "${args[@]}" -e "$encoding" "$jid"
			assert_output ""
			assert_equal "$stderr" "jat-encode: '$jid': does not fit a $encoding token: too long, or resourceprep changes it"
		done
	done
	# right-to-left text is allowed, but not in a token that begins with the key's letter
	run -0 jat-encode "${args[@]}" -e plain 'א'
	run -65 jat-encode "${args[@]}" -e signed 'א'
}

@test "no token is longer than 1023 bytes; the longest addresses" {
	resource=$(printf '%0744d' 1)
	run -0 jat-encode "${args[@]}" "u@h/$resource"
	assert_equal "${#output}" $((18 + 1023))
	run -65 jat-encode "${args[@]}" "u@h/${resource}1"
	resource=$(printf '%0995d' 1)
	run -0 jat-encode "${args[@]}" -e signed "u@h/$resource"
	assert_equal "${#output}" $((18 + 1023))
	run -65 jat-encode "${args[@]}" -e signed "u@h/${resource}1"
	resource=$(printf '%01019d' 1)
	run -0 jat-encode "${args[@]}" -e plain "u@h/$resource"
	run -65 jat-encode "${args[@]}" -e plain "u@h/${resource}1"
	long=$(printf '%01023d' 1)
	for encoding in sealed signed plain; do
		run -65 --separate-stderr jat-encode "${args[@]}" -e "$encoding" "$long@$long/$long" a@b
		assert_equal "${#lines[@]}" 1
	done
}

# --- keys

@test "--create-key makes a missing file, for its owner alone, whatever the umask" {
	umask 0
	run -0 --separate-stderr jat-encode --create-key --key-file new
	assert_output ""
	assert_equal "$stderr" ""
	assert_equal "$(stat -c %a new)" 600
	run -0 cat new
	assert_output --regexp '^0 [0-9a-f]{64}$'
	run -0 jat-encode --domain proxy.example.org --key-file new a@b
	run -0 jat-decode --domain proxy.example.org --key-file new "$output"
	assert_output a@b
	# no temporary file is left in the folder
	assert [ -z "$(find . -name '.outboard*')" ]
}

@test "--create-key keeps the file that is there" {
	run -0 jat-encode "${args[@]}" --create-key alice@example.org/a1
	assert_output "$SEALED"
	assert_equal "$(cat keys)" "a $KEY"
	jat-encode --create-key --key-file one
	cp one two
	jat-encode --create-key --key-file one
	cmp one two
}

@test "--create-key goes on with the domain it is given; two keys are never the same" {
	for file in one two; do
		run -0 jat-encode --create-key --key-file "$file" --domain proxy.example.org a@b
		assert_output --regexp '^proxy\.example\.org/0[A-Za-z0-9_-]+$'
		jat-encode --create-key --key-file "$file" --domain proxy.example.org </dev/null
	done
	run ! cmp one two
}

@test "--create-key where it cannot: 78, and 64 without --key-file" {
	run -78 jat-encode --create-key --key-file missing/keys
	assert_output "jat-encode: cannot write 'missing/keys': No such file or directory"
	run -64 jat-encode --create-key
	assert_line -n 0 "jat-encode: --create-key needs --key-file"
	ln -s nowhere dangling
	run -78 jat-encode --create-key --key-file dangling
	assert [ ! -e nowhere ]
}

@test "--create-key on a full disk: 74 and no file; with one byte at a time all of it" {
	[[ -e $BUILDDIR/preload/failcall.so ]] || not_here "no injectors in this configuration"
	for fault in write:1:ENOSPC write:1:EIO; do
		run -74 faulty "FAILCALL=$fault" -- jat-encode --create-key --key-file new
		assert [ -e fault ]
		assert [ ! -e new ]
		assert [ -z "$(find . -name '.outboard*')" ]
	done
	run -0 faulty DRIP=1 -- jat-encode --create-key --key-file new
	assert_equal "$(wc -c <new)" 67
}

@test "several --create-key at once: one file, the same for all" {
	pids=()
	for n in 1 2 3 4 5 6; do
		jat-encode --create-key --key-file shared --domain proxy.example.org a@b >"token.$n" 3>&- &
		pids+=($!)
	done
	wait "${pids[@]}"
	assert_equal "$(cat token.* | sort -u | wc -l)" 1
	assert_equal "$(wc -l <shared)" 1
}

@test "no key file: 64 and how to make one; a missing one: 78 and the same" {
	run -64 jat-encode --domain proxy.example.org a@b
	assert_line -n 0 --partial "'jat-encode --create-key --key-file FILE' makes one"
	run -64 jat-encode --domain proxy.example.org -e signed a@b
	run -78 jat-encode --domain proxy.example.org --key-file nothing a@b
	assert_line -n 0 "jat-encode: cannot use key file 'nothing': No such file or directory"
	assert_line -n 1 --partial "'jat-encode --create-key --key-file nothing' makes one"
}

@test "a key file that others can read or the group can write is refused: 78" {
	for mode in 604 644 620 602; do
		chmod "$mode" keys
		run -78 --separate-stderr jat-encode "${args[@]}" a@b
		assert_output ""
		assert_regex "$stderr" "cannot use key file 'keys'"
	done
	for mode in 600 400 640; do
		chmod "$mode" keys
		run -0 jat-encode "${args[@]}" alice@example.org/a1
		assert_output "$SEALED"
	done
}

@test "a malformed key file is refused with its line, and never shown: 78" {
	check()
	{
		printf %b "$1" >keys
		run -78 --separate-stderr jat-encode "${args[@]}" a@b
		assert_output ""
		assert_equal "$stderr" "jat-encode: key file$2"
	}
	malformed="not 'KEYID SP 64 hex digits', or a KEYID that was there before"
	check "a $KEY\na $KEY\n" ", line 2: $malformed"
	check "# x\n\n$KEY\n" ", line 3: $malformed"
	check "a ${KEY}0\n" ", line 1: $malformed"
	check "_ $KEY\n" ", line 1: $malformed"
	check "# nothing\n" ": no key in it"
	: >keys
	run -78 jat-encode "${args[@]}" a@b
	assert_output "jat-encode: cannot use key file 'keys': it is empty"
}

@test "the key file from \$CREDENTIALS_DIRECTORY, unless --key-file says otherwise" {
	mkdir credentials
	cp keys credentials/jat-keys
	CREDENTIALS_DIRECTORY=$PWD/credentials run -0 jat-encode --domain proxy.example.org alice@example.org/a1
	assert_output "$SEALED"
	echo "b $KEY" >other
	CREDENTIALS_DIRECTORY=$PWD/credentials run -0 jat-encode --domain proxy.example.org --key-file other a@b
	assert_output --partial /b
}

@test "the first key encodes" {
	echo "b ${KEY//0/f}" | cat - keys >both
	run -0 jat-encode --domain proxy.example.org --key-file both alice@example.org/a1
	assert_output --partial /b
	cat keys <(echo "b ${KEY//0/f}") >both
	run -0 jat-encode --domain proxy.example.org --key-file both alice@example.org/a1
	assert_output "$SEALED"
}

# --- stanzas

@test "--stanza translates from, and nothing else" {
	cat >in <<-'END'
		<iq type='get' id='1' from='alice@example.org/a1' to="bob@example.org"><q xmlns='urn:x' from='alice@example.org/a1'/></iq>
		<message to='bob@example.org' xml:lang='de' from="alice@example.org/a1" ><body>a &lt; <![CDATA[b]]></body></message>
		<presence/>
		<y:iq xmlns:y='jabber:client' y:from='eve@example.org' type='set' id='2' to='x'><q xmlns='urn:x'/></y:iq>
	END
	run -0 jat-encode "${args[@]}" --stanza <in
	assert_equal "${#lines[@]}" 4
	assert_line -n 0 --partial "to=\"bob@example.org\"><q xmlns='urn:x' from='alice@example.org/a1'/></iq>"
	assert_line -n 0 --regexp "^<iq type='get' id='1' [^>]*from=.$SEALED.[ >]"
	assert_line -n 1 --partial "<body>a &lt; <![CDATA[b]]></body></message>"
	assert_line -n 1 --partial "xml:lang='de'"
	assert_line -n 1 --regexp "from=.$SEALED."
	assert_line -n 2 "<presence/>"
	assert_line -n 3 --partial "y:from='eve@example.org'"
	refute_line -n 3 --partial "proxy.example.org"
}

@test "--stanza in all encodings, there and back" {
	jid="u@h/ a&apos;&quot;&lt;&amp;>/@ü"
	for encoding in sealed signed plain; do
		echo "<message from='$jid' to='bob@h'/>" |
			encode --stanza -e "$encoding" | sed 's/ to=.bob@h.//; s/ from=/ to=/' |
			jat-decode "${args[@]}" -e "$encoding" --stanza >back
		assert_equal "$(sed 's/"/\&quot;/g; s/&gt;/>/g' back)" "<message to='$jid'/>"
	done
}

@test "--stanza: the server's addresses are taken as they are" {
	run -0 jat-encode -d proxy.example.org -e plain --stanza <<<"<message from='Alice@Example.ORG/A'/>"
	assert_output "<message from='proxy.example.org/Alice@Example.ORG/A'/>"
}

@test "--stanza: what cannot be translated or read is reported with its line, the rest goes on: 65" {
	cat >in <<-'END'
		<message from='alice@example.org/a1' to='x'/>
		<message from='' to='x'/>
		<message from='a@b@c' to='x'/>
		<bad></worse>
		<message
		  from='@' to='x'/>
		<other from='alice@example.org/a1'/>
		<message from='alice@example.org/a1' to='y'/>
	END
	run -65 --separate-stderr jat-encode "${args[@]}" --stanza <in
	assert_equal "${#lines[@]}" 2
	assert_line -n 0 --regexp "to='x'"
	assert_line -n 1 --regexp "to='y'"
	assert_equal "$(grep -o 'stdin:[0-9]*: .*' <<<"$stderr" | sed '3s/: .*/: malformed/')" \
		"stdin:2: from is not an address
stdin:3: from is not an address
stdin:4: malformed
stdin:5: from is not an address
stdin:7: element 'other' is no stanza"
}

@test "--stanza: limits" {
	echo "<message from='a@b'><x><y><z/></y></x></message>" >in
	run -65 --separate-stderr jat-encode "${args[@]}" --stanza --max-depth 2 <in
	assert_output ""
	assert_equal "$stderr" "jat-encode: stdin:1: stanza over --limit depth"
	run -0 jat-encode "${args[@]}" --stanza --max-depth 3 <in
	(printf "<message from='a@b' " && printf "a%d='' " {1..30} && echo "/>") >in
	run -65 --separate-stderr jat-encode "${args[@]}" --stanza --max-attributes 30 <in
	assert_equal "$stderr" "jat-encode: stdin:1: stanza over --limit attributes"
	(printf "<message from='a@b'><body>%02000d</body></message>\n" 1 && echo "<message from='a@b'/>") >in
	run -65 --separate-stderr jat-encode "${args[@]}" --stanza --max-stanza-bytes 1K <in
	assert_equal "${#lines[@]}" 1
	assert_equal "$stderr" "jat-encode: stdin:1: stanza over --max-stanza-bytes"
}

# --- manners

@test "wrong usage: 64" {
	usage()
	{
		local expected=$1
		shift
		run -64 --separate-stderr jat-encode "$@"
		assert_output ""
		assert_equal "$stderr" "jat-encode: $expected
jat-encode: try 'jat-encode --help'"
	}
	usage "--domain is needed" --key-file keys a@b
	usage "--domain is needed" --key-file keys --create-key a@b
	usage "--domain is not a domain" --key-file keys --domain a@b a@b
	usage "--domain is not a domain" --key-file keys --domain b/c a@b
	usage "--domain is not a domain" --key-file keys --domain 'a b' a@b
	usage "no operands are taken with --stanza" "${args[@]}" --stanza a@b
	usage "--asked is not an address of the domain" "${args[@]}" --asked x@example.org a@b
	usage "--asked is not an address of the domain" "${args[@]}" --asked '@' a@b
	usage "--asked is not an address of the domain" "${args[@]}" --asked x@xproxy.example.org a@b
	usage "a plain token does not hold the address asked" "${args[@]}" --asked x@proxy.example.org -e plain a@b
	run -64 jat-encode "${args[@]}" -e rot13 a@b
}

@test "no key of wrong usage is made" {
	run -64 jat-encode --create-key --key-file new --domain a@b
	assert [ ! -e new ]
}

@test "a full disk, a closed standard output: 74" {
	for more in a@b '' --stanza; do
		[[ $more == --stanza ]] && echo "<message from='a@b'/>" >in || echo a@b >in
		run -74 bash -c "jat-encode ${args[*]} $more <in >/dev/full"
		assert_output "jat-encode: cannot write standard output: No space left on device"
		run -74 bash -c "jat-encode ${args[*]} $more <in >&-"
		assert_output "jat-encode: cannot write standard output: Bad file descriptor"
	done
	# a reader that has closed the pipe
	mkfifo pipe
	run -74 bash -c "exec 7<>pipe 8>pipe 7>&-; jat-encode ${args[*]} a@b >&8"
	assert_output "jat-encode: cannot write standard output: Broken pipe"
	run -74 bash -c "jat-encode ${args[*]} <&-"
	assert_output "jat-encode: cannot read standard input: Bad file descriptor"
}

@test "the key and what is sealed are in no message" {
	chmod 644 keys
	run -78 jat-encode "${args[@]}" -v -v alice@example.org/a1
	refute_output --partial "$KEY"
	refute_output --partial alice
}
