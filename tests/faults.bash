# shellcheck shell=bash
# Faults injected into one program (tests/preload); loaded after lib.
#
#   faulty SETTING... -- COMMAND...   COMMAND with FAILMALLOC=N[+], FAILCALL=CALL:N[+]:ERROR or
#                           DRIP[_READ]=BYTES; the file `fault` is there afterwards if one was injected
#   each_fault SETTING STATUSES COMMAND...   with N in SETTING counted up until COMMAND ends
#                           before the Nth. Reads `in`. Each run must exit with one of STATUSES
#                           ("74! 78": 74 must be seen), or as it does undisturbed; "same":
#                           as undisturbed and with the same output
#   out_of_memory COMMAND...   each allocation alone, and all from the Nth on: 75, or it copes

faulty()
{
	local settings=()
	while [[ $1 != -- ]]; do
		settings+=("$1")
		shift
	done
	shift
	rm -f fault
	timeout 30 env "LD_PRELOAD=${LD_PRELOAD:+$LD_PRELOAD }$BUILDDIR/preload/failmalloc.so $BUILDDIR/preload/failcall.so" \
		"FAULT_MARK=$PWD/fault" "${settings[@]}" "$BINDIR/$1" "${@:2}"
}

each_fault()
{
	local setting=$1 wanted=$2 n usual=0 status wrong=0 seen=
	shift 2
	"$BINDIR/$1" "${@:2}" <in >undisturbed 2>undisturbed.err || usual=$?
	for ((n = 1; ; n = n < 150 ? n + 1 : n + n / 5)); do
		status=0
		faulty "${setting/N/$n}" -- "$@" <in >out 2>err || status=$?
		[[ -e fault ]] || break
		if [[ " $wanted " == *" $status! "* ]]; then
			seen=1
		elif [[ " $wanted $usual " != *" $status "* ]]; then
			echo "${setting/N/$n}: exit status $status: $(tail -n 3 err)"
			wrong=1
		fi
		if [[ $usual != 75 && $status == 75 && $setting == FAILMALLOC=* ]] && ! grep -q ': out of memory$' err; then
			echo "${setting/N/$n}: exit status 75 without 'out of memory': $(tail -n 3 err)"
			wrong=1
		fi
		if [[ $wanted == same ]] && ! cmp out undisturbed; then
			echo "${setting/N/$n}: other output"
			wrong=1
		fi
	done
	if [[ $wanted == *!* && -z $seen ]]; then
		echo "$setting: exit status ${wanted%%!*} was never seen"
		wrong=1
	fi
	return "$wrong"
}

out_of_memory()
{
	each_fault FAILMALLOC=N 75! "$@" && each_fault FAILMALLOC=N+ 75! "$@"
}
