/*
 * Fuzz target: a model of all parties around xmpp-manage: users, a host, a stranger, a handler that
 * answers, errs, forges, repeats and dies, time, a link that goes and comes, a queue that is full.
 *
 * Asserted: each request gets exactly one answer, in an outer result to the host that sent it, its
 * inner iq from the address that was asked, to the requester, with the id of the request; what
 * is open stays within the bound; at the end nothing is open.
 */
#include "delegation/manage.h"
#include "delegation/delegation.h"
#include "xmpp/jid.h"
#include <stdio.h>
#include <stdlib.h>

#include "model.h"

#define PENDING 12
/* No stanza of ours is larger. A smaller queue could never take one. */
#define SMALLEST_QUEUE ((size_t)1024)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

struct world {
	struct model model;
	struct manage *m;
	char held[PENDING * 2][64]; /* ids at the handler */
	unsigned held_count;
	char last[64]; /* the id answered last */
	bool refuses;  /* the handler takes nothing */
};

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

/* Check a stanza that the server gets. */
static void gets(void *context, const struct stanza *s)
{
	struct world *w = context;
	struct stanza inner;
	unsigned number;
	char user[64];
	int version;

	if (s->kind != STANZA_IQ || s->type != TYPE_RESULT)
		return; /* to a stranger; or a request of the handler's own */
	REQUIRE(sscanf(s->id.p, "o%u", &number) == 1 && number < w->model.asked);
	REQUIRE(span_is(s->to, "h.test") && span_is(s->from, "d.test"));
	REQUIRE(!delegation_unwrap(s, &inner, &version));
	snprintf(user, sizeof(user), "u%u@h.test/r", number % 5);
	REQUIRE(span_is(inner.to, user) && span_is(inner.from, "h.test"));
	REQUIRE(stanza_is_answer(&inner));
	REQUIRE(++w->model.answers[number] == 1);
}

static void asks(struct world *w)
{
	char text[1024];

	if (!w->model.up || w->model.asked == MODEL_REQUESTS)
		return;
	snprintf(text, sizeof(text),
		"<iq type='set' id='o%u' from='h.test' to='d.test'><delegation "
		"xmlns='urn:xmpp:delegation:%u'><forwarded xmlns='urn:xmpp:forward:0'><iq "
		"xmlns='jabber:client' type='%s' id='i%u' from='u%u@h.test/r' to='h.test'><q "
		"xmlns='urn:%s'/></iq></forwarded></delegation></iq>",
		w->model.asked, w->model.asked % 2 + 1, w->model.asked % 3 ? "get" : "set",
		w->model.asked, w->model.asked % 5, w->model.asked % 11 ? "a" : "other");
	w->model.asked++;
	model_comes(&w->model, text);
}

static void handler_says(struct world *w, const char *id, const char *rest)
{
	char text[256];

	snprintf(text, sizeof(text), "<iq id='%s' %s", id, rest);
	snprintf(w->last, sizeof(w->last), "%s", id);
	model_handler_says(&w->model, &manage_helper_ops, text);
}

/* The handler answers a request that it has: rightly, wrongly, or with an error. */
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

static void dies(struct world *w)
{
	w->held_count = 0;
	manage_helper_ops.died(w->m, model_turn(&w->model));
}

static void step(struct world *w, uint8_t what, uint8_t how)
{
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
		w->model.now_ms += how * 40;
		break;
	case 6:
		handler_says(w, how % 2 ? w->last : "x", "type='result'/>");
		break;
	case 7:
		model_link_turns(&w->model);
		break;
	case 8:
		dies(w);
		break;
	case 9:
		model_queue_changes(&w->model, how);
		break;
	case 10:
		if (how % 4 == 0 && w->held_count) {
			char id[64];

			snprintf(id, sizeof(id), "%s", w->held[0]);
			over(w, span_of(id));
			manage_helper_ops.bad(w->m, span_of(id), model_turn(&w->model));
		} else {
			w->refuses = how % 4 == 1;
		}
		break;
	case 11:
		model_deliver(&w->model);
		break;
	}
	model_tick(&w->model);
	REQUIRE(manage_ops.open_requests(w->m) <= PENDING * 2 + w->model.asked);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const struct span hosts[] = {{"h.test", 6}};
	struct manage_namespace ns = {.ns = SPAN("urn:a")};
	struct world *w = xcalloc(1, sizeof(*w));

	disco_init(&ns.host);
	disco_init(&ns.bare);
	w->model = (struct model){
		.ops = &manage_ops, .smallest_queue = SMALLEST_QUEUE, .gets = gets, .context = w};
	model_begin(&w->model);
	w->model.self = w->m = manage_new(&(struct manage_config){.domain = SPAN("d.test"),
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
		.random = {model_draw, &w->model}});
	manage_ops.up(w->m, model_turn(&w->model));
	for (size_t i = 0; i + 1 < n; i += 2)
		step(w, bytes[i], bytes[i + 1]);
	model_end(&w->model);
	manage_free(w->m);
	model_free(&w->model);
	disco_free(&ns.host);
	disco_free(&ns.bare);
	free(w);
	return 0;
}
