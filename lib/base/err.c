/* err.c - see err.h */
#include "base/err.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Longer lines are cut and end in "...". */
#define LINE_MAX_BYTES 16384
#define LIMIT_MS 60000

static struct {
	const char *program;
	enum err_level shown;
	bool journal, json;
} err = {"outboard", ERR_NOTICE, false, false};

void err_init(const char *argv0)
{
	if (argv0 && *argv0) {
		const char *slash = strrchr(argv0, '/');
		err.program = slash && slash[1] ? slash + 1 : argv0;
	}
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	int end = 0;
	struct stat st;
	err.journal = stream &&
		      sscanf(stream, "%" SCNuMAX ":%" SCNuMAX "%n", &device, &inode, &end) == 2 &&
		      stream[end] == '\0' && fstat(STDERR_FILENO, &st) == 0 &&
		      st.st_dev == device && st.st_ino == inode;
}

const char *err_program(void)
{
	return err.program;
}

void err_verbosity(int steps)
{
	int level = (int)err.shown + steps;
	err.shown = level < ERR_ERROR	? ERR_ERROR
		    : level > ERR_DEBUG ? ERR_DEBUG
					: (enum err_level)level;
}

bool err_shows(enum err_level level)
{
	return level <= err.shown;
}

bool err_log_format(const char *name)
{
	if (strcmp(name, "text") != 0 && strcmp(name, "json") != 0)
		return false;
	err.json = name[0] == 'j';
	return true;
}

/* Length of the well-formed UTF-8 character (RFC 3629) at s that a terminal prints; 0 for control
 * characters, C1 included, and for broken sequences. */
static size_t printable(const unsigned char *s)
{
	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7f;
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xe0 && s[1] < 0xa0) ||
		(s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
		(s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

/* Append text to line[at..LINE_MAX_BYTES), masked and, for JSON, escaped. Returns the new end. */
static size_t append(char *line, size_t at, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	while (*s) {
		size_t n = printable(s);
		if (at + 8 > LINE_MAX_BYTES - 8) {
			memcpy(line + at, "...", 3);
			return at + 3;
		}
		if (n == 0) {
			line[at++] = '?';
			s++;
			continue;
		}
		if (err.json && (*s == '"' || *s == '\\'))
			line[at++] = '\\';
		memcpy(line + at, s, n);
		at += n;
		s += n;
	}
	return at;
}

static void log_line(enum err_level level, const char *format, va_list ap)
{
	static const char *const names[] = {
		[ERR_ERROR] = "error",
		[ERR_WARNING] = "warning",
		[ERR_NOTICE] = "notice",
		[ERR_INFO] = "info",
		[ERR_DEBUG] = "debug",
	};
	int saved = errno;
	char message[LINE_MAX_BYTES], line[LINE_MAX_BYTES];
	size_t n = 0;
	if (vsnprintf(message, sizeof message, format, ap) < 0)
		snprintf(message, sizeof message, "%s", format);
	if (err.journal)
		n = (size_t)snprintf(line, 8, "<%d>", (int)level);
	if (err.json) {
		n += (size_t)snprintf(
			line + n, 64, "{\"level\":\"%s\",\"program\":\"", names[level]);
		n = append(line, n, err.program);
		static const char between[] = "\",\"message\":\"";
		memcpy(line + n, between, sizeof between - 1);
		n = append(line, n + sizeof between - 1, message);
		memcpy(line + n, "\"}", 2);
		n += 2;
	} else {
		n = append(line, n, err.program);
		memcpy(line + n, ": ", 2);
		n = append(line, n + 2, message);
	}
	line[n++] = '\n';
	/* One write, so that lines of several processes do not mix; nowhere to complain if it
	 * fails. */
	while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR)
		;
	errno = saved;
}

void err_log(enum err_level level, const char *format, ...)
{
	if (!err_shows(level))
		return;
	va_list ap;
	va_start(ap, format);
	log_line(level, format, ap);
	va_end(ap);
}

void err_log_limited(
	struct err_limit *limit, int64_t now_ms, enum err_level level, const char *format, ...)
{
	if (!err_shows(level))
		return;
	if (limit->next_ms > now_ms) {
		limit->left_out++;
		return;
	}
	va_list ap;
	va_start(ap, format);
	log_line(level, format, ap);
	va_end(ap);
	if (limit->left_out > 0)
		err_log(level, "the last message came %" PRIu64 " times more in between",
			limit->left_out);
	*limit = (struct err_limit){.next_ms = now_ms + LIMIT_MS};
}

/* FNV-1a */
static uint64_t hash_more(uint64_t hash, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		hash = (hash ^ (unsigned char)p[i]) * 0x100000001b3;
	return hash;
}

struct err_limit *err_limit_of(
	struct err_limits *limits, int64_t now_ms, const char *what, const char *p, size_t n)
{
	uint64_t hash = hash_more(hash_more(0xcbf29ce484222325, what, strlen(what)), p, n);
	struct err_limit_of *over = NULL;

	for (int i = 0; i < ERR_LIMITS; i++) {
		struct err_limit_of *of = &limits->of[i];

		if (of->limit.next_ms && of->hash == hash)
			return &of->limit;
		if (!over && of->limit.next_ms <= now_ms)
			over = of;
	}
	if (!over) /* the last one is shared by all other messages */
		return &limits->of[ERR_LIMITS - 1].limit;
	over->hash = hash;
	over->limit.next_ms = 0; /* its count of messages left out is told with the next message */
	return &over->limit;
}

void err_die(enum exit_status status, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	log_line(ERR_ERROR, format, ap);
	va_end(ap);
	exit((int)status);
}

static void *or_die(void *p)
{
	if (!p)
		err_die(EXIT_TEMPORARY, "out of memory");
	return p;
}

void *xmalloc(size_t bytes)
{
	return or_die(malloc(bytes ? bytes : 1));
}

void *xcalloc(size_t count, size_t bytes)
{
	return or_die(count && bytes ? calloc(count, bytes) : calloc(1, 1));
}

void *xrealloc(void *p, size_t bytes)
{
	return or_die(realloc(p, bytes ? bytes : 1));
}

void *xgrow(void *list, size_t *size, size_t count, size_t item_bytes)
{
	if (count < *size)
		return list;
	*size = *size ? *size * 2 : 8;
	return xrealloc(list, *size * item_bytes);
}

char *xstrdup(const char *string)
{
	return xstrndup(string, strlen(string));
}

char *xstrndup(const char *p, size_t n)
{
	if (n == SIZE_MAX)
		or_die(NULL);
	char *copy = xmalloc(n + 1);
	if (n)
		memcpy(copy, p, n);
	copy[n] = '\0';
	return copy;
}
