#include "xmpp/shares.h"

#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/table.h"
#include "xmpp/jid.h"

/* A user may have this part of the bytes in any case: requests differ much in size. */
#define USER_BYTES_PART 8

/* Parts without an entry that are kept, for a user who asks again. */
#define KEPT 1024

struct share_part {
	size_t count, bytes;
};

struct shares {
	struct shares_config config;
	struct table *users, *domains;
	size_t user_bytes, domain_bytes;
};

/* The same part of the bytes as of the entries. */
static size_t bytes_of(const struct shares_config *c, size_t entries)
{
	return entries == 0 || entries >= c->max
		       ? c->max_bytes
		       : (size_t)((double)c->max_bytes * ((double)entries / (double)c->max));
}

struct shares *shares_new(const struct shares_config *config)
{
	struct shares *s = xcalloc(1, sizeof(*s));

	s->config = *config;
	s->users = table_new(SIZE_MAX / 2, SIZE_MAX / 2, config->seed);
	s->domains = table_new(SIZE_MAX / 2, SIZE_MAX / 2, config->seed);
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
	table_free(s->users);
	table_free(s->domains);
	free(s);
}

static bool is_among(const struct span *domains, size_t count, struct span domain)
{
	for (size_t i = 0; i < count; i++)
		if (span_equal(domains[i], domain))
			return true;
	return false;
}

static struct share_part *part_of(struct table *t, struct span key)
{
	struct table_key hashed = table_key(t, key);
	struct table_entry *e = table_find_hashed(t, &hashed);

	if (!e)
		e = table_add_hashed(t, &hashed, sizeof(struct share_part), DEADLINE_NEVER);
	return table_record(e);
}

static void part_release(struct table *t, struct share_part *part)
{
	if (part && part->count == 0 && table_count(t) > KEPT)
		table_remove(t, table_entry_of(part));
}

static bool fits(
	const struct share_part *part, size_t count, size_t bytes, size_t max, size_t max_bytes)
{
	size_t others = part->count;

	if (max && others + count > max)
		return false;
	return others + count <= 1 || (bytes <= max_bytes && part->bytes <= max_bytes - bytes);
}

static bool take(struct shares *s, struct share *share, size_t count, size_t bytes)
{
	if (share->user && !fits(share->user, count, bytes, s->config.user_max, s->user_bytes))
		return false;
	if (share->domain &&
		!fits(share->domain, count, bytes, s->config.domain_max, s->domain_bytes))
		return false;
	for (int i = 0; i < 2; i++) {
		struct share_part *part = i ? share->domain : share->user;

		if (part) {
			part->count += count;
			part->bytes += bytes;
		}
	}
	share->bytes += bytes;
	return true;
}

bool shares_take(struct shares *s, struct span jid, size_t bytes, struct share *share)
{
	struct span domain = jid_domain(jid), bare = jid_bare(jid);

	*share = (struct share){0};
	if (is_among(s->config.trusted, s->config.trusted_count, domain))
		return true;
	if (bare.n > domain.n)
		share->user = part_of(s->users, bare);
	if (!is_among(s->config.own, s->config.own_count, domain))
		share->domain = part_of(s->domains, domain);
	if (take(s, share, 1, bytes))
		return true;
	part_release(s->users, share->user);
	part_release(s->domains, share->domain);
	*share = (struct share){0};
	return false;
}

bool shares_more(struct shares *s, struct share *share, size_t bytes)
{
	return take(s, share, 0, bytes);
}

void shares_give(struct shares *s, struct share *share)
{
	for (int i = 0; i < 2; i++) {
		struct share_part *part = i ? share->domain : share->user;

		if (part) {
			part->count--;
			part->bytes -= share->bytes;
		}
	}
	part_release(s->users, share->user);
	part_release(s->domains, share->domain);
	*share = (struct share){0};
}

struct span shares_group(const struct shares *s, struct span jid)
{
	struct span domain = jid_domain(jid);

	return is_among(s->config.own, s->config.own_count, domain) ? jid_bare(jid) : domain;
}
