#include "check.h"
#include "child.h"
#include "base/err.h"
#include "base/opt.h"

#include <fcntl.h>

struct inner {
	int64_t before, small;
};
static struct values {
	bool flag;
	int count, mode;
	const char *domain, *file, *maybe;
	int64_t retries, bytes, wait_ms;
	struct inner inner;
	struct opt_list list;
	int64_t pending, bytes_limit;
	struct opt_share share;
	struct opt_list trusted;
} o;

static const char *called(void *target, const char *value)
{
	(void)target;
	printf("call(%s)\n", value ? value : "NULL");
	return value && strcmp(value, "bad") == 0 ? "so it is" : NULL;
}

/* Rows of a shared table have an offset in a struct, or a target of their own. */
static const struct opt inner[] = {
	{"small", 0, OPT_INT, "N", "from zero", .at = offsetof(struct inner, small)},
	{0},
};
static const struct opt_words own_words[] = {
	{"retries", "how often (default -1)"},
	{"small", "from nought"},
	{0},
};
static const struct opt shared[] = {
	{"retries", 0, OPT_INT, "N", "how often", .at = offsetof(struct values, retries), .min = -1,
		.max = 9},
	{.kind = OPT_ROWS, .rows = inner, .at = offsetof(struct values, inner)},
	{"bytes", 'b', OPT_BYTES, "BYTES", "how much", &o.bytes},
	{"wait", 'w', OPT_SECONDS, "SECONDS", "how long", &o.wait_ms, .min = 100, .max = 90000},
	{"list", 'l', OPT_LIST, "WORD", "more words", &o.list},
	{"mode", 0, OPT_CHOICE, NULL, "what to do", &o.mode, .choices = "get|set|getset"},
	{"call", 'c', OPT_CALL, "WORD", "call with it", NULL, .call = called, .complete = "dir"},
	{"call-flag", 'C', OPT_CALL, NULL, "call", NULL, .call = called},
	{0},
};
static const struct opt own[] = {
	{"flag", 'f', OPT_FLAG, NULL, "a flag", &o.flag},
	{"count", 'n', OPT_COUNT, NULL, "one more", &o.count},
	{"uncount", 0, OPT_COUNT, NULL, "two less", &o.count, .min = -2},
	{"domain", 'd', OPT_STRING, "DOMAIN", "the component's own [domain]: this", &o.domain,
		.complete = "host"},
	{"secret-file", 's', OPT_STRING, "FILE", "file", &o.file, .complete = "file"},
	{"maybe", 'm', OPT_OPTIONAL, "WORD", "perhaps a word", &o.maybe},
	{"secret", 0, OPT_FLAG, NULL, "hidden", &o.flag, .hidden = true},
	{.kind = OPT_ROWS, .rows = shared, .target = &o, .words = own_words},
	{0},
};
static const struct opt more_limits[] = {
	{"share", 0, OPT_SHARE, NULL, "of each", &o.share, .min = 2, .max = 500},
	{"trusted", 0, OPT_LIST, NULL, "no share for it", &o.trusted},
	{0},
};
static const struct opt some_limits[] = {
	{"pending", 0, OPT_INT, NULL, "most requests (default 7)", &o.pending, .min = 1, .max = 9},
	{"queue-bytes", 0, OPT_BYTES, NULL, "most bytes", &o.bytes_limit, .min = 1, .max = 9000},
	{.kind = OPT_ROWS, .rows = more_limits},
	{0},
};
static const char *const usage[] = {"[-fn] [OPERAND...]", "--list WORD", NULL};
static struct opt_program program = {"prog", "try options", usage, own, some_limits};

/* A command line in one string, split at spaces; '' is an empty argument. */
static struct child parse(const char *line);

static void parse_in_child(void *context)
{
	char *argv[20] = {"prog"}, *line = context, *rest = NULL;
	int argc = 1;
	for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		argv[argc++] = strcmp(word, "''") == 0 ? word + 2 : word;
	err_init(argv[0]);
	o.retries = -7;
	o.mode = -1;
	int first = opt_parse(&program, argc, argv);
	if (o.flag)
		printf("flag ");
	if (o.count)
		printf("count=%d ", o.count);
	if (o.domain)
		printf("domain=%s ", o.domain);
	if (o.file)
		printf("file=%s ", o.file);
	if (o.maybe)
		printf("maybe=%s ", o.maybe);
	if (o.retries != -7)
		printf("retries=%" PRId64 " ", o.retries);
	if (o.inner.small)
		printf("small=%" PRId64 " ", o.inner.small);
	if (o.bytes)
		printf("bytes=%" PRId64 " ", o.bytes);
	if (o.wait_ms)
		printf("wait=%" PRId64 " ", o.wait_ms);
	if (o.mode != -1)
		printf("mode=%d ", o.mode);
	if (o.pending)
		printf("pending=%" PRId64 " ", o.pending);
	if (o.bytes_limit)
		printf("queue=%" PRId64 " ", o.bytes_limit);
	if (o.share.n)
		printf("share=%" PRId64 "%s ", o.share.n, o.share.percent ? "%" : "");
	for (size_t i = 0; i < o.trusted.count; i++)
		printf("trusted=%s ", o.trusted.items[i]);
	free(o.trusted.items);
	for (size_t i = 0; i < o.list.count; i++)
		printf("list=%s ", o.list.items[i]);
	free(o.list.items);
	if (err_shows(ERR_INFO))
		printf("info ");
	printf("|");
	for (int i = first; i < argc; i++)
		printf(" '%s'", argv[i]);
}

static struct child parse(const char *line)
{
	char *copy = strdup(line);
	struct child c = child_run(parse_in_child, copy);
	free(copy);
	return c;
}

static void good_lines(void)
{
	static const char *const cases[][2] = {
		{"", "|"},
		{"a b", "| 'a' 'b'"},
		{"-", "| '-'"},
		{"-f", "flag |"},
		{"--flag a", "flag | 'a'"},
		{"a --flag b -n c", "flag count=1 | 'a' 'b' 'c'"},
		{"a -- --flag -n", "| 'a' '--flag' '-n'"},
		{"-- --", "| '--'"},
		{"-fnn", "flag count=2 |"},
		{"-nnn --uncount", "count=1 |"},
		{"--domain x", "domain=x |"},
		{"--domain=x=y", "domain=x=y |"},
		{"-dx", "domain=x |"},
		{"-d x y", "domain=x | 'y'"},
		{"-fdx", "flag domain=x |"},
		{"-fd x", "flag domain=x |"},
		{"-d -f", "domain=-f |"},
		{"-d --", "domain=-- |"},
		{"-d x -d y", "domain=y |"},
		{"--maybe", "maybe= |"},
		{"--maybe x", "maybe= | 'x'"},
		{"--maybe=x", "maybe=x |"},
		{"-m x", "maybe= | 'x'"},
		{"-mx", "maybe=x |"},
		{"-mf", "maybe=f |"},
		{"-fm", "flag maybe= |"},
		{"--secret", "flag |"},
		{"--retries -1", "retries=-1 |"},
		{"--retries=9", "retries=9 |"},
		{"--retries=0", "retries=0 |"},
		{"--small 9223372036854775807", "small=9223372036854775807 |"},
		{"-b 10", "bytes=10 |"},
		{"-b 10K", "bytes=10240 |"},
		{"-b 3m", "bytes=3145728 |"},
		{"-b 1G", "bytes=1073741824 |"},
		{"-b 8589934591G", "bytes=9223372035781033984 |"},
		{"-w 2.5", "wait=2500 |"},
		{"-w 0.1", "wait=100 |"},
		{"-w 90", "wait=90000 |"},
		{"-w 1.234", "wait=1234 |"},
		{"-la -l b --list=c --list d", "list=a list=b list=c list=d |"},
		{"--mode get", "mode=0 |"},
		{"--mode=set", "mode=1 |"},
		{"--mode=getset", "mode=2 |"},
		{"--call x -cy -C --call-flag", "call(x)\ncall(y)\ncall(NULL)\ncall(NULL)\n|"},
		{"-v", "info |"},
		{"-vq", "|"},
		{"--verbose --verbose --quiet", "info |"},
		{"--log-format text", "|"},
		{"--limit pending=3", "pending=3 |"},
		{"--limit=pending=3 a --limit pending=4", "pending=4 | 'a'"},
		{"--limit queue-bytes=2K", "queue=2048 |"},
		{"--limit share=25%", "share=25% |"},
		{"--limit share=25", "share=25 |"},
		{"--limit share=100% --limit share=500", "share=500 |"},
		{"--limit trusted=a --limit trusted=b=c", "trusted=a trusted=b=c |"},
		{"--max-pending 3", "pending=3 |"},
		{"--max-pending=3", "pending=3 |"},
		{"--max-queue-bytes 8K", "queue=8192 |"},
		{"--max-share 1%", "share=1% |"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct child c = parse(cases[i][0]);
		check_name = cases[i][0];
		CHECK_EQ_STR(c.out, cases[i][1]);
		CHECK_EQ_STR(c.err, "");
		CHECK_EQ_INT(c.status, 0);
		child_free(&c);
	}
}

static void wrong_lines(void)
{
	static const char *const cases[][2] = {
		{"--nope", "unknown option '--nope'"},
		{"--limit nope=1", "no limit is called 'nope'"},
		{"--limit max-pending=1", "no limit is called 'max-pending'"},
		{"--limit =1", "no limit is called ''"},
		{"--limit pending", "limit 'pending' needs a value"},
		{"--limit pending=", "limit 'pending' needs a value"},
		{"--limit", "option '--limit' needs a value"},
		{"--limit pending=10", "invalid value '10' for limit pending: not between 1 and 9"},
		{"--limit share=0%", "invalid value '0%' for limit share: not between 1% and 100%"},
		{"--limit share=101%",
			"invalid value '101%' for limit share: not between 1% and 100%"},
		{"--limit share=5%%",
			"invalid value '5%%' for limit share: not between 1% and 100%"},
		{"--limit share=-5%", "invalid value '-5%' for limit share: not a whole number"},
		{"--limit share=1", "invalid value '1' for limit share: not between 2 and 500"},
		{"--limit share=x", "invalid value 'x' for limit share: not a number"},
		{"--max-pending 10", "invalid value '10' for limit pending: not between 1 and 9"},
		{"--max-nope 1", "unknown option '--max-nope'"},
		{"--max- 1", "unknown option '--max-'"},
		{"--max-pending", "option '--max-pending' needs a value"},
		{"--nope=x", "unknown option '--nope'"},
		{"---flag", "unknown option '---flag'"},
		{"--=x", "unknown option '--'"},
		{"--fla", "unknown option '--fla'"},
		{"--flagx", "unknown option '--flagx'"},
		{"--call-", "unknown option '--call-'"},
		{"--FLAG", "unknown option '--FLAG'"},
		{"-x", "unknown option '-x'"},
		{"-fx", "unknown option '-x'"},
		{"-f-", "unknown option '--'"},
		{"--flag=x", "option '--flag' takes no value"},
		{"--flag=", "option '--flag' takes no value"},
		{"--help=x", "option '--help' takes no value"},
		{"--domain", "option '--domain' needs a value"},
		{"--domain=", "option '--domain' needs a value"},
		{"--domain ''", "option '--domain' needs a value"},
		{"--maybe=", "option '--maybe' needs a value"},
		{"--call=", "option '--call' needs a value"},
		{"-d", "option '-d' needs a value"},
		{"-d ''", "option '-d' needs a value"},
		{"-fd", "option '-d' needs a value"},
		{"--retries -2", "invalid value '-2' for --retries: not between -1 and 9"},
		{"--retries 10", "invalid value '10' for --retries: not between -1 and 9"},
		{"--retries 1x", "invalid value '1x' for --retries: not a whole number"},
		{"--retries 1.0", "invalid value '1.0' for --retries: not a whole number"},
		{"--retries +1", "invalid value '+1' for --retries: not a number"},
		{"--retries 0x1", "invalid value '0x1' for --retries: not a whole number"},
		{"--retries -", "invalid value '-' for --retries: not a number"},
		{"--retries=x", "invalid value 'x' for --retries: not a number"},
		{"--retries=\t1", "invalid value '?1' for --retries: not a number"},
		{"--small -1", "invalid value '-1' for --small: less than 0"},
		{"--small 9223372036854775808",
			"invalid value '9223372036854775808' for --small: too large"},
		{"-b -1", "invalid value '-1' for --bytes: not a number"},
		{"-b 1T", "invalid value '1T' for --bytes: not a number of bytes (K, M and G are "
			  "1024s)"},
		{"-b 1KB", "invalid value '1KB' for --bytes: not a number of bytes (K, M and G are "
			   "1024s)"},
		{"-b K", "invalid value 'K' for --bytes: not a number"},
		{"-b 8589934592G", "invalid value '8589934592G' for --bytes: too large"},
		{"-w 0.099", "invalid value '0.099' for --wait: not between 0.100 and 90"},
		{"-w 90.001", "invalid value '90.001' for --wait: not between 0.100 and 90"},
		{"-w 1.2345", "invalid value '1.2345' for --wait: finer than milliseconds"},
		{"-w 1.", "invalid value '1.' for --wait: not a number of seconds"},
		{"-w .5", "invalid value '.5' for --wait: not a number"},
		{"-w 1s", "invalid value '1s' for --wait: not a number of seconds"},
		{"-w 9223372036854775", "invalid value '9223372036854775' for --wait: not between "
					"0.100 and 90"},
		{"-w 9223372036854775.9",
			"invalid value '9223372036854775.9' for --wait: too large"},
		{"-w 9223372036854776", "invalid value '9223372036854776' for --wait: too large"},
		{"--mode ge", "invalid value 'ge' for --mode: not one of: get set getset"},
		{"--mode get|set",
			"invalid value 'get|set' for --mode: not one of: get set getset"},
		{"--log-format yaml", "invalid value 'yaml' for --log-format: not text or json"},
		{"--completion csh", "no completion for shell 'csh'"},
		{"--nope --help", "unknown option '--nope'"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct child c = parse(cases[i][0]);
		char want[200];
		check_name = cases[i][0];
		snprintf(want, sizeof want, "prog: %s\nprog: try 'prog --help'\n", cases[i][1]);
		CHECK_EQ_STR(c.err, want);
		CHECK_EQ_STR(c.out, "");
		CHECK_EQ_INT(c.status, EXIT_USAGE);
		child_free(&c);
	}
	struct child c = parse("-c bad");
	CHECK_EQ_STR(c.err, "prog: invalid value 'bad' for --call: so it is\n"
			    "prog: try 'prog --help'\n");
	CHECK_EQ_INT(c.status, EXIT_USAGE);
	child_free(&c);
}

/* Any mix of words is parsed or refused with the two lines, and operands keep their order. */
static void any_words(void)
{
	static const char *const words[] = {"--flag", "-f", "-n", "-fn", "--domain", "-d", "-dx",
		"--domain=x", "--domain=", "''", "--maybe", "--maybe=y", "-m", "-my", "--retries",
		"--retries=3", "-1", "12", "-b", "4K", "-w", "2.5", "--list", "-l", "--mode=set",
		"--mode", "get", "--", "-", "a", "b", "--nope", "-x", "--=", "---", "-v", "-q",
		"--log-format=json", "--log-format", "text"};
	srand(11);
	for (int i = 0; i < 1500; i++) {
		char line[200] = "";
		for (int n = rand() % 7; n > 0; n--) {
			size_t at = strlen(line);
			snprintf(line + at, sizeof line - at, "%s ",
				words[(size_t)rand() % (sizeof words / sizeof *words)]);
		}
		struct child c = parse(line);
		check_name = line;
		int lines = 0;
		for (const char *s = c.err; *s; s++)
			lines += *s == '\n';
		if (c.status == 0) {
			CHECK_EQ_STR(c.err, "");
			/* the operands stand on the command line in this order */
			char *operand = strchr(c.out, '|'), *rest = NULL;
			const char *from = line;
			REQUIRE(operand);
			for (operand = strtok_r(operand + 1, " ", &rest); operand;
				operand = strtok_r(NULL, " ", &rest)) {
				if (strcmp(operand, "''") != 0) {
					operand[strlen(operand) - 1] = '\0';
					operand++;
				}
				from = strstr(from, operand);
				REQUIRE(from);
				from += strlen(operand);
			}
		} else {
			CHECK_EQ_INT(c.status, EXIT_USAGE);
			CHECK_EQ_INT(lines, 2);
			CHECK(strstr(c.err, "try 'prog --help'"));
		}
		child_free(&c);
	}
	check_name = __func__;
}

static void stop_at_the_first_operand(void)
{
	program.stop_at_operand = true;
	static const char *const cases[][2] = {
		{"-f run -f --nope", "flag | 'run' '-f' '--nope'"},
		{"-f -- -f", "flag | '-f'"},
		{"-f run -- x", "flag | 'run' '--' 'x'"},
		{"- -f", "| '-' '-f'"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct child c = parse(cases[i][0]);
		CHECK_EQ_STR(c.out, cases[i][1]);
		CHECK_EQ_STR(c.err, "");
		child_free(&c);
	}
	program.stop_at_operand = false;
}

static void help_and_version(void)
{
	static const char *const lines[] = {"--help", "-h", "-fh --nope", "a --help"};
	for (size_t i = 0; i < 4; i++) {
		struct child c = parse(lines[i]);
		CHECK_EQ_INT(c.status, 0);
		CHECK_EQ_STR(c.err, "");
		CHECK_EQ_STR(c.out,
			"usage: prog [-fn] [OPERAND...]\n"
			"       prog --list WORD\n"
			"\n"
			"try options\n"
			"\n"
			"  -f, --flag                 a flag\n"
			"  -n, --count                one more\n"
			"      --uncount              two less\n"
			"  -d, --domain=DOMAIN        the component's own [domain]: this\n"
			"  -s, --secret-file=FILE     file\n"
			"  -m, --maybe[=WORD]         perhaps a word\n"
			"      --retries=N            how often (default -1)\n"
			"      --small=N              from nought\n"
			"  -b, --bytes=BYTES          how much\n"
			"  -w, --wait=SECONDS         how long\n"
			"  -l, --list=WORD            more words\n"
			"      --mode=get|set|getset  what to do\n"
			"  -c, --call=WORD            call with it\n"
			"  -C, --call-flag            call\n"
			"      --limit=NAME=N         set one of the limits below (may be given "
			"several times)\n"
			"  -v, --verbose              say more; may be repeated\n"
			"  -q, --quiet                say less; may be repeated\n"
			"      --log-format=FORMAT    text or json lines on standard error "
			"(default "
			"text)\n"
			"  -h, --help                 show this help and exit\n"
			"  -V, --version              show the version and exit\n"
			"\n"
			"limits, set by --limit=NAME=N:\n"
			"  pending                    most requests (default 7)\n"
			"  queue-bytes                most bytes\n"
			"  share                      of each\n"
			"  trusted                    no share for it\n");
		child_free(&c);
	}
	struct child c = parse("--version");
	CHECK_EQ_INT(c.status, 0);
	CHECK_EQ_STR(c.out, "prog (outboard) " OUTBOARD_VERSION "\n");
	child_free(&c);
}

static void help_to_a_full_disk(void *context)
{
	dup2(open("/dev/full", O_WRONLY), 1);
	parse_in_child(context);
}

static void help_that_is_lost_is_an_error(void)
{
	char line[] = "--help";
	struct child c = child_run(help_to_a_full_disk, line);
	CHECK_EQ_INT(c.status, EXIT_IO);
	CHECK_EQ_STR(c.err, "prog: cannot write standard output: No space left on device\n");
	child_free(&c);
}

static void json_errors(void)
{
	struct child c = parse("--log-format json --nope");
	CHECK_EQ_INT(c.status, EXIT_USAGE);
	CHECK_EQ_STR(c.err,
		"{\"level\":\"error\",\"program\":\"prog\",\"message\":\"unknown option "
		"'--nope'\"}\n"
		"{\"level\":\"error\",\"program\":\"prog\",\"message\":\"try 'prog --help'\"}\n");
	child_free(&c);
}

/* --- completions, asked of the shells themselves */

static bool have(const char *shell)
{
	char command[64];
	snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", shell);
	return system(command) == 0;
}

static void shell(void *command)
{
	execl("/bin/sh", "sh", "-c", (char *)command, (char *)NULL);
}

/* Write the completion script to a file and return what the shell commands `ask` ($script) print.
 */
static struct child ask_shell(const char *name, const char *ask)
{
	char folder[] = "/tmp/outboard-opt-XXXXXX", path[64], line[32], command[1024];
	if (!mkdtemp(folder))
		abort();
	snprintf(path, sizeof path, "%s/script", folder);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	snprintf(line, sizeof line, "--completion %s", name);
	struct child c = parse(line);
	CHECK_EQ_INT(c.status, 0);
	CHECK_EQ_STR(c.err, "");
	if (fd < 0 || write(fd, c.out, strlen(c.out)) < 0)
		abort();
	close(fd);
	child_free(&c);
	/* fish writes into its home folder */
	snprintf(command, sizeof command,
		"HOME=%s; export HOME script=%s; cd %s && { %s; }; rm -rf %s", folder, path, folder,
		ask, folder);
	c = child_run(shell, command);
	return c;
}

static void check_shell(const char *name, const char *ask, const char *want)
{
	if (!have(name)) {
		CHECK_MSG(!getenv("STRICT"), "no %s here", name);
		return;
	}
	struct child c = ask_shell(name, ask);
	check_name = ask;
	CHECK_EQ_STR(c.out, want);
	CHECK_EQ_STR(c.err, "");
	child_free(&c);
}

#define BASH(words, cword)                                                                         \
	"bash -c '. $script; compopt() { :; }; COMP_WORDS=(prog " words "); COMP_CWORD=" cword     \
	"; _prog; printf \"%s \" \"${COMPREPLY[@]}\"'"

static void bash_completes(void)
{
	check_shell("bash", BASH("--mo", "1"), "--mode ");
	check_shell("bash", BASH("--mode ge", "2"), "get getset ");
	check_shell("bash", BASH("--mode = s", "3"), "set ");
	check_shell("bash", BASH("--mode =", "2"), "get set getset ");
	check_shell("bash", BASH("--log-format j", "2"), "json ");
	check_shell("bash", BASH("--secret-file /dev/nul", "2"), "/dev/null ");
	check_shell("bash", BASH("-s /dev/nul", "2"), "/dev/null ");
	check_shell("bash", BASH("--call /de", "2"), "/dev ");
	check_shell("bash", BASH("--retries -", "2"), " ");
	check_shell("bash", BASH("--limit ", "2"), "pending= queue-bytes= share= trusted= ");
	check_shell("bash", BASH("--limit = qu", "3"), "queue-bytes= ");
	check_shell("bash", BASH("--sec", "1"), "--secret-file ");
	check_shell("bash", BASH("-- --mo", "2"), " ");
	check_shell("bash", BASH("/dev/nul", "1"), " ");
	program.operand_complete = "file";
	check_shell("bash", BASH("/dev/nul", "1"), "/dev/null ");
	check_shell("bash", BASH("-- /dev/nul", "2"), "/dev/null ");
	program.operand_complete = NULL;
}

static void fish_completes(void)
{
#define FISH(line) "fish --no-config -c 'source $script; complete -C \"" line "\"'"
	check_shell("fish", FISH("prog --mo"), "--mode\twhat to do\n");
	check_shell("fish", FISH("prog --mode g"), "get\twhat to do\ngetset\twhat to do\n");
	check_shell("fish", FISH("prog --mode=s"), "--mode=set\twhat to do\n");
	check_shell("fish", FISH("prog --limit que"),
		"queue-bytes=\tset one of the limits below (may be given several times)\n");
	check_shell("fish", FISH("prog -s /dev/nul"), "/dev/null\n");
	check_shell("fish", FISH("prog --dom"), "--domain\tthe component's own [domain]: this\n");
	check_shell("fish", FISH("prog --sec"), "--secret-file\tfile\n");
}

static void zsh_parses(void)
{
	check_shell("zsh", "zsh -f -n $script && sed -n 1p $script", "#compdef prog\n");
	/* the arguments of _arguments, option by option */
	check_shell("zsh",
		"zsh -f -c '_arguments() { print -rl -- \"$@\" }; . $script' | grep domain",
		"(-d --domain)-d+[the component's own \\[domain\\]: this]:DOMAIN:_hosts\n"
		"(-d --domain)--domain=[the component's own \\[domain\\]: this]:DOMAIN:_hosts\n");
	check_shell("zsh",
		"zsh -f -c '_arguments() { print -rl -- \"$@\" }; . $script' | "
		"grep -E 'count|mode|secret|maybe|help|log'",
		"*--count[one more]\n*--uncount[two less]\n"
		"(-s --secret-file)-s+[file]:FILE:_files\n"
		"(-s --secret-file)--secret-file=[file]:FILE:_files\n"
		"(-m --maybe)-m-[perhaps a word]::WORD:\n"
		"(-m --maybe)--maybe=-[perhaps a word]::WORD:\n"
		"--mode=[what to do]:get|set|getset:(get set getset)\n"
		"*--log-format=[text or json lines on standard error (default text)]:FORMAT:(text "
		"json)\n"
		"(-h --help)-h[show this help and exit]\n"
		"(-h --help)--help[show this help and exit]\n");
}

int main(void)
{
	unsetenv("JOURNAL_STREAM");
	TEST(good_lines);
	TEST(wrong_lines);
	TEST(any_words);
	TEST(stop_at_the_first_operand);
	TEST(help_and_version);
	TEST(help_that_is_lost_is_an_error);
	TEST(json_errors);
	TEST(bash_completes);
	TEST(fish_completes);
	TEST(zsh_parses);
	return check_done();
}
