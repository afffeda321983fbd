#include "jat/dispatch.h"

#include "base/deadline.h"
#include "xmpp/jid.h"
#include "xmpp/steps.h"

/* How many open requests of one user with one id are searched to find a session that has none of
 * them.
 */
#define MAX_EQUAL 32

/* Sessions --------------------------------------------------------------- */

bool dispatch_is_target(const struct dispatch *d, struct span jid)
{
	return session_target(d->sessions, jid) >= 0;
}

bool dispatch_has_session(const struct dispatch *d)
{
	return balance_count(d->balance, TIER_THERE) > 0;
}

static bool in_rotation(const struct dispatch_options *o, const struct session *s)
{
	return s->priority >= o->min_priority && !(s->show == SHOW_XA && o->drain_xa) &&
	       !(s->show == SHOW_DND && o->drain_dnd) && !(s->show == SHOW_AWAY && o->drain_away);
}

static void session_arrived(void *context, struct session *s, struct turn *turn)
{
	struct dispatch *d = context;
	struct worker *w = worker_add(d->balance, s->jid, s->target, turn->now_ms);

	s->owner = w;
	w->owner = s;
}

static void session_left(void *context, struct session *s, bool link_down, struct turn *turn)
{
	struct dispatch *d = context;
	struct worker *w = s->owner;

	if (!link_down)
		requests_worker_left(d->requests, w, turn->now_ms);
	s->owner = NULL;
	worker_leave(d->balance, w, link_down ? WORKER_LOST : WORKER_LEFT);
	if (d->best == s)
		d->best = NULL;
}

static void session_alive(void *context, struct session *s, struct turn *turn)
{
	struct dispatch *d = context;

	worker_alive(d->balance, s->owner, turn->now_ms);
}

/* The one that is shown: of the highest priority the one that came first. The one that is shown
 * already stays while no other has a higher one. */
static const struct session *best_session(const struct dispatch *d)
{
	const struct session *best = d->best;

	for (size_t i = 0; i < session_count(d->sessions); i++) {
		const struct session *s = session_at(d->sessions, i);

		if (!best || s->priority > best->priority)
			best = s;
	}
	return best;
}

static void sessions_changed(void *context, struct turn *turn)
{
	struct dispatch *d = context;

	for (size_t i = 0; i < session_count(d->sessions); i++) {
		const struct session *s = session_at(d->sessions, i);

		worker_drain(d->balance, s->owner, !in_rotation(&d->config.options, s));
	}
	if (d->config.options.shown == KEEP_NOTHING || !turn->writer)
		return;
	d->best = best_session(d);
	d->config.best(d->config.context, d->best, turn);
}

static enum writer_status ping(void *context, const struct worker *w, struct turn *turn)
{
	const struct dispatch *d = context;

	writer_start(turn->writer, "iq", "get", span_of(w->ping_id), w->name, d->config.domain);
	writer_raw(turn->writer, "><ping xmlns='" NS_PING "'/></iq>");
	return writer_end(turn->writer);
}

static void suspects_changed(void *context, struct worker *suspect, int64_t now_ms)
{
	struct dispatch *d = context;

	requests_hedge(d->requests, suspect, now_ms);
}

/* The server of a session has bounced a request, but has not said that the session has left. */
static void doubted(void *context, struct worker *w, struct turn *turn)
{
	struct dispatch *d = context;

	worker_suspect(d->balance, w, turn->now_ms);
	session_doubt(d->sessions, w->owner, turn);
}

void dispatch_note_life(struct dispatch *d, const struct stanza *s, int64_t now_ms)
{
	struct worker *w = balance_find(d->balance, s->from);

	if (w && requests_bounce_of(s, w) == BOUNCE_NONE)
		worker_alive(d->balance, w, now_ms);
}

/* By policy -------------------------------------------------------------- */

/* Sessions that a request must not go to. */
struct exclusion {
	const struct requests *requests;
	struct span self;	     /* the requester, if it is a session */
	const struct request *tried; /* the sessions that this one has been tried on */
	const struct request *same;  /* the sessions that have this request, or one that follows it
					under the same key */
};

static bool excluded(const void *context, const struct worker *w)
{
	const struct exclusion *x = context;
	int equal = 0;

	if (span_equal(x->self, w->name) || (x->tried && requests_tried(x->tried, w)))
		return true;
	for (const struct request *r = x->same; r && equal++ < MAX_EQUAL;
		r = requests_next(x->requests, r))
		if (requests_try_of((struct request *)r, w))
			return true;
	return false;
}

static struct worker *choose(struct dispatch *d, enum balance_tier tier, struct exclusion *x,
	struct span user, int64_t now_ms)
{
	bool all = !x->self.p && !x->tried && !x->same;
	struct balance_query query = {
		.user = user, .excluded = all ? NULL : excluded, .context = x, .now_ms = now_ms};

	return balance_choose(d->balance, tier, &query);
}

struct worker *dispatch_choose(
	struct dispatch *d, struct span user, const struct request *same, int64_t now_ms)
{
	bool session = dispatch_is_target(d, user);
	struct exclusion x = {.requests = d->requests, .self = session ? user : SPAN_NONE};
	struct worker *w = NULL;

	for (int tier = 0; !w && tier < TIERS; tier++) {
		x.same = same;
		w = choose(d, (enum balance_tier)tier, &x, user, now_ms);
		if (w || !same)
			continue;
		x.same = NULL; /* each session has one of them: then answers are matched in the
				  order of requests */
		w = choose(d, (enum balance_tier)tier, &x, user, now_ms);
	}
	if (!w && session) { /* the asking session only if there is no other */
		x = (struct exclusion){.requests = d->requests};
		w = choose(d, TIER_USABLE, &x, user, now_ms);
	}
	return w;
}

static struct worker *choose_again(
	void *context, const struct request *r, enum balance_tier tier, int64_t now_ms)
{
	struct dispatch *d = context;
	struct exclusion x = {.requests = d->requests, .self = request_user(r), .tried = r};

	return choose(d, tier, &x, request_user(r), now_ms);
}

/* By conversation -------------------------------------------------------- */

/* The session that a request belongs to by what it says: the one that has its conversation in
 * hand, or the one whose capabilities are shown and asked for. */
static struct worker *choose_by_payload(
	struct dispatch *d, const struct stanza *s, bool *step, int64_t now_ms)
{
	const char *caps = d->best ? d->best->caps : NULL;
	const struct xml_node *payload = stanza_payload(s);
	struct worker *w;

	*step = steps_of(d->steps, s, &w, now_ms);
	if (*step)
		return w;
	if (caps && xml_is(payload, NS_DISCO_INFO, "query") &&
		span_is(xml_attribute(payload, "node"), caps))
		return balance_find(d->balance, d->best->jid);
	return NULL;
}

struct worker *dispatch_request(struct dispatch *d, const struct stanza *s,
	const struct request *same, bool *pinned, int64_t now_ms)
{
	struct worker *w = choose_by_payload(d, s, pinned, now_ms);

	return w ? w : dispatch_choose(d, s->from, same, now_ms);
}

/* Life ------------------------------------------------------------------- */

void dispatch_tick(struct dispatch *d, struct turn *turn)
{
	balance_tick(d->balance, turn);
	requests_tick(d->requests, turn);
	session_tick(d->sessions, turn);
	steps_tick(d->steps, turn->now_ms);
}

int64_t dispatch_deadline(const struct dispatch *d)
{
	const int64_t all_ms[] = {balance_deadline(d->balance), requests_deadline(d->requests),
		session_deadline(d->sessions), steps_deadline(d->steps)};

	return deadline_first(all_ms, sizeof(all_ms) / sizeof(all_ms[0]));
}

static void new_sessions(struct dispatch *d)
{
	const struct dispatch_options *o = &d->config.options;

	d->sessions = session_table_new(&(struct session_config){.domain = d->config.domain,
		.targets = o->targets,
		.targets_count = o->targets_count,
		.max_sessions = o->max_sessions,
		.keep = o->shown,
		.confirm_ms = d->config.confirm_ms,
		.left = session_left,
		.alive = session_alive,
		.arrived = session_arrived,
		.changed = sessions_changed,
		.context = d});
}

void dispatch_init(struct dispatch *d, const struct dispatch_config *config,
	const struct requests_config *requests)
{
	struct requests_config open = *requests;

	*d = (struct dispatch){.config = *config};
	new_sessions(d);
	d->balance = balance_new(&(struct balance_config){.policy = config->options.policy,
		.try_timeout_ms = config->options.try_timeout_ms,
		.noun = "session",
		.random = config->random,
		.ping = ping,
		.changed = suspects_changed,
		.context = d});
	open.balance = d->balance;
	open.choose = choose_again;
	open.doubted = doubted;
	open.chooser = d;
	d->requests = requests_new(&open);
	d->steps = steps_new(&(struct steps_config){.max = config->max_steps,
		.max_bytes = config->max_bytes,
		.max_of_one = STEPS_OF_ONE,
		.life_ms = STEP_LIFE_MS,
		.seed = {config->seed[0], config->seed[1]},
		.balance = d->balance,
		.shares = requests->shares});
}

void dispatch_free(struct dispatch *d)
{
	requests_free(d->requests);
	steps_free(d->steps);
	balance_free(d->balance);
	session_table_free(d->sessions);
}
