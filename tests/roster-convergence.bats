#!/usr/bin/env bats
# Rosters converge, on both doors: whatever they were, and whatever users have asked each other, a
# second run changes nothing, and what users then see is what the records say.
#   ROSTER_PAIRS   pairs of users (default 8)
# shellcheck disable=SC2154 # facts of the servers

load lib
load stream
load servers/both

setup_file() { both_start --tls off; }
teardown() { stop_all; }

# records FILE SEED: random records of all users, who are each other's contacts or not, and have others
records()
{
	python3 - "$pairs" "$2" >"$1" <<-'END'
		import json, random, sys
		pairs, seed = int(sys.argv[1]), sys.argv[2]
		random.seed(seed)
		users = ["p%d%s" % (i, side) for i in range(pairs) for side in "ab"]
		for user in users:
		    other = user[:-1] + ("b" if user[-1] == "a" else "a")
		    contacts = [other] * (random.random() < 0.7) + random.sample(users, 2)
		    contacts += ["x%d" % random.randrange(5)] * (random.random() < 0.5)
		    roster = {}
		    for contact in set(contacts) - {user}:
		        item = {"subscription": random.choice(["none", "to", "from", "both", "both", "both"])}
		        if random.random() < 0.6:
		            item["name"] = random.choice(["Zoë", "B & <C>", "\"quoted\"", "日本", " two  spaces "])
		        if random.random() < 0.6:
		            item["groups"] = random.sample(["Work", "Ärzte", "a&b", "<g>"], random.randrange(1, 4))
		        host = "gone.example" if contact[0] == "x" else "vhost.test"
		        roster["%s@%s" % (contact, host)] = item
		    print(json.dumps({"user": user, "status": "ok", "roster": roster, "removals": "all"}))
	END
}

# seen USER: what the user sees at login, as a record's roster; requests among it as "asked"
seen()
{
	printf '%s\n' '<presence/>' "<iq type='get' id='r1'><query xmlns='jabber:iq:roster'/></iq>" |
		xmpp-connect -q --jid "$1@vhost.test/look" --connect "127.0.0.1:$C2S_PORT" --tls off \
			--password-file "$PASSWORD_FILE" --wait 20 |
		python3 -c '
import json, sys, xml.etree.ElementTree as xml
user, roster = sys.argv[1], {}
for stanza in xml.fromstring("<s>" + sys.stdin.read() + "</s>"):
    if stanza.get("type") == "subscribe":
        roster["asked by " + stanza.get("from")] = 1
    if stanza.get("id") != "r1":
        continue
    for item in stanza[0]:
        one = {"subscription": item.get("subscription")}
        if item.get("name"): one["name"] = item.get("name")
        groups = sorted(g.text for g in item)
        if groups: one["groups"] = groups
        if item.get("ask"): one["ask"] = item.get("ask")
        roster[item.get("jid")] = one
print(json.dumps({user: roster}, sort_keys=True))' "$1"
}

converges()
{
	local user
	pairs=${ROSTER_PAIRS:-8}
	server_facts "$BATS_FILE_TMPDIR/$1"
	if [[ $SERVER_KIND == prosody ]]; then
		how=(--on-behalf --domain rosters.test --connect "127.0.0.1:$(component_port rosters.test)" --secret-file "$SECRET_FILE")
	else
		how=(--via ejabberd-api --api "http://127.0.0.1:$HTTP_API_PORT/api")
	fi
	apply() { timeout 300 roster-apply -q --host vhost.test "${how[@]}"; }
	records before 1
	records wanted "$1"
	users=$(jq -r .user wanted)
	for user in $users; do server_add_user "$SERVER_DIR" "$user"; done
	apply <before >first
	assert_equal "$(jq -r .status first | sort -u)" ok
	# some ask each other, in both directions; none asks for what it has
	for ((i = 0; i < pairs; i += 2)); do
		{
			echo '<presence/>'
			for contact in "p${i}b@vhost.test" "p$((i + 1))b@vhost.test"; do
				jq -e --arg u "p${i}a" --arg c "$contact" 'select(.user == $u) |
					.roster[$c].subscription | . != "to" and . != "both"' before >can || continue
				echo "<presence type='subscribe' to='$contact'/>"
			done
			echo "<iq type='get' id='r1'><query xmlns='jabber:iq:roster'/></iq>"
		} |
			xmpp-connect -q --jid "p${i}a@vhost.test/ask" --connect "127.0.0.1:$C2S_PORT" --tls off \
				--password-file "$PASSWORD_FILE" --wait 20 | grep -m 1 -q 'id=.r1'
	done
	apply <wanted >second
	assert_equal "$(jq -r .status second | sort -u)" ok
	apply <wanted >third
	assert_equal "$(jq -c '[.status, .added, .updated, .removed]' third | sort -u)" '["ok",0,0,0]'
	for user in $users; do seen "$user"; done >rosters
	assert_equal "$(cat rosters)" "$(python3 -c '
import json
for line in open("wanted"):
    record = json.loads(line)
    for item in record["roster"].values():
        if "groups" in item: item["groups"].sort()
    print(json.dumps({record["user"]: record["roster"]}, sort_keys=True))')"
}

@test "Prosody: a second run changes nothing, and users see what the records say" { converges prosody; }
@test "ejabberd: a second run changes nothing, and users see what the records say" { converges ejabberd; }
