#include "roster/http.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "loop/listen.h"
#include "roster/http-guard.h"
#include "roster/http-exchange.h"

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

static void on_epoll(void *context, int fd, short revents)
{
	(void)fd;
	(void)revents;
	run(context);
}

static void on_run(void *context)
{
	run(context);
}

void http_run_soon(struct http *h)
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

static void on_limit(void *context)
{
	struct connection *c = context;

	/* on_completed() reports requests whose first line has come */
	if (!c->some && !c->served) {
		c->owner->unfinished++;
		err_info("a connection on which no request came in time is closed");
	}
	shutdown(c->fd, SHUT_RDWR);
	http_run_soon(c->owner);
}

void http_limit_start(struct connection *c)
{
	c->since_ms = loop_now_ms(c->owner->loop);
	loop_timer_set(c->owner->loop, &c->limit,
		loop_now_ms(c->owner->loop) + c->owner->config.receive_ms);
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
		c->forbidden = !listen_is_local(c->fd);
		h->coming -= h->coming > 0;
		LIST_INSERT_HEAD(&h->connections, c, list);
		h->connections_count++;
		h->accepted++;
		loop_timer_init(&c->limit, on_limit, c);
		http_limit_start(c);
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
	http_run_soon(h);
	return taken;
}

/* Life ---------------------------------------------------------------------------- */

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
	return MHD_start_daemon(flags, 0, NULL, NULL, http_on_request, h,
		MHD_OPTION_EXTERNAL_LOGGER, on_log, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
		h, MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, h, MHD_OPTION_URI_LOG_CALLBACK,
		http_on_request_line, h, MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, h,
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
	loop_timer_init(&h->room, on_run, h);
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
	size_t n = http_answer_metrics(h, out, max);

	return metrics_add(out, n, max, others, sizeof(others) / sizeof(others[0]));
}
