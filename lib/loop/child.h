/* loop/child.h - child processes: all of them are started here
 *
 * A child reads what the caller writes to *in as its standard input, and what it writes to its
 * standard output is read from *out; its stderr is ours. argv array, no shell, found by our PATH;
 * all other descriptors are closed in it (but see `inherits`), no signal is ignored or blocked. The
 * module takes SIGCHLD of the loop for itself.
 */
#ifndef OUTBOARD_LOOP_CHILD_H
#define OUTBOARD_LOOP_CHILD_H

#include <signal.h>
#include <sys/types.h>

#include "loop/loop.h"

struct child_config {
	char *const *argv;	  /* NULL ended */
	char *const *environment; /* "NAME=value", NULL ended: all of it */
	bool group;		  /* the child leads a process group of its own */
	bool inherits; /* descriptors above 2 that are not close-on-exec stay open in it */
};

/* It has ended; wait_status as of waitpid(). The child is freed after the call. */
typedef void child_ended_fn(void *context, int wait_status);

struct child;

/* Start a child. The module owns it until it has ended; the caller closes *in and *out. NULL: it
 * could not be started (logged), and *error is the errno. */
struct child *child_start(struct loop *loop, const struct child_config *config,
	child_ended_fn *ended, void *context, int *in, int *out, int *error);
/* Send a signal to the child, or to all of its group. */
void child_signal(const struct child *child, int signal_number);
/* Forget the child: `ended` is not called, and the loop waits for it. */
void child_forget(struct child *child);
/* For exits, when the loop no longer runs: whether the child has ended. If so it is freed, and
 * `ended` is not called. */
bool child_reap(struct child *child);
pid_t child_pid(const struct child *child);

/* A clean environment: PATH, HOME, LANG, LC_*, TZ and TMPDIR of ours (never NOTIFY_SOCKET,
 * CREDENTIALS_DIRECTORY, LISTEN_*), and `more` (NULL ended, or NULL). The caller frees the array;
 * its strings are borrowed. */
char **child_environment(const char *const *more);
/* 0..255, or 128 + N after signal N. */
int child_exit_status(int wait_status);

#endif
