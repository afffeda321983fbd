/* base/opt.h - one table per program is its command line, and a main is that table and one call
 *
 * The table is the single truth: opt_parse() reads the command line by it,
 * --help prints it, `--completion bash|zsh|fish` (hidden: for `make completions`)
 * writes the completion from it and docs.bats holds the manual against it.
 *
 * Limits (bounds that few people ever change) are rows of tables of their own and are set by
 * `--limit NAME=N`; `--max-NAME N` means the same and is not documented: it was the option's name
 * before 0.2.
 *
 * A table is an array of struct opt that ends with {0}. What several programs have stands in a
 * table of its own, whose rows say where in a struct their values go (`at`); a program's table
 * takes it in with one row (OPT_ROWS) that says which struct that is, and which words it has for
 * it. Long forms: --name VALUE, --name=VALUE; short: -x VALUE, -xVALUE, flags may be bundled. "--"
 * ends options; parsing stops at the first operand when `stop_at_operand` is set, else options and
 * operands may mix (up to "--"). No abbreviations; an empty value ("--name=", --name "$unset") is a
 * missing one. Wrong usage: two lines on stderr (what is wrong; "try 'prog --help'"), exit 64.
 * --help and --version: stdout, exit 0 (74 if stdout cannot take them).
 */
#ifndef OUTBOARD_BASE_OPT_H
#define OUTBOARD_BASE_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum opt_kind {
	OPT_FLAG = 1, /* bool *target = true */
	OPT_COUNT,    /* int *target += step (min field: step; -q is -1) */
	OPT_STRING,   /* const char **target, borrowed from argv */
	OPT_SERVER,   /* the same; what io_split_host_port() takes */
	OPT_OPTIONAL, /* --name[=VALUE]: const char **target; "" when no value */
	OPT_INT,      /* int64_t *target, min..max, decimal only */
	OPT_BYTES,    /* int64_t *target, min..max; K, M, G suffix are 1024s */
	OPT_SECONDS,  /* int64_t *target in MILLISECONDS; "2.5" is 2500; min..max in ms */
	OPT_LIST,     /* struct opt_list *target, appended in order */
	OPT_SHARE,    /* struct opt_share *target: "256" or "25%"; min..max bound the count */
	OPT_CHOICE,   /* int *target = index of the value in `choices` ("a|b|c") */
	OPT_CALL,     /* call(target, value) in command line order; value NULL for a flag
		       * (arg == NULL); returns NULL or what is wrong with it */
	OPT_ROWS,     /* no option: the rows of another table stand here. No name; rows, words */
};

struct opt_list {
	const char **items; /* borrowed strings, owned array */
	size_t count;
};

/* A number, or a part of some other limit. */
struct opt_share {
	int64_t n; /* a count, or percent (1..100) */
	bool percent;
};

/* The count it means where `all` is the other limit. */
static inline int64_t opt_share_of(const struct opt_share *share, int64_t all)
{
	return share->percent ? (all * share->n + 99) / 100 : share->n;
}

struct opt {
	const char *name; /* without "--" */
	char letter;	  /* 0 = none */
	enum opt_kind kind;
	const char *arg;     /* what --help calls the value, e.g. "HOST:PORT"; NULL for flags */
	const char *help;    /* one line, lowercase, no full stop; states the default */
	void *target;	     /* NULL in a shared table: see at */
	int64_t min, max;    /* for OPT_INT, OPT_BYTES, OPT_SECONDS; both 0 = 0..INT64_MAX */
	const char *choices; /* OPT_CHOICE: "a|b|c"; also for completion of others */
	const char *(*call)(void *target, const char *value);
	const char *complete; /* "file", "dir", "host", "command", NULL */
	bool hidden;
	size_t at; /* without target: offset in the struct that the row which takes this table in
		    * has as its target */
	const struct opt *rows;	       /* OPT_ROWS */
	const struct opt_words *words; /* OPT_ROWS: NULL, or ends with {0} */
};

/* What --help says of an option instead of what its row says. */
struct opt_words {
	const char *name, *help;
};

struct opt_program {
	const char *name;
	const char *summary;	  /* one line: what it does (the man page's .Nd) */
	const char *const *usage; /* NULL-ended: synopsis lines without "usage: prog" */
	const struct opt *options;
	/* NULL: none. Each row is one NAME of --limit NAME=N; of the kinds OPT_INT, OPT_BYTES,
	 * OPT_SHARE, OPT_LIST. letter, arg and complete are not used. */
	const struct opt *limits;
	/* Set to the operands, NULL-ended (the end of argv), or to NULL if there are none. NULL:
	 * the program takes no operands. */
	char ***operands;
	bool stop_at_operand;
	const char *operand_complete; /* as opt.complete, for completions of operands */
	bool holds_secrets;	      /* opt_main: no core files */
};

/* The whole of a main():
 *
 *     return opt_main(&program, argc, argv, &config, X_check, X_run);
 *
 * Name the program for messages, sanitise the standard descriptors, parse argv into what the tables
 * point to (config), ask check(config) what is wrong with the combination (NULL: nothing; else
 * wrong usage), run(config), close standard output. The exit status is what run returns; if that is
 * EXIT_USAGE, run has said what is wrong and the second line is added here. A macro, so that the
 * types of config, check and run are checked. */
#define opt_main(program, argc, argv, config, check, run)                                          \
	(opt_begin(program, argc, argv), opt_accept(program, check(config)),                       \
		opt_end(program, run(config)))
void opt_begin(const struct opt_program *program, int argc, char **argv);
void opt_accept(const struct opt_program *program, const char *wrong);
int opt_end(const struct opt_program *program, int status);
/* For programs in which no combination of options is wrong. */
const char *opt_no_check(const void *config);

/* Parse argv. Common options are added by itself: -h/--help, -V/--version,
 * -v/--verbose, -q/--quiet, --log-format text|json.
 * Returns the operands: argv is permuted so that operands are argv[ret..argc-1]
 * (after "--" all are operands). Exits as described above. */
int opt_parse(const struct opt_program *program, int argc, char **argv);

/* "prog: message" + "try 'prog --help'", exit 64. */
_Noreturn void opt_usage_error(const struct opt_program *program, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* How deep tables may stand in tables. */
#define OPT_DEPTH 4

/* Iterates over the rows, for functions that print them. */
struct opt_each {
	struct {
		const struct opt *next;
		char *base;
		const struct opt_words *words;
	} in[OPT_DEPTH]; /* the tables that it is in, the innermost last */
	int depth;
	struct opt row; /* the row that it stands at: with its target, and the words for it */
};

/* Start with the program's options, behind which the common ones come, or with its limits. */
struct opt_each opt_each_option(const struct opt_program *program);
struct opt_each opt_each_limit(const struct opt_program *program);
/* The next row, &e->row; NULL at the end. */
const struct opt *opt_next(struct opt_each *e);
bool opt_takes_value(const struct opt *o);
/* Whether giving the option twice makes sense. */
bool opt_repeats(const struct opt *o);
/* What --help calls its value. */
const char *opt_arg_name(const struct opt *o);

#endif
