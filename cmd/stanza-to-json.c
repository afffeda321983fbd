/* stanza-to-json - XMPP stanzas as JSON, one object a line */
#include "err.h"
#include "jsontool.h"

static struct jsontool_config config = JSONTOOL_CONFIG_INIT;

static const struct opt options[] = {JSONTOOL_OPTIONS(config), {0}};
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
