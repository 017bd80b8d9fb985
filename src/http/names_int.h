/* src/http/names_int.h
 *
 * The look-up behind name_id, open to the parser, whose input may be read 16 bytes at a time.
 */
#pragma once
#include "http/names.h"
#include "http/scan_int.h"

enum { NAME_SLOTS = 512, NAME_ROOM = 48 };
/* Perfect hash: at most one listed name per slot (names_test prints the table when it is stale). */
extern const uint8_t name_slots[NAME_SLOTS];
/* Lower-case, filled up with NUL so that 16 bytes can be read at any multiple of 16. */
extern const char name_padded[FIELD_IDS][NAME_ROOM];
extern const uint8_t name_lengths[FIELD_IDS];

/* n >= 2. Length, the four bytes in the middle and the last four (they may overlap); case is
 * folded. */
static inline unsigned name_slot(const char *p, size_t n)
{
	uint32_t a, z;
	if (__builtin_expect(n >= 4, 1)) {
		memcpy(&a, p + n / 2 - 2, 4);
		memcpy(&z, p + n - 4, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
		a = __builtin_bswap32(a);
		z = __builtin_bswap32(z);
#endif
	} else {
		a = (unsigned char)p[0] | (uint32_t)(unsigned char)p[1] << 8;
		z = (unsigned char)p[n - 1];
	}
	a |= 0x20202020u;
	z |= 0x20202020u;
	a ^= z << 7 | z >> 25;
	return (a + (uint32_t)n * 0x01010101u) * 0xcc582eefu >> 23;
}

/* As name_id; up to 15 bytes behind p + n are read. */
static inline enum field_id name_id_slack(const char *p, size_t n)
{
#if SCAN_SSE2
	if (n < 2)
		return FIELD_OTHER;
	unsigned id = name_slots[name_slot(p, n)];
	if (name_lengths[id] != n)
		return FIELD_OTHER;
	const char *want = name_padded[id];
	for (size_t i = 0;; i += 16) {
		__m128i w = _mm_loadu_si128((const __m128i *)(want + i));
		__m128i x = _mm_loadu_si128((const __m128i *)(p + i));
		/* Of all bytes in these names only letters have bit 6: bit 5 is their case. */
		__m128i fold = _mm_srli_epi16(_mm_and_si128(w, _mm_set1_epi8(0x40)), 1);
		__m128i same = _mm_cmpeq_epi8(_mm_or_si128(x, fold), w);
		/* How many bytes from here on are equal, at most 16. */
		unsigned equal = (unsigned)__builtin_ctz(~(unsigned)_mm_movemask_epi8(same));
		if (n - i <= equal)
			return (enum field_id)id;
		if (equal < 16)
			return FIELD_OTHER;
	}
#else
	return name_id(p, n);
#endif
}
