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

/* What a shell does for opt.complete: one of these in the order file, dir, host, command, or NULL.
 */
static const char *action(const char *complete, const char *const actions[4])
{
	static const char *const names[] = {"file", "dir", "host", "command"};
	for (int i = 0; complete && i < 4; i++)
		if (strcmp(complete, names[i]) == 0)
			return actions[i];
	return NULL;
}

static const char *const bash_actions[] = {
	"compopt -o filenames\n\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")",
	"compopt -o filenames\n\t\tmapfile -t COMPREPLY < <(compgen -d -- \"$cur\")",
	"mapfile -t COMPREPLY < <(compgen -A hostname -- \"$cur\")",
	"mapfile -t COMPREPLY < <(compgen -c -- \"$cur\")",
};
static const char *const zsh_actions[] = {"_files", "_files -/", "_hosts", "_command_names -e"};
/* fish completes files by itself */
static const char *const fish_actions[] = {NULL, "(__fish_complete_directories)",
	"(__fish_print_hostnames)", "(__fish_complete_command)"};

static void append_action(struct buf *out, const char *complete, const char *const actions[4])
{
	const char *text = action(complete, actions);
	if (text)
		buf_append_string(out, text);
}

/* The limits' names with an '=', as words. */
static void append_limits(struct buf *out, const struct opt_program *program)
{
	struct opt_each e = opt_each_limit(program);
	const char *space = "";
	for (const struct opt *o; (o = opt_next(&e)); space = " ")
		buf_printf(out, "%s%s=", space, o->name);
}

/* One case of the value's completion: `--name | -x)` and the commands that set COMPREPLY. */
static void bash_case(struct buf *out, const struct opt_program *program, const struct opt *o)
{
	buf_printf(out, "\t--%s", o->name);
	if (o->letter)
		buf_printf(out, " | -%c", o->letter);
	buf_append_string(out, ")\n\t\t");
	if (is_limit(o) || o->choices) {
		if (is_limit(o))
			buf_append_string(out, "compopt -o nospace\n\t\t");
		buf_append_string(out, "mapfile -t COMPREPLY < <(compgen -W '");
		if (is_limit(o))
			append_limits(out, program);
		else
			append_choices(out, o->choices);
		buf_append_string(out, "' -- \"$cur\")");
	} else {
		append_action(out, o->complete, bash_actions);
	}
	buf_append_string(out, "\n\t\treturn\n\t\t;;\n");
}

static void bash_head(struct buf *out, const struct opt_program *program, const char *function)
{
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
		program->name, program->name, function);
}

/* The cases of options whose value bash can complete, then one of those whose value it cannot. */
static void bash_values(struct buf *out, const struct opt_program *program)
{
	struct opt_each e = opt_each_option(program);
	struct buf plain;
	buf_init(&plain, BUF_NO_MAX);
	for (const struct opt *o; (o = opt_next(&e));) {
		if (o->hidden || !opt_takes_value(o) || o->kind == OPT_OPTIONAL)
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
	buf_free(&plain);
}

static void bash_names(struct buf *out, const struct opt_program *program)
{
	struct opt_each e = opt_each_option(program);
	const char *space = "";
	for (const struct opt *o; (o = opt_next(&e));) {
		if (o->hidden)
			continue;
		if (o->letter)
			buf_printf(out, "%s-%c", space, o->letter);
		buf_printf(out, "%s--%s", o->letter ? " " : space, o->name);
		space = " ";
	}
}

static void complete_bash(struct buf *out, const struct opt_program *program)
{
	struct buf function;
	buf_init(&function, BUF_NO_MAX);
	for (const char *s = program->name; *s; s++)
		buf_append_char(&function, *s == '-' ? '_' : *s);
	bash_head(out, program, function.p);
	bash_values(out, program);
	buf_append_string(out, "\tesac\n\tif [[ $prev != -- && $cur == -* ]]; then\n"
			       "\t\tmapfile -t COMPREPLY < <(compgen -W '");
	bash_names(out, program);
	buf_append_string(out, "' -- \"$cur\")\n");
	if (program->operand_complete) {
		buf_append_string(out, "\telse\n\t\t");
		append_action(out, program->operand_complete, bash_actions);
		buf_append_char(out, '\n');
	}
	buf_printf(out, "\tfi\n}\ncomplete -F _%s %s\n", function.p, program->name);
	buf_free(&function);
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

/* The option's names, as _arguments wants them, up to the description. */
static void zsh_names(struct buf *out, const struct opt *o)
{
	bool optional = o->kind == OPT_OPTIONAL, value = opt_takes_value(o);
	const char *after_long = optional ? "=-" : value ? "=" : "";
	const char *after_short = optional ? "-" : value ? "+" : "";
	if (!o->letter) {
		buf_printf(out, "'%s--%s%s[", opt_repeats(o) ? "*" : "", o->name, after_long);
		return;
	}
	if (opt_repeats(o))
		buf_append_string(out, "'*'");
	else
		buf_printf(out, "'(-%c --%s)'", o->letter, o->name);
	buf_printf(out, "{-%c%s,--%s%s}'[", o->letter, after_short, o->name, after_long);
}

static void zsh_value(struct buf *out, const struct opt_program *program, const struct opt *o)
{
	buf_append_string(out, o->kind == OPT_OPTIONAL ? "::" : ":");
	append_quoted(out, opt_arg_name(o), "'\\''", ":\\");
	buf_append_char(out, ':');
	if (is_limit(o)) {
		buf_append_string(out, " compadd -S \"\" - ");
		append_limits(out, program);
	} else if (o->choices) {
		buf_append_char(out, '(');
		append_choices(out, o->choices);
		buf_append_char(out, ')');
	} else {
		append_action(out, o->complete, zsh_actions);
	}
}

static void complete_zsh(struct buf *out, const struct opt_program *program)
{
	struct opt_each e = opt_each_option(program);
	buf_printf(out,
		"#compdef %s\n# zsh completion for %s; written by %s --completion zsh\n"
		"_arguments -s -S%s",
		program->name, program->name, program->name,
		program->stop_at_operand ? " -A '-*'" : "");
	for (const struct opt *o; (o = opt_next(&e));) {
		if (o->hidden)
			continue;
		buf_append_string(out, " \\\n\t");
		zsh_names(out, o);
		append_quoted(out, o->help, "'\\''", "[]\\");
		buf_append_char(out, ']');
		if (opt_takes_value(o))
			zsh_value(out, program, o);
		buf_append_char(out, '\'');
	}
	if (program->operand_complete) {
		buf_append_string(out, " \\\n\t'*: :");
		append_action(out, program->operand_complete, zsh_actions);
		buf_append_char(out, '\'');
	}
	buf_append_char(out, '\n');
}

/* How the value is completed, between the names and the description. */
static void fish_value(struct buf *out, const struct opt_program *program, const struct opt *o)
{
	bool file = !o->choices && o->complete && strcmp(o->complete, "file") == 0;
	const char *text = action(o->complete, fish_actions);
	if (opt_takes_value(o) && o->kind != OPT_OPTIONAL)
		buf_append_string(out, file ? " -r -F" : " -x");
	if (!o->choices && !is_limit(o)) {
		if (text)
			buf_printf(out, " -a '%s'", text);
		return;
	}
	buf_append_string(out, " -a '");
	if (o->choices)
		append_choices(out, o->choices);
	else
		append_limits(out, program);
	buf_append_char(out, '\'');
}

static void complete_fish(struct buf *out, const struct opt_program *program)
{
	const char *operand = program->operand_complete ? program->operand_complete : "";
	const char *text = action(operand, fish_actions);
	struct opt_each e = opt_each_option(program);
	buf_printf(out, "# fish completion for %s; written by %s --completion fish\n",
		program->name, program->name);
	if (strcmp(operand, "file") != 0)
		buf_printf(out, "complete -c %s -f\n", program->name);
	if (text)
		buf_printf(out, "complete -c %s -a '%s'\n", program->name, text);
	for (const struct opt *o; (o = opt_next(&e));) {
		if (o->hidden)
			continue;
		buf_printf(out, "complete -c %s", program->name);
		if (o->letter)
			buf_printf(out, " -s %c", o->letter);
		buf_printf(out, " -l %s", o->name);
		fish_value(out, program, o);
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
