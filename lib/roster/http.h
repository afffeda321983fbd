/* roster/http.h - the refresh endpoint: HTTP on libmicrohttpd, in our loop
 *
 *   POST /roster_admin/refresh         a JSON array of user names
 *   GET  /roster_admin/refresh/USER    one, percent-encoded
 *   GET, HEAD /health                  200 while ops.healthy, else 503; no token
 *   OPTIONS                            of web pages that allow_origins has (preflight)
 *
 * http-guard.h says which requests are let in. With a token, web pages of allow_origins may read
 * the answers.
 *
 * Invariants: each request that was received whole gets exactly one JSON answer. What is wrong with
 * it is answered here (400, 401, 403, 404, 405, 413, 415, 431); for the rest http_ops.refresh is
 * called and the connection sleeps until http_answer() or http_busy(). A request that is not whole
 * after receive_ms, or whose body goes on beyond twice the limit, is closed, counted and logged.
 * Answers that are not read within receive_ms are dropped. All connections are ours to accept
 * (http_accept()), so it does not matter which process listened.
 *
 * libmicrohttpd runs without thread: its epoll descriptor is in our poll, its timeout is a timer.
 */
#ifndef OUTBOARD_ROSTER_HTTP_H
#define OUTBOARD_ROSTER_HTTP_H

#include "base/buf.h"
#include "base/opt.h"
#include "loop/loop.h"
#include "server/metrics.h"

#define HTTP_MAX_BODY_BYTES (1024 * 1024)
#define HTTP_MAX_HEADER_BYTES (16 * 1024)
#define HTTP_MAX_CONNECTIONS 256
#define HTTP_RECEIVE_MS 10000
/* All bodies together; a request beyond it is answered with 503. */
#define HTTP_BODIES_BYTES ((size_t)32 * 1024 * 1024)

struct http;
struct http_request;

struct http_config {
	size_t max_body_bytes, max_header_bytes, max_connections;
	int64_t receive_ms;
	const char *cert, *key;	  /* PEM texts, or NULL: borrowed */
	const struct buf *tokens; /* one a line; empty: requests need none. Borrowed, may change */
	size_t max_values;	  /* of a body's JSON */
	const char *host;	  /* NAME@host is NAME; normalised, or NULL: any name is one */
	const struct opt_list *allow_origins, *allow_hosts;
};

struct http_ops {
	/* Valid names, each once; valid during the call. Answer now or later, once. */
	void (*refresh)(void *context, struct http_request *request, const struct span *names,
		size_t count);
	/* There is room for another connection again. */
	void (*room)(void *context);
	/* A connection that was taken could not be served after all; it is closed. */
	void (*lost)(void *context);
	bool (*healthy)(void *context);
};

/* NULL after logging; *status: EXIT_CONFIG, or EXIT_TEMPORARY without descriptors. */
struct http *http_new(struct loop *loop, const struct http_config *config,
	const struct http_ops *ops, void *context, int *status);
/* All requests must have been answered. */
void http_free(struct http *h);
/* Serve a connection; owns the fd. Without a token, one whose local address is beyond loopback
 * gets nothing but 403. False if it could not be, after logging; what fails later is `lost`. */
bool http_accept(struct http *h, int fd);
bool http_has_room(const struct http *h);
/* From now on each new request is answered with 503, and connections are closed after an answer. */
void http_drain(struct http *h);

struct http_outcome {
	bool ok;
	const char *message; /* static, without anything that JSON escapes */
	size_t updated, errors;
	struct span more; /* further members, a comma before each; or absent */
};
void http_answer(struct http_request *r, unsigned status, const struct http_outcome *outcome);
/* 503 with Retry-After. */
void http_busy(struct http_request *r, unsigned retry_after_s, const char *message);

/* Requests that are not answered, or whose answer is not written. */
size_t http_requests(const struct http *h);
size_t http_connections(const struct http *h);
/* Write what can be written, without waiting. */
void http_flush(struct http *h);
size_t http_metrics(const struct http *h, struct metric *out, size_t max);

#endif
