/* server/client-tree.h - libstrophe's tree of a stanza as bytes
 *
 * libstrophe prints its trees by recursion and forgets how prefixes were declared. This module does
 * not recurse, and loses no more than the library's parser has lost.
 */
#ifndef OUTBOARD_SERVER_CLIENT_TREE_H
#define OUTBOARD_SERVER_CLIENT_TREE_H

#include <stdbool.h>

#include <strophe.h>

#include "base/buf.h"

/* What the parser of the installed library does to attributes. */
struct client_quirks {
	bool prefixes_dropped; /* p:a='' overwrites a='' */
	bool lang_bare;	       /* xml:lang is kept as "lang" */
};
struct client_quirks client_quirks_find(xmpp_ctx_t *ctx);

/* Append the stanza to out. False if it does not fit. */
bool client_tree_print(struct buf *out, xmpp_stanza_t *root, bool lang_bare);

#endif
