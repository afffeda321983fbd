#include "jat/marks.h"

#include <stdio.h>
#include <stdlib.h>

#include <nettle/sha2.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/table.h"

enum grace { GRACE_NONE, GRACE_AWAITED, GRACE_RUNNING };

struct marks {
	struct marks_config config;
	enum grace grace;
	int64_t until_ms;	  /* when the grace ends; valid while it runs */
	struct table *taken;	  /* keys of answers seen in the grace */
	char (*left)[MARK_CHARS]; /* by predecessors, sorted */
	size_t left_count;
};

struct marks *marks_new(const struct marks_config *config)
{
	struct marks *m = xcalloc(1, sizeof(*m));

	m->config = *config;
	m->grace = config->grace ? GRACE_AWAITED : GRACE_NONE;
	m->taken = table_new(config->max, config->max_bytes, config->seed);
	return m;
}

void marks_free(struct marks *m)
{
	if (!m)
		return;
	table_free(m->taken);
	free(m->left);
	free(m);
}

void mark_of(struct span key, char mark[MARK_CHARS + 1])
{
	struct sha256_ctx sha;
	uint8_t digest[MARK_CHARS / 2];

	sha256_init(&sha);
	sha256_update(&sha, key.n, (const uint8_t *)key.p);
	sha256_digest(&sha, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(mark + 2 * i, 3, "%02x", digest[i]);
}

static int compare_marks(const void *a, const void *b)
{
	return memcmp(a, b, MARK_CHARS);
}

void marks_restore(struct marks *m, struct span all)
{
	free(m->left);
	m->left = xcalloc(all.n / (MARK_CHARS + 1) + 1, sizeof(*m->left));
	m->left_count = 0;
	while (all.n > MARK_CHARS) {
		const char *newline = memchr(all.p, '\n', all.n);

		if (!newline) /* the crash came before its answer was written */
			break;
		if (newline - all.p == MARK_CHARS)
			memcpy(m->left[m->left_count++], all.p, MARK_CHARS);
		all = span_from(all, (size_t)(newline + 1 - all.p));
	}
	qsort(m->left, m->left_count, sizeof(*m->left), compare_marks);
}

static bool is_marked(const struct marks *m, struct span key)
{
	char mark[MARK_CHARS + 1];

	if (!m->left_count)
		return false;
	mark_of(key, mark);
	return bsearch(mark, m->left, m->left_count, sizeof(*m->left), compare_marks) != NULL;
}

void marks_up(struct marks *m, int64_t now_ms)
{
	if (m->grace != GRACE_AWAITED)
		return;
	m->grace = GRACE_RUNNING;
	m->until_ms = now_ms + m->config.grace_ms;
}

static bool runs(const struct marks *m, int64_t now_ms)
{
	return m->grace == GRACE_RUNNING && now_ms < m->until_ms;
}

/* Remember an answer that was taken. False: there is no room, so the grace must end. */
static bool remember(struct marks *m, struct span key)
{
	if (!table_add(m->taken, key, 0, m->until_ms))
		m->grace = GRACE_NONE;
	return m->grace == GRACE_RUNNING;
}

bool marks_take(struct marks *m, struct span key, int64_t now_ms)
{
	return runs(m, now_ms) && !is_marked(m, key) && !table_find(m->taken, key) &&
	       remember(m, key);
}

void marks_answered(struct marks *m, struct span key, int64_t now_ms)
{
	if (runs(m, now_ms))
		remember(m, key);
}

int64_t marks_deadline(const struct marks *m)
{
	return table_deadline(m->taken);
}

void marks_tick(struct marks *m, int64_t now_ms)
{
	struct table_entry *e;

	while ((e = table_earliest(m->taken)) && e->deadline_ms <= now_ms)
		table_remove(m->taken, e);
}
