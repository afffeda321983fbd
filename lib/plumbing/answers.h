/* plumbing/answers.h - the requests that the reader of our output has to answer, or that we answer
 * for it
 *
 * Each iq get or set that was handed to the reader is kept until the reader has answered it, or we
 * have. After ANSWERS_WAIT_MS we answer pings (XEP-0199) where `pings` is set, and all other
 * requests where `all` is set; without a reader we answer everything. We remember which requests we
 * have answered, so that none gets two answers.
 *
 * Bounded: beyond max requests the oldest one is forgotten; and so is a request without answer
 * after ANSWERS_KEEP_MS.
 */
#ifndef OUTBOARD_PLUMBING_ANSWERS_H
#define OUTBOARD_PLUMBING_ANSWERS_H

#include "xmpp/stanza-error.h"
#include "xmpp/turn.h"

#define ANSWERS_WAIT_MS 1000
#define ANSWERS_KEEP_MS (10 * 60 * 1000)

struct answers_config {
	bool pings, all;
	enum stanza_error error; /* our answer to requests other than pings */
	/* Borrowed: our domain, or, as a user, our bare JID. A user's server stamps `from`, and may
	 * leave out the account's own address. */
	const char *own;
	bool component;
	size_t max;
};

struct answers;

struct answers *answers_new(const struct answers_config *config);
void answers_free(struct answers *a);
/* A stanza was handed to the reader; it is kept if it is a request. */
void answers_asked(struct answers *a, const struct stanza *s, int64_t now_ms);
/* The reader answers. False: we have answered already, so this answer must not be sent. */
bool answers_given(struct answers *a, const struct stanza *s);
/* There is no reader any more: requests that wait are due now, later ones at once. */
void answers_reader_gone(struct answers *a);
/* Give the answers that are due; those that do not fit into the output stay due. */
void answers_tick(struct answers *a, struct turn *turn);
/* When answers_tick() has something to do. */
int64_t answers_deadline(const struct answers *a);

#endif
