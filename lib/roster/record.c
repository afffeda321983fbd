#include <stdlib.h>

#include "base/err.h"
#include "roster/read.h"

void roster_record_free(struct roster_record *r)
{
	free(r->user);
	roster_free(&r->roster);
	roster_skips_free(&r->skips);
	free(r->error);
	free(r->message);
	*r = (struct roster_record){0};
}

/* Reading ---------------------------------------------------------------- */

static void take_text(struct json_reader *r, enum json_token token, char **text)
{
	if (token != JSON_READ_STRING)
		return;
	free(*text);
	*text = xstrndup(r->text.p, r->text.n);
}

/* Contacts that an earlier program skipped stay skipped. */
static const char *read_skipped(
	struct json_reader *r, enum json_token token, struct roster_skips *skips)
{
	if (token != JSON_READ_ARRAY)
		return "'skipped' is no list";
	while ((token = json_reader_next(r)) == JSON_READ_OBJECT) {
		char *contact = NULL, *why = NULL;

		while (json_reader_next(r) == JSON_READ_NAME) {
			char **text = span_is(r->text, "contact") ? &contact
				      : span_is(r->text, "why")	  ? &why
								  : NULL;

			token = json_reader_next(r);
			if (text)
				take_text(r, token, text);
			json_reader_skip(r, token);
		}
		if (contact)
			roster_skips_add(
				skips, span_of(contact), span_of(why ? why : "left out"), false);
		free(why);
		if (!contact)
			return "'skipped' holds what is no contact";
		free(contact);
	}
	return token == JSON_READ_ARRAY_END ? NULL : "'skipped' holds what is no contact";
}

/* The texts of a record, until it is known what it is. */
struct record_texts {
	char *status;
	bool event, roster, too_large;
};

/* The member 'roster'; NULL, or what is wrong with it. Its own skips are those of the record, too.
 */
static const char *read_record_roster(struct json_reader *r, enum json_token token,
	const struct roster_rules *rules, struct roster_record *out, struct record_texts *texts)
{
	struct roster_skips skips = {0};
	struct buf message;
	enum roster_status status;

	buf_init(&message, BUF_NO_MAX);
	status = roster_read(r, token, rules, &out->roster, &skips, &message);
	buf_free(&message);
	for (size_t i = 0; i < skips.count; i++)
		roster_skips_add(&out->skips, span_of(skips.list[i].contact),
			span_of(skips.list[i].why), skips.list[i].foreign);
	roster_skips_free(&skips);
	texts->roster = true;
	texts->too_large |= status == ROSTER_TOO_LARGE;
	if (status == ROSTER_OK)
		return NULL;
	return status == ROSTER_TOO_LARGE ? "a 'roster' with more contacts than are taken"
					  : "invalid 'roster'";
}

/* One member; NULL, or what is wrong with it. */
static const char *read_record_member(struct json_reader *r, const struct roster_rules *rules,
	struct roster_record *out, struct record_texts *texts)
{
	char name[16] = "", *removals = NULL;
	enum json_token token;

	if (r->text.n < sizeof(name))
		memcpy(name, r->text.p, r->text.n);
	token = json_reader_next(r);
	if (strcmp(name, "user") == 0) {
		take_text(r, token, &out->user);
	} else if (strcmp(name, "status") == 0) {
		take_text(r, token, &texts->status);
	} else if (strcmp(name, "error") == 0) {
		take_text(r, token, &out->error);
	} else if (strcmp(name, "message") == 0) {
		take_text(r, token, &out->message);
	} else if (strcmp(name, "removals") == 0) {
		take_text(r, token, &removals);
		out->removals_all = removals && strcmp(removals, "all") == 0;
		free(removals);
	} else if (strcmp(name, "event") == 0) {
		texts->event = true;
	} else if (strcmp(name, "skipped") == 0) {
		return read_skipped(r, token, &out->skips);
	} else if (strcmp(name, "roster") == 0 && !texts->roster) {
		return read_record_roster(r, token, rules, out, texts);
	}
	json_reader_skip(r, token);
	return NULL;
}

static const char *judge_record(struct roster_record *out, const struct record_texts *texts)
{
	if (!out->user)
		return "no valid 'user'";
	if (!texts->status)
		return "no 'status'";
	if (strcmp(texts->status, "ok") == 0)
		out->status = RECORD_OK;
	else if (strcmp(texts->status, "unchanged") == 0)
		out->status = RECORD_UNCHANGED;
	else if (strcmp(texts->status, "error") == 0)
		out->status = RECORD_ERROR;
	else
		return "unknown 'status'";
	if (out->status == RECORD_ERROR)
		return out->error ? NULL : "an error without 'error'";
	/* in an error record `user` is the input line, which may be anything */
	if (!roster_user_valid(span_of(out->user)))
		return "no valid 'user'";
	return texts->roster ? NULL : "no 'roster'";
}

static const char *read_record(struct json_reader *r, const struct roster_rules *rules,
	struct roster_record *out, struct record_texts *texts)
{
	const char *why = NULL, *judged;
	struct buf message;
	enum json_token token = json_reader_next(r), next;
	enum roster_status whole;

	if (token != JSON_READ_OBJECT) {
		why = "not an object";
	} else {
		while (!why && json_reader_next(r) == JSON_READ_NAME)
			why = read_record_member(r, rules, out, texts);
		/* the 'user' may come after the member that is wrong */
		while ((next = json_reader_next(r)) < JSON_READ_END)
			if (next == JSON_READ_NAME && json_reader_level(r) == 1 &&
				(span_is(r->text, "user") || span_is(r->text, "event")))
				read_record_member(r, rules, out, texts);
	}
	buf_init(&message, BUF_NO_MAX);
	whole = roster_read_end(r, &message);
	buf_free(&message);
	texts->too_large |= whole == ROSTER_TOO_LARGE;
	if (whole != ROSTER_OK)
		return whole == ROSTER_TOO_LARGE ? "more values than are taken" : "not JSON";
	if (token != JSON_READ_OBJECT)
		return why;
	judged = judge_record(out, texts);
	return judged ? judged : why;
}

bool roster_record_parse(struct span line, const struct roster_rules *rules,
	struct roster_record *out, const char **why)
{
	static const struct roster_rules usual = ROSTER_RULES_INIT;
	struct record_texts texts = {0};
	struct json_reader reader;
	char *user;

	if (!rules)
		rules = &usual;
	*out = (struct roster_record){.bytes = line.n};
	json_reader_init(&reader, line, ROSTER_JSON_DEPTH, rules->max_values);
	*why = read_record(&reader, rules, out, &texts);
	json_reader_free(&reader);
	free(texts.status);
	if (!*why && out->status != RECORD_ERROR) {
		roster_skips_judge(&out->skips, rules->keep);
		roster_skips_index(&out->skips, NULL);
	}
	if (!*why)
		return true;
	user = out->user;
	out->user = NULL;
	roster_record_free(out);
	if (user && !texts.event) {
		out->user = user;
		out->status = RECORD_ERROR;
		out->error = xstrdup(texts.too_large ? "too-large" : "invalid-roster");
		out->message = xstrdup(*why);
	} else {
		free(user);
	}
	return false;
}

/* Writing ---------------------------------------------------------------- */

void roster_error_format(struct span user, const char *error, const char *message, struct buf *out)
{
	buf_append_string(out, "{\"user\":");
	json_string(out, user);
	buf_append_string(out, ",\"status\":\"error\",\"error\":");
	json_string(out, span_of(error));
	if (message) {
		buf_append_string(out, ",\"message\":");
		json_string(out, span_of(message));
	}
	buf_append_string(out, "}\n");
}

void roster_record_format(const struct roster_record *r, struct buf *out)
{
	if (r->status == RECORD_ERROR) {
		roster_error_format(span_of(r->user), r->error, r->message, out);
		return;
	}
	buf_append_string(out, "{\"user\":");
	json_string(out, span_of(r->user));
	buf_append_string(out, r->status == RECORD_OK ? ",\"status\":\"ok\",\"roster\":"
						      : ",\"status\":\"unchanged\",\"roster\":");
	roster_format(&r->roster, out);
	buf_append_string(out, ",\"skipped\":[");
	for (size_t i = 0; i < r->skips.count; i++) {
		buf_append_string(out, i ? ",{\"contact\":" : "{\"contact\":");
		json_string(out, span_of(r->skips.list[i].contact));
		buf_append_string(out, ",\"why\":");
		json_string(out, span_of(r->skips.list[i].why));
		buf_append_char(out, '}');
	}
	buf_append_char(out, ']');
	if (r->removals_all)
		buf_append_string(out, ",\"removals\":\"all\"");
	buf_append_string(out, "}\n");
}
