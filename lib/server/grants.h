/* server/grants.h - what servers grant to a component: XEP-0356 advertisements, versions 1 and 2
 *
 * A host tells a privileged component what it may do in a message after the handshake, and again
 * when that changes; the last one holds. No message: nothing is granted. A stranger that
 * can reach the component can send such a message from another domain: ask only about hosts that
 * are meant. Pure.
 */
#ifndef OUTBOARD_SERVER_GRANTS_H
#define OUTBOARD_SERVER_GRANTS_H

#include "xmpp/stanza.h"

#define NS_PRIVILEGE_1 "urn:xmpp:privilege:1"
#define NS_PRIVILEGE_2 "urn:xmpp:privilege:2"

enum grant {
	GRANT_ROSTER_GET = 1,
	GRANT_ROSTER_SET = 2,
	GRANT_MESSAGES = 4,	      /* message, type outgoing */
	GRANT_PRESENCE = 8,	      /* presence of the host's users */
	GRANT_CONTACTS_PRESENCE = 16, /* and of those in their rosters */
};

struct grants;

struct grants *grants_new(void);
/* NULL is allowed. */
void grants_free(struct grants *g);
/* Take in an advertisement. True if the stanza is one, and then nobody else handles it; *host,
 * borrowed from the stanza, is the host that sent it. */
bool grants_note(struct grants *g, const struct stanza *s, struct span *host);
/* The stream has ended: nothing is granted. */
void grants_clear(struct grants *g);
/* Whether this host has sent an advertisement. */
bool grants_known(const struct grants *g, struct span host);
/* Bits of enum grant. */
unsigned grants_of(const struct grants *g, struct span host);
/* NS_PRIVILEGE_1 or _2: the version that the host speaks, which wrappers must have, too. NULL: not
 * known. */
const char *grants_namespace(const struct grants *g, struct span host);

#endif
