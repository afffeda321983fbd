/* plumbing/local.h - the local side of xmpp-connect: a pair of descriptors that stanzas come from
 * and go to, as XML or as JSON objects
 */
#ifndef OUTBOARD_PLUMBING_LOCAL_H
#define OUTBOARD_PLUMBING_LOCAL_H

#include "loop/sink.h"
#include "loop/source.h"
#include "plumbing/json-input.h"
#include "server/login.h"
#include "xmpp/stanza-error.h"

struct local {
	struct reader_config limits;
	struct source *source;
	struct json_input *objects; /* NULL: stanzas are XML */
	struct sink *sink;
	bool held;
	bool broken; /* the output takes no more, for good: set by the owner */
};

struct local_config {
	const struct login_config *login; /* for the limits */
	const char *name;		  /* of the input, for the log; borrowed */
	int in_fd, out_fd;		  /* borrowed */
	bool json;
};

/* The ops are borrowed. With json, source_ops->line has to call json_input_line(), and
 * source_ops->ended json_input_end(). */
void local_open(struct local *l, struct loop *loop, const struct local_config *config,
	const struct source_ops *source_ops, const struct sink_ops *sink_ops, void *context);
/* Also of one that was not opened, all zero. */
void local_close(struct local *l);
/* Put out a stanza; nothing happens once the output is broken. False: there is no room. */
bool local_put(struct local *l, const struct stanza *s);
/* Put out an iq error, as if it had come from the server. */
bool local_put_error(struct local *l, struct span to, struct span from, struct span id,
	enum stanza_error error, const char *text);

#endif
