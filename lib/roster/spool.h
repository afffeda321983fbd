/* roster/spool.h - names that a crash must not lose
 *
 * DIR/lock held while a process looks for journals of dead ones (inetd's instances share DIR)
 * DIR/names.*    one journal a process, locked (flock(2)) for as long as the process lives: lines
 *                "+NAME" and "-NAME"
 *
 * Invariants: when spool_add() has returned true the names are on the disk. Of a journal whose
 * process is gone the names are taken over by the next that starts, before the journal is removed.
 * So a name may be done twice, never not at all. The same name in two processes' journals is two:
 * one process being done with it does not take the other's away.
 */
#ifndef OUTBOARD_ROSTER_SPOOL_H
#define OUTBOARD_ROSTER_SPOOL_H

#include "base/span.h"

struct spool;

/* Open DIR (made with 0700 if it is not there) and take over what dead processes have left. NULL:
 * *status is the exit status; what is wrong has been logged. */
struct spool *spool_open(const char *dir, int *status);
/* Removes an empty journal; names in another one stay for the next process. NULL is allowed. */
void spool_free(struct spool *s);
/* Call fn with each name in it. fn may remove it. */
void spool_each(struct spool *s, void (*fn)(void *context, struct span name), void *context);
/* All or none. False: logged, the disk does not take them. */
bool spool_add(struct spool *s, const struct span *names, size_t count);
/* Done with it. */
void spool_remove(struct spool *s, struct span name);
bool spool_has(const struct spool *s, struct span name);
size_t spool_count(const struct spool *s);

/* Call fn for each line of a journal: a name was added, or is done. What has no newline was never
 * promised. Pure. */
void spool_parse(
	struct span text, void (*fn)(void *context, bool added, struct span name), void *context);

#endif
