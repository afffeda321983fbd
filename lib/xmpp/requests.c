#include "xmpp/requests.h"

#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/reader.h"

/* The deadline of a request that is owed its answer: before all others. */
#define OWED_MS INT64_MIN

/* How soon a request that had no room in its worker's own output is handed on again. */
#define ROOM_MS 50

/* An answer, as it came, that is to be handed on. */
struct held_answer {
	size_t n;
	char bytes[];
};

/* A stanza of ours that did not fit, and belongs to no request. */
struct debt {
	STAILQ_ENTRY(debt) next;
	size_t n; /* its bytes stand behind the record */
};
STAILQ_HEAD(debts, debt);

struct requests {
	struct requests_config config;
	struct table *open;
	struct debts debts;
	size_t debts_count;
	struct reader *reader; /* for answers that were held */
	struct buf scratch;
};

static const enum stanza_error errors[REQUEST_ENDS] = {
	[END_TIMEOUT] = ERROR_REMOTE_SERVER_TIMEOUT,
	[END_NO_WORKER] = ERROR_SERVICE_UNAVAILABLE,
	[END_WORKER_LEFT] = ERROR_RECIPIENT_UNAVAILABLE,
	[END_STOPPED] = ERROR_RECIPIENT_UNAVAILABLE,
	[END_TOO_LARGE] = ERROR_POLICY_VIOLATION,
	[END_NO_ROOM] = ERROR_RESOURCE_CONSTRAINT,
};

struct requests *requests_new(const struct requests_config *config)
{
	struct requests *t = xcalloc(1, sizeof(*t));

	t->config = *config;
	/* a try stands behind the owner's record */
	t->config.extra_bytes = (config->extra_bytes + 7) & ~(size_t)7;
	if (!t->config.chooser)
		t->config.chooser = t->config.context;
	t->open = table_new(config->max, config->max_bytes, config->seed);
	STAILQ_INIT(&t->debts);
	t->reader = reader_new_again(SIZE_MAX / 4, READER_INDEX_PAYLOAD);
	buf_init(&t->scratch, BUF_NO_MAX);
	return t;
}

/* Tries ------------------------------------------------------------------ */

static void try_close(struct request_try *try)
{
	if (try->state == TRY_CLOSED)
		return;
	LIST_REMOVE(try, of_worker);
	try->worker->load--;
	try->state = TRY_CLOSED;
}

static void close_tries(struct request *r)
{
	for (unsigned i = 0; i < r->tries_count; i++)
		try_close(&r->tries[i]);
}

static bool has_open_try(const struct request *r)
{
	for (unsigned i = 0; i < r->tries_count; i++)
		if (r->tries[i].state == TRY_OPEN)
			return true;
	return false;
}

/* The first try of a request stands in its record. All three get a place of their own when there
 * is a second one, which is rare. */
static struct request_try *first_try(const struct requests *t, struct request *r)
{
	return (struct request_try *)(void *)((char *)request_extra(r) + t->config.extra_bytes);
}

static void tries_move(struct requests *t, struct request *r)
{
	struct request_try *first = first_try(t, r);

	if (r->tries != first)
		return;
	r->tries = xcalloc(REQUEST_MAX_TRIES, sizeof(*r->tries));
	r->tries[0] = *first;
	if (first->state == TRY_CLOSED)
		return;
	LIST_REMOVE(first, of_worker);
	LIST_INSERT_HEAD(&first->worker->tries, &r->tries[0], of_worker);
}

bool requests_tried(const struct request *r, const struct worker *w)
{
	for (unsigned i = 0; i < r->tries_count; i++)
		if (r->tries[i].worker == w)
			return true;
	return false;
}

struct request_try *requests_try_of(struct request *r, const struct worker *w)
{
	for (unsigned i = 0; i < r->tries_count; i++)
		if (r->tries[i].worker == w && r->tries[i].state != TRY_CLOSED)
			return &r->tries[i];
	return NULL;
}

void requests_handed(struct requests *t, struct request *r, struct worker *w, int64_t now_ms)
{
	struct request_try *try;

	if (r->tries_count == 1)
		tries_move(t, r);
	try = &r->tries[r->tries_count++];
	try->request = r;
	try->worker = w;
	try->state = TRY_OPEN;
	LIST_INSERT_HEAD(&w->tries, try, of_worker);
	w->load++;
	worker_hold(w);
	worker_handed(t->config.balance, w, now_ms);
}

/* The table -------------------------------------------------------------- */

struct table_key requests_key(const struct requests *t, struct span bytes)
{
	return table_key(t->open, bytes);
}

struct request *requests_find(const struct requests *t, const struct table_key *key)
{
	struct table_entry *e = table_find_hashed(t->open, key);

	return e ? table_record(e) : NULL;
}

struct request *requests_next(const struct requests *t, const struct request *r)
{
	struct table_entry *e = table_find_next(t->open, table_entry_of((void *)r));

	return e ? table_record(e) : NULL;
}

struct span request_key(const struct request *r)
{
	return table_entry_key(table_entry_of((void *)r));
}

void *request_extra(struct request *r)
{
	return r + 1;
}

bool requests_may_add(const struct requests *t, const struct request *oldest)
{
	size_t n = 0;

	for (const struct request *r = oldest; r && n < REQUEST_MAX_EQUAL; r = requests_next(t, r))
		n++;
	return n < REQUEST_MAX_EQUAL;
}

/* Whether text stands in the key, so that it is not kept twice. */
static bool in_key(struct span text, struct span key)
{
	uintptr_t at = (uintptr_t)text.p, begin = (uintptr_t)key.p;

	return at >= begin && at + text.n <= begin + key.n;
}

static size_t record_bytes(const struct requests *t, const struct span texts[REQUEST_TEXTS],
	const struct table_key *key, bool tried)
{
	size_t n = sizeof(struct request) + t->config.extra_bytes +
		   (tried ? sizeof(struct request_try) : 0);

	for (int i = 0; i < REQUEST_TEXTS; i++)
		n += in_key(texts[i], key->bytes) ? 0 : texts[i].n;
	return n;
}

/* Copy the texts to what stands behind the record, or point to the same part of the copy of the
 * key.
 */
static void copy_texts(
	struct request *r, char *to, const struct span texts[REQUEST_TEXTS], struct span key)
{
	const char *copy = request_key(r).p;

	for (int i = 0; i < REQUEST_TEXTS; i++) {
		bool once = in_key(texts[i], key);
		const char *at = once ? copy + (texts[i].p - key.p) : to;

		if (!texts[i].p)
			continue;
		r->texts[i].at = (uint32_t)(at - (const char *)r);
		r->texts[i].n = (uint32_t)texts[i].n;
		if (once)
			continue;
		memcpy(to, texts[i].p, texts[i].n);
		to += texts[i].n;
	}
}

struct request *requests_add(struct requests *t, const struct table_key *key,
	const struct request_texts *texts, int64_t now_ms)
{
	const struct span all[REQUEST_TEXTS] = {[REQUEST_USER] = texts->user,
		[REQUEST_ASKED] = texts->asked,
		[REQUEST_ID] = texts->id,
		[REQUEST_TOKEN] = texts->token,
		[REQUEST_STANZA] = texts->stanza};
	const bool tried = t->config.balance && texts->stanza.n;
	const size_t n = record_bytes(t, all, key, tried);
	const int64_t deadline_ms = now_ms + t->config.timeout_ms;
	struct share share = {0};
	struct table_entry *e;
	struct request *r;

	if (t->config.shares && !texts->unshared &&
		!shares_take(t->config.shares, texts->user, n, &share))
		return NULL;
	e = table_add_hashed(t->open, key, n, deadline_ms);
	if (!e) {
		if (t->config.shares)
			shares_give(t->config.shares, &share);
		return NULL;
	}
	r = table_record(e);
	r->tries = tried ? first_try(t, r) : NULL;
	copy_texts(r, (char *)(first_try(t, r) + (tried ? 1 : 0)), all, key->bytes);
	r->deadline_ms = deadline_ms;
	r->set = texts->set;
	r->pinned = texts->pinned;
	r->unshared = texts->unshared;
	r->share = share;
	return r;
}

static void held_drop(struct request *r)
{
	free(r->held);
	r->held = NULL;
}

static void request_free(struct requests *t, struct request *r)
{
	close_tries(r);
	for (unsigned i = 0; i < r->tries_count; i++)
		worker_release(t->config.balance, r->tries[i].worker);
	if (r->tries != first_try(t, r))
		free(r->tries);
	if (t->config.shares)
		shares_give(t->config.shares, &r->share);
	held_drop(r);
	table_remove(t->open, table_entry_of(r));
}

static void request_remove(struct requests *t, struct request *r, int64_t now_ms)
{
	if (t->config.removed)
		t->config.removed(t->config.context, r, now_ms);
	request_free(t, r);
}

void requests_forget(struct requests *t, struct request *r)
{
	request_free(t, r);
}

static void debt_free(struct requests *t, struct debt *debt)
{
	STAILQ_REMOVE_HEAD(&t->debts, next);
	t->debts_count--;
	free(debt);
}

void requests_free(struct requests *t)
{
	struct table_entry *e;

	if (!t)
		return;
	while ((e = table_earliest(t->open)))
		request_free(t, table_record(e));
	while (!STAILQ_EMPTY(&t->debts))
		debt_free(t, STAILQ_FIRST(&t->debts));
	table_free(t->open);
	reader_free(t->reader);
	buf_free(&t->scratch);
	free(t);
}

size_t requests_count(const struct requests *t)
{
	return table_count(t->open) + t->debts_count;
}

size_t requests_bytes(const struct requests *t)
{
	return table_bytes(t->open);
}

/* Look at r again at that time, or at its own deadline if that is earlier. */
static void wake(struct requests *t, struct request *r, int64_t at_ms)
{
	struct table_entry *e = table_entry_of(r);

	if (at_ms < e->deadline_ms)
		table_deadline_set(t->open, e, at_ms);
}

/* Ends ------------------------------------------------------------------- */

static void decide(struct requests *t, struct request *r, enum request_end end,
	enum stanza_error error, int64_t now_ms)
{
	close_tries(r);
	r->owed = true;
	r->end = (uint8_t)end;
	r->error = (uint8_t)error;
	if (end != END_ANSWERED) {
		held_drop(r);
		t->config.ending(t->config.context, r, end, now_ms);
	}
	table_deadline_set(t->open, table_entry_of(r), OWED_MS);
}

static enum writer_status write_error(struct requests *t, struct request *r, struct turn *turn)
{
	if (t->config.error)
		return t->config.error(t->config.context, r, (enum stanza_error)r->error, turn);
	return stanza_error_send(turn->writer, "iq", request_user(r), request_asked(r),
		request_id(r), (enum stanza_error)r->error, NULL);
}

/* Write what is owed. False: there is no room; true: r has left the table. */
static bool pay(struct requests *t, struct request *r, struct turn *turn)
{
	if (r->end == END_ANSWERED) {
		struct stanza s;
		enum writer_status status = WRITER_TOO_LARGE;

		if (reader_one(t->reader, (struct span){r->held->bytes, r->held->n}, &s))
			status = t->config.answer(t->config.context, r, &s, turn);
		if (status == WRITER_FULL)
			return false;
		if (status == WRITER_OK) {
			t->config.ending(t->config.context, r, END_ANSWERED, turn->now_ms);
			request_remove(t, r, turn->now_ms);
			return true;
		}
		decide(t, r, END_TOO_LARGE, ERROR_POLICY_VIOLATION, turn->now_ms);
	}
	if (write_error(t, r, turn) == WRITER_FULL)
		return false;
	request_remove(t, r, turn->now_ms);
	return true;
}

void requests_fail(struct requests *t, struct request *r, enum request_end end, enum stanza_error e,
	struct turn *turn)
{
	decide(t, r, end, e, turn->now_ms);
	if (turn->writer)
		pay(t, r, turn);
}

void requests_end(struct requests *t, struct request *r, enum request_end end, struct turn *turn)
{
	requests_fail(t, r, end, errors[end], turn);
}

/* Keep an answer as it came. False: no room for it. */
static bool hold(struct requests *t, struct request *r, const struct stanza *s)
{
	struct writer w;
	size_t n;

	buf_reset(&t->scratch);
	writer_init(&w, &t->scratch, WRITER_PIPE, 0);
	if (s->refusal || writer_stanza(&w, s, &STANZA_KEEP) != WRITER_OK)
		return false;
	n = buf_length(&t->scratch);
	if (!table_charge(t->open, table_entry_of(r), n))
		return false;
	if (t->config.shares && !shares_more(t->config.shares, &r->share, n))
		return false;
	held_drop(r);
	r->held = xmalloc(sizeof(*r->held) + n);
	r->held->n = n;
	memcpy(r->held->bytes, buf_span(&t->scratch).p, n);
	return true;
}

void requests_deliver(
	struct requests *t, struct request *r, const struct stanza *s, struct turn *turn)
{
	enum writer_status status =
		s->refusal ? WRITER_TOO_LARGE : t->config.answer(t->config.context, r, s, turn);

	switch (status) {
	case WRITER_OK:
		t->config.ending(t->config.context, r, END_ANSWERED, turn->now_ms);
		request_remove(t, r, turn->now_ms);
		return;
	case WRITER_TOO_LARGE:
		requests_end(t, r, END_TOO_LARGE, turn);
		return;
	case WRITER_FULL:
		if (hold(t, r, s))
			decide(t, r, END_ANSWERED, ERROR_COUNT, turn->now_ms);
		else
			requests_end(t, r, END_NO_ROOM, turn);
	}
}

void requests_answered(
	struct requests *t, struct request_try *try, const struct stanza *s, struct turn *turn)
{
	struct request *r = try->request;

	try->worker->answered++;
	try_close(try);
	if (s->type == TYPE_ERROR && has_open_try(r)) {
		if (!r->held)
			hold(t, r, s);
		return;
	}
	requests_deliver(t, r, s, turn);
}

/* Going on --------------------------------------------------------------- */

/* A worker for one more try. */
static struct worker *another(struct requests *t, const struct request *r, int64_t now_ms)
{
	struct worker *w = NULL;

	if (r->tries_count == REQUEST_MAX_TRIES || !t->config.choose)
		return NULL;
	for (int tier = 0; !w && tier < TIERS; tier++)
		w = t->config.choose(t->config.chooser, r, (enum balance_tier)tier, now_ms);
	return w;
}

static enum writer_status hand_again(
	struct requests *t, struct request *r, struct worker *w, struct turn *turn)
{
	enum writer_status status = t->config.hand(t->config.context, r, w, turn);

	if (status == WRITER_OK) {
		requests_handed(t, r, w, turn->now_ms);
		t->config.again(t->config.context, r);
	}
	return status;
}

/* Close the tries that were returned or have lost their worker. If no other try is open, decide how
 * the request goes on. */
static void close_returned(struct requests *t, struct request *r, struct turn *turn)
{
	bool returned = false, maybe_done = false;

	for (unsigned i = 0; i < r->tries_count; i++) {
		struct request_try *try = &r->tries[i];

		if (try->state == TRY_CLOSED || try->state == TRY_OPEN)
			continue;
		returned = true;
		maybe_done |= try->state != TRY_UNTOUCHED;
		if (try->worker->state == WORKER_THERE && t->config.doubted)
			t->config.doubted(t->config.chooser, try->worker, turn);
		try_close(try);
	}
	if (!returned || has_open_try(r))
		return;
	if (r->held)
		decide(t, r, END_ANSWERED, ERROR_COUNT, turn->now_ms);
	else if (r->set && maybe_done)
		decide(t, r, END_WORKER_LEFT, errors[END_WORKER_LEFT], turn->now_ms);
	else
		r->again = true;
}

static void time_out(struct requests *t, struct request *r, int64_t now_ms)
{
	for (unsigned i = 0; i < r->tries_count; i++)
		if (r->tries[i].state == TRY_OPEN)
			worker_timed_out(t->config.balance, r->tries[i].worker, now_ms);
	if (r->held)
		decide(t, r, END_ANSWERED, ERROR_COUNT, now_ms);
	else
		decide(t, r, END_TIMEOUT, errors[END_TIMEOUT], now_ms);
}

/* r is due. False: there is no room; it stays due. */
static bool advance(struct requests *t, struct request *r, struct turn *turn)
{
	enum writer_status status = WRITER_OK;
	struct worker *w;

	if (!r->owed && r->deadline_ms <= turn->now_ms)
		time_out(t, r, turn->now_ms);
	if (!r->owed)
		close_returned(t, r, turn);
	if (r->owed)
		return pay(t, r, turn);
	if (r->again) {
		w = another(t, r, turn->now_ms);
		if (w)
			status = hand_again(t, r, w, turn);
		if (!w || status == WRITER_TOO_LARGE) {
			enum request_end end = w ? END_TOO_LARGE : END_NO_WORKER;

			decide(t, r, end, errors[end], turn->now_ms);
			return pay(t, r, turn);
		}
	} else if (r->hedge && r->tries_count < REQUEST_MAX_TRIES) {
		w = t->config.choose(t->config.chooser, r, TIER_WELL, turn->now_ms);
		if (w)
			status = hand_again(t, r, w, turn);
	}
	if (status == WRITER_FULL && !t->config.workers_apart)
		return false;
	table_deadline_set(t->open, table_entry_of(r), r->deadline_ms);
	if (status == WRITER_FULL)
		wake(t, r, turn->now_ms + ROOM_MS);
	else
		r->again = r->hedge = false;
	return true;
}

void requests_bounced(
	struct requests *t, struct request_try *try, bool untouched, struct turn *turn)
{
	struct request *r = try->request;

	try->state = untouched ? TRY_UNTOUCHED : TRY_BOUNCED;
	if (try->worker->state != WORKER_LEFT) {
		wake(t, r, turn->now_ms + t->config.bounce_wait_ms);
		return;
	}
	wake(t, r, turn->now_ms);
	advance(t, r, turn);
}

enum bounce requests_bounce_of(const struct stanza *s, const struct worker *w)
{
	struct span condition = s->type == TYPE_ERROR ? stanza_error_condition(s) : SPAN_NONE;
	bool recipient = span_is(condition, "recipient-unavailable");
	enum bounce bounce = BOUNCE_NONE;
	struct buf words;

	if (!recipient && !span_is(condition, "service-unavailable") &&
		!span_is(condition, "item-not-found"))
		return BOUNCE_NONE;
	buf_init(&words, 64);
	if (!stanza_error_text(s, &words))
		buf_reset(&words);
	if (!recipient && span_is(buf_span(&words), "User session terminated"))
		bounce = BOUNCE_MAYBE_DONE;
	else if (!recipient && span_is(buf_span(&words), "User session not found"))
		bounce = BOUNCE_UNTOUCHED;
	else if (w->state == WORKER_LEFT)
		bounce = BOUNCE_UNTOUCHED;
	else if (recipient)
		bounce = BOUNCE_MAYBE_DONE;
	buf_free(&words);
	return bounce;
}

void requests_worker_left(struct requests *t, struct worker *w, int64_t now_ms)
{
	struct request_try *try;

	LIST_FOREACH(try, &w->tries, of_worker)
	{
		bool returned = try->state != TRY_OPEN;

		if (!returned)
			try->state = TRY_LEFT;
		wake(t, try->request, returned ? now_ms : now_ms + t->config.bounce_wait_ms);
	}
}

/* Whether a worker that is well has it. */
static bool is_well_kept(const struct request *r)
{
	for (unsigned i = 0; i < r->tries_count; i++)
		if (r->tries[i].state == TRY_OPEN && !r->tries[i].worker->suspect)
			return true;
	return false;
}

void requests_hedge(struct requests *t, struct worker *suspect, int64_t now_ms)
{
	struct request_try *try;

	LIST_FOREACH(try, &suspect->tries, of_worker)
	{
		struct request *r = try->request;

		if (r->set || r->pinned || r->hedge || try->state != TRY_OPEN || is_well_kept(r) ||
			r->tries_count == REQUEST_MAX_TRIES)
			continue;
		r->hedge = true;
		wake(t, r, now_ms);
	}
}

/* Debts ------------------------------------------------------------------ */

void requests_owe(struct requests *t, struct span stanza)
{
	struct debt *debt = xcalloc(1, sizeof(*debt) + stanza.n);

	debt->n = stanza.n;
	memcpy(debt + 1, stanza.p, stanza.n);
	STAILQ_INSERT_TAIL(&t->debts, debt, next);
	t->debts_count++;
}

void requests_refuse(
	struct requests *t, const struct stanza *s, enum stanza_error e, struct turn *turn)
{
	struct writer w;

	if (turn->writer && stanza_error_reply(turn->writer, s, e, NULL) != WRITER_FULL)
		return;
	buf_reset(&t->scratch);
	writer_init(&w, &t->scratch, WRITER_SOCKET, 0);
	stanza_error_reply(&w, s, e, NULL);
	if (buf_length(&t->scratch))
		requests_owe(t, buf_span(&t->scratch));
}

/* False: no room for all. */
static bool pay_debts(struct requests *t, struct turn *turn)
{
	struct debt *debt;

	while ((debt = STAILQ_FIRST(&t->debts))) {
		writer_begin(turn->writer);
		writer_raw_span(turn->writer, (struct span){(const char *)(debt + 1), debt->n});
		if (writer_end(turn->writer) == WRITER_FULL)
			return false;
		debt_free(t, debt);
	}
	return true;
}

/* Time ------------------------------------------------------------------- */

void requests_tick(struct requests *t, struct turn *turn)
{
	struct table_entry *e;

	if (!turn->writer || !pay_debts(t, turn))
		return;
	while ((e = table_earliest(t->open)) && e->deadline_ms <= turn->now_ms)
		if (!advance(t, table_record(e), turn))
			return;
}

int64_t requests_deadline(const struct requests *t)
{
	return STAILQ_EMPTY(&t->debts) ? table_deadline(t->open) : OWED_MS;
}

struct request **requests_all(const struct requests *t, size_t *count)
{
	struct table_entry **entries = table_gather(t->open, NULL, NULL, count);
	struct request **all = xcalloc(*count + 1, sizeof(struct request *));

	for (size_t i = 0; i < *count; i++)
		all[i] = table_record(entries[i]);
	free(entries);
	return all;
}

void requests_finish(struct requests *t, struct turn *turn)
{
	size_t count;
	struct request **all = requests_all(t, &count);

	for (size_t i = 0; i < count; i++)
		if (!all[i]->owed)
			decide(t, all[i], END_STOPPED, errors[END_STOPPED], turn->now_ms);
	free(all);
	requests_tick(t, turn);
}
