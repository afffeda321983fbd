/* delegation/announced.h - the namespaces that hosts have announced as delegated, and those missing
 *
 * A host that delegates says so after the handshake (XEP-0355 4.2). A namespace that is not
 * announced within some seconds is missing in the server's configuration: it is logged once, with
 * the lines that are missing there. Pure.
 */
#ifndef OUTBOARD_DELEGATION_ANNOUNCED_H
#define OUTBOARD_DELEGATION_ANNOUNCED_H

#include "delegation/manage.h"

struct announced;

/* What *config points to is borrowed until the end. */
struct announced *announced_new(const struct manage_config *config);
void announced_free(struct announced *a);
void announced_up(struct announced *a, int64_t now_ms);
/* `host` has announced that it delegates these. */
void announced_take(
	struct announced *a, struct span host, const struct xml_node *delegation, int64_t now_ms);
/* Whether s is the answer to the question whether the server answers anything at all. */
bool announced_answer(struct announced *a, const struct stanza *s);
void announced_tick(struct announced *a, struct turn *turn);
int64_t announced_deadline(const struct announced *a);

#endif
