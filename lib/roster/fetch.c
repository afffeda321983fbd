#include "roster/fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "loop/curlloop.h"
#include "base/backoff.h"
#include "base/io.h"
#include "base/random.h"
#include "base/err.h"
#include "roster/fetch-credentials.h"
#include "roster/fetchcache.h"
#include "xmpp/jid.h"
#include "roster/roster.h"
#include "base/url-template.h"

#define HEADER_MAX_BYTES (256 * 1024)
/* The page that explains an error is read to its end, so that the connection can stay. */
#define ERROR_PAGE_MAX_BYTES (64 * 1024)
#define BACKOFF_FIRST_MS 250
#define BACKOFF_MAX_MS 10000
/* HTTP dates count seconds: what was changed so shortly before the answer may have been changed
 * again under the same date. */
#define VALIDATOR_AGE_S 2
/* A longer Retry-After than this is not waited for: the record is an error at once. */
#define RETRY_AFTER_MAX_S 60

enum job_state {
	JOB_FREE,
	JOB_RUNNING, /* libcurl works on it */
	JOB_PAUSING, /* until the next try */
	JOB_BEHIND,  /* another job for this name is under way */
};

struct job {
	struct fetch *fetch;
	CURL *easy;
	enum job_state state;
	uint64_t number; /* order of the calls */
	struct buf user, url, body, etag, modified;
	int64_t date_s, modified_s; /* of the answer's headers; -1: not said */
	bool no_store, too_large;
	bool held;    /* by the bound on the bytes of all answers */
	bool foreign; /* a redirect led to another origin */
	size_t header_bytes, discarded_bytes;
	int64_t hops;
	struct backoff backoff; /* its `times` counts the tries after the first one */
	int64_t give_up_ms;
	struct fetchcache_entry cached;
	struct curl_slist *own_headers;
	struct loop_timer pause;
	char error[CURL_ERROR_SIZE];
};

struct fetch {
	const struct fetch_config *config;
	struct loop *loop;
	struct curlloop *curl;
	fetch_record_fn *record;
	void *context;
	struct job *jobs;
	size_t jobs_count, active;
	uint64_t number;
	struct fetch_credentials credentials;
	struct roster_keep keep;
	size_t held_bytes; /* of all answers in hand */
	struct fetch_counts counts;
	struct roster_rules rules;
	struct buf line, message; /* scratch */
	bool cache_failed;
};

static void job_start(struct job *j);

/* Memory ----------------------------------------------------------------- */

static void body_drop(struct job *j)
{
	j->fetch->held_bytes -= buf_length(&j->body);
	buf_reset(&j->body);
}

/* The job that may go on whatever the others hold, so that at least one always goes on. */
static const struct job *oldest_running(const struct fetch *f)
{
	const struct job *oldest = NULL;

	for (size_t i = 0; i < f->jobs_count; i++)
		if (f->jobs[i].state == JOB_RUNNING &&
			(!oldest || f->jobs[i].number < oldest->number))
			oldest = &f->jobs[i];
	return oldest;
}

static bool may_hold(const struct job *j, size_t more)
{
	const struct fetch *f = j->fetch;

	return f->held_bytes + more <= (size_t)f->config->max_bytes || j == oldest_running(f);
}

/* There is room again: let the jobs that were held go on. */
static void release_held(struct fetch *f)
{
	for (size_t i = 0; i < f->jobs_count; i++) {
		struct job *j = &f->jobs[i];

		if (j->state == JOB_RUNNING && j->held && may_hold(j, CURL_MAX_WRITE_SIZE)) {
			j->held = false;
			curl_easy_pause(j->easy, CURLPAUSE_CONT);
		}
	}
}

/* Records ---------------------------------------------------------------- */

static void job_end(struct job *j)
{
	struct fetch *f = j->fetch;
	struct job *next = NULL;

	j->state = JOB_FREE;
	f->active--;
	loop_timer_clear(f->loop, &j->pause);
	for (size_t i = 0; i < f->jobs_count; i++) {
		struct job *other = &f->jobs[i];

		if (other->state == JOB_BEHIND && (!next || other->number < next->number) &&
			span_equal(buf_span(&other->user), buf_span(&j->user)))
			next = other;
	}
	buf_reset(&j->user);
	body_drop(j);
	fetchcache_entry_free(&j->cached);
	if (next)
		job_start(next);
	release_held(f);
	buf_reset(&f->line);
}

static void tell_error(struct fetch *f, struct span user, const char *error, const char *message)
{
	f->counts.failed++;
	err_info("%.*s: %s: %s", SPAN_ARG(user), error, message);
	buf_reset(&f->line);
	roster_error_format(user, error, message, &f->line);
	f->record(f->context, buf_span(&f->line));
}

static void job_fail(struct job *j, const char *error, const char *message)
{
	tell_error(j->fetch, buf_span(&j->user), error, message);
	job_end(j);
}

static void cache_answer(struct job *j)
{
	struct fetch *f = j->fetch;
	struct span url = buf_span(&j->url);
	int error = 0;

	if (!f->config->cache)
		return;
	if (j->modified_s >= 0 && j->modified_s + VALIDATOR_AGE_S >= j->date_s) {
		buf_reset(&j->modified);
		buf_reset(&j->etag);
	}
	if (j->no_store)
		fetchcache_remove(f->config->cache, url);
	else
		error = fetchcache_store(f->config->cache, url, buf_span(&j->etag),
			buf_span(&j->modified), buf_span(&j->body));
	if (error && !f->cache_failed)
		err_warn("cannot write to '%s': %s", f->config->cache, strerror(-error));
	f->cache_failed = error != 0;
}

/* Append the user's own address, normalised; nothing if it is none. */
static void append_own(const struct job *j, struct buf *own)
{
	struct buf typed;

	buf_init(&typed, BUF_NO_MAX);
	buf_append_span(&typed, buf_span(&j->user));
	buf_printf(&typed, "@%s", j->fetch->config->host);
	jid_normalise(buf_span(&typed), own);
	buf_free(&typed);
}

/* The answer holds a roster: print the record, which is freed. */
static void job_ok(struct job *j, struct roster_record *record)
{
	struct fetch *f = j->fetch;

	record->user = xstrndup(buf_span(&j->user).p, buf_length(&j->user));
	record->removals_all = f->config->allow_removals;
	f->counts.skipped += record->skips.count;
	roster_skips_log(&record->skips, record->user);
	if (record->status == RECORD_OK) {
		f->counts.ok++;
		cache_answer(j);
	} else {
		f->counts.unchanged++;
	}
	/* a large one is there twice at most: as text and as roster, or as two texts */
	body_drop(j);
	fetchcache_entry_free(&j->cached);
	buf_reset(&f->line);
	roster_record_format(record, &f->line);
	roster_record_free(record);
	f->record(f->context, buf_span(&f->line));
	job_end(j);
}

/* A whole answer came. It is a roster or not. */
static void job_answer(struct job *j, struct span json, enum record_status as)
{
	struct fetch *f = j->fetch;
	struct roster_record record = {.status = as};
	struct roster_rules rules = f->rules;
	struct buf own;
	enum roster_status status;

	buf_init(&own, BUF_NO_MAX);
	if (f->config->host)
		append_own(j, &own);
	if (buf_length(&own))
		rules.own = buf_span(&own);
	buf_reset(&f->message);
	status = roster_parse(json, &rules, &record.roster, &record.skips, &f->message);
	if (status == ROSTER_OK) {
		job_ok(j, &record);
	} else {
		roster_free(&record.roster);
		roster_skips_free(&record.skips);
		job_fail(j,
			status == ROSTER_NOT_JSON    ? "not-json"
			: status == ROSTER_TOO_LARGE ? "too-large"
						     : "invalid-roster",
			buf_string(&f->message));
	}
	buf_free(&own);
}

/* Tries ------------------------------------------------------------------ */

/* Try again after a pause; false if there is no further try. */
static bool job_retry(struct job *j)
{
	struct fetch *f = j->fetch;
	curl_off_t asked_s = 0;
	int64_t delay_ms;
	uint32_t spread;

	if ((int64_t)j->backoff.times >= f->config->retries)
		return false;
	curl_easy_getinfo(j->easy, CURLINFO_RETRY_AFTER, &asked_s);
	if (asked_s > RETRY_AFTER_MAX_S)
		return false;
	delay_ms = backoff_next_ms(&j->backoff);
	/* requests that failed together are not repeated together */
	random_bytes(&spread, sizeof(spread));
	delay_ms = delay_ms / 2 + spread % (delay_ms / 2);
	if (asked_s > 0)
		delay_ms += asked_s * 1000;
	if (loop_now_ms(f->loop) + delay_ms >= j->give_up_ms)
		return false;
	f->counts.retries++;
	j->state = JOB_PAUSING;
	loop_timer_set(f->loop, &j->pause, loop_now_ms(f->loop) + delay_ms);
	return true;
}

static void job_perform(struct job *j);

static void set_url(struct job *j, const char *url)
{
	CURLLOOP_SET(j->easy, CURLOPT_URL, url);
	if (!j->fetch->config->unix_socket)
		curlloop_spare_loopback(j->easy, url);
}

static void job_redirect(struct job *j, long status)
{
	struct fetch *f = j->fetch;
	char *from = NULL, *to = NULL;
	bool downgrade;
	char *copy;

	curl_easy_getinfo(j->easy, CURLINFO_EFFECTIVE_URL, &from);
	curl_easy_getinfo(j->easy, CURLINFO_REDIRECT_URL, &to);
	buf_reset(&f->message);
	if (!from || !to)
		buf_printf(&f->message, "status %ld, but it does not say where to", status);
	else if (j->hops >= f->config->redirects)
		buf_printf(&f->message, "status %ld, and no %sredirect is followed", status,
			j->hops ? "further " : "");
	if (buf_length(&f->message)) {
		job_fail(j, "redirect", buf_string(&f->message));
		return;
	}
	if (!fetch_same_origin(from, to, &downgrade)) {
		j->foreign = true;
		if (downgrade) {
			job_fail(j, "redirect", "it leads away from https, or to another protocol");
			return;
		}
	}
	j->hops++;
	copy = xstrdup(to); /* the handle owns it */
	set_url(j, copy);
	free(copy);
	job_perform(j);
}

/* There is no status, or the answer broke off after it. */
static void job_broken(struct job *j, CURLcode code, long status)
{
	const char *why = j->error[0] ? j->error : curl_easy_strerror(code);
	curl_off_t connect_us = 0;
	bool retry = false;
	const char *error = "connect";

	switch (code) {
	case CURLE_OPERATION_TIMEDOUT:
		curl_easy_getinfo(j->easy, CURLINFO_PRETRANSFER_TIME_T, &connect_us);
		retry = connect_us == 0; /* never connected */
		error = retry ? "connect" : "timeout";
		break;
	case CURLE_COULDNT_CONNECT:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		retry = status == 0;
		break;
	default:
		break;
	}
	if (curlloop_is_tls(code))
		error = "tls";
	else if (status != 0 && strcmp(error, "connect") == 0)
		error = "truncated";
	if (!retry || !job_retry(j))
		job_fail(j, error, why);
}

static void job_refused(struct job *j, long status)
{
	struct fetch *f = j->fetch;
	curl_off_t asked_s = 0;
	char error[32];

	if ((status == 429 || status == 503) && job_retry(j))
		return;
	curl_easy_getinfo(j->easy, CURLINFO_RETRY_AFTER, &asked_s);
	buf_reset(&f->message);
	buf_printf(&f->message, "the web application answers with status %ld", status);
	if ((status == 429 || status == 503) && asked_s > 0)
		buf_printf(&f->message, " and asks to wait %lld s", (long long)asked_s);
	snprintf(error, sizeof(error), "http-%03ld", status);
	job_fail(j, error, buf_string(&f->message));
}

static void on_done(void *context, CURL *easy, CURLcode code)
{
	struct fetch *f = context;
	struct job *j = NULL;
	curl_off_t bytes = 0;
	long status = 0;

	curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&j);
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(easy, CURLINFO_SIZE_DOWNLOAD_T, &bytes);
	f->counts.bytes += (uint64_t)bytes;
	if (status < 200)
		status = 0; /* before the answer itself: 1xx, and redirects */
	if (j->too_large || (code == CURLE_FILESIZE_EXCEEDED && status == 200)) {
		buf_reset(&f->message);
		buf_printf(&f->message, "more than %lld bytes", (long long)f->config->max_bytes);
		job_fail(j, "too-large",
			j->header_bytes > HEADER_MAX_BYTES ? "the header is too large"
							   : buf_string(&f->message));
	} else if (status == 0 || (code != CURLE_OK && status == 200)) {
		job_broken(j, code, status);
	} else if (status == 200) {
		job_answer(j, buf_span(&j->body), RECORD_OK);
	} else if (status == 304 && j->cached.body.p) {
		job_answer(j, j->cached.body, RECORD_UNCHANGED);
	} else if (status == 301 || status == 302 || status == 303 || status == 307 ||
		   status == 308) {
		job_redirect(j, status);
	} else {
		job_refused(j, status);
	}
}

/* Callbacks of libcurl ---------------------------------------------------- */

static size_t on_body(char *bytes, size_t one, size_t n, void *context)
{
	struct job *j = context;
	long status = 0;

	(void)one;
	curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200) {
		j->discarded_bytes += n;
		return j->discarded_bytes <= ERROR_PAGE_MAX_BYTES ? n : CURL_WRITEFUNC_ERROR;
	}
	if (!may_hold(j, n)) {
		j->held = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (buf_append(&j->body, bytes, n)) {
		j->fetch->held_bytes += n;
		return n;
	}
	j->too_large = true;
	return CURL_WRITEFUNC_ERROR;
}

/* The value of a header if it has this name (in lower case, with its colon), trimmed. */
static struct span header_value(struct span line, const char *name)
{
	size_t n = strlen(name);

	if (line.n < n || strncasecmp(line.p, name, n) != 0)
		return SPAN_NONE;
	line = span_from(line, n);
	while (line.n && strchr(" \t", line.p[0]))
		line = span_from(line, 1);
	while (line.n && strchr(" \t\r\n", line.p[line.n - 1]))
		line.n--;
	return line;
}

static size_t on_header(char *bytes, size_t one, size_t n, void *context)
{
	struct job *j = context;
	struct span line = {bytes, n}, value;

	(void)one;
	j->header_bytes += n;
	if (j->header_bytes > HEADER_MAX_BYTES) {
		j->too_large = true;
		return CURL_WRITEFUNC_ERROR;
	}
	if (!j->fetch->config->cache)
		return n;
	if ((value = header_value(line, "etag:")).p) {
		buf_reset(&j->etag);
		buf_append_span(&j->etag, value);
	} else if ((value = header_value(line, "last-modified:")).p) {
		buf_reset(&j->modified);
		buf_append_span(&j->modified, value);
		j->modified_s = curl_getdate(buf_string(&j->modified), NULL);
	} else if ((value = header_value(line, "date:")).p) {
		char *date = xstrndup(value.p, value.n);

		j->date_s = curl_getdate(date, NULL);
		free(date);
	} else if ((value = header_value(line, "cache-control:")).p) {
		j->no_store |= memmem(value.p, value.n, "no-store", 8) != NULL;
	}
	return n;
}

/* Jobs ------------------------------------------------------------------- */

/* Headers of this request alone: ask whether the cached answer is still valid. */
static void set_headers(struct job *j)
{
	struct fetch *f = j->fetch;
	struct curl_slist *base =
		j->foreign ? f->credentials.foreign_headers : f->credentials.headers;
	struct buf line;

	curl_slist_free_all(j->own_headers);
	j->own_headers = NULL;
	if (j->cached.body.p) {
		for (struct curl_slist *h = base; h; h = h->next)
			curlloop_header(&j->own_headers, h->data);
		buf_init(&line, BUF_NO_MAX);
		if (j->cached.etag.p) {
			buf_printf(&line, "If-None-Match: %.*s", SPAN_ARG(j->cached.etag));
			curlloop_header(&j->own_headers, buf_string(&line));
		}
		if (j->cached.modified.p) {
			buf_reset(&line);
			buf_printf(&line, "If-Modified-Since: %.*s", SPAN_ARG(j->cached.modified));
			curlloop_header(&j->own_headers, buf_string(&line));
		}
		buf_free(&line);
	}
	CURLLOOP_SET(j->easy, CURLOPT_HTTPHEADER, j->own_headers ? j->own_headers : base);
}

/* The handle's URL is set. */
static void job_perform(struct job *j)
{
	const struct fetch *f = j->fetch;
	int64_t left_ms = j->give_up_ms - loop_now_ms(f->loop);

	if (left_ms > f->config->timeout_ms)
		left_ms = f->config->timeout_ms;
	CURLLOOP_SET(j->easy, CURLOPT_TIMEOUT_MS, (long)(left_ms > 1 ? left_ms : 1));
	body_drop(j);
	j->date_s = time(NULL);
	j->modified_s = -1;
	j->held = false;
	buf_reset(&j->etag);
	buf_reset(&j->modified);
	j->header_bytes = j->discarded_bytes = 0;
	j->no_store = j->too_large = false;
	j->error[0] = '\0';
	set_headers(j);
	if (j->hops)
		fetch_credentials_set(&f->credentials, j->easy, j->foreign);
	j->state = JOB_RUNNING;
	curlloop_add(j->fetch->curl, j->easy);
}

/* The first request of a try. */
static void job_try(struct job *j)
{
	if (j->foreign) {
		j->foreign = false;
		fetch_credentials_set(&j->fetch->credentials, j->easy, false);
	}
	j->hops = 0;
	set_url(j, buf_string(&j->url));
	job_perform(j);
}

static void on_pause_over(void *context)
{
	job_try(context);
}

static void job_start(struct job *j)
{
	const struct fetch_config *c = j->fetch->config;

	j->backoff = (struct backoff){.first_ms = BACKOFF_FIRST_MS, .max_ms = BACKOFF_MAX_MS};
	j->give_up_ms =
		loop_now_ms(j->fetch->loop) + (c->max_time_ms ? c->max_time_ms : 2 * c->timeout_ms);
	if (c->cache)
		fetchcache_load(c->cache, buf_span(&j->url), (size_t)c->max_bytes, &j->cached);
	job_try(j);
}

static void job_init(struct fetch *f, struct job *j)
{
	const struct fetch_config *c = f->config;

	j->fetch = f;
	buf_init(&j->user, BUF_NO_MAX);
	buf_init(&j->url, BUF_NO_MAX);
	buf_init(&j->body, (size_t)c->max_bytes);
	buf_init(&j->etag, BUF_NO_MAX);
	buf_init(&j->modified, BUF_NO_MAX);
	fetchcache_entry_init(&j->cached);
	loop_timer_init(&j->pause, on_pause_over, j);
}

/* Options that are the same for all requests of a handle. */
static void handle_init(struct job *j)
{
	const struct fetch_config *c = j->fetch->config;
	CURL *easy = curlloop_easy(j, c->tls_ca);

	j->easy = easy;
	CURLLOOP_SET(easy, CURLOPT_ERRORBUFFER, j->error);
	CURLLOOP_SET(easy, CURLOPT_USERAGENT, "outboard/" OUTBOARD_VERSION);
	CURLLOOP_SET(easy, CURLOPT_PATH_AS_IS, 1L);
	CURLLOOP_SET(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	/* Only TLS negotiates HTTP/2, which needs one connection for all requests. */
	CURLLOOP_SET(easy, CURLOPT_PIPEWAIT, strncasecmp(c->url, "https", 5) == 0 ? 1L : 0L);
	CURLLOOP_SET(easy, CURLOPT_ACCEPT_ENCODING, ""); /* all it can */
	if (c->unix_socket) {
		CURLLOOP_SET(easy, CURLOPT_UNIX_SOCKET_PATH, c->unix_socket);
		CURLLOOP_SET(easy, CURLOPT_PROXY, "");
	}
	CURLLOOP_SET(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)c->connect_timeout_ms);
	CURLLOOP_SET(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)c->max_bytes);
	CURLLOOP_SET(easy, CURLOPT_WRITEFUNCTION, on_body);
	CURLLOOP_SET(easy, CURLOPT_WRITEDATA, j);
	CURLLOOP_SET(easy, CURLOPT_HEADERFUNCTION, on_header);
	CURLLOOP_SET(easy, CURLOPT_HEADERDATA, j);
	/* An encrypted key is an error, not a question on the terminal. */
	CURLLOOP_SET(easy, CURLOPT_KEYPASSWD, "");
	fetch_credentials_set(&j->fetch->credentials, easy, j->foreign);
}

bool fetch_full(const struct fetch *f)
{
	return f->active == f->jobs_count;
}

size_t fetch_active(const struct fetch *f)
{
	return f->active;
}

const struct fetch_counts *fetch_counts(const struct fetch *f)
{
	return &f->counts;
}

void fetch_user(struct fetch *f, struct span user)
{
	struct job *job = NULL;
	bool behind = false;

	for (size_t i = 0; i < f->jobs_count && f->active; i++)
		behind |= f->jobs[i].state != JOB_FREE &&
			  span_equal(buf_span(&f->jobs[i].user), user);
	for (size_t i = 0; i < f->jobs_count && !job; i++)
		if (f->jobs[i].state == JOB_FREE)
			job = &f->jobs[i];
	buf_reset(&job->url);
	if (!roster_user_valid(user)) {
		tell_error(f, user, "bad-user",
			"not a name: 1 to 1023 bytes of UTF-8, no control characters");
		return;
	}
	if (!url_template_expand(f->config->url, user, &job->url)) {
		tell_error(f, user, "bad-user", "this name would change the URL");
		return;
	}
	/* there is one while not full NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
	if (!job->easy)
		handle_init(job);
	buf_reset(&job->user);
	buf_append_span(&job->user, user);
	job->number = f->number++;
	f->active++;
	if (behind)
		job->state = JOB_BEHIND;
	else
		job_start(job);
}

/* Life ------------------------------------------------------------------- */

static int fetch_prepare(struct fetch *f)
{
	const struct fetch_config *c = f->config;
	int status = fetch_credentials_read(&f->credentials, c);
	const char *wrong;
	int error;

	if (status == EXIT_DONE && c->cache && (error = fetchcache_open(c->cache)) < 0) {
		err_error("cannot write to '%s': %s", c->cache, strerror(-error));
		status = EXIT_CONFIG;
	}
	if (status == EXIT_DONE && c->cache && (wrong = io_folder_wrong(c->cache))) {
		err_error("--cache '%s' is not to be believed: %s", c->cache, wrong);
		status = EXIT_CONFIG;
	}
	return status;
}

struct fetch *fetch_new(struct loop *loop, const struct fetch_config *config,
	fetch_record_fn *record, void *context, int *status)
{
	struct fetch *f = xcalloc(1, sizeof(*f));

	*f = (struct fetch){.config = config, .loop = loop, .record = record, .context = context};
	roster_keep_init(&f->keep);
	for (size_t i = 0; i < config->keep.count; i++)
		roster_keep_add(&f->keep, config->keep.items[i]);
	f->rules = (struct roster_rules){.strict = config->strict,
		.keep = &f->keep,
		.max_contacts = (size_t)config->max_contacts,
		.max_values = (size_t)config->max_values};
	f->jobs_count = (size_t)config->jobs;
	f->jobs = xcalloc(f->jobs_count, sizeof(*f->jobs));
	f->curl = curlloop_new(loop, f->jobs_count, on_done, f);
	buf_init(&f->line, BUF_NO_MAX);
	buf_init(&f->message, BUF_NO_MAX);
	for (size_t i = 0; i < f->jobs_count; i++)
		job_init(f, &f->jobs[i]);
	*status = fetch_prepare(f);
	if (*status == EXIT_DONE)
		return f;
	fetch_free(f);
	return NULL;
}

void fetch_free(struct fetch *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->jobs_count; i++) {
		struct job *j = &f->jobs[i];

		if (j->state == JOB_RUNNING)
			curlloop_remove(f->curl, j->easy);
		if (j->easy)
			curl_easy_cleanup(j->easy);
		loop_timer_clear(f->loop, &j->pause);
		curl_slist_free_all(j->own_headers);
		fetchcache_entry_free(&j->cached);
		buf_free(&j->user);
		buf_free(&j->url);
		buf_free(&j->body);
		buf_free(&j->etag);
		buf_free(&j->modified);
	}
	curlloop_free(f->curl);
	fetch_credentials_free(&f->credentials);
	roster_keep_free(&f->keep);
	buf_free(&f->line);
	buf_free(&f->message);
	free(f->jobs);
	free(f);
}
