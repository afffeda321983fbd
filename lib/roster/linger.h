/* roster/linger.h - connections that are read for a while after their last answer
 *
 * When an answer comes before the whole request, closing the connection at once would reset it, and
 * the client might lose the answer. So what the client still sends is read and thrown away, for
 * LINGER_MS, up to LINGER_BYTES. Bounded: beyond LINGER_MAX connections, one is closed at once.
 */
#ifndef OUTBOARD_ROSTER_LINGER_H
#define OUTBOARD_ROSTER_LINGER_H

#include <sys/queue.h>

#include "loop/loop.h"

#define LINGER_MS 2000
#define LINGER_BYTES ((size_t)4 * 1024 * 1024)
#define LINGER_MAX 64

struct lingers {
	struct loop *loop;
	LIST_HEAD(, lingering) list;
	size_t count;
};

void lingers_init(struct lingers *l, struct loop *loop);
/* Closes them all. */
void lingers_free(struct lingers *l);
/* Read on from a duplicate of fd; the caller closes its own. */
void lingers_add(struct lingers *l, int fd);

#endif
