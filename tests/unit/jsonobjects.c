/* xmpp/jsonobjects: lines put together to objects, whatever the lines are */
#include "check.h"
#include "xmpp/jsonobjects.h"

#include <stdlib.h>

/* The result of lines: "N:TEXT" for objects, "!N" for objects that were broken off, joined by
 * spaces. */
static const char *gather(const char *lines, size_t max_bytes)
{
	static char out[4096];
	struct jsonobjects o;
	size_t number = 0, broken, n = 0;
	struct span object;
	const char *why;

	jsonobjects_init(&o, max_bytes);
	*out = '\0';
	for (const char *p = lines; *p; number++) {
		struct span line = {p, strcspn(p, "\n")};
		bool whole = jsonobjects_line(&o, line, number + 1, &object, &broken, &why);

		if (broken)
			n += (size_t)snprintf(out + n, sizeof(out) - n, "!%zu ", broken);
		if (whole)
			n += (size_t)snprintf(
				out + n, sizeof(out) - n, "%zu:%.*s ", o.first, SPAN_ARG(object));
		p += line.n + (p[line.n] == '\n');
	}
	broken = jsonobjects_end(&o, &why);
	if (broken)
		snprintf(out + n, sizeof(out) - n, "!%zu ", broken);
	CHECK_EQ_INT(jsonobjects_end(&o, &why), 0);
	jsonobjects_free(&o);
	return out;
}

static void lines(void)
{
	CHECK_EQ_STR(gather("{}\n{\"a\":1}", 99), "1:{} 2:{\"a\":1} ");
	CHECK_EQ_STR(gather("{\n}\n{}", 99), "1:{\n} 3:{} ");
	CHECK_EQ_STR(gather("{\n{}", 99), "!1 2:{} ");
	CHECK_EQ_STR(gather("{\n {}\n}", 99), "1:{\n {}\n} ");
	CHECK_EQ_STR(
		gather("{\"a\":\n\"}\\\"\",\"b\":[\n]}", 99), "1:{\"a\":\n\"}\\\"\",\"b\":[\n]} ");
	CHECK_EQ_STR(gather("  {\n}", 99), "1:  {\n} ");
	/* a line that is not an object is handed over alone */
	CHECK_EQ_STR(gather("\nx\n[\n{}", 99), "1: 2:x 3:[ 4:{} ");
	/* a string that is not closed cannot be mended: the rest of it is passed over */
	CHECK_EQ_STR(gather("{\"a\n\"b\":1}\n {\n{}", 99), "1:{\"a 4:{} ");
	CHECK_EQ_STR(gather("{", 99), "!1 ");
	/* more closed than opened */
	CHECK_EQ_STR(gather("{}}\n{}", 99), "1:{}} 2:{} ");
	CHECK_EQ_STR(gather("{\n1234567890\n}\n{}", 9), "!1 4:{} ");
	CHECK_EQ_STR(gather("{\n{1234567890\n{}", 9), "!2 3:{} ");
}

/* However lines are mixed, each object that begins in the first column is found again. */
static void any_lines(void)
{
	static const char *const pieces[] = {"{", "}", " {", "[", "]", "\"", "\\", "x", "{}", "\n"};

	srand(7);
	for (int i = 0; i < 20000; i++) {
		char text[64] = "";

		for (int n = rand() % 20; n > 0; n--)
			strcat(text, pieces[(size_t)rand() % (sizeof(pieces) / sizeof(*pieces))]);
		strcat(text, "\n{\"last\":1}\n");
		CHECK_MSG(strstr(gather(text, 30), ":{\"last\":1} "), "%s", text);
	}
}

int main(void)
{
	TEST(lines);
	TEST(any_lines);
	return check_done();
}
