/*
 * Assertions for the programs in tests/unit/. One program is one test of unit.bats:
 *
 *	#include "check.h"
 *
 *	static void jid_splits(void)
 *	{
 *		CHECK_EQ_STR(jid.domain, "capulet.lit");
 *	}
 *
 *	int main(void)
 *	{
 *		TEST(jid_splits);
 *		return check_done();
 *	}
 *
 * A failed check prints file, line, the test's name and both values, the rest goes on (a REQUIRE
 * ends the test function's caller: use it where going on makes no sense), and check_done() returns
 * 1. It also returns 1 when nothing was checked at all, and TEST fails a function without checks.
 */
#ifndef OUTBOARD_TESTS_CHECK_H
#define OUTBOARD_TESTS_CHECK_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long check_count, check_failures;
static const char *check_name = "main";

__attribute__((format(printf, 4, 5), unused)) static bool check_report(
	bool ok, const char *file, int line, const char *fmt, ...)
{
	check_count++;
	if (ok)
		return true;
	check_failures++;
	fprintf(stderr, "%s:%d: %s: ", file, line, check_name);
	__builtin_va_list ap;
	__builtin_va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	__builtin_va_end(ap);
	fputc('\n', stderr);
	return false;
}

/* Bytes as a C string literal, so that control bytes and NULs show. */
__attribute__((unused)) static char *check_quote(const void *bytes, size_t n)
{
	const unsigned char *b = bytes;
	char *out = malloc(n * 4 + 3), *o = out;
	if (!out)
		abort();
	*o++ = '"';
	for (size_t i = 0; i < n; i++) {
		if (b[i] == '\n')
			o += sprintf(o, "\\n");
		else if (b[i] == '"' || b[i] == '\\')
			o += sprintf(o, "\\%c", b[i]);
		else if (b[i] < 0x20 || b[i] == 0x7f)
			o += sprintf(o, "\\x%02x", b[i]);
		else
			*o++ = (char)b[i];
	}
	*o++ = '"';
	*o = '\0';
	return out;
}

__attribute__((unused)) static bool check_eq_mem(const char *file, int line, const char *what,
	const void *got, size_t got_n, const void *want, size_t want_n)
{
	if (got_n == want_n && (got_n == 0 || memcmp(got, want, got_n) == 0))
		return check_report(true, file, line, "%s", what);
	char *g = check_quote(got, got_n), *w = check_quote(want, want_n);
	check_report(false, file, line, "%s is %s, not %s", what, g, w);
	free(g);
	free(w);
	return false;
}

__attribute__((unused)) static bool check_eq_str(
	const char *file, int line, const char *what, const char *got, const char *want)
{
	if (!got || !want)
		return check_report(got == want, file, line, "%s is %s, not %s", what,
			got ? got : "(null)", want ? want : "(null)");
	return check_eq_mem(file, line, what, got, strlen(got), want, strlen(want));
}

__attribute__((unused)) static bool check_eq_int(
	const char *file, int line, const char *what, intmax_t got, intmax_t want)
{
	return check_report(
		got == want, file, line, "%s is %" PRIdMAX ", not %" PRIdMAX, what, got, want);
}

/* EXPR is true. Each of these is an expression: true when the check held. */
#define CHECK(expr) check_report((expr), __FILE__, __LINE__, "%s", "not so: " #expr)
/* As CHECK, with words of your own after it. */
#define CHECK_MSG(expr, ...) check_report((expr), __FILE__, __LINE__, #expr ": " __VA_ARGS__)
/* NUL-terminated strings, either may be NULL. */
#define CHECK_EQ_STR(got, want) check_eq_str(__FILE__, __LINE__, #got, (got), (want))
/* Integers of any type that fits intmax_t, enums, sizes. */
#define CHECK_EQ_INT(got, want)                                                                    \
	check_eq_int(__FILE__, __LINE__, #got, (intmax_t)(got), (intmax_t)(want))
/* Bytes. */
#define CHECK_EQ_MEM(got, got_n, want, want_n)                                                     \
	check_eq_mem(__FILE__, __LINE__, #got, (got), (got_n), (want), (want_n))
/* A struct span (anything with p and n) and a NUL-terminated string. */
#define CHECK_EQ_SPAN(got, want)                                                                   \
	check_eq_mem(__FILE__, __LINE__, #got, (got).p, (got).n, (want), strlen(want))
/* As CHECK; returns from the calling void function when it does not hold. */
#define REQUIRE(expr)                                                                              \
	do {                                                                                       \
		if (!CHECK(expr))                                                                  \
			return;                                                                    \
	} while (0)

/* Runs the function and prints a line of TAP for it. */
#define TEST(function) check_run(#function, function)

__attribute__((unused)) static void check_run(const char *name, void (*function)(void))
{
	static int number;
	unsigned long count = check_count, failures = check_failures;
	check_name = name;
	function();
	if (check_count == count)
		check_report(false, __FILE__, __LINE__, "nothing was checked");
	printf("%sok %d - %s\n", failures == check_failures ? "" : "not ", ++number, name);
	fflush(stdout);
	check_name = "main";
}

/* The exit status for main. */
__attribute__((unused)) static int check_done(void)
{
	if (check_count == 0)
		fprintf(stderr, "nothing was checked\n");
	else
		printf("# %lu checks, %lu failed\n", check_count, check_failures);
	return check_count == 0 || check_failures > 0;
}

#endif
