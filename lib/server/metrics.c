/* metrics.c - see metrics.h */
#include "server/metrics.h"

#include <inttypes.h>
#include <string.h>

#include "base/io.h"

#define PREFIX "outboard_"

size_t metrics_add(
	struct metric *out, size_t n, size_t max, const struct metric *more, size_t count)
{
	for (size_t i = 0; i < count && n < max; i++)
		out[n++] = more[i];
	return n;
}

size_t metrics_add_counters(struct metric *out, size_t n, size_t max,
	const struct metric_name *names, const uint64_t *values, size_t count)
{
	for (size_t i = 0; i < count && n < max; i++)
		out[n++] = (struct metric){
			names[i].name, names[i].labels, names[i].help, METRIC_COUNTER, values[i]};
	return n;
}

/* As OpenMetrics 1.0 escapes label values and help texts. */
static void append_escaped(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\n') {
			buf_append_string(out, "\\n");
			continue;
		}
		if (*text == '\\' || *text == '"')
			buf_append_char(out, '\\');
		buf_append_char(out, *text);
	}
}

static void append_sample(
	struct buf *out, const struct metric *m, const struct metrics_source *source)
{
	buf_printf(
		out, PREFIX "%s%s{program=\"", m->name, m->kind == METRIC_COUNTER ? "_total" : "");
	append_escaped(out, source->program);
	if (source->value) {
		buf_printf(out, "\",%s=\"", source->label);
		append_escaped(out, source->value);
	}
	buf_printf(out, "\"%s%s} %" PRIu64 "\n", m->labels ? "," : "", m->labels ? m->labels : "",
		m->value);
}

void metrics_format(const struct metric *metrics, size_t count, const struct metrics_source *source,
	struct buf *out)
{
	for (size_t i = 0; i < count; i++) {
		const struct metric *m = &metrics[i];
		if (i == 0 || strcmp(m->name, metrics[i - 1].name) != 0) {
			buf_printf(out, "# TYPE " PREFIX "%s %s\n# HELP " PREFIX "%s ", m->name,
				m->kind == METRIC_COUNTER ? "counter" : "gauge", m->name);
			append_escaped(out, m->help);
			buf_append_char(out, '\n');
		}
		append_sample(out, m, source);
	}
	buf_append_string(out, "# EOF\n");
}

void metrics_line(const struct metric *metrics, size_t count, struct buf *out)
{
	for (size_t i = 0; i < count; i++) {
		const struct metric *m = &metrics[i];
		buf_printf(out, "%s%s", i ? " " : "", m->name);
		if (m->labels)
			buf_printf(out, "{%s}", m->labels);
		buf_printf(out, "=%" PRIu64, m->value);
	}
}

int metrics_write(const char *path, const struct metric *metrics, size_t count,
	const struct metrics_source *source)
{
	struct buf text;
	buf_init(&text, BUF_NO_MAX);
	metrics_format(metrics, count, source, &text);
	int error = io_replace_file(path, buf_span(&text), 0644);
	buf_free(&text);
	return error;
}
