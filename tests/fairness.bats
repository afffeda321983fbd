#!/usr/bin/env bats
# One user takes the service from nobody: each program at default limits, its figures in the output.

load lib

fair()
{
	(cd "$BATS_TEST_TMPDIR" && PYTHONDONTWRITEBYTECODE=1 python3 "$TESTS/tools/fairness.py" "$@" >figures) ||
		{ cat "$BATS_TEST_TMPDIR/figures"; return 1; }
	sed 's/^/# /' "$BATS_TEST_TMPDIR/figures" >&3
}

@test "xmpp-jat-proxy: one user asks without end, twenty others are answered in time" { fair jat_proxy; }
@test "xmpp-manage: one user asks without end, twenty others are answered in time" { fair manage_persistent; }
@test "xmpp-manage --per-request: the jobs of one user hang, twenty others are answered in time" { fair manage_per_request; }
@test "xmpp-delegate: one user asks an entity without end, twenty others are answered in time" { fair delegate_entity; }
@test "xmpp-delegate: one user asks OTHERWISE without end, twenty others are answered in time" { fair delegate_otherwise; }
@test "xmpp-share: one user asks without end, twenty others are answered in time" { fair share_instance; }
