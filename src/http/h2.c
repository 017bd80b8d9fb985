/* src/http/h2.c */
#include "http/h2.h"
#include "base/mem.h"
#include "base/must.h"
#include <nghttp2/nghttp2.h>
#include <stdio.h>

static const char too_large[] = "http2.too_large";
static const char unread[] = "http2.unread_frames";
static const char violated[] = "http2.protocol_error";

enum { NV_ON_STACK = 64, FRAME_HEAD = 9 };

struct h2 {
	nghttp2_session *session;
	const struct h2_ops *ops;
	void *owner;
	struct h2_settings settings;
	struct chain *wire; /* while collecting */
	bool broken, in_head;
	bool settings_sent;
	struct h2_guard guard;
	const char *flooded; /* why the client has to go; NULL: it may stay */
	/* the field block being decoded */
	int32_t id;
	void *stream;
	struct head *head;
	struct head *trailers;
	size_t bytes;
	unsigned fields;
	bool too_large, malformed, regular, oom;
	struct str host;
};

static bool is_trailers(const nghttp2_frame *f)
{
	return f->headers.cat == NGHTTP2_HCAT_HEADERS;
}

static int begin_headers(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
	struct h2 *h = user;
	if (f->hd.type != NGHTTP2_HEADERS)
		return 0;
	h->id = f->hd.stream_id;
	h->bytes = h->fields = 0;
	h->too_large = h->malformed = h->regular = h->oom = false;
	h->host = (struct str){NULL, 0};
	h->trailers = NULL;
	h->in_head = true;
	if (is_trailers(f)) {
		h->stream = nghttp2_session_get_stream_user_data(s, h->id);
		return 0;
	}
	h->head = NULL;
	h2_guard_opened(&h->guard);
	h->stream = h->ops->opened(h->owner, h->id, &h->head);
	if (!h->stream) {
		nghttp2_submit_rst_stream(s, NGHTTP2_FLAG_NONE, h->id, NGHTTP2_REFUSED_STREAM);
		return 0;
	}
	nghttp2_session_set_stream_user_data(s, h->id, h->stream);
	return 0;
}

static bool path_bytes_ok(struct str v, struct str method)
{
	if (v.n == 0 || !(v.p[0] == '/' || (v.n == 1 && v.p[0] == '*' &&
					    (method.p == NULL || str_eq(method, STR("OPTIONS"))))))
		return false;
	for (size_t i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] < 0x21 || (unsigned char)v.p[i] > 0x7e || v.p[i] == '#')
			return false;
	return true;
}

/* cookie crumbs become one field, RFC 9113 8.2.3. */
static bool join_cookie(struct h2 *h, struct field *f, struct str v)
{
	struct str j =
		arena_printf(h->head->arena, "%.*s; %.*s", STR_ARG(field_value(f)), STR_ARG(v));
	if (!j.p)
		return false;
	f->value_p = j.p;
	f->value_n = (uint32_t)j.n;
	return true;
}

static void take_field(struct h2 *h, struct head *to, struct str name, struct str value)
{
	enum field_id id = name_id(name.p, name.n);
	if (id == FIELD_COOKIE && head_has(to, FIELD_COOKIE)) {
		h->oom |= !join_cookie(h, head_get(to, FIELD_COOKIE), value);
		return;
	}
	if (id == FIELD_HOST) {
		h->host = arena_str(to->arena, value);
		h->oom |= !h->host.p;
		return;
	}
	h->oom |= !head_add_copy(to, name, value);
}

static int got_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t nn,
		      const uint8_t *value, size_t vn, uint8_t flags, void *user)
{
	struct h2 *h = user;
	if (f->hd.type != NGHTTP2_HEADERS || !h->stream || h->malformed)
		return 0;
	struct str n = {(const char *)name, nn}, v = {(const char *)value, vn};
	h->bytes += nn + vn + 32;
	h->fields += nn == 0 || name[0] != ':';
	bool trailers = is_trailers(f);
	if (trailers
		    ? h->bytes > h->settings.trailer_bytes || h->fields > h->settings.trailer_fields
		    : h->bytes > h->settings.head_bytes || h->fields > h->settings.fields) {
		/* decoded for HPACK's sake, not kept; a block far beyond the limit ends the
		 * connection */
		h->too_large = true;
		if (h->bytes > 4 * (size_t)h->settings.head_bytes + 65536) {
			h->broken = true;
			h->flooded = too_large;
			nghttp2_session_terminate_session(s, NGHTTP2_ENHANCE_YOUR_CALM);
		}
		return 0;
	}
	if (h->too_large)
		return 0;
	for (size_t i = 0; i < vn; i++)
		h->malformed |= value[i] == 0 || value[i] == '\r' || value[i] == '\n' ||
				(value[i] < 0x20 && value[i] != '\t') || value[i] == 0x7f;
	if (vn &&
	    (value[0] == ' ' || value[0] == '\t' || value[vn - 1] == ' ' || value[vn - 1] == '\t'))
		h->malformed = true;
	for (size_t i = 0; i < nn; i++)
		h->malformed |= name[i] >= 'A' && name[i] <= 'Z';
	if (nn == 0 || (name[0] != ':' && !field_name_ok(n)))
		h->malformed = true;
	if (h->malformed)
		return 0;
	if (trailers) {
		if (!name_may_trail(n))
			return 0;
		if (!h->trailers) {
			struct arena *a = h->ops->arena(h->owner, h->stream);
			if (!a)
				return 0;
			h->trailers = arena_zalloc(a, sizeof *h->trailers);
			if (!h->trailers || !head_init(h->trailers, a, false, 4)) {
				h->trailers = NULL;
				h->oom = true;
				return 0;
			}
		}
		take_field(h, h->trailers, n, v);
		return 0;
	}
	take_field(h, h->head, n, v);
	return 0;
}

static int invalid_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name,
			  size_t nn, const uint8_t *value, size_t vn, uint8_t flags, void *user)
{
	((struct h2 *)user)->malformed = true;
	return 0;
}

/* What nghttp2 does not look at. Host stands in for a missing :authority. */
static bool head_ok(struct h2 *h)
{
	struct head *d = h->head;
	struct str method = head_value(d, FIELD_METHOD), path = head_value(d, FIELD_PATH),
		   authority = head_value(d, FIELD_AUTHORITY);
	if (!method.p || !field_name_ok(method))
		return false;
	if (head_has(d, FIELD_PROTOCOL))
		return false;
	if (d->method != METHOD_CONNECT && !path_bytes_ok(path, method))
		return false;
	if (authority.p && h->host.p && !str_ieq(authority, h->host))
		return false;
	if (!authority.p && h->host.p) {
		h->oom |= !head_add_id(d, FIELD_AUTHORITY, h->host);
		authority = h->host;
	}
	return authority.p && authority_ok(authority);
}

static void early_reset(struct h2 *h, void *stream, unsigned weight)
{
	const char *why = stream && !h->ops->early(h->owner, stream)
				  ? NULL
				  : h2_guard_early_reset(&h->guard, weight);
	if (why && !h->flooded)
		h->flooded = why;
}

/* Ours: what the client provoked counts double; an answer that is whole is no reset. */
static void reset_sent(struct h2 *h, void *stream, uint32_t code)
{
	if (code != NGHTTP2_NO_ERROR)
		early_reset(h, stream,
			    code == NGHTTP2_INTERNAL_ERROR || code == NGHTTP2_REFUSED_STREAM ? 1
											     : 2);
}

static int frame_received(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
	struct h2 *h = user;
	bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
	void *stream =
		f->hd.stream_id ? nghttp2_session_get_stream_user_data(s, f->hd.stream_id) : NULL;
	if (f->hd.type == NGHTTP2_HEADERS) {
		h->in_head = false;
		if (!stream || h->broken)
			return 0;
		if (h->oom) {
			nghttp2_submit_rst_stream(s, NGHTTP2_FLAG_NONE, f->hd.stream_id,
						  NGHTTP2_INTERNAL_ERROR);
			return 0;
		}
		if (h->malformed || (!is_trailers(f) && !h->too_large && !head_ok(h))) {
			nghttp2_submit_rst_stream(s, NGHTTP2_FLAG_NONE, f->hd.stream_id,
						  NGHTTP2_PROTOCOL_ERROR);
			return 0;
		}
		if (is_trailers(f)) {
			if (h->too_large)
				nghttp2_submit_rst_stream(s, NGHTTP2_FLAG_NONE, f->hd.stream_id,
							  NGHTTP2_ENHANCE_YOUR_CALM);
			else
				h->ops->ended(h->owner, stream, h->trailers);
			return 0;
		}
		h->head->bytes = h->bytes;
		h->ops->head(h->owner, stream, end, h->too_large);
		return 0;
	}
	if (f->hd.type == NGHTTP2_DATA && end && stream)
		h->ops->ended(h->owner, stream, NULL);
	/* one for a stream that has just ended costs nobody anything */
	if (f->hd.type == NGHTTP2_RST_STREAM && stream)
		early_reset(h, stream, 1);
	return 0;
}

static int begin_frame(nghttp2_session *s, const nghttp2_frame_hd *hd, void *user)
{
	struct h2 *h = user;
	if (hd->type == NGHTTP2_HEADERS)
		h->in_head = true;
	return 0;
}

static int data_received(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
			 void *user)
{
	struct h2 *h = user;
	void *stream = nghttp2_session_get_stream_user_data(s, id);
	if (stream)
		h->ops->data(h->owner, stream, (const char *)p, n);
	else
		nghttp2_session_consume(s, id, n);
	return 0;
}

static int stream_closed(nghttp2_session *s, int32_t id, uint32_t code, void *user)
{
	struct h2 *h = user;
	void *stream = nghttp2_session_get_stream_user_data(s, id);
	if (h->stream == stream)
		h->stream = NULL;
	if (stream) {
		nghttp2_session_set_stream_user_data(s, id, NULL);
		h->ops->closed(h->owner, stream, code);
	}
	return 0;
}

static int frame_sent(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
	struct h2 *h = user;
	if (f->hd.type == NGHTTP2_GOAWAY && f->goaway.error_code != NGHTTP2_NO_ERROR && !h->flooded)
		h->flooded = violated;
	if (f->hd.type == NGHTTP2_RST_STREAM)
		reset_sent(h, nghttp2_session_get_stream_user_data(s, f->hd.stream_id),
			   f->rst_stream.error_code);
	if ((f->hd.type == NGHTTP2_DATA || f->hd.type == NGHTTP2_HEADERS) &&
	    f->hd.flags & NGHTTP2_FLAG_END_STREAM) {
		void *stream = nghttp2_session_get_stream_user_data(s, f->hd.stream_id);
		if (stream)
			h->ops->sent(h->owner, stream);
	}
	return 0;
}

static nghttp2_nv nv(struct str name, struct str value)
{
	return (nghttp2_nv){(uint8_t *)(uintptr_t)name.p, (uint8_t *)(uintptr_t)value.p, name.n,
			    value.n, NGHTTP2_NV_FLAG_NONE};
}

/* Field names in lower case; framing and hop-by-hop fields left out. Returns the number, or -1:
 * no memory. */
static ssize_t to_nv(const struct head *d, nghttp2_nv *out, struct str length)
{
	size_t n = 0;
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < d->n; i++) {
			const struct field *f = &d->f[i];
			const struct name_info *info = &name_infos[f->id];
			bool pseudo = i < d->pseudo;
			if (pseudo != (pass == 0) || (pseudo && f->id != FIELD_STATUS))
				continue;
			if (!pseudo && info->flags & (NAME_HOP | NAME_FRAMING) &&
			    !(f->id == FIELD_CONTENT_LENGTH && !length.p))
				continue;
			struct str name = f->id ? (struct str){info->name, info->n} : field_name(f);
			if (!f->id) {
				bool upper = false;
				for (size_t k = 0; k < name.n; k++)
					upper |= name.p[k] >= 'A' && name.p[k] <= 'Z';
				if (upper) {
					char *low = arena_alloc(d->arena, name.n);
					if (!low)
						return -1;
					for (size_t k = 0; k < name.n; k++)
						low[k] = (char)(name.p[k] >= 'A' && name.p[k] <= 'Z'
									? name.p[k] | 32
									: name.p[k]);
					name.p = low;
				}
			}
			out[n++] = nv(name, field_value(f));
		}
	if (length.p && length.n)
		out[n++] = nv(STR("content-length"), length);
	return (ssize_t)n;
}

static ssize_t read_body(nghttp2_session *s, int32_t id, uint8_t *buf, size_t length,
			 uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct h2 *h = user;
	void *stream = nghttp2_session_get_stream_user_data(s, id);
	if (!stream)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	bool end = false;
	const struct head *trailers = NULL;
	size_t have = h->ops->available(h->owner, stream, &end, &trailers);
	if (have == 0 && !end)
		return NGHTTP2_ERR_DEFERRED;
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (have <= length && end) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (trailers && trailers->n) {
			nghttp2_nv *list =
				arena_alloc(trailers->arena, (trailers->n + 1u) * sizeof *list);
			ssize_t k = list ? to_nv(trailers, list, (struct str){"", 0}) : -1;
			if (k > 0 && nghttp2_submit_trailer(s, id, list, (size_t)k) == 0)
				*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
		}
	}
	return (ssize_t)(have < length ? have : length);
}

static int send_data(nghttp2_session *s, nghttp2_frame *f, const uint8_t *framehd, size_t length,
		     nghttp2_data_source *source, void *user)
{
	struct h2 *h = user;
	void *stream = nghttp2_session_get_stream_user_data(s, f->hd.stream_id);
	if (!stream || f->data.padlen)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (!chain_copy(h->wire, framehd, FRAME_HEAD) ||
	    !h->ops->take(h->owner, stream, length, h->wire))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	h2_guard_data_sent(&h->guard);
	return 0;
}

static void *h2_malloc(size_t n, void *u)
{
	return mem_alloc(MEM_CONN, n);
}
static void h2_mfree(void *p, void *u)
{
	mem_free(MEM_CONN, p);
}
static void *h2_calloc(size_t n, size_t size, void *u)
{
	if (size && n > SIZE_MAX / size)
		return NULL;
	return mem_zalloc(MEM_CONN, n * size);
}
static void *h2_realloc(void *p, size_t n, void *u)
{
	return mem_realloc(MEM_CONN, p, n);
}

static nghttp2_session_callbacks *make_callbacks(void)
{
	nghttp2_session_callbacks *cb;
	if (nghttp2_session_callbacks_new(&cb))
		return NULL;
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, got_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback(cb, invalid_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, frame_received);
	nghttp2_session_callbacks_set_on_begin_frame_callback(cb, begin_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, data_received);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, stream_closed);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, frame_sent);
	nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
	return cb;
}

struct h2 *h2_new(const struct h2_settings *st, const struct h2_ops *ops, void *owner)
{
	static nghttp2_mem mem = {NULL, h2_malloc, h2_mfree, h2_calloc, h2_realloc};
	struct h2 *h = mem_zalloc(MEM_CONN, sizeof *h);
	nghttp2_session_callbacks *cb = make_callbacks();
	nghttp2_option *o = NULL;
	bool ok = h && cb && nghttp2_option_new(&o) == 0;
	if (ok) {
		h->ops = ops;
		h->owner = owner;
		h->settings = *st;
		h2_guard_init(&h->guard);
		nghttp2_option_set_no_auto_window_update(o, 1);
		nghttp2_option_set_no_closed_streams(o, 1);
		nghttp2_option_set_max_send_header_block_length(o, 1 << 20);
		nghttp2_option_set_max_outbound_ack(o, 1000);
		nghttp2_option_set_max_settings(o, 32);
#if HAVE_NGHTTP2_MAX_CONTINUATIONS
		nghttp2_option_set_max_continuations(o, 8 + st->head_bytes / 1024);
#endif
		ok = nghttp2_session_server_new3(&h->session, cb, h, o, &mem) == 0;
	}
	if (o)
		nghttp2_option_del(o);
	if (cb)
		nghttp2_session_callbacks_del(cb);
	/* nghttp2 makes a connection error of a stream too many; RFC 9113 5.1.2 lets us refuse just that stream. So nghttp2 is told of no limit, the
	 * peer of ours (announce_limit), and opened() keeps it. */
	nghttp2_settings_entry iv[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, INT32_MAX},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, st->stream_window},
		{NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, st->header_table},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, st->head_bytes},
	};
	ok = ok &&
	     nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, iv, sizeof iv / sizeof *iv) ==
		     0 &&
	     nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
						   (int32_t)st->connection_window) == 0;
	if (ok)
		return h;
	if (h && h->session)
		nghttp2_session_del(h->session);
	mem_free(MEM_CONN, h);
	return NULL;
}

void h2_free(struct h2 *h)
{
	if (!h)
		return;
	nghttp2_session_del(h->session);
	mem_free(MEM_CONN, h);
}

/* GOAWAY is the last word, and nothing more is read. True: it is to be sent now. */
static bool end_flood(struct h2 *h)
{
	if (h->broken || !h->flooded)
		return false;
	nghttp2_session_terminate_session(h->session, NGHTTP2_ENHANCE_YOUR_CALM);
	h->broken = true;
	return true;
}

bool h2_feed(struct h2 *h, const char *p, size_t n, uint64_t now_us)
{
	ssize_t used = nghttp2_session_mem_recv(h->session, (const uint8_t *)p, n);
	if (used < 0 || (size_t)used != n)
		h->broken = true;
	/* behind nghttp2, so that the streams of these bytes are counted */
	const char *why = h2_guard_feed(&h->guard, &h->settings.guard, p, n, now_us);
	/* A peer that does not read makes us keep what it causes, RST_STREAM above all. */
	if (!why && nghttp2_session_get_outbound_queue_size(h->session) > h->settings.owed)
		why = unread;
	if (h->broken && !why)
		why = violated;
	if (why && !h->flooded)
		h->flooded = why;
	end_flood(h);
	return !h->broken;
}

const char *h2_detail(const struct h2 *h)
{
	return h->flooded;
}

/* The first frame is our SETTINGS, its first entry the limit of streams: a 9-byte frame head, a
 * 2-byte id, a 4-byte value. */
static void announce_limit(struct h2 *h, uint8_t *frame, size_t n)
{
	uint32_t v = h->settings.max_streams;
	must(n >= 15 && frame[3] == NGHTTP2_SETTINGS &&
	     frame[10] == NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	for (int i = 0; i < 4; i++)
		frame[11 + i] = (uint8_t)(v >> (24 - 8 * i));
	h->settings_sent = true;
}

bool h2_collect(struct h2 *h, struct chain *wire, size_t limit)
{
	h->wire = wire;
	while (wire->n < limit) {
		const uint8_t *p;
		ssize_t n = nghttp2_session_mem_send(h->session, &p);
		if (n < 0)
			return false;
		bool gone = end_flood(h); /* resets are counted as they leave */
		if (n == 0 && gone)
			continue;
		if (n == 0)
			break;
		if (!h->settings_sent) {
			uint8_t first[256];
			must((size_t)n <= sizeof first);
			memcpy(first, p, (size_t)n);
			announce_limit(h, first, (size_t)n);
			if (!chain_copy(wire, first, (size_t)n))
				return false;
			continue;
		}
		if (!chain_copy(wire, p, (size_t)n))
			return false;
	}
	return true;
}

bool h2_finished(const struct h2 *h)
{
	return !nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session);
}

bool h2_answer(struct h2 *h, int32_t id, const struct head *d, bool bodyless, int64_t length)
{
	char digits[24];
	struct str len = {NULL, 0};
	if (bodyless) {
		/* its own content-length tells what a GET would bring */
		len = (struct str){NULL, 0};
	} else if (length >= 0) {
		len = (struct str){
			digits, (size_t)snprintf(digits, sizeof digits, "%lld", (long long)length)};
	} else {
		len = (struct str){"", 0};
	}
	nghttp2_nv stack[NV_ON_STACK],
		*list = d->n + 1u <= NV_ON_STACK
				? stack
				: arena_alloc(d->arena, (d->n + 1u) * sizeof *list);
	if (!list)
		return false;
	ssize_t n = to_nv(d, list, len);
	if (n < 0)
		return false;
	nghttp2_data_provider prd = {.read_callback = read_body};
	return nghttp2_submit_response(h->session, id, list, (size_t)n, bodyless ? NULL : &prd) ==
	       0;
}

bool h2_interim(struct h2 *h, int32_t id, const struct head *d)
{
	nghttp2_nv *list = arena_alloc(d->arena, (d->n + 1u) * sizeof *list);
	ssize_t n = list ? to_nv(d, list, (struct str){"", 0}) : -1;
	return n > 0 && nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, id, NULL, list,
					       (size_t)n, NULL) == 0;
}

void h2_resume(struct h2 *h, int32_t id)
{
	nghttp2_session_resume_data(h->session, id); /* not deferred: nothing to resume */
}

void h2_consume(struct h2 *h, int32_t id, size_t n)
{
	nghttp2_session_consume(h->session, id, n);
}

void h2_reset(struct h2 *h, int32_t id, uint32_t code)
{
	nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id, code);
}

void h2_goaway(struct h2 *h, uint32_t code)
{
	nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
			      nghttp2_session_get_last_proc_stream_id(h->session), code, NULL, 0);
}

void h2_goaway_soon(struct h2 *h)
{
	nghttp2_submit_shutdown_notice(h->session);
}

bool h2_in_head(const struct h2 *h)
{
	return h->in_head;
}
