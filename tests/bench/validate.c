/*
 * validate: what it costs to read a web application's roster, beside json-c's own
 * parse of the same bytes (which is a part of it). Median of interleaved runs.
 *
 *     validate [RUNS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "roster.h"

enum { CONTACTS = 10000, RUNS_MAX = 1000 };

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void corpus(struct buf *out)
{
	buf_append_string(out, "{");
	for (int i = 0; i < CONTACTS; i++)
		buf_printf(out,
			"%s\"user%05d@contacts.example.org\": {\"name\": \"Number %d of the house "
			"of York\", "
			"\"groups\": [\"Group %d\", \"Friends\"], \"subscription\": \"both\"}",
			i ? ", " : "", i * 7919 % CONTACTS, i, i % 40);
	buf_append_string(out, "}");
}

static void parse(struct span text)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *object = json_tokener_parse_ex(tokener, text.p, (int)text.n);

	if (!json_object_is_type(object, json_type_object)) {
		fputs("validate: json-c does not take it\n", stderr);
		exit(1);
	}
	json_object_put(object);
	json_tokener_free(tokener);
}

static void validate(struct span text)
{
	struct roster roster;
	struct roster_skips skips = {0};
	struct buf why;

	roster_init(&roster);
	buf_init(&why, BUF_NO_MAX);
	if (roster_parse(text, SPAN("john@example.org"), false, &roster, &skips, &why) !=
			ROSTER_OK ||
		roster.count != CONTACTS || skips.count != 0) {
		fprintf(stderr, "validate: %zu contacts, %zu skipped: %s\n", roster.count,
			skips.count, buf_string(&why));
		exit(1);
	}
	roster_free(&roster);
	roster_skips_free(&skips);
	buf_free(&why);
}

static int order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, int n)
{
	qsort(values, (size_t)n, sizeof(*values), order);
	return values[n / 2];
}

int main(int argc, char **argv)
{
	int runs = argc > 1 ? atoi(argv[1]) * 4 + 1 : 21;
	double parsed_ms[RUNS_MAX], validated_ms[RUNS_MAX], ratio[RUNS_MAX];
	struct buf json;
	struct span text;

	if (runs < 1 || runs > RUNS_MAX)
		runs = RUNS_MAX;
	buf_init(&json, BUF_NO_MAX);
	corpus(&json);
	text = buf_span(&json);
	parse(text);
	validate(text);
	for (int i = 0; i < runs; i++) {
		double at = cpu_ms();

		parse(text);
		parsed_ms[i] = cpu_ms() - at;
		at = cpu_ms();
		validate(text);
		validated_ms[i] = cpu_ms() - at;
		ratio[i] = validated_ms[i] / parsed_ms[i];
	}
	printf("\nA roster of %d contacts, %.1f MB: json-c's parse %.1f ms, with validation %.1f "
	       "ms: "
	       "%.2f of it (to reach: <= 1.5)\n",
		CONTACTS, (double)text.n / 1e6, median(parsed_ms, runs), median(validated_ms, runs),
		median(ratio, runs));
	buf_free(&json);
	return 0;
}
