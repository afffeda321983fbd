#!/usr/bin/env bats
# xmpp-share between a real ejabberd and instances of a component.
# check-servers

load lib
load tools/scenario

setup_file() { ejabberd_start "$BATS_FILE_TMPDIR/ejabberd" --tls off; }
teardown_file() { ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd"; }
setup() { server_facts "$BATS_FILE_TMPDIR/ejabberd"; }

# through NAME: run the scenario NAME of tests/tools/sharing.py on this file's server
through() { scenario sharing <<<"$1()"; }

@test "250 requests over three instances, each answered once" {
	through shared_and_answered_once
}

@test "no address is translated: D, x@D, D/x, x@D/y" {
	through addresses_are_not_translated
}

@test "sticky by recipient: a room stays on one instance" {
	through sticky_by_recipient
}

@test "an instance dies with requests in hand: gets move, sets are answered" {
	through instance_dies_with_requests_in_hand
}

@test "only the instance that was asked answers, once" {
	through answer_of_one_not_asked
}

@test "instances' own requests: fresh ids, each answer to the one that asked" {
	through own_requests
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

@test "SIGTERM: held requests are answered, instances get system-shutdown" {
	through sigterm_drains
}

@test "two xmpp-jat-proxy behind it; one leaves by SIGTERM" {
	through jat_proxy_behind_it
}

@test "instances written with slixmpp" {
	through slixmpp_behind_it
}
