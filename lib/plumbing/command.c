#include "plumbing/command.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "loop/child.h"

extern char **environ;

/* a shell's exit statuses for a command that does not exist, or cannot be run */
#define EXIT_NOT_FOUND 127
#define EXIT_NOT_RUN 126

struct command {
	struct loop *loop;
	struct child *child;
	command_ended_fn *ended;
	void *context;
	bool foreground; /* the command has the terminal, our standard input */
};

static void foreground_set(const struct command *c, pid_t group)
{
	if (c->foreground)
		tcsetpgrp(STDIN_FILENO, group);
}

static void stop_ourselves(const struct command *c)
{
	foreground_set(c, getpgrp());
	raise(SIGSTOP);
}

static void on_stop(void *context, int signal_number)
{
	command_signal(context, signal_number);
	stop_ourselves(context);
}

static void on_continue(void *context, int signal_number)
{
	struct command *c = context;

	foreground_set(c, child_pid(c->child));
	command_signal(c, signal_number);
}

void command_stop_with(struct command *c)
{
	siginfo_t info = {0};

	if (!c || !c->foreground ||
		waitid(P_PID, (id_t)child_pid(c->child), &info, WSTOPPED | WNOHANG) != 0 ||
		info.si_pid == 0)
		return;
	stop_ourselves(c);
}

static void on_ended(void *context, int wait_status)
{
	struct command *c = context;

	foreground_set(c, getpgrp());
	loop_signal(c->loop, SIGTSTP, NULL, NULL);
	loop_signal(c->loop, SIGCONT, NULL, NULL);
	c->ended(c->context, child_exit_status(wait_status), wait_status);
	free(c);
}

void command_signal(const struct command *c, int signal_number)
{
	child_signal(c->child, signal_number);
}

struct command *command_start(struct loop *loop, char *const *argv, const struct rlimit *stack,
	command_ended_fn *ended, void *context, int *in, int *out, int *status)
{
	const struct child_config config = {
		.argv = argv, .environment = environ, .group = true, .inherits = true};
	struct command *c = xcalloc(1, sizeof(*c));
	struct rlimit ours;
	int error;

	*c = (struct command){.loop = loop, .ended = ended, .context = context};
	/* The command gets the user's limit, not the larger one that our library needs: each of
	 * its threads would get a stack of that size. */
	getrlimit(RLIMIT_STACK, &ours);
	setrlimit(RLIMIT_STACK, stack);
	c->child = child_start(loop, &config, on_ended, c, in, out, &error);
	setrlimit(RLIMIT_STACK, &ours);
	if (!c->child) {
		*status = error == ENOENT		       ? EXIT_NOT_FOUND
			  : error == EMFILE || error == ENFILE ? EXIT_TEMPORARY
							       : EXIT_NOT_RUN;
		free(c);
		return NULL;
	}
	*status = EXIT_DONE;
	loop_signal(loop, SIGTSTP, on_stop, c);
	loop_signal(loop, SIGCONT, on_continue, c);
	if (tcgetpgrp(STDIN_FILENO) == getpgrp()) {
		signal(SIGTTOU, SIG_IGN); /* otherwise taking the terminal back would stop us */
		c->foreground = true;
		foreground_set(c, child_pid(c->child));
	}
	return c;
}
