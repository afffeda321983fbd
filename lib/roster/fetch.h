/* roster/fetch.h - rosters from a web application
 *
 * Invariants: each fetch_user() leads to exactly one record (roster-stream(7)), from the loop or
 * from the call itself; records of one name come in the order of the calls; at most `jobs` names
 * are in hand, each with a response of at most max_bytes. A roster is taken only from
 * status 200 and one whole JSON object, else the record is an error, never a shorter roster.
 * Requests are GET over kept-alive connections, HTTP/2 where TLS offers it, compressed where
 * libcurl knows the method; max_bytes bounds the decompressed answer. All answers in hand together
 * take no more than two of the largest size: jobs that were asked for later wait. A request is
 * tried again after a connection that could not be made or ended without an answer, and after 429
 * and 503. Across a redirect to
 * another origin neither token nor header file nor client certificate go along, and none leads from
 * https to http.
 */
#ifndef OUTBOARD_ROSTER_FETCH_H
#define OUTBOARD_ROSTER_FETCH_H

#include "base/opt.h"
#include "base/secret.h"
#include "loop/loop.h"
#include "roster/roster.h"

#define FETCH_JOBS 16
#define FETCH_MAX_BYTES (8 * 1024 * 1024)

struct fetch_config {
	const char *url;  /* url-template.h */
	const char *host; /* the users' host, normalised, so that their own addresses are known; or
			     NULL */
	bool strict;
	bool allow_removals; /* records say that everything missing may be removed */
	struct opt_list keep;
	int64_t max_contacts, max_values;
	int64_t jobs, timeout_ms, connect_timeout_ms, max_bytes;
	int64_t max_time_ms;			 /* for all tries of a name; 0: twice timeout_ms */
	const char *unix_socket;		 /* NULL: as the URL says */
	int64_t retries;			 /* tries after the first one */
	int64_t redirects;			 /* followed at most */
	struct secret token, headers, login;	 /* login: user:password */
	const char *tls_ca, *tls_cert, *tls_key; /* PEM files or NULL */
	const char *cache;			 /* folder or NULL */
	char **users;				 /* fetchtool: NULL-ended; NULL: names from stdin */
};

#define FETCH_CONFIG_INIT                                                                          \
	{                                                                                          \
		.max_contacts = ROSTER_MAX_CONTACTS, .max_values = ROSTER_MAX_VALUES,              \
		.jobs = FETCH_JOBS, .timeout_ms = 30000, .connect_timeout_ms = 5000,               \
		.max_bytes = FETCH_MAX_BYTES, .token = {.fd = -1, .credential = "http-token"},     \
		.headers = {.fd = -1}, .login = {                                                  \
			.fd = -1                                                                   \
		}                                                                                  \
	}

struct fetch_counts {
	uint64_t ok, unchanged, failed, retries, bytes;
	uint64_t skipped; /* contacts that were left out */
};

struct fetch;
/* line: the record, with its newline */
typedef void fetch_record_fn(void *context, struct span line);

/* NULL after logging: *status is EXIT_CONFIG, ... config is borrowed, its url checked. */
struct fetch *fetch_new(struct loop *loop, const struct fetch_config *config,
	fetch_record_fn *record, void *context, int *status);
/* Names in hand get no record. */
void fetch_free(struct fetch *f);
/* Whether all jobs are in use. */
bool fetch_full(const struct fetch *f);
/* Names in hand. */
size_t fetch_active(const struct fetch *f);
/* Not while fetch_full(). Any bytes may come: a line that is no name gets a bad-user record. */
void fetch_user(struct fetch *f, struct span user);
const struct fetch_counts *fetch_counts(const struct fetch *f);

#endif
