#include "jat/marks.h"

#include <stdio.h>
#include <stdlib.h>

#include <nettle/sha2.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/table.h"
#include "xmpp/jid.h"

enum grace { GRACE_NONE, GRACE_AWAITED, GRACE_RUNNING };

/* Entries that stay for their time, and what each user and domain has of them. */
struct ledger {
	struct table *entries; /* each with a struct share */
	struct shares *shares;
};

struct marks {
	struct marks_config config;
	enum grace grace;
	int64_t until_ms;	  /* when the grace ends; valid while it runs */
	struct ledger taken;	  /* answers seen in the grace, by a hash of their keys */
	struct table *without;	  /* users for whom the grace has ended already, by a hash */
	struct ledger young;	  /* marks */
	size_t places;		  /* held for marks */
	char (*left)[MARK_CHARS]; /* by predecessors, sorted */
	size_t left_count;
};

static struct ledger ledger_new(const struct marks_config *c)
{
	return (struct ledger){.entries = table_new(c->max, SIZE_MAX / 2, c->seed),
		.shares = shares_new(&(struct shares_config){.max = c->max,
			.max_bytes = SIZE_MAX,
			.own = c->own,
			.own_count = c->own_count,
			.seed = {c->seed[0], c->seed[1]}})};
}

/* There is room: the caller has looked. */
static void ledger_add(
	struct ledger *l, struct span key, const struct share *share, int64_t until_ms)
{
	struct table_entry *e = table_add(l->entries, key, sizeof(*share), until_ms);

	if (e)
		*(struct share *)table_record(e) = *share;
}

static void ledger_tick(struct ledger *l, int64_t now_ms)
{
	struct table_entry *e;

	while ((e = table_earliest(l->entries)) && e->deadline_ms <= now_ms) {
		shares_give(l->shares, table_record(e));
		table_remove(l->entries, e);
	}
}

static void ledger_free(struct ledger *l)
{
	table_free(l->entries);
	shares_free(l->shares);
}

struct marks *marks_new(const struct marks_config *config)
{
	struct marks *m = xcalloc(1, sizeof(*m));

	m->config = *config;
	m->grace = config->grace ? GRACE_AWAITED : GRACE_NONE;
	m->taken = ledger_new(config);
	m->without = table_new(config->max, SIZE_MAX / 2, config->seed);
	m->young = ledger_new(config);
	return m;
}

void marks_free(struct marks *m)
{
	if (!m)
		return;
	ledger_free(&m->taken);
	table_free(m->without);
	ledger_free(&m->young);
	free(m->left);
	free(m);
}

void mark_of(struct span key, char mark[MARK_CHARS + 1])
{
	struct sha256_ctx sha;
	uint8_t digest[MARK_CHARS / 2];

	sha256_init(&sha);
	sha256_update(&sha, key.n, (const uint8_t *)key.p);
	sha256_digest(&sha, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(mark + 2 * i, 3, "%02x", digest[i]);
}

static int compare_marks(const void *a, const void *b)
{
	return memcmp(a, b, MARK_CHARS);
}

void marks_restore(struct marks *m, struct span all)
{
	free(m->left);
	m->left = xcalloc(all.n / (MARK_CHARS + 1) + 1, sizeof(*m->left));
	m->left_count = 0;
	while (all.n > MARK_CHARS) {
		const char *newline = memchr(all.p, '\n', all.n);

		if (!newline) /* the crash came before its answer was written */
			break;
		if (newline - all.p == MARK_CHARS)
			memcpy(m->left[m->left_count++], all.p, MARK_CHARS);
		all = span_from(all, (size_t)(newline + 1 - all.p));
	}
	qsort(m->left, m->left_count, sizeof(*m->left), compare_marks);
}

static bool is_marked(const struct marks *m, struct span key)
{
	char mark[MARK_CHARS + 1];

	if (!m->left_count)
		return false;
	mark_of(key, mark);
	return bsearch(mark, m->left, m->left_count, sizeof(*m->left), compare_marks) != NULL;
}

void marks_up(struct marks *m, int64_t now_ms)
{
	if (m->grace != GRACE_AWAITED)
		return;
	m->grace = GRACE_RUNNING;
	m->until_ms = now_ms + m->config.timeout_ms;
}

/* The grace -------------------------------------------------------------- */

/* A keyed hash stands for a key: tables of hashes have a bound in bytes, too, and nobody can choose
 * a key that has the hash of another. */
struct hashed {
	uint64_t hash;
};

static struct span hashed(const struct marks *m, struct span key, struct hashed *h)
{
	h->hash = table_hash(m->config.seed, key);
	return (struct span){(const char *)&h->hash, sizeof(h->hash)};
}

static bool has_grace(const struct marks *m, struct span user, int64_t now_ms)
{
	struct hashed h;

	return m->grace == GRACE_RUNNING && now_ms < m->until_ms &&
	       !(table_count(m->without) && table_find(m->without, hashed(m, jid_bare(user), &h)));
}

/* Remember an answer that was taken. False: there is no room, so the grace ends for that user, or
 * for all. */
static bool remember(struct marks *m, struct span user, struct span key)
{
	struct share share;
	struct hashed h;

	if (shares_take_left(m->taken.shares, user, m->config.max - table_count(m->taken.entries),
		    0, &share)) {
		ledger_add(&m->taken, hashed(m, key, &h), &share, m->until_ms);
		return true;
	}
	if (!table_add(m->without, hashed(m, jid_bare(user), &h), 0, m->until_ms))
		m->grace = GRACE_NONE;
	return false;
}

bool marks_take(struct marks *m, struct span user, struct span key, int64_t now_ms)
{
	struct hashed h;

	return has_grace(m, user, now_ms) && !is_marked(m, key) &&
	       !table_find(m->taken.entries, hashed(m, key, &h)) && remember(m, user, key);
}

void marks_answered(struct marks *m, struct span user, struct span key, int64_t now_ms)
{
	if (has_grace(m, user, now_ms))
		remember(m, user, key);
}

/* Places ----------------------------------------------------------------- */

size_t marks_count(const struct marks *m)
{
	return m->places + table_count(m->young.entries);
}

bool marks_reserve(struct marks *m, struct span user, struct mark_place *place)
{
	size_t count = marks_count(m);

	place->held = shares_take_left(m->young.shares, user,
		count < m->config.max ? m->config.max - count : 0, 0, &place->share);
	m->places += place->held;
	return place->held;
}

void marks_release(struct marks *m, struct mark_place *place)
{
	if (!place->held)
		return;
	shares_give(m->young.shares, &place->share);
	m->places--;
	place->held = false;
}

void marks_made(struct marks *m, struct mark_place *place, int64_t now_ms)
{
	if (!place->held)
		return;
	ledger_add(&m->young, SPAN_NONE, &place->share, now_ms + m->config.timeout_ms);
	m->places--;
	place->held = false;
}

void marks_restore_young(struct marks *m, struct span young, int64_t now_ms)
{
	static const struct share nobodys = {0};

	for (size_t i = 0; i < young.n; i++)
		if (young.p[i] == '\n')
			ledger_add(&m->young, SPAN_NONE, &nobodys, now_ms + m->config.timeout_ms);
}

/* Time ------------------------------------------------------------------- */

int64_t marks_deadline(const struct marks *m)
{
	const int64_t all_ms[] = {table_deadline(m->taken.entries), table_deadline(m->without),
		table_deadline(m->young.entries)};

	return deadline_first(all_ms, sizeof(all_ms) / sizeof(all_ms[0]));
}

void marks_tick(struct marks *m, int64_t now_ms)
{
	struct table_entry *e;

	ledger_tick(&m->taken, now_ms);
	ledger_tick(&m->young, now_ms);
	while ((e = table_earliest(m->without)) && e->deadline_ms <= now_ms)
		table_remove(m->without, e);
}
