#include "jat/service.h"

#include <stdlib.h>
#include <strings.h>

#include "base/err.h"
#include "base/io.h"
#include "base/random.h"
#include "jat/keys.h"
#include "jat/proxy.h"
#include "jat/state.h"
#include "xmpp/jid.h"

struct jatservice {
	const struct jatservice_config *config;
	struct jatproxy *proxy;
	struct jat_keys *keys;
	struct buf domain, reply_domain;
	struct buf *texts; /* of targets */
	struct span *targets;
	struct jid_list trusted;
	struct state *state; /* NULL: no folder */
	struct service *service;
	struct random_numbers random;
};

/* Keys ------------------------------------------------------------------- */

static int get_keys(struct jatservice *j)
{
	unsigned char bytes[JAT_KEY_BYTES];
	int status = EXIT_DONE;

	if (j->config->encoding == JAT_PLAIN)
		return EXIT_DONE;
	if (secret_given(&j->config->keys)) {
		j->keys = jatkeys_read(&j->config->keys, false, &status);
		return status;
	}
	random_bytes(bytes, sizeof(bytes));
	j->keys = jat_keys_random(bytes);
	explicit_bzero(bytes, sizeof(bytes));
	err_note("no --key-file: a key for this run, a restart loses the answers in flight");
	return EXIT_DONE;
}

/* State ------------------------------------------------------------------ */

static bool has_grace(const struct jatservice *j)
{
	return j->state && j->config->encoding != JAT_PLAIN && secret_given(&j->config->keys);
}

static void restore(struct jatservice *j)
{
	struct buf text;

	if (!j->state)
		return;
	buf_init(&text, BUF_NO_MAX);
	if (state_crashed(j->state)) {
		err_note("the last run did not stop cleanly");
		state_read_marks(j->state, false, &text);
		marks_restore(jatproxy_marks(j->proxy), buf_span(&text));
		buf_reset(&text);
	}
	state_read_marks(j->state, true, &text);
	marks_restore_young(jatproxy_marks(j->proxy), buf_span(&text), io_now_ms());
	buf_reset(&text);
	if (j->config->show_presence) {
		state_read_subscribers(j->state, &text);
		audience_restore(
			jatproxy_audience(j->proxy), buf_span(&text), state_crashed(j->state));
		buf_reset(&text);
		audience_format(jatproxy_audience(j->proxy), &text);
		state_write_subscribers(j->state, buf_span(&text), true);
	}
	buf_free(&text);
}

static void subscribed(void *context, bool there, struct span user, struct span address)
{
	struct jatservice *j = context;
	struct buf all;

	if (!j->state)
		return;
	state_subscribed(j->state, there, user, address);
	if (!state_subscribers_grown(j->state, audience_count(jatproxy_audience(j->proxy))))
		return;
	buf_init(&all, BUF_NO_MAX);
	audience_format(jatproxy_audience(j->proxy), &all);
	state_write_subscribers(j->state, buf_span(&all), false);
	buf_free(&all);
}

static void marked(void *context, const char *mark)
{
	state_mark(((struct jatservice *)context)->state, mark);
}

/* Service ---------------------------------------------------------------- */

static void attach(void *context, struct service *service, struct loop *loop)
{
	(void)loop;
	((struct jatservice *)context)->service = service;
}

static void unrouted(void *context)
{
	service_stop(((struct jatservice *)context)->service, EXIT_CONFIG);
}

static bool on_reload(void *context, struct turn *turn)
{
	struct jatservice *j = context;
	bool ok = true;
	int status;

	if (j->keys && secret_given(&j->config->keys) && !secret_once(&j->config->keys)) {
		struct jat_keys *keys = jatkeys_read(&j->config->keys, true, &status);

		ok = keys != NULL;
		if (ok) {
			jatproxy_rekey(j->proxy, keys);
			jat_keys_free(j->keys);
			j->keys = keys;
			err_note("%zu keys read", jat_keys_count(keys));
		}
	}
	if (turn->writer)
		session_resubscribe(jatproxy_sessions(j->proxy), turn);
	return ok;
}

/* Configuration ---------------------------------------------------------- */

static bool drains(const char *list, const char *show)
{
	size_t n = strlen(show);

	while (list && *list) {
		size_t item = strcspn(list, ",");

		if (item == n && memcmp(list, show, n) == 0)
			return true;
		list += item + (list[item] == ',');
	}
	return false;
}

/* Whether each item of the list is one of xa, dnd and away. */
static bool drain_valid(const char *list)
{
	static const char *const shows[] = {"xa", "dnd", "away"};

	while (list && *list) {
		size_t item = strcspn(list, ",");
		bool known = false;

		for (size_t i = 0; i < 3; i++)
			known |= item == strlen(shows[i]) && memcmp(list, shows[i], item) == 0;
		if (!known)
			return false;
		list += item + (list[item] == ',');
	}
	return true;
}

/* Whether two targets are one account, given once with and once without a resource. */
static bool overlap(const char *a, const char *b)
{
	size_t n = strcspn(a, "/"), m = strcspn(b, "/");

	return n == m && strncasecmp(a, b, n) == 0 && !a[n] != !b[m];
}

static const char *check_targets(const struct opt_list *targets)
{
	if (targets->count == 0)
		return "--target is needed";
	for (size_t i = 0; i < targets->count; i++) {
		struct buf jid;
		bool ok;

		buf_init(&jid, BUF_NO_MAX);
		ok = jid_normalise(span_of(targets->items[i]), &jid) &&
		     memchr(jid_bare(buf_span(&jid)).p, '@', jid_bare(buf_span(&jid)).n);
		buf_free(&jid);
		if (!ok)
			return "--target is not user@domain or user@domain/resource";
		for (size_t k = 0; k < i; k++)
			if (overlap(targets->items[i], targets->items[k]))
				return "--target names an account with and without a resource";
	}
	return NULL;
}

static const char *check_reply_domain(const struct jatservice_config *config)
{
	if (config->reply_domain && !jid_is_domain(config->reply_domain))
		return "--reply-domain is not a domain";
	for (size_t i = 0; i < config->limits.trusted.count; i++)
		if (!jid_is_domain(config->limits.trusted.items[i]))
			return "--limit trusted is not a domain";
	return NULL;
}

const char *jatservice_check(const struct jatservice_config *config)
{
	const char *wrong;

	if (!config->service.domain)
		return "--domain is needed";
	if (!jid_is_domain(config->service.domain))
		return "--domain is not a domain";
	if ((wrong = check_targets(&config->targets)))
		return wrong;
	if ((wrong = check_reply_domain(config)))
		return wrong;
	if (!drain_valid(config->drain))
		return "--drain takes a list of xa, dnd, away";
	if (config->service.connect && !secret_given(&config->service.secret))
		return "--connect needs --secret-file";
	return NULL;
}

static void take_domain(struct buf *text, const char *typed)
{
	buf_init(text, BUF_NO_MAX);
	jid_normalise_domain(span_of(typed), text);
}

static void take_addresses(struct jatservice *j)
{
	const struct jatservice_config *config = j->config;

	take_domain(&j->domain, config->service.domain);
	take_domain(&j->reply_domain,
		config->reply_domain ? config->reply_domain : config->service.domain);
	j->texts = xcalloc(config->targets.count, sizeof(*j->texts));
	j->targets = xcalloc(config->targets.count, sizeof(*j->targets));
	for (size_t i = 0; i < config->targets.count; i++) {
		buf_init(&j->texts[i], BUF_NO_MAX);
		jid_normalise(span_of(config->targets.items[i]), &j->texts[i]);
		j->targets[i] = buf_span(&j->texts[i]);
	}
	jid_list_domains(&j->trusted, config->limits.trusted.items, config->limits.trusted.count);
}

/* With --outbound-iq and --show-presence the proxy sends from --domain, which several proxies
 * share: answers could reach another one. */
static bool reply_domain_fits(const struct jatservice_config *config)
{
	if (!config->reply_domain || (!config->outbound_iq && !config->show_presence))
		return true;
	err_error(
		"--reply-domain does not go with %s: the answers go to --domain, which is another "
		"proxy's as well",
		config->outbound_iq ? "--outbound-iq" : "--show-presence");
	return false;
}

static struct dispatch_options make_options(const struct jatservice *j)
{
	const struct jatservice_config *config = j->config;

	return (struct dispatch_options){.targets = j->targets,
		.targets_count = config->targets.count,
		.policy = (enum balance_policy)config->policy,
		.shown = !config->show_presence	  ? KEEP_NOTHING
			 : *config->show_presence ? KEEP_STATUS
						  : KEEP_CAPS,
		.drain_xa = drains(config->drain, "xa"),
		.drain_dnd = drains(config->drain, "dnd"),
		.drain_away = drains(config->drain, "away"),
		.min_priority = (int)config->min_priority,
		.try_timeout_ms = config->try_timeout_ms < 0 ? config->timeout_ms / 3
							     : config->try_timeout_ms,
		.max_sessions = (size_t)config->max_sessions};
}

/* A quarter, unless --limit domain-pending says something else. */
static size_t domain_pending(const struct pending_limits *limits)
{
	static const struct opt_share quarter = {25, true};

	return (size_t)opt_share_of(
		limits->domain_pending.n ? &limits->domain_pending : &quarter, limits->pending);
}

static struct jatproxy *make_proxy(struct jatservice *j)
{
	const struct jatservice_config *config = j->config;
	const struct jatproxy_config proxy = {
		.jat = {.encoding = (enum jat_encoding)config->encoding,
			.domain = buf_span(&j->reply_domain),
			.served = buf_span(&j->domain),
			.keys = j->keys},
		.dispatch = make_options(j),
		.messages = config->messages,
		.outbound_iq = config->outbound_iq,
		.keep_item_jids = config->keep_item_jids || config->encoding == JAT_PLAIN,
		.passthrough = !config->service.connect,
		.timeout_ms = config->timeout_ms,
		.bounce_wait_ms = config->bounce_wait_ms,
		.max_handles = (size_t)config->max_handles,
		.max_subscribers = (size_t)config->max_subscribers,
		.max_marks = (size_t)config->max_marks,
		.pending = limits_of_shares(
			&config->limits, domain_pending(&config->limits), &j->trusted),
		.handle_ttl_ms = 60 * 60 * 1000 + config->timeout_ms,
		.grace = j->state && state_crashed(j->state) && has_grace(j),
		.random = {random_number, &j->random},
		.subscribed = subscribed,
		.marked = has_grace(j) ? marked : NULL,
		.unrouted = unrouted,
		.context = j,
	};

	return jatproxy_new(&proxy);
}

int jatservice_run(const struct jatservice_config *config)
{
	struct jatservice j = {.config = config};
	struct service_config service = config->service;
	int status;

	if (!reply_domain_fits(config))
		return EXIT_CONFIG;
	take_addresses(&j);
	status = get_keys(&j);
	if (status == EXIT_DONE)
		j.state = state_open(config->state_dir, config->timeout_ms, &status);
	if (status == EXIT_DONE) {
		j.proxy = make_proxy(&j);
		restore(&j);
		service.ping_address = config->reply_domain ? buf_string(&j.reply_domain) : NULL;
		service.index = READER_INDEX_CHILDREN; /* payloads are handed on as they are */
		status = service_run(&service, &jatproxy_ops, j.proxy,
			&(struct service_hooks){
				.context = &j, .reload = on_reload, .attach = attach});
	}
	state_close(j.state, status == EXIT_DONE);
	jatproxy_free(j.proxy);
	jat_keys_free(j.keys);
	for (size_t i = 0; i < config->targets.count; i++)
		buf_free(&j.texts[i]);
	free(j.texts);
	free(j.targets);
	jid_list_free(&j.trusted);
	buf_free(&j.domain);
	buf_free(&j.reply_domain);
	return status;
}
