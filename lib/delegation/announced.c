#include "delegation/announced.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"

/* How long after the connection, or after the last announcement, one may take. */
#define WAIT_MS 10000
/* When the server is asked for a sign of life, if none has come until then. */
#define PING_MS 5000
#define PING_ID_CHARS 16

enum ping { PING_NONE, PING_OPEN, PING_ANSWERED };

struct announced {
	const struct manage_config *config;
	bool any;
	bool *known; /* per namespace: it was announced, or its absence was said */
	enum ping ping;
	char ping_id[PING_ID_CHARS + 1];
	int64_t ping_ms, check_ms;
};

struct announced *announced_new(const struct manage_config *config)
{
	struct announced *a = xcalloc(1, sizeof(*a));

	a->config = config;
	a->known = xcalloc(config->namespaces_count + 1, sizeof(*a->known));
	a->ping_ms = a->check_ms = DEADLINE_NEVER;
	snprintf(a->ping_id, sizeof(a->ping_id), "%016llx",
		(unsigned long long)random_draw(&config->random));
	return a;
}

void announced_free(struct announced *a)
{
	if (!a)
		return;
	free(a->known);
	free(a);
}

void announced_up(struct announced *a, int64_t now_ms)
{
	if (a->any || a->config->passthrough)
		return;
	a->ping = PING_NONE;
	a->ping_ms = now_ms + PING_MS;
	a->check_ms = now_ms + WAIT_MS;
}

void announced_take(
	struct announced *a, struct span host, const struct xml_node *delegation, int64_t now_ms)
{
	const struct manage_config *c = a->config;

	a->any = true;
	a->ping_ms = DEADLINE_NEVER;
	a->check_ms = now_ms + WAIT_MS;
	for (const struct xml_node *n = delegation->first_child; n; n = n->next) {
		struct span ns = xml_attribute(n, "namespace");
		bool listed = false;

		for (size_t i = 0; i < c->namespaces_count; i++)
			if (span_equal(c->namespaces[i].ns, ns))
				a->known[i] = listed = true;
		err_note("'%.*s' delegates '%.*s'%s", SPAN_ARG(host), SPAN_ARG(ns),
			listed ? "" : ", which is not served here");
	}
}

bool announced_answer(struct announced *a, const struct stanza *s)
{
	if (a->ping != PING_OPEN || !stanza_is_answer(s) || !span_is(s->id, a->ping_id))
		return false;
	a->ping = PING_ANSWERED;
	return true;
}

static void ask(struct announced *a, struct turn *turn)
{
	struct writer *w = turn->writer;

	writer_start(w, "iq", "get", span_of(a->ping_id), a->config->hosts[0], a->config->domain);
	writer_raw(w, "><ping xmlns='urn:xmpp:ping'/></iq>");
	if (writer_end(w) == WRITER_OK)
		a->ping = PING_OPEN;
}

static void say_configuration(const struct announced *a, struct span ns)
{
	const struct manage_config *c = a->config;

	for (size_t i = 0; i < c->hosts_count; i++)
		err_warn("Prosody, VirtualHost \"%.*s\": modules_enabled = { \"delegation\" }; "
			 "delegations = { [\"%.*s\"] = { jid = \"%.*s\" } }",
			SPAN_ARG(c->hosts[i]), SPAN_ARG(ns), SPAN_ARG(c->domain));
	err_warn("Prosody, Component \"%.*s\": modules_enabled = { \"delegation\" }",
		SPAN_ARG(c->domain));
	err_warn("ejabberd: mod_delegation: namespaces: \"%.*s\": access: rule for '%.*s'",
		SPAN_ARG(ns), SPAN_ARG(c->domain));
}

static void say_nothing_came(struct announced *a)
{
	const struct manage_config *c = a->config;

	err_warn("no host has told that it delegates anything to '%.*s'", SPAN_ARG(c->domain));
	say_configuration(a, c->namespaces[0].ns);
	if (a->ping == PING_OPEN)
		err_warn("'%.*s' does not answer a ping either: ejabberd 24.10 to 24.12 with "
			 "mod_privilege drop all requests of components; leave that module out",
			SPAN_ARG(c->hosts[0]));
}

void announced_tick(struct announced *a, struct turn *turn)
{
	const struct manage_config *c = a->config;

	if (a->ping_ms <= turn->now_ms) {
		a->ping_ms = DEADLINE_NEVER;
		ask(a, turn);
	}
	if (a->check_ms > turn->now_ms)
		return;
	a->check_ms = DEADLINE_NEVER;
	if (!a->any) {
		say_nothing_came(a);
		a->any = true; /* said once */
		return;
	}
	for (size_t i = 0; i < c->namespaces_count; i++) {
		if (a->known[i])
			continue;
		a->known[i] = true;
		err_warn("no host has told that it delegates '%.*s' to '%.*s'",
			SPAN_ARG(c->namespaces[i].ns), SPAN_ARG(c->domain));
		say_configuration(a, c->namespaces[i].ns);
	}
}

int64_t announced_deadline(const struct announced *a)
{
	return a->ping_ms < a->check_ms ? a->ping_ms : a->check_ms;
}
