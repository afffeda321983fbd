#include "roster/refresh-service.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/json.h"
#include "loop/handler.h"
#include "roster/http-request.h"
#include "roster/refresh.h"
#include "roster/sockets.h"
#include "roster/spool.h"
#include "xmpp/jid.h"
#include "base/secret.h"
#include "base/io.h"

/* How many names may wait in the pipe to the worker; further ones wait here. */
#define WORKER_QUEUE_BYTES (64 * 1024)
#define WORKER_END_MS 5000
#define LAST_WORDS_MS 5000
#define PEM_MAX_BYTES ((size_t)1024 * 1024)
#define RETRY_AFTER_S 5

struct refreshservice {
	struct refreshservice_config *config;
	struct service *service;
	struct loop *loop;
	struct sockets sockets;
	struct http *http;
	struct refresh *refresh;
	struct spool *spool;
	struct handler *worker;
	struct sink *out; /* standard output, where there is no worker; else NULL */
	struct buf token, cert, key, host;
	bool held, draining, worker_lives;
	struct err_limit failed_said, junk_said, passed_said;
	int status;
	uint64_t updated, failed, late, logins, refused, stray, retried;
};

/* Refreshing ---------------------------------------------------------------------- */

static bool on_give(void *context, struct span name)
{
	struct refreshservice *rs = context;

	if (rs->worker)
		return handler_send_line(rs->worker, name);
	if (!rs->out || sink_congested(rs->out))
		return false;
	sink_send_raw(rs->out, name);
	sink_send_raw(rs->out, SPAN("\n"));
	return true;
}

/* Append the failed users, as {"john":"http-503"}, and the number of those that are tried again. */
static void put_failures(
	const struct refreshservice *rs, const struct refresh_result *result, struct buf *out)
{
	buf_append_string(out, ",\"failed\":{");
	for (size_t i = 0; i < result->failures_count; i++) {
		if (i)
			buf_append_char(out, ',');
		json_string(out, span_of(result->failures[i].name));
		buf_append_char(out, ':');
		json_string(out, span_of(result->failures[i].error));
	}
	buf_append_char(out, '}');
	if (rs->spool)
		buf_printf(out, ",\"pending\":%zu", result->pending);
}

static void on_answer(void *context, void *client, const struct refresh_result *result)
{
	struct refreshservice *rs = context;
	struct http_outcome outcome = {.ok = result->updated > 0 || result->errors == 0,
		.updated = result->updated,
		.errors = result->errors,
		.message = result->late	    ? "not all rosters were updated in time"
			   : result->errors ? "some rosters could not be updated"
			   : rs->worker	    ? "roster update complete"
					    : "accepted"};
	bool gateway = !rs->spool && !outcome.ok && result->passing && !result->late;
	struct buf more;

	rs->late += result->late;
	buf_init(&more, BUF_NO_MAX);
	if (result->errors) {
		put_failures(rs, result, &more);
		outcome.more = buf_span(&more);
		err_log_limited(&rs->failed_said, loop_now_ms(rs->loop), ERR_WARNING,
			"%zu of %zu rosters were not updated, the first one of '%s': %s",
			result->errors, result->errors + result->updated, result->failures[0].name,
			result->failures[0].error);
	}
	http_answer(client, gateway ? 502 : 200, &outcome);
	buf_free(&more);
}

static void on_settled(void *context, struct span name, const char *error)
{
	struct refreshservice *rs = context;

	if (!rs->spool)
		return;
	if (error && refresh_passes(error))
		err_warn("the roster of '%.*s' is given up: %s", SPAN_ARG(name), error);
	spool_remove(rs->spool, name);
}

static bool on_keeps(void *context, struct span name)
{
	struct refreshservice *rs = context;

	return rs->spool && spool_has(rs->spool, name);
}

static bool on_healthy(void *context)
{
	const struct refreshservice *rs = context;
	struct pollfd out = {.fd = STDOUT_FILENO};

	if (rs->sockets.connection >= 0)
		return true;
	if (rs->worker)
		return rs->worker_lives;
	return rs->out && !sink_error(rs->out) &&
	       (poll(&out, 1, 0) <= 0 || !(out.revents & (POLLERR | POLLHUP | POLLNVAL)));
}

static void on_refresh(
	void *context, struct http_request *request, const struct span *names, size_t count)
{
	struct refreshservice *rs = context;

	if (!refresh_has_room(rs->refresh, count)) {
		rs->refused++;
		http_busy(request, RETRY_AFTER_S, "too many rosters wait already");
		return;
	}
	if (rs->spool && !spool_add(rs->spool, names, count)) {
		rs->refused++;
		http_busy(request, RETRY_AFTER_S, "the spool does not take it");
		return;
	}
	refresh_ask(
		rs->refresh, request, names, count, loop_now_ms(rs->loop) + rs->config->timeout_ms);
	refresh_pump(rs->refresh);
}

static void on_left_behind(void *context, struct span name)
{
	struct refreshservice *rs = context;

	if (!refresh_ask(rs->refresh, NULL, &name, 1, DEADLINE_NEVER))
		rs->refused++; /* stays in the spool */
}

/* Worker -------------------------------------------------------------------------- */

static void worker_record(struct refreshservice *rs, const struct refresh_worker_line *said)
{
	bool ok = refresh_worker_line_ok(said);
	const char *error = ok			       ? NULL
			    : buf_length(&said->error) ? buf_string(&said->error)
						       : "rejected";

	if (!refresh_record(rs->refresh, buf_span(&said->user), error, loop_now_ms(rs->loop))) {
		rs->stray++;
		err_info("the worker has a record of '%s', for whom it was not asked",
			buf_string(&said->user));
		return;
	}
	*(ok ? &rs->updated : &rs->failed) += 1;
	if (!ok)
		err_info("the roster of '%s' was not updated: %s", buf_string(&said->user), error);
}

static void worker_login(struct refreshservice *rs, struct span name)
{
	rs->logins++;
	if (refresh_ask(rs->refresh, NULL, &name, 1, DEADLINE_NEVER))
		return;
	rs->refused++;
	err_log_limited(&rs->passed_said, loop_now_ms(rs->loop), ERR_WARNING,
		"too many rosters wait already: a login of '%.*s' is passed over", SPAN_ARG(name));
}

static void on_worker_line(void *context, struct span line)
{
	struct refreshservice *rs = context;
	struct refresh_worker_line said;

	refresh_worker_line_init(&said);
	switch (refresh_line_parse(line, &said)) {
	case REFRESH_RECORD:
		worker_record(rs, &said);
		break;
	case REFRESH_LOGIN:
		worker_login(rs, buf_span(&said.user));
		break;
	case REFRESH_OTHER:
		break;
	case REFRESH_BAD:
		rs->stray++;
		err_log_limited(&rs->junk_said, loop_now_ms(rs->loop), ERR_WARNING,
			"the worker wrote what is no record");
		break;
	}
	refresh_worker_line_free(&said);
	refresh_pump(rs->refresh);
}

static void on_worker_ready(void *context)
{
	struct refreshservice *rs = context;

	rs->worker_lives = true;
	if (rs->worker)
		refresh_pump(rs->refresh);
}

static void on_worker_died(void *context)
{
	struct refreshservice *rs = context;
	size_t lost = refresh_busy(rs->refresh),
	       failed = refresh_worker_died(rs->refresh, loop_now_ms(rs->loop));

	rs->worker_lives = false;
	rs->retried += lost - failed;
	rs->failed += failed;
	if (failed)
		err_warn("%zu rosters were with two workers that died: given up", failed);
}

static void worker_start(struct refreshservice *rs)
{
	static const struct handler_ops ops = {.line = on_worker_line,
		.started = on_worker_ready,
		.died = on_worker_died,
		.drained = on_worker_ready};
	const struct handler_config config = {.kind = HANDLER_LINES,
		.argv = rs->config->worker,
		.link = {.max_queue_bytes = WORKER_QUEUE_BYTES,
			.max_line_bytes = (size_t)rs->config->max_record_bytes}};

	rs->worker = handler_new(rs->loop, &config, &ops, rs);
}

/* Printing ------------------------------------------------------------------------ */

static void on_out_failed(void *context, int error)
{
	struct refreshservice *rs = context;

	err_error("cannot write standard output: %s", strerror(error));
	rs->status = EXIT_IO;
	service_stop(rs->service, EXIT_IO);
}

static void out_start(struct refreshservice *rs)
{
	static const struct sink_ops ops = {.failed = on_out_failed};

	rs->out = sink_new(
		rs->loop, STDOUT_FILENO, &(struct sink_config){.kind = WRITER_PIPE}, &ops, rs);
}

/* Called at the end of each turn, after standard output was written. */
static void on_turn(void *context)
{
	struct refreshservice *rs = context;

	if (rs->out && refresh_busy(rs->refresh) && sink_queued_bytes(rs->out) == 0 &&
		!sink_error(rs->out)) {
		rs->updated += refresh_busy(rs->refresh);
		refresh_all_done(rs->refresh);
		refresh_pump(rs->refresh);
	}
	if (rs->sockets.connection >= 0 && http_connections(rs->http) == 0 &&
		(refresh_unfinished(rs->refresh) == 0 || rs->draining)) {
		rs->sockets.connection = -1;
		service_stop(rs->service, EXIT_DONE);
	}
}

/* Sockets ------------------------------------------------------------------------- */

static void on_client(void *context, int fd)
{
	struct refreshservice *rs = context;

	http_accept(rs->http, fd);
	if (!http_has_room(rs->http) && !rs->held) {
		rs->held = true;
		listen_hold(rs->sockets.listen, true);
	}
}

static void on_room(void *context)
{
	struct refreshservice *rs = context;

	if (!rs->held)
		return;
	rs->held = false;
	if (!rs->draining)
		listen_hold(rs->sockets.listen, false);
}

/* Service ------------------------------------------------------------------------- */

/* The program was started by inetd for one connection, which has ended. */
static void on_lost(void *context)
{
	struct refreshservice *rs = context;

	if (rs->sockets.connection < 0)
		return;
	rs->sockets.connection = -1;
	rs->status = EXIT_TEMPORARY;
	service_stop(rs->service, EXIT_TEMPORARY);
}

static struct http *http_start(struct refreshservice *rs)
{
	static const struct http_ops http_ops = {
		.refresh = on_refresh, .room = on_room, .lost = on_lost, .healthy = on_healthy};
	const struct refreshservice_config *c = rs->config;
	const struct http_config http = {.max_body_bytes = (size_t)c->max_body_bytes,
		.max_header_bytes = (size_t)c->max_header_bytes,
		.max_connections = (size_t)c->max_connections,
		.receive_ms = c->receive_ms,
		.cert = c->cert ? buf_string(&rs->cert) : NULL,
		.key = c->cert ? buf_string(&rs->key) : NULL,
		.tokens = &rs->token,
		.max_values = (size_t)c->max_values,
		.host = c->host ? buf_string(&rs->host) : NULL,
		.allow_origins = &c->allow_origins,
		.allow_hosts = &c->allow_hosts};

	return http_new(rs->loop, &http, &http_ops, rs, &rs->status);
}

static void on_attach(void *context, struct service *service, struct loop *loop)
{
	static const struct refresh_ops refresh_ops = {
		.give = on_give, .answer = on_answer, .settled = on_settled, .keeps = on_keeps};
	struct refreshservice *rs = context;
	const struct refreshservice_config *c = rs->config;

	rs->service = service;
	rs->loop = loop;
	rs->refresh = refresh_new((size_t)c->max_pending, c->give_up_ms, &refresh_ops, rs);
	rs->http = http_start(rs);
	if (!rs->http) {
		service_stop(service, rs->status);
		return;
	}
	if (rs->spool)
		spool_each(rs->spool, on_left_behind, rs);
	if (c->worker)
		worker_start(rs);
	else
		out_start(rs);
	loop_turn(loop, on_turn, rs);
	refresh_pump(rs->refresh);
	listen_start(rs->sockets.listen, loop, on_client, rs);
	listen_say(rs->sockets.listen);
	if (rs->sockets.connection >= 0 && !http_accept(rs->http, rs->sockets.connection))
		on_lost(rs);
}

static void on_detach(void *context)
{
	struct refreshservice *rs = context;

	if (rs->out && !sink_flush(rs->out, io_now_ms() + LAST_WORDS_MS))
		rs->status = EXIT_IO;
	else if (rs->out)
		refresh_all_done(rs->refresh);
	listen_stop(rs->sockets.listen);
	if (rs->http) {
		http_drain(rs->http); /* a request read from now on would get no answer */
		refresh_finish(rs->refresh);
		http_flush(rs->http);
	}
	handler_free(rs->worker, io_now_ms() + WORKER_END_MS);
	http_free(rs->http);
	loop_turn_remove(rs->loop, on_turn, rs);
	sink_free(rs->out);
	refresh_free(rs->refresh);
}

static void on_drain(void *self, struct turn *turn)
{
	struct refreshservice *rs = self;

	(void)turn;
	if (rs->http)
		http_drain(rs->http);
	listen_take_waiting(rs->sockets.listen);
	listen_stop(rs->sockets.listen);
	rs->draining = true;
}

static void on_finish(void *self, struct turn *turn)
{
	struct refreshservice *rs = self;

	(void)turn;
	if (!rs->http)
		return;
	refresh_finish(rs->refresh);
	http_flush(rs->http);
}

static size_t on_open_requests(const void *self)
{
	const struct refreshservice *rs = self;

	/* the requests that the refresh module holds are among them */
	return rs->http ? http_requests(rs->http) : 0;
}

static int64_t on_deadline(const void *self)
{
	const struct refreshservice *rs = self;

	return refresh_deadline_ms(rs->refresh);
}

static void on_tick(void *self, struct turn *turn)
{
	struct refreshservice *rs = self;

	refresh_tick(rs->refresh, turn->now_ms);
	refresh_pump(rs->refresh);
}

static bool on_reload(void *context, struct turn *turn)
{
	struct refreshservice *rs = context;
	struct buf token;

	(void)turn;
	if (!secret_given(&rs->config->token) || secret_once(&rs->config->token))
		return true;
	buf_init(&token, SECRET_MAX_BYTES);
	if (secret_read_again(&rs->config->token, "token", &token) != EXIT_DONE) {
		secret_wipe(&token);
		return false;
	}
	secret_trim(&token);
	secret_wipe(&rs->token);
	rs->token = token;
	return true;
}

static size_t on_metrics(const void *self, struct metric *out, size_t max)
{
	const struct refreshservice *rs = self;
	const struct metric own[] = {
		{"rosters", "result=\"updated\"", "Rosters by their record", METRIC_COUNTER,
			rs->updated},
		{"rosters", "result=\"failed\"", "Rosters by their record", METRIC_COUNTER,
			rs->failed},
		{"late", NULL, "Rosters without a record at a request's deadline", METRIC_COUNTER,
			rs->late},
		{"logins", NULL, "Login events of the worker", METRIC_COUNTER, rs->logins},
		{"not_taken", NULL, "Requests and logins for which there was no room",
			METRIC_COUNTER, rs->refused},
		{"stray_records", NULL, "Lines of the worker that nobody waited for",
			METRIC_COUNTER, rs->stray},
		{"given_again", NULL, "Names given to a second worker", METRIC_COUNTER,
			rs->retried},
		{"waiting_rosters", NULL, "Rosters to be refreshed", METRIC_GAUGE,
			rs->refresh ? refresh_users(rs->refresh) : 0},
		{"spooled", NULL, "Names in the spool", METRIC_GAUGE, spool_count(rs->spool)},
	};
	size_t n = metrics_add(out, 0, max, own, sizeof(own) / sizeof(own[0]));

	return n + (rs->http ? http_metrics(rs->http, out + n, max - n) : 0);
}

static int read_pem(const char *path, struct buf *out)
{
	int error = io_read_given(path, PEM_MAX_BYTES, IO_AT_START, out);

	if (error)
		err_error("cannot read '%s': %s", path, io_given_reason(error));
	return error ? io_error_status(error, EXIT_CONFIG) : EXIT_DONE;
}

static int secrets_read(struct refreshservice *rs)
{
	const struct refreshservice_config *c = rs->config;
	int status = EXIT_DONE;

	if (secret_given(&c->token)) {
		status = secret_read(&c->token, "token", &rs->token);
		secret_trim(&rs->token);
	}
	if (c->cert && status == EXIT_DONE)
		status = read_pem(c->cert, &rs->cert);
	if (c->cert && status == EXIT_DONE) {
		const struct secret key = {.file = c->key, .fd = -1};

		status = secret_read(&key, "key", &rs->key);
	}
	return status;
}

const char *refreshservice_check(const struct refreshservice_config *config)
{
	if (!config->cert != !config->key)
		return "--tls-cert and --tls-key go together";
	if (config->host && !jid_is_domain(config->host))
		return "--host is not a domain";
	if (config->allow_origins.count && !secret_given(&config->token))
		return "--allow-origin needs --token-file";
	for (size_t i = 0; i < config->allow_origins.count; i++)
		if (!http_origin_valid(span_of(config->allow_origins.items[i])))
			return "--allow-origin takes scheme://host:port";
	for (size_t i = 0; i < config->allow_hosts.count; i++)
		if (!span_equal(http_host_name(span_of(config->allow_hosts.items[i])),
			    span_of(config->allow_hosts.items[i])))
			return "--allow-host takes a host's name";
	return NULL;
}

/* Open and read all that the service needs. Returns an exit status. */
static int prepare(struct refreshservice *rs)
{
	struct refreshservice_config *config = rs->config;
	int status;

	config->service.detached = true;
	if (config->host) {
		jid_normalise_domain(span_of(config->host), &rs->host);
		config->service.host = buf_string(&rs->host);
	}
	status = sockets_open(&rs->sockets, config);
	if (status == EXIT_DONE)
		status = secrets_read(rs);
	if (status == EXIT_DONE && !buf_length(&rs->token) &&
		!listen_all_local(rs->sockets.listen)) {
		err_error("listening beyond loopback needs a --token-file");
		status = EXIT_CONFIG;
	}
	if (status == EXIT_DONE && config->spool)
		rs->spool = spool_open(config->spool, &status);
	return status;
}

int refreshservice_run(struct refreshservice_config *config)
{
	static const struct service_ops ops = {.tick = on_tick,
		.deadline = on_deadline,
		.drain = on_drain,
		.finish = on_finish,
		.open_requests = on_open_requests,
		.metrics = on_metrics};
	struct refreshservice rs = {.config = config, .sockets = SOCKETS_INIT};
	int status;

	buf_init(&rs.host, BUF_NO_MAX);
	buf_init(&rs.token, SECRET_MAX_BYTES);
	buf_init(&rs.cert, PEM_MAX_BYTES);
	buf_init(&rs.key, SECRET_MAX_BYTES);
	status = prepare(&rs);
	if (status == EXIT_DONE)
		status = service_run(&config->service, &ops, &rs,
			&(struct service_hooks){.context = &rs,
				.reload = on_reload,
				.attach = on_attach,
				.detach = on_detach});
	if (rs.status != EXIT_DONE)
		status = rs.status;
	listen_free(rs.sockets.listen);
	spool_free(rs.spool);
	secret_wipe(&rs.token);
	secret_wipe(&rs.key);
	buf_free(&rs.host);
	buf_free(&rs.cert);
	free(config->listen.items);
	return status;
}
