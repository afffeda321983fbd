/* json-to-stanza - XMPP stanzas from JSON, one object a line */
#include "base/opt.h"
#include "plumbing/json-tool.h"

static struct jsontool_config config = JSONTOOL_CONFIG_INIT;

static const struct opt options[] = {
	{"max-stanza-bytes", 0, OPT_BYTES, "BYTES", "largest stanza written (default 1M)",
		&config.service.limits.stanza_bytes, .min = 1024, .max = 1 << 30},
	{0},
};
static const struct opt limits[] = {
	{"line-bytes", 0, OPT_BYTES, NULL, "longest line read (default 16M)",
		&config.max_line_bytes, .min = 1024, .max = 1 << 30},
	{0},
};
static const char *const usage[] = {"[OPTION...]", NULL};
static const struct opt_program program = {
	.name = "json-to-stanza",
	.summary = "XMPP stanzas from JSON, one object a line",
	.usage = usage,
	.options = options,
	.limits = limits,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, opt_no_check, jsontool_to_stanzas);
}
