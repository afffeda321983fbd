#include "delegation/delegate-service.h"

#include <stdlib.h>

#include "base/utf8.h"
#include "delegation/delegation.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "base/json.h"
#include "base/secret.h"
#include "base/random.h"
#include "base/io.h"

#define CONFIG_MAX_BYTES (1024 * 1024)

struct delegateservice {
	const struct delegateservice_config *config;
	struct delegate *delegate;
	struct helper *helper; /* OTHERWISE, or NULL */
	struct buf domain;
	struct jid_list trusted;
	struct disco_info own;
	struct random_numbers random;
};

/* Rules ------------------------------------------------------------------ */

void delegate_rules_init(struct delegate_rules *r)
{
	*r = (struct delegate_rules){0};
}

void delegate_rules_free(struct delegate_rules *r)
{
	for (size_t i = 0; i < r->count; i++) {
		struct delegate_rule *rule = &r->list[i];

		for (size_t j = 0; j < rule->attributes_count; j++)
			free((char *)rule->attributes[j].p);
		free((void *)rule->attributes);
		free((char *)rule->ns.p);
		free((char *)rule->entity.p);
	}
	free(r->list);
	delegate_rules_init(r);
}

static struct span copy(struct span s)
{
	return (struct span){xstrndup(s.p, s.n), s.n};
}

static struct delegate_rule *add_rule(struct delegate_rules *r, struct span ns)
{
	r->list = xrealloc(r->list, (r->count + 1) * sizeof(*r->list));
	r->list[r->count] = (struct delegate_rule){.ns = copy(ns)};
	return &r->list[r->count++];
}

static void add_attribute(struct delegate_rule *rule, struct span name)
{
	struct span *list = xrealloc(
		(void *)rule->attributes, (rule->attributes_count + 1) * sizeof(*rule->attributes));

	list[rule->attributes_count++] = copy(name);
	rule->attributes = list;
}

static const char *set_entity(struct delegate_rule *rule, struct span jid)
{
	struct buf normal;
	const char *wrong = NULL;

	buf_init(&normal, BUF_NO_MAX);
	if (jid_normalise(jid, &normal))
		rule->entity = copy(buf_span(&normal));
	else
		wrong = "the managing entity is not a JID";
	buf_free(&normal);
	return wrong;
}

const char *delegate_rules_option(struct delegate_rules *r, struct span text)
{
	const char *equals = text.n ? memrchr(text.p, '=', text.n) : NULL, *open;
	struct span ns, list = SPAN_NONE;
	struct delegate_rule *rule;
	bool listed;

	if (!equals)
		return "not NS=JID";
	ns = (struct span){text.p, (size_t)(equals - text.p)};
	open = ns.n ? memrchr(ns.p, '[', ns.n) : NULL;
	listed = ns.n && ns.p[ns.n - 1] == ']';
	if (open ? !memchr(open, ']', (size_t)(equals - open)) : listed)
		return "not NS[attr,attr]=JID";
	if (listed) {
		list = (struct span){open + 1, (size_t)(ns.p + ns.n - 1 - (open + 1))};
		ns.n = (size_t)(open - ns.p);
	}
	rule = add_rule(r, ns);
	while (list.p) {
		const char *comma = list.n ? memchr(list.p, ',', list.n) : NULL;
		size_t n = comma ? (size_t)(comma - list.p) : list.n;

		if (n == 0)
			return "an empty attribute";
		add_attribute(rule, (struct span){list.p, n});
		list = comma ? span_from(list, n + 1) : SPAN_NONE;
	}
	return set_entity(rule, span_from(text, (size_t)(equals - text.p) + 1));
}

static const char *rule_from_json(struct delegate_rule *rule, struct json_object *entry)
{
	const char *wrong = NULL;

	if (!json_object_is_type(entry, json_type_object))
		return "not an object";
	json_object_object_foreach(entry, name, value)
	{
		if (strcmp(name, "jid") == 0) {
			wrong = json_text(value).n ? set_entity(rule, json_text(value))
						   : "jid is no string";
		} else if (strcmp(name, "filtering") != 0) {
			wrong = "only jid and filtering are known";
		} else if (!json_object_is_type(value, json_type_array)) {
			wrong = "filtering is no list";
		} else {
			for (size_t i = 0; i < json_object_array_length(value) && !wrong; i++) {
				struct span attribute =
					json_text(json_object_array_get_idx(value, i));

				if (attribute.n)
					add_attribute(rule, attribute);
				else
					wrong = "filtering holds what is no string";
			}
		}
		if (wrong)
			return wrong;
	}
	return rule->entity.p ? NULL : "no jid";
}

const char *delegate_rules_json(struct delegate_rules *r, struct span text, struct buf *key)
{
	struct json_object *all = NULL;
	const char *wrong = NULL;
	struct buf message;

	buf_init(&message, 256);
	if (json_parse(text, 8, &all, &message) != JSON_OK)
		wrong = "not JSON";
	buf_free(&message);
	if (!wrong && !json_object_is_type(all, json_type_object))
		wrong = "not an object of namespaces";
	if (!wrong) {
		json_object_object_foreach(all, ns, entry)
		{
			wrong = rule_from_json(add_rule(r, span_of(ns)), entry);
			if (wrong) {
				buf_append_string(key, ns);
				break;
			}
		}
	}
	json_object_put(all);
	return wrong;
}

static const char *rules_from_options(
	const struct delegateservice_config *c, struct delegate_rules *rules)
{
	const char *wrong = NULL;

	for (size_t i = 0; i < c->delegations.count && !wrong; i++)
		wrong = delegate_rules_option(rules, span_of(c->delegations.items[i]));
	return wrong;
}

/* EXIT_DONE, EXIT_CONFIG or EXIT_TEMPORARY (logged). */
static int rules_from_file(
	struct delegateservice *ds, enum io_when when, struct delegate_rules *rules)
{
	const char *file = ds->config->config_file, *wrong = NULL;
	struct buf text, key;
	size_t at = 0;
	int error;

	buf_init(&text, CONFIG_MAX_BYTES);
	buf_init(&key, BUF_NO_MAX);
	error = io_read_given(file, CONFIG_MAX_BYTES, when, &text);
	if (error)
		err_error("cannot read '%s': %s", file, io_given_reason(error));
	else if ((wrong = delegate_rules_json(rules, buf_span(&text), &key)))
		err_error("'%s': %s%s%s%s", file, buf_length(&key) ? "'" : "", buf_string(&key),
			buf_length(&key) ? "': " : "", wrong);
	else if (rules->list && (wrong = delegate_rules_wrong(
					 rules->list, rules->count, buf_span(&ds->domain), &at)))
		err_error("'%s': '%.*s': %s", file, SPAN_ARG(rules->list[at].ns), wrong);
	buf_free(&text);
	buf_free(&key);
	return error || wrong ? io_error_status(error, EXIT_CONFIG) : EXIT_DONE;
}

/* Service ---------------------------------------------------------------- */

static void on_attach(void *context, struct service *service, struct loop *loop)
{
	struct delegateservice *ds = context;

	if (ds->helper)
		helper_attach(ds->helper, service, loop);
}

static void on_detach(void *context)
{
	struct delegateservice *ds = context;

	if (ds->helper)
		helper_detach(ds->helper);
}

static bool on_reload(void *context, struct turn *turn)
{
	struct delegateservice *ds = context;
	struct delegate_rules rules;
	bool ok;

	if (!ds->config->config_file)
		return true;
	delegate_rules_init(&rules);
	ok = rules_from_file(ds, IO_WHILE_SERVING, &rules) == EXIT_DONE;
	if (ok)
		delegate_rules(ds->delegate, rules.list, rules.count, turn);
	delegate_rules_free(&rules);
	return ok;
}

/* Configuration ---------------------------------------------------------- */

static const char *rules_check(const struct delegateservice_config *c)
{
	struct delegate_rules rules;
	struct buf domain;
	const char *wrong;
	size_t at;

	delegate_rules_init(&rules);
	buf_init(&domain, BUF_NO_MAX);
	jid_normalise_domain(span_of(c->service.domain), &domain);
	wrong = rules_from_options(c, &rules);
	if (!wrong)
		wrong = delegate_rules_wrong(rules.list, rules.count, buf_span(&domain), &at);
	buf_free(&domain);
	delegate_rules_free(&rules);
	return wrong;
}

/* The features that we announce beside those of the delegations. */
static const char *take_own(const struct delegateservice_config *c, struct disco_info *own)
{
	for (size_t i = 0; i < c->identities.count; i++)
		if (!disco_add_identity(own, span_of(c->identities.items[i])))
			return "--identity takes category/type or category/type/name";
	for (size_t i = 0; i < c->features.count; i++) {
		if (!*c->features.items[i] || !utf8_xml_valid(span_of(c->features.items[i])))
			return "--feature is not one";
		disco_add_feature(own, span_of(c->features.items[i]));
	}
	return NULL;
}

const char *delegateservice_check(const struct delegateservice_config *c)
{
	struct disco_info own;
	const char *wrong;

	if (!c->service.domain)
		return "--domain is needed";
	if (!jid_is_domain(c->service.domain))
		return "--domain is not a domain";
	if (!c->config_file && !c->delegations.count)
		return "--delegate or --config is needed";
	if (c->json && !c->otherwise)
		return "--json needs OTHERWISE";
	if (c->config_file && c->delegations.count)
		return "--delegate and --config exclude each other";
	disco_init(&own);
	wrong = take_own(c, &own);
	disco_free(&own);
	if (wrong)
		return wrong;
	for (size_t i = 0; i < c->limits.trusted.count; i++)
		if (!jid_is_domain(c->limits.trusted.items[i]))
			return "--limit trusted is not a domain";
	if (c->service.connect && !secret_given(&c->service.secret))
		return "--connect needs --secret-file";
	return c->config_file ? NULL : rules_check(c);
}

static struct helper *otherwise_new(struct delegateservice *ds)
{
	const struct delegateservice_config *c = ds->config;
	const struct helper_config config = {.argv = c->otherwise,
		.json = c->json,
		.timeout_ms = c->timeout_ms,
		.max_pending = (size_t)c->limits.pending,
		.max_pending_bytes = buf_bytes(c->limits.pending_bytes),
		.limits = &c->service.limits,
		.random = &ds->random};

	return c->otherwise ? helper_new(&config) : NULL;
}

static int run(struct delegateservice *ds, const struct delegate_rules *rules)
{
	const struct delegateservice_config *c = ds->config;
	struct service_config service = c->service;
	struct helper *otherwise = otherwise_new(ds);
	const struct delegate_config config = {.domain = buf_span(&ds->domain),
		.version = c->version + 1,
		.own = &ds->own,
		.timeout_ms = c->timeout_ms,
		.try_timeout_ms = c->try_timeout_ms < 0 ? c->timeout_ms / 3 : c->try_timeout_ms,
		.pending = limits_of_shares(
			&c->limits, delegation_domain_pending(&c->limits), &ds->trusted),
		.passthrough = !service.connect,
		.hand = otherwise ? helper_hand : NULL,
		.over = helper_over,
		.helper = otherwise,
		.random = {random_number, &ds->random}};
	int status;

	if (c->json)
		service.index = READER_INDEX_ALL;
	ds->delegate = delegate_new(&config);
	ds->helper = otherwise;
	if (otherwise)
		helper_serve(otherwise, &delegate_helper_ops, ds->delegate);
	delegate_rules(
		ds->delegate, rules->list, rules->count, &(struct turn){.now_ms = io_now_ms()});
	status = service_run(&service, &delegate_ops, ds->delegate,
		&(struct service_hooks){.context = ds,
			.reload = on_reload,
			.attach = on_attach,
			.detach = on_detach});
	delegate_free(ds->delegate);
	helper_free(otherwise);
	return status;
}

int delegateservice_run(const struct delegateservice_config *config)
{
	struct delegateservice ds = {.config = config};
	struct delegate_rules rules;
	int status = EXIT_DONE;

	delegate_rules_init(&rules);
	disco_init(&ds.own);
	buf_init(&ds.domain, BUF_NO_MAX);
	jid_normalise_domain(span_of(config->service.domain), &ds.domain);
	jid_list_domains(&ds.trusted, config->limits.trusted.items, config->limits.trusted.count);
	take_own(config, &ds.own);
	rules_from_options(config, &rules);
	if (config->config_file)
		status = rules_from_file(&ds, IO_AT_START, &rules);
	if (status == EXIT_DONE)
		status = run(&ds, &rules);
	delegate_rules_free(&rules);
	disco_free(&ds.own);
	buf_free(&ds.domain);
	jid_list_free(&ds.trusted);
	return status;
}
