#!/usr/bin/env bats
# roster-fetch against nginx, and against a web application that misbehaves on demand (tools/web-app.py).

# run --separate-stderr and start set variables
# shellcheck disable=SC2154,SC2034,SC1003

load lib

setup_file()
{
	nginx_start "$BATS_FILE_TMPDIR/web" --tls on
	mkdir -p "$NGINX_DIR/www/contacts"
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
	echo '{}' >"$NGINX_DIR/www/contacts/jürgen"
	echo '{"x@y":{}}' >"$NGINX_DIR/www/contacts/a b?c#d%e"
}

teardown_file() { nginx_stop "$BATS_FILE_TMPDIR/web"; }

setup()
{
	server_facts "$BATS_FILE_TMPDIR/web"
	nginx=http://127.0.0.1:$NGINX_PORT/contacts/%s
	start app python3 "$TESTS/tools/web-app.py" --log "$PWD/requests"
	wait_for test -s app.out
	app=http://127.0.0.1:$(cat app.out)
	marie='{"marie@example.com":{"name":"Marie of john","subscription":"both"}}'
}

teardown() { stop_all; }

fetch() { roster-fetch "$@"; }

# roster-fetch in the background; names for it are written to descriptor 8
streaming()
{
	mkfifo names
	exec 8<>names
	# shellcheck disable=SC2016
	start fetch sh -c 'exec roster-fetch "$@" <names 8>&-' sh "$@"
}

# print the record of john from the web application's answer KIND
from()
{
	local kind=$1
	shift
	roster-fetch --url "$app/$kind/%s" "$@" john
}

# fails ERROR KIND [OPTION...]: the record for KIND says ERROR, and the exit status is 1
fails()
{
	local error=$1
	shift
	run --separate-stderr from "$@"
	assert_failure 1
	assert_equal "$* $(jq -r '"\(.user) \(.status) \(.error)"' <<<"$output")" "$* john error $error"
	assert [ "$(jq -r .message <<<"$output" | wc -c)" -gt 5 ]
	assert_equal "$(jq 'has("roster")' <<<"$output")" false
}

@test "the seed's john, word for word" {
	run --separate-stderr fetch --url "$nginx" john
	assert_success
	assert_output '{"user":"john","status":"ok","roster":{"marie@example.com":{"name":"Marie","subscription":"both"},"michael@example.com":{"name":"Michael","subscription":"both"}},"skipped":[]}'
	assert_equal "$stderr" ""
	run cat "$NGINX_DIR/access.log"
	assert_line 'GET /contacts/john 200'
}

@test "names: percent-encoded all but unreserved, and never out of their place" {
	printf '%s\n' 'a b?c#d%e' jürgen '../john' 'john/../john' '%2e%2e' john >names
	run -1 --separate-stderr fetch --jobs 1 --url "$nginx" <names
	run jq -r '"\(.user) \(.status) \(.error)"' <<<"$output"
	assert_output - <<-'END'
		a b?c#d%e ok null
		jürgen ok null
		../john error http-404
		john/../john ok null
		%2e%2e error http-404
		john ok null
	END
	run tail -n 6 "$NGINX_DIR/access.log"
	assert_output - <<-'END'
		GET /contacts/a%20b%3Fc%23d%25e 200
		GET /contacts/j%C3%BCrgen 200
		GET /contacts/..%2Fjohn 404
		GET /contacts/john%2F..%2Fjohn 200
		GET /contacts/%252e%252e 404
		GET /contacts/john 200
	END
}

@test "each line has its record, with the same bytes" {
	long=$(printf 'x%.0s' {1..1023})
	printf '%s\n' john '' . .. $'cr\r' $'tab\t' $'\x7f' $'c1\u0085' '"\' "$long" "${long}y" jürgen >names
	printf 'nul\0nul\n\xff\xc3(\nlast' >>names
	run -1 --separate-stderr fetch --url "$app/ok/%s" <names
	echo "$output" >records
	assert_equal "$(wc -l <records)" 15
	python3 - <<-'END'
		import json
		lines = open("names", "rb").read().split(b"\n")
		records = [json.loads(l) for l in open("records")]
		assert sorted(r["user"] for r in records) == sorted(l.decode(errors="replace") for l in lines), records
		bad = {r["user"] for r in records if r.get("error") == "bad-user"}
		assert bad == {"", ".", "..", "cr\r", "tab\t", "\x7f", "c1\x85", "x" * 1023 + "y", "nul\0nul", "\ufffd\ufffd("}, bad
		assert all(r["status"] == "ok" for r in records if r["user"] not in bad)
	END
}

@test "a line that is too long even to be given back" {
	{ head -c 70000 /dev/zero | tr '\0' x; printf '\njohn\n'; } >names
	run -1 --separate-stderr fetch --url "$app/ok/%s" <names
	assert_equal "$(jq -r '"\(.user) \(.error)"' <<<"$output" | sort)" $' bad-user\njohn null'
}

@test "a record leaves as soon as it is there; the input stays open" {
	streaming --url "$app/ok/%s"
	echo john >&8
	wait_for test -s fetch.out
	echo .. >&8
	wait_for grep -q bad-user fetch.out
	echo marie >&8
	wait_for grep -q '"marie","status":"ok"' fetch.out
	exec 8>&-
	status=0
	await fetch || status=$?
	assert_equal "$status" 1
}

@test "others do not wait for a slow one; at most --jobs names are read" {
	streaming --jobs 2 --url "$app/gate/%s"
	printf '%s\n' slow quick third >&8
	wait_for test "$(curl -s "$app/open/quick")" = ''
	wait_for grep -q '"quick"' fetch.out
	wait_for grep -q third requests
	run ! grep -q slow fetch.out
	echo fourth >&8
	curl -s "$app/open/third"
	wait_for grep -q '"third"' fetch.out
	wait_for grep -q fourth requests
	for user in slow fourth; do curl -s "$app/open/$user"; done
	exec 8>&-
	await fetch
	assert_equal "$(wc -l <fetch.out)" 4
}

@test "the records of one name come in the order of its lines" {
	streaming --url "$app/gate/%s"
	printf '%s\n' john john other john >&8
	exec 8>&-
	curl -s "$app/open/other"
	wait_for grep -q other fetch.out
	assert_equal "$(curl -s "$app/seen/john")" 1
	curl -s "$app/open/john"
	await fetch
	run jq -r 'select(.user == "john").roster["marie@example.com"].name' fetch.out
	assert_output $'Marie 1 of john\nMarie 2 of john\nMarie 3 of john'
}

@test "what is no roster is an error, never a shorter roster" {
	for kind in nan inf control utf8 empty trail two comment single zero cut; do
		fails not-json "$kind"
	done
	fails invalid-roster bomb
	for kind in deep nul null array string number same; do fails invalid-roster "$kind"; done
	run --separate-stderr from none
	assert_success
	assert_output '{"user":"john","status":"ok","roster":{},"skipped":[]}'
}

# said BODY [OPTION...]: the record of john when that is the answer
said()
{
	local url
	url="$app/body/%s?$(printf %s "$1" | jq -Rrs '@uri' | sed 's/%/%%/g')"
	shift
	roster-fetch --url "$url" "$@" john
}

@test "an answer without a single contact is no roster" {
	for body in '{"success":false}' '{"errors":["x"]}' '{"data":null}' '{"error":"database is down"}' \
		'{"contacts":{"marie@example.com":{}}}' '{"marie":{"name":"Marie"}}' '{"error.message":"no"}' \
		'{"a.b":{"code":1}}' '{"a@b/c":{}}' '{"status":"error","code":500,"trace":[]}' '[1]' '{"":{}}'; do
		run --separate-stderr said "$body"
		assert_failure 1
		assert_equal "$body $(jq -r .error <<<"$output")" "$body invalid-roster"
	done
	# the user's own address and what is kept are contacts
	run --separate-stderr said '{"john@h":1}' --host h
	assert_success
	run --separate-stderr said '{"proxy.h":1}' --keep proxy.h
	assert_success
	run -64 said '{}' --keep @@
}

@test "PHP's empty lists, null, numbers, control characters, a byte order mark" {
	both=',"subscription":"both"}},"skipped":[]}'
	while IFS='|' read -r body contact; do
		run --separate-stderr said "$body"
		assert_success
		assert_output "{\"user\":\"john\",\"status\":\"ok\",\"roster\":{\"a@b\":{$contact$both"
	done <<-'END'
		{"a@b":{"name":42}}|"name":"42"
		{"a@b":{"name":"Ann\n"}}|"name":"Ann"
		{"a@b":{"name":" A\t\r n\u0007"}}|"name":"A n"
		{"a@b":{"name":"A","groups":[]}}|"name":"A"
		{"a@b":{"name":"A","groups":null,"subscription":null}}|"name":"A"
		{"a@b":{"name":"A","groups":{"0":"G","3":"H"}}}|"name":"A","groups":["G","H"]
		{"a@b":{"name":"A","groups":["G\u0001"]}}|"name":"A","groups":["G"]
	END
	for body in '[]' '{}' $'\xef\xbb\xbf{}'; do
		run --separate-stderr said "$body"
		assert_success
		assert_output '{"user":"john","status":"ok","roster":{},"skipped":[]}'
	done
	printf '\xef\xbb\xbfjohn\nmarie\n' >names
	run --separate-stderr fetch --url "$app/ok/%s" <names
	assert_equal "$(jq -r .user <<<"$output" | sort)" $'john\nmarie'
}

@test "contacts that are left out are told: one warning a user, with -v each" {
	run --separate-stderr said '{"a@b":{},"c@b":true,"error":"x"}'
	assert_success
	assert_equal "$(jq -c .skipped <<<"$output")" \
		'[{"contact":"c@b","why":"neither an object nor a string"},{"contact":"error","why":"no contact"}]'
	assert_equal "$stderr" "roster-fetch: 'john': 2 contacts are left out, the first one 'c@b': neither an object nor a string
roster-fetch: 2 contacts were left out"
	run --separate-stderr said '{"a@b":{},"c@b":true,"error":"x"}' -v
	assert_regex "$stderr" "left out 'error': no contact"
}

@test "bounds: contacts, values, addresses that are too long" {
	run --separate-stderr said '{"a@b":{},"c@b":{},"d@b":{}}' --max-contacts 2
	assert_failure 1
	assert_equal "$(jq -r '"\(.error): \(.message)"' <<<"$output")" 'too-large: more than 2 contacts'
	run --separate-stderr said '{"a@b":{"x":[1,2,3]}}' --limit values=5
	assert_failure 1
	assert_equal "$(jq -r '"\(.error): \(.message)"' <<<"$output")" 'too-large: more than 5 values'
	run --separate-stderr said '{"a@b":{"x":[1,2]}}' --limit values=5
	assert_success
	run --separate-stderr said "{\"ok@b\":{},\"$(printf '%1024d' 0 | tr ' ' x)@b\":{}}"
	assert_success
	assert_equal "$(jq -r '.skipped[0].why' <<<"$output")" 'not a JID'
}

@test "--allow-removals says so in each record" {
	run --separate-stderr said '{"a@b":"A"}' --allow-removals
	assert_equal "$(jq -r .removals <<<"$output")" all
}

@test "compressed answers; what comes out counts" {
	run --separate-stderr from gzip
	assert_success
	assert_equal "$(jq -c .roster <<<"$output")" "$marie"
	fails too-large gzip-bomb
}

@test "a validator is kept only when what it stands for is older than 2 seconds" {
	for kind in fresh aged; do
		from "$kind" --cache cache >/dev/null
		from "$kind" --cache cache >"$kind.out"
	done
	assert_equal "$(jq -r .status fresh.out aged.out)" $'ok\nunchanged'
	refute grep -q 'fresh.*if-' requests
	assert grep -q 'aged.*if-none-match=.*if-modified-since' requests
}

@test "--max-time bounds all tries together" {
	run --separate-stderr timeout 30 roster-fetch --url "$app/status-503/%s" --retry 1000 --max-time 1 john
	assert_failure 1
	assert_equal "$(jq -r .error <<<"$output")" http-503
	run --separate-stderr timeout 30 roster-fetch --url "$app/hang/%s" --retry 1000 --timeout 60 --max-time 0.5 john
	assert_failure 1
	assert_equal "$(jq -r .error <<<"$output")" timeout
}

@test "of two tokens the first is sent" {
	(umask 077 && printf 'new\nold\n' >tokens)
	run --separate-stderr from echo --token-file tokens
	assert_equal "$(jq -r '.roster["authorization@h"].name' <<<"$output")" 'Bearer new'
}

@test "user and password; no proxy of the environment for loopback; a unix socket" {
	(umask 077 && echo 'me:pa:ss' >login && echo nothing >bad)
	run --separate-stderr from echo --basic-auth-file login
	assert_equal "$(jq -r '.roster["authorization@h"].name' <<<"$output")" "Basic $(printf 'me:pa:ss' | base64)"
	run -78 from ok --basic-auth-file bad
	run -64 from ok --basic-auth-file login --token-file login
	http_proxy=http://127.0.0.1:1 run --separate-stderr from ok
	assert_success
	http_proxy=http://127.0.0.1:1 run --separate-stderr from ok --connect-timeout 1
	assert_success
	start relay socat UNIX-LISTEN:web.sock,fork "TCP:${app#http://}"
	wait_for test -S web.sock
	run --separate-stderr roster-fetch --url http://app.invalid/ok/%s --unix-socket web.sock john
	assert_success
	assert_equal "$(jq -c .roster <<<"$output")" "$marie"
	run -64 roster-fetch --url http://app.invalid/ok/%s --unix-socket web.sock --max-redirects 1 john
}

@test "a cache that others can write is not believed" {
	mkdir -m 777 cache
	run -78 from ok --cache cache
	assert_output --partial "'cache'"
}

# peak COMMAND...: the most memory that it had, in KiB
peak()
{
	python3 -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' "$@"
}

@test "hostile answers at the default limits take less than 48 MiB" {
	[[ -z ${WRAP:-} && -e $BUILDDIR/preload/failmalloc.so ]] || not_here "sanitizers take memory of their own"
	mkdir hostile
	python3 - <<-'END'
		def put(name, text):
		    open("hostile/" + name, "w").write(text)
		put("objects", '{"a@b":{"x":[' + ",".join(["{}"] * 399000) + "]}}")
		put("contacts", "{" + ",".join('"u%d@b":{"x":[{},[],{}],"name":"%s"}' % (i, "n" * 300) for i in range(19999)) + "}")
		put("names", "{" + ",".join('"user%06d@vhost.test":{"name":"%s","groups":["Friends"]}' % (i, "N" * 350) for i in range(20000)) + "}")
		put("groups", "{" + ",".join('"u%d@b":{"groups":[%s]}' % (i, ",".join('"g%d"' % g for g in range(17))) for i in range(19999)) + "}")
		put("grows", "{" + ",".join('"%s%d@b":{}' % ("\ufdfa" * 340, i) for i in range(7000)) + "}")
		put("escapes", '{"a@b":"' + "\\u0001" * 1300000 + '"}')
	END
	start files python3 -m http.server --bind 127.0.0.1 --directory hostile 0
	wait_for grep -q 'port' files.out files.err
	port=$(grep -oh 'port [0-9]*' files.out files.err | cut -d' ' -f2)
	for name in objects contacts names groups grows escapes; do
		kib=$(peak timeout 60 roster-fetch --url "http://127.0.0.1:$port/%s" "$name")
		echo "# $name: $((kib / 1024)) MiB" >&3
		assert [ "$kib" -lt $((48 * 1024)) ]
	done
}

@test "one bad contact does not hold up the others, but for --strict" {
	run --separate-stderr from bad-contact
	assert_success
	assert_output '{"user":"john","status":"ok","roster":{"c@d":{"name":"C","subscription":"both"}},"skipped":[{"contact":"@@","why":"not a JID"},{"contact":"a@b/c","why":"not a bare JID"},{"contact":"a@b","why":"name that is no string"}]}'
	fails invalid-roster bad-contact --strict
}

@test "the user's own address is skipped" {
	run --separate-stderr fetch --host Example.Com --url "$app/ok/%s" marie
	assert_success
	assert_equal "$(jq -c '[.roster, .skipped]' <<<"$output")" \
		"[{},[{\"contact\":\"marie@example.com\",\"why\":\"the user's own address\"}]]"
	run --separate-stderr fetch --host example.com --url "$app/ok/%s" john
	assert_equal "$(jq -c .roster <<<"$output")" "$marie"
}

@test "every status but 200" {
	for code in 201 204 206 300 304 400 401 403 404 410 429 500 502 503; do
		fails "http-$code" "status-$code"
	done
}

@test "redirects: only with --max-redirects, and only so many" {
	for code in 301 302 303 307 308; do
		fails redirect "redirect-$code"
		run --separate-stderr from "redirect-$code" --max-redirects 1
		assert_success
		assert_equal "$(jq -c .roster <<<"$output")" "$marie"
	done
	fails redirect loop --max-redirects 5
	assert_equal "$(grep -c /loop/ requests)" 6
	fails redirect status-301 --max-redirects 5
}

@test "a redirect to another server takes no secrets along, and leads to http only" {
	start other python3 "$TESTS/tools/web-app.py" --log "$PWD/other-requests"
	wait_for test -s other.out
	(umask 077 && echo s3cret >token && echo 'X-Key: k3y' >headers)
	secrets=(--token-file token --header-file headers --max-redirects 3)
	run --separate-stderr fetch "${secrets[@]}" \
		--url "$app/away/%s?to=http%%3A//127.0.0.1%%3A$(cat other.out)/ok/john" john
	assert_success
	assert_file_contains requests 'authorization=Bearer s3cret x-key=k3y'
	assert_file_contains other-requests 'GET /ok/john'
	run ! grep -E 's3cret|k3y' other-requests
	# the next run has them again
	run --separate-stderr fetch --jobs 1 "${secrets[@]}" \
		--url "$app/away/x?to=/ok/%s" john marie
	assert_equal "$(grep -c 's3cret.*k3y' requests)" 5
	for to in 'ftp%%3A//127.0.0.1/' 'file%%3A///etc/passwd' 'javascript%%3A1'; do
		run -1 --separate-stderr fetch --max-redirects 3 --url "$app/away/%s?to=$to" john
		assert_equal "$(jq -r .error <<<"$output")" redirect
	done
	run -1 --separate-stderr fetch --max-redirects 3 --tls-ca "$NGINX_DIR/ca.pem" \
		--url "https://127.0.0.1:$NGINX_TLS_PORT/to-http?%s" john
	assert_equal "$(jq -r .error <<<"$output")" http-404
}

@test "connections that fail, break off, hang or lie" {
	fails truncated short
	fails not-json long
	fails truncated chunked-cut
	fails timeout hang-body --timeout 0.5
	fails timeout hang --timeout 0.5
	fails timeout drip --timeout 0.5
	fails connect close
	fails connect reset
	fails connect garbage
	fails too-large huge
	fails too-large huge-length
	fails too-large headers
	fails too-large ok --max-bytes 20
	end app || true
	fails connect ok
	run --separate-stderr fetch --url "http://no-such-host.invalid/%s" john
	assert_failure 1
	assert_equal "$(jq -r .error <<<"$output")" connect
}

@test "a body that ends with the connection is whole when its JSON is" {
	run --separate-stderr from no-length
	assert_success
	assert_equal "$(jq -c .roster <<<"$output")" "$marie"
}

@test "--max-bytes: that many, not one more" {
	n=$(curl -s "$app/ok/john" | wc -c)
	run --separate-stderr from ok --max-bytes "$n"
	assert_success
	fails too-large ok --max-bytes $((n - 1))
	run --separate-stderr from no-length --max-bytes "$n"
	assert_success
	fails too-large no-length --max-bytes $((n - 1))
}

@test "--retry: failed connections, 429 and 503 only" {
	for kind in flaky busy dropping; do
		run --separate-stderr from "$kind" --retry 2
		assert_success
		assert_equal "$(jq -c .roster <<<"$output")" "$marie"
	done
	assert_equal "$(grep -c /flaky/ requests) $(grep -c /busy/ requests)" "3 2"
	: >requests
	fails http-500 status-500 --retry 3
	fails truncated short --retry 3
	fails not-json empty --retry 3
	fails http-503 patience --retry 3
	fails timeout hang --retry 3 --timeout 0.3
	assert_equal "$(wc -l <requests)" 5
	: >requests
	fails http-503 status-503 --retry 2
	assert_equal "$(wc -l <requests)" 3
}

@test "a token, header lines; what is asked for" {
	(umask 077 && echo s3cret >token && printf 'X-Key: k3y\r\n\nX-More:  a b \n' >headers)
	run --separate-stderr from echo --token-file token --header-file headers
	assert_success
	assert_equal "$(jq -r '.roster | .["authorization@h"].name, .["x-key@h"].name, .["x-more@h"].name,
		.["accept@h"].name, (has("accept-encoding@h") | tostring)' <<<"$output")" \
		$'Bearer s3cret\nk3y\na b\napplication/json, text/plain, */*\ntrue'
	# two tokens at once, while one takes the place of the other: a client uses the first
	(umask 077 && printf 's3cret\nolder\n' >tokens)
	run --separate-stderr from echo --token-file tokens
	assert_equal "$(jq -r '.roster["authorization@h"].name' <<<"$output")" 'Bearer s3cret'
	run --separate-stderr from echo --token-fd 7 7<token
	assert_equal "$(jq -r '.roster["authorization@h"].name' <<<"$output")" 'Bearer s3cret'
	mkdir credentials && cp -p token credentials/http-token
	CREDENTIALS_DIRECTORY=$PWD/credentials run --separate-stderr from echo
	assert_equal "$(jq -r '.roster["authorization@h"].name' <<<"$output")" 'Bearer s3cret'
}

@test "secret files that others can read, and what no header can hold: 78" {
	(umask 077 && printf 'a b\n' >spaces && printf 'a b\nc\n' >lines && echo 'no header' >header)
	echo token >open
	printf 'X: y\n' >open-header
	for option in "--token-file open" "--token-file spaces" "--token-file lines" "--token-file none" \
		"--header-file open-header" "--header-file header" "--header-file none" \
		"--tls-ca none" "--tls-cert none --tls-key none" "--cache none/none" "--cache /dev/null"; do
		# shellcheck disable=SC2086
		run --separate-stderr from ok $option
		assert_equal "$option: $status, ${#stderr_lines[@]}, $output" "$option: 78, 1, "
	done
	run ! grep -r 's3cret' .
}

@test "--cache: ETag and Last-Modified" {
	for kind in etag modified; do
		run --separate-stderr from "$kind" --cache cache
		assert_success
		assert_equal "$(jq -r .status <<<"$output")" ok
		run --separate-stderr from "$kind" --cache cache
		assert_success
		assert_equal "$(jq -r .status <<<"$output")" unchanged
		assert_equal "$(jq -c .roster <<<"$output")" "$marie"
	done
	assert_file_contains requests 'if-none-match="v1"'
	assert_equal "$(find cache -type f | wc -l)" 2
	assert_equal "$(stat -c %a cache)" 700
	run find cache -type f -perm /077
	assert_output ''
	# a damaged cache file is not used
	for file in cache/*; do
		for damage in 'truncate -s -1' 'truncate -s 10' 'sed -i 1s/1/2/' 'sed -i s/^url:/&x/' 'truncate -s 0'; do
			cp "$file" kept
			$damage "$file"
			run --separate-stderr from etag --cache cache
			assert_equal "$(jq -c '.roster' <<<"$output")" "$marie"
			cp kept "$file"
		done
	done
	# a FIFO in its place is not waited for
	for file in cache/*; do rm "$file" && mkfifo "$file"; done
	run --separate-stderr from etag --cache cache
	assert_equal "$(jq -c '.roster' <<<"$output")" "$marie"
	# without validators, with no-store: nothing is kept
	rm -r cache
	from ok --cache cache
	from no-store --cache cache
	assert_equal "$(find cache -type f | wc -l)" 0
	# user names that cannot be file names
	long=$(printf 'x%.0s' {1..1023})
	run --separate-stderr fetch --url "$app/etag/%s" --cache cache "$long" ../../x 'a/b' .x
	assert_success
	assert_equal "$(find . -path ./cache -prune -o -name 'x*' -print) $(find cache -type f | wc -l)" " 4"
}

@test "--cache on a full disk: said, and the rosters come" {
	[[ $EUID == 0 ]] && mkdir small && mount -t tmpfs -o size=4k none small 2>/dev/null || skip_mount=1
	[[ -z ${skip_mount:-} ]] || not_here "no file system can be mounted"
	mkdir small/cache
	head -c 4096 /dev/zero >small/fill || true
	run --separate-stderr from etag --cache small/cache
	umount small
	assert_success
	assert_equal "$(jq -r .status <<<"$output")" ok
	[[ $stderr == *"cannot write to 'small/cache': No space left on device"* ]]
}

@test "TLS: HTTP/2, one connection; certificates that are not trusted" {
	run -1 --separate-stderr fetch --url "https://127.0.0.1:$NGINX_TLS_PORT/contacts/%s" john
	assert_equal "$(jq -r .error <<<"$output")" tls
	for i in {1..50}; do echo john; echo jürgen; done >names
	run --separate-stderr fetch --tls-ca "$NGINX_TLS_CA" \
		--url "https://127.0.0.1:$NGINX_TLS_PORT/contacts/%s" <names
	assert_success
	assert_equal "$(grep -c '"status":"ok"' <<<"$output")" 100
	run -1 --separate-stderr fetch --url "https://127.0.0.1:$NGINX_PORT/contacts/%s" john
	assert_equal "$(jq -r .error <<<"$output")" tls
}

@test "a client certificate" {
	tls_ca "$PWD" && tls_cert "$PWD" client client.example
	nginx_start "$PWD/private" --tls on --server "ssl_client_certificate $PWD/ca.pem; ssl_verify_client on;"
	mkdir -p private/www
	echo '{}' >private/www/john
	chmod 600 client.key
	url=https://127.0.0.1:$NGINX_TLS_PORT/%s
	run -1 --separate-stderr fetch --tls-ca "$NGINX_TLS_CA" --url "$url" john
	assert_equal "$(jq -r .error <<<"$output")" http-400
	run --separate-stderr fetch --tls-ca "$NGINX_TLS_CA" --tls-cert client.crt --tls-key client.key \
		--url "$url" john
	nginx_stop "$PWD/private"
	assert_success
	chmod 644 client.key
	run -78 --separate-stderr fetch --tls-ca "$NGINX_TLS_CA" --tls-cert client.crt --tls-key client.key \
		--url "$url" john
}

@test "templates that are refused: 64" {
	for url in http://h/x http://%s/ http://h:%s/ http://u:p@h/%s http://u@h/%s ftp://h/%s /%s %s http:///%s \
		'http://h/%s#%s' 'http://h/#%s' http://h/%d http://h/%s% 'http://h/ %s' $'http://h/\n%s' http://h/ü%s; do
		run --separate-stderr fetch --url "$url" john
		assert_equal "$url $status ${#stderr_lines[@]} $output" "$url 64 2 "
	done
	run -64 fetch john
	run -64 fetch --url "$nginx" --tls-cert x john
	run -64 fetch --url "$nginx" --host a@b john
}

@test "%s in the query, several times, and %%" {
	run --separate-stderr fetch --url "$app/ok/%s?u=%s&x=%%20" 'a&b'
	assert_success
	grep -qF 'GET /ok/a%26b?u=a%26b&x=%20' requests
}

@test "kept-alive connections: a thousand names over at most --jobs" {
	seq 1000 | sed 's/.*/john/' >names
	nginx_start "$PWD/counting" --http "log_format c '\$connection';" --server "access_log $PWD/connections c;"
	mkdir -p counting/www && echo '{}' >counting/www/john
	run --separate-stderr fetch --jobs 4 --url "http://127.0.0.1:$NGINX_PORT/john?%s" < <(seq 1000)
	nginx_stop "$PWD/counting"
	assert_success
	assert_equal "$(grep -c '"status":"ok"' <<<"$output")" 1000
	assert [ "$(sort -u connections | wc -l)" -le 4 ]
}

@test "memory is flat over many users" {
	peak()
	{
		seq "$1" | command time -f %M -o peak "$BINDIR/roster-fetch" \
			--url "http://127.0.0.1:$NGINX_PORT/contacts/john?%s" >/dev/null
		cat peak
	}
	[[ -z ${WRAP:-} ]] || not_here "not under valgrind"
	few=$(peak 1000)
	many=$(peak 20000)
	echo "$few KiB, $many KiB"
	# sanitizers keep freed memory for a while
	[[ ! -e $BUILDDIR/preload/failmalloc.so ]] || ((many < few + 2048))
}

@test "when nobody takes the records no more names are read" {
	mkfifo out && exec 8<>out
	start fetch sh -c 'seq 100000 | roster-fetch --url "$1" >out' sh "$app/ok/%s" 8>&-
	last=-1
	settled() { now=$(wc -l <requests); ((now == last && now > 0)) || { last=$now; command sleep 0.3; false; }; }
	wait_for test -s requests
	wait_for settled
	((last < 90000))
	exec 8<&-
	await fetch || true
}

@test "a full disk, a closed standard output: 74" {
	run bash -c 'roster-fetch --url "$1" john >/dev/full' bash "$app/ok/%s"
	assert_failure 74
	assert_line 'roster-fetch: cannot write standard output: No space left on device'
	run bash -c 'yes john | roster-fetch --url "$1" | head -n 3; exit "${PIPESTATUS[1]}"' bash "$app/ok/%s"
	assert_failure 74
}

@test "SIGTERM: what is in hand is finished; a second one does not wait" {
	streaming -v --url "$app/gate/%s"
	echo john >&8
	wait_for grep -q john requests
	kill -TERM "$fetch_pid"
	wait_for grep -q 'stopping: 1 rosters in hand' fetch.err
	echo late >&8
	curl -s "$app/open/john"
	await fetch
	assert_equal "$(jq -r .user fetch.out)" john
	exec 8>&-
	start again roster-fetch -v --url "$app/gate/%s" slow
	wait_for grep -q slow requests
	kill -TERM "$again_pid"
	wait_for grep -q 'stopping: 1' again.err
	kill -TERM "$again_pid"
	status=0
	await again || status=$?
	assert_equal "$status" 75
}

@test "progress on a terminal, for runs of more than a second" {
	python3 - "$app" <<-'END'
		import os, pty, subprocess, sys, time, urllib.request
		app = sys.argv[1]
		def run(kind, user):
		    ours, theirs = pty.openpty()
		    p = subprocess.Popen(["roster-fetch", "--url", app + "/" + kind + "/%s", user], stdout=subprocess.PIPE, stderr=theirs)
		    os.close(theirs)
		    said = b""
		    opened = False
		    while True:
		        try:
		            more = os.read(ours, 4096)
		        except OSError:
		            break
		        if not more:
		            break
		        said += more
		        if not opened:
		            opened = True
		            urllib.request.urlopen(app + "/open/" + user).read()
		    assert p.stdout.read().startswith(b'{"user"')
		    return p.wait(), said
		assert run("ok", "john") == (0, b"")
		status, said = run("gate", "john")
		assert status == 0 and b"0 rosters, 0 failed" in said and said.endswith(b"\r\x1b[K"), said
	END
}

@test "the summary says how many failed; -v each; -q nothing" {
	run --separate-stderr fetch --url "$app/ok/%s" .. john
	assert_failure 1
	assert_equal "$stderr" 'roster-fetch: 1 of 2 rosters failed'
	run --separate-stderr fetch -v --url "$app/ok/%s" ..
	[[ $stderr == *'..: bad-user: '* ]]
	run --separate-stderr fetch -q -q --url "$app/ok/%s" ..
	assert_equal "$stderr" ''
}

@test "memory, descriptors, disks and pipes fail: 74 or 75; interrupted calls: goes on" {
	[[ -e $BUILDDIR/preload/failmalloc.so ]] || not_here "not with sanitizers"
	load faults
	printf '..\nbad\tname\n' >in
	command=(roster-fetch --url "$app/ok/%s")
	each_fault FAILCALL=read:N:EIO 74! "${command[@]}"
	each_fault FAILCALL=write:N:ENOSPC 74! "${command[@]}"
	each_fault FAILCALL=poll:N:ENOMEM '74 75' "${command[@]}"
	each_fault FAILCALL=pipe2:N:EMFILE 75 "${command[@]}"
	printf 'john\nmarie\njohn\n..\n' >in
	command+=(--jobs 1 --cache cache)
	"${command[@]}" <in >/dev/null || true
	for call in read write poll recv send; do
		each_fault FAILCALL=$call:N:EINTR same "${command[@]}"
	done
	out_of_memory "${command[@]}"
	: >in
	(umask 077 && echo x >token)
	each_fault FAILCALL=open:N:EMFILE '75! 78' roster-fetch --url "$app/ok/%s" --token-file token john
}
