/* xmpp-share's hub: which advertisements, addresses, messages and own requests it keeps, and
 * that one owner's share does not displace the others'. */
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "share/hub.h"
#include "xmpp/reader.h"

#define INSTANCES 3

static struct {
	struct hub *hub;
	struct hub_member *members[INSTANCES];
	struct buf outs[INSTANCES], to_server;
	struct writer writers[INSTANCES], server;
	bool crowded; /* the outputs of all instances are */
	uint64_t random;
	int64_t now_ms;
} w;

static uint64_t next_random(void *context)
{
	(void)context;
	return w.random++;
}

static bool congested(void *context, void *port)
{
	(void)context;
	(void)port;
	return w.crowded;
}

static struct turn turn(void)
{
	return (struct turn){&w.server, w.now_ms};
}

static void join(size_t i)
{
	struct turn t = turn();

	buf_reset(&w.outs[i]);
	w.members[i] = hub_join(w.hub, &w.writers[i], NULL, &t);
}

static void begin_for(const char *domain, size_t max_addresses)
{
	memset(&w, 0, sizeof(w));
	w.now_ms = 1000;
	buf_init(&w.to_server, BUF_NO_MAX);
	writer_init(&w.server, &w.to_server, WRITER_PIPE, 0);
	w.hub = hub_new(&(struct hub_config){.domain = span_of(domain),
		.policy = POLICY_STICKY,
		.timeout_ms = 30000,
		.pending.max = 100,
		.pending.max_bytes = 1 << 20,
		.pending.user_max = 20,
		.max_addresses = max_addresses,
		.congested = congested,
		.random = {next_random, NULL}});
	for (size_t i = 0; i < INSTANCES; i++) {
		buf_init(&w.outs[i], BUF_NO_MAX);
		writer_init(&w.writers[i], &w.outs[i], WRITER_PIPE, 0);
		join(i);
	}
}

static void begin(size_t max_addresses)
{
	begin_for("d.test", max_addresses);
}

static void end(void)
{
	hub_free(w.hub);
	buf_free(&w.to_server);
	for (size_t i = 0; i < INSTANCES; i++)
		buf_free(&w.outs[i]);
}

/* A stanza of the server (from -1) or of an instance; %u in it becomes n. */
static void says(int from, const char *format, unsigned n)
{
	struct reader *reader = reader_new(&(struct reader_config){.kind = READER_PIPE});
	struct turn t = turn();
	struct stanza s;
	char text[4096];

	snprintf(text, sizeof(text), format, n, n);
	CHECK(reader_one(reader, span_of(text), &s));
	if (from < 0)
		hub_ops.stanza(w.hub, &s, &t);
	else
		CHECK_EQ_INT(hub_stanza_of(w.hub, w.members[from], &s, &t), HUB_TAKEN);
	reader_free(reader);
}

/* Whether the text was sent to this output; the output is then emptied. */
static bool sent(struct buf *out, const char *text)
{
	bool found = strstr(buf_string(out), text) != NULL;

	buf_reset(out);
	return found;
}

#define DELEGATION                                                                                 \
	"<message from='%s' to='d.test'><delegation xmlns='urn:xmpp:delegation:2'><delegated "     \
	"namespace='urn:%%u'/></delegation></message>"
#define PRIVILEGE                                                                                  \
	"<message from='%s' to='d.test'><privilege xmlns='urn:xmpp:privilege:2'><perm n='%%u'/>"   \
	"</privilege></message>"

static void advertises(const char *host, const char *what, unsigned n)
{
	char format[512];

	snprintf(format, sizeof(format), what, host);
	says(-1, format, n);
}

static bool told_later(const char *text)
{
	struct turn t = turn();

	hub_part(w.hub, w.members[0], &t);
	join(0);
	return sent(&w.outs[0], text);
}

static void adverts_reach_those_there_and_those_that_come(void)
{
	begin(100);
	advertises("h.test", DELEGATION, 1);
	for (size_t i = 0; i < INSTANCES; i++)
		CHECK(sent(&w.outs[i], "urn:1"));
	advertises("h.test", DELEGATION, 2);
	CHECK(told_later("urn:1") && told_later("urn:2"));
	advertises("h.test", PRIVILEGE, 3);
	advertises("h.test", PRIVILEGE, 4);
	CHECK(!told_later("perm n='3'") && told_later("perm n='4'") && told_later("urn:1"));
	end();
}

static void adverts_end_with_the_stream(void)
{
	struct turn gone = {NULL, 1000};

	begin(100);
	advertises("h.test", DELEGATION, 1);
	advertises("h.test", PRIVILEGE, 2);
	hub_ops.down(w.hub, &gone);
	CHECK(!told_later("urn:1") && !told_later("privilege"));
	advertises("h.test", DELEGATION, 3);
	CHECK(told_later("urn:3") && !told_later("urn:1"));
	end();
}

static void instances_are_outdated_with_the_stream(void)
{
	struct turn t, gone = {NULL, 1000};

	begin(100);
	t = turn();
	hub_ops.up(w.hub, &t); /* the first stream */
	CHECK(!hub_is_ending(w.members[0]));
	hub_ops.down(w.hub, &gone);
	CHECK(!hub_is_ending(w.members[0])); /* its answers are still taken */
	hub_ops.up(w.hub, &t);
	CHECK(hub_is_ending(w.members[0]) && hub_is_outdated(w.members[0]));
	hub_part(w.hub, w.members[0], &t);
	join(0);
	CHECK(!hub_is_ending(w.members[0]));
	end();
}

static void adverts_of_strangers_displace_none(void)
{
	char host[32];

	begin_for("d.test", 100);
	for (unsigned n = 0; n < 100; n++) {
		snprintf(host, sizeof(host), "y%u.test", n);
		advertises(host, DELEGATION, n);
	}
	/* the host that the domain is below comes late, with several */
	for (unsigned n = 200; n < 212; n++)
		advertises("test", DELEGATION, n);
	CHECK(told_later("urn:200'") && told_later("urn:211'"));
	end();
	begin(100);
	advertises("h.test", DELEGATION, 1);
	advertises("h.test", PRIVILEGE, 2);
	for (unsigned n = 100; n < 300; n++)
		advertises("evil.test", DELEGATION, n);
	for (unsigned n = 0; n < 200; n++) {
		snprintf(host, sizeof(host), "x%u.test", n);
		advertises(host, PRIVILEGE, 5);
	}
	CHECK(told_later("urn:1'") && told_later("perm n='2'"));
	CHECK(told_later("urn:299") && !told_later("urn:283'"));
	/* the advertisement of the own host is replaced all the same */
	advertises("h.test", PRIVILEGE, 6);
	CHECK(told_later("perm n='6'") && !told_later("perm n='2'"));
	end();
}

#define NESTING                                                                                    \
	"<iq type='get' id='n%u' from='h.test' to='d.test'><query node='urn:xmpp:delegation:2::q'" \
	" xmlns='http://jabber.org/protocol/disco#info'/></iq>"

static void part_all(void)
{
	struct turn t = turn();

	for (size_t i = 0; i < INSTANCES; i++)
		hub_part(w.hub, w.members[i], &t);
}

static void nesting_queries_wait_for_an_instance(void)
{
	struct turn t;

	begin(100);
	part_all();
	says(-1, NESTING, 1);
	says(-1, "<iq type='get' id='other' from='h.test' to='d.test'><q xmlns='q'/></iq>", 0);
	CHECK(strstr(buf_string(&w.to_server), "id='other'") &&
		!strstr(buf_string(&w.to_server), "id='n1'"));
	CHECK(sent(&w.to_server, "service-unavailable"));
	says(-1,
		"<iq type='get' id='n2' from='u@h.test/r' to='d.test'><query "
		"node='urn:xmpp:delegation:2::q' "
		"xmlns='http://jabber.org/protocol/disco#info'/></iq>",
		0);
	CHECK(sent(&w.to_server, "service-unavailable"));
	join(0);
	CHECK(sent(&w.outs[0], "id='n1'"));
	says(0, "<iq type='result' id='n1' to='h.test' from='d.test'><query/></iq>", 0);
	CHECK(sent(&w.to_server, "id='n1'"));
	t = turn();
	hub_part(w.hub, w.members[0], &t);
	says(-1, NESTING, 3); /* no instance comes to answer it */
	CHECK_EQ_INT(hub_ops.deadline(w.hub), w.now_ms + 30000);
	w.now_ms += 30000;
	t = turn();
	hub_ops.tick(w.hub, &t);
	CHECK(sent(&w.to_server, "service-unavailable"));
	for (unsigned n = 4; n < 68; n++)
		says(-1, NESTING, n);
	CHECK(!sent(&w.to_server, "error"));
	says(-1, NESTING, 68); /* no room */
	CHECK(strstr(buf_string(&w.to_server), "id='n68'") && sent(&w.to_server, "error"));
	hub_ops.drain(w.hub, &t);
	CHECK(strstr(buf_string(&w.to_server), "id='n4'") &&
		strstr(buf_string(&w.to_server), "id='n67'"));
	for (size_t i = 0; i < INSTANCES; i++)
		buf_free(&w.outs[i]);
	hub_free(w.hub);
	buf_free(&w.to_server);
}

static void presence_survives_invented_users(void)
{
	begin(16);
	for (int i = 0; i < INSTANCES; i++)
		says(i, "<presence type='subscribe' from='d.test' to='impl@h.test'/>", 0);
	for (unsigned n = 0; n < 100; n++)
		says(0, "<presence type='unsubscribed' from='d.test' to='u%u@evil.test'/>", n);
	for (size_t i = 0; i < INSTANCES; i++)
		buf_reset(&w.outs[i]);
	says(-1, "<presence from='impl@h.test/r' to='d.test'/>", 0);
	for (size_t i = 0; i < INSTANCES; i++)
		CHECK(sent(&w.outs[i], "impl@h.test/r"));
	for (unsigned n = 0; n < 100; n++) /* those of the same domain are of one instance alone */
		says(0, "<presence from='d.test' to='u%u@h.test'/>", n);
	says(-1, "<presence from='impl@h.test/s' to='d.test'/>", 0);
	for (size_t i = 1; i < INSTANCES; i++)
		CHECK(sent(&w.outs[i], "impl@h.test/s"));
	end();
}

static void messages_have_a_share_each(void)
{
	struct buf *out = &w.outs[0];
	struct turn t;

	begin(16);
	t = turn();
	hub_part(w.hub, w.members[1], &t);
	hub_part(w.hub, w.members[2], &t);
	for (unsigned n = 0; n < 30; n++)
		says(-1, "<message id='m%u' from='eve@h.test/%u' to='d.test'><body/></message>", n);
	CHECK(strstr(buf_string(out), "id='m19'") && !strstr(buf_string(out), "id='m20'"));
	CHECK(strstr(buf_string(&w.to_server), "id='m29'") &&
		sent(&w.to_server, "resource-constraint"));
	says(-1, "<presence id='p' from='eve@h.test/r' to='d.test'/>", 0);
	CHECK(!strstr(buf_string(out), "id='p'"));
	says(-1, "<message id='a' from='a@h.test/r' to='d.test'><body/></message>", 0);
	says(-1, "<iq type='get' id='q' from='eve@h.test/r' to='d.test'><q xmlns='u'/></iq>", 0);
	CHECK(strstr(buf_string(out), "id='a'") && strstr(buf_string(out), "id='q'"));
	buf_consume(out, (size_t)(strstr(buf_string(out), "<message id='m5'") - buf_string(out)));
	for (unsigned n = 30; n < 40; n++) /* the first five have left */
		says(-1, "<message id='m%u' from='eve@h.test/%u' to='d.test'><body/></message>", n);
	CHECK(strstr(buf_string(out), "id='m34'") && !strstr(buf_string(out), "id='m35'"));
	w.now_ms += 2000; /* the instance is slow */
	says(-1, "<message id='slow' from='eve@h.test/r' to='d.test'><body/></message>", 0);
	CHECK(sent(&w.to_server, "id='slow'"));
	for (unsigned n = 40; n < 60; n++)
		says(-1, "<message id='m%u' from='b@x.test/%u' to='d.test'><body/></message>", n);
	CHECK(strstr(buf_string(out), "id='m49'") && !strstr(buf_string(out), "id='m50'"));
	buf_reset(out);
	says(-1, "<message id='fast' from='eve@h.test/r' to='d.test'><body/></message>", 0);
	CHECK(sent(out, "id='fast'"));
	end();
}

static void errors_find_their_sender_beside_a_busy_instance(void)
{
	begin(16);
	says(1, "<message id='mine' from='d.test' to='a@h.test/r'><body/></message>", 0);
	for (unsigned n = 0; n < 21000; n++)
		says(0, "<message id='m%u' from='d.test' to='a@h.test/r'><body/></message>", n);
	says(-1, "<message type='error' id='mine' to='d.test' from='a@h.test/r'/>", 0);
	CHECK(sent(&w.outs[1], "id='mine'"));
	says(-1, "<message type='error' id='m20999' to='d.test' from='a@h.test/r'/>", 0);
	CHECK(sent(&w.outs[0], "id='m20999'"));
	end();
}

/* The id of the last request that the server was sent. */
static void own_id(char id[64])
{
	const char *at = strstr(buf_string(&w.to_server), "id='");

	snprintf(id, 64, "%.32s", at ? at + 4 : "");
	buf_reset(&w.to_server);
}

static void own_requests_have_a_share_each(void)
{
	char id[64], answer[256];

	begin(16);
	for (unsigned n = 0; n < 4097; n++) {
		says(0, "<iq type='get' id='o%u' from='d.test' to='h.test'><q xmlns='q'/></iq>", n);
		buf_reset(&w.to_server);
	}
	CHECK(strstr(buf_string(&w.outs[0]), "id='o4096'") &&
		!strstr(buf_string(&w.outs[0]), "id='o4095'"));
	CHECK(sent(&w.outs[0], "resource-constraint"));
	says(1, "<iq type='get' id='o' from='d.test' to='h.test'><q xmlns='q'/></iq>", 0);
	own_id(id);
	snprintf(answer, sizeof(answer), "<iq type='result' id='%s' to='d.test' from='h.test'/>",
		id);
	says(-1, answer, 0);
	CHECK(sent(&w.outs[1], "id='o'"));
	end();
}

static void long_ids_fill_one_share_only(void)
{
	unsigned n;
	char format[4096], id[64];

	begin(16);
	snprintf(format, sizeof(format),
		"<iq type='get' id='o%%u%03000u' from='d.test' to='h.test'><q xmlns='q'/></iq>",
		0u);
	for (n = 0; n < 4096 && !sent(&w.outs[0], "resource-constraint"); n++) {
		says(0, format, n);
		buf_reset(&w.to_server);
	}
	CHECK(n > 1000 && n < 4000);
	says(1, "<iq type='get' id='o' from='d.test' to='h.test'><q xmlns='q'/></iq>", 0);
	own_id(id);
	CHECK_EQ_INT(strlen(id), 32);
	end();
}

/* How an instance writes the domain, whose letters need not be ASCII. */
static void from_is_normalised(void)
{
	static const struct {
		const char *from;
		bool taken;
	} cases[] = {{"b\xc3\xbc"
		      "cher.test",
			     true},
		{"B\xc3\x9c"
		 "CHER.test/x",
			true},
		{"a@xn--bcher-kva.test", true},
		{"b\xc3\xb6"
		 "cher.test",
			false}};
	struct reader *reader = reader_new(&(struct reader_config){.kind = READER_PIPE});
	char text[256];
	struct turn t;

	begin_for("b\xc3\xbc"
		  "cher.test",
		100);
	t = turn();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stanza s;

		snprintf(text, sizeof(text), "<message from='%s' to='u@h.test'/>", cases[i].from);
		CHECK(reader_one(reader, span_of(text), &s));
		CHECK_EQ_INT(hub_stanza_of(w.hub, w.members[0], &s, &t),
			cases[i].taken ? HUB_TAKEN : HUB_INVALID_FROM);
		CHECK_EQ_INT(sent(&w.to_server, "from='"), cases[i].taken);
	}
	reader_free(reader);
	end();
}

#define STEP                                                                                       \
	"<iq type='set' id='%u' from='u@h.test/x' to='d.test'><command xmlns="                     \
	"'http://jabber.org/protocol/commands' node='n' sessionid='s'/></iq>"

static void step_waits_for_no_crowded_instance(void)
{
	begin(100);
	says(-1, STEP, 1);
	CHECK(!sent(&w.to_server, "error"));
	w.crowded = true;
	says(-1, STEP, 2);
	CHECK(sent(&w.to_server, "resource-constraint"));
	w.crowded = false;
	says(-1, STEP, 3);
	CHECK(!sent(&w.to_server, "error"));
	end();
}

int main(void)
{
	err_verbosity(-8);
	TEST(step_waits_for_no_crowded_instance);
	TEST(from_is_normalised);
	TEST(adverts_reach_those_there_and_those_that_come);
	TEST(adverts_end_with_the_stream);
	TEST(instances_are_outdated_with_the_stream);
	TEST(adverts_of_strangers_displace_none);
	TEST(nesting_queries_wait_for_an_instance);
	TEST(presence_survives_invented_users);
	TEST(messages_have_a_share_each);
	TEST(errors_find_their_sender_beside_a_busy_instance);
	TEST(own_requests_have_a_share_each);
	TEST(long_ids_fill_one_share_only);
	return check_done();
}
