/* jat/items.h - the client's own address in what disco#items lists (XEP-0030 4)
 *
 * A client that implements a service names itself in its lists of items (ad-hoc commands, nodes).
 * A user who follows such an item would bypass the proxy, so a target's own address there becomes
 * the address that was asked. Nothing else of a payload is ever changed.
 */
#ifndef OUTBOARD_JAT_ITEMS_H
#define OUTBOARD_JAT_ITEMS_H

#include "xmpp/reader.h"

struct items_config {
	const struct span *targets; /* normalised JIDs, bare or full */
	size_t targets_count;
	struct span asked;
};

/* Append s with the items' addresses changed to out. False: there was nothing to change, and out
 * holds nothing of use. deep is a reader that indexes whole stanzas. */
bool items_rewrite(const struct items_config *config, const struct stanza *s, struct reader *deep,
	struct buf *out);

#endif
