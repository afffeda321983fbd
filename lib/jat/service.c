#include "jat/service.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "jat/keys.h"
#include "xmpp/jid.h"
#include "base/random.h"
#include "base/io.h"

#define SUBSCRIBERS_MAX_BYTES (128 * 1024 * 1024)
/* Then the file of marks becomes the old one. */
#define MARKS_MAX_BYTES ((size_t)1024 * 1024)
/* A line: the mark, a space, when it was made (seconds of the epoch), a newline. */
#define MARK_TIME_CHARS 12
#define MARK_LINE_BYTES (JATPROXY_MARK_CHARS + 1 + MARK_TIME_CHARS + 1)
#define MARK_LIFE_S 600

struct jatservice {
	const struct jatservice_config *config;
	struct jatproxy *proxy;
	struct jat_keys *keys;
	struct buf domain, *target_texts;
	struct span *targets;
	char *marker, *subscribers, *answered, *answered_old; /* in the state folder, or NULL */
	int marks_fd;					      /* of answered; -1 */
	size_t marks_bytes;
	bool marks_failing;
	struct random_numbers random;
};

/* Keys ------------------------------------------------------------------- */

static int get_keys(struct jatservice *j)
{
	unsigned char bytes[JAT_KEY_BYTES];
	int status = EXIT_DONE;

	if (j->config->encoding == JAT_PLAIN)
		return EXIT_DONE;
	if (secret_given(&j->config->keys)) {
		j->keys = jatkeys_read(&j->config->keys, &status);
		return status;
	}
	random_bytes(bytes, sizeof(bytes));
	j->keys = jat_keys_random(bytes);
	explicit_bzero(bytes, sizeof(bytes));
	err_note("no --key-file: a key for this run, a restart loses the answers in flight");
	return EXIT_DONE;
}

/* State folder ----------------------------------------------------------- */

static char *path_in(const char *dir, const char *name)
{
	struct buf path;
	char *copy;

	buf_init(&path, BUF_NO_MAX);
	buf_printf(&path, "%s/%s", dir, name);
	copy = xstrdup(buf_string(&path));
	buf_free(&path);
	return copy;
}

/* $STATE_DIRECTORY may name several folders, with colons between them: the first is ours. */
static int open_state(struct jatservice *j, bool *crashed)
{
	const char *dir = j->config->state_dir, *given = getenv("STATE_DIRECTORY");
	char *own = NULL;
	int status = EXIT_DONE;

	*crashed = false;
	if (!dir && given) {
		own = xstrndup(given, strcspn(given, ":"));
		dir = own;
	}
	if (dir && *dir) {
		int error;

		j->marker = path_in(dir, "running");
		j->subscribers = path_in(dir, "subscribers");
		j->answered = path_in(dir, "answered");
		j->answered_old = path_in(dir, "answered.old");
		*crashed = access(j->marker, F_OK) == 0;
		error = *crashed ? 0 : io_replace_file(j->marker, SPAN(""), 0600);
		if (error) {
			err_error("cannot write '%s': %s", j->marker, strerror(-error));
			status = EXIT_CONFIG;
		}
	}
	free(own);
	return status;
}

static void restore_subscribers(struct jatservice *j, bool crashed)
{
	struct buf all;
	int error;

	if (!j->subscribers || !j->config->show_presence)
		return;
	buf_init(&all, SUBSCRIBERS_MAX_BYTES);
	error = io_read_own_file(j->subscribers, SUBSCRIBERS_MAX_BYTES, &all);
	if (error && error != -ENOENT)
		err_warn("cannot read '%s': %s", j->subscribers, strerror(-error));
	jatproxy_restore_subscribers(j->proxy, buf_span(&all), crashed);
	buf_free(&all);
}

static void save_subscribers(void *context, struct span all)
{
	struct jatservice *j = context;
	int error = j->subscribers ? io_replace_file(j->subscribers, all, 0600) : 0;

	if (error)
		err_error("cannot write '%s': %s", j->subscribers, strerror(-error));
}

static bool has_grace(const struct jatservice *j)
{
	return j->marker && j->config->encoding != JAT_PLAIN && secret_given(&j->config->keys);
}

/* What those before us have marked, also those that stopped cleanly: the answer may come to who is
 * started after the crash of who came after them. A user may take the same id again: marks are not
 * kept for ever. */
static void marks_restore(struct jatservice *j)
{
	const char *files[] = {j->answered_old, j->answered};
	long long oldest_s = (long long)time(NULL) - MARK_LIFE_S;
	struct buf all, marks;
	struct span left;

	buf_init(&all, 4 * MARKS_MAX_BYTES);
	buf_init(&marks, BUF_NO_MAX);
	for (int i = 0; i < 2; i++) {
		int error = io_read_own_file(files[i], 2 * MARKS_MAX_BYTES, &all);

		if (error && error != -ENOENT)
			err_warn("cannot read '%s': %s", files[i], strerror(-error));
	}
	for (left = buf_span(&all); left.n >= MARK_LINE_BYTES;
		left = span_from(left, MARK_LINE_BYTES)) {
		char time_s[MARK_TIME_CHARS + 1] = {0};

		memcpy(time_s, left.p + JATPROXY_MARK_CHARS + 1, MARK_TIME_CHARS);
		if (strtoll(time_s, NULL, 10) < oldest_s)
			continue;
		buf_append(&marks, left.p, JATPROXY_MARK_CHARS);
		buf_append_char(&marks, '\n');
	}
	jatproxy_restore_marks(j->proxy, buf_span(&marks));
	buf_free(&marks);
	buf_free(&all);
}

static int marks_open(struct jatservice *j)
{
	struct stat is;
	int fd = io_open_own_at(AT_FDCWD, j->answered, O_WRONLY | O_APPEND | O_CREAT);

	if (fd < 0)
		return fd;
	j->marks_fd = fd;
	if (fstat(fd, &is) < 0)
		return -errno;
	j->marks_bytes = (size_t)is.st_size;
	if (j->marks_bytes % MARK_LINE_BYTES) { /* a full disk has cut the last one off */
		j->marks_bytes -= j->marks_bytes % MARK_LINE_BYTES;
		if (ftruncate(j->marks_fd, (off_t)j->marks_bytes) < 0)
			return -errno;
	}
	return 0;
}

/* One write, so that after a kill it is there or not; not synced: when the machine stops, the
 * sessions' answers are gone as well. */
static void save_mark(void *context, const char *mark)
{
	struct jatservice *j = context;
	char line[MARK_LINE_BYTES + 1];
	int error = 0;

	snprintf(line, sizeof(line), "%s %0*lld\n", mark, MARK_TIME_CHARS, (long long)time(NULL));
	if (j->marks_fd >= 0 && j->marks_bytes >= MARKS_MAX_BYTES) {
		close(j->marks_fd);
		j->marks_fd = -1;
		if (rename(j->answered, j->answered_old) < 0)
			error = -errno;
	}
	if (j->marks_fd < 0 && !error)
		error = marks_open(j);
	if (!error)
		error = io_write_all(j->marks_fd, line, MARK_LINE_BYTES);
	if (!error)
		j->marks_bytes += MARK_LINE_BYTES;
	else if (!j->marks_failing)
		err_error("cannot write '%s': %s", j->answered, strerror(-error));
	if (error && j->marks_fd >= 0) { /* opened again for the next, and cut to whole lines */
		close(j->marks_fd);
		j->marks_fd = -1;
	}
	j->marks_failing = error != 0;
}

/* Service ---------------------------------------------------------------- */

static bool on_reload(void *context, struct turn *turn)
{
	struct jatservice *j = context;
	bool ok = true;
	int status;

	if (j->keys && secret_given(&j->config->keys) && j->config->keys.fd < 0) {
		struct jat_keys *keys = jatkeys_read(&j->config->keys, &status);

		ok = keys != NULL;
		if (ok) {
			jatproxy_rekey(j->proxy, keys);
			jat_keys_free(j->keys);
			j->keys = keys;
			err_note("%zu keys read", jat_keys_count(keys));
		}
	}
	if (turn->writer)
		jatproxy_resubscribe(j->proxy, turn);
	return ok;
}

/* Configuration ---------------------------------------------------------- */

static bool drains(const char *list, const char *show)
{
	size_t n = strlen(show);

	while (list && *list) {
		size_t item = strcspn(list, ",");

		if (item == n && memcmp(list, show, n) == 0)
			return true;
		list += item + (list[item] == ',');
	}
	return false;
}

/* Every item of the list is a show. */
static bool drain_valid(const char *list)
{
	static const char *const shows[] = {"xa", "dnd", "away"};

	while (list && *list) {
		size_t item = strcspn(list, ",");
		bool known = false;

		for (size_t i = 0; i < 3; i++)
			known |= item == strlen(shows[i]) && memcmp(list, shows[i], item) == 0;
		if (!known)
			return false;
		list += item + (list[item] == ',');
	}
	return true;
}

const char *jatservice_check(const struct jatservice_config *config)
{
	if (!config->service.domain)
		return "--domain is needed";
	if (config->targets.count == 0)
		return "--target is needed";
	if (!jid_is_domain(config->service.domain))
		return "--domain is not a domain";
	for (size_t i = 0; i < config->targets.count; i++)
		if (!jid_is_user(config->targets.items[i]) || strchr(config->targets.items[i], '/'))
			return "--target is not user@domain";
	if (!drain_valid(config->drain))
		return "--drain takes a list of xa, dnd, away";
	if (config->service.connect && !secret_given(&config->service.secret))
		return "--connect needs --secret-file";
	return NULL;
}

/* Normalised, as jatservice_check() has found that they can be. */
static void take_addresses(struct jatservice *j)
{
	const struct opt_list *targets = &j->config->targets;

	buf_init(&j->domain, BUF_NO_MAX);
	jid_normalise_domain(span_of(j->config->service.domain), &j->domain);
	j->target_texts = xcalloc(targets->count, sizeof(*j->target_texts));
	j->targets = xcalloc(targets->count, sizeof(*j->targets));
	for (size_t i = 0; i < targets->count; i++) {
		buf_init(&j->target_texts[i], BUF_NO_MAX);
		jid_normalise(span_of(targets->items[i]), &j->target_texts[i]);
		j->targets[i] = buf_span(&j->target_texts[i]);
	}
}

static struct jatproxy *make_proxy(struct jatservice *j, bool crashed)
{
	const struct jatservice_config *config = j->config;
	const struct jatproxy_config proxy = {
		.jat = {.encoding = (enum jat_encoding)config->encoding,
			.domain = buf_span(&j->domain),
			.keys = j->keys},
		.targets = j->targets,
		.targets_count = config->targets.count,
		.policy = (enum jatproxy_policy)config->policy,
		.messages = config->messages,
		.outbound_iq = config->outbound_iq,
		.show_presence = config->show_presence,
		.passthrough = !config->service.connect,
		.drain_xa = drains(config->drain, "xa"),
		.drain_dnd = drains(config->drain, "dnd"),
		.drain_away = drains(config->drain, "away"),
		.min_priority = (int)config->min_priority,
		.timeout_ms = config->timeout_ms,
		.bounce_wait_ms = config->bounce_wait_ms,
		.max_pending = (size_t)config->max_pending,
		.max_pending_bytes = buf_bytes(config->max_pending_bytes),
		.max_sessions = (size_t)config->max_sessions,
		.max_handles = (size_t)config->max_handles,
		.max_subscribers = (size_t)config->max_subscribers,
		.handle_ttl_ms = 60 * 60 * 1000 + config->timeout_ms,
		.grace = crashed && has_grace(j),
		.random = random_number,
		.random_context = &j->random,
		.subscribers_changed = save_subscribers,
		.subscribers_context = j,
		.marked = has_grace(j) ? save_mark : NULL,
		.marked_context = j,
	};

	return jatproxy_new(&proxy);
}

int jatservice_run(const struct jatservice_config *config)
{
	struct jatservice j = {.config = config, .marks_fd = -1};
	struct service_config service = config->service;
	bool crashed = false;
	int status;

	take_addresses(&j);
	status = get_keys(&j);
	if (status == EXIT_DONE)
		status = open_state(&j, &crashed);
	if (status == EXIT_DONE) {
		if (crashed)
			err_note("the last run did not stop cleanly");
		j.proxy = make_proxy(&j, crashed);
		restore_subscribers(&j, crashed);
		if (crashed)
			marks_restore(&j);
		service.index = READER_INDEX_ROOT; /* payloads are handed on, not looked at */
		status = service_run(&service, &jatproxy_ops, j.proxy,
			&(struct service_hooks){.context = &j, .reload = on_reload});
		if (status == EXIT_DONE && j.marker)
			unlink(j.marker);
		if (j.marks_fd >= 0)
			close(j.marks_fd);
	}
	jatproxy_free(j.proxy);
	jat_keys_free(j.keys);
	for (size_t i = 0; i < config->targets.count; i++)
		buf_free(&j.target_texts[i]);
	free(j.target_texts);
	free(j.targets);
	buf_free(&j.domain);
	free(j.marker);
	free(j.subscribers);
	free(j.answered);
	free(j.answered_old);
	return status;
}
