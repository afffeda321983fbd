#!/usr/bin/env bats
# shellcheck disable=SC2154 # what start sets
# outboard-setup(7), followed like a reader who has only the manuals: every display of that page is run, with
# real servers, inetd, s6 and cron's rules, and then users ask for what was set up.
#
# Files go below $R, where `make install` has put the programs; only paths and ports of the text are
# changed. Commands that need a whole machine have stand-ins in $R/stand-ins: systemctl starts units as systemd
# would (tools/systemctl.py), and all users and groups are our own.

load lib
load displays

setup_file()
{
	displays_begin outboard-setup.7
	stand_ins

	nginx_start "$BATS_FILE_TMPDIR/web"
	mkdir -p "$NGINX_DIR/www/contacts"
	echo '{"marie@example.org":{"name":"Marie"}}' >"$NGINX_DIR/www/contacts/john"
	echo '{"john@example.org":{"name":"John"}}' >"$NGINX_DIR/www/contacts/marie"
	printf 'john\nmarie\nnobody\n' >"$NGINX_DIR/www/users"
	export REFRESH_PORT HEALTH_PORT NOTES_PORT
	server_free_port && REFRESH_PORT=$FREE_PORT
	server_free_port && HEALTH_PORT=$FREE_PORT
	server_free_port && NOTES_PORT=$FREE_PORT
	sed -i "/\[::1\]/d; s/127\.0\.0\.1:5280/127.0.0.1:$REFRESH_PORT/" "$R"/usr/lib/systemd/system/*.socket

	# The host's file, which an administrator has already
	echo 'VirtualHost "example.org"' >"$R/etc/prosody/conf.d/example.org.cfg.lua"
	part 'SECRETS AND KEYS.1'
	part 'PROSODY 0.12: The components.1'
	part 'PROSODY 0.12: The host.1'
	part 'WHAT THE JOBS NEED.1'
	prosody_start "$BATS_FILE_TMPDIR/prosody" --host example.org --user health --no-delegate \
		--append "Include \"$R/etc/prosody/conf.d/*.cfg.lua\""
	part 'WHAT THE JOBS NEED.2'
	part 'WITHOUT SYSTEMD.1'
	(umask 077 && echo pw >"$R/etc/outboard/health.password")
}

teardown_file()
{
	prosody_stop "$BATS_FILE_TMPDIR/prosody"
	ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd"
	ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd2"
	nginx_stop "$BATS_FILE_TMPDIR/web"
}

setup()
{
	[[ -z ${WRAP:-} ]] || not_here 'programs are installed ones here'
	world prosody
}

teardown()
{
	local unit pid
	for unit in "$R"/run/*.pid; do
		[[ ! -e $unit ]] || "$R/stand-ins/systemctl" stop "$(basename "$unit" .pid)" || true
	done
	for pid in $(holders "$R"/var/lib/outboard/*.lock); do kill "$pid" || true; done
	stop_all
	[[ -n ${BATS_TEST_COMPLETED:-} ]] || tail -n 20 refreshed "$R"/run/*.log 2>/dev/null || true
}

# --- the world

stand_ins()
{
	printf '#!/bin/sh\nSYSTEMCTL_ROOT=%q exec python3 %q "$@"\n' "$R" "$TESTS/tools/systemctl.py" |
		stand_in systemctl
	# an xmpp-iq that trusts the server's certificate
	printf '#!/bin/sh\nSSL_CERT_FILE=%q exec %q "$@"\n' "$BATS_FILE_TMPDIR/prosody/ca.pem" "$R/usr/bin/xmpp-iq" |
		stand_in xmpp-iq
	stand_in adduser <<<'#!/bin/sh'
	stand_in chgrp <<<'#!/bin/sh'
	printf '#!/bin/sh\nshift\nexec "$@"\n' | stand_in s6-setuidgid
	# install(1) without its users and groups
	stand_in install <<-'END'
		#!/bin/bash
		for a; do
			if [[ ${skip:-} ]]; then skip=; elif [[ $a == -[og] ]]; then skip=1; else args+=("$a"); fi
		done
		exec /usr/bin/install "${args[@]}"
	END
}

here_also()
{
	sed -E -e "s/127\.0\.0\.1:5280/127.0.0.1:$REFRESH_PORT/g" \
		-e "s/127\.0\.0\.1:5290/127.0.0.1:$HEALTH_PORT/g; s/127\.0\.0\.1:5291/127.0.0.1:$NOTES_PORT/g" \
		-e "s/nowait (outboard|nobody) /nowait $(id -un) /; s,nowait (.*)usr/bin/xmpp-iq,nowait \1stand-ins/xmpp-iq,"
}

# holders FILE...: print the ids of the processes that have locked one. Only root could look at the open
# files of our programs (PR_SET_DUMPABLE).
holders()
{
	local file
	for file; do
		[[ ! -e $file ]] || awk -v at=":$(stat -c %i "$file")$" '$6 ~ at { print $5 }' /proc/locks
	done
}

client_serves() { asks alice --to proxy.example.org --version-of | grep -q 'lives in a client'; }
note_is_told() { asks bob --to "${1:-example.org}" "<note xmlns='urn:example:notes'/>" | grep -qF '>milk</note>'; }
refresh()
{
	curl -sS -m 30 -d "$1" "http://127.0.0.1:$REFRESH_PORT/roster_admin/refresh" >refreshed &&
		grep -q '"updated":1,' refreshed
}

# forget USER: empty the roster
forget()
{
	local contact
	for contact in $(contacts "$1"); do
		asks "$1" --type set "<query xmlns='jabber:iq:roster'><item jid='$contact' subscription='remove'/></query>"
	done
	assert_equal "$(contacts "$1")" ''
}

# --- the page, part by part

@test "secrets are their owner's, the servers' configuration is not for everybody" {
	for file in "$R"/etc/outboard/*.secret "$R"/etc/outboard/jat-keys; do
		assert [ "$(stat -c %s "$file")" -gt 30 ]
		# the mode that "WITHOUT SYSTEMD" has set
		assert_equal "$(stat -c '%a' "$file")" 640
	done
	assert_equal "$(sort -u "$R"/etc/outboard/*.secret | wc -l)" 4
	assert_equal "$(stat -c '%a' "$R/etc/prosody/conf.d/outboard.cfg.lua")" 640
	assert_equal "$(stat -c '%a' "$R/var/lib/outboard")" 700
}

@test "under systemd: the three jobs" {
	client impl
	part 'SYSTEMD.1'
	wait_for client_serves
	part 'SYSTEMD.2'
	note_is_told
	part 'SYSTEMD.3'
	part 'SYSTEMD.4'
	note_is_told service.example.org
	# systemd still understands the unit with the drop-in
	for own in sysinit basic shutdown multi-user sockets network; do
		echo '[Unit]' >"$R/usr/lib/systemd/system/$own.target"
	done
	echo '[Unit]' | tee "$R/usr/lib/systemd/system/-.mount" >"$R/usr/lib/systemd/system/system.slice"
	part 'SYSTEMD.5'
	mkdir -p "$R/bin" && : >"$R/bin/kill" && chmod +x "$R/bin/kill"
	run systemd-analyze verify --man=no --root="$R" roster-refresh-listen.service
	assert_success
	assert_output ''
	wait_for refresh '["john"]'
	assert_equal "$(contacts john)" marie@example.org
	cp "$PASSWORD_FILE" password
	run part 'TRYING IT.1'
	assert_success
	assert_line --partial 'lives in a client'
	assert_line --partial '>milk</note>'
	assert_line --partial '"updated":1,'
	# its worker holds the component's domain; stop it before another program takes that
	"$R/stand-ins/systemctl" stop roster-refresh-listen
	run part 'SYSTEMD.6'
	assert_success
	assert_line --partial '{"user":"john","status":"ok"'
}

@test "under s6: the three jobs, all ready; what cannot work stays down" {
	client impl
	command -v s6-svscan >/dev/null || skip 'no s6 here'
	forget john
	part 'S6.1'
	part 'S6.2'
	part 'S6.3'
	# a fourth service, without its secret, exits with 78
	cp -R "$R/etc/outboard/s6/xmpp-jat-proxy" "$R/etc/outboard/broken"
	sed -i 's/xmpp-jat-proxy.secret/no.secret/' "$R/etc/outboard/broken/run"
	start broken "${unsearched[@]}" PATH="$R/stand-ins:$R/usr/bin:$PATH" s6-supervise "$R/etc/outboard/broken"
	# the display starts the machine's scanner in the background; here the test starts one
	assert_equal "$(cat "$R/text/S6.4")" 's6-svscan /etc/outboard/s6 &'
	echo 'S6.4' >>"$BATS_FILE_TMPDIR/parts"
	start svscan "${unsearched[@]}" PATH="$R/stand-ins:$R/usr/bin:$PATH" s6-svscan "$R/etc/outboard/s6"
	for service in "$R"/etc/outboard/s6/*; do wait_for s6-svok "$service"; done
	part 'S6.5'
	for service in "$R"/etc/outboard/s6/*; do
		assert_equal "$(s6-svstat -o up,ready "$service")" 'true true'
	done
	wait_for client_serves
	note_is_told
	wait_for refresh '["john"]'
	assert_equal "$(contacts john)" marie@example.org
	refused() { [[ $(s6-svstat -o up,exitcode,wantedup "$R/etc/outboard/broken") == 'false 78 false' ]]; }
	wait_for refused
	s6-svc -x "$R/etc/outboard/broken"
	await broken
	s6-svscanctl -t "$R/etc/outboard/s6"
	await svscan
	rm -r "$R/etc/outboard/s6"
}

@test "from cron: daemons kept running, rosters at night, the question whether it serves" {
	client impl
	part 'CRON.1'
	run python3 "$TESTS/tools/crontab.py" "$R/etc/cron.d/outboard" "$PWD"
	assert_success
	assert_equal "$(cut -d' ' -f2 <<<"$output" | sort -u)" outboard
	assert_equal "${#lines[@]}" 5
	# run commands as cron does: its shell, its variables and no others
	grep -qx "PATH=/usr/local/bin:$R/usr/bin:/bin" "$R/etc/cron.d/outboard"
	cron() { env -i HOME="$R" SHELL=/bin/sh SSL_CERT_FILE="$TLS_CA" PATH="$R/usr/bin:$PATH" sh -c "$(<"$1.command")" <"$1.stdin"; }
	forget john
	for job in 1 2 3; do start "job$job" cron "$job"; done
	wait_for client_serves
	wait_for note_is_told
	wait_for listens "$R/var/lib/outboard/rosters.sock"
	# in the next minute they are running already, and nothing is said
	for job in 1 2 3; do
		run cron "$job"
		assert_equal "$output" ''
	done
	# at night john and marie are fetched, and there is a mail about the user "nobody"
	run cron 4
	assert_success
	assert_output --partial '{"user":"nobody","status":"error","error":"http-404"'
	refute_line --partial '"status":"ok"'
	assert_equal "$(contacts john) $(contacts marie)" 'marie@example.org john@example.org'
	# no mail while the service answers
	run cron 5
	assert_success
	assert_output ''
	end impl || true
	run cron 5
	assert_failure
	assert_output --partial service-unavailable
}

@test "from inetd: the endpoint for each connection, the handler, the question whether it serves" {
	client impl
	command -v inetd >/dev/null || skip 'no inetd here'
	forget john
	: >"$R/etc/inetd.conf"
	part 'S6.1'
	part 'S6.2'
	part 'INETD.1'
	part 'INETD.2'
	part 'INETD.3'
	part 'INETD.4'
	part 'CRON.1'
	python3 "$TESTS/tools/crontab.py" "$R/etc/cron.d/outboard" "$PWD"
	start inetd inetd -d "$R/etc/inetd.conf"
	PATH=$R/stand-ins:$R/usr/bin:$PATH
	start manage sh -c 'exec 3>/dev/null "$0"' "$R/etc/outboard/s6/xmpp-manage/run"
	for job in 1 3; do start "job$job" sh -c "$(<"$job.command")"; done
	wait_for listens "$R/var/lib/outboard/rosters.sock"
	wait_for refresh '["john"]'
	assert_equal "$(contacts john)" marie@example.org
	wait_for note_is_told
	wait_for client_serves
	run socat -t30 - "TCP:127.0.0.1:$HEALTH_PORT" </dev/null
	assert_output --partial 'lives in a client'
}

# Rosters that only the web application changes: users are refused, roster-apply is not, and the clients
# that a proxy subscribes to can still accept.
only_the_application_changes_rosters()
{
	run asks carol --type set "<query xmlns='jabber:iq:roster'><item jid='bob@example.org'/></query>"
	assert_failure 1
	assert_output --partial 'not-allowed'
	echo "<presence type='subscribe' to='carol@example.org'/>" >subscribe
	xmpp-connect -q --jid bob@example.org --password-file "$PASSWORD_FILE" --connect "127.0.0.1:$C2S_PORT" <subscribe
	assert_equal "$(contacts carol)$(contacts bob)" ''
	echo '{"user":"carol","status":"ok","roster":{"bob@example.org":{"name":"Bob"}}}' >record
	run roster-apply --host example.org "$@" <record
	assert_success
	assert_equal "$(contacts carol)" bob@example.org
	client impl
	wait_for client_serves
}

@test "Prosody: only the web application changes rosters" {
	part 'PROSODY 0.12: Rosters that only the web application changes.1'
	prosody_restart "$BATS_FILE_TMPDIR/prosody"
	part 'SYSTEMD.1'
	only_the_application_changes_rosters --on-behalf --connect "127.0.0.1:$COMPONENT_PORT" \
		--domain rosters.example.org --secret-file "$R/etc/outboard/rosters.secret"
	sed -i 's/, "firewall"//; /firewall/d' "$R/etc/prosody/conf.d/example.org.cfg.lua"
	prosody_restart "$BATS_FILE_TMPDIR/prosody"
}

@test "ejabberd: what is printed belongs into its configuration; the three jobs" {
	printed printed 'EJABBERD 23.01: The lines of ejabberd.yml.1'
	assert_equal "$(grep -c "port: \($EJABBERD_PORT\|$EJABBERD_API_PORT\)" printed)" 2
	ejabberd_with_printed "$BATS_FILE_TMPDIR/ejabberd" --host example.org --no-delegate
	world ejabberd
	client impl
	COMPONENT_PORT=$EJABBERD_PORT
	part 'SYSTEMD.1'
	wait_for client_serves
	part 'SYSTEMD.2'
	wait_for note_is_told
	run -0 roster-apply --host example.org --via ejabberd-api --api "http://127.0.0.1:$EJABBERD_API_PORT/api" < <(
		roster-fetch --url "http://127.0.0.1:$NGINX_PORT/contacts/%s" john
	)
	assert_equal "$(contacts john)" marie@example.org
	ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd"
}

@test "ejabberd: rosters at the login, and only the web application changes them" {
	printed printed 'EJABBERD 23.01: The lines of ejabberd.yml.1' 'EJABBERD 23.01: Rosters at the login.1' \
		'EJABBERD 23.01: Rosters that only the web application changes.1'
	ejabberd_with_printed "$BATS_FILE_TMPDIR/ejabberd2" --host example.org --no-delegate
	world ejabberd2
	api=(--via ejabberd-api --api "http://127.0.0.1:$EJABBERD_API_PORT/api")
	COMPONENT_PORT=$EJABBERD_PORT
	part 'SYSTEMD.1'
	only_the_application_changes_rosters "${api[@]}"
	mkfifo records
	exec 9<>records
	start apply sh -c 'exec <records 9>&- "$@"' sh roster-apply --host example.org --login-events "${api[@]}" \
		--connect "127.0.0.1:$EJABBERD_PORT2" --domain rosters.example.org \
		--secret-file "$R/etc/outboard/rosters.secret"
	# once a record is done, the privileges have been advertised
	cat record >&9
	wait_for grep -q '"status":"ok"' apply.out
	client john
	wait_for grep -q '"event":"login","user":"john"' apply.out
	exec 9>&-
	end apply || true
	ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd2"
}

@test "every display of the page was run" {
	assert_equal "$(parts_missing)" ''
}
