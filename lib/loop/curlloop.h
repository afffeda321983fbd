/* loop/curlloop.h - libcurl's multi interface in our loop
 *
 * Invariants: transfers run in the one loop (no threads of ours, no waiting), and `done` is called
 * from the loop, never from curlloop_add(). An easy handle belongs to its owner; between
 * curlloop_add() and done (or curlloop_remove()) it must not be changed. Out of memory in libcurl
 * ends the program, as xmalloc() does.
 */
#ifndef OUTBOARD_LOOP_CURLLOOP_H
#define OUTBOARD_LOOP_CURLLOOP_H

#include <curl/curl.h>

#include "base/secret.h"
#include "loop/loop.h"

struct curlloop;

/* A transfer is over; its handle is already out of the multi handle, so that it may be used for
 * the next one at once. */
typedef void curlloop_done_fn(void *context, CURL *easy, CURLcode code);

/* connections: most at once, and most kept open for the next request. */
struct curlloop *curlloop_new(
	struct loop *loop, size_t connections, curlloop_done_fn *done, void *context);
/* All handles must have been removed. */
void curlloop_free(struct curlloop *c);
void curlloop_add(struct curlloop *c, CURL *easy);
/* Give it up: done will not be called. Harmless if it was not added. */
void curlloop_remove(struct curlloop *c, CURL *easy);

/* curl_easy_setopt() with its result checked: a failure means that the library was built without
 * the feature, or that memory has run out. */
#define CURLLOOP_SET(easy, option, value)                                                          \
	curlloop_must(curl_easy_setopt(easy, option, value), #option)
void curlloop_must(CURLcode code, const char *what);

/* A handle with the options that all of ours have: private (CURLOPT_PRIVATE), and the certificates
 * to trust, or NULL. */
CURL *curlloop_easy(void *private, const char *tls_ca);
/* Append a line to a list of headers. */
void curlloop_header(struct curl_slist **list, const char *line);
/* Whether it was TLS that failed: certificates, keys, the handshake. */
bool curlloop_is_tls(CURLcode code);
/* Use no proxy of the environment for a URL that leads to this machine: the proxy would see what is
 * meant for nobody else, and would reach the loopback of its own machine. */
void curlloop_spare_loopback(CURL *easy, const char *url);
/* The one line user:password of a file; empty if none is given. EXIT_DONE, or what is wrong after
 * logging. Wipe login afterwards. */
int curlloop_login_read(const struct secret *secret, struct buf *login);

#endif
