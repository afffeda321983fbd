/* delegation/limits.h - the bounds of open requests that both programs have (--limit)
 */
#ifndef OUTBOARD_DELEGATION_LIMITS_H
#define OUTBOARD_DELEGATION_LIMITS_H

#include "base/opt.h"

struct delegation_limits {
	int64_t pending, pending_bytes, user_pending;
	struct opt_share domain_pending;
	struct opt_list trusted;
};

#define DELEGATION_LIMITS_INIT                                                                     \
	{                                                                                          \
		.pending = 65536, .pending_bytes = 64 * 1024 * 1024, .user_pending = 256           \
	}

/* Without --limit domain-pending: a quarter, but not less than one user may have. */
static inline size_t delegation_domain_pending(const struct delegation_limits *l)
{
	static const struct opt_share quarter = {25, true};
	int64_t most =
		opt_share_of(l->domain_pending.n ? &l->domain_pending : &quarter, l->pending);

	if (!l->domain_pending.n && most < l->user_pending)
		most = l->user_pending < l->pending ? l->user_pending : l->pending;
	return (size_t)most;
}

/* Rows of --limit; c is a struct delegation_limits lvalue with static storage. */
#define DELEGATION_LIMITS(c)                                                                       \
	{"pending", 0, OPT_INT, NULL, "most open requests (default 65536)", &(c).pending,          \
		.min = 1, .max = 10000000},                                                        \
		{"pending-bytes", 0, OPT_BYTES, NULL,                                              \
			"most memory for open requests (default 64M)", &(c).pending_bytes,         \
			.min = 4096, .max = INT64_C(1) << 40},                                     \
		{"user-pending", 0, OPT_INT, NULL, "most open requests of one user (default 256)", \
			&(c).user_pending, .min = 1, .max = 10000000},                             \
		{"domain-pending", 0, OPT_SHARE, NULL,                                             \
			"most open requests of one other domain, or their part of all (default "   \
			"25%)",                                                                    \
			&(c).domain_pending, .min = 1, .max = 10000000},                           \
	{                                                                                          \
		"trusted", 0, OPT_LIST, NULL,                                                      \
			"domain whose users have neither of these two bounds", &(c).trusted        \
	}

#endif
