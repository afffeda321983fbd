/* xmpp-jat-proxy - hand IQs sent to a component to the clients of another account */
#include "jat/service.h"
#include "base/opt.h"

static struct jatservice_config config = JATSERVICE_CONFIG_INIT;

static const struct opt options[] = {
	{"target", 't', OPT_LIST, "USER@DOMAIN[/RES]",
		"account, or one client of it, that implements the service (several share the "
		"load)",
		&config.targets},
	{"key-file", 'k', OPT_STRING, "FILE", "keys for sealed and signed addresses",
		&config.keys.file, .complete = "file"},
	{"encoding", 'e', OPT_CHOICE, "ENCODING", "sealed, signed or plain (default sealed)",
		&config.encoding, .choices = "sealed|signed|plain"},
	{"policy", 'p', OPT_CHOICE, "POLICY",
		"random, round-robin, least-pending or sticky (default random)", &config.policy,
		.choices = "random|round-robin|least-pending|sticky"},
	{"drain", 0, OPT_STRING, "SHOWS",
		"take sessions out of rotation that show one of xa, dnd, away", &config.drain},
	{"min-priority", 0, OPT_INT, "N",
		"take sessions of lower priority out of rotation (default -128)",
		&config.min_priority, .min = -128, .max = 127},
	{"messages", 'm', OPT_FLAG, NULL, "hand on messages, too", &config.messages},
	{"outbound-iq", 'o', OPT_FLAG, NULL, "let the clients send requests to users",
		&config.outbound_iq},
	{"show-presence", 0, OPT_OPTIONAL, "full",
		"accept subscriptions and show show and capabilities of the best session, and its "
		"status (full)",
		&config.show_presence, .choices = "full"},
	{"keep-item-jids", 0, OPT_FLAG, NULL,
		"leave the clients' own addresses in lists of items (disco#items)",
		&config.keep_item_jids},
	{"reply-domain", 0, OPT_STRING, "DOMAIN",
		"domain of this proxy alone for tokens, if several serve --domain",
		&config.reply_domain},
	{"timeout", 'w', OPT_SECONDS, "SECONDS", "how long a request may take (default 30)",
		&config.timeout_ms, .min = 10, .max = 86400000},
	{"try-timeout", 0, OPT_SECONDS, "SECONDS",
		"how long a session may show no life until others get its requests, 0 for ever "
		"(default a third of --timeout)",
		&config.try_timeout_ms, .min = 0, .max = 86400000},
	{"bounce-wait", 0, OPT_SECONDS, "SECONDS",
		"how long to wait for a bounce when a session leaves (default 1)",
		&config.bounce_wait_ms, .min = 0, .max = 3600000},
	{"state-dir", 0, OPT_STRING, "DIR",
		"folder for what outlives a crash (default $STATE_DIRECTORY)", &config.state_dir,
		.complete = "dir"},
	{.kind = OPT_ROWS, .rows = service_options, .target = &config.service},
	{0},
};
static const struct opt limits[] = {
	{.kind = OPT_ROWS, .rows = pending_limits, .target = &config.limits},
	{"sessions", 0, OPT_INT, NULL, "most sessions of the targets (default 1000)",
		&config.max_sessions, .min = 1, .max = 100000},
	{"subscribers", 0, OPT_INT, NULL,
		"most subscribers and conversations remembered (default 10000)",
		&config.max_subscribers, .min = 1, .max = 10000000},
	{"handles", 0, OPT_INT, NULL,
		"most addresses remembered that fit no encoding (default 10000)",
		&config.max_handles, .min = 1, .max = 10000000},
	{"marks", 0, OPT_INT, NULL,
		"most requests open and answered without a session in --timeout, with a state "
		"folder (default 262144)",
		&config.max_marks, .min = 1, .max = 10000000},
	{.kind = OPT_ROWS, .rows = stream_limits, .target = &config.service.limits},
	{0},
};
static const char *const usage[] = {
	"--domain DOMAIN --target USER@DOMAIN [OPTION...]",
	"--connect HOST:PORT --secret-file FILE --domain DOMAIN --target USER@DOMAIN [OPTION...]",
	NULL,
};
static const struct opt_program program = {
	.name = "xmpp-jat-proxy",
	.summary = "hand IQs sent to a component to the clients of another account",
	.usage = usage,
	.options = options,
	.limits = limits,
	.holds_secrets = true,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, jatservice_check, jatservice_run);
}
