#!/usr/bin/env bats
# xmpp-delegate with real clients on real Prosody and ejabberd.
# check-servers

load lib
load tools/scenario
load servers/both

setup_file() { both_start --tls off; }

@test "Prosody: a managing entity that is xmpp-manage: domain and accounts, 500 concurrent, disco#info" {
	on prosody delegationservers through_manage
}

@test "Prosody: xmpp-manage restarted in the middle" {
	on prosody delegationservers manage_restarts
}

@test "Prosody: every bad answer: service-unavailable at once, nothing to anybody else; strangers change nothing" {
	on prosody delegationservers bad_answers
}

@test "Prosody: an absent entity, told as soon as it comes" {
	on prosody delegationservers absent
}

@test "Prosody: an entity that dies with a request in hand, and returns" {
	on prosody delegationservers dies_holding
}

@test "Prosody: clients as managing entities: the first resource, then the next; a full JID" {
	on prosody delegationservers clients_manage
}

@test "Prosody: the server restarts" {
	on prosody delegationservers delegate_server_restart
}

@test "Prosody: xmpp-delegate is killed and started again" {
	on prosody delegationservers delegate_restart
}

@test "Prosody: 120 000 apostrophes: wrapped they are too large, the stream stays" {
	on prosody delegationservers delegate_apostrophes
}

@test "Prosody: a user who plays the managing entity" {
	on prosody delegationservers delegate_forged
}

@test "Prosody: a user's request through xmpp-delegate to xmpp-manage to a shell script and back" {
	on prosody delegationservers both_with_a_script
}

@test "Prosody: OTHERWISE with --json" {
	on prosody delegationservers otherwise_in_json
}

@test "ejabberd: a managing entity that is xmpp-manage: domain and accounts, 500 concurrent, disco#info" {
	on ejabberd delegationservers through_manage
}

@test "ejabberd: xmpp-manage restarted in the middle" {
	on ejabberd delegationservers manage_restarts
}

@test "ejabberd: every bad answer: service-unavailable at once, nothing to anybody else; strangers change nothing" {
	on ejabberd delegationservers bad_answers
}

@test "ejabberd: an absent entity, told as soon as it comes" {
	on ejabberd delegationservers absent
}

@test "ejabberd: an entity that dies with a request in hand, and returns" {
	on ejabberd delegationservers dies_holding
}

@test "ejabberd: clients as managing entities: the first resource, then the next; a full JID" {
	on ejabberd delegationservers clients_manage
}

@test "ejabberd: the server restarts" {
	on ejabberd delegationservers delegate_server_restart
}

@test "ejabberd: xmpp-delegate is killed and started again" {
	on ejabberd delegationservers delegate_restart
}

@test "ejabberd: 120 000 apostrophes: wrapped they are too large, the stream stays" {
	on ejabberd delegationservers delegate_apostrophes
}

@test "ejabberd: a user who plays the managing entity" {
	on ejabberd delegationservers delegate_forged
}

@test "ejabberd: a user's request through xmpp-delegate to xmpp-manage to a shell script and back" {
	on ejabberd delegationservers both_with_a_script
}

@test "ejabberd: OTHERWISE with --json" {
	on ejabberd delegationservers otherwise_in_json
}
