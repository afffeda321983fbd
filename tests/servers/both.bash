# shellcheck shell=bash
# For a file about Prosody and ejabberd, which run while its tests do.
#
#   load lib
#   load servers/both
#   setup_file() { both_start --tls off; }   # OPTION...: of prosody_start and ejabberd_start
#
#   on prosody|ejabberd [MODULE NAME]   use that server from now on; run the scenario NAME of
#                                       tests/tools/MODULE.py (tools/scenario)

both_start()
{
	prosody_start "$BATS_FILE_TMPDIR/prosody" "$@"
	ejabberd_start "$BATS_FILE_TMPDIR/ejabberd" "$@"
}

teardown_file()
{
	prosody_stop "$BATS_FILE_TMPDIR/prosody"
	ejabberd_stop "$BATS_FILE_TMPDIR/ejabberd"
}

on()
{
	server_facts "$BATS_FILE_TMPDIR/$1"
	(($# < 2)) || scenario "$2" <<<"$3()"
}
