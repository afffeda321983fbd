/*
 * The infoset of a piece of XML as canonical text, from expat alone: a copy must have the same.
 *
 *	{jabber:client}iq[id=1][{http://...}lang=en](text{urn:x}query())
 *
 * Attributes are sorted, text and sections merged. The namespaces that mean the same for a stanza
 * (jabber:client, jabber:component:accept, none) are all written {}.
 */
#ifndef OUTBOARD_TESTS_INFOSET_H
#define OUTBOARD_TESTS_INFOSET_H

#include <expat.h>
#include <stdlib.h>

#include "xmpp/xml.h"

static void infoset_name(struct buf *out, const char *name, bool element)
{
	const char *separator = strchr(name, '\x1f');
	struct span ns = separator ? (struct span){name, (size_t)(separator - name)} : SPAN_NONE;

	if (element || separator) {
		buf_append_char(out, '{');
		if (!xml_is_stanza_ns(ns))
			buf_append_span(out, ns);
		buf_append_char(out, '}');
	}
	buf_append_string(out, separator ? separator + 1 : name);
}

static int infoset_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void infoset_open(void *context, const XML_Char *name, const XML_Char **atts)
{
	struct buf *out = context;
	char *sorted[512];
	size_t count = 0;

	infoset_name(out, name, true);
	for (; *atts && count < 512; atts += 2) {
		struct buf one;

		buf_init(&one, BUF_NO_MAX);
		buf_append_char(&one, '[');
		infoset_name(&one, atts[0], false);
		buf_printf(&one, "=%s]", atts[1]);
		sorted[count++] = strdup(buf_string(&one));
		buf_free(&one);
	}
	qsort(sorted, count, sizeof(sorted[0]), infoset_compare);
	for (size_t i = 0; i < count; i++) {
		buf_append_string(out, sorted[i]);
		free(sorted[i]);
	}
	buf_append_char(out, '(');
}

static void infoset_close(void *context, const XML_Char *name)
{
	(void)name;
	buf_append_char(context, ')');
}

static void infoset_text(void *context, const XML_Char *text, int n)
{
	buf_append(context, text, (size_t)n);
}

/* Append the infoset of xml, which stands inside the start tag `around` ("" for none). False if it
 * is not well-formed. */
__attribute__((unused)) static bool infoset(struct buf *out, const char *around, struct span xml)
{
	XML_Parser p = XML_ParserCreateNS("UTF-8", '\x1f');
	bool ok;

	ok = !*around || XML_Parse(p, around, (int)strlen(around), 0) == XML_STATUS_OK;
	XML_SetUserData(p, out);
	XML_SetElementHandler(p, infoset_open, infoset_close);
	XML_SetCharacterDataHandler(p, infoset_text);
	ok = ok && XML_Parse(p, xml.p, (int)xml.n, !*around) == XML_STATUS_OK;
	XML_ParserFree(p);
	return ok;
}

#endif
