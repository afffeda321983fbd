/*
 * Fuzz target: delegations as they are written: JSON when the first byte is 'j', else an option.
 *
 * Asserted: accepted input has a namespace and an entity for each rule, and a refusal has a
 * message; rules that pass all checks can be given to the decisions.
 */
#include "delegation/delegate-service.h"
#include "xmpp/jid.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static uint64_t no_random(void *context)
{
	(void)context;
	return 4;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	const struct span text = {(const char *)bytes + 1, n ? n - 1 : 0};
	struct delegate_rules rules;
	const char *wrong;
	struct buf key;
	size_t at = 0;

	if (n == 0)
		return 0;
	delegate_rules_init(&rules);
	buf_init(&key, BUF_NO_MAX);
	wrong = bytes[0] == 'j' ? delegate_rules_json(&rules, text, &key)
				: delegate_rules_option(&rules, text);
	REQUIRE(!wrong || *wrong);
	for (size_t i = 0; i < rules.count && !wrong; i++) {
		struct jid jid;

		REQUIRE(rules.list[i].ns.p && jid_split(rules.list[i].entity, &jid));
		for (size_t j = 0; j < rules.list[i].attributes_count; j++)
			REQUIRE(rules.list[i].attributes[j].n > 0);
	}
	if (!wrong)
		wrong = delegate_rules_wrong(rules.list, rules.count, SPAN("host.test"), &at);
	if (!wrong) {
		struct disco_info own;
		const struct delegate_config config = {.domain = SPAN("host.test"),
			.version = 2,
			.own = &own,
			.timeout_ms = 1000,
			.pending.max = 1000,
			.pending.max_bytes = 1000000,
			.random = {no_random, NULL}};
		struct delegate *d = delegate_new(&config);

		disco_init(&own);
		delegate_rules(d, rules.list, rules.count, &(struct turn){.now_ms = 0});
		delegate_rules(d, rules.list, rules.count / 2, &(struct turn){.now_ms = 1});
		delegate_free(d);
		disco_free(&own);
	} else {
		REQUIRE(at <= rules.count);
	}
	delegate_rules_free(&rules);
	buf_free(&key);
	return 0;
}
