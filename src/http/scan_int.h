/* src/http/scan_int.h
 *
 * The inner loops of the HTTP/1 parser: the first byte that ends or spoils a name, a target, a value. 16 bytes
 * at a time where SSE2 is (part of x86-64, so no dispatch), one by one elsewhere; -DSCAN_PLAIN=1 chooses the latter.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__SSE2__) && !defined(SCAN_PLAIN)
#define SCAN_SSE2 1
#include <emmintrin.h>
#else
#define SCAN_SSE2 0
#endif

/* Classes of bytes, RFC 9110 5.6.2 (token), RFC 3986 2 and 3.2.2. */
enum {
	SCAN_TOKEN = 1,  /* tchar */
	SCAN_TARGET = 2, /* 0x21-0x7e but '#' */
	SCAN_VALUE = 4,  /* HTAB, SP, VCHAR, obs-text */
	SCAN_HOST = 8,   /* reg-name without '%' and ',' */
	SCAN_UNRESERVED = 16,
	SCAN_HEX = 32,
	SCAN_QUOTED = 64, /* qdtext, RFC 9110 5.6.4 */
	SCAN_DIGIT = 128
};
extern const uint8_t scan_class[256];

static inline bool scan_is(char c, unsigned classes)
{
	return scan_class[(unsigned char)c] & classes;
}

/* The first byte at or after q that is not of the class, or end. */
static inline const char *scan_while(const char *q, const char *end, unsigned class)
{
	while (q < end && scan_is(*q, class))
		q++;
	return q;
}

/* The three below read up to 16 bytes behind end, and may find there what they look for: a result that is not
 * below end means that nothing was found. */

/* The first byte at or after q that may not stand in a field value. */
static inline const char *scan_value(const char *q, const char *end)
{
#if SCAN_SSE2
	do {
		__m128i x = _mm_loadu_si128((const __m128i *)q);
		__m128i low = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(0x1f)), x);
		low = _mm_andnot_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('\t')), low);
		low = _mm_or_si128(low, _mm_cmpeq_epi8(x, _mm_set1_epi8(0x7f)));
		unsigned m = (unsigned)_mm_movemask_epi8(low);
		if (m)
			return q + __builtin_ctz(m);
		q += 16;
	} while (q < end);
	return q;
#else
	return scan_while(q, end, SCAN_VALUE);
#endif
}

/* The first byte at or after q that may not stand in a request target. */
static inline const char *scan_target(const char *q, const char *end)
{
#if SCAN_SSE2
	do {
		__m128i x = _mm_loadu_si128((const __m128i *)q);
		__m128i ok = _mm_cmpgt_epi8(x, _mm_set1_epi8(0x20)); /* signed: >= 0x80 is below */
		__m128i bad = _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8(0x7f)),
					   _mm_cmpeq_epi8(x, _mm_set1_epi8('#')));
		unsigned m = (unsigned)_mm_movemask_epi8(_mm_andnot_si128(bad, ok)) ^ 0xffff;
		if (m)
			return q + __builtin_ctz(m);
		q += 16;
	} while (q < end);
	return q;
#else
	return scan_while(q, end, SCAN_TARGET);
#endif
}

/* The first ':' at or after q. */
static inline const char *scan_colon(const char *q, const char *end)
{
#if SCAN_SSE2
	do {
		__m128i x = _mm_loadu_si128((const __m128i *)q);
		unsigned m = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_set1_epi8(':')));
		if (m)
			return q + __builtin_ctz(m);
		q += 16;
	} while (q < end);
	return q;
#else
	while (q < end && *q != ':')
		q++;
	return q;
#endif
}

/* Whether the n bytes at q are letters, digits and '-' only, or '.' too. 15 bytes behind them
 * are read. */
static inline bool scan_plain(const char *q, size_t n, const bool dots)
{
#if SCAN_SSE2
	for (;; q += 16, n -= 16) {
		__m128i x = _mm_loadu_si128((const __m128i *)q);
		__m128i l = _mm_or_si128(x, _mm_set1_epi8(0x20));
		__m128i ok = _mm_and_si128(_mm_cmpgt_epi8(l, _mm_set1_epi8('a' - 1)),
					   _mm_cmplt_epi8(l, _mm_set1_epi8('z' + 1)));
		ok = _mm_or_si128(ok, _mm_and_si128(_mm_cmpgt_epi8(x, _mm_set1_epi8('0' - 1)),
						    _mm_cmplt_epi8(x, _mm_set1_epi8('9' + 1))));
		ok = _mm_or_si128(ok, _mm_cmpeq_epi8(x, _mm_set1_epi8('-')));
		if (dots)
			ok = _mm_or_si128(ok, _mm_cmpeq_epi8(x, _mm_set1_epi8('.')));
		unsigned m = (unsigned)_mm_movemask_epi8(ok) ^ 0xffff;
		if (n <= 16)
			return n == 0 || (m << (16 - n) & 0xffff) == 0;
		if (m)
			return false;
	}
#else
	return false; /* the class table decides */
#endif
}
static inline bool scan_plain_name(const char *q, size_t n)
{
	return scan_plain(q, n, false);
}
/* A name of DNS, or an address of IPv4: what most hosts are. */
static inline bool scan_plain_host(const char *q, size_t n)
{
	return n && scan_plain(q, n, true);
}
