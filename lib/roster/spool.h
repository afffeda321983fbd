/* roster/spool.h - names that a crash must not lose
 *
 * DIR/lock held while a process looks for journals of dead ones (inetd's instances share DIR)
 * DIR/names.*    one journal a process, locked (flock(2)) for as long as the process lives: lines
 *                "+NAME" and "-NAME"
 *
 * Invariants: when spool_add() has returned true the names are on the disk. The next process that
 * starts takes over the names of a journal whose process is gone, and then removes that journal. So
 * a name may be done twice, and is done at least once. A name in two processes' journals counts
 * twice: when one process is done with it, the other keeps it.
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
/* Add all names or none. False: the disk does not take them, which was logged. */
bool spool_add(struct spool *s, const struct span *names, size_t count);
/* Done with it. */
void spool_remove(struct spool *s, struct span name);
bool spool_has(const struct spool *s, struct span name);
size_t spool_count(const struct spool *s);

/* Call fn for each line of a journal: a name was added, or is done. A last line without newline
 * is ignored. Pure. */
void spool_parse(
	struct span text, void (*fn)(void *context, bool added, struct span name), void *context);

#endif
