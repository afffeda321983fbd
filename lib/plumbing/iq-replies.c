#include "plumbing/iq-replies.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/random.h"
#include "xmpp/jsonlines.h"

/* An error of ours repeats what a stanza brought, escaped: `'` becomes six bytes. */
#define ESCAPED_STANZAS 8
/* The estimate of a reply's size sinks by this part of the difference with each smaller reply. */
#define ESTIMATE_DECAY 16

void replies_init(
	struct replies *r, const struct iq_config *config, struct sink *out, size_t max_bytes)
{
	const struct reader_config own_errors = {.kind = READER_PIPE,
		.max_stanza_bytes = buf_bytes(ESCAPED_STANZAS * config->login.limits.stanza_bytes),
		.index = READER_INDEX_ALL};
	uint64_t seed[2];

	random_bytes(seed, sizeof(seed));
	*r = (struct replies){.config = config, .out = out, .max_bytes = max_bytes};
	STAILQ_INIT(&r->queue);
	r->open = table_new((size_t)config->max_pending + 1, SIZE_MAX / 4, seed);
	r->reader = reader_new(&own_errors);
}

static struct request *request_of(struct table_entry *e)
{
	return *(struct request **)table_record(e);
}

static void request_free(struct request *request)
{
	free(request->id);
	free(request->typed);
	free(request->from);
	free(request->to);
	free(request->expected);
	buf_free(&request->line);
	free(request);
}

void replies_free(struct replies *r)
{
	struct request *request;

	while ((request = replies_earliest(r))) {
		replies_drop(r, request);
		if (r->config->unordered)
			request_free(request);
	}
	while ((request = STAILQ_FIRST(&r->queue))) {
		STAILQ_REMOVE_HEAD(&r->queue, next);
		request_free(request);
	}
	table_free(r->open);
	reader_free(r->reader);
}

/* Requests --------------------------------------------------------------- */

static char *copy(struct span s)
{
	return s.p ? xstrndup(s.p, s.n) : NULL;
}

struct request *replies_request(struct replies *r, struct span id, struct span from, struct span to)
{
	struct request *request = xcalloc(1, sizeof(*request));

	buf_init(&request->line, BUF_NO_MAX);
	request->id = id.n ? copy(id) : NULL;
	request->from = copy(from);
	request->to = to.n ? copy(to) : NULL;
	request->bytes = sizeof(*request) + id.n + from.n + 2 * to.n;
	r->bytes += request->bytes;
	r->count++;
	if (!r->config->unordered)
		STAILQ_INSERT_TAIL(&r->queue, request, next);
	return request;
}

void replies_open(struct replies *r, struct request *request, struct span id, int64_t deadline_ms)
{
	request->open = table_add(r->open, id, sizeof(struct request *), deadline_ms);
	*(struct request **)table_record(request->open) = request;
}

struct request *replies_find(const struct replies *r, struct span id)
{
	struct table_entry *e = id.n ? table_find(r->open, id) : NULL;

	return e ? request_of(e) : NULL;
}

struct request *replies_earliest(const struct replies *r)
{
	struct table_entry *e = table_earliest(r->open);

	return e ? request_of(e) : NULL;
}

void replies_drop(struct replies *r, struct request *request)
{
	if (request->open)
		table_remove(r->open, request->open);
	request->open = NULL;
}

/* Replies ---------------------------------------------------------------- */

static struct span condition_of(const struct stanza *s)
{
	struct span condition = stanza_error_condition(s);

	return condition.n ? condition : SPAN("undefined-condition");
}

/* The whole reply, with the user's id in a batch. */
static bool append_stanza(struct replies *r, struct request *request, const struct stanza *s)
{
	struct stanza_edit edit = STANZA_KEEP;
	struct writer w;

	writer_init(&w, &request->line, WRITER_PIPE, 0);
	if (r->config->batch)
		edit.id = request->id ? span_of(request->id) : SPAN("");
	return writer_stanza(&w, s, &edit) == WRITER_OK;
}

static bool append_json(
	struct replies *r, struct request *request, const struct stanza *s, size_t max_bytes)
{
	struct stanza shown = *s;

	if (r->config->batch)
		shown.id = span_of(request->id);
	return jsonlines_append(&shown, SPAN_NONE, max_bytes, &request->line) == WRITER_OK;
}

/* What the reply holds: its payload; of an error, in a line of --each, the condition. */
static bool append_content(struct request *request, const struct stanza *s)
{
	const struct xml_node *payload = s->type == TYPE_RESULT ? stanza_payload(s) : NULL;
	struct writer w;

	if (payload) {
		writer_init(&w, &request->line, WRITER_PIPE, 0);
		writer_begin(&w);
		writer_node(&w, s, payload);
		return writer_end(&w) == WRITER_OK;
	}
	if (!request->typed)
		return true;
	return (s->type != TYPE_ERROR || buf_append_span(&request->line, condition_of(s))) &&
	       buf_append_char(&request->line, '\n');
}

/* Make the request's line of its reply. False if the line would be larger than max_bytes. */
static bool format(
	struct replies *r, struct request *request, const struct stanza *s, size_t max_bytes)
{
	struct buf *line = &request->line;

	line->max = max_bytes;
	if (r->config->json)
		return append_json(r, request, s, max_bytes);
	if (request->typed &&
		!(buf_append_string(line, request->typed) && buf_append_char(line, '\t')))
		return false;
	if (r->config->stanza || r->config->batch)
		return append_stanza(r, request, s);
	return append_content(request, s);
}

static void log_error(const struct stanza *s)
{
	struct buf words;

	buf_init(&words, 4096);
	stanza_error_text(s, &words);
	err_error("%.*s%s%s", SPAN_ARG(condition_of(s)), buf_length(&words) ? ": " : "",
		buf_string(&words));
	buf_free(&words);
}

/* The request has its line: count it, and queue it if it is not in the queue. */
static void complete(struct replies *r, struct request *request, const struct stanza *s)
{
	size_t n = buf_length(&request->line);

	replies_drop(r, request);
	request->bytes += n;
	r->bytes += n;
	r->unprinted = true;
	if (r->config->unordered)
		STAILQ_INSERT_TAIL(&r->queue, request, next);
	if (n > r->estimate_bytes)
		r->estimate_bytes = n;
	else
		r->estimate_bytes -= (r->estimate_bytes - n) / ESTIMATE_DECAY;
	if (s->type != TYPE_ERROR)
		return;
	r->failed = true;
	if (!iq_is_many(r->config))
		log_error(s);
}

void replies_answer(struct replies *r, struct request *request, const struct stanza *s)
{
	if (!s->refusal && format(r, request, s, r->max_bytes)) {
		complete(r, request, s);
		return;
	}
	buf_reset(&request->line);
	replies_error(r, request, ERROR_POLICY_VIOLATION, "the reply is over a limit");
}

/* The error is written and read back, so that it is printed by the same code as a reply. */
void replies_error(
	struct replies *r, struct request *request, enum stanza_error error, const char *text)
{
	struct stanza s;

	replies_drop(r, request);
	if (!stanza_error_made(r->reader, span_of(request->from), span_of(request->to),
		    span_of(request->id), error, text, &s))
		return;
	format(r, request, &s, BUF_NO_MAX);
	complete(r, request, &s);
}

void replies_give_up_first(struct replies *r)
{
	struct request *first;

	while (!r->config->unordered && r->bytes > r->max_bytes &&
		(first = STAILQ_FIRST(&r->queue)) && first->open && replies_out_takes(r)) {
		replies_error(r, first, ERROR_RESOURCE_CONSTRAINT,
			"too much waited for this reply: see --unordered");
		replies_print(r);
	}
}

/* Printing --------------------------------------------------------------- */

bool replies_out_takes(const struct replies *r)
{
	if (sink_congested(r->out))
		sink_flush(r->out, 0);
	return !sink_congested(r->out);
}

void replies_print(struct replies *r)
{
	struct request *first;

	r->unprinted = false;
	while ((first = STAILQ_FIRST(&r->queue)) && !first->open && replies_out_takes(r)) {
		sink_send_raw(r->out, buf_span(&first->line));
		STAILQ_REMOVE_HEAD(&r->queue, next);
		r->bytes -= first->bytes;
		r->count--;
		request_free(first);
	}
}

bool replies_full(const struct replies *r)
{
	size_t replies = table_count(r->open) + 1;

	if (r->count == 0)
		return false;
	if (r->count >= (size_t)r->config->max_pending || r->bytes > r->max_bytes / 2)
		return true;
	return !r->config->unordered && r->bytes + replies * r->estimate_bytes > r->max_bytes;
}
