/* src/filters/lua/heap.c: a VM's memory. Small pieces come from size classes that one thread owns:
 * no lock, no call into
 * the C library once a VM is warm. */
#include "base/mem.h"
#include "base/must.h"
#include "filters/lua/lua_int.h"

enum {
	FINE = 16, /* classes of 16 bytes up to 512 … */
	FINE_MOST = 512,
	CLASS_MOST = 16384, /* … then four for each doubling */
	BLOCK = 64 * 1024
};
struct heap_free {
	struct heap_free *next;
};
struct heap_block {
	struct heap_block *next;
};
/* Larger pieces are the C library's, each with its neighbours in front. */
struct heap_big {
	struct heap_big *next, *prev;
};

static bool block_new(struct heap *h)
{
	struct heap_block *b = mem_alloc(MEM_LUA, BLOCK);
	if (!b)
		return false;
	b->next = h->blocks;
	h->blocks = b;
	h->at = (char *)b + FINE;
	h->end = (char *)b + BLOCK;
	return true;
}

/* The first block is there from the start: lua_newstate needs less, and does not survive a refusal
 * in its middle. */
bool heap_init(struct heap *h, size_t limit)
{
	*h = (struct heap){.limit = limit, .run_most = SIZE_MAX};
	h->opening = block_new(h);
	h->first = h->blocks;
	return h->opening;
}

static unsigned class_of(size_t n)
{
	if (n <= FINE_MOST)
		return (unsigned)((n + FINE - 1) / FINE) - 1;
	unsigned top = 63u - (unsigned)__builtin_clzll(n - 1); /* 2^top < n <= 2^(top+1); 9 … 13 */
	unsigned quarter = (unsigned)((n - 1) >> (top - 2)) & 3;
	return FINE_MOST / FINE + (top - 9) * 4 + quarter;
}

static size_t class_size(unsigned c)
{
	if (c < FINE_MOST / FINE)
		return (c + 1u) * FINE;
	c -= FINE_MOST / FINE;
	return ((size_t)(c % 4 + 5) << (c / 4 + 9)) / 4;
}

static void *big_alloc(struct heap *h, size_t n)
{
	struct heap_big *b = mem_alloc(MEM_LUA, sizeof *b + n);
	if (!b)
		return NULL;
	b->prev = NULL;
	b->next = h->big;
	if (h->big)
		h->big->prev = b;
	h->big = b;
	return b + 1;
}

static void big_unlink(struct heap *h, struct heap_big *b)
{
	if (b->prev)
		b->prev->next = b->next;
	else
		h->big = b->next;
	if (b->next)
		b->next->prev = b->prev;
}

static void *big_realloc(struct heap *h, void *p, size_t n)
{
	struct heap_big *b = (struct heap_big *)p - 1;
	big_unlink(h, b);
	struct heap_big *now = mem_realloc(MEM_LUA, b, sizeof *b + n), *kept = now ? now : b;
	kept->prev = NULL;
	kept->next = h->big;
	if (h->big)
		h->big->prev = kept;
	h->big = kept;
	return now ? now + 1 : NULL;
}

static void *small_alloc(struct heap *h, unsigned c)
{
	struct heap_free *f = h->cls[c];
	if (f) {
		h->cls[c] = f->next;
		return f;
	}
	size_t n = class_size(c);
	if ((size_t)(h->end - h->at) < n && !block_new(h))
		return NULL;
	void *p = h->at;
	h->at += n;
	return p;
}

#ifdef __SANITIZE_ADDRESS__
/* Each piece by itself, so that the sanitizer sees what touches it late; but for what lua_newstate
 * took. */
static bool in_blocks(const struct heap *h, const void *p, size_t n)
{
	const char *first = (const char *)h->first;
	return p ? (const char *)p > first && (const char *)p < first + BLOCK
		 : h->opening && n <= CLASS_MOST;
}
#else
static bool in_blocks(const struct heap *h, const void *p, size_t n)
{
	return n <= CLASS_MOST;
}
#endif

static void *piece_alloc(struct heap *h, size_t n)
{
	return in_blocks(h, NULL, n) ? small_alloc(h, class_of(n)) : big_alloc(h, n);
}

static void piece_free(struct heap *h, void *p, size_t n)
{
	if (in_blocks(h, p, n)) {
		struct heap_free *f = p;
		unsigned c = class_of(n);
		f->next = h->cls[c];
		h->cls[c] = f;
		return;
	}
	struct heap_big *b = (struct heap_big *)p - 1;
	big_unlink(h, b);
	mem_free(MEM_LUA, b);
}

/* Making smaller never fails: then the piece stays as large as it was (and, when Lua later gives
 * it back as a small one, it becomes one; its own memory goes with the heap). */
static void *resize(struct heap *h, void *p, size_t old, size_t n)
{
	bool small = in_blocks(h, p, old);
	if (small && n <= CLASS_MOST && class_of(old) == class_of(n))
		return p;
	if (!small && !in_blocks(h, NULL, n)) {
		void *q = big_realloc(h, p, n);
		return q || n > old ? q : p;
	}
	void *q = piece_alloc(h, n);
	if (!q)
		return n < old ? p : NULL;
	memcpy(q, p, old < n ? old : n);
	piece_free(h, p, old);
	return q;
}

void *heap_alloc(void *heap, void *p, size_t old, size_t n)
{
	struct heap *h = heap;
	if (n == 0) {
		if (p) {
			h->used -= old;
			piece_free(h, p, old);
		}
		return NULL;
	}
	if (!p)
		old = 0;
	if (n > old) {
		size_t used = h->used + (n - old);
		if (__builtin_expect(used > h->limit || used > h->run_most || used < h->used, 0)) {
			h->hit = true;
			return NULL;
		}
	}
	void *q = p ? resize(h, p, old, n) : piece_alloc(h, n);
	if (!q) {
		h->hit = true;
		return NULL;
	}
	h->used += n - old;
	return q;
}

void heap_fini(struct heap *h)
{
	while (h->blocks) {
		struct heap_block *b = h->blocks;
		h->blocks = b->next;
		mem_free(MEM_LUA, b);
	}
	while (h->big) {
		struct heap_big *b = h->big;
		h->big = b->next;
		mem_free(MEM_LUA, b);
	}
	*h = (struct heap){0};
}
