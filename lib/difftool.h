/* difftool.h - roster-diff: what changed between two files of records
 */
#ifndef OUTBOARD_DIFFTOOL_H
#define OUTBOARD_DIFFTOOL_H

/* Compare; "-" is standard input. Returns EXIT_DONE (equal), EXIT_NO (different), or what is wrong,
 * after logging: EXIT_DATA, EXIT_IO. Does not close standard output. */
int difftool_run(const char *old, const char *new);

#endif
