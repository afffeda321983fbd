#include "jat/counters.h"

/* Sessions with metrics of their own. */
#define METRIC_SESSIONS 100

static const struct metric_name counter_names[COUNTERS] = {
	[COUNT_REQUESTS] = {"requests", NULL, "IQ requests handed on"},
	[COUNT_ANSWERS] = {"answers", NULL, "answers handed back"},
	[COUNT_RETRIES] = {"retries", NULL, "requests handed to another session"},
	[COUNT_MESSAGES] = {"messages", NULL, "messages handed on"},
	[COUNT_NO_SESSION] = METRIC_ERROR("no-session"),
	[COUNT_TIMEOUT] = METRIC_ERROR("timeout"),
	[COUNT_CONSTRAINT] = METRIC_ERROR("resource-constraint"),
	[COUNT_BAD_REQUEST] = METRIC_ERROR("bad-request"),
	[COUNT_NOT_IMPLEMENTED] = METRIC_ERROR("not-implemented"),
	[COUNT_TOO_LARGE] = METRIC_ERROR("too-large"),
	[COUNT_SESSION_LEFT] = METRIC_ERROR("session-left"),
	[COUNT_STOPPED] = METRIC_ERROR("stopped"),
	[COUNT_NO_FROM] = METRIC_DROPPED("no-from"),
	[COUNT_FOREIGN] = METRIC_DROPPED("foreign"),
	[COUNT_STRAY] = METRIC_DROPPED("stray"),
	[COUNT_LATE] = METRIC_DROPPED("late"),
	[COUNT_IGNORED] = METRIC_DROPPED("ignored"),
};

size_t counters_metrics(const uint64_t counters[COUNTERS], struct metric *out, size_t n, size_t max)
{
	return metrics_add_counters(out, n, max, counter_names, counters, COUNTERS);
}

/* Labels of a session: its target and a number. */
static void put_label(struct buf *labels, struct span target, unsigned number)
{
	buf_append_string(labels, "target=\"");
	for (size_t i = 0; i < target.n; i++) {
		if (target.p[i] == '\\' || target.p[i] == '"')
			buf_append_char(labels, '\\');
		buf_append_char(labels, target.p[i]);
	}
	buf_printf(labels, "\",session=\"%u\"", number);
	buf_append_char(labels, '\0');
}

static uint64_t session_value(const struct worker *w, int which)
{
	return which == 0   ? w->load
	       : which == 1 ? w->suspect
	       : which == 2 ? w->handed
	       : which == 3 ? w->answered
			    : w->timed_out;
}

size_t session_metrics(const struct balance *b, const struct span *targets, struct buf *labels,
	struct metric *out, size_t n, size_t max)
{
	static const struct metric kinds[] = {
		{"session_open_requests", NULL, "requests in the hands of a session", METRIC_GAUGE,
			0},
		{"session_suspect", NULL, "1: no answer and no sign of life", METRIC_GAUGE, 0},
		{"session_requests", NULL, "requests handed to a session", METRIC_COUNTER, 0},
		{"session_answers", NULL, "answers of a session", METRIC_COUNTER, 0},
		{"session_timeouts", NULL, "requests that a session let time out", METRIC_COUNTER,
			0},
	};
	size_t count = balance_count(b, TIER_THERE);

	if (count > METRIC_SESSIONS)
		count = METRIC_SESSIONS;
	buf_reset(labels);
	for (size_t i = 0; i < count; i++) {
		const struct worker *w = balance_at(b, TIER_THERE, i);

		put_label(labels, targets[w->group], w->number);
	}
	for (int kind = 0; kind < 5; kind++) {
		const char *label = buf_string(labels);

		for (size_t i = 0; i < count; i++) {
			struct metric m = kinds[kind];

			m.labels = label;
			m.value = session_value(balance_at(b, TIER_THERE, i), kind);
			n = metrics_add(out, n, max, &m, 1);
			label += strlen(label) + 1;
		}
	}
	return n;
}
