#include "jat/audience.h"

#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/holdings.h"
#include "base/table.h"
#include "xmpp/jid.h"

/* After the link is up: within this time a session may come that subscribers see already. */
#define SHOW_WAIT_MS 2000

struct subscriber {
	struct holding holding; /* first member, so that a pointer to it is one to the subscriber */
	TAILQ_ENTRY(subscriber) of_queue;
	struct span user, address; /* in the entry's key */
	bool owed;
};
TAILQ_HEAD(subscriber_queue, subscriber);

struct audience {
	struct audience_config config;
	struct table *all; /* key: "USER NUL ADDRESS" */
	struct holdings *holdings;
	struct subscriber_queue told, owed;
	size_t owed_count;
	char *shown; /* NULL: unavailable */
	/* Subscribers may see us available, but no session is known: none has come back yet after
	 * the link went down, or a run before this one could not tell them. */
	bool unsure, up;
	int64_t unsure_until_ms; /* DEADLINE_NEVER without link */
	struct buf key;
};

struct audience *audience_new(const struct audience_config *config)
{
	struct audience *a = xcalloc(1, sizeof(*a));

	a->config = *config;
	a->all = table_new(config->max, config->max_bytes, config->seed);
	a->holdings = holdings_new(config->seed);
	TAILQ_INIT(&a->told);
	TAILQ_INIT(&a->owed);
	a->unsure_until_ms = DEADLINE_NEVER;
	buf_init(&a->key, BUF_NO_MAX);
	return a;
}

void audience_free(struct audience *a)
{
	if (!a)
		return;
	holdings_free(a->holdings);
	table_free(a->all);
	free(a->shown);
	buf_free(&a->key);
	free(a);
}

size_t audience_count(const struct audience *a)
{
	return table_count(a->all);
}

size_t audience_owed(const struct audience *a)
{
	return a->owed_count;
}

/* The table ---------------------------------------------------------------- */

static struct subscriber *find(struct audience *a, struct span user, struct span address)
{
	struct table_entry *e;

	buf_reset(&a->key);
	buf_append_span(&a->key, user);
	buf_append_char(&a->key, '\0');
	buf_append_span(&a->key, address);
	e = table_find(a->all, buf_span(&a->key));
	return e ? table_record(e) : NULL;
}

static void queue_leave(struct audience *a, struct subscriber *s)
{
	TAILQ_REMOVE(s->owed ? &a->owed : &a->told, s, of_queue);
	a->owed_count -= s->owed;
	s->owed = false;
}

static void drop(struct audience *a, struct subscriber *s)
{
	queue_leave(a, s);
	holdings_remove(a->holdings, &s->holding);
	table_remove(a->all, table_entry_of(s));
}

/* Add the pair that find() has just not found: its key is in a->key. NULL: no room. */
static struct subscriber *insert(struct audience *a, struct span user)
{
	struct span group = shares_group(a->config.shares, user);
	struct table_entry *e =
		table_add(a->all, buf_span(&a->key), sizeof(struct subscriber), INT64_MAX);
	struct subscriber *s;

	if (!e)
		return NULL;
	s = table_record(e);
	s->user = (struct span){table_entry_key(e).p, user.n};
	s->address = span_from(table_entry_key(e), user.n + 1);
	holdings_add(a->holdings, &s->holding, group, user);
	TAILQ_INSERT_TAIL(&a->told, s, of_queue);
	return s;
}

static void changed(struct audience *a, bool there, struct span user, struct span address)
{
	if (a->config.changed)
		a->config.changed(a->config.context, there, user, address);
}

static enum writer_status write_bare(
	struct writer *w, struct span to, struct span from, const char *type)
{
	writer_start(w, "presence", type, SPAN_NONE, to, from);
	writer_raw(w, "/>");
	return writer_end(w);
}

void audience_say(
	struct audience *a, struct span to, struct span from, const char *type, struct turn *turn)
{
	struct writer w;

	if (write_bare(turn->writer, to, from, type) != WRITER_FULL)
		return;
	buf_reset(&a->key);
	writer_init(&w, &a->key, WRITER_SOCKET, 0);
	write_bare(&w, to, from, type);
	requests_owe(a->config.requests, buf_span(&a->key));
}

/* Tell the user that the subscription has ended. */
static bool evict(struct audience *a, struct holding *oldest, struct turn *turn)
{
	struct subscriber *s = (struct subscriber *)(void *)oldest;

	if (!s)
		return false;
	audience_say(a, s->user, s->address, "unsubscribed", turn);
	changed(a, false, s->user, s->address);
	drop(a, s);
	return true;
}

static bool add(struct audience *a, struct span user, struct span address, struct turn *turn)
{
	struct holding *oldest;

	if (find(a, user, address))
		return true;
	if (holdings_of(a->holdings, user, &oldest) >= AUDIENCE_MAX_ADDRESSES)
		return false;
	while (!insert(a, user)) {
		if (!evict(a, holdings_victim(a->holdings), turn))
			return false;
		find(a, user, address); /* makes the key again */
	}
	changed(a, true, user, address);
	return true;
}

/* Keeping ------------------------------------------------------------------ */

static void restore_line(struct audience *a, struct span line)
{
	const char *tab = memchr(line.p, '\t', line.n);
	bool ended = tab && tab - line.p == 1 && *line.p == '-' &&
		     memchr(tab + 1, '\t', line.n - 2) != NULL;
	struct subscriber *s;
	struct span user, address;

	if (ended) {
		line = span_from(line, 2);
		tab = memchr(line.p, '\t', line.n);
	}
	if (!tab || tab == line.p || tab + 1 == line.p + line.n)
		return;
	user = (struct span){line.p, (size_t)(tab - line.p)};
	address = span_from(line, user.n + 1);
	s = find(a, user, address);
	if (s && ended)
		drop(a, s);
	else if (!s && !ended)
		insert(a, user);
}

void audience_restore(struct audience *a, struct span text, bool unsure)
{
	a->unsure = unsure;
	while (text.n)
		restore_line(a, span_take_until(&text, '\n'));
}

static void format_queue(const struct subscriber_queue *queue, struct buf *out)
{
	const struct subscriber *s;

	TAILQ_FOREACH(s, queue, of_queue)
	{
		buf_append_span(out, s->user);
		buf_append_char(out, '\t');
		buf_append_span(out, s->address);
		buf_append_char(out, '\n');
	}
}

void audience_format(const struct audience *a, struct buf *out)
{
	format_queue(&a->told, out);
	format_queue(&a->owed, out);
}

/* Showing ------------------------------------------------------------------ */

/* Send the presence that is shown, or unavailable. False: no room in the output. */
static bool send_shown(
	const struct audience *a, struct span to, struct span from, bool shown, struct turn *turn)
{
	struct writer *w = turn->writer;

	if (!shown || !*a->shown)
		return write_bare(w, to, from, shown ? NULL : "unavailable") != WRITER_FULL;
	writer_start(w, "presence", NULL, SPAN_NONE, to, from);
	writer_raw(w, ">");
	writer_raw(w, a->shown);
	writer_raw(w, "</presence>");
	return writer_end(w) != WRITER_FULL;
}

static void tell(struct audience *a, struct turn *turn)
{
	struct subscriber *s;

	while (turn->writer && (s = TAILQ_FIRST(&a->owed))) {
		if (!send_shown(a, s->user, s->address, a->shown != NULL, turn))
			return;
		queue_leave(a, s);
		TAILQ_INSERT_TAIL(&a->told, s, of_queue);
	}
}

static void owe_all(struct audience *a)
{
	struct subscriber *s;

	a->unsure = false;
	a->unsure_until_ms = DEADLINE_NEVER;
	TAILQ_FOREACH(s, &a->told, of_queue)
	s->owed = true;
	TAILQ_CONCAT(&a->owed, &a->told, of_queue);
	a->owed_count = table_count(a->all);
}

void audience_show(struct audience *a, const char *shown, struct turn *turn)
{
	bool same = shown && a->shown ? strcmp(shown, a->shown) == 0 : !shown && !a->shown;

	if (same)
		return;
	free(a->shown);
	a->shown = shown ? xstrdup(shown) : NULL;
	owe_all(a);
	tell(a, turn);
}

/* Whether an address can stand on one line of the file in which subscribers are kept. */
static bool is_plain_text(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return false;
	return true;
}

void audience_subscription(struct audience *a, const struct stanza *s, struct turn *turn)
{
	struct span user = jid_bare(s->from), address = jid_bare(s->to);
	struct subscriber *there = find(a, user, address);

	switch (s->type) {
	case TYPE_SUBSCRIBE:
		if (!is_plain_text(address) || !add(a, user, address, turn)) {
			audience_say(a, user, address, "unsubscribed", turn);
			return;
		}
		audience_say(a, user, address, "subscribed", turn);
		there = find(a, user, address);
		if (a->shown && !there->owed) {
			queue_leave(a, there);
			there->owed = true;
			a->owed_count++;
			TAILQ_INSERT_TAIL(&a->owed, there, of_queue);
			tell(a, turn);
		}
		return;
	case TYPE_UNSUBSCRIBE:
		if (there) {
			changed(a, false, user, address);
			drop(a, there);
		}
		audience_say(a, user, address, "unsubscribed", turn);
		return;
	default: /* probe */
		if (!a->shown || !there)
			audience_say(a, s->from, address, "unavailable", turn);
		else if (!send_shown(a, s->from, address, true, turn))
			audience_say(a, s->from, address, NULL, turn);
	}
}

void audience_up(struct audience *a, struct turn *turn)
{
	a->up = true;
	if (a->unsure)
		a->unsure_until_ms = turn->now_ms + SHOW_WAIT_MS;
}

void audience_down(struct audience *a)
{
	struct subscriber *s;

	a->up = false;
	a->unsure |= a->owed_count > 0;
	TAILQ_FOREACH(s, &a->owed, of_queue)
	s->owed = false;
	TAILQ_CONCAT(&a->told, &a->owed, of_queue);
	a->owed_count = 0;
	a->unsure |= a->shown != NULL; /* servers do not tell our subscribers that we are gone */
	a->unsure_until_ms = DEADLINE_NEVER;
	free(a->shown);
	a->shown = NULL;
}

void audience_tick(struct audience *a, struct turn *turn)
{
	if (a->unsure_until_ms <= turn->now_ms)
		owe_all(a);
	tell(a, turn);
}

int64_t audience_deadline(const struct audience *a)
{
	return a->up && a->owed_count ? INT64_MIN : a->unsure_until_ms;
}

void audience_finish(struct audience *a, struct turn *turn)
{
	if (a->shown || a->unsure) {
		free(a->shown);
		a->shown = NULL;
		owe_all(a);
	}
	tell(a, turn);
}
