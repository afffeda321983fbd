/* roster/diff-tool.h - roster-diff: what changed between two files of records
 */
#ifndef OUTBOARD_ROSTER_DIFF_TOOL_H
#define OUTBOARD_ROSTER_DIFF_TOOL_H

struct difftool_config {
	char **files; /* OLD and NEW, NULL-ended; "-" is standard input */
};

/* For opt_main(): EXIT_DONE (equal), EXIT_NO (different), or what is wrong, after logging:
 * EXIT_DATA, EXIT_IO. */
const char *difftool_check(const struct difftool_config *config);
int difftool_run(const struct difftool_config *config);

#endif
