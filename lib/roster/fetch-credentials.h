/* roster/fetch-credentials.h - what shows the web application that we may ask
 *
 * A token or a login, the lines of the header file, a client certificate. They are meant for the
 * origin of the configured URL: a request that a redirect has led to another (foreign) origin has
 * none of them.
 */
#ifndef OUTBOARD_ROSTER_FETCH_CREDENTIALS_H
#define OUTBOARD_ROSTER_FETCH_CREDENTIALS_H

#include <curl/curl.h>

#include "roster/fetch.h"

struct fetch_credentials {
	const struct fetch_config *config;
	struct buf token, login;
	/* of a request: with the lines of the header file, and without */
	struct curl_slist *headers, *foreign_headers;
};

/* Read the secrets, and see whether the files for TLS can be read. EXIT_DONE, or what is wrong
 * after logging; free c in any case. config is borrowed. */
int fetch_credentials_read(struct fetch_credentials *c, const struct fetch_config *config);
void fetch_credentials_free(struct fetch_credentials *c);
/* Set all of them but the headers. */
void fetch_credentials_set(const struct fetch_credentials *c, CURL *easy, bool foreign);

/* Whether two URLs have the same origin. *downgrade: `to` must not be followed, because it leads
 * away from https, or is neither http nor https. */
bool fetch_same_origin(const char *from, const char *to, bool *downgrade);

#endif
