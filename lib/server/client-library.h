/* server/client-library.h - libstrophe, started so that it cannot bring the program down
 *
 * libstrophe 0.14 follows a null pointer where its parser gets no memory, so its memory comes from
 * xmalloc(). It frees its tree by recursion, so the stack is made large enough for the deepest
 * stanza that servers let through.
 */
#ifndef OUTBOARD_SERVER_CLIENT_LIBRARY_H
#define OUTBOARD_SERVER_CLIENT_LIBRARY_H

#include <strophe.h>

/* Start the library; *log is borrowed. */
xmpp_ctx_t *client_library_start(const xmpp_log_t *log);
void client_library_end(xmpp_ctx_t *ctx);

#endif
