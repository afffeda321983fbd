/* plumbing/iq-input.h - standard input of xmpp-iq: stanzas, JSON objects, or addresses on lines
 *
 * The owner holds the input while there is no room for further requests, also from within a
 * callback: what has been read and not handed over waits then.
 */
#ifndef OUTBOARD_PLUMBING_IQ_INPUT_H
#define OUTBOARD_PLUMBING_IQ_INPUT_H

#include "loop/source.h"
#include "plumbing/iq.h"

struct input_ops {
	/* --batch: any stanza */
	void (*stanza)(void *context, const struct stanza *s);
	/* --each: the address on a line, without the blanks around it; never empty */
	void (*address)(void *context, struct span address, size_t line);
	void (*bad)(void *context, const char *what, size_t line);
	/* Standard input could not be read. `over` comes next. */
	void (*failed)(void *context, int error);
	/* All has been handed over; called once. */
	void (*over)(void *context);
};

struct input;

/* config is borrowed. Callbacks come from the loop, from input_resume() and input_read_rest(). */
struct input *input_new(struct loop *loop, const struct iq_config *config,
	const struct input_ops *ops, void *context);
/* NULL is fine. Not from a callback. */
void input_free(struct input *in);
/* Stop reading and handing over. */
void input_hold(struct input *in);
bool input_held(const struct input *in);
/* Hand over what waits, then read on. The callbacks may hold it once more. */
void input_resume(struct input *in);
/* Hand over all that can be read without waiting, whatever holds the input, and end. */
void input_read_rest(struct input *in);

#endif
