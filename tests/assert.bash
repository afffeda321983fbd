# shellcheck shell=bash
# shellcheck disable=SC2154 # output, stderr, lines, status: bats' run
# Assertions; loaded by lib. A failure prints what was wanted and what there was on standard error.
#
#   assert COMMAND...   refute COMMAND...   assert_equal THIS THAT   assert_not_equal THIS THAT
#   assert_regex TEXT REGEXP   refute_regex TEXT REGEXP
# of what `run` has run:
#   assert_success   assert_failure [STATUS]
#   assert_output [HOW] [TEXT]   refute_output [HOW] [TEXT]   the whole output; - reads TEXT from standard
#                           input; without a TEXT there is (or is not) some output
#   assert_line [-n INDEX] [HOW] TEXT   refute_line   one line, the one of this index or any
# HOW is --partial (contains TEXT), --regexp (matches TEXT), else it is TEXT.
# of files:
#   assert_exists FILE   assert_not_exist FILE (or ..._exists)   assert_file_exist FILE   assert_file_not_exist FILE
#   assert_file_not_empty FILE   assert_file_permission MODE FILE   assert_file_contains FILE PATTERN (grep's)

# _fail WHY [NAME VALUE]...
_fail()
{
	local value
	printf '\n-- %s --\n' "$1"
	while shift && (($#)); do
		value=$2
		if [[ $value == *$'\n'* ]]; then value=$'\n  '${value//$'\n'/$'\n  '}; fi
		printf '%s: %s\n' "$1" "$value"
		shift
	done
	printf -- '--\n'
	return 1
} >&2

# Print all that `run` knows about what it ran
_fail_run() { _fail "$@" status "${status-}" output "${output-}" ${stderr:+stderr "$stderr"}; }

# A pattern that matches nothing at all would match everything.
_pattern()
{
	local ended=0
	# shellcheck disable=SC2319 # 1: does not match, 2: no pattern
	[[ '' =~ $1 ]] || ended=$?
	if ((ended != 1)); then _fail 'not a regular expression, or one that matches the empty string' regexp "$1"; fi
}

# _wanted [-n INDEX] [HOW] [TEXT | -]: sets at, how, wanted
_wanted()
{
	at='' how=text wanted=''
	while [[ ${1-} == -* ]]; do
		case $1 in
		-n | --index) at=$2 && shift ;;
		--partial | --regexp) how=${1#--} ;;
		-) set -- - "$(cat)" && shift && break ;;
		--) shift && break ;;
		*) break ;;
		esac
		shift
	done
	(($#)) || how=any
	wanted=${1-}
	[[ $how != regexp ]] || _pattern "$wanted"
}

_is_wanted()
{
	case $how in
	any) [[ -n $1 ]] ;;
	partial) [[ $1 == *"$wanted"* ]] ;;
	regexp) [[ $1 =~ $wanted ]] ;;
	*) [[ $1 == "$wanted" ]] ;;
	esac
}

_has_line()
{
	local line
	if [[ -n $at ]]; then
		_is_wanted "${lines[at]-}"
		return
	fi
	for line in ${lines[@]+"${lines[@]}"}; do
		if _is_wanted "$line"; then return 0; fi
	done
	return 1
}

_about_line() { _fail_run "$1" ${at:+index "$at" 'line of this index' "${lines[at]-}"} "$how" "$wanted"; }

assert() { "$@" || _fail 'failed' command "$*" 'its status' "$?"; }
refute() { ! "$@" || _fail 'succeeded, and should not' command "$*"; }
assert_equal() { [[ $1 == "$2" ]] || _fail 'values differ' expected "$2" actual "$1"; }
assert_not_equal() { [[ $1 != "$2" ]] || _fail 'values are equal' both "$1"; }
assert_regex() { _pattern "$2" && { [[ $1 =~ $2 ]] || _fail 'does not match' text "$1" regexp "$2"; }; }
refute_regex() { _pattern "$2" && { [[ ! $1 =~ $2 ]] || _fail 'matches' text "$1" regexp "$2"; }; }

assert_success() { ((status == 0)) || _fail_run 'command failed'; }
assert_failure()
{
	((status != 0 && status == ${1:-status})) || _fail_run 'command did not fail like this' expected "${1:-any but 0}"
}

assert_output()
{
	local at how wanted
	_wanted "$@" && { _is_wanted "$output" || _fail_run 'not the output' "$how" "$wanted"; }
}

refute_output()
{
	local at how wanted
	_wanted "$@" && { ! _is_wanted "$output" || _fail_run 'this should not be the output' "$how" "$wanted"; }
}

assert_line()
{
	local at how wanted
	_wanted "$@" && { _has_line || _about_line 'no such line'; }
}

refute_line()
{
	local at how wanted
	_wanted "$@" && { ! _has_line || _about_line 'there should be no such line'; }
}

assert_exists() { [[ -e $1 ]] || _fail 'does not exist' path "$1"; }
assert_not_exists() { [[ ! -e $1 ]] || _fail 'exists, and should not' path "$1"; }
assert_not_exist() { assert_not_exists "$@"; }
assert_file_exist() { [[ -f $1 ]] || _fail 'no such file' path "$1"; }
assert_file_not_exist() { [[ ! -f $1 ]] || _fail 'file exists, and should not' path "$1"; }
assert_file_not_empty() { [[ -s $1 ]] || _fail 'no file, or an empty one' path "$1"; }

assert_file_permission()
{
	local mode
	mode=$(stat -c %a "$2")
	[[ $mode == "$1" ]] || _fail 'permissions differ' path "$2" expected "$1" actual "$mode"
}

assert_file_contains()
{
	grep -q -- "$2" "$1" || _fail 'not in the file' path "$1" pattern "$2" content "$(tail -n 40 "$1")"
}
