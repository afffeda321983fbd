#include "share/outlet.h"

#include <stdlib.h>

#include "base/err.h"

#define MAX_BYTES (4 * 1024 * 1024)
/* What waits for longer shows that the instance is slow, and not only that much came at once. */
#define SLOW_MS 500

struct outlet_entry {
	STAILQ_ENTRY(outlet_entry) next;
	uint64_t end; /* so many bytes were written to the output with it */
	int64_t since_ms;
	struct share share;
};

void outlet_open(struct outlet *o, struct writer *writer, const struct shares_config *shares)
{
	struct shares_config config = *shares;

	config.max_bytes = MAX_BYTES;
	*o = (struct outlet){
		.writer = writer, .shares = shares_new(&config), .user_max = config.user_max};
	STAILQ_INIT(&o->waiting);
}

static void drop_first(struct outlet *o)
{
	struct outlet_entry *first = STAILQ_FIRST(&o->waiting);

	STAILQ_REMOVE_HEAD(&o->waiting, next);
	shares_give(o->shares, &first->share);
	free(first);
}

void outlet_close(struct outlet *o)
{
	/* it leaves the list NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	while (!STAILQ_EMPTY(&o->waiting))
		drop_first(o); /* NOLINT(clang-analyzer-unix.Malloc) */
	shares_free(o->shares);
}

/* Give back the shares of what has left the output. */
static void give_back(struct outlet *o)
{
	uint64_t waiting = buf_length(o->writer->out);

	while (!STAILQ_EMPTY(&o->waiting) &&
		STAILQ_FIRST(&o->waiting)->end + waiting <= o->writer->bytes)
		drop_first(o);
}

enum writer_status outlet_wrote(struct outlet *o, enum writer_status status)
{
	o->stuck |= status == WRITER_FULL;
	return status;
}

enum writer_status outlet_write(
	struct outlet *o, const struct stanza *stanza, const struct stanza_edit *edit)
{
	return outlet_wrote(o, writer_stanza(o->writer, stanza, edit));
}

static bool is_slow(const struct outlet *o, int64_t now_ms)
{
	const struct outlet_entry *first = STAILQ_FIRST(&o->waiting);

	return first && now_ms - first->since_ms > SLOW_MS;
}

static bool take_share(
	struct outlet *o, const struct stanza *stanza, int64_t now_ms, struct share *share)
{
	size_t bytes = stanza->root->end - stanza->root->start;

	give_back(o);
	return o->user_max && is_slow(o, now_ms)
		       ? shares_take_left(o->shares, stanza->from, o->user_max, bytes, share)
		       : shares_take(o->shares, stanza->from, bytes, share);
}

enum writer_status outlet_write_shared(
	struct outlet *o, const struct stanza *stanza, int64_t now_ms)
{
	enum writer_status status;
	struct outlet_entry *entry;
	struct share share;

	if (!take_share(o, stanza, now_ms, &share))
		return WRITER_FULL;
	status = outlet_write(o, stanza, &STANZA_KEEP);
	if (status != WRITER_OK) {
		shares_give(o->shares, &share);
	} else if (share.user || share.domain) {
		entry = xcalloc(1, sizeof(*entry));
		entry->end = o->writer->bytes;
		entry->since_ms = now_ms;
		entry->share = share;
		STAILQ_INSERT_TAIL(&o->waiting, entry, next);
	}
	return status;
}

void outlet_refuse(
	struct outlet *o, const struct stanza *stanza, enum stanza_error e, const char *text)
{
	outlet_wrote(o, stanza_error_reply(o->writer, stanza, e, text));
}
