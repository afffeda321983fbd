/* roster/fetchcache.h - earlier answers of the web application, and their validators
 *
 * One file a URL, in one folder; its name is the SHA-256 of the URL, so that no user name can
 * lead out of the folder or be too long. Files are replaced atomically; they are not synced: a file
 * that a crash has left half written is not used, and the answer is fetched again.
 *
 * Format: "outboard-fetch 1", "url: U", "etag: E", "last-modified: D" (the last two where there
 * are any), "bytes: N", an empty line, then the N bytes of the answer.
 */
#ifndef OUTBOARD_ROSTER_FETCHCACHE_H
#define OUTBOARD_ROSTER_FETCHCACHE_H

#include "base/buf.h"
#include "base/span.h"

#define FETCHCACHE_VALIDATOR_MAX_BYTES 1024

struct fetchcache_entry {
	struct buf all;		    /* owner of the rest */
	struct span etag, modified; /* absent if the answer had none */
	struct span body;
};

void fetchcache_entry_init(struct fetchcache_entry *e);
void fetchcache_entry_free(struct fetchcache_entry *e);

/* Make the folder if it is missing (0700) and see whether it can be written to; remove temporary
 * files of dead processes. 0 or a negative errno. */
int fetchcache_open(const char *dir);
/* False: there is no valid file. At most max_bytes of answer are read. */
bool fetchcache_load(
	const char *dir, struct span url, size_t max_bytes, struct fetchcache_entry *out);
/* Validators that are too long or have control characters are left out; without a validator nothing
 * is kept. 0 or a negative errno. */
int fetchcache_store(
	const char *dir, struct span url, struct span etag, struct span modified, struct span body);
/* Remove the answer of this URL. */
void fetchcache_remove(const char *dir, struct span url);

/* Parse a file's content, which stays owned by e->all. False: it is not the answer of this URL, not
 * whole, or its validators are none that fetchcache_store() would keep. Pure; for the fuzzer, too.
 */
bool fetchcache_parse(struct fetchcache_entry *e, struct span url);

#endif
