/* src/filters/fallback/fallback.c
 *
 * postern.filters.http.fallback.v1.Fallback (spec/fallback.md). The primary is whatever the filters behind this one answer; the
 * fallback is a call of our own. This file turns what happens on the two into events of policy.c and carries out its actions. A plain hit
 * costs no state: that is made when the primary has missed, or when a request is not plain.
 *
 *   request hook  ask the fallback alone (WAIT, this filter is the source) or let the primary be asked (GO_ON)
 *   response hook a hit goes on; a miss is held (WAIT) until the fallback's head is there, then either goes on
 *                 or is replaced by the fallback's answer, which this filter feeds from then on (pump)
 *
 * What the actions are made of: ask.c calls the fallback and tells what it did, body.c brings it the request's body, answer.c holds, delivers
 * and fails, hints.c remembers and asks early, marks.c tells who answered.
 */
#include "filters/fallback/fallback_int.h"
#include "filters/filters.h"

#define QUEUE_POLL_US 10000ull

/* ---- waking up */

void fb_mark(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	if (ex->source == fb->self) {
		ex->pump_due = true;
		exch_run_later(ex);
	} else {
		exch_wake(ex, fb->self, fb->waits_request ? LEG_REQUEST : LEG_RESPONSE);
	}
}

void fb_arm(struct fb *fb)
{
	uint64_t next = UINT64_MAX, now = fb_now(fb);
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
	if (fb->hedge_us && fb->hedge_us <= fb_now(fb))
		later(fb->ex->env->loop, PHASE_RUN, &fb->task);
	fb_arm(fb);
	fb_mark(fb);
}

/* ---- the policy carried out */

/* long: one case per action. */
enum verdict fb_drive(struct fb *fb, int ev)
{
	struct exchange *ex = fb->ex;
	while (!policy_done(&fb->policy)) {
		if (ev == NOTHING_NEW)
			ev = fb_news(fb);
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
			fb_hold(fb);
			fb_ask(fb);
			break;
		case CALL_FALLBACK: fb_ask(fb); break;
		case HOLD_PRIMARY: fb_hold(fb); break;
		case CALL_PRIMARY: fb->waits_request = false; return GO_ON;
		case SEND_PRIMARY: return fb_send_primary(fb, SERVED_PRIMARY);
		case SEND_HELD: return fb_send_primary(fb, SERVED_BOTH_MISS);
		case SEND_DEGRADED:
			if (fb->cfg->error_on_failure)
				return fb_fail(fb, fb->why);
			return fb_send_primary(fb, SERVED_DEGRADED);
		case SEND_CUT:
			ex->source = fb->self;
			fb->cut = true;
			ex->pump_due = true;
			return fb_send_primary(fb, SERVED_BOTH_MISS);
		case SEND_503: return fb_fail(fb, FAILED_NO_HEALTHY);
		case SEND_FAILURE: return fb_send_primary(fb, SERVED_ERROR);
		case SEND_NO_FALLBACK: return fb_fail(fb, fb->why);
		case SEND_FALLBACK:
			if (fb_deliver(fb))
				return GO_ON;
			exch_fail(ex, FAILED_MEMORY);
			return ANSWERED;
		case CANCEL_ALL: return WAIT;
		}
	}
	return GO_ON;
}

/* ---- the request */

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

static struct fb *begin(struct exchange *ex, const struct filter_cfg *self,
			const struct fb_cfg *cfg)
{
	struct fb *fb = arena_zalloc(&ex->arena, sizeof *fb);
	if (!fb)
		return NULL;
	fb->ex = ex;
	fb->self = self;
	fb->cfg = cfg;
	fb->alone = SERVED;
	fb->replay.fd = -1;
	fb->timer.fire = fire;
	exch_state_set(ex, self, fb);
	return fb;
}

static bool snapshot(struct fb *fb)
{
	return fb->client || (fb->client = fb_copy_head(fb->ex, &fb->ex->req.head));
}

/* The fallback alone is asked, with the body as it comes. */
static enum verdict go_alone(struct fb *fb, enum served as)
{
	fb->alone = as;
	fb->waits_request = true;
	policy_init(&fb->policy, START_FALLBACK);
	fb->ex->source = fb->self;
	fb_ask(fb);
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
		return fb_consult(fb);
	policy_init(&fb->policy, fb_start_of(cfg, false));
	if (body)
		fb_keep_body(fb);
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

static enum verdict fallback_body(struct exchange *ex, const struct filter_cfg *self,
				  enum leg_kind leg, struct chain *batch, bool end)
{
	struct fb *fb = exch_state(ex, self);
	if (fb && leg == LEG_RESPONSE && fb->shadow)
		shadow_body(fb->shadow, batch);
	if (!fb || leg != LEG_REQUEST || !fb->keeping)
		return GO_ON;
	return fb_body_came(fb, batch, end);
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
		policy_init(&fb->policy, fb_start_of(cfg, false));
	}
	/* asked at the same time: what it has said comes first */
	if ((missed || (failed && cfg->ask_on_failure)) && (fb->call || fb->unable || fb->queued)) {
		const struct call *c = fb->call;
		/* while nobody could have had it */
		bool broke = c && c->has_head && c->failed && !fb->answered;
		int ev = broke ? fb_went_wrong(fb, c->failure) : fb_news(fb);
		if (ev != NOTHING_NEW)
			policy_step(&fb->policy, (enum policy_event)ev);
	}
	return fb_drive(fb, failed ? PRIMARY_FAIL : missed ? PRIMARY_MISS : PRIMARY_HIT);
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
		fb_lose_call(fb);
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
		return fb_account(ex, cfg, failed ? SERVED_ERROR : SERVED_PRIMARY) ? GO_ON
										   : no_memory(ex);
	return weigh(ex, self, fb, failed, missed);
}

static enum verdict fallback_resume(struct exchange *ex, const struct filter_cfg *self,
				    enum leg_kind leg)
{
	struct fb *fb = exch_state(ex, self);
	if (leg == LEG_REQUEST && fb->keeping && ex->req.at > self->index)
		return fb_body_came(fb, &ex->req.batch, ex->req.batch_end);
	if (leg == LEG_REQUEST && (fb->alone != SERVED || fb->handed))
		return WAIT;
	if (fb->call && fb->keeping)
		fb_pump_request(fb);
	if (leg == LEG_RESPONSE && ex->resp.broke && !fb->broke_told) {
		fb->broke_told = true;
		return fb_drive(fb, PRIMARY_FAIL);
	}
	enum verdict v = fb_drive(fb, NOTHING_NEW);
	/* Its answer goes out while the request's head still stands here. */
	return leg == LEG_REQUEST && fb->handed ? WAIT : v;
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
		fb_pump_request(fb);
		for (struct interim *i; (i = fb->call->interim);) {
			fb->call->interim = i->next;
			fb->continue_us = 0;
			exch_interim(ex, i->head);
		}
	}
	fb_say_continue(fb);
	if (!policy_done(&fb->policy))
		fb_drive(fb, NOTHING_NEW);
	if (fb->handed && fb->call)
		fb_pump_answer(fb);
}

/* ---- the end */

static __attribute__((noinline)) void put_down(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	fb->over = true;
	if (!policy_done(&fb->policy))
		policy_step(&fb->policy, CLIENT_GONE);
	if (fb->call)
		call_cancel(fb->call);
	fb->call = NULL;
	fb_settle_hint(fb, false);
	fb_release_slot(fb);
	fb_release_hold(fb);
	timer_cancel(ex->env->loop, &fb->timer);
	task_drop(ex->env->loop, &fb->task);
	replay_fini(&fb->replay);
	chain_clear(&fb->rest);
	if (fb->shadow)
		shadow_leave(fb->shadow, ex->resp.ended && !ex->cut);
	fb->shadow = NULL;
	fb_forget_written(fb);
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
