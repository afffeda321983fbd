#include "loop/handler.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/err.h"
#include "base/io.h"
#include "loop/child.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 30000
/* A child that lived this long did not fail at its start, so the backoff begins again. */
#define STEADY_MS 10000
/* From SIGTERM to SIGKILL. */
#define GRACE_MS 2000

struct handler {
	struct loop *loop;
	struct handler_config config;
	struct handler_ops ops;
	void *context;
	struct link *link;
	int in, out;
	struct child *child; /* NULL: none is running */
	pid_t group;	     /* of the last child */
	bool congested;
	bool held; /* not read */
	int64_t started_ms;
	struct backoff backoff;
	struct err_limits junk;
	struct loop_timer again, killer;
};

static void handler_start(struct handler *h);

static void handler_close(struct handler *h)
{
	link_free(h->link);
	h->link = NULL;
	if (h->in >= 0)
		close(h->in);
	if (h->out >= 0)
		close(h->out);
	h->in = h->out = -1;
}

static void handler_again(struct handler *h)
{
	int64_t now_ms = loop_now_ms(h->loop);

	if (now_ms - h->started_ms >= STEADY_MS)
		h->backoff.times = 0;
	loop_timer_set(h->loop, &h->again, now_ms + backoff_next_ms(&h->backoff));
}

static void handler_ended(struct handler *h, int exit_status)
{
	if (exit_status > 128)
		err_warn("'%s' was ended by signal %d", h->config.argv[0], exit_status - 128);
	else
		err_warn("'%s' has ended with status %d", h->config.argv[0], exit_status);
	/* what it wrote before it died still counts */
	if (h->link)
		link_wait_end(h->link, loop_now_ms(h->loop));
	handler_close(h);
	handler_again(h);
	h->ops.died(h->context);
}

static void on_child_ended(void *context, int wait_status)
{
	struct handler *h = context;

	h->child = NULL;
	loop_timer_clear(h->loop, &h->killer);
	kill(-h->group, SIGKILL); /* end the processes that it started, too */
	handler_ended(h, child_exit_status(wait_status));
}

static void on_again(void *context)
{
	handler_start(context);
}

static void on_killer(void *context)
{
	struct handler *h = context;

	if (h->child)
		child_signal(h->child, SIGKILL);
}

static void on_stanza(void *context, const struct stanza *s)
{
	struct handler *h = context;

	h->ops.stanza(h->context, s);
}

static void on_line(void *context, struct span line, size_t number)
{
	struct handler *h = context;

	(void)number;
	h->ops.line(h->context, line);
}

static void on_bad(void *context, const char *what, size_t line)
{
	struct handler *h = context;

	err_log_limited(err_limit_of(&h->junk, loop_now_ms(h->loop), what, NULL, 0),
		loop_now_ms(h->loop), ERR_WARNING, "'%s' wrote what cannot be read (line %zu): %s",
		h->config.argv[0], line, what);
}

/* It has closed its stdout or does not take its stdin, so it cannot answer any more: end it. */
static void on_ended(void *context, enum link_end why, int error, const char *text)
{
	struct handler *h = context;

	(void)why;
	(void)error;
	(void)text;
	if (!h->child)
		return;
	child_signal(h->child, SIGTERM);
	loop_timer_set(h->loop, &h->killer, loop_now_ms(h->loop) + GRACE_MS);
}

/* At the end of each turn: whether the pipe to it has room again. */
static void on_turn(void *context)
{
	struct handler *h = context;
	bool congested = handler_congested(h);

	if (h->congested && !congested && h->ops.drained)
		h->ops.drained(h->context);
	h->congested = congested;
}

static void handler_start(struct handler *h)
{
	static const struct link_ops link_ops = {
		.stanza = on_stanza, .line = on_line, .bad = on_bad, .ended = on_ended};

	char **environment = child_environment(NULL);
	const struct child_config child = {
		.argv = h->config.argv, .environment = environment, .group = true};
	int error;

	h->started_ms = loop_now_ms(h->loop);
	h->child = child_start(h->loop, &child, on_child_ended, h, &h->in, &h->out, &error);
	free(environment);
	if (!h->child) { /* the status as a shell reports it */
		handler_ended(h, error == ENOENT ? 127 : 126);
		return;
	}
	h->group = child_pid(h->child);
	h->link = link_new(h->loop, h->out, h->in, &h->config.link, &link_ops, h);
	if (h->held)
		link_pause(h->link);
	if (h->ops.started)
		h->ops.started(h->context);
}

struct handler *handler_new(struct loop *loop, const struct handler_config *config,
	const struct handler_ops *ops, void *context)
{
	struct handler *h = xcalloc(1, sizeof(*h));

	h->loop = loop;
	h->config = *config;
	h->config.link.reader.kind = READER_PIPE;
	h->config.link.partner = true;
	if (config->kind == HANDLER_STANZAS)
		h->config.link.max_line_bytes = 0;
	h->ops = *ops;
	h->context = context;
	h->in = h->out = -1;
	h->backoff = (struct backoff){.first_ms = BACKOFF_MIN_MS, .max_ms = BACKOFF_MAX_MS};
	loop_timer_init(&h->again, on_again, h);
	loop_timer_init(&h->killer, on_killer, h);
	loop_turn(loop, on_turn, h);
	handler_start(h);
	return h;
}

/* Read and discard its output while it ends: closing the pipe would give it an error in the middle
 * of its last work. */
static void drain_a_while(struct handler *h, int64_t left_ms)
{
	struct pollfd p = {.fd = h->out, .events = POLLIN};
	char bytes[4096];

	if (poll(&p, 1, left_ms < 10 ? (int)left_ms : 10) > 0 &&
		(!(p.revents & POLLIN) || read(h->out, bytes, sizeof(bytes)) <= 0)) {
		close(h->out);
		h->out = -1; /* from now on poll() is used only to wait */
	}
}

/* Ask it to end by closing its input first, then by signals. */
static void end_child(struct handler *h, int64_t deadline_ms)
{
	bool over = false;

	for (int step = 0; step < 2 && !over; step++) {
		int64_t until_ms = step ? io_now_ms() + GRACE_MS : deadline_ms, left_ms;

		if (step)
			child_signal(h->child, SIGTERM);
		while (!(over = child_reap(h->child)) && (left_ms = until_ms - io_now_ms()) > 0)
			drain_a_while(h, left_ms);
	}
	kill(-h->group, SIGKILL);
	while (!over && !(over = child_reap(h->child)))
		poll(NULL, 0, 1);
	h->child = NULL;
}

void handler_free(struct handler *h, int64_t deadline_ms)
{
	if (!h)
		return;
	if (h->link)
		link_flush(h->link, deadline_ms);
	link_free(h->link);
	h->link = NULL;
	if (h->in >= 0)
		close(h->in);
	h->in = -1;
	if (h->child)
		end_child(h, deadline_ms);
	handler_close(h);
	loop_timer_clear(h->loop, &h->again);
	loop_timer_clear(h->loop, &h->killer);
	loop_turn_remove(h->loop, on_turn, h);
	free(h);
}

struct writer *handler_writer(struct handler *h)
{
	return h->link ? link_writer(h->link) : NULL;
}

bool handler_send_line(struct handler *h, struct span line)
{
	if (!h->link || handler_congested(h))
		return false;
	link_send_raw(h->link, line);
	link_send_raw(h->link, SPAN("\n"));
	return true;
}

bool handler_congested(const struct handler *h)
{
	return h && h->link && link_congested(h->link);
}

bool handler_blocked(const struct handler *h)
{
	return !h->link || link_blocked(h->link);
}

void handler_hold(struct handler *h, bool hold)
{
	if (h->link)
		link_hold(h->link, &h->held, hold);
	h->held = hold;
}
