/* xmpp/disco.h - service discovery (XEP-0030) and its extended information (XEP-0128)
 *
 * What is announced for one address, as it stands in the answer to disco#info:
 * identities, features, forms.
 */
#ifndef OUTBOARD_XMPP_DISCO_H
#define OUTBOARD_XMPP_DISCO_H

#include "base/json.h"
#include "xmpp/writer.h"

struct disco_info {
	struct buf identities, forms; /* their elements as XML */
	char **features;	      /* vars, each once, owned */
	size_t features_count;
};

void disco_init(struct disco_info *info);
void disco_free(struct disco_info *info);
void disco_reset(struct disco_info *info);
/* A feature that is there already is not added again. */
void disco_add_feature(struct disco_info *info, struct span var);
/* "category/type/name"; the name may be absent and may hold slashes. False if category or type is
 * missing or a character cannot stand in XML. */
bool disco_add_identity(struct disco_info *info, struct span text);
/* {"identities":[{"category","type","name"} or
 * "c/t/n"],"features":["..."],"forms":[{"FORM_TYPE":"...", "field":"value" or ["value",...]}]}.
 * NULL, or what is wrong (static). */
const char *disco_add_json(struct disco_info *info, struct json_object *object);
struct disco_limits {
	size_t features, identities, bytes; /* bytes: of all as XML, about */
};
/* Take over identity, feature and form elements of a query element (an answer to disco#info). What
 * is over a limit is left out: false. */
bool disco_add_query(struct disco_info *info, const struct stanza *s, const struct xml_node *query,
	const struct disco_limits *limits);
void disco_add_all(struct disco_info *info, const struct disco_info *other);
/* Answer a query of a node (absent: none). */
enum writer_status disco_answer(const struct disco_info *info, const struct stanza *query,
	struct span node, struct writer *w);

#endif
