/* src/exchange/leg.c: head and body of one direction pass the filters. */
#include "base/must.h"
#include "exchange/exch_int.h"

void leg_reset(struct leg *leg)
{
	chain_clear(&leg->in);
	chain_clear(&leg->held);
	chain_clear(&leg->batch);
	chain_clear(&leg->out);
}

int64_t leg_framing(const struct leg *leg)
{
	if (leg->size < 0)
		return -1;
	if (leg->size == 0 || leg->size_fixed || head_has(&leg->head, FIELD_CONTENT_LENGTH))
		return leg->size;
	return -1;
}

static inline bool walk_disabled(struct exchange *ex, const struct filter_cfg *f)
{
	if (__builtin_expect(!ex->route || (!ex->route->per_filter &&
					    !(ex->weighted && ex->weighted->per_filter)),
			     1))
		return false;
	return exch_route_config(ex, f) == FILTER_DISABLED;
}

/* Passes bytes (and the end) through the watching filters from position `from` to where the head is, then leaves them there.
 * False: a filter stopped them. */
static bool push(struct exchange *ex, enum leg_kind k, struct chain *bytes, unsigned from, bool end)
{
	struct leg *leg = exch_leg(ex, k);
	if (leg->watched) {
		for (unsigned w = from; w < leg->at; w++) {
			if (!(leg->watched >> w & 1))
				continue;
			const struct filter_cfg *f = walk_filter(ex, k, w);
			enum verdict v = f->type->body(ex, f, k, bytes, end);
			if (ex->stage != STAGE_LIVE || v == ANSWERED || leg->discard) {
				chain_clear(bytes);
				return false;
			}
			if (v == WAIT) {
				if (bytes != &leg->batch)
					chain_move(&leg->batch, bytes);
				leg->batch_at = (uint8_t)w;
				leg->batch_end = end;
				leg->batch_waiting = true;
				return false;
			}
		}
	}
	chain_move(leg->at == ex->nfilters ? &leg->out : &leg->held, bytes);
	if (end) {
		leg->end_at = leg->at;
		if (leg->at == ex->nfilters)
			leg->ended = true;
	}
	return true;
}

static inline void head_leaves(struct exchange *ex, struct leg *leg)
{
	if (__builtin_expect(leg->holding, 0)) {
		leg->holding = false;
		ex->pump_due |= !leg->in_ended; /* the source goes on */
	}
	leg->passing = leg->gathering = false;
	leg->gather_limit = 0;
	leg->at++;
}

static inline bool end_is_at(const struct leg *leg, unsigned w)
{
	return leg->in_ended && leg->end_at == w && chain_empty(&leg->in) && !leg->batch_waiting;
}

/* True when the leg may go on after a hook's verdict. */
static inline bool alive(const struct exchange *ex, const struct leg *leg, enum leg_kind k)
{
	return ex->stage == STAGE_LIVE && !leg->discard && !(k == LEG_REQUEST && ex->refused);
}

/* As pass_head, where filters watch the body. */
static __attribute__((noinline)) bool pass_watched(struct exchange *ex, enum leg_kind k)
{
	struct leg *leg = exch_leg(ex, k);
	unsigned w = leg->at;
	bool end = end_is_at(leg, w);
	if (leg->watched >> w & 1 && leg->batch_waiting) {
		leg->passing = true;
		return false;
	}
	head_leaves(ex, leg);
	if (chain_empty(&leg->held) && !end)
		return true;
	struct chain bytes = {0};
	chain_move(&bytes, &leg->held);
	push(ex, k, &bytes, w, end);
	return alive(ex, leg, k);
}

/* The filter that had the head lets it go on: what lay there follows. False: it has to wait for
 * a stopped batch, or the leg is over. */
static inline bool pass_head(struct exchange *ex, struct leg *leg, enum leg_kind k)
{
	if (leg->watched)
		return pass_watched(ex, k);
	bool end = end_is_at(leg, leg->at);
	head_leaves(ex, leg);
	if (end)
		leg->end_at = leg->at;
	if (leg->at == ex->nfilters) {
		chain_move(&leg->out, &leg->held);
		leg->ended |= end;
	}
	return true;
}

static inline enum verdict head_hook(struct exchange *ex, enum leg_kind k,
				     const struct filter_cfg *f)
{
	enum verdict (*hook)(struct exchange *, const struct filter_cfg *) =
		k == LEG_REQUEST ? f->type->request : f->type->response;
	if (!hook || walk_disabled(ex, f))
		return GO_ON;
	ex->hooked |= 1u << f->index;
	return hook(ex, f);
}

static bool woken(struct exchange *ex, enum leg_kind k, const struct filter_cfg *f)
{
	uint32_t bit = 1u << f->index;
	if (!(ex->wakes[k] & bit))
		return false;
	ex->wakes[k] &= ~bit;
	return true;
}

static __attribute__((noinline)) bool watched_move(struct exchange *ex, enum leg_kind k)
{
	struct leg *leg = exch_leg(ex, k);
	bool moved = false;
	if (leg->batch_waiting) {
		const struct filter_cfg *f = walk_filter(ex, k, leg->batch_at);
		if (!woken(ex, k, f))
			return false;
		leg->batch_waiting = false;
		enum verdict v = f->type->resume(ex, f, k);
		if (!alive(ex, leg, k) || v == ANSWERED)
			return false;
		if (v == WAIT) {
			leg->batch_waiting = true;
			return false;
		}
		struct chain bytes = {0};
		chain_move(&bytes, &leg->batch);
		moved = true;
		if (!push(ex, k, &bytes, leg->batch_at + 1u, leg->batch_end))
			return true;
	}
	if (!chain_empty(&leg->in) || (leg->in_ended && leg->end_at == 0 && !leg->ended)) {
		bool end = leg->in_ended;
		if (!chain_empty(&leg->in) || leg->at > 0) {
			struct chain bytes = {0};
			chain_move(&bytes, &leg->in);
			moved = true;
			push(ex, k, &bytes, 0, end);
		}
	}
	return moved;
}

/* What has come goes as far as the head is. True: something did. */
static inline bool bodies_move(struct exchange *ex, struct leg *leg, enum leg_kind k)
{
	if (leg->watched || leg->batch_waiting)
		return watched_move(ex, k);
	bool through = leg->at == ex->nfilters, moved = leg->in.n != 0;
	if (moved)
		chain_move(through ? &leg->out : &leg->held, &leg->in);
	if (leg->in_ended) {
		leg->end_at = leg->at;
		moved |= through && !leg->ended;
		leg->ended |= through;
	}
	return moved;
}

static bool gathered(const struct leg *leg)
{
	return leg->in_ended && chain_empty(&leg->in) && !leg->batch_waiting &&
	       leg->end_at == leg->at;
}

/* The filter `at` has been waiting. False: it still does. */
static __attribute__((noinline)) bool resumed(struct exchange *ex, enum leg_kind k,
					      const struct filter_cfg *f, enum verdict *v)
{
	struct leg *leg = exch_leg(ex, k);
	bool ready = leg->gathering && gathered(leg);
	if (!woken(ex, k, f) && !ready)
		return false;
	if (ready)
		leg->gathering = false;
	leg->waiting = false;
	*v = f->type->resume(ex, f, k);
	return true;
}

/* What the filter `at` has said is done. True: the head went on to the next one. */
static __attribute__((noinline)) bool carry_out(struct exchange *ex, enum leg_kind k,
						enum verdict v)
{
	struct leg *leg = exch_leg(ex, k);
	if (v == ANSWERED && k == LEG_REQUEST)
		leg->discard = true;
	if (v == ANSWERED || !alive(ex, leg, k))
		return false;
	if (v == GO_ON)
		return pass_head(ex, leg, k);
	leg->waiting = true;
	if (leg->gathering && (gathered(leg) || gather_overflow(ex, k)))
		ex->again = true;
	return false;
}

/* The head goes on as far as filters let it. True: it moved. */
static __attribute__((noinline)) bool head_moves_slowly(struct exchange *ex, enum leg_kind k,
							bool moved)
{
	struct leg *leg = exch_leg(ex, k);
	if (leg->passing && !leg->batch_waiting)
		moved |= pass_head(ex, leg, k);
	while (leg->at < ex->nfilters && !leg->passing && alive(ex, leg, k)) {
		const struct filter_cfg *f = walk_filter(ex, k, leg->at);
		enum verdict v;
		if (!leg->waiting)
			v = head_hook(ex, k, f);
		else if (!resumed(ex, k, f, &v))
			break;
		moved |= v == GO_ON;
		if (!carry_out(ex, k, v))
			break;
	}
	return moved;
}

/* The same, in short where no filter watches the body and nothing is unusual. In between, end_at
 * may be behind. */
static inline __attribute__((always_inline)) bool head_moves(struct exchange *ex, struct leg *leg,
							     const enum leg_kind k)
{
	bool moved = false;
	if (__builtin_expect(leg->watched || leg->unusual, 0))
		return head_moves_slowly(ex, k, false);
	while (leg->at < ex->nfilters) {
		enum verdict v = head_hook(ex, k, walk_filter(ex, k, leg->at));
		if (__builtin_expect(
			    v != GO_ON || !alive(ex, leg, k) || leg->watched || leg->unusual, 0)) {
			if (v != ANSWERED && alive(ex, leg, k) && leg->in_ended &&
			    chain_empty(&leg->in))
				leg->end_at = leg->at;
			moved |= v == GO_ON;
			return carry_out(ex, k, v) ? head_moves_slowly(ex, k, moved) : moved;
		}
		leg->at++;
		moved = true;
	}
	chain_move(&leg->out, &leg->held);
	if (leg->in_ended) {
		leg->end_at = leg->at;
		leg->ended = true;
	}
	return moved;
}

/* The head is through and no filter watches: what comes in goes out. */
static inline void flow(struct exchange *ex, enum leg_kind k, struct leg *leg)
{
	bool moved = leg->in.n != 0;
	if (moved)
		chain_move(&leg->out, &leg->in);
	if (leg->in_ended && !leg->ended) {
		leg->ended = moved = true;
		leg->end_at = leg->at;
	}
	if (moved && k == LEG_REQUEST)
		ex->pump_due = true;
}

/* Compiled once per direction. */
static inline __attribute__((always_inline)) void pump(struct exchange *ex, struct leg *leg,
						       const enum leg_kind k)
{
	unsigned before_at = leg->at;
	size_t before_out = leg->out.n;
	bool before_ended = leg->ended, moved = false;
	/* nobody looks at the body */
	if (leg->at == ex->nfilters && !leg->watched && !leg->batch_waiting) {
		flow(ex, k, leg);
		return;
	}
	do {
		bool some = bodies_move(ex, leg, k);
		moved |= some;
		if (leg->at == ex->nfilters && (!some || (!leg->watched && !leg->batch_waiting)))
			break;
		if (!alive(ex, leg, k))
			return;
	} while (head_moves(ex, leg, k) && alive(ex, leg, k));
	if (!alive(ex, leg, k))
		return;
	if (leg->gathering && gather_overflow(ex, k))
		return;
	if (moved && k == LEG_REQUEST && ex->source) /* it takes the request where the head is */
		ex->pump_due = true;
	if (leg->at != ex->nfilters)
		return;
	if (k == LEG_REQUEST)
		ex->pump_due |= leg->out.n != before_out || leg->ended != before_ended;
	else if (before_at != ex->nfilters)
		edge_response(ex);
}

void leg_pump_request(struct exchange *ex)
{
	pump(ex, &ex->req, LEG_REQUEST);
}

void leg_pump_response(struct exchange *ex)
{
	pump(ex, &ex->resp, LEG_RESPONSE);
}

void exch_gather(struct exchange *ex, enum leg_kind k, size_t limit)
{
	struct leg *leg = exch_leg(ex, k);
	leg->gathering = true;
	leg->gather_limit = limit;
	ex->pump_due = true; /* the source may have stopped at the ordinary mark */
	if (k == LEG_REQUEST)
		ex->port->room(ex);
}

bool exch_gathered(struct exchange *ex, enum leg_kind k)
{
	struct leg *leg = exch_leg(ex, k);
	bodies_move(ex, leg, k);
	return gathered(leg);
}

struct chain *exch_held(struct exchange *ex, enum leg_kind k)
{
	struct leg *leg = exch_leg(ex, k);
	bodies_move(ex, leg, k);
	return &leg->held;
}

void exch_watch_body(struct exchange *ex, const struct filter_cfg *f, enum leg_kind k)
{
	must(f->type->body);
	exch_leg(ex, k)->watched |= 1u << walk_position(ex, k, f);
}

void exch_unwatch_body(struct exchange *ex, const struct filter_cfg *f, enum leg_kind k)
{
	exch_leg(ex, k)->watched &= ~(1u << walk_position(ex, k, f));
}

void exch_hold_answer(struct exchange *ex, size_t limit)
{
	ex->resp.holding = true;
	ex->resp.hold_limit = limit;
	ex->pump_due |= !ex->resp.in_ended; /* so that the source learns of it */
}

void exch_replace_body(struct exchange *ex, enum leg_kind k, struct chain *bytes)
{
	struct leg *leg = exch_leg(ex, k);
	chain_clear(&leg->held);
	chain_move(&leg->held, bytes);
	leg->size = (int64_t)leg->held.n;
	leg->size_fixed = true;
}
