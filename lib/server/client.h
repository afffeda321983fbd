/* server/client.h - a client's login (RFC 6120, RFC 6121) through libstrophe
 *
 * libstrophe does TLS, SASL and resource binding. The addresses are looked up before, in a thread
 * (loop/lookup): the library would block. Its descriptor is watched by our loop, and
 * xmpp_run_once() is called with a zero timeout when there is something to do (its own loop would
 * sleep on pending TLS bytes). Stream management is not asked for: a command's session ends with
 * the command, the server must not keep it for a resumption that never comes. The server's
 * </stream:stream> tells that it has taken everything (client_close).
 *
 * TLS: the certificate must be valid for the JID's domain, wherever the
 * connection goes to. There is no switch against that. CLIENT_TLS_OFF works with
 * loopback addresses only; the address really connected to is looked at before
 * anything secret is sent.
 *
 * One login, no reconnection. The TLS handshake blocks inside the library: a
 * small thread cuts the connection at login_ms, whatever the peer does.
 *
 * CAVEAT: libstrophe may drop attribute prefixes while parsing, so that a
 * prefixed look-alike overwrites the stanza's real `from`. client_new() tests the
 * installed library and logs it once when affected. Nothing may be authorised by
 * the `from` of a stanza that came through here; match answers by ids that
 * nobody can guess. Of the prefixes only xml:lang is restored; comments, CDATA
 * and attribute order are gone: a stanza here is its infoset, not its bytes.
 */
#ifndef OUTBOARD_SERVER_CLIENT_H
#define OUTBOARD_SERVER_CLIENT_H

#include "base/secret.h"
#include "loop/loop.h"
#include "xmpp/reader.h"
#include "xmpp/writer.h"

enum client_tls { CLIENT_TLS_REQUIRED, CLIENT_TLS_DIRECT, CLIENT_TLS_OFF };

#define CLIENT_LOGIN_MS 30000
/* Servers that announce no limit take at least this much: Prosody, and ejabberd as Debian
 * configures it. */
#define CLIENT_SEND_BYTES ((size_t)262144)
#define CLIENT_MAX_QUEUE_BYTES (16 * 1024 * 1024)

struct client_config {
	const char *jid;     /* user@domain[/resource], as typed */
	const char *connect; /* HOST:PORT; NULL: SRV of the JID's domain */
	struct secret password;
	enum client_tls tls;
	const char *tls_ca; /* file with the only trusted certificates; NULL: the system's */
	struct reader_config reader; /* limits of incoming stanzas; kind is set by the module */
	/* See writer.h; 0 = none; -1: what the server says (XEP-0478), else CLIENT_SEND_BYTES */
	int64_t max_send_bytes;
	size_t max_queue_bytes; /* 0: CLIENT_MAX_QUEUE_BYTES */
	bool from_is_read;	/* a reader will use `from`: warn that it may be forged */
	int64_t login_ms;	/* from client_new() until up; 0: CLIENT_LOGIN_MS */
};

struct client_ops {
	/* logged in; bound_jid lives as long as the client */
	void (*up)(void *context, const char *bound_jid);
	/* iq, message or presence (refusal may be set); called from inside the library: do not
	 * close or free the client here */
	void (*stanza)(void *context, const struct stanza *s);
	/* Connection ended or could not be made; called once, logged already. status:
	 * EXIT_DENIED (credentials refused, no login mechanism in common), EXIT_UNAVAILABLE (no
	 * such host, refused), EXIT_PROTOCOL (TLS not offered, certificate or handshake refused;
	 * stream errors that say we or the peer broke the protocol), EXIT_CONFIG (the server does
	 * not serve the domain), EXIT_TIMED_OUT (login_ms), EXIT_TEMPORARY (lost, restarted,
	 * resource taken over). The owner may client_free() here. */
	void (*down)(void *context, int status);
};

struct client;

/* Reads the password and starts connecting. NULL after logging if that is impossible; *status is
 * EXIT_USAGE (not a JID of a user, not HOST:PORT), EXIT_CONFIG (password, CA file) or
 * EXIT_TEMPORARY. */
struct client *client_new(struct loop *loop, const struct client_config *config,
	const struct client_ops *ops, void *context, int *status);
/* Cuts the connection where client_close() was not called. */
void client_free(struct client *c);
/* Stanzas appended here are sent at the end of the turn; NULL while not up. */
struct writer *client_writer(struct client *c);
/* More than half of max_queue_bytes waits: producers should hold back. */
bool client_congested(const struct client *c);
/* Stop reading (nothing is asked of the socket but what sending needs, and the library reads up
 * to 4 KiB whenever it sends) until resumed. Counted; two pauses stop sending too. */
void client_pause(struct client *c);
void client_resume(struct client *c);
/* Send all that waits and </stream:stream>, hand over what still comes until the server's own;
 * until deadline_ms at the latest. `down` is not called any more; then only client_free().
 * EXIT_DONE if the server confirmed with its own end tag, else logged and EXIT_TEMPORARY, or what a
 * stream error says. */
int client_close(struct client *c, int64_t deadline_ms);

#endif
