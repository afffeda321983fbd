#include "roster/fetchcache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"

#define MAGIC "outboard-fetch 1\n"
#define HEAD_MAX_BYTES 16384
#define TEMPORARY ".new-"
/* A temporary file that was not written for so long was left by a dead process. */
#define ABANDONED_S 3600

void fetchcache_entry_init(struct fetchcache_entry *e)
{
	*e = (struct fetchcache_entry){0};
	buf_init(&e->all, BUF_NO_MAX);
}

void fetchcache_entry_free(struct fetchcache_entry *e)
{
	buf_free(&e->all);
	fetchcache_entry_init(e);
}

static void path_of(const char *dir, struct span url, struct buf *path)
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx hash;

	sha256_init(&hash);
	sha256_update(&hash, url.n, (const uint8_t *)url.p);
	sha256_digest(&hash, sizeof(digest), digest);
	buf_init(path, BUF_NO_MAX);
	buf_printf(path, "%s/", dir);
	for (size_t i = 0; i < sizeof(digest); i++)
		buf_printf(path, "%02x", digest[i]);
}

/* A temporary file in dir: its fd, or a negative errno. */
static int make_temporary(const char *dir, struct buf *path)
{
	int fd;

	buf_init(path, BUF_NO_MAX);
	buf_printf(path, "%s/" TEMPORARY "XXXXXX", dir);
	fd = mkostemp(path->p + path->start, O_CLOEXEC);
	return fd >= 0 ? fd : -errno;
}

static void remove_abandoned(const char *dir)
{
	DIR *entries = opendir(dir);
	struct dirent *entry;

	while (entries && (entry = readdir(entries))) {
		struct stat st;

		if (strncmp(entry->d_name, TEMPORARY, strlen(TEMPORARY)) == 0 &&
			fstatat(dirfd(entries), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			st.st_mtime + ABANDONED_S < time(NULL))
			unlinkat(dirfd(entries), entry->d_name, 0);
	}
	if (entries)
		closedir(entries);
}

int fetchcache_open(const char *dir)
{
	struct buf path;
	int fd;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = make_temporary(dir, &path);
	if (fd >= 0) {
		close(fd);
		unlink(buf_string(&path));
		remove_abandoned(dir);
	}
	buf_free(&path);
	return fd < 0 ? fd : 0;
}

/* The value of the line "name: value" at the front of *rest, which is taken off. */
static struct span take_line(struct span *rest, struct span name)
{
	const char *newline;
	struct span value;

	if (!span_starts(*rest, name))
		return SPAN_NONE;
	newline = memchr(rest->p, '\n', rest->n);
	if (!newline)
		return SPAN_NONE;
	value = (struct span){rest->p + name.n, (size_t)(newline - rest->p) - name.n};
	*rest = span_from(*rest, (size_t)(newline - rest->p) + 1);
	return value;
}

static bool validator_usable(struct span v)
{
	if (!v.p || v.n == 0 || v.n > FETCHCACHE_VALIDATOR_MAX_BYTES)
		return false;
	for (size_t i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] < 0x20 || v.p[i] == 0x7f)
			return false;
	return true;
}

bool fetchcache_parse(struct fetchcache_entry *e, struct span url)
{
	struct span rest = buf_span(&e->all), bytes;
	uint64_t n = 0;

	if (!span_equal(take_line(&rest, SPAN("outboard-fetch ")), SPAN("1")) ||
		!span_equal(take_line(&rest, SPAN("url: ")), url))
		return false;
	e->etag = take_line(&rest, SPAN("etag: "));
	e->modified = take_line(&rest, SPAN("last-modified: "));
	bytes = take_line(&rest, SPAN("bytes: "));
	if (!bytes.p || bytes.n == 0 || bytes.n > 15 || !rest.n || *rest.p != '\n')
		return false;
	for (size_t i = 0; i < bytes.n; i++) {
		if (bytes.p[i] < '0' || bytes.p[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(bytes.p[i] - '0');
	}
	e->body = span_from(rest, 1);
	return e->body.n == n && (e->etag.p || e->modified.p) &&
	       (!e->etag.p || validator_usable(e->etag)) &&
	       (!e->modified.p || validator_usable(e->modified));
}

bool fetchcache_load(
	const char *dir, struct span url, size_t max_bytes, struct fetchcache_entry *out)
{
	struct buf path;
	bool ok;

	fetchcache_entry_free(out);
	path_of(dir, url, &path);
	ok = io_read_own_file(buf_string(&path), max_bytes + HEAD_MAX_BYTES, &out->all) == 0 &&
	     fetchcache_parse(out, url) && out->body.n <= max_bytes;
	if (!ok)
		fetchcache_entry_free(out);
	buf_free(&path);
	return ok;
}

int fetchcache_store(
	const char *dir, struct span url, struct span etag, struct span modified, struct span body)
{
	struct buf head, path, temporary;
	int fd, error;

	if (!validator_usable(etag) && !validator_usable(modified)) {
		fetchcache_remove(dir, url);
		return 0;
	}
	buf_init(&head, BUF_NO_MAX);
	buf_printf(&head, MAGIC "url: %.*s\n", SPAN_ARG(url));
	if (validator_usable(etag))
		buf_printf(&head, "etag: %.*s\n", SPAN_ARG(etag));
	if (validator_usable(modified))
		buf_printf(&head, "last-modified: %.*s\n", SPAN_ARG(modified));
	buf_printf(&head, "bytes: %zu\n\n", body.n);
	fd = make_temporary(dir, &temporary);
	error = fd < 0 ? fd : 0;
	if (fd >= 0) {
		path_of(dir, url, &path);
		error = io_write_all(fd, buf_span(&head).p, buf_length(&head));
		if (!error)
			error = io_write_all(fd, body.p, body.n);
		if (close(fd) < 0 && !error)
			error = -errno;
		if (!error && rename(buf_string(&temporary), buf_string(&path)) < 0)
			error = -errno;
		if (error)
			unlink(buf_string(&temporary));
		buf_free(&path);
	}
	buf_free(&temporary);
	buf_free(&head);
	return error;
}

void fetchcache_remove(const char *dir, struct span url)
{
	struct buf path;

	path_of(dir, url, &path);
	unlink(buf_string(&path));
	buf_free(&path);
}
