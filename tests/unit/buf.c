#include "base/buf.h"
#include "base/err.h"
#include "check.h"

static void invariants(void)
{
	struct buf b;
	buf_init(&b, 10);
	CHECK_EQ_STR(buf_string(&b), "");
	CHECK(buf_append(&b, "", 0));
	CHECK(buf_append(&b, NULL, 0));
	CHECK_EQ_INT(b.capacity, 0);
	buf_reset(&b);
	buf_consume(&b, 5);
	buf_truncate(&b, 0);
	CHECK(buf_append_string(&b, "0123456789"));
	CHECK(!buf_append_char(&b, 'x'));
	CHECK(!buf_printf(&b, "%d", 5));
	CHECK(buf_printf(&b, "%s", ""));
	CHECK(!buf_reserve(&b, 1));
	CHECK(buf_reserve(&b, 0));
	CHECK_EQ_STR(buf_string(&b), "0123456789");
	buf_consume(&b, 4);
	CHECK_EQ_SPAN(buf_span(&b), "456789");
	CHECK(buf_printf(&b, "%d", 1234));
	CHECK_EQ_STR(buf_string(&b), "4567891234");
	buf_truncate(&b, 3);
	CHECK_EQ_STR(buf_string(&b), "456");
	buf_truncate(&b, 9);
	CHECK_EQ_INT(buf_length(&b), 3);
	buf_consume(&b, 99);
	CHECK_EQ_INT(buf_length(&b), 0);
	CHECK(!buf_reserve(&b, (size_t)-1));
	CHECK(!buf_reserve(&b, 11));
	CHECK(!buf_append(&b, "x", (size_t)-1));
	buf_free(&b);
	CHECK_EQ_STR(buf_string(&b), "");
	CHECK_EQ_INT(b.max, 10);
	buf_free(&b);
}

static void reset_returns_large_memory(void)
{
	struct buf b;
	buf_init(&b, BUF_NO_MAX);
	char *to = buf_reserve(&b, 3000000);
	memset(to, 'x', 3000000);
	buf_commit(&b, 3000000);
	CHECK_EQ_INT(buf_length(&b), 3000000);
	buf_reset(&b);
	CHECK_EQ_INT(b.capacity, 0);
	buf_append_string(&b, "x");
	size_t kept = b.capacity;
	buf_reset(&b);
	CHECK_EQ_INT(b.capacity, kept);
	buf_free(&b);
}

/* Appending at one end and consuming at the other stays within twice the live bytes. */
static void a_queue_does_not_grow(void)
{
	struct buf b;
	buf_init(&b, 5000);
	for (int i = 0; i < 200000; i++) {
		CHECK(buf_append(&b, "0123456789abc", 13));
		if (buf_length(&b) > 4000)
			buf_consume(&b, 14);
	}
	CHECK(b.capacity <= 16384);
	buf_free(&b);
}

/* Random operations, compared with the simplest correct implementation. */
static void behaves_like_an_array(void)
{
	enum { MAX = 3000 };
	char model[MAX], piece[1200];
	size_t live = 0;
	struct buf b;
	buf_init(&b, MAX);
	srand(1);
	for (int step = 0; step < 100000; step++) {
		size_t n = (size_t)rand() % (rand() % 4 ? 40 : sizeof piece);
		bool fits = live + n <= MAX;
		for (size_t i = 0; i < n; i++)
			piece[i] = (char)rand();
		switch (rand() % 8) {
		case 0:
			n = n % (live + 2);
			buf_consume(&b, n);
			n = n < live ? n : live;
			memmove(model, model + n, live - n);
			live -= n;
			break;
		case 1:
			buf_truncate(&b, n);
			live = n < live ? n : live;
			break;
		case 2:
			if (rand() % 50 == 0) {
				buf_reset(&b);
				live = 0;
			} else if (rand() % 50 == 0) {
				buf_free(&b);
				live = 0;
			}
			break;
		case 3: {
			char *to = buf_reserve(&b, n);
			REQUIRE(fits == (to != NULL));
			if (to) {
				n /= 2;
				memcpy(to, piece, n);
				buf_commit(&b, n);
			} else {
				n = 0;
			}
			memcpy(model + live, piece, n);
			live += n;
			break;
		}
		case 4:
			for (size_t i = 0; i < n; i++)
				piece[i] = (char)('a' + (piece[i] & 7));
			REQUIRE(buf_printf(&b, "%.*s", (int)n, piece) == fits);
			memcpy(model + live, piece, fits ? n : 0);
			live += fits ? n : 0;
			break;
		default:
			REQUIRE(buf_append(&b, piece, n) == fits);
			memcpy(model + live, piece, fits ? n : 0);
			live += fits ? n : 0;
		}
		struct span s = buf_span(&b);
		if (!CHECK_EQ_MEM(s.p, s.n, model, live) || !CHECK(s.p[s.n] == '\0') ||
			!CHECK(b.start <= b.n))
			break;
	}
	buf_free(&b);
}

/* With 64 bits most of it can be had, with 32 it cannot; never less than was asked for by wrapping.
 */
static void limits_do_not_wrap(void)
{
	CHECK_EQ_INT(buf_bytes(0), 0);
	CHECK_EQ_INT(buf_bytes(INT32_MAX - 1), INT32_MAX - 1);
	CHECK(buf_bytes(INT64_C(1) << 40) == (sizeof(size_t) > 4 ? (uint64_t)1 << 40 : BUF_NO_MAX));
	CHECK(buf_bytes(INT64_MAX) == BUF_NO_MAX);
	CHECK_EQ_INT(buf_bytes_and(5, 3, 7), 26);
	CHECK(buf_bytes_and(BUF_NO_MAX - 4, 2, 2) == BUF_NO_MAX);
	CHECK(buf_bytes_and(BUF_NO_MAX - 4, 2, 3) == BUF_NO_MAX);
	CHECK(buf_bytes_and(1, 2, BUF_NO_MAX) == BUF_NO_MAX);
	CHECK(buf_bytes_and(1, 8, BUF_NO_MAX / 4 + 1) == BUF_NO_MAX);
	CHECK(buf_bytes_and(SIZE_MAX, 1, 1) == BUF_NO_MAX);
}

static void lines_are_taken_off(void)
{
	static const char *const lines[] = {"a", "", "bc", ""};
	struct span rest = SPAN("a\n\nbc"), line;

	for (size_t i = 0; i < 4; i++) {
		line = span_take_until(&rest, '\n');
		CHECK_EQ_SPAN(line, lines[i]);
		CHECK_EQ_INT(rest.n, (i == 0 ? 3 : i == 1 ? 2 : 0));
	}
	rest = SPAN("d\n");
	line = span_take_until(&rest, '\n');
	CHECK_EQ_SPAN(line, "d");
	CHECK_EQ_INT(rest.n, 0);
}

static void a_list_grows_with_its_items(void)
{
	size_t size = 0, *list = NULL;
	bool kept = true;

	for (size_t i = 0; i < 1000; i++) {
		list = xgrow(list, &size, i, sizeof(*list));
		CHECK(size > i && size <= 2 * i + 8);
		list[i] = i;
	}
	for (size_t i = 0; i < 1000; i++)
		kept = kept && list[i] == i;
	CHECK(kept);
	free(list);
}

int main(void)
{
	TEST(limits_do_not_wrap);
	TEST(invariants);
	TEST(reset_returns_large_memory);
	TEST(a_queue_does_not_grow);
	TEST(behaves_like_an_array);
	TEST(lines_are_taken_off);
	TEST(a_list_grows_with_its_items);
	return check_done();
}
