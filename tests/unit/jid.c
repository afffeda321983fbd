/* lib/xmpp/jid.c: splitting, normalising, and which resources resourceprep leaves unchanged */
#include "base/utf8.h"
#include "xmpp/jid.h"

#include "check.h"
#include "xmpp/xml.h"

static bool splits(const char *text)
{
	struct jid jid;

	return jid_split(span_of(text), &jid);
}

/* "local|domain|resource", with "-" for a missing part */
static const char *parts(const char *text)
{
	static char out[8192];
	struct jid jid;

	if (!jid_split(span_of(text), &jid))
		return "no";
	snprintf(out, sizeof(out), "%.*s|%.*s|%.*s", jid.local.p ? (int)jid.local.n : 1,
		jid.local.p ? jid.local.p : "-", (int)jid.domain.n, jid.domain.p,
		jid.resource.p ? (int)jid.resource.n : 1, jid.resource.p ? jid.resource.p : "-");
	return out;
}

/* The result of jid_normalise(). */
static const char *normal(const char *text)
{
	static char out[8192];
	struct buf b;

	buf_init(&b, BUF_NO_MAX);
	snprintf(out, sizeof(out), "%s", jid_normalise(span_of(text), &b) ? buf_string(&b) : "no");
	buf_free(&b);
	return out;
}

static bool survives(const char *text)
{
	return jid_resource_survives(span_of(text));
}

/* n equal bytes in memory of exactly that size, so that sanitizers see a read beyond it */
static struct span many(char c, size_t n)
{
	char *p = malloc(n ? n : 1);

	if (!p)
		abort();
	memset(p, c, n);
	return (struct span){p, n};
}

static void split_cuts(void)
{
	CHECK_EQ_STR(parts("capulet.lit"), "-|capulet.lit|-");
	CHECK_EQ_STR(parts("juliet@capulet.lit"), "juliet|capulet.lit|-");
	CHECK_EQ_STR(parts("juliet@capulet.lit/balcony"), "juliet|capulet.lit|balcony");
	CHECK_EQ_STR(parts("capulet.lit/balcony"), "-|capulet.lit|balcony");
	CHECK_EQ_STR(parts("a@b/c@d/e"), "a|b|c@d/e");
	CHECK_EQ_STR(parts("b/c@d"), "-|b|c@d");
	CHECK_EQ_STR(parts("a@b//"), "a|b|/");
	CHECK_EQ_STR(parts("a@b/ "), "a|b| ");
	CHECK_EQ_STR(parts("a@[::1]/x"), "a|[::1]|x");
	CHECK_EQ_STR(parts("a@b/\"&'<>:@/"), "a|b|\"&'<>:@/");
	CHECK_EQ_STR(parts("ü@ö/\U0001f600"), "ü|ö|\U0001f600");
}

static void split_refuses(void)
{
	static const char *const wrong[] = {"", "@", "/", "a@", "@b", "a@b/", "b/", "a@/c", "@/",
		"a@b@c", "a b@c", "a\"b@c", "a&b@c", "a'b@c", "a:b@c", "a<b@c", "a>b@c", "a@b c",
		"a@b\nc", "a\tb@c", "a@b/\x1f", "a@b/\x7f", "a\x7f@b", "a@\x7f", "a@b/\xff",
		"a@b/\xc3", "a@b/\xed\xa0\x80", "a@b/\xc0\x80", "a@b/\xf4\x90\x80\x80", "\xc3@b",
		"a@\xbf", "a@b/\xef\xbf\xbf", "a@b<", "a@'b"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		CHECK_MSG(!splits(wrong[i]), "number %zu is taken", i);
	CHECK(!jid_split(SPAN_NONE, &(struct jid){0}));
	CHECK(!jid_split((struct span){"a\0b", 3}, &(struct jid){0}));
	CHECK(!jid_split((struct span){"a@b/\0", 5}, &(struct jid){0}));
	CHECK(!jid_split((struct span){"\0@b", 3}, &(struct jid){0}));
}

/* A split that fails leaves its result unchanged. */
static void split_leaves_alone(void)
{
	struct jid jid = {SPAN("x"), SPAN("y"), SPAN("z")};

	CHECK(!jid_split(SPAN("a@b@c"), &jid));
	CHECK_EQ_SPAN(jid.local, "x");
	CHECK_EQ_SPAN(jid.domain, "y");
	CHECK_EQ_SPAN(jid.resource, "z");
}

static bool joined_splits(size_t local, size_t domain, size_t resource)
{
	struct span l = many('l', local), d = many('d', domain), r = many('r', resource);
	struct buf b, normalised;
	struct jid jid;
	bool ok;

	buf_init(&b, BUF_NO_MAX);
	if (local) {
		buf_append_span(&b, l);
		buf_append_char(&b, '@');
	}
	buf_append_span(&b, d);
	if (resource) {
		buf_append_char(&b, '/');
		buf_append_span(&b, r);
	}
	ok = jid_split(buf_span(&b), &jid);
	if (ok) {
		CHECK_EQ_INT(jid.local.n, local);
		CHECK_EQ_INT(jid.domain.n, domain);
		CHECK_EQ_INT(jid.resource.n, resource);
	}
	/* normalised, the letters are the same */
	buf_init(&normalised, BUF_NO_MAX);
	CHECK_EQ_INT(jid_normalise(buf_span(&b), &normalised), ok);
	CHECK_EQ_MEM(normalised.p, normalised.n, b.p, ok ? b.n : 0);
	buf_free(&normalised);
	buf_free(&b);
	free((char *)l.p);
	free((char *)d.p);
	free((char *)r.p);
	return ok;
}

static void split_bounds(void)
{
	CHECK(joined_splits(1023, 1023, 1023));
	CHECK(joined_splits(1, 1, 1));
	CHECK(joined_splits(0, 1023, 0));
	CHECK(!joined_splits(1024, 5, 5));
	CHECK(!joined_splits(5, 1024, 5));
	CHECK(!joined_splits(5, 5, 1024));
	CHECK(!joined_splits(0, 1024, 0));
	CHECK(!joined_splits(5, 0, 5));
	CHECK(!joined_splits(0, 5, 3066));
}

static void pieces(void)
{
	CHECK_EQ_SPAN(jid_bare(SPAN("a@b/c@d/e")), "a@b");
	CHECK_EQ_SPAN(jid_bare(SPAN("a@b")), "a@b");
	CHECK_EQ_SPAN(jid_resource(SPAN("a@b/c@d/e")), "c@d/e");
	CHECK(jid_resource(SPAN("a@b")).p == NULL);
	CHECK(jid_resource(SPAN("a@b/")).p != NULL && jid_resource(SPAN("a@b/")).n == 0);
	CHECK_EQ_SPAN(jid_domain(SPAN("a@b/c@d/e")), "b");
	CHECK_EQ_SPAN(jid_domain(SPAN("b/c@d")), "b");
	CHECK_EQ_INT(jid_bare(SPAN_NONE).n, 0);
	CHECK(jid_resource(SPAN_NONE).p == NULL);
	CHECK(jid_is_full(SPAN("a@b/c")) && jid_is_full(SPAN("b/c")));
	CHECK(!jid_is_full(SPAN("a@b")) && !jid_is_full(SPAN("a@b/")) && !jid_is_full(SPAN_NONE));
	CHECK(jid_at_domain(SPAN("a@b/c"), SPAN("b")) && jid_at_domain(SPAN("b"), SPAN("b")));
	CHECK(!jid_at_domain(SPAN("a@b/c"), SPAN("a")) && !jid_at_domain(SPAN("a.b"), SPAN("b")));
	CHECK(!jid_at_domain(SPAN_NONE, SPAN("b")) && !jid_at_domain(SPAN("B"), SPAN("b")));
}

static void normalise_known(void)
{
	CHECK_EQ_STR(normal("Juliet@Capulet.LIT/Balcony"), "juliet@capulet.lit/Balcony");
	CHECK_EQ_STR(normal("capulet.lit."), "capulet.lit");
	CHECK_EQ_STR(normal("a@Capulet.lit./R."), "a@capulet.lit/R.");
	/* nodeprep and nameprep fold case, resourceprep does not */
	CHECK_EQ_STR(normal("ÄSOP@ÖBB.at/Ü"), "äsop@öbb.at/Ü");
	CHECK_EQ_STR(normal("straße@h"), "strasse@h");
	CHECK_EQ_STR(normal("\u03a3@h"), "\u03c3@h");
	/* NFKC */
	CHECK_EQ_STR(normal("a@h/\ufb01\u2460"), "a@h/fi1");
	CHECK_EQ_STR(normal("a@h/e\u0301"), "a@h/é");
	CHECK_EQ_STR(normal("a@h/x\u00a0y"), "a@h/x y");
	CHECK_EQ_STR(normal("\uff21@\uff22/\uff23"), "a@b/C");
	/* mapped to nothing: soft hyphen */
	CHECK_EQ_STR(normal("a\u00adb@h"), "ab@h");
	/* unassigned in Unicode 3.2 */
	CHECK_EQ_STR(normal("a@h/\U0001f600"), "a@h/\U0001f600");
	CHECK_EQ_STR(normal("a@[::1]"), "a@[::1]");
	CHECK_EQ_STR(normal("אב@h/גד"), "אב@h/גד");
	CHECK_EQ_STR(normal("a@h/x\uff0fy\uff20"), "a@h/x/y@");
}

static void alabels_mean_ulabels(void)
{
	struct buf b;

	CHECK_EQ_STR(normal("U@xn--bcher-kva.Example/R"), "u@bücher.example/R");
	CHECK_EQ_STR(normal("XN--BCHER-KVA.example"), "bücher.example");
	CHECK_EQ_STR(normal("a.xn--bcher-kva.xn--p1ai."), "a.bücher.рф");
	CHECK_EQ_STR(normal("é@xn--bcher-kva.öbb.at"), "é@bücher.öbb.at");
	/* no A-label, or in another part */
	CHECK_EQ_STR(normal("xn--.example"), "xn--.example");
	CHECK_EQ_STR(normal("xn--a.example"), "xn--a.example");
	CHECK_EQ_STR(normal("axn--bcher-kva.example"), "axn--bcher-kva.example");
	CHECK_EQ_STR(normal("xn--bcher-kva@h/xn--bcher-kva"), "xn--bcher-kva@h/xn--bcher-kva");

	buf_init(&b, BUF_NO_MAX);
	CHECK(jid_alabels(SPAN("bücher.рф"), &b));
	CHECK_EQ_STR(buf_string(&b), "xn--bcher-kva.xn--p1ai");
	buf_reset(&b);
	CHECK(jid_alabels(SPAN("example.org"), &b));
	CHECK_EQ_STR(buf_string(&b), "example.org");
	CHECK(!jid_alabels(SPAN(""), &b));
	CHECK_EQ_STR(buf_string(&b), "example.org");
	buf_free(&b);
}

static void what_people_type(void)
{
	static const struct {
		const char *typed;
		bool valid, user, domain;
	} cases[] = {{"a@h", true, true, false}, {"a@h/r", true, true, false},
		{"h", true, false, true}, {"h/r@x", true, false, false}, {"", false, false, false},
		{"@h", false, false, false}, {"a@@h", false, false, false}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		CHECK_MSG(jid_is_valid(cases[i].typed) == cases[i].valid, "%s", cases[i].typed);
		CHECK_MSG(jid_is_user(cases[i].typed) == cases[i].user, "%s", cases[i].typed);
		CHECK_MSG(jid_is_domain(cases[i].typed) == cases[i].domain, "%s", cases[i].typed);
	}
}

static void normalise_refuses(void)
{
	static const char *const wrong[] = {"", ".", "a@.", "a@..", "h..", "a@h/", "@h", "a@",
		"a@b@c", "a b@h", "a@h h",
		/* prepared to separators, spaces and quotes */
		"a\uff20b@h", "a\uff0fb@h", "a@h\uff0fx", "x\uff20h", "a@b\uff20c", "a@\uff20",
		"a\u00a0b@h", "a@b\u2000c", "a\uff07b@h", "a@h\uff1cx", "a@h\uff0e\uff0e",
		/* mapped to nothing at all */
		"\u00ad@h", "a@\u00ad", "a@h/\u00ad",
		/* prohibited: control, private use, not a character, bidi */
		"a@h/\xc2\x85", "a@h/\ue000", "a@h/\ufdd0", "a@h/\u202e", "a\u0378\u06dd@h",
		"a@h/x\u05d0", "a@h/\u05d01",
		/* no UTF-8 */
		"a@h/\xff", "\xc3@h", "a@\xe2\x82"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		CHECK_MSG(strcmp(normal(wrong[i]), "no") == 0, "%s becomes %s", wrong[i],
			normal(wrong[i]));
	/* NFKC makes 1000 bytes more than 1023 */
	struct span ligatures = many('x', 1000);
	struct buf b, out;
	buf_init(&b, BUF_NO_MAX);
	buf_init(&out, BUF_NO_MAX);
	for (size_t i = 0; i + 3 <= ligatures.n; i += 3)
		memcpy((char *)ligatures.p + i, "\ufdfa", 3); /* 18 characters */
	buf_append_string(&b, "h/");
	buf_append_span(&b, ligatures);
	CHECK(!jid_normalise(buf_span(&b), &out));
	CHECK_EQ_INT(buf_length(&out), 0);
	free((char *)ligatures.p);
	buf_free(&b);
	buf_free(&out);
}

static void normalise_domain(void)
{
	static const char *const wrong[] = {"", "a@h", "h/r", "a@h/r", "h/", "@h", "a h", "h.."};
	struct buf b;

	buf_init(&b, BUF_NO_MAX);
	CHECK(jid_normalise_domain(SPAN("Capulet.LIT."), &b));
	CHECK_EQ_STR(buf_string(&b), "capulet.lit");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK_MSG(!jid_normalise_domain(span_of(wrong[i]), &b), "number %zu", i);
	CHECK_EQ_STR(buf_string(&b), "capulet.lit");
	buf_free(&b);
}

static void normalise_bounded(void)
{
	struct buf b;

	buf_init(&b, 8);
	buf_append_string(&b, "abc");
	CHECK(!jid_normalise(SPAN("u@host/r"), &b));
	CHECK_EQ_STR(buf_string(&b), "abc");
	CHECK(jid_normalise(SPAN("U@h/R"), &b));
	CHECK_EQ_STR(buf_string(&b), "abcu@h/R");
	buf_free(&b);
}

static void survive(void)
{
	CHECK(survives("a") && survives(" ") && survives("\"&'/:<>@") && survives("user@h/r"));
	CHECK(survives("é") && survives("\U0001f600") && survives("אב") && survives("א 1 ב"));
	CHECK(!survives("") && !jid_resource_survives(SPAN_NONE));
	CHECK(!survives("e\u0301") && !survives("\ufb01") && !survives("\u2460"));
	CHECK(!survives("x\u00a0y") && !survives("\u00ad") && !survives("a\u00adb"));
	CHECK(!survives("latin \u05d0\u05d1 mixed") && !survives("\u0627\u0644 latin"));
	CHECK(!survives("\x1f") && !survives("\x7f") && !survives("a\n") && !survives("\xc2\x85"));
	CHECK(!survives("\xff") && !survives("a\xc3") && !survives("\ue000"));
	CHECK(!jid_resource_survives((struct span){"a\0b", 3}));
	CHECK(!jid_resource_survives((struct span){"é\0b", 4}));
	struct span longest = many('a', 1024);
	CHECK(!jid_resource_survives(longest));
	CHECK(jid_resource_survives((struct span){longest.p, 1023}));
	free((char *)longest.p);
}

/* Properties over random texts ------------------------------------------- */

static uint32_t seed = 1;

static unsigned draw(unsigned below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

static const char *const morsels[] = {"a", "B", "z9", ".", "@", "/", " ", "'", ":", "\"", "&", "<",
	"é", "É", "ß", "e\u0301", "\u05d0", "\u0627", "\u2460", "\ufb01", "\U0001f600", "\uff0f",
	"\uff20", "\u00ad", "\u00a0", "\u3002", "\uff0e", "\u0378", "\ue000", "\u200d", "\u0345",
	"\u1e9e", "\u212a", "\u0130", "\x7f", "\t", "\xff", "\xc3", "\x80"};

static void random_text(struct buf *out)
{
	unsigned count = draw(12);

	buf_reset(out);
	for (unsigned i = 0; i < count; i++) {
		if (draw(8) == 0)
			buf_append_char(out, (char)draw(256));
		else
			buf_append_string(out, morsels[draw(sizeof(morsels) / sizeof(*morsels))]);
	}
}

static bool join_is(const struct jid *jid, struct span text)
{
	struct buf b;
	bool same;

	buf_init(&b, BUF_NO_MAX);
	if (jid->local.p) {
		buf_append_span(&b, jid->local);
		buf_append_char(&b, '@');
	}
	buf_append_span(&b, jid->domain);
	if (jid->resource.p) {
		buf_append_char(&b, '/');
		buf_append_span(&b, jid->resource);
	}
	same = span_equal(buf_span(&b), text);
	buf_free(&b);
	return same;
}

static void properties(void)
{
	unsigned valid = 0, normalised = 0, surviving = 0;
	struct buf text, once, twice;

	buf_init(&text, BUF_NO_MAX);
	buf_init(&once, BUF_NO_MAX);
	buf_init(&twice, BUF_NO_MAX);
	for (int i = 0; i < 300000; i++) {
		struct jid jid, again;
		struct span s;
		bool ok = true;

		random_text(&text);
		s = buf_span(&text);
		buf_reset(&once);
		buf_reset(&twice);
		if (jid_split(s, &jid)) {
			valid++;
			ok = ok && join_is(&jid, s) && utf8_xml_valid(s) &&
			     span_equal(jid_domain(s), jid.domain) &&
			     span_equal(jid_resource(s), jid.resource);
		}
		if (jid_normalise(s, &once)) {
			normalised++;
			/* as many parts as were typed, and again it stays the same */
			ok = ok && jid_split(buf_span(&once), &again) &&
			     jid_normalise(buf_span(&once), &twice) &&
			     span_equal(buf_span(&once), buf_span(&twice)) &&
			     !again.resource.p == !memchr(s.p, '/', s.n) &&
			     !again.local.p == !memchr(s.p, '@', jid_bare(s).n);
		} else {
			ok = ok && buf_length(&once) == 0;
		}
		if (jid_resource_survives(s)) {
			surviving++;
			/* it is a resource that normalising does not change */
			buf_reset(&once);
			buf_append_string(&once, "h/");
			buf_append_span(&once, s);
			buf_reset(&twice);
			ok = ok && jid_normalise(buf_span(&once), &twice) &&
			     span_equal(buf_span(&once), buf_span(&twice));
		}
		if (!ok) {
			char *quoted = check_quote(s.p, s.n);

			CHECK_MSG(false, "%s", quoted);
			free(quoted);
			break;
		}
	}
	CHECK(valid > 10000 && normalised > 10000 && surviving > 10000);
	buf_free(&text);
	buf_free(&once);
	buf_free(&twice);
}

static const char *folded(const char *text)
{
	static char out[8192];
	struct buf b;

	buf_init(&b, BUF_NO_MAX);
	snprintf(out, sizeof(out), "%s", jid_fold(span_of(text), &b) ? buf_string(&b) : "same");
	buf_free(&b);
	return out;
}

static void fold_is_of_the_bare_part(void)
{
	CHECK_EQ_STR(folded("Alice@VHOST.test/Res.A"), "alice@vhost.test/Res.A");
	CHECK_EQ_STR(folded("a.b@c.test."), "a.b@c.test");
	CHECK_EQ_STR(folded("C.test./."), "c.test/.");
	CHECK_EQ_STR(folded("alice@vhost.test/A."), "same");
	CHECK_EQ_STR(folded("c"), "same");
	CHECK_EQ_STR(folded("."), "same");
	CHECK_EQ_STR(folded(""), "same");
	CHECK_EQ_STR(folded("/A."), "same");
}

int main(void)
{
	TEST(split_cuts);
	TEST(split_refuses);
	TEST(split_leaves_alone);
	TEST(split_bounds);
	TEST(pieces);
	TEST(normalise_known);
	TEST(alabels_mean_ulabels);
	TEST(what_people_type);
	TEST(normalise_refuses);
	TEST(normalise_domain);
	TEST(normalise_bounded);
	TEST(survive);
	TEST(fold_is_of_the_bare_part);
	TEST(properties);
	return check_done();
}
