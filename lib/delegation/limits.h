/* delegation/limits.h - the bounds of open requests (--limit): what is not the same in all programs
 */
#ifndef OUTBOARD_DELEGATION_LIMITS_H
#define OUTBOARD_DELEGATION_LIMITS_H

#include "server/limits.h"

/* Without --limit domain-pending: a quarter, but not less than one user may have. */
static inline size_t delegation_domain_pending(const struct pending_limits *l)
{
	static const struct opt_share quarter = {25, true};
	int64_t most =
		opt_share_of(l->domain_pending.n ? &l->domain_pending : &quarter, l->pending);

	if (!l->domain_pending.n && most < l->user_pending)
		most = l->user_pending < l->pending ? l->user_pending : l->pending;
	return (size_t)most;
}

#endif
