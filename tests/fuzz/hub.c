/* A model of xmpp-share: the server, users, and instances that come, answer rightly, wrongly, twice
 * or not at all, and go. Each byte is one thing that happens. Whatever happens, each request has
 * exactly one answer, to the user that asked, from the address asked, and no result but of an
 * instance that was handed that request; an instance's own request has one answer at most, at that
 * instance; memory stays within the bounds; at the end nothing is open. */
#include <limits.h>

#include "base/err.h"
#include "require.h"
#include "share/hub.h"
#include "xmpp/reader.h"

#define INSTANCES 4
#define REQUESTS 4096
#define MAX_PENDING 64
#define SERVER_MAX_BYTES 4096
#define INSTANCE_MAX_BYTES 2048

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

struct instance {
	struct hub_member *member;
	struct buf out;
	struct writer writer;
	unsigned serial; /* of this connection */
};

/* The model's record of request k, which has the id "q<k>". */
struct asked {
	unsigned answers;
	bool set;
	uint64_t handed; /* bit i: the connection with this serial (below 64) has been given it */
};

struct model {
	struct hub *hub;
	struct instance instances[INSTANCES];
	unsigned serials;
	struct buf out; /* to the server */
	struct writer writer;
	struct reader *reader;
	bool link_up;
	int64_t now_ms;
	uint64_t random;
	struct asked asked[REQUESTS];
	unsigned requests, own, own_answers;
	char last_own_id[80];
};

static uint64_t next_random(void *context)
{
	struct model *m = context;

	m->random = m->random * 6364136223846793005u + 1442695040888963407u;
	return m->random >> 16;
}

static bool congested(void *context, void *port)
{
	const struct instance *i = port;

	(void)context;
	return buf_length(&i->out) > INSTANCE_MAX_BYTES / 2;
}

static struct turn turn_of(struct model *m)
{
	return (struct turn){m->link_up ? &m->writer : NULL, m->now_ms};
}

/* Read a stanza of ours and give it to the hub as one of the server or of an instance. */
static void feed(struct model *m, const char *text, struct instance *from)
{
	struct reader *reader = reader_new(&(struct reader_config){.kind = READER_PIPE});
	struct stanza s;
	struct turn turn = turn_of(m);

	REQUIRE(reader_one(reader, span_of(text), &s));
	if (from)
		REQUIRE(hub_stanza_of(m->hub, from->member, &s, &turn) == HUB_TAKEN);
	else if (m->link_up)
		hub_ops.stanza(m->hub, &s, &turn);
	reader_free(reader);
}

/* The number behind a letter, as in "q12". */
static unsigned number(struct span s, char letter)
{
	char text[16];

	REQUIRE(s.n > 1 && s.n < sizeof(text) && s.p[0] == letter);
	memcpy(text, s.p + 1, s.n - 1);
	text[s.n - 1] = '\0';
	return (unsigned)strtoul(text, NULL, 10);
}

/* Check what the server is sent: answers to the users, requests of the instances. */
static void on_server(struct model *m, const struct stanza *s)
{
	const struct xml_node *by = stanza_payload(s);
	unsigned k;

	REQUIRE(s->kind == STANZA_IQ);
	if (stanza_is_request(s)) {
		REQUIRE(s->id.n == 32 && span_is(s->to, "friend@users.test/x"));
		memcpy(m->last_own_id, s->id.p, s->id.n);
		m->last_own_id[s->id.n] = '\0';
		return;
	}
	k = number(s->id, 'q');
	REQUIRE(k < m->requests);
	REQUIRE(m->asked[k].answers++ == 0);
	REQUIRE(span_is(s->to, k % 2 ? "one@users.test/a" : "two@users.test/b"));
	REQUIRE(span_is(s->from, k % 3 ? "d.test" : "room@d.test/n"));
	if (s->type == TYPE_RESULT) {
		REQUIRE(by && number(xml_attribute(by, "k"), 'q') == k);
		REQUIRE(m->asked[k].handed >> (number(xml_attribute(by, "n"), 'n') & 63) & 1);
	}
}

static void server_reads(struct model *m)
{
	struct stanza s;
	enum reader_event event;

	reader_reset(m->reader);
	reader_feed(m->reader, buf_span(&m->out).p, buf_length(&m->out));
	buf_reset(&m->out);
	while ((event = reader_next(m->reader, &s)) != READER_MORE) {
		REQUIRE(event == READER_STANZA);
		on_server(m, &s);
	}
}

/* An instance reads what it was sent; how: 0 answers nothing, 1 rightly, 2 twice, 3 with an error,
 * 4 to another id, 5 from another address. */
static void instance_reads(struct model *m, struct instance *i, unsigned how)
{
	struct reader *reader = reader_new(&(struct reader_config){.kind = READER_PIPE});
	struct stanza s;
	char text[512];

	reader_feed(reader, buf_span(&i->out).p, buf_length(&i->out));
	buf_reset(&i->out);
	while (reader_next(reader, &s) != READER_MORE) {
		struct span id = s.id;
		unsigned k;

		if (s.kind != STANZA_IQ)
			continue;
		if (stanza_is_answer(&s)) {
			REQUIRE(id.n && id.p[0] == 'o');
			REQUIRE(number(id, 'o') < m->own && ++m->own_answers <= m->own);
			continue;
		}
		if (span_is(s.to, "d.test") && span_starts(s.from, SPAN("d.test/")))
			continue; /* a ping that checks its health is not answered */
		k = number(id, 'q');
		REQUIRE(k < m->requests);
		REQUIRE(!(m->asked[k].handed >> (i->serial & 63) & 1));
		m->asked[k].handed |= UINT64_C(1) << (i->serial & 63);
		if (how == 0)
			continue;
		snprintf(text, sizeof(text),
			"<iq type='%s' id='q%u' to='%.*s' from='%.*s'><by xmlns='urn:x' k='q%u' "
			"n='n%u'/></iq>",
			how == 3 ? "error" : "result", how == 4 ? k + 1 : k, SPAN_ARG(s.from),
			SPAN_ARG(how == 5 ? SPAN("x@d.test") : s.to), k, i->serial);
		for (unsigned times = how == 2 ? 2 : 1; times--;)
			feed(m, text, i);
	}
	reader_free(reader);
}

static void user_asks(struct model *m, bool set)
{
	char text[256];
	unsigned k = m->requests;

	if (!m->link_up || k == REQUESTS || buf_length(&m->out) > SERVER_MAX_BYTES / 2)
		return;
	m->asked[k].set = set;
	m->requests++;
	snprintf(text, sizeof(text),
		"<iq type='%s' id='q%u' from='%s' to='%s'><q xmlns='urn:x'/></iq>",
		set ? "set" : "get", k, k % 2 ? "one@users.test/a" : "two@users.test/b",
		k % 3 ? "d.test" : "room@d.test/n");
	feed(m, text, NULL);
}

static void comes_or_goes(struct model *m, struct instance *i)
{
	struct turn turn = turn_of(m);

	if (i->member) {
		hub_part(m->hub, i->member, &turn);
		i->member = NULL;
		buf_free(&i->out);
	} else if (m->serials < 64) {
		buf_init(&i->out, INSTANCE_MAX_BYTES);
		writer_init(&i->writer, &i->out, WRITER_PIPE, 0);
		i->serial = m->serials++;
		i->member = hub_join(m->hub, &i->writer, i, &turn);
	}
}

static void instance_asks(struct model *m, struct instance *i)
{
	char text[256];

	snprintf(text, sizeof(text),
		"<iq type='get' id='o%u' from='d.test' to='friend@users.test/x'><q "
		"xmlns='urn:x'/></iq>",
		m->own++);
	feed(m, text, i);
}

/* The server answers the last request of an instance's, rightly or from a stranger. */
static void server_answers(struct model *m, bool rightly)
{
	char text[256];

	snprintf(text, sizeof(text), "<iq type='result' id='%s' to='d.test' from='%s'/>",
		m->last_own_id, rightly ? "friend@users.test/x" : "mallory@users.test/x");
	if (*m->last_own_id)
		feed(m, text, NULL);
}

static void tick(struct model *m)
{
	struct turn turn = turn_of(m);

	if (m->link_up && hub_ops.deadline(m->hub) <= m->now_ms)
		hub_ops.tick(m->hub, &turn);
}

static void step(struct model *m, uint8_t byte)
{
	struct instance *i = &m->instances[byte >> 3 & 3];

	switch (byte & 7) {
	case 0:
	case 1:
		user_asks(m, byte & 1);
		break;
	case 2:
		comes_or_goes(m, i);
		break;
	case 3:
		if (i->member)
			instance_reads(m, i, (byte >> 5) % 6);
		break;
	case 4:
		m->now_ms += byte >> 3 ? (int64_t)(byte >> 3) * 400 : 1;
		break;
	case 5:
		server_reads(m);
		break;
	case 6:
		if (i->member && !(byte >> 7))
			instance_asks(m, i);
		else
			server_answers(m, byte >> 6 & 1);
		break;
	case 7:
		m->link_up = byte >> 5 != 0;
		break;
	}
	for (int at = 0; at < INSTANCES; at++) {
		i = &m->instances[at];
		if (i->member && hub_is_stuck(i->member))
			comes_or_goes(m, i);
	}
	tick(m);
	REQUIRE(hub_ops.open_requests(m->hub) <= 2 * MAX_PENDING + 16);
}

/* The server reads until nothing is owed any more. */
static void finish(struct model *m)
{
	struct turn turn;

	m->link_up = true;
	turn = turn_of(m);
	hub_ops.finish(m->hub, &turn);
	while (hub_ops.open_requests(m->hub) > 0) {
		size_t before = hub_ops.open_requests(m->hub);

		server_reads(m);
		hub_ops.tick(m->hub, &turn);
		REQUIRE(hub_ops.open_requests(m->hub) < before);
	}
	server_reads(m);
	for (unsigned k = 0; k < m->requests; k++)
		REQUIRE(m->asked[k].answers == 1);
	for (int at = 0; at < INSTANCES; at++)
		if (m->instances[at].member)
			comes_or_goes(m, &m->instances[at]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct model *m = calloc(1, sizeof(*m));

	if (n < 1 || !m) {
		free(m);
		return 0;
	}
	err_verbosity(-8); /* each instance that shows no life is logged */
	m->link_up = true;
	m->now_ms = 1000;
	m->random = bytes[0];
	buf_init(&m->out, SERVER_MAX_BYTES);
	writer_init(&m->writer, &m->out, WRITER_PIPE, 0);
	m->reader = reader_new(&(struct reader_config){.kind = READER_PIPE});
	m->hub = hub_new(&(struct hub_config){.domain = SPAN("d.test"),
		.policy = (enum balance_policy)(bytes[0] & 3),
		.sticky_by = (enum hub_key)(bytes[0] >> 2 & 1),
		.timeout_ms = 10000,
		.try_timeout_ms = bytes[0] >> 3 & 1 ? 2000 : 0,
		.pending.max = MAX_PENDING,
		.pending.max_bytes = 1 << 20,
		.max_addresses = 16,
		.pending.user_max = 48,
		.congested = congested,
		.random = {next_random, m}});
	for (size_t i = 1; i < n; i++)
		step(m, bytes[i]);
	finish(m);
	hub_free(m->hub);
	reader_free(m->reader);
	buf_free(&m->out);
	free(m);
	return 0;
}
