/* server/limits.h - the bounds that several programs have, and their rows for opt_program.limits
 */
#ifndef OUTBOARD_SERVER_LIMITS_H
#define OUTBOARD_SERVER_LIMITS_H

#include "base/opt.h"
#include "xmpp/jid.h"
#include "xmpp/reader.h"
#include "xmpp/shares.h"

/* Of a stream of stanzas that is read and written. */
struct stream_limits {
	int64_t stanza_bytes, depth, attributes;
	int64_t send_bytes; /* -1: WRITER_MAX_SEND_BYTES to a server, none in a pipe */
	int64_t queue_bytes;
};

#define STREAM_LIMITS_INIT(most_queue_bytes)                                                       \
	{                                                                                          \
		.stanza_bytes = READER_MAX_STANZA_BYTES, .depth = READER_MAX_DEPTH,                \
		.attributes = READER_MAX_ATTRIBUTES, .send_bytes = -1,                             \
		.queue_bytes = (most_queue_bytes)                                                  \
	}

/* Rows for a struct stream_limits: depth, attributes. */
extern const struct opt reader_limits[];
/* These and queue-bytes. */
extern const struct opt stream_limits[];

/* A reader with these bounds. */
struct reader_config limits_of_reader(
	const struct stream_limits *limits, enum reader_kind kind, enum reader_index index);

/* Of open requests. */
struct pending_limits {
	int64_t pending, pending_bytes, user_pending;
	struct opt_share domain_pending;
	struct opt_list trusted;
};

#define PENDING_LIMITS_INIT                                                                        \
	{                                                                                          \
		.pending = 65536, .pending_bytes = 64 * 1024 * 1024, .user_pending = 256           \
	}

/* The bounds as xmpp/shares.h has them. domain_pending: of one domain. */
struct shares_config limits_of_shares(
	const struct pending_limits *limits, size_t domain_pending, const struct jid_list *trusted);

/* Rows for a struct pending_limits: pending, pending-bytes, user-pending, domain-pending, trusted.
 */
extern const struct opt pending_limits[];

#endif
