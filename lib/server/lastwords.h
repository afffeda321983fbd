/* server/lastwords.h - requests that cross the end of a component's stream
 *
 * Until the server has read our end tag it sends us requests. They are answered on another stream,
 * which is opened for nothing else, and so on until a stream ends with nothing late.
 */
#ifndef OUTBOARD_SERVER_LASTWORDS_H
#define OUTBOARD_SERVER_LASTWORDS_H

#include "server/component.h"

#define LASTWORDS_MS 5000 /* the time for all further streams together */
#define LASTWORDS_STREAMS 20

struct lastwords {
	struct buf answers; /* for the next stream */
	size_t count;
	struct loop *loop;
	struct component *component;
	struct loop_timer end;
};

void lastwords_init(struct lastwords *l);
/* To be called from component_ops.late: true if it is a request, which will be answered. */
bool lastwords_note(struct lastwords *l, const struct stanza *s);
/* End the stream, and as many further ones as it takes. Runs the loop, in which nothing else may be
 * left; SIGTERM gives up. Requests without an answer have been logged. */
void lastwords_say(struct lastwords *l, struct loop *loop, struct component *component);

#endif
