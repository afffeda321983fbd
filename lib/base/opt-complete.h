/* base/opt-complete.h - completions for shells, written from the option table
 */
#ifndef OUTBOARD_BASE_OPT_COMPLETE_H
#define OUTBOARD_BASE_OPT_COMPLETE_H

#include "base/buf.h"
#include "base/opt.h"

/* Append the completion for "bash", "zsh" or "fish" to out; false for any other shell. */
bool opt_complete(const struct opt_program *program, const char *shell, struct buf *out);

#endif
