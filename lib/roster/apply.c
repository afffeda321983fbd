#include "roster/apply.h"

#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "loop/loop.h"

struct apply {
	struct apply_config config;
	struct apply_backend backend;
	struct apply_job *first, **last; /* all jobs, oldest first */
	size_t count;
	bool up;
};

struct apply *apply_new(const struct apply_config *config)
{
	struct apply *a = xcalloc(1, sizeof(*a));

	a->config = *config;
	a->last = &a->first;
	return a;
}

void apply_backend_set(struct apply *a, const struct apply_backend *backend)
{
	a->backend = *backend;
}

static void job_reset(struct apply_job *job)
{
	roster_free(&job->server);
	free(job->changes);
	job->changes = NULL;
	job->changes_count = job->sent = job->answered = 0;
	job->error = NULL;
	buf_reset(&job->message);
	job->state = JOB_WAITING;
}

static void job_remove(struct apply *a, struct apply_job *job)
{
	struct apply_job **at = &a->first;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	if (a->last == &job->next)
		a->last = at;
	a->count--;
	if (job->state != JOB_WAITING && a->backend.forget)
		a->backend.forget(a->backend.context, job);
	job_reset(job);
	roster_record_free(&job->record);
	buf_free(&job->jid);
	buf_free(&job->message);
	free(job);
}

void apply_free(struct apply *a)
{
	if (!a)
		return;
	while (a->first)
		job_remove(a, a->first);
	free(a);
}

bool apply_full(const struct apply *a)
{
	return a->count >= a->config.jobs;
}

size_t apply_count(const struct apply *a)
{
	return a->count;
}

size_t apply_count_of(const struct apply *a, const void *client)
{
	size_t n = 0;

	for (const struct apply_job *job = a->first; job; job = job->next)
		n += job->client == client;
	return n;
}

void apply_client_gone(struct apply *a, const void *client)
{
	for (struct apply_job *job = a->first; job; job = job->next)
		if (job->client == client)
			job->client = NULL;
}

/* Results ---------------------------------------------------------------- */

static void give_error(
	struct apply *a, void *client, struct span user, const char *error, const char *message)
{
	struct buf line;

	buf_init(&line, BUF_NO_MAX);
	roster_error_format(user, error, message, &line);
	a->config.result(a->config.context, client, buf_span(&line), true);
	buf_free(&line);
}

static void job_done(struct apply *a, struct apply_job *job)
{
	size_t counts[3] = {0};
	struct buf line;

	if (job->error) {
		give_error(a, job->client, span_of(job->record.user), job->error,
			buf_length(&job->message) ? buf_string(&job->message) : NULL);
	} else {
		for (size_t i = 0; i < job->changes_count; i++)
			counts[job->changes[i].kind]++;
		buf_init(&line, BUF_NO_MAX);
		buf_append_string(&line, "{\"user\":");
		json_string(&line, span_of(job->record.user));
		buf_printf(&line,
			",\"status\":\"ok\",\"added\":%zu,\"updated\":%zu,\"removed\":%zu}\n",
			counts[CHANGE_ADD], counts[CHANGE_UPDATE], counts[CHANGE_REMOVE]);
		a->config.result(a->config.context, job->client, buf_span(&line), false);
		buf_free(&line);
	}
	job_remove(a, job);
}

/* Jobs ------------------------------------------------------------------- */

/* Whether exactly one of the two records has the other user as a contact. */
static bool at_odds(struct apply_job *one, struct apply_job *other)
{
	return (roster_find(&one->record.roster, buf_string(&other->jid)) != NULL) !=
	       (roster_find(&other->record.roster, buf_string(&one->jid)) != NULL);
}

/* Whether an older job, or a change of one, must end first. No job waits for a newer one, so two
 * never wait for each other. */
static bool user_busy(const struct apply *a, struct apply_job *job)
{
	for (struct apply_job *other = a->first; other != job; other = other->next)
		if (span_equal(buf_span(&other->jid), buf_span(&job->jid)) ||
			(a->backend.touches && at_odds(other, job)))
			return true;
	return a->backend.touches && a->backend.touches(a->backend.context, buf_span(&job->jid));
}

/* Start what may start. */
static void start_jobs(struct apply *a, struct turn *turn)
{
	struct apply_job *job = a->first;

	while (job && a->up) {
		struct apply_job *next = job->next;

		if (job->state == JOB_WAITING && !user_busy(a, job)) {
			job->state = JOB_READING;
			job->deadline_ms = turn->now_ms + a->config.timeout_ms;
			a->backend.get(a->backend.context, job, turn);
		}
		job = next;
	}
}

void apply_take(struct apply *a, struct roster_record *record, void *client, struct turn *turn)
{
	struct apply_job *job;
	struct buf text;

	if (record->status == RECORD_ERROR) {
		buf_init(&text, BUF_NO_MAX);
		roster_record_format(record, &text);
		a->config.result(a->config.context, client, buf_span(&text), true);
		buf_free(&text);
		roster_record_free(record);
		return;
	}
	job = xcalloc(1, sizeof(*job));
	buf_init(&job->jid, BUF_NO_MAX);
	buf_init(&job->message, 4096);
	job->record = *record;
	job->client = client;
	*record = (struct roster_record){0};
	buf_init(&text, BUF_NO_MAX);
	buf_append_string(&text, job->record.user);
	buf_append_char(&text, '@');
	buf_append_span(&text, a->config.host);
	if (strchr(job->record.user, '@') || strchr(job->record.user, '/') ||
		!jid_normalise(buf_span(&text), &job->jid)) {
		give_error(a, client, span_of(job->record.user), "bad-user", "not a localpart");
		roster_record_free(&job->record);
		buf_free(&job->jid);
		buf_free(&job->message);
		free(job);
	} else {
		*a->last = job;
		a->last = &job->next;
		a->count++;
		start_jobs(a, turn);
	}
	buf_free(&text);
}

static void fail(struct apply_job *job, const char *error, const char *message)
{
	if (job->error)
		return; /* keep the first error */
	job->error = error;
	if (message)
		buf_append_string(&job->message, message);
}

/* All answers are there: presence, then the result. */
static void job_show(struct apply *a, struct apply_job *job, struct turn *turn)
{
	job->state = JOB_SHOWING;
	job->deadline_ms = turn->now_ms + a->config.timeout_ms;
	if (a->backend.show && !a->config.dry_run)
		a->backend.show(a->backend.context, job, turn);
	else
		apply_shown(a, job, turn);
}

void apply_shown(struct apply *a, struct apply_job *job, struct turn *turn)
{
	job_done(a, job);
	start_jobs(a, turn);
}

void apply_alive(struct apply *a, struct apply_job *job, struct turn *turn)
{
	job->deadline_ms = turn->now_ms + a->config.timeout_ms;
}

/* One change is over; error NULL: it has been made. */
static void change_over(
	struct apply_job *job, struct apply_change *change, const char *error, const char *message)
{
	const struct roster_item *item = change->new ? change->new : change->old;

	change->done = !error;
	job->answered++;
	if (error && !job->error) {
		buf_printf(&job->message, "%s%s%s", item->jid, message ? ": " : "",
			message ? message : "");
		job->error = error;
	}
}

static void send_changes(struct apply *a, struct apply_job *job, struct turn *turn)
{
	while (job->sent < job->changes_count && job->sent - job->answered < a->backend.pipeline) {
		struct apply_change *change = &job->changes[job->sent++];
		const char *why = a->backend.change(a->backend.context, job, change, turn);

		if (why)
			change_over(job, change, "rejected", why);
	}
	if (job->answered == job->changes_count)
		job_show(a, job, turn);
}

static void add_change(void *context, const struct roster_change *c)
{
	struct apply_job *job = context;

	/* room is doubled at powers of two */
	if ((job->changes_count & (job->changes_count - 1)) == 0)
		job->changes = xrealloc(job->changes,
			(job->changes_count ? job->changes_count * 2 : 1) * sizeof(*job->changes));
	job->changes[job->changes_count++] =
		(struct apply_change){.kind = c->kind, .old = c->old, .new = c->new};
}

/* A contact that the web application sent wrongly, and the user's own address, stay on the server
 * as they are. */
static void keep_skipped(struct apply_job *job)
{
	size_t kept = 0;

	for (size_t i = 0; i < job->changes_count; i++) {
		struct apply_change *c = &job->changes[i];
		const struct roster_item *item = c->old ? c->old : c->new;

		if (!span_is(buf_span(&job->jid), item->jid) &&
			!(c->kind == CHANGE_REMOVE &&
				roster_skips_has(&job->record.skips, item->jid)))
			job->changes[kept++] = *c;
	}
	job->changes_count = kept;
}

void apply_got(struct apply *a, struct apply_job *job, struct roster *server, const char *error,
	const char *message, struct turn *turn)
{
	int64_t removals = 0;

	if (error) {
		fail(job, error, message);
		job_done(a, job);
		start_jobs(a, turn);
		return;
	}
	job->server = *server;
	roster_init(server);
	roster_diff(&job->server, &job->record.roster, add_change, job);
	keep_skipped(job);
	for (size_t i = 0; i < job->changes_count; i++)
		removals += job->changes[i].kind == CHANGE_REMOVE;
	if (a->config.max_removals >= 0 && removals > a->config.max_removals) {
		buf_printf(&job->message, "%lld contacts would be removed", (long long)removals);
		job->error = "too-many-removals";
		job_done(a, job);
		start_jobs(a, turn);
		return;
	}
	job->state = JOB_CHANGING;
	job->deadline_ms = turn->now_ms + a->config.timeout_ms;
	if (a->config.dry_run || job->changes_count == 0) {
		job_done(a, job);
		start_jobs(a, turn);
		return;
	}
	send_changes(a, job, turn);
}

void apply_changed(struct apply *a, struct apply_job *job, struct apply_change *change,
	const char *error, const char *message, struct turn *turn)
{
	change_over(job, change, error, message);
	job->deadline_ms = turn->now_ms + a->config.timeout_ms;
	send_changes(a, job, turn);
	start_jobs(a, turn); /* a job may have waited for the roster that this change touched */
}

const struct roster_record *apply_record_of(const struct apply *a, struct span user)
{
	const struct roster_record *newest = NULL;

	for (const struct apply_job *job = a->first; job; job = job->next)
		if (span_equal(buf_span(&job->jid), user))
			newest = &job->record;
	return newest;
}

/* Time ------------------------------------------------------------------- */

void apply_up(struct apply *a, struct turn *turn)
{
	a->up = true;
	start_jobs(a, turn);
}

void apply_down(struct apply *a)
{
	a->up = false;
	for (struct apply_job *job = a->first; job; job = job->next) {
		if (job->state == JOB_WAITING)
			continue;
		if (a->backend.forget)
			a->backend.forget(a->backend.context, job);
		job_reset(job);
	}
}

int64_t apply_deadline(const struct apply *a)
{
	int64_t deadline_ms = DEADLINE_NEVER;

	for (const struct apply_job *job = a->first; job; job = job->next)
		if (job->state != JOB_WAITING && job->deadline_ms < deadline_ms)
			deadline_ms = job->deadline_ms;
	return deadline_ms;
}

void apply_tick(struct apply *a, struct turn *turn)
{
	struct apply_job *job = a->first;

	while (job) {
		struct apply_job *next = job->next;

		if (job->state != JOB_WAITING && job->deadline_ms <= turn->now_ms) {
			fail(job, "server-timeout", "the server does not answer");
			job_done(a, job);
		}
		job = next;
	}
	start_jobs(a, turn);
}

void apply_finish(struct apply *a, const char *error, const char *message)
{
	while (a->first) {
		fail(a->first, error, message);
		job_done(a, a->first);
	}
}
