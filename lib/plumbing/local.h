/* plumbing/local.h - the local side of xmpp-connect: a pair of descriptors that stanzas come from
 * and go to, as XML or as JSON objects
 */
#ifndef OUTBOARD_PLUMBING_LOCAL_H
#define OUTBOARD_PLUMBING_LOCAL_H

#include "loop/sink.h"
#include "loop/source.h"
#include "server/login.h"
#include "xmpp/stanza-error.h"

struct local_config {
	const struct login_config *login; /* for the limits */
	const char *name;		  /* of the input, for the log; borrowed */
	int in_fd, out_fd;		  /* borrowed */
	bool json;
};

struct local_ops {
	void (*stanza)(void *context, const struct stanza *s);
	void (*bad)(void *context, const char *what, size_t line);
	/* The input has ended; error: an errno, 0 for its proper end. */
	void (*ended)(void *context, int error);
	/* The output takes no more, for good. */
	void (*broken)(void *context, int error);
};

struct local;

struct local *local_new(struct loop *loop, const struct local_config *config,
	const struct local_ops *ops, void *context);
/* NULL is fine. */
void local_free(struct local *l);
/* Put out a stanza; nothing happens once the output is broken. False: there is no room. */
bool local_put(struct local *l, const struct stanza *s);
/* Put out an iq error, as if it had come from the server. */
bool local_put_error(struct local *l, struct span to, struct span from, struct span id,
	enum stanza_error error, const char *text);
bool local_broken(const struct local *l);
/* Whether the server should not be read for now. */
bool local_congested(const struct local *l);
/* Do not read the input for now. */
void local_hold(struct local *l, bool hold);
/* Read the input no more. */
void local_stop(struct local *l);
/* Write what waits, until deadline_ms. False if something is left; *error is the errno, or 0. */
bool local_flush(struct local *l, int64_t deadline_ms, int *error);

#endif
