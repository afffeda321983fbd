/* roster/http.h - the refresh endpoint: HTTP on libmicrohttpd, in our loop
 *
 *   POST /roster_admin/refresh         a JSON array of user names
 *   GET  /roster_admin/refresh/USER    one, percent-encoded
 *
 * Invariants: each request that was received whole gets exactly one JSON answer. What is wrong with
 * it is answered here (400, 401, 403, 404, 405, 413); for the rest http_ops.refresh is called and
 * the connection sleeps until http_answer() or http_busy(). A request that is not whole after
 * receive_ms, or whose body goes on beyond twice the limit, is closed, counted and logged. Answers
 * that are not read within receive_ms are dropped. All connections are ours to accept
 * (http_accept()), so it does not matter who listened.
 *
 * libmicrohttpd runs without thread: its epoll descriptor is in our poll, its timeout is a timer.
 */
#ifndef OUTBOARD_ROSTER_HTTP_H
#define OUTBOARD_ROSTER_HTTP_H

#include "base/buf.h"
#include "loop/loop.h"
#include "server/metrics.h"

#define HTTP_MAX_BODY_BYTES (1024 * 1024)
#define HTTP_MAX_HEADER_BYTES (16 * 1024)
#define HTTP_MAX_CONNECTIONS 256
#define HTTP_RECEIVE_MS 10000

struct http;
struct http_request;

struct http_config {
	size_t max_body_bytes, max_header_bytes, max_connections;
	int64_t receive_ms;
	const char *cert, *key;	 /* PEM texts, or NULL: borrowed */
	const struct buf *token; /* empty: none is asked for. Borrowed, may change */
};

struct http_ops {
	/* Valid names, each once; valid during the call. Answer now or later, once. */
	void (*refresh)(void *context, struct http_request *request, const struct span *names,
		size_t count);
	/* there is room for another connection again */
	void (*room)(void *context);
};

/* NULL after logging; *status: EXIT_CONFIG, or EXIT_TEMPORARY without descriptors. */
struct http *http_new(struct loop *loop, const struct http_config *config,
	const struct http_ops *ops, void *context, int *status);
/* All requests must have been answered. */
void http_free(struct http *h);
/* Serve a connection; owns the fd. Without a token, one whose local address is beyond loopback
 * gets nothing but 403. False if it could not be, after logging. */
bool http_accept(struct http *h, int fd);
bool http_has_room(const struct http *h);
/* Whether the socket's own address is one that only this machine reaches. */
bool http_is_local(int fd);
/* From now on each new request is answered with 503, and connections are closed after an answer. */
void http_drain(struct http *h);

/* 200 with the counts; status "error" if all of some failed. message is a static text. */
void http_answer(struct http_request *r, size_t updated, size_t errors, const char *message);
/* 503 with Retry-After. */
void http_busy(struct http_request *r, unsigned retry_after_s, const char *message);

/* Requests that are not answered, or whose answer is not written. */
size_t http_requests(const struct http *h);
size_t http_connections(const struct http *h);
/* Write what can be written, without waiting. */
void http_flush(struct http *h);
size_t http_metrics(const struct http *h, struct metric *out, size_t max);

#endif
