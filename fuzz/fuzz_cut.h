/* fuzz/fuzz_cut.h: where to cut an input, drawn from the input itself so that a seed stays a
 * plain message. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct cuts {
	uint32_t seed;
};

static inline struct cuts cuts_of(const uint8_t *p, size_t n)
{
	struct cuts c = {2166136261u};
	for (size_t i = 0; i < n; i++)
		c.seed = (c.seed ^ p[i]) * 16777619u;
	return c;
}

static inline size_t cut_random(void *arg, size_t at, size_t n)
{
	struct cuts *c = arg;
	c->seed = c->seed * 1664525u + 1013904223u;
	size_t step = 1 + (c->seed >> 16) % 29;
	return n - at < step ? n : at + step;
}
