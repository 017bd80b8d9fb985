/* src/obs/stats.h
 *
 * Counters, gauges, histograms by name. Each thread has a slot of its own; the reader sums. A stat is
 * registered once by its full Envoy name ("cluster.web.upstream_rq_total"); registering the same name again
 * gives the same id, so counts survive a reload. Ids are never freed.
 */
#pragma once
#include "base/stat_id.h"
#include "base/str.h"
#include <stdint.h>

enum stat_kind { STAT_COUNTER, STAT_GAUGE, STAT_HISTOGRAM };
/* stat_id 0: none; adding to it is a no-op that is never shown. */

/* Any thread; takes a lock; copies the name. 0: no memory, the table (1 million) is
 * full, or the name is one of another kind. A gauge is the
 * sum of the threads' values. */
stat_id stat_register(enum stat_kind kind, struct str name);
stat_id stat_registerf(enum stat_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

enum { STAT_PAGE = 1024, STAT_PAGES = 1024 };
extern _Thread_local uint64_t *stat_pages[STAT_PAGES];
uint64_t *stat_slot_slow(stat_id id);
void stat_add_slow(stat_id id, uint64_t n);

static inline void stat_add(stat_id id, uint64_t n)
{
	uint64_t *page = stat_pages[id / STAT_PAGE];
	if (__builtin_expect(page != 0, 1)) { /* relaxed: one writer, any reader */
		uint64_t *slot = &page[id % STAT_PAGE];
		__atomic_store_n(slot, __atomic_load_n(slot, __ATOMIC_RELAXED) + n,
				 __ATOMIC_RELAXED);
	} else {
		stat_add_slow(id, n);
	}
}
static inline void stat_sub(stat_id id, uint64_t n)
{
	stat_add(id, (uint64_t)0 - n);
}
/* Gauges set by one thread only. */
void stat_set(stat_id id, uint64_t value);
/* Histogram: v in the unit of its name (ms or us); log-linear buckets, about 5 % wide. */
void stat_record(stat_id id, uint64_t v);

uint64_t stat_read(stat_id id);
struct stat_summary {
	uint64_t count, sum;
	double p[10]; /* P0 P25 P50 P75 P90 P95 P99 P99.5 P99.9 P100, as Envoy lists them */
};
void stat_read_histogram(stat_id id, struct stat_summary *out);
/* out[i]: how many values were at most bounds[i] (rising), as exact as the buckets are. Returns
 * how many there are in all. */
uint64_t stat_read_buckets(stat_id id, const double *bounds, unsigned n, uint64_t *out,
			   uint64_t *sum);
struct stat_info {
	enum stat_kind kind;
	struct str name;
};
/* ids are 1 .. stat_count(). */
uint32_t stat_count(void);
struct stat_info stat_describe(stat_id id);
/* Counters and histograms to 0. */
void stat_reset_counters(void);
