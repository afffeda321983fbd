#!/usr/bin/env bats
# xmpp-manage, xmpp-delegate and xmpp-jat-proxy behind xmpp-share, unchanged: the scenarios that they have
# with a server of their own, on Prosody and ejabberd.
# check-servers

load lib
load tools/scenario
load servers/both

setup_file() { both_start --tls off; }
# Each program has an xmpp-share of its domain before it.
setup() { export BEHIND_SHARE=; }

@test "Prosody: xmpp-manage: the host, no to, accounts; get and set" {
	on prosody delegationservers addresses
}

@test "Prosody: xmpp-manage: 500 concurrent requests, each answered once" {
	on prosody delegationservers five_hundred
}

@test "Prosody: xmpp-manage: the server restarts" {
	on prosody delegationservers server_restart
}

@test "Prosody: xmpp-manage: what is announced stands in disco#info, although the server asks before it is there" {
	on prosody delegationservers announced
}

@test "Prosody: xmpp-manage: a user who plays the server" {
	on prosody delegationservers forged
}

@test "Prosody: xmpp-manage: --handler-requests" {
	on prosody delegationservers handler_requests
}

@test "Prosody: xmpp-manage: an answer that is too large is replaced" {
	on prosody delegationservers apostrophes
}

@test "Prosody: xmpp-delegate: a managing entity that is xmpp-manage" {
	on prosody delegationservers through_manage
}

@test "Prosody: xmpp-delegate: its entity restarts in the middle" {
	on prosody delegationservers manage_restarts
}

@test "Prosody: xmpp-delegate: every bad answer, and strangers" {
	on prosody delegationservers bad_answers
}

@test "Prosody: xmpp-delegate: clients manage: presence reaches it" {
	on prosody delegationservers clients_manage
}

@test "Prosody: xmpp-delegate: the server restarts" {
	on prosody delegationservers delegate_server_restart
}

@test "Prosody: xmpp-delegate: killed and started again" {
	on prosody delegationservers delegate_restart
}

@test "Prosody: xmpp-jat-proxy: 1000 gets and sets while a session is killed" {
	on prosody proxyservers thousand_killed_sets
}

@test "Prosody: xmpp-jat-proxy: the server restarts under load" {
	on prosody proxyservers server_restart_under_load
}

@test "Prosody: xmpp-jat-proxy: SIGTERM with requests in flight" {
	on prosody proxyservers sigterm_in_flight
}

@test "Prosody: xmpp-jat-proxy: --messages" {
	on prosody proxyservers messages
}

@test "Prosody: xmpp-jat-proxy: --outbound-iq" {
	on prosody proxyservers outbound_iq
}

@test "Prosody: xmpp-jat-proxy: --show-presence" {
	on prosody proxyservers show_presence
}

@test "Prosody: xmpp-jat-proxy: odd resources" {
	on prosody proxyservers odd_resources
}

@test "Prosody: two instances of xmpp-manage, one is killed" {
	export BEHIND_SHARE="--policy round-robin"
	on prosody delegationservers two_manage
}

@test "Prosody: two instances of xmpp-delegate, one is killed" {
	export BEHIND_SHARE="--policy round-robin"
	on prosody delegationservers two_delegates
}

@test "ejabberd: xmpp-manage: the host, no to, accounts; get and set" {
	on ejabberd delegationservers addresses
}

@test "ejabberd: xmpp-manage: 500 concurrent requests, each answered once" {
	on ejabberd delegationservers five_hundred
}

@test "ejabberd: xmpp-manage: the server restarts" {
	on ejabberd delegationservers server_restart
}

@test "ejabberd: xmpp-manage: what is announced stands in disco#info, although the server asks before it is there" {
	on ejabberd delegationservers announced
}

@test "ejabberd: xmpp-manage: a user who plays the server" {
	on ejabberd delegationservers forged
}

@test "ejabberd: xmpp-manage: --handler-requests" {
	on ejabberd delegationservers handler_requests
}

@test "ejabberd: xmpp-manage: an answer that is too large is replaced" {
	on ejabberd delegationservers apostrophes
}

@test "ejabberd: xmpp-delegate: a managing entity that is xmpp-manage" {
	on ejabberd delegationservers through_manage
}

@test "ejabberd: xmpp-delegate: its entity restarts in the middle" {
	on ejabberd delegationservers manage_restarts
}

@test "ejabberd: xmpp-delegate: every bad answer, and strangers" {
	on ejabberd delegationservers bad_answers
}

@test "ejabberd: xmpp-delegate: clients manage: presence reaches it" {
	on ejabberd delegationservers clients_manage
}

@test "ejabberd: xmpp-delegate: the server restarts" {
	on ejabberd delegationservers delegate_server_restart
}

@test "ejabberd: xmpp-delegate: killed and started again" {
	on ejabberd delegationservers delegate_restart
}

@test "ejabberd: xmpp-jat-proxy: 1000 gets and sets while a session is killed" {
	on ejabberd proxyservers thousand_killed_sets
}

@test "ejabberd: xmpp-jat-proxy: the server restarts under load" {
	on ejabberd proxyservers server_restart_under_load
}

@test "ejabberd: xmpp-jat-proxy: SIGTERM with requests in flight" {
	on ejabberd proxyservers sigterm_in_flight
}

@test "ejabberd: xmpp-jat-proxy: --messages" {
	on ejabberd proxyservers messages
}

@test "ejabberd: xmpp-jat-proxy: --outbound-iq" {
	on ejabberd proxyservers outbound_iq
}

@test "ejabberd: xmpp-jat-proxy: --show-presence" {
	on ejabberd proxyservers show_presence
}

@test "ejabberd: xmpp-jat-proxy: odd resources" {
	on ejabberd proxyservers odd_resources
}

@test "ejabberd: two instances of xmpp-manage, one is killed" {
	export BEHIND_SHARE="--policy round-robin"
	on ejabberd delegationservers two_manage
}

@test "ejabberd: two instances of xmpp-delegate, one is killed" {
	export BEHIND_SHARE="--policy round-robin"
	on ejabberd delegationservers two_delegates
}
