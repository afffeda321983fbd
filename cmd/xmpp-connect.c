/* xmpp-connect - a server connection as standard input and output */
#include "plumbing/connect.h"
#include "base/opt.h"

static struct connect_config config = CONNECT_CONFIG_INIT;

static const struct opt options[] = {
	{"presence", 0, OPT_OPTIONAL, "SHOW",
		"send initial presence, with away, chat, dnd or xa if given; with --jid",
		&config.presence, .choices = "away|chat|dnd|xa"},
	{"wait", 'w', OPT_SECONDS, "SECONDS",
		"how long to wait for answers after end of input (default 30)", &config.wait_ms,
		.min = 0, .max = 86400000},
	{"stay", 0, OPT_FLAG, NULL, "stay connected when standard input has ended", &config.stay},
	{"check", 0, OPT_FLAG, NULL, "exit with 1 if a message comes back", &config.check},
	{"no-answers", 0, OPT_FLAG, NULL, "do not answer pings", &config.no_answers},
	{"auto-answer", 0, OPT_FLAG, NULL, "answer all requests without an answer after a second",
		&config.auto_answer},
	{"json", 0, OPT_FLAG, NULL, "read and write objects as stanza-to-json does, not stanzas",
		&config.json},
	{"ready-fd", 0, OPT_INT, "FD", "write a newline to this file descriptor when logged in",
		&config.ready_fd, .min = 0, .max = 65535},
	{.kind = OPT_ROWS, .rows = login_options, .target = &config.login},
	{0},
};

static const struct opt limits[] = {
	{"pending", 0, OPT_INT, NULL,
		"read no more while so many requests are unanswered (default 65536)",
		&config.max_pending, .min = 1, .max = 10000000},
	{.kind = OPT_ROWS, .rows = stream_limits, .target = &config.login.limits},
	{0},
};

static const char *const usage[] = {
	"--domain DOMAIN --secret-file FILE [OPTION...] [-- COMMAND [ARG...]]",
	"--jid JID --password-file FILE [OPTION...] [-- COMMAND [ARG...]]",
	NULL,
};

static const struct opt_program program = {
	.name = "xmpp-connect",
	.summary = "a server connection as standard input and output",
	.usage = usage,
	.options = options,
	.limits = limits,
	.stop_at_operand = true,
	.operand_complete = "command",
	.operands = &config.command,
	.holds_secrets = true,
};

int main(int argc, char **argv)
{
	return opt_main(&program, argc, argv, &config, connect_check, connect_run);
}
