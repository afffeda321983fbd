#include <errno.h>
#include <stdlib.h>

#include "check.h"
#include "child.h"
#include "base/io.h"
#include "server/metrics.h"

static const struct metric some[] = {
	{"requests", NULL, "IQs answered", METRIC_COUNTER, 12},
	{"errors", "reason=\"timeout\"", "answers that were \"no\",\nby reason \\", METRIC_COUNTER,
		3},
	{"errors", "reason=\"refused\",side=\"server\"", "answers that were \"no\",\nby reason \\",
		METRIC_COUNTER, 0},
	{"open_requests", NULL, "waiting for an answer", METRIC_GAUGE, UINT64_MAX},
};

static void text(void)
{
	struct buf out;
	buf_init(&out, BUF_NO_MAX);
	metrics_format(some, 4, &(struct metrics_source){.program = "xmpp-\"x\""}, &out);
	CHECK_EQ_STR(buf_string(&out),
		"# TYPE outboard_requests counter\n"
		"# HELP outboard_requests IQs answered\n"
		"outboard_requests_total{program=\"xmpp-\\\"x\\\"\"} 12\n"
		"# TYPE outboard_errors counter\n"
		"# HELP outboard_errors answers that were \\\"no\\\",\\nby reason \\\\\n"
		"outboard_errors_total{program=\"xmpp-\\\"x\\\"\",reason=\"timeout\"} 3\n"
		"outboard_errors_total{program=\"xmpp-\\\"x\\\"\",reason=\"refused\",side="
		"\"server\"} 0\n"
		"# TYPE outboard_open_requests gauge\n"
		"# HELP outboard_open_requests waiting for an answer\n"
		"outboard_open_requests{program=\"xmpp-\\\"x\\\"\"} 18446744073709551615\n"
		"# EOF\n");
	buf_reset(&out);
	metrics_format(some, 1, &(struct metrics_source){"p", "host", "a\"b"}, &out);
	CHECK(strstr(buf_string(&out), "{program=\"p\",host=\"a\\\"b\"} 12\n"));
	buf_reset(&out);
	metrics_format(NULL, 0, &(struct metrics_source){.program = "p"}, &out);
	CHECK_EQ_STR(buf_string(&out), "# EOF\n");
	buf_reset(&out);
	metrics_line(some, 4, &out);
	CHECK_EQ_STR(buf_string(&out),
		"requests=12 errors{reason=\"timeout\"}=3 "
		"errors{reason=\"refused\",side=\"server\"}=0 open_requests=18446744073709551615");
	buf_free(&out);
}

static const char *file;

static void write_some(void *context)
{
	(void)context;
	printf("%d", metrics_write(file, some, 4, &(struct metrics_source){"p", "domain", "d"}));
}

static void parse_it(void *context)
{
	execl("/usr/bin/python3", "python3", "-c",
		"import sys\n"
		"from prometheus_client.openmetrics.parser import text_string_to_metric_families\n"
		"for f in text_string_to_metric_families(open(sys.argv[1]).read()):\n"
		"  print(f.name, f.type, repr(f.documentation))\n"
		"  for s in f.samples: print(s.name, sorted(s.labels.items()), '%.17g' % "
		"s.value)\n",
		(char *)context, (char *)NULL);
}

static void a_parser_reads_it(void)
{
	char path[] = "/tmp/outboard-metrics-XXXXXX";
	int fd = mkstemp(path);
	REQUIRE(fd >= 0);
	close(fd);
	file = path;
	struct child c = child_run(write_some, NULL);
	CHECK_EQ_STR(c.out, "0");
	CHECK_EQ_STR(c.err, "");
	child_free(&c);
	struct stat st;
	CHECK(stat(path, &st) == 0);
	CHECK_EQ_INT(st.st_mode & 0777, 0644);
	c = child_run(parse_it, path);
	unlink(path);
	if (strstr(c.err, "No module named") && !getenv("STRICT")) {
		fprintf(stderr, "# no prometheus_client here\n");
	} else {
		CHECK_EQ_STR(c.err, "");
		CHECK_EQ_STR(c.out,
			"outboard_requests counter 'IQs answered'\n"
			"outboard_requests_total [('domain', 'd'), ('program', 'p')] 12\n"
			"outboard_errors counter 'answers that were \"no\",\\nby reason \\\\'\n"
			"outboard_errors_total [('domain', 'd'), ('program', 'p'), ('reason', "
			"'timeout')] 3\n"
			"outboard_errors_total [('domain', 'd'), ('program', 'p'), ('reason', "
			"'refused'), "
			"('side', 'server')] 0\n"
			"outboard_open_requests gauge 'waiting for an answer'\n"
			"outboard_open_requests [('domain', 'd'), ('program', 'p')] "
			"1.8446744073709552e+19\n");
	}
	child_free(&c);
}

static void a_folder_that_is_missing(void)
{
	file = "/dev/null/metrics";
	struct child c = child_run(write_some, NULL);
	CHECK_EQ_INT(atoi(c.out), -ENOTDIR);
	child_free(&c);
}

int main(void)
{
	unsetenv("JOURNAL_STREAM");
	TEST(text);
	TEST(a_parser_reads_it);
	TEST(a_folder_that_is_missing);
	return check_done();
}
