/* src/upstream/call.c
 *
 * A call from its owner's side: attempts, retries, time limits. Connections and codecs tell it what
 * happens in any phase; what has to be decided is decided by its task in phase 3, so that nothing is
 * called back from inside call_….
 */
#include "base/hash.h"
#include "base/mem.h"
#include "base/must.h"
#include "obs/log.h"
#include "upstream/upstream_int.h"

enum { RETRY_KEEP = 1024 * 1024, LITTLE = 1024 };

static const struct cluster_stats *stats(const struct ucall *c)
{
	return c->pub.cluster->stats;
}

static uint64_t now_of(const struct ucall *c)
{
	return loop_now_us(c->u->loop);
}

void call_tell(struct ucall *c)
{
	if (c->state != CALL_OVER)
		c->event(&c->pub);
}

/* ---- time */

/* One timer stands for the earliest limit; the others are looked at when it fires. */
static void due_at(struct ucall *c, enum call_due which, uint64_t after_us)
{
	struct loop *l = c->u->loop;
	if (!after_us) {
		c->due[which] = 0;
		return;
	}
	uint64_t due = after_us < UINT64_MAX / 2 ? loop_now_us(l) + after_us : UINT64_MAX / 2;
	c->due[which] = due;
	if (!timer_armed(&c->timer) || c->timer.due > due)
		timer_arm(l, &c->timer, after_us);
}

static uint64_t idle_limit(const struct ucall *c)
{
	uint64_t a = c->rq.idle_timeout_us,
		 b = c->rq.retry && c->o ? c->rq.retry->per_try_idle_us : 0;
	return !a ? b : !b ? a : a < b ? a : b;
}

static void leave_attempt(struct ucall *c);

/* What ran out, FAILED_NONE when nothing did. */
static enum failure_kind expired(struct ucall *c, uint64_t now, const char **text)
{
	if (c->due[DUE_TOTAL] && c->due[DUE_TOTAL] <= now)
		return FAILED_TIMEOUT;
	if (c->due[DUE_DURATION] && c->due[DUE_DURATION] <= now) {
		*text = "upstream max stream duration reached";
		return FAILED_TIMEOUT;
	}
	if (c->due[DUE_TRY] && c->due[DUE_TRY] <= now)
		return FAILED_PER_TRY_TIMEOUT;
	if (c->due[DUE_IDLE]) {
		uint64_t limit = idle_limit(c);
		if (limit && now - c->moved_us >= limit)
			return limit == c->rq.idle_timeout_us ? FAILED_STREAM_IDLE
							      : FAILED_PER_TRY_TIMEOUT;
		c->due[DUE_IDLE] = limit ? c->moved_us + limit : 0;
	}
	return FAILED_NONE;
}

static void on_timer(struct timer *t)
{
	struct ucall *c = OWNER_OF(t, struct ucall, timer);
	uint64_t now = now_of(c), next = UINT64_MAX;
	const char *text = NULL;
	if (c->state == CALL_DONE || c->state == CALL_OVER)
		return;
	enum failure_kind kind = expired(c, now, &text);
	if (kind) {
		leave_attempt(c);
		call_on_broken(c, kind, text);
		return;
	}
	if (c->due[DUE_DRAIN] && c->due[DUE_DRAIN] <= now) {
		c->discard.bytes = 0;
		c->due[DUE_DRAIN] = 0;
		later(c->u->loop, PHASE_RUN, &c->task);
	}
	if (c->due[DUE_BACKOFF] && c->due[DUE_BACKOFF] <= now) {
		c->due[DUE_BACKOFF] = 0;
		c->again = true;
		later(c->u->loop, PHASE_RUN, &c->task);
	}
	for (int i = 0; i < DUES; i++)
		if (c->due[i] && c->due[i] < next)
			next = c->due[i];
	if (next != UINT64_MAX)
		timer_arm(c->u->loop, &c->timer, next > now ? next - now : 1);
}

static void start_try_timers(struct ucall *c)
{
	if (c->rq.retry && c->rq.retry->per_try_timeout_us && c->all && c->o)
		due_at(c, DUE_TRY, c->rq.retry->per_try_timeout_us);
	uint64_t limit = idle_limit(c);
	if (limit) {
		c->moved_us = now_of(c);
		if (!c->due[DUE_IDLE])
			due_at(c, DUE_IDLE, limit);
	}
}

/* The owner's request is complete, or nobody wants the rest: the clock of the route's timeout
 * runs. */
static void request_complete(struct ucall *c)
{
	c->all = true;
	if (c->done_us || c->state == CALL_DONE)
		return;
	c->done_us = now_of(c);
	if (c->rq.timeout_us)
		due_at(c, DUE_TOTAL, c->rq.timeout_us);
	if (c->o)
		start_try_timers(c);
}

/* ---- the retry decision, robustness.md 6 */

static bool idempotent_method(unsigned method)
{
	switch (method) {
	case METHOD_GET:
	case METHOD_HEAD:
	case METHOD_OPTIONS:
	case METHOD_PUT:
	case METHOD_DELETE: return true;
	default: return false;
	}
}

static bool was_reset(enum failure_kind k)
{
	return k == FAILED_TERMINATED || k == FAILED_REMOTE_RESET;
}

/* Without a policy: once, on a new connection, when a pooled one turns out to be dead before it
 * said a word. */
static bool may_retry_implicitly(const struct ucall *c)
{
	if (c->rq.retry || c->implicit_used || !c->keeping || !c->reused || c->heard ||
	    !was_reset(c->broke) || c->u->pressure >= PRESSURE_REFUSE)
		return false;
	return c->idempotent || !c->started;
}

/* Envoy's meaning of the names: a reset or a limit that passed counts as a 5xx. */
static bool policy_covers_failure(const struct ucall *c)
{
	unsigned on = c->rq.retry->on;
	bool connect = c->broke == FAILED_CONNECT || c->broke == FAILED_CONNECT_TIMEOUT;
	if (connect && on & RETRY_CONNECT_FAILURE)
		return true;
	if (on & RETRY_RESET_BEFORE_REQUEST && (connect || (was_reset(c->broke) && !c->started)))
		return true;
	if (!c->rq.model->options.retry_non_idempotent && !c->idempotent)
		return false;
	switch (c->broke) {
	case FAILED_CONNECT:
	case FAILED_CONNECT_TIMEOUT:
	case FAILED_TERMINATED:
	case FAILED_REMOTE_RESET:
	case FAILED_PROTOCOL:
	case FAILED_PER_TRY_TIMEOUT: return on & (RETRY_5XX | RETRY_GATEWAY_ERROR | RETRY_RESET);
	default:
		/* overflow, no host, the time for all attempts, memory, our own doing */
		return false;
	}
}

static bool policy_covers_answer(const struct ucall *c)
{
	const struct retry_policy *p = c->rq.retry;
	const struct head *h = c->pub.head;
	unsigned status = h->status;
	if (!c->rq.model->options.retry_non_idempotent && !c->idempotent)
		return false;
	if (head_find(h, STR("x-envoy-ratelimited")))
		return p->on & RETRY_ENVOY_RATELIMITED;
	if (p->on & RETRY_5XX && status >= 500)
		return true;
	if (p->on & RETRY_GATEWAY_ERROR && status >= 502 && status <= 504)
		return true;
	if (p->on & RETRY_RETRIABLE_4XX && status == 409)
		return true;
	if (p->on & RETRY_STATUS_CODES)
		for (unsigned i = 0; i < p->ncodes; i++)
			if (p->codes[i] == status)
				return true;
	if (p->on & RETRY_HEADERS)
		for (unsigned i = 0; i < p->nheaders; i++)
			if (field_matches(&p->headers[i], h))
				return true;
	return false;
}

static bool policy_covers_request(const struct ucall *c)
{
	const struct retry_policy *p = c->rq.retry;
	if (!p || !p->on || !p->num_retries)
		return false;
	for (unsigned i = 0; i < p->nrequest_headers; i++)
		if (field_matches(&p->request_headers[i], c->rq.head))
			return true;
	return p->nrequest_headers == 0;
}

static void give_retry(struct ucall *c)
{
	if (c->retry_held)
		breaker_give(c->live->use, c->high, USE_RETRIES);
	c->retry_held = false;
}

/* The attempt failed in a way that the policy covers: are there retries left, and may this
 * cluster have one more? */
static bool retry_allowed(struct ucall *c)
{
	const struct breaker *b = &c->live->cfg->breakers[c->high];
	uint32_t limit = b->max_retries;
	give_retry(c);
	if (c->retries >= c->rq.retry->num_retries) {
		stat_add(stats(c)->rq_retry_limit_exceeded, 1);
		return false;
	}
	if (!c->keeping)
		return false; /* more of the request went out than is kept */
	if (c->u->pressure >= PRESSURE_REFUSE)
		return false;
	if (b->retry_budget_percent > 0) {
		unsigned busy = breaker_count(c->live->use, c->high, USE_REQUESTS) +
				breaker_count(c->live->use, c->high, USE_PENDING);
		double share = b->retry_budget_percent / 100 * busy;
		limit = share > b->retry_min ? (uint32_t)share : b->retry_min;
	}
	if (!breaker_take(c->live->use, c->high, USE_RETRIES, limit)) {
		stat_add(stats(c)->rq_retry_overflow, 1);
		return false;
	}
	c->retry_held = true;
	return true;
}

/* ---- attempts */

static void give_request(struct ucall *c)
{
	if (c->request_held) {
		breaker_give(c->live->use, c->high, USE_REQUESTS);
		c->request_held = false;
		c->host->active--;
		count_add(&c->host->counts.rq_active, (uint64_t)-1);
		stat_sub(stats(c)->rq_active, 1);
	}
}

/* Away from wherever this attempt is. */
static void leave_attempt(struct ucall *c)
{
	switch (c->state) {
	case CALL_WAITING:
		link_out(&c->link);
		breaker_give(c->live->use, c->high, USE_PENDING);
		break;
	case CALL_PENDING: pool_forget(c); break;
	case CALL_ON:
		if (c->o)
			c->o->codec->leave(c->o);
		break;
	default: break;
	}
	must(!c->o);
	c->due[DUE_BACKOFF] = c->due[DUE_TRY] = 0;
	c->again = false;
}

static void note_tried(struct ucall *c, const struct host *h)
{
	c->tried[c->ntried % TRIED] = h->id;
	c->ntried++;
	if (h->priority < 32)
		c->tried_tiers |= 1u << h->priority;
}

static struct host *choose_host(struct ucall *c)
{
	const struct call_request *rq = &c->rq;
	const struct balance *b = &c->live->balance;
	if (b->n == 1 && b->tiers->nuse == 1 && !rq->override_host.p)
		return b->tiers->use[0];
	struct balance_ask ask = {.has_hash = rq->has_hash,
				  .hash = rq->hash,
				  .attempt = c->pub.attempts - 1,
				  .override_host = rq->override_host,
				  .override_strict = rq->override_strict};
	if (rq->retry && c->pub.attempts > 1) {
		ask.tried = c->tried;
		ask.ntried = c->ntried < TRIED ? c->ntried : TRIED;
		if (rq->retry->previous_hosts)
			ask.host_attempts = rq->retry->host_attempts ? rq->retry->host_attempts : 1;
		if (rq->retry->previous_priorities &&
		    (c->pub.attempts - 1) >= rq->retry->previous_priorities)
			ask.skip_tiers = c->tried_tiers;
	}
	return balance_pick(&c->live->balance, c->live->cfg, &ask);
}

/* Whatever goes wrong in here comes back through the task. now: as origin_codec.start. */
static void attempt(struct ucall *c, bool now)
{
	struct live *l = c->live;
	if (__builtin_expect(c->u->pressure >= PRESSURE_REFUSE, 0) && c->rq.sheddable) {
		call_on_broken(c, FAILED_OVERLOAD, NULL);
		return;
	}
	if (live_waits(l)) {
		if (!breaker_take(l->use, c->high, USE_PENDING,
				  l->cfg->breakers[c->high].max_pending)) {
			stat_add(stats(c)->rq_pending_overflow, 1);
			call_on_broken(c, FAILED_OVERFLOW, NULL);
			return;
		}
		c->state = CALL_WAITING;
		link_last(&l->waiting, &c->link);
		return;
	}
	c->pub.attempts++;
	struct host *h = choose_host(c);
	if (!h) {
		stat_add(stats(c)->cx_none_healthy, 1);
		call_on_broken(c, FAILED_NO_HEALTHY, NULL);
		return;
	}
	if (c->host != h) {
		h->refs++;
		host_unref(c->host);
		c->host = h;
	}
	note_tried(c, h);
	const char *why = c->rq.refused ? c->rq.refused(&c->rq, &h->addr.sa) : NULL;
	if (why) {
		call_on_broken(c, FAILED_NO_HEALTHY, why);
		return;
	}
	c->pub.hostname = h->hostname;
	pool_get(h, c, now);
}

/* Forgets what the last attempt left, and asks again. */
static void attempt_again(struct ucall *c)
{
	struct call *p = &c->pub;
	p->head = NULL;
	p->trailers = NULL;
	p->length = -1;
	chain_clear(&p->in);
	p->interim = NULL;
	chunk_unref(p->head_chunk);
	p->head_chunk = NULL;
	c->sent = c->started = c->heard = c->reused = c->repeat = false;
	c->broke = FAILED_NONE;
	c->broke_text = NULL;
	c->state = CALL_NEW;
	p->request_lost = false;
	chain_clear(&c->body);
	if (!chain_share(&c->body, &c->kept)) {
		call_on_broken(c, FAILED_MEMORY, NULL);
		return;
	}
	attempt(c, true);
}

static void retry_later(struct ucall *c)
{
	const struct retry_policy *p = c->rq.retry;
	uint64_t base = p->backoff.base_us ? p->backoff.base_us : 25000;
	uint64_t most = p->backoff.max_us ? p->backoff.max_us : base * 10;
	uint64_t interval = c->retries < 32 && base << c->retries >> c->retries == base
				    ? base << c->retries
				    : most;
	if (interval > most)
		interval = most;
	c->retries++;
	stat_add(stats(c)->rq_retry, 1);
	c->state = CALL_BACKOFF;
	due_at(c, DUE_BACKOFF, 1 + random_u64() % interval);
}

/* ---- the end */

static __attribute__((noinline)) stat_id new_code(struct live *l, unsigned status)
{
	if (status < 100 || status > 599)
		return 0;
	if (!l->codes && !(l->codes = mem_zalloc(MEM_OBS, 500 * sizeof *l->codes)))
		return 0;
	if (!l->codes[status - 100])
		l->codes[status - 100] = prepare_code_stat(l->cfg, status);
	return l->codes[status - 100];
}

static stat_id code_of(struct live *l, unsigned status)
{
	stat_id id = l->codes && status - 100 < 500 ? l->codes[status - 100] : 0;
	return __builtin_expect(id != 0, 1) ? id : new_code(l, status);
}

static void count_answer(struct ucall *c, unsigned status)
{
	const struct cluster_stats *st = stats(c);
	stat_add(code_of(c->live, status), 1);
	stat_add(st->rq_completed, 1);
	if (status >= 200 && status < 300)
		stat_add(st->rq_2xx, 1);
	else
		stat_add(status >= 500   ? st->rq_5xx
			 : status >= 400 ? st->rq_4xx
			 : status >= 300 ? st->rq_3xx
			 : status >= 100 ? st->rq_1xx
					 : 0,
			 1);
	if (c->host) {
		count_add(status >= 500 ? &c->host->counts.rq_error : &c->host->counts.rq_success,
			  1);
		if (c->broke == FAILED_TIMEOUT || c->broke == FAILED_PER_TRY_TIMEOUT)
			count_add(&c->host->counts.rq_timeout, 1);
	}
}

static void let_go_of_request(struct ucall *c)
{
	chain_clear(&c->body);
	chain_clear(&c->kept);
	c->keeping = false;
}

static void finish_broken(struct ucall *c)
{
	struct call *p = &c->pub;
	p->failed = true;
	p->failure = c->broke;
	p->failure_text = c->broke_text;
	c->state = CALL_DONE;
	let_go_of_request(c);
	give_retry(c);
	if (!p->has_head)
		count_answer(c, failure_infos[c->broke].status);
	call_tell(c);
}

static void count_failure(const struct ucall *c)
{
	const struct cluster_stats *st = stats(c);
	switch (c->broke) {
	case FAILED_TIMEOUT: stat_add(st->rq_timeout, 1); break;
	case FAILED_PER_TRY_TIMEOUT: stat_add(st->rq_per_try_timeout, 1); break;
	case FAILED_TERMINATED:
	case FAILED_REMOTE_RESET: stat_add(st->rq_rx_reset, 1); break;
	case FAILED_PROTOCOL: stat_add(st->cx_protocol_error, 1); break;
	default: break;
	}
}

/* Phase 3: the attempt failed, or its answer is one to be asked again. */
static void decide(struct ucall *c)
{
	if (c->repeat) { /* allowed already */
		retry_later(c);
		return;
	}
	count_failure(c);
	if (!c->pub.has_head) {
		if (may_retry_implicitly(c)) {
			c->implicit_used = c->fresh = true;
			attempt_again(c);
			return;
		}
		if (policy_covers_request(c) && policy_covers_failure(c) && retry_allowed(c)) {
			retry_later(c);
			return;
		}
	}
	finish_broken(c);
}

static void drain_on(struct ucall *c);

static void run(struct task *t)
{
	struct ucall *c = OWNER_OF(t, struct ucall, task);
	if (c->state == CALL_BROKEN) {
		decide(c);
	} else if (c->again) {
		c->again = false;
		if (c->state == CALL_BACKOFF)
			attempt_again(c);
		else if (c->state == CALL_NEW)
			attempt(c, true);
	} else if (c->detached) {
		drain_on(c);
	}
	if (c->state == CALL_ON)
		call_on_room(c); /* the new connection may have taken what had filled the buffer */
}

/* ---- what connections and codecs tell */

static void note_addresses(struct ucall *c, const struct origin *o)
{
	if (o->peer.sa.sa_family == AF_INET)
		c->peer.in4 = o->peer.in4;
	else
		c->peer = o->peer;
	c->pub.peer = &c->peer.sa;
	c->pub.peer_len = o->peer_len;
	if (!o->has_local)
		return;
	c->pub.local = &c->local.sa;
	if (o->local.sa.sa_family == AF_INET) {
		c->local.in4 = o->local.in4;
		c->pub.local_len = sizeof o->local.in4;
	} else {
		c->local = o->local;
		c->pub.local_len = sizeof o->local.in6;
	}
}

void call_on_connection(struct ucall *c, struct origin *o)
{
	struct host *h = o->host;
	must(!c->o);
	c->o = o;
	c->state = CALL_ON;
	c->reused = o->requests > 1;
	h->active++;
	count_add(&h->counts.rq_active, 1);
	count_add(&h->counts.rq_total, 1);
	stat_add(stats(c)->rq_total, 1);
	stat_add(stats(c)->rq_active, 1);
	note_addresses(c, o);
	if (c->keeping && !c->rq.retry && (!c->reused || c->implicit_used)) {
		/* Nothing would send it again. */
		chain_clear(&c->kept);
		c->keeping = false;
	}
	start_try_timers(c);
}

void call_on_broken(struct ucall *c, enum failure_kind kind, const char *text)
{
	if (c->state == CALL_DONE || c->state == CALL_OVER)
		return;
	must(!c->o);
	give_request(c);
	c->broke = kind;
	c->broke_text = text;
	c->repeat = false;
	c->state = CALL_BROKEN;
	c->due[DUE_TRY] = c->due[DUE_BACKOFF] = 0;
	later(c->u->loop, PHASE_RUN, &c->task);
}

void call_on_sent(struct ucall *c, size_t n, bool all)
{
	c->started = true;
	c->pub.bytes_sent += n;
	if (c->due[DUE_IDLE])
		c->moved_us = now_of(c);
	if (all) {
		c->sent = true;
		c->pub.sent_us = now_of(c);
	}
}

void call_on_room(struct ucall *c)
{
	if (!c->full || call_room(&c->pub) == 0)
		return;
	c->full = false;
	call_tell(c);
}

void call_on_head(struct ucall *c)
{
	struct call *p = &c->pub;
	if (c->rq.retry && p->head->status != 101 && policy_covers_request(c) &&
	    policy_covers_answer(c) && retry_allowed(c)) {
		c->repeat = true;
		return;
	}
	if (c->retry_held) {
		stat_add(stats(c)->rq_retry_success, 1);
		give_retry(c);
	}
	p->has_head = true;
	chain_clear(&c->kept);
	c->keeping = false;
	if (!c->sent && !p->tunnel) {
		p->request_lost = true;
		chain_clear(&c->body);
		bool all = c->all;
		request_complete(c);
		c->all = all; /* the owner may still say so */
	}
	count_answer(c, p->head->status);
}

void call_on_fin(struct ucall *c)
{
	c->pub.ended = true;
	c->pub.last_byte_us = now_of(c);
	call_tell(c);
}

void call_on_end(struct ucall *c)
{
	struct call *p = &c->pub;
	must(!c->o);
	give_request(c);
	if (c->repeat) {
		c->state = CALL_BROKEN;
		later(c->u->loop, PHASE_RUN, &c->task);
		return;
	}
	p->ended = true;
	p->last_byte_us = now_of(c);
	c->state = CALL_DONE;
	chain_clear(&c->body);
	if (c->done_us)
		stat_record(stats(c)->rq_time, loop_ms(p->last_byte_us - c->done_us));
	call_tell(c);
}

void call_on_hosts(struct ucall *c)
{
	breaker_give(c->live->use, c->high, USE_PENDING);
	c->state = CALL_NEW;
	c->again = true;
	later(c->u->loop, PHASE_RUN, &c->task);
}

/* ---- the owner's verbs */

static void bury(struct grave *g)
{
	struct ucall *c = OWNER_OF(g, struct ucall, grave);
	struct upstream *u = c->u;
	if (!ARENA_EMULATE && u->nspare_calls < SPARE_CALLS && !u->dead) {
		c->link.next = (struct link *)(void *)u->spare_calls;
		u->spare_calls = c;
		u->nspare_calls++;
	} else { /* always, when emulating: so that ASan sees a late use */
		timer_cancel(u->loop, &c->timer);
		mem_free(MEM_EXCHANGE, c);
	}
	upstream_buried(u);
}

static struct ucall *call_new(struct upstream *u)
{
	struct ucall *c = u->spare_calls;
	if (c) {
		u->spare_calls = (struct ucall *)(void *)c->link.next;
		u->nspare_calls--;
		memset(c, 0, offsetof(struct ucall, kept) + sizeof c->kept);
		return c;
	}
	c = mem_zalloc(MEM_EXCHANGE, sizeof *c);
	if (c) {
		c->u = u;
		c->task.run = run;
		c->timer.fire = on_timer;
		c->grave.bury = bury;
	}
	return c;
}

struct call *call_open(struct upstream *u, const struct call_request *rq,
		       void (*event)(struct call *c), void *owner)
{
	struct set *s = set_for(u, rq->model);
	struct live *l = s ? live_for(u, s, rq->cluster) : NULL;
	struct ucall *c = l ? call_new(u) : NULL;
	if (!c)
		return NULL;
	c->pub.cluster = rq->cluster;
	c->pub.owner = owner;
	c->pub.length = -1;
	c->set = s;
	c->live = l;
	c->rq = *rq;
	c->event = event;
	c->high = rq->priority ? 1 : 0;
	c->idempotent = idempotent_method(rq->head->method);
	link_init(&c->link);
	s->users++;
	u->ncalls++;
	c->keeping = !rq->retry || policy_covers_request(c);
	if (rq->cluster->max_stream_duration_us)
		due_at(c, DUE_DURATION, rq->cluster->max_stream_duration_us);
	if (rq->ended)
		request_complete(c);
	attempt(c, rq->ended || rq->upgrade.p);
	if (rq->idle_timeout_us && !c->due[DUE_IDLE])
		start_try_timers(c);
	return &c->pub;
}

static size_t buffer_limit(const struct ucall *c)
{
	return c->pub.cluster->buffer_limit > LIMIT_STREAM_HIGH ? c->pub.cluster->buffer_limit
								: LIMIT_STREAM_HIGH;
}

static size_t unsent(const struct ucall *c)
{
	return c->body.n + (c->o ? c->o->h1.out.n : 0);
}

size_t call_room(const struct call *p)
{
	struct ucall *c = ucall_of((struct call *)(uintptr_t)p);
	size_t limit = buffer_limit(c), held = unsent(c);
	if (p->request_lost || p->failed)
		return limit; /* thrown away */
	if (held >= limit || (c->full && held > limit / 2)) {
		c->full = true; /* until half of it has gone */
		return 0;
	}
	return limit - held;
}

/* Little pieces would pin the chunks they came in. */
static bool copy_little(struct chain *dst, const struct chain *src)
{
	for (const struct piece *q = src->first; q; q = q->next)
		if (!chain_copy(dst, q->p, q->n))
			return false;
	return true;
}

/* A copy that shares the bytes, as long as it is small enough to be worth it. */
static void keep(struct ucall *c, const struct chain *bytes)
{
	size_t limit = c->pub.cluster->buffer_limit ? c->pub.cluster->buffer_limit
		       : c->rq.retry                ? RETRY_KEEP
						    : LIMIT_STREAM_HIGH;
	if (c->kept.n + bytes->n <= limit &&
	    (bytes->n <= LITTLE ? copy_little(&c->kept, bytes) : chain_share(&c->kept, bytes)))
		return;
	chain_clear(&c->kept);
	c->keeping = false;
}

void call_send(struct call *p, struct chain *bytes, bool end, const struct head *trailers)
{
	struct ucall *c = ucall_of(p);
	must(c->state != CALL_OVER);
	bool lost = p->request_lost || c->state == CALL_DONE || c->all;
	if (bytes && lost)
		chain_clear(bytes);
	if (bytes && bytes->n) {
		if (c->keeping)
			keep(c, bytes);
		if (c->body.n && bytes->n <= LITTLE && copy_little(&c->body, bytes))
			chain_clear(bytes);
		else
			chain_move(&c->body, bytes);
	}
	if (end && !c->all) {
		c->trailers = trailers;
		request_complete(c);
	}
	if (c->o && !lost)
		c->o->codec->push(c->o);
}

void call_took(struct call *p)
{
	struct ucall *c = ucall_of(p);
	if (c->o)
		c->o->codec->credit(c->o);
}

void call_hold(struct call *p, bool hold)
{
	struct ucall *c = ucall_of(p);
	c->hold = hold;
	if (!hold && c->o)
		c->o->codec->credit(c->o);
}

void call_limit(struct call *p, size_t limit)
{
	struct ucall *c = ucall_of(p);
	c->limited = limit != SIZE_MAX;
	c->limit = limit;
	if (c->o)
		c->o->codec->credit(c->o);
}

void call_splice(struct call *p, bool may)
{
	ucall_of(p)->splice = may;
}

void call_gather(struct call *p, size_t limit)
{
	struct ucall *c = ucall_of(p);
	c->gather = limit;
	if (c->o)
		c->o->codec->credit(c->o);
}

void call_cancel(struct call *p)
{
	struct ucall *c = ucall_of(p);
	struct upstream *u = c->u;
	must(c->state != CALL_OVER);
	if (c->state != CALL_DONE) {
		if (c->o)
			stat_add(stats(c)->rq_tx_reset, 1);
		else
			stat_add(stats(c)->rq_cancelled, 1);
	}
	leave_attempt(c);
	give_request(c);
	give_retry(c);
	if (c->detached)
		link_out(&c->link);
	c->state = CALL_OVER; /* its timer may fire for nothing */
	if (task_scheduled(&c->task))
		task_drop(u->loop, &c->task);
	chain_clear(&p->in);
	if (c->body.n)
		chain_clear(&c->body);
	if (c->kept.n)
		chain_clear(&c->kept);
	chunk_unref(p->head_chunk);
	p->head_chunk = NULL;
	host_unref(c->host);
	c->host = NULL;
	c->set->users--;
	u->ncalls--;
	u->ngraves++;
	reap(u->loop, &c->grave);
}

void call_close(struct call *p)
{
	call_cancel(p);
}

/* ---- answers that nobody wants */

static void drain_event(struct call *p)
{
	struct ucall *c = ucall_of(p);
	later(c->u->loop, PHASE_RUN, &c->task);
}

static void drain_end(struct ucall *c, stat_id counter)
{
	stat_add(counter, 1);
	call_cancel(&c->pub);
}

/* Phase 3: more has come, or the time is over. */
static void drain_on(struct ucall *c)
{
	struct call *p = &c->pub;
	size_t n = p->in.n;
	chain_clear(&p->in);
	if (c->state == CALL_DONE) {
		drain_end(c, p->failed ? c->discard.closed : c->discard.drained);
	} else if (n >= c->discard.bytes) {
		drain_end(c, c->discard.closed);
	} else {
		c->discard.bytes -= n;
		c->o->codec->credit(c->o);
	}
}

void call_drain(struct call *p, const struct call_discard *how)
{
	struct ucall *c = ucall_of(p);
	c->discard = *how;
	if (c->state == CALL_DONE) {
		drain_end(c, p->failed ? how->closed : how->complete);
		return;
	}
	if (c->state != CALL_ON || !p->has_head || !c->sent || p->tunnel || !how->bytes ||
	    c->u->draining || !c->o->codec->detach(c->o, how->bytes)) {
		drain_end(c, how->closed);
		return;
	}
	memset(c->due, 0, sizeof c->due);
	let_go_of_request(c);
	chain_clear(&p->in);
	chunk_unref(p->head_chunk);
	p->head_chunk = NULL;
	p->head = NULL;
	p->owner = NULL;
	p->trailers = NULL;
	c->rq.head = NULL;
	c->rq.arena = NULL;
	c->event = drain_event;
	c->detached = true;
	c->hold = c->limited = false;
	c->gather = 0;
	link_last(&c->u->drains, &c->link);
	due_at(c, DUE_DRAIN, how->us ? how->us : 1);
	c->o->codec->credit(c->o);
}
