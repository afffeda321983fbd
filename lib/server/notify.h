/* server/notify.h - telling a supervisor our state
 *
 * sd_notify(3)'s protocol (a datagram to $NOTIFY_SOCKET) and s6's (a newline on
 * --ready-fd): documented, small and stable, so spoken here without libsystemd.
 * Everything is a no-op without supervisor.
 */
#ifndef OUTBOARD_SERVER_NOTIFY_H
#define OUTBOARD_SERVER_NOTIFY_H

#include <stdint.h>

struct notify;

/* ready_fd: -1 none. Takes $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID and removes them from
 * the environment, so that children cannot use them. */
struct notify *notify_new(int ready_fd);
void notify_free(struct notify *n);
/* READY=1 once, and once more after each notify_reloading; newline + close on the ready fd once. */
void notify_ready(struct notify *n);
/* One of "RELOADING=1" (with MONOTONIC_USEC), "STOPPING=1". */
void notify_reloading(struct notify *n);
void notify_stopping(struct notify *n);
/* One line for `systemctl status`; sent only when it changed; lost when the supervisor does not
 * keep up.
 */
void notify_status(struct notify *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Half of the watchdog period, 0 without: send notify_watchdog() that often. */
int64_t notify_watchdog_ms(const struct notify *n);
void notify_watchdog(struct notify *n);

#endif
