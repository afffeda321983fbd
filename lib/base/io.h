/* base/io.h - files, descriptors, stdout: the manners of a Unix program
 *
 * Functions return 0 or a negative errno unless said otherwise.
 */
#ifndef OUTBOARD_BASE_IO_H
#define OUTBOARD_BASE_IO_H

#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

/* Open /dev/null on each of fds 0, 1, 2 that is closed (0 write-only, 1 and 2 read-only, so
 * that using them still fails), ignore SIGPIPE where `ignore_sigpipe`. Call early in main(). */
void io_sanitise(bool ignore_sigpipe);

int io_nonblocking(int fd);
int io_cloexec(int fd);

/* Whether a library can read the file; if it cannot, that is logged. True of NULL. A FIFO is
 * refused: the library opens the file itself, without a deadline, and not once only. */
bool io_readable(const char *path);
/* The exit status when a file that is needed cannot be opened for this reason (negative errno):
 * EXIT_TEMPORARY when descriptors or memory are short, else `otherwise`. */
int io_error_status(int error, int otherwise);
/* Append up to max_bytes of the file (or of fd until end) to out; -EFBIG when larger. */
int io_read_file(const char *path, size_t max_bytes, struct buf *out);
/* The same for a file that the operator has given: a secret, a key, a configuration. It may be a
 * FIFO, a terminal or a pipe of the shell (`<(command)' is /dev/fd/N). At the start a FIFO's first
 * writer may come within IO_WRITER_MS, and may then take its time (to ask for a passphrase); a
 * signal that stops the program ends this (-EINTR). While the program serves others, all must be
 * there within IO_SERVING_MS. -ETIMEDOUT: it was not. */
#define IO_WRITER_MS 10000
#define IO_SERVING_MS 1000
enum io_when { IO_AT_START, IO_WHILE_SERVING };
/* Whether a signal that stops the program has come, asked after each wait; set by the loop. NULL:
 * none is caught. */
extern bool (*io_is_stopped)(void);
int io_read_given(const char *path, size_t max_bytes, enum io_when when, struct buf *out);
/* The same in two steps: a descriptor, which does not wait for a writer, and its content. */
int io_open_given(const char *path);
int io_read_given_fd(
	int fd, const char *path, size_t max_bytes, enum io_when when, struct buf *out);
/* An error of these in words. */
const char *io_given_reason(int error);
/* Whether the path names a descriptor that our caller opened for us. */
bool io_is_fd_path(const char *path);
/* The same for a file in a folder of the program's own. A file that is not regular is refused with
 * -ENXIO, a symbolic link with -ELOOP, so that nobody can make the program wait with a FIFO. */
int io_read_own_file(const char *path, size_t max_bytes, struct buf *out);
/* Open such a file relative to dir_fd, with flags as open(2) has them, close-on-exec, made with
 * mode 0600 where they say so; negative errno. */
int io_open_own_at(int dir_fd, const char *path, int flags);
/* Why the folder must not hold files that the program believes later, in words for a log; NULL:
 * nothing. Its owner must be this user or root, and nobody else may write it (its group may if it
 * is this process's own), nor replace it through a folder above it (one with the sticky bit is
 * fine). Look after it was made. */
const char *io_folder_wrong(const char *path);
int io_read_fd(int fd, size_t max_bytes, struct buf *out);
/* Write all, blocking (waits by poll when fd is non-blocking). */
int io_write_all(int fd, const void *bytes, size_t n);
/* Replace path atomically: temporary file beside it, fsync, rename, fsync of the folder.
 * Readers see the old or the new content, never a part. A symlink is followed; what is there and
 * not a regular file is refused (-ENXIO). On failure the old file stays. */
int io_replace_file(const char *path, struct span content, mode_t mode);
/* As above but fails with -EEXIST if path exists already (link(2)). */
int io_create_file(const char *path, struct span content, mode_t mode);

/* Flush and close stdout with all errors looked at: at exit of every program. Exits 74 "cannot
 * write standard output: reason" on failure. A stdout that was never open is a failure only if
 * something was written. */
void io_close_stdout(void);

/* CLOCK_MONOTONIC in milliseconds. */
int64_t io_now_ms(void);

/* "HOST:PORT", "[::1]:5347", ":5347" (*host is not touched: have a default or NULL in it) ->
 * malloc'd parts; false if malformed (nothing is touched). The port is 0..65535. */
bool io_split_host_port(const char *text, char **host, char **port);

#endif
