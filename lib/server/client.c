#include "server/client.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <strophe.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/io.h"
#include "base/secret.h"
#include "loop/dial.h"
#include "server/client-account.h"
#include "server/client-address.h"
#include "server/client-alabel.h"
#include "server/client-library.h"
#include "server/client-story.h"
#include "server/client-tree.h"
#include "server/client-trust.h"
#include "server/client-watchdog.h"

/* How much the library writes at once over TLS: one record. */
#define CHUNK_BYTES 16384
/* The library reads 4 KiB a call. A TLS record that it has decrypted may hold four times that, and
 * its interface does not say so. After this many calls without an event on the socket all has been
 * read. */
#define QUIET_RUNS 6
/* Calls in one turn, so that other descriptors are served, too. */
#define RUNS_PER_TURN 256
#define LOGIN_TICK_MS 200
#define SEND_TICK_MS 250
#define MAX_SERIALISED_BYTES ((size_t)256 * 1024 * 1024)

struct client {
	struct loop *loop;
	struct client_ops ops;
	void *context;
	enum client_tls tls;
	struct client_account account;
	bool own_trust;	       /* --tls-ca */
	char *connect;	       /* HOST:PORT as it was given; NULL: by SRV */
	struct lookup *lookup; /* while the addresses are looked up */
	struct client_addresses addresses;
	size_t address;	     /* the next one */
	int64_t deadline_ms; /* of the login */

	xmpp_log_t log;
	xmpp_ctx_t *ctx;
	xmpp_conn_t *conn;
	struct client_quirks quirks;
	int fd;		   /* -1: none */
	bool disconnected; /* the library has reported it; handled after its call has returned */
	bool in_order;	   /* it ended with </stream:stream> */
	bool up, closing, gone;
	bool first; /* no stanza seen since the login */
	bool from_is_read;
	uint64_t handed_over;
	int paused;

	struct client_story story;

	struct buf out; /* bytes that the library does not have yet */
	struct writer writer;
	bool server_says; /* the server says how large a stanza may be */
	bool unsent;	  /* the library may hold bytes */
	struct loop_timer tick;
	struct reader *reader;
	struct buf xml; /* one stanza, printed */
	struct client_watchdog watchdog;
	struct client_trust trust;
};

/* The client that is calling the library: callbacks about sockets and certificates get no context.
 */
static struct client *calling;

static int certificate_refused(const xmpp_tlscert_t *certificate, const char *const reason)
{
	const char *subject = xmpp_tlscert_get_string(certificate, XMPP_CERT_SUBJECT);

	err_error("certificate '%s' refused for %s: %s", subject ? subject : "?",
		!calling		   ? "?"
		: calling->account.alabels ? calling->account.alabels
					   : calling->account.domain,
		reason ? reason : "not valid");
	if (reason && (strstr(reason, "self") || strstr(reason, "issuer")) &&
		!(calling && calling->own_trust))
		err_error("if it is the server's, keep it in a FILE and give --tls-ca FILE");
	return 0;
}

static void library_log(
	void *context, xmpp_log_level_t level, const char *area, const char *message)
{
	struct client *c = context;

	client_story_log(&c->story, c->up, level, area, message);
}

/* --- end of the connection */

static const char *whereto(const struct client *c)
{
	return c->connect ? c->connect : c->account.domain;
}

/* Say why there is no (more) connection, return the status. */
static int explain_end(struct client *c)
{
	if (!c->up && io_now_ms() >= c->deadline_ms) { /* the watchdog has cut the connection */
		err_error("no login at %s in time", whereto(c));
		return EXIT_TIMED_OUT;
	}
	if (c->story.stream_error[0]) {
		err_error("stream error from %s: %s%s%s", whereto(c), c->story.stream_error,
			c->story.stream_error_text[0] ? ": " : "", c->story.stream_error_text);
		return client_story_stream_status(&c->story);
	}
	if (c->up) {
		err_error("connection to %s lost", whereto(c));
		return EXIT_TEMPORARY;
	}
	return client_story_tell(&c->story, whereto(c), c->account.jid, c->tls);
}

static void unwatch(struct client *c)
{
	if (c->fd < 0)
		return;
	loop_fd_remove(c->loop, c->fd);
	client_watchdog_fd(&c->watchdog, -1);
	c->fd = -1;
}

static void stop_looking_up(struct client *c)
{
	if (c->lookup)
		loop_fd_remove(c->loop, lookup_fd(c->lookup));
	lookup_free(c->lookup);
	c->lookup = NULL;
}

static void finish(struct client *c, int status)
{
	if (c->gone)
		return;
	c->gone = true;
	/* cause one more turn: the owner's hook may have run in this one already */
	loop_timer_set(c->loop, &c->tick, 0);
	stop_looking_up(c);
	unwatch(c);
	client_trust_restore(&c->trust);
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
	c->story.established = false;
	while (c->address < c->addresses.count) {
		const struct client_address *address = &c->addresses.list[c->address++];
		int result;

		errno = 0;
		calling = c;
		client_alabel_expect(c->account.alabels);
		result = xmpp_connect_client(
			c->conn, address->text, address->port, connection_event, c);
		calling = NULL;
		if (result == XMPP_EOK)
			return true;
		c->story.connect_errno = errno ? errno : c->story.connect_errno;
		unwatch(c);
	}
	return false;
}

/* Look once whether TCP is connected, and to which address. False: that address is not allowed. */
static bool look_at_peer(struct client *c)
{
	struct sockaddr_storage peer;
	socklen_t n = sizeof(peer);
	int error = 0;

	if (c->story.established || c->fd < 0)
		return true;
	if (getpeername(c->fd, (struct sockaddr *)&peer, &n) != 0) {
		n = sizeof(error);
		/* we take the error from the socket, so the library does not see it */
		if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error != 0)
			c->story.connect_errno = error;
		return true;
	}
	c->story.established = true;
	if (c->tls == CLIENT_TLS_OFF && !dial_is_loopback((const struct sockaddr *)&peer)) {
		err_error("--tls off is for loopback addresses only, %s is none", whereto(c));
		return false;
	}
	return true;
}

/* The library has made a socket, which is not connected yet. */
static int socket_made(xmpp_conn_t *conn, void *sock)
{
	struct client *c = calling;
	int fd = *(int *)sock;

	(void)conn;
	/* the library looks at it with select(2) */
	if (!c || fd >= FD_SETSIZE || io_cloexec(fd) != 0)
		return -1;
	dial_tune(fd, 0);
	unwatch(c);
	c->fd = fd;
	client_watchdog_fd(&c->watchdog, fd);
	return 0;
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
			client_story_stream_error(&c->story, stream_error);
		return;
	}
	if (c->tls != CLIENT_TLS_OFF && !xmpp_conn_is_secured(conn)) {
		err_error("%s is not encrypted", whereto(c));
		xmpp_disconnect(conn); /* cannot happen: the library was told to require TLS */
		return;
	}
	client_watchdog_stop(&c->watchdog);
	client_trust_restore(&c->trust);
	c->up = c->first = true;
	if (c->server_says)
		c->writer.max_stanza_bytes =
			c->story.max_bytes ? c->story.max_bytes : CLIENT_SEND_BYTES;
	jid = xmpp_conn_get_bound_jid(conn);
	c->ops.up(c->context, jid ? jid : c->account.jid);
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
	if (first && id && strncmp(id, "_xmpp_", 6) == 0)
		return 1; /* the answer to the library's own last request of the login */
	if (!ns || strcmp(ns, NS_CLIENT) != 0)
		return 1; /* stream errors and features: the library handles them */
	buf_reset(&c->xml);
	if (!client_tree_print(&c->xml, node, c->quirks.lang_bare) ||
		!buf_append_char(&c->xml, '\n')) {
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
	/* The library's queue does not include what it has begun to write. With a space (legal
	 * between stanzas) after the last chunk, the queue is empty only when that chunk has been
	 * written. */
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

enum call { CALL_DONE, CALL_NEXT_ADDRESS, CALL_ENDED };

/* Call the library once. Returns what became of the connection; CALL_ENDED: finish() was called. */
static enum call call_library(struct client *c)
{
	if (!look_at_peer(c)) {
		finish(c, EXIT_USAGE);
		return CALL_ENDED;
	}
	hand_over(c);
	run_once(c);
	if (c->story.broken) {
		run_once(c); /* the library sends its stream error */
		err_error("%s sent what is not XMPP", whereto(c));
		finish(c, EXIT_PROTOCOL);
		return CALL_ENDED;
	}
	if (c->disconnected) {
		if (!c->story.established && !c->up && connect_next(c))
			return CALL_NEXT_ADDRESS;
		finish(c, c->closing && !c->story.stream_error[0] ? EXIT_DONE : explain_end(c));
		return CALL_ENDED;
	}
	c->unsent = c->unsent && (buf_length(&c->out) > 0 || xmpp_conn_send_queue_len(c->conn) > 0);
	return CALL_DONE;
}

/* A peer with Nagle's algorithm holds the rest of a large stanza back until we acknowledge, which
 * by itself takes 40 ms. The kernel forgets this. */
static void acknowledge(const struct client *c)
{
	int on = 1;

	if (c->fd >= 0)
		setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

/* Call the library until it has read all that is there and written what the socket takes, but not
 * so often that other descriptors starve. */
static void pump(struct client *c, bool turn_ends)
{
	uint64_t handed_over = c->handed_over;
	int quiet = 0;

	if (c->gone)
		return;
	if (!c->up && io_now_ms() >= c->deadline_ms) {
		finish(c, explain_end(c));
		return;
	}
	for (int runs = 0;
		!c->lookup && runs < RUNS_PER_TURN && quiet < QUIET_RUNS && c->paused <= 1;
		runs++) {
		enum call call = call_library(c);
		short events = (short)((c->paused ? 0 : POLLIN) | (c->unsent ? POLLOUT : 0));

		if (call == CALL_ENDED)
			return;
		if (call == CALL_NEXT_ADDRESS)
			continue;
		if (!events)
			break;
		quiet = socket_events(c, events) & events ? 0 : quiet + 1;
		if (quiet == 1)
			acknowledge(c);
	}
	watch(c);
	/* Yield to other descriptors, then continue; rerun the hooks that already ran. */
	if ((quiet < QUIET_RUNS && c->paused == 0) || (turn_ends && c->handed_over != handed_over))
		loop_timer_set(c->loop, &c->tick, loop_now_ms(c->loop));
}

static void socket_ready(void *context, int fd, short revents)
{
	(void)fd;
	(void)revents;
	pump(context, false);
}

static void tick(void *context)
{
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
	if (!c->story.established || c->unsent)
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
	if (--c->paused == 0 &&
		!c->gone) /* the library may hold bytes that poll(2) does not show */
		loop_timer_set(c->loop, &c->tick, loop_now_ms(c->loop));
	else
		watch(c);
}

/* Call pump() until done() or the deadline. */
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
	if (c->story.broken)
		return EXIT_PROTOCOL;
	if (c->story.stream_error[0])
		return client_story_stream_status(&c->story); /* logged already */
	if (!c->gone)
		err_warn("server %s did not close the stream in time", whereto(c));
	else if (!c->in_order)
		err_warn("server %s cut the connection instead of closing the stream", whereto(c));
	return c->gone && c->in_order ? EXIT_DONE : EXIT_TEMPORARY;
}

/* --- beginning and end of a client */

/* Check everything that can be checked without the network. */
static int prepare(struct client *c, const struct client_config *config, struct buf *password)
{
	int status;

	if (!client_account_set(&c->account, config->jid)) {
		err_error("'%s' is not a user's address", config->jid);
		return EXIT_USAGE;
	}
	if (!io_readable(config->tls_ca))
		return EXIT_CONFIG;
	status = secret_read(&config->password, "password", password);
	secret_trim(password);
	/* not before: somebody may have typed a passphrase */
	c->deadline_ms = io_now_ms() + (config->login_ms ? config->login_ms : CLIENT_LOGIN_MS);
	return status;
}

static void library_start(
	struct client *c, const struct client_config *config, const struct buf *password)
{
	static const unsigned long flags[] = {
		[CLIENT_TLS_REQUIRED] = XMPP_CONN_FLAG_MANDATORY_TLS,
		[CLIENT_TLS_DIRECT] = XMPP_CONN_FLAG_MANDATORY_TLS | XMPP_CONN_FLAG_LEGACY_SSL,
		[CLIENT_TLS_OFF] = XMPP_CONN_FLAG_DISABLE_TLS,
	};

	c->log = (xmpp_log_t){library_log, c};
	c->ctx = client_library_start(&c->log);
	c->conn = xmpp_conn_new(c->ctx);
	if (!c->conn)
		err_die(EXIT_TEMPORARY, "out of memory");
	c->quirks = client_quirks_find(c->ctx);
	xmpp_conn_set_jid(c->conn, c->account.jid);
	xmpp_conn_set_pass(c->conn, buf_string(password));
	xmpp_conn_set_flags(c->conn, (long)(flags[c->tls] | XMPP_CONN_FLAG_DISABLE_SM));
	xmpp_conn_set_sockopt_callback(c->conn, socket_made);
	xmpp_conn_set_certfail_handler(c->conn, certificate_refused);
	if (config->tls_ca) {
		xmpp_conn_set_cafile(c->conn, config->tls_ca);
		client_trust_only(&c->trust, config->tls_ca);
	}
	xmpp_handler_add(c->conn, stanza_came, NULL, NULL, NULL, c);
}

static void on_lookup(void *context, int fd, short revents)
{
	struct client *c = context;
	struct lookup *lookup = c->lookup;
	int status;

	(void)revents;
	loop_fd_remove(c->loop, fd);
	c->lookup = NULL;
	status = client_addresses_finish(
		&c->addresses, lookup, whereto(c), c->tls == CLIENT_TLS_OFF);
	if (status == EXIT_DONE && c->quirks.prefixes_dropped)
		err_log(c->from_is_read ? ERR_NOTICE : ERR_INFO,
			"this libstrophe drops prefixes of attributes: the 'from' of what arrives "
			"can be forged, do not trust it (see CAVEATS in the manual)");
	if (status == EXIT_DONE && !connect_next(c))
		status = explain_end(c);
	if (status == EXIT_DONE)
		watch(c);
	else
		finish(c, status);
}

/* Begin to find the server. An exit status. */
static int look_up(struct client *c)
{
	int status = EXIT_DONE;

	c->lookup = client_addresses_begin(c->connect,
		c->account.alabels ? c->account.alabels : c->account.domain,
		c->tls == CLIENT_TLS_DIRECT, &status);
	if (c->lookup)
		loop_fd(c->loop, lookup_fd(c->lookup), POLLIN, on_lookup, c);
	return status;
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
	c->connect = config->connect ? xstrdup(config->connect) : NULL;
	buf_init(&c->out,
		config->max_queue_bytes ? config->max_queue_bytes : CLIENT_MAX_QUEUE_BYTES);
	buf_init(&c->xml, MAX_SERIALISED_BYTES);
	c->server_says = config->max_send_bytes < 0;
	c->own_trust = config->tls_ca != NULL;
	c->from_is_read = config->from_is_read;
	writer_init(&c->writer, &c->out, WRITER_SOCKET,
		c->server_says ? CLIENT_SEND_BYTES : (size_t)config->max_send_bytes);
	limits.kind = READER_PIPE;
	c->reader = reader_new(&limits);
	loop_timer_init(&c->tick, tick, c);

	buf_init(&password, SECRET_MAX_BYTES);
	*status = prepare(c, config, &password);
	if (*status == EXIT_DONE)
		*status = look_up(c);
	if (*status == EXIT_DONE) {
		library_start(c, config, &password);
		client_watchdog_start(&c->watchdog, c->deadline_ms);
		loop_turn(loop, end_of_turn, c);
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
	if (!c)
		return;
	c->gone = true; /* ignore what the library reports while it is freed */
	loop_timer_clear(c->loop, &c->tick);
	client_watchdog_stop(&c->watchdog);
	stop_looking_up(c);
	unwatch(c);
	loop_turn_remove(c->loop, end_of_turn, c);
	if (c->conn) {
		c->log.handler = NULL;
		xmpp_conn_release(c->conn);
		client_library_end(c->ctx);
	}
	client_trust_restore(&c->trust);
	reader_free(c->reader);
	buf_free(&c->out);
	buf_free(&c->xml);
	client_addresses_free(&c->addresses);
	free(c->connect);
	client_alabel_expect(NULL);
	client_account_free(&c->account);
	free(c);
}
