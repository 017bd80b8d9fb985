/* src/http/h1_write.c
 *
 * Heads as postern sends them (robustness.md I2): built from fields, framing computed. Room is either made by the
 * caller (h1_head_size) or looked at field by field (…_in), which costs less than summing up before.
 */
#include "http/h1.h"
#include "http/scan_int.h"

/* Start line, separators and computed fields: "HTTP/1.1 200 " and CRLF, "content-length: " with 20 digits,
 * "transfer-encoding: chunked", "connection: close, keep-alive, te, upgrade", "upgrade: ", "te: trailers". */
enum { FIXED = 256, PER_FIELD = 4 };
/* Of a start line, what is not a value of the head's: "HTTP/1.1 200 ", our own reason phrases, "
 * HTTP/1.1", "host: ", ends of lines. */
enum { START = 96 };

/* Bits of ids that are never written as they are. Trailer is there for those who announce one. */
static inline bool is_skipped(unsigned id)
{
	static const bool skipped[FIELD_IDS] = {
#define X(id, name, flags) [id] = ((flags) & (NAME_PSEUDO | NAME_HOP | NAME_FRAMING)) != 0,
		FIELD_NAMES(X)
#undef X
	};
	return skipped[id];
}

/* From so many bytes on memcpy is worth its call. */
enum { LONG = SCAN_SSE2 ? 160 : 17 };

/* memcpy, for what is short without its call. */
static inline char *put(char *out, const char *p, size_t n)
{
	if (n >= LONG)
		return (char *)memcpy(out, p, n) + n;
#if SCAN_SSE2
#define COPY(at) \
	_mm_storeu_si128((__m128i *)(out + (at)), _mm_loadu_si128((const __m128i *)(p + (at))))
	if (n >= 16) {
		size_t i = 0;
		for (; i + 32 <= n; i += 32) {
			COPY(i);
			COPY(i + 16);
		}
		if (n - i > 16)
			COPY(i);
		COPY(n - 16);
		return out + n;
	}
#undef COPY
#endif
	if (n >= 8) {
		memcpy(out, p, 8);
		memcpy(out + n - 8, p + n - 8, 8);
	} else if (n >= 4) {
		memcpy(out, p, 4);
		memcpy(out + n - 4, p + n - 4, 4);
	} else if (n) {
		out[0] = p[0];
		out[n / 2] = p[n / 2];
		out[n - 1] = p[n - 1];
	}
	return out + n;
}

#define PUT(out, lit) ((char *)memcpy((out), (lit), sizeof(lit) - 1) + sizeof(lit) - 1)

static inline bool pair_is(const char *p, const char *pair)
{
	return !memcmp(p, pair, 2);
}

/* As received: name, ": ", value. */
static inline bool is_line(const struct field *f)
{
	return f->value_p == f->name_p + f->name_n + 2 && pair_is(f->value_p - 2, ": ");
}

static inline const char *value_end(const struct field *f)
{
	return f->value_p + f->value_n;
}

static inline char *put_field(char *out, const struct field *f)
{
	out = put(out, f->name_p, f->name_n);
	out = PUT(out, ": ");
	out = put(out, f->value_p, f->value_n);
	return PUT(out, "\r\n");
}

static char *put_decimal(char *out, uint64_t n)
{
	char digits[20], *d = digits + sizeof digits;
	do
		*--d = (char)('0' + n % 10);
	while (n /= 10);
	return put(out, d, (size_t)(digits + sizeof digits - d));
}

size_t h1_head_size(const struct head *h, const struct h1_out *o)
{
	size_t n = FIXED + h->reason.n + o->upgrade.n;
	for (const struct field *f = h->f, *end = f + h->n; f < end; f++)
		n += (size_t)f->name_n + f->value_n + PER_FIELD;
	return n;
}

/* The options of one Connection field, comma between them. */
static char *put_option(char *out, bool *any, const char *word)
{
	out = *any ? PUT(out, ", ") : PUT(out, "connection: ");
	*any = true;
	return put(out, word, strlen(word));
}

/* In the case that the peer chose: some WebSocket clients compare it. */
static const char *upgrade_word(const struct head *h)
{
	return str_eq(head_value(h, FIELD_CONNECTION), STR("Upgrade")) ? "Upgrade" : "upgrade";
}

static char *put_framing(char *out, const struct head *h, const struct h1_out *o)
{
	bool any = false;
	/* RFC 9110 8.6, RFC 9112 6.1: 1xx and 204 carry neither. (A 204 that a script gave an empty body says so, as in Envoy: harmless, and
	 * recorded.) */
	bool bare = h->is_response && (h->status / 100 == 1 ||
				       (h->status == 204 && !(o->length_known && o->length == 0)));
	if (!bare && o->framing == H1_CHUNKED) {
		out = PUT(out, "transfer-encoding: chunked\r\n");
	} else if (!bare && o->length_known) {
		out = put_decimal(PUT(out, "content-length: "), o->length);
		out = PUT(out, "\r\n");
	}
	if (!o->close && !o->keep_alive && !o->te_trailers && !o->upgrade.p)
		return out;
	if (o->close)
		out = put_option(out, &any, "close");
	if (o->keep_alive && !o->close)
		out = put_option(out, &any, "keep-alive");
	if (o->te_trailers)
		out = put_option(out, &any, "te");
	if (o->upgrade.p)
		out = put_option(out, &any, upgrade_word(h));
	if (any)
		out = PUT(out, "\r\n");
	if (o->te_trailers)
		out = PUT(out, "te: trailers\r\n");
	if (o->upgrade.p) {
		out = put(PUT(out, "upgrade: "), o->upgrade.p, o->upgrade.n);
		out = PUT(out, "\r\n");
	}
	return out;
}

static inline bool is_written(const struct field *f, const struct h1_out *o)
{
	return !is_skipped(f->id) ||
	       (f->id == FIELD_TRAILER && o->trailers && o->framing == H1_CHUNKED);
}

/* NULL: a field does not fit below limit, behind which there is room for all else. Fields that lie in memory as they
 * are to be written, line behind line, are most of what is passed on: one copy takes them all. */
static char *put_fields(char *out, uintptr_t limit, const struct head *h, const struct h1_out *o)
{
	const struct field *f = h->f + h->pseudo, *end = h->f + h->n;
	while (f < end) {
		if (!is_written(f, o)) {
			f++;
			continue;
		}
		if (is_line(f)) {
			const char *from = f->name_p, *to = value_end(f);
			for (f++; f < end && f->name_p == to + 2 && is_line(f) &&
				  pair_is(to, "\r\n") && is_written(f, o);
			     f++)
				to = value_end(f);
			size_t n = (size_t)(to - from);
			if (limit - (uintptr_t)out < n + 2)
				return NULL;
			out = PUT(put(out, from, n), "\r\n");
		} else {
			if (limit - (uintptr_t)out < (size_t)f->name_n + f->value_n + PER_FIELD)
				return NULL;
			out = put_field(out, f++);
		}
	}
	out = put_framing(out, h, o);
	return PUT(out, "\r\n");
}

/* Where the fields must end so that what follows them has room; 0: not even the start line, with
 * start bytes of others, is sure to have. */
static uintptr_t fields_limit(const char *out, size_t room, size_t start, const struct h1_out *o)
{
	size_t behind = FIXED + o->upgrade.n;
	return room > behind && room - behind > START + start ? (uintptr_t)out + (room - behind)
							      : 0;
}

static inline __attribute__((always_inline)) size_t
put_request(char *out, uintptr_t limit, const struct head *h, const struct h1_out *o)
{
	struct str method = {"", 0}, path = method, authority = method;
	char *w = out;
	for (unsigned i = 0; i < h->pseudo; i++) {
		const struct field *f = &h->f[i];
		if (f->id == FIELD_METHOD)
			method = field_value(f);
		else if (f->id == FIELD_PATH)
			path = field_value(f);
		else if (f->id == FIELD_AUTHORITY)
			authority = field_value(f);
	}
	if (path.n == 0) /* CONNECT: authority form */
		path = authority;
	w = put(w, method.p, method.n);
	*w++ = ' ';
	w = put(w, path.p, path.n);
	w = PUT(w, " HTTP/1.1\r\nhost: ");
	w = put(w, authority.p, authority.n);
	w = PUT(w, "\r\n");
	w = put_fields(w, limit, h, o);
	return w ? (size_t)(w - out) : 0;
}

size_t h1_write_request(char *out, const struct head *h, const struct h1_out *o)
{
	return put_request(out, UINTPTR_MAX, h, o);
}

size_t h1_write_request_in(char *out, size_t room, const struct head *h, const struct h1_out *o)
{
	size_t start = 0;
	for (unsigned i = 0; i < h->pseudo; i++)
		start += h->f[i].value_n;
	uintptr_t limit = fields_limit(out, room, start, o);
	return limit ? put_request(out, limit, h, o) : 0;
}

static inline __attribute__((always_inline)) size_t
put_response(char *out, uintptr_t limit, const struct head *h, const struct h1_out *o)
{
	char *w = PUT(out, "HTTP/1.1 200 OK\r\n");
	if (h->status != 200 || h->reason.p) {
		unsigned s = h->status >= 100 && h->status <= 999 ? h->status : 500;
		struct str reason = h->reason.p ? h->reason : str_of(status_text(s));
		w = out + sizeof "HTTP/1.1 " - 1;
		*w++ = (char)('0' + s / 100);
		*w++ = (char)('0' + s / 10 % 10);
		*w++ = (char)('0' + s % 10);
		*w++ = ' ';
		w = put(w, reason.p, reason.n);
		w = PUT(w, "\r\n");
	}
	w = put_fields(w, limit, h, o);
	return w ? (size_t)(w - out) : 0;
}

size_t h1_write_response(char *out, const struct head *h, const struct h1_out *o)
{
	return put_response(out, UINTPTR_MAX, h, o);
}

size_t h1_write_response_in(char *out, size_t room, const struct head *h, const struct h1_out *o)
{
	uintptr_t limit = fields_limit(out, room, h->reason.n, o);
	return limit ? put_response(out, limit, h, o) : 0;
}

size_t h1_write_chunk_line(char *out, uint64_t n)
{
	static const char digits[] = "0123456789abcdef";
	unsigned shift = n ? (63u - (unsigned)__builtin_clzll(n)) & ~3u : 0;
	char *w = out;
	for (;; shift -= 4) {
		*w++ = digits[n >> shift & 15];
		if (shift == 0)
			break;
	}
	w = PUT(w, "\r\n");
	return (size_t)(w - out);
}

size_t h1_write_last_chunk(char *out, const struct head *trailers)
{
	char *w = PUT(out, "0\r\n");
	if (trailers)
		for (unsigned i = trailers->pseudo; i < trailers->n; i++)
			if (!is_skipped(trailers->f[i].id))
				w = put_field(w, &trailers->f[i]);
	w = PUT(w, "\r\n");
	return (size_t)(w - out);
}
