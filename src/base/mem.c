/* src/base/mem.c
 *
 * Each thread counts for itself; the reader sums over the list of threads. What one thread allocates
 * and another frees makes single counts wrap below zero; the sums are right modulo 2^64.
 */
#include "base/mem.h"
#include "base/must.h"
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A thread's bytes reach the sum that the limit is held against in steps of this size. */
enum { DRIFT = 32 * 1024 };

struct counts {
	struct counts *next, *prev;
	uint64_t bytes[MEM_CLASSES];
	uint64_t calls;
	int64_t drift; /* not yet in total */
	uint64_t fail; /* tests */
	bool linked;
};

static _Thread_local struct counts mine;
static struct counts gone; /* what ended threads leave behind; anchor of the list */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static uint64_t limit;
static int64_t total;

static void put(uint64_t *at, uint64_t v) /* one writer, any reader */
{
	__atomic_store_n(at, v, __ATOMIC_RELAXED);
}

static uint64_t get(const uint64_t *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static void sum(struct counts *to, const struct counts *from)
{
	for (int i = 0; i < MEM_CLASSES; i++)
		put(&to->bytes[i], get(&to->bytes[i]) + get(&from->bytes[i]));
	put(&to->calls, get(&to->calls) + get(&from->calls));
}

static void leave(void *p)
{
	struct counts *t = p;
	pthread_mutex_lock(&lock);
	sum(&gone, t);
	t->prev->next = t->next;
	t->next->prev = t->prev;
	pthread_mutex_unlock(&lock);
	__atomic_add_fetch(&total, t->drift, __ATOMIC_RELAXED);
	*t = (struct counts){0}; /* a later destructor that frees joins again */
}

static void start(void)
{
	gone.next = gone.prev = &gone;
	must(pthread_key_create(&key, leave) == 0);
}

static __attribute__((noinline, cold)) void join(struct counts *t)
{
	pthread_once(&once, start);
	t->linked = true; /* first: setspecific may allocate, but not through here */
	pthread_setspecific(key, t);
	pthread_mutex_lock(&lock);
	t->next = gone.next;
	t->prev = &gone;
	t->next->prev = gone.next = t;
	pthread_mutex_unlock(&lock);
}

static struct counts *self(void)
{
	struct counts *t = &mine;
	if (__builtin_expect(!t->linked, 0))
		join(t);
	return t;
}

static void count(struct counts *t, enum mem_class c, int64_t n)
{
	put(&t->bytes[c], t->bytes[c] + (uint64_t)n);
	t->drift += n;
	if (__builtin_expect(t->drift > DRIFT || t->drift < -DRIFT, 0)) {
		__atomic_add_fetch(&total, t->drift, __ATOMIC_RELAXED);
		t->drift = 0;
	}
}

static bool over(const struct counts *t, enum mem_class c, size_t n)
{
	uint64_t max = get(&limit);
	if (__builtin_expect(max == 0 || c == MEM_OBS, 1))
		return false;
	int64_t now = __atomic_load_n(&total, __ATOMIC_RELAXED) + t->drift;
	uint64_t have = now > 0 ? (uint64_t)now : 0;
	return have > max || n > max - have;
}

/* True: this one fails. */
static bool refuse(struct counts *t, enum mem_class c, size_t n)
{
	if (__builtin_expect(t->fail != 0, 0) && --t->fail == 0)
		return true;
	return over(t, c, n);
}

static void *take(enum mem_class c, size_t n, bool zero)
{
	struct counts *t = self();
	put(&t->calls, t->calls + 1);
	if (refuse(t, c, n))
		return NULL;
	void *p = zero ? calloc(1, n ? n : 1) : malloc(n ? n : 1);
	if (__builtin_expect(p != NULL, 1))
		count(t, c, (int64_t)malloc_usable_size(p));
	return p;
}

void *mem_alloc(enum mem_class c, size_t n)
{
	return take(c, n, false);
}

void *mem_zalloc(enum mem_class c, size_t n)
{
	return take(c, n, true);
}

void *mem_realloc(enum mem_class c, void *p, size_t n)
{
	if (!p)
		return take(c, n, false);
	struct counts *t = self();
	size_t before = malloc_usable_size(p);
	put(&t->calls, t->calls + 1);
	if (refuse(t, c, n > before ? n - before : 0))
		return NULL;
	void *q = realloc(p, n ? n : 1);
	if (q)
		count(t, c, (int64_t)malloc_usable_size(q) - (int64_t)before);
	return q;
}

void mem_free(enum mem_class c, void *p)
{
	if (!p)
		return;
	count(self(), c, -(int64_t)malloc_usable_size(p));
	free(p);
}

char *mem_strndup(enum mem_class c, const char *p, size_t n)
{
	char *q = n < SIZE_MAX ? take(c, n + 1, false) : NULL;
	if (!q)
		return NULL;
	if (n)
		memcpy(q, p, n);
	q[n] = 0;
	return q;
}

void mem_read_totals(struct mem_totals *out)
{
	struct counts all = {0};
	pthread_once(&once, start);
	pthread_mutex_lock(&lock);
	sum(&all, &gone);
	for (const struct counts *t = gone.next; t != &gone; t = t->next)
		sum(&all, t);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < MEM_CLASSES; i++) /* a reader between two threads' counts may see < 0 */
		out->bytes[i] = (int64_t)all.bytes[i] > 0 ? all.bytes[i] : 0;
	out->calls = all.calls;
}

void mem_set_limit(uint64_t bytes)
{
	put(&limit, bytes);
}

uint64_t mem_limit(void)
{
	return get(&limit);
}

uint64_t mem_live(void)
{
	int64_t now = __atomic_load_n(&total, __ATOMIC_RELAXED);
	return now > 0 ? (uint64_t)now : 0;
}

void mem_fail_nth(uint64_t n)
{
	mine.fail = n;
}

uint64_t mem_fail_left(void)
{
	return mine.fail;
}
