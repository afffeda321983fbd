#include "server/lastwords.h"

#include <signal.h>

#include "base/err.h"
#include "base/io.h"
#include "xmpp/stanza-error.h"

#define ANSWERS_MAX_BYTES (1024 * 1024)

void lastwords_init(struct lastwords *l)
{
	*l = (struct lastwords){0};
	buf_init(&l->answers, ANSWERS_MAX_BYTES);
}

bool lastwords_note(struct lastwords *l, const struct stanza *s)
{
	struct writer w;

	if (!stanza_is_request(s) || !s->from.p)
		return false;
	writer_init(&w, &l->answers, WRITER_SOCKET, 0);
	if (stanza_error_reply(&w, s, ERROR_RECIPIENT_UNAVAILABLE, NULL) != WRITER_OK)
		return false;
	l->count++;
	return true;
}

static void on_up(void *context)
{
	struct lastwords *l = context;

	link_send_raw(component_link(l->component), buf_span(&l->answers));
	buf_reset(&l->answers);
	l->count = 0;
	component_goodbye(l->component);
	loop_stop(l->loop, 0);
}

static bool on_late(void *context, const struct stanza *s)
{
	return lastwords_note(context, s);
}

static void on_gave_up(void *context, int status)
{
	struct lastwords *l = context;

	(void)status;
	loop_stop(l->loop, 0);
}

static void on_end(void *context)
{
	struct lastwords *l = context;

	loop_stop(l->loop, 0);
}

static void on_terminate(void *context, int signal_number)
{
	struct lastwords *l = context;

	(void)signal_number;
	loop_timer_set(l->loop, &l->end, 0);
}

void lastwords_say(struct lastwords *l, struct loop *loop, struct component *component)
{
	static const struct component_ops ops = {
		.up = on_up, .late = on_late, .gave_up = on_gave_up};
	int64_t deadline_ms = io_now_ms() + LASTWORDS_MS;
	int status = component_close(component, deadline_ms);

	l->loop = loop;
	l->component = component;
	loop_timer_init(&l->end, on_end, l);
	loop_timer_set(loop, &l->end, deadline_ms);
	loop_signal(loop, SIGTERM, on_terminate, l);
	loop_signal(loop, SIGINT, on_terminate, l);
	for (int i = 0; l->count && status == EXIT_DONE && i < LASTWORDS_STREAMS &&
			l->end.deadline_ms > io_now_ms();
		i++) {
		err_debug("%zu requests came after the end of the stream", l->count);
		component_reopen(component, &ops, l);
		loop_run(loop);
		status = component_close(component, deadline_ms);
	}
	if (l->count)
		err_warn("%zu requests came after the end of the stream and got no answer",
			l->count);
	loop_timer_clear(loop, &l->end);
	buf_free(&l->answers);
}
