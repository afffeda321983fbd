/* plumbing/connect.h - a server connection as standard input and output (xmpp-connect)
 *
 * Stanzas that arrive go to standard output (or a command's standard input),
 * stanzas from standard input (or a command's standard output) are sent. After
 * login, component and user are the same code.
 *
 * Invariants: a stanza read is sent, or its line is reported and the exit status
 * tells; while either side does not take more, the other is not read. After end
 * of input the program ends when each iq get/set it sent is answered, by the
 * address it went to (exact from and id), or wait_ms later, and the server has
 * handled what else was sent (server/roundtrip.h): what it bounced at once has come
 * back then. We answer requests that arrive after the end of input. Before that the reader has to
 * answer them; only pings to a user are ours (answers.h). The stream is always closed in order.
 */
#ifndef OUTBOARD_PLUMBING_CONNECT_H
#define OUTBOARD_PLUMBING_CONNECT_H

#include "server/login.h"

#define CONNECT_WAIT_MS 30000
#define CONNECT_MAX_PENDING 65536
/* for the server to take the rest and close its side of the stream */
#define CONNECT_CLOSE_MS 10000
/* how much of wait_ms is left at most after a signal */
#define CONNECT_DRAIN_MS 5000

struct connect_config {
	struct login_config login;
	const char *presence; /* NULL: none; "": available; else away, chat, dnd, xa */
	int64_t wait_ms;
	int64_t max_pending; /* iq get/set sent and not answered: more are not read */
	int64_t ready_fd;    /* -1: none */
	bool stay;	     /* stay connected after the end of standard input */
	bool check;	     /* EXIT_NO if a message bounced */
	bool no_answers;     /* while there is a reader, answer nothing, not even pings */
	bool auto_answer;    /* answer requests that are not answered within ANSWERS_WAIT_MS */
	bool json;	     /* objects of stanza-json.h instead of stanzas, both ways */
	char **command;	     /* NULL-ended; NULL: standard input and output */
};

#define CONNECT_CONFIG_INIT                                                                        \
	{                                                                                          \
		.login = LOGIN_CONFIG_INIT, .wait_ms = CONNECT_WAIT_MS,                            \
		.max_pending = CONNECT_MAX_PENDING, .ready_fd = -1                                 \
	}

/* As login_check(). */
const char *connect_check(const struct connect_config *config);

/* Runs to the end; returns the exit status: the connection's where it could not be made or was lost
 * (see login.h), EXIT_IO (standard
 * input or output), the command's (128+N for signal N, 126 or 127 if it could not be run),
 * EXIT_DATA (bad input), EXIT_NO (a bounce, with check), EXIT_TIMED_OUT (unanswered requests), in
 * this order; else EXIT_DONE,
 * also after SIGTERM or SIGINT, which are an end of input. */
int connect_run(struct connect_config *config);

#endif
