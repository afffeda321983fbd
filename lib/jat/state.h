/* jat/state.h - what a proxy keeps in its state folder (--state-dir or $STATE_DIRECTORY)
 *
 * "running" is there from the start until a clean stop. Found at the start, it says that the
 * predecessor crashed: answers in flight get their grace.
 * "subscribers" holds who subscribed to our presence. Changes are appended, a line each, and not
 * synced: a kill loses none, a power failure perhaps the last ones. It is written whole at the
 * start, and when most of its lines are dead.
 * "answered" and, when that has grown, "answered.old" hold marks (jat/marks.h) of the requests that
 * we have answered although their session may do so yet: a successor in its grace must not answer
 * them again, for ten minutes or as long as a mark is young. A young one (--timeout) is never given
 * up; so the files are bounded by the most marks that may be made while one is young.
 */
#ifndef OUTBOARD_JAT_STATE_H
#define OUTBOARD_JAT_STATE_H

#include "base/buf.h"

struct state;

/* dir: --state-dir or NULL. Returns NULL where no folder is given, or with *status set (not
 * EXIT_DONE) after logging. timeout_ms: --timeout. */
struct state *state_open(const char *dir, int64_t timeout_ms, int *status);
/* clean: we stop cleanly, so the next run finds no crash. */
void state_close(struct state *s, bool clean);
/* Whether the predecessor crashed. */
bool state_crashed(const struct state *s);

/* Append the file of subscribers to out. */
void state_read_subscribers(struct state *s, struct buf *out);
/* Replace the file of subscribers. synced: wait for the disk. */
void state_write_subscribers(struct state *s, struct span all, bool synced);
/* Append the change of one subscription to the file. */
void state_subscribed(struct state *s, bool there, struct span user, struct span address);
/* Whether most lines of the file are dead, now that there are `count` subscribers. */
bool state_subscribers_grown(const struct state *s, size_t count);

/* Append the predecessors' marks that are not too old to out, a line each; young: only those. */
void state_read_marks(struct state *s, bool young, struct buf *out);
void state_mark(struct state *s, const char *mark);

#endif
