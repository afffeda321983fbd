/* The option tables of service.h, login.h and limits.h. */
#include "server/limits.h"
#include "server/login.h"
#include "server/service.h"

#define DAY_MS 86400000

/* Limits ----------------------------------------------------------------- */

#define AT(field) .at = offsetof(struct stream_limits, field)

const struct opt reader_limits[] = {
	{"depth", 0, OPT_INT, NULL, "deepest nesting read (default 256)", AT(depth), .min = 2,
		.max = 10000},
	{"attributes", 0, OPT_INT, NULL, "most attributes of one element (default 256)",
		AT(attributes), .min = 8, .max = 100000},
	{0},
};

const struct opt stream_limits[] = {
	{.kind = OPT_ROWS, .rows = reader_limits},
	{"queue-bytes", 0, OPT_BYTES, NULL, "most output waiting to be written (default 16M)",
		AT(queue_bytes), .min = 65536, .max = 1 << 30},
	{0},
};

struct reader_config limits_of_reader(
	const struct stream_limits *limits, enum reader_kind kind, enum reader_index index)
{
	return (struct reader_config){.kind = kind,
		.max_stanza_bytes = (size_t)limits->stanza_bytes,
		.max_depth = (unsigned)limits->depth,
		.max_attributes = (unsigned)limits->attributes,
		.index = index};
}

#undef AT
#define AT(field) .at = offsetof(struct pending_limits, field)

const struct opt pending_limits[] = {
	{"pending", 0, OPT_INT, NULL, "most open requests (default 65536)", AT(pending), .min = 1,
		.max = 10000000},
	{"pending-bytes", 0, OPT_BYTES, NULL, "most memory for open requests (default 64M)",
		AT(pending_bytes), .min = 4096, .max = INT64_C(1) << 40},
	{"user-pending", 0, OPT_INT, NULL, "most open requests of one user (default 256)",
		AT(user_pending), .min = 1, .max = 10000000},
	{"domain-pending", 0, OPT_SHARE, NULL,
		"most open requests of one other domain, or their part of all (default 25%)",
		AT(domain_pending), .min = 1, .max = 10000000},
	{"trusted", 0, OPT_LIST, NULL, "domain whose users have neither of these two bounds",
		AT(trusted)},
	{0},
};

struct shares_config limits_of_shares(
	const struct pending_limits *limits, size_t domain_pending, const struct jid_list *trusted)
{
	return (struct shares_config){.max = (size_t)limits->pending,
		.max_bytes = buf_bytes(limits->pending_bytes),
		.user_max = (size_t)limits->user_pending,
		.domain_max = domain_pending,
		.trusted = trusted->jids,
		.trusted_count = trusted->count};
}

/* Secrets ---------------------------------------------------------------- */

#undef AT
#define AT(field) .at = offsetof(struct secret, field)

static const struct opt component_secret[] = {
	{"secret-file", 's', OPT_STRING, "FILE", "file that holds the component secret", AT(file),
		.complete = "file"},
	{"secret-fd", 0, OPT_INT, "FD", "read the component secret from this file descriptor",
		AT(fd), .min = 0, .max = 65535},
	{0},
};

/* Services --------------------------------------------------------------- */

#undef AT
#define AT(field) .at = offsetof(struct service_config, field)

const struct opt daemon_options[] = {
	{"drain-time", 0, OPT_SECONDS, "SECONDS",
		"how long SIGTERM waits for open requests (default 5)", AT(drain_ms), .min = 0,
		.max = DAY_MS},
	{"ready-fd", 0, OPT_INT, "FD", "write a newline to this file descriptor when ready",
		AT(ready_fd), .min = 0, .max = 65535},
	{"metrics", 0, OPT_STRING, "FILE", "keep counters in this file as OpenMetrics text",
		AT(metrics_file), .complete = "file"},
	{"metrics-interval", 0, OPT_SECONDS, "SECONDS",
		"how often the metrics file is replaced (default 15)", AT(metrics_interval_ms),
		.min = 100, .max = DAY_MS},
	{0},
};

const struct opt service_options[] = {
	{"domain", 'd', OPT_STRING, "DOMAIN", "the component's own domain", AT(domain)},
	{"connect", 'c', OPT_SERVER, "HOST:PORT",
		"the server's component port; without it a filter", AT(connect),
		.complete = "host"},
	{.kind = OPT_ROWS, .rows = component_secret, AT(secret)},
	{"retries", 0, OPT_INT, "N",
		"reconnects in a row before giving up, -1 for ever (default -1)", AT(retries),
		.min = -1, .max = 1000000000},
	{"ping-interval", 0, OPT_SECONDS, "SECONDS",
		"ping the server after so long without a word of it, 0: never (default 300)",
		AT(ping_interval_ms), .min = 0, .max = DAY_MS},
	{.kind = OPT_ROWS, .rows = daemon_options},
	{"max-stanza-bytes", 0, OPT_BYTES, "BYTES", "largest stanza read (default 1M)",
		AT(limits.stanza_bytes), .min = 1024, .max = 1 << 30},
	{"max-send-bytes", 0, OPT_BYTES, "BYTES",
		"largest stanza sent, 0 for no limit (default 500000 to a server)",
		AT(limits.send_bytes), .min = 0, .max = 1 << 30},
	{0},
};

/* Logins ----------------------------------------------------------------- */

#undef AT
#define AT(field) .at = offsetof(struct login_config, field)

const struct opt login_options[] = {
	{"domain", 'd', OPT_STRING, "DOMAIN", "connect as the component with this domain",
		AT(domain)},
	{"jid", 'j', OPT_STRING, "JID", "log in as this user instead", AT(jid)},
	{"connect", 'c', OPT_SERVER, "HOST:PORT",
		"the server (default 127.0.0.1:5347; with --jid by SRV)", AT(connect),
		.complete = "host"},
	{.kind = OPT_ROWS, .rows = component_secret, AT(secret)},
	{"password-file", 'p', OPT_STRING, "FILE", "file that holds the user's password",
		AT(password.file), .complete = "file"},
	{"password-fd", 0, OPT_INT, "FD", "read the user's password from this file descriptor",
		AT(password.fd), .min = 0, .max = 65535},
	{"tls", 0, OPT_CHOICE, "MODE",
		"required (default), direct, or off (loopback only); with --jid", AT(tls),
		.choices = "required|direct|off"},
	{"tls-ca", 0, OPT_STRING, "FILE", "trust these certificates instead of the system's",
		AT(tls_ca), .complete = "file"},
	{"timeout", 't', OPT_SECONDS, "SECONDS", "how long to wait for the login (default 30)",
		AT(timeout_ms), .min = 1, .max = DAY_MS},
	{"max-stanza-bytes", 0, OPT_BYTES, "BYTES", "largest stanza read (default 1M)",
		AT(limits.stanza_bytes), .min = 1024, .max = 1 << 28},
	{"max-send-bytes", 0, OPT_BYTES, "BYTES",
		"largest stanza sent, 0 for no limit (default 500000; with --jid as the server "
		"says)",
		AT(limits.send_bytes), .min = 0, .max = 1 << 28},
	{0},
};
