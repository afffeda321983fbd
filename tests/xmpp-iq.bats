#!/usr/bin/env bats
# xmpp-iq on real servers: one's own reply, as component and as user.

load lib

setup_file()
{
	prosody_start "$BATS_FILE_TMPDIR/prosody"
	ejabberd_start "$BATS_FILE_TMPDIR/ejabberd"
}

teardown_file()
{
	prosody_stop "$BATS_FILE_TMPDIR/prosody"
	ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd"
}

teardown() { stop_all; }

as_component()
{
	xmpp-iq --domain jat.test --connect "127.0.0.1:$(component_port jat.test)" \
		--secret-file "$SECRET_FILE" "$@"
}

as_user()
{
	xmpp-iq --jid "alice@$XMPP_HOST" --connect "127.0.0.1:$C2S_PORT" --password-file "$PASSWORD_FILE" \
		--tls-ca "$TLS_CA" -q "$@"
}

both() { for who in as_component as_user; do "$@" || return 1; done; }

asks()
{
	run -0 "$who" --to "$XMPP_HOST" --disco-info
	assert_output --regexp "^<query .*http://jabber.org/protocol/disco#info.*</query>$"
	run -0 "$who" --to "$XMPP_HOST" --ping
	assert_output ""
	run -0 "$who" --to "$XMPP_HOST" --disco-items --json
	assert_equal "$(jq -r '.type + " " + .from' <<<"$output")" "result $XMPP_HOST"
	run -0 "$who" --to "$XMPP_HOST" --version-of --stanza
	assert_output --regexp "^<iq .*jabber:iq:version.*</iq>$"
	run -0 "$who" --to "$XMPP_HOST" "<ping xmlns='urn:xmpp:ping'/>"
	run -0 "$who" --to "$XMPP_HOST" - <<<"<ping xmlns='urn:xmpp:ping'/>"
	run -0 "$who" --to "$XMPP_HOST" <<<"<ping xmlns='urn:xmpp:ping'/>"
	run -1 --separate-stderr "$who" --to "$XMPP_HOST" "<x xmlns='urn:x'/>"
	assert_output ""
	# shellcheck disable=SC2154
	[[ $stderr == "xmpp-iq: "*service-unavailable* || $stderr == "xmpp-iq: "*feature-not-implemented* ]]
	for bad in '' 'text' '<a>' '<a/><b/>' '<a/></iq><iq type="get"><b/>' '<!-- c -->'; do
		run -65 "$who" --to "$XMPP_HOST" - <<<"$bad"
	done
}

@test "one request, its own reply, errors, bad payloads (prosody)" {
	server_facts "$BATS_FILE_TMPDIR/prosody"
	both asks
}
@test "one request, its own reply, errors, bad payloads (ejabberd)" {
	server_facts "$BATS_FILE_TMPDIR/ejabberd"
	both asks
}

in_batches()
{
	for id in same same 3 4; do
		echo "<iq type='get' id='$id'><ping xmlns='urn:xmpp:ping'/></iq>"
	done >in
	run -0 "$who" --to "$XMPP_HOST" --batch --json <in
	assert_equal "$(jq -r .id <<<"$output" | tr '\n' ' ')" "same same 3 4 "
	run -0 "$who" --to "$XMPP_HOST" --batch --unordered --max-pending 1 <in
	assert_equal "${#lines[@]}" 4
	echo "<iq type='get' id='x'><x xmlns='urn:x'/></iq>" >>in
	run -1 "$who" --to "$XMPP_HOST" --batch --json <in
	assert_equal "$(tail -n 1 <<<"$output" | jq -r '.id + " " + .type')" "x error"
}

@test "--batch: in order, ids restored, 1 if any is an error" {
	server_facts "$BATS_FILE_TMPDIR/prosody"
	both in_batches
}
