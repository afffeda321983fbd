#!/usr/bin/env bats
# xmpp-delegate with real clients on real Prosody and ejabberd.
# check-servers

load lib
load tools/scenario

setup_file()
{
	prosody_start "$BATS_FILE_TMPDIR/prosody" --tls off
	ejabberd_start "$BATS_FILE_TMPDIR/ejabberd" --tls off
}
teardown_file()
{
	prosody_stop "$BATS_FILE_TMPDIR/prosody"
	ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd"
}

# on SERVER NAME: run the scenario NAME of tests/tools/delegationservers.py
on()
{
	server_facts "$BATS_FILE_TMPDIR/$1"
	scenario delegationservers <<<"$2()"
}

@test "Prosody: a managing entity that is xmpp-manage: domain and accounts, 500 concurrent, disco#info" {
	on prosody through_manage
}

@test "Prosody: xmpp-manage restarted in the middle" {
	on prosody manage_restarts
}

@test "Prosody: every bad answer: service-unavailable at once, nothing to anybody else; strangers change nothing" {
	on prosody bad_answers
}

@test "Prosody: an absent entity, told as soon as it comes" {
	on prosody absent
}

@test "Prosody: an entity that dies with a request in hand, and returns" {
	on prosody dies_holding
}

@test "Prosody: clients as managing entities: the first resource, then the next; a full JID" {
	on prosody clients_manage
}

@test "Prosody: the server restarts" {
	on prosody delegate_server_restart
}

@test "Prosody: xmpp-delegate is killed and started again" {
	on prosody delegate_restart
}

@test "Prosody: 120 000 apostrophes: wrapped they are too large, the stream stays" {
	on prosody delegate_apostrophes
}

@test "Prosody: a user who plays the managing entity" {
	on prosody delegate_forged
}

@test "Prosody: a user's request through xmpp-delegate to xmpp-manage to a shell script and back" {
	on prosody both_with_a_script
}

@test "Prosody: OTHERWISE with --json" {
	on prosody otherwise_in_json
}

@test "ejabberd: a managing entity that is xmpp-manage: domain and accounts, 500 concurrent, disco#info" {
	on ejabberd through_manage
}

@test "ejabberd: xmpp-manage restarted in the middle" {
	on ejabberd manage_restarts
}

@test "ejabberd: every bad answer: service-unavailable at once, nothing to anybody else; strangers change nothing" {
	on ejabberd bad_answers
}

@test "ejabberd: an absent entity, told as soon as it comes" {
	on ejabberd absent
}

@test "ejabberd: an entity that dies with a request in hand, and returns" {
	on ejabberd dies_holding
}

@test "ejabberd: clients as managing entities: the first resource, then the next; a full JID" {
	on ejabberd clients_manage
}

@test "ejabberd: the server restarts" {
	on ejabberd delegate_server_restart
}

@test "ejabberd: xmpp-delegate is killed and started again" {
	on ejabberd delegate_restart
}

@test "ejabberd: 120 000 apostrophes: wrapped they are too large, the stream stays" {
	on ejabberd delegate_apostrophes
}

@test "ejabberd: a user who plays the managing entity" {
	on ejabberd delegate_forged
}

@test "ejabberd: a user's request through xmpp-delegate to xmpp-manage to a shell script and back" {
	on ejabberd both_with_a_script
}

@test "ejabberd: OTHERWISE with --json" {
	on ejabberd otherwise_in_json
}
