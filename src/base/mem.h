/* src/base/mem.h
 *
 * The one allocator everything goes through: counted per class, refusable. Returns NULL on failure
 * (real, over the heap limit, or injected by a test); the caller fails the smallest enclosing thing.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum mem_class {
	MEM_CONFIG,   /* documents, model */
	MEM_CONN,     /* connections, TLS excluded */
	MEM_EXCHANGE, /* exchanges, arena blocks, calls */
	MEM_BUFFER,   /* chunks and pieces */
	MEM_LUA,
	MEM_OBS,
	MEM_OTHER,
	MEM_CLASSES
};

void *mem_alloc(enum mem_class c, size_t n);
void *mem_zalloc(enum mem_class c, size_t n);
/* As realloc: on failure NULL and p stays valid. */
void *mem_realloc(enum mem_class c, void *p, size_t n);
/* c must be the class p came from; p may be NULL. */
void mem_free(enum mem_class c, void *p);
char *mem_strndup(enum mem_class c, const char *p, size_t n);

struct mem_totals {
	uint64_t bytes[MEM_CLASSES]; /* live now, all threads */
	uint64_t calls;              /* allocations made since start, all threads */
};
void mem_read_totals(struct mem_totals *out);
/* 0: no limit. Over it every allocation fails but those of MEM_OBS. */
void mem_set_limit(uint64_t bytes);
uint64_t mem_limit(void);
/* What is held against the limit; some tens of KiB a thread behind. */
uint64_t mem_live(void);

/* Tests: the nth allocation of this thread from now on fails (1: the next), 0: none. Counts down
 * once. mem_fail_left() tells what is left of n, 0 when it has fired. */
void mem_fail_nth(uint64_t n);
uint64_t mem_fail_left(void);
