#include "server/client.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <strophe.h>

#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "base/secret.h"
#include "base/io.h"

/* What the library writes at once over TLS: one record. */
#define CHUNK_BYTES 16384
/* The library reads 4 KiB a call; a TLS record it has decrypted may hold four times that, and
 * nothing in its interface tells. So many calls without a sign on the socket and all is read. */
#define QUIET_RUNS 6
/* Calls in one turn, before others get theirs. */
#define RUNS_PER_TURN 256
#define LOGIN_TICK_MS 200
#define SEND_TICK_MS 250
#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_INTERVAL_S 15
#define KEEPALIVE_COUNT 4
/* The library frees and prints its tree by recursion: room for what servers let through. */
#define STACK_BYTES (256UL * 1024 * 1024)
#define MAX_SERIALISED_BYTES ((size_t)256 * 1024 * 1024)

struct quirks {
	bool prefixes_dropped; /* p:a='' overwrites a='' */
	bool lang_bare;	       /* xml:lang is kept as "lang" */
};

/* Cuts the connection when the library blocks in a handshake past the deadline. */
struct watchdog {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int fd; /* -1: none */
	bool running, stop;
	int64_t deadline_ms;
};

struct client {
	struct loop *loop;
	struct client_ops ops;
	void *context;
	enum client_tls tls;
	char *jid, *domain;
	char *connect;	  /* as it was given; NULL: SRV */
	char **addresses; /* numeric, to be tried in turn; one NULL with SRV */
	size_t addresses_count, address;
	unsigned short port;
	int64_t deadline_ms; /* of the login */

	xmpp_log_t log;
	xmpp_ctx_t *ctx;
	xmpp_conn_t *conn;
	struct quirks quirks;
	int fd;		   /* -1: none */
	bool established;  /* TCP */
	bool disconnected; /* reported by the library; looked at after it returned */
	bool in_order;	   /* it ended with </stream:stream> */
	bool broken;	   /* the peer has sent what is not XML */
	bool up, closing, gone;
	bool first; /* no stanza seen since the login */
	uint64_t handed_over;
	int paused;

	/* what was seen of the login, to say what was wrong with it */
	bool features, proceed;
	char sasl_failure[64], bind_failure[64], stream_error[64], stream_error_text[128];
	char library_says[160];
	int connect_errno;

	struct buf out; /* what the library does not have yet */
	struct writer writer;
	bool unsent; /* the library may hold bytes */
	struct loop_timer tick;
	struct reader *reader;
	struct buf xml; /* one stanza, printed */
	struct watchdog watchdog;
	char *saved_cert_file, *saved_cert_dir;
	bool environment_changed;
};

/* The library's socket and certificate callbacks carry no context of ours: the client whose call
 * into the library is under way. */
static struct client *calling;

/* --- what the installed library does */

static bool quirk_attribute(xmpp_ctx_t *ctx, const char *xml, const char *name, const char *is)
{
	xmpp_stanza_t *s = xmpp_stanza_new_from_string(ctx, xml);
	const char *value = s ? xmpp_stanza_get_attribute(s, name) : NULL;
	bool found = value && strcmp(value, is) == 0;

	if (s)
		xmpp_stanza_release(s);
	return found;
}

static struct quirks quirks_find(xmpp_ctx_t *ctx)
{
	return (struct quirks){
		.prefixes_dropped = quirk_attribute(
			ctx, "<a xmlns:p='urn:p' b='plain' p:b='other'/>", "b", "other"),
		.lang_bare = quirk_attribute(ctx, "<a xml:lang='en'/>", "lang", "en"),
	};
}

/* --- the library's tree to bytes: no recursion, no loss beyond the library's own */

static bool print_attributes(struct buf *out, xmpp_stanza_t *node, bool lang_bare)
{
	int count = xmpp_stanza_get_attribute_count(node);
	const char **pairs;
	bool fits = true;
	int i;

	if (count <= 0)
		return true;
	pairs = xcalloc((size_t)count * 2, sizeof(*pairs));
	count = xmpp_stanza_get_attributes(node, pairs, count * 2);
	for (i = 0; fits && i + 1 < count; i += 2) {
		const char *name = pairs[i];

		if (strcmp(name, "xmlns") == 0) /* where the library keeps the namespace */
			continue;
		if (lang_bare && strcmp(name, "lang") == 0)
			name = "xml:lang";
		fits = buf_append_char(out, ' ') && buf_append_string(out, name) &&
		       buf_append_string(out, "='") &&
		       xml_escape_attribute(out, span_of(pairs[i + 1])) &&
		       buf_append_char(out, '\'');
	}
	free(pairs);
	return fits;
}

static bool in_xml_namespace(const char *ns)
{
	return strcmp(ns, NS_XML) == 0; /* cannot be declared, has its prefix always */
}

static bool print_tag(
	struct buf *out, xmpp_stanza_t *node, const char *ns, const char *outer_ns, bool lang_bare)
{
	if (in_xml_namespace(ns))
		return buf_append_string(out, "<xml:") &&
		       buf_append_string(out, xmpp_stanza_get_name(node)) &&
		       print_attributes(out, node, lang_bare);
	if (!buf_append_char(out, '<') || !buf_append_string(out, xmpp_stanza_get_name(node)))
		return false;
	if (strcmp(ns, outer_ns) != 0 &&
		!(buf_append_string(out, " xmlns='") && xml_escape_attribute(out, span_of(ns)) &&
			buf_append_char(out, '\'')))
		return false;
	return print_attributes(out, node, lang_bare);
}

struct print_level {
	xmpp_stanza_t *node;
	const char *ns, *default_ns;
};

static bool print_end(struct buf *out, const struct print_level *level)
{
	return buf_append_string(out, in_xml_namespace(level->ns) ? "</xml:" : "</") &&
	       buf_append_string(out, xmpp_stanza_get_name(level->node)) &&
	       buf_append_char(out, '>');
}

static bool print_stanza(struct buf *out, xmpp_stanza_t *root, bool lang_bare)
{
	struct print_level *open = NULL; /* the elements whose end tag is to come */
	size_t depth = 0, room = 0;
	xmpp_stanza_t *node = root;
	bool fits = true;

	while (fits) {
		const char *outer = depth ? open[depth - 1].default_ns : "";

		if (xmpp_stanza_is_text(node)) {
			fits = xml_escape_text(out, span_of(xmpp_stanza_get_text_ptr(node)));
		} else {
			const char *ns = xmpp_stanza_get_ns(node);

			ns = ns ? ns : "";
			fits = print_tag(out, node, ns, outer, lang_bare);
			if (fits && xmpp_stanza_get_children(node)) {
				if (depth == room) {
					room = room ? 2 * room : 64;
					open = xrealloc(open, room * sizeof(*open));
				}
				open[depth++] = (struct print_level){
					node, ns, in_xml_namespace(ns) ? outer : ns};
				fits = buf_append_char(out, '>');
				node = xmpp_stanza_get_children(node);
				continue;
			}
			fits = fits && buf_append_string(out, "/>");
		}
		while (fits && depth > 0 && !xmpp_stanza_get_next(node)) {
			fits = print_end(out, &open[--depth]);
			node = open[depth].node;
		}
		if (depth == 0)
			break;
		node = xmpp_stanza_get_next(node);
	}
	free(open);
	return fits;
}

/* --- the thread that cuts */

static void *watchdog_main(void *argument)
{
	struct watchdog *w = argument;
	struct timespec until = {.tv_sec = (time_t)(w->deadline_ms / 1000),
		.tv_nsec = (long)(w->deadline_ms % 1000) * 1000000};
	int error = 0;

	pthread_mutex_lock(&w->lock);
	while (!w->stop && error == 0)
		error = pthread_cond_timedwait(&w->changed, &w->lock, &until);
	if (!w->stop && w->fd >= 0)
		shutdown(w->fd, SHUT_RDWR);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void watchdog_start(struct watchdog *w, int64_t deadline_ms)
{
	pthread_condattr_t attributes;
	sigset_t all, before;

	w->fd = -1;
	w->deadline_ms = deadline_ms;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	sigfillset(&all); /* signals are for the loop's thread */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	w->running = pthread_create(&w->thread, NULL, watchdog_main, w) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!w->running)
		err_warn("cannot start a thread: a peer that stalls in the TLS handshake is not "
			 "cut");
}

static void watchdog_fd(struct watchdog *w, int fd)
{
	pthread_mutex_lock(&w->lock);
	w->fd = fd;
	pthread_mutex_unlock(&w->lock);
}

static void watchdog_stop(struct watchdog *w)
{
	if (!w->running)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	w->running = false;
}

/* --- the trusted certificates: FILE instead of the system's, not beside them. The library
 * always loads OpenSSL's default ones; these variables say where they are. */

static char *copy_or_null(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

static void trust_only(struct client *c, const char *file)
{
	c->saved_cert_file = copy_or_null(getenv("SSL_CERT_FILE"));
	c->saved_cert_dir = copy_or_null(getenv("SSL_CERT_DIR"));
	c->environment_changed = true;
	setenv("SSL_CERT_FILE", file, 1);
	setenv("SSL_CERT_DIR", "/dev/null", 1);
}

static void restore_variable(const char *name, char **saved)
{
	if (*saved)
		setenv(name, *saved, 1);
	else
		unsetenv(name);
	free(*saved);
	*saved = NULL;
}

static void trust_restore(struct client *c)
{
	if (!c->environment_changed)
		return;
	restore_variable("SSL_CERT_FILE", &c->saved_cert_file);
	restore_variable("SSL_CERT_DIR", &c->saved_cert_dir);
	c->environment_changed = false;
}

static int certificate_refused(const xmpp_tlscert_t *certificate, const char *const reason)
{
	const char *subject = xmpp_tlscert_get_string(certificate, XMPP_CERT_SUBJECT);

	err_error("certificate '%s' refused for %s: %s", subject ? subject : "?",
		calling ? calling->domain : "?", reason ? reason : "not valid");
	return 0;
}

/* --- what the library tells on the way to the login. Its own log is the only place where it
 * shows why a login failed; what we send (passwords!) is in there as well and goes nowhere. */

static void keep(char *into, size_t size, const char *text, size_t n)
{
	snprintf(into, size, "%.*s", (int)(n < size ? n : size - 1), text);
}

/* Name of the first child element in `xml` but <text/>. */
static void keep_condition(char *into, size_t size, const char *xml)
{
	const char *p = strchr(xml, '>');

	while (p && (p = strchr(p, '<')) != NULL) {
		size_t n = strcspn(++p, " />");

		if (*p != '/' && !(n == 4 && memcmp(p, "text", 4) == 0)) {
			keep(into, size, p, n);
			return;
		}
	}
	keep(into, size, "unknown", 7);
}

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static void login_seen(struct client *c, const char *xml)
{
	if (starts(xml, "<features")) {
		c->features = true;
	} else if (starts(xml, "<proceed")) {
		c->proceed = true;
		c->features = false; /* those that count come encrypted */
	} else if (starts(xml, "<failure") && strstr(xml, XMPP_NS_SASL)) {
		keep_condition(c->sasl_failure, sizeof(c->sasl_failure), xml);
	} else if (starts(xml, "<iq") && strstr(xml, "\"_xmpp_bind1\"") &&
		   strstr(xml, "\"error\"")) {
		const char *error = strstr(xml, "<error");

		keep_condition(c->bind_failure, sizeof(c->bind_failure), error ? error : "");
	}
}

static void library_log(
	void *context, xmpp_log_level_t level, const char *area, const char *message)
{
	struct client *c = context;

	if (level == XMPP_LEVEL_DEBUG) {
		if (!c->up && starts(message, "RECV: "))
			login_seen(c, message + 6);
		else if (starts(message, "parse error"))
			c->broken = true; /* of what the library then does nothing comes */
	} else if (level >= XMPP_LEVEL_WARN) {
		keep(c->library_says, sizeof(c->library_says), message, strlen(message));
		err_info("libstrophe: %s: %s", area, message);
	}
}

/* --- end of the connection */

static const char *whereto(const struct client *c)
{
	return c->connect ? c->connect : c->domain;
}

static int stream_error_status(const char *name)
{
	static const struct {
		const char *name;
		int status;
	} known[] = {
		{"host-unknown", EXIT_CONFIG},
		{"host-gone", EXIT_CONFIG},
		{"not-authorized", EXIT_DENIED},
		{"conflict", EXIT_TEMPORARY},
		{"connection-timeout", EXIT_TEMPORARY},
		{"internal-server-error", EXIT_TEMPORARY},
		{"remote-connection-failed", EXIT_TEMPORARY},
		{"reset", EXIT_TEMPORARY},
		{"resource-constraint", EXIT_TEMPORARY},
		{"see-other-host", EXIT_TEMPORARY},
		{"system-shutdown", EXIT_TEMPORARY},
	};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strcmp(known[i].name, name) == 0)
			return known[i].status;
	return EXIT_PROTOCOL;
}

static int sasl_failure_status(const char *condition)
{
	return strcmp(condition, "temporary-auth-failure") == 0 ? EXIT_TEMPORARY : EXIT_DENIED;
}

static int bind_failure_status(const char *condition)
{
	return strcmp(condition, "conflict") == 0 || strcmp(condition, "resource-constraint") == 0
		       ? EXIT_TEMPORARY
		       : EXIT_DENIED;
}

/* Say why there is no (more) connection, return the status. */
static int explain_end(struct client *c)
{
	bool secured = c->proceed || c->tls == CLIENT_TLS_DIRECT;

	if (!c->up && io_now_ms() >= c->deadline_ms) { /* and the watchdog has cut it */
		err_error("no login at %s in time", whereto(c));
		return EXIT_TIMED_OUT;
	}
	if (c->stream_error[0]) {
		err_error("stream error from %s: %s%s%s", whereto(c), c->stream_error,
			c->stream_error_text[0] ? ": " : "", c->stream_error_text);
		return stream_error_status(c->stream_error);
	}
	if (c->up) {
		err_error("connection to %s lost", whereto(c));
		return EXIT_TEMPORARY;
	}
	if (c->bind_failure[0]) {
		err_error("server refuses the resource of '%s': %s", c->jid, c->bind_failure);
		return bind_failure_status(c->bind_failure);
	}
	if (c->sasl_failure[0]) {
		err_error("login of '%s' refused: %s", c->jid, c->sasl_failure);
		return sasl_failure_status(c->sasl_failure);
	}
	if (!c->established) {
		err_error("cannot connect to %s: %s", whereto(c),
			c->connect_errno ? strerror(c->connect_errno) : "no answer");
		return EXIT_UNAVAILABLE;
	}
	if (secured && !c->features) {
		err_error("no TLS with %s: handshake failed", whereto(c));
		return EXIT_PROTOCOL;
	}
	if (c->features && c->tls == CLIENT_TLS_REQUIRED && !c->proceed) {
		err_error("server %s does not offer TLS", whereto(c));
		return EXIT_PROTOCOL;
	}
	if (c->features) {
		err_error("cannot log in at %s: %s", whereto(c),
			c->library_says[0] ? c->library_says : "connection closed");
		return EXIT_DENIED;
	}
	err_error("server %s closed the connection during login", whereto(c));
	return EXIT_TEMPORARY;
}

static void unwatch(struct client *c)
{
	if (c->fd < 0)
		return;
	loop_fd_remove(c->loop, c->fd);
	watchdog_fd(&c->watchdog, -1);
	c->fd = -1;
}

static void finish(struct client *c, int status)
{
	if (c->gone)
		return;
	c->gone = true;
	/* one turn more: in this one the owner may have had his */
	loop_timer_set(c->loop, &c->tick, 0);
	unwatch(c);
	trust_restore(c);
	if (!c->closing)
		c->ops.down(c->context, status);
}

/* --- connecting */

static int socket_made(xmpp_conn_t *conn, void *sock);
static void connection_event(xmpp_conn_t *conn, xmpp_conn_event_t event, int error,
	xmpp_stream_error_t *stream_error, void *context);

/* Begin with the next address. False if there is none that can be tried. */
static bool connect_next(struct client *c)
{
	c->disconnected = false;
	c->established = false;
	while (c->address < c->addresses_count) {
		/* NULL: by SRV; the library tries what it finds */
		const char *address = c->addresses[c->address++];
		int result;

		errno = 0;
		calling = c;
		result = xmpp_connect_client(c->conn, address, c->port, connection_event, c);
		calling = NULL;
		if (result == XMPP_EOK)
			return true;
		c->connect_errno = errno ? errno : c->connect_errno;
		unwatch(c);
	}
	return false;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;

	if (address->ss_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
	if (address->ss_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) ||
		       (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) && v6->sin6_addr.s6_addr[12] == 127);
	return false;
}

/* Look once whether TCP is connected, and to whom. False: not allowed to go there. */
static bool look_at_peer(struct client *c)
{
	struct sockaddr_storage peer;
	socklen_t n = sizeof(peer);
	int error = 0;

	if (c->established || c->fd < 0)
		return true;
	if (getpeername(c->fd, (struct sockaddr *)&peer, &n) != 0) {
		n = sizeof(error);
		/* taking it away makes no difference to the library: it sees no peer */
		if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error != 0)
			c->connect_errno = error;
		return true;
	}
	c->established = true;
	if (c->tls == CLIENT_TLS_OFF && !is_loopback(&peer)) {
		err_error("--tls off is for loopback addresses only, %s is none", whereto(c));
		return false;
	}
	return true;
}

/* A socket of the library's, not connected yet. */
static int socket_made(xmpp_conn_t *conn, void *sock)
{
	struct client *c = calling;
	int fd = *(int *)sock, on = 1;
	int idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S, count = KEEPALIVE_COUNT;

	(void)conn;
	/* the library looks at it with select(2) */
	if (!c || fd >= FD_SETSIZE || io_cloexec(fd) != 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	unwatch(c);
	c->fd = fd;
	watchdog_fd(&c->watchdog, fd);
	return 0;
}

static void keep_stream_error(struct client *c, const xmpp_stream_error_t *error)
{
	xmpp_stanza_t *child;

	keep(c->stream_error, sizeof(c->stream_error), "undefined-condition", 19);
	for (child = xmpp_stanza_get_children(error->stanza); child;
		child = xmpp_stanza_get_next(child)) {
		const char *ns = xmpp_stanza_get_ns(child), *name = xmpp_stanza_get_name(child);

		if (ns && name && strcmp(ns, NS_STREAM_ERRORS) == 0 && strcmp(name, "text") != 0)
			keep(c->stream_error, sizeof(c->stream_error), name, strlen(name));
	}
	if (error->text)
		keep(c->stream_error_text, sizeof(c->stream_error_text), error->text,
			strlen(error->text));
}

static void connection_event(xmpp_conn_t *conn, xmpp_conn_event_t event, int error,
	xmpp_stream_error_t *stream_error, void *context)
{
	struct client *c = context;
	const char *jid;

	if (event != XMPP_CONN_CONNECT) {
		c->disconnected = true;
		c->in_order = error == 0 && !stream_error;
		unwatch(c); /* it is closed */
		if (stream_error && stream_error->stanza)
			keep_stream_error(c, stream_error);
		return;
	}
	if (c->tls != CLIENT_TLS_OFF && !xmpp_conn_is_secured(conn)) {
		keep(c->library_says, sizeof(c->library_says), "not encrypted", 13);
		xmpp_disconnect(conn); /* cannot be: the library was told to insist */
		return;
	}
	watchdog_stop(&c->watchdog);
	trust_restore(c);
	c->up = c->first = true;
	jid = xmpp_conn_get_bound_jid(conn);
	c->ops.up(c->context, jid ? jid : c->jid);
}

/* --- stanzas in */

static int stanza_came(xmpp_conn_t *conn, xmpp_stanza_t *node, void *context)
{
	struct client *c = context;
	const char *ns = xmpp_stanza_get_ns(node), *id = xmpp_stanza_get_id(node);
	struct stanza s;
	enum reader_event event;
	struct span bytes;
	bool first = c->first;

	(void)conn;
	c->first = false;
	if (first && id && starts(id, "_xmpp_"))
		return 1; /* the answer to the library's own last request of the login */
	if (!ns || strcmp(ns, NS_CLIENT) != 0)
		return 1; /* stream errors and features: the library's business */
	buf_reset(&c->xml);
	if (!print_stanza(&c->xml, node, c->quirks.lang_bare) || !buf_append_char(&c->xml, '\n')) {
		err_warn("dropped a stanza that is too large even to be measured");
		return 1;
	}
	bytes = buf_span(&c->xml);
	reader_feed(c->reader, bytes.p, bytes.n);
	while ((event = reader_next(c->reader, &s)) != READER_MORE) {
		if (event == READER_BAD) {
			err_warn("dropped a stanza: %s", reader_error(c->reader));
		} else if (event == READER_STANZA && s.kind != STANZA_OTHER) {
			c->handed_over++;
			c->ops.stanza(c->context, &s);
		}
	}
	return 1;
}

/* --- the library's turn */

static void hand_over(struct client *c)
{
	struct span bytes;

	if (!c->up || buf_length(&c->out) == 0 || xmpp_conn_send_queue_len(c->conn) > 0)
		return;
	bytes = buf_span(&c->out);
	if (bytes.n > CHUNK_BYTES)
		bytes.n = CHUNK_BYTES;
	xmpp_send_raw(c->conn, bytes.p, bytes.n);
	buf_consume(&c->out, bytes.n);
	/* The library does not count what it has begun to write. With a space (legal between
	 * stanzas) behind the last chunk, its queue is empty only when that chunk is gone. */
	if (buf_length(&c->out) == 0)
		xmpp_send_raw(c->conn, " ", 1);
	c->unsent = true;
}

static short socket_events(const struct client *c, short events)
{
	struct pollfd p = {.fd = c->fd, .events = events};

	return c->fd >= 0 && poll(&p, 1, 0) > 0 ? p.revents : 0;
}

static void watch(struct client *c);

static void run_once(struct client *c)
{
	calling = c;
	xmpp_run_once(c->ctx, 0);
	calling = NULL;
}

static void pump(struct client *c, bool turn_ends)
{
	uint64_t handed_over = c->handed_over;
	int runs, quiet = 0, on = 1;

	if (c->gone)
		return;
	if (!c->up && io_now_ms() >= c->deadline_ms) {
		finish(c, explain_end(c));
		return;
	}
	for (runs = 0; runs < RUNS_PER_TURN && quiet < QUIET_RUNS; runs++) {
		short events;

		if (c->paused > 1)
			break;
		if (!look_at_peer(c)) {
			finish(c, EXIT_USAGE);
			return;
		}
		hand_over(c);
		run_once(c);
		if (c->broken) {
			run_once(c); /* the library's stream error */
			err_error("%s sent what is not XMPP", whereto(c));
			finish(c, EXIT_PROTOCOL);
			return;
		}
		if (c->disconnected) {
			if (!c->established && !c->up && connect_next(c))
				continue;
			if (!c->closing || c->stream_error[0])
				finish(c, explain_end(c));
			else
				finish(c, EXIT_DONE);
			return;
		}
		c->unsent = c->unsent &&
			    (buf_length(&c->out) > 0 || xmpp_conn_send_queue_len(c->conn) > 0);
		events = (short)((c->paused ? 0 : POLLIN) | (c->unsent ? POLLOUT : 0));
		if (c->paused && !c->unsent)
			break;
		if (socket_events(c, events) & events) {
			quiet = 0;
		} else if (quiet++ == 0 && c->fd >= 0) {
			/* A peer with Nagle's algorithm holds the rest of a large stanza back until
			 * we acknowledge, which by itself takes 40 ms. The kernel forgets this. */
			setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
		}
	}
	watch(c);
	/* others first, then more of this; and who has had his turn gets another */
	if ((quiet < QUIET_RUNS && c->paused == 0) || (turn_ends && c->handed_over != handed_over))
		loop_timer_set(c->loop, &c->tick, loop_now_ms(c->loop));
}

static void socket_ready(void *context, int fd, short revents)
{
	(void)fd;
	(void)revents;
	pump(context, false);
}

static void tick(void *context, int64_t now_ms)
{
	(void)now_ms;
	pump(context, false);
}

/* Tell the loop what to wait for. */
static void watch(struct client *c)
{
	int64_t next = DEADLINE_NEVER;
	short events = 0;

	if (c->gone)
		return;
	if (!c->paused)
		events |= POLLIN;
	if (!c->established || c->unsent)
		events |= POLLOUT;
	if (c->fd >= 0 && c->paused > 1)
		loop_fd_remove(c->loop, c->fd);
	else if (c->fd >= 0)
		loop_fd(c->loop, c->fd, events, socket_ready, c);
	if (!c->up)
		next = loop_now_ms(c->loop) + LOGIN_TICK_MS; /* the library's own deadlines */
	else if (c->unsent)
		next = loop_now_ms(c->loop) + SEND_TICK_MS;
	loop_timer_set(c->loop, &c->tick, next);
}

static void end_of_turn(void *context)
{
	struct client *c = context;

	if (c->up && !c->gone && buf_length(&c->out) > 0)
		pump(c, true);
}

/* --- from outside */

struct writer *client_writer(struct client *c)
{
	return c->up && !c->gone && !c->closing ? &c->writer : NULL;
}

bool client_congested(const struct client *c)
{
	return buf_length(&c->out) > c->out.max / 2;
}

void client_pause(struct client *c)
{
	c->paused++;
	watch(c);
}

void client_resume(struct client *c)
{
	if (--c->paused == 0 && !c->gone) /* the library may hold bytes no poll(2) tells of */
		loop_timer_set(c->loop, &c->tick, loop_now_ms(c->loop));
	else
		watch(c);
}

/* pump() until `done` or the deadline */
static void pump_until(struct client *c, bool (*done)(const struct client *), int64_t deadline_ms)
{
	for (;;) {
		int64_t left = deadline_ms - io_now_ms();
		struct pollfd p = {.events = POLLIN};

		pump(c, false);
		if (done(c) || left <= 0)
			return;
		p.fd = c->fd;
		if (c->unsent)
			p.events |= POLLOUT;
		poll(&p, 1, (int)(left < SEND_TICK_MS ? left : SEND_TICK_MS));
	}
}

static bool all_sent(const struct client *c)
{
	return c->gone || (!c->unsent && buf_length(&c->out) == 0);
}

static bool ended(const struct client *c)
{
	return c->gone;
}

int client_close(struct client *c, int64_t deadline_ms)
{
	if (c->gone || !c->up)
		return EXIT_TEMPORARY;
	c->closing = true;
	c->paused = 0;
	pump_until(c, all_sent, deadline_ms);
	if (!c->gone) {
		/* not xmpp_disconnect(): that gives the server two seconds, then cuts */
		xmpp_send_raw(c->conn, "</stream:stream>", 16);
		pump_until(c, ended, deadline_ms);
	}
	if (c->broken)
		return EXIT_PROTOCOL;
	if (c->stream_error[0])
		return stream_error_status(c->stream_error); /* logged already */
	if (!c->gone)
		err_warn("server %s did not close the stream in time", whereto(c));
	else if (!c->in_order)
		err_warn("server %s cut the connection instead of closing the stream", whereto(c));
	return c->gone && c->in_order ? EXIT_DONE : EXIT_TEMPORARY;
}

/* --- beginning and end of a client */

static bool jid_usable(struct client *c, const char *typed)
{
	struct buf normal;
	struct jid parts;
	bool usable;

	buf_init(&normal, JID_MAX_BYTES);
	usable = jid_normalise(span_of(typed), &normal) && jid_split(buf_span(&normal), &parts) &&
		 parts.local.p && !memchr(parts.domain.p, '\'', parts.domain.n) &&
		 /* the library writes it into the stream header as it is */
		 !memchr(parts.domain.p, '"', parts.domain.n) &&
		 !memchr(parts.domain.p, '<', parts.domain.n) &&
		 !memchr(parts.domain.p, '&', parts.domain.n);
	if (usable) {
		c->jid = xstrdup(buf_string(&normal));
		c->domain = xstrndup(parts.domain.p, parts.domain.n);
	} else {
		err_error("'%s' is not a user's address", typed);
	}
	buf_free(&normal);
	return usable;
}

/* Numeric addresses of --connect HOST:PORT, or one NULL (SRV). An exit status. */
static int addresses_find(struct client *c)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list, *a;
	char *host = NULL, *port = NULL, numeric[NI_MAXHOST];
	int error, status = EXIT_DONE;

	if (!c->connect) {
		c->addresses = xcalloc(1, sizeof(*c->addresses));
		c->addresses_count = 1;
		return EXIT_DONE;
	}
	if (!io_split_host_port(c->connect, &host, &port)) {
		err_error("'%s' is not HOST:PORT", c->connect);
		return EXIT_USAGE;
	}
	error = getaddrinfo(host, port, &hints, &list);
	if (error) {
		err_error("cannot find '%s': %s", host,
			error == EAI_SYSTEM   ? strerror(errno)
			: error == EAI_MEMORY ? "out of memory"
					      : gai_strerror(error));
		status = error == EAI_MEMORY ? EXIT_TEMPORARY : EXIT_UNAVAILABLE;
		list = NULL;
	}
	for (a = list; a; a = a->ai_next) {
		struct sockaddr_storage whole = {0};

		if (a->ai_family != AF_INET && a->ai_family != AF_INET6)
			continue;
		memcpy(&whole, a->ai_addr, a->ai_addrlen);
		c->port =
			ntohs(a->ai_family == AF_INET ? ((struct sockaddr_in *)&whole)->sin_port
						      : ((struct sockaddr_in6 *)&whole)->sin6_port);
		if (c->port == 0) {
			err_error("'%s' is not HOST:PORT", c->connect);
			status = EXIT_USAGE;
			break;
		}
		if (c->tls == CLIENT_TLS_OFF && !is_loopback(&whole)) {
			err_error(
				"--tls off is for loopback addresses only, %s is none", c->connect);
			status = EXIT_USAGE;
			break;
		}
		if (getnameinfo(a->ai_addr, a->ai_addrlen, numeric, sizeof(numeric), NULL, 0,
			    NI_NUMERICHOST) != 0)
			continue;
		c->addresses =
			xrealloc(c->addresses, (c->addresses_count + 1) * sizeof(*c->addresses));
		c->addresses[c->addresses_count++] = xstrdup(numeric);
	}
	if (list)
		freeaddrinfo(list);
	free(host);
	free(port);
	return status;
}

static bool ca_readable(const char *file)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0) {
		err_error("cannot open '%s': %s", file, strerror(errno));
		return false;
	}
	close(fd);
	return true;
}

static void stack_grow(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
		limit.rlim_cur >= STACK_BYTES)
		return;
	limit.rlim_cur = limit.rlim_max == RLIM_INFINITY || limit.rlim_max > STACK_BYTES
				 ? STACK_BYTES
				 : limit.rlim_max;
	setrlimit(RLIMIT_STACK, &limit);
}

/* Everything that can be wrong before the network is asked. */
static int prepare(struct client *c, const struct client_config *config, struct buf *password)
{
	int status;

	if (!jid_usable(c, config->jid))
		return EXIT_USAGE;
	if (config->tls_ca && !ca_readable(config->tls_ca))
		return EXIT_CONFIG;
	status = secret_read(&config->password, "password", password);
	if (status != EXIT_DONE)
		return status;
	secret_trim(password);
	return addresses_find(c);
}

static void library_start(
	struct client *c, const struct client_config *config, const struct buf *password)
{
	static const unsigned long flags[] = {
		[CLIENT_TLS_REQUIRED] = XMPP_CONN_FLAG_MANDATORY_TLS,
		[CLIENT_TLS_DIRECT] = XMPP_CONN_FLAG_MANDATORY_TLS | XMPP_CONN_FLAG_LEGACY_SSL,
		[CLIENT_TLS_OFF] = XMPP_CONN_FLAG_DISABLE_TLS,
	};

	xmpp_initialize();
	c->log = (xmpp_log_t){library_log, c};
	c->ctx = xmpp_ctx_new(NULL, &c->log);
	c->conn = c->ctx ? xmpp_conn_new(c->ctx) : NULL;
	if (!c->conn)
		err_die(EXIT_TEMPORARY, "out of memory");
	c->quirks = quirks_find(c->ctx);
	if (c->quirks.prefixes_dropped)
		err_note("this libstrophe drops prefixes of attributes: the 'from' of what arrives "
			 "can be forged, do not trust it (see CAVEATS in the manual)");
	xmpp_conn_set_jid(c->conn, c->jid);
	xmpp_conn_set_pass(c->conn, buf_string(password));
	xmpp_conn_set_flags(c->conn, (long)(flags[c->tls] | XMPP_CONN_FLAG_DISABLE_SM));
	xmpp_conn_set_sockopt_callback(c->conn, socket_made);
	xmpp_conn_set_certfail_handler(c->conn, certificate_refused);
	if (config->tls_ca) {
		xmpp_conn_set_cafile(c->conn, config->tls_ca);
		trust_only(c, config->tls_ca);
	}
	xmpp_handler_add(c->conn, stanza_came, NULL, NULL, NULL, c);
}

struct client *client_new(struct loop *loop, const struct client_config *config,
	const struct client_ops *ops, void *context, int *status)
{
	struct client *c = xcalloc(1, sizeof(*c));
	struct reader_config limits = config->reader;
	struct buf password;

	c->loop = loop;
	c->ops = *ops;
	c->context = context;
	c->tls = config->tls;
	c->fd = -1;
	c->connect = copy_or_null(config->connect);
	c->deadline_ms = io_now_ms() + (config->login_ms ? config->login_ms : CLIENT_LOGIN_MS);
	buf_init(&c->out,
		config->max_queue_bytes ? config->max_queue_bytes : CLIENT_MAX_QUEUE_BYTES);
	buf_init(&c->xml, MAX_SERIALISED_BYTES);
	writer_init(&c->writer, &c->out, WRITER_SOCKET, config->max_send_bytes);
	limits.kind = READER_PIPE;
	c->reader = reader_new(&limits);
	loop_timer_init(&c->tick, tick, c);

	buf_init(&password, SECRET_MAX_BYTES);
	*status = prepare(c, config, &password);
	if (*status == EXIT_DONE) {
		stack_grow();
		library_start(c, config, &password);
		watchdog_start(&c->watchdog, c->deadline_ms);
		loop_turn(loop, end_of_turn, c);
		if (!connect_next(c))
			*status = explain_end(c);
	}
	secret_wipe(&password);
	buf_free(&password);
	if (*status != EXIT_DONE) {
		client_free(c);
		return NULL;
	}
	watch(c);
	return c;
}

void client_free(struct client *c)
{
	size_t i;

	if (!c)
		return;
	c->gone = true; /* what the library reports while it is taken down concerns nobody */
	loop_timer_clear(c->loop, &c->tick);
	watchdog_stop(&c->watchdog);
	unwatch(c);
	loop_turn_remove(c->loop, end_of_turn, c);
	if (c->conn) {
		c->log.handler = NULL;
		xmpp_conn_release(c->conn);
		xmpp_ctx_free(c->ctx);
		xmpp_shutdown();
	}
	trust_restore(c);
	reader_free(c->reader);
	buf_free(&c->out);
	buf_free(&c->xml);
	for (i = 0; i < c->addresses_count; i++)
		free(c->addresses[i]);
	free(c->addresses);
	free(c->connect);
	free(c->jid);
	free(c->domain);
	free(c);
}
