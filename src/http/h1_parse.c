/* src/http/h1_parse.c
 *
 * One pass over a head, in place. Where bytes run out the position goes into st and the next call continues
 * there, so no byte is judged twice and no verdict waits for the end of a line. Whatever the cut, the first
 * offending byte decides: h1_parse_test and the fuzzers cut at every offset and hold the outcome against a
 * slow parser written separately.
 */
#include "base/must.h"
#include "http/h1.h"
#include "http/names_int.h"
#include "http/scan_int.h"

const struct h1_limits h1_default_limits = {
	.head = 60 * 1024,
	.fields = 100,
	.target = 16 * 1024,
	.method = 32,
	.name = 256,
	.chunk_line = 256,
	.chunk_ext = 16 * 1024,
	.trailer = 8 * 1024,
	.trailer_fields = 20,
};

/* Connection options that name fields: each costs a walk over the head. */
enum { OPTIONS_MAX = 100 };

enum state {
	S_START, /* nothing seen, or the CR of an empty line */
	S_METHOD,
	S_TARGET,  /* mark: where it begins */
	S_VERSION, /* val: where it begins; a handful of bytes, read again from there */
	S_STATUS,  /* response: HTTP/1.1 SP 3DIGIT, read again from the start */
	S_REASON,
	S_NAME,
	S_VALUE,  /* mark: the colon; with st->fold the continuation from cont on */
	S_PENDING /* response: a field line is complete (val, val_n) but may be continued */
};

static const char bad_start_line[] = "http1.start_line";
static const char bad_version[] = "http1.version";
static const char bad_target[] = "http1.target";
static const char bad_host[] = "http1.host";
static const char bad_name[] = "http1.field_name";
static const char bad_value[] = "http1.field_value";
static const char bad_line_end[] = "http1.line_end";
static const char bad_length[] = "http1.content_length";
static const char bad_coding[] = "http1.transfer_encoding";
static const char bad_both[] = "http1.cl_and_te";
static const char bad_connection[] = "http1.connection";
static const char bad_first[] = "http1.not_http";
static const char bad_expect[] = "expect";
static const char too_large[] = "http1.too_large";
static const char no_memory[] = "out_of_memory";

static __attribute__((noinline)) enum h1_verdict bad(struct h1_parse *st, unsigned status,
						     const char *detail)
{
	st->status = (uint16_t)status;
	st->detail = detail;
	return H1_BAD;
}

/* A field keeps its name's length in 16 bits. */
static size_t name_max(const struct h1_limits *lim)
{
	return lim->name < UINT16_MAX ? lim->name : UINT16_MAX;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Grows h->f by one slot. */
static __attribute__((noinline)) bool make_room(struct head *h)
{
	size_t cap = h->cap < 16 ? 32 : (size_t)h->cap * 2;
	if (cap > UINT16_MAX)
		cap = UINT16_MAX;
	struct field *f = cap > h->n ? arena_alloc(h->arena, cap * sizeof *f) : NULL;
	if (!f)
		return false;
	if (h->n)
		memcpy(f, h->f, h->n * sizeof *f);
	h->f = f;
	h->cap = (uint16_t)cap;
	return true;
}

static void set_field(struct field *f, enum field_id id, const char *p, size_t n)
{
	*f = (struct field){.name_p = name_infos[id].name,
			    .name_n = name_infos[id].n,
			    .value_p = p,
			    .value_n = (uint32_t)n,
			    .id = (uint8_t)id};
}

/* ---- request line */

/* RFC 9112 3.2.2. A path that is missing is "/" (RFC 9110 4.2.3), of OPTIONS "*" (RFC 9112
 * 3.2.4). */
static enum h1_verdict absolute_form(struct h1_parse *st, struct head *h, const char *t, size_t n)
{
	size_t skip = 7;
	if (n > 7 && !strncasecmp(t, "http://", 7)) {
		st->target_scheme = H1_SCHEME_HTTP;
	} else if (n > 8 && !strncasecmp(t, "https://", 8)) {
		st->target_scheme = H1_SCHEME_HTTPS;
		skip = 8;
	} else {
		return bad(st, 400, bad_target);
	}
	const char *a = t + skip, *end = t + n, *path = a;
	while (path < end && *path != '/' && *path != '?')
		path++;
	struct str authority = {a, (size_t)(path - a)}, rest = {path, (size_t)(end - path)};
	if (!authority_ok(authority))
		return bad(st, 400, bad_host);
	if (rest.n == 0) {
		rest = h->method == METHOD_OPTIONS ? STR("*") : STR("/");
	} else if (rest.p[0] == '?') {
		char *copy = arena_alloc(h->arena, rest.n + 1);
		if (!copy)
			return bad(st, 503, no_memory);
		copy[0] = '/';
		memcpy(copy + 1, rest.p, rest.n);
		rest = (struct str){copy, rest.n + 1};
	}
	st->absolute = true;
	set_field(&h->f[0], FIELD_AUTHORITY, authority.p, authority.n);
	set_field(&h->f[1], FIELD_PATH, rest.p, rest.n);
	return H1_DONE;
}

/* The pseudo fields, made when the target's end is seen; :authority stays empty until Host
 * comes. */
static enum h1_verdict take_target(struct h1_parse *st, struct head *h, struct str method,
				   struct str t)
{
	must(h->n == 0 && h->cap >= 4);
	h->method = (uint8_t)method_of(method);
	set_field(&h->f[0], FIELD_AUTHORITY, "", 0);
	set_field(&h->f[1], FIELD_PATH, t.p, t.n);
	set_field(&h->f[2], FIELD_METHOD, method.p, method.n);
	set_field(&h->f[3], FIELD_SCHEME, "", 0);
	h->n = h->pseudo = 4;
	h->has[0] |=
		1u << FIELD_AUTHORITY | 1u << FIELD_PATH | 1u << FIELD_METHOD | 1u << FIELD_SCHEME;
	if (h->method == METHOD_CONNECT) {
		const char *last = memrchr(t.p, ':', t.n);
		if (!authority_ok(t) || !last || memchr(last, ']', (size_t)(t.p + t.n - last)))
			return bad(st, 400, bad_target);
		st->absolute = true;
		set_field(&h->f[0], FIELD_AUTHORITY, t.p, t.n);
		set_field(&h->f[1], FIELD_PATH, "", 0);
		return H1_DONE;
	}
	if (t.p[0] == '/')
		return H1_DONE;
	if (t.n == 1 && t.p[0] == '*' && h->method == METHOD_OPTIONS)
		return H1_DONE;
	return absolute_form(st, h, t.p, t.n);
}

/* HTTP-version CRLF (RFC 9112 2.3), byte by byte: incomplete, unusual or wrong ones. */
static enum h1_verdict slow_version(struct h1_parse *st, const char *v, const char *end)
{
	static const char form[] = "HTTP/9.9\r\n";
	for (size_t i = 0; i < sizeof form - 1; i++) {
		if (v + i == end)
			return H1_MORE;
		char c = v[i];
		if (form[i] == '9' ? scan_is(c, SCAN_DIGIT) : c == form[i])
			continue;
		if (c == '\n' || i == 9)
			return bad(st, 400, bad_line_end);
		if (i < 4)
			return bad(st, 400, (c ^ form[i]) == 0x20 ? bad_version : bad_start_line);
		return bad(st, 400,
			   i == 8 && !scan_is(c, SCAN_DIGIT) ? bad_start_line : bad_version);
	}
	if (v[5] != '1')
		return bad(st, 505, bad_version);
	st->version_minor = (uint8_t)(v[7] - '0');
	return H1_DONE;
}

/* long: one state after the other, each continued where the bytes had run out; split up it would be four
 * functions that hand each other the same five positions. */
static enum h1_verdict request_line(struct h1_parse *st, const struct h1_limits *lim, const char *p,
				    const char *end, struct head *h)
{
	const char *line, *q, *t, *v;
	size_t n;
	enum h1_verdict r;

	switch (st->state) {
	case S_METHOD: goto method;
	case S_TARGET: goto target;
	case S_VERSION: goto version;
	default: break;
	}
	if (p == end)
		return H1_MORE;
	if (*p == '\r') { /* one empty line is skipped, RFC 9112 2.2 */
		if (p + 1 == end)
			return H1_MORE;
		if (p[1] != '\n')
			return bad(st, 400, bad_line_end);
		st->at = 2;
	}
	st->state = S_METHOD;
method:
	line = p + st->at;
	if (line == end)
		return H1_MORE;
	q = scan_while(line + st->seen, end, SCAN_TOKEN);
	n = (size_t)(q - line);
	if (n > lim->method)
		return bad(st, 501, too_large);
	if (q == end) {
		st->seen = (uint32_t)n;
		return H1_MORE;
	}
	if (*q != ' ' || n == 0) {
		if (*q == '\n')
			return bad(st, 400, bad_line_end);
		return bad(st, 400, n || *q == '\r' ? bad_start_line : bad_first);
	}
	st->mark = (uint32_t)(q + 1 - p);
	st->seen = (uint32_t)(n + 1);
	st->state = S_TARGET;
target:
	line = p + st->at;
	t = p + st->mark;
	q = scan_target(line + st->seen, end);
	q = q < end ? q : end;
	n = (size_t)(q - t);
	if (n > lim->target)
		return bad(st, 414, too_large);
	if (q == end) {
		st->seen = (uint32_t)(q - line);
		return H1_MORE;
	}
	if (*q != ' ' || n == 0) {
		if (*q == '\n')
			return bad(st, 400, bad_line_end);
		return bad(st, 400, n && *q == '\r' ? bad_version : bad_start_line);
	}
	r = take_target(st, h, (struct str){line, (size_t)(t - line) - 1}, (struct str){t, n});
	if (r != H1_DONE)
		return r;
	st->val = (uint32_t)(q + 1 - p);
	st->state = S_VERSION;
version:
	v = p + st->val;
	if (end - v >= 10 && !memcmp(v, "HTTP/1.1\r\n", 10)) {
		st->version_minor = 1;
	} else {
		r = slow_version(st, v, end);
		if (r != H1_DONE)
			return r;
	}
	h->minor = st->version_minor;
	st->at = st->val + 10;
	st->seen = 0;
	st->state = S_NAME;
	return H1_DONE;
}

/* ---- status line */

/* What comes before the reason, byte by byte. */
static enum h1_verdict slow_status(struct h1_parse *st, const char *p, const char *end)
{
	static const char form[] = "HTTP/1.9 999 ";
	for (size_t i = 0; i < sizeof form - 1; i++) {
		if (p + i == end)
			return H1_MORE;
		char c = p[i];
		if (i == 12 && c != ' ' && c != '\r')
			return bad(st, 502, c == '\n' ? bad_line_end : bad_start_line);
		if (i < 12 && (form[i] == '9' ? !scan_is(c, SCAN_DIGIT) : c != form[i]))
			return bad(st, 502, i < 8 ? bad_version : bad_start_line);
		if (i == 7 && c > '1')
			return bad(st, 502, bad_version);
		if (i == 9 && (c < '1' || c > '5'))
			return bad(st, 502, bad_start_line);
	}
	return H1_DONE;
}

/* Whether what comes before the reason has the form that nearly every answer has. 13 bytes are read. */
static bool plain_status(const char *p)
{
	return !memcmp(p, "HTTP/1.1 ", 9) && p[9] >= '1' && p[9] <= '5' &&
	       scan_is(p[10], SCAN_DIGIT) && scan_is(p[11], SCAN_DIGIT) && p[12] == ' ';
}

/* RFC 9112 4: HTTP-version SP 3DIGIT SP [reason-phrase]; the second SP may be missing with the
 * phrase. */
static enum h1_verdict status_line(struct h1_parse *st, const char *p, const char *end,
				   struct head *h)
{
	enum { FORM = sizeof "HTTP/1.9 999" - 1 };
	const char *q;
	enum h1_verdict r;

	if (st->state == S_REASON) {
		q = p + st->seen;
	} else {
		if (end - p <= FORM || !plain_status(p)) {
			r = slow_status(st, p, end);
			if (r != H1_DONE)
				return r;
		}
		st->state = S_REASON;
		q = p + FORM;
	}
	q = scan_value(q, end);
	q = q < end ? q : end;
	st->seen = (uint32_t)(q - p);
	if (q == end || (*q == '\r' && q + 1 == end))
		return H1_MORE;
	if (*q != '\r')
		return bad(st, 502, *q == '\n' ? bad_line_end : bad_start_line);
	if (q[1] != '\n')
		return bad(st, 502, bad_line_end);

	must(h->n == 0 && h->cap >= 4);
	st->version_minor = h->minor = (uint8_t)(p[7] - '0');
	h->status = (uint16_t)((p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0'));
	set_field(&h->f[0], FIELD_STATUS, p + 9, 3);
	h->n = h->pseudo = 1;
	h->has[0] |= 1u << FIELD_STATUS;
	if (p[FORM] == ' ')
		h->reason = (struct str){p + FORM + 1, (size_t)(q - p) - FORM - 1};
	st->at = (uint32_t)(q + 2 - p);
	st->seen = 0;
	st->state = S_NAME;
	return H1_DONE;
}

/* ---- fields that mean something here */

/* robustness.md 2: 1 to 19 digits behind leading zeros, at most 2^63-1. */
static bool length_of(struct str v, uint64_t *out)
{
	if (v.n == 0)
		return false;
	while (v.n > 1 && v.p[0] == '0')
		v.p++, v.n--;
	if (v.n > 19)
		return false;
	uint64_t n = 0;
	for (size_t i = 0; i < v.n; i++) {
		if (!scan_is(v.p[i], SCAN_DIGIT))
			return false;
		n = n * 10 + (uint64_t)(v.p[i] - '0');
	}
	*out = n;
	return n <= INT64_MAX;
}

/* What we answer to a coding we lack: 501 when the list is well made of registered codings and ends with
 * chunked, for then only the coding is the trouble (RFC 9112 6.1). */
static unsigned coding_status(struct str v)
{
	static const char *const known[] = {"gzip", "x-gzip", "deflate", "compress", "x-compress"};
	bool other = false, chunked = false;
	struct str item;
	while (v.n) {
		str_cut(v, ',', &item, &v);
		item = str_trim(item);
		if (!item.n)
			continue;
		if (chunked)
			return 400;
		chunked = str_ieq(item, STR("chunked"));
		size_t i = 0;
		while (i < 5 && !str_ieq(item, str_of(known[i])))
			i++;
		if (!chunked && i == 5)
			return 400;
		other |= i < 5;
	}
	return other && chunked ? 501 : 400;
}

enum taken { KEEP, SKIP, FAULT };

static enum taken fault(struct h1_parse *st, unsigned status, const char *detail)
{
	bad(st, status, detail);
	return FAULT;
}

static enum taken take_length(struct h1_parse *st, struct str v, bool response)
{
	uint64_t n;
	unsigned status = response ? 502 : 400;
	if (!length_of(v, &n))
		return fault(st, status, bad_length);
	if (st->has_length) {
		if (!response || n != st->length)
			return fault(st, status, bad_length);
		return SKIP;
	}
	if (st->has_te && !response)
		return fault(st, 400, bad_both);
	st->has_length = true;
	st->length = n;
	return KEEP;
}

static enum taken take_coding(struct h1_parse *st, struct str v, bool response)
{
	unsigned status = response ? 502 : 400;
	if (st->has_te || st->version_minor == 0)
		return fault(st, status, bad_coding);
	if (!str_ieq(v, STR("chunked"))) {
		st->bad_te = true;
		return fault(st, response ? 502 : coding_status(v), bad_coding);
	}
	if (st->has_length && !response)
		return fault(st, 400, bad_both);
	st->has_te = st->chunked = true;
	return response ? KEEP : SKIP;
}

/* For the ids from FIELD_HOST to FIELD_EXPECT, one range in names.h. */
#define SPECIAL(id) _Static_assert(id >= FIELD_HOST && id <= FIELD_EXPECT, "outside the range")
SPECIAL(FIELD_CONTENT_LENGTH);
SPECIAL(FIELD_TRANSFER_ENCODING);
SPECIAL(FIELD_TE);
#undef SPECIAL
static __attribute__((noinline)) enum taken
take_special(struct h1_parse *st, struct head *h, enum field_id id, struct str v, bool response)
{
	switch (id) {
	case FIELD_HOST:
		if (response)
			return KEEP;
		if (st->host_seen || !(scan_plain_host(v.p, v.n) || authority_ok(v)))
			return fault(st, 400, bad_host);
		st->host_seen = true;
		if (!st->absolute) { /* else RFC 9112 3.2.2: what Host said is not used */
			h->f[0].value_p = v.p;
			h->f[0].value_n = (uint32_t)v.n;
		}
		return SKIP;
	case FIELD_CONTENT_LENGTH: return take_length(st, v, response);
	case FIELD_TRANSFER_ENCODING: return take_coding(st, v, response);
	case FIELD_TE: st->te_trailers |= list_has(v, STR("trailers")); return KEEP;
	case FIELD_EXPECT:
		if (response)
			return KEEP;
		if (st->version_minor == 0) /* RFC 9110 10.1.1: ignored; we ask onwards as 1.1 */
			return SKIP;
		if (!str_ieq(v, STR("100-continue")))
			return fault(st, 417, bad_expect);
		st->expect_continue = true;
		return KEEP;
	default: return KEEP;
	}
}

/* Bytes of a value that spoil it whatever follows, so that they need not wait for their line's end. The answer
 * depends on each byte alone: new bytes may be asked about without the old ones. */
static const char *spoils(enum field_id id, const char *q, const char *end)
{
	if (id == FIELD_CONTENT_LENGTH) {
		for (; q < end; q++)
			if (!scan_is(*q, SCAN_DIGIT) && !is_blank(*q))
				return bad_length;
	} else if (id == FIELD_HOST) {
		for (; q < end; q++)
			if (!scan_is(*q, SCAN_HOST) && !is_blank(*q) && !memchr("[]:%", *q, 4))
				return bad_host;
	}
	return NULL;
}

/* ---- field lines */

/* [line, q) are token characters, *q is none (and no colon). */
static __attribute__((noinline)) enum h1_verdict name_fault(struct h1_parse *st,
							    const struct h1_limits *lim,
							    const char *line, const char *q,
							    bool response)
{
	unsigned status = response ? 502 : 400;
	if ((size_t)(q - line) > name_max(lim))
		return bad(st, response ? 502 : 431, too_large);
	if (*q == '\n' || (q == line && is_blank(*q) && st->fields))
		return bad(st, status, bad_line_end);
	return bad(st, status, bad_name);
}

/* A name that is not listed, or the start of one: only token characters, not too long. Notes
 * '_'. */
static __attribute__((noinline)) enum h1_verdict slow_name(struct h1_parse *st,
							   const struct h1_limits *lim,
							   const char *line, const char *from,
							   const char *end, bool response)
{
	const char *q = scan_while(from, end, SCAN_TOKEN);
	if (q != end)
		return name_fault(st, lim, line, q, response);
	if ((size_t)(end - line) > name_max(lim))
		return bad(st, response ? 502 : 431, too_large);
	if (memchr(from, '_', (size_t)(end - from)))
		st->underscore = true;
	return H1_DONE;
}

/* RFC 9112 5.2: the continuation [c, e) joins what came before by one SP, and moves up to it. */
static void unfold(struct h1_parse *st, char *p, const char *c, const char *e)
{
	while (c < e && is_blank(*c))
		c++;
	while (e > c && is_blank(e[-1]))
		e--;
	size_t n = (size_t)(e - c);
	if (n == 0)
		return;
	if (st->val_n == 0) {
		st->val = (uint32_t)(c - p);
		st->val_n = (uint32_t)n;
		return;
	}
	char *to = p + st->val + st->val_n;
	*to++ = ' ';
	memmove(to, c, n);
	st->val_n += (uint32_t)n + 1;
}

/* "\r\n" at q; both bytes are readable. */
static inline bool is_crlf(const char *q)
{
	return memcmp(q, "\r\n", 2) == 0;
}

/* The lines up to the empty one. H1_DONE: *used is set. p is written to only for responses.
 *
 * long: the hot loop of the room, kept in one piece so that positions stay in registers; compiled once per
 * direction. */
static inline __attribute__((always_inline)) enum h1_verdict
field_lines(struct h1_parse *st, const struct h1_limits *lim, char *p, const char *end,
	    struct head *h, size_t *used, const bool response)
{
	const char *line = p + st->at, *q = line + st->seen, *colon, *v, *e;
	const unsigned bad_status = response ? 502 : 400;
	struct field *f = h->f + h->n, *room = h->f + h->cap;
	enum h1_verdict r;
	enum field_id id;
	size_t n;

	if (st->state != S_NAME) {
		colon = p + st->mark;
		id = name_id_slack(line, (size_t)(colon - line));
		if (st->state == S_VALUE)
			goto value;
		v = p + st->val;
		e = v + st->val_n;
		goto pending;
	}
	if (q != line)
		goto name;
	for (;; line = q) {
		if (*q == '\r') { /* perhaps one behind end, which q + 2 > end tells */
			if (q + 2 > end)
				goto more_name;
			if (q[1] != '\n')
				return bad(st, bad_status, bad_line_end);
			*used = (size_t)(q + 2 - p);
			h->n = (uint16_t)(f - h->f);
			return H1_DONE;
		}
	name:
		colon = scan_colon(q, end);
		if (__builtin_expect(colon >= end, 0)) {
			r = slow_name(st, lim, line, q, end, response);
			if (r != H1_DONE)
				return r;
			q = end;
			goto more_name;
		}
		n = (size_t)(colon - line);
		id = name_id_slack(line, n);
		if (id == FIELD_OTHER || n > lim->name) {
			if (n == 0)
				return bad(st, bad_status, bad_name);
			if (n > name_max(lim) || !scan_plain_name(line, n)) {
				r = slow_name(st, lim, line, line, colon, response);
				if (r != H1_DONE)
					return r;
			}
		}
		if (st->fields >= lim->fields)
			return bad(st, response ? 502 : 431, too_large);
		q = colon + 1;
	value:
		v = q;
		q = scan_value(q, end);
		if (__builtin_expect(q + 2 > end || !is_crlf(q), 0)) {
			q = q < end ? q : end;
			const char *why = response ? NULL : spoils(id, v, q);
			if (why)
				return bad(st, 400, why);
			if (q == end || (*q == '\r' && q + 1 == end))
				goto more_value;
			return bad(st, bad_status, *q == '\n' ? bad_line_end : bad_value);
		}
		v = colon + 1;
		e = q;
		q += 2;
		if (response && __builtin_expect(st->fold, 0)) {
			st->fold = false;
			unfold(st, p, p + st->cont, e);
			v = p + st->val;
			e = v + st->val_n;
		} else {
			/* Nothing is below '!' here but blanks, and the CR at e; before v is the
			 * colon. */
			v += *v == ' ';
			while (__builtin_expect((unsigned char)*v <= ' ' && v < e, 0))
				v++;
			while (__builtin_expect((unsigned char)e[-1] <= ' ' && e > v, 0))
				e--;
		}
	pending:
		if (response && __builtin_expect(q == end || is_blank(*q), 0)) {
			st->val = (uint32_t)(v - p);
			st->val_n = (uint32_t)(e - v);
			if (q == end)
				goto more_pending;
			st->fold = true;
			st->cont = (uint32_t)(q - p);
			goto value;
		}
		st->fields++;
		if ((unsigned)id - FIELD_HOST <= FIELD_EXPECT - FIELD_HOST) {
			enum taken t =
				take_special(st, h, id, (struct str){v, (size_t)(e - v)}, response);
			if (t == FAULT)
				return H1_BAD;
			if (t == SKIP)
				continue;
		}
		if (__builtin_expect(f == room, 0)) {
			h->n = (uint16_t)(f - h->f);
			if (!make_room(h))
				return bad(st, response ? 502 : 503, no_memory);
			f = h->f + h->n;
			room = h->f + h->cap;
		}
		f->name_p = line;
		f->value_p = v;
		f->value_n = (uint32_t)(e - v);
		f->name_n = (uint16_t)(colon - line);
		f->id = (uint8_t)id;
		f->mark = 0;
		f++;
		h->has[id / 64] |= (uint64_t)1 << id % 64;
	}
more_name:
	st->state = S_NAME;
	goto more;
more_value:
	st->state = S_VALUE;
	st->mark = (uint32_t)(colon - p);
	goto more;
more_pending:
	st->state = S_PENDING;
	st->mark = (uint32_t)(colon - p);
more:
	st->at = (uint32_t)(line - p);
	st->seen = (uint32_t)(q - line);
	h->n = (uint16_t)(f - h->f);
	return H1_MORE;
}

/* ---- Connection (RFC 9110 7.6.1) */

static bool is_reserved(enum field_id id)
{
	return name_infos[id].flags & NAME_FRAMING || id == FIELD_HOST;
}

/* One option. False: a request may not say that. */
static bool take_option(struct h1_parse *st, struct head *h, struct str o, bool *listed)
{
	if (o.p[0] == ':')
		return h->is_response;
	enum field_id id = name_id(o.p, o.n);
	switch (id) {
	case FIELD_HOST:
	case FIELD_CONTENT_LENGTH:
	case FIELD_TRANSFER_ENCODING: return h->is_response;
	case FIELD_KEEP_ALIVE: st->keep_alive = true; return true;
	case FIELD_UPGRADE: st->upgrade = true; return true;
	default: break;
	}
	if (str_ieq(o, STR("close"))) {
		st->close = true;
		return true;
	}
	if (is_reserved(id) || (id && !head_has(h, id)))
		return true;
	for (unsigned i = h->pseudo; i < h->n; i++) {
		struct field *f = &h->f[i];
		if (id ? f->id == id : !f->id && str_ieq(field_name(f), o))
			f->mark = 1, *listed = true;
	}
	return true;
}

/* Reads the options and removes the fields they name. */
static __attribute__((noinline)) enum h1_verdict take_connection(struct h1_parse *st,
								 struct head *h)
{
	bool listed = false;
	unsigned options = 0;
	for (unsigned i = h->pseudo; i < h->n; i++) {
		struct str item, rest = field_value(&h->f[i]);
		if (h->f[i].id != FIELD_CONNECTION)
			continue;
		while (rest.n) {
			str_cut(rest, ',', &item, &rest);
			item = str_trim(item);
			if (item.n &&
			    (++options > OPTIONS_MAX || !take_option(st, h, item, &listed)))
				return bad(st, h->is_response ? 502 : 400, bad_connection);
		}
	}
	if (!listed)
		return H1_DONE;
	unsigned to = h->pseudo;
	uint64_t has[2] = {h->has[0] & ((1u << FIELD_HOST) - 1), 0}; /* the pseudo fields */
	for (unsigned i = to; i < h->n; i++) {
		if (h->f[i].mark)
			continue;
		enum field_id id = (enum field_id)h->f[i].id;
		has[id / 64] |= (uint64_t)1 << id % 64;
		h->f[to++] = h->f[i];
	}
	h->n = (uint16_t)to;
	h->has[0] = has[0];
	h->has[1] = has[1];
	return H1_DONE;
}

static enum h1_verdict finish(struct h1_parse *st, struct head *h, size_t used)
{
	h->bytes = used;
	if (head_has(h, FIELD_CONNECTION)) {
		enum h1_verdict r = take_connection(st, h);
		if (r != H1_DONE)
			return r;
	}
	st->upgrade &= st->version_minor > 0 && head_has(h, FIELD_UPGRADE);
	st->close |= st->version_minor == 0 && !st->keep_alive;
	return H1_DONE;
}

/* ---- the two of them */

enum h1_verdict h1_parse_request(struct h1_parse *st, const struct h1_limits *lim, const char *p,
				 size_t n, struct head *h, size_t *used)
{
	const char *end = p + (n < lim->head ? n : lim->head);
	enum h1_verdict r = H1_DONE;
	if (st->state < S_STATUS)
		r = request_line(st, lim, p, end, h);
	if (r == H1_DONE)
		r = field_lines(st, lim, (char *)p, end, h, used, false);
	if (r == H1_MORE && n >= lim->head)
		return bad(st, 431, too_large);
	if (r != H1_DONE)
		return r;
	if (!st->host_seen) {
		if (st->version_minor > 0)
			return bad(st, 400, bad_host);
		if (!st->absolute)
			head_remove_at(h, 0);
	}
	return finish(st, h, *used);
}

enum h1_verdict h1_parse_response(struct h1_parse *st, const struct h1_limits *lim, char *p,
				  size_t n, struct head *h, size_t *used)
{
	const char *end = p + (n < lim->head ? n : lim->head);
	enum h1_verdict r = H1_DONE;
	if (st->state < S_NAME)
		r = status_line(st, p, end, h);
	if (r == H1_DONE)
		r = field_lines(st, lim, p, end, h, used, true);
	if (r == H1_MORE && n >= lim->head)
		return bad(st, 502, too_large);
	if (r != H1_DONE)
		return r;
	r = finish(st, h, *used);
	if (r == H1_DONE && st->has_te && st->has_length) { /* RFC 9112 6.3: the coding wins */
		head_remove_id(h, FIELD_CONTENT_LENGTH);
		st->has_length = false;
		st->length = 0;
		st->close = true;
	}
	return r;
}

void h1_moved(struct head *h, const char *old, size_t n, const char *new)
{
	uintptr_t from = (uintptr_t)old;
#define MOVE(slice)                                                \
	do {                                                       \
		if ((uintptr_t)(slice)-from < n)                   \
			(slice) = new + ((uintptr_t)(slice)-from); \
	} while (0)
	for (unsigned i = 0; i < h->n; i++) {
		MOVE(h->f[i].name_p);
		MOVE(h->f[i].value_p);
	}
	if (h->reason.p)
		MOVE(h->reason.p);
#undef MOVE
}

enum h1_framing h1_request_framing(const struct h1_parse *st, const struct head *h)
{
	if (st->chunked)
		return H1_CHUNKED;
	return st->has_length && st->length ? H1_LENGTH : H1_NO_BODY;
}

enum h1_framing h1_response_framing(const struct h1_parse *st, const struct head *h,
				    enum method request)
{
	unsigned s = h->status;
	if (s == 101 || (request == METHOD_CONNECT && s / 100 == 2))
		return H1_TUNNEL;
	if (request == METHOD_HEAD || s / 100 == 1 || s == 204 || s == 304)
		return H1_NO_BODY;
	if (st->chunked)
		return H1_CHUNKED;
	if (!st->has_length)
		return H1_UNTIL_CLOSE;
	return st->length ? H1_LENGTH : H1_NO_BODY;
}
