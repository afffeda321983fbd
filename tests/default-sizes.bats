#!/usr/bin/env bats
# Tables filled at default options, and what makes all of it due at once: one answer each. The scenarios
# that wait for deadlines, too, are run by `make sizes`.

load lib

sizes()
{
	(cd "$BATS_TEST_TMPDIR" && PYTHONDONTWRITEBYTECODE=1 python3 "$TESTS/tools/defaultsizes.py" "$@" >figures) ||
		return 1
	sed 's/^/# /' "$BATS_TEST_TMPDIR/figures" >&3
}

@test "xmpp-manage: its handler dies with 65 000 requests open" { sizes manage_handler_dies; }

@test "xmpp-jat-proxy: a session leaves, its 65 000 requests go to another; 10 000 subscribers are told" {
	sizes proxy_session_leaves_another proxy_tells_subscribers
}

@test "xmpp-delegate: its entity leaves with 65 000 requests open" { sizes delegate_entity_leaves; }

@test "xmpp-share: an instance leaves, its 65 000 requests go to another, which is slower than we" {
	sizes share_instance_leaves_another
}

@test "roster-apply: 2000 contacts are withdrawn with 100 000 users online, others are answered meanwhile" {
	sizes apply_withdraws
}
