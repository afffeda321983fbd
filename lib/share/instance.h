/* share/instance.h - the connection of an instance, from the server's side (XEP-0114)
 *
 * The peer opens a stream to the domain, proves that it knows the secret (SHA-1 of stream id and
 * secret, XEP-0114 3) and then exchanges stanzas. Until it has proved it, it may send 4 KiB and
 * take 10 s. Stream ids have 128 random bits; the proof is compared in constant time. Where the
 * owner allows it (a unix socket, a trusted peer) stanzas may also come without any stream around
 * them, as in a pipe.
 */
#ifndef OUTBOARD_SHARE_INSTANCE_H
#define OUTBOARD_SHARE_INSTANCE_H

#include "base/err.h"
#include "base/random.h"
#include "loop/link.h"

struct instance_config {
	struct span domain;	     /* normalised; borrowed */
	const struct buf *secret;    /* borrowed; its content at the time of the handshake counts */
	struct link_config link;     /* the reader's kind is set by the module */
	struct random_source random; /* for stream ids */
	struct err_limits *refused;  /* borrowed; bounds the warnings about others */
	bool bare_allowed;	     /* stanzas without a stream are taken, too */
};

struct instance;

struct instance_ops {
	/* It has proved that it knows the secret. instance_end() is allowed. */
	void (*came)(void *context, struct instance *i);
	/* After that: a stanza (or STANZA_OTHER). instance_end() is allowed. */
	void (*stanza)(void *context, struct instance *i, const struct stanza *s);
	/* It is gone, or was never up (the reason was logged): free what belongs to it. The
	 * module frees the instance after the call. */
	void (*gone)(void *context, struct instance *i);
};

/* fd is owned from now on. */
struct instance *instance_new(struct loop *loop, int fd, const struct instance_config *config,
	const struct instance_ops *ops, void *context);
/* End its stream, with a stream error (RFC 6120 4.9.3) unless condition is NULL; what is queued is
 * written as far as the socket takes it. gone is not called. */
void instance_end(struct instance *i, const char *condition);
/* Whether it has proved that it knows the secret. */
bool instance_is_up(const struct instance *i);
/* Only while it is up: */
struct writer *instance_writer(struct instance *i);
bool instance_congested(const struct instance *i);
/* Leave its stanzas unread, or read them again. */
void instance_hold(struct instance *i, bool hold);

/* The owner's. */
void instance_own(struct instance *i, void *owner);
void *instance_owner(const struct instance *i);

#endif
