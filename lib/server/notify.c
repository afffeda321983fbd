/* notify.c - see notify.h */
#include "server/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"

#define STATUS_MAX_BYTES 512
/* How long a supervisor that does not read may delay us. */
#define SEND_SECONDS 1

struct notify {
	int socket_fd, ready_fd;
	struct sockaddr_un address;
	socklen_t address_bytes;
	int64_t watchdog_ms;
	bool ready;
	char status[STATUS_MAX_BYTES]; /* the last one sent */
};

/* "/path" or "@abstract" (no other kind of socket reaches us on this machine). */
static bool take_socket(struct notify *n, const char *name)
{
	size_t length = name ? strlen(name) : 0;
	if (length < 2 || length >= sizeof n->address.sun_path ||
		(name[0] != '/' && name[0] != '@'))
		return false;
	n->address.sun_family = AF_UNIX;
	memcpy(n->address.sun_path, name, length);
	if (name[0] == '@')
		n->address.sun_path[0] = '\0';
	n->address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	n->socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (n->socket_fd < 0)
		return false;
	const struct timeval limit = {.tv_sec = SEND_SECONDS};
	setsockopt(n->socket_fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	return true;
}

/* A positive decimal number, else 0. */
static int64_t positive(const char *text)
{
	char *end;
	if (!text || text[0] < '1' || text[0] > '9')
		return 0;
	errno = 0;
	intmax_t value = strtoimax(text, &end, 10);
	return errno || *end ? 0 : value;
}

struct notify *notify_new(int ready_fd)
{
	struct notify *n = xcalloc(1, sizeof *n);
	n->socket_fd = -1;
	n->ready_fd = ready_fd;
	if (ready_fd >= 0 && io_cloexec(ready_fd) < 0) {
		err_warn("no readiness can be told: file descriptor %d: %s", ready_fd,
			strerror(EBADF));
		n->ready_fd = -1;
	}
	const char *name = getenv("NOTIFY_SOCKET"), *pid = getenv("WATCHDOG_PID");
	if (take_socket(n, name)) {
		if (!pid || positive(pid) == getpid())
			n->watchdog_ms = positive(getenv("WATCHDOG_USEC")) / 2000;
	} else if (name && *name) {
		err_warn("no notifications can be sent to '%s'", name);
	}
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	return n;
}

void notify_free(struct notify *n)
{
	if (!n)
		return;
	if (n->socket_fd >= 0)
		close(n->socket_fd);
	if (n->ready_fd >= 0)
		close(n->ready_fd);
	free(n);
}

static void tell(struct notify *n, const char *message, int flags)
{
	if (n->socket_fd < 0)
		return;
	while (sendto(n->socket_fd, message, strlen(message), MSG_NOSIGNAL | flags,
		       (const struct sockaddr *)&n->address, n->address_bytes) < 0) {
		if (errno == EINTR)
			continue;
		err_debug("cannot notify the supervisor: %s", strerror(errno));
		return;
	}
}

void notify_ready(struct notify *n)
{
	if (!n->ready)
		tell(n, "READY=1", 0);
	n->ready = true;
	if (n->ready_fd < 0)
		return;
	int error = io_write_all(n->ready_fd, "\n", 1);
	if (error)
		err_warn("cannot tell readiness to file descriptor %d: %s", n->ready_fd,
			strerror(-error));
	close(n->ready_fd);
	n->ready_fd = -1;
}

void notify_reloading(struct notify *n)
{
	struct timespec t;
	char message[64];
	clock_gettime(CLOCK_MONOTONIC, &t);
	snprintf(message, sizeof message, "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
		(int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000);
	tell(n, message, 0);
	n->ready = false;
}

void notify_stopping(struct notify *n)
{
	tell(n, "STOPPING=1", 0);
}

void notify_status(struct notify *n, const char *format, ...)
{
	va_list ap;
	char status[STATUS_MAX_BYTES], message[STATUS_MAX_BYTES + 8];
	if (n->socket_fd < 0)
		return;
	va_start(ap, format);
	vsnprintf(status, sizeof status, format, ap);
	va_end(ap);
	/* a newline would begin another assignment */
	for (char *s = status; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
	if (strcmp(status, n->status) == 0)
		return;
	memcpy(n->status, status, sizeof status);
	snprintf(message, sizeof message, "STATUS=%s", status);
	tell(n, message, MSG_DONTWAIT);
}

int64_t notify_watchdog_ms(const struct notify *n)
{
	return n->watchdog_ms;
}

void notify_watchdog(struct notify *n)
{
	if (n->watchdog_ms)
		tell(n, "WATCHDOG=1", MSG_DONTWAIT);
}
