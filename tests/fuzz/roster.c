/* Fuzz target: rosters and records. What is accepted, written and read again is the same. */
#include "base/utf8.h"
#include "roster/roster.h"

#include <stdint.h>

#include "xmpp/jid.h"
#include "require.h"
#include "xmpp/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void count(void *context, const struct roster_change *c)
{
	(void)c;
	++*(size_t *)context;
}

static void check_roster(const struct roster *r)
{
	struct buf jid;
	size_t changes = 0;

	buf_init(&jid, BUF_NO_MAX);
	for (size_t i = 0; i < r->count; i++) {
		const struct roster_item *item = &r->items[i];

		buf_reset(&jid);
		REQUIRE(jid_normalise(span_of(item->jid), &jid));
		REQUIRE(span_is(buf_span(&jid), item->jid) && !jid_is_full(buf_span(&jid)));
		REQUIRE(roster_find(r, item->jid) == item);
		REQUIRE(!item->name || (*item->name && utf8_xml_valid(span_of(item->name))));
		for (size_t k = 0; k < item->groups_count; k++)
			REQUIRE(*item->groups[k] && utf8_xml_valid(span_of(item->groups[k])) &&
				(k == 0 || strcmp(item->groups[k - 1], item->groups[k]) < 0));
	}
	roster_diff(r, r, count, &changes);
	REQUIRE(changes == 0);
	roster_diff(&(struct roster){0}, r, count, &changes);
	REQUIRE(changes == r->count);
	buf_free(&jid);
}

static void check_json(struct span json)
{
	struct roster r, again;
	struct roster_skips skips, none;
	struct buf message, text;
	struct roster_rules rules = ROSTER_RULES_INIT, strict = ROSTER_RULES_INIT;

	rules.own = SPAN("own@example.org");
	strict.strict = true;
	buf_init(&message, BUF_NO_MAX);
	buf_init(&text, BUF_NO_MAX);
	if (roster_parse(json, &rules, &r, &skips, &message) == ROSTER_OK) {
		check_roster(&r);
		REQUIRE(!roster_find(&r, "own@example.org"));
		roster_format(&r, &text);
		REQUIRE(roster_parse(buf_span(&text), &strict, &again, &none, &message) ==
			ROSTER_OK);
		buf_reset(&message);
		roster_format(&again, &message);
		REQUIRE(span_equal(buf_span(&text), buf_span(&message)));
		roster_free(&again);
		roster_skips_free(&none);
	} else {
		REQUIRE(buf_length(&message) > 0);
	}
	roster_free(&r);
	roster_skips_free(&skips);
	buf_free(&message);
	buf_free(&text);
}

static void check_record(struct span line)
{
	struct roster_record record, again;
	const char *why;
	struct buf first, second;

	if (!roster_record_parse(line, NULL, &record, &why)) {
		REQUIRE(why != NULL && (!record.user || record.status == RECORD_ERROR));
		roster_record_free(&record);
		return;
	}
	buf_init(&first, BUF_NO_MAX);
	buf_init(&second, BUF_NO_MAX);
	REQUIRE(record.status == RECORD_ERROR || roster_user_valid(span_of(record.user)));
	check_roster(&record.roster);
	roster_record_format(&record, &first);
	REQUIRE(memchr(buf_span(&first).p, '\n', buf_length(&first)) ==
		buf_span(&first).p + buf_length(&first) - 1);
	REQUIRE(roster_record_parse(buf_span(&first), NULL, &again, &why));
	REQUIRE(again.skips.count == record.skips.count && again.status == record.status);
	roster_record_format(&again, &second);
	/* records do not keep why a contact was skipped */
	if (record.skips.count == 0)
		REQUIRE(span_equal(buf_span(&first), buf_span(&second)));
	roster_record_free(&record);
	roster_record_free(&again);
	buf_free(&first);
	buf_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span text = {(const char *)bytes, n};

	check_json(text);
	check_record(text);
	return 0;
}
