/* jat-encode - put addresses into tokens of a proxy's domain */
#include "base/err.h"
#include "jat/tool.h"
#include "base/opt.h"

static struct jattool_config config = JATTOOL_CONFIG_INIT;

static const struct opt own_options[] = {
	{"encoding", 'e', OPT_CHOICE, "ENCODING", "sealed, signed or plain (default sealed)",
		&config.encoding, .choices = "sealed|signed|plain"},
	{"asked", 'a', OPT_STRING, "ADDRESS",
		"address of the proxy that was asked (default its bare domain)", &config.asked},
	{"create-key", 0, OPT_FLAG, NULL, "make the key file if it is missing", &config.create_key},
	{"stanza", 0, OPT_FLAG, NULL, "encode from of each stanza on standard input",
		&config.stanza},
	{0},
};

static const struct opt tool_options[] = {JATTOOL_OPTIONS(config), {0}};

static const struct opt *const tables[] = {own_options, tool_options, NULL};

static const char *const usage[] = {
	"--domain DOMAIN --key-file FILE [OPTION...] [JID...]",
	"--domain DOMAIN --key-file FILE --stanza [OPTION...]",
	"--create-key --key-file FILE",
	NULL,
};

static const struct opt_program program = {
	.name = "jat-encode",
	.summary = "put addresses into tokens of a proxy's domain",
	.usage = usage,
	.tables = tables,
};

int main(int argc, char **argv)
{
	const char *wrong;
	int first, status;

	err_init(argv[0]);
	io_sanitise(true);
	io_no_core();
	first = opt_parse(&program, argc, argv);
	status = jattool_run(&config, argc - first, argv + first, &wrong);
	if (wrong)
		opt_usage_error(&program, "%s", wrong);
	if (status != EXIT_IO)
		io_close_stdout();
	return status;
}
