/* opt.c - see opt.h */
#include "base/opt.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/opt-complete.h"
#include "base/secret.h"

/* --help's descriptions begin here, further right for one long option */
#define HELP_COLUMN_MAX 34
/* for what is wrong with a value */
#define ROOM 256

static const char *set_verbosity(void *target, const char *value)
{
	(void)value;
	err_verbosity(*(const int *)target);
	return NULL;
}

static const char *set_log_format(void *target, const char *value)
{
	(void)target;
	return err_log_format(value) ? NULL : "not text or json";
}

static int one_more = 1, one_less = -1;
static const char version[] = "version", help[] = "help", completion[] = "completion",
		  limit[] = "limit";

static const struct opt common[] = {
	{"verbose", 'v', OPT_CALL, NULL, "say more; may be repeated", &one_more,
		.call = set_verbosity},
	{"quiet", 'q', OPT_CALL, NULL, "say less; may be repeated", &one_less,
		.call = set_verbosity},
	{"log-format", 0, OPT_CALL, "FORMAT", "text or json lines on standard error (default text)",
		NULL, .call = set_log_format, .choices = "text|json"},
	{help, 'h', OPT_CALL, NULL, "show this help and exit", NULL},
	{version, 'V', OPT_CALL, NULL, "show the version and exit", NULL},
	{completion, 0, OPT_CALL, "SHELL", "write the completion for bash, zsh or fish", NULL,
		.choices = "bash|zsh|fish", .hidden = true},
	{0},
};
static const struct opt common_with_limits[] = {
	{limit, 0, OPT_CALL, "NAME=N", "set one of the limits below (may be given several times)",
		.complete = limit},
	{.kind = OPT_ROWS, .rows = common},
	{0},
};

/* --- the tables as one list */

static void enter(
	struct opt_each *e, const struct opt *rows, char *base, const struct opt_words *words)
{
	if (e->depth == OPT_DEPTH)
		abort();
	e->in[e->depth].next = rows;
	e->in[e->depth].base = base;
	e->in[e->depth++].words = words;
}

struct opt_each opt_each_option(const struct opt_program *program)
{
	struct opt_each e = {.depth = 0};
	enter(&e, program->limits ? common_with_limits : common, NULL, NULL);
	enter(&e, program->options, NULL, NULL);
	return e;
}

struct opt_each opt_each_limit(const struct opt_program *program)
{
	struct opt_each e = {.depth = 0};
	if (program->limits)
		enter(&e, program->limits, NULL, NULL);
	return e;
}

const struct opt *opt_next(struct opt_each *e)
{
	while (e->depth) {
		const struct opt *o = e->in[e->depth - 1].next++;
		char *base = e->in[e->depth - 1].base;
		const struct opt_words *w = e->in[e->depth - 1].words;
		if (!o->kind) {
			e->depth--;
			continue;
		}
		e->row = *o;
		if (!o->target && base)
			e->row.target = base + o->at;
		if (o->kind == OPT_ROWS) {
			enter(e, o->rows, e->row.target, o->words ? o->words : w);
			continue;
		}
		for (; w && w->name; w++)
			if (strcmp(w->name, o->name) == 0)
				e->row.help = w->help;
		return &e->row;
	}
	return NULL;
}

/* Have e stand at the row with this name; NULL: there is none. */
static const struct opt *find_name(struct opt_each *e, struct span name)
{
	const struct opt *o;
	while ((o = opt_next(e)) && !span_is(name, o->name))
		;
	return o;
}

static const struct opt *find_letter(struct opt_each *e, char letter)
{
	const struct opt *o;
	while ((o = opt_next(e)) && o->letter != letter)
		;
	return o;
}

bool opt_takes_value(const struct opt *o)
{
	return o->kind == OPT_CALL ? o->arg != NULL : o->kind != OPT_FLAG && o->kind != OPT_COUNT;
}

bool opt_repeats(const struct opt *o)
{
	return o->kind == OPT_COUNT || o->kind == OPT_LIST ||
	       (o->kind == OPT_CALL && o->name != help && o->name != version);
}

const char *opt_arg_name(const struct opt *o)
{
	return o->arg ? o->arg : o->choices ? o->choices : "VALUE";
}

/* --- values: each returns NULL or what is wrong */

static const char *parse_digits(const char **at, int64_t *value)
{
	const char *s = *at;
	*value = 0;
	if (!isdigit((unsigned char)*s))
		return "not a number";
	for (; isdigit((unsigned char)*s); s++)
		if (__builtin_mul_overflow(*value, 10, value) ||
			__builtin_add_overflow(*value, *s - '0', value))
			return "too large";
	*at = s;
	return NULL;
}

static const char *parse_int(const char *text, int64_t *value)
{
	const char *s = text + (*text == '-');
	const char *wrong = parse_digits(&s, value);
	if (!wrong && *s)
		wrong = "not a whole number";
	if (*text == '-')
		*value = -*value;
	return wrong;
}

static const char *parse_bytes(const char *text, int64_t *value)
{
	static const char suffixes[] = "KMG";
	const char *s = text, *wrong = parse_digits(&s, value), *suffix;
	if (wrong)
		return wrong;
	if (*s && (suffix = strchr(suffixes, toupper((unsigned char)*s)))) {
		if (__builtin_mul_overflow(
			    *value, INT64_C(1) << (10 * (suffix - suffixes + 1)), value))
			return "too large";
		s++;
	}
	return *s ? "not a number of bytes (K, M and G are 1024s)" : NULL;
}

static const char *parse_seconds(const char *text, int64_t *value_ms)
{
	const char *s = text, *wrong = parse_digits(&s, value_ms);
	if (wrong)
		return wrong;
	if (__builtin_mul_overflow(*value_ms, 1000, value_ms))
		return "too large";
	if (*s == '.' && isdigit((unsigned char)s[1])) {
		s++;
		for (int64_t unit = 100; unit > 0 && isdigit((unsigned char)*s); unit /= 10, s++)
			if (__builtin_add_overflow(*value_ms, unit * (*s - '0'), value_ms))
				return "too large";
		if (isdigit((unsigned char)*s))
			return "finer than milliseconds";
	}
	return *s ? "not a number of seconds" : NULL;
}

static void print_bound(char text[32], const struct opt *o, int64_t bound)
{
	if (o->kind == OPT_SECONDS && bound % 1000)
		snprintf(text, 32, "%" PRId64 ".%03d", bound / 1000, (int)(bound % 1000));
	else
		snprintf(text, 32, "%" PRId64, o->kind == OPT_SECONDS ? bound / 1000 : bound);
}

static const char *parse_number(
	const struct opt *o, const char *text, int64_t *value, char room[ROOM])
{
	int64_t min = o->min, max = o->min == 0 && o->max == 0 ? INT64_MAX : o->max;
	const char *wrong = o->kind == OPT_BYTES     ? parse_bytes(text, value)
			    : o->kind == OPT_SECONDS ? parse_seconds(text, value)
						     : parse_int(text, value);
	char low[32], high[32];
	if (wrong || (*value >= min && *value <= max))
		return wrong;
	print_bound(low, o, min);
	print_bound(high, o, max);
	if (max == INT64_MAX)
		snprintf(room, ROOM, "less than %s", low);
	else
		snprintf(room, ROOM, "not between %s and %s", low, high);
	return room;
}

static const char *parse_share(const struct opt *o, const char *text, char room[ROOM])
{
	struct opt_share *share = o->target;
	const char *s = text, *wrong = parse_digits(&s, &share->n);
	share->percent = !wrong && *s == '%';
	if (!share->percent)
		return parse_number(o, text, &share->n, room);
	return s[1] || share->n < 1 || share->n > 100 ? "not between 1% and 100%" : NULL;
}

static const char *server_wrong(const char *text)
{
	char *host = NULL, *port = NULL;
	bool ok = io_split_host_port(text, &host, &port);
	free(host);
	free(port);
	return ok ? NULL : "not HOST:PORT";
}

/* The index of value in "a|b|c", -1 if none. */
static int choice_index(const char *choices, const char *value)
{
	size_t n = strlen(value);
	for (int i = 0;; i++) {
		size_t length = strcspn(choices, "|");
		if (n == length && memcmp(choices, value, n) == 0)
			return i;
		if (!choices[length])
			return -1;
		choices += length + 1;
	}
}

/* --- output: help, version, completions */

static struct buf out_start(void)
{
	struct buf out;
	buf_init(&out, BUF_NO_MAX);
	return out;
}

_Noreturn static void out_finish(struct buf *out)
{
	/* stdio writes at once what its buffer does not hold, and forgets why that failed */
	if (fwrite(out->p, 1, out->n, stdout) < out->n)
		err_die(EXIT_IO, "cannot write standard output: %s", strerror(errno));
	buf_free(out);
	io_close_stdout();
	exit(EXIT_DONE);
}

_Noreturn static void show_version(const struct opt_program *program)
{
	struct buf out = out_start();
	buf_printf(&out, "%s (outboard) %s\n", program->name, OUTBOARD_VERSION);
	out_finish(&out);
}

static void left_column(struct buf *out, const struct opt *o)
{
	if (o->letter)
		buf_printf(out, "  -%c, --%s", o->letter, o->name);
	else
		buf_printf(out, "      --%s", o->name);
	if (o->kind == OPT_OPTIONAL)
		buf_printf(out, "[=%s]", opt_arg_name(o));
	else if (opt_takes_value(o))
		buf_printf(out, "=%s", opt_arg_name(o));
}

/* Where the descriptions begin. */
static size_t help_column(const struct opt_program *program, struct buf *left)
{
	struct opt_each e = opt_each_option(program);
	size_t column = 0;
	for (const struct opt *o; (o = opt_next(&e));) {
		buf_reset(left);
		left_column(left, o);
		if (!o->hidden && left->n > column && left->n <= HELP_COLUMN_MAX)
			column = left->n;
	}
	return column;
}

_Noreturn static void show_help(const struct opt_program *program)
{
	static const char *const only_options[] = {"[OPTION...]", NULL};
	const char *const *usage = program->usage ? program->usage : only_options;
	struct buf out = out_start(), left = out_start();
	int column = (int)help_column(program, &left);
	struct opt_each e = opt_each_option(program);
	for (int i = 0; usage[i]; i++)
		buf_printf(&out, "%s%s%s%s\n", i ? "       " : "usage: ", program->name,
			*usage[i] ? " " : "", usage[i]);
	buf_printf(&out, "\n%s\n\n", program->summary);
	for (const struct opt *o; (o = opt_next(&e));) {
		buf_reset(&left);
		left_column(&left, o);
		if (!o->hidden)
			buf_printf(&out, "%-*s  %s\n", column, left.p, o->help);
	}
	if (program->limits)
		buf_append_string(&out, "\nlimits, set by --limit=NAME=N:\n");
	e = opt_each_limit(program);
	for (const struct opt *o; (o = opt_next(&e));)
		buf_printf(&out, "  %-*s  %s\n", column - 2, o->name, o->help);
	buf_free(&left);
	out_finish(&out);
}

_Noreturn static void show_completion(const struct opt_program *program, const char *shell)
{
	struct buf out = out_start();
	if (!shell) /* the option needs a value, so it is not NULL */
		abort();
	if (!opt_complete(program, shell, &out))
		opt_usage_error(program, "no completion for shell '%s'", shell);
	out_finish(&out);
}

/* --- the command line */

void opt_usage_error(const struct opt_program *program, const char *format, ...)
{
	va_list ap;
	char text[1024];
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	err_error("%s", text);
	err_error("try '%s --help'", program->name);
	exit(EXIT_USAGE);
}

static void append(struct opt_list *list, const char *value)
{
	list->items = xrealloc(list->items, (list->count + 1) * sizeof *list->items);
	list->items[list->count++] = value;
}

static const char *set_choice(const struct opt *o, const char *value, char room[ROOM])
{
	int i = choice_index(o->choices, value);
	if (i < 0) {
		snprintf(room, ROOM, "not one of: %s", o->choices);
		for (char *c = room; (c = strchr(c, '|'));)
			*c = ' ';
		return room;
	}
	*(int *)o->target = i;
	return NULL;
}

/* Do what a row says. Returns NULL or what is wrong with the value, perhaps in room. */
static const char *set(const struct opt *o, const char *value, char room[ROOM])
{
	const char *wrong;
	int64_t number;
	switch (o->kind) {
	case OPT_FLAG:
		*(bool *)o->target = true;
		return NULL;
	case OPT_COUNT:
		*(int *)o->target += o->min ? (int)o->min : 1;
		return NULL;
	case OPT_SERVER:
		*(const char **)o->target = value;
		return server_wrong(value);
	case OPT_STRING:
	case OPT_OPTIONAL:
		*(const char **)o->target = value ? value : "";
		return NULL;
	case OPT_INT:
	case OPT_BYTES:
	case OPT_SECONDS:
		wrong = parse_number(o, value, &number, room);
		if (!wrong)
			*(int64_t *)o->target = number;
		return wrong;
	case OPT_SHARE:
		return parse_share(o, value, room);
	case OPT_LIST:
		append(o->target, value);
		return NULL;
	case OPT_CHOICE:
		return set_choice(o, value, room);
	case OPT_CALL:
		return o->call(o->target, value);
	default:
		return NULL;
	}
}

/* The same; a wrong value is wrong usage. before: what stands before the name in the message. */
static void set_or_end(const struct opt_program *program, const struct opt *o, const char *value,
	const char *before)
{
	char room[ROOM];
	const char *wrong = set(o, value, room);
	if (wrong)
		opt_usage_error(program, "invalid value '%s' for %s%s: %s", value ? value : "",
			before, o->name, wrong);
}

/* NAME=N */
static void apply_limit(const struct opt_program *program, const char *value)
{
	struct opt_each e = opt_each_limit(program);
	struct span name = {value, strcspn(value, "=")};
	const struct opt *o = find_name(&e, name);
	if (!o)
		opt_usage_error(program, "no limit is called '%.*s'", SPAN_ARG(name));
	if (!value[name.n] || !value[name.n + 1])
		opt_usage_error(program, "limit '%s' needs a value", o->name);
	set_or_end(program, o, value + name.n + 1, "limit ");
}

/* Do what an option says; value is NULL when there is none. before: see set_or_end(). */
static void apply(const struct opt_program *program, const struct opt *o, const char *value,
	const char *before)
{
	if (o->name == help)
		show_help(program);
	if (o->name == version)
		show_version(program);
	if (o->name == completion)
		show_completion(program, value);
	if (o->name == limit)
		apply_limit(program, value ? value : "");
	else
		set_or_end(program, o, value, before);
}

struct arguments {
	const struct opt_program *program;
	int argc, at; /* argv[at] is looked at next */
	char **argv;
};

/* The value of an option written with dashes as `written`: `attached` or the next argument. */
static const char *value_of(struct arguments *a, const char *written, const char *attached)
{
	if (!attached && a->at < a->argc)
		attached = a->argv[a->at++];
	if (!attached || !*attached)
		opt_usage_error(a->program, "option '%s' needs a value", written);
	return attached;
}

/* `argument` begins with two dashes. --max-NAME is the older form of --limit NAME=. */
static void parse_long(struct arguments *a, const char *argument)
{
	size_t n = strcspn(argument, "=");
	const char *value = argument[n] ? argument + n + 1 : NULL;
	struct span name = {argument + 2, n - 2};
	struct opt_each e = opt_each_option(a->program);
	const struct opt *o = find_name(&e, name);
	const char *before = "--";
	char written[64];
	snprintf(written, sizeof written, "%.*s", (int)(n < 60 ? n : 60), argument);
	if (!o && name.n > 4 && memcmp(name.p, "max-", 4) == 0) {
		e = opt_each_limit(a->program);
		o = find_name(&e, span_from(name, 4));
		before = "limit ";
	}
	if (!o)
		opt_usage_error(a->program, "unknown option '%s'", written);
	if (!opt_takes_value(o) && value)
		opt_usage_error(a->program, "option '%s' takes no value", written);
	if (opt_takes_value(o) && (o->kind != OPT_OPTIONAL || value))
		value = value_of(a, written, value);
	apply(a->program, o, value, before);
}

static void parse_letters(struct arguments *a, const char *argument)
{
	for (const char *s = argument + 1; *s; s++) {
		char written[] = {'-', *s, '\0'};
		const char *value = NULL;
		struct opt_each e = opt_each_option(a->program);
		const struct opt *o = find_letter(&e, *s);
		if (!o)
			opt_usage_error(a->program, "unknown option '%s'", written);
		if (opt_takes_value(o)) {
			value = s[1] ? s + 1 : NULL;
			if (o->kind != OPT_OPTIONAL || value)
				value = value_of(a, written, value);
		}
		apply(a->program, o, value, "--");
		if (value)
			return;
	}
}

int opt_parse(const struct opt_program *program, int argc, char **argv)
{
	struct arguments a = {program, argc, 1, argv};
	char **operands = xcalloc((size_t)argc + 1, sizeof *operands);
	int count = 0, parsed = 1;
	while (a.at < argc) {
		int first = a.at++;
		char *argument = argv[first];
		bool end = strcmp(argument, "--") == 0;
		if (!end && (argument[0] != '-' || !argument[1])) {
			operands[count++] = argument;
			if (!program->stop_at_operand)
				continue;
			end = true;
			first = a.at;
		} else if (!end && argument[1] == '-') {
			parse_long(&a, argument);
		} else if (!end) {
			parse_letters(&a, argument);
		}
		/* options and their values go before the operands met so far */
		while (first < a.at)
			argv[parsed++] = argv[first++];
		if (end)
			while (a.at < argc)
				operands[count++] = argv[a.at++];
	}
	for (int i = 0; i < count; i++)
		argv[parsed + i] = operands[i];
	free(operands);
	return parsed;
}

/* --- a main */

void opt_begin(const struct opt_program *program, int argc, char **argv)
{
	err_init(argv[0]);
	io_sanitise(true);
	if (program->holds_secrets)
		secret_no_core();
	int first = opt_parse(program, argc, argv);
	if (program->operands)
		*program->operands = first < argc ? argv + first : NULL;
	else if (first < argc)
		opt_usage_error(program, "no operands are taken");
}

void opt_accept(const struct opt_program *program, const char *wrong)
{
	if (wrong)
		opt_usage_error(program, "%s", wrong);
}

int opt_end(const struct opt_program *program, int status)
{
	if (status == EXIT_USAGE)
		err_error("try '%s --help'", program->name);
	if (status != EXIT_IO)
		io_close_stdout();
	return status;
}

const char *opt_no_check(const void *config)
{
	(void)config;
	return NULL;
}
