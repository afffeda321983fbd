#!/usr/bin/env bats
# shellcheck disable=SC2119,SC2120,SC2154 # apply's arguments; component: as()
# roster-apply on real servers, with users who are logged in.
# check-servers

load lib
load stream

setup_file()
{
	prosody_start "$BATS_FILE_TMPDIR/prosody" --tls off --component plain.test --privileged noslot.test \
		--append 'Component "noslot.test" component_secret = "secret"' \
		--append 'Component "bare.test" component_secret = "secret"'
	ejabberd_start "$BATS_FILE_TMPDIR/ejabberd" --tls off
	ejabberd_start "$BATS_FILE_TMPDIR/privileges" --tls off --privileges
}

teardown_file()
{
	ejabberd_stop "$BATS_FILE_TMPDIR/privileges"
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

# how: the options that choose the door, privileges or API
how()
{
	if [[ $SERVER_KIND == prosody ]]; then
		how=(--host vhost.test --on-behalf "${component[@]}")
	else
		how=(--host vhost.test --via ejabberd-api --api "http://127.0.0.1:$HTTP_API_PORT/api")
	fi
}

# as DOMAIN: the options for the component DOMAIN, in `component`
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

# record USER CONTACT...: print a record; each contact is NAME[=NICK[=GROUP[=SUBSCRIPTION]]]
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

# changes USER ADDED UPDATED REMOVED [MORE]: the result of a record
changes() { echo "{\"user\":\"$1\",\"status\":\"ok\",\"added\":$2,\"updated\":$3,\"removed\":$4${5-}}"; }

# online USER [RESOURCE]: log in, in the background; the stanzas that arrive are in USER.log
online()
{
	local resource=${2:-home}
	# shellcheck disable=SC2016
	start "$1" xmpp-connect -q --jid "$1@vhost.test/$resource" --connect "127.0.0.1:$C2S_PORT" --tls off \
		--password-file "$PASSWORD_FILE" --wait 20 -- bash -c '
			echo "<iq type=\"get\" id=\"r0\"><query xmlns=\"jabber:iq:roster\"/></iq>"
			echo "<presence/>"
			cat >"$0"' "$1.log" 9>&-
	wait_for got "$1" '<iq' 'id=.r0' 'type=.result'
	wait_for got "$1" '<presence' "from=.$1@vhost.test/$resource"
}

# got NAME PATTERN...: one stanza of NAME.log matches all patterns
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

# The roster of a user as the server gives it to the user
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

	# a record without changes: nothing is sent
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

# On ejabberd a deletion on one side takes down the item of the other side. roster-apply restores it for a
# user who keeps the contact, but not for a user whose own record drops it too, whichever record comes first.
@test "ejabberd: dropped by both at once, by one alone: what each of them said" {
	server ejabberd
	pairs=25
	for ((i = 1; i <= pairs; i++)); do
		server_add_user "$SERVER_DIR" "p$i"
		server_add_user "$SERVER_DIR" "q$i"
	done
	for ((i = 1; i <= pairs; i++)); do
		record "p$i" "q$i=Q" && record "q$i" "p$i=P"
	done >all
	for ((i = 1; i <= pairs; i++)); do
		record "p$i" && record "q$i"
	done >nobody
	for ((i = 1; i <= pairs; i++)); do
		record "p$i" && record "q$i" "p$i=R"
	done >one
	mkfifo never
	exec {never}<>never
	for what in nobody one; do
		apply <all >/dev/null
		# in each pair the second record comes a little later, at each step of the first
		run -0 apply < <(for ((i = 1; i <= pairs; i++)); do
			read -r -u 4 first && echo "$first" && read -r -u 4 second
			read -r -t "0.$(printf %03d "$i")" -u "$never" _ || true
			echo "$second"
		done 4<"$what")
		assert_equal "${#lines[@]}" "$((2 * pairs))"
		run -0 apply --dry-run <"$what"
		refute_output --regexp '"(added|updated|removed)":1'
	done
}

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
	# a contact that the web application sent wrongly stays
	run -0 apply < <(record "$a" | jq -c --arg c "$b@vhost.test" '.skipped = [{contact: $c, why: "x"}]')
	assert_line "$(changes "$a" 0 0 0 ',"skipped":1')"
	assert_line "roster-apply: '$a': 1 contact is left out, the first one '$b@vhost.test': x"
	run -0 apply --max-removals 0 < <(record "$a" "$b")
	assert_output "$(changes "$a" 0 0 0)"
	# and so does one with the user's own address
	run -0 apply < <(record "$a" "$a=Self" "$b")
	assert_output "$(changes "$a" 0 0 0)"
}

@test "Prosody: --dry-run, --max-removals, skipped contacts, the user's own address" { bounds prosody; }
@test "ejabberd: --dry-run, --max-removals, skipped contacts, the user's own address" { bounds ejabberd; }

passes()
{
	server "$1"
	error='{"user":"x y","status":"error","error":"http-404","message":"no"}'
	run -1 apply < <(echo "$error" && record "$a" "$b" && record "b@d" "$b" && record 'a b' "$b")
	assert_line "$error"
	assert_line "$(changes "$a" 1 0 0)"
	assert_equal "$(printf '%s\n' "${lines[@]}" | jq -r 'select(.status == "error") | "\(.user) \(.error)"' | sort)" \
		"$(printf '%s\n' 'a b bad-user' 'b@d bad-user' 'x y http-404')"
	# for a line that is no name, or is too long, roster-fetch writes a record with that line
	error='{"user":"","status":"error","error":"bad-user","message":"no"}'
	run -1 apply <<<"$error"
	assert_output "$error"
	run -65 apply <<<'{"user":"","status":"ok","roster":{}}'
	assert_line '{"user":"","status":"error","error":"invalid-roster","message":"no valid '"'user'"'"}'
	run -1 apply < <(record nobody "$b")
	assert_equal "$(jq -r '"\(.user) \(.error)"' <<<"$output")" 'nobody rejected'
	run -0 apply </dev/null
	assert_output ''
	run -65 apply < <(echo '{"user":' && record "$a" "$b" && echo '{"event":"login","user":"x"}')
	assert_line "$(changes "$a" 0 0 0)"
	assert_line --regexp '^roster-apply: stdin:1: '
	assert_line --regexp '^roster-apply: stdin:3: '
	# a record with a user's name gets a result, whatever is wrong with it: its sender waits
	run -65 apply < <(echo '{"user":"x","status":"ok","roster":[1]}' && echo '{"user":"y"}')
	assert_line '{"user":"x","status":"error","error":"invalid-roster","message":"invalid '"'roster'"'"}'
	assert_line '{"user":"y","status":"error","error":"invalid-roster","message":"no '"'status'"'"}'
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
	wait_for sees "$b" "$a" # the user's own roster lets the contact see the user
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
	# a wrong entry in the contact's record does not drop the user
	run -0 apply < <(record "$a" && record "$b" | jq -c --arg a "$a@vhost.test" '.skipped = [{contact: $a, why: "x"}]')
	run roster_of "$b"
	assert_output --partial "name='Alice'"
	assert_output --partial "subscription='both'"
	run -0 apply < <(record "$a" && record "$b")
	run roster_of "$b"
	refute_output --partial "$a@"
	run roster_of "$a"
	refute_output --partial "$b@"
}

@test "ejabberd: a group with a semicolon, which 23.01 makes two of: nothing to change afterwards" {
	server ejabberd
	apply < <(record "$a" "$b=Bob=G;H") >/dev/null
	run -0 apply < <(record "$a" "$b=Bob=G;H")
	assert_output "$(changes "$a" 0 0 0)"
}

@test "ejabberd: a contact's roster that cannot be read: nothing is deleted, and it is said" {
	cat >api.py <<-'END'
		import http.server
		class Api(http.server.BaseHTTPRequestHandler):
		    protocol_version = 'HTTP/1.1'
		    def do_POST(self):
		        asked = self.rfile.read(int(self.headers['Content-Length']))
		        print(self.path, flush=True)
		        answer = (b'0' if not self.path.endswith('get_roster') else b'[' if b'bob' in asked else
		            b'[{"jid":"bob@vhost.test","nick":"","subscription":"both","ask":"none","group":""}]')
		        self.send_response(200)
		        self.send_header('Content-Length', str(len(answer)))
		        self.end_headers()
		        self.wfile.write(answer)
		    def log_message(self, *_): pass
		server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Api)
		print(server.server_port, flush=True)
		server.serve_forever()
	END
	start api python3 api.py
	wait_for test -s api.out
	run -1 timeout 20 roster-apply -q --host vhost.test --via ejabberd-api \
		--api "http://127.0.0.1:$(head -n 1 api.out)/api" < <(record alice)
	assert_equal "$(jq -r '"\(.user) \(.error) \(.message)"' <<<"$output")" \
		'alice rejected bob@vhost.test: get_roster gave no list'
	run cat api.out
	refute_output --partial delete
}

# --- what must be granted

# refused DOMAIN: exit status 78, and the configuration lines for host and component
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

	# without --on-behalf it works, and says that no presence is sent
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

# --- a stream of records

# fed NAME COMMAND...: start COMMAND; its input is what is written to descriptor 9
fed()
{
	[[ -p pipe ]] || mkfifo pipe
	exec 9<>pipe
	# shellcheck disable=SC2016
	start "$1" bash -c 'exec "$@" <"$0" 9>&-' pipe "${@:2}"
}

# many USER COUNT: print a record with COUNT contacts
many() { jq -nc --arg user "$1" --argjson n "$2" '{user: $user, status: "ok", roster: ([range($n) | {"contact\(.)@vhost.test": {name: "Contact \(.)", groups: ["G\(. % 7)"]}}] | add), skipped: []}'; }

hundreds()
{
	server "$1"
	local begin=$EPOCHREALTIME
	run -0 apply < <(many "$a" 500)
	assert_output "$(changes "$a" 500 0 0)"
	echo "# $1: 500 contacts in $(((${EPOCHREALTIME/./} - ${begin/./}) / 1000)) ms" >&3
	assert_equal "$(apply < <(many "$a" 500))" "$(changes "$a" 0 0 0)"
	# the web application has lost its contacts
	run -1 apply --max-removals 100 < <(record "$a")
	assert_output --partial too-many-removals
	assert_equal "$(apply --max-removals none --dry-run < <(record "$a"))" "$(changes "$a" 0 0 500)"
}

@test "Prosody: 500 contacts; a roster that would remove them all" { hundreds prosody; }
@test "ejabberd: 500 contacts; a roster that would remove them all" { hundreds ejabberd; }

streams()
{
	server "$1"
	# records of one user are applied in their order, those of others at the same time
	for i in {1..30}; do
		record "$a" "$b=Name$i"
		record "$b" "$a=Name$i"
		[[ $i == 15 ]] && record "$a"
	done >records
	run -0 apply --jobs 8 <records
	assert_equal "${#lines[@]}" 61
	assert_equal "$(printf '%s\n' "${lines[@]}" | jq -r 'select(.status != "ok")')" ""
	assert_equal "$(apply --dry-run < <(record "$a" "$b=Name30" && record "$b" "$a=Name30") | sort)" \
		"$({ changes "$a" 0 0 0 && changes "$b" 0 0 0; } | sort)"
}

@test "Prosody: records of one user are done in their order" { streams prosody; }
@test "ejabberd: records of one user are done in their order" { streams ejabberd; }

@test "memory does not grow with the number of records" {
	server prosody
	fed apply roster-apply -q "${how[@]}"
	record "$a" "$b" >one
	yes "$(cat one)" 2>/dev/null | head -n 500 >&9
	wait_for eval '(($(wc -l <apply.out) == 500))'
	before=$(hwm_kib "$apply_pid")
	yes "$(cat one)" 2>/dev/null | head -n 10000 >&9
	exec 9>&-
	WAIT_S=120 wait_for eval '(($(wc -l <apply.out) == 10500))'
	after=$(hwm_kib "$apply_pid" || echo "$before")
	await apply
	# sanitizers keep freed memory for a while
	[[ ! -e $BUILDDIR/preload/failmalloc.so ]] || assert [ $((after - before)) -lt 1024 ]
}

@test "hostile records: too large, too deep, names and groups of any text" {
	server prosody
	online "$a"
	run -65 apply --max-record-bytes 4096 < <(many "$a" 500 && record "$a" "$b")
	assert_line "$(changes "$a" 1 0 0)"
	assert_line --regexp '^roster-apply: stdin:1: '
	run -65 apply < <(printf '{"user":"%s","status":"ok","roster":' "$a" && printf '[%.0s' {1..5000} && echo && record "$a" "$b")
	assert_line "$(changes "$a" 0 0 0)"
	odd="<&'\"> ]]> ümlaut 💥"
	run -0 apply < <(record "$a" "$b=$odd=$odd")
	assert_output "$(changes "$a" 0 1 0)"
	assert_equal "$(apply < <(record "$a" "$b=$odd=$odd"))" "$(changes "$a" 0 0 0)"
	# a contact that is too large for the server ends neither the stream nor the other contacts
	run -1 apply < <(jq -nc --arg user "$a" '{user: $user, status: "ok", skipped: [], roster: {"big@vhost.test": {name: ("x" * 600000)}, "small@vhost.test": {}}}')
	assert_equal "$(jq -r '"\(.user) \(.error)"' <<<"$output")" "$a rejected"
	wait_for pushed "$a" small
	refute got "$a" 'big@'
}

@test "john and aaron become friends: the seed, word for word, from the web application" {
	nginx_start "$BATS_TEST_TMPDIR/web"
	mkdir "$NGINX_DIR/www/contacts"
	for kind in prosody ejabberd; do
		server "$kind"
		cat >"$NGINX_DIR/www/contacts/john" <<-'END'
			{
			"marie@example.com": {
			"name": "Marie"
			},

			"michael@example.com": {
			"name": "Michael"
			}
			}
		END
		echo '{}' >"$NGINX_DIR/www/contacts/aaron"
		rm -f ./*.log
		refresh() { roster-fetch --url "http://127.0.0.1:$NGINX_PORT/contacts/%s" john aaron | apply; }
		online john
		online aaron
		run -0 refresh
		assert_line "$(changes john 2 0 0)"
		assert_line "$(changes aaron 0 0 0)"
		wait_for got john 'type=.set' 'jid=.marie@example.com' 'name=.Marie' 'subscription=.both'
		wait_for got john 'type=.set' 'jid=.michael@example.com' 'name=.Michael' 'subscription=.both'
		refute got aaron 'type=.set'

		jq '. + {"aaron@vhost.test": {"name": "Aaron"}}' "$NGINX_DIR/www/contacts/john" >john.json
		mv john.json "$NGINX_DIR/www/contacts/john"
		echo '{"john@vhost.test": {"name": "John"}}' >"$NGINX_DIR/www/contacts/aaron"
		run -0 refresh
		assert_line "$(changes john 1 0 0)"
		assert_line "$(changes aaron 1 0 0)"
		wait_for pushed john aaron 'name=.Aaron'
		wait_for pushed aaron john 'name=.John'
		wait_for sees john aaron
		wait_for sees aaron john

		# a web application that fails changes nothing
		rm "$NGINX_DIR/www/contacts/john"
		run refresh
		assert_line --partial '"error":"http-404"'
		assert_line "$(changes aaron 0 0 0)"
		end john || true
		end aaron || true
	done
	nginx_stop "$BATS_TEST_TMPDIR/web"
}

@test "POST /roster_admin/refresh: what the web application has is on the screens of who is online" {
	nginx_start "$BATS_TEST_TMPDIR/web"
	contacts=$NGINX_DIR/www/contacts
	mkdir "$contacts"
	for kind in prosody ejabberd; do
		server "$kind"
		rm -f ./*.log "$contacts"/*
		echo "{\"$b@vhost.test\":{\"name\":\"Bob\",\"groups\":[\"Work\"]}}" >"$contacts/$a"
		echo "{\"$a@vhost.test\":{\"name\":\"Alice\"}}" >"$contacts/$b"
		online "$a"
		online "$b"
		# shellcheck disable=SC2016
		start listener roster-refresh-listen -v --listen 127.0.0.1:0 -- sh -c \
			'url=$1; shift; roster-fetch -q --url "$url" | roster-apply -q "$@"' sh \
			"http://127.0.0.1:$NGINX_PORT/contacts/%s" "${how[@]}"
		wait_for grep -q 'listening on' listener.err
		url=http://$(sed -n 's/.*listening on //p' listener.err)/roster_admin/refresh
		asked() { curl -sS -m 60 "$@" | jq -c '[.status, .updated, .errors]'; }

		# no roster changes by itself
		refute got "$a" '<iq' 'type=.set'
		assert_equal "$(asked -d "[\"$a\", \"$b\", \"$a\"]" "$url")" '["ok",2,0]'
		wait_for pushed "$a" "$b" 'name=.Bob' '<group>Work</group>' 'subscription=.both'
		wait_for pushed "$b" "$a" 'name=.Alice' 'subscription=.both'
		wait_for sees "$a" "$b"
		wait_for sees "$b" "$a"

		# one worker for as long as the listener runs; the counts are right
		echo '{}' | tee "$contacts/$a" >"$contacts/$b"
		assert_equal "$(asked "$url/$a")" '["ok",1,0]'
		wait_for pushed "$a" "$b" 'subscription=.remove'
		assert_equal "$(asked -d "[\"$b\", \"$c\"]" "$url")" '["ok",1,1]'
		assert_equal "$(asked -d "[\"$c\"]" "$url")" '["error",0,1]'
		run roster_of "$b"
		refute_output --partial "$a@"
		end listener
		refute grep "cannot write" listener.err
		end "$a" || true
		end "$b" || true
	done
	nginx_stop "$BATS_TEST_TMPDIR/web"
}

# --- servers and users that go away

@test "a full disk, a closed standard output: 74" {
	server prosody
	RECORD=$(record "$a" "$b") run bash -c 'echo "$RECORD" | roster-apply -q "$@" >/dev/full' bash "${how[@]}"
	assert_failure 74
	assert_output --partial 'cannot write standard output: No space left on device'
	RECORD=$(record "$a" "$b") run bash -c 'echo "$RECORD" | roster-apply -q "$@" >&-' bash "${how[@]}"
	assert_failure 74
}

@test "no server: 75, with --retries 69; what was read has its result" {
	server prosody
	server_free_port
	nowhere=(--host vhost.test --domain rosters.test --connect "127.0.0.1:$FREE_PORT" --secret-file "$SECRET_FILE")
	record "$a" "$b" >in
	run -75 --separate-stderr roster-apply "${nowhere[@]}" <in
	# shellcheck disable=SC2154
	assert_equal "$stderr" "roster-apply: cannot connect to 127.0.0.1:$FREE_PORT: Connection refused"
	run -69 --separate-stderr roster-apply -q "${nowhere[@]}" --retries 1 <in
	assert_equal "$(jq -r '"\(.user) \(.error)"' <<<"$output")" "$a connect"
}

@test "SIGTERM: the records in hand are finished, 0" {
	server prosody
	fed apply roster-apply -q "${how[@]}"
	many "$a" 100 >&9
	wait_for roster_begun
	end apply
	exec 9>&-
	assert_equal "$(cat apply.out)" "$(changes "$a" 100 0 0)"
}

roster_begun() { roster_of "$a" | grep -q contact0@; }

@test "the server restarts in the middle: 75 from a pipe; with --retries it goes on" {
	prosody_start "$BATS_TEST_TMPDIR/prosody" --tls off
	a=alice b=bob
	as rosters.test
	how
	fed apply roster-apply -q "${how[@]}"
	many "$a" 400 >&9
	wait_for roster_begun
	prosody_restart "$SERVER_DIR"
	status=0
	await apply || status=$?
	assert_equal "$status" 75
	exec 9>&-
	assert_equal "$(jq -r '"\(.user) \(.error)"' apply.out)" 'alice connect'

	fed apply roster-apply -q "${how[@]}" --max-removals none --retries 100
	record "$a" >&9
	wait_for test -s apply.out
	many "$a" 300 >&9
	wait_for roster_begun
	prosody_restart "$SERVER_DIR"
	exec 9>&-
	await apply
	assert_equal "$(tail -n 1 apply.out | jq -r .status)" ok
	assert_equal "$(apply < <(many "$a" 300))" "$(changes "$a" 0 0 0)"
	prosody_stop "$SERVER_DIR"
}

# --- users who log in

logins()
{
	server "$1"
	as rosters.test
	if [[ $SERVER_KIND == prosody ]]; then how=(--host vhost.test "${component[@]}"); else how+=("${component[@]}"); fi
	fed apply roster-apply -q "${how[@]}" "$2"
	# once a record is done, the advertisement has arrived
	record "$c" "$b" >&9
	wait_for grep -q '"status":"ok"' apply.out
	online "$a"
	wait_for grep -q "{\"event\":\"login\",\"user\":\"$a\"}" apply.out
	online "$b"
	wait_for grep -q "{\"event\":\"login\",\"user\":\"$b\"}" apply.out
	assert_equal "$(grep -c "login.*$a" apply.out)" 1
	# another session within 10 s is the same login
	end "$a" || true
	online "$a" work
	online "$c"
	wait_for grep -q "{\"event\":\"login\",\"user\":\"$c\"}" apply.out
	assert_equal "$(grep -c "login.*\"$a\"" apply.out)" 1
	exec 9>&-
	await apply
}

@test "Prosody: --login-events: one for each user who comes online" { logins prosody --login-events; }
@test "Prosody: --login-events=all" { logins prosody --login-events=all; }
@test "ejabberd: --login-events beside the API" { logins privileges --login-events; }
@test "ejabberd: --login-events=all beside the API" { logins privileges --login-events=all; }

@test "a presence that is not a session's own login is no event" {
	server prosody
	how=(--host vhost.test "${component[@]}" --login-events)
	fed apply roster-apply -q "${how[@]}"
	record "$c" "$b" >&9
	wait_for grep -q '"status":"ok"' apply.out
	# presence from other domains, of another component, without a resource
	xmpp-connect -q --domain open.test --connect "127.0.0.1:$(component_port open.test)" --secret-file "$SECRET_FILE" --wait 20 <<-END
		<presence from='x@open.test/r' to='rosters.test'/>
		<presence from='x@vhost.test' to='rosters.test'/>
		<message from='vhost.test.evil' to='rosters.test'><privilege xmlns='urn:xmpp:privilege:2'/></message>
		<message from='open.test' to='rosters.test'><privilege xmlns='urn:xmpp:privilege:2'/></message>
	END
	record "$a" "$b" >&9
	wait_for grep -q "\"$a\"" apply.out
	refute grep -q event apply.out
	exec 9>&-
	await apply
}

# --- clients of the unix socket

# listening OPTION...: start it as "apply", listening on ./sock
listening()
{
	start apply roster-apply "${how[@]}" --listen-unix "$PWD/sock" "$@"
	wait_for listens "$PWD/sock"
}
# client_of NAME: as client, in the background
client_of()
{
	cat >"$1.in"
	start "$1" bash -c 'exec timeout 30 socat -t 20 - UNIX-CONNECT:sock <"$0"' "$1.in"
}
client() { timeout 30 socat -t 20 - UNIX-CONNECT:sock; }

@test "--listen-unix: results go to the client that sent the record, events to standard output" {
	server prosody
	how+=(--login-events)
	listening
	assert_equal "$(stat -c %a sock)" 600
	client_of one < <(for i in {1..20}; do record "$a" "$b=Name$i"; done)
	client_of two < <(for i in {1..20}; do record "$b" "$a=Name$i"; done)
	client_of three < <(echo '{"user":"x","status":"error","error":"timeout"}')
	await one
	await two
	await three
	assert_equal "$(jq -r .user one.out | sort | uniq -c | xargs)" "20 $a"
	assert_equal "$(jq -r .user two.out | sort | uniq -c | xargs)" "20 $b"
	assert_equal "$(jq -r .user three.out)" x
	online "$c"
	wait_for grep -q '"event":"login"' apply.out
	refute grep -q status apply.out

	# when a client leaves while its record is in hand, the record is done and nobody else is disturbed
	many "$c" 200 | timeout 5 socat -u - UNIX-CONNECT:sock
	run -0 client < <(record "$a" "$b=Last")
	assert_output "$(changes "$a" 0 1 0)"
	WAIT_S=30 wait_for roster_has "$c" contact199@

	run -75 roster-apply -q "${how[@]}" --listen-unix sock
	assert_output --partial "somebody listens on 'sock' already"
	end apply
	assert_not_exists sock
}

roster_has() { roster_of "$1" | grep -q "$2"; }

@test "--listen-unix: a stale socket is replaced, other files are not; --unix-mode" {
	server prosody
	python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
	listening --unix-mode 0660
	wait_for eval '[[ $(stat -c %a sock) == 660 ]]'
	run -0 client < <(record "$a" "$b")
	assert_output "$(changes "$a" 1 0 0)"
	end apply
	echo mine >file
	run -78 roster-apply -q "${how[@]}" --listen-unix file
	assert_equal "$(cat file)" mine
	run -78 roster-apply -q "${how[@]}" --listen-unix sock --unix-mode 9
}

@test "LISTEN_FDS: a socket of systemd-socket-activate" {
	server ejabberd
	start apply systemd-socket-activate -l "$PWD/sock" "$BINDIR/roster-apply" -q "${how[@]}"
	wait_for listens "$PWD/sock"
	run -0 client < <(record "$a" "$b")
	assert_output "$(changes "$a" 1 0 0)"
	run -0 client < <(record "$a" "$b")
	assert_output "$(changes "$a" 0 0 0)"
	end apply
	assert_exists sock
}

@test "the server restarts while clients wait: a listening service comes back by itself" {
	prosody_start "$BATS_TEST_TMPDIR/prosody" --tls off
	a=alice b=bob
	as rosters.test
	how
	listening
	run -0 client < <(record "$a" "$b")
	prosody_stop "$SERVER_DIR"
	client_of one < <(record "$b" "$a")
	prosody_restart "$SERVER_DIR"
	await one
	assert_equal "$(cat one.out)" "$(changes "$b" 1 0 0)"
	end apply
	prosody_stop "$SERVER_DIR"
}

@test "wrong usage: 64, and what is missing" {
	while read -r want options; do
		# shellcheck disable=SC2086
		run --separate-stderr -64 roster-apply $options </dev/null
		assert_equal "$options: ${stderr_lines[0]}" "$options: roster-apply: ${want//_/ }"
	done <<-'END'
		--host_is_needed --domain d
		--domain_is_needed --host h
		--secret-file_is_needed --host h --domain d
		--via_ejabberd-api_needs_--api --host h --via ejabberd-api
		--domain_is_needed --host h --via ejabberd-api --api http://127.0.0.1/api --login-events
		--on-behalf_needs_--via_privilege --host h --via ejabberd-api --api http://127.0.0.1/api --on-behalf
	END
}

# --- what the users have asked for themselves

# asks USER CONTACT: send a request
asks()
{
	printf '%s\n' '<presence/>' "<presence type='subscribe' to='$2@vhost.test'/>" \
		"<iq type='get' id='r1'><query xmlns='jabber:iq:roster'/></iq>" |
		xmpp-connect -q --jid "$1@vhost.test/ask" --connect "127.0.0.1:$C2S_PORT" --tls off \
			--password-file "$PASSWORD_FILE" --wait 20 | grep -m 1 "id=.r1"
}

# asked USER: what users see at login of requests
asked()
{
	printf '%s\n' '<presence/>' "<iq type='get' id='r1'><query xmlns='jabber:iq:roster'/></iq>" |
		xmpp-connect -q --jid "$1@vhost.test/look" --connect "127.0.0.1:$C2S_PORT" --tls off \
			--password-file "$PASSWORD_FILE" --wait 20 | grep -e 'type=.subscribe' -e 'ask='
}

requests()
{
	server "$1"
	# both records make them friends
	asks "$a" "$b"
	run asked "$b"
	assert_output --partial subscribe
	run -0 apply < <(record "$a" "$b" && record "$b" "$a")
	for user in "$a" "$b"; do
		run asked "$user"
		assert_output ''
	done
	for user in "$a" "$b"; do
		run roster_of "$user"
		assert_output --regexp 'subscription=.both'
	done
	run -0 apply < <(record "$a" "$b" && record "$b" "$a")
	assert_line "$(changes "$a" 0 0 0)"
	assert_line "$(changes "$b" 0 0 0)"
	# they are no contacts, says the web application: the request has gone as well
	asks "$a" "$c"
	run -0 apply < <(record "$a" "$b")
	assert_output "$(changes "$a" 0 0 1)"
	for user in "$a" "$c"; do
		run asked "$user"
		assert_output ''
	done
	# the one who was asked alone: nobody is asked again
	asks "$b" "$c"
	run -0 apply < <(record "$c" "$b")
	assert_output "$(changes "$c" 1 0 0)"
	run asked "$c"
	assert_output ''
	assert_equal "$(apply < <(record "$c" "$b"))" "$(changes "$c" 0 0 0)"
	# only a name is wanted: the request goes, the contact is there
	asks "$c" "$a"
	run -0 apply < <(record "$c" "$b" "$a=A==none")
	assert_output "$(changes "$c" 0 1 0)"
	run asked "$a"
	assert_output ''
	run asked "$c"
	assert_output ''
	assert_equal "$(apply < <(record "$c" "$b" "$a=A==none"))" "$(changes "$c" 0 0 0)"
}

@test "Prosody: requests are answered by what the records say" { requests prosody; }
@test "ejabberd: requests are answered by what the records say" { requests ejabberd; }

@test "ejabberd: a request that comes in hides a contact with subscription none: added once" {
	server ejabberd
	asks "$a" "$b"
	run -0 apply < <(record "$b" "$a=A==none")
	assert_output "$(changes "$b" 1 0 0)"
	assert_equal "$(apply < <(record "$b" "$a=A==none"))" "$(changes "$b" 0 0 0)"
}

@test "ejabberd: a user's own item with a resource never costs the bare contact" {
	server ejabberd
	apply < <(record "$a" "$b=Bob") >/dev/null
	echo "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='$b@vhost.test/x'/></query></iq>" |
		xmpp-connect -q --jid "$a@vhost.test/own" --connect "127.0.0.1:$C2S_PORT" --tls off \
			--password-file "$PASSWORD_FILE" --wait 20 | grep -m 1 result
	# it has taken the place of the bare one, which comes back, and stays
	apply < <(record "$a" "$b=Bob") >/dev/null
	run -0 apply < <(record "$a" "$b=Bob")
	assert_output "$(changes "$a" 0 0 0)"
	run roster_of "$a"
	assert_output --partial "name='Bob'"
}

@test "ejabberd: the other side is put back on another host of the same server, too" {
	server ejabberd
	api() { curl -fsS "http://127.0.0.1:$HTTP_API_PORT/api/$1" -d "$2"; }
	api register "{\"user\":\"$b\",\"host\":\"second.test\",\"password\":\"pw\"}" >/dev/null
	theirs() { api get_roster "{\"user\":\"$b\",\"host\":\"second.test\"}" | jq -r '.[].subscription'; }
	roster="{\"$b@second.test\":{}}"
	for also in '' second.test; do
		apply < <(jq -nc --arg u "$a" --argjson r "$roster" '{user: $u, status: "ok", roster: $r}') >/dev/null
		group='"group":""'
		api add_rosteritem "{\"localuser\":\"$b\",\"localhost\":\"second.test\",\"user\":\"$a\",\"host\":\"vhost.test\",\"nick\":\"\",\"subs\":\"both\",$group}" >/dev/null ||
			api add_rosteritem "{\"localuser\":\"$b\",\"localhost\":\"second.test\",\"user\":\"$a\",\"host\":\"vhost.test\",\"nick\":\"\",\"subs\":\"both\",\"groups\":[]}" >/dev/null
		assert_equal "$(theirs)" both
		run -0 apply ${also:+--also-host "$also"} < <(record "$a")
		assert_output "$(changes "$a" 0 0 1)"
		[[ -z $also ]] || assert_equal "$(theirs)" both
	done
	run -64 apply --also-host @ </dev/null
}

# --- what stays

stays()
{
	server "$1"
	apply < <(record "$a" "$b=Bob=Team" "$c=Carol" d1 d2 d3) >/dev/null
	# keys that are no contacts: nothing is removed, what is to be added is
	record "$a" new | jq -c '.roster.error = "database is down"' >doubtful
	run -1 apply <doubtful
	assert_equal "$(jq -c '[.error, .added, .removed, .withheld, .skipped]' <<<"${lines[-1]}")" \
		'["removals-withheld",1,0,5,1]'
	# what is kept, by each way to say it, and users that are left alone
	run -0 apply --keep "$c@vhost.test" --keep '*.test' < <(record "$a")
	assert_output "$(changes "$a" 0 0 0)"
	run -0 apply --keep vhost.test < <(record "$a" "$b=Other")
	assert_output "$(changes "$a" 0 0 0)"
	run -0 apply --skip-user "$a" < <(record "$a")
	assert_output "{\"user\":\"$a\",\"status\":\"ok\",\"added\":0,\"updated\":0,\"removed\":0,\"left\":\"skip-user\"}"
	run -0 apply --keep-group Team --keep "$c@vhost.test" < <(record "$a")
	assert_output "$(changes "$a" 0 0 4)"
	assert_equal "$(apply < <(record "$a" "$b=Bob=Team" "$c=Carol"))" "$(changes "$a" 0 0 0)"
	# more than half of more than ten
	apply < <(many "$a" 12) >/dev/null
	run -1 apply < <(many "$a" 5)
	assert_equal "$(jq -c '[.error, .withheld]' <<<"$output")" '["too-many-removals",7]'
	run -0 apply < <(many "$a" 5 | jq -c '.removals = "all"')
	assert_output "$(changes "$a" 0 0 7)"
	for wrong in x 5% 101% -1 '' 1%%; do
		[[ $wrong == 5% ]] || run -64 apply --max-removals "$wrong" </dev/null
	done
}

@test "Prosody: what is doubtful, kept or too much is not removed" { stays prosody; }
@test "ejabberd: what is doubtful, kept or too much is not removed" { stays ejabberd; }

# --- servers that are told how to be

# fake_api CODE: an API whose answer to COMMAND and BODY (bytes) the Python code makes: status, text
fake_api()
{
	cat >fake.py <<-END
		import http.server, json
		def answer(command, body):
		$(awk '{ print "    " $0 }' <<<"$1")
		class Api(http.server.BaseHTTPRequestHandler):
		    protocol_version = 'HTTP/1.1'
		    def do_POST(self):
		        body = self.rfile.read(int(self.headers['Content-Length']))
		        print(self.path, body.decode(), flush=True)
		        status, text = answer(self.path, body)
		        self.send_response(status)
		        self.send_header('Content-Length', str(len(text)))
		        self.end_headers()
		        self.wfile.write(text)
		    def log_message(self, *_): pass
		server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Api)
		print(server.server_port, flush=True)
		server.serve_forever()
	END
	start api python3 fake.py
	wait_for test -s api.out
	api=http://127.0.0.1:$(head -n 1 api.out)
}

through() { timeout 20 roster-apply -q --host vhost.test --via ejabberd-api --api "$@"; }

@test "an API that says anything but 0 has refused: nothing is removed" {
	fake_api "$(printf '%s\n' 'if "check_account" in command: return 200, b"0"' \
		'if "get_roster" in command: return 200, b"[{\"jid\":\"old@vhost.test\",\"nick\":\"\",\"subscription\":\"both\",\"ask\":\"none\",\"group\":\"\"}]"' \
		'return 200, b"1"')"
	run -1 through "$api/api" < <(record alice bob)
	assert_equal "$(jq -c '[.error, .message, .withheld]' <<<"$output")" '["rejected","bob@vhost.test: HTTP 200: 1",1]'
}

# hanging ARGUMENT...: the records are applied through an API that gives nothing of mallory's
hanging()
{
	fake_api "$(printf '%s\n' 'import time' 'if b"\"user\":\"mallory\"" in body: time.sleep(300)' \
		'if "get_roster" in command: return 200, b"[]"' 'return 200, b"0"')"
	# shellcheck disable=SC2016
	start apply bash -c 'exec roster-apply -q --host vhost.test --via ejabberd-api --drain-time 0.1 "$@" <records' \
		hanging --api "$api/api" "$@"
}

@test "a user whose roster the API never gives holds up nobody else" {
	# many more of the one user than are done at the same time; user20 is at odds with the user
	for i in {1..200}; do record mallory bob user20; done >records
	for i in {1..20}; do record "user$i" bob; done >>records
	hanging --jobs 4 --timeout 100
	# the records of the others are done before the first of those that hang is given up
	wait_for eval '(($(wc -l <apply.out) == 19))'
	assert_equal "$(jq -r '.user + " " + .status' apply.out | sort)" "$(printf 'user%d ok\n' {1..19} | sort)"
	# each record has one result
	status=0
	end apply || status=$?
	assert_equal "$status" 1
	assert_equal "$(grep -c '"user":"mallory","status":"error"' apply.out)" 200
	assert_equal "$(wc -l <apply.out)" 220
	end api || true

	# a user who is at odds with the one that hangs waits for one of that user's records, not for all
	{ for i in {1..50}; do record mallory alice; done && record alice; } >records
	hanging --timeout 2
	wait_for grep -q '"user":"alice","status":"ok"' apply.out
	assert_equal "$(head -n 2 apply.out | jq -r '.user + " " + .status')" $'mallory error\nalice ok'
	status=0
	end apply || status=$?
	assert_equal "$status" 1
	assert_equal "$(wc -l <apply.out)" 51
}

@test "how the API wants to be asked is found out" {
	local how rest path
	declare -A apis
	apis[old]='if "/v" in command: return 400, b"{\"status\":\"error\",\"code\":40,\"message\":\"Missing command name.\"}"
if b"\"groups\"" in body: return 400, b"\"Request have unknown arguments: [groups]\""'
	apis[new]='if command.startswith("/api/v"): return 400, b"\"unknown_command\""
if b"\"group\"" in body: return 400, b"\"Request have unknown arguments: [group]\""'
	apis[both]='if b"\"groups\"" in body and "/v1" not in command: return 400, b"\"Request have unknown arguments: [groups]\""
if b"\"group\"" in body and "/v1" in command: return 400, b"\"Request have unknown arguments: [group]\""'
	rest='if "get_roster" in command: return 200, b"[]"
return 200, b"0"'
	for how in old new both; do
		fake_api "${apis[$how]}
$rest"
		for path in /api /api/v1 /api/; do
			run -0 through "$api$path" < <(record alice bob=B=G)
			assert_output "$(changes alice 1 0 0)"
		done
		end api || true
	done
	run cat api.out
	assert_output --partial '"groups":["G"]'
	assert_output --partial '/api/add_rosteritem/v1'
}

@test "access to the API that is missing is said as the lines to add: 78" {
	while IFS='|' read -r status text line; do
		fake_api "return $status, b'$text'"
		run -78 through "$api/api" < <(record alice bob)
		assert_output --partial "$line"
		assert_output --partial '"status":"error"'
		end api || true
	done <<-'END'
		404|{"code":40,"message":"Endpoint not found.","status":"error"}|mod_admin_extra
		404|<html><body>404</body></html>|request_handlers: { /api: mod_http_api }
		403|{"status":"error","code":32,"message":"AccessRules: Account does not have the right to perform the operation."}|api_permissions
		401|{"code":10,"message":"Oauth Token is invalid or expired.","status":"error"}|api_permissions
	END
}

# fake_server STEP...: a component port; see its help
fake_server()
{
	start fake "$TESTS/servers/fake-component-server.py" --timeout 20 "$*"
	wait_for grep -q ^port fake.out
	fake_port=$(sed -n 's/^port //p' fake.out)
	(umask 077 && echo secret >secret)
}
component_apply() { timeout 20 roster-apply --host vhost.test --domain rosters.test --connect "127.0.0.1:$fake_port" --secret-file secret "$@"; }

@test "a server that stores every subscription as none is told of: 78" {
	to="to='rosters.test'"
	query="<query xmlns='jabber:iq:roster'>"
	fake_server "up ; send <message from='vhost.test' $to><privilege xmlns='urn:xmpp:privilege:2'><perm access='roster' type='both'/></privilege></message>" \
		"; reply <iq type='result' id='%i' from='alice@vhost.test' $to>$query</query></iq>" \
		"; reply <iq type='result' id='%i' from='alice@vhost.test' $to/>" \
		"; reply <iq type='result' id='%i' from='alice@vhost.test' $to>$query<item jid='bob@vhost.test' subscription='none'/></query></iq> ; wait-close"
	run -78 component_apply < <(record alice bob)
	assert_output --partial 'use --via ejabberd-api'
}

@test "exactly the permission that is missing is said, for the server that is there" {
	to="to='rosters.test'"
	has="up ; send <message from='vhost.test' $to><privilege xmlns='urn:xmpp:privilege:2'><perm access='roster' type='both'/></privilege></message>"
	version() { echo "; reply <iq type='result' id='%i' from='vhost.test' $to><query xmlns='jabber:iq:version'><name>$1</name></query></iq> ; wait-close"; }
	fake_server "$has" "$(version Prosody)"
	run -78 component_apply --on-behalf < <(record alice bob)
	assert_output --partial 'privileged_entities = { ["rosters.test"] = { presence = "managed_entity"; } }'
	refute_output --partial 'roster = '
	refute_output --partial ejabberd
	end fake || true
	fake_server "$has" "$(version ejabberd)"
	run -78 component_apply --login-events < <(record alice bob)
	assert_output --partial 'managed_entity: component'
	refute_output --partial Prosody
}

@test "hostile records at the default limits take less than 200 MiB" {
	[[ -z ${WRAP:-} && -e $BUILDDIR/preload/failmalloc.so ]] || not_here "sanitizers take memory of their own"
	python3 - >hostile <<-'END'
		print('{"user":"a","status":"ok","roster":{"a@b":{"x":[' + ",".join(["{}"] * 399000) + ']}}}')
		print('{"user":"b","status":"ok","roster":{' + ",".join('"u%d@b":{"name":"%s"}' % (i, "n" * 600) for i in range(19999)) + '}}')
		print('{"user":"c","status":"ok","roster":{' + ",".join('"u%d@b":{"groups":[%s]}' % (i, ",".join('"g%d"' % g for g in range(17))) for i in range(19999)) + '}}')
		print('{"user":"d","status":"ok","roster":{},"skipped":[' + ",".join('{"contact":"u%d@b","why":"w"}' % i for i in range(130000)) + ']}')
	END
	# all records that may be in hand at once are
	fake_api "$(printf '%s\n' 'import time' 'if "get_roster" in command: time.sleep(1)' \
		'return 200, b"[]" if "get_roster" in command else b"0"')"
	for i in 1 2 3 4; do cat hostile; done >many
	run python3 -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdin=open("many"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' \
		timeout 60 roster-apply -q --dry-run --host vhost.test --via ejabberd-api --api "$api/api"
	echo "# hostile records: $((output / 1024)) MiB" >&3
	assert [ "$output" -lt $((200 * 1024)) ]
}
