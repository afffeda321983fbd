/* share/key.h - three texts as one key of a table */
#ifndef OUTBOARD_SHARE_KEY_H
#define OUTBOARD_SHARE_KEY_H

#include "base/buf.h"

/* The key is made in *out, and valid until that changes. No address and no id holds a NUL. */
static inline struct span share_key(struct buf *out, struct span a, struct span b, struct span c)
{
	buf_reset(out);
	buf_append_span(out, a);
	buf_append_char(out, '\0');
	buf_append_span(out, b);
	buf_append_char(out, '\0');
	buf_append_span(out, c);
	return buf_span(out);
}

#endif
