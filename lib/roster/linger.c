#include "roster/linger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"

struct lingering {
	LIST_ENTRY(lingering) list;
	struct lingers *owner;
	int fd;
	size_t left_bytes;
	struct loop_timer timer;
};

static void linger_free(struct lingering *l)
{
	LIST_REMOVE(l, list);
	l->owner->count--;
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

static void on_linger_end(void *context)
{
	linger_free(context);
}

void lingers_init(struct lingers *l, struct loop *loop)
{
	*l = (struct lingers){.loop = loop};
}

void lingers_free(struct lingers *l)
{
	while (!LIST_EMPTY(&l->list))
		/* unlinked before it is freed, which the analyzer does not see */
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		linger_free(LIST_FIRST(&l->list));
}

void lingers_add(struct lingers *owner, int fd)
{
	int own = owner->count < LINGER_MAX ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	struct lingering *l;

	if (own < 0)
		return;
	l = xcalloc(1, sizeof(*l));
	*l = (struct lingering){.owner = owner, .fd = own, .left_bytes = LINGER_BYTES};
	LIST_INSERT_HEAD(&owner->list, l, list);
	owner->count++;
	loop_timer_init(&l->timer, on_linger_end, l);
	loop_timer_set(owner->loop, &l->timer, loop_now_ms(owner->loop) + LINGER_MS);
	loop_fd(owner->loop, own, POLLIN, on_linger, l);
}
