/* server/login.h - one connection to a server: as a component or as a user
 *
 * What programs with --domain and --jid share: the options, and one interface
 * behind which component.h (XEP-0114) or client.h (libstrophe) does the work.
 * One connection, made once: when it is lost it stays lost.
 *
 * With --jid, mind the CAVEAT of client.h: `from` proves nothing there.
 */
#ifndef OUTBOARD_SERVER_LOGIN_H
#define OUTBOARD_SERVER_LOGIN_H

#include "base/secret.h"
#include "loop/loop.h"
#include "xmpp/reader.h"
#include "server/limits.h"
#include "server/roundtrip.h"
#include "xmpp/writer.h"

#define LOGIN_TIMEOUT_MS 30000
#define LOGIN_MAX_QUEUE_BYTES (16 * 1024 * 1024)
#define LOGIN_COMPONENT_CONNECT "127.0.0.1:5347"

struct login_config {
	const char *domain; /* as a component: its domain */
	const char *jid;    /* as a user: user@domain[/resource] */
	const char *connect;
	struct secret secret, password;
	int tls; /* enum client_tls */
	const char *tls_ca;
	int64_t timeout_ms;	     /* until logged in */
	struct stream_limits limits; /* send_bytes -1: with jid, as the server says */
	enum reader_index index;     /* set by the program */
	bool from_is_read;	     /* set by the program: see client.h */
};

/* Defaults for all fields. */
#define LOGIN_CONFIG_INIT                                                                          \
	{                                                                                          \
		.secret = {.fd = -1, .credential = "component-secret"},                            \
		.password = {.fd = -1, .credential = "password"}, .timeout_ms = LOGIN_TIMEOUT_MS,  \
		.limits = STREAM_LIMITS_INIT(LOGIN_MAX_QUEUE_BYTES)                                \
	}

/* The options of a struct login_config. */
extern const struct opt login_options[];

struct login_ops {
	/* Logged in. address: the component's domain, or the user's full JID; lives as long as
	 * the login. */
	void (*up)(void *context, const char *address);
	/* iq, message or presence (refusal may be set). Do not close or free the login here. */
	void (*stanza)(void *context, const struct stanza *s);
	/* The login has failed, or the connection is lost, for good; called once. status is an exit
	 * status (see client.h and component.h); the reason has been logged. The owner may
	 * login_free() here. */
	void (*down)(void *context, int status);
};

struct login;

/* What is wrong with the combination of options, NULL if nothing: exactly one of domain and jid,
 * their secret, TLS options with a JID only. For opt_usage_error(). */
const char *login_check(const struct login_config *config);

/* Starts connecting. NULL after logging if that is impossible; *status says how. */
struct login *login_new(struct loop *loop, const struct login_config *config,
	const struct login_ops *ops, void *context, int *status);
void login_free(struct login *l);
bool login_is_component(const struct login *l);
/* Domain of the component, or bare JID of the user: normalised, known before `up`. */
const char *login_bare(const struct login *l);
/* The `from` of a stanza that has none: the component's domain. SPAN_NONE as a user, whose server
 * puts it in. */
struct span login_from(const struct login *l);
/* Room for output queues: limits.queue_bytes, but never less than a few of the largest stanzas. */
size_t login_queue_bytes(const struct login_config *config);
/* Stanzas appended here are sent at the end of the turn; NULL while not up. */
struct writer *login_writer(struct login *l);
bool login_congested(const struct login *l);
/* Answer a request that nobody in the program handles: a ping to a user with its result, all else
 * with an error. As a component that is wait/recipient-unavailable: the domain may have somebody
 * else in a moment. Nothing is done about what is no request. */
void login_refuse(struct login *l, const struct stanza *s);
/* Send the ping of a round trip (roundtrip.h) to the own address. WRITER_FULL while not up. */
enum writer_status login_roundtrip(struct login *l, struct roundtrip *trip);
/* Stop reading; counted. */
void login_pause(struct login *l);
void login_resume(struct login *l);
/* Send all that waits, close the stream in order, until deadline_ms at the latest; stanzas that
 * come meanwhile are handed over, but nothing can be sent. `down` is not called any more; then only
 * login_free(). EXIT_DONE if the server has taken it all (its own end tag came), EXIT_PROTOCOL if
 * it answered with a stream error that blames us, else EXIT_TEMPORARY. */
int login_close(struct login *l, int64_t deadline_ms);

#endif
