/*
 * preload.h - what the preloaded fault injectors share
 *
 * They come in through LD_PRELOAD, count only once main() runs (what constructors of libraries
 * do is not ours), and take their settings out of the environment: children are left alone. Set
 * LD_PRELOAD for the program itself, not for a wrapper such as timeout(1).
 * FAULT_MARK names a file that is created when a fault was injected, so that a test can raise N
 * until the program ends before it.
 */
#ifndef OUTBOARD_TESTS_PRELOAD_H
#define OUTBOARD_TESTS_PRELOAD_H

/* read() and others must not become macros: we define them */
#undef _FORTIFY_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* "N": the Nth; "N+": the Nth and all after it. */
struct fault {
	long nth;
	bool on;
	atomic_long count;
};

static char preload_mark[256];

static inline void fault_read(struct fault *f, const char *text)
{
	char *end;
	f->nth = text ? strtol(text, &end, 10) : 0;
	f->on = text && *end == '+';
}

/* Whether this call is to fail. */
static inline bool fault_now(struct fault *f)
{
	if (f->nth == 0)
		return false;
	long n = atomic_fetch_add(&f->count, 1) + 1;
	if (n != f->nth && !(f->on && n > f->nth))
		return false;
	if (preload_mark[0]) {
		/* not open(2), which may be the call that must fail */
		long fd = syscall(SYS_openat, AT_FDCWD, preload_mark, O_CREAT | O_WRONLY, 0600);
		if (fd >= 0)
			syscall(SYS_close, fd);
	}
	return true;
}

/* What each injector does before main(). */
static void preload_start(void);

typedef int main_fn(int argc, char **argv, char **environment);
typedef int libc_start_main_fn(main_fn *program, int argc, char **argv, void (*init)(void),
	void (*fini)(void), void (*rtld_fini)(void), void *stack_end);
libc_start_main_fn __libc_start_main;

static main_fn *preload_program;

static int preload_main(int argc, char **argv, char **environment)
{
	const char *mark = getenv("FAULT_MARK");
	if (mark && strlen(mark) < sizeof preload_mark)
		strcpy(preload_mark, mark);
	preload_start();
	return preload_program(argc, argv, environment);
}

int __libc_start_main(main_fn *program, int argc, char **argv, void (*init)(void),
	void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
	libc_start_main_fn *next;
	*(void **)&next = dlsym(RTLD_NEXT, "__libc_start_main");
	preload_program = program;
	return next(preload_main, argc, argv, init, fini, rtld_fini, stack_end);
}

#endif
