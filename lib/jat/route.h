/* jat/route.h - whether the reply domain's routes lead back to us
 *
 * With --reply-domain R one stream stands for two domains. At the start R pings an address of its
 * own: it must come back on the same stream, or answers of sessions do not come either. Pure.
 */
#ifndef OUTBOARD_JAT_ROUTE_H
#define OUTBOARD_JAT_ROUTE_H

#include "base/deadline.h"
#include "xmpp/turn.h"

enum route_state { ROUTE_UNKNOWN, ROUTE_ASKED, ROUTE_PROVEN };

struct route {
	enum route_state state;
	struct span domain;  /* R, borrowed */
	int64_t deadline_ms; /* DEADLINE_NEVER: nothing is awaited */
	char id[17];
};

#define ROUTE_INIT(reply_domain)                                                                   \
	{                                                                                          \
		.domain = (reply_domain), .deadline_ms = DEADLINE_NEVER                            \
	}

/* Ping, unless the route is proven. number: random. */
void route_ask(struct route *r, uint64_t number, int64_t timeout_ms, struct turn *turn);
/* The link is down. */
void route_forget(struct route *r);
/* s comes from R. Whether it is our ping. */
bool route_answer(struct route *r, const struct stanza *s);
/* Whether the ping has not come back in time; true, and logged, only once. */
bool route_failed(struct route *r, struct span served, int64_t now_ms);
/* The server has refused a stanza from R: log how its listener must be configured. */
void route_explain(const struct route *r, struct span served);

#endif
