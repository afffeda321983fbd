/* roster-apply - make the rosters on a server what the records say */
#include "roster/apply-service.h"
#include "base/opt.h"

static struct applyservice_config config = APPLYSERVICE_CONFIG_INIT;

static const struct opt_words words[] = {
	{"connect", "the server's component port (default 127.0.0.1:5347)"},
	{"retries", "reconnects in a row before giving up, -1 for ever (default -1 with sockets, "
		    "else 0)"},
	{0},
};
static const struct opt options[] = {
	{"via", 0, OPT_CHOICE, "WAY", "privilege (XEP-0356) or ejabberd-api (default privilege)",
		&config.via, .choices = "privilege|ejabberd-api"},
	{"host", 'H', OPT_STRING, "HOST", "the users' domain", &config.host},
	{"on-behalf", 'b', OPT_FLAG, NULL,
		"send presence from users' addresses: changes are seen at once", &config.on_behalf},
	{"login-events", 'l', OPT_OPTIONAL, "all",
		"print an event when a user comes online ('all': at each available presence)",
		&config.login_events},
	{"api", 0, OPT_STRING, "URL", "ejabberd's HTTP API, such as http://127.0.0.1:5281/api",
		&config.api},
	{"token-file", 0, OPT_STRING, "FILE", "file that holds the API's bearer token",
		&config.token.file, .complete = "file"},
	{"dry-run", 'n', OPT_FLAG, NULL, "count the changes and make none", &config.dry_run},
	{"basic-auth-file", 0, OPT_STRING, "FILE",
		"file with user:password for the API, instead of a token", &config.login.file,
		.complete = "file"},
	{"tls-ca", 0, OPT_STRING, "FILE", "certificates to trust for the API", &config.tls_ca,
		.complete = "file"},
	{"also-host", 0, OPT_LIST, "HOST",
		"another host of the same server, where the other side is put back, too",
		&config.also_hosts},
	{"max-removals", 0, OPT_STRING, "N|P%|none",
		"most contacts of one user that are removed, or which part of more than 10 "
		"(default 50%)",
		&config.max_removals},
	{"max-contacts", 0, OPT_INT, "N", "most contacts of one record (default 20000)",
		&config.max_contacts, .min = 1, .max = 10000000},
	{"keep", 'k', OPT_LIST, "JID|DOMAIN|*.DOMAIN",
		"leave these contacts as they are, may be given several times", &config.keep},
	{"keep-group", 0, OPT_LIST, "NAME",
		"leave the contacts in this group as they are, may be given several times",
		&config.keep_groups},
	{"skip-user", 0, OPT_LIST, "NAME",
		"leave this user's roster as it is, may be given several times",
		&config.skip_users},
	{"jobs", 'j', OPT_INT, "N", "most users whose records are applied at once (default 16)",
		&config.jobs, .min = 1, .max = 10000},
	{"timeout", 'w', OPT_SECONDS, "SECONDS",
		"how long each answer of the server may take (default 60)", &config.timeout_ms,
		.min = 10, .max = 86400000},
	{"listen-unix", 0, OPT_STRING, "PATH", "take records from the clients of this unix socket",
		&config.listen_unix, .complete = "file"},
	{"unix-mode", 0, OPT_STRING, "MODE", "mode of that socket (default 0600)",
		&config.unix_mode},
	{.kind = OPT_ROWS, .rows = service_options, .target = &config.service, .words = words},
	{0},
};
static const struct opt limits[] = {
	{"values", 0, OPT_INT, NULL, "most JSON values of one record (default 400000)",
		&config.max_values, .min = 1, .max = 100000000},
	{"online", 0, OPT_INT, NULL, "most online sessions remembered (default 100000)",
		&config.max_online, .min = 1, .max = 100000000},
	{"waiting", 0, OPT_INT, NULL,
		"most records of a client that wait for an older one of the same user (default "
		"1024)",
		&config.max_waiting, .min = 1, .max = 100000000},
	{"record-bytes", 0, OPT_BYTES, NULL, "largest record read (default 16M)",
		&config.max_record_bytes, .min = 1024, .max = 1 << 30},
	{.kind = OPT_ROWS, .rows = stream_limits, .target = &config.service.limits},
	{0},
};
static const char *const usage[] = {
	"--host HOST --domain DOMAIN --secret-file FILE [OPTION...]",
	"--host HOST --via ejabberd-api --api URL [OPTION...]",
	NULL,
};
static const struct opt_program program = {
	.name = "roster-apply",
	.summary = "make the rosters on a server what the records say",
	.usage = usage,
	.options = options,
	.limits = limits,
	.holds_secrets = true,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, applyservice_check, applyservice_run);
}
