#include "xmpp/fairqueue.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/deadline.h"
#include "base/err.h"
#include "base/table.h"
#include "xmpp/jid.h"

TAILQ_HEAD(entries, entry);
TAILQ_HEAD(users, user);
TAILQ_HEAD(domains, domain);

/* The records of three tables: items by id, users by bare JID, domains by their name. */
struct entry {
	struct fairqueue_item item; /* first: the caller's pointer is one to the entry */
	struct user *user;
	TAILQ_ENTRY(entry) next; /* while it waits */
};

struct user {
	struct domain *domain;
	struct entries waiting;
	TAILQ_ENTRY(user) next;
	uint32_t taken;
	bool ready; /* stands in its domain's queue */
};

struct domain {
	struct users ready_users;
	size_t users;
	bool ready; /* stands in the queue of domains */
	TAILQ_ENTRY(domain) next;
};

struct fairqueue {
	size_t max_taken;
	struct table *items, *users, *domains;
	struct domains ready_domains;
};

struct fairqueue *fairqueue_new(const struct fairqueue_config *config)
{
	struct fairqueue *q = xcalloc(1, sizeof(*q));

	q->max_taken = config->max_taken ? config->max_taken : SIZE_MAX;
	q->items = table_new(config->max_items, config->max_bytes, config->seed);
	/* each holds at least one item, so the bound of the items bounds these, too */
	q->users = table_new(SIZE_MAX, SIZE_MAX, config->seed);
	q->domains = table_new(SIZE_MAX, SIZE_MAX, config->seed);
	TAILQ_INIT(&q->ready_domains);
	return q;
}

void fairqueue_free(struct fairqueue *q)
{
	struct fairqueue_item *item;

	if (!q)
		return;
	while ((item = fairqueue_any(q)))
		fairqueue_remove(q, item);
	table_free(q->items);
	table_free(q->users);
	table_free(q->domains);
	free(q);
}

static struct domain *domain_of(struct fairqueue *q, struct span jid)
{
	struct span name = jid_domain(jid);
	struct table_entry *e = table_find(q->domains, name);
	struct domain *d;

	if (e)
		return table_record(e);
	d = table_record(table_add(q->domains, name, sizeof(*d), DEADLINE_NEVER));
	TAILQ_INIT(&d->ready_users);
	return d;
}

static struct user *user_of(struct fairqueue *q, struct span jid)
{
	struct span bare = jid_bare(jid);
	struct table_entry *e = table_find(q->users, bare);
	struct user *u;

	if (e)
		return table_record(e);
	u = table_record(table_add(q->users, bare, sizeof(*u), DEADLINE_NEVER));
	TAILQ_INIT(&u->waiting);
	u->domain = domain_of(q, jid);
	u->domain->users++;
	return u;
}

/* Queue the user at the end of its domain's turn order, or take it out, whichever is due now; the
 * same for the domain. */
static void user_update(struct fairqueue *q, struct user *u)
{
	struct domain *d = u->domain;
	bool ready = !TAILQ_EMPTY(&u->waiting) && u->taken < q->max_taken;

	if (ready && !u->ready)
		TAILQ_INSERT_TAIL(&d->ready_users, u, next);
	else if (!ready && u->ready)
		TAILQ_REMOVE(&d->ready_users, u, next);
	u->ready = ready;
	ready = !TAILQ_EMPTY(&d->ready_users);
	if (ready && !d->ready)
		TAILQ_INSERT_TAIL(&q->ready_domains, d, next);
	else if (!ready && d->ready)
		TAILQ_REMOVE(&q->ready_domains, d, next);
	d->ready = ready;
}

struct fairqueue_item *fairqueue_add(
	struct fairqueue *q, struct span id, struct span jid, struct span text)
{
	struct table_entry *e =
		table_add(q->items, id, sizeof(struct entry) + text.n, DEADLINE_NEVER);
	struct entry *entry;

	if (!e)
		return NULL;
	entry = table_record(e);
	entry->item.id = table_entry_key(e);
	span_pack((char *)(entry + 1), &text, (struct span *const[]){&entry->item.text}, 1);
	entry->user = user_of(q, jid);
	TAILQ_INSERT_TAIL(&entry->user->waiting, entry, next);
	user_update(q, entry->user);
	return &entry->item;
}

struct fairqueue_item *fairqueue_take(struct fairqueue *q)
{
	struct domain *d = TAILQ_FIRST(&q->ready_domains);
	struct user *u = d ? TAILQ_FIRST(&d->ready_users) : NULL;
	struct entry *entry = u ? TAILQ_FIRST(&u->waiting) : NULL;

	if (!entry)
		return NULL;
	TAILQ_REMOVE(&q->ready_domains, d, next);
	TAILQ_REMOVE(&d->ready_users, u, next);
	TAILQ_REMOVE(&u->waiting, entry, next);
	d->ready = u->ready = false; /* behind all others, if there is more */
	entry->item.taken = true;
	u->taken++;
	user_update(q, u);
	return &entry->item;
}

void fairqueue_remove(struct fairqueue *q, struct fairqueue_item *item)
{
	struct entry *entry = (struct entry *)item;
	struct user *u = entry->user;
	struct domain *d = u->domain;

	if (item->taken)
		u->taken--;
	else
		TAILQ_REMOVE(&u->waiting, entry, next);
	user_update(q, u);
	table_remove(q->items, table_entry_of(entry));
	if (u->taken || !TAILQ_EMPTY(&u->waiting))
		return;
	table_remove(q->users, table_entry_of(u));
	if (--d->users == 0)
		table_remove(q->domains, table_entry_of(d));
}

struct fairqueue_item *fairqueue_find(const struct fairqueue *q, struct span id)
{
	struct table_entry *e = table_find(q->items, id);

	return e ? &((struct entry *)table_record(e))->item : NULL;
}

struct fairqueue_item *fairqueue_any(const struct fairqueue *q)
{
	struct table_entry *e = table_earliest(q->items);

	return e ? &((struct entry *)table_record(e))->item : NULL;
}

size_t fairqueue_count(const struct fairqueue *q)
{
	return table_count(q->items);
}

size_t fairqueue_bytes(const struct fairqueue *q)
{
	return table_bytes(q->items);
}
