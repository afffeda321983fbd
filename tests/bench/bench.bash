# shellcheck shell=bash
# What the benchmark scripts share: places, medians, tables.
#
#   RUNS=5          how many interleaved runs; every number printed is their median
#   BUILD=build     where the programs are

set -eu
export LC_ALL=C
BENCH_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$BENCH_SRC/../.." && pwd)
BUILD=${BUILD:-build}
[[ $BUILD == /* ]] || BUILD=$ROOT/$BUILD
RUNS=${RUNS:-5}
SERVER=$BUILD/bench/server
SECRET=bench-secret
# The server puts its port here.
# shellcheck disable=SC2034
PORT='{port}'

bench_begin()
{
	TMP=$(mktemp -d "${TMPDIR:-/tmp}/outboard-bench.XXXXXX")
	trap 'rm -rf "$TMP"' EXIT
	trap 'exit 130' INT TERM
	(umask 077 && echo "$SECRET" >"$TMP/secret")
	PATH=$BUILD/bin:$PATH
	FIGURES=$TMP/figures
}

bench_machine()
{
	local cpu compiler
	cpu=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
	compiler=$(${CC:-cc} --version | head -n 1)
	echo "machine: ${cpu:-unknown CPU}, $(nproc) cores, Linux $(uname -r), $compiler, ${CFLAGS:--O3 -g -falign-functions=64}"
	echo "load before: $(cut -d' ' -f1-3 /proc/loadavg); medians of $RUNS interleaved runs"
}

have() { command -v "$1" >/dev/null; }

# measure LABEL SERVER-ARG...: one run; its line of results is kept under LABEL. A run that failed keeps
# its place there.
measure()
{
	local label=$1
	shift
	if ! "$SERVER" "$@" >"$TMP/result" 2>"$TMP/$label.stderr"; then
		echo "bench: $label failed:" >&2
		tail -n 20 "$TMP/$label.stderr" >&2
		echo failed >>"$TMP/$label.results"
		return 1
	fi
	cat "$TMP/result" >>"$TMP/$label.results"
}

# values LABEL KEY: one number a run, in the order of the runs; - for one that failed
values()
{
	[[ ! -f $TMP/$1.results ]] || sed "s/.* $2=\([0-9.]*\).*/\1/; t; s/.*/-/" "$TMP/$1.results"
}

median()
{
	sort -n | awk '$1 != "-" { v[++n] = $1 } END { if (n) print v[int((n + 1) / 2)]; else print "-" }'
}

# med LABEL KEY [DIVISOR [FORMAT]]
med()
{
	values "$1" "$2" | median | awk -v d="${3:-1}" -v f="${4:-%.0f}" \
		'$1 == "-" { print "-"; next } { printf f "\n", $1 / d }'
}

# ratio LABEL YARDSTICK KEY: the median of the ratios of each run
ratio()
{
	paste <(values "$1" "$3") <(values "$2" "$3") | awk 'NF == 2 && $1 != "-" && $2 != "-" { print $1 / $2 }' | median |
		awk '$1 == "-" { print; next } { printf "%.3f\n", $1 }'
}

# used LABEL COMMAND...: one run of a command; what it cost is kept under LABEL (wall_us, cpu_us,
# rss_kib). Its output goes where ours goes.
used()
{
	local label=$1
	shift
	"$BUILD/bench/usage" "$TMP/$label.results" "$@" 2>"$TMP/$label.stderr" || {
		echo "bench: $label failed: $*" >&2
		tail -n 5 "$TMP/$label.stderr" >&2
		return 1
	}
}

# figure LABEL MEASURED TO-REACH [1: less is better]: a line of what tests/bench/draw draws
figure() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${4:-}" >>"$FIGURES"; }

ratio_of() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'; }

# instructions COMMAND...: how many it takes, from standard input, by callgrind's count
instructions()
{
	valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" 2>&1 >/dev/null |
		sed -n 's/.*Collected : //p'
}

# The requests of the jat scenario as the server sends them: n of them.
jat_requests()
{
	awk -v n="$1" 'BEGIN {
		print "<presence from=\047impl@vhost.test/r1\047 to=\047proxy.test\047/>"
		for (i = 0; i < n; i++)
			printf "<iq type=\047get\047 id=\047q%012x\047 from=\047user%05d@vhost.test/phone.%05d\047 " \
				"to=\047proxy.test\047 xml:lang=\047en\047><query xmlns=\047urn:example:bench\047>" \
				"<item node=\047princely_musings\047 max=\04710\047>now is the winter of our discontent " \
				"made glorious summer by this sun</item></query></iq>\n", i, i % 10000, i % 10000
	}'
}

# The answers to the translated requests on stdin: from and to exchanged, get made result.
jat_answers()
{
	sed -n "/type=['\"]get['\"]/{
		s/type=['\"]get['\"]/type='result'/
		s/ from=/ FROM=/; s/ to=/ from=/; s/ FROM=/ to=/
		p
	}"
}

# Put into `sealed`, `plain` and `bare` what xmpp-jat-proxy as a filter and expat alone take for a
# translated stanza (268 bytes and more): the difference of two runs of 1000 and 2000 round trips, so that
# beginning and end do not count. No noise: the same library and compiler give the same number.
# shellcheck disable=SC2034
jat_instructions()
{
	local n name args counts
	echo 'a 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f' >"$TMP/keys"
	chmod 600 "$TMP/keys"
	for name in sealed plain bare; do
		counts=()
		for n in 1000 2000; do
			args=(xmpp-jat-proxy --domain proxy.test --target impl@vhost.test --encoding "${name/bare/sealed}"
				--key-file "$TMP/keys")
			jat_requests "$n" >"$TMP/few"
			"${args[@]}" <"$TMP/few" 2>/dev/null | jat_answers >"$TMP/few-answers"
			cat "$TMP/few-answers" >>"$TMP/few"
			[[ $name != bare ]] || args=("$BUILD/bench/bare" -)
			counts+=("$(instructions "${args[@]}" <"$TMP/few")")
		done
		printf -v "$name" %d "$(((counts[1] - counts[0]) / 2000))"
	done
}
