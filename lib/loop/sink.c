#include "loop/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/io.h"

/* A terminal says it is writable when 256 characters fit. */
#define TERMINAL_PIECE_BYTES 256
/* Room above max_queue_bytes, in stanzas of the largest size: a stanza can grow on its way. */
#define QUEUE_SLACK_STANZAS 8
#define STANZA_BYTES ((size_t)1024 * 1024)
/* Not watched by the loop. */
#define UNWATCHED (-1)

struct sink {
	struct flow flow;
	struct sink_config config;
	struct sink_ops ops;
	void *context;
	struct buf out;
	struct writer writer;
	uint64_t counted_out, counted_too_large; /* of the writer's, already in counts */

	int mask; /* as the loop has it, or UNWATCHED */
	size_t piece_bytes;

	bool over;
	bool blocked; /* it does not take more at the moment */
	bool quiet;   /* keep an error instead of calling back */
	int error;
	size_t lost_bytes; /* queued when it failed */
	int64_t progress_ms, written_ms;
	struct loop_timer stall, again;
};

/* Beginning and end ---------------------------------------------------------------- */

static void on_fd(void *context, int fd, short revents);

/* Events 0 show that the reader of our output has gone. A descriptor of which no event is wanted is
 * not watched at all: a hang-up that nobody handles would keep the loop turning.
 */
static void sink_watch(struct sink *s)
{
	int mask = s->blocked ? POLLOUT : 0;

	if (s->over || s->error || (!mask && (s->flow.kind == FD_READY || s->config.is_read)))
		mask = UNWATCHED;
	if (mask == s->mask)
		return;
	if (mask == UNWATCHED)
		loop_out_remove(s->flow.loop, s->flow.fd);
	else
		loop_out(s->flow.loop, s->flow.fd, (short)mask, on_fd, s);
	s->mask = mask;
}

static void sink_count(struct sink *s)
{
	s->flow.counts->stanzas_out += s->writer.stanzas - s->counted_out;
	s->flow.counts->too_large += s->writer.too_large - s->counted_too_large;
	s->counted_out = s->writer.stanzas;
	s->counted_too_large = s->writer.too_large;
}

static void sink_destroy(struct sink *s)
{
	buf_free(&s->out);
	free(s);
}

static void sink_leave(struct sink *s)
{
	if (flow_leave(&s->flow))
		sink_destroy(s);
}

static void sink_write(struct sink *s);

static void on_turn(void *context)
{
	struct sink *s = context;
	bool congested = sink_congested(s);

	flow_enter(&s->flow);
	if (s->error)
		buf_reset(&s->out);
	else if (buf_length(&s->out) > 0 && !s->blocked)
		sink_write(s);
	if (!s->flow.freed) {
		/* callers that hold back may have looked already in this turn */
		if (congested && !sink_congested(s))
			loop_timer_set(s->flow.loop, &s->again, 0);
		sink_count(s);
		sink_watch(s);
	}
	sink_leave(s);
}

static void on_stall(void *context)
{
	struct sink *s = context;
	int64_t now_ms = loop_now_ms(s->flow.loop),
		deadline_ms = s->progress_ms + s->config.stall_ms;

	if (!s->blocked || s->over || s->error)
		return;
	if (s->ops.stands_still && s->ops.stands_still(s->context))
		deadline_ms = now_ms + s->config.stall_ms;
	if (now_ms < deadline_ms) {
		loop_timer_set(s->flow.loop, &s->stall, deadline_ms);
		return;
	}
	s->over = true;
	sink_watch(s);
	s->ops.failed(s->context, 0);
}

struct sink *sink_new(struct loop *loop, int fd, const struct sink_config *config,
	const struct sink_ops *ops, void *context)
{
	struct sink *s = xcalloc(1, sizeof(*s));

	s->config = *config;
	s->ops = *ops;
	s->context = context;
	if (!s->config.max_queue_bytes)
		s->config.max_queue_bytes = LINK_MAX_QUEUE_BYTES;
	buf_init(&s->out, buf_bytes_and(s->config.max_queue_bytes, QUEUE_SLACK_STANZAS,
				  config->stanza_bytes ? config->stanza_bytes : STANZA_BYTES));
	writer_init(&s->writer, &s->out, config->kind, config->max_send_bytes);
	flow_open(&s->flow, loop, fd, O_WRONLY, config->counts);
	s->piece_bytes = isatty(s->flow.fd) ? TERMINAL_PIECE_BYTES : PIPE_BUF;
	s->mask = UNWATCHED;
	s->progress_ms = s->written_ms = loop_now_ms(loop);
	loop_timer_init(&s->stall, on_stall, s);
	loop_timer_init(&s->again, loop_only_turns, NULL);
	loop_turn(loop, on_turn, s); /* watches it: what reads the same program comes first */
	return s;
}

void sink_free(struct sink *s)
{
	if (!s || s->flow.freed)
		return;
	s->over = true;
	sink_count(s);
	sink_watch(s);
	loop_timer_clear(s->flow.loop, &s->stall);
	loop_timer_clear(s->flow.loop, &s->again);
	loop_turn_remove(s->flow.loop, on_turn, s);
	if (flow_close(&s->flow))
		sink_destroy(s);
}

void sink_stop(struct sink *s)
{
	s->over = true;
	sink_watch(s);
}

/* Queue ---------------------------------------------------------------------------- */

struct writer *sink_writer(struct sink *s)
{
	return &s->writer;
}

void sink_send_raw(struct sink *s, struct span bytes)
{
	buf_append_span(&s->out, bytes);
}

size_t sink_queued_bytes(const struct sink *s)
{
	return s->lost_bytes + buf_length(&s->out);
}

bool sink_congested(const struct sink *s)
{
	return buf_length(&s->out) > s->config.max_queue_bytes / 2;
}

bool sink_blocked(const struct sink *s)
{
	return s->blocked;
}

bool sink_full(const struct sink *s)
{
	return buf_length(&s->out) > s->config.max_queue_bytes;
}

void sink_lift_bound(struct sink *s)
{
	s->out.max = BUF_NO_MAX;
}

void sink_discard(struct sink *s)
{
	buf_reset(&s->out);
}

int sink_error(const struct sink *s)
{
	return s->error;
}

int64_t sink_written_ms(const struct sink *s)
{
	return s->written_ms;
}

void sink_progress(struct sink *s)
{
	s->progress_ms = loop_now_ms(s->flow.loop);
}

/* Writing -------------------------------------------------------------------------- */

static void sink_failed(struct sink *s, int error)
{
	s->error = error;
	s->lost_bytes = buf_length(&s->out);
	buf_reset(&s->out);
	s->blocked = false;
	sink_watch(s);
	if (!s->quiet)
		s->ops.failed(s->context, error);
}

/* As write(2), never waiting; -1 with EAGAIN when nothing fits. */
static ssize_t write_some(struct sink *s, struct span bytes)
{
	struct pollfd p = {.fd = s->flow.fd, .events = POLLOUT};

	switch (s->flow.kind) {
	case FD_SOCKET:
		return send(s->flow.fd, bytes.p, bytes.n, MSG_DONTWAIT | MSG_NOSIGNAL);
	case FD_PIECES:
		if (poll(&p, 1, 0) <= 0) {
			errno = EAGAIN;
			return -1;
		}
		if (bytes.n > s->piece_bytes)
			bytes.n = s->piece_bytes;
		break;
	case FD_NONBLOCKING:
	case FD_READY:
		break;
	}
	return write(s->flow.fd, bytes.p, bytes.n);
}

static void sink_block(struct sink *s)
{
	s->blocked = true;
	if (!s->config.stall_ms || s->stall.deadline_ms != DEADLINE_NEVER)
		return;
	sink_progress(s);
	loop_timer_set(s->flow.loop, &s->stall, s->progress_ms + s->config.stall_ms);
}

/* Entered. */
static void sink_write(struct sink *s)
{
	while (!s->error && !s->blocked && !s->over && buf_length(&s->out) > 0) {
		struct span bytes = buf_span(&s->out);
		ssize_t n = write_some(s, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
			sink_failed(s, errno);
			return;
		}
		if (n > 0) {
			s->flow.counts->bytes_out += (uint64_t)n;
			s->progress_ms = s->written_ms = loop_now_ms(s->flow.loop);
			buf_consume(&s->out, (size_t)n);
		}
		/* less than asked for: it is full, or it is a disk, and the next write tells why */
		if (n < 0 || ((size_t)n < bytes.n && s->flow.kind != FD_PIECES &&
				     s->flow.kind != FD_READY))
			sink_block(s);
	}
	if (!s->blocked)
		loop_timer_clear(s->flow.loop, &s->stall);
}

bool sink_flush(struct sink *s, int64_t deadline_ms)
{
	bool quiet = s->quiet, empty;

	flow_enter(&s->flow);
	s->quiet = true;
	while (!s->error && !s->over) {
		struct pollfd p = {.fd = s->flow.fd, .events = POLLOUT};
		int64_t left_ms;

		if (!s->blocked)
			sink_write(s);
		if (buf_length(&s->out) == 0)
			break;
		left_ms = deadline_ms - io_now_ms();
		if (left_ms <= 0)
			break;
		if (poll(&p, 1, left_ms > 60000 ? 60000 : (int)left_ms) > 0)
			s->blocked = false;
	}
	s->quiet = quiet;
	empty = sink_queued_bytes(s) == 0;
	sink_leave(s);
	return empty;
}

/* An output that nobody reads any more is an error also while there is nothing to write. */
static int hang_up_error(const struct sink *s)
{
	int error = 0;
	socklen_t n = sizeof(error);

	if (s->flow.kind == FD_SOCKET &&
		getsockopt(s->flow.fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error)
		return error;
	return EPIPE;
}

static void on_fd(void *context, int fd, short revents)
{
	struct sink *s = context;
	bool hung_up = revents & (POLLERR | POLLHUP | POLLNVAL);

	(void)fd;
	flow_enter(&s->flow);
	/* for a socket that is also read, the write tells what is wrong */
	if ((revents & POLLOUT) || (hung_up && s->config.is_read))
		s->blocked = false;
	if (hung_up && !s->config.is_read)
		sink_failed(s, hang_up_error(s));
	sink_leave(s);
}
