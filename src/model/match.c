/* src/model/match.c */
#include "model/match.h"
#include "model/regex.h"
#ifdef __SSE2__
#include <emmintrin.h>
#endif

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* b is lower case. */
static bool same_ignoring_case(const char *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (lower(a[i]) != b[i])
			return false;
	return true;
}

/* Is what, of two bytes or more, in s? On the path of every request that is routed by a cookie: sixteen places at a
 * time are asked for the first and the last byte; memmem has to build its table first (277 instructions for a
 * cookie of 90 bytes, against 75). */
static bool find(struct str s, struct str what)
{
#ifdef __SSE2__
	if (s.n >= what.n + 15) {
		size_t last = what.n - 1, end = s.n - last - 16; /* of the last full block */
		const __m128i first_byte = _mm_set1_epi8(what.p[0]),
			      last_byte = _mm_set1_epi8(what.p[last]);
		for (size_t i = 0;; i = i + 16 < end ? i + 16 : end) {
			__m128i a = _mm_loadu_si128((const __m128i *)(s.p + i));
			__m128i b = _mm_loadu_si128((const __m128i *)(s.p + i + last));
			a = _mm_and_si128(_mm_cmpeq_epi8(a, first_byte),
					  _mm_cmpeq_epi8(b, last_byte));
			for (unsigned hits = (unsigned)_mm_movemask_epi8(a); hits; hits &= hits - 1)
				if (memcmp(s.p + i + __builtin_ctz(hits), what.p, last) == 0)
					return true;
			if (i == end)
				return false;
		}
	}
#endif
	return s.n >= what.n && memmem(s.p, s.n, what.p, what.n) != NULL;
}

static bool contains(struct str s, struct str what, bool ignore_case)
{
	if (what.n == 0)
		return true;
	if (!ignore_case)
		return what.n > 1 ? find(s, what) : s.n && memchr(s.p, what.p[0], s.n) != NULL;
	for (size_t i = 0; what.n <= s.n && i <= s.n - what.n; i++)
		if (same_ignoring_case(s.p + i, what.p, what.n))
			return true;
	return false;
}

static bool equals(const char *p, struct str text, bool ignore_case)
{
	if (text.n == 0)
		return true;
	return ignore_case ? same_ignoring_case(p, text.p, text.n) : memcmp(p, text.p, text.n) == 0;
}

bool string_matches(const struct string_match *m, struct str s)
{
	struct str t = m->text;
	switch (m->kind) {
	case STRING_ANY: return true;
	case STRING_EXACT: return s.n == t.n && equals(s.p, t, m->ignore_case);
	case STRING_PREFIX: return s.n >= t.n && equals(s.p, t, m->ignore_case);
	case STRING_SUFFIX: return s.n >= t.n && equals(s.p + (s.n - t.n), t, m->ignore_case);
	case STRING_CONTAINS: return contains(s, t, m->ignore_case);
	case STRING_REGEX: return regex_full_match(m->regex, s);
	}
	return false;
}

/* Decimal with an optional sign and blanks around it, within int64. */
static bool number(struct str s, int64_t *out)
{
	uint64_t u;
	s = str_trim(s);
	bool minus = s.n && s.p[0] == '-';
	if (s.n && (minus || s.p[0] == '+'))
		s = str_from(s, 1);
	if (!str_u64(s, &u) || u > (uint64_t)INT64_MAX + minus)
		return false;
	*out = minus ? (int64_t)(0 - u) : (int64_t)u;
	return true;
}

static bool value_matches(const struct field_match *m, struct str v)
{
	int64_t n;
	switch (m->kind) {
	case FIELD_MATCH_STRING: return string_matches(&m->string, v);
	case FIELD_MATCH_RANGE: return number(v, &n) && n >= m->from && n < m->to;
	case FIELD_MATCH_PRESENT: return m->present;
	}
	return false;
}

bool field_matches(const struct field_match *m, const struct head *h)
{
	const struct field *f;
	if (m->id != FIELD_OTHER)
		f = head_has(h, m->id) ? head_get(h, m->id) : NULL;
	else
		f = head_find(h, m->name);
	if (!f) {
		if (m->missing_as_empty)
			return value_matches(m, STR("")) != m->invert;
		/* What is not there matches nothing, inverted or not: only presence can be asked
		 * for. */
		return m->kind == FIELD_MATCH_PRESENT && m->present == m->invert;
	}
	bool any = value_matches(m, field_value(f));
	if (m->id != FIELD_OTHER) {
		for (f++; !any && f < h->f + h->n; f++)
			if (f->id == m->id)
				any = value_matches(m, field_value(f));
	} else {
		while (!any && (f = head_find_next(h, f, m->name)))
			any = value_matches(m, field_value(f));
	}
	return any != m->invert;
}

bool query_matches(const struct query_match *m, struct str query)
{
	struct str rest = query, item, name, value;
	while (rest.n) {
		str_cut(rest, '&', &item, &rest);
		str_cut(item, '=', &name, &value);
		if (!str_eq(name, m->name))
			continue;
		if (m->present_only) /* the first of that name decides */
			return m->present;
		return string_matches(&m->string, value);
	}
	return m->present_only && !m->present;
}

static bool cookie_in(struct str line, struct str name, struct str *value)
{
	struct str rest = line, item, key, v;
	while (rest.n) {
		str_cut(rest, ';', &item, &rest);
		item = str_trim(item);
		if (!str_cut(item, '=', &key, &v) || !str_eq(key, name))
			continue;
		if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"')
			v = (struct str){v.p + 1, v.n - 2};
		*value = v;
		return true;
	}
	return false;
}

struct str cookie_value(const struct head *h, struct str name)
{
	struct str value = {0};
	if (!head_has(h, FIELD_COOKIE))
		return value;
	for (const struct field *f = h->f; f < h->f + h->n; f++)
		if (f->id == FIELD_COOKIE && cookie_in(field_value(f), name, &value))
			break;
	return value;
}

bool cookie_matches(const struct cookie_match *m, const struct head *h)
{
	struct str v = cookie_value(h, m->name);
	return (v.p && string_matches(&m->string, v)) != m->invert;
}
