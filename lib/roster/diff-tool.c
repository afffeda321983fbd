#include "roster/diff-tool.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "roster/roster.h"

#define FILE_MAX_BYTES ((size_t)2 * 1024 * 1024 * 1024)
#define WRITE_BYTES 65536

/* A record. It is parsed again when it is compared, so that memory stays at the size of the files.
 */
struct entry {
	char *user;
	struct span line;
	size_t number; /* of the line */
};

struct records {
	const char *path;
	struct buf all;
	struct entry *entries; /* sorted by user */
	size_t count, size;
};

struct difftool {
	struct records old, new;
	struct buf out;
	struct span user;
	const struct roster_skips *skips; /* of the new record */
	bool different, bad;
	int write_error;
};

static int by_user(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->user, ((const struct entry *)b)->user);
}

static int by_user_and_line(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int order = by_user(a, b);

	return order ? order : (x->number > y->number) - (x->number < y->number);
}

/* Reading ---------------------------------------------------------------- */

static int read_all(struct records *r)
{
	int error;

	buf_init(&r->all, BUF_NO_MAX);
	if (strcmp(r->path, "-") == 0) {
		r->path = "stdin";
		error = io_read_fd(STDIN_FILENO, FILE_MAX_BYTES, &r->all);
	} else {
		error = io_read_file(r->path, FILE_MAX_BYTES, &r->all);
	}
	if (!error)
		return EXIT_DONE;
	err_error("cannot read '%s': %s", r->path, strerror(-error));
	return io_error_status(error, EXIT_IO);
}

static void add(struct difftool *t, struct records *r, struct span line, size_t number)
{
	struct roster_record record;
	const char *why;

	if (!roster_record_parse(line, NULL, &record, &why)) {
		err_error("%s:%zu: %s", r->path, number, why);
		t->bad = true;
		roster_record_free(&record);
		return;
	}
	r->entries = xgrow(r->entries, &r->size, r->count, sizeof(*r->entries));
	r->entries[r->count++] =
		(struct entry){.user = xstrdup(record.user), .line = line, .number = number};
	roster_record_free(&record);
}

/* Of several records of a user the last one counts. */
static void keep_last(struct records *r)
{
	size_t kept = 0;

	if (r->count)
		qsort(r->entries, r->count, sizeof(*r->entries), by_user_and_line);
	for (size_t i = 0; i < r->count; i++) {
		if (kept && by_user(&r->entries[kept - 1], &r->entries[i]) == 0)
			free(r->entries[--kept].user);
		r->entries[kept++] = r->entries[i];
	}
	r->count = kept;
}

static int read_records(struct difftool *t, struct records *r)
{
	int status = read_all(r);
	struct span rest = buf_span(&r->all);

	for (size_t number = 1; status == EXIT_DONE && rest.n; number++)
		add(t, r, span_take_until(&rest, '\n'), number);
	keep_last(r);
	return status;
}

static void free_records(struct records *r)
{
	for (size_t i = 0; i < r->count; i++)
		free(r->entries[i].user);
	free(r->entries);
	buf_free(&r->all);
}

/* Comparing -------------------------------------------------------------- */

static void put_out(struct difftool *t, size_t at_least)
{
	struct span out = buf_span(&t->out);

	if (out.n < at_least || t->write_error)
		return;
	t->write_error = -io_write_all(STDOUT_FILENO, out.p, out.n);
	buf_reset(&t->out);
}

static void on_change(void *context, const struct roster_change *c)
{
	static const char *const names[] = {"add", "update", "remove"};
	struct difftool *t = context;
	struct buf *out = &t->out;

	/* a contact that the record skips is not removed */
	if (c->kind == CHANGE_REMOVE && roster_skips_has(t->skips, c->old->jid))
		return;
	t->different = true;
	buf_append_string(out, "{\"user\":");
	json_string(out, t->user);
	buf_printf(out, ",\"change\":\"%s\",\"contact\":", names[c->kind]);
	json_string(out, span_of(c->old ? c->old->jid : c->new->jid));
	if (c->kind == CHANGE_UPDATE)
		buf_printf(out, ",\"changed\":[%s%s%s%s%s]", c->name ? "\"name\"" : "",
			c->name && (c->groups || c->subscription) ? "," : "",
			c->groups ? "\"groups\"" : "", c->groups && c->subscription ? "," : "",
			c->subscription ? "\"subscription\"" : "");
	if (c->old) {
		buf_append_string(out, ",\"old\":");
		roster_item_format(c->old, out);
	}
	if (c->new) {
		buf_append_string(out, ",\"new\":");
		roster_item_format(c->new, out);
	}
	buf_append_string(out, "}\n");
	put_out(t, WRITE_BYTES);
}

/* False if the entry holds no roster. A missing entry counts as an empty roster. */
static bool open_record(struct difftool *t, const struct records *r, const struct entry *e,
	struct roster_record *record)
{
	const char *why;

	*record = (struct roster_record){0};
	if (!e)
		return true;
	roster_record_parse(e->line, NULL, record, &why);
	if (record->status != RECORD_ERROR)
		return true;
	err_error("%s:%zu: no roster to compare: %s", r->path, e->number, record->error);
	t->bad = true;
	return false;
}

static void compare(struct difftool *t, const struct entry *from, const struct entry *to)
{
	struct roster_record old, new;
	bool both = open_record(t, &t->old, from, &old);

	both &= open_record(t, &t->new, to, &new);
	if (both) {
		/* one of the two is there NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
		t->user = span_of(from ? from->user : to->user);
		t->skips = &new.skips;
		roster_diff(&old.roster, &new.roster, on_change, t);
	}
	roster_record_free(&old);
	roster_record_free(&new);
}

static void compare_all(struct difftool *t)
{
	size_t i = 0, j = 0;

	while ((i < t->old.count || j < t->new.count) && !t->write_error) {
		int order = i == t->old.count	? 1
			    : j == t->new.count ? -1
						: by_user(&t->old.entries[i], &t->new.entries[j]);

		compare(t, order <= 0 ? &t->old.entries[i] : NULL,
			order >= 0 ? &t->new.entries[j] : NULL);
		i += order <= 0;
		j += order >= 0;
	}
	put_out(t, 1);
}

const char *difftool_check(const struct difftool_config *config)
{
	char **files = config->files;

	if (!files || !files[1] || files[2])
		return "OLD and NEW are needed";
	if (strcmp(files[0], "-") == 0 && strcmp(files[1], "-") == 0)
		return "only one of OLD and NEW can be standard input";
	return NULL;
}

int difftool_run(const struct difftool_config *config)
{
	struct difftool t = {.old = {.path = config->files[0]}, .new = {.path = config->files[1]}};
	int status;

	buf_init(&t.out, BUF_NO_MAX);
	buf_init(&t.new.all, BUF_NO_MAX);
	status = read_records(&t, &t.old);
	if (status == EXIT_DONE)
		status = read_records(&t, &t.new);
	if (status == EXIT_DONE) {
		compare_all(&t);
		status = t.bad ? EXIT_DATA : t.different ? EXIT_NO : EXIT_DONE;
	}
	if (t.write_error) {
		err_error("cannot write standard output: %s", strerror(t.write_error));
		status = EXIT_IO;
	}
	free_records(&t.old);
	free_records(&t.new);
	buf_free(&t.out);
	return status;
}
