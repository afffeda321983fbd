/* jat/siv.h - AES-SIV (RFC 5297) of many short texts with the same associated data
 *
 * What S2V makes of the associated data and the nonce is the same for all of them: it is computed
 * once. That is half of what nettle's siv-cmac does for a token. The CMAC, the counter mode and the
 * cipher are nettle's.
 */
#ifndef OUTBOARD_JAT_SIV_H
#define OUTBOARD_JAT_SIV_H

#include <nettle/cmac.h>

#include "base/span.h"

#define SIV_KEY_BYTES 32
#define SIV_TAG_BYTES 16

struct siv {
	struct cmac_aes128_ctx mac;
	struct aes128_ctx cipher;
	unsigned char begun[SIV_TAG_BYTES]; /* S2V of the associated data and the nonce */
};

void siv_set_key(struct siv *siv, const unsigned char key[SIV_KEY_BYTES]);
/* Before the first text, and for other associated data. */
void siv_set_associated(struct siv *siv, struct span data, struct span nonce);
/* Tag and ciphertext of n bytes, together n + SIV_TAG_BYTES, into sealed. */
void siv_seal(struct siv *siv, size_t n, unsigned char *sealed, const unsigned char *plain);
/* n bytes into plain. False: sealed was not sealed with this key and associated data. */
bool siv_unseal(struct siv *siv, size_t n, unsigned char *plain, const unsigned char *sealed);

#endif
