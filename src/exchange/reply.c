/* src/exchange/reply.c: answers that are ours, and answers of the terminal filter. */
#include "base/must.h"
#include "exchange/exch_int.h"
#include "exchange/format.h"
#include "obs/stats.h"

/* The terminal filter's work (its call) is not wanted any more. */
static void give_up_source(struct exchange *ex, const struct call_discard *loser)
{
	if (!ex->nfilters)
		return;
	const struct filter_cfg *f = ex->source ? ex->source : &ex->hcm->filters[ex->nfilters - 1];
	ex->source = NULL;
	if (ex->hooked >> f->index & 1) {
		ex->hooked &= ~(1u << f->index);
		if (loser && f->type->lose)
			f->type->lose(ex, f, loser);
		else if (f->type->end)
			f->type->end(ex, f);
	}
}

static void stop_terminal(struct exchange *ex)
{
	give_up_source(ex, NULL);
}

void exch_map_reply(struct exchange *ex, unsigned *status, struct str *text, struct str *type)
{
	const struct hcm_cfg *c = ex->hcm;
	const struct format *body = c->local_body;
	struct str content_type = c->local_content_type;
	for (unsigned i = 0; i < c->nlocal_replies; i++) {
		const struct local_reply *m = &c->local_replies[i];
		if (m->status_from && (*status < m->status_from || *status > m->status_to))
			continue;
		if (m->body.p) {
			*text = m->body;
			*type = STR("text/plain");
		}
		header_ops_apply(ex, &ex->resp.head, m->headers.response, m->headers.nresponse);
		if (m->new_status) {
			*status = m->new_status;
			head_set_status(&ex->resp.head, m->new_status);
		}
		if (m->format) {
			body = m->format;
			content_type = m->content_type;
		}
		break;
	}
	if (body) {
		ex->reply_text = text->p ? *text : STR("");
		struct str t = format_text(ex, body, &ex->arena, true);
		if (t.p && body->kind == FORMAT_JSON) /* a line of its own, as Envoy */
			t = arena_printf(&ex->arena, "%.*s\n", STR_ARG(t));
		if (t.p)
			*text = t;
		*type = content_type.p              ? content_type
			: body->kind == FORMAT_JSON ? STR("application/json")
						    : STR("text/plain");
	}
}

/* Fills resp.head and body for a local answer. False: no memory, the exchange is finished. */
static bool fill_reply(struct exchange *ex, unsigned status, struct str text, struct chain *body)
{
	struct head *h = &ex->resp.head;
	struct str type = STR("text/plain");
	/* What used up the memory, a script that adds fields without end, is to be answered. */
	ex->arena.cap = exch_arena_cap(ex->hcm) + LIMIT_REPLY_ROOM;
	if (!head_init(h, &ex->arena, true, 12) || !head_set_status(h, status))
		return false;
	if (ex->hcm->nlocal_replies || ex->hcm->local_body)
		exch_map_reply(ex, &status, &text, &type);
	if (ex->req.begun && head_is_grpc(&ex->req.head) &&
	    status != 426) { /* gRPC is not spoken over HTTP/1.0 */
		if (!head_set_status(h, 200) ||
		    !head_add_id(h, FIELD_CONTENT_TYPE, STR("application/grpc")) ||
		    !head_add_id(h, FIELD_GRPC_STATUS, str_of(grpc_status_of(status))))
			return false;
		if (text.n && !head_add_id(h, FIELD_GRPC_MESSAGE, text))
			return false;
		return true;
	}
	if (status < 200 || status == 204 || status == 304)
		return true;
	if (text.n) {
		struct str len = arena_printf(&ex->arena, "%zu", text.n);
		if (!len.p || !head_add_id(h, FIELD_CONTENT_LENGTH, len) ||
		    !head_add_id(h, FIELD_CONTENT_TYPE, type))
			return false;
		if (!ex->is_head && !chain_copy(body, text.p, text.n))
			return false;
	}
	return true;
}

static void answer_begin(struct exchange *ex, struct chain *body, int64_t size, bool ended)
{
	struct leg *leg = &ex->resp;
	leg->begun = true;
	leg->size = size;
	ex->resp_head_us = loop_now_us(ex->env->loop);
	if (body)
		chain_move(&leg->in, body);
	leg->in_ended = ended;
	leg->entered = leg->in.n;
}

/* The answer so far is forgotten; what was not written does not count. */
static void forget_answer(struct exchange *ex)
{
	leg_reset(&ex->resp);
	memset(&ex->resp, 0, sizeof ex->resp);
	ex->wakes[LEG_RESPONSE] = 0;
	ex->answer_edge_done = false;
	if (ex->keep_request)
		return;
	ex->req.discard = true;
	ex->req.waiting = ex->req.gathering = false;
	chain_clear(&ex->req.in);
	chain_clear(&ex->req.held);
	chain_clear(&ex->req.batch);
	chain_clear(&ex->req.out);
}

void reply_direct(struct exchange *ex, unsigned status, struct str text, const char *details,
		  const char *flags)
{
	if (ex->stage != STAGE_LIVE || ex->cut)
		return;
	stop_terminal(ex);
	ex->details = details;
	if (*flags || !ex->local_reply)
		ex->flags = flags;
	if (ex->head_sent) { /* too late for another answer */
		ex->cut = true;
		exch_run_later(ex);
		return;
	}
	struct chain body = {0};
	forget_answer(ex);
	ex->local_reply = true;
	exch_no_tunnel(ex);
	if (!fill_reply(ex, status, text, &body)) {
		chain_clear(&body);
		ex->cut = true;
		ex->resp.begun = true;
		ex->resp.at = ex->nfilters;
		exch_run_later(ex);
		return;
	}
	answer_begin(ex, NULL, (int64_t)body.n, true);
	ex->resp.at = ex->resp.end_at = ex->nfilters;
	chain_move(&ex->resp.out, &body);
	ex->resp.ended = true;
	edge_response(ex);
	exch_run_later(ex);
}

void exch_reply(struct exchange *ex, unsigned status, struct str text, const char *details,
		const char *flags)
{
	if (ex->stage != STAGE_LIVE || ex->cut)
		return;
	if (ex->resp.begun) {
		reply_direct(ex, status, text, details, flags);
		return;
	}
	struct chain body = {0};
	stop_terminal(ex);
	forget_answer(ex);
	ex->details = details;
	ex->flags = flags;
	ex->local_reply = true;
	if (!fill_reply(ex, status, text, &body)) {
		chain_clear(&body);
		reply_direct(ex, 503, (struct str){NULL, 0}, failure_infos[FAILED_MEMORY].details,
			     failure_infos[FAILED_MEMORY].flag);
		return;
	}
	int64_t size = (int64_t)body.n;
	answer_begin(ex, &body, size, true);
	exch_run_later(ex);
}

void exch_fail(struct exchange *ex, enum failure_kind kind)
{
	const struct failure_info *i = &failure_infos[kind];
	exch_reply(ex, i->status, str_of(i->text), i->details, i->flag);
}

void exch_answer(struct exchange *ex, struct chain *body, const char *details)
{
	must(!ex->resp.begun);
	struct chain none = {0};
	int64_t size = body ? (int64_t)body->n : 0;
	ex->req.discard = true;
	ex->details = details;
	ex->local_reply = true;
	if (ex->is_head && body)
		chain_clear(body);
	answer_begin(ex, body ? body : &none, ex->is_head ? 0 : size, true);
	exch_run_later(ex);
}

void exch_answer_head(struct exchange *ex, int64_t size)
{
	must(!ex->resp.begun);
	answer_begin(ex, NULL, size, size == 0);
	if (!ex->pumping)
		exch_run_later(ex);
}

void exch_answer_instead(struct exchange *ex, const struct filter_cfg *self,
			 const struct call_discard *loser)
{
	struct leg *leg = &ex->resp;
	unsigned at = leg->at;
	uint32_t watched = leg->watched;
	must(self->type->pump && leg->begun && at < ex->nfilters &&
	     walk_filter(ex, LEG_RESPONSE, at) == self);
	give_up_source(ex, loser);
	leg_reset(leg);
	memset(leg, 0, sizeof *leg);
	leg->at = (uint8_t)at;
	leg->watched = watched;
	leg->size = -1;
	chunk_unref(ex->resp_chunk);
	ex->resp_chunk = NULL;
	ex->resp_head_bytes = 0;
	ex->local_reply = false;
	exch_no_tunnel(ex);
	ex->flags = "";
	ex->source = self;
	ex->pump_due = true;
}

void exch_take_over(struct exchange *ex, const struct filter_cfg *self)
{
	must(self->type->pump && !ex->resp.begun);
	give_up_source(ex, NULL);
	ex->source = self;
	ex->pump_due = true;
}

void exch_answer_data(struct exchange *ex, struct chain *bytes, bool end, struct head *trailers)
{
	struct leg *leg = &ex->resp;
	if (ex->stage != STAGE_LIVE || leg->in_ended) {
		chain_clear(bytes);
		return;
	}
	ex->last_active_us = loop_now_us(ex->env->loop);
	leg->entered += bytes->n;
	chain_move(&leg->in, bytes);
	if (end) {
		leg->in_ended = true;
		leg->trailers = trailers;
	}
	if (!ex->pumping)
		exch_run_later(ex);
}

void exch_answer_broken(struct exchange *ex, enum failure_kind kind)
{
	const struct failure_info *i = &failure_infos[kind];
	if (ex->stage != STAGE_LIVE || ex->cut)
		return;
	if (ex->resp.holding) {
		stop_terminal(ex);
		ex->resp.broke = (uint8_t)kind;
		exch_wake(ex, walk_filter(ex, LEG_RESPONSE, ex->resp.at), LEG_RESPONSE);
		return;
	}
	ex->details = i->details;
	ex->flags = i->flag;
	if (exch_answer_ready(ex)) { /* what came goes out, then the break shows (I5) */
		stop_terminal(ex);
		ex->cut = true;
		exch_run_later(ex);
		return;
	}
	reply_direct(ex, i->status ? i->status : 502, str_of(i->text), i->details, i->flag);
}
