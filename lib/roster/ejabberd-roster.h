/* roster/ejabberd-roster.h - the rosters in the answers of ejabberd's HTTP API
 *
 * Pure. get_roster answers with a list of {jid, nick, subscription, ask, group}; a contact in
 * several groups may be listed once for each.
 */
#ifndef OUTBOARD_ROSTER_EJABBERD_ROSTER_H
#define OUTBOARD_ROSTER_EJABBERD_ROSTER_H

#include "roster/roster.h"

/* The answer of get_roster, of any version. False: it is none. Free out in any case. */
bool ejabberd_roster_parse(struct span text, struct roster *out);
/* Split the item's groups at semicolons, as a server will that takes groups as one string;
 * otherwise the item would differ in each run. */
void ejabberd_groups_split(struct roster_item *item);

#endif
