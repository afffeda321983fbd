/* stanza-to-json - XMPP stanzas as JSON, one object a line */
#include "base/opt.h"
#include "plumbing/json-tool.h"

static struct jsontool_config config = JSONTOOL_CONFIG_INIT;

static const struct opt options[] = {
	{"max-stanza-bytes", 0, OPT_BYTES, "BYTES", "largest stanza (default 1M)",
		&config.service.max_stanza_bytes, .min = 1024, .max = 1 << 30},
	{0},
};
static const struct opt limits[] = {
	READER_LIMITS(config.service, 500),
	{0},
};
static const struct opt *const limit_tables[] = {limits, NULL};
static const struct opt *const tables[] = {options, NULL};
static const char *const usage[] = {"[OPTION...]", NULL};
static const struct opt_program program = {
	.name = "stanza-to-json",
	.summary = "XMPP stanzas as JSON, one object a line",
	.usage = usage,
	.tables = tables,
	.limits = limit_tables,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, opt_no_check, jsontool_from_stanzas);
}
