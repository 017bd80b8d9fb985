/* src/upstream/pool.c
 *
 * Connections of one worker to one host: the last one used is used next, calls wait in order for the
 * next free one. A pooled connection that becomes readable is closed, whatever it brings.
 */
#include "base/mem.h"
#include "base/must.h"
#include "net/tls.h"
#include "obs/log.h"
#include "upstream/upstream_int.h"
#include <stdio.h>
#include <string.h>

static void refill(struct host *h);

static const struct cluster_stats *stats_of(const struct origin *o)
{
	return o->host->live->cfg->stats;
}

/* ---- birth and death of a connection */

static void bury(struct grave *g)
{
	struct origin *o = OWNER_OF(g, struct origin, grave);
	struct upstream *u = o->u;
	if (!ARENA_EMULATE && u->nspare_origins < SPARE_ORIGINS && !u->dead) {
		o->link.next = (struct link *)(void *)u->spare_origins;
		u->spare_origins = o;
		u->nspare_origins++;
	} else { /* always, when emulating: so that ASan sees a late use */
		mem_free(MEM_CONN, o);
	}
	upstream_buried(u);
}

static struct origin *origin_new(struct upstream *u)
{
	struct origin *o = u->spare_origins;
	if (o) {
		u->spare_origins = (struct origin *)(void *)o->link.next;
		u->nspare_origins--;
		memset(o, 0, sizeof *o);
	} else {
		o = mem_zalloc(MEM_CONN, sizeof *o);
	}
	return o;
}

void pool_close(struct origin *o)
{
	struct host *h = o->host;
	struct upstream *u = o->u;
	const struct cluster_stats *st = stats_of(o);
	must(!o->call && o->state != ORIGIN_DEAD);
	if (o->codec->fini)
		o->codec->fini(o);
	stat_add(st->cx_rx_bytes, o->conn.bytes_in);
	stat_add(st->cx_tx_bytes, o->conn.bytes_out);
	conn_close(&o->conn, false);
	timer_cancel(u->loop, &o->idle);
	task_drop(u->loop, &o->write);
	task_drop(u->loop, &o->again);
	link_out(&o->link);
	h->ndialing -= o->state == ORIGIN_DIALING;
	h->nidle -= o->state == ORIGIN_IDLE;
	h->n--;
	count_add(&h->counts.cx_active, (uint64_t)-1);
	stat_sub(st->cx_active, 1);
	stat_add(st->cx_destroy, 1);
	breaker_give(h->live->use, o->priority, USE_CONNECTIONS);
	tls_share_unref(o->tls);
	mem_free(MEM_CONN, o->sni);
	o->sni = NULL;
	o->state = ORIGIN_DEAD;
	u->ngraves++;
	reap(u->loop, &o->grave);
	/* Last: the host may go with its last connection, and its cluster only later, with its
	 * sets. */
	refill(h);
	host_unref(h);
}

void pool_close_idle(struct host *h)
{
	while (!link_none(&h->idle))
		pool_close(OWNER_OF(h->idle.next, struct origin, link));
}

/* The worker ends: no call is left. */
void pool_close_all(struct host *h)
{
	pool_close_idle(h);
	while (!link_none(&h->dialing))
		pool_close(OWNER_OF(h->dialing.next, struct origin, link));
	must(link_none(&h->busy));
}

/* ---- events of a connection */

static void on_ready(struct conn *conn)
{
	struct origin *o = (struct origin *)conn;
	if (o->state == ORIGIN_BUSY)
		o->codec->ready(o);
	else if (o->state == ORIGIN_IDLE)
		pool_close(o);
}

static void on_writable(struct conn *conn)
{
	struct origin *o = (struct origin *)conn;
	if (o->state == ORIGIN_BUSY)
		o->codec->writable(o);
}

static const char *dial_text(struct origin *o, struct arena *a)
{
	const struct failure *f = &o->conn.failure;
	if (!f->err)
		return f->step;
	char buf[128];
	const char *what = strerror_r(f->err, buf, sizeof buf);
	struct str s = arena_printf(a, "%s: %s", f->step ? f->step : "connect", what);
	return s.p ? arena_strz(a, s) : f->step;
}

/* One dial failed: the call that has waited longest fails with it; all do when nothing else
 * could serve them. */
static void dial_failed(struct origin *o)
{
	struct host *h = o->host;
	const struct cluster_stats *st = stats_of(o);
	enum failure_kind kind = o->conn.failure.kind;
	if (kind != FAILED_CONNECT_TIMEOUT)
		kind = FAILED_CONNECT;
	stat_add(st->cx_connect_fail, 1);
	if (kind == FAILED_CONNECT_TIMEOUT)
		stat_add(st->cx_connect_timeout, 1);
	if (o->tls && !o->conn.failure.err) /* the handshake, not the network */
		stat_add(st->ssl_error, 1);
	count_add(&h->counts.cx_connect_fail, 1);
	log_limited(LOG_UPSTREAM, LOG_DEBUG, "connect", "cluster %.*s: no connection to %s: %s",
		    STR_ARG(h->live->cfg->name), h->text,
		    o->conn.failure.step ? o->conn.failure.step : "");
	bool all = h->n == 1;
	while (!link_none(&h->pending)) {
		struct ucall *c = OWNER_OF(h->pending.next, struct ucall, link);
		pool_forget(c);
		call_on_broken(c, kind, dial_text(o, c->rq.arena));
		if (!all)
			break;
	}
	pool_close(o);
}

static void on_failed(struct conn *conn)
{
	dial_failed((struct origin *)conn);
}

static void serve(struct origin *o);

static void on_established(struct conn *conn)
{
	struct origin *o = (struct origin *)conn;
	struct host *h = o->host;
	const struct cluster_stats *st = stats_of(o);
	must(o->state == ORIGIN_DIALING);
	h->ndialing--;
	o->has_local = conn_local(&o->conn, &o->local);
	stat_record(st->cx_connect_ms, loop_ms(loop_now_us(o->u->loop) - o->conn.born_us));
	if (o->tls)
		stat_add(st->ssl_handshake, 1);
	link_out(&o->link);
	link_first(&h->idle, &o->link);
	h->nidle++;
	o->state = ORIGIN_IDLE;
	serve(o);
}

static const struct conn_ops ops = {on_ready, on_writable, on_established, on_failed};

static void on_idle(struct timer *t)
{
	struct origin *o = OWNER_OF(t, struct origin, idle);
	uint64_t now = loop_now_us(o->u->loop);
	if (o->state != ORIGIN_IDLE || !o->idle_until)
		return; /* armed when it was parked before */
	if (now < o->idle_until) {
		timer_arm(o->u->loop, t, o->idle_until - now);
		return;
	}
	if (o->spare && o->host->nidle <= LIMIT_SPARES) {
		o->spare = false;
		o->idle_until = now + LIMIT_UPSTREAM_IDLE_US - LIMIT_SPARE_IDLE_US;
		timer_arm(o->u->loop, t, LIMIT_UPSTREAM_IDLE_US - LIMIT_SPARE_IDLE_US);
		return;
	}
	stat_add(stats_of(o)->cx_idle_timeout, 1);
	pool_close(o);
}

static void run_write(struct task *t)
{
	struct origin *o = OWNER_OF(t, struct origin, write);
	if (o->state == ORIGIN_BUSY)
		o->codec->write(o);
}

static void run_again(struct task *t)
{
	struct origin *o = OWNER_OF(t, struct origin, again);
	if (o->state == ORIGIN_BUSY)
		o->codec->again(o);
}

/* ---- dialling */

/* The name for SNI and verification: from the request where the cluster says so. */
static struct str sni_for(const struct tls_cfg *t, const struct ucall *c)
{
	if (c->rq.sni_override && c->rq.sni_override->n)
		return *c->rq.sni_override;
	if (!t->auto_sni)
		return t->sni;
	struct str host = head_value(c->rq.head, FIELD_AUTHORITY);
	if (host.n && host.p[0] == '[')
		return t->sni; /* an address is no server name, RFC 6066 3 */
	const char *colon = host.n ? memrchr(host.p, ':', host.n) : NULL;
	if (colon)
		host.n = (size_t)(colon - host.p);
	return host.n ? host : t->sni;
}

/* Whether the connection was made for the name this call wants. */
static bool fits(const struct origin *o, const struct ucall *c)
{
	const struct live *l = o->host->live;
	if (!l->tls || (!l->cfg->tls->auto_sni && !c->rq.sni_override))
		return true;
	return str_eq(str_of(o->sni ? o->sni : ""), sni_for(l->cfg->tls, c));
}

static bool dial(struct host *h, const struct ucall *c)
{
	struct live *l = h->live;
	struct upstream *u = l->u;
	const struct cluster_cfg *cfg = l->cfg;
	struct origin *o = origin_new(u);
	if (!o)
		return false;
	o->u = u;
	o->host = h;
	o->codec = &h1_origin_codec;
	o->idle.fire = on_idle;
	o->write.run = run_write;
	o->again.run = run_again;
	o->grave.bury = bury;
	o->priority = c->high;
	o->peer = h->addr;
	o->peer_len = h->len;
	struct dial d = {.to = &o->peer.sa,
			 .to_len = h->len,
			 .timeout_us = cfg->connect_timeout_us ? cfg->connect_timeout_us
							       : LIMIT_CONNECT_US,
			 .keepalive = cfg->tcp_keepalive,
			 .keepalive_time_s = (int)cfg->keepalive_time,
			 .keepalive_interval_s = (int)cfg->keepalive_interval,
			 .keepalive_probes = (int)cfg->keepalive_probes};
	if (cfg->bind && cfg->bind->sa.sa_family == h->addr.sa.sa_family) {
		d.from = &cfg->bind->sa;
		d.from_len = cfg->bind->len;
	}
	if (l->tls) {
		struct str sni = sni_for(cfg->tls, c);
		o->sni = mem_strndup(MEM_CONN, sni.n ? sni.p : "", sni.n);
		if (!o->sni) {
			mem_free(MEM_CONN, o);
			return false;
		}
		o->tls = l->tls;
		tls_share_ref(o->tls);
		d.tls = l->tls->ctx;
		d.sni = o->sni;
		d.verify_host = cfg->tls->auto_san && sni.n ? o->sni : NULL;
	}
	h->refs++;
	h->n++;
	h->ndialing++;
	link_init(&o->link);
	link_last(&h->dialing, &o->link);
	o->state = ORIGIN_DIALING;
	count_add(&h->counts.cx_active, 1);
	count_add(&h->counts.cx_total, 1);
	stat_add(cfg->stats->cx_total, 1);
	stat_add(cfg->stats->cx_active, 1);
	stat_add(cfg->stats->cx_http1, 1);
	if (conn_dial(&o->conn, u->loop, &ops, &d))
		return true;
	dial_failed(o);
	return true;
}

/* Dials while more calls wait than connections are under way. Failures in here close connections, which comes back here: the
 * outermost goes on. */
static void refill(struct host *h)
{
	struct live *l = h->live;
	if (h->refilling)
		return;
	h->refilling = true;
	h->refs++;
	while (h->npending > h->ndialing) {
		/* The oldest call that no dial stands for. */
		const struct link *at = h->pending.next;
		for (unsigned i = 0; i < h->ndialing; i++)
			at = at->next;
		struct ucall *c = OWNER_OF(at, struct ucall, link);
		uint32_t limit = l->cfg->breakers[c->high].max_connections;
		if (!breaker_take(l->use, c->high, USE_CONNECTIONS, limit)) {
			stat_add(l->cfg->stats->cx_overflow, 1);
			if (!link_none(&h->idle)) { /* one that this call could not use */
				pool_close(OWNER_OF(h->idle.prev, struct origin, link));
				continue;
			}
			if (h->n)
				break; /* the next free one serves it */
			/* Nothing else would ever wake it: as Envoy, a pool may always have one. */
			breaker_force(l->use, c->high, USE_CONNECTIONS);
		}
		if (dial(h, c))
			continue;
		breaker_give(l->use, c->high, USE_CONNECTIONS);
		pool_forget(c);
		call_on_broken(c, FAILED_MEMORY, NULL);
	}
	h->refilling = false;
	host_unref(h);
}

/* ---- calls and connections */

/* False: more requests are not allowed; the call is told. */
static bool take(struct origin *o, struct ucall *c, bool now)
{
	const struct live *l = o->host->live;
	if (!breaker_take(l->use, c->high, USE_REQUESTS, l->cfg->breakers[c->high].max_requests)) {
		stat_add(l->cfg->stats->rq_pending_overflow, 1);
		call_on_broken(c, FAILED_OVERFLOW, NULL);
		return false;
	}
	c->request_held = true;
	link_out(&o->link);
	link_last(&o->host->busy, &o->link);
	o->host->nidle--;
	o->state = ORIGIN_BUSY;
	o->call = c;
	o->requests++;
	o->taken_turn = o->u->turn;
	if (!task_scheduled(&o->u->flush))
		later(o->u->loop, PHASE_FLUSH, &o->u->flush);
	call_on_connection(c, o);
	o->codec->start(o, now);
	return true;
}

/* Older than max_connection_duration. */
static bool outlived(const struct origin *o)
{
	uint64_t most = o->host->live->cfg->max_connection_duration_us;
	return most && loop_now_us(o->u->loop) - o->conn.born_us >= most;
}

/* o is idle: the first waiting call that may use it, or the pool keeps it. */
static void serve(struct origin *o)
{
	struct host *h = o->host;
	for (struct link *at = h->pending.next, *next; at != &h->pending; at = next) {
		struct ucall *c = OWNER_OF(at, struct ucall, link);
		next = at->next;
		if ((c->fresh && o->requests) || !fits(o, c))
			continue;
		pool_forget(c);
		if (take(o, c, false))
			return;
	}
	if (h->npending > h->ndialing || h->live->retired || o->u->draining || h->gone) {
		/* Those who wait want another one; this one gives its place to it. */
		pool_close(o);
		return;
	}
	uint64_t idle = o->h1.idle_us, most = h->live->cfg->idle_timeout_us;
	if (most && (!idle || most < idle))
		idle = most;
	uint64_t life = h->live->cfg->max_connection_duration_us;
	if (life) {
		uint64_t age = loop_now_us(o->u->loop) - o->conn.born_us;
		uint64_t left = age < life ? life - age : 1;
		if (!idle || left < idle)
			idle = left;
	}
	/* A crowd that a peak has left is not kept for long. */
	o->spare = h->nidle > LIMIT_SPARES && idle == LIMIT_UPSTREAM_IDLE_US;
	if (o->spare)
		idle = LIMIT_SPARE_IDLE_US;
	o->idle_until = idle ? loop_now_us(o->u->loop) + idle : 0;
	if (idle && (!timer_armed(&o->idle) || o->idle.due > o->idle_until))
		timer_arm(o->u->loop, &o->idle, idle);
}

void pool_done(struct origin *o, bool reusable, uint64_t idle_us)
{
	struct host *h = o->host;
	const struct cluster_cfg *cfg = h->live->cfg;
	must(!o->call && o->state == ORIGIN_BUSY);
	if (!reusable ||
	    (cfg->max_requests_per_connection && o->requests >= cfg->max_requests_per_connection) ||
	    outlived(o)) {
		pool_close(o);
		return;
	}
	o->h1.idle_us = idle_us;
	link_out(&o->link);
	link_first(&h->idle, &o->link);
	h->nidle++;
	o->state = ORIGIN_IDLE;
	serve(o);
}

void pool_forget(struct ucall *c)
{
	link_out(&c->link);
	c->host->npending--;
	breaker_give(c->live->use, c->high, USE_PENDING);
	stat_sub(c->live->cfg->stats->rq_pending_active, 1);
}

void pool_get(struct host *h, struct ucall *c, bool now)
{
	struct live *l = h->live;
	const struct cluster_stats *st = l->cfg->stats;
	const struct breaker *limits = &l->cfg->breakers[c->high];
	if (!c->fresh) {
		for (struct link *at = h->idle.next, *next; at != &h->idle; at = next) {
			struct origin *o = OWNER_OF(at, struct origin, link);
			next = at->next;
			if (!fits(o, c))
				continue;
			/* a request that cannot be sent twice pays for a look */
			if (outlived(o) || (!c->idempotent && !conn_idle_ok(&o->conn))) {
				pool_close(o);
				next = h->idle.next;
				continue;
			}
			take(o, c, now);
			return;
		}
	}
	if (__builtin_expect(c->u->pressure >= PRESSURE_DEAF, 0)) {
		call_on_broken(c, FAILED_OVERLOAD, NULL);
		return;
	}
	if (!breaker_take(l->use, c->high, USE_PENDING, limits->max_pending)) {
		stat_add(st->rq_pending_overflow, 1);
		call_on_broken(c, FAILED_OVERFLOW, NULL);
		return;
	}
	stat_add(st->rq_pending_total, 1);
	stat_add(st->rq_pending_active, 1);
	c->state = CALL_PENDING;
	link_last(&h->pending, &c->link);
	h->npending++;
	refill(h);
}
