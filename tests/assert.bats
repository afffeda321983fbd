#!/usr/bin/env bats
# The assertions of assert.bash: each one holds, fails, and says why.
# installcheck

load lib

# says STATUS WORDS... -- ASSERTION...: ASSERTION ends with STATUS and says all of WORDS
says()
{
	local wanted=$1 words=() word said ended=0
	shift
	while [[ $1 != -- ]]; do
		words+=("$1")
		shift
	done
	shift
	said=$("$@" 2>&1 <input) || ended=$?
	[[ $ended == "$wanted" ]] || { echo "'$*' ended with $ended: $said" && return 1; }
	for word in ${words[@]+"${words[@]}"}; do
		[[ $said == *"$word"* ]] || { echo "'$*' does not say '$word': $said" && return 1; }
	done
	[[ $wanted != 0 || -z $said ]] || { echo "'$*' says: $said" && return 1; }
}
holds() { says 0 -- "$@"; }

setup() { printf 'one\ntwo [x]' >input; }

@test "commands and values" {
	holds assert true
	says 1 'command: test a = b' 'status: 1' -- assert test a = b
	holds refute false
	says 1 'command: test a = a' -- refute test a = a
	holds assert_equal a a
	holds assert_equal '*' '*'
	says 1 'expected: *' 'actual: a' -- assert_equal a '*'
	holds assert_not_equal a b
	says 1 'both: a' -- assert_not_equal a a
	holds assert_regex abc 'b.$'
	says 1 'text: abc' 'regexp: ^b' -- assert_regex abc '^b'
	holds refute_regex abc '^b'
	says 1 'text: abc' 'regexp: b' -- refute_regex abc 'b'
	# A pattern that matches everything proves nothing about the text, so it is refused.
	says 1 'regexp: x*' -- assert_regex abc 'x*'
	says 1 'regexp: [' -- assert_regex abc '['
	says 1 'regexp: (' -- refute_regex abc '('
}

@test "exit status" {
	run true
	holds assert_success
	says 1 'status: 0' -- assert_failure
	says 1 'status: 0' -- assert_failure 3
	run bash -c 'echo words; exit 3'
	holds assert_failure
	holds assert_failure 3
	says 1 'status: 3' 'output: words' -- assert_success
	says 1 'expected: 4' 'status: 3' 'output: words' -- assert_failure 4
	run --separate-stderr bash -c 'echo words; echo errors >&2; exit 3'
	says 1 'output: words' 'stderr: errors' -- assert_success
}

@test "output: whole, part, pattern, from standard input, any" {
	run cat input
	holds assert_output $'one\ntwo [x]'
	holds assert_output -
	holds assert_output
	holds assert_output --partial 'two ['
	holds assert_output --regexp '^one.t'
	says 1 'text: one' $'\n  two [x]' -- assert_output one
	says 1 'text: *' -- assert_output '*'
	says 1 'partial: three' 'one' -- assert_output --partial three
	says 1 'partial: two ?x' -- assert_output --partial 'two ?x'
	says 1 'regexp: ^two' -- assert_output --regexp '^two'
	says 1 'regexp: z*' -- assert_output --regexp 'z*'
	holds refute_output one
	holds refute_output --partial three
	holds refute_output --regexp '^two'
	says 1 'status: 0' -- refute_output -
	says 1 'partial: one' -- refute_output --partial one
	says 1 'regexp: o.e' -- refute_output --regexp o.e
	says 1 -- refute_output
	says 1 'regexp: [' -- refute_output --regexp '['
	run true
	holds assert_output ''
	holds refute_output
	says 1 -- assert_output
	says 1 -- refute_output ''
	output=-
	holds assert_output -- -
}

@test "lines: any, or the one of an index" {
	run cat input
	holds assert_line one
	holds assert_line -n 1 'two [x]'
	holds assert_line --index -1 'two [x]'
	holds assert_line --partial '[x'
	holds assert_line -n 0 --partial n
	holds assert_line --regexp '^tw'
	holds assert_line -n 1 --regexp ']$'
	says 1 'text: tw' 'one' -- assert_line tw
	says 1 'text: t*' -- assert_line 't*'
	says 1 'index: 0' 'of this index: one' 'text: two [x]' -- assert_line -n 0 'two [x]'
	says 1 'index: 7' -- assert_line -n 7 --partial o
	says 1 'regexp: wo$' -- assert_line --regexp 'wo$'
	says 1 'partial: ne' -- assert_line -n 1 --partial ne
	holds refute_line tw
	holds refute_line -n 1 one
	holds refute_line --regexp 'wo$'
	says 1 'text: one' -- refute_line one
	says 1 'partial: w' -- refute_line --partial w
	says 1 'regexp: ^t' -- refute_line -n 1 --regexp ^t
	run true
	says 1 -- assert_line ''
	holds refute_line --partial x
}

@test "files" {
	: >empty
	mkdir dir
	chmod 640 input
	holds assert_exists dir
	says 1 'path: none' -- assert_exists none
	holds assert_not_exist none
	says 1 'path: dir' -- assert_not_exists dir
	holds assert_file_exist input
	says 1 'path: dir' -- assert_file_exist dir
	holds assert_file_not_exist dir
	says 1 'path: input' -- assert_file_not_exist input
	holds assert_file_not_empty input
	says 1 'path: empty' -- assert_file_not_empty empty
	holds assert_file_permission 640 input
	says 1 'expected: 600' 'actual: 640' -- assert_file_permission 600 input
	holds assert_file_contains input '^two'
	says 1 'path: input' 'pattern: ^wo' 'one' -- assert_file_contains input ^wo
	says 1 'path: none' -- assert_file_contains none x
}
