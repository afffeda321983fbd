/*
 * relay: the yardstick of the benchmarks. A "component" that logs in and then only
 * copies: what it reads from the stream it writes back to the stream, byte for byte,
 * without looking at it. It has the shape of any daemon here (poll, one big read,
 * one write), so what a program loses against it is what its work costs.
 *
 *     relay 127.0.0.1 PORT SECRET
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nettle/sha1.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { COPY_BYTES = 256 * 1024 };

static char bytes[COPY_BYTES];

static void die(const char *what)
{
	fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void send_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EAGAIN) {
			struct pollfd pf = {.fd = fd, .events = POLLOUT};

			poll(&pf, 1, -1);
			continue;
		}
		if (sent < 0)
			die("cannot write");
		p += sent;
		n -= (size_t)sent;
	}
}

/* Read until `until` has come. Nothing can follow it: the server sends nothing before the
 * handshake. */
static void read_until(int fd, const char *until)
{
	size_t have = 0;

	for (;;) {
		ssize_t n = read(fd, bytes + have, sizeof bytes - 1 - have);

		if (n <= 0)
			die("no stream");
		have += (size_t)n;
		bytes[have] = 0;
		if (strstr(bytes, until)) {
			const char *rest = strstr(bytes, until) + strlen(until);

			send_all(fd, rest, strlen(rest));
			return;
		}
	}
}

static void login(int fd, const char *secret)
{
	struct sha1_ctx ctx;
	uint8_t digest[SHA1_DIGEST_SIZE];
	char handshake[128] = "<handshake>", *id, *end;
	static const char open[] =
		"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
		"xmlns:stream='http://etherx.jabber.org/streams' to='relay.test'>";

	send_all(fd, open, sizeof open - 1);
	read_until(fd, "'>");
	id = strstr(bytes, "id='");
	end = id ? strchr(id + 4, '\'') : NULL;
	if (!end)
		die("no stream id");
	sha1_init(&ctx);
	sha1_update(&ctx, (size_t)(end - id - 4), (const uint8_t *)id + 4);
	sha1_update(&ctx, strlen(secret), (const uint8_t *)secret);
	sha1_digest(&ctx, sizeof digest, digest);
	for (size_t i = 0; i < sizeof digest; i++)
		snprintf(handshake + 11 + 2 * i, 3, "%02x", digest[i]);
	strcat(handshake, "</handshake>");
	send_all(fd, handshake, strlen(handshake));
	read_until(fd, "<handshake/>");
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	struct pollfd pf = {.events = POLLIN};
	int one = 1;

	if (argc != 4 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
		fputs("usage: relay ADDRESS PORT SECRET\n", stderr);
		return 64;
	}
	to.sin_port = htons((uint16_t)atoi(argv[2]));
	pf.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (pf.fd < 0 || connect(pf.fd, (struct sockaddr *)&to, sizeof to) != 0)
		die("cannot connect");
	setsockopt(pf.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	login(pf.fd, argv[3]);
	if (fcntl(pf.fd, F_SETFL, O_NONBLOCK) != 0)
		die("cannot set the socket up");
	for (;;) {
		ssize_t n;

		if (poll(&pf, 1, -1) < 0)
			die("cannot poll");
		n = read(pf.fd, bytes, sizeof bytes);
		if (n == 0)
			return 0;
		if (n < 0) {
			if (errno == EAGAIN)
				continue;
			die("cannot read");
		}
		send_all(pf.fd, bytes, (size_t)n);
	}
}
