/* tool.c - see tool.h */
#include "jat/tool.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "xmpp/jid.h"
#include "base/io.h"

#define READ_BYTES 65536

static const char not_an_address[] = "not an address";

struct jattool {
	const struct jattool_config *config;
	struct jat jat;
	struct span asked; /* normalised; absent: the bare domain */
	struct buf domain, reply_domain, asked_text;
	struct buf jid;	    /* scratch: a normalised address */
	struct buf decoded; /* scratch */
	struct buf line, out;
	bool line_too_long;
	size_t lines, bad;
	char wrong[JID_PART_MAX_BYTES + 32]; /* error text with the domain in it */
};

/* Translation: each appends to out and returns NULL, or says what is wrong ----------- */

static const char *why_no_token(enum jat_encoding encoding)
{
	switch (encoding) {
	case JAT_SEALED:
		return "too long for a sealed token";
	case JAT_SIGNED:
		return "does not fit a signed token: too long, or resourceprep changes it";
	case JAT_PLAIN:
		return "does not fit a plain token: too long, or resourceprep changes it";
	}
	return "does not fit a token";
}

static const char *encode(struct jattool *t, struct span jid, struct buf *out)
{
	size_t begin = buf_length(out);

	buf_append_span(out, t->jat.domain);
	buf_append_char(out, '/');
	if (jat_encode(&t->jat, t->asked, jid, out) == JAT_OK)
		return NULL;
	buf_truncate(out, begin);
	return why_no_token(t->jat.encoding);
}

static const char *decode(
	struct jattool *t, struct span token, struct span *jid, struct span *asked)
{
	buf_reset(&t->decoded);
	if (t->config->encoding == JATTOOL_BY_FORM)
		t->jat.encoding = jat_form(token);
	return jat_decode(&t->jat, token, &t->decoded, jid, asked) == JAT_OK ? NULL : t->wrong;
}

/* Servers differ in which resources they accept: mixed Latin and Hebrew is wrong for stringprep and
 * right for its successor. A resource that stringprep refuses is taken as it is. */
static bool normalise(struct span text, struct buf *out)
{
	struct jid parts;

	buf_reset(out);
	if (jid_normalise(text, out))
		return true;
	return jid_is_full(text) && jid_normalise(jid_bare(text), out) &&
	       buf_append_char(out, '/') && buf_append_span(out, jid_resource(text)) &&
	       jid_split(buf_span(out), &parts);
}

static const char *encode_typed(struct jattool *t, struct span text)
{
	const char *wrong = not_an_address;

	if (normalise(text, &t->jid))
		wrong = encode(t, buf_span(&t->jid), &t->out);
	return wrong;
}

/* The text after "domain/"; absent if the text does not begin with that. */
static struct span token_of(struct jattool *t, struct span text)
{
	struct span bare = jid_bare(text);

	buf_reset(&t->jid);
	if (!jid_normalise(bare, &t->jid) || !span_equal(buf_span(&t->jid), t->jat.domain))
		return text;
	return bare.n < text.n ? span_from(text, bare.n + 1) : SPAN("");
}

static const char *decode_typed(struct jattool *t, struct span text)
{
	struct span jid, asked;
	const char *wrong = decode(t, token_of(t, text), &jid, &asked);

	if (wrong)
		return wrong;
	buf_append_span(&t->out, jid);
	if (t->config->show_asked) {
		buf_append_char(&t->out, '\t');
		buf_append_span(&t->out, asked);
	}
	return NULL;
}

static const char *translate(struct jattool *t, struct span text)
{
	const char *wrong = t->config->decode ? decode_typed(t, text) : encode_typed(t, text);

	if (wrong)
		t->bad++;
	else
		buf_append_char(&t->out, '\n');
	return wrong;
}

/* Operands and lines --------------------------------------------------------------- */

static int put_out(struct jattool *t)
{
	struct span out = buf_span(&t->out);
	int error = io_write_all(STDOUT_FILENO, out.p, out.n);

	buf_reset(&t->out);
	if (!error)
		return EXIT_DONE;
	err_error("cannot write standard output: %s", strerror(-error));
	return EXIT_IO;
}

static int run_operands(struct jattool *t)
{
	for (char **at = t->config->operands; *at; at++) {
		const char *wrong = translate(t, span_of(*at));

		if (wrong)
			err_error("'%s': %s", *at, wrong);
	}
	return put_out(t);
}

static void end_line(struct jattool *t)
{
	const char *wrong;

	t->lines++;
	if (t->line_too_long) {
		wrong = "line too long for an address";
		t->bad++;
	} else {
		wrong = translate(t, buf_span(&t->line));
	}
	if (wrong)
		err_error("stdin:%zu: %s", t->lines, wrong);
	buf_reset(&t->line);
	t->line_too_long = false;
}

static void take_lines(struct jattool *t, struct span rest)
{
	const char *newline;

	while (rest.n && (newline = memchr(rest.p, '\n', rest.n))) {
		size_t n = (size_t)(newline - rest.p);

		t->line_too_long |= !buf_append(&t->line, rest.p, n);
		end_line(t);
		rest = span_from(rest, n + 1);
	}
	t->line_too_long |= !buf_append_span(&t->line, rest);
}

/* As read(2), but waits also where standard input is non-blocking because it is shared. */
static ssize_t read_some(char *bytes, size_t n)
{
	for (;;) {
		struct pollfd in = {STDIN_FILENO, POLLIN, 0};
		ssize_t got = read(STDIN_FILENO, bytes, n);

		if (got >= 0 || (errno != EINTR && errno != EAGAIN))
			return got;
		if (errno == EAGAIN)
			poll(&in, 1, -1);
	}
}

static int run_lines(struct jattool *t)
{
	char bytes[READ_BYTES];
	int status = EXIT_DONE;
	ssize_t got;

	while (status == EXIT_DONE && (got = read_some(bytes, sizeof(bytes))) != 0) {
		if (got < 0) {
			err_error("cannot read standard input: %s", strerror(errno));
			return EXIT_IO;
		}
		take_lines(t, (struct span){bytes, (size_t)got});
		status = put_out(t);
	}
	if (status == EXIT_DONE && (buf_length(&t->line) || t->line_too_long)) {
		end_line(t);
		status = put_out(t);
	}
	return status;
}

/* Stanzas -------------------------------------------------------------------------- */

static const char *encode_stanza(
	struct jattool *t, const struct stanza *s, struct stanza_edit *edit)
{
	struct jid parts;
	const char *wrong;

	if (!s->from.p)
		return NULL;
	if (!jid_split(s->from, &parts))
		return "from is not an address";
	buf_reset(&t->out);
	wrong = encode(t, s->from, &t->out);
	edit->from = buf_span(&t->out);
	return wrong;
}

static const char *decode_stanza(
	struct jattool *t, const struct stanza *s, struct stanza_edit *edit)
{
	struct span asked;
	struct jid to;

	if (!jid_split(s->to, &to) || to.local.p || !to.resource.p ||
		!span_equal(to.domain, t->jat.domain))
		return NULL;
	return decode(t, to.resource, &edit->to, &asked);
}

static void on_stanza(void *self, const struct stanza *s, struct turn *turn)
{
	struct stanza_edit edit = STANZA_KEEP;
	struct jattool *t = self;
	const char *wrong;

	if (s->refusal != STANZA_WHOLE)
		return; /* said and counted by the service */
	wrong = t->config->decode ? decode_stanza(t, s, &edit) : encode_stanza(t, s, &edit);
	if (!wrong && writer_stanza(turn->writer, s, &edit) != WRITER_OK)
		wrong = "no room left in the output queue";
	if (wrong) {
		t->bad++;
		err_error("stdin:%zu: %s", s->line, wrong);
	}
}

static int run_stanzas(struct jattool *t)
{
	static const struct service_ops ops = {.stanza = on_stanza};
	struct service_config service = t->config->service;

	service.index = READER_INDEX_CHILDREN;
	return service_run(&service, &ops, t, NULL);
}

/* Configuration -------------------------------------------------------------------- */

static const char *take_addresses(struct jattool *t)
{
	const struct jattool_config *c = t->config;

	if (!c->service.domain)
		return "--domain is needed";
	if (!jid_normalise_domain(span_of(c->service.domain), &t->domain))
		return "--domain is not a domain";
	if (c->reply_domain && !jid_normalise_domain(span_of(c->reply_domain), &t->reply_domain))
		return "--reply-domain is not a domain";
	t->jat.served = buf_span(&t->domain);
	t->jat.domain = c->reply_domain ? buf_span(&t->reply_domain) : t->jat.served;
	if (!c->asked)
		return NULL;
	if (!normalise(span_of(c->asked), &t->asked_text) ||
		!jid_at_domain(buf_span(&t->asked_text), t->jat.served))
		return "--asked is not an address of the domain";
	t->asked = buf_span(&t->asked_text);
	return NULL;
}

/* Make the key file and do nothing else. */
static bool only_key(const struct jattool_config *c)
{
	return c->create_key && !c->service.domain && !c->stanza && !c->operands;
}

static const char *check(struct jattool *t)
{
	const struct jattool_config *c = t->config;
	const char *wrong;

	if (c->create_key && !c->keys.file)
		return "--create-key needs --key-file";
	if (only_key(c))
		return NULL;
	wrong = take_addresses(t);
	if (wrong)
		return wrong;
	if (c->stanza && c->operands)
		return "no operands are taken with --stanza";
	if (c->stanza && c->show_asked)
		return "--asked does not go with --stanza";
	if (c->encoding == JAT_PLAIN)
		return c->asked ? "a plain token does not hold the address asked" : NULL;
	if (!secret_given(&c->keys))
		return "--key-file is needed ('jat-encode --create-key --key-file FILE' makes "
		       "one), or --encoding plain";
	return NULL;
}

static int open_keys(struct jattool *t)
{
	int status = EXIT_DONE;

	if (t->config->create_key)
		status = jatkeys_create(t->config->keys.file);
	if (status == EXIT_DONE && t->config->encoding != JAT_PLAIN)
		t->jat.keys = jatkeys_read(&t->config->keys, false, &status);
	return status;
}

static void jattool_init(struct jattool *t, const struct jattool_config *config)
{
	*t = (struct jattool){.config = config};
	buf_init(&t->domain, BUF_NO_MAX);
	buf_init(&t->reply_domain, BUF_NO_MAX);
	buf_init(&t->asked_text, BUF_NO_MAX);
	buf_init(&t->jid, BUF_NO_MAX);
	buf_init(&t->decoded, BUF_NO_MAX);
	buf_init(&t->line, JATTOOL_LINE_MAX_BYTES);
	buf_init(&t->out, BUF_NO_MAX);
	if (config->encoding != JATTOOL_BY_FORM)
		t->jat.encoding = (enum jat_encoding)config->encoding;
}

static void jattool_free(struct jattool *t)
{
	jat_keys_free(t->jat.keys);
	buf_free(&t->domain);
	buf_free(&t->reply_domain);
	buf_free(&t->asked_text);
	buf_free(&t->jid);
	buf_free(&t->decoded);
	buf_free(&t->line);
	buf_free(&t->out);
}

#define AT(field) .at = offsetof(struct jattool_config, field)

const struct opt jattool_options[] = {
	{"domain", 'd', OPT_STRING, "DOMAIN", "the proxy's domain", AT(service.domain)},
	{"reply-domain", 0, OPT_STRING, "DOMAIN",
		"where tokens stand, as the proxy's --reply-domain (default --domain)",
		AT(reply_domain)},
	{"key-file", 'k', OPT_STRING, "FILE", "keys for sealed and signed tokens", AT(keys.file),
		.complete = "file"},
	{"max-stanza-bytes", 0, OPT_BYTES, "BYTES",
		"largest stanza read with --stanza (default 1M)", AT(service.limits.stanza_bytes),
		.min = 1024, .max = 1 << 30},
	{0},
};

const char *jattool_check(const struct jattool_config *config)
{
	struct jattool t;
	const char *wrong;

	jattool_init(&t, config);
	wrong = check(&t);
	jattool_free(&t);
	return wrong;
}

int jattool_run(const struct jattool_config *config)
{
	struct jattool t;
	int status;

	jattool_init(&t, config);
	status = open_keys(&t);
	if (status == EXIT_DONE && !only_key(config)) {
		take_addresses(&t);
		snprintf(t.wrong, sizeof(t.wrong), "not a valid token of %.*s",
			SPAN_ARG(t.jat.domain));
		status = config->stanza	    ? run_stanzas(&t)
			 : config->operands ? run_operands(&t)
					    : run_lines(&t);
		if (status == EXIT_DONE && t.bad)
			status = EXIT_DATA;
	}
	jattool_free(&t);
	return status;
}
