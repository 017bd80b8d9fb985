/* src/http/h1_chunked_test.h
 *
 * For h1_body_test and its fuzzer: chunked bodies decoded a second time, by recursive descent over the whole text,
 * and the decoder fed in pieces that end where they say.
 */
#pragma once
#include "base/must.h"
#include "http/h1.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

struct chunked {
	enum h1_verdict verdict;
	const char *detail;
	size_t used;           /* H1_BAD: the offending byte's offset */
	char *body, *trailers; /* trailers: "name: value\n" each */
	size_t body_n, trailers_n;
};

/* ---- the reference */

struct descent {
	const struct h1_limits *lim;
	const unsigned char *p;
	size_t n, at;
	unsigned line, ext, trailer, fields; /* counts for the limits */
	struct chunked *o;
};
enum { OVER = -1 }; /* no byte left */

static inline int peek(const struct descent *d)
{
	return d->at < d->n ? d->p[d->at] : OVER;
}
/* Both return false always, for the caller to return. */
static inline bool stop_bad(struct descent *d, const char *detail)
{
	if (d->at < d->n) {
		d->o->verdict = H1_BAD;
		d->o->detail = detail;
	}
	return false;
}
static inline bool is_tchar(int c)
{
	return c > 0 && c < 128 && (isalnum(c) || strchr("!#$%&'*+-.^_`|~", c));
}
static inline bool is_text(int c)
{
	return c == 9 || (c >= 32 && c != 127);
}
static inline bool take_ext(struct descent *d)
{
	d->ext++;
	if (++d->line > d->lim->chunk_line || d->ext > d->lim->chunk_ext)
		return stop_bad(d, "http1.too_large");
	d->at++;
	return true;
}
static inline bool take_blanks(struct descent *d, bool *any)
{
	while (peek(d) == ' ' || peek(d) == '\t') {
		*any = true;
		if (!take_ext(d))
			return false;
	}
	return true;
}
static inline bool take_tokens(struct descent *d)
{
	if (!is_tchar(peek(d)))
		return stop_bad(d, "http1.chunk");
	while (is_tchar(peek(d)))
		if (!take_ext(d))
			return false;
	return true;
}
static inline bool take_quoted(struct descent *d)
{
	if (!take_ext(d))
		return false;
	for (;;) {
		int c = peek(d);
		if (c == '"')
			return take_ext(d);
		if (c == '\\') {
			if (!take_ext(d))
				return false;
			c = peek(d);
		}
		if (!is_text(c))
			return stop_bad(d, "http1.chunk");
		if (!take_ext(d))
			return false;
	}
}
/* *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] ) */
static inline bool take_extensions(struct descent *d)
{
	for (;;) {
		bool any = false, ignored;
		if (!take_blanks(d, &any))
			return false;
		if (peek(d) != ';')
			return any ? stop_bad(d, "http1.chunk") : true;
		if (!take_ext(d) || !take_blanks(d, &ignored) || !take_tokens(d))
			return false;
		any = false;
		if (!take_blanks(d, &any))
			return false;
		if (peek(d) != '=') {
			if (any && peek(d) != ';')
				return stop_bad(d, "http1.chunk");
			continue;
		}
		if (!take_ext(d) || !take_blanks(d, &ignored))
			return false;
		if (peek(d) == '"' ? !take_quoted(d) : !take_tokens(d))
			return false;
	}
}
static inline bool take_line_end(struct descent *d, const char *detail)
{
	if (peek(d) != '\r')
		return stop_bad(d, detail);
	d->at++;
	if (peek(d) != '\n')
		return stop_bad(d, detail);
	d->at++;
	return true;
}

static inline bool take_size(struct descent *d, uint64_t *size)
{
	unsigned digits = 0;
	*size = 0;
	d->line = 0;
	while (peek(d) != OVER && isxdigit(peek(d))) {
		char z[2] = {(char)peek(d), 0};
		unsigned __int128 wide = (unsigned __int128)*size * 16 + strtoul(z, NULL, 16);
		if (++digits > 16 || wide > INT64_MAX)
			return stop_bad(d, "http1.chunk");
		*size = (uint64_t)wide;
		d->line++;
		d->at++;
	}
	if (!digits)
		return stop_bad(d, "http1.chunk");
	return take_extensions(d) && take_line_end(d, "http1.chunk");
}

static inline bool count_trailer(struct descent *d)
{
	return ++d->trailer > d->lim->trailer ? stop_bad(d, "http1.too_large") : true;
}

static inline bool may_come_late(const char *name)
{
	static const char *const late[] = {"connection",
					   "keep-alive",
					   "proxy-connection",
					   "transfer-encoding",
					   "content-length",
					   "upgrade",
					   "http2-settings",
					   "te",
					   "trailer",
					   "host",
					   "proxy-authenticate",
					   "proxy-authorization",
					   "authorization",
					   "www-authenticate",
					   "cookie",
					   "set-cookie",
					   "forwarded",
					   "via",
					   "x-request-id",
					   "x-forwarded-for",
					   "x-forwarded-proto",
					   "x-forwarded-host",
					   "x-forwarded-port",
					   "x-forwarded-client-cert",
					   "x-envoy-attempt-count",
					   "x-envoy-retry-on",
					   "x-envoy-max-retries",
					   "x-envoy-external-address",
					   "x-envoy-internal",
					   "x-envoy-upstream-rq-timeout-ms",
					   "x-envoy-upstream-rq-per-try-timeout-ms",
					   "x-envoy-expected-rq-timeout-ms",
					   "x-envoy-original-path",
					   "expect",
					   "max-forwards",
					   "content-encoding",
					   "content-type",
					   "content-range",
					   "content-location",
					   "cache-control",
					   "pragma",
					   "expires",
					   "age",
					   "date",
					   "location",
					   "vary",
					   "retry-after",
					   "range",
					   "if-match",
					   "if-none-match",
					   "if-modified-since",
					   "if-unmodified-since",
					   "if-range"};
	for (size_t i = 0; i < sizeof late / sizeof *late; i++)
		if (!strcasecmp(name, late[i]))
			return false;
	return true;
}

static inline bool take_trailers(struct descent *d)
{
	while (peek(d) != '\r') {
		size_t start = d->at, colon;
		if (!is_tchar(peek(d)))
			return stop_bad(d, "http1.trailer");
		while (is_tchar(peek(d))) {
			if (!count_trailer(d))
				return false;
			if (d->at == start && ++d->fields > d->lim->trailer_fields)
				return stop_bad(d, "http1.too_large");
			d->at++;
		}
		colon = d->at;
		if (peek(d) != ':')
			return stop_bad(d, "http1.trailer");
		do {
			if (!count_trailer(d))
				return false;
			d->at++;
		} while (is_text(peek(d)));
		size_t end = d->at;
		for (const char *c = "\r\n"; *c; c++) {
			if (peek(d) != *c)
				return stop_bad(d, "http1.trailer");
			if (!count_trailer(d))
				return false;
			d->at++;
		}
		char *line = strndup((const char *)d->p + start, end - start);
		must(line);
		line[colon - start] = 0;
		struct str v = str_trim((struct str){line + (colon - start) + 1, end - colon - 1});
		if (may_come_late(line)) {
			struct chunked *o = d->o;
			o->trailers = realloc(o->trailers, o->trailers_n + (end - start) + 8);
			must(o->trailers);
			o->trailers_n += (size_t)sprintf(o->trailers + o->trailers_n, "%s: %.*s\n",
							 line, STR_ARG(v));
		}
		free(line);
	}
	if (!count_trailer(d)) /* the CR of the empty line */
		return false;
	return take_line_end(d, "http1.trailer");
}

static inline struct chunked ref_chunked(const struct h1_limits *lim, const void *p, size_t n)
{
	struct chunked o = {.verdict = H1_MORE, .body = malloc(n + 1)};
	struct descent d = {.lim = lim, .p = p, .n = n, .o = &o};
	uint64_t size;
	must(o.body);
	while (take_size(&d, &size)) {
		if (size == 0) {
			if (take_trailers(&d))
				o.verdict = H1_DONE;
			break;
		}
		size_t take = size < n - d.at ? (size_t)size : n - d.at;
		memcpy(o.body + o.body_n, d.p + d.at, take);
		o.body_n += take;
		d.at += take;
		if (take < size || !take_line_end(&d, "http1.chunk"))
			break;
	}
	o.used = d.at;
	return o;
}

/* ---- the real one */

static inline struct chunked run_chunked(const struct h1_limits *lim, const void *p, size_t n,
					 size_t (*cut)(void *arg, size_t at, size_t n), void *arg)
{
	struct chunked o = {.verdict = H1_MORE, .body = malloc(n + 1)};
	struct arena a;
	struct head t;
	struct h1_body b;
	size_t at = 0;
	arena_init(&a, SIZE_MAX);
	must(o.body && head_init(&t, &a, false, 0));
	h1_body_init(&b, H1_CHUNKED, 0, &t);
	while (o.verdict == H1_MORE && at < n) {
		size_t to = cut(arg, at, n), len = to - at, done = 0;
		char *piece = malloc(len);
		must(piece && len);
		memcpy(piece, (const char *)p + at, len);
		while (o.verdict == H1_MORE && done < len) {
			size_t used;
			struct str data;
			o.verdict = h1_body_feed(&b, lim, piece + done, len - done, &used, &data);
			must(used <= len - done && (used > 0 || o.verdict == H1_BAD));
			must(data.n <= used);
			must(!data.n ||
			     (data.p >= piece + done && data.p + data.n <= piece + done + used));
			if (data.n)
				memcpy(o.body + o.body_n, data.p, data.n);
			o.body_n += data.n;
			done += used;
		}
		at += done;
		free(piece);
	}
	must(b.ended == (o.verdict == H1_DONE) && b.total == o.body_n);
	o.used = at;
	o.detail = b.detail;
	for (unsigned i = 0; i < t.n; i++) {
		struct str name = field_name(&t.f[i]), v = field_value(&t.f[i]);
		o.trailers = realloc(o.trailers, o.trailers_n + name.n + v.n + 8);
		must(o.trailers);
		o.trailers_n += (size_t)sprintf(o.trailers + o.trailers_n, "%.*s: %.*s\n",
						STR_ARG(name), STR_ARG(v));
	}
	arena_fini(&a);
	return o;
}

static inline void chunked_free(struct chunked *o)
{
	free(o->body);
	free(o->trailers);
}

static inline void chunked_same(const struct chunked *a, const struct chunked *b, const char *p,
				size_t n)
{
	bool same = a->verdict == b->verdict && a->used == b->used && a->body_n == b->body_n &&
		    !memcmp(a->body, b->body, a->body_n) && a->trailers_n == b->trailers_n &&
		    (!a->trailers_n || !memcmp(a->trailers, b->trailers, a->trailers_n)) &&
		    (a->verdict != H1_BAD || !strcmp(a->detail, b->detail));
	if (same)
		return;
	fprintf(stderr,
		"%d %s used %zu body %zu trailers %zu, expected %d %s used %zu body %zu trailers "
		"%zu\ninput: ",
		a->verdict, a->detail ? a->detail : "", a->used, a->body_n, a->trailers_n,
		b->verdict, b->detail ? b->detail : "", b->used, b->body_n, b->trailers_n);
	for (size_t i = 0; i < n && i < 2000; i++) {
		unsigned char c = (unsigned char)p[i];
		fprintf(stderr, c >= 32 && c < 127 && c != '\\' ? "%c" : "\\x%02x", c);
	}
	fprintf(stderr, "\n");
	abort();
}
