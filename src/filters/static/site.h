/* src/filters/static/site.h
 *
 * What serving a folder needs to know and can be told without one: names, media types, dates,
 * validators, ranges. Pure but for site_open. RFC 9110 sections are given where a rule comes from.
 */
#pragma once
#include "base/str.h"
#include <sys/types.h>

enum { SITE_PATH = 4096, SITE_NAME = 255, SITE_DATE = 29, SITE_RANGES = 8 };

/* The file a request path (no query) names: percent-decoded, without the slash in front, into out
 * (SITE_PATH bytes, NUL-terminated). *folder: it ended with a slash. Returns the length or -1: no
 * such path can exist here (a decoded slash, backslash, NUL or control byte, "..", a name that
 * begins with a dot other than /.well-known, a broken escape, too long). Empty segments and "." are
 * skipped. */
int site_path(struct str path, char *out, bool *folder);
/* name, percent-encoded for a Location; out holds 3 * SITE_PATH. Returns the length. */
size_t site_encode(struct str name, char *out);
/* By the name's extension, with charset for text. */
struct str site_type(struct str name);

/* "Sat, 01 Jan 2022 00:00:00 GMT": SITE_DATE bytes, no NUL. */
void site_date(int64_t seconds, char *out);
/* RFC 9110 5.6.7: the three forms. now: for two-digit years. False: none of them. */
bool site_date_read(struct str s, int64_t now, int64_t *seconds);

/* Request fields that ask for something under a condition; .p NULL: absent. */
struct site_conditions {
	struct str if_match, if_none_match, if_modified_since, if_unmodified_since, if_range;
};
struct site_validators {
	struct str etag;  /* strong, with its quotes */
	int64_t modified; /* seconds */
	int64_t now;
};
enum site_verdict { SITE_SEND, SITE_NOT_MODIFIED, SITE_FAILED };
/* RFC 9110 13.2.2 for GET and HEAD, without its step 5. */
enum site_verdict site_evaluate(const struct site_conditions *c, const struct site_validators *v);
/* Step 5: Range counts. */
bool site_range_holds(const struct site_conditions *c, const struct site_validators *v);

struct site_range {
	uint64_t from, to; /* [from, to) */
};
/* Range of a representation of size bytes. 0: ignore it (another unit, bad syntax, too many or more
 * bytes than there are); -1: not satisfiable (416); else the number of ranges written to out
 * (SITE_RANGES). */
int site_ranges(struct str value, uint64_t size, struct site_range *out);

/* Opens a file or folder below the folder root for reading; never leaves it, whatever links say.
 * -1: errno. */
int site_open(int root, const char *name);
