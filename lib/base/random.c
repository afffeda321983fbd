/* random.c - see random.h */
#include "base/random.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include <nettle/base16.h>

#include "base/err.h"

void random_bytes(void *bytes, size_t n)
{
	char *p = bytes;
	while (n > 0) {
		ssize_t got = getrandom(p, n, 0);
		if (got < 0) {
			if (errno == EINTR)
				continue;
			err_die(EXIT_TEMPORARY, "no random bytes from the kernel: %s",
				strerror(errno));
		}
		p += got;
		n -= (size_t)got;
	}
}

uint64_t random_number(void *context)
{
	struct random_numbers *n = context;
	uint64_t number;

	if (n->left == 0) {
		random_bytes(n->drawn, sizeof(n->drawn));
		n->left = sizeof(n->drawn) / sizeof(n->drawn[0]);
	}
	number = n->drawn[--n->left];
	n->drawn[n->left] = 0;
	return number;
}

static uint64_t kernel_number(void *context)
{
	uint64_t number;

	(void)context;
	random_bytes(&number, sizeof(number));
	return number;
}

const struct random_source random_kernel = {kernel_number, NULL};

struct span random_name(const struct random_source *source, char name[RANDOM_NAME_CHARS + 1])
{
	const uint64_t numbers[] = {random_draw(source), random_draw(source)};

	base16_encode_update(name, sizeof(numbers), (const uint8_t *)numbers);
	name[RANDOM_NAME_CHARS] = '\0';
	return (struct span){name, RANDOM_NAME_CHARS};
}
