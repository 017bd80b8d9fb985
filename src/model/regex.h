/* src/model/regex.h
 *
 * RE2 behind a C interface (regex.cc), Envoy's safe_regex: linear time. Thread-safe once made.
 */
#pragma once
#include "base/str.h"
#ifdef __cplusplus
extern "C" {
#endif
struct regex;
/* NULL: error text copied into err (cap bytes). */
struct regex *regex_new(struct str pattern, char *err, size_t cap);
void regex_free(struct regex *r);
bool regex_full_match(const struct regex *r, struct str s);
/* All occurrences replaced by rewrite (\1 groups), into out (malloc'd by the callee; free()).
 * False: no memory. */
bool regex_replace(const struct regex *r, struct str s, struct str rewrite, char **out, size_t *n);
/* False when rewrite names a group that pattern lacks. */
bool regex_check_rewrite(const struct regex *r, struct str rewrite, char *err, size_t cap);
#ifdef __cplusplus
}
#endif
