#!/usr/bin/env bats
# The books that `make soak` keeps. The soak itself takes too long for the suite.

load lib

@test "the books of the soak: silence, a second answer and a lost refresh fail the run" {
	export PYTHONDONTWRITEBYTECODE=1
	run -0 python3 "$TESTS/soak/account_test.py"
	assert_output --regexp 'Ran [1-9][0-9]* tests'
}
