#include "server/client-story.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "xmpp/xml.h"

static void keep(char *into, size_t size, const char *text, size_t n)
{
	snprintf(into, size, "%.*s", (int)(n < size ? n : size - 1), text);
}

/* Name of the first child element in `xml` but <text/>. */
static void keep_condition(char *into, size_t size, const char *xml)
{
	const char *p = strchr(xml, '>');

	while (p && (p = strchr(p, '<')) != NULL) {
		size_t n = strcspn(++p, " />");

		if (*p != '/' && !(n == 4 && memcmp(p, "text", 4) == 0)) {
			keep(into, size, p, n);
			return;
		}
	}
	keep(into, size, "unknown", 7);
}

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* XEP-0478: <max-bytes>N</max-bytes> */
static size_t max_bytes_of(const char *features)
{
	static const char begin[] = "<max-bytes>";
	const char *at = strstr(features, begin);
	unsigned long long bytes = at ? strtoull(at + sizeof(begin) - 1, NULL, 10) : 0;

	return bytes < SIZE_MAX / 4 ? (size_t)bytes : 0;
}

static void login_seen(struct client_story *story, const char *xml)
{
	if (starts(xml, "<features") || starts(xml, "<stream:features")) {
		story->features = true;
		story->tls_required = strstr(xml, "<starttls") && strstr(xml, "<required");
		story->mechanisms = strstr(xml, "<mechanism>") != NULL;
		story->max_bytes = max_bytes_of(xml);
	} else if (starts(xml, "<proceed")) {
		story->proceed = true;
		story->features = false; /* features before TLS do not count */
	} else if (starts(xml, "<failure") && strstr(xml, XMPP_NS_SASL)) {
		/* the library goes on with weaker mechanisms, but the first failure is the one that
		 * says what is wrong */
		if (!story->sasl_failure[0])
			keep_condition(story->sasl_failure, sizeof(story->sasl_failure), xml);
	} else if (starts(xml, "<iq") && strstr(xml, "\"_xmpp_bind1\"") &&
		   strstr(xml, "\"error\"")) {
		const char *error = strstr(xml, "<error");

		keep_condition(
			story->bind_failure, sizeof(story->bind_failure), error ? error : "");
	}
}

void client_story_log(struct client_story *story, bool up, xmpp_log_level_t level, const char *area,
	const char *message)
{
	if (level == XMPP_LEVEL_DEBUG) {
		if (!up && starts(message, "RECV: "))
			login_seen(story, message + 6);
		else if (starts(message, "parse error"))
			story->broken = true; /* the library cannot go on from here */
	} else if (level >= XMPP_LEVEL_WARN) {
		keep(story->library_says, sizeof(story->library_says), message, strlen(message));
		err_info("libstrophe: %s: %s", area, message);
	}
}

void client_story_stream_error(struct client_story *story, const xmpp_stream_error_t *error)
{
	xmpp_stanza_t *child;

	keep(story->stream_error, sizeof(story->stream_error), "undefined-condition", 19);
	for (child = xmpp_stanza_get_children(error->stanza); child;
		child = xmpp_stanza_get_next(child)) {
		const char *ns = xmpp_stanza_get_ns(child), *name = xmpp_stanza_get_name(child);

		if (ns && name && strcmp(ns, NS_STREAM_ERRORS) == 0 && strcmp(name, "text") != 0)
			keep(story->stream_error, sizeof(story->stream_error), name, strlen(name));
	}
	if (error->text)
		keep(story->stream_error_text, sizeof(story->stream_error_text), error->text,
			strlen(error->text));
}

int client_story_stream_status(const struct client_story *story)
{
	static const struct {
		const char *name;
		int status;
	} known[] = {
		{"host-unknown", EXIT_CONFIG},
		{"host-gone", EXIT_CONFIG},
		{"not-authorized", EXIT_DENIED},
		{"conflict", EXIT_TEMPORARY},
		{"connection-timeout", EXIT_TEMPORARY},
		{"internal-server-error", EXIT_TEMPORARY},
		{"remote-connection-failed", EXIT_TEMPORARY},
		{"reset", EXIT_TEMPORARY},
		{"resource-constraint", EXIT_TEMPORARY},
		{"see-other-host", EXIT_TEMPORARY},
		{"system-shutdown", EXIT_TEMPORARY},
	};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strcmp(known[i].name, story->stream_error) == 0)
			return known[i].status;
	return EXIT_PROTOCOL;
}

static int sasl_failure_status(const char *condition)
{
	return strcmp(condition, "temporary-auth-failure") == 0 ? EXIT_TEMPORARY : EXIT_DENIED;
}

static int bind_failure_status(const char *condition)
{
	return strcmp(condition, "conflict") == 0 || strcmp(condition, "resource-constraint") == 0
		       ? EXIT_TEMPORARY
		       : EXIT_DENIED;
}

int client_story_tell(
	const struct client_story *story, const char *where, const char *jid, enum client_tls tls)
{
	bool secured = story->proceed || tls == CLIENT_TLS_DIRECT;

	if (story->bind_failure[0]) {
		err_error("server refuses the resource of '%s': %s", jid, story->bind_failure);
		return bind_failure_status(story->bind_failure);
	}
	if (story->sasl_failure[0]) {
		err_error("login of '%s' refused: %s", jid, story->sasl_failure);
		return sasl_failure_status(story->sasl_failure);
	}
	if (!story->established) {
		err_error("cannot connect to %s: %s", where,
			story->connect_errno ? strerror(story->connect_errno) : "no answer");
		return EXIT_UNAVAILABLE;
	}
	if (secured && !story->features) {
		err_error("no TLS with %s: handshake failed", where);
		return EXIT_PROTOCOL;
	}
	if (story->features && tls == CLIENT_TLS_REQUIRED && !story->proceed) {
		err_error("server %s does not offer TLS", where);
		return EXIT_PROTOCOL;
	}
	if (story->features && tls == CLIENT_TLS_OFF &&
		(story->tls_required || !story->mechanisms)) {
		err_error("server %s lets nobody log in without TLS: leave out --tls off", where);
		return EXIT_DENIED;
	}
	if (story->features) {
		err_error("cannot log in at %s: %s", where,
			story->library_says[0] ? story->library_says : "connection closed");
		return EXIT_DENIED;
	}
	err_error("server %s closed the connection during login", where);
	return EXIT_TEMPORARY;
}
