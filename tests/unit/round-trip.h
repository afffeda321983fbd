/*
 * A stanza to JSON and back, twice: what must hold for every stanza.
 *
 * For tests and the fuzz target; ROUND_TRIP_CHECK(expression) is theirs.
 */
#ifndef OUTBOARD_TESTS_ROUND_TRIP_H
#define OUTBOARD_TESTS_ROUND_TRIP_H

#include "infoset.h"
#include "base/json.h"
#include "xmpp/reader.h"
#include "xmpp/stanza-json.h"

static struct reader *round_trip_reader(struct span bytes, struct stanza *s)
{
	static const struct reader_config config = {.kind = READER_PIPE,
		.max_stanza_bytes = 64 * 1024 * 1024,
		.max_attributes = 100000,
		.index = READER_INDEX_ALL};
	struct reader *r = reader_new(&config);

	reader_feed(r, bytes.p, bytes.n);
	if (reader_next(r, s) == READER_STANZA && s->kind != STANZA_OTHER && !s->refusal)
		return r;
	reader_free(r);
	return NULL;
}

/* Make a stanza of a line of JSON, and a line of that stanza. */
static const char *round_trip_line(struct span json, struct buf *xml, struct buf *again)
{
	enum writer_status status = WRITER_FULL;
	struct reader *r;
	struct writer w;
	struct stanza s;
	const char *wrong;

	writer_init(&w, xml, WRITER_PIPE, 0);
	wrong = stanza_json_write(json, NULL, NULL, &w, &status);
	if (wrong) {
		ROUND_TRIP_CHECK(buf_length(xml) == 0);
		return wrong;
	}
	ROUND_TRIP_CHECK(status == WRITER_OK);
	r = round_trip_reader(buf_span(xml), &s);
	ROUND_TRIP_CHECK(r);
	if (!r)
		return "what was written cannot be read";
	ROUND_TRIP_CHECK(stanza_json_format(&s, again));
	reader_free(r);
	return NULL;
}

/* around: the start tags that raw stands in. False if a check has failed. */
__attribute__((unused)) static void round_trip(const struct stanza *s, const char *around)
{
	struct buf json, xml, json2, xml2, json3, a, b, message;
	struct json_object *object = NULL;

	buf_init(&json, BUF_NO_MAX);
	buf_init(&xml, BUF_NO_MAX);
	buf_init(&json2, BUF_NO_MAX);
	buf_init(&xml2, BUF_NO_MAX);
	buf_init(&json3, BUF_NO_MAX);
	buf_init(&a, BUF_NO_MAX);
	buf_init(&b, BUF_NO_MAX);
	buf_init(&message, BUF_NO_MAX);
	ROUND_TRIP_CHECK(stanza_json_format(s, &json));
	ROUND_TRIP_CHECK(!memchr(buf_string(&json), '\n', buf_length(&json)));
	ROUND_TRIP_CHECK(json_parse(buf_span(&json), 4096, &object, &message) == JSON_OK);
	json_object_put(object);
	ROUND_TRIP_CHECK(round_trip_line(buf_span(&json), &xml, &json2) == NULL);
	ROUND_TRIP_CHECK(span_equal(buf_span(&json), buf_span(&json2)));
	ROUND_TRIP_CHECK(round_trip_line(buf_span(&json2), &xml2, &json3) == NULL);
	ROUND_TRIP_CHECK(span_equal(buf_span(&xml), buf_span(&xml2)));
	ROUND_TRIP_CHECK(infoset(&a, around, s->raw));
	ROUND_TRIP_CHECK(infoset(&b, "", (struct span){buf_string(&xml), buf_length(&xml) - 1}));
	if (!span_equal(buf_span(&a), buf_span(&b)))
		fprintf(stderr, "--- one\n%s\n--- other\n%s\n", buf_string(&a), buf_string(&b));
	ROUND_TRIP_CHECK(span_equal(buf_span(&a), buf_span(&b)));
	buf_free(&json);
	buf_free(&xml);
	buf_free(&json2);
	buf_free(&xml2);
	buf_free(&json3);
	buf_free(&a);
	buf_free(&b);
	buf_free(&message);
}

#endif
