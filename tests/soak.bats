#!/usr/bin/env bats
# What `make soak` goes by: its books. The soak itself takes too long for here.

load lib

@test "the books of the soak: silence, a second answer and a lost refresh fail the run" {
	export PYTHONDONTWRITEBYTECODE=1
	run -0 python3 "$TESTS/soak/account_test.py"
	assert_output --regexp 'Ran [1-9][0-9]* tests'
}
