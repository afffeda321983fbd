# shellcheck shell=bash
# Act 1: a service that lives in a client. It does beside Prosody what mod_client_proxy does inside it.
# shellcheck source=tests/demo/lib.sh
. "$DEMO_ROOT/tests/demo/lib.sh"

say "== xmpp-jat-proxy: requests to jat.test are served by the clients of impl@vhost.test =="
prosody_start "$DEMO_DIR/prosody"
echo "Prosody runs on 127.0.0.1:$C2S_PORT (clients) and 127.0.0.1:$COMPONENT_PORT (components)."

# The implementing client is a shell script between the two ends of xmpp-connect: it accepts the
# subscription of the proxy and answers each get.
cat >client.sh <<'END'
while IFS= read -r stanza; do
	case $stanza in
	"<presence"*" type='subscribe'"*)
		printf '%s\n' "<presence type='subscribed' to='jat.test'/>"
		;;
	"<iq"*" type='get'"*)
		printf '%s\n' "$stanza" >>received
		from=${stanza#*" from='"} id=${stanza#*" id='"}
		answer="<iq type='result' id='${id%%\'*}' to='${from%%\'*}'><query xmlns='urn:demo:time'>$(date -u +%FT%TZ)</query></iq>"
		printf '%s\n' "$answer" >>answered
		printf '%s\n' "$answer"
		;;
	esac
done
END

login=(--connect "127.0.0.1:$C2S_PORT" --tls required --tls-ca "$TLS_CA" --password-file "$PASSWORD_FILE")
for resource in a b; do
	start_ready xmpp-connect -q --jid "impl@vhost.test/$resource" "${login[@]}" \
		--presence --ready-fd 3 -- bash client.sh
	echo "impl@vhost.test/$resource is logged in."
done

start_ready xmpp-jat-proxy --connect "127.0.0.1:$COMPONENT_PORT" --domain jat.test \
	--secret-file "$SECRET_FILE" --target impl@vhost.test --metrics metrics --metrics-interval 0.1 \
	--ready-fd 3
until_true grep -q '^outboard_sessions{.*} 2$' metrics
echo "xmpp-jat-proxy is connected; both sessions are known to it."

request="<iq type='get' id='1234' to='jat.test'><query xmlns='urn:demo:time'/></iq>"
printf '%s\n' "$request" |
	xmpp-connect -q --jid alice@vhost.test/abc "${login[@]}" --wait 20 >result
result=$(grep "id='1234'" result)

say "A user asks; the four stanzas:"
show "user -> component" "$request"
show "component -> implementing client" "$(cat received)"
show "implementing client -> component" "$(cat answered)"
show "component -> user" "$result"

[[ $result == *" type='result'"* && $result == *" from='jat.test'"* &&
	$result == *" to='alice@vhost.test/abc'"* && $result == *"<query xmlns='urn:demo:time'>"* ]] || {
	echo "demo: the translated answer did not arrive" >&2
	exit 1
}
[[ $(cat received) == *" from='jat.test/"* && $(cat received) != *alice* ]]
echo
echo "The client never saw who asked: alice's address is sealed in the token."
kill -TERM "$started_pid"
wait "$started_pid"
