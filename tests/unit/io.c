#include "check.h"
#include "child.h"
#include "base/err.h"
#include "base/io.h"
#include "base/secret.h"
#include "base/random.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>

static char folder[] = "/tmp/outboard-io-XXXXXX";
static struct buf out;

static void put(const char *name, const char *bytes, size_t n, mode_t mode)
{
	unlink(name); /* only root could write into a folder that is read-only */
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || fchmod(fd, mode) < 0 || close(fd) < 0)
		abort();
}

static int files_here(void)
{
	DIR *d = opendir(".");
	int n = 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void empty_folder(void)
{
	DIR *d = opendir(".");
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.' || (e->d_name[1] && e->d_name[1] != '.'))
			unlink(e->d_name);
	closedir(d);
	buf_reset(&out);
}

static void files_are_read_whole_or_not(void)
{
	static char big[200000];
	for (size_t i = 0; i < sizeof big; i++)
		big[i] = (char)(i * 7);
	put("big", big, sizeof big, 0600);
	buf_append_string(&out, "before");
	CHECK_EQ_INT(io_read_file("big", sizeof big, &out), 0);
	CHECK_EQ_INT(buf_length(&out), sizeof big + 6);
	CHECK_EQ_MEM(out.p + 6, buf_length(&out) - 6, big, sizeof big);
	buf_truncate(&out, 6);
	CHECK_EQ_INT(io_read_file("big", sizeof big - 1, &out), -EFBIG);
	CHECK_EQ_STR(buf_string(&out), "before");
	CHECK_EQ_INT(io_read_file("big", 0, &out), -EFBIG);
	CHECK_EQ_INT(io_read_file("missing", 10, &out), -ENOENT);
	CHECK_EQ_INT(io_read_file(".", 10, &out), -EISDIR);
	CHECK_EQ_INT(io_read_file("/dev/null", 0, &out), 0);
	CHECK_EQ_STR(buf_string(&out), "before");
	struct buf small;
	buf_init(&small, 1000);
	CHECK_EQ_INT(io_read_file("big", sizeof big, &small), -EFBIG);
	CHECK_EQ_INT(buf_length(&small), 0);
	buf_free(&small);
	empty_folder();
}

/* Both ends non-blocking, the writer far ahead of the reader. */
static void writes_wait_for_the_reader(void)
{
	enum { BYTES = 1000000 };
	int fds[2];
	static char bytes[BYTES];
	REQUIRE(pipe(fds) == 0);
	CHECK_EQ_INT(io_nonblocking(fds[0]), 0);
	CHECK_EQ_INT(io_nonblocking(fds[1]), 0);
	CHECK_EQ_INT(io_cloexec(fds[1]), 0);
	CHECK(fcntl(fds[1], F_GETFD) & FD_CLOEXEC);
	for (int i = 0; i < BYTES; i++)
		bytes[i] = (char)(i % 251);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		close(fds[0]);
		_exit(io_write_all(fds[1], bytes, BYTES) ? 1 : 0);
	}
	close(fds[1]);
	CHECK_EQ_INT(io_read_fd(fds[0], BYTES, &out), 0);
	CHECK_EQ_MEM(out.p, out.n, bytes, BYTES);
	close(fds[0]);
	int status = -1;
	waitpid(pid, &status, 0);
	CHECK_EQ_INT(status, 0);
	CHECK_EQ_INT(io_write_all(-1, "x", 1), -EBADF);
	CHECK_EQ_INT(io_write_all(-1, "", 0), 0);
	CHECK_EQ_INT(io_nonblocking(-1), -EBADF);
	CHECK_EQ_INT(io_cloexec(-1), -EBADF);
	int full = open("/dev/full", O_WRONLY);
	CHECK_EQ_INT(io_write_all(full, "x", 1), -ENOSPC);
	close(full);
	empty_folder();
}

static void check_file(const char *name, const char *content, mode_t mode)
{
	struct stat st;
	buf_reset(&out);
	CHECK_EQ_INT(io_read_file(name, 1000, &out), 0);
	CHECK_EQ_STR(buf_string(&out), content);
	CHECK(stat(name, &st) == 0);
	CHECK_EQ_INT(st.st_mode & 07777, mode);
}

static void files_are_replaced_whole(void)
{
	umask(077);
	CHECK_EQ_INT(io_replace_file("a", SPAN("one"), 0644), 0);
	check_file("a", "one", 0644);
	CHECK_EQ_INT(io_replace_file("./a", SPAN("two"), 0600), 0);
	check_file("a", "two", 0600);
	REQUIRE(symlink("a", "link") == 0);
	CHECK_EQ_INT(io_replace_file("link", SPAN(""), 0640), 0);
	check_file("a", "", 0640);
	struct stat st;
	CHECK(lstat("link", &st) == 0 && S_ISLNK(st.st_mode));
	char path[64];
	snprintf(path, sizeof path, "%s/b", folder);
	CHECK_EQ_INT(io_replace_file(path, SPAN("three"), 0600), 0);
	check_file("b", "three", 0600);
	CHECK_EQ_INT(files_here(), 3);
	CHECK_EQ_INT(io_replace_file("missing/b", SPAN("x"), 0600), -ENOENT);
	CHECK_EQ_INT(io_replace_file("a/b", SPAN("x"), 0600), -ENOTDIR);
	CHECK_EQ_INT(io_replace_file(".", SPAN("x"), 0600), -EISDIR);
	CHECK_EQ_INT(files_here(), 3);
	empty_folder();
}

/* Opening a FIFO without a reader would block for ever. */
static void what_is_no_file_is_not_replaced(void)
{
	struct stat st;
	CHECK_EQ_INT(io_replace_file("/dev/full", SPAN("x"), 0600), -ENXIO);
	CHECK_EQ_INT(io_replace_file("/dev/null", SPAN("x"), 0600), -ENXIO);
	CHECK(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode));
	REQUIRE(mkfifo("fifo", 0600) == 0 && symlink("fifo", "link") == 0);
	CHECK_EQ_INT(io_replace_file("fifo", SPAN("x"), 0600), -ENXIO);
	CHECK_EQ_INT(io_replace_file("link", SPAN("x"), 0600), -ENXIO);
	CHECK_EQ_INT(files_here(), 2);
	empty_folder();
}

static void folders_that_others_write_are_not_believed(void)
{
	char path[64];
	umask(0);
	REQUIRE(mkdir("f", 0700) == 0 && mkdir("f/g", 0755) == 0);
	CHECK(!io_folder_wrong("f/g"));
	snprintf(path, sizeof path, "%s/f", folder); /* below /tmp: others write it, sticky */
	CHECK(!io_folder_wrong(path));
	CHECK(io_folder_wrong("/tmp") != NULL);
	CHECK(io_folder_wrong("missing") != NULL);
	CHECK(chmod("f", 0777) == 0 && io_folder_wrong("f") != NULL);
	CHECK(io_folder_wrong("f/g") != NULL);
	CHECK(chmod("f", 01777) == 0 && !io_folder_wrong("f/g"));
	CHECK(io_folder_wrong("f") != NULL);
	REQUIRE(symlink("f", "link") == 0);
	CHECK(io_folder_wrong("link") != NULL);
	CHECK(chmod("f", 0770) == 0 && !io_folder_wrong("f")); /* our own group */
	if (geteuid() == 0) {
		CHECK(chown("f", (uid_t)-1, getegid() + 1) == 0 && chmod("f", 0770) == 0);
		CHECK(io_folder_wrong("f") != NULL);
		CHECK(chmod("f", 0700) == 0 && chown("f/g", 65534, (gid_t)-1) == 0);
		CHECK(io_folder_wrong("f/g") != NULL);
	}
	REQUIRE(rmdir("f/g") == 0 && rmdir("f") == 0);
	empty_folder();
}

static void create_never_replaces(void)
{
	CHECK_EQ_INT(io_create_file("a", SPAN("one"), 0600), 0);
	CHECK_EQ_INT(io_create_file("a", SPAN("two"), 0644), -EEXIST);
	check_file("a", "one", 0600);
	REQUIRE(symlink("nowhere", "link") == 0);
	CHECK_EQ_INT(io_create_file("link", SPAN("x"), 0644), -EEXIST);
	CHECK_EQ_INT(files_here(), 2);
	empty_folder();
}

/* The file size limit simulates a full disk: only the old file is left. */
static void replace_beyond_the_limit(void *context)
{
	(void)context;
	struct rlimit limit = {100, 100};
	static char bytes[200];
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	int error = io_replace_file("a", (struct span){bytes, sizeof bytes}, 0600);
	_exit(error == -EFBIG ? 42 : 1);
}

static void a_failed_replace_leaves_the_old_file(void)
{
	put("a", "old", 3, 0600);
	struct child c = child_run(replace_beyond_the_limit, NULL);
	CHECK_EQ_INT(c.status, 42);
	child_free(&c);
	check_file("a", "old", 0600);
	CHECK_EQ_INT(files_here(), 1);
	empty_folder();
}

/* --- stdout */

static void use_stdout(void *context)
{
	const char *how = context;
	err_init("p");
	if (how[0] == 'f')
		dup2(open("/dev/full", O_WRONLY), 1);
	if (how[0] == 'c')
		close(1);
	if (how[0] == 's') {
		close(1);
		io_sanitise(false);
	}
	if (how[1] == '1')
		fputs("word", stdout);
	if (how[1] == '2')
		for (int i = 0; i < 100000; i++)
			fputs("word", stdout);
	if (how[1] == '3') {
		setvbuf(stdout, NULL, _IONBF, 0);
		fputs("word", stdout);
	}
	io_close_stdout();
	io_close_stdout();
	_exit(9);
}

static void lost_output_is_an_error(void)
{
	static const struct {
		const char *how, *reason;
	} cases[] = {
		{"f1", "No space left on device"},
		{"f2", ""},
		{"f3", "an earlier write failed"},
		{"c1", "Bad file descriptor"},
		{"c3", "an earlier write failed"},
		{"s1", "Bad file descriptor"},
	};
	static const char *const fine[] = {"f0", "c0", "s0", "-1", "-2", "-3"};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char want[100];
		struct child c = child_run(use_stdout, (void *)(uintptr_t)cases[i].how);
		snprintf(want, sizeof want, "p: cannot write standard output: %s", cases[i].reason);
		CHECK_EQ_INT(c.status, EXIT_IO);
		CHECK_EQ_MEM(c.err, strlen(want), want, strlen(want));
		child_free(&c);
	}
	for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
		struct child c = child_run(use_stdout, (void *)(uintptr_t)fine[i]);
		CHECK_EQ_INT(c.status, 9);
		CHECK_EQ_STR(c.err, "");
		child_free(&c);
	}
}

static void sanitise(void *context)
{
	(void)context;
	int keep = dup2(1, 20);
	close(0);
	close(1);
	close(2);
	io_sanitise(true);
	char byte;
	dprintf(keep, "%d%d%d %d%d%d", fcntl(0, F_GETFL) & O_ACCMODE, fcntl(1, F_GETFL) & O_ACCMODE,
		fcntl(2, F_GETFL) & O_ACCMODE, read(0, &byte, 1) < 0, write(1, "x", 1) < 0,
		write(2, "x", 1) < 0);
	raise(SIGPIPE);
	close(keep);
}

static void closed_standard_fds_stay_unusable(void)
{
	struct child c = child_run(sanitise, NULL);
	CHECK_EQ_INT(c.status, 0);
	CHECK_EQ_STR(c.out, "100 111");
	child_free(&c);
}

/* --- secrets */

struct secret_case {
	struct secret secret;
	const char *content; /* what is printed when it was read */
	const char *reason;
};

static void read_secret(void *context)
{
	const struct secret_case *c = context;
	struct buf secret;
	err_init("p");
	buf_init(&secret, BUF_NO_MAX);
	int status = secret_read(&c->secret, "component secret", &secret);
	fwrite(buf_string(&secret), 1, buf_length(&secret), stdout);
	secret_wipe(&secret);
	secret_wipe(&secret);
	fflush(stdout);
	_exit(status);
}

static void check_secret(struct secret_case c)
{
	struct child r = child_run(read_secret, &c);
	CHECK_EQ_INT(r.status, c.content ? EXIT_DONE : EXIT_CONFIG);
	CHECK_EQ_STR(r.out, c.content ? c.content : "");
	if (c.content)
		CHECK_EQ_STR(r.err, "");
	else
		CHECK_MSG(strstr(r.err, c.reason), "'%s' has no '%s'", r.err, c.reason);
	CHECK(!strstr(r.err, "S3cret"));
	child_free(&r);
}

#define FILE_SECRET(path)                                                                          \
	{                                                                                          \
		.file = (path), .fd = -1, .credential = "component-secret"                         \
	}

static void secret_files(void)
{
	static const mode_t good[] = {0600, 0400, 0440, 0640, 0700},
			    bad[] = {0604, 0644, 0620, 0602, 0660};
	for (size_t i = 0; i < 5; i++) {
		put("s", "S3cret\n", 7, good[i]);
		check_secret((struct secret_case){FILE_SECRET("s"), "S3cret\n", NULL});
		put("s", "S3cret\n", 7, bad[i]);
		check_secret((struct secret_case){FILE_SECRET("s"), NULL, "(chmod "});
	}
	REQUIRE(symlink("s", "link") == 0);
	check_secret(
		(struct secret_case){FILE_SECRET("link"), NULL, "'link': its group can write"});
	put("s", "S3cret", 6, 0600);
	check_secret((struct secret_case){FILE_SECRET("link"), "S3cret", NULL});
	put("s", "", 0, 0600);
	check_secret((struct secret_case){FILE_SECRET("s"), NULL, "it is empty"});
	put("s", "\n", 1, 0600);
	check_secret((struct secret_case){FILE_SECRET("s"), NULL, "it is empty"});
	put("s", "S3\0cret", 7, 0600);
	check_secret((struct secret_case){FILE_SECRET("s"), NULL, "NUL"});
	check_secret((struct secret_case){
		FILE_SECRET("gone"), NULL, "cannot use component secret 'gone': No such file"});
	check_secret((struct secret_case){FILE_SECRET("."), NULL, "Is a directory"});
	static char large[SECRET_MAX_BYTES + 1];
	memset(large, 'x', sizeof large);
	put("s", large, sizeof large, 0600);
	check_secret((struct secret_case){FILE_SECRET("s"), NULL, "File too large"});
	large[sizeof large - 1] = '\0';
	put("s", large, sizeof large - 1, 0600);
	check_secret((struct secret_case){FILE_SECRET("s"), large, NULL});
	empty_folder();
}

static void secret_descriptors(void)
{
	int fds[2];
	char path[64];
	struct secret_case c = {{NULL, 0, "component-secret"}, "S3cret", NULL};
	put("s", "S3cret", 6, 0644);
	c.secret.fd = open("s", O_RDONLY);
	check_secret(c);
	lseek((int)c.secret.fd, 0, SEEK_SET);
	snprintf(path, sizeof path, "/dev/fd/%d", (int)c.secret.fd);
	check_secret((struct secret_case){FILE_SECRET(path), "S3cret", NULL});
	close((int)c.secret.fd);
	check_secret((struct secret_case){{NULL, c.secret.fd, NULL}, NULL, "Bad file descriptor"});
	REQUIRE(pipe(fds) == 0 && write(fds[1], "S3cret\n", 7) == 7);
	close(fds[1]);
	check_secret((struct secret_case){{NULL, fds[0], NULL}, "S3cret\n", NULL});
	close(fds[0]);
	/* a FIFO that everybody could read */
	REQUIRE(mkfifo("fifo", 0666) == 0 && chmod("fifo", 0666) == 0);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		int fd = open("fifo", O_WRONLY);
		_exit(write(fd, "S3cret", 6) != 6);
	}
	check_secret((struct secret_case){FILE_SECRET("fifo"), "S3cret", NULL});
	waitpid(pid, NULL, 0);
	empty_folder();
}

static void given_files_while_serving(void)
{
	int64_t began_ms = io_now_ms();
	char path[64];
	struct buf text;
	int fds[2];

	buf_init(&text, 100);
	REQUIRE(mkfifo("fifo", 0600) == 0);
	CHECK_EQ_INT(io_read_given("fifo", 10, IO_WHILE_SERVING, &text), -ETIMEDOUT);
	CHECK(io_now_ms() - began_ms >= IO_SERVING_MS);
	/* a writer that writes nothing more */
	int end = open("fifo", O_RDWR | O_NONBLOCK);
	REQUIRE(end >= 0 && write(end, "half", 4) == 4);
	CHECK_EQ_INT(io_read_given("fifo", 10, IO_WHILE_SERVING, &text), -ETIMEDOUT);
	CHECK_EQ_INT(buf_length(&text), 0);
	close(end);
	/* a pipe whose writer has gone */
	REQUIRE(pipe(fds) == 0 && write(fds[1], "S3cret", 6) == 6);
	close(fds[1]);
	snprintf(path, sizeof path, "/dev/fd/%d", fds[0]);
	CHECK_EQ_INT(io_read_given(path, 5, IO_WHILE_SERVING, &text), -EFBIG);
	CHECK_EQ_INT(io_read_given(path, 10, IO_AT_START, &text), 0);
	close(fds[0]);
	put("file", "content", 7, 0600);
	CHECK_EQ_INT(io_read_given("file", 10, IO_WHILE_SERVING, &text), 0);
	CHECK_EQ_INT(io_read_given("file", 6, IO_WHILE_SERVING, &text), -EFBIG);
	CHECK_EQ_INT(io_read_given("gone", 6, IO_WHILE_SERVING, &text), -ENOENT);
	CHECK_EQ_STR(buf_string(&text), "content");
	buf_free(&text);
	empty_folder();
}

static void secret_credentials(void)
{
	struct secret none = FILE_SECRET(NULL), file = FILE_SECRET("s"), fd = FILE_SECRET(NULL);
	fd.fd = 0;
	unsetenv("CREDENTIALS_DIRECTORY");
	CHECK(!secret_given(&none));
	CHECK(secret_given(&file));
	CHECK(secret_given(&fd));
	check_secret((struct secret_case){FILE_SECRET(NULL), NULL,
		"p: no component secret given, by file, file descriptor or credential "
		"'component-secret'\n"});
	setenv("CREDENTIALS_DIRECTORY", folder, 1);
	CHECK(!secret_given(&none));
	check_secret((struct secret_case){FILE_SECRET(NULL), NULL, "No such file"});
	put("component-secret", "S3cret\n", 7, 0440);
	CHECK(secret_given(&none));
	check_secret((struct secret_case){FILE_SECRET(NULL), "S3cret\n", NULL});
	put("s", "S3cret too", 10, 0400);
	check_secret((struct secret_case){FILE_SECRET("s"), "S3cret too", NULL});
	put("component-secret", "S3cret\n", 7, 0444);
	check_secret((struct secret_case){FILE_SECRET(NULL), NULL, "others can read it"});
	unsetenv("CREDENTIALS_DIRECTORY");
	empty_folder();
}

static void read_secret_without_descriptors(void *context)
{
	struct rlimit limit = {3, 3};
	setrlimit(RLIMIT_NOFILE, &limit);
	read_secret(context);
}

static void no_descriptors_is_no_misconfiguration(void)
{
	struct secret_case c = {FILE_SECRET("s"), NULL, NULL};
	put("s", "S3cret", 6, 0600);
	struct child r = child_run(read_secret_without_descriptors, &c);
	CHECK_EQ_INT(r.status, EXIT_TEMPORARY);
	CHECK_EQ_STR(r.err, "p: cannot use component secret 's': Too many open files\n");
	child_free(&r);
	empty_folder();
}

static void one_newline_is_trimmed(void)
{
	static const char *const cases[][2] = {{"a\n", "a"}, {"a", "a"}, {"a\n\n", "a\n"},
		{"a\r\n", "a"}, {"a\r", "a\r"}, {"\n", ""}, {"", ""}, {" a \n", " a "}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		buf_reset(&out);
		buf_append_string(&out, cases[i][0]);
		secret_trim(&out);
		CHECK_EQ_STR(buf_string(&out), cases[i][1]);
	}
	buf_reset(&out);
}

/* --- the rest */

static void hosts_and_ports(void)
{
	static const char *const good[][3] = {{"localhost:5347", "localhost", "5347"},
		{"[::1]:5347", "::1", "5347"}, {"127.0.0.1:0", "127.0.0.1", "0"},
		{":5347", NULL, "5347"}, {"a:65535", "a", "65535"}};
	static const char *const bad[] = {"", ":", "a", "a:", "a:b", "a:5347x", "a: 5347", "a:-1",
		"a:65536", "a:123456", "::1:5347", "[]:1", "[::1]", "[::1]5347", "a[b]:1", "[a:1",
		"a]:1", "[[::1]]:1"};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		char *host = NULL, *port = NULL;
		CHECK_MSG(io_split_host_port(good[i][0], &host, &port), "%s", good[i][0]);
		CHECK_EQ_STR(host, good[i][1]);
		CHECK_EQ_STR(port, good[i][2]);
		free(host);
		free(port);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char *host = NULL, *port = NULL;
		CHECK_MSG(!io_split_host_port(bad[i], &host, &port), "%s", bad[i]);
		CHECK(!host && !port);
	}
}

static void randomness(void)
{
	unsigned char a[1000] = {0}, b[1000] = {0}, seen[256] = {0};
	random_bytes(a, sizeof a);
	random_bytes(b, sizeof b);
	random_bytes(b, 0);
	CHECK(memcmp(a, b, sizeof a) != 0);
	int kinds = 0;
	for (size_t i = 0; i < sizeof a; i++)
		seen[a[i]] = 1;
	for (size_t i = 0; i < 256; i++)
		kinds += seen[i];
	CHECK(kinds > 200);
	struct random_numbers numbers = {{0}, 0};
	uint64_t given[100];
	for (size_t i = 0; i < 100; i++) {
		given[i] = random_number(&numbers);
		CHECK(numbers.drawn[numbers.left] == 0);
		for (size_t j = 0; j < i; j++)
			CHECK(given[i] != given[j]);
	}
	int64_t before_ms = io_now_ms();
	poll(NULL, 0, 3);
	CHECK(io_now_ms() >= before_ms + 2);
}

static void hide(void *context)
{
	(void)context;
	struct rlimit limit;
	secret_no_core();
	getrlimit(RLIMIT_CORE, &limit);
	/* our own files can still be opened again by number */
	int fd = open("/proc/self/fd/1", O_WRONLY);
	printf("%d %d", (int)limit.rlim_cur, fd >= 0);
}

static void no_core_files(void)
{
	struct child c = child_run(hide, NULL);
	CHECK_EQ_STR(c.out, "0 1");
	child_free(&c);
}

int main(void)
{
	unsetenv("JOURNAL_STREAM");
	if (!mkdtemp(folder) || chdir(folder) < 0)
		abort();
	buf_init(&out, BUF_NO_MAX);
	TEST(files_are_read_whole_or_not);
	TEST(writes_wait_for_the_reader);
	TEST(files_are_replaced_whole);
	TEST(what_is_no_file_is_not_replaced);
	TEST(folders_that_others_write_are_not_believed);
	TEST(create_never_replaces);
	TEST(a_failed_replace_leaves_the_old_file);
	TEST(lost_output_is_an_error);
	TEST(closed_standard_fds_stay_unusable);
	TEST(secret_files);
	TEST(secret_descriptors);
	TEST(given_files_while_serving);
	TEST(secret_credentials);
	TEST(no_descriptors_is_no_misconfiguration);
	TEST(one_newline_is_trimmed);
	TEST(hosts_and_ports);
	TEST(randomness);
	TEST(no_core_files);
	buf_free(&out);
	if (chdir("/") < 0 || rmdir(folder) < 0)
		abort();
	return check_done();
}
