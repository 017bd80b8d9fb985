/* src/filters/fallback/body.c
 *
 * The request's body, where the fallback gets it: kept (replay.h) while it goes to the primary, which is asked first; what comes behind that
 * for the fallback only; or straight through to a fallback that is asked alone. "100 Continue", where the fallback does not say it.
 */
#include "filters/fallback/fallback_int.h"

enum { REST_MOST = LIMIT_STREAM_HIGH };

/* "100 Continue" of ours. */
static void say_go_on(struct exchange *ex)
{
	struct head go = {0};
	if (head_init(&go, &ex->arena, true, 2) && head_set_status(&go, 100))
		exch_interim(ex, &go);
}

void fb_say_continue(struct fb *fb)
{
	if (!fb->continue_us || fb_now(fb) < fb->continue_us)
		return;
	fb->continue_us = 0;
	if (fb->ex->req.entered == 0)
		say_go_on(fb->ex);
}

void fb_keep_body(struct fb *fb)
{
	struct exchange *ex = fb->ex;
	const struct fb_cfg *cfg = fb->cfg;
	replay_init(&fb->replay, cfg->memory_bytes, cfg->spool_bytes, cfg->directory,
		    cfg->shared->spooled_bytes);
	fb->keeping = ex->keep_request = true;
	exch_watch_body(ex, fb->self, LEG_REQUEST);
	if (ex->expect_continue) { /* never the primary's to say */
		say_go_on(ex);
		head_remove_id(&ex->req.head, FIELD_EXPECT);
	}
}

void fb_stop_keeping(struct fb *fb)
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

/* All of what there is goes to the call, as far as it has room. False: no memory, nothing has gone. */
static bool send_some(struct fb *fb, struct chain *from, size_t room, bool end_behind)
{
	struct chain some = {0};
	if (from->n <= room)
		chain_move(&some, from);
	else if (!chain_split(&some, from, room))
		return false;
	bool end = end_behind && chain_empty(from);
	fb->ex->last_active_us = fb_now(fb);
	call_send(fb->call, &some, end, end ? fb->ex->req.trailers : NULL);
	fb->request_sent = end;
	return true;
}

/* What is kept, then what has come since. */
static void pump_kept(struct fb *fb)
{
	struct call *c = fb->call;
	size_t room;
	/* a call that failed takes all, for nothing: the next fallback shall have it */
	while (!fb->request_sent && !c->request_lost && !c->failed && (room = call_room(c))) {
		struct chain some = {0};
		if (replay_left(&fb->replay)) {
			if (room > CHUNK_LARGE)
				room = CHUNK_LARGE;
			if (!replay_read(&fb->replay, room, &some)) {
				chain_clear(&some);
				fb->unable = true; /* never a body that is not the whole one */
				fb->why = FAILED_FILE;
				fb_mark(fb);
				return;
			}
			send_some(fb, &some, room,
				  fb->request_ended && !replay_left(&fb->replay) &&
					  fb->rest.n == 0);
		} else if (fb->rest.n || fb->request_ended) {
			bool some_of_it = fb->rest.n != 0;
			if (!send_some(fb, &fb->rest, room, fb->request_ended))
				break;
			fb->spent |= some_of_it;
		} else {
			break;
		}
	}
	if (fb->ex->req.batch_waiting)
		exch_wake(fb->ex, fb->self, LEG_REQUEST);
	else if (!fb->request_ended && exch_request_room(fb->ex))
		fb->ex->port->room(fb->ex);
}

void fb_pump_request(struct fb *fb)
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
		if (!send_some(fb, held, room, end))
			break;
	}
	if (!leg->in_ended && exch_request_room(ex))
		ex->port->room(ex);
}

enum verdict fb_body_came(struct fb *fb, struct chain *batch, bool end)
{
	struct exchange *ex = fb->ex;
	if (!fb->direct && replay_add(&fb->replay, batch)) {
		fb->request_ended |= end;
		if (fb->asked)
			chain_clear(batch); /* the primary has spoken */
		if (fb->call)
			fb_pump_request(fb);
		return GO_ON;
	}
	fb->direct = true;
	/* more than may be kept before the primary has answered: a request cut short has no
	 * effect on it */
	if (!fb->asked) {
		exch_take_over(ex, fb->self);
		fb->alone = SERVED_DIRECT;
		policy_init(&fb->policy, START_FALLBACK);
		fb_ask(fb);
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
	fb_pump_request(fb);
	return GO_ON;
}
