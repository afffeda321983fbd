/* base/holdings.c - see base/holdings.h
 *
 * A ranking is a list of levels in the order of their counts; a level holds all holders that have
 * so many entries. One entry more or less moves a holder to the neighbouring level.
 */
#include "base/holdings.h"

#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/table.h"

TAILQ_HEAD(holder_list, holder);

struct level {
	TAILQ_ENTRY(level) of_ranking;
	size_t count;
	struct holder_list holders;
};
TAILQ_HEAD(ranking, level);

/* A holder, or a group with the ranking of its holders. Stands in a table entry. */
struct holder {
	TAILQ_ENTRY(holder) of_level;
	struct level *level;
	struct holder *group;
	struct ranking ranking;
	TAILQ_HEAD(, holding) items; /* oldest first */
};

struct holdings {
	struct table *holders, *groups;
	struct ranking ranking; /* of the groups */
};

struct holdings *holdings_new(const uint64_t seed[2])
{
	struct holdings *h = xcalloc(1, sizeof(*h));

	h->holders = table_new(SIZE_MAX / 2, SIZE_MAX / 2, seed);
	h->groups = table_new(SIZE_MAX / 2, SIZE_MAX / 2, seed);
	TAILQ_INIT(&h->ranking);
	return h;
}

static void ranking_free(struct ranking *ranking)
{
	struct level *level;

	while ((level = TAILQ_FIRST(ranking))) {
		TAILQ_REMOVE(ranking, level, of_ranking);
		free(level);
	}
}

static void group_free(void *context, struct table_entry *e)
{
	struct holder *group = table_record(e);

	(void)context;
	ranking_free(&group->ranking);
}

void holdings_free(struct holdings *h)
{
	if (!h)
		return;
	table_each(h->groups, group_free, NULL);
	ranking_free(&h->ranking);
	table_free(h->holders);
	table_free(h->groups);
	free(h);
}

static struct level *level_new(size_t count)
{
	struct level *level = xcalloc(1, sizeof(*level));

	level->count = count;
	TAILQ_INIT(&level->holders);
	return level;
}

static void level_leave(struct ranking *ranking, struct holder *holder)
{
	struct level *level = holder->level;

	TAILQ_REMOVE(&level->holders, holder, of_level);
	if (TAILQ_EMPTY(&level->holders)) {
		TAILQ_REMOVE(ranking, level, of_ranking);
		free(level);
	}
	holder->level = NULL;
}

/* The holder has one entry more. */
static void promote(struct ranking *ranking, struct holder *holder)
{
	struct level *old = holder->level;
	struct level *next = old ? TAILQ_NEXT(old, of_ranking) : TAILQ_FIRST(ranking);
	size_t count = old ? old->count + 1 : 1;

	if (!next || next->count != count) {
		next = level_new(count);
		if (old)
			TAILQ_INSERT_AFTER(ranking, old, next, of_ranking);
		else
			TAILQ_INSERT_HEAD(ranking, next, of_ranking);
	}
	if (old)
		level_leave(ranking, holder);
	holder->level = next;
	TAILQ_INSERT_TAIL(&next->holders, holder, of_level);
}

/* The holder has one entry less; false: it was the last. */
static bool demote(struct ranking *ranking, struct holder *holder)
{
	struct level *old = holder->level, *next = TAILQ_PREV(old, ranking, of_ranking);
	size_t count = old->count - 1;

	if (count && (!next || next->count != count)) {
		next = level_new(count);
		TAILQ_INSERT_BEFORE(old, next, of_ranking);
	}
	level_leave(ranking, holder);
	if (!count)
		return false;
	holder->level = next;
	TAILQ_INSERT_TAIL(&next->holders, holder, of_level);
	return true;
}

static struct holder *holder_get(struct table *t, struct span name)
{
	struct table_key key = table_key(t, name);
	struct table_entry *e = table_find_hashed(t, &key);
	struct holder *holder;

	if (e)
		return table_record(e);
	holder = table_record(table_add_hashed(t, &key, sizeof(*holder), DEADLINE_NEVER));
	TAILQ_INIT(&holder->ranking);
	TAILQ_INIT(&holder->items);
	return holder;
}

void holdings_add(struct holdings *h, struct holding *item, struct span group, struct span name)
{
	struct holder *holder = holder_get(h->holders, name);

	if (!holder->group)
		holder->group = holder_get(h->groups, group);
	item->holder = holder;
	TAILQ_INSERT_TAIL(&holder->items, item, of_holder);
	promote(&holder->group->ranking, holder);
	promote(&h->ranking, holder->group);
}

void holdings_renew(struct holding *item)
{
	TAILQ_REMOVE(&item->holder->items, item, of_holder);
	TAILQ_INSERT_TAIL(&item->holder->items, item, of_holder);
}

void holdings_remove(struct holdings *h, struct holding *item)
{
	struct holder *holder = item->holder, *group = holder->group;

	TAILQ_REMOVE(&holder->items, item, of_holder);
	if (!demote(&group->ranking, holder))
		table_remove(h->holders, table_entry_of(holder));
	if (!demote(&h->ranking, group))
		table_remove(h->groups, table_entry_of(group));
}

struct holding *holdings_victim(const struct holdings *h)
{
	struct level *level = TAILQ_LAST(&h->ranking, ranking);

	if (!level)
		return NULL;
	level = TAILQ_LAST(&TAILQ_FIRST(&level->holders)->ranking, ranking);
	return TAILQ_FIRST(&TAILQ_FIRST(&level->holders)->items);
}

struct holding *holdings_next(const struct holding *item)
{
	return TAILQ_NEXT(item, of_holder);
}

size_t holdings_of(const struct holdings *h, struct span name, struct holding **oldest)
{
	struct table_entry *e = table_find(h->holders, name);
	struct holder *holder = e ? table_record(e) : NULL;

	*oldest = holder ? TAILQ_FIRST(&holder->items) : NULL;
	return holder ? holder->level->count : 0;
}

size_t holdings_of_group(const struct holdings *h, struct span group)
{
	struct table_entry *e = table_find(h->groups, group);

	return e ? ((struct holder *)table_record(e))->level->count : 0;
}
