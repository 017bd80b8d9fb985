/* src/filters/fallback/hints.c
 *
 * What is remembered of misses (memory.c), and what follows from it: who is asked first (mode TRUST), or both at once (mode HINT); and the
 * hedge, which asks the fallback as well when the primary takes long. Requests asked for nothing are paid from hint_budget.
 */
#include "filters/fallback/fallback_int.h"

static bool budget_left(const struct fb *fb)
{
	const struct fb_shared *s = fb->cfg->shared;
	uint64_t asked = atomic_load_explicit(&s->asked, memory_order_relaxed),
		 wasted = atomic_load_explicit(&s->wasted, memory_order_relaxed);
	return fb->cfg->hint_budget && wasted * 100 <= (asked + 10) * fb->cfg->hint_budget;
}

void fb_settle_hint(struct fb *fb, bool right)
{
	struct fb_shared *s = fb->cfg->shared;
	if (!fb->hinted)
		return;
	fb->hinted = false;
	stat_add(right ? s->hints_right : s->hints_wrong, 1);
	if (!right)
		atomic_fetch_add_explicit(&s->wasted, 1, memory_order_relaxed);
	/* the past counts for less and less */
	if (atomic_load_explicit(&s->asked, memory_order_relaxed) > 1000) {
		atomic_store_explicit(&s->asked,
				      atomic_load_explicit(&s->asked, memory_order_relaxed) / 2,
				      memory_order_relaxed);
		atomic_store_explicit(&s->wasted,
				      atomic_load_explicit(&s->wasted, memory_order_relaxed) / 2,
				      memory_order_relaxed);
	}
}

static void on_hedge(struct task *t)
{
	struct fb *fb = (struct fb *)((char *)t - offsetof(struct fb, task));
	fb->hedge_us = 0;
	if (fb->over || fb->ex->resp.begun || policy_done(&fb->policy) || !budget_left(fb))
		return;
	if (policy_step(&fb->policy, HEDGE_DUE) == CALL_FALLBACK) {
		fb->hinted = true;
		fb_ask(fb);
	}
}

enum verdict fb_consult(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	const struct fb_cfg *cfg = fb->cfg;
	const struct head *h = &ex->req.head;
	struct misses *m = cfg->shared->misses;
	struct str authority = head_value(h, FIELD_AUTHORITY), target = head_value(h, FIELD_PATH),
		   path, query;
	bool both = false;
	uint64_t now = fb_now(fb);
	str_cut(target, '?', &path, &query);
	fb->remembers = cfg->memory != MEMORY_OFF && !head_has(h, FIELD_AUTHORIZATION);
	if (fb->remembers && !no_cache(h)) {
		bool missed = misses_knows(m, FACT_MISS, authority, path, now);
		if (cfg->memory == MEMORY_TRUST &&
		    misses_knows(m, FACT_BOTH, authority, target, now) &&
		    !has_private_cookie(cfg, h)) {
			fb->both_known = true;
			policy_init(&fb->policy, START_PRIMARY_ONLY);
			return GO_ON;
		}
		if (cfg->memory == MEMORY_TRUST && missed) {
			fb->waits_request = true;
			policy_init(&fb->policy, START_FALLBACK_FIRST);
			fb_ask(fb);
			return fb_drive(fb, NOTHING_NEW);
		}
		both = missed && budget_left(fb);
	}
	policy_init(&fb->policy, fb_start_of(cfg, both));
	if (both) {
		fb->hinted = true;
		fb_ask(fb);
	} else if (cfg->hedge_us) {
		fb->task.run = on_hedge;
		fb->hedge_us = now + cfg->hedge_us;
		fb_arm(fb);
	}
	return GO_ON;
}

void fb_remember(struct fb *fb, enum served served)
{
	struct exchange *ex = fb->ex;
	const struct fb_cfg *cfg = fb->cfg;
	struct misses *m = cfg->shared->misses;
	struct str authority = head_value(fb->client ? fb->client : &ex->req.head, FIELD_AUTHORITY);
	struct str target = head_value(fb->client ? fb->client : &ex->req.head, FIELD_PATH), path,
		   query;
	uint64_t now = fb_now(fb);
	str_cut(target, '?', &path, &query);
	if (!fb->remembers || served == SERVED_DEGRADED || served == SERVED_ERROR)
		return;
	if (served == SERVED_PRIMARY) {
		misses_drop(m, FACT_MISS, authority, path);
		misses_drop(m, FACT_BOTH, authority, target);
		return;
	}
	if (ex->fallback.primary_status && !fb->both_known)
		misses_learn(m, FACT_MISS, authority, path, now, cfg->miss_ttl_us);
	if (served == SERVED_BOTH_MISS && ex->fallback.status == 404 &&
	    !has_private_cookie(cfg, &ex->req.head))
		misses_learn(m, FACT_BOTH, authority, target, now, cfg->both_ttl_us);
	else if (served == SERVED_FALLBACK)
		misses_drop(m, FACT_BOTH, authority, target);
}

void fb_forget_written(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	unsigned m = ex->req.head.method;
	if (fb->cfg->memory == MEMORY_OFF || m == METHOD_GET || m == METHOD_HEAD ||
	    m == METHOD_OPTIONS || !ex->resp.begun || ex->resp.head.status >= 400)
		return;
	struct str authority = head_value(&ex->req.head, FIELD_AUTHORITY),
		   target = head_value(&ex->req.head, FIELD_PATH), path, query;
	str_cut(target, '?', &path, &query);
	misses_drop(fb->cfg->shared->misses, FACT_MISS, authority, path);
	misses_drop(fb->cfg->shared->misses, FACT_BOTH, authority, path);
	misses_drop(fb->cfg->shared->misses, FACT_BOTH, authority, target);
}
