#include "roster/apply-service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/deadline.h"
#include "roster/apply.h"
#include "roster/ejabberd-api.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "loop/listen.h"
#include "roster/privilege.h"
#include "base/random.h"
#include "base/io.h"

/* How long the program, when it ends, waits for results to be written. */
#define LAST_WORDS_MS 5000
#define MAX_CLIENTS 256

/* A source of records: stdin, or a client of the unix socket. */
struct input {
	struct apply_client client; /* first: its address is the input's */
	LIST_ENTRY(input) list;
	struct applyservice *owner;
	struct link *link;
	int fd; /* ours to close; -1: stdin */
	bool ended, paused;
};

struct applyservice {
	const struct applyservice_config *config;
	struct apply *apply;
	struct privilege *privilege;
	struct ejabberd_api *api;
	struct service *service;
	struct loop *loop;
	LIST_HEAD(, input) inputs;
	size_t inputs_count;
	struct sink *out;     /* stdout: events, and results of stdin's records */
	struct sink *own_out; /* the same where it is not a half of stdin's link; else NULL */
	struct listen_socket *listening;
	struct random_numbers random;
	struct buf domain, host;
	struct roster_keep keep;
	struct buf skip_users;
	struct roster_rules rules;
	struct span *also_hosts;
	struct buf also_texts;
	bool failed, bad, refused, draining, up;
	bool dropped;	/* events: nobody reads them */
	bool io_failed; /* standard input or output has failed, and that was logged */
};

/* Output ----------------------------------------------------------------- */

static void on_result(void *context, struct apply_client *client, struct span line, bool failed)
{
	struct applyservice *as = context;
	struct input *input = (struct input *)client;

	as->failed |= failed;
	if (input)
		link_send_raw(input->link, line);
}

static void on_login(void *context, struct span user)
{
	struct applyservice *as = context;
	struct buf line;

	if (sink_congested(as->out)) {
		if (!as->dropped)
			err_warn("nobody reads the events on standard output: they are dropped");
		as->dropped = true;
		return;
	}
	as->dropped = false;
	buf_init(&line, BUF_NO_MAX);
	buf_append_string(&line, "{\"event\":\"login\",\"user\":");
	json_string(&line, user);
	buf_append_string(&line, "}\n");
	sink_send_raw(as->out, buf_span(&line));
	buf_free(&line);
}

/* Input ------------------------------------------------------------------ */

static void input_free(struct input *input)
{
	struct applyservice *as = input->owner;

	LIST_REMOVE(input, list);
	as->inputs_count--;
	apply_client_gone(as->apply, &input->client);
	if (as->out == link_sink(input->link))
		as->out = NULL;
	link_free(input->link);
	if (input->fd >= 0)
		close(input->fd);
	free(input);
}

static void on_line(void *context, struct span line, size_t number)
{
	struct input *input = context;
	struct applyservice *as = input->owner;
	struct turn turn = service_turn(as->service);
	struct roster_record record;
	const char *why;

	if (!roster_record_parse(line, &as->rules, &record, &why)) {
		err_error("%s:%zu: %s", input->fd < 0 ? "stdin" : "client", number, why);
		as->bad |= input->fd < 0;
		if (!record.user)
			return;
	}
	apply_record(as->apply, &record, &input->client, &turn);
	if (apply_full(as->apply, &input->client))
		link_hold(input->link, &input->paused, true);
}

static void on_bad(void *context, const char *what, size_t line)
{
	struct input *input = context;

	err_error("%s:%zu: %s", input->fd < 0 ? "stdin" : "client", line, what);
	input->owner->bad |= input->fd < 0;
}

static void on_ended(void *context, enum link_end why, int error, const char *text)
{
	struct input *input = context;

	(void)text;
	if (why == LINK_EOF) {
		input->ended = true; /* see on_turn() */
	} else if (input->fd >= 0) {
		input_free(input);
	} else {
		err_error("cannot %s: %s",
			why == LINK_READ_ERROR ? "read standard input" : "write standard output",
			strerror(error));
		input->owner->io_failed = true;
		service_stop(input->owner->service, EXIT_IO);
	}
}

static struct link *line_link(struct applyservice *as, int in, int out, struct input *input)
{
	static const struct link_ops ops = {.line = on_line, .bad = on_bad, .ended = on_ended};
	const struct link_config config = {
		.reader = {.kind = READER_PIPE},
		.max_queue_bytes = (size_t)as->config->service.limits.queue_bytes,
		.max_line_bytes = (size_t)as->config->max_record_bytes,
	};

	return link_new(as->loop, in, out, &config, &ops, input);
}

static void input_new(struct applyservice *as, int fd)
{
	struct input *input = xcalloc(1, sizeof(*input));

	input->owner = as;
	input->fd = fd;
	input->link = line_link(as, fd < 0 ? 0 : fd, fd < 0 ? 1 : fd, input);
	LIST_INSERT_HEAD(&as->inputs, input, list);
	as->inputs_count++;
	link_hold(input->link, &input->paused, as->draining);
}

static void on_client(void *context, int fd)
{
	struct applyservice *as = context;

	if (as->inputs_count >= MAX_CLIENTS) {
		err_warn("more than %d clients: one is turned away", MAX_CLIENTS);
		close(fd);
		return;
	}
	input_new(as, fd);
}

/* Standard output failed while records come from clients, not from standard input. */
static void on_out_failed(void *context, int error)
{
	struct applyservice *as = context;

	err_error("cannot write standard output: %s", strerror(error));
	as->io_failed = true;
	service_stop(as->service, EXIT_IO);
}

/* Write the rest of standard output; the loop no longer reports errors. */
static void out_flush(struct applyservice *as, struct sink *out, int64_t deadline_ms)
{
	int error;

	if (sink_flush(out, deadline_ms) || as->io_failed)
		return;
	error = sink_error(out);
	err_error("cannot write standard output: %s", error ? strerror(error) : "nobody reads it");
	as->io_failed = true;
}

/* At the end of each turn: decide which clients may go on reading and which are done. */
static void on_turn(void *context)
{
	struct applyservice *as = context;
	struct input *next;

	for (struct input *input = LIST_FIRST(&as->inputs); input; input = next) {
		next = LIST_NEXT(input, list);
		link_hold(input->link, &input->paused,
			as->draining || apply_full(as->apply, &input->client));
		if (!input->ended || input->client.jobs > 0)
			continue;
		if (input->fd < 0)
			service_stop(as->service, EXIT_DONE);
		else if (link_flush(input->link, 0)) /* this may be the last turn */
			input_free(input);
	}
}

/* Service ---------------------------------------------------------------- */

static void on_refused(void *context)
{
	struct applyservice *as = context;

	as->refused = true;
	service_stop(as->service, EXIT_CONFIG);
}

static void on_ready(void *context, struct turn *turn)
{
	struct applyservice *as = context;

	if (as->config->via == VIA_PRIVILEGE)
		apply_up(as->apply, turn);
}

static void api_begin(struct applyservice *as)
{
	const struct ejabberd_api_config config = {.url = as->config->api,
		.host = buf_span(&as->host),
		.also_hosts = as->also_hosts,
		.also_hosts_count = as->config->also_hosts.count,
		.token = as->config->token,
		.login = as->config->login,
		.tls_ca = as->config->tls_ca,
		.refused = on_refused,
		.context = as,
		.timeout_ms = as->config->timeout_ms,
		.connections = (size_t)as->config->jobs};
	struct turn turn = service_turn(as->service);
	struct apply_backend backend;

	as->api = ejabberd_api_new(as->loop, &config);
	if (!as->api) {
		service_stop(as->service, EXIT_CONFIG);
		return;
	}
	backend = ejabberd_api_backend(as->api);
	apply_backend_set(as->apply, &backend);
	apply_up(as->apply, &turn);
}

static void on_attach(void *context, struct service *service, struct loop *loop)
{
	static const struct sink_ops out_ops = {.failed = on_out_failed};
	struct applyservice *as = context;

	as->service = service;
	as->loop = loop;
	if (as->listening) {
		const struct sink_config config = {.kind = WRITER_PIPE,
			.max_queue_bytes = (size_t)as->config->service.limits.queue_bytes};

		as->out = as->own_out = sink_new(loop, STDOUT_FILENO, &config, &out_ops, as);
		listen_start(as->listening, loop, on_client, as);
	} else {
		input_new(as, -1);
		as->out = link_sink(LIST_FIRST(&as->inputs)->link);
	}
	loop_turn(loop, on_turn, as);
	if (as->config->via == VIA_EJABBERD_API)
		api_begin(as);
}

static void on_detach(void *context)
{
	struct applyservice *as = context;
	int64_t deadline_ms = io_now_ms() + LAST_WORDS_MS;

	if (as->refused)
		apply_finish(as->apply, "forbidden", "the server has not granted it");
	else if (!as->up)
		apply_finish(as->apply, "connect", "no connection to the server");
	else
		apply_finish(as->apply, "server-timeout", "the program has stopped");
	loop_turn_remove(as->loop, on_turn, as);
	for (struct input *input = LIST_FIRST(&as->inputs), *next; input; input = next) {
		next = LIST_NEXT(input, list);
		if (input->fd < 0)
			out_flush(as, link_sink(input->link), deadline_ms);
		else
			link_flush(input->link, deadline_ms);
		input_free(input);
	}
	if (as->own_out)
		out_flush(as, as->own_out, deadline_ms);
	sink_free(as->own_out);
	as->out = as->own_out = NULL;
	ejabberd_api_free(as->api);
	as->api = NULL;
	listen_stop(as->listening);
}

static void on_up(void *self, struct turn *turn)
{
	struct applyservice *as = self;

	as->up = true;
	if (as->privilege && turn->writer)
		privilege_up(as->privilege, turn);
}

static void on_down(void *self, struct turn *turn)
{
	struct applyservice *as = self;

	(void)turn;
	as->up = false;
	if (as->privilege)
		privilege_down(as->privilege);
	if (as->config->via == VIA_PRIVILEGE)
		apply_down(as->apply);
}

static void on_stanza(void *self, const struct stanza *s, struct turn *turn)
{
	privilege_stanza(((struct applyservice *)self)->privilege, s, turn);
}

static void on_tick(void *self, struct turn *turn)
{
	struct applyservice *as = self;

	if (as->privilege)
		privilege_tick(as->privilege, turn);
	apply_tick(as->apply, turn);
}

static int64_t deadline(const void *self)
{
	const struct applyservice *as = self;
	int64_t deadline_ms = apply_deadline(as->apply);
	int64_t other_ms = as->privilege ? privilege_deadline(as->privilege) : DEADLINE_NEVER;

	return other_ms < deadline_ms ? other_ms : deadline_ms;
}

static void on_drain(void *self, struct turn *turn)
{
	(void)turn;
	((struct applyservice *)self)->draining = true;
}

static size_t open_requests(const void *self)
{
	return apply_count(((const struct applyservice *)self)->apply);
}

static int on_stream_error(void *self, struct span condition)
{
	struct applyservice *as = self;

	if (!as->config->on_behalf || !span_is(condition, "invalid-from"))
		return 0;
	as->refused = true;
	privilege_invalid_from(as->privilege);
	return EXIT_CONFIG;
}

static size_t metrics(const void *self, struct metric *out, size_t max)
{
	const struct applyservice *as = self;
	const struct metric all[] = {
		{"jobs", NULL, "records in hand", METRIC_GAUGE, apply_count(as->apply)},
		{"contacts_skipped", NULL, "contacts that records left out", METRIC_COUNTER,
			apply_skipped(as->apply)},
		{"online", NULL, "sessions known online", METRIC_GAUGE,
			as->privilege ? privilege_online(as->privilege) : 0},
	};

	return metrics_add(out, 0, max, all, sizeof(all) / sizeof(all[0]));
}

static const struct service_ops ops = {.fold = true,
	.up = on_up,
	.down = on_down,
	.stanza = on_stanza,
	.tick = on_tick,
	.deadline = deadline,
	.drain = on_drain,
	.open_requests = open_requests,
	.metrics = metrics,
	.stream_error = on_stream_error};

/* Configuration ---------------------------------------------------------- */

/* N, P% or none. */
static bool removals_parse(const char *text, struct apply_config *out)
{
	size_t digits = strspn(text, "0123456789");

	out->max_removals = out->max_removals_percent = -1;
	if (strcmp(text, "none") == 0)
		return true;
	if (digits < 1 || digits > 9)
		return false;
	*(text[digits] == '%' ? &out->max_removals_percent : &out->max_removals) = atol(text);
	return text[digits] == '%' ? !text[digits + 1] && out->max_removals_percent <= 100
				   : !text[digits];
}

static const char *lists_check(const struct applyservice_config *c)
{
	struct roster_keep keep;
	bool ok = true;

	roster_keep_init(&keep);
	for (size_t i = 0; i < c->keep.count; i++)
		ok = ok && roster_keep_add(&keep, c->keep.items[i]);
	roster_keep_free(&keep);
	if (!ok)
		return "--keep takes a bare JID, a domain or *.DOMAIN";
	for (size_t i = 0; i < c->also_hosts.count; i++)
		if (!jid_is_domain(c->also_hosts.items[i]))
			return "--also-host is not a domain";
	return NULL;
}

const char *applyservice_check(const struct applyservice_config *c)
{
	bool component = c->via == VIA_PRIVILEGE || c->login_events;

	if (!c->host)
		return "--host is needed";
	if (!jid_is_domain(c->host))
		return "--host is not a domain";
	if (c->login_events && *c->login_events && strcmp(c->login_events, "all") != 0)
		return "--login-events takes nothing or 'all'";
	if (component && !c->service.domain)
		return "--domain is needed";
	if (component && !jid_is_domain(c->service.domain))
		return "--domain is not a domain";
	if (component && !secret_given(&c->service.secret))
		return "--secret-file is needed";
	if (c->via == VIA_EJABBERD_API && !c->api)
		return "--via ejabberd-api needs --api";
	if (c->via == VIA_PRIVILEGE && c->api)
		return "--api needs --via ejabberd-api";
	if (c->on_behalf && c->via != VIA_PRIVILEGE)
		return "--on-behalf needs --via privilege";
	if (c->via == VIA_PRIVILEGE &&
		(c->tls_ca || secret_given(&c->login) || c->also_hosts.count))
		return "--tls-ca, --basic-auth-file and --also-host need --via ejabberd-api";
	if (secret_given(&c->token) && secret_given(&c->login))
		return "--token-file and --basic-auth-file exclude each other";
	if (c->max_removals && !removals_parse(c->max_removals, &(struct apply_config){0}))
		return "--max-removals takes a number, a number with %, or none";
	return lists_check(c);
}

/* Normalise the names as the server does. One that is no localpart names no user and is dropped. */
static void skip_user_add(struct applyservice *as, const char *name)
{
	struct buf text, jid;

	buf_init(&text, BUF_NO_MAX);
	buf_init(&jid, BUF_NO_MAX);
	buf_printf(&text, "%s@", name);
	buf_append_span(&text, buf_span(&as->host));
	if (!strpbrk(name, "@/") && jid_normalise(buf_span(&text), &jid)) {
		buf_append(&as->skip_users, buf_string(&jid), strcspn(buf_string(&jid), "@"));
		buf_append_char(&as->skip_users, '\0');
	}
	buf_free(&jid);
	buf_free(&text);
}

static void make_lists(struct applyservice *as)
{
	const struct applyservice_config *c = as->config;
	size_t *places = xcalloc(c->also_hosts.count + 1, sizeof(*places));

	roster_keep_init(&as->keep);
	buf_init(&as->skip_users, BUF_NO_MAX);
	buf_init(&as->also_texts, BUF_NO_MAX);
	for (size_t i = 0; i < c->keep.count; i++)
		roster_keep_add(&as->keep, c->keep.items[i]);
	for (size_t i = 0; i < c->keep_groups.count; i++)
		roster_keep_add_group(&as->keep, c->keep_groups.items[i]);
	for (size_t i = 0; i < c->skip_users.count; i++)
		skip_user_add(as, c->skip_users.items[i]);
	as->also_hosts = xcalloc(c->also_hosts.count + 1, sizeof(*as->also_hosts));
	for (size_t i = 0; i < c->also_hosts.count; i++) {
		places[i] = buf_length(&as->also_texts);
		jid_normalise_domain(span_of(c->also_hosts.items[i]), &as->also_texts);
		buf_append_char(&as->also_texts, '\0');
	}
	for (size_t i = 0; i < c->also_hosts.count; i++)
		as->also_hosts[i] = span_of(buf_span(&as->also_texts).p + places[i]);
	free(places);
	as->rules = (struct roster_rules){.keep = &as->keep,
		.max_contacts = (size_t)c->max_contacts,
		.max_values = (size_t)c->max_values};
}

static void privilege_make(struct applyservice *as)
{
	const struct applyservice_config *c = as->config;
	const struct privilege_config privilege = {.domain = buf_span(&as->domain),
		.host = buf_span(&as->host),
		.rosters = c->via == VIA_PRIVILEGE,
		.on_behalf = c->on_behalf && !c->dry_run,
		.read_only = c->dry_run,
		.logins = !c->login_events   ? LOGINS_NONE
			  : *c->login_events ? LOGINS_ALL
					     : LOGINS_NEW,
		.max_pending = (size_t)c->jobs * PRIVILEGE_OPEN,
		.max_online = (size_t)c->max_online,
		.login = on_login,
		.ready = on_ready,
		.refused = on_refused,
		.context = as,
		.random = {random_number, &as->random}};

	as->privilege = privilege_new(&privilege);
}

static void make(struct applyservice *as)
{
	const struct applyservice_config *c = as->config;
	struct apply_config apply = {.host = buf_span(&as->host),
		.dry_run = c->dry_run,
		.max_removals = -1,
		.max_removals_percent = APPLY_MAX_REMOVALS_PERCENT,
		.keep = &as->keep,
		.skip_users = &as->skip_users,
		.timeout_ms = c->timeout_ms,
		.jobs = (size_t)c->jobs,
		.waiting = (size_t)c->max_waiting,
		.result = on_result,
		.context = as};

	make_lists(as);
	if (c->max_removals)
		removals_parse(c->max_removals, &apply);
	as->apply = apply_new(&apply);
	if (c->via == VIA_PRIVILEGE || c->login_events)
		privilege_make(as);
	if (c->via == VIA_PRIVILEGE) {
		const struct apply_backend backend = privilege_backend(as->privilege);

		apply_backend_set(as->apply, &backend);
	}
}

static int outcome(const struct applyservice *as, int status)
{
	if (as->io_failed)
		return EXIT_IO;
	if (as->refused)
		return EXIT_CONFIG;
	if (status == EXIT_DONE && as->bad)
		return EXIT_DATA;
	return status == EXIT_DONE && as->failed && !as->listening ? EXIT_NO : status;
}

static int serve(struct applyservice *as)
{
	struct service_config service = as->config->service;
	const struct service_hooks hooks = {
		.context = as, .attach = on_attach, .detach = on_detach};

	service.index = READER_INDEX_ALL; /* whole rosters are read */
	service.detached = !as->privilege;
	service.host = buf_string(&as->host);
	if (!service.connect && !service.detached)
		service.connect = "127.0.0.1:5347";
	/* From cron or in a pipe it does not try again: its caller does. */
	if (service.retries == SERVICE_RETRIES_UNSET)
		service.retries = as->listening ? -1 : 0;
	return outcome(as, service_run(&service, &ops, as, &hooks));
}

int applyservice_run(const struct applyservice_config *config)
{
	struct applyservice as = {.config = config};
	int status = listen_open(config->listen_unix, config->unix_mode, &as.listening);

	buf_init(&as.domain, BUF_NO_MAX);
	buf_init(&as.host, BUF_NO_MAX);
	jid_normalise_domain(span_of(config->host), &as.host);
	if (config->service.domain)
		jid_normalise_domain(span_of(config->service.domain), &as.domain);
	if (status == EXIT_DONE) {
		make(&as);
		status = serve(&as);
	}
	privilege_free(as.privilege);
	apply_free(as.apply);
	listen_free(as.listening);
	roster_keep_free(&as.keep);
	buf_free(&as.skip_users);
	buf_free(&as.also_texts);
	free(as.also_hosts);
	buf_free(&as.domain);
	buf_free(&as.host);
	return status;
}
