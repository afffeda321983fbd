/* client.h - a client's login (RFC 6120, RFC 6121) through libstrophe
 *
 * libstrophe does SRV, TLS, SASL, resource binding and stream management; its
 * descriptor is watched by our loop, and xmpp_run_once() is called with a zero
 * timeout when there is something to do (its own loop would sleep on pending
 * TLS bytes).
 *
 * CAVEAT: libstrophe may drop attribute prefixes while parsing, so that a
 * prefixed look-alike overwrites the stanza's real `from`. client_new() tests the
 * installed library and logs it once when affected. Nothing may be authorised by
 * the `from` of a stanza that came through here; match answers by ids that
 * nobody can guess.
 */
#ifndef OUTBOARD_CLIENT_H
#define OUTBOARD_CLIENT_H

#include "io.h"
#include "loop.h"
#include "reader.h"
#include "writer.h"

enum client_tls { CLIENT_TLS_REQUIRED, CLIENT_TLS_DIRECT, CLIENT_TLS_OFF };

struct client_config {
	const char *jid;     /* user@domain[/resource] */
	const char *connect; /* HOST:PORT; NULL: SRV of the JID's domain */
	struct io_secret password;
	enum client_tls tls;
	const char *tls_ca; /* file with trusted certificates; NULL: the system's */
	struct reader_config reader;
	size_t max_queue_bytes;
};

struct client_ops {
	void (*up)(void *context, const char *bound_jid);
	void (*stanza)(void *context, const struct stanza *s);
	/* connection ended or could not be made; status is an exit status (EXIT_DENIED for
	 * refused credentials, EXIT_UNAVAILABLE, EXIT_PROTOCOL, EXIT_TEMPORARY ...); logged already
	 */
	void (*down)(void *context, int status);
};

struct client;

struct client *client_new(struct loop *loop, const struct client_config *config,
	const struct client_ops *ops, void *context, int *status);
void client_free(struct client *c);
/* Stanzas appended here are sent at the end of the turn; NULL while not up. */
struct writer *client_writer(struct client *c);
bool client_congested(const struct client *c);
/* Close the stream in order, wait until deadline. */
void client_close(struct client *c, int64_t deadline_ms);
/* Whether the installed library lets prefixed attributes overwrite plain ones. */
bool client_library_affected(void);

#endif
