# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # reason: matrix.bats; status: perform; started, FAKE_PORT, FREE_PORT: what is loaded before
# Makes the faults of data/matrix; matrix.bats loads this after lib and stream.
#
#   table                   read the table
#   row FAULT               fault_FAULT PROGRAM in a folder of its own for each cell that has no
#                           reason; each leaves `status` and the words in the file err
#   job PROGRAM [WAY]       what the program does when nothing fails: `words`, `tail` (the command
#                           line; options go between), `in` (its input), its peer; `usual` its status
#   perform REDIRECTION...  do the job; `prefix` goes before the command (faults, WRAP)
#   sweep SETTINGS SPEC...  do it once for each point at which the fault can come (preload/sweep.c)

TABLE=$TESTS/data/matrix

declare -gA program_of=() said=() reason=() cells=()
declare -ga rows=() columns=()

table()
{
	local section='' line fields name text i
	while read -r line; do
		[[ $line && $line != '#'* ]] || continue
		if [[ $line == '['*']' ]]; then
			section=$line
			continue
		fi
		read -ra fields <<<"$line"
		case $section in
		'[programs]') program_of[${fields[0]}]=${fields[1]} ;;
		'[words]')
			read -r name text <<<"$line"
			said[$name]=$text
			;;
		'[reasons]') reason[${fields[0]}]=${fields[*]:1} ;;
		'[matrix]')
			if ((${#columns[@]} == 0)); then
				columns=("${fields[@]:1}")
				continue
			fi
			rows+=("${fields[0]}")
			if ((${#fields[@]} != ${#columns[@]} + 1)); then
				echo "${fields[0]}: $((${#fields[@]} - 1)) cells for ${#columns[@]} programs"
				return 1
			fi
			for i in "${!columns[@]}"; do
				cells["${fields[0]} ${columns[i]}"]=${fields[i + 1]}
			done
			;;
		esac
	done <"$TABLE"
}

# The specs of a cell in `specs`: "STATUS" or "STATUS:REGEX"
specs_of()
{
	local spec
	specs=()
	for spec in ${1//,/ }; do
		[[ $spec != *:* ]] || spec=${spec%%:*}:${said[${spec#*:}]}
		specs+=("$spec")
	done
}

row()
{
	local row=$1 column program top=$PWD wrong=0 specs usual words tail in prefix
	local -A tested=()
	table
	for column in "${columns[@]}"; do
		program=${program_of[$column]}
		[[ ${cells[$row $column]} != -* ]] || continue
		echo "# $row $program"
		mkdir "$program"
		cd "$program" || return
		specs_of "${cells[$row $column]}"
		# shellcheck disable=SC2206
		prefix=(${WRAP:-}) status=
		touch err
		"fault_${row//-/_}" "$program"
		# the sweep has checked each of its runs
		[[ $status == swept || ${specs[0]} == same ]] || as_said || wrong=1
		if [[ -z ${tested[$program]:-} ]]; then
			echo "$program was not run"
			wrong=1
		fi
		quiet_end
		cd "$top" || return
	done
	return "$wrong"
}

as_said()
{
	local spec=${specs[0]}
	if [[ $status != "${spec%%:*}" ]] || { [[ $spec == *:* ]] && ! grep -qE -e "${spec#*:}" err; }; then
		echo "exit status $status, not $spec; words: $(tail -n 3 err)"
		return 1
	fi
}

quiet_end()
{
	# shellcheck disable=SC2034 # stop_all shows words but after success
	local BATS_TEST_COMPLETED=1
	stop_all
}

# --- jobs

RESULT="<iq type='result' id='%i' from='vhost.test' to='d.test'><ok xmlns='urn:x'/></iq>"
GRANT="<message to='d.test' from='vhost.test'><privilege xmlns='urn:xmpp:privilege:2'><perm access='roster' type='both'/></privilege></message>"
ROSTER="<iq type='result' id='%i' from='john@vhost.test' to='d.test'><query xmlns='jabber:iq:roster'/></iq>"
DONE="<iq type='result' id='%i' from='john@vhost.test' to='d.test'/>"
# what roster-apply reads back after its change
STORED="${ROSTER/<query xmlns=\'jabber:iq:roster\'\/>/<query xmlns=\'jabber:iq:roster\'><item jid=\'marie@vhost.test\' name=\'Marie\' subscription=\'both\'\/><\/query>}"
HERE="<presence from='impl@vhost.test/r' to='d.test'/>"

make_inputs()
{
	made=$BATS_FILE_TMPDIR/made
	mkdir -p "$made"
	cd "$made" || return
	: >nothing
	(umask 077 && echo secret >secret && echo token >token)
	echo "<iq type='get' id='c1' from='d.test' to='vhost.test'><ping xmlns='urn:xmpp:ping'/></iq>" >ping
	echo "<ping xmlns='urn:xmpp:ping'/>" >payload
	cat >stanzas <<-'END'
		<iq type='get' id='a1' from='john@example.org/x' to='d.test'><ping xmlns='urn:xmpp:ping'/></iq>
		<message from='john@example.org/x' to='d.test'><body>hello</body></message>
		<iq type='set' id='a2' from='john@example.org/x' to='d.test'><vCard xmlns='vcard-temp'/></iq>
		<message from='john@example.org/x' to='other.test'><body>not ours</body></message>
	END
	cat >envelopes <<-'END'
		<iq type='set' id='e1' from='vhost.test' to='d.test'><delegation xmlns='urn:xmpp:delegation:2'><forwarded xmlns='urn:xmpp:forward:0'><iq xmlns='jabber:client' type='get' id='1' from='john@vhost.test/x' to='vhost.test'><ping xmlns='urn:other'/></iq></forwarded></delegation></iq>
		<iq type='get' id='e2' from='vhost.test' to='d.test'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>
	END
	printf '%s\n' john@example.org/x example.org 'j\20o@example.org' >addresses
	jat-encode --create-key --key-file keys
	jat-encode --domain d.test --key-file keys <addresses >tokens
	while read -r token; do
		echo "<iq type='result' id='a1' to='$token' from='impl@example.org/y'/>"
	done <tokens >answers
	# Long text and many members stand before numbers: see lib/base/json.c
	cat >objects <<-'END'
		{"kind":"iq","type":"get","id":"1","ns":"urn:xmpp:ping","name":"ping"}
		{"kind":"presence"}
	END
	stanza-to-json <stanzas >>objects
	cat >old <<-'END'
		{"user":"john","status":"ok","roster":{"marie@vhost.test":{"name":"A name of more than thirty-two characters","age":7},"b@x":{"n":1},"c@x":{"n":1},"d@x":{"n":1},"e@x":{"n":1},"f@x":{"n":1},"g@x":{"n":1},"h@x":{"n":1},"i@x":{"n":1},"j@x":{"n":1},"k@x":{"n":1},"l@x":{"n":1},"m@x":{"n":1,"groups":["1","2"]}},"skipped":[]}
	END
	echo '{"user":"john","status":"ok","roster":{"marie@vhost.test":{"name":"Marie"}},"skipped":[]}' >new
	echo john >names
	echo '{"vcard-temp":{"filtering":["node"],"jid":"impl@example.org"},"urn:x":{"jid":"impl@example.org"}}' >config.json
	printf 'POST /roster_admin/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 32\r\nConnection: close\r\n\r\n["john","marie", "jane", "mary"]' >request
	cat >worker <<-'END'
		#!/bin/sh
		while read -r name; do echo "{\"user\":\"$name\",\"status\":\"ok\"}"; done
	END
	chmod +x worker
	cd "$OLDPWD" || return
}

# peer SCRIPT...: on the other side of --connect; `component` are the options to meet it
peer()
{
	fake --forever "$@"
	component=(--domain d.test --connect "127.0.0.1:$FAKE_PORT" --secret-file "$made/secret")
}

job()
{
	words=("$1") tail=() in=$made/stanzas usual=0
	case "$1 ${2:-}" in
	'xmpp-connect ')
		peer "up ; reply $RESULT ; wait-close"
		words+=("${component[@]}") in=$made/ping
		;;
	'xmpp-connect jid')
		words+=(--jid john@d.test --connect 127.0.0.1:1 --password-file "$made/secret")
		usual=69
		;;
	'xmpp-iq ')
		peer "up ; reply $RESULT ; wait-close"
		words+=("${component[@]}" --to vhost.test -) in=$made/payload
		;;
	'xmpp-message ')
		peer 'up ; route-ping ; wait-close'
		words+=("${component[@]}" --to vhost.test) in=$made/payload
		;;
	'xmpp-jat-proxy ') words+=(--domain d.test --target impl@example.org --encoding plain) ;;
	'xmpp-jat-proxy sealed') words+=(--domain d.test --target impl@example.org --key-file "$made/keys") ;;
	'xmpp-delegate ') words+=(--domain d.test --delegate vcard-temp=impl@example.org) ;;
	'xmpp-delegate config') words+=(--domain d.test --config "$made/config.json") ;;
	'xmpp-manage ')
		words+=(--domain d.test --host vhost.test --namespace urn:other)
		tail=(-- cat) in=$made/envelopes
		;;
	'xmpp-manage json')
		words+=(--domain d.test --host vhost.test --namespace urn:other --per-request --json)
		tail=(-- sh -c 'read -r line; echo "{\"type\":\"result\"}"') in=$made/envelopes
		;;
	'xmpp-jat-proxy connected' | 'xmpp-delegate connected' | 'xmpp-manage connected' | 'xmpp-share connected')
		served "$1"
		# a handler that answers wrongly
		[[ $1 != xmpp-manage ]] || tail=(-- cat)
		peer "up ; send $HERE$REQUEST ; expect <iq ; error system-shutdown"
		words+=("${component[@]}" --retries 0) in=$made/nothing usual=75
		;;
	'jat-encode ') words+=(--domain d.test --key-file "$made/keys") in=$made/addresses ;;
	'jat-decode ') words+=(--domain d.test --key-file "$made/keys") in=$made/tokens ;;
	'jat-encode stanzas') words+=(--domain d.test --key-file "$made/keys" --stanza) ;;
	'jat-decode stanzas') words+=(--domain d.test --key-file "$made/keys" --stanza) in=$made/answers ;;
	'roster-fetch ') words+=(--url "http://127.0.0.1:$APP_PORT/ok/%s") in=$made/names ;;
	'roster-diff ') words+=(- "$made/new") in=$made/old usual=1 ;;
	'roster-apply ')
		peer "up ; send $GRANT ; reply $ROSTER ; reply $DONE ; reply $STORED ; wait-close"
		words+=("${component[@]}" --host vhost.test) in=$made/new
		;;
	'roster-refresh-listen ') words+=(-v --listen 127.0.0.1:0) in=$made/nothing ;;
	'roster-refresh-listen connection') tail=(-- "$made/worker") in=$made/request ;;
	'roster-refresh-listen addresses')
		words+=(--spool spool --listen 127.0.0.1:0 --listen 192.0.2.1:1) in=$made/nothing usual=78
		;;
	'stanza-to-json ') ;;
	'json-to-stanza ') in=$made/objects ;;
	*)
		echo "matrix.bash knows no job '${2:-}' for $1"
		return 1
		;;
	esac
}

# The ways to run a program's job, the one without a peer first; and those of a filter alone
ways_of()
{
	ways=('')
	case $1 in
	xmpp-connect) ways+=(jid) ;;
	xmpp-jat-proxy) ways+=(sealed connected) ;;
	xmpp-delegate) ways+=(config connected) ;;
	xmpp-manage) ways+=(json connected) ;;
	xmpp-share) ways=(connected) ;;
	jat-*) ways+=(stanzas) ;;
	roster-refresh-listen) ways=(connection addresses) ;;
	esac
}
local_ways_of()
{
	ways_of "$1"
	ways=("${ways[@]/#jid/}")
	ways=("${ways[@]/#connected/}")
	# a request that cannot be handed to the handler is answered by the program
	ways=("${ways[@]/#json/}")
	ways=("${ways[@]/#addresses/}")
	mapfile -t ways < <(printf '%s\n' "${ways[@]}" | awk '!seen[$0]++')
	[[ $1 != roster-refresh-listen ]] || ways=(connection)
}

# served NAME: put the beginning of a service's command line into `words`, and into `REQUEST` a request that
# the service passes on to impl@vhost.test or to its handler; neither ever answers
served()
{
	words=("$1") tail=()
	REQUEST="<iq type='get' id='q1' from='john@vhost.test/x' to='d.test'><x xmlns='urn:x'/></iq>"
	case $1 in
	xmpp-jat-proxy) words+=(--target impl@vhost.test --encoding plain) ;;
	xmpp-delegate) words+=(--delegate urn:x=impl@vhost.test) ;;
	xmpp-manage)
		words+=(--host vhost.test --namespace urn:x)
		tail=(-- sh -c 'while read -r line; do :; done')
		REQUEST=${REQUEST/to=\'d.test\'/to=\'vhost.test\'}
		REQUEST="<iq type='set' id='q1' from='vhost.test' to='d.test'><delegation xmlns='urn:xmpp:delegation:2'><forwarded xmlns='urn:xmpp:forward:0'>${REQUEST/<iq /<iq xmlns=\'jabber:client\' }</forwarded></delegation></iq>"
		;;
	roster-apply) words+=(--host vhost.test) ;;
	xmpp-share) words+=(--listen 127.0.0.1:0) ;;
	esac
}

# --- running

perform()
{
	tested[${words[0]}]=1
	status=0
	if [[ ${words[0]} == roster-refresh-listen ]]; then
		listener "$@"
		tell || true
		# whether the job ends by itself, or needs a signal
		if [[ ${specs[0]} == 74* ]]; then
			status=0
			await cell || status=$?
		else
			end_cell
		fi
	else
		eval '"${prefix[@]}" timeout -s KILL 60 "${words[@]}" "${tail[@]}"' "$* 2>err" || status=$?
	fi
}

# begin REDIRECTION...: as perform, in the background, with the name "cell"
begin()
{
	tested[${words[0]}]=1
	# remove the output of an earlier run
	: >err
	# a background process gets /dev/null as standard input unless it is redirected
	# shellcheck disable=SC2016
	start cell bash -c 'exec env --default-signal=INT "$@" '"$* 2>err" - "${prefix[@]}" "${words[@]}" "${tail[@]}"
	cell_pid=$started_pid
}

end_cell()
{
	status=0
	if (($#)); then end cell "$1" || status=$?; else end cell || status=$?; fi
}

# listener REDIRECTION...: start the program that waits for clients; its port is in `port`
listener()
{
	begin "$@"
	wait_for eval 'grep -q "listening on" err || _gone "$cell_pid"'
	port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\)$/\1/p' err)
}

# tell [CURL-ARGUMENT...]: send a well-formed request; the HTTP status is in `http`
tell()
{
	http=$(curl -s -m 20 -o answer -w '%{http_code}' -d '["john"]' "$@" "http://127.0.0.1:$port/roster_admin/refresh")
}

# with_faults LIBRARY... -- SETTING...: for perform
with_faults()
{
	local libraries=$LD_PRELOAD
	while [[ $1 != -- ]]; do
		libraries+=" $BUILDDIR/preload/$1.so"
		shift
	done
	shift
	prefix=(env "LD_PRELOAD=$libraries" "FAULT_MARK=$PWD/fault" "$@")
}

# The faults come from a preloaded library; so do the sanitizers, and both together do not work.
needs_injectors()
{
	[[ -e $BUILDDIR/preload/sweep.so && -z ${WRAP:-} ]] || not_here "not with sanitizers"
}

sweep()
{
	local settings=$1 socket=() seen one
	shift
	[[ ${words[0]} != roster-refresh-listen || $in != */request ]] || socket=(SWEEP_SOCKET=1)
	tested[${words[0]}]=1
	status=swept
	rm -rf runs spool
	mkdir runs
	env "LD_PRELOAD=$LD_PRELOAD $BUILDDIR/preload/failmalloc.so $BUILDDIR/preload/failcall.so $BUILDDIR/preload/sweep.so" \
		"SWEEP=$settings" SWEEP_INPUT="$in" SWEEP_DIR=runs "${socket[@]}" "$BINDIR/${words[0]}" "${words[@]:1}" "${tail[@]}" || return
	if ! seen=$(python3 "$TESTS/tools/sweep.py" runs "$usual" "$@"); then
		echo "$settings: ${words[*]}"
		echo "$seen"
		return 1
	fi
	for one in $seen; do printf '%s %s\n' "${words[0]}" "$one"; done >>"$STATUSES"
}

# each_way COMMAND...: for each way, set up the job and run COMMAND
each_way()
{
	local way
	for way in "${ways[@]}"; do
		job "$program" "$way"
		"$@"
		quiet_end
	done
}

# --- standard input and output

# each_perform REDIRECTION: perform all ways that end by themselves; `$in` in it is the input of the way
each_perform()
{
	local_ways_of "$program"
	[[ $program != roster-refresh-listen ]] || ways=('')
	each_way perform_as_said "$1"
}

perform_as_said()
{
	eval "perform \"$1\""
	as_said
}

# shellcheck disable=SC2016
fault_full_disk() { each_perform '<$in >/dev/full'; }
# shellcheck disable=SC2016
fault_closed_stdout() { each_perform '<$in >&-'; }
fault_closed_stdin() { each_perform '<&- >out'; }

# A reader opens the pipe and closes it again.
fault_sigpipe()
{
	local reader
	mkfifo gone
	: <gone &
	reader=$!
	exec {out}>gone
	wait "$reader"
	each_perform "<\$in >&$out"
	exec {out}>&-
}

MANY=20000

# Read nothing until the program waits for its reader; then all output must arrive.
fault_slow_reader()
{
	local want=$MANY more=() text hwm
	job "$1"
	text="<message from='john@example.org/x' to='other.test' id='%d'><body>a text of some length, as people write it</body></message>"
	case $1 in
	xmpp-connect)
		quiet_end
		peer "up ; repeat $MANY $text ; reply $RESULT ; wait-close"
		words=("$1" "${component[@]}") want=$((MANY + 1))
		;;
	xmpp-iq)
		quiet_end
		want=300
		peer "up ; reply $want ${RESULT/<ok/$(printf "<ok a='%05000d'" 7)} ; wait-close"
		words=("$1" "${component[@]}" --to vhost.test --batch) in=many
		yes "<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>" | head -n "$want" >many
		;;
	xmpp-* | stanza-to-json)
		# at the start xmpp-jat-proxy and xmpp-delegate also send a question of their own
		[[ $1 != xmpp-jat-proxy && $1 != xmpp-delegate ]] || want=$((MANY + 1))
		in=many
		repeated "${text/'%d'/1}"
		;;
	json-to-stanza) in=many && repeated '{"kind":"presence","from":"john@example.org/x","to":"other.test"}' ;;
	jat-encode) in=many && repeated 'john@example.org/a-resource' ;;
	jat-decode) in=many && repeated "$(head -n 1 "$made/tokens")" ;;
	roster-fetch)
		want=1500 in=many
		seq -f 'a-name-of-some-length-%.0f' 1500 >many
		;;
	roster-diff)
		seq "$MANY" | sed 's/.*/{"user":"u&","status":"ok","roster":{"m@x":{}},"skipped":[]}/' >many
		in=$made/nothing
		words[2]=many
		;;
	roster-apply)
		in=many
		seq "$MANY" | sed 's/.*/{"user":"u&","status":"error","error":"x"}/' >many
		;;
	roster-refresh-listen)
		want=15000
		seq "$want" | sed 's/.*/"u&"/' | paste -sd, | sed 's/.*/[&]/' >many
		more=(--lines "$want" --beside 'until p=$(sed -n "s/.*127.0.0.1:\([0-9]*\)$/\1/p" err) && [ "$p" ]; do :; done;
			curl -s -m 20 --data-binary @many "http://127.0.0.1:$p/roster_admin/refresh"')
		;;
	esac
	tested[$1]=1
	status=0
	hwm=$(python3 "$TESTS/tools/slowreader.py" "${more[@]}" -- "$in" out "${prefix[@]}" "${words[@]}" "${tail[@]}" 2>err) ||
		status=$?
	assert_equal "$1 $(wc -l <out)" "$1 $want"
	# roster-diff holds both files in memory, the others what is on its way
	[[ ! -e $BUILDDIR/preload/sweep.so || -n ${WRAP:-} ]] || assert [ "$hwm" -lt 40000 ]
}

repeated() { yes "$1" | head -n "$MANY" >many; }

fault_oversize_input()
{
	local long
	long=$(printf '%02000d' 7)
	job "$1"
	in=large
	case $1 in
	xmpp-iq)
		quiet_end
		peer 'up ; wait-close'
		words=("$1" "${component[@]}" --to vhost.test --batch --max-stanza-bytes 1K)
		echo "<iq type='get'><x xmlns='urn:$long'/></iq>" >large
		;;
	xmpp-message)
		words+=(--limit body-bytes=1K)
		echo "$long" >large
		;;
	json-to-stanza)
		words+=(--max-line-bytes 1K)
		echo "{\"kind\":\"presence\",\"id\":\"$long\"}" >large
		;;
	jat-*)
		words+=(--stanza --max-stanza-bytes 1K)
		echo "<message id='$long'/>" >large
		;;
	xmpp-* | stanza-to-json)
		if [[ $1 == xmpp-connect ]]; then
			quiet_end
			peer 'up ; wait-close'
			words=("$1" "${component[@]}")
		fi
		words+=(--max-stanza-bytes 1K)
		echo "<message id='$long'/>" >large
		;;
	roster-fetch)
		words=("$1" --url "http://127.0.0.1:$APP_PORT/huge/%s" --max-bytes 1K)
		in=$made/names
		;;
	roster-apply)
		words+=(--max-record-bytes 1K)
		echo "{\"user\":\"$long\",\"status\":\"ok\",\"roster\":{}}" >large
		;;
	roster-refresh-listen)
		echo "[\"$long\"]" >large
		words+=(--max-body-bytes 1K)
		listener '>out'
		tell --data-binary @large
		assert_equal "$http" 413
		tell
		end_cell
		return
		;;
	esac
	perform "<$in >out"
}

as_whole()
{
	local setting
	perform "<$in >whole"
	assert_equal "$status" "$usual"
	for setting in DRIP={1,2,3,7,100} DRIP_READ=1; do
		with_faults failcall -- "$setting"
		perform "<$in >out"
		assert_equal "$setting $status" "$setting $usual"
		cmp whole out
		prefix=()
	done
}

fault_byte_by_byte()
{
	local_ways_of "$1"
	each_way as_whole
}

# failing ERRORS CALLS: the settings of the preloaded library
failing()
{
	local call error
	for error in $1; do
		for call in $2; do printf 'FAILCALL=%s:N:%s ' "$call" "$error"; done
	done
}

fault_interrupted()
{
	local again='read write poll'
	# libcurl does not poll again after EAGAIN, an error that poll(2) does not document
	[[ $1 != roster-fetch ]] || again='read write'
	local_ways_of "$1"
	each_way sweep "$(failing EINTR 'read write recv send poll')$(failing EAGAIN "$again")" same
}

fault_io_errors()
{
	local_ways_of "$1"
	# poll(2) may also fail for want of memory
	each_way sweep "$(failing EIO 'read write')$(failing ENOSPC write)$(failing ENOMEM poll)" "${specs[@]}" 75
}

# --- signals

# stopped PROGRAM SIGNAL: all whole stanzas have gone through, HALF of one has been read
stopped()
{
	local half=HALF full
	job "$1"
	full=$(head -n 1 "$in")
	case $1 in
	xmpp-connect)
		quiet_end
		peer "up ; reply $RESULT ; expect ^((?!HALF).)*</stream:stream> ; say clean ; end ; wait-close"
		words=("$1" "${component[@]}")
		;;
	xmpp-iq)
		quiet_end
		peer "up ; reply $RESULT ; expect ^((?!HALF).)*</stream:stream> ; say clean ; end ; wait-close"
		words=("$1" "${component[@]}" --to vhost.test --batch)
		full=$(<"$made/ping")
		;;
	xmpp-jat-proxy | xmpp-delegate) full=$(tail -n 1 "$in") ;;
	roster-refresh-listen)
		words+=(--drain-time 0)
		listener '>out'
		tell
		exec {client}<>"/dev/tcp/127.0.0.1/$port"
		printf 'POST /roster_admin/refresh HTTP/1.1\r\nHost: HALF' >&"$client"
		end_cell "$2"
		exec {client}<&-
		return
		;;
	esac
	case $full in
	'<'*) half="<message to='HALF" ;;
	'{'*) half='{"user":"HALF' ;;
	esac
	mkfifo fifo
	exec {fifo}<>fifo
	begin "<fifo >out $fifo>&-"
	if [[ $1 == roster-diff || $1 == xmpp-message ]]; then
		# it prints nothing before the end
		printf '%s\n%050000d' "$full" 7 >&"$fifo"
		wait_for has_read 50000
	else
		printf '%s\n%s' "$full" "$half" >&"$fifo"
		wait_for eval '[[ -s out ]] || _gone "$cell_pid"'
	fi
	end_cell "$2"
	exec {fifo}<&-
	refute grep -q HALF out
	if [[ $1 == xmpp-connect ]]; then wait_for grep -q clean fake.out; fi
}

has_read() { (($(sed -n 's/^rchar: //p' "/proc/$cell_pid/io") > $1)); }

fault_sigterm() { stopped "$1" TERM; }
fault_sigint() { stopped "$1" INT; }

# --- the peer

# with_peer NAME SCRIPT...: run NAME against a peer that does SCRIPT
with_peer()
{
	local name=$1
	shift
	peer "$@"
	case $name in
	xmpp-connect | xmpp-iq | xmpp-message)
		words=("$name" "${component[@]}") tail=() in=$made/ping
		if [[ $name == xmpp-iq ]]; then words+=(--to vhost.test --batch); fi
		if [[ $name == xmpp-message ]]; then words+=(--to vhost.test); fi
		;;
	*)
		served "$name"
		words+=("${component[@]}") in=$made/nothing
		;;
	esac
}

# from KIND: roster-fetch asks a web application that answers in this way
from()
{
	words=(roster-fetch --url "http://127.0.0.1:$APP_PORT/$1/%s") tail=() in=$made/names
}

# An input that does not end, because roster-apply ends with its input.
perform_held()
{
	mkfifo held
	exec {held}<>held
	perform "<held >out $held>&-"
	exec {held}<&-
}

fault_peer_reset()
{
	case $1 in
	roster-fetch) from reset ;;
	roster-refresh-listen)
		job "$1"
		listener '>out'
		python3 - "$port" <<-'END'
			import socket, struct, sys
			s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
			s.sendall(b"POST /roster_admin/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n[")
			s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
		END
		tell
		assert_equal "$http" 200
		end_cell
		return
		;;
	xmpp-connect | xmpp-iq | xmpp-message) with_peer "$1" "up ; expect <iq ; reset" ;;
	*)
		with_peer "$1" "up ; reset"
		words+=(--retries 0)
		perform_held
		return
		;;
	esac
	perform "<$in >out"
}

fault_peer_silent()
{
	case $1 in
	xmpp-connect)
		with_peer "$1" 'up ; wait-close'
		words+=(--wait 0.3)
		;;
	xmpp-message) with_peer "$1" 'up ; wait-close' ;;
	xmpp-iq)
		with_peer "$1" 'up ; wait-close'
		words=("$1" "${component[@]}" --to vhost.test --ping --reply-timeout 0.3)
		;;
	roster-fetch)
		from hang
		words+=(--timeout 0.3)
		;;
	roster-apply)
		with_peer "$1" "up ; send $GRANT ; wait-close"
		words+=(--timeout 0.3) in=$made/new
		;;
	roster-refresh-listen)
		job "$1"
		words+=(--receive-timeout 0.3)
		listener '>out'
		exec {client}<>"/dev/tcp/127.0.0.1/$port"
		printf 'POST /roster_admin/refresh HTTP/1.1\r\n' >&"$client"
		timeout 30 cat <&"$client" >answer
		exec {client}<&-
		end_cell
		return
		;;
	*)
		# a request is answered in time, even if all others are silent
		served "$1"
		with_peer "$1" "up ; send $HERE$REQUEST ; expect <iq [^>]*(id='q1'[^>]*|to='john@vhost.test/x'|to='vhost.test').*error ; say answered ; wait-close"
		words+=(--timeout 0.3)
		begin '</dev/null >out'
		wait_for grep -q answered fake.out
		end_cell
		return
		;;
	esac
	perform "<$in >out"
}

fault_server_restart()
{
	case $1 in
	xmpp-connect | xmpp-iq | xmpp-message)
		with_peer "$1" "up ; expect <iq ; error system-shutdown"
		perform "<$in >out"
		;;
	roster-fetch)
		from dropping
		words+=(--retry 3)
		perform "<$in >out"
		;;
	*)
		with_peer "$1" 'up ; say first ; wait-for go ; vanish 0.1' 'up ; say again ; wait-close'
		if [[ $1 == roster-apply ]]; then words+=(--listen-unix socket); fi
		begin '</dev/null >out'
		wait_for grep -qx first fake.out
		: >go
		wait_for grep -qx again fake.out
		end_cell
		;;
	esac
}

fault_wrong_secret()
{
	case $1 in
	roster-fetch)
		from status-401
		words+=(--token-file "$made/token")
		perform "<$in >out"
		;;
	roster-refresh-listen)
		job "$1"
		words+=(--token-file "$made/token")
		listener '>out'
		tell -H 'Authorization: Bearer other'
		assert_equal "$http" 401
		tell -H 'Authorization: Bearer token'
		assert_equal "$http" 200
		end_cell
		;;
	*)
		with_peer "$1" --secret other 'open ; handshake ; wait-close'
		# the program reads its whole input before it connects
		if [[ $1 == xmpp-message ]]; then perform "<$in >out"; else perform_held; fi
		;;
	esac
}

fault_no_secret()
{
	case $1 in
	jat-*)
		job "$1"
		words=("$1" --domain d.test --key-file missing)
		;;
	roster-fetch | roster-refresh-listen)
		job "$1"
		words+=(--token-file missing)
		;;
	*)
		FAKE_PORT=1 served "$1"
		words=("${words[@]}" --domain d.test --connect 127.0.0.1:1 --secret-file missing) in=$made/nothing
		if [[ $1 == xmpp-iq ]]; then words+=(--to vhost.test --ping); fi
		if [[ $1 == xmpp-message ]]; then words+=(--to vhost.test) in=$made/ping; fi
		;;
	esac
	perform "<$in >out"
}

fault_no_server()
{
	server_free_port
	component=(--domain d.test --connect "127.0.0.1:$FREE_PORT" --secret-file "$made/secret")
	case $1 in
	xmpp-connect | xmpp-iq | xmpp-message)
		words=("$1" "${component[@]}") tail=() in=$made/ping
		if [[ $1 == xmpp-iq ]]; then words+=(--to vhost.test --ping); fi
		if [[ $1 == xmpp-message ]]; then words+=(--to vhost.test); fi
		;;
	roster-fetch) words=("$1" --url "http://127.0.0.1:$FREE_PORT/%s") tail=() in=$made/names ;;
	*)
		served "$1"
		# the supervisor decides whether to start it again
		words+=("${component[@]}" --retries 0)
		perform_held
		assert_equal "$1 $status" "$1 75"
		rm held
		words+=(--retries 1)
		perform_held
		return
		;;
	esac
	perform "<$in >out"
}

fault_no_xmpp()
{
	case $1 in
	xmpp-connect | xmpp-iq | xmpp-message)
		with_peer "$1" 'open ; any-handshake ; send <!-- hello --> ; wait-close'
		perform "<$in >out"
		;;
	roster-fetch)
		from garbage
		perform "<$in >out"
		;;
	roster-refresh-listen)
		job "$1"
		listener '>out'
		exec {client}<>"/dev/tcp/127.0.0.1/$port"
		printf 'SSH-2.0-OpenSSH_9.2p1\r\n\r\n' >&"$client"
		timeout 30 cat <&"$client" >answer
		exec {client}<&-
		tell
		assert_equal "$http" 200
		end_cell
		;;
	*)
		with_peer "$1" 'up ; send <!-- hello --> ; wait-close'
		words+=(--retries 1)
		perform_held
		;;
	esac
}

# --- the machine

fault_no_memory()
{
	ways_of "$1"
	# libcurl 8.14 calls it a name that cannot be found when there is no memory for a numeric address.
	[[ $1 != roster-fetch ]] || specs+=('1:"error":"connect","message":"Could not resolve host: 127.0.0.1"')
	each_way sweep 'FAILMALLOC=N FAILMALLOC=N+' "${specs[@]}"
}

no_descriptors()
{
	local limit='NOFILE=N '
	# without any process it tries to start its worker until --timeout
	[[ $in != */request ]] || limit=
	sweep "$limit$(failing EMFILE 'open openat pipe2 socket socketpair accept4')" "${specs[@]}"
}

fault_no_descriptors()
{
	ways_of "$1"
	each_way no_descriptors
}

# Deadlines come neither late nor early when the clock jumps.
fault_clock_jump()
{
	local mine=$1 way=
	[[ $mine != xmpp-share ]] || way=connected
	job "$1" "$way"
	perform "<$in >whole"
	assert_equal "$status" "$usual"
	quiet_end
	with_faults jump -- JUMP=1
	job "$1" "$way"
	perform "<$in >out"
	assert_equal "$status" "$usual"
	cmp whole out
	case $mine in
	xmpp-* | roster-fetch | roster-apply | roster-refresh-listen)
		quiet_end
		fault_peer_silent "$1"
		;;
	esac
}

# --- for all programs

fault_help_no_memory()
{
	local option
	in=$made/nothing tail=()
	for option in --help --version --no-such-option; do
		words=("$1" "$option") usual=0
		[[ $option != --no* ]] || usual=64
		sweep 'FAILMALLOC=N FAILMALLOC=N+' "${specs[@]}"
	done
}

fault_help_full_disk()
{
	words=("$1" --help) tail=()
	tested[$1]=1
	status=0
	"$1" --help >&- 2>err || status=$?
	assert_equal "$1 $status" "$1 74"
	as_said_of badout
	status=0
	"$1" --help >/dev/full 2>err || status=$?
}

as_said_of() { grep -q -e "${said[$1]}" err; }
