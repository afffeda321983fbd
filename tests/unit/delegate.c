/* delegate.h: when an entity is asked, with a clock that the test moves, and with a full output */
#include "base/deadline.h"
#include "delegation/delegate.h"

#include "base/buf.h"
#include "check.h"
#include "delegation/delegation.h"
#include "loop/loop.h"
#include "xmpp/reader.h"

static struct delegate *d;
static struct buf out;
static struct writer w;
static uint64_t drawn;
static const char *entity = "ent.test";

/* A turn at this time. */
static struct turn *at(int64_t now_ms)
{
	static struct turn turn;

	turn = (struct turn){.writer = &w, .now_ms = now_ms};
	return &turn;
}

static uint64_t on_random(void *context)
{
	(void)context;
	return ++drawn;
}

static void begin(void)
{
	static struct disco_info own;
	const struct delegate_rule rule = {.ns = SPAN("urn:a"), .entity = span_of(entity)};
	const struct delegate_config config = {.domain = SPAN("host.test"),
		.version = 2,
		.own = &own,
		.timeout_ms = 30000,
		.pending.max = 100,
		.pending.max_bytes = 100000,
		.random = {on_random, NULL}};

	disco_init(&own);
	buf_init(&out, BUF_NO_MAX);
	writer_init(&w, &out, WRITER_PIPE, 0);
	d = delegate_new(&config);
	delegate_rules(d, &rule, 1, &(struct turn){0});
	delegate_ops.up(d, at(0));
}

static void end(void)
{
	delegate_free(d);
	buf_free(&out);
}

static void comes(const char *text, int64_t now_ms)
{
	static const struct reader_config config = {.kind = READER_PIPE};
	struct reader *reader = reader_new(&config);
	struct stanza s;

	reader_feed(reader, text, strlen(text));
	reader_feed(reader, "\n", 1);
	if (CHECK(reader_next(reader, &s) == READER_STANZA))
		delegate_ops.stanza(d, &s, at(now_ms));
	reader_free(reader);
}

/* The id of the n-th iq to the entity among the stanzas written since the last call of forget(). */
static const char *asked(size_t n)
{
	static char id[64], to[64];
	const char *p = buf_string(&out);

	snprintf(to, sizeof(to), "' to='%s'", entity);
	for (*id = '\0'; (p = strstr(p, to)); p++) {
		const char *start = p;

		while (start > buf_string(&out) && start[-1] != '\'')
			start--;
		if (strncmp(start - 5, " id='", 5) == 0 && n-- == 0) {
			snprintf(id, sizeof(id), "%.*s", (int)(p - start), start);
			break;
		}
	}
	return id;
}

static void forget(void)
{
	buf_reset(&out);
}

static void entity_answers(int64_t now_ms)
{
	static const char *const halves[] = {"::", ":bare:"};
	char ids[2][64], text[512];

	for (size_t i = 0; i < 2; i++)
		snprintf(ids[i], sizeof(ids[i]), "%s", asked(i));
	for (size_t i = 0; i < 2; i++) {
		snprintf(text, sizeof(text),
			"<iq type='result' id='%s' from='ent.test' to='host.test'><query "
			"xmlns='" NS_DISCO_INFO "' node='urn:xmpp:delegation:2%surn:a'/></iq>",
			ids[i], halves[i]);
		comes(text, now_ms);
	}
	forget();
}

static void request_bounces(int64_t now_ms)
{
	char text[512];

	comes("<iq type='get' id='1' from='u@h/r' to='host.test'><q xmlns='urn:a'/></iq>", now_ms);
	snprintf(text, sizeof(text),
		"<iq type='error' id='%s' from='ent.test' to='host.test'><error type='wait'>"
		"<remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
		asked(0));
	comes(text, now_ms);
	CHECK(strstr(buf_string(&out), "<service-unavailable"));
	forget();
}

static void told_again_after_1_s_doubling(void)
{
	int64_t at_ms = 0;

	begin();
	for (int64_t wait_ms = 1000; wait_ms < 100000; wait_ms *= 2) {
		at_ms += wait_ms > 60000 ? 60000 : wait_ms;
		/* the queries themselves end after the timeout */
		while (delegate_ops.deadline(d) < at_ms) {
			forget();
			delegate_ops.tick(d, at(delegate_ops.deadline(d)));
			CHECK_EQ_INT(buf_length(&out), 0);
		}
		CHECK_EQ_INT(delegate_ops.deadline(d), at_ms);
		delegate_ops.tick(d, at(at_ms));
		CHECK(strstr(buf_string(&out), "<delegated"));
	}
	end();
}

static void begins_anew_once_it_has_answered(void)
{
	begin();
	for (int64_t at_ms = 1000; at_ms <= 7000; at_ms += at_ms + 1000) {
		forget();
		delegate_ops.tick(d, at(at_ms));
	}
	entity_answers(7100);
	request_bounces(7200);
	delegate_ops.tick(d, at(8199));
	CHECK_EQ_INT(buf_length(&out), 0);
	delegate_ops.tick(d, at(8200));
	CHECK(strstr(buf_string(&out), "<delegated"));
	end();
}

/* Both nesting queries are answered with an error. */
static void entity_refuses(int64_t now_ms)
{
	char ids[2][64], text[512];

	for (size_t i = 0; i < 2; i++)
		snprintf(ids[i], sizeof(ids[i]), "%s", asked(i));
	for (size_t i = 0; i < 2; i++) {
		snprintf(text, sizeof(text),
			"<iq type='error' id='%s' from='%s' to='host.test'><error type='cancel'>"
			"<feature-not-implemented xmlns='" NS_STANZAS "'/></error></iq>",
			ids[i], entity);
		comes(text, now_ms);
	}
	forget();
}

static void client_that_refuses_is_asked_after_60_s_doubling(void)
{
	int64_t at_ms = 0;

	entity = "c@h.test/x";
	begin();
	for (int64_t wait_ms = 60000; wait_ms < 20000000; wait_ms *= 2) {
		entity_refuses(at_ms + 10);
		at_ms += 10 + (wait_ms > 3600000 ? 3600000 : wait_ms);
		CHECK_EQ_INT(delegate_ops.deadline(d), at_ms);
		delegate_ops.tick(d, at(at_ms));
		CHECK(strstr(buf_string(&out), "<delegated"));
	}
	end();
	entity = "ent.test";
}

static void not_told_again_when_all_is_answered(void)
{
	begin();
	entity_answers(10);
	delegate_ops.tick(d, at(29000));
	CHECK_EQ_INT(buf_length(&out), 0);
	CHECK(delegate_ops.deadline(d) == DEADLINE_NEVER);
	end();
}

static void answer_that_does_not_fit(void)
{
	char text[1024];

	begin();
	entity_answers(10);
	comes("<iq type='get' id='1' from='u@h/r' to='host.test'><q xmlns='urn:a'/></iq>", 20);
	snprintf(text, sizeof(text),
		"<iq type='result' id='%s' from='ent.test' to='host.test'>"
		"<delegation xmlns='urn:xmpp:delegation:2'><forwarded xmlns='urn:xmpp:forward:0'>"
		"<iq xmlns='jabber:client' type='result' id='1' from='host.test' to='u@h/r'>"
		"<q xmlns='urn:a'>%0300d</q></iq></forwarded></delegation></iq>",
		asked(0), 0);
	out.max = buf_length(&out) + 250;
	comes(text, 30);
	CHECK(!strstr(buf_string(&out), "<iq type='result'"));
	CHECK_EQ_INT(delegate_ops.open_requests(d), 1);
	CHECK(delegate_ops.deadline(d) <= 30);
	out.max = BUF_NO_MAX; /* there is room again */
	delegate_ops.tick(d, at(31));
	CHECK(strstr(buf_string(&out), "<iq type='result' id='1' from='host.test' to='u@h/r'"));
	CHECK_EQ_INT(delegate_ops.open_requests(d), 0);
	end();
}

int main(void)
{
	TEST(told_again_after_1_s_doubling);
	TEST(begins_anew_once_it_has_answered);
	TEST(client_that_refuses_is_asked_after_60_s_doubling);
	TEST(not_told_again_when_all_is_answered);
	TEST(answer_that_does_not_fit);
	return check_done();
}
