#include "roster/fetch-credentials.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "loop/curlloop.h"
#include "roster/http-request.h"

/* The header that mod_http_roster_admin sends. */
#define ACCEPT "Accept: application/json, text/plain, */*"

static int read_headers(struct fetch_credentials *c)
{
	struct buf all;
	struct span rest;
	size_t number = 0;
	int status;

	curlloop_header(&c->headers, ACCEPT);
	curlloop_header(&c->foreign_headers, ACCEPT);
	if (!secret_given(&c->config->headers))
		return EXIT_DONE;
	buf_init(&all, SECRET_MAX_BYTES);
	status = secret_read(&c->config->headers, "header file", &all);
	for (rest = buf_span(&all); status == EXIT_DONE && rest.n;) {
		struct span line = span_take_until(&rest, '\n');

		number++;
		if (line.n && line.p[line.n - 1] == '\r')
			line.n--;
		if (line.n == 0)
			continue;
		if (http_header_valid(line)) {
			char *copy = xstrndup(line.p, line.n);

			curlloop_header(&c->headers, copy);
			explicit_bzero(copy, line.n);
			free(copy);
		} else {
			err_error("header file, line %zu: not 'Name: value'", number);
			status = EXIT_CONFIG;
		}
	}
	secret_wipe(&all);
	return status;
}

static int read_token(struct fetch_credentials *c)
{
	int status = EXIT_DONE;

	if (!secret_given(&c->config->token))
		return EXIT_DONE;
	status = secret_read(&c->config->token, "token", &c->token);
	secret_first_line(&c->token);
	for (size_t i = 0; status == EXIT_DONE && i < buf_length(&c->token); i++) {
		char byte = buf_span(&c->token).p[i];

		if (byte <= ' ' || byte > '~') {
			err_error("the token has characters that a header cannot hold");
			status = EXIT_CONFIG;
		}
	}
	return status;
}

static int check_files(const struct fetch_config *config)
{
	struct stat st;

	if (!io_readable(config->tls_ca) || !io_readable(config->tls_cert) ||
		!io_readable(config->tls_key))
		return EXIT_CONFIG;
	if (config->tls_key && stat(config->tls_key, &st) == 0 && S_ISREG(st.st_mode) &&
		(st.st_mode & (S_IRWXO | S_IWGRP))) {
		err_error("'%s' can be read by others or written by its group", config->tls_key);
		return EXIT_CONFIG;
	}
	return EXIT_DONE;
}

int fetch_credentials_read(struct fetch_credentials *c, const struct fetch_config *config)
{
	int status;

	*c = (struct fetch_credentials){.config = config};
	buf_init(&c->token, SECRET_MAX_BYTES);
	buf_init(&c->login, SECRET_MAX_BYTES);
	status = read_token(c);
	if (status == EXIT_DONE)
		status = curlloop_login_read(&config->login, &c->login);
	if (status == EXIT_DONE)
		status = read_headers(c);
	return status == EXIT_DONE ? check_files(config) : status;
}

void fetch_credentials_free(struct fetch_credentials *c)
{
	curl_slist_free_all(c->headers);
	curl_slist_free_all(c->foreign_headers);
	secret_wipe(&c->token);
	secret_wipe(&c->login);
}

void fetch_credentials_set(const struct fetch_credentials *c, CURL *easy, bool foreign)
{
	bool token = !foreign && buf_length(&c->token) > 0;
	bool login = !foreign && buf_length(&c->login) > 0;

	CURLLOOP_SET(easy, CURLOPT_HTTPAUTH,
		token	? CURLAUTH_BEARER
		: login ? CURLAUTH_BASIC
			: CURLAUTH_NONE);
	CURLLOOP_SET(easy, CURLOPT_USERPWD, login ? buf_string(&c->login) : NULL);
	CURLLOOP_SET(easy, CURLOPT_XOAUTH2_BEARER, token ? buf_string(&c->token) : NULL);
	CURLLOOP_SET(easy, CURLOPT_SSLCERT, foreign ? NULL : c->config->tls_cert);
	CURLLOOP_SET(easy, CURLOPT_SSLKEY, foreign ? NULL : c->config->tls_key);
}

bool fetch_same_origin(const char *a, const char *b, bool *downgrade)
{
	static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
	CURLU *urls[2] = {curl_url(), curl_url()};
	char *texts[2][3] = {{0}};
	bool same = true;

	*downgrade = true; /* also what cannot be read */
	for (int i = 0; i < 2; i++) {
		if (!urls[i] || curl_url_set(urls[i], CURLUPART_URL, i ? b : a, 0) != CURLUE_OK)
			same = false;
		for (int k = 0; same && k < 3; k++)
			if (curl_url_get(urls[i], parts[k], &texts[i][k], CURLU_DEFAULT_PORT) !=
				CURLUE_OK)
				same = false;
	}
	if (same) {
		/* libcurl writes schemes in lower case */
		*downgrade =
			strcmp(texts[1][0], "https") != 0 &&
			(strcmp(texts[1][0], "http") != 0 || strcmp(texts[0][0], "https") == 0);
		for (int k = 0; k < 3; k++)
			same &= strcasecmp(texts[0][k], texts[1][k]) == 0;
	}
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < 3; k++)
			curl_free(texts[i][k]);
		curl_url_cleanup(urls[i]);
	}
	return same;
}
