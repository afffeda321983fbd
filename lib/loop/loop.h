/* loop/loop.h - the one poll(2) loop
 *
 * Invariants: one loop per process. Signal handlers only write one byte to a
 * self-pipe; everything else runs here. Deadlines are absolute CLOCK_MONOTONIC
 * milliseconds. Callbacks may add and remove fds, timers and themselves.
 * loop_now_ms() is read once per turn. Order in a turn: signals, timers, fds,
 * then the `turn` hooks (where outputs are flushed: one write per turn). After loop_stop() only
 * the hooks are called once more. An fd removed in a turn is not called any more in it, and one
 * added gets its first events in the next, even under the same number.
 */
#ifndef OUTBOARD_LOOP_LOOP_H
#define OUTBOARD_LOOP_LOOP_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/deadline.h"

struct loop;

/* Exits 75 when no pipe can be made. */
struct loop *loop_new(void);
void loop_free(struct loop *loop); /* restores signal dispositions */

typedef void loop_fd_fn(void *context, int fd, short revents);
/* Watch fd for events (POLLIN|POLLOUT, 0 = only errors/hangup). Replaces what was set for fd. */
void loop_fd(struct loop *loop, int fd, short events, loop_fd_fn *fn, void *context);
/* Stop watching (before close). Harmless if not watched. */
void loop_fd_remove(struct loop *loop, int fd);

/* The same for an owner of its own that watches fd for output (POLLOUT, or 0), beside the one that
 * watches it for input. */
void loop_out(struct loop *loop, int fd, short events, loop_fd_fn *fn, void *context);
void loop_out_remove(struct loop *loop, int fd);

/* A timer is embedded by its owner and must stay in place while set. fn gets no time: it is
 * loop_now_ms(). */
typedef void loop_timer_fn(void *context);
struct loop_timer {
	loop_timer_fn *fn;
	void *context;
	int64_t deadline_ms; /* DEADLINE_NEVER while not set */
	size_t slot;	     /* private */
};
/* The fn of a timer that only causes a turn, in whose hooks its owner does what is due. */
void loop_only_turns(void *context);
void loop_timer_init(struct loop_timer *timer, loop_timer_fn *fn, void *context);
void loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t deadline_ms);
void loop_timer_clear(struct loop *loop, struct loop_timer *timer);

/* Several signals of one number that come before the loop looks count as one. fn NULL: restore the
 * old disposition. */
typedef void loop_signal_fn(void *context, int signal_number);
void loop_signal(struct loop *loop, int signal_number, loop_signal_fn *fn, void *context);

/* Called at the end of every turn, before waiting, in order of addition. */
typedef void loop_turn_fn(void *context);
void loop_turn(struct loop *loop, loop_turn_fn *fn, void *context);
/* Harmless if it was not added. */
void loop_turn_remove(struct loop *loop, loop_turn_fn *fn, void *context);

int64_t loop_now_ms(const struct loop *loop);
/* Run until loop_stop(); returns its status. May be run again. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop, int status);
bool loop_stopped(const struct loop *loop);

#endif
