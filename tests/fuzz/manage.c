/*
 * Fuzz target: a model of all parties around xmpp-manage: users, a host, a stranger, a handler that
 * answers, errs, forges, repeats and dies, time, a link that goes and comes, a queue that is full.
 *
 * Asserted: each request gets exactly one answer, in an outer result to the host that sent it, its
 * inner iq from the address that was asked, to the one who asked, with the id of the request; what
 * is open stays within the bound; at the end nothing is open.
 */
#include "delegation/manage.h"
#include "delegation/delegation.h"
#include "xmpp/jid.h"
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "require.h"

#define MAX_REQUESTS 4096
#define PENDING 12
/* No stanza of ours is larger: less would be a queue that can hold none. */
#define SMALLEST_QUEUE ((size_t)1024)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

struct world {
	struct manage *m;
	struct writer writer;
	struct buf out;
	struct reader *reader; /* what comes to xmpp-manage */
	bool up;
	int64_t now_ms;
	unsigned asked; /* requests sent so far: o0, o1, ... */
	uint8_t answers[MAX_REQUESTS];
	char held[PENDING * 2][64]; /* ids at the handler */
	unsigned held_count;
	char last[64]; /* the id answered last */
	bool refuses;  /* the handler takes nothing */
	uint64_t chance;
};

static uint64_t draw(void *context)
{
	struct world *w = context;

	return w->chance += 0x9e3779b97f4a7c15;
}

static bool hand(void *helper, const struct helper_request *request)
{
	struct world *w = helper;

	if (w->refuses || w->held_count == PENDING * 2)
		return false;
	REQUIRE(request->id.n < 64);
	snprintf(w->held[w->held_count++], 64, "%.*s", SPAN_ARG(request->id));
	return true;
}

static void over(void *helper, struct span id)
{
	struct world *w = helper;

	for (unsigned i = 0; i < w->held_count; i++)
		if (span_is(id, w->held[i])) {
			memmove(w->held[i], w->held[w->held_count - 1], 64);
			w->held_count--;
			return;
		}
}

static bool tell(void *helper, const struct stanza *s, struct span id)
{
	(void)helper;
	(void)s;
	(void)id;
	return true;
}

static struct turn turn_of(struct world *w)
{
	return (struct turn){.writer = w->up ? &w->writer : NULL, .now_ms = w->now_ms};
}

/* All that has left is looked at, and the queue is empty. */
static void deliver(struct world *w)
{
	struct reader_config config = {.kind = READER_PIPE};
	struct reader *r = reader_new(&config);
	struct stanza s, inner;
	char user[64];
	int version;

	reader_feed(r, buf_string(&w->out), buf_length(&w->out));
	while (reader_next(r, &s) == READER_STANZA) {
		unsigned number;

		if (s.kind != STANZA_IQ || s.type != TYPE_RESULT)
			continue; /* to a stranger; or a request of the handler's own */
		REQUIRE(sscanf(s.id.p, "o%u", &number) == 1 && number < w->asked);
		REQUIRE(span_is(s.to, "h.test") && span_is(s.from, "d.test"));
		REQUIRE(!delegation_unwrap(&s, &inner, &version));
		snprintf(user, sizeof(user), "u%u@h.test/r", number % 5);
		REQUIRE(span_is(inner.to, user) && span_is(inner.from, "h.test"));
		REQUIRE(stanza_is_answer(&inner));
		REQUIRE(++w->answers[number] == 1);
	}
	reader_free(r);
	buf_reset(&w->out);
}

static void comes(struct world *w, const char *text)
{
	struct turn turn = turn_of(w);
	struct stanza s;

	if (!w->up)
		return;
	REQUIRE(reader_one(w->reader, span_of(text), &s));
	manage_ops.stanza(w->m, &s, &turn);
}

static void asks(struct world *w)
{
	char text[1024];

	if (!w->up || w->asked == MAX_REQUESTS)
		return;
	snprintf(text, sizeof(text),
		"<iq type='set' id='o%u' from='h.test' to='d.test'><delegation "
		"xmlns='urn:xmpp:delegation:%u'><forwarded xmlns='urn:xmpp:forward:0'><iq "
		"xmlns='jabber:client' type='%s' id='i%u' from='u%u@h.test/r' to='h.test'><q "
		"xmlns='urn:%s'/></iq></forwarded></delegation></iq>",
		w->asked, w->asked % 2 + 1, w->asked % 3 ? "get" : "set", w->asked, w->asked % 5,
		w->asked % 11 ? "a" : "other");
	w->asked++;
	comes(w, text);
}

static void handler_says(struct world *w, const char *id, const char *rest)
{
	struct turn turn = turn_of(w);
	char text[256];
	struct stanza s;

	snprintf(text, sizeof(text), "<iq id='%s' %s", id, rest);
	snprintf(w->last, sizeof(w->last), "%s", id);
	REQUIRE(reader_one(w->reader, span_of(text), &s));
	manage_helper_ops.stanza(w->m, &s, &turn);
}

/* The handler answers one of those it has: right, wrong, as an error. */
static void answers(struct world *w, unsigned which, unsigned how)
{
	static const char *const rest[] = {"type='result'/>",
		"type='result'><q xmlns='urn:a'/></iq>", "type='error'><error/></iq>",
		"type='result' to='evil@h.test/x'/>", "type='result' from='evil@h.test'/>",
		"type='result'><a/><b/></iq>", "type='error'/>"};
	char id[64];

	if (!w->held_count)
		return;
	snprintf(id, sizeof(id), "%s", w->held[which % w->held_count]);
	over(w, span_of(id));
	handler_says(w, id, rest[how % (sizeof(rest) / sizeof(rest[0]))]);
}

static void link_turns(struct world *w)
{
	struct turn turn;

	deliver(w);
	w->up = !w->up;
	turn = turn_of(w);
	if (w->up)
		manage_ops.up(w->m, &turn);
	else
		manage_ops.down(w->m, &turn);
}

static void dies(struct world *w)
{
	struct turn turn = turn_of(w);

	w->held_count = 0;
	manage_helper_ops.died(w->m, &turn);
}

static void tick(struct world *w)
{
	struct turn turn = turn_of(w);

	if (w->up && manage_ops.deadline(w->m) <= w->now_ms)
		manage_ops.tick(w->m, &turn);
}

static void step(struct world *w, uint8_t what, uint8_t how)
{
	struct turn turn = turn_of(w);

	switch (what % 12) {
	case 0:
	case 1:
	case 2:
		asks(w);
		break;
	case 3:
	case 4:
		answers(w, how, how / 16);
		break;
	case 5:
		w->now_ms += how * 40;
		break;
	case 6:
		handler_says(w, how % 2 ? w->last : "x", "type='result'/>");
		break;
	case 7:
		link_turns(w);
		break;
	case 8:
		dies(w);
		break;
	case 9:
		w->out.max = how % 2 ? SMALLEST_QUEUE + (size_t)how * 4 : BUF_NO_MAX;
		break;
	case 10:
		if (how % 4 == 0 && w->held_count) {
			char id[64];

			snprintf(id, sizeof(id), "%s", w->held[0]);
			over(w, span_of(id));
			manage_helper_ops.bad(w->m, span_of(id), &turn);
		} else {
			w->refuses = how % 4 == 1;
		}
		break;
	case 11:
		deliver(w);
		break;
	}
	tick(w);
	REQUIRE(manage_ops.open_requests(w->m) <= PENDING * 2 + w->asked);
}

static void end(struct world *w)
{
	struct turn turn;

	if (!w->up)
		link_turns(w);
	for (int i = 0; i < 100000 && manage_ops.open_requests(w->m); i++) {
		w->out.max = i > 2 ? BUF_NO_MAX : SMALLEST_QUEUE;
		turn = turn_of(w);
		manage_ops.finish(w->m, &turn);
		manage_ops.tick(w->m, &turn);
		deliver(w);
	}
	turn = turn_of(w);
	w->out.max = BUF_NO_MAX;
	manage_ops.tick(w->m, &turn); /* refusals that did not fit */
	deliver(w);
	REQUIRE(manage_ops.open_requests(w->m) == 0);
	for (unsigned i = 0; i < w->asked; i++)
		REQUIRE(w->answers[i] == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const struct span hosts[] = {{"h.test", 6}};
	struct reader_config config = {.kind = READER_PIPE};
	struct manage_namespace ns = {.ns = SPAN("urn:a")};
	struct world *w = xcalloc(1, sizeof(*w));
	struct turn turn;

	disco_init(&ns.host);
	disco_init(&ns.bare);
	buf_init(&w->out, BUF_NO_MAX);
	writer_init(&w->writer, &w->out, WRITER_PIPE, 0);
	w->reader = reader_new(&config);
	w->m = manage_new(&(struct manage_config){.domain = SPAN("d.test"),
		.hosts = hosts,
		.hosts_count = 1,
		.namespaces = &ns,
		.namespaces_count = 1,
		.timeout_ms = 1000,
		.pending.max = PENDING,
		.pending.max_bytes = 1 << 20,
		.pending.user_max = 4,
		.stays = true,
		.passthrough = true,
		.hand = hand,
		.over = over,
		.tell = tell,
		.helper = w,
		.random = {draw, w}});
	w->up = true;
	turn = turn_of(w);
	manage_ops.up(w->m, &turn);
	for (size_t i = 0; i + 1 < n; i += 2)
		step(w, bytes[i], bytes[i + 1]);
	end(w);
	manage_free(w->m);
	reader_free(w->reader);
	buf_free(&w->out);
	disco_free(&ns.host);
	disco_free(&ns.bare);
	free(w);
	return 0;
}
