/* stanza-to-json - XMPP stanzas as JSON, one object a line */
#include "base/opt.h"
#include "plumbing/json-tool.h"

static struct jsontool_config config = JSONTOOL_CONFIG_INIT;

static const struct opt options[] = {
	{"max-stanza-bytes", 0, OPT_BYTES, "BYTES", "largest stanza (default 1M)",
		&config.service.limits.stanza_bytes, .min = 1024, .max = 1 << 30},
	{0},
};
static const struct opt limits[] = {
	{"depth", 0, OPT_INT, NULL, "deepest nesting read (default 256)",
		&config.service.limits.depth, .min = 2, .max = 500},
	{"attributes", 0, OPT_INT, NULL, "most attributes of one element (default 256)",
		&config.service.limits.attributes, .min = 8, .max = 100000},
	{0},
};
static const char *const usage[] = {"[OPTION...]", NULL};
static const struct opt_program program = {
	.name = "stanza-to-json",
	.summary = "XMPP stanzas as JSON, one object a line",
	.usage = usage,
	.options = options,
	.limits = limits,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, opt_no_check, jsontool_from_stanzas);
}
