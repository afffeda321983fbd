#include "xmpp/balance.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/table.h"
#include "xmpp/jid.h"

#define PING_FIRST_MS 5000
#define PING_LAST_MS 60000
/* Under POLICY_STICKY a user who was moved to another worker stays there while they send something
 * at least this often. */
#define MOVED_MS (10 * 60 * 1000)
#define MOVED_MAX 10000
#define MOVED_MAX_BYTES (8 * 1024 * 1024)
/* The log does not repeat a message about one worker faster than this. */
#define TOLD_MS 60000

TAILQ_HEAD(worker_list, worker);

struct tier {
	struct worker **at;
	size_t count;
};

struct balance {
	struct balance_config config;
	struct worker_list workers; /* in the order they came; also lost ones */
	struct tier tiers[TIERS];
	size_t room; /* of each tier */
	size_t round;
	struct table *moved; /* key: bare JID; record: the worker's name */
	int64_t next_ms;     /* nothing is due before it */
};

struct balance *balance_new(const struct balance_config *config)
{
	struct balance *b = xcalloc(1, sizeof(*b));
	uint64_t seed[2] = {random_draw(&config->random), random_draw(&config->random)};

	b->config = *config;
	TAILQ_INIT(&b->workers);
	b->moved = table_new(MOVED_MAX, MOVED_MAX_BYTES, seed);
	b->next_ms = DEADLINE_NEVER;
	return b;
}

static void worker_free(struct balance *b, struct worker *w)
{
	TAILQ_REMOVE(&b->workers, w, of_balance);
	free((char *)w->name.p);
	free(w);
}

void balance_free(struct balance *b)
{
	if (!b)
		return;
	/* it leaves the list NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	while (!TAILQ_EMPTY(&b->workers))
		worker_free(b, TAILQ_FIRST(&b->workers)); /* NOLINT(clang-analyzer-unix.Malloc) */
	for (int i = 0; i < TIERS; i++)
		free(b->tiers[i].at);
	table_free(b->moved);
	free(b);
}

/* Rotation --------------------------------------------------------------- */

static void tier_add(struct balance *b, enum balance_tier tier, struct worker *w)
{
	b->tiers[tier].at[b->tiers[tier].count++] = w;
}

/* O(workers), for each worker that comes, goes, leaves rotation or becomes suspect. */
static void arrange(struct balance *b)
{
	struct worker *w;
	size_t there = 0, rotating = 0;

	TAILQ_FOREACH(w, &b->workers, of_balance)
	{
		there += w->state == WORKER_THERE;
		rotating += w->state == WORKER_THERE && !w->drained;
	}
	if (there > b->room) {
		b->room = there * 2;
		for (int i = 0; i < TIERS; i++)
			b->tiers[i].at = xrealloc(b->tiers[i].at, b->room * sizeof(w));
	}
	for (int i = 0; i < TIERS; i++)
		b->tiers[i].count = 0;
	TAILQ_FOREACH(w, &b->workers, of_balance)
	{
		if (w->state != WORKER_THERE)
			continue;
		tier_add(b, TIER_THERE, w);
		if (w->drained && rotating)
			continue;
		tier_add(b, TIER_USABLE, w);
		if (!w->suspect)
			tier_add(b, TIER_WELL, w);
	}
}

size_t balance_count(const struct balance *b, enum balance_tier tier)
{
	return b->tiers[tier].count;
}

struct worker *balance_at(const struct balance *b, enum balance_tier tier, size_t i)
{
	return b->tiers[tier].at[i];
}

struct worker *balance_find(const struct balance *b, struct span name)
{
	const struct tier *there = &b->tiers[TIER_THERE];

	for (size_t i = 0; i < there->count; i++)
		if (span_equal(there->at[i]->name, name))
			return there->at[i];
	return NULL;
}

/* The requests of suspects may go to other workers now. */
static void tell_suspects(struct balance *b, int64_t now_ms)
{
	struct worker *w;

	if (!b->config.changed || b->tiers[TIER_WELL].count == 0)
		return;
	TAILQ_FOREACH(w, &b->workers, of_balance)
	if (w->suspect && w->load)
		b->config.changed(b->config.context, w, now_ms);
}

/* Coming and going ------------------------------------------------------- */

static struct worker *find_lost(struct balance *b, struct span name)
{
	struct worker *w;

	TAILQ_FOREACH(w, &b->workers, of_balance)
	if (w->state == WORKER_LOST && span_equal(w->name, name))
		return w;
	return NULL;
}

static unsigned free_number(const struct balance *b, size_t group)
{
	const struct worker *w;
	unsigned number = 1;
	bool taken;

	do {
		taken = false;
		TAILQ_FOREACH(w, &b->workers, of_balance)
		taken |= w->state != WORKER_LEFT && w->group == group && w->number == number;
	} while (taken && ++number);
	return number;
}

static void due(struct balance *b, int64_t at_ms)
{
	if (at_ms < b->next_ms)
		b->next_ms = at_ms;
}

static void wait_from(struct balance *b, struct worker *w, int64_t now_ms)
{
	w->waiting_ms = now_ms;
	if (b->config.try_timeout_ms && w->state == WORKER_THERE && !w->suspect)
		due(b, now_ms + b->config.try_timeout_ms);
}

struct worker *worker_add(struct balance *b, struct span name, size_t group, int64_t now_ms)
{
	struct worker *w = find_lost(b, name);

	if (!w) {
		w = xcalloc(1, sizeof(*w));
		w->name = (struct span){xstrndup(name.p, name.n), name.n};
		w->group = group;
		w->number = free_number(b, group);
		LIST_INIT(&w->tries);
		w->waiting_ms = w->ping_ms = DEADLINE_NEVER;
		TAILQ_INSERT_TAIL(&b->workers, w, of_balance);
	}
	w->state = WORKER_THERE;
	if (w->suspect)
		due(b, w->ping_ms);
	else if (w->load)
		wait_from(b, w, now_ms);
	arrange(b);
	tell_suspects(b, now_ms);
	return w;
}

void worker_leave(struct balance *b, struct worker *w, enum worker_state state)
{
	w->state = state;
	w->owner = NULL;
	w->waiting_ms = DEADLINE_NEVER;
	if (w->holds == 0)
		worker_free(b, w);
	arrange(b);
}

void worker_drain(struct balance *b, struct worker *w, bool drained)
{
	if (w->drained == drained)
		return;
	w->drained = drained;
	arrange(b);
}

void worker_hold(struct worker *w)
{
	w->holds++;
}

void worker_release(struct balance *b, struct worker *w)
{
	if (--w->holds == 0 && w->state != WORKER_THERE)
		worker_free(b, w);
}

/* Health ----------------------------------------------------------------- */

void worker_handed(struct balance *b, struct worker *w, int64_t now_ms)
{
	w->handed++;
	if (w->waiting_ms == DEADLINE_NEVER)
		wait_from(b, w, now_ms);
}

void worker_alive(struct balance *b, struct worker *w, int64_t now_ms)
{
	w->waiting_ms = DEADLINE_NEVER;
	if (w->told) {
		err_note("%s '%.*s' answers again", b->config.noun, SPAN_ARG(w->name));
		w->told = false;
	}
	if (!w->suspect)
		return;
	w->suspect = false;
	w->ping_ms = DEADLINE_NEVER;
	*w->ping_id = '\0';
	arrange(b);
	tell_suspects(b, now_ms);
}

/* Once a minute at most. */
static bool may_tell(struct worker *w, int64_t now_ms)
{
	if (w->told || (w->told_ms && now_ms - w->told_ms < TOLD_MS))
		return false;
	w->told = true;
	w->told_ms = now_ms;
	return true;
}

void worker_suspect(struct balance *b, struct worker *w, int64_t now_ms)
{
	if (w->suspect || w->state != WORKER_THERE)
		return;
	w->suspect = true;
	w->ping_backoff = (struct backoff){.first_ms = PING_FIRST_MS, .max_ms = PING_LAST_MS};
	w->ping_ms = now_ms + backoff_next_ms(&w->ping_backoff);
	due(b, w->ping_ms);
	arrange(b);
	tell_suspects(b, now_ms);
}

void worker_timed_out(struct balance *b, struct worker *w, int64_t now_ms)
{
	w->timed_out++;
	if (w->state == WORKER_THERE && may_tell(w, now_ms))
		err_warn("%s '%.*s' has let a request time out: does it still run?", b->config.noun,
			SPAN_ARG(w->name));
}

static void silent(struct balance *b, struct worker *w, int64_t now_ms)
{
	if (may_tell(w, now_ms))
		err_warn(
			"%s '%.*s' lets a request time out: no answer and no sign of life for %lld "
			"s; new requests go to others, if there are any, until it answers again",
			b->config.noun, SPAN_ARG(w->name),
			(long long)((now_ms - w->waiting_ms + 500) / 1000));
	worker_suspect(b, w, now_ms);
}

bool worker_is_pong(const struct worker *w, struct span id)
{
	return *w->ping_id && span_is(id, w->ping_id);
}

/* False: no room in the output. */
static bool ping(struct balance *b, struct worker *w, struct turn *turn)
{
	snprintf(w->ping_id, sizeof(w->ping_id), "%016llx",
		(unsigned long long)random_draw(&b->config.random));
	if (b->config.ping && b->config.ping(b->config.context, w, turn) == WRITER_FULL)
		return false;
	w->ping_ms = turn->now_ms + backoff_next_ms(&w->ping_backoff);
	return true;
}

void balance_tick(struct balance *b, struct turn *turn)
{
	int64_t now_ms = turn->now_ms;
	struct table_entry *e;
	struct worker *w;

	while ((e = table_earliest(b->moved)) && e->deadline_ms <= now_ms)
		table_remove(b->moved, e);
	if (b->next_ms > now_ms)
		return;
	b->next_ms = DEADLINE_NEVER;
	TAILQ_FOREACH(w, &b->workers, of_balance)
	{
		if (w->state != WORKER_THERE)
			continue;
		if (w->suspect) {
			if (w->ping_ms <= now_ms)
				ping(b, w, turn);
			due(b, w->ping_ms);
		} else if (w->waiting_ms != DEADLINE_NEVER && b->config.try_timeout_ms) {
			if (w->waiting_ms <= now_ms - b->config.try_timeout_ms)
				silent(b, w, now_ms);
			else
				due(b, w->waiting_ms + b->config.try_timeout_ms);
		}
	}
}

int64_t balance_deadline(const struct balance *b)
{
	int64_t moved_ms = table_deadline(b->moved);

	return moved_ms < b->next_ms ? moved_ms : b->next_ms;
}

/* Choosing --------------------------------------------------------------- */

static bool allowed(const struct balance_query *q, const struct worker *w)
{
	return !q->excluded || !q->excluded(q->context, w);
}

static size_t random_below(struct balance *b, size_t n)
{
	return (size_t)(random_draw(&b->config.random) % n);
}

/* The i-th of the workers that are allowed. */
static struct worker *pick(struct balance *b, const struct tier *t, const struct balance_query *q)
{
	bool random = b->config.policy == POLICY_RANDOM;
	size_t left = 0, at;

	if (!q->excluded)
		return t->at[random ? random_below(b, t->count) : b->round++ % t->count];
	for (size_t i = 0; i < t->count; i++)
		left += allowed(q, t->at[i]);
	if (left == 0)
		return NULL;
	at = random ? random_below(b, left) : b->round++ % left;
	for (size_t i = 0; i < t->count; i++)
		if (allowed(q, t->at[i]) && at-- == 0)
			return t->at[i];
	return NULL;
}

static struct worker *least_loaded(
	struct balance *b, const struct tier *t, const struct balance_query *q)
{
	size_t first = random_below(b, t->count);
	struct worker *best = NULL;

	for (size_t i = 0; i < t->count; i++) {
		struct worker *w = t->at[(first + i) % t->count];

		if ((!best || w->load < best->load) && allowed(q, w))
			best = w;
	}
	return best;
}

/* Rendezvous hashing: of all workers the one with the highest score; a worker that comes or goes
 * moves only its own share. The seed is fixed, so that all proxies of a service agree. */
static uint64_t score(const struct worker *w, struct span bare)
{
	static const uint64_t seed[2] = {0x6f7574626f617264, 0x737469636b790000};
	const uint64_t own[2] = {table_hash(seed, w->name), seed[1]};

	return table_hash(own, bare);
}

static struct worker *highest(const struct tier *t, struct span bare, const struct balance_query *q)
{
	struct worker *best = NULL;
	uint64_t best_score = 0;

	for (size_t i = 0; i < t->count; i++) {
		uint64_t its = score(t->at[i], bare);

		if ((!best || its > best_score) && allowed(q, t->at[i])) {
			best = t->at[i];
			best_score = its;
		}
	}
	return best;
}

static void moved_note(struct balance *b, struct span bare, const struct worker *w, int64_t now_ms)
{
	struct table_entry *e;

	if (table_count(b->moved) >= MOVED_MAX)
		table_remove(b->moved, table_earliest(b->moved));
	e = table_add(b->moved, bare, sizeof(uint64_t), now_ms + MOVED_MS);
	if (e)
		memcpy(table_record(e), &(uint64_t){table_hash((uint64_t[2]){0, 0}, w->name)},
			sizeof(uint64_t));
}

/* The worker that a user was moved to, if it may get the request. When that one is suspect, too, or
 * has left, the user is moved again. */
static struct worker *moved_to(
	struct balance *b, const struct tier *t, struct span bare, const struct balance_query *q)
{
	struct table_entry *e = table_count(b->moved) ? table_find(b->moved, bare) : NULL;

	for (size_t i = 0; e && i < t->count; i++) {
		if (table_hash((uint64_t[2]){0, 0}, t->at[i]->name) != *(uint64_t *)table_record(e))
			continue;
		if (!allowed(q, t->at[i]))
			return NULL;
		table_deadline_set(b->moved, e, q->now_ms + MOVED_MS);
		return t->at[i];
	}
	if (e)
		table_remove(b->moved, e);
	return NULL;
}

static struct worker *own_worker(
	struct balance *b, const struct tier *t, const struct balance_query *q)
{
	struct span bare = jid_bare(q->user);
	bool well = t == &b->tiers[TIER_WELL];
	struct worker *w = well ? moved_to(b, t, bare, q) : NULL, *natural;

	if (w)
		return w;
	w = highest(t, bare, q);
	if (!w || !well || b->tiers[TIER_USABLE].count == t->count)
		return w;
	natural = highest(&b->tiers[TIER_USABLE], bare, q);
	if (natural != w && !table_find(b->moved, bare))
		moved_note(b, bare, w, q->now_ms);
	return w;
}

struct worker *balance_choose(
	struct balance *b, enum balance_tier tier, const struct balance_query *query)
{
	const struct tier *t = &b->tiers[tier];

	if (t->count == 0)
		return NULL;
	switch (query->sticky ? POLICY_STICKY : b->config.policy) {
	case POLICY_RANDOM:
	case POLICY_ROUND_ROBIN:
		return pick(b, t, query);
	case POLICY_LEAST_PENDING:
		return least_loaded(b, t, query);
	case POLICY_STICKY:
		return own_worker(b, t, query);
	}
	return NULL;
}
