/* Fuzz target: what a peer sends to xmpp-share as an instance, from its first byte on; a hostile
 * one that knows the secret, too. Stream ids are zeros here, so that a proof can stand in the
 * corpus. Whatever comes: nobody is up without the proof, and never twice; the secret is never
 * sent; and what reaches the server would not make a server end the stream of all: whole stanzas,
 * from the domain, to somebody, requests with one child. */
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "require.h"
#include "share/hub.h"
#include "share/instance.h"
#include "xmpp/jid.h"
#include "xmpp/reader.h"

#define SECRET "a-secret-nobody-says"
/* SHA-1 of 32 zeros and the secret */
#define PROOF "0693a8b02c8b2dbbb3a6e88db95e31618d725ce2"
#define INPUT_MAX_BYTES 16384
#define DOMAIN "d.test"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static struct played {
	struct loop *loop;
	struct hub *hub;
	struct hub_member *member;
	struct instance *instance;
	struct buf to_server;
	struct writer writer;
	uint64_t random;
	unsigned came, gone;
	bool proved, bare;
} played;

static struct turn turn(void)
{
	return (struct turn){&played.writer, loop_now_ms(played.loop)};
}

static void leave(void)
{
	struct turn t = turn();

	if (played.member)
		hub_part(played.hub, played.member, &t);
	played.member = NULL;
	played.gone++;
	loop_stop(played.loop, 0);
}

static void on_came(void *context, struct instance *i)
{
	struct turn t = turn();

	(void)context;
	REQUIRE(played.proved || played.bare);
	REQUIRE(played.came++ == 0 && instance_is_up(i));
	played.member = hub_join(played.hub, instance_writer(i), i, &t);
}

static void on_stanza(void *context, struct instance *i, const struct stanza *s)
{
	struct turn t = turn();

	(void)context;
	REQUIRE(played.came == 1 && played.member);
	if (hub_stanza_of(played.hub, played.member, s, &t) != HUB_TAKEN) {
		leave();
		instance_end(i, "invalid-from");
	}
}

static void on_gone(void *context, struct instance *i)
{
	(void)context;
	(void)i;
	leave();
}

static bool congested(void *context, void *port)
{
	(void)context;
	return instance_congested(port);
}

static uint64_t zero(void *context)
{
	(void)context;
	return 0;
}

static uint64_t next_random(void *context)
{
	(void)context;
	return played.random++;
}

/* Check what reached the server. */
static void check_server(void)
{
	struct reader *reader = reader_new(&(struct reader_config){.kind = READER_SOCKET});
	static const char header[] = "<stream:stream xmlns='jabber:component:accept' "
				     "xmlns:stream='http://etherx.jabber.org/streams'>";
	enum reader_event event;
	struct stanza s;
	struct jid jid;

	reader_feed(reader, header, sizeof(header) - 1);
	REQUIRE(reader_next(reader, &s) == READER_OPEN);
	reader_feed(reader, buf_span(&played.to_server).p, buf_length(&played.to_server));
	while ((event = reader_next(reader, &s)) != READER_MORE) {
		REQUIRE(event == READER_STANZA && s.kind != STANZA_OTHER && !s.refusal);
		REQUIRE(jid_split(s.from, &jid) && span_is(jid.domain, DOMAIN));
		REQUIRE(jid_split(s.to, &jid));
		REQUIRE(s.kind != STANZA_IQ || stanza_iq_valid(&s));
	}
	reader_free(reader);
}

/* Check what the instance was sent. */
static void check_output(int fd)
{
	static char sent[1 << 20];
	const char *handshake;
	ssize_t n, length = 0;

	while ((n = recv(fd, sent + length, sizeof(sent) - 1 - (size_t)length, MSG_DONTWAIT)) > 0)
		length += n;
	sent[length] = '\0';
	REQUIRE(!strstr(sent, SECRET));
	REQUIRE(played.bare || length == 0 ||
		strncmp(sent, "<?xml version='1.0'?><stream:stream ", 36) == 0);
	handshake = played.proved ? strstr(sent, "<handshake/>") : NULL;
	REQUIRE(played.proved || played.bare || !strstr(sent, "<handshake/>"));
	REQUIRE(handshake || played.came == 0 || played.bare);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const struct instance_ops ops = {
		.came = on_came, .stanza = on_stanza, .gone = on_gone};
	struct err_limits refused = {0};
	struct buf secret;
	int fds[2];

	if (n == 0 || n > INPUT_MAX_BYTES)
		return 0;
	err_verbosity(-8);
	played = (struct played){.loop = loop_new(), .bare = bytes[0] & 1};
	/* with references or CDATA sections the proof can be written in other ways */
	played.proved = memmem(bytes, n, PROOF, sizeof(PROOF) - 1) || memmem(bytes, n, "&#", 2) ||
			memmem(bytes, n, "<![CDATA[", 9);
	buf_init(&played.to_server, BUF_NO_MAX);
	writer_init(&played.writer, &played.to_server, WRITER_SOCKET, 4096);
	played.hub = hub_new(&(struct hub_config){.domain = SPAN(DOMAIN),
		.timeout_ms = 10000,
		.pending.max = 64,
		.pending.max_bytes = 1 << 20,
		.max_addresses = 16,
		.congested = congested,
		.random = {next_random, NULL}});
	buf_init(&secret, BUF_NO_MAX);
	buf_append_span(&secret, SPAN(SECRET));
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	REQUIRE(io_write_all(fds[1], bytes + 1, n - 1) == 0);
	shutdown(fds[1], SHUT_WR);
	instance_new(played.loop, fds[0],
		&(struct instance_config){
			.domain = SPAN(DOMAIN),
			.secret = &secret,
			.random = {zero, NULL},
			.refused = &refused,
			.link = {.reader = {.max_stanza_bytes = 2048,
					 .max_depth = 16,
					 .max_attributes = 16,
					 .index = READER_INDEX_CHILDREN}},
			.bare_allowed = played.bare,
		},
		&ops, NULL);
	loop_run(played.loop);
	REQUIRE(played.gone == 1 && played.came <= 1);
	check_server();
	check_output(fds[1]);
	hub_free(played.hub);
	loop_free(played.loop);
	buf_free(&played.to_server);
	buf_free(&secret);
	close(fds[1]);
	return 0;
}
