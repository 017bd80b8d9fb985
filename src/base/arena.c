/* src/base/arena.c */
#include "base/arena.h"
#include "base/mem.h"
#include <stdio.h>

enum { BLOCK = 4096, BLOCK_DATA = BLOCK - sizeof(struct arena_block), CACHED = 256 };

static _Thread_local struct {
	struct arena_block *first;
	unsigned n;
} cache;

static size_t round_up(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

void arena_init(struct arena *a, size_t cap)
{
	*a = (struct arena){.cap = cap};
}

static struct arena_block *block_new(size_t n)
{
	struct arena_block *b = cache.first;
	size_t size = ARENA_EMULATE ? n : n > BLOCK_DATA ? round_up(n) : BLOCK_DATA;
	if (!ARENA_EMULATE && size == BLOCK_DATA && b) {
		cache.first = b->next;
		cache.n--;
	} else {
		if (n > SIZE_MAX / 2 || !(b = mem_alloc(MEM_EXCHANGE, sizeof *b + size)))
			return NULL;
		b->size = size;
	}
	b->next = NULL;
	b->fill = 0;
	return b;
}

static void block_free(struct arena_block *b)
{
	if (ARENA_EMULATE || b->size != BLOCK_DATA || cache.n == CACHED) {
		mem_free(MEM_EXCHANGE, b);
		return;
	}
	b->next = cache.first;
	cache.first = b;
	cache.n++;
}

void *arena_alloc_slow_(struct arena *a, size_t n)
{
	must(a->used <= a->cap);
	struct arena_block *b = n <= a->cap - a->used ? block_new(n) : NULL;
	if (!b) {
		a->over = true;
		return NULL;
	}
	if (a->last)
		a->last->next = b;
	else
		a->first = b;
	a->last = b;
	b->fill = ARENA_EMULATE ? n : round_up(n);
	a->used += n;
	return b->data;
}

void *arena_zalloc(struct arena *a, size_t n)
{
	void *p = arena_alloc(a, n);
	return p ? memset(p, 0, n) : NULL;
}

struct str arena_str(struct arena *a, struct str s)
{
	if (s.n == 0)
		return (struct str){"", 0};
	char *p = arena_alloc(a, s.n);
	if (p)
		memcpy(p, s.p, s.n);
	return (struct str){p, p ? s.n : 0};
}

char *arena_strz(struct arena *a, struct str s)
{
	if (s.n == SIZE_MAX) {
		a->over = true;
		return NULL;
	}
	char *p = arena_alloc(a, s.n + 1);
	if (!p)
		return NULL;
	if (s.n)
		memcpy(p, s.p, s.n);
	p[s.n] = 0;
	return p;
}

struct str arena_vprintf(struct arena *a, const char *fmt, va_list ap)
{
	char small[512];
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(small, sizeof small, fmt, ap);
	char *p = n >= 0 ? arena_alloc(a, (size_t)n + 1) : NULL;
	if (p && (size_t)n < sizeof small)
		memcpy(p, small, (size_t)n + 1);
	else if (p)
		vsnprintf(p, (size_t)n + 1, fmt, again);
	else
		a->over = true;
	va_end(again);
	return (struct str){p, p ? (size_t)n : 0};
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	struct str s = arena_vprintf(a, fmt, ap);
	va_end(ap);
	return s;
}

struct arena_mark arena_mark(const struct arena *a)
{
	return (struct arena_mark){a->last, a->last ? a->last->fill : 0, a->used};
}

static void free_from(struct arena_block *b)
{
	while (b) {
		struct arena_block *next = b->next;
		block_free(b);
		b = next;
	}
}

void arena_drop(struct arena *a, struct arena_mark m)
{
	must(m.used <= a->used);
	if (m.last) {
		free_from(m.last->next);
		m.last->next = NULL;
		m.last->fill = m.fill;
	} else {
		free_from(a->first);
		a->first = NULL;
	}
	a->last = m.last;
	a->used = m.used;
}

void arena_fini(struct arena *a)
{
	free_from(a->first);
	arena_init(a, a->cap);
}

void arena_trim(void)
{
	while (cache.first) {
		struct arena_block *b = cache.first;
		cache.first = b->next;
		mem_free(MEM_EXCHANGE, b);
	}
	cache.n = 0;
}
