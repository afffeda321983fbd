#include "loop/child.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"

extern char **environ;

/* One process we started and have not waited for. The list belongs to the process, as its children
 * do. */
struct child {
	LIST_ENTRY(child) others;
	pid_t pid;
	bool group;
	child_ended_fn *ended; /* NULL: the caller is not told of its end */
	void *context;
};

static LIST_HEAD(, child) children = LIST_HEAD_INITIALIZER(children);

static void child_free(struct child *c)
{
	LIST_REMOVE(c, others);
	free(c);
}

static struct child *one_that_has_ended(int *wait_status)
{
	struct child *c;

	LIST_FOREACH(c, &children, others)
	{
		/* The analyser does not see that LIST_REMOVE() changes the head of the list. */
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		if (waitpid(c->pid, wait_status, WNOHANG) == c->pid)
			return c;
	}
	return NULL;
}

static void on_child(void *context, int signal_number)
{
	struct child *c;
	int wait_status;

	(void)context;
	(void)signal_number;
	/* begin again each time: the callback may change the list */
	while ((c = one_that_has_ended(&wait_status))) {
		child_ended_fn *ended = c->ended;
		void *its_context = c->context;

		child_free(c);
		if (ended)
			ended(its_context, wait_status);
	}
}

/* Set the child's descriptors, signals and process group. */
static void prepare(posix_spawn_file_actions_t *files, posix_spawnattr_t *attributes, int in,
	int out, const struct child_config *config)
{
	short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
	sigset_t all, none;

	if (posix_spawn_file_actions_adddup2(files, in, STDIN_FILENO) ||
		posix_spawn_file_actions_adddup2(files, out, STDOUT_FILENO) ||
		(!config->inherits &&
			posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1)))
		err_die(EXIT_TEMPORARY, "out of memory");
	sigfillset(&all);
	posix_spawnattr_setsigdefault(attributes, &all);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(attributes, &none);
	if (config->group)
		flags |= POSIX_SPAWN_SETPGROUP;
	posix_spawnattr_setflags(attributes, flags);
}

/* posix_spawn() and not fork(): it does not copy the page tables of a process that may hold
 * hundreds of megabytes, and it returns why argv[0] cannot be run. 0 or an errno. */
static int spawn(const struct child_config *config, int in, int out, pid_t *pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	int error;

	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attributes);
	prepare(&files, &attributes, in, out, config);
	error = posix_spawnp(
		pid, config->argv[0], &files, &attributes, config->argv, config->environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	return error;
}

static void close_both(const int fds[2])
{
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

struct child *child_start(struct loop *loop, const struct child_config *config,
	child_ended_fn *ended, void *context, int *in, int *out, int *error)
{
	int to[2] = {-1, -1}, from[2] = {-1, -1};
	struct child *c;
	pid_t pid;

	loop_signal(loop, SIGCHLD, on_child, NULL); /* before it can end */
	if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0)
		*error = errno;
	else
		*error = spawn(config, to[0], from[1], &pid);
	if (*error) {
		err_error("cannot run '%s': %s", config->argv[0], strerror(*error));
		close_both(to);
		close_both(from);
		return NULL;
	}
	close(to[0]);
	close(from[1]);
	*in = to[1];
	*out = from[0];
	c = xcalloc(1, sizeof(*c));
	*c = (struct child){.pid = pid, .group = config->group, .ended = ended, .context = context};
	LIST_INSERT_HEAD(&children, c, others);
	return c;
}

void child_signal(const struct child *child, int signal_number)
{
	kill(child->group ? -child->pid : child->pid, signal_number);
}

void child_forget(struct child *child)
{
	child->ended = NULL;
}

bool child_reap(struct child *child)
{
	if (waitpid(child->pid, NULL, WNOHANG) == 0)
		return false;
	child_free(child);
	return true;
}

pid_t child_pid(const struct child *child)
{
	return child->pid;
}

char **child_environment(const char *const *more)
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

int child_exit_status(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}
