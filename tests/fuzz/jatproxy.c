/* Fuzz target: a model of xmpp-jat-proxy's world. The input is a play: users ask, sessions come,
 * leave, answer rightly, wrongly, late and twice, servers bounce, time passes, the link goes down
 * and up, the proxy crashes and starts again, the output is small and drains slowly.
 *
 * It holds in every play: each request gets exactly one answer, from the address that was asked, to
 * the user who asked, only from a session that was asked; memory stays within its bound; at the end
 * nothing is open. (A request that was open at a crash gets at most one.) */
#include "jat/proxy.h"

#include <limits.h>
#include <stdint.h>

#include "base/err.h"
#include "require.h"
#include "xmpp/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define USERS 4
#define IDS 3
#define ADDRESSES 3
#define SESSIONS 3
#define KEYS (USERS * IDS * ADDRESSES)
#define INBOX 256
#define TIMEOUT_MS 30000
#define MAX_PENDING 24
#define MAX_MARKS 12
#define MAX_PENDING_BYTES (64 * 1024)

static const char *const users[USERS] = {
	"alice@vhost.test/a", "bob@vhost.test/b", "eve@evil.example/e", "gate.example"};
static const char *const ids[IDS] = {"1", "it's", "long-id-long-id-long-id-long-id-long-id"};
static const char *const addresses[ADDRESSES] = {"proxy.test", "x@proxy.test", "proxy.test/r"};
static const char *const sessions[SESSIONS] = {
	"impl@vhost.test/0", "impl@vhost.test/1", "impl@vhost.test/2"};

/* A request that a session has. */
struct handed {
	int key, session;
};

struct world {
	const uint8_t *p, *end;
	struct jatproxy *proxy;
	struct jatproxy_config config;
	struct jat_keys *keys;
	struct buf out, marks;
	int64_t marks_ms[MAX_MARKS]; /* when the last ones were made */
	unsigned marks_made;
	struct writer writer;
	struct reader *in, *reader;
	int64_t now_ms;
	uint64_t random;
	bool up, crashed;
	int open[KEYS], orphans[KEYS]; /* answers that are owed, and that may come after a crash */
	bool asked[KEYS][SESSIONS];
	struct handed inbox[INBOX];
	size_t inbox_count;
};

static uint64_t draw(void *context)
{
	struct world *w = context;

	w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return w->random >> 11;
}

static unsigned byte(struct world *w)
{
	return w->p < w->end ? *w->p++ : 0;
}

static int find(const char *const *list, int count, struct span s)
{
	for (int i = 0; i < count; i++)
		if (span_is(s, list[i]))
			return i;
	return -1;
}

static int key_of(int user, int id, int address)
{
	return (user * IDS + id) * ADDRESSES + address;
}

/* More than MAX_MARKS in a time-out are never made. */
static void marked(void *context, const char *mark)
{
	struct world *w = context;
	int64_t *made_ms = &w->marks_ms[w->marks_made++ % MAX_MARKS];

	if (w->config.max_marks == MAX_MARKS) {
		REQUIRE(*made_ms == 0 || *made_ms + TIMEOUT_MS <= w->now_ms);
		REQUIRE(marks_count(jatproxy_marks(w->proxy)) <= MAX_MARKS);
	}
	*made_ms = w->now_ms;
	buf_append_string(&w->marks, mark);
	buf_append_char(&w->marks, '\n');
}

static void unrouted(void *context)
{
	(void)context;
}

static void start(struct world *w, bool grace)
{
	w->config.grace = grace;
	w->proxy = jatproxy_new(&w->config);
	if (!grace)
		return;
	marks_restore(jatproxy_marks(w->proxy), buf_span(&w->marks));
	for (int i = 0; i < MAX_MARKS; i++)
		if (w->marks_ms[i] && w->marks_ms[i] + TIMEOUT_MS > w->now_ms)
			marks_restore_young(jatproxy_marks(w->proxy), SPAN("mark\n"), w->now_ms);
}

/* What came out --------------------------------------------------------------- */

static void token_says(struct world *w, struct span address, int *user, int *asked)
{
	struct span jid, at;
	struct buf text;
	const char *slash = memchr(address.p, '/', address.n);

	buf_init(&text, BUF_NO_MAX);
	REQUIRE(slash);
	REQUIRE(jat_decode(&w->config.jat, span_from(address, (size_t)(slash + 1 - address.p)),
			&text, &jid, &at) == JAT_OK);
	*user = find(users, USERS, jid);
	*asked = find(addresses, ADDRESSES, at);
	buf_free(&text);
}

static void take_request(struct world *w, const struct stanza *s, int session)
{
	int user, asked, id = find(ids, IDS, s->id);

	token_says(w, s->from, &user, &asked);
	REQUIRE(user >= 0 && asked >= 0 && id >= 0);
	w->asked[key_of(user, id, asked)][session] = true;
	if (w->inbox_count < INBOX)
		w->inbox[w->inbox_count++] = (struct handed){key_of(user, id, asked), session};
}

static void take_answer(struct world *w, const struct stanza *s)
{
	int user = find(users, USERS, s->to), id = find(ids, IDS, s->id);
	int asked = find(addresses, ADDRESSES, s->from), key;
	const struct xml_node *by = xml_child(s->root, "urn:x", "by");

	REQUIRE(user >= 0 && id >= 0 && asked >= 0);
	key = key_of(user, id, asked);
	REQUIRE(w->open[key] + w->orphans[key] > 0);
	if (w->open[key])
		w->open[key]--;
	else
		w->orphans[key]--;
	REQUIRE(!xml_child(s->root, "urn:x", "forged"));
	REQUIRE((s->type == TYPE_ERROR) == !by);
	if (by)
		REQUIRE(w->asked[key][xml_attribute(by, "s").p[0] - '0']);
}

static void take(struct world *w, const struct stanza *s)
{
	int session = find(sessions, SESSIONS, s->to);

	if (s->kind != STANZA_IQ)
		return;
	if (session >= 0 && s->from.n == strlen("proxy.test"))
		return; /* a ping */
	if (session >= 0 && stanza_is_request(s))
		take_request(w, s, session);
	else
		take_answer(w, s);
}

/* The server takes so many bytes, and the rest of the stanza that they end in. */
static void flush(struct world *w, size_t bytes)
{
	struct stanza s;
	size_t taken = 0;

	while (buf_length(&w->out) && taken <= bytes) {
		struct span all = buf_span(&w->out);
		const char *end = memchr(all.p, '\n', all.n);
		size_t length = end ? (size_t)(end + 1 - all.p) : all.n;

		REQUIRE(reader_one(w->reader, (struct span){all.p, length}, &s));
		take(w, &s);
		buf_consume(&w->out, length);
		taken += length;
	}
}

/* What goes in ---------------------------------------------------------------- */

static void send(struct world *w, const char *stanza)
{
	struct turn turn = {&w->writer, w->now_ms};
	struct stanza s;

	if (!w->up)
		return;
	REQUIRE(reader_one(w->in, span_of(stanza), &s));
	jatproxy_ops.stanza(w->proxy, &s, &turn);
}

static void tick(struct world *w)
{
	struct turn turn = {&w->writer, w->now_ms};

	/* as the service does: while the output is congested it is not ticked */
	if (w->up && buf_length(&w->out) < w->out.max / 2 &&
		jatproxy_ops.deadline(w->proxy) <= w->now_ms)
		jatproxy_ops.tick(w->proxy, &turn);
}

static void link_set(struct world *w, bool up)
{
	struct turn turn = {up ? &w->writer : NULL, w->now_ms};

	if (w->up == up)
		return;
	flush(w, SIZE_MAX / 2);
	w->up = up;
	if (up)
		jatproxy_ops.up(w->proxy, &turn);
	else
		jatproxy_ops.down(w->proxy, &turn);
}

static void crash(struct world *w)
{
	flush(w, SIZE_MAX / 2); /* what was written was sent */
	jatproxy_free(w->proxy);
	w->up = false;
	w->crashed = true;
	for (int i = 0; i < KEYS; i++) {
		w->orphans[i] += w->open[i];
		w->open[i] = 0;
	}
	start(w, true);
}

static void ask(struct world *w)
{
	unsigned a = byte(w), b = byte(w);
	int user = (int)(a % USERS), id = (int)(a / 4 % IDS), address = (int)(a / 16 % ADDRESSES);
	char stanza[4096];

	if (!w->up)
		return;
	w->open[key_of(user, id, address)]++;
	snprintf(stanza, sizeof(stanza),
		"<iq type='%s' from='%s' id=\"%s\" to='%s'><q xmlns='urn:x'>%.*s</q></iq>",
		b & 1 ? "set" : "get", users[user], ids[id], addresses[address],
		(int)(b / 2 % 8 * 100),
		"                                                                                "
		"                                                                                ");
	send(w, stanza);
}

/* from: a session; token of key */
static void reply(struct world *w, int key, int from, const char *type, const char *content)
{
	int user = key / ADDRESSES / IDS, id = key / ADDRESSES % IDS, asked = key % ADDRESSES;
	char stanza[4096];
	struct buf token;

	buf_init(&token, BUF_NO_MAX);
	REQUIRE(jat_encode(&w->config.jat, span_of(addresses[asked]), span_of(users[user]),
			&token) == JAT_OK);
	snprintf(stanza, sizeof(stanza),
		"<iq type='%s' from='%s' id=\"%s\" to='proxy.test/%s'>%s</iq>", type,
		sessions[from], ids[id], buf_string(&token), content);
	buf_free(&token);
	send(w, stanza);
}

static const char *const errors[] = {
	"<service-unavailable xmlns='" NS_STANZAS "'/>",
	"<item-not-found xmlns='" NS_STANZAS "'/>",
	"<recipient-unavailable xmlns='" NS_STANZAS "'/>",
	"<service-unavailable xmlns='" NS_STANZAS "'/><text xmlns='" NS_STANZAS
	"'>User session terminated</text>",
	"<service-unavailable xmlns='" NS_STANZAS "'/><text xmlns='" NS_STANZAS
	"'>User session not found</text>",
};

/* A session gives an answer that it owes: a result, an error or a bounce, perhaps twice. */
static void answer(struct world *w)
{
	unsigned a = byte(w), b = byte(w);
	struct handed *h;
	char content[512];
	int key, session;

	if (b >= 250) /* an equal request is in its hands by then, or the second one answers nothing
		       */
		flush(w, SIZE_MAX / 2);
	h = w->inbox_count ? &w->inbox[a % w->inbox_count] : NULL;
	if (!h || !w->up)
		return;
	if (b % 3) {
		snprintf(content, sizeof(content), "<by xmlns='urn:x' s='%d'/>", h->session);
	} else {
		snprintf(content, sizeof(content), "<error type='cancel'>%s</error>",
			errors[b / 3 % (sizeof(errors) / sizeof(*errors))]);
	}
	for (unsigned i = 0; i <= (b >= 250); i++)
		reply(w, h->key, h->session, b % 3 ? "result" : "error", content);
	key = h->key;
	session = h->session;
	*h = w->inbox[--w->inbox_count];
	/* the second one is the answer to an equal request, if it has one */
	for (size_t i = 0; b >= 250 && i < w->inbox_count; i++)
		if (w->inbox[i].key == key && w->inbox[i].session == session) {
			w->inbox[i] = w->inbox[--w->inbox_count];
			break;
		}
}

/* A session that was never asked answers. (After a crash answers are taken on their token.) */
static void forge(struct world *w)
{
	unsigned a = byte(w);
	int key = (int)(a % KEYS), session = (int)(byte(w) % SESSIONS);

	flush(w, SIZE_MAX / 2);
	if (!w->asked[key][session] && !w->crashed)
		reply(w, key, session, "result", "<forged xmlns='urn:x'/>");
}

static void presence(struct world *w, const char *type)
{
	char stanza[256];
	unsigned a = byte(w);

	snprintf(stanza, sizeof(stanza),
		"<presence%s from='%s' to='proxy.test'><priority>%u</priority></presence>", type,
		sessions[a % SESSIONS], a / 4 % 4);
	send(w, stanza);
}

static void step(struct world *w)
{
	static const int64_t times_ms[] = {0, 100, 1000, 5000, 11000, 31000, 61000, 600000};

	switch (byte(w) % 16) {
	case 0:
	case 1:
	case 2:
	case 3:
		ask(w);
		break;
	case 4:
	case 5:
	case 6:
		answer(w);
		break;
	case 7:
		forge(w);
		break;
	case 8:
	case 9:
		presence(w, "");
		break;
	case 10:
		presence(w, " type='unavailable'");
		break;
	case 11:
	case 12:
		w->now_ms += times_ms[byte(w) % 8];
		break;
	case 13:
		flush(w, byte(w) * 16);
		break;
	case 14:
		link_set(w, byte(w) % 4 != 0);
		break;
	default:
		if (byte(w) == 255)
			crash(w);
		else
			link_set(w, true);
	}
	tick(w);
}

static void check_memory(struct world *w)
{
	struct metric metrics[256];
	size_t count = jatproxy_ops.metrics(w->proxy, metrics, 256);

	for (size_t i = 0; i < count; i++)
		if (strcmp(metrics[i].name, "pending_bytes") == 0)
			REQUIRE(metrics[i].value <= MAX_PENDING_BYTES);
}

/* Let all deadlines pass and take all output: then nothing is open. */
static void finish(struct world *w)
{
	link_set(w, true);
	for (int i = 0; i < 200; i++) {
		flush(w, SIZE_MAX / 2);
		tick(w);
		if (i % 8 == 0)
			w->now_ms += TIMEOUT_MS;
	}
	flush(w, SIZE_MAX / 2);
	for (int i = 0; i < KEYS; i++)
		REQUIRE(w->open[i] == 0);
	REQUIRE(jatproxy_ops.open_requests(w->proxy) == 0);
}

static struct reader *new_reader(enum reader_index index)
{
	return reader_new(&(struct reader_config){.kind = READER_PIPE, .index = index});
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const unsigned char key[JAT_KEY_BYTES] = {1, 2, 3};
	static const struct span target = {"impl@vhost.test", 15};
	struct world world = {.p = bytes, .end = bytes + n, .now_ms = 1000000}, *w = &world;
	unsigned options = byte(w);

	err_verbosity(-8);
	w->keys = jat_keys_random(key);
	buf_init(&w->out, options & 4 ? 4096 : 64 * 1024);
	buf_init(&w->marks, BUF_NO_MAX);
	writer_init(&w->writer, &w->out, WRITER_PIPE, 0);
	w->in = new_reader(READER_INDEX_CHILDREN);
	w->reader = new_reader(READER_INDEX_ALL);
	w->config = (struct jatproxy_config){
		.jat = {.encoding = JAT_SEALED, .domain = SPAN("proxy.test"), .keys = w->keys},
		.dispatch = {.targets = &target,
			.targets_count = 1,
			.policy = (enum balance_policy)(options % 4),
			.min_priority = options & 8 ? 1 : INT_MIN,
			.try_timeout_ms = options & 16 ? 10000 : 0,
			.max_sessions = 8},
		.keep_item_jids = true,
		.timeout_ms = TIMEOUT_MS,
		.bounce_wait_ms = options & 32 ? 1000 : 0,
		.pending.max = MAX_PENDING,
		.pending.max_bytes = MAX_PENDING_BYTES,
		.max_handles = 8,
		.max_subscribers = 8,
		.max_marks = options & 64 ? MAX_MARKS : 1000,
		.pending.user_max = 8,
		.pending.domain_max = 6,
		.handle_ttl_ms = 60000,
		.random = {draw, w},
		.marked = marked,
		.unrouted = unrouted,
		.context = w,
	};
	start(w, false);
	link_set(w, true);
	while (w->p < w->end) {
		step(w);
		check_memory(w);
	}
	finish(w);
	jatproxy_free(w->proxy);
	jat_keys_free(w->keys);
	reader_free(w->in);
	reader_free(w->reader);
	buf_free(&w->out);
	buf_free(&w->marks);
	return 0;
}
