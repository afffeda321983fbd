/* component.c - see component.h */
#include "server/component.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nettle/sha1.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/secret.h"
#include "base/random.h"
#include "base/io.h"

#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_COUNT 3
#define WHY_BYTES 1024
/* Read and thrown away at most, so that our stream error arrives. */
#define LINGER_BYTES (1024 * 1024)

enum state {
	STATE_WAITING, /* for the next attempt */
	STATE_RESOLVING,
	STATE_CONNECTING,
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

/* A name being looked up. Its thread ends by exchanging `owner`; who comes second frees it. */
struct lookup {
	pthread_t thread;
	char *host, *port;
	int done_fd; /* written by the thread */
	int error, error_number;
	struct addrinfo *addresses;
	atomic_int owner;
};
enum { LOOKUP_RUNNING, LOOKUP_DONE, LOOKUP_ABANDONED };

struct component {
	struct loop *loop;
	struct component_config config;
	struct component_ops ops;
	void *context;
	char *host, *port;
	struct buf secret;

	enum state state;
	struct loop_timer timer; /* of the state: its deadline, or the next attempt */
	struct lookup *lookup;
	int lookup_fd;
	struct addrinfo *addresses; /* of this attempt */
	struct addrinfo *address;   /* being connected to */
	int fd;			    /* -1: none */
	struct link *link;

	bool ever_connected, ever_up, told_cleartext, told_unknown;
	bool only_protocol; /* all failures in the row */
	int64_t up_since_ms;
	uint64_t failures; /* in a row */
	uint64_t conflicts;
	uint64_t connections, unknown;
	uint64_t late_requests; /* came after our end tag */
	int close_status;	/* what the peer says to our end tag */
	int final_status;	/* the owner's, after a stream error; 0: none */
};

static void component_connect_next(struct component *c, int error);

/* Teardown -------------------------------------------------------------------- */

static void lookup_free(struct lookup *l)
{
	if (l->addresses)
		freeaddrinfo(l->addresses);
	free(l->host);
	free(l->port);
	free(l);
}

static void lookup_abandon(struct component *c)
{
	if (!c->lookup)
		return;
	loop_fd_remove(c->loop, c->lookup_fd);
	close(c->lookup_fd);
	pthread_detach(c->lookup->thread);
	if (atomic_exchange(&c->lookup->owner, LOOKUP_ABANDONED) == LOOKUP_DONE)
		lookup_free(c->lookup);
	c->lookup = NULL;
}

static void component_disconnect(struct component *c)
{
	loop_timer_clear(c->loop, &c->timer);
	lookup_abandon(c);
	link_free(c->link);
	c->link = NULL;
	if (c->fd >= 0) {
		loop_fd_remove(c->loop, c->fd);
		close(c->fd);
		c->fd = -1;
	}
	if (c->addresses)
		freeaddrinfo(c->addresses);
	c->addresses = c->address = NULL;
}

static int64_t jittered(int64_t delay_ms)
{
	uint32_t random;

	random_bytes(&random, sizeof(random));
	return delay_ms * 3 / 4 + (int64_t)(random % (uint64_t)(delay_ms / 2 + 1));
}

/* Doubled with each time beyond the first, up to the maximum, give or take a quarter. */
static int64_t backoff_ms(int64_t first_ms, uint64_t times)
{
	int64_t delay_ms = first_ms;

	while (times-- > 1 && delay_ms < COMPONENT_BACKOFF_MAX_MS)
		delay_ms *= 2;
	if (delay_ms > COMPONENT_BACKOFF_MAX_MS)
		delay_ms = COMPONENT_BACKOFF_MAX_MS;
	return jittered(delay_ms);
}

/* What was given to a stream that is over and may not have arrived. */
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
 * last, for he may free us there. */
static void component_failed(struct component *c, enum failure failure, const char *why)
{
	bool was_up = c->state == STATE_UP;
	bool stable = was_up && loop_now_ms(c->loop) - c->up_since_ms >= COMPONENT_STABLE_MS;
	int64_t delay_ms;

	component_disconnect(c);
	c->state = STATE_WAITING;
	if (stable) {
		c->failures = 0;
		c->conflicts = 0;
	}
	if (c->failures++ == 0)
		c->only_protocol = true;
	if (failure != FAILED_PROTOCOL)
		c->only_protocol = false;
	if (failure == FAILED_DOMAIN && c->ever_up)
		failure = FAILED_CONFLICT;
	if (was_up)
		c->ops.down(c->context);
	if (c->final_status || failure == FAILED_SECRET || failure == FAILED_DOMAIN ||
		(c->config.retries >= 0 && c->failures > (uint64_t)c->config.retries)) {
		err_error("%s", why);
		c->state = STATE_OVER;
		c->ops.gave_up(
			c->context, c->final_status ? c->final_status : failure_status(c, failure));
		return;
	}
	if (failure == FAILED_CONFLICT)
		delay_ms = backoff_ms(COMPONENT_CONFLICT_BACKOFF_MS, ++c->conflicts);
	else
		delay_ms = backoff_ms(COMPONENT_BACKOFF_MIN_MS, c->failures);
	err_warn("%s; next attempt in %.1f s", why, (double)delay_ms / 1000);
	loop_timer_set(c->loop, &c->timer, loop_now_ms(c->loop) + delay_ms);
	if (c->ops.waiting)
		c->ops.waiting(c->context, why, delay_ms);
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

/* What belongs to the stream is neither counted nor measured as a stanza. */
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
	/* To close with unread bytes would be a reset, and the server might never see the error. */
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

/* Conditions (RFC 6120 4.9.3) that say that what we sent was wrong. */
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

/* RFC 6120 4.9.2 */
static void on_stream_error(struct component *c, const struct stanza *s)
{
	const struct xml_node *child;
	const struct xml_node *text = xml_child(s->root, NS_STREAM_ERRORS, "text");
	struct span condition = SPAN("undefined-condition");
	struct buf words;
	char why[WHY_BYTES];
	const char *meaning = "";
	enum failure failure = FAILED_TEMPORARY;

	log_lost_output(c);
	for (child = xml_child(s->root, NS_STREAM_ERRORS, ""); child;
		child = xml_next(child, NS_STREAM_ERRORS, "")) {
		if (!span_is(child->name, "text")) {
			condition = child->name;
			break;
		}
	}
	if (span_is(condition, "conflict")) {
		failure = FAILED_CONFLICT;
		meaning = ": the domain is taken, by another component or by the server itself";
	} else if (c->state == STATE_UP || c->state == STATE_CLOSING) {
		if (c->state == STATE_UP && c->ops.stream_error)
			c->final_status = c->ops.stream_error(c->context, condition);
		if (blames_us(condition))
			failure = FAILED_PROTOCOL;
	} else if (span_is(condition, "not-authorized")) {
		failure = FAILED_SECRET;
		meaning = ": the secret is wrong, or the server does not know the domain";
	} else if (span_is(condition, "host-unknown") || span_is(condition, "invalid-namespace") ||
		   span_is(condition, "improper-addressing")) {
		failure = FAILED_DOMAIN;
		meaning = span_is(condition, "invalid-namespace")
				  ? ": this is no component port"
				  : ": the server does not know this component";
	}
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

static void on_stanza(void *context, const struct stanza *s)
{
	struct component *c = context;

	if (s->kind == STANZA_OTHER && xml_is(s->root, NS_STREAM, "error")) {
		on_stream_error(c, s);
		return;
	}
	switch (c->state) {
	case STATE_UP:
		if (s->kind != STANZA_OTHER)
			c->ops.stanza(c->context, s);
		else
			on_unknown(c, s);
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

/* RFC 6120 4.9.3.18, 11.1 */
static const char *broken_condition(const char *text)
{
	return strcasestr(text, "DOCTYPE") || strcasestr(text, "comment") ||
			       strcasestr(text, "instruction") || strcasestr(text, "entity")
		       ? "restricted-xml"
	       : strcasestr(text, "large") ? "policy-violation"
					   : "not-well-formed";
}

static void on_ended(void *context, enum link_end why, int error, const char *text)
{
	struct component *c = context;
	const char *during = c->state == STATE_UP ? "" : " before the handshake was done";

	if (c->state == STATE_CLOSING) {
		if (why != LINK_CLOSED && c->close_status == EXIT_DONE)
			c->close_status = EXIT_TEMPORARY;
		return;
	}
	if (why != LINK_BROKEN) /* there the peer is still listening */
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
		send_stream_error(c, broken_condition(text));
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

static bool is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)address;

		return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
	}
	if (address->sa_family == AF_INET6) {
		const struct in6_addr *in6 =
			&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;

		return IN6_IS_ADDR_LOOPBACK(in6) ||
		       (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
	}
	return true;
}

/* A connection attempt to a free port of this machine may meet itself. */
static bool is_self(int fd)
{
	struct sockaddr_storage here, there;
	socklen_t here_n = sizeof(here), there_n = sizeof(there);

	memset(&here, 0, sizeof(here));
	memset(&there, 0, sizeof(there));
	return getsockname(fd, (struct sockaddr *)&here, &here_n) == 0 &&
	       getpeername(fd, (struct sockaddr *)&there, &there_n) == 0 && here_n == there_n &&
	       memcmp(&here, &there, here_n) == 0;
}

static void set_option(int fd, int level, int name, int value)
{
	/* None of them is vital. */
	(void)setsockopt(fd, level, name, &value, sizeof(value));
}

static void on_connected(struct component *c)
{
	struct writer w;

	c->ever_connected = true;
	if (!c->told_cleartext && !is_loopback(c->address->ai_addr)) {
		err_warn(
			"the stream to %s is not encrypted and leaves this machine: use stunnel or "
			"a tunnel",
			c->config.connect);
		c->told_cleartext = true;
	}
	set_option(c->fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(c->fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	set_option(c->fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	set_option(c->fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT);
	set_option(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)c->config.link.stall_ms);

	loop_fd_remove(c->loop, c->fd);
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

static void on_socket(void *context, int fd, short revents)
{
	struct component *c = context;
	int error = 0;
	socklen_t n = sizeof(error);

	(void)revents;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
		error = errno;
	if (!error && is_self(fd))
		error = ECONNREFUSED;
	if (error)
		component_connect_next(c, error);
	else
		on_connected(c);
}

/* Begin with c->address. 0 or an errno. */
static int connect_begin(struct component *c)
{
	const struct addrinfo *a = c->address;

	c->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
	if (c->fd < 0)
		return errno;
	if (connect(c->fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS)
		return errno;
	loop_fd(c->loop, c->fd, POLLOUT, on_socket, c);
	loop_timer_set(c->loop, &c->timer, loop_now_ms(c->loop) + COMPONENT_CONNECT_MS);
	return 0;
}

/* The address did not do (or, before the first, error is 0): the next one. */
static void component_connect_next(struct component *c, int error)
{
	for (;;) {
		if (error) {
			char text[NI_MAXHOST];

			if (err_shows(ERR_INFO) &&
				getnameinfo(c->address->ai_addr, c->address->ai_addrlen, text,
					sizeof(text), NULL, 0, NI_NUMERICHOST) == 0)
				err_info("%s does not connect: %s", text, strerror(error));
			if (c->fd >= 0) {
				loop_fd_remove(c->loop, c->fd);
				close(c->fd);
				c->fd = -1;
			}
			c->address = c->address->ai_next;
		}
		if (!c->address) {
			component_fail(c, FAILED_UNREACHABLE, "cannot connect to %s: %s",
				c->config.connect, strerror(error));
			return;
		}
		error = connect_begin(c);
		if (!error)
			return;
	}
}

static void component_connect(struct component *c, struct addrinfo *addresses)
{
	c->addresses = c->address = addresses;
	c->state = STATE_CONNECTING;
	component_connect_next(c, 0);
}

/* Name ------------------------------------------------------------------------ */

static int resolve(const char *host, const char *port, int flags, struct addrinfo **out)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};

	return getaddrinfo(host, port, &hints, out);
}

static void *lookup_run(void *context)
{
	struct lookup *l = context;
	int fd = l->done_fd;

	l->error = resolve(l->host, l->port, AI_ADDRCONFIG, &l->addresses);
	l->error_number = errno;
	if (atomic_exchange(&l->owner, LOOKUP_DONE) == LOOKUP_ABANDONED)
		lookup_free(l);
	close(fd); /* the end of the pipe is the message */
	return NULL;
}

static void fail_resolve(struct component *c, int error, int error_number)
{
	component_fail(c, FAILED_UNREACHABLE, "cannot find the address of '%s': %s", c->host,
		error == EAI_SYSTEM ? strerror(error_number) : gai_strerror(error));
}

static void on_lookup(void *context, int fd, short revents)
{
	struct component *c = context;
	struct lookup *l = c->lookup;
	struct addrinfo *addresses;
	int error, error_number;

	(void)revents;
	loop_fd_remove(c->loop, fd);
	close(fd);
	pthread_join(l->thread, NULL);
	addresses = l->addresses;
	error = l->error;
	error_number = l->error_number;
	l->addresses = NULL;
	lookup_free(l);
	c->lookup = NULL;
	if (error)
		fail_resolve(c, error, error_number);
	else
		component_connect(c, addresses);
}

/* getaddrinfo(3) may take half a minute over a dead name server, and the loop cannot wait. */
static void lookup_start(struct component *c)
{
	struct lookup *l;
	sigset_t all, before;
	int fds[2], error;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		fail_resolve(c, EAI_SYSTEM, errno);
		return;
	}
	l = xcalloc(1, sizeof(*l));
	l->host = xstrdup(c->host);
	l->port = xstrdup(c->port);
	l->done_fd = fds[1];
	atomic_init(&l->owner, LOOKUP_RUNNING);
	sigfillset(&all); /* signals are for the loop's thread */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&l->thread, NULL, lookup_run, l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error) {
		close(fds[0]);
		close(fds[1]);
		lookup_free(l);
		fail_resolve(c, EAI_SYSTEM, error);
		return;
	}
	c->lookup = l;
	c->lookup_fd = fds[0];
	c->state = STATE_RESOLVING;
	loop_fd(c->loop, fds[0], POLLIN, on_lookup, c);
}

static void component_start(struct component *c)
{
	struct addrinfo *addresses;

	err_debug("connecting to %s", c->config.connect);
	if (resolve(c->host, c->port, AI_NUMERICHOST, &addresses) == 0)
		component_connect(c, addresses);
	else
		lookup_start(c);
}

static void on_timer(void *context, int64_t now_ms)
{
	struct component *c = context;

	(void)now_ms;
	switch (c->state) {
	case STATE_WAITING:
		component_start(c);
		return;
	case STATE_CONNECTING:
		component_connect_next(c, ETIMEDOUT);
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
	buf_init(&c->secret, SECRET_MAX_BYTES);
	loop_timer_init(&c->timer, on_timer, c);
	c->config.link.reader.kind = READER_SOCKET;
	if (!c->config.link.stall_ms)
		c->config.link.stall_ms = COMPONENT_STALL_MS;
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
	/* Not now: nobody expects to be called before he has what we return. */
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
	link_send_raw(c->link, SPAN("</stream:stream>"));
	c->state = STATE_CLOSING;
	c->close_status = EXIT_DONE;
}

int component_close(struct component *c, int64_t deadline_ms)
{
	bool ended = false;

	component_goodbye(c);
	if (c->link && c->state != STATE_CLOSING) { /* nothing was said that one could wait for */
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

void component_reopen(struct component *c)
{
	c->config.retries = 0;
	c->failures = 0;
	c->late_requests = 0;
	c->state = STATE_WAITING;
	loop_timer_set(c->loop, &c->timer, 0);
}

bool component_reload(struct component *c)
{
	struct buf fresh;
	bool ok;

	/* What came from a descriptor has been read to its end. */
	if (c->config.secret.fd >= 0)
		return true;
	buf_init(&fresh, SECRET_MAX_BYTES);
	ok = secret_read(&c->config.secret, "component secret", &fresh) == EXIT_DONE;
	if (ok) {
		secret_trim(&fresh);
		secret_wipe(&c->secret);
		c->secret = fresh;
	} else {
		secret_wipe(&fresh);
	}
	return ok;
}
