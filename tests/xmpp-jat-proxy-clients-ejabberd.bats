#!/usr/bin/env bats
# xmpp-jat-proxy with clients of a library on a real ejabberd with stream management.
# check-servers

load lib
load tools/scenario

setup_file()
{
	ejabberd_start "$BATS_FILE_TMPDIR/ejabberd" --tls off --component focus.vhost.test \
		--yaml '  mod_stream_mgmt: {resume_timeout: 8}'
}
teardown_file() { ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd"; }
setup() { server_facts "$BATS_FILE_TMPDIR/ejabberd"; }

# through NAME: run the scenario NAME of tests/tools/proxyclients.py on this file's server
through() { scenario proxyclients <<<"$1()"; }

@test "two sessions, one killed: 200 gets of ten users, 200 results, under each policy" {
	through killed_one
}

@test "two sessions, one hangs: 200 gets of ten users, 200 results; when it goes on it gets work again" {
	through hung_one
}

@test "sets while one of two sessions is dead: none is done twice, each is answered" {
	through sets_are_done_once
}

@test "a killed client that logs in again gets work again" {
	through resumes
}

@test "the hibernation ends: bounced gets go to another session, sets are answered" {
	through bounces
}

@test "an ad-hoc command of three steps: 20 of 20 with two sessions, under each policy" {
	through steps
}

@test "ping, version and disco of a library's client" {
	through ping_version_disco
}

@test "an in-band bytestream through the proxy with --outbound-iq" {
	through bytestream
}

@test "Jitsi: plain encoding, a target with its resource, a stand-in for jicofo" {
	through jitsi
}
