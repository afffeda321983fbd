#include "xmpp/disco.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/utf8.h"

void disco_init(struct disco_info *info)
{
	*info = (struct disco_info){0};
	buf_init(&info->identities, BUF_NO_MAX);
	buf_init(&info->forms, BUF_NO_MAX);
}

void disco_reset(struct disco_info *info)
{
	for (size_t i = 0; i < info->features_count; i++)
		free(info->features[i]);
	free(info->features);
	info->features = NULL;
	info->features_count = 0;
	buf_reset(&info->identities);
	buf_reset(&info->forms);
}

void disco_free(struct disco_info *info)
{
	disco_reset(info);
	buf_free(&info->identities);
	buf_free(&info->forms);
}

/* A writer for pieces only: its stanza is never ended. */
static struct writer piece_writer(struct buf *out)
{
	struct writer w;

	writer_init(&w, out, WRITER_PIPE, 0);
	return w;
}

void disco_add_feature(struct disco_info *info, struct span var)
{
	for (size_t i = 0; i < info->features_count; i++)
		if (span_is(var, info->features[i]))
			return;
	info->features =
		xrealloc(info->features, (info->features_count + 1) * sizeof(*info->features));
	info->features[info->features_count++] = xstrndup(var.p, var.n);
}

static bool put_identity(
	struct disco_info *info, struct span category, struct span type, struct span name)
{
	struct writer w = piece_writer(&info->identities);

	if (!category.n || !type.n || !utf8_xml_valid(category) || !utf8_xml_valid(type) ||
		(name.n && !utf8_xml_valid(name)))
		return false;
	writer_raw(&w, "<identity");
	writer_attribute(&w, "category", category);
	writer_attribute(&w, "type", type);
	if (name.n)
		writer_attribute(&w, "name", name);
	writer_raw(&w, "/>");
	return true;
}

bool disco_add_identity(struct disco_info *info, struct span text)
{
	const char *slash = text.n ? memchr(text.p, '/', text.n) : NULL;
	struct span category, type, name = SPAN_NONE;

	if (!slash)
		return false;
	category = (struct span){text.p, (size_t)(slash - text.p)};
	type = span_from(text, category.n + 1);
	slash = type.n ? memchr(type.p, '/', type.n) : NULL;
	if (slash) {
		name = span_from(type, (size_t)(slash - type.p) + 1);
		type.n = (size_t)(slash - type.p);
	}
	return put_identity(info, category, type, name);
}

/* JSON ------------------------------------------------------------------- */

static bool identity_from_json(struct disco_info *info, struct json_object *o)
{
	if (json_object_is_type(o, json_type_string))
		return disco_add_identity(info, json_text(o));
	return json_object_is_type(o, json_type_object) &&
	       put_identity(info, json_member_text(o, "category"), json_member_text(o, "type"),
		       json_member_text(o, "name"));
}

static bool form_value(struct writer *w, struct json_object *value)
{
	struct span text = json_text(value);

	if (!text.p || !utf8_xml_valid(text))
		return false;
	writer_raw(w, "<value>");
	writer_text(w, text);
	writer_raw(w, "</value>");
	return true;
}

static bool form_from_json(struct disco_info *info, struct json_object *form)
{
	struct writer w = piece_writer(&info->forms);
	struct span form_type = SPAN_NONE;
	bool ok = true;

	if (json_object_is_type(form, json_type_object))
		form_type = json_member_text(form, "FORM_TYPE");
	if (!form_type.n || !utf8_xml_valid(form_type))
		return false;
	writer_raw(&w, "<x xmlns='jabber:x:data' type='result'>"
		       "<field var='FORM_TYPE' type='hidden'><value>");
	writer_text(&w, form_type);
	writer_raw(&w, "</value></field>");
	json_object_object_foreach(form, key, value)
	{
		if (strcmp(key, "FORM_TYPE") == 0)
			continue;
		ok = ok && utf8_xml_valid(span_of(key));
		writer_raw(&w, "<field");
		writer_attribute(&w, "var", span_of(key));
		writer_raw(&w, ">");
		if (json_object_is_type(value, json_type_array))
			for (size_t i = 0; i < json_object_array_length(value) && ok; i++)
				ok = form_value(&w, json_object_array_get_idx(value, i));
		else
			ok = ok && form_value(&w, value);
		writer_raw(&w, "</field>");
	}
	writer_raw(&w, "</x>");
	return ok;
}

const char *disco_add_json(struct disco_info *info, struct json_object *object)
{
	if (!json_object_is_type(object, json_type_object))
		return "not an object";
	json_object_object_foreach(object, key, list)
	{
		bool identities = strcmp(key, "identities") == 0;
		bool features = strcmp(key, "features") == 0;

		if (!identities && !features && strcmp(key, "forms") != 0)
			return "only identities, features and forms are known";
		if (!json_object_is_type(list, json_type_array))
			return "identities, features and forms are lists";
		for (size_t i = 0; i < json_object_array_length(list); i++) {
			struct json_object *item = json_object_array_get_idx(list, i);
			struct span var = json_text(item);

			if (features && (!var.n || !utf8_xml_valid(var)))
				return "a feature is a string";
			if (features)
				disco_add_feature(info, var);
			else if (identities && !identity_from_json(info, item))
				return "an identity has category and type";
			else if (!identities && !form_from_json(info, item))
				return "a form has FORM_TYPE and fields of strings";
		}
	}
	return NULL;
}

/* Answers ---------------------------------------------------------------- */

bool disco_add_query(struct disco_info *info, const struct stanza *s, const struct xml_node *query,
	const struct disco_limits *limits)
{
	size_t identities = 0, bytes = 0;
	bool whole = true;

	for (const struct xml_node *n = query->first_child; n; n = n->next) {
		struct writer w = piece_writer(&info->forms);
		struct span var = xml_attribute(n, "var");
		bool feature = xml_is(n, NS_DISCO_INFO, "feature") && var.n;
		bool identity = xml_is(n, NS_DISCO_INFO, "identity");

		if (!feature && !identity && !xml_is(n, "jabber:x:data", "x"))
			continue;
		bytes += n->end - n->start;
		if (bytes > limits->bytes || (identity && ++identities > limits->identities) ||
			(feature && info->features_count >= limits->features)) {
			bytes -= n->end - n->start;
			whole = false;
		} else if (feature) {
			disco_add_feature(info, var);
		} else if (identity) {
			put_identity(info, xml_attribute(n, "category"), xml_attribute(n, "type"),
				xml_attribute(n, "name"));
		} else {
			writer_node(&w, s, n);
		}
	}
	return whole;
}

void disco_add_all(struct disco_info *info, const struct disco_info *other)
{
	buf_append_span(&info->identities, buf_span(&other->identities));
	buf_append_span(&info->forms, buf_span(&other->forms));
	for (size_t i = 0; i < other->features_count; i++)
		disco_add_feature(info, span_of(other->features[i]));
}

enum writer_status disco_answer(const struct disco_info *info, const struct stanza *query,
	struct span node, struct writer *w)
{
	writer_start(w, "iq", "result", query->id, query->from, query->to);
	writer_raw(w, "><query xmlns='" NS_DISCO_INFO "'");
	writer_attribute(w, "node", node);
	writer_raw(w, ">");
	writer_raw_span(w, buf_span(&info->identities));
	for (size_t i = 0; i < info->features_count; i++) {
		writer_raw(w, "<feature");
		writer_attribute(w, "var", span_of(info->features[i]));
		writer_raw(w, "/>");
	}
	writer_raw_span(w, buf_span(&info->forms));
	writer_raw(w, "</query></iq>");
	return writer_end(w);
}
