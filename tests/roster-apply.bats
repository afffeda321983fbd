#!/usr/bin/env bats
# shellcheck disable=SC2119,SC2120,SC2154 # apply's arguments; component: as()
# roster-apply on real servers, with users who are logged in.

load lib
load stream

setup_file()
{
	prosody_start "$BATS_FILE_TMPDIR/prosody" --tls off --component plain.test --privileged noslot.test \
		--append 'Component "noslot.test" component_secret = "secret"' \
		--append 'Component "bare.test" component_secret = "secret"'
	ejabberd_start "$BATS_FILE_TMPDIR/ejabberd" --tls off
}

teardown_file()
{
	prosody_stop "$BATS_FILE_TMPDIR/prosody"
	ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd"
}

teardown() { stop_all; }

# Each test has users of its own: $a $b $c.
on()
{
	server_facts "$BATS_FILE_TMPDIR/$1"
	a=a$BATS_TEST_NUMBER b=b$BATS_TEST_NUMBER c=c$BATS_TEST_NUMBER
	local user
	for user in "$a" "$b" "$c"; do server_add_user "$SERVER_DIR" "$user"; done
}

# how: the options that say how the server is changed
how()
{
	if [[ $SERVER_KIND == prosody ]]; then
		how=(--host vhost.test --on-behalf "${component[@]}")
	else
		how=(--host vhost.test --via ejabberd-api --api "http://127.0.0.1:$HTTP_API_PORT/api")
	fi
}

# as DOMAIN: the component to be
as()
{
	component=(--domain "$1" --connect "127.0.0.1:$(component_port "$1")" --secret-file "$SECRET_FILE")
}

server()
{
	on "$1"
	as rosters.test
	how
}

apply() { timeout 120 roster-apply -q "${how[@]}" "$@"; }

# record USER CONTACT...: each contact NAME, or NAME=NICK, or NAME=NICK=GROUP, or NAME=NICK=GROUP=SUBSCRIPTION
record()
{
	local user=$1 contact items=()
	shift
	for contact; do
		IFS='=' read -r jid nick group subscription <<<"$contact"
		items+=("$(jq -nc --arg jid "$jid@vhost.test" --arg name "$nick" --arg group "$group" \
			--arg sub "${subscription:-both}" \
			'{($jid): ({subscription: $sub} + (if $name == "" then {} else {name: $name} end) +
				(if $group == "" then {} else {groups: [$group]} end))}')")
	done
	printf '%s\n' "${items[@]:-{\}}" | jq -sc --arg user "$user" '{user: $user, status: "ok", roster: (add // {}), skipped: []}'
}

# changes USER ADDED UPDATED REMOVED: the result of a record
changes() { echo "{\"user\":\"$1\",\"status\":\"ok\",\"added\":$2,\"updated\":$3,\"removed\":$4}"; }

# online USER [RESOURCE]: log in, in the background; what comes is in USER.log
online()
{
	local resource=${2:-home}
	# shellcheck disable=SC2016
	start "$1" xmpp-connect -q --jid "$1@vhost.test/$resource" --connect "127.0.0.1:$C2S_PORT" --tls off \
		--password-file "$PASSWORD_FILE" --wait 1 -- bash -c '
			echo "<iq type=\"get\" id=\"r0\"><query xmlns=\"jabber:iq:roster\"/></iq>"
			echo "<presence/>"
			cat >"$0"' "$1.log"
	wait_for got "$1" '<iq' 'id=.r0' 'type=.result'
	wait_for got "$1" '<presence' "from=.$1@vhost.test/$resource"
}

# got NAME PATTERN...: a stanza of NAME.log has them all
got()
{
	local lines pattern
	lines=$(cat "$1.log" 2>/dev/null) || return 1
	shift
	for pattern; do lines=$(grep -e "$pattern" <<<"$lines") || return 1; done
}
count() { grep -ce "$2" "$1.log"; }
pushed() { got "$1" '<iq' 'type=.set' 'jabber:iq:roster' "jid=.$2@vhost.test" "${@:3}"; }
sees() { got "$1" '<presence' "from=.$2@vhost.test/home" "to=.$1@vhost.test" && ! got "$1" '<presence' "from=.$2@vhost.test/home" 'type='; }
misses() { got "$1" '<presence' "from=.$2@vhost.test/home" 'type=.unavailable'; }

# What the server has: the roster of a user as he gets it himself
roster_of()
{
	echo "<iq type='get' id='r1'><query xmlns='jabber:iq:roster'/></iq>" |
		xmpp-connect -q --jid "$1@vhost.test/look" --connect "127.0.0.1:$C2S_PORT" --tls off \
			--password-file "$PASSWORD_FILE" --wait 20 | grep "id=.r1"
}

# --- online users

friends()
{
	server "$1"
	online "$a"
	online "$b"
	run -0 apply < <(record "$a" "$b=Bob=Work" && record "$b" "$a=Alice")
	assert_line "$(changes "$a" 1 0 0)"
	assert_line "$(changes "$b" 1 0 0)"
	assert_equal "${#lines[@]}" 2
	wait_for pushed "$a" "$b" 'name=.Bob' '<group>Work</group>' 'subscription=.both'
	wait_for pushed "$b" "$a" 'name=.Alice' 'subscription=.both'
	wait_for sees "$a" "$b"
	wait_for sees "$b" "$a"

	# nothing to change: nothing is sent
	before=$(cat "$a.log" "$b.log" | wc -l)
	run -0 apply < <(record "$a" "$b=Bob=Work" && record "$b" "$a=Alice")
	assert_line "$(changes "$a" 0 0 0)"
	assert_line "$(changes "$b" 0 0 0)"
	assert_equal "$(cat "$a.log" "$b.log" | wc -l)" "$before"

	# another name, another group, none
	run -0 apply < <(record "$a" "$b=Robert=Work")
	assert_output "$(changes "$a" 0 1 0)"
	wait_for pushed "$a" "$b" 'name=.Robert' '<group>Work</group>'
	run -0 apply < <(record "$a" "$b=Robert=Home")
	assert_output "$(changes "$a" 0 1 0)"
	wait_for pushed "$a" "$b" 'name=.Robert' '<group>Home</group>'
	run -0 apply < <(record "$a" "$b")
	assert_output "$(changes "$a" 0 1 0)"
	assert_equal "$(apply < <(record "$a" "$b"))" "$(changes "$a" 0 0 0)"
	run roster_of "$a"
	refute_output --partial Robert
	refute_output --partial '<group>'
	refute got "$a" '<presence' "from=.$b@" 'type=.unavailable'

	# removed on both sides
	run -0 apply < <(record "$a" && record "$b")
	assert_line "$(changes "$a" 0 0 1)"
	assert_line --regexp "^\{\"user\":\"$b\",\"status\":\"ok\",\"added\":0,\"updated\":0,\"removed\":[01]\}$"
	wait_for pushed "$a" "$b" 'subscription=.remove'
	wait_for pushed "$b" "$a" 'subscription=.remove'
	wait_for misses "$a" "$b"
	wait_for misses "$b" "$a"
	run roster_of "$a"
	refute_output --partial "$b"
	run roster_of "$b"
	refute_output --partial "$a"
}

@test "Prosody: added, renamed, regrouped, removed: pushes, and presence at once" { friends prosody; }
@test "ejabberd: added, renamed, regrouped, removed: pushes, and presence at once" { friends ejabberd; }

offline()
{
	server "$1"
	run -0 apply < <(record "$a" "$b=Bob=Work" "$c" && record "$b" "$a")
	assert_line "$(changes "$a" 2 0 0)"
	online "$b"
	online "$a"
	assert got "$a" 'id=.r0' "jid=.$b@vhost.test" 'name=.Bob' '<group>Work</group>'
	assert got "$a" 'id=.r0' "jid=.$c@vhost.test"
	wait_for sees "$a" "$b"
	wait_for sees "$b" "$a"
}

@test "Prosody: offline users see the new roster when they log in" { offline prosody; }
@test "ejabberd: offline users see the new roster when they log in" { offline ejabberd; }

# --- what is not done

bounds()
{
	server "$1"
	apply < <(record "$a" "$b" "$c") >/dev/null
	run -0 apply --dry-run < <(record "$a" "$b=Bob" mallory)
	assert_output "$(changes "$a" 1 1 1)"
	run -1 apply --max-removals 1 < <(record "$a")
	assert_equal "$(jq -r '"\(.user) \(.status) \(.error)"' <<<"$output")" "$a error too-many-removals"
	assert_equal "$(apply < <(record "$a" "$b" "$c"))" "$(changes "$a" 0 0 0)"
	run -0 apply --max-removals 1 < <(record "$a" "$b")
	assert_output "$(changes "$a" 0 0 1)"
	# what the web application could not say rightly stays
	run -0 apply < <(record "$a" | jq -c --arg c "$b@vhost.test" '.skipped = [{contact: $c, why: "x"}]')
	assert_output "$(changes "$a" 0 0 0)"
	run -0 apply --max-removals 0 < <(record "$a" "$b")
	assert_output "$(changes "$a" 0 0 0)"
}

@test "Prosody: --dry-run, --max-removals, skipped contacts" { bounds prosody; }
@test "ejabberd: --dry-run, --max-removals, skipped contacts" { bounds ejabberd; }

passes()
{
	server "$1"
	error='{"user":"x y","status":"error","error":"http-404","message":"no"}'
	run -1 apply < <(echo "$error" && record "$a" "$b" && record "b@d" "$b" && record 'a b' "$b")
	assert_line "$error"
	assert_line "$(changes "$a" 1 0 0)"
	assert_equal "$(printf '%s\n' "${lines[@]}" | jq -r 'select(.status == "error") | "\(.user) \(.error)"' | sort)" \
		"$(printf '%s\n' 'a b bad-user' 'b@d bad-user' 'x y http-404')"
	run -1 apply < <(record nobody "$b")
	assert_equal "$(jq -r '"\(.user) \(.error)"' <<<"$output")" 'nobody rejected'
	run -0 apply </dev/null
	assert_output ''
	run -65 apply < <(echo '{"user":' && record "$a" "$b" && echo '{"event":"login","user":"x"}')
	assert_line "$(changes "$a" 0 0 0)"
	assert_line --regexp '^roster-apply: stdin:1: '
	assert_line --regexp '^roster-apply: stdin:3: '
}

@test "Prosody: error records pass, names that are none, unknown users, bad lines" { passes prosody; }
@test "ejabberd: error records pass, names that are none, unknown users, bad lines" { passes ejabberd; }

one_sided()
{
	server "$1"
	online "$a"
	online "$b"
	run -0 apply < <(record "$a" "$b=Bob=G=to" && record "$b" "$a=Al=G=from")
	wait_for pushed "$a" "$b" 'subscription=.to'
	wait_for pushed "$b" "$a" 'subscription=.from'
	wait_for sees "$a" "$b"
	run -0 apply < <(record "$a" "$b=Bob=G=from" && record "$b" "$a=Al=G=to")
	wait_for pushed "$a" "$b" 'subscription=.from'
	wait_for pushed "$b" "$a" 'subscription=.to'
	wait_for sees "$b" "$a"
	[[ $1 == ejabberd ]] || wait_for misses "$a" "$b"
	run -0 apply < <(record "$a" "$b=Bob=G=none" && record "$b" "$a=Al=G=none")
	wait_for pushed "$a" "$b" 'subscription=.none'
	wait_for pushed "$b" "$a" 'subscription=.none'
	[[ $1 == ejabberd ]] || wait_for misses "$b" "$a"
	run -0 apply < <(record "$a" "$b=Bob=G=none" && record "$b" "$a=Al=G=none")
	assert_line "$(changes "$a" 0 0 0)"
	assert_line "$(changes "$b" 0 0 0)"
}

@test "Prosody: subscriptions to, from and none" { one_sided prosody; }
@test "ejabberd: subscriptions to, from and none" { one_sided ejabberd; }

@test "one record alone: the contact's roster says who may be seen (Prosody)" {
	server prosody
	online "$a"
	online "$b"
	run -0 apply < <(record "$a" "$b")
	wait_for sees "$b" "$a" # the user's own roster lets the contact see him
	refute got "$a" '<presence' "from=.$b@"
	run -0 apply < <(record "$b" "$a")
	wait_for sees "$a" "$b"
}

@test "ejabberd: a removal leaves the contact's own item, unless the contact's record drops it too" {
	server ejabberd
	apply < <(record "$a" "$b=Bob=G" && record "$b" "$a=Alice=H") >/dev/null
	for _ in 1 2 3 4 5; do
		run -0 apply < <(record "$a")
		assert_output "$(changes "$a" 0 0 1)"
		run roster_of "$b"
		assert_output --regexp "subscription='both'[^>]*jid='$a@vhost.test'|jid='$a@vhost.test'[^>]*subscription='both'"
		assert_output --partial "name='Alice'"
		assert_output --partial '<group>H</group>'
		run -0 apply < <(record "$a" "$b=Bob=G")
		assert_output "$(changes "$a" 1 0 0)"
	done
	run -0 apply < <(record "$a" && record "$b")
	run roster_of "$b"
	refute_output --partial "$a@"
	run roster_of "$a"
	refute_output --partial "$b@"
}

# --- what must be granted

# refused DOMAIN: 78, and the lines for both places
refused()
{
	as "$1"
	run --separate-stderr -78 roster-apply --host vhost.test "${component[@]}" < <(record alice bob)
	assert_equal "$(jq -r '"\(.user) \(.error)"' <<<"$output")" 'alice forbidden'
	assert_regex "$stderr" "VirtualHost \"vhost.test\": modules_enabled = .*privileged_entities = .*\"$1\"\] = \{ roster = \"both\""
	assert_regex "$stderr" "Component \"$1\": modules_enabled = \{ \"privilege\" \}"
}

@test "Prosody: not granted on the host, not in the component's slot, nowhere: 78 and both places' lines" {
	on prosody
	refused noslot.test
	refused plain.test
	refused bare.test
}

@test "Prosody: a component that may not send from its users' addresses: 78 and the line" {
	on prosody
	as priv.test
	online "$a"
	online "$b"
	run --separate-stderr -78 roster-apply --host vhost.test --on-behalf "${component[@]}" < <(record "$a" "$b")
	assert_equal "$(jq -r '"\(.user) \(.error)"' <<<"$output")" "$a forbidden"
	assert_regex "$stderr" 'Component "priv.test": validate_from_addresses = false'
	assert_equal "$(grep -c 'stream error invalid-from' <<<"$stderr")" 1

	# without --on-behalf it works, and says what is not done
	run --separate-stderr -0 roster-apply --host vhost.test "${component[@]}" < <(record "$a" "$b" && record "$b" "$a")
	wait_for pushed "$a" "$b"
	wait_for pushed "$b" "$a"
	refute got "$a" '<presence' "from=.$b@"
	assert_equal "$(grep -c 'presence follows at the next status change' <<<"$stderr")" 1
}

@test "a wrong secret: 77 at once" {
	for kind in prosody ejabberd; do
		on "$kind"
		(umask 077 && echo wrong >wrong)
		run --separate-stderr -77 roster-apply --host vhost.test --domain rosters.test --secret-file wrong \
			--connect "127.0.0.1:$(component_port rosters.test)" < <(record "$a" "$b")
		assert_regex "$stderr" 'not-authorized'
	done
}
