#include "roster/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "loop/listen.h"

#define DEFAULT_LISTEN "127.0.0.1:5280"

static bool same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* inetd's connection is our standard input, output and error: nothing but HTTP may be written to
 * it. */
static int connection_take(struct sockets *s, const struct refreshservice_config *c, int fd)
{
	int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

	s->connection = fcntl(fd, F_DUPFD_CLOEXEC, LISTEN_FIRST_FD);
	if (s->connection < 0 || nothing < 0) {
		err_error("cannot take the connection: %s", strerror(errno));
		return EXIT_TEMPORARY;
	}
	if (!c->worker && same_file(1, s->connection)) {
		err_error("the names have nowhere to go: standard output is the connection");
		return EXIT_CONFIG;
	}
	for (int i = 0; i < 3; i++)
		if (same_file(i, s->connection))
			dup2(nothing, i);
	if (fd >= LISTEN_FIRST_FD)
		close(fd);
	close(nothing);
	return EXIT_DONE;
}

static int inherit(struct sockets *s, const struct refreshservice_config *c, int fd)
{
	if (listen_is_listening(fd)) {
		/* a child must not inherit this socket as standard input */
		int own = fd < LISTEN_FIRST_FD ? fcntl(fd, F_DUPFD_CLOEXEC, LISTEN_FIRST_FD) : fd;

		if (own < 0) {
			err_error("cannot take the socket: %s", strerror(errno));
			return EXIT_TEMPORARY;
		}
		listen_take(own, &s->listen);
		return EXIT_DONE;
	}
	if (!listen_is_connection(fd) || s->connection >= 0) {
		err_error("descriptor %d is not a socket to serve", fd);
		return EXIT_CONFIG;
	}
	return connection_take(s, c, fd);
}

int sockets_open(struct sockets *s, const struct refreshservice_config *c)
{
	int inherited = listen_inherited(), status = EXIT_DONE;
	bool own = c->listen.count > 0 || c->unix_path;

	for (int i = 0; i < inherited && status == EXIT_DONE; i++)
		status = inherit(s, c, LISTEN_FIRST_FD + i);
	for (size_t i = 0; i < c->listen.count && status == EXIT_DONE; i++)
		status = listen_open_tcp(c->listen.items[i], &s->listen);
	if (c->unix_path && status == EXIT_DONE)
		status = listen_open(c->unix_path, c->unix_mode, &s->listen);
	if (status != EXIT_DONE || own || inherited)
		return status;
	if (listen_is_listening(0) || listen_is_connection(0))
		return inherit(s, c, 0);
	return listen_open_tcp(DEFAULT_LISTEN, &s->listen);
}
