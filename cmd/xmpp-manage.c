/* xmpp-manage - answer for a server: be the managing entity of delegated namespaces */
#include "delegation/manage-service.h"
#include "base/opt.h"

static struct manageservice_config config = MANAGESERVICE_CONFIG_INIT;

static const struct opt options[] = {
	{"host", 'H', OPT_LIST, "HOST", "host that delegates to us (may be given several times)",
		&config.hosts},
	{"namespace", 'n', OPT_CALL, "NS", "namespace to serve (may be given several times)",
		&config, .call = manageservice_namespace},
	{"feature", 0, OPT_CALL, "FEATURE",
		"announced for the host, of the --namespace before it (default the namespace)",
		&config, .call = manageservice_feature},
	{"bare-feature", 0, OPT_CALL, "FEATURE",
		"announced for the accounts, of the --namespace before it (default the namespace)",
		&config, .call = manageservice_bare_feature},
	{"identity", 0, OPT_CALL, "CAT/TYPE/NAME",
		"announced for the host, of the --namespace before it", &config,
		.call = manageservice_identity},
	{"disco", 0, OPT_STRING, "FILE", "JSON file with all that is announced", &config.disco_file,
		.complete = "file"},
	{"per-request", 'p', OPT_FLAG, NULL, "run HANDLER once for each request",
		&config.per_request},
	{"jobs", 'j', OPT_INT, "N", "most handlers at once with --per-request (default 8)",
		&config.jobs, .min = 1, .max = 10000},
	{"timeout", 'w', OPT_SECONDS, "SECONDS", "how long a request may take (default 25)",
		&config.timeout_ms, .min = 10, .max = 86400000},
	{"handler-requests", 0, OPT_FLAG, NULL,
		"let the handler send requests to the hosts and their accounts",
		&config.handler_requests},
	{"handler-messages", 0, OPT_OPTIONAL, "users",
		"let the handler send messages from DOMAIN, or also from the hosts' users",
		&config.handler_messages, .choices = "users"},
	{"json", 0, OPT_FLAG, NULL, "the handler reads and writes objects as of stanza-to-json",
		&config.json},
	{.kind = OPT_ROWS, .rows = service_options, .target = &config.service},
	{0},
};
static const struct opt limits[] = {
	{.kind = OPT_ROWS, .rows = pending_limits, .target = &config.limits},
	{.kind = OPT_ROWS, .rows = stream_limits, .target = &config.service.limits},
	{0},
};
static const char *const usage[] = {
	"--connect HOST:PORT --secret-file FILE --domain DOMAIN --host HOST --namespace NS "
	"[OPTION...] [-- HANDLER [ARG...]]",
	"--domain DOMAIN --host HOST --namespace NS [OPTION...] -- HANDLER [ARG...]",
	NULL,
};
static const struct opt_program program = {
	.name = "xmpp-manage",
	.summary = "answer for a server: be the managing entity of delegated namespaces",
	.usage = usage,
	.options = options,
	.limits = limits,
	.stop_at_operand = true,
	.operand_complete = "command",
	.operands = &config.handler,
	.holds_secrets = true,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, manageservice_check, manageservice_run);
}
