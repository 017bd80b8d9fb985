/* src/exchange/format_out.c: writes text, escaped; sixteen bytes at a time as long as nothing needs
 * it.
 */
#include "exchange/format_int.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { VALUE_DEPTH = 64, SORTED = 128 };
static const char hex[] = "0123456789abcdef";

/* Length of the UTF-8 sequence at p (RFC 3629), 0: none. */
static unsigned utf8_length(const unsigned char *p, size_t n)
{
	unsigned want = p[0] < 0x80                   ? 1
			: p[0] >= 0xc2 && p[0] < 0xe0 ? 2
			: (p[0] & 0xf0) == 0xe0       ? 3
			: p[0] >= 0xf0 && p[0] < 0xf5 ? 4
						      : 0;
	if (want == 0 || n < want)
		return 0;
	for (unsigned i = 1; i < want; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return want;
}

static void out_u16(struct out *o, unsigned c)
{
	char b[6] = {'\\', 'u', hex[c >> 12 & 15], hex[c >> 8 & 15], hex[c >> 4 & 15], hex[c & 15]};
	out_bytes(o, b, sizeof b);
}

/* How the characters of one JSON string are written. */
enum utf8 {
	UTF8_KEPT,
	UTF8_ESCAPED, /* \uNNNN */
	UTF8_BROKEN   /* the string is none: each byte for itself, as Envoy does */
};

static enum utf8 utf8_of(struct str s, bool ascii)
{
	const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n;
	while (p < end) {
		unsigned len = utf8_length(p, (size_t)(end - p));
		if (len == 0)
			return UTF8_BROKEN;
		p += len;
	}
	return ascii ? UTF8_ESCAPED : UTF8_KEPT;
}

/* One character of a JSON string; returns the bytes used. */
static size_t json_char(struct out *o, const unsigned char *p, size_t n, enum utf8 how)
{
	static const char what[] = "\"\\\b\f\n\r\t", with[] = "\"\\bfnrt";
	const char *special = *p ? strchr(what, *p) : NULL;
	if (special) {
		char b[2] = {'\\', with[special - what]};
		out_bytes(o, b, 2);
		return 1;
	}
	unsigned len = utf8_length(p, n);
	if (*p < 0x20 || *p == 0x7f || (how == UTF8_BROKEN && *p >= 0x80)) {
		out_u16(o, *p);
		return 1;
	}
	if (len == 1 || how == UTF8_KEPT) {
		out_bytes(o, (const char *)p, len);
		return len;
	}
	uint32_t c = p[0] & (0x7fu >> len);
	for (unsigned i = 1; i < len; i++)
		c = c << 6 | (p[i] & 0x3f);
	if (c >= 0x10000) {
		out_u16(o, 0xd800 + ((c - 0x10000) >> 10));
		c = 0xdc00 + ((c - 0x10000) & 0x3ff);
	}
	out_u16(o, c);
	return len;
}

static void escape_json(struct out *o, struct str s, bool ascii)
{
	const unsigned char *p = (const unsigned char *)s.p;
	enum utf8 how = utf8_of(s, ascii);
	for (size_t n = s.n, used; n; n -= used, p += used)
		used = json_char(o, p, n, how);
}

static void escape_line(struct out *o, struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		char b[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
		if (out_plain(c))
			out_byte(o, (char)c);
		else
			out_bytes(o, b, sizeof b);
	}
}

void out_text(struct out *o, struct str s)
{
	if (o->escape == ESCAPE_NONE) {
		out_bytes(o, s.p, s.n);
		return;
	}
	if ((size_t)(o->end - o->p) >= s.n && out_copy_clean(o->p, s.p, s.n)) {
		o->p += s.n;
		return;
	}
	if (o->escape == ESCAPE_JSON)
		escape_json(o, s, false);
	else
		escape_line(o, s);
}

void out_number(struct out *o, uint64_t n)
{
	if (n < 10) {
		out_byte(o, (char)('0' + n));
		return;
	}
	char b[20];
	unsigned at = sizeof b;
	do
		b[--at] = (char)('0' + n % 10);
	while (n /= 10);
	out_bytes(o, b + at, sizeof b - at);
}

static void json_string(struct out *o, struct str s, bool ascii)
{
	out_byte(o, '"');
	escape_json(o, s, ascii);
	out_byte(o, '"');
}

static void json_double(struct out *o, double d)
{
	char b[40];
	if (!isfinite(d)) { /* JSON has none: as protobuf writes them */
		struct str s = isnan(d) ? STR("\"NaN\"")
			       : d > 0  ? STR("\"Infinity\"")
					: STR("\"-Infinity\"");
		out_bytes(o, s.p, s.n);
		return;
	}
	int n = d == floor(d) && fabs(d) < 1e15 ? snprintf(b, sizeof b, "%.0f", d)
						: snprintf(b, sizeof b, "%.15g", d);
	if (d != floor(d) && strtod(b, NULL) != d)
		n = snprintf(b, sizeof b, "%.17g", d);
	out_bytes(o, b, (size_t)n);
}

/* The child whose key comes next after last, in byte order; NULL: none. */
static const struct value *next_key(const struct value *map, const struct value *last)
{
	const struct value *best = NULL;
	for (const struct value *c = map->list.first; c; c = c->next)
		if ((!last || str_cmp(c->key, last->key) > 0) &&
		    (!best || str_cmp(c->key, best->key) < 0))
			best = c;
	return best;
}

static void value_at(struct out *o, const struct value *v, bool ascii, unsigned depth);

/* Members sorted by key, as Envoy writes them; those of a huge map as they are. */
static void map_at(struct out *o, const struct value *v, bool ascii, unsigned depth)
{
	bool sorted = v->list.n <= SORTED;
	out_byte(o, '{');
	for (const struct value *c = sorted ? next_key(v, NULL) : v->list.first, *first = c; c;
	     c = sorted ? next_key(v, c) : c->next) {
		if (c != first)
			out_byte(o, ',');
		json_string(o, c->key, ascii);
		out_byte(o, ':');
		value_at(o, c, ascii, depth + 1);
	}
	out_byte(o, '}');
}

static void value_at(struct out *o, const struct value *v, bool ascii, unsigned depth)
{
	struct str word;
	switch (depth > VALUE_DEPTH ? VALUE_NULL : v->kind) {
	case VALUE_BOOL: word = v->boolean ? STR("true") : STR("false"); break;
	case VALUE_NUMBER: json_double(o, v->number); return;
	case VALUE_STRING: json_string(o, v->string, ascii); return;
	case VALUE_MAP: map_at(o, v, ascii, depth); return;
	case VALUE_LIST:
		out_byte(o, '[');
		for (const struct value *c = v->list.first; c; c = c->next) {
			if (c != v->list.first)
				out_byte(o, ',');
			value_at(o, c, ascii, depth + 1);
		}
		out_byte(o, ']');
		return;
	default: word = STR("null");
	}
	out_bytes(o, word.p, word.n);
}

void out_value(struct out *o, const struct value *v, bool ascii)
{
	value_at(o, v, ascii, 0);
}

/* Dropping members: a walk over JSON text that we wrote, so its shape is not checked. */
struct drop {
	const char *s, *end;
	char *d;
};

static void copy_string(struct drop *w)
{
	*w->d++ = *w->s++;
	while (w->s < w->end) {
		char c = *w->d++ = *w->s++;
		if (c == '"')
			return;
		if (c == '\\' && w->s < w->end)
			*w->d++ = *w->s++;
	}
}

/* True: the value goes away. */
static bool drop_value(struct drop *w, unsigned depth)
{
	if (w->s == w->end)
		return false;
	char open = *w->s;
	if (open == OUT_NULL) {
		w->s++;
		return true;
	}
	if (open == '"') {
		copy_string(w);
		return false;
	}
	if ((open != '{' && open != '[') || depth > 2 * VALUE_DEPTH) {
		while (w->s < w->end && *w->s != ',' && *w->s != '}' && *w->s != ']')
			*w->d++ = *w->s++;
		return false;
	}
	unsigned kept = 0, dropped = 0;
	*w->d++ = *w->s++;
	while (w->s < w->end && *w->s != '}' && *w->s != ']') {
		char *mark = w->d;
		if (*w->s == ',')
			w->s++;
		if (kept)
			*w->d++ = ',';
		if (open == '{') {
			copy_string(w);
			*w->d++ = *w->s++; /* ':' */
		}
		if (!drop_value(w, depth + 1)) {
			kept++;
		} else {
			w->d = mark;
			dropped++;
		}
	}
	if (w->s < w->end)
		*w->d++ = *w->s++;
	return dropped && !kept && depth && open == '{';
}

size_t out_drop_nulls(char *p, size_t n)
{
	struct drop w = {.s = p, .end = p + n, .d = p};
	drop_value(&w, 0);
	while (w.s < w.end)
		*w.d++ = *w.s++;
	return (size_t)(w.d - p);
}
