/* link.c - see link.h */
#include "loop/link.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/io.h"

#define READ_BYTES (64 * 1024)
/* A terminal says it is writable when 256 characters fit. */
#define TERMINAL_PIECE_BYTES 256
/* Room above max_queue_bytes, in stanzas of the largest size read: a stanza grows on its way. */
#define QUEUE_SLACK_STANZAS 8
/* After a deadline: as much as a pipe can hold, so that one who writes for ever does not win. */
#define LATE_READS 16
/* Not watched by the loop. */
#define UNWATCHED (-1)

enum fd_kind {
	FD_SOCKET,
	FD_NONBLOCKING, /* the description has O_NONBLOCK, or is our own */
	FD_PIECES,	/* blocking, shared with others, not to be had anew */
	FD_READY,	/* files and devices that are always ready */
};

struct link {
	struct loop *loop;
	struct link_config config;
	struct link_ops ops;
	void *context;
	struct reader *reader; /* stanzas, or: */
	struct buf lines;
	size_t line;	 /* number of the one that begins lines */
	size_t searched; /* bytes of lines without a newline */
	bool skipping;	 /* to the next newline: it was too long */
	struct buf out;
	struct writer writer;
	struct link_counts *counts, own_counts;
	uint64_t counted_out, counted_too_large; /* of the writer's, already in counts */

	int in_fd, out_fd;     /* what we use: the caller's, or reopened */
	int our_in, our_out;   /* reopened, or -1 */
	int in_mask, out_mask; /* as the loop has them, or UNWATCHED */
	enum fd_kind in_kind, out_kind;
	size_t piece_bytes;

	bool hungry;	   /* the reader has given all it had */
	bool eof;	   /* no more bytes will come */
	bool input_over;   /* the owner knows of the end */
	bool over;	   /* nothing works any more */
	bool blocked;	   /* output does not take more at the moment */
	int write_error;   /* output is gone */
	size_t lost_bytes; /* queued when it went */
	unsigned pauses;

	unsigned busy; /* our own functions on the stack */
	bool freed;    /* by a callback while busy */
	bool quiet;    /* errors are returned, not told through ended */
	int64_t progress_ms;
	int64_t heard_ms, written_ms;
	struct loop_timer stall, kick;
};

static void link_pump(struct link *l);
static void link_write(struct link *l);

/* File descriptors --------------------------------------------------------- */

/* Setting O_NONBLOCK on a pipe or terminal would set it for everybody who shares the open file
 * description, the shell included; opening it again gives us one of our own. */
static enum fd_kind fd_open(int fd, int mode, int *ours)
{
	struct stat st;
	char path[40];
	int flags = fcntl(fd, F_GETFL);

	*ours = -1;
	if (fstat(fd, &st) < 0 || flags < 0)
		return FD_READY; /* the first read or write says what is wrong */
	if (S_ISSOCK(st.st_mode))
		return FD_SOCKET;
	if (!S_ISFIFO(st.st_mode) && !(S_ISCHR(st.st_mode) && isatty(fd)))
		return FD_READY;
	if ((flags & O_ACCMODE) != O_RDWR && (flags & O_ACCMODE) != mode)
		return FD_READY; /* as above: EBADF */
	if (flags & O_NONBLOCK)
		return FD_NONBLOCKING;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	*ours = open(path, mode | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	/* Who opens a FIFO when its writers have gone is not told of it by poll; who had it open
	 * before is, and can read without waiting. */
	if (*ours >= 0 && mode == O_RDONLY && S_ISFIFO(st.st_mode)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		if (poll(&p, 1, 0) > 0 && (p.revents & POLLHUP)) {
			close(*ours);
			*ours = -1;
		}
	}
	return *ours >= 0 ? FD_NONBLOCKING : FD_PIECES;
}

static bool link_may_read(const struct link *l)
{
	bool full = l->config.partner ? buf_length(&l->out) > l->config.max_queue_bytes
				      : link_congested(l);

	return !l->over && !l->input_over && l->pauses == 0 && !full;
}

/* Whether bytes may be read: the reader takes more only when it has given all it had. */
static bool link_wants_input(const struct link *l)
{
	return link_may_read(l) && l->hungry && !l->eof;
}

static void on_fd(void *context, int fd, short revents);

static void watch_fd(struct link *l, int fd, int *now, int mask)
{
	if (*now == mask)
		return;
	if (mask == UNWATCHED)
		loop_fd_remove(l->loop, fd);
	else
		loop_fd(l->loop, fd, (short)mask, on_fd, l);
	*now = mask;
}

/* A descriptor whose events nobody wants is not watched at all: a hang-up that cannot be acted on
 * would turn the loop without end. */
static void link_watch(struct link *l)
{
	int in = link_wants_input(l) ? POLLIN : 0;
	int out = l->blocked ? POLLOUT : 0;

	if (l->over) {
		watch_fd(l, l->in_fd, &l->in_mask, UNWATCHED);
		if (l->out_fd != l->in_fd)
			watch_fd(l, l->out_fd, &l->out_mask, UNWATCHED);
		return;
	}
	if (l->in_fd == l->out_fd) {
		watch_fd(l, l->in_fd, &l->in_mask, in | out ? in | out : UNWATCHED);
		return;
	}
	watch_fd(l, l->in_fd, &l->in_mask, in ? in : UNWATCHED);
	/* Without events: to learn that the one who reads our output is gone. */
	watch_fd(l, l->out_fd, &l->out_mask,
		(l->out_kind == FD_READY && !out) || l->write_error ? UNWATCHED : out);
}

/* Beginning and end ---------------------------------------------------------- */

static void link_enter(struct link *l)
{
	l->busy++;
}

static void link_destroy(struct link *l)
{
	reader_free(l->reader);
	buf_free(&l->lines);
	buf_free(&l->out);
	free(l);
}

static void link_leave(struct link *l)
{
	if (--l->busy == 0 && l->freed)
		link_destroy(l);
}

static void link_count(struct link *l)
{
	l->counts->stanzas_out += l->writer.stanzas - l->counted_out;
	l->counts->too_large += l->writer.too_large - l->counted_too_large;
	l->counted_out = l->writer.stanzas;
	l->counted_too_large = l->writer.too_large;
}

static void on_turn(void *context)
{
	struct link *l = context;
	bool congested = link_congested(l);

	link_enter(l);
	if (l->out.n > l->out.start && !l->blocked)
		link_write(l);
	if (!l->freed) {
		/* who holds back because of it may have looked already */
		if (congested && !link_congested(l))
			loop_timer_set(l->loop, &l->kick, 0);
		if (congested)
			l->heard_ms = loop_now_ms(l->loop);
		link_count(l);
		link_watch(l);
		/* Stanzas that were left when the output was congested. Not from here: what they
		 * bring about elsewhere is to be written this turn too. */
		if (!l->hungry && link_may_read(l))
			loop_timer_set(l->loop, &l->kick, 0);
	}
	link_leave(l);
}

static void on_kick(void *context, int64_t now_ms)
{
	struct link *l = context;

	(void)now_ms;
	link_enter(l);
	link_pump(l);
	link_leave(l);
}

static void link_end(struct link *l, enum link_end why, int error, const char *text)
{
	l->input_over = true;
	if (why != LINK_EOF && why != LINK_CLOSED && why != LINK_BROKEN)
		l->over = true;
	link_watch(l);
	if (!l->quiet)
		l->ops.ended(l->context, why, error, text);
}

static void on_stall(void *context, int64_t now_ms)
{
	struct link *l = context;

	link_enter(l);
	if (l->blocked && !l->over) {
		int64_t deadline_ms = l->progress_ms + l->config.stall_ms;

		if (l->config.partner && l->pauses)
			deadline_ms = now_ms + l->config.stall_ms;
		if (now_ms < deadline_ms)
			loop_timer_set(l->loop, &l->stall, deadline_ms);
		else
			link_end(l, LINK_STALLED, 0, NULL);
	}
	link_leave(l);
}

struct link *link_new(struct loop *loop, int in_fd, int out_fd, const struct link_config *config,
	const struct link_ops *ops, void *context)
{
	struct link *l = xcalloc(1, sizeof(*l));
	bool pipe = config->reader.kind == READER_PIPE;
	size_t stanza_bytes = config->reader.max_stanza_bytes;

	l->loop = loop;
	l->config = *config;
	l->ops = *ops;
	l->context = context;
	if (!l->config.max_queue_bytes)
		l->config.max_queue_bytes = LINK_MAX_QUEUE_BYTES;
	l->counts = config->counts ? config->counts : &l->own_counts;
	l->reader = config->reader_ready;
	if (!l->reader && !config->max_line_bytes)
		l->reader = reader_new(&config->reader);
	buf_init(&l->lines, BUF_NO_MAX);
	l->line = 1;
	buf_init(&l->out, buf_bytes_and(l->config.max_queue_bytes, QUEUE_SLACK_STANZAS,
				  stanza_bytes ? stanza_bytes : READER_MAX_STANZA_BYTES));
	writer_init(
		&l->writer, &l->out, pipe ? WRITER_PIPE : WRITER_SOCKET, config->max_send_bytes);
	l->in_kind = fd_open(in_fd, O_RDONLY, &l->our_in);
	l->our_out = -1;
	l->out_kind = in_fd == out_fd && l->in_kind == FD_SOCKET
			      ? FD_SOCKET
			      : fd_open(out_fd, O_WRONLY, &l->our_out);
	l->in_fd = l->our_in >= 0 ? l->our_in : in_fd;
	l->out_fd = l->our_out >= 0 ? l->our_out : out_fd;
	l->piece_bytes = isatty(l->out_fd) ? TERMINAL_PIECE_BYTES : PIPE_BUF;
	l->in_mask = l->out_mask = UNWATCHED;
	l->hungry = !config->reader_ready;
	l->heard_ms = l->written_ms = loop_now_ms(loop);
	loop_timer_init(&l->stall, on_stall, l);
	loop_timer_init(&l->kick, on_kick, l);
	if (!l->hungry)
		loop_timer_set(loop, &l->kick, 0);
	loop_turn(loop, on_turn, l);
	link_watch(l);
	return l;
}

void link_free(struct link *l)
{
	if (!l || l->freed)
		return;
	l->over = true;
	link_count(l);
	link_watch(l);
	loop_timer_clear(l->loop, &l->stall);
	loop_timer_clear(l->loop, &l->kick);
	loop_turn_remove(l->loop, on_turn, l);
	if (l->our_in >= 0)
		close(l->our_in);
	if (l->our_out >= 0)
		close(l->our_out);
	l->counts = &l->own_counts; /* the owner's may be gone before we are */
	if (l->busy)
		l->freed = true;
	else
		link_destroy(l);
}

/* Input ------------------------------------------------------------------------ */

static void link_bad(struct link *l, const char *what, size_t line)
{
	l->counts->bad++;
	if (l->ops.bad)
		l->ops.bad(l->context, what, line);
}

/* Hand over the lines there are. */
static void pump_lines(struct link *l)
{
	while (link_may_read(l)) {
		struct span in = buf_span(&l->lines);
		struct span fresh = span_from(in, l->searched);
		const char *newline = fresh.n ? memchr(fresh.p, '\n', fresh.n) : NULL;
		size_t n = newline ? (size_t)(newline - in.p) : in.n;
		bool too_long = n > l->config.max_line_bytes;

		if (!newline && !too_long && !(l->eof && n)) {
			l->searched = in.n;
			if (l->skipping) {
				l->searched = 0;
				buf_reset(&l->lines);
			}
			l->hungry = true;
			if (l->eof)
				link_end(l, LINK_EOF, 0, NULL);
			return;
		}
		if (too_long && !l->skipping)
			link_bad(l, "line too long", l->line);
		else if (!l->skipping)
			l->ops.line(l->context, (struct span){in.p, n}, l->line);
		if (l->freed)
			return;
		l->skipping = !newline && !l->eof;
		l->line += newline != NULL;
		l->searched = 0;
		buf_consume(&l->lines, newline ? n + 1 : n);
	}
}

/* Hand over what the reader has. Stops where more output than stanzas would come of it. */
static void link_pump(struct link *l)
{
	struct stanza s;

	if (!l->reader) {
		pump_lines(l);
		return;
	}
	while (link_may_read(l)) {
		switch (reader_next(l->reader, &s)) {
		case READER_MORE:
			l->hungry = true;
			if (l->eof)
				link_end(l, LINK_EOF, 0, NULL);
			return;
		case READER_OPEN:
			if (l->ops.opened)
				l->ops.opened(l->context, &s);
			break;
		case READER_STANZA:
			if (s.kind != STANZA_OTHER)
				l->counts->stanzas_in++;
			if (s.refusal != STANZA_WHOLE)
				l->counts->refused++;
			l->ops.stanza(l->context, &s);
			break;
		case READER_CLOSE:
			link_end(l, LINK_CLOSED, 0, NULL);
			return;
		case READER_BAD:
			if (l->config.reader.kind == READER_SOCKET) {
				link_end(l, LINK_BROKEN, 0, reader_error(l->reader));
				return;
			}
			link_bad(l, reader_error(l->reader), reader_error_line(l->reader));
			break;
		}
		if (l->freed)
			return;
	}
}

/* A server with Nagle's algorithm (Prosody) holds the rest of a large stanza back until we
 * acknowledge, which by itself takes 40 ms. The kernel forgets this soon: say it each time. */
static void acknowledge(int fd)
{
	int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

/* Read once. False when there was nothing to read. */
static bool link_read(struct link *l)
{
	char *bytes;
	ssize_t n;

	if (l->reader)
		bytes = reader_room(l->reader, READ_BYTES);
	else
		bytes = buf_reserve(&l->lines, READ_BYTES);
	if (l->in_kind == FD_SOCKET)
		n = recv(l->in_fd, bytes, READ_BYTES, MSG_DONTWAIT);
	else
		n = read(l->in_fd, bytes, READ_BYTES);
	if (n < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
			return false;
		link_end(l, LINK_READ_ERROR, errno, NULL);
		return false;
	}
	if (n > 0) {
		l->counts->bytes_in += (uint64_t)n;
		l->heard_ms = loop_now_ms(l->loop);
		if (l->reader)
			reader_filled(l->reader, (size_t)n);
		else
			buf_commit(&l->lines, (size_t)n);
	} else {
		l->eof = true;
		if (l->reader && l->config.reader.kind == READER_PIPE)
			reader_end(l->reader);
	}
	l->hungry = false;
	link_pump(l);
	if (l->in_kind == FD_SOCKET && l->reader && reader_inside(l->reader) && !l->freed)
		acknowledge(l->in_fd);
	return true;
}

/* Entered. */
static void read_to_end(struct link *l, int64_t deadline_ms)
{
	unsigned late_reads = 0;

	while (!l->freed && !l->input_over) {
		int64_t left_ms = deadline_ms - io_now_ms();
		struct pollfd p = {.fd = l->in_fd, .events = POLLIN};

		/* Nothing to hold back for: there will be no output. */
		buf_reset(&l->out);
		l->pauses = 0;
		if (!l->hungry) {
			link_pump(l);
			continue;
		}
		/* what is there already counts, however late it is */
		if (left_ms <= 0 && late_reads++ == LATE_READS)
			break;
		if (poll(&p, 1, left_ms > 60000 ? 60000 : left_ms > 0 ? (int)left_ms : 0) > 0)
			link_read(l);
		else if (left_ms <= 0)
			break;
	}
}

bool link_wait_end(struct link *l, int64_t deadline_ms)
{
	bool ended;

	link_enter(l);
	read_to_end(l, deadline_ms);
	ended = l->freed || l->input_over;
	link_leave(l);
	return ended;
}

/* Output ----------------------------------------------------------------------- */

struct writer *link_writer(struct link *l)
{
	return &l->writer;
}

void link_send_raw(struct link *l, struct span bytes)
{
	buf_append_span(&l->out, bytes);
}

size_t link_queued_bytes(const struct link *l)
{
	return l->lost_bytes + buf_length(&l->out);
}

bool link_blocked(const struct link *l)
{
	return l->blocked;
}

bool link_congested(const struct link *l)
{
	return buf_length(&l->out) > l->config.max_queue_bytes / 2;
}

void link_pause(struct link *l)
{
	l->pauses++;
}

void link_resume(struct link *l)
{
	if (l->pauses > 0 && --l->pauses == 0 && !l->over) {
		l->heard_ms = loop_now_ms(l->loop);
		if (l->config.partner)
			l->progress_ms = loop_now_ms(l->loop);
		loop_timer_set(l->loop, &l->kick, 0);
	}
}

void link_hold(struct link *l, bool *held, bool hold)
{
	if (hold != *held)
		(hold ? link_pause : link_resume)(l);
	*held = hold;
}

void link_lift_bound(struct link *l)
{
	l->out.max = BUF_NO_MAX;
}

int64_t link_heard_ms(const struct link *l)
{
	return link_may_read(l) ? l->heard_ms : loop_now_ms(l->loop);
}

int64_t link_written_ms(const struct link *l)
{
	return l->written_ms;
}

int link_write_error(const struct link *l)
{
	return l->write_error;
}

/* What the peer said before it went explains more than our EPIPE: read it first. */
static void link_write_failed(struct link *l, int error)
{
	l->write_error = error;
	l->lost_bytes = buf_length(&l->out);
	buf_reset(&l->out);
	l->blocked = false;
	if (l->quiet)
		return;
	if (l->config.reader.kind == READER_SOCKET) {
		l->pauses = 0;
		if (!l->hungry)
			link_pump(l);
		while (!l->freed && !l->input_over && l->hungry && link_read(l))
			buf_reset(&l->out);
	} else if (l->config.partner) {
		/* its last answers: a program that ends hangs up on both sides at once */
		read_to_end(l, loop_now_ms(l->loop));
	}
	if (!l->freed && !l->over)
		link_end(l, LINK_WRITE_ERROR, error, NULL);
}

/* As write(2), never waiting; -1 with EAGAIN when nothing fits. */
static ssize_t write_some(struct link *l, struct span bytes)
{
	struct pollfd p = {.fd = l->out_fd, .events = POLLOUT};

	switch (l->out_kind) {
	case FD_SOCKET:
		return send(l->out_fd, bytes.p, bytes.n, MSG_DONTWAIT | MSG_NOSIGNAL);
	case FD_PIECES:
		if (poll(&p, 1, 0) <= 0) {
			errno = EAGAIN;
			return -1;
		}
		if (bytes.n > l->piece_bytes)
			bytes.n = l->piece_bytes;
		break;
	case FD_NONBLOCKING:
	case FD_READY:
		break;
	}
	return write(l->out_fd, bytes.p, bytes.n);
}

static void link_write(struct link *l)
{
	while (!l->write_error && !l->blocked && !l->over && buf_length(&l->out) > 0) {
		struct span bytes = buf_span(&l->out);
		ssize_t n = write_some(l, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
			link_write_failed(l, errno);
			return;
		}
		if (n > 0) {
			l->counts->bytes_out += (uint64_t)n;
			l->progress_ms = l->written_ms = loop_now_ms(l->loop);
			buf_consume(&l->out, (size_t)n);
		}
		/* less than asked for: it is full (or it is a disk, and the next write says why) */
		if (n < 0 || ((size_t)n < bytes.n && l->out_kind != FD_PIECES &&
				     l->out_kind != FD_READY)) {
			l->blocked = true;
			if (l->config.stall_ms && l->stall.deadline_ms == DEADLINE_NEVER) {
				l->progress_ms = loop_now_ms(l->loop);
				loop_timer_set(
					l->loop, &l->stall, l->progress_ms + l->config.stall_ms);
			}
		}
	}
	if (l->freed)
		return;
	if (!l->blocked)
		loop_timer_clear(l->loop, &l->stall);
}

bool link_flush(struct link *l, int64_t deadline_ms)
{
	bool quiet = l->quiet, flushed;

	link_enter(l);
	l->quiet = true;
	while (!l->write_error && !l->over) {
		struct pollfd p = {.fd = l->out_fd, .events = POLLOUT};
		int64_t left_ms;

		if (!l->blocked)
			link_write(l);
		if (buf_length(&l->out) == 0)
			break;
		left_ms = deadline_ms - io_now_ms();
		if (left_ms <= 0)
			break;
		if (poll(&p, 1, left_ms > 60000 ? 60000 : (int)left_ms) > 0)
			l->blocked = false;
	}
	l->quiet = quiet;
	flushed = link_queued_bytes(l) == 0;
	link_leave(l);
	return flushed;
}

/* An output nobody reads any more: an error also while there is nothing to write. */
static int hang_up_error(const struct link *l)
{
	int error = 0;
	socklen_t n = sizeof(error);

	if (l->out_kind == FD_SOCKET &&
		getsockopt(l->out_fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error)
		return error;
	return EPIPE;
}

static void on_fd(void *context, int fd, short revents)
{
	struct link *l = context;

	link_enter(l);
	if (fd == l->out_fd) {
		if (revents & POLLOUT)
			l->blocked = false;
		if (revents & (POLLERR | POLLHUP | POLLNVAL)) {
			if (l->in_fd == l->out_fd)
				l->blocked = false; /* let the write say what is wrong */
			else
				link_write_failed(l, hang_up_error(l));
		}
	}
	if (!l->freed && fd == l->in_fd && link_wants_input(l) &&
		(revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL)))
		link_read(l);
	link_leave(l);
}
