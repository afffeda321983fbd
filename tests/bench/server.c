/*
 * server: the XMPP server of the benchmarks.
 *
 * One epoll loop that listens on 127.0.0.1, takes XEP-0114 components and plays
 * everybody behind the server: the users who ask and the clients or managing
 * entities who answer. It starts the program under test itself, so that it can
 * read that program's CPU clock at the two ends of the measured window:
 *
 *     server --scenario jat --mode closed -- xmpp-jat-proxy --connect 127.0.0.1:{port} ...
 *
 * `{port}` in an argument becomes the listening port. A second command may follow
 * after `++` (scenario chain). Without a command it prints "port N" and waits for
 * components started by somebody else; `--pid` then names the process to measure.
 *
 * Every stanza that comes back is checked (right peer, id, type, payload byte for
 * byte, once); a wrong one is printed and ends the run with status 1. The checks
 * are comparisons against what was sent, not a parser: they cost a fraction of
 * what any program under test spends on the same stanza, and the line of results
 * says how much (server_us).
 *
 * With --echo the peer is the yardstick (relay): what is sent comes back unchanged
 * and the same bytes make the same number of legs. The loop, the checks and the
 * clock are the same.
 */
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "wire.h"

enum {
	READ_BYTES = 256 * 1024,
	USER_LEN = 32,
	SLOTS_MAX = 65536,
	CONNS_MAX = 2,
	PEERS_MAX = 99,
	STALL_MS = 20000,
};

/* as long as the sealed token of a USER_LEN JID */
#define FAKE_TOKEN "aBCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_abcd"
#define FAKE_ID "AAAABBBBCCCCDDDDEEEEFF"

#define D2 "urn:xmpp:delegation:2"
#define WRAP                                                                                       \
	"<delegation xmlns='" D2 "'><forwarded xmlns='urn:xmpp:forward:0'><iq "                    \
	"xmlns='jabber:client'"
#define UNWRAP "</iq></forwarded></delegation></iq>"

struct conn {
	int fd;
	bool opened, shaken, closed, blocked;
	struct span domain;
	struct buf in, out;
};

enum leg { IDLE, ASKED, ANSWERED };

struct slot {
	uint32_t generation;
	uint32_t user;
	enum leg leg;
	uint64_t sent_ns;
	char *held; /* mode hold: the answer that waits */
	size_t held_bytes;
};

struct bench;

struct scenario {
	const char *name;
	const char *domains[CONNS_MAX];
	unsigned legs;	 /* stanzas the program takes in per round trip */
	unsigned awaits; /* setup steps to see before the load starts */
	void (*joined)(struct bench *b, struct conn *c);
	void (*ask)(struct bench *b, struct slot *s, struct buf *out);
	void (*answer)(
		struct bench *b, struct slot *s, struct buf *out); /* what --echo sends second */
	/* returns bytes taken; 0: more bytes needed; -1: not a stanza of the load */
	ssize_t (*on_iq)(struct bench *b, struct conn *c, const struct tag *t, const char *body,
		const char *p, const char *end);
	/* takes any other whole stanza; false: it was not expected */
	bool (*on_other)(struct bench *b, struct conn *c, const struct tag *t, struct span whole);
};

enum mode { CLOSED, OPEN, HOLD };

struct bench {
	const struct scenario *scenario;
	enum mode mode;
	bool echo;
	unsigned outstanding, requesters, peers, rate;
	uint64_t round_trips, warmup;
	const char *secret;
	int epoll_fd, listen_fd, timer_fd;
	unsigned port;

	struct conn conns[CONNS_MAX];
	unsigned n_conns, seen; /* seen: setup steps */
	bool running, finished;
	struct slot *slots;
	uint32_t *idle; /* open loop: stack of unused slots */
	unsigned n_idle;
	struct buf scratch;
	uint32_t next_user;
	uint64_t started, done, held;
	uint64_t begin_ns, end_ns, begin_cpu_ns, end_cpu_ns;
	uint32_t *latency_ns;
	uint64_t n_latency;

	struct child children[CONNS_MAX];
	unsigned n_children, n_started;
};

static struct bench *the_bench; /* for die() */

static void children_kill(void)
{
	for (unsigned i = 0; i < the_bench->n_started; i++)
		if (!the_bench->children[i].reaped && the_bench->children[i].argv)
			kill(the_bench->children[i].pid, SIGKILL);
}

/* ---- slots: one open request each ---- */

/* The slot of an id, NULL unless it is the id of the request open there. */
static struct slot *slot_find(struct bench *b, struct span id)
{
	uint32_t n, g;

	if (!id_read(id, &n, &g) || n >= b->outstanding || b->slots[n].generation != g ||
		b->slots[n].leg == IDLE)
		return NULL;
	return &b->slots[n];
}

static void user_jid(uint32_t user, char jid[USER_LEN])
{
	memcpy(jid, "user00000@vhost.test/phone.00000", USER_LEN);
	for (int i = 0; i < 5; i++, user /= 10) {
		jid[8 - i] = (char)('0' + user % 10);
		jid[31 - i] = jid[8 - i];
	}
}

static bool is_user(const struct slot *s, struct span jid)
{
	char want[USER_LEN];

	user_jid(s->user, want);
	return span_is(jid, want, USER_LEN);
}

static void put_id(const struct bench *b, const struct slot *s, struct buf *out)
{
	char id[ID_LEN];

	id_write(id, (uint32_t)(s - b->slots), s->generation);
	put(out, id, ID_LEN);
}

static void put_user(const struct slot *s, struct buf *out)
{
	char jid[USER_LEN];

	user_jid(s->user, jid);
	put(out, jid, USER_LEN);
}

/* ---- the load ---- */

static void window_begin(struct bench *b)
{
	for (unsigned i = 0; i < b->n_children; i++)
		child_window_begin(&b->children[i]);
	b->begin_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	b->begin_ns = clock_ns(CLOCK_MONOTONIC);
}

static void window_end(struct bench *b)
{
	b->end_ns = clock_ns(CLOCK_MONOTONIC);
	b->end_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	for (unsigned i = 0; i < b->n_children; i++)
		child_window_end(&b->children[i]);
}

static void slot_ask(struct bench *b, struct slot *s)
{
	s->generation++;
	s->user = b->next_user++;
	if (b->next_user == b->requesters)
		b->next_user = 0;
	s->leg = ASKED;
	if (b->mode == OPEN)
		s->sent_ns = clock_ns(CLOCK_MONOTONIC);
	b->started++;
	b->scenario->ask(b, s, &b->conns[0].out);
}

/* The answer has come back to the user and was right. */
static void slot_done(struct bench *b, struct slot *s)
{
	s->leg = IDLE;
	b->done++;
	if (b->mode == OPEN && b->done > b->warmup)
		b->latency_ns[b->n_latency++] = (uint32_t)(clock_ns(CLOCK_MONOTONIC) - s->sent_ns);
	if (b->done == b->warmup)
		window_begin(b);
	if (b->done == b->warmup + b->round_trips) {
		window_end(b);
		b->finished = true;
	}
	if (b->mode == CLOSED && b->started < b->warmup + b->round_trips)
		slot_ask(b, s);
	else if (b->mode == OPEN)
		b->idle[b->n_idle++] = (uint32_t)(s - b->slots);
}

static void load_start(struct bench *b)
{
	b->running = true;
	if (b->warmup == 0)
		window_begin(b);
	if (b->mode == OPEN) {
		struct itimerspec every = {.it_value = {.tv_nsec = 1000000}};

		for (unsigned i = 0; i < b->outstanding; i++)
			b->idle[b->n_idle++] = i;
		every.it_interval.tv_nsec = 1000000000L / (long)b->rate;
		timerfd_settime(b->timer_fd, 0, &every, NULL);
		return;
	}
	for (unsigned i = 0; i < b->outstanding && b->started < b->warmup + b->round_trips; i++)
		slot_ask(b, &b->slots[i]);
}

static void load_tick(struct bench *b)
{
	uint64_t due;

	if (read(b->timer_fd, &due, sizeof due) != sizeof due)
		return;
	while (due-- > 0 && b->started < b->warmup + b->round_trips) {
		if (b->n_idle == 0)
			die("more than %u requests open at %u a second: the program does not keep "
			    "up",
				b->outstanding, b->rate);
		slot_ask(b, &b->slots[b->idle[--b->n_idle]]);
	}
}

/* A setup step was seen; after the last one (of all connections) the load starts. */
static void setup_step(struct bench *b)
{
	if (++b->seen >= b->scenario->awaits && !b->running)
		load_start(b);
}

/* The answer rendered at the end of `out` from `mark` on leaves now, or in mode
 * hold when all requests are there. */
static void answer_or_hold(struct bench *b, struct slot *s, struct buf *out, size_t mark)
{
	s->leg = ANSWERED;
	if (b->mode != HOLD)
		return;
	s->held_bytes = out->n - mark;
	s->held = malloc(s->held_bytes);
	if (!s->held)
		die("out of memory");
	memcpy(s->held, out->p + mark, s->held_bytes);
	out->n = mark;
	if (++b->held < b->round_trips)
		return;
	for (unsigned i = 0; i < b->outstanding; i++) {
		put(out, b->slots[i].held, b->slots[i].held_bytes);
		free(b->slots[i].held);
		b->slots[i].held = NULL;
	}
}

/* ---- scenario jat: users, and implementing clients impl@vhost.test/rN ---- */

static void jat_ask(struct bench *b, struct slot *s, struct buf *out)
{
	put(out, LIT("<iq type='get' id='"));
	put_id(b, s, out);
	put(out, LIT("' from='"));
	put_user(s, out);
	put(out, LIT("' to='proxy.test' xml:lang='en'>"));
	put(out, LIT(REQUEST));
	put(out, LIT("</iq>"));
}

static void jat_render_answer(
	struct bench *b, struct slot *s, struct buf *out, struct span from, struct span to)
{
	put(out, LIT("<iq type='result' id='"));
	put_id(b, s, out);
	put(out, LIT("' from='"));
	put_span(out, from);
	put(out, LIT("' to='"));
	put_span(out, to);
	put(out, LIT("' xml:lang='en'>"));
	put(out, LIT(ANSWER));
	put(out, LIT("</iq>"));
}

static void jat_answer(struct bench *b, struct slot *s, struct buf *out)
{
	jat_render_answer(b, s, out, (struct span){LIT("impl@vhost.test/r1")},
		(struct span){LIT("proxy.test/" FAKE_TOKEN)});
}

static ssize_t jat_on_iq(struct bench *b, struct conn *c, const struct tag *t, const char *body,
	const char *p, const char *end)
{
	struct slot *s = slot_find(b, t->id);
	ssize_t n;

	if (!s)
		return -1;
	if (s->leg == ASKED) {
		size_t mark;

		if (!span_is(t->type, LIT("get")) ||
			!span_starts(t->to, LIT("impl@vhost.test/r")) ||
			!span_starts(t->from, LIT("proxy.test/")))
			return -1;
		n = expect(body, end, LIT(REQUEST "</iq>"));
		if (n <= 0)
			return n;
		/* reserve first: out may move, and the spans point into c->in */
		buf_reserve(&c->out, 2048);
		mark = c->out.n;
		jat_render_answer(b, s, &c->out, t->to, t->from);
		answer_or_hold(b, s, &c->out, mark);
	} else {
		if (!span_is(t->type, LIT("result")) || !span_is(t->from, LIT("proxy.test")) ||
			!is_user(s, t->to))
			return -1;
		n = expect(body, end, LIT(ANSWER "</iq>"));
		if (n <= 0)
			return n;
		slot_done(b, s);
	}
	return body + n - p;
}

static void jat_available(struct bench *b, struct conn *c)
{
	for (unsigned i = 1; i <= b->peers; i++) {
		char line[128];
		int n = snprintf(line, sizeof line,
			"<presence from='impl@vhost.test/r%u' to='proxy.test'/>", i);

		put(&c->out, line, (size_t)n);
	}
}

static bool jat_on_other(struct bench *b, struct conn *c, const struct tag *t, struct span whole)
{
	(void)whole;
	if (!span_is(t->name, LIT("presence")) || !span_is(t->to, LIT("impl@vhost.test")))
		return false;
	if (span_is(t->type, LIT("subscribe"))) {
		put(&c->out, LIT("<presence type='subscribed' from='impl@vhost.test' "
				 "to='proxy.test'/>"));
		jat_available(b, c);
		setup_step(b);
	} else if (span_is(t->type, LIT("probe"))) {
		jat_available(b, c);
	}
	return true;
}

/* ---- scenario delegate: users, and the managing entity deleg.test ---- */

static void delegate_ask(struct bench *b, struct slot *s, struct buf *out)
{
	put(out, LIT("<iq type='get' id='"));
	put_id(b, s, out);
	put(out, LIT("' from='"));
	put_user(s, out);
	put(out, LIT("' to='host.test' xml:lang='en'>"));
	put(out, LIT(REQUEST));
	put(out, LIT("</iq>"));
}

static void delegate_render_answer(struct bench *b, struct slot *s, struct buf *out, struct span id)
{
	put(out, LIT("<iq type='result' id='"));
	put_span(out, id);
	put(out, LIT("' from='deleg.test' to='host.test'>" WRAP " type='result' id='"));
	put_id(b, s, out);
	put(out, LIT("' from='host.test' to='"));
	put_user(s, out);
	put(out, LIT("'>"));
	put(out, LIT(ANSWER UNWRAP));
}

static void delegate_answer(struct bench *b, struct slot *s, struct buf *out)
{
	delegate_render_answer(b, s, out, (struct span){LIT(FAKE_ID)});
}

/* The inner iq of an envelope whose root tag ends at `body`. 1: read, *inner filled
 * and *at after its tag; 0: more bytes needed; -1: not an envelope. */
static int envelope_open(const char *body, const char *end, struct tag *inner, const char **at)
{
	static const char *const names[] = {"delegation", "forwarded", "iq"};

	for (int i = 0; i < 3; i++) {
		if (body == end)
			return 0;
		if (*body != '<')
			return -1;
		body = tag_read(body, end, inner);
		if (!body)
			return 0;
		if (inner->empty || !span_is(inner->name, names[i], strlen(names[i])))
			return -1;
	}
	*at = body;
	return 1;
}

static ssize_t delegate_on_iq(struct bench *b, struct conn *c, const struct tag *t,
	const char *body, const char *p, const char *end)
{
	struct slot *s;
	ssize_t n;

	if (span_is(t->type, LIT("set")) && span_is(t->to, LIT("deleg.test"))) {
		struct tag inner;
		const char *at;
		size_t mark;
		int got = envelope_open(body, end, &inner, &at);

		if (got <= 0)
			return got;
		s = slot_find(b, inner.id);
		if (!s || s->leg != ASKED || !span_is(inner.type, LIT("get")) ||
			!is_user(s, inner.from) || !span_is(inner.to, LIT("host.test")) ||
			!span_is(t->from, LIT("host.test")))
			return -1;
		n = expect(at, end, LIT(REQUEST UNWRAP));
		if (n <= 0)
			return n;
		mark = c->out.n;
		buf_reserve(&c->out, 2048);
		mark = c->out.n;
		delegate_render_answer(b, s, &c->out, t->id);
		answer_or_hold(b, s, &c->out, mark);
		return at + n - p;
	}
	s = slot_find(b, t->id);
	if (!s || s->leg != ANSWERED || !span_is(t->type, LIT("result")) ||
		!span_is(t->from, LIT("host.test")) || !is_user(s, t->to))
		return -1;
	n = expect(body, end, LIT(ANSWER "</iq>"));
	if (n <= 0)
		return n;
	slot_done(b, s);
	return body + n - p;
}

static bool delegate_on_other(
	struct bench *b, struct conn *c, const struct tag *t, struct span whole)
{
	struct tag query;
	const char *at;

	if (span_is(t->name, LIT("message")))
		return true;
	if (!span_is(t->name, LIT("iq")) || !span_is(t->type, LIT("get")) ||
		!span_is(t->to, LIT("deleg.test")))
		return false;
	at = memchr(whole.p + 1, '<', whole.n - 1);
	if (!at || !tag_read(at, whole.p + whole.n, &query) ||
		!span_starts(query.node, LIT(D2 ":")))
		return false;
	put(&c->out, LIT("<iq type='result' id='"));
	put_span(&c->out, t->id);
	put(&c->out, LIT("' from='deleg.test' to='"));
	put_span(&c->out, t->from);
	put(&c->out, LIT("'><query xmlns='http://jabber.org/protocol/disco#info' node='"));
	put_span(&c->out, query.node);
	put(&c->out, LIT("'><feature var='urn:example:bench'/></query></iq>"));
	setup_step(b);
	return true;
}

/* ---- scenario manage: the delegating host vhost.test and its users ---- */

static void manage_joined(struct bench *b, struct conn *c)
{
	(void)b;
	put(&c->out,
		LIT("<iq from='vhost.test' id='disco-host' to='deleg.test' type='get'><query "
		    "node='" D2
		    "::urn:example:bench' xmlns='http://jabber.org/protocol/disco#info'/></iq>"
		    "<iq from='vhost.test' id='disco-bare' to='deleg.test' type='get'><query "
		    "node='" D2
		    ":bare:urn:example:bench' xmlns='http://jabber.org/protocol/disco#info'/></iq>"
		    "<message from='vhost.test' to='deleg.test'><delegation xmlns='" D2
		    "'><delegated namespace='urn:example:bench'/></delegation></message>"));
}

static void manage_ask(struct bench *b, struct slot *s, struct buf *out)
{
	put(out, LIT("<iq from='vhost.test' id='"));
	put_id(b, s, out);
	put(out, LIT("' to='deleg.test' type='set'>" WRAP " xml:lang='en' type='get' id='"));
	put_id(b, s, out);
	put(out, LIT("' to='vhost.test' from='"));
	put_user(s, out);
	put(out, LIT("'>"));
	put(out, LIT(REQUEST UNWRAP));
}

/* The handler echoes the payload. */
static ssize_t manage_on_iq(struct bench *b, struct conn *c, const struct tag *t, const char *body,
	const char *p, const char *end)
{
	struct slot *s = slot_find(b, t->id);
	struct tag inner;
	const char *at;
	ssize_t n;
	int got;

	(void)c;
	if (!s || !span_is(t->type, LIT("result")) || !span_is(t->from, LIT("deleg.test")) ||
		!span_is(t->to, LIT("vhost.test")))
		return -1;
	got = envelope_open(body, end, &inner, &at);
	if (got <= 0)
		return got;
	if (slot_find(b, inner.id) != s || !span_is(inner.type, LIT("result")) ||
		!is_user(s, inner.to) || !span_is(inner.from, LIT("vhost.test")))
		return -1;
	n = expect(at, end, LIT(REQUEST UNWRAP));
	if (n <= 0)
		return n;
	slot_done(b, s);
	return at + n - p;
}

static bool manage_on_other(struct bench *b, struct conn *c, const struct tag *t, struct span whole)
{
	(void)c;
	(void)whole;
	if (!span_is(t->name, LIT("iq")) || !span_is(t->type, LIT("result")) ||
		!span_starts(t->id, LIT("disco-")))
		return false;
	setup_step(b);
	return true;
}

/* ---- scenario chain: xmpp-delegate for host.test, xmpp-manage as deleg.test ---- */

static struct conn *conn_of(struct bench *b, const char *domain)
{
	for (unsigned i = 0; i < b->n_conns; i++)
		if (b->conns[i].shaken && span_is(b->conns[i].domain, domain, strlen(domain)))
			return &b->conns[i];
	return NULL;
}

/* The load leaves through conns[0]: xmpp-manage comes first, so exchange the two. */
static void chain_ask(struct bench *b, struct slot *s, struct buf *out)
{
	(void)out;
	delegate_ask(b, s, &conn_of(b, "host.test")->out);
}

static ssize_t chain_on_iq(struct bench *b, struct conn *c, const struct tag *t, const char *body,
	const char *p, const char *end)
{
	struct slot *s;
	ssize_t n;

	if (!span_is(t->from, LIT("host.test")) || span_is(t->to, LIT("deleg.test")))
		return -1;
	(void)c;
	s = slot_find(b, t->id);
	if (!s || !span_is(t->type, LIT("result")) || !is_user(s, t->to))
		return -1;
	n = expect(body, end, LIT(REQUEST "</iq>"));
	if (n <= 0)
		return n;
	slot_done(b, s);
	return body + n - p;
}

static bool chain_on_other(struct bench *b, struct conn *c, const struct tag *t, struct span whole)
{
	struct conn *to = NULL;

	(void)c;
	if (span_is(t->to, LIT("deleg.test")) && span_is(t->from, LIT("host.test")))
		to = conn_of(b, "deleg.test");
	else if (span_is(t->to, LIT("host.test")) && span_is(t->from, LIT("deleg.test")))
		to = conn_of(b, "host.test");
	if (!to)
		return false;
	put_span(&to->out, whole);
	if (!b->running && span_is(t->type, LIT("result")) && span_holds(whole, LIT("disco#info")))
		setup_step(b);
	return true;
}

static const struct scenario scenarios[] = {
	{"jat", {"proxy.test"}, 2, 1, NULL, jat_ask, jat_answer, jat_on_iq, jat_on_other},
	{"delegate", {"host.test"}, 2, 2, NULL, delegate_ask, delegate_answer, delegate_on_iq,
		delegate_on_other},
	{"manage", {"deleg.test"}, 1, 2, manage_joined, manage_ask, NULL, manage_on_iq,
		manage_on_other},
	{"chain", {"deleg.test", "host.test"}, 3, 2, NULL, chain_ask, NULL, chain_on_iq,
		chain_on_other},
};

/* ---- the yardstick: everything that is sent comes back ---- */

static ssize_t echo_on_iq(
	struct bench *b, struct conn *c, const struct tag *t, const char *p, const char *end)
{
	struct slot *s = slot_find(b, t->id);
	ssize_t n;

	if (!s) {
		/* the second leg of scenario delegate: the slot's id is inside */
		const char *inner = memmem(p, (size_t)(end - p), LIT("<iq xmlns='jabber:client'"));
		struct tag it;

		if (!inner || !tag_read(inner, end, &it))
			return end - p < 512 ? 0 : -1;
		s = slot_find(b, it.id);
		if (!s)
			return -1;
	}
	b->scratch.at = b->scratch.n = 0;
	if (s->leg == ASKED)
		b->scenario->ask(b, s, &b->scratch);
	else
		b->scenario->answer(b, s, &b->scratch);
	n = expect(p, end, b->scratch.p, b->scratch.n);
	if (n <= 0)
		return n;
	if (s->leg == ASKED && b->scenario->answer) {
		size_t mark = c->out.n;

		buf_reserve(&c->out, 2048);
		mark = c->out.n;
		b->scenario->answer(b, s, &c->out);
		answer_or_hold(b, s, &c->out, mark);
	} else {
		slot_done(b, s);
	}
	return n;
}

/* ---- connections ---- */

static void children_start_next(struct bench *b);

static void handshake_check(struct bench *b, struct span whole)
{
	struct sha1_ctx ctx;
	uint8_t digest[SHA1_DIGEST_SIZE];
	char want[2 * SHA1_DIGEST_SIZE];

	sha1_init(&ctx);
	sha1_update(&ctx, strlen("bench-stream"), (const uint8_t *)"bench-stream");
	sha1_update(&ctx, strlen(b->secret), (const uint8_t *)b->secret);
	sha1_digest(&ctx, sizeof digest, digest);
	for (size_t i = 0; i < sizeof digest; i++) {
		want[2 * i] = hex[digest[i] >> 4];
		want[2 * i + 1] = hex[digest[i] & 15];
	}
	if (!span_holds(whole, want, sizeof want))
		die("wrong handshake: %.*s", (int)whole.n, whole.p);
}

static void conn_joined(struct bench *b, struct conn *c)
{
	c->shaken = true;
	put(&c->out, LIT("<handshake/>"));
	children_start_next(b);
	if (b->echo)
		load_start(b);
	else if (b->scenario->joined)
		b->scenario->joined(b, c);
}

static const char *conn_open(struct bench *b, struct conn *c, const char *p, const char *end)
{
	struct tag t;
	const char *q;

	if (*p != '<')
		die("not a stream: %.*s", (int)(end - p), p);
	q = tag_read(p, end, &t);
	if (!q)
		return NULL;
	if (t.name.n > 0 && t.name.p[0] == '?') {
		q = memchr(p, '>', (size_t)(end - p));
		return q ? q + 1 : NULL;
	}
	if (!span_is(t.name, LIT("stream:stream")) || t.to.n == 0)
		die("not a stream header: %.*s", (int)(q - p), p);
	c->domain = (struct span){strndup(t.to.p, t.to.n), t.to.n};
	c->opened = true;
	put(&c->out,
		LIT("<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
		    "xmlns:stream='http://etherx.jabber.org/streams' id='bench-stream' from='"));
	put_span(&c->out, c->domain);
	put(&c->out, LIT("'>"));
	(void)b;
	return q;
}

/* Takes every whole stanza in c->in. */
static void conn_take(struct bench *b, struct conn *c)
{
	const char *p = c->in.p + c->in.at, *end = c->in.p + c->in.n;

	for (;;) {
		struct tag t;
		const char *body;
		size_t n;

		while (p < end && is_space(*p))
			p++;
		if (p == end)
			break;
		if (!c->opened) {
			const char *q = conn_open(b, c, p, end);

			if (!q)
				break;
			p = q;
			continue;
		}
		if (*p == '<' && end - p > 1 && p[1] == '/') {
			put(&c->out, LIT("</stream:stream>"));
			p = end;
			c->closed = true;
			break;
		}
		body = tag_read(p, end, &t);
		if (!body)
			break;
		if (b->running && span_is(t.name, LIT("iq"))) {
			ssize_t got = b->echo ? echo_on_iq(b, c, &t, p, end)
					      : b->scenario->on_iq(b, c, &t, body, p, end);

			if (got == 0)
				break;
			if (got > 0) {
				p += got;
				continue;
			}
		}
		n = stanza_length(p, end);
		if (n == 0)
			break;
		if (!c->shaken) {
			handshake_check(b, (struct span){p, n});
			conn_joined(b, c);
		} else if (b->echo || !b->scenario->on_other(b, c, &t, (struct span){p, n})) {
			if (!b->finished)
				die("unexpected stanza after %" PRIu64 " round trips: %.*s",
					b->done, (int)n, p);
		}
		p += n;
	}
	c->in.at = (size_t)(p - c->in.p);
	if (c->in.at == c->in.n)
		c->in.at = c->in.n = 0;
}

static void conn_flush(struct bench *b, struct conn *c)
{
	while (c->out.at < c->out.n) {
		ssize_t n = send(c->fd, c->out.p + c->out.at, c->out.n - c->out.at, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			if (!b->finished)
				die("cannot write: %s", strerror(errno));
			c->out.at = c->out.n;
			break;
		}
		c->out.at += (size_t)n;
	}
	if (c->out.at == c->out.n)
		c->out.at = c->out.n = 0;
	if (c->blocked != (c->out.n > 0)) {
		struct epoll_event ev = {.data.ptr = c};

		c->blocked = c->out.n > 0;
		ev.events = EPOLLIN | (c->blocked ? (uint32_t)EPOLLOUT : 0);
		epoll_ctl(b->epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
	}
}

static void conn_close(struct conn *c)
{
	close(c->fd);
	c->fd = -1;
}

static void conn_read(struct bench *b, struct conn *c)
{
	ssize_t n;

	buf_reserve(&c->in, READ_BYTES);
	n = recv(c->fd, c->in.p + c->in.n, READ_BYTES, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		if (!b->finished)
			die("the program closed the stream after %" PRIu64 " round trips", b->done);
		conn_close(c);
		return;
	}
	c->in.n += (size_t)n;
	conn_take(b, c);
}

static void conn_accept(struct bench *b)
{
	int fd = accept4(b->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
	struct epoll_event ev = {.events = EPOLLIN};
	struct conn *c;

	if (fd < 0)
		return;
	if (b->finished || b->n_conns == CONNS_MAX) {
		close(fd);
		return;
	}
	c = &b->conns[b->n_conns++];
	c->fd = fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	ev.data.ptr = c;
	epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

/* ---- the programs under test ---- */

/* One after the other: the second may rely on the first being there. */
static void children_start_next(struct bench *b)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = b->children};
	struct child *c = &b->children[b->n_started];

	if (b->n_started == b->n_children || !c->argv)
		return;
	b->n_started++;
	child_start(c, b->port);
	/* its end wakes the loop */
	epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, pidfd_open(c->pid, 0), &ev);
}

static bool children_gone(struct bench *b)
{
	bool gone = true;

	for (unsigned i = 0; i < b->n_started; i++)
		gone &= child_gone(&b->children[i], b->finished);
	return gone;
}

/* ---- the loop ---- */

static void turn(struct bench *b, int timeout_ms)
{
	struct epoll_event ev[8];
	int n = epoll_wait(b->epoll_fd, ev, 8, timeout_ms);

	if (n == 0 && !b->finished)
		die("nothing came for %d s: %" PRIu64 " asked, %" PRIu64 " done", timeout_ms / 1000,
			b->started, b->done);
	for (int i = 0; i < n; i++) {
		struct conn *c = ev[i].data.ptr;

		if (ev[i].data.ptr == &b->listen_fd)
			conn_accept(b);
		else if (ev[i].data.ptr == &b->timer_fd)
			load_tick(b);
		else if (ev[i].data.ptr == b->children)
			continue; /* children_gone() looks at it */
		else if (c->fd >= 0 && (ev[i].events & ~(uint32_t)EPOLLOUT))
			conn_read(b, c);
	}
	/* write once per turn and connection */
	for (unsigned i = 0; i < b->n_conns; i++)
		if (b->conns[i].fd >= 0 && b->conns[i].out.n > 0)
			conn_flush(b, &b->conns[i]);
	for (unsigned i = 0; i < b->n_conns; i++)
		if (b->conns[i].fd >= 0 && b->conns[i].closed && b->conns[i].out.n == 0)
			conn_close(&b->conns[i]);
}

static void add_fd(struct bench *b, int fd, void *what)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = what};

	if (epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
		die("cannot watch: %s", strerror(errno));
}

static void listen_start(struct bench *b)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof at;

	b->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	b->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	b->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	at.sin_port = htons((uint16_t)b->port);
	if (bind(b->listen_fd, (struct sockaddr *)&at, sizeof at) != 0 ||
		listen(b->listen_fd, 4) != 0 ||
		getsockname(b->listen_fd, (struct sockaddr *)&at, &len) != 0)
		die("cannot listen: %s", strerror(errno));
	b->port = ntohs(at.sin_port);
	add_fd(b, b->listen_fd, &b->listen_fd);
	add_fd(b, b->timer_fd, &b->timer_fd);
}

/* ---- results: one line of key=value ---- */

static int u32_order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void report(struct bench *b)
{
	double s = (double)(b->end_ns - b->begin_ns) / 1e9;
	double stanzas = (double)(b->round_trips * b->scenario->legs);

	printf("scenario=%s mode=%s peer=%s round_trips=%" PRIu64
	       " seconds=%.3f rate=%.0f server_us=%.3f",
		b->scenario->name,
		b->mode == CLOSED ? "closed"
		: b->mode == OPEN ? "open"
				  : "hold",
		b->echo ? "relay" : "program", b->round_trips, s, (double)b->round_trips / s,
		(double)(b->end_cpu_ns - b->begin_cpu_ns) / 1e3 / stanzas);
	for (unsigned i = 0; i < b->n_children; i++) {
		char n[12] = "";

		if (i > 0)
			snprintf(n, sizeof n, "%u", i + 1);
		printf(" cpu%s_us=%.3f tree%s_us=%.3f rss%s_kib=%lu", n,
			(double)b->children[i].cpu_ns / 1e3 / stanzas, n,
			(double)(b->children[i].cpu_ns + b->children[i].tree_ns) / 1e3 / stanzas, n,
			status_kib(b->children[i].pid, "VmHWM"));
	}
	if (b->mode == OPEN) {
		qsort(b->latency_ns, b->n_latency, sizeof *b->latency_ns, u32_order);
		printf(" p50_us=%.1f p99_us=%.1f max_us=%.1f",
			b->latency_ns[b->n_latency / 2] / 1e3,
			b->latency_ns[b->n_latency * 99 / 100] / 1e3,
			b->latency_ns[b->n_latency - 1] / 1e3);
	}
	putchar('\n');
	if (fflush(stdout) != 0)
		die("cannot write: %s", strerror(errno));
}

static void run(struct bench *b)
{
	listen_start(b);
	if (b->n_children > 0 && b->children[0].argv) {
		children_start_next(b);
	} else {
		printf("port %u\n", b->port);
		fflush(stdout);
	}
	while (!b->finished) {
		turn(b, STALL_MS);
		children_gone(b);
	}
	report(b);
	for (unsigned i = 0; i < b->n_started; i++)
		if (b->children[i].argv && !b->children[i].reaped)
			kill(b->children[i].pid, SIGTERM);
	if (b->n_started == 0)
		return;
	/* let it close its streams; ignore what it sends now */
	for (uint64_t until = clock_ns(CLOCK_MONOTONIC) + 10000000000U; !children_gone(b);
		turn(b, 20))
		if (clock_ns(CLOCK_MONOTONIC) > until)
			die("still there 10 s after SIGTERM: killed");
}

/* ---- command line ---- */

static const char usage[] =
	"usage: server [--scenario jat|delegate|manage|chain] [--mode closed|open|hold] [--echo]\n"
	"              [--outstanding N] [--round-trips N] [--warmup N] [--rate N] [--requesters "
	"N]\n"
	"              [--peers N] [--secret S] [--port N] [--pid P] [-- COMMAND ARG... [++ "
	"COMMAND ARG...]]\n";

static unsigned long number(const char *s, unsigned long min, unsigned long max)
{
	char *end;
	unsigned long v = strtoul(s, &end, 10);

	if (end == s || *end || v < min || v > max) {
		fprintf(stderr, "server: '%s' is not a number from %lu to %lu\n%s", s, min, max,
			usage);
		exit(64);
	}
	return v;
}

static void command_add(struct bench *b, char **argv)
{
	if (b->n_children == CONNS_MAX)
		die("too many commands");
	b->children[b->n_children++].argv = argv;
}

static void options(struct bench *b, int argc, char **argv)
{
	enum {
		SCENARIO,
		MODE,
		ECHO_,
		OUTSTANDING,
		ROUND_TRIPS,
		WARMUP,
		RATE,
		REQUESTERS,
		PEERS,
		SECRET,
		PORT,
		PID
	};
	static const struct option table[] = {
		{"scenario", required_argument, NULL, SCENARIO},
		{"mode", required_argument, NULL, MODE},
		{"echo", no_argument, NULL, ECHO_},
		{"outstanding", required_argument, NULL, OUTSTANDING},
		{"round-trips", required_argument, NULL, ROUND_TRIPS},
		{"warmup", required_argument, NULL, WARMUP},
		{"rate", required_argument, NULL, RATE},
		{"requesters", required_argument, NULL, REQUESTERS},
		{"peers", required_argument, NULL, PEERS},
		{"secret", required_argument, NULL, SECRET},
		{"port", required_argument, NULL, PORT},
		{"pid", required_argument, NULL, PID},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "+", table, NULL)) != -1) {
		switch (c) {
		case SCENARIO:
			b->scenario = NULL;
			for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
				if (strcmp(scenarios[i].name, optarg) == 0)
					b->scenario = &scenarios[i];
			break;
		case MODE:
			b->mode = strcmp(optarg, "open") == 0	? OPEN
				  : strcmp(optarg, "hold") == 0 ? HOLD
								: CLOSED;
			break;
		case ECHO_:
			b->echo = true;
			break;
		case OUTSTANDING:
			b->outstanding = (unsigned)number(optarg, 1, SLOTS_MAX);
			break;
		case ROUND_TRIPS:
			b->round_trips = number(optarg, 1, 1000000000);
			break;
		case WARMUP:
			b->warmup = number(optarg, 0, 1000000000);
			break;
		case RATE:
			b->rate = (unsigned)number(optarg, 1, 1000000);
			break;
		case REQUESTERS:
			b->requesters = (uint32_t)number(optarg, 1, 99999);
			break;
		case PEERS:
			b->peers = (unsigned)number(optarg, 1, PEERS_MAX);
			break;
		case SECRET:
			b->secret = optarg;
			break;
		case PORT:
			b->port = (unsigned)number(optarg, 0, 65535);
			break;
		case PID:
			b->children[b->n_children].pid = (pid_t)number(optarg, 1, 1 << 30);
			if (clock_getcpuclockid(b->children[b->n_children].pid,
				    &b->children[b->n_children].clock) != 0)
				die("no process %s", optarg);
			b->n_children++;
			break;
		default:
			fputs(usage, stderr);
			exit(64);
		}
	}
	if (!b->scenario || (b->echo && b->scenario->domains[1])) {
		fputs(usage, stderr);
		exit(64);
	}
	if (optind < argc) {
		command_add(b, argv + optind);
		for (int i = optind; i < argc; i++)
			if (strcmp(argv[i], "++") == 0) {
				argv[i] = NULL;
				command_add(b, argv + i + 1);
			}
	}
	if (b->mode == HOLD) {
		b->warmup = 0;
		b->round_trips = b->outstanding;
	}
}

int main(int argc, char **argv)
{
	static struct bench b = {
		.scenario = &scenarios[0],
		.outstanding = 1000,
		.requesters = 10000,
		.peers = 3,
		.rate = 1000,
		.round_trips = 100000,
		.warmup = 10000,
		.secret = "bench-secret",
	};

	wire_program = "server";
	signal(SIGPIPE, SIG_IGN);
	options(&b, argc, argv);
	b.slots = calloc(b.outstanding, sizeof *b.slots);
	b.idle = calloc(b.outstanding, sizeof *b.idle);
	b.latency_ns = b.mode == OPEN ? calloc(b.round_trips, sizeof *b.latency_ns) : NULL;
	if (!b.slots || !b.idle || (b.mode == OPEN && !b.latency_ns))
		die("out of memory");
	the_bench = &b;
	at_death = children_kill;
	run(&b);
	return 0;
}
