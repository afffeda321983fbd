#include "server/client-alabel.h"

#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

static const char *expected;

static void handshake_seen(const SSL *ssl, int where, int value)
{
	SSL *s = (SSL *)(uintptr_t)ssl; /* the callback is called for every connection: change only
					   the handshake of ours */

	(void)value;
	if (!(where & SSL_CB_HANDSHAKE_START) || !expected)
		return;
	/* If the name cannot be set, the handshake must fail: no name would be checked. */
	if (!SSL_set1_host(s, expected))
		SSL_set1_host(s, "invalid.");
	SSL_set_tlsext_host_name(s, expected);
}

/* OpenSSL calls this for each new context, also for libstrophe's. */
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
