#include "roster/apply.h"

#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "loop/loop.h"

struct apply {
	struct apply_config config;
	struct apply_backend backend;
	struct apply_jobs jobs; /* the oldest of each user, in the order in which they became it */
	size_t users, count;	/* of these, of all jobs */
	size_t bytes;		/* of all jobs */
	uint64_t skipped;
	bool up;
};

struct apply *apply_new(const struct apply_config *config)
{
	struct apply *a = xcalloc(1, sizeof(*a));

	a->config = *config;
	TAILQ_INIT(&a->jobs);
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
	job->changes_count = job->sent = job->answered = job->firm = job->withheld = 0;
	job->owed = false;
	job->error = NULL;
	buf_reset(&job->message);
	job->state = JOB_WAITING;
}

static void job_free(struct apply_job *job)
{
	job_reset(job);
	roster_record_free(&job->record);
	buf_free(&job->jid);
	buf_free(&job->message);
	free(job);
}

/* What a job holds; its roster by the line that it was read from. */
static size_t job_bytes(const struct apply_job *job)
{
	return sizeof(*job) + job->record.bytes;
}

static void job_insert(struct apply *a, struct apply_job *job)
{
	TAILQ_INSERT_TAIL(&a->jobs, job, list);
	a->users++;
}

/* The oldest job of its user is over: the next one is now the oldest, behind those of all other
 * users. */
static void job_remove(struct apply *a, struct apply_job *job)
{
	struct apply_job *next = TAILQ_FIRST(&job->newer);

	TAILQ_REMOVE(&a->jobs, job, list);
	a->users--;
	a->count--;
	a->bytes -= job_bytes(job);
	if (job->client) {
		job->client->jobs--;
		job->client->bytes -= job_bytes(job);
	}
	if (next) {
		TAILQ_REMOVE(&job->newer, next, list);
		TAILQ_CONCAT(&next->newer, &job->newer, list);
		job_insert(a, next);
		if (next->client)
			next->client->waiting--;
	}
	if (job->state != JOB_WAITING && a->backend.forget)
		a->backend.forget(a->backend.context, job);
	job_free(job);
}

/* The oldest job of this user (bare JID), or NULL. */
static struct apply_job *job_of(const struct apply *a, struct span user)
{
	struct apply_job *job;

	TAILQ_FOREACH(job, &a->jobs, list)
	if (span_equal(buf_span(&job->jid), user))
		break;
	return job;
}

/* Take the job in: behind an older one of its user, or at once. */
static void job_add(struct apply *a, struct apply_job *job)
{
	struct apply_job *older = job_of(a, buf_span(&job->jid));

	a->count++;
	a->bytes += job_bytes(job);
	if (job->client) {
		job->client->jobs++;
		job->client->bytes += job_bytes(job);
		job->client->waiting += older != NULL;
	}
	if (older)
		TAILQ_INSERT_TAIL(&older->newer, job, list);
	else
		job_insert(a, job);
}

void apply_free(struct apply *a)
{
	if (!a)
		return;
	while (!TAILQ_EMPTY(&a->jobs))
		/* unlinked before it is freed, which the analyzer does not see */
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		job_remove(a, TAILQ_FIRST(&a->jobs));
	free(a);
}

bool apply_full(const struct apply *a, const struct apply_client *client)
{
	return a->users >= a->config.jobs || a->bytes >= APPLY_MAX_BYTES ||
	       client->waiting >= a->config.waiting || client->bytes >= APPLY_CLIENT_BYTES;
}

size_t apply_count(const struct apply *a)
{
	return a->count;
}

void apply_client_gone(struct apply *a, const struct apply_client *client)
{
	struct apply_job *job, *newer;

	TAILQ_FOREACH(job, &a->jobs, list)
	{
		if (job->client == client)
			job->client = NULL;
		TAILQ_FOREACH(newer, &job->newer, list)
		if (newer->client == client)
			newer->client = NULL;
	}
}

/* Results ---------------------------------------------------------------- */

static void give_error(struct apply *a, struct apply_client *client, struct span user,
	const char *error, const char *message)
{
	struct buf line;

	buf_init(&line, BUF_NO_MAX);
	roster_error_format(user, error, message, &line);
	a->config.result(a->config.context, client, buf_span(&line), true);
	buf_free(&line);
}

static void put_counts(const struct apply *a, const struct apply_job *job, struct buf *line)
{
	size_t counts[3] = {0};

	for (size_t i = 0; i < job->changes_count; i++)
		counts[job->changes[i].kind] += job->changes[i].done || a->config.dry_run;
	buf_printf(line, ",\"added\":%zu,\"updated\":%zu,\"removed\":%zu", counts[CHANGE_ADD],
		counts[CHANGE_UPDATE], counts[CHANGE_REMOVE]);
}

/* left: why the roster was left unread, or NULL. */
static void give_result(struct apply *a, const struct apply_job *job, const char *left)
{
	struct buf line;

	buf_init(&line, BUF_NO_MAX);
	buf_append_string(&line, "{\"user\":");
	json_string(&line, span_of(job->record.user));
	buf_printf(&line, ",\"status\":\"%s\"", job->error ? "error" : "ok");
	if (job->error)
		buf_printf(&line, ",\"error\":\"%s\"", job->error);
	if (job->error && buf_length(&job->message)) {
		buf_append_string(&line, ",\"message\":");
		json_string(&line, buf_span(&job->message));
	}
	if (!job->error || job->changes_count)
		put_counts(a, job, &line);
	if (job->withheld)
		buf_printf(&line, ",\"withheld\":%zu", job->withheld);
	if (job->record.skips.count)
		buf_printf(&line, ",\"skipped\":%zu", job->record.skips.count);
	if (left)
		buf_printf(&line, ",\"left\":\"%s\"", left);
	buf_append_string(&line, "}\n");
	a->config.result(a->config.context, job->client, buf_span(&line), job->error != NULL);
	buf_free(&line);
}

static void job_done(struct apply *a, struct apply_job *job)
{
	give_result(a, job, NULL);
	job_remove(a, job);
}

uint64_t apply_skipped(const struct apply *a)
{
	return a->skipped;
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
	struct apply_job *other;

	if (!a->backend.touches)
		return false;
	for (other = TAILQ_FIRST(&a->jobs); other != job; other = TAILQ_NEXT(other, list))
		if (at_odds(other, job))
			return true;
	return a->backend.touches(a->backend.context, buf_span(&job->jid));
}

static void job_read(struct apply *a, struct apply_job *job, struct turn *turn)
{
	job->deadline_ms = turn->now_ms + a->config.timeout_ms;
	job->owed = a->backend.get(a->backend.context, job, turn) == APPLY_LATER;
}

/* Start the jobs that wait for no older one. */
static void start_jobs(struct apply *a, struct turn *turn)
{
	struct apply_job *job = TAILQ_FIRST(&a->jobs);

	while (job && a->up) {
		struct apply_job *next = TAILQ_NEXT(job, list);

		if (job->state == JOB_WAITING && !user_busy(a, job)) {
			job->state = JOB_READING;
			job_read(a, job, turn);
		}
		job = next;
	}
}

/* Whether the user is one of skip_users. */
static bool is_left(const struct apply *a, const struct apply_job *job)
{
	struct span all = a->config.skip_users ? buf_span(a->config.skip_users) : SPAN("");
	size_t n = strcspn(buf_string(&job->jid), "@");

	while (all.n) {
		size_t one = strlen(all.p);

		if (one == n && memcmp(all.p, buf_string(&job->jid), n) == 0)
			return true;
		all = span_from(all, one + 1);
	}
	return false;
}

/* A job for the record, which is taken over. False: its user is no localpart. */
static bool job_make(struct apply *a, struct roster_record *record, struct apply_client *client,
	struct apply_job **job)
{
	struct apply_job *made = *job = xcalloc(1, sizeof(*made));
	const char *user = record->user;
	struct buf text;
	bool ok;

	TAILQ_INIT(&made->newer);
	buf_init(&made->jid, BUF_NO_MAX);
	buf_init(&made->message, 4096);
	made->apply = a;
	made->record = *record;
	made->client = client;
	*record = (struct roster_record){0};
	buf_init(&text, BUF_NO_MAX);
	buf_append_string(&text, user);
	buf_append_char(&text, '@');
	buf_append_span(&text, a->config.host);
	ok = !strchr(user, '@') && !strchr(user, '/') && jid_normalise(buf_span(&text), &made->jid);
	buf_free(&text);
	return ok;
}

void apply_record(struct apply *a, struct roster_record *record, struct apply_client *client,
	struct turn *turn)
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
	roster_skips_log(&record->skips, record->user);
	a->skipped += record->skips.count;
	if (!job_make(a, record, client, &job)) {
		give_error(a, client, span_of(job->record.user), "bad-user", "not a localpart");
		job_free(job);
	} else if (is_left(a, job)) {
		give_result(a, job, "skip-user");
		job_free(job);
	} else {
		job_add(a, job);
		start_jobs(a, turn);
	}
}

static void fail(struct apply_job *job, const char *error, const char *message)
{
	if (job->error)
		return; /* keep the first error */
	job->error = error;
	if (message)
		buf_append_string(&job->message, message);
}

/* All changes are answered: let the backend send presence, then give the result. */
static void job_show(struct apply *a, struct apply_job *job, struct turn *turn)
{
	job->state = JOB_SHOWING;
	job->deadline_ms = turn->now_ms + a->config.timeout_ms;
	job->owed = false;
	if (!a->backend.show || a->config.dry_run)
		apply_shown(job, turn);
	else if (a->backend.show(a->backend.context, job, turn) == APPLY_LATER)
		job->owed = true; /* with another answer the job may be freed by now */
}

void apply_shown(struct apply_job *job, struct turn *turn)
{
	struct apply *a = job->apply;

	job_done(a, job);
	start_jobs(a, turn);
}

void apply_alive(struct apply_job *job, struct turn *turn)
{
	job->deadline_ms = turn->now_ms + job->apply->config.timeout_ms;
}

void apply_owe(struct apply_job *job)
{
	job->owed = true;
}

/* A change was answered. error NULL: the server has made it. */
static void change_over(
	struct apply_job *job, struct apply_change *change, const char *error, const char *message)
{
	const struct roster_item *item = change->new ? change->new : change->old;

	change->done = !error;
	change->refused = error;
	job->answered++;
	if (error && !job->error) {
		buf_printf(&job->message, "%s%s%s", item->jid, message ? ": " : "",
			message ? message : "");
		job->error = error;
	}
}

/* The server has refused something: do not make the removals. */
static void withhold(struct apply_job *job)
{
	job->withheld += job->changes_count - job->firm;
	job->changes_count = job->firm;
}

static void send_changes(struct apply *a, struct apply_job *job, struct turn *turn)
{
	job->owed = false;
	while (job->sent < job->changes_count && job->sent - job->answered < a->backend.pipeline) {
		struct apply_change *change = &job->changes[job->sent];
		const char *why = NULL;
		enum apply_sent sent;

		if (job->sent >= job->firm && job->answered < job->firm)
			return;
		if (job->sent == job->firm && job->error) { /* the server has refused something */
			withhold(job);
			break;
		}
		sent = a->backend.change(a->backend.context, job, change, turn, &why);
		job->owed = sent == APPLY_LATER;
		if (job->owed)
			return;
		job->sent++;
		if (sent == APPLY_NEVER)
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

/* Whether the contact must not be changed: it is the user's own address, or one to keep. */
static bool is_kept(const struct apply *a, const struct apply_job *job,
	const struct roster_item *old, const struct roster_item *new)
{
	/* one of the two is there NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
	const char *jid = old ? old->jid : new->jid;

	return span_is(buf_span(&job->jid), jid) || roster_keep_has(a->config.keep, jid) ||
	       roster_keep_has_group(a->config.keep, old) ||
	       roster_keep_has_group(a->config.keep, new);
}

/* Drop changes of contacts to keep, and removals of contacts whose entry in the record was
 * skipped as invalid; then put the removals behind the rest. */
static void order_changes(const struct apply *a, struct apply_job *job)
{
	struct apply_change *removals = xcalloc(job->changes_count + 1, sizeof(*removals));
	size_t removals_count = 0;

	job->firm = 0;
	for (size_t i = 0; i < job->changes_count; i++) {
		const struct apply_change c = job->changes[i];

		if (is_kept(a, job, c.old, c.new))
			continue;
		if (c.kind != CHANGE_REMOVE)
			job->changes[job->firm++] = c;
		else if (!roster_skips_has(&job->record.skips, c.old->jid))
			removals[removals_count++] = c;
	}
	/* there are no fewer places NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) */
	memcpy(job->changes + job->firm, removals, removals_count * sizeof(*removals));
	job->changes_count = job->firm + removals_count;
	free(removals);
}

/* Contacts on the server that a record of this user could remove. */
static size_t removable(const struct apply *a, const struct apply_job *job)
{
	size_t n = 0;

	for (size_t i = 0; i < job->server.count; i++) {
		const struct roster_item *item = &job->server.items[i];

		n += !is_kept(a, job, item, NULL) &&
		     !roster_skips_has(&job->record.skips, item->jid);
	}
	return n;
}

/* Withhold removals if they are too many, or if the record may not hold all contacts. */
static void judge_removals(const struct apply *a, struct apply_job *job)
{
	size_t removals = job->changes_count - job->firm, all = removable(a, job);
	int64_t percent = a->config.max_removals_percent;
	const struct roster_skips *skips = &job->record.skips;

	if (!removals)
		return;
	if (skips->foreign) {
		size_t i = 0;

		while (!skips->list[i].foreign)
			i++;
		job->error = "removals-withheld";
		buf_printf(&job->message,
			"%zu missing contacts stay, because not all in the record are contacts: "
			"'%.200s': %s",
			removals, skips->list[i].contact, skips->list[i].why);
		withhold(job);
	} else if (!job->record.removals_all &&
		   ((a->config.max_removals >= 0 && (int64_t)removals > a->config.max_removals) ||
			   (percent >= 0 && all > APPLY_FEW &&
				   (int64_t)removals * 100 > percent * (int64_t)all))) {
		job->error = "too-many-removals";
		buf_printf(&job->message,
			"%zu of %zu contacts would be removed: --max-removals of roster-apply lets "
			"them through, or a record with \"removals\":\"all\" (roster-fetch "
			"--allow-removals)",
			removals, all);
		withhold(job);
	}
}

void apply_got(struct apply_job *job, struct roster *server, const char *error, const char *message,
	struct turn *turn)
{
	struct apply *a = job->apply;

	if (error) {
		fail(job, error, message);
		job_done(a, job);
		start_jobs(a, turn);
		return;
	}
	job->server = *server;
	roster_init(server);
	roster_diff(&job->server, &job->record.roster, add_change, job);
	if (job->changes_count)
		order_changes(a, job);
	judge_removals(a, job);
	job->state = JOB_CHANGING;
	job->deadline_ms = turn->now_ms + a->config.timeout_ms;
	if (a->config.dry_run || job->changes_count == 0) {
		job_done(a, job);
		start_jobs(a, turn);
		return;
	}
	send_changes(a, job, turn);
}

void apply_changed(struct apply_job *job, struct apply_change *change, const char *error,
	const char *message, struct turn *turn)
{
	struct apply *a = job->apply;

	change_over(job, change, error, message);
	job->deadline_ms = turn->now_ms + a->config.timeout_ms;
	send_changes(a, job, turn);
	start_jobs(a, turn); /* a job may have waited for the roster that this change touched */
}

const struct roster_record *apply_record_of(const struct apply *a, struct span user)
{
	const struct apply_job *oldest = job_of(a, user);
	const struct apply_job *newest = oldest ? TAILQ_LAST(&oldest->newer, apply_jobs) : NULL;

	return newest ? &newest->record : oldest ? &oldest->record : NULL;
}

const struct roster_item *apply_item_sent(const struct apply *a, struct span user,
	struct span contact, const struct roster_item *read)
{
	const struct apply_job *job;

	TAILQ_FOREACH(job, &a->jobs, list)
	if (job->sent && span_equal(buf_span(&job->jid), user))
		for (size_t i = 0; i < job->sent; i++) {
			const struct apply_change *c = &job->changes[i];

			if (!c->refused && span_is(contact, (c->new ? c->new : c->old)->jid))
				read = c->new;
		}
	return read;
}

/* Time ------------------------------------------------------------------- */

void apply_up(struct apply *a, struct turn *turn)
{
	a->up = true;
	start_jobs(a, turn);
}

void apply_down(struct apply *a)
{
	struct apply_job *job;

	a->up = false;
	TAILQ_FOREACH(job, &a->jobs, list)
	{
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
	const struct apply_job *job;

	TAILQ_FOREACH(job, &a->jobs, list)
	if (job->owed)
		deadline_ms = 0;
	else if (job->state != JOB_WAITING && job->deadline_ms < deadline_ms)
		deadline_ms = job->deadline_ms;
	return deadline_ms;
}

/* Send what did not fit before. */
static void job_go_on(struct apply *a, struct apply_job *job, struct turn *turn)
{
	job->owed = false;
	switch (job->state) {
	case JOB_WAITING:
		break;
	case JOB_READING:
		job_read(a, job, turn);
		break;
	case JOB_CHANGING:
		send_changes(a, job, turn);
		break;
	case JOB_SHOWING:
		job_show(a, job, turn);
	}
}

void apply_tick(struct apply *a, struct turn *turn)
{
	struct apply_job *job = TAILQ_FIRST(&a->jobs);

	while (job) {
		struct apply_job *next = TAILQ_NEXT(job, list);

		if (job->state != JOB_WAITING && job->deadline_ms <= turn->now_ms) {
			fail(job, "server-timeout", "the server does not answer");
			job_done(a, job);
		} else if (job->owed) {
			job_go_on(a, job, turn);
		}
		job = next;
	}
	start_jobs(a, turn);
}

void apply_finish(struct apply *a, const char *error, const char *message)
{
	struct apply_job *job;

	while ((job = TAILQ_FIRST(&a->jobs))) {
		/* as in apply_free() NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		fail(job, error, message);
		job_done(a, job);
	}
}
