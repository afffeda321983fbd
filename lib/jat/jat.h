/* jat/jat.h - Jabber Address Translation: a JID inside the resource of another
 *
 * jat_encode() turns a JID (and the address of the proxy that was asked) into a
 * TOKEN that is a valid resourcepart; jat_decode() turns it back. Pure: keys are
 * passed in. The three encodings are described in jat-encode(1).
 *
 *   sealed  KEYID base64url(SIV || ciphertext), AES-SIV-CMAC-256 (RFC 5297),
 *           associated data = proxy domain, nonce = "jat1" KEYID,
 *           plaintext = 2 bytes length of asked, asked, JID
 *   signed  KEYID base64url(MAC) "." JID, or KEYID base64url(MAC) ".:" N ":" ASKED JID where
 *           another address than the bare domain was asked, N its length in decimal.
 *           MAC = the first 16 bytes of HMAC-SHA-256 over KEYID, domain and asked (each after
 *           its length in 2 bytes) and JID, with HMAC-SHA-256(key, "outboard jat signed") as key
 *   plain   the JID
 *
 * base64url has no padding, and bits that mean nothing are zero: there is one spelling of a
 * token. Where tokens stand at a domain of their own (--reply-domain), that is the associated data,
 * and an address asked that is the bare domain of the users is left out as ever.
 * A token stands for one address at one domain; changing any byte of a sealed or signed
 * one makes it invalid.
 */
#ifndef OUTBOARD_JAT_JAT_H
#define OUTBOARD_JAT_JAT_H

#include "base/buf.h"
#include "base/span.h"

enum jat_encoding { JAT_SEALED, JAT_SIGNED, JAT_PLAIN }; /* order of "sealed|signed|plain" */

#define JAT_KEY_BYTES 32
#define JAT_MAX_KEYS 62

/* Keys in the order of the file: the first encodes, all decode. Their schedules are computed once,
 * a token costs no allocation. Wiped when freed; not to be used by two threads at once. */
struct jat_keys;

/* Parse a key file: lines "KEYID SP 64 hex digits", '#' comments, blank lines. KEYID is one of
 * 0-9A-Za-z, each once. NULL if malformed or without a key: *line is the line (0: no key at all).
 */
struct jat_keys *jat_keys_parse(struct span file, size_t *line);
/* One key with id '0' from random bytes (drawn by the caller). */
struct jat_keys *jat_keys_random(const unsigned char bytes[JAT_KEY_BYTES]);
/* The text of a new key file holding that one key. */
void jat_keys_format(const unsigned char bytes[JAT_KEY_BYTES], struct buf *out);
void jat_keys_free(struct jat_keys *keys);
size_t jat_keys_count(const struct jat_keys *keys);

struct jat {
	enum jat_encoding encoding;
	struct span domain;    /* where tokens stand, normalised, borrowed */
	struct jat_keys *keys; /* borrowed; NULL only for plain */
	/* what users ask, if that is another domain (--reply-domain); else absent */
	struct span served;
};

enum jat_status {
	JAT_OK,
	JAT_DOES_NOT_FIT, /* encode: over 1023 bytes or resourceprep would change it */
	JAT_INVALID,	  /* decode: not canonical, unknown key, does not verify, not a JID */
};

/* Append the token of jid to out (nothing otherwise). jid must be one for which jid_split() holds,
 * asked, the address of the proxy that was asked, one at its domain or below ("proxy.domain/x",
 * "x@proxy.domain"); the bare domain or an absent span are the same. plain ignores asked. */
enum jat_status jat_encode(
	const struct jat *jat, struct span asked, struct span jid, struct buf *out);
/* Decode a token, which must not point into out. On JAT_OK *jid and *asked (the bare domain where
 * that was asked; for plain always) point into out, to which they were appended (nothing is
 * appended otherwise). Both are valid JIDs, asked at the domain or below. */
enum jat_status jat_decode(const struct jat *jat, struct span token, struct buf *out,
	struct span *jid, struct span *asked);

/* Whether a token has the form of JAT_SEALED or of JAT_SIGNED: none has both. */
enum jat_encoding jat_form(struct span token);

#endif
