# shellcheck shell=bash disable=SC2154,SC2317 # variables that start sets, functions that others call
# Runs the displays of a section-7 page, as a reader of the manuals would; loaded after lib.
#
#   displays_begin PAGE     in setup_file: the programs are installed in $R as `make install` does, and the
#                           displays of PAGE are files in $R/text, each with the name of its section
#   stand_in NAME           a command of that name for the displays, its text on standard input
#   here NAME               the text of a display with the paths and ports of this test
#   part NAME               run a display to its end
#   start_part NAME AS      run one in the background, as the process AS of start; end_part AS
#   parts_missing           print the displays of the page that were not run
#   client USER             log in as USER, accept subscriptions, answer jabber:iq:version; in the background
#   asks USER OPTION...     what xmpp-iq prints for the user
#   contacts USER           the user's contacts
#   printed FILE NAME...    append what displays print to FILE, with free ports (EJABBERD_PORT, EJABBERD_PORT2,
#                           EJABBERD_API_PORT)
#   ejabberd_with_printed DIR OPTION...   ejabberd_start with the lines of the file `printed` in its
#                           configuration, in place of modules of the same name

displays_begin()
{
	export R=$BATS_FILE_TMPDIR/root
	mkdir -p "$R"/{stand-ins,text,run/outboard} "$R"/etc/{prosody/conf.d,cron.d,systemd/system} \
		"$R/var/lib/outboard"
	env -u BINDIR make -C "$ROOT" --no-print-directory BUILD="$BUILDDIR" PREFIX=/usr DESTDIR="$R" \
		install >"$BATS_FILE_TMPDIR/log" 2>&1
	python3 "$TESTS/manual.py" displays "$ROOT/man/$1" "$R/text"
}

parts_missing() { comm -13 <(sort -u "$BATS_FILE_TMPDIR/parts") <(cd "$R/text" && printf '%s\n' * | sort); }

# The facts of a server that this file has started
world()
{
	server_facts "$BATS_FILE_TMPDIR/$1"
	server_facts "$BATS_FILE_TMPDIR/web"
	export SSL_CERT_FILE=$TLS_CA
}

stand_in()
{
	cat >"$R/stand-ins/$1"
	chmod +x "$R/stand-ins/$1"
}

# Further changes to the text on standard input; a bats file may define its own.
here_also() { cat; }

# Changes only paths and ports in the text.
here()
{
	sed -E -e "s,/(etc|run/outboard|var/lib/outboard|var/log|usr/local/lib/outboard|usr/bin)\b,$R/\1,g" \
		-e "s/127\.0\.0\.1:5347/127.0.0.1:$COMPONENT_PORT/g; s/127\.0\.0\.1:5222/127.0.0.1:$C2S_PORT/g" \
		-e "s/127\.0\.0\.1:8080/127.0.0.1:$NGINX_PORT/g" "$R/text/$1" | here_also
}

_script_of()
{
	COMPONENT_PORT=${COMPONENT_PORT:-0} C2S_PORT=${C2S_PORT:-0} here "$1"
	echo "$1" >>"$BATS_FILE_TMPDIR/parts"
}

part()
{
	_script_of "$1" >"$R/script"
	PATH=$R/stand-ins:$R/usr/bin:$PATH timeout -k 5 60 sh -eu "$R/script" 3>&- || {
		echo "--- $1:" && cat "$R/script"
		return 1
	}
}

# The part runs in a process group of its own, which end_part ends.
start_part()
{
	_script_of "$1" >"$2.script"
	start "$2" env PATH="$R/stand-ins:$R/usr/bin:$PATH" setsid sh -eu "$2.script"
}

end_part()
{
	kill -TERM -- "-${started[$1]}"
	await "$1" || true
}

client()
{
	cat >client.sh <<-'END'
		while IFS= read -r stanza; do
			from=$(sed -E "s/^[^>]* from=['\"]([^'\"]*).*/\1/" <<<"$stanza")
			id=$(sed -E "s/^[^>]* id=['\"]([^'\"]*).*/\1/" <<<"$stanza")
			case $stanza in
			"<presence"*subscribe*) echo "<presence type='subscribed' to='$from'/>" ;;
			"<iq"*jabber:iq:version*)
				echo "<iq type='result' id='$id' to='$from'><query xmlns='jabber:iq:version'><name>lives in a client</name></query></iq>"
				;;
			esac
		done
	END
	start "$1" xmpp-connect --jid "$1@example.org/a" --password-file "$PASSWORD_FILE" --presence \
		--connect "127.0.0.1:$C2S_PORT" --ready-fd 5 -- bash "$PWD/client.sh" 5>client.ready
	wait_for test -s client.ready
}

asks()
{
	xmpp-iq -q --jid "$1@example.org" --password-file "$PASSWORD_FILE" --connect "127.0.0.1:$C2S_PORT" "${@:2}"
}
contacts() { asks "$1" "<query xmlns='jabber:iq:roster'/>" | grep -o "jid=['\"][^'\"]*" | cut -c6-; }

printed()
{
	local file=$1 name
	shift
	server_free_port && EJABBERD_PORT=$FREE_PORT
	server_free_port && EJABBERD_PORT2=$FREE_PORT
	server_free_port && EJABBERD_API_PORT=$FREE_PORT
	for name; do
		part "$name" >parted
		sed "s/port: 5347/port: $EJABBERD_PORT/; s/port: 5348/port: $EJABBERD_PORT2/
			s/port: 5285/port: $EJABBERD_API_PORT/" parted >>"$file"
	done
}

ejabberd_with_printed()
{
	eval "plain$(declare -f _ejabberd_configure)"
	_ejabberd_configure()
	{
		plain_ejabberd_configure "$1"
		python3 - printed "$1/ejabberd.yml" <<-'END'
			import re, sys
			ours, theirs = (open(name).read() for name in sys.argv[1:])
			for key, children in re.findall(r"(?m)^(\w+):\n((?: .*\n)+)", ours):
			    if key == "modules":
			        for module in re.findall(r"(?m)^  (\w+):", children):
			            theirs = re.sub(r"(?m)^  %s:.*\n(?:    .*\n)*" % module, "", theirs)
			    there = re.search(r"(?m)^%s:\n" % key, theirs)
			    assert there, key
			    theirs = theirs[:there.end()] + children + theirs[there.end():]
			open(sys.argv[2], "w").write(theirs)
		END
	}
	ejabberd_start "$@"
}

