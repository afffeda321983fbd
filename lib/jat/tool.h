/* jat/tool.h - jat-encode and jat-decode: tokens on the command line, in lines, in stanzas
 *
 * Both programs are one translation applied to operands, to the lines of standard
 * input, or to an address of each stanza on it. What cannot be translated is
 * reported with its place and makes the exit status EXIT_DATA; the rest goes on.
 * All output for the input read so far is written before the program waits for more.
 *
 * Addresses in operands and lines were typed by people and are normalised first.
 * Those on stanzas are the server's: taken as they are.
 */
#ifndef OUTBOARD_JAT_TOOL_H
#define OUTBOARD_JAT_TOOL_H

#include "jat/keys.h"
#include "server/service.h"
#include "base/secret.h"

/* A line that is longer is no address. */
#define JATTOOL_LINE_MAX_BYTES 4096

#define JATTOOL_BY_FORM (-1)

struct jattool_config {
	struct service_config service; /* the domain, and the limits of --stanza */
	struct secret keys;
	int encoding;	 /* enum jat_encoding; decoding also JATTOOL_BY_FORM: sealed or signed */
	bool decode;	 /* jat-decode */
	bool stanza;	 /* translate `from` (encoding) or `to` (decoding) of stanzas */
	bool create_key; /* make a missing key file first; without a domain nothing else */
	const char *reply_domain; /* where tokens stand, if not at the domain */
	const char *asked;	  /* encoding: the address that was asked, as typed */
	bool show_asked;	  /* decoding: print it after the JID and a TAB */
	char **operands;	  /* NULL-ended; NULL: lines of standard input */
};

#define JATTOOL_CONFIG_INIT(is_decode, by_default)                                                 \
	{                                                                                          \
		.service = SERVICE_CONFIG_INIT, .keys = JATKEYS_SECRET_INIT,                       \
		.encoding = (by_default), .decode = (is_decode)                                    \
	}

/* The options of a struct jattool_config that both programs have. */
extern const struct opt jattool_options[];

/* For opt_main(). What is wrong with the keys has been logged. */
const char *jattool_check(const struct jattool_config *config);
int jattool_run(const struct jattool_config *config);

#endif
