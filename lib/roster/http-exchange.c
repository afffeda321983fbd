#include "roster/http-exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "roster/http-guard.h"
#include "roster/http-request.h"
#include "roster/refresh.h"

struct http_request {
	struct connection *connection;
	enum http_resource resource;
	struct buf authority; /* of an absolute-form target, else empty */
	struct buf user, body;
	uint64_t body_bytes;
	size_t line_bytes;
	bool answered, headers_seen, whole, too_large, too_much;
};

static const struct {
	unsigned status;
	const char *label;
} counted[HTTP_COUNTED] = {
	{200, "status=\"200\""},
	{204, "status=\"204\""},
	{400, "status=\"400\""},
	{401, "status=\"401\""},
	{403, "status=\"403\""},
	{404, "status=\"404\""},
	{405, "status=\"405\""},
	{413, "status=\"413\""},
	{415, "status=\"415\""},
	{431, "status=\"431\""},
	{502, "status=\"502\""},
	{503, "status=\"503\""},
};

/* Answers ------------------------------------------------------------------------- */

/* Our answers are well-formed, so only memory can be the reason of a refusal. */
static void header_add(struct MHD_Response *response, const char *name, const char *value)
{
	if (MHD_add_response_header(response, name, value) != MHD_YES)
		err_die(EXIT_TEMPORARY, "out of memory");
}

static void count_answer(struct http *h, unsigned status)
{
	for (size_t i = 0; i < HTTP_COUNTED; i++)
		h->answers[i] += counted[i].status == status;
}

static const char *header_of(struct connection *c, const char *name)
{
	return MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, name);
}

static void add_origin(struct connection *c, struct MHD_Response *response, bool preflight)
{
	const char *origin = http_guard_origin(c->owner->guard, c->mhd);

	if (c->owner->config.allow_origins->count)
		header_add(response, "Vary", "Origin");
	if (origin)
		header_add(response, "Access-Control-Allow-Origin", origin);
	if (preflight) {
		header_add(response, "Access-Control-Allow-Methods", "GET, POST");
		header_add(response, "Access-Control-Allow-Headers", "Authorization, Content-Type");
		header_add(response, "Access-Control-Max-Age", "600");
	}
}

/* name and value: one more header, or NULL. */
static enum MHD_Result send_answer(struct http_request *r, unsigned status, struct span body,
	const char *type, const char *name, const char *value)
{
	struct connection *c = r->connection;
	struct http *h = c->owner;
	struct MHD_Response *response =
		MHD_create_response_from_buffer(body.n, (void *)body.p, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result result;

	if (!response)
		err_die(EXIT_TEMPORARY, "out of memory");
	if (type)
		header_add(response, "Content-Type", type);
	header_add(response, "Cache-Control", "no-store");
	add_origin(c, response, status == 204);
	if (name)
		header_add(response, name, value);
	if (h->draining)
		header_add(response, "Connection", "close");
	result = MHD_queue_response(c->mhd, status, response);
	MHD_destroy_response(response);
	r->answered = true;
	count_answer(h, status);
	http_limit_start(c);
	if (c->asleep) {
		c->asleep = false;
		MHD_resume_connection(c->mhd);
		http_run_soon(h);
	}
	return result;
}

/* more: further members of the answer, or absent. */
static enum MHD_Result answer(struct http_request *r, unsigned status,
	const struct http_outcome *outcome, const char *name, const char *value)
{
	struct buf body;
	enum MHD_Result result;

	buf_init(&body, BUF_NO_MAX);
	buf_printf(&body, "{\"status\":\"%s\",\"message\":\"%s\",\"updated\":%zu,\"errors\":%zu",
		outcome->ok ? "ok" : "error", outcome->message, outcome->updated, outcome->errors);
	buf_append_span(&body, outcome->more);
	buf_append_string(&body, "}\n");
	result = send_answer(r, status, buf_span(&body), "application/json", name, value);
	buf_free(&body);
	return result;
}

static enum MHD_Result refuse(struct http_request *r, unsigned status, const char *message,
	const char *name, const char *value)
{
	const struct http_outcome outcome = {.message = message};

	return answer(r, status, &outcome, name, value);
}

void http_answer(struct http_request *r, unsigned status, const struct http_outcome *outcome)
{
	answer(r, status, outcome, NULL, NULL);
}

void http_busy(struct http_request *r, unsigned retry_after_s, const char *message)
{
	char seconds[16];

	snprintf(seconds, sizeof(seconds), "%u", retry_after_s);
	refuse(r, 503, message, "Retry-After", seconds);
}

/* Requests ------------------------------------------------------------------------ */

/* Answer a header that is malformed. False: it was answered. */
static bool header_sound(struct http_request *r, const char *version, enum MHD_Result *result)
{
	static const struct {
		unsigned status;
		const char *message;
	} answers[] = {
		[HTTP_HEADER_TOO_LARGE] = {431, "the header is too large"},
		[HTTP_LENGTH_UNCLEAR] = {400, "it is not clear how long the body is"},
		[HTTP_HOST_UNCLEAR] = {400, "one Host is needed"},
	};
	struct connection *c = r->connection;
	enum http_fault fault = http_guard_fault(c->owner->guard, c->mhd, r->line_bytes, version);

	if (fault != HTTP_SOUND)
		*result = refuse(
			r, answers[fault].status, answers[fault].message, "Connection", "close");
	return fault == HTTP_SOUND;
}

/* Answer what needs no token: the preflight request of an allowed web page, and the state of the
 * service. False: it was answered. */
static bool header_simple(struct http_request *r, const char *method, enum MHD_Result *result)
{
	struct connection *c = r->connection;
	struct http *h = c->owner;

	if (r->resource == HTTP_HEALTH) {
		bool well = h->ops.healthy && h->ops.healthy(h->context);

		if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
			*result = refuse(r, 405, "another method is needed", "Allow", "GET, HEAD");
		else
			*result = send_answer(r, well ? 200 : 503,
				well ? SPAN("ok\n") : SPAN("down\n"), "text/plain", NULL, NULL);
		return false;
	}
	if (strcmp(method, "OPTIONS") == 0 && h->config.allow_origins->count &&
		(r->resource == HTTP_ALL || r->resource == HTTP_ONE)) {
		*result = http_guard_origin(h->guard, c->mhd)
				  ? send_answer(r, 204, SPAN(""), NULL, NULL, NULL)
				  : refuse(r, 403, "not from this web page", NULL, NULL);
		return false;
	}
	return true;
}

/* Check the header. False: the request has been answered. */
static bool header_accepted(
	struct http_request *r, const char *method, const char *version, enum MHD_Result *result)
{
	struct connection *c = r->connection;
	struct http *h = c->owner;
	bool one = r->resource == HTTP_ONE || r->resource == HTTP_BAD_NAME;
	const char *length = header_of(c, "Content-Length");
	const char *coding = header_of(c, "Content-Encoding");
	bool token = buf_length(h->config.tokens) > 0;

	if (!header_sound(r, version, result))
		return false;
	if (c->forbidden && !token)
		*result = refuse(r, 403, "only from this machine, as no token is set", NULL, NULL);
	else if (!header_simple(r, method, result))
		return false;
	else if (r->resource == HTTP_NOTHING)
		*result = refuse(r, 404, "there is nothing here", NULL, NULL);
	else if (strcmp(method, one ? "GET" : "POST") != 0)
		*result = refuse(r, 405, "another method is needed", "Allow", one ? "GET" : "POST");
	else if (token && !http_guard_token(h->guard, c->mhd))
		*result = refuse(r, 401, "a bearer token is needed", "WWW-Authenticate",
			"Bearer realm=\"roster_admin\"");
	else if (!token && http_guard_web_page(h->guard, c->mhd, c->fd, buf_span(&r->authority)))
		*result = refuse(
			r, 403, "not from web pages, nor under a name of others", NULL, NULL);
	else if (r->resource == HTTP_BAD_NAME)
		*result = refuse(r, 400, "not a user name", NULL, NULL);
	else if (coding && *coding && strcasecmp(coding, "identity") != 0)
		*result = refuse(
			r, 415, "no content coding is understood", "Accept-Encoding", "identity");
	else if (length && strtoull(length, NULL, 10) > h->config.max_body_bytes)
		*result = refuse(r, 413, "the body is too large", NULL, NULL);
	else
		return true;
	return false;
}

/* Hand the names on; the connection sleeps unless the answer comes at once. */
static enum MHD_Result ask(struct http_request *r, const struct span *names, size_t count)
{
	struct connection *c = r->connection;
	struct http *h = c->owner;

	loop_timer_clear(h->loop, &c->limit);
	h->ops.refresh(h->context, r, names, count);
	if (!r->answered) {
		c->asleep = true;
		MHD_suspend_connection(c->mhd);
	}
	return MHD_YES;
}

static enum MHD_Result request_whole(struct http_request *r)
{
	struct http *h = r->connection->owner;
	struct refresh_names names;
	const char *why;
	enum MHD_Result result;

	if (h->draining) {
		http_busy(r, 1, "stopping");
		return MHD_YES;
	}
	if (r->resource == HTTP_ONE) {
		struct span name = buf_span(&r->user);

		if (refresh_name_local(&name, h->config.host))
			return ask(r, &name, 1);
		return refuse(r, 400, "not a user name", NULL, NULL);
	}
	if (refresh_names_parse(
		    buf_span(&r->body), h->config.max_values, h->config.host, &names, &why))
		result = ask(r, names.list, names.count);
	else
		result = refuse(r, 400, why, NULL, NULL);
	refresh_names_free(&names);
	return result;
}

static bool body_follows(struct MHD_Connection *mhd)
{
	const char *length = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Content-Length");

	return (length && strtoull(length, NULL, 10) > 0) ||
	       MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Transfer-Encoding");
}

static void body_drop(struct http *h, struct http_request *r)
{
	h->bodies_bytes -= buf_length(&r->body);
	buf_reset(&r->body);
}

/* A piece of the body. */
static enum MHD_Result body_take(struct http_request *r, struct span piece)
{
	struct http *h = r->connection->owner;
	size_t most = h->config.max_body_bytes > HTTP_BODIES_BYTES ? h->config.max_body_bytes
								   : HTTP_BODIES_BYTES;

	r->body_bytes += piece.n;
	if (r->body_bytes > 2 * (uint64_t)h->config.max_body_bytes) {
		err_info("a request with a body without end is closed");
		return MHD_NO;
	}
	if (r->too_large || r->too_much)
		return MHD_YES;
	r->too_much = h->bodies_bytes + piece.n > most;
	r->too_large = !r->too_much && !buf_append_span(&r->body, piece);
	if (r->too_much || r->too_large)
		body_drop(h, r);
	else
		h->bodies_bytes += piece.n;
	return MHD_YES;
}

/* The header is there. An answer from here closes the connection, because a body may follow: where
 * none does, the request is answered later, so that requests that the client has already sent after
 * it are answered, too. */
static enum MHD_Result on_header(
	struct http_request *r, struct MHD_Connection *mhd, const char *method, const char *version)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	enum MHD_Result result;

	r->headers_seen = true;
	r->connection = info->socket_context;
	if (!body_follows(mhd) || header_accepted(r, method, version, &result))
		return MHD_YES;
	/* With other methods libmicrohttpd reads the body itself. libmicrohttpd closes its
	 * descriptor of the connection; ours reads on for a while. */
	if ((strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0) &&
		!r->connection->owner->freeing)
		lingers_add(&r->connection->owner->lingers, r->connection->fd);
	return result;
}

/* The request is whole. */
static enum MHD_Result on_whole(
	struct http_request *r, struct MHD_Connection *mhd, const char *method, const char *version)
{
	enum MHD_Result result;

	if (!body_follows(mhd) && !header_accepted(r, method, version, &result))
		return result;
	if (r->too_large)
		return refuse(r, 413, "the body is too large", NULL, NULL);
	if (r->too_much) {
		http_busy(r, 1, "too many bodies are being read");
		return MHD_YES;
	}
	result = request_whole(r);
	body_drop(r->connection->owner, r);
	buf_free(&r->body);
	return result;
}

enum MHD_Result http_on_request(void *context, struct MHD_Connection *mhd, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_bytes,
	void **request_context)
{
	struct http_request *r = *request_context;
	struct span piece = {upload, *upload_bytes};

	(void)context;
	(void)url;
	if (!r->headers_seen)
		return on_header(r, mhd, method, version);
	if (r->answered)
		return MHD_YES;
	if (piece.n > 0) {
		*upload_bytes = 0;
		return body_take(r, piece);
	}
	if (r->whole)
		return on_whole(r, mhd, method, version);
	/* Wait for libmicrohttpd's next call, when it expects nothing more on this connection.
	 * If the connection were suspended in the turn in which it was read, libmicrohttpd would
	 * read first when it is resumed; it would take a client that has shut down its side
	 * after the request for gone, and not send the answer. */
	r->whole = true;
	return MHD_YES;
}

void *http_on_request_line(void *context, const char *uri, struct MHD_Connection *mhd)
{
	struct http *h = context;
	struct http_request *r = xcalloc(1, sizeof(*r));
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct connection *c = info ? info->socket_context : NULL;

	if (c)
		c->some = true;
	buf_init(&r->authority, BUF_NO_MAX);
	buf_init(&r->user, BUF_NO_MAX);
	buf_init(&r->body, h->config.max_body_bytes);
	r->line_bytes = strlen(uri);
	r->resource = http_target(span_of(uri), &r->authority, &r->user);
	h->requests_count++;
	return r;
}

void http_on_completed(void *context, struct MHD_Connection *mhd, void **request_context,
	enum MHD_RequestTerminationCode code)
{
	struct http *h = context;
	struct http_request *r = *request_context;

	(void)mhd;
	if (!r)
		return;
	if (!r->answered && code != MHD_REQUEST_TERMINATED_COMPLETED_OK) {
		h->unfinished++;
		err_info("a request ended before it was whole");
	}
	if (r->connection) {
		r->connection->some = false;
		r->connection->served = true;
		if (!h->freeing)
			http_limit_start(r->connection);
	}
	h->requests_count--;
	body_drop(h, r);
	buf_free(&r->authority);
	buf_free(&r->user);
	buf_free(&r->body);
	free(r);
	*request_context = NULL;
}

size_t http_answer_metrics(const struct http *h, struct metric *out, size_t max)
{
	size_t n = 0;

	for (; n < HTTP_COUNTED && n < max; n++)
		out[n] = (struct metric){"http_answers", counted[n].label, "HTTP answers by status",
			METRIC_COUNTER, h->answers[n]};
	return n;
}
