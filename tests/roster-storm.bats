#!/usr/bin/env bats
# Many users are refreshed while everything fails at times; with a spool all rosters are right at the end.
#   STORM_USERS    users (default 300; 10000 by hand)
# shellcheck disable=SC2154 # what start sets

load lib

teardown() { stop_all; }

@test "the web application fails, restarts twice, roster-apply is killed: at the end each roster is right" {
	users=${STORM_USERS:-300}
	cat >app.py <<-'END'
		# The web application, and beside it what stands for ejabberd's API, on two ports.
		import http.server, json, random, sys, threading
		rosters, lock = {}, threading.Lock()
		class Base(http.server.BaseHTTPRequestHandler):
		    protocol_version = "HTTP/1.1"
		    def say(self, status, body):
		        self.send_response(status)
		        self.send_header("Content-Length", str(len(body)))
		        self.end_headers()
		        self.wfile.write(body)
		    def log_message(self, *_): pass
		class App(Base):
		    def do_GET(self):
		        user = self.path.split("/")[-1]
		        if random.random() < 1 / 3:
		            self.say(random.choice([500, 502, 503, 429]), b"<html>")
		        else:
		            self.say(200, json.dumps({"c%s@h" % user: {"name": user}, "d@h": {}}).encode())
		class Api(Base):
		    def do_POST(self):
		        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
		        command = self.path.split("/")[2]
		        with lock:
		            mine = rosters.setdefault(body.get("localuser", body["user"]), {})
		            if command == "add_rosteritem" and "groups" in body:
		                self.say(400, b'"Request have unknown arguments: [groups]"')
		            elif command == "get_roster":
		                self.say(200, json.dumps([{"jid": jid, "nick": nick, "subscription": "both", "ask": "none",
		                    "group": ""} for jid, nick in mine.items()]).encode())
		            else:
		                jid = body["user"] + "@" + body["host"]
		                if command == "add_rosteritem": mine[jid] = body["nick"]
		                if command == "delete_rosteritem": mine.pop(jid, None)
		                self.say(200, b"0")
		    def do_GET(self):
		        with lock: self.say(200, json.dumps(rosters).encode())
		kind, port = sys.argv[1], int(sys.argv[2])
		class Server(http.server.ThreadingHTTPServer):
		    request_queue_size = 128
		    daemon_threads = True
		server = Server(("127.0.0.1", port), {"app": App, "api": Api}[kind])
		print(server.server_port, flush=True)
		server.serve_forever()
	END
	start api python3 app.py api 0
	start app python3 app.py app 0
	wait_for test -s api.out -a -s app.out
	api=$(head -n 1 api.out) app=$(head -n 1 app.out)
	start listener roster-refresh-listen -q --listen-unix sock --spool spool --timeout 2 -- sh -c \
		"roster-fetch -qq --url http://127.0.0.1:$app/%s | sh -c 'echo \$\$ >worker.pid; exec roster-apply -q --host h --via ejabberd-api --api http://127.0.0.1:$api/api'"
	wait_for test -S sock
	seq -f 'u%.0f' "$users" | jq -Rnc '[inputs] | _nwise(100)' >bodies
	post() { while read -r body; do curl -s --max-time 60 --unix-socket sock -d "$body" http://localhost/roster_admin/refresh >>answers; done <bodies; }
	start posts post
	restart_app()
	{
		kill "$app_pid"
		await app || true
		start app python3 app.py app "$app"
	}
	some() { [ "$(curl -s "http://127.0.0.1:$api/" | jq '[.[] | select(length == 2)] | length')" -ge "$1" ]; }
	WAIT_S=60 wait_for some $((users / 10))
	restart_app
	WAIT_S=60 wait_for some $((users / 5))
	kill -KILL "$(cat worker.pid)" # roster-apply
	WAIT_S=60 wait_for some $((users / 3))
	restart_app
	await posts
	emptied() { [ "$(cat spool/names.* | wc -c)" = 0 ]; }
	for ((i = 0; i < users / 10 + 6; i++)); do
		wait_for emptied && break
	done || true
	emptied
	assert_equal "$(curl -s "http://127.0.0.1:$api/" | jq -c 'to_entries | map(select(.key | startswith("u"))) |
		map(select(.value == {("c" + .key + "@h"): .key, "d@h": ""})) | length')" "$users"
}
