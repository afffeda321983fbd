#include "server/client-trust.h"

#include <stdlib.h>

#include "base/err.h"

static char *copy_or_null(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

void client_trust_only(struct client_trust *t, const char *file)
{
	t->cert_file = copy_or_null(getenv("SSL_CERT_FILE"));
	t->cert_dir = copy_or_null(getenv("SSL_CERT_DIR"));
	t->changed = true;
	setenv("SSL_CERT_FILE", file, 1);
	setenv("SSL_CERT_DIR", "/dev/null", 1);
}

static void restore_variable(const char *name, char **saved)
{
	if (*saved)
		setenv(name, *saved, 1);
	else
		unsetenv(name);
	free(*saved);
	*saved = NULL;
}

void client_trust_restore(struct client_trust *t)
{
	if (!t->changed)
		return;
	restore_variable("SSL_CERT_FILE", &t->cert_file);
	restore_variable("SSL_CERT_DIR", &t->cert_dir);
	t->changed = false;
}
