/*
 * jump - a clock that is set, a day forward and a day back, between any two looks at it
 *
 *	env LD_PRELOAD=build/preload/jump.so JUMP=1 program
 *
 * Only the time of day, CLOCK_REALTIME and time(): what does not go by CLOCK_MONOTONIC ends at
 * once or never. The C library's own looks at the clock are not seen.
 */
#include "preload.h"

#include <sys/time.h>
#include <time.h>

#define DAY_S 86400

static bool on;
static atomic_long looks;

static void preload_start(void)
{
	on = getenv("JUMP");
	unsetenv("JUMP");
}

/* 0, then a day ahead, the day itself, a day behind, and so on */
static time_t off_s(void)
{
	static const time_t off[] = {0, DAY_S, 0, -DAY_S};
	if (!on)
		return 0;
	if (preload_mark[0]) {
		long fd = syscall(SYS_openat, AT_FDCWD, preload_mark, O_CREAT | O_WRONLY, 0600);
		if (fd >= 0)
			syscall(SYS_close, fd);
	}
	return off[atomic_fetch_add(&looks, 1) % 4];
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
	/* the system call itself: the function behind our name would have to be looked up */
	if (syscall(SYS_clock_gettime, clock, at) != 0)
		return -1;
	if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
		at->tv_sec += off_s();
	return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
	struct timespec now;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	*at = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
	return 0;
}

time_t time(time_t *at)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (at)
		*at = now.tv_sec;
	return now.tv_sec;
}
