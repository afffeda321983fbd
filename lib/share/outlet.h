/* share/outlet.h - the output to one instance
 *
 * Output that takes nothing more means that the instance does not read: it is stuck, and its owner
 * ends its stream.
 */
#ifndef OUTBOARD_SHARE_OUTLET_H
#define OUTBOARD_SHARE_OUTLET_H

#include "xmpp/stanza-error.h"
#include "xmpp/writer.h"

struct outlet {
	struct writer *writer; /* borrowed */
	bool stuck;
};

static inline enum writer_status outlet_wrote(struct outlet *o, enum writer_status status)
{
	o->stuck |= status == WRITER_FULL;
	return status;
}

static inline enum writer_status outlet_write(
	struct outlet *o, const struct stanza *stanza, const struct stanza_edit *edit)
{
	return outlet_wrote(o, writer_stanza(o->writer, stanza, edit));
}

/* Answer a stanza of the instance with an error; text may be NULL. */
static inline void outlet_refuse(
	struct outlet *o, const struct stanza *stanza, enum stanza_error e, const char *text)
{
	outlet_wrote(o, stanza_error_reply(o->writer, stanza, e, text));
}

#endif
