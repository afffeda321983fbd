#include "plumbing/iq-payload.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define PAYLOAD_MAX_BYTES (16 * 1024 * 1024)
#define READ_BYTES 65536

void payload_init(struct payload *p, const struct iq_config *config)
{
	/* not READER_PIPE: a line of a payload may begin with anything */
	struct reader_config limits =
		limits_of_reader(&config->login.limits, READER_SOCKET, config->login.index);

	limits.max_stanza_bytes = PAYLOAD_MAX_BYTES + 1024;
	*p = (struct payload){.config = config, .reader = reader_new(&limits)};
	buf_init(&p->text, PAYLOAD_MAX_BYTES);
	buf_append_string(
		&p->text, "<stream:stream xmlns='" NS_CLIENT "' xmlns:stream='" NS_STREAM "'>");
	buf_append_string(&p->text, config->type ? "<iq type='set'>" : "<iq type='get'>");
}

void payload_free(struct payload *p)
{
	reader_free(p->reader);
	buf_free(&p->text);
}

bool payload_is_read(const struct iq_config *c)
{
	bool own = c->ping || c->version_of || c->disco_info || c->disco_items;

	return !c->batch && !own && (!c->payload || strcmp(*c->payload, "-") == 0);
}

enum payload_status payload_read(struct payload *p, int fd)
{
	char *to = buf_reserve(&p->text, READ_BYTES);
	ssize_t n;

	if (!to)
		return PAYLOAD_TOO_LARGE;
	n = read(fd, to, READ_BYTES);
	if (n > 0)
		buf_commit(&p->text, (size_t)n);
	if (n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN)))
		return PAYLOAD_MORE;
	return n == 0 ? PAYLOAD_READ : PAYLOAD_ERROR;
}

/* The payload that the options ask for; none if it was read from standard input. */
static void append_payload(struct payload *p)
{
	const struct iq_config *c = p->config;
	struct writer w;

	writer_init(&w, &p->text, WRITER_PIPE, 0);
	if (c->ping) {
		writer_raw(&w, "<ping xmlns='" NS_PING "'/>");
	} else if (c->version_of) {
		writer_raw(&w, "<query xmlns='" NS_VERSION "'/>");
	} else if (c->disco_info || c->disco_items) {
		writer_raw(&w, "<query");
		writer_attribute(
			&w, "xmlns", span_of(c->disco_info ? NS_DISCO_INFO : NS_DISCO_ITEMS));
		writer_attribute(&w, "node", span_of(c->node));
		writer_raw(&w, "/>");
	} else if (c->payload && strcmp(*c->payload, "-") != 0) {
		buf_append_string(&p->text, *c->payload);
	}
}

static bool is_blank(const struct stanza *s, size_t from, size_t to)
{
	while (from < to && s->text[from] && strchr(" \t\r\n", s->text[from]))
		from++;
	return from == to;
}

/* Read the text from its beginning: the stream's header and the first stanza. */
static bool read_stanza(struct payload *p, struct stanza *s)
{
	struct stanza header;

	reader_reset(p->reader);
	reader_feed(p->reader, buf_span(&p->text).p, buf_length(&p->text));
	return reader_next(p->reader, &header) == READER_OPEN &&
	       reader_next(p->reader, s) == READER_STANZA;
}

/* What is wrong with the stanza and what follows it. */
static const char *wrong_with(struct payload *p, const struct stanza *s)
{
	const struct xml_node *child = s->root->first_child;
	struct stanza more;

	if (s->refusal)
		return "over a limit";
	if (s->root->children_count != 1)
		return "not one element";
	if (!is_blank(s, s->root->open_end, child->start) ||
		!is_blank(s, child->end, s->root->close_start))
		return "text beside the element";
	return reader_next(p->reader, &more) == READER_MORE && !reader_inside(p->reader)
		       ? NULL
		       : "not one element";
}

const char *payload_end(struct payload *p)
{
	struct stanza s;
	const char *wrong;

	p->text.max = BUF_NO_MAX;
	append_payload(p);
	buf_append_string(&p->text, "</iq>");
	if (!read_stanza(p, &s))
		return reader_error(p->reader) ? reader_error(p->reader) : "not one element";
	wrong = wrong_with(p, &s);
	if (!wrong) /* looking for more has ended the life of s */
		read_stanza(p, &p->stanza);
	return wrong;
}
