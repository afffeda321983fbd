/* xmpp/jsonobjects.h - lines put together to JSON objects
 *
 * An object may stand on several lines (as jq prints it). One that is not closed when a line begins
 * with '{' in its first column is broken off there, and the next one begins. What is no object is
 * handed over a line at a time: whoever parses it says what it is.
 */
#ifndef OUTBOARD_XMPP_JSONOBJECTS_H
#define OUTBOARD_XMPP_JSONOBJECTS_H

#include "base/buf.h"

struct jsonobjects {
	struct buf text;  /* the object so far; empty: none has begun */
	size_t first;	  /* the line where it began */
	size_t depth;	  /* of brackets that are open */
	size_t max_bytes; /* of an object */
	bool skipping;	  /* to the next line that begins with '{' */
	bool given;	  /* text has been handed over */
};

void jsonobjects_init(struct jsonobjects *o, size_t max_bytes);
void jsonobjects_free(struct jsonobjects *o);
/* Take a line, without its newline. True: *object is a whole one, or a line that is none, valid
 * until the next call; it began on line o->first. *broken: the line where an object began that is
 * broken off now, else 0; *why says so (static). Both may happen at once. */
bool jsonobjects_line(struct jsonobjects *o, struct span line, size_t number, struct span *object,
	size_t *broken, const char **why);
/* At the end of input: as *broken. */
size_t jsonobjects_end(struct jsonobjects *o, const char **why);
/* Whether an object has begun and is not whole. */
bool jsonobjects_inside(const struct jsonobjects *o);

#endif
