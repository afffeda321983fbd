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
}

bench_machine()
{
	local cpu compiler
	cpu=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
	compiler=$(${CC:-cc} --version | head -n 1)
	echo "machine: ${cpu:-unknown CPU}, $(nproc) cores, Linux $(uname -r), $compiler, ${CFLAGS:--O2 -g}"
	echo "load before: $(cut -d' ' -f1-3 /proc/loadavg); medians of $RUNS interleaved runs"
}

have() { command -v "$1" >/dev/null; }

# measure LABEL SERVER-ARG...: one run; its line of results is kept under LABEL.
measure()
{
	local label=$1
	shift
	if ! "$SERVER" "$@" >>"$TMP/$label.results" 2>"$TMP/$label.stderr"; then
		echo "bench: $label failed:" >&2
		tail -n 20 "$TMP/$label.stderr" >&2
		return 1
	fi
}

# values LABEL KEY: one number a run, in the order of the runs
values()
{
	[[ ! -f $TMP/$1.results ]] || sed -n "s/.* $2=\([0-9.]*\).*/\1/p" "$TMP/$1.results"
}

median() { sort -n | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)]; else print "-" }'; }

# med LABEL KEY [DIVISOR [FORMAT]]
med()
{
	values "$1" "$2" | median | awk -v d="${3:-1}" -v f="${4:-%.0f}" \
		'$1 == "-" { print "-"; next } { printf f "\n", $1 / d }'
}

# ratio LABEL YARDSTICK KEY: the median of the ratios of each run
ratio()
{
	paste <(values "$1" "$3") <(values "$2" "$3") | awk 'NF == 2 { print $1 / $2 }' | median |
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
