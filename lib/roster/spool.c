#include "roster/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "roster/roster.h"
#include "base/random.h"

#define PREFIX "names."
#define NEW_SUFFIX ".new"
/* The largest journal that is read. */
#define JOURNAL_MAX_BYTES ((size_t)1 << 30)
/* A journal that is larger than this and mostly holds finished names is rewritten. */
#define REWRITE_BYTES ((off_t)1 << 20)

struct spooled {
	struct span name; /* owned; first, see compare() */
	LIST_ENTRY(spooled) list;
};

struct spool {
	char *dir, name[64];
	int dir_fd, fd;
	off_t size;	  /* of the journal */
	off_t live_bytes; /* bytes that its names need */
	void *tree;
	LIST_HEAD(, spooled) names;
	size_t count;
	bool failing;
};

static int compare(const void *a, const void *b)
{
	return span_compare(*(const struct span *)a, *(const struct span *)b);
}

static void set_add(struct spool *s, struct span name)
{
	struct spooled *e;

	if (tfind(&name, &s->tree, compare))
		return;
	e = xcalloc(1, sizeof(*e));
	e->name = (struct span){xstrndup(name.p, name.n), name.n};
	LIST_INSERT_HEAD(&s->names, e, list);
	if (!tsearch(&e->name, &s->tree, compare))
		err_die(EXIT_TEMPORARY, "out of memory");
	s->count++;
	s->live_bytes += (off_t)name.n + 2;
}

static bool set_remove(struct spool *s, struct span name)
{
	struct spooled *e, **found = tfind(&name, &s->tree, compare);

	if (!found)
		return false;
	e = *found;
	tdelete(&e->name, &s->tree, compare);
	LIST_REMOVE(e, list);
	s->count--;
	s->live_bytes -= (off_t)e->name.n + 2;
	free((char *)e->name.p);
	free(e);
	return true;
}

static void set_clear(struct spool *s)
{
	while (!LIST_EMPTY(&s->names))
		set_remove(s, LIST_FIRST(&s->names)->name);
}

static void line_append(struct buf *out, char sign, struct span name)
{
	buf_append_char(out, sign);
	buf_append_span(out, name);
	buf_append_char(out, '\n');
}

/* Append to the journal. After a failure the journal is as it was before. */
static int journal_append(struct spool *s, struct span bytes, bool sync)
{
	int error = io_write_all(s->fd, bytes.p, bytes.n);

	if (!error && sync && fsync(s->fd) < 0)
		error = -errno;
	if (error) {
		if (ftruncate(s->fd, s->size) < 0)
			err_debug("cannot shorten the journal: %s", strerror(errno));
		return error;
	}
	s->size += (off_t)bytes.n;
	return 0;
}

/* Create an empty, locked journal of this name. -1 on failure. */
static int journal_create(struct spool *s, const char *name)
{
	int fd = openat(s->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);

	if (fd >= 0)
		(void)flock(fd, LOCK_EX);
	return fd;
}

/* Replace our journal by a new one with the names of the set. */
static int journal_rewrite(struct spool *s)
{
	char name[sizeof(s->name) + sizeof(NEW_SUFFIX)];
	struct spooled *e;
	struct buf lines;
	int fd, error = 0;

	snprintf(name, sizeof(name), "%s" NEW_SUFFIX, s->name);
	buf_init(&lines, BUF_NO_MAX);
	LIST_FOREACH(e, &s->names, list)
	line_append(&lines, '+', e->name);
	fd = journal_create(s, name);
	if (fd < 0)
		error = -errno;
	if (!error)
		error = io_write_all(fd, buf_span(&lines).p, buf_length(&lines));
	if (!error && (fsync(fd) < 0 || renameat(s->dir_fd, name, s->dir_fd, s->name) < 0 ||
			      fsync(s->dir_fd) < 0))
		error = -errno;
	if (!error) {
		close(s->fd);
		s->fd = fd;
		s->size = (off_t)buf_length(&lines);
	} else if (fd >= 0) {
		unlinkat(s->dir_fd, name, 0);
		close(fd);
	}
	buf_free(&lines);
	return error;
}

/* Add the names that the set does not have yet, to the disk first. */
static int names_add(struct spool *s, const struct span *names, size_t count)
{
	struct buf lines;
	int error;

	buf_init(&lines, BUF_NO_MAX);
	for (size_t i = 0; i < count; i++)
		if (!tfind(&names[i], &s->tree, compare))
			line_append(&lines, '+', names[i]);
	error = buf_length(&lines) ? journal_append(s, buf_span(&lines), true) : 0;
	buf_free(&lines);
	for (size_t i = 0; i < count && !error; i++)
		set_add(s, names[i]);
	return error;
}

void spool_parse(
	struct span text, void (*fn)(void *context, bool added, struct span name), void *context)
{
	while (text.n > 0) {
		const char *newline = memchr(text.p, '\n', text.n);
		struct span name;

		if (!newline)
			return;
		name = (struct span){text.p + 1, (size_t)(newline - text.p)};
		name.n -= name.n > 0;
		if (*text.p == '+' && roster_user_valid(name))
			fn(context, true, name);
		else if (*text.p == '-')
			fn(context, false, name);
		text = span_from(text, (size_t)(newline + 1 - text.p));
	}
}

static void journal_line(void *context, bool added, struct span name)
{
	if (added)
		set_add(context, name);
	else
		set_remove(context, name);
}

/* Read a journal into an empty set. A last line without newline is ignored: spool_add() has not
 * returned true for it. */
static int journal_read(struct spool *set, int fd)
{
	struct buf text;
	int error;

	buf_init(&text, JOURNAL_MAX_BYTES);
	error = io_read_fd(fd, JOURNAL_MAX_BYTES, &text);
	if (!error)
		spool_parse(buf_span(&text), journal_line, set);
	buf_free(&text);
	return error;
}

static bool unfinished(const char *name)
{
	size_t n = strlen(name), suffix = strlen(NEW_SUFFIX);

	return n > suffix && strcmp(name + n - suffix, NEW_SUFFIX) == 0;
}

/* Take the names of a dead process's journal into ours, then remove it. */
static int orphan_take(struct spool *s, const char *name, int fd)
{
	struct spool set = {0};
	struct spooled *e;
	struct span *names;
	size_t n = 0;
	int error = unfinished(name) ? 0 : journal_read(&set, fd);

	names = xcalloc(set.count + 1, sizeof(*names));
	LIST_FOREACH(e, &set.names, list)
	names[n++] = e->name;
	if (!error)
		error = names_add(s, names, n);
	if (!error && unlinkat(s->dir_fd, name, 0) < 0 && errno != ENOENT)
		error = -errno;
	free(names);
	set_clear(&set);
	return error;
}

/* False if its process has just replaced the journal that we opened: the file under this name must
 * not be removed then. */
static bool still_named(const struct spool *s, const char *name, int fd)
{
	struct stat opened, named;

	return fstat(fd, &opened) == 0 &&
	       fstatat(s->dir_fd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	       opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

/* Take over the journals that no process holds. */
static int orphans_take(struct spool *s)
{
	int error = 0, fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

	if (!dir) {
		error = -errno;
		if (fd >= 0)
			close(fd);
		return error;
	}
	for (struct dirent *d = readdir(dir); d && !error; d = readdir(dir)) {
		if (strncmp(d->d_name, PREFIX, strlen(PREFIX)) != 0 ||
			strcmp(d->d_name, s->name) == 0)
			continue;
		fd = io_open_own_at(s->dir_fd, d->d_name, O_RDONLY);
		if (fd < 0)
			continue;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 && still_named(s, d->d_name, fd))
			error = orphan_take(s, d->d_name, fd);
		close(fd);
	}
	closedir(dir);
	return error;
}

/* Create our journal and take over those of dead processes. The folder is locked, so that no two
 * processes take over the same journal. */
static int take_over(struct spool *s)
{
	int error;
	int lock = openat(s->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (lock < 0 || flock(lock, LOCK_EX) < 0) {
		error = -errno;
	} else {
		s->fd = journal_create(s, s->name);
		error = s->fd < 0 ? -errno : fsync(s->dir_fd) < 0 ? -errno : 0;
		if (!error)
			error = orphans_take(s);
	}
	if (lock >= 0)
		close(lock);
	return error;
}

struct spool *spool_open(const char *dir, int *status)
{
	struct spool *s = xcalloc(1, sizeof(*s));
	uint64_t random;
	const char *wrong;
	int error = 0;

	s->fd = -1;
	s->dir = xstrdup(dir);
	random_bytes(&random, sizeof(random));
	snprintf(s->name, sizeof(s->name), PREFIX "%" PRIx64, random);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		error = -errno;
	s->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0 && !error)
		error = -errno;
	wrong = error ? NULL : io_folder_wrong(dir);
	if (wrong)
		error = -EPERM;
	if (!error)
		error = take_over(s);
	if (!error)
		return s;
	err_error("cannot use the spool '%s': %s", dir, wrong ? wrong : strerror(-error));
	*status = io_error_status(
		error, error == -ENOSPC || error == -EDQUOT ? EXIT_IO : EXIT_CONFIG);
	spool_free(s);
	return NULL;
}

void spool_free(struct spool *s)
{
	if (!s)
		return;
	if (s->fd >= 0 && s->count == 0)
		unlinkat(s->dir_fd, s->name, 0);
	set_clear(s);
	if (s->fd >= 0)
		close(s->fd);
	if (s->dir_fd >= 0)
		close(s->dir_fd);
	free(s->dir);
	free(s);
}

void spool_each(struct spool *s, void (*fn)(void *context, struct span name), void *context)
{
	for (struct spooled *e = LIST_FIRST(&s->names), *next; e; e = next) {
		next = LIST_NEXT(e, list);
		fn(context, e->name);
	}
}

bool spool_add(struct spool *s, const struct span *names, size_t count)
{
	int error = names_add(s, names, count);

	if (error) {
		if (!s->failing)
			err_error("cannot write to the spool '%s': %s", s->dir, strerror(-error));
		s->failing = true;
		return false;
	}
	s->failing = false;
	return true;
}

void spool_remove(struct spool *s, struct span name)
{
	struct buf line;

	buf_init(&line, BUF_NO_MAX);
	line_append(&line, '-', name); /* name may be the entry's own */
	if (set_remove(s, name)) {
		/* Not synced, and a failure does no harm: the name is then done twice. */
		if (s->count == 0) {
			if (ftruncate(s->fd, 0) == 0)
				s->size = 0;
		} else if (s->size > REWRITE_BYTES && s->size > 4 * s->live_bytes &&
			   journal_rewrite(s) == 0) {
			err_debug("the spool was written anew: %zu names", s->count);
		} else {
			(void)journal_append(s, buf_span(&line), false);
		}
	}
	buf_free(&line);
}

bool spool_has(const struct spool *s, struct span name)
{
	return tfind(&name, &s->tree, compare) != NULL;
}

size_t spool_count(const struct spool *s)
{
	return s ? s->count : 0;
}
