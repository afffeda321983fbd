/*
 * Fuzz target: a model of all parties around xmpp-delegate: users, a managing component, an account
 * with two clients, OTHERWISE, strangers, time, a link that goes and comes, a queue that is full,
 * rules that change.
 *
 * Asserted: each request gets exactly one answer, from the address that was asked, to the
 * requester, with its id; a result is that of a party that was asked; at the end nothing is open.
 */
#include <stdio.h>
#include <stdlib.h>

#include "delegation/delegate.h"
#include "delegation/delegation.h"
#include "model.h"
#include "xmpp/jid.h"

#define PENDING 12
#define MAX_HELD 64
/* No stanza of ours is larger. A smaller queue could never take one. */
#define SMALLEST_QUEUE ((size_t)2048)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* A request in somebody's hands, or a nesting query (number MODEL_REQUESTS). */
struct held {
	char id[64], at[64], node[128];
	unsigned number;
};

struct world {
	struct model model;
	struct delegate *d;
	bool there[2], swapped;
	struct held held[MAX_HELD];
	unsigned held_count;
};

static void hold(struct world *w, struct span id, struct span at, struct span node, unsigned number)
{
	struct held *h;

	if (w->held_count == MAX_HELD)
		return;
	h = &w->held[w->held_count++];
	REQUIRE(id.n < 64 && at.n < 64 && node.n < 128);
	snprintf(h->id, sizeof(h->id), "%.*s", SPAN_ARG(id));
	snprintf(h->at, sizeof(h->at), "%.*s", SPAN_ARG(at));
	snprintf(h->node, sizeof(h->node), "%.*s", SPAN_ARG(node));
	h->number = number;
}

static unsigned number_of(struct span id)
{
	unsigned number = MODEL_REQUESTS;

	REQUIRE(sscanf(id.p, "i%u", &number) == 1);
	return number;
}

static bool hand(void *helper, const struct helper_request *request)
{
	struct world *w = helper;

	if (w->held_count == MAX_HELD)
		return false;
	hold(w, request->id, SPAN("otherwise"), SPAN(""), number_of(request->stanza->id));
	return true;
}

static void over(void *helper, struct span id)
{
	struct world *w = helper;

	for (unsigned i = 0; i < w->held_count; i++)
		if (span_is(id, w->held[i].id)) {
			w->held[i] = w->held[--w->held_count];
			return;
		}
}

static void user_gets(struct world *w, const struct stanza *s)
{
	unsigned number = number_of(s->id);
	char user[64], wanted[64];

	REQUIRE(number < w->model.asked && stanza_is_answer(s));
	snprintf(user, sizeof(user), "u%u@far.test/r", number % 5);
	REQUIRE(span_is(s->to, user) && span_is(s->from, "host.test"));
	REQUIRE(++w->model.answers[number] == 1);
	if (s->type != TYPE_RESULT)
		return;
	snprintf(wanted, sizeof(wanted), "%u", number);
	REQUIRE(s->root->first_child);
	REQUIRE(span_is(xml_attribute(s->root->first_child, "n"), wanted));
}

static void entity_gets(struct world *w, const struct stanza *s)
{
	const struct xml_node *payload = s->root->first_child;
	struct stanza inner;
	int version;

	if (s->kind != STANZA_IQ || !payload)
		return;
	if (xml_is(payload, NS_DISCO_INFO, "query")) {
		hold(w, s->id, s->to, xml_attribute(payload, "node"), MODEL_REQUESTS);
	} else if (!delegation_unwrap(s, &inner, &version)) {
		hold(w, s->id, s->to, SPAN(""), number_of(inner.id));
	}
}

static void gets(void *context, const struct stanza *s)
{
	if (span_is(jid_domain(s->to), "far.test"))
		user_gets(context, s);
	else
		entity_gets(context, s);
}

static void asks(struct world *w, unsigned how)
{
	static const char *const namespaces[] = {"urn:a", "urn:b", "urn:c"};
	char text[256];

	if (!w->model.up || w->model.asked == MODEL_REQUESTS)
		return;
	snprintf(text, sizeof(text),
		"<iq type='%s' id='i%u' from='u%u@far.test/r' to='host.test'><q xmlns='%s'/></iq>",
		how % 2 ? "get" : "set", w->model.asked, w->model.asked % 5, namespaces[how % 3]);
	w->model.asked++;
	model_comes(&w->model, text);
}

/* The holder of a request, or a stranger, answers it, right or wrong. */
static void answers(struct world *w, unsigned which, unsigned how)
{
	struct held h;
	char text[1024], inner[256];
	bool forged = how % 8 == 7;

	if (!w->held_count)
		return;
	h = w->held[which % w->held_count];
	if (how % 4)
		over(w, span_of(h.id)); /* otherwise it may answer again */
	snprintf(inner, sizeof(inner), "type='%s' id='i%u' from='host.test' to='u%u@far.test/r'%s",
		how % 8 == 1 ? "error" : "result", h.number, h.number % 5,
		how % 8 == 2 ? " bad=''><a/><b/></iq>" : "");
	if (strcmp(h.at, "otherwise") == 0) {
		snprintf(text, sizeof(text),
			"<iq type='result' id='%s'><q xmlns='urn:c' n='%u'/></iq>",
			forged ? "forged" : h.id, h.number);
		model_handler_says(&w->model, &delegate_helper_ops, text);
		return;
	}
	if (how % 8 == 3)
		snprintf(text, sizeof(text),
			"<iq type='error' id='%s' from='%s' to='host.test'><error type='cancel'>"
			"<%s xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
			h.id, h.at, how % 16 > 8 ? "forbidden" : "recipient-unavailable");
	else if (h.number == MODEL_REQUESTS)
		snprintf(text, sizeof(text),
			"<iq type='result' id='%s' from='%s' to='host.test'><query "
			"xmlns='http://jabber.org/protocol/disco#info' node='%s'><feature "
			"var='f'/></query></iq>",
			h.id, forged ? "evil.test" : h.at, h.node);
	else
		snprintf(text, sizeof(text),
			"<iq type='result' id='%s' from='%s' to='host.test'><delegation "
			"xmlns='urn:xmpp:delegation:2'><forwarded xmlns='urn:xmpp:forward:0'>"
			"<iq xmlns='jabber:client' %s%s</forwarded></delegation></iq>",
			h.id, forged ? "evil.test" : h.at, inner,
			how % 8 == 2 ? ""
			: how % 8 == 1
				? "><error type='cancel'><conflict "
				  "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
				: "><q xmlns='urn:a' n='0'/></iq>");
	if (h.number != MODEL_REQUESTS) {
		char *zero = strstr(text, "n='0'"), rest[256];

		if (zero) {
			snprintf(rest, sizeof(rest), "%s", zero + 5);
			snprintf(zero, sizeof(text) - (size_t)(zero - text), "n='%u'%s",
				forged ? 9999 : h.number, rest);
		}
	}
	model_comes(&w->model, text);
}

static void presence(struct world *w, unsigned how)
{
	char text[256];

	if (!w->model.up)
		return;
	w->there[how % 2] = !w->there[how % 2];
	snprintf(text, sizeof(text), "<presence from='c@h.test/%c' to='host.test'%s/>",
		'a' + (int)(how % 2), w->there[how % 2] ? "" : " type='unavailable'");
	model_comes(&w->model, text);
}

static void rules(struct world *w)
{
	const struct delegate_rule both[] = {
		{.ns = SPAN("urn:a"), .entity = SPAN("ent.test")},
		{.ns = SPAN("urn:b"), .entity = SPAN("c@h.test")},
		{.ns = SPAN("urn:a"), .entity = SPAN("ent.test")},
	};

	delegate_rules(w->d, both + w->swapped, 2, model_turn(&w->model));
}

static void link_turns(struct world *w)
{
	model_link_turns(&w->model);
	w->there[0] = w->there[1] = false;
}

static void dies(struct world *w)
{
	for (unsigned i = w->held_count; i-- > 0;)
		if (strcmp(w->held[i].at, "otherwise") == 0)
			w->held[i] = w->held[--w->held_count];
	delegate_helper_ops.died(w->d, model_turn(&w->model));
}

static void step(struct world *w, uint8_t what, uint8_t how)
{
	switch (what % 14) {
	case 0:
	case 1:
	case 2:
		asks(w, how);
		break;
	case 3:
	case 4:
	case 5:
		answers(w, how, how / 8);
		break;
	case 6:
		w->model.now_ms += how * 20;
		break;
	case 7:
		link_turns(w);
		break;
	case 8:
		dies(w);
		break;
	case 9:
		model_queue_changes(&w->model, how);
		break;
	case 10:
	case 11:
		presence(w, how);
		break;
	case 12:
		w->swapped = !w->swapped;
		rules(w);
		break;
	case 13:
		break;
	}
	model_tick(&w->model);
	model_deliver(&w->model);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct world *w = xcalloc(1, sizeof(*w));
	struct disco_info own;

	disco_init(&own);
	w->model = (struct model){
		.ops = &delegate_ops, .smallest_queue = SMALLEST_QUEUE, .gets = gets, .context = w};
	model_begin(&w->model);
	w->model.self = w->d = delegate_new(&(struct delegate_config){.domain = SPAN("host.test"),
		.version = 2,
		.own = &own,
		.timeout_ms = 3000,
		.try_timeout_ms = 1000,
		.pending.max = PENDING,
		.pending.max_bytes = 1 << 20,
		.pending.user_max = 4,
		.hand = hand,
		.over = over,
		.helper = w,
		.random = {model_draw, &w->model}});
	rules(w);
	delegate_ops.up(w->d, model_turn(&w->model));
	for (size_t i = 0; i + 1 < n; i += 2)
		step(w, bytes[i], bytes[i + 1]);
	model_end(&w->model);
	delegate_free(w->d);
	model_free(&w->model);
	disco_free(&own);
	free(w);
	return 0;
}
