/* src/filters/fallback/top.c
 *
 * Space-Saving (Metwally et al. 2005): a path that has no counter takes over the smallest one with its count, which is then the error
 * bound. Counters stand in a heap, smallest first, and in a hash table by path.
 */
#include "base/hash.h"
#include "base/mem.h"
#include "filters/fallback/fallback_int.h"
#include <pthread.h>
#include <stdlib.h>

enum { PATH_BYTES = 200 };

struct counter {
	uint64_t hash, count, over, last;
	uint32_t heap_at, next; /* next: in the same bucket, number + 1 */
	uint16_t status, n;
	char path[PATH_BYTES]; /* its beginning */
};
struct top {
	pthread_mutex_t lock;
	uint64_t since;
	unsigned most, n, nbuckets;
	struct counter *counters;
	uint32_t *heap, *buckets; /* buckets: number + 1 */
};

struct top *top_new(unsigned counters)
{
	struct top *t = mem_zalloc(MEM_OTHER, sizeof *t);
	if (!t)
		return NULL;
	t->most = counters;
	t->nbuckets = 16;
	while (t->nbuckets < counters * 2)
		t->nbuckets *= 2;
	t->counters = mem_zalloc(MEM_OTHER, counters * sizeof *t->counters);
	t->heap = mem_zalloc(MEM_OTHER, counters * sizeof *t->heap);
	t->buckets = mem_zalloc(MEM_OTHER, t->nbuckets * sizeof *t->buckets);
	pthread_mutex_init(&t->lock, NULL);
	if (!t->counters || !t->heap || !t->buckets) {
		top_free(t);
		return NULL;
	}
	return t;
}

void top_free(struct top *t)
{
	if (!t)
		return;
	mem_free(MEM_OTHER, t->counters);
	mem_free(MEM_OTHER, t->heap);
	mem_free(MEM_OTHER, t->buckets);
	pthread_mutex_destroy(&t->lock);
	mem_free(MEM_OTHER, t);
}

static void place(struct top *t, uint32_t at, uint32_t c)
{
	t->heap[at] = c;
	t->counters[c].heap_at = at;
}

static void sink(struct top *t, uint32_t at)
{
	uint32_t c = t->heap[at];
	for (;;) {
		uint32_t k = 2 * at + 1;
		if (k >= t->n)
			break;
		if (k + 1 < t->n &&
		    t->counters[t->heap[k + 1]].count < t->counters[t->heap[k]].count)
			k++;
		if (t->counters[t->heap[k]].count >= t->counters[c].count)
			break;
		place(t, at, t->heap[k]);
		at = k;
	}
	place(t, at, c);
}

static void rise(struct top *t, uint32_t at)
{
	uint32_t c = t->heap[at];
	while (at && t->counters[t->heap[(at - 1) / 2]].count > t->counters[c].count) {
		place(t, at, t->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	place(t, at, c);
}

static void unlink_counter(struct top *t, uint32_t c)
{
	uint32_t *at = &t->buckets[t->counters[c].hash & (t->nbuckets - 1)];
	while (*at != c + 1)
		at = &t->counters[*at - 1].next;
	*at = t->counters[c].next;
}

void top_add(struct top *t, struct str path, unsigned status, uint64_t wall_us)
{
	if (!t)
		return;
	uint64_t hash = hash_str(path), now = wall_us / 1000000;
	struct str kept = {path.p, path.n < PATH_BYTES ? path.n : PATH_BYTES};
	pthread_mutex_lock(&t->lock);
	if (!t->since)
		t->since = now;
	uint32_t c = t->buckets[hash & (t->nbuckets - 1)];
	while (c && (t->counters[c - 1].hash != hash ||
		     !str_eq((struct str){t->counters[c - 1].path, t->counters[c - 1].n}, kept)))
		c = t->counters[c - 1].next;
	if (c) {
		c--;
	} else {
		uint64_t over = 0;
		if (t->n < t->most) {
			c = t->n++;
			place(t, c, c);
		} else {
			c = t->heap[0];
			over = t->counters[c].count;
			unlink_counter(t, c);
		}
		struct counter *k = &t->counters[c];
		k->hash = hash;
		k->count = k->over = over;
		k->n = (uint16_t)kept.n;
		memcpy(k->path, kept.p, kept.n);
		k->next = t->buckets[hash & (t->nbuckets - 1)];
		t->buckets[hash & (t->nbuckets - 1)] = c + 1;
		rise(t, k->heap_at);
	}
	t->counters[c].count++;
	t->counters[c].status = (uint16_t)status;
	t->counters[c].last = now;
	sink(t, t->counters[c].heap_at);
	pthread_mutex_unlock(&t->lock);
}

static int by_count(const void *a, const void *b)
{
	const struct top_row *x = a, *y = b;
	return x->count < y->count ? 1 : x->count > y->count ? -1 : str_cmp(x->path, y->path);
}

unsigned top_read(struct top *t, struct top_row *rows, unsigned n, struct arena *arena,
		  uint64_t *since)
{
	unsigned k = 0;
	*since = 0;
	if (!t)
		return 0;
	pthread_mutex_lock(&t->lock);
	*since = t->since;
	struct top_row *all = t->n ? arena_alloc(arena, t->n * sizeof *all) : NULL;
	for (unsigned i = 0; all && i < t->n; i++) {
		const struct counter *c = &t->counters[i];
		struct str path = arena_str(arena, (struct str){c->path, c->n});
		if (path.p)
			all[k++] = (struct top_row){path, c->count, c->over, c->last, c->status};
	}
	pthread_mutex_unlock(&t->lock);
	if (k)
		qsort(all, k, sizeof *all, by_count);
	if (k > n)
		k = n;
	if (k)
		memcpy(rows, all, k * sizeof *rows);
	return k;
}
