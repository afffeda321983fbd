/* Fuzz target: what --disco FILE announces. What is taken can be answered, and the answer, when it
 * is read, is the same announcement. */
#include <stdint.h>

#include "base/json.h"
#include "require.h"
#include "xmpp/disco.h"
#include "xmpp/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define QUERY                                                                                      \
	"<iq type='get' id='1' from='a@b/c' to='d'><query "                                        \
	"xmlns='http://jabber.org/protocol/disco#info'/></iq>"

static struct reader *new_reader(void)
{
	return reader_new(
		&(struct reader_config){.kind = READER_PIPE, .max_stanza_bytes = 1 << 24});
}

static void answer(const struct disco_info *info, struct reader *reader, struct buf *out)
{
	struct stanza query;
	struct writer w;

	writer_init(&w, out, WRITER_PIPE, 0);
	REQUIRE(reader_one(reader, SPAN(QUERY), &query));
	REQUIRE(disco_answer(info, &query, SPAN_NONE, &w) == WRITER_OK);
}

static void round_trip(const struct disco_info *info)
{
	const struct disco_limits limits = {SIZE_MAX, SIZE_MAX, SIZE_MAX};
	struct reader *asking = new_reader(), *reading = new_reader();
	struct disco_info read;
	struct stanza s;
	struct buf one, two;

	buf_init(&one, BUF_NO_MAX);
	buf_init(&two, BUF_NO_MAX);
	disco_init(&read);
	answer(info, asking, &one);
	REQUIRE(reader_one(reading, buf_span(&one), &s));
	REQUIRE(s.type == TYPE_RESULT && s.root->first_child);
	REQUIRE(disco_add_query(&read, &s, s.root->first_child, &limits));
	answer(&read, asking, &two);
	REQUIRE(span_equal(buf_span(&one), buf_span(&two)));
	disco_free(&read);
	buf_free(&one);
	buf_free(&two);
	reader_free(asking);
	reader_free(reading);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct json_object *object = NULL;
	struct disco_info info;
	struct buf message;

	disco_init(&info);
	buf_init(&message, 256);
	if (json_parse((struct span){(const char *)bytes, n}, 16, &object, &message) == JSON_OK &&
		json_object_is_type(object, json_type_object) && !disco_add_json(&info, object))
		round_trip(&info);
	json_object_put(object);
	disco_free(&info);
	buf_free(&message);
	return 0;
}
