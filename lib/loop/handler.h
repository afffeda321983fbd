/* loop/handler.h - a child process that stays and answers
 *
 * Started once, given work on its stdin and answering on its stdout in any order, restarted with
 * backoff (100 ms doubling to 30 s, reset after 10 s of life) when it dies. Its own process
 * group, ended with it; a clean environment (loop/child.h).
 *
 * The stream to it is either stanzas (reader and writer in their pipe form, through link.h) or
 * lines (NDJSON or names).
 */
#ifndef OUTBOARD_LOOP_HANDLER_H
#define OUTBOARD_LOOP_HANDLER_H

#include "loop/link.h"

enum handler_kind { HANDLER_STANZAS, HANDLER_LINES };

struct handler_config {
	enum handler_kind kind;
	char *const *argv; /* NULL ended, borrowed */
	/* limits; reader.kind is set by the module; HANDLER_LINES needs max_line_bytes */
	struct link_config link;
};

struct handler_ops {
	/* one stanza (any kind) or one line (without newline) of its output; anything else is
	 * logged */
	void (*stanza)(void *context, const struct stanza *s);
	void (*line)(void *context, struct span line);
	/* it has started (again) and takes work */
	void (*started)(void *context);
	/* it died, or could not be started (already logged): the work it held is lost */
	void (*died)(void *context);
	/* its stdin has room again after handler_congested() */
	void (*drained)(void *context);
};

struct handler;

/* Starts the child. */
struct handler *handler_new(struct loop *loop, const struct handler_config *config,
	const struct handler_ops *ops, void *context);
/* Close its stdin, discard its output until it ends, and kill it at deadline_ms. No callback is
 * called any more. */
void handler_free(struct handler *h, int64_t deadline_ms);
/* Stanzas appended here go to its stdin at the end of the turn; NULL while it is down. */
struct writer *handler_writer(struct handler *h);
/* One line to its stdin; false while it is down or full. */
bool handler_send_line(struct handler *h, struct span line);
bool handler_congested(const struct handler *h);
/* As link_blocked(); also while it is down. */
bool handler_blocked(const struct handler *h);
/* Stop reading its output (where it would go does not drain), or read again. Meanwhile it is not
 * expected to take input. */
void handler_hold(struct handler *h, bool hold);

#endif
