/* xmpp/fairqueue.h - a queue that serves users in turns
 *
 * Each user (a bare JID; an address without localpart is one, too) has a queue of their own. The
 * queues are served one item at a time, in turns over the domains, and within a domain over its
 * users: so one user or domain with many items does not delay the others by more than a turn.
 * With max_taken, a user is passed over while that many of the user's items are taken and not yet
 * removed.
 *
 * Bounded in items and bytes. All operations take O(log n) at most.
 */
#ifndef OUTBOARD_XMPP_FAIRQUEUE_H
#define OUTBOARD_XMPP_FAIRQUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

struct fairqueue_item {
	struct span id;	  /* the key, owned with the item */
	struct span text; /* owned with the item */
	void *owner;	  /* whatever the caller keeps with it */
	bool taken;
};

struct fairqueue_config {
	size_t max_items, max_bytes;
	size_t max_taken; /* of one user at once; 0: any number */
	uint64_t seed[2]; /* of the hashes */
};

struct fairqueue;

struct fairqueue *fairqueue_new(const struct fairqueue_config *config);
void fairqueue_free(struct fairqueue *q);

/* Queue a copy of text for this user under an id that is not in the queue. NULL: a bound is
 * reached. */
struct fairqueue_item *fairqueue_add(
	struct fairqueue *q, struct span id, struct span jid, struct span text);
/* The item whose turn it is, which stays in the queue's count until it is removed. NULL: nothing
 * waits, or only what is passed over. */
struct fairqueue_item *fairqueue_take(struct fairqueue *q);
/* Remove an item, taken or still waiting. */
void fairqueue_remove(struct fairqueue *q, struct fairqueue_item *item);
/* NULL: there is none of this id. */
struct fairqueue_item *fairqueue_find(const struct fairqueue *q, struct span id);
/* Any item, NULL when there is none: for the end. */
struct fairqueue_item *fairqueue_any(const struct fairqueue *q);
size_t fairqueue_count(const struct fairqueue *q);
size_t fairqueue_bytes(const struct fairqueue *q);

#endif
