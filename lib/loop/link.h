/* loop/link.h - a source and a sink together: stanzas, or lines, in both directions
 *
 * See loop/source.h and loop/sink.h. All stanzas of a read are decided before one write at the end
 * of the turn; while the output is congested the input is not read. A failed write to a READER_PIPE
 * link is an I/O error. When a write to a socket fails, what the peer said before it went is read
 * first, and so are the last answers of a partner.
 */
#ifndef OUTBOARD_LOOP_LINK_H
#define OUTBOARD_LOOP_LINK_H

#include "loop/sink.h"
#include "loop/source.h"

struct link_config {
	struct reader_config reader; /* reader.kind decides pipe or socket */
	struct reader *reader_ready; /* see source.h */
	size_t max_send_bytes;	     /* see writer.h; pipes: 0 */
	size_t max_queue_bytes;	     /* 0: LINK_MAX_QUEUE_BYTES */
	int64_t stall_ms;	     /* 0: never */
	size_t max_line_bytes;	     /* not 0: the input is lines of at most this, not stanzas */
	/* Both ends lead to one program, which answers on one what it gets on the other; see
	 * source.h. Producers outside hold back when the link is congested. */
	bool partner;
	struct link_counts *counts; /* borrowed, or NULL */
};

struct link_ops {
	/* as in struct source_ops */
	void (*opened)(void *context, const struct stanza *header); /* may be NULL */
	void (*stanza)(void *context, const struct stanza *s);
	void (*line)(void *context, struct span line, size_t number);
	void (*bad)(void *context, const char *what, size_t line); /* may be NULL */
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
/* The halves, for functions that concern only one of them. */
struct source *link_source(struct link *link);
struct sink *link_sink(const struct link *link);
/* Read on (callbacks are called) until the input ends or deadline_ms (a time that has passed: what
 * there is, without waiting); what is still to be written
 * is dropped. True if the input has ended. */
bool link_wait_end(struct link *link, int64_t deadline_ms);
/* As source_pause() and source_resume(); the time until a partner's stall begins anew. */
void link_pause(struct link *link);
void link_resume(struct link *link);
void link_hold(struct link *link, bool *held, bool hold);

/* Short for the functions of the halves. */
static inline struct writer *link_writer(struct link *link)
{
	return sink_writer(link_sink(link));
}

static inline void link_send_raw(struct link *link, struct span bytes)
{
	sink_send_raw(link_sink(link), bytes);
}

static inline bool link_flush(struct link *link, int64_t deadline_ms)
{
	return sink_flush(link_sink(link), deadline_ms);
}

static inline bool link_congested(const struct link *link)
{
	return sink_congested(link_sink(link));
}

static inline bool link_blocked(const struct link *link)
{
	return sink_blocked(link_sink(link));
}

static inline size_t link_queued_bytes(const struct link *link)
{
	return sink_queued_bytes(link_sink(link));
}

static inline int link_write_error(const struct link *link)
{
	return sink_error(link_sink(link));
}

#endif
