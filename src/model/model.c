/* src/model/model.c */
#include "model/model.h"
#include "base/mem.h"
#include "base/must.h"

enum { MODEL_MAX = 1 << 30 }; /* bytes of one configuration */

char filter_disabled_;

struct model *model_new(void)
{
	struct model *m = mem_zalloc(MEM_CONFIG, sizeof *m);
	if (!m)
		return NULL;
	atomic_init(&m->refs, 1);
	arena_init(&m->arena, MODEL_MAX);
	map_init(&m->clusters_by_name, MEM_CONFIG);
	return m;
}

bool model_on_free(struct model *m, void (*fn)(void *), void *arg)
{
	struct on_free *f = arena_alloc(&m->arena, sizeof *f);
	if (!f)
		return false;
	*f = (struct on_free){m->on_free, fn, arg};
	m->on_free = f;
	return true;
}

bool model_watch(struct model *m, struct str path)
{
	for (unsigned i = 0; i < m->nwatched; i++)
		if (str_eq(m->watched[i], path))
			return true;
	/* Grown at powers of two. */
	if ((m->nwatched & (m->nwatched - 1)) == 0) {
		struct str *more =
			arena_alloc(&m->arena, (m->nwatched ? 2 * m->nwatched : 1) * sizeof *more);
		if (!more)
			return false;
		if (m->nwatched)
			memcpy(more, m->watched, m->nwatched * sizeof *more);
		m->watched = more;
	}
	/* NUL-terminated: control opens it. */
	char *z = arena_strz(&m->arena, path);
	if (!z)
		return false;
	m->watched[m->nwatched++] = (struct str){z, path.n};
	return true;
}

static void free_tls(struct tls_cfg *t)
{
	if (t && t->ctx && t->ctx_free)
		t->ctx_free(t->ctx);
}

static void free_chain(const struct chain_cfg *c)
{
	free_tls(c->tls);
	for (unsigned i = 0; c->hcm && i < c->hcm->nlogs; i++) {
		const struct access_log_cfg *log = &c->hcm->logs[i];
		if (log->sink && log->sink_free)
			log->sink_free(log->sink);
	}
}

void model_unref(const struct model *cm)
{
	struct model *m = (struct model *)cm;
	if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
		return;
	/* Newest first: what was made from something goes before it (filters and routes before
	 * expressions). */
	for (struct on_free *f = m->on_free; f; f = f->next)
		f->fn(f->arg);
	for (unsigned i = 0; i < m->nlisteners; i++) {
		const struct listener_cfg *l = m->listeners[i];
		for (unsigned k = 0; k < l->nchains; k++)
			free_chain(&l->chains[k]);
		if (l->fallback)
			free_chain(l->fallback);
	}
	for (unsigned i = 0; i < m->nclusters; i++)
		free_tls(m->clusters[i]->tls);
	map_fini(&m->clusters_by_name);
	arena_fini(&m->arena);
	mem_free(MEM_CONFIG, m);
}

static bool chain_sound(const struct chain_cfg *c)
{
	const struct hcm_cfg *h = c->hcm;
	if (!h || !h->routes || h->nfilters == 0)
		return false;
	for (unsigned i = 0; i < h->nfilters; i++)
		if (h->filters[i].index != i || h->filters[i].hcm != h || !h->filters[i].type)
			return false;
	return h->filters[h->nfilters - 1].type->terminal;
}

bool model_seal(struct model *m)
{
	if (m->arena.over)
		return false;
	for (unsigned i = 0; i < m->nclusters; i++)
		if (m->clusters[i]->index != i ||
		    cluster_find(m, m->clusters[i]->name) != m->clusters[i])
			return false;
	for (unsigned i = 0; i < m->nlisteners; i++) {
		const struct listener_cfg *l = m->listeners[i];
		if (l->naddresses == 0 || (l->nchains == 0 && !l->fallback))
			return false;
		for (unsigned k = 0; k < l->nchains; k++)
			if (!chain_sound(&l->chains[k]))
				return false;
		if (l->fallback && !chain_sound(l->fallback))
			return false;
	}
	return true;
}

const struct cluster_cfg *cluster_find(const struct model *m, struct str name)
{
	return map_get(&m->clusters_by_name, name);
}
