/* src/filters/fallback/shadow.c
 *
 * Compare mode (shadow: {percent, compare}): of a sample of hits the fallback is asked too, and the answers are compared. The client's
 * answer neither waits for it nor changes. What is compared outlives the exchange: it has an arena of its own and is a guest of the
 * worker.
 */
#include "base/mem.h"
#include "filters/fallback/fallback_int.h"
#include "obs/log.h"

#define SHADOW_US 30000000ull
#define BODY_MOST (64ull << 20)
enum { SHADOWS_MOST = 64 }; /* at a time, all workers */

struct digest {
	unsigned status;
	uint64_t fields, body, length;
	bool complete;
};
struct shadow {
	struct exch_guest guest; /* first */
	struct exch_env *env;
	struct fb_shared *shared;
	const struct model *model; /* keeps shared alive */
	unsigned compare;
	struct arena arena;
	struct head head;
	struct call *call;
	struct task task;
	struct digest primary, fallback;
	bool left; /* the exchange is over */
	bool told; /* the fallback's head was looked at */
	bool fallback_over;
};

/* FNV-1a: pieces may come in any size. */
static uint64_t add_bytes(uint64_t h, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)p[i]) * 0x100000001b3ull;
	return h;
}

static void digest_start(struct digest *d)
{
	d->fields = d->body = 0xcbf29ce484222325ull;
}

/* What a visitor or a cache would notice; dates, tags and cookies differ between any two
 * origins. */
static void digest_head(struct digest *d, const struct head *h)
{
	static const enum field_id ids[] = {FIELD_CONTENT_TYPE, FIELD_CONTENT_ENCODING,
					    FIELD_LOCATION, FIELD_CACHE_CONTROL};
	d->status = h->status;
	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
		struct str v = head_value(h, ids[i]);
		d->fields = add_bytes(d->fields, v.p ? v.p : "", v.n);
		d->fields = add_bytes(d->fields, "\n", 1);
	}
}

static void digest_body(struct digest *d, const struct chain *c)
{
	for (const struct piece *q = c->first; q; q = q->next)
		d->body = add_bytes(d->body, q->p, q->n);
	d->length += c->n;
}

static void shadow_free(struct shadow *s)
{
	if (s->call)
		call_cancel(s->call);
	task_drop(s->env->loop, &s->task);
	exch_guest_remove(&s->guest);
	atomic_fetch_sub_explicit(&s->shared->shadows, 1, memory_order_relaxed);
	arena_fini(&s->arena);
	model_unref(s->model);
	mem_free(MEM_EXCHANGE, s);
}

static void on_worker_end(struct exch_guest *g)
{
	shadow_free((struct shadow *)g);
}

static void compare(struct shadow *s)
{
	const struct digest *p = &s->primary, *f = &s->fallback;
	const char *what = NULL;
	char q[300];
	struct str path, query;
	if (!p->complete || !f->complete)
		return; /* one of them broke off: nothing can be said */
	if (s->compare & COMPARE_STATUS && p->status != f->status)
		what = "status";
	else if (s->compare & COMPARE_HEADERS && p->status == f->status && p->fields != f->fields)
		what = "headers";
	else if (s->compare & COMPARE_BODY && p->status == f->status &&
		 (p->body != f->body || p->length != f->length))
		what = "body";
	stat_add(what ? s->shared->shadow_differs : s->shared->shadow_same, 1);
	if (!what)
		return;
	str_cut(head_value(&s->head, FIELD_PATH), '?', &path, &query);
	top_add(s->shared->differs, path, f->status, loop_wall_us(s->env->loop));
	log_limited(LOG_FILTER, LOG_INFO, "fallback shadow",
		    "fallback %.*s: %s differs: \"%s\", primary %u and %llu bytes, fallback %u and "
		    "%llu bytes",
		    STR_ARG(s->shared->name), what,
		    log_quote(q, sizeof q, head_value(&s->head, FIELD_PATH)), p->status,
		    (unsigned long long)p->length, f->status, (unsigned long long)f->length);
}

static void maybe_end(struct shadow *s)
{
	if (!s->left || !s->fallback_over)
		return;
	compare(s);
	shadow_free(s);
}

static void run(struct task *t)
{
	struct shadow *s = (struct shadow *)((char *)t - offsetof(struct shadow, task));
	struct call *c = s->call;
	if (!c)
		return;
	if (c->has_head && !s->told) {
		s->told = true;
		digest_head(&s->fallback, c->head);
	}
	digest_body(&s->fallback, &c->in);
	chain_clear(&c->in);
	if (!c->ended && !c->failed && s->fallback.length <= BODY_MOST) {
		call_took(c);
		return;
	}
	s->fallback.complete = c->ended && s->told;
	s->fallback_over = true;
	s->call = NULL;
	call_close(c);
	maybe_end(s);
}

static void event(struct call *c)
{
	struct shadow *s = c->owner;
	later(s->env->loop, PHASE_RUN, &s->task);
}

struct shadow *shadow_start(struct exchange *ex, const struct fb_cfg *cfg,
			    const struct head *request)
{
	struct fb_shared *sh = cfg->shared;
	if (atomic_fetch_add_explicit(&sh->chance, 37, memory_order_relaxed) % 100 >=
	    cfg->shadow_percent)
		return NULL;
	struct shadow *s = mem_zalloc(MEM_EXCHANGE, sizeof *s);
	if (!s)
		return NULL;
	s->env = ex->env;
	s->shared = sh;
	s->compare = cfg->shadow_compare;
	s->model = model_ref(ex->model);
	s->guest.leave = on_worker_end;
	s->task.run = run;
	exch_guest_add(ex->env, &s->guest);
	arena_init(&s->arena, 4u << 20);
	digest_start(&s->primary);
	digest_start(&s->fallback);
	digest_head(&s->primary, &ex->resp.head);
	bool room = atomic_fetch_add_explicit(&sh->shadows, 1, memory_order_relaxed) < SHADOWS_MOST;
	struct call_request rq = {
		.model = ex->model,
		.cluster = cfg->origins[0].cluster,
		.head = &s->head,
		.arena = &s->arena,
		.ended = true,
		.length = -1,
		.timeout_us = SHADOW_US,
		.no_interim = true,
		.refused = loop_refused,
	};
	bool ok = room && head_copy(&s->head, &s->arena, request);
	if (ok && cfg->origins[0].host.p)
		ok = head_set_id(&s->head, FIELD_AUTHORITY, cfg->origins[0].host);
	if (ok) { /* the whole answer, not what the client has of it already */
		head_remove_id(&s->head, FIELD_IF_NONE_MATCH);
		head_remove_id(&s->head, FIELD_IF_MODIFIED_SINCE);
		head_remove_id(&s->head, FIELD_X_ENVOY_EXPECTED_TIMEOUT);
	}
	s->call = ok ? call_open(ex->env->upstream, &rq, event, s) : NULL;
	if (!s->call) {
		shadow_free(s);
		return NULL;
	}
	return s;
}

void shadow_body(struct shadow *s, const struct chain *batch)
{
	digest_body(&s->primary, batch);
}

void shadow_leave(struct shadow *s, bool complete)
{
	s->primary.complete = complete;
	s->left = true;
	maybe_end(s);
}
