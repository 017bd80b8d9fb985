/* src/model/match.h
 *
 * Compiled matchers: strings, header fields, query parameters, cookies. Pure and allocation-free.
 */
#pragma once
#include "base/str.h"
#include "http/head.h"

struct regex; /* regex.h: RE2 */

enum string_kind {
	STRING_ANY,
	STRING_EXACT,
	STRING_PREFIX,
	STRING_SUFFIX,
	STRING_CONTAINS,
	STRING_REGEX
};
struct string_match {
	enum string_kind kind;
	bool ignore_case;
	struct str text; /* lower-cased when ignore_case */
	const struct regex *
		regex; /* whole-string match. When the pattern is LITERAL, ".*LITERAL.*" and the like it is compiled to the
				    * plain kinds above instead */
};
bool string_matches(const struct string_match *m, struct str s);

enum field_match_kind { FIELD_MATCH_STRING, FIELD_MATCH_RANGE, FIELD_MATCH_PRESENT };
struct field_match { /* envoy.config.route.v3.HeaderMatcher */
	struct str name;
	enum field_id id;
	enum field_match_kind kind;
	struct string_match string;
	int64_t from, to; /* [from, to) */
	bool present;     /* FIELD_MATCH_PRESENT: wanted present (true) or absent */
	bool invert, missing_as_empty;
};
/* Of a repeated field any value may match (invert is applied to that answer), as Envoy 1.40
 * does. */
bool field_matches(const struct field_match *m, const struct head *h);

struct query_match { /* QueryParameterMatcher; compared as it stands, not percent-decoded, as Envoy 1.40 does */
	struct str name;
	bool present_only;
	bool present;
	struct string_match string;
};
bool query_matches(const struct query_match *m, struct str query);

struct cookie_match { /* CookieMatcher */
	struct str name;
	struct string_match string;
	bool invert;
};
bool cookie_matches(const struct cookie_match *m, const struct head *h);
/* Value of the first cookie of that name in all Cookie fields, without the quotes around it; .p
 * NULL when absent. */
struct str cookie_value(const struct head *h, struct str name);
