/* src/base/hash.c */
#include "base/hash.h"
#include "base/must.h"
#include <errno.h>
#include <sys/random.h>

static struct {
	uint64_t k0, k1;
	bool done;
} seed;

/* Before main: a map filled under one key is lost under another. */
__attribute__((constructor)) void hash_seed(void)
{
	if (seed.done)
		return;
	uint64_t k[2];
	random_bytes(k, sizeof k);
	seed.k0 = k[0];
	seed.k1 = k[1];
	seed.done = true;
}

static inline uint64_t rotl(uint64_t v, int by)
{
	return v << by | v >> (64 - by);
}

static inline uint64_t load64(const unsigned char *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

static inline uint32_t load32(const unsigned char *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap32(v);
#endif
	return v;
}

struct sip {
	uint64_t a, b, c, d;
};

static inline void sip_round(struct sip *v)
{
	v->a += v->b;
	v->c += v->d;
	v->b = rotl(v->b, 13) ^ v->a;
	v->d = rotl(v->d, 16) ^ v->c;
	v->a = rotl(v->a, 32);
	v->c += v->b;
	v->a += v->d;
	v->b = rotl(v->b, 17) ^ v->c;
	v->d = rotl(v->d, 21) ^ v->a;
	v->c = rotl(v->c, 32);
}

static inline uint64_t sip13(uint64_t k0, uint64_t k1, const void *data, size_t n)
{
	const unsigned char *p = data;
	uint64_t tail = (uint64_t)n << 56;
	struct sip v = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261,
			k1 ^ 0x7465646279746573};
	for (; n >= 8; n -= 8, p += 8) {
		uint64_t m = load64(p);
		v.d ^= m;
		sip_round(&v);
		v.a ^= m;
	}
	if (n >= 4) /* what is left, low bytes first: by loads that overlap */
		tail |= load32(p) | (uint64_t)load32(p + n - 4) << (8 * (n - 4));
	else if (n)
		tail |= p[0] | (uint64_t)p[n / 2] << (8 * (n / 2)) |
			(uint64_t)p[n - 1] << (8 * (n - 1));
	v.d ^= tail;
	sip_round(&v);
	v.a ^= tail;
	v.c ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(&v);
	return v.a ^ v.b ^ v.c ^ v.d;
}

uint64_t hash_bytes(const void *p, size_t n)
{
	return sip13(seed.k0, seed.k1, p, n);
}

/* xxHash64: four lanes over 32-byte stripes, then the tail, then an avalanche. */
#define XX1 0x9e3779b185ebca87u
#define XX2 0xc2b2ae3d27d4eb4fu
#define XX3 0x165667b19e3779f9u
#define XX4 0x85ebca77c2b2ae63u
#define XX5 0x27d4eb2f165667c5u

static inline uint64_t xx_lane(uint64_t acc, uint64_t v)
{
	return rotl(acc + v * XX2, 31) * XX1;
}

uint64_t hash_fixed(const void *data, size_t n)
{
	const unsigned char *p = data;
	size_t left = n;
	uint64_t h = XX5;
	if (left >= 32) {
		uint64_t lane[4] = {XX1 + XX2, XX2, 0, 0 - XX1};
		for (; left >= 32; left -= 32, p += 32)
			for (int i = 0; i < 4; i++)
				lane[i] = xx_lane(lane[i], load64(p + 8 * i));
		h = rotl(lane[0], 1) + rotl(lane[1], 7) + rotl(lane[2], 12) + rotl(lane[3], 18);
		for (int i = 0; i < 4; i++)
			h = (h ^ xx_lane(0, lane[i])) * XX1 + XX4;
	}
	h += n;
	for (; left >= 8; left -= 8, p += 8)
		h = rotl(h ^ xx_lane(0, load64(p)), 27) * XX1 + XX4;
	if (left >= 4) {
		h = rotl(h ^ load32(p) * XX1, 23) * XX2 + XX3;
		left -= 4, p += 4;
	}
	for (; left; left--, p++)
		h = rotl(h ^ *p * XX5, 11) * XX1;
	h = (h ^ h >> 33) * XX2;
	h = (h ^ h >> 29) * XX3;
	return h ^ h >> 32;
}

/* splitmix64: one add and a mix of a counter that starts anywhere. */
uint64_t random_u64(void)
{
	static _Thread_local uint64_t state;
	static _Thread_local bool seeded;
	if (__builtin_expect(!seeded, 0)) {
		random_bytes(&state, sizeof state);
		seeded = true;
	}
	uint64_t z = state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

void random_bytes(void *p, size_t n)
{
	char *to = p;
	while (n) {
		ssize_t got = getrandom(to, n, 0);
		must(got > 0 || errno == EINTR); /* without flags it has no other failure */
		if (got > 0)
			to += got, n -= (size_t)got;
	}
}
