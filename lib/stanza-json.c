#include "stanza-json.h"

#include "json.h"

/* Objects and arrays open at once: each element takes two of them. */
#define MAX_JSON_DEPTH 1024
#define NS_XMLNS "http://www.w3.org/2000/xmlns/"

/* To JSON ---------------------------------------------------------------- */

static bool string(struct buf *out, struct span s)
{
	json_string(out, s);
	return buf_length(out) < out->max;
}

static void key(struct buf *out, const char *name)
{
	buf_append_char(out, '"');
	buf_append_string(out, name);
	buf_append_string(out, "\":");
}

static void member(struct buf *out, const char *name, struct span value)
{
	if (!value.p)
		return;
	buf_append_char(out, ',');
	key(out, name);
	string(out, value);
}

static void attribute(struct buf *out, const struct xml_attribute *a)
{
	struct buf name;

	buf_init(&name, BUF_NO_MAX);
	if (a->ns.p) {
		buf_append_char(&name, '{');
		buf_append_span(&name, a->ns);
		buf_append_char(&name, '}');
	}
	buf_append_span(&name, a->name);
	string(out, buf_span(&name));
	buf_append_char(out, ':');
	string(out, a->value);
	buf_free(&name);
}

/* Whether the attribute has a member of its own at the top. */
static bool is_common(const struct xml_attribute *a)
{
	static const char *const names[] = {"to", "from", "id", "type"};

	if (a->ns.p)
		return span_is(a->name, "lang") && span_is(a->ns, NS_XML);
	for (int i = 0; i < 4; i++)
		if (span_is(a->name, names[i]))
			return true;
	return false;
}

static void attributes(struct buf *out, const struct xml_node *node, bool root)
{
	bool first = true;

	key(out, "attrs");
	buf_append_char(out, '{');
	for (uint32_t i = 0; i < node->attributes_count; i++) {
		if (root && is_common(&node->attributes[i]))
			continue;
		if (!first)
			buf_append_char(out, ',');
		first = false;
		attribute(out, &node->attributes[i]);
	}
	buf_append_char(out, '}');
}

static bool declares_none(const struct xml_node *node)
{
	for (uint32_t i = 0; i < node->declarations_count; i++)
		if (node->declarations[i].prefix.n == 0 && node->declarations[i].uri.n == 0)
			return true;
	return false;
}

/* The text between two elements, if there is any. */
static void text_between(
	struct buf *out, const struct stanza *s, size_t from, size_t to, bool *first)
{
	struct buf text;

	if (from >= to)
		return;
	buf_init(&text, BUF_NO_MAX);
	xml_text(s->text, from, to, &text);
	if (buf_length(&text)) {
		if (!*first)
			buf_append_char(out, ',');
		*first = false;
		string(out, buf_span(&text));
	}
	buf_free(&text);
}

/* The array of what is in node. Elements are walked without recursion: their depth is the
 * sender's choice. */
static void content(struct buf *out, const struct stanza *s, const struct xml_node *top)
{
	const struct xml_node *node = top, *child = top->first_child;
	size_t at = top->open_end;
	bool first = true;

	buf_append_char(out, '[');
	for (;;) {
		text_between(out, s, at, child ? child->start : node->close_start, &first);
		if (child) {
			if (!first)
				buf_append_char(out, ',');
			buf_append_char(out, '{');
			key(out, "name");
			string(out, child->name);
			if (!span_equal(child->ns, node->ns) || declares_none(child))
				member(out, "ns", child->ns.p ? child->ns : SPAN(""));
			buf_append_char(out, ',');
			attributes(out, child, false);
			buf_append_char(out, ',');
			key(out, "children");
			buf_append_char(out, '[');
			node = child;
			child = node->first_child;
			at = node->open_end;
			first = true;
			continue;
		}
		buf_append_char(out, ']');
		if (node == top)
			return;
		buf_append_char(out, '}');
		at = node->end;
		child = node->next;
		node = node->parent;
		first = false;
	}
}

static void error_member(struct buf *out, const struct stanza *s)
{
	const struct xml_node *error = xml_child(s->root, "", "error"), *node;
	struct buf text;

	if (s->type != TYPE_ERROR || !error)
		return;
	buf_append_char(out, ',');
	key(out, "error");
	buf_append_string(out, "{");
	key(out, "type");
	string(out, xml_attribute(error, "type").p ? xml_attribute(error, "type") : SPAN(""));
	member(out, "condition", stanza_error_condition(s));
	node = xml_child(error, NS_STANZAS, "text");
	if (node) {
		buf_init(&text, BUF_NO_MAX);
		xml_node_text(s->text, node, &text);
		member(out, "text", buf_span(&text));
		buf_free(&text);
	}
	for (node = error->first_child; node; node = node->next)
		if (!span_is(node->ns, NS_STANZAS)) {
			member(out, "app", node->name);
			break;
		}
	buf_append_char(out, '}');
}

bool stanza_json_format(const struct stanza *s, struct buf *out)
{
	static const char *const kinds[] = {
		[STANZA_IQ] = "iq", [STANZA_MESSAGE] = "message", [STANZA_PRESENCE] = "presence"};
	const struct xml_node *payload = stanza_payload(s);
	size_t begin = buf_length(out);

	buf_append_string(out, "{\"v\":1");
	member(out, "kind", span_of(kinds[s->kind]));
	member(out, "type", xml_attribute(s->root, "type"));
	member(out, "id", s->id);
	member(out, "from", s->from);
	member(out, "to", s->to);
	member(out, "lang", s->lang);
	buf_append_char(out, ',');
	attributes(out, s->root, true);
	if (payload) {
		member(out, "ns", payload->ns.p ? payload->ns : SPAN(""));
		member(out, "name", payload->name);
	}
	error_member(out, s);
	buf_append_char(out, ',');
	key(out, "payload");
	content(out, s, s->root);
	if (buf_append_char(out, '}'))
		return true;
	buf_truncate(out, begin);
	return false;
}

/* From JSON -------------------------------------------------------------- */

static struct span text_of(struct json_object *o)
{
	if (!json_object_is_type(o, json_type_string))
		return SPAN_NONE;
	return (struct span){json_object_get_string(o), (size_t)json_object_get_string_len(o)};
}

/* A name without a colon (Namespaces in XML 1.0); beyond ASCII expat knows better, but what is a
 * letter there is only looked at as far as it cannot break the markup. */
static bool is_name(struct span s)
{
	if (!s.n || !xml_characters_valid(s))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool start =
			(c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c >= 0x80;
		bool rest = (c >= '0' && c <= '9') || c == '-' || c == '.';

		if (!start && !(rest && i > 0))
			return false;
	}
	return true;
}

/* One attribute, its namespace declared beside it under a prefix of ours. */
static const char *write_attribute(
	struct writer *w, struct span name, struct json_object *value, unsigned *prefixes)
{
	struct span text = text_of(value), ns = SPAN_NONE;
	struct buf qualified;

	if (!text.p || !xml_characters_valid(text))
		return "an attribute that is no string of XML characters";
	if (name.n && name.p[0] == '{') {
		const char *close = memchr(name.p, '}', name.n);

		if (!close)
			return "an attribute name without '}'";
		ns = (struct span){name.p + 1, (size_t)(close - name.p - 1)};
		name = span_from(name, ns.n + 2);
	}
	if (!is_name(name) || (!ns.p && span_is(name, "xmlns")))
		return "an attribute name that is none";
	if (ns.p && (!ns.n || !xml_characters_valid(ns) || span_is(ns, NS_XMLNS)))
		return "an attribute in no namespace there can be";
	buf_init(&qualified, BUF_NO_MAX);
	if (ns.p && span_is(ns, NS_XML)) {
		buf_append_string(&qualified, "xml:");
	} else if (ns.p) {
		buf_printf(&qualified, "xmlns:ns%u", ++*prefixes);
		writer_attribute(w, buf_string(&qualified), ns);
		buf_reset(&qualified);
		buf_printf(&qualified, "ns%u:", *prefixes);
	}
	buf_append_span(&qualified, name);
	writer_attribute(w, buf_string(&qualified), text);
	buf_free(&qualified);
	return NULL;
}

static const char *write_attributes(struct writer *w, struct json_object *attrs)
{
	unsigned prefixes = 0;
	const char *wrong;

	if (!attrs)
		return NULL;
	if (!json_object_is_type(attrs, json_type_object))
		return "'attrs' is no object";
	json_object_object_foreach(attrs, name, value)
	{
		wrong = write_attribute(w, span_of(name), value, &prefixes);
		if (wrong)
			return wrong;
	}
	return NULL;
}

static struct json_object *get(struct json_object *o, const char *name)
{
	struct json_object *value = NULL;

	return json_object_object_get_ex(o, name, &value) ? value : NULL;
}

static const char *write_children(struct writer *w, struct json_object *list, struct span ns);

/* An element whose parent is in the namespace `outer`. */
static const char *write_element(struct writer *w, struct json_object *element, struct span outer)
{
	struct span name = text_of(get(element, "name")), ns = text_of(get(element, "ns"));
	struct json_object *children = get(element, "children");
	const char *wrong;

	if (!is_name(name))
		return "an element without a name that can be one";
	if ((get(element, "ns") && !ns.p) || (ns.p && !xml_characters_valid(ns)) ||
		span_is(ns, NS_XML) || span_is(ns, NS_XMLNS))
		return "an element in no namespace there can be";
	if (children && !json_object_is_type(children, json_type_array))
		return "'children' is no list";
	writer_raw(w, "<");
	writer_raw_span(w, name);
	if (ns.p && !span_equal(ns, outer))
		writer_attribute(w, "xmlns", ns);
	wrong = write_attributes(w, get(element, "attrs"));
	if (wrong)
		return wrong;
	if (!children || json_object_array_length(children) == 0) {
		writer_raw(w, "/>");
		return NULL;
	}
	writer_raw(w, ">");
	wrong = write_children(w, children, ns.p ? ns : outer);
	writer_raw(w, "</");
	writer_raw_span(w, name);
	writer_raw(w, ">");
	return wrong;
}

/* Depth is bounded by MAX_JSON_DEPTH. */
static const char *write_children(struct writer *w, struct json_object *list, struct span ns)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *child = json_object_array_get_idx(list, i);
		struct span text = text_of(child);
		const char *wrong = NULL;

		if (json_object_is_type(child, json_type_object))
			wrong = write_element(w, child, ns);
		else if (!text.p || !xml_characters_valid(text))
			wrong = "a child that is neither an element nor a string of XML characters";
		else
			writer_text(w, text);
		if (wrong)
			return wrong;
	}
	return NULL;
}

/* What is said twice must be said alike. */
static bool agrees(struct json_object *value, struct span with)
{
	return !value || span_equal(text_of(value), with);
}

static struct json_object *first_element(struct json_object *list)
{
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (json_object_is_type(json_object_array_get_idx(list, i), json_type_object))
			return json_object_array_get_idx(list, i);
	return NULL;
}

static struct json_object *find_element(struct json_object *list, const char *name)
{
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *child = json_object_array_get_idx(list, i);

		if (json_object_is_type(child, json_type_object) &&
			span_is(text_of(get(child, "name")), name))
			return child;
	}
	return NULL;
}

/* payload wins; what ns, name and error say beside it must be the same. */
static const char *contradiction(struct json_object *o, struct json_object *payload)
{
	struct json_object *first = first_element(payload), *error = get(o, "error"), *element;
	struct span ns = first ? text_of(get(first, "ns")) : SPAN_NONE;

	if (!agrees(get(o, "name"), first ? text_of(get(first, "name")) : SPAN_NONE) ||
		!agrees(get(o, "ns"), ns.p ? ns : SPAN("")))
		return "'ns' and 'name' are not those of the payload";
	if (!error)
		return NULL;
	element = find_element(payload, "error");
	if (!element || !json_object_is_type(error, json_type_object) ||
		!agrees(get(error, "type"), get(get(element, "attrs"), "type")
						    ? text_of(get(get(element, "attrs"), "type"))
						    : SPAN("")) ||
		(get(error, "condition") &&
			!find_element(get(element, "children"),
				json_object_get_string(get(error, "condition")))))
		return "'error' is not that of the payload";
	return NULL;
}

/* Without payload: an error element, or an empty one of ns and name. */
static const char *write_short(struct writer *w, struct json_object *o)
{
	struct json_object *error = get(o, "error");
	struct span name = text_of(get(o, "name")), ns = text_of(get(o, "ns"));
	struct span type, condition, text, app;

	if (name.p || ns.p) {
		if (!is_name(name) || (ns.p && !xml_characters_valid(ns)))
			return "'name' and 'ns' that make no element";
		writer_raw(w, "<");
		writer_raw_span(w, name);
		if (ns.n)
			writer_attribute(w, "xmlns", ns);
		writer_raw(w, "/>");
	}
	if (!error)
		return NULL;
	type = text_of(get(error, "type"));
	condition = text_of(get(error, "condition"));
	text = text_of(get(error, "text"));
	app = text_of(get(error, "app"));
	if (!is_name(condition) || (type.p && !xml_characters_valid(type)) ||
		(text.p && !xml_characters_valid(text)))
		return "an 'error' without a condition";
	if (app.p)
		return "'error' with 'app' needs a payload, which has its namespace";
	writer_raw(w, "<error");
	writer_attribute(w, "type", type.p ? type : SPAN("cancel"));
	writer_raw(w, "><");
	writer_raw_span(w, condition);
	writer_raw(w, " xmlns='" NS_STANZAS "'/>");
	if (text.p) {
		writer_raw(w, "<text xmlns='" NS_STANZAS "'>");
		writer_text(w, text);
		writer_raw(w, "</text>");
	}
	writer_raw(w, "</error>");
	return NULL;
}

static const char *write_stanza(struct writer *w, struct json_object *o)
{
	static const char *const common[] = {"type", "id", "from", "to", "lang"};
	struct span kind = text_of(get(o, "kind"));
	struct json_object *payload = get(o, "payload"), *version = get(o, "v");
	const char *wrong;

	if (version &&
		(!json_object_is_type(version, json_type_int) || json_object_get_int(version) != 1))
		return "a version other than 1";
	if (!span_is(kind, "iq") && !span_is(kind, "message") && !span_is(kind, "presence"))
		return "'kind' is none of iq, message, presence";
	if (payload && !json_object_is_type(payload, json_type_array))
		return "'payload' is no list";
	wrong = payload ? contradiction(o, payload) : NULL;
	if (wrong)
		return wrong;
	writer_raw(w, "<");
	writer_raw_span(w, kind);
	for (int i = 0; i < 5; i++) {
		struct json_object *value = get(o, common[i]);
		struct span text = text_of(value);

		if (value && (!text.p || !xml_characters_valid(text)))
			return "type, id, from, to and lang are strings";
		writer_attribute(w, i == 4 ? "xml:lang" : common[i], text);
	}
	wrong = write_attributes(w, get(o, "attrs"));
	if (wrong)
		return wrong;
	if (payload ? json_object_array_length(payload) == 0
		    : !get(o, "name") && !get(o, "ns") && !get(o, "error")) {
		writer_raw(w, "/>");
		return NULL;
	}
	writer_raw(w, ">");
	wrong = payload ? write_children(w, payload, SPAN_NONE) : write_short(w, o);
	writer_raw(w, "</");
	writer_raw_span(w, kind);
	writer_raw(w, ">");
	return wrong;
}

const char *stanza_json_write(struct span line, struct writer *w, enum writer_status *status)
{
	struct json_object *o = NULL;
	const char *wrong = NULL;
	struct buf message;

	buf_init(&message, 256);
	if (json_parse(line, MAX_JSON_DEPTH, &o, &message) != JSON_OK)
		wrong = "not JSON";
	buf_free(&message);
	if (!wrong && !json_object_is_type(o, json_type_object))
		wrong = "not an object";
	if (!wrong) {
		writer_begin(w);
		wrong = write_stanza(w, o);
		if (wrong)
			writer_abort(w);
		else
			*status = writer_end(w);
	}
	json_object_put(o);
	return wrong;
}
