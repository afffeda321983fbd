/* roster-refresh-listen - take a web application's word that rosters have changed */
#include "base/opt.h"
#include "roster/refresh-service.h"

static struct refreshservice_config config = REFRESHSERVICE_CONFIG_INIT;

static const struct opt options[] = {
	{"listen", 'l', OPT_LIST, "ADDR:PORT",
		"serve HTTP there, may be given several times (default 127.0.0.1:5280)",
		&config.listen, .complete = "host"},
	{"listen-unix", 'u', OPT_STRING, "PATH", "serve HTTP on this unix socket",
		&config.unix_path, .complete = "file"},
	{"unix", 0, OPT_STRING, "PATH", "the same: its name before 0.2", &config.unix_path,
		.hidden = true},
	{"unix-mode", 0, OPT_STRING, "MODE", "mode of that socket (default 0600)",
		&config.unix_mode},
	{"tls-cert", 0, OPT_STRING, "FILE", "PEM certificate chain: serve HTTPS instead",
		&config.cert, .complete = "file"},
	{"tls-key", 0, OPT_STRING, "FILE", "PEM file with its key", &config.key,
		.complete = "file"},
	{"host", 'H', OPT_STRING, "HOST", "the users' host: NAME@HOST is NAME", &config.host},
	{"allow-host", 0, OPT_LIST, "NAME",
		"another name of this machine that clients may use, may be given several times",
		&config.allow_hosts},
	{"allow-origin", 0, OPT_LIST, "SCHEME://HOST:PORT",
		"let pages of this origin read answers, may be given several times; needs a token",
		&config.allow_origins},
	{"token-file", 't', OPT_STRING, "FILE",
		"file that holds the bearer token to ask for, or two of them", &config.token.file,
		.complete = "file"},
	{"spool", 's', OPT_STRING, "DIR", "keep names there until they are done", &config.spool,
		.complete = "dir"},
	{"give-up", 0, OPT_SECONDS, "SECONDS",
		"how long a name in the spool is tried again (default 86400)", &config.give_up_ms,
		.min = 0, .max = 31536000000},
	{"timeout", 'w', OPT_SECONDS, "SECONDS", "how long an answer may take (default 60)",
		&config.timeout_ms, .min = 10, .max = 86400000},
	{"receive-timeout", 0, OPT_SECONDS, "SECONDS",
		"how long a request may take to become whole (default 10)", &config.receive_ms,
		.min = 10, .max = 86400000},
	{.kind = OPT_ROWS, .rows = daemon_options, .target = &config.service},
	{0},
};
static const struct opt limits[] = {
	{"body-bytes", 0, OPT_BYTES, NULL, "largest body read (default 1M)", &config.max_body_bytes,
		.min = 2, .max = 1 << 30},
	{"values", 0, OPT_INT, NULL, "most JSON values of one body (default 400000)",
		&config.max_values, .min = 1, .max = 100000000},
	{"header-bytes", 0, OPT_BYTES, NULL, "largest header read (default 16K)",
		&config.max_header_bytes, .min = 1024, .max = 1 << 24},
	{"connections", 0, OPT_INT, NULL, "most connections at once (default 256)",
		&config.max_connections, .min = 1, .max = 100000},
	{"pending", 0, OPT_INT, NULL, "most users that wait or are at work (default 65536)",
		&config.max_pending, .min = 1, .max = 100000000},
	{"record-bytes", 0, OPT_BYTES, NULL, "largest line read from WORKER (default 16M)",
		&config.max_record_bytes, .min = 1024, .max = 1 << 30},
	{0},
};
static const char *const usage[] = {
	"[OPTION...] [-- WORKER [ARG...]]",
	NULL,
};
static const struct opt_program program = {
	.name = "roster-refresh-listen",
	.summary = "take a web application's word that rosters have changed",
	.usage = usage,
	.options = options,
	.limits = limits,
	.stop_at_operand = true,
	.operand_complete = "command",
	.operands = &config.worker,
	.holds_secrets = true,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, refreshservice_check, refreshservice_run);
}
