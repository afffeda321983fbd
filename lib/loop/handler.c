#include "loop/handler.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 30000
/* A child that lived so long died of something else than its start. */
#define STEADY_MS 10000
/* From SIGTERM to SIGKILL. */
#define GRACE_MS 2000
#define JOB_READ_BYTES 16384

extern char **environ;

/* Children --------------------------------------------------------------- */

/* One process we started and have not waited for. The list belongs to the process, as its children
 * do. */
struct child {
	struct child *next;
	pid_t pid;
	void (*ended)(void *context, int wait_status);
	void *context; /* NULL: nobody cares any more */
};

static struct child *children;

static void on_child(void *context, int signal_number)
{
	(void)context;
	(void)signal_number;
	for (struct child **at = &children; *at;) {
		struct child *c = *at;
		int wait_status;

		if (waitpid(c->pid, &wait_status, WNOHANG) != c->pid) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		if (c->context)
			c->ended(c->context, wait_status);
		free(c);
		at = &children; /* the callback may have changed the list */
	}
}

static struct child *child_find(const void *context)
{
	for (struct child *c = children; c; c = c->next)
		if (c->context == context)
			return c;
	return NULL;
}

static void child_forget(struct child *c)
{
	struct child **at = &children;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	free(c);
}

static void child_signal(const void *context, int signal_number)
{
	struct child *c = child_find(context);

	if (c)
		kill(-c->pid, signal_number);
}

/* The clean environment, as an array to be freed by the caller (strings borrowed). */
static char **environment_new(const char *const *more)
{
	static const char *const kept[] = {"PATH=", "HOME=", "LANG=", "LC_", "TZ=", "TMPDIR="};
	size_t count = 0, n = 0;
	char **list;

	for (char **e = environ; *e; e++)
		count++;
	for (const char *const *e = more; e && *e; e++)
		count++;
	list = xcalloc(count + 1, sizeof(*list));
	for (char **e = environ; *e; e++)
		for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
			if (strncmp(*e, kept[i], strlen(kept[i])) == 0)
				list[n++] = *e;
	for (const char *const *e = more; e && *e; e++)
		list[n++] = (char *)*e;
	return list;
}

/* In the new process: our descriptors and signals must not leak into it. */
static _Noreturn void become(char *const *argv, char **environment, int in, int out)
{
	sigset_t none;

	setpgid(0, 0);
	if (in == 1)
		in = dup(in);
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0)
		_exit(EXIT_TEMPORARY);
	close_range(3, ~0u, 0);
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvpe(argv[0], argv, environment);
	err_error("cannot run '%s': %s", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* Start argv; *in is where its stdin is written to, *out where its stdout is read from. */
static bool child_start(struct loop *loop, char *const *argv, const char *const *more,
	void (*ended)(void *, int), void *context, int *in, int *out)
{
	int to[2] = {-1, -1}, from[2] = {-1, -1};
	char **environment = NULL;
	struct child *c;
	pid_t pid = -1;
	int error;

	/* before it can die */
	loop_signal(loop, SIGCHLD, on_child, NULL);
	if (pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0) {
		environment = environment_new(more);
		pid = fork();
		if (pid == 0)
			become(argv, environment, to[0], from[1]);
	}
	error = errno;
	free(environment);
	for (int i = 0; i < 2; i++) {
		int ours = i ? from[0] : to[1], theirs = i ? from[1] : to[0];

		if (theirs >= 0)
			close(theirs);
		if (ours >= 0 && pid < 0)
			close(ours);
	}
	if (pid < 0) {
		err_error("cannot start '%s': %s", argv[0], strerror(error));
		return false;
	}
	setpgid(pid, pid); /* whoever comes first */
	c = xcalloc(1, sizeof(*c));
	*c = (struct child){.next = children, .pid = pid, .ended = ended, .context = context};
	children = c;
	*in = to[1];
	*out = from[0];
	return true;
}

/* Persistent ------------------------------------------------------------- */

struct handler {
	struct loop *loop;
	struct handler_config config;
	struct handler_ops ops;
	void *context;
	struct link *link;
	int in, out;
	pid_t pid;
	bool running; /* the process is there */
	bool congested;
	bool held; /* not read */
	int64_t started_ms, backoff_ms;
	struct loop_timer again, killer;
};

static void handler_start(struct handler *h);

static void handler_close(struct handler *h)
{
	link_free(h->link);
	h->link = NULL;
	if (h->in >= 0)
		close(h->in);
	if (h->out >= 0)
		close(h->out);
	h->in = h->out = -1;
}

static void handler_again(struct handler *h)
{
	int64_t now_ms = loop_now_ms(h->loop);

	if (now_ms - h->started_ms >= STEADY_MS)
		h->backoff_ms = BACKOFF_MIN_MS;
	loop_timer_set(h->loop, &h->again, now_ms + h->backoff_ms);
	h->backoff_ms = h->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : h->backoff_ms * 2;
}

static void on_handler_ended(void *context, int wait_status)
{
	struct handler *h = context;

	loop_timer_clear(h->loop, &h->killer);
	kill(-h->pid, SIGKILL); /* what it started ends with it */
	if (WIFSIGNALED(wait_status))
		err_warn("'%s' was ended by signal %d", h->config.argv[0], WTERMSIG(wait_status));
	else
		err_warn("'%s' has ended with status %d", h->config.argv[0],
			WEXITSTATUS(wait_status));
	/* what it wrote before it died still counts */
	if (h->link)
		link_wait_end(h->link, loop_now_ms(h->loop));
	h->running = false;
	handler_close(h);
	handler_again(h);
	h->ops.died(h->context, wait_status);
}

static void on_again(void *context, int64_t now_ms)
{
	(void)now_ms;
	handler_start(context);
}

static void on_killer(void *context, int64_t now_ms)
{
	(void)now_ms;
	child_signal(context, SIGKILL);
}

static void on_stanza(void *context, const struct stanza *s)
{
	struct handler *h = context;

	h->ops.stanza(h->context, s);
}

static void on_line(void *context, struct span line, size_t number)
{
	struct handler *h = context;

	(void)number;
	h->ops.line(h->context, line);
}

static void on_bad(void *context, const char *what, size_t line)
{
	struct handler *h = context;

	err_warn("'%s' wrote what cannot be read (line %zu): %s", h->config.argv[0], line, what);
}

/* It closed its stdout or does not take its stdin: of no use any more. */
static void on_ended(void *context, enum link_end why, int error, const char *text)
{
	struct handler *h = context;

	(void)why;
	(void)error;
	(void)text;
	if (!child_find(h))
		return;
	child_signal(h, SIGTERM);
	loop_timer_set(h->loop, &h->killer, loop_now_ms(h->loop) + GRACE_MS);
}

/* Each turn's end: has the pipe to it drained? */
static void on_turn(void *context)
{
	struct handler *h = context;
	bool congested = handler_congested(h);

	if (h->congested && !congested && h->ops.drained)
		h->ops.drained(h->context);
	h->congested = congested;
}

static void handler_start(struct handler *h)
{
	static const struct link_ops link_ops = {
		.stanza = on_stanza, .line = on_line, .bad = on_bad, .ended = on_ended};

	h->started_ms = loop_now_ms(h->loop);
	if (!child_start(h->loop, h->config.argv, NULL, on_handler_ended, h, &h->in, &h->out)) {
		handler_again(h);
		h->ops.died(h->context, -1);
		return;
	}
	h->pid = child_find(h)->pid;
	h->running = true;
	h->link = link_new(h->loop, h->out, h->in, &h->config.link, &link_ops, h);
	if (h->held)
		link_pause(h->link);
	if (h->ops.started)
		h->ops.started(h->context);
}

struct handler *handler_new(struct loop *loop, const struct handler_config *config,
	const struct handler_ops *ops, void *context)
{
	struct handler *h = xcalloc(1, sizeof(*h));

	h->loop = loop;
	h->config = *config;
	h->config.link.reader.kind = READER_PIPE;
	h->config.link.partner = true;
	if (config->kind == HANDLER_STANZAS)
		h->config.link.max_line_bytes = 0;
	h->ops = *ops;
	h->context = context;
	h->in = h->out = -1;
	h->backoff_ms = BACKOFF_MIN_MS;
	loop_timer_init(&h->again, on_again, h);
	loop_timer_init(&h->killer, on_killer, h);
	loop_turn(loop, on_turn, h);
	handler_start(h);
	return h;
}

/* What it still says while it ends is read, and nobody's any more: to close would be an error to
 * it, in the middle of its last work. */
static void drain_a_while(struct handler *h, int64_t left_ms)
{
	struct pollfd p = {.fd = h->out, .events = POLLIN};
	char bytes[4096];

	if (poll(&p, 1, left_ms < 10 ? (int)left_ms : 10) > 0 &&
		(!(p.revents & POLLIN) || read(h->out, bytes, sizeof(bytes)) <= 0)) {
		close(h->out);
		h->out = -1; /* poll() only waits from now on */
	}
}

void handler_free(struct handler *h, int64_t deadline_ms)
{
	struct child *c;

	if (!h)
		return;
	if (h->link)
		link_flush(h->link, deadline_ms);
	c = child_find(h);
	link_free(h->link);
	h->link = NULL;
	if (h->in >= 0)
		close(h->in);
	h->in = -1;
	if (c) {
		pid_t pid = c->pid;
		int64_t left_ms;

		c->context = NULL;
		/* its end of input is the polite word; then the signals */
		for (int step = 0; step < 2 && waitpid(pid, NULL, WNOHANG) == 0; step++) {
			int64_t until_ms = step ? io_now_ms() + GRACE_MS : deadline_ms;

			if (step)
				kill(-pid, SIGTERM);
			while ((left_ms = until_ms - io_now_ms()) > 0 &&
				waitpid(pid, NULL, WNOHANG) == 0)
				drain_a_while(h, left_ms);
		}
		kill(-pid, SIGKILL);
		waitpid(pid, NULL, 0);
		child_forget(c);
	}
	handler_close(h);
	loop_timer_clear(h->loop, &h->again);
	loop_timer_clear(h->loop, &h->killer);
	loop_turn_remove(h->loop, on_turn, h);
	free(h);
}

struct writer *handler_writer(struct handler *h)
{
	return h->link ? link_writer(h->link) : NULL;
}

bool handler_send_line(struct handler *h, struct span line)
{
	if (!h->link || handler_congested(h))
		return false;
	link_send_raw(h->link, line);
	link_send_raw(h->link, SPAN("\n"));
	return true;
}

bool handler_congested(const struct handler *h)
{
	return h->link && link_congested(h->link);
}

void handler_hold(struct handler *h, bool hold)
{
	if (h->link)
		link_hold(h->link, &h->held, hold);
	h->held = hold;
}

/* Per request ------------------------------------------------------------ */

struct handler_job {
	struct loop *loop;
	handler_job_fn *done;
	void *context;
	struct buf input, output;
	int in, out;
	pid_t pid;
	int status;
	bool ended; /* the process */
	struct loop_timer deadline, killer;
};

static void job_close_input(struct handler_job *job)
{
	if (job->in < 0)
		return;
	loop_fd_remove(job->loop, job->in);
	close(job->in);
	job->in = -1;
}

static void job_close_output(struct handler_job *job)
{
	if (job->out < 0)
		return;
	loop_fd_remove(job->loop, job->out);
	close(job->out);
	job->out = -1;
}

static void job_free(struct handler_job *job)
{
	struct child *c = child_find(job);

	/* also what it started and left behind with its stdout */
	if (job->pid > 0 && (c || job->out >= 0 || job->status < 0))
		kill(-job->pid, SIGKILL);
	if (c)
		c->context = NULL;
	job_close_input(job);
	job_close_output(job);
	loop_timer_clear(job->loop, &job->deadline);
	loop_timer_clear(job->loop, &job->killer);
	buf_free(&job->input);
	buf_free(&job->output);
	free(job);
}

static void job_done(struct handler_job *job)
{
	if (!job->ended || (job->out >= 0 && job->status == 0))
		return;
	job->done(job->context, job->status, buf_span(&job->output));
	job_free(job);
}

/* The verdict is known; what is left of it is to be killed. */
static void job_stop(struct handler_job *job, int status)
{
	if (job->status < 0)
		return;
	job->status = status;
	job_close_input(job);
	job_close_output(job);
	child_signal(job, SIGTERM);
	loop_timer_set(job->loop, &job->killer, loop_now_ms(job->loop) + GRACE_MS);
}

static void on_job_ended(void *context, int wait_status)
{
	struct handler_job *job = context;

	job->ended = true;
	if (job->status >= 0)
		job->status = WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status)
						       : WEXITSTATUS(wait_status);
	job_done(job);
}

static void on_job_output(void *context, int fd, short revents)
{
	struct handler_job *job = context;
	char bytes[JOB_READ_BYTES];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	(void)revents;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		if (!buf_append(&job->output, bytes, (size_t)n))
			job_stop(job, -3);
		return;
	}
	job_close_output(job);
	job_done(job);
}

static void on_job_input(void *context, int fd, short revents)
{
	struct handler_job *job = context;
	struct span left = buf_span(&job->input);
	ssize_t n = write(fd, left.p, left.n);

	(void)revents;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		buf_consume(&job->input, (size_t)n);
	if (n < 0 || buf_length(&job->input) == 0)
		job_close_input(job); /* one that does not read its input may still answer */
}

static void on_job_deadline(void *context, int64_t now_ms)
{
	struct handler_job *job = context;

	(void)now_ms;
	if (job->ended) { /* something it started holds its stdout */
		job->status = -2;
		job_done(job);
		return;
	}
	job_stop(job, -2);
}

static void on_job_killer(void *context, int64_t now_ms)
{
	(void)now_ms;
	child_signal(context, SIGKILL);
}

static void on_job_not_started(void *context, int64_t now_ms)
{
	struct handler_job *job = context;

	(void)now_ms;
	job->ended = true;
	job_done(job);
}

struct handler_job *handler_job_start(struct loop *loop, const struct handler_job_config *config,
	handler_job_fn *done, void *context)
{
	struct handler_job *job = xcalloc(1, sizeof(*job));

	job->loop = loop;
	job->done = done;
	job->context = context;
	job->in = job->out = -1;
	buf_init(&job->input, BUF_NO_MAX);
	buf_init(&job->output, config->max_output_bytes);
	loop_timer_init(&job->deadline, on_job_deadline, job);
	loop_timer_init(&job->killer, on_job_killer, job);
	if (!child_start(loop, config->argv, config->environment, on_job_ended, job, &job->in,
		    &job->out)) {
		job->status = -1;
		loop_timer_init(&job->deadline, on_job_not_started, job);
		loop_timer_set(loop, &job->deadline, loop_now_ms(loop));
		return job;
	}
	job->pid = child_find(job)->pid;
	buf_append_span(&job->input, config->input);
	io_nonblocking(job->in);
	io_nonblocking(job->out);
	loop_fd(loop, job->out, POLLIN, on_job_output, job);
	loop_fd(loop, job->in, POLLOUT, on_job_input, job);
	loop_timer_set(loop, &job->deadline, config->deadline_ms);
	return job;
}

void handler_job_cancel(struct handler_job *job)
{
	job_free(job);
}
