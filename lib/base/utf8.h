/* base/utf8.h - which bytes are characters (RFC 3629, XML 1.0 2.2) */
#ifndef OUTBOARD_BASE_UTF8_H
#define OUTBOARD_BASE_UTF8_H

#include "base/span.h"

/* Whether every character may stand in an XML 1.0 document (valid UTF-8, no control bytes
 * but TAB, LF, CR; no U+FFFE, U+FFFF). What comes from people must pass before it is escaped. */
bool utf8_xml_valid(struct span s);
/* How many bytes the character has that begins at p and is not ASCII; n > 0 bytes are there. 0: it
 * is none, or may not stand in XML. -1: it has more bytes than there are. */
int utf8_xml_character(const char *p, size_t n);

/* Length of the character (RFC 3629 4) at the front of s; 0 if there is none. */
size_t utf8_length(struct span s);

#endif
