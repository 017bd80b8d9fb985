/* src/filters/fallback/report.h
 *
 * What the policies of this process can tell, for the admin pages; what they can be told. Any thread.
 */
#pragma once
#include "base/arena.h"

struct top_row {
	struct str path;
	uint64_t count, over, last; /* over: how much of count may be another path's; last: wall clock, s */
	unsigned status;
};
/* Paths that fallbacks still serve, or (both) that neither origin has, most frequent first: at most n rows into arena. policy .p NULL:
 * of all. since: when counting began, wall clock, s; 0: never. NULL: none, or no memory. */
struct top_row *report_top(struct str policy, bool both, unsigned n, struct arena *arena, unsigned *count, uint64_t *since);
/* Misses remembered below that path are forgotten ("": all). */
void report_forget(struct str prefix, uint64_t now_us);
