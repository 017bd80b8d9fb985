/* src/base/str_test.c: strings and their distances, hashes against published values, the map. */
#include "base/hash.c"
#include "base/map.h"
#include "base/must.h"
#include "base/str.h"
#include <stdio.h>
#include <stdlib.h>

static void cuts_trims_finds(void)
{
	struct str a, b;
	must(str_cut(STR("k=v=w"), '=', &a, &b) && str_eq(a, STR("k")) && str_eq(b, STR("v=w")));
	must(str_cut(STR("k="), '=', &a, &b) && str_eq(a, STR("k")) && b.n == 0);
	must(!str_cut(STR("key"), '=', &a, &b) && str_eq(a, STR("key")) && b.n == 0);
	must(!str_cut(STR(""), '=', &a, &b) && a.n == 0 && b.n == 0);
	must(str_eq(str_trim(STR(" \t a b\t ")), STR("a b")));
	must(str_trim(STR(" \t ")).n == 0);
	must(str_find(STR("hello"), STR("llo")) == 2);
	must(str_find(STR("hello"), STR("")) == 0);
	must(str_find(STR("lo"), STR("hello")) == -1);
	must(str_find(STR("hello"), STR("x")) == -1);
	must(str_ieq(STR("Content-Length"), STR("content-lengtH")));
	must(!str_ieq(STR("a"), STR("ab")));
	must(str_starts(STR("abc"), STR("ab")) && !str_starts(STR("a"), STR("ab")));
	must(str_ends(STR("abc"), STR("bc")) && !str_ends(STR("c"), STR("bc")));
	must(str_cmp(STR("a"), STR("ab")) < 0 && str_cmp(STR("b"), STR("ab")) > 0);
	must(str_cmp(STR("\xff"), STR("a")) > 0 && str_cmp(STR(""), STR("")) == 0);
}

static void numbers(void)
{
	static const struct {
		const char *text;
		bool ok;
		uint64_t v;
	} cases[] = {
		{"0", true, 0},
		{"007", true, 7},
		{"18446744073709551615", true, UINT64_MAX},
		{"18446744073709551616", false, 0},
		{"99999999999999999999999", false, 0},
		{"", false, 0},
		{"-1", false, 0},
		{"+1", false, 0},
		{" 1", false, 0},
		{"1 ", false, 0},
		{"1x", false, 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t v = 0;
		must(str_u64(str_of(cases[i].text), &v) == cases[i].ok);
		must(v == cases[i].v);
	}
}

static void distances(void)
{
	must(str_distance(STR("cluster"), STR("cluster"), 3) == 0);
	must(str_distance(STR("clustre"), STR("cluster"), 3) == 1);
	must(str_distance(STR("luster"), STR("cluster"), 3) == 1);
	must(str_distance(STR("clusters"), STR("cluster"), 3) == 1);
	must(str_distance(STR("clxster"), STR("cluster"), 3) == 1);
	must(str_distance(STR("kitten"), STR("sitting"), 5) == 3);
	must(str_distance(STR("kitten"), STR("sitting"), 2) == 3); /* cap + 1 */
	must(str_distance(STR(""), STR("abc"), 9) == 3);
	must(str_distance(STR("abc"), STR(""), 1) == 2);
	/* A first row all above the cap may not hide a swap. */
	must(str_distance(STR("ab"), STR("ba"), 1) == 1);
	must(str_distance(STR("xaby"), STR("xbay"), 1) == 1);
	char longer[600];
	memset(longer, 'a', sizeof longer);
	must(str_distance((struct str){longer, 600}, (struct str){longer, 599}, 4) == 5);
}

/* The reference vectors: key 00 01 .. 0f, message 00 01 .. (n-1) for SipHash-1-3 of its authors'
 * repository; xxHash64 of its specification's reference. */
static void hashes(void)
{
	unsigned char m[64];
	for (unsigned i = 0; i < sizeof m; i++)
		m[i] = (unsigned char)i;
	must(sip13(0x0706050403020100, 0x0f0e0d0c0b0a0908, m, 0) == 0xabac0158050fc4dc);
	for (size_t n = 0; n < 16; n++) { /* the tail of every length: as if read byte by byte */
		unsigned char z[16] = {0}, k;
		memcpy(z, m + 1, n);
		for (k = 0; k < n; k++) {
			uint64_t before = sip13(1, 2, z, n);
			z[k] ^= 0x80;
			must(sip13(1, 2, z, n) != before);
		}
	}
	must(sip13(0x0706050403020100, 0x0f0e0d0c0b0a0908, m, 1) == 0xc9f49bf37d57ca93);
	must(sip13(0x0706050403020100, 0x0f0e0d0c0b0a0908, m, 2) == 0x82cb9b024dc7d44d);
	must(sip13(0x0706050403020100, 0x0f0e0d0c0b0a0908, m, 3) == 0x8bf80ab8e7ddf7fb);
	must(hash_fixed("", 0) == 0xef46db3751d8e999);
	must(hash_fixed("a", 1) == 0xd24ec4f1a98c6e5b);
	must(hash_fixed("abc", 3) == 0x44bc2cf5ad770999);
	must(hash_fixed("Nobody inspects the spammish repetition", 39) == 0xfbcea83c8a378bf1);
	must(hash_bytes("a", 1) != hash_bytes("b", 1));
	must(random_u64() != random_u64());
}

static void map_follows_a_plain_array(void)
{
	enum { KEYS = 300 };
	char names[KEYS][16];
	void *want[KEYS] = {0};
	struct map m;
	uint32_t n = 0;
	map_init(&m, MEM_OTHER);
	for (int i = 0; i < KEYS; i++)
		snprintf(names[i], sizeof names[i], "k%d", i);
	for (int round = 0; round < 20000; round++) {
		unsigned i = (unsigned)(random_u64() % KEYS);
		struct str key = str_of(names[i]);
		must(map_get(&m, key) == want[i]);
		if (random_u64() % 2) {
			n += !want[i];
			want[i] = &names[random_u64() % KEYS];
			must(map_put(&m, key, want[i]));
		} else {
			n -= want[i] != NULL;
			must(map_del(&m, key) == want[i]);
			want[i] = NULL;
		}
		must(m.n == n);
	}
	uint32_t at = 0, seen = 0;
	for (struct map_slot *s; (s = map_next(&m, &at)); seen++)
		must(want[atoi(s->key.p + 1)] == s->value);
	must(seen == n);
	map_fini(&m);
	must(map_put(&m, STR(""), names) && map_get(&m, (struct str){NULL, 0}) == names);
	map_fini(&m);
	mem_fail_nth(1);
	must(!map_put(&m, STR("x"), names) && m.n == 0);
	must(map_put(&m, STR("x"), names));
	map_fini(&m);
}

int main(void)
{
	cuts_trims_finds();
	numbers();
	distances();
	hashes();
	map_follows_a_plain_array();
	return 0;
}
