#include "server/client-account.h"

#include <stdlib.h>

#include "base/err.h"
#include "xmpp/jid.h"

static char *alabels_of(struct span domain)
{
	struct buf ascii;
	char *result = NULL;

	buf_init(&ascii, BUF_NO_MAX);
	if (jid_alabels(domain, &ascii) && !span_equal(buf_span(&ascii), domain))
		result = xstrdup(buf_string(&ascii));
	buf_free(&ascii);
	return result;
}

/* The library writes the domain into the stream header as it is. */
static bool is_plain(struct span domain)
{
	for (const char *c = "'\"<&"; *c; c++)
		if (memchr(domain.p, *c, domain.n))
			return false;
	return true;
}

bool client_account_set(struct client_account *a, const char *typed)
{
	struct buf normal;
	struct jid parts;
	bool usable;

	buf_init(&normal, JID_MAX_BYTES);
	usable = jid_normalise(span_of(typed), &normal) && jid_split(buf_span(&normal), &parts) &&
		 parts.local.p && is_plain(parts.domain);
	if (usable) {
		a->jid = xstrdup(buf_string(&normal));
		a->domain = xstrndup(parts.domain.p, parts.domain.n);
		a->alabels = alabels_of(parts.domain);
	}
	buf_free(&normal);
	return usable;
}

void client_account_free(struct client_account *a)
{
	free(a->jid);
	free(a->domain);
	free(a->alabels);
}
