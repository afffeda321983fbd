/* plumbing/iq-payload.h - the one payload of xmpp-iq: of an operand, an option, or standard input
 *
 * The payload is put into an iq and read as a stanza, so that what is no single element is found
 * before anything is sent or connected to.
 */
#ifndef OUTBOARD_PLUMBING_IQ_PAYLOAD_H
#define OUTBOARD_PLUMBING_IQ_PAYLOAD_H

#include "base/buf.h"
#include "plumbing/iq.h"
#include "xmpp/stanza.h"

struct payload {
	const struct iq_config *config; /* borrowed */
	struct buf text;		/* a stream's header and the iq */
	struct reader *reader;
	struct stanza stanza; /* the iq, without to, from and id; after payload_end() */
};

void payload_init(struct payload *p, const struct iq_config *config);
void payload_free(struct payload *p);
/* Whether standard input is the payload. */
bool payload_is_read(const struct iq_config *config);

enum payload_status {
	PAYLOAD_MORE,
	PAYLOAD_READ,
	PAYLOAD_TOO_LARGE,
	PAYLOAD_ERROR, /* errno says which */
};
/* Read once from fd. */
enum payload_status payload_read(struct payload *p, int fd);
/* All of it is there. What is wrong with it (static, or valid as long as p), or NULL: then
 * p->stanza is valid as long as p. */
const char *payload_end(struct payload *p);

#endif
