#include "loop/job.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "loop/child.h"

/* From SIGTERM to SIGKILL. */
#define GRACE_MS 2000
#define READ_BYTES 16384

struct job {
	struct loop *loop;
	job_done_fn *done;
	void *context;
	struct child *child; /* NULL: has ended */
	pid_t group;	     /* 0: it was not started */
	struct buf input, output;
	int in, out;
	enum job_end end;
	int status;
	struct loop_timer deadline, killer;
};

static void close_fd(struct job *job, int *fd)
{
	if (*fd < 0)
		return;
	loop_fd_remove(job->loop, *fd);
	close(*fd);
	*fd = -1;
}

static void job_free(struct job *job)
{
	/* end also processes that it started and left behind with its stdout */
	if (job->group && (job->child || job->out >= 0 || job->end != JOB_EXITED))
		kill(-job->group, SIGKILL);
	if (job->child)
		child_forget(job->child);
	close_fd(job, &job->in);
	close_fd(job, &job->out);
	loop_timer_clear(job->loop, &job->deadline);
	loop_timer_clear(job->loop, &job->killer);
	buf_free(&job->input);
	buf_free(&job->output);
	free(job);
}

/* Report when it has ended and, if it ended with 0, all its output has been read. */
static void finish(struct job *job)
{
	if (job->child || (job->out >= 0 && job->end == JOB_EXITED && job->status == 0))
		return;
	job->done(job->context, job->end, job->status, buf_span(&job->output));
	job_free(job);
}

/* The result is known: kill what is left of it. */
static void stop(struct job *job, enum job_end end)
{
	if (job->end != JOB_EXITED)
		return;
	job->end = end;
	close_fd(job, &job->in);
	close_fd(job, &job->out);
	if (job->child)
		child_signal(job->child, SIGTERM);
	loop_timer_set(job->loop, &job->killer, loop_now_ms(job->loop) + GRACE_MS);
}

static void on_ended(void *context, int wait_status)
{
	struct job *job = context;

	job->child = NULL;
	if (job->end == JOB_EXITED)
		job->status = child_exit_status(wait_status);
	finish(job);
}

static void on_output(void *context, int fd, short revents)
{
	struct job *job = context;
	char bytes[READ_BYTES];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	(void)revents;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && buf_append(&job->output, bytes, (size_t)n))
		return;
	if (n > 0)
		stop(job, JOB_TOO_LONG);
	close_fd(job, &job->out);
	finish(job);
}

static void on_input(void *context, int fd, short revents)
{
	struct job *job = context;
	struct span left = buf_span(&job->input);
	ssize_t n = write(fd, left.p, left.n);

	(void)revents;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		buf_consume(&job->input, (size_t)n);
	if (n < 0 || buf_length(&job->input) == 0)
		close_fd(job,
			&job->in); /* a program that does not read its input may still answer */
}

static void on_deadline(void *context)
{
	struct job *job = context;

	if (!job->group)
		job->end = JOB_NOT_STARTED;
	else
		stop(job, JOB_LATE);
	finish(job); /* unless it has yet to end */
}

static void on_killer(void *context)
{
	struct job *job = context;

	if (job->child)
		child_signal(job->child, SIGKILL);
}

struct job *job_start(
	struct loop *loop, const struct job_config *config, job_done_fn *done, void *context)
{
	struct job *job = xcalloc(1, sizeof(*job));
	char **environment = child_environment(config->environment);
	const struct child_config child = {
		.argv = config->argv, .environment = environment, .group = true};
	int error;

	job->loop = loop;
	job->done = done;
	job->context = context;
	job->in = job->out = -1;
	buf_init(&job->input, BUF_NO_MAX);
	buf_init(&job->output, config->max_output_bytes);
	loop_timer_init(&job->deadline, on_deadline, job);
	loop_timer_init(&job->killer, on_killer, job);
	job->child = child_start(loop, &child, on_ended, job, &job->in, &job->out, &error);
	free(environment);
	if (!job->child) { /* report it from the loop */
		loop_timer_set(loop, &job->deadline, loop_now_ms(loop));
		return job;
	}
	job->group = child_pid(job->child);
	buf_append_span(&job->input, config->input);
	io_nonblocking(job->in);
	io_nonblocking(job->out);
	loop_fd(loop, job->out, POLLIN, on_output, job);
	loop_fd(loop, job->in, POLLOUT, on_input, job);
	loop_timer_set(loop, &job->deadline, config->deadline_ms);
	return job;
}

void job_cancel(struct job *job)
{
	job_free(job);
}
