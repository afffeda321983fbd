#include "roster/http.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "loop/dial.h"
#include "roster/http-guard.h"
#include "roster/http-request.h"
#include "roster/linger.h"
#include "roster/refresh.h"
#include "roster/roster.h"

/* How long an idle connection, and one whose request is not whole, is safe from being closed to
 * make room for another one. */
#define IDLE_MS 200
#define PARTIAL_MS 3000
#define ROOM_MS 100
/* Connections that were shut down to make room exist for a while beside those that took their
 * place. */
#define ENDING_MAX 256
#define FLUSH_ROUNDS 8
/* libmicrohttpd keeps a request's header in one piece of memory, with what it knows of each line,
 * and the answer's header. */
#define HEADER_MEMORY(bytes) (8 * (bytes) + 8192)

struct connection {
	LIST_ENTRY(connection) list;
	struct http *owner;
	struct MHD_Connection *mhd;
	int fd;
	bool forbidden; /* reached from beyond loopback while there is no token */
	bool asleep;
	bool some;	  /* a request's first line has come */
	bool served;	  /* a request was whole */
	bool ending;	  /* makes room for another one */
	int64_t since_ms; /* when its current state (idle, request, answer) began */
	struct loop_timer limit;
};

struct http_request {
	struct connection *connection;
	enum http_resource resource;
	struct buf authority; /* of an absolute-form target, else empty */
	struct buf user, body;
	uint64_t body_bytes;
	size_t line_bytes;
	bool answered, headers_seen, whole, too_large, too_much;
};

static const struct {
	unsigned status;
	const char *label;
} counted[] = {
	{200, "status=\"200\""},
	{204, "status=\"204\""},
	{400, "status=\"400\""},
	{401, "status=\"401\""},
	{403, "status=\"403\""},
	{404, "status=\"404\""},
	{405, "status=\"405\""},
	{413, "status=\"413\""},
	{415, "status=\"415\""},
	{431, "status=\"431\""},
	{502, "status=\"502\""},
	{503, "status=\"503\""},
};
#define COUNTED (sizeof(counted) / sizeof(counted[0]))

struct http {
	struct loop *loop;
	struct http_config config;
	struct http_ops ops;
	void *context;
	struct MHD_Daemon *daemon;
	int epoll_fd;
	struct loop_timer run;
	LIST_HEAD(, connection) connections;
	size_t connections_count, requests_count;
	size_t coming;	     /* handed to libmicrohttpd, which has not called on_connection() yet */
	size_t ending_count; /* connections that were shut down to make room */
	size_t bodies_bytes;
	struct loop_timer room;
	struct http_guard *guard;
	struct lingers lingers;
	bool draining, freeing, full;
	uint64_t answers[COUNTED], accepted, unfinished;
};

/* Running ------------------------------------------------------------------------- */

static void schedule(struct http *h)
{
	MHD_UNSIGNED_LONG_LONG wait_ms;

	if (MHD_get_timeout(h->daemon, &wait_ms) == MHD_YES)
		loop_timer_set(h->loop, &h->run,
			loop_now_ms(h->loop) + (wait_ms > 60000 ? 60000 : (int64_t)wait_ms));
	else
		loop_timer_clear(h->loop, &h->run);
}

/* libmicrohttpd 1.0 starts connections in MHD_run(), not when it is given them. It does not
 * report a connection that it then has no memory for. */
static void mhd_run(struct http *h)
{
	MHD_run(h->daemon);
	if (h->coming == 0)
		return;
	err_warn("connections that were not served (%zu): out of memory", h->coming);
	h->coming = 0;
	if (h->ops.lost)
		h->ops.lost(h->context);
}

static void run(struct http *h)
{
	mhd_run(h);
	schedule(h);
	if (!h->full)
		return;
	if (http_has_room(h)) {
		h->full = false;
		loop_timer_clear(h->loop, &h->room);
		if (h->ops.room)
			h->ops.room(h->context);
	} else {
		/* by then a connection may have been idle for long enough */
		loop_timer_set(h->loop, &h->room, loop_now_ms(h->loop) + ROOM_MS);
	}
}

static void on_room_timer(void *context, int64_t now_ms)
{
	(void)now_ms;
	run(context);
}

static void on_epoll(void *context, int fd, short revents)
{
	(void)fd;
	(void)revents;
	run(context);
}

static void on_run(void *context, int64_t now_ms)
{
	(void)now_ms;
	run(context);
}

/* Run soon: libmicrohttpd's callbacks must not call run() themselves. */
static void run_soon(struct http *h)
{
	loop_timer_set(h->loop, &h->run, loop_now_ms(h->loop));
}

void http_flush(struct http *h)
{
	for (int i = 0; i < FLUSH_ROUNDS; i++)
		mhd_run(h);
	schedule(h);
}

/* Connections --------------------------------------------------------------------- */

static void on_limit(void *context, int64_t now_ms)
{
	struct connection *c = context;

	(void)now_ms;
	/* on_completed() reports requests whose first line has come */
	if (!c->some && !c->served) {
		c->owner->unfinished++;
		err_info("a connection on which no request came in time is closed");
	}
	shutdown(c->fd, SHUT_RDWR);
	run_soon(c->owner);
}

static void limit_start(struct connection *c)
{
	c->since_ms = loop_now_ms(c->owner->loop);
	loop_timer_set(c->owner->loop, &c->limit,
		loop_now_ms(c->owner->loop) + c->owner->config.receive_ms);
}

bool http_is_local(int fd)
{
	struct sockaddr_storage address = {0};
	socklen_t n = sizeof(address);

	return getsockname(fd, (struct sockaddr *)&address, &n) == 0 &&
	       dial_is_loopback((const struct sockaddr *)&address);
}

static void on_connection(void *context, struct MHD_Connection *mhd, void **socket_context,
	enum MHD_ConnectionNotificationCode code)
{
	struct http *h = context;
	struct connection *c = *socket_context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);

		c = xcalloc(1, sizeof(*c));
		c->owner = h;
		c->mhd = mhd;
		c->fd = info->connect_fd;
		c->forbidden = !http_is_local(c->fd);
		h->coming -= h->coming > 0;
		LIST_INSERT_HEAD(&h->connections, c, list);
		h->connections_count++;
		h->accepted++;
		loop_timer_init(&c->limit, on_limit, c);
		limit_start(c);
		*socket_context = c;
		return;
	}
	if (!c)
		return;
	LIST_REMOVE(c, list);
	h->connections_count--;
	h->ending_count -= c->ending;
	loop_timer_clear(h->loop, &c->limit);
	free(c);
	*socket_context = NULL;
}

/* The connection to end when another one is to be taken: the one that has been idle longest, or
 * else the one whose request has not become whole for longest. NULL: all are at work, or have just
 * come. */
static struct connection *connection_to_end(const struct http *h)
{
	int64_t now_ms = loop_now_ms(h->loop);
	struct connection *c, *idle = NULL, *partial = NULL;

	if (h->ending_count >= ENDING_MAX)
		return NULL;
	LIST_FOREACH(c, &h->connections, list)
	{
		struct connection **worst = c->some ? &partial : &idle;

		if (!c->asleep && !c->ending && (!*worst || c->since_ms < (*worst)->since_ms))
			*worst = c;
	}
	if (idle && now_ms - idle->since_ms >= IDLE_MS)
		return idle;
	return partial && now_ms - partial->since_ms >= PARTIAL_MS ? partial : NULL;
}

static size_t connections_open(const struct http *h)
{
	return h->connections_count + h->coming - h->ending_count;
}

bool http_has_room(const struct http *h)
{
	return connections_open(h) < h->config.max_connections || connection_to_end(h);
}

static void make_room(struct http *h)
{
	struct connection *c =
		connections_open(h) < h->config.max_connections ? NULL : connection_to_end(h);

	if (!c)
		return;
	c->ending = true;
	h->ending_count++;
	if (!c->some && !c->served)
		h->unfinished++;
	err_info("a connection that does nothing makes room for another one");
	shutdown(c->fd, SHUT_RDWR);
}

bool http_accept(struct http *h, int fd)
{
	struct sockaddr_storage peer = {0};
	socklen_t n = sizeof(peer);
	int one = 1;
	bool taken;

	if (getpeername(fd, (struct sockaddr *)&peer, &n) < 0) {
		/* the peer has gone already */
		close(fd);
		return true;
	}
	if (peer.ss_family == AF_INET || peer.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	io_nonblocking(fd);
	make_room(h);
	h->coming++;
	taken = MHD_add_connection(h->daemon, fd, (struct sockaddr *)&peer, n) == MHD_YES;
	if (!taken) {
		h->coming -= h->coming > 0;
		err_warn("a connection was not taken: %s", strerror(errno));
	}
	h->full = !http_has_room(h);
	run_soon(h);
	return taken;
}

/* Answers ------------------------------------------------------------------------- */

/* Our answers are well-formed, so only memory can be the reason of a refusal. */
static void header_add(struct MHD_Response *response, const char *name, const char *value)
{
	if (MHD_add_response_header(response, name, value) != MHD_YES)
		err_die(EXIT_TEMPORARY, "out of memory");
}

static void count_answer(struct http *h, unsigned status)
{
	for (size_t i = 0; i < COUNTED; i++)
		h->answers[i] += counted[i].status == status;
}

static const char *header_of(struct connection *c, const char *name)
{
	return MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, name);
}

static void add_origin(struct connection *c, struct MHD_Response *response, bool preflight)
{
	const char *origin = http_guard_origin(c->owner->guard, c->mhd);

	if (c->owner->config.allow_origins->count)
		header_add(response, "Vary", "Origin");
	if (origin)
		header_add(response, "Access-Control-Allow-Origin", origin);
	if (preflight) {
		header_add(response, "Access-Control-Allow-Methods", "GET, POST");
		header_add(response, "Access-Control-Allow-Headers", "Authorization, Content-Type");
		header_add(response, "Access-Control-Max-Age", "600");
	}
}

/* name and value: one more header, or NULL. */
static enum MHD_Result send_answer(struct http_request *r, unsigned status, struct span body,
	const char *type, const char *name, const char *value)
{
	struct connection *c = r->connection;
	struct http *h = c->owner;
	struct MHD_Response *response =
		MHD_create_response_from_buffer(body.n, (void *)body.p, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result result;

	if (!response)
		err_die(EXIT_TEMPORARY, "out of memory");
	if (type)
		header_add(response, "Content-Type", type);
	header_add(response, "Cache-Control", "no-store");
	add_origin(c, response, status == 204);
	if (name)
		header_add(response, name, value);
	if (h->draining)
		header_add(response, "Connection", "close");
	result = MHD_queue_response(c->mhd, status, response);
	MHD_destroy_response(response);
	r->answered = true;
	count_answer(h, status);
	limit_start(c);
	if (c->asleep) {
		c->asleep = false;
		MHD_resume_connection(c->mhd);
		run_soon(h);
	}
	return result;
}

/* more: further members of the answer, or absent. */
static enum MHD_Result answer(struct http_request *r, unsigned status,
	const struct http_outcome *outcome, const char *name, const char *value)
{
	struct buf body;
	enum MHD_Result result;

	buf_init(&body, BUF_NO_MAX);
	buf_printf(&body, "{\"status\":\"%s\",\"message\":\"%s\",\"updated\":%zu,\"errors\":%zu",
		outcome->ok ? "ok" : "error", outcome->message, outcome->updated, outcome->errors);
	buf_append_span(&body, outcome->more);
	buf_append_string(&body, "}\n");
	result = send_answer(r, status, buf_span(&body), "application/json", name, value);
	buf_free(&body);
	return result;
}

static enum MHD_Result refuse(struct http_request *r, unsigned status, const char *message,
	const char *name, const char *value)
{
	const struct http_outcome outcome = {.message = message};

	return answer(r, status, &outcome, name, value);
}

void http_answer(struct http_request *r, unsigned status, const struct http_outcome *outcome)
{
	answer(r, status, outcome, NULL, NULL);
}

void http_busy(struct http_request *r, unsigned retry_after_s, const char *message)
{
	char seconds[16];

	snprintf(seconds, sizeof(seconds), "%u", retry_after_s);
	refuse(r, 503, message, "Retry-After", seconds);
}

/* Requests ------------------------------------------------------------------------ */

/* Answer a header that is malformed. False: it was answered. */
static bool header_sound(struct http_request *r, const char *version, enum MHD_Result *result)
{
	static const struct {
		unsigned status;
		const char *message;
	} answers[] = {
		[HTTP_HEADER_TOO_LARGE] = {431, "the header is too large"},
		[HTTP_LENGTH_UNCLEAR] = {400, "it is not clear how long the body is"},
		[HTTP_HOST_UNCLEAR] = {400, "one Host is needed"},
	};
	struct connection *c = r->connection;
	enum http_fault fault = http_guard_fault(c->owner->guard, c->mhd, r->line_bytes, version);

	if (fault != HTTP_SOUND)
		*result = refuse(
			r, answers[fault].status, answers[fault].message, "Connection", "close");
	return fault == HTTP_SOUND;
}

/* Answer what needs no token: the preflight request of an allowed web page, and the state of the
 * service. False: it was answered. */
static bool header_simple(struct http_request *r, const char *method, enum MHD_Result *result)
{
	struct connection *c = r->connection;
	struct http *h = c->owner;

	if (r->resource == HTTP_HEALTH) {
		bool well = h->ops.healthy && h->ops.healthy(h->context);

		if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
			*result = refuse(r, 405, "another method is needed", "Allow", "GET, HEAD");
		else
			*result = send_answer(r, well ? 200 : 503,
				well ? SPAN("ok\n") : SPAN("down\n"), "text/plain", NULL, NULL);
		return false;
	}
	if (strcmp(method, "OPTIONS") == 0 && h->config.allow_origins->count &&
		(r->resource == HTTP_ALL || r->resource == HTTP_ONE)) {
		*result = http_guard_origin(h->guard, c->mhd)
				  ? send_answer(r, 204, SPAN(""), NULL, NULL, NULL)
				  : refuse(r, 403, "not from this web page", NULL, NULL);
		return false;
	}
	return true;
}

/* Check the header. False: the request has been answered. */
static bool header_accepted(
	struct http_request *r, const char *method, const char *version, enum MHD_Result *result)
{
	struct connection *c = r->connection;
	struct http *h = c->owner;
	bool one = r->resource == HTTP_ONE || r->resource == HTTP_BAD_NAME;
	const char *length = header_of(c, "Content-Length");
	const char *coding = header_of(c, "Content-Encoding");
	bool token = buf_length(h->config.tokens) > 0;

	if (!header_sound(r, version, result))
		return false;
	if (c->forbidden && !token)
		*result = refuse(r, 403, "only from this machine, as no token is set", NULL, NULL);
	else if (!header_simple(r, method, result))
		return false;
	else if (r->resource == HTTP_NOTHING)
		*result = refuse(r, 404, "there is nothing here", NULL, NULL);
	else if (strcmp(method, one ? "GET" : "POST") != 0)
		*result = refuse(r, 405, "another method is needed", "Allow", one ? "GET" : "POST");
	else if (token && !http_guard_token(h->guard, c->mhd))
		*result = refuse(r, 401, "a bearer token is needed", "WWW-Authenticate",
			"Bearer realm=\"roster_admin\"");
	else if (!token && http_guard_web_page(h->guard, c->mhd, c->fd, buf_span(&r->authority)))
		*result = refuse(
			r, 403, "not from web pages, nor under a name of others", NULL, NULL);
	else if (r->resource == HTTP_BAD_NAME)
		*result = refuse(r, 400, "not a user name", NULL, NULL);
	else if (coding && *coding && strcasecmp(coding, "identity") != 0)
		*result = refuse(
			r, 415, "no content coding is understood", "Accept-Encoding", "identity");
	else if (length && strtoull(length, NULL, 10) > h->config.max_body_bytes)
		*result = refuse(r, 413, "the body is too large", NULL, NULL);
	else
		return true;
	return false;
}

/* Hand the names on; the connection sleeps unless the answer comes at once. */
static enum MHD_Result ask(struct http_request *r, const struct span *names, size_t count)
{
	struct connection *c = r->connection;
	struct http *h = c->owner;

	loop_timer_clear(h->loop, &c->limit);
	h->ops.refresh(h->context, r, names, count);
	if (!r->answered) {
		c->asleep = true;
		MHD_suspend_connection(c->mhd);
	}
	return MHD_YES;
}

static enum MHD_Result request_whole(struct http_request *r)
{
	struct http *h = r->connection->owner;
	struct refresh_names names;
	const char *why;
	enum MHD_Result result;

	if (h->draining) {
		http_busy(r, 1, "stopping");
		return MHD_YES;
	}
	if (r->resource == HTTP_ONE) {
		struct span name = buf_span(&r->user);

		if (refresh_name_local(&name, h->config.host))
			return ask(r, &name, 1);
		return refuse(r, 400, "not a user name", NULL, NULL);
	}
	if (refresh_names_parse(
		    buf_span(&r->body), h->config.max_values, h->config.host, &names, &why))
		result = ask(r, names.list, names.count);
	else
		result = refuse(r, 400, why, NULL, NULL);
	refresh_names_free(&names);
	return result;
}

static bool body_follows(struct MHD_Connection *mhd)
{
	const char *length = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Content-Length");

	return (length && strtoull(length, NULL, 10) > 0) ||
	       MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Transfer-Encoding");
}

static void body_drop(struct http *h, struct http_request *r)
{
	h->bodies_bytes -= buf_length(&r->body);
	buf_reset(&r->body);
}

/* A piece of the body. */
static enum MHD_Result body_take(struct http_request *r, struct span piece)
{
	struct http *h = r->connection->owner;
	size_t most = h->config.max_body_bytes > HTTP_BODIES_BYTES ? h->config.max_body_bytes
								   : HTTP_BODIES_BYTES;

	r->body_bytes += piece.n;
	if (r->body_bytes > 2 * (uint64_t)h->config.max_body_bytes) {
		err_info("a request with a body without end is closed");
		return MHD_NO;
	}
	if (r->too_large || r->too_much)
		return MHD_YES;
	r->too_much = h->bodies_bytes + piece.n > most;
	r->too_large = !r->too_much && !buf_append_span(&r->body, piece);
	if (r->too_much || r->too_large)
		body_drop(h, r);
	else
		h->bodies_bytes += piece.n;
	return MHD_YES;
}

/* The header is there. An answer from here closes the connection, because a body may follow: where
 * none does, the request is answered later, so that requests that the client has already sent after
 * it are answered, too. */
static enum MHD_Result on_header(
	struct http_request *r, struct MHD_Connection *mhd, const char *method, const char *version)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	enum MHD_Result result;

	r->headers_seen = true;
	r->connection = info->socket_context;
	if (!body_follows(mhd) || header_accepted(r, method, version, &result))
		return MHD_YES;
	/* With other methods libmicrohttpd reads the body itself. libmicrohttpd closes its
	 * descriptor of the connection; ours reads on for a while. */
	if ((strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0) &&
		!r->connection->owner->freeing)
		lingers_add(&r->connection->owner->lingers, r->connection->fd);
	return result;
}

/* The request is whole. */
static enum MHD_Result on_whole(
	struct http_request *r, struct MHD_Connection *mhd, const char *method, const char *version)
{
	enum MHD_Result result;

	if (!body_follows(mhd) && !header_accepted(r, method, version, &result))
		return result;
	if (r->too_large)
		return refuse(r, 413, "the body is too large", NULL, NULL);
	if (r->too_much) {
		http_busy(r, 1, "too many bodies are being read");
		return MHD_YES;
	}
	result = request_whole(r);
	body_drop(r->connection->owner, r);
	buf_free(&r->body);
	return result;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *mhd, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_bytes,
	void **request_context)
{
	struct http_request *r = *request_context;
	struct span piece = {upload, *upload_bytes};

	(void)context;
	(void)url;
	if (!r->headers_seen)
		return on_header(r, mhd, method, version);
	if (r->answered)
		return MHD_YES;
	if (piece.n > 0) {
		*upload_bytes = 0;
		return body_take(r, piece);
	}
	if (r->whole)
		return on_whole(r, mhd, method, version);
	/* Wait for libmicrohttpd's next call, when it expects nothing more on this connection.
	 * If the connection were suspended in the turn in which it was read, libmicrohttpd would
	 * read first when it is resumed; it would take a client that has shut down its side
	 * after the request for gone, and not send the answer. */
	r->whole = true;
	return MHD_YES;
}

/* libmicrohttpd calls this first for each request, with its request line. */
static void *on_request_line(void *context, const char *uri, struct MHD_Connection *mhd)
{
	struct http *h = context;
	struct http_request *r = xcalloc(1, sizeof(*r));
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct connection *c = info ? info->socket_context : NULL;

	if (c)
		c->some = true;
	buf_init(&r->authority, BUF_NO_MAX);
	buf_init(&r->user, BUF_NO_MAX);
	buf_init(&r->body, h->config.max_body_bytes);
	r->line_bytes = strlen(uri);
	r->resource = http_target(span_of(uri), &r->authority, &r->user);
	h->requests_count++;
	return r;
}

static void on_completed(void *context, struct MHD_Connection *mhd, void **request_context,
	enum MHD_RequestTerminationCode code)
{
	struct http *h = context;
	struct http_request *r = *request_context;

	(void)mhd;
	if (!r)
		return;
	if (!r->answered && code != MHD_REQUEST_TERMINATED_COMPLETED_OK) {
		h->unfinished++;
		err_info("a request ended before it was whole");
	}
	if (r->connection) {
		r->connection->some = false;
		r->connection->served = true;
		if (!h->freeing)
			limit_start(r->connection);
	}
	h->requests_count--;
	body_drop(h, r);
	buf_free(&r->authority);
	buf_free(&r->user);
	buf_free(&r->body);
	free(r);
	*request_context = NULL;
}

/* We decode names ourselves: libmicrohttpd would end them at %00. */
static size_t no_unescape(void *context, struct MHD_Connection *mhd, char *text)
{
	(void)context;
	(void)mhd;
	return strlen(text);
}

static void on_log(void *context, const char *format, va_list arguments)
{
	char text[512];
	size_t n;

	(void)context;
	vsnprintf(text, sizeof(text), format, arguments);
	n = strlen(text);
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '.'))
		text[--n] = '\0';
	err_info("http: %s", text);
}

static struct MHD_Daemon *daemon_start(struct http *h)
{
	const struct http_config *config = &h->config;
	unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
			 MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls[3] = {{MHD_OPTION_END, 0, NULL}};

	if (config->cert) {
		flags |= MHD_USE_TLS;
		tls[0] =
			(struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)config->cert};
		tls[1] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)config->key};
		tls[2] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
	}
	errno = 0;
	return MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER,
		on_log, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_URI_LOG_CALLBACK,
		on_request_line, h, MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, h,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)(config->max_connections + ENDING_MAX),
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADER_MEMORY(config->max_header_bytes),
		MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
}

struct http *http_new(struct loop *loop, const struct http_config *config,
	const struct http_ops *ops, void *context, int *status)
{
	struct http *h = xcalloc(1, sizeof(*h));
	const union MHD_DaemonInfo *info;

	*h = (struct http){.loop = loop, .config = *config, .ops = *ops, .context = context};
	loop_timer_init(&h->run, on_run, h);
	loop_timer_init(&h->room, on_room_timer, h);
	lingers_init(&h->lingers, loop);
	h->daemon = daemon_start(h);
	info = h->daemon ? MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (!info) {
		if (errno == ENOMEM)
			err_die(EXIT_TEMPORARY, "out of memory");
		*status = io_error_status(-errno, EXIT_CONFIG);
		err_error("cannot serve HTTP%s: %s", config->cert ? " with this certificate" : "",
			errno ? strerror(errno) : "libmicrohttpd does not start");
		free(h);
		return NULL;
	}
	h->guard = http_guard_new(&h->config);
	h->epoll_fd = info->epoll_fd;
	loop_fd(loop, h->epoll_fd, POLLIN, on_epoll, h);
	return h;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	h->freeing = true;
	loop_fd_remove(h->loop, h->epoll_fd);
	loop_timer_clear(h->loop, &h->run);
	loop_timer_clear(h->loop, &h->room);
	lingers_free(&h->lingers);
	MHD_stop_daemon(h->daemon);
	http_guard_free(h->guard);
	free(h);
}

void http_drain(struct http *h)
{
	h->draining = true;
}

size_t http_requests(const struct http *h)
{
	return h->requests_count;
}

size_t http_connections(const struct http *h)
{
	return h->connections_count + h->coming;
}

size_t http_metrics(const struct http *h, struct metric *out, size_t max)
{
	const struct metric others[] = {
		{"http_connections_accepted", NULL, "HTTP connections taken", METRIC_COUNTER,
			h->accepted},
		{"http_unfinished", NULL, "HTTP requests that never became whole", METRIC_COUNTER,
			h->unfinished},
		{"http_connections", NULL, "HTTP connections open", METRIC_GAUGE,
			h->connections_count},
	};
	size_t n = 0;

	for (size_t i = 0; i < COUNTED && n < max; i++)
		out[n++] = (struct metric){"http_answers", counted[i].label,
			"HTTP answers by status", METRIC_COUNTER, h->answers[i]};
	return metrics_add(out, n, max, others, sizeof(others) / sizeof(others[0]));
}
