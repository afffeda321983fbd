#include "loop/link.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/io.h"

struct link {
	struct loop *loop;
	struct link_config config;
	struct link_ops ops;
	void *context;
	struct source *source;
	struct sink *sink;
	unsigned busy; /* our own functions on the stack */
	bool freed;    /* by a callback while busy */
	bool over;     /* reading has failed: nothing works any more */
};

static void link_enter(struct link *l)
{
	l->busy++;
}

static void link_leave(struct link *l)
{
	if (--l->busy == 0 && l->freed)
		free(l);
}

/* Input ---------------------------------------------------------------------------- */

static void on_opened(void *context, const struct stanza *header)
{
	struct link *l = context;

	if (l->ops.opened)
		l->ops.opened(l->context, header);
}

static void on_stanza(void *context, const struct stanza *s)
{
	struct link *l = context;

	l->ops.stanza(l->context, s);
}

static void on_line(void *context, struct span line, size_t number)
{
	struct link *l = context;

	l->ops.line(l->context, line, number);
}

static void on_bad(void *context, const char *what, size_t line)
{
	struct link *l = context;

	if (l->ops.bad)
		l->ops.bad(l->context, what, line);
}

static void on_ended(void *context, enum link_end why, int error, const char *text)
{
	struct link *l = context;

	if (why == LINK_READ_ERROR) {
		l->over = true;
		sink_stop(l->sink);
	}
	l->ops.ended(l->context, why, error, text);
}

/* Output --------------------------------------------------------------------------- */

/* Read what the peer said before it went: it explains more than our EPIPE. A program that ends
 * closes both sides at once. */
static void on_failed(void *context, int error)
{
	struct link *l = context;

	link_enter(l);
	if (error && (l->config.reader.kind == READER_SOCKET || l->config.partner))
		source_read_to_end(l->source, io_now_ms());
	if (!l->freed && !l->over) {
		source_stop(l->source);
		l->ops.ended(l->context, error ? LINK_WRITE_ERROR : LINK_STALLED, error, NULL);
	}
	link_leave(l);
}

static bool stands_still(void *context)
{
	struct link *l = context;

	return l->config.partner && source_paused(l->source);
}

/* Both ----------------------------------------------------------------------------- */

struct link *link_new(struct loop *loop, int in_fd, int out_fd, const struct link_config *config,
	const struct link_ops *ops, void *context)
{
	static const struct source_ops source_ops = {
		.opened = on_opened,
		.stanza = on_stanza,
		.line = on_line,
		.bad = on_bad,
		.ended = on_ended,
	};
	static const struct sink_ops sink_ops = {.failed = on_failed, .stands_still = stands_still};
	struct link *l = xcalloc(1, sizeof(*l));
	bool pipe = config->reader.kind == READER_PIPE;

	l->loop = loop;
	l->config = *config;
	l->ops = *ops;
	l->context = context;
	l->sink = sink_new(loop, out_fd,
		&(struct sink_config){
			.kind = pipe ? WRITER_PIPE : WRITER_SOCKET,
			.max_send_bytes = config->max_send_bytes,
			.max_queue_bytes = config->max_queue_bytes,
			.stanza_bytes = config->reader.max_stanza_bytes,
			.stall_ms = config->stall_ms,
			.is_read = in_fd == out_fd,
			.counts = config->counts,
		},
		&sink_ops, l);
	l->source = source_new(loop, in_fd,
		&(struct source_config){
			.reader = config->reader,
			.reader_ready = config->reader_ready,
			.max_line_bytes = config->max_line_bytes,
			.held_by = l->sink,
			.partner = config->partner,
			.counts = config->counts,
		},
		&source_ops, l);
	return l;
}

void link_free(struct link *l)
{
	if (!l || l->freed)
		return;
	source_free(l->source);
	sink_free(l->sink);
	l->freed = true;
	if (!l->busy)
		free(l);
}

struct source *link_source(struct link *l)
{
	return l->source;
}

struct sink *link_sink(const struct link *l)
{
	return l->sink;
}

bool link_wait_end(struct link *l, int64_t deadline_ms)
{
	bool ended;

	link_enter(l);
	sink_stop(l->sink);
	ended = source_read_to_end(l->source, deadline_ms);
	if (!l->freed)
		sink_discard(l->sink);
	link_leave(l);
	return ended;
}

void link_pause(struct link *l)
{
	source_pause(l->source);
}

void link_resume(struct link *l)
{
	source_resume(l->source);
	if (l->config.partner && !source_paused(l->source))
		sink_progress(l->sink);
}

void link_hold(struct link *l, bool *held, bool hold)
{
	if (hold != *held)
		(hold ? link_pause : link_resume)(l);
	*held = hold;
}
