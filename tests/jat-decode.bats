#!/usr/bin/env bats
# jat-decode: valid and invalid tokens, lines, operands, stanzas, failures.
# installcheck

load lib

KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
# The token that another implementation of AES-SIV and HMAC makes for alice@example.org/a1 with KEY as key a
SEALED=proxy.example.org/aZKZDMhY2k62YoUjDhMyuQOvCDGxM7w8KQlVP8t4kozOdnAsUZnE
SEALED_ASKED=proxy.example.org/anv8u7gBgiqDGmaLy1mymHyky_neC1topha81AbFCy0v7X8P8R6JGVkVHnOHaZiqtAbHMffboeLpH
SIGNED=proxy.example.org/alSm3qQGFY35oedJmNLTlDg.alice@example.org/a1
SIGNED_ASKED=proxy.example.org/aSdLe5SnhX8xCDxlAu9IJUw.:19:x@proxy.example.orgalice@example.org/a1
ALICE=alice@example.org/a1

args=(--domain proxy.example.org --key-file keys)

setup()
{
	umask 077
	echo "a $KEY" >keys
}

teardown() { stop_all; }

invalid="not a valid token of proxy.example.org"

@test "sealed and signed tokens, told apart by their form" {
	run -0 jat-decode "${args[@]}" "$SEALED" "$SIGNED" "$SEALED_ASKED" "$SIGNED_ASKED"
	assert_output "$ALICE
$ALICE
$ALICE
$ALICE"
}

@test "--asked prints the address that was asked after a TAB" {
	run -0 jat-decode "${args[@]}" --asked "$SEALED" "$SIGNED" "$SEALED_ASKED" "$SIGNED_ASKED"
	assert_output "$ALICE	proxy.example.org
$ALICE	proxy.example.org
$ALICE	x@proxy.example.org
$ALICE	x@proxy.example.org"
	run -0 jat-decode -d proxy.example.org -e plain -a "proxy.example.org/$ALICE"
	assert_output "$ALICE	proxy.example.org"
}

@test "--encoding takes that one alone" {
	run -0 jat-decode "${args[@]}" -e sealed "$SEALED"
	assert_output "$ALICE"
	run -65 jat-decode "${args[@]}" -e sealed "$SIGNED"
	run -0 jat-decode "${args[@]}" -e signed "$SIGNED"
	assert_output "$ALICE"
	run -65 jat-decode "${args[@]}" -e signed "$SEALED"
	# an unprotected address is accepted only where the option asks for it
	run -65 --separate-stderr jat-decode "${args[@]}" "proxy.example.org/$ALICE"
	assert_output ""
	run -0 jat-decode -d proxy.example.org -e plain "proxy.example.org/$ALICE"
	assert_output "$ALICE"
}

@test "the token alone is enough; the domain in front may be typed in any case" {
	run -0 jat-decode "${args[@]}" "${SEALED#*/}" "${SIGNED#*/}" "Proxy.EXAMPLE.org./${SEALED#*/}"
	assert_output "$ALICE
$ALICE
$ALICE"
	run -0 jat-decode -d PROXY.example.org -e plain "$ALICE" example.org a@b "proxy.example.org/proxy.example.org/x"
	assert_output "$ALICE
example.org
a@b
proxy.example.org/x"
	# the proxy's bare domain holds no token
	run -65 jat-decode -d proxy.example.org -e plain proxy.example.org proxy.example.org/
	assert_equal "${#lines[@]}" 2
}

@test "what was encoded comes back, in all encodings" {
	cat >jids <<-'END'
		example.org
		alice@example.org
		u@h/ leading and trailing 
		u@h/a/b@c/d
		u@h/"quoted" 'q' <&>:=
		u@h/%41%2f\20
		ünïcödé@österreich.at/çédille
		u@h/😀
		u@h/中文
		אבג
	END
	for encoding in sealed signed plain; do
		# a token cannot have right-to-left text after the key's letter
		[[ $encoding != signed ]] || sed -i '/אבג/d' jids
		jat-encode "${args[@]}" -e "$encoding" <jids >tokens
		run -0 jat-decode "${args[@]}" -e "$encoding" <tokens
		assert_output "$(cat jids)"
		sed 's,^[^/]*/,,' tokens >bare
		run -0 jat-decode "${args[@]}" -e "$encoding" <bare
		assert_output "$(cat jids)"
	done
}

@test "bad lines are reported with their number, the rest goes on: 65" {
	{
		echo "$SEALED"
		echo "${SEALED}A"
		echo "${SEALED%?}F" # only the unused bits differ, or other bytes
		echo "$SEALED="
		echo
		echo "other.example.org/${SEALED#*/}"
		echo "proxy.example.org/b${SEALED#*/a}"
		echo "${SIGNED}x"
		echo "${SIGNED_ASKED/:19:/:18:}"
		echo "x@$SEALED"
		printf '%05000d\n' 1
		echo "$SEALED "
		printf '%s\0\n' "$SEALED"
		printf '%s\r\n' "$SEALED"
		echo "proxy.example.org/-0123456789"
		printf %s "$SIGNED"
	} >tokens
	run -65 --separate-stderr jat-decode "${args[@]}" <tokens
	assert_output "$ALICE
$ALICE"
	for n in 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
		if ((n == 11)); then
			echo "jat-decode: stdin:11: line too long for an address"
		else
			echo "jat-decode: stdin:$n: $invalid"
		fi
	done >expected
	# shellcheck disable=SC2154 # set by run
	assert_equal "$stderr" "$(cat expected)"
}

@test "bad operands are reported as they are, the rest goes on: 65" {
	run -65 --separate-stderr jat-decode "${args[@]}" nonsense "$SEALED" ''
	assert_output "$ALICE"
	assert_equal "$stderr" "jat-decode: 'nonsense': $invalid
jat-decode: '': $invalid"
}

@test "no byte of a token can be changed" {
	for token in "${SEALED#*/}" "${SIGNED_ASKED#*/}"; do
		for ((i = 0; i < ${#token}; i++)); do
			for c in A B z 0 - . : @ /; do
				[[ ${token:i:1} == "$c" ]] ||
					printf 'proxy.example.org/%s\n' "${token:0:i}$c${token:i+1}"
			done
		done
	done >changed
	run -65 --separate-stderr jat-decode "${args[@]}" <changed
	assert_output ""
	assert_equal "$(wc -l <<<"$stderr")" "$(wc -l <changed)"
}

@test "rotation: all keys of the file decode, one that is gone does not" {
	echo "b ${KEY//0/f}" | cat - keys >both
	echo "b ${KEY//0/f}" >new
	jat-encode --domain proxy.example.org --key-file both bob@example.org >bob
	run -0 jat-decode --domain proxy.example.org --key-file both "$SEALED" "$SIGNED" "$(cat bob)"
	assert_output "$ALICE
$ALICE
bob@example.org"
	run -65 --separate-stderr jat-decode --domain proxy.example.org --key-file new "$SEALED" "$SIGNED" "$(cat bob)"
	assert_output bob@example.org
	run -65 --separate-stderr jat-decode "${args[@]}" "$(cat bob)" "$SEALED"
	assert_output "$ALICE"
	# another key with the same letter
	echo "a ${KEY//0/f}" >keys
	run -65 jat-decode "${args[@]}" "$SEALED" "$SIGNED"
}

@test "a token for another domain is refused" {
	jat-encode --domain proxy2.example.org --key-file keys a@b >one
	jat-encode --domain proxy2.example.org --key-file keys -e signed a@b >two
	run -65 --separate-stderr jat-decode "${args[@]}" <<<"$(cat one two)"
	assert_output ""
	run -65 --separate-stderr jat-decode "${args[@]}" <<<"$(sed s,proxy2,proxy, one two)"
	assert_output ""
	assert_equal "$(wc -l <<<"$stderr")" 2
}

@test "the key file: from \$CREDENTIALS_DIRECTORY; refused when others can read it; missing; malformed" {
	mkdir credentials
	cp keys credentials/jat-keys
	CREDENTIALS_DIRECTORY=$PWD/credentials run -0 jat-decode --domain proxy.example.org "$SEALED"
	assert_output "$ALICE"
	run -64 jat-decode --domain proxy.example.org "$SEALED"
	assert_line -n 0 --partial "'jat-encode --create-key --key-file FILE' makes one"
	run -78 jat-decode --domain proxy.example.org --key-file nothing "$SEALED"
	assert_line -n 1 --partial "'jat-encode --create-key --key-file nothing' makes one"
	chmod 644 keys
	run -78 --separate-stderr jat-decode "${args[@]}" "$SEALED"
	assert_output ""
	chmod 600 keys
	echo "a" >>keys
	run -78 jat-decode "${args[@]}" "$SEALED"
	assert_output --partial "key file, line 2: "
	refute_output --partial "$KEY"
}

second_line() { [[ $(wc -l <decode.out) == 2 ]]; }

@test "each line is answered before the next one is waited for" {
	mkfifo in
	exec 7<>in
	start decode bash -c "exec jat-decode ${args[*]} <in 7>&-"
	echo "$SEALED" >&7
	wait_for grep -qx "$ALICE" decode.out
	printf %s "${SIGNED:0:20}" >&7
	echo "${SIGNED:20}" >&7
	wait_for second_line
	exec 7>&-
	await decode
}

# --- stanzas

@test "--stanza translates to where it is domain/TOKEN, and nothing else" {
	cat >in <<-END
		<iq type='result' id='1' to='$SEALED' from="bob@example.org/b"><q xmlns='urn:x' to='$SEALED'/></iq>
		<message to="$SIGNED_ASKED" from='bob@example.org/b'><body>a &lt; <![CDATA[b]]></body></message>
		<iq type='get' id='2' to='proxy.example.org' from='bob@example.org'><q xmlns='urn:x'/></iq>
		<iq type='get' id='3' to='x@$SEALED'><q xmlns='urn:x'/></iq>
		<message to='other.example.org/${SEALED#*/}'/>
		<message to='below.$SEALED'/>
		<message to='@'/>
		<presence from='$SEALED'/>
		<message y:to='$SEALED' xmlns:y='urn:y'/>
	END
	run -0 jat-decode "${args[@]}" --stanza <in
	assert_equal "${#lines[@]}" 9
	assert_line -n 0 --regexp "^<iq type='result' id='1' [^>]*to=.$ALICE.[ >]"
	assert_line -n 0 --partial "<q xmlns='urn:x' to='$SEALED'/></iq>"
	assert_line -n 1 --regexp "to=.$ALICE.[ >].*<body>a &lt; <!\[CDATA\[b\]\]></body></message>"
	for n in 2 3 4 5 6 7 8; do
		assert_line -n "$n" "$(sed -n "$((n + 1))p" in)"
	done
}

@test "--stanza: bad tokens and bad input are reported with their line, the rest goes on: 65" {
	cat >in <<-END
		<message to='$SEALED' id='1'/>
		<message to='proxy.example.org/x' id='2'/>
		<bad></worse>
		<message to='${SEALED}A'

		  id='3'/>
		<other to='$SEALED'/>
		<message to='$SIGNED' id='4'/>
	END
	run -65 --separate-stderr jat-decode "${args[@]}" --stanza <in
	assert_equal "$(grep -o "id='.'" <<<"$output" | tr '\n' ' ')" "id='1' id='4' "
	assert_equal "$(sed '2s/: [^:]*$/: malformed/' <<<"$stderr")" \
		"jat-decode: stdin:2: $invalid
jat-decode: stdin:3: malformed
jat-decode: stdin:4: $invalid
jat-decode: stdin:7: element 'other' is no stanza"
}

@test "--stanza, plain: as mod_client_proxy has it" {
	run -0 jat-decode -d proxy.test -e plain --stanza <<-'END'
		<iq type='result' id='2' to='proxy.test/alice@vhost.test/a1' from='impl@vhost.test/r1'><query xmlns='urn:x'><ok/></query></iq>
	END
	assert_output "<iq type='result' id='2' to='alice@vhost.test/a1' from='impl@vhost.test/r1'><query xmlns='urn:x'><ok/></query></iq>"
	run -65 jat-decode -d proxy.test -e plain --stanza <<<"<message to='proxy.test/a@b@c'/>"
}

@test "--stanza: limits" {
	echo "<message to='$SEALED'><x><y><z/></y></x></message>" >in
	run -65 --separate-stderr jat-decode "${args[@]}" --stanza --max-depth 2 <in
	assert_output ""
	assert_equal "$stderr" "jat-decode: stdin:1: stanza over --limit depth"
	run -0 jat-decode "${args[@]}" --stanza <in
	(printf "<message to='%s' " "$SEALED" && printf "a%d='' " {1..30} && echo "/>") >in
	run -65 jat-decode "${args[@]}" --stanza --max-attributes 30 <in
	(printf "<message to='%s'><body>%02000d</body></message>\n" "$SEALED" 1) >in
	run -65 jat-decode "${args[@]}" --stanza --max-stanza-bytes 1K <in
}

@test "requests and answers through a pair of filters" {
	cat >requests <<-'END'
		<iq type='get' id='1' from='alice@example.org/a1' to='impl@example.org/r1'><q xmlns='urn:x'/></iq>
		<iq type='set' id='2' from='bob@example.org/b b' to='impl@example.org/r1'><q xmlns='urn:x'/></iq>
	END
	jat-encode "${args[@]}" --stanza <requests |
		sed -E "s/ from=['\"]([^'\"]*)['\"]/ FROM='\1'/; s/ to=['\"]([^'\"]*)['\"]/ from='\1'/; s/ FROM=/ to=/
			s/type='.et'/type='result'/" >answers
	run -0 jat-decode "${args[@]}" --stanza <answers
	assert_line -n 0 --regexp "type='result' id='1' .*to='alice@example.org/a1'"
	assert_line -n 1 --regexp "type='result' id='2' .*to='bob@example.org/b b'"
}

# --- manners

@test "wrong usage: 64" {
	usage()
	{
		local expected=$1
		shift
		run -64 --separate-stderr jat-decode "$@"
		assert_output ""
		assert_equal "$stderr" "jat-decode: $expected
jat-decode: try 'jat-decode --help'"
	}
	usage "--domain is needed" --key-file keys x
	usage "--domain is not a domain" --key-file keys --domain a@b x
	usage "no operands are taken with --stanza" "${args[@]}" --stanza x
	usage "--asked does not go with --stanza" "${args[@]}" --stanza --asked
	run -64 jat-decode "${args[@]}" -e rot13 x
	run -64 jat-decode "${args[@]}" --create-key
}

@test "a full disk, a closed standard output, a reader that has gone: 74" {
	for more in "$SEALED" '' --stanza; do
		[[ $more == --stanza ]] && echo "<message to='$SEALED'/>" >in || echo "$SEALED" >in
		run -74 bash -c "jat-decode ${args[*]} $more <in >/dev/full"
		assert_output "jat-decode: cannot write standard output: No space left on device"
		run -74 bash -c "jat-decode ${args[*]} $more <in >&-"
		assert_output "jat-decode: cannot write standard output: Bad file descriptor"
		rm -f pipe
		mkfifo pipe
		run -74 bash -c "exec 7<>pipe 8>pipe 7>&-; jat-decode ${args[*]} $more <in >&8"
		assert_output "jat-decode: cannot write standard output: Broken pipe"
	done
	run -74 bash -c "jat-decode ${args[*]} <&-"
	assert_output "jat-decode: cannot read standard input: Bad file descriptor"
}

@test "SIGTERM in the middle of a stanza: what was whole is out, 0" {
	mkfifo in
	exec 7<>in
	start decode bash -c "exec jat-decode ${args[*]} --stanza <in 7>&-"
	printf "<message to='%s' id='1'/>\n<message to='%s' id='2'" "$SEALED" "$SEALED" >&7
	wait_for grep -q "id='1'" decode.out
	end decode
	assert_equal "$(wc -l <decode.out)" 1
	exec 7>&-
}
