/* src/exchange/exchange.c: life of an exchange, from its first byte to its log line. */
#include "base/hash.h"
#include "base/mem.h"
#include "base/must.h"
#include "exchange/exch_int.h"
#include "exchange/format.h"
#include "obs/stats.h"
#include <stdio.h>
#include <unistd.h>

enum { SPARE_SLOT_BITS = 24, FIRST_FIELDS = 24, SHED_LEAST = 64 * 1024, SHED_MOST = 64 };

static void run(struct task *t);
static void fire(struct timer *t);
static void bury(struct grave *g);

static struct exchange *exch_take(struct exch_env *env)
{
	struct exchange *ex = env->spare;
	if (ex) {
		env->spare = ex->next_spare;
		return ex;
	}
	if (env->ntable == 1u << SPARE_SLOT_BITS)
		return NULL;
	if (env->ntable == env->table_cap) {
		unsigned cap = env->table_cap ? env->table_cap * 2 : 64;
		void *p = mem_realloc(MEM_EXCHANGE, env->table, cap * sizeof *env->table);
		if (!p)
			return NULL;
		env->table = p;
		env->table_cap = cap;
	}
	ex = mem_zalloc(MEM_EXCHANGE, sizeof *ex);
	if (!ex)
		return NULL;
	ex->number = env->ntable | 1ull << SPARE_SLOT_BITS;
	ex->stage = STAGE_OVER;
	env->table[env->ntable++] = ex;
	return ex;
}

struct exchange *exch_new(struct exch_env *env, const struct exch_port *port, void *port_data,
			  const struct exch_peer *peer, const struct model *m,
			  const struct hcm_cfg *hcm)
{
	struct exchange *ex = exch_take(env);
	if (!ex)
		return NULL;
	memset((char *)ex + offsetof(struct exchange, next_spare), 0,
	       sizeof *ex - offsetof(struct exchange, next_spare));
	ex->stage = STAGE_HEAD;
	ex->env = env;
	ex->port = port;
	ex->port_data = port_data;
	ex->peer = peer;
	ex->model = model_ref(m);
	ex->hcm = hcm;
	ex->nfilters = (uint8_t)hcm->nfilters;
	ex->task.run = run;
	ex->timer.fire = fire;
	ex->details = "";
	ex->flags = "";
	ex->req.size = ex->resp.size = -1;
	ex->began_us = ex->last_active_us = loop_now_us(env->loop);
	ex->wall_us = loop_wall_us(env->loop);
	arena_init(&ex->arena, exch_arena_cap(hcm));
	env->active++;
	stat_add(hcm->stats->rq_active, 1);
	if (!head_init(&ex->req.head, &ex->arena, false, FIRST_FIELDS)) {
		exch_drop(ex);
		return NULL;
	}
	return ex;
}

struct exchange *exch_find(struct exch_env *env, uint64_t number)
{
	unsigned slot = number & ((1u << SPARE_SLOT_BITS) - 1);
	if (slot >= env->ntable)
		return NULL;
	struct exchange *ex = env->table[slot];
	return ex->number == number && ex->stage != STAGE_OVER ? ex : NULL;
}

void exch_env_fini(struct exch_env *env)
{
	must(env->active == 0);
	while (env->guests)
		env->guests->leave(env->guests);
	for (unsigned i = 0; i < env->ntable; i++) {
		timer_cancel(env->loop, &env->table[i]->timer);
		mem_free(MEM_EXCHANGE, env->table[i]);
	}
	mem_free(MEM_EXCHANGE, env->table);
	env->table = NULL;
	env->ntable = env->table_cap = 0;
	env->spare = NULL;
	if (env->lua)
		env->lua_free(env->lua);
	env->lua = NULL;
}

void exch_begin(struct exchange *ex, int64_t size)
{
	must(ex->stage == STAGE_HEAD);
	ex->stage = STAGE_LIVE;
	ex->req.begun = true;
	ex->req.size = size;
	if (size == 0) {
		ex->req.in_ended = true;
		ex->req_done_us = loop_now_us(ex->env->loop);
	}
	ex->is_head = ex->req.head.method == METHOD_HEAD;
	stat_add(ex->hcm->stats->rq_total, 1);
	if (ex->hcm->request_timeout_us)
		ex->deadline_us[DEADLINE_REQUEST] = ex->began_us + ex->hcm->request_timeout_us;
	exch_run_later(ex);
}

void exch_run_later(struct exchange *ex)
{
	if (ex->running)
		ex->again = true;
	else
		later(ex->env->loop, PHASE_RUN, &ex->task);
}

void exch_wake(struct exchange *ex, const struct filter_cfg *f, enum leg_kind leg)
{
	if (ex->stage == STAGE_OVER)
		return;
	if (f->type->terminal)
		ex->pump_due = true;
	else
		ex->wakes[leg] |= 1u << f->index;
	exch_run_later(ex);
}

static void about(const void *arg, int fd)
{
	const struct exchange *ex = arg;
	char b[256];
	struct str path = head_value(&ex->req.head, FIELD_PATH);
	int n = snprintf(b, sizeof b, "exchange %llu stage %u %.*s %.*s req %u/%u resp %u/%u\n",
			 (unsigned long long)ex->number, ex->stage,
			 STR_ARG(head_value(&ex->req.head, FIELD_METHOD)),
			 (int)(path.n > 120 ? 120 : path.n), path.p ? path.p : "", ex->req.at,
			 ex->nfilters, ex->resp.at, ex->nfilters);
	if (n > 0 && write(fd, b, (size_t)n < sizeof b ? (size_t)n : sizeof b - 1) < 0)
		return;
}

/* Phase 3: everything that can move, moves. Bounded: after 64 rounds the next pass goes on. */
static void run(struct task *t)
{
	struct exchange *ex = (struct exchange *)((char *)t - offsetof(struct exchange, task));
	if (ex->stage != STAGE_LIVE)
		return;
	must_about(about, ex);
	ex->running = true;
	unsigned rounds = 0;
	if (!ex->edge_done) {
		ex->edge_done = true;
		edge_request(ex);
		exch_arm(ex);
	}
	do {
		ex->again = false;
		if (!ex->req.discard && !leg_at_rest(ex, &ex->req))
			leg_pump_request(ex);
		if (ex->pump_due && ex->stage == STAGE_LIVE && ex->nfilters) {
			const struct filter_cfg *f =
				ex->source ? ex->source : &ex->hcm->filters[ex->nfilters - 1];
			ex->pump_due = false;
			ex->pumping = true;
			if (f->type->pump && (ex->source || ex->req.at == ex->nfilters))
				f->type->pump(ex, f);
			ex->pumping = false;
		}
		if (ex->resp.begun && !leg_at_rest(ex, &ex->resp))
			leg_pump_response(ex);
	} while ((ex->again || ex->pump_due) && ex->stage == STAGE_LIVE && ++rounds < 64);
	ex->running = false;
	must_about(NULL, NULL);
	if (ex->stage != STAGE_LIVE)
		return;
	if (ex->again || ex->pump_due)
		later(ex->env->loop, PHASE_RUN, &ex->task);
	if (exch_answer_ready(ex) || ex->interim || ex->cut)
		ex->port->output(ex);
}

void exch_request_data(struct exchange *ex, struct chain *bytes, bool end, struct head *trailers)
{
	struct leg *leg = &ex->req;
	if (ex->stage != STAGE_LIVE || leg->in_ended) {
		chain_clear(bytes);
		return;
	}
	ex->last_active_us = loop_now_us(ex->env->loop);
	ex->bytes_received += bytes->n;
	leg->entered += bytes->n;
	if (leg->discard)
		chain_clear(bytes);
	else
		chain_move(&leg->in, bytes);
	if (ex->source) /* it takes the request where the head is */
		ex->pump_due = true;
	if (end) {
		leg->in_ended = true;
		leg->trailers = trailers;
		ex->req_done_us = ex->last_active_us;
		ex->deadline_us[DEADLINE_REQUEST] = 0;
	}
	exch_run_later(ex);
}

static size_t gather_limit(const struct exchange *ex, const struct leg *leg)
{
	if (leg->gather_limit)
		return leg->gather_limit;
	return ex->peer->buffer_limit ? ex->peer->buffer_limit : LIMIT_GATHER;
}

/* Below the high mark a whole read may come: cutting it in two would cost a write more. */
static size_t leg_room(const struct exchange *ex, const struct leg *leg)
{
	size_t have = leg->in.n + leg->held.n + leg->batch.n + leg->out.n;
	if (leg->holding)
		return have < leg->hold_limit ? leg->hold_limit - have : 0;
	if (leg->gathering) { /* one byte more than allowed shows that the limit is exceeded */
		size_t most = gather_limit(ex, leg) + 1;
		return have < most ? most - have : 0;
	}
	return have < LIMIT_STREAM_HIGH ? CHUNK_LARGE : 0;
}

size_t exch_request_room(const struct exchange *ex)
{
	if (ex->req.discard)
		return LIMIT_DISCARD;
	return leg_room(ex, &ex->req);
}

size_t exch_answer_room(const struct exchange *ex)
{
	return leg_room(ex, &ex->resp);
}

/* True when the limit of a gathering filter was exceeded and the exchange answered for it. */
bool gather_overflow(struct exchange *ex, enum leg_kind k)
{
	struct leg *leg = exch_leg(ex, k);
	if (!leg->gathering || leg->in.n + leg->held.n + leg->batch.n <= gather_limit(ex, leg))
		return false;
	leg->gathering = leg->waiting = false;
	if (k == LEG_REQUEST)
		exch_fail(ex, FAILED_BODY_TOO_LARGE);
	else
		exch_fail(ex, FAILED_ANSWER_TOO_LARGE);
	return true;
}

/* As Envoy's codec: what was wrong is in the details; nothing when the client was only slow. */
static struct str refusal_text(unsigned status)
{
	return status == 408 ? STR("") : str_of(status_text(status));
}

static void refuse(struct exchange *ex, unsigned status, struct str text, const char *detail,
		   const char *flags)
{
	must(ex->stage == STAGE_HEAD);
	ex->stage = STAGE_LIVE;
	ex->edge_done = true;
	ex->refused = true;
	ex->req.begun = true;
	ex->req.in_ended = ex->req.discard = true;
	ex->drain_connection = true;
	ex->req.at = ex->nfilters; /* filters never see it */
	stat_add(ex->hcm->stats->rq_total, 1);
	exch_arm(ex);
	reply_direct(ex, status, text, detail, flags);
	exch_run_later(ex);
}

void exch_refuse(struct exchange *ex, unsigned status, const char *detail)
{
	stat_add(ex->hcm->stats->rq_rejected, 1);
	refuse(ex, status, refusal_text(status), detail, "DPE");
}

void exch_refuse_overload(struct exchange *ex)
{
	const struct failure_info *i = &failure_infos[FAILED_OVERLOAD];
	stat_add(ex->hcm->stats->rq_overload_close, 1);
	refuse(ex, i->status, str_of(i->text), i->details, i->flag);
}

/* What its end would give back, as far as it can be seen from here. */
static uint64_t holds(const struct exchange *ex)
{
	const struct leg *q = &ex->req, *r = &ex->resp;
	return ex->arena.used + q->in.n + q->held.n + q->batch.n + q->out.n + r->in.n + r->held.n +
	       r->batch.n + r->out.n;
}

void exch_shed(struct exch_env *env, uint64_t bytes)
{
	for (int k = 0; k < SHED_MOST && bytes; k++) {
		struct exchange *most = NULL;
		uint64_t n = SHED_LEAST;
		for (unsigned i = 0; i < env->ntable; i++) {
			struct exchange *ex = env->table[i];
			if (ex->stage != STAGE_LIVE || ex->cut || ex->refused || ex->shed ||
			    ex->peer->listener->is_admin)
				continue;
			uint64_t held = holds(ex);
			if (held > n) {
				most = ex;
				n = held;
			}
		}
		if (!most)
			return;
		most->shed = true;
		stat_add(most->hcm->stats->rq_overload_close, 1);
		exch_fail(most, FAILED_OVERLOAD);
		bytes = bytes > n ? bytes - n : 0;
	}
}

void exch_request_broken(struct exchange *ex, unsigned status, const char *detail)
{
	if (ex->stage != STAGE_LIVE)
		return;
	ex->drain_connection = true;
	ex->req.discard = true;
	chain_clear(&ex->req.in);
	if (exch_answer_ready(ex) && (ex->head_sent || ex->resp.ended)) {
		if (ex->resp.ended)
			/* the answer is whole already: it goes out, then the connection closes */
			return;
		ex->cut = true;
		ex->details = detail;
		ex->flags = "DPE";
		exch_run_later(ex);
		return;
	}
	reply_direct(ex, status, refusal_text(status), detail, "DPE");
	exch_run_later(ex);
}

void exch_client_gone(struct exchange *ex)
{
	if (ex->stage == STAGE_OVER)
		return;
	if (ex->stage == STAGE_HEAD) {
		exch_drop(ex);
		return;
	}
	if (!*ex->flags)
		ex->flags = failure_infos[FAILED_CLIENT_GONE].flag;
	if (!*ex->details || !ex->local_reply)
		ex->details = failure_infos[FAILED_CLIENT_GONE].details;
	stat_add(ex->hcm->stats->rq_rx_reset, 1);
	exch_finish(ex);
}

void exch_answer_done(struct exchange *ex)
{
	if (ex->stage == STAGE_OVER)
		return;
	ex->resp_done_us = loop_now_us(ex->env->loop);
	exch_finish(ex);
}

void exch_answer_taken(struct exchange *ex, size_t n)
{
	ex->bytes_sent += n;
	ex->last_active_us = loop_now_us(ex->env->loop);
	if (n && !ex->resp.ended && ex->resp.out.n < LIMIT_STREAM_LOW) {
		ex->pump_due = true;
		exch_run_later(ex);
	}
}

static void count_status(const struct exchange *ex)
{
	const struct hcm_stats *s = ex->hcm->stats;
	stat_add(s->rq_completed, 1);
	switch (ex->resp.begun ? ex->resp.head.status / 100 : 0) {
	case 1: stat_add(s->rq_1xx, 1); break;
	case 2: stat_add(s->rq_2xx, 1); break;
	case 3: stat_add(s->rq_3xx, 1); break;
	case 4: stat_add(s->rq_4xx, 1); break;
	case 5: stat_add(s->rq_5xx, 1); break;
	}
	stat_record(s->rq_time, (loop_now_us(ex->env->loop) - ex->began_us) / 1000);
}

/* The one end of every exchange that had begun. */
void exch_finish(struct exchange *ex)
{
	must(ex->stage != STAGE_OVER);
	bool began = ex->stage == STAGE_LIVE;
	for (unsigned i = 0; i < ex->nfilters; i++) {
		const struct filter_cfg *f = &ex->hcm->filters[i];
		if (ex->hooked >> i & 1 && f->type->end)
			f->type->end(ex, f);
	}
	ex->stage = STAGE_OVER;
	if (began) {
		count_status(ex);
		if (ex->hcm->nlogs)
			access_log_write(ex);
	}
	ex->port->over(ex, ex->cut);
	exch_no_tunnel(ex);
	task_drop(ex->env->loop, &ex->task);
	leg_reset(&ex->req);
	leg_reset(&ex->resp);
	stat_sub(ex->hcm->stats->rq_active, 1);
	ex->env->active--;
	ex->grave.bury = bury;
	reap(ex->env->loop, &ex->grave);
}

void exch_drop(struct exchange *ex)
{
	if (ex->stage != STAGE_OVER)
		exch_finish(ex);
}

static void bury(struct grave *g)
{
	struct exchange *ex = (struct exchange *)((char *)g - offsetof(struct exchange, grave));
	struct exch_env *env = ex->env;
	chunk_unref(ex->req_chunk);
	chunk_unref(ex->resp_chunk);
	arena_fini(&ex->arena);
	model_unref(ex->model);
	ex->number += 1ull << SPARE_SLOT_BITS;
	ex->next_spare = env->spare;
	env->spare = ex;
}

static uint64_t idle_limit(const struct exchange *ex)
{
	return ex->route && ex->route->has_idle ? ex->route->idle_timeout_us
						: ex->hcm->stream_idle_timeout_us;
}

/* One timer: the nearest of the deadlines. */
void exch_arm(struct exchange *ex)
{
	if (ex->stage != STAGE_LIVE)
		return;
	uint64_t now = loop_now_us(ex->env->loop), next = UINT64_MAX, idle = idle_limit(ex);
	if (idle)
		next = ex->last_active_us + idle;
	for (int i = 0; i < DEADLINES; i++)
		if (ex->deadline_us[i] && ex->deadline_us[i] < next)
			next = ex->deadline_us[i];
	if (next == UINT64_MAX)
		timer_cancel(ex->env->loop, &ex->timer);
	else
		timer_arm(ex->env->loop, &ex->timer, next > now ? next - now : 0);
}

/* Phase 2: marks only by way of replies that are carried out in phase 3. */
static void fire(struct timer *t)
{
	struct exchange *ex = (struct exchange *)((char *)t - offsetof(struct exchange, timer));
	if (ex->stage != STAGE_LIVE) /* left behind by one that is over: its model may be gone */
		return;
	uint64_t now = loop_now_us(ex->env->loop), idle = idle_limit(ex);
	enum failure_kind why = FAILED_NONE;
	if (ex->deadline_us[DEADLINE_REQUEST] && now >= ex->deadline_us[DEADLINE_REQUEST]) {
		why = FAILED_REQUEST_TIMEOUT;
		stat_add(ex->hcm->stats->rq_timeout, 1);
	} else if (ex->deadline_us[DEADLINE_DURATION] &&
		   now >= ex->deadline_us[DEADLINE_DURATION]) {
		why = FAILED_MAX_DURATION;
	} else if (idle && now >= ex->last_active_us + idle) {
		why = ex->req.in_ended ? FAILED_STREAM_IDLE : FAILED_REQUEST_IDLE;
		stat_add(ex->hcm->stats->rq_idle_timeout, 1);
	}
	if (why == FAILED_NONE) {
		exch_arm(ex);
		return;
	}
	ex->deadline_us[DEADLINE_REQUEST] = ex->deadline_us[DEADLINE_DURATION] = 0;
	if (!ex->req.in_ended)
		ex->drain_connection = true;
	if (exch_answer_ready(ex) && (ex->head_sent || ex->cut)) {
		ex->details = failure_infos[why].details;
		ex->flags = failure_infos[why].flag;
		if (ex->cut || ex->resp.ended) { /* the client does not take it */
			ex->cut = true;
			exch_finish(ex);
			return;
		}
		ex->cut = true;
		ex->last_active_us = now; /* time to write what is there */
		exch_arm(ex);
		exch_run_later(ex);
		return;
	}
	ex->last_active_us = now;
	reply_direct(ex, failure_infos[why].status, str_of(failure_infos[why].text),
		     failure_infos[why].details, failure_infos[why].flag);
	exch_arm(ex);
	exch_run_later(ex);
}

void exch_addr_set(struct exch_addr *to, const struct sockaddr *sa)
{
	if (!sa)
		return;
	if (sa->sa_family == AF_INET)
		memcpy(&to->in4, sa, sizeof to->in4);
	else if (sa->sa_family == AF_INET6)
		memcpy(&to->in6, sa, sizeof to->in6);
	else
		to->sa.sa_family = sa->sa_family;
}

void exch_tunnel(struct exchange *ex)
{
	stat_add(ex->hcm->stats->cx_upgrades, 1);
	if (!ex->tunnel)
		stat_add(ex->hcm->stats->cx_upgrades_active, 1);
	ex->tunnel = true;
}

void exch_no_tunnel(struct exchange *ex)
{
	if (__builtin_expect(ex->tunnel, 0))
		stat_sub(ex->hcm->stats->cx_upgrades_active, 1);
	ex->tunnel = false;
}

void exch_interim(struct exchange *ex, const struct head *h)
{
	if (ex->http10 || ex->head_sent || ex->resp.begun)
		return;
	if (h->status == 100 && !ex->expect_continue)
		return;
	if (h->status != 100)
		for (unsigned i = 0; i < ex->nfilters; i++)
			if (ex->hcm->filters[i].type->response)
				return; /* may still choose another answer */
	struct interim_out *o = arena_zalloc(&ex->arena, sizeof *o);
	if (!o || !head_copy(&o->head, &ex->arena, h))
		return; /* an interim answer may be lost, RFC 9110 15.2 */
	struct interim_out **at = &ex->interim;
	while (*at)
		at = &(*at)->next;
	*at = o;
}
