/*
 * clients: users and implementing clients for a real server. They log in over plain
 * c2s (SASL PLAIN: loopback only), the program under test is started, its
 * subscription is accepted, and then the users ask and the implementing clients
 * answer, a fixed number outstanding:
 *
 *     clients --port C2S --pid SERVER --component jat.test -- xmpp-jat-proxy ...
 *
 * Every answer is checked (user, id, sender, payload text). The line of results has
 * the CPU time of the program and of the server a request, and how many requests had no
 * answer after LOST_MS: each of these is asked again. Then --alone requests follow one
 * after the other, and the line says how long one takes. With --direct the users ask
 * the implementing clients themselves, and COMMAND has nothing to do: what the server
 * costs without the detour. With --announce the implementing clients send the component
 * presence, for one that has no subscription.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <nettle/base64.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>

#include "wire.h"

enum {
	READ_BYTES = 64 * 1024,
	CLIENTS_MAX = 64,
	SLOTS_MAX = 65536,
	STALL_MS = 30000,
	LOST_MS = 5000
};

enum phase {
	LOGIN,
	PROBING, /* one request after the other, until one gets a result */
	LOADED,	 /* `outstanding` are open */
	DRAINING,
	ALONE, /* one after the other */
	FINISHED,
};

enum step { OPENING, AUTHENTICATING, REOPENING, BINDING, READY };

struct client {
	int fd;
	enum step step;
	bool header, implements;
	char account[32], resource[16];
	struct buf in, out;
};

struct slot {
	uint32_t generation;
	bool open;
	uint64_t asked_ns;
};

struct load {
	const char *host, *component, *password;
	unsigned port, users, implementers, outstanding;
	uint64_t round_trips, warmup, alone;

	int epoll_fd;
	struct client clients[CLIENTS_MAX];
	unsigned n_clients, n_ready;
	bool direct, announce;
	enum phase phase;
	struct slot *slots;
	unsigned open;
	uint64_t done, lost, alone_done, alone_ns;
	uint64_t probe_ns, begin_ns, end_ns, begin_cpu_ns, end_cpu_ns;
	struct child program, server;
};

static struct load *the_load; /* for die() */

static void program_kill(void)
{
	if (the_load->program.pid > 0 && !the_load->program.reaped)
		kill(the_load->program.pid, SIGKILL);
}

static void put_string(struct buf *b, const char *s)
{
	put(b, s, strlen(s));
}

/* ---- login ---- */

static void header_send(const struct load *l, struct client *c)
{
	c->header = false;
	put_string(&c->out, "<?xml version='1.0'?><stream:stream xmlns='jabber:client' "
			    "xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='");
	put_string(&c->out, l->host);
	put_string(&c->out, "'>");
}

static void auth_send(const struct load *l, struct client *c)
{
	char plain[128], coded[BASE64_ENCODE_RAW_LENGTH(sizeof plain) + 1] = "";
	int n = snprintf(plain, sizeof plain, "%c%s%c%s", 0, c->account, 0, l->password);

	base64_encode_raw(coded, (size_t)n, (const uint8_t *)plain);
	put_string(&c->out, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>");
	put(&c->out, coded, BASE64_ENCODE_RAW_LENGTH((size_t)n));
	put_string(&c->out, "</auth>");
}

static void bind_send(struct client *c)
{
	put_string(&c->out,
		"<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
		"<resource>");
	put_string(&c->out, c->resource);
	put_string(&c->out, "</resource></bind></iq>");
}

static void presence_send(const struct load *l, struct client *c)
{
	put_string(&c->out, "<presence/>");
	if (!l->announce)
		return;
	put_string(&c->out, "<presence to='");
	put_string(&c->out, l->component);
	put_string(&c->out, "'/>");
}

static void login_step(struct load *l, struct client *c, const struct tag *t, struct span whole)
{
	switch (c->step) {
	case OPENING:
		if (!span_holds(whole, LIT(">PLAIN<")))
			die("the server does not offer PLAIN: %.*s", (int)whole.n, whole.p);
		auth_send(l, c);
		c->step = AUTHENTICATING;
		return;
	case AUTHENTICATING:
		if (!span_is(t->name, LIT("success")))
			die("login of %s failed: %.*s", c->account, (int)whole.n, whole.p);
		header_send(l, c);
		c->step = REOPENING;
		return;
	case REOPENING:
		bind_send(c);
		c->step = BINDING;
		return;
	case BINDING:
		if (!span_is(t->id, LIT("bind")))
			return;
		if (!span_is(t->type, LIT("result")) ||
			!span_holds(whole, c->resource, strlen(c->resource)))
			die("%s cannot be bound: %.*s", c->resource, (int)whole.n, whole.p);
		if (c->implements)
			presence_send(l, c);
		c->step = READY;
		if (++l->n_ready == l->n_clients) {
			struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = l};

			child_start(&l->program, 0);
			epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, pidfd_open(l->program.pid, 0), &ev);
			l->phase = PROBING;
			l->probe_ns = clock_ns(CLOCK_MONOTONIC);
		}
		return;
	case READY:
		return;
	}
}

/* ---- load ---- */

/* the address that the users ask */
enum { ADDRESS_MAX = 128 };

static const char *asked(const struct load *l, uint32_t slot, char address[static ADDRESS_MAX])
{
	if (!l->direct)
		return l->component;
	snprintf(address, ADDRESS_MAX, "impl@%s/r%u", l->host, 1 + slot % l->implementers);
	return address;
}

static void ask(struct load *l, uint32_t slot)
{
	char address[ADDRESS_MAX];
	struct client *c = &l->clients[l->implementers + slot % l->users];
	struct slot *s = &l->slots[slot];
	char id[ID_LEN];

	s->generation++;
	s->open = true;
	s->asked_ns = clock_ns(CLOCK_MONOTONIC);
	l->open++;
	id_write(id, slot, s->generation);
	put_string(&c->out, "<iq type='get' id='");
	put(&c->out, id, ID_LEN);
	put_string(&c->out, "' to='");
	put_string(&c->out, asked(l, slot, address));
	put_string(&c->out, "'>" REQUEST "</iq>");
}

/* Until the program knows the implementing clients it answers with errors: one probe
 * after the other, and the load starts with the first result. */
static void probe(struct load *l)
{
	struct client *c = &l->clients[l->implementers];
	char address[ADDRESS_MAX];

	put_string(&c->out, "<iq type='get' id='probe' to='");
	put_string(&c->out, asked(l, 0, address));
	put_string(&c->out, "'>" REQUEST "</iq>");
}

static void window_begin(struct load *l)
{
	child_window_begin(&l->program);
	child_window_begin(&l->server);
	l->begin_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	l->begin_ns = clock_ns(CLOCK_MONOTONIC);
}

static void window_end(struct load *l)
{
	l->end_ns = clock_ns(CLOCK_MONOTONIC);
	l->end_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	child_window_end(&l->program);
	child_window_end(&l->server);
}

static void count_answer(struct load *l, const struct slot *s)
{
	if (l->phase == ALONE) {
		l->alone_done++;
		l->alone_ns += clock_ns(CLOCK_MONOTONIC) - s->asked_ns;
	} else if (l->phase == LOADED) {
		l->done++;
		if (l->done == l->warmup)
			window_begin(l);
		if (l->done == l->warmup + l->round_trips) {
			window_end(l);
			l->phase = DRAINING;
		}
	}
}

/* A request is no longer open: ask the next one. The load stays what it is until the end of its
 * window; then all that is open comes to its end. */
static void close_slot(struct load *l, uint32_t slot)
{
	l->slots[slot].open = false;
	l->open--;
	if (l->phase == DRAINING && l->open == 0)
		l->phase = ALONE;
	if (l->phase == ALONE && l->alone_done == l->alone)
		l->phase = FINISHED;
	if (l->phase == LOADED || l->phase == ALONE)
		ask(l, slot);
}

/* Ask again what has no answer. */
static void look_for_lost(struct load *l)
{
	uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);

	for (uint32_t slot = 0; slot < l->outstanding; slot++) {
		if (!l->slots[slot].open || now_ns - l->slots[slot].asked_ns < LOST_MS * 1000000ULL)
			continue;
		if (++l->lost > l->outstanding)
			die("%" PRIu64 " requests had no answer, %" PRIu64 " had", l->lost,
				l->done);
		close_slot(l, slot);
	}
}

static void on_user(struct load *l, struct client *c, const struct tag *t, struct span whole)
{
	uint32_t slot, generation;
	char address[ADDRESS_MAX];

	if (!span_is(t->name, LIT("iq")) || span_is(t->type, LIT("get")) ||
		span_is(t->type, LIT("set")))
		return;
	if (span_is(t->id, LIT("probe"))) {
		if (!span_is(t->type, LIT("result")) || l->phase != PROBING)
			return;
		l->phase = LOADED;
		if (l->warmup == 0)
			window_begin(l);
		for (unsigned i = 0; i < l->outstanding; i++)
			ask(l, i);
		return;
	}
	if (id_read(t->id, &slot, &generation) && slot < l->outstanding &&
		generation < l->slots[slot].generation && l->lost)
		return; /* it was counted as lost */
	if (!id_read(t->id, &slot, &generation) || slot >= l->outstanding || !l->slots[slot].open ||
		l->slots[slot].generation != generation ||
		&l->clients[l->implementers + slot % l->users] != c ||
		!span_is(t->type, LIT("result")) ||
		!span_is(t->from, asked(l, slot, address), strlen(asked(l, slot, address))) ||
		!span_holds(whole, LIT("our house buried in the ocean.")))
		die("wrong answer after %" PRIu64 " round trips: %.*s", l->done, (int)whole.n,
			whole.p);
	count_answer(l, &l->slots[slot]);
	close_slot(l, slot);
}

static void on_implementer(struct load *l, struct client *c, const struct tag *t, struct span whole)
{
	if (span_is(t->name, LIT("presence")) && span_is(t->type, LIT("subscribe")) &&
		c == &l->clients[0]) {
		put_string(&c->out, "<presence type='subscribed' to='");
		put_span(&c->out, t->from);
		put_string(&c->out, "'/>");
		return;
	}
	if (!span_is(t->name, LIT("iq")) || !span_is(t->type, LIT("get")))
		return;
	if (!l->direct && !span_starts(t->from, l->component, strlen(l->component)))
		return;
	if (!span_holds(whole, LIT("glorious summer by this sun")))
		die("wrong request: %.*s", (int)whole.n, whole.p);
	put_string(&c->out, "<iq type='result' id='");
	put_span(&c->out, t->id);
	put_string(&c->out, "' to='");
	put_span(&c->out, t->from);
	put_string(&c->out, "'>" ANSWER "</iq>");
}

/* ---- connections ---- */

static const char *header_read(struct client *c, const char *p, const char *end)
{
	struct tag t;
	const char *q = tag_read(p, end, &t);

	if (!q)
		return NULL;
	if (*t.name.p == '?') {
		q = memchr(p, '>', (size_t)(end - p));
		return q ? q + 1 : NULL;
	}
	c->header = true;
	return q;
}

static void client_take(struct load *l, struct client *c)
{
	const char *p = c->in.p + c->in.at, *end = c->in.p + c->in.n;

	for (;;) {
		struct tag t;
		struct span whole;

		while (p < end && is_space(*p))
			p++;
		if (p == end)
			break;
		if (!c->header) {
			const char *q = header_read(c, p, end);

			if (!q)
				break;
			p = q;
			continue;
		}
		whole = (struct span){p, stanza_length(p, end)};
		if (whole.n == 0)
			break;
		tag_read(p, end, &t);
		p += whole.n;
		if (span_is(t.name, LIT("stream:error")))
			die("stream error: %.*s", (int)whole.n, whole.p);
		if (c->step != READY) {
			login_step(l, c, &t, whole);
			if (!c->header) {
				p = end;
				break;
			}
		} else if (c->implements) {
			on_implementer(l, c, &t, whole);
		} else {
			on_user(l, c, &t, whole);
		}
	}
	c->in.at = (size_t)(p - c->in.p);
}

static void client_flush(struct client *c)
{
	while (c->out.at < c->out.n) {
		ssize_t n = send(c->fd, c->out.p + c->out.at, c->out.n - c->out.at, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return; /* the next answer brings us back: never all is written and blocked
				 */
		if (n < 0)
			die("cannot write: %s", strerror(errno));
		c->out.at += (size_t)n;
	}
	c->out.at = c->out.n = 0;
}

static void client_connect(struct load *l, bool implements, const char *account, unsigned n)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct client *c = &l->clients[l->n_clients++];
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	int one = 1;

	c->implements = implements;
	snprintf(c->account, sizeof c->account, "%s", account);
	snprintf(c->resource, sizeof c->resource, "%c%u", implements ? 'r' : 'u', n);
	to.sin_port = htons((uint16_t)l->port);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0)
		die("cannot connect to port %u: %s", l->port, strerror(errno));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, c->fd, &ev);
	header_send(l, c);
	client_flush(c);
}

static void client_read(struct load *l, struct client *c)
{
	ssize_t n;

	buf_reserve(&c->in, READ_BYTES);
	n = recv(c->fd, c->in.p + c->in.n, READ_BYTES, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		die("the server closed the stream of %s/%s", c->account, c->resource);
	c->in.n += (size_t)n;
	client_take(l, c);
	if (c->in.at == c->in.n)
		c->in.at = c->in.n = 0;
}

static void run(struct load *l)
{
	static const char *const accounts[] = {
		"alice", "bob", "carol", "mallory", "john", "marie", "aaron", "michael"};
	uint64_t last_ns = clock_ns(CLOCK_MONOTONIC), looked_ns = last_ns;

	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < l->implementers; i++)
		client_connect(l, true, "impl", i + 1);
	for (unsigned i = 0; i < l->users; i++)
		client_connect(l, false, accounts[i % (sizeof accounts / sizeof *accounts)], i + 1);
	while (l->phase != FINISHED) {
		struct epoll_event ev[CLIENTS_MAX];
		int n = epoll_wait(l->epoll_fd, ev, CLIENTS_MAX, 50);
		uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);

		if (n > 0)
			last_ns = now_ns;
		if (now_ns - last_ns > STALL_MS * 1000000ULL)
			die("nothing came: %u of %u logged in, %" PRIu64 " done", l->n_ready,
				l->n_clients, l->done);
		if (l->phase == PROBING && now_ns - l->probe_ns > STALL_MS * 1000000ULL)
			die("no request got a result");
		for (int i = 0; i < n; i++)
			if (ev[i].data.ptr != l)
				client_read(l, ev[i].data.ptr);
		if (n == 0 && l->phase == PROBING)
			probe(l);
		if (now_ns - looked_ns > LOST_MS * 1000000ULL / 10) {
			looked_ns = now_ns;
			look_for_lost(l);
		}
		for (unsigned i = 0; i < l->n_clients; i++)
			client_flush(&l->clients[i]);
		if (l->program.pid > 0)
			child_gone(&l->program, false);
	}
}

static void report(const struct load *l)
{
	double s = (double)(l->end_ns - l->begin_ns) / 1e9, n = (double)l->round_trips;

	printf("round_trips=%" PRIu64 " rate=%.0f cpu_us=%.3f rss_kib=%lu server_us=%.3f "
	       "server_rss_kib=%lu clients_us=%.3f lost=%" PRIu64 " alone_us=%.0f\n",
		l->round_trips, n / s, (double)(l->program.cpu_ns + l->program.tree_ns) / 1e3 / n,
		status_kib(l->program.pid, "VmHWM"),
		(double)(l->server.cpu_ns + l->server.tree_ns) / 1e3 / n,
		status_kib(l->server.pid, "VmHWM"),
		(double)(l->end_cpu_ns - l->begin_cpu_ns) / 1e3 / n, l->lost,
		l->alone ? (double)l->alone_ns / 1e3 / (double)l->alone : 0);
	if (fflush(stdout) != 0)
		die("cannot write: %s", strerror(errno));
}

/* The streams stay open meanwhile: the program's end is not the clients' end. */
static void program_stop(struct load *l)
{
	uint64_t until_ns = clock_ns(CLOCK_MONOTONIC) + 10000000000U;

	kill(l->program.pid, SIGTERM);
	while (!child_gone(&l->program, true)) {
		struct epoll_event ev;

		if (clock_ns(CLOCK_MONOTONIC) > until_ns)
			die("still there 10 s after SIGTERM: killed");
		if (epoll_wait(l->epoll_fd, &ev, 1, 20) > 0 && ev.data.ptr != l)
			client_read(l, ev.data.ptr);
	}
}

static const char usage[] =
	"usage: clients --port C2S --pid SERVER --component D|--direct [--announce]\n"
	"               [--host H] [--password P] [--users N] [--implementers N]\n"
	"               [--outstanding N] [--round-trips N] [--warmup N] [--alone N]\n"
	"               -- COMMAND ARG...\n";

static unsigned long number(const char *s, unsigned long max)
{
	char *end;
	unsigned long v = strtoul(s, &end, 10);

	if (end == s || *end || v > max) {
		fprintf(stderr, "clients: '%s' is not a number up to %lu\n%s", s, max, usage);
		exit(64);
	}
	return v;
}

static void options(struct load *l, int argc, char **argv)
{
	enum {
		PORT,
		PID,
		COMPONENT,
		DIRECT,
		ANNOUNCE,
		HOST,
		PASSWORD,
		USERS,
		IMPLS,
		OUTSTANDING,
		ROUND_TRIPS,
		WARMUP,
		TRIPS_ALONE
	};
	static const struct option table[] = {
		{"port", required_argument, NULL, PORT},
		{"pid", required_argument, NULL, PID},
		{"component", required_argument, NULL, COMPONENT},
		{"direct", no_argument, NULL, DIRECT},
		{"announce", no_argument, NULL, ANNOUNCE},
		{"host", required_argument, NULL, HOST},
		{"password", required_argument, NULL, PASSWORD},
		{"users", required_argument, NULL, USERS},
		{"implementers", required_argument, NULL, IMPLS},
		{"outstanding", required_argument, NULL, OUTSTANDING},
		{"round-trips", required_argument, NULL, ROUND_TRIPS},
		{"warmup", required_argument, NULL, WARMUP},
		{"alone", required_argument, NULL, TRIPS_ALONE},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "+", table, NULL)) != -1) {
		switch (c) {
		case PORT:
			l->port = (unsigned)number(optarg, 65535);
			break;
		case PID:
			l->server.pid = (pid_t)number(optarg, 1 << 30);
			if (clock_getcpuclockid(l->server.pid, &l->server.clock) != 0)
				die("no process %s", optarg);
			break;
		case COMPONENT:
			l->component = optarg;
			break;
		case DIRECT:
			l->direct = true;
			break;
		case ANNOUNCE:
			l->announce = true;
			break;
		case HOST:
			l->host = optarg;
			break;
		case PASSWORD:
			l->password = optarg;
			break;
		case USERS:
			l->users = (unsigned)number(optarg, CLIENTS_MAX / 2);
			break;
		case IMPLS:
			l->implementers = (unsigned)number(optarg, CLIENTS_MAX / 2);
			break;
		case OUTSTANDING:
			l->outstanding = (unsigned)number(optarg, SLOTS_MAX);
			break;
		case ROUND_TRIPS:
			l->round_trips = number(optarg, 1000000000);
			break;
		case WARMUP:
			l->warmup = number(optarg, 1000000000);
			break;
		case TRIPS_ALONE:
			l->alone = number(optarg, 1000000000);
			break;
		default:
			fputs(usage, stderr);
			exit(64);
		}
	}
	if (!l->port || !l->server.pid || (!l->component && !l->direct) ||
		(l->announce && !l->component) || !l->users || !l->implementers ||
		!l->outstanding || optind == argc) {
		fputs(usage, stderr);
		exit(64);
	}
	l->program.argv = argv + optind;
}

int main(int argc, char **argv)
{
	static struct load l = {
		.host = "vhost.test",
		.password = "pw",
		.users = 8,
		.implementers = 3,
		.outstanding = 100,
		.round_trips = 20000,
		.warmup = 2000,
	};

	wire_program = "clients";
	signal(SIGPIPE, SIG_IGN);
	options(&l, argc, argv);
	l.slots = calloc(l.outstanding, sizeof *l.slots);
	if (!l.slots)
		die("out of memory");
	the_load = &l;
	at_death = program_kill;
	run(&l);
	report(&l);
	program_stop(&l);
	return 0;
}
