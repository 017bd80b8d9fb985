/* src/base/arena.h
 *
 * One exchange's (or one document's) memory: taken piece by piece, given back at once. Bounded:
 * going over cap makes arena.over sticky and returns NULL, so a whole head may be built and checked
 * once at its end. Blocks of 4 KiB come from a per-thread LIFO stack; larger requests get their own.
 * Built with -DARENA_EMULATE=1 every allocation is its own malloc so that ASan sees overruns.
 */
#pragma once
#include "base/str.h"
#include <stdarg.h>

struct arena_block;
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
void *arena_alloc(struct arena *a, size_t n);
void *arena_zalloc(struct arena *a, size_t n);
/* Copies s; .p is NULL on failure, never for an empty s. */
struct str arena_str(struct arena *a, struct str s);
/* As arena_str, with a NUL behind. */
char *arena_strz(struct arena *a, struct str s);
struct str arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct str arena_vprintf(struct arena *a, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));
struct arena_mark arena_mark(const struct arena *a);
/* Gives back all that was taken after the mark. */
void arena_drop(struct arena *a, struct arena_mark m);
/* Gives everything back; a may be used again. */
void arena_fini(struct arena *a);
/* Frees this thread's cached blocks (thread exit, tests). */
void arena_trim(void);
