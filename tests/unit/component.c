#include "server/component.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/io.h"

#define HEADER                                                                                     \
	"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "                     \
	"xmlns:stream='http://etherx.jabber.org/streams' id='s1'>"

/* Stands in for the library's function: a slow resolver. */
static int slow_ms;

__attribute__((visibility("default"))) int getaddrinfo(const char *node, const char *service,
	const struct addrinfo *hints, struct addrinfo **result)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	if (!(hints->ai_flags & AI_NUMERICHOST) && slow_ms) {
		poll(NULL, 0, slow_ms);
		node = "127.0.0.1";
	}
	return real(node, service, hints, result);
}

struct probe {
	struct loop *loop;
	struct component *component;
	unsigned ups, downs, waits, stanzas;
	int status; /* with which it gave up; -1: it has not */
	char why[256];
	struct loop_timer patience, during;
	bool in_vain, passed, free_at_end;
	unsigned stop_at_waits;
	void (*on_up)(struct probe *p);
};

static void on_up(void *context)
{
	struct probe *p = context;

	p->ups++;
	CHECK(component_writer(p->component) != NULL);
	if (p->on_up)
		p->on_up(p);
}

static void on_down(void *context)
{
	struct probe *p = context;

	p->downs++;
	CHECK(component_writer(p->component) == NULL);
	CHECK(component_link(p->component) == NULL);
}

static void on_stanza(void *context, const struct stanza *s)
{
	struct probe *p = context;

	(void)s;
	p->stanzas++;
}

static void on_gave_up(void *context, int status)
{
	struct probe *p = context;

	p->status = status;
	loop_stop(p->loop, 0);
	if (p->free_at_end) {
		component_free(p->component);
		p->component = NULL;
	}
}

static void on_waiting(void *context, const char *why)
{
	struct probe *p = context;

	p->waits++;
	snprintf(p->why, sizeof(p->why), "%s", why);
	if (p->waits == p->stop_at_waits)
		loop_stop(p->loop, 0);
}

static const struct component_ops ops = {
	.up = on_up,
	.down = on_down,
	.stanza = on_stanza,
	.gave_up = on_gave_up,
	.waiting = on_waiting,
};

static void on_patience(void *context)
{
	struct probe *p = context;

	p->in_vain = true;
	loop_stop(p->loop, 0);
}

static char secret_file[] = "/tmp/component-secret.XXXXXX";

static void probe_begin(
	struct probe *p, const char *host, uint16_t port, const struct component_config *more)
{
	struct component_config config = *more;
	static char connect[64];
	int status;

	memset(p, 0, sizeof(*p));
	p->status = -1;
	p->loop = loop_new();
	loop_timer_init(&p->patience, on_patience, p);
	loop_timer_set(p->loop, &p->patience, loop_now_ms(p->loop) + 20000);
	snprintf(connect, sizeof(connect), "%s:%u", host, port);
	config.connect = connect;
	config.domain = "jat.test";
	config.secret = (struct secret){.file = secret_file, .fd = -1};
	p->component = component_new(p->loop, &config, &ops, p, &status);
	CHECK(p->component != NULL);
	CHECK_EQ_INT(status, EXIT_DONE);
}

static void probe_end(struct probe *p)
{
	CHECK(!p->in_vain);
	component_free(p->component);
	loop_free(p->loop);
}

static int listener(uint16_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0), small = 4096;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (bind(fd, (struct sockaddr *)&a, n) < 0 || listen(fd, 4) < 0 ||
		getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		abort();
	*port = ntohs(a.sin_port);
	return fd;
}

/* Read until the text has come. */
static bool read_until(int fd, const char *what)
{
	static char bytes[65536];
	size_t n = 0;

	for (;;) {
		ssize_t got = read(fd, bytes + n, sizeof(bytes) - 1 - n);

		if (got <= 0)
			return false;
		n += (size_t)got;
		bytes[n] = '\0';
		if (strstr(bytes, what))
			return true;
	}
}

static void say(int fd, const char *text)
{
	if (io_write_all(fd, text, strlen(text)) < 0)
		_exit(9);
}

/* A server in a child: one stream up, then `after`. */
static pid_t serve(uint16_t *port, void (*after)(int fd))
{
	int listening = listener(port);
	pid_t pid = fork();

	if (pid == 0) {
		int fd = accept(listening, NULL, NULL);

		close(listening);
		if (!read_until(fd, "<stream:stream"))
			_exit(1);
		say(fd, HEADER);
		if (!read_until(fd, "</handshake>"))
			_exit(2);
		say(fd, "<handshake/>");
		after(fd);
		_exit(0);
	}
	close(listening);
	return pid;
}

static int status_of(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void never_read(int fd)
{
	(void)fd;
	pause();
}

static void say_much(struct probe *p)
{
	char *much = malloc(8 << 20);

	memset(much, ' ', 8 << 20);
	link_send_raw(component_link(p->component), (struct span){much, 8 << 20});
	free(much);
}

static void server_that_stops_reading_is_left(void)
{
	struct probe p;
	uint16_t port;
	pid_t server = serve(&port, never_read);

	probe_begin(&p, "127.0.0.1", port,
		&(struct component_config){.retries = -1, .link.stall_ms = 100});
	p.on_up = say_much;
	p.stop_at_waits = 1;
	loop_run(p.loop);
	CHECK_EQ_INT(p.ups, 1);
	CHECK_EQ_INT(p.downs, 1);
	CHECK(strstr(p.why, "has stopped reading") != NULL);
	CHECK_EQ_INT(p.status, -1);
	probe_end(&p);
	kill(server, SIGKILL);
	status_of(server);
}

static void expect_spaces(int fd)
{
	char byte[3];

	for (size_t i = 0; i < sizeof(byte); i++)
		if (read(fd, &byte[i], 1) != 1 || byte[i] != ' ')
			_exit(3);
	_exit(0);
}

/* RFC 6120 4.6.1 */
static void space_after_a_time_without_output(void)
{
	struct probe p;
	uint16_t port;
	pid_t server = serve(&port, expect_spaces);

	probe_begin(
		&p, "127.0.0.1", port, &(struct component_config){.retries = -1, .space_ms = 20});
	p.stop_at_waits = 1;
	loop_run(p.loop);
	CHECK_EQ_INT(p.ups, 1);
	CHECK_EQ_INT(status_of(server), 0);
	probe_end(&p);
}

static void expect_error(int fd)
{
	say(fd, "<iq type='get' id='1' from='a@b' to='jat.test'/><!-- --><iq/>");
	_exit(read_until(fd, "<stream:error><restricted-xml "
			     "xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
			     "</stream:stream>")
			? 0
			: 3);
}

static void bad_stream_is_told_why_and_ended(void)
{
	struct probe p;
	uint16_t port;
	pid_t server = serve(&port, expect_error);

	probe_begin(&p, "127.0.0.1", port, &(struct component_config){.retries = 0});
	p.free_at_end = true;
	loop_run(p.loop);
	CHECK_EQ_INT(p.stanzas, 1);
	CHECK_EQ_INT(p.downs, 1);
	CHECK_EQ_INT(p.status, EXIT_PROTOCOL);
	CHECK(p.component == NULL);
	probe_end(&p);
	CHECK_EQ_INT(status_of(server), 0);
}

static void expect_end(int fd)
{
	if (!read_until(fd, "</stream:stream>"))
		_exit(3);
	say(fd, "<iq type='get' id='late' from='a@b' to='jat.test'/></stream:stream>");
	_exit(read(fd, (char[1]){0}, 1) == 0 ? 0 : 4); /* no reset */
}

static void stop(struct probe *p)
{
	loop_stop(p->loop, 0);
}

static void close_waits_for_the_other_end(void)
{
	struct probe p;
	uint16_t port;
	pid_t server = serve(&port, expect_end);

	probe_begin(&p, "127.0.0.1", port, &(struct component_config){.retries = -1});
	p.on_up = stop;
	loop_run(p.loop);
	CHECK_EQ_INT(component_close(p.component, io_now_ms() + 20000), EXIT_DONE);
	CHECK_EQ_INT(p.downs, 0);
	CHECK_EQ_INT(p.stanzas, 0);
	probe_end(&p);
	CHECK_EQ_INT(status_of(server), 0);
}

static void on_during(void *context)
{
	struct probe *p = context;

	p->passed = true;
	CHECK_EQ_INT(p->ups + p->waits, 0);
}

static void slow_resolver_holds_nobody_up(void)
{
	struct probe p;
	uint16_t port;
	pid_t server = serve(&port, expect_end);

	slow_ms = 300;
	probe_begin(&p, "slow.example", port, &(struct component_config){.retries = 0});
	p.on_up = stop;
	loop_timer_init(&p.during, on_during, &p);
	loop_timer_set(p.loop, &p.during, loop_now_ms(p.loop) + 20);
	loop_run(p.loop);
	CHECK(p.passed);
	CHECK_EQ_INT(p.ups, 1);
	CHECK_EQ_INT(component_close(p.component, io_now_ms() + 20000), EXIT_DONE);
	probe_end(&p);
	CHECK_EQ_INT(status_of(server), 0);
	slow_ms = 0;
}

static void stop_during(void *context)
{
	stop(context);
}

static int threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	int n = 0;

	if (!tasks)
		return 1;
	for (struct dirent *e; (e = readdir(tasks));)
		n += e->d_name[0] != '.';
	closedir(tasks);
	return n;
}

static void lookup_can_be_abandoned(void)
{
	struct probe p;

	slow_ms = 200;
	probe_begin(&p, "slow.example", 1, &(struct component_config){.retries = 0});
	loop_timer_init(&p.during, stop_during, &p);
	loop_timer_set(p.loop, &p.during, loop_now_ms(p.loop) + 20);
	loop_run(p.loop);
	CHECK_EQ_INT(p.status, -1);
	probe_end(&p);
	/* its thread frees its memory after us; a leak checker sees whether it does */
	for (int tries = 0; threads() > 1 && tries < 2000; tries++)
		poll(NULL, 0, 10);
	CHECK_EQ_INT(threads(), 1);
	slow_ms = 0;
}

static void no_server_no_connection(void)
{
	struct probe p;
	uint16_t port;

	close(listener(&port));
	probe_begin(&p, "127.0.0.1", port, &(struct component_config){.retries = 1});
	loop_run(p.loop);
	CHECK_EQ_INT(p.status, EXIT_UNAVAILABLE);
	CHECK_EQ_INT(p.waits, 1);
	CHECK_EQ_INT(p.downs, 0);
	CHECK(!component_reached(p.component));
	probe_end(&p);
}

int main(int argc, char **argv)
{
	int fd = mkstemp(secret_file);

	(void)argc;
	err_init(argv[0]);
	err_verbosity(-9);
	io_sanitise(true);
	if (fd < 0 || io_write_all(fd, "secret\n", 7) < 0)
		return 1;
	close(fd);
	TEST(server_that_stops_reading_is_left);
	TEST(space_after_a_time_without_output);
	TEST(bad_stream_is_told_why_and_ended);
	TEST(close_waits_for_the_other_end);
	TEST(slow_resolver_holds_nobody_up);
	TEST(lookup_can_be_abandoned);
	TEST(no_server_no_connection);
	unlink(secret_file);
	return check_done();
}
