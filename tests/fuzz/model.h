/* model.h - what models of all parties around a deciding module share
 *
 * The module is driven as a service drives it, through its service_ops: with stanzas made of texts,
 * a time that the model moves, and a link that goes, comes, and may have little room. Each request
 * has a number; answers[number] counts its answers, of which there must be exactly one at the end.
 */
#ifndef OUTBOARD_FUZZ_MODEL_H
#define OUTBOARD_FUZZ_MODEL_H

#include "base/err.h"
#include "delegation/helper.h"
#include "require.h"
#include "xmpp/reader.h"

#define MODEL_REQUESTS 4096

struct model {
	const struct service_ops *ops;
	void *self;	       /* the module's state */
	size_t smallest_queue; /* no stanza of ours is larger: a smaller one could never take one */
	struct writer writer;
	struct buf out;
	struct reader *reader; /* what comes to the module */
	bool up;
	int64_t now_ms;
	unsigned asked; /* requests sent so far */
	uint8_t answers[MODEL_REQUESTS];
	uint64_t chance;
	/* Called for each stanza that has left. */
	void (*gets)(void *context, const struct stanza *s);
	void *context;
};

/* For random_source: the same numbers in every run. */
static inline uint64_t model_draw(void *model)
{
	return ((struct model *)model)->chance += 0x9e3779b97f4a7c15;
}

/* Call it before the module is made, with ops, smallest_queue, gets and context set. */
static inline void model_begin(struct model *m)
{
	buf_init(&m->out, BUF_NO_MAX);
	writer_init(&m->writer, &m->out, WRITER_PIPE, 0);
	m->reader = reader_new(&(struct reader_config){.kind = READER_PIPE});
	m->up = true;
}

static inline void model_free(struct model *m)
{
	reader_free(m->reader);
	buf_free(&m->out);
}

/* Valid until the next call. */
static inline struct turn *model_turn(struct model *m)
{
	static struct turn turn;

	turn = (struct turn){.writer = m->up ? &m->writer : NULL, .now_ms = m->now_ms};
	return &turn;
}

/* Hand all that has left to gets() and empty the queue. */
static inline void model_deliver(struct model *m)
{
	struct reader *r = reader_new(&(struct reader_config){.kind = READER_PIPE});
	struct stanza s;

	reader_feed(r, buf_string(&m->out), buf_length(&m->out));
	while (reader_next(r, &s) == READER_STANZA)
		m->gets(m->context, &s);
	reader_free(r);
	buf_reset(&m->out);
}

/* The server sends this stanza. */
static inline void model_comes(struct model *m, const char *text)
{
	struct stanza s;

	if (!m->up)
		return;
	REQUIRE(reader_one(m->reader, span_of(text), &s));
	m->ops->stanza(m->self, &s, model_turn(m));
}

/* The handler sends this stanza. */
static inline void model_handler_says(
	struct model *m, const struct helper_ops *handler, const char *text)
{
	struct stanza s;

	REQUIRE(reader_one(m->reader, span_of(text), &s));
	handler->stanza(m->self, &s, model_turn(m));
}

/* The link goes, or comes again. */
static inline void model_link_turns(struct model *m)
{
	model_deliver(m);
	m->up = !m->up;
	(m->up ? m->ops->up : m->ops->down)(m->self, model_turn(m));
}

static inline void model_queue_changes(struct model *m, uint8_t how)
{
	m->out.max = how % 2 ? m->smallest_queue + (size_t)how * 4 : BUF_NO_MAX;
}

static inline void model_tick(struct model *m)
{
	if (m->up && m->ops->deadline(m->self) <= m->now_ms)
		m->ops->tick(m->self, model_turn(m));
}

/* End the service: after that nothing is open, and each request has its one answer. */
static inline void model_end(struct model *m)
{
	if (!m->up)
		model_link_turns(m);
	for (int i = 0; i < 100000 && m->ops->open_requests(m->self); i++) {
		m->out.max = i > 2 ? BUF_NO_MAX : m->smallest_queue;
		m->ops->finish(m->self, model_turn(m));
		m->ops->tick(m->self, model_turn(m));
		model_deliver(m);
	}
	m->out.max = BUF_NO_MAX;
	m->ops->tick(m->self, model_turn(m)); /* refusals that did not fit */
	model_deliver(m);
	REQUIRE(m->ops->open_requests(m->self) == 0);
	for (unsigned i = 0; i < m->asked; i++)
		REQUIRE(m->answers[i] == 1);
}

#endif
