/* Validating a roster of 1.3 MB against json-c's own parse of it. Arguments: runs. Prints a table.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "roster/roster.h"

#define CONTACTS 10000
#define ROUNDS 20

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), by_value);
	return values[count / 2];
}

static double parse_ms(struct span text)
{
	double begin = now_ms();

	for (int i = 0; i < ROUNDS; i++) {
		struct json_tokener *tokener = json_tokener_new();

		json_object_put(json_tokener_parse_ex(tokener, text.p, (int)text.n));
		json_tokener_free(tokener);
	}
	return (now_ms() - begin) / ROUNDS;
}

static double validate_ms(struct span text)
{
	struct roster_rules rules = ROSTER_RULES_INIT;
	double begin = now_ms();

	for (int i = 0; i < ROUNDS; i++) {
		struct roster roster;
		struct roster_skips skips;
		struct buf message;

		buf_init(&message, BUF_NO_MAX);
		if (roster_parse(text, &rules, &roster, &skips, &message) != ROSTER_OK ||
			roster.count != CONTACTS)
			exit(1);
		roster_free(&roster);
		roster_skips_free(&skips);
		buf_free(&message);
	}
	return (now_ms() - begin) / ROUNDS;
}

int main(int argc, char **argv)
{
	int runs = argc > 1 ? atoi(argv[1]) : 3;
	double *parse = calloc((size_t)runs + 1, sizeof(double));
	double *validate = calloc((size_t)runs + 1, sizeof(double));
	struct buf text;

	if (runs < 1 || !parse || !validate)
		return 64;
	buf_init(&text, BUF_NO_MAX);
	for (int i = 0; i < CONTACTS; i++)
		buf_printf(&text,
			"%s\"user%05d@example.org\": {\"name\": \"User Number %d of the "
			"J\xc3\xbcrgens\", \"groups\": [\"Team %d\", \"Friends\"], "
			"\"subscription\": \"both\"}",
			i ? ",\n" : "{", (i * 7919) % CONTACTS, i, i % 40);
	buf_append_char(&text, '}');
	for (int i = 0; i < runs; i++) {
		parse[i] = parse_ms(buf_span(&text));
		validate[i] = validate_ms(buf_span(&text));
	}
	printf("\nA roster of %.2f MB, %d contacts\n"
	       "                                      ms  of json-c\n"
	       "json-c's parse                  %8.2f\n"
	       "parse and validation            %8.2f %10.2f\n"
	       "to reach                                    <= 1.5\n",
		(double)buf_length(&text) / 1e6, CONTACTS, median(parse, (size_t)runs),
		median(validate, (size_t)runs),
		median(validate, (size_t)runs) / median(parse, (size_t)runs));
	buf_free(&text);
	free(parse);
	free(validate);
	return 0;
}
