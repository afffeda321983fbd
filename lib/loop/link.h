/* loop/link.h - stanzas, or lines, over file descriptors, in the loop
 *
 * A link reads one fd through a reader, and sends what its writer holds on
 * another (or the same, a socket). Invariants: reads are big, all stanzas of a read are
 * decided before one write at the end of the turn; while more than half of
 * max_queue_bytes waits to be written the link stops reading (with `partner`, all of it); it never
 * blocks (a pipe or terminal shared with others is not set O_NONBLOCK: it is reopened
 * through /proc/self/fd, or written in pieces that poll says fit; files and devices that are
 * always ready are written as they are).
 * A failed write to a READER_PIPE link is an I/O error (EPIPE, ENOSPC), and so is a reader that
 * goes away while nothing is being written. When a write to a socket fails, what the peer said
 * before it went is read first.
 *
 * The queue's hard maximum (WRITER_FULL) is max_queue_bytes and a few stanzas: reading stops at
 * the half, the rest is room for what one read and passing deadlines bring about.
 */
#ifndef OUTBOARD_LOOP_LINK_H
#define OUTBOARD_LOOP_LINK_H

#include "loop/loop.h"
#include "xmpp/reader.h"
#include "xmpp/writer.h"

#define LINK_MAX_QUEUE_BYTES (16 * 1024 * 1024)

enum link_end {
	LINK_EOF,    /* end of input (socket: without </stream:stream>) */
	LINK_CLOSED, /* </stream:stream> */
	LINK_BROKEN, /* the input could not be parsed (socket only) */
	LINK_READ_ERROR,
	LINK_WRITE_ERROR,
	LINK_STALLED, /* output did not drain for stall_ms (of a partner: while it was listened to)
		       */
};

/* Sums over the life of the owner: one link after the other adds to them. */
struct link_counts {
	uint64_t stanzas_in, bytes_in; /* stanzas_in: iq, message, presence */
	uint64_t stanzas_out, bytes_out;
	uint64_t bad;	    /* pieces of a pipe's input that could not be parsed */
	uint64_t refused;   /* stanzas over a limit of the reader */
	uint64_t too_large; /* stanzas not sent: over max_send_bytes */
};

struct link_config {
	struct reader_config reader; /* reader.kind decides pipe or socket */
	/* A reader that has read the beginning already (a stream header), taken over by the link;
	 * NULL: a new one. */
	struct reader *reader_ready;
	size_t max_send_bytes;	/* see writer.h; pipes: 0 */
	size_t max_queue_bytes; /* 0: LINK_MAX_QUEUE_BYTES */
	int64_t stall_ms;	/* 0: never */
	size_t max_line_bytes;	/* not 0: the input is lines of at most this, not stanzas */
	/* Both ends are one program, which answers on the one what it gets on the other: it must be
	 * listened to while it takes nothing, or both would wait for each other for ever. Producers
	 * outside hold back when the link is congested. */
	bool partner;
	struct link_counts *counts; /* borrowed, or NULL */
};

struct link_ops {
	/* events of the reader; stanza also gives STANZA_OTHER */
	void (*opened)(void *context, const struct stanza *header); /* may be NULL */
	void (*stanza)(void *context, const struct stanza *s);
	/* lines: one, without its newline (the last one may have had none); number from 1 */
	void (*line)(void *context, struct span line, size_t number);
	/* a pipe's unparsable input, or a line too long: one call per piece; then reading goes on;
	 * may be NULL */
	void (*bad)(void *context, const char *what, size_t line);
	/* error is an errno or 0, text what the reader said (LINK_BROKEN). Called once, and after
	 * LINK_EOF, LINK_CLOSED and LINK_BROKEN, where the output side still works, perhaps once
	 * more with LINK_WRITE_ERROR or LINK_STALLED. */
	void (*ended)(void *context, enum link_end why, int error, const char *text);
};

struct link;

/* Fds are borrowed (not closed by link_free). Callbacks come from the loop only, never from a
 * function of this header but link_wait_end(); each of them may link_free(). */
struct link *link_new(struct loop *loop, int in_fd, int out_fd, const struct link_config *config,
	const struct link_ops *ops, void *context);
void link_free(struct link *link);
/* Append stanzas here; they leave at the end of the turn. */
struct writer *link_writer(struct link *link);
/* Raw bytes (stream header, end tag). */
void link_send_raw(struct link *link, struct span bytes);
/* Bytes not yet written; after a failed write those that were lost. */
size_t link_queued_bytes(const struct link *link);
/* Whether more than half of max_queue_bytes waits: producers outside should hold back. They look at
 * the end of a turn; there is one more when it no longer is so. */
bool link_congested(const struct link *link);
/* Whether the descriptor takes no more for now: the loop has another turn when it does. */
bool link_blocked(const struct link *link);
/* Stop reading for as long as paused (another output is congested). Counted: n pauses need n
 * resumes. */
void link_pause(struct link *link);
void link_resume(struct link *link);
/* Be paused or not, for one who remembers in *held whether he has paused it. */
void link_hold(struct link *link, bool *held, bool hold);
/* The last words of a program (an answer to each open request) are as many as there are: no
 * maximum from now on. */
void link_lift_bound(struct link *link);
/* Try to write all now, waiting up to deadline_ms (for exits; a time that has passed: without
 * waiting). True if nothing is left. */
bool link_flush(struct link *link, int64_t deadline_ms);
/* When bytes were last read, or could have been if the link had been read: a link that is paused or
 * congested hears nothing, so its time stands still. */
int64_t link_heard_ms(const struct link *link);
/* When bytes were last written; at first when it began. */
int64_t link_written_ms(const struct link *link);
/* errno of the write that failed, 0 if none has. */
int link_write_error(const struct link *link);
/* Read on (callbacks are called) until the input ends or deadline_ms (a time that has passed: what
 * there is, without waiting); what is still to be written
 * is dropped. True if the input has ended. */
bool link_wait_end(struct link *link, int64_t deadline_ms);

#endif
