/* xmpp-message - send text as a message */
#include "base/opt.h"
#include "plumbing/message.h"

static struct message_config config = MESSAGE_CONFIG_INIT;

static const struct opt options[] = {
	{"to", 0, OPT_LIST, "JID", "address that gets the message (may be given several times)",
		&config.to},
	{"type", 0, OPT_CHOICE, "TYPE", "chat (default), headline or normal", &config.type,
		.choices = MESSAGE_TYPES},
	{"subject", 0, OPT_STRING, "TEXT", "its subject", &config.subject},
	{"lines", 'l', OPT_FLAG, NULL, "one message for each line of standard input",
		&config.lines},
	{"wait", 'w', OPT_SECONDS, "SECONDS",
		"how long to wait for what comes back later (default 0)", &config.wait_ms, .min = 0,
		.max = 86400000},
	{.kind = OPT_ROWS, .rows = login_options, .target = &config.login},
	{0},
};
static const struct opt limits[] = {
	{"body-bytes", 0, OPT_BYTES, NULL, "longest text of a message (default 1M)",
		&config.max_body_bytes, .min = 1, .max = 1 << 28},
	{.kind = OPT_ROWS, .rows = stream_limits, .target = &config.login.limits},
	{0},
};
static const char *const usage[] = {
	"--domain DOMAIN --secret-file FILE --to JID [OPTION...]",
	"--jid JID --password-file FILE --to JID [OPTION...]",
	NULL,
};
static const struct opt_program program = {
	.name = "xmpp-message",
	.summary = "send text as a message",
	.usage = usage,
	.options = options,
	.limits = limits,
	.holds_secrets = true,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, message_check, message_run);
}
