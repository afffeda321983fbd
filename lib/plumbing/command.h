/* plumbing/command.h - the user's command, whose input and output we connect to the server
 *
 * The command and what it starts are one process group. Signals that a terminal or an init system
 * sends to a whole job go to the whole group. If our standard input is a terminal, and we are in
 * its foreground, the group takes our place there, and stops and continues together with us.
 */
#ifndef OUTBOARD_PLUMBING_COMMAND_H
#define OUTBOARD_PLUMBING_COMMAND_H

#include <sys/resource.h>

#include "loop/loop.h"

/* status: as a shell reports it. The command is freed after the call. */
typedef void command_ended_fn(void *context, int status, int wait_status);

struct command;

/* stack: the command's limit. *in and *out: descriptors to write its standard input and read its
 * standard output; the caller closes them. Uses SIGTSTP and SIGCONT of the loop. NULL
 * after logging; *status is 126 or 127 as of a shell, or EXIT_TEMPORARY. */
struct command *command_start(struct loop *loop, char *const *argv, const struct rlimit *stack,
	command_ended_fn *ended, void *context, int *in, int *out, int *status);
void command_signal(const struct command *c, int signal_number);
/* Once a turn: stop with a command that has been stopped in the foreground. NULL is fine. */
void command_stop_with(struct command *c);

#endif
