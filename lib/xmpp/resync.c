#include "xmpp/resync.h"

#include "xmpp/xml.h"

/* Longest name looked at to see whether a line begins a stanza. */
#define LOOK_BYTES 80

static bool ends_name(char c)
{
	return xml_is_space(c) || c == '/' || c == '>';
}

enum resync_answer resync_is_named(struct span s, const char *const *names, size_t count)
{
	size_t word = 1, i;

	if (s.n == 0)
		return RESYNC_UNSURE;
	if (s.p[0] != '<')
		return RESYNC_NO;
	for (i = 1; i < s.n && i < LOOK_BYTES; i++) {
		if (s.p[i] == ':' && word == 1) {
			word = i + 1;
		} else if (ends_name(s.p[i])) {
			for (size_t name = 0; name < count; name++)
				if (span_is((struct span){s.p + word, i - word}, names[name]))
					return RESYNC_YES;
			return RESYNC_NO;
		}
	}
	return i < LOOK_BYTES ? RESYNC_UNSURE : RESYNC_NO;
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
