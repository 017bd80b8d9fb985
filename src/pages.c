/* src/pages.c: /fallback/top, /fallback/forget (spec/fallback.md 18, 21). */
#include "pages.h"
#include "admin/page.h"
#include "filters/fallback/report.h"
#include <stdio.h>
#include <time.h>

enum { ROWS_MOST = 10000 };

static void csv_text(struct page *p, struct str s)
{
	page_add(p, STR("\""));
	for (size_t i = 0; i < s.n; i++) {
		/* what begins with = + - @ is a formula to a spreadsheet: a path begins with / */
		page_add(p, s.p[i] == '"' ? STR("\"\"") : (struct str){s.p + i, 1});
	}
	page_add(p, STR("\""));
}

static unsigned top(struct page *p, struct str (*get)(const void *q, const char *name),
		    const void *q, struct arena *a, struct str *type)
{
	/* as enum report_kind */
	static const char *const kinds[] = {"fallback", "both_miss", "differs"};
	struct str kind = get(q, "kind"), most = get(q, "n");
	unsigned k = 0;
	uint64_t n = 50, since;
	unsigned count;
	while (kind.p && k < 3 && !str_eq(kind, str_of(kinds[k])))
		k++;
	if ((most.p && (!str_u64(most, &n) || n > ROWS_MOST)) || k == 3) {
		*type = STR("text/plain; charset=UTF-8");
		page_add(p, STR("n: a number up to 10000; kind: fallback, both_miss or differs\n"));
		return 400;
	}
	struct top_row *rows =
		report_top(get(q, "policy"), (enum report_kind)k, (unsigned)n, a, &count, &since);
	bool csv = str_eq(get(q, "format"), STR("csv"));
	if (csv) {
		*type = STR("text/csv; charset=UTF-8");
		page_add(p, STR("path,count,over,status,last\n"));
	} else {
		json_open(p, NULL, '{');
		json_number(p, "since", since);
		json_open(p, "paths", '[');
	}
	for (unsigned i = 0; i < count; i++) {
		const struct top_row *r = &rows[i];
		if (csv) {
			csv_text(p, r->path);
			page_addf(p, ",%llu,%llu,%u,%llu\n", (unsigned long long)r->count,
				  (unsigned long long)r->over, r->status,
				  (unsigned long long)r->last);
			continue;
		}
		json_open(p, NULL, '{');
		json_string(p, "path", r->path);
		json_number(p, "count", r->count);
		json_number(p, "over", r->over);
		json_number(p, "status", r->status);
		json_number(p, "last", r->last);
		json_close(p);
	}
	if (!csv) {
		json_close(p);
		json_close(p);
	}
	return 200;
}

static unsigned forget(struct page *p, struct str (*get)(const void *q, const char *name),
		       const void *q, struct arena *a, struct str *type)
{
	struct timespec t;
	struct str prefix = get(q, "prefix");
	clock_gettime(CLOCK_MONOTONIC, &t);
	report_forget(prefix.p ? prefix : STR(""),
		      (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000);
	*type = STR("text/plain; charset=UTF-8");
	page_add(p, STR("OK\n"));
	return 200;
}

const struct admin_page pages[] = {
	{"/fallback/top",
	 "print the paths that the fallback still serves (n, kind=both_miss|differs, format=csv, "
	 "policy)",
	 false, top},
	{"/fallback/forget", "forget which paths the primary lacks (prefix)", true, forget},
	{NULL, NULL, false, NULL},
};
