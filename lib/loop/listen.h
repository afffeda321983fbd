/* loop/listen.h - sockets that wait for clients: inherited ones, and unix and TCP sockets of our
 * own
 *
 * sd_listen_fds(3)'s protocol ($LISTEN_FDS, $LISTEN_PID) is documented, small and
 * stable, so it is spoken here without libsystemd.
 */
#ifndef OUTBOARD_LOOP_LISTEN_H
#define OUTBOARD_LOOP_LISTEN_H

#include "loop/loop.h"

/* How many descriptors, from 3 on, a supervisor has passed to this process; the variables are
 * removed from the environment, the descriptors are made close-on-exec. 0: none. */
int listen_inherited(void);
#define LISTEN_FIRST_FD 3

/* Sockets whose clients go to one function. NULL is allowed everywhere: none. */
struct listen_socket;

/* Add a unix socket at path with the mode ("0660"; NULL: 0600), one at most, or the inherited
 * sockets where path is NULL. A socket file is replaced only if no process listens on it any more.
 * Returns an exit status; what is wrong has been logged. Free *l in any case. */
int listen_open(const char *path, const char *mode, struct listen_socket **l);
/* The same with "ADDR:PORT", "[::1]:5280", ":5280" (loopback) or a name: each address of it. */
int listen_open_tcp(const char *text, struct listen_socket **l);
/* Add a listening socket that another process has made; owned from now on. */
void listen_take(int fd, struct listen_socket **l);
/* Whether fd is a socket that listens; and whether it is a connected stream. */
bool listen_is_listening(int fd);
bool listen_is_connection(int fd);
/* Whether the socket's own address is one that only this machine reaches. */
bool listen_is_local(int fd);
/* Whether that is so of all of them; true of NULL. */
bool listen_all_local(const struct listen_socket *l);
size_t listen_count(const struct listen_socket *l);
int listen_fd(const struct listen_socket *l, size_t i);
/* Log the addresses: the port of --listen ADDR:0 is the kernel's choice. */
void listen_say(const struct listen_socket *l);
/* Leave new clients in the kernel's queue, or take them again. Not before listen_start(). */
void listen_hold(struct listen_socket *l, bool hold);
/* Call fn with each accepted client (blocking as accepted, close-on-exec; fn owns the fd). */
void listen_start(struct listen_socket *l, struct loop *loop, void (*fn)(void *context, int fd),
	void *context);
/* Take the clients that have connected already: closing our own socket would reset them. Clients at
 * an inherited socket are left to the process that gets it next. */
void listen_take_waiting(struct listen_socket *l);
/* Take no more clients; the socket file of our own is removed. NULL is allowed. */
void listen_stop(struct listen_socket *l);
void listen_free(struct listen_socket *l);

#endif
