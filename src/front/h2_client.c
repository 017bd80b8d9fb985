/* src/front/h2_client.c: one client connection that speaks HTTP/2, many exchanges at a time. */
#include "base/mem.h"
#include "front/front_int.h"
#include "http/h2.h"
#include "obs/log.h"
#include "obs/stats.h"

enum {
	H2_STREAMS = 100,
	H2_OWED = 1000,
	COLLECT = 48 * 1024,
	WRITE_IOV = 64,
	STARTS_PER_TURN = 8,
	H2_READ = CHUNK_SMALL,
	EARLY_US = 1000000
};

struct h2_stream {
	struct h2_client *c;
	struct exchange *ex; /* NULL: over */
	struct h2_stream *next, *prev, *next_due;
	int32_t id;
	bool gone;     /* nghttp2 has closed it */
	bool due;      /* listed in c->due */
	bool answered; /* the head was submitted */
	bool ending, too_large, request_ended;
	uint64_t received, consumed;
	uint64_t opened_us;
	int64_t size;
	int64_t announced; /* content-length of the answer still to be sent, -1 none */
};
struct h2_client {
	struct client *client;
	struct h2 *h2;
	struct h2_stream *streams, *due, *spare;
	struct h2_stream *first_start, *last_start; /* heads that wait to be started */
	struct chain wire;
	struct task flush, start;
	struct grave grave;
	struct chunk *feeding; /* what h2_feed is looking at */
	unsigned n;
	bool broken, told, draining, logged;
	uint64_t head_us;
};

static void flush(struct task *t);
static void start_streams(struct task *t);

static void want_flush(struct h2_client *c)
{
	later(c->client->front->loop, PHASE_FLUSH, &c->flush);
}

static void mark_due(struct h2_stream *s)
{
	if (!s->due) {
		s->due = true;
		s->next_due = s->c->due;
		s->c->due = s;
	}
	want_flush(s->c);
}

static struct h2_stream *stream_of(const struct exchange *ex)
{
	return ex->port_data;
}

static void free_stream(struct h2_stream *s)
{
	struct h2_client *c = s->c;
	if (s->prev)
		s->prev->next = s->next;
	else
		c->streams = s->next;
	if (s->next)
		s->next->prev = s->prev;
	for (struct h2_stream **at = &c->due; s->due && *at; at = &(*at)->next_due)
		if (*at == s) {
			*at = s->next_due;
			break;
		}
	c->n--;
	s->next = c->spare;
	c->spare = s;
}

/* --- the exchange's port --- */

static void port_output(struct exchange *ex)
{
	mark_due(stream_of(ex));
}

static void port_room(struct exchange *ex)
{
	mark_due(stream_of(ex));
}

static void port_over(struct exchange *ex, bool cut)
{
	struct h2_stream *s = stream_of(ex);
	struct h2_client *c = s->c;
	s->ex = NULL;
	if (s->gone) {
		free_stream(s);
		return;
	}
	if (cut)
		h2_reset(c->h2, s->id, H2_INTERNAL_ERROR);
	/* the answer is whole, the rest of the request is not wanted (RFC 9113 8.1) */
	else if (!s->request_ended)
		h2_reset(c->h2, s->id, H2_NO_ERROR);
	if (s->received > s->consumed) {
		h2_consume(c->h2, s->id, s->received - s->consumed);
		s->consumed = s->received;
	}
	want_flush(c);
}

static const struct exch_port h2_port = {
	.output = port_output,
	.room = port_room,
	.over = port_over,
	.text = port_text,
	.list = port_list,
	.number = port_number,
};

/* --- events of the codec --- */

static void *opened(void *owner, int32_t id, struct head **head)
{
	struct h2_client *c = owner;
	struct client *cl = c->client;
	uint32_t most = cl->hcm->h2.max_streams ? cl->hcm->h2.max_streams : H2_STREAMS;
	if (c->draining || c->n >= most)
		return NULL;
	client_renew(cl);
	struct h2_stream *s = c->spare;
	if (s)
		c->spare = s->next;
	else
		s = mem_alloc(MEM_EXCHANGE, sizeof *s);
	if (!s)
		return NULL;
	memset(s, 0, sizeof *s);
	s->c = c;
	s->id = id;
	s->ex = exch_new(cl->front->env, &h2_port, s, &cl->work->peer, cl->model, cl->hcm);
	if (!s->ex) {
		s->next = c->spare;
		c->spare = s;
		return NULL;
	}
	s->next = c->streams;
	if (s->next)
		s->next->prev = s;
	c->streams = s;
	c->n++;
	s->opened_us = c->head_us = loop_now_us(cl->front->loop);
	if (!timer_armed(&cl->timer) || cl->hcm->request_headers_timeout_us)
		client_timer(cl, cl->hcm->request_headers_timeout_us
					 ? cl->hcm->request_headers_timeout_us
					 : LIMIT_HEADERS_US);
	*head = &s->ex->req.head;
	s->ex->http2 = true;
	return s;
}

static void begin(struct h2_stream *s)
{
	struct exchange *ex = s->ex;
	struct client *cl = s->c->client;
	stat_add(cl->hcm->stats->rq_http2, 1);
	cl->requests++;
	for (unsigned i = ex->req.head.pseudo; i < ex->req.head.n && !ex->underscores; i++)
		ex->underscores =
			memchr(ex->req.head.f[i].name_p, '_', ex->req.head.f[i].name_n) != NULL;
	ex->has_te_trailers = true;
	if (s->too_large) {
		exch_refuse(ex, 431, "http2.too_large");
		return;
	}
	bool expects = head_has(&ex->req.head, FIELD_EXPECT);
	if (request_refused(ex))
		return;
	ex->upgrade = (struct str){NULL, 0};
	if (expects && !ex->expect_continue && !s->request_ended) {
		struct head h;
		if (head_init(&h, &ex->arena, true, 1) && head_set_status(&h, 100))
			h2_interim(s->c->h2, s->id, &h);
		want_flush(s->c);
	}
	exch_begin(ex, s->size);
}

static void head_complete(void *owner, void *stream, bool end, bool too_large)
{
	struct h2_stream *s = stream;
	struct h2_client *c = owner;
	uint64_t n;
	struct str len = head_value(&s->ex->req.head, FIELD_CONTENT_LENGTH);
	s->too_large = too_large;
	s->request_ended = end;
	s->size = end ? 0 : len.p && str_u64(len, &n) && n <= INT64_MAX ? (int64_t)n : -1;
	if (!end && s->size == 0)
		s->size = -1; /* an empty DATA frame ends it */
	c->head_us = 0;
	s->next_due = NULL;
	if (c->last_start)
		c->last_start->next_due = s;
	else
		c->first_start = s;
	c->last_start = s;
	later(c->client->front->loop, PHASE_RUN, &c->start);
}

/* Phase 3: a few heads a turn (robustness.md 3.3). */
static void start_streams(struct task *t)
{
	struct h2_client *c = (struct h2_client *)((char *)t - offsetof(struct h2_client, start));
	for (unsigned i = 0; c->first_start; i++) {
		if (i == STARTS_PER_TURN) {
			later(c->client->front->loop, PHASE_AGAIN, &c->start);
			return;
		}
		struct h2_stream *s = c->first_start;
		c->first_start = s->next_due;
		if (!c->first_start)
			c->last_start = NULL;
		s->next_due = NULL;
		if (s->ex && !s->ex->req.begun) {
			begin(s);
			if (s->ending && s->ex) {
				struct chain none = {0};
				exch_request_data(s->ex, &none, true, NULL);
			}
		}
	}
}

static bool starting(const struct h2_stream *s)
{
	return s->ex && !s->ex->req.begun;
}

static void start_now(struct h2_stream *s)
{
	struct h2_client *c = s->c;
	struct h2_stream *prev = NULL;
	for (struct h2_stream *at = c->first_start; at; prev = at, at = at->next_due) {
		if (at != s)
			continue;
		if (prev)
			prev->next_due = s->next_due;
		else
			c->first_start = s->next_due;
		if (c->last_start == s)
			c->last_start = prev;
		s->next_due = NULL;
		break;
	}
	begin(s);
}

static void data(void *owner, void *stream, const char *p, size_t n)
{
	struct h2_stream *s = stream;
	struct h2_client *c = owner;
	struct chain bytes = {0};
	s->received += n;
	if (starting(s))
		start_now(s);
	if (!s->ex) {
		h2_consume(c->h2, s->id, n);
		s->consumed += n;
		return;
	}
	if (n && !chain_append(&bytes, c->feeding, p, n)) {
		exch_client_gone(s->ex);
		h2_reset(c->h2, s->id, H2_INTERNAL_ERROR);
		return;
	}
	exch_request_data(s->ex, &bytes, false, NULL);
	mark_due(s);
}

static void ended(void *owner, void *stream, struct head *trailers)
{
	struct h2_stream *s = stream;
	struct chain none = {0};
	s->request_ended = true;
	if (starting(s))
		start_now(s);
	if (s->ex)
		exch_request_data(s->ex, &none, true, trailers);
}

static struct arena *arena_of(void *owner, void *stream)
{
	struct h2_stream *s = stream;
	return s->ex ? &s->ex->arena : NULL;
}

static void closed(void *owner, void *stream, uint32_t code)
{
	struct h2_stream *s = stream;
	struct h2_client *c = owner;
	s->gone = true;
	if (c->first_start)
		for (struct h2_stream *prev = NULL, *at = c->first_start; at;
		     prev = at, at = at->next_due)
			if (at == s) {
				if (prev)
					prev->next_due = s->next_due;
				else
					c->first_start = s->next_due;
				if (c->last_start == s)
					c->last_start = prev;
				break;
			}
	if (s->received > s->consumed) /* the connection's window must not shrink for ever */
		h2_consume(c->h2, s->id, s->received - s->consumed);
	s->consumed = s->received;
	if (s->ex)
		exch_client_gone(s->ex); /* port_over frees s */
	else
		free_stream(s);
}

static size_t available(void *owner, void *stream, bool *end, const struct head **trailers)
{
	struct h2_stream *s = stream;
	if (!s->ex)
		return 0;
	const struct leg *r = &s->ex->resp;
	*end = r->ended && !s->ex->cut;
	if (*end && s->announced >= 0 && (uint64_t)s->announced != r->out.n)
		*end = (uint64_t)s->announced == r->out.n; /* short of its length: never complete */
	*trailers = r->size_fixed ? NULL : r->trailers;
	return r->out.n;
}

static bool take(void *owner, void *stream, size_t n, struct chain *wire)
{
	struct h2_stream *s = stream;
	if (n == 0)
		return true;
	if (!s->ex || !chain_split(wire, &s->ex->resp.out, n))
		return false;
	if (s->announced >= 0)
		s->announced -= (int64_t)n;
	exch_answer_taken(s->ex, n);
	return true;
}

static bool early(void *owner, void *stream)
{
	const struct h2_stream *s = stream;
	const struct h2_client *c = owner;
	return !s->answered || loop_now_us(c->client->front->loop) - s->opened_us < EARLY_US;
}

static void sent(void *owner, void *stream)
{
	struct h2_stream *s = stream;
	if (s->ex)
		exch_answer_done(s->ex);
}

static const struct h2_ops ops = {
	.opened = opened,
	.head = head_complete,
	.arena = arena_of,
	.data = data,
	.ended = ended,
	.closed = closed,
	.available = available,
	.take = take,
	.early = early,
	.sent = sent,
};

/* --- output --- */

/* What changed for one stream since the last flush. */
static void attend(struct h2_stream *s)
{
	struct h2_client *c = s->c;
	struct exchange *ex = s->ex;
	if (!ex)
		return;
	if (s->received > s->consumed && exch_request_room(ex)) {
		h2_consume(c->h2, s->id, s->received - s->consumed);
		s->consumed = s->received;
	}
	while (ex->interim && !s->answered) {
		h2_interim(c->h2, s->id, &ex->interim->head);
		ex->interim = ex->interim->next;
	}
	if (!s->answered && exch_answer_ready(ex) && !ex->cut) {
		unsigned status = ex->resp.head.status;
		bool bodyless = ex->is_head || status == 204 || status == 304 ||
				(ex->resp.ended && chain_empty(&ex->resp.out) &&
				 !(ex->resp.trailers && ex->resp.trailers->n));
		int64_t size = leg_framing(&ex->resp);
		if (ex->is_head && ex->resp.size_fixed)
			head_set_id(&ex->resp.head, FIELD_CONTENT_LENGTH,
				    arena_printf(&ex->arena, "%lld", (long long)ex->resp.size));
		else if (bodyless && !ex->is_head && status != 304 && size >= 0 && status != 204)
			head_set_id(&ex->resp.head, FIELD_CONTENT_LENGTH, STR("0"));
		s->announced = bodyless ? -1 : size;
		s->answered = ex->head_sent = true;
		if (!h2_answer(c->h2, s->id, &ex->resp.head, bodyless, size))
			h2_reset(c->h2, s->id, H2_INTERNAL_ERROR);
		return;
	}
	if (ex->cut && (!s->answered || chain_empty(&ex->resp.out))) {
		exch_answer_done(ex); /* port_over resets the stream */
		return;
	}
	if (s->answered) {
		/* short of its length (I5) */
		if (ex->resp.ended && chain_empty(&ex->resp.out) && s->announced > 0) {
			ex->cut = true;
			exch_answer_done(ex);
			return;
		}
		h2_resume(c->h2, s->id);
	}
}

static void finish_if_over(struct h2_client *c)
{
	if (!chain_empty(&c->wire))
		return;
	if (c->broken || h2_finished(c->h2) || (c->draining && c->n == 0)) {
		conn_shutdown(&c->client->conn);
		client_close(c->client, false);
	}
}

/* Once: the client, not we, has ended it. */
static void tell_why(struct h2_client *c)
{
	const char *why = h2_detail(c->h2);
	if (!why || c->logged)
		return;
	c->logged = true;
	log_limited(LOG_HTTP, LOG_INFO, why, "[C%llu] %s from %.*s",
		    (unsigned long long)c->client->id, why, STR_ARG(c->client->work->peer.remote));
}

static void flush(struct task *t)
{
	struct h2_client *c = (struct h2_client *)((char *)t - offsetof(struct h2_client, flush));
	struct client *cl = c->client;
	if (cl->state == CLIENT_DEAD)
		return;
	if (!cl->conn.blocked) {
		while (c->due) {
			struct h2_stream *s = c->due;
			c->due = s->next_due;
			s->next_due = NULL;
			s->due = false;
			attend(s);
		}
		if (!h2_collect(c->h2, &c->wire, COLLECT)) {
			client_close(cl, true);
			return;
		}
		tell_why(c);
		if (c->wire.n) {
			struct iovec iov[WRITE_IOV];
			size_t bytes;
			int n = chain_iov(&c->wire, iov, WRITE_IOV, &bytes);
			ssize_t w = conn_write(&cl->conn, iov, n);
			if (w == CONN_FAILED) {
				client_close(cl, false);
				return;
			}
			if (w > 0) {
				chain_skip(&c->wire, (size_t)w);
				stat_add(cl->hcm->stats->cx_tx_bytes, (uint64_t)w);
				cl->active_us = loop_now_us(cl->front->loop);
				if (!cl->conn.blocked) {
					later(cl->front->loop, PHASE_AGAIN, &cl->work->again_write);
					if (!chain_empty(&c->wire))
						return;
				}
			}
		}
	}
	finish_if_over(c);
}

/* More may be waiting in nghttp2 than one write took. */
static void write_on(struct task *t)
{
	struct client *cl =
		((struct work *)((char *)t - offsetof(struct work, again_write)))->client;
	if (cl->state != CLIENT_DEAD && cl->h2)
		want_flush(cl->h2);
}

/* --- input --- */

static void feed(struct h2_client *c, struct chunk *chunk, const char *p, size_t n)
{
	c->feeding = chunk;
	if (!h2_feed(c->h2, p, n, loop_now_us(c->client->front->loop)))
		c->broken = true;
	c->feeding = NULL;
	want_flush(c);
	if (c->broken)
		conn_pause(&c->client->conn);
}

void h2_client_ready(struct client *cl)
{
	struct h2_client *c = cl->h2;
	struct chunk *b = chunk_new(H2_READ);
	if (!b) {
		client_close(cl, true);
		return;
	}
	ssize_t n = conn_read(&cl->conn, b->data, b->cap);
	if (n > 0) {
		b->fill = (uint32_t)n;
		stat_add(cl->hcm->stats->cx_rx_bytes, (uint64_t)n);
		cl->active_us = loop_now_us(cl->front->loop);
		feed(c, b, b->data, (size_t)n);
		if (!c->broken && (n == b->cap || conn_pending(&cl->conn)))
			later(cl->front->loop, PHASE_AGAIN, &cl->work->again);
	}
	chunk_unref(b);
	if (n == 0 || n == CONN_FAILED)
		client_close(cl, false);
}

static void read_on(struct task *t)
{
	struct client *cl = ((struct work *)((char *)t - offsetof(struct work, again)))->client;
	if (cl->state != CLIENT_DEAD && cl->h2)
		h2_client_ready(cl);
}

bool h2_client_start(struct client *cl)
{
	const struct h2_cfg *cfg = &cl->hcm->h2;
	struct h2_client *c = client_work(cl) ? mem_zalloc(MEM_CONN, sizeof *c) : NULL;
	if (!c)
		return false;
	const uint32_t block = 1 + cl->hcm->limits.head / 1024; /* frames of one field block */
	struct h2_settings st = {
		.max_streams = cfg->max_streams ? cfg->max_streams : H2_STREAMS,
		.stream_window = cfg->stream_window ? cfg->stream_window : 65536,
		.connection_window = cfg->connection_window ? cfg->connection_window : 1048576,
		.header_table = cfg->header_table,
		.head_bytes = cl->hcm->limits.head,
		.fields = cl->hcm->limits.fields,
		.trailer_bytes = cl->hcm->limits.trailer,
		.trailer_fields = cl->hcm->limits.trailer_fields,
		.owed = cfg->max_control_frames ? cfg->max_control_frames : H2_OWED,
		.guard = {.priority = cfg->max_priority,
			  .window_updates = cfg->max_window_updates,
			  .control_rate = (uint32_t)cl->model->options.h2_control_rate,
			  .block = block < 8 ? 8 : block,
			  .empty = cfg->max_empty_frames},
	};
	c->client = cl;
	c->flush.run = flush;
	c->start.run = start_streams;
	cl->work->again.run = read_on;
	cl->work->again_write.run = write_on;
	c->h2 = h2_new(&st, &ops, c);
	if (!c->h2) {
		mem_free(MEM_CONN, c);
		return false;
	}
	cl->h2 = c;
	cl->state = CLIENT_BODY;
	stat_add(cl->hcm->stats->cx_http2, 1);
	stat_sub(cl->hcm->stats->cx_http1, cl->tls ? 0 : 1);
	if (cl->work->in) {
		struct chunk *b = cl->work->in;
		uint32_t at = cl->work->in_at;
		cl->work->in = NULL;
		cl->work->in_at = 0;
		feed(c, b, b->data + at, b->fill - at);
		chunk_unref(b);
	}
	want_flush(c);
	return true;
}

void h2_client_writable(struct client *cl)
{
	want_flush(cl->h2);
}

static void bury(struct grave *g)
{
	struct h2_client *c = (struct h2_client *)((char *)g - offsetof(struct h2_client, grave));
	h2_free(c->h2);
	while (c->spare) {
		struct h2_stream *s = c->spare;
		c->spare = s->next;
		mem_free(MEM_EXCHANGE, s);
	}
	mem_free(MEM_CONN, c);
}

void h2_client_gone(struct client *cl)
{
	struct h2_client *c = cl->h2;
	struct loop *l = cl->front->loop;
	while (c->streams) {
		struct h2_stream *s = c->streams;
		s->gone = true;
		if (s->ex)
			exch_client_gone(s->ex);
		else
			free_stream(s);
	}
	task_drop(l, &c->flush);
	task_drop(l, &c->start);
	chain_clear(&c->wire);
	/* perhaps under one of nghttp2's own callbacks: freed in phase 5 */
	c->grave.bury = bury;
	reap(l, &c->grave);
}

void h2_client_drain(struct client *cl, bool now)
{
	struct h2_client *c = cl->h2;
	if (c->draining)
		return;
	if (!c->told) {
		c->told = true;
		h2_goaway_soon(c->h2);
	}
	if (now) {
		c->draining = true;
		h2_goaway(c->h2, H2_NO_ERROR);
	}
	want_flush(c);
}

void h2_client_timer(struct client *cl)
{
	struct h2_client *c = cl->h2;
	uint64_t now = loop_now_us(cl->front->loop), idle = client_idle_us(cl);
	uint64_t most = cl->hcm->request_headers_timeout_us ? cl->hcm->request_headers_timeout_us
							    : LIMIT_HEADERS_US;
	if (h2_in_head(c->h2)) {
		if (!c->head_us)
			c->head_us = now;
		if (now >= c->head_us + most) {
			stat_add(cl->hcm->stats->rq_header_timeout, 1);
			log_limited(LOG_HTTP, LOG_INFO, "http2.head_timeout",
				    "[C%llu] http2.head_timeout from %.*s",
				    (unsigned long long)cl->id, STR_ARG(cl->work->peer.remote));
			h2_goaway(c->h2, H2_NO_ERROR);
			c->broken = true;
			want_flush(c);
			return;
		}
		client_timer(cl, c->head_us + most - now);
		return;
	}
	if (c->n == 0 && idle && now >= cl->active_us + idle) {
		if (!c->draining)
			stat_add(cl->hcm->stats->cx_idle_timeout, 1);
		h2_client_drain(cl, true);
		return;
	}
	client_timer(cl, idle ? (c->n == 0 ? cl->active_us + idle - now : idle) : LIMIT_IDLE_US);
}
