#!/usr/bin/env bats
# A name server that does not answer: no program waits longer for it than its options say, and only for what
# needs the name.
# installcheck

load lib

setup() { [[ -z ${WRAP:-} && -e $BUILDDIR/preload/nameless.so ]] || not_here 'no injectors in this configuration'; }
teardown() { stop_all; }

# without_name COMMAND...: run it; "slow.test" is never found
without_name()
{
	run --separate-stderr timeout 60 env NAMELESS=slow.test \
		"LD_PRELOAD=${LD_PRELOAD:+$LD_PRELOAD }$BUILDDIR/preload/nameless.so" "$BINDIR/$1" "${@:2}"
}

@test "roster-fetch: --timeout and --max-time, and other names go on" {
	without_name roster-fetch --url 'http://slow.test/%s' --timeout 0.2 john jane
	assert_equal "$status" 1
	assert_equal "$(jq -r .error <<<"$output" | sort | uniq -c | tr -s ' ')" ' 2 connect'
	without_name roster-fetch --url 'http://slow.test/%s' --timeout 60 --connect-timeout 0.1 --retry 1000 --max-time 1 john
	assert_equal "$status" 1
	assert_output --partial '"error":"connect"'
}

@test "roster-apply --via ejabberd-api: --timeout" {
	echo '{"user":"john","status":"ok","roster":{"a@b.test":{}}}' >records
	without_name roster-apply --via ejabberd-api --api http://slow.test/api --host h.test --timeout 0.2 <records
	assert_output --partial server-timeout
}

@test "logins: --timeout, as a component, with --connect, and with the domain's own records" {
	(umask 077 && echo secret >secret)
	for login in '--domain d.test --secret-file secret --connect slow.test:5347' \
		'--jid me@h.test --password-file secret --connect slow.test:5222' \
		'--jid me@slow.test --password-file secret'; do
		# shellcheck disable=SC2086
		for program in 'xmpp-iq --to h.test --ping' 'xmpp-connect' 'xmpp-message --to h.test'; do
			echo "# $program $login"
			echo hello >input
			without_name $program $login --timeout 0.2 <input
			assert_equal "$status" 124
			# shellcheck disable=SC2154 # stderr: run
			[[ $stderr == *'no login at '*' in time' || $stderr == *'no login as d.test within 0.2 s' ]]
		done
	done
}
