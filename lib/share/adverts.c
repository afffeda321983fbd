#include "share/adverts.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "base/err.h"
#include "xmpp/jid.h"
#include "xmpp/reader.h"
#include "xmpp/writer.h"

#define ADVERTS_MAX 64
#define OF_HOST_MAX 8
#define ADVERT_MAX_BYTES (64 * 1024)

struct advert {
	TAILQ_ENTRY(advert) next;
	struct span host, message; /* the texts follow the record */
	bool privilege;
};

struct adverts {
	TAILQ_HEAD(, advert) list;
	size_t count;
	struct reader *reader;
	struct buf text;
};

struct adverts *adverts_new(void)
{
	struct adverts *a = xcalloc(1, sizeof(*a));

	TAILQ_INIT(&a->list);
	a->reader = reader_new_again(2 * ADVERT_MAX_BYTES, READER_INDEX_CHILDREN);
	buf_init(&a->text, ADVERT_MAX_BYTES);
	return a;
}

static void drop(struct adverts *a, struct advert *advert)
{
	TAILQ_REMOVE(&a->list, advert, next);
	a->count--;
	free(advert);
}

void adverts_clear(struct adverts *a)
{
	/* it leaves the list NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	while (!TAILQ_EMPTY(&a->list))
		drop(a, TAILQ_FIRST(&a->list)); /* NOLINT(clang-analyzer-unix.Malloc) */
}

void adverts_free(struct adverts *a)
{
	adverts_clear(a);
	reader_free(a->reader);
	buf_free(&a->text);
	free(a);
}

/* Only a server speaks from a bare domain; any user can send a <privilege/>. */
static const struct xml_node *advertised(const struct stanza *message)
{
	const struct xml_node *payload = stanza_payload(message);
	struct jid from;

	if (!payload || message->type == TYPE_ERROR || !jid_split(message->from, &from) ||
		from.local.p || from.resource.p)
		return NULL;
	return xml_is(payload, "urn:xmpp:delegation:1", "delegation") ||
			       xml_is(payload, "urn:xmpp:delegation:2", "delegation") ||
			       xml_is(payload, "urn:xmpp:privilege:1", "privilege") ||
			       xml_is(payload, "urn:xmpp:privilege:2", "privilege")
		       ? payload
		       : NULL;
}

/* The advertisement that this one replaces: of each host one <privilege/> is kept, and each
 * different <delegation/> as far as there is room. *full: there is none, and nothing of this host
 * could go. */
static struct advert *older(
	struct adverts *a, struct span host, struct span text, bool privilege, bool *full)
{
	struct advert *advert, *oldest = NULL;
	size_t of_host = 0;

	TAILQ_FOREACH(advert, &a->list, next)
	{
		if (!span_equal(advert->host, host))
			continue;
		if (advert->privilege == privilege &&
			(privilege || span_equal(advert->message, text)))
			return advert;
		oldest = oldest ? oldest : advert;
		of_host++;
	}
	*full = a->count == ADVERTS_MAX && !oldest;
	return of_host == OF_HOST_MAX || a->count == ADVERTS_MAX ? oldest : NULL;
}

bool adverts_note(struct adverts *a, const struct stanza *message)
{
	const struct xml_node *payload = advertised(message);
	bool privilege = payload && span_is(payload->name, "privilege"), full = false;
	struct advert *advert;
	struct writer w;

	if (!payload)
		return false;
	buf_reset(&a->text);
	writer_init(&w, &a->text, WRITER_PIPE, 0);
	if (writer_stanza(&w, message, &STANZA_KEEP) != WRITER_OK)
		return true;
	const struct span parts[] = {message->from, buf_span(&a->text)};

	advert = older(a, parts[0], parts[1], privilege, &full);
	if (full)
		return true;
	if (advert)
		drop(a, advert);
	advert = xcalloc(1, sizeof(*advert) + parts[0].n + parts[1].n);
	span_pack((char *)(advert + 1), parts,
		(struct span *const[]){&advert->host, &advert->message}, 2);
	advert->privilege = privilege;
	TAILQ_INSERT_TAIL(&a->list, advert, next);
	a->count++;
	return true;
}

void adverts_each(
	struct adverts *a, void (*fn)(void *context, const struct stanza *message), void *context)
{
	struct advert *advert;
	struct stanza message;

	TAILQ_FOREACH(advert, &a->list, next)
	if (reader_one(a->reader, advert->message, &message))
		fn(context, &message);
}
