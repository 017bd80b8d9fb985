/* src/base/mem_test.c: counts, limit, refusals; arenas. */
#include "base/arena.h"
#include "base/mem.h"
#include "base/must.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static uint64_t live(enum mem_class c)
{
	struct mem_totals t;
	mem_read_totals(&t);
	return t.bytes[c];
}

static void *elsewhere(void *p)
{
	mem_free(MEM_OTHER, p);
	return mem_alloc(MEM_OTHER, 1000);
}

static void counts_follow_across_threads(void)
{
	uint64_t before = live(MEM_OTHER);
	void *p = mem_alloc(MEM_OTHER, 5000), *q;
	must(live(MEM_OTHER) >= before + 5000);
	pthread_t t;
	must(pthread_create(&t, NULL, elsewhere, p) == 0);
	must(pthread_join(t, &q) == 0);
	must(live(MEM_OTHER) >= before + 1000 && live(MEM_OTHER) < before + 5000);
	q = mem_realloc(MEM_OTHER, q, 3000);
	must(live(MEM_OTHER) >= before + 3000);
	mem_free(MEM_OTHER, q);
	must(live(MEM_OTHER) == before);
	mem_free(MEM_OTHER, NULL);
}

static void refusals(void)
{
	mem_fail_nth(2);
	void *p = mem_alloc(MEM_OTHER, 1);
	must(p && mem_fail_left() == 1);
	must(!mem_realloc(MEM_OTHER, p, 10000) && mem_fail_left() == 0);
	p = mem_realloc(MEM_OTHER, p, 10000);
	must(p);
	mem_free(MEM_OTHER, p);

	mem_set_limit(4 << 20);
	must(!mem_alloc(MEM_OTHER, 5 << 20));
	must((p = mem_alloc(MEM_OBS, 5 << 20)) != NULL); /* log lines still come out */
	must(!mem_zalloc(MEM_OTHER, 1));
	must(!mem_strndup(MEM_OTHER, "x", 1));
	mem_free(MEM_OBS, p);
	char *s = mem_strndup(MEM_OTHER, "xyz", 2);
	must(s && strcmp(s, "xy") == 0);
	mem_free(MEM_OTHER, s);
	mem_set_limit(0);
}

static void arenas(void)
{
	struct arena a;
	arena_init(&a, 100000);
	for (int i = 1; i < 200; i++) {
		char *p = arena_zalloc(&a, (size_t)i);
		must(p && (uintptr_t)p % 8 == 0 && p[i - 1] == 0);
		memset(p, i, (size_t)i);
	}
	struct arena_mark m = arena_mark(&a);
	size_t used = a.used;
	char *big = arena_alloc(&a, 20000), *small = arena_alloc(&a, 3);
	must(big && small);
	memset(big, 1, 20000);
	arena_drop(&a, m);
	must(a.used == used && !a.over);
	must(str_eq(arena_str(&a, STR("abc")), STR("abc")));
	must(arena_str(&a, STR("")).p != NULL);
	must(strcmp(arena_strz(&a, STR("abc")), "abc") == 0);
	must(str_eq(arena_printf(&a, "%d-%s", 7, "x"), STR("7-x")));
	struct str wide = arena_printf(&a, "%2000d", 7);
	must(wide.n == 2000 && wide.p[1999] == '7');
	must(!arena_alloc(&a, 100000) && a.over);
	must(arena_alloc(&a, 1) && a.over); /* what fits still fits; over stays */
	must(!arena_alloc(&a, SIZE_MAX));
	arena_fini(&a);
	must(!a.over && a.used == 0 && arena_alloc(&a, 99999));
	arena_fini(&a);

	m = arena_mark(&a); /* of an empty one */
	must(arena_alloc(&a, 5000));
	arena_drop(&a, m);
	must(!a.first && !a.last && a.used == 0);
	arena_trim();
	mem_fail_nth(1);
	must(!arena_alloc(&a, 1) && a.over);
	arena_fini(&a);
	arena_init(&a, SIZE_MAX);
	must(!arena_alloc(&a, SIZE_MAX - 3) && a.over);
	arena_fini(&a);
}

static void steady_state_takes_no_memory(void)
{
#if !ARENA_EMULATE
	struct mem_totals before, after;
	for (int i = 0; i < 3; i++) {
		struct arena a;
		if (i == 1)
			mem_read_totals(&before);
		arena_init(&a, SIZE_MAX);
		for (int k = 0; k < 100; k++)
			must(arena_alloc(&a, 300));
		arena_fini(&a);
	}
	mem_read_totals(&after);
	must(after.calls == before.calls);
#endif
}

int main(void)
{
	counts_follow_across_threads();
	refusals();
	arenas();
	steady_state_takes_no_memory();
	arena_trim();
	must(live(MEM_EXCHANGE) == 0);
	return 0;
}
