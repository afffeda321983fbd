#include "server/client-alabel.h"

#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

static const char *expected;

static void handshake_seen(const SSL *ssl, int where, int value)
{
	SSL *s = (SSL *)(uintptr_t)ssl; /* ours to change: the callback is told of any connection */

	(void)value;
	if (!(where & SSL_CB_HANDSHAKE_START) || !expected)
		return;
	/* A name that cannot be set is not left out: the handshake has none that fits. */
	if (!SSL_set1_host(s, expected))
		SSL_set1_host(s, "invalid.");
	SSL_set_tlsext_host_name(s, expected);
}

/* OpenSSL calls this for each context that is made, the library's too. */
static void context_made(
	void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
	(void)ptr;
	(void)ad;
	(void)index;
	(void)argl;
	(void)argp;
	SSL_CTX_set_info_callback(parent, handshake_seen);
}

void client_alabel_expect(const char *alabels)
{
	static int index = -1;

	expected = alabels;
	if (alabels && index < 0)
		index = SSL_CTX_get_ex_new_index(0, NULL, context_made, NULL, NULL);
}
