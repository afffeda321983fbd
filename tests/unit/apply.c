/* apply.h: jobs and their results, with a simulated server */
#include "roster/apply.h"

#include <stdlib.h>

#include "check.h"
#include "base/err.h"

static struct apply *apply;
static struct buf results, asked;
static struct apply_job *jobs[64];
static size_t jobs_count, forgotten;
static const char *refuse, *touched;
static bool later;

/* A turn at this time. */
static struct turn *at(int64_t now_ms)
{
	static struct turn turn;

	turn = (struct turn){.now_ms = now_ms};
	return &turn;
}

struct client {
	struct apply_client client; /* first */
	const char *name;
};

static void on_result(void *context, struct apply_client *client, struct span line, bool failed)
{
	(void)context;
	buf_append_string(&results, client ? ((struct client *)client)->name : "-");
	buf_append_char(&results, failed ? '!' : ' ');
	buf_append_span(&results, line);
}

static enum apply_sent on_get(void *context, struct apply_job *job, struct turn *turn)
{
	(void)context;
	(void)turn;
	buf_printf(&asked, "get %s;", buf_string(&job->jid));
	jobs[jobs_count++] = job;
	return APPLY_SENT;
}

static enum apply_sent on_change(void *context, struct apply_job *job, struct apply_change *change,
	struct turn *turn, const char **why)
{
	(void)context;
	(void)turn;
	(void)job;
	buf_printf(&asked, "%d %s;", (int)change->kind,
		(change->new ? change->new : change->old)->jid);
	*why = refuse;
	return later ? APPLY_LATER : refuse ? APPLY_NEVER : APPLY_SENT;
}

static void on_forget(void *context, struct apply_job *job)
{
	(void)context;
	(void)job;
	forgotten++;
}

static bool on_touches(void *context, struct span jid)
{
	(void)context;
	return touched && span_is(jid, touched);
}

static struct apply_config config;

static void renew(void);

static void begin(int64_t max_removals, bool dry_run)
{
	config = (struct apply_config){.host = SPAN("h"),
		.dry_run = dry_run,
		.max_removals = max_removals,
		.max_removals_percent = -1,
		.timeout_ms = 100,
		.jobs = 4,
		.waiting = 2,
		.result = on_result};
	buf_init(&results, BUF_NO_MAX);
	buf_init(&asked, BUF_NO_MAX);
	jobs_count = forgotten = 0;
	refuse = touched = NULL;
	later = false;
	renew();
}

/* Make the module anew, with the present config. */
static void renew(void)
{
	const struct apply_backend backend = {.get = on_get,
		.change = on_change,
		.forget = on_forget,
		.touches = on_touches,
		.pipeline = 2};

	apply_free(apply);
	apply = apply_new(&config);
	apply_backend_set(apply, &backend);
}

static void end(void)
{
	apply_free(apply);
	apply = NULL;
	buf_free(&results);
	buf_free(&asked);
}

static void give(const char *user, const char *roster, struct client *client)
{
	struct roster_record record;
	struct buf line;
	const char *why;

	buf_init(&line, BUF_NO_MAX);
	buf_printf(&line, "{\"user\":\"%s\",\"status\":\"ok\",\"roster\":%s}", user, roster);
	CHECK(roster_record_parse(buf_span(&line), NULL, &record, &why));
	apply_record(apply, &record, client ? &client->client : NULL, at(0));
	buf_free(&line);
}

/* The server answers the query of a job with this roster. */
static void got(struct apply_job *job, const char *json)
{
	struct roster roster;
	struct roster_skips skips = {0};
	const struct roster_rules rules = ROSTER_RULES_INIT;
	struct buf message;

	buf_init(&message, BUF_NO_MAX);
	CHECK(roster_parse(span_of(json), &rules, &roster, &skips, &message) == ROSTER_OK);
	apply_got(job, &roster, NULL, NULL, at(0));
	roster_free(&roster);
	roster_skips_free(&skips);
	buf_free(&message);
}

static bool says(struct buf *b, const char *text)
{
	bool same = span_is(buf_span(b), text);

	if (!same)
		fprintf(stderr, "is: %s\nnot: %s\n", buf_string(b), text);
	buf_reset(b);
	return same;
}

#define OK(user, a, u, r)                                                                          \
	"{\"user\":\"" user "\",\"status\":\"ok\",\"added\":" #a ",\"updated\":" #u                \
	",\"removed\":" #r "}\n"

static void serial_and_pipelined(void)
{
	struct client first = {.name = "1"}, second = {.name = "2"}, *one = &first, *two = &second;

	begin(-1, false);
	give("a", "{\"x@h\":{},\"y@h\":{},\"z@h\":{}}", one);
	CHECK(says(&asked, "")); /* not before the server is there */
	apply_up(apply, at(0));
	give("A", "{}", two); /* the same user */
	give("b", "{}", two);
	CHECK(says(&asked, "get a@h;get b@h;"));
	got(jobs[0], "{\"x@h\":{\"name\":\"X\"},\"w@h\":{}}");
	CHECK(says(&asked, "1 x@h;0 y@h;"));
	CHECK(apply_record_of(apply, SPAN("a@h"))->roster.count == 0); /* the newer one */
	CHECK(apply_record_of(apply, SPAN("b@h"))->roster.count == 0);
	CHECK(!apply_record_of(apply, SPAN("c@h")));
	apply_changed(jobs[0], &jobs[0]->changes[0], NULL, NULL, at(0));
	CHECK(says(&asked, "0 z@h;"));
	/* removals wait until the rest has been taken */
	apply_changed(jobs[0], &jobs[0]->changes[1], NULL, NULL, at(0));
	CHECK(says(&asked, ""));
	apply_changed(jobs[0], &jobs[0]->changes[2], NULL, NULL, at(0));
	CHECK(says(&asked, "2 w@h;"));
	CHECK(says(&results, ""));
	apply_changed(jobs[0], &jobs[0]->changes[3], NULL, NULL, at(0));
	CHECK(says(&results, "1 " OK("a", 2, 1, 1)));
	CHECK(says(&asked, "get a@h;"));
	got(jobs[1], "{}");
	CHECK(says(&results, "2 " OK("b", 0, 0, 0)));
	CHECK(two->client.jobs == 1 && two->client.waiting == 0 && two->client.bytes > 0);
	apply_client_gone(apply, &two->client);
	got(jobs[2], "{}");
	CHECK(says(&results, "- " OK("A", 0, 0, 0)));
	CHECK(apply_count(apply) == 0);
	end();
}

#define LETS_THROUGH                                                                               \
	"--max-removals of roster-apply lets them through, or a record with "                      \
	"\\\"removals\\\":\\\"all\\\" (roster-fetch --allow-removals)"

/* What does not fit now is sent at the next tick; the deadline says so. */
static void owed_goes_on(void)
{
	begin(-1, false);
	apply_up(apply, at(0));
	give("a", "{\"x@h\":{},\"y@h\":{}}", NULL);
	later = true;
	got(jobs[0], "{}");
	CHECK(says(&asked, "get a@h;0 x@h;"));
	CHECK(apply_deadline(apply) == 0);
	apply_tick(apply, at(1));
	CHECK(says(&asked, "0 x@h;"));
	later = false;
	apply_tick(apply, at(2));
	CHECK(says(&asked, "0 x@h;0 y@h;"));
	CHECK(apply_deadline(apply) == 100);
	end();
}

/* If the server refuses one addition or update, nothing is removed. */
static void refused_removes_nothing(void)
{
	begin(-1, false);
	apply_up(apply, at(0));
	give("a", "{\"x@h\":{},\"y@h\":{}}", NULL);
	got(jobs[0], "{\"w@h\":{},\"v@h\":{}}");
	CHECK(says(&asked, "get a@h;0 x@h;0 y@h;"));
	apply_changed(jobs[0], &jobs[0]->changes[1], NULL, NULL, at(0));
	apply_changed(jobs[0], &jobs[0]->changes[0], "rejected", "no", at(0));
	CHECK(says(&asked, ""));
	CHECK(says(&results, "-!{\"user\":\"a\",\"status\":\"error\",\"error\":\"rejected\","
			     "\"message\":\"x@h: no\",\"added\":1,\"updated\":0,\"removed\":0,"
			     "\"withheld\":2}\n"));
	end();
}

/* --max-removals P% bounds only the removals of a roster with more than ten contacts. */
static void parts(void)
{
	struct buf server;

	buf_init(&server, BUF_NO_MAX);
	for (size_t n = 10; n <= 12; n++) {
		buf_reset(&server);
		for (size_t i = 0; i < n; i++)
			buf_printf(&server, "%s\"c%02zu@h\":{}", i ? "," : "{", i);
		buf_append_char(&server, '}');
		begin(-1, true);
		config.max_removals_percent = 50;
		renew();
		apply_up(apply, at(0));
		give("a", "{\"c00@h\":{},\"c01@h\":{},\"c02@h\":{},\"c03@h\":{},\"c04@h\":{}}",
			NULL);
		got(jobs[0], buf_string(&server));
		if (n == 10)
			CHECK(says(&results, "- " OK("a", 0, 0, 5)));
		else
			CHECK(strstr(buf_string(&results), "too-many-removals"));
		buf_reset(&results);
		/* the record allows all removals */
		give("a", "{},\"removals\":\"all\"", NULL);
		got(jobs[1], buf_string(&server));
		CHECK(!strstr(buf_string(&results), "error"));
		end();
	}
	buf_free(&server);
}

/* A key that is no contact makes the rest doubtful. */
static void foreign_withholds(void)
{
	begin(-1, false);
	apply_up(apply, at(0));
	give("a", "{\"x@h\":{},\"error\":\"down\"}", NULL);
	got(jobs[0], "{\"w@h\":{}}");
	CHECK(says(&asked, "get a@h;0 x@h;"));
	apply_changed(jobs[0], &jobs[0]->changes[0], NULL, NULL, at(0));
	CHECK(says(&results, "-!{\"user\":\"a\",\"status\":\"error\",\"error\":\"removals-"
			     "withheld\",\"message\":"
			     "\"1 missing contacts stay, because not all in the record are "
			     "contacts: 'error': no "
			     "contact\",\"added\":1,\"updated\":0,\"removed\":0,\"withheld\":1,"
			     "\"skipped\":1}\n"));
	/* nothing missing, nothing withheld */
	give("a", "{\"w@h\":{},\"error\":\"down\"}", NULL);
	got(jobs[1], "{\"w@h\":{}}");
	CHECK(says(&results, "- {\"user\":\"a\",\"status\":\"ok\",\"added\":0,\"updated\":0,"
			     "\"removed\":0,\"skipped\":1}\n"));
	end();
}

static void kept_stay(void)
{
	struct roster_keep keep;
	struct buf users;

	roster_keep_init(&keep);
	buf_init(&users, BUF_NO_MAX);
	buf_append(&users, "root\0admin", 11);
	roster_keep_add(&keep, "d.h");
	roster_keep_add_group(&keep, "Team");
	begin(-1, true);
	config.keep = &keep;
	config.skip_users = &users;
	renew();
	apply_up(apply, at(0));
	give("a", "{\"n@d.h\":{},\"t@h\":\"Tom\",\"u@h\":{\"groups\":[\"Team\"]}}", NULL);
	got(jobs[0], "{\"d.h\":{\"name\":\"D\"},\"t@h\":{\"groups\":[\"Team\"]},"
		     "\"v@h\":{\"groups\":[\"Team\",\"X\"]},\"w@h\":{\"groups\":[\"X\"]}}");
	CHECK(says(&results, "- " OK("a", 0, 0, 1)));
	buf_reset(&asked);
	give("Admin", "{}", NULL);
	CHECK(says(&asked, ""));
	CHECK(says(&results, "- {\"user\":\"Admin\",\"status\":\"ok\",\"added\":0,\"updated\":0,"
			     "\"removed\":0,\"left\":\"skip-user\"}\n"));
	end();
	roster_keep_free(&keep);
	buf_free(&users);
}

/* An open request is a difference, whatever the subscription. */
static void requests_differ(void)
{
	struct roster roster;
	struct roster_skips skips = {0};
	struct buf message;
	const struct roster_rules rules = ROSTER_RULES_INIT;

	buf_init(&message, BUF_NO_MAX);
	begin(-1, false);
	apply_up(apply, at(0));
	give("a", "{\"x@h\":{},\"y@h\":{}}", NULL);
	CHECK(roster_parse(SPAN("{\"x@h\":{},\"y@h\":{}}"), &rules, &roster, &skips, &message) ==
		ROSTER_OK);
	roster.items[0].asking = true;
	apply_got(jobs[0], &roster, NULL, NULL, at(0));
	CHECK(says(&asked, "get a@h;1 x@h;"));
	end();
	roster_free(&roster);
	buf_free(&message);
}

static void failures(void)
{
	begin(1, false);
	apply_up(apply, at(0));
	give("a", "{}", NULL);
	got(jobs[0], "{\"x@h\":{},\"y@h\":{}}");
	CHECK(says(&results,
		"-!{\"user\":\"a\",\"status\":\"error\",\"error\":\"too-many-removals\","
		"\"message\":\"2 of 2 contacts would be removed: " LETS_THROUGH
		"\",\"withheld\":2}\n"));
	give("b@c", "{}", NULL);
	CHECK(says(&results, "-!{\"user\":\"b@c\",\"status\":\"error\",\"error\":\"bad-user\","
			     "\"message\":\"not a localpart\"}\n"));
	/* a job that cannot be sent ends at once */
	refuse = "too large";
	give("a", "{\"x@h\":{},\"y@h\":{},\"z@h\":{}}", NULL);
	got(jobs[1], "{}");
	CHECK(says(&results, "-!{\"user\":\"a\",\"status\":\"error\",\"error\":\"rejected\","
			     "\"message\":\"x@h: too large\",\"added\":0,\"updated\":0,"
			     "\"removed\":0}\n"));
	refuse = NULL;
	/* the job's time ends */
	give("a", "{\"x@h\":{}}", NULL);
	CHECK(apply_deadline(apply) == 100);
	apply_tick(apply, at(99));
	CHECK(apply_count(apply) == 1);
	apply_tick(apply, at(100));
	CHECK(says(&results, "-!{\"user\":\"a\",\"status\":\"error\",\"error\":\"server-timeout\","
			     "\"message\":\"the server does not answer\"}\n"));
	/* the server goes and comes back: the job starts again */
	give("a", "{\"x@h\":{}}", NULL);
	got(jobs[jobs_count - 1], "{}");
	buf_reset(&asked);
	apply_down(apply);
	CHECK(says(&asked, ""));
	apply_up(apply, at(0));
	CHECK(says(&asked, "get a@h;"));
	got(jobs[jobs_count - 1], "{\"x@h\":{}}");
	CHECK(says(&results, "- " OK("a", 0, 0, 0)));
	give("a", "{}", NULL);
	apply_finish(apply, "connect", NULL);
	CHECK(says(&results, "-!{\"user\":\"a\",\"status\":\"error\",\"error\":\"connect\"}\n"));
	end();
}

/* Jobs wait for a job of another user that changes their rosters, too. */
static void touched_waits(void)
{
	begin(-1, false);
	apply_up(apply, at(0));
	give("a", "{}", NULL);
	got(jobs[0], "{\"b@h\":{},\"c@h\":{}}");
	touched = "b@h";
	give("b", "{}", NULL);
	give("c", "{}", NULL);
	CHECK(says(&asked, "get a@h;2 b@h;2 c@h;get c@h;"));
	touched = NULL;
	apply_changed(jobs[0], &jobs[0]->changes[0], NULL, NULL, at(0));
	CHECK(says(&asked, "get b@h;"));
	/* the job of a user whose contact drops the user waits for the contact's job, and the
	 * other way round */
	give("d", "{\"b@h\":{}}", NULL);
	CHECK(says(&asked, ""));
	got(jobs[2], "{}");
	CHECK(says(&asked, "get d@h;"));
	end();
}

#define LOST(user) "{\"user\":\"" user "\",\"status\":\"error\",\"error\":\"connect\"}\n"

/* Jobs that wait for an older one of their user keep nobody else from being served; each client has
 * a share of them. */
static void one_user_waits(void)
{
	struct client first = {.name = "1"}, second = {.name = "2"};

	begin(-1, false);
	apply_up(apply, at(0));
	give("a", "{}", &first);
	give("a", "{\"x@h\":{}}", &first);
	CHECK(!apply_full(apply, &first.client));
	give("a", "{}", &first);
	CHECK(first.client.jobs == 3 && first.client.waiting == 2);
	CHECK(apply_full(apply, &first.client) && !apply_full(apply, &second.client));
	give("b", "{}", &second);
	give("c", "{}", &second);
	CHECK(!apply_full(apply, &second.client));
	give("d", "{}", &second);
	CHECK(apply_full(apply, &second.client)); /* four users */
	CHECK(says(&asked, "get a@h;get b@h;get c@h;get d@h;"));
	got(jobs[1], "{}");
	CHECK(says(&results, "2 " OK("b", 0, 0, 0)));
	/* the first one is over: the next one of its user is read */
	got(jobs[0], "{}");
	CHECK(says(&results, "1 " OK("a", 0, 0, 0)));
	CHECK(says(&asked, "get a@h;"));
	CHECK(first.client.jobs == 2 && first.client.waiting == 1);
	CHECK(!apply_full(apply, &first.client));
	/* in their order, and one result each, also at the end */
	got(jobs[4], "{\"x@h\":{}}");
	CHECK(says(&results, "1 " OK("a", 0, 0, 0)));
	apply_client_gone(apply, &second.client);
	apply_finish(apply, "connect", NULL);
	CHECK(says(&results, "-!" LOST("c") "-!" LOST("d") "1!" LOST("a")));
	CHECK(first.client.jobs == 0 && first.client.bytes == 0 && apply_count(apply) == 0);
	end();
}

/* A user who is at odds with another waits for one job of that user, not for all of them. */
static void odds_wait_for_one(void)
{
	begin(-1, false);
	apply_up(apply, at(0));
	give("a", "{\"b@h\":{}}", NULL);
	give("a", "{\"b@h\":{},\"c@h\":{}}", NULL);
	give("b", "{}", NULL);
	CHECK(says(&asked, "get a@h;"));
	got(jobs[0], "{\"b@h\":{}}");
	CHECK(says(&asked, "get b@h;")); /* and the second one of a waits for b */
	got(jobs[1], "{}");
	CHECK(says(&asked, "get a@h;"));
	end();
}

static void dry_run_and_bounds(void)
{
	struct client client = {0};

	begin(-1, true);
	apply_up(apply, at(0));
	give("a", "{\"x@h\":{}}", NULL);
	got(jobs[0], "{\"y@h\":{}}");
	CHECK(says(&results, "- " OK("a", 1, 0, 1)));
	CHECK(says(&asked, "get a@h;"));
	give("a", "{}", NULL);
	give("b", "{}", NULL);
	give("c", "{}", NULL);
	CHECK(!apply_full(apply, &client.client));
	give("d", "{}", NULL);
	CHECK(apply_full(apply, &client.client));
	end();
	CHECK(forgotten > 0);
}

/* Skipped contacts are not removed. 20 000 of each are compared in time that is not their product.
 */
static void skipped_stay(void)
{
	const size_t many = 20000;
	struct buf skipped, server;

	buf_init(&skipped, BUF_NO_MAX);
	buf_init(&server, BUF_NO_MAX);
	buf_append_string(&skipped, "{},\"skipped\":[{\"contact\":\"no@address\",\"why\":\"\"}");
	buf_append_string(&server, "{\"x0@h\":{}");
	for (size_t i = 1; i < many; i++) {
		buf_printf(&skipped, ",{\"contact\":\"X%zu@h\",\"why\":\"\"}", 2 * i);
		buf_printf(&server, ",\"x%zu@h\":{}", i);
	}
	buf_append_char(&skipped, ']');
	buf_append_char(&server, '}');
	begin(-1, true);
	apply_up(apply, at(0));
	give("a", buf_string(&skipped), NULL);
	got(jobs[0], buf_string(&server));
	CHECK(says(&results, "- {\"user\":\"a\",\"status\":\"ok\",\"added\":0,\"updated\":0,"
			     "\"removed\":10001,\"skipped\":20000}\n"));
	end();
	buf_free(&skipped);
	buf_free(&server);
}

/* Bodies that are no rosters: error envelopes of common frameworks, HTML, other JSON, answers that
 * are cut or wrapped, and partial ones with an error beside real contacts. */
static const char *const no_rosters[] = {"{\"success\":false}", "{\"error\":\"database is down\"}",
	"{\"errors\":[{\"status\":\"500\",\"title\":\"Internal Server Error\"}]}",
	"{\"timestamp\":\"2026-11-21\",\"status\":500,\"error\":\"x\",\"path\":\"/contacts/a\"}",
	"{\"type\":\"about:blank\",\"title\":\"x\",\"status\":503,\"detail\":\"x\"}",
	"{\"message\":\"Server Error\"}", "{\"detail\":\"Not found.\"}", "{\"data\":null}",
	"{\"data\":{\"a@h\":{}}}", "{\"contacts\":{\"a@h\":{}},\"total\":1}",
	"{\"error.message\":\"x\"}", "{\"error.message\":{\"name\":\"x\",\"code\":1}}",
	"{\"error.code\":{}}", "{\"a.b\":[]}", "null", "true", "0", "\"\"", "[1]", "[\"a@h\"]",
	"[{\"jid\":\"a@h\"}]", "<html></html>", "", "{", "{\"a@h\":{}", "{\"a@h\":{}}}",
	"{\"a\":{\"name\":\"A\"}}", "{\"\":\"\"}", "{\"a@h/x\":{}}",
	"{\"user\":\"a\",\"status\":\"error\"}",
	"{\"exception\":\"x\",\"trace\":[{\"file\":\"x\",\"line\":1}]}",
	"{\"_embedded\":{\"contacts\":[]},\"_links\":{}}", "{\"odata.error\":{\"code\":\"x\"}}"};
#define NO_ROSTERS (sizeof(no_rosters) / sizeof(no_rosters[0]))

static uint32_t chance(uint32_t below)
{
	static uint32_t state = 4711;

	state = state * 1664525 + 1013904223;
	return (state >> 8) % below;
}

/* One of them, changed a little. *contacts: whether real contacts are in it. */
static void make_body(struct buf *body, bool *contacts)
{
	const char *base = no_rosters[chance(NO_ROSTERS)];

	buf_reset(body);
	*contacts = false;
	switch (chance(4)) {
	case 0: /* cut */
		buf_append(body, base, strlen(base) - chance((uint32_t)strlen(base) + 1));
		break;
	case 1: /* wrapped */
		buf_printf(body, "{\"response%u\":%s}", chance(9), *base ? base : "1");
		break;
	case 2: /* an error beside some of the contacts */
		*contacts = true;
		buf_append_string(body, "{\"c0@h\":{}");
		if (chance(2))
			buf_append_string(body, ",\"c1@h\":\"\"");
		buf_printf(body, ",\"%s\":%s}", chance(2) ? "error" : "warning.text",
			chance(2) ? "\"x\"" : "{\"message\":\"x\"}");
		break;
	default:
		buf_append_string(body, base);
	}
}

/* Whatever the body, no user loses a contact; and a body without contacts changes nothing at
 * all. */
static void nobody_loses(void)
{
	const char *server = "{\"c0@h\":{},\"c1@h\":{},\"c2@h\":{},\"c3@h\":{},\"c4@h\":{}}";
	struct roster_rules rules = ROSTER_RULES_INIT;
	struct buf body, message;
	size_t taken = 0;

	buf_init(&body, BUF_NO_MAX);
	buf_init(&message, BUF_NO_MAX);
	for (int round = 0; round < 2000; round++) {
		struct roster_record record = {.user = strdup("a"), .status = RECORD_OK};
		bool contacts;

		make_body(&body, &contacts);
		buf_reset(&message);
		/* {} and [] are rosters, and so is what remains of one of these bodies when it
		 * is cut */
		if (roster_parse(buf_span(&body), &rules, &record.roster, &record.skips,
			    &message) != ROSTER_OK ||
			span_is(buf_span(&body), "{}") || span_is(buf_span(&body), "[]") ||
			span_is(buf_span(&body), "{\"a@h\":{}}")) {
			roster_record_free(&record);
			continue;
		}
		CHECK_MSG(contacts, "taken: %s", buf_string(&body));
		taken++;
		begin(-1, false);
		apply_up(apply, at(0));
		apply_record(apply, &record, NULL, at(0));
		got(jobs[0], server);
		while (apply_count(apply) && jobs[0]->answered < jobs[0]->sent)
			apply_changed(
				jobs[0], &jobs[0]->changes[jobs[0]->answered], NULL, NULL, at(0));
		CHECK_MSG(!strstr(buf_string(&asked), "2 c"), "%s: %s", buf_string(&body),
			buf_string(&asked));
		CHECK(apply_count(apply) == 0);
		end();
	}
	CHECK(taken > 100);
	buf_free(&body);
	buf_free(&message);
}

int main(void)
{
	err_init("apply");
	err_verbosity(-2);
	TEST(serial_and_pipelined);
	TEST(owed_goes_on);
	TEST(refused_removes_nothing);
	TEST(parts);
	TEST(foreign_withholds);
	TEST(kept_stay);
	TEST(requests_differ);
	TEST(failures);
	TEST(nobody_loses);
	TEST(touched_waits);
	TEST(one_user_waits);
	TEST(odds_wait_for_one);
	TEST(dry_run_and_bounds);
	TEST(skipped_stay);
	return check_done();
}
