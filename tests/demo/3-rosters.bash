# shellcheck shell=bash
# Act 3: rosters from a web application. It does beside Prosody what mod_http_roster_admin does inside it.
# shellcheck source=tests/demo/lib.sh
. "$DEMO_ROOT/tests/demo/lib.sh"

say "== roster-refresh-listen -- roster-fetch | roster-apply: the web application knows who is whose contact =="
prosody_start "$DEMO_DIR/prosody"
nginx_start "$DEMO_DIR/web"
server_facts "$DEMO_DIR/prosody"
mkdir -p web/www/contacts
echo '{}' | tee web/www/contacts/john >web/www/contacts/aaron
echo "Prosody runs on 127.0.0.1:$C2S_PORT (clients) and 127.0.0.1:$COMPONENT_PORT (components),"
echo "the web application on 127.0.0.1:$NGINX_PORT."

# Both are online; what they receive is in john.log and aaron.log.
for user in john aaron; do
	start_ready xmpp-connect -q --jid "$user@vhost.test/home" --connect "127.0.0.1:$C2S_PORT" \
		--tls required --tls-ca "$TLS_CA" --password-file "$PASSWORD_FILE" --ready-fd 3 -- \
		bash -c 'echo "<iq type=\"get\" id=\"1\"><query xmlns=\"jabber:iq:roster\"/></iq><presence/>"
			cat >"$0"' "$user.log"
	until_true grep -q "<presence.*$user@vhost.test/home" "$user.log"
	echo "$user@vhost.test is logged in, with $(cat "web/www/contacts/$user") for contacts."
done

url=http://127.0.0.1:$NGINX_PORT/contacts/%s
apply=(roster-apply -q --host vhost.test --on-behalf --domain rosters.test
	--connect "127.0.0.1:$COMPONENT_PORT" --secret-file "$SECRET_FILE")

say "They become friends in the web application:"
echo '{"aaron@vhost.test":{"name":"Aaron","groups":["Friends"]}}' >web/www/contacts/john
echo '{"john@vhost.test":{"name":"John","groups":["Friends"]}}' >web/www/contacts/aaron
server_free_port
# shellcheck disable=SC2016
start_ready roster-refresh-listen -q --listen "127.0.0.1:$FREE_PORT" --ready-fd 3 -- \
	bash -c 'roster-fetch -q --url "$0" | "$@"' "$url" "${apply[@]}"
echo "    curl -d '[\"john\", \"aaron\"]' http://127.0.0.1:$FREE_PORT/roster_admin/refresh"
curl -sS -m 30 -d '["john", "aaron"]' "http://127.0.0.1:$FREE_PORT/roster_admin/refresh" >answer
echo "    $(cat answer)"
grep -q '"updated": *2' answer

# arrived USER PATTERN...: the line that USER received and that matches all patterns
arrived()
{
	local lines pattern
	lines=$(cat "$1.log")
	for pattern in "${@:2}"; do lines=$(grep -e "$pattern" <<<"$lines") || return 1; done
	tail -n 1 <<<"$lines"
}

say "At once, on both screens:"
for pair in john:aaron aaron:john; do
	user=${pair%:*} friend=${pair#*:}
	push=('<iq' 'type=.set' "jid=.$friend@vhost.test")
	presence=('<presence' "from=.$friend@vhost.test/home")
	until_true arrived "$user" "${push[@]}" >/dev/null
	until_true arrived "$user" "${presence[@]}" >/dev/null
	show "$user receives" "$(arrived "$user" "${push[@]}")"
	show "and" "$(arrived "$user" "${presence[@]}")"
done
