#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2317 # variables that start sets, functions that wait_for calls
# outboard-scale(7): every display of that page is run on a real server, and users go on being served while
# a process is ended.

load lib
load displays

setup_file()
{
	displays_begin outboard-scale.7
	# restart notes@N: end the process of that instance, then run its display again, and wait until it is there,
	# as for a unit of Type=notify
	stand_in systemctl <<-'END'
		#!/bin/sh
		came() { grep -c 'has come' "$NOTES/share.err"; }
		n=${2#*@} before=$(came)
		pid=$(cat "$NOTES/$n.pid")
		kill -TERM -- "-$pid"
		while kill -0 -- "-$pid" 2>/dev/null; do sleep 0.1; done
		setsid sh -eu "$NOTES/notes$n.script" >"$NOTES/notes$n.again" 2>&1 3>&- &
		echo $! >"$NOTES/$n.pid"
		while [ "$(came)" = "$before" ]; do sleep 0.1; done
	END
	mkdir -p "$R"/etc/outboard "$R/usr/local/lib/outboard" "$R/var/lib/outboard/xmpp-jat-proxy/two"
	export SHARE_PORT CLUSTER_PORT REDIS_PORT REFRESH_PORT
	server_free_port && SHARE_PORT=$FREE_PORT
	server_free_port && CLUSTER_PORT=$FREE_PORT
	server_free_port && REDIS_PORT=$FREE_PORT
	server_free_port && REFRESH_PORT=$FREE_PORT
	for name in xmpp-jat-proxy xmpp-manage; do (umask 077 && echo secret >"$R/etc/outboard/$name.secret"); done
	jat-encode --create-key --key-file "$R/etc/outboard/jat-keys"
	cat >"$R/usr/local/lib/outboard/notes" <<-'END'
		#!/bin/sh
		note="<note xmlns='urn:example:notes'>milk</note>"
		exec sed -uE "s,^<iq[^>]* id=['\"]([^'\"]*).*,<iq type='result' id='\1'>$note</iq>,"
	END
	chmod 755 "$R/usr/local/lib/outboard/notes"
	nginx_start "$BATS_FILE_TMPDIR/web"
	prosody_start "$BATS_FILE_TMPDIR/prosody" --host example.org --component notes.example.org \
		--delegate urn:example:notes=notes.example.org
	cd "$BATS_FILE_TMPDIR" || return
	part 'AN EJABBERD CLUSTER.1' >printed
	sed 's/^node=1/node=2/' "$R/text/AN EJABBERD CLUSTER.1" >"$R/text/node2"
	CLUSTER_PORT2=$CLUSTER_PORT
	server_free_port && CLUSTER_PORT2=$FREE_PORT
	export CLUSTER_PORT2
	part node2 | sed "s/port: $CLUSTER_PORT/port: $CLUSTER_PORT2/" >>printed
	rm "$R/text/node2"
	sed -i '/^node2$/d' parts
	ejabberd_with_printed "$BATS_FILE_TMPDIR/ejabberd" --host example.org --no-delegate
}

teardown_file()
{
	prosody_stop "$BATS_FILE_TMPDIR/prosody"
	ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd"
	nginx_stop "$BATS_FILE_TMPDIR/web"
}

setup() { [[ -z ${WRAP:-} ]] || not_here 'programs are installed ones here'; }
teardown()
{
	local name pid
	for pid in *.pid; do [[ ! -e $pid ]] || kill -TERM -- "-$(<"$pid")" 2>/dev/null || true; done
	for name in "${!started[@]}"; do kill -TERM -- "-${started[$name]}" 2>/dev/null || true; done
	stop_all
}

here_also()
{
	sed -e "s/127\.0\.0\.1:5350/127.0.0.1:$SHARE_PORT/g; s/127\.0\.0\.1:5349/127.0.0.1:$CLUSTER_PORT/g" \
		-e "s/port: 5349/port: $CLUSTER_PORT/" \
		-e "s/127\.0\.0\.1:6379/127.0.0.1:$REDIS_PORT/g; s/127\.0\.0\.1:5280/127.0.0.1:$REFRESH_PORT/g"
}

noted() { asks "$1" --to example.org "<note xmlns='urn:example:notes'/>" | grep -qF '>milk</note>'; }

@test "instances behind xmpp-share are replaced one after the other, and every request is answered" {
	world prosody
	start_part 'SEVERAL INSTANCES OF ONE COMPONENT.1' share
	export NOTES=$PWD
	for n in 1 2; do
		start_part 'SEVERAL INSTANCES OF ONE COMPONENT.2' "notes$n"
		echo "${started[notes$n]}" >"$n.pid"
	done
	both() { grep -qF '(2 are there)' share.err; }
	wait_for both
	wait_for noted alice
	start restarts part 'A NEW VERSION.1'
	for ((i = 0; i < 20; i++)); do
		for user in alice bob carol; do noted "$user"; done
	done
	await restarts
	for user in alice bob carol; do noted "$user"; done
}

@test "two proxies with domains of their own on ejabberd: one goes, users are served" {
	world ejabberd
	served() { asks "$1" --to proxy.example.org --version-of | grep -q 'lives in a client'; }
	start_part 'AN EJABBERD CLUSTER.2' one
	sed "s/127\.0\.0\.1:5349/127.0.0.1:$CLUSTER_PORT2/; s/proxy1/proxy2/; s,xmpp-jat-proxy$,xmpp-jat-proxy/two," \
		"$R/text/AN EJABBERD CLUSTER.2" >"$R/text/two"
	start_part two two
	rm "$R/text/two"
	sed -i '/^two$/d' "$BATS_FILE_TMPDIR/parts"
	client impl
	for user in alice bob carol john; do wait_for served "$user"; done
	end_part one
	for user in alice bob carol john; do served "$user"; done
}

@test "an endpoint puts each name into its stream, also those of a time without the broker" {
	command -v redis-server >/dev/null || not_here 'no redis here'
	world prosody
	part 'ROSTERS.1'
	start_part 'ROSTERS.2' endpoint
	healthy() { curl -fsS "http://127.0.0.1:$REFRESH_PORT/health" >/dev/null 2>&1; }
	wait_for healthy
	refresh() { curl -sS -d "$1" "http://127.0.0.1:$REFRESH_PORT/roster_admin/refresh"; }
	run refresh '["john"]'
	assert_output --partial '"pending":1'
	assert_output --partial '"john":"connect"'
	start redis redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --dir "$PWD" --save '' --appendonly no
	redis() { redis-cli -p "$REDIS_PORT" --raw "$@" 2>/dev/null; }
	stream_of() { echo "rosters:$(($(printf %s "$1" | cksum | cut -d ' ' -f 1) % 2))"; }
	times() { redis XRANGE "$(stream_of "$1")" - + | grep -cxF -e "$1" || true; }
	once() { [[ $(times "$1") == 1 ]]; }
	wait_for once john
	run refresh '["john","marie","Zoë","-x"]'
	assert_output --partial '"updated":4'
	assert_equal "$(times john) $(times marie) $(times Zoë) $(times -x)" '2 1 1 1'
	assert_equal "$(($(redis XLEN rosters:0) + $(redis XLEN rosters:1)))" 5
	end_part endpoint
}

@test "every display of the page was run" {
	assert_equal "$(parts_missing)" ''
}
