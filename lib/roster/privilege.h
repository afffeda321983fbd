/* roster/privilege.h - rosters and presence through privileged entity (XEP-0356)
 *
 * A backend of apply.h: rosters are read and set by stanzas of a component that
 * the server has granted access (versions 1 and 2). Pure: stanzas and the time come in,
 * stanzas go out through a writer.
 *
 * Presence (on_behalf): the server must let the component send from its users'
 * addresses. A probe from X to Y is only sent when Y's roster has X with from or both: with any
 * other subscription Prosody would undo a pending request. Requests that a change has answered are
 * taken back. Only the server of the user that was asked knows a request, so the rosters of changed
 * contacts on the same host are read.
 */
#ifndef OUTBOARD_ROSTER_PRIVILEGE_H
#define OUTBOARD_ROSTER_PRIVILEGE_H

#include "base/random.h"
#include "roster/apply.h"
#include "xmpp/turn.h"

enum privilege_logins { LOGINS_NONE, LOGINS_NEW, LOGINS_ALL };

/* How long after the handshake the server may take to announce what it grants. */
#define PRIVILEGE_ADVERTISEMENT_MS 5000
/* Open requests of one job; the server handles them one after the other anyway. */
#define PRIVILEGE_PIPELINE 64
/* Requests that a job can have open: the pipeline, one behind it, and one that asks for the
 * server's version. */
#define PRIVILEGE_OPEN (PRIVILEGE_PIPELINE + 2)

struct privilege_config {
	struct span domain, host; /* the component's; the users' */
	bool rosters;		  /* rosters are set this way; else only presence is watched */
	bool on_behalf;		  /* send presence from users' addresses */
	bool read_only;		  /* --dry-run: the grant to read rosters is enough */
	enum privilege_logins logins;
	size_t max_pending, max_online;
	/* A user has come online. */
	void (*login)(void *context, struct span user);
	/* All that is needed is granted. */
	void (*ready)(void *context, struct turn *turn);
	/* The server does not grant what is needed, and what to configure was logged: the owner
	 * ends with EXIT_CONFIG. */
	void (*refused)(void *context);
	void *context;
	struct random_source random;
};

struct privilege;

/* *config is copied; what it points to is borrowed until the end. */
struct privilege *privilege_new(const struct privilege_config *config);
void privilege_free(struct privilege *p);
/* The backend to give to apply_backend_set(). */
struct apply_backend privilege_backend(struct privilege *p);
void privilege_up(struct privilege *p, struct turn *turn);
void privilege_down(struct privilege *p);
void privilege_stanza(struct privilege *p, const struct stanza *s, struct turn *turn);
void privilege_tick(struct privilege *p, struct turn *turn);
int64_t privilege_deadline(const struct privilege *p);
/* The server ended the stream because of an address we sent from: say what to configure. */
void privilege_invalid_from(const struct privilege *p);
size_t privilege_online(const struct privilege *p);

#endif
