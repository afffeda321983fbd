/* loop/flow.h - what a source, a sink and both together (a link) have in common */
#ifndef OUTBOARD_LOOP_FLOW_H
#define OUTBOARD_LOOP_FLOW_H

#include <stdbool.h>
#include <stdint.h>

struct loop;

enum link_end {
	LINK_EOF,    /* end of input (socket: without </stream:stream>) */
	LINK_CLOSED, /* </stream:stream> */
	LINK_BROKEN, /* the input could not be parsed (socket only) */
	LINK_READ_ERROR,
	LINK_WRITE_ERROR,
	LINK_STALLED, /* output did not drain for stall_ms (of a partner: while it was listened to)
		       */
};

/* Sums over the life of the owner: one link after the other adds to them. */
struct link_counts {
	uint64_t stanzas_in, bytes_in; /* stanzas_in: iq, message, presence */
	uint64_t stanzas_out, bytes_out;
	uint64_t bad;	    /* pieces of a pipe's input that could not be parsed */
	uint64_t refused;   /* stanzas over a limit of the reader */
	uint64_t too_large; /* stanzas not sent: over max_send_bytes */
};

/* How a file descriptor is used without ever blocking. */
enum fd_kind {
	FD_SOCKET,
	FD_NONBLOCKING, /* the description has O_NONBLOCK, or is our own */
	FD_PIECES,	/* blocking, shared with others, cannot be opened again */
	FD_READY,	/* files and devices that are always ready */
};
/* The part that a source and a sink share; its owner reads it and counts. */
struct flow {
	struct loop *loop;
	int fd, ours; /* fd: what to use; ours: the same if we have opened it, else -1 */
	enum fd_kind kind;
	struct link_counts *counts, own_counts;
	unsigned busy; /* functions of the owner on the stack: flow_enter() */
	bool freed;    /* by a callback meanwhile: the owner is freed once it is no longer busy */
};

/* mode: O_RDONLY or O_WRONLY; counts: NULL: our own. Setting O_NONBLOCK on a pipe or terminal would
 * set it for everybody who shares the open file description, the shell included; so it is opened
 * again through /proc/self/fd where that can be done. */
void flow_open(struct flow *f, struct loop *loop, int fd, int mode, struct link_counts *counts);
/* Close what flow_open() has opened. The counts of the owner are not touched any more: its callback
 * may have freed them. True: the owner's memory may be freed now; else flow_leave() says when. */
bool flow_close(struct flow *f);

static inline void flow_enter(struct flow *f)
{
	f->busy++;
}

/* True: the owner was freed meanwhile, and its memory is to be freed now. */
static inline bool flow_leave(struct flow *f)
{
	return --f->busy == 0 && f->freed;
}

#endif
