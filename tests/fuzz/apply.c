/* Fuzz target: apply.h with a server and clients that do what the input says.
 *
 * The server holds rosters, answers in any order, refuses, is silent, goes and comes, and takes
 * nothing for a while. Asserted: each record has exactly one result, for the client that gave it;
 * nothing is removed that is kept, that a record leaves out, or by a record that is doubtful or
 * removes too much; no removal is asked for before all else has been taken; a result "ok" means
 * that the roster is what the record says; at the end nothing is open.
 */
#include "roster/apply.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define USERS 3
#define CONTACTS 14
#define CLIENTS 4
#define OPEN 256
#define JOBS 2 /* fewer than users */
#define WAITING 4

struct question {
	struct apply_job *job;
	struct apply_change *change; /* NULL: the roster is asked for; or to be shown */
	bool show;
};

static struct world {
	const uint8_t *at, *end;
	bool rosters[USERS][CONTACTS];
	struct question open[OPEN];
	size_t open_count, given[CLIENTS], answered[CLIENTS];
	struct apply_client clients[CLIENTS];
	struct apply *apply;
	bool full, up;
	int64_t now_ms;
} world;

static unsigned next(unsigned below)
{
	return world.at < world.end ? *world.at++ % below : 0;
}

static struct turn *turn(void)
{
	static struct turn t;

	t = (struct turn){.now_ms = world.now_ms};
	return &t;
}

static size_t user_of(const struct apply_job *job)
{
	return (size_t)(buf_string(&job->jid)[1] - '0');
}

static size_t contact_of(const struct roster_item *item)
{
	return (size_t)(item->jid[1] - 'a');
}

static void ask(struct apply_job *job, struct apply_change *change, bool show)
{
	REQUIRE(world.open_count < OPEN);
	world.open[world.open_count++] = (struct question){job, change, show};
}

static enum apply_sent on_get(void *context, struct apply_job *job, struct turn *t)
{
	(void)context;
	(void)t;
	if (world.full)
		return APPLY_LATER;
	ask(job, NULL, false);
	return APPLY_SENT;
}

static enum apply_sent on_change(void *context, struct apply_job *job, struct apply_change *change,
	struct turn *t, const char **why)
{
	(void)context;
	(void)t;
	if (world.full)
		return APPLY_LATER;
	if (change->kind == CHANGE_REMOVE) {
		REQUIRE(contact_of(change->old) != 0); /* it is kept */
		REQUIRE(!roster_skips_has(&job->record.skips, change->old->jid));
		REQUIRE(job->record.skips.foreign == 0);
		for (size_t i = 0; i < job->firm; i++)
			REQUIRE(job->changes[i].done);
	}
	*why = "no";
	if (next(16) == 1)
		return APPLY_NEVER;
	ask(job, change, false);
	return APPLY_SENT;
}

static enum apply_sent on_show(void *context, struct apply_job *job, struct turn *t)
{
	(void)context;
	(void)t;
	if (world.full)
		return APPLY_LATER;
	ask(job, NULL, true);
	return APPLY_SENT;
}

static void on_forget(void *context, struct apply_job *job)
{
	size_t kept = 0;

	(void)context;
	for (size_t i = 0; i < world.open_count; i++)
		if (world.open[i].job != job)
			world.open[kept++] = world.open[i];
	world.open_count = kept;
}

static void on_result(void *context, struct apply_client *client, struct span line, bool failed)
{
	size_t i = client ? (size_t)(client - world.clients) : CLIENTS;

	(void)context;
	REQUIRE(line.n && line.p[line.n - 1] == '\n');
	REQUIRE(failed == (memmem(line.p, line.n, "\"status\":\"error\"", 16) != NULL));
	if (i < CLIENTS)
		world.answered[i]++;
}

/* A record of some of the contacts; foreign, skipped and "all" at times. */
static void give(void)
{
	size_t user = next(USERS), client = next(CLIENTS), present = next(256), count = 0;
	struct roster_record record;
	struct buf line;
	const char *why;

	if (apply_full(world.apply, &world.clients[client]))
		return;
	buf_init(&line, BUF_NO_MAX);
	buf_printf(&line, "{\"user\":\"u%zu\",\"status\":\"ok\",\"roster\":{", user);
	for (size_t i = 0; i < CONTACTS; i++)
		if ((present >> (i % 8)) & 1)
			buf_printf(&line, "%s\"c%c@h\":{\"name\":\"%u\"}", count++ ? "," : "",
				(char)('a' + i), next(3));
	if (next(5) == 1)
		buf_printf(&line, "%s\"error\":\"x\",\"cz@h\":{}", count ? "," : "");
	buf_append_char(&line, '}');
	if (next(4) == 1)
		buf_printf(&line, ",\"skipped\":[{\"contact\":\"c%c@h\",\"why\":\"\"}]",
			(char)('a' + next(CONTACTS)));
	if (next(4) == 1)
		buf_append_string(&line, ",\"removals\":\"all\"");
	buf_append_char(&line, '}');
	if (roster_record_parse(buf_span(&line), NULL, &record, &why)) {
		world.given[client]++;
		apply_record(world.apply, &record, &world.clients[client], turn());
	}
	roster_record_free(&record);
	buf_free(&line);
}

static void server_roster(size_t user, struct roster *out)
{
	roster_init(out);
	for (size_t i = 0; i < CONTACTS; i++) {
		struct roster_item item = {.jid = xstrdup("ca@h"),
			.subscription = ROSTER_BOTH,
			.asking = next(8) == 1};

		item.jid[1] = (char)('a' + i);
		if (world.rosters[user][i])
			roster_add_take(out, &item);
		else
			roster_item_free(&item);
	}
	REQUIRE(roster_sort(out));
}

/* One of the open questions is answered. */
static void answer(void)
{
	size_t index = world.open_count ? next((unsigned)world.open_count) : 0;
	bool refused = next(8) == 1;
	struct question q;
	struct roster roster;

	if (!world.open_count)
		return;
	q = world.open[index];
	world.open[index] = world.open[--world.open_count];
	if (q.show) {
		apply_shown(q.job, turn());
	} else if (!q.change) {
		server_roster(user_of(q.job), &roster);
		apply_got(q.job, &roster, refused ? "forbidden" : NULL, "m", turn());
		roster_free(&roster);
	} else {
		const struct roster_item *item = q.change->new ? q.change->new : q.change->old;

		if (!refused && contact_of(item) < CONTACTS)
			world.rosters[user_of(q.job)][contact_of(item)] = q.change->new != NULL;
		apply_changed(q.job, q.change, refused ? "rejected" : NULL, "m", turn());
	}
}

static void step(void)
{
	switch (next(8)) {
	case 0:
	case 1:
		give();
		break;
	case 2:
		world.now_ms += next(40);
		apply_tick(world.apply, turn());
		break;
	case 3:
		if (next(4) == 0) {
			world.up = !world.up;
			if (world.up)
				apply_up(world.apply, turn());
			else
				apply_down(world.apply);
		}
		break;
	case 4:
		world.full = next(3) == 0;
		apply_tick(world.apply, turn());
		break;
	default:
		answer();
	}
	REQUIRE(apply_count(world.apply) <= JOBS + CLIENTS * WAITING);
	for (size_t i = 0; i < CLIENTS; i++)
		REQUIRE(world.clients[i].jobs == world.given[i] - world.answered[i]);
	REQUIRE(!world.up || apply_count(world.apply) == 0 || apply_deadline(world.apply) >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct roster_keep keep;
	const struct apply_config config = {.host = SPAN("h"),
		.max_removals = -1,
		.max_removals_percent = APPLY_MAX_REMOVALS_PERCENT,
		.keep = &keep,
		.timeout_ms = 100,
		.jobs = JOBS,
		.waiting = WAITING,
		.result = on_result};
	const struct apply_backend backend = {.get = on_get,
		.change = on_change,
		.show = on_show,
		.forget = on_forget,
		.pipeline = 3};

	err_verbosity(-2);
	world = (struct world){.at = bytes, .end = bytes + n};
	roster_keep_init(&keep);
	roster_keep_add(&keep, "ca@h");
	for (size_t u = 0; u < USERS; u++)
		for (size_t i = 0; i < CONTACTS; i++)
			world.rosters[u][i] = next(2);
	world.apply = apply_new(&config);
	apply_backend_set(world.apply, &backend);
	world.up = true;
	apply_up(world.apply, turn());
	while (world.at < world.end)
		step();
	apply_finish(world.apply, "server-timeout", NULL);
	REQUIRE(apply_count(world.apply) == 0 && world.open_count == 0);
	for (size_t i = 0; i < CLIENTS; i++)
		REQUIRE(world.given[i] == world.answered[i] && !world.clients[i].bytes &&
			!world.clients[i].waiting);
	apply_free(world.apply);
	roster_keep_free(&keep);
	return 0;
}
