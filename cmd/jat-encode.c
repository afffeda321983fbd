/* jat-encode - put addresses into tokens of a proxy's domain */
#include "jat/tool.h"
#include "base/opt.h"

static struct jattool_config config = JATTOOL_CONFIG_INIT(false, JAT_SEALED);

static const struct opt options[] = {
	{"encoding", 'e', OPT_CHOICE, "ENCODING", "sealed, signed or plain (default sealed)",
		&config.encoding, .choices = "sealed|signed|plain"},
	{"asked", 'a', OPT_STRING, "ADDRESS",
		"address of the proxy that was asked (default its bare domain)", &config.asked},
	{"create-key", 0, OPT_FLAG, NULL, "make the key file if it is missing", &config.create_key},
	{"stanza", 0, OPT_FLAG, NULL, "encode from of each stanza on standard input",
		&config.stanza},
	{.kind = OPT_ROWS, .rows = jattool_options, .target = &config},
	{0},
};

static const struct opt limits[] = {
	{.kind = OPT_ROWS, .rows = reader_limits, .target = &config.service.limits},
	{0},
};

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
	.options = options,
	.limits = limits,
	.operands = &config.operands,
	.holds_secrets = true,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, jattool_check, jattool_run);
}
