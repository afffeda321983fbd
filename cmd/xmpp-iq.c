/* xmpp-iq - send an IQ and print its own reply */
#include "base/opt.h"
#include "plumbing/iq.h"

static struct iq_config config = IQ_CONFIG_INIT;

static const struct opt options[] = {
	{"to", 0, OPT_STRING, "JID", "address to ask (with --batch for stanzas without to)",
		&config.to},
	{"type", 0, OPT_CHOICE, "TYPE", "get (default) or set", &config.type, .choices = "get|set"},
	{"ping", 0, OPT_FLAG, NULL, "send a ping (XEP-0199)", &config.ping},
	{"disco-info", 0, OPT_FLAG, NULL, "ask for identity and features (XEP-0030)",
		&config.disco_info},
	{"disco-items", 0, OPT_FLAG, NULL, "ask for the items (XEP-0030)", &config.disco_items},
	{"node", 0, OPT_STRING, "NODE", "of this node, with --disco-info and --disco-items",
		&config.node},
	{"version-of", 0, OPT_FLAG, NULL, "ask for the software's version (XEP-0092)",
		&config.version_of},
	{"stanza", 0, OPT_FLAG, NULL, "print the whole reply, not its payload", &config.stanza},
	{"json", 0, OPT_FLAG, NULL,
		"print the whole reply as a JSON object (with --batch, read such, too)",
		&config.json},
	{"batch", 'b', OPT_FLAG, NULL, "read requests from standard input, print the reply to each",
		&config.batch},
	{"each", 0, OPT_FLAG, NULL, "read JIDs, send the payload to each, print JID, TAB, reply",
		&config.each},
	{"unordered", 'u', OPT_FLAG, NULL, "print replies as they come, with --batch and --each",
		&config.unordered},
	{"reply-timeout", 'w', OPT_SECONDS, "SECONDS",
		"how long a reply may take (default: as --timeout)", &config.reply_timeout_ms,
		.min = 10, .max = 86400000},
	{.kind = OPT_ROWS, .rows = login_options, .target = &config.login},
	{0},
};
static const struct opt limits[] = {
	{"pending", 0, OPT_INT, NULL,
		"most requests read and not answered in print, of many (default 1000)",
		&config.max_pending, .min = 1, .max = 1000000},
	{.kind = OPT_ROWS, .rows = stream_limits, .target = &config.login.limits},
	{0},
};
static const char *const usage[] = {
	"--domain DOMAIN --secret-file FILE --to JID [OPTION...] [PAYLOAD|-]",
	"--jid JID --password-file FILE --to JID [OPTION...] [PAYLOAD|-]",
	"--jid JID --password-file FILE --each [OPTION...] [PAYLOAD]",
	NULL,
};
static const struct opt_program program = {
	.name = "xmpp-iq",
	.summary = "send an IQ and print its own reply",
	.usage = usage,
	.options = options,
	.limits = limits,
	.operands = &config.payload,
	.holds_secrets = true,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, iq_check, iq_run);
}
