/* xmpp-connect - a server connection as standard input and output */
#include "plumbing/connect.h"
#include "base/err.h"
#include "base/opt.h"

static struct connect_config config = CONNECT_CONFIG_INIT;

static const struct opt own_options[] = {
	{"presence", 0, OPT_OPTIONAL, "SHOW",
		"send initial presence, with away, chat, dnd or xa if given; with --jid",
		&config.presence, .choices = "away|chat|dnd|xa"},
	{"wait", 'w', OPT_SECONDS, "SECONDS",
		"how long to wait for answers after end of input (default 30)", &config.wait_ms,
		.min = 0, .max = 86400000},
	{"max-pending", 0, OPT_INT, "N",
		"read no more while so many requests are unanswered (default 65536)",
		&config.max_pending, .min = 1, .max = 10000000},
	{"json", 0, OPT_FLAG, NULL, "objects as of stanza-to-json instead of stanzas",
		&config.json},
	{"ready-fd", 0, OPT_INT, "FD", "write a newline to this file descriptor when logged in",
		&config.ready_fd, .min = 0, .max = 65535},
	{0},
};

static const struct opt login_options[] = {LOGIN_OPTIONS(config.login), {0}};

static const struct opt *const tables[] = {own_options, login_options, NULL};

static const char *const usage[] = {
	"--domain DOMAIN --secret-file FILE [OPTION...] [-- COMMAND [ARG...]]",
	"--jid JID --password-file FILE [OPTION...] [-- COMMAND [ARG...]]",
	NULL,
};

static const struct opt_program program = {
	.name = "xmpp-connect",
	.summary = "a server connection as standard input and output",
	.usage = usage,
	.tables = tables,
	.stop_at_operand = true,
	.operand_complete = "command",
};

int main(int argc, char **argv)
{
	const char *wrong;
	int first, status;

	err_init(argv[0]);
	io_sanitise(true);
	io_no_core();
	first = opt_parse(&program, argc, argv);
	if (first < argc)
		config.command = argv + first;
	wrong = connect_config_error(&config);
	if (wrong)
		opt_usage_error(&program, "%s", wrong);
	status = connect_run(&config);
	if (status != EXIT_IO && !config.command)
		io_close_stdout();
	return status;
}
