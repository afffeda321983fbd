#include "share/instance.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nettle/memops.h>
#include <nettle/sha1.h>

#include "base/err.h"
#include "xmpp/jid.h"

#define PROOF_MS 10000
#define PROOF_BYTES 4096
#define STALL_MS 60000
/* Enough bytes to tell a stream header from a stanza. */
#define BEGIN_CHARS 8
/* At most this is read and thrown away before closing, so that a stream error arrives. */
#define LINGER_BYTES (256 * 1024)

enum instance_state {
	INSTANCE_BEGINNING, /* no byte has told yet whether it speaks a stream or stanzas */
	INSTANCE_OPENING,   /* its stream header is awaited */
	INSTANCE_PROVING,   /* its handshake is awaited */
	INSTANCE_UP,
};

struct instance {
	struct loop *loop;
	int fd;
	struct instance_config config;
	struct instance_ops ops;
	void *context, *owner;
	enum instance_state state;
	bool bare;	       /* stanzas without a stream */
	struct reader *reader; /* until it is up */
	char begin[BEGIN_CHARS + 1];
	size_t read; /* bytes received, until it is up */
	char id[RANDOM_NAME_CHARS + 1];
	struct loop_timer timer;
	struct link *link;
	bool held;
};

static void on_readable(void *context, int fd, short revents);

/* End ----------------------------------------------------------------------- */

static void send_now(struct instance *i, const char *text)
{
	size_t n = strlen(text);

	if (i->link)
		link_send_raw(i->link, span_of(text));
	else if (send(i->fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
		err_log(ERR_INFO, "an instance does not take its stream header");
}

static void send_header(struct instance *i)
{
	struct buf out;

	buf_init(&out, BUF_NO_MAX);
	buf_printf(&out,
		"<?xml version='1.0'?><stream:stream xmlns='" NS_COMPONENT
		"' xmlns:stream='" NS_STREAM "' from='%.*s' id='%s'>",
		SPAN_ARG(i->config.domain), i->id);
	send_now(i, buf_string(&out));
	buf_free(&out);
}

static void instance_free(struct instance *i)
{
	char left[4096];
	size_t total = 0;
	ssize_t n = 1;

	loop_timer_clear(i->loop, &i->timer);
	if (i->link) {
		link_flush(i->link, 0);
		link_free(i->link);
	} else {
		loop_fd_remove(i->loop, i->fd);
	}
	shutdown(i->fd, SHUT_WR);
	while (n > 0 && total < LINGER_BYTES) {
		n = recv(i->fd, left, sizeof(left), MSG_DONTWAIT);
		total += n > 0 ? (size_t)n : 0;
	}
	close(i->fd);
	reader_free(i->reader);
	free(i);
}

/* Write the stream error and the end tag. */
static void say_end(struct instance *i, const char *condition)
{
	if (i->bare)
		return;
	if (i->state < INSTANCE_PROVING)
		send_header(i);
	if (condition) {
		char text[256];

		snprintf(text, sizeof(text),
			"<stream:error><%s xmlns='" NS_STREAM_ERRORS "'/></stream:error>",
			condition);
		send_now(i, text);
	}
	send_now(i, "</stream:stream>");
}

void instance_end(struct instance *i, const char *condition)
{
	say_end(i, condition);
	instance_free(i);
}

/* The instance itself has ended the stream. */
static void end_and_tell(struct instance *i, const char *condition)
{
	say_end(i, condition);
	i->ops.gone(i->context, i);
	instance_free(i);
}

static void refuse(struct instance *i, const char *condition, const char *why)
{
	int64_t now_ms = loop_now_ms(i->loop);

	err_log_limited(err_limit_of(i->config.refused, now_ms, why, NULL, 0), now_ms, ERR_WARNING,
		"a connection is no instance: %s", why);
	end_and_tell(i, condition);
}

/* Up ------------------------------------------------------------------------ */

static void on_stanza(void *context, const struct stanza *s)
{
	struct instance *i = context;

	i->ops.stanza(i->context, i, s);
}

static void on_bad(void *context, const char *what, size_t line)
{
	(void)context;
	err_warn("an instance, line %zu: %s", line, what);
}

static void on_ended(void *context, enum link_end why, int error, const char *text)
{
	struct instance *i = context;

	switch (why) {
	case LINK_BROKEN:
		err_warn("an instance: %s", text);
		end_and_tell(i, "not-well-formed");
		return;
	case LINK_STALLED:
		err_warn("an instance does not read what it is sent");
		end_and_tell(i, "connection-timeout");
		return;
	case LINK_EOF:
	case LINK_CLOSED:
		break;
	default:
		err_log(ERR_INFO, "an instance: %s", strerror(error));
	}
	end_and_tell(i, NULL);
}

static const struct link_ops link_ops = {.stanza = on_stanza, .bad = on_bad, .ended = on_ended};

/* The reader has read the handshake; the link takes it over. */
static void come_up(struct instance *i)
{
	struct link_config link = i->config.link;

	loop_timer_clear(i->loop, &i->timer);
	loop_fd_remove(i->loop, i->fd);
	link.reader.kind = i->bare ? READER_PIPE : READER_SOCKET;
	link.reader_ready = i->reader;
	link.stall_ms = STALL_MS;
	i->reader = NULL;
	i->state = INSTANCE_UP;
	i->link = link_new(i->loop, i->fd, i->fd, &link, &link_ops, i);
	if (!i->bare)
		send_now(i, "<handshake/>");
	i->ops.came(i->context, i);
}

/* Proof --------------------------------------------------------------------- */

static bool proof_is_right(const struct instance *i, const struct stanza *s)
{
	char right[2 * SHA1_DIGEST_SIZE + 1];
	uint8_t digest[SHA1_DIGEST_SIZE];
	struct sha1_ctx sha1;
	struct buf text;
	bool same;

	sha1_init(&sha1);
	sha1_update(&sha1, strlen(i->id), (const uint8_t *)i->id);
	sha1_update(
		&sha1, buf_length(i->config.secret), (const uint8_t *)buf_span(i->config.secret).p);
	sha1_digest(&sha1, sizeof(digest), digest);
	for (size_t at = 0; at < sizeof(digest); at++)
		snprintf(right + 2 * at, 3, "%02x", digest[at]);
	buf_init(&text, 256);
	same = s->root->children_count == 0 && xml_node_text(s->text, s->root, &text) &&
	       buf_length(&text) == sizeof(right) - 1 &&
	       memeql_sec(buf_span(&text).p, right, sizeof(right) - 1);
	buf_free(&text);
	explicit_bzero(right, sizeof(right));
	explicit_bzero(&sha1, sizeof(sha1));
	return same;
}

static bool header_is_right(const struct instance *i, const struct stanza *header)
{
	struct buf to;
	bool same;

	buf_init(&to, BUF_NO_MAX);
	if (!jid_fold(header->to, &to))
		buf_append_span(&to, header->to);
	same = span_equal(buf_span(&to), i->config.domain);
	buf_free(&to);
	return same;
}

/* False: the instance is up, or gone. */
static bool take_event(struct instance *i, enum reader_event event, const struct stanza *s)
{
	bool handshake = event == READER_STANZA && i->state == INSTANCE_PROVING &&
			 s->kind == STANZA_OTHER && span_is(s->root->name, "handshake");

	if (event == READER_MORE)
		return true;
	if (event == READER_OPEN && header_is_right(i, s)) {
		send_header(i);
		i->state = INSTANCE_PROVING;
		return true;
	}
	if (handshake && proof_is_right(i, s))
		come_up(i);
	else if (event == READER_OPEN)
		refuse(i, "host-unknown", "it asks for another domain");
	else if (event == READER_CLOSE)
		end_and_tell(i, NULL);
	else if (event == READER_BAD)
		refuse(i, "not-well-formed", reader_error(i->reader));
	else
		refuse(i, "not-authorized",
			handshake ? "its secret is wrong" : "a stanza came before the handshake");
	return false;
}

static void new_reader(struct instance *i, enum reader_kind kind)
{
	struct reader_config reader = i->config.link.reader;

	reader.kind = kind;
	i->reader = reader_new(&reader);
}

/* Take a byte of the beginning. True: it is clear whether a stream or stanzas come. */
static bool begin(struct instance *i, char c)
{
	size_t n = strlen(i->begin);

	if (n == 0 && (c == ' ' || c == '\n' || c == '\r' || c == '\t'))
		return false;
	i->begin[n] = c;
	if (strncmp(i->begin, "<?xml", n + 1) == 0 || strncmp(i->begin, "<stream:", n + 1) == 0)
		return n + 1 == 5 && c == 'l' ? true : n + 1 == BEGIN_CHARS;
	i->bare = true;
	return true;
}

/* Read byte by byte: the bytes after the handshake must be left for the link. */
static bool take_byte(struct instance *i, char c)
{
	struct stanza s;

	if (++i->read > PROOF_BYTES) {
		refuse(i, "policy-violation", "no handshake in its first 4 KiB");
		return false;
	}
	if (i->state == INSTANCE_BEGINNING) {
		if (!begin(i, c))
			return true;
		i->bare &= i->config.bare_allowed;
		i->state = INSTANCE_OPENING;
		new_reader(i, i->bare ? READER_PIPE : READER_SOCKET);
		reader_feed(i->reader, i->begin, strlen(i->begin));
		if (i->bare) {
			come_up(i);
			return false;
		}
	} else {
		reader_feed(i->reader, &c, 1);
	}
	return take_event(i, reader_next(i->reader, &s), &s);
}

static void on_readable(void *context, int fd, short revents)
{
	struct instance *i = context;
	char c;
	ssize_t n;

	(void)revents;
	do
		n = recv(fd, &c, 1, MSG_DONTWAIT);
	while (n == 1 && take_byte(i, c));
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		end_and_tell(i, NULL);
}

static void on_timeout(void *context)
{
	struct instance *i = context;

	refuse(i, "connection-timeout", "no handshake within 10 s");
}

/* ----------------------------------------------------------------------------- */

struct instance *instance_new(struct loop *loop, int fd, const struct instance_config *config,
	const struct instance_ops *ops, void *context)
{
	struct instance *i = xcalloc(1, sizeof(*i));

	i->loop = loop;
	i->fd = fd;
	i->config = *config;
	i->ops = *ops;
	i->context = context;
	random_name(&config->random, i->id);
	loop_timer_init(&i->timer, on_timeout, i);
	loop_timer_set(loop, &i->timer, loop_now_ms(loop) + PROOF_MS);
	loop_fd(loop, fd, POLLIN, on_readable, i);
	return i;
}

bool instance_is_up(const struct instance *i)
{
	return i->state == INSTANCE_UP;
}

struct writer *instance_writer(struct instance *i)
{
	return link_writer(i->link);
}

bool instance_congested(const struct instance *i)
{
	return link_congested(i->link);
}

void instance_hold(struct instance *i, bool hold)
{
	link_hold(i->link, &i->held, hold);
}

void instance_own(struct instance *i, void *owner)
{
	i->owner = owner;
}

void *instance_owner(const struct instance *i)
{
	return i->owner;
}
