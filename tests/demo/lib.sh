# shellcheck shell=bash
# What the acts share.
set -euo pipefail
# shellcheck source=tests/servers/servers.bash
. "$DEMO_ROOT/tests/servers/servers.bash"

started=()

# start_ready COMMAND...: run it in the background and return when it is ready; COMMAND has --ready-fd 3. Its pid
# is in $started_pid, and is remembered to end it.
start_ready()
{
	local fifo=$DEMO_DIR/ready.$RANDOM ready
	mkfifo "$fifo"
	exec {ready}<>"$fifo"
	"$@" 3>"$fifo" &
	started_pid=$!
	started+=("$started_pid")
	read -rt 30 -u "$ready" || {
		echo "demo: not ready in time: $1" >&2
		return 1
	}
	exec {ready}<&-
	rm "$fifo"
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

# until_true COMMAND...: run it until it succeeds, at most 30 s
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
# show LABEL STANZA: print it in the form of the module's manual
show() { printf '    %s:\n        %s\n' "$1" "$2"; }
