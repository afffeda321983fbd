#include "share/early.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "xmpp/reader.h"
#include "xmpp/writer.h"

#define MAX 64 /* of each list */
#define ADVERTS_OF_HOST_MAX 16
#define MAX_BYTES (64 * 1024)

struct saying {
	TAILQ_ENTRY(saying) next;
	struct span host, text; /* behind the record */
	bool privilege;
	int64_t deadline_ms; /* of a query */
};

struct sayings {
	TAILQ_HEAD(, saying) all; /* oldest first */
	size_t count;
};

struct early {
	struct span domain;
	bool full; /* an advertisement was not kept, and that was logged */
	struct sayings adverts, queries;
	struct reader *reader;
	struct buf text;
};

struct early *early_new(struct span domain)
{
	struct early *e = xcalloc(1, sizeof(*e));

	e->domain = domain;
	TAILQ_INIT(&e->adverts.all);
	TAILQ_INIT(&e->queries.all);
	e->reader = reader_new_again(2 * MAX_BYTES, READER_INDEX_CHILDREN);
	buf_init(&e->text, MAX_BYTES);
	return e;
}

static void drop(struct sayings *of, struct saying *s)
{
	TAILQ_REMOVE(&of->all, s, next);
	of->count--;
	free(s);
}

static void clear(struct sayings *of)
{
	/* it leaves the list NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	while (!TAILQ_EMPTY(&of->all))
		drop(of, TAILQ_FIRST(&of->all)); /* NOLINT(clang-analyzer-unix.Malloc) */
}

void early_free(struct early *e)
{
	clear(&e->adverts);
	clear(&e->queries);
	reader_free(e->reader);
	buf_free(&e->text);
	free(e);
}

/* The payload, if a bare domain sends it: only servers do, while any user can send a <privilege/>.
 */
static const struct xml_node *payload_of_host(const struct stanza *s)
{
	const struct xml_node *payload = stanza_payload(s);
	struct jid from;

	return payload && jid_split(s->from, &from) && !from.local.p && !from.resource.p ? payload
											 : NULL;
}

/* Write it to e->text; false: it is too large to be kept. */
static bool write_text(struct early *e, const struct stanza *stanza)
{
	struct writer w;

	buf_reset(&e->text);
	writer_init(&w, &e->text, WRITER_PIPE, 0);
	return writer_stanza(&w, stanza, &STANZA_KEEP) == WRITER_OK;
}

/* Keep e->text. */
static struct saying *keep(struct early *e, struct sayings *of, struct span host)
{
	const struct span parts[] = {host, buf_span(&e->text)};
	struct saying *s = xcalloc(1, sizeof(*s) + parts[0].n + parts[1].n);

	span_pack((char *)(s + 1), parts, (struct span *const[]){&s->host, &s->text}, 2);
	TAILQ_INSERT_TAIL(&of->all, s, next);
	of->count++;
	return s;
}

/* Advertisements ------------------------------------------------------------ */

static bool is_advert(const struct stanza *message, const struct xml_node *payload)
{
	return payload && message->type != TYPE_ERROR &&
	       (xml_is(payload, "urn:xmpp:delegation:1", "delegation") ||
		       xml_is(payload, "urn:xmpp:delegation:2", "delegation") ||
		       xml_is(payload, "urn:xmpp:privilege:1", "privilege") ||
		       xml_is(payload, "urn:xmpp:privilege:2", "privilege"));
}

/* Whether the component's domain is below the host's, as it is for most components of a server. */
static bool is_above(const struct early *e, struct span host)
{
	struct span d = e->domain;

	return d.n > host.n && d.p[d.n - host.n - 1] == '.' &&
	       span_equal(span_from(d, d.n - host.n), host);
}

/* The oldest advertisement of another host than those above, for one of these. */
static struct saying *least_needed(struct early *e, struct span host)
{
	struct saying *s;

	if (!is_above(e, host))
		return NULL;
	TAILQ_FOREACH(s, &e->adverts.all, next)
	if (!is_above(e, s->host))
		break;
	return s;
}

/* Make room for e->text. False: there is none, and nothing could go. */
static bool make_room(struct early *e, struct span host, bool privilege)
{
	struct saying *s, *same = NULL, *oldest = NULL;
	size_t of_host = 0;

	TAILQ_FOREACH(s, &e->adverts.all, next)
	{
		if (!span_equal(s->host, host))
			continue;
		if (s->privilege == privilege &&
			(privilege || span_equal(s->text, buf_span(&e->text))))
			same = s;
		oldest = oldest ? oldest : s;
		of_host++;
	}
	if (!same && of_host < ADVERTS_OF_HOST_MAX && e->adverts.count == MAX)
		same = least_needed(e, host);
	if (!same && (of_host == ADVERTS_OF_HOST_MAX || e->adverts.count == MAX))
		same = oldest;
	if (same)
		drop(&e->adverts, same);
	return e->adverts.count < MAX;
}

bool early_note_advert(struct early *e, const struct stanza *message)
{
	const struct xml_node *payload = payload_of_host(message);
	bool privilege;

	if (!is_advert(message, payload))
		return false;
	privilege = span_is(payload->name, "privilege");
	if (write_text(e, message) && make_room(e, message->from, privilege)) {
		keep(e, &e->adverts, message->from)->privilege = privilege;
	} else if (!e->full) {
		e->full = true;
		err_warn("an advertisement of '%.*s' is not kept, because there are too many or it "
			 "is too large: instances that come later are not told of it",
			SPAN_ARG(message->from));
	}
	return true;
}

void early_forget_adverts(struct early *e)
{
	clear(&e->adverts);
	e->full = false;
}

void early_each_advert(
	struct early *e, void (*fn)(void *context, const struct stanza *message), void *context)
{
	struct saying *s;
	struct stanza message;

	TAILQ_FOREACH(s, &e->adverts.all, next)
	if (reader_one(e->reader, s->text, &message))
		fn(context, &message);
}

/* Queries ------------------------------------------------------------------- */

static bool is_query(const struct stanza *request)
{
	const struct xml_node *payload = payload_of_host(request);

	return payload && request->type == TYPE_GET && xml_is(payload, NS_DISCO_INFO, "query") &&
	       span_starts(xml_attribute(payload, "node"), SPAN("urn:xmpp:delegation:"));
}

bool early_keep_query(struct early *e, const struct stanza *request, int64_t deadline_ms)
{
	if (e->queries.count == MAX || !is_query(request) || !write_text(e, request))
		return false;
	keep(e, &e->queries, SPAN(""))->deadline_ms = deadline_ms;
	return true;
}

bool early_take_query(struct early *e, int64_t until_ms, struct stanza *request)
{
	bool whole;

	if (early_deadline(e) > until_ms || !e->queries.count)
		return false;
	whole = reader_one(e->reader, TAILQ_FIRST(&e->queries.all)->text, request);
	drop(&e->queries, TAILQ_FIRST(&e->queries.all));
	return whole;
}

size_t early_queries(const struct early *e)
{
	return e->queries.count;
}

int64_t early_deadline(const struct early *e)
{
	return e->queries.count ? TAILQ_FIRST(&e->queries.all)->deadline_ms : DEADLINE_NEVER;
}
