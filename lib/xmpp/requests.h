/* xmpp/requests.h - open requests, the workers that have them in hand, and the answers we owe
 *
 * The table of open requests of a program that hands requests on to workers (xmpp/balance). It
 * knows neither how addresses are translated nor how a request reaches a worker: it asks its owner
 * to write.
 *
 * Invariants: a request is in the table until its one answer stands in the output buffer. What
 * does not fit now (WRITER_FULL) is owed: requests_deadline() is then in the past, and
 * requests_tick() goes on as soon as there is room. Only a worker that was asked can answer.
 *
 * A request can have REQUEST_MAX_TRIES tries. When a worker leaves, its tries wait bounce_wait_ms
 * for a word of its server, then a get goes to another worker and a set is answered
 * wait/recipient-unavailable, because it may have been done. What a bounce proves never to have
 * been delivered goes to another worker in any case. A get in the hands of a suspect goes to one
 * other worker that is well; the first result wins, and an error of one try does not end the
 * request while another try is open.
 *
 * Pure: time, random numbers and the writer are passed in.
 */
#ifndef OUTBOARD_XMPP_REQUESTS_H
#define OUTBOARD_XMPP_REQUESTS_H

#include "base/table.h"
#include "xmpp/balance.h"
#include "xmpp/shares.h"
#include "xmpp/stanza-error.h"

#define REQUEST_MAX_TRIES 3
/* Open requests with one key: an answer is looked for among all of them, so one user and one
 * silent worker could keep us busy without a bound. */
#define REQUEST_MAX_EQUAL 256

enum try_state {
	TRY_CLOSED,
	TRY_OPEN,
	TRY_LEFT,      /* its worker has left; a bounce may come */
	TRY_BOUNCED,   /* returned by the worker's server: it may have been done */
	TRY_UNTOUCHED, /* returned, and never delivered */
};

struct request_try {
	struct request *request;
	struct worker *worker; /* held until the request is removed */
	enum try_state state;
	LIST_ENTRY(request_try) of_worker; /* while not closed */
};

/* How a request ends. */
enum request_end {
	END_ANSWERED,	 /* with the answer of a worker */
	END_TIMEOUT,	 /* wait/remote-server-timeout */
	END_NO_WORKER,	 /* cancel/service-unavailable */
	END_WORKER_LEFT, /* wait/recipient-unavailable */
	END_STOPPED,	 /* wait/recipient-unavailable */
	END_TOO_LARGE,	 /* modify/policy-violation */
	END_NO_ROOM,	 /* wait/resource-constraint */
	REQUEST_ENDS,
};

/* The texts of a request. */
enum request_text { REQUEST_USER, REQUEST_ASKED, REQUEST_ID, REQUEST_TOKEN, REQUEST_STANZA };
#define REQUEST_TEXTS 5

/* What requests_add() copies. */
struct request_texts {
	struct span user, asked, id; /* the answer's to, from and id */
	struct span token, stanza;   /* the owner's: a name for it, and what workers are given */
	bool set;
	bool pinned;   /* another worker could not do it: no second try while this one is there */
	bool unshared; /* no user's: not counted in the shares */
};

struct request {
	struct {
		uint32_t at, n; /* counted from the request; at == 0: absent */
	} texts[REQUEST_TEXTS];
	int64_t deadline_ms; /* overall */
	/* the rest is private, but for the flags before `owed`, and tries, which may be read */
	struct share share;
	struct request_try *tries; /* NULL: without a stanza no worker has it */
	struct held_answer *held;
	bool set, pinned, unshared;
	bool owed : 1;	/* how it ends is decided, the answer is to be written */
	bool again : 1; /* it is to go to another worker, or to its end */
	bool hedge : 1; /* it is to go to one more worker if there is a well one */
	uint8_t end;	/* if owed: an enum request_end */
	uint8_t error;	/* an enum stanza_error */
	uint8_t tries_count;
};

struct requests_config {
	size_t max, max_bytes;
	uint64_t seed[2];
	int64_t timeout_ms, bounce_wait_ms;
	size_t extra_bytes;	 /* of the owner's record in each request: request_extra() */
	struct balance *balance; /* borrowed; NULL: no request has a worker, nor a try */
	struct shares *shares;	 /* borrowed; NULL: none */
	void *chooser;		 /* the context of choose and doubted; NULL: context */
	/* Workers have outputs of their own: what has no room in one waits, while the rest goes on.
	 */
	bool workers_apart;
	/* Another worker for r of this tier that has not had it yet (requests_tried()), or NULL. */
	struct worker *(*choose)(
		void *context, const struct request *r, enum balance_tier tier, int64_t now_ms);
	/* Write r (again) to a worker. */
	enum writer_status (*hand)(
		void *context, struct request *r, struct worker *w, struct turn *turn);
	/* Write s, an answer to r, to the requester. */
	enum writer_status (*answer)(
		void *context, struct request *r, const struct stanza *s, struct turn *turn);
	/* Write error e to the requester. NULL: as an iq error, to user, from asked. */
	enum writer_status (*error)(
		void *context, struct request *r, enum stanza_error e, struct turn *turn);
	/* How r ends was decided: called once for each request, before an error of ours is written,
	 * after an answer of a worker was. */
	void (*ending)(void *context, struct request *r, enum request_end end, int64_t now_ms);
	/* r was handed to another worker. */
	void (*again)(void *context, struct request *r);
	/* r is about to leave the table. May be NULL. */
	void (*removed)(void *context, struct request *r, int64_t now_ms);
	/* The server has bounced a request of a worker that has not left. May be NULL. */
	void (*doubted)(void *context, struct worker *w, struct turn *turn);
	void *context;
};

struct requests;

/* *config is copied. */
struct requests *requests_new(const struct requests_config *config);
/* Drops what is open. */
void requests_free(struct requests *t);

/* The key by which an answer finds its request, and the hash of it: computed once. */
struct table_key requests_key(const struct requests *t, struct span bytes);
/* Oldest open request with this key and the next one; NULL. */
struct request *requests_find(const struct requests *t, const struct table_key *key);
struct request *requests_next(const struct requests *t, const struct request *r);
struct span request_key(const struct request *r);
/* A text of it, valid as long as the request. */
static inline struct span request_text(const struct request *r, enum request_text which)
{
	return r->texts[which].at
		       ? (struct span){(const char *)r + r->texts[which].at, r->texts[which].n}
		       : SPAN_NONE;
}
static inline struct span request_user(const struct request *r)
{
	return request_text(r, REQUEST_USER);
}
static inline struct span request_asked(const struct request *r)
{
	return request_text(r, REQUEST_ASKED);
}
static inline struct span request_id(const struct request *r)
{
	return request_text(r, REQUEST_ID);
}
static inline struct span request_token(const struct request *r)
{
	return request_text(r, REQUEST_TOKEN);
}
static inline struct span request_stanza(const struct request *r)
{
	return request_text(r, REQUEST_STANZA);
}
/* The owner's record, zeroed at first. */
void *request_extra(struct request *r);

/* Whether one more request may be added to the open ones with its key, of which `oldest` is the
 * first (REQUEST_MAX_EQUAL). */
bool requests_may_add(const struct requests *t, const struct request *oldest);
/* An open request without a try, with copies of the texts (a span that points into the key's bytes
 * is not copied twice). NULL: a bound or a share is reached; the
 * stanza is to be refused with wait/resource-constraint. */
struct request *requests_add(struct requests *t, const struct table_key *key,
	const struct request_texts *texts, int64_t now_ms);
/* It stands in the output buffer for w. Only a request with a stanza is handed to workers. */
void requests_handed(struct requests *t, struct request *r, struct worker *w, int64_t now_ms);
/* Take back what was only added (it was not handed on). */
void requests_forget(struct requests *t, struct request *r);

/* Whether w has had r. */
bool requests_tried(const struct request *r, const struct worker *w);
/* The try of r that w can answer, NULL if w was not asked or has answered. */
struct request_try *requests_try_of(struct request *r, const struct worker *w);
/* s is the answer of a try. It was no bounce. */
void requests_answered(
	struct requests *t, struct request_try *try, const struct stanza *s, struct turn *turn);
/* s is the answer to a request that has no worker. */
void requests_deliver(
	struct requests *t, struct request *r, const struct stanza *s, struct turn *turn);
/* Its worker's server has returned it; untouched: it was never delivered. */
void requests_bounced(
	struct requests *t, struct request_try *try, bool untouched, struct turn *turn);
/* Whether an error in the name of a worker that was asked is its server's, which could not deliver
 * the request (RFC 6121, 8.5.3.2.3), and whether the worker may have seen the request before. */
enum bounce { BOUNCE_NONE, BOUNCE_MAYBE_DONE, BOUNCE_UNTOUCHED };
enum bounce requests_bounce_of(const struct stanza *s, const struct worker *w);
/* It ends so; the error is written now or later. The pointer is no longer valid. */
void requests_end(struct requests *t, struct request *r, enum request_end end, struct turn *turn);
/* The same with another error than the one of that end. */
void requests_fail(struct requests *t, struct request *r, enum request_end end, enum stanza_error e,
	struct turn *turn);

/* A worker has left: what it has in hand waits for a bounce, or goes on. */
void requests_worker_left(struct requests *t, struct worker *w, int64_t now_ms);
/* A suspect's gets may go to others: balance_config.changed. */
void requests_hedge(struct requests *t, struct worker *suspect, int64_t now_ms);

/* Answer a stanza that is in no table with an error, now or later. */
void requests_refuse(
	struct requests *t, const struct stanza *s, enum stanza_error e, struct turn *turn);

/* A whole stanza that did not fit: written before all else as soon as there is room. */
void requests_owe(struct requests *t, struct span stanza);

/* Write what is due as long as there is room. */
void requests_tick(struct requests *t, struct turn *turn);
int64_t requests_deadline(const struct requests *t);
/* End all with END_STOPPED. */
void requests_finish(struct requests *t, struct turn *turn);
/* Open requests and answers owed. */
size_t requests_count(const struct requests *t);
size_t requests_bytes(const struct requests *t);
/* All that are in the table, in no order: an array that the caller frees. Requests may be added and
 * removed while it is used. */
struct request **requests_all(const struct requests *t, size_t *count);

#endif
