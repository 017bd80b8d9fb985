/* src/filters/fallback/report.h
 *
 * What the policies of this process can tell, for the admin pages; what they can be told. Any thread.
 */
#pragma once
#include "base/arena.h"

struct top_row {
	struct str path;
	uint64_t count, over,
		last; /* over: how much of count may be another path's; last: wall clock, s */
	unsigned status;
};
enum report_kind { REPORT_SERVED, REPORT_BOTH, REPORT_DIFFERS };
/* Paths that fallbacks still serve, that neither origin has, or whose answers differ (compare mode), most frequent first: at most n rows into arena. policy .p NULL:
 * of all. since: when counting began, wall clock, s; 0: never. NULL: none, or no memory. */
struct top_row *report_top(struct str policy, enum report_kind kind, unsigned n,
			   struct arena *arena, unsigned *count, uint64_t *since);
/* Misses remembered below that path are forgotten ("": all). */
void report_forget(struct str prefix, uint64_t now_us);
