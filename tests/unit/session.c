/* lib/xmpp/session.c: when a subscription is asked for, and again */
#include "xmpp/session.h"

#include "check.h"
#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/reader.h"

static struct buf out;
static struct writer writer;
static struct reader *reader;
static int64_t now_ms;
static int arrivals, leaves, lives;

static struct turn turn(void)
{
	return (struct turn){&writer, now_ms};
}

static void left(void *context, struct session *s, bool link_down, struct turn *t)
{
	(void)context, (void)s, (void)link_down, (void)t;
	leaves++;
}

static void alive(void *context, struct session *s, struct turn *t)
{
	(void)context, (void)s, (void)t;
	lives++;
}

static void arrived(void *context, struct session *s, struct turn *t)
{
	(void)context, (void)s, (void)t;
	arrivals++;
}

static void changed(void *context, struct turn *t)
{
	(void)context, (void)t;
}

static struct session_table *table_of(const struct span *targets, size_t count)
{
	arrivals = leaves = lives = 0;
	buf_reset(&out);
	return session_table_new(&(struct session_config){.domain = SPAN("p"),
		.targets = targets,
		.targets_count = count,
		.max_sessions = 10,
		.confirm_ms = 30000,
		.left = left,
		.alive = alive,
		.arrived = arrived,
		.changed = changed});
}

static void presence(struct session_table *t, const char *from, const char *type)
{
	struct turn now = turn();
	struct stanza s;
	char text[256];

	snprintf(text, sizeof(text), "<presence from='%s' to='p'%s%s%s/>", from,
		*type ? " type='" : "", type, *type ? "'" : "");
	CHECK_EQ_INT(reader_one(reader, span_of(text), &s), 1);
	session_presence(t, &s, &now);
}

/* Seconds until the next subscribe, -1 if there is none in an hour and a minute. */
static int next_subscribe(struct session_table *t)
{
	int64_t begin_ms = now_ms;

	buf_reset(&out);
	while (now_ms - begin_ms < 3660000) {
		int64_t deadline_ms = session_deadline(t);
		struct turn now;

		if (deadline_ms == DEADLINE_NEVER)
			return -1;
		if (deadline_ms > now_ms)
			now_ms = deadline_ms;
		now = turn();
		session_tick(t, &now);
		if (strstr(buf_string(&out), "'subscribe'"))
			return (int)((now_ms - begin_ms) / 1000);
	}
	return -1;
}

static void ended_subscriptions(void)
{
	static const int waits_s[] = {60, 120, 240, 480, 960, 1920, 3600, 3600};
	const struct span target = SPAN("i@v");
	struct session_table *t = table_of(&target, 1);
	struct turn now = turn();

	session_up(t, &now);
	for (int i = 0; i < 8; i++) {
		presence(t, "i@v", "subscribed");
		presence(t, "i@v/a", "");
		CHECK_EQ_INT((int)session_count(t), 1);
		now_ms += 11000;
		presence(t, "i@v", "unsubscribed");
		CHECK_EQ_INT((int)session_count(t), 0);
		CHECK_EQ_INT(next_subscribe(t), waits_s[i]);
	}
	presence(t, "i@v", "subscribed");
	now_ms += 11000;
	presence(t, "i@v", "unsubscribed"); /* after eight times it gives up */
	CHECK_EQ_INT(next_subscribe(t), -1);
	now = turn();
	buf_reset(&out);
	session_resubscribe(t, &now);
	CHECK_EQ_STR(buf_string(&out), "<presence type='subscribe' to='i@v' from='p'/>\n");
	now_ms += 5000;
	presence(t, "i@v", "unsubscribed"); /* so shortly after the subscribe this is a refusal */
	CHECK_EQ_INT(next_subscribe(t), -1);
	session_table_free(t);
}

static void one_client_of_an_account(void)
{
	const struct span targets[] = {SPAN("i@v/a"), SPAN("i@v/b"), SPAN("k@v")};
	struct session_table *t = table_of(targets, 3);
	struct turn now = turn();

	session_up(t, &now);
	CHECK_EQ_STR(buf_string(&out), "<presence type='subscribe' to='i@v' from='p'/>\n"
				       "<presence type='subscribe' to='k@v' from='p'/>\n");
	presence(t, "i@v/a", "");
	presence(t, "i@v/b", "");
	presence(t, "i@v/c", "");
	presence(t, "k@v/c", "");
	CHECK_EQ_INT((int)session_count(t), 3);
	CHECK_EQ_INT(session_target(t, SPAN("i@v/b")), 1);
	CHECK_EQ_INT(session_target(t, SPAN("i@v/c")), -1);
	CHECK_EQ_INT(session_target(t, SPAN("i@v")), 0);
	CHECK_EQ_INT(session_target(t, SPAN("k@v/anything")), 2);
	presence(t, "i@v", "unavailable");
	CHECK_EQ_INT((int)session_count(t), 1);
	session_table_free(t);
}

static void doubts(void)
{
	const struct span target = SPAN("i@v");
	struct session_table *t = table_of(&target, 1);
	struct turn now = turn();

	session_up(t, &now);
	presence(t, "i@v/a", "");
	presence(t, "i@v/b", "");
	lives = 0;
	session_doubt(t, session_at(t, 0), &now);
	presence(t, "i@v/b", ""); /* the answer to our probe is no sign of life */
	CHECK_EQ_INT(lives, 0);
	presence(t, "i@v/b", "");
	CHECK_EQ_INT(lives, 1);
	now_ms += 30000;
	now = turn();
	session_tick(t, &now);
	CHECK_EQ_INT((int)session_count(t), 1);
	CHECK_EQ_INT(leaves, 1);
	session_table_free(t);
}

int main(void)
{
	err_verbosity(-8);
	buf_init(&out, BUF_NO_MAX);
	writer_init(&writer, &out, WRITER_PIPE, 0);
	reader = reader_new(&(struct reader_config){.kind = READER_PIPE});
	now_ms = 1000000;
	TEST(ended_subscriptions);
	TEST(one_client_of_an_account);
	TEST(doubts);
	reader_free(reader);
	buf_free(&out);
	return check_done();
}
