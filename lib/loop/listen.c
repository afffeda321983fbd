#include "loop/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "loop/dial.h"

#define BACKLOG 64
/* How long no client is accepted when descriptors have run out. */
#define PAUSE_MS 200
/* How many are accepted in one turn, so that clients that keep connecting do not occupy the loop.
 */
#define WAITING_MAX 1024

struct listen_socket {
	struct listening {
		int fd;
		bool inherited;
	} * list;
	size_t count;
	char *path; /* ours to remove, or NULL */
	dev_t device;
	ino_t inode;
	bool held;
	struct loop *loop;
	void (*fn)(void *context, int fd);
	void *context;
	struct loop_timer again;
};

int listen_inherited(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	char *end;
	long n = 0;

	if (pid && fds && strtol(pid, &end, 10) == (long)getpid() && !*end) {
		n = strtol(fds, &end, 10);
		if (*end || n < 0 || n > 1024)
			n = 0;
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	for (long i = 0; i < n; i++)
		io_cloexec(LISTEN_FIRST_FD + (int)i);
	return (int)n;
}

static void add_fd(struct listen_socket **l, int fd, bool inherited)
{
	struct listening *list = *l ? (*l)->list : NULL;
	size_t count = *l ? (*l)->count : 0;

	if (!*l)
		*l = xcalloc(1, sizeof(**l));
	(*l)->list = xrealloc(list, (count + 1) * sizeof(*list));
	(*l)->list[count] = (struct listening){fd, inherited};
	(*l)->count = count + 1;
	io_nonblocking(fd);
}

/* Whether a process accepts connections at the address. */
static bool alive(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool there =
		fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
				   errno == EAGAIN);

	if (fd >= 0)
		close(fd);
	return there;
}

static bool mode_of(const char *text, mode_t *mode)
{
	char *end;
	long value = text ? strtol(text, &end, 8) : 0600;

	if (text && (*end || end == text || value < 0 || value > 0777))
		return false;
	*mode = (mode_t)value;
	return true;
}

/* Make way for a socket at the address: the one there, if any, is nobody's. */
static int clear_path(const struct sockaddr_un *address)
{
	const char *path = address->sun_path;
	struct stat st;

	if (lstat(path, &st) != 0)
		return EXIT_DONE;
	if (!S_ISSOCK(st.st_mode)) {
		err_error("'%s' is there and no socket", path);
		return EXIT_CONFIG;
	}
	if (alive(address)) {
		err_error("somebody listens on '%s' already", path);
		return EXIT_TEMPORARY;
	}
	unlink(path);
	return EXIT_DONE;
}

/* A listening socket at the address; -1 with errno. */
static int bind_unix(const struct sockaddr_un *address, mode_t mode, struct stat *st)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), error;
	/* the socket must never be more open than the mode says, not even for a moment */
	mode_t mask = umask(0777);
	bool bound = fd >= 0 && bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;

	error = errno;
	umask(mask);
	if (bound && chmod(address->sun_path, mode) == 0 && listen(fd, BACKLOG) == 0 &&
		stat(address->sun_path, st) == 0)
		return fd;
	if (bound)
		error = errno;
	if (fd >= 0)
		close(fd);
	errno = error;
	return -1;
}

static int open_unix(const char *path, const char *mode_text, struct listen_socket **l)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;
	mode_t mode;
	int fd, status;

	if (strlen(path) >= sizeof(address.sun_path)) {
		err_error("'%s' is too long for a socket", path);
		return EXIT_CONFIG;
	}
	if (!mode_of(mode_text, &mode)) {
		err_error("'%s' is no mode", mode_text);
		return EXIT_CONFIG;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	status = clear_path(&address);
	if (status != EXIT_DONE)
		return status;
	fd = bind_unix(&address, mode, &st);
	if (fd < 0) {
		err_error("cannot listen on '%s': %s", path, strerror(errno));
		return EXIT_CONFIG;
	}
	add_fd(l, fd, false);
	(*l)->path = xstrdup(path);
	(*l)->device = st.st_dev;
	(*l)->inode = st.st_ino;
	return EXIT_DONE;
}

int listen_open(const char *path, const char *mode, struct listen_socket **l)
{
	int inherited = listen_inherited();

	if (path)
		return open_unix(path, mode, l);
	for (int i = 0; i < inherited; i++)
		add_fd(l, LISTEN_FIRST_FD + i, true);
	return EXIT_DONE;
}

/* The addresses of ADDR:PORT. */
static int look_up(const char *text, struct addrinfo **list)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	char *host = NULL, *port = NULL;
	int wrong;

	*list = NULL;
	if (!io_split_host_port(text, &host, &port)) {
		err_error("'%s' is not ADDR:PORT", text);
		return EXIT_CONFIG;
	}
	wrong = getaddrinfo(host && *host ? host : "127.0.0.1", port, &hints, list);
	if (wrong == EAI_MEMORY)
		err_error("out of memory");
	else if (wrong)
		err_error("cannot listen on '%s': %s", text,
			wrong == EAI_SYSTEM ? strerror(errno) : gai_strerror(wrong));
	free(host);
	free(port);
	return wrong == EAI_MEMORY ? EXIT_TEMPORARY : wrong ? EXIT_CONFIG : EXIT_DONE;
}

/* A listening socket at the address; -1 with errno. */
static int bind_tcp(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, error;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (a->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

int listen_open_tcp(const char *text, struct listen_socket **l)
{
	struct addrinfo *list;
	int status = look_up(text, &list);

	for (const struct addrinfo *a = list; a && status == EXIT_DONE; a = a->ai_next) {
		int fd = bind_tcp(a);

		if (fd < 0) {
			bool later = errno == EADDRINUSE || errno == EMFILE || errno == ENFILE;

			err_error("cannot listen on '%s': %s", text, strerror(errno));
			status = later ? EXIT_TEMPORARY : EXIT_CONFIG;
			break;
		}
		add_fd(l, fd, false);
	}
	if (list)
		freeaddrinfo(list);
	return status;
}

void listen_take(int fd, struct listen_socket **l)
{
	add_fd(l, fd, true);
}

bool listen_is_listening(int fd)
{
	int listening = 0;
	socklen_t n = sizeof(listening);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) == 0 && listening;
}

bool listen_is_connection(int fd)
{
	struct sockaddr_storage peer;
	socklen_t n = sizeof(peer);
	int type = 0;
	socklen_t type_n = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_n) == 0 && type == SOCK_STREAM &&
	       getpeername(fd, (struct sockaddr *)&peer, &n) == 0;
}

bool listen_is_local(int fd)
{
	struct sockaddr_storage address = {0};
	socklen_t n = sizeof(address);

	return getsockname(fd, (struct sockaddr *)&address, &n) == 0 &&
	       dial_is_loopback((const struct sockaddr *)&address);
}

size_t listen_count(const struct listen_socket *l)
{
	return l ? l->count : 0;
}

int listen_fd(const struct listen_socket *l, size_t i)
{
	return l->list[i].fd;
}

bool listen_all_local(const struct listen_socket *l)
{
	for (size_t i = 0; i < listen_count(l); i++)
		if (!listen_is_local(listen_fd(l, i)))
			return false;
	return true;
}

static void watch(struct listen_socket *l, bool on);

void listen_hold(struct listen_socket *l, bool hold)
{
	if (!l || !l->loop)
		return;
	loop_timer_clear(l->loop, &l->again);
	watch(l, !hold);
	l->held = hold;
}

static void on_again(void *context)
{
	watch(context, true);
}

static void on_ready(void *context, int fd, short revents)
{
	struct listen_socket *l = context;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	(void)revents;
	if (client >= 0) {
		l->fn(l->context, client);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		err_warn("cannot accept a client: %s", strerror(errno));
		watch(l, false);
		loop_timer_set(l->loop, &l->again, loop_now_ms(l->loop) + PAUSE_MS);
	}
}

static void watch(struct listen_socket *l, bool on)
{
	for (size_t i = 0; i < l->count; i++) {
		if (on)
			loop_fd(l->loop, l->list[i].fd, POLLIN, on_ready, l);
		else
			loop_fd_remove(l->loop, l->list[i].fd);
	}
}

void listen_start(struct listen_socket *l, struct loop *loop, void (*fn)(void *context, int fd),
	void *context)
{
	if (!l)
		return;
	l->loop = loop;
	l->fn = fn;
	l->context = context;
	loop_timer_init(&l->again, on_again, l);
	watch(l, true);
}

static void address_say(int fd)
{
	struct sockaddr_storage address = {0};
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)&address;
	const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)&address;
	const struct sockaddr_un *path = (const struct sockaddr_un *)(const void *)&address;
	socklen_t n = sizeof(address);
	char text[INET6_ADDRSTRLEN];

	if (getsockname(fd, (struct sockaddr *)&address, &n) < 0)
		return;
	if (address.ss_family == AF_INET && inet_ntop(AF_INET, &four->sin_addr, text, sizeof(text)))
		err_note("listening on %s:%u", text, ntohs(four->sin_port));
	else if (address.ss_family == AF_INET6 &&
		 inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof(text)))
		err_note("listening on [%s]:%u", text, ntohs(six->sin6_port));
	else if (address.ss_family == AF_UNIX)
		err_note("listening on '%s'", path->sun_path);
}

void listen_say(const struct listen_socket *l)
{
	for (size_t i = 0; l && i < l->count; i++)
		address_say(l->list[i].fd);
}

void listen_take_waiting(struct listen_socket *l)
{
	if (!l || !l->loop)
		return;
	for (size_t i = 0; i < l->count; i++) {
		for (int n = 0; n < WAITING_MAX && !l->held && !l->list[i].inherited; n++) {
			int client = accept4(l->list[i].fd, NULL, NULL, SOCK_CLOEXEC);

			if (client < 0)
				break;
			l->fn(l->context, client);
		}
	}
}

void listen_stop(struct listen_socket *l)
{
	struct stat st;

	if (!l || !l->loop)
		return;
	watch(l, false);
	loop_timer_clear(l->loop, &l->again);
	l->loop = NULL;
	/* remove it only if no other file has taken its place */
	if (l->path && lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
		unlink(l->path);
}

void listen_free(struct listen_socket *l)
{
	if (!l)
		return;
	listen_stop(l);
	for (size_t i = 0; i < l->count; i++)
		close(l->list[i].fd);
	free(l->list);
	free(l->path);
	free(l);
}
