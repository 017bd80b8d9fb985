/* src/filters/fallback/memory.c
 *
 * Facts as 128-bit keyed hashes with two times, in sets of eight with a hand that goes round (clock). One table for all
 * workers; each of its parts has a lock of its own. Prefixes are forgotten by note: a hash does not tell its path, but who
 * asks knows it, and an entry older than a note that covers its path does not count.
 */
#include "base/hash.h"
#include "base/mem.h"
#include "filters/fallback/fallback_int.h"
#include <pthread.h>

enum { WAYS = 8, LOCKS = 64, NOTES = 32, NOTE_BYTES = 256, KEY_BYTES = 4096 };

struct entry {         /* 32 bytes */
	uint64_t a, b; /* both 0: free. The lowest bit of b is the clock's */
	uint64_t until_us, since_us;
};
struct set {
	struct entry e[WAYS];
};
struct misses {
	struct set *sets;
	uint32_t nsets; /* a power of 2 */
	stat_id gauge;  /* entries in use, some of them out of date */
	pthread_mutex_t locks[LOCKS];
	unsigned char hands[LOCKS];
	/* what was forgotten */
	pthread_rwlock_t notes_lock;
	atomic_uint nnotes;
	struct note {
		uint64_t when_us;
		unsigned n;
		char prefix[NOTE_BYTES];
	} notes[NOTES];
	_Atomic uint64_t epoch_us; /* nothing older counts */
};

struct misses *misses_new(unsigned entries, stat_id gauge)
{
	struct misses *m = mem_zalloc(MEM_OTHER, sizeof *m);
	if (!m)
		return NULL;
	m->gauge = gauge;
	m->nsets = 1;
	while ((uint64_t)m->nsets * WAYS < entries)
		m->nsets *= 2;
	m->sets = mem_zalloc(MEM_OTHER, m->nsets * sizeof *m->sets);
	if (!m->sets) {
		mem_free(MEM_OTHER, m);
		return NULL;
	}
	for (unsigned i = 0; i < LOCKS; i++)
		pthread_mutex_init(&m->locks[i], NULL);
	pthread_rwlock_init(&m->notes_lock, NULL);
	return m;
}

void misses_free(struct misses *m)
{
	if (!m)
		return;
	for (unsigned i = 0; i < LOCKS; i++)
		pthread_mutex_destroy(&m->locks[i]);
	pthread_rwlock_destroy(&m->notes_lock);
	mem_free(MEM_OTHER, m->sets);
	mem_free(MEM_OTHER, m);
}

/* False: too long to be remembered. */
static bool key_of(enum fact f, struct str authority, struct str path, struct entry *k)
{
	char b[KEY_BYTES];
	if (authority.n + path.n + 3 > sizeof b)
		return false;
	size_t n = 0;
	b[n++] = (char)f;
	for (size_t i = 0; i < authority.n; i++)
		b[n++] = authority.p[i] >= 'A' && authority.p[i] <= 'Z'
				 ? (char)(authority.p[i] | 0x20)
				 : authority.p[i];
	b[n++] = 0;
	memcpy(b + n, path.p, path.n);
	n += path.n;
	k->a = hash_bytes(b, n);
	b[0] = (char)(f | 0x40);
	k->b = (hash_bytes(b, n) | 2) & ~1ull;
	return true;
}

static struct set *set_of(struct misses *m, const struct entry *k, unsigned *lock)
{
	uint32_t i = (uint32_t)(k->a >> 32) & (m->nsets - 1);
	*lock = i % LOCKS;
	return &m->sets[i];
}

static bool same(const struct entry *e, const struct entry *k)
{
	return e->a == k->a && (e->b & ~1ull) == k->b;
}

static bool forgotten(struct misses *m, struct str path, uint64_t since)
{
	bool yes = since <= atomic_load_explicit(&m->epoch_us, memory_order_relaxed);
	if (yes || atomic_load_explicit(&m->nnotes, memory_order_relaxed) == 0)
		return yes;
	pthread_rwlock_rdlock(&m->notes_lock);
	for (unsigned i = 0; i < m->nnotes && !yes; i++) {
		const struct note *t = &m->notes[i];
		yes = since <= t->when_us && str_starts(path, (struct str){t->prefix, t->n});
	}
	pthread_rwlock_unlock(&m->notes_lock);
	return yes;
}

bool misses_knows(struct misses *m, enum fact f, struct str authority, struct str path,
		  uint64_t now)
{
	struct entry k, found = {0};
	unsigned lock;
	if (!m || !key_of(f, authority, path, &k))
		return false;
	struct set *s = set_of(m, &k, &lock);
	pthread_mutex_lock(&m->locks[lock]);
	for (unsigned i = 0; i < WAYS; i++)
		if (same(&s->e[i], &k)) {
			s->e[i].b |= 1;
			found = s->e[i];
			break;
		}
	pthread_mutex_unlock(&m->locks[lock]);
	return found.a && found.until_us > now && !forgotten(m, path, found.since_us);
}

void misses_learn(struct misses *m, enum fact f, struct str authority, struct str path,
		  uint64_t now, uint64_t ttl_us)
{
	struct entry k;
	unsigned lock;
	if (!m || !ttl_us || !key_of(f, authority, path, &k))
		return;
	k.until_us = now + ttl_us;
	k.since_us = now;
	struct set *s = set_of(m, &k, &lock);
	pthread_mutex_lock(&m->locks[lock]);
	unsigned at = WAYS;
	for (unsigned i = 0; i < WAYS && at == WAYS; i++)
		if (same(&s->e[i], &k))
			at = i;
	for (unsigned i = 0; i < WAYS && at == WAYS; i++)
		if (s->e[i].until_us <= now)
			at = i;
	while (at == WAYS) { /* ends: each round takes a bit away */
		unsigned hand = m->hands[lock]++ % WAYS;
		if (s->e[hand].b & 1)
			s->e[hand].b &= ~1ull;
		else
			at = hand;
	}
	stat_add(m->gauge, s->e[at].a == 0);
	s->e[at] = k;
	pthread_mutex_unlock(&m->locks[lock]);
}

void misses_drop(struct misses *m, enum fact f, struct str authority, struct str path)
{
	struct entry k;
	unsigned lock;
	if (!m || !key_of(f, authority, path, &k))
		return;
	struct set *s = set_of(m, &k, &lock);
	pthread_mutex_lock(&m->locks[lock]);
	for (unsigned i = 0; i < WAYS; i++)
		if (same(&s->e[i], &k)) {
			s->e[i] = (struct entry){0};
			stat_sub(m->gauge, 1);
		}
	pthread_mutex_unlock(&m->locks[lock]);
}

void misses_forget(struct misses *m, struct str prefix, uint64_t now)
{
	pthread_rwlock_wrlock(&m->notes_lock);
	unsigned n = m->nnotes, at = n;
	for (unsigned i = 0; i < n; i++)
		if (str_eq((struct str){m->notes[i].prefix, m->notes[i].n}, prefix))
			at = i;
	/* more than can be noted: all of it */
	if (prefix.n == 0 || prefix.n > NOTE_BYTES || at == NOTES) {
		atomic_store(&m->epoch_us, now);
		m->nnotes = 0;
	} else {
		m->notes[at].when_us = now;
		m->notes[at].n = (unsigned)prefix.n;
		memcpy(m->notes[at].prefix, prefix.p, prefix.n);
		m->nnotes = at == n ? n + 1 : n;
	}
	pthread_rwlock_unlock(&m->notes_lock);
}
