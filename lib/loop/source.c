#include "loop/source.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "loop/sink.h"

#define READ_BYTES (64 * 1024)
/* Reads after the deadline: more than a pipe or socket holds, and still a bound for a peer that
 * writes for ever. */
#define LATE_READS 128

struct source {
	struct flow flow;
	struct source_config config;
	struct source_ops ops;
	void *context;
	struct reader *reader; /* stanzas, or: */
	struct buf lines;
	size_t line;	 /* number of the line at the front of lines */
	size_t searched; /* bytes of lines without a newline */
	bool skipping;	 /* discard up to the next newline: the line was too long */

	bool watched;

	bool hungry; /* the reader has given all it had */
	bool eof;    /* no more bytes will come */
	bool over;   /* the owner has been told of the end */
	bool unheld; /* read whatever holds it */
	unsigned pauses;
	int64_t heard_ms;
	struct loop_timer kick;
};

static void source_pump(struct source *s);

/* Whether it may go on ------------------------------------------------------------- */

static bool is_held(const struct source *s)
{
	const struct sink *sink = s->config.held_by;

	if (s->unheld)
		return false;
	if (s->pauses > 0)
		return true;
	return sink && (s->config.partner ? sink_full(sink) : sink_congested(sink));
}

static bool may_read(const struct source *s)
{
	return !s->over && !is_held(s);
}

/* Whether bytes may be read: the reader takes more only when it has given all it had. */
static bool wants_input(const struct source *s)
{
	return may_read(s) && s->hungry && !s->eof;
}

static void on_fd(void *context, int fd, short revents);

/* Do not watch a descriptor when no event of it is wanted: a hang-up that nobody handles would keep
 * the loop turning. */
static void source_watch(struct source *s)
{
	bool watch = wants_input(s);

	if (watch == s->watched)
		return;
	if (watch)
		loop_fd(s->flow.loop, s->flow.fd, POLLIN, on_fd, s);
	else
		loop_fd_remove(s->flow.loop, s->flow.fd);
	s->watched = watch;
}

/* Beginning and end ---------------------------------------------------------------- */

static void source_destroy(struct source *s)
{
	reader_free(s->reader);
	buf_free(&s->lines);
	free(s);
}

static void source_leave(struct source *s)
{
	if (flow_leave(&s->flow))
		source_destroy(s);
}

static void on_turn(void *context)
{
	struct source *s = context;

	if (!s->over && is_held(s))
		s->heard_ms = loop_now_ms(s->flow.loop);
	source_watch(s);
	/* Hand over stanzas that were left while the source was held. Not from here: their results
	 * must still be written in this turn. */
	if (!s->hungry && may_read(s))
		loop_timer_set(s->flow.loop, &s->kick, 0);
}

static void on_kick(void *context)
{
	struct source *s = context;

	flow_enter(&s->flow);
	source_pump(s);
	source_leave(s);
}

struct source *source_new(struct loop *loop, int fd, const struct source_config *config,
	const struct source_ops *ops, void *context)
{
	struct source *s = xcalloc(1, sizeof(*s));

	s->config = *config;
	s->ops = *ops;
	s->context = context;
	s->reader = config->reader_ready;
	if (!s->reader && !config->max_line_bytes)
		s->reader = reader_new(&config->reader);
	buf_init(&s->lines, BUF_NO_MAX);
	s->line = 1;
	flow_open(&s->flow, loop, fd, O_RDONLY, config->counts);
	s->hungry = !config->reader_ready;
	s->heard_ms = loop_now_ms(loop);
	loop_timer_init(&s->kick, on_kick, s);
	loop_turn(loop, on_turn, s);
	source_watch(s);
	return s;
}

void source_free(struct source *s)
{
	if (!s || s->flow.freed)
		return;
	source_stop(s);
	loop_timer_clear(s->flow.loop, &s->kick);
	loop_turn_remove(s->flow.loop, on_turn, s);
	if (flow_close(&s->flow))
		source_destroy(s);
}

void source_stop(struct source *s)
{
	s->over = true;
	source_watch(s);
}

static void source_end(struct source *s, enum link_end why, int error, const char *text)
{
	source_stop(s);
	s->ops.ended(s->context, why, error, text);
}

/* Pauses --------------------------------------------------------------------------- */

void source_pause(struct source *s)
{
	s->pauses++;
}

void source_resume(struct source *s)
{
	if (s->pauses == 0 || --s->pauses > 0 || s->over)
		return;
	s->heard_ms = loop_now_ms(s->flow.loop);
	loop_timer_set(s->flow.loop, &s->kick, 0);
}

void source_hold(struct source *s, bool *held, bool hold)
{
	if (hold != *held)
		(hold ? source_pause : source_resume)(s);
	*held = hold;
}

bool source_paused(const struct source *s)
{
	return s->pauses > 0;
}

enum reader_fault source_fault(const struct source *s)
{
	return reader_fault(s->reader);
}

int64_t source_heard_ms(const struct source *s)
{
	return may_read(s) ? s->heard_ms : loop_now_ms(s->flow.loop);
}

/* Input ---------------------------------------------------------------------------- */

static void source_bad(struct source *s, const char *what, size_t line)
{
	s->flow.counts->bad++;
	if (s->ops.bad)
		s->ops.bad(s->context, what, line);
}

static void source_wants_more(struct source *s)
{
	s->hungry = true;
	if (s->eof)
		source_end(s, LINK_EOF, 0, NULL);
}

/* Hand over the complete lines. */
static void pump_lines(struct source *s)
{
	while (may_read(s)) {
		struct span in = buf_span(&s->lines);
		struct span fresh = span_from(in, s->searched);
		const char *newline = fresh.n ? memchr(fresh.p, '\n', fresh.n) : NULL;
		size_t n = newline ? (size_t)(newline - in.p) : in.n;
		bool too_long = n > s->config.max_line_bytes;

		if (!newline && !too_long && !(s->eof && n)) {
			s->searched = in.n;
			if (s->skipping) {
				s->searched = 0;
				buf_reset(&s->lines);
			}
			source_wants_more(s);
			return;
		}
		if (too_long && !s->skipping)
			source_bad(s, "line too long", s->line);
		else if (!s->skipping)
			s->ops.line(s->context, (struct span){in.p, n}, s->line);
		if (s->flow.freed)
			return;
		s->skipping = !newline && !s->eof;
		s->line += newline != NULL;
		s->searched = 0;
		buf_consume(&s->lines, newline ? n + 1 : n);
	}
}

static void give_stanza(struct source *s, const struct stanza *stanza)
{
	if (stanza->kind != STANZA_OTHER)
		s->flow.counts->stanzas_in++;
	if (stanza->refusal != STANZA_WHOLE)
		s->flow.counts->refused++;
	s->ops.stanza(s->context, stanza);
}

/* Hand over what the reader has. Stops when the output is congested. */
static void source_pump(struct source *s)
{
	struct stanza stanza;

	if (!s->reader) {
		pump_lines(s);
		return;
	}
	while (!s->flow.freed && may_read(s)) {
		switch (reader_next(s->reader, &stanza)) {
		case READER_MORE:
			source_wants_more(s);
			return;
		case READER_OPEN:
			if (s->ops.opened)
				s->ops.opened(s->context, &stanza);
			break;
		case READER_STANZA:
			give_stanza(s, &stanza);
			break;
		case READER_CLOSE:
			source_end(s, LINK_CLOSED, 0, NULL);
			return;
		case READER_BAD:
			if (s->config.reader.kind == READER_SOCKET) {
				source_end(s, LINK_BROKEN, 0, reader_error(s->reader));
				return;
			}
			source_bad(s, reader_error(s->reader), reader_error_line(s->reader));
			break;
		}
	}
}

/* A server with Nagle's algorithm (Prosody) holds the rest of a large stanza back until we
 * acknowledge, which by itself takes 40 ms. The kernel forgets the option soon, so set it each
 * time. */
static void acknowledge(int fd)
{
	int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

static ssize_t read_some(struct source *s)
{
	char *bytes =
		s->reader ? reader_room(s->reader, READ_BYTES) : buf_reserve(&s->lines, READ_BYTES);

	if (s->flow.kind == FD_SOCKET)
		return recv(s->flow.fd, bytes, READ_BYTES, MSG_DONTWAIT);
	return read(s->flow.fd, bytes, READ_BYTES);
}

/* Read once. False when there was nothing to read. */
static bool source_read(struct source *s)
{
	ssize_t n = read_some(s);

	if (n < 0) {
		if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
			source_end(s, LINK_READ_ERROR, errno, NULL);
		return false;
	}
	if (n > 0) {
		s->flow.counts->bytes_in += (uint64_t)n;
		s->heard_ms = loop_now_ms(s->flow.loop);
		if (s->reader)
			reader_filled(s->reader, (size_t)n);
		else
			buf_commit(&s->lines, (size_t)n);
	} else {
		s->eof = true;
		if (s->reader && s->config.reader.kind == READER_PIPE)
			reader_end(s->reader);
	}
	s->hungry = false;
	source_pump(s);
	if (!s->flow.freed && s->flow.kind == FD_SOCKET && s->reader && reader_inside(s->reader))
		acknowledge(s->flow.fd);
	return true;
}

bool source_read_to_end(struct source *s, int64_t deadline_ms)
{
	unsigned late_reads = 0;
	bool ended;

	flow_enter(&s->flow);
	s->unheld = true;
	while (!s->flow.freed && !s->over) {
		int64_t left_ms = deadline_ms - io_now_ms();
		struct pollfd p = {.fd = s->flow.fd, .events = POLLIN};

		if (!s->hungry) {
			source_pump(s);
			continue;
		}
		/* bytes that have come already count, however late it is */
		if (left_ms <= 0 && late_reads++ == LATE_READS)
			break;
		if (poll(&p, 1, left_ms > 60000 ? 60000 : left_ms > 0 ? (int)left_ms : 0) > 0)
			source_read(s);
		else if (left_ms <= 0)
			break;
	}
	ended = s->flow.freed || s->over;
	s->unheld = false;
	source_leave(s);
	return ended;
}

static void on_fd(void *context, int fd, short revents)
{
	struct source *s = context;

	(void)fd;
	flow_enter(&s->flow);
	if (wants_input(s) && (revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL)))
		source_read(s);
	source_leave(s);
}
