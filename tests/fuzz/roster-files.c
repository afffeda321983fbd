/* Fuzz target: a spool's journal, which a crash may have cut, and ejabberd's answers. */
#include "roster/ejabberd-roster.h"
#include "roster/spool.h"

#include <stdint.h>

#include "require.h"
#include "xmpp/jid.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void line(void *context, bool added, struct span name)
{
	const struct span *text = context;

	/* a name is a part of the text, and one line when it is written again */
	REQUIRE(name.p >= text->p && name.p + name.n < text->p + text->n);
	REQUIRE(!memchr(name.p, '\n', name.n));
	REQUIRE(!added || roster_user_valid(name));
}

static void answer(struct span text)
{
	struct roster roster;
	struct buf jid;

	buf_init(&jid, BUF_NO_MAX);
	if (ejabberd_roster_parse(text, &roster)) {
		for (size_t i = 0; i < roster.count; i++) {
			buf_reset(&jid);
			REQUIRE(jid_normalise(span_of(roster.items[i].jid), &jid));
			REQUIRE(span_is(buf_span(&jid), roster.items[i].jid));
			REQUIRE(!jid_is_full(buf_span(&jid)));
			REQUIRE(roster_find(&roster, roster.items[i].jid) == &roster.items[i]);
		}
	}
	roster_free(&roster);
	buf_free(&jid);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span text = {(const char *)bytes, n};

	spool_parse(text, line, &text);
	answer(text);
	return 0;
}
