#include "delegation/manage-service.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/utf8.h"
#include "delegation/delegation.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "base/secret.h"
#include "base/random.h"
#include "base/io.h"

#define DISCO_FILE_MAX_BYTES (1024 * 1024)

struct manageservice {
	struct manageservice_config *config;
	struct manage *manage;
	struct helper *helper;
	struct random_numbers random;
	struct buf domain;
	struct jid_list hosts, trusted;
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

/* What is announced of one namespace. NULL, or what is wrong (static). */
static const char *take_disco(
	struct manageservice_config *c, const char *ns, struct json_object *entry)
{
	struct manage_namespace *n = NULL;
	const char *wrong = NULL;

	for (size_t i = 0; i < c->namespaces_count; i++)
		if (span_is(c->namespaces[i].ns, ns))
			n = &c->namespaces[i];
	if (!n)
		return "is no --namespace";
	if (!json_object_is_type(entry, json_type_object))
		return "is not an object";
	json_object_object_foreach(entry, side, info)
	{
		bool host = strcmp(side, "host") == 0;

		if (!host && strcmp(side, "bare") != 0)
			wrong = "only host and bare are known";
		else if (!wrong)
			wrong = disco_add_json(host ? &n->host : &n->bare, info);
	}
	return wrong;
}

static int take_all_disco(struct manageservice_config *c, struct json_object *all)
{
	int status = EXIT_DONE;

	json_object_object_foreach(all, ns, entry)
	{
		const char *wrong = take_disco(c, ns, entry);

		if (!wrong)
			continue;
		err_error("'%s': '%s': %s", c->disco_file, ns, wrong);
		status = EXIT_CONFIG;
	}
	return status;
}

/* --disco: what is announced, namespace by namespace. */
static int read_disco(struct manageservice_config *c)
{
	struct json_object *all = NULL;
	struct buf text, message;
	int error, status = EXIT_CONFIG;

	buf_init(&message, 256);
	buf_init(&text, DISCO_FILE_MAX_BYTES);
	error = io_read_given(c->disco_file, DISCO_FILE_MAX_BYTES, IO_AT_START, &text);
	if (error) {
		err_error("cannot read '%s': %s", c->disco_file, io_given_reason(error));
		status = io_error_status(error, EXIT_CONFIG);
	} else if (json_parse(buf_span(&text), 16, &all, &message) != JSON_OK ||
		   !json_object_is_type(all, json_type_object)) {
		err_error("'%s' holds no JSON object%s%s", c->disco_file,
			buf_length(&message) ? ": " : "", buf_string(&message));
	} else {
		status = take_all_disco(c, all);
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
	for (size_t i = 0; i < c->limits.trusted.count; i++)
		if (!jid_is_domain(c->limits.trusted.items[i]))
			return "--limit trusted is not a domain";
	for (size_t i = 0; c->disco_file && i < c->namespaces_count; i++)
		if (!nothing_announced(&c->namespaces[i].host) ||
			!nothing_announced(&c->namespaces[i].bare))
			return "--disco excludes --feature, --bare-feature and --identity";
	if (!c->handler && (!c->service.connect || c->per_request))
		return "a HANDLER is needed";
	if (c->per_request && c->handler_requests)
		return "--handler-requests needs a persistent handler";
	if (c->per_request && c->handler_messages)
		return "--handler-messages needs a persistent handler";
	if (c->service.connect && !secret_given(&c->service.secret))
		return "--connect needs --secret-file";
	return NULL;
}

static struct manage *make_manage(struct manageservice *ms)
{
	struct manageservice_config *c = ms->config;
	const struct manage_config config = {.domain = buf_span(&ms->domain),
		.hosts = ms->hosts.jids,
		.hosts_count = ms->hosts.count,
		.namespaces = c->namespaces,
		.namespaces_count = c->namespaces_count,
		.timeout_ms = c->timeout_ms,
		.pending = limits_of_shares(
			&c->limits, delegation_domain_pending(&c->limits), &ms->trusted),
		.handler_requests = c->handler_requests,
		.messages = c->handler_messages != NULL,
		.users_messages = c->handler_messages && *c->handler_messages,
		.stays = !c->per_request,
		.passthrough = !c->service.connect,
		.hand = helper_hand,
		.over = helper_over,
		.tell = helper_tell,
		.helper = ms->helper,
		.random = {random_number, &ms->random}};

	return manage_new(&config);
}

static int run(struct manageservice *ms)
{
	struct manageservice_config *c = ms->config;
	const struct helper_config helper = {.argv = c->handler,
		.per_request = c->per_request,
		.jobs = (size_t)c->jobs,
		.json = c->json,
		.messages = c->handler_messages != NULL,
		.timeout_ms = c->timeout_ms,
		.max_pending = (size_t)c->limits.pending,
		.max_pending_bytes = buf_bytes(c->limits.pending_bytes),
		.limits = &c->service.limits,
		.random = &ms->random};
	int status;

	if (c->json)
		c->service.index = READER_INDEX_ALL;
	ms->helper = helper_new(&helper);
	ms->manage = make_manage(ms);
	helper_serve(ms->helper, &manage_helper_ops, ms->manage);
	status = service_run(&c->service, &manage_ops, ms->manage,
		&(struct service_hooks){
			.context = ms->helper, .attach = helper_attach, .detach = helper_detach});
	manage_free(ms->manage);
	helper_free(ms->helper);
	return status;
}

int manageservice_run(struct manageservice_config *config)
{
	struct manageservice ms = {.config = config};
	int status = config->disco_file ? read_disco(config) : EXIT_DONE;

	buf_init(&ms.domain, BUF_NO_MAX);
	jid_normalise_domain(span_of(config->service.domain), &ms.domain);
	jid_list_domains(&ms.hosts, config->hosts.items, config->hosts.count);
	jid_list_domains(&ms.trusted, config->limits.trusted.items, config->limits.trusted.count);
	if (status == EXIT_DONE) {
		announce_defaults(config);
		status = run(&ms);
	}
	for (size_t i = 0; i < config->namespaces_count; i++) {
		disco_free(&config->namespaces[i].host);
		disco_free(&config->namespaces[i].bare);
	}
	free(config->namespaces);
	jid_list_free(&ms.hosts);
	jid_list_free(&ms.trusted);
	buf_free(&ms.domain);
	return status;
}
