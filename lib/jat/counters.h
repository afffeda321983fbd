/* jat/counters.h - what xmpp-jat-proxy counts, as a whole and for each session */
#ifndef OUTBOARD_JAT_COUNTERS_H
#define OUTBOARD_JAT_COUNTERS_H

#include "server/metrics.h"
#include "xmpp/balance.h"

enum counter {
	COUNT_REQUESTS,
	COUNT_ANSWERS,
	COUNT_RETRIES,
	COUNT_MESSAGES,
	COUNT_NO_SESSION,
	COUNT_TIMEOUT,
	COUNT_CONSTRAINT,
	COUNT_BAD_REQUEST,
	COUNT_NOT_IMPLEMENTED,
	COUNT_TOO_LARGE,
	COUNT_SESSION_LEFT,
	COUNT_STOPPED,
	COUNT_NO_FROM,
	COUNT_FOREIGN,
	COUNT_STRAY,
	COUNT_LATE,
	COUNT_IGNORED,
	COUNTERS,
};

/* Put the counters behind the n metrics in out; returns how many there are then. */
size_t counters_metrics(
	const uint64_t counters[COUNTERS], struct metric *out, size_t n, size_t max);
/* The same for each session there, at most 100: its target and a number. The labels stand in
 * `labels`, valid until it changes. */
size_t session_metrics(const struct balance *b, const struct span *targets, struct buf *labels,
	struct metric *out, size_t n, size_t max);

#endif
