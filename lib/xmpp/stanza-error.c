#include "xmpp/stanza-error.h"

static const struct {
	const char *type, *name;
} errors[ERROR_COUNT] = {
	[ERROR_BAD_REQUEST] = {"modify", "bad-request"},
	[ERROR_BAD_REQUEST_CANCEL] = {"cancel", "bad-request"},
	[ERROR_FEATURE_NOT_IMPLEMENTED] = {"cancel", "feature-not-implemented"},
	[ERROR_FORBIDDEN] = {"auth", "forbidden"},
	[ERROR_INTERNAL_SERVER_ERROR] = {"cancel", "internal-server-error"},
	[ERROR_ITEM_NOT_FOUND] = {"cancel", "item-not-found"},
	[ERROR_NOT_ACCEPTABLE] = {"modify", "not-acceptable"},
	[ERROR_NOT_ALLOWED] = {"cancel", "not-allowed"},
	[ERROR_POLICY_VIOLATION] = {"modify", "policy-violation"},
	[ERROR_RECIPIENT_UNAVAILABLE] = {"wait", "recipient-unavailable"},
	[ERROR_REMOTE_SERVER_TIMEOUT] = {"wait", "remote-server-timeout"},
	[ERROR_RESOURCE_CONSTRAINT] = {"wait", "resource-constraint"},
	[ERROR_SERVICE_UNAVAILABLE] = {"cancel", "service-unavailable"},
};

void stanza_error_element(struct writer *w, enum stanza_error e, const char *text)
{
	writer_raw(w, "<error type='");
	writer_raw(w, errors[e].type);
	writer_raw(w, "'><");
	writer_raw(w, errors[e].name);
	writer_raw(w, " xmlns='" NS_STANZAS "'/>");
	if (text) {
		writer_raw(w, "<text xmlns='" NS_STANZAS "'>");
		writer_text(w, span_of(text));
		writer_raw(w, "</text>");
	}
	writer_raw(w, "</error>");
}

enum writer_status stanza_error_send(struct writer *w, const char *kind, struct span to,
	struct span from, struct span id, enum stanza_error e, const char *text)
{
	writer_start(w, kind, "error", id, to, from);
	writer_raw(w, ">");
	stanza_error_element(w, e, text);
	writer_raw(w, "</");
	writer_raw(w, kind);
	writer_raw(w, ">");
	return writer_end(w);
}

bool stanza_error_made(struct reader *r, struct span to, struct span from, struct span id,
	enum stanza_error e, const char *text, struct stanza *out)
{
	struct buf bytes;
	struct writer w;
	bool made;

	buf_init(&bytes, BUF_NO_MAX);
	writer_init(&w, &bytes, WRITER_PIPE, 0);
	stanza_error_send(&w, "iq", to, from, id, e, text);
	made = reader_one(r, buf_span(&bytes), out);
	buf_free(&bytes);
	return made;
}

enum writer_status stanza_error_reply(
	struct writer *w, const struct stanza *s, enum stanza_error e, const char *text)
{
	if (s->kind == STANZA_OTHER || s->type == TYPE_ERROR || s->from.n == 0 ||
		(s->kind == STANZA_IQ && s->type == TYPE_RESULT))
		return WRITER_OK;
	return stanza_error_send(w, stanza_kind_name(s->kind), s->from, s->to, s->id, e, text);
}
