/* src/filters/fallback/fallback.c
 *
 * postern.filters.http.fallback.v1.Fallback (spec/fallback.md). The primary is whatever the filters behind this one answer; the
 * fallback is a call of our own. This file turns what happens on the two into events of policy.c and carries out its actions. A plain hit
 * costs no state: that is made when the primary has missed, or when a request is not plain.
 *
 *   request hook  ask the fallback alone (WAIT, this filter is the source) or let the primary be asked (GO_ON)
 *   response hook a hit goes on; a miss is held (WAIT) until the fallback's head is there, then either goes on
 *                 or is replaced by the fallback's answer, which this filter feeds from then on (pump)
 */
#include "base/must.h"
#include "filters/fallback/fallback_int.h"
#include "filters/filters.h"
#include "obs/log.h"
#include <stdio.h>

#define DRAIN_US 250000ull
#define CONTINUE_US 1000000ull
#define QUEUE_POLL_US 10000ull
#define QUEUE_US 1000000ull
enum { NOTHING_NEW = -1, REST_MOST = LIMIT_STREAM_HIGH };

struct fb {
	struct exchange *ex;
	const struct filter_cfg *self;
	const struct fb_cfg *cfg;
	struct policy policy;
	enum served served;        /* SERVED: undecided */
	enum served alone;         /* what a fallback that is asked alone counts as */
	const struct head *client; /* the request before the router changed it; NULL: it does not */
	/* the fallback asked now */
	struct call *call;
	unsigned which;
	uint64_t asked_us, due_us; /* due: of its head */
	uint64_t taken;            /* bytes of the request, when too_late looked last */
	enum failure_kind why;     /* of the last that failed */
	bool asked;                /* one was, at least */
	bool queued;               /* max_inflight is reached */
	bool unable;               /* it could not even be called */
	bool counted;              /* in shared->inflight */
	bool answered;             /* its head was told to the policy */
	bool failed;               /* one of those before it did not answer */
	bool handed;               /* it is what the client gets */
	bool breaks;               /* and breaks off */
	/* the request's body */
	struct replay replay;
	struct chain rest; /* behind what replay has, for the fallback only */
	bool keeping;      /* replay is in use */
	bool direct;       /* nothing more is added to it */
	bool spent; /* something of what came behind it is gone: nobody else can have the whole body */
	bool request_ended; /* keeping: all of it has come */
	bool request_sent;
	bool cut;            /* the primary's page ends here, visibly */
	bool broke_told;     /* the held page broke off, and the policy knows */
	bool waits_request;  /* this filter has the request's head */
	bool private_answer; /* chosen by something that is not in the URL */
	bool hinted;         /* asked before the primary had spoken */
	bool remembers;      /* what happens may be remembered */
	bool both_known;     /* remembered: nobody has it */
	bool over;
	struct shadow *shadow;
	uint64_t reserved; /* of hold_total_bytes */
	uint64_t continue_us, hedge_us, queue_us;
	struct timer timer;
	struct task task;
};

static uint64_t now_of(const struct fb *fb)
{
	return loop_now_us(fb->ex->env->loop);
}

static const struct fb_origin *origin_of(const struct fb *fb)
{
	return &fb->cfg->origins[fb->which];
}

/* ---- waking up */

/* Something happened: this filter looks at it in phase 3. */
static void mark(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	if (ex->source == fb->self) {
		ex->pump_due = true;
		exch_run_later(ex);
	} else {
		exch_wake(ex, fb->self, fb->waits_request ? LEG_REQUEST : LEG_RESPONSE);
	}
}

static void call_event(struct call *c)
{
	mark(c->owner);
}

static void arm(struct fb *fb)
{
	uint64_t next = UINT64_MAX, now = now_of(fb);
	const uint64_t dues[] = {fb->due_us, fb->continue_us, fb->hedge_us,
				 fb->queued ? now + QUEUE_POLL_US : 0};
	for (unsigned i = 0; i < sizeof dues / sizeof *dues; i++)
		if (dues[i] && dues[i] < next)
			next = dues[i];
	if (next != UINT64_MAX)
		timer_arm(fb->ex->env->loop, &fb->timer, next > now ? next - now : 1);
}

static void fire(struct timer *t)
{
	struct fb *fb = (struct fb *)((char *)t - offsetof(struct fb, timer));
	if (fb->over)
		return;
	if (fb->hedge_us && fb->hedge_us <= now_of(fb))
		later(fb->ex->env->loop, PHASE_RUN, &fb->task);
	arm(fb);
	mark(fb);
}

/* ---- what is handed back */

static void release_hold(struct fb *fb)
{
	if (!fb->reserved)
		return;
	atomic_fetch_sub_explicit(&fb->cfg->shared->held, fb->reserved, memory_order_relaxed);
	stat_sub(fb->cfg->shared->held_bytes, fb->reserved);
	fb->reserved = 0;
}

static void release_slot(struct fb *fb)
{
	if (fb->queued)
		atomic_fetch_sub_explicit(&fb->cfg->shared->waiting, 1, memory_order_relaxed);
	fb->queued = false;
	if (!fb->counted)
		return;
	fb->counted = false;
	atomic_fetch_sub_explicit(&fb->cfg->shared->inflight, 1, memory_order_relaxed);
	stat_sub(fb->cfg->shared->inflight_now, 1);
}

static struct call_discard discard_of(const struct fb_cfg *cfg)
{
	struct call_discard how = cfg->shared->loser;
	how.bytes = cfg->drain_bytes;
	how.us = DRAIN_US;
	return how;
}

/* The fallback's answer is not wanted. */
static void lose_call(struct fb *fb)
{
	struct call_discard how = discard_of(fb->cfg);
	release_slot(fb);
	if (fb->call)
		call_drain(fb->call, &how);
	fb->call = NULL;
	fb->answered = false;
	fb->due_us = 0;
}

/* The request's body is of no more use to this filter. */
static void stop_keeping(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	if (!fb->keeping)
		return;
	fb->keeping = false;
	ex->keep_request = false;
	exch_unwatch_body(ex, fb->self, LEG_REQUEST);
	replay_fini(&fb->replay);
	chain_clear(&fb->rest);
	if (!fb->request_ended) {
		ex->req.discard = true;
		chain_clear(&ex->req.batch);
		ex->req.batch_waiting = false;
		ex->port->room(ex);
	}
}

/* ---- the request to the fallback */

static bool rewrites(const struct header_ops *o)
{
	return o->nrequest != 0;
}

/* The router will change the request for the primary, and for nobody else. */
static bool route_rewrites(const struct exchange *ex)
{
	const struct route *r = ex->route;
	if (!r)
		return false;
	/* added up: seldom any, so that asking one by one gains nothing */
	uintptr_t some = (uintptr_t)r->prefix_rewrite.p | (uintptr_t)r->rewrite_regex |
			 (uintptr_t)r->host_rewrite.p | (uintptr_t)r->host_rewrite_header.p |
			 (uintptr_t)r->host_rewrite_regex | r->auto_host_rewrite |
			 r->headers_ops.nrequest | ex->vhost->headers_ops.nrequest |
			 ex->vhost->config->headers_ops.nrequest;
	if (__builtin_expect(some != 0, 0))
		return true;
	return ex->weighted && (ex->weighted->host_rewrite.p || rewrites(&ex->weighted->headers));
}

/* A copy of the head whose fields may be changed; names and values stay where they are. NULL: no
 * memory. */
static struct head *copy_head(struct exchange *ex, const struct head *from)
{
	struct head *h = arena_alloc(&ex->arena, sizeof *h);
	struct field *f = arena_alloc(&ex->arena, (from->n + 6u) * sizeof *f);
	if (!h || !f)
		return NULL;
	*h = *from;
	h->f = f;
	h->cap = (uint16_t)(from->n + 6u);
	memcpy(f, from->f, from->n * sizeof *f);
	return h;
}

static struct head *request_head(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	struct head *h = copy_head(ex, fb->client ? fb->client : &ex->req.head);
	struct str host = origin_of(fb)->host;
	if (!h)
		return NULL;
	if (!fb->client && head_has(h, FIELD_X_ENVOY_EXPECTED_TIMEOUT))
		/* the router's, for the primary */
		head_remove_id(h, FIELD_X_ENVOY_EXPECTED_TIMEOUT);
	bool ok = true;
	if (!head_has(h, FIELD_X_FORWARDED_HOST))
		ok = head_set_id(h, FIELD_X_FORWARDED_HOST, head_value(h, FIELD_AUTHORITY));
	if (host.p)
		ok &= head_set_id(h, FIELD_AUTHORITY, host);
	if (fb->cfg->mark_request) {
		head_remove(h, STR("x-fallback"));
		if (ex->fallback.primary_status)
			ok &= head_add(h, STR("x-fallback"), STR("404"));
	}
	if (fb->keeping && head_has(h, FIELD_EXPECT))
		head_remove_id(h, FIELD_EXPECT);
	return ok ? h : NULL;
}

/* False: the breaker is open. */
static bool breaker_lets(const struct fb *fb)
{
	return !fb->cfg->breaker_failures ||
	       atomic_load_explicit(&fb->cfg->shared->open_until_us, memory_order_relaxed) <=
		       now_of(fb);
}

static void breaker_hears(struct fb *fb, bool well)
{
	struct fb_shared *s = fb->cfg->shared;
	if (!fb->cfg->breaker_failures)
		return;
	if (well) {
		atomic_store_explicit(&s->failures, 0, memory_order_relaxed);
	} else if (atomic_fetch_add_explicit(&s->failures, 1, memory_order_relaxed) + 1 >=
		   fb->cfg->breaker_failures) {
		atomic_store_explicit(&s->open_until_us, now_of(fb) + fb->cfg->breaker_open_us,
				      memory_order_relaxed);
		atomic_store_explicit(&s->failures, 0, memory_order_relaxed);
		log_limited(LOG_FILTER, LOG_WARNING, "fallback breaker",
			    "fallback %.*s: %u failures to connect: not asked for %llu ms",
			    STR_ARG(s->name), fb->cfg->breaker_failures,
			    (unsigned long long)(fb->cfg->breaker_open_us / 1000));
	}
}

/* A place among max_inflight. False: none; queued, or unable when the queue is full too. */
static bool take_slot(struct fb *fb)
{
	struct fb_shared *s = fb->cfg->shared;
	unsigned most = fb->cfg->max_inflight;
	unsigned before = atomic_fetch_add_explicit(&s->inflight, 1, memory_order_relaxed);
	if (!most || before < most) {
		if (fb->queued)
			atomic_fetch_sub_explicit(&s->waiting, 1, memory_order_relaxed);
		fb->queued = false;
		fb->counted = true;
		stat_add(s->inflight_now, 1);
		return true;
	}
	atomic_fetch_sub_explicit(&s->inflight, 1, memory_order_relaxed);
	if (fb->queued)
		return false;
	if (atomic_fetch_add_explicit(&s->waiting, 1, memory_order_relaxed) < most) {
		fb->queued = true;
		fb->queue_us = now_of(fb) + QUEUE_US;
		arm(fb);
	} else {
		atomic_fetch_sub_explicit(&s->waiting, 1, memory_order_relaxed);
		fb->unable = true;
		fb->why = FAILED_OVERFLOW;
	}
	return false;
}

static bool request_complete(const struct exchange *ex)
{
	const struct leg *leg = &ex->req;
	return leg->in_ended && leg->size == 0 && chain_empty(&leg->in) &&
	       chain_empty(&leg->held) && !leg->batch_waiting;
}

static void pump_request(struct fb *fb);

/* Calls the fallback; what goes wrong is seen by news(). */
static void ask(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	const struct fb_origin *o = origin_of(fb);
	bool alone = fb->alone != SERVED;
	if (!fb->asked_us)
		fb->asked_us = now_of(fb);
	fb->asked = true;
	fb->unable = false;
	if (!breaker_lets(fb)) {
		fb->unable = true;
		fb->why = FAILED_NO_HEALTHY;
		return;
	}
	if (!take_slot(fb))
		return;
	struct head *h = request_head(fb);
	bool ended = !fb->keeping && request_complete(ex);
	struct call_request rq = {
		.model = ex->model,
		.cluster = o->cluster,
		.head = h,
		.arena = &ex->arena,
		.ended = ended,
		.length = fb->keeping ? ex->req.size
			  : ended && h && !head_has(h, FIELD_CONTENT_LENGTH)
				  ? -1
				  : leg_framing(&ex->req),
		.upgrade = ex->upgrade,
		.keep_interim = ex->expect_continue && !fb->keeping,
		.no_interim = !ex->expect_continue,
		.trailers_ok = o->cluster->enable_trailers,
		.refused = loop_refused,
	};
	fb->call = h ? call_open(ex->env->upstream, &rq, call_event, fb) : NULL;
	if (!fb->call) {
		release_slot(fb);
		fb->unable = true;
		fb->why = FAILED_MEMORY;
		return;
	}
	atomic_fetch_add_explicit(&fb->cfg->shared->asked, 1, memory_order_relaxed);
	fb->request_sent = ended;
	fb->replay.read = fb->taken = 0;
	uint64_t limit = o->header_timeout_us;
	if (alone) /* nobody else's answer is at hand: as long as the route allows */
		limit = ex->upgrade.p || !ex->route ? 0 : ex->route->timeout_us;
	fb->due_us = limit ? now_of(fb) + limit : 0;
	if (alone && ex->expect_continue && !ended)
		fb->continue_us = now_of(fb) + CONTINUE_US;
	arm(fb);
	if (!ended)
		pump_request(fb);
}

/* Whether the head is later than header_timeout after the request was sent, or the request is not sent because nothing of what waits was taken
 * for that long. Of a request to the fallback alone only the end counts: before it there is stream_idle_timeout, as at the router. */
static bool too_late(struct fb *fb)
{
	const struct call *c = fb->call;
	bool alone = fb->alone != SERVED;
	uint64_t now = now_of(fb), limit;
	if (!fb->due_us || now < fb->due_us)
		return false;
	limit = alone ? fb->ex->route->timeout_us : origin_of(fb)->header_timeout_us;
	bool full = fb->request_sent || (!alone && call_room(c) == 0);
	if (c->sent_us) {
		fb->due_us = c->sent_us + limit;
	} else if (!full || c->bytes_sent != fb->taken || now < fb->asked_us + 2 * limit) {
		/* a client that takes its time, a fallback that takes little by little, or a
		 * connection that is still made */
		fb->taken = c->bytes_sent;
		fb->due_us = now + limit;
	}
	arm(fb);
	return now >= fb->due_us;
}

/* ---- what the fallback did, as events */

static void note_time(struct fb *fb)
{
	uint64_t ms = (now_of(fb) - fb->asked_us) / 1000;
	fb->ex->fallback.ms = (uint32_t)ms;
	stat_record(fb->cfg->shared->seconds_fallback, ms);
}

/* This one did not answer with something of its own: the next is asked, or the policy hears of
 * it. */
static int next_or(struct fb *fb, bool missed)
{
	bool more = fb->which + 1 < fb->cfg->norigins && fb->alone == SERVED;
	if (more && fb->spent) {
		more = missed = false;
		fb->why = FAILED_OVERFLOW;
	}
	fb->failed |= !missed;
	if (more) {
		fb->which++;
		fb->asked_us = 0;
		ask(fb);
		return NOTHING_NEW;
	}
	return fb->failed ? FALLBACK_FAIL : FALLBACK_MISS;
}

static int went_wrong(struct fb *fb, enum failure_kind why)
{
	struct call *c = fb->call;
	bool told = fb->answered;
	fb->why = why;
	if (why == FAILED_CONNECT || why == FAILED_CONNECT_TIMEOUT)
		breaker_hears(fb, false);
	release_slot(fb);
	fb->unable = false;
	fb->due_us = 0;
	fb->call = NULL;
	fb->answered = false;
	if (c) {
		log_limited(LOG_FILTER, LOG_INFO, "fallback failed", "fallback %.*s: %.*s: %s%s%s",
			    STR_ARG(fb->cfg->policy), STR_ARG(c->cluster->name),
			    failure_infos[why].details, c->failure_text ? ", " : "",
			    c->failure_text ? c->failure_text : "");
		fb->ex->attempts += c->attempts;
		call_cancel(c);
	}
	if (!told)
		return next_or(fb, false);
	fb->failed = true; /* the policy counts on its answer: it must hear of this first */
	return FALLBACK_FAIL;
}

static int head_came(struct fb *fb)
{
	unsigned status = fb->call->head->status;
	fb->due_us = 0;
	fb->continue_us = 0;
	fb->ex->fallback.status = (uint16_t)status;
	note_time(fb);
	breaker_hears(fb, true);
	if (fb->alone == SERVED && statuses_has(&origin_of(fb)->keep, status)) {
		fb->ex->attempts += fb->call->attempts;
		lose_call(fb);
		return next_or(fb, true);
	}
	fb->answered = true;
	return FALLBACK_HIT;
}

static int news(struct fb *fb)
{
	struct call *c = fb->call;
	if (fb->unable)
		return went_wrong(fb, fb->why);
	if (fb->queued) {
		if (now_of(fb) >= fb->queue_us)
			return went_wrong(fb, FAILED_OVERFLOW);
		ask(fb);
		return NOTHING_NEW;
	}
	if (!c || fb->handed)
		return NOTHING_NEW;
	if (fb->answered)
		return c->failed ? went_wrong(fb, c->failure) : NOTHING_NEW;
	if (c->has_head)
		return head_came(fb);
	if (c->failed)
		return went_wrong(fb, c->failure);
	return too_late(fb) ? went_wrong(fb, FAILED_TIMEOUT) : NOTHING_NEW;
}

/* ---- the decision carried out */

static bool has_others(const struct exchange *ex)
{
	return ex->nfilters > 2;
}

static void tell_number(struct exchange *ex, struct str key, unsigned n)
{
	struct value *v = value_new(&ex->arena, VALUE_NUMBER);
	if (!v)
		return;
	v->number = n;
	metadata_set(&ex->metadata, &ex->arena, STR("postern.fallback"), key, v);
}

/* Dynamic metadata, where there are filters that could look at it. */
static __attribute__((noinline)) void tell_others(struct exchange *ex)
{
	const struct exch_fallback *f = &ex->fallback;
	struct value *v = value_new(&ex->arena, VALUE_STRING);
	if (!v)
		return;
	v->string = str_of(f->served);
	metadata_set(&ex->metadata, &ex->arena, STR("postern.fallback"), STR("served"), v);
	if (f->primary_status) {
		tell_number(ex, STR("primary_status"), f->primary_status);
		tell_number(ex, STR("primary_ms"), f->primary_ms);
	}
	if (f->status) {
		tell_number(ex, STR("status"), f->status);
		tell_number(ex, STR("ms"), f->ms);
	}
	tell_number(ex, STR("held_bytes"), f->held);
}

/* Who else is told. False: no memory. */
static __attribute__((noinline)) bool account_more(struct exchange *ex, const struct fb_cfg *cfg,
						   enum served served)
{
	static const char *const marks[SERVED] = {
		"primary",           "fallback", "override", "direct", "primary; both-miss",
		"primary; degraded", "primary"};
	if (has_others(ex))
		tell_others(ex);
	return !cfg->served_by.p ||
	       head_replace(&ex->resp.head, cfg->served_by, str_of(marks[served]));
}

/* The mark on the answer, the counters, the log's facts. False: no memory. */
static inline bool account(struct exchange *ex, const struct fb_cfg *cfg, enum served served)
{
	ex->fallback.served = served_names[served];
	shared_count(cfg->shared, served, ex->resp.head.status);
	return (!cfg->served_by.p && !has_others(ex)) || account_more(ex, cfg, served);
}

static void remember(struct fb *fb, enum served served)
{
	struct exchange *ex = fb->ex;
	const struct fb_cfg *cfg = fb->cfg;
	struct misses *m = cfg->shared->misses;
	struct str authority = head_value(fb->client ? fb->client : &ex->req.head, FIELD_AUTHORITY);
	struct str target = head_value(fb->client ? fb->client : &ex->req.head, FIELD_PATH), path,
		   query;
	uint64_t now = now_of(fb);
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

/* A hint costs a request that nobody wanted, or saves time. */
static void settle_hint(struct fb *fb, bool right)
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

static void note_paths(struct fb *fb, enum served served)
{
	struct exchange *ex = fb->ex;
	struct str path, query;
	struct top *t = served == SERVED_FALLBACK    ? fb->cfg->shared->top
			: served == SERVED_BOTH_MISS ? fb->cfg->shared->both
						     : NULL;
	if (!t)
		return;
	str_cut(head_value(fb->client ? fb->client : &ex->req.head, FIELD_PATH), '?', &path,
		&query);
	top_add(t, path, ex->resp.head.status, loop_wall_us(ex->env->loop));
}

/* resp.head is the one that goes out. */
static bool settle(struct fb *fb, enum served served)
{
	struct exchange *ex = fb->ex;
	fb->served = served;
	settle_hint(fb, served != SERVED_PRIMARY && served != SERVED_ERROR);
	release_hold(fb);
	if (served != SERVED_FALLBACK && fb->alone == SERVED) {
		lose_call(fb);
		stop_keeping(fb);
	}
	if (fb->remembers)
		remember(fb, served);
	note_paths(fb, served);
	return account(ex, fb->cfg, served);
}

/* What is read of a page that will never be whole here, nor drained, is read in vain: what came with its head is all that is held of it, and
 * that is as much as one read brings. */
static void hold(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	struct leg *leg = &ex->resp;
	struct fb_shared *s = fb->cfg->shared;
	uint64_t want = fb->cfg->hold_bytes;
	bool long_one = leg->size >= 0 && (uint64_t)leg->size > want + fb->cfg->drain_bytes;
	if (leg->size >= 0 && (uint64_t)leg->size < want)
		want = (uint64_t)leg->size;
	if (long_one && want > CHUNK_LARGE)
		want = CHUNK_LARGE;
	if (want && atomic_fetch_add_explicit(&s->held, want, memory_order_relaxed) + want >
			    fb->cfg->hold_total) {
		atomic_fetch_sub_explicit(&s->held, want, memory_order_relaxed);
		want = 0;
	}
	fb->reserved = want;
	stat_add(s->held_bytes, want);
	exch_hold_answer(ex, long_one ? 0 : want);
}

static void note_origin(struct exchange *ex, const struct call *c)
{
	ex->upstream_first_us = c->first_byte_us;
	ex->upstream_done_us = c->last_byte_us;
	ex->upstream_cluster = c->cluster;
	exch_addr_set(&ex->upstream_peer, c->peer);
	exch_addr_set(&ex->upstream_local, c->local);
	if (c->failure_text)
		ex->upstream_failure = str_of(c->failure_text);
}

/* A shared cache must not hand one visitor's version to everyone. */
static bool make_private(struct exchange *ex)
{
	struct head *h = &ex->resp.head;
	bool some = false;
	for (const struct field *f = h->f; f < h->f + h->n; f++) {
		if (f->id != FIELD_CACHE_CONTROL)
			continue;
		some = true;
		if (list_has(field_value(f), STR("private")) ||
		    list_has(field_value(f), STR("no-store")))
			return true;
	}
	if (!some)
		return head_add_id(h, FIELD_CACHE_CONTROL, STR("private"));
	/* "public" would contradict it */
	struct str all = head_joined(h, STR("cache-control"), ", ", &ex->arena), item,
		   text = STR("private");
	while (all.n && text.p) {
		str_cut(all, ',', &item, &all);
		item = str_trim(item);
		if (item.n && !str_ieq(item, STR("public")))
			text = arena_printf(&ex->arena, "%.*s, %.*s", STR_ARG(text), STR_ARG(item));
	}
	return text.p && head_set_id(h, FIELD_CACHE_CONTROL, text);
}

/* The fallback's answer is what the client gets. False: no memory. */
static bool deliver(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	struct call *c = fb->call;
	struct call_discard how = discard_of(fb->cfg);
	enum served served = fb->alone != SERVED ? fb->alone : SERVED_FALLBACK;
	if (ex->resp.begun)
		exch_answer_instead(ex, fb->self, &how);
	else
		ex->source = fb->self;
	unsigned before = ex->attempts;
	note_origin(ex, c);
	ex->attempts = before + c->attempts;
	ex->details = "via_upstream";
	ex->resp.head = *c->head;
	if (c->head_chunk)
		ex->resp_chunk = chunk_ref(c->head_chunk);
	ex->resp_head_bytes = c->head->bytes;
	fb->handed = true;
	fb->continue_us = 0;
	bool ok = !fb->cfg->nrewrite || rewrite_origins(fb->cfg, ex, &ex->resp.head);
	if (fb->private_answer)
		ok = ok && make_private(ex);
	ok = settle(fb, served) && ok;
	if (fb->keeping && (c->request_lost || fb->request_sent))
		stop_keeping(fb);
	unsigned status = c->head->status;
	bool bodyless = ex->is_head || status == 204 || status == 304;
	if (c->tunnel)
		exch_tunnel(ex);
	exch_answer_head(ex, c->tunnel                                       ? -1
			     : bodyless || (c->ended && chain_empty(&c->in)) ? 0
									     : c->length);
	ex->pump_due = true;
	return ok;
}

/* The primary's page, marked as not to be kept: the path may well exist on the fallback. */
static bool degrade(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	struct head *h = &ex->resp.head;
	head_remove(h, STR("etag"));
	head_remove(h, STR("last-modified"));
	bool ok = head_set_id(h, FIELD_CACHE_CONTROL, STR("no-store"));
	head_remove(h, STR("expires"));
	if (fb->cfg->degraded_status != 404) {
		ok &= head_set_status(h, fb->cfg->degraded_status);
		h->reason = (struct str){NULL, 0};
	}
	if (fb->cfg->retry_after_us) {
		struct str s = arena_printf(
			&ex->arena, "%llu",
			(unsigned long long)((fb->cfg->retry_after_us + 999999) / 1000000));
		ok = ok && s.p && head_set_id(h, FIELD_RETRY_AFTER, s);
	}
	return ok;
}

/* An answer of ours in place of the primary's. */
static enum verdict fail(struct fb *fb, enum failure_kind why)
{
	struct exchange *ex = fb->ex;
	settle_hint(fb, false);
	release_hold(fb);
	lose_call(fb);
	stop_keeping(fb);
	fb->served = SERVED_ERROR;
	exch_fail(ex, why);
	account(ex, fb->cfg, SERVED_ERROR);
	return ANSWERED;
}

/* A hit, of which the fallback may be asked too, to compare. */
static void maybe_shadow(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	if (!fb->cfg->shadow_percent || ex->req.head.method != METHOD_GET || ex->req.size != 0 ||
	    fb->asked || ex->resp.head.status == 304 ||
	    head_has(&ex->req.head, FIELD_AUTHORIZATION))
		return;
	fb->shadow = shadow_start(ex, fb->cfg, fb->client ? fb->client : &ex->req.head);
	if (fb->shadow)
		exch_watch_body(ex, fb->self, LEG_RESPONSE);
}

static enum verdict send_primary(struct fb *fb, enum served served)
{
	if (served == SERVED_PRIMARY)
		maybe_shadow(fb);
	fb->ex->fallback.held = (uint32_t)(fb->ex->resp.in.n + fb->ex->resp.held.n);
	bool ok = settle(fb, served);
	if (served == SERVED_DEGRADED)
		ok = degrade(fb) && ok;
	if (ok)
		return GO_ON;
	exch_fail(fb->ex, FAILED_MEMORY);
	return ANSWERED;
}

/* Tells the policy of ev (NOTHING_NEW: of what the fallback did) and does what it says, until nothing is new.
 * long: one case per action. */
static enum verdict drive(struct fb *fb, int ev)
{
	struct exchange *ex = fb->ex;
	while (!policy_done(&fb->policy)) {
		if (ev == NOTHING_NEW)
			ev = news(fb);
		if (ev == NOTHING_NEW && !fb->unable) /* the next one may have failed at once */
			return WAIT;
		if (ev == NOTHING_NEW)
			continue;
		enum policy_action act = policy_step(&fb->policy, (enum policy_event)ev);
		ev = NOTHING_NEW;
		switch (act) {
		case DO_NOTHING:
		case HOLD_FALLBACK: /* a call whose owner takes nothing stops reading by itself */
			break;
		case HOLD_CALL_FALLBACK:
			hold(fb);
			ask(fb);
			break;
		case CALL_FALLBACK: ask(fb); break;
		case HOLD_PRIMARY: hold(fb); break;
		case CALL_PRIMARY: fb->waits_request = false; return GO_ON;
		case SEND_PRIMARY: return send_primary(fb, SERVED_PRIMARY);
		case SEND_HELD: return send_primary(fb, SERVED_BOTH_MISS);
		case SEND_DEGRADED:
			if (fb->cfg->error_on_failure)
				return fail(fb, fb->why);
			return send_primary(fb, SERVED_DEGRADED);
		case SEND_CUT:
			ex->source = fb->self;
			fb->cut = true;
			ex->pump_due = true;
			return send_primary(fb, SERVED_BOTH_MISS);
		case SEND_503: return fail(fb, FAILED_NO_HEALTHY);
		case SEND_FAILURE: return send_primary(fb, SERVED_ERROR);
		case SEND_NO_FALLBACK: return fail(fb, fb->why);
		case SEND_FALLBACK:
			if (deliver(fb))
				return GO_ON;
			exch_fail(ex, FAILED_MEMORY);
			return ANSWERED;
		case CANCEL_ALL: return WAIT;
		}
	}
	return GO_ON;
}

/* ---- the request */

static struct fb *begin(struct exchange *ex, const struct filter_cfg *self,
			const struct fb_cfg *cfg)
{
	struct fb *fb = arena_zalloc(&ex->arena, sizeof *fb);
	if (!fb)
		return NULL;
	fb->ex = ex;
	fb->self = self;
	fb->cfg = cfg;
	fb->served = fb->alone = SERVED;
	fb->replay.fd = -1;
	fb->timer.fire = fire;
	exch_state_set(ex, self, fb);
	return fb;
}

static bool snapshot(struct fb *fb)
{
	return fb->client || (fb->client = copy_head(fb->ex, &fb->ex->req.head));
}

static enum policy_start start_of(const struct fb_cfg *cfg, bool both)
{
	if (both)
		return cfg->ask_on_failure ? START_BOTH_ANY : START_BOTH;
	return cfg->ask_on_failure ? START_PRIMARY_ANY : START_PRIMARY;
}

/* The fallback alone is asked, with the body as it comes. */
static enum verdict go_alone(struct fb *fb, enum served as)
{
	fb->alone = as;
	fb->waits_request = true;
	policy_init(&fb->policy, START_FALLBACK);
	fb->ex->source = fb->self;
	ask(fb);
	fb->ex->pump_due = true; /* also when it failed at once */
	return WAIT;
}

static enum fb_method method_rule(const struct fb_cfg *cfg, const struct head *h)
{
	struct str name = head_value(h, FIELD_METHOD);
	for (unsigned i = 0; i < cfg->nmethods; i++)
		if (str_eq(cfg->methods[i].name, name))
			return cfg->methods[i].how;
	return h->method == METHOD_GET || h->method == METHOD_HEAD ? METHOD_TRY_PRIMARY
								   : cfg->other_methods;
}

/* The primary is asked first, and its request's body kept. */
static void keep_body(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	const struct fb_cfg *cfg = fb->cfg;
	replay_init(&fb->replay, cfg->memory_bytes, cfg->spool_bytes, cfg->directory,
		    cfg->shared->spooled_bytes);
	fb->keeping = ex->keep_request = true;
	exch_watch_body(ex, fb->self, LEG_REQUEST);
	if (!ex->expect_continue)
		return;
	/* never the primary's to say */
	struct head go = {0};
	if (head_init(&go, &ex->arena, true, 2) && head_set_status(&go, 100))
		exch_interim(ex, &go);
	head_remove_id(&ex->req.head, FIELD_EXPECT);
}

static bool budget_left(const struct fb *fb)
{
	const struct fb_shared *s = fb->cfg->shared;
	uint64_t asked = atomic_load_explicit(&s->asked, memory_order_relaxed),
		 wasted = atomic_load_explicit(&s->wasted, memory_order_relaxed);
	return fb->cfg->hint_budget && wasted * 100 <= (asked + 10) * fb->cfg->hint_budget;
}

static void on_hedge(struct task *t)
{
	struct fb *fb = (struct fb *)((char *)t - offsetof(struct fb, task));
	fb->hedge_us = 0;
	if (fb->over || fb->ex->resp.begun || policy_done(&fb->policy) || !budget_left(fb))
		return;
	if (policy_step(&fb->policy, HEDGE_DUE) == CALL_FALLBACK) {
		fb->hinted = true;
		ask(fb);
	}
}

/* GET or HEAD: what is remembered decides who is asked first. */
static enum verdict consult(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	const struct fb_cfg *cfg = fb->cfg;
	const struct head *h = &ex->req.head;
	struct misses *m = cfg->shared->misses;
	struct str authority = head_value(h, FIELD_AUTHORITY), target = head_value(h, FIELD_PATH),
		   path, query;
	bool both = false;
	uint64_t now = now_of(fb);
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
			ask(fb);
			return drive(fb, NOTHING_NEW);
		}
		both = missed && budget_left(fb);
	}
	policy_init(&fb->policy, start_of(cfg, both));
	if (both) {
		fb->hinted = true;
		ask(fb);
	} else if (cfg->hedge_us) {
		fb->task.run = on_hedge;
		fb->hedge_us = now + cfg->hedge_us;
		arm(fb);
	}
	return GO_ON;
}

static __attribute__((noinline)) enum verdict no_memory(struct exchange *ex)
{
	exch_fail(ex, FAILED_MEMORY);
	return ANSWERED;
}

/* All that is not a plain GET or HEAD of which nothing special is wanted. Apart, as what follows an answer that is no plain hit is: plain hits
 * then save no registers for it. */
static __attribute__((noinline)) enum verdict request_with_state(struct exchange *ex,
								 const struct filter_cfg *self,
								 const struct fb_cfg *cfg,
								 enum override_by by)
{
	const struct head *h = &ex->req.head;
	struct fb *fb = begin(ex, self, cfg);
	bool safe = h->method == METHOD_GET || h->method == METHOD_HEAD, body = ex->req.size != 0;
	if (!fb)
		return no_memory(ex);
	if (by != OVERRIDE_NONE) {
		fb->private_answer = by == OVERRIDE_OTHER;
		return go_alone(fb, SERVED_OVERRIDE);
	}
	enum fb_method how = method_rule(cfg, h);
	if (ex->upgrade.p || how == METHOD_DIRECT ||
	    (body && how == METHOD_TRY_PRIMARY && ex->req.size > (int64_t)cfg->spool_bytes))
		return go_alone(fb, SERVED_DIRECT);
	if (how == METHOD_PRIMARY_ONLY) {
		policy_init(&fb->policy, START_PRIMARY_ONLY);
		return GO_ON;
	}
	bool since = cfg->ignore_since && head_has(h, FIELD_IF_MODIFIED_SINCE) &&
		     !head_has(h, FIELD_IF_NONE_MATCH);
	if ((since || route_rewrites(ex)) && !snapshot(fb))
		return no_memory(ex);
	if (since)
		head_remove_id(&ex->req.head, FIELD_IF_MODIFIED_SINCE);
	if (!body && ex->expect_continue) { /* nothing to go on with: not the primary's to hear */
		head_remove_id(&ex->req.head, FIELD_EXPECT);
		ex->expect_continue = false;
	}
	if (safe && !body)
		return consult(fb);
	policy_init(&fb->policy, start_of(cfg, false));
	if (body)
		keep_body(fb);
	return GO_ON;
}

static bool is_plain(const struct exchange *ex, const struct fb_cfg *cfg)
{
	const struct head *h = &ex->req.head;
	return (h->method == METHOD_GET || h->method == METHOD_HEAD) && ex->req.size == 0 &&
	       !ex->upgrade.p && !ex->expect_continue && cfg->quick && !cfg->nmethods &&
	       !route_rewrites(ex);
}

/* False: no memory. */
static __attribute__((noinline)) bool believe_host_only(struct exchange *ex)
{
	struct head *h = &ex->req.head;
	return !ex->hcm->use_remote_address || ex->hcm->xff_trusted_hops ||
	       head_set_id(h, FIELD_X_FORWARDED_HOST, head_value(h, FIELD_AUTHORITY));
}

static __attribute__((noinline)) enum verdict
maybe_overridden(struct exchange *ex, const struct filter_cfg *self, const struct fb_cfg *cfg)
{
	enum override_by by = override_of(cfg, ex);
	return by == OVERRIDE_NONE && is_plain(ex, cfg) ? GO_ON
							: request_with_state(ex, self, cfg, by);
}

static enum verdict fallback_request(struct exchange *ex, const struct filter_cfg *self)
{
	if (__builtin_expect(!ex->routed, 0))
		exch_route(ex);
	const struct fb_cfg *cfg = config_for(ex, self);
	const struct head *h = &ex->req.head;
	if (cfg->disabled)
		return GO_ON;
	if (__builtin_expect(head_has(h, FIELD_X_FORWARDED_HOST), 0) && !believe_host_only(ex))
		return no_memory(ex);
	if (cfg->noverrides && (ex->query.n || cfg->header_overrides || head_has(h, FIELD_COOKIE)))
		return maybe_overridden(ex, self, cfg);
	return is_plain(ex, cfg) ? GO_ON : request_with_state(ex, self, cfg, OVERRIDE_NONE);
}

/* All of what there is goes to the call, as far as it has room. */
static void send_some(struct fb *fb, struct chain *from, size_t room, bool end_behind)
{
	struct chain some = {0};
	if (from->n <= room)
		chain_move(&some, from);
	else if (!chain_split(&some, from, room))
		return;
	bool end = end_behind && chain_empty(from);
	fb->ex->last_active_us = now_of(fb);
	call_send(fb->call, &some, end, end ? fb->ex->req.trailers : NULL);
	fb->request_sent = end;
}

/* What is kept, then what has come since. */
static void pump_kept(struct fb *fb)
{
	struct call *c = fb->call;
	size_t room;
	while (!fb->request_sent && !c->request_lost && (room = call_room(c))) {
		struct chain some = {0};
		if (replay_left(&fb->replay)) {
			if (room > CHUNK_LARGE)
				room = CHUNK_LARGE;
			if (!replay_read(&fb->replay, room, &some)) {
				chain_clear(&some);
				fb->unable = true; /* never a body that is not the whole one */
				fb->why = FAILED_FILE;
				mark(fb);
				return;
			}
			send_some(fb, &some, room,
				  fb->request_ended && !replay_left(&fb->replay) &&
					  fb->rest.n == 0);
		} else if (fb->rest.n || fb->request_ended) {
			fb->spent |= fb->rest.n != 0;
			send_some(fb, &fb->rest, room, fb->request_ended);
		} else {
			break;
		}
	}
	if (fb->ex->req.batch_waiting)
		exch_wake(fb->ex, fb->self, LEG_REQUEST);
	else if (!fb->request_ended && exch_request_room(fb->ex))
		fb->ex->port->room(fb->ex);
}

static void pump_request(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	struct leg *leg = &ex->req;
	struct call *c = fb->call;
	if (fb->keeping) {
		pump_kept(fb);
		return;
	}
	if (!fb->waits_request || leg->discard)
		return;
	struct chain *held = exch_held(ex, LEG_REQUEST);
	bool end = leg->in_ended && chain_empty(&leg->in) && !leg->batch_waiting &&
		   leg->end_at == leg->at;
	while (held->n || (end && !fb->request_sent)) {
		size_t room = call_room(c);
		if (c->request_lost) {
			leg->discard = true;
			chain_clear(held);
			break;
		}
		if (!room && held->n)
			break;
		send_some(fb, held, room, end);
	}
	if (!leg->in_ended && exch_request_room(ex))
		ex->port->room(ex);
}

/* A piece of the request's body on its way to the primary. */
static enum verdict keep(struct fb *fb, struct chain *batch, bool end)
{
	struct exchange *ex = fb->ex;
	if (!fb->direct && replay_add(&fb->replay, batch)) {
		fb->request_ended |= end;
		if (fb->asked)
			chain_clear(batch); /* the primary has spoken */
		if (fb->call)
			pump_request(fb);
		return GO_ON;
	}
	fb->direct = true;
	/* more than may be kept before the primary has answered: a request cut short has no
	 * effect on it */
	if (!fb->asked) {
		exch_take_over(ex, fb->self);
		fb->alone = SERVED_DIRECT;
		policy_init(&fb->policy, START_FALLBACK);
		ask(fb);
	}
	if (fb->queued)
		return WAIT; /* pump_kept wakes us when it is asked */
	if (!fb->call || fb->call->request_lost) {
		fb->spent = true;
		chain_clear(batch);
		fb->request_ended |= end;
		ex->port->room(ex);
		return GO_ON;
	}
	if (replay_left(&fb->replay) || fb->rest.n >= REST_MOST)
		return WAIT;
	chain_move(&fb->rest, batch);
	fb->request_ended |= end;
	ex->req.batch_waiting = false;
	pump_request(fb);
	return GO_ON;
}

static enum verdict fallback_body(struct exchange *ex, const struct filter_cfg *self,
				  enum leg_kind leg, struct chain *batch, bool end)
{
	struct fb *fb = exch_state(ex, self);
	if (fb && leg == LEG_RESPONSE && fb->shadow)
		shadow_body(fb->shadow, batch);
	if (!fb || leg != LEG_REQUEST || !fb->keeping)
		return GO_ON;
	return keep(fb, batch, end);
}

/* ---- the answer */

/* The router, or who stands in its place, could not get an answer. */
static bool is_failure(const struct exchange *ex)
{
	return ex->local_reply &&
	       (ex->flags[0] == 'U' || (ex->flags[0] == 'D' && ex->flags[1] == 'F'));
}

static void note_primary(struct exchange *ex, bool failed)
{
	ex->fallback.primary_status = failed ? 0 : ex->resp.head.status;
	ex->fallback.primary_ms = (uint32_t)((loop_now_us(ex->env->loop) - ex->began_us) / 1000);
}

/* An answer that is no plain hit, or of a request that was not plain. */
static __attribute__((noinline)) enum verdict
weigh(struct exchange *ex, const struct filter_cfg *self, struct fb *fb, bool failed, bool missed)
{
	const struct fb_cfg *cfg = fb ? fb->cfg : config_for(ex, self);
	if (!fb) {
		fb = begin(ex, self, cfg);
		if (!fb)
			return no_memory(ex);
		policy_init(&fb->policy, start_of(cfg, false));
	}
	/* asked at the same time: what it has said comes first */
	if ((missed || (failed && cfg->ask_on_failure)) && (fb->call || fb->unable || fb->queued)) {
		const struct call *c = fb->call;
		/* while nobody could have had it */
		bool broke = c && c->has_head && c->failed && !fb->answered;
		int ev = broke ? went_wrong(fb, c->failure) : news(fb);
		if (ev != NOTHING_NEW)
			policy_step(&fb->policy, (enum policy_event)ev);
	}
	return drive(fb, failed ? PRIMARY_FAIL : missed ? PRIMARY_MISS : PRIMARY_HIT);
}

static enum verdict fallback_response(struct exchange *ex, const struct filter_cfg *self)
{
	struct fb *fb = exch_state(ex, self);
	if (fb && (fb->over || policy_done(&fb->policy)))
		return GO_ON; /* what was decided, on its way out */
	if (!fb && ex->req.at <= self->index)
		return GO_ON;          /* answered before the request came here */
	if (fb && fb->waits_request) { /* somebody else has answered for us */
		policy_step(&fb->policy, CLIENT_GONE);
		lose_call(fb);
		return GO_ON;
	}
	const struct fb_cfg *cfg = fb ? fb->cfg : config_for(ex, self);
	bool failed = is_failure(ex), safe = ex->req.head.method == METHOD_GET || ex->is_head;
	bool missed = !failed &&
		      statuses_has(safe ? &cfg->trigger : &cfg->try_trigger, ex->resp.head.status);
	if (!fb && cfg->disabled)
		return GO_ON;
	note_primary(ex, failed);
	if (!failed)
		stat_record(cfg->shared->seconds_primary, ex->fallback.primary_ms);
	if (__builtin_expect(!fb && !missed && !(failed && cfg->ask_on_failure), 1))
		return account(ex, cfg, failed ? SERVED_ERROR : SERVED_PRIMARY) ? GO_ON
										: no_memory(ex);
	return weigh(ex, self, fb, failed, missed);
}

static enum verdict fallback_resume(struct exchange *ex, const struct filter_cfg *self,
				    enum leg_kind leg)
{
	struct fb *fb = exch_state(ex, self);
	if (leg == LEG_REQUEST && fb->keeping && ex->req.at > self->index)
		return keep(fb, &ex->req.batch, ex->req.batch_end);
	if (leg == LEG_REQUEST && (fb->alone != SERVED || fb->handed))
		return WAIT;
	if (fb->call && fb->keeping)
		pump_request(fb);
	if (leg == LEG_RESPONSE && ex->resp.broke && !fb->broke_told) {
		fb->broke_told = true;
		return drive(fb, PRIMARY_FAIL);
	}
	enum verdict v = drive(fb, NOTHING_NEW);
	/* Its answer goes out while the request's head still stands here. */
	return leg == LEG_REQUEST && fb->handed ? WAIT : v;
}

static void pump_answer(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	struct call *c = fb->call;
	call_gather(c, ex->resp.gathering ? exch_answer_room(ex) : 0);
	if (c->in.n || (c->ended && !ex->resp.in_ended)) {
		size_t room = ex->is_head ? SIZE_MAX : exch_answer_room(ex);
		struct chain some = {0};
		if (!room && !c->ended)
			return;
		if (c->in.n <= room || !chain_split(&some, &c->in, room))
			chain_move(&some, &c->in);
		bool end = c->ended && chain_empty(&c->in);
		struct head *trailers = end ? c->trailers : NULL;
		if (end) {
			note_origin(ex, c);
			fb->call = NULL;
			call_close(c);
			release_slot(fb);
		}
		exch_answer_data(ex, &some, end, trailers);
		if (!end)
			call_took(c);
	}
	if (!fb->call || !c->failed)
		return;
	if (!fb->breaks) { /* the head may have come with it: first the filters see that */
		fb->breaks = ex->pump_due = true;
		return;
	}
	enum failure_kind why = c->failure;
	note_origin(ex, c);
	exch_answer_broken(ex, why);
}

static void say_continue(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	struct head go = {0};
	if (!fb->continue_us || now_of(fb) < fb->continue_us)
		return;
	fb->continue_us = 0;
	if (ex->req.entered == 0 && head_init(&go, &ex->arena, true, 2) &&
	    head_set_status(&go, 100))
		exch_interim(ex, &go);
}

static void fallback_pump(struct exchange *ex, const struct filter_cfg *self)
{
	struct fb *fb = exch_state(ex, self);
	if (!fb || fb->over)
		return;
	if (fb->cut) {
		exch_answer_broken(ex, (enum failure_kind)ex->resp.broke);
		return;
	}
	if (fb->call) {
		pump_request(fb);
		for (struct interim *i; (i = fb->call->interim);) {
			fb->call->interim = i->next;
			fb->continue_us = 0;
			exch_interim(ex, i->head);
		}
	}
	say_continue(fb);
	if (!policy_done(&fb->policy))
		drive(fb, NOTHING_NEW);
	if (fb->handed && fb->call)
		pump_answer(fb);
}

static __attribute__((noinline)) void put_down(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	fb->over = true;
	if (!policy_done(&fb->policy))
		policy_step(&fb->policy, CLIENT_GONE);
	if (fb->call)
		call_cancel(fb->call);
	fb->call = NULL;
	settle_hint(fb, false);
	release_slot(fb);
	release_hold(fb);
	timer_cancel(ex->env->loop, &fb->timer);
	task_drop(ex->env->loop, &fb->task);
	replay_fini(&fb->replay);
	chain_clear(&fb->rest);
	if (fb->shadow)
		shadow_leave(fb->shadow, ex->resp.ended && !ex->cut);
	fb->shadow = NULL;
	unsigned m = ex->req.head.method;
	if (fb->cfg->memory != MEMORY_OFF && m != METHOD_GET && m != METHOD_HEAD &&
	    m != METHOD_OPTIONS && ex->resp.begun && ex->resp.head.status < 400) {
		/* what was published just now is not missing any more */
		struct str authority = head_value(&ex->req.head, FIELD_AUTHORITY),
			   target = head_value(&ex->req.head, FIELD_PATH), path, query;
		str_cut(target, '?', &path, &query);
		misses_drop(fb->cfg->shared->misses, FACT_MISS, authority, path);
		misses_drop(fb->cfg->shared->misses, FACT_BOTH, authority, path);
		misses_drop(fb->cfg->shared->misses, FACT_BOTH, authority, target);
	}
}

/* The exchange is over, or somebody else answers. */
static void fallback_end(struct exchange *ex, const struct filter_cfg *self)
{
	struct fb *fb = exch_state(ex, self);
	if (fb && !fb->over)
		put_down(fb);
}

static const char *const urls[] = {"postern.filters.http.fallback.v1.Fallback", NULL};
static const char *const route_urls[] = {"postern.filters.http.fallback.v1.FallbackPerRoute", NULL};
const struct filter_type filter_fallback = {
	.name = "postern.fallback",
	.type_urls = urls,
	.route_urls = route_urls,
	.compile = config_compile_fallback,
	.compile_route = config_compile_route,
	.free_config = config_free,
	.verify = loop_verify,
	.request = fallback_request,
	.response = fallback_response,
	.resume = fallback_resume,
	.body = fallback_body,
	.pump = fallback_pump,
	.end = fallback_end,
};
