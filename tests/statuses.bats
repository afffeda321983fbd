#!/usr/bin/env bats
# Checks EXIT STATUS of the manuals against every exit status that the suite has seen. Runs after all other
# files.

load lib

setup()
{
	[[ -s $BUILDDIR/statuses ]] || skip "not after a run of the whole suite"
	# Only statuses of our table; those of signals and of a COMMAND are not in it.
	local programs
	programs=$(basename -s .c "$ROOT"/cmd/*.c | paste -sd'|')
	grep -E "^($programs) (0|1|64|65|69|74|75|76|77|78|124)\$" "$BUILDDIR/statuses" | sort -u >seen
}

documented()
{
	local page
	for page in "$ROOT"/man/"$1".[18]; do
		[[ ! -e $page ]] || python3 "$TESTS/manual.py" statuses "$page"
	done
}

@test "every exit status seen is in the program's manual" {
	wrong=0
	while read -r program status; do
		documented "$program" | grep -qx "$status" || {
			echo "$program: exit status $status is not in its manual"
			wrong=1
		}
	done <seen
	assert_equal "$wrong" 0
}

@test "every exit status in a manual has been seen" {
	wrong=0
	for page in "$ROOT"/man/*.[18]; do
		program=$(basename "${page%.*}")
		for status in $(documented "$program"); do
			grep -qx "$program $status" seen || {
				echo "$program: no test sees its exit status $status"
				wrong=1
			}
		done
	done
	assert_equal "$wrong" 0
}

@test "what README says of these servers' versions was shown" {
	[[ -z ${SERVERS:-} ]] || not_here 'the servers are not those of this machine'
	versions=()
	for package in prosody ejabberd; do
		versions+=("${package/prosody/Prosody} $(dpkg-query -W -f '${Version}' "$package" 2>/dev/null)")
	done
	"$TESTS/tools/versions.py" ran "$BUILDDIR/tap" "${versions[@]}"
}
