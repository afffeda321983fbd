#include "xmpp/shares.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/table.h"
#include "xmpp/jid.h"

/* A user may have this part of the bytes in any case: requests differ much in size. */
#define USER_BYTES_PART 8

/* Slots of an empty table; a power of two. */
#define FIRST_SLOTS 16

/* What one user or domain holds. It is known by the hash of its name alone: the hash is keyed, so
 * nobody can choose a name that shares the part of another. */
struct part {
	uint64_t hash; /* 0: the slot is free */
	size_t bytes;
	uint32_t count;
};

/* An open hash table: a part stands in the slot of its hash or in one of those behind it, with no
 * free slot in between. */
struct parts {
	struct part *slots;
	size_t slots_count, used; /* at most three quarters are used */
};

struct shares {
	struct shares_config config;
	struct parts users, domains;
	size_t user_bytes, domain_bytes;
};

/* The same part of the bytes as of the entries. */
static size_t bytes_of(const struct shares_config *c, size_t entries)
{
	return entries == 0 || entries >= c->max
		       ? c->max_bytes
		       : (size_t)((double)c->max_bytes * ((double)entries / (double)c->max));
}

static void parts_init(struct parts *t, size_t slots_count)
{
	*t = (struct parts){
		.slots = xcalloc(slots_count, sizeof(struct part)), .slots_count = slots_count};
}

struct shares *shares_new(const struct shares_config *config)
{
	struct shares *s = xcalloc(1, sizeof(*s));

	s->config = *config;
	parts_init(&s->users, FIRST_SLOTS);
	parts_init(&s->domains, FIRST_SLOTS);
	s->user_bytes = bytes_of(config, config->user_max);
	if (s->user_bytes < config->max_bytes / USER_BYTES_PART)
		s->user_bytes = config->max_bytes / USER_BYTES_PART;
	s->domain_bytes = bytes_of(config, config->domain_max);
	return s;
}

void shares_free(struct shares *s)
{
	if (!s)
		return;
	free(s->users.slots);
	free(s->domains.slots);
	free(s);
}

static bool is_among(const struct span *domains, size_t count, struct span domain)
{
	for (size_t i = 0; i < count; i++)
		if (span_equal(domains[i], domain))
			return true;
	return false;
}

/* Parts ------------------------------------------------------------------ */

static size_t slot_after(const struct parts *t, size_t at)
{
	return (at + 1) & (t->slots_count - 1);
}

/* The part of this hash, or the free slot where it belongs. */
static struct part *part_of(const struct parts *t, uint64_t hash)
{
	size_t at = (size_t)hash & (t->slots_count - 1);

	while (t->slots[at].hash && t->slots[at].hash != hash)
		at = slot_after(t, at);
	return &t->slots[at];
}

static void resize(struct parts *t, size_t slots_count)
{
	const struct parts old = *t;

	parts_init(t, slots_count);
	t->used = old.used;
	for (size_t i = 0; i < old.slots_count; i++)
		if (old.slots[i].hash)
			*part_of(t, old.slots[i].hash) = old.slots[i];
	free(old.slots);
}

/* part: that of the hash, or the free slot where it belongs; no longer valid behind this. */
static void part_add(struct parts *t, struct part *part, uint64_t hash, size_t count, size_t bytes)
{
	if (!part->hash) {
		part->hash = hash;
		t->used++;
	}
	part->count += (uint32_t)count;
	part->bytes += bytes;
	if (t->used > t->slots_count / 4 * 3)
		resize(t, t->slots_count * 2);
}

/* Free a slot, and move up what stands behind it only because it was taken. */
static void part_remove(struct parts *t, struct part *part)
{
	size_t hole = (size_t)(part - t->slots);

	for (size_t at = slot_after(t, hole); t->slots[at].hash; at = slot_after(t, at)) {
		size_t wanted = (size_t)t->slots[at].hash & (t->slots_count - 1);

		if (((at - wanted) & (t->slots_count - 1)) < ((at - hole) & (t->slots_count - 1)))
			continue;
		t->slots[hole] = t->slots[at];
		hole = at;
	}
	t->slots[hole] = (struct part){0};
	t->used--;
	if (t->slots_count > FIRST_SLOTS && t->used < t->slots_count / 8)
		resize(t, t->slots_count / 2);
}

static void part_give(struct parts *t, uint64_t hash, size_t bytes)
{
	struct part *part = part_of(t, hash);

	part->bytes -= bytes;
	if (--part->count == 0)
		part_remove(t, part);
}

static bool fits(const struct part *part, size_t count, size_t bytes, size_t max, size_t max_bytes)
{
	size_t all = part->count + count;

	if ((max && all > max) || all > UINT32_MAX)
		return false;
	return all <= 1 || (bytes <= max_bytes && part->bytes <= max_bytes - bytes);
}

/* Shares ----------------------------------------------------------------- */

/* The most entries of one user and one domain; 0: no bound. */
struct most {
	size_t user, domain;
};

static bool take(
	struct shares *s, struct share *share, size_t count, size_t bytes, const struct most *most)
{
	struct part *user = share->user ? part_of(&s->users, share->user) : NULL;
	struct part *domain = share->domain ? part_of(&s->domains, share->domain) : NULL;

	if (user && !fits(user, count, bytes, most->user, s->user_bytes))
		return false;
	if (domain && !fits(domain, count, bytes, most->domain, s->domain_bytes))
		return false;
	if (user)
		part_add(&s->users, user, share->user, count, bytes);
	if (domain)
		part_add(&s->domains, domain, share->domain, count, bytes);
	share->bytes += bytes;
	return true;
}

static uint64_t hash_of(const struct shares *s, struct span name)
{
	uint64_t hash = table_hash(s->config.seed, name);

	return hash ? hash : 1;
}

static bool take_one(struct shares *s, struct span jid, size_t bytes, struct share *share,
	const struct most *most)
{
	struct span domain = jid_domain(jid), bare = jid_bare(jid);

	*share = (struct share){0};
	if (is_among(s->config.trusted, s->config.trusted_count, domain))
		return true;
	if (bare.n > domain.n)
		share->user = hash_of(s, bare);
	if (!is_among(s->config.own, s->config.own_count, domain))
		share->domain = hash_of(s, domain);
	if (take(s, share, 1, bytes, most))
		return true;
	*share = (struct share){0};
	return false;
}

static struct most fixed(const struct shares *s)
{
	return (struct most){s->config.user_max, s->config.domain_max};
}

bool shares_take(struct shares *s, struct span jid, size_t bytes, struct share *share)
{
	const struct most most = fixed(s);

	return take_one(s, jid, bytes, share, &most);
}

bool shares_take_left(
	struct shares *s, struct span jid, size_t left, size_t bytes, struct share *share)
{
	const struct most most = {left / 2 + left % 2, left};

	*share = (struct share){0};
	return left > 0 && take_one(s, jid, bytes, share, &most);
}

bool shares_more(struct shares *s, struct share *share, size_t bytes)
{
	const struct most most = fixed(s);

	return take(s, share, 0, bytes, &most);
}

void shares_give(struct shares *s, struct share *share)
{
	if (share->user)
		part_give(&s->users, share->user, share->bytes);
	if (share->domain)
		part_give(&s->domains, share->domain, share->bytes);
	*share = (struct share){0};
}

struct span shares_group(const struct shares *s, struct span jid)
{
	struct span domain = jid_domain(jid);

	return is_among(s->config.own, s->config.own_count, domain) ? jid_bare(jid) : domain;
}
