/* roster/fetch-tool.h - roster-fetch: names in, records out
 *
 * A name is read only when a job is free for it and the output drains. After SIGTERM or SIGINT no
 * more names are read, and those in hand are finished; a second signal ends the program at once.
 */
#ifndef OUTBOARD_ROSTER_FETCH_TOOL_H
#define OUTBOARD_ROSTER_FETCH_TOOL_H

#include "roster/fetch.h"

/* The longest line that is given back as the `user` of a bad-user record. */
#define FETCHTOOL_LINE_MAX_BYTES 65536

/* For opt_main(). The words of the check are valid until the next call. */
const char *fetchtool_check(const struct fetch_config *config);
int fetchtool_run(const struct fetch_config *config);

#endif
