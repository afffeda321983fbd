/*
 * failcall - make system calls fail, or do little at a time
 *
 *	env LD_PRELOAD=build/preload/failcall.so FAILCALL=accept4:2:EMFILE program
 *	... FAILCALL=fsync:1+:ENOSPC,rename:1:EIO ...   several; N+ is the Nth and all after it
 *	... DRIP=1 ...        each read and write, on files as on sockets, moves at most 1 byte
 *	... DRIP_READ=1 ...   only reads
 *
 * Calls that libc makes inside of itself (stdio's write) are not seen. EINTR, EAGAIN and
 * ECONNABORTED stand for what a caller has to try again.
 */
#include "preload.h"

#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define CALLS(X)                                                                                   \
	X(accept)                                                                                  \
	X(accept4)                                                                                 \
	X(close)                                                                                   \
	X(connect)                                                                                 \
	X(fchmod)                                                                                  \
	X(fork)                                                                                    \
	X(fsync)                                                                                   \
	X(getrandom)                                                                               \
	X(link)                                                                                    \
	X(mkostemp)                                                                                \
	X(open)                                                                                    \
	X(openat)                                                                                  \
	X(pipe2)                                                                                   \
	X(poll)                                                                                    \
	X(read)                                                                                    \
	X(readv)                                                                                   \
	X(recv)                                                                                    \
	X(rename)                                                                                  \
	X(send)                                                                                    \
	X(sendmsg)                                                                                 \
	X(socket)                                                                                  \
	X(socketpair)                                                                              \
	X(write)                                                                                   \
	X(writev)

enum call {
#define X(name) CALL_##name,
	CALLS(X)
#undef X
		CALL_COUNT
};

static const char *const names[] = {
#define X(name) #name,
	CALLS(X)
#undef X
};

static struct {
	struct fault fault;
	int error;
} calls[CALL_COUNT];
static size_t drip_read = SIZE_MAX, drip_write = SIZE_MAX;

static int error_number(const char *name)
{
	static const struct {
		const char *name;
		int number;
	} errors[] = {
		{"EACCES", EACCES},
		{"EAGAIN", EAGAIN},
		{"ECONNABORTED", ECONNABORTED},
		{"ECONNREFUSED", ECONNREFUSED},
		{"ECONNRESET", ECONNRESET},
		{"EINTR", EINTR},
		{"EIO", EIO},
		{"EMFILE", EMFILE},
		{"ENFILE", ENFILE},
		{"ENOMEM", ENOMEM},
		{"ENOSPC", ENOSPC},
		{"ENOSYS", ENOSYS},
		{"EPIPE", EPIPE},
		{"EROFS", EROFS},
		{"ETIMEDOUT", ETIMEDOUT},
	};
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (strcmp(name, errors[i].name) == 0)
			return errors[i].number;
	return 0;
}

/* name:N:ERROR */
static bool take(char *text)
{
	char *rest = NULL, *name = strtok_r(text, ":", &rest), *nth = strtok_r(NULL, ":", &rest),
	     *error = strtok_r(NULL, ":", &rest);
	for (size_t i = 0; name && nth && error && i < CALL_COUNT; i++)
		if (strcmp(name, names[i]) == 0) {
			fault_read(&calls[i].fault, nth);
			calls[i].error = error_number(error);
			return calls[i].fault.nth > 0 && calls[i].error > 0;
		}
	return false;
}

static void preload_start(void)
{
	const char *text = getenv("FAILCALL"), *bytes = getenv("DRIP"),
		   *read_bytes = getenv("DRIP_READ");
	char copy[256], *rest = NULL;
	snprintf(copy, sizeof copy, "%s", text ? text : "");
	for (char *one = strtok_r(copy, ",", &rest); one; one = strtok_r(NULL, ",", &rest))
		if (!take(one)) {
			/* after a mistyped setting no test must pass */
			fputs("failcall: FAILCALL is not understood\n", stderr);
			_exit(99);
		}
	if (bytes)
		drip_read = drip_write = strtoul(bytes, NULL, 10);
	if (read_bytes)
		drip_read = strtoul(read_bytes, NULL, 10);
	unsetenv("FAILCALL");
	unsetenv("DRIP_READ");
	unsetenv("DRIP");
}

static bool fails(enum call call)
{
	if (!fault_now(&calls[call].fault))
		return false;
	errno = calls[call].error;
	return true;
}

/* The real function of a name that we define. */
#define NEXT(name) ((__typeof__(&name))next(CALL_##name))

static void *next(enum call call)
{
	static void *found[CALL_COUNT];
	if (!found[call])
		found[call] = dlsym(RTLD_NEXT, names[call]);
	return found[call];
}

static size_t less(size_t n, size_t limit)
{
	return n < limit ? n : limit;
}

ssize_t read(int fd, void *to, size_t n)
{
	return fails(CALL_read) ? -1 : NEXT(read)(fd, to, less(n, drip_read));
}

ssize_t write(int fd, const void *from, size_t n)
{
	return fails(CALL_write) ? -1 : NEXT(write)(fd, from, less(n, drip_write));
}

ssize_t recv(int fd, void *to, size_t n, int flags)
{
	return fails(CALL_recv) ? -1 : NEXT(recv)(fd, to, less(n, drip_read), flags);
}

ssize_t send(int fd, const void *from, size_t n, int flags)
{
	return fails(CALL_send) ? -1 : NEXT(send)(fd, from, less(n, drip_write), flags);
}

/* Only the first piece is moved when dripping: a short transfer is always allowed. */
ssize_t readv(int fd, const struct iovec *pieces, int count)
{
	if (fails(CALL_readv))
		return -1;
	if (drip_read == SIZE_MAX || count < 1)
		return NEXT(readv)(fd, pieces, count);
	return NEXT(read)(fd, pieces->iov_base, less(pieces->iov_len, drip_read));
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
	if (fails(CALL_writev))
		return -1;
	if (drip_write == SIZE_MAX || count < 1)
		return NEXT(writev)(fd, pieces, count);
	return NEXT(write)(fd, pieces->iov_base, less(pieces->iov_len, drip_write));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (fails(CALL_sendmsg))
		return -1;
	if (drip_write == SIZE_MAX || message->msg_iovlen < 1 || message->msg_name ||
		message->msg_control)
		return NEXT(sendmsg)(fd, message, flags);
	return NEXT(send)(
		fd, message->msg_iov->iov_base, less(message->msg_iov->iov_len, drip_write), flags);
}

int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict bytes)
{
	return fails(CALL_accept) ? -1 : NEXT(accept)(fd, address, bytes);
}

int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict bytes, int flags)
{
	return fails(CALL_accept4) ? -1 : NEXT(accept4)(fd, address, bytes, flags);
}

int close(int fd)
{
	if (!fails(CALL_close))
		return NEXT(close)(fd);
	/* close(2): the descriptor is closed in spite of the error */
	int error = errno;
	NEXT(close)(fd);
	errno = error;
	return -1;
}

int connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
	return fails(CALL_connect) ? -1 : NEXT(connect)(fd, address, bytes);
}

int fchmod(int fd, mode_t mode)
{
	return fails(CALL_fchmod) ? -1 : NEXT(fchmod)(fd, mode);
}

pid_t fork(void)
{
	return fails(CALL_fork) ? -1 : NEXT(fork)();
}

int fsync(int fd)
{
	return fails(CALL_fsync) ? -1 : NEXT(fsync)(fd);
}

ssize_t getrandom(void *to, size_t n, unsigned flags)
{
	return fails(CALL_getrandom) ? -1 : NEXT(getrandom)(to, n, flags);
}

int link(const char *from, const char *to)
{
	return fails(CALL_link) ? -1 : NEXT(link)(from, to);
}

int mkostemp(char *template, int flags)
{
	return fails(CALL_mkostemp) ? -1 : NEXT(mkostemp)(template, flags);
}

int open(const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	return fails(CALL_open) ? -1 : NEXT(open)(path, flags, mode);
}

int openat(int folder_fd, const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	return fails(CALL_openat) ? -1 : NEXT(openat)(folder_fd, path, flags, mode);
}

int pipe2(int fds[2], int flags)
{
	return fails(CALL_pipe2) ? -1 : NEXT(pipe2)(fds, flags);
}

int poll(struct pollfd *fds, nfds_t count, int wait_ms)
{
	return fails(CALL_poll) ? -1 : NEXT(poll)(fds, count, wait_ms);
}

int rename(const char *from, const char *to)
{
	return fails(CALL_rename) ? -1 : NEXT(rename)(from, to);
}

int socket(int family, int type, int protocol)
{
	return fails(CALL_socket) ? -1 : NEXT(socket)(family, type, protocol);
}

int socketpair(int family, int type, int protocol, int fds[2])
{
	return fails(CALL_socketpair) ? -1 : NEXT(socketpair)(family, type, protocol, fds);
}

/* The names to which _FORTIFY_SOURCE turns the above. */
ssize_t __read_chk(int fd, void *to, size_t n, size_t room);
ssize_t __recv_chk(int fd, void *to, size_t n, size_t room, int flags);
int __poll_chk(struct pollfd *fds, nfds_t count, int wait_ms, size_t room);
int __open_2(const char *path, int flags);
int __openat_2(int folder_fd, const char *path, int flags);

ssize_t __read_chk(int fd, void *to, size_t n, size_t room)
{
	if (n > room)
		abort();
	return read(fd, to, n);
}

ssize_t __recv_chk(int fd, void *to, size_t n, size_t room, int flags)
{
	if (n > room)
		abort();
	return recv(fd, to, n, flags);
}

int __poll_chk(struct pollfd *fds, nfds_t count, int wait_ms, size_t room)
{
	if (count > room / sizeof *fds)
		abort();
	return poll(fds, count, wait_ms);
}

int __open_2(const char *path, int flags)
{
	return open(path, flags);
}

int __openat_2(int folder_fd, const char *path, int flags)
{
	return openat(folder_fd, path, flags);
}
