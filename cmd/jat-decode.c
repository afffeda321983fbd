/* jat-decode - take addresses out of tokens of a proxy's domain */
#include "base/err.h"
#include "jat/tool.h"
#include "base/opt.h"

static struct jattool_config config = JATTOOL_CONFIG_INIT;

static const struct opt own_options[] = {
	{"encoding", 'e', OPT_CHOICE, "ENCODING",
		"sealed, signed or plain (default sealed or signed, by the token)",
		&config.encoding, .choices = "sealed|signed|plain"},
	{"asked", 'a', OPT_FLAG, NULL, "print the address that was asked, too, after a TAB",
		&config.show_asked},
	{"stanza", 0, OPT_FLAG, NULL, "decode to of each stanza on standard input", &config.stanza},
	{0},
};

static const struct opt tool_options[] = {JATTOOL_OPTIONS(config), {0}};

static const struct opt *const tables[] = {own_options, tool_options, NULL};

static const char *const usage[] = {
	"--domain DOMAIN --key-file FILE [OPTION...] [ADDRESS...]",
	"--domain DOMAIN --key-file FILE --stanza [OPTION...]",
	NULL,
};

static const struct opt_program program = {
	.name = "jat-decode",
	.summary = "take addresses out of tokens of a proxy's domain",
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
	config.decode = true;
	if (!opt_given(&program, "encoding"))
		config.encoding = JATTOOL_BY_FORM;
	status = jattool_run(&config, argc - first, argv + first, &wrong);
	if (wrong)
		opt_usage_error(&program, "%s", wrong);
	if (status != EXIT_IO)
		io_close_stdout();
	return status;
}
