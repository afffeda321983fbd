#include "check.h"
#include "base/table.h"

static const uint64_t seed[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};

/* The reference vectors of SipHash-1-3 (key and text 00 01 02 ...). */
static void siphash_vectors(void)
{
	static const struct {
		size_t n;
		uint64_t hash;
	} vectors[] = {
		{0, UINT64_C(0xabac0158050fc4dc)},
		{1, UINT64_C(0xc9f49bf37d57ca93)},
		{7, UINT64_C(0xd3927d989bb11140)},
		{8, UINT64_C(0x369095118d299a8e)},
		{15, UINT64_C(0xd320d86d2a519956)},
	};
	char text[16];
	for (int i = 0; i < 16; i++)
		text[i] = (char)i;
	for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
		CHECK(table_hash(seed, (struct span){text, vectors[i].n}) == vectors[i].hash);
	const uint64_t other[2] = {seed[0], seed[1] ^ 1};
	CHECK(table_hash(other, SPAN("a")) != table_hash(seed, SPAN("a")));
	CHECK(table_hash(seed, (struct span){"a", 2}) != table_hash(seed, SPAN("a")));
}

static void records(void)
{
	struct table *r = table_new(10, 100000, seed);
	CHECK(!table_earliest(r));
	CHECK_EQ_INT(table_deadline(r), INT64_MAX);
	CHECK(!table_find(r, SPAN("a")));
	char key[] = "a\0b";
	struct table_entry *e = table_add(r, (struct span){key, 3}, 40, 50);
	REQUIRE(e);
	memset(key, 'x', 3);
	CHECK_EQ_MEM(table_entry_key(e).p, table_entry_key(e).n, "a\0b", 3);
	CHECK(table_find(r, (struct span){"a\0b", 3}) == e);
	CHECK(!table_find(r, SPAN("a")));
	unsigned char *record = table_record(e);
	CHECK_EQ_INT((uintptr_t)record % _Alignof(max_align_t), 0);
	for (int i = 0; i < 40; i++)
		CHECK_EQ_INT(record[i], 0);
	memset(record, 0xff, 40);
	CHECK(table_entry_of(record) == e);
	CHECK_EQ_MEM(table_entry_key(e).p, table_entry_key(e).n, "a\0b", 3);
	struct table_entry *empty = table_add(r, SPAN_NONE, 0, 20);
	REQUIRE(empty);
	CHECK(table_find(r, SPAN("")) == empty);
	CHECK(table_find(r, SPAN_NONE) == empty);
	CHECK(table_earliest(r) == empty);
	table_deadline_set(r, empty, INT64_MAX);
	CHECK(table_earliest(r) == e);
	CHECK_EQ_INT(table_deadline(r), 50);
	CHECK_EQ_INT(table_count(r), 2);
	table_remove(r, e);
	CHECK(table_earliest(r) == empty);
	table_remove(r, empty);
	CHECK_EQ_INT(table_count(r), 0);
	CHECK_EQ_INT(table_bytes(r), 0);
	/* with a hash that was computed before */
	struct table_key hashed = table_key(r, SPAN("k"));
	CHECK_EQ_INT(hashed.hash, table_hash(seed, SPAN("k")));
	CHECK(!table_find_hashed(r, &hashed));
	e = table_add_hashed(r, &hashed, 8, 1);
	REQUIRE(e);
	CHECK(table_find(r, SPAN("k")) == e);
	CHECK(table_find_hashed(r, &hashed) == e);
	CHECK(table_key(r, SPAN_NONE).hash == table_key(r, SPAN("")).hash);
	table_remove(r, e);
	table_free(r);
	table_free(NULL);
}

static void bounds(void)
{
	struct table *r = table_new(3, 1000, seed);
	struct table_entry *a = table_add(r, SPAN("a"), 8, 1);
	REQUIRE(a);
	size_t one = table_bytes(r);
	CHECK_EQ_INT(one, a->bytes);
	CHECK(one >= sizeof *a + 9);
	CHECK(table_add(r, SPAN("b"), 8, 2));
	CHECK(table_add(r, SPAN("b"), 8, 3));
	CHECK(!table_add(r, SPAN("c"), 8, 4));
	CHECK_EQ_INT(table_count(r), 3);
	CHECK_EQ_INT(table_bytes(r), 3 * one);
	size_t left = 1000 - 3 * one;
	CHECK(!table_charge(r, a, left + 1));
	CHECK(!table_charge(r, a, SIZE_MAX));
	CHECK_EQ_INT(table_bytes(r), 3 * one);
	CHECK(table_charge(r, a, left));
	CHECK_EQ_INT(table_bytes(r), 1000);
	CHECK(!table_charge(r, a, 1));
	CHECK(table_charge(r, a, 0));
	table_remove(r, table_find(r, SPAN("b")));
	CHECK(!table_add(r, SPAN("bb"), 8, 5));
	CHECK(table_add(r, SPAN("b"), 8, 5));
	table_remove(r, a);
	CHECK_EQ_INT(table_bytes(r), 2 * one);
	CHECK(!table_add(r, SPAN("c"), SIZE_MAX, 1));
	CHECK(!table_add(r, SPAN("c"), SIZE_MAX - 200, 1));
	CHECK(!table_add(r, (struct span){"c", SIZE_MAX - 100}, 8, 1));
	CHECK_EQ_INT(table_count(r), 2);
	table_free(r);
	r = table_new(0, 1000, seed);
	CHECK(!table_add(r, SPAN("a"), 0, 1));
	table_free(r);
}

/* --- random operations against the simplest thing that could be right: a list in order of
 * addition */

struct model {
	struct table_entry *entry;
	char key[8];
	size_t key_n;
	int64_t deadline_ms;
	size_t bytes;
	unsigned number;
};

enum { MODEL_MAX = 700, MODEL_BYTES = 120000 };
static struct model model[MODEL_MAX + 1];
static size_t model_count, model_bytes;

static bool same_key(const struct model *a, const char *key, size_t n)
{
	return a->key_n == n && memcmp(a->key, key, n) == 0;
}

/* Whether the table is as the model: counts, earliest, and the keys' entries in order. */
static bool agrees(const struct table *r, const char *key, size_t n)
{
	int64_t earliest_ms = INT64_MAX;
	bool earliest_there = model_count == 0 && !table_earliest(r);
	struct table_entry *e = table_find(r, (struct span){key, n});
	for (size_t i = 0; i < model_count; i++) {
		if (model[i].deadline_ms < earliest_ms)
			earliest_ms = model[i].deadline_ms;
		earliest_there = earliest_there || table_earliest(r) == model[i].entry;
		if (!same_key(&model[i], key, n))
			continue;
		if (!CHECK(e == model[i].entry) ||
			!CHECK_EQ_INT(*(unsigned *)table_record(e), model[i].number))
			return false;
		e = table_find_next(r, e);
	}
	return CHECK(!e) && CHECK(earliest_there) && CHECK_EQ_INT(table_deadline(r), earliest_ms) &&
	       (!model_count || CHECK_EQ_INT(table_earliest(r)->deadline_ms, earliest_ms)) &&
	       CHECK_EQ_INT(table_count(r), model_count) &&
	       CHECK_EQ_INT(table_bytes(r), model_bytes);
}

static void forget(struct table *r, size_t i)
{
	table_remove(r, model[i].entry);
	model_bytes -= model[i].bytes;
	memmove(&model[i], &model[i + 1], (model_count - i - 1) * sizeof *model);
	model_count--;
}

static void run_model(unsigned start, int keys, int growth)
{
	static unsigned number;
	struct table *r = table_new(MODEL_MAX, MODEL_BYTES, seed);
	srand(start);
	model_count = model_bytes = 0;
	for (int step = 0; step < 20000; step++) {
		char key[8];
		size_t n = (size_t)snprintf(key, sizeof key, "%d", rand() % keys) - 1;
		size_t i = model_count ? (size_t)rand() % model_count : 0;
		int what = rand() % 16;
		if (what < growth) {
			size_t record_bytes = sizeof number + (size_t)rand() % 60;
			int64_t deadline_ms = rand() % 8 ? rand() % 1000 : INT64_MAX;
			struct model *m = &model[model_count];
			m->entry = table_add(r, (struct span){key, n}, record_bytes, deadline_ms);
			if (m->entry) {
				*(unsigned *)table_record(m->entry) = m->number = number++;
				memcpy(m->key, key, sizeof key);
				m->key_n = n;
				m->deadline_ms = deadline_ms;
				m->bytes = m->entry->bytes;
				model_bytes += m->bytes;
				model_count++;
			} else if (!CHECK(model_count == MODEL_MAX ||
					   model_bytes > MODEL_BYTES - 300)) {
				break;
			}
		} else if (model_count && what < 12) {
			model[i].deadline_ms = rand() % 1000;
			table_deadline_set(r, model[i].entry, model[i].deadline_ms);
		} else if (model_count && what < 13) {
			size_t more = (size_t)rand() % 100;
			bool fits = more <= MODEL_BYTES - model_bytes;
			CHECK(table_charge(r, model[i].entry, more) == fits);
			model[i].bytes += fits ? more : 0;
			model_bytes += fits ? more : 0;
		} else if (model_count && what == 13) {
			/* forget the earliest, as an expiry does */
			for (i = 0; model[i].entry != table_earliest(r); i++)
				;
			forget(r, i);
		} else if (model_count) {
			forget(r, i);
		}
		if (!agrees(r, key, n))
			break;
	}
	table_free(r);
}

static void behaves_like_a_list(void)
{
	run_model(1, 5, 7);
	run_model(2, 5, 4);
	run_model(3, 200, 8);
	run_model(4, 1000000, 8);
	run_model(5, 1, 7);
}

/* A hundred thousand requests with one id: a walk at each of them would take minutes. */
static void equal_keys_do_not_slow_down(void)
{
	enum { MANY = 100000 };
	struct table *r = table_new(MANY, SIZE_MAX, seed);
	for (int64_t i = 0; i < MANY; i++) {
		struct table_entry *e = table_add(r, SPAN("same"), sizeof i, i);
		REQUIRE(e);
		memcpy(table_record(e), &i, sizeof i);
	}
	for (int64_t i = 0; i < MANY; i++) {
		int64_t got;
		struct table_entry *e = i % 2 ? table_earliest(r) : table_find(r, SPAN("same"));
		memcpy(&got, table_record(e), sizeof got);
		if (!CHECK_EQ_INT(got, i))
			break;
		table_remove(r, e);
	}
	CHECK_EQ_INT(table_count(r), 0);
	table_free(r);
}

static void equal_deadlines(void)
{
	struct table *r = table_new(10, SIZE_MAX, seed);
	struct table_entry *a = table_add(r, SPAN("a"), 8, 5), *b = table_add(r, SPAN("b"), 8, 5);

	CHECK(table_earliest(r) == a);
	table_deadline_set(r, a, 3);
	table_deadline_set(r, a, 5);
	CHECK(table_earliest(r) == a);
	table_remove(r, a);
	CHECK(table_earliest(r) == b);
	table_free(r);
}

int main(void)
{
	TEST(siphash_vectors);
	TEST(records);
	TEST(bounds);
	TEST(behaves_like_a_list);
	TEST(equal_deadlines);
	TEST(equal_keys_do_not_slow_down);
	return check_done();
}
