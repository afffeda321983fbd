/* xmpp-share - share one component out among several instances of it */
#include "base/opt.h"
#include "share/service.h"

static struct shareservice_config config = SHARESERVICE_CONFIG_INIT;

static const struct opt_words words[] = {
	{"connect", "the server's component port"},
	{"retries", "reconnects in a row before giving up, -1 for ever (default -1)"},
	{0},
};
static const struct opt options[] = {
	{"listen", 'l', OPT_SERVER, "ADDR:PORT", "where instances connect", &config.listen,
		.complete = "host"},
	{"listen-unix", 'u', OPT_STRING, "PATH", "the same, a unix socket", &config.listen_unix,
		.complete = "file"},
	{"instance-secret-file", 0, OPT_STRING, "FILE",
		"file that holds the secret of the instances (default that of --secret-file)",
		&config.instance_secret.file, .complete = "file"},
	{"policy", 'p', OPT_CHOICE, "POLICY",
		"random, round-robin, least-pending or sticky (default sticky)", &config.policy,
		.choices = "random|round-robin|least-pending|sticky"},
	{"sticky-by", 0, OPT_CHOICE, "WHOM",
		"what keeps to one instance: each sender or each recipient (default sender)",
		&config.sticky_by, .choices = "sender|recipient"},
	{"timeout", 'w', OPT_SECONDS, "SECONDS", "how long a request may take (default 30)",
		&config.timeout_ms, .min = 10, .max = 86400000},
	{"try-timeout", 0, OPT_SECONDS, "SECONDS",
		"how long an instance with a request may show no life, 0 for ever (default a third "
		"of --timeout)",
		&config.try_timeout_ms, .min = 0, .max = 86400000},
	{.kind = OPT_ROWS, .rows = service_options, .target = &config.service, .words = words},
	{0},
};
static const struct opt limits[] = {
	{"pending", 0, OPT_INT, NULL, "most open requests (default 65536)", &config.max_pending,
		.min = 1, .max = 10000000},
	{"pending-bytes", 0, OPT_BYTES, NULL, "most memory for open requests (default 64M)",
		&config.max_pending_bytes, .min = 4096, .max = INT64_C(1) << 40},
	{"user-pending", 0, OPT_SHARE, NULL,
		"most open requests of one user, a number or N% of pending (default 256)",
		&config.user_pending, .min = 1, .max = 10000000},
	{"domain-pending", 0, OPT_SHARE, NULL,
		"most open requests of one domain, a number or N% of pending (default 25%)",
		&config.domain_pending, .min = 1, .max = 10000000},
	{"trusted", 0, OPT_LIST, NULL, "a domain without these two bounds (repeatable)",
		&config.trusted},
	{"instances", 0, OPT_INT, NULL, "most instances (default 64)", &config.max_instances,
		.min = 1, .max = 1000},
	{"addresses", 0, OPT_INT, NULL,
		"most addresses remembered that instances sent presence to (default 100000)",
		&config.max_addresses, .min = 1, .max = 10000000},
	{.kind = OPT_ROWS, .rows = stream_limits, .target = &config.service.limits},
	{0},
};
static const char *const usage[] = {
	"--connect HOST:PORT --secret-file FILE --domain DOMAIN --listen ADDR:PORT [OPTION...]",
	"--connect HOST:PORT --secret-file FILE --domain DOMAIN --listen-unix PATH [OPTION...]",
	NULL,
};
static const struct opt_program program = {
	.name = "xmpp-share",
	.summary = "share one component out among several instances of it",
	.usage = usage,
	.options = options,
	.limits = limits,
	.holds_secrets = true,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, shareservice_check, shareservice_run);
}
