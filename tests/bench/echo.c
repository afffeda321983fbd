/*
 * echo: the handler of the delegation benchmarks. Each iq on standard input (one a
 * line) is answered on standard output with a result of the same id and payload;
 * one write per read. It works as a persistent handler and, since it leaves at end
 * of input, for --per-request.
 *
 *     echo [HOLD]    with HOLD: nothing is answered before HOLD requests are there
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct buf {
	char *p;
	size_t n, cap;
};

static void reserve(struct buf *b, size_t n)
{
	if (b->n + n <= b->cap)
		return;
	b->cap = (b->n + n) * 2;
	b->p = realloc(b->p, b->cap);
	if (!b->p)
		abort();
}

static void put(struct buf *b, const char *p, size_t n)
{
	reserve(b, n);
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void answer(struct buf *out, const char *line, size_t n)
{
	const char *end = line + n, *tag = memchr(line, '>', n);
	const char *id = tag ? memmem(line, (size_t)(tag - line), " id=", 4) : NULL, *id_end;

	if (!id || !(id_end = memchr(id + 5, id[4], (size_t)(tag - id - 5)))) {
		fprintf(stderr, "echo: no id: %.*s\n", (int)n, line);
		exit(1);
	}
	put(out, "<iq type='result'", 17);
	put(out, id, (size_t)(id_end + 1 - id));
	put(out, tag, (size_t)(end - tag));
	put(out, "\n", 1);
}

static void flush(struct buf *out)
{
	size_t at = 0;

	while (at < out->n) {
		ssize_t n = write(STDOUT_FILENO, out->p + at, out->n - at);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd pf = {.fd = STDOUT_FILENO, .events = POLLOUT};

			poll(&pf, 1, -1);
			continue;
		}
		if (n <= 0)
			exit(1);
		at += (size_t)n;
	}
	out->n = 0;
}

int main(int argc, char **argv)
{
	long hold = argc > 1 ? atol(argv[1]) : 0;
	static struct buf in, out;

	for (;;) {
		const char *line, *nl;
		ssize_t n;

		reserve(&in, 65536);
		n = read(STDIN_FILENO, in.p + in.n, 65536);
		if (n < 0 && errno == EAGAIN) {
			struct pollfd pf = {.fd = STDIN_FILENO, .events = POLLIN};

			poll(&pf, 1, -1);
			continue;
		}
		if (n < 0)
			return 1;
		if (n == 0)
			break;
		in.n += (size_t)n;
		line = in.p;
		while ((nl = memchr(line, '\n', (size_t)(in.p + in.n - line)))) {
			answer(&out, line, (size_t)(nl - line));
			line = nl + 1;
			hold--;
		}
		in.n -= (size_t)(line - in.p);
		memmove(in.p, line, in.n);
		if (hold <= 0)
			flush(&out);
	}
	flush(&out);
	return 0;
}
