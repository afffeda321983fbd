#include "delegation/jobs.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "loop/job.h"

/* The job of one queued item. */
struct work {
	struct jobs *jobs;
	struct fairqueue_item *item;
	struct job *running; /* NULL: it waits */
	char *environment[JOB_FACTS + 1];
	int64_t deadline_ms;
};

struct jobs {
	struct loop *loop;
	struct jobs_config config;
	struct fairqueue *queue;
	size_t running;
	struct err_limits failed; /* any user's request may be one that the program fails on */
	struct work *reporting;	  /* of which `done` is being called */
};

struct jobs *jobs_new(struct loop *loop, const struct jobs_config *config)
{
	struct jobs *jobs = xcalloc(1, sizeof(*jobs));
	const struct fairqueue_config queue = {.max_items = config->max_items,
		.max_bytes = config->max_bytes,
		.max_taken = config->at_once > 1 ? config->at_once - 1 : 1,
		.seed = {config->seed[0], config->seed[1]}};

	jobs->loop = loop;
	jobs->config = *config;
	jobs->queue = fairqueue_new(&queue);
	return jobs;
}

static void work_remove(struct work *work)
{
	for (int i = 0; i < JOB_FACTS; i++)
		free(work->environment[i]);
	fairqueue_remove(work->jobs->queue, work->item);
	free(work);
}

void jobs_free(struct jobs *jobs)
{
	struct fairqueue_item *item;

	if (!jobs)
		return;
	while ((item = fairqueue_any(jobs->queue))) {
		struct work *work = item->owner;

		if (work->running)
			job_cancel(work->running);
		work_remove(work);
	}
	fairqueue_free(jobs->queue);
	free(jobs);
}

static char *environment_line(const char *name, struct span value)
{
	struct buf line;
	char *copy;

	buf_init(&line, BUF_NO_MAX);
	buf_append_string(&line, name);
	buf_append_span(&line, value);
	copy = xstrdup(buf_string(&line));
	buf_free(&line);
	return copy;
}

static void on_done(void *context, enum job_end end, int status, struct span output)
{
	static const char *const why[] = {[JOB_NOT_STARTED] = "could not be started",
		[JOB_LATE] = "did not answer in time",
		[JOB_TOO_LONG] = "wrote too much"};
	struct work *work = context;
	struct jobs *jobs = work->jobs;
	const char *name = jobs->config.argv[0];
	int64_t now_ms = loop_now_ms(jobs->loop);
	struct span number = {(const char *)&status, sizeof(status)};

	if (end != JOB_EXITED)
		err_log_limited(err_limit_of(&jobs->failed, now_ms, why[end], NULL, 0), now_ms,
			ERR_WARNING, "'%s' %s", name, why[end]);
	else if (status != 0)
		err_log_limited(err_limit_of(&jobs->failed, now_ms, "", number.p, number.n), now_ms,
			ERR_WARNING, "'%s' has ended with status %d", name, status);
	work->running = NULL;
	jobs->running--;
	jobs->reporting = work;
	jobs->config.done(jobs->config.context, work->item->id,
		end == JOB_EXITED && status == 0 ? output : SPAN_NONE);
	jobs->reporting = NULL;
	work_remove(work);
}

void jobs_start(struct jobs *jobs)
{
	struct fairqueue_item *item;

	while (jobs->running < jobs->config.at_once && (item = fairqueue_take(jobs->queue))) {
		struct work *work = item->owner;
		const struct job_config config = {.argv = jobs->config.argv,
			.environment = (const char *const *)work->environment,
			.input = item->text,
			.deadline_ms = work->deadline_ms,
			.max_output_bytes = jobs->config.max_output_bytes};

		/* taken out of the queue but never run: it is about to be cancelled */
		if (work->deadline_ms <= loop_now_ms(jobs->loop))
			continue;
		jobs->running++;
		work->running = job_start(jobs->loop, &config, on_done, work);
	}
}

bool jobs_add(struct jobs *jobs, struct span id, struct span user, struct span input,
	const struct span facts[JOB_FACTS], int64_t deadline_ms)
{
	static const char *const names[JOB_FACTS] = {[JOB_FROM] = "XMPP_FROM=",
		[JOB_TO] = "XMPP_TO=",
		[JOB_ID] = "XMPP_ID=",
		[JOB_TYPE] = "XMPP_TYPE=",
		[JOB_NAMESPACE] = "XMPP_NAMESPACE=",
		[JOB_HOST] = "XMPP_HOST="};
	struct fairqueue_item *item = fairqueue_add(jobs->queue, id, user, input);
	struct work *work;

	if (!item)
		return false;
	item->owner = work = xcalloc(1, sizeof(*work));
	work->jobs = jobs;
	work->item = item;
	work->deadline_ms = deadline_ms;
	for (int i = 0; i < JOB_FACTS; i++)
		work->environment[i] = environment_line(names[i], facts[i]);
	return true;
}

void jobs_cancel(struct jobs *jobs, struct span id)
{
	struct fairqueue_item *item = fairqueue_find(jobs->queue, id);
	struct work *work = item ? item->owner : NULL;

	if (!work || work == jobs->reporting)
		return;
	if (work->running) {
		job_cancel(work->running);
		jobs->running--;
	}
	work_remove(work);
}
