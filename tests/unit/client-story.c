/* server/client-story: why a login failed, read from the library's log and the server's last
 * stanzas */
#include "check.h"
#include "child.h"
#include "base/err.h"
#include "server/client-story.h"

#define SASL "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"

static void received(struct client_story *story, const char *xml)
{
	char line[1024];

	snprintf(line, sizeof(line), "RECV: %s", xml);
	client_story_log(story, false, XMPP_LEVEL_DEBUG, "xmpp", line);
}

static void the_first_refusal_counts(void)
{
	struct client_story story = {0};

	/* as libstrophe 0.14 goes on, and Prosody 13 answers */
	received(&story, "<failure " SASL
			 "><not-authorized/><text>Unable to authorize you</text></failure>");
	received(&story, "<failure " SASL "><malformed-request/></failure>");
	received(&story, "<failure " SASL "><invalid-mechanism/></failure>");
	CHECK_EQ_STR(story.sasl_failure, "not-authorized");
	/* the condition may stand behind the words, and another namespace's failure is none */
	story = (struct client_story){0};
	received(&story, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
	CHECK_EQ_STR(story.sasl_failure, "");
	received(&story, "<failure " SASL "><text>no</text><account-disabled/></failure>");
	CHECK_EQ_STR(story.sasl_failure, "account-disabled");
}

static void the_last_features_count(void)
{
	struct client_story story = {0};

	received(&story,
		"<features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
		"<limits "
		"xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits></"
		"features>");
	CHECK(story.features && story.tls_required && !story.mechanisms);
	CHECK_EQ_INT(story.max_bytes, 10000);
	received(&story, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
	CHECK(story.proceed && !story.features);
	received(&story, "<features><mechanisms " SASL
			 "><mechanism>PLAIN</mechanism></mechanisms></features>");
	CHECK(story.features && !story.tls_required && story.mechanisms);
	CHECK_EQ_INT(story.max_bytes, 0);
	received(&story,
		"<features><bind/><limits><max-bytes>262144</max-bytes></limits></features>");
	CHECK_EQ_INT(story.max_bytes, 262144);
	received(&story, "<features><limits><max-bytes>99999999999999999999999</max-bytes></"
			 "limits></features>");
	CHECK_EQ_INT(story.max_bytes, 0);
	/* what comes after the login does not count, and neither does what we send */
	client_story_log(&story, true, XMPP_LEVEL_DEBUG, "xmpp",
		"RECV: <features><limits><max-bytes>1</max-bytes></limits></features>");
	client_story_log(
		&story, false, XMPP_LEVEL_DEBUG, "conn", "SENT: <failure " SASL "><a/></failure>");
	CHECK_EQ_INT(story.max_bytes, 0);
	CHECK_EQ_STR(story.sasl_failure, "");
}

static struct client_story told;
static enum client_tls told_tls;

static void tell(void *status)
{
	err_init("prog");
	*(int *)status = client_story_tell(&told, "host:5222", "a@b", told_tls);
	exit(*(int *)status);
}

static void why_a_login_failed(void)
{
	static const struct {
		struct client_story story;
		enum client_tls tls;
		int status;
		const char *words;
	} cases[] = {
		{{.connect_errno = 111}, CLIENT_TLS_REQUIRED, EXIT_UNAVAILABLE,
			"cannot connect to host:5222: Connection refused"},
		{{.established = true, .features = true, .tls_required = true}, CLIENT_TLS_OFF,
			EXIT_DENIED,
			"server host:5222 lets nobody log in without TLS: leave out --tls off"},
		{{.established = true, .features = true}, CLIENT_TLS_OFF, EXIT_DENIED,
			"server host:5222 lets nobody log in without TLS: leave out --tls off"},
		{{.established = true, .features = true, .mechanisms = true}, CLIENT_TLS_REQUIRED,
			EXIT_PROTOCOL, "server host:5222 does not offer TLS"},
		{{.established = true, .proceed = true}, CLIENT_TLS_REQUIRED, EXIT_PROTOCOL,
			"no TLS with host:5222: handshake failed"},
		{{.established = true, .sasl_failure = "not-authorized"}, CLIENT_TLS_OFF,
			EXIT_DENIED, "login of 'a@b' refused: not-authorized"},
		{{.established = true, .sasl_failure = "temporary-auth-failure"}, CLIENT_TLS_OFF,
			EXIT_TEMPORARY, "login of 'a@b' refused: temporary-auth-failure"},
		{{.established = true, .bind_failure = "conflict"}, CLIENT_TLS_OFF, EXIT_TEMPORARY,
			"server refuses the resource of 'a@b': conflict"},
		{{.established = true}, CLIENT_TLS_OFF, EXIT_TEMPORARY,
			"server host:5222 closed the connection during login"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char line[256];
		int status;

		told = cases[i].story;
		told_tls = cases[i].tls;
		struct child c = child_run(tell, &status);
		snprintf(line, sizeof(line), "prog: %s\n", cases[i].words);
		CHECK_EQ_STR(c.err, line);
		CHECK_EQ_INT(c.status, cases[i].status);
		child_free(&c);
	}
}

int main(void)
{
	unsetenv("JOURNAL_STREAM");
	TEST(the_first_refusal_counts);
	TEST(the_last_features_count);
	TEST(why_a_login_failed);
	return check_done();
}
