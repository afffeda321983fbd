/* share/outlet.h - the output to one instance
 *
 * Output that takes nothing more means that the instance does not read: it is stuck, and its owner
 * ends its stream. An instance may be slower than one user writes. So that this user's messages do
 * not stand before all that others want from it, of those that wait in the output a user and a
 * domain have the same share as of the open requests (by number; of 4 MiB, by size). When one has
 * waited for half a second, a domain has what is else a user's, and a user half of that.
 */
#ifndef OUTBOARD_SHARE_OUTLET_H
#define OUTBOARD_SHARE_OUTLET_H

#include <sys/queue.h>

#include "xmpp/shares.h"
#include "xmpp/stanza-error.h"
#include "xmpp/writer.h"

struct outlet {
	struct writer *writer; /* borrowed */
	bool stuck;
	struct shares *shares;
	size_t user_max;
	STAILQ_HEAD(, outlet_entry) waiting; /* private: what shares are held for */
};

/* max_bytes of the shares is not used. */
void outlet_open(struct outlet *o, struct writer *writer, const struct shares_config *shares);
void outlet_close(struct outlet *o);

/* Pass on what nobody has a share of. */
enum writer_status outlet_write(
	struct outlet *o, const struct stanza *stanza, const struct stanza_edit *edit);
/* Pass on what any user can send. Also WRITER_FULL if the share of its sender is used up. */
enum writer_status outlet_write_shared(
	struct outlet *o, const struct stanza *stanza, int64_t now_ms);
/* Note how something was written. */
enum writer_status outlet_wrote(struct outlet *o, enum writer_status status);
/* Answer a stanza of the instance with an error; text may be NULL. */
void outlet_refuse(
	struct outlet *o, const struct stanza *stanza, enum stanza_error e, const char *text);

#endif
