/* loop/lookup.h: SRV records, with a made-up name server */
#include "loop/lookup.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <dlfcn.h>
#include <resolv.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "check.h"

static struct buf answer;   /* what the name server says */
static struct buf asked;    /* names, in their order */
static const char *missing; /* a host without address */

__attribute__((visibility("default"))) int res_query(
	const char *name, int class, int type, unsigned char *out, int max)
{
	struct span all = buf_span(&answer);

	buf_printf(&asked, "%s %d %d;", name, class, type);
	if (!all.n)
		return -1;
	memcpy(out, all.p, all.n < (size_t)max ? all.n : (size_t)max);
	return (int)all.n;
}

/* Each host has the address 127.0.0.N, N being the length of its name. */
__attribute__((visibility("default"))) int getaddrinfo(const char *node, const char *service,
	const struct addrinfo *hints, struct addrinfo **result)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	char numeric[32];

	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	buf_printf(&asked, "%s:%s;", node, service);
	if (missing && strcmp(node, missing) == 0)
		return EAI_NONAME;
	snprintf(numeric, sizeof(numeric), "127.0.0.%zu", strlen(node));
	return real(numeric, service, hints, result);
}

static void put_number(unsigned n)
{
	buf_append_char(&answer, (char)(n >> 8));
	buf_append_char(&answer, (char)n);
}

static void put_name(const char *name)
{
	while (*name) {
		size_t n = strcspn(name, ".");

		buf_append_char(&answer, (char)n);
		buf_append(&answer, name, n);
		name += n + (name[n] == '.');
	}
	buf_append_char(&answer, '\0');
}

static void begin(unsigned records)
{
	buf_reset(&answer);
	buf_reset(&asked);
	missing = NULL;
	put_number(1);
	put_number(0x8180);
	put_number(1);
	put_number(records);
	put_number(0);
	put_number(0);
	put_name("_s._tcp.d");
	put_number(ns_t_srv);
	put_number(ns_c_in);
}

static void put_record(
	unsigned type, unsigned priority, unsigned weight, unsigned port, const char *host)
{
	put_number(0xc00c); /* the question's name */
	put_number(type);
	put_number(ns_c_in);
	put_number(0);
	put_number(60);
	put_number((unsigned)(strlen(host) + (*host ? 2 : 1) + 6));
	put_number(priority);
	put_number(weight);
	put_number(port);
	put_name(host);
}

/* Look d's service up: the addresses as text, or the error. */
static const char *find(void)
{
	static char text[1024];
	const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
	struct lookup *l = lookup_new_service("_s._tcp", "d", "99", &hints);
	struct addrinfo *found = NULL;
	int error = lookup_finish(l, &found);
	size_t n = 0;

	text[0] = '\0';
	if (error)
		snprintf(text, sizeof(text), "error %d", error);
	for (const struct addrinfo *f = found; f; f = f->ai_next) {
		struct sockaddr_in in;

		memcpy(&in, f->ai_addr, sizeof(in));
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%u:%d ",
			ntohl(in.sin_addr.s_addr) & 0xff, ntohs(in.sin_port));
	}
	if (found)
		freeaddrinfo(found);
	return text;
}

static void priority_then_weight(void)
{
	begin(4);
	put_record(ns_t_srv, 20, 0, 1, "four");
	put_record(ns_t_srv, 10, 5, 2, "fi.ve");
	put_record(ns_t_txt, 1, 1, 7, "nothing");
	put_record(ns_t_srv, 10, 60, 65535, "a.third.one");
	CHECK_EQ_STR(find(), "11:65535 5:2 4:1 ");
	CHECK_EQ_STR(buf_string(&asked), "_s._tcp.d 1 33;a.third.one:65535;fi.ve:2;four:1;");
	/* those that have an address */
	missing = "fi.ve";
	CHECK_EQ_STR(find(), "11:65535 4:1 ");
}

static void no_records_mean_the_host(void)
{
	char error[32];

	begin(0);
	CHECK_EQ_STR(find(), "1:99 ");
	buf_reset(&answer);
	CHECK_EQ_STR(find(), "1:99 ");
	missing = "d";
	snprintf(error, sizeof(error), "error %d", EAI_NONAME);
	CHECK_EQ_STR(find(), error);
	/* a domain that says that it has no such service */
	begin(1);
	put_record(ns_t_srv, 0, 0, 0, "");
	snprintf(error, sizeof(error), "error %d", EAI_SERVICE);
	CHECK_EQ_STR(find(), error);
}

/* An answer that is cut anywhere gives what is whole in it. */
static void cut_answers(void)
{
	struct buf whole;

	begin(2);
	put_record(ns_t_srv, 1, 1, 1, "one.example");
	put_record(ns_t_srv, 2, 1, 2, "two.example.org");
	buf_init(&whole, BUF_NO_MAX);
	buf_append_span(&whole, buf_span(&answer));
	for (size_t n = 0; n <= buf_length(&whole); n++) {
		const char *got;

		buf_reset(&answer);
		buf_append(&answer, buf_string(&whole), n);
		got = find();
		CHECK(strcmp(got, n == buf_length(&whole) ? "11:1 15:2 " : "11:1 ") == 0 ||
			(strcmp(got, "1:99 ") == 0 && n < buf_length(&whole)));
	}
	buf_free(&whole);
	/* more records than are taken */
	begin(100);
	for (unsigned i = 0; i < 100; i++)
		put_record(ns_t_srv, i, 1, 1, "h");
	find();
	CHECK(strlen(buf_string(&asked)) == strlen("_s._tcp.d 1 33;") + LOOKUP_TARGETS * 4);
}

int main(int argc, char **argv)
{
	(void)argc;
	err_init(argv[0]);
	buf_init(&answer, BUF_NO_MAX);
	buf_init(&asked, BUF_NO_MAX);
	TEST(priority_then_weight);
	TEST(no_records_mean_the_host);
	TEST(cut_answers);
	buf_free(&answer);
	buf_free(&asked);
	return check_done();
}
