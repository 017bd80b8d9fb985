/* src/filters/fallback/tables_test.c: the memory of misses, the counters of paths, the kept
 * request body. */
#include "base/mem.h"
#include "base/must.h"
#include "filters/fallback/memory.c"
#include "filters/fallback/replay.c"
#include "filters/fallback/top.c"
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#define S 1000000ull

static void test_facts(void)
{
	struct misses *m = misses_new(64, 0);
	must(m && sizeof(struct entry) == 32);
	misses_learn(m, FACT_MISS, STR("A.example"), STR("/x"), 10 * S, 5 * S);
	must(misses_knows(m, FACT_MISS, STR("a.EXAMPLE"), STR("/x"), 11 * S));
	must(!misses_knows(m, FACT_BOTH, STR("a.example"), STR("/x"), 11 * S));
	must(!misses_knows(m, FACT_MISS, STR("a.example"), STR("/X"), 11 * S));
	must(!misses_knows(m, FACT_MISS, STR("b.example"), STR("/x"), 11 * S));
	must(!misses_knows(m, FACT_MISS, STR("a.example"), STR("/x"), 15 * S));
	misses_drop(m, FACT_MISS, STR("a.example"), STR("/x"));
	must(!misses_knows(m, FACT_MISS, STR("a.example"), STR("/x"), 11 * S));
	misses_learn(m, FACT_MISS, STR("a"), STR("/x"), 10 * S, 0); /* off */
	must(!misses_knows(m, FACT_MISS, STR("a"), STR("/x"), 10 * S));
	misses_free(m);
}

/* Two facts, two names, a name and a path are told apart; what is too long is not remembered;
 * the gauge counts entries. */
static void test_keys(void)
{
	stat_id gauge = stat_register(STAT_GAUGE, STR("t.entries"));
	struct misses *m = misses_new(1024, gauge);
	char path[KEY_BYTES];
	memset(path, 'x', sizeof path);
	path[0] = '/';
	must(stat_read(gauge) == 0);
	for (int f = FACT_MISS; f <= FACT_BOTH; f++) {
		misses_learn(m, (enum fact)f, STR("a"), STR("/x"), 10 * S, 5 * S);
		must(stat_read(gauge) == (uint64_t)f);
		must(misses_knows(m, FACT_BOTH, STR("a"), STR("/x"), 11 * S) == (f == FACT_BOTH));
	}
	misses_learn(m, FACT_MISS, STR("a"), STR("/x"), 11 * S, 5 * S); /* anew */
	must(stat_read(gauge) == 2 && misses_knows(m, FACT_MISS, STR("a"), STR("/x"), 15 * S));
	misses_drop(m, FACT_MISS, STR("b"), STR("/x"));
	misses_drop(m, FACT_MISS, STR("a"), STR("/x"));
	must(stat_read(gauge) == 1 && misses_knows(m, FACT_BOTH, STR("a"), STR("/x"), 11 * S));
	misses_learn(m, FACT_MISS, STR("a/"), STR("b"), 10 * S, 5 * S);
	must(!misses_knows(m, FACT_MISS, STR("a"), STR("/b"), 11 * S));
	for (size_t n = sizeof path - 6; n <= sizeof path;
	     n++) { /* the longest that fits has room for the fact, the name and a NUL */
		struct str p = {path, n};
		misses_learn(m, FACT_MISS, STR("a"), p, 10 * S, 5 * S);
		must(misses_knows(m, FACT_MISS, STR("a"), p, 11 * S) == (n + 1 + 3 <= sizeof path));
		misses_drop(m, FACT_MISS, STR("a"), p);
	}
	misses_free(m);
}

/* In one set: who is out of date goes first, then who was not asked for; nobody else. */
static void test_eviction(void)
{
	struct misses *m = misses_new(1, 0);
	char p[8];
	must(m->nsets == 1);
	for (int i = 0; i < WAYS; i++) {
		snprintf(p, sizeof p, "/%d", i);
		misses_learn(m, FACT_MISS, STR("a"), str_of(p), 10 * S,
			     i == WAYS - 1 ? 1 * S : 100 * S);
	}
	misses_learn(m, FACT_MISS, STR("a"), STR("/new"), 11 * S,
		     100 * S); /* the last ends in this instant */
	must(misses_knows(m, FACT_MISS, STR("a"), STR("/new"), 12 * S));
	for (int i = 0; i < WAYS - 1; i++) {
		snprintf(p, sizeof p, "/%d", i);
		must(misses_knows(m, FACT_MISS, STR("a"), str_of(p),
				  12 * S)); /* marks it as asked for */
	}
	misses_learn(m, FACT_MISS, STR("a"), STR("/newer"), 13 * S, 100 * S);
	unsigned known = 0;
	for (int i = 0; i < WAYS - 1; i++) {
		snprintf(p, sizeof p, "/%d", i);
		known += misses_knows(m, FACT_MISS, STR("a"), str_of(p), 14 * S);
	}
	known += misses_knows(m, FACT_MISS, STR("a"), STR("/new"), 14 * S);
	must(known == WAYS - 1 && misses_knows(m, FACT_MISS, STR("a"), STR("/newer"), 14 * S));
	misses_free(m);
}

static void test_forgetting_is_for_what_was_known(void)
{
	struct misses *m = misses_new(1024, 0);
	misses_learn(m, FACT_MISS, STR("a"), STR("/blog/1"), 10 * S, 100 * S);
	misses_forget(m, STR("/blog/"), 10 * S); /* in the same instant */
	must(!misses_knows(m, FACT_MISS, STR("a"), STR("/blog/1"), 12 * S));
	misses_learn(m, FACT_MISS, STR("a"), STR("/blog/1"), 13 * S, 100 * S);
	misses_learn(m, FACT_MISS, STR("a"), STR("/shop"), 13 * S, 100 * S);
	misses_forget(m, STR(""), 13 * S);
	must(!misses_knows(m, FACT_MISS, STR("a"), STR("/shop"), 14 * S));
	misses_learn(m, FACT_MISS, STR("a"), STR("/shop"), 15 * S, 100 * S);
	must(misses_knows(m, FACT_MISS, STR("a"), STR("/shop"), 16 * S));
	misses_free(m);
}

static void test_forgetting(void)
{
	struct misses *m = misses_new(1024, 0);
	misses_learn(m, FACT_MISS, STR("a"), STR("/blog/1"), 10 * S, 100 * S);
	misses_learn(m, FACT_MISS, STR("a"), STR("/shop/1"), 10 * S, 100 * S);
	misses_forget(m, STR("/blog/"), 11 * S);
	must(!misses_knows(m, FACT_MISS, STR("a"), STR("/blog/1"), 12 * S));
	must(misses_knows(m, FACT_MISS, STR("a"), STR("/shop/1"), 12 * S));
	misses_learn(m, FACT_MISS, STR("a"), STR("/blog/1"), 13 * S, 100 * S);
	must(misses_knows(m, FACT_MISS, STR("a"), STR("/blog/1"), 14 * S));
	for (int i = 0; i < NOTES + 5;
	     i++) { /* more notes than there is room for: all is forgotten */
		char p[16];
		snprintf(p, sizeof p, "/p%d", i);
		misses_forget(m, str_of(p), 20 * S);
	}
	must(!misses_knows(m, FACT_MISS, STR("a"), STR("/shop/1"), 21 * S));
	misses_learn(m, FACT_MISS, STR("a"), STR("/shop/1"), 22 * S, 100 * S);
	must(misses_knows(m, FACT_MISS, STR("a"), STR("/shop/1"), 23 * S));
	misses_free(m);
}

/* Bots choose paths: the table does not grow, and what is asked for stays longer than what is
 * not. */
static void test_bounds(void)
{
	struct misses *m = misses_new(64, 0);
	char p[32];
	misses_learn(m, FACT_MISS, STR("a"), STR("/hot"), S, 1000 * S);
	unsigned hot = 0;
	for (int i = 0; i < 1000; i++) {
		snprintf(p, sizeof p, "/bot/%d", i);
		misses_learn(m, FACT_MISS, STR("a"), str_of(p), S, 1000 * S);
		hot += misses_knows(m, FACT_MISS, STR("a"), STR("/hot"), 2 * S);
	}
	must(hot == 1000);
	unsigned known = 0;
	for (int i = 0; i < 1000; i++) {
		snprintf(p, sizeof p, "/bot/%d", i);
		known += misses_knows(m, FACT_MISS, STR("a"), str_of(p), 2 * S);
	}
	must(known <= 64 && known > 32);
	misses_free(m);
}

static void test_top(void)
{
	struct top *t = top_new(10);
	struct top_row rows[10];
	struct arena a;
	uint64_t since;
	char p[32];
	arena_init(&a, SIZE_MAX);
	/* 3 heavy ones among many that come once: they stay, their counts within the bound. */
	for (int i = 0; i < 3000; i++) {
		top_add(t, i % 3 == 0 ? STR("/a") : i % 3 == 1 ? STR("/b") : STR("/c"), 200, 5 * S);
		if (i % 4 == 0) {
			snprintf(p, sizeof p, "/once/%d", i);
			top_add(t, str_of(p), 404, 6 * S);
		}
	}
	unsigned n = top_read(t, rows, 10, &a, &since);
	must(n == 10 && since == 5);
	for (int i = 0; i < 3; i++)
		must(rows[i].path.n == 2 && rows[i].count >= 1000 &&
		     rows[i].count - rows[i].over <= 1000);
	uint64_t sum = 0;
	for (unsigned i = 0; i < n; i++)
		sum += rows[i].count;
	must(sum == 3750); /* Space-Saving counts everything */
	must(top_read(t, rows, 2, &a, &since) == 2);
	char longest[1000];
	memset(longest, 'x', sizeof longest);
	top_add(t, (struct str){longest, sizeof longest}, 200, 7 * S);
	top_free(t);
	arena_fini(&a);
}

/* The smallest count is on top, everybody knows his place, and is found in his bucket, once. */
static void check_heap(const struct top *t)
{
	unsigned found = 0;
	for (uint32_t at = 0; at < t->n; at++) {
		must(t->heap[at] < t->n && t->counters[t->heap[at]].heap_at == at);
		must(at == 0 ||
		     t->counters[t->heap[(at - 1) / 2]].count <= t->counters[t->heap[at]].count);
	}
	for (uint32_t b = 0; b < t->nbuckets; b++)
		for (uint32_t c = t->buckets[b]; c; c = t->counters[c - 1].next, found++)
			must((t->counters[c - 1].hash & (t->nbuckets - 1)) == b);
	must(found == t->n);
}

/* Against exact counts: never too low, too high by at most `over`, and whoever came often is
 * there. */
static void test_top_at_random(void)
{
	enum { PATHS = 60, MOST = 15 };
	for (unsigned run = 0; run < 20; run++) {
		struct top *t = top_new(MOST);
		unsigned exact[PATHS] = {0}, status[PATHS] = {0}, total = 0;
		uint64_t last[PATHS] = {0}, since;
		struct top_row rows[MOST];
		struct arena a;
		char p[16];
		must(t && t->nbuckets == 32);
		for (unsigned i = 1; i <= 1500; i++) {
			uint64_t r = random_u64();
			unsigned k = r % 3 ? (unsigned)(r >> 8) % 5 : (unsigned)(r >> 8) % PATHS;
			snprintf(p, sizeof p, "/%u", k);
			exact[k]++;
			total++;
			last[k] = i;
			status[k] = 200 + i % 300;
			top_add(t, str_of(p), status[k], i * S);
			check_heap(t);
		}
		arena_init(&a, SIZE_MAX);
		unsigned n = top_read(t, rows, MOST, &a, &since), often = 0;
		must(n == MOST && since == 1);
		for (unsigned i = 0; i < n; i++) {
			snprintf(p, sizeof p, "%.*s", STR_ARG(rows[i].path));
			unsigned k = (unsigned)atoi(p + 1);
			must(rows[i].count >= exact[k] && rows[i].count - rows[i].over <= exact[k]);
			must(rows[i].last == last[k] && rows[i].status == status[k]);
			must(i == 0 || rows[i - 1].count > rows[i].count ||
			     (rows[i - 1].count == rows[i].count &&
			      str_cmp(rows[i - 1].path, rows[i].path) < 0));
			often += exact[k] > total / MOST;
		}
		for (unsigned k = 0; k < PATHS; k++)
			often -= exact[k] > total / MOST;
		must(often == 0);
		arena_fini(&a);
		top_free(t);
	}
}

static void add(struct replay *r, const char *text, bool fits)
{
	struct chain c = {0};
	must(chain_copy(&c, text, strlen(text)));
	must(replay_add(r, &c) == fits);
	must(c.n == strlen(text));
	chain_clear(&c);
}

static void reads(struct replay *r, size_t n, const char *want)
{
	char b[64];
	struct chain c = {0};
	must(replay_read(r, n, &c));
	must(c.n == strlen(want));
	chain_read(&c, 0, b, c.n);
	must(memcmp(b, want, c.n) == 0);
	chain_clear(&c);
}

static void test_replay(void)
{
	struct replay r;
	replay_init(&r, 6, 12, NULL, 0);
	add(&r, "abc", true);
	add(&r, "def", true);
	must(r.fd < 0);
	reads(&r, 4, "abcd");
	add(&r, "ghi", true); /* to a file, which has the beginning too */
	must(r.fd >= 0 && r.memory.n == 0);
	reads(&r, 100, "efghi");
	must(replay_left(&r) == 0);
	add(&r, "jkl", true);
	add(&r, "m", false);
	must(r.overflow);
	add(&r, "", true);
	reads(&r, 100, "jkl");
	r.read = 0; /* another fallback */
	reads(&r, 100, "abcdefghijkl");
	replay_fini(&r);
	replay_init(&r, 2, 12, "/no/such/folder", 0);
	add(&r, "abc", false);
	must(r.overflow && r.total == 0);
	replay_fini(&r);
}

static unsigned open_files(void)
{
	unsigned n = 0;
	for (int fd = 0; fd < 64; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* The disk is full after so many bytes, the file is shorter than it was, the folder has a name
 * of any length. */
static void test_replay_in_trouble(void)
{
	struct rlimit old, limit;
	stat_id gauge = stat_register(STAT_GAUGE, STR("t.spooled"));
	unsigned before = open_files();
	char far[5000];
	struct replay r;
	memset(far, 'x', sizeof far);
	far[0] = '/';
	far[sizeof far - 1] = 0;
	replay_init(&r, 2, 100, far, gauge);
	add(&r, "abc", false);
	replay_fini(&r);
	signal(SIGXFSZ, SIG_IGN);
	must(getrlimit(RLIMIT_FSIZE, &old) == 0);
	limit = old;
	limit.rlim_cur = 10;
	must(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	replay_init(&r, 2, 100, NULL, gauge);
	add(&r, "abc", true);
	must(r.fd >= 0 && open_files() == before + 1 && stat_read(gauge) == 3);
	add(&r, "defg", true);
	must(stat_read(gauge) == 7 && r.total == 7);
	add(&r, "hijkl", false); /* three of them fit: a short write, then none */
	add(&r, "m", false);     /* also what would fit */
	must(setrlimit(RLIMIT_FSIZE, &old) == 0);
	must(r.overflow && r.total == 7 && stat_read(gauge) == 7);
	reads(&r, 100, "abcdefg");
	r.read = 0;
	must(ftruncate(r.fd, 5) == 0);
	struct chain c = {0};
	must(!replay_read(&r, 7, &c)); /* never a body that is not the whole one */
	chain_clear(&c);
	replay_fini(&r);
	replay_fini(&r); /* again does no harm */
	must(open_files() == before && stat_read(gauge) == 0);
}

/* Pieces of all sizes come back as they were, from memory and from a file, however they are
 * read. */
static void test_replay_at_random(void)
{
	static char want[200000], got[200000];
	for (size_t i = 0; i < sizeof want; i++)
		want[i] = (char)(i * 31 + (i >> 8));
	for (unsigned run = 0; run < 8; run++) {
		struct replay r;
		size_t n = 0, at = 0;
		replay_init(&r, run % 2 ? 1000 : 300000, 300000, NULL, 0);
		while (n < sizeof want) {
			struct chain c = {0};
			for (int pieces = 0; pieces < 20 && n < sizeof want;
			     pieces++) { /* more than one writev takes */
				size_t k = 1 + random_u64() % 900;
				k = k < sizeof want - n ? k : sizeof want - n;
				struct chunk *chunk = chunk_new((uint32_t)k);
				must(chunk);
				memcpy(chunk->data, want + n, k);
				must(chain_append(&c, chunk, chunk->data, k));
				chunk_unref(chunk);
				n += k;
			}
			must(replay_add(&r, &c));
			chain_clear(&c);
		}
		while (replay_left(&r)) {
			struct chain c = {0};
			must(replay_read(&r, 1 + random_u64() % 100000, &c));
			chain_read(&c, 0, got + at, c.n);
			at += c.n;
			chain_clear(&c);
		}
		must(at == sizeof want && !memcmp(want, got, at));
		replay_fini(&r);
	}
}

/* Fails the 1st, 2nd, … allocation. */
static void test_no_memory(void)
{
	for (uint64_t n = 1;; n++) {
		struct replay r;
		struct chain c = {0};
		must(chain_copy(&c, "0123456789", 10));
		replay_init(&r, 4, 100, NULL, 0);
		mem_fail_nth(n);
		struct misses *m = misses_new(64, 0);
		struct top *t = top_new(4);
		bool ok = replay_add(&r, &c);
		struct chain out = {0};
		ok = replay_read(&r, 10, &out) && ok;
		uint64_t left = mem_fail_left();
		mem_fail_nth(0);
		chain_clear(&out);
		chain_clear(&c);
		replay_fini(&r);
		misses_free(m);
		top_free(t);
		if (left) {
			must(ok && m && t);
			break;
		}
	}
}

int main(void)
{
	test_facts();
	test_keys();
	test_eviction();
	test_forgetting_is_for_what_was_known();
	test_forgetting();
	test_bounds();
	test_top();
	test_top_at_random();
	test_replay();
	test_replay_in_trouble();
	test_replay_at_random();
	test_no_memory();
	chain_trim();
	return 0;
}
