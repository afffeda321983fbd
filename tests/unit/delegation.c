/* The parts of delegation.h, disco.h and reply.h that tests of the programs do not reach: every
 * name of a node, and why JSON and identities are refused. */
#include "check.h"
#include "delegation/delegation.h"
#include "xmpp/disco.h"

static void nodes(void)
{
	static const struct {
		const char *node;
		int version;
		bool bare;
		const char *ns;
	} good[] = {
		{"urn:xmpp:delegation:1::urn:x", 1, false, "urn:x"},
		{"urn:xmpp:delegation:2::urn:x", 2, false, "urn:x"},
		{"urn:xmpp:delegation:1:bare:urn:x", 1, true, "urn:x"},
		{"urn:xmpp:delegation:2:bare:a:bare:b", 2, true, "a:bare:b"},
		{"urn:xmpp:delegation:2:::bare:x", 2, false, ":bare:x"},
	};
	static const char *const bad[] = {"", "urn:xmpp:delegation:2", "urn:xmpp:delegation:2::",
		"urn:xmpp:delegation:2:bare:", "urn:xmpp:delegation:2:bar:x",
		"urn:xmpp:delegation:3::x", "urn:xmpp:delegation:20::x", "x"};
	struct delegation_node node;
	struct buf text;

	buf_init(&text, BUF_NO_MAX);
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		CHECK(delegation_node_parse(span_of(good[i].node), &node));
		CHECK_EQ_INT(node.version, good[i].version);
		CHECK_EQ_INT(node.bare, good[i].bare);
		CHECK(span_is(node.ns, good[i].ns));
		buf_reset(&text);
		delegation_node_format(&node, &text);
		CHECK(span_is(buf_span(&text), good[i].node));
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK(!delegation_node_parse(span_of(bad[i]), &node));
	buf_free(&text);
}

static void payload_namespaces(void)
{
	CHECK(span_is(delegation_payload_ns(SPAN("urn:xmpp:delegation:2:bare:disco#items:*")),
		NS_DISCO_ITEMS));
	CHECK(span_is(delegation_payload_ns(SPAN("urn:xmpp:delegation:1:bare:disco#info:*")),
		NS_DISCO_INFO));
	CHECK(span_is(delegation_payload_ns(SPAN("http://jabber.org/protocol/disco#items:*")),
		NS_DISCO_ITEMS));
	CHECK(span_is(delegation_payload_ns(SPAN("urn:x:disco#info:*")), "urn:x:disco#info:*"));
	CHECK(span_is(delegation_payload_ns(SPAN("http://jabber.org/protocol/disco#info")),
		NS_DISCO_INFO));
	CHECK_EQ_INT(delegation_version(SPAN("urn:xmpp:delegation:1")), 1);
	CHECK_EQ_INT(delegation_version(SPAN("urn:xmpp:delegation:2")), 2);
	CHECK_EQ_INT(delegation_version(SPAN("urn:xmpp:delegation:")), 0);
	CHECK_EQ_INT(delegation_version(SPAN_NONE), 0);
}

static void identities(void)
{
	struct disco_info info;

	disco_init(&info);
	CHECK(disco_add_identity(&info, SPAN("a/b")));
	CHECK(disco_add_identity(&info, SPAN("a/b/")));
	CHECK(disco_add_identity(&info, SPAN("a/b/c/d'<")));
	CHECK(span_is(buf_span(&info.identities),
		      "<identity category='a' type='b'/><identity category='a' type='b'/>"
		      "<identity category='a' type='b' name='c/d&apos;&lt;'/>") ||
		span_is(buf_span(&info.identities),
			"<identity category='a' type='b'/><identity category='a' type='b'/>"
			"<identity category='a' type='b' name='c/d&#39;&lt;'/>"));
	CHECK(!disco_add_identity(&info, SPAN("")));
	CHECK(!disco_add_identity(&info, SPAN("a")));
	CHECK(!disco_add_identity(&info, SPAN("a/")));
	CHECK(!disco_add_identity(&info, SPAN("/b")));
	CHECK(!disco_add_identity(&info, SPAN("a/b/\x01")));
	CHECK(!disco_add_identity(&info, SPAN("a/\xff")));
	disco_add_feature(&info, SPAN("f"));
	disco_add_feature(&info, SPAN("f"));
	disco_add_feature(&info, SPAN("g"));
	CHECK_EQ_INT((long long)info.features_count, 2);
	disco_reset(&info);
	CHECK_EQ_INT((long long)info.features_count, 0);
	disco_free(&info);
}

static void json(void)
{
	static const char *const bad[] = {"[]", "1", "null", "{\"features\":{}}", "{\"x\":[]}",
		"{\"features\":[\"\"]}", "{\"features\":[\"\\u0001\"]}", "{\"identities\":[1]}",
		"{\"identities\":[{}]}", "{\"identities\":[{\"category\":\"a\"}]}",
		"{\"forms\":[1]}", "{\"forms\":[{}]}", "{\"forms\":[{\"FORM_TYPE\":\"\"}]}",
		"{\"forms\":[{\"FORM_TYPE\":\"t\",\"a\":1}]}",
		"{\"forms\":[{\"FORM_TYPE\":\"t\",\"a\":[\"b\",null]}]}"};
	struct json_object *object;
	struct disco_info info;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		disco_init(&info);
		object = json_tokener_parse(bad[i]);
		CHECK(disco_add_json(&info, object) != NULL);
		json_object_put(object);
		disco_free(&info);
	}
	disco_init(&info);
	object = json_tokener_parse("{\"features\":[\"a\"],\"identities\":[\"a/b\"],\"forms\":"
				    "[{\"FORM_TYPE\":\"t\",\"a\":[\"1\",\"2\"]}]}");
	CHECK(disco_add_json(&info, object) == NULL);
	CHECK(buf_length(&info.forms) > 0 && info.features_count == 1);
	json_object_put(object);
	disco_free(&info);
}

int main(void)
{
	TEST(nodes);
	TEST(payload_namespaces);
	TEST(identities);
	TEST(json);
	return check_done();
}
