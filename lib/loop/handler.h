/* loop/handler.h - a child process that answers
 *
 * Persistent: started once, given work on its stdin and answering on its stdout in any
 * order, restarted with backoff (100 ms doubling to 30 s, reset after 10 s of life) when it dies.
 * Per request (handler_job): started for one piece of input, its whole output is the
 * answer. Both: argv array, no shell; own process group, killed (SIGTERM, 2 s later SIGKILL) at a
 * deadline and at the end; a clean environment: PATH, HOME, LANG, LC_*, TZ, TMPDIR of ours (never
 * NOTIFY_SOCKET, CREDENTIALS_DIRECTORY, LISTEN_*), for a job plus what the caller adds; all other
 * fds closed; no signal ignored or blocked; stderr is ours. The module takes SIGCHLD of the loop
 * for itself.
 *
 * The stream to a persistent handler is either stanzas (reader and writer in
 * their pipe form, through link.h) or lines (NDJSON or names).
 */
#ifndef OUTBOARD_LOOP_HANDLER_H
#define OUTBOARD_LOOP_HANDLER_H

#include "loop/link.h"

enum handler_kind { HANDLER_STANZAS, HANDLER_LINES };

struct handler_config {
	enum handler_kind kind;
	char *const *argv; /* NULL ended, borrowed */
	/* limits; reader.kind is set by the module; HANDLER_LINES needs max_line_bytes */
	struct link_config link;
};

struct handler_ops {
	/* one stanza (any kind) or one line (without newline) of its output; what is neither is
	 * logged */
	void (*stanza)(void *context, const struct stanza *s);
	void (*line)(void *context, struct span line);
	/* it is there (again) and may be given work */
	void (*started)(void *context);
	/* it died, or could not be started (wait_status -1; already logged): what it held is lost
	 */
	void (*died)(void *context, int wait_status);
	/* its stdin has room again after handler_congested() */
	void (*drained)(void *context);
};

struct handler;

/* Starts the child. */
struct handler *handler_new(struct loop *loop, const struct handler_config *config,
	const struct handler_ops *ops, void *context);
/* Closes its stdin, reads past what it says until its end, at most until deadline_ms, then kills.
 * No callbacks any more. */
void handler_free(struct handler *h, int64_t deadline_ms);
/* Stanzas appended here go to its stdin at the end of the turn; NULL while it is down. */
struct writer *handler_writer(struct handler *h);
/* One line to its stdin; false while it is down or full. */
bool handler_send_line(struct handler *h, struct span line);
bool handler_congested(const struct handler *h);
/* Whether its output is left in its pipe: what would become of it does not drain. It is not
 * expected to take more meanwhile. */
void handler_hold(struct handler *h, bool hold);

struct handler_job_config {
	char *const *argv;
	const char *const
		*environment;	 /* "NAME=value", NULL ended, added to the clean one; borrowed */
	struct span input;	 /* copied */
	int64_t deadline_ms;	 /* process group killed then */
	size_t max_output_bytes; /* more: killed, done(too large) */
};

/* status: 0..255 exit status, 128+N signal, -1 not started, -2 deadline, -3 too much output. output
 * valid during the call. Called exactly once. */
typedef void handler_job_fn(void *context, int status, struct span output);

struct handler_job;
struct handler_job *handler_job_start(struct loop *loop, const struct handler_job_config *config,
	handler_job_fn *done, void *context);
/* Kill; done is not called. */
void handler_job_cancel(struct handler_job *job);

#endif
