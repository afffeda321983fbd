#include "delegation/helper.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/io.h"
#include "base/random.h"
#include "delegation/jobs.h"
#include "loop/handler.h"
#include "xmpp/jid.h"
#include "xmpp/jsonlines.h"

/* How long the handler may take to end when its input does. */
#define END_MS 2000
/* How much may wait in the handler's pipe. That is served in order, so the rest waits in the queue,
 * which is served in turns. */
#define FEED_BYTES (64 * 1024)
/* Room beyond the bound, as a link's queue has it: a stanza may grow when it is rewritten. */
#define QUEUE_SLACK_STANZAS 8

struct helper {
	struct helper_config config;
	struct helper_ops ops;
	void *self;
	struct service *service;
	struct loop *loop;
	struct handler *handler;
	struct link *pipe; /* our own stdin and stdout as the handler */
	bool pipe_held;	   /* it is paused because of the server's link */
	struct jobs *jobs;
	struct fairqueue *queue; /* for a handler that stays */
	struct buf text;	 /* a request on its way into the queue */
	struct reader *replies;	 /* of jobs, if they are stanzas */
	struct jsonlines *json;
	size_t max_reply_bytes; /* as stanza or object; nor is the handler given a longer object */
	struct err_limits junk; /* what the handler wrote and nobody waited for */
	struct loop_timer again;
};

struct helper *helper_new(const struct helper_config *config)
{
	const struct stream_limits *limits = config->limits;
	const struct reader_config replies =
		limits_of_reader(limits, READER_PIPE, READER_INDEX_PAYLOAD);
	const struct fairqueue_config queue = {.max_items = config->max_pending,
		.max_bytes = buf_bytes_and((size_t)limits->queue_bytes, QUEUE_SLACK_STANZAS,
			(size_t)limits->stanza_bytes),
		.seed = {random_number(config->random), random_number(config->random)}};
	struct helper *h = xcalloc(1, sizeof(*h));

	h->config = *config;
	buf_init(&h->text, BUF_NO_MAX);
	h->queue = fairqueue_new(&queue);
	h->max_reply_bytes = config->json ? jsonlines_max_bytes(limits->stanza_bytes)
					  : (size_t)limits->stanza_bytes;
	if (config->json)
		h->json = jsonlines_new(&replies, true);
	else
		h->replies = reader_new(&replies);
	if (config->json && config->messages)
		jsonlines_take_messages(h->json);
	loop_timer_init(&h->again, loop_only_turns, NULL);
	return h;
}

void helper_serve(struct helper *h, const struct helper_ops *ops, void *self)
{
	h->ops = *ops;
	h->self = self;
}

void helper_free(struct helper *h)
{
	if (!h)
		return;
	fairqueue_free(h->queue);
	buf_free(&h->text);
	reader_free(h->replies);
	jsonlines_free(h->json);
	free(h);
}

/* What comes ------------------------------------------------------------- */

/* The handler's name in messages. */
static const char *name_of(const struct helper *h)
{
	return h->config.argv ? h->config.argv[0] : "standard input";
}

static void on_stanza(void *context, const struct stanza *s)
{
	struct helper *h = context;
	struct turn turn = service_turn(h->service);

	h->ops.stanza(h->self, s, &turn);
}

/* A line of the handler with --json; number 0: not known. */
static void on_object(struct helper *h, struct span line, size_t number)
{
	struct stanza s;
	struct span id;
	const char *wrong = jsonlines_read(h->json, line, number, &s, &id);
	struct turn turn = service_turn(h->service);
	struct err_limit once = {0}, *limit = &once;

	if (!wrong) {
		on_stanza(h, &s);
		return;
	}
	/* output that answers nothing may come without end */
	if (!h->ops.bad(h->self, id, &turn))
		limit = err_limit_of(&h->junk, turn.now_ms, wrong, line.p, line.n);
	if (h->pipe)
		err_log_limited(limit, turn.now_ms, ERR_WARNING, "stdin:%zu: %s (id '%.*s')",
			number, wrong, SPAN_ARG(id));
	else
		err_log_limited(limit, turn.now_ms, ERR_WARNING,
			"what '%s' wrote is no reply: %s (id '%.*s')", name_of(h), wrong,
			SPAN_ARG(id));
}

static void on_handler_line(void *context, struct span line)
{
	on_object(context, line, 0);
}

static void on_pipe_line(void *context, struct span line, size_t number)
{
	on_object(context, line, number);
}

static void on_handler_died(void *context)
{
	struct helper *h = context;
	struct turn turn = service_turn(h->service);
	struct fairqueue_item *item;

	while ((item = fairqueue_any(h->queue)))
		fairqueue_remove(h->queue, item);
	h->ops.died(h->self, &turn);
}

static void on_pipe_bad(void *context, const char *what, size_t line)
{
	struct helper *h = context;

	int64_t now_ms = loop_now_ms(h->loop);

	err_log_limited(err_limit_of(&h->junk, now_ms, what, NULL, 0), now_ms, ERR_WARNING,
		"stdin:%zu: %s", line, what);
}

static void on_pipe_ended(void *context, enum link_end why, int error, const char *text)
{
	struct helper *h = context;

	(void)text;
	if (why == LINK_WRITE_ERROR)
		err_error("cannot write standard output: %s", strerror(error));
	/* there is no handler left to answer */
	service_stop(h->service, why == LINK_EOF ? EXIT_DONE : EXIT_IO);
}

/* The whole output of a job: one iq and nothing else. NULL, and *s is valid until the next call;
 * else what is wrong. */
static const char *job_reply(struct helper *h, struct span output, struct stanza *s)
{
	static const char wrong[] = "not exactly one iq";
	struct stanza more;
	struct span id;

	if (h->config.json)
		return jsonlines_read(h->json, output, 0, s, &id);
	for (int pass = 0; pass < 2; pass++) {
		reader_reset(h->replies);
		reader_feed(h->replies, output.p, output.n);
		reader_end(h->replies);
		if (reader_next(h->replies, s) != READER_STANZA || s->kind != STANZA_IQ)
			return wrong;
		/* reading on has invalidated the stanza: read it again */
		if (pass == 0 && reader_next(h->replies, &more) != READER_MORE)
			return wrong;
	}
	return NULL;
}

static void on_job_done(void *context, struct span id, struct span output)
{
	struct helper *h = context;
	struct turn turn = service_turn(h->service);
	const char *wrong = NULL;
	struct stanza s;

	if (output.p && (wrong = job_reply(h, output, &s)))
		err_log_limited(err_limit_of(&h->junk, turn.now_ms, wrong, output.p, output.n),
			turn.now_ms, ERR_WARNING, "what '%s' wrote is no reply: %s", name_of(h),
			wrong);
	h->ops.reply(h->self, id, output.p && !wrong ? &s : NULL, &turn);
}

/* What goes -------------------------------------------------------------- */

/* Where bytes for a handler that stays are appended; NULL while there is none. */
static struct writer *out(struct helper *h)
{
	return h->pipe ? link_writer(h->pipe) : h->handler ? handler_writer(h->handler) : NULL;
}

static bool is_blocked(const struct helper *h)
{
	return h->pipe ? link_blocked(h->pipe) : handler_blocked(h->handler);
}

/* Write a request for the handler, as a stanza or an object, with another id unless id is
 * SPAN_NONE.
 */
static enum writer_status put(
	struct helper *h, const struct stanza *s, struct span id, struct writer *w)
{
	struct stanza_edit edit = {.id = id};
	enum writer_status status;

	if (!h->json)
		return writer_stanza(w, s, &edit);
	status = jsonlines_append(s, id, h->max_reply_bytes, w->out);
	if (status == WRITER_TOO_LARGE)
		err_warn("an iq of '%.*s' is too large as JSON", SPAN_ARG(s->from));
	return status;
}

static enum writer_status put_text(struct helper *h, const struct stanza *s, struct span id)
{
	struct writer w;

	buf_reset(&h->text);
	writer_init(&w, &h->text, WRITER_PIPE, 0);
	return put(h, s, id, &w);
}

static bool hand_job(struct helper *h, const struct helper_request *request)
{
	const struct stanza *s = request->stanza;
	const struct span facts[JOB_FACTS] = {[JOB_FROM] = s->from,
		[JOB_TO] = s->to.p ? s->to : jid_bare(s->from),
		[JOB_ID] = s->id,
		[JOB_TYPE] = span_of(stanza_type_name(s->type)),
		[JOB_NAMESPACE] = request->ns,
		[JOB_HOST] = request->host};

	return h->jobs && put_text(h, s, SPAN_NONE) == WRITER_OK &&
	       jobs_add(h->jobs, request->id, s->from, buf_span(&h->text), facts,
		       request->deadline_ms);
}

bool helper_hand(void *helper, const struct helper_request *request)
{
	struct helper *h = helper;
	const struct stanza *s = request->stanza;
	struct writer *w = out(h);

	if (h->config.per_request)
		return hand_job(h, request);
	if (!w)
		return false;
	if (fairqueue_count(h->queue) == 0 && buf_length(w->out) < FEED_BYTES)
		return put(h, s, request->id, w) == WRITER_OK;
	return put_text(h, s, request->id) == WRITER_OK &&
	       fairqueue_add(h->queue, request->id, s->from, buf_span(&h->text));
}

void helper_over(void *helper, struct span id)
{
	struct helper *h = helper;
	struct fairqueue_item *item = fairqueue_find(h->queue, id);

	if (item)
		fairqueue_remove(h->queue, item);
	if (h->jobs)
		jobs_cancel(h->jobs, id);
}

bool helper_tell(void *helper, const struct stanza *s, struct span id)
{
	struct helper *h = helper;
	struct writer *w = out(h);
	enum writer_status status = w ? put(h, s, id, w) : WRITER_OK;

	if (status == WRITER_FULL)
		err_warn("an answer does not reach the handler: its queue is full");
	return status != WRITER_TOO_LARGE;
}

static bool is_congested(const struct helper *h)
{
	size_t most = (size_t)h->config.limits->queue_bytes / 2;

	return fairqueue_bytes(h->queue) > most ||
	       (h->pipe ? link_congested(h->pipe) : handler_congested(h->handler));
}

/* Move waiting requests into the handler's pipe while it has room. */
static void feed(struct helper *h)
{
	struct writer *w = out(h);
	struct fairqueue_item *item;

	while (w && buf_length(w->out) < FEED_BYTES && (item = fairqueue_take(h->queue))) {
		struct turn turn = service_turn(h->service);

		if (!buf_append_span(w->out, item->text))
			h->ops.bad(h->self, item->id, &turn);
		fairqueue_remove(h->queue, item);
	}
	/* if the pipe takes all of that at once, no event would wake us for the rest */
	if (w && buf_length(w->out) && !is_blocked(h))
		loop_timer_set(h->loop, &h->again, 0);
}

/* While much waits for the handler, no more is taken from the server; while that does not take
 * more, or is away, no more is taken from the handler, and no more jobs are started. */
static void on_turn(void *context)
{
	struct helper *h = context;
	bool wait = service_congested(h->service);

	if (h->jobs) {
		if (!wait && !service_ending(h->service))
			jobs_start(h->jobs);
		return;
	}
	if (fairqueue_count(h->queue))
		feed(h);
	service_hold(h->service, is_congested(h));
	wait |= h->ops.full && h->ops.full(h->self);
	if (h->handler)
		handler_hold(h->handler, wait);
	if (h->pipe)
		link_hold(h->pipe, &h->pipe_held, wait);
}

/* Beginning and end ------------------------------------------------------ */

static void start_jobs(struct helper *h)
{
	const struct jobs_config config = {.argv = h->config.argv,
		.at_once = h->config.jobs,
		.max_output_bytes = h->max_reply_bytes,
		.max_items = h->config.max_pending,
		.max_bytes = h->config.max_pending_bytes,
		.seed = {random_number(h->config.random), random_number(h->config.random)},
		.done = on_job_done,
		.context = h};

	h->jobs = jobs_new(h->loop, &config);
}

static void start_one(struct helper *h)
{
	static const struct handler_ops handler_ops = {
		.stanza = on_stanza, .line = on_handler_line, .died = on_handler_died};
	static const struct link_ops link_ops = {.stanza = on_stanza,
		.line = on_pipe_line,
		.bad = on_pipe_bad,
		.ended = on_pipe_ended};
	const struct stream_limits *limits = h->config.limits;
	struct handler_config config = {.kind = h->config.json ? HANDLER_LINES : HANDLER_STANZAS,
		.argv = h->config.argv,
		.link = {.reader = limits_of_reader(limits, READER_PIPE, READER_INDEX_PAYLOAD),
			.max_queue_bytes = (size_t)limits->queue_bytes,
			.max_line_bytes = h->config.json ? h->max_reply_bytes : 0,
			.partner = true}};

	if (!config.argv) {
		h->pipe = link_new(h->loop, 0, 1, &config.link, &link_ops, h);
		return;
	}
	/* a handler that does not read would stop everything */
	config.link.stall_ms = h->config.timeout_ms;
	h->handler = handler_new(h->loop, &config, &handler_ops, h);
}

void helper_attach(void *helper, struct service *service, struct loop *loop)
{
	struct helper *h = helper;

	h->service = service;
	h->loop = loop;
	if (h->config.per_request)
		start_jobs(h);
	else
		start_one(h);
	loop_turn(loop, on_turn, h);
}

void helper_detach(void *helper)
{
	struct helper *h = helper;

	loop_timer_clear(h->loop, &h->again);
	handler_free(h->handler, io_now_ms() + END_MS);
	link_free(h->pipe);
	jobs_free(h->jobs);
	h->handler = NULL;
	h->pipe = NULL;
	h->jobs = NULL;
}
