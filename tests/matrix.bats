#!/usr/bin/env bats
# The failure matrix: data/matrix says what each program does at each fault, and matrix.bash makes the
# faults. One test a row.
# takes long
# shellcheck disable=SC2154 # the table's: matrix.bash

load lib
load stream
load matrix

setup_file()
{
	make_inputs
	# the web application of roster-fetch
	python3 "$TESTS/tools/web-app.py" >"$BATS_FILE_TMPDIR/app.port" 3>&- &
	echo $! >"$BATS_FILE_TMPDIR/app.pid"
	wait_for test -s "$BATS_FILE_TMPDIR/app.port"
	APP_PORT=$(<"$BATS_FILE_TMPDIR/app.port")
	export APP_PORT made
}

teardown_file() { kill "$(<"$BATS_FILE_TMPDIR/app.pid")"; }

teardown() { stop_all; }

# --- the table itself

# The programs and faults that the matrix must have at least.
FAULTS='full-disk closed-stdout closed-stdin sigterm sigint sigpipe peer-reset peer-silent
	server-restart wrong-secret slow-reader oversize-input no-memory no-descriptors clock-jump'

@test "the table: each program a column, each fault a row, each cell a status of the manual or a reason" {
	table
	wrong=0
	declare -A documented=()
	for column in "${columns[@]}"; do
		documented[$column]=$(python3 "$TESTS/manual.py" statuses "$ROOT"/man/"${program_of[$column]}".[18])
	done
	for source in "$ROOT"/cmd/*.c; do
		found=
		for column in "${columns[@]}"; do
			[[ ${program_of[$column]} != "$(basename "$source" .c)" ]] || found=1
		done
		[[ $found ]] || { echo "$source has no column" && wrong=1; }
	done
	assert_equal "${#columns[@]}" "$(find "$ROOT/cmd" -name '*.c' | wc -l)"
	for fault in $FAULTS; do
		[[ " ${rows[*]} " == *" $fault "* ]] || { echo "no row $fault" && wrong=1; }
	done
	for row in "${rows[@]}"; do
		grep -qx "	row $row" "$BATS_TEST_FILENAME" ||
			{ echo "no test makes the fault $row" && wrong=1; }
		for column in "${columns[@]}"; do
			cell=${cells[$row $column]}
			if [[ $cell == -* ]]; then
				[[ ${reason[${cell#-}]:-} ]] || { echo "$row, $column: no reason '$cell'" && wrong=1; }
				continue
			fi
			for spec in ${cell//,/ }; do
				status=${spec%%:*}
				# a status above 128 is the shell's way to report a signal
				[[ $status == same ]] || ((status > 128)) || [[ $'\n'${documented[$column]}$'\n' == *$'\n'$status$'\n'* ]] ||
					{ echo "$row, $column: $status is not in the manual" && wrong=1; }
				[[ $spec != *:* || ${said[${spec#*:}]:-} ]] ||
					{ echo "$row, $column: no words '$spec'" && wrong=1; }
			done
		done
	done
	assert_equal "$wrong" 0
}

# --- standard input and output

@test "a full disk" {
	row full-disk
}

@test "standard output is closed" {
	row closed-stdout
}

@test "standard input is closed" {
	row closed-stdin
}

@test "the reader has gone" {
	row sigpipe
}

@test "a slow reader: all arrives, memory stays bounded" {
	row slow-reader
}

@test "input over a limit" {
	row oversize-input
}

@test "one byte at a time, in and out" {
	needs_injectors
	row byte-by-byte
}

@test "interrupted calls" {
	needs_injectors
	row interrupted
}

@test "reads, writes and waits that fail" {
	needs_injectors
	row io-errors
}

# --- signals

@test "SIGTERM in the middle of a stanza: nothing of it leaves" {
	row sigterm
}

@test "SIGINT in the middle of a stanza: nothing of it leaves" {
	row sigint
}

# --- the peer

@test "the peer resets the connection" {
	row peer-reset
}

@test "the peer is silent" {
	row peer-silent
}

@test "the server restarts" {
	row server-restart
}

@test "the secret is wrong" {
	row wrong-secret
}

@test "the secret is missing" {
	row no-secret
}

@test "nobody listens there" {
	row no-server
}

@test "the peer breaks the protocol" {
	row no-xmpp
}

# --- the machine

@test "each allocation fails, alone and with all after it" {
	needs_injectors
	row no-memory
}

@test "no more descriptors, each limit and each call" {
	needs_injectors
	row no-descriptors
}

@test "the clock is set while they run" {
	needs_injectors
	row clock-jump
}

# --- all programs

@test "help, version and wrong usage without memory" {
	needs_injectors
	row help-no-memory
}

@test "help on a full disk and a closed standard output" {
	row help-full-disk
}
