/* jat/marks.h - after a crash: which answers are accepted by their token alone
 *
 * The predecessor's requests are not in our table, but the tokens of their answers verify. For one
 * --timeout from the first handshake (the grace) such an answer is taken, once for each key (token
 * and id), unless this process has answered that request or had it open, or a predecessor has left
 * a mark that it answered it itself.
 *
 * A mark is a hash of a request's key; it reveals nothing if the file that holds it leaks. Pure.
 */
#ifndef OUTBOARD_JAT_MARKS_H
#define OUTBOARD_JAT_MARKS_H

#include <stdint.h>

#include "base/span.h"

/* Characters of a mark. */
#define MARK_CHARS 32

struct marks_config {
	bool grace; /* whether there is to be a grace */
	int64_t grace_ms;
	size_t max, max_bytes; /* of the answers remembered during the grace, which ends when they
				  do not fit */
	uint64_t seed[2];
};

struct marks;

/* *config is copied. */
struct marks *marks_new(const struct marks_config *config);
void marks_free(struct marks *m);
/* Marks of predecessors, one a line; a last line that was cut off is no mark. */
void marks_restore(struct marks *m, struct span all);
/* The link is up: the grace begins with the first time. */
void marks_up(struct marks *m, int64_t now_ms);
/* Whether an answer with this key may be taken. If so it counts as taken, and no other one is. */
bool marks_take(struct marks *m, struct span key, int64_t now_ms);
/* A request of this process has been answered: no other answer with its key may be taken. */
void marks_answered(struct marks *m, struct span key, int64_t now_ms);
int64_t marks_deadline(const struct marks *m);
void marks_tick(struct marks *m, int64_t now_ms);

void mark_of(struct span key, char mark[MARK_CHARS + 1]);

#endif
