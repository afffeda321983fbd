/* server/client-trust.h - trust the certificates of a file instead of the system's
 *
 * libstrophe always loads OpenSSL's default certificates; variables of the environment say where
 * those are. They are changed for the time of the login.
 */
#ifndef OUTBOARD_SERVER_CLIENT_TRUST_H
#define OUTBOARD_SERVER_CLIENT_TRUST_H

#include <stdbool.h>

/* What the environment was; at first all 0. */
struct client_trust {
	char *cert_file, *cert_dir;
	bool changed;
};

void client_trust_only(struct client_trust *t, const char *file);
/* Put the environment back, if it has been changed. */
void client_trust_restore(struct client_trust *t);

#endif
