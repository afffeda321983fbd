#include "server/grants.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "base/err.h"

/* Domains of strangers can send such messages, too. */
#define MAX_HOSTS 256

struct host {
	LIST_ENTRY(host) list;
	char *name;
	const char *ns;
	unsigned granted;
};

struct grants {
	LIST_HEAD(, host) hosts;
	size_t count;
};

struct grants *grants_new(void)
{
	struct grants *g = xcalloc(1, sizeof(*g));

	LIST_INIT(&g->hosts);
	return g;
}

void grants_clear(struct grants *g)
{
	while (!LIST_EMPTY(&g->hosts)) {
		struct host *h = LIST_FIRST(&g->hosts);

		LIST_REMOVE(h, list);
		g->count--;
		free(h->name);
		free(h);
	}
}

void grants_free(struct grants *g)
{
	if (!g)
		return;
	grants_clear(g);
	free(g);
}

static struct host *find(const struct grants *g, struct span name)
{
	struct host *h;

	LIST_FOREACH(h, &g->hosts, list)
	if (span_is(name, h->name))
		return h;
	return NULL;
}

/* What <perm access='...' type='...'/> stands for. */
static unsigned permission(const struct xml_node *perm)
{
	static const struct {
		const char *access, *type;
		unsigned granted;
	} all[] = {
		{"roster", "get", GRANT_ROSTER_GET},
		{"roster", "set", GRANT_ROSTER_SET},
		{"roster", "both", GRANT_ROSTER_GET | GRANT_ROSTER_SET},
		{"message", "outgoing", GRANT_MESSAGES},
		{"presence", "managed_entity", GRANT_PRESENCE},
		{"presence", "roster", GRANT_PRESENCE | GRANT_CONTACTS_PRESENCE},
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (span_is(xml_attribute(perm, "access"), all[i].access) &&
			span_is(xml_attribute(perm, "type"), all[i].type))
			return all[i].granted;
	return 0;
}

bool grants_note(struct grants *g, const struct stanza *s, struct span *host)
{
	const struct xml_node *privilege = s->root->first_child;
	struct host *h;
	bool second;

	if (s->kind != STANZA_MESSAGE || s->type == TYPE_ERROR || !privilege || !s->from.n ||
		!span_is(privilege->name, "privilege"))
		return false;
	second = span_is(privilege->ns, NS_PRIVILEGE_2);
	if (!second && !span_is(privilege->ns, NS_PRIVILEGE_1))
		return false;
	if (memchr(s->from.p, '@', s->from.n) || memchr(s->from.p, '/', s->from.n))
		return false; /* no server's */
	h = find(g, s->from);
	if (!h && g->count == MAX_HOSTS)
		return false;
	if (!h) {
		g->count++;
		h = xcalloc(1, sizeof(*h));
		h->name = xstrndup(s->from.p, s->from.n);
		LIST_INSERT_HEAD(&g->hosts, h, list);
	}
	h->ns = second ? NS_PRIVILEGE_2 : NS_PRIVILEGE_1;
	h->granted = 0;
	for (const struct xml_node *n = privilege->first_child; n; n = n->next)
		if (span_is(n->name, "perm"))
			h->granted |= permission(n);
	*host = s->from;
	return true;
}

bool grants_known(const struct grants *g, struct span host)
{
	return find(g, host) != NULL;
}

unsigned grants_of(const struct grants *g, struct span host)
{
	const struct host *h = find(g, host);

	return h ? h->granted : 0;
}

const char *grants_namespace(const struct grants *g, struct span host)
{
	const struct host *h = find(g, host);

	return h ? h->ns : NULL;
}
