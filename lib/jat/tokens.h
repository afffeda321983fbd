/* jat/tokens.h - the two domains of a proxy, and what stands behind them
 *
 * D is the domain that users ask, A where tokens stand (A/TOKEN): the same, unless the proxy has a
 * reply domain. A user whose address fits no encoding gets a handle (jat/alias.h).
 * In plain everything is a token: there one that does not look like a user's address is taken for
 * a token only while a request with it is open.
 */
#ifndef OUTBOARD_JAT_TOKENS_H
#define OUTBOARD_JAT_TOKENS_H

#include "jat/alias.h"
#include "jat/jat.h"
#include "xmpp/shares.h"

struct tokens {
	struct jat jat;
	struct span own, served; /* A and D */
	bool apart;		 /* the proxy has a reply domain: A is not D */
	struct alias_table *aliases;
	struct table *short_open; /* in plain: tokens of open requests that do not look like a
				     user's address */
	struct buf address, text; /* see tokens_make(), tokens_read() */
};

/* What jat points to is borrowed until the end; aliases is taken over. */
void tokens_init(struct tokens *t, const struct jat *jat, struct alias_table *aliases,
	const uint64_t seed[2]);
void tokens_free(struct tokens *t);

/* Whether domain is this one or below it. */
bool domain_is_at(struct span domain, struct span own);
/* Whether an address is at D or A, or below. */
bool tokens_ours(const struct tokens *t, struct span jid);

/* A/TOKEN for a user who asked `asked` (absent: D) into t->address; returns the token in it.
 * Absent: the table of handles is full, which has shares. */
struct span tokens_make(struct tokens *t, const struct shares *shares, struct span asked,
	struct span user, int64_t now_ms);
/* What stands in the place of a token in an address A/TOKEN, whatever it is. False: nothing. */
bool tokens_find(const struct tokens *t, struct span address, struct span *token);
/* What the token in an address A/TOKEN says. The spans point into t->text or the handles. False: it
 * is none. */
bool tokens_read(struct tokens *t, struct span address, struct span *token, struct span *user,
	struct span *asked);
/* A request with this token is open from now on, or no more. */
void tokens_opened(struct tokens *t, struct span token);
void tokens_closed(struct tokens *t, struct span token);

#endif
