/* src/obs/stats_test.c */
#include "base/mem.h"
#include "base/must.h"
#include "obs/stats.c"
#include <math.h>

static stat_id hits, open_now, took;

static void registering(void)
{
	hits = stat_register(STAT_COUNTER, STR("cluster.web.upstream_rq_total"));
	open_now = stat_registerf(STAT_GAUGE, "cluster.%s.upstream_cx_active", "web");
	took = stat_register(STAT_HISTOGRAM, STR("cluster.web.upstream_rq_time"));
	must(hits && open_now && took && stat_count() == 3);
	must(stat_registerf(STAT_COUNTER, "cluster.%s.upstream_rq_total", "web") == hits);
	must(stat_register(STAT_GAUGE, STR("cluster.web.upstream_rq_total")) == 0);
	must(stat_register(STAT_GAUGE, STR("")) == 0);
	must(str_eq(stat_describe(open_now).name, STR("cluster.web.upstream_cx_active")));
	must(stat_describe(took).kind == STAT_HISTOGRAM);
	must(stat_registerf(STAT_COUNTER, "%3000d", 1) != 0);
	stat_add(0, 1); /* harmless */
	stat_record(0, 1);
	must(stat_read(0) == 0 && stat_read(4711) == 0);
}

static void *count(void *arg)
{
	for (int i = 0; i < 1000; i++) {
		stat_add(hits, 1);
		stat_add(open_now, 1);
		stat_record(took, (uint64_t)i);
		if (i % 2)
			stat_sub(open_now, 1);
	}
	return NULL;
}

static void threads_are_summed(void)
{
	pthread_t t[4];
	struct stat_summary s;
	for (int i = 0; i < 4; i++)
		must(pthread_create(&t[i], NULL, count, NULL) == 0);
	for (int i = 0; i < 100; i++) { /* reading meanwhile */
		must(stat_read(hits) <= 4000);
		stat_read_histogram(took, &s);
		must(s.count <= 4000);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	count(NULL);
	must(stat_read(hits) == 5000 && stat_read(open_now) == 2500);
	stat_read_histogram(took, &s);
	must(s.count == 5000 && s.sum == 5 * 999 * 500);
	must(s.p[0] == 0 && fabs(s.p[2] - 500) < 25 && fabs(s.p[6] - 990) < 50 && s.p[9] >= 999);

	stat_reset_counters();
	must(stat_read(hits) == 0 && stat_read(open_now) == 2500);
	stat_read_histogram(took, &s);
	must(s.count == 0 && s.sum == 0 && s.p[9] == 0);
	count(NULL);
	must(stat_read(hits) == 1000);
	stat_read_histogram(took, &s);
	must(s.count == 1000 && s.sum == 999 * 500);
	stat_set(open_now, 3);
	must(stat_read(open_now) != 0);
}

static void buckets_are_narrow(void)
{
	double least, most, before = -1;
	for (unsigned b = 0; b < OCTAVES * SUBS; b++) {
		bucket_bounds(b, &least, &most);
		must(least == before + 1 && most >= least); /* no gap, no overlap */
		must(bucket_of((uint64_t)least) == b && bucket_of((uint64_t)most) == b);
		must(most - least <= least / 16);
		before = most;
	}
	must(bucket_of(UINT64_MAX) == OCTAVES * SUBS - 1);
}

static void no_memory(void)
{
	static int n_names;
	for (uint64_t n = 1;; n++) {
		mem_fail_nth(n);
		stat_id id = stat_registerf(STAT_HISTOGRAM, "%1000d.name.%d", 1, n_names++);
		stat_record(id, 7);
		stat_record(id, 70000);
		bool fired = mem_fail_left() == 0;
		mem_fail_nth(0);
		if (!fired) {
			struct stat_summary s;
			stat_read_histogram(id, &s);
			must(s.count == 2);
			break;
		}
	}
}

int main(void)
{
	registering();
	threads_are_summed();
	buckets_are_narrow();
	no_memory();
	for (int i = 0; i < 3000; i++) { /* beyond one page */
		stat_id id = stat_registerf(STAT_COUNTER, "many.%d", i);
		stat_add(id, (uint64_t)i);
		must(stat_read(id) == (uint64_t)i);
	}
	return 0;
}
