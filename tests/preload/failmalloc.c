/*
 * failmalloc - make an allocation fail
 *
 *	env LD_PRELOAD=build/preload/failmalloc.so FAILMALLOC=3 program   the third one
 *	... FAILMALLOC=3+ ...                                             all from the third on
 */
#include "preload.h"

#include <malloc.h>

/* glibc's own functions of the names that we define */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *p, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

static struct fault fault;

static void preload_start(void)
{
	const char *text = getenv("FAILMALLOC");
	fault_read(&fault, text);
	unsetenv("FAILMALLOC");
}

static bool fails(void)
{
	if (!fault_now(&fault))
		return false;
	errno = ENOMEM;
	return true;
}

void *malloc(size_t bytes)
{
	return fails() ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
	return fails() ? NULL : __libc_calloc(count, bytes);
}

void *realloc(void *p, size_t bytes)
{
	return bytes && fails() ? NULL : __libc_realloc(p, bytes);
}

void *memalign(size_t alignment, size_t bytes)
{
	return fails() ? NULL : __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
	return memalign(alignment, bytes);
}

int posix_memalign(void **p, size_t alignment, size_t bytes)
{
	void *got = memalign(alignment, bytes);
	if (!got)
		return ENOMEM;
	*p = got;
	return 0;
}
