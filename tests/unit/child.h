/*
 * Runs code that exits, or whose output on stderr is checked, in a child process:
 *
 *	struct child c = child_run(function, context);
 *	CHECK_EQ_INT(c.status, EXIT_USAGE);
 *	CHECK_EQ_STR(c.err, "prog: what it said\n");
 *	child_free(&c);
 *
 * Checks made inside the child are lost: let it print, and check here.
 */
#ifndef OUTBOARD_TESTS_CHILD_H
#define OUTBOARD_TESTS_CHILD_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
	int status; /* exit status; 1000 + signal number if it was killed */
	char *out, *err;
};

__attribute__((unused)) static char *child_text(int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		abort();
	char *text = malloc((size_t)st.st_size + 1);
	if (!text || pread(fd, text, (size_t)st.st_size, 0) != st.st_size)
		abort();
	text[st.st_size] = '\0';
	close(fd);
	return text;
}

__attribute__((unused)) static struct child child_run(void (*function)(void *), void *context)
{
	struct child c = {0};
	int out = memfd_create("out", 0), err = memfd_create("err", 0), status;
	fflush(NULL);
	pid_t pid = fork();
	if (out < 0 || err < 0 || pid < 0)
		abort();
	if (pid == 0) {
		dup2(out, 1);
		dup2(err, 2);
		close(out);
		close(err);
		function(context);
		fflush(stdout);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		abort();
	c.status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
	c.out = child_text(out);
	c.err = child_text(err);
	return c;
}

__attribute__((unused)) static void child_free(struct child *c)
{
	free(c->out);
	free(c->err);
}

#endif
