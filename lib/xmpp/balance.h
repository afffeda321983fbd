/* xmpp/balance.h - choosing one of several workers for a request, and knowing which of them live
 *
 * A worker is whatever requests are handed to: a session of an account, an instance on a stream of
 * its own. This module chooses by policy and watches health; it knows neither how a request
 * reaches a worker nor what the request says.
 *
 * Health: a worker that was handed a request try_timeout_ms ago and has shown no life since is
 * suspect. No new request goes to a suspect while another worker in rotation is well; the last one
 * in rotation is never put aside. A suspect is pinged (XEP-0199) after 5 s, then after intervals
 * that double to 60 s. worker_alive() clears the suspicion. The owner decides what life is: an
 * answer, a request or a message of the worker, but no bounce of its server and no presence that a
 * probe of ours asked for.
 *
 * Under POLICY_STICKY a user whose worker is suspect moves to the next in the user's own order and
 * stays there until that one leaves, or until the user has sent nothing for 10 minutes.
 *
 * Ownership: a worker belongs to the balance. It is freed once it has left and nobody holds it
 * (worker_hold). Pure: the time, the random numbers and the writer are passed in.
 */
#ifndef OUTBOARD_XMPP_BALANCE_H
#define OUTBOARD_XMPP_BALANCE_H

#include <stdint.h>
#include <sys/queue.h>

#include "base/backoff.h"
#include "base/random.h"
#include "xmpp/turn.h"

/* In the order of "random|round-robin|least-pending|sticky". */
enum balance_policy { POLICY_RANDOM, POLICY_ROUND_ROBIN, POLICY_LEAST_PENDING, POLICY_STICKY };

enum worker_state {
	WORKER_THERE,
	WORKER_LOST, /* the link to it went down: it may still answer, and may come back */
	WORKER_LEFT,
};

struct request_try;
LIST_HEAD(worker_tries, request_try);

#define WORKER_PING_ID_CHARS 16

struct worker {
	struct span name; /* owned; its name in the log and in the sticky order */
	size_t group;	  /* the target it belongs to */
	unsigned number;  /* from 1; unique among the available workers of its group */
	enum worker_state state;
	bool drained; /* out of rotation: see worker_drain() */
	bool suspect;
	void *owner;		   /* whatever the owner of the balance keeps with it */
	size_t load;		   /* open tries */
	struct worker_tries tries; /* kept by xmpp/requests */
	uint64_t handed, answered, timed_out;
	/* the rest is private */
	unsigned holds;
	bool told;	    /* it was logged as suspect, so its recovery will be logged */
	int64_t told_ms;    /* when */
	int64_t waiting_ms; /* when the first request after its last sign of life was handed over */
	int64_t ping_ms;
	struct backoff ping_backoff;
	char ping_id[WORKER_PING_ID_CHARS + 1];
	TAILQ_ENTRY(worker) of_balance;
};

struct balance_config {
	enum balance_policy policy;
	int64_t try_timeout_ms; /* 0: no worker is ever suspect */
	const char *noun;	/* for the log: "session" */
	struct random_source random;
	/* Write the ping w->ping_id to a worker. WRITER_FULL: it is tried again. May be NULL. */
	enum writer_status (*ping)(void *context, const struct worker *w, struct turn *turn);
	/* A worker has become suspect, has come, or is well again, so that requests of suspects may
	 * go to other workers. May be NULL. */
	void (*changed)(void *context, struct worker *suspect, int64_t now_ms);
	void *context;
};

struct balance;

/* *config is copied. */
struct balance *balance_new(const struct balance_config *config);
/* Frees the workers, too; nobody may hold one any more. */
void balance_free(struct balance *b);

/* A worker has come. One of the same name that was lost is taken up again with all it holds. */
struct worker *worker_add(struct balance *b, struct span name, size_t group, int64_t now_ms);
/* A worker is gone. It is freed unless it is held. */
void worker_leave(struct balance *b, struct worker *w, enum worker_state state);
/* Take a worker out of rotation or back in. While all are out, all are in rotation. */
void worker_drain(struct balance *b, struct worker *w, bool drained);
void worker_hold(struct worker *w);
void worker_release(struct balance *b, struct worker *w);
/* A request was handed to it. */
void worker_handed(struct balance *b, struct worker *w, int64_t now_ms);
/* It has shown life. */
void worker_alive(struct balance *b, struct worker *w, int64_t now_ms);
/* It is suspect from now on, whatever it has been handed (its server has bounced a request). */
void worker_suspect(struct balance *b, struct worker *w, int64_t now_ms);
/* It has let a request time out: the first time is logged. */
void worker_timed_out(struct balance *b, struct worker *w, int64_t now_ms);
/* Whether an answer of w with this id is that to our last ping. */
bool worker_is_pong(const struct worker *w, struct span id);

/* Which workers may be chosen. Each tier includes those before it. */
enum balance_tier {
	TIER_WELL,   /* in rotation and not suspect */
	TIER_USABLE, /* in rotation */
	TIER_THERE,  /* all */
	TIERS,
};

struct balance_query {
	struct span user; /* the requester; POLICY_STICKY chooses by its bare JID */
	bool sticky;	  /* choose as with POLICY_STICKY, whatever the policy is */
	/* workers that must not be chosen; NULL: none */
	bool (*excluded)(const void *context, const struct worker *w);
	const void *context;
	int64_t now_ms;
};
/* One worker of the tier by policy; NULL if there is none. O(workers), for random and round robin
 * without exclusion O(1). */
struct worker *balance_choose(
	struct balance *b, enum balance_tier tier, const struct balance_query *query);
/* The worker there with this name; NULL. */
struct worker *balance_find(const struct balance *b, struct span name);
/* Workers of a tier, and the i-th in the order they came. */
size_t balance_count(const struct balance *b, enum balance_tier tier);
struct worker *balance_at(const struct balance *b, enum balance_tier tier, size_t i);

void balance_tick(struct balance *b, struct turn *turn);
int64_t balance_deadline(const struct balance *b);

#endif
