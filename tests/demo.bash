#!/usr/bin/env bash
# make demo: the programs at work on private servers, an act for each job.
#
# Every act is a file of tests/demo/, run by itself in a folder of its own with the programs on
# PATH; it starts its servers with tests/servers/servers.bash and succeeds only if what it shows
# really happened. Every process is ended by its pid, also after a failure.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export BINDIR=${BINDIR:-$here/../build/bin}
export PATH=$BINDIR:$PATH
export DEMO_ROOT=$here/..

failed=0
for act in "$here"/demo/*.bash; do
	dir=$(mktemp -d "${TMPDIR:-/tmp}/outboard-demo.XXXXXX")
	(cd "$dir" && DEMO_DIR=$dir exec bash "$act") || {
		echo "demo: $(basename "$act" .bash) failed" >&2
		failed=1
	}
	rm -rf "$dir"
done
exit "$failed"
