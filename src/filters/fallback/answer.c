/* src/filters/fallback/answer.c
 *
 * What goes to the client: the primary's page, held until the fallback has spoken, and marked when that could not; the fallback's answer in
 * its place; or one of ours. Each is settled once, when it is chosen: what is not wanted any more is given back, and all who want to know
 * are told.
 */
#include "filters/fallback/fallback_int.h"
#include "filters/origin.h"

void fb_release_hold(struct fb *fb)
{
	if (!fb->reserved)
		return;
	atomic_fetch_sub_explicit(&fb->cfg->shared->held, fb->reserved, memory_order_relaxed);
	stat_sub(fb->cfg->shared->held_bytes, fb->reserved);
	fb->reserved = 0;
}

/* What is read of a page that will never be whole here, nor drained, is read in vain: what came with its head is all that is held of it, and
 * that is as much as one read brings. */
void fb_hold(struct fb *fb)
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

/* resp.head is the one that goes out. */
static bool settle(struct fb *fb, enum served served)
{
	struct exchange *ex = fb->ex;
	fb_settle_hint(fb, served != SERVED_PRIMARY && served != SERVED_ERROR);
	fb_release_hold(fb);
	if (served != SERVED_FALLBACK && fb->alone == SERVED) {
		fb_lose_call(fb);
		fb_stop_keeping(fb);
	}
	if (fb->remembers)
		fb_remember(fb, served);
	fb_note_paths(fb, served);
	return fb_account(ex, fb->cfg, served);
}

/* ---- the fallback's */

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

bool fb_deliver(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	struct call *c = fb->call;
	struct call_discard how = fb_discard_of(fb->cfg);
	enum served served = fb->alone != SERVED ? fb->alone : SERVED_FALLBACK;
	if (ex->resp.begun)
		exch_answer_instead(ex, fb->self, &how);
	else
		ex->source = fb->self;
	origin_head(ex, c);
	ex->attempts += c->attempts;
	fb->handed = true;
	fb->continue_us = 0;
	bool ok = !fb->cfg->nrewrite || rewrite_origins(fb->cfg, ex, &ex->resp.head);
	if (fb->private_answer)
		ok = ok && make_private(ex);
	ok = settle(fb, served) && ok;
	if (fb->keeping && (c->request_lost || fb->request_sent))
		fb_stop_keeping(fb);
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

void fb_pump_answer(struct fb *fb)
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
			origin_note(ex, c);
			fb->call = NULL;
			call_close(c);
			fb_release_slot(fb);
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
	origin_note(ex, c);
	exch_answer_broken(ex, why);
}

/* ---- the primary's */

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

enum verdict fb_send_primary(struct fb *fb, enum served served)
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

/* ---- ours */

enum verdict fb_fail(struct fb *fb, enum failure_kind why)
{
	struct exchange *ex = fb->ex;
	fb_settle_hint(fb, false);
	fb_release_hold(fb);
	fb_lose_call(fb);
	fb_stop_keeping(fb);
	exch_fail(ex, why);
	fb_account(ex, fb->cfg, SERVED_ERROR);
	return ANSWERED;
}
