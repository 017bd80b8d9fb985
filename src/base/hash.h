/* src/base/hash.h
 *
 * SipHash-1-3 with one random key per process, for tables whose keys peers choose. hash_fixed() has
 * a constant key: equal in every process (ring hash).
 */
#pragma once
#include "base/str.h"

void hash_seed(void); /* before main by itself; idempotent */
uint64_t hash_bytes(const void *p, size_t n);
static inline uint64_t hash_str(struct str s)
{
	return hash_bytes(s.p, s.n);
}
/* xxHash64 with seed 0, as Envoy's ring hash uses. */
uint64_t hash_fixed(const void *p, size_t n);
/* Not cryptographic; per thread; seeded from the kernel. For balancing, jitter, sampling. */
uint64_t random_u64(void);
/* From the kernel's generator: request ids that should not be guessable are not promised, keys
 * are. */
void random_bytes(void *p, size_t n);
