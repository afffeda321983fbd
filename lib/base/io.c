/* io.c - see io.h */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

#define READ_BYTES 65536

void io_sanitise(bool ignore_sigpipe)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
			open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0)
			_exit(EXIT_TEMPORARY); /* without stderr there is nowhere to say why */
	if (ignore_sigpipe)
		signal(SIGPIPE, SIG_IGN);
}

int io_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

int io_cloexec(int fd)
{
	int flags = fcntl(fd, F_GETFD);
	if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0)
		return -errno;
	return 0;
}

/* After a failed read or write: true if it is worth trying again. */
static bool retry(int fd, short events)
{
	if (errno == EINTR)
		return true;
	if (errno != EAGAIN)
		return false;
	struct pollfd p = {fd, events, 0};
	return poll(&p, 1, -1) >= 0 || errno == EINTR;
}

/* A signal that comes right before a wait does not end it, so no single wait is longer. */
#define SLICE_MS 500
/* How long to wait for input; NULL: for ever. */
struct patience {
	int64_t begin_ms; /* until a FIFO has its first writer */
	int64_t end_ms;	  /* until the end of input */
	bool begun, late;
};

bool (*io_is_stopped)(void);

/* After read() has returned `got`, 0 or less: 1 read again, 0 it is the end, or a negative errno.
 */
static int read_on(int fd, ssize_t got, struct patience *patience)
{
	struct pollfd p = {fd, POLLIN, 0};
	int64_t left_ms, slice_ms;
	int ready;

	if (!patience)
		return got == 0 ? 0 : retry(fd, POLLIN) ? 1 : -errno;
	if (got < 0 && errno != EAGAIN)
		return errno == EINTR ? 1 : -errno;
	if (got == 0 && patience->begun)
		return 0;
	if (got == 0 && patience->late)
		return -ETIMEDOUT;
	left_ms = (got == 0 ? patience->begin_ms : patience->end_ms) - io_now_ms();
	slice_ms = left_ms < 0 ? 0 : left_ms < SLICE_MS ? left_ms : SLICE_MS;
	ready = poll(&p, 1, (int)slice_ms);
	if (io_is_stopped && io_is_stopped())
		return -EINTR;
	if (ready < 0)
		return errno == EINTR || errno == EAGAIN ? 1 : -errno;
	if (ready > 0) {
		patience->begun = true;
		return 1;
	}
	if (left_ms > slice_ms)
		return 1;
	/* a writer that has come and writes nothing does not wake us: another read tells */
	patience->late = true;
	return got == 0 ? 1 : -ETIMEDOUT;
}

static int read_all(int fd, size_t max_bytes, struct patience *patience, struct buf *out)
{
	size_t before = buf_length(out), room = out->max - before, left, n;
	if (max_bytes < room)
		room = max_bytes;
	for (left = room;; left -= n) {
		char beyond, *to = &beyond;
		size_t want = left < READ_BYTES ? left : READ_BYTES;
		if (left > 0)
			to = buf_reserve(out, want);
		ssize_t got = read(fd, to, left > 0 ? want : 1);
		int more = got > 0 ? left > 0 ? 1 : -EFBIG : read_on(fd, got, patience);
		n = 0;
		if (more <= 0) {
			if (more < 0)
				buf_truncate(out, before);
			return more;
		}
		if (got <= 0)
			continue;
		n = (size_t)got;
		buf_commit(out, n);
		if (patience)
			patience->begun = true;
	}
}

int io_read_fd(int fd, size_t max_bytes, struct buf *out)
{
	return read_all(fd, max_bytes, NULL, out);
}

bool io_is_fd_path(const char *path)
{
	return strncmp(path, "/dev/fd/", 8) == 0 || strcmp(path, "/dev/stdin") == 0 ||
	       strncmp(path, "/proc/self/fd/", 14) == 0;
}

int io_open_given(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

int io_read_given_fd(int fd, const char *path, size_t max_bytes, enum io_when when, struct buf *out)
{
	int64_t now_ms = io_now_ms();
	struct stat is;
	bool fifo = fstat(fd, &is) == 0 && S_ISFIFO(is.st_mode);
	struct patience patience = {.begin_ms = now_ms + IO_WRITER_MS,
		.end_ms = INT64_MAX,
		.begun = !fifo || io_is_fd_path(path)};

	if (when == IO_WHILE_SERVING)
		patience.begin_ms = patience.end_ms = now_ms + IO_SERVING_MS;
	return read_all(fd, max_bytes, &patience, out);
}

int io_read_given(const char *path, size_t max_bytes, enum io_when when, struct buf *out)
{
	int fd = io_open_given(path), error;

	if (fd < 0)
		return fd;
	error = io_read_given_fd(fd, path, max_bytes, when, out);
	close(fd);
	return error;
}

const char *io_given_reason(int error)
{
	return error == -ETIMEDOUT ? "nobody has written to it in time" : strerror(-error);
}

bool io_readable(const char *path)
{
	int fd = path ? io_open_given(path) : 0;
	const char *wrong = fd < 0 ? strerror(-fd) : NULL;
	struct stat is;

	if (!path)
		return true;
	if (!wrong && fstat(fd, &is) == 0 && S_ISFIFO(is.st_mode) && !io_is_fd_path(path))
		wrong = "it is a FIFO";
	if (fd >= 0)
		close(fd);
	if (wrong)
		err_error("cannot open '%s': %s", path, wrong);
	return !wrong;
}

int io_error_status(int error, int otherwise)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM ? EXIT_TEMPORARY
									: otherwise;
}

int io_read_file(const char *path, size_t max_bytes, struct buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	int error = io_read_fd(fd, max_bytes, out);
	close(fd);
	return error;
}

int io_open_own_at(int dir_fd, const char *path, int flags)
{
	struct stat is;
	int fd = openat(dir_fd, path, flags | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0)
		return -errno;
	int error = fstat(fd, &is) < 0 ? -errno : S_ISREG(is.st_mode) ? 0 : -ENXIO;
	if (!error)
		return fd;
	close(fd);
	return error;
}

/* Whether others can write to it. The sticky bit protects files in a folder, but not from new
 * files. */
static bool others_write(const struct stat *st)
{
	return st->st_mode & S_IWOTH || (st->st_mode & S_IWGRP && st->st_gid != getegid());
}

const char *io_folder_wrong(const char *path)
{
	const char *wrong = NULL;
	char real[PATH_MAX]; /* ours, so that no memory is wanted */
	struct stat st;
	if (!realpath(path, real))
		return strerror(errno);
	if (stat(real, &st) < 0)
		wrong = strerror(errno);
	else if (!S_ISDIR(st.st_mode))
		wrong = strerror(ENOTDIR);
	else if (st.st_uid != geteuid() && st.st_uid != 0)
		wrong = "it belongs to another user";
	else if (others_write(&st))
		wrong = "others can write it (chmod go-w helps)";
	for (char *slash; !wrong && (slash = strrchr(real, '/')) && real[1];) {
		slash[slash == real] = '\0';
		if (stat(real, &st) < 0)
			wrong = strerror(errno);
		else if (others_write(&st) && !(st.st_mode & S_ISVTX))
			wrong = "others can replace it: they can write a folder above it";
	}
	return wrong;
}

int io_read_own_file(const char *path, size_t max_bytes, struct buf *out)
{
	int fd = io_open_own_at(AT_FDCWD, path, O_RDONLY);
	if (fd < 0)
		return fd;
	int error = io_read_fd(fd, max_bytes, out);
	close(fd);
	return error;
}

int io_write_all(int fd, const void *bytes, size_t n)
{
	const char *p = bytes;
	while (n > 0) {
		ssize_t done = write(fd, p, n);
		if (done < 0) {
			if (retry(fd, POLLOUT))
				continue;
			return -errno;
		}
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

/* --- whole files */

static int sync_folder(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return 0; /* writable but not readable: nothing can be done */
	int error = fsync(fd) < 0 && errno == EIO ? -EIO : 0;
	close(fd);
	return error;
}

/* How a temporary file gets its name: rename(2) or link(2). */
static int put_file(const char *path, struct span content, mode_t mode, bool replace)
{
	const char *slash = strrchr(path, '/');
	char *folder =
		slash ? xstrndup(path, slash == path ? 1 : (size_t)(slash - path)) : xstrdup(".");
	struct buf temporary;
	buf_init(&temporary, BUF_NO_MAX);
	buf_printf(&temporary, "%s/.outboard-XXXXXX", folder);
	char *name = temporary.p;
	int error = 0, fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0) {
		error = -errno;
		goto done;
	}
	error = io_write_all(fd, content.p, content.n);
	if (!error && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
		error = -errno;
	if (close(fd) < 0 && !error)
		error = -errno;
	if (!error && (replace ? rename(name, path) : link(name, path)) < 0)
		error = -errno;
	if (error || !replace)
		unlink(name);
	if (!error)
		error = sync_folder(folder);
done:
	buf_free(&temporary);
	free(folder);
	return error;
}

int io_replace_file(const char *path, struct span content, mode_t mode)
{
	struct stat st;
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -ENXIO;
	char *real = NULL;
	if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && !(real = realpath(path, NULL)) &&
		errno != ENOENT)
		return -errno;
	int error = put_file(real ? real : path, content, mode, true);
	free(real);
	return error;
}

int io_create_file(const char *path, struct span content, mode_t mode)
{
	return put_file(path, content, mode, false);
}

void io_close_stdout(void)
{
	const char *reason = NULL;
	/* stdio does not keep the errno of an earlier failed write. */
	if (ferror(stdout))
		reason = "an earlier write failed";
	if (fflush(stdout) != 0)
		reason = strerror(errno);
	if (close(STDOUT_FILENO) < 0 && errno != EBADF && errno != EINTR && !reason)
		reason = strerror(errno);
	if (reason)
		err_die(EXIT_IO, "cannot write standard output: %s", reason);
}

int64_t io_now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool io_split_host_port(const char *text, char **host, char **port)
{
	const char *colon = strrchr(text, ':');
	if (!colon)
		return false;
	struct span name = {text, (size_t)(colon - text)};
	if (name.n >= 2 && name.p[0] == '[' && name.p[name.n - 1] == ']') {
		name = (struct span){name.p + 1, name.n - 2};
		if (name.n == 0 || memchr(name.p, '[', name.n) || memchr(name.p, ']', name.n))
			return false;
	} else if (name.n && (memchr(name.p, ':', name.n) || memchr(name.p, '[', name.n) ||
				     memchr(name.p, ']', name.n))) {
		return false;
	}
	size_t digits = strspn(colon + 1, "0123456789");
	if (digits == 0 || digits > 5 || colon[1 + digits] != '\0' || atoi(colon + 1) > 65535)
		return false;
	if (name.n > 0)
		*host = xstrndup(name.p, name.n);
	*port = xstrdup(colon + 1);
	return true;
}
