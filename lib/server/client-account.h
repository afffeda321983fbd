/* server/client-account.h - the account that a client logs in to, in the forms that it is needed in
 */
#ifndef OUTBOARD_SERVER_CLIENT_ACCOUNT_H
#define OUTBOARD_SERVER_CLIENT_ACCOUNT_H

#include <stdbool.h>

/* At first all NULL. */
struct client_account {
	char *jid, *domain; /* normalised */
	char *alabels;	    /* of the domain; NULL: it is ASCII */
};

/* The address of a user, as typed. False: it is none, or libstrophe could not send it; nothing is
 * logged. */
bool client_account_set(struct client_account *a, const char *typed);
void client_account_free(struct client_account *a);

#endif
