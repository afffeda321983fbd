#include "roster/fetch-tool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/json-reader.h"
#include "xmpp/jid.h"
#include "loop/sink.h"
#include "loop/source.h"
#include "roster/roster.h"
#include "base/url-template.h"
#include "base/io.h"

#define PROGRESS_FIRST_MS 1000
#define PROGRESS_EVERY_MS 200

struct fetchtool {
	struct fetch_config config;
	struct loop *loop;
	struct source *source; /* names; NULL: they are arguments */
	struct sink *sink;
	struct fetch *fetch;
	char **users; /* operands that are left, or NULL */
	bool input_ended, stopping;
	bool held; /* the link is paused */
	struct loop_timer progress;
	int64_t began_ms;
	bool shown; /* a progress line is on the terminal */
	uint64_t bad_lines;
	int status;
};

static uint64_t failed(const struct fetchtool *t)
{
	return fetch_counts(t->fetch)->failed + t->bad_lines;
}

static uint64_t done(const struct fetchtool *t)
{
	const struct fetch_counts *n = fetch_counts(t->fetch);

	return n->ok + n->unchanged + failed(t);
}

/* Progress --------------------------------------------------------------- */

/* Progress is one line that is overwritten; losing it does no harm. */
static void show(struct fetchtool *t, const char *line)
{
	ssize_t ignored = write(STDERR_FILENO, line, strlen(line));

	(void)ignored;
	t->shown = true;
}

static void on_progress(void *context)
{
	struct fetchtool *t = context;
	int64_t now_ms = loop_now_ms(t->loop), ms = now_ms - t->began_ms;
	char line[160];

	snprintf(line, sizeof(line),
		"\r\x1b[K%" PRIu64 " rosters, %" PRIu64 " failed, %" PRIu64 "/s", done(t),
		failed(t), done(t) * 1000 / (uint64_t)(ms > 0 ? ms : 1));
	show(t, line);
	loop_timer_set(t->loop, &t->progress, now_ms + PROGRESS_EVERY_MS);
}

/* Names in, records out -------------------------------------------------- */

static void on_record(void *context, struct span line)
{
	struct fetchtool *t = context;

	sink_send_raw(t->sink, line);
}

static void on_line(void *context, struct span line, size_t number)
{
	struct fetchtool *t = context;

	fetch_user(t->fetch, number == 1 ? json_without_bom(line) : line);
	if (fetch_full(t->fetch) && !t->held) {
		t->held = true;
		source_pause(t->source);
	}
}

static void on_bad(void *context, const char *what, size_t number)
{
	struct fetchtool *t = context;
	struct buf record;

	t->bad_lines++;
	err_error("stdin:%zu: %s", number, what);
	buf_init(&record, BUF_NO_MAX);
	roster_error_format(SPAN(""), "bad-user", what, &record);
	sink_send_raw(t->sink, buf_span(&record));
	buf_free(&record);
}

static void on_ended(void *context, enum link_end why, int error, const char *text)
{
	struct fetchtool *t = context;

	(void)text;
	t->input_ended = true;
	if (why == LINK_READ_ERROR) {
		err_error("cannot read standard input: %s", strerror(error));
		loop_stop(t->loop, EXIT_IO);
	}
}

static void on_failed(void *context, int error)
{
	struct fetchtool *t = context;

	err_error("cannot write standard output: %s", strerror(error));
	loop_stop(t->loop, EXIT_IO);
}

static void on_stop(void *context, int signal_number)
{
	struct fetchtool *t = context;

	(void)signal_number;
	if (t->stopping) {
		loop_stop(t->loop, EXIT_TEMPORARY);
		return;
	}
	t->stopping = true;
	if (t->source)
		source_pause(t->source);
	err_info("stopping: %zu rosters in hand", fetch_active(t->fetch));
}

/* Called before the link writes: take the next operands, read the next lines, or end when all is
 * done.
 */
static void on_turn(void *context)
{
	struct fetchtool *t = context;

	if (loop_stopped(t->loop))
		return;
	while (t->users && *t->users && !t->stopping && !fetch_full(t->fetch) &&
		!sink_congested(t->sink)) {
		fetch_user(t->fetch, span_of(*t->users++));
	}
	if (t->held && !fetch_full(t->fetch)) {
		t->held = false;
		source_resume(t->source);
	}
	if (fetch_active(t->fetch) > 0 ||
		!(t->stopping || (t->input_ended && !(t->users && *t->users))))
		return;
	if (sink_flush(t->sink, 0)) {
		loop_stop(t->loop, t->status);
	} else if (sink_error(t->sink)) {
		err_error("cannot write standard output: %s", strerror(sink_error(t->sink)));
		loop_stop(t->loop, EXIT_IO);
	}
}

/* Run -------------------------------------------------------------------- */

static int run(struct fetchtool *t)
{
	static const struct source_ops source_ops = {
		.line = on_line, .bad = on_bad, .ended = on_ended};
	static const struct sink_ops sink_ops = {.failed = on_failed};
	uint64_t bad;

	loop_turn(t->loop, on_turn, t);
	t->sink = sink_new(
		t->loop, STDOUT_FILENO, &(struct sink_config){.kind = WRITER_PIPE}, &sink_ops, t);
	if (!t->users)
		t->source = source_new(t->loop, STDIN_FILENO,
			&(struct source_config){.reader = {.kind = READER_PIPE},
				.max_line_bytes = FETCHTOOL_LINE_MAX_BYTES,
				.held_by = t->sink},
			&source_ops, t);
	t->input_ended = t->users != NULL;
	/* The output has no bound of its own: the jobs bound it, since names are read only while
	 * it drains. */
	sink_lift_bound(t->sink);
	loop_signal(t->loop, SIGTERM, on_stop, t);
	loop_signal(t->loop, SIGINT, on_stop, t);
	t->began_ms = loop_now_ms(t->loop);
	loop_timer_init(&t->progress, on_progress, t);
	if (isatty(STDERR_FILENO) && err_shows(ERR_NOTICE))
		loop_timer_set(t->loop, &t->progress, t->began_ms + PROGRESS_FIRST_MS);
	t->status = loop_run(t->loop);
	if (t->shown)
		show(t, "\r\x1b[K");
	bad = failed(t);
	if (bad)
		err_warn("%" PRIu64 " of %" PRIu64 " rosters failed", bad, done(t));
	if (fetch_counts(t->fetch)->skipped)
		err_warn("%" PRIu64 " contacts were left out", fetch_counts(t->fetch)->skipped);
	if (t->status == EXIT_DONE && bad)
		t->status = EXIT_NO;
	source_free(t->source);
	sink_free(t->sink);
	return t->status;
}

const char *fetchtool_check(const struct fetch_config *c)
{
	static char words[256];
	struct roster_keep keep;
	const char *wrong;
	bool kept = true;

	if (!c->url)
		return "--url is needed";
	wrong = url_template_check(c->url);
	if (wrong) {
		snprintf(words, sizeof(words), "--url: %s", wrong);
		return words;
	}
	if (!c->tls_cert != !c->tls_key)
		return "--tls-cert and --tls-key belong together";
	if (c->host && !jid_is_domain(c->host))
		return "--host is not a domain";
	if (secret_given(&c->login) && (c->token.file || c->token.fd >= 0))
		return "--token-file and --basic-auth-file exclude each other";
	if (c->unix_socket && c->redirects)
		return "--unix-socket and --max-redirects exclude each other";
	roster_keep_init(&keep);
	for (size_t i = 0; i < c->keep.count; i++)
		kept = kept && roster_keep_add(&keep, c->keep.items[i]);
	roster_keep_free(&keep);
	return kept ? NULL : "--keep takes a bare JID, a domain or *.DOMAIN";
}

int fetchtool_run(const struct fetch_config *config)
{
	struct fetchtool t = {.config = *config, .users = config->users};
	struct buf host;
	int status;

	buf_init(&host, BUF_NO_MAX);
	if (config->host) {
		jid_normalise_domain(span_of(config->host), &host);
		t.config.host = buf_string(&host);
	}
	t.loop = loop_new();
	t.fetch = fetch_new(t.loop, &t.config, on_record, &t, &status);
	if (t.fetch)
		status = run(&t);
	fetch_free(t.fetch);
	loop_free(t.loop);
	buf_free(&host);
	return status;
}
