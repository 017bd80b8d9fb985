/* src/http/path.c
 *
 * RFC 3986 6.2.2: percent-encoding and dot segments, in place: what is written is never longer than what was read.
 */
#include "http/h1.h"
#include "http/scan_int.h"

static unsigned hex(char c)
{
	unsigned u = (unsigned char)c;
	return u <= '9' ? u - '0' : (u | 0x20) - 'a' + 10;
}

/* Whether the path needs no work: no '%', no '\', no segment that begins with '.', no empty segment. *query is
 * where the path ends. */
static bool is_plain(const char *p, size_t n, size_t *query)
{
	size_t i = 0;
#if SCAN_SSE2
	for (; i + 17 <= n; i += 16) {
		__m128i x = _mm_loadu_si128((const __m128i *)(p + i));
		__m128i y = _mm_loadu_si128((const __m128i *)(p + i + 1));
		__m128i slash = _mm_set1_epi8('/');
		__m128i next = _mm_or_si128(_mm_cmpeq_epi8(y, slash),
					    _mm_cmpeq_epi8(y, _mm_set1_epi8('.')));
		__m128i bad = _mm_and_si128(_mm_cmpeq_epi8(x, slash), next);
		bad = _mm_or_si128(bad, _mm_cmpeq_epi8(x, _mm_set1_epi8('%')));
		bad = _mm_or_si128(bad, _mm_cmpeq_epi8(x, _mm_set1_epi8('\\')));
		bad = _mm_or_si128(bad, _mm_cmpeq_epi8(x, _mm_set1_epi8('?')));
		if (_mm_movemask_epi8(bad))
			break; /* the loop below tells which */
	}
#endif
	for (; i < n && p[i] != '?'; i++)
		if (p[i] == '%' || p[i] == '\\' ||
		    (p[i] == '/' && i + 1 < n && (p[i + 1] == '/' || p[i + 1] == '.')))
			return false;
	*query = i;
	return true;
}

/* Decodes [p, p + n), a path without its query, onto itself. -1 as path_normalize. */
static ptrdiff_t decode(char *p, size_t n, bool normalize, bool unescape_slashes, bool *slash)
{
	char *w = p;
	for (size_t r = 0; r < n; r++) {
		char c = p[r];
		if (c != '%') {
			*w++ = normalize && c == '\\' ? '/' : c;
			continue;
		}
		if (n - r < 3 || !scan_is(p[r + 1], SCAN_HEX) || !scan_is(p[r + 2], SCAN_HEX)) {
			if (normalize)
				return -1;
			*w++ = c;
			continue;
		}
		char byte = (char)(hex(p[r + 1]) << 4 | hex(p[r + 2]));
		if (byte == 0 && normalize)
			return -1;
		if (byte == '/' || byte == '\\') {
			*slash = true;
			if (unescape_slashes) {
				*w++ = normalize ? '/' : byte;
				r += 2;
				continue;
			}
		} else if (normalize && scan_is(byte, SCAN_UNRESERVED)) {
			*w++ = byte;
			r += 2;
			continue;
		}
		for (size_t k = 0; k < 3; k++) {
			char d = p[r + k];
			*w++ = normalize && d >= 'a' && d <= 'f' ? (char)(d - 0x20) : d;
		}
		r += 2;
	}
	return w - p;
}

/* RFC 3986 5.2.4 on a path that begins with '/'. */
static size_t remove_dots(char *p, size_t n)
{
	size_t w = 0, r = 0;
	while (r < n) { /* p[r] is '/' */
		size_t s = r + 1;
		while (s < n && p[s] != '/')
			s++;
		size_t len = s - r - 1;
		bool last = s == n;
		if (len == 1 && p[r + 1] == '.') {
			if (last)
				p[w++] = '/';
		} else if (len == 2 && p[r + 1] == '.' && p[r + 2] == '.') {
			while (w > 0 && p[--w] != '/')
				;
			if (last)
				p[w++] = '/';
		} else {
			memmove(p + w, p + r, s - r);
			w += s - r;
		}
		r = s;
	}
	return w;
}

static size_t merge(char *p, size_t n)
{
	size_t w = 0;
	for (size_t r = 0; r < n; r++)
		if (p[r] != '/' || w == 0 || p[w - 1] != '/')
			p[w++] = p[r];
	return w;
}

ptrdiff_t path_normalize(char *p, size_t n, bool dots, bool merge_slashes, bool unescape_slashes,
			 bool *found_escaped_slash)
{
	size_t path;
	*found_escaped_slash = false;
	if (n == 0 || p[0] != '/' || is_plain(p, n, &path))
		return (ptrdiff_t)n;
	const char *q = memchr(p, '?', n);
	path = q ? (size_t)(q - p) : n;
	ptrdiff_t got = decode(p, path, dots, unescape_slashes, found_escaped_slash);
	if (got < 0)
		return -1;
	size_t w = (size_t)got;
	if (dots)
		w = remove_dots(p, w);
	if (merge_slashes)
		w = merge(p, w);
	memmove(p + w, p + path, n - path);
	return (ptrdiff_t)(w + n - path);
}

bool path_has_dot_params(struct str target)
{
	if (!memchr(target.p, ';', target.n))
		return false;
	for (size_t i = 0; i + 2 < target.n && target.p[i] != '?'; i++) {
		if (target.p[i] != '/' || target.p[i + 1] != '.')
			continue;
		size_t k = i + 2;
		if (target.p[k] == '.')
			k++;
		if (k < target.n && target.p[k] == ';')
			return true;
	}
	return false;
}
