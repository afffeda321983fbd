# shellcheck shell=bash
# Private XMPP and HTTP servers for tests, demo and benchmarks.
#
#   . tests/servers/servers.bash
#   prosody_start DIR [OPTION...]     ejabberd_start DIR [OPTION...]    nginx_start DIR [OPTION...]
#   prosody_stop DIR                  ejabberd_stop DIR                 nginx_stop DIR
#   prosody_restart DIR               ejabberd_restart DIR
#
# A server lives in DIR (made if missing, yours to remove): configuration, state, server.log
# (what it logged) and stderr. It listens on free ports of 127.0.0.1 only and is ended by its own
# process id. *_start returns when all its ports accept; *_restart keeps ports and state.
# Each of these on failure says why, shows the end of the log and returns 1.
# A server ends with the shell that started it ($$: the bats file in setup_file, the test in setup or
# in the test itself), even when that is killed; restarting it from elsewhere does not change that.
#
# Facts are exported as variables (the last *_start wins) and kept in DIR/facts, so with two
# servers at once: `server_facts DIR` before using them.
#   SERVER_DIR SERVER_KIND XMPP_HOST C2S_PORT C2S_TLS_PORT COMPONENT_PORT OPEN_COMPONENT_PORT
#   HTTP_API_PORT SECRET_FILE PASSWORD_FILE TLS_CA NGINX_PORT NGINX_TLS_PORT
# SECRET_FILE holds the component secret "secret", PASSWORD_FILE every user's password "pw".
#
# $SERVERS says which servers, where they are not the ones of this machine:
#   'prosody=COMMAND ejabberd=COMMAND nginx=COMMAND', each optional. A COMMAND takes the arguments of
#   prosody, of erl (whose code path, or Debian's folders, have ejabberd) and of nginx, may have
#   arguments of its own before them, and must become the server by exec. Relative to the tree.
#
# Options of prosody_start and ejabberd_start:
#   --host H            virtual host (vhost.test)
#   --user U            one more account; alice bob carol mallory impl impl2 john marie aaron
#                       michael exist. Any localpart in UTF-8.
#   --component D       one more component domain beside jat.test jat2.test deleg.test
#                       deleg2.test priv.test proxy.test and open.test rosters.test
#   --open-component D  the same, allowed to send from any address, and privileged
#   --privileged D      one more privileged entity beside priv.test open.test rosters.test
#                       (roster both, message outgoing, presence managed_entity; Prosody also
#                       iq for urn:test:iq); on ejabberd only with
#   --privileges        ejabberd: load mod_privilege. 24.10 to 24.12 drop what other IQs components
#                       send then, so tests of anything else do without
#   --delegate NS=JID, --delegate 'NS[attr,attr]=JID'
#                       the namespaces delegated; without it the list in _servers_options
#   --no-delegate       nothing is delegated
#   --tls off           no TLS (default: offered on C2S_PORT; Prosody also direct on C2S_TLS_PORT,
#                       where only the virtual host's certificate is shown)
#   --log LEVEL         info; debug tells more and slows the server down
# Prosody only:
#   --global LUA        a line before the hosts
#   --vhost LUA         a line in the virtual host
#   --append LUA        lines at the end (more hosts)
# ejabberd only:
#   --yaml TEXT         lines at the end (top level)
#   --listener 'D R'    one more component listener, on LISTENER_PORT, for these domains, of the form
#                       that several xmpp-jat-proxy of one domain need (global_routes)
#   --node NAME         a node that can be in a cluster, as a@127.0.0.1; after epmd_start DIR
#   --join NAME         into the cluster of this node, which runs
# Prosody with TLS also has tls.test (encryption required) and badcert.test (encryption offered
# with vhost's certificate), both with the same accounts.
# Component ports: `component_port DOMAIN` works for both (ejabberd has a separate listener for
# the domains that may send from any address).
# More: server_pid DIR, server_log DIR, server_kill DIR [SIGNAL], server_add_user DIR USER [PW [HOST]],
# server_facts DIR, tls_ca DIR, tls_cert DIR FILE-STEM DNS-NAME...

# A server may take this long without a sign of progress, and SERVERS_LONGEST_S in all.
SERVERS_DEADLINE_S=${SERVERS_DEADLINE_S:-60}
SERVERS_LONGEST_S=${SERVERS_LONGEST_S:-300}

_servers_say() { echo "servers: $*" >&2; }

# FREE_PORT: a port nobody listens on, below the range the kernel gives to outgoing connections, so that
# no client can take it while its server restarts.
server_free_port()
{
	local port
	while :; do
		port=$((10000 + RANDOM % 22000))
		case " ${_servers_taken:-} " in *" $port "*) continue ;; esac
		(: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue
		_servers_taken="${_servers_taken:-} $port"
		FREE_PORT=$port
		return 0
	done
}

# Whether the process PID listens on 127.0.0.1:PORT (another process may have taken the port).
server_listens()
{
	local pid=$1 port=$2 inode
	inode=$(awk -v want="0100007F:$(printf %04X "$port")" \
		'$2 == want && $4 == "0A" { print $10; exit }' /proc/net/tcp)
	[[ -n $inode ]] && find "/proc/$pid/fd" -lname "socket:\[$inode\]" -print -quit 2>/dev/null |
		grep -q .
}

_servers_starttime()
{
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	stat=${stat##*) }
	# shellcheck disable=SC2086
	set -- $stat
	[[ $1 != Z ]] && echo "${20}"
}

# Print the process id of the server in DIR, if it runs; a reused id does not count.
server_pid()
{
	local pid start
	read -r pid start 2>/dev/null <"$1/pid" || return 1
	# there is no start time: the process had ended before
	[[ -n $start && $(_servers_starttime "$pid") == "$start" ]] && echo "$pid"
}

server_log() { cat "$1/server.log" "$1/stderr" 2>/dev/null; }

# server_kill DIR [SIGNAL]: send a signal (TERM) and, if it ends processes, wait for the end.
server_kill()
{
	local dir=$1 signal=${2:-TERM} pid deadline=$((SECONDS + 15))
	pid=$(server_pid "$dir") || return 0
	kill -s "$signal" "$pid" 2>/dev/null || return 0
	case $signal in TERM | KILL | INT | QUIT) ;; *) return 0 ;; esac
	while server_pid "$dir" >/dev/null; do
		if ((SECONDS > deadline)); then
			_servers_say "$dir: still there after SIG$signal, killed"
			kill -s KILL "$pid" 2>/dev/null
			deadline=$((SECONDS + 15))
		fi
		command sleep 0.02
	done
	wait "$pid" 2>/dev/null || true # reap it if it is our child
	rm -f "$dir/pid"
}

server_facts()
{
	# shellcheck disable=SC1091
	set -a && . "$1/facts" && set +a
}

# The port on which the component DOMAIN connects to the server of the current facts.
component_port()
{
	case " ${OPEN_COMPONENTS:-} " in
	*" $1 "*) echo "$OPEN_COMPONENT_PORT" ;;
	*) echo "$COMPONENT_PORT" ;;
	esac
}

# --- processes

# _servers_command KIND DEFAULT: sets command, an array
_servers_command()
{
	local words word kind=''
	command=()
	read -ra words <<<"${SERVERS:-}"
	for word in ${words[@]+"${words[@]}"}; do
		case $word in
		prosody=* | ejabberd=* | nginx=*) kind=${word%%=*} word=${word#*=} ;;
		esac
		[[ $kind != "$1" || -z $word ]] || command+=("$word")
	done
	((${#command[@]})) || command=("$2")
	if [[ ${command[0]} == */* && ${command[0]} != /* ]]; then
		command[0]=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)/${command[0]}
	fi
}

# _servers_spawn DIR COMMAND...: start it detached from our terminal and descriptors.
_servers_spawn()
{
	local dir=$1 pid
	shift
	(
		for fd in /proc/"$BASHPID"/fd/*; do
			fd=${fd##*/}
			((fd > 2)) && eval "exec $fd>&-"
		done
		unset LD_PRELOAD
		# setsid: an interrupt typed at the terminal must reach the test run only, not the server
		exec setsid "$@"
	) </dev/null >>"$dir/stderr" 2>&1 &
	pid=$!
	echo "$pid $(_servers_starttime "$pid")" >"$dir/pid"
	disown "$pid"
}

# Ends the server when the shell that owns it is gone.
_servers_watch()
{
	local dir=$1
	(
		for fd in /proc/"$BASHPID"/fd/*; do
			fd=${fd##*/}
			((fd > 2)) && eval "exec $fd>&-"
		done
		# shellcheck disable=SC2016
		exec setsid bash -c '
			tail --pid="$1" -s 0.5 -f /dev/null &
			trap "kill $!; exit" TERM
			wait $!
			. "$2" && server_kill "$3"' servers-watch "$$" "${BASH_SOURCE[0]}" "$dir"
	) </dev/null >/dev/null 2>&1 &
	echo "$! $(_servers_starttime $!)" >"$dir/watch.pid"
	disown $!
}

_servers_unwatch()
{
	local pid start
	read -r pid start 2>/dev/null <"$1/watch.pid" || return 0
	[[ -n $start && $(_servers_starttime "$pid") == "$start" ]] && kill "$pid" 2>/dev/null
	rm -f "$1/watch.pid"
}

# Print what a starting server in DIR has done: bytes logged, and half seconds of the processor used.
_servers_progress()
{
	local stat
	stat=$(cat "/proc/$(server_pid "$1")/stat" 2>/dev/null) || return 0
	stat=${stat##*) }
	# shellcheck disable=SC2086
	set -- "$1" $stat
	echo "$(cat "$1/server.log" "$1/stderr" 2>/dev/null | wc -c) $(((${13} + ${14}) / 50))"
}

# _servers_until DIR COMMAND...: wait until COMMAND succeeds. 1 = the server has ended, cannot have a port, or
# does nothing any more: on a busy machine a start takes as long as it takes.
_servers_until()
{
	local dir=$1 begin=$SECONDS last=$SECONDS looked=$SECONDS seen='' now
	shift
	until "$@"; do
		server_pid "$dir" >/dev/null || return 1
		# Both servers go on without a port that is taken.
		grep -qsE 'Failed to open (server port|socket)|ddress already in use' \
			"$dir/server.log" "$dir/stderr" && return 1
		if ((SECONDS > looked)); then
			looked=$SECONDS
			now=$(_servers_progress "$dir")
			[[ $now == "$seen" ]] || last=$SECONDS
			seen=$now
		fi
		((SECONDS - last > SERVERS_DEADLINE_S || SECONDS - begin > SERVERS_LONGEST_S)) && return 1
		command sleep 0.02
	done
}

_servers_port() { server_listens "$(server_pid "$1")" "$2"; }

# _servers_ready DIR PORT...: wait until the server in DIR listens on all ports. 1 = it does not.
_servers_ready()
{
	local dir=$1 port
	shift
	for port; do _servers_until "$dir" _servers_port "$dir" "$port" || return 1; done
}

_servers_failed()
{
	_servers_say "$1 in $2 did not start; the end of its log:"
	server_log "$2" | tail -n 25 >&2
	return 1
}

# _servers_start KIND DIR: configure on new ports and launch, again when a port was snatched.
_servers_start()
{
	local kind=$1 dir=$2 tries=5
	while ((tries-- > 0)); do
		"_${kind}_configure" "$dir"
		: >"$dir/server.log"
		: >"$dir/stderr"
		if "_${kind}_launch" "$dir"; then
			_servers_watch "$dir"
			server_facts "$dir"
			return 0
		fi
		server_kill "$dir" KILL
		grep -qsE 'Failed to open (server port|socket)|ddress already in use' \
			"$dir/server.log" "$dir/stderr" || break
	done
	_servers_failed "$kind" "$dir"
}

_servers_restart()
{
	local kind=$1 dir=$2
	server_kill "$dir"
	server_facts "$dir"
	: >>"$dir/server.log"
	mv "$dir/server.log" "$dir/server.log.$(date +%s%N)"
	: >"$dir/stderr"
	"_${kind}_launch" "$dir" || _servers_failed "$kind" "$dir"
}

_servers_stop()
{
	_servers_unwatch "$1"
	server_kill "$1"
}

# --- options and files common to the XMPP servers

_servers_options()
{
	host=vhost.test
	users=(alice bob carol mallory impl impl2 john marie aaron michael)
	components=(jat.test jat2.test proxy.test deleg.test deleg2.test priv.test)
	open_components=(open.test rosters.test)
	privileged=(priv.test open.test rosters.test)
	delegations=(urn:test:one=deleg.test urn:test:two=deleg.test 'urn:test:filtered[node]=deleg.test'
		'urn:test:filtered2[node,kind]=deleg.test' urn:test:three=deleg2.test)
	tls=on
	privileges=off
	log_level=info
	lua_global='' lua_vhost='' lua_append='' yaml='' node='' join='' listener=''
	local own_delegations=''
	while (($#)); do
		case $1 in
		--no-delegate)
			delegations=()
			own_delegations=1
			shift
			continue
			;;
		--privileges)
			privileges=on
			shift
			continue
			;;
		esac
		(($# >= 2)) || { _servers_say "$1: no value" && return 1; }
		case $1 in
		--host) host=$2 ;;
		--user) users+=("$2") ;;
		--component) components+=("$2") ;;
		--open-component)
			open_components+=("$2")
			privileged+=("$2")
			;;
		--privileged) privileged+=("$2") ;;
		--delegate)
			[[ -n $own_delegations ]] || delegations=()
			own_delegations=1
			delegations+=("$2")
			;;
		--tls) tls=$2 ;;
		--log) log_level=$2 ;;
		--global) lua_global+=$2$'\n' ;;
		--vhost) lua_vhost+=$2$'\n' ;;
		--append) lua_append+=$2$'\n' ;;
		--yaml) yaml+=$2$'\n' ;;
		--node) node=$2 ;;
		--join) join=$2 ;;
		--listener) listener=$2 ;;
		*) _servers_say "$1: no such option" && return 1 ;;
		esac
		shift 2
	done
	stem=$(_servers_alabels "$host") # of its files
}

_servers_prepare()
{
	local dir=$1
	mkdir -p "$dir" && rm -rf "$dir/data" "$dir/mnesia" && mkdir -p "$dir/data"
	(umask 077 && echo secret >"$dir/secret" && echo pw >"$dir/password")
	if [[ $tls == on ]]; then
		tls_ca "$dir" && tls_cert "$dir" "$stem" "$host"
	fi
}

# facts KEY=VALUE...: quoted, one a line
_servers_facts()
{
	local dir=$1 fact
	shift
	for fact in SERVER_DIR="$dir" SECRET_FILE="$dir/secret" PASSWORD_FILE="$dir/password" "$@"; do
		printf '%s=%q\n' "${fact%%=*}" "${fact#*=}"
	done >"$dir/facts"
}

_servers_openssl_conf()
{
	printf '[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=ext\n[dn]\nCN=%s\n[ext]\n' "$1"
}

# tls_ca DIR: a certificate authority, DIR/ca.pem. It signs with a key that stays in DIR.
tls_ca()
{
	[[ -f $1/ca.pem ]] && return 0
	{
		_servers_openssl_conf "outboard tests"
		echo 'basicConstraints=critical,CA:true'
		echo 'subjectKeyIdentifier=hash'
	} >"$1/ca.cnf"
	(umask 077 && openssl req -x509 -config "$1/ca.cnf" -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
		-nodes -days 3650 -keyout "$1/ca.key" -out "$1/ca.pem") 2>>"$1/openssl.log"
}

# An internationalised domain as DNS has it.
_servers_alabels()
{
	case $1 in
	*xn--* | *[!a-zA-Z0-9.-]*) python3 -c 'import sys; print(sys.argv[1].encode("idna").decode())' "$1" ;;
	*) echo "$1" ;;
	esac
}

# tls_cert DIR STEM NAME...: DIR/STEM.crt and DIR/STEM.key for these DNS names (as A-labels), signed by
# tls_ca DIR.
tls_cert()
{
	local dir=$1 stem=$2 name san=''
	shift 2
	[[ -f $dir/$stem.crt ]] && return 0
	for name; do san+=",DNS:$(_servers_alabels "$name")"; done
	{
		_servers_openssl_conf "$1"
		echo "subjectAltName=${san#,},IP:127.0.0.1"
		echo 'basicConstraints=CA:false'
		echo 'authorityKeyIdentifier=keyid'
	} >"$dir/$stem.cnf"
	(umask 077 && openssl req -x509 -config "$dir/$stem.cnf" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" \
		-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
		-keyout "$dir/$stem.key" -out "$dir/$stem.crt") 2>>"$dir/openssl.log"
}

server_add_user()
{
	"_${SERVER_KIND}_add_user" "$1" "$2" "${3:-pw}" "${4:-${XMPP_HOST:-vhost.test}}"
}

# --- Prosody

# The file name of Prosody's datamanager: all but letters and digits as %xx.
_prosody_name()
{
	local LC_ALL=C s=$1 out='' c i
	for ((i = 0; i < ${#s}; i++)); do
		c=${s:i:1}
		case $c in
		[a-zA-Z0-9]) out+=$c ;;
		*) out+=$(printf '%%%02x' $(($(printf '%d' "'$c") & 255))) ;;
		esac
	done
	echo "$out"
}

_prosody_add_user()
{
	local dir=$1 user=$2 password=$3 host=$4 to
	to=$dir/data/$(_prosody_name "$host")/accounts
	mkdir -p "$to"
	printf 'return {\n\t["password"] = "%s";\n};\n' "$password" >"$to/$(_prosody_name "$user").dat"
}

_prosody_delegations()
{
	local d left jid ns attrs
	((${#delegations[@]})) || return 0
	echo 'delegations = {'
	for d in "${delegations[@]}"; do
		jid=${d##*=} left=${d%=*} attrs=''
		ns=$left
		if [[ $left == *']' ]]; then
			ns=${left%%\[*}
			attrs=${left#*\[}
			attrs=${attrs%]}
			attrs=" filtering = { \"${attrs//,/\", \"}\" };"
		fi
		echo "  [\"$ns\"] = {$attrs jid = \"$jid\" };"
	done
	echo '}'
}

# _prosody_vhost NAME CERTIFICATE-STEM
_prosody_vhost()
{
	echo "VirtualHost \"$1\""
	if [[ $tls == on ]]; then
		echo "ssl = { key = \"$dir/$2.key\"; certificate = \"$dir/$2.crt\" }"
	fi
}

_prosody_privileges()
{
	local d
	echo 'privileged_entities = {'
	for d in "${privileged[@]}"; do
		echo "  [\"$d\"] = { roster = \"both\"; message = \"outgoing\"; presence = \"managed_entity\";" \
			'iq = { ["urn:test:iq"] = "both" } };'
	done
	echo '}'
}

_prosody_configure()
{
	local dir=$1 c2s tlsport component d
	server_free_port && c2s=$FREE_PORT
	server_free_port && tlsport=$FREE_PORT
	server_free_port && component=$FREE_PORT
	{
		cat <<-END
			run_as_root = $([[ $EUID == 0 ]] && echo true || echo false)
			data_path = "$dir/data"
			pidfile = "$dir/prosody.pid"
			log = { { levels = { min = "$log_level" }, to = "file", filename = "$dir/server.log" } }
			certificates = "$dir"
			interfaces = { "127.0.0.1" }
			local_interfaces = { "127.0.0.1" }
			c2s_ports = { $c2s }
			c2s_direct_tls_ports = { $([[ $tls == on ]] && echo "$tlsport") }
			component_ports = { $component }
			s2s_ports = {}
			modules_enabled = { "roster", "saslauth", "tls", "disco", "ping", "version", "private",
			  "time" }
			modules_disabled = { "s2s", "offline" }
			authentication = "internal_plain"
			storage = "internal"
			c2s_require_encryption = false
			allow_unencrypted_plain_auth = true
			$lua_global
		END
		[[ $tls == on ]] &&
			echo "c2s_direct_tls_ssl = { key = \"$dir/$stem.key\"; certificate = \"$dir/$stem.crt\" }"
		_prosody_vhost "$host" "$stem"
		echo 'modules_enabled = { "delegation", "privilege" }'
		_prosody_delegations
		_prosody_privileges
		printf '%s\n' "$lua_vhost"
		if [[ $tls == on ]]; then
			_prosody_vhost tls.test tls.test
			echo 'c2s_require_encryption = true'
			_prosody_vhost badcert.test "$stem"
		fi
		for d in "${components[@]}" "${open_components[@]}"; do
			printf 'Component "%s"\ncomponent_secret = "secret"\n' "$d"
			echo 'modules_enabled = { "delegation", "privilege" }'
			case " ${open_components[*]} " in
			*" $d "*) echo 'validate_from_addresses = false' ;;
			esac
		done
		printf '%s\n' "$lua_append"
	} >"$dir/prosody.cfg.lua"
	_servers_facts "$dir" SERVER_KIND=prosody XMPP_HOST="$host" C2S_PORT="$c2s" \
		C2S_TLS_PORT="$([[ $tls == on ]] && echo "$tlsport")" COMPONENT_PORT="$component" \
		OPEN_COMPONENT_PORT="$component" OPEN_COMPONENTS="${open_components[*]}" \
		HTTP_API_PORT='' TLS_CA="$([[ $tls == on ]] && echo "$dir/ca.pem")"
}

_prosody_launch()
{
	local dir=$1 command
	# shellcheck disable=SC1091
	. "$dir/facts"
	_servers_command prosody prosody
	_servers_spawn "$dir" "${command[@]}" -F --config "$dir/prosody.cfg.lua"
	# shellcheck disable=SC2086
	_servers_ready "$dir" "$C2S_PORT" $C2S_TLS_PORT "$COMPONENT_PORT"
}

prosody_start()
{
	local dir host stem users components open_components privileged delegations privileges tls log_level
	local lua_global lua_vhost lua_append yaml user
	mkdir -p "$1" && dir=$(cd "$1" && pwd) || return 1
	shift
	_servers_options "$@" || return 1
	_servers_prepare "$dir" || return 1
	if [[ $tls == on ]]; then
		tls_cert "$dir" tls.test tls.test
	fi
	for user in "${users[@]}"; do
		_prosody_add_user "$dir" "$user" pw "$host"
		if [[ $tls == on ]]; then
			_prosody_add_user "$dir" "$user" pw tls.test
			_prosody_add_user "$dir" "$user" pw badcert.test
		fi
	done
	_servers_start prosody "$dir"
}

prosody_stop() { _servers_stop "$1"; }
prosody_restart() { _servers_restart prosody "$1"; }

# --- ejabberd

_ejabberd_add_user()
{
	local dir=$1 user=$2 password=$3 host=$4
	# shellcheck disable=SC1091
	. "$dir/facts"
	curl -fsS --max-time 20 "http://127.0.0.1:$HTTP_API_PORT/api/register" >/dev/null \
		-d "{\"user\":\"$user\",\"host\":\"$host\",\"password\":\"$password\"}"
}

_ejabberd_listener()
{
	local port=$1 check=$2 global=$3 d
	shift 3
	cat <<-END
		  - port: $port
		    ip: 127.0.0.1
		    module: ejabberd_service
		    access: all
		    global_routes: $global
		    check_from: $check
		    shaper: none
		    hosts:
	END
	for d; do
		printf '      %s:\n        password: secret\n' "$d"
	done
}

_ejabberd_delegations()
{
	local d left jid ns attrs
	((${#delegations[@]})) || return 0
	printf '  mod_delegation:\n    namespaces:\n'
	for d in "${delegations[@]}"; do
		jid=${d##*=} left=${d%=*} attrs=''
		ns=$left
		if [[ $left == *']' ]]; then
			ns=${left%%\[*}
			attrs=${left#*\[}
			attrs=${attrs%]}
		fi
		printf '      "%s":\n        access: is_%s\n' "$ns" "${jid//[^a-z0-9]/_}"
		[[ -n $attrs ]] && printf '        filtering: [%s]\n' "$attrs"
	done
	return 0
}

_ejabberd_configure()
{
	local dir=$1 c2s component open api extra='' d
	[[ -z $listener ]] || { server_free_port && extra=$FREE_PORT; }
	server_free_port && c2s=$FREE_PORT
	server_free_port && component=$FREE_PORT
	server_free_port && open=$FREE_PORT
	server_free_port && api=$FREE_PORT
	{
		cat <<-END
			hosts: ["$host", "second.test"]
			loglevel: $log_level
			auth_method: [internal]
			auth_password_format: plain
			s2s_access: none
			new_sql_schema: false
			negotiation_timeout: 30 s
			registration_timeout: infinity
			acl:
			  privileged:
			    server: [$(IFS=,; echo "${privileged[*]}")]
		END
		for d in "${components[@]}" "${open_components[@]}"; do
			printf '  is_%s:\n    server: %s\n' "${d//[^a-z0-9]/_}" "$d"
		done
		echo 'access_rules:'
		echo '  privileged: [{allow: privileged}]'
		for d in "${components[@]}" "${open_components[@]}"; do
			printf '  is_%s: [{allow: is_%s}]\n' "${d//[^a-z0-9]/_}" "${d//[^a-z0-9]/_}"
		done
		cat <<-END
			api_permissions:
			  "tests":
			    from: [mod_http_api]
			    who: [{ip: 127.0.0.1/8}]
			    what: "*"
			listen:
			  - port: $c2s
			    ip: 127.0.0.1
			    module: ejabberd_c2s
			    shaper: none
			    max_stanza_size: 1048576
			    starttls: $([[ $tls == on ]] && echo true || echo false)
			$([[ $tls == on ]] && echo "    cafile: $dir/ca.pem")
			  - port: $api
			    ip: 127.0.0.1
			    module: ejabberd_http
			    request_handlers:
			      /api: mod_http_api
		END
		_ejabberd_listener "$component" true false "${components[@]}"
		_ejabberd_listener "$open" false false "${open_components[@]}"
		# shellcheck disable=SC2086
		[[ -z $listener ]] || _ejabberd_listener "$extra" true true $listener
		[[ $tls == on ]] && printf 'certfiles:\n  - %s\n  - %s\n' "$dir/$stem.crt" "$dir/$stem.key"
		cat <<-END
			modules:
			  mod_admin_extra: {}
			  mod_disco: {}
			  mod_http_api: {}
			  mod_last: {}
			  mod_ping: {}
			  mod_private: {}
			  mod_roster: {versioning: true}
			  mod_version: {}
		END
		[[ $privileges == on ]] && cat <<-END
			  mod_privilege:
			    roster:
			      both: privileged
			    message:
			      outgoing: privileged
			    presence:
			      managed_entity: privileged
		END
		_ejabberd_delegations
		printf '%s\n' "$yaml"
	} | sed '/^$/d' >"$dir/ejabberd.yml"
	# Accounts: a list of {User, Host, Password} that the server reads once it runs
	for d in "${users[@]}"; do
		printf '{<<"%s"/utf8>>, <<"%s">>, <<"pw">>}.\n' "$d" "$host"
	done >"$dir/users.terms"
	_servers_facts "$dir" SERVER_KIND=ejabberd XMPP_HOST="$host" C2S_PORT="$c2s" C2S_TLS_PORT='' \
		COMPONENT_PORT="$component" OPEN_COMPONENT_PORT="$open" \
		OPEN_COMPONENTS="${open_components[*]}" HTTP_API_PORT="$api" \
		LISTENER_PORT="$extra" NODE="$node" JOIN="$join" EPMD_PORT="${EPMD_PORT:-}" \
		TLS_CA="$([[ $tls == on ]] && echo "$dir/ca.pem")"
}

_ejabberd_launch()
{
	local dir=$1 command
	# No node name: no distribution, so no epmd and no cookie.
	local distribution=() joining=
	# shellcheck disable=SC1091
	. "$dir/facts"
	_servers_command ejabberd erl
	[[ -z $NODE ]] || distribution=(-name "$NODE" -setcookie cluster -start_epmd false
		-kernel inet_dist_use_interface '{127,0,0,1}')
	[[ -z $JOIN ]] || joining="lists:member('$JOIN', mnesia:system_info(db_nodes)) orelse
		(ok = ejabberd_cluster:join('$JOIN')),"
	rm -f "$dir/ready"
	# +sbwt none: threads of erl that have nothing to do must not spin. On a busy machine that takes the
	# processor from those that have: 200 roster items took 22 s, and take 1.4 s without it.
	_servers_spawn "$dir" env ERL_EPMD_PORT="$EPMD_PORT" HOME="$dir" ERL_CRASH_DUMP="$dir/erl_crash.dump" \
		EJABBERD_CONFIG_PATH="$dir/ejabberd.yml" EJABBERD_LOG_PATH="$dir/server.log" \
		"${command[@]}" "${distribution[@]}" -noinput +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none \
		-mnesia dir "\"$dir/mnesia\"" \
		-eval 'code:add_pathsz(filelib:wildcard("/usr/lib/*/*/ebin")).' -s ejabberd \
		-eval "{ok, Us} = file:consult(\"$dir/users.terms\"),
			[ejabberd_auth:try_register(U, H, P) || {U, H, P} <- Us], $joining
			ok = file:write_file(\"$dir/ready\", <<>>)."
	# shellcheck disable=SC2086
	_servers_ready "$dir" "$C2S_PORT" "$COMPONENT_PORT" "$OPEN_COMPONENT_PORT" "$HTTP_API_PORT" $LISTENER_PORT &&
		_servers_until "$dir" test -e "$dir/ready"
}

ejabberd_start()
{
	local dir host stem users components open_components privileged delegations privileges tls log_level
	local lua_global lua_vhost lua_append yaml node join listener
	mkdir -p "$1" && dir=$(cd "$1" && pwd) || return 1
	shift
	_servers_options "$@" || return 1
	_servers_prepare "$dir" || return 1
	_servers_start ejabberd "$dir"
}

# epmd_start DIR: the port mapper of the nodes of a cluster; exports EPMD_PORT
epmd_start()
{
	mkdir -p "$1"
	server_free_port
	export EPMD_PORT=$FREE_PORT
	_servers_spawn "$1" epmd -address 127.0.0.1 -port "$EPMD_PORT"
	_servers_ready "$1" "$EPMD_PORT" || _servers_failed epmd "$1"
	_servers_watch "$1"
}

epmd_stop() { _servers_stop "$1"; }

ejabberd_stop() { _servers_stop "$1"; }
ejabberd_restart() { _servers_restart ejabberd "$1"; }

# --- nginx
# nginx_start DIR [--server TEXT]... [--http TEXT]... [--tls on]
# Serves DIR/www on NGINX_PORT (and, with --tls on, by HTTP/2 on NGINX_TLS_PORT as localhost and
# 127.0.0.1, certificate authority TLS_CA). --server adds directives to the server block (locations), --http
# to the http block. DIR/access.log has one line a request: method, URI, status.

_nginx_configure()
{
	local dir=$1 port tlsport=''
	server_free_port && port=$FREE_PORT
	[[ $tls == on ]] && server_free_port && tlsport=$FREE_PORT
	{
		[[ $EUID == 0 ]] && echo 'user root;'
		cat <<-END
			daemon off;
			worker_processes 1;
			pid $dir/nginx.pid;
			error_log $dir/server.log info;
			events { worker_connections 1024; }
			http {
			log_format short '\$request_method \$request_uri \$status';
			access_log $dir/access.log short;
			client_body_temp_path $dir/tmp/body;
			proxy_temp_path $dir/tmp/proxy;
			fastcgi_temp_path $dir/tmp/fastcgi;
			uwsgi_temp_path $dir/tmp/uwsgi;
			scgi_temp_path $dir/tmp/scgi;
			default_type application/json;
			keepalive_requests 100000;
			$http_text
			server {
			listen 127.0.0.1:$port;
			$([[ -n $tlsport ]] && echo "listen 127.0.0.1:$tlsport ssl http2;
			ssl_certificate $dir/localhost.crt; ssl_certificate_key $dir/localhost.key;")
			root $dir/www;
			$server_text
			}
			}
		END
	} >"$dir/nginx.conf"
	_servers_facts "$dir" SERVER_KIND=nginx NGINX_DIR="$dir" NGINX_PORT="$port" NGINX_TLS_PORT="$tlsport" \
		NGINX_TLS_CA="$([[ -n $tlsport ]] && echo "$dir/ca.pem")"
	# Keep the facts of an XMPP server that was started before.
	sed -i '/^SERVER_\|^SECRET_\|^PASSWORD_/d' "$dir/facts"
}

_nginx_launch()
{
	local dir=$1 command
	# shellcheck disable=SC1091
	. "$dir/facts"
	_servers_command nginx "$(PATH=$PATH:/usr/sbin:/sbin command -v nginx || echo nginx)"
	_servers_spawn "$dir" "${command[@]}" -p "$dir" -e "$dir/server.log" -c "$dir/nginx.conf"
	# shellcheck disable=SC2086
	_servers_ready "$dir" "$NGINX_PORT" $NGINX_TLS_PORT
}

nginx_start()
{
	local dir tls=off server_text='' http_text=''
	mkdir -p "$1" && dir=$(cd "$1" && pwd) || return 1
	shift
	while (($# >= 2)); do
		case $1 in
		--server) server_text+=$2$'\n' ;;
		--http) http_text+=$2$'\n' ;;
		--tls) tls=$2 ;;
		*) _servers_say "$1: no such option" && return 1 ;;
		esac
		shift 2
	done
	mkdir -p "$dir/www" "$dir/tmp"
	: >"$dir/access.log"
	if [[ $tls == on ]]; then
		tls_ca "$dir" && tls_cert "$dir" localhost localhost
	fi
	_servers_start nginx "$dir"
}

nginx_stop() { _servers_stop "$1"; }
