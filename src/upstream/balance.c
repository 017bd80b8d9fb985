/* src/upstream/balance.c
 *
 * Which host a request goes to, as Envoy chooses: priorities by health with overprovisioning, panic, then
 * the policy of the cluster within the priority.
 */
#include "base/hash.h"
#include "base/mem.h"
#include "base/must.h"
#include "upstream/upstream_int.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- earliest deadline first */

static bool edf_before(const struct edf_item *a, const struct edf_item *b)
{
	return a->due < b->due || (a->due == b->due && a->turn < b->turn);
}

static void edf_sift_down(struct edf *e, unsigned i)
{
	struct edf_item it = e->items[i];
	for (;;) {
		unsigned kid = 2 * i + 1;
		if (kid >= e->n)
			break;
		if (kid + 1 < e->n && edf_before(&e->items[kid + 1], &e->items[kid]))
			kid++;
		if (!edf_before(&e->items[kid], &it))
			break;
		e->items[i] = e->items[kid];
		i = kid;
	}
	e->items[i] = it;
}

/* Idle hosts of least request weigh their whole weight, busy ones less. */
static double weight_now(const struct host *h, enum lb_policy lb)
{
	return lb == LB_LEAST_REQUEST ? (double)h->weight / (h->active + 1) : (double)h->weight;
}

static struct host *edf_pick(struct edf *e, enum lb_policy lb)
{
	struct edf_item *first = &e->items[0];
	struct host *h = first->host;
	e->now = first->due;
	first->due = e->now + 1 / weight_now(h, lb);
	first->turn = e->turns++;
	edf_sift_down(e, 0);
	return h;
}

static bool edf_build(struct edf *e, struct host **hosts, unsigned n)
{
	e->items = mem_alloc(MEM_OTHER, n * sizeof *e->items);
	if (!e->items)
		return false;
	e->n = n;
	/* A random start: workers, and worker after worker, must not all begin with the same
	 * host. */
	unsigned from = (unsigned)(random_u64() % n);
	for (unsigned i = 0; i < n; i++) {
		struct host *h = hosts[(from + i) % n];
		e->items[i] = (struct edf_item){1 / (double)h->weight, e->turns++, h};
	}
	for (unsigned i = n / 2; i-- > 0;)
		edf_sift_down(e, i);
	return true;
}

/* ---- ring hash */

static int ring_order(const void *a, const void *b)
{
	uint64_t x = ((const struct ring_item *)a)->hash, y = ((const struct ring_item *)b)->hash;
	return x < y ? -1 : x > y;
}

/* Envoy's ring: hosts appear in proportion to their weights, the lightest at least min / n times, the whole
 * bounded by max; a point is the hash of "ADDRESS_i". */
static bool ring_build(struct tier *t, const struct cluster_cfg *cfg)
{
	double total = 0, least = 1;
	for (unsigned i = 0; i < t->nuse; i++)
		total += t->use[i]->weight;
	for (unsigned i = 0; i < t->nuse; i++)
		if (t->use[i]->weight / total < least)
			least = t->use[i]->weight / total;
	double scale = ceil(least * (double)cfg->ring_min) / least;
	if (scale > (double)cfg->ring_max)
		scale = (double)cfg->ring_max;
	size_t room = (size_t)ceil(scale) + 1; /* rounding */
	t->ring = mem_alloc(MEM_OTHER, room * sizeof *t->ring);
	if (!t->ring)
		return false;
	double current = 0, target = 0;
	for (unsigned i = 0; i < t->nuse; i++) {
		struct host *h = t->use[i];
		char key[320];
		const char *name = cfg->ring_hostname && h->hostname ? h->hostname : h->text;
		int n = snprintf(key, sizeof key - 24, "%s_", name);
		if (n > (int)sizeof key - 25)
			n = sizeof key - 25;
		target += scale * (h->weight / total);
		for (unsigned k = 0; current < target && t->nring < room; k++, current++) {
			int m = snprintf(key + n, 24, "%u", k);
			t->ring[t->nring++] =
				(struct ring_item){hash_fixed(key, (size_t)(n + m)), h};
		}
	}
	qsort(t->ring, t->nring, sizeof *t->ring, ring_order);
	return true;
}

/* The first point at or behind the hash. A retry that must avoid hosts goes on to the next ones. */
static struct host *ring_pick(const struct tier *t, uint64_t hash, unsigned attempt)
{
	unsigned low = 0, high = t->nring;
	while (low < high) {
		unsigned mid = (low + high) / 2;
		if (t->ring[mid].hash < hash)
			low = mid + 1;
		else
			high = mid;
	}
	return t->ring[(low + attempt) % t->nring].host;
}

/* ---- priorities */

static unsigned availability(const struct tier *t, unsigned overprovisioning)
{
	uint64_t a = t->n ? (uint64_t)overprovisioning * t->nhealthy / t->n : 0;
	return a > 100 ? 100 : (unsigned)a;
}

static bool skipped(uint32_t skip, unsigned i)
{
	return i < 32 && skip >> i & 1;
}

/* Share of each tier that is not skipped, in percent; panic as Envoy decides it. */
static void share_out(struct tier *tiers, unsigned n, const struct cluster_cfg *cfg, uint32_t skip,
		      unsigned *load, bool *panic)
{
	unsigned total = 0, left = 100, panics = 0, known = 0, hosts = 0;
	int last = -1;
	for (unsigned i = 0; i < n; i++) {
		load[i] = 0;
		panic[i] = false;
		if (skipped(skip, i))
			continue;
		total += availability(&tiers[i], cfg->overprovisioning);
	}
	for (unsigned i = 0; i < n; i++) {
		if (skipped(skip, i))
			continue;
		const struct tier *t = &tiers[i];
		known++;
		hosts += t->n;
		if (total < 100 && (t->n ? 100.0 * t->nhealthy / t->n : 0) < cfg->healthy_panic)
			panic[i] = true, panics++;
	}
	if (panics &&
	    panics == known) { /* all of them: health says nothing any more, hosts count */
		for (unsigned i = 0; i < n && hosts; i++) {
			if (skipped(skip, i) || !tiers[i].n)
				continue;
			load[i] = 100 * tiers[i].n / hosts;
			left -= load[i];
			last = last < 0 ? (int)i : last;
		}
	} else if (total) {
		unsigned whole = total < 100 ? total : 100;
		for (unsigned i = 0; i < n && left; i++) {
			if (skipped(skip, i))
				continue;
			unsigned a = availability(&tiers[i], cfg->overprovisioning) * 100 / whole;
			load[i] = a < left ? a : left;
			left -= load[i];
			if (load[i] && last < 0)
				last = (int)i;
		}
	}
	if (last >= 0)
		load[last] += left; /* what rounding left goes to the first */
}

static struct tier *choose_tier(struct balance *b, const struct cluster_cfg *cfg,
				const struct balance_ask *ask, uint64_t random)
{
	if (b->n == 1)
		return &b->tiers[0];
	enum { TIERS = 32 };
	unsigned own[TIERS];
	bool panic[TIERS];
	uint32_t all = b->n >= 32 ? UINT32_MAX : (1u << b->n) - 1;
	uint32_t skip = (ask->skip_tiers & all) == all ? 0 : ask->skip_tiers;
	unsigned point = (unsigned)(random % 100), sum = 0;
	if (skip && b->n <= TIERS) { /* a retry that avoids priorities */
		share_out(b->tiers, b->n, cfg, skip, own, panic);
		for (unsigned i = 0; i < b->n; i++)
			if (point < (sum += own[i]) && b->tiers[i].nuse)
				return &b->tiers[i];
		sum = 0; /* nobody is left: as at first */
	}
	for (unsigned i = 0; i < b->n; i++)
		if (point < (sum += b->tiers[i].load))
			return &b->tiers[i];
	return NULL;
}

/* ---- building */

static void tier_fini(struct tier *t)
{
	if (t->use != t->all)
		mem_free(MEM_OTHER, t->use);
	mem_free(MEM_OTHER, t->all);
	mem_free(MEM_OTHER, t->edf.items);
	mem_free(MEM_OTHER, t->ring);
}

static bool tier_fill(struct tier *t, unsigned priority, struct host **hosts, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		t->n += hosts[i]->priority == priority;
	if (!t->n)
		return true;
	t->all = mem_alloc(MEM_OTHER, t->n * sizeof *t->all);
	if (!t->all)
		return false;
	t->n = 0;
	for (unsigned i = 0; i < n; i++) {
		if (hosts[i]->priority != priority)
			continue;
		t->all[t->n++] = hosts[i];
		t->nhealthy += hosts[i]->healthy;
	}
	return true;
}

/* Which hosts may be chosen, and the policy's own tables over them. */
static bool tier_ready(struct tier *t, const struct cluster_cfg *cfg)
{
	if (t->panic || t->nhealthy == t->n) {
		t->use = t->all;
		t->nuse = t->n;
	} else if (t->nhealthy) {
		t->use = mem_alloc(MEM_OTHER, t->nhealthy * sizeof *t->use);
		if (!t->use)
			return false;
		for (unsigned i = 0; i < t->n; i++)
			if (t->all[i]->healthy)
				t->use[t->nuse++] = t->all[i];
	}
	if (!t->nuse)
		return true;
	t->even = true;
	for (unsigned i = 1; i < t->nuse; i++)
		t->even &= t->use[i]->weight == t->use[0]->weight;
	t->at = (unsigned)(random_u64() % t->nuse);
	if (cfg->lb == LB_RING_HASH)
		return ring_build(t, cfg);
	return t->even || cfg->lb == LB_RANDOM || edf_build(&t->edf, t->use, t->nuse);
}

static bool build(struct balance *b, const struct cluster_cfg *cfg, struct host **hosts, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (hosts[i]->priority >= b->n)
			b->n = hosts[i]->priority + 1;
	if (!n)
		return true;
	b->tiers = mem_zalloc(MEM_OTHER, b->n * sizeof *b->tiers);
	b->hosts = mem_alloc(MEM_OTHER, n * sizeof(struct host *));
	unsigned *load = mem_alloc(MEM_OTHER, b->n * sizeof *load);
	bool *panic = mem_alloc(MEM_OTHER, b->n * sizeof *panic);
	bool ok = b->tiers && b->hosts && load && panic;
	if (ok) {
		memcpy(b->hosts, hosts, n * sizeof(struct host *));
		b->nhosts = n;
		for (unsigned i = 0; ok && i < b->n; i++)
			ok = tier_fill(&b->tiers[i], i, hosts, n);
	}
	if (ok)
		share_out(b->tiers, b->n, cfg, 0, load, panic);
	for (unsigned i = 0; ok && i < b->n; i++) {
		b->tiers[i].load = load[i];
		b->tiers[i].panic = panic[i];
		ok = tier_ready(&b->tiers[i], cfg);
	}
	mem_free(MEM_OTHER, load);
	mem_free(MEM_OTHER, panic);
	return ok;
}

bool balance_build(struct balance *b, const struct cluster_cfg *cfg, struct host **hosts,
		   unsigned n)
{
	struct balance fresh = {0};
	if (!build(&fresh, cfg, hosts, n)) {
		if (!fresh.tiers)
			fresh.n = 0;
		balance_fini(&fresh);
		return false;
	}
	balance_fini(b);
	*b = fresh;
	return true;
}

void balance_fini(struct balance *b)
{
	for (unsigned i = 0; i < b->n; i++)
		tier_fini(&b->tiers[i]);
	mem_free(MEM_OTHER, b->tiers);
	mem_free(MEM_OTHER, b->hosts);
	*b = (struct balance){0};
}

/* ---- choosing */

static struct host *least_request(struct tier *t, const struct cluster_cfg *cfg)
{
	struct host *best = NULL;
	unsigned choices = cfg->choice_count ? cfg->choice_count : 2;
	for (unsigned i = 0; i < choices; i++) {
		struct host *h = t->use[random_u64() % t->nuse];
		if (!best || h->active < best->active)
			best = h;
	}
	return best;
}

static struct host *within(struct tier *t, const struct cluster_cfg *cfg, uint64_t hash,
			   unsigned again)
{
	if (t->nuse == 0)
		return NULL;
	if (t->nuse == 1)
		return t->use[0];
	switch (cfg->lb) {
	case LB_RING_HASH:
		if (t->nring)
			return ring_pick(t, hash, again);
		/* fall through */
	case LB_RANDOM: return t->use[random_u64() % t->nuse];
	case LB_LEAST_REQUEST: return t->even ? least_request(t, cfg) : edf_pick(&t->edf, cfg->lb);
	case LB_ROUND_ROBIN:
	default: break;
	}
	if (!t->even)
		return edf_pick(&t->edf, cfg->lb);
	struct host *h = t->use[t->at];
	t->at = t->at + 1 < t->nuse ? t->at + 1 : 0;
	return h;
}

static bool tried(const struct balance_ask *ask, const struct host *h)
{
	for (unsigned i = 0; i < ask->ntried; i++)
		if (ask->tried[i] == h->id)
			return true;
	return false;
}

static struct host *overriding(const struct balance *b, struct str text)
{
	for (unsigned i = 0; i < b->nhosts; i++)
		if (b->hosts[i]->healthy && str_eq(str_of(b->hosts[i]->text), text))
			return b->hosts[i];
	return NULL;
}

struct host *balance_pick(struct balance *b, const struct cluster_cfg *cfg,
			  const struct balance_ask *ask)
{
	if (b->nhosts == 0)
		return NULL;
	if (ask->override_host.p && ask->attempt == 0) {
		struct host *h = overriding(b, ask->override_host);
		if (h || ask->override_strict)
			return h;
	}
	uint64_t hash = 0;
	if (cfg->lb == LB_RING_HASH || b->n > 1)
		hash = ask->has_hash && cfg->lb == LB_RING_HASH ? ask->hash : random_u64();
	struct host *h = NULL;
	for (unsigned i = 0; i <= ask->host_attempts; i++) {
		struct tier *t = choose_tier(b, cfg, ask, hash);
		h = t ? within(t, cfg, hash, i) : NULL;
		if (!h || !tried(ask, h))
			break; /* a choice that was tried stands when the attempts are used up */
		if (b->n > 1 && !ask->has_hash)
			hash = random_u64();
	}
	return h;
}
