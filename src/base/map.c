/* src/base/map.c: linear probing, at most three quarters full; removal shifts back, so there are no
 * tombstones. The keys' hash is seeded (hash.h): peers cannot aim for long runs. */
#include "base/map.h"
#include "base/hash.h"
#include "base/must.h"

void map_init(struct map *m, enum mem_class mem)
{
	*m = (struct map){.mem = mem};
}

void map_fini(struct map *m)
{
	mem_free(m->mem, m->slots);
	map_init(m, m->mem);
}

/* The slot of key, or the empty one where it would go; cap > 0. */
static struct map_slot *slot_of(const struct map *m, struct str key, uint64_t hash)
{
	uint32_t mask = m->cap - 1;
	for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask) {
		struct map_slot *s = &m->slots[i];
		if (!s->key.p || (s->hash == hash && str_eq(s->key, key)))
			return s;
	}
}

void *map_get(const struct map *m, struct str key)
{
	if (m->n == 0)
		return NULL;
	const struct map_slot *s = slot_of(m, key, hash_str(key));
	return s->key.p ? s->value : NULL;
}

static bool grow(struct map *m)
{
	struct map more = {.mem = m->mem, .n = m->n, .cap = m->cap ? m->cap * 2 : 8};
	if (m->cap > UINT32_MAX / 4)
		return false;
	more.slots = mem_zalloc(m->mem, more.cap * sizeof *more.slots);
	if (!more.slots)
		return false;
	for (uint32_t i = 0; i < m->cap; i++)
		if (m->slots[i].key.p)
			*slot_of(&more, m->slots[i].key, m->slots[i].hash) = m->slots[i];
	mem_free(m->mem, m->slots);
	*m = more;
	return true;
}

bool map_put(struct map *m, struct str key, void *value)
{
	uint64_t hash = hash_str(key);
	must(value != NULL);
	if (!key.p)
		key.p = "";
	if (m->cap) {
		struct map_slot *s = slot_of(m, key, hash);
		if (s->key.p) {
			s->value = value;
			return true;
		}
	}
	if (m->n >= m->cap / 4 * 3 && !grow(m))
		return false;
	*slot_of(m, key, hash) = (struct map_slot){key, value, hash};
	m->n++;
	return true;
}

void *map_del(struct map *m, struct str key)
{
	if (m->n == 0)
		return NULL;
	struct map_slot *s = slot_of(m, key, hash_str(key));
	if (!s->key.p)
		return NULL;
	void *value = s->value;
	uint32_t mask = m->cap - 1, hole = (uint32_t)(s - m->slots);
	for (uint32_t i = (hole + 1) & mask; m->slots[i].key.p; i = (i + 1) & mask) {
		uint32_t home = (uint32_t)m->slots[i].hash & mask;
		if (((i - home) & mask) < ((i - hole) & mask))
			continue; /* would land before its home */
		m->slots[hole] = m->slots[i];
		hole = i;
	}
	m->slots[hole] = (struct map_slot){0};
	m->n--;
	return value;
}

struct map_slot *map_next(const struct map *m, uint32_t *at)
{
	while (*at < m->cap) {
		struct map_slot *s = &m->slots[(*at)++];
		if (s->key.p)
			return s;
	}
	return NULL;
}
