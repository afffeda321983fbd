#include <stdlib.h>

#include "base/err.h"
#include "roster/read.h"
#include "xmpp/jid.h"

void roster_skips_free(struct roster_skips *s)
{
	for (size_t i = 0; i < s->count; i++) {
		free(s->list[i].contact);
		free(s->list[i].why);
	}
	free(s->list);
	for (size_t i = 0; i < s->jids_count; i++)
		free(s->jids[i]);
	free(s->jids);
	*s = (struct roster_skips){0};
}

void roster_skips_add(
	struct roster_skips *skips, struct span contact, struct span why, bool foreign)
{
	skips->list = xgrow(skips->list, &skips->size, skips->count, sizeof(*skips->list));
	skips->list[skips->count++] =
		(struct roster_skip){.contact = xstrndup(contact.p, contact.n),
			.why = xstrndup(why.p, why.n),
			.foreign = foreign};
	skips->foreign += foreign;
}

void roster_skips_judge(struct roster_skips *skips, const struct roster_keep *keep)
{
	struct buf jid;

	buf_init(&jid, BUF_NO_MAX);
	for (size_t i = 0; i < skips->count; i++) {
		struct span contact = span_of(skips->list[i].contact);

		buf_reset(&jid);
		skips->list[i].foreign |=
			!roster_key_normalise(contact, &jid) ||
			(!roster_keep_has(keep, buf_string(&jid)) &&
				(jid_is_full(buf_span(&jid)) || !strchr(buf_string(&jid), '@')));
		skips->foreign += skips->list[i].foreign;
	}
	buf_free(&jid);
}

bool roster_skips_index(struct roster_skips *skips, const struct roster *r)
{
	struct buf jid;
	bool collide = false;

	if (!skips->count)
		return false;
	skips->jids = xcalloc(skips->count, sizeof(*skips->jids));
	buf_init(&jid, BUF_NO_MAX);
	for (size_t i = 0; i < skips->count; i++) {
		struct span contact = span_of(skips->list[i].contact), bare;

		buf_reset(&jid);
		if (!roster_key_normalise(contact, &jid))
			continue;
		collide |= r && roster_find(r, buf_string(&jid));
		bare = jid_bare(buf_span(&jid));
		skips->jids[skips->jids_count++] = xstrndup(bare.p, bare.n);
	}
	buf_free(&jid);
	qsort(skips->jids, skips->jids_count, sizeof(*skips->jids), roster_compare_texts);
	return collide;
}

bool roster_skips_has(const struct roster_skips *s, const char *jid)
{
	return s->jids_count &&
	       bsearch(&jid, s->jids, s->jids_count, sizeof(*s->jids), roster_compare_texts);
}

void roster_skips_log(const struct roster_skips *s, const char *user)
{
	if (!s->count)
		return;
	err_warn("'%s': %zu contact%s left out, the first one '%.100s': %s", user, s->count,
		s->count == 1 ? " is" : "s are", s->list[0].contact, s->list[0].why);
	for (size_t i = 0; i < s->count; i++)
		err_info("'%s': left out '%.100s': %s", user, s->list[i].contact, s->list[i].why);
}
