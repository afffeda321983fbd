/* The way from JSON of stanza-json.h. */
#include "xmpp/stanza-json.h"

#include <expat.h>

#include "base/err.h"
#include "base/json.h"
#include "base/utf8.h"

/* Objects and arrays open at once: each element takes two of them. */
#define MAX_JSON_DEPTH 1024
#define MAX_NAME_BYTES 65536
/* Members of a stanza that are no payload. */
#define OWN_MARKS 64
#define NS_XMLNS "http://www.w3.org/2000/xmlns/"

/* Expat knows which characters beyond ASCII are letters. */
static bool is_name_to_expat(struct span s)
{
	XML_Parser p = XML_ParserCreate("UTF-8");
	struct buf tag;
	bool ok;

	if (!p)
		err_die(EXIT_TEMPORARY, "out of memory");
	buf_init(&tag, BUF_NO_MAX);
	buf_append_char(&tag, '<');
	buf_append_span(&tag, s);
	buf_append_string(&tag, "/>");
	ok = XML_Parse(p, buf_string(&tag), (int)buf_length(&tag), 1) == XML_STATUS_OK;
	buf_free(&tag);
	XML_ParserFree(p);
	return ok;
}

/* A name without a colon (Namespaces in XML 1.0). */
static bool is_name(struct span s)
{
	bool ascii = true;

	if (!s.n || s.n > MAX_NAME_BYTES)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool start =
			(c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c >= 0x80;
		bool rest = (c >= '0' && c <= '9') || c == '-' || c == '.';

		if (!start && !(rest && i > 0))
			return false;
		ascii = ascii && c < 0x80;
	}
	return ascii || (utf8_xml_valid(s) && is_name_to_expat(s));
}

/* One attribute, its namespace declared beside it under a prefix of ours. */
static const char *write_attribute(struct writer *w, struct span name, struct json_object *value,
	bool root, unsigned *prefixes)
{
	struct span text = json_text(value), ns = SPAN_NONE;
	struct buf qualified;

	if (!text.p || !utf8_xml_valid(text))
		return "an attribute that is no string of XML characters";
	if (name.n && name.p[0] == '{') {
		/* the last one: a name has none, a namespace may */
		const char *close = memrchr(name.p, '}', name.n);

		if (!close)
			return "an attribute name without '}'";
		ns = (struct span){name.p + 1, (size_t)(close - name.p - 1)};
		name = span_from(name, ns.n + 2);
	}
	if (!is_name(name) || (!ns.p && span_is(name, "xmlns")))
		return "an attribute name that is none";
	if (ns.p && (!ns.n || !utf8_xml_valid(ns) || span_is(ns, NS_XMLNS)))
		return "an attribute in no namespace there can be";
	if (root && stanza_json_is_common(ns, name))
		return "in 'attrs' what is a member of its own";
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

static const char *write_attributes(struct writer *w, struct json_object *attrs, bool root)
{
	unsigned prefixes = 0;
	const char *wrong;

	if (!attrs)
		return NULL;
	if (!json_object_is_type(attrs, json_type_object))
		return "'attrs' is no object";
	json_object_object_foreach(attrs, name, value)
	{
		wrong = write_attribute(w, span_of(name), value, root, &prefixes);
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

static bool is_one_of(const char *name, const char *const *names)
{
	while (*names && strcmp(name, *names) != 0)
		names++;
	return *names != NULL;
}

static bool only_known(struct json_object *o, const char *const *names)
{
	json_object_object_foreach(o, name, value)
	{
		(void)value;
		if (!is_one_of(name, names))
			return false;
	}
	return true;
}

/* Where a child stands: in an element of the namespace `parent`, SPAN_NONE for that of the stanza;
 * without a prefix it would be in `fallback`. */
struct scope {
	struct span parent, fallback;
};

static const char *write_children(struct writer *w, struct json_object *list, struct scope scope);

/* Whether anything but empty strings is in a list. */
static bool has_content(struct json_object *list)
{
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *child = json_object_array_get_idx(list, i);
		struct span text = json_text(child);

		if (!text.p || text.n)
			return true;
	}
	return false;
}

static const char *write_element(struct writer *w, struct json_object *element, struct scope scope)
{
	struct span name = json_text(get(element, "name")), ns = json_text(get(element, "ns"));
	static const char *const known[] = {"name", "ns", "attrs", "children", NULL};
	struct json_object *children = get(element, "children");
	const char *wrong, *prefix = "";

	if (!only_known(element, known))
		return "an element with a member that is none of name, ns, attrs, children";
	if (!is_name(name))
		return "an element without a name that can be one";
	if ((get(element, "ns") && !ns.p) || (ns.p && !utf8_xml_valid(ns)) || span_is(ns, NS_XMLNS))
		return "an element in no namespace there can be";
	if (children && !json_object_is_type(children, json_type_array))
		return "'children' is no list";
	if (!ns.p)
		ns = scope.parent;
	if (span_is(ns, NS_XML))
		prefix = "xml:"; /* the one namespace that only a prefix can say */
	writer_raw(w, "<");
	writer_raw(w, prefix);
	writer_raw_span(w, name);
	if (!*prefix && !span_equal(ns, scope.fallback)) {
		writer_attribute(w, "xmlns", ns.p ? ns : SPAN(""));
		scope.fallback = ns;
	}
	scope.parent = ns;
	wrong = write_attributes(w, get(element, "attrs"), false);
	if (wrong)
		return wrong;
	if (!has_content(children)) {
		writer_raw(w, "/>");
		return NULL;
	}
	writer_raw(w, ">");
	wrong = write_children(w, children, scope);
	writer_raw(w, "</");
	writer_raw(w, prefix);
	writer_raw_span(w, name);
	writer_raw(w, ">");
	return wrong;
}

/* Depth is bounded by MAX_JSON_DEPTH. */
static const char *write_children(struct writer *w, struct json_object *list, struct scope scope)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *child = json_object_array_get_idx(list, i);
		struct span text = json_text(child);
		const char *wrong = NULL;

		if (json_object_is_type(child, json_type_object))
			wrong = write_element(w, child, scope);
		else if (!text.p || !utf8_xml_valid(text))
			wrong = "a child that is neither an element nor a string of XML characters";
		else
			writer_text(w, text);
		if (wrong)
			return wrong;
	}
	return NULL;
}

/* What is said twice must be said alike. */
static bool agrees(struct json_object *said, struct span with)
{
	return !said || span_equal(json_text(said), with);
}

/* The next element of a list from *at on. */
static struct json_object *next_element(struct json_object *list, size_t *at)
{
	while (list && json_object_is_type(list, json_type_array) &&
		*at < json_object_array_length(list)) {
		struct json_object *child = json_object_array_get_idx(list, (*at)++);

		if (json_object_is_type(child, json_type_object))
			return child;
	}
	return NULL;
}

/* The strings of a list, joined. */
static void text_in(struct json_object *list, struct buf *out)
{
	for (size_t i = 0; list && json_object_is_type(list, json_type_array) &&
			   i < json_object_array_length(list);
		i++)
		buf_append_span(out, json_text(json_object_array_get_idx(list, i)));
}

static bool in_stanza_ns(struct span ns)
{
	return ns.n == 0 || xml_is_stanza_ns(ns);
}

/* The <error/> of a stanza, as stanza_error_child() has it. */
static bool is_error(struct json_object *element)
{
	return span_is(json_text(get(element, "name")), "error") &&
	       in_stanza_ns(json_text(get(element, "ns")));
}

/* Whether 'error' says what the element says that it is made of (as error_member()). */
static bool error_agrees(struct json_object *said, struct json_object *error)
{
	struct span outer = json_text(get(error, "ns")), condition = SPAN_NONE, app = SPAN_NONE;
	struct json_object *child, *text = NULL, *type = get(get(error, "attrs"), "type");
	struct buf words;
	size_t at = 0;
	bool ok;

	while ((child = next_element(get(error, "children"), &at))) {
		struct span name = json_text(get(child, "name"));
		struct span ns = get(child, "ns") ? json_text(get(child, "ns")) : outer;

		if (!span_is(ns, NS_STANZAS))
			app = app.p ? app : name;
		else if (!span_is(name, "text"))
			condition = condition.p ? condition : name;
		else
			text = text ? text : child;
	}
	buf_init(&words, BUF_NO_MAX);
	text_in(get(text, "children"), &words);
	ok = agrees(get(said, "type"), type ? json_text(type) : SPAN("")) &&
	     agrees(get(said, "condition"), condition) &&
	     agrees(get(said, "text"), text ? buf_span(&words) : SPAN_NONE) &&
	     agrees(get(said, "app"), app);
	buf_free(&words);
	return ok;
}

/* payload wins; what ns, name and error say beside it must be the same. */
static const char *contradiction(struct json_object *o, struct json_object *payload)
{
	struct json_object *error = get(o, "error"), *element;
	struct span ns;
	size_t at = 0;

	element = next_element(payload, &at);
	ns = json_text(get(element, "ns"));
	if (!agrees(get(o, "name"), json_text(get(element, "name"))) ||
		!agrees(get(o, "ns"), !element ? SPAN_NONE
				      : ns.p   ? ns
					       : SPAN("")))
		return "'ns' and 'name' are not those of the payload";
	while (element && !is_error(element))
		element = next_element(payload, &at);
	/* the error said, its element NOLINTNEXTLINE(readability-suspicious-call-argument) */
	if (error && (!element || !error_agrees(error, element)))
		return "'error' is not that of the payload";
	return NULL;
}

/* The elements that may be members of the object, in the order in which they are written. */
static const char *const message_texts[] = {"subject", "body", "thread", NULL};
static const char *const presence_texts[] = {"show", "status", "priority", NULL};
static const char *const no_texts[] = {NULL};

static const char *const *texts_of(struct span kind)
{
	return span_is(kind, "message")	   ? message_texts
	       : span_is(kind, "presence") ? presence_texts
					   : no_texts;
}

/* A priority is a number to those who write JSON. */
static struct span member_text(struct json_object *value, const char *name)
{
	if (json_object_is_type(value, json_type_int) && strcmp(name, "priority") == 0)
		return span_of(json_object_get_string(value));
	return json_text(value);
}

static const char *write_texts(struct writer *w, struct json_object *o, struct span kind)
{
	for (const char *const *name = texts_of(kind); *name; name++) {
		struct json_object *value = get(o, *name);
		struct span text = member_text(value, *name);

		if (!value)
			continue;
		if (!text.p || !utf8_xml_valid(text))
			return "subject, body, thread, show and status are strings of XML "
			       "characters, priority is a whole number";
		writer_raw(w, "<");
		writer_raw(w, *name);
		writer_raw(w, ">");
		writer_text(w, text);
		writer_raw(w, "</");
		writer_raw(w, *name);
		writer_raw(w, ">");
	}
	return NULL;
}

/* Whether an element of the payload is what the member says. */
static bool has_text(struct json_object *payload, const char *name, struct span text)
{
	size_t at = 0;
	struct json_object *element;

	while ((element = next_element(payload, &at))) {
		struct buf words;
		bool same;

		if (!span_is(json_text(get(element, "name")), name) ||
			!in_stanza_ns(json_text(get(element, "ns"))))
			continue;
		buf_init(&words, BUF_NO_MAX);
		text_in(get(element, "children"), &words);
		same = span_equal(buf_span(&words), text);
		buf_free(&words);
		if (same)
			return true;
	}
	return false;
}

static bool texts_agree(struct json_object *o, struct json_object *payload, struct span kind)
{
	for (const char *const *name = texts_of(kind); *name; name++) {
		struct json_object *value = get(o, *name);

		if (value && !has_text(payload, *name, member_text(value, *name)))
			return false;
	}
	return true;
}

static bool has_texts(struct json_object *o, struct span kind)
{
	const char *const *name = texts_of(kind);

	while (*name && !get(o, *name))
		name++;
	return *name != NULL;
}

static void append_unknown(struct buf *unknown, struct json_object *o, struct span kind)
{
	static const char *const known[] = {"v", "kind", "type", "id", "from", "to", "lang",
		"attrs", "ns", "name", "payload", "error", NULL};

	json_object_object_foreach(o, name, value)
	{
		/* a text that is null has been lost on the way here */
		if (is_one_of(name, known) || (value && is_one_of(name, texts_of(kind))))
			continue;
		buf_printf(unknown, "%s'%s'", buf_length(unknown) ? ", " : "", name);
	}
}

/* RFC 6120 8.2.3 wants exactly one; the rest of it is the server's to judge. */
static bool lacks_payload(struct json_object *o, struct json_object *payload, struct span kind)
{
	struct span type = json_text(get(o, "type"));
	size_t at = 0;

	if (!span_is(kind, "iq") || !(span_is(type, "get") || span_is(type, "set")))
		return false;
	return payload ? !next_element(payload, &at) : !get(o, "name");
}

static const char *write_error(struct writer *w, struct json_object *error)
{
	static const char *const members[] = {"type", "condition", "text", "app", NULL};
	struct span type = json_text(get(error, "type")), text = json_text(get(error, "text"));
	struct span condition = json_text(get(error, "condition"));

	if (!only_known(error, members))
		return "an 'error' with a member that is none of type, condition, text, app";
	if (!is_name(condition) || span_is(condition, "text"))
		return "an 'error' without a condition";
	if ((get(error, "type") && !type.p) || (get(error, "text") && !text.p) ||
		!utf8_xml_valid(type) || !utf8_xml_valid(text))
		return "'type' and 'text' of 'error' are strings of XML characters";
	if (get(error, "app"))
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

/* Without payload: an empty element of ns and name, and an error element, as far as they are given.
 */
static const char *write_short(struct writer *w, struct json_object *o)
{
	struct span name = json_text(get(o, "name")), ns = json_text(get(o, "ns"));

	if (get(o, "name") || get(o, "ns")) {
		if (!is_name(name) || (get(o, "ns") && !ns.p) || !utf8_xml_valid(ns) ||
			span_is(ns, NS_XML) || span_is(ns, NS_XMLNS))
			return "'name' and 'ns' that make no element";
		writer_raw(w, "<");
		writer_raw_span(w, name);
		if (ns.n)
			writer_attribute(w, "xmlns", ns);
		writer_raw(w, "/>");
	}
	return get(o, "error") ? write_error(w, get(o, "error")) : NULL;
}

/* What makes an object no stanza, or one that contradicts itself; NULL: nothing. */
static const char *wrong_with(
	struct json_object *o, struct json_object *payload, struct span kind, const char *unsaid)
{
	struct json_object *version = get(o, "v");
	const char *wrong;

	if (version &&
		(!json_object_is_type(version, json_type_int) || json_object_get_int(version) != 1))
		return "a version other than 1";
	if (!span_is(kind, "iq") && !span_is(kind, "message") && !span_is(kind, "presence"))
		return "'kind' is none of iq, message, presence";
	if (payload && !json_object_is_type(payload, json_type_array))
		return "'payload' is no list";
	if (get(o, "error") && (!json_object_is_type(get(o, "error"), json_type_object) ||
				       !span_is(json_text(get(o, "type")), "error")))
		return "'error' is no object, or in a stanza whose type is another";
	/* a program that takes only iqs answers this one itself */
	if (!unsaid && lacks_payload(o, payload, kind))
		return "an iq of type get or set without payload";
	wrong = payload ? contradiction(o, payload) : NULL;
	if (!wrong && payload && !texts_agree(o, payload, kind))
		wrong = "subject, body, thread, show, status or priority is not that of the "
			"payload";
	return wrong;
}

static const char *write_start(struct writer *w, struct json_object *o, struct span kind)
{
	static const char *const common[] = {"type", "id", "from", "to", "lang"};

	writer_raw(w, "<");
	writer_raw_span(w, kind);
	for (int i = 0; i < 5; i++) {
		struct json_object *value = get(o, common[i]);
		struct span text = json_text(value);

		if (value && (!text.p || !utf8_xml_valid(text)))
			return "type, id, from, to and lang are strings";
		writer_attribute(w, i == 4 ? "xml:lang" : common[i], text);
	}
	return write_attributes(w, get(o, "attrs"), true);
}

static const char *write_stanza(struct writer *w, struct json_object *o, const char *unsaid)
{
	struct span kind = get(o, "kind") ? json_text(get(o, "kind")) : span_of(unsaid);
	struct json_object *payload = get(o, "payload");
	const char *wrong = wrong_with(o, payload, kind, unsaid);

	if (!wrong)
		wrong = write_start(w, o, kind);
	if (wrong)
		return wrong;
	if (payload ? !has_content(payload)
		    : !get(o, "name") && !get(o, "ns") && !get(o, "error") && !has_texts(o, kind)) {
		writer_raw(w, "/>");
		return NULL;
	}
	writer_raw(w, ">");
	wrong = payload ? write_children(w, payload, (struct scope){SPAN_NONE, SPAN_NONE})
			: write_texts(w, o, kind);
	if (!wrong && !payload)
		wrong = write_short(w, o);
	writer_raw(w, "</");
	writer_raw_span(w, kind);
	writer_raw(w, ">");
	return wrong;
}

/* Parsed, the two bytes `{}` take 700. Of the four bytes `<b/>` come two objects, and six marks
 * that begin a value; nothing has more of them in a byte. */
const char *stanza_json_excess(struct span line, size_t max_stanza_bytes)
{
	size_t objects = 0, marks = 0;
	bool in_string = false;
	char c;

	while ((c = json_take_outside(&line, &in_string))) {
		objects += c == '{';
		marks += c == '{' || c == '[' || c == ',';
	}
	if (objects > max_stanza_bytes / 2 + OWN_MARKS ||
		marks > max_stanza_bytes / 2 * 3 + OWN_MARKS)
		return "too much for a stanza";
	return NULL;
}

const char *stanza_json_write(struct span line, const char *kind,
	const struct stanza_json_aside *aside, struct writer *w, enum writer_status *status)
{
	struct json_object *o = NULL;
	const char *wrong = NULL;
	struct buf message;

	buf_init(&message, 256);
	switch (json_parse(line, MAX_JSON_DEPTH, &o, &message)) {
	case JSON_OK:
		break;
	case JSON_BAD:
		wrong = "not JSON";
		break;
	case JSON_FORBIDDEN:
	case JSON_TOO_MANY:
		wrong = "JSON nested too deeply, or with U+0000";
		break;
	}
	buf_free(&message);
	if (!wrong && !json_surrogates_paired(line))
		wrong = "half a surrogate pair, which is no character";
	if (!wrong && !json_object_is_type(o, json_type_object))
		wrong = "not an object";
	if (!wrong) {
		if (aside && aside->id)
			buf_append_span(aside->id, json_text(get(o, "id")));
		if (aside && aside->unknown)
			append_unknown(aside->unknown, o,
				get(o, "kind") ? json_text(get(o, "kind")) : span_of(kind));
		writer_begin(w);
		wrong = write_stanza(w, o, kind);
		if (wrong)
			writer_abort(w);
		else
			*status = writer_end(w);
	}
	json_object_put(o);
	return wrong;
}
