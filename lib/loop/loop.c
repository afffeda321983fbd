/* loop.c - see loop.h */
#include "loop/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/io.h"

#define NO_SLOT SIZE_MAX

/* A descriptor can have one watcher for its input and one for its output. */
enum side { SIDE_IN, SIDE_OUT };

struct watch {
	loop_fd_fn *fn;
	void *context;
	enum side side;
};

struct hook {
	loop_turn_fn *fn;
	void *context;
};

struct handler {
	loop_signal_fn *fn;
	void *context;
	struct sigaction before;
};

struct loop {
	/* polled[i] and watches[i] belong together; polled[0] is the self-pipe. A removed fd stays
	 * as -1 until the turn is over, and a new one goes to the end, behind those of this turn.
	 * So a new file never gets the events of an old one that had the same number. */
	struct pollfd *polled;
	struct watch *watches;
	size_t count, room, removed;
	size_t *slots; /* by slot_of(), 0 = not watched */
	size_t slots_room;

	struct loop_timer **timers; /* binary heap by deadline */
	size_t timers_count, timers_room;

	struct hook *hooks;
	size_t hooks_count;

	struct handler handlers[NSIG];
	int pipe_in, pipe_out;
	int64_t now_ms;
	int status;
	bool stopped, ran;
};

/* What a signal handler can reach. The byte in the pipe only wakes the loop. The flags are needed
 * because a child between fork and exec shares the pipe, but not the flags. */
static volatile sig_atomic_t signal_pipe = -1;
static volatile sig_atomic_t signal_pending[NSIG];

static bool is_stopped(void)
{
	return signal_pending[SIGTERM] || signal_pending[SIGINT];
}

static void on_signal(int number)
{
	int saved = errno;
	signal_pending[number] = 1;
	if (signal_pipe >= 0) {
		/* a full pipe wakes the loop as well */
		ssize_t ignored = write(signal_pipe, "", 1);
		(void)ignored;
	}
	errno = saved;
}

struct loop *loop_new(void)
{
	struct loop *loop = xcalloc(1, sizeof *loop);
	int fds[2];
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		err_die(EXIT_TEMPORARY, "cannot create a pipe: %s", strerror(errno));
	loop->pipe_in = fds[0];
	loop->pipe_out = fds[1];
	signal_pipe = fds[1];
	io_is_stopped = is_stopped;
	loop->now_ms = io_now_ms();
	loop_fd(loop, fds[0], POLLIN, NULL, NULL);
	return loop;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	for (int i = 1; i < NSIG; i++)
		loop_signal(loop, i, NULL, NULL);
	signal_pipe = -1;
	io_is_stopped = NULL;
	close(loop->pipe_in);
	close(loop->pipe_out);
	free(loop->polled);
	free(loop->watches);
	free(loop->slots);
	free(loop->timers);
	free(loop->hooks);
	free(loop);
}

/* --- files */

static size_t slot_of(int fd, enum side side)
{
	return 2 * (size_t)fd + side;
}

static void watch(struct loop *loop, int fd, short events, struct watch how)
{
	size_t at = slot_of(fd, how.side);
	if (at >= loop->slots_room) {
		size_t room = loop->slots_room ? loop->slots_room : 32;
		while (room <= at)
			room *= 2;
		loop->slots = xrealloc(loop->slots, room * sizeof *loop->slots);
		memset(loop->slots + loop->slots_room, 0,
			(room - loop->slots_room) * sizeof *loop->slots);
		loop->slots_room = room;
	}
	size_t i = loop->slots[at];
	if (!i && loop->count > 0) {
		i = loop->count;
		loop->slots[at] = i;
	}
	if (i >= loop->room) {
		loop->room = loop->room ? loop->room * 2 : 16;
		loop->polled = xrealloc(loop->polled, loop->room * sizeof *loop->polled);
		loop->watches = xrealloc(loop->watches, loop->room * sizeof *loop->watches);
	}
	if (i == loop->count) {
		loop->count++;
		loop->polled[i].revents = 0;
	}
	loop->polled[i].fd = fd;
	loop->polled[i].events = events;
	loop->watches[i] = how;
}

static void unwatch(struct loop *loop, int fd, enum side side)
{
	size_t at = slot_of(fd, side);
	if (fd < 0 || at >= loop->slots_room || loop->slots[at] == 0)
		return;
	loop->polled[loop->slots[at]].fd = -1;
	loop->slots[at] = 0;
	loop->removed++;
}

void loop_fd(struct loop *loop, int fd, short events, loop_fd_fn *fn, void *context)
{
	watch(loop, fd, events, (struct watch){fn, context, SIDE_IN});
}

void loop_fd_remove(struct loop *loop, int fd)
{
	unwatch(loop, fd, SIDE_IN);
}

void loop_out(struct loop *loop, int fd, short events, loop_fd_fn *fn, void *context)
{
	watch(loop, fd, events, (struct watch){fn, context, SIDE_OUT});
}

void loop_out_remove(struct loop *loop, int fd)
{
	unwatch(loop, fd, SIDE_OUT);
}

static void close_gaps(struct loop *loop)
{
	size_t to = 1;
	if (!loop->removed)
		return;
	for (size_t i = 1; i < loop->count; i++) {
		if (loop->polled[i].fd < 0)
			continue;
		loop->polled[to] = loop->polled[i];
		loop->watches[to] = loop->watches[i];
		loop->slots[slot_of(loop->polled[to].fd, loop->watches[to].side)] = to;
		to++;
	}
	loop->count = to;
	loop->removed = 0;
}

static void run_fds(struct loop *loop, size_t count)
{
	for (size_t i = 1; i < count && !loop->stopped; i++) {
		struct pollfd *p = &loop->polled[i];
		/* an earlier callback may have changed the events */
		short revents = p->revents & (short)(p->events | POLLERR | POLLHUP | POLLNVAL);
		if (p->fd >= 0 && revents)
			loop->watches[i].fn(loop->watches[i].context, p->fd, revents);
	}
}

/* --- timers */

void loop_only_turns(void *context)
{
	(void)context;
}

void loop_timer_init(struct loop_timer *timer, loop_timer_fn *fn, void *context)
{
	*timer = (struct loop_timer){fn, context, DEADLINE_NEVER, NO_SLOT};
}

static void timer_put(struct loop *loop, struct loop_timer *timer, size_t slot)
{
	loop->timers[slot] = timer;
	timer->slot = slot;
}

/* Move the timer from the place `slot` to the place that fits its deadline. */
static void timer_sift(struct loop *loop, struct loop_timer *timer, size_t slot)
{
	while (slot > 0) {
		size_t parent = (slot - 1) / 2;
		if (loop->timers[parent]->deadline_ms <= timer->deadline_ms)
			break;
		timer_put(loop, loop->timers[parent], slot);
		slot = parent;
	}
	for (;;) {
		size_t child = slot * 2 + 1;
		if (child >= loop->timers_count)
			break;
		if (child + 1 < loop->timers_count &&
			loop->timers[child + 1]->deadline_ms < loop->timers[child]->deadline_ms)
			child++;
		if (timer->deadline_ms <= loop->timers[child]->deadline_ms)
			break;
		timer_put(loop, loop->timers[child], slot);
		slot = child;
	}
	timer_put(loop, timer, slot);
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t deadline_ms)
{
	if (deadline_ms == DEADLINE_NEVER) {
		loop_timer_clear(loop, timer);
		return;
	}
	timer->deadline_ms = deadline_ms;
	if (timer->slot == NO_SLOT) {
		loop->timers = xgrow(loop->timers, &loop->timers_room, loop->timers_count,
			sizeof(*loop->timers));
		timer->slot = loop->timers_count++;
	}
	timer_sift(loop, timer, timer->slot);
}

void loop_timer_clear(struct loop *loop, struct loop_timer *timer)
{
	size_t slot = timer->slot;
	if (slot == NO_SLOT)
		return;
	timer->slot = NO_SLOT;
	timer->deadline_ms = DEADLINE_NEVER;
	struct loop_timer *last = loop->timers[--loop->timers_count];
	if (last != timer)
		timer_sift(loop, last, slot);
}

static void run_timers(struct loop *loop)
{
	/* Call at most as many timers as were set, so that one that sets itself again at once does
	 * not starve the rest. */
	for (size_t left = loop->timers_count; left > 0 && !loop->stopped; left--) {
		if (loop->timers_count == 0 || loop->timers[0]->deadline_ms > loop->now_ms)
			return;
		struct loop_timer *timer = loop->timers[0];
		loop_timer_clear(loop, timer);
		timer->fn(timer->context);
	}
}

/* --- signals */

void loop_signal(struct loop *loop, int signal_number, loop_signal_fn *fn, void *context)
{
	struct handler *h = &loop->handlers[signal_number];
	if (fn && !h->fn) {
		struct sigaction action = {.sa_handler = on_signal,
			.sa_flags = SA_RESTART | (signal_number == SIGCHLD ? SA_NOCLDSTOP : 0)};
		sigfillset(&action.sa_mask);
		signal_pending[signal_number] = 0;
		if (sigaction(signal_number, &action, &h->before) < 0) {
			err_error("cannot catch signal %d: %s", signal_number, strerror(errno));
			return;
		}
	} else if (!fn && h->fn) {
		sigaction(signal_number, &h->before, NULL);
	}
	h->fn = fn;
	h->context = context;
}

static void run_signals(struct loop *loop)
{
	char bytes[64];
	while (read(loop->pipe_in, bytes, sizeof bytes) == (ssize_t)sizeof bytes)
		;
	for (int i = 1; i < NSIG && !loop->stopped; i++) {
		if (!loop->handlers[i].fn || !signal_pending[i])
			continue;
		signal_pending[i] = 0;
		loop->handlers[i].fn(loop->handlers[i].context, i);
	}
}

/* --- turns */

void loop_turn(struct loop *loop, loop_turn_fn *fn, void *context)
{
	loop->hooks = xrealloc(loop->hooks, (loop->hooks_count + 1) * sizeof *loop->hooks);
	loop->hooks[loop->hooks_count++] = (struct hook){fn, context};
}

void loop_turn_remove(struct loop *loop, loop_turn_fn *fn, void *context)
{
	/* Leave a gap: the hook that runs at the moment may have called this. */
	for (size_t i = 0; i < loop->hooks_count; i++)
		if (loop->hooks[i].fn == fn && loop->hooks[i].context == context)
			loop->hooks[i].fn = NULL;
}

static void run_hooks(struct loop *loop)
{
	size_t to = 0;
	for (size_t i = 0; i < loop->hooks_count; i++)
		if (loop->hooks[i].fn)
			loop->hooks[i].fn(loop->hooks[i].context);
	for (size_t i = 0; i < loop->hooks_count; i++)
		if (loop->hooks[i].fn)
			loop->hooks[to++] = loop->hooks[i];
	loop->hooks_count = to;
}

int64_t loop_now_ms(const struct loop *loop)
{
	return loop->now_ms;
}

static int wait_ms(const struct loop *loop)
{
	if (loop->timers_count == 0)
		return -1;
	int64_t now_ms = io_now_ms(), deadline_ms = loop->timers[0]->deadline_ms;
	if (deadline_ms <= now_ms)
		return 0;
	return deadline_ms - now_ms < INT_MAX ? (int)(deadline_ms - now_ms) : INT_MAX;
}

int loop_run(struct loop *loop)
{
	loop->now_ms = io_now_ms();
	if (loop->ran) /* run again; a stop before the first run counts */
		loop->stopped = false;
	for (;;) {
		run_hooks(loop);
		if (loop->stopped) {
			loop->ran = true;
			return loop->status;
		}
		close_gaps(loop);
		size_t count = loop->count;
		int ready = poll(loop->polled, count, wait_ms(loop));
		if (ready < 0 && errno != EINTR && errno != EAGAIN) {
			err_error("cannot wait for input: %s", strerror(errno));
			loop_stop(loop, EXIT_TEMPORARY);
			continue;
		}
		loop->now_ms = io_now_ms();
		if (ready < 0 || loop->polled[0].revents)
			run_signals(loop);
		run_timers(loop);
		if (ready > 0)
			run_fds(loop, count);
	}
}

void loop_stop(struct loop *loop, int status)
{
	loop->stopped = true;
	loop->status = status;
}

bool loop_stopped(const struct loop *loop)
{
	return loop->stopped;
}
