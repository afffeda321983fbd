/* Which request waits for which user: each rule of refresh.h, then a long random walk against a
 * model.
 */
#include "check.h"
#include "base/err.h"
#include "roster/refresh.h"

/* What has happened, as words: "give a", "answer 1 2/0/0", "settled a". */
struct worker {
	struct refresh *refresh;
	struct buf log;
	size_t room; /* how many names the worker takes before it says "not now" */
};

static bool on_give(void *context, struct span name)
{
	struct worker *w = context;

	if (w->room == 0)
		return false;
	w->room--;
	buf_printf(&w->log, "give %.*s\n", SPAN_ARG(name));
	return true;
}

static void on_answer(void *context, void *client, const struct refresh_result *result)
{
	struct worker *w = context;

	buf_printf(&w->log, "answer %s %zu/%zu/%zu\n", (const char *)client, result->updated,
		result->errors, result->late);
}

static void on_settled(void *context, struct span name, const char *error)
{
	struct worker *w = context;

	(void)error;
	buf_printf(&w->log, "settled %.*s\n", SPAN_ARG(name));
}

static const struct refresh_ops ops = {.give = on_give, .answer = on_answer, .settled = on_settled};

static void begin(struct worker *w, size_t max_users)
{
	buf_init(&w->log, BUF_NO_MAX);
	w->room = SIZE_MAX;
	w->refresh = refresh_new(max_users, 10000, &ops, w);
}

static void end(struct worker *w)
{
	refresh_free(w->refresh);
	buf_free(&w->log);
}

/* What happened since the last time. */
#define HAPPENED(w, want)                                                                          \
	do {                                                                                       \
		CHECK_EQ_STR(buf_string(&(w)->log), want);                                         \
		buf_reset(&(w)->log);                                                              \
	} while (0)

/* Names with a space between them. */
static bool ask(struct worker *w, const char *client, const char *names, int64_t deadline_ms)
{
	struct span list[16];
	size_t count = 0;

	while (*names) {
		size_t n = strcspn(names, " ");

		list[count++] = (struct span){names, n};
		names += n + (names[n] == ' ');
	}
	return refresh_ask(w->refresh, (void *)(uintptr_t)client, list, count, deadline_ms);
}

static bool record(struct worker *w, const char *name, bool ok)
{
	return refresh_record(w->refresh, span_of(name), ok ? NULL : "http-404", 0);
}

static void names_go_out_in_order(void)
{
	struct worker w;

	begin(&w, 10);
	CHECK(ask(&w, "1", "b a", 100));
	CHECK(ask(&w, "2", "c", 100));
	HAPPENED(&w, "");
	w.room = 1;
	refresh_pump(w.refresh);
	HAPPENED(&w, "give b\n");
	CHECK_EQ_INT(refresh_busy(w.refresh), 1);
	CHECK_EQ_INT(refresh_users(w.refresh), 3);
	refresh_pump(w.refresh);
	HAPPENED(&w, "");
	w.room = 2;
	refresh_pump(w.refresh);
	HAPPENED(&w, "give a\ngive c\n");
	end(&w);
}

static void one_answer_when_all_are_done(void)
{
	struct worker w;

	begin(&w, 10);
	CHECK(ask(&w, "1", "a b c", 100));
	refresh_pump(w.refresh);
	buf_reset(&w.log);
	CHECK(record(&w, "b", true));
	CHECK(record(&w, "c", false));
	HAPPENED(&w, "settled b\nsettled c\n");
	CHECK_EQ_INT(refresh_requests(w.refresh), 1);
	/* settled before the answer is sent: the client that gets the answer finds it done */
	CHECK(record(&w, "a", true));
	HAPPENED(&w, "settled a\nanswer 1 2/1/0\n");
	CHECK_EQ_INT(refresh_requests(w.refresh), 0);
	CHECK_EQ_INT(refresh_users(w.refresh), 0);
	CHECK_EQ_INT(refresh_deadline_ms(w.refresh), INT64_MAX);
	end(&w);
}

static void nothing_asked_is_answered_at_once(void)
{
	struct worker w;

	begin(&w, 10);
	CHECK(ask(&w, "1", "", 100));
	HAPPENED(&w, "answer 1 0/0/0\n");
	CHECK(ask(&w, NULL, "", 100));
	HAPPENED(&w, "");
	end(&w);
}

static void a_queued_user_is_not_queued_twice(void)
{
	struct worker w;

	begin(&w, 10);
	CHECK(ask(&w, "1", "a", 100));
	CHECK(ask(&w, "2", "a", 100));
	refresh_pump(w.refresh);
	HAPPENED(&w, "give a\n");
	CHECK(record(&w, "a", true));
	/* requests are answered in any order */
	CHECK(strstr(buf_string(&w.log), "answer 1 1/0/0\n") != NULL);
	CHECK(strstr(buf_string(&w.log), "answer 2 1/0/0\n") != NULL);
	CHECK(!record(&w, "a", true));
	end(&w);
}

static void asked_for_while_at_work(void)
{
	struct worker w;

	begin(&w, 10);
	CHECK(ask(&w, "1", "a", 100));
	refresh_pump(w.refresh);
	CHECK(ask(&w, "2", "a", 100));
	CHECK(ask(&w, "3", "a", 100));
	refresh_pump(w.refresh);
	HAPPENED(&w, "give a\n");
	/* the run that has begun may have missed the change: not settled, and 2 and 3 wait */
	CHECK(record(&w, "a", true));
	HAPPENED(&w, "answer 1 1/0/0\n");
	CHECK(!record(&w, "a", true));
	CHECK_EQ_INT(refresh_users(w.refresh), 1);
	refresh_pump(w.refresh);
	HAPPENED(&w, "give a\n");
	CHECK(record(&w, "a", false));
	HAPPENED(&w, "settled a\nanswer 2 0/1/0\nanswer 3 0/1/0\n");
	CHECK_EQ_INT(refresh_users(w.refresh), 0);
	end(&w);
}

static void records_of_others(void)
{
	struct worker w;

	begin(&w, 10);
	CHECK(!record(&w, "a", true));
	CHECK(!refresh_record(w.refresh, SPAN_NONE, NULL, 0));
	CHECK(ask(&w, "1", "a", 100));
	CHECK(!record(&w, "a", true)); /* asked for, but not given yet */
	CHECK(!record(&w, "b", true));
	HAPPENED(&w, "");
	end(&w);
}

static void room_is_for_users_not_for_requests(void)
{
	struct worker w;

	begin(&w, 2);
	CHECK(refresh_has_room(w.refresh, 2));
	CHECK(!refresh_has_room(w.refresh, 3));
	CHECK(!ask(&w, "0", "a b c", 100));
	CHECK_EQ_INT(refresh_users(w.refresh), 0);
	CHECK(ask(&w, "1", "a b", 100));
	CHECK(!refresh_has_room(w.refresh, 1));
	CHECK(ask(&w, "2", "b a", 100)); /* both are known */
	CHECK(!ask(&w, "3", "a c", 100));
	CHECK_EQ_INT(refresh_requests(w.refresh), 2);
	refresh_pump(w.refresh);
	CHECK(record(&w, "a", true));
	CHECK(ask(&w, "4", "c", 100));
	end(&w);
}

static void a_deadline_changes_nothing_for_the_users(void)
{
	struct worker w;

	begin(&w, 10);
	CHECK(ask(&w, "1", "a b", 100));
	CHECK(ask(&w, "2", "c", 50));
	CHECK(ask(&w, "3", "a", 70));
	CHECK_EQ_INT(refresh_deadline_ms(w.refresh), 50);
	refresh_pump(w.refresh);
	HAPPENED(&w, "give a\ngive b\ngive c\n");
	CHECK(record(&w, "b", true));
	HAPPENED(&w, "settled b\n");
	refresh_tick(w.refresh, 49);
	HAPPENED(&w, "");
	refresh_tick(w.refresh, 50);
	HAPPENED(&w, "answer 2 0/1/1\n");
	CHECK_EQ_INT(refresh_deadline_ms(w.refresh), 70);
	refresh_tick(w.refresh, 1000);
	HAPPENED(&w, "answer 3 0/1/1\nanswer 1 1/1/1\n");
	CHECK_EQ_INT(refresh_busy(w.refresh), 2);
	/* a late record answers no request, but the user is done */
	CHECK(record(&w, "a", true));
	HAPPENED(&w, "settled a\n");
	CHECK(ask(&w, "4", "c", 2000));
	CHECK(record(&w, "c", true));
	HAPPENED(&w, "");
	refresh_pump(w.refresh);
	CHECK(record(&w, "c", true));
	HAPPENED(&w, "give c\nsettled c\nanswer 4 1/0/0\n");
	end(&w);
}

static void names_are_given_to_a_second_worker_and_no_third(void)
{
	struct worker w;

	begin(&w, 10);
	w.room = 2;
	CHECK(ask(&w, "1", "a b c", 100));
	refresh_pump(w.refresh);
	HAPPENED(&w, "give a\ngive b\n");
	CHECK_EQ_INT(refresh_worker_died(w.refresh, 0), 0);
	CHECK_EQ_INT(refresh_busy(w.refresh), 0);
	HAPPENED(&w, "");
	/* those that have waited longest come first; c is at a worker for the first time */
	w.room = 3;
	refresh_pump(w.refresh);
	HAPPENED(&w, "give a\ngive b\ngive c\n");
	CHECK(record(&w, "b", true));
	HAPPENED(&w, "settled b\n");
	/* a has failed: it is not settled, a spool keeps it */
	CHECK_EQ_INT(refresh_worker_died(w.refresh, 0), 1);
	HAPPENED(&w, "");
	w.room = 1;
	refresh_pump(w.refresh);
	CHECK(record(&w, "c", true));
	HAPPENED(&w, "give c\nsettled c\nanswer 1 2/1/0\n");
	CHECK_EQ_INT(refresh_users(w.refresh), 0);
	/* a name that has failed counts as new when it is asked for again */
	w.room = SIZE_MAX;
	CHECK(ask(&w, "2", "a", 100));
	refresh_pump(w.refresh);
	CHECK_EQ_INT(refresh_worker_died(w.refresh, 0), 0);
	end(&w);
}

static void a_worker_dies_while_more_is_asked(void)
{
	struct worker w;

	begin(&w, 10);
	CHECK(ask(&w, "1", "a", 100));
	refresh_pump(w.refresh);
	CHECK(ask(&w, "2", "a", 100));
	CHECK_EQ_INT(refresh_worker_died(w.refresh, 0), 0);
	buf_reset(&w.log);
	/* the next run begins after both were asked: it serves both */
	refresh_pump(w.refresh);
	HAPPENED(&w, "give a\n");
	CHECK(ask(&w, "3", "a", 100));
	CHECK_EQ_INT(refresh_worker_died(w.refresh, 0), 1);
	CHECK(strstr(buf_string(&w.log), "answer 1 0/1/0\n") != NULL);
	CHECK(strstr(buf_string(&w.log), "answer 2 0/1/0\n") != NULL);
	buf_reset(&w.log);
	/* request 3 came after the second worker had begun, and is answered by the third */
	refresh_pump(w.refresh);
	CHECK(record(&w, "a", true));
	HAPPENED(&w, "give a\nsettled a\nanswer 3 1/0/0\n");
	end(&w);
}

static void who_only_takes_names_is_done_with_them(void)
{
	struct worker w;

	begin(&w, 10);
	CHECK(ask(&w, "1", "a b", 100));
	refresh_pump(w.refresh);
	CHECK(ask(&w, "2", "b", 100));
	buf_reset(&w.log);
	refresh_all_done(w.refresh);
	HAPPENED(&w, "settled a\nanswer 1 2/0/0\n");
	refresh_all_done(w.refresh);
	HAPPENED(&w, "");
	refresh_pump(w.refresh);
	refresh_all_done(w.refresh);
	HAPPENED(&w, "give b\nsettled b\nanswer 2 1/0/0\n");
	end(&w);
}

static void at_the_end_all_are_answered(void)
{
	struct worker w;

	begin(&w, 10);
	CHECK(ask(&w, "1", "a b", 200));
	CHECK(ask(&w, "2", "c", 100));
	refresh_pump(w.refresh);
	CHECK(record(&w, "a", true));
	buf_reset(&w.log);
	refresh_finish(w.refresh);
	HAPPENED(&w, "answer 2 0/1/1\nanswer 1 1/1/1\n");
	CHECK_EQ_INT(refresh_requests(w.refresh), 0);
	CHECK_EQ_INT(refresh_users(w.refresh), 2);
	end(&w);
}

static bool keep_all(void *context, struct span name)
{
	(void)context;
	(void)name;
	return true;
}

/* A user whose failure may pass is tried again after 1 s, 2 s, ..., behind new users, until it
 * is given up. */
static void failures_that_pass(void)
{
	struct worker w;
	struct refresh_ops keeping = ops;

	keeping.keeps = keep_all;
	buf_init(&w.log, BUF_NO_MAX);
	w.room = SIZE_MAX;
	w.refresh = refresh_new(10, 10000, &keeping, &w);
	CHECK(ask(&w, "1", "a b c", 60000));
	refresh_pump(w.refresh);
	CHECK(refresh_record(w.refresh, SPAN("a"), "http-503", 1000));
	CHECK(refresh_record(w.refresh, SPAN("b"), "http-404", 1000));
	CHECK(refresh_record(w.refresh, SPAN("c"), "connect", 1000));
	/* only b has failed for good */
	HAPPENED(&w, "give a\ngive b\ngive c\nsettled b\nanswer 1 0/3/0\n");
	CHECK_EQ_INT(refresh_users(w.refresh), 2);
	CHECK_EQ_INT(refresh_deadline_ms(w.refresh), 2000);
	refresh_tick(w.refresh, 1999);
	refresh_pump(w.refresh);
	HAPPENED(&w, "");
	refresh_tick(w.refresh, 2000);
	CHECK(ask(&w, "2", "d", 60000));
	refresh_pump(w.refresh);
	HAPPENED(&w, "give d\ngive a\ngive c\n");
	CHECK(refresh_record(w.refresh, SPAN("a"), NULL, 2000));
	CHECK(refresh_record(w.refresh, SPAN("c"), "timeout", 2000));
	HAPPENED(&w, "settled a\n");
	CHECK_EQ_INT(refresh_deadline_ms(w.refresh), 4000);
	/* a name that is asked for again begins anew */
	CHECK(ask(&w, "3", "c", 60000));
	refresh_pump(w.refresh);
	HAPPENED(&w, "give c\n");
	CHECK(refresh_record(w.refresh, SPAN("c"), "server-timeout", 10999));
	HAPPENED(&w, "answer 3 0/1/0\n");
	refresh_tick(w.refresh, 15000);
	refresh_pump(w.refresh);
	CHECK(refresh_record(w.refresh, SPAN("c"), "http-500", 15000));
	HAPPENED(&w, "give c\nsettled c\n"); /* it has been tried for more than 10 s */
	CHECK_EQ_INT(refresh_users(w.refresh), 1);
	CHECK(refresh_passes("http-599") && refresh_passes("http-408") &&
		refresh_passes("http-429"));
	CHECK(!refresh_passes("http-404") && !refresh_passes("rejected") &&
		!refresh_passes("too-many-removals") && !refresh_passes("not-json"));
	end(&w);
}

/* A request for many names waits for each: that has a bound, too. */
static void waits_have_a_bound(void)
{
	struct worker w;

	begin(&w, 2);
	for (int i = 0; i < 4; i++)
		CHECK(ask(&w, "1", "a b", 100));
	CHECK(!refresh_has_room(w.refresh, 1));
	CHECK(!ask(&w, "1", "a", 100));
	CHECK(ask(&w, NULL, "a", 100));
	refresh_pump(w.refresh);
	record(&w, "a", true);
	CHECK(ask(&w, "1", "a", 100));
	end(&w);
}

static void names_of_a_host(void)
{
	static const struct {
		const char *name, *local;
	} cases[] = {{"john@example.org", "john"}, {"john@EXAMPLE.org.", "john"}, {"john", "john"},
		{"john@example.com", NULL}, {"a@b@example.org", NULL}, {"@example.org", NULL},
		{"john@", NULL}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct span name = span_of(cases[i].name);
		bool ok = refresh_name_local(&name, "example.org");

		CHECK_MSG(ok == (cases[i].local != NULL), "%s", cases[i].name);
		CHECK(!ok || span_is(name, cases[i].local));
	}
	struct span any = SPAN("john@example.com");
	CHECK(refresh_name_local(&any, NULL) && span_is(any, "john@example.com"));
}

static void nobody_waits(void)
{
	struct worker w;

	begin(&w, 10);
	CHECK(ask(&w, NULL, "a b", INT64_MAX));
	CHECK_EQ_INT(refresh_requests(w.refresh), 0);
	refresh_pump(w.refresh);
	CHECK(record(&w, "a", true));
	HAPPENED(&w, "give a\ngive b\nsettled a\n");
	end(&w);
}

/* A random walk ---------------------------------------------------------------------- */

#define USERS 6
#define CLIENTS 4000

struct client {
	size_t count, answers;
};

struct walk {
	struct refresh *refresh;
	struct client clients[CLIENTS];
	bool at_worker[USERS];
	size_t open, wrong;
	unsigned long long state;
};

static size_t below(struct walk *w, size_t n)
{
	w->state = w->state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (size_t)(w->state >> 33) % n;
}

static bool walk_give(void *context, struct span name)
{
	struct walk *w = context;
	int user = *name.p - 'a';

	if (below(w, 3) == 0)
		return false;
	w->wrong += w->at_worker[user]; /* at most once */
	w->at_worker[user] = true;
	return true;
}

static void walk_answer(void *context, void *client, const struct refresh_result *result)
{
	struct walk *w = context;
	struct client *c = client;

	w->open--;
	w->wrong += c->answers++ != 0; /* exactly once */
	w->wrong += result->updated + result->errors != c->count;
	w->wrong += result->late > result->errors;
}

static void walk_settled(void *context, struct span name, const char *error)
{
	struct walk *w = context;

	(void)error;
	w->wrong += w->at_worker[*name.p - 'a']; /* its record has come */
}

static void walk_ask(struct walk *w, struct client *c, int64_t now_ms)
{
	static const char letters[] = "abcdef";
	struct span names[USERS];
	bool waits = below(w, 5) != 0;

	c->count = 0;
	for (size_t i = 0; i < USERS; i++)
		if (below(w, 3) == 0)
			names[c->count++] = (struct span){letters + i, 1};
	w->open += waits;
	if (!refresh_ask(
		    w->refresh, waits ? c : NULL, names, c->count, now_ms + (int64_t)below(w, 50)))
		w->open -= waits;
}

static void walk_record(struct walk *w)
{
	size_t user = below(w, USERS);
	char name = (char)('a' + (int)user);
	bool was = w->at_worker[user];

	w->at_worker[user] = false;
	w->wrong += refresh_record(w->refresh, (struct span){&name, 1},
			    below(w, 2) ? NULL : "http-404", 0) != was;
}

static void a_random_walk(void)
{
	static const struct refresh_ops walk_ops = {
		.give = walk_give, .answer = walk_answer, .settled = walk_settled};
	static struct walk w;
	size_t next = 0;
	int64_t now_ms = 0;

	w = (struct walk){.state = 42};
	w.refresh = refresh_new(USERS - 1, 10000, &walk_ops, &w);
	while (next < CLIENTS) {
		size_t busy = 0;

		switch (below(&w, 8)) {
		case 0:
		case 1:
			walk_ask(&w, &w.clients[next++], now_ms);
			break;
		case 2:
			refresh_tick(w.refresh, ++now_ms);
			w.wrong += refresh_deadline_ms(w.refresh) <= now_ms;
			break;
		case 3:
			if (below(&w, 10) == 0) {
				memset(w.at_worker, 0, sizeof(w.at_worker));
				refresh_worker_died(w.refresh, 0);
			}
			break;
		case 4:
			refresh_pump(w.refresh);
			break;
		default:
			walk_record(&w);
		}
		for (size_t i = 0; i < USERS; i++)
			busy += w.at_worker[i];
		w.wrong += busy != refresh_busy(w.refresh);
		w.wrong += w.open != refresh_requests(w.refresh);
		w.wrong += refresh_users(w.refresh) > USERS - 1;
		CHECK_EQ_INT(w.wrong, 0);
		if (w.wrong)
			break;
	}
	/* A worker that answers ends all requests, whatever came before. */
	for (int i = 0; i < 1000 && refresh_users(w.refresh); i++) {
		refresh_pump(w.refresh);
		memset(w.at_worker, 0, sizeof(w.at_worker));
		refresh_all_done(w.refresh);
	}
	CHECK_EQ_INT(refresh_users(w.refresh), 0);
	CHECK_EQ_INT(refresh_requests(w.refresh), 0);
	CHECK_EQ_INT(w.open, 0);
	refresh_free(w.refresh);
}

/* Names and lines -------------------------------------------------------------------- */

static void bodies(void)
{
	static const struct {
		const char *body, *names, *why;
	} cases[] = {
		{"[]", "", NULL},
		{"[\"b\",\"a\"]", "b a ", NULL},
		{"[\"b\",\"a\",\"b\",\"c\",\"a\"]", "b a c ", NULL},
		{" [ \"J\\u00f6rg\" ] ", "J\xc3\xb6rg ", NULL},
		{"[\"A\",\"a\"]", "A a ", NULL},
		{"", NULL, "the body is not JSON"},
		{"[\"a\"", NULL, "the body is not JSON"},
		{"[\"a\"]x", NULL, "the body is not JSON"},
		{"[[[[[\"a\"]]]]]", NULL, "the body is not JSON"},
		{"{\"a\":1}", NULL, "the body is not an array of user names"},
		{"\"a\"", NULL, "the body is not an array of user names"},
		{"null", NULL, "the body is not an array of user names"},
		{"[1]", NULL, "not every element is a user name"},
		{"[\"a\",null]", NULL, "not every element is a user name"},
		{"[[\"a\"]]", NULL, "not every element is a user name"},
		{"[\"\"]", NULL, "not every element is a user name"},
		{"[\"a\\nb\"]", NULL, "not every element is a user name"},
		{"\xef\xbb\xbf[\"a\"]", "a ", NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct refresh_names names;
		struct buf text;
		const char *why = NULL;
		bool ok = refresh_names_parse(span_of(cases[i].body), 100, NULL, &names, &why);

		buf_init(&text, BUF_NO_MAX);
		CHECK_MSG(ok == (cases[i].names != NULL), "%s", cases[i].body);
		for (size_t j = 0; ok && j < names.count; j++)
			buf_printf(&text, "%.*s ", SPAN_ARG(names.list[j]));
		if (ok)
			CHECK_EQ_STR(buf_string(&text), cases[i].names);
		else
			CHECK_EQ_STR(why, cases[i].why);
		refresh_names_free(&names);
		refresh_names_free(&names); /* harmless */
		buf_free(&text);
	}
}

static void lines(void)
{
	static const struct {
		const char *line, *user;
		enum refresh_line kind;
		bool ok;
	} cases[] = {
		{"{\"user\":\"a\",\"status\":\"ok\",\"added\":1}", "a", REFRESH_RECORD, true},
		{"{\"status\":\"unchanged\",\"user\":\"a\",\"roster\":{}}", "a", REFRESH_RECORD,
			true},
		{"{\"user\":\"a\",\"status\":\"error\",\"error\":\"http-404\"}", "a",
			REFRESH_RECORD, false},
		{"{\"user\":\"a\",\"status\":\"OK\"}", "a", REFRESH_RECORD, false},
		{"{\"user\":\"\",\"status\":\"ok\"}", "", REFRESH_RECORD, true},
		{"{\"event\":\"login\",\"user\":\"a\"}", "a", REFRESH_LOGIN, false},
		{"{\"event\":\"login\"}", "", REFRESH_OTHER, false},
		{"{\"event\":\"logout\",\"user\":\"a\"}", "", REFRESH_OTHER, false},
		/* a record is a record, whatever else it says */
		{"{\"event\":\"login\",\"user\":\"a\",\"status\":\"ok\"}", "a", REFRESH_RECORD,
			true},
		{"{\"user\":1,\"status\":\"ok\"}", "", REFRESH_BAD, false},
		{"{\"user\":\"a\",\"status\":true}", "", REFRESH_BAD, false},
		{"{\"user\":\"a\"}", "", REFRESH_BAD, false},
		{"{\"event\":{}}", "", REFRESH_BAD, false},
		{"[\"user\"]", "", REFRESH_BAD, false},
		{"a", "", REFRESH_BAD, false},
		{"", "", REFRESH_BAD, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct refresh_worker_line said;
		enum refresh_line kind;

		refresh_worker_line_init(&said);
		kind = refresh_line_parse(span_of(cases[i].line), &said);
		CHECK_EQ_INT(kind, cases[i].kind);
		CHECK_EQ_STR(buf_string(&said.user), cases[i].user);
		CHECK_MSG((kind == REFRESH_RECORD && refresh_worker_line_ok(&said)) == cases[i].ok,
			"%s", cases[i].line);
		refresh_worker_line_free(&said);
	}
}

int main(void)
{
	TEST(names_go_out_in_order);
	TEST(one_answer_when_all_are_done);
	TEST(nothing_asked_is_answered_at_once);
	TEST(a_queued_user_is_not_queued_twice);
	TEST(asked_for_while_at_work);
	TEST(records_of_others);
	TEST(room_is_for_users_not_for_requests);
	TEST(a_deadline_changes_nothing_for_the_users);
	TEST(names_are_given_to_a_second_worker_and_no_third);
	TEST(a_worker_dies_while_more_is_asked);
	TEST(who_only_takes_names_is_done_with_them);
	TEST(at_the_end_all_are_answered);
	TEST(failures_that_pass);
	TEST(waits_have_a_bound);
	TEST(names_of_a_host);
	TEST(nobody_waits);
	TEST(a_random_walk);
	TEST(bodies);
	TEST(lines);
	return check_done();
}
