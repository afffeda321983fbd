# shellcheck shell=bash
# Act 2: namespaces that are handled elsewhere. It does for any component what mod_delegation does inside
# Prosody, and shows the other side: a shell script that answers.
# shellcheck source=tests/demo/lib.sh
. "$DEMO_ROOT/tests/demo/lib.sh"

say "== xmpp-delegate and xmpp-manage: jabber:iq:version of proxy.test is answered by a shell script =="
prosody_start "$DEMO_DIR/prosody"
echo "Prosody runs on 127.0.0.1:$C2S_PORT (clients) and 127.0.0.1:$COMPONENT_PORT (components)."

cat >handler.sh <<'END'
tee -a received >/dev/null
printf '%s\n' "<iq type='result'><query xmlns='jabber:iq:version'><name>A shell script</name><version>for $XMPP_FROM</version></query></iq>" |
	tee -a answered
END
echo "The handler is a script: it is run for each request, with the iq on its standard input:"
sed 's/^/    /' handler.sh

server=(--connect "127.0.0.1:$COMPONENT_PORT" --secret-file "$SECRET_FILE" --ready-fd 3)
start_ready xmpp-manage "${server[@]}" --domain deleg2.test --host proxy.test \
	--namespace jabber:iq:version --per-request -- sh handler.sh 2>manage.log
manage=$started_pid
start_ready xmpp-delegate "${server[@]}" --domain proxy.test --delegate jabber:iq:version=deleg2.test
delegate=$started_pid
until_true grep -q "'proxy.test' delegates 'jabber:iq:version'" manage.log
echo "xmpp-manage (deleg2.test) is told by xmpp-delegate (proxy.test):"
show "log" "$(grep -m 1 delegates manage.log)"

request="<iq type='get' id='1234' to='proxy.test'><query xmlns='jabber:iq:version'/></iq>"
printf '%s\n' "$request" |
	xmpp-connect -q --jid alice@vhost.test/abc --connect "127.0.0.1:$C2S_PORT" --tls required \
		--tls-ca "$TLS_CA" --password-file "$PASSWORD_FILE" --wait 20 >result
result=$(grep "id='1234'" result)

say "A user asks:"
show "user -> proxy.test" "$request"
show "handler's standard input" "$(cat received)"
show "handler's standard output" "$(cat answered)"
show "proxy.test -> user" "$result"

[[ $result == *" type='result'"* && $result == *" from='proxy.test'"* &&
	$result == *"<name>A shell script</name><version>for alice@vhost.test/abc</version>"* ]] || {
	echo "demo: the answer did not arrive" >&2
	exit 1
}
echo
echo "A wrong answer of either would have been an error for alice, and nothing for anybody else."
kill -TERM "$delegate" "$manage"
wait "$delegate"
wait "$manage"
