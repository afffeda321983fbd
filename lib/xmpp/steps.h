/* xmpp/steps.h - the worker that a conversation belongs to
 *
 * A request of several steps (an ad-hoc command, a file transfer) makes sense only to the worker
 * that took its first step. Remembered by a key of bytes for an owner (the user), so many for each;
 * when the table is full the oldest entry of the owner with the most entries is forgotten. An entry
 * holds its worker; it is forgotten when it has not been used for its time. Pure.
 */
#ifndef OUTBOARD_XMPP_STEPS_H
#define OUTBOARD_XMPP_STEPS_H

#include "base/buf.h"
#include "xmpp/balance.h"
#include "xmpp/shares.h"

/* What users need: conversations of one user, and how long one may pause. */
#define STEPS_OF_ONE 16
#define STEP_LIFE_MS (60 * 60 * 1000)

struct steps_config {
	size_t max, max_bytes;
	size_t max_of_one; /* of one owner; the oldest goes */
	int64_t life_ms;   /* after the last use */
	uint64_t seed[2];
	struct balance *balance;     /* borrowed */
	const struct shares *shares; /* borrowed; only for steps_note_payload() */
};

struct steps;

/* *config is copied. */
struct steps *steps_new(const struct steps_config *config);
void steps_free(struct steps *t);
/* From now on key belongs to w. group: what owner counts under (holdings.h). */
void steps_note(struct steps *t, struct span group, struct span owner, struct span key,
	struct worker *w, int64_t now_ms);
/* The worker of key, if it is there; NULL. */
struct worker *steps_find(struct steps *t, struct span key, int64_t now_ms);
int64_t steps_deadline(const struct steps *t);
void steps_tick(struct steps *t, int64_t now_ms);

/* Whether the request s belongs to a conversation by its payload: a sessionid (XEP-0050) or sid
 * (XEP-0047, 0065, 0095, 0166). *w: that conversation's worker, if it is there; else NULL. s needs
 * two levels indexed. */
bool steps_of(struct steps *t, const struct stanza *s, struct worker **w, int64_t now_ms);
/* w has sent s, or s was sent to it: from now on the conversation that s belongs to, if to any, is
 * w's. user: the other side of that conversation. */
void steps_note_payload(struct steps *t, const struct stanza *s, struct span user, struct worker *w,
	int64_t now_ms);

#endif
