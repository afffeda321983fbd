/* Fuzz target: a server's bytes on a component's stream, from the header on. Whatever comes, the
 * component sends its header, at most one handshake, and never its secret; it is up at most once
 * and gives up exactly once. */
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "loop/dial.h"
#include "require.h"
#include "server/component.h"

#define SECRET "a-secret-nobody-says"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Stands in for loop/dial: the connection is one end of a pair of sockets. */
struct dial {
	struct loop *loop;
	struct loop_timer timer;
	struct dial_ops ops;
	void *context;
};

static int ours = -1;

static void on_dialled(void *context)
{
	struct dial *d = context;
	struct dial_ops ops = d->ops;
	void *owner = d->context;

	dial_cancel(d);
	ops.connected(owner, ours, true);
}

struct dial *dial_start(struct loop *loop, const char *host, const char *port,
	const struct dial_ops *ops, void *context)
{
	struct dial *d = xcalloc(1, sizeof(*d));

	(void)host;
	(void)port;
	d->loop = loop;
	d->ops = *ops;
	d->context = context;
	loop_timer_init(&d->timer, on_dialled, d);
	loop_timer_set(loop, &d->timer, 0);
	return d;
}

void dial_cancel(struct dial *d)
{
	if (d)
		loop_timer_clear(d->loop, &d->timer);
	free(d);
}

void dial_tune(int fd, int64_t ack_ms)
{
	(void)fd;
	(void)ack_ms;
}

bool dial_is_loopback(const struct sockaddr *address)
{
	(void)address;
	return true;
}

static struct played {
	struct loop *loop;
	unsigned ups, downs, ends;
} played;

static void on_up(void *context)
{
	(void)context;
	played.ups++;
}

static void on_down(void *context)
{
	(void)context;
	played.downs++;
}

static void on_stanza(void *context, const struct stanza *s)
{
	(void)context;
	REQUIRE(played.ups == 1);
	REQUIRE(s->kind != STANZA_OTHER && s->to.p);
}

static void on_gave_up(void *context, int status)
{
	(void)context;
	played.ends++;
	REQUIRE(status == EXIT_DENIED || status == EXIT_CONFIG || status == EXIT_TEMPORARY ||
		status == EXIT_PROTOCOL);
	loop_stop(played.loop, 0);
}

/* Check what the component has sent. */
static void check_output(int fd)
{
	static char sent[65536];
	const char *handshake;
	ssize_t n, length = 0;

	while ((n = recv(fd, sent + length, sizeof(sent) - 1 - (size_t)length, MSG_DONTWAIT)) > 0)
		length += n;
	sent[length] = '\0';
	REQUIRE(strncmp(sent, "<?xml version='1.0'?><stream:stream ", 36) == 0);
	REQUIRE(!strstr(sent, SECRET));
	handshake = strstr(sent, "<handshake>");
	REQUIRE(!handshake || !strstr(handshake + 1, "<handshake>"));
	REQUIRE(handshake || played.ups == 0);
}

static const char *secret_file(void)
{
	static char path[] = "/tmp/fuzz-component-XXXXXX";
	static int fd = -1;

	if (fd < 0) {
		fd = mkstemp(path);
		REQUIRE(fd >= 0 && io_write_all(fd, SECRET, strlen(SECRET)) == 0);
		unlink(path);
		snprintf(path, sizeof(path), "/dev/fd/%d", fd);
	}
	return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const struct component_ops ops = {
		.up = on_up, .down = on_down, .stanza = on_stanza, .gave_up = on_gave_up};
	struct component *component;
	int fds[2], status;

	err_verbosity(-5);
	played = (struct played){.loop = loop_new()};
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	ours = fds[0];
	component = component_new(played.loop,
		&(struct component_config){
			.connect = "127.0.0.1:1",
			.domain = "jat.test",
			.secret = {.file = secret_file(), .fd = -1},
			.retries = 0,
			.link = {.reader = {.max_stanza_bytes = 4096}},
		},
		&ops, NULL, &status);
	REQUIRE(component && status == EXIT_DONE);
	REQUIRE(io_write_all(fds[1], bytes, n > 65536 ? 65536 : n) == 0);
	shutdown(fds[1], SHUT_WR);
	loop_run(played.loop);
	REQUIRE(played.ends == 1 && played.ups <= 1 && played.downs == played.ups);
	check_output(fds[1]);
	component_free(component);
	loop_free(played.loop);
	close(fds[1]);
	return 0;
}
