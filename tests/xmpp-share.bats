#!/usr/bin/env bats
# xmpp-share between a real Prosody and instances of a component.
# check-servers

load lib
load tools/scenario

setup_file() { prosody_start "$BATS_FILE_TMPDIR/prosody" --tls off; }
teardown_file() { prosody_stop "$BATS_FILE_TMPDIR/prosody"; }
setup() { server_facts "$BATS_FILE_TMPDIR/prosody"; }

# through NAME: run the scenario NAME of tests/tools/sharing.py on this file's server
through() { scenario sharing <<<"$1()"; }

@test "an instance proves the secret, for this domain" {
	through proves_the_secret
}

@test "--instance-secret-file: the server's secret is not taken" {
	through own_secret_of_instances
}

@test "before the handshake: no stanzas, no more than 4 KiB" {
	through nothing_before_the_handshake
}

@test "stream ids have 128 random bits" {
	through stream_ids_are_unguessable
}

@test "a unix socket takes stanzas without a stream from its own user" {
	through unix_socket_without_a_stream
}

@test "with --instance-secret-file the unix socket wants the handshake, too" {
	through unix_socket_with_a_secret_wants_the_handshake
}

@test "250 requests over three instances, each answered once" {
	through shared_and_answered_once
}

@test "no address is translated: D, x@D, D/x, x@D/y" {
	through addresses_are_not_translated
}

@test "sticky by sender: all of one user's requests are one instance's" {
	through sticky_by_sender
}

@test "sticky by recipient: a room stays on one instance" {
	through sticky_by_recipient
}

@test "with round-robin, too, the steps of a conversation stay together" {
	through steps_of_a_conversation_stay
}

@test "no instance: service-unavailable for requests and messages" {
	through no_instance
}

@test "an instance dies with requests in hand: gets move, sets are answered" {
	through instance_dies_with_requests_in_hand
}

@test "a silent instance is put aside, pinged, and taken back" {
	through silent_instance_is_put_aside
}

@test "only the instance that was asked answers, once" {
	through answer_of_one_not_asked
}

@test "an instance that does not answer: remote-server-timeout" {
	through timeout
}

@test "--limit user-pending: one user fills no more than a share" {
	through one_user_is_no_more_than_a_share
}

@test "instances' own requests: fresh ids, each answer to the one that asked" {
	through own_requests
}

@test "a stranger's answer to an instance's request reaches nobody" {
	through answer_of_a_stranger_to_an_own_request
}

@test "what a server would not take ends or is refused at that instance alone" {
	through refused_at_that_instance_alone
}

@test "endless answers of an instance reach nobody and hold up nobody" {
	through endless_answers
}

@test "one user's messages fill no more than a share of an instance that is slow" {
	through messages_of_one_user_have_a_share
}

@test "a flood of one instance does not hold up what another one writes" {
	through flood_of_one_instance
}

@test "huge stanzas of an instance are refused to it, and take no memory" {
	through huge_stanzas
}

@test "an instance that does not read is sent away, the others get all that is theirs" {
	through instance_that_does_not_read
}

@test "a hundred connections that say nothing keep no instance out, and are ended" {
	through silent_connections_keep_nobody_out
}

@test "silent connections of one address end none of another" {
	through strangers_displace_only_their_own
}

@test "--limit instances" {
	through no_more_instances_than_the_limit
}

@test "capitals in an instance's from are folded" {
	through capitals_in_from_are_folded
}

@test "an answer too large for the server is replaced by policy-violation" {
	through answer_too_large_to_send
}

@test "what an instance sends to its own domain comes back to it alone" {
	through own_domain_comes_back
}

@test "messages are sticky; the error of an instance's message goes to that instance" {
	through messages_are_sticky_and_errors_go_back
}

@test "presence goes to each instance that has sent presence to its sender" {
	through presence_goes_to_all_who_know_the_sender
}

@test "an instance that leaves in order is asked nothing more and ends when it has answered" {
	through leaves_in_order
}

@test "the last instance, too" {
	through last_one_that_leaves_gets_nothing_new
}

@test "SIGTERM: held requests are answered, instances get system-shutdown" {
	through sigterm_drains
}

@test "killed and started again, it serves instances that come back" {
	through restarts_and_serves_again
}

@test "killed, and ended with a request in hand: the instances come back by themselves" {
	through restarts_under_its_instances
}

@test "two xmpp-jat-proxy behind it; one leaves by SIGTERM" {
	through jat_proxy_behind_it
}

@test "xmpp-connect with a shell script behind it" {
	through connect_behind_it
}

@test "instances written with slixmpp" {
	through slixmpp_behind_it
}

# The library comes from the npm registry where node and npm are installed; the suite installs neither.
@test "instances written with @xmpp/component" {
	command -v npm >/dev/null && command -v node >/dev/null || not_here 'no node and npm here'
	export NPM_FOLDER=$BUILDDIR/npm
	[[ -d $NPM_FOLDER/node_modules/@xmpp/component ]] ||
		npm install --silent --no-audit --no-fund --prefix "$NPM_FOLDER" @xmpp/component@0.13.1
	through npm_component_behind_it
}
