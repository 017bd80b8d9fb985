/* src/base/arena.h
 *
 * One exchange's (or one document's) memory: taken piece by piece, given back at once. Bounded:
 * going over cap makes arena.over sticky and returns NULL, so a whole head may be built and checked
 * once at its end. Blocks of 4 KiB come from a per-thread LIFO stack; larger requests get their own.
 * Built with -DARENA_EMULATE=1 every allocation is its own malloc so that ASan sees overruns.
 */
#pragma once
#include "base/must.h"
#include "base/str.h"
#include <stdarg.h>

#ifndef ARENA_EMULATE
#define ARENA_EMULATE 0
#endif

struct arena_block { /* arena.c; here for the sake of arena_alloc */
	struct arena_block *next;
	size_t size, fill; /* of data */
	char data[];
};
struct arena {
	struct arena_block *first, *last;
	size_t used, cap;
	bool over;
};
struct arena_mark {
	struct arena_block *last;
	size_t fill, used;
};

/* cap: bytes, SIZE_MAX for none. Allocates nothing yet. */
void arena_init(struct arena *a, size_t cap);
/* 8-byte aligned, not zeroed; n > 0. NULL: over cap or no memory, and a->over is set. */
static inline void *arena_alloc(struct arena *a, size_t n);
void *arena_zalloc(struct arena *a, size_t n);
/* Copies s; .p is NULL on failure, never for an empty s. */
struct str arena_str(struct arena *a, struct str s);
/* As arena_str, with a NUL behind. */
char *arena_strz(struct arena *a, struct str s);
struct str arena_printf(struct arena *a, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
struct str arena_vprintf(struct arena *a, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));
struct arena_mark arena_mark(const struct arena *a);
/* Gives back all that was taken after the mark. */
void arena_drop(struct arena *a, struct arena_mark m);
/* Gives everything back; a may be used again. */
void arena_fini(struct arena *a);
/* Frees this thread's cached blocks (thread exit, tests). */
void arena_trim(void);

void *arena_alloc_slow_(struct arena *a, size_t n);
static inline void *arena_alloc(struct arena *a, size_t n)
{
	struct arena_block *b = a->last;
	must(n > 0);
	if (ARENA_EMULATE || !b || n > b->size - b->fill || n > a->cap - a->used)
		return arena_alloc_slow_(a, n);
	void *p = b->data + b->fill;
	b->fill += (n + 7) & ~(size_t)7; /* size is a multiple of 8 */
	a->used += n;
	return p;
}
