#include "loop/curlloop.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "loop/dial.h"

struct curlloop {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer timer;
	curlloop_done_fn *done;
	void *context;
};

void curlloop_must(CURLcode code, const char *what)
{
	if (code == CURLE_OUT_OF_MEMORY)
		err_die(EXIT_TEMPORARY, "out of memory");
	if (code != CURLE_OK)
		err_die(EXIT_CONFIG, "libcurl does not do %s: %s", what, curl_easy_strerror(code));
}

static void must(CURLMcode code)
{
	if (code == CURLM_OUT_OF_MEMORY)
		err_die(EXIT_TEMPORARY, "out of memory");
	if (code != CURLM_OK)
		err_die(EXIT_TEMPORARY, "libcurl: %s", curl_multi_strerror(code));
}

/* Call done() for all finished transfers; it may add new ones. */
static void reap(struct curlloop *c)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(c->multi, &left))) {
		CURL *easy = message->easy_handle;
		CURLcode code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		if (code == CURLE_OUT_OF_MEMORY)
			err_die(EXIT_TEMPORARY, "out of memory");
		must(curl_multi_remove_handle(c->multi, easy));
		c->done(c->context, easy, code);
	}
}

static void on_fd(void *context, int fd, short revents)
{
	struct curlloop *c = context;
	int mask = 0, running;

	if (revents & (POLLIN | POLLHUP))
		mask |= CURL_CSELECT_IN;
	if (revents & POLLOUT)
		mask |= CURL_CSELECT_OUT;
	if (revents & (POLLERR | POLLNVAL))
		mask |= CURL_CSELECT_ERR;
	must(curl_multi_socket_action(c->multi, fd, mask, &running));
	reap(c);
}

static void on_timer(void *context)
{
	struct curlloop *c = context;
	int running;

	must(curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running));
	reap(c);
}

/* Called by libcurl. */
static int watch(CURL *easy, curl_socket_t fd, int what, void *context, void *of_socket)
{
	struct curlloop *c = context;
	short events = 0;

	(void)easy;
	(void)of_socket;
	if (what == CURL_POLL_REMOVE) {
		loop_fd_remove(c->loop, fd);
		return 0;
	}
	if (what & CURL_POLL_IN)
		events |= POLLIN;
	if (what & CURL_POLL_OUT)
		events |= POLLOUT;
	loop_fd(c->loop, fd, events, on_fd, c);
	return 0;
}

static int set_timer(CURLM *multi, long delay_ms, void *context)
{
	struct curlloop *c = context;

	(void)multi;
	if (delay_ms < 0)
		loop_timer_clear(c->loop, &c->timer);
	else
		loop_timer_set(c->loop, &c->timer, delay_ms ? loop_now_ms(c->loop) + delay_ms : 0);
	return 0;
}

struct curlloop *curlloop_new(
	struct loop *loop, size_t connections, curlloop_done_fn *done, void *context)
{
	struct curlloop *c = xcalloc(1, sizeof(*c));

	*c = (struct curlloop){.loop = loop, .done = done, .context = context};
	curlloop_must(curl_global_init(CURL_GLOBAL_DEFAULT), "initialisation");
	loop_timer_init(&c->timer, on_timer, c);
	c->multi = curl_multi_init();
	if (!c->multi)
		err_die(EXIT_TEMPORARY, "out of memory");
	must(curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, watch));
	must(curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c));
	must(curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, set_timer));
	must(curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c));
	must(curl_multi_setopt(c->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)connections));
	must(curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)connections));
	return c;
}

void curlloop_free(struct curlloop *c)
{
	if (!c)
		return;
	loop_timer_clear(c->loop, &c->timer);
	curl_multi_cleanup(c->multi);
	curl_global_cleanup();
	free(c);
}

void curlloop_add(struct curlloop *c, CURL *easy)
{
	must(curl_multi_add_handle(c->multi, easy));
}

void curlloop_remove(struct curlloop *c, CURL *easy)
{
	curl_multi_remove_handle(c->multi, easy);
}

CURL *curlloop_easy(void *private, const char *tls_ca)
{
	CURL *easy = curl_easy_init();

	if (!easy)
		err_die(EXIT_TEMPORARY, "out of memory");
	CURLLOOP_SET(easy, CURLOPT_PRIVATE, private);
	CURLLOOP_SET(easy, CURLOPT_NOSIGNAL, 1L);
	/* else a name that is given up is waited for nevertheless, and everybody with it */
	CURLLOOP_SET(easy, CURLOPT_QUICK_EXIT, 1L);
	CURLLOOP_SET(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	if (tls_ca)
		CURLLOOP_SET(easy, CURLOPT_CAINFO, tls_ca);
	return easy;
}

void curlloop_header(struct curl_slist **list, const char *line)
{
	struct curl_slist *longer = curl_slist_append(*list, line);

	if (!longer)
		err_die(EXIT_TEMPORARY, "out of memory");
	*list = longer;
}

bool curlloop_is_tls(CURLcode code)
{
	switch (code) {
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CRL_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
	case CURLE_SSL_CLIENTCERT:
	case CURLE_SSL_ENGINE_NOTFOUND:
	case CURLE_SSL_ENGINE_SETFAILED:
	case CURLE_SSL_ENGINE_INITFAILED:
		return true;
	default:
		return false;
	}
}

void curlloop_spare_loopback(CURL *easy, const char *url)
{
	CURLU *parts = curl_url();
	char *host = NULL;
	bool loopback = false;

	if (parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
		curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
		struct span name = span_of(host);

		if (name.n && *host == '[' && host[name.n - 1] == ']')
			name = (struct span){host + 1, name.n - 2};
		loopback = dial_names_loopback(name);
	}
	curl_free(host);
	curl_url_cleanup(parts);
	CURLLOOP_SET(easy, CURLOPT_PROXY, loopback ? "" : NULL);
}

int curlloop_login_read(const struct secret *secret, struct buf *login)
{
	int status;

	if (!secret_given(secret))
		return EXIT_DONE;
	status = secret_read(secret, "user:password", login);
	secret_trim(login);
	if (status == EXIT_DONE &&
		(!strchr(buf_string(login), ':') || strpbrk(buf_string(login), "\r\n") ||
			strlen(buf_string(login)) != buf_length(login))) {
		err_error("the file of user and password holds no line user:password");
		status = EXIT_CONFIG;
	}
	return status;
}
