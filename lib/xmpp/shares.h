/* xmpp/shares.h - how much of a bounded table one user or one domain may fill
 *
 * What is counted belongs to a bare JID and to its domain. A user may have so many entries and the
 * same part of the bytes (an eighth at least); a domain, too, except for the domains that are our
 * own. An address without localpart (a component: a gateway, another proxy) stands for many users
 * and has no share as a user, only that of its domain. A trusted domain has no bounds but the
 * table's. One entry alone is never over a share of bytes. Pure.
 */
#ifndef OUTBOARD_XMPP_SHARES_H
#define OUTBOARD_XMPP_SHARES_H

#include <stdint.h>

#include "base/span.h"

struct shares_config {
	size_t max, max_bytes;		  /* of the whole table */
	size_t user_max;		  /* entries of one bare JID; 0: no bound */
	size_t domain_max;		  /* entries of one domain; 0: no bound */
	const struct span *own, *trusted; /* domains, borrowed */
	size_t own_count, trusted_count;
	uint64_t seed[2];
};

/* What one entry holds of the shares; stands in the entry. Zeroed: nothing. */
struct share {
	uint64_t user, domain; /* hashes of the names; 0: none is counted */
	size_t bytes;
};

struct shares;

/* *config is copied. */
struct shares *shares_new(const struct shares_config *config);
void shares_free(struct shares *s);
/* Take one entry of so many bytes for an address. False: over a share, nothing was taken. */
bool shares_take(struct shares *s, struct span jid, size_t bytes, struct share *share);
/* Take one for a table that gives up nothing before its time: it has room for `left` more. A user
 * may have half as many entries as are left, a domain as many. So whoever has most is refused
 * first, and there is always room for others. */
bool shares_take_left(
	struct shares *s, struct span jid, size_t left, size_t bytes, struct share *share);
/* The entry takes more bytes. False: over a share, nothing was taken. */
bool shares_more(struct shares *s, struct share *share, size_t bytes);
void shares_give(struct shares *s, struct share *share);
/* What an address counts under where a table is full (base/holdings.h): its domain, but each user
 * of our own domains alone. */
struct span shares_group(const struct shares *s, struct span jid);

#endif
