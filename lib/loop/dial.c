#include "loop/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/err.h"
#include "loop/lookup.h"

#define UNSENT_BYTES (128 * 1024)
#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_COUNT 3
#define WHY_BYTES 1024

struct dial {
	struct loop *loop;
	struct dial_ops ops;
	void *context;
	char *host, *port;
	struct loop_timer timer;
	struct lookup *lookup; /* while a name is looked up */
	struct addrinfo *addresses,
		*address; /* all addresses; the one that is being connected to */
	int fd;		  /* -1: none */
	bool loopback;
};

/* Beginning and end -------------------------------------------------------------- */

static void abandon_lookup(struct dial *d)
{
	if (d->lookup)
		loop_fd_remove(d->loop, lookup_fd(d->lookup));
	lookup_free(d->lookup);
	d->lookup = NULL;
}

static void close_socket(struct dial *d)
{
	if (d->fd < 0)
		return;
	loop_fd_remove(d->loop, d->fd);
	close(d->fd);
	d->fd = -1;
}

void dial_cancel(struct dial *d)
{
	if (!d)
		return;
	loop_timer_clear(d->loop, &d->timer);
	abandon_lookup(d);
	close_socket(d);
	if (d->addresses)
		freeaddrinfo(d->addresses);
	free(d->host);
	free(d->port);
	free(d);
}

__attribute__((format(printf, 2, 3))) static void fail(struct dial *d, const char *format, ...)
{
	struct dial_ops ops = d->ops;
	void *context = d->context;
	bool loopback = d->loopback;
	char why[WHY_BYTES];
	va_list ap;

	va_start(ap, format);
	vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	dial_cancel(d);
	ops.failed(context, why, loopback);
}

static void succeed(struct dial *d)
{
	struct dial_ops ops = d->ops;
	void *context = d->context;
	bool loopback = d->loopback;
	int fd = d->fd;

	loop_fd_remove(d->loop, fd);
	d->fd = -1;
	dial_cancel(d);
	ops.connected(context, fd, loopback);
}

/* Addresses ---------------------------------------------------------------------- */

static bool is_loopback_4(const struct in_addr *address)
{
	return ntohl(address->s_addr) >> 24 == 127;
}

static bool is_loopback_6(const struct in6_addr *address)
{
	return IN6_IS_ADDR_LOOPBACK(address) ||
	       (IN6_IS_ADDR_V4MAPPED(address) && address->s6_addr[12] == 127);
}

bool dial_is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return is_loopback_4(
			&((const struct sockaddr_in *)(const void *)address)->sin_addr);
	if (address->sa_family == AF_INET6)
		return is_loopback_6(
			&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
	return address->sa_family == AF_UNIX;
}

bool dial_names_loopback(struct span host)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr six;
	struct in_addr four;

	snprintf(text, sizeof(text), "%.*s", SPAN_ARG(host));
	if (host.n < sizeof(text) && inet_pton(AF_INET, text, &four) == 1)
		return is_loopback_4(&four);
	if (host.n < sizeof(text) && inet_pton(AF_INET6, text, &six) == 1)
		return is_loopback_6(&six);
	host.n -= host.n && host.p[host.n - 1] == '.';
	return host.n >= 9 && strncasecmp(host.p + host.n - 9, "localhost", 9) == 0 &&
	       (host.n == 9 || host.p[host.n - 10] == '.');
}

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
	/* Failures are ignored: the connection works without these options, too. */
	(void)setsockopt(fd, level, name, &value, sizeof(value));
}

void dial_bound_unsent(int fd, int bytes)
{
	if (setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes)) < 0)
		set_option(fd, SOL_SOCKET, SO_SNDBUF, bytes);
}

void dial_tune(int fd, int64_t ack_ms)
{
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	dial_bound_unsent(fd, UNSENT_BYTES);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT);
	if (ack_ms)
		set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)ack_ms);
}

static void connect_next(struct dial *d, int error);

static void on_socket(void *context, int fd, short revents)
{
	struct dial *d = context;
	int error = 0;
	socklen_t n = sizeof(error);

	(void)revents;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
		error = errno;
	if (!error && is_self(fd))
		error = ECONNREFUSED;
	if (error)
		connect_next(d, error);
	else
		succeed(d);
}

/* Begin with d->address. 0 or an errno. */
static int connect_begin(struct dial *d)
{
	const struct addrinfo *a = d->address;

	d->loopback = dial_is_loopback(a->ai_addr);
	d->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
	if (d->fd < 0)
		return errno;
	dial_tune(d->fd, 0);
	if (connect(d->fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS)
		return errno;
	loop_fd(d->loop, d->fd, POLLOUT, on_socket, d);
	loop_timer_set(d->loop, &d->timer, loop_now_ms(d->loop) + DIAL_ADDRESS_MS);
	return 0;
}

static void log_address(const struct addrinfo *a, int error)
{
	char text[NI_MAXHOST];

	if (err_shows(ERR_INFO) && getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL,
					   0, NI_NUMERICHOST) == 0)
		err_info("%s does not connect: %s", text, strerror(error));
}

/* The address has failed (error is 0 before the first one): try the next one. */
static void connect_next(struct dial *d, int error)
{
	for (;;) {
		if (error) {
			log_address(d->address, error);
			close_socket(d);
			d->address = d->address->ai_next;
		}
		if (!d->address) {
			fail(d, "cannot connect to %s%s%s:%s: %s", strchr(d->host, ':') ? "[" : "",
				d->host, strchr(d->host, ':') ? "]" : "", d->port, strerror(error));
			return;
		}
		error = connect_begin(d);
		if (!error)
			return;
	}
}

static void connect_all(struct dial *d, struct addrinfo *addresses)
{
	d->addresses = d->address = addresses;
	connect_next(d, 0);
}

/* Name --------------------------------------------------------------------------- */

static struct addrinfo hints_with(int flags)
{
	return (struct addrinfo){.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
}

static void fail_lookup(struct dial *d, int error)
{
	fail(d, "cannot find the address of '%s': %s", d->host,
		error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
}

static void on_lookup(void *context, int fd, short revents)
{
	struct dial *d = context;
	struct addrinfo *addresses = NULL;
	int error;

	(void)revents;
	loop_fd_remove(d->loop, fd);
	error = lookup_finish(d->lookup, &addresses);
	d->lookup = NULL;
	if (error)
		fail_lookup(d, error);
	else
		connect_all(d, addresses);
}

static void start_lookup(struct dial *d)
{
	struct addrinfo hints = hints_with(AI_ADDRCONFIG);

	d->lookup = lookup_new(d->host, d->port, &hints);
	if (d->lookup)
		loop_fd(d->loop, lookup_fd(d->lookup), POLLIN, on_lookup, d);
	else
		fail_lookup(d, EAI_SYSTEM);
}

/* The first call begins the work. Later calls mean that an address takes too long. */
static void on_timer(void *context)
{
	struct addrinfo hints = hints_with(AI_NUMERICHOST), *addresses;
	struct dial *d = context;

	if (d->address)
		connect_next(d, ETIMEDOUT);
	else if (getaddrinfo(d->host, d->port, &hints, &addresses) == 0)
		connect_all(d, addresses);
	else
		start_lookup(d);
}

struct dial *dial_start(struct loop *loop, const char *host, const char *port,
	const struct dial_ops *ops, void *context)
{
	struct dial *d = xcalloc(1, sizeof(*d));

	d->loop = loop;
	d->ops = *ops;
	d->context = context;
	d->host = xstrdup(host);
	d->port = xstrdup(port);
	d->fd = -1;
	loop_timer_init(&d->timer, on_timer, d);
	loop_timer_set(loop, &d->timer, 0);
	return d;
}
