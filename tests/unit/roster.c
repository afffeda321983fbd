#include "roster/roster.h"

#include "check.h"
#include "xmpp/jid.h"

static struct buf message;

static enum roster_status parse(
	const char *json, size_t n, bool strict, struct roster *r, struct roster_skips *s)
{
	struct roster_rules rules = ROSTER_RULES_INIT;

	rules.strict = strict;
	buf_reset(&message);
	return roster_parse((struct span){json, n}, &rules, r, s, &message);
}

static void expect(const char *json, enum roster_status status, const char *text)
{
	struct roster r;
	struct roster_skips s;
	struct buf out;

	buf_init(&out, BUF_NO_MAX);
	CHECK_EQ_INT(parse(json, strlen(json), false, &r, &s), status);
	if (status == ROSTER_OK) {
		roster_format(&r, &out);
		CHECK_EQ_STR(buf_string(&out), text);
	} else {
		CHECK_EQ_STR(buf_string(&message), text);
	}
	roster_free(&r);
	roster_skips_free(&s);
	buf_free(&out);
}

static void good(const char *json, const char *formatted)
{
	expect(json, ROSTER_OK, formatted);
}

static void valid_rosters(void)
{
	good("{}", "{}");
	good(" \t\r\n{ } \n", "{}");
	good("{\"a@b\":{}}", "{\"a@b\":{\"subscription\":\"both\"}}");
	good("{\"A@B.\":\"Name\"}", "{\"a@b\":{\"name\":\"Name\",\"subscription\":\"both\"}}");
	good("{\"a@b\":{\"name\":null,\"groups\":null,\"subscription\":\"none\"}}",
		"{\"a@b\":{\"subscription\":\"none\"}}");
	good("{\"a@b\":{\"name\":\"\",\"groups\":[\"z\",\"a\",\"z\"],\"subscription\":\"to\"}}",
		"{\"a@b\":{\"groups\":[\"a\",\"z\"],\"subscription\":\"to\"}}");
	good("{\"a@b\":{\"groups\":{\"A\":true,\"B\":false},\"subscription\":\"from\"}}",
		"{\"a@b\":{\"groups\":[\"A\"],\"subscription\":\"from\"}}");
	good("{\"c@d\":{},\"b@d\":{},\"a@d\":{}}",
		"{\"a@d\":{\"subscription\":\"both\"},\"b@d\":{\"subscription\":\"both\"},"
		"\"c@d\":{\"subscription\":\"both\"}}");
	/* the last of equal keys counts */
	good("{\"a@b\":\"x\",\"a@b\":\"y\"}",
		"{\"a@b\":{\"name\":\"y\",\"subscription\":\"both\"}}");
	/* other fields are not looked at, but must be JSON */
	good("{\"a@b\":{\"age\":-1.5e+3,\"x\":[true,false,null,0,{\"y\":[]}]}}",
		"{\"a@b\":{\"subscription\":\"both\"}}");
	good("{\"a@b\":\"\\ud83d\\ude00 \\u00fc\\\"\\\\\"}",
		"{\"a@b\":{\"name\":\"\xf0\x9f\x98\x80 "
		"\xc3\xbc\\\"\\\\\",\"subscription\":\"both\"}}");
	good("{\"x.example\":{\"name\":\"X\"}}",
		"{\"x.example\":{\"name\":\"X\",\"subscription\":\"both\"}}");
	/* PHP's way to write an empty object, and a list with holes */
	good("[]", "{}");
	good("{\"a@b\":[]}", "{\"a@b\":{\"subscription\":\"both\"}}");
	good("{\"a@b\":{\"groups\":[]}}", "{\"a@b\":{\"subscription\":\"both\"}}");
	good("{\"a@b\":{\"groups\":{\"0\":\"A\",\"7\":\"B\"}}}",
		"{\"a@b\":{\"groups\":[\"A\",\"B\"],\"subscription\":\"both\"}}");
	/* null means absent */
	good("{\"a@b\":{\"name\":null,\"groups\":null,\"subscription\":null}}",
		"{\"a@b\":{\"subscription\":\"both\"}}");
	good("{\"a@b\":null}", "{\"a@b\":{\"subscription\":\"both\"}}");
	/* a byte order mark */
	good("\xef\xbb\xbf{}", "{}");
	/* a number is taken as its digits */
	good("{\"a@b\":{\"name\":4.20}}",
		"{\"a@b\":{\"name\":\"4.20\",\"subscription\":\"both\"}}");
}

static void not_json(const char *json)
{
	struct roster r;
	struct roster_skips s;

	if (parse(json, strlen(json), false, &r, &s) != ROSTER_NOT_JSON)
		CHECK_EQ_STR(json, "not JSON");
	CHECK(buf_length(&message) > 0);
	CHECK_EQ_INT(r.count, 0);
	roster_free(&r);
	roster_skips_free(&s);
}

static void what_is_not_json(void)
{
	static const char *const texts[] = {"", " ", "{", "{\"a@b\":{}", "{}x", "{}{}", "{} null",
		"{'a@b':{}}", "{a:1}", "{\"a@b\":{},}", "{,}", "{\"a@b\" {}}", "{\"a@b\":}", "[}",
		"nan", "NaN", "{\"a@b\":NaN}", "{\"a@b\":{\"x\":NaN}}",
		"{\"a@b\":{\"x\":Infinity}}", "{\"a@b\":{\"x\":-Infinity}}",
		"{\"a@b\":{\"x\":-infinity}}", "{\"a@b\":{\"x\":+1}}", "{\"a@b\":{\"x\":01}}",
		"{\"a@b\":{\"x\":-01}}", "{\"a@b\":{\"x\":1.}}", "{\"a@b\":{\"x\":.5}}",
		"{\"a@b\":{\"x\":1e}}", "{\"a@b\":{\"x\":-}}", "{\"a@b\":{\"x\":0x1}}",
		"{\"a@b\":{\"x\":TRUE}}", "{\"a@b\":{\"x\":Null}}", "{\"a@b\":{\"x\":tru}}",
		"{\"a@b\":\"x\ny\"}", "{\"a@b\":\"x\ty\"}", "{\"a\x01@b\":{}}",
		"{\"a@b\":\"\\x41\"}", "{\"a@b\":\"\\u12\"}", "{\"a@b\":\"\\u12g4\"}",
		"{\"a@b\":\"\\'\"}", "{\"a@b\":\"\xff\"}", "{\"a@b\":\"\xc3\"}",
		"{\"a@b\":\"\xc0\x80\"}", "{\"a@b\":{\"x\":\"\xed\xa0\x80\"}}",
		"{\"a@b\":{\"x\":\"\xf4\x90\x80\x80\"}}", "{\"a@b\":{\"x\":\"\xe0\x9f\xbf\"}}",
		"{}\xef\xbb\xbf", "/* */{}", "{}//", "{\"a@b\":{}\v}", "{\"a@b\":\"x",
		"{\"a@b\":\"x\\", "{\"a@b\":{}}\f", NULL};

	for (size_t i = 0; texts[i]; i++)
		not_json(texts[i]);
	struct roster r;
	struct roster_skips s;
	CHECK_EQ_INT(parse("{}\0", 3, false, &r, &s), ROSTER_NOT_JSON);
	roster_free(&r);
	CHECK_EQ_INT(parse("\0{}", 3, false, &r, &s), ROSTER_NOT_JSON);
	roster_free(&r);
	CHECK_EQ_INT(parse("{\"a\0b\":{}}", 10, false, &r, &s), ROSTER_NOT_JSON);
	roster_free(&r);
}

static void what_is_no_roster(void)
{
	expect("null", ROSTER_INVALID, "not an object of contacts");
	expect("true", ROSTER_INVALID, "not an object of contacts");
	expect("17", ROSTER_INVALID, "not an object of contacts");
	expect("\"x\"", ROSTER_INVALID, "not an object of contacts");
	expect("[1]", ROSTER_INVALID, "not an object of contacts");
	expect("[[]]", ROSTER_INVALID, "not an object of contacts");
	expect("{\"a@b\":{},\"A@b\":{}}", ROSTER_INVALID, "two contacts are the same address");
	expect("{\"a@b\":{},\"a@b.\":\"x\"}", ROSTER_INVALID, "two contacts are the same address");
	expect("{\"c@b\":{},\"c@b\":{},\"a@b\":{},\"A@b\":{},\"d@b\":{}}", ROSTER_INVALID,
		"two contacts are the same address");
	expect("{\"a@b\":{},\"A@b\":7}", ROSTER_INVALID, "two contacts are the same address");
	expect("{\"a@b\":\"\\u0000\"}", ROSTER_INVALID, "U+0000 in a string");
	expect("{\"a\\u0000@b\":{}}", ROSTER_INVALID, "U+0000 in a string");
	expect("{\"a@b\":{\"x\":\"\\\\\\u0000\"}}", ROSTER_INVALID, "U+0000 in a string");
	good("{\"a@b\":{\"x\":\"\\\\u0000\"}}", "{\"a@b\":{\"subscription\":\"both\"}}");
}

static void nested_deeply(void)
{
	struct buf text;

	buf_init(&text, BUF_NO_MAX);
	for (int i = 0; i < 1000000; i++)
		buf_append_char(&text, '[');
	expect(buf_string(&text), ROSTER_INVALID, "nested too deeply");
	buf_reset(&text);
	for (int i = 0; i < 100000; i++)
		buf_append_string(&text, "{\"a@b\":");
	expect(buf_string(&text), ROSTER_INVALID, "nested too deeply");
	buf_free(&text);
}

static void skipped(const char *json, const char *why)
{
	struct roster r;
	struct roster_skips s;

	CHECK_EQ_INT(parse(json, strlen(json), false, &r, &s), ROSTER_OK);
	CHECK_EQ_INT(r.count, 1); /* ok@example.com */
	CHECK_EQ_INT(s.count, 1);
	CHECK_EQ_STR(s.count ? s.list[0].why : NULL, why);
	roster_free(&r);
	roster_skips_free(&s);
	CHECK_EQ_INT(parse(json, strlen(json), true, &r, &s), ROSTER_INVALID);
	CHECK(buf_length(&message) > 0);
	roster_free(&r);
	roster_skips_free(&s);
}

#define OK "\"ok@example.com\":{},"
static void bad_contacts(void)
{
	skipped("{" OK "\"@@\":{}}", "not a JID");
	skipped("{" OK "\"\":{}}", "not a JID");
	skipped("{" OK "\"a@\":{}}", "not a JID");
	skipped("{" OK "\"@b\":{}}", "not a JID");
	skipped("{" OK "\"a b@c\":{}}", "not a JID");
	skipped("{" OK "\"a@b\\n\":{}}", "not a JID");
	skipped("{" OK "\"a@b/c\":{}}", "not a bare JID");
	skipped("{" OK "\"a@b\":true}", "neither an object nor a string");
	skipped("{" OK "\"a@b\":7}", "neither an object nor a string");
	skipped("{" OK "\"a@b\":[1]}", "neither an object nor a string");
	skipped("{" OK "\"a@b\":{\"name\":true}}", "name that is no string");
	skipped("{" OK "\"a@b\":{\"groups\":\"A\"}}", "groups that are no list");
	skipped("{" OK "\"a@b\":{\"groups\":[1]}}", "group that is no string");
	skipped("{" OK "\"a@b\":{\"groups\":[\"\"]}}", "empty group");
	skipped("{" OK "\"a@b\":{\"groups\":{\"A\":1}}}", "groups that are no list");
}

/* Check how many of the skipped keys are no contacts. */
static void foreign(const char *json, size_t expected)
{
	struct roster r;
	struct roster_skips s;

	CHECK_EQ_INT(parse(json, strlen(json), false, &r, &s), ROSTER_OK);
	CHECK_MSG(s.foreign == expected, "%s: %zu", json, s.foreign);
	roster_free(&r);
	roster_skips_free(&s);
}

static void what_is_a_contact(void)
{
	foreign("{" OK "\"b@c\":7}", 0);
	foreign("{" OK "\"b@c\":{\"x\":1}}", 0);
	foreign("{" OK "\"icq.example.com\":{\"name\":\"ICQ\"}}", 0);
	foreign("{" OK "\"icq.example.com\":{\"name\":\"ICQ\",\"subscription\":7}}", 0);
	foreign("{" OK "\"icq.example.com\":{\"name\":\"ICQ\",\"x\":1}}", 1);
	foreign("{" OK "\"icq.example.com\":{}}", 1);
	foreign("{" OK "\"error.message\":\"down\"}", 1);
	foreign("{" OK "\"error\":{\"name\":\"x\"}}", 1);
	foreign("{" OK "\"@@\":{}}", 1);
	foreign("{" OK "\"a@b/c\":{},\"\":{},\"x\":null}", 3);
	expect("{\"success\":false}", ROSTER_INVALID, "not one of its 1 member is a contact");
	expect("{\"errors\":[\"x\"],\"data\":null}", ROSTER_INVALID,
		"not one of its 2 members is a contact");
	expect("{\"error.message\":{}}", ROSTER_INVALID, "not one of its 1 member is a contact");
	expect("{\"contacts\":{\"a@b\":{}}}", ROSTER_INVALID,
		"not one of its 1 member is a contact");
	foreign("{\"a@b\":7}", 0);
}

static void texts_that_cannot_be_shown(void)
{
	good("{\"a@b\":\" x\\n\\t y \\r\\n\"}",
		"{\"a@b\":{\"name\":\"x y\",\"subscription\":\"both\"}}");
	good("{\"a@b\":\"x\\u0085y\\u007f\"}",
		"{\"a@b\":{\"name\":\"x y\",\"subscription\":\"both\"}}");
	good("{\"a@b\":\"x  y\"}", "{\"a@b\":{\"name\":\"x  y\",\"subscription\":\"both\"}}");
	good("{\"a@b\":\"\\t\"}", "{\"a@b\":{\"subscription\":\"both\"}}");
	good("{\"a@b\":{\"groups\":[\"\\u0001\",\"G\\n\",\"G\",\"\\uffff\"]}}",
		"{\"a@b\":{\"groups\":[\"G\"],\"subscription\":\"both\"}}");
	good("{\"a@b\":{\"groups\":{\"A\\tB\":true}}}",
		"{\"a@b\":{\"groups\":[\"A B\"],\"subscription\":\"both\"}}");
}

static void bounds(void)
{
	struct roster_rules rules = {.max_contacts = 2, .max_values = 5};
	struct roster r;
	struct roster_skips s;

	buf_reset(&message);
	CHECK_EQ_INT(
		roster_parse(SPAN("{\"a@b\":{},\"c@b\":{},\"d@b\":{}}"), &rules, &r, &s, &message),
		ROSTER_TOO_LARGE);
	CHECK_EQ_STR(buf_string(&message), "more than 2 contacts");
	roster_free(&r);
	roster_skips_free(&s);
	buf_reset(&message);
	CHECK_EQ_INT(roster_parse(SPAN("{\"a@b\":{\"x\":[1,2,3,4]}}"), &rules, &r, &s, &message),
		ROSTER_TOO_LARGE);
	CHECK_EQ_STR(buf_string(&message), "more than 5 values");
	roster_free(&r);
	roster_skips_free(&s);
	buf_reset(&message);
	CHECK_EQ_INT(
		roster_parse(SPAN("{\"a@b\":{\"x\":[1,2]}}"), &rules, &r, &s, &message), ROSTER_OK);
	roster_free(&r);
	roster_skips_free(&s);
}

static void what_is_kept(void)
{
	struct roster_keep keep;
	struct roster_rules rules = ROSTER_RULES_INIT;
	struct roster r;
	struct roster_skips s;

	roster_keep_init(&keep);
	CHECK(roster_keep_add(&keep, "Bot@Example.com"));
	CHECK(roster_keep_add(&keep, "proxy.example.com"));
	CHECK(roster_keep_add(&keep, "*.gateways.example"));
	CHECK(!roster_keep_add(&keep, "@@"));
	CHECK(!roster_keep_add(&keep, "a@b/c"));
	CHECK(!roster_keep_add(&keep, "*.a@b"));
	CHECK(roster_keep_has(&keep, "bot@example.com"));
	CHECK(roster_keep_has(&keep, "proxy.example.com"));
	CHECK(roster_keep_has(&keep, "anybody@proxy.example.com"));
	CHECK(roster_keep_has(&keep, "icq.gateways.example"));
	CHECK(roster_keep_has(&keep, "1@a.icq.gateways.example"));
	CHECK(!roster_keep_has(&keep, "gateways.example"));
	CHECK(!roster_keep_has(&keep, "icqgateways.example"));
	CHECK(!roster_keep_has(&keep, "tob@example.com"));
	CHECK(!roster_keep_has(NULL, "bot@example.com"));
	rules.keep = &keep;
	buf_reset(&message);
	CHECK_EQ_INT(roster_parse(SPAN("{\"proxy.example.com\":1}"), &rules, &r, &s, &message),
		ROSTER_OK);
	CHECK_EQ_INT(s.foreign, 0);
	roster_free(&r);
	roster_skips_free(&s);
	roster_keep_free(&keep);
}

static void bad_subscriptions(void)
{
	static const char *const values[] = {
		"7", "\"\"", "\"Both\"", "\"remove\"", "\"both \"", "[\"both\"]", "true", NULL};
	char text[200];

	for (size_t i = 0; values[i]; i++) {
		struct roster r;
		struct roster_skips s;

		snprintf(text, sizeof(text), "{\"a@b\":{\"subscription\":%s}}", values[i]);
		CHECK_EQ_INT(parse(text, strlen(text), false, &r, &s), ROSTER_OK);
		CHECK_EQ_INT(r.count, 0);
		CHECK_EQ_INT(s.count, 1);
		roster_free(&r);
		roster_skips_free(&s);
	}
}

static void own_address(void)
{
	struct roster r;
	struct roster_skips s;

	buf_reset(&message);
	struct roster_rules rules = ROSTER_RULES_INIT;

	rules.own = SPAN("john@example.org");
	CHECK_EQ_INT(roster_parse(SPAN("{\"JOHN@example.org\":{},\"john@example.com\":{}}"), &rules,
			     &r, &s, &message),
		ROSTER_OK);
	CHECK_EQ_INT(r.count, 1);
	CHECK_EQ_INT(s.count, 1);
	CHECK_EQ_STR(s.list[0].contact, "JOHN@example.org");
	CHECK(roster_find(&r, "john@example.com"));
	CHECK(!roster_find(&r, "john@example.org"));
	roster_free(&r);
	roster_skips_free(&s);
}

/* Records ---------------------------------------------------------------- */

static void same_again(const char *line, const char *formatted)
{
	struct roster_record record;
	const char *why = NULL;
	struct buf out;

	buf_init(&out, BUF_NO_MAX);
	CHECK(roster_record_parse(span_of(line), NULL, &record, &why));
	CHECK_EQ_STR(why, NULL);
	if (!why) {
		roster_record_format(&record, &out);
		CHECK_EQ_STR(buf_string(&out), formatted);
		roster_record_free(&record);
	}
	buf_free(&out);
}

static void no_record(const char *line, const char *expected)
{
	struct roster_record record;
	const char *why = NULL;

	CHECK(!roster_record_parse(span_of(line), NULL, &record, &why));
	CHECK_EQ_STR(why, expected);
	/* the user is known where the line names one */
	CHECK((record.user != NULL) == (strstr(line, "\"user\":\"") && !strstr(line, "\"event\"")));
	if (record.user) {
		CHECK(record.status == RECORD_ERROR);
		CHECK_EQ_STR(record.error, "invalid-roster");
		CHECK_EQ_STR(record.message, expected);
	}
	roster_record_free(&record);
}

static void records(void)
{
	same_again("{\"user\":\"john\",\"status\":\"ok\",\"roster\":{}}",
		"{\"user\":\"john\",\"status\":\"ok\",\"roster\":{},\"skipped\":[]}\n");
	same_again("{ \"roster\":{\"A@b\":\"x\"}, \"status\":\"unchanged\", \"user\":\"J\xc3\xbc\" "
		   "}\n",
		"{\"user\":\"J\xc3\xbc\",\"status\":\"unchanged\",\"roster\":{\"a@b\":{\"name\":"
		"\"x\","
		"\"subscription\":\"both\"}},\"skipped\":[]}\n");
	same_again("{\"user\":\"x\",\"status\":\"error\",\"error\":\"http-404\"}",
		"{\"user\":\"x\",\"status\":\"error\",\"error\":\"http-404\"}\n");
	same_again("{\"user\":\"x\",\"status\":\"error\",\"error\":\"e\",\"message\":\"m\\u0007\"}",
		"{\"user\":\"x\",\"status\":\"error\",\"error\":\"e\",\"message\":\"m\\u0007\"}\n");
	/* the error of a line that was no name */
	same_again("{\"user\":\"\",\"status\":\"error\",\"error\":\"bad-user\"}",
		"{\"user\":\"\",\"status\":\"error\",\"error\":\"bad-user\"}\n");
	same_again("{\"user\":\"john\",\"status\":\"ok\",\"roster\":{},\"removals\":\"all\"}",
		"{\"user\":\"john\",\"status\":\"ok\",\"roster\":{},\"skipped\":[],\"removals\":"
		"\"all\"}\n");
	same_again("{\"roster\":{\"a@b\":{},\"error\":1},\"user\":\"j\",\"status\":\"ok\","
		   "\"skipped\":[{\"contact\":\"c@d\",\"why\":\"w\"}]}",
		"{\"user\":\"j\",\"status\":\"ok\",\"roster\":{\"a@b\":{\"subscription\":\"both\"}}"
		","
		"\"skipped\":[{\"contact\":\"error\",\"why\":\"no contact\"},"
		"{\"contact\":\"c@d\",\"why\":\"w\"}]}\n");
	no_record("", "not JSON");
	no_record("{}", "no valid 'user'");
	no_record("[]", "not an object");
	no_record("null", "not an object");
	no_record("{\"user\":7,\"status\":\"ok\",\"roster\":{}}", "no valid 'user'");
	no_record("{\"user\":\"\",\"status\":\"ok\",\"roster\":{}}", "no valid 'user'");
	no_record("{\"event\":\"login\",\"user\":\"john\"}", "no 'status'");
	no_record("{\"user\":\"john\",\"status\":\"fine\"}", "unknown 'status'");
	no_record("{\"user\":\"john\",\"status\":\"ok\"}", "no 'roster'");
	no_record("{\"user\":\"john\",\"status\":\"ok\",\"roster\":[1]}", "invalid 'roster'");
	no_record(
		"{\"user\":\"john\",\"status\":\"ok\",\"roster\":{\"@\":{}}}", "invalid 'roster'");
	no_record("{\"user\":\"john\",\"status\":\"ok\",\"roster\":{},\"skipped\":{}}",
		"'skipped' is no list");
	no_record("{\"user\":\"john\",\"status\":\"ok\",\"roster\":{},\"skipped\":[\"x\"]}",
		"'skipped' holds what is no contact");
	no_record("{\"user\":\"john\",\"status\":\"error\"}", "an error without 'error'");
}

/* A record of any bytes is one line of JSON, with the same user where JSON can hold it. */
static void any_user_makes_a_record(void)
{
	uint32_t state = 12345;
	struct buf out;

	buf_init(&out, BUF_NO_MAX);
	for (int round = 0; round < 20000; round++) {
		char user[12];
		size_t n;

		state = state * 1664525 + 1013904223;
		n = (state >> 16) % sizeof(user);
		for (size_t i = 0; i < n; i++) {
			state = state * 1664525 + 1013904223;
			user[i] = (char)(state >> 24);
		}
		buf_reset(&out);
		roster_error_format((struct span){user, n}, "bad-user", NULL, &out);
		CHECK(memchr(buf_span(&out).p, '\n', buf_length(&out)) ==
			buf_span(&out).p + buf_length(&out) - 1);
		struct json_object *o = json_tokener_parse(buf_string(&out)), *u = NULL;
		REQUIRE(o && json_object_object_get_ex(o, "user", &u));
		if (roster_user_valid((struct span){user, n}))
			CHECK(span_equal((struct span){json_object_get_string(u),
						 (size_t)json_object_get_string_len(u)},
				(struct span){user, n}));
		json_object_put(o);
	}
	buf_free(&out);
}

static void users(void)
{
	char long_name[1025];

	memset(long_name, 'x', sizeof(long_name));
	CHECK(roster_user_valid(SPAN("john")));
	CHECK(roster_user_valid(SPAN("a b")));
	CHECK(roster_user_valid(SPAN("j\xc3\xbcrgen")));
	CHECK(roster_user_valid((struct span){long_name, 1023}));
	CHECK(!roster_user_valid((struct span){long_name, 1024}));
	CHECK(!roster_user_valid(SPAN("")));
	CHECK(!roster_user_valid(SPAN("a\0b")));
	CHECK(!roster_user_valid(SPAN("a\n")));
	CHECK(!roster_user_valid(SPAN("a\r")));
	CHECK(!roster_user_valid(SPAN("a\x7f")));
	CHECK(!roster_user_valid(SPAN("\xc2\x85")));
	CHECK(!roster_user_valid(SPAN("\xff")));
	CHECK(!roster_user_valid(SPAN("\xed\xa0\x80")));
}

/* Differences ------------------------------------------------------------ */

/* Apply the changes to a copy. */
struct patch {
	struct roster result;
	struct buf said;
};

static void copy_item(struct roster *to, const struct roster_item *item)
{
	struct roster_item copy = {.jid = strdup(item->jid),
		.name = item->name ? strdup(item->name) : NULL,
		.groups = item->groups_count ? malloc(item->groups_count * sizeof(char *)) : NULL,
		.groups_count = item->groups_count,
		.subscription = item->subscription};

	for (size_t i = 0; i < item->groups_count; i++)
		copy.groups[i] = strdup(item->groups[i]);
	roster_add_take(to, &copy);
}

static void on_change(void *context, const struct roster_change *c)
{
	struct patch *p = context;
	struct roster left = {0};

	buf_printf(&p->said, "%c%s%s%s%s ", "+*-"[c->kind],
		c -> old ? c -> old -> jid : c -> new->jid, c->name ? ":n" : "",
		c->groups ? ":g" : "", c->subscription ? ":s" : "");
	for (size_t i = 0; i < p->result.count; i++)
		if (!c->old || strcmp(p->result.items[i].jid, c->old->jid) != 0)
			copy_item(&left, &p->result.items[i]);
	if (c->new)
		copy_item(&left, c->new);
	roster_free(&p->result);
	p->result = left;
}

static void check_diff(const char *from, const char *to, const char *said)
{
	struct roster a, b;
	struct roster_skips s;
	struct patch p = {0};
	struct buf x, y;

	buf_init(&p.said, BUF_NO_MAX);
	buf_init(&x, BUF_NO_MAX);
	buf_init(&y, BUF_NO_MAX);
	CHECK_EQ_INT(parse(from, strlen(from), true, &a, &s), ROSTER_OK);
	CHECK_EQ_INT(parse(to, strlen(to), true, &b, &s), ROSTER_OK);
	for (size_t i = 0; i < a.count; i++)
		copy_item(&p.result, &a.items[i]);
	roster_diff(&a, &b, on_change, &p);
	if (said)
		CHECK_EQ_STR(buf_string(&p.said), said);
	roster_sort(&p.result);
	roster_format(&p.result, &x);
	roster_format(&b, &y);
	CHECK_EQ_STR(buf_string(&x), buf_string(&y));
	buf_free(&p.said);
	buf_free(&x);
	buf_free(&y);
	roster_free(&p.result);
	roster_free(&a);
	roster_free(&b);
}

static void differences(void)
{
	check_diff("{}", "{}", "");
	check_diff(
		"{\"a@b\":{\"groups\":[\"x\",\"y\"]}}", "{\"a@b\":{\"groups\":[\"y\",\"x\"]}}", "");
	check_diff("{}", "{\"a@b\":{}}", "+a@b ");
	check_diff("{\"a@b\":{}}", "{}", "-a@b ");
	check_diff("{\"a@b\":{}}", "{\"a@b\":\"x\"}", "*a@b:n ");
	check_diff("{\"a@b\":\"x\"}", "{\"a@b\":\"\"}", "*a@b:n ");
	check_diff("{\"a@b\":{\"groups\":[\"x\"]}}",
		"{\"a@b\":{\"groups\":[\"y\"],\"subscription\":\"to\"}}", "*a@b:g:s ");
	check_diff("{\"a@x\":{},\"c@x\":{},\"d@x\":{}}", "{\"b@x\":{},\"c@x\":\"C\",\"e@x\":{}}",
		"-a@x +b@x *c@x:n -d@x +e@x ");
}

static void patched_is_equal(void)
{
	uint32_t state = 99;

	for (int round = 0; round < 2000; round++) {
		char texts[2][600];

		for (int k = 0; k < 2; k++) {
			char *at = texts[k] + sprintf(texts[k], "{");

			for (int c = 0; c < 6; c++) {
				state = state * 1664525 + 1013904223;
				if ((state >> 28) % 2)
					continue;
				at += sprintf(at,
					"%s\"c%d@x\":{\"name\":\"%u\",\"groups\":[\"g%u\"],"
					"\"subscription\":\"%s\"}",
					at[-1] == '{' ? "" : ",", c, (state >> 20) % 2,
					(state >> 21) % 2,
					roster_subscription_name(
						(enum roster_subscription)((state >> 22) % 4)));
			}
			sprintf(at, "}");
		}
		check_diff(texts[0], texts[1], NULL);
		check_diff(texts[0], texts[0], "");
	}
}

int main(void)
{
	buf_init(&message, BUF_NO_MAX);
	TEST(valid_rosters);
	TEST(what_is_not_json);
	TEST(what_is_no_roster);
	TEST(nested_deeply);
	TEST(bad_contacts);
	TEST(what_is_a_contact);
	TEST(texts_that_cannot_be_shown);
	TEST(bounds);
	TEST(what_is_kept);
	TEST(bad_subscriptions);
	TEST(own_address);
	TEST(records);
	TEST(any_user_makes_a_record);
	TEST(users);
	TEST(differences);
	TEST(patched_is_equal);
	buf_free(&message);
	return check_done();
}
