/* Fuzz target: one connection to the refresh endpoint: request lines, headers, lengths, chunks,
 * several requests. Each request gets at most one answer, each of them whole and in JSON; behind a
 * request whose end is not clear nothing is taken for another one; at the end nothing is open. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "require.h"
#include "roster/http.h"
#include "roster/roster.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define RECEIVE_MS 200

static struct played {
	struct loop *loop;
	struct http *http;
	struct loop_timer timer;
	size_t refreshes;
	int64_t end_ms;
} played;

static void on_refresh(
	void *context, struct http_request *request, const struct span *names, size_t count)
{
	const struct http_outcome outcome = {.ok = true, .updated = count};

	(void)context;
	for (size_t i = 0; i < count; i++)
		REQUIRE(roster_user_valid(names[i]));
	played.refreshes++;
	http_answer(request, 200, &outcome);
}

static void nothing(void *context)
{
	(void)context;
}

static bool healthy(void *context)
{
	(void)context;
	return true;
}

static void look(void *context)
{
	int64_t now_ms = loop_now_ms(played.loop);

	(void)context;
	REQUIRE(now_ms < played.end_ms);
	if (http_connections(played.http) == 0)
		loop_stop(played.loop, 0);
	else
		loop_timer_set(played.loop, &played.timer, now_ms + 1);
}

/* The value of a header of the answer's head, NULL. */
static const char *header(const char *head, const char *name)
{
	const char *at = strcasestr(head, name);

	return at ? at + strlen(name) : NULL;
}

/* Check one answer; returns where the next one begins. */
static char *check_answer(char *at, size_t *done)
{
	char *body = strstr(at, "\r\n\r\n");
	const char *length;
	size_t n;

	REQUIRE(strncmp(at, "HTTP/1.", 7) == 0 && body);
	*body = '\0';
	body += 4;
	length = header(at, "\r\nContent-Length: ");
	n = length ? strtoul(length, NULL, 10) : 0;
	if (!header(at, "application/json") && header(at, "\r\nConnection: close")) {
		REQUIRE(!strstr(
			body, " 200 ")); /* libmicrohttpd's own words about what is malformed */
		return strchr(body, '\0');
	}
	if (*body && strncmp(body, "HTTP/1.", 7) != 0) { /* otherwise it answers a HEAD */
		REQUIRE(strlen(body) >= n);
		if (header(at, "application/json"))
			REQUIRE(body[0] == '{' && body[n - 1] == '\n');
		*done += strstr(body, "\"updated\":") && strstr(body, "\"updated\":") < body + n;
		body += n;
	}
	REQUIRE(!header(at, "\r\nConnection: close") || !*body);
	return body;
}

static void check_answers(int fd)
{
	static char got[1 << 20];
	size_t n = 0, answers = 0, done = 0;
	ssize_t more;

	while ((more = recv(fd, got + n, sizeof(got) - 1 - n, MSG_DONTWAIT)) > 0)
		n += (size_t)more;
	got[n] = '\0';
	REQUIRE(strlen(got) == n);
	for (char *at = got; *at; answers++)
		at = check_answer(at, &done);
	REQUIRE(done <= answers);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const struct http_ops ops = {
		.refresh = on_refresh, .room = nothing, .lost = nothing, .healthy = healthy};
	static const struct opt_list none;
	struct buf tokens;
	int fds[2], status;

	err_verbosity(-5);
	buf_init(&tokens, BUF_NO_MAX);
	played = (struct played){.loop = loop_new(), .end_ms = io_now_ms() + 50 * RECEIVE_MS};
	played.http = http_new(played.loop,
		&(struct http_config){.max_body_bytes = 1000,
			.max_header_bytes = 2000,
			.max_connections = 4,
			.receive_ms = RECEIVE_MS,
			.tokens = &tokens,
			.max_values = 50,
			.allow_origins = &none,
			.allow_hosts = &none},
		&ops, NULL, &status);
	REQUIRE(played.http && socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	REQUIRE(io_write_all(fds[1], bytes, n > 65536 ? 65536 : n) == 0);
	shutdown(fds[1], SHUT_WR);
	REQUIRE(http_accept(played.http, fds[0]));
	loop_timer_init(&played.timer, look, NULL);
	loop_timer_set(played.loop, &played.timer, 0);
	loop_run(played.loop);
	REQUIRE(http_requests(played.http) == 0);
	check_answers(fds[1]);
	close(fds[1]);
	loop_timer_clear(played.loop, &played.timer);
	http_free(played.http);
	loop_free(played.loop);
	buf_free(&tokens);
	return 0;
}
