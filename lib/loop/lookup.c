#include "loop/lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"

enum { RUNNING, DONE, ABANDONED };

/* The thread and lookup_free() both exchange `owner`; the second one to do so frees everything. */
struct lookup {
	pthread_t thread;
	char *host, *port; /* port may be NULL */
	struct addrinfo hints;
	int fd, done_fd; /* a pipe; the thread closes done_fd at its end */
	int error, error_number;
	struct addrinfo *found;
	atomic_int owner;
};

static void destroy(struct lookup *l)
{
	if (l->found)
		freeaddrinfo(l->found);
	free(l->host);
	free(l->port);
	free(l);
}

static void *run(void *context)
{
	struct lookup *l = context;
	int fd = l->done_fd;

	l->error = getaddrinfo(l->host, l->port, &l->hints, &l->found);
	l->error_number = errno;
	if (atomic_exchange(&l->owner, DONE) == ABANDONED)
		destroy(l);
	close(fd); /* closing the pipe is the message */
	return NULL;
}

struct lookup *lookup_new(const char *host, const char *port, const struct addrinfo *hints)
{
	struct lookup *l;
	sigset_t all, before;
	int fds[2], error;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return NULL;
	l = xcalloc(1, sizeof(*l));
	l->host = xstrdup(host);
	l->port = port ? xstrdup(port) : NULL;
	l->hints = *hints;
	l->fd = fds[0];
	l->done_fd = fds[1];
	atomic_init(&l->owner, RUNNING);
	sigfillset(&all); /* the caller's thread handles signals */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&l->thread, NULL, run, l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!error)
		return l;
	close(fds[0]);
	close(fds[1]);
	destroy(l);
	errno = error;
	return NULL;
}

int lookup_fd(const struct lookup *l)
{
	return l->fd;
}

int lookup_finish(struct lookup *l, struct addrinfo **found)
{
	int error, error_number;

	close(l->fd);
	pthread_join(l->thread, NULL);
	error = l->error;
	error_number = l->error_number;
	*found = l->found;
	l->found = NULL;
	destroy(l);
	errno = error_number;
	return error;
}

void lookup_free(struct lookup *l)
{
	if (!l)
		return;
	close(l->fd);
	pthread_detach(l->thread);
	if (atomic_exchange(&l->owner, ABANDONED) == DONE)
		destroy(l);
}
