#include "share/own.h"

#include <stdlib.h>

#include "base/err.h"
#include "share/key.h"
#include "xmpp/requests.h"

#define MAX_OF_ONE 4096
#define TIMEOUT_MS (10 * 60 * 1000)
#define MAX_BYTES (64 * 1024 * 1024)
#define MAX_BYTES_OF_ONE (MAX_BYTES / 8)

/* The record behind struct request. */
struct own_request {
	struct own_asker *asker;
	LIST_ENTRY(own_request) of_asker;
	struct request *request;
	size_t bytes;
};

struct own {
	struct requests *requests;
	struct random_source random;
	struct buf key;
};

static enum writer_status hand_back(
	void *context, struct request *r, const struct stanza *stanza, struct turn *turn)
{
	struct own_request *own = request_extra(r);
	struct stanza_edit edit = {.id = request_id(r)};

	(void)context;
	(void)turn;
	return outlet_write(own->asker->outlet, stanza, &edit);
}

static enum writer_status hand_back_error(
	void *context, struct request *r, enum stanza_error e, struct turn *turn)
{
	struct own_request *own = request_extra(r);

	(void)context;
	(void)turn;
	return outlet_wrote(own->asker->outlet,
		stanza_error_send(own->asker->outlet->writer, "iq", request_user(r),
			request_asked(r), request_id(r), e, NULL));
}

static void on_ending(void *context, struct request *r, enum request_end end, int64_t now_ms)
{
	(void)context;
	(void)r;
	(void)end;
	(void)now_ms;
}

static void on_removed(void *context, struct request *r, int64_t now_ms)
{
	struct own_request *own = request_extra(r);

	(void)context;
	(void)now_ms;
	LIST_REMOVE(own, of_asker);
	own->asker->count--;
	own->asker->bytes -= own->bytes;
}

struct own *own_new(const struct random_source *random, const uint64_t seed[2])
{
	struct own *o = xcalloc(1, sizeof(*o));

	o->random = *random;
	o->requests = requests_new(&(struct requests_config){.max = SIZE_MAX / 2,
		.max_bytes = MAX_BYTES,
		.seed = {seed[0], seed[1]},
		.timeout_ms = TIMEOUT_MS,
		.extra_bytes = sizeof(struct own_request),
		.answer = hand_back,
		.error = hand_back_error,
		.ending = on_ending,
		.removed = on_removed});
	buf_init(&o->key, BUF_NO_MAX);
	return o;
}

void own_free(struct own *o)
{
	requests_free(o->requests);
	buf_free(&o->key);
	free(o);
}

/* The request under its new id; NULL: no room. */
static struct request *add(struct own *o, struct own_asker *asker, const struct stanza *stanza,
	struct span from, struct span id, int64_t now_ms)
{
	struct request_texts texts = {.user = stanza->from, .asked = stanza->to, .id = stanza->id};
	struct table_key key = requests_key(o->requests, share_key(&o->key, stanza->to, from, id));
	size_t before = requests_bytes(o->requests);
	struct own_request *own;
	struct request *r;

	if (asker->count >= MAX_OF_ONE || asker->bytes >= MAX_BYTES_OF_ONE)
		return NULL;
	r = requests_add(o->requests, &key, &texts, now_ms);
	if (!r)
		return NULL;
	own = request_extra(r);
	own->asker = asker;
	own->request = r;
	own->bytes = requests_bytes(o->requests) - before;
	LIST_INSERT_HEAD(&asker->open, own, of_asker);
	asker->count++;
	asker->bytes += own->bytes;
	return r;
}

/* Take back what never left. */
static void take_back(struct own *o, struct request *r)
{
	on_removed(o, r, 0);
	requests_forget(o->requests, r);
}

bool own_ask(struct own *o, struct own_asker *asker, const struct stanza *stanza, struct span from,
	struct turn *turn)
{
	char name[RANDOM_NAME_CHARS + 1];
	struct span id = random_name(&o->random, name);
	enum writer_status status = WRITER_FULL;
	struct request *r;

	r = add(o, asker, stanza, from, id, turn->now_ms);
	if (r && turn->writer)
		status = writer_stanza(
			turn->writer, stanza, &(struct stanza_edit){.from = from, .id = id});
	if (status == WRITER_OK)
		return true;
	if (r)
		take_back(o, r);
	outlet_refuse(asker->outlet, stanza,
		status == WRITER_TOO_LARGE ? ERROR_POLICY_VIOLATION : ERROR_RESOURCE_CONSTRAINT,
		NULL);
	return false;
}

bool own_answer(struct own *o, const struct stanza *stanza, struct turn *turn)
{
	struct table_key key =
		requests_key(o->requests, share_key(&o->key, stanza->from, stanza->to, stanza->id));
	struct request *r = stanza->id.n ? requests_find(o->requests, &key) : NULL;

	if (r)
		requests_deliver(o->requests, r, stanza, turn);
	return r;
}

void own_forget(struct own *o, struct own_asker *asker)
{
	struct own_request *own;

	while ((own = LIST_FIRST(&asker->open)))
		take_back(o, own->request);
}

size_t own_count(const struct own *o)
{
	return requests_count(o->requests);
}

void own_tick(struct own *o, struct turn *turn)
{
	requests_tick(o->requests, turn);
}

int64_t own_deadline(const struct own *o)
{
	return requests_deadline(o->requests);
}
