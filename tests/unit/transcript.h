/*
 * What a reader makes of some bytes, as text, one event a line:
 *
 *	3:<iq id='1'/>       a stanza at line 3, its bytes as they came
 *	3%too-large<iq>      a stanza over a limit, its start tag
 *	3!truncated stanza   something wrong
 *	open<stream:stream>  close
 */
#ifndef OUTBOARD_TESTS_TRANSCRIPT_H
#define OUTBOARD_TESTS_TRANSCRIPT_H

#include <stdlib.h>

#include "xmpp/reader.h"

/* A random number generator of our own, so that a seed means the same everywhere (xorshift64*). */
struct dice {
	uint64_t state;
};

__attribute__((unused)) static uint64_t dice_next(struct dice *d)
{
	d->state ^= d->state >> 12;
	d->state ^= d->state << 25;
	d->state ^= d->state >> 27;
	return d->state * 0x2545f4914f6cdd1du;
}

/* 0 .. n-1 */
__attribute__((unused)) static size_t dice_roll(struct dice *d, size_t n)
{
	return (size_t)(dice_next(d) >> 33) % n;
}

/* How many of n rounds to run: fewer under valgrind. */
__attribute__((unused)) static size_t rounds(size_t n)
{
	return getenv("WRAP") ? n / 16 + 1 : n;
}

static void transcript_event(
	struct buf *out, const struct reader *r, enum reader_event e, const struct stanza *s)
{
	static const char *const refusals[] = {[STANZA_WHOLE] = "",
		[STANZA_TOO_LARGE] = "too-large",
		[STANZA_TOO_DEEP] = "too-deep",
		[STANZA_TOO_MANY_ATTRIBUTES] = "too-many-attributes"};

	if (e == READER_BAD) {
		buf_printf(out, "%zu!%s", reader_error_line(r), reader_error(r));
	} else if (e == READER_CLOSE) {
		buf_append_string(out, "close");
	} else {
		if (e == READER_OPEN)
			buf_append_string(out, "open");
		else
			buf_printf(out, "%zu%c%s", s->line, s->refusal ? '%' : ':',
				refusals[s->refusal]);
		buf_append_span(out, s->raw);
	}
	buf_append_char(out, '\n');
}

static void transcript_drain(struct buf *out, struct reader *r)
{
	enum reader_event e;
	struct stanza s;

	while ((e = reader_next(r, &s)) != READER_MORE)
		transcript_event(out, r, e, &s);
}

/* Feed n bytes in pieces of chunk bytes (0: all at once; with dice: 1..chunk), then the end. */
__attribute__((unused)) static void transcript(struct buf *out, const struct reader_config *config,
	const char *bytes, size_t n, size_t chunk, struct dice *dice)
{
	struct reader *r = reader_new(config);

	for (size_t i = 0; i < n;) {
		size_t piece = chunk ? chunk : n;
		char *copy;

		if (dice)
			piece = 1 + dice_roll(dice, piece);
		if (piece > n - i)
			piece = n - i;
		if (dice && dice_roll(dice, 2)) {
			/* as a link reads: into more room than is filled */
			memcpy(reader_room(r, piece + 100), bytes + i, piece);
			reader_filled(r, piece);
		} else {
			/* exactly its size, so that memory checkers see a read beyond */
			copy = malloc(piece);
			memcpy(copy, bytes + i, piece);
			reader_feed(r, copy, piece);
			free(copy);
		}
		i += piece;
		transcript_drain(out, r);
	}
	reader_end(r);
	transcript_drain(out, r);
	reader_free(r);
}

#endif
