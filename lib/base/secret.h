/* base/secret.h - passwords, keys and tokens: where they come from, how they are kept
 */
#ifndef OUTBOARD_BASE_SECRET_H
#define OUTBOARD_BASE_SECRET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* Where a secret comes from: --x-file, --x-fd, else $CREDENTIALS_DIRECTORY/NAME. */
struct secret {
	const char *file;	/* or NULL */
	int64_t fd;		/* or -1 */
	const char *credential; /* NAME: "component-secret", "password", ... */
};
#define SECRET_MAX_BYTES 65536

/* Read the secret into out (raw content; secret_trim removes one trailing newline).
 * A regular file that others can read or the group can write is refused (/dev/fd/N is an fd that
 * somebody opened for us: not looked at). An fd is read to its end once, closed unless it is a
 * standard one, and remembered by the caller (secret_once()). A FIFO may be given: io_read_given().
 * Returns an exit status: EXIT_DONE, EXIT_CONFIG (missing, unreadable, bad mode, empty,
 * embedded NUL), EXIT_TEMPORARY (out of descriptors or memory); the reason has been logged. */
int secret_read(const struct secret *secret, const char *what, struct buf *out);
/* The same while the program serves (SIGHUP): what a FIFO gives must come at once. */
int secret_read_again(const struct secret *secret, const char *what, struct buf *out);
/* Whether it can be read only once: a descriptor or a pipe of the shell. */
bool secret_once(const struct secret *secret);
/* Whether any source is there at all. */
bool secret_given(const struct secret *secret);
void secret_trim(struct buf *b);
/* Keep the first line, without its end: of a file with two tokens clients use the first. */
void secret_first_line(struct buf *b);
/* buf_free, but overwrite first (explicit_bzero). */
void secret_wipe(struct buf *b);
/* No core files and not dumpable by others, for processes that hold secrets. */
void secret_no_core(void);

#endif
