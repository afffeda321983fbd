/* plumbing/command.h - a command of the user's between us and the server: a job of its own
 *
 * The command and what it starts are one process group. What a terminal or an init system would
 * send to the whole of a job goes to the whole of it. If our standard input is the terminal, and we
 * are in its foreground, the group takes our place there, and stops and goes on together with us.
 */
#ifndef OUTBOARD_PLUMBING_COMMAND_H
#define OUTBOARD_PLUMBING_COMMAND_H

#include <sys/resource.h>

#include "loop/loop.h"

/* status: what a shell would say of it. The command is freed after the call. */
typedef void command_ended_fn(void *context, int status, int wait_status);

struct command;

/* stack: the limit that the command is to find. *in and *out: where its standard input is written
 * and its standard output read, the caller's to close. Takes SIGTSTP and SIGCONT of the loop. NULL
 * after logging; *status is 126 or 127 as of a shell, or EXIT_TEMPORARY. */
struct command *command_start(struct loop *loop, char *const *argv, const struct rlimit *stack,
	command_ended_fn *ended, void *context, int *in, int *out, int *status);
void command_signal(const struct command *c, int signal_number);
/* Once a turn: stop with a command that has been stopped in the foreground. NULL is fine. */
void command_look(struct command *c);

#endif
