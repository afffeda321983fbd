# shellcheck shell=bash
# What the tests of stanza-to-json and json-to-stanza share; loaded after lib.

# shellcheck disable=SC2034 # for the tests
stanzas=urn:ietf:params:xml:ns:xmpp-stanzas

# to_json STANZA JSON, to_stanza JSON STANZA: the first becomes exactly the second
to_json()
{
	run -0 stanza-to-json <<<"$1"
	assert_output "$2"
}

to_stanza()
{
	run -0 json-to-stanza <<<"$1"
	assert_output "$2"
}

# refused JSON: it is reported with its line, the exit status is 65, and the lines around it pass
refused()
{
	run -65 --separate-stderr json-to-stanza < <(printf '%s\n' '{"kind":"iq"}' "$1" '{"kind":"presence"}')
	assert_output $'<iq/>\n<presence/>'
	# shellcheck disable=SC2154
	[[ $stderr == "json-to-stanza: stdin:2: "* && ${#stderr_lines[@]} == 1 ]] || {
		echo "$1: $stderr"
		return 1
	}
}

# at_once PROGRAM LINE: the output for the line arrives before the input ends
at_once()
{
	mkfifo in
	start "$1" bash -c "exec $1 <in"
	exec 7>in
	echo "$2" >&7
	wait_for test -s "$1.out"
	exec 7>&-
	await "$1"
}

# lost_descriptors PROGRAM LINE: without standard input or output it exits with 74 and says why
lost_descriptors()
{
	echo "$2" >line
	run -74 bash -c "$1 <line >/dev/full"
	assert_output "$1: cannot write standard output: No space left on device"
	run -74 bash -c "$1 <line >&-"
	assert_output "$1: cannot write standard output: Bad file descriptor"
	run -74 bash -c "$1 <&-"
	assert_output "$1: cannot read standard input: Bad file descriptor"
	run -0 bash -c "yes \"\$(cat line)\" | { $1; echo \$? >status; } | head -n 1; cat status"
	assert_line 74
	run -64 "$1" operand </dev/null
}
