/* plumbing/answers.h - the requests that a reader has to answer, or we for it
 *
 * Each iq get or set that was handed to the reader is kept until the reader's answer passes, or we
 * have given one. We do so to a ping (XEP-0199) after ANSWERS_WAIT_MS where `pings` is set, to all
 * else then where `all` is set; and to everything once there is no reader any more. What we have
 * answered is remembered, so that nobody gets two answers.
 *
 * Bounded: beyond max requests the one that waits longest is forgotten, and so is what nobody has
 * answered in ANSWERS_KEEP_MS.
 */
#ifndef OUTBOARD_PLUMBING_ANSWERS_H
#define OUTBOARD_PLUMBING_ANSWERS_H

#include "xmpp/stanza-error.h"
#include "xmpp/turn.h"

#define ANSWERS_WAIT_MS 1000
#define ANSWERS_KEEP_MS (10 * 60 * 1000)

struct answers_config {
	bool pings, all;
	enum stanza_error error; /* for all that is no ping */
	/* Borrowed: our domain, or, as a user, our bare JID. A user's server stamps `from`, and may
	 * leave out the account's own address. */
	const char *own;
	bool component;
	size_t max;
};

struct answers;

struct answers *answers_new(const struct answers_config *config);
void answers_free(struct answers *a);
/* A request has been handed to the reader; others are not kept. */
void answers_asked(struct answers *a, const struct stanza *s, int64_t now_ms);
/* The reader answers. False: we have done so already, this one must not be sent. */
bool answers_given(struct answers *a, const struct stanza *s);
/* There is no reader any more: what waits is due now, what comes at once. */
void answers_reader_gone(struct answers *a);
/* Give the answers that are due; those that do not fit stay. */
void answers_tick(struct answers *a, struct turn *turn);
/* When answers_tick() has something to do. */
int64_t answers_deadline(const struct answers *a);

#endif
