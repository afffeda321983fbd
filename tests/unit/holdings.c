/* lib/base/holdings.c and lib/xmpp/shares.c: which owner holds most, and which one has used up
 * its share */
#include "base/holdings.h"

#include "check.h"
#include "xmpp/shares.h"

static const uint64_t seed[2] = {1, 2};

struct item {
	struct holding holding; /* first */
	const char *name;
};

static struct holdings *h;
static struct item items[64];
static size_t count;

static struct item *add(const char *group, const char *holder, const char *name)
{
	struct item *i = &items[count++];

	i->name = name;
	holdings_add(h, &i->holding, span_of(group), span_of(holder));
	return i;
}

static const char *victim(void)
{
	struct holding *v = holdings_victim(h);
	const char *name = v ? ((struct item *)(void *)v)->name : "none";

	if (v)
		holdings_remove(h, v);
	return name;
}

static void the_oldest_of_whoever_has_most(void)
{
	struct item *b1;

	h = holdings_new(seed);
	CHECK_EQ_STR(victim(), "none");
	add("a", "a", "a1");
	b1 = add("b", "x@b", "b1");
	add("b", "y@b", "b2");
	add("b", "y@b", "b3");
	add("c", "c", "c1");
	add("c", "c", "c2");
	CHECK_EQ_INT((int)holdings_of_group(h, SPAN("b")), 3);
	CHECK_EQ_STR(victim(), "b2"); /* domain b has most, and there y */
	holdings_renew(&b1->holding);
	add("b", "x@b", "b4");
	holdings_renew(&b1->holding);
	CHECK_EQ_STR(victim(), "b4"); /* b1 was renewed */
	add("c", "c", "c3");
	CHECK_EQ_STR(victim(), "c1");
	for (int i = 0; i < 6; i++)
		victim();
	CHECK_EQ_STR(victim(), "none");
	holdings_free(h);
}

static void shares_of_users_and_domains(void)
{
	const struct span own = SPAN("v"), trusted = SPAN("t");
	struct shares *s = shares_new(&(struct shares_config){.max = 100,
		.max_bytes = 1000,
		.user_max = 20,
		.domain_max = 25,
		.own = &own,
		.own_count = 1,
		.trusted = &trusted,
		.trusted_count = 1,
		.seed = {1, 2}});
	struct share share[200], one, two;
	int n = 0;

	while (shares_take(s, SPAN("a@v/r"), 1, &share[n]))
		n++;
	CHECK_EQ_INT(n, 20);
	CHECK(shares_take(s, SPAN("b@v/r"), 1, &one));
	shares_give(s, &one);
	shares_give(s, &share[--n]);
	CHECK(shares_take(s, SPAN("a@v/other"), 1, &share[n++]));
	/* bytes: a fifth of all, but one entry alone is never over it */
	CHECK(shares_take(s, SPAN("c@v"), 900, &one));
	CHECK(!shares_take(s, SPAN("c@v"), 1, &two));
	shares_give(s, &one);
	CHECK(shares_take(s, SPAN("c@v"), 100, &one));
	CHECK(shares_take(s, SPAN("c@v"), 100, &two));
	CHECK(!shares_more(s, &two, 1));
	/* a domain: its users and itself */
	for (n = 20; n < 45; n++) {
		char user[16];

		snprintf(user, sizeof(user), "u%d@d", n);
		CHECK(shares_take(s, span_of(user), 1, &share[n]));
	}
	CHECK(!shares_take(s, SPAN("d"), 1, &share[n]));
	for (; n < 150; n++)
		CHECK(shares_take(s, SPAN("x@t"), 100, &share[n]));
	shares_free(s);
}

/* Nothing is given up: whoever has most gets no more, and others do. */
static void shares_of_what_is_left(void)
{
	const struct span own = SPAN("v");
	struct shares *s = shares_new(&(struct shares_config){
		.max = 90, .max_bytes = SIZE_MAX, .own = &own, .own_count = 1, .seed = {1, 2}});
	struct share share[91];
	size_t n = 0;

	while (shares_take_left(s, SPAN("hog@v/r"), 90 - n, 0, &share[n]))
		n++;
	CHECK_EQ_INT(n, 30);
	while (shares_take_left(s, SPAN("other@v/r"), 90 - n, 0, &share[n]))
		n++;
	CHECK_EQ_INT(n, 50);
	/* a domain that is not our own, whatever names its users have */
	for (int user = 0; user < 40; user++) {
		char name[32];

		snprintf(name, sizeof(name), "u%d@d/r", user);
		n += shares_take_left(s, span_of(name), 90 - n, 0, &share[n]);
	}
	CHECK_EQ_INT(n, 70);
	CHECK(!shares_take_left(s, SPAN("hog@v/r"), 90 - n, 0, &share[n]));
	CHECK(shares_take_left(s, SPAN("you@v/r"), 90 - n, 0, &share[n]));
	for (size_t i = 0; i < 30; i++)
		shares_give(s, &share[i]);
	CHECK(shares_take_left(s, SPAN("hog@v/r"), 90 - 41, 0, &share[0]));
	CHECK(!shares_take_left(s, SPAN("you@v/r"), 0, 0, &share[1]));
	shares_free(s);
}

int main(void)
{
	TEST(the_oldest_of_whoever_has_most);
	TEST(shares_of_users_and_domains);
	TEST(shares_of_what_is_left);
	return check_done();
}
