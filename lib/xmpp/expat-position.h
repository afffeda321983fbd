/* xmpp/expat-position.h - expat's position in its input, as 64-bit numbers
 *
 * expat 2.9 deprecates the functions that return a long, which has 32 bits on some systems. The
 * Makefile finds out whether the header has their 64-bit successors.
 */
#ifndef OUTBOARD_XMPP_EXPAT_POSITION_H
#define OUTBOARD_XMPP_EXPAT_POSITION_H

#include <expat.h>
#include <stdint.h>

#ifndef EXPAT_POSITION_64
#define EXPAT_POSITION_64 0
#endif

/* Index of the first byte of the event being reported, -1 if there is none. */
static inline int64_t expat_index(XML_Parser parser)
{
#if EXPAT_POSITION_64
	return (int64_t)XML_GetCurrentByteIndex64(parser);
#else
	return XML_GetCurrentByteIndex(parser);
#endif
}

/* How many bytes of input that event has. */
static inline size_t expat_count(XML_Parser parser)
{
#if EXPAT_POSITION_64
	return (size_t)XML_GetCurrentByteCount64(parser);
#else
	return (size_t)XML_GetCurrentByteCount(parser);
#endif
}

#endif
