/* xmpp-delegate - have whole namespaces of a component handled by other entities */
#include "delegation/delegate-service.h"
#include "base/opt.h"

static struct delegateservice_config config = DELEGATESERVICE_CONFIG_INIT;

static const struct opt options[] = {
	{"delegate", 'D', OPT_LIST, "NS[ATTR,...]=JID",
		"namespace, attributes a payload must have, and the managing entity (may be given "
		"several times)",
		&config.delegations},
	{"config", 0, OPT_STRING, "FILE", "JSON file with all delegations", &config.config_file,
		.complete = "file"},
	{"identity", 0, OPT_LIST, "CAT/TYPE/NAME",
		"identity of the domain itself (may be given several times)", &config.identities},
	{"feature", 0, OPT_LIST, "FEATURE",
		"feature of the domain itself (may be given several times)", &config.features},
	{"delegation-version", 0, OPT_CHOICE, "N",
		"version of urn:xmpp:delegation the entities speak, 1 or 2 (default 2)",
		&config.version, .choices = "1|2"},
	{"timeout", 'w', OPT_SECONDS, "SECONDS", "how long a request may take (default 30)",
		&config.timeout_ms, .min = 10, .max = 86400000},
	{"try-timeout", 0, OPT_SECONDS, "SECONDS",
		"how long a managing client may show no life (default a third of --timeout)",
		&config.try_timeout_ms, .min = 0, .max = 86400000},
	{"json", 0, OPT_FLAG, NULL, "OTHERWISE reads and writes objects as of stanza-to-json",
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
	"--domain DOMAIN --delegate NS[ATTR,...]=JID [OPTION...] [-- OTHERWISE [ARG...]]",
	"--connect HOST:PORT --secret-file FILE --domain DOMAIN --config FILE [OPTION...] [-- "
	"OTHERWISE [ARG...]]",
	NULL,
};
static const struct opt_program program = {
	.name = "xmpp-delegate",
	.summary = "have whole namespaces of a component handled by other entities",
	.usage = usage,
	.options = options,
	.limits = limits,
	.stop_at_operand = true,
	.operand_complete = "command",
	.operands = &config.otherwise,
	.holds_secrets = true,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, delegateservice_check, delegateservice_run);
}
