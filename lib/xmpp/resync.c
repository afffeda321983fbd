#include "xmpp/resync.h"

#include "xmpp/lexer.h"

/* Longest name looked at to see whether a line begins a stanza. */
#define LOOK_BYTES 80

enum resync_answer resync_is_named(struct span s, const char *const *names, size_t count)
{
	bool all = s.n < LOOK_BYTES;
	struct span rest, name;
	const char *colon;

	if (s.n > 0 && s.p[0] != '<')
		return RESYNC_NO;
	s.n = all ? s.n : LOOK_BYTES;
	if (!lexer_tag_begin(s, &rest, &name) || rest.n == 0)
		return all ? RESYNC_UNSURE : RESYNC_NO;
	colon = memchr(name.p, ':', name.n);
	if (colon)
		name = span_from(name, (size_t)(colon + 1 - name.p));
	for (size_t i = 0; i < count && rest.p[0] != '='; i++)
		if (span_is(name, names[i]))
			return RESYNC_YES;
	return RESYNC_NO;
}

enum resync_answer resync_begins_stanza(struct span s)
{
	static const char *const names[] = {"iq", "message", "presence"};

	return resync_is_named(s, names, 3);
}

/* Length of the blanks a line begins with. */
static size_t indentation(struct span line)
{
	size_t n = 0;

	while (n < line.n && (line.p[n] == ' ' || line.p[n] == '\t'))
		n++;
	return n;
}

/* Whether reading goes on at the line that begins at in[at]. */
static enum resync_answer goes_on(const struct resync *s, struct span in, size_t at)
{
	struct span line = span_from(in, at);
	size_t blanks = indentation(line);
	bool may;

	if (s->at >= at) /* inside the wrong piece */
		may = at + blanks == s->at || (blanks == 0 && s->from <= at);
	else if (s->lines)
		may = blanks <= s->column;
	else
		return RESYNC_YES;
	return may ? resync_begins_stanza(span_from(line, blanks)) : RESYNC_NO;
}

bool resync_find(struct resync *s, struct span in, bool ended, size_t *n)
{
	*n = 0;
	for (;;) {
		const char *newline = memchr(in.p + *n, '\n', in.n - *n);
		enum resync_answer answer;

		if (!newline) {
			*n = in.n;
			return false;
		}
		*n = (size_t)(newline - in.p);
		answer = goes_on(s, in, *n + 1);
		if (answer == RESYNC_UNSURE && !ended)
			return false;
		++*n;
		if (answer == RESYNC_YES) {
			if (s->strict_end < s->at)
				s->strict_end = s->at;
			return true;
		}
	}
}

size_t resync_boundary(
	const struct resync *s, struct span in, size_t from, bool ended, enum resync_answer *answer)
{
	size_t i = from;

	while (i < s->strict_end && i < in.n) {
		const char *newline = memchr(in.p + i, '\n', in.n - i);

		if (!newline || (size_t)(newline - in.p) >= s->strict_end)
			break;
		i = (size_t)(newline - in.p) + 1;
		*answer = resync_begins_stanza(span_from(in, i));
		if (*answer == RESYNC_YES || (*answer == RESYNC_UNSURE && !ended))
			return i;
	}
	*answer = RESYNC_NO;
	return in.n;
}

static void less(size_t *offset, size_t n)
{
	*offset = *offset > n ? *offset - n : 0;
}

void resync_move(struct resync *s, size_t n)
{
	less(&s->at, n);
	less(&s->from, n);
	less(&s->strict_end, n);
}
