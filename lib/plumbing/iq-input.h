/* plumbing/iq-input.h - standard input of xmpp-iq: stanzas, JSON objects, or addresses on lines
 *
 * The owner holds the input while there is no room for further requests, also from within a
 * callback: what has been read and not handed over waits then.
 */
#ifndef OUTBOARD_PLUMBING_IQ_INPUT_H
#define OUTBOARD_PLUMBING_IQ_INPUT_H

#include "loop/source.h"
#include "plumbing/iq.h"

struct input;

/* config and ops are borrowed. ops->line gets the lines of --each, and with --batch --json has to
 * call input_json_line(); ops->ended has to call input_end(). Callbacks come from the loop, from
 * input_resume() and input_read_rest(). */
struct input *input_new(struct loop *loop, const struct iq_config *config,
	const struct source_ops *ops, void *context);
/* NULL is fine. Not from a callback. */
void input_free(struct input *in);
void input_json_line(struct input *in, struct span line, size_t number);
/* Standard input has ended. */
void input_end(struct input *in);
/* Whether all has been handed over. */
bool input_over(const struct input *in);
/* Stop reading and handing over. */
void input_hold(struct input *in);
/* Hand over what waits, then read on. The callbacks may hold it once more. */
void input_resume(struct input *in);
/* Hand over all that can be read without waiting, whatever holds the input, and end. */
void input_read_rest(struct input *in);

#endif
