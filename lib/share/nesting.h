/* share/nesting.h - what a server asks its managing entity before any instance is there
 *
 * Right after the handshake a server asks for the features of each namespace that it delegates
 * (XEP-0355 7.2: disco#info with a node of urn:xmpp:delegation), and Prosody asks only once. So
 * these queries wait for the first instance. Bounded: 64, and each until its deadline; all others
 * are answered at once. Pure.
 */
#ifndef OUTBOARD_SHARE_NESTING_H
#define OUTBOARD_SHARE_NESTING_H

#include "xmpp/stanza.h"

struct nesting;

struct nesting *nesting_new(void);
void nesting_free(struct nesting *n);
/* Keep a request if it is such a query and there is room; whether it is kept. */
bool nesting_keep(struct nesting *n, const struct stanza *request, int64_t deadline_ms);
/* Take out the oldest if its deadline is not after until_ms. The stanza is valid until the next
 * call. */
bool nesting_take(struct nesting *n, int64_t until_ms, struct stanza *request);
size_t nesting_count(const struct nesting *n);
int64_t nesting_deadline(const struct nesting *n);

#endif
