/* The same cases for the lexer without vector instructions, whatever this processor has. */
#ifndef NO_SIMD
#define NO_SIMD
#endif

#include "../../lib/xmpp/lexer.c"

#include "lexer.c"
