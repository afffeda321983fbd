# shellcheck shell=bash
# What every bats file loads first:
#
#   load lib                # from tests/*.bats
#   setup_file() { prosody_start "$BATS_FILE_TMPDIR/prosody"; }
#   teardown_file() { prosody_stop "$BATS_FILE_TMPDIR/prosody"; }
#   teardown() { stop_all; }
#
# Offers the assertions of tests/assert.bash and the servers of tests/servers/servers.bash.
# BINDIR (build/bin) is first on PATH. Each test starts in BATS_TEST_TMPDIR.
#
#   wait_for COMMAND...     until COMMAND succeeds, at most WAIT_S (20) seconds; then it fails
#   start NAME COMMAND...   a background process: NAME.out, NAME.err in the current folder,
#                           its process id in $NAME_pid (and $started_pid)
#   end NAME [SIGNAL]       send SIGNAL (TERM), wait, exit status of the process as our own
#   await NAME              wait for its own end, at most WAIT_S seconds; its exit status
#   stop_all                in teardown: what start began and nobody ended; on failure of the
#                           test it shows the tails of all *.err in the folder
#   unsearched              array, before s6: its processes are not searched for leaks
#   listens PATH            whether a process listens on the unix socket PATH (for wait_for)
#   wrapped COMMAND...      run COMMAND under $WRAP (make valgrind)
#   skip REASON             fails when STRICT=1
#   not_here REASON         skips also then: this configuration cannot run the test
# Give `wait` process ids: bats' own timer of the test is a child, too.

# Done once a file, not once a test
[[ -n ${TESTS:-} && $TESTS/lib.bash -ef ${BASH_SOURCE[0]} ]] ||
	TESTS=$(cd "${BASH_SOURCE[0]%/*}" && pwd -P)
ROOT=${TESTS%/*}
BINDIR=${BINDIR:-$ROOT/build/bin}
[[ $BINDIR == /* ]] || BINDIR=$ROOT/$BINDIR
BUILDDIR=${BINDIR%/bin}
export TESTS ROOT BINDIR BUILDDIR
export LC_ALL=C.UTF-8

if declare -F bats_require_minimum_version >/dev/null; then bats_require_minimum_version 1.5.0; fi
# shellcheck source=tests/assert.bash
. "$TESTS/assert.bash"
# Before each command bats looks whether it belongs to the test, to know where the test failed. That takes
# longer than most commands do; it is not done for the commands in bats' own files and in these two.
if declare -F bats_debug_trap >/dev/null; then
	_helper=$(declare -f bats_debug_trap)
	if [[ $_helper != *assert.bash* ]]; then
		eval 'bats_debug_trap()
		{
			case $1 in */bats-core/* | */tests/lib.bash | */tests/assert.bash) return 0 ;; esac
		'"${_helper#*\{}"
	fi
	# `run` need not compare the version again: it was required above.
	bats_warn_minimum_guaranteed_version() { :; }
fi
# bats loses the signal that ends the timer of a test when the test ends before the timer has set its trap,
# and then waits until the time is over. A test begins when this timer has set it.
if declare -F bats_start_timeout_countdown >/dev/null; then
	bats_start_timeout_countdown()
	{
		local test=$$ ready
		# shellcheck disable=SC2064
		trap "bats_timeout_trap $test" ABRT
		exec {ready}< <(
			sleep "$1" >/dev/null &
			# shellcheck disable=SC2064
			trap "kill $!; exit 0" ABRT
			echo
			exec >/dev/null
			wait
			if kill -ABRT "$test"; then bats_kill_childprocesses_of "$test"; fi 2>/dev/null
		)
		read -r -u "$ready"
		exec {ready}<&-
	}
fi
# shellcheck source=tests/servers/servers.bash
. "$TESTS/servers/servers.bash"

case ":$PATH:" in
*":$BINDIR:"*) ;;
*) PATH=$BINDIR:$PATH:/usr/sbin:/sbin ;;
esac

# Under WRAP every program of ours is a small script that calls it through WRAP.
if [[ -n ${WRAP:-} && -n ${BATS_FILE_TMPDIR:-} ]]; then
	if [[ ! -d $BATS_FILE_TMPDIR/wrapped ]]; then
		mkdir -p "$BATS_FILE_TMPDIR/wrapped"
		for _helper in "$BINDIR"/*; do
			printf '#!/bin/sh\nexec %s %q "$@"\n' "$WRAP" "$_helper" \
				>"$BATS_FILE_TMPDIR/wrapped/${_helper##*/}"
			chmod +x "$BATS_FILE_TMPDIR/wrapped/${_helper##*/}"
		done
	fi
	PATH=$BATS_FILE_TMPDIR/wrapped:$PATH
fi

if [[ -n ${BATS_TEST_TMPDIR:-} && -d $BATS_TEST_TMPDIR ]]; then
	cd "$BATS_TEST_TMPDIR" || exit 1
fi

not_here() { skip "$@"; }

if [[ ${STRICT:-} == 1 ]]; then
	if ! declare -F _bats_skip >/dev/null && declare -F skip >/dev/null; then
		eval "_bats_$(declare -f skip)"
	fi
	not_here() { _bats_skip "$@"; }
	skip()
	{
		echo "skipped although STRICT=1: ${1:-}" >&2
		return 1
	}
fi

# A preloaded library notes every exit status of our programs, and statuses.bats looks them up in the manuals.
# Not with the sanitizers, which have to be the first library themselves.
if [[ -e $BUILDDIR/preload/statuses.so && ${LD_PRELOAD:-} != *statuses.so* ]]; then
	export STATUSES=$BUILDDIR/statuses
	export LD_PRELOAD=$BUILDDIR/preload/statuses.so${LD_PRELOAD:+:$LD_PRELOAD}
fi

WAIT_S=${WAIT_S:-20}

wait_for()
{
	local deadline=$((SECONDS + WAIT_S))
	until "$@"; do
		if ((SECONDS > deadline)); then
			echo "waited $WAIT_S s in vain for: $*" >&2
			return 1
		fi
		command sleep 0.02
	done
}

wrapped()
{
	# shellcheck disable=SC2086
	${WRAP:-} "$@"
}

# LeakSanitizer stops an ending process to search it for leaks, and s6 sends SIGCONT after SIGTERM: together
# they can wait for each other for ever. Other tests search programs that end by SIGTERM alone.
# shellcheck disable=SC2034 # for the tests
unsearched=(env "ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0")

# listens PATH: this unix socket takes connections; its file is there a moment before
listens() { awk -v path="$1" '$4 == "00010000" && $8 == path { found = 1 } END { exit !found }' /proc/net/unix; }

declare -gA started=()
start()
{
	local name=$1
	shift
	# An earlier process of this name goes on; stop_all ends it.
	[[ -z ${started[$name]:-} ]] || started[$name.${started[$name]}]=${started[$name]}
	# Remove the output of an earlier process of this name.
	rm -f "$name.out" "$name.err"
	# Close descriptor 3, bats' own: a process that outlives the test would hold up the run.
	"$@" >"$name.out" 2>"$name.err" 3>&- &
	# shellcheck disable=SC2034 # for the caller
	started_pid=$!
	started[$name]=$!
	printf -v "${name//[^a-zA-Z0-9]/_}_pid" %s "$!"
}

_gone()
{
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
	[[ ${stat##*) } == Z* ]]
}

await()
{
	local pid=${started[$1]}
	wait_for _gone "$pid" || return 124
	unset "started[$1]"
	wait "$pid"
}

end()
{
	kill -s "${2:-TERM}" "${started[$1]}" 2>/dev/null || true
	await "$1"
}

stop_all()
{
	local name pid log
	for name in "${!started[@]}"; do
		pid=${started[$name]}
		kill -s CONT "$pid" 2>/dev/null || true
		kill -s TERM "$pid" 2>/dev/null || true
		WAIT_S=5 wait_for _gone "$pid" 2>/dev/null || kill -s KILL "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	started=()
	if [[ -z ${BATS_TEST_COMPLETED:-} ]]; then
		for log in ./*.err; do
			[[ -s $log ]] && echo "--- $log" && tail -n 15 "$log"
		done
	fi
	return 0
}
