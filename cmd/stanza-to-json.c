/* stanza-to-json - XMPP stanzas as JSON, one object a line */
#include "base/err.h"
#include "plumbing/json-tool.h"

static struct jsontool_config config = JSONTOOL_CONFIG_INIT;

static const struct opt options[] = {
	{"max-stanza-bytes", 0, OPT_BYTES, "BYTES", "largest stanza (default 1M)",
		&config.service.max_stanza_bytes, .min = 1024, .max = 1 << 30},
	{"max-depth", 0, OPT_INT, "N", "deepest nesting (default 256)", &config.service.max_depth,
		.min = 2, .max = 500},
	{"max-attributes", 0, OPT_INT, "N", "most attributes of one element (default 256)",
		&config.service.max_attributes, .min = 8, .max = 100000},
	{0},
};
static const struct opt *const tables[] = {options, NULL};
static const char *const usage[] = {"[OPTION...]", NULL};
static const struct opt_program program = {
	.name = "stanza-to-json",
	.summary = "XMPP stanzas as JSON, one object a line",
	.usage = usage,
	.tables = tables,
};

int main(int argc, char **argv)
{
	err_init(argv[0]);
	io_sanitise(true);
	if (opt_parse(&program, argc, argv) < argc)
		opt_usage_error(&program, "no operands are taken");
	return jsontool_from_stanzas(&config);
}
