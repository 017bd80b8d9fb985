/* src/front/h1_client.c: one client connection that speaks HTTP/1, one exchange at a time. */
#include "base/must.h"
#include "front/front_int.h"
#include "obs/log.h"
#include "obs/stats.h"
#include <errno.h>

static const char continue_line[] = "HTTP/1.1 100 Continue\r\n\r\n";
static const char h2_preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
enum { WIRE_LOW = 16 * 1024, PREFACE = sizeof h2_preface - 1, WRITE_IOV = 64 };

static void write_task(struct task *t);
static void again_task(struct task *t);
static void feed(struct client *c);
static void write_again(struct task *t);

static struct client *of_ex(const struct exchange *ex)
{
	return ex->port_data;
}

/* --- the exchange's port --- */

static void port_output(struct exchange *ex)
{
	struct client *c = of_ex(ex);
	later(c->front->loop, PHASE_WRITE, &c->work->write);
}

static void port_room(struct exchange *ex)
{
	struct client *c = of_ex(ex);
	if (c->state != CLIENT_BODY && c->state != CLIENT_TUNNEL)
		return;
	conn_resume(&c->conn);
	if (c->work->in || conn_pending(&c->conn))
		later(c->front->loop, PHASE_AGAIN, &c->work->again);
}

static void port_over(struct exchange *ex, bool cut)
{
	struct client *c = of_ex(ex);
	c->work->ex = NULL;
	c->work->parse = NULL;
	c->work->body = NULL;
	if (cut && c->state != CLIENT_DEAD)
		client_close(c, true);
}

static const struct exch_port h1_port = {
	.splice = true,
	.output = port_output,
	.room = port_room,
	.over = port_over,
	.text = port_text,
	.list = port_list,
	.number = port_number,
};

/* --- reading --- */

void h1_work_start(struct work *w)
{
	w->write.run = write_task;
	w->again.run = again_task;
	w->again_write.run = write_again;
}

void h1_client_start(struct client *c)
{
	c->state = CLIENT_IDLE;
}

static void drop_input(struct client *c)
{
	chunk_unref(c->work->in);
	c->work->in = NULL;
	c->work->in_at = 0;
}

/* Room to read behind what c->work->in holds. NULL: no memory. */
static struct chunk *room_for_head(struct client *c)
{
	if (!c->work->in) {
		c->work->in = chunk_new(CHUNK_SMALL);
		c->work->in_at = 0;
		return c->work->in;
	}
	if (c->work->in->fill < c->work->in->cap)
		return c->work->in;
	uint32_t have = c->work->in->fill - c->work->in_at;
	uint32_t cap = have < CHUNK_SMALL / 2   ? CHUNK_SMALL
		       : have < CHUNK_LARGE / 2 ? CHUNK_LARGE
						: have * 2;
	uint32_t most = c->hcm->limits.head + CHUNK_SMALL;
	if (cap > most && most > have)
		cap = most;
	struct chunk *bigger = chunk_new(cap);
	if (!bigger)
		return NULL;
	memcpy(bigger->data, c->work->in->data + c->work->in_at, have);
	bigger->fill = have;
	if (c->work->ex && c->state == CLIENT_HEAD)
		h1_moved(&c->work->ex->req.head, c->work->in->data + c->work->in_at, have,
			 bigger->data);
	chunk_unref(c->work->in);
	c->work->in = bigger;
	c->work->in_at = 0;
	return bigger;
}

static void end_of_input(struct client *c)
{
	c->half_closed = true;
	conn_pause(&c->conn);
	switch (c->state) {
	case CLIENT_IDLE: client_close(c, false); break;
	case CLIENT_HEAD:
		exch_drop(c->work->ex);
		client_close(c, false);
		break;
	case CLIENT_BODY: /* the body is cut: never a complete request (I5) */
		if (c->work->ex)
			exch_client_gone(c->work->ex);
		client_close(c, false);
		break;
	case CLIENT_TUNNEL: {
		struct chain none = {0};
		if (c->work->ex)
			exch_request_data(c->work->ex, &none, true, NULL);
		break;
	}
	case CLIENT_LINGER: client_close(c, false); break;
	default: /* the whole request was there: it gets its answer (robustness.md 6), and so do
		  * those that came behind it; finish() closes then */
		if (!c->work->in || c->work->in_at == c->work->in->fill)
			c->close_after = true;
		break;
	}
}

static void lost(struct client *c)
{
	client_close(c, false);
}

/* The request is whole and its answer under way: what arrives now is the next request (left in
 * the socket) or the end. */
static void peek(struct client *c)
{
	char b[1];
	/* cannot be looked at without being taken: epoll's ERR and HUP still tell of a reset */
	if (conn_is_tls(&c->conn)) {
		conn_pause(&c->conn);
		return;
	}
	ssize_t n = recv(c->conn.watch.fd, b, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n == 0)
		end_of_input(c);
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		lost(c);
	else if (n > 0)
		conn_pause(&c->conn);
}

static void linger_read(struct client *c)
{
	static _Thread_local char sink[16 * 1024];
	ssize_t n = conn_read(&c->conn, sink, sizeof sink);
	if (n == CONN_AGAIN)
		return;
	if (n <= 0) {
		client_close(c, false);
		return;
	}
	c->work->discarded += (uint32_t)n;
	if (c->work->discarded > LIMIT_DISCARD)
		client_close(c, true);
}

/* After a read of n bytes into space: is there more to take at once? */
static void read_on(struct client *c, ssize_t n, uint32_t space)
{
	bool wants = c->state == CLIENT_IDLE || c->state == CLIENT_HEAD ||
		     c->state == CLIENT_BODY || c->state == CLIENT_TUNNEL;
	if (wants && (n == space || conn_pending(&c->conn)))
		later(c->front->loop, PHASE_AGAIN, &c->work->again);
}

static void read_head(struct client *c)
{
	struct chunk *b = client_work(c) ? room_for_head(c) : NULL;
	if (!b) {
		client_close(c, true);
		return;
	}
	uint32_t space = b->cap - b->fill;
	ssize_t n = conn_read(&c->conn, b->data + b->fill, space);
	if (n > 0) {
		b->fill += (uint32_t)n;
		stat_add(c->hcm->stats->cx_rx_bytes, (uint64_t)n);
		feed(c);
		read_on(c, n, space);
		return;
	}
	if (c->state == CLIENT_IDLE && b->fill == c->work->in_at) {
		drop_input(c);
		client_idle(c);
	}
	if (n == 0)
		end_of_input(c);
	else if (n == CONN_FAILED)
		lost(c);
}

static void read_body(struct client *c)
{
	if (c->work->in) { /* bytes that waited for room come first */
		feed(c);
		if (c->state == CLIENT_DEAD || c->work->in ||
		    (c->state != CLIENT_BODY && c->state != CLIENT_TUNNEL))
			return;
	}
	size_t room = c->work->ex ? exch_request_room(c->work->ex) : 0;
	if (room == 0) {
		conn_pause(&c->conn);
		return;
	}
	struct chunk *b = chunk_new(CHUNK_LARGE);
	if (!b) {
		client_close(c, true);
		return;
	}
	uint32_t space = room < b->cap ? (uint32_t)room : b->cap;
	ssize_t n = conn_read(&c->conn, b->data, space);
	if (n > 0) {
		b->fill = (uint32_t)n;
		stat_add(c->hcm->stats->cx_rx_bytes, (uint64_t)n);
		c->work->in = b;
		c->work->in_at = 0;
		feed(c);
		read_on(c, n, space);
		return;
	}
	chunk_unref(b);
	if (n == 0)
		end_of_input(c);
	else if (n == CONN_FAILED)
		lost(c);
}

void h1_client_ready(struct client *c)
{
	switch (c->state) {
	case CLIENT_LINGER: linger_read(c); return;
	case CLIENT_ANSWER: peek(c); return;
	case CLIENT_IDLE:
	case CLIENT_HEAD: read_head(c); return;
	case CLIENT_BODY:
	case CLIENT_TUNNEL: read_body(c); return;
	default: conn_pause(&c->conn);
	}
}

static void again_task(struct task *t)
{
	struct client *c = ((struct work *)((char *)t - offsetof(struct work, again)))->client;
	if (c->state == CLIENT_DEAD)
		return;
	if (c->work->in && c->work->in_at < c->work->in->fill &&
	    (c->state == CLIENT_IDLE || c->state == CLIENT_HEAD)) {
		feed(c);
		/* what came before the client's end is no whole request */
		if (c->state != CLIENT_DEAD && c->half_closed &&
		    (c->state == CLIENT_HEAD || (c->state == CLIENT_BODY && !c->work->in)))
			end_of_input(c);
	} else {
		h1_client_ready(c);
	}
}

static uint64_t head_time(const struct client *c)
{
	return c->hcm->request_headers_timeout_us ? c->hcm->request_headers_timeout_us
						  : LIMIT_HEADERS_US;
}

static void refuse(struct client *c, unsigned status, const char *detail)
{
	struct str line = {c->work->in->data + c->work->in_at, c->work->in->fill - c->work->in_at};
	char q[300];
	stat_add(c->hcm->stats->cx_protocol_error, 1);
	log_limited(LOG_HTTP, LOG_INFO, detail, "[C%llu] %s from %.*s on %.*s: \"%s\"",
		    (unsigned long long)c->id, detail, STR_ARG(c->work->peer.remote),
		    STR_ARG(c->listener->name), log_quote(q, sizeof q, line));
	c->close_after = true;
	c->state = CLIENT_ANSWER;
	c->work->body = NULL;
	c->work->ex->req_chunk = chunk_ref(c->work->in);
	drop_input(c);
	conn_pause(&c->conn);
	exch_refuse(c->work->ex, status, detail);
}

static void head_done(struct client *c, size_t used)
{
	struct exchange *ex = c->work->ex;
	struct h1_parse *st = c->work->parse;
	struct head *h = &ex->req.head;
	c->work->minor0 = h->minor == 0;
	c->last = st->close || (c->work->minor0 && !st->keep_alive);
	c->close_after = c->last || c->front->draining ||
			 (c->hcm->max_requests_per_connection &&
			  c->requests + 1 >= c->hcm->max_requests_per_connection);
	c->requests++;
	ex->http10 = c->work->minor0;
	ex->underscores = st->underscore;
	ex->has_te_trailers = st->te_trailers;
	h->bytes = used;
	stat_add(c->hcm->stats->rq_http1, 1);
	if (c->work->minor0 && !c->hcm->accept_http_10) {
		refuse(c, 426, "low_version");
		return;
	}
	ex->req_chunk = chunk_ref(c->work->in);
	c->work->in_at += (uint32_t)used;
	if (c->work->in_at == c->work->in->fill)
		drop_input(c);
	enum h1_framing fr = h1_request_framing(st, h);
	int64_t size = fr == H1_LENGTH ? (int64_t)st->length : fr == H1_CHUNKED ? -1 : 0;
	if (request_refused(ex)) {
		c->close_after = true;
		c->state = CLIENT_ANSWER;
		drop_input(c);
		conn_pause(&c->conn);
		return;
	}
	if (ex->upgrade.p && size == 0) {
		size = -1;
		c->state = CLIENT_ANSWER; /* bytes of the upgraded protocol come after 101 */
	} else if (size == 0) {
		c->state = CLIENT_ANSWER;
	} else {
		ex->upgrade = (struct str){NULL, 0};
		struct head *trailers = NULL;
		if (fr == H1_CHUNKED && c->hcm->enable_trailers) {
			trailers = arena_zalloc(&ex->arena, sizeof *trailers);
			if (!trailers || !head_init(trailers, &ex->arena, false, 4)) {
				client_close(c, true);
				return;
			}
		}
		c->work->body = arena_zalloc(&ex->arena, sizeof *c->work->body);
		if (!c->work->body) {
			client_close(c, true);
			return;
		}
		h1_body_init(c->work->body, fr, st->length, trailers);
		c->state = CLIENT_BODY;
		if (st->expect_continue && !c->work->minor0 && !ex->expect_continue &&
		    !c->work->in) {
			chain_append(&c->work->wire, NULL, continue_line, sizeof continue_line - 1);
			later(c->front->loop, PHASE_WRITE, &c->work->write);
		}
	}
	exch_begin(ex, size);
}

/* Feeds what c->work->in holds: a head, then its body; stops at the end of the message. */
static void feed_head(struct client *c)
{
	if (c->state == CLIENT_IDLE) {
		struct str b = {c->work->in->data + c->work->in_at,
				c->work->in->fill - c->work->in_at};
		if (c->requests == 0 && b.p[0] == 'P' && c->hcm->codec != CODEC_H1) {
			size_t n = b.n < PREFACE ? b.n : PREFACE;
			if (memcmp(b.p, h2_preface, n) == 0) {
				if (n < PREFACE) { /* undecided: wait, within the head's time */
					if (!c->work->head_us) {
						c->work->head_us = loop_now_us(c->front->loop);
						client_timer(c, head_time(c));
					}
				} else if (!h2_client_start(c)) {
					client_close(c, true);
				}
				return;
			}
		}
		if (!client_renew(c)) {
			client_close(c, false);
			return;
		}
		c->work->ex =
			exch_new(c->front->env, &h1_port, c, &c->work->peer, c->model, c->hcm);
		c->work->parse = c->work->ex
					 ? arena_zalloc(&c->work->ex->arena, sizeof *c->work->parse)
					 : NULL;
		if (!c->work->parse) {
			if (c->work->ex)
				exch_drop(c->work->ex);
			client_close(c, true);
			return;
		}
		c->state = CLIENT_HEAD;
		c->work->head_us = loop_now_us(c->front->loop);
	}
	size_t used = 0;
	const char *p = c->work->in->data + c->work->in_at;
	switch (h1_parse_request(c->work->parse, &c->hcm->limits, p,
				 c->work->in->fill - c->work->in_at, &c->work->ex->req.head,
				 &used)) {
	case H1_MORE: { /* from the first byte: a byte now and then does not extend it */
		uint64_t now = loop_now_us(c->front->loop), end = c->work->head_us + head_time(c);
		client_timer(c, end > now ? end - now : 0);
		break;
	}
	case H1_BAD:
		refuse(c, c->work->parse->status ? c->work->parse->status : 400,
		       c->work->parse->detail);
		break;
	case H1_DONE: head_done(c, used); break;
	}
}

static void feed_body(struct client *c)
{
	struct chain bytes = {0};
	bool ended = false;
	while (c->work->in && c->work->in_at < c->work->in->fill && !ended) {
		size_t used = 0;
		struct str data = {NULL, 0};
		enum h1_verdict v = h1_body_feed(c->work->body, &c->hcm->limits,
						 c->work->in->data + c->work->in_at,
						 c->work->in->fill - c->work->in_at, &used, &data);
		if (v == H1_BAD) {
			chain_clear(&bytes);
			stat_add(c->hcm->stats->cx_protocol_error, 1);
			const char *detail =
				c->work->body->detail ? c->work->body->detail : "http1.chunk";
			unsigned status = c->work->body->status ? c->work->body->status : 400;
			log_limited(LOG_HTTP, LOG_INFO, detail, "[C%llu] %s from %.*s on %.*s",
				    (unsigned long long)c->id, detail,
				    STR_ARG(c->work->peer.remote), STR_ARG(c->listener->name));
			drop_input(c);
			c->work->body = NULL;
			c->close_after = true;
			c->state = CLIENT_ANSWER;
			conn_pause(&c->conn);
			exch_request_broken(c->work->ex, status, detail);
			return;
		}
		if (data.n && !chain_append(&bytes, c->work->in, data.p, data.n)) {
			chain_clear(&bytes);
			client_close(c, true);
			return;
		}
		c->work->in_at += (uint32_t)used;
		ended = v == H1_DONE;
	}
	if (c->work->in && c->work->in_at == c->work->in->fill)
		drop_input(c);
	if (ended) {
		struct head *t = c->work->body->trailers;
		c->state = CLIENT_ANSWER;
		c->work->body = NULL;
		exch_request_data(c->work->ex, &bytes, true, t && t->n ? t : NULL);
	} else if (bytes.n) {
		exch_request_data(c->work->ex, &bytes, false, NULL);
	}
}

static void feed_tunnel(struct client *c)
{
	struct chain bytes = {0};
	if (c->work->in && c->work->in_at < c->work->in->fill &&
	    !chain_append(&bytes, c->work->in, c->work->in->data + c->work->in_at,
			  c->work->in->fill - c->work->in_at)) {
		client_close(c, true);
		return;
	}
	drop_input(c);
	if (bytes.n && c->work->ex)
		exch_request_data(c->work->ex, &bytes, false, NULL);
}

static void feed(struct client *c)
{
	if (c->state == CLIENT_IDLE || c->state == CLIENT_HEAD)
		feed_head(c);
	if (c->state == CLIENT_BODY && c->work->in)
		feed_body(c);
	else if (c->state == CLIENT_TUNNEL && c->work->in)
		feed_tunnel(c);
}

/* --- writing --- */

static void finish(struct client *c);

/* How the head says what follows it; decides on chunks, and on the connection's end. */
static struct h1_out head_form(struct client *c)
{
	struct exchange *ex = c->work->ex;
	struct leg *r = &ex->resp;
	struct h1_out o = {.framing = H1_NO_BODY};
	unsigned status = r->head.status;
	bool bodyless =
		ex->is_head || status == 204 || status == 304 || (status >= 100 && status < 200);
	int64_t size = leg_framing(r);
	c->work->wire_chunked = false;
	c->work->left = -1;
	if (ex->tunnel) {
		o.upgrade = head_value(&r->head, FIELD_UPGRADE);
		if (!o.upgrade.p)
			o.upgrade = ex->upgrade;
	} else if (bodyless) {
		/* HEAD and 304 tell the length a GET would have had, when the origin (or a
		 * script) said one */
		struct str len = head_value(&r->head, FIELD_CONTENT_LENGTH);
		uint64_t v;
		if (r->size_fixed && (ex->is_head || r->size == 0)) {
			o.length_known = true;
			o.length = (uint64_t)r->size;
		} else if (status != 204 && status >= 200 && len.p && str_u64(len, &v)) {
			o.length_known = true;
			o.length = v;
		} else if (ex->is_head && status != 204 && status != 304 && status >= 200 &&
			   !c->work->minor0) {
			o.framing = H1_CHUNKED; /* what a GET would have had */
		}
	} else if (size >= 0) {
		o.framing = H1_LENGTH;
		o.length_known = true;
		o.length = (uint64_t)size;
		c->work->left = size;
	} else if (c->work->minor0) {
		o.framing = H1_UNTIL_CLOSE;
		c->close_after = true;
	} else {
		o.framing = H1_CHUNKED;
		c->work->wire_chunked = true;
	}
	if (ex->drain_connection || (exch_env_last(ex->env) && !c->is_admin))
		c->close_after = true;
	if (c->state == CLIENT_BODY && ex->resp.ended)
		c->close_after = true; /* the request will not be read to its end */
	o.close = c->close_after && !ex->tunnel;
	o.keep_alive = c->work->minor0 && !c->close_after;
	o.trailers = c->work->wire_chunked;
	return o;
}

/* The body's first bytes may stand behind the head, in the same piece. */
static bool has_little_body(const struct client *c)
{
	const struct exchange *ex = c->work->ex;
	return !c->work->wire_chunked && ex->resp.out.n <= LIMIT_COPY_BEHIND_HEAD && !ex->tunnel;
}

/* What there is of a little body, to `to`; returns how much. */
static size_t copy_behind(struct client *c, char *to)
{
	struct leg *r = &c->work->ex->resp;
	size_t n = r->out.n;
	if (!n)
		return 0;
	if (c->work->left >= 0 && (int64_t)n > c->work->left)
		n = (size_t)c->work->left;
	chain_read(&r->out, 0, to, n);
	chain_skip(&r->out, n);
	if (c->work->left >= 0)
		c->work->left -= (int64_t)n;
	return n;
}

static void head_written(struct client *c, size_t body)
{
	c->work->head_written = c->work->ex->head_sent = true;
	if (body)
		exch_answer_taken(c->work->ex, body);
}

/* Puts the head, and the bytes of a small body behind it, into one chunk. */
static bool write_head(struct client *c)
{
	struct head *h = &c->work->ex->resp.head;
	struct h1_out o = head_form(c);
	size_t need = h1_head_size(h, &o);
	bool little = has_little_body(c) && o.framing != H1_NO_BODY;
	size_t body = little ? c->work->ex->resp.out.n : 0;
	struct chunk *b = chunk_new(need + body <= CHUNK_SMALL   ? CHUNK_SMALL
				    : need + body <= CHUNK_LARGE ? CHUNK_LARGE
								 : (uint32_t)(need + body));
	if (!b)
		return false;
	size_t n = h1_write_response(b->data, h, &o);
	must(n <= need);
	body = little ? copy_behind(c, b->data + n) : 0;
	b->fill = (uint32_t)(n + body);
	bool ok = chain_append(&c->work->wire, b, b->data, n + body);
	chunk_unref(b);
	head_written(c, body);
	return ok;
}

static bool write_interim(struct client *c)
{
	struct exchange *ex = c->work->ex;
	while (ex->interim) {
		const struct head *h = &ex->interim->head;
		struct h1_out o = {.framing = H1_NO_BODY};
		struct chunk *b = chunk_new((uint32_t)h1_head_size(h, &o));
		if (!b)
			return false;
		size_t n = h1_write_response(b->data, h, &o);
		b->fill = (uint32_t)n;
		bool ok = chain_append(&c->work->wire, b, b->data, n);
		chunk_unref(b);
		if (!ok)
			return false;
		ex->interim = ex->interim->next;
	}
	return true;
}

/* Moves what the exchange has for the client into c->work->wire, framed. False: no memory. */
static bool fill_wire(struct client *c)
{
	struct exchange *ex = c->work->ex;
	struct leg *r = &ex->resp;
	if (!c->work->head_written) {
		if (ex->interim && !write_interim(c))
			return false;
		if (!exch_answer_ready(ex))
			return true;
		if (!write_head(c))
			return false;
	}
	size_t n = r->out.n;
	if (n && !c->work->wire_chunked) {
		if (c->work->left >= 0 && !ex->tunnel) {
			if ((int64_t)n > c->work->left) { /* never more bytes than announced */
				struct chain some = {0};
				if (!chain_split(&some, &r->out, (size_t)c->work->left)) {
					chain_clear(&some);
					return false;
				}
				chain_move(&c->work->wire, &some);
				chain_clear(&r->out);
				n = (size_t)c->work->left;
			} else {
				chain_move(&c->work->wire, &r->out);
			}
			c->work->left -= (int64_t)n;
		} else {
			chain_move(&c->work->wire, &r->out);
		}
		exch_answer_taken(ex, n);
	} else if (n) {
		char line[24];
		size_t k = h1_write_chunk_line(line, n);
		if (!chain_copy(&c->work->wire, line, k))
			return false;
		chain_move(&c->work->wire, &r->out);
		if (!chain_append(&c->work->wire, NULL, "\r\n", 2))
			return false;
		exch_answer_taken(ex, n);
	}
	if (r->ended && c->work->wire_chunked && !ex->cut) {
		const struct head *t = c->hcm->enable_trailers ? r->trailers : NULL;
		if (t && t->n && !r->size_fixed) {
			struct h1_out o = {0};
			struct chunk *b = chunk_new((uint32_t)h1_head_size(t, &o) + 8);
			if (!b)
				return false;
			size_t k = h1_write_last_chunk(b->data, t);
			b->fill = (uint32_t)k;
			bool ok = chain_append(&c->work->wire, b, b->data, k);
			chunk_unref(b);
			if (!ok)
				return false;
		} else if (!chain_append(&c->work->wire, NULL, "0\r\n\r\n", 5)) {
			return false;
		}
		c->work->wire_chunked = false; /* the last chunk is out */
	}
	return true;
}

/* The connection ends with what is about to be written. */
static bool ends_here(const struct client *c)
{
	const struct exchange *ex = c->work->ex;
	return c->close_after && ex && ex->resp.ended && !ex->resp.out.n && !ex->tunnel && !ex->cut;
}

/* What lies in a pipe or a file ahead of everything else in the wire is body alone, and is dropped unsent. */
static void take_back(struct client *c)
{
	struct chain *wire = &c->work->wire;
	if (wire->first && !wire->first->p && c->work->ex)
		c->work->ex->bytes_sent -= wire->n;
	chain_clear(wire);
}

/* The file has become shorter than what was announced, or its disk fails: a cut answer (I5). */
static void file_broken(struct client *c)
{
	struct exchange *ex = c->work->ex;
	take_back(c);
	chain_clear(&ex->resp.out);
	exch_answer_broken(ex, FAILED_FILE);
}

/* One write of what lies first in the wire. */
static ssize_t write_wire(struct client *c)
{
	struct chain *wire = &c->work->wire;
	off_t at;
	int pipe = chain_pipe(wire), file = chain_file(wire, &at);
	ssize_t w = 0;
	if (pipe >= 0)
		w = conn_write_pipe(&c->conn, pipe, wire->first->n);
	else if (file >= 0)
		w = conn_sendfile(&c->conn, file, &at, wire->first->n);
	if (w > 0)
		chain_passed(wire, (size_t)w);
	if (w || pipe >= 0)
		return w;
	if (file >= 0 && !chain_fetch(wire)) {
		file_broken(c);
		return 0;
	}
	struct iovec iov[WRITE_IOV];
	size_t bytes;
	c->conn.last = ends_here(c);
	w = conn_write(&c->conn, iov, chain_iov(wire, iov, WRITE_IOV, &bytes));
	if (w > 0)
		chain_skip(wire, (size_t)w);
	return w;
}

static void tunnel_begins(struct client *c)
{
	c->state = CLIENT_TUNNEL;
	conn_resume(&c->conn);
	if (c->work->in)
		later(c->front->loop, PHASE_AGAIN, &c->work->again);
}

/* A head with all there is of its body goes to a plain socket from here: no chunk is taken, no
 * list made. False: not this one. */
static bool send_whole(struct client *c, ssize_t *w)
{
	static _Thread_local char out[CHUNK_SMALL];
	struct exchange *ex = c->work->ex;
	if (c->work->wire.n || ex->interim || !exch_answer_ready(ex) || conn_is_tls(&c->conn))
		return false;
	struct h1_out o = head_form(c);
	if (!has_little_body(c))
		return false;
	size_t n =
		h1_write_response_in(out, sizeof out - LIMIT_COPY_BEHIND_HEAD, &ex->resp.head, &o);
	if (!n)
		return false;
	size_t body = o.framing != H1_NO_BODY ? copy_behind(c, out + n) : 0;
	n += body;
	head_written(c, body);
	c->conn.last = ends_here(c);
	*w = conn_write(&c->conn, &(struct iovec){out, n}, 1);
	size_t gone = *w > 0 ? (size_t)*w : 0;
	if (gone < n && *w != CONN_FAILED && !chain_copy(&c->work->wire, out + gone, n - gone))
		*w = CONN_FAILED;
	return true;
}

static void write_task(struct task *t)
{
	struct client *c = ((struct work *)((char *)t - offsetof(struct work, write)))->client;
	ssize_t w = 0;
	if (c->state == CLIENT_DEAD || c->conn.blocked)
		return;
	struct exchange *ex = c->work->ex;
	if (!ex || c->work->head_written || !send_whole(c, &w)) {
		if (ex && c->work->wire.n < WIRE_LOW && !fill_wire(c)) {
			client_close(c, true);
			return;
		}
		if (c->work->wire.n)
			w = write_wire(c);
	}
	if (w == CONN_FAILED) {
		lost(c);
		return;
	}
	if (w > 0) {
		stat_add(c->hcm->stats->cx_tx_bytes, (uint64_t)w);
		if (ex)
			ex->last_active_us = loop_now_us(c->front->loop);
	}
	if (c->work->wire.n) {
		if (!c->conn.blocked)
			later(c->front->loop, PHASE_AGAIN, &c->work->again_write);
		return;
	}
	if (!ex)
		return;
	if (ex->tunnel && c->work->head_written && c->state == CLIENT_ANSWER)
		tunnel_begins(c);
	if (ex->resp.out.n) {
		later(c->front->loop, PHASE_AGAIN, &c->work->again_write);
		return;
	}
	if (ex->cut) {
		if (c->work->head_written)
			exch_answer_done(ex); /* port_over sees the cut and resets */
		else
			client_close(c, true);
		return;
	}
	if (c->work->head_written && ex->resp.ended && !ex->tunnel)
		finish(c);
	else if (ex->tunnel && ex->resp.ended && c->work->head_written) {
		conn_shutdown(&c->conn);
		if (ex->req.in_ended || c->half_closed)
			finish(c);
	}
}

static void write_again(struct task *t)
{
	struct client *c =
		((struct work *)((char *)t - offsetof(struct work, again_write)))->client;
	if (c->state != CLIENT_DEAD)
		later(c->front->loop, PHASE_WRITE, &c->work->write);
}

static void linger(struct client *c)
{
	c->state = CLIENT_LINGER;
	drop_input(c);
	conn_shutdown(&c->conn);
	if (c->half_closed) {
		client_close(c, false);
		return;
	}
	conn_resume(&c->conn);
	client_timer(c, c->hcm->delayed_close_timeout_us ? c->hcm->delayed_close_timeout_us
							 : LIMIT_DELAYED_CLOSE_US);
	if (conn_pending(&c->conn))
		later(c->front->loop, PHASE_AGAIN, &c->work->again);
}

/* Nothing more will come, or should: then what close() does to unread bytes, RST, hurts nobody, and waiting for the client's own end (linger)
 * costs two system calls and an event. Paused: something did come. With TLS what came cannot be seen without taking it. */
static bool is_alone(const struct client *c)
{
	return c->last && !c->work->in && !c->conn.paused && !c->conn.blocked &&
	       !conn_is_tls(&c->conn);
}

/* The answer is with the kernel. */
static void finish(struct client *c)
{
	struct exchange *ex = c->work->ex;
	bool whole = c->state == CLIENT_ANSWER && !ex->tunnel;
	/* a length-framed answer that came out short must not look complete */
	if (c->work->left > 0 && !ex->is_head) {
		ex->cut = true;
		exch_answer_done(ex);
		return;
	}
	c->work->head_written = false;
	exch_answer_done(ex);
	if (c->state == CLIENT_DEAD)
		return;
	c->active_us = loop_now_us(c->front->loop);
	if (!whole || c->close_after || c->front->draining) {
		if (c->work->in && c->work->in_at < c->work->in->fill && whole && !c->close_after)
			goto next; /* a pipelined request has arrived already */
		if (whole && is_alone(c))
			client_close(c, false);
		else
			linger(c);
		return;
	}
	if (c->half_closed && !(c->work->in && c->work->in_at < c->work->in->fill)) {
		client_close(c, false);
		return;
	}
next:
	c->state = CLIENT_IDLE;
	if (!c->half_closed)
		conn_resume(&c->conn);
	if ((c->work->in && c->work->in_at < c->work->in->fill) || conn_pending(&c->conn))
		later(c->front->loop, PHASE_AGAIN, &c->work->again);
	else if (!c->work->in)
		client_idle(c);
}

/* --- the rest --- */

void h1_client_gone(struct client *c)
{
	if (!c->work)
		return;
	struct exchange *ex = c->work->ex;
	take_back(c);
	if (ex) {
		c->work->ex = NULL;
		exch_client_gone(ex);
	}
	drop_input(c);
	task_drop(c->front->loop, &c->work->write);
	task_drop(c->front->loop, &c->work->again);
	task_drop(c->front->loop, &c->work->again_write);
}

void h1_client_drain(struct client *c)
{
	c->close_after = true;
	if (c->state == CLIENT_IDLE && c->front->stopped)
		client_close(c, false);
}

/* Phase 2. */
void h1_client_timer(struct client *c)
{
	uint64_t now = loop_now_us(c->front->loop);
	switch (c->state) {
	case CLIENT_IDLE: {
		uint64_t idle = client_idle_us(c);
		/* part of an HTTP/2 preface */
		if (c->work && c->work->in && c->work->head_us &&
		    now >= c->work->head_us + head_time(c)) {
			client_close(c, false);
			return;
		}
		if (!idle)
			return;
		if (now >= c->active_us + idle) {
			stat_add(c->hcm->stats->cx_idle_timeout, 1);
			client_close(c, false);
		} else {
			client_timer(c, c->active_us + idle - now);
		}
		return;
	}
	case CLIENT_HEAD: {
		if (now < c->work->head_us + head_time(c)) {
			client_timer(c, c->work->head_us + head_time(c) - now);
			return;
		}
		stat_add(c->hcm->stats->rq_header_timeout, 1);
		refuse(c, 408, "request_header_timeout");
		return;
	}
	case CLIENT_LINGER:
		/* no reset: a slow client's kernel may still be taking the end of the answer */
		client_close(c, false);
		return;
	default:
		if (c->hcm->idle_timeout_us)
			client_timer(c, c->hcm->idle_timeout_us);
	}
}
