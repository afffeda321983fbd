/*
 * sweep - run one program again and again, with one fault after the other
 *
 *	env LD_PRELOAD='build/preload/failmalloc.so build/preload/sweep.so' SWEEP=FAILMALLOC=N+ \
 *		SWEEP_INPUT=in SWEEP_DIR=runs program
 *	... SWEEP=NOFILE=N ...          not for another injector: N is the limit of descriptors
 *	... SWEEP_SOCKET=1 ...          standard input and output are a connection on which the
 *input has come; what was answered is the output
 *
 * Instead of the program its children run, forked just before main(): hundreds of runs for the
 *price of one start. In each N is one more (from 201 on a fifth more), until the program ends
 *before its fault; a NOFILE goes up to 40. Standard input is the start of SWEEP_INPUT; output and
 * words are in SWEEP_DIR/N.out and N.err. SWEEP_DIR/statuses has a line for each run: N, the exit
 * status (128 and more for a signal's, "hang" after 30 s), and 1 if there was a fault, else 0.
 *
 * The last in LD_PRELOAD is the first to start, which this one has to be.
 */
#include "preload.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define EACH_UP_TO 200
#define LAST_NOFILE 24
#define HANG_MS 30000

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "sweep: %s: %s\n", what, strerror(errno));
	_exit(99);
}

static void put(int fd, const char *path, int flags)
{
	int opened = open(path, flags, 0600);
	if (opened < 0 || dup2(opened, fd) < 0)
		give_up(path);
	close(opened);
}

/* Our end of a connection on which the input has come, and will no more; the other is the child's.
 */
static int connection(const char *input, int *theirs)
{
	char bytes[65536];
	int ends[2], fd = open(input, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
	if (n < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0 ||
		write(ends[0], bytes, (size_t)n) != n || shutdown(ends[0], SHUT_WR) != 0)
		give_up(input);
	close(fd);
	*theirs = ends[1];
	return ends[0];
}

static void keep(int ours, const char *path)
{
	char bytes[65536];
	ssize_t n;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		give_up(path);
	while ((n = read(ours, bytes, sizeof bytes)) > 0)
		if (write(fd, bytes, (size_t)n) != n)
			give_up(path);
	close(fd);
	close(ours);
}

/* Wait for the child; whether it ended by itself. */
static bool ended(pid_t child)
{
	struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN};
	if (p.fd < 0)
		give_up("pidfd_open");
	bool gone = poll(&p, 1, HANG_MS) == 1;
	if (!gone)
		kill(child, SIGKILL);
	close(p.fd);
	return gone;
}

/* One setting, in a folder of its own. Returns in the children. */
static bool in_child(const char *setting, const char *input, const char *dir, bool by_socket)
{
	const char *value = strchr(setting, '='), *n_at = value ? strchr(value, 'N') : NULL;
	bool nofile = strncmp(setting, "NOFILE=", 7) == 0;
	char name[32], text[256], path[600];

	if (!n_at) {
		fputs("sweep: SWEEP is not understood\n", stderr);
		_exit(99);
	}
	if (mkdir(dir, 0700) != 0)
		give_up(dir);
	snprintf(name, sizeof name, "%.*s", (int)(value - setting), setting);
	snprintf(path, sizeof path, "%s/statuses", dir);
	int statuses = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (statuses < 0)
		give_up(path);

	for (long n = nofile ? 3 : 1, more = 1; more; n += n < EACH_UP_TO ? 1 : n / 5) {
		int theirs = -1, ours = by_socket ? connection(input, &theirs) : -1;
		snprintf(text, sizeof text, "%.*s%ld%s", (int)(n_at - value - 1), value + 1, n,
			n_at + 1);
		pid_t child = fork();
		if (child < 0)
			give_up("fork");
		if (child == 0) {
			if (by_socket) {
				dup2(theirs, STDIN_FILENO);
				dup2(theirs, STDOUT_FILENO);
				close(theirs);
				close(ours);
			} else {
				put(STDIN_FILENO, input, O_RDONLY);
				snprintf(path, sizeof path, "%s/%ld.out", dir, n);
				put(STDOUT_FILENO, path, O_WRONLY | O_CREAT | O_TRUNC);
			}
			snprintf(path, sizeof path, "%s/%ld.err", dir, n);
			put(STDERR_FILENO, path, O_WRONLY | O_CREAT | O_TRUNC);
			snprintf(path, sizeof path, "%s/%ld.fault", dir, n);
			setenv("FAULT_MARK", path, 1);
			close(statuses);
			if (!nofile)
				setenv(name, text, 1);
			else if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)n, (rlim_t)n}) !=
				 0)
				give_up("setrlimit");
			return true;
		}
		int status;
		bool alone = ended(child);
		if (waitpid(child, &status, 0) != child)
			give_up("waitpid");
		if (by_socket) {
			close(theirs);
			snprintf(path, sizeof path, "%s/%ld.out", dir, n);
			keep(ours, path);
		}
		snprintf(path, sizeof path, "%s/%ld.fault", dir, n);
		more = nofile ? n < LAST_NOFILE : access(path, F_OK) == 0;
		if (alone)
			dprintf(statuses, "%ld %d\n", n,
				WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
		else
			dprintf(statuses, "%ld hang\n", n);
	}
	close(statuses);
	return false;
}

static void preload_start(void)
{
	const char *settings = getenv("SWEEP"), *input = getenv("SWEEP_INPUT"),
		   *given_dir = getenv("SWEEP_DIR");
	char copy[1024], top[256], dir[300], *rest = NULL;
	bool by_socket = getenv("SWEEP_SOCKET");
	int number = 0;

	if (!settings)
		return;
	if (!input || !given_dir)
		give_up("SWEEP_INPUT, SWEEP_DIR");
	snprintf(copy, sizeof copy, "%s", settings);
	snprintf(top, sizeof top, "%s", given_dir);
	input = strdup(input);
	unsetenv("SWEEP");
	unsetenv("SWEEP_INPUT");
	unsetenv("SWEEP_DIR");
	unsetenv("SWEEP_SOCKET");
	for (char *one = strtok_r(copy, " ", &rest); one; one = strtok_r(NULL, " ", &rest)) {
		snprintf(dir, sizeof dir, "%s/%d", top, ++number);
		if (in_child(one, input, dir, by_socket))
			return;
	}
	_exit(0);
}
