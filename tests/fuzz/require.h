/* require.h - what a fuzz target asserts
 *
 * REQUIRE(what) ends the process, with the place and the text of the assertion that failed, so that
 * the
 * fuzzer keeps the input and a replay fails.
 */
#ifndef OUTBOARD_FUZZ_REQUIRE_H
#define OUTBOARD_FUZZ_REQUIRE_H

#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(what)                                                                              \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);         \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#endif
