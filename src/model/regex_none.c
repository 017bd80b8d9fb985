/* src/model/regex_none.c: takes the place of regex.cc in a build without RE2 (-Dregex=disabled). */
#include "base/must.h"
#include "model/regex.h"
#include <stdio.h>

struct regex *regex_new(struct str pattern, char *err, size_t cap)
{
	snprintf(err, cap, "this build has no regular expressions");
	return NULL;
}

void regex_free(struct regex *r)
{
	must(r == NULL);
}

bool regex_full_match(const struct regex *r, struct str s)
{
	return false;
}

bool regex_replace(const struct regex *r, struct str s, struct str rewrite, char **out, size_t *n)
{
	return false;
}

bool regex_check_rewrite(const struct regex *r, struct str rewrite, char *err, size_t cap)
{
	snprintf(err, cap, "this build has no regular expressions");
	return false;
}
