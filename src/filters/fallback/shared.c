/* src/filters/fallback/shared.c: a policy's counters, tables and limits, the same for all
 * workers and from one model to the next. */
#include "base/mem.h"
#include "base/must.h"
#include "filters/fallback/fallback_int.h"
#include <pthread.h>
#include <stdlib.h>

const char *const served_names[SERVED] = {"primary",   "fallback", "override", "direct",
					  "both_miss", "degraded", "error"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fb_shared *all;

static stat_id stat_of(struct str name, enum stat_kind kind, const char *what)
{
	return stat_registerf(kind, "fallback.%.*s.%s", STR_ARG(name), what);
}

static void unmake(struct fb_shared *s)
{
	misses_free(s->misses);
	top_free(s->top);
	top_free(s->both);
	top_free(s->differs);
	mem_free(MEM_OTHER, (void *)(uintptr_t)s->name.p);
	mem_free(MEM_OTHER, s);
}

static struct fb_shared *make(struct str name, unsigned entries, unsigned paths)
{
	struct fb_shared *s = mem_zalloc(MEM_OTHER, sizeof *s);
	if (!s)
		return NULL;
	s->name.p = mem_strndup(MEM_OTHER, name.p, name.n);
	s->name.n = name.n;
	s->misses =
		entries ? misses_new(entries, stat_of(name, STAT_GAUGE, "memory_entries")) : NULL;
	s->top = paths ? top_new(paths) : NULL;
	s->both = paths ? top_new(paths) : NULL;
	s->differs = paths ? top_new(paths) : NULL;
	if (!s->name.p || (entries && !s->misses) ||
	    (paths && (!s->top || !s->both || !s->differs))) {
		unmake(s);
		return NULL;
	}
	s->seconds_primary = stat_of(name, STAT_HISTOGRAM, "primary_ms");
	s->seconds_fallback = stat_of(name, STAT_HISTOGRAM, "fallback_ms");
	s->held_bytes = stat_of(name, STAT_GAUGE, "held_bytes");
	s->spooled_bytes = stat_of(name, STAT_GAUGE, "spooled_bytes");
	s->inflight_now = stat_of(name, STAT_GAUGE, "inflight");
	s->hints_right = stat_of(name, STAT_COUNTER, "hints.right");
	s->hints_wrong = stat_of(name, STAT_COUNTER, "hints.wrong");
	s->loops = stat_of(name, STAT_COUNTER, "loops");
	s->shadow_same = stat_of(name, STAT_COUNTER, "shadow.same");
	s->shadow_differs = stat_of(name, STAT_COUNTER, "shadow.differs");
	s->loser.complete = stat_of(name, STAT_COUNTER, "losers.complete");
	s->loser.drained = stat_of(name, STAT_COUNTER, "losers.drained");
	s->loser.closed = stat_of(name, STAT_COUNTER, "losers.closed");
	return s;
}

struct fb_shared *shared_open(struct str name, unsigned entries, unsigned paths)
{
	struct fb_shared *s;
	pthread_mutex_lock(&lock);
	for (s = all; s && !str_eq(s->name, name); s = s->next)
		;
	if (!s && (s = make(name, entries, paths))) {
		s->next = all;
		all = s;
	}
	if (s)
		s->refs++;
	pthread_mutex_unlock(&lock);
	return s;
}

void shared_close(struct fb_shared *s)
{
	pthread_mutex_lock(&lock);
	must(s->refs > 0);
	if (--s->refs == 0) {
		struct fb_shared **at = &all;
		while (*at != s)
			at = &(*at)->next;
		*at = s->next;
		unmake(s);
	}
	pthread_mutex_unlock(&lock);
}

void shared_count(struct fb_shared *s, enum served what, unsigned status)
{
	if (status < 100 || status >= 100 + FB_SERVED_CODES)
		return;
	_Atomic stat_id *slot = &s->responses[what][status - 100];
	stat_id id = atomic_load_explicit(slot, memory_order_relaxed);
	if (__builtin_expect(!id, 0)) {
		id = stat_registerf(STAT_COUNTER, "fallback.%.*s.responses.%s.%u", STR_ARG(s->name),
				    served_names[what], status);
		atomic_store_explicit(slot, id, memory_order_relaxed);
	}
	stat_add(id, 1);
}

static int by_count(const void *a, const void *b)
{
	const struct top_row *x = a, *y = b;
	return x->count < y->count ? 1 : x->count > y->count ? -1 : str_cmp(x->path, y->path);
}

struct top_row *report_top(struct str policy, enum report_kind kind, unsigned n,
			   struct arena *arena, unsigned *count, uint64_t *since)
{
	unsigned policies = 0, k = 0;
	*count = 0;
	*since = 0;
	pthread_mutex_lock(&lock);
	for (const struct fb_shared *s = all; s; s = s->next)
		policies++;
	struct top_row *rows =
		policies && n ? arena_alloc(arena, (size_t)policies * n * sizeof *rows) : NULL;
	for (const struct fb_shared *s = all; s && rows; s = s->next) {
		uint64_t t;
		if (policy.p && !str_eq(policy, s->name))
			continue;
		k += top_read(kind == REPORT_BOTH      ? s->both
			      : kind == REPORT_DIFFERS ? s->differs
						       : s->top,
			      rows + k, n, arena, &t);
		if (t && (!*since || t < *since))
			*since = t;
	}
	pthread_mutex_unlock(&lock);
	if (k)
		qsort(rows, k, sizeof *rows, by_count);
	*count = k < n ? k : n;
	return rows;
}

void report_forget(struct str prefix, uint64_t now_us)
{
	pthread_mutex_lock(&lock);
	for (const struct fb_shared *s = all; s; s = s->next)
		if (s->misses)
			misses_forget(s->misses, prefix, now_us);
	pthread_mutex_unlock(&lock);
}
