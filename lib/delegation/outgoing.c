#include "delegation/outgoing.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "base/deadline.h"
#include "base/err.h"
#include "server/grants.h"
#include "xmpp/jid.h"
#include "xmpp/xml.h"

/* How long a message waits for the grant that it needs. */
#define GRANT_WAIT_MS 5000

struct kept {
	STAILQ_ENTRY(kept) next;
	struct span host; /* that must grant it, one of config.hosts; absent: nobody */
	int64_t until_ms;
	size_t n;
	char text[]; /* the message, with xmlns if it is to be wrapped */
};

struct outgoing {
	struct outgoing_config config;
	struct grants *grants;
	STAILQ_HEAD(, kept) queue;
	size_t count;
	bool stuck; /* the first one did not fit */
	struct buf text;
	uint64_t sent, refused;
	struct err_limit no_grant;
};

struct outgoing *outgoing_new(const struct outgoing_config *config)
{
	struct outgoing *o = xcalloc(1, sizeof(*o));

	o->config = *config;
	o->grants = grants_new();
	STAILQ_INIT(&o->queue);
	buf_init(&o->text, BUF_NO_MAX);
	return o;
}

void outgoing_free(struct outgoing *o)
{
	struct kept *k;

	if (!o)
		return;
	while ((k = STAILQ_FIRST(&o->queue))) {
		STAILQ_REMOVE_HEAD(&o->queue, next);
		free(k);
	}
	grants_free(o->grants);
	buf_free(&o->text);
	free(o);
}

/* Where the message may come from; *host: the one that must grant it, if one must. */
static bool may_send(const struct outgoing *o, struct span from, struct span *host)
{
	struct jid parts;

	*host = SPAN_NONE;
	if (!from.p)
		return true;
	if (!jid_split(from, &parts) || (parts.local.p && parts.resource.p))
		return false;
	if (span_equal(parts.domain, o->config.domain))
		return true;
	for (size_t i = 0; o->config.users && parts.local.p && i < o->config.hosts_count; i++)
		if (span_equal(o->config.hosts[i], parts.domain))
			*host = o->config.hosts[i];
	return host->p != NULL;
}

static void say_no_grant(struct outgoing *o, struct span host, int64_t now_ms)
{
	const struct outgoing_config *c = &o->config;

	if (o->no_grant.next_ms > now_ms) {
		o->no_grant.left_out++;
		return;
	}
	err_log_limited(&o->no_grant, now_ms, ERR_ERROR,
		"'%.*s' has not granted '%.*s' to send messages from its users' addresses "
		"(--handler-messages=users)",
		SPAN_ARG(host), SPAN_ARG(c->domain));
	err_error("Prosody, VirtualHost \"%.*s\": modules_enabled = { \"privilege\" }; "
		  "privileged_entities = { [\"%.*s\"] = { message = \"outgoing\" } }",
		SPAN_ARG(host), SPAN_ARG(c->domain));
	err_error("Prosody, Component \"%.*s\": modules_enabled = { \"privilege\" }",
		SPAN_ARG(c->domain));
	err_error(
		"ejabberd: mod_privilege: message: outgoing: rule for '%.*s'", SPAN_ARG(c->domain));
}

static enum writer_status write_one(
	const struct outgoing *o, const struct kept *k, struct writer *w)
{
	const struct span text = {k->text, k->n};

	if (!k->host.p) {
		writer_begin(w);
		writer_raw_span(w, text);
		return writer_end(w);
	}
	writer_start(w, "message", NULL, SPAN_NONE, k->host, o->config.domain);
	writer_raw(w, "><privilege xmlns='");
	writer_raw(w, grants_namespace(o->grants, k->host));
	writer_raw(w, "'><forwarded xmlns='" NS_FORWARD "'>");
	writer_raw_span(w, text);
	writer_raw(w, "</forwarded></privilege></message>");
	return writer_end(w);
}

enum fate { FATE_WAITS, FATE_SENT, FATE_REFUSED, FATE_NO_ROOM };

static enum fate try_one(struct outgoing *o, const struct kept *k, struct turn *turn)
{
	bool granted = !k->host.p || (grants_of(o->grants, k->host) & GRANT_MESSAGES);

	if (!granted && turn->now_ms < k->until_ms && !grants_known(o->grants, k->host))
		return FATE_WAITS;
	if (!granted) {
		say_no_grant(o, k->host, turn->now_ms);
		return FATE_REFUSED;
	}
	if (!turn->writer)
		return FATE_NO_ROOM;
	switch (write_one(o, k, turn->writer)) {
	case WRITER_FULL:
		return FATE_NO_ROOM;
	case WRITER_TOO_LARGE:
		err_warn("a message of the handler is larger than --max-send-bytes: not sent");
		return FATE_REFUSED;
	case WRITER_OK:
		break;
	}
	return FATE_SENT;
}

void outgoing_tick(struct outgoing *o, struct turn *turn)
{
	struct kept *k, *next;

	o->stuck = false;
	for (k = STAILQ_FIRST(&o->queue); k && !o->stuck; k = next) {
		enum fate fate = try_one(o, k, turn);

		next = STAILQ_NEXT(k, next);
		o->stuck = fate == FATE_NO_ROOM;
		if (fate == FATE_WAITS || fate == FATE_NO_ROOM)
			continue;
		o->sent += fate == FATE_SENT;
		o->refused += fate == FATE_REFUSED;
		STAILQ_REMOVE(&o->queue, k, kept, next);
		o->count--;
		free(k);
	}
}

const char *outgoing_message(struct outgoing *o, const struct stanza *s, struct turn *turn)
{
	struct stanza_edit edit = {.from = s->from.p ? SPAN_NONE : o->config.domain};
	struct span host, text;
	struct writer w;
	struct jid to;
	struct kept *k;

	if (s->refusal)
		return "over a limit";
	if (s->type == TYPE_ERROR)
		return "of type error";
	if (!jid_split(s->to, &to))
		return "without a valid to";
	if (!may_send(o, s->from, &host))
		return o->config.users ? "from an address that is neither ours nor a bare JID on a "
					 "--host"
				       : "from an address that is not ours (bare JIDs on a --host "
					 "need --handler-messages=users)";
	buf_reset(&o->text);
	writer_init(&w, &o->text, WRITER_SOCKET, 0);
	writer_begin(&w);
	writer_copy(&w, s, &edit, host.p ? NS_CLIENT : NULL);
	if (w.failed)
		return "over a limit";
	text = buf_span(&o->text);
	k = xmalloc(sizeof(*k) + text.n);
	*k = (struct kept){.host = host, .until_ms = turn->now_ms + GRANT_WAIT_MS, .n = text.n};
	memcpy(k->text, text.p, text.n);
	STAILQ_INSERT_TAIL(&o->queue, k, next);
	o->count++;
	outgoing_tick(o, turn);
	return NULL;
}

bool outgoing_granted(struct outgoing *o, const struct stanza *s, struct turn *turn)
{
	struct span host;

	if (!grants_note(o->grants, s, &host))
		return false;
	outgoing_tick(o, turn);
	return true;
}

void outgoing_down(struct outgoing *o)
{
	grants_clear(o->grants);
}

int64_t outgoing_deadline(const struct outgoing *o)
{
	int64_t deadline_ms = DEADLINE_NEVER;
	const struct kept *k;

	if (o->stuck)
		return 0;
	STAILQ_FOREACH(k, &o->queue, next)
	{
		if (k->until_ms < deadline_ms)
			deadline_ms = k->until_ms;
	}
	return deadline_ms;
}

bool outgoing_full(const struct outgoing *o)
{
	return o->count >= OUTGOING_MAX;
}

void outgoing_counts(const struct outgoing *o, uint64_t *sent, uint64_t *refused)
{
	*sent = o->sent;
	*refused = o->refused;
}
