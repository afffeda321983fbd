#include "server/roundtrip.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/random.h"
#include "xmpp/jid.h"

void roundtrip_init(struct roundtrip *r)
{
	*r = (struct roundtrip){0};
	random_name(&random_kernel, r->resource);
}

static void id_of(const struct roundtrip *r, char id[64])
{
	snprintf(id, 64, "%s-%" PRIu64, r->resource, r->count);
}

enum writer_status roundtrip_send(
	struct roundtrip *r, struct span from, struct span address, struct writer *w)
{
	enum writer_status status;
	struct buf to;
	char id[64];

	r->count++;
	r->open = true;
	id_of(r, id);
	buf_init(&to, BUF_NO_MAX);
	buf_append_span(&to, address);
	buf_append_char(&to, '/');
	buf_append_string(&to, r->resource);
	writer_start(w, "iq", "get", span_of(id), buf_span(&to), from);
	writer_raw(w, "><ping xmlns='" NS_PING "'/></iq>");
	status = writer_end(w);
	buf_free(&to);
	return status;
}

/* Every stanza comes through here: the end of the address alone rules nearly all of them out. */
static bool is_ours(const struct roundtrip *r, struct span jid)
{
	const size_t n = strlen(r->resource);

	return jid.n > n && memcmp(jid.p + jid.n - n, r->resource, n) == 0 &&
	       span_is(jid_resource(jid), r->resource);
}

bool roundtrip_take(struct roundtrip *r, const struct stanza *s)
{
	char id[64];

	if (s->kind != STANZA_IQ || !(is_ours(r, s->to) || is_ours(r, s->from)))
		return false;
	id_of(r, id);
	if (span_is(s->id, id))
		r->open = false;
	return true;
}
