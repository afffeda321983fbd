/*
 * Preloaded into everything the tests run: when a program from $BINDIR exits, its name and status
 * are appended to $STATUSES, however it was started. statuses.bats holds them against the manuals.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pid_t self;
static char line_name[NAME_MAX], line_file[PATH_MAX];

static void note(int status, void *unused)
{
	(void)unused;
	int saved = errno;
	char line[NAME_MAX + 16];
	/* The newline in front: under a file size limit only a part may get written. */
	int n = snprintf(line, sizeof line, "\n%s %d\n", line_name, status & 255);
	/* A forked child that calls exit() is not the program. */
	int fd = getpid() == self ? open(line_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)
				  : -1;
	if (fd >= 0) {
		if (write(fd, line, (size_t)n) < n)
			line_name[0] = '\0'; /* the name is too long to note: note nothing */
		close(fd);
	}
	errno = saved;
}

__attribute__((constructor)) static void begin(void)
{
	const char *dir = getenv("BINDIR"), *file = getenv("STATUSES");
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	if (!dir || !file || n < 0 || strlen(file) >= sizeof line_file)
		return;
	exe[n] = '\0';
	char *slash = strrchr(exe, '/');
	if (!slash || strlen(dir) != (size_t)(slash - exe) || strncmp(dir, exe, strlen(dir)) != 0)
		return;
	self = getpid();
	strcpy(line_file, file);
	snprintf(line_name, sizeof line_name, "%s", slash + 1);
	on_exit(note, NULL);
}
