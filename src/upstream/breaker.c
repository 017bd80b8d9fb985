/* src/upstream/breaker.c */
#include "base/map.h"
#include "base/mem.h"
#include "base/must.h"
#include "upstream/upstream_int.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct map uses = {.mem = MEM_OTHER}; /* one per cluster name in use by any worker */

struct breaker_use *breaker_open(struct str name)
{
	pthread_mutex_lock(&lock);
	struct breaker_use *u = map_get(&uses, name);
	if (!u && (u = mem_zalloc(MEM_OTHER, sizeof *u + name.n + 1))) {
		char *copy = (char *)(u + 1);
		memcpy(copy, name.p, name.n);
		u->name = (struct str){copy, name.n};
		if (!map_put(&uses, u->name, u)) {
			mem_free(MEM_OTHER, u);
			u = NULL;
		}
	}
	if (u)
		u->refs++;
	pthread_mutex_unlock(&lock);
	return u;
}

void breaker_close(struct breaker_use *u)
{
	if (!u)
		return;
	pthread_mutex_lock(&lock);
	if (--u->refs == 0) {
		map_del(&uses, u->name);
		if (uses.n == 0)
			map_fini(&uses);
		for (int i = 0; i < 2; i++)
			for (int k = 0; k < USES; k++)
				must(breaker_count(u, (unsigned)i, (enum breaker_what)k) == 0);
		mem_free(MEM_OTHER, u);
	}
	pthread_mutex_unlock(&lock);
}
