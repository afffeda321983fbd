#!/usr/bin/env bats
# xmpp-jat-proxy with real clients on a real ejabberd.
# check-servers

load lib
load tools/scenario

setup_file() { ejabberd_start "$BATS_FILE_TMPDIR/ejabberd" --tls off; }
teardown_file() { ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd"; }
setup() { server_facts "$BATS_FILE_TMPDIR/ejabberd"; }

# through NAME: run the scenario NAME of tests/tools/proxyservers.py on this file's server
through() { scenario proxyservers <<<"$1()"; }

@test "the seed's example: a user's request to a real client and its answer back, from the address asked" {
	through seed_example
}

@test "disco, ping and version are the implementing client's" {
	through disco_ping_version
}

@test "three sessions serve 1000 requests, each answered exactly once" {
	through thousand_stay
}

@test "1000 requests while one of three sessions leaves and returns" {
	through thousand_leave_return
}

@test "1000 requests while one of three sessions is killed with requests in hand" {
	through thousand_killed
}

@test "1000 gets and sets while a session is killed: a set may be refused, none is lost" {
	through thousand_killed_sets
}

@test "a session dies holding requests: the get moves, the set is answered" {
	through session_dies_holding
}

@test "killed -9 with 20 requests in flight and started again: their answers arrive, once" {
	through restart_after_kill
}

@test "SIGTERM with requests in flight: drained, or answered with an error" {
	through sigterm_in_flight
}

@test "the server restarts under load: the proxy connects again by itself" {
	through server_restart_under_load
}

@test "the stream breaks, is reset, half-closed, ended by an error: the requests in flight live on" {
	through stream_cut_keeps_the_table
}

@test "a session leaves after a reconnect with a request from before it: another one serves it" {
	through session_leaves_after_a_reconnect
}

@test "a server that stops reading loses nothing" {
	through server_stops_reading
}

@test "what the server sends is not XML: 76, or a new connection" {
	through malformed_from_the_server
}

@test "the target is not there at start: the subscribe is repeated until it is" {
	through subscribe_lost_at_start
}

@test "wrong secret: 77" {
	through wrong_secret
}

@test "wrong domain: 77, as for a wrong secret: ejabberd does not tell them apart" {
	through wrong_domain
}

@test "no server: 75 without retries, else it waits" {
	through server_absent
}

@test "--messages between real clients" {
	through messages
}

@test "--outbound-iq between real clients" {
	through outbound_iq
}

@test "--show-presence to a real roster, over a restart" {
	through show_presence
}

@test "256 KiB of apostrophes do not end the stream" {
	through apostrophes
}

@test "a 100 KB attribute does not hold up the next user's stanza" {
	through long_attribute
}

@test "odd resources, in all encodings" {
	through odd_resources
}

@test "a hostile user: forged answers, look-alike attributes, a token that leaked" {
	through hostile_user
}
