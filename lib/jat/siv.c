#include "jat/siv.h"

#include <nettle/aes.h>
#include <nettle/ctr.h>
#include <nettle/memops.h>

/* RFC 5297 2.3: times x in the field. */
static void dbl(unsigned char block[SIV_TAG_BYTES])
{
	unsigned char carry = (unsigned char)(block[0] >> 7 ? 0x87 : 0);

	for (int i = 0; i < SIV_TAG_BYTES - 1; i++)
		block[i] = (unsigned char)(block[i] << 1 | block[i + 1] >> 7);
	block[SIV_TAG_BYTES - 1] = (unsigned char)(block[SIV_TAG_BYTES - 1] << 1 ^ carry);
}

static void mac_of(
	struct siv *siv, size_t n, const unsigned char *bytes, unsigned char mac[SIV_TAG_BYTES])
{
	cmac_aes128_update(&siv->mac, n, bytes);
	cmac_aes128_digest(&siv->mac, SIV_TAG_BYTES, mac);
}

void siv_set_key(struct siv *siv, const unsigned char key[SIV_KEY_BYTES])
{
	cmac_aes128_set_key(&siv->mac, key);
	aes128_set_encrypt_key(&siv->cipher, key + SIV_KEY_BYTES / 2);
}

void siv_set_associated(struct siv *siv, struct span data, struct span nonce)
{
	static const unsigned char zero[SIV_TAG_BYTES];
	const struct span strings[] = {data, nonce};
	unsigned char mac[SIV_TAG_BYTES];

	mac_of(siv, sizeof(zero), zero, siv->begun);
	for (int i = 0; i < 2; i++) {
		dbl(siv->begun);
		mac_of(siv, strings[i].n, (const unsigned char *)strings[i].p, mac);
		memxor(siv->begun, mac, sizeof(mac));
	}
}

/* RFC 5297 2.4: the last string of S2V. */
static void tag_of(struct siv *siv, size_t n, const unsigned char *plain, unsigned char *tag)
{
	unsigned char last[SIV_TAG_BYTES];

	memcpy(last, siv->begun, sizeof(last));
	if (n >= SIV_TAG_BYTES) {
		n -= SIV_TAG_BYTES;
		memxor(last, plain + n, sizeof(last));
		cmac_aes128_update(&siv->mac, n, plain);
	} else {
		dbl(last);
		memxor(last, plain, n);
		last[n] ^= 0x80;
	}
	mac_of(siv, sizeof(last), last, tag);
}

/* RFC 5297 2.5: two bits of the counter are cleared. */
static void count(struct siv *siv, size_t n, unsigned char *to, const unsigned char *tag,
	const unsigned char *from)
{
	unsigned char counter[SIV_TAG_BYTES];

	memcpy(counter, tag, sizeof(counter));
	counter[8] &= 0x7f;
	counter[12] &= 0x7f;
	ctr_crypt(&siv->cipher, (nettle_cipher_func *)aes128_encrypt, sizeof(counter), counter, n,
		to, from);
}

void siv_seal(struct siv *siv, size_t n, unsigned char *sealed, const unsigned char *plain)
{
	tag_of(siv, n, plain, sealed);
	count(siv, n, sealed + SIV_TAG_BYTES, sealed, plain);
}

bool siv_unseal(struct siv *siv, size_t n, unsigned char *plain, const unsigned char *sealed)
{
	unsigned char tag[SIV_TAG_BYTES];

	count(siv, n, plain, sealed, sealed + SIV_TAG_BYTES);
	tag_of(siv, n, plain, tag);
	return memeql_sec(tag, sealed, sizeof(tag));
}
