/* loop/source.h - stanzas, or lines, from a file descriptor, in the loop
 *
 * Reads are big, and all stanzas of a read are handed over before anything else happens. With
 * `held_by` a source stops while that sink is congested, also in the middle of what one read
 * brought (of a partner: while it is full). It never blocks (loop/flow.h).
 */
#ifndef OUTBOARD_LOOP_SOURCE_H
#define OUTBOARD_LOOP_SOURCE_H

#include "loop/flow.h"
#include "loop/loop.h"
#include "xmpp/reader.h"

struct sink;

struct source_config {
	struct reader_config reader; /* reader.kind decides pipe or socket */
	/* A reader that has begun already (past the stream header), taken over; NULL: a new one. */
	struct reader *reader_ready;
	size_t max_line_bytes;	    /* not 0: the input is lines of at most this, not stanzas */
	const struct sink *held_by; /* borrowed, or NULL */
	/* The sink leads to the program that we read. Read it also while it takes nothing, or both
	 * would wait for each other for ever. */
	bool partner;
	struct link_counts *counts; /* borrowed, or NULL */
};

struct source_ops {
	/* events of the reader; stanza also gives STANZA_OTHER */
	void (*opened)(void *context, const struct stanza *header); /* may be NULL */
	void (*stanza)(void *context, const struct stanza *s);
	/* lines: one, without its newline (the last one may have had none); number from 1 */
	void (*line)(void *context, struct span line, size_t number);
	/* a pipe's unparsable input, or a line too long: one call per piece; then reading goes on;
	 * may be NULL */
	void (*bad)(void *context, const char *what, size_t line);
	/* Called once, with one of the first four; error is an errno or 0, text what the reader
	 * said (LINK_BROKEN). */
	void (*ended)(void *context, enum link_end why, int error, const char *text);
};

struct source;

/* fd is borrowed (not closed by source_free). Callbacks come from the loop, and from
 * source_read_to_end(); each of them may source_free(). */
struct source *source_new(struct loop *loop, int fd, const struct source_config *config,
	const struct source_ops *ops, void *context);
void source_free(struct source *s);
/* Stop reading for as long as paused (another output is congested). Counted: n pauses need n
 * resumes. */
void source_pause(struct source *s);
void source_resume(struct source *s);
/* Pause or resume once; *held is the caller's record of which. */
void source_hold(struct source *s, bool *held, bool hold);
bool source_paused(const struct source *s);
/* Stop for good: nothing is read, and no callback is called. */
void source_stop(struct source *s);
/* Read on, whatever holds it, until the input ends or deadline_ms (a time that has passed: what
 * there is, without waiting). True if the input has ended. */
bool source_read_to_end(struct source *s, int64_t deadline_ms);
/* After LINK_BROKEN: the kind of what the reader said. */
enum reader_fault source_fault(const struct source *s);
/* When bytes were last read, or could have been if it had been read: the time stands still while it
 * is paused or held. */
int64_t source_heard_ms(const struct source *s);

#endif
