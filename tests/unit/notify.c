#include "check.h"
#include "child.h"
#include "server/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

static char path[64];

/* A supervisor's socket; its name is in NOTIFY_SOCKET. */
static int supervise(bool abstract)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	snprintf(
		path, sizeof path, "%s/tmp/outboard-notify-%d", abstract ? "@" : "", (int)getpid());
	memcpy(a.sun_path, path, strlen(path));
	if (abstract)
		a.sun_path[0] = '\0';
	if (bind(fd, (struct sockaddr *)&a,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))) < 0)
		abort();
	setenv("NOTIFY_SOCKET", path, 1);
	return fd;
}

static const char *heard(int fd)
{
	static char text[2000];
	ssize_t n = recv(fd, text, sizeof text - 1, 0);
	if (n < 0)
		return errno == EAGAIN ? NULL : "?";
	text[n] = '\0';
	return text;
}

static void all_messages(void)
{
	for (int abstract = 0; abstract < 2; abstract++) {
		char pid[32];
		int fd = supervise(abstract);
		snprintf(pid, sizeof pid, "%d", (int)getpid());
		setenv("WATCHDOG_PID", pid, 1);
		setenv("WATCHDOG_USEC", "3000000", 1);
		struct notify *n = notify_new(-1);
		CHECK(!getenv("NOTIFY_SOCKET") && !getenv("WATCHDOG_PID") &&
			!getenv("WATCHDOG_USEC"));
		CHECK_EQ_STR(heard(fd), NULL);
		notify_status(n, "connecting to %s", "x\ny");
		CHECK_EQ_STR(heard(fd), "STATUS=connecting to x?y");
		notify_status(n, "connecting to %s", "x\ny");
		CHECK_EQ_STR(heard(fd), NULL);
		notify_ready(n);
		notify_ready(n);
		CHECK_EQ_STR(heard(fd), "READY=1");
		CHECK_EQ_STR(heard(fd), NULL);
		CHECK_EQ_INT(notify_watchdog_ms(n), 1500);
		notify_watchdog(n);
		CHECK_EQ_STR(heard(fd), "WATCHDOG=1");
		notify_reloading(n);
		const char *reloading = heard(fd);
		struct timespec t;
		clock_gettime(CLOCK_MONOTONIC, &t);
		long long usec = 0, now_usec = (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000;
		CHECK(sscanf(reloading, "RELOADING=1\nMONOTONIC_USEC=%lld", &usec) == 1);
		CHECK(usec <= now_usec && usec > now_usec - 10000000);
		notify_ready(n);
		CHECK_EQ_STR(heard(fd), "READY=1");
		notify_stopping(n);
		CHECK_EQ_STR(heard(fd), "STOPPING=1");
		char text[700];
		memset(text, 'x', sizeof text);
		text[sizeof text - 1] = '\0';
		notify_status(n, "%s", text);
		CHECK_EQ_INT(strlen(heard(fd)), 7 + 511);
		notify_free(n);
		close(fd);
		if (!abstract)
			unlink(path);
	}
}

static void somebody_elses_watchdog(void)
{
	int fd = supervise(true);
	setenv("WATCHDOG_PID", "1", 1);
	setenv("WATCHDOG_USEC", "3000000", 1);
	struct notify *n = notify_new(-1);
	CHECK_EQ_INT(notify_watchdog_ms(n), 0);
	notify_watchdog(n);
	CHECK_EQ_STR(heard(fd), NULL);
	notify_free(n);
	static const char *const bad[] = {"", "x", "-5", "12x", "0", "99999999999999999999"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		setenv("NOTIFY_SOCKET", path, 1);
		setenv("WATCHDOG_USEC", bad[i], 1);
		n = notify_new(-1);
		CHECK_EQ_INT(notify_watchdog_ms(n), 0);
		notify_free(n);
	}
	setenv("NOTIFY_SOCKET", path, 1);
	setenv("WATCHDOG_USEC", "2000", 1);
	n = notify_new(-1);
	CHECK_EQ_INT(notify_watchdog_ms(n), 1);
	notify_free(n);
	close(fd);
}

static void alone(void *context)
{
	(void)context;
	struct notify *n = notify_new(-1);
	notify_ready(n);
	notify_status(n, "x");
	notify_reloading(n);
	notify_stopping(n);
	notify_watchdog(n);
	printf("%d", (int)notify_watchdog_ms(n));
	notify_free(n);
	notify_free(NULL);
}

static void no_supervisor(void)
{
	unsetenv("NOTIFY_SOCKET");
	struct child c = child_run(alone, NULL);
	CHECK_EQ_STR(c.err, "");
	CHECK_EQ_STR(c.out, "0");
	child_free(&c);
	/* one that is gone */
	setenv("NOTIFY_SOCKET", "/dev/null/notify", 1);
	c = child_run(alone, NULL);
	CHECK_EQ_STR(c.err, "");
	CHECK_EQ_INT(c.status, 0);
	child_free(&c);
	static const char *const bad[] = {"relative", "@", "/",
		"/"
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		"xx"
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		setenv("NOTIFY_SOCKET", bad[i], 1);
		c = child_run(alone, NULL);
		CHECK(strstr(c.err, "no notifications can be sent to '"));
		CHECK_EQ_INT(c.status, 0);
		child_free(&c);
	}
	unsetenv("NOTIFY_SOCKET");
}

/* A supervisor that does not read delays us by a second at most, and not at all for messages that
 * may be lost. */
static void a_deaf_supervisor_is_not_waited_for(void)
{
	int fd = supervise(true);
	struct notify *n = notify_new(-1);
	for (int i = 0; i < 5000; i++)
		notify_status(n, "%d", i);
	notify_stopping(n);
	CHECK_EQ_STR(heard(fd), "STATUS=0");
	notify_free(n);
	close(fd);
}

static void ready_fd(void)
{
	int fds[2];
	char got[8];
	REQUIRE(pipe(fds) == 0);
	struct notify *n = notify_new(fds[1]);
	CHECK(fcntl(fds[1], F_GETFD) & FD_CLOEXEC);
	notify_ready(n);
	notify_ready(n);
	CHECK_EQ_INT(fcntl(fds[1], F_GETFD), -1);
	CHECK_EQ_INT(read(fds[0], got, sizeof got), 1);
	CHECK_EQ_INT(got[0], '\n');
	CHECK_EQ_INT(read(fds[0], got, sizeof got), 0);
	notify_free(n);
	close(fds[0]);
	/* never ready: closed without a newline */
	REQUIRE(pipe(fds) == 0);
	notify_free(notify_new(fds[1]));
	CHECK_EQ_INT(read(fds[0], got, sizeof got), 0);
	close(fds[0]);
}

static void bad_ready_fd(void *context)
{
	(void)context;
	struct notify *n = notify_new(99);
	notify_ready(n);
	notify_free(n);
}

static void a_bad_ready_fd_is_told(void)
{
	struct child c = child_run(bad_ready_fd, NULL);
	CHECK_EQ_STR(c.err, "outboard: no readiness can be told: file descriptor 99: "
			    "Bad file descriptor\n");
	CHECK_EQ_INT(c.status, 0);
	child_free(&c);
}

int main(void)
{
	unsetenv("JOURNAL_STREAM");
	TEST(all_messages);
	TEST(somebody_elses_watchdog);
	TEST(no_supervisor);
	TEST(a_deaf_supervisor_is_not_waited_for);
	TEST(ready_fd);
	TEST(a_bad_ready_fd_is_told);
	return check_done();
}
