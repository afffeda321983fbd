/* opt-complete.c - see opt-complete.h */
#include "base/opt-complete.h"

#include <string.h>

/* The value of --limit is completed to a limit's name. */
static bool is_limit(const struct opt *o)
{
	return o->complete && strcmp(o->complete, "limit") == 0;
}

/* "a|b|c" as words */
static void append_choices(struct buf *out, const char *choices)
{
	for (; *choices; choices++)
		buf_append_char(out, *choices == '|' ? ' ' : *choices);
}

/* Write the commands that complete a value in bash: they set COMPREPLY. */
static void bash_value(struct buf *out, const char *complete, const char *choices)
{
	if (choices) {
		buf_append_string(out, "mapfile -t COMPREPLY < <(compgen -W '");
		append_choices(out, choices);
		buf_append_string(out, "' -- \"$cur\")");
	} else if (complete && strcmp(complete, "file") == 0) {
		buf_append_string(out, "compopt -o filenames\n\t\t"
				       "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")");
	} else if (complete && strcmp(complete, "dir") == 0) {
		buf_append_string(out, "compopt -o filenames\n\t\t"
				       "mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")");
	} else if (complete && strcmp(complete, "host") == 0) {
		buf_append_string(out, "mapfile -t COMPREPLY < <(compgen -A hostname -- \"$cur\")");
	} else if (complete && strcmp(complete, "command") == 0) {
		buf_append_string(out, "mapfile -t COMPREPLY < <(compgen -c -- \"$cur\")");
	}
}

/* The limits' names with an '=', as words. */
static void append_limits(struct buf *out, const struct opt_program *program)
{
	struct opt_each e = opt_each_limit(program);
	const char *space = "";
	for (const struct opt *o; (o = opt_next(&e)); space = " ")
		buf_printf(out, "%s%s=", space, o->name);
}

/* One case of the value's completion: `--name | -x)` and what to do. */
static void bash_case(struct buf *out, const struct opt_program *program, const struct opt *o)
{
	buf_printf(out, "\t--%s", o->name);
	if (o->letter)
		buf_printf(out, " | -%c", o->letter);
	buf_append_string(out, ")\n\t\t");
	if (is_limit(o)) {
		buf_append_string(out, "compopt -o nospace\n\t\t"
				       "mapfile -t COMPREPLY < <(compgen -W '");
		append_limits(out, program);
		buf_append_string(out, "' -- \"$cur\")");
	} else {
		bash_value(out, o->complete, o->choices);
	}
	buf_append_string(out, "\n\t\treturn\n\t\t;;\n");
}

static void complete_bash(struct buf *out, const struct opt_program *program)
{
	struct buf function, plain, names;
	buf_init(&function, BUF_NO_MAX);
	buf_init(&plain, BUF_NO_MAX);
	buf_init(&names, BUF_NO_MAX);
	for (const char *s = program->name; *s; s++)
		buf_append_char(&function, *s == '-' ? '_' : *s);
	buf_printf(out,
		"# bash completion for %s; written by %s --completion bash\n"
		"_%s()\n{\n"
		"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i\n"
		"\tCOMPREPLY=()\n"
		"\t# bash splits --name=value at the =\n"
		"\tif [[ $cur == = ]]; then\n"
		"\t\tcur=\n"
		"\telif [[ $prev == = ]] && ((COMP_CWORD > 1)); then\n"
		"\t\tprev=${COMP_WORDS[COMP_CWORD - 2]}\n"
		"\tfi\n"
		"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
		"\t\t[[ ${COMP_WORDS[i]} == -- ]] && prev=--\n"
		"\tdone\n"
		"\tcase $prev in\n",
		program->name, program->name, function.p);
	struct opt_each e = opt_each_option(program);
	for (const struct opt *o; (o = opt_next(&e));) {
		if (o->hidden)
			continue;
		const char *separator = names.n ? " " : "";
		if (o->letter)
			buf_printf(&names, "%s-%c --%s", separator, o->letter, o->name);
		else
			buf_printf(&names, "%s--%s", separator, o->name);
		if (!opt_takes_value(o) || o->kind == OPT_OPTIONAL)
			continue;
		if (o->complete || o->choices) {
			bash_case(out, program, o);
			continue;
		}
		buf_printf(&plain, "%s--%s", plain.n ? " | " : "", o->name);
		if (o->letter)
			buf_printf(&plain, " | -%c", o->letter);
	}
	if (plain.n)
		buf_printf(out, "\t%s)\n\t\treturn\n\t\t;;\n", plain.p);
	buf_printf(out,
		"\tesac\n\tif [[ $prev != -- && $cur == -* ]]; then\n"
		"\t\tmapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")\n",
		names.p);
	if (program->operand_complete) {
		buf_append_string(out, "\telse\n\t\t");
		bash_value(out, program->operand_complete, NULL);
		buf_append_char(out, '\n');
	}
	buf_printf(out, "\tfi\n}\ncomplete -F _%s %s\n", function.p, program->name);
	buf_free(&function);
	buf_free(&plain);
	buf_free(&names);
}

/* Text inside single quotes, with a backslash before each of `special`. */
static void append_quoted(struct buf *out, const char *text, const char *quote, const char *special)
{
	for (; *text; text++) {
		if (*text == '\'') {
			buf_append_string(out, quote);
			continue;
		}
		if (strchr(special, *text))
			buf_append_char(out, '\\');
		buf_append_char(out, *text);
	}
}

static void zsh_value(struct buf *out, const char *complete, const char *choices)
{
	if (choices) {
		buf_append_char(out, '(');
		append_choices(out, choices);
		buf_append_char(out, ')');
	} else if (complete && strcmp(complete, "file") == 0) {
		buf_append_string(out, "_files");
	} else if (complete && strcmp(complete, "dir") == 0) {
		buf_append_string(out, "_files -/");
	} else if (complete && strcmp(complete, "host") == 0) {
		buf_append_string(out, "_hosts");
	} else if (complete && strcmp(complete, "command") == 0) {
		buf_append_string(out, "_command_names -e");
	}
}

static void complete_zsh(struct buf *out, const struct opt_program *program)
{
	buf_printf(out,
		"#compdef %s\n# zsh completion for %s; written by %s --completion zsh\n"
		"_arguments -s -S%s",
		program->name, program->name, program->name,
		program->stop_at_operand ? " -A '-*'" : "");
	struct opt_each e = opt_each_option(program);
	for (const struct opt *o; (o = opt_next(&e));) {
		if (o->hidden)
			continue;
		const char *after_long = "", *after_short = "";
		if (o->kind == OPT_OPTIONAL) {
			after_long = "=-";
			after_short = "-";
		} else if (opt_takes_value(o)) {
			after_long = "=";
			after_short = "+";
		}
		buf_append_string(out, " \\\n\t");
		if (o->letter && opt_repeats(o))
			buf_append_string(out, "'*'");
		else if (o->letter)
			buf_printf(out, "'(-%c --%s)'", o->letter, o->name);
		if (o->letter)
			buf_printf(out, "{-%c%s,--%s%s}'[", o->letter, after_short, o->name,
				after_long);
		else
			buf_printf(
				out, "'%s--%s%s[", opt_repeats(o) ? "*" : "", o->name, after_long);
		append_quoted(out, o->help, "'\\''", "[]\\");
		buf_append_char(out, ']');
		if (opt_takes_value(o)) {
			buf_append_string(out, o->kind == OPT_OPTIONAL ? "::" : ":");
			append_quoted(out, opt_arg_name(o), "'\\''", ":\\");
			buf_append_char(out, ':');
			if (is_limit(o)) {
				buf_append_string(out, " compadd -S \"\" - ");
				append_limits(out, program);
			} else {
				zsh_value(out, o->complete, o->choices);
			}
		}
		buf_append_char(out, '\'');
	}
	if (program->operand_complete) {
		buf_append_string(out, " \\\n\t'*: :");
		zsh_value(out, program->operand_complete, NULL);
		buf_append_char(out, '\'');
	}
	buf_append_char(out, '\n');
}

static void complete_fish(struct buf *out, const struct opt_program *program)
{
	const char *operand = program->operand_complete ? program->operand_complete : "";
	buf_printf(out, "# fish completion for %s; written by %s --completion fish\n",
		program->name, program->name);
	if (strcmp(operand, "file") != 0)
		buf_printf(out, "complete -c %s -f\n", program->name);
	if (strcmp(operand, "dir") == 0)
		buf_printf(
			out, "complete -c %s -a '(__fish_complete_directories)'\n", program->name);
	else if (strcmp(operand, "host") == 0)
		buf_printf(out, "complete -c %s -a '(__fish_print_hostnames)'\n", program->name);
	else if (strcmp(operand, "command") == 0)
		buf_printf(out, "complete -c %s -a '(__fish_complete_command)'\n", program->name);
	struct opt_each e = opt_each_option(program);
	for (const struct opt *o; (o = opt_next(&e));) {
		if (o->hidden)
			continue;
		const char *complete = o->complete ? o->complete : "";
		buf_printf(out, "complete -c %s", program->name);
		if (o->letter)
			buf_printf(out, " -s %c", o->letter);
		buf_printf(out, " -l %s", o->name);
		if (o->kind == OPT_OPTIONAL) {
			;
		} else if (opt_takes_value(o) && !o->choices && strcmp(complete, "file") == 0) {
			buf_append_string(out, " -r -F");
		} else if (opt_takes_value(o)) {
			buf_append_string(out, " -x");
		}
		if (o->choices) {
			buf_append_string(out, " -a '");
			append_choices(out, o->choices);
			buf_append_char(out, '\'');
		} else if (strcmp(complete, "dir") == 0) {
			buf_append_string(out, " -a '(__fish_complete_directories)'");
		} else if (strcmp(complete, "host") == 0) {
			buf_append_string(out, " -a '(__fish_print_hostnames)'");
		} else if (is_limit(o)) {
			buf_append_string(out, " -a '");
			append_limits(out, program);
			buf_append_char(out, '\'');
		}
		buf_append_string(out, " -d '");
		append_quoted(out, o->help, "\\'", "\\");
		buf_append_string(out, "'\n");
	}
}

bool opt_complete(const struct opt_program *program, const char *shell, struct buf *out)
{
	if (strcmp(shell, "bash") == 0)
		complete_bash(out, program);
	else if (strcmp(shell, "zsh") == 0)
		complete_zsh(out, program);
	else if (strcmp(shell, "fish") == 0)
		complete_fish(out, program);
	else
		return false;
	return true;
}
