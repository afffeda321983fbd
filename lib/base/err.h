/* base/err.h - words on stderr, exit statuses, allocation that does not fail
 *
 * Invariants: one message is one line and one write(2); control bytes in it are
 * masked as '?'; it never goes to stdout. The program name is the only global
 * state of the library. When stderr is the journal ($JOURNAL_STREAM matches
 * fd 2) each line begins with its <N> syslog priority. With the json log format
 * the rest of a line is one JSON object {"level","program","message"}. Bytes that are not UTF-8
 * are masked too; lines end in "..." beyond 16 KiB.
 */
#ifndef OUTBOARD_BASE_ERR_H
#define OUTBOARD_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum exit_status {
	EXIT_DONE = 0,
	EXIT_NO = 1,	       /* the peer's honest "no" */
	EXIT_USAGE = 64,       /* wrong command line */
	EXIT_DATA = 65,	       /* bad input data */
	EXIT_UNAVAILABLE = 69, /* service unavailable */
	EXIT_IO = 74,	       /* disk full, closed stdout */
	EXIT_TEMPORARY = 75,   /* safe to retry */
	EXIT_PROTOCOL = 76,    /* the peer broke the protocol */
	EXIT_DENIED = 77,      /* not allowed, bad secret */
	EXIT_CONFIG = 78,      /* bad configuration */
	EXIT_TIMED_OUT = 124,
};

/* syslog(3) priorities */
enum err_level { ERR_ERROR = 3, ERR_WARNING = 4, ERR_NOTICE = 5, ERR_INFO = 6, ERR_DEBUG = 7 };

/* Remember the program's name (the last component of argv0, borrowed for the
 * life of the process) and look at $JOURNAL_STREAM. Call first in main(). */
void err_init(const char *argv0);
const char *err_program(void);

/* Show messages up to this level; default ERR_NOTICE. -v adds one, -q takes one. */
void err_verbosity(int steps);
bool err_shows(enum err_level level);
/* false if the name is neither "text" nor "json" */
bool err_log_format(const char *name);

/* One line: "prog: message". No trailing newline or full stop in format. */
void err_log(enum err_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define err_error(...) err_log(ERR_ERROR, __VA_ARGS__)
#define err_warn(...) err_log(ERR_WARNING, __VA_ARGS__)
#define err_note(...) err_log(ERR_NOTICE, __VA_ARGS__)
#define err_info(...) err_log(ERR_INFO, __VA_ARGS__)
#define err_debug(...) err_log(ERR_DEBUG, __VA_ARGS__)

/* A message that may come very often: the first one is written, those of the following minute are
 * counted, and the next one after it says how many were left out. One struct per kind of message,
 * at first all 0; now_ms as in base/io.h. */
struct err_limit {
	int64_t next_ms;   /* private */
	uint64_t left_out; /* private */
};
void err_log_limited(struct err_limit *limit, int64_t now_ms, enum err_level level,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The same for messages whose text is not known before: each different one is limited by itself, as
 * long as there are not too many of them in a minute; the rest of them together. */
#define ERR_LIMITS 24
struct err_limits {
	struct err_limit_of {
		uint64_t hash;
		struct err_limit limit;
	} of[ERR_LIMITS]; /* private */
};
/* The limit of the message that is about these two texts. */
struct err_limit *err_limit_of(
	struct err_limits *limits, int64_t now_ms, const char *what, const char *p, size_t n);

/* Log as an error and exit with the status. Only cmd/ and x*alloc call it. */
_Noreturn void err_die(enum exit_status status, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Allocation: never NULL; exit EXIT_TEMPORARY "out of memory" on failure.
 * Size overflow counts as failure. */
void *xmalloc(size_t bytes);
void *xcalloc(size_t count, size_t bytes);
void *xrealloc(void *p, size_t bytes);
/* `list` with room for one item more than `count`; it may have moved. *size: how many items it has
 * room for, 0 where it is NULL. */
void *xgrow(void *list, size_t *size, size_t count, size_t item_bytes);
char *xstrdup(const char *string);
/* NUL terminated copy of n bytes */
char *xstrndup(const char *p, size_t n);

#endif
