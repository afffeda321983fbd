/* base/utf8.h - which bytes are characters (RFC 3629, XML 1.0 2.2) */
#ifndef OUTBOARD_BASE_UTF8_H
#define OUTBOARD_BASE_UTF8_H

#include "base/span.h"

/* Whether every character may stand in an XML 1.0 document (valid UTF-8, no control bytes
 * but TAB, LF, CR; no U+FFFE, U+FFFF). Text from users must pass this before it is escaped. */
bool utf8_xml_valid(struct span s);
/* Length of the character beyond ASCII that begins at p, where n > 0 bytes are. 0: it is no
 * character, or XML does not allow it. -1: it has more than n bytes. */
int utf8_xml_character(const char *p, size_t n);

/* Length of the character (RFC 3629 4) at the front of s; 0 if there is none. */
size_t utf8_length(struct span s);

#endif
