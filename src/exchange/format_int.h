/* src/exchange/format_int.h: writing formatted text into a space of fixed size, escaped. */
#pragma once
#include "exchange/format.h"
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* What happens to bytes that came from outside. */
enum escape {
	ESCAPE_NONE, /* header values */
	ESCAPE_LINE, /* text log lines: outside 0x20..0x7e, '"' and '\' become \xNN */
	ESCAPE_JSON  /* inside JSON strings; bytes that are no UTF-8 become \u00NN */
};

/* Bytes that do not fit are counted in lost and left out, so that a second attempt can have the
 * right size. */
struct out {
	char *p, *end;
	size_t lost;
	enum escape escape;
	size_t longest; /* at most so many bytes of one text */
	bool dash;      /* an operator without value is written as "-" */
	bool mark_null; /* JSON: a value that is null is written as OUT_NULL, for out_drop_nulls */
};
enum { OUT_NULL = 1 };

static inline void out_init(struct out *o, char *p, size_t n, enum escape escape)
{
	*o = (struct out){.p = p, .end = p + n, .escape = escape, .longest = SIZE_MAX};
}

/* As they are. */
static inline void out_bytes(struct out *o, const char *p, size_t n)
{
	if (__builtin_expect((size_t)(o->end - o->p) < n, 0)) {
		o->lost += n;
		return;
	}
	if (n == 1)
		*o->p = *p;
	else if (n)
		memcpy(o->p, p, n);
	o->p += n;
}
static inline void out_byte(struct out *o, char c)
{
	if (o->p < o->end)
		*o->p++ = c;
	else
		o->lost++;
}
/* Needs no escape, neither in a line nor in JSON. */
static inline bool out_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* Copies n bytes and returns true, or returns false when one of them must be escaped: what is
 * written then does not matter. Sixteen bytes at a time: these copies are most of a log line. */
#ifdef __SSE2__
static inline __m128i out_unclean(__m128i x)
{
	/* one more, signed: 0x7f and above have become less than a space */
	__m128i bad = _mm_cmplt_epi8(_mm_add_epi8(x, _mm_set1_epi8(1)), _mm_set1_epi8(0x21));
	bad = _mm_or_si128(bad, _mm_cmpeq_epi8(x, _mm_set1_epi8('"')));
	return _mm_or_si128(bad, _mm_cmpeq_epi8(x, _mm_set1_epi8('\\')));
}

static inline bool out_copy_clean(char *to, const char *p, size_t n)
{
	__m128i bad;
	if (n >= 16) {
		const char *last = p + n - 16;
		char *to_last = to + n - 16;
		bad = _mm_setzero_si128();
		while (p < last) {
			__m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
			_mm_storeu_si128((__m128i *)(void *)to, x);
			bad = _mm_or_si128(bad, out_unclean(x));
			p += 16;
			to += 16;
		}
		/* overlaps the one before */
		__m128i x = _mm_loadu_si128((const __m128i *)(const void *)last);
		_mm_storeu_si128((__m128i *)(void *)to_last, x);
		bad = _mm_or_si128(bad, out_unclean(x));
	} else if (n >= 8) { /* two halves that overlap, tested as one */
		uint64_t a, b;
		memcpy(&a, p, 8);
		memcpy(&b, p + n - 8, 8);
		memcpy(to, &a, 8);
		memcpy(to + n - 8, &b, 8);
		bad = out_unclean(_mm_set_epi64x((long long)b, (long long)a));
	} else if (n >= 4) {
		uint32_t a, b;
		memcpy(&a, p, 4);
		memcpy(&b, p + n - 4, 4);
		memcpy(to, &a, 4);
		memcpy(to + n - 4, &b, 4);
		bad = out_unclean(_mm_set1_epi64x((long long)((uint64_t)b << 32 | a)));
	} else if (n) { /* first, middle and last are all there is */
		unsigned char a = (unsigned char)p[0], b = (unsigned char)p[n / 2],
			      c = (unsigned char)p[n - 1];
		to[0] = (char)a;
		to[n / 2] = (char)b;
		to[n - 1] = (char)c;
		bad = out_unclean(_mm_set1_epi32(
			(int)(a | (uint32_t)b << 8 | (uint32_t)c << 16 | 0x20u << 24)));
	} else {
		return true;
	}
	return _mm_movemask_epi8(bad) == 0;
}
#else
static inline bool out_copy_clean(char *to, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!out_plain((unsigned char)p[i]))
			return false;
		to[i] = p[i];
	}
	return true;
}
#endif

void out_number(struct out *o, uint64_t n);
/* Escaped as o->escape says. */
void out_text(struct out *o, struct str s);
struct value;
/* A JSON text of the value; its strings are escaped for JSON whatever o->escape says. ascii: \uNNNN
 * for all others. */
void out_value(struct out *o, const struct value *v, bool ascii);
/* Writes the parts of f. */
void out_format(struct out *o, struct exchange *ex, const struct format *f);
/* Members and list elements that are OUT_NULL go, and objects that are then empty (not lists); in
 * place. n: bytes of the JSON text at p; returns what is left. */
size_t out_drop_nulls(char *p, size_t n);
