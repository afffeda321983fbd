/* component.c - see component.h */
#include "server/component.h"

#include <nettle/sha1.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/random.h"
#include "base/io.h"
#include "loop/dial.h"
#include "server/roundtrip.h"

#define WHY_BYTES 1024
/* The longest backoff for a server on this machine, before jitter. */
#define LOOPBACK_BACKOFF_MS 4000
/* So much input is read and discarded at most, so that our stream error arrives. */
#define LINGER_BYTES (1024 * 1024)

enum state {
	STATE_WAITING, /* for the next attempt */
	STATE_DIALING,
	STATE_OPENING,	      /* our stream header is sent */
	STATE_AUTHENTICATING, /* our handshake is sent */
	STATE_UP,
	STATE_CLOSING, /* our end tag is sent */
	STATE_OVER,
};

enum failure {
	FAILED_UNREACHABLE, /* no connection */
	FAILED_TEMPORARY,
	FAILED_PROTOCOL, /* the peer broke it */
	FAILED_CONFLICT,
	FAILED_SECRET,
	FAILED_DOMAIN,
};

struct component {
	struct loop *loop;
	struct component_config config;
	struct component_ops ops;
	void *context;
	char *host, *port;
	struct buf secret;

	enum state state;
	struct loop_timer timer; /* when the state ends, or when the next attempt begins */
	struct dial *dial;	 /* while connecting */
	int fd;			 /* -1: none */
	struct link *link;

	bool ever_connected, ever_up, told_cleartext, told_unknown;
	bool loopback;	    /* where the last attempt went to */
	bool only_protocol; /* failures in a row of all kinds */
	int64_t up_since_ms;
	struct backoff failures, conflicts;
	uint64_t connections, unknown;
	struct roundtrip ping;
	unsigned pings; /* how many in a row had no answer */
	int64_t pinged_ms;
	struct loop_timer life;
	uint64_t late_requests; /* it came after our end tag */
	int close_status;	/* a stream error that answers our end tag */
	int final_status;	/* what the owner answered to a stream error; 0: nothing */
};

/* Teardown -------------------------------------------------------------------- */

static void component_disconnect(struct component *c)
{
	loop_timer_clear(c->loop, &c->timer);
	loop_timer_clear(c->loop, &c->life);
	dial_cancel(c->dial);
	c->dial = NULL;
	link_free(c->link);
	c->link = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static int64_t jittered(int64_t delay_ms)
{
	uint32_t random;

	random_bytes(&random, sizeof(random));
	return delay_ms * 3 / 4 + (int64_t)(random % (uint64_t)(delay_ms / 2 + 1));
}

/* Before the next attempt. */
static int64_t failure_delay_ms(struct component *c, enum failure failure)
{
	int64_t delay_ms = backoff_next_ms(&c->failures);

	if (failure == FAILED_CONFLICT)
		delay_ms = backoff_next_ms(&c->conflicts);
	else if (c->loopback && delay_ms > LOOPBACK_BACKOFF_MS)
		delay_ms = LOOPBACK_BACKOFF_MS;
	return jittered(delay_ms);
}

/* Log how many bytes of the lost stream may not have arrived. */
static void log_lost_output(const struct component *c)
{
	size_t lost = c->link ? link_queued_bytes(c->link) : 0;
	int unsent = 0;

	if (c->state != STATE_UP && c->state != STATE_CLOSING)
		return;
	if (c->fd >= 0 && ioctl(c->fd, SIOCOUTQ, &unsent) == 0 && unsent > 0)
		lost += (size_t)unsent;
	if (lost > 0)
		err_warn("%zu bytes of output were lost with the stream", lost);
}

static int failure_status(const struct component *c, enum failure failure)
{
	if (failure == FAILED_SECRET)
		return EXIT_DENIED;
	if (failure == FAILED_DOMAIN)
		return EXIT_CONFIG;
	if (c->only_protocol)
		return EXIT_PROTOCOL;
	return c->ever_connected || c->config.retries == 0 ? EXIT_TEMPORARY : EXIT_UNAVAILABLE;
}

/* This attempt, or the stream, is over: wait for the next, or give up. Calls the owner's gave_up
 * last, because the owner may free the component there. */
static void component_failed(struct component *c, enum failure failure, const char *why)
{
	bool was_up = c->state == STATE_UP;
	bool stable = was_up && loop_now_ms(c->loop) - c->up_since_ms >= COMPONENT_STABLE_MS;
	int64_t delay_ms;

	component_disconnect(c);
	c->state = STATE_WAITING;
	if (stable) {
		c->failures.times = 0;
		c->conflicts.times = 0;
	}
	if (c->failures.times == 0)
		c->only_protocol = true;
	if (failure != FAILED_PROTOCOL)
		c->only_protocol = false;
	if (failure == FAILED_DOMAIN && c->ever_up)
		failure = FAILED_CONFLICT;
	delay_ms = failure_delay_ms(c, failure);
	if (was_up && c->ops.down)
		c->ops.down(c->context);
	if (c->final_status || failure == FAILED_SECRET || failure == FAILED_DOMAIN ||
		(c->config.retries >= 0 && c->failures.times > (uint64_t)c->config.retries)) {
		err_error("%s", why);
		c->state = STATE_OVER;
		c->ops.gave_up(
			c->context, c->final_status ? c->final_status : failure_status(c, failure));
		return;
	}
	err_warn("%s; next attempt in %.1f s", why, (double)delay_ms / 1000);
	loop_timer_set(c->loop, &c->timer, loop_now_ms(c->loop) + delay_ms);
	if (c->ops.waiting)
		c->ops.waiting(c->context, why);
}

__attribute__((format(printf, 3, 4))) static void component_fail(
	struct component *c, enum failure failure, const char *format, ...)
{
	char why[WHY_BYTES];
	va_list ap;

	va_start(ap, format);
	vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	component_failed(c, failure, why);
}

/* Stream ---------------------------------------------------------------------- */

/* Headers and end tags of the stream do not count as stanzas. */
static struct writer stream_writer(struct component *c)
{
	struct writer w;

	writer_init(&w, link_writer(c->link)->out, WRITER_SOCKET, 0);
	writer_begin(&w);
	return w;
}

static void send_stream_error(struct component *c, const char *condition)
{
	struct writer w = stream_writer(c);

	writer_raw(&w, "<stream:error><");
	writer_raw(&w, condition);
	writer_raw(&w, " xmlns='" NS_STREAM_ERRORS "'/></stream:error></stream:stream>");
	writer_end(&w);
	link_flush(c->link, 0);
	/* Read what is there before closing: with unread bytes the kernel would send a reset, and
	 * the server might never see the error. */
	shutdown(c->fd, SHUT_WR);
	for (size_t left = LINGER_BYTES; left > 0;) {
		char bytes[16384];
		ssize_t n = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (n <= 0)
			break;
		left -= (size_t)n < left ? (size_t)n : left;
	}
}

/* XEP-0114 3: lowercase hex of SHA-1 over the stream id and the secret. */
static void send_handshake(struct component *c, struct span id)
{
	struct sha1_ctx sha1;
	uint8_t digest[SHA1_DIGEST_SIZE];
	char hex[2 * SHA1_DIGEST_SIZE + 1];
	struct writer w = stream_writer(c);

	sha1_init(&sha1);
	sha1_update(&sha1, id.n, (const uint8_t *)id.p);
	sha1_update(&sha1, buf_length(&c->secret), (const uint8_t *)buf_span(&c->secret).p);
	sha1_digest(&sha1, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	writer_raw(&w, "<handshake>");
	writer_raw(&w, hex);
	writer_raw(&w, "</handshake>");
	writer_end(&w);
	explicit_bzero(&sha1, sizeof(sha1));
}

static void on_opened(void *context, const struct stanza *header)
{
	struct component *c = context;

	if (c->state != STATE_OPENING)
		return;
	/* Prosody gives no id with a domain it does not know: the error comes next. */
	if (header->id.n == 0)
		return;
	send_handshake(c, header->id);
	c->state = STATE_AUTHENTICATING;
}

/* Whether the condition (RFC 6120 4.9.3) says that we sent something wrong. */
static bool blames_us(struct span condition)
{
	static const char *const conditions[] = {"bad-format", "bad-namespace-prefix",
		"improper-addressing", "invalid-from", "invalid-namespace", "invalid-xml",
		"not-well-formed", "policy-violation", "restricted-xml", "unsupported-feature",
		"unsupported-stanza-type", "xml-not-well-formed"};

	for (size_t i = 0; i < sizeof(conditions) / sizeof(*conditions); i++)
		if (span_is(condition, conditions[i]))
			return true;
	return false;
}

static struct span condition_of(const struct stanza *s)
{
	const struct xml_node *child = xml_child(s->root, NS_STREAM_ERRORS, "");

	while (child && span_is(child->name, "text"))
		child = xml_next(child, NS_STREAM_ERRORS, "");
	return child ? child->name : SPAN("undefined-condition");
}

/* What a stream error means for us, and in words, if these say more than the condition. */
static enum failure judge(struct component *c, struct span condition, const char **meaning)
{
	*meaning = "";
	if (span_is(condition, "conflict")) {
		*meaning = ": the domain is taken, by another component or by the server itself "
			   "(a program in the shell wants a domain of its own)";
		return FAILED_CONFLICT;
	}
	if (c->state == STATE_UP || c->state == STATE_CLOSING)
		return blames_us(condition) ? FAILED_PROTOCOL : FAILED_TEMPORARY;
	if (span_is(condition, "not-authorized")) {
		*meaning = ": the secret is wrong, or the server does not know the domain";
		return FAILED_SECRET;
	}
	if (span_is(condition, "invalid-namespace")) {
		*meaning = ": this is no component port";
		return FAILED_DOMAIN;
	}
	if (span_is(condition, "host-unknown") || span_is(condition, "improper-addressing")) {
		*meaning = ": the server does not know this component";
		return FAILED_DOMAIN;
	}
	return FAILED_TEMPORARY;
}

/* RFC 6120 4.9.2 */
static void on_stream_error(struct component *c, const struct stanza *s)
{
	const struct xml_node *text = xml_child(s->root, NS_STREAM_ERRORS, "text");
	struct span condition = condition_of(s);
	struct buf words;
	char why[WHY_BYTES];
	const char *meaning;
	enum failure failure = judge(c, condition, &meaning);

	log_lost_output(c);
	if (c->state == STATE_UP && failure != FAILED_CONFLICT && c->ops.stream_error)
		c->final_status = c->ops.stream_error(c->context, condition);
	buf_init(&words, WHY_BYTES / 2);
	if (text)
		xml_node_text(s->text, text, &words);
	snprintf(why, sizeof(why), "stream error %.*s for %s%s%s%s%s", SPAN_ARG(condition),
		c->config.domain, meaning, buf_length(&words) ? " (" : "", buf_string(&words),
		buf_length(&words) ? ")" : "");
	buf_free(&words);
	if (c->state == STATE_CLOSING) {
		err_error("%s", why);
		c->close_status = failure == FAILED_PROTOCOL ? EXIT_PROTOCOL : EXIT_TEMPORARY;
	} else {
		component_failed(c, failure, why);
	}
}

/* Life ------------------------------------------------------------------------ */

static int64_t earlier(int64_t a_ms, int64_t b_ms)
{
	return a_ms < b_ms ? a_ms : b_ms;
}

/* When the next ping is due if nothing more is read. */
static int64_t ping_due_ms(struct component *c)
{
	int64_t wait_ms = c->config.ping_interval_ms,
		heard_ms = source_heard_ms(link_source(c->link));

	if (!wait_ms)
		return DEADLINE_NEVER;
	if (heard_ms >= c->pinged_ms)
		c->pings = 0;
	if (c->pings == 0)
		return heard_ms + wait_ms;
	return c->pinged_ms + earlier(wait_ms, COMPONENT_PING_ANSWER_MS);
}

static void on_life(void *context)
{
	struct component *c = context;
	int64_t now_ms = loop_now_ms(c->loop);
	struct span address =
		span_of(c->config.ping_address ? c->config.ping_address : c->config.domain);

	if (ping_due_ms(c) <= now_ms) {
		if (c->pings == 2) {
			log_lost_output(c);
			component_fail(c, FAILED_TEMPORARY, "%s does not answer pings any more",
				c->config.connect);
			return;
		}
		c->pings++;
		c->pinged_ms = now_ms;
		roundtrip_send(&c->ping, address, address, link_writer(c->link));
	} else if (sink_written_ms(link_sink(c->link)) + c->config.space_ms <= now_ms &&
		   link_queued_bytes(c->link) == 0) {
		link_send_raw(c->link, SPAN(" "));
	}
	/* the time for an answer runs from the moment the ping was written */
	loop_timer_set(c->loop, &c->life,
		earlier(ping_due_ms(c),
			link_queued_bytes(c->link)
				? now_ms + c->config.space_ms
				: sink_written_ms(link_sink(c->link)) + c->config.space_ms));
}

static bool is_handshake(const struct stanza *s)
{
	return s->kind == STANZA_OTHER && span_is(s->root->name, "handshake") &&
	       xml_is_stanza_ns(s->root->ns);
}

static void on_up(struct component *c)
{
	loop_timer_clear(c->loop, &c->timer);
	c->state = STATE_UP;
	c->ever_up = true;
	c->up_since_ms = loop_now_ms(c->loop);
	c->connections++;
	c->pings = 0;
	c->pinged_ms = 0;
	loop_timer_set(c->loop, &c->life, 0);
	err_info("connected to %s as %s", c->config.connect, c->config.domain);
	c->ops.up(c->context);
}

static void on_unknown(struct component *c, const struct stanza *s)
{
	c->unknown++;
	err_log(c->told_unknown ? ERR_DEBUG : ERR_NOTICE, "unknown element '%.*s' ignored",
		SPAN_ARG(s->root->name));
	c->told_unknown = true;
}

/* A stanza without `to` is to the domain: an answer to it must have a `from`, or the server ends
 * the stream. */
static void give_stanza(struct component *c, const struct stanza *s)
{
	struct stanza addressed = *s;

	if (!s->to.p)
		addressed.to = span_of(c->config.domain);
	if (c->ops.stanza)
		c->ops.stanza(c->context, &addressed);
}

static bool is_domain(const struct component *c, struct span jid)
{
	return jid.n == strlen(c->config.domain) &&
	       strncasecmp(jid.p, c->config.domain, jid.n) == 0;
}

static bool is_own_leaving(const struct component *c, const struct stanza *s)
{
	return s->kind == STANZA_PRESENCE && s->type == TYPE_UNAVAILABLE && is_domain(c, s->from) &&
	       is_domain(c, s->to);
}

static void on_stanza(void *context, const struct stanza *s)
{
	struct component *c = context;

	if (s->kind == STANZA_OTHER && xml_is(s->root, NS_STREAM, "error")) {
		on_stream_error(c, s);
		return;
	}
	if (roundtrip_take(&c->ping, s) || is_own_leaving(c, s))
		return;
	switch (c->state) {
	case STATE_UP:
		if (s->kind == STANZA_OTHER)
			on_unknown(c, s);
		else
			give_stanza(c, s);
		return;
	case STATE_AUTHENTICATING:
		if (is_handshake(s))
			on_up(c);
		else if (!xml_is(s->root, NS_STREAM, "features"))
			on_unknown(c, s);
		return;
	case STATE_CLOSING:
		if (s->kind != STANZA_OTHER && !(c->ops.late && c->ops.late(c->context, s)))
			c->late_requests += stanza_is_request(s);
		return;
	default:
		return;
	}
}

static void on_ended(void *context, enum link_end why, int error, const char *text)
{
	static const char *const conditions[] = {
		[FAULT_NOT_WELL_FORMED] = "not-well-formed",
		[FAULT_RESTRICTED] = "restricted-xml",
		[FAULT_TOO_LARGE] = "policy-violation",
	};
	struct component *c = context;
	const char *during = c->state == STATE_UP ? "" : " before the handshake was done";

	if (c->state == STATE_CLOSING) {
		if (why != LINK_CLOSED && c->close_status == EXIT_DONE)
			c->close_status = EXIT_TEMPORARY;
		return;
	}
	if (why != LINK_BROKEN) /* the peer may still read then */
		log_lost_output(c);
	switch (why) {
	case LINK_EOF:
		component_fail(c, FAILED_TEMPORARY, "%s closed the connection%s", c->config.connect,
			during);
		return;
	case LINK_CLOSED:
		link_send_raw(c->link, SPAN("</stream:stream>"));
		link_flush(c->link, 0);
		component_fail(
			c, FAILED_TEMPORARY, "%s ended the stream%s", c->config.connect, during);
		return;
	case LINK_BROKEN:
		send_stream_error(c, conditions[source_fault(link_source(c->link))]);
		component_fail(c, FAILED_PROTOCOL, "%s sent what is not XMPP: %s",
			c->config.connect, text);
		return;
	case LINK_READ_ERROR:
	case LINK_WRITE_ERROR:
		component_fail(c, FAILED_TEMPORARY, "the connection to %s was lost%s: %s",
			c->config.connect, during, strerror(error));
		return;
	case LINK_STALLED:
		component_fail(c, FAILED_TEMPORARY, "%s has stopped reading", c->config.connect);
		return;
	}
}

static const struct link_ops link_ops = {
	.opened = on_opened,
	.stanza = on_stanza,
	.ended = on_ended,
};

/* Connection ------------------------------------------------------------------ */

static void on_connected(void *context, int fd, bool loopback)
{
	struct component *c = context;
	struct writer w;

	c->dial = NULL;
	c->fd = fd;
	c->loopback = loopback;
	c->ever_connected = true;
	if (!c->told_cleartext && !loopback) {
		err_warn(
			"the stream to %s is not encrypted and leaves this machine: use stunnel or "
			"a tunnel",
			c->config.connect);
		c->told_cleartext = true;
	}
	dial_tune(fd, c->config.link.stall_ms);
	c->link = link_new(c->loop, c->fd, c->fd, &c->config.link, &link_ops, c);
	w = stream_writer(c);
	writer_raw(&w, "<?xml version='1.0'?><stream:stream xmlns='" NS_COMPONENT
		       "' xmlns:stream='" NS_STREAM "'");
	writer_attribute(&w, "to", span_of(c->config.domain));
	writer_raw(&w, ">");
	writer_end(&w);
	c->state = STATE_OPENING;
	loop_timer_set(c->loop, &c->timer, loop_now_ms(c->loop) + COMPONENT_HANDSHAKE_MS);
}

static void on_not_connected(void *context, const char *why, bool loopback)
{
	struct component *c = context;

	c->dial = NULL;
	c->loopback = loopback;
	component_failed(c, FAILED_UNREACHABLE, why);
}

static void component_start(struct component *c)
{
	static const struct dial_ops dial_ops = {
		.connected = on_connected, .failed = on_not_connected};

	err_debug("connecting to %s", c->config.connect);
	c->state = STATE_DIALING;
	c->dial = dial_start(c->loop, c->host, c->port, &dial_ops, c);
}

static void on_timer(void *context)
{
	struct component *c = context;

	switch (c->state) {
	case STATE_WAITING:
		component_start(c);
		return;
	case STATE_OPENING:
		component_fail(c, FAILED_TEMPORARY, "%s did not open a component stream in time",
			c->config.connect);
		return;
	case STATE_AUTHENTICATING:
		component_fail(c, FAILED_TEMPORARY, "%s did not answer the handshake in time",
			c->config.connect);
		return;
	default:
		return;
	}
}

/* Interface ------------------------------------------------------------------- */

struct component *component_new(struct loop *loop, const struct component_config *config,
	const struct component_ops *ops, void *context, int *status)
{
	struct component *c = xcalloc(1, sizeof(*c));

	c->loop = loop;
	c->config = *config;
	c->ops = *ops;
	c->context = context;
	c->fd = -1;
	c->failures = (struct backoff){COMPONENT_BACKOFF_MIN_MS, COMPONENT_BACKOFF_MAX_MS, 0};
	c->conflicts = (struct backoff){COMPONENT_CONFLICT_BACKOFF_MS, COMPONENT_BACKOFF_MAX_MS, 0};
	buf_init(&c->secret, SECRET_MAX_BYTES);
	loop_timer_init(&c->timer, on_timer, c);
	loop_timer_init(&c->life, on_life, c);
	roundtrip_init(&c->ping);
	c->config.link.reader.kind = READER_SOCKET;
	if (!c->config.link.stall_ms)
		c->config.link.stall_ms = COMPONENT_STALL_MS;
	if (!c->config.space_ms)
		c->config.space_ms = COMPONENT_SPACE_MS;
	*status = EXIT_USAGE;
	if (!config->domain || !*config->domain) {
		err_error("a component needs its --domain");
		goto fail;
	}
	if (!io_split_host_port(config->connect, &c->host, &c->port)) {
		err_error("'%s' is not HOST:PORT", config->connect);
		goto fail;
	}
	if (!c->host)
		c->host = xstrdup("127.0.0.1");
	*status = secret_read(&config->secret, "component secret", &c->secret);
	if (*status != EXIT_DONE)
		goto fail;
	secret_trim(&c->secret);
	/* Not at once: the owner does not expect a callback before this function has returned. */
	loop_timer_set(loop, &c->timer, loop_now_ms(loop));
	return c;
fail:
	component_free(c);
	return NULL;
}

void component_free(struct component *c)
{
	if (!c)
		return;
	component_disconnect(c);
	secret_wipe(&c->secret);
	free(c->host);
	free(c->port);
	free(c);
}

struct writer *component_writer(struct component *c)
{
	return c->state == STATE_UP ? link_writer(c->link) : NULL;
}

struct link *component_link(struct component *c)
{
	return c->state == STATE_UP ? c->link : NULL;
}

bool component_reached(const struct component *c)
{
	return c->ever_connected;
}

uint64_t component_connections(const struct component *c)
{
	return c->connections;
}

uint64_t component_unknown(const struct component *c)
{
	return c->unknown;
}

void component_goodbye(struct component *c)
{
	if (c->state != STATE_UP)
		return;
	loop_timer_clear(c->loop, &c->life);
	link_send_raw(c->link, SPAN("</stream:stream>"));
	c->state = STATE_CLOSING;
	c->close_status = EXIT_DONE;
}

int component_close(struct component *c, int64_t deadline_ms)
{
	bool ended = false;

	component_goodbye(c);
	if (c->link &&
		c->state != STATE_CLOSING) { /* nothing was sent, so there is nothing to wait for */
		link_send_raw(c->link, SPAN("</stream:stream>"));
		link_flush(c->link, 0);
	} else if (c->link) {
		if (link_flush(c->link, deadline_ms))
			ended = link_wait_end(c->link, deadline_ms);
		else
			log_lost_output(c);
		if (c->late_requests)
			err_warn("%llu requests came after the end of the stream and got no answer",
				(unsigned long long)c->late_requests);
	}
	component_disconnect(c);
	c->state = STATE_OVER;
	return ended || c->close_status != EXIT_DONE ? c->close_status : EXIT_TEMPORARY;
}

void component_leaving(struct component *c)
{
	struct span domain = span_of(c->config.domain);
	struct writer w;

	if (c->state != STATE_UP)
		return;
	w = stream_writer(c);
	writer_start(&w, "presence", "unavailable", SPAN_NONE, domain, domain);
	writer_raw(&w, "/>");
	writer_end(&w);
}

void component_reopen(struct component *c, const struct component_ops *ops, void *context)
{
	c->ops = *ops;
	c->context = context;
	c->config.retries = 0;
	c->failures.times = 0;
	c->late_requests = 0;
	c->state = STATE_WAITING;
	loop_timer_set(c->loop, &c->timer, 0);
}

bool component_reload(struct component *c)
{
	struct buf fresh;
	bool ok;

	if (secret_once(&c->config.secret))
		return true;
	buf_init(&fresh, SECRET_MAX_BYTES);
	ok = secret_read_again(&c->config.secret, "component secret", &fresh) == EXIT_DONE;
	if (ok) {
		secret_trim(&fresh);
		secret_wipe(&c->secret);
		c->secret = fresh;
	} else {
		secret_wipe(&fresh);
	}
	return ok;
}
