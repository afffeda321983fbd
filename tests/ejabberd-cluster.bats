#!/usr/bin/env bats
# takes long
# Several machines: a cluster of two ejabberd nodes, a proxy at each of them.
# CLUSTER_REQUESTS (5000) requests.

load lib
load tools/scenario

setup_file()
{
	epmd_start "$BATS_FILE_TMPDIR/epmd"
	ejabberd_start "$BATS_FILE_TMPDIR/a" --tls off --no-delegate --node a@127.0.0.1 \
		--listener 'cluster.test r1.test'
	ejabberd_start "$BATS_FILE_TMPDIR/b" --tls off --no-delegate --node b@127.0.0.1 --join a@127.0.0.1 \
		--listener 'cluster.test r2.test'
}

teardown() { stop_all; }
teardown_file()
{
	ejabberd_stop "$BATS_FILE_TMPDIR/b"
	ejabberd_stop "$BATS_FILE_TMPDIR/a"
	epmd_stop "$BATS_FILE_TMPDIR/epmd"
}

# The facts of both nodes, as A_NAME and B_NAME
setup()
{
	local fact
	while read -r fact; do declare -gx "A_${fact%%=*}=${fact#*=}"; done <"$BATS_FILE_TMPDIR/a/facts"
	while read -r fact; do declare -gx "B_${fact%%=*}=${fact#*=}"; done <"$BATS_FILE_TMPDIR/b/facts"
}

@test "an xmpp-share at each node, one is killed: only what it held is lost" {
	scenario cluster <<<'share_on_two_nodes()'
}

@test "a proxy at each node: one is killed, then its node, and both come back: nobody else loses a request" {
	scenario cluster <<<'proxies_and_nodes_die()'
}

@test "an endpoint for rosters at each node, and a broker: one user's refreshes in order, also when a machine dies" {
	command -v redis-server >/dev/null || not_here 'no redis here'
	export REDIS_PORT
	server_free_port && REDIS_PORT=$FREE_PORT
	start redis redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --dir "$PWD" --save '' --appendonly no
	answers() { [[ $(redis-cli -p "$REDIS_PORT" ping 2>/dev/null) == PONG ]]; }
	wait_for answers
	scenario cluster <<<'rosters_on_two_nodes()'
}
