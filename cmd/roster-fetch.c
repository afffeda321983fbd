/* roster-fetch - get rosters from a web application */
#include "roster/fetch-tool.h"
#include "base/opt.h"

static struct fetch_config config = FETCH_CONFIG_INIT;

static const struct opt options[] = {
	{"url", 'u', OPT_STRING, "URL", "where a roster is, with %s for the user's name",
		&config.url},
	{"host", 'H', OPT_STRING, "HOST", "the users' host, to know a user's own address by",
		&config.host},
	{"strict", 0, OPT_FLAG, NULL, "one bad contact makes the whole roster an error",
		&config.strict},
	{"keep", 'k', OPT_LIST, "JID|DOMAIN|*.DOMAIN",
		"contacts that roster-apply keeps: contacts whatever is said of them",
		&config.keep},
	{"allow-removals", 0, OPT_FLAG, NULL,
		"the records say that whatever is missing may be removed", &config.allow_removals},
	{"jobs", 'j', OPT_INT, "N", "most requests at once (default 16)", &config.jobs, .min = 1,
		.max = 1000},
	{"timeout", 'w', OPT_SECONDS, "SECONDS", "how long a request may take (default 30)",
		&config.timeout_ms, .min = 10, .max = 86400000},
	{"connect-timeout", 0, OPT_SECONDS, "SECONDS", "how long connecting may take (default 5)",
		&config.connect_timeout_ms, .min = 10, .max = 86400000},
	{"max-time", 0, OPT_SECONDS, "SECONDS",
		"how long all tries of a name may take (default twice --timeout)",
		&config.max_time_ms, .min = 10, .max = 86400000},
	{"max-contacts", 0, OPT_INT, "N", "most contacts of one roster (default 20000)",
		&config.max_contacts, .min = 1, .max = 10000000},
	{"max-bytes", 0, OPT_BYTES, "BYTES", "largest answer taken (default 8M)", &config.max_bytes,
		.min = 2, .max = 1 << 30},
	{"retry", 0, OPT_INT, "N",
		"tries after failed connections and status 429 and 503 (default 0)",
		&config.retries, .min = 0, .max = 1000},
	{"max-redirects", 0, OPT_INT, "N", "redirects followed (default 0)", &config.redirects,
		.min = 0, .max = 50},
	{"token-file", 't', OPT_STRING, "FILE", "file that holds a bearer token",
		&config.token.file, .complete = "file"},
	{"token-fd", 0, OPT_INT, "FD", "read the bearer token from this file descriptor",
		&config.token.fd, .min = 0, .max = 65535},
	{"basic-auth-file", 0, OPT_STRING, "FILE", "file that holds user:password",
		&config.login.file, .complete = "file"},
	{"unix-socket", 0, OPT_STRING, "PATH", "connect to this unix socket, whatever the URL",
		&config.unix_socket, .complete = "file"},
	{"header-file", 0, OPT_STRING, "FILE", "file with more header lines for each request",
		&config.headers.file, .complete = "file"},
	{"tls-ca", 0, OPT_STRING, "FILE", "certificates to trust instead of the system's",
		&config.tls_ca, .complete = "file"},
	{"tls-cert", 0, OPT_STRING, "FILE", "client certificate", &config.tls_cert,
		.complete = "file"},
	{"tls-key", 0, OPT_STRING, "FILE", "its key, not encrypted", &config.tls_key,
		.complete = "file"},
	{"cache", 0, OPT_STRING, "DIR", "keep answers here and ask only whether they still hold",
		&config.cache, .complete = "dir"},
	{0},
};
static const struct opt limits[] = {
	{"values", 0, OPT_INT, NULL, "most JSON values of one answer (default 400000)",
		&config.max_values, .min = 1, .max = 100000000},
	{0},
};
static const char *const usage[] = {"--url URL [OPTION...] [USER...]", NULL};
static const struct opt_program program = {
	.name = "roster-fetch",
	.summary = "get rosters from a web application",
	.usage = usage,
	.options = options,
	.limits = limits,
	.operands = &config.users,
	.holds_secrets = true,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, fetchtool_check, fetchtool_run);
}
