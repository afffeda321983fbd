#include "share/service.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/holdings.h"
#include "base/random.h"
#include "loop/dial.h"
#include "loop/listen.h"
#include "share/instance.h"
#include "xmpp/jid.h"

/* How many connections may exist that have not proved yet that they know the secret. Of more, the
 * oldest of the address with the most is ended. */
#define MAX_UNPROVEN 32
/* What the kernel may keep for an instance that does not read: nobody has a share of it. */
#define UNSENT_BYTES (16 * 1024)
/* How long an instance that wants to leave, and has no open request, may take to end its stream
 * itself. */
#define LEAVE_MS 500

/* A connection, and its member of the hub once it is up. */
struct connection {
	LIST_ENTRY(connection) next;
	struct shareservice *owner;
	struct instance *instance;
	struct hub_member *member; /* NULL: not up yet, and so one of unproven */
	struct holding unproven;
	bool done;	 /* it wants to end */
	int64_t end_ms;	 /* by then at the latest */
	int64_t idle_ms; /* by then if nothing is open; or DEADLINE_NEVER */
};

struct shareservice {
	const struct shareservice_config *config;
	struct hub *hub;
	struct service *service;
	struct loop *loop;
	struct listen_socket *tcp, *unix_socket;
	LIST_HEAD(, connection) connections;
	size_t unproven, proven;
	struct holdings *addresses; /* of the unproven */
	struct buf domain, secret;
	struct jid_list trusted;
	struct random_numbers random;
	struct err_limit full;
	struct err_limits refused;
	struct loop_timer ending; /* the earliest end_ms */
};

/* Instances ----------------------------------------------------------------- */

static void connection_free(struct connection *c)
{
	LIST_REMOVE(c, next);
	free(c);
}

static void prove(struct shareservice *s, struct connection *c)
{
	holdings_remove(s->addresses, &c->unproven);
	s->unproven--;
}

static void leave(struct connection *c, const char *how)
{
	struct shareservice *s = c->owner;
	struct turn turn = service_turn(s->service);

	if (c->member) {
		err_note("instance %u %s", hub_number(c->member), how);
		hub_part(s->hub, c->member, &turn);
		s->proven--;
	} else {
		prove(s, c);
	}
	connection_free(c);
}

static void end(struct connection *c, const char *condition, const char *how)
{
	struct instance *i = c->instance;

	leave(c, how);
	instance_end(i, condition);
}

static void on_came(void *context, struct instance *i)
{
	struct connection *c = instance_owner(i);
	struct shareservice *s = context;
	struct turn turn = service_turn(s->service);

	if (s->proven == (size_t)s->config->max_instances) {
		err_log_limited(&s->full, loop_now_ms(s->loop), ERR_WARNING,
			"an instance is turned away: %zu are there (--limit instances)", s->proven);
		end(c, "resource-constraint", "has left");
		return;
	}
	prove(s, c);
	s->proven++;
	c->member = hub_join(s->hub, instance_writer(i), i, &turn);
	err_note("instance %u has come (%zu are there)", hub_number(c->member), s->proven);
}

static void on_stanza(void *context, struct instance *i, const struct stanza *stanza)
{
	static const char *const conditions[] = {
		[HUB_INVALID_FROM] = "invalid-from",
		[HUB_IMPROPER_ADDRESSING] = "improper-addressing",
		[HUB_UNSUPPORTED_STANZA_TYPE] = "unsupported-stanza-type",
	};
	struct shareservice *s = context;
	struct connection *c = instance_owner(i);
	struct turn turn = service_turn(s->service);
	enum hub_verdict verdict = hub_stanza_of(s->hub, c->member, stanza, &turn);

	if (verdict == HUB_TAKEN)
		return;
	err_warn("instance %u sent what a server would not take (%s): its stream is ended",
		hub_number(c->member), conditions[verdict]);
	end(c, conditions[verdict], "was sent away");
}

static void on_gone(void *context, struct instance *i)
{
	(void)context;
	leave(instance_owner(i), "has left");
}

static const struct instance_ops instance_ops = {
	.came = on_came, .stanza = on_stanza, .gone = on_gone};

static bool is_trusted_peer(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 &&
	       (peer.uid == geteuid() || peer.uid == 0);
}

/* Connections that say nothing may not keep instances out: the newest gets its chance. */
static void end_an_unproven(struct shareservice *s)
{
	struct holding *oldest = holdings_victim(s->addresses);

	err_log_limited(&s->full, loop_now_ms(s->loop), ERR_WARNING,
		"%zu connections have not proved yet that they are instances: the oldest is ended",
		s->unproven);
	end((struct connection *)((char *)oldest - offsetof(struct connection, unproven)),
		"policy-violation", "has left");
}

/* Note whose share the connection takes: its IP address, in IPv6 its network; a unix socket takes
 * none. */
static void note_unproven(struct shareservice *s, struct connection *c, int fd)
{
	struct sockaddr_storage peer = {0};
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&peer;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&peer;
	socklen_t n = sizeof(peer);
	struct span address = SPAN(""), network;

	if (getpeername(fd, (struct sockaddr *)&peer, &n) == 0 && peer.ss_family == AF_INET)
		address = (struct span){(const char *)&v4->sin_addr, sizeof(v4->sin_addr)};
	else if (peer.ss_family == AF_INET6)
		address = (struct span){(const char *)&v6->sin6_addr, sizeof(v6->sin6_addr)};
	network = address;
	if (peer.ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		network.n /= 2;
	holdings_add(s->addresses, &c->unproven, network, address);
	s->unproven++;
}

static void take(struct shareservice *s, int fd, bool bare_allowed)
{
	const struct stream_limits *limits = &s->config->service.limits;
	struct instance_config config = {.domain = buf_span(&s->domain),
		.secret = &s->secret,
		.random = {random_number, &s->random},
		.refused = &s->refused,
		.link = {.reader = limits_of_reader(limits, READER_SOCKET, READER_INDEX_CHILDREN),
			.max_queue_bytes = buf_bytes(limits->queue_bytes)},
		.bare_allowed = bare_allowed};
	struct connection *c;

	if (hub_is_draining(s->hub)) {
		close(fd);
		return;
	}
	dial_bound_unsent(fd, UNSENT_BYTES);
	if (s->unproven == MAX_UNPROVEN)
		end_an_unproven(s);
	c = xcalloc(1, sizeof(*c));
	c->owner = s;
	c->idle_ms = DEADLINE_NEVER;
	c->instance = instance_new(s->loop, fd, &config, &instance_ops, s);
	instance_own(c->instance, c);
	LIST_INSERT_HEAD(&s->connections, c, next);
	note_unproven(s, c, fd);
}

static void on_tcp(void *context, int fd)
{
	dial_tune(fd, 0);
	take(context, fd, false);
}

static void on_unix(void *context, int fd)
{
	struct shareservice *s = context;

	take(s, fd, !secret_given(&s->config->instance_secret) && is_trusted_peer(fd));
}

/* Turns ---------------------------------------------------------------------- */

static int64_t ends_ms(const struct connection *c)
{
	return c->idle_ms < c->end_ms ? c->idle_ms : c->end_ms;
}

/* End an instance that wants to leave, when no request is open, or after --drain-time. */
static void end_in_order(struct connection *c, int64_t now_ms)
{
	struct shareservice *s = c->owner;

	if (!c->done)
		c->end_ms = now_ms + s->config->service.drain_ms;
	c->done = true;
	if (hub_load(c->member) > 0)
		c->idle_ms = DEADLINE_NEVER;
	else if (c->idle_ms == DEADLINE_NEVER)
		c->idle_ms = now_ms + (hub_is_outdated(c->member) ? 0 : LEAVE_MS);
	if (ends_ms(c) <= now_ms)
		end(c, NULL,
			hub_is_outdated(c->member)
				? "is to connect again, because the server's stream is a new one"
				: "has left in order");
	else if (ends_ms(c) < s->ending.deadline_ms)
		loop_timer_set(s->loop, &s->ending, ends_ms(c));
}

static void on_turn(void *context)
{
	struct shareservice *s = context;
	/* What an instance writes stands before what others will write; alone it may fill the
	 * queue. */
	bool hold = service_congested(s->service) || (s->proven > 1 && service_blocked(s->service));
	struct connection *c = LIST_FIRST(&s->connections), *next;

	for (; c; c = next) {
		next = LIST_NEXT(c, next);
		if (!c->member)
			continue;
		instance_hold(c->instance, hold);
		if (hub_is_stuck(c->member))
			end(c, "resource-constraint", "does not read what it is sent");
		else if (hub_is_ending(c->member))
			end_in_order(c, loop_now_ms(s->loop));
	}
}

/* The turn's hook does the work; the timer only wakes the loop. */
static void on_ending(void *context)
{
	struct shareservice *s = context;
	struct connection *c;
	int64_t now_ms = loop_now_ms(s->loop), earliest_ms = DEADLINE_NEVER;

	LIST_FOREACH(c, &s->connections, next)
	if (c->done && ends_ms(c) > now_ms && ends_ms(c) < earliest_ms)
		earliest_ms = ends_ms(c);
	if (earliest_ms != DEADLINE_NEVER)
		loop_timer_set(s->loop, &s->ending, earliest_ms);
}

/* The service ------------------------------------------------------------------ */

static bool congested(void *context, void *port)
{
	(void)context;
	return instance_congested(port);
}

static void attach(void *context, struct service *service, struct loop *loop)
{
	struct shareservice *s = context;

	s->service = service;
	s->loop = loop;
	loop_timer_init(&s->ending, on_ending, s);
	loop_turn(loop, on_turn, s);
	listen_start(s->tcp, loop, on_tcp, s);
	listen_start(s->unix_socket, loop, on_unix, s);
	listen_say(s->tcp);
	listen_say(s->unix_socket);
}

static void detach(void *context)
{
	struct shareservice *s = context;
	struct connection *c;

	listen_stop(s->tcp);
	listen_stop(s->unix_socket);
	loop_turn_remove(s->loop, on_turn, s);
	loop_timer_clear(s->loop, &s->ending);
	while ((c = LIST_FIRST(&s->connections))) {
		/* the one before has left the list NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		struct instance *i = c->instance;

		if (c->member)
			hub_part(s->hub, c->member, &(struct turn){0});
		else
			prove(s, c);
		connection_free(c);
		instance_end(i, "system-shutdown");
	}
}

static const char secret_name[] = "the secret of the instances";

static const struct secret *instance_secret(const struct shareservice *s)
{
	return secret_given(&s->config->instance_secret) ? &s->config->instance_secret
							 : &s->config->service.secret;
}

static bool reload(void *context, struct turn *turn)
{
	struct shareservice *s = context;
	struct buf fresh;
	bool ok;

	(void)turn;
	if (secret_once(instance_secret(s)))
		return true;
	buf_init(&fresh, SECRET_MAX_BYTES);
	ok = secret_read_again(instance_secret(s), secret_name, &fresh) == EXIT_DONE;
	if (ok) {
		secret_trim(&fresh);
		secret_wipe(&s->secret);
		s->secret = fresh;
	} else {
		secret_wipe(&fresh);
	}
	return ok;
}

/* Configuration ---------------------------------------------------------------- */

const char *shareservice_check(const struct shareservice_config *config)
{
	if (!config->service.domain)
		return "--domain is needed";
	if (!jid_is_domain(config->service.domain))
		return "--domain is not a domain";
	if (!config->service.connect)
		return "--connect is needed";
	if (!secret_given(&config->service.secret))
		return "--connect needs --secret-file";
	if (!config->listen && !config->listen_unix && !getenv("LISTEN_FDS"))
		return "--listen or --listen-unix is needed";
	if (config->service.secret.fd >= 0 && !secret_given(&config->instance_secret))
		return "--secret-fd can be read once only: it needs --instance-secret-file";
	if (secret_once(&config->service.secret) && !secret_given(&config->instance_secret))
		return "a pipe as --secret-file can be read once only: it needs "
		       "--instance-secret-file";
	for (size_t i = 0; i < config->trusted.count; i++)
		if (!jid_is_domain(config->trusted.items[i]))
			return "--limit trusted= is not a domain";
	return NULL;
}

static size_t share_count(struct opt_share share, int64_t of)
{
	int64_t n = share.percent ? of * share.n / 100 : share.n;

	return n > 0 ? (size_t)n : 1;
}

static struct hub *make_hub(struct shareservice *s)
{
	const struct shareservice_config *config = s->config;

	return hub_new(&(struct hub_config){.domain = buf_span(&s->domain),
		.policy = (enum balance_policy)config->policy,
		.sticky_by = (enum hub_key)config->sticky_by,
		.timeout_ms = config->timeout_ms,
		.try_timeout_ms = config->try_timeout_ms < 0 ? config->timeout_ms / 3
							     : config->try_timeout_ms,
		.max_addresses = (size_t)config->max_addresses,
		.pending = {.max = (size_t)config->max_pending,
			.max_bytes = buf_bytes(config->max_pending_bytes),
			.user_max = share_count(config->user_pending, config->max_pending),
			.domain_max = share_count(config->domain_pending, config->max_pending),
			.trusted = s->trusted.jids,
			.trusted_count = s->trusted.count},
		.congested = congested,
		.random = {random_number, &s->random}});
}

static int open_listeners(struct shareservice *s)
{
	const struct shareservice_config *config = s->config;
	int status = EXIT_DONE;

	if (config->listen)
		status = listen_open_tcp(config->listen, &s->tcp);
	if (status == EXIT_DONE && (config->listen_unix || !config->listen))
		status = listen_open(config->listen_unix, NULL, &s->unix_socket);
	if (status == EXIT_DONE && !listen_all_local(s->tcp))
		err_warn("--listen takes instances from beyond this machine in cleartext "
			 "(stunnel is a way out)");
	return status;
}

static void shareservice_free(struct shareservice *s)
{
	hub_free(s->hub);
	holdings_free(s->addresses);
	listen_free(s->tcp);
	listen_free(s->unix_socket);
	jid_list_free(&s->trusted);
	secret_wipe(&s->secret);
	buf_free(&s->domain);
}

int shareservice_run(const struct shareservice_config *config)
{
	struct shareservice s = {.config = config};
	struct service_config service = config->service;
	struct service_hooks hooks = {
		.context = &s, .reload = reload, .attach = attach, .detach = detach};
	int status;

	LIST_INIT(&s.connections);
	buf_init(&s.domain, BUF_NO_MAX);
	buf_init(&s.secret, SECRET_MAX_BYTES);
	jid_normalise_domain(span_of(config->service.domain), &s.domain);
	jid_list_domains(&s.trusted, config->trusted.items, config->trusted.count);
	status = secret_read(instance_secret(&s), secret_name, &s.secret);
	secret_trim(&s.secret);
	if (status == EXIT_DONE)
		status = open_listeners(&s);
	if (status == EXIT_DONE) {
		s.hub = make_hub(&s);
		s.addresses = holdings_new(
			(const uint64_t[2]){random_number(&s.random), random_number(&s.random)});
		service.index = READER_INDEX_CHILDREN; /* payloads are handed on */
		status = service_run(&service, &hub_ops, s.hub, &hooks);
	}
	shareservice_free(&s);
	return status;
}
