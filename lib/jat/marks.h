/* jat/marks.h - after a crash: which answers are accepted by their token alone
 *
 * The predecessor's requests are not in our table, but the tokens of their answers verify. For one
 * --timeout from the first handshake (the grace) such an answer is taken, once for each key (token
 * and id), unless this process has answered that request or had it open, or a predecessor has left
 * a mark that it answered it itself.
 *
 * A mark is a hash of a request's key; it reveals nothing if the file that holds it leaks. It is
 * young for one --timeout, and then it is never given up. So that marks are bounded nevertheless,
 * each open request holds a place for one, and the user with most gets no more places
 * (shares_take_left()). Answers taken in the grace are bounded in the same way: the grace ends
 * first for whoever has most of them. Pure.
 */
#ifndef OUTBOARD_JAT_MARKS_H
#define OUTBOARD_JAT_MARKS_H

#include <stdint.h>

#include "xmpp/shares.h"

/* Characters of a mark. */
#define MARK_CHARS 32

struct marks_config {
	bool grace; /* whether there is to be a grace */
	int64_t timeout_ms;
	size_t max;		/* young marks and places; answers remembered in the grace */
	const struct span *own; /* domains that are no group (xmpp/shares.h), borrowed */
	size_t own_count;
	uint64_t seed[2];
};

struct marks;
/* A place for the mark of a request. Zeroed: none is held. */
struct mark_place {
	struct share share;
	bool held;
};

/* *config is copied. */
struct marks *marks_new(const struct marks_config *config);
void marks_free(struct marks *m);
/* Marks of predecessors, one a line; a last line that was cut off is no mark. */
void marks_restore(struct marks *m, struct span all);
/* Those that are young take places for a --timeout from now. */
void marks_restore_young(struct marks *m, struct span young, int64_t now_ms);
/* The link is up: the grace begins with the first time. */
void marks_up(struct marks *m, int64_t now_ms);
/* Whether an answer to a user with this key may be taken. If so it counts as taken, and no other
 * one is. */
bool marks_take(struct marks *m, struct span user, struct span key, int64_t now_ms);
/* A request of this process has been answered: no other answer with its key may be taken. */
void marks_answered(struct marks *m, struct span user, struct span key, int64_t now_ms);

/* Hold a place for a request of a user. False: the user, or everybody, has too many. */
bool marks_reserve(struct marks *m, struct span user, struct mark_place *place);
/* The request needs no mark. */
void marks_release(struct marks *m, struct mark_place *place);
/* Its mark was made and is young from now on. The place is no longer the caller's. */
void marks_made(struct marks *m, struct mark_place *place, int64_t now_ms);
/* Young marks and places. */
size_t marks_count(const struct marks *m);

int64_t marks_deadline(const struct marks *m);
void marks_tick(struct marks *m, int64_t now_ms);

void mark_of(struct span key, char mark[MARK_CHARS + 1]);

#endif
