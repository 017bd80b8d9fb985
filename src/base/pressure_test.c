/* src/base/pressure_test.c */
#include "base/mem.h"
#include "base/must.h"
#include "base/pressure.h"
#include <sys/resource.h>
#include <unistd.h>

static unsigned with(uint64_t heap_limit)
{
	mem_set_limit(heap_limit);
	struct pressure p = pressure_read();
	mem_set_limit(0);
	must(p.heap_limit == heap_limit);
	return p.heap;
}

static void the_heap_is_held_against_its_limit(void)
{
	enum { MUCH = 8 << 20 };
	must(with(0) == 0);
	void *p = mem_alloc(MEM_OTHER, MUCH);
	must(p);
	must(with(MUCH) == 100);
	must(with(MUCH / 2) == 100);
	unsigned half = with(2 * MUCH);
	must(half >= 49 && half <= 52);
	mem_free(MEM_OTHER, p);
	must(with(2 * MUCH) <= 2);
}

static void descriptors_are_held_against_theirs(void)
{
	struct rlimit old, few;
	must(getrlimit(RLIMIT_NOFILE, &old) == 0);
	few = old;
	few.rlim_cur = 1000;
	must(setrlimit(RLIMIT_NOFILE, &few) == 0);
	unsigned before = pressure_read().descriptors;
	must(before < 10); /* standard streams, what the runner left open */
	pressure_descriptors(850);
	unsigned p = pressure_read().descriptors;
	must(p >= 85 && p <= 85 + before + 1);
	/* 62 are kept back, though fewer than 95 in a hundred are open */
	pressure_descriptors(89);
	must(pressure_read().descriptors == PRESSURE_DEAF);
	pressure_descriptors(61);
	must(pressure_read().descriptors == 100);
	struct pressure q = {.heap = 7, .descriptors = 9};
	must(pressure_percent(&q) == 9);
	pressure_descriptors(-1000);
	must(pressure_read().descriptors == before);
	must(setrlimit(RLIMIT_NOFILE, &old) == 0);
}

static void there_is_memory(void)
{
	uint64_t n = pressure_heap_default();
	must(n > (1 << 20));
	must(n <= (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 4 * 3);
}

int main(void)
{
	the_heap_is_held_against_its_limit();
	descriptors_are_held_against_theirs();
	there_is_memory();
	return 0;
}
