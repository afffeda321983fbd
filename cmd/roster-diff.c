/* roster-diff - what changed between two files of rosters */
#include <string.h>

#include "roster/diff-tool.h"
#include "base/err.h"
#include "base/io.h"
#include "base/opt.h"

static const struct opt options[] = {{0}};
static const struct opt *const tables[] = {options, NULL};
static const char *const usage[] = {"[OPTION...] OLD NEW", NULL};
static const struct opt_program program = {
	.name = "roster-diff",
	.summary = "what changed between two files of rosters",
	.usage = usage,
	.tables = tables,
	.operand_complete = "file",
};

int main(int argc, char **argv)
{
	int first, status;

	err_init(argv[0]);
	io_sanitise(true);
	first = opt_parse(&program, argc, argv);
	if (argc - first != 2)
		opt_usage_error(&program, "OLD and NEW are needed");
	if (strcmp(argv[first], "-") == 0 && strcmp(argv[first + 1], "-") == 0)
		opt_usage_error(&program, "only one of OLD and NEW can be standard input");
	status = difftool_run(argv[first], argv[first + 1]);
	if (status != EXIT_IO)
		io_close_stdout();
	return status;
}
