#include "check.h"
#include "base/deadline.h"
#include "loop/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loop *loop;
static char trace[256];

static void note(const char *what)
{
	size_t n = strlen(trace);
	snprintf(trace + n, sizeof trace - n, "%s%s", n ? " " : "", what);
}

static void stop(void *context)
{
	loop_stop(loop, context ? *(int *)context : 0);
}

static void start(void)
{
	trace[0] = '\0';
	loop = loop_new();
}

/* Run for some milliseconds, with all timers due by then. */
static int settle(int64_t after_ms)
{
	static int status = 7;
	struct loop_timer last;
	loop_timer_init(&last, stop, &status);
	loop_timer_set(loop, &last, loop_now_ms(loop) + after_ms);
	int got = loop_run(loop);
	loop_timer_clear(loop, &last);
	return got;
}

static void again(void *context)
{
	loop_timer_set(loop, context, loop_now_ms(loop));
}

static int turns_left;

static void count_down(void *context)
{
	(void)context;
	if (turns_left-- == 0)
		loop_stop(loop, 0);
}

/* Run a few turns that do not wait. */
static void turn(void)
{
	struct loop_timer eager;
	loop_timer_init(&eager, again, &eager);
	loop_timer_set(loop, &eager, 0);
	loop_turn(loop, count_down, NULL);
	turns_left = 4;
	loop_run(loop);
	loop_timer_clear(loop, &eager);
}

static void note_timer(void *context)
{
	note(context);
}

static void timers_run_by_deadline(void)
{
	start();
	struct loop_timer t[4];
	for (int i = 0; i < 4; i++)
		loop_timer_init(&t[i], note_timer, (void *)(uintptr_t) & "a\0b\0c\0d"[i * 2]);
	CHECK_EQ_INT(t[0].deadline_ms, DEADLINE_NEVER);
	loop_timer_clear(loop, &t[0]);
	int64_t now_ms = loop_now_ms(loop);
	loop_timer_set(loop, &t[0], now_ms + 12);
	loop_timer_set(loop, &t[1], now_ms + 3);
	loop_timer_set(loop, &t[2], now_ms + 7);
	loop_timer_set(loop, &t[3], now_ms - 1000);
	loop_timer_set(loop, &t[1], now_ms + 9);
	loop_timer_set(loop, &t[2], DEADLINE_NEVER);
	CHECK_EQ_INT(t[2].deadline_ms, DEADLINE_NEVER);
	CHECK_EQ_INT(settle(20), 7);
	CHECK_EQ_STR(trace, "d b a");
	CHECK(loop_now_ms(loop) >= now_ms + 20);
	CHECK(loop_stopped(loop));
	CHECK_EQ_INT(t[0].deadline_ms, DEADLINE_NEVER);
	/* and it may run again */
	loop_timer_set(loop, &t[2], loop_now_ms(loop));
	CHECK_EQ_INT(settle(5), 7);
	CHECK_EQ_STR(trace, "d b a c");
	loop_free(loop);
}

enum { MANY = 300 };
static struct loop_timer many[MANY];
static int64_t fired_ms[MANY], previous_ms;
static bool in_order = true;

static void many_fired(void *context)
{
	size_t i = *(size_t *)context;
	in_order = in_order && fired_ms[i] >= previous_ms && fired_ms[i] <= loop_now_ms(loop) &&
		   many[i].deadline_ms == DEADLINE_NEVER;
	previous_ms = fired_ms[i];
	fired_ms[i] = DEADLINE_NEVER;
}

static void many_timers_in_any_order(void)
{
	static size_t index[MANY];
	srand(3);
	start();
	for (size_t i = 0; i < MANY; i++) {
		index[i] = i;
		loop_timer_init(&many[i], many_fired, &index[i]);
		fired_ms[i] = DEADLINE_NEVER;
	}
	int64_t base_ms = loop_now_ms(loop) - 1000;
	for (int step = 0; step < 20000; step++) {
		size_t i = (size_t)rand() % MANY;
		fired_ms[i] = rand() % 3 ? base_ms + rand() % 100 : DEADLINE_NEVER;
		if (fired_ms[i] == DEADLINE_NEVER && rand() % 2)
			loop_timer_clear(loop, &many[i]);
		else
			loop_timer_set(loop, &many[i], fired_ms[i]);
	}
	previous_ms = 0;
	settle(0);
	CHECK(in_order);
	for (size_t i = 0; i < MANY; i++)
		CHECK_EQ_INT(fired_ms[i], DEADLINE_NEVER);
	loop_free(loop);
}

static int turns;

static void note_fd(void *context, int fd, short revents)
{
	char byte;
	(void)revents;
	if (read(fd, &byte, 1) < 0)
		byte = '?';
	note(context);
}

static void count_turn(void *context)
{
	(void)context;
	turns++;
}

static void an_eager_timer_starves_nobody(void)
{
	int fds[2];
	struct loop_timer eager, other;
	start();
	REQUIRE(pipe(fds) == 0 && write(fds[1], "x", 1) == 1);
	loop_timer_init(&eager, again, &eager);
	loop_timer_set(loop, &eager, 0);
	loop_timer_init(&other, note_timer, "other");
	loop_timer_set(loop, &other, 0);
	loop_fd(loop, fds[0], POLLIN, note_fd, "read");
	turn();
	loop_timer_clear(loop, &eager);
	CHECK_EQ_STR(trace, "other read");
	loop_free(loop);
	close(fds[0]);
	close(fds[1]);
}

static int pipes[3][2];

static void open_pipes(void)
{
	for (int i = 0; i < 3; i++)
		if (pipe(pipes[i]) < 0 || write(pipes[i][1], "x", 1) != 1)
			abort();
}

static void close_pipes(void)
{
	for (int i = 0; i < 3; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
}

static void remove_all(void *context, int fd, short revents)
{
	(void)fd, (void)revents;
	note(context);
	for (int i = 0; i < 3; i++)
		loop_fd_remove(loop, pipes[i][0]);
}

static void removed_fds_are_not_called(void)
{
	start();
	open_pipes();
	for (int i = 0; i < 3; i++)
		loop_fd(loop, pipes[i][0], POLLIN, remove_all, "first");
	turn();
	CHECK_EQ_STR(trace, "first");
	loop_fd_remove(loop, pipes[0][0]);
	loop_fd_remove(loop, -1);
	loop_fd_remove(loop, 100000);
	close_pipes();
	loop_free(loop);
}

/* The number of a closed file is used again at once: the old events do not count for the new file.
 */
static void reopen_second(void *context, int fd, short revents)
{
	(void)context;
	note_fd("first", fd, revents);
	loop_fd_remove(loop, pipes[1][0]);
	int number = pipes[1][0];
	dup2(pipes[2][0], number);
	loop_fd(loop, number, POLLIN, note_fd, "new");
}

static void a_reused_fd_gets_no_old_events(void)
{
	char byte;
	start();
	open_pipes();
	REQUIRE(read(pipes[2][0], &byte, 1) == 1);
	loop_fd(loop, pipes[0][0], POLLIN, reopen_second, NULL);
	loop_fd(loop, pipes[1][0], POLLIN, note_fd, "old");
	fcntl(pipes[2][0], F_SETFL, O_NONBLOCK);
	turn();
	CHECK_EQ_STR(trace, "first");
	close_pipes();
	loop_free(loop);
}

static void silence_second(void *context, int fd, short revents)
{
	(void)context;
	note_fd("first", fd, revents);
	loop_fd(loop, pipes[1][0], 0, note_fd, "second");
}

static void changed_events_count_at_once(void)
{
	start();
	open_pipes();
	loop_fd(loop, pipes[0][0], POLLIN, silence_second, NULL);
	loop_fd(loop, pipes[1][0], POLLIN, note_fd, "second");
	turn();
	CHECK_EQ_STR(trace, "first");
	loop_fd(loop, pipes[0][0], 0, note_fd, "0");
	loop_fd(loop, pipes[1][0], POLLIN, note_fd, "again");
	loop_fd(loop, pipes[2][0], POLLIN, note_fd, "third");
	loop_free(loop);
	close_pipes();
}

static void watch_more(void *context, int fd, short revents)
{
	static int copies[200];
	(void)context;
	note_fd("grow", fd, revents);
	for (int i = 0; i < 200; i++) {
		copies[i] = dup(pipes[1][0]);
		loop_fd(loop, copies[i], 0, note_fd, "never");
	}
	for (int i = 0; i < 200; i += 2)
		loop_fd_remove(loop, copies[i]);
	for (int i = 1; i < 200; i += 2)
		loop_fd_remove(loop, copies[i]);
	for (int i = 0; i < 200; i++)
		close(copies[i]);
}

static void a_callback_may_add_and_remove_many(void)
{
	start();
	open_pipes();
	loop_fd(loop, pipes[0][0], POLLIN, watch_more, NULL);
	loop_fd(loop, pipes[2][0], POLLIN, note_fd, "third");
	turn();
	CHECK_EQ_STR(trace, "grow third");
	close_pipes();
	loop_free(loop);
}

/* Random adding and removing; every readable watched fd is called once a turn, no other is. */
enum { FDS = 40 };
static int model_fds[FDS];
static bool model_watched[FDS], model_due[FDS], model_new[FDS], model_wrong;

static void model_ready(void *context, int fd, short revents)
{
	size_t self = *(size_t *)context;
	(void)revents;
	model_wrong = model_wrong || !model_watched[self] || !model_due[self] || model_new[self] ||
		      fd != model_fds[self];
	model_due[self] = false;
	for (int k = rand() % 3; k > 0; k--) {
		size_t i = (size_t)rand() % FDS;
		if (model_watched[i]) {
			loop_fd_remove(loop, model_fds[i]);
		} else {
			static size_t index[FDS];
			index[i] = i;
			loop_fd(loop, model_fds[i], POLLIN, model_ready, &index[i]);
			model_new[i] = true;
		}
		model_watched[i] = !model_watched[i];
		model_due[i] = false;
	}
}

static void model_turn(void *context)
{
	(void)context;
	if (turns++ > 0)
		for (size_t i = 0; i < FDS; i++)
			model_wrong = model_wrong || (model_due[i] && model_watched[i]);
	for (size_t i = 0; i < FDS; i++) {
		model_due[i] = model_watched[i];
		model_new[i] = false;
	}
	if (turns == 3000)
		loop_stop(loop, 0);
}

static void any_mix_of_adding_and_removing(void)
{
	static size_t index[FDS];
	int fds[2];
	srand(5);
	start();
	turns = 0;
	REQUIRE(pipe(fds) == 0 && write(fds[1], "x", 1) == 1);
	for (size_t i = 0; i < FDS; i++) {
		index[i] = i;
		model_fds[i] = dup(fds[0]);
		model_watched[i] = true;
		loop_fd(loop, model_fds[i], POLLIN, model_ready, &index[i]);
	}
	loop_turn(loop, model_turn, NULL);
	/* keeps the loop turning if all descriptors are removed */
	struct loop_timer guard;
	loop_timer_init(&guard, again, &guard);
	loop_timer_set(loop, &guard, 0);
	loop_run(loop);
	CHECK(!model_wrong);
	CHECK_EQ_INT(turns, 3000);
	for (size_t i = 0; i < FDS; i++)
		close(model_fds[i]);
	close(fds[0]);
	close(fds[1]);
	loop_free(loop);
}

static void note_signal(void *context, int number)
{
	note(context);
	if (number == SIGTERM)
		loop_stop(loop, 3);
}

static void note_turn(void *context)
{
	if (loop_stopped(loop))
		note(context);
}

static void signals_come_first_and_hooks_last(void)
{
	struct loop_timer timer;
	start();
	open_pipes();
	loop_turn(loop, note_turn, "hook1");
	loop_turn(loop, note_turn, "hook2");
	loop_signal(loop, SIGHUP, note_signal, "hup");
	loop_signal(loop, SIGTERM, note_signal, "term");
	loop_timer_init(&timer, note_timer, "timer");
	loop_timer_set(loop, &timer, 0);
	loop_fd(loop, pipes[0][0], POLLIN, note_fd, "fd");
	raise(SIGHUP);
	raise(SIGHUP);
	raise(SIGTERM);
	CHECK_EQ_INT(loop_run(loop), 3);
	/* after loop_stop() only the hooks are called, for the last output */
	CHECK_EQ_STR(trace, "hup term hook1 hook2");
	loop_timer_clear(loop, &timer);
	close_pipes();
	loop_free(loop);
	struct sigaction now;
	sigaction(SIGTERM, NULL, &now);
	CHECK(now.sa_handler == SIG_DFL);
}

static void reap(void *context, int number)
{
	(void)context, (void)number;
	int status;
	while (waitpid(-1, &status, WNOHANG) > 0)
		note(WEXITSTATUS(status) == 5 ? "five" : "other");
	loop_stop(loop, 0);
}

static void children_are_noticed(void)
{
	start();
	loop_signal(loop, SIGCHLD, reap, NULL);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(5);
	REQUIRE(pid > 0);
	CHECK_EQ_INT(loop_run(loop), 0);
	CHECK_EQ_STR(trace, "five");
	loop_free(loop);
}

static void previous_handler(int number)
{
	(void)number;
	note("previous");
}

static void dispositions_come_back(void)
{
	start();
	signal(SIGUSR2, previous_handler);
	loop_signal(loop, SIGUSR2, note_signal, "one");
	loop_signal(loop, SIGUSR2, note_signal, "two");
	raise(SIGUSR2);
	turn();
	loop_signal(loop, SIGUSR2, NULL, NULL);
	raise(SIGUSR2);
	loop_free(loop);
	raise(SIGUSR2);
	signal(SIGUSR2, SIG_DFL);
	CHECK_EQ_STR(trace, "two previous previous");
}

/* More signals than a pipe holds before the loop looks. */
static void a_full_pipe_loses_nothing(void)
{
	start();
	loop_signal(loop, SIGUSR1, note_signal, "usr1");
	loop_signal(loop, SIGTERM, note_signal, "term");
	for (int i = 0; i < 70000; i++)
		raise(SIGUSR1);
	raise(SIGTERM);
	CHECK_EQ_INT(loop_run(loop), 3);
	CHECK_EQ_STR(trace, "usr1 term");
	loop_free(loop);
}

static void errors_reach_the_callback(void)
{
	start();
	REQUIRE(pipe(pipes[0]) == 0);
	close(pipes[0][1]);
	loop_turn(loop, count_turn, NULL);
	loop_fd(loop, pipes[0][0], 0, remove_all, "hangup");
	turn();
	CHECK_EQ_STR(trace, "hangup");
	close(pipes[0][0]);
	loop_free(loop);
}

int main(void)
{
	TEST(timers_run_by_deadline);
	TEST(many_timers_in_any_order);
	TEST(an_eager_timer_starves_nobody);
	TEST(removed_fds_are_not_called);
	TEST(a_reused_fd_gets_no_old_events);
	TEST(changed_events_count_at_once);
	TEST(a_callback_may_add_and_remove_many);
	TEST(any_mix_of_adding_and_removing);
	TEST(signals_come_first_and_hooks_last);
	TEST(children_are_noticed);
	TEST(dispositions_come_back);
	TEST(a_full_pipe_loses_nothing);
	TEST(errors_reach_the_callback);
	return check_done();
}
