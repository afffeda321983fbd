#include "jat/route.h"

#include <stdio.h>

#include "base/err.h"
#include "xmpp/jid.h"

void route_ask(struct route *r, uint64_t number, int64_t timeout_ms, struct turn *turn)
{
	char to[JID_MAX_BYTES];

	if (r->state == ROUTE_PROVEN)
		return;
	snprintf(r->id, sizeof(r->id), "%016llx", (unsigned long long)number);
	snprintf(to, sizeof(to), "%.*s/%s", SPAN_ARG(r->domain), r->id);
	writer_start(turn->writer, "iq", "get", span_of(r->id), span_of(to), r->domain);
	writer_raw(turn->writer, "><ping xmlns='" NS_PING "'/></iq>");
	writer_end(turn->writer); /* the first stanza of a stream: there is room */
	r->state = ROUTE_ASKED;
	r->deadline_ms = turn->now_ms + timeout_ms;
}

void route_forget(struct route *r)
{
	r->deadline_ms = DEADLINE_NEVER;
}

bool route_answer(struct route *r, const struct stanza *s)
{
	if (r->state != ROUTE_ASKED || !stanza_is_request(s) || !span_is(s->id, r->id))
		return false;
	r->state = ROUTE_PROVEN;
	r->deadline_ms = DEADLINE_NEVER;
	return true;
}

bool route_failed(struct route *r, struct span served, int64_t now_ms)
{
	if (r->deadline_ms > now_ms)
		return false;
	r->deadline_ms = DEADLINE_NEVER;
	err_error("a ping from '%.*s' to itself does not come back: does the listener have "
		  "global_routes: true, and both '%.*s' and '%.*s' among its hosts?",
		SPAN_ARG(r->domain), SPAN_ARG(served), SPAN_ARG(r->domain));
	return true;
}

void route_explain(const struct route *r, struct span served)
{
	err_error("the server does not let this stream send from '%.*s'; on ejabberd a listener of "
		  "its own is needed:",
		SPAN_ARG(r->domain));
	err_error("  - port: PORT");
	err_error("    module: ejabberd_service");
	err_error("    global_routes: true");
	err_error("    hosts: {\"%.*s\": {password: SECRET}, \"%.*s\": {password: SECRET}}",
		SPAN_ARG(served), SPAN_ARG(r->domain));
}
