#!/usr/bin/env bats
# roster-diff: differences, their order, failures.
# installcheck

# run --separate-stderr and start set variables
# shellcheck disable=SC2154,SC2034,SC1003

load lib

setup()
{
	cat >old <<-'END'
		{"user":"john","status":"ok","roster":{"marie@x":{"name":"Marie","groups":["A"]},"aaron@x":{},"z@x":"Z"},"skipped":[]}
		{"user":"marie","status":"unchanged","roster":{"john@x":{}},"skipped":[]}
	END
}

@test "equal: nothing, 0; the order of users and contacts, and how it is written, do not matter" {
	cat >same <<-'END'
		{"status":"ok","user":"marie","roster":{"JOHN@x":""}}
		{"user":"john","status":"unchanged","roster":{"z@x":{"name":"Z","subscription":"both"},"aaron@x":{"groups":[]},"marie@x":{"groups":{"A":true},"name":"Marie"}}}
	END
	run roster-diff old same
	assert_success
	assert_output ''
	run roster-diff - old <same
	assert_success
	run roster-diff old - <same
	assert_success
	assert_output ''
}

@test "add, update with what changed, remove: 1" {
	cat >new <<-'END'
		{"user":"marie","status":"ok","roster":{"john@x":{"subscription":"to","groups":["B"]}}}
		{"user":"john","status":"ok","roster":{"marie@x":{"name":"Mary","groups":["A"]},"new@x":"N","z@x":"Z"}}
	END
	run roster-diff old new
	assert_failure 1
	assert_output - <<-'END'
		{"user":"john","change":"remove","contact":"aaron@x","old":{"subscription":"both"}}
		{"user":"john","change":"update","contact":"marie@x","changed":["name"],"old":{"name":"Marie","groups":["A"],"subscription":"both"},"new":{"name":"Mary","groups":["A"],"subscription":"both"}}
		{"user":"john","change":"add","contact":"new@x","new":{"name":"N","subscription":"both"}}
		{"user":"marie","change":"update","contact":"john@x","changed":["groups","subscription"],"old":{"subscription":"both"},"new":{"groups":["B"],"subscription":"to"}}
	END
}

@test "a user who is in one file only; the last record of a user holds" {
	: >empty
	run roster-diff empty old
	assert_failure 1
	assert_equal "$(jq -r '"\(.user) \(.change)"' <<<"$output" | sort | uniq -c | tr -s ' ')" $' 3 john add\n 1 marie add'
	run roster-diff old empty
	assert_failure 1
	assert_equal "$(grep -c '"change":"remove"' <<<"$output")" 4
	{ sed 's/Marie/Mary/' old; cat old; } >twice
	run roster-diff old twice
	assert_success
}

@test "skipped contacts are not removed" {
	cat >new <<-'END'
		{"user":"john","status":"ok","roster":{"marie@x":{"name":"Marie","groups":["A"]}},"skipped":[{"contact":"AARON@x","why":"name that is no string"},{"contact":"z@x/r","why":"not a bare JID"}]}
		{"user":"marie","status":"ok","roster":{"john@x":{}}}
	END
	run roster-diff old new
	assert_success
	assert_output ''
}

@test "bad lines and records without roster: 65, the rest is compared" {
	cat >new <<-'END'
		{"user":"john","status":"error","error":"timeout"}
		nonsense

		{"event":"login","user":"john"}
		{"user":"marie","status":"ok","roster":{}}
	END
	run --separate-stderr roster-diff old new
	assert_failure 65
	assert_output '{"user":"marie","change":"remove","contact":"john@x","old":{"subscription":"both"}}'
	assert_equal "$stderr" "roster-diff: new:2: not JSON
roster-diff: new:3: not JSON
roster-diff: new:4: no 'status'
roster-diff: new:1: no roster to compare: timeout"
}

@test "files that cannot be read, a full disk: 74; wrong usage: 64" {
	run -74 roster-diff old none
	assert_output "roster-diff: cannot read 'none': No such file or directory"
	run -74 roster-diff old .
	run -74 bash -c 'roster-diff old /dev/null >/dev/full'
	for operands in '' old 'old old old' '- -'; do
		# shellcheck disable=SC2086
		run -64 roster-diff $operands </dev/null
	done
}

@test "what fetch wrote and diff read are the same" {
	start app python3 "$TESTS/tools/web-app.py"
	wait_for test -s app.out
	app=http://127.0.0.1:$(cat app.out)
	roster-fetch --url "$app/ok/%s" a b c >first
	run roster-diff first <(roster-fetch --url "$app/ok/%s" c b a)
	assert_success
	stop_all
}
