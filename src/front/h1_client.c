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
	later(c->front->loop, PHASE_WRITE, &c->write);
}

static void port_room(struct exchange *ex)
{
	struct client *c = of_ex(ex);
	if (c->state != CLIENT_BODY && c->state != CLIENT_TUNNEL)
		return;
	conn_resume(&c->conn);
	if (c->in || conn_pending(&c->conn))
		later(c->front->loop, PHASE_AGAIN, &c->again);
}

static void port_over(struct exchange *ex, bool cut)
{
	struct client *c = of_ex(ex);
	c->ex = NULL;
	c->parse = NULL;
	c->body = NULL;
	if (cut && c->state != CLIENT_DEAD)
		client_close(c, true);
}

static const struct exch_port h1_port = {
	.output = port_output,
	.room = port_room,
	.over = port_over,
	.text = port_text,
	.list = port_list,
	.number = port_number,
};

/* --- reading --- */

void h1_client_start(struct client *c)
{
	c->write.run = write_task;
	c->again.run = again_task;
	c->again_write.run = write_again;
	c->state = CLIENT_IDLE;
}

static void drop_input(struct client *c)
{
	chunk_unref(c->in);
	c->in = NULL;
	c->in_at = 0;
}

/* Room to read behind what c->in holds. NULL: no memory. */
static struct chunk *room_for_head(struct client *c)
{
	if (!c->in) {
		c->in = chunk_new(CHUNK_SMALL);
		c->in_at = 0;
		return c->in;
	}
	if (c->in->fill < c->in->cap)
		return c->in;
	uint32_t have = c->in->fill - c->in_at;
	uint32_t cap = have < CHUNK_SMALL / 2 ? CHUNK_SMALL : have < CHUNK_LARGE / 2 ? CHUNK_LARGE : have * 2;
	uint32_t most = c->hcm->limits.head + CHUNK_SMALL;
	if (cap > most && most > have)
		cap = most;
	struct chunk *bigger = chunk_new(cap);
	if (!bigger)
		return NULL;
	memcpy(bigger->data, c->in->data + c->in_at, have);
	bigger->fill = have;
	if (c->ex && c->state == CLIENT_HEAD)
		h1_moved(&c->ex->req.head, c->in->data + c->in_at, have, bigger->data);
	chunk_unref(c->in);
	c->in = bigger;
	c->in_at = 0;
	return bigger;
}

static void end_of_input(struct client *c)
{
	c->half_closed = true;
	conn_pause(&c->conn);
	switch (c->state) {
	case CLIENT_IDLE:
		client_close(c, false);
		break;
	case CLIENT_HEAD:
		exch_drop(c->ex);
		client_close(c, false);
		break;
	case CLIENT_BODY: /* the body is cut: never a complete request (I5) */
		if (c->ex)
			exch_client_gone(c->ex);
		client_close(c, false);
		break;
	case CLIENT_TUNNEL: {
		struct chain none = {0};
		if (c->ex)
			exch_request_data(c->ex, &none, true, NULL);
		break;
	}
	case CLIENT_LINGER:
		client_close(c, false);
		break;
	default: /* the whole request was there: it gets its answer (robustness.md 6) */
		c->close_after = true;
		break;
	}
}

static void lost(struct client *c)
{
	client_close(c, false);
}

/* The request is whole and its answer under way: what arrives now is the next request (left in the socket) or the end. */
static void peek(struct client *c)
{
	char b[1];
	if (conn_is_tls(&c->conn)) { /* cannot be looked at without being taken: epoll's ERR and HUP still tell of a reset */
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
	c->discarded += (uint32_t)n;
	if (c->discarded > LIMIT_DISCARD)
		client_close(c, true);
}

void h1_client_ready(struct client *c)
{
	switch (c->state) {
	case CLIENT_LINGER:
		linger_read(c);
		return;
	case CLIENT_ANSWER:
		peek(c);
		return;
	case CLIENT_IDLE:
	case CLIENT_HEAD: {
		struct chunk *b = room_for_head(c);
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
			if (c->state != CLIENT_DEAD && (n == space || conn_pending(&c->conn)) && c->state != CLIENT_ANSWER)
				later(c->front->loop, PHASE_AGAIN, &c->again);
			return;
		}
		if (b->fill == c->in_at && c->state == CLIENT_IDLE)
			drop_input(c);
		if (n == 0)
			end_of_input(c);
		else if (n == CONN_FAILED)
			lost(c);
		return;
	}
	case CLIENT_BODY:
	case CLIENT_TUNNEL: {
		if (c->in) { /* bytes that waited for room come first */
			feed(c);
			if (c->in || (c->state != CLIENT_BODY && c->state != CLIENT_TUNNEL))
				return;
		}
		size_t room = c->ex ? exch_request_room(c->ex) : 0;
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
			c->in = b;
			c->in_at = 0;
			feed(c);
			if (c->state != CLIENT_DEAD && (n == space || conn_pending(&c->conn)) && (c->state == CLIENT_BODY || c->state == CLIENT_TUNNEL))
				later(c->front->loop, PHASE_AGAIN, &c->again);
			return;
		}
		chunk_unref(b);
		if (n == 0)
			end_of_input(c);
		else if (n == CONN_FAILED)
			lost(c);
		return;
	}
	default:
		conn_pause(&c->conn);
	}
}

static void again_task(struct task *t)
{
	struct client *c = (struct client *)((char *)t - offsetof(struct client, again));
	if (c->state == CLIENT_DEAD)
		return;
	if (c->in && c->in_at < c->in->fill && (c->state == CLIENT_IDLE || c->state == CLIENT_HEAD))
		feed(c);
	else
		h1_client_ready(c);
}

static uint64_t head_time(const struct client *c)
{
	return c->hcm->request_headers_timeout_us ? c->hcm->request_headers_timeout_us : LIMIT_HEADERS_US;
}

static void refuse(struct client *c, unsigned status, const char *detail)
{
	struct str line = {c->in->data + c->in_at, c->in->fill - c->in_at};
	char q[300];
	stat_add(c->hcm->stats->cx_protocol_error, 1);
	log_limited(LOG_HTTP, LOG_INFO, detail, "[C%llu] %s from %.*s on %.*s: \"%s\"", (unsigned long long)c->peer.connection_id, detail,
		    STR_ARG(c->peer.remote), STR_ARG(c->listener->name), log_quote(q, sizeof q, line));
	c->close_after = true;
	c->state = CLIENT_ANSWER;
	c->body = NULL;
	c->ex->req_chunk = chunk_ref(c->in);
	drop_input(c);
	conn_pause(&c->conn);
	exch_refuse(c->ex, status, detail);
}

static void head_done(struct client *c, size_t used)
{
	struct exchange *ex = c->ex;
	struct h1_parse *st = c->parse;
	struct head *h = &ex->req.head;
	c->minor0 = h->minor == 0;
	c->keep_alive10 = c->minor0 && st->keep_alive;
	c->close_after = st->close || (c->minor0 && !st->keep_alive) || c->front->draining ||
			 (c->hcm->max_requests_per_connection && c->requests + 1 >= c->hcm->max_requests_per_connection);
	c->requests++;
	ex->http10 = c->minor0;
	ex->underscores = st->underscore;
	ex->has_te_trailers = st->te_trailers;
	h->bytes = used;
	stat_add(c->hcm->stats->rq_http1, 1);
	if (c->minor0 && !c->hcm->accept_http_10) {
		refuse(c, 426, "low_version");
		return;
	}
	ex->req_chunk = chunk_ref(c->in);
	c->in_at += (uint32_t)used;
	if (c->in_at == c->in->fill)
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
		c->body = arena_zalloc(&ex->arena, sizeof *c->body);
		if (!c->body) {
			client_close(c, true);
			return;
		}
		h1_body_init(c->body, fr, st->length, trailers);
		c->state = CLIENT_BODY;
		if (st->expect_continue && !c->minor0 && !ex->expect_continue && !c->in) {
			chain_append(&c->wire, NULL, continue_line, sizeof continue_line - 1);
			later(c->front->loop, PHASE_WRITE, &c->write);
		}
	}
	exch_begin(ex, size);
}

/* Feeds what c->in holds: a head, then its body; stops at the end of the message. */
static void feed_head(struct client *c)
{
	if (c->state == CLIENT_IDLE) {
		struct str b = {c->in->data + c->in_at, c->in->fill - c->in_at};
		if (c->requests == 0 && b.p[0] == 'P' && c->hcm->codec != CODEC_H1) {
			size_t n = b.n < PREFACE ? b.n : PREFACE;
			if (memcmp(b.p, h2_preface, n) == 0) {
				if (n < PREFACE) { /* undecided: wait, within the head's time */
					if (!c->head_us) {
						c->head_us = loop_now_us(c->front->loop);
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
		c->ex = exch_new(c->front->env, &h1_port, c, &c->peer, c->model, c->hcm);
		c->parse = c->ex ? arena_zalloc(&c->ex->arena, sizeof *c->parse) : NULL;
		if (!c->parse) {
			if (c->ex)
				exch_drop(c->ex);
			client_close(c, true);
			return;
		}
		c->state = CLIENT_HEAD;
		c->head_us = loop_now_us(c->front->loop);
	}
	size_t used = 0;
	const char *p = c->in->data + c->in_at;
	switch (h1_parse_request(c->parse, &c->hcm->limits, p, c->in->fill - c->in_at, &c->ex->req.head, &used)) {
	case H1_MORE: { /* from the first byte: a byte now and then does not extend it */
		uint64_t now = loop_now_us(c->front->loop), end = c->head_us + head_time(c);
		client_timer(c, end > now ? end - now : 0);
		break;
	}
	case H1_BAD:
		refuse(c, c->parse->status ? c->parse->status : 400, c->parse->detail);
		break;
	case H1_DONE:
		head_done(c, used);
		break;
	}
}

static void feed_body(struct client *c)
{
	struct chain bytes = {0};
	bool ended = false;
	while (c->in && c->in_at < c->in->fill && !ended) {
		size_t used = 0;
		struct str data = {NULL, 0};
		enum h1_verdict v = h1_body_feed(c->body, &c->hcm->limits, c->in->data + c->in_at, c->in->fill - c->in_at, &used, &data);
		if (v == H1_BAD) {
			chain_clear(&bytes);
			stat_add(c->hcm->stats->cx_protocol_error, 1);
			const char *detail = c->body->detail ? c->body->detail : "http1.chunk";
			log_limited(LOG_HTTP, LOG_INFO, detail, "[C%llu] %s from %.*s on %.*s", (unsigned long long)c->peer.connection_id, detail,
				    STR_ARG(c->peer.remote), STR_ARG(c->listener->name));
			drop_input(c);
			c->body = NULL;
			c->close_after = true;
			c->state = CLIENT_ANSWER;
			conn_pause(&c->conn);
			exch_request_broken(c->ex, 400, detail);
			return;
		}
		if (data.n && !chain_append(&bytes, c->in, data.p, data.n)) {
			chain_clear(&bytes);
			client_close(c, true);
			return;
		}
		c->in_at += (uint32_t)used;
		ended = v == H1_DONE;
	}
	if (c->in && c->in_at == c->in->fill)
		drop_input(c);
	if (ended) {
		struct head *t = c->body->trailers;
		c->state = CLIENT_ANSWER;
		c->body = NULL;
		exch_request_data(c->ex, &bytes, true, t && t->n ? t : NULL);
	} else if (bytes.n) {
		exch_request_data(c->ex, &bytes, false, NULL);
	}
}

static void feed_tunnel(struct client *c)
{
	struct chain bytes = {0};
	if (c->in && c->in_at < c->in->fill && !chain_append(&bytes, c->in, c->in->data + c->in_at, c->in->fill - c->in_at)) {
		client_close(c, true);
		return;
	}
	drop_input(c);
	if (bytes.n && c->ex)
		exch_request_data(c->ex, &bytes, false, NULL);
}

static void feed(struct client *c)
{
	if (c->state == CLIENT_IDLE || c->state == CLIENT_HEAD)
		feed_head(c);
	if (c->state == CLIENT_BODY && c->in)
		feed_body(c);
	else if (c->state == CLIENT_TUNNEL && c->in)
		feed_tunnel(c);
}

/* --- writing --- */

static void finish(struct client *c);

/* Puts the head, and the bytes of a small body behind it, into one chunk. */
static bool write_head(struct client *c)
{
	struct exchange *ex = c->ex;
	struct leg *r = &ex->resp;
	struct h1_out o = {.framing = H1_NO_BODY};
	unsigned status = r->head.status;
	bool bodyless = ex->is_head || status == 204 || status == 304 || (status >= 100 && status < 200);
	int64_t size = leg_framing(r);
	c->wire_chunked = c->wire_close = false;
	c->left = -1;
	if (ex->tunnel) {
		o.upgrade = head_value(&r->head, FIELD_UPGRADE);
		if (!o.upgrade.p)
			o.upgrade = ex->upgrade;
	} else if (bodyless) {
		/* HEAD and 304 tell the length a GET would have had, when the origin (or a script) said one */
		struct str len = head_value(&r->head, FIELD_CONTENT_LENGTH);
		uint64_t v;
		if (r->size_fixed && (ex->is_head || r->size == 0)) {
			o.length_known = true;
			o.length = (uint64_t)r->size;
		} else if (status != 204 && status >= 200 && len.p && str_u64(len, &v)) {
			o.length_known = true;
			o.length = v;
		}
	} else if (size >= 0) {
		o.framing = H1_LENGTH;
		o.length_known = true;
		o.length = (uint64_t)size;
		c->left = size;
	} else if (c->minor0) {
		o.framing = H1_UNTIL_CLOSE;
		c->wire_close = c->close_after = true;
	} else {
		o.framing = H1_CHUNKED;
		c->wire_chunked = true;
	}
	if (ex->drain_connection || ex->env->draining)
		c->close_after = true;
	if (c->state == CLIENT_BODY && ex->resp.ended)
		c->close_after = true; /* the request will not be read to its end */
	o.close = c->close_after && !ex->tunnel;
	o.keep_alive = c->minor0 && !c->close_after;
	o.trailers = c->wire_chunked;
	size_t need = h1_head_size(&r->head, &o);
	bool copy = !c->wire_chunked && r->out.n <= LIMIT_COPY_BEHIND_HEAD && !bodyless && !ex->tunnel;
	size_t body = copy ? r->out.n : 0;
	struct chunk *b = chunk_new(need + body <= CHUNK_SMALL ? CHUNK_SMALL : need + body <= CHUNK_LARGE ? CHUNK_LARGE : (uint32_t)(need + body));
	if (!b)
		return false;
	size_t n = h1_write_response(b->data, &r->head, &o);
	must(n <= need);
	if (body) {
		if (c->left >= 0 && (int64_t)body > c->left)
			body = (size_t)c->left;
		chain_read(&r->out, 0, b->data + n, body);
		chain_skip(&r->out, body);
		if (c->left >= 0)
			c->left -= (int64_t)body;
	}
	b->fill = (uint32_t)(n + body);
	bool ok = chain_append(&c->wire, b, b->data, n + body);
	chunk_unref(b);
	c->head_written = ex->head_sent = true;
	if (body)
		exch_answer_taken(ex, body);
	return ok;
}

static bool write_interim(struct client *c)
{
	struct exchange *ex = c->ex;
	while (ex->interim) {
		const struct head *h = &ex->interim->head;
		struct h1_out o = {.framing = H1_NO_BODY};
		struct chunk *b = chunk_new((uint32_t)h1_head_size(h, &o));
		if (!b)
			return false;
		size_t n = h1_write_response(b->data, h, &o);
		b->fill = (uint32_t)n;
		bool ok = chain_append(&c->wire, b, b->data, n);
		chunk_unref(b);
		if (!ok)
			return false;
		ex->interim = ex->interim->next;
	}
	return true;
}

/* Moves what the exchange has for the client into c->wire, framed. False: no memory. */
static bool fill_wire(struct client *c)
{
	struct exchange *ex = c->ex;
	struct leg *r = &ex->resp;
	if (!c->head_written) {
		if (ex->interim && !write_interim(c))
			return false;
		if (!exch_answer_ready(ex))
			return true;
		if (!write_head(c))
			return false;
	}
	size_t n = r->out.n;
	if (n && !c->wire_chunked) {
		if (c->left >= 0 && !ex->tunnel) {
			if ((int64_t)n > c->left) { /* never more bytes than announced */
				struct chain some = {0};
				if (!chain_split(&some, &r->out, (size_t)c->left)) {
					chain_clear(&some);
					return false;
				}
				chain_move(&c->wire, &some);
				chain_clear(&r->out);
				n = (size_t)c->left;
			} else {
				chain_move(&c->wire, &r->out);
			}
			c->left -= (int64_t)n;
		} else {
			chain_move(&c->wire, &r->out);
		}
		exch_answer_taken(ex, n);
	} else if (n) {
		char line[24];
		size_t k = h1_write_chunk_line(line, n);
		if (!chain_copy(&c->wire, line, k))
			return false;
		chain_move(&c->wire, &r->out);
		if (!chain_append(&c->wire, NULL, "\r\n", 2))
			return false;
		exch_answer_taken(ex, n);
	}
	if (r->ended && c->wire_chunked && !ex->cut) {
		const struct head *t = c->hcm->enable_trailers ? r->trailers : NULL;
		if (t && t->n && !r->size_fixed) {
			struct h1_out o = {0};
			struct chunk *b = chunk_new((uint32_t)h1_head_size(t, &o) + 8);
			if (!b)
				return false;
			size_t k = h1_write_last_chunk(b->data, t);
			b->fill = (uint32_t)k;
			bool ok = chain_append(&c->wire, b, b->data, k);
			chunk_unref(b);
			if (!ok)
				return false;
		} else if (!chain_append(&c->wire, NULL, "0\r\n\r\n", 5)) {
			return false;
		}
		c->wire_chunked = false; /* the last chunk is out */
	}
	return true;
}

static void tunnel_begins(struct client *c)
{
	c->state = CLIENT_TUNNEL;
	conn_resume(&c->conn);
	if (c->in)
		later(c->front->loop, PHASE_AGAIN, &c->again);
}

static void write_task(struct task *t)
{
	struct client *c = (struct client *)((char *)t - offsetof(struct client, write));
	if (c->state == CLIENT_DEAD || c->conn.blocked)
		return;
	struct exchange *ex = c->ex;
	if (ex && c->wire.n < WIRE_LOW && !fill_wire(c)) {
		client_close(c, true);
		return;
	}
	if (c->wire.n) {
		struct iovec iov[WRITE_IOV];
		size_t bytes;
		int n = chain_iov(&c->wire, iov, WRITE_IOV, &bytes);
		ssize_t w = conn_write(&c->conn, iov, n);
		if (w == CONN_FAILED) {
			lost(c);
			return;
		}
		if (w > 0) {
			chain_skip(&c->wire, (size_t)w);
			stat_add(c->hcm->stats->cx_tx_bytes, (uint64_t)w);
			if (ex)
				ex->last_active_us = loop_now_us(c->front->loop);
		}
		if (c->wire.n) {
			if (!c->conn.blocked)
				later(c->front->loop, PHASE_AGAIN, &c->again_write);
			return;
		}
	}
	if (!ex)
		return;
	if (ex->tunnel && c->head_written && c->state == CLIENT_ANSWER)
		tunnel_begins(c);
	if (ex->resp.out.n) {
		later(c->front->loop, PHASE_AGAIN, &c->again_write);
		return;
	}
	if (ex->cut) {
		if (c->head_written)
			exch_answer_done(ex); /* port_over sees the cut and resets */
		else
			client_close(c, true);
		return;
	}
	if (c->head_written && ex->resp.ended && !ex->tunnel)
		finish(c);
	else if (ex->tunnel && ex->resp.ended && c->head_written) {
		conn_shutdown(&c->conn);
		if (ex->req.in_ended || c->half_closed)
			finish(c);
	}
}

static void write_again(struct task *t)
{
	struct client *c = (struct client *)((char *)t - offsetof(struct client, again_write));
	if (c->state != CLIENT_DEAD)
		later(c->front->loop, PHASE_WRITE, &c->write);
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
	client_timer(c, c->hcm->delayed_close_timeout_us ? c->hcm->delayed_close_timeout_us : LIMIT_DELAYED_CLOSE_US);
	if (conn_pending(&c->conn))
		later(c->front->loop, PHASE_AGAIN, &c->again);
}

/* The answer is with the kernel. */
static void finish(struct client *c)
{
	struct exchange *ex = c->ex;
	bool whole = c->state == CLIENT_ANSWER && !ex->tunnel;
	/* a length-framed answer that came out short must not look complete */
	if (c->left > 0 && !ex->is_head) {
		ex->cut = true;
		exch_answer_done(ex);
		return;
	}
	c->head_written = false;
	exch_answer_done(ex);
	if (c->state == CLIENT_DEAD)
		return;
	c->active_us = loop_now_us(c->front->loop);
	if (!whole || c->close_after || c->front->draining) {
		if (c->in && c->in_at < c->in->fill && whole && !c->close_after)
			goto next; /* a pipelined request has arrived already */
		linger(c);
		return;
	}
	if (c->half_closed && !(c->in && c->in_at < c->in->fill)) {
		client_close(c, false);
		return;
	}
next:
	c->state = CLIENT_IDLE;
	if (!c->half_closed)
		conn_resume(&c->conn);
	if ((c->in && c->in_at < c->in->fill) || conn_pending(&c->conn))
		later(c->front->loop, PHASE_AGAIN, &c->again);
}

/* --- the rest --- */

void h1_client_gone(struct client *c)
{
	struct exchange *ex = c->ex;
	if (ex) {
		c->ex = NULL;
		exch_client_gone(ex);
	}
	drop_input(c);
	chain_clear(&c->wire);
	task_drop(c->front->loop, &c->write);
	task_drop(c->front->loop, &c->again);
	task_drop(c->front->loop, &c->again_write);
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
		uint64_t idle = c->hcm->idle_timeout_us;
		if (c->in && c->head_us && now >= c->head_us + head_time(c)) { /* part of an HTTP/2 preface */
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
		if (now < c->head_us + head_time(c)) {
			client_timer(c, c->head_us + head_time(c) - now);
			return;
		}
		stat_add(c->hcm->stats->rq_header_timeout, 1);
		refuse(c, 408, "request_header_timeout");
		return;
	}
	case CLIENT_LINGER:
		client_close(c, true);
		return;
	default:
		if (c->hcm->idle_timeout_us)
			client_timer(c, c->hcm->idle_timeout_us);
	}
}
