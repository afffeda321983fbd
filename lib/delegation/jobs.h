/* delegation/jobs.h - the jobs of --per-request: the handler once for each request
 *
 * At most so many at once, started in turns over domains and users (xmpp/fairqueue.h); one user
 * has at most one less than all of them (and at least one), so that jobs that hang leave a place
 * to everybody else.
 */
#ifndef OUTBOARD_DELEGATION_JOBS_H
#define OUTBOARD_DELEGATION_JOBS_H

#include "loop/loop.h"
#include "xmpp/fairqueue.h"

struct jobs_config {
	char *const *argv;
	size_t at_once;
	size_t max_output_bytes;
	size_t max_items, max_bytes; /* that wait or run */
	uint64_t seed[2];
	/* A job has ended: its whole output, or SPAN_NONE (logged why). */
	void (*done)(void *context, struct span id, struct span output);
	void *context;
};

/* What a handler is told of its request. */
enum job_fact { JOB_FROM, JOB_TO, JOB_ID, JOB_TYPE, JOB_NAMESPACE, JOB_HOST, JOB_FACTS };

struct jobs;

/* *config is copied. */
struct jobs *jobs_new(struct loop *loop, const struct jobs_config *config);
/* Kills what runs; done is not called. */
void jobs_free(struct jobs *jobs);
/* Queue a job for this user; it ends at deadline_ms at the latest. False: a bound is reached. */
bool jobs_add(struct jobs *jobs, struct span id, struct span user, struct span input,
	const struct span facts[JOB_FACTS], int64_t deadline_ms);
/* Cancel the job (harmless if it is not there). */
void jobs_cancel(struct jobs *jobs, struct span id);
/* Start as many jobs as there is room for. */
void jobs_start(struct jobs *jobs);

#endif
