/* wire.h - what the measuring programs share: bytes, tags, clocks
 *
 * Everything here dies on trouble (die() runs at_death first, so that no child
 * outlives a failed run). It shares no code with lib/: what measures must not be
 * what is measured.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <errno.h>
#include <inttypes.h>
#include <nettle/sha1.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIT(s) (s), (sizeof(s) - 1)

struct span {
	const char *p;
	size_t n;
};

struct buf {
	char *p;
	size_t at, n, cap; /* bytes at..n are valid */
};

struct tag {
	struct span name, to, from, id, type, node;
	bool empty;
};

/* ---- trouble ---- */

static const char *wire_program;
static void (*at_death)(void);

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", wire_program);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	if (at_death)
		at_death();
	exit(1);
}

/* ---- clocks ---- */

static inline uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	if (clock_gettime(id, &t) != 0)
		die("cannot read clock %d: %s", (int)id, strerror(errno));
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static inline bool is_number(const char *s, pid_t *pid)
{
	char *end;
	long v = strtol(s, &end, 10);

	*pid = (pid_t)v;
	return end != s && v > 0;
}

/* CPU time of everything below a process: living descendants by their clocks, the
 * dead by what their parent reaped (10 ms steps: windows are seconds long). */
static inline uint64_t descendants_ns(pid_t pid)
{
	char path[64], line[4096];
	uint64_t sum = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f) {
		char *p = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
		unsigned long reaped_user = 0, reaped_sys = 0;

		if (p)
			sscanf(p + 1,
				" %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %lu %lu",
				&reaped_user, &reaped_sys);
		sum += (reaped_user + reaped_sys) *
		       (1000000000U / (unsigned long)sysconf(_SC_CLK_TCK));
		fclose(f);
	}
	snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
	f = fopen(path, "re");
	if (f) {
		char *p = fgets(line, sizeof line, f), *save = NULL;

		fclose(f);
		for (p = p ? strtok_r(p, " \n", &save) : NULL; p;
			p = strtok_r(NULL, " \n", &save)) {
			struct timespec t;
			clockid_t id;
			pid_t sub;

			if (!is_number(p, &sub))
				continue;
			if (clock_getcpuclockid(sub, &id) == 0 && clock_gettime(id, &t) == 0)
				sum += (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
			sum += descendants_ns(sub);
		}
	}
	return sum;
}

static inline unsigned long status_kib(pid_t pid, const char *key)
{
	char path[64], line[256];
	unsigned long kib = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof line, f))
		if (strncmp(line, key, strlen(key)) == 0)
			sscanf(line + strlen(key), ": %lu", &kib);
	fclose(f);
	return kib;
}

/* ---- bytes ---- */

static inline void buf_reserve(struct buf *b, size_t n)
{
	if (b->n + n <= b->cap)
		return;
	if (b->at > 0) {
		memmove(b->p, b->p + b->at, b->n - b->at);
		b->n -= b->at;
		b->at = 0;
	}
	if (b->n + n > b->cap) {
		b->cap = (b->n + n) * 2;
		b->p = realloc(b->p, b->cap);
		if (!b->p)
			die("out of memory");
	}
}

static inline void put(struct buf *b, const char *p, size_t n)
{
	buf_reserve(b, n);
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

static inline void put_span(struct buf *b, struct span s)
{
	put(b, s.p, s.n);
}

static inline bool span_is(struct span s, const char *p, size_t n)
{
	return s.n == n && memcmp(s.p, p, n) == 0;
}

static inline bool span_starts(struct span s, const char *p, size_t n)
{
	return s.n >= n && memcmp(s.p, p, n) == 0;
}

static inline bool span_holds(struct span s, const char *p, size_t n)
{
	return memmem(s.p, s.n, p, n) != NULL;
}

/* ---- just enough XML: our own traffic has no CDATA, comments or entities ---- */

static inline bool is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Reads the tag at p (which is '<'); returns what follows it, NULL if it is not
 * all there. */
static inline const char *tag_read(const char *p, const char *end, struct tag *t)
{
	const char *q;

	memset(t, 0, sizeof *t);
	q = ++p;
	while (q < end && !is_space(*q) && *q != '>' && *q != '/')
		q++;
	t->name = (struct span){p, (size_t)(q - p)};
	for (p = q;;) {
		const char *name;
		struct span value, *into = NULL;

		while (p < end && is_space(*p))
			p++;
		if (p == end)
			return NULL;
		if (*p == '>')
			return p + 1;
		if (*p == '/') {
			t->empty = true;
			if (p + 1 == end)
				return NULL;
			return p + 2;
		}
		name = p;
		while (p < end && *p != '=')
			p++;
		if (end - p < 2)
			return NULL;
		q = memchr(p + 2, p[1], (size_t)(end - p - 2));
		if (!q)
			return NULL;
		value = (struct span){p + 2, (size_t)(q - p - 2)};
		if (p - name == 2)
			into = name[0] == 't' ? &t->to : name[0] == 'i' ? &t->id : NULL;
		else if (p - name == 4)
			into = name[0] == 't'	? &t->type
			       : name[0] == 'f' ? &t->from
			       : name[0] == 'n' ? &t->node
						: NULL;
		if (into)
			*into = value;
		p = q + 1;
	}
}

/* Length of the whole stanza at p, 0 if it is not all there. */
static inline size_t stanza_length(const char *p, const char *end)
{
	const char *at = p;
	unsigned depth = 0;

	while ((at = memchr(at, '<', (size_t)(end - at)))) {
		if (end - at > 1 && at[1] == '/') {
			at = memchr(at, '>', (size_t)(end - at));
			if (!at)
				return 0;
			at++;
			depth--;
		} else {
			struct tag t;

			at = tag_read(at, end, &t);
			if (!at)
				return 0;
			depth += !t.empty;
		}
		if (depth == 0)
			return (size_t)(at - p);
	}
	return 0;
}

/* Is `want` next? bytes eaten, 0 if more are needed, -1 if not. */
static inline ssize_t expect(const char *p, const char *end, const char *want, size_t n)
{
	size_t have = (size_t)(end - p);

	if (have >= n)
		return memcmp(p, want, n) == 0 ? (ssize_t)n : -1;
	return memcmp(p, want, have) == 0 ? 0 : -1;
}

/* ---- the payloads: a request is about 250 bytes on the wire ---- */

#define REQUEST                                                                                    \
	"<query xmlns='urn:example:bench'><item node='princely_musings' max='10'>"                 \
	"now is the winter of our discontent made glorious summer by this sun</item></query>"
#define ANSWER                                                                                     \
	"<query xmlns='urn:example:bench'><item node='princely_musings' id='1'>"                   \
	"and all the clouds that lour'd upon our house buried in the ocean.</item></query>"

/* ---- ids: 'q', slot (4 hex digits), generation (8) ---- */

enum { ID_LEN = 13 };

static const char hex[] = "0123456789abcdef";

static inline void id_write(char id[ID_LEN], uint32_t n, uint32_t g)
{
	id[0] = 'q';
	for (int i = 4; i > 0; i--, n >>= 4)
		id[i] = hex[n & 15];
	for (int i = 12; i > 4; i--, g >>= 4)
		id[i] = hex[g & 15];
}

static inline int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline bool id_read(struct span id, uint32_t *n, uint32_t *g)
{
	*n = *g = 0;
	if (id.n != ID_LEN || id.p[0] != 'q')
		return false;
	for (int i = 1; i < ID_LEN; i++) {
		int v = hex_value(id.p[i]);

		if (v < 0)
			return false;
		if (i <= 4)
			*n = *n << 4 | (uint32_t)v;
		else
			*g = *g << 4 | (uint32_t)v;
	}
	return true;
}

/* ---- the programs under test ---- */

struct child {
	pid_t pid;
	clockid_t clock;
	char **argv; /* NULL: not ours, only measured */
	bool reaped;
	uint64_t cpu_ns, tree_ns; /* at the start of the window, then spent in it */
};

/* {port} in an argument becomes port. Its standard output joins its standard error. */
static inline void child_start(struct child *child, unsigned port)
{
	for (char **a = child->argv; *a; a++) {
		char *at = strstr(*a, "{port}"), *with;

		if (!at)
			continue;
		if (asprintf(&with, "%.*s%u%s", (int)(at - *a), *a, port, at + strlen("{port}")) <
			0)
			die("out of memory");
		*a = with;
	}
	child->pid = fork();
	if (child->pid < 0)
		die("cannot fork: %s", strerror(errno));
	if (child->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		signal(SIGPIPE, SIG_DFL);
		if (dup2(STDERR_FILENO, STDOUT_FILENO) >= 0)
			execvp(child->argv[0], child->argv);
		fprintf(stderr, "%s: cannot run '%s': %s\n", wire_program, child->argv[0],
			strerror(errno));
		_exit(127);
	}
	if (clock_getcpuclockid(child->pid, &child->clock) != 0)
		die("no CPU clock for process %d", (int)child->pid);
}

static inline void child_window_begin(struct child *c)
{
	c->tree_ns = descendants_ns(c->pid);
	c->cpu_ns = clock_ns(c->clock);
}

static inline void child_window_end(struct child *c)
{
	c->cpu_ns = clock_ns(c->clock) - c->cpu_ns;
	c->tree_ns = descendants_ns(c->pid) - c->tree_ns;
}

/* Whether it has ended. Before `expected` that is an error, after it any status but 0 is. */
static inline bool child_gone(struct child *c, bool expected)
{
	int status;

	if (c->reaped || !c->argv || c->pid == 0)
		return true;
	if (waitpid(c->pid, &status, WNOHANG) != c->pid)
		return false;
	c->reaped = true;
	if (!expected)
		die("%s ended with wait status %#x", c->argv[0], (unsigned)status);
	if (!WIFSIGNALED(status) && WEXITSTATUS(status) != 0)
		die("%s left with exit status %d on SIGTERM", c->argv[0], WEXITSTATUS(status));
	return true;
}

#endif
