/* roster/apply.h - making server rosters what the records say
 *
 * A job is one record: the user's roster is read from the server, compared, each
 * difference applied (additions and updates first: removals only when the server has taken all of
 * them), presence sent where the backend can, and one result line given. Jobs of one user run one
 * after the other, those of different users side by side. A job that waits for an older one of its
 * user takes no place of another user: only the oldest of each user counts as one of `jobs`, and
 * the next one goes to the end of the line when that is over. Pure: how a server is talked to is a
 * backend (privilege.h, ejabberd-api.h). The backend gets jobs, and answers by the functions at the
 * end with the job as argument; it keeps no pointer to the apply.
 */
#ifndef OUTBOARD_ROSTER_APPLY_H
#define OUTBOARD_ROSTER_APPLY_H

#include <sys/queue.h>

#include <stdint.h>

#include "roster/roster.h"
#include "xmpp/turn.h"

struct apply_change {
	enum roster_change_kind kind;
	const struct roster_item *old, *new; /* into the job's rosters; NULL where there is none */
	bool done, refused;		     /* the server has taken it; or has not */
};

/* One that gives records: a member of the caller's own, at first all 0. */
struct apply_client {
	size_t jobs;	/* that have no result yet */
	size_t waiting; /* those of them that wait for an older one of their user */
	size_t bytes;	/* what they hold */
};

TAILQ_HEAD(apply_jobs, apply_job);

struct apply_job {
	TAILQ_ENTRY(apply_job) list; /* private */
	struct apply_jobs newer;     /* private: of the same user, where this is the oldest */
	struct apply *apply;
	struct apply_client *client; /* that gave the record; NULL: it has gone */
	struct roster_record record; /* what it should be */
	struct roster server;	     /* what it was */
	struct buf jid;		     /* user@host, normalised */
	struct apply_change *changes;
	size_t changes_count, sent, answered;
	size_t firm;	   /* how many of the changes, from the first, are no removals */
	size_t withheld;   /* removals that are not made */
	bool owed;	   /* the next step did not fit into the output: apply_tick() does it */
	const char *error; /* first failure: "forbidden", "rejected", "server-timeout", ... */
	struct buf message;
	int64_t deadline_ms; /* for the next answer */
	enum { JOB_WAITING, JOB_READING, JOB_CHANGING, JOB_SHOWING } state;
	void *backend; /* the backend's own */
};

enum apply_sent { APPLY_SENT, APPLY_LATER, APPLY_NEVER };

struct apply_backend {
	/* Read the roster of the job's user: ends in apply_got(). APPLY_LATER: there is no room to
	 * send now; it is called again. */
	enum apply_sent (*get)(void *context, struct apply_job *job, struct turn *turn);
	/* Apply one change: it ends in apply_changed() (not from here). APPLY_NEVER: it cannot be
	 * sent, *why (static) says why. */
	enum apply_sent (*change)(void *context, struct apply_job *job, struct apply_change *change,
		struct turn *turn, const char **why);
	/* All changes are answered: send presence; ends in apply_shown(). Called again after
	 * APPLY_LATER, to go on. NULL: nothing to do. */
	enum apply_sent (*show)(void *context, struct apply_job *job, struct turn *turn);
	/* The job is over (also in the middle): forget it. */
	void (*forget)(void *context, struct apply_job *job);
	/* Whether an unanswered change of another user's roster also changes the roster of jid: a
	 * job of that user waits for its apply_changed(). NULL: a change never does that. Where it
	 * is not NULL, and the records of two users disagree on whether they are contacts, the
	 * newer job waits for the older.
	 */
	bool (*touches)(void *context, struct span jid);
	void *context;
	size_t pipeline; /* changes of one job on the way at once */
};

struct apply_config {
	struct span host; /* normalised domain of the users */
	bool dry_run;
	/* Removals for one user: a number (-1: no limit), and a percentage of the contacts that
	 * the record could remove (-1: no limit), which applies if there are more than APPLY_FEW
	 * of these. */
	int64_t max_removals, max_removals_percent;
	const struct roster_keep *keep; /* or NULL */
	const struct buf
		*skip_users; /* names of users to leave as they are, a NUL behind each; or NULL */
	int64_t timeout_ms;  /* for each answer of the server */
	size_t jobs;	     /* most users with a job */
	size_t waiting;	     /* most jobs of one client that wait for an older one of their user */
	/* One record line with its newline, for the client of its job. */
	void (*result)(void *context, struct apply_client *client, struct span line, bool failed);
	void *context;
};

/* A user with no more contacts than these may lose them all. */
#define APPLY_FEW 10
#define APPLY_MAX_REMOVALS_PERCENT 50

struct apply;

/* *config is copied; what it points to is borrowed until the end. */
struct apply *apply_new(const struct apply_config *config);
void apply_free(struct apply *a);
void apply_backend_set(struct apply *a, const struct apply_backend *backend);
/* Take a record over. An error record is passed on at once. */
void apply_record(struct apply *a, struct roster_record *record, struct apply_client *client,
	struct turn *turn);
/* Whether `jobs` users have a job, or this many bytes are held, or this client has its share of
 * what is held or waits: do not give more from this client. */
#define APPLY_MAX_BYTES ((size_t)48 * 1024 * 1024)
#define APPLY_CLIENT_BYTES (APPLY_MAX_BYTES / 2)
bool apply_full(const struct apply *a, const struct apply_client *client);
/* Jobs, also those that wait. */
size_t apply_count(const struct apply *a);
/* The client has gone: discard its results. */
void apply_client_gone(struct apply *a, const struct apply_client *client);
/* The backend's connection is up, or lost. Jobs under way start again when it is up again.
 */
void apply_up(struct apply *a, struct turn *turn);
void apply_down(struct apply *a);
void apply_tick(struct apply *a, struct turn *turn);
int64_t apply_deadline(const struct apply *a);
/* Contacts that records have left out so far. */
uint64_t apply_skipped(const struct apply *a);
/* End all jobs, each with this error. */
void apply_finish(struct apply *a, const char *error, const char *message);

/* The newest record in hand for user (bare JID), borrowed until the next call; NULL: none. */
const struct roster_record *apply_record_of(const struct apply *a, struct span user);

/* What the roster of user (bare JID) will have for the contact when the server has handled all that
 * was sent: the item of the newest change of a job (borrowed until the next call; NULL: a removal),
 * or `read`, what the roster had when it was read, if no job has sent one. */
const struct roster_item *apply_item_sent(const struct apply *a, struct span user,
	struct span contact, const struct roster_item *read);

/* For the backend. server: taken over. error NULL: done; else "forbidden", "rejected", ... */
void apply_got(struct apply_job *job, struct roster *server, const char *error, const char *message,
	struct turn *turn);
void apply_changed(struct apply_job *job, struct apply_change *change, const char *error,
	const char *message, struct turn *turn);
void apply_shown(struct apply_job *job, struct turn *turn);
/* The backend's output did not fit: call its show() again. */
void apply_owe(struct apply_job *job);
/* The backend is still busy with the job: its deadline begins anew. */
void apply_alive(struct apply_job *job, struct turn *turn);

#endif
