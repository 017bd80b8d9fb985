/* src/base/map.h
 *
 * String-keyed open-addressing table. Keys are not copied: they must live as long as the map does.
 */
#pragma once
#include "base/mem.h"
#include "base/str.h"

struct map_slot {
	struct str key; /* key.p NULL: empty */
	void *value;
	uint64_t hash;
};
struct map {
	struct map_slot *slots;
	uint32_t n, cap; /* cap a power of two, or 0 */
	enum mem_class mem;
};

void map_init(struct map *m, enum mem_class mem);
void map_fini(struct map *m);
/* NULL when absent. */
void *map_get(const struct map *m, struct str key);
/* Sets or replaces; value not NULL. False: no memory. */
bool map_put(struct map *m, struct str key, void *value);
/* Returns the value removed, or NULL. */
void *map_del(struct map *m, struct str key);
/* Walks in no order: start with *at = 0; NULL at the end. */
struct map_slot *map_next(const struct map *m, uint32_t *at);
