/* roster/http-exchange.h - requests and their answers, behind http.h
 *
 * http.c has the connections and runs libmicrohttpd; http-exchange.c has what libmicrohttpd calls
 * for a request: line, header, body, end. A connection that waits for the answer sleeps.
 */
#ifndef OUTBOARD_ROSTER_HTTP_EXCHANGE_H
#define OUTBOARD_ROSTER_HTTP_EXCHANGE_H

#include <sys/queue.h>

#include <microhttpd.h>

#include "roster/http.h"
#include "roster/linger.h"

/* Different statuses of our answers. */
#define HTTP_COUNTED 12

struct connection {
	LIST_ENTRY(connection) list;
	struct http *owner;
	struct MHD_Connection *mhd;
	int fd;
	bool forbidden; /* reached from beyond loopback while there is no token */
	bool asleep;
	bool some;	  /* a request's first line has come */
	bool served;	  /* a request was whole */
	bool ending;	  /* makes room for another one */
	int64_t since_ms; /* when its current state (idle, request, answer) began */
	struct loop_timer limit;
};

struct http {
	struct loop *loop;
	struct http_config config;
	struct http_ops ops;
	void *context;
	struct MHD_Daemon *daemon;
	int epoll_fd;
	struct loop_timer run;
	LIST_HEAD(, connection) connections;
	size_t connections_count, requests_count;
	size_t coming;	     /* handed to libmicrohttpd, which has not called on_connection() yet */
	size_t ending_count; /* connections that were shut down to make room */
	size_t bodies_bytes;
	struct loop_timer room;
	struct http_guard *guard;
	struct lingers lingers;
	bool draining, freeing, full;
	uint64_t answers[HTTP_COUNTED], accepted, unfinished;
};

/* In http.c: run soon, because libmicrohttpd's callbacks must not run it themselves; give the
 * connection's next state its time. */
void http_run_soon(struct http *h);
void http_limit_start(struct connection *c);

/* Called by libmicrohttpd; on_request_line first for each request. */
void *http_on_request_line(void *context, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result http_on_request(void *context, struct MHD_Connection *mhd, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_bytes,
	void **request_context);
void http_on_completed(void *context, struct MHD_Connection *mhd, void **request_context,
	enum MHD_RequestTerminationCode code);
size_t http_answer_metrics(const struct http *h, struct metric *out, size_t max);

#endif
