/* Fuzz target: a model of all parties around privilege.h: a server that keeps rosters and requests
 * as Prosody does, records of users who are each other's contacts, an output that is full, a link
 * that goes and comes.
 *
 * Asserted: each record has one result; at the end each user with a record has what the newest one
 * says, subscriptions included, with no request of the user left open; and, if the link stayed,
 * nobody is shown a request of such a user any more.
 */
#include "roster/privilege.h"

#include <stdlib.h>

#include "base/deadline.h"
#include "model.h"

#define USERS 3
#define SMALLEST_QUEUE ((size_t)512)
#define OPEN 1024

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

struct item {
	bool there, asks;
	unsigned subscription; /* enum roster_subscription */
	char name;
};

struct world {
	struct model model;
	const uint8_t *at, *end;
	struct apply *apply;
	struct privilege *privilege;
	struct item rosters[USERS][USERS], wanted[USERS][USERS];
	bool pending[USERS][USERS]; /* [u][v]: u is shown a request of v */
	bool recorded[USERS], refused, link_went;
	char *answers[OPEN]; /* on their way to us, in order */
	unsigned answers_first, answers_count, given, results;
	struct apply_client client;
};

static unsigned next(struct world *w, unsigned below)
{
	return w->at < w->end ? *w->at++ % below : 0;
}

static unsigned user_of(struct span jid)
{
	REQUIRE(jid.n == 4 && jid.p[0] == 'u' && (unsigned)(jid.p[1] - '0') < USERS);
	return (unsigned)(jid.p[1] - '0');
}

static bool item_sends(const struct item *item)
{
	return item->there &&
	       (item->subscription == ROSTER_FROM || item->subscription == ROSTER_BOTH);
}

static bool item_sees(const struct item *item)
{
	return item->there &&
	       (item->subscription == ROSTER_TO || item->subscription == ROSTER_BOTH);
}

/* The server -------------------------------------------------------------- */

static void answer(struct world *w, const struct stanza *s, const struct item *roster)
{
	struct buf text;

	REQUIRE(w->answers_count < OPEN);
	buf_init(&text, BUF_NO_MAX);
	buf_printf(&text, "<iq type='result' id='%.*s' from='%.*s' to='d'>", SPAN_ARG(s->id),
		SPAN_ARG(s->to));
	if (roster) {
		buf_append_string(&text, "<query xmlns='jabber:iq:roster'>");
		for (unsigned v = 0; v < USERS; v++)
			if (roster[v].there)
				buf_printf(&text,
					"<item jid='u%u@h' name='%c' subscription='%s'%s/>", v,
					roster[v].name,
					roster_subscription_name(
						(enum roster_subscription)roster[v].subscription),
					roster[v].asks ? " ask='subscribe'" : "");
		buf_append_string(&text, "</query>");
	}
	buf_append_string(&text, "</iq>");
	w->answers[(w->answers_first + w->answers_count++) % OPEN] = xstrdup(buf_string(&text));
	buf_free(&text);
}

static void set(struct world *w, unsigned user, const struct xml_node *node)
{
	struct span subscription = xml_attribute(node, "subscription");
	struct item *item = &w->rosters[user][user_of(xml_attribute(node, "jid"))];
	enum roster_subscription value;

	if (span_is(subscription, "remove")) {
		*item = (struct item){0};
		return;
	}
	REQUIRE(roster_subscription_parse(subscription, &value));
	item->asks = item->there && item->asks && value != ROSTER_TO && value != ROSTER_BOTH;
	item->there = true;
	item->subscription = value;
	item->name = xml_attribute(node, "name").p[0];
}

/* Without this half of its subscription, ROSTER_FROM or ROSTER_TO. */
static void item_cut(struct item *item, enum roster_subscription what)
{
	item->subscription &= ~(unsigned)what;
}

static void gets_presence(struct world *w, const struct stanza *s)
{
	unsigned from = user_of(s->from), to = user_of(s->to);

	if (s->type == TYPE_UNSUBSCRIBE) {
		w->pending[to][from] = false;
		item_cut(&w->rosters[to][from], ROSTER_FROM);
	} else if (s->type == TYPE_PROBE && !item_sends(&w->rosters[to][from])) {
		/* it answers with "unsubscribed" */
		w->pending[to][from] = false;
		w->rosters[from][to].asks = false;
		item_cut(&w->rosters[from][to], ROSTER_TO);
	}
}

static void gets(void *context, const struct stanza *s)
{
	struct world *w = context;

	if (s->kind == STANZA_PRESENCE) {
		gets_presence(w, s);
		return;
	}
	REQUIRE(s->kind == STANZA_IQ);
	if (s->type == TYPE_SET)
		set(w, user_of(s->to),
			xml_child(xml_child(s->root, NS_ROSTER, "query"), NS_ROSTER, "item"));
	answer(w, s, s->type == TYPE_GET ? w->rosters[user_of(s->to)] : NULL);
}

static void answer_comes(struct world *w)
{
	char *text;

	if (!w->answers_count)
		return;
	text = w->answers[w->answers_first++ % OPEN];
	w->answers_count--;
	model_comes(&w->model, text);
	free(text);
}

/* The module -------------------------------------------------------------- */

static void on_up(void *self, struct turn *turn)
{
	struct world *w = self;

	privilege_up(w->privilege, turn);
	model_comes(&w->model,
		"<message from='h' to='d'><privilege xmlns='urn:xmpp:privilege:2'><perm "
		"access='roster' type='both'/><perm access='presence' "
		"type='managed_entity'/></privilege></message>");
}

static void on_down(void *self, struct turn *turn)
{
	struct world *w = self;

	(void)turn;
	w->link_went = true;
	for (; w->answers_count; w->answers_count--)
		free(w->answers[w->answers_first++ % OPEN]);
	privilege_down(w->privilege);
	apply_down(w->apply);
}

static void on_stanza(void *self, const struct stanza *s, struct turn *turn)
{
	privilege_stanza(((struct world *)self)->privilege, s, turn);
}

static void on_tick(void *self, struct turn *turn)
{
	apply_tick(((struct world *)self)->apply, turn);
}

static int64_t deadline(const void *self)
{
	return apply_deadline(((const struct world *)self)->apply);
}

static void on_ready(void *context, struct turn *turn)
{
	apply_up(((struct world *)context)->apply, turn);
}

static void on_refused(void *context)
{
	((struct world *)context)->refused = true;
}

static void on_result(void *context, struct apply_client *client, struct span line, bool failed)
{
	struct world *w = context;

	(void)client;
	(void)line;
	REQUIRE(!failed);
	w->results++;
}

static const struct service_ops ops = {
	.up = on_up, .down = on_down, .stanza = on_stanza, .tick = on_tick, .deadline = deadline};

/* What happens ------------------------------------------------------------ */

static void record_comes(struct world *w)
{
	unsigned user = next(w, USERS), count = 0;
	struct item *wanted = w->wanted[user];
	struct roster_record record;
	struct buf line;
	const char *why;

	if (apply_full(w->apply, &w->client))
		return;
	buf_init(&line, BUF_NO_MAX);
	buf_printf(&line, "{\"user\":\"u%u\",\"status\":\"ok\",\"roster\":{", user);
	for (unsigned v = 0; v < USERS; v++) {
		unsigned how = next(w, 8);

		wanted[v] = (struct item){0};
		if (v == user || how >= 6)
			continue;
		wanted[v] = (struct item){.there = true,
			.subscription = how < 4 ? how : ROSTER_BOTH,
			.name = (char)('a' + next(w, 2))};
		buf_printf(&line, "%s\"u%u@h\":{\"name\":\"%c\",\"subscription\":\"%s\"}",
			count++ ? "," : "", v, wanted[v].name,
			roster_subscription_name((enum roster_subscription)wanted[v].subscription));
	}
	buf_append_string(&line, "}}");
	REQUIRE(roster_record_parse(buf_span(&line), NULL, &record, &why));
	w->recorded[user] = true;
	w->given++;
	apply_record(w->apply, &record, &w->client, model_turn(&w->model));
	roster_record_free(&record);
	buf_free(&line);
}

static void step(struct world *w)
{
	switch (next(w, 10)) {
	case 0:
	case 1:
		record_comes(w);
		break;
	case 2:
		if (next(w, 8) == 0)
			model_link_turns(&w->model);
		break;
	case 3:
		model_queue_changes(&w->model, (uint8_t)next(w, 64));
		break;
	case 4:
	case 5:
		model_deliver(&w->model);
		break;
	default:
		answer_comes(w);
	}
	model_tick(&w->model);
}

/* Rosters as users and administrators may have left them, with some requests of the users. */
static void begin(struct world *w)
{
	for (unsigned u = 0; u < USERS; u++)
		for (unsigned v = 0; v < USERS; v++) {
			unsigned how = next(w, 12);
			struct item *item = &w->rosters[u][v];

			if (u != v && how < 8)
				*item = (struct item){.there = true,
					.subscription = how % 4,
					.name = (char)('a' + how / 4)};
		}
	for (unsigned u = 0; u < USERS; u++)
		for (unsigned v = 0; v < USERS; v++) {
			struct item *item = &w->rosters[u][v];

			if (u == v || next(w, 3) || item_sees(item))
				continue;
			if (!item->there)
				*item = (struct item){.there = true, .name = 'a'};
			item->asks = true;
			w->pending[v][u] = !item_sends(&w->rosters[v][u]);
		}
}

static void end(struct world *w)
{
	if (!w->model.up)
		model_link_turns(&w->model);
	for (int i = 0; i < 10000 && apply_count(w->apply); i++) {
		w->model.out.max = i > 4 ? BUF_NO_MAX : w->model.out.max;
		model_tick(&w->model);
		model_deliver(&w->model);
		answer_comes(w);
	}
	model_deliver(&w->model);
	REQUIRE(apply_count(w->apply) == 0 && w->results == w->given && !w->refused);
	for (unsigned u = 0; u < USERS; u++)
		for (unsigned v = 0; v < USERS && w->recorded[u]; v++) {
			const struct item *is = &w->rosters[u][v], *wanted = &w->wanted[u][v];

			REQUIRE(w->link_went || !w->pending[v][u]);
			REQUIRE(is->there == wanted->there);
			if (!is->there)
				continue;
			REQUIRE(is->subscription == wanted->subscription);
			REQUIRE(is->name == wanted->name && !is->asks);
		}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct world *w = xcalloc(1, sizeof(*w));
	struct apply_backend backend;

	err_verbosity(-2);
	*w = (struct world){.at = bytes,
		.end = bytes + n,
		.model = {.ops = &ops,
			.self = w,
			.smallest_queue = SMALLEST_QUEUE,
			.gets = gets,
			.context = w}};
	begin(w);
	model_begin(&w->model);
	w->apply = apply_new(&(struct apply_config){.host = SPAN("h"),
		.max_removals = -1,
		.max_removals_percent = -1,
		.timeout_ms = 1000,
		.jobs = 8,
		.waiting = 4,
		.result = on_result,
		.context = w});
	w->privilege = privilege_new(&(struct privilege_config){.domain = SPAN("d"),
		.host = SPAN("h"),
		.rosters = true,
		.on_behalf = true,
		.max_pending = 8 * PRIVILEGE_OPEN,
		.max_online = 8,
		.ready = on_ready,
		.refused = on_refused,
		.context = w,
		.random = {model_draw, &w->model}});
	backend = privilege_backend(w->privilege);
	apply_backend_set(w->apply, &backend);
	on_up(w, model_turn(&w->model));
	while (w->at < w->end)
		step(w);
	end(w);
	for (; w->answers_count; w->answers_count--)
		free(w->answers[w->answers_first++ % OPEN]);
	privilege_free(w->privilege);
	apply_free(w->apply);
	model_free(&w->model);
	free(w);
	return 0;
}
