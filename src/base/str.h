/* src/base/str.h
 *
 * A run of bytes somebody else owns. Not NUL-terminated, may hold NUL, may be empty.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct str {
	const char *p;
	size_t n;
};

#define STR(lit) ((struct str){"" lit, sizeof(lit) - 1})
/* For printf: printf("%.*s", STR_ARG(s)). */
#define STR_ARG(s) (int)(s).n, (s).p

static inline struct str str_of(const char *z)
{
	return (struct str){z, z ? strlen(z) : 0};
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* ASCII case is ignored; other bytes must match exactly. */
static inline bool str_ieq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

static inline bool str_starts(struct str s, struct str prefix)
{
	return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

static inline bool str_ends(struct str s, struct str suffix)
{
	return s.n >= suffix.n &&
	       (suffix.n == 0 || memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) == 0);
}

static inline struct str str_from(struct str s, size_t at)
{
	return at >= s.n ? (struct str){s.p + s.n, 0} : (struct str){s.p + at, s.n - at};
}

/* Splits s at the first sep. Without one: false, *before is all of s, *after empty. */
bool str_cut(struct str s, char sep, struct str *before, struct str *after);
/* Without the spaces and tabs at both ends. */
struct str str_trim(struct str s);
/* Offset of needle in s, or -1. */
ptrdiff_t str_find(struct str s, struct str needle);
/* Digits only, no sign, no blanks; false on anything else or overflow. */
bool str_u64(struct str s, uint64_t *out);
/* Memory order, shorter first when one is a prefix of the other: for qsort. */
int str_cmp(struct str a, struct str b);
/* Edit distance for "did you mean" (insert, delete, replace, swap of neighbours cost 1); at most
 * cap + 1. */
unsigned str_distance(struct str a, struct str b, unsigned cap);
