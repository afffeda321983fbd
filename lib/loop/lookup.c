#include "loop/lookup.h"

#include <arpa/nameser.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <resolv.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

enum { RUNNING, DONE, ABANDONED };

/* The thread and lookup_free() both exchange `owner`; the second one to do so frees everything. */
struct lookup {
	pthread_t thread;
	char *service;	   /* NULL: only the host */
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
	free(l->service);
	free(l->host);
	free(l->port);
	free(l);
}

/* SRV records --------------------------------------------------------------- */

#define ANSWER_BYTES 16384
#define SRV_BYTES 6 /* before the target's name */

struct target {
	unsigned priority, weight, port;
	char host[NS_MAXDNAME];
};

static unsigned number_at(const unsigned char *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static int compare_targets(const void *a, const void *b)
{
	const struct target *one = a, *other = b;

	if (one->priority != other->priority)
		return one->priority < other->priority ? -1 : 1;
	return (one->weight < other->weight) - (one->weight > other->weight);
}

/* Move *p behind a name and `more` bytes. False: the answer ends before. */
static bool skip(const unsigned char **p, const unsigned char *end, int more)
{
	int n = dn_skipname(*p, end);

	if (n < 0 || end - *p < n + more)
		return false;
	*p += n + more;
	return true;
}

/* The SRV records of an answer, sorted. Returns how many; what is cut or wrong ends them. */
static size_t targets_read(const unsigned char *answer, size_t n, struct target *targets)
{
	const unsigned char *p = answer + NS_HFIXEDSZ, *end = answer + n;
	unsigned questions, records;
	size_t count = 0;

	if (n < NS_HFIXEDSZ)
		return 0;
	questions = number_at(answer + 4);
	records = number_at(answer + 6);
	while (questions-- > 0)
		if (!skip(&p, end, NS_QFIXEDSZ))
			return 0;
	while (records-- > 0 && count < LOOKUP_TARGETS && skip(&p, end, NS_RRFIXEDSZ)) {
		const unsigned char *srv = p;
		unsigned type = number_at(p - NS_RRFIXEDSZ), bytes = number_at(p - 2);
		struct target *t = &targets[count];

		if ((size_t)(end - p) < bytes)
			break;
		p += bytes;
		if (type != ns_t_srv || bytes <= SRV_BYTES ||
			dn_expand(answer, end, srv + SRV_BYTES, t->host, sizeof(t->host)) < 0)
			continue;
		t->priority = number_at(srv);
		t->weight = number_at(srv + 2);
		t->port = number_at(srv + 4);
		count++;
	}
	qsort(targets, count, sizeof(*targets), compare_targets);
	return count;
}

static size_t targets_find(const struct lookup *l, struct target *targets)
{
	unsigned char *answer = xmalloc(ANSWER_BYTES);
	char name[NS_MAXDNAME];
	size_t count = 0;
	int n;

	if ((size_t)snprintf(name, sizeof(name), "%s.%s", l->service, l->host) < sizeof(name)) {
		n = res_query(name, ns_c_in, ns_t_srv, answer, ANSWER_BYTES);
		if (n > 0)
			count = targets_read(
				answer, n < ANSWER_BYTES ? (size_t)n : ANSWER_BYTES, targets);
	}
	free(answer);
	return count;
}

/* Find the addresses of all targets, one list behind the other: freeaddrinfo(3) of glibc frees the
 * items one by one. */
static int find_targets(struct lookup *l, const struct target *targets, size_t count)
{
	struct addrinfo **end = &l->found;
	int error = 0;
	char port[8];

	if (count == 1 && !targets[0].host[0])
		return EAI_SERVICE;
	for (size_t i = 0; i < count; i++) {
		struct addrinfo *more = NULL;
		int failed;

		snprintf(port, sizeof(port), "%u", targets[i].port);
		failed = getaddrinfo(targets[i].host, port, &l->hints, &more);
		error = failed ? failed : error;
		if (!failed)
			*end = more;
		while (*end)
			end = &(*end)->ai_next;
	}
	return l->found ? 0 : error;
}

/* The thread ------------------------------------------------------------------- */

static int find(struct lookup *l)
{
	struct target *targets;
	size_t count;
	int error;

	if (!l->service)
		return getaddrinfo(l->host, l->port, &l->hints, &l->found);
	targets = xcalloc(LOOKUP_TARGETS, sizeof(*targets));
	count = targets_find(l, targets);
	error = count ? find_targets(l, targets, count)
		      : getaddrinfo(l->host, l->port, &l->hints, &l->found);
	free(targets);
	return error;
}

static void *run(void *context)
{
	struct lookup *l = context;
	int fd = l->done_fd;

	l->error = find(l);
	l->error_number = errno;
	if (atomic_exchange(&l->owner, DONE) == ABANDONED)
		destroy(l);
	close(fd); /* closing the pipe is the message */
	return NULL;
}

struct lookup *lookup_new(const char *host, const char *port, const struct addrinfo *hints)
{
	return lookup_new_service(NULL, host, port, hints);
}

struct lookup *lookup_new_service(
	const char *service, const char *host, const char *port, const struct addrinfo *hints)
{
	struct lookup *l;
	sigset_t all, before;
	int fds[2], error;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return NULL;
	l = xcalloc(1, sizeof(*l));
	l->service = service ? xstrdup(service) : NULL;
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
	errno = error == EAGAIN ? ENOMEM
				: error; /* pthread_create(3) has no memory for the stack */
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
