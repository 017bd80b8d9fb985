/* src/upstream/h1_origin.c
 *
 * HTTP/1 towards origins: one request and its answer at a time on a connection. What is received is parsed
 * where it was read; body bytes are passed on as slices of it. Verdicts: robustness.md 3.2.
 */
#include "base/must.h"
#include "net/conn.h"
#include "upstream/upstream_int.h"

enum {
	LITTLE =
		4096, /* so much of a body that goes on is copied out of its 48 KiB chunk, else it would pin that */
	MANY_PIECES = 16,
	PIECES = 32,
	COUNT_FIELDS = 120
};

static void release(struct h1_origin *h)
{
	chain_clear(&h->out);
	chunk_unref(h->buf);
	chunk_unref(h->small);
	h->buf = h->small = NULL;
	h->head = NULL;
}

static void fini(struct origin *o)
{
	release(&o->h1);
}

/* The attempt is over and so is the connection. */
static void broken(struct origin *o, enum failure_kind kind, const char *text)
{
	struct ucall *c = o->call;
	o->call = NULL;
	c->o = NULL;
	pool_close(o);
	call_on_broken(c, kind, text);
}

static void leave(struct origin *o)
{
	struct ucall *c = o->call;
	o->call = NULL;
	c->o = NULL;
	pool_close(o);
}

/* ---- the request */

static const struct h1_limits *limits(const struct origin *o)
{
	return &o->call->pub.cluster->limits;
}

static struct h1_out request_form(const struct ucall *c)
{
	const struct call_request *rq = &c->rq;
	struct h1_out out = {0};
	if (rq->upgrade.p) {
		out.upgrade = rq->upgrade;
		out.framing = rq->length > 0 ? H1_LENGTH
					     : H1_NO_BODY; /* what else comes waits for the 101 */
	} else if (rq->ended) {
		out.framing = H1_NO_BODY;
	} else {
		out.framing = rq->length >= 0 ? H1_LENGTH : H1_CHUNKED;
	}
	if (out.framing == H1_LENGTH || (rq->ended && rq->length >= 0)) {
		out.length_known = true;
		out.length = rq->ended ? 0 : (uint64_t)rq->length;
	}
	out.te_trailers = head_has(rq->head, FIELD_TE) &&
			  list_has(head_value(rq->head, FIELD_TE), STR("trailers"));
	out.trailers =
		out.framing == H1_CHUNKED && rq->trailers_ok && c->pub.cluster->enable_trailers;
	return out;
}

/* The owner's head with our x-envoy-attempt-count instead of any other. NULL: no memory. */
static const struct head *counted(const struct ucall *c, struct head *copy, struct field *few,
				  char *digits)
{
	const struct head *h = c->rq.head;
	struct field *f =
		h->n < COUNT_FIELDS ? few : arena_alloc(c->rq.arena, (h->n + 1u) * sizeof *f);
	if (!f)
		return NULL;
	*copy = *h;
	copy->f = f;
	copy->n = 0;
	for (unsigned i = 0; i < h->n; i++)
		if (h->f[i].id != FIELD_X_ENVOY_ATTEMPT_COUNT)
			f[copy->n++] = h->f[i];
	unsigned n = c->pub.attempts, k = 12;
	do
		digits[--k] = (char)('0' + n % 10);
	while (n /= 10);
	const struct name_info *name = &name_infos[FIELD_X_ENVOY_ATTEMPT_COUNT];
	f[copy->n++] = (struct field){.name_p = name->name,
				      .name_n = name->n,
				      .value_p = digits + k,
				      .value_n = 12 - k,
				      .id = FIELD_X_ENVOY_ATTEMPT_COUNT};
	return copy;
}

/* Trailers as they may go out, NULL: none. */
static const struct head *trailers_of(const struct ucall *c)
{
	return c->rq.trailers_ok && c->pub.cluster->enable_trailers ? c->trailers : NULL;
}

/* More, or less, than was announced must never go out: the origin would take one request for
 * two. */
static bool length_kept(struct origin *o)
{
	const struct ucall *c = o->call;
	const struct h1_origin *h = &o->h1;
	if (h->framing != H1_LENGTH)
		return true;
	if ((c->body.n && h->left == 0 && !c->rq.upgrade.p) ||
	    (c->all && c->body.n == 0 && h->left)) {
		broken(o, FAILED_CLIENT_PROTOCOL,
		       "request body does not have the announced length");
		return false;
	}
	return true;
}

static bool little_copied(struct chain *dst, struct chain *src)
{
	if (!chain_copy(dst, src->first->p, src->first->n))
		return false;
	chain_skip(src, src->first->n);
	return true;
}

/* n bytes of src behind dst; little ones are copied, so that they do not pin the chunks they
 * came in. */
static bool pass_on(struct chain *dst, struct chain *src, size_t n)
{
	if (n > 1024 || n < src->n)
		return chain_split(dst, src, n);
	while (src->n)
		if (!little_copied(dst, src))
			return false;
	return true;
}

/* c->body into h->out, framed. False: o is gone. */
static bool frame(struct origin *o)
{
	struct ucall *c = o->call;
	struct h1_origin *h = &o->h1;
	char line[24];
	bool ok = true;
	switch (h->framing) {
	case H1_LENGTH: {
		size_t n = c->body.n < h->left ? c->body.n : (size_t)h->left;
		if (n) {
			ok = pass_on(&h->out, &c->body, n);
			h->left -= n;
		}
		if (ok && !length_kept(o))
			return false;
		h->end_framed = h->left == 0;
		break;
	}
	case H1_CHUNKED:
		if (c->body.n) {
			ok = chain_copy(&h->out, line, h1_write_chunk_line(line, c->body.n)) &&
			     pass_on(&h->out, &c->body, c->body.n) &&
			     chain_copy(&h->out, "\r\n", 2);
		}
		if (ok && c->all && !h->end_framed) {
			const struct head *t = trailers_of(c);
			struct h1_out none = {0};
			char *last =
				t ? arena_alloc(c->rq.arena, h1_head_size(t, &none) + 8) : line;
			ok = last && chain_copy(&h->out, last, h1_write_last_chunk(last, t));
			h->end_framed = true;
		}
		break;
	case H1_TUNNEL:
		if (c->body.n)
			ok = pass_on(&h->out, &c->body, c->body.n);
		break;
	default: break;
	}
	if (!ok)
		broken(o, FAILED_MEMORY, NULL);
	return ok;
}

/* Writing is over; reading tells what the origin had to say before it went, and that it did. */
static void write_failed(struct origin *o)
{
	struct h1_origin *h = &o->h1;
	h->deaf = h->closing = h->more = true;
	chain_clear(&h->out);
	chain_clear(&o->call->body);
	later(o->u->loop, PHASE_AGAIN, &o->again);
}

/* All that was framed has gone. */
static void flushed(struct origin *o, bool tell)
{
	struct ucall *c = o->call;
	struct h1_origin *h = &o->h1;
	if (h->end_framed && !c->sent)
		call_on_sent(c, 0, true);
	if (h->framing == H1_TUNNEL && c->all && c->body.n == 0)
		conn_shutdown(&o->conn);
	if (tell)
		call_on_room(c);
}

/* tell: not from inside a call_… function. */
static void flush(struct origin *o, bool tell)
{
	struct h1_origin *h = &o->h1;
	size_t written = 0;
	while (h->out.n) {
		struct iovec iov[PIECES];
		size_t bytes;
		int n = chain_iov(&h->out, iov, PIECES, &bytes);
		ssize_t took = conn_write(&o->conn, iov, n);
		if (took == CONN_AGAIN)
			return;
		if (took < 0) {
			write_failed(o);
			return;
		}
		chain_skip(&h->out, (size_t)took);
		call_on_sent(o->call, (size_t)took, false);
		written += (size_t)took;
		if (h->out.n && o->conn.blocked)
			break;
		if (h->out.n && written >= LIMIT_WRITE) { /* others first */
			later(o->u->loop, PHASE_AGAIN, &o->again);
			break;
		}
	}
	if (h->out.n == 0)
		flushed(o, tell);
	else if (tell)
		call_on_room(o->call);
}

/* What of the body is there, behind the head in the same chunk, when it is little. */
static size_t copy_behind(struct origin *o, char *at, const struct head *trailers)
{
	struct ucall *c = o->call;
	struct h1_origin *h = &o->h1;
	size_t n = c->body.n, put = 0;
	if (h->framing == H1_LENGTH) {
		if (n > h->left)
			n = (size_t)h->left;
		chain_read(&c->body, 0, at, n);
		chain_skip(&c->body, n);
		h->left -= n;
		h->end_framed = h->left == 0;
		return n;
	}
	if (n) {
		put = h1_write_chunk_line(at, n);
		chain_read(&c->body, 0, at + put, n);
		chain_skip(&c->body, n);
		put += n;
		memcpy(at + put, "\r\n", 2);
		put += 2;
	}
	if (c->all) {
		put += h1_write_last_chunk(at + put, trailers);
		h->end_framed = true;
	}
	return put;
}

static void send_chunk(struct origin *o, struct chunk *k, bool tell)
{
	struct h1_origin *h = &o->h1;
	struct iovec iov = {k->data, k->fill};
	if (o->call->body.n == 0 || h->framing == H1_NO_BODY) { /* one piece: nothing to gather */
		ssize_t took = conn_write(&o->conn, &iov, 1);
		if (took < 0 && took != CONN_AGAIN) {
			write_failed(o);
			return;
		}
		size_t n = took > 0 ? (size_t)took : 0;
		if (n)
			call_on_sent(o->call, n, n == k->fill && h->end_framed);
		if (n == k->fill)
			flushed(o, tell);
		else if (!chain_append(&h->out, k, k->data + n, k->fill - n))
			broken(o, FAILED_MEMORY, NULL);
		else if (!o->conn.blocked)
			later(o->u->loop, PHASE_AGAIN, &o->again);
		return;
	}
	if (!chain_append(&h->out, k, k->data, k->fill))
		broken(o, FAILED_MEMORY, NULL);
	else if (frame(o))
		flush(o, tell);
}

/* A request without a body goes to a plain socket from here: no chunk is taken. False: not this
 * one. */
static bool send_whole(struct origin *o, const struct head *head, const struct h1_out *out,
		       bool tell)
{
	static _Thread_local char text[CHUNK_SMALL];
	struct h1_origin *h = &o->h1;
	size_t n = out->framing == H1_NO_BODY && head && !conn_is_tls(&o->conn)
			   ? h1_write_request_in(text, sizeof text, head, out)
			   : 0;
	if (!n)
		return false;
	ssize_t took = conn_write(&o->conn, &(struct iovec){text, n}, 1);
	if (__builtin_expect(took == (ssize_t)n, 1)) {
		call_on_sent(o->call, n, true);
		flushed(o, tell);
		return true;
	}
	if (took < 0 && took != CONN_AGAIN) {
		write_failed(o);
		return true;
	}
	size_t gone = took > 0 ? (size_t)took : 0;
	if (gone)
		call_on_sent(o->call, gone, false);
	if (!chain_copy(&h->out, text + gone, n - gone))
		broken(o, FAILED_MEMORY, NULL);
	else if (!o->conn.blocked)
		later(o->u->loop, PHASE_AGAIN, &o->again);
	return true;
}

static void write_this(struct origin *o, const struct head *head, bool tell)
{
	struct ucall *c = o->call;
	struct h1_origin *h = &o->h1;
	struct h1_out out = request_form(c), none = {0};
	const struct head *trailers = trailers_of(c);
	h->framing = (uint8_t)out.framing;
	h->left = out.framing == H1_LENGTH ? out.length : 0;
	h->end_framed = out.framing == H1_NO_BODY || (out.framing == H1_LENGTH && !h->left);
	h->head_written = true;
	c->pub.first_byte_us = loop_now_us(o->u->loop);
	if (send_whole(o, head, &out, tell))
		return;
	bool behind = out.framing != H1_NO_BODY && c->body.n <= LIMIT_COPY_BEHIND_HEAD &&
		      (c->body.n || c->all);
	size_t room = head ? h1_head_size(head, &out) : 0;
	if (behind)
		room += c->body.n + 64 + (trailers ? h1_head_size(trailers, &none) : 0);
	struct chunk *k = head && room < UINT32_MAX / 2
				  ? chunk_new(room <= CHUNK_SMALL   ? CHUNK_SMALL
					      : room <= CHUNK_LARGE ? CHUNK_LARGE
								    : (uint32_t)room)
				  : NULL;
	if (!k) {
		broken(o, FAILED_MEMORY, NULL);
		return;
	}
	size_t n = h1_write_request(k->data, head, &out);
	if (behind)
		n += copy_behind(o, k->data + n, trailers);
	must(n <= k->cap);
	k->fill = (uint32_t)n;
	if (!behind || length_kept(o))
		send_chunk(o, k, tell);
	chunk_unref(k);
}

static __attribute__((noinline)) void write_counted(struct origin *o, bool tell)
{
	struct field few[COUNT_FIELDS];
	struct head copy;
	char digits[12];
	write_this(o, counted(o->call, &copy, few, digits), tell);
}

static void write_head(struct origin *o, bool tell)
{
	if (o->call->rq.attempt_count)
		write_counted(o, tell);
	else
		write_this(o, o->call->rq.head, tell);
}

static void start(struct origin *o, bool now)
{
	struct h1_origin *h = &o->h1;
	release(h);
	memset(h, 0, offsetof(struct h1_origin, parse));
	if (now)
		write_head(o, false);
	else
		later(o->u->loop, PHASE_WRITE, &o->write);
}

static void push(struct origin *o)
{
	struct h1_origin *h = &o->h1;
	if (h->deaf) {
		chain_clear(&o->call->body);
	} else if (!h->head_written) {
		task_drop(o->u->loop, &o->write);
		write_head(o, false);
	} else if (frame(o) && !o->conn.blocked && !task_scheduled(&o->again)) {
		flush(o, false);
	}
}

static void on_write(struct origin *o)
{
	struct h1_origin *h = &o->h1;
	if (!h->head_written)
		write_head(o, true);
	else if (!h->deaf && frame(o))
		flush(o, true);
}

static void writable(struct origin *o)
{
	later(o->u->loop, PHASE_WRITE, &o->write);
}

/* ---- the answer */

/* The answer is complete. */
static void finish(struct origin *o)
{
	struct ucall *c = o->call;
	struct h1_origin *h = &o->h1;
	bool reusable = !h->closing && !h->deaf && c->sent && h->out.n == 0 &&
			!o->conn.read_ended && !o->conn.blocked;
	if (reusable && (h->more || conn_is_tls(&o->conn)))
		reusable = !conn_pending(&o->conn) && (!h->more || conn_idle_ok(&o->conn));
	if (h->body.trailers && h->body.trailers->n)
		c->pub.trailers = h->body.trailers;
	if (task_scheduled(&o->again))
		task_drop(o->u->loop, &o->again);
	if (task_scheduled(&o->write))
		task_drop(o->u->loop, &o->write);
	uint64_t idle_us = h->idle_us;
	release(h);
	o->call = NULL;
	c->o = NULL;
	if (reusable)
		conn_resume(&o->conn);
	call_on_end(c);
	pool_done(o, reusable, idle_us);
}

/* robustness.md 4: never longer than the origin's own time less a second. False: not even that
 * long. */
static bool keep_alive_time(struct h1_origin *h, const struct head *head)
{
	if (!head_has(head, FIELD_KEEP_ALIVE))
		return true;
	struct str rest = head_value(head, FIELD_KEEP_ALIVE), item, name, value;
	while (rest.n) {
		uint64_t s;
		str_cut(rest, ',', &item, &rest);
		if (!str_cut(item, '=', &name, &value) ||
		    !str_ieq(str_trim(name), STR("timeout")) || !str_u64(str_trim(value), &s))
			continue;
		if (s <= 1)
			return false;
		h->idle_us = s > 86400 ? 86400000000ull : (s - 1) * 1000000;
	}
	return true;
}

static bool upgrade_granted(const struct origin *o, const struct head *head)
{
	const struct str want = o->call->rq.upgrade;
	return want.p && o->h1.parse.upgrade && list_has(head_value(head, FIELD_UPGRADE), want);
}

/* The final head is complete and used bytes long. False: o is gone. */
static bool final_head(struct origin *o, size_t used)
{
	struct ucall *c = o->call;
	struct h1_origin *h = &o->h1;
	struct call *p = &c->pub;
	struct head *head = h->head;
	enum h1_framing framing = h1_response_framing(&h->parse, head, c->rq.head->method);
	if (head->status == 101 && !upgrade_granted(o, head)) {
		broken(o, FAILED_PROTOCOL, "101 without our Upgrade");
		return false;
	}
	h->closing |= h->parse.close || framing == H1_UNTIL_CLOSE || framing == H1_TUNNEL ||
		      !keep_alive_time(h, head);
	struct head *trailers = NULL;
	if (framing == H1_CHUNKED && p->cluster->enable_trailers) {
		trailers = arena_alloc(c->rq.arena, sizeof *trailers);
		if (!trailers || !head_init(trailers, c->rq.arena, true, 4)) {
			broken(o, FAILED_MEMORY, NULL);
			return false;
		}
	}
	h1_body_init(&h->body, framing, h->parse.length, trailers);
	h->reading_body = true;
	h->head_at += (uint32_t)used;
	p->head = head;
	p->head_chunk = chunk_ref(h->buf);
	p->tunnel = framing == H1_TUNNEL;
	p->length = h->parse.has_length ? (int64_t)h->parse.length : head->status == 204 ? 0 : -1;
	call_on_head(c);
	if (p->tunnel) {
		h->framing = H1_TUNNEL;
		if (c->body.n || c->all)
			later(o->u->loop, PHASE_WRITE, &o->write);
	} else if (!c->sent) {
		/* answered before it was asked: what is left of the question is not sent */
		h->deaf = h->closing = true;
		chain_clear(&h->out);
		task_drop(o->u->loop, &o->write);
	}
	return true;
}

/* An interim head: for the owner, or dropped. False: o is gone. */
static bool interim_head(struct origin *o, size_t used)
{
	struct ucall *c = o->call;
	struct h1_origin *h = &o->h1;
	h->interims++;
	h->interim_bytes += (unsigned)used;
	if (h->interims > c->rq.model->options.max_interim ||
	    h->interim_bytes > LIMIT_INTERIM_BYTES) {
		broken(o, FAILED_PROTOCOL, "too many interim answers");
		return false;
	}
	bool wanted = h->head->status == 100 ? c->rq.keep_interim : !c->rq.no_interim;
	if (wanted) {
		struct interim *i = arena_alloc(c->rq.arena, sizeof *i), **end = &c->pub.interim;
		char *copy = arena_alloc(c->rq.arena, used);
		if (!i || !copy) {
			broken(o, FAILED_MEMORY, NULL);
			return false;
		}
		const char *from = h->buf->data + h->head_at;
		memcpy(copy, from, used);
		h1_moved(h->head, from, used, copy);
		*i = (struct interim){NULL, h->head};
		while (*end)
			end = &(*end)->next;
		*end = i;
		h->told = true;
	}
	h->head = NULL;
	h->head_at += (uint32_t)used;
	return true;
}

static bool next_head(struct origin *o)
{
	struct h1_origin *h = &o->h1;
	struct arena *a = o->call->rq.arena;
	memset(&h->parse, 0, sizeof h->parse);
	h->head = arena_alloc(a, sizeof *h->head);
	if (h->head && head_init(h->head, a, true, 24))
		return true;
	broken(o, FAILED_MEMORY, NULL);
	return false;
}

/* Heads in buf. False: o is gone. True: more is needed, or the final one is complete. */
static bool take_heads(struct origin *o)
{
	struct h1_origin *h = &o->h1;
	while (!h->reading_body && h->head_at < h->buf->fill) {
		size_t used = 0;
		if (!h->head && !next_head(o))
			return false;
		enum h1_verdict v =
			h1_parse_response(&h->parse, limits(o), h->buf->data + h->head_at,
					  h->buf->fill - h->head_at, h->head, &used);
		if (v == H1_MORE)
			return true;
		if (v == H1_BAD) {
			broken(o, o->call->rq.arena->over ? FAILED_MEMORY : FAILED_PROTOCOL,
			       h->parse.detail);
			return false;
		}
		unsigned status = h->head->status;
		if (!(status < 200 && status != 101 ? interim_head(o, used) : final_head(o, used)))
			return false;
	}
	return true;
}

/* The head's bytes move out of the chunk it was read into: the answer goes on for who knows how
 * long, and would keep 48 KiB. */
static void settle_head(struct ucall *c, const char *from, size_t n)
{
	char *copy = arena_alloc(c->rq.arena, n);
	if (!copy)
		return; /* then it stays */
	memcpy(copy, from, n);
	h1_moved(c->pub.head, from, n, copy);
	chunk_unref(c->pub.head_chunk);
	c->pub.head_chunk = NULL;
}

/* Little pieces gather in chunks of a size that fits them. */
static bool gather_little(struct origin *o, struct chain *to, struct chain *got)
{
	struct h1_origin *h = &o->h1;
	while (got->n) {
		struct chunk *k = h->small;
		if (k && k->refs == 1)
			k->fill = 0;
		if (!k || k->cap - k->fill < got->n) {
			chunk_unref(k);
			k = h->small = chunk_new(got->n <= 512 ? 1024 : CHUNK_SMALL);
			if (!k)
				return false;
		}
		const struct piece *q = got->first;
		memcpy(k->data + k->fill, q->p, q->n);
		if (!chain_append(to, k, k->data + k->fill, q->n))
			return false;
		k->fill += (uint32_t)q->n;
		chain_skip(got, q->n);
	}
	return true;
}

static bool is_scattered(const struct chain *c)
{
	unsigned n = 0;
	for (const struct piece *q = c->first; q && n <= MANY_PIECES; q = q->next)
		n++;
	return n > MANY_PIECES;
}

/* Chunked: many slices. *n: what lies behind the body's end. */
static enum h1_verdict unchunk(struct origin *o, struct chunk *k, const char *p, size_t *n,
			       struct chain *got, bool *ok)
{
	struct h1_origin *h = &o->h1;
	enum h1_verdict v = H1_MORE;
	while (*n && !h->body.ended && v != H1_BAD && *ok) {
		size_t used = 0;
		struct str data = {NULL, 0};
		v = h1_body_feed(&h->body, limits(o), p, *n, &used, &data);
		*ok = chain_append(got, k, data.p, data.n);
		p += used;
		*n -= used;
	}
	if (*ok && is_scattered(got)) {
		struct str flat;
		*ok = chain_flat(got, &flat);
	}
	return v;
}

/* Body bytes [p, p + n) of k, n > 0. False: o is gone. */
static bool take_body(struct origin *o, struct chunk *k, const char *p, size_t n)
{
	struct ucall *c = o->call;
	struct h1_origin *h = &o->h1;
	struct chain got = {0}, *in = &c->pub.in;
	enum h1_verdict v;
	bool ok = true;
	if (h->body.framing == H1_CHUNKED) {
		v = unchunk(o, k, p, &n, &got, &ok);
	} else {
		size_t used = 0;
		struct str data = {NULL, 0};
		v = h1_body_feed(&h->body, limits(o), p, n, &used, &data);
		n -= used;
		/* What is all there goes as it is; so does what is worth its chunk. */
		ok = chain_append(h->body.ended && !c->repeat ? in : &got, k, data.p, data.n);
	}
	h->closing |= n > 0;
	if (got.n) {
		if (c->repeat)
			chain_clear(&got);
		else if (ok && !h->body.ended && got.n <= LITTLE)
			ok = gather_little(o, in, &got);
		chain_move(in, &got);
	}
	if (__builtin_expect(ok && v != H1_BAD, 1))
		return true;
	broken(o, ok ? FAILED_PROTOCOL : FAILED_MEMORY, ok ? h->body.detail : NULL);
	return false;
}

/* The peer has ended its side, or the connection is lost. */
static void ended(struct origin *o, bool lost)
{
	struct h1_origin *h = &o->h1;
	struct ucall *c = o->call;
	const char *text = lost ? o->conn.failure.step : NULL;
	lost |= o->conn.write_failed; /* reset: send has taken the news, and recv says 0 then */
	if (!h->reading_body || lost || o->conn.cut) {
		broken(o, FAILED_TERMINATED, text);
	} else if (h->body.framing == H1_UNTIL_CLOSE) {
		h->body.ended = true;
		finish(o);
	} else if (h->body.framing == H1_TUNNEL) {
		call_on_fin(c);
	} else {
		broken(o, FAILED_TERMINATED, "the body ended early");
	}
}

/* Room for more of a head. False: o is gone. */
static bool head_room(struct origin *o)
{
	struct h1_origin *h = &o->h1;
	struct chunk *k = h->buf;
	if (k && k->fill < k->cap)
		return true;
	uint32_t used = k ? k->fill - h->head_at : 0, most = limits(o)->head + 1;
	uint32_t cap = used < CHUNK_LARGE / 2 ? CHUNK_LARGE : used * 2 < most ? used * 2 : most;
	struct chunk *more = cap > used ? chunk_new(cap) : NULL;
	if (!more) {
		broken(o, cap > used ? FAILED_MEMORY : FAILED_PROTOCOL, "http1.too_large");
		return false;
	}
	if (k) {
		memcpy(more->data, k->data + h->head_at, used);
		if (h->head)
			h1_moved(h->head, k->data + h->head_at, used, more->data);
		chunk_unref(k);
	}
	more->fill = used;
	h->buf = more;
	h->head_at = 0;
	return true;
}

/* What came at the end of buf, the head not having been complete before. False: o is gone. */
static bool took_head_bytes(struct origin *o)
{
	struct h1_origin *h = &o->h1;
	struct ucall *c = o->call;
	if (!take_heads(o))
		return false;
	if (!h->reading_body) {
		if (h->head_at == h->buf->fill) { /* interim ones only: nothing of it is needed */
			chunk_unref(h->buf);
			h->buf = NULL;
			h->head_at = 0;
		}
		return true;
	}
	struct chunk *k = h->buf; /* this reference is ours now */
	h->buf = NULL;
	const char *from = k->data + h->head_at;
	size_t head = c->pub.head->bytes;
	bool alive = true;
	if (h->head_at < k->fill) {
		if (h->body.ended)
			h->closing = true; /* more than the whole answer */
		else
			alive = take_body(o, k, from, k->fill - h->head_at);
	}
	if (alive && !h->body.ended && !c->repeat)
		settle_head(c, from - head, head);
	chunk_unref(k);
	return alive;
}

static bool took_body_bytes(struct origin *o, struct chunk *k, size_t n)
{
	k->fill = (uint32_t)n;
	return take_body(o, k, k->data, n);
}

/* For what is still wanted of a limited answer: held by many exchanges for long, so no more than
 * that. */
static uint32_t body_chunk(const struct ucall *c)
{
	size_t left = c->limit - c->pub.in.n;
	return left >= CHUNK_LARGE   ? CHUNK_LARGE
	       : left <= CHUNK_SMALL ? CHUNK_SMALL
				     : (uint32_t)left;
}

/* A pipe for what comes next, when the owner of a long plain body will not look at it; NULL: it
 * is copied. */
static struct chunk *pipe_for(const struct origin *o)
{
	const struct h1_origin *h = &o->h1;
	const struct ucall *c = o->call;
	if (!c->splice || c->limited || c->repeat || h->body.framing != H1_LENGTH ||
	    h->body.left < LIMIT_SPLICE_TAIL || conn_is_tls(&o->conn) || !chain_empty(&c->pub.in))
		return NULL;
	return pipe_new();
}

/* One splice. As the part of read_some that reads. */
static ssize_t read_pipe(struct origin *o, struct chunk *pipe, bool *alive)
{
	struct h1_origin *h = &o->h1;
	size_t most = h->body.left < PIPE_BYTES ? (size_t)h->body.left : PIPE_BYTES;
	ssize_t n = conn_read_pipe(&o->conn, pipe_write_end(pipe), most);
	if (n <= 0)
		return n;
	h1_body_passed(&h->body, (uint64_t)n);
	/* a pipe is full by its pieces, not by its bytes: a short read tells nothing, and the
	 * next event comes by itself */
	h->more = false;
	*alive = chain_append_pipe(&o->call->pub.in, pipe, (size_t)n);
	if (!*alive)
		broken(o, FAILED_MEMORY, NULL);
	return n;
}

/* Exactly one read. */
static void read_some(struct origin *o)
{
	struct h1_origin *h = &o->h1;
	struct ucall *c = o->call;
	bool body = h->reading_body;
	h->more = false;
	if (body && !call_wants(c)) {
		h->stopped = true;
		conn_pause(&o->conn);
		return;
	}
	if (!body && !head_room(o))
		return;
	struct chunk *pipe = body ? pipe_for(o) : NULL;
	struct chunk *k = pipe   ? pipe
			  : body ? chunk_new(c->limited ? body_chunk(c) : CHUNK_LARGE)
				 : h->buf;
	if (!k) {
		broken(o, FAILED_MEMORY, NULL);
		return;
	}
	bool alive = true, told = false;
	size_t space = k->cap - k->fill;
	if (body && c->limited && space > c->limit - c->pub.in.n)
		space = c->limit - c->pub.in.n;
	ssize_t n =
		pipe ? read_pipe(o, pipe, &alive) : conn_read(&o->conn, k->data + k->fill, space);
	if (n > 0) {
		c->heard = true;
		if (c->due[DUE_IDLE])
			c->moved_us = loop_now_us(o->u->loop);
		c->pub.bytes_received += (uint64_t)n;
		if (!pipe) {
			h->more = (size_t)n == space ||
				  (conn_is_tls(&o->conn) && conn_pending(&o->conn));
			if (!body)
				k->fill += (uint32_t)n;
			alive = body ? took_body_bytes(o, k, (size_t)n) : took_head_bytes(o);
		}
		told = alive && (c->pub.has_head || h->told);
	}
	if (body)
		chunk_unref(k);
	if (!alive || n == CONN_AGAIN)
		return;
	if (n <= 0) {
		ended(o, n < 0);
		return;
	}
	if (h->reading_body && h->body.ended) {
		finish(o);
		return;
	}
	if (c->repeat) { /* the rest of an answer that nobody will see is not waited for */
		leave(o);
		call_on_end(c);
		return;
	}
	if (h->more) {
		if (!h->reading_body || call_wants(c))
			later(o->u->loop, PHASE_AGAIN, &o->again);
		else
			h->stopped = true;
	}
	h->told = false;
	if (told)
		call_tell(c);
}

static void ready(struct origin *o)
{
	struct h1_origin *h = &o->h1;
	if (o->requests > 1 && (!h->head_written || o->taken_turn == o->u->turn)) {
		/* What epoll saw it saw before the request went out: it is not the answer
		 * (robustness.md I6). */
		broken(o, FAILED_TERMINATED, "the pooled connection was not idle");
	} else if (h->head_written && !o->call->started && !h->deaf) {
		broken(o, FAILED_TERMINATED, "the origin spoke before it was asked");
	} else if (h->head_written) {
		read_some(o);
	} /* else the request is written in this pass */
}

static void again(struct origin *o)
{
	struct h1_origin *h = &o->h1;
	if (h->out.n && !h->deaf)
		flush(o, true);
	if (o->call && h->more)
		read_some(o);
}

static void credit(struct origin *o)
{
	struct h1_origin *h = &o->h1;
	const struct ucall *c = o->call;
	if (!h->stopped || c->hold ||
	    (c->limited ? !call_wants(c) : c->pub.in.n > call_high(c) / 2))
		return;
	h->stopped = false;
	h->more = true;
	conn_resume(&o->conn);
	later(o->u->loop, PHASE_AGAIN, &o->again);
}

static bool detach(struct origin *o, uint64_t most)
{
	struct h1_origin *h = &o->h1;
	struct h1_body *b = &h->body;
	if (!h->reading_body || h->closing || b->framing == H1_UNTIL_CLOSE || b->trailer_bytes ||
	    (b->framing == H1_LENGTH && b->left > most))
		return false;
	b->trailers = NULL; /* what comes of them is dropped */
	b->arena = NULL;
	h->head = NULL;
	return true;
}

const struct origin_codec h1_origin_codec = {
	.start = start,
	.push = push,
	.credit = credit,
	.detach = detach,
	.leave = leave,
	.ready = ready,
	.writable = writable,
	.fini = fini,
	.write = on_write,
	.again = again,
};
