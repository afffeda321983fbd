# shellcheck shell=bash
# What the acts share.
set -euo pipefail
# shellcheck source=tests/servers/servers.bash
. "$DEMO_ROOT/tests/servers/servers.bash"

started=()

# run_background NAME COMMAND...: its pid is remembered and in $NAME_pid
run_background()
{
	local name=$1
	shift
	"$@" &
	started+=($!)
	printf -v "${name}_pid" %s "$!"
}

finish()
{
	local status=$? pid
	trap - EXIT
	for pid in "${started[@]}"; do
		kill "$pid" 2>/dev/null || :
	done
	for pid in "${started[@]}"; do
		wait "$pid" 2>/dev/null || :
	done
	for pid in "$DEMO_DIR"/*/facts; do
		[[ -e $pid ]] && _servers_stop "$(dirname "$pid")" >/dev/null 2>&1
	done
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# until_true COMMAND...: until it succeeds, at most 30 s
until_true()
{
	local deadline=$((SECONDS + 30))
	until "$@" 2>/dev/null; do
		if ((SECONDS > deadline)); then
			echo "demo: waited too long for: $*" >&2
			return 1
		fi
		read -rt 0.05 <> <(:) || :
	done
}

say() { printf '\n%s\n' "$*"; }
# show LABEL STANZA: as the module's manual shows an exchange
show() { printf '    %s:\n        %s\n' "$1" "$2"; }
