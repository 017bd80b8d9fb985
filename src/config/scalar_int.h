/* src/config/scalar_int.h
 *
 * Scalars of the tree as values, by proto-JSON rules; shared by the schema check (which reports wrong types) and the readers
 * (which report wrong values). Pure.
 */
#pragma once
#include "base/doc.h"

/* The longest google.protobuf.Duration, 10,000 years. */
#define SCALAR_DURATION_MAX_S 315576000000ull

/* A number, or a string of one; whole and in range. False: it is not. */
bool scalar_u64(const struct doc *d, uint64_t *out);
bool scalar_i64(const struct doc *d, int64_t *out);
/* Also "NaN", "Infinity", "-Infinity". */
bool scalar_double(const struct doc *d, double *out);
/* "1.5s": digits, at most nine decimals, "s"; *us is rounded up, so that the shortest time is not 0, and keeps its sign.
 * False: *hint is "" or what was probably meant ("90s" for "1.5m"), in 24 bytes. */
bool scalar_duration(struct str s, int64_t *us, char hint[24]);
/* Standard or URL-safe base64, padding optional. out has room for 3 * (in.n / 4) + 3 bytes, or
 * is NULL: only checked. */
bool scalar_base64(struct str in, char *out, size_t *n);
/* What the document holds, for messages: "a string", "a list", ... */
const char *scalar_what(const struct doc *d);
/* lowerCamelCase of snake into out (cap bytes, cut). */
void scalar_camel(const char *snake, char *out, size_t cap);
/* Text of a JSON number -> the number in d (kind, number, is_int, integer). False: it is none. */
bool scalar_number(struct doc *d);
