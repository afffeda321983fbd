#include "server/client-watchdog.h"

#include <signal.h>
#include <sys/socket.h>
#include <time.h>

#include "base/err.h"

static void *watchdog_main(void *argument)
{
	struct client_watchdog *w = argument;
	struct timespec until = {.tv_sec = (time_t)(w->deadline_ms / 1000),
		.tv_nsec = (long)(w->deadline_ms % 1000) * 1000000};
	int error = 0;

	pthread_mutex_lock(&w->lock);
	while (!w->stop && error == 0)
		error = pthread_cond_timedwait(&w->changed, &w->lock, &until);
	if (!w->stop && w->fd >= 0)
		shutdown(w->fd, SHUT_RDWR);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

void client_watchdog_start(struct client_watchdog *w, int64_t deadline_ms)
{
	pthread_condattr_t attributes;
	sigset_t all, before;

	w->fd = -1;
	w->deadline_ms = deadline_ms;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	sigfillset(&all); /* the loop's thread handles signals */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	w->running = pthread_create(&w->thread, NULL, watchdog_main, w) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!w->running)
		err_warn("cannot start a thread: a peer that stalls in the TLS handshake is not "
			 "cut");
}

void client_watchdog_fd(struct client_watchdog *w, int fd)
{
	pthread_mutex_lock(&w->lock);
	w->fd = fd;
	pthread_mutex_unlock(&w->lock);
}

void client_watchdog_stop(struct client_watchdog *w)
{
	if (!w->running)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	w->running = false;
}
