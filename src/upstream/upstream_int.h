/* src/upstream/upstream_int.h: what the files of this room share.
 *
 * upstream   one worker's clusters. A set per model that is in use: which live cluster serves which
 *            configured one. Calls count themselves on their set, a set holds its model.
 * live       a cluster alive: its hosts, how to choose among them, DNS. Shared by the sets of models in
 *            which its configuration is the same.
 * host       one address: its pool of connections and the calls that wait for one.
 * origin     a connection to a host, with its codec. At most one call at a time under HTTP/1.
 * ucall      a call (call.h), attempt after attempt.
 */
#pragma once
#include "base/chain.h"
#include "base/failure.h"
#include "base/pressure.h"
#include "http/h1.h"
#include "loop/loop.h"
#include "model/limits.h"
#include "model/model.h"
#include "net/conn.h"
#include "obs/stats.h"
#include "upstream/call.h"
#include "upstream/upstream.h"
#include <pthread.h>
#include <stddef.h>

#define OWNER_OF(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* Circular lists with a head; a link that is in no list points at itself. */
struct link {
	struct link *next, *prev;
};
static inline void link_init(struct link *l)
{
	l->next = l->prev = l;
}
static inline bool link_none(const struct link *l)
{
	return l->next == l;
}
static inline void link_out(struct link *l)
{
	l->next->prev = l->prev;
	l->prev->next = l->next;
	l->next = l->prev = l;
}
static inline void link_first(struct link *head, struct link *l)
{
	l->next = head->next;
	l->prev = head;
	head->next->prev = l;
	head->next = l;
}
static inline void link_last(struct link *head, struct link *l)
{
	link_first(head->prev, l);
}

struct origin;
struct ucall;
struct live;
struct host;

/* ---- breaker.c: counts shared by all workers, by cluster name */

enum breaker_what { USE_CONNECTIONS, USE_PENDING, USE_REQUESTS, USE_RETRIES, USES };
struct breaker_use {
	unsigned refs; /* under the lock of breaker.c */
	atomic_uint n[2][USES];
	struct str name;
};
/* NULL: no memory. */
struct breaker_use *breaker_open(struct str name);
void breaker_close(struct breaker_use *u);
/* False: the limit is reached. */
static inline bool breaker_take(struct breaker_use *u, unsigned priority, enum breaker_what what,
				uint32_t limit)
{
	if (atomic_fetch_add_explicit(&u->n[priority][what], 1, memory_order_relaxed) < limit)
		return true;
	atomic_fetch_sub_explicit(&u->n[priority][what], 1, memory_order_relaxed);
	return false;
}
/* Past the limit, where waiting would be for ever. */
static inline void breaker_force(struct breaker_use *u, unsigned priority, enum breaker_what what)
{
	atomic_fetch_add_explicit(&u->n[priority][what], 1, memory_order_relaxed);
}
static inline void breaker_give(struct breaker_use *u, unsigned priority, enum breaker_what what)
{
	atomic_fetch_sub_explicit(&u->n[priority][what], 1, memory_order_relaxed);
}
static inline unsigned breaker_count(const struct breaker_use *u, unsigned priority,
				     enum breaker_what what)
{
	return atomic_load_explicit(&u->n[priority][what], memory_order_relaxed);
}

/* ---- prepare.c */

/* A client TLS context shared by every cluster, in whatever model, whose settings are the same: connections
 * outlive models, and so do the sessions it keeps. tls_cfg.ctx of a cluster is one of these. */
struct tls_share {
	struct tls_share *next;
	unsigned refs; /* under the lock of prepare.c */
	struct tls_ctx *ctx;
	struct tls_cfg cfg; /* copied into arena */
	struct arena arena;
};
void tls_share_ref(struct tls_share *s);
void tls_share_unref(struct tls_share *s);
bool tls_cfg_same(const struct tls_cfg *a, const struct tls_cfg *b);
/* The counter "cluster.NAME.upstream_rq_STATUS". 0: no memory. */
stat_id prepare_code_stat(const struct cluster_cfg *c, unsigned status);

/* ---- hosts */

union host_addr {
	struct sockaddr sa;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

/* What a live cluster should consist of: from the configuration, or from DNS. */
struct host_spec {
	union host_addr addr;
	socklen_t len;
	const char *text;     /* "127.0.0.1:80", "unix:/path" */
	const char *hostname; /* NULL: none */
	unsigned weight, priority;
	bool healthy;
};

/* Read by rows() of other threads: relaxed atomics. */
struct host_counts {
	uint64_t cx_active, cx_total, cx_connect_fail, rq_active, rq_total, rq_success, rq_error,
		rq_timeout;
};
static inline void count_add(uint64_t *n, uint64_t by)
{
	__atomic_store_n(n, __atomic_load_n(n, __ATOMIC_RELAXED) + by, __ATOMIC_RELAXED);
}

struct host {
	struct live *live;
	unsigned refs; /* its cluster's, connections', calls' */
	uint64_t id;   /* unique in the worker */
	bool gone;     /* no longer in its cluster */
	bool healthy, mark, refilling;
	unsigned weight, priority;
	unsigned active;  /* calls that have a connection */
	struct link left; /* live.left, when gone */
	struct link idle, busy, dialing, pending;
	unsigned n, nidle, ndialing, npending;
	struct host_counts counts;
	union host_addr addr;
	socklen_t len;
	char *text, *hostname; /* behind the structure; hostname may be NULL */
};
void host_unref(struct host *h);

/* ---- balance.c */

struct edf { /* earliest deadline first: a heap of hosts, each due again 1 / weight later */
	struct edf_item {
		double due;
		uint64_t turn; /* order of entry breaks ties */
		struct host *host;
	} * items;
	unsigned n;
	double now;
	uint64_t turns;
};
struct ring_item {
	uint64_t hash;
	struct host *host;
};
struct tier { /* the hosts of one priority */
	struct host **all;
	struct host **use; /* those that may be chosen: the healthy ones or, in panic, all */
	unsigned n, nuse, nhealthy;
	bool even; /* all weights equal */
	bool panic;
	unsigned at; /* round robin */
	struct edf edf;
	struct ring_item *ring;
	unsigned nring;
	unsigned load; /* percent of the requests */
};
struct balance {
	struct tier *tiers;
	unsigned n;
	struct host **hosts; /* all of them; tiers point into copies */
	unsigned nhosts;
};
/* Makes the tiers anew from hosts. False: no memory, b is as it was. */
bool balance_build(struct balance *b, const struct cluster_cfg *cfg, struct host **hosts,
		   unsigned n);
void balance_fini(struct balance *b);
struct balance_ask {
	bool has_hash;
	uint64_t hash;
	unsigned attempt;      /* 0: the first */
	const uint64_t *tried; /* host ids */
	unsigned ntried;
	unsigned
		host_attempts; /* how often to choose again when the choice was tried; 0: no predicate */
	uint32_t skip_tiers;      /* bit per priority */
	struct str override_host; /* .p NULL: none */
	bool override_strict;
};
/* NULL: no healthy host. */
struct host *balance_pick(struct balance *b, const struct cluster_cfg *cfg,
			  const struct balance_ask *ask);

/* ---- cluster.c */

struct name { /* one endpoint that has to be resolved */
	struct live *live;
	const struct endpoint_cfg *endpoint; /* of live->cfg */
	struct dns_query *query;
	struct timer timer;
	bool asked, answered; /* answered: an answer or a failure came */
	unsigned n;
	struct host_spec *specs; /* the last good answer */
};
struct live {
	struct upstream *u;
	const struct cluster_cfg *cfg; /* of the newest set that has it */
	unsigned refs;                 /* sets */
	bool retired;                  /* not in the current model: nothing is pooled */
	struct breaker_use *use;
	struct tls_share *tls; /* NULL: plain */
	struct balance balance;
	struct dns *dns; /* its own resolvers, or NULL: the worker's */
	struct name *names;
	unsigned nnames, unanswered;
	stat_id *codes;      /* by status - 100, made when first counted; NULL: none yet */
	struct link left;    /* hosts it had, which still have connections or calls */
	struct link waiting; /* calls that came before the first answer */
	struct link link;    /* upstream.lives */
};
struct set {
	struct set *next; /* older */
	const struct model *model;
	struct live **live; /* by cluster_cfg.index; NULL: not needed so far */
	unsigned users;     /* calls */
	bool used;          /* since the last sweep */
};
struct upstream {
	struct loop *loop;
	struct set *sets; /* the current one first */
	struct link lives;
	struct link drains; /* calls left by their owners whose answers are read to the end */
	struct dns *dns;
	struct timer sweep;
	struct task flush; /* turn++ after the last event of this turn was handed out */
	uint64_t turn;
	uint64_t host_ids;
	struct ucall *spare_calls;
	struct origin *spare_origins;
	unsigned nspare_calls, nspare_origins;
	unsigned ncalls, ngraves;
	bool draining, dead;
	uint8_t pressure;      /* percent */
	struct upstream *next; /* all of this process, for rows */
};
enum { SPARE_CALLS = 1024, SPARE_ORIGINS = 1024 };

struct set *set_for(struct upstream *u, const struct model *m);
/* NULL: no memory, or the cluster has vanished. */
struct live *live_for(struct upstream *u, struct set *s, const struct cluster_cfg *cfg);
/* DNS: whether a first answer is still awaited. */
static inline bool live_waits(const struct live *l)
{
	return l->unanswered > 0 && l->balance.nhosts == 0;
}
/* A grave was buried: the last one frees a worker that is already gone. */
void upstream_buried(struct upstream *u);

/* ---- pool.c */

enum origin_state { ORIGIN_DIALING, ORIGIN_IDLE, ORIGIN_BUSY, ORIGIN_DEAD };

struct h1_origin {           /* h1_origin.c */
	struct chain out;    /* serialised, not yet taken by the kernel */
	struct chunk *buf;   /* what is being received: the head from head_at on */
	struct chunk *small; /* where little pieces of body are gathered */
	struct head *head;   /* being parsed */
	uint64_t left;       /* of an announced request body */
	uint64_t idle_us;    /* what Keep-Alive: timeout leaves us; 0: nothing said */
	uint32_t head_at;
	unsigned interims, interim_bytes;
	uint8_t framing; /* of the request */
	bool head_written;
	bool end_framed;   /* the request is in out, or gone, to its end */
	bool closing;      /* not to be used again */
	bool reading_body; /* the answer's head is complete */
	bool more;         /* the last read left something */
	bool stopped;      /* no credit: reading waits for call_took */
	bool deaf;         /* nothing is written any more */
	bool told;         /* an interim head came: tell the owner */
	/* What is above is zeroed for each request. */
	struct h1_parse parse;
	struct h1_body body;
};
struct origin {
	struct conn conn; /* first */
	struct upstream *u;
	struct host *host;
	struct link link; /* in one of the host's lists */
	const struct origin_codec *codec;
	struct ucall *call;
	struct timer idle;
	struct task write, again;
	struct grave grave;
	struct tls_share *tls;
	char *sni; /* NULL: none */
	uint64_t requests, taken_turn;
	uint64_t idle_until; /* idle's real due time: it may be armed for an earlier one */
	uint8_t state, priority;
	bool has_local, spare; /* spare: parked when there were enough already */
	union sock_name local;
	union host_addr peer;
	socklen_t peer_len;
	struct h1_origin h1;
};

/* How calls and connections meet. The codec tells the call what happens by the call_on_… functions below, in any phase; nothing
 * of the call is freed under it before phase 5. */
struct origin_codec {
	/* o->call is new. now: write at once what is there; else at the end of this pass, so that body bytes that come until then
	 * go with the head. */
	void (*start)(struct origin *o, bool now);
	/* More in c->body, or c->all. Phase 3. */
	void (*push)(struct origin *o);
	/* The call may take answer bytes again. */
	void (*credit)(struct origin *o);
	/* Of an answer under way: whether at most that much is left and the connection will be of use afterwards. From then on neither the
	 * call's arena nor its request is touched. */
	bool (*detach)(struct origin *o, uint64_t most);
	/* The call leaves: the connection is parked or closed. Clears o->call. */
	void (*leave)(struct origin *o);
	/* Events of a busy connection, phase 2. */
	void (*ready)(struct origin *o);
	void (*writable)(struct origin *o);
	/* Gives back what it holds; the connection closes. */
	void (*fini)(struct origin *o);
	/* Its tasks. */
	void (*write)(struct origin *o);
	void (*again)(struct origin *o);
};
extern const struct origin_codec h1_origin_codec;

/* Gives c a connection of h, or makes it wait for one. The outcome is c->o, or c in h->pending,
 * or call_on_broken. now: as start. */
void pool_get(struct host *h, struct ucall *c, bool now);
/* c is in h->pending and leaves. */
void pool_forget(struct ucall *c);
/* The call on o is over. reusable: robustness.md I6 holds, and idle_us (0: the cluster's) how
 * long the peer keeps it. */
void pool_done(struct origin *o, bool reusable, uint64_t idle_us);
/* Closes at once, whatever it did; o->call must be gone. */
void pool_close(struct origin *o);
void pool_close_idle(struct host *h);
void pool_close_all(struct host *h);

/* ---- call.c */

enum call_state {
	CALL_NEW,
	CALL_WAITING, /* for DNS */
	CALL_PENDING, /* in a host's queue */
	CALL_ON,      /* has a connection */
	CALL_BACKOFF,
	CALL_BROKEN, /* the attempt failed; its task decides */
	CALL_DONE,   /* ended or failed */
	CALL_OVER    /* left by its owner */
};
enum call_due { DUE_TOTAL, DUE_DURATION, DUE_TRY, DUE_IDLE, DUE_BACKOFF, DUE_DRAIN, DUES };
enum { TRIED = 16 };

struct ucall {
	/* From here to `kept` all is zeroed for a new call. */
	struct call pub;   /* first */
	struct host *host; /* of the last attempt; counted */
	struct origin *o;
	uint64_t due[DUES]; /* loop time; 0: not set */
	uint64_t done_us;   /* when the owner's request was complete */
	uint64_t moved_us;  /* the last byte in either direction, when DUE_IDLE is set */
	struct chain body;  /* from the owner, not yet with the codec */
	const struct head *trailers;
	size_t gather, limit;
	uint8_t state, high; /* high: breaker priority */
	bool all;            /* the owner's request is complete */
	bool keeping;        /* kept holds everything so far */
	bool full;           /* call_room said 0 */
	bool hold;
	bool splice;   /* the owner passes bytes on unseen */
	bool limited;  /* limit counts */
	bool detached; /* call_drain: nobody waits for it */
	bool idempotent;
	bool fresh;   /* must have a new connection */
	bool sent;    /* whole request with the kernel, this attempt */
	bool started; /* some of it, this attempt */
	bool heard;   /* a byte of an answer, this attempt */
	bool reused;  /* the connection had carried a request before, this attempt */
	bool implicit_used, retry_held, request_held, again;
	bool repeat; /* the answer that came will be discarded and the request sent again */
	enum failure_kind broke;
	const char *broke_text;
	unsigned retries, ntried;
	uint32_t tried_tiers;
	struct chain kept; /* all of the body so far, for another attempt */
	/* From here on it is set, or stays what it was when the last call with this memory ended. */
	struct upstream *u;
	struct set *set;
	struct live *live;
	struct call_request rq;
	void (*event)(struct call *c);
	struct call_discard discard; /* detached: bytes is what may still come */
	struct link link;            /* host.pending, live.waiting or upstream.drains */
	struct task task;            /* PHASE_RUN */
	struct timer
		timer; /* may be armed for a call that is over: the next one is spared the arming */
	struct grave grave;
	uint64_t tried[TRIED];
	union host_addr peer;
	union sock_name local;
};
static inline struct ucall *ucall_of(struct call *c)
{
	return (struct ucall *)c;
}

/* pool.c: c has o now (phase 2 or 3). */
void call_on_connection(struct ucall *c, struct origin *o);
/* pool.c, codec: the attempt is over without a complete answer; c has no connection any more.
 * text: static, or in the call's arena. */
void call_on_broken(struct ucall *c, enum failure_kind kind, const char *text);
/* codec: some, or all, of the request went out. */
void call_on_sent(struct ucall *c, size_t n, bool all);
/* codec: the request can take more. */
void call_on_room(struct ucall *c);
/* codec: pub.head is complete (final or 101), fields of pub set. c->repeat afterwards: this
 * answer will be discarded. */
void call_on_head(struct ucall *c);
/* codec: the answer is complete and the connection given back. */
void call_on_end(struct ucall *c);
/* codec: in a tunnel, the peer has ended its side. */
void call_on_fin(struct ucall *c);
/* codec: something for the owner to see. */
void call_tell(struct ucall *c);
/* cluster.c: the first answer of DNS is there. */
void call_on_hosts(struct ucall *c);
/* Answer bytes wanted now? */
static inline size_t call_high(const struct ucall *c)
{
	return c->gather > LIMIT_STREAM_HIGH ? c->gather : LIMIT_STREAM_HIGH;
}
static inline bool call_wants(const struct ucall *c)
{
	return !c->hold && c->pub.in.n < (c->limited ? c->limit : call_high(c));
}
