/* Fuzz target: input of roster-refresh-listen. The first byte says what the rest is: the body of a
 * request, or a line of the worker. */
#include <stdint.h>

#include "roster/refresh.h"
#include "require.h"
#include "roster/roster.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Accepted bodies are names without duplicates, each of which fits on a line. */
static void body(struct span text)
{
	struct refresh_names names;
	const char *why = NULL;

	if (refresh_names_parse(text, 1000, NULL, &names, &why)) {
		for (size_t i = 0; i < names.count; i++) {
			REQUIRE(roster_user_valid(names.list[i]));
			REQUIRE(!memchr(names.list[i].p, '\n', names.list[i].n));
			for (size_t j = 0; j < i && i < 100; j++)
				REQUIRE(!span_equal(names.list[i], names.list[j]));
		}
	} else {
		REQUIRE(why != NULL);
	}
	refresh_names_free(&names);
}

static void line(struct span text)
{
	struct refresh_worker_line said;
	enum refresh_line kind;

	refresh_worker_line_init(&said);
	kind = refresh_line_parse(text, &said);
	REQUIRE((kind == REFRESH_RECORD || kind == REFRESH_LOGIN) || buf_length(&said.user) == 0);
	refresh_worker_line_free(&said);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span text = {(const char *)bytes + 1, n - 1};

	if (n == 0)
		return 0;
	if (bytes[0] & 1)
		body(text);
	else
		line(text);
	return 0;
}
