#include "loop/flow.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* A FIFO that is opened when its writers have gone is not told of it by poll; the descriptor that
 * was open before is, and can be read without waiting. */
static bool has_hung_up(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0 && (p.revents & POLLHUP);
}

static enum fd_kind open_again(int fd, int mode, int *ours)
{
	struct stat st;
	char path[40];
	int flags = fcntl(fd, F_GETFL);

	*ours = -1;
	if (fstat(fd, &st) < 0 || flags < 0)
		return FD_READY; /* the first read or write says what is wrong */
	if (S_ISSOCK(st.st_mode))
		return FD_SOCKET;
	if (!S_ISFIFO(st.st_mode) && !(S_ISCHR(st.st_mode) && isatty(fd)))
		return FD_READY;
	if ((flags & O_ACCMODE) != O_RDWR && (flags & O_ACCMODE) != mode)
		return FD_READY; /* as above: EBADF */
	if (flags & O_NONBLOCK)
		return FD_NONBLOCKING;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	*ours = open(path, mode | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (*ours >= 0 && mode == O_RDONLY && S_ISFIFO(st.st_mode) && has_hung_up(fd)) {
		close(*ours);
		*ours = -1;
	}
	return *ours >= 0 ? FD_NONBLOCKING : FD_PIECES;
}

void flow_open(struct flow *f, struct loop *loop, int fd, int mode, struct link_counts *counts)
{
	*f = (struct flow){.loop = loop, .ours = -1};
	f->kind = open_again(fd, mode, &f->ours);
	f->fd = f->ours >= 0 ? f->ours : fd;
	f->counts = counts ? counts : &f->own_counts;
}

bool flow_close(struct flow *f)
{
	if (f->ours >= 0)
		close(f->ours);
	f->counts = &f->own_counts;
	f->freed = f->busy > 0;
	return !f->freed;
}
