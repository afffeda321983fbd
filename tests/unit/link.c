#include "loop/link.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "base/err.h"
#include "base/io.h"

/* One link, its events, and the test's action at each. */
struct probe {
	struct loop *loop;
	struct link *link;
	struct link_counts counts;
	struct buf ids; /* of the stanzas, each followed by a space */
	struct buf bad; /* "LINE:what " */
	unsigned opened, stanzas, ended;
	enum link_end why; /* the last */
	int error;
	struct loop_timer patience, bound;
	bool in_vain, copies, stop_at_end;
	unsigned free_at, pause_at; /* after so many stanzas */
};

static void on_opened(void *context, const struct stanza *header)
{
	struct probe *p = context;

	(void)header;
	p->opened++;
}

static void on_stanza(void *context, const struct stanza *s)
{
	struct probe *p = context;

	p->stanzas++;
	buf_append_span(&p->ids, s->id);
	buf_append_char(&p->ids, ' ');
	if (p->copies)
		CHECK(writer_stanza(link_writer(p->link), s, &STANZA_KEEP) == WRITER_OK);
	if (p->stanzas == p->pause_at)
		link_pause(p->link);
	if (p->stanzas == p->free_at) {
		link_free(p->link);
		p->link = NULL;
		loop_stop(p->loop, 0);
	}
}

static void on_bad(void *context, const char *what, size_t line)
{
	struct probe *p = context;

	(void)what;
	buf_printf(&p->bad, "%zu ", line);
}

static void on_ended(void *context, enum link_end why, int error, const char *text)
{
	struct probe *p = context;

	(void)text;
	p->ended++;
	p->why = why;
	p->error = error;
	if (p->stop_at_end || p->ended == 2)
		loop_stop(p->loop, 0);
}

static const struct link_ops ops = {
	.opened = on_opened, .stanza = on_stanza, .bad = on_bad, .ended = on_ended};

static void on_patience(void *context)
{
	struct probe *p = context;

	p->in_vain = true;
	loop_stop(p->loop, 1);
}

static void probe_begin(struct probe *p)
{
	memset(p, 0, sizeof(*p));
	p->loop = loop_new();
	p->stop_at_end = true;
	buf_init(&p->ids, BUF_NO_MAX);
	buf_init(&p->bad, BUF_NO_MAX);
	loop_timer_init(&p->patience, on_patience, p);
	loop_timer_set(p->loop, &p->patience, loop_now_ms(p->loop) + 20000);
}

static void probe_link(
	struct probe *p, enum reader_kind kind, int in, int out, const struct link_config *more)
{
	struct link_config config = more ? *more : (struct link_config){0};

	config.reader.kind = kind;
	config.counts = &p->counts;
	p->link = link_new(p->loop, in, out, &config, &ops, p);
}

static void probe_run(struct probe *p)
{
	loop_run(p->loop);
	CHECK(!p->in_vain);
}

static void probe_end(struct probe *p)
{
	link_free(p->link);
	loop_free(p->loop);
	buf_free(&p->ids);
	buf_free(&p->bad);
}

static void put(int fd, const char *text)
{
	CHECK_EQ_INT(io_write_all(fd, text, strlen(text)), 0);
}

/* All there is in fd at the moment. */
static size_t take(int fd, struct buf *out)
{
	size_t before = buf_length(out);
	struct pollfd f = {.fd = fd, .events = POLLIN};

	while (poll(&f, 1, 0) > 0 && (f.revents & POLLIN)) {
		char bytes[65536];
		ssize_t n = read(fd, bytes, sizeof(bytes));

		if (n <= 0)
			break;
		buf_append(out, bytes, (size_t)n);
	}
	return buf_length(out) - before;
}

static void two_pipes(int in[2], int out[2])
{
	if (pipe(in) < 0 || pipe(out) < 0)
		abort();
}

static void close_all(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void filter_copies_and_ends(void)
{
	struct probe p;
	struct buf got;
	int fds[4];

	two_pipes(fds, fds + 2);
	buf_init(&got, BUF_NO_MAX);
	probe_begin(&p);
	p.copies = true;
	probe_link(&p, READER_PIPE, fds[0], fds[3], NULL);
	put(fds[1], "<iq id='1' type='get'/><message\nid='2'/>\n<presence id='3'/>\n");
	close(fds[1]);
	fds[1] = -1;
	probe_run(&p);
	CHECK_EQ_STR(buf_string(&p.ids), "1 2 3 ");
	CHECK_EQ_INT(p.why, LINK_EOF);
	CHECK_EQ_INT(p.ended, 1);
	CHECK(link_flush(p.link, 0));
	take(fds[2], &got);
	CHECK_EQ_STR(buf_string(&got),
		"<iq id='1' type='get'/>\n<message id='2'/>\n<presence id='3'/>\n");
	CHECK_EQ_INT(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
	CHECK_EQ_INT(fcntl(fds[3], F_GETFL) & O_NONBLOCK, 0);
	link_free(p.link);
	p.link = NULL;
	CHECK_EQ_INT(p.counts.stanzas_in, 3);
	CHECK_EQ_INT(p.counts.stanzas_out, 3);
	CHECK_EQ_INT(p.counts.bytes_out, buf_length(&got));
	buf_free(&got);
	probe_end(&p);
	close_all(fds, 4);
}

static void bad_input_is_told_with_its_line(void)
{
	struct probe p;
	int fds[4];

	two_pipes(fds, fds + 2);
	probe_begin(&p);
	probe_link(&p, READER_PIPE, fds[0], fds[3], NULL);
	put(fds[1], "<iq id='1'/>\n<iq <\n<iq id='2'/>\n</iq>\n<iq id='3'/><iq");
	close(fds[1]);
	fds[1] = -1;
	probe_run(&p);
	CHECK_EQ_STR(buf_string(&p.ids), "1 2 3 ");
	CHECK_EQ_STR(buf_string(&p.bad), "2 4 5 ");
	CHECK_EQ_INT(p.counts.bad, 3);
	CHECK_EQ_INT(p.why, LINK_EOF);
	probe_end(&p);
	close_all(fds, 4);
}

/* A child must close its copy of the other end, or the pipe would stay open. */
static void keep_only(int fd)
{
	for (int i = 3; i < 64; i++)
		if (i != fd)
			close(i);
}

/* A child writes n stanzas and ends, another reads them all (at its leisure) and checks. */
static pid_t child_writes(int fd, unsigned n)
{
	pid_t pid = fork();

	if (pid == 0) {
		char line[256];

		keep_only(fd);
		for (unsigned i = 0; i < n; i++) {
			int bytes = snprintf(line, sizeof(line),
				"<iq type='get' id='%u' to='proxy.test'><query xmlns='urn:x'>"
				"0123456789012345678901234567890123456789</query></iq>\n",
				i);

			if (io_write_all(fd, line, (size_t)bytes) < 0)
				_exit(1);
		}
		_exit(0);
	}
	return pid;
}

static pid_t child_reads(int fd, unsigned n, int64_t after_ms)
{
	pid_t pid = fork();

	if (pid == 0) {
		FILE *f = fdopen(fd, "r");
		char line[512], want[64];

		keep_only(fd);
		poll(NULL, 0, (int)after_ms);
		for (unsigned i = 0; i < n; i++) {
			snprintf(want, sizeof(want), " id='%u'", i);
			if (!fgets(line, sizeof(line), f) || !strstr(line, want))
				_exit(2);
		}
		_exit(fgets(line, sizeof(line), f) ? 3 : 0);
	}
	return pid;
}

static int status_of(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

enum { MANY = 60000 };

/* The lowest descriptor that is free. */
static int free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

/* The reader is late: the link has to hold its output back, and nothing may be lost. */
static void run_congested(bool pieces)
{
	struct probe p;
	int fds[4];
	pid_t writer, reader;
	struct rlimit before, none;
	int free_before;

	two_pipes(fds, fds + 2);
	writer = child_writes(fds[1], MANY);
	close(fds[1]);
	reader = child_reads(fds[2], MANY, 300);
	close(fds[2]);
	probe_begin(&p);
	p.copies = true;
	getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	free_before = free_fd();
	if (pieces) { /* take every descriptor, so that the link cannot open the pipes again */
		none.rlim_cur = 3;
		setrlimit(RLIMIT_NOFILE, &none);
	}
	probe_link(
		&p, READER_PIPE, fds[0], fds[3], &(struct link_config){.max_queue_bytes = 65536});
	setrlimit(RLIMIT_NOFILE, &before);
	CHECK_EQ_INT(free_fd() > free_before, !pieces); /* else the link has opened them again */
	probe_run(&p);
	CHECK_EQ_INT(p.why, LINK_EOF);
	CHECK_EQ_INT(p.stanzas, MANY);
	CHECK(link_flush(p.link, io_now_ms() + 20000));
	CHECK_EQ_INT(fcntl(fds[3], F_GETFL) & O_NONBLOCK, 0);
	link_free(p.link);
	p.link = NULL;
	close(fds[0]);
	close(fds[3]);
	CHECK_EQ_INT(status_of(writer), 0);
	CHECK_EQ_INT(status_of(reader), 0);
	CHECK_EQ_INT(p.counts.stanzas_out, MANY);
	probe_end(&p);
}

static void slow_reader_holds_back_the_input(void)
{
	run_congested(false);
}

static void pipes_that_cannot_be_reopened_are_written_in_pieces(void)
{
	run_congested(true);
}

static void on_check_bound(void *context)
{
	struct probe *p = context;

	if (link_congested(p->link))
		loop_stop(p->loop, 0);
	else
		loop_timer_set(p->loop, &p->bound, loop_now_ms(p->loop) + 10);
}

static void queue_is_bounded(void)
{
	struct probe p;
	int fds[4];
	pid_t writer;

	two_pipes(fds, fds + 2);
	writer = child_writes(fds[1], MANY);
	close(fds[1]);
	probe_begin(&p);
	p.copies = true;
	probe_link(
		&p, READER_PIPE, fds[0], fds[3], &(struct link_config){.max_queue_bytes = 65536});
	loop_timer_init(&p.bound, on_check_bound, &p);
	loop_timer_set(p.loop, &p.bound, loop_now_ms(p.loop) + 10);
	probe_run(&p);
	CHECK(link_congested(p.link));
	CHECK(link_queued_bytes(p.link) > 32768);
	CHECK(link_queued_bytes(p.link) < 65536);
	CHECK(p.stanzas < MANY);
	CHECK(!link_flush(p.link, io_now_ms() + 20)); /* nobody reads */
	probe_end(&p);
	close(fds[0]);
	close(fds[2]);
	close(fds[3]);
	CHECK(status_of(writer) != 0); /* EPIPE: the link had held it back */
}

static void idle_output_that_hangs_up_is_an_error(void)
{
	struct probe p;
	int fds[4];

	two_pipes(fds, fds + 2);
	probe_begin(&p);
	probe_link(&p, READER_PIPE, fds[0], fds[3], NULL);
	close(fds[2]);
	fds[2] = -1;
	probe_run(&p);
	CHECK_EQ_INT(p.why, LINK_WRITE_ERROR);
	CHECK_EQ_INT(p.error, EPIPE);
	probe_end(&p);
	close_all(fds, 4);
}

static void full_disk_is_an_error(void)
{
	struct probe p;
	int fds[2], full = open("/dev/full", O_WRONLY);

	if (pipe(fds) < 0)
		abort();
	probe_begin(&p);
	p.copies = true;
	probe_link(&p, READER_PIPE, fds[0], full, NULL);
	put(fds[1], "<iq id='1'/>\n");
	probe_run(&p);
	CHECK_EQ_INT(p.why, LINK_WRITE_ERROR);
	CHECK_EQ_INT(p.error, ENOSPC);
	CHECK_EQ_INT(link_write_error(p.link), ENOSPC);
	CHECK_EQ_INT(link_queued_bytes(p.link), strlen("<iq id='1'/>\n"));
	probe_end(&p);
	close_all(fds, 2);
	close(full);
}

static void write_error_after_the_end_of_input_is_told_too(void)
{
	struct probe p;
	int fds[4];

	two_pipes(fds, fds + 2);
	probe_begin(&p);
	p.stop_at_end = false;
	probe_link(&p, READER_PIPE, fds[0], fds[3], NULL);
	close_all(fds, 3);
	probe_run(&p);
	CHECK_EQ_INT(p.ended, 2);
	CHECK_EQ_INT(p.why, LINK_WRITE_ERROR);
	probe_end(&p);
	close(fds[3]);
}

static void closed_descriptors_are_errors(void)
{
	struct probe p;
	int in = open("/dev/null", O_WRONLY), out = open("/dev/null", O_RDONLY), fds[2];

	/* the descriptors that io_sanitise() opens in place of closed ones */
	probe_begin(&p);
	probe_link(&p, READER_PIPE, in, out, NULL);
	probe_run(&p);
	CHECK_EQ_INT(p.why, LINK_READ_ERROR);
	CHECK_EQ_INT(p.error, EBADF);
	probe_end(&p);
	if (pipe(fds) < 0)
		abort();
	probe_begin(&p);
	probe_link(&p, READER_PIPE, fds[0], out, NULL);
	link_send_raw(p.link, SPAN("<iq/>"));
	probe_run(&p);
	CHECK_EQ_INT(p.why, LINK_WRITE_ERROR);
	CHECK_EQ_INT(p.error, EBADF);
	probe_end(&p);
	close_all(fds, 2);
	close(in);
	close(out);
}

#define HEADER                                                                                     \
	"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "                     \
	"xmlns:stream='http://etherx.jabber.org/streams' id='s1'>"

static void socket_run(struct probe *p, int sockets[2], const struct link_config *config)
{
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) < 0)
		abort();
	probe_begin(p);
	probe_link(p, READER_SOCKET, sockets[0], sockets[0], config);
}

static void socket_ends(const char *bytes, enum link_end why)
{
	struct probe p;
	int sockets[2];

	socket_run(&p, sockets, NULL);
	put(sockets[1], HEADER "<iq id='1'/>");
	put(sockets[1], bytes);
	shutdown(sockets[1], SHUT_WR);
	probe_run(&p);
	CHECK_EQ_INT(p.opened, 1);
	CHECK_EQ_STR(buf_string(&p.ids), "1 ");
	CHECK_EQ_INT(p.why, why);
	CHECK_EQ_INT(p.ended, 1);
	{ /* the other direction still works */
		struct buf got;

		buf_init(&got, BUF_NO_MAX);
		link_send_raw(p.link, SPAN("</stream:stream>"));
		CHECK(link_flush(p.link, 0));
		take(sockets[1], &got);
		CHECK_EQ_STR(buf_string(&got), "</stream:stream>");
		buf_free(&got);
	}
	probe_end(&p);
	close_all(sockets, 2);
}

static void socket_tells_how_it_ended(void)
{
	socket_ends("", LINK_EOF);
	socket_ends("</stream:stream>", LINK_CLOSED);
	socket_ends("<iq id='2'></x>", LINK_BROKEN);
	socket_ends("<iq id='2'>", LINK_EOF);
}

static void last_words_of_the_peer_are_read(void)
{
	struct probe p;
	int sockets[2];

	socket_run(&p, sockets, NULL);
	/* the peer goes while we are writing and have not read yet */
	put(sockets[1], HEADER "<iq id='1'/><iq id='2'/>");
	close(sockets[1]);
	link_pause(p.link);
	link_send_raw(p.link, SPAN("<iq id='lost'/>"));
	p.stop_at_end = false;
	probe_run(&p);
	CHECK_EQ_STR(buf_string(&p.ids), "1 2 ");
	CHECK_EQ_INT(p.ended, 2);
	CHECK_EQ_INT(p.why, LINK_WRITE_ERROR);
	CHECK_EQ_INT(link_queued_bytes(p.link), strlen("<iq id='lost'/>"));
	CHECK_EQ_INT(link_write_error(p.link), EPIPE);
	probe_end(&p);
	close(sockets[0]);
}

static void peer_that_stops_reading_is_noticed(void)
{
	struct probe p;
	int sockets[2];
	char *much = malloc(4 << 20);
	int64_t began_ms = io_now_ms();

	memset(much, ' ', 4 << 20);
	socket_run(&p, sockets, &(struct link_config){.stall_ms = 80});
	link_send_raw(p.link, (struct span){much, 4 << 20});
	probe_run(&p);
	CHECK_EQ_INT(p.why, LINK_STALLED);
	CHECK(io_now_ms() - began_ms >= 80);
	probe_end(&p);
	close_all(sockets, 2);
	free(much);
}

static void freed_by_a_callback(void)
{
	struct probe p;
	int sockets[2];

	socket_run(&p, sockets, NULL);
	p.free_at = 2;
	put(sockets[1], HEADER "<iq id='1'/><iq id='2'/><iq id='3'/>");
	probe_run(&p);
	CHECK_EQ_STR(buf_string(&p.ids), "1 2 ");
	CHECK(p.link == NULL);
	CHECK_EQ_INT(p.ended, 0);
	probe_end(&p);
	close_all(sockets, 2);
}

static void on_resume(void *context)
{
	struct probe *p = context;

	CHECK_EQ_STR(buf_string(&p->ids), "1 ");
	link_pause(p->link);
	link_resume(p->link);
	CHECK_EQ_INT(p->stanzas, 1);
	link_resume(p->link);
}

static void paused_link_does_not_read(void)
{
	struct probe p;
	int sockets[2];
	struct loop_timer timer;

	socket_run(&p, sockets, NULL);
	p.pause_at = 1;
	loop_timer_init(&timer, on_resume, &p);
	loop_timer_set(p.loop, &timer, loop_now_ms(p.loop) + 50);
	put(sockets[1], HEADER "<iq id='1'/><iq id='2'/><iq id='3'/>");
	close(sockets[1]);
	probe_run(&p);
	CHECK_EQ_STR(buf_string(&p.ids), "1 2 3 ");
	CHECK_EQ_INT(p.why, LINK_EOF);
	probe_end(&p);
	close(sockets[0]);
}

static void hard_maximum_can_be_lifted(void)
{
	struct probe p;
	int sockets[2];
	enum writer_status status = WRITER_OK;
	unsigned written = 0;

	socket_run(&p, sockets,
		&(struct link_config){.max_queue_bytes = 65536, .reader.max_stanza_bytes = 1024});
	while (status == WRITER_OK && written < 1000000) {
		struct writer *w = link_writer(p.link);

		writer_begin(w);
		writer_raw(w, "<iq type='error'/>");
		status = writer_end(w);
		written += status == WRITER_OK;
	}
	CHECK_EQ_INT(status, WRITER_FULL);
	CHECK(link_queued_bytes(p.link) <= 65536 + 8 * 1024);
	sink_lift_bound(link_sink(p.link));
	writer_begin(link_writer(p.link));
	writer_raw(link_writer(p.link), "<iq type='error'/>");
	CHECK_EQ_INT(writer_end(link_writer(p.link)), WRITER_OK);
	probe_end(&p);
	close_all(sockets, 2);
}

static void waits_for_the_end(void)
{
	struct probe p;
	int sockets[2];

	socket_run(&p, sockets, NULL);
	put(sockets[1], HEADER "<iq id='1'/>");
	CHECK(!link_wait_end(p.link, io_now_ms() + 20));
	CHECK_EQ_STR(buf_string(&p.ids), "1 ");
	put(sockets[1], "<iq id='2'/></stream:stream>");
	CHECK(link_wait_end(p.link, io_now_ms() + 20000));
	CHECK_EQ_STR(buf_string(&p.ids), "1 2 ");
	CHECK_EQ_INT(p.why, LINK_CLOSED);
	probe_end(&p);
	close_all(sockets, 2);
}

static void files_are_just_read_and_written(void)
{
	struct probe p;
	struct buf got;
	char in_name[] = "/tmp/link-in.XXXXXX", out_name[] = "/tmp/link-out.XXXXXX";
	int in = mkstemp(in_name), out = mkstemp(out_name);

	buf_init(&got, BUF_NO_MAX);
	put(in, "<iq id='1'/>\n<iq id='2'/>\n");
	lseek(in, 0, SEEK_SET);
	probe_begin(&p);
	p.copies = true;
	probe_link(&p, READER_PIPE, in, out, NULL);
	probe_run(&p);
	CHECK(link_flush(p.link, 0));
	CHECK_EQ_INT(io_read_file(out_name, 1000, &got), 0);
	CHECK_EQ_STR(buf_string(&got), "<iq id='1'/>\n<iq id='2'/>\n");
	probe_end(&p);
	buf_free(&got);
	close(in);
	close(out);
	unlink(in_name);
	unlink(out_name);
}

/* Halves ---------------------------------------------------------------------- */

static void on_sink_failed(void *context, int error)
{
	struct probe *p = context;

	p->ended++;
	p->error = error;
	loop_stop(p->loop, 0);
}

static void sink_alone_learns_that_nobody_reads(void)
{
	static const struct sink_ops sink_ops = {.failed = on_sink_failed};
	struct probe p;
	struct sink *sink;
	char got[3] = "";
	int fds[2];

	if (pipe(fds) < 0)
		abort();
	probe_begin(&p);
	sink = sink_new(p.loop, fds[1], &(struct sink_config){.kind = WRITER_PIPE}, &sink_ops, &p);
	sink_send_raw(sink, SPAN("ab"));
	CHECK(sink_flush(sink, 0));
	CHECK(read(fds[0], got, 2) == 2 && strcmp(got, "ab") == 0);
	close(fds[0]);
	probe_run(&p);
	CHECK_EQ_INT(p.ended, 1);
	CHECK_EQ_INT(p.error, EPIPE);
	CHECK_EQ_INT(sink_error(sink), EPIPE);
	sink_free(sink);
	probe_end(&p);
	close(fds[1]);
}

static void on_source_line(void *context, struct span line, size_t number)
{
	struct probe *p = context;

	buf_printf(&p->ids, "%zu:%.*s ", number, SPAN_ARG(line));
}

static void source_alone_waits_for_the_sink_that_holds_it(void)
{
	static const struct source_ops source_ops = {.line = on_source_line, .ended = on_ended};
	static const struct sink_ops sink_ops = {.failed = on_sink_failed};
	static char much[3 << 20];
	struct probe p;
	struct sink *sink;
	struct source *source;
	int fds[4];

	two_pipes(fds, fds + 2);
	probe_begin(&p);
	sink = sink_new(p.loop, fds[3],
		&(struct sink_config){.kind = WRITER_PIPE, .max_queue_bytes = 1 << 20}, &sink_ops,
		&p);
	source = source_new(p.loop, fds[0],
		&(struct source_config){.max_line_bytes = 100, .held_by = sink}, &source_ops, &p);
	sink_send_raw(sink, (struct span){much, sizeof(much)});
	put(fds[1], "one\ntwo\nlast");
	close(fds[1]);
	CHECK(sink_congested(sink));
	loop_timer_set(p.loop, &p.patience, loop_now_ms(p.loop) + 50);
	loop_run(p.loop);
	CHECK(p.in_vain && p.ended == 0 && buf_length(&p.ids) == 0);
	p.in_vain = false;
	sink_discard(sink);
	loop_timer_set(p.loop, &p.patience, loop_now_ms(p.loop) + 20000);
	probe_run(&p);
	CHECK_EQ_STR(buf_string(&p.ids), "1:one 2:two 3:last ");
	CHECK_EQ_INT(p.why, LINK_EOF);
	source_free(source);
	sink_free(sink);
	probe_end(&p);
	close(fds[0]);
	close_all(fds + 2, 2);
}

int main(int argc, char **argv)
{
	(void)argc;
	err_init(argv[0]);
	io_sanitise(true);
	TEST(filter_copies_and_ends);
	TEST(bad_input_is_told_with_its_line);
	TEST(slow_reader_holds_back_the_input);
	TEST(pipes_that_cannot_be_reopened_are_written_in_pieces);
	TEST(queue_is_bounded);
	TEST(idle_output_that_hangs_up_is_an_error);
	TEST(full_disk_is_an_error);
	TEST(write_error_after_the_end_of_input_is_told_too);
	TEST(closed_descriptors_are_errors);
	TEST(socket_tells_how_it_ended);
	TEST(last_words_of_the_peer_are_read);
	TEST(peer_that_stops_reading_is_noticed);
	TEST(freed_by_a_callback);
	TEST(paused_link_does_not_read);
	TEST(hard_maximum_can_be_lifted);
	TEST(waits_for_the_end);
	TEST(files_are_just_read_and_written);
	TEST(sink_alone_learns_that_nobody_reads);
	TEST(source_alone_waits_for_the_sink_that_holds_it);
	return check_done();
}
