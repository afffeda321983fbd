/* json-to-stanza - XMPP stanzas from JSON, one object a line */
#include "base/err.h"
#include "plumbing/json-tool.h"

static struct jsontool_config config = JSONTOOL_CONFIG_INIT;

static const struct opt options[] = {
	{"max-line-bytes", 0, OPT_BYTES, "BYTES", "longest line read (default 16M)",
		&config.max_line_bytes, .min = 1024, .max = 1 << 30},
	{"max-stanza-bytes", 0, OPT_BYTES, "BYTES", "largest stanza written (default 1M)",
		&config.service.max_stanza_bytes, .min = 1024, .max = 1 << 30},
	{0},
};
static const struct opt *const tables[] = {options, NULL};
static const char *const usage[] = {"[OPTION...]", NULL};
static const struct opt_program program = {
	.name = "json-to-stanza",
	.summary = "XMPP stanzas from JSON, one object a line",
	.usage = usage,
	.tables = tables,
};

int main(int argc, char **argv)
{
	err_init(argv[0]);
	io_sanitise(true);
	if (opt_parse(&program, argc, argv) < argc)
		opt_usage_error(&program, "no operands are taken");
	return jsontool_to_stanzas(&config);
}
