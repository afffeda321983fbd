#include "share/nesting.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "xmpp/reader.h"
#include "xmpp/writer.h"

#define MAX 64
#define MAX_BYTES (16 * 1024)

struct query {
	STAILQ_ENTRY(query) next;
	int64_t deadline_ms;
	struct span text; /* behind the record */
};

struct nesting {
	STAILQ_HEAD(, query) list; /* all wait equally long: the first one's deadline is next */
	size_t count;
	struct reader *reader;
	struct buf text;
};

struct nesting *nesting_new(void)
{
	struct nesting *n = xcalloc(1, sizeof(*n));

	STAILQ_INIT(&n->list);
	n->reader = reader_new_again(2 * MAX_BYTES, READER_INDEX_CHILDREN);
	buf_init(&n->text, MAX_BYTES);
	return n;
}

static void drop_first(struct nesting *n)
{
	struct query *first = STAILQ_FIRST(&n->list);

	STAILQ_REMOVE_HEAD(&n->list, next);
	n->count--;
	free(first);
}

void nesting_free(struct nesting *n)
{
	while (n->count)
		drop_first(n);
	reader_free(n->reader);
	buf_free(&n->text);
	free(n);
}

static bool is_nesting_query(const struct stanza *request)
{
	const struct xml_node *payload = stanza_payload(request);
	struct jid from;

	return payload && request->type == TYPE_GET && xml_is(payload, NS_DISCO_INFO, "query") &&
	       span_starts(xml_attribute(payload, "node"), SPAN("urn:xmpp:delegation:")) &&
	       jid_split(request->from, &from) && !from.local.p && !from.resource.p;
}

bool nesting_keep(struct nesting *n, const struct stanza *request, int64_t deadline_ms)
{
	struct writer w;
	struct query *query;

	if (n->count == MAX || !is_nesting_query(request))
		return false;
	buf_reset(&n->text);
	writer_init(&w, &n->text, WRITER_PIPE, 0);
	if (writer_stanza(&w, request, &STANZA_KEEP) != WRITER_OK)
		return false;
	query = xcalloc(1, sizeof(*query) + buf_length(&n->text));
	query->deadline_ms = deadline_ms;
	span_pack((char *)(query + 1), (const struct span[]){buf_span(&n->text)},
		(struct span *const[]){&query->text}, 1);
	STAILQ_INSERT_TAIL(&n->list, query, next);
	n->count++;
	return true;
}

bool nesting_take(struct nesting *n, int64_t until_ms, struct stanza *request)
{
	struct query *first = STAILQ_FIRST(&n->list);
	bool whole;

	if (!first || first->deadline_ms > until_ms)
		return false;
	whole = reader_one(n->reader, first->text, request);
	drop_first(n);
	return whole;
}

size_t nesting_count(const struct nesting *n)
{
	return n->count;
}

int64_t nesting_deadline(const struct nesting *n)
{
	const struct query *first = STAILQ_FIRST(&n->list);

	return first ? first->deadline_ms : DEADLINE_NEVER;
}
