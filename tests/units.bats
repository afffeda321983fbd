#!/usr/bin/env bats
# The systemd units as `make install` leaves them: complete, hardened, understood by systemd.

load lib

setup_file()
{
	export UNITS="$BATS_FILE_TMPDIR/root/usr/lib/systemd/system"
	env -u BINDIR make -C "$ROOT" --no-print-directory BUILD="$BUILDDIR" PREFIX=/usr \
		DESTDIR="$BATS_FILE_TMPDIR/root" install >"$BATS_FILE_TMPDIR/log" 2>&1
}

setup() { command -v systemd-analyze >/dev/null || skip 'no systemd-analyze here'; }

# has UNIT REGEX...: each matches a line of the unit
has()
{
	local unit=$1 line
	shift
	for line; do
		grep -qxE "$line" "$UNITS/$unit" || {
			echo "$unit has no line $line"
			return 1
		}
	done
}

@test "systemd-analyze verify has nothing to say about any unit" {
	# systemd-analyze needs the units that a system starts with, systemd's own included.
	for own in sysinit.target basic.target shutdown.target multi-user.target sockets.target \
		network.target -.mount system.slice; do
		echo '[Unit]' >"$UNITS/$own"
	done
	# Verify our units only; the program that ExecReload calls is not ours.
	mkdir -p "$BATS_FILE_TMPDIR/root/bin"
	install -m 755 /dev/null "$BATS_FILE_TMPDIR/root/bin/kill"
	for unit in "$ROOT"/cmd/*.service "$ROOT"/cmd/*.socket; do
		[[ -e $unit ]] || continue
		echo "# ${unit##*/}"
		run systemd-analyze verify --man=no --root="$BATS_FILE_TMPDIR/root" "${unit##*/}"
		assert_success
		assert_output ''
	done
	# counter-check: it complains about a wrong unit
	sed 's/^WatchdogSec=.*/WatchdogSek=1/' "$UNITS/xmpp-jat-proxy.service" >"$UNITS/wrong.service"
	run systemd-analyze verify --man=no --root="$BATS_FILE_TMPDIR/root" wrong.service
	assert_output --partial WatchdogSek
}

@test "systemd-analyze security: no service is exposed by more than 2.0" {
	for unit in "$UNITS"/*.service; do
		run systemd-analyze security --offline=true --no-pager --threshold=20 "$unit"
		assert_success
		assert_output --partial 'Overall exposure level for'
	done
	for unit in "$ROOT"/cmd/*.service; do assert_file_exist "$UNITS/${unit##*/}"; done
	# counter-check: without its protections a unit is over the threshold
	sed '/^User=\|^DynamicUser=\|^Private\|^Protect\|^Restrict\|^System/d' "$UNITS/xmpp-jat-proxy.service" >bare.service
	run systemd-analyze security --offline=true --no-pager --threshold=20 "$PWD/bare.service"
	assert_failure
}

@test "every service: readiness, watchdog, secrets as credentials, restarts but for 64 and 78" {
	for unit in "$ROOT"/cmd/*.service; do
		unit=${unit##*/}
		# a unit for each connection has nothing to supervise
		[[ $unit != *@.service ]] || continue
		has "$unit" 'Type=notify' 'WatchdogSec=[0-9]+' 'Restart=on-failure' \
			'RestartPreventExitStatus=64 78' 'ExecReload=/bin/kill -HUP \$MAINPID' \
			'#?LoadCredential=(component-secret|api-token):.*' 'DynamicUser=yes' \
			'Documentation=man:.*man:outboard\(7\)'
		# secrets come as credentials, never as options
		run grep -E '^ExecStart=.*--(secret|password)-' "$UNITS/$unit"
		assert_failure
		# a drain ends before systemd would kill the program
		run sed -n 's/^TimeoutStopSec=//p' "$UNITS/$unit"
		assert [ "$output" -gt 10 ]
	done
}

@test "every option of an ExecStart is one of the program's" {
	for unit in "$UNITS"/*.service; do
		[[ -e $ROOT/cmd/${unit##*/} ]] || continue
		line=$(sed -e ':a' -e '/\\$/ { N; s/\\\n//; ta' -e '}' "$unit" | sed -n 's/^ExecStart=//p')
		program=$(basename "${line%% *}")
		"$program" --help >help
		while read -r option; do
			grep -qE -- "$option( |=|\$)" help || {
				echo "$program has no $option"
				false
			}
		done < <(grep -oE -- '--[a-z-]+' <<<"${line%% -- *}")
	done
}

# default PROGRAM NAME: the default of a bound in the page, as a number
default_of()
{
	local n
	n=$(awk -v name=".It Cm $2" '$0 == name { on = 1; next } /^\.It|^\.El/ { on = 0 } on' \
		"$ROOT/man/$1.8" | tr '\n' ' ' | sed -n 's/.*default \([0-9]*[KMG]\{0,1\}\)).*/\1/p')
	numfmt --from=iec "$n"
}

@test "every service has a bound for its memory, and it leaves room for what the options allow" {
	local unit program bound need name n
	for unit in "$ROOT"/cmd/*.service; do
		has "${unit##*/}" 'MemoryMax=[0-9]+M'
	done
	for program in xmpp-jat-proxy xmpp-manage xmpp-delegate xmpp-share; do
		bound=$(sed -n 's/^MemoryMax=//p' "$UNITS/$program.service" | numfmt --from=iec)
		# two outputs: to the server, and to the handler if there is one
		need=$(($(default_of $program pending-bytes) + 2 * $(default_of $program queue-bytes)))
		assert [ "$need" -gt 90000000 ]
		if [[ $program == xmpp-jat-proxy ]]; then
			for name in subscribers subscribers handles; do
				n=$(default_of $program "$name")
				need=$((need + 7 * 1024 * n))
			done
		elif [[ $program == xmpp-share ]]; then
			n=$(default_of $program instances)
			need=$((need + n * $(default_of $program queue-bytes)))
		fi
		echo "$program: $need of $bound"
		assert [ "$bound" -gt $((need + need / 5)) ]
	done
}

@test "what must survive a crash is in the state folder" {
	has xmpp-jat-proxy.service 'StateDirectory=outboard/xmpp-jat-proxy' 'StateDirectoryMode=0700' \
		'LoadCredential=jat-keys:.*'
	if [[ -e $ROOT/cmd/roster-refresh-listen.service ]]; then
		has roster-refresh-listen.service 'StateDirectory=outboard/.*'
		assert_file_contains "$UNITS/roster-refresh-listen.service" '^ExecStart=.* [-]-spool '
	fi
}

@test "every file and variable that a service is set up by is in its program's manual" {
	local wrong=0 unit page word
	for unit in "$ROOT"/cmd/*.service; do
		page=$(basename "$unit" .service)
		page=$(echo "$ROOT"/man/"${page%@}".[18])
		# the program's state folder is in a variable
		while read -r word; do
			grep -qE "(^|[ ,])$word( |\$)" "$page" || {
				echo "${unit##*/}: $word is not in ${page##*/}"
				wrong=1
			}
		done < <(sed '/^#[^L]/d' "$unit" | grep -oE '/etc/outboard/[a-z.-]+|\$\{?[A-Z_]+' | tr -d '${' |
			grep -vE 'MAINPID|STATE_DIRECTORY' | sort -u)
	done
	assert_equal "$wrong" 0
}
