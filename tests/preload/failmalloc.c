/*
 * failmalloc - make an allocation fail
 *
 *	env LD_PRELOAD=build/preload/failmalloc.so FAILMALLOC=3 program   the third one
 *	... FAILMALLOC=3+ ...                                             all from the third on
 */
#include "preload.h"

#include <dlfcn.h>
#include <malloc.h>
#include <netdb.h>
#include <pthread.h>

/* glibc's own functions of the names that we define */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *p, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

static struct fault fault;

/*
 * OpenSSL 3.5 initialises itself inside pthread_once() and, where memory is short there, calls
 * pthread_once() again to say so: it waits for itself for ever, and no program that uses it can
 * help that. So no allocation inside pthread_once() fails with that version. Earlier ones report
 * the failure; there all allocations count.
 */
#define OPENSSL_3_5 0x30500000UL
static int (*once)(pthread_once_t *, void (*)(void));
static _Thread_local unsigned spared;
static bool spares;
/*
 * glibc's name services end the program by an assertion, or follow a null pointer, where memory is
 * short while they are set up, and no program that asks for a name can help that. So no allocation
 * inside a look-up of a name's domain fails.
 */
static _Thread_local unsigned looking_up;
static int (*look_up)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static void preload_start(void)
{
	unsigned long (*version)(void) =
		(unsigned long (*)(void))dlsym(RTLD_DEFAULT, "OpenSSL_version_num");
	spares = version && version() >= OPENSSL_3_5;
	const char *text = getenv("FAILMALLOC");
	fault_read(&fault, text);
	unsetenv("FAILMALLOC");
}

int pthread_once(pthread_once_t *control, void (*run)(void))
{
	int error;

	if (!once)
		once = (int (*)(pthread_once_t *, void (*)(void)))dlsym(RTLD_NEXT, "pthread_once");
	spared++;
	error = once(control, run);
	spared--;
	return error;
}

int getaddrinfo(const char *restrict name, const char *restrict service,
	const struct addrinfo *restrict hints, struct addrinfo **restrict found)
{
	bool domain = hints && hints->ai_flags & AI_CANONNAME;
	int error;

	if (!look_up)
		look_up = (int (*)(const char *, const char *, const struct addrinfo *,
			struct addrinfo **))dlsym(RTLD_NEXT, "getaddrinfo");
	looking_up += domain;
	error = look_up(name, service, hints, found);
	looking_up -= domain;
	return error;
}

static bool fails(void)
{
	if ((spares && spared > 0) || looking_up > 0 || !fault_now(&fault))
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
