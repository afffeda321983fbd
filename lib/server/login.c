#include "server/login.h"

#include <stdlib.h>

#include "server/client.h"
#include "server/component.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "xmpp/stanza-error.h"
#include "loop/link.h"
#include "base/secret.h"
#include "base/io.h"

struct login {
	struct loop *loop;
	struct login_ops ops;
	void *context;
	struct client *client; /* one of the two */
	struct component *component;
	char *bare;
	struct loop_timer timeout; /* for a component's login: a client has a deadline of its own */
	int64_t timeout_ms;
	bool up, over;
};

const char *login_check(const struct login_config *config)
{
	bool component_options = secret_given(&config->secret);
	bool user_options = config->password.file || config->password.fd >= 0 ||
			    config->tls != CLIENT_TLS_REQUIRED || config->tls_ca;

	if (!config->domain == !config->jid)
		return "exactly one of --domain and --jid is needed";
	if (config->domain && user_options)
		return "--password-file, --password-fd, --tls and --tls-ca go with --jid";
	if (config->jid && (config->secret.file || config->secret.fd >= 0))
		return "--secret-file and --secret-fd go with --domain";
	if (config->domain && !component_options)
		return "--domain needs --secret-file or --secret-fd";
	if (config->jid && !secret_given(&config->password))
		return "--jid needs --password-file or --password-fd";
	if (config->jid && config->tls == CLIENT_TLS_OFF && config->tls_ca)
		return "--tls-ca makes no sense with --tls off";
	if (config->domain && !jid_is_domain(config->domain))
		return "--domain is not a domain";
	if (config->jid && !jid_is_user(config->jid))
		return "--jid is not a user's address";
	return NULL;
}

size_t login_queue_bytes(const struct login_config *config)
{
	size_t least = 4 * (size_t)config->limits.stanza_bytes;

	return (size_t)config->limits.queue_bytes > least ? (size_t)config->limits.queue_bytes
							  : least;
}

/* --- as a user */

static void client_is_up(void *context, const char *bound_jid)
{
	struct login *l = context;

	l->up = true;
	l->ops.up(l->context, bound_jid);
}

static void client_stanza(void *context, const struct stanza *s)
{
	struct login *l = context;

	l->ops.stanza(l->context, s);
}

static void over(void *context, int status)
{
	struct login *l = context;

	if (l->over)
		return;
	l->over = true;
	l->up = false;
	loop_timer_clear(l->loop, &l->timeout);
	l->ops.down(l->context, status);
}

static struct client *client_start(struct login *l, const struct login_config *config, int *status)
{
	static const struct client_ops ops = {client_is_up, client_stanza, over};
	struct client_config client = {
		.jid = config->jid,
		.connect = config->connect,
		.password = config->password,
		.tls = (enum client_tls)config->tls,
		.tls_ca = config->tls_ca,
		.reader = limits_of_reader(&config->limits, READER_SOCKET, config->index),
		.max_send_bytes = config->limits.send_bytes,
		.max_queue_bytes = login_queue_bytes(config),
		.from_is_read = config->from_is_read,
		.login_ms = config->timeout_ms,
	};

	return client_new(l->loop, &client, &ops, l, status);
}

/* --- as a component */

static void component_up(void *context)
{
	struct login *l = context;

	l->up = true;
	loop_timer_clear(l->loop, &l->timeout);
	l->ops.up(l->context, l->bare);
}

static void component_down(void *context)
{
	struct login *l = context;

	l->up = false; /* gave_up() gets the status, because there are no retries */
}

static void component_stanza(void *context, const struct stanza *s)
{
	struct login *l = context;

	if (s->kind != STANZA_OTHER)
		l->ops.stanza(l->context, s);
}

static bool component_late(void *context, const struct stanza *s)
{
	component_stanza(context, s);
	return false;
}

static void component_gave_up(void *context, int status)
{
	struct login *l = context;

	/* without retries the component always reports EXIT_TEMPORARY, whatever failed */
	if (status == EXIT_TEMPORARY && !component_reached(l->component))
		status = EXIT_UNAVAILABLE;
	over(l, status);
}

static void component_timeout(void *context)
{
	struct login *l = context;

	err_error("no login as %s within %.3g s", l->bare, (double)l->timeout_ms / 1000);
	over(l, EXIT_TIMED_OUT);
}

static struct component *component_start(
	struct login *l, const struct login_config *config, int *status)
{
	static const struct component_ops ops = {.up = component_up,
		.down = component_down,
		.stanza = component_stanza,
		.late = component_late,
		.gave_up = component_gave_up};
	struct component_config component = {
		.connect = config->connect ? config->connect : LOGIN_COMPONENT_CONNECT,
		.domain = l->bare,
		.secret = config->secret,
		.retries = 0,
		.link = {.reader = limits_of_reader(&config->limits, READER_SOCKET, config->index),
			.max_send_bytes = config->limits.send_bytes < 0
						  ? WRITER_MAX_SEND_BYTES
						  : (size_t)config->limits.send_bytes,
			.max_queue_bytes = login_queue_bytes(config)},
	};

	struct component *c = component_new(l->loop, &component, &ops, l, status);

	/* not before: somebody may have typed a passphrase */
	if (c)
		loop_timer_set(l->loop, &l->timeout, io_now_ms() + config->timeout_ms);
	return c;
}

/* --- for both */

/* login_check() has found that it can be normalised. */
static char *bare_of(const char *typed)
{
	struct buf normal;
	struct span bare;
	char *result;

	buf_init(&normal, JID_MAX_BYTES);
	jid_normalise(span_of(typed), &normal);
	bare = jid_bare(buf_span(&normal));
	result = xstrndup(bare.p, bare.n);
	buf_free(&normal);
	return result;
}

struct login *login_new(struct loop *loop, const struct login_config *config,
	const struct login_ops *ops, void *context, int *status)
{
	struct login *l = xcalloc(1, sizeof(*l));

	l->loop = loop;
	l->ops = *ops;
	l->context = context;
	l->timeout_ms = config->timeout_ms;
	loop_timer_init(&l->timeout, component_timeout, l);
	l->bare = bare_of(config->jid ? config->jid : config->domain);
	*status = EXIT_DONE;
	if (config->jid)
		l->client = client_start(l, config, status);
	else
		l->component = component_start(l, config, status);
	if (l->client || l->component)
		return l;
	login_free(l);
	return NULL;
}

void login_free(struct login *l)
{
	if (!l)
		return;
	loop_timer_clear(l->loop, &l->timeout);
	client_free(l->client);
	if (l->component)
		component_free(l->component);
	free(l->bare);
	free(l);
}

bool login_is_component(const struct login *l)
{
	return l->component != NULL;
}

const char *login_bare(const struct login *l)
{
	return l->bare;
}

struct span login_from(const struct login *l)
{
	return l->component ? span_of(l->bare) : SPAN_NONE;
}

struct writer *login_writer(struct login *l)
{
	if (l->over)
		return NULL;
	return l->client ? client_writer(l->client) : component_writer(l->component);
}

bool login_congested(const struct login *l)
{
	if (!l->up)
		return false;
	return l->client ? client_congested(l->client)
			 : link_congested(component_link(l->component));
}

void login_refuse(struct login *l, const struct stanza *s)
{
	const struct xml_node *payload = stanza_payload(s);
	struct writer *w = login_writer(l);

	if (!w || !stanza_is_request(s))
		return;
	if (l->component) {
		stanza_error_send(
			w, "iq", s->from, s->to, s->id, ERROR_RECIPIENT_UNAVAILABLE, NULL);
	} else if (payload && span_is(payload->name, "ping") && span_is(payload->ns, NS_PING)) {
		writer_begin(w);
		writer_raw(w, "<iq type='result'");
		writer_attribute(w, "id", s->id);
		writer_attribute(w, "to", s->from);
		writer_raw(w, "/>");
		writer_end(w);
	} else {
		stanza_error_send(w, "iq", s->from, s->to, s->id, ERROR_SERVICE_UNAVAILABLE, NULL);
	}
}

enum writer_status login_roundtrip(struct login *l, struct roundtrip *trip)
{
	struct writer *w = login_writer(l);

	return w ? roundtrip_send(trip, login_from(l), span_of(l->bare), w) : WRITER_FULL;
}

void login_pause(struct login *l)
{
	if (l->client)
		client_pause(l->client);
	else if (l->up)
		link_pause(component_link(l->component));
}

void login_resume(struct login *l)
{
	if (l->client)
		client_resume(l->client);
	else if (l->up)
		link_resume(component_link(l->component));
}

int login_close(struct login *l, int64_t deadline_ms)
{
	bool up = l->up;

	l->over = true;
	l->up = false;
	loop_timer_clear(l->loop, &l->timeout);
	if (!up)
		return EXIT_TEMPORARY;
	return l->client ? client_close(l->client, deadline_ms)
			 : component_close(l->component, deadline_ms);
}
