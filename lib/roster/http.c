#include "roster/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nettle/memops.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "roster/refresh.h"
#include "roster/roster.h"

#define REFRESH_PATH "/roster_admin/refresh"
/* After an answer that came before the whole request: how long, and how much of it, is read and
 * thrown away. Closing at once would reset the connection, and the answer with it. */
#define LINGER_MS 2000
#define LINGER_BYTES ((size_t)4 * 1024 * 1024)
#define LINGER_MAX 64
#define FLUSH_ROUNDS 8
/* libmicrohttpd keeps the answer's header in the same memory. */
#define ANSWER_HEADER_BYTES 1024

struct connection {
	struct connection *previous, *next;
	struct http *owner;
	struct MHD_Connection *mhd;
	int fd;
	bool forbidden; /* reached from beyond loopback while there is no token */
	bool asleep;
	bool some;   /* a request's line has come */
	bool served; /* a request was whole */
	struct loop_timer limit;
};

struct http_request {
	struct connection *connection;
	struct buf path, body;
	uint64_t body_bytes;
	bool answered, headers_seen, whole, too_large;
};

struct lingering {
	struct lingering *next;
	struct http *owner;
	int fd;
	size_t left_bytes;
	struct loop_timer timer;
};

static const struct {
	unsigned status;
	const char *label;
} counted[] = {
	{200, "status=\"200\""},
	{400, "status=\"400\""},
	{401, "status=\"401\""},
	{403, "status=\"403\""},
	{404, "status=\"404\""},
	{405, "status=\"405\""},
	{413, "status=\"413\""},
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
	struct connection *connections;
	size_t connections_count, requests_count;
	struct lingering *lingers;
	size_t lingers_count;
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

static void run(struct http *h)
{
	MHD_run(h->daemon);
	schedule(h);
	if (h->full && http_has_room(h)) {
		h->full = false;
		if (h->ops.room)
			h->ops.room(h->context);
	}
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

/* Not from within libmicrohttpd's callbacks, but soon. */
static void run_soon(struct http *h)
{
	loop_timer_set(h->loop, &h->run, loop_now_ms(h->loop));
}

void http_flush(struct http *h)
{
	for (int i = 0; i < FLUSH_ROUNDS; i++)
		MHD_run(h->daemon);
	schedule(h);
}

/* Lingering ----------------------------------------------------------------------- */

static void linger_free(struct lingering *l)
{
	struct lingering **at = &l->owner->lingers;

	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	l->owner->lingers_count--;
	loop_fd_remove(l->owner->loop, l->fd);
	loop_timer_clear(l->owner->loop, &l->timer);
	close(l->fd);
	free(l);
}

static void on_linger(void *context, int fd, short revents)
{
	struct lingering *l = context;
	char bytes[16384];
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	(void)revents;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || (size_t)n > l->left_bytes)
		linger_free(l);
	else
		l->left_bytes -= (size_t)n;
}

static void on_linger_end(void *context, int64_t now_ms)
{
	(void)now_ms;
	linger_free(context);
}

/* libmicrohttpd closes its descriptor of the connection; ours reads on for a while. */
static void linger_new(struct http *h, int fd)
{
	struct lingering *l;
	int own = h->lingers_count < LINGER_MAX && !h->freeing ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;

	if (own < 0)
		return;
	l = xcalloc(1, sizeof(*l));
	*l = (struct lingering){
		.next = h->lingers, .owner = h, .fd = own, .left_bytes = LINGER_BYTES};
	h->lingers = l;
	h->lingers_count++;
	loop_timer_init(&l->timer, on_linger_end, l);
	loop_timer_set(h->loop, &l->timer, loop_now_ms(h->loop) + LINGER_MS);
	loop_fd(h->loop, own, POLLIN, on_linger, l);
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
	loop_timer_set(c->owner->loop, &c->limit,
		loop_now_ms(c->owner->loop) + c->owner->config.receive_ms);
}

static bool address_is_local(const struct sockaddr_storage *address)
{
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)address;
	const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)address;

	if (address->ss_family == AF_INET)
		return ntohl(four->sin_addr.s_addr) >> 24 == 127;
	if (address->ss_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr) ||
		       (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr) && six->sin6_addr.s6_addr[12] == 127);
	return address->ss_family == AF_UNIX;
}

bool http_is_local(int fd)
{
	struct sockaddr_storage address = {0};
	socklen_t n = sizeof(address);

	return getsockname(fd, (struct sockaddr *)&address, &n) == 0 && address_is_local(&address);
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
		c->next = h->connections;
		if (c->next)
			c->next->previous = c;
		h->connections = c;
		h->connections_count++;
		h->accepted++;
		loop_timer_init(&c->limit, on_limit, c);
		limit_start(c);
		*socket_context = c;
		return;
	}
	if (!c)
		return;
	*(c->previous ? &c->previous->next : &h->connections) = c->next;
	if (c->next)
		c->next->previous = c->previous;
	h->connections_count--;
	loop_timer_clear(h->loop, &c->limit);
	free(c);
	*socket_context = NULL;
}

bool http_has_room(const struct http *h)
{
	return h->connections_count < h->config.max_connections;
}

bool http_accept(struct http *h, int fd)
{
	struct sockaddr_storage peer = {0};
	socklen_t n = sizeof(peer);
	int one = 1;
	bool taken;

	if (getpeername(fd, (struct sockaddr *)&peer, &n) < 0) {
		/* it has gone already */
		close(fd);
		return true;
	}
	if (peer.ss_family == AF_INET || peer.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	io_nonblocking(fd);
	taken = MHD_add_connection(h->daemon, fd, (struct sockaddr *)&peer, n) == MHD_YES;
	if (!taken)
		err_warn("a connection was not taken: %s", strerror(errno));
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

/* With one more header, or NULL. */
static enum MHD_Result answer(struct http_request *r, unsigned status, bool ok, size_t updated,
	size_t errors, const char *message, const char *name, const char *value)
{
	struct connection *c = r->connection;
	struct http *h = c->owner;
	struct MHD_Response *response;
	struct buf body;
	enum MHD_Result result;

	buf_init(&body, BUF_NO_MAX);
	buf_printf(&body, "{\"status\":\"%s\",\"message\":\"%s\",\"updated\":%zu,\"errors\":%zu}\n",
		ok ? "ok" : "error", message, updated, errors);
	response = MHD_create_response_from_buffer(
		buf_length(&body), (void *)buf_span(&body).p, MHD_RESPMEM_MUST_COPY);
	buf_free(&body);
	if (!response)
		err_die(EXIT_TEMPORARY, "out of memory");
	header_add(response, "Content-Type", "application/json");
	header_add(response, "Cache-Control", "no-store");
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

static enum MHD_Result refuse(struct http_request *r, unsigned status, const char *message,
	const char *name, const char *value)
{
	return answer(r, status, false, 0, 0, message, name, value);
}

void http_answer(struct http_request *r, size_t updated, size_t errors, const char *message)
{
	answer(r, 200, updated > 0 || errors == 0, updated, errors, message, NULL, NULL);
}

void http_busy(struct http_request *r, unsigned retry_after_s, const char *message)
{
	char seconds[16];

	snprintf(seconds, sizeof(seconds), "%u", retry_after_s);
	refuse(r, 503, message, "Retry-After", seconds);
}

/* Requests ------------------------------------------------------------------------ */

static bool token_matches(const struct http *h, struct MHD_Connection *mhd)
{
	const char *given = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Authorization");
	struct span token = buf_span(h->config.token), text = span_of(given);

	if (token.n == 0 || text.n < 7 || strncasecmp(given, "Bearer ", 7) != 0)
		return false;
	text = span_from(text, 7);
	while (text.n > 0 && *text.p == ' ')
		text = span_from(text, 1);
	return text.n == token.n && memeql_sec(text.p, token.p, token.n);
}

static enum MHD_Result count_length(
	void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
	size_t *count = context;
	size_t n = strcspn(name,
		" \t"); /* implementations differ on whether "Content-Length : 8" is a header */

	(void)kind;
	(void)value;
	if ((n == strlen("Content-Length") && strncasecmp(name, "Content-Length", n) == 0) ||
		(n == strlen("Transfer-Encoding") &&
			strncasecmp(name, "Transfer-Encoding", n) == 0))
		*count += name[n] ? 2 : 1;
	return MHD_YES;
}

/* Whether it is clear where the request ends (RFC 9112 6.3). Where it is not, a proxy in front may
 * see another end than libmicrohttpd does, and take the rest for another user's request. */
static bool length_clear(struct MHD_Connection *mhd)
{
	const char *coding = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Transfer-Encoding");
	size_t count = 0;

	MHD_get_connection_values(mhd, MHD_HEADER_KIND, count_length, &count);
	return count <= 1 && (!coding || strcasecmp(coding, "chunked") == 0);
}

/* Check the header. False: the request has been answered. */
static bool header_accepted(
	struct http_request *r, const char *path, const char *method, enum MHD_Result *result)
{
	struct connection *c = r->connection;
	struct http *h = c->owner;
	bool one = strncmp(path, REFRESH_PATH "/", strlen(REFRESH_PATH) + 1) == 0;
	const char *user = one ? path + strlen(REFRESH_PATH) + 1 : "";
	const char *length = MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, "Content-Length");
	bool token = buf_length(h->config.token) > 0;

	if (!length_clear(c->mhd))
		*result = refuse(
			r, 400, "it is not clear how long the body is", "Connection", "close");
	else if (c->forbidden && !token)
		*result = refuse(r, 403, "only from this machine, as no token is set", NULL, NULL);
	else if (strcmp(path, REFRESH_PATH) != 0 && (!one || !*user || strchr(user, '/')))
		*result = refuse(r, 404, "there is nothing here", NULL, NULL);
	else if (strcmp(method, one ? "GET" : "POST") != 0)
		*result = refuse(r, 405, "another method is needed", "Allow", one ? "GET" : "POST");
	else if (token && !token_matches(h, c->mhd))
		*result = refuse(r, 401, "a bearer token is needed", "WWW-Authenticate",
			"Bearer realm=\"roster_admin\"");
	else if (!one && !token && MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, "Origin"))
		*result = refuse(r, 403, "not from web pages", NULL, NULL);
	else if (length && strtoull(length, NULL, 10) > h->config.max_body_bytes)
		*result = refuse(r, 413, "the body is too large", NULL, NULL);
	else
		return true;
	return false;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static bool percent_decode(const char *text, struct buf *out)
{
	for (; *text; text++) {
		int high, low;

		if (*text != '%') {
			buf_append_char(out, *text);
			continue;
		}
		high = hex_digit(text[1]);
		low = high < 0 ? -1 : hex_digit(text[2]);
		if (low < 0)
			return false;
		buf_append_char(out, (char)(high * 16 + low));
		text += 2;
	}
	return true;
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
	if (buf_length(&r->path) > strlen(REFRESH_PATH)) {
		struct buf user;
		struct span name;

		buf_init(&user, BUF_NO_MAX);
		if (percent_decode(buf_string(&r->path) + strlen(REFRESH_PATH) + 1, &user) &&
			roster_user_valid(buf_span(&user))) {
			name = buf_span(&user);
			result = ask(r, &name, 1);
		} else {
			result = refuse(r, 400, "not a user name", NULL, NULL);
		}
		buf_free(&user);
		return result;
	}
	if (refresh_names_parse(buf_span(&r->body), ROSTER_MAX_VALUES, &names, &why))
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

static enum MHD_Result on_request(void *context, struct MHD_Connection *mhd, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_bytes,
	void **request_context)
{
	struct http_request *r = *request_context;
	struct http *h = context;
	enum MHD_Result result;

	(void)version;
	if (!r->headers_seen) {
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

		r->headers_seen = true;
		r->connection = info->socket_context;
		buf_append_string(&r->path, url);
		/* An answer from here closes the connection, because of a body that may follow:
		 * where none does, what the client has already sent after this request is answered,
		 * too. */
		if (!body_follows(mhd) || header_accepted(r, url, method, &result))
			return MHD_YES;
		/* of others it reads the body itself */
		if (strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0)
			linger_new(h, r->connection->fd);
		return result;
	}
	if (r->answered)
		return MHD_YES;
	if (*upload_bytes > 0) {
		r->body_bytes += *upload_bytes;
		if (r->body_bytes > 2 * (uint64_t)h->config.max_body_bytes) {
			err_info("a request with a body without end is closed");
			return MHD_NO;
		}
		if (!r->too_large && !buf_append(&r->body, upload, *upload_bytes)) {
			r->too_large = true;
			buf_reset(&r->body);
		}
		*upload_bytes = 0;
		return MHD_YES;
	}
	/* libmicrohttpd calls again, and by then waits for nothing more on this connection. If it
	 * were put to sleep in the turn in which it was read, the first thing after waking would be
	 * to read on, and a client that has shut down its side after the request would be taken for
	 * gone, without its answer. */
	if (!r->whole) {
		r->whole = true;
		return MHD_YES;
	}
	if (!body_follows(mhd) && !header_accepted(r, url, method, &result))
		return result;
	if (r->too_large)
		return refuse(r, 413, "the body is too large", NULL, NULL);
	return request_whole(r);
}

/* libmicrohttpd calls this first for each request, with its request line. */
static void *on_request_line(void *context, const char *uri, struct MHD_Connection *mhd)
{
	struct http *h = context;
	struct http_request *r = xcalloc(1, sizeof(*r));
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct connection *c = info ? info->socket_context : NULL;

	(void)uri;
	if (c)
		c->some = true;
	buf_init(&r->path, BUF_NO_MAX);
	buf_init(&r->body, h->config.max_body_bytes);
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
	buf_free(&r->path);
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

struct http *http_new(struct loop *loop, const struct http_config *config,
	const struct http_ops *ops, void *context, int *status)
{
	struct http *h = xcalloc(1, sizeof(*h));
	const union MHD_DaemonInfo *info;
	unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
			 MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls[3] = {{MHD_OPTION_END, 0, NULL}};

	h->loop = loop;
	h->config = *config;
	h->ops = *ops;
	h->context = context;
	loop_timer_init(&h->run, on_run, h);
	if (config->cert) {
		flags |= MHD_USE_TLS;
		tls[0] =
			(struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)config->cert};
		tls[1] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)config->key};
		tls[2] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
	}
	errno = 0;
	h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h,
		MHD_OPTION_EXTERNAL_LOGGER, on_log, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
		h, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_URI_LOG_CALLBACK,
		on_request_line, h, MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, h,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)config->max_connections,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, config->max_header_bytes + ANSWER_HEADER_BYTES,
		MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
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
	while (h->lingers)
		/* unlinked before it is freed, which the analyzer does not see */
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		linger_free(h->lingers);
	MHD_stop_daemon(h->daemon);
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
	return h->connections_count;
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
