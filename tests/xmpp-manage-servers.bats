#!/usr/bin/env bats
# xmpp-manage with real clients on real Prosody (urn:xmpp:delegation:2) and ejabberd (:1).
# check-servers

load lib
load tools/scenario
load servers/both

setup_file() { both_start --tls off; }

@test "Prosody: answers for managed users: to the host, without to, to accounts; get and set" {
	on prosody delegationservers addresses
}

@test "Prosody: an error of the handler reaches the user" {
	on prosody delegationservers errors_pass
}

@test "Prosody: 500 concurrent requests, each answered once" {
	on prosody delegationservers five_hundred
}

@test "Prosody: two open requests with the same id from one user" {
	on prosody delegationservers same_id_twice
}

@test "Prosody: a slow answer does not hold up the others, persistent and per request" {
	on prosody delegationservers slow_ones
}

@test "Prosody: every broken handler: one error to who asked" {
	on prosody delegationservers broken_handlers
}

@test "Prosody: xmpp-manage dies and is started again" {
	on prosody delegationservers component_restart
}

@test "Prosody: the server restarts" {
	on prosody delegationservers server_restart
}

@test "Prosody: without HANDLER: our own stdin and stdout are the pipe" {
	on prosody delegationservers own_pipe
}

@test "Prosody: handlers that speak JSON: persistent, per request, our own pipe" {
	on prosody delegationservers json_handlers
}

@test "Prosody: what is announced stands in the host's and the accounts' disco#info" {
	on prosody delegationservers announced
}

@test "Prosody: a user's envelopes, nesting queries and advertisements are refused" {
	on prosody delegationservers forged
}

@test "Prosody: 120 000 apostrophes: the answer that is too large is replaced, the stream stays" {
	on prosody delegationservers apostrophes
}

@test "Prosody: --handler-requests: Prosody answers, ejabberd hands back, nothing loops" {
	on prosody delegationservers handler_requests
}

@test "ejabberd: answers for managed users: to the host, without to, to accounts; get and set" {
	on ejabberd delegationservers addresses
}

@test "ejabberd: an error of the handler reaches the user" {
	on ejabberd delegationservers errors_pass
}

@test "ejabberd: 500 concurrent requests, each answered once" {
	on ejabberd delegationservers five_hundred
}

@test "ejabberd: two open requests with the same id from one user" {
	on ejabberd delegationservers same_id_twice
}

@test "ejabberd: a slow answer does not hold up the others, persistent and per request" {
	on ejabberd delegationservers slow_ones
}

@test "ejabberd: every broken handler: one error to who asked" {
	on ejabberd delegationservers broken_handlers
}

@test "ejabberd: xmpp-manage dies and is started again" {
	on ejabberd delegationservers component_restart
}

@test "ejabberd: the server restarts" {
	on ejabberd delegationservers server_restart
}

@test "ejabberd: without HANDLER: our own stdin and stdout are the pipe" {
	on ejabberd delegationservers own_pipe
}

@test "ejabberd: handlers that speak JSON: persistent, per request, our own pipe" {
	on ejabberd delegationservers json_handlers
}

@test "ejabberd: what is announced stands in the host's and the accounts' disco#info" {
	on ejabberd delegationservers announced
}

@test "ejabberd: a user's envelopes, nesting queries and advertisements are refused" {
	on ejabberd delegationservers forged
}

@test "ejabberd: 120 000 apostrophes: the answer that is too large is replaced, the stream stays" {
	on ejabberd delegationservers apostrophes
}

@test "ejabberd: --handler-requests: Prosody answers, ejabberd hands back, nothing loops" {
	on ejabberd delegationservers handler_requests
}

@test "Prosody: the manual's roster filter: the group Hidden is hidden, all else is the real roster" {
	mkdir examples
	manual=$(python3 "$TESTS/manual.py" examples "$ROOT/man/xmpp-manage.8" examples)
	example=$(grep -l -- --handler-requests examples/*)
	assert [ "$manual" -gt 0 ] && assert [ -s "$example" ]
	sed '/^xmpp-manage/,$d' "$example" | bash -eu
	assert [ -s roster ]
	prosody_start "$PWD/prosody" --tls off --delegate jabber:iq:roster=priv.test
	scenario delegationservers <<-'END'
		ROSTER = "<query xmlns='jabber:iq:roster'>%s</query>"
		command = ["xmpp-manage", "--host", HOST, "--namespace", "jabber:iq:roster", "--handler-requests"]
		with Daemon(command[0], "priv.test", *command[1:], handler=("sh", "roster")) as m:
		    m.wait_stderr("delegates 'jabber:iq:roster'")
		    alice = user("alice")
		    for n, (jid, group) in enumerate((("bob@vhost.test", "Friends"), ("carol@vhost.test", "Hidden"))):
		        ask(alice, "set%d" % n, None, "set", ROSTER % ("<item jid='%s' name='N'><group>%s</group></item>" % (jid, group)))
		        assert answered(alice, "set%d" % n)["type"] == "result"
		    ask(alice, "get", None, "get", ROSTER % "")
		    got = answered(alice, "get")
		    assert got["type"] == "result" and "bob@vhost.test" in got.raw and "carol" not in got.raw, got
	END
	prosody_stop "$PWD/prosody"
}
