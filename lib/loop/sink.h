/* loop/sink.h - bytes to a file descriptor, in the loop
 *
 * What its writer holds is written at the end of the turn. A sink never blocks (loop/flow.h; a
 * blocking pipe is written in pieces that poll says fit; files and devices that are always ready
 * are written as they are). A failed write is reported once (EPIPE, ENOSPC), and so is a reader
 * that goes away while nothing is being written.
 *
 * The queue's hard maximum (WRITER_FULL) is max_queue_bytes and a few stanzas: a source that holds
 * back for the sink stops at the half, the rest is room for what one read and passing deadlines
 * bring about.
 */
#ifndef OUTBOARD_LOOP_SINK_H
#define OUTBOARD_LOOP_SINK_H

#include "loop/flow.h"
#include "loop/loop.h"
#include "xmpp/writer.h"

#define LINK_MAX_QUEUE_BYTES (16 * 1024 * 1024)

struct sink_config {
	enum writer_kind kind;
	size_t max_send_bytes;	    /* see writer.h; pipes: 0 */
	size_t max_queue_bytes;	    /* 0: LINK_MAX_QUEUE_BYTES */
	size_t stanza_bytes;	    /* the largest stanza that one input can cause; 0: 1 MiB */
	int64_t stall_ms;	    /* 0: never */
	bool is_read;		    /* a socket that a source reads, too: that notices its end */
	struct link_counts *counts; /* borrowed, or NULL */
};

struct sink_ops {
	/* Output works no more; error: an errno, 0: it did not drain for stall_ms. Called once; may
	 * free the sink. */
	void (*failed)(void *context, int error);
	/* Whether the time until a stall stands still; NULL: never. */
	bool (*stands_still)(void *context);
};

struct sink;

/* fd is borrowed (not closed by sink_free). Callbacks come from the loop only. */
struct sink *sink_new(struct loop *loop, int fd, const struct sink_config *config,
	const struct sink_ops *ops, void *context);
void sink_free(struct sink *s);
/* Append stanzas here; they leave at the end of the turn. */
struct writer *sink_writer(struct sink *s);
/* Raw bytes (stream header, end tag, lines). */
void sink_send_raw(struct sink *s, struct span bytes);
/* Bytes not yet written; after a failed write those that were lost. */
size_t sink_queued_bytes(const struct sink *s);
/* Whether more than half of max_queue_bytes waits: what produces output should hold back. Look at
 * the end of a turn; there is one more when it no longer is so. */
bool sink_congested(const struct sink *s);
/* Whether the descriptor takes no more for now. The loop has another turn when it does again. */
bool sink_blocked(const struct sink *s);
/* Whether more than max_queue_bytes waits. */
bool sink_full(const struct sink *s);
/* Take whatever is written, from now on: its producer bounds it. */
void sink_lift_bound(struct sink *s);
/* Drop what waits. */
void sink_discard(struct sink *s);
/* Stop for good: nothing is written, and no callback is called. */
void sink_stop(struct sink *s);
/* The time until a stall begins anew. */
void sink_progress(struct sink *s);
/* Try to write all now, waiting up to deadline_ms (for exits; a time that has passed: without
 * waiting). True if nothing is left; a failure is kept, without a callback. */
bool sink_flush(struct sink *s, int64_t deadline_ms);
/* errno of the write that failed, 0 if none has. */
int sink_error(const struct sink *s);
/* When bytes were last written; at first when it began. */
int64_t sink_written_ms(const struct sink *s);

#endif
