/* roster/diff-tool.h - roster-diff: what changed between two files of records
 */
#ifndef OUTBOARD_ROSTER_DIFF_TOOL_H
#define OUTBOARD_ROSTER_DIFF_TOOL_H

/* Compare; "-" is standard input. Returns EXIT_DONE (equal), EXIT_NO (different), or what is wrong,
 * after logging: EXIT_DATA, EXIT_IO. Does not close standard output. */
int difftool_run(const char *old, const char *new);

#endif
