/* plumbing/iq-replies.h - requests and their replies, as they are printed (xmpp-iq)
 *
 * Each request gets one line of output: its reply, or an error of ours. Lines leave in the order of
 * the requests, or (config->unordered) in the order of the replies. The user's id and the address
 * that was typed are kept with the request and stand in its line.
 *
 * Bounded: replies_full() tells the caller to read no more requests once there are max_pending of
 * them, or once lines and open requests are near max_bytes.
 */
#ifndef OUTBOARD_PLUMBING_IQ_REPLIES_H
#define OUTBOARD_PLUMBING_IQ_REPLIES_H

#include <sys/queue.h>

#include "base/table.h"
#include "loop/sink.h"
#include "plumbing/iq.h"
#include "xmpp/stanza-error.h"

struct request {
	STAILQ_ENTRY(request) next;
	char *id;		  /* the user's; NULL: none */
	char *typed;		  /* --each: the address as it was typed; else NULL */
	char *from, *to;	  /* who asks and who is asked; NULL: absent */
	char *expected;		  /* `to`, normalised: the reply's from; NULL: the own account */
	struct table_entry *open; /* NULL: answered, or not sent */
	size_t bytes;		  /* of all this and the line */
	struct buf line;	  /* what is to be printed */
};

STAILQ_HEAD(request_queue, request);

/* Other files read it, and change nothing. */
struct replies {
	const struct iq_config *config;
	struct sink *out;
	struct table *open; /* requests by the id they were sent under */
	/* Lines in the order of printing: each request from when it was read, or (unordered) from
	 * when it was answered. */
	struct request_queue queue;
	size_t count; /* requests whose line is not out, also those that are not in the queue yet */
	size_t bytes, max_bytes;
	size_t estimate_bytes; /* how large the next reply may be */
	struct reader *reader; /* of our own errors */
	bool unprinted;	       /* a request was answered after replies_print() */
	bool failed;	       /* a reply was an error, ours included */
};

/* config and out are borrowed. max_bytes: of lines that are not printed yet. */
void replies_init(
	struct replies *r, const struct iq_config *config, struct sink *out, size_t max_bytes);
void replies_free(struct replies *r);

/* A request was read. It is freed when its line has been printed. Then: replies_open() or
 * replies_error(). */
struct request *replies_request(
	struct replies *r, struct span id, struct span from, struct span to);
/* It was sent under this id; it is late at deadline_ms. */
void replies_open(struct replies *r, struct request *request, struct span id, int64_t deadline_ms);
/* The open request with this id, NULL if there is none. */
struct request *replies_find(const struct replies *r, struct span id);
/* The open request that is late first, NULL if none is open. */
struct request *replies_earliest(const struct replies *r);

/* The request's reply came. A reply over a limit becomes an error. */
void replies_answer(struct replies *r, struct request *request, const struct stanza *s);
/* We answer the request with an error of ours. */
void replies_error(
	struct replies *r, struct request *request, enum stanza_error error, const char *text);
/* The request gets no line. */
void replies_drop(struct replies *r, struct request *request);
/* Too many bytes wait for the first request, which is open: answer it with an error. */
void replies_give_up_first(struct replies *r);

/* Print the lines whose turn it is, while standard output takes them. */
void replies_print(struct replies *r);
/* Whether standard output takes more. */
bool replies_out_takes(const struct replies *r);
/* Whether requests have to wait: until lines have left, and so that there is room for the replies
 * of open requests where the first one is late. */
bool replies_full(const struct replies *r);

#endif
