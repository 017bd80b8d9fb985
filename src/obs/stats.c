/* src/obs/stats.c
 *
 * A thread's slots lie in pages it alone writes; the reader sums over all threads, under the lock that
 * keeps them from ending meanwhile. What ended threads counted is kept in `gone`, and resetting only
 * subtracts there: sums are modulo 2^64. A histogram's slot holds a pointer to its buckets.
 */
#include "obs/stats.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/must.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

/* Buckets: 16 to each doubling, one for each value below 32. Values from 2^40 on share the last. */
enum { SUB_BITS = 4, SUBS = 1 << SUB_BITS, TOP_BITS = 40, OCTAVES = TOP_BITS - SUB_BITS + 1 };

struct histogram {
	uint64_t sum;
	uint64_t *octaves[OCTAVES]; /* SUBS counts each; NULL until one is seen */
};

struct thread {
	struct thread *next, *prev;
	uint64_t **pages;
	bool linked;
};

_Thread_local uint64_t *stat_pages[STAT_PAGES];
static _Thread_local struct thread mine;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static struct thread threads; /* anchor */
static uint64_t *gone[STAT_PAGES];
static struct stat_info *infos[STAT_PAGES];
static uint32_t n_ids; /* highest id */
static struct map by_name;
static struct {
	char *p;
	size_t left;
} names; /* the open block; names live for ever */

static uint64_t get(const uint64_t *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static void add(uint64_t *at, uint64_t n) /* one writer, any reader */
{
	__atomic_store_n(at, get(at) + n, __ATOMIC_RELAXED);
}

static const struct stat_info *info_of(stat_id id)
{
	return &infos[id / STAT_PAGE][id % STAT_PAGE];
}

static struct histogram *histogram_at(const uint64_t *slot)
{
	return (struct histogram *)(uintptr_t)__atomic_load_n(slot, __ATOMIC_ACQUIRE);
}

/* Adds from's counts to what *slot holds; takes from itself when that is nothing. Lock held. */
static void histogram_merge(uint64_t *slot, struct histogram *from)
{
	struct histogram *to = histogram_at(slot);
	if (!to) {
		__atomic_store_n(slot, (uintptr_t)from, __ATOMIC_RELEASE);
		return;
	}
	add(&to->sum, get(&from->sum));
	for (int o = 0; o < OCTAVES; o++) {
		if (!from->octaves[o])
			continue;
		if (!to->octaves[o]) {
			to->octaves[o] = from->octaves[o];
			continue;
		}
		for (int i = 0; i < SUBS; i++)
			add(&to->octaves[o][i], get(&from->octaves[o][i]));
		mem_free(MEM_OBS, from->octaves[o]);
	}
	mem_free(MEM_OBS, from);
}

static void leave(void *p)
{
	struct thread *t = p;
	pthread_mutex_lock(&lock);
	t->prev->next = t->next;
	t->next->prev = t->prev;
	for (uint32_t i = 0; i < STAT_PAGES; i++) {
		uint64_t *page = t->pages[i];
		t->pages[i] = NULL;
		if (!page)
			continue;
		if (!gone[i]) {
			gone[i] = page;
			continue;
		}
		for (uint32_t k = 0; k < STAT_PAGE && i * STAT_PAGE + k <= n_ids; k++) {
			stat_id id = i * STAT_PAGE + k;
			if (id == 0 || page[k] == 0)
				continue;
			if (info_of(id)->kind == STAT_HISTOGRAM)
				histogram_merge(&gone[i][k], histogram_at(&page[k]));
			else
				add(&gone[i][k], page[k]);
		}
		mem_free(MEM_OBS, page);
	}
	pthread_mutex_unlock(&lock);
	t->linked = false;
}

static void start(void)
{
	threads.next = threads.prev = &threads;
	map_init(&by_name, MEM_OBS);
	must(pthread_key_create(&key, leave) == 0);
}

/* Registration */

/* Lock held. .p is NULL without memory. */
static struct str keep_name(struct str name)
{
	enum { BLOCK = 16 * 1024 };
	char *p;
	if (name.n > BLOCK / 8) {
		p = mem_alloc(MEM_OBS, name.n);
	} else {
		if (names.left < name.n) {
			char *block = mem_alloc(MEM_OBS, BLOCK);
			if (!block)
				return (struct str){0};
			names.p = block;
			names.left = BLOCK;
		}
		p = names.p;
		names.p += name.n;
		names.left -= name.n;
	}
	if (p)
		memcpy(p, name.p, name.n);
	return (struct str){p, name.n};
}

/* Lock held. */
static stat_id register_new(enum stat_kind kind, struct str name)
{
	stat_id id = n_ids + 1;
	if (id >= (uint32_t)STAT_PAGE * STAT_PAGES)
		return 0;
	struct stat_info **page = &infos[id / STAT_PAGE];
	if (!*page && !(*page = mem_zalloc(MEM_OBS, STAT_PAGE * sizeof **page)))
		return 0;
	struct stat_info *info = &(*page)[id % STAT_PAGE];
	*info = (struct stat_info){kind, keep_name(name)};
	if (!info->name.p || !map_put(&by_name, info->name, (void *)(uintptr_t)id))
		return 0; /* the copy of the name is lost: at worst one per failed allocation */
	__atomic_store_n(&n_ids, id, __ATOMIC_RELEASE);
	return id;
}

stat_id stat_register(enum stat_kind kind, struct str name)
{
	if (name.n == 0)
		return 0;
	pthread_once(&once, start);
	pthread_mutex_lock(&lock);
	stat_id id = (stat_id)(uintptr_t)map_get(&by_name, name);
	if (id == 0)
		id = register_new(kind, name);
	else if (info_of(id)->kind != kind)
		id = 0;
	pthread_mutex_unlock(&lock);
	return id;
}

stat_id stat_registerf(enum stat_kind kind, const char *fmt, ...)
{
	char small[512], *text = small;
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(small, sizeof small, fmt, ap);
	va_end(ap);
	if (n < 0)
		return 0;
	if ((size_t)n >= sizeof small) {
		text = mem_alloc(MEM_OBS, (size_t)n + 1);
		if (!text)
			return 0;
		va_start(ap, fmt);
		vsnprintf(text, (size_t)n + 1, fmt, ap);
		va_end(ap);
	}
	stat_id id = stat_register(kind, (struct str){text, (size_t)n});
	if (text != small)
		mem_free(MEM_OBS, text);
	return id;
}

uint32_t stat_count(void)
{
	return __atomic_load_n(&n_ids, __ATOMIC_ACQUIRE);
}

struct stat_info stat_describe(stat_id id)
{
	must(id >= 1 && id <= stat_count());
	return *info_of(id);
}

/* Counting */

uint64_t *stat_slot_slow(stat_id id)
{
	if (id >= (uint32_t)STAT_PAGE * STAT_PAGES)
		return NULL;
	if (!mine.linked) {
		pthread_once(&once, start);
		mine.pages = stat_pages;
		mine.linked = true;
		pthread_setspecific(key, &mine);
		pthread_mutex_lock(&lock);
		mine.next = threads.next;
		mine.prev = &threads;
		mine.next->prev = threads.next = &mine;
		pthread_mutex_unlock(&lock);
	}
	uint64_t *page = stat_pages[id / STAT_PAGE];
	if (!page) {
		page = mem_zalloc(MEM_OBS, STAT_PAGE * sizeof *page);
		if (!page)
			return NULL;
		__atomic_store_n(&stat_pages[id / STAT_PAGE], page, __ATOMIC_RELEASE);
	}
	return &page[id % STAT_PAGE];
}

void stat_add_slow(stat_id id, uint64_t n)
{
	uint64_t *slot = stat_slot_slow(id);
	if (slot)
		add(slot, n);
}

static uint64_t *slot_of(stat_id id)
{
	uint64_t *page = id < (uint32_t)STAT_PAGE * STAT_PAGES ? stat_pages[id / STAT_PAGE] : NULL;
	return page ? &page[id % STAT_PAGE] : stat_slot_slow(id);
}

void stat_set(stat_id id, uint64_t value)
{
	uint64_t *slot = slot_of(id);
	if (slot)
		__atomic_store_n(slot, value, __ATOMIC_RELAXED);
}

static unsigned bucket_of(uint64_t v)
{
	if (v < SUBS)
		return (unsigned)v;
	if (v >> TOP_BITS)
		return OCTAVES * SUBS - 1;
	unsigned top = 63 - (unsigned)__builtin_clzll(v);
	return (top - SUB_BITS + 1) * SUBS + (unsigned)(v >> (top - SUB_BITS) & (SUBS - 1));
}

/* The least and the greatest value of a bucket. */
static void bucket_bounds(unsigned b, double *least, double *most)
{
	if (b < 2 * SUBS) {
		*least = *most = b;
		return;
	}
	unsigned shift = b / SUBS - 1;
	uint64_t from = (uint64_t)(SUBS + b % SUBS) << shift;
	*least = (double)from;
	*most = (double)(from + ((uint64_t)1 << shift) - 1);
}

/* The bucket, made when it is new; NULL: no memory. */
static uint64_t *bucket_slow(stat_id id, unsigned b)
{
	uint64_t *slot = id ? slot_of(id) : NULL;
	if (!slot)
		return NULL;
	struct histogram *h = (struct histogram *)(uintptr_t)*slot;
	if (!h) {
		h = mem_zalloc(MEM_OBS, sizeof *h);
		if (!h)
			return NULL;
		__atomic_store_n(slot, (uintptr_t)h, __ATOMIC_RELEASE);
	}
	uint64_t *octave = h->octaves[b / SUBS];
	if (!octave) {
		octave = mem_zalloc(MEM_OBS, SUBS * sizeof *octave);
		if (!octave)
			return NULL;
		__atomic_store_n(&h->octaves[b / SUBS], octave, __ATOMIC_RELEASE);
	}
	return &octave[b % SUBS];
}

static __attribute__((noinline)) void record_slow(stat_id id, unsigned b, uint64_t v)
{
	uint64_t *bucket = bucket_slow(id, b);
	if (!bucket)
		return;
	add(bucket, 1);
	add(&((struct histogram *)(uintptr_t)*slot_of(id))->sum, v);
}

void stat_record(stat_id id, uint64_t v)
{
	unsigned b = bucket_of(v);
	uint64_t *page = id < (uint32_t)STAT_PAGE * STAT_PAGES ? stat_pages[id / STAT_PAGE] : NULL;
	struct histogram *h =
		page && id ? (struct histogram *)(uintptr_t)page[id % STAT_PAGE] : NULL;
	uint64_t *octave = h ? h->octaves[b / SUBS] : NULL;
	if (__builtin_expect(!octave, 0)) {
		record_slow(id, b, v);
		return;
	}
	add(&octave[b % SUBS], 1);
	add(&h->sum, v);
}

/* Reading: each with the lock held */

static uint64_t sum_of(stat_id id)
{
	uint32_t page = id / STAT_PAGE, at = id % STAT_PAGE;
	uint64_t sum = gone[page] ? get(&gone[page][at]) : 0;
	for (const struct thread *t = threads.next; t != &threads; t = t->next) {
		const uint64_t *p = __atomic_load_n(&t->pages[page], __ATOMIC_ACQUIRE);
		if (p)
			sum += get(&p[at]);
	}
	return sum;
}

struct buckets {
	uint64_t n[OCTAVES * SUBS];
	uint64_t sum;
};

static void gather(struct buckets *b, uint64_t *const *page, uint32_t at)
{
	if (!page)
		return;
	const uint64_t *p = __atomic_load_n(page, __ATOMIC_ACQUIRE);
	const struct histogram *h = p ? histogram_at(&p[at]) : NULL;
	if (!h)
		return;
	b->sum += get(&h->sum);
	for (int o = 0; o < OCTAVES; o++) {
		const uint64_t *octave = __atomic_load_n(&h->octaves[o], __ATOMIC_ACQUIRE);
		for (int i = 0; octave && i < SUBS; i++)
			b->n[o * SUBS + i] += get(&octave[i]);
	}
}

static void gather_all(struct buckets *b, stat_id id)
{
	uint32_t page = id / STAT_PAGE, at = id % STAT_PAGE;
	*b = (struct buckets){0};
	gather(b, &gone[page], at);
	for (const struct thread *t = threads.next; t != &threads; t = t->next)
		gather(b, &t->pages[page], at);
}

uint64_t stat_read(stat_id id)
{
	if (id == 0 || id > stat_count())
		return 0;
	pthread_mutex_lock(&lock);
	uint64_t v = info_of(id)->kind == STAT_HISTOGRAM ? 0 : sum_of(id);
	pthread_mutex_unlock(&lock);
	return v;
}

static double quantile(const struct buckets *b, uint64_t count, double q)
{
	double want = q * (double)count, seen = 0, least = 0, most = 0;
	for (unsigned i = 0; i < OCTAVES * SUBS; i++) {
		if (!b->n[i])
			continue;
		double n = (double)b->n[i];
		bucket_bounds(i, &least, &most);
		if (seen + n >= want)
			return least + (most - least) * (want > seen ? (want - seen) / n : 0);
		seen += n;
	}
	return most;
}

void stat_read_histogram(stat_id id, struct stat_summary *out)
{
	static const double qs[] = {0, .25, .5, .75, .9, .95, .99, .995, .999, 1};
	struct buckets b;
	*out = (struct stat_summary){0};
	if (id == 0 || id > stat_count() || info_of(id)->kind != STAT_HISTOGRAM)
		return;
	pthread_mutex_lock(&lock);
	gather_all(&b, id);
	pthread_mutex_unlock(&lock);
	for (unsigned i = 0; i < OCTAVES * SUBS; i++)
		out->count += b.n[i];
	out->sum = b.sum;
	for (size_t i = 0; out->count && i < sizeof qs / sizeof *qs; i++)
		out->p[i] = quantile(&b, out->count, qs[i]);
}

uint64_t stat_read_buckets(stat_id id, const double *bounds, unsigned n, uint64_t *out,
			   uint64_t *sum)
{
	struct buckets b;
	uint64_t count = 0;
	double least, most;
	unsigned k = 0;
	memset(out, 0, n * sizeof *out);
	*sum = 0;
	if (id == 0 || id > stat_count() || info_of(id)->kind != STAT_HISTOGRAM)
		return 0;
	pthread_mutex_lock(&lock);
	gather_all(&b, id);
	pthread_mutex_unlock(&lock);
	*sum = b.sum;
	for (unsigned i = 0; i < OCTAVES * SUBS; i++) {
		if (!b.n[i])
			continue;
		bucket_bounds(i, &least, &most);
		while (k < n && bounds[k] < most)
			out[k++] = count;
		count += b.n[i];
	}
	while (k < n)
		out[k++] = count;
	return count;
}

/* Lock held. Makes the sums 0 by what is kept in gone. Without memory a part is left as it is. */
static void reset_histogram(uint64_t *slot, stat_id id)
{
	struct buckets b;
	gather_all(&b, id);
	struct histogram *h = histogram_at(slot);
	if (!h) {
		h = mem_zalloc(MEM_OBS, sizeof *h);
		if (!h)
			return;
		*slot = (uintptr_t)h;
	}
	h->sum -= b.sum;
	for (unsigned i = 0; i < OCTAVES * SUBS; i++) {
		uint64_t **octave = &h->octaves[i / SUBS];
		if (!b.n[i])
			continue;
		if (!*octave && !(*octave = mem_zalloc(MEM_OBS, SUBS * sizeof **octave)))
			return;
		(*octave)[i % SUBS] -= b.n[i];
	}
}

void stat_reset_counters(void)
{
	pthread_once(&once, start);
	pthread_mutex_lock(&lock);
	for (stat_id id = 1; id <= n_ids; id++) {
		uint64_t **page = &gone[id / STAT_PAGE];
		enum stat_kind kind = info_of(id)->kind;
		if (kind == STAT_GAUGE)
			continue;
		if (!*page && !(*page = mem_zalloc(MEM_OBS, STAT_PAGE * sizeof **page)))
			break;
		if (kind == STAT_HISTOGRAM)
			reset_histogram(&(*page)[id % STAT_PAGE], id);
		else
			(*page)[id % STAT_PAGE] -= sum_of(id);
	}
	pthread_mutex_unlock(&lock);
}
