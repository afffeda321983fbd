/* jat-decode - take addresses out of tokens of a proxy's domain */
#include "jat/tool.h"
#include "base/opt.h"

static struct jattool_config config = JATTOOL_CONFIG_INIT(true, JATTOOL_BY_FORM);

static const struct opt options[] = {
	{"encoding", 'e', OPT_CHOICE, "ENCODING",
		"sealed, signed or plain (default sealed or signed, by the token)",
		&config.encoding, .choices = "sealed|signed|plain"},
	{"asked", 'a', OPT_FLAG, NULL, "print the address that was asked, too, after a TAB",
		&config.show_asked},
	{"stanza", 0, OPT_FLAG, NULL, "decode to of each stanza on standard input", &config.stanza},
	{.kind = OPT_ROWS, .rows = jattool_options, .target = &config},
	{0},
};

static const struct opt limits[] = {
	{.kind = OPT_ROWS, .rows = reader_limits, .target = &config.service.limits},
	{0},
};

static const char *const usage[] = {
	"--domain DOMAIN --key-file FILE [OPTION...] [ADDRESS...]",
	"--domain DOMAIN --key-file FILE --stanza [OPTION...]",
	NULL,
};

static const struct opt_program program = {
	.name = "jat-decode",
	.summary = "take addresses out of tokens of a proxy's domain",
	.usage = usage,
	.options = options,
	.limits = limits,
	.operands = &config.operands,
	.holds_secrets = true,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, jattool_check, jattool_run);
}
