#include "jat/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "jat/marks.h"

#define SUBSCRIBERS_MAX_BYTES (128 * 1024 * 1024)
/* At this size the file of marks becomes the old one, unless that would lose young marks. */
#define MARKS_BYTES ((size_t)1024 * 1024)
/* The predecessor may have had a larger --limit marks. */
#define MARKS_MAX_BYTES ((size_t)512 * 1024 * 1024)
/* A line: the mark, a space, when it was made (seconds of the epoch), a newline. */
#define MARK_TIME_CHARS 12
#define MARK_LINE_BYTES (MARK_CHARS + 1 + MARK_TIME_CHARS + 1)
#define MARK_LIFE_S 600
/* So many dead lines may stay in the file of subscribers. */
#define DEAD_LINES 10000

/* A file that lines are appended to. */
struct journal {
	char *path;
	int fd; /* -1 */
	size_t bytes, lines;
	bool failing;
};

struct state {
	char *marker, *answered_old, *subscribers_new;
	struct journal answered, subscribers;
	int64_t timeout_ms;
	int64_t rotated_ms; /* since then no mark was added to the old file */
	bool crashed;
};

static char *path_in(const char *dir, const char *name)
{
	struct buf path;
	char *copy;

	buf_init(&path, BUF_NO_MAX);
	buf_printf(&path, "%s/%s", dir, name);
	copy = xstrdup(buf_string(&path));
	buf_free(&path);
	return copy;
}

static struct state *state_new(const char *dir, int64_t timeout_ms)
{
	struct state *s = xcalloc(1, sizeof(*s));

	s->marker = path_in(dir, "running");
	s->answered_old = path_in(dir, "answered.old");
	s->subscribers_new = path_in(dir, "subscribers.new");
	s->answered = (struct journal){.path = path_in(dir, "answered"), .fd = -1};
	s->subscribers = (struct journal){.path = path_in(dir, "subscribers"), .fd = -1};
	s->timeout_ms = timeout_ms;
	s->rotated_ms = io_now_ms();
	return s;
}

static void state_free(struct state *s)
{
	free(s->marker);
	free(s->answered_old);
	free(s->subscribers_new);
	free(s->answered.path);
	free(s->subscribers.path);
	free(s);
}

/* $STATE_DIRECTORY may name several folders, with colons between them: the first is ours. */
struct state *state_open(const char *dir, int64_t timeout_ms, int *status)
{
	const char *given = getenv("STATE_DIRECTORY"), *wrong;
	char *own = !dir && given ? xstrndup(given, strcspn(given, ":")) : NULL;
	struct state *s = NULL;
	int error;

	*status = EXIT_DONE;
	if (!dir)
		dir = own;
	if (dir && *dir && (wrong = io_folder_wrong(dir))) {
		err_error("folder '%s' cannot be used: %s", dir, wrong);
		*status = EXIT_CONFIG;
	} else if (dir && *dir) {
		s = state_new(dir, timeout_ms);
		s->crashed = access(s->marker, F_OK) == 0;
		error = s->crashed ? 0 : io_replace_file(s->marker, SPAN(""), 0600);
		if (error) {
			err_error("cannot write '%s': %s", s->marker, strerror(-error));
			*status = EXIT_CONFIG;
			state_free(s);
			s = NULL;
		}
	}
	free(own);
	return s;
}

void state_close(struct state *s, bool clean)
{
	if (!s)
		return;
	if (clean)
		unlink(s->marker);
	if (s->answered.fd >= 0)
		close(s->answered.fd);
	if (s->subscribers.fd >= 0)
		close(s->subscribers.fd);
	state_free(s);
}

bool state_crashed(const struct state *s)
{
	return s->crashed;
}

/* Journals ----------------------------------------------------------------- */

static void journal_close(struct journal *j)
{
	if (j->fd >= 0)
		close(j->fd);
	j->fd = -1;
}

/* A full disk may have ended the last line early: cut it off, or, where lines differ in length
 * (line_bytes is 0), end it. */
static int journal_open(struct journal *j, size_t line_bytes)
{
	struct stat is;
	char last = '\n';

	j->fd = io_open_own_at(AT_FDCWD, j->path, O_RDWR | O_APPEND | O_CREAT);
	if (j->fd < 0)
		return j->fd;
	if (fstat(j->fd, &is) < 0)
		return -errno;
	j->bytes = (size_t)is.st_size;
	if (line_bytes && j->bytes % line_bytes) {
		j->bytes -= j->bytes % line_bytes;
		return ftruncate(j->fd, (off_t)j->bytes) < 0 ? -errno : 0;
	}
	if (!line_bytes && j->bytes && pread(j->fd, &last, 1, is.st_size - 1) == 1 && last != '\n')
		return io_write_all(j->fd, "\n", 1);
	return 0;
}

/* Append a line with one write, so that after a kill it is there whole or not at all. */
static void journal_append(struct journal *j, struct span line, size_t line_bytes)
{
	int error = 0;

	if (j->fd < 0)
		error = journal_open(j, line_bytes);
	if (!error)
		error = io_write_all(j->fd, line.p, line.n);
	if (!error) {
		j->bytes += line.n;
		j->lines++;
	} else {
		if (!j->failing)
			err_error("cannot write '%s': %s", j->path, strerror(-error));
		journal_close(j); /* the next line opens it again */
	}
	j->failing = error != 0;
}

/* Subscribers -------------------------------------------------------------- */

void state_read_subscribers(struct state *s, struct buf *out)
{
	int error = io_read_own_file(s->subscribers.path, SUBSCRIBERS_MAX_BYTES, out);

	if (error && error != -ENOENT)
		err_warn("cannot read '%s': %s", s->subscribers.path, strerror(-error));
}

/* Replace a file as a whole, without waiting for the disk. */
static int replace_unsynced(const struct state *s, struct span all)
{
	int fd = io_open_own_at(AT_FDCWD, s->subscribers_new, O_WRONLY | O_TRUNC | O_CREAT);
	int error = fd < 0 ? fd : io_write_all(fd, all.p, all.n);

	if (fd >= 0)
		close(fd);
	if (!error && rename(s->subscribers_new, s->subscribers.path) < 0)
		error = -errno;
	return error;
}

void state_write_subscribers(struct state *s, struct span all, bool synced)
{
	int error =
		synced ? io_replace_file(s->subscribers.path, all, 0600) : replace_unsynced(s, all);

	journal_close(&s->subscribers);
	s->subscribers.lines = 0;
	for (size_t i = 0; i < all.n; i++)
		s->subscribers.lines += all.p[i] == '\n';
	if (error)
		err_error("cannot write '%s': %s", s->subscribers.path, strerror(-error));
}

void state_subscribed(struct state *s, bool there, struct span user, struct span address)
{
	struct buf line;

	buf_init(&line, BUF_NO_MAX);
	if (!there)
		buf_append_string(&line, "-\t");
	buf_append_span(&line, user);
	buf_append_char(&line, '\t');
	buf_append_span(&line, address);
	buf_append_char(&line, '\n');
	journal_append(&s->subscribers, buf_span(&line), 0);
	buf_free(&line);
}

bool state_subscribers_grown(const struct state *s, size_t count)
{
	return s->subscribers.lines > 2 * count + DEAD_LINES;
}

/* Marks -------------------------------------------------------------------- */

/* A mark may have been made at the end of its second. */
static long long young_s(const struct state *s)
{
	return s->timeout_ms / 1000 + 2;
}

/* Marks of all predecessors count, also of those that stopped cleanly: the answer may come to a
 * process that is started after a later one has crashed. They are not kept for ever, because a user
 * may use the same id again. */
void state_read_marks(struct state *s, bool young, struct buf *out)
{
	const char *files[] = {s->answered_old, s->answered.path};
	long long life_s = young || young_s(s) > MARK_LIFE_S ? young_s(s) : MARK_LIFE_S;
	long long oldest_s = (long long)time(NULL) - life_s;
	struct span left;
	struct buf all;

	buf_init(&all, 2 * MARKS_MAX_BYTES);
	for (int i = 0; i < 2; i++) {
		int error = io_read_own_file(files[i], MARKS_MAX_BYTES, &all);

		if (error && error != -ENOENT)
			err_warn("cannot read '%s': %s", files[i], strerror(-error));
	}
	for (left = buf_span(&all); left.n >= MARK_LINE_BYTES;
		left = span_from(left, MARK_LINE_BYTES)) {
		char time_s[MARK_TIME_CHARS + 1] = {0};

		memcpy(time_s, left.p + MARK_CHARS + 1, MARK_TIME_CHARS);
		if (strtoll(time_s, NULL, 10) < oldest_s)
			continue;
		buf_append(out, left.p, MARK_CHARS);
		buf_append_char(out, '\n');
	}
	buf_free(&all);
}

/* Whether the old file holds no young mark: its last one is as old as the file. The system's clock
 * may have been set back, ours never is. */
static bool old_may_go(const struct state *s, int64_t now_ms)
{
	struct stat is;

	if (now_ms - s->rotated_ms > s->timeout_ms)
		return true;
	return stat(s->answered_old, &is) < 0 ? errno == ENOENT
					      : time(NULL) - is.st_mtime > young_s(s);
}

/* Marks are not synced: when the machine stops, the sessions' answers are lost as well. */
void state_mark(struct state *s, const char *mark)
{
	char line[MARK_LINE_BYTES + 1];
	int64_t now_ms = io_now_ms();

	snprintf(line, sizeof(line), "%s %0*lld\n", mark, MARK_TIME_CHARS, (long long)time(NULL));
	if (s->answered.fd >= 0 && s->answered.bytes >= MARKS_BYTES && old_may_go(s, now_ms)) {
		journal_close(&s->answered);
		s->rotated_ms = now_ms;
		if (rename(s->answered.path, s->answered_old) < 0)
			err_error("cannot rename '%s': %s", s->answered.path, strerror(errno));
	}
	journal_append(&s->answered, (struct span){line, MARK_LINE_BYTES}, MARK_LINE_BYTES);
}
