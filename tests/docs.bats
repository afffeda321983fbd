#!/usr/bin/env bats
# Checks the manuals, the help texts and the completions against the programs.
#
# How EXAMPLES are executed. Every display of that section is .Bd -literal and holds commands;
# what a reader sees is run by `bash -eu` in a new folder with the programs on PATH, and must
# exit 0. A display in which lines begin with "$ " is a session: those lines are the commands
# ("> " continues one), and what they print must be the other lines, exactly. Configuration
# files are written with `cat >file <<'END'`.
#
# The world of the examples:
#   127.0.0.1:5347   Prosody's component port; components proxy.example.org, proxy2.example.org,
#                    notes.example.org (urn:example:notes is delegated to it), pubsub.example.org
#                    (the other urn:example:* namespaces below are), service.example.org,
#                    rosters.example.org (privileged, may send from any address)
#   127.0.0.1:5222   its client port, 127.0.0.1:5223 with direct TLS; the certificates are trusted
#   example.org      its host; accounts alice bob carol john marie aaron michael impl impl2,
#                    delegated namespaces urn:example:one, urn:example:two, urn:example:notes,
#                    and urn:example:archive with the attribute node
#   127.0.0.1:5285   ejabberd's API, same host and accounts (/api)
#   127.0.0.1:8080   a web application: /contacts/john and so on give JSON rosters
#   127.0.0.1:5280, 127.0.0.1:5281   free to listen on
#   secret, password, /etc/outboard/secret, /etc/outboard/password     the secret files
#   /run/outboard, /var/lib/outboard                                   folders to write to
# Ports and folders are the private ones of the test; they are substituted in the text.
#
# A daemon (a program with a .service) that is given --connect, --listen or
# --listen-unix in the foreground runs until it is ready (--ready-fd), is sent SIGTERM and must
# then exit 0; so does xmpp-connect that runs one. roster-apply with --connect alone runs to the
# end of its input.

load lib

programs() { for p in "$ROOT"/cmd/*.c; do basename "$p" .c; done; }
pages() { for p in "$ROOT"/man/*.[1-8]; do echo "$p"; done; }
page_of() { echo "$ROOT"/man/"$1".[18]; }
manual() { python3 "$TESTS/manual.py" "$@"; }
daemons() { for p in "$ROOT"/cmd/*.service; do basename "$p" .service | tr -d @; done | sort -u; }

# said KIND: for every program --help and the page say the same about KIND
said()
{
	local program file wrong=0
	for program in $(programs); do
		file=$(basename "$(page_of "$program")").$1
		assert [ -e "$SAYS/--help/$file" ]
		diff "$SAYS/--help/$file" "$SAYS/page/$file" >difference || {
			echo "$program: < --help, > page"
			grep '^[<>]' difference
			wrong=1
		}
	done
	assert_equal "$wrong" 0
}

setup_file()
{
	prosody_start "$BATS_FILE_TMPDIR/prosody" --host example.org --component proxy.example.org \
		--component proxy2.example.org --component pubsub.example.org \
		--component notes.example.org --component service.example.org \
		--open-component rosters.example.org --delegate urn:example:one=pubsub.example.org \
		--delegate urn:example:two=pubsub.example.org \
		--delegate urn:example:notes=notes.example.org \
		--delegate 'urn:example:archive[node]=pubsub.example.org'
	nginx_start "$BATS_FILE_TMPDIR/web"
	mkdir -p "$NGINX_DIR/www/contacts"
	local user other
	for user in john marie aaron michael; do
		for other in john marie aaron michael; do
			[[ $user == "$other" ]] ||
				printf '"%s@example.org":{"name":"%s","groups":["Friends"]}\n' "$other" "${other^}"
		done | paste -sd, | sed 's/.*/{&}/' >"$NGINX_DIR/www/contacts/$user"
	done
	export EXAMPLES_API_PORT=0
	if grep -qs '127.0.0.1:5285' "$ROOT"/man/*; then
		ejabberd_start "$BATS_FILE_TMPDIR/ejabberd" --host example.org --tls off
		EXAMPLES_API_PORT=$HTTP_API_PORT
	fi
	server_facts "$BATS_FILE_TMPDIR/prosody"
	# what the pages and --help say, a file for each kind of thing
	export SAYS=$BATS_FILE_TMPDIR/says
	mkdir -p "$SAYS/page" "$SAYS/--help"
	# shellcheck disable=SC2046
	manual pages "$SAYS/page" $(pages)
	# shellcheck disable=SC2046
	manual helps "$SAYS/--help" $(pages | grep -v '7$') >"$SAYS/defaults"
}

teardown_file()
{
	prosody_stop "$BATS_FILE_TMPDIR/prosody"
	nginx_stop "$BATS_FILE_TMPDIR/web"
	ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd"
}

@test "every program has a page with all sections, and every page a program or section 7" {
	wrong=0
	for program in $(programs); do
		page=$(page_of "$program")
		if [[ ! -f $page ]]; then
			echo "$program: no page"
			wrong=1
			continue
		fi
		for section in NAME SYNOPSIS DESCRIPTION OPTIONS 'EXIT STATUS' EXAMPLES STANDARDS 'SEE ALSO'; do
			grep -qx "$section" "$SAYS/page/${page##*/}.sections" || {
				echo "$program: no $section"
				wrong=1
			}
		done
	done
	for page in $(pages); do
		name=$(basename "$page")
		[[ $name == *.7 || -f $ROOT/cmd/${name%.*}.c ]] || {
			echo "$name: no such program"
			wrong=1
		}
	done
	assert_equal "$wrong" 0
}

@test "the pages are clean mdoc" {
	run make -C "$ROOT" --no-print-directory lint-man
	assert_success
}

@test "references among the pages lead somewhere" {
	wrong=0
	for page in $(pages); do
		while read -r name section; do
			case $name in
			xmpp-* | jat-* | roster-* | *stanza* | outboard)
				[[ -f $ROOT/man/$name.$section ]] || {
					echo "$(basename "$page"): no $name($section)"
					wrong=1
				}
				;;
			esac
		done < <(sed -n 's/^\.Xr \([^ ]*\) \([1-8]\).*/\1 \2/p' "$page")
	done
	assert_equal "$wrong" 0
}

@test "README's table of servers is the one in tests/data/versions" {
	run sed -n '/^<!-- made by/,/^<!-- end of/p' "$ROOT/README.md"
	assert_output --partial "$("$TESTS/tools/versions.py" table)"
}

@test "the front door and the README have every program" {
	wrong=0
	for program in $(programs); do
		page=$(basename "$(page_of "$program")")
		for part in 'DESCRIPTION EXIT_STATUS' 'SEE_ALSO STANDARDS'; do
			# shellcheck disable=SC2086
			sed -n "/^\.Sh ${part% *}/,/^\.Sh ${part#* }/p" <(sed -E 's/^\.Sh (SEE|EXIT) /.Sh \1_/' "$ROOT/man/outboard.7") |
				grep -qE "Xr $program ${page##*.}( |\$)" || {
				echo "outboard.7, ${part% *}: no $program(${page##*.})"
				wrong=1
			}
		done
		grep -qE "^\|.*\`$program\`.*\|" "$ROOT/README.md" || {
			echo "README.md: no $program"
			wrong=1
		}
	done
	assert_equal "$wrong" 0
}

@test "the picture is drawn again unchanged, and has every program" {
	command -v dpic >/dev/null || skip 'no dpic here'
	for picture in "$ROOT"/man/*.pic; do
		"$ROOT/.ci/picture" "$picture" >drawn.svg
		run diff "${picture%.pic}.svg" drawn.svg
		assert_output ''
	done
	for program in $(programs); do
		assert_file_contains "$ROOT/man/outboard.svg" ">[^<]*\\b$program\\b"
	done
}

# The domains of components that the commands of a text use
domains_used() { grep -ohE -- '(--domain |DOMAIN=)[a-z.]+' "$@" | sed 's/.*[ =]//' | sort -u; }

@test "a component that README and the set-up start is in the servers' configuration that they give" {
	page=$ROOT/man/outboard-setup.7
	for text in "$ROOT/README.md" "$page"; do
		sed -n 's/^Component "\(.*\)"/\1/p' "$text" | sort -u >configured
		assert [ "$(wc -l <configured)" -ge 3 ]
		run comm -23 <(domains_used "$text") configured
		assert_output ''
	done
	# The configuration has the components of the examples in outboard(7), too.
	run comm -23 <(domains_used "$ROOT/man/outboard.7") configured
	assert_output ''
	# ejabberd's listener has all of them but the component for rosters, because rosters go through its
	# API.
	while read -r domain; do assert_file_contains "$page" "^      $domain:"; done < <(grep -v ^rosters configured)
}

@test "the options of --help are those of the page, name for name, value for value" {
	said options
	for file in "$SAYS"/--help/*.options; do assert [ -s "$file" ]; done
}

@test "the limits of --help are those of the page, name for name" {
	said limits
	assert [ "$(cat "$SAYS"/--help/*.limits | wc -l)" -gt 30 ]
}

@test "an option that a page speaks of is one of some program" {
	for program in $(programs); do
		"$program" --help | grep -oE -- '(^|[ ,])--?[a-zA-Z][a-z0-9-]*' | tr -d ' ,'
	done | sort -u >known
	wrong=0
	for page in $(pages); do
		# a .Fl - alone stands before a command
		while read -r option; do
			grep -qx -e "-$option" known || {
				echo "$(basename "$page"): -$option"
				wrong=1
			}
		done < <(grep -oE '(^\.| )Fl -?[a-zA-Z][a-z0-9-]*' "$page" | sed 's/.*Fl //' | sort -u)
	done
	assert_equal "$wrong" 0
	assert [ "$(wc -l <known)" -gt 80 ]
}

@test "the defaults of --help are in the page, too" {
	run cat "$SAYS"/--help/*.defaults
	assert_output ''
	assert [ "$(<"$SAYS/defaults")" -gt 50 ]
}

@test "the usage of --help is the page's SYNOPSIS" {
	said synopsis
}

@test "--help and --version: stdout, status 0, nothing on stderr; 74 when it cannot be written" {
	for program in $(programs); do
		"$program" --help >help 2>err
		assert [ -s help ]
		assert [ ! -s err ]
		"$program" --version >version 2>err
		assert_equal "$(cat version)" "$program (outboard) $(sed -n 's/^VERSION = //p' "$ROOT/Makefile")"
		assert [ ! -s err ]
		run "$program" --help
		status=0
		"$program" --help >/dev/full 2>err || status=$?
		assert_equal "$program: $status" "$program: 74"
	done
}

@test "wrong usage: two lines on stderr, nothing on stdout, 64" {
	for program in $(programs); do
		status=0
		"$program" --no-such-option >out 2>err || status=$?
		assert_equal "$program: $status" "$program: 64"
		assert_equal "$program: $(wc -l <err) $(wc -c <out)" "$program: 2 0"
		assert_file_contains err "^$program: "
	done
}

@test "EXIT STATUS lists 0, 64 and 74 on every page" {
	wrong=0
	for program in $(programs); do
		page=$(page_of "$program")
		for status in 0 64 74; do
			grep -qx "$status" "$SAYS/page/${page##*/}.statuses" || {
				echo "$program: no $status"
				wrong=1
			}
		done
	done
	assert_equal "$wrong" 0
}

@test "completions regenerate unchanged" {
	# shellcheck disable=SC2046
	"$TESTS/completions" "$BINDIR" "$PWD/completions" $(programs)
	run diff -r "$ROOT/completions" "$PWD/completions"
	assert_success
	for file in completions/bash/*; do bash -n "$file"; done
}

# --- examples

# Put the private servers' ports and folders into the text of an example.
example_here()
{
	sed -E -e "s/127\.0\.0\.1:5347/127.0.0.1:$COMPONENT_PORT/g; s/127\.0\.0\.1:5222/127.0.0.1:$C2S_PORT/g" \
		-e "s/127\.0\.0\.1:5223/127.0.0.1:$C2S_TLS_PORT/g; s/127\.0\.0\.1:5285/127.0.0.1:$EXAMPLES_API_PORT/g" \
		-e "s/127\.0\.0\.1:8080/127.0.0.1:$NGINX_PORT/g; s/127\.0\.0\.1:5280/127.0.0.1:$free_port/g" \
		-e "s/127\.0\.0\.1:5281/127.0.0.1:$free_port2/g; s/127\.0\.0\.1:5350/127.0.0.1:$free_port/g" \
		-e "s,/etc/outboard,$PWD/etc/outboard,g; s,/run/outboard,$PWD/run/outboard,g" \
		-e "s,/var/lib/outboard,$PWD/var/lib/outboard,g"
}

# The beginning of each example's script: functions that run daemons until they are ready.
example_prelude()
{
	cat <<-'END'
		until_ready()
		{
			local program=$1 ready=ready.$BASHPID line pid
			shift
			case "$program $* " in
			"xmpp-connect "*" -- xmpp-"*) ;;
			*" --listen"*) ;;
			# roster-apply ends with its input, xmpp-connect with its command
			"roster-apply "* | "xmpp-connect "*)
				command "$program" "$@"
				return
				;;
			*" --connect"*) ;;
			*)
				command "$program" "$@"
				return
				;;
			esac
			mkfifo "$ready"
			command "$program" --ready-fd 9 "$@" <&0 9>"$ready" &
			pid=$!
			if read -r -t 30 line <"$ready" && rm "$ready"; then
				kill -TERM "$pid"
			else
				echo "$program: not ready" >&2
				kill -TERM "$pid" 2>/dev/null || true
				wait "$pid" || true
				return 1
			fi
			wait "$pid"
		}
	END
	local daemon
	for daemon in $(daemons) xmpp-connect; do
		echo "$daemon() { until_ready $daemon \"\$@\"; }"
	done
}

# run_example FILE: run it in the current folder
run_example()
{
	mkdir -p etc/outboard run/outboard var/lib/outboard
	cp "$SECRET_FILE" secret
	cp "$PASSWORD_FILE" password
	cp "$SECRET_FILE" "$PASSWORD_FILE" etc/outboard/
	export SSL_CERT_FILE=$TLS_CA
	local FREE_PORT free_port free_port2
	server_free_port && free_port=$FREE_PORT
	server_free_port && free_port2=$FREE_PORT
	example_prelude >.script
	if grep -q '^\$ ' "$1"; then
		sed -n 's/^[$>] //p' "$1" | example_here >>.script
		grep -v '^[$>] ' "$1" >.expected || true
		timeout -k 5 60 bash -eu .script >.output 2>.errors </dev/null || return 1
		diff .expected .output
	else
		example_here <"$1" >>.script
		timeout -k 5 60 bash -eu .script >.output 2>.errors </dev/null
	fi
}

# example_works WHAT FILE FOLDER: run it in that new folder; if it fails, show it and what it said
example_works()
{
	mkdir "$3"
	(cd "$3" && run_example "$2") && return
	echo "--- $1:"
	cat "$2"
	echo "--- says:"
	tail -n 20 "$3"/.{output,errors}
	return 1
}

# On a server that has only the configuration that README gives
@test "every command of the README works" {
	wrong=0
	awk '/^```$/ { inside = 0 } inside { print >sprintf("readme.%02d", n) } /^```sh$/ { inside = 1; n++ }' \
		"$ROOT/README.md"
	awk '/^```$/ { inside = 0 } inside { print } /^```lua$/ { inside = 1 }' "$ROOT/README.md" >readme.lua
	prosody_start "$PWD/server" --host example.org --no-delegate --append "$(<readme.lua)"
	echo 'the secret' >the.secret
	chmod 600 the.secret
	SECRET_FILE=$PWD/the.secret
	for example in "$PWD"/readme.[0-9]*; do
		assert [ -s "$example" ]
		example_works README.md "$example" "run.${example##*.}" || wrong=1
	done
	prosody_stop "$PWD/server"
	assert_equal "$wrong" 0
}

@test "every example of every page works" {
	wrong=0
	for page in $(pages); do
		name=$(basename "$page")
		mkdir -p "$name/examples"
		if [[ $name != *.7 ]]; then
			assert [ "$(manual examples "$page" "$name/examples")" -gt 0 ]
		elif grep -qx EXAMPLES "$SAYS/page/$name.sections"; then
			manual examples "$page" "$name/examples"
		fi
		for example in "$PWD/$name/examples"/*; do
			[[ -f $example ]] || continue
			example_works "$name, example ${example##*/}" "$example" "$name/run.${example##*/}" || wrong=1
		done
	done
	assert_equal "$wrong" 0
}
