/*
 * usage: what a command cost. It runs the command (standard input and output stay)
 * and appends one line to FILE: wall clock and CPU time of it and its descendants in
 * microseconds, and the largest resident set of any of them.
 *
 *     usage FILE COMMAND ARG...
 */
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000U + (uint64_t)t.tv_nsec / 1000U;
}

static uint64_t timeval_us(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000U + (uint64_t)t.tv_usec;
}

int main(int argc, char **argv)
{
	uint64_t begin_us = now_us(), wall_us;
	struct rusage used;
	int status;
	pid_t pid;
	FILE *f;

	if (argc < 3) {
		fputs("usage: usage FILE COMMAND ARG...\n", stderr);
		return 64;
	}
	pid = fork();
	if (pid == 0) {
		execvp(argv[2], argv + 2);
		fprintf(stderr, "usage: cannot run '%s': %s\n", argv[2], strerror(errno));
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &used) != pid)
		return 75;
	wall_us = now_us() - begin_us;
	f = fopen(argv[1], "ae");
	if (!f) {
		fprintf(stderr, "usage: cannot open '%s': %s\n", argv[1], strerror(errno));
		return 74;
	}
	fprintf(f, "usage wall_us=%" PRIu64 " cpu_us=%" PRIu64 " rss_kib=%ld\n", wall_us,
		timeval_us(used.ru_utime) + timeval_us(used.ru_stime), used.ru_maxrss);
	if (fclose(f) != 0)
		return 74;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
