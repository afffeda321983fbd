#include "delegation/manage-service.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/utf8.h"
#include "delegation/delegation.h"
#include "base/err.h"
#include "loop/handler.h"
#include "loop/job.h"
#include "xmpp/jid.h"
#include "xmpp/jsonlines.h"
#include "base/secret.h"
#include "base/random.h"
#include "base/io.h"

#define DISCO_FILE_MAX_BYTES (1024 * 1024)
#define ENVIRONMENT_COUNT 6
/* How long the handler may take to end when its input does. */
#define HANDLER_END_MS 2000

/* A request of --per-request that waits for its turn, or runs: the record of an entry whose key is
 * the request's id. */
struct asked_job {
	struct manageservice *owner;
	struct asked_job *previous, *next; /* waiting */
	struct job *running;		   /* NULL: waiting */
	char *environment[ENVIRONMENT_COUNT + 1];
	struct buf input;
	int64_t deadline_ms;
};

struct manageservice {
	struct manageservice_config *config;
	struct manage *manage;
	struct service *service;
	struct loop *loop;
	struct handler *handler;	/* persistent */
	struct link *pipe;		/* our own stdin and stdout as the handler */
	struct table *jobs;		/* by the request's id */
	struct asked_job *first, *last; /* waiting */
	size_t running;
	struct reader *replies;
	struct jsonlines *json; /* --json, or NULL */
	size_t max_reply_bytes; /* as stanza or object; an object for the handler is no longer
				   either */
	struct random_numbers random;
	struct buf domain, *host_texts;
	struct span *hosts;
	bool pipe_held; /* our own pipe is paused because of the link */
};

/* Options ---------------------------------------------------------------- */

const char *manageservice_namespace(void *context, const char *ns)
{
	struct manageservice_config *c = context;
	struct manage_namespace *n;

	if (!*ns || !utf8_xml_valid(span_of(ns)))
		return "not a namespace";
	for (size_t i = 0; i < c->namespaces_count; i++)
		if (span_is(c->namespaces[i].ns, ns))
			return "given twice";
	c->namespaces = xrealloc(c->namespaces, (c->namespaces_count + 1) * sizeof(*n));
	n = &c->namespaces[c->namespaces_count++];
	n->ns = span_of(ns);
	disco_init(&n->host);
	disco_init(&n->bare);
	return NULL;
}

static struct manage_namespace *last_namespace(void *context)
{
	struct manageservice_config *c = context;

	return c->namespaces_count ? &c->namespaces[c->namespaces_count - 1] : NULL;
}

static const char *const needs_namespace = "a --namespace must come before it";

static const char *add_feature(struct disco_info *info, const char *var)
{
	if (!*var || !utf8_xml_valid(span_of(var)))
		return "not a feature";
	disco_add_feature(info, span_of(var));
	return NULL;
}

const char *manageservice_feature(void *context, const char *var)
{
	struct manage_namespace *n = last_namespace(context);

	if (!n)
		return needs_namespace;
	return add_feature(&n->host, var);
}

const char *manageservice_bare_feature(void *context, const char *var)
{
	struct manage_namespace *n = last_namespace(context);

	if (!n)
		return needs_namespace;
	return add_feature(&n->bare, var);
}

const char *manageservice_identity(void *context, const char *text)
{
	struct manage_namespace *n = last_namespace(context);

	if (!n)
		return needs_namespace;
	return disco_add_identity(&n->host, span_of(text))
		       ? NULL
		       : "not category/type or category/type/name";
}

static bool nothing_announced(const struct disco_info *info)
{
	return !info->features_count && !buf_length(&info->identities) && !buf_length(&info->forms);
}

/* --disco: what is announced, namespace by namespace. */
static int read_disco(struct manageservice_config *c)
{
	struct json_object *all = NULL;
	struct buf text, message;
	int error, status = EXIT_CONFIG;

	buf_init(&message, 256);
	buf_init(&text, DISCO_FILE_MAX_BYTES);
	error = io_read_file(c->disco_file, DISCO_FILE_MAX_BYTES, &text);
	if (error) {
		err_error("cannot read '%s': %s", c->disco_file, strerror(-error));
		status = io_error_status(error, EXIT_CONFIG);
	} else if (json_parse(buf_span(&text), 16, &all, &message) != JSON_OK ||
		   !json_object_is_type(all, json_type_object)) {
		err_error("'%s' holds no JSON object%s%s", c->disco_file,
			buf_length(&message) ? ": " : "", buf_string(&message));
	} else {
		status = EXIT_DONE;
		json_object_object_foreach(all, key, entry)
		{
			struct manage_namespace *n = NULL;
			const char *wrong = NULL;

			for (size_t i = 0; i < c->namespaces_count; i++)
				if (span_is(c->namespaces[i].ns, key))
					n = &c->namespaces[i];
			if (!n)
				wrong = "is no --namespace";
			else if (!json_object_is_type(entry, json_type_object))
				wrong = "is not an object";
			if (!wrong) {
				json_object_object_foreach(entry, side, info)
				{
					bool host = strcmp(side, "host") == 0;

					if (!host && strcmp(side, "bare") != 0)
						wrong = "only host and bare are known";
					else if (!wrong)
						wrong = disco_add_json(
							host ? &n->host : &n->bare, info);
				}
			}
			if (wrong) {
				err_error("'%s': '%s': %s", c->disco_file, key, wrong);
				status = EXIT_CONFIG;
			}
		}
	}
	json_object_put(all);
	buf_free(&text);
	buf_free(&message);
	return status;
}

/* The namespace itself is the feature where no other is given. */
static void announce_defaults(struct manageservice_config *c)
{
	for (size_t i = 0; i < c->namespaces_count; i++) {
		struct manage_namespace *n = &c->namespaces[i];

		if (c->disco_file ? nothing_announced(&n->host) : !n->host.features_count)
			disco_add_feature(&n->host, n->ns);
		if (c->disco_file ? nothing_announced(&n->bare) : !n->bare.features_count)
			disco_add_feature(&n->bare, n->ns);
	}
}

/* What the handler is given: a stanza or an object, with another id unless that is SPAN_NONE. */
static enum writer_status put(
	struct manageservice *ms, const struct stanza *s, struct span id, struct writer *w)
{
	struct stanza_edit edit = {.id = id};
	enum writer_status status;

	if (!ms->json)
		return writer_stanza(w, s, &edit);
	status = jsonlines_append(s, id, ms->max_reply_bytes, w->out);
	if (status == WRITER_TOO_LARGE)
		err_warn("an iq of '%.*s' is too large as JSON", SPAN_ARG(s->from));
	return status;
}

/* Jobs ------------------------------------------------------------------- */

static void job_unqueue(struct asked_job *job)
{
	struct manageservice *ms = job->owner;

	*(job->previous ? &job->previous->next : &ms->first) = job->next;
	*(job->next ? &job->next->previous : &ms->last) = job->previous;
	job->previous = job->next = NULL;
}

static void job_remove(struct asked_job *job)
{
	struct manageservice *ms = job->owner;

	for (int i = 0; i < ENVIRONMENT_COUNT; i++)
		free(job->environment[i]);
	buf_free(&job->input);
	table_remove(ms->jobs, table_entry_of(job));
}

/* The whole output of a job: one iq and nothing else. NULL, and *s is valid until the next call;
 * else what is wrong. */
static const char *job_reply(struct manageservice *ms, struct span output, struct stanza *s)
{
	static const char wrong[] = "not exactly one iq";
	struct stanza more;
	struct span id;

	if (ms->json)
		return jsonlines_read(ms->json, output, 0, s, &id);
	for (int pass = 0; pass < 2; pass++) {
		reader_reset(ms->replies);
		reader_feed(ms->replies, output.p, output.n);
		reader_end(ms->replies);
		if (reader_next(ms->replies, s) != READER_STANZA || s->kind != STANZA_IQ)
			return wrong;
		/* looking at what follows takes the stanza away: read it once more */
		if (pass == 0 && reader_next(ms->replies, &more) != READER_MORE)
			return wrong;
	}
	return NULL;
}

static void jobs_start(struct manageservice *ms);

static void on_job_done(void *context, enum job_end end, int status, struct span output)
{
	static const char *const why[] = {[JOB_NOT_STARTED] = "could not be started",
		[JOB_LATE] = "did not answer in time",
		[JOB_TOO_LONG] = "wrote too much"};
	bool good = end == JOB_EXITED && status == 0;
	const char *wrong = NULL;
	struct asked_job *job = context;
	struct manageservice *ms = job->owner;
	struct span id = table_entry_of(job)->key;
	struct turn turn = service_turn(ms->service);
	struct stanza s;

	ms->running--;
	job->running = NULL;
	if (good && (wrong = job_reply(ms, output, &s)))
		err_warn("what '%s' wrote is no reply: %s", ms->config->handler[0], wrong);
	else if (end != JOB_EXITED)
		err_warn("'%s' %s", ms->config->handler[0], why[end]);
	else if (status > 0)
		err_warn("'%s' has ended with status %d", ms->config->handler[0], status);
	manage_reply(ms->manage, id, good && !wrong ? &s : NULL, &turn);
	job_remove(job);
	jobs_start(ms);
}

static void jobs_start(struct manageservice *ms)
{
	while (ms->first && ms->running < (size_t)ms->config->jobs &&
		!service_congested(ms->service) && !service_ending(ms->service)) {
		struct asked_job *job = ms->first;
		const struct job_config config = {.argv = ms->config->handler,
			.environment = (const char *const *)job->environment,
			.input = buf_span(&job->input),
			.deadline_ms = job->deadline_ms,
			.max_output_bytes = ms->max_reply_bytes};

		/* nobody waits for it any more: it is about to be taken away */
		if (job->deadline_ms <= loop_now_ms(ms->loop))
			return;
		job_unqueue(job);
		ms->running++;
		job->running = job_start(ms->loop, &config, on_job_done, job);
	}
}

static char *environment_line(const char *name, struct span value)
{
	struct buf line;
	char *copy;

	buf_init(&line, BUF_NO_MAX);
	buf_append_string(&line, name);
	buf_append_span(&line, value);
	copy = xstrdup(buf_string(&line));
	buf_free(&line);
	return copy;
}

static bool job_add(
	struct manageservice *ms, const struct manage_request *request, int64_t deadline_ms)
{
	const struct stanza *s = request->inner;
	struct table_entry *e =
		table_add(ms->jobs, request->id, sizeof(struct asked_job), deadline_ms);
	const char *const names[ENVIRONMENT_COUNT] = {"XMPP_FROM=", "XMPP_TO=", "XMPP_ID=",
		"XMPP_TYPE=", "XMPP_NAMESPACE=", "XMPP_HOST="};
	const struct span values[ENVIRONMENT_COUNT] = {s->from, s->to.p ? s->to : jid_bare(s->from),
		s->id, span_of(stanza_type_name(s->type)), request->ns, request->host};
	struct writer w;
	struct asked_job *job;

	if (!e)
		return false;
	job = table_record(e);
	job->owner = ms;
	job->deadline_ms = deadline_ms;
	for (int i = 0; i < ENVIRONMENT_COUNT; i++)
		job->environment[i] = environment_line(names[i], values[i]);
	buf_init(&job->input, BUF_NO_MAX);
	writer_init(&w, &job->input, WRITER_PIPE, 0);
	if (put(ms, s, SPAN_NONE, &w) != WRITER_OK ||
		!table_charge(ms->jobs, e, buf_length(&job->input))) {
		job_remove(job);
		return false;
	}
	job->previous = ms->last;
	*(ms->last ? &ms->last->next : &ms->first) = job;
	ms->last = job;
	jobs_start(ms);
	return true;
}

/* The request is over: nobody waits for its job any more. */
static void on_over(void *context, struct span id)
{
	struct manageservice *ms = context;
	struct table_entry *e = ms->jobs ? table_find(ms->jobs, id) : NULL;
	struct asked_job *job = e ? table_record(e) : NULL;

	if (!job)
		return;
	if (job->running) {
		job_cancel(job->running);
		ms->running--;
	} else {
		job_unqueue(job);
	}
	job_remove(job);
	jobs_start(ms);
}

/* The persistent handler ------------------------------------------------- */

static struct writer *handler_out(struct manageservice *ms)
{
	return ms->pipe ? link_writer(ms->pipe) : ms->handler ? handler_writer(ms->handler) : NULL;
}

static bool handler_full(const struct manageservice *ms)
{
	return ms->pipe ? link_congested(ms->pipe) : ms->handler && handler_congested(ms->handler);
}

/* While the handler does not take more, no more is taken from the server; while that does not, or
 * is away, no more is taken from the handler, and no more jobs are started. */
static void on_turn(void *context)
{
	struct manageservice *ms = context;
	bool wait = service_congested(ms->service);

	service_hold(ms->service, handler_full(ms));
	if (ms->handler)
		handler_hold(ms->handler, wait);
	if (ms->pipe)
		link_hold(ms->pipe, &ms->pipe_held, wait);
	jobs_start(ms);
}

static bool on_hand(void *context, const struct manage_request *request, int64_t deadline_ms)
{
	struct manageservice *ms = context;
	struct writer *w;

	if (ms->config->per_request)
		return job_add(ms, request, deadline_ms);
	w = handler_out(ms);
	return w && put(ms, request->inner, request->id, w) == WRITER_OK;
}

static bool on_tell(void *context, const struct stanza *s, struct span id)
{
	struct writer *w = handler_out(context);
	enum writer_status status = w ? put(context, s, id, w) : WRITER_OK;

	if (status == WRITER_FULL)
		err_warn("an answer does not reach the handler: its queue is full");
	return status != WRITER_TOO_LARGE;
}

static void on_handler_stanza(void *context, const struct stanza *s)
{
	struct manageservice *ms = context;
	struct turn turn = service_turn(ms->service);

	manage_handler_stanza(ms->manage, s, &turn);
}

/* A line of the handler with --json; number 0: not known. */
static void handler_object(struct manageservice *ms, struct span line, size_t number)
{
	struct stanza s;
	struct span id;
	const char *wrong = jsonlines_read(ms->json, line, number, &s, &id);
	struct turn turn = service_turn(ms->service);

	if (!wrong) {
		on_handler_stanza(ms, &s);
		return;
	}
	if (ms->pipe)
		err_warn("stdin:%zu: %s (id '%.*s')", number, wrong, SPAN_ARG(id));
	else
		err_warn("what '%s' wrote is no reply: %s (id '%.*s')", ms->config->handler[0],
			wrong, SPAN_ARG(id));
	manage_handler_bad(ms->manage, id, &turn);
}

static void on_handler_line(void *context, struct span line)
{
	handler_object(context, line, 0);
}

static void on_pipe_line(void *context, struct span line, size_t number)
{
	handler_object(context, line, number);
}

static void on_handler_died(void *context)
{
	struct manageservice *ms = context;
	struct turn turn = service_turn(ms->service);

	manage_handler_died(ms->manage, &turn);
}

static void on_pipe_bad(void *context, const char *what, size_t line)
{
	(void)context;
	err_warn("stdin:%zu: %s", line, what);
}

static void on_pipe_ended(void *context, enum link_end why, int error, const char *text)
{
	struct manageservice *ms = context;

	(void)text;
	if (why == LINK_WRITE_ERROR)
		err_error("cannot write standard output: %s", strerror(error));
	/* nobody is there to answer any more */
	service_stop(ms->service, why == LINK_EOF ? EXIT_DONE : EXIT_IO);
}

static struct reader_config reply_limits(const struct manageservice_config *c)
{
	return (struct reader_config){.kind = READER_PIPE,
		.max_stanza_bytes = (size_t)c->service.max_stanza_bytes,
		.max_depth = (unsigned)c->service.max_depth,
		.max_attributes = (unsigned)c->service.max_attributes};
}

static void on_attach(void *context, struct service *service, struct loop *loop)
{
	static const struct handler_ops handler_ops = {
		.stanza = on_handler_stanza, .line = on_handler_line, .died = on_handler_died};
	static const struct link_ops link_ops = {.stanza = on_handler_stanza,
		.line = on_pipe_line,
		.bad = on_pipe_bad,
		.ended = on_pipe_ended};
	struct manageservice *ms = context;
	const struct link_config link = {
		.reader = reply_limits(ms->config),
		.max_queue_bytes = (size_t)ms->config->service.max_queue_bytes,
		.max_line_bytes = ms->json ? ms->max_reply_bytes : 0,
		.partner = true,
	};
	struct handler_config handler = {.kind = ms->json ? HANDLER_LINES : HANDLER_STANZAS,
		.argv = ms->config->handler,
		.link = link};

	ms->service = service;
	ms->loop = loop;
	loop_turn(loop, on_turn, ms);
	if (ms->config->per_request)
		return;
	/* one that does not read would stop everything */
	handler.link.stall_ms = ms->config->timeout_ms;
	if (ms->config->handler)
		ms->handler = handler_new(loop, &handler, &handler_ops, ms);
	else
		ms->pipe = link_new(loop, 0, 1, &link, &link_ops, ms);
}

/* The loop is about to go: end what is in it. */
static void on_detach(void *context)
{
	struct manageservice *ms = context;
	struct table_entry *e;

	handler_free(ms->handler, io_now_ms() + HANDLER_END_MS);
	link_free(ms->pipe);
	ms->handler = NULL;
	ms->pipe = NULL;
	while ((e = table_earliest(ms->jobs)))
		on_over(ms, e->key);
}

/* Configuration ---------------------------------------------------------- */

const char *manageservice_check(const struct manageservice_config *c)
{
	if (!c->service.domain)
		return "--domain is needed";
	if (!jid_is_domain(c->service.domain))
		return "--domain is not a domain";
	if (c->hosts.count == 0)
		return "--host is needed";
	if (c->namespaces_count == 0)
		return "--namespace is needed";
	for (size_t i = 0; i < c->hosts.count; i++)
		if (!jid_is_domain(c->hosts.items[i]))
			return "--host is not a domain";
	for (size_t i = 0; c->disco_file && i < c->namespaces_count; i++)
		if (!nothing_announced(&c->namespaces[i].host) ||
			!nothing_announced(&c->namespaces[i].bare))
			return "--disco excludes --feature, --bare-feature and --identity";
	if (!c->handler && (!c->service.connect || c->per_request))
		return "a HANDLER is needed";
	if (c->per_request && c->handler_requests)
		return "--handler-requests needs a persistent handler";
	if (c->service.connect && !secret_given(&c->service.secret))
		return "--connect needs --secret-file";
	return NULL;
}

/* Normalised, as manageservice_check() has found that they can be. */
static void take_addresses(struct manageservice *ms)
{
	const struct opt_list *hosts = &ms->config->hosts;

	buf_init(&ms->domain, BUF_NO_MAX);
	jid_normalise_domain(span_of(ms->config->service.domain), &ms->domain);
	ms->host_texts = xcalloc(hosts->count, sizeof(*ms->host_texts));
	ms->hosts = xcalloc(hosts->count, sizeof(*ms->hosts));
	for (size_t i = 0; i < hosts->count; i++) {
		buf_init(&ms->host_texts[i], BUF_NO_MAX);
		jid_normalise_domain(span_of(hosts->items[i]), &ms->host_texts[i]);
		ms->hosts[i] = buf_span(&ms->host_texts[i]);
	}
}

static void make_manage(struct manageservice *ms)
{
	struct manageservice_config *c = ms->config;
	const struct manage_config config = {.domain = buf_span(&ms->domain),
		.hosts = ms->hosts,
		.hosts_count = c->hosts.count,
		.namespaces = c->namespaces,
		.namespaces_count = c->namespaces_count,
		.timeout_ms = c->timeout_ms,
		.max_pending = (size_t)c->max_pending,
		.max_pending_bytes = buf_bytes(c->max_pending_bytes),
		.handler_requests = c->handler_requests,
		.passthrough = !c->service.connect,
		.hand = on_hand,
		.over = on_over,
		.tell = on_tell,
		.context = ms,
		.random = random_number,
		.random_context = &ms->random};
	const struct reader_config replies = reply_limits(c);
	const uint64_t seed[2] = {random_number(&ms->random), random_number(&ms->random)};

	ms->manage = manage_new(&config);
	ms->jobs = table_new((size_t)c->max_pending, buf_bytes(c->max_pending_bytes), seed);
	ms->max_reply_bytes = (size_t)c->service.max_stanza_bytes;
	if (!c->json) {
		ms->replies = reader_new(&replies);
		return;
	}
	ms->json = jsonlines_new(&replies, true);
	ms->max_reply_bytes = jsonlines_max_bytes(c->service.max_stanza_bytes);
	c->service.index = READER_INDEX_ALL;
}

int manageservice_run(struct manageservice_config *config)
{
	struct manageservice ms = {.config = config};
	int status = config->disco_file ? read_disco(config) : EXIT_DONE;

	take_addresses(&ms);
	if (status == EXIT_DONE) {
		announce_defaults(config);
		make_manage(&ms);
		status = service_run(&config->service, &manage_ops, ms.manage,
			&(struct service_hooks){
				.context = &ms, .attach = on_attach, .detach = on_detach});
	}
	manage_free(ms.manage);
	table_free(ms.jobs);
	reader_free(ms.replies);
	jsonlines_free(ms.json);
	for (size_t i = 0; i < config->namespaces_count; i++) {
		disco_free(&config->namespaces[i].host);
		disco_free(&config->namespaces[i].bare);
	}
	free(config->namespaces);
	for (size_t i = 0; i < config->hosts.count; i++)
		buf_free(&ms.host_texts[i]);
	free(ms.host_texts);
	free(ms.hosts);
	buf_free(&ms.domain);
	return status;
}
