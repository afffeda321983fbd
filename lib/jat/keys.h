/* jat/keys.h - the key file of jat_keys: found, read, made
 *
 * What jat.h leaves out because it is pure. All reasons are logged; functions
 * return exit statuses.
 */
#ifndef OUTBOARD_JAT_KEYS_H
#define OUTBOARD_JAT_KEYS_H

#include "base/secret.h"
#include "jat/jat.h"

/* Without an option the key file is the credential "jat-keys". */
#define JATKEYS_SECRET_INIT                                                                        \
	{                                                                                          \
		.fd = -1, .credential = "jat-keys"                                                 \
	}

/* Read the keys (freed by jat_keys_free). NULL after logging: *status is that of
 * secret_read(), or EXIT_CONFIG for a malformed file. again: while the program serves. */
struct jat_keys *jatkeys_read(const struct secret *source, bool again, int *status);

/* Make the file with one random key, mode 0600, whole or not at all; one that exists already is
 * left alone. EXIT_DONE, EXIT_IO when the disk does not take it, EXIT_TEMPORARY when descriptors or
 * memory are short, else EXIT_CONFIG. */
int jatkeys_create(const char *path);

#endif
