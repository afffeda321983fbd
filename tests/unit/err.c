#include "check.h"
#include "child.h"
#include "base/err.h"
#include "base/json.h"

#include <errno.h>
#include <sys/socket.h>

#if defined(__SANITIZE_ADDRESS__)
#define ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN
#endif
#endif

static void say_things(void *context)
{
	(void)context;
	err_init("/usr/bin/some-program");
	err_error("cannot open '%s': %s", "x", "no such file");
	err_note("seen");
	err_info("not seen");
	err_verbosity(1);
	err_info("seen now");
	err_verbosity(-1);
	err_verbosity(-1);
	err_note("not seen either");
	err_warn("not a warning");
	err_verbosity(-5);
	err_error("errors always");
	err_verbosity(9);
	err_debug("all");
}

static void words(void)
{
	struct child c = child_run(say_things, NULL);
	CHECK_EQ_INT(c.status, 0);
	CHECK_EQ_STR(c.out, "");
	CHECK_EQ_STR(c.err, "some-program: cannot open 'x': no such file\n"
			    "some-program: seen\n"
			    "some-program: seen now\n"
			    "some-program: not a warning\n"
			    "some-program: errors always\n"
			    "some-program: all\n");
	child_free(&c);
}

static void say_often(void *context)
{
	struct err_limit limit = {0}, other = {0};

	(void)context;
	err_init("p");
	for (int64_t now_ms = 1000; now_ms < 200000; now_ms += 20000)
		err_log_limited(&limit, now_ms, ERR_WARNING, "at %d", (int)now_ms);
	err_log_limited(&other, 1000, ERR_WARNING, "another");
	err_log_limited(&other, 1000, ERR_DEBUG, "not shown, not counted");
	err_log_limited(&other, 70000, ERR_WARNING, "another");
}

static void often_is_said_once_a_minute(void)
{
	struct child c = child_run(say_often, NULL);
	CHECK_EQ_STR(c.err, "p: at 1000\n"
			    "p: at 61000\np: the last message came 2 times more in between\n"
			    "p: at 121000\np: the last message came 2 times more in between\n"
			    "p: at 181000\np: the last message came 2 times more in between\n"
			    "p: another\np: another\n");
	child_free(&c);
}

static void say_controls(void *format)
{
	err_init("p");
	err_log_format(format);
	err_error("a\nb\x1b[31m\x7f\t\r.");
	err_error("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
	/* C1, overlong, surrogate, beyond U+10FFFF, cut short, lone */
	err_error("\xc2\x9b|\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\xe0\x80\x80|\xf0\x80\x80\x80|"
		  "\xff|"
		  "\xe2\x82");
	err_error("\"quoted\" \\ back");
}

static void control_bytes_are_masked(void)
{
	struct child c = child_run(say_controls, "text");
	CHECK_EQ_STR(c.err, "p: a?b?[31m???.\n"
			    "p: \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\n"
			    "p: ?\?|?\?|?\?\?|?\?\?\?|?\?\?|?\?\?\?|?|?\?\n"
			    "p: \"quoted\" \\ back\n");
	child_free(&c);
}

static void json(void)
{
	struct child c = child_run(say_controls, "json");
	CHECK_EQ_STR(c.err,
		"{\"level\":\"error\",\"program\":\"p\",\"message\":\"a?b?[31m???.\"}\n"
		"{\"level\":\"error\",\"program\":\"p\",\"message\":\"\xc3\xa9 \xe2\x82\xac "
		"\xf0\x9f\x98\x80\"}\n"
		"{\"level\":\"error\",\"program\":\"p\",\"message\":\"?\?|?\?|?\?\?|?\?\?\?|?\?\?|"
		"?\?\?\?|?|?\?\"}\n"
		"{\"level\":\"error\",\"program\":\"p\",\"message\":\"\\\"quoted\\\" \\\\ "
		"back\"}\n");
	child_free(&c);
	CHECK(!err_log_format("yaml"));
	CHECK(err_log_format("text"));
}

static void say_to_journal(void *context)
{
	struct stat st;
	char stream[64];
	const char *extra = context;
	fstat(2, &st);
	snprintf(stream, sizeof stream, "%ju:%ju%s", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino,
		extra);
	setenv("JOURNAL_STREAM", stream, 1);
	err_init("p");
	err_error("e");
	err_warn("w");
	err_note("n");
	err_log_format("json");
	err_note("n");
}

static void journal_priorities(void)
{
	static const char object[] = "{\"level\":\"notice\",\"program\":\"p\",\"message\":\"n\"}\n";
	char want[128];
	struct child c = child_run(say_to_journal, "");
	snprintf(want, sizeof want, "<3>p: e\n<4>p: w\n<5>p: n\n<5>%s", object);
	CHECK_EQ_STR(c.err, want);
	child_free(&c);
	/* another stream's number, or no number at all */
	static const char *const others[] = {"1", "x", ":"};
	snprintf(want, sizeof want, "p: e\np: w\np: n\n%s", object);
	for (size_t i = 0; i < 3; i++) {
		c = child_run(say_to_journal, (void *)(uintptr_t)others[i]);
		CHECK_EQ_STR(c.err, want);
		child_free(&c);
	}
}

static void say_much(void *context)
{
	size_t n = *(size_t *)context;
	char *text = malloc(n + 1);
	memset(text, '"', n);
	text[n] = '\0';
	err_init("p");
	err_error("%s", text);
	err_log_format("json");
	err_error("%s", text);
	free(text);
}

static void long_lines_are_cut(void)
{
	for (size_t n = 8000; n < 20000; n += 123) {
		struct child c = child_run(say_much, &n);
		char *second = strchr(c.err, '\n');
		REQUIRE(second);
		size_t first_n = (size_t)(second - c.err), second_n = strlen(second + 1);
		bool whole = first_n == n + 3;
		CHECK(first_n < 16384 && second_n <= 16384);
		CHECK(whole || (n > 16300 && memcmp(second - 4, "\"...", 4) == 0));
		CHECK(second_n > (n < 16000 ? n : 16000) &&
			memcmp(second + second_n - 2, "\"}\n", 3) == 0);
		child_free(&c);
	}
}

static void one_line_is_one_write(void)
{
	int pair[2];
	char got[64];
	REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
	int saved = dup(2);
	dup2(pair[1], 2);
	errno = EBADF;
	err_error("one\ntwo");
	bool kept = errno == EBADF;
	dup2(saved, 2);
	close(saved);
	close(pair[1]);
	CHECK(kept);
	ssize_t n = read(pair[0], got, sizeof got);
	CHECK_EQ_MEM(got, (size_t)n, "outboard: one?two\n", 18);
	CHECK_EQ_INT(read(pair[0], got, sizeof got), 0);
	close(pair[0]);
}

/* Random bytes with a liking for those that matter: text lines hold nothing a terminal obeys,
 * JSON lines parse and say the same. */
static void say_random(void *context)
{
	static const char liked[] = "\"\\\n\x1b\x7f\xc2\x9b\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0\xff"
				    "a {}";
	srand(*(unsigned *)context);
	err_init("p");
	for (int line = 0; line < 2000; line++) {
		char text[40];
		size_t n = (size_t)rand() % (sizeof text - 1);
		for (size_t i = 0; i < n; i++) {
			int r = rand() % 2 ? liked[(size_t)rand() % (sizeof liked - 1)]
					   : rand() % 255 + 1;
			text[i] = (char)r;
		}
		text[n] = '\0';
		err_log_format("text");
		err_error("%s", text);
		err_log_format("json");
		err_error("%s", text);
	}
}

static void any_bytes_make_clean_lines(void)
{
	for (unsigned start = 1; start <= 5; start++) {
		struct child c = child_run(say_random, &start);
		int lines = 0;
		for (char *line = c.err, *end; (end = strchr(line, '\n')); line = end + 1) {
			*end = '\0';
			char *second = end + 1;
			end = strchr(second, '\n');
			REQUIRE(end && memcmp(line, "p: ", 3) == 0);
			*end = '\0';
			bool clean = true;
			for (unsigned char *s = (unsigned char *)line; *s; s++)
				clean = clean && *s >= 0x20 && *s != 0x7f;
			struct json_object *o = NULL;
			struct buf message;
			buf_init(&message, BUF_NO_MAX);
			enum json_status read = json_parse(span_of(second), 4, &o, &message);
			CHECK(clean && read == JSON_OK);
			CHECK_EQ_STR(json_object_get_string(json_object_object_get(o, "message")),
				line + 3);
			json_object_put(o);
			buf_free(&message);
			lines++;
		}
		CHECK_EQ_INT(lines, 2000);
		child_free(&c);
	}
}

static void die(void *context)
{
	err_init("p");
	err_verbosity(-9);
	err_die(*(enum exit_status *)context, "%s", "so");
}

static void death_has_a_status(void)
{
	enum exit_status status = EXIT_CONFIG;
	struct child c = child_run(die, &status);
	CHECK_EQ_INT(c.status, 78);
	CHECK_EQ_STR(c.err, "p: so\n");
	child_free(&c);
}

static void allocate_too_much(void *context)
{
	volatile size_t huge = SIZE_MAX / 2 + 1;
	switch (*(int *)context) {
	case 0:
		printf("%p\n", xmalloc(huge));
		break;
	case 1:
		printf("%p\n", xcalloc(huge, 4));
		break;
	case 2:
		printf("%p\n", xrealloc(NULL, huge));
		break;
	default:
		printf("%p\n", (void *)xstrndup("", huge * 2 - 1));
	}
}

static void allocation_never_fails(void)
{
	char *s = xstrndup("abc", 2);
	CHECK_EQ_STR(s, "ab");
	s = xrealloc(s, 0);
	CHECK(s);
	free(s);
	s = xcalloc(0, 8);
	CHECK(s);
	free(s);
	/* sanitizers and valgrind print messages of their own for such sizes */
#ifndef ASAN
	for (int i = 0; i < 4; i++) {
		struct child c = child_run(allocate_too_much, &i);
		CHECK_EQ_INT(c.status, EXIT_TEMPORARY);
		CHECK_EQ_STR(c.err, "outboard: out of memory\n");
		CHECK_EQ_STR(c.out, "");
		child_free(&c);
	}
#else
	(void)allocate_too_much;
#endif
}

int main(void)
{
	unsetenv("JOURNAL_STREAM");
	TEST(words);
	TEST(often_is_said_once_a_minute);
	TEST(control_bytes_are_masked);
	TEST(json);
	TEST(journal_priorities);
	TEST(long_lines_are_cut);
	TEST(one_line_is_one_write);
	TEST(any_bytes_make_clean_lines);
	TEST(death_has_a_status);
	TEST(allocation_never_fails);
	return check_done();
}
