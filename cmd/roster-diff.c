/* roster-diff - what changed between two files of rosters */
#include "roster/diff-tool.h"
#include "base/opt.h"

static struct difftool_config config;

static const struct opt options[] = {{0}};
static const char *const usage[] = {"[OPTION...] OLD NEW", NULL};
static const struct opt_program program = {
	.name = "roster-diff",
	.summary = "what changed between two files of rosters",
	.usage = usage,
	.options = options,
	.operand_complete = "file",
	.operands = &config.files,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, difftool_check, difftool_run);
}
