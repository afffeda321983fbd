#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2317 # variables that start sets, functions that wait_for calls
# outboard-recipes(7): every display of that page is run, on a Prosody that is set up as the manuals say,
# and then it has to do what the page says. What answers and sends messages is tried on ejabberd, too.

load lib
load displays

setup_file()
{
	displays_begin outboard-recipes.7
	printf '%s\n' '#!/bin/sh' '[ "$1" != status ] || echo "status of $4"' | stand_in systemctl
	stand_in newaliases <<<'#!/bin/sh'
	printf '%s\n' '#!/bin/sh' 'echo "Filesystem 1024-blocks Used Available Capacity Mounted on"' \
		'cat "$DF"' | stand_in df
	export PATH=$R/stand-ins:$PATH
	mkdir -p "$R"/etc/outboard "$R/usr/local/lib/outboard" "$R/var/log"
	nginx_start "$BATS_FILE_TMPDIR/web"
	mkdir -p "$NGINX_DIR/www/contacts"
	for user in john marie aaron; do
		echo '{"alice@example.org":{"name":"Alice"}}' >"$NGINX_DIR/www/contacts/$user"
	done
	export REDIS_PORT
	server_free_port && REDIS_PORT=$FREE_PORT
	export MQTT_PORT
	server_free_port && MQTT_PORT=$FREE_PORT

	# Set the server up as outboard-setup(7) does
	for name in xmpp-jat-proxy xmpp-manage rosters; do
		(umask 077 && echo "the secret of $name" >"$R/etc/outboard/$name.secret")
	done
	(umask 077 && echo pw >"$R/etc/outboard/bot.password")
	jat-encode --create-key --key-file "$R/etc/outboard/jat-keys"
	cat >"$R/etc/prosody/conf.d/outboard.cfg.lua" <<-END
		VirtualHost "example.org"
		    modules_enabled = { "delegation", "privilege" }
		    delegations = { ["urn:example:notes"] = { jid = "notes.example.org" } }
		    privileged_entities = { ["rosters.example.org"] = { roster = "both"; presence = "managed_entity" } }
		Component "rooms.example.org" "muc"
		Component "proxy.example.org"
		    component_secret = "the secret of xmpp-jat-proxy"
		Component "notes.example.org"
		    component_secret = "the secret of xmpp-manage"
		    modules_enabled = { "delegation" }
		Component "rosters.example.org"
		    component_secret = "the secret of rosters"
		    modules_enabled = { "privilege" }
		    validate_from_addresses = false
	END
	part 'DESCRIPTION: Secrets.1'
	part 'DESCRIPTION: Prosody.1'
	prosody_start "$BATS_FILE_TMPDIR/prosody" --host example.org --user bot --no-delegate \
		--append "Include \"$R/etc/prosody/conf.d/*.cfg.lua\""
	part 'DESCRIPTION: ejabberd.1' >"$BATS_FILE_TMPDIR/hosts"
	cat >"$BATS_FILE_TMPDIR/printed" <<-END
		listen:
		  - port: 5347
		    ip: 127.0.0.1
		    module: ejabberd_service
		    global_routes: false
		    hosts:
		$(cat "$BATS_FILE_TMPDIR/hosts")
		      notes.example.org:
		        password: "the secret of xmpp-manage"
		acl:
		  notes:
		    server: notes.example.org
		access_rules:
		  notes:
		    allow: notes
		modules:
		  mod_muc: {}
		  mod_delegation:
		    namespaces:
		      "urn:example:notes":
		        access: notes
	END
	export EJABBERD_PORT
	server_free_port && EJABBERD_PORT=$FREE_PORT
	cd "$BATS_FILE_TMPDIR" || return
	sed -i "s/port: 5347/port: $EJABBERD_PORT/" printed
	ejabberd_with_printed "$BATS_FILE_TMPDIR/ejabberd" --host example.org --user bot --no-delegate
}

teardown_file()
{
	prosody_stop "$BATS_FILE_TMPDIR/prosody"
	ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd"
	nginx_stop "$BATS_FILE_TMPDIR/web"
}

setup()
{
	[[ -z ${WRAP:-} ]] || not_here 'programs are installed ones here'
	parts=()
	on prosody
}

teardown()
{
	local name
	for name in "${parts[@]}"; do kill -TERM -- "-${started[$name]}" 2>/dev/null || true; done
	stop_all
}

here_also() { sed -e "s/127\.0\.0\.1:6379/127.0.0.1:$REDIS_PORT/g; s/-p 1883/-p $MQTT_PORT/"; }

# on KIND: use that server from now on
on()
{
	world "$1"
	[[ $1 == prosody ]] || export COMPONENT_PORT=$EJABBERD_PORT
}

# running NAME AS: start the display NAME; it is ended with the test
running()
{
	parts+=("$2")
	start_part "$1" "$2"
}

# as_user USER: logged in, in the background; what arrives is in USER.out, `say USER STANZA` sends
as_user()
{
	rm -f "$1.in" "$1.ready"
	mkfifo "$1.in"
	# shellcheck disable=SC2016
	start "$1" sh -c 'exec <>"$0.in" "$@"' "$1" xmpp-connect -q --jid "$1@example.org/x" --presence \
		--password-file "$PASSWORD_FILE" --connect "127.0.0.1:$C2S_PORT" --ready-fd 5 5>"$1.ready"
	wait_for test -s "$1.ready"
}
say() { echo "$2" >"$1.in"; }

note() { asks "$1" --to example.org "${@:2}" "<note xmlns='urn:example:notes'/>" 2>&1; }
noted() { note "$1" | grep -qF "$2"; }

# --- messages

# told SUBJECT BODY: alice has a message with these
told() { grep "<message" alice.out | grep -F "<subject>$1</subject>" | grep -qF "<body>$2"; }

@test "alerts from cron" {
	part 'MESSAGES: Alerts from cron.1'
	part 'MESSAGES: Alerts from cron.2'
	for kind in prosody ejabberd; do
		on "$kind"
		part 'MESSAGES: Alerts from cron.1'
		as_user alice
	as_user bob
		run python3 "$TESTS/tools/crontab.py" "$R/etc/cron.d/disk" "$PWD"
		assert_success
		export DF=$PWD/df
		cron() { env -i DF="$DF" PATH="$R/stand-ins:$R/usr/bin:$PATH" sh -c "$(<1.command)"; }
		echo '/dev/sda1 100 10 90 10% /' >"$DF"
		cron
		printf '/dev/sda1 100 95 5 95%% /\n/dev/sdb1 100 10 90 10%% /home\n' >"$DF"
		cron
		wait_for told 'disk nearly full' '/dev/sda1 100 95 5 95% /'
		assert_equal "$(grep -c '<message.*disk nearly' alice.out)" 1
		end alice || true
		end bob || true
	done
}

@test "an alert when a unit fails" {
	part 'MESSAGES: Alerts from cron.1'
	part 'MESSAGES: When a unit fails.1'
	as_user alice
	as_user bob
	command=$(sed -n 's/^ExecStart=//p' "$R/etc/systemd/system/alert@.service")
	PATH=$R/stand-ins:$R/usr/bin:$PATH bash -c "${command//%i/nginx.service}"
	wait_for told 'nginx.service has failed' 'status of nginx.service'
	mkdir -p root/etc/systemd/system root/bin root/usr/lib/systemd/system
	cp /bin/true root/bin/sh
	for own in sysinit basic shutdown; do echo '[Unit]' >"root/usr/lib/systemd/system/$own.target"; done
	echo '[Unit]' | tee root/usr/lib/systemd/system/-.mount >root/usr/lib/systemd/system/system.slice
	cp "$R/etc/systemd/system/alert@.service" root/etc/systemd/system/alert@nginx.service
	run systemd-analyze verify --man=no --root="$PWD/root" alert@nginx.service
	assert_output ''
	assert_file_contains "$R/etc/systemd/system/nginx.service.d/alert.conf" '^OnFailure=alert@%n.service$'
}

@test "messages from MQTT" {
	command -v mosquitto >/dev/null || skip 'no mosquitto here'
	printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$MQTT_PORT" >mosquitto.conf
	start broker mosquitto -c mosquitto.conf
	as_user alice
	running 'MESSAGES: From MQTT.1' mqtt
	heard() { mosquitto_pub -h 127.0.0.1 -p "$MQTT_PORT" -t alarms/cellar -m 'water <3 cm>' && grep -qF '<body>alarms/cellar: water &lt;3 cm' alice.out; }
	wait_for heard
	end_part mqtt
}

@test "a mail becomes a message" {
	part 'MESSAGES: From a mailbox.1'
	assert_file_contains "$R/etc/aliases" '^ops: "|.*/mail-to-xmpp alice@example.org"$'
	as_user alice
	command=$(sed -n 's/^ops: "|\(.*\)"$/\1/p' "$R/etc/aliases")
	printf 'From: a@b\nSubject: backup done\nX: y\n\nall 3 files\n\nbye\n' |
		PATH=$R/usr/bin:$PATH sh -c "$command"
	wait_for told 'backup done' 'all 3 files'
	printf 'From: a@b\n\nno subject\n' | PATH=$R/usr/bin:$PATH sh -c "$command"
	wait_for told mail 'no subject'
}

@test "a log into a room" {
	part 'MESSAGES: A log into a room.1'
	for kind in prosody ejabberd; do
		on "$kind"
		rooms=$([[ $kind == prosody ]] && echo rooms || echo conference)
		sed -i "s/@[a-z]*\.example\.org/@$rooms.example.org/" "$R/text/MESSAGES: A log into a room.2"
		as_user alice
		say alice "<presence to='ops@$rooms.example.org/alice'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
		wait_for grep -q "from='ops@$rooms.example.org/alice'" alice.out
		say alice "<iq type='set' id='own' to='ops@$rooms.example.org'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query></iq>"
		wait_for grep -q "id='own'" alice.out
		: >"$R/var/log/daemon.log"
		running 'MESSAGES: A log into a room.2' log
		wait_for grep -q "from='ops@$rooms.example.org/log'" alice.out
		echo 'all is well' >>"$R/var/log/daemon.log"
		echo 'disk error <sda>' >>"$R/var/log/daemon.log"
		wait_for grep -q "<message.*<body>disk error &lt;sda&gt;</body>" alice.out
		run grep -c 'all is well' alice.out
		assert_output 0
		end_part log
		end alice || true
	done
}

# --- asking

@test "ping and version of many addresses" {
	for kind in prosody ejabberd; do
		on "$kind"
		client impl
		{
			echo example.org
			echo impl@example.org/a
			for ((i = 0; i < 1000; i++)); do echo "nobody$i@example.org/x"; done
		} >"$R/var/lib/outboard/jids"
		part 'ASKING: Ping and version of many addresses.1' >pings
		assert_equal "$(wc -l <pings)" 1002
		assert_file_contains pings "^example.org	"
		assert_equal "$(grep -c '^nobody.*	service-unavailable$' pings)" 1000
		part 'ASKING: Ping and version of many addresses.2' >versions
		assert_file_contains versions "^impl@example.org/a	name lives in a client$"
		assert_file_contains versions "^example.org	.*name "
		end impl || true
	done
}

# --- watching

@test "wait until a user comes online" {
	printf '{"user":"%s","status":"ok","roster":{"%s@example.org":{}}}\n' bot alice alice bot |
		roster-apply -q --on-behalf --host example.org --connect "127.0.0.1:$COMPONENT_PORT" \
			--domain rosters.example.org --secret-file "$R/etc/outboard/rosters.secret"
	running 'WATCHING: Wait until a user comes online.1' waiting
	come() { as_user alice; end alice || true; [[ -s waiting.out ]]; }
	wait_for come
	await waiting
	assert_file_contains waiting.out '^alice@example.org/.* is online$'
}

@test "a running proxy is watched" {
	running 'WATCHING: A running proxy.1' watched
	client impl
	served() { asks alice --to proxy.example.org --version-of | grep -q 'lives in a client'; }
	wait_for served
	assert_file_contains "$R/var/lib/outboard/in" "from='alice@example.org"
	run part 'WATCHING: A running proxy.2'
	assert_success
	assert_line --regexp '^ *[1-9][0-9]* alice@example.org/[^ ]*$'
	running 'WATCHING: A running proxy.3' counting
	counted() { tail -n 1 counting.out | jq -e '."jabber:iq:version" > 0 and ."urn:example:other" == 1'; }
	asks alice --to proxy.example.org --timeout 1 "<query xmlns='urn:example:other'/>" || true
	wait_for counted
	end_part counting
	end_part watched
}

@test "who is online" {
	running 'WATCHING: Who is online.1' logins
	online() { as_user "$1"; end "$1" || true; grep -qx "$1" "$R/var/lib/outboard/logins"; }
	wait_for online john
	wait_for online marie
	end_part logins
}

# --- answering

bot_answers()
{
	say alice "<message type='chat' to='$1'><body>hello</body></message>"
	wait_for grep -q "<message.*from='$1.*<body>hello, alice</body>" alice.out
	say alice "<message type='chat' to='$1'><body>what?</body></message>"
	wait_for grep -q "<message.*from='$1.*<body>I know date and hello</body>" alice.out
	say alice "<message type='chat' to='$1'><body>date</body></message>"
	wait_for grep -qE "<message.*from='$1.*<body>20[0-9T:-]+Z</body>" alice.out
}

@test "a bot" {
	part 'ANSWERING: A bot.1'
	for kind in prosody ejabberd; do
		on "$kind"
		as_user alice
		running 'ANSWERING: A bot.2' bot
		say alice "<presence type='subscribe' to='bot@example.org'/>"
		online() { say alice "<message type='chat' to='bot@example.org'><body>hello</body></message>"; grep -q "hello, alice" alice.out; }
		wait_for online
		bot_answers bot@example.org
		end_part bot
		running 'ANSWERING: A bot.3' component
		online() { say alice "<message type='chat' to='any@bot.example.org'><body>hello</body></message>"; grep -q "from='bot.example.org'.*hello, alice" alice.out; }
		wait_for online
		bot_answers bot.example.org
		end_part component
		end alice || true
	done
}

@test "a namespace in awk" {
	part 'ANSWERING: A namespace in awk.1'
	for kind in prosody ejabberd; do
		on "$kind"
		running 'ANSWERING: A namespace in awk.2' awk
		wait_for noted alice '>asked 1 times</note>'
		noted bob '>asked 2 times</note>'
		end_part awk
	done
}

@test "a namespace in Python" {
	part 'ANSWERING: A namespace in Python.1'
	for kind in prosody ejabberd; do
		on "$kind"
		running 'ANSWERING: A namespace in Python.2' python
		kept() { asks alice --to example.org --type set "<note xmlns='urn:example:notes'>a &amp; b</note>" >/dev/null 2>&1; noted alice '>a &amp; b</note>'; }
		wait_for kept
		run note bob
		refute_output --partial 'a &amp;'
		end_part python
	done
}

@test "a namespace in jq" {
	part 'ANSWERING: A namespace in jq.1'
	for kind in prosody ejabberd; do
		on "$kind"
		running 'ANSWERING: A namespace in jq.2' jq
		wait_for noted alice '>milk</note>'
		run note alice --type set
		assert_failure
		assert_output --partial 'not-allowed: read only'
		end_part jq
	done
}

# --- rosters

# roster-apply as its unit runs it
applying()
{
	start apply roster-apply -q --listen-unix "$R/run/outboard/rosters.sock" --on-behalf --host example.org \
		--connect "127.0.0.1:$COMPONENT_PORT" --domain rosters.example.org \
		--secret-file "$R/etc/outboard/rosters.secret"
	wait_for listens "$R/run/outboard/rosters.sock"
}

# redis_run: a Redis of this test's own
redis_run()
{
	start redis redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --dir "$PWD" --save '' --appendonly no
	answers() { [[ $(redis-cli -p "$REDIS_PORT" ping 2>/dev/null) == PONG ]]; }
	wait_for answers
}
pending() { redis-cli -p "$REDIS_PORT" --raw XPENDING "$1" outboard | head -n 1; }

@test "every night, with a report" {
	printf 'john\nmarie\nnobody\nnone\n' >"$NGINX_DIR/www/users"
	part 'MESSAGES: Alerts from cron.1'
	part 'ROSTERS: Every night, with a report.1'
	applying
	as_user alice
	as_user bob
	run python3 "$TESTS/tools/crontab.py" "$R/etc/cron.d/rosters" "$PWD"
	assert_success
	env -i PATH="$R/usr/bin:$PATH" sh -c "$(<1.command)"
	wait_for told 'rosters of the night' '4 rosters, 2 errors'
	assert_file_contains alice.out 'http-404: nobody, none'
	assert_equal "$(contacts john)" alice@example.org
}

@test "several machines and a broker: nothing is lost with a consumer" {
	command -v redis-server >/dev/null || skip 'no redis here'
	redis_run
	part 'ROSTERS: Several machines and a broker.1' >log
	part 'ROSTERS: Several machines and a broker.3'
	applying
	# a consumer took these and was killed before it had done anything
	part 'ROSTERS: Several machines and a broker.2' >>log
	for n in 0 1; do
		redis-cli -p "$REDIS_PORT" XREADGROUP GROUP outboard consumer COUNT 100 STREAMS "rosters:$n" '>' >>log
	done
	assert_equal "$(($(pending rosters:0) + $(pending rosters:1)))" 2
	running 'ROSTERS: Several machines and a broker.4' zero
	sed -e 's/consumer 0/consumer 1/; s/rosters\.0/rosters.1/g' "$R/text/ROSTERS: Several machines and a broker.4" \
		>"$R/text/one"
	running one one
	rm "$R/text/one"
	applied() { [[ $(contacts "$1") == alice@example.org ]]; }
	wait_for applied john
	wait_for applied marie
	done_with() { [[ $(pending rosters:0)$(pending rosters:1) == 00 ]]; }
	wait_for done_with
	# new names, too
	sed -i 's/^changed [jm].*//' "$R/text/ROSTERS: Several machines and a broker.2"
	echo 'changed aaron' >>"$R/text/ROSTERS: Several machines and a broker.2"
	part 'ROSTERS: Several machines and a broker.2' >>log
	wait_for applied aaron
	wait_for done_with
	end_part zero
	end_part one
}

@test "every display of the page was run" {
	assert_equal "$(parts_missing)" ''
}
