/* server/metrics.h - counters, as OpenMetrics text and as a line for SIGUSR1
 */
#ifndef OUTBOARD_SERVER_METRICS_H
#define OUTBOARD_SERVER_METRICS_H

#include <stdint.h>

#include "base/buf.h"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE };

struct metric {
	const char *name;   /* "requests", becomes outboard_requests_total (counter) or
			       outboard_requests */
	const char *labels; /* "reason=\"timeout\"" or NULL; metrics of one name stand together */
	const char *help;
	enum metric_kind kind;
	uint64_t value;
};

/* The name of a counter: a table of these stands beside an array of values. */
struct metric_name {
	const char *name, *labels, *help;
};
/* The two counters that every service has, "errors" and "dropped", have a label for the reason. */
#define METRIC_ERROR(reason)                                                                       \
	{                                                                                          \
		"errors", "reason=\"" reason "\"", "requests answered with an error"               \
	}
#define METRIC_DROPPED(reason)                                                                     \
	{                                                                                          \
		"dropped", "reason=\"" reason "\"", "stanzas dropped"                              \
	}

/* Append metrics, or counters, to the n that are in out, up to max; returns the new number. */
size_t metrics_add(
	struct metric *out, size_t n, size_t max, const struct metric *more, size_t count);
size_t metrics_add_counters(struct metric *out, size_t n, size_t max,
	const struct metric_name *names, const uint64_t *values, size_t count);

/* Labels of each sample, so that several instances can share a folder. */
struct metrics_source {
	const char *program;
	const char *label, *value; /* label="value": the domain or host served; NULL: none */
};

/* OpenMetrics 1.0 exposition, ends with # EOF. */
void metrics_format(const struct metric *metrics, size_t count, const struct metrics_source *source,
	struct buf *out);
/* "name=value name{labels}=value ..." on one line. */
void metrics_line(const struct metric *metrics, size_t count, struct buf *out);
/* Replace the file atomically (0644); 0 or a negative errno. */
int metrics_write(const char *path, const struct metric *metrics, size_t count,
	const struct metrics_source *source);

#endif
