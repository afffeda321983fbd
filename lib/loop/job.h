/* loop/job.h - a child process for one piece of input, whose whole output is the answer
 *
 * Its own process group, killed at the deadline (SIGTERM, 2 s later SIGKILL) with the processes it
 * left behind; a clean environment and what the caller adds (loop/child.h).
 */
#ifndef OUTBOARD_LOOP_JOB_H
#define OUTBOARD_LOOP_JOB_H

#include "base/span.h"
#include "loop/loop.h"

struct job_config {
	char *const *argv;
	const char *const *environment; /* added to the clean one; NULL ended, borrowed */
	struct span input;		/* copied */
	int64_t deadline_ms;
	size_t max_output_bytes;
};

enum job_end {
	JOB_EXITED,	 /* by itself: see the exit status */
	JOB_NOT_STARTED, /* logged */
	JOB_LATE,	 /* the deadline has passed */
	JOB_TOO_LONG	 /* more than max_output_bytes */
};

/* status: 0..255, or 128 + N after signal N (JOB_EXITED, else 0). output is valid during the call.
 * Called once, from the loop. */
typedef void job_done_fn(void *context, enum job_end end, int status, struct span output);

struct job;
struct job *job_start(
	struct loop *loop, const struct job_config *config, job_done_fn *done, void *context);
/* Kill; done is not called. */
void job_cancel(struct job *job);

#endif
