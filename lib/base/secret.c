/* secret.c - see secret.h */
#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"

static char *credential_path(const struct secret *secret)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	if (!folder || !*folder || !secret->credential)
		return NULL;
	struct buf path;
	buf_init(&path, BUF_NO_MAX);
	buf_printf(&path, "%s/%s", folder, secret->credential);
	return path.p;
}

bool secret_given(const struct secret *secret)
{
	if (secret->file || secret->fd >= 0)
		return true;
	char *path = credential_path(secret);
	bool there = path && access(path, F_OK) == 0;
	free(path);
	return there;
}

bool secret_once(const struct secret *secret)
{
	struct stat st;

	return secret->fd >= 0 || (secret->file && io_is_fd_path(secret->file) &&
					  stat(secret->file, &st) == 0 && !S_ISREG(st.st_mode));
}

/* Why the file must not hold a secret, or NULL. */
static const char *bad_mode(int fd, const char *path)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return strerror(errno);
	if (!S_ISREG(st.st_mode) || io_is_fd_path(path))
		return NULL;
	if (st.st_mode & S_IROTH)
		return "others can read it (chmod o= helps)";
	if (st.st_mode & S_IWOTH)
		return "others can write it (chmod o= helps)";
	if (st.st_mode & S_IWGRP)
		return "its group can write it (chmod g-w helps)";
	return NULL;
}

static const char *bad_content(struct span s)
{
	if (memchr(s.p, '\0', s.n))
		return "it contains a NUL byte";
	if (s.n == 0 || span_is(s, "\n") || span_is(s, "\r\n"))
		return "it is empty";
	return NULL;
}

static int read_secret(
	const struct secret *secret, const char *what, enum io_when when, struct buf *out)
{
	char *credential = NULL;
	const char *path = secret->file, *reason = NULL;
	int status = EXIT_DONE, fd = (int)secret->fd;
	char fd_name[32];
	buf_reset(out);
	if (!path && secret->fd < 0)
		path = credential = credential_path(secret);
	if (!path && secret->fd < 0) {
		err_error("no %s given, by file, file descriptor or credential '%s'", what,
			secret->credential ? secret->credential : "");
		return EXIT_CONFIG;
	}
	if (path) {
		fd = io_open_given(path);
		if (fd < 0)
			status = io_error_status(fd, EXIT_CONFIG);
		reason = fd < 0 ? strerror(-fd) : bad_mode(fd, path);
	} else {
		snprintf(fd_name, sizeof fd_name, "file descriptor %d", fd);
	}
	if (!reason) {
		/* all at once, so that growing leaves no copies behind */
		buf_reserve(out, out->max < SECRET_MAX_BYTES ? out->max : SECRET_MAX_BYTES);
		int error = path ? io_read_given_fd(fd, path, SECRET_MAX_BYTES, when, out)
				 : io_read_fd(fd, SECRET_MAX_BYTES, out);
		reason = error ? io_given_reason(error) : bad_content(buf_span(out));
	}
	if (fd > STDERR_FILENO)
		close(fd);
	if (reason) {
		err_error("cannot use %s '%s': %s", what, path ? path : fd_name, reason);
		secret_wipe(out);
		if (status == EXIT_DONE)
			status = EXIT_CONFIG;
	}
	free(credential);
	return status;
}

int secret_read(const struct secret *secret, const char *what, struct buf *out)
{
	return read_secret(secret, what, IO_AT_START, out);
}

int secret_read_again(const struct secret *secret, const char *what, struct buf *out)
{
	return read_secret(secret, what, IO_WHILE_SERVING, out);
}

void secret_trim(struct buf *b)
{
	struct span s = buf_span(b);
	if (s.n > 0 && s.p[s.n - 1] == '\n')
		s.n -= s.n > 1 && s.p[s.n - 2] == '\r' ? 2 : 1;
	buf_truncate(b, s.n);
}

void secret_first_line(struct buf *b)
{
	struct span s = buf_span(b);
	const char *newline = s.n ? memchr(s.p, '\n', s.n) : NULL;

	if (newline)
		buf_truncate(b, (size_t)(newline + 1 - s.p));
	secret_trim(b);
}

void secret_wipe(struct buf *b)
{
	if (b->capacity)
		explicit_bzero(b->p, b->capacity);
	buf_free(b);
}

void secret_no_core(void)
{
	const struct rlimit none = {0, 0};
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0);
}
