/* src/filters/fallback/ask.c
 *
 * The call to the fallback: whether it may be made (breaker, max_inflight), the request, how long its head is waited for, and what it did, as
 * events of policy.c. Several fallbacks asked in order are one to the policy.
 */
#include "filters/fallback/fallback_int.h"
#include "obs/log.h"

#define DRAIN_US 250000ull
#define CONTINUE_US 1000000ull
#define QUEUE_US 1000000ull

static const struct fb_origin *origin_of(const struct fb *fb)
{
	return &fb->cfg->origins[fb->which];
}

/* ---- may it be asked */

/* False: the breaker is open. */
static bool breaker_lets(const struct fb *fb)
{
	return !fb->cfg->breaker_failures ||
	       atomic_load_explicit(&fb->cfg->shared->open_until_us, memory_order_relaxed) <=
		       fb_now(fb);
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
		atomic_store_explicit(&s->open_until_us, fb_now(fb) + fb->cfg->breaker_open_us,
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
		fb->queue_us = fb_now(fb) + QUEUE_US;
		fb_arm(fb);
	} else {
		atomic_fetch_sub_explicit(&s->waiting, 1, memory_order_relaxed);
		fb->unable = true;
		fb->why = FAILED_OVERFLOW;
	}
	return false;
}

void fb_release_slot(struct fb *fb)
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

/* ---- the call */

struct head *fb_copy_head(struct exchange *ex, const struct head *from)
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
	struct head *h = fb_copy_head(ex, fb->client ? fb->client : &ex->req.head);
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

static bool request_complete(const struct exchange *ex)
{
	const struct leg *leg = &ex->req;
	return leg->in_ended && leg->size == 0 && chain_empty(&leg->in) &&
	       chain_empty(&leg->held) && !leg->batch_waiting;
}

static void call_event(struct call *c)
{
	fb_mark(c->owner);
}

void fb_ask(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	const struct fb_origin *o = origin_of(fb);
	bool alone = fb->alone != SERVED;
	if (!fb->asked_us)
		fb->asked_us = fb_now(fb);
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
		fb_release_slot(fb);
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
	fb->due_us = limit ? fb_now(fb) + limit : 0;
	if (alone && ex->expect_continue && !ended)
		fb->continue_us = fb_now(fb) + CONTINUE_US;
	fb_arm(fb);
	if (!ended)
		fb_pump_request(fb);
}

/* Whether the head is later than header_timeout after the request was sent, or the request is not sent because nothing of what waits was taken
 * for that long. Of a request to the fallback alone only the end counts: before it there is stream_idle_timeout, as at the router. */
static bool too_late(struct fb *fb)
{
	const struct call *c = fb->call;
	bool alone = fb->alone != SERVED;
	uint64_t now = fb_now(fb), limit;
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
	fb_arm(fb);
	return now >= fb->due_us;
}

struct call_discard fb_discard_of(const struct fb_cfg *cfg)
{
	struct call_discard how = cfg->shared->loser;
	how.bytes = cfg->drain_bytes;
	how.us = DRAIN_US;
	return how;
}

void fb_lose_call(struct fb *fb)
{
	struct call_discard how = fb_discard_of(fb->cfg);
	fb_release_slot(fb);
	if (fb->call)
		call_drain(fb->call, &how);
	fb->call = NULL;
	fb->answered = false;
	fb->due_us = 0;
}

/* ---- what it did, as events */

static void note_time(struct fb *fb)
{
	uint64_t ms = (fb_now(fb) - fb->asked_us) / 1000;
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
		fb_ask(fb);
		return NOTHING_NEW;
	}
	return fb->failed ? FALLBACK_FAIL : FALLBACK_MISS;
}

int fb_went_wrong(struct fb *fb, enum failure_kind why)
{
	struct call *c = fb->call;
	bool told = fb->answered;
	fb->why = why;
	if (why == FAILED_CONNECT || why == FAILED_CONNECT_TIMEOUT)
		breaker_hears(fb, false);
	fb_release_slot(fb);
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
		fb_lose_call(fb);
		return next_or(fb, true);
	}
	fb->answered = true;
	return FALLBACK_HIT;
}

int fb_news(struct fb *fb)
{
	struct call *c = fb->call;
	if (fb->unable)
		return fb_went_wrong(fb, fb->why);
	if (fb->queued) {
		if (fb_now(fb) >= fb->queue_us)
			return fb_went_wrong(fb, FAILED_OVERFLOW);
		fb_ask(fb);
		return NOTHING_NEW;
	}
	if (!c || fb->handed)
		return NOTHING_NEW;
	if (fb->answered)
		return c->failed ? fb_went_wrong(fb, c->failure) : NOTHING_NEW;
	if (c->has_head)
		return head_came(fb);
	if (c->failed)
		return fb_went_wrong(fb, c->failure);
	return too_late(fb) ? fb_went_wrong(fb, FAILED_TIMEOUT) : NOTHING_NEW;
}
