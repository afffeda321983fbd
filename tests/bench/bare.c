/*
 * bare: what expat alone costs. A component that parses every stanza with expat and
 * swaps its addresses as a proxy without tokens, pending requests, bounds or checks
 * would; the bytes inside the root are copied. Nobody uses it: it is the second yardstick
 * of the benchmarks. Its distance from the relay is the price of parsing, and the distance
 * of xmpp-jat-proxy from it is the price of the job.
 *
 *     bare PORT SECRET     scenario jat; one target, impl@vhost.test/r1
 *     bare -               the same from standard input to standard output
 *     bare answer PORT SECRET   a component that answers each request itself
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <nettle/sha1.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "xmpp/expat-position.h"

enum { READ_BYTES = 64 * 1024, ATTR_BYTES = 4096 };

struct attr {
	char p[ATTR_BYTES];
	size_t n;
};

struct bare {
	XML_Parser parser;
	const char *secret;
	char *in, *out;
	size_t in_bytes, in_cap, out_bytes, out_cap;
	int64_t in_at;	 /* stream offset of in[0] */
	int64_t keep_at; /* of the open stanza's first byte after its tag, or of the next stanza */
	unsigned depth;
	bool answers;
	char kind; /* first letter of the root's local name: i, p, m, h */
	struct attr to, from, id, type;
};

static void die(const char *what)
{
	fprintf(stderr, "bare: %s\n", what);
	exit(1);
}

static void put(struct bare *b, const char *p, size_t n)
{
	if (b->out_bytes + n > b->out_cap) {
		b->out_cap = (b->out_bytes + n) * 2;
		b->out = realloc(b->out, b->out_cap);
		if (!b->out)
			die("out of memory");
	}
	memcpy(b->out + b->out_bytes, p, n);
	b->out_bytes += n;
}

static void put_string(struct bare *b, const char *s)
{
	put(b, s, strlen(s));
}

static void attr_set(struct attr *a, const char *value)
{
	a->n = strlen(value);
	if (a->n >= sizeof a->p)
		die("attribute too long");
	memcpy(a->p, value, a->n);
}

static void handshake(struct bare *b, const char *id)
{
	struct sha1_ctx ctx;
	uint8_t digest[SHA1_DIGEST_SIZE];
	char two[3];

	sha1_init(&ctx);
	sha1_update(&ctx, strlen(id), (const uint8_t *)id);
	sha1_update(&ctx, strlen(b->secret), (const uint8_t *)b->secret);
	sha1_digest(&ctx, sizeof digest, digest);
	put_string(b, "<handshake>");
	for (size_t i = 0; i < sizeof digest; i++) {
		snprintf(two, sizeof two, "%02x", digest[i]);
		put(b, two, 2);
	}
	put_string(b, "</handshake>");
}

static void XMLCALL on_start(void *user, const char *name, const char **attrs)
{
	struct bare *b = user;
	const char *local = strchr(name, ' ');

	b->depth++;
	if (b->depth > 2)
		return;
	b->to.n = b->from.n = b->id.n = b->type.n = 0;
	for (; *attrs; attrs += 2) {
		if (strcmp(attrs[0], "to") == 0)
			attr_set(&b->to, attrs[1]);
		else if (strcmp(attrs[0], "from") == 0)
			attr_set(&b->from, attrs[1]);
		else if (strcmp(attrs[0], "id") == 0)
			attr_set(&b->id, attrs[1]);
		else if (strcmp(attrs[0], "type") == 0)
			attr_set(&b->type, attrs[1]);
	}
	if (b->depth == 1) {
		b->id.p[b->id.n] = 0;
		handshake(b, b->id.p);
		return;
	}
	b->kind = local ? local[1] : name[0];
	b->keep_at = expat_index(b->parser) + (int64_t)expat_count(b->parser);
}

static void answer_iq(struct bare *b, int64_t end)
{
	put_string(b, "<iq type='");
	put(b, b->type.p, b->type.n);
	put_string(b, "' id='");
	put(b, b->id.p, b->id.n);
	if (b->type.n == 3) {
		put_string(b, "' to='impl@vhost.test/r1' from='proxy.test/");
		put(b, b->from.p, b->from.n);
	} else {
		put_string(b, "' from='proxy.test' to='");
		put(b, b->to.p + strlen("proxy.test/"), b->to.n - strlen("proxy.test/"));
	}
	put_string(b, "'>");
	put(b, b->in + (b->keep_at - b->in_at), (size_t)(end - b->keep_at));
}

/* Answer as an implementing client does (wire.h). */
static void answer_self(struct bare *b)
{
	put_string(b, "<iq type='result' id='");
	put(b, b->id.p, b->id.n);
	put_string(b, "' to='");
	put(b, b->from.p, b->from.n);
	put_string(b, "' from='");
	put(b, b->to.p, b->to.n);
	put_string(b, "'><query xmlns='urn:example:bench'><item node='princely_musings' id='1'>"
		      "and all the clouds that lour'd upon our house buried in the ocean.</item>"
		      "</query></iq>");
}

static void XMLCALL on_end(void *user, const char *name)
{
	struct bare *b = user;
	int64_t end = expat_index(b->parser) + (int64_t)expat_count(b->parser);

	(void)name;
	if (--b->depth != 1)
		return;
	if (b->answers) {
		if (b->kind == 'i' && b->type.n == 3)
			answer_self(b);
	} else if (b->kind == 'h') {
		put_string(
			b, "<presence type='subscribe' from='proxy.test' to='impl@vhost.test'/>");
	} else if (b->kind == 'i') {
		answer_iq(b, end);
	}
	b->keep_at = end;
}

static void flush(struct bare *b, int fd)
{
	size_t at = 0;

	while (at < b->out_bytes) {
		ssize_t n = write(fd, b->out + at, b->out_bytes - at);

		if (n < 0)
			die(strerror(errno));
		at += (size_t)n;
	}
	b->out_bytes = 0;
}

/* Drop the bytes that no open stanza needs, and make room for one read. */
static void in_compact(struct bare *b)
{
	size_t drop = (size_t)(b->keep_at - b->in_at);

	if (drop > 0)
		memmove(b->in, b->in + drop, b->in_bytes - drop);
	b->in_bytes -= drop;
	b->in_at += (int64_t)drop;
	if (b->in_bytes + READ_BYTES > b->in_cap) {
		b->in_cap = b->in_bytes + READ_BYTES;
		b->in = realloc(b->in, b->in_cap);
		if (!b->in)
			die("out of memory");
	}
}

static void parse(struct bare *b, const char *p, size_t n)
{
	if (XML_Parse(b->parser, p, (int)n, 0) == XML_STATUS_ERROR)
		die(XML_ErrorString(XML_GetErrorCode(b->parser)));
}

/* Read, parse and write until the input ends. */
static int run(struct bare *b, int in_fd, int out_fd)
{
	struct pollfd pf = {.fd = in_fd, .events = POLLIN};

	for (;;) {
		ssize_t n;

		flush(b, out_fd);
		if (poll(&pf, 1, -1) < 0)
			die(strerror(errno));
		in_compact(b);
		n = read(in_fd, b->in + b->in_bytes, READ_BYTES);
		if (n <= 0)
			return n < 0;
		b->in_bytes += (size_t)n;
		parse(b, b->in + b->in_bytes - n, (size_t)n);
	}
}

/* Stanzas without a stream around them. */
static int filter(struct bare *b)
{
	static const char header[] = "<stream id=''>";

	b->in_at = b->keep_at = sizeof header - 1;
	parse(b, header, sizeof header - 1);
	b->out_bytes = 0;
	return run(b, STDIN_FILENO, STDOUT_FILENO);
}

static int component(struct bare *b, const char *port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_port = htons((uint16_t)atoi(port));
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
		die(strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	put_string(b, "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
		      "xmlns:stream='http://etherx.jabber.org/streams' to='proxy.test'>");
	return run(b, fd, fd);
}

int main(int argc, char **argv)
{
	static struct bare b;
	bool pipe = argc == 2 && strcmp(argv[1], "-") == 0;

	b.answers = argc == 4 && strcmp(argv[1], "answer") == 0;
	if (argc != 3 && !pipe && !b.answers) {
		fputs("usage: bare PORT SECRET | bare - | bare answer PORT SECRET\n", stderr);
		return 64;
	}
	signal(SIGPIPE, SIG_IGN);
	b.secret = pipe ? "" : argv[argc - 1];
	b.parser = XML_ParserCreateNS(NULL, ' ');
	XML_SetUserData(b.parser, &b);
	XML_SetElementHandler(b.parser, on_start, on_end);
	return pipe ? filter(&b) : component(&b, argv[argc - 2]);
}
