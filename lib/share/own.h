/* share/own.h - requests that the instances themselves send, and their answers
 *
 * Each leaves under an id that nobody can guess; its answer, from exactly the address asked, goes
 * to the instance that asked, under that instance's id. A request is kept for 10 minutes. Bounded:
 * 4096 an instance, and of the memory an instance has an eighth. Pure.
 */
#ifndef OUTBOARD_SHARE_OWN_H
#define OUTBOARD_SHARE_OWN_H

#include <sys/queue.h>

#include "base/random.h"
#include "share/outlet.h"
#include "xmpp/turn.h"

struct own;
struct own_request;
/* What an instance has asked; stands in its owner's record of the instance. Zeroed at first. */
struct own_asker {
	LIST_HEAD(, own_request) open;
	size_t count, bytes;
	struct outlet *outlet; /* borrowed */
};

/* random is copied. */
struct own *own_new(const struct random_source *random, const uint64_t seed[2]);
/* All askers are forgotten already. */
void own_free(struct own *o);

/* A get or set of an instance: on to the server, or refused to the instance. from is normalised.
 * True: it is on its way. */
bool own_ask(struct own *o, struct own_asker *asker, const struct stanza *stanza, struct span from,
	struct turn *turn);
/* The server has sent a result or error; false: nobody waits for it. */
bool own_answer(struct own *o, const struct stanza *stanza, struct turn *turn);
/* The instance is gone. */
void own_forget(struct own *o, struct own_asker *asker);

size_t own_count(const struct own *o);
void own_tick(struct own *o, struct turn *turn);
int64_t own_deadline(const struct own *o);

#endif
