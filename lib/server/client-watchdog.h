/* server/client-watchdog.h - a thread that cuts a connection at a deadline
 *
 * libstrophe blocks in the TLS handshake for as long as the peer likes; only another thread can end
 * that. The thread shuts the descriptor down and touches nothing else.
 */
#ifndef OUTBOARD_SERVER_CLIENT_WATCHDOG_H
#define OUTBOARD_SERVER_CLIENT_WATCHDOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct client_watchdog {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int fd; /* -1: none */
	bool running, stop;
	int64_t deadline_ms;
};

/* deadline_ms: of CLOCK_MONOTONIC. If no thread can be had, that is logged. */
void client_watchdog_start(struct client_watchdog *w, int64_t deadline_ms);
/* The descriptor to cut, -1 for none. */
void client_watchdog_fd(struct client_watchdog *w, int fd);
/* Wait until the thread has ended; does nothing if it has not been started. */
void client_watchdog_stop(struct client_watchdog *w);

#endif
