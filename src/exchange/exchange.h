/* src/exchange/exchange.h
 *
 * One client request and its answer, on their way through the filters. Knows no sockets and no kind of filter. Belongs to one worker
 * thread. The client's codec (front) feeds the request leg and polls the answer; the terminal filter (router, static, admin) takes the request
 * and feeds the answer leg; filters stand between.
 *
 *   front --> req.in --> filter 0 --> … --> filter n-1 (terminal) takes req.out
 *   front <-- resp.out <-- filter 0 <-- … <-- resp.in <-- terminal
 *
 * Life: exch_new (first byte of a head) - exch_begin (head complete) or exch_refuse - runs in phase 3 whenever woken - the answer has been
 * sent, or something broke - port->over once - filters' end hooks, access log line - freed in phase 5.
 */
#pragma once
#include "base/chain.h"
#include "base/failure.h"
#include "base/pressure.h"
#include "exchange/metadata.h"
#include "http/head.h"
#include "loop/loop.h"
#include "model/limits.h"
#include "model/model.h"

struct upstream;
struct exchange;
struct call_discard;

/* Something of a filter's that outlives its exchange. leave: the worker ends, it must go (and
 * take itself out). */
struct exch_guest {
	struct exch_guest *next, **at;
	void (*leave)(struct exch_guest *g);
};

/* What an exchange's thread offers. One per worker; lives as long as the worker. */
struct exch_env {
	struct loop *loop;
	struct upstream *upstream;
	unsigned worker;         /* index */
	unsigned workers;        /* how many */
	struct exchange *spare;  /* exchange.c: freed ones, LIFO */
	struct exchange **table; /* exchange.c: by slot, for exch_find */
	unsigned ntable, table_cap;
	uint64_t active;  /* exchanges not yet over */
	bool draining;    /* answers carry connection: close */
	uint8_t pressure; /* percent (base/pressure.h), as last read */
	struct exch_guest *guests;
	void *lua; /* filters/lua: this worker's state; freed through lua_free */
	void (*lua_free)(void *);
	void (*lua_collect)(void *); /* its garbage, at once */
};

/* Whether connections end with what they are doing: the process does, or is too full. */
static inline bool exch_env_last(const struct exch_env *env)
{
	return env->draining || env->pressure >= PRESSURE_LAST_REQUEST;
}

/* What is known of the connection, kept by front for as long as the connection lives. Addresses
 * as text "ip:port". */
struct exch_peer {
	struct str remote; /* the TCP peer */
	struct str local;
	const struct sockaddr *remote_sa, *local_sa;
	bool tls;
	struct str sni; /* "" none (or no tls_inspector, see has_inspector) */
	bool has_inspector;
	uint64_t connection_id;
	const struct listener_cfg *listener;
	uint32_t buffer_limit; /* per_connection_buffer_limit_bytes; 0: not configured */
};

/* TLS facts on demand, for scripts and log lines (net/tls.h by another name: exchange may not
 * know net). */
enum peer_text {
	PEER_TLS_VERSION,
	PEER_CIPHER,
	PEER_CIPHER_ID,
	PEER_SESSION_ID,
	PEER_SNI,
	PEER_ALPN,
	PEER_SUBJECT,
	PEER_ISSUER,
	PEER_SERIAL,
	PEER_SHA256,
	PEER_PEM,
	PEER_CHAIN_PEM,
	PEER_LOCAL_SUBJECT,
	PEER_CN
};
enum peer_list {
	PEER_URIS,
	PEER_DNS,
	PEER_OIDS,
	PEER_ORGS,
	PEER_LOCAL_URIS,
	PEER_LOCAL_DNS,
	PEER_LOCAL_OIDS
};
enum peer_number { PEER_PRESENTED, PEER_VALIDATED, PEER_NOT_BEFORE, PEER_NOT_AFTER };

/* The client's side of an exchange, implemented by front per codec. */
struct exch_port {
	bool splice; /* pieces that lie in a pipe or a file may be in resp.out (base/chain.h), as long as the peer is plain */
	/* There is something to write (head, bytes, end, interim head) or the exchange was cut: schedules writing. Phase 3. */
	void (*output)(struct exchange *ex);
	/* Request bytes are wanted again (or no more: ex->req.discard). */
	void (*room)(struct exchange *ex);
	/* The exchange is over and will be freed at the end of the turn: forget it. Called exactly once. cut: the answer was not completed
	 * (I5): the codec must make that visible. */
	void (*over)(struct exchange *ex, bool cut);
	struct str (*text)(struct exchange *ex, enum peer_text what, struct arena *a);
	unsigned (*list)(struct exchange *ex, enum peer_list what, struct arena *a,
			 struct str **out);
	int64_t (*number)(struct exchange *ex, enum peer_number what);
};

/* One direction. */
struct leg {
	struct head head;
	struct head *trailers; /* NULL: none so far */
	struct chain in;       /* arrived, not yet seen by the first filter */
	struct chain held;     /* seen by the filters before the one that has the head */
	struct chain batch;    /* stopped in filter batch_at (walk order) */
	struct chain out;      /* through all filters */
	int64_t size;          /* of the whole body when known (announced, or complete), else -1 */
	uint64_t entered;      /* body bytes that have entered */
	uint32_t watched;      /* bit per walk position: this filter sees the body */
	uint8_t at; /* walk position of the filter that has the head; == n: the head is through */
	uint8_t batch_at;
	union {
		struct {
			bool waiting;   /* filter `at` said WAIT */
			bool gathering; /* it wants the whole body first */
			bool batch_waiting;
			bool passing; /* the filter `at` said GO_ON; its held bytes wait for the stopped batch to move */
			bool holding; /* exch_hold_answer */
		};
		uint64_t unusual; /* any of them */
	};
	bool begun;     /* the head is there */
	bool batch_end; /* the stopped batch is the last one */
	uint8_t end_at; /* walk position that the end of the body has reached */
	bool in_ended;  /* nothing will be added to in */
	bool ended;     /* out is complete (but for what it holds) */
	bool discard;   /* what still arrives is thrown away */
	bool whole;     /* a filter has held all of the body (that filter says so) */
	/* a filter replaced the body: size rules, whatever content-length says */
	bool size_fixed;
	uint8_t broke; /* enum failure_kind: the source broke off while it was held */
	size_t gather_limit, hold_limit;
};
/* How the codec shall frame the body of this leg: a length (>= 0) or -1 (chunked, or DATA frames). Framing belongs to postern: a known
 * size counts when the head has a content-length (whatever it says) or when the body was empty or replaced. */
int64_t leg_framing(const struct leg *leg);

struct exchange {
	uint64_t
		number; /* unique in its worker: slot in the low 24 bits, generation above; changes when freed */
	struct timer
		timer; /* may be linked for an exchange that is over: the next one with this memory is spared that */
	/* What follows is zeroed for a new exchange. */
	struct exchange *next_spare;
	uint8_t stage; /* exchange.c */
	uint8_t nfilters;
	struct exch_env *env;
	const struct exch_port *port;
	void *port_data; /* front's */
	const struct exch_peer *peer;
	const struct model *model; /* referenced */
	const struct hcm_cfg *hcm;
	struct arena arena;
	struct leg req, resp;
	struct chunk *req_chunk;  /* holds the request head's bytes */
	struct chunk *resp_chunk; /* holds the answer head's bytes */
	struct task task;         /* PHASE_RUN */
	struct grave grave;
	uint32_t wakes[2]; /* filters woken, per leg */
	bool running, again, edge_done, answer_edge_done, refused;
	bool pumping;         /* in the source's pump: the answer's filters run next */
	bool underscores;     /* front: some field name has '_' */
	bool has_te_trailers; /* front: the client takes trailers */
	bool pump_due;        /* the terminal filter has something to look at */
	const struct filter_cfg *
		source; /* the filter that feeds the answer piece by piece, when it is not the last one: it calls exch_answer_head
					  * and returns ANSWERED; from then on pump is its own. Its type is terminal. NULL: the last one */

	/* routing, recomputed after exch_clear_route */
	bool routed;
	const struct vhost *vhost;
	const struct route *route;
	const struct weighted_cluster *weighted;
	const struct cluster_cfg *cluster; /* NULL: none */
	struct str path_only, query;       /* slices of :path at the time of routing */
	struct str original_path;          /* as the client sent it, when it was normalised */
	struct str override_host;          /* setUpstreamOverrideHost */
	bool override_strict;

	/* protocol */
	bool is_head; /* the answer has no body */
	bool http10, http2;
	bool expect_continue; /* the client waits for 100 and proxy_100_continue is on: the origin's 100 is passed on */
	struct str upgrade; /* a configured upgrade was asked for; .p NULL */
	bool tunnel;        /* 101 went through: raw bytes both ways */
	bool drain_connection; /* answer with connection: close (drainConnectionUponCompletion and drain) */
	bool local_reply;      /* the answer is ours */
	bool shed;             /* ended by exch_shed */
	struct str reply_text; /* while local_reply_config makes its body: the text it replaces */
	bool allow_http1_reason;
	bool keep_request; /* a filter that watches the request's body wants all of it, whatever becomes of the terminal filter's answer */

	/* answer on its way to the client: front reads */
	struct interim_out {
		struct interim_out *next;
		struct head head;
	} * interim;    /* 1xx heads to be written first; front takes them off */
	bool head_sent; /* front: the final head was written */
	bool cut;       /* the answer breaks off: front must not complete it */

	/* facts for logs and scripts */
	uint64_t began_us, req_done_us, resp_head_us, resp_done_us; /* loop time; 0: not yet */
	uint64_t wall_us;                                           /* when it began */
	uint64_t bytes_received, bytes_sent;                        /* bodies, client side */
	uint64_t resp_head_bytes;
	uint64_t random;     /* for routing choices of this exchange */
	const char *details; /* response code details; static or arena */
	const char *flags;   /* Envoy's response flags, "" none, "-" in logs */
	char request_id[37];
	struct str remote; /* client address after X-Forwarded-For rules, "ip:port" */
	struct exch_addr { /* family 0: none; texts are made on demand (base/sockname.h) */
		union {
			struct sockaddr sa;
			struct sockaddr_in in4;
			struct sockaddr_in6 in6;
		};
	} upstream_peer, upstream_local;
	const struct cluster_cfg *upstream_cluster;
	struct str upstream_failure;
	struct exch_fallback { /* what the fallback policy did, for log lines; served NULL: no policy, or it did not come to a decision */
		const char *served;
		uint16_t primary_status, status; /* 0: not asked, or no answer */
		uint32_t primary_ms, ms, held;
	} fallback;
	unsigned attempts;
	uint64_t upstream_first_us, upstream_done_us;
	struct metadata metadata;         /* dynamic metadata */
	struct state_entry *filter_state; /* metadata.h */

	/* per filter: the type's own state (exch_state_set); zeroed */
	void *state[LIMIT_FILTERS];
	uint32_t hooked; /* filters whose hooks ran: end is due */
	uint64_t last_active_us;
	uint64_t deadline_us[4]; /* exchange.c: request, duration, … */
};

/* --- front's side --- */
/* NULL: no memory. The request leg's head is initialised, ready for the parser. */
struct exchange *exch_new(struct exch_env *env, const struct exch_port *port, void *port_data,
			  const struct exch_peer *peer, const struct model *m,
			  const struct hcm_cfg *hcm);
/* The head is complete and its framing known: size of the body (0 none, -1 unknown). Everything
 * from here on happens in phase 3. */
void exch_begin(struct exchange *ex, int64_t size);
/* Body bytes: moved. end: the request ends; trailers live in ex->arena. */
void exch_request_data(struct exchange *ex, struct chain *bytes, bool end, struct head *trailers);
/* How many body bytes the exchange takes now; 0: pause reading until port->room. */
size_t exch_request_room(const struct exchange *ex);
/* A head that must be refused (before exch_begin): the answer is made without filters, then the
 * connection closes. detail: robustness.md 3.1. */
void exch_refuse(struct exchange *ex, unsigned status, const char *detail);
/* The same for a request that comes while the process is too full (PRESSURE_REFUSE): 503. */
void exch_refuse_overload(struct exchange *ex);
/* Ends those that hold most, 503 or a cut answer, until they held that many bytes or none holds much; a few at a time, each costs a look at
 * all. */
void exch_shed(struct exch_env *env, uint64_t bytes);
/* The request broke in its body (framing): 400 when unanswered, else cut. */
void exch_request_broken(struct exchange *ex, unsigned status, const char *detail);
/* The client is gone (RST, failed write, h2 RST_STREAM): cancels everything; over follows. */
void exch_client_gone(struct exchange *ex);
/* A head time limit passed before exch_begin, or the connection ends silently: no answer, no log
 * line unless bytes had come. */
void exch_drop(struct exchange *ex);
/* front took bytes off resp.out (or wrote the head): more may come. */
void exch_answer_taken(struct exchange *ex, size_t n);
/* front has handed the whole answer to the kernel (head, body, end): over follows. */
void exch_answer_done(struct exchange *ex);
/* The answer's head may be written now: through all filters. */
static inline bool exch_answer_ready(const struct exchange *ex)
{
	return ex->resp.begun && ex->resp.at == ex->nfilters;
}

/* --- filters' side (phase 3) --- */
/* Schedules the exchange to run. Any phase. */
void exch_run_later(struct exchange *ex);
/* As that, and filter f's resume for that leg (or, for the terminal filter, pump) is called. */
void exch_wake(struct exchange *ex, const struct filter_cfg *f, enum leg_kind leg);
static inline void *exch_state(const struct exchange *ex, const struct filter_cfg *f)
{
	return ex->state[f->index];
}
static inline void exch_state_set(struct exchange *ex, const struct filter_cfg *f, void *state)
{
	ex->state[f->index] = state;
}
/* The per-route config of this filter: the most specific of weighted cluster, route, virtual host, route configuration; NULL: none.
 * FILTER_DISABLED never reaches a filter (its hooks are not called). Computes the route when needed. */
void *exch_route_config(struct exchange *ex, const struct filter_cfg *f);
/* Answers now: the head (copied: name/value pairs live long enough or are in ex->arena), body moved (may be NULL). ex->resp.head must have been
 * filled by the caller with :status first. From a request hook: return ANSWERED afterwards. The answer passes all response filters. */
void exch_answer(struct exchange *ex, struct chain *body, const char *details);
/* A local reply: status, text (may be empty), details for the log; local_reply_config applies. Prepared as Envoy's sendLocalReply (gRPC
 * requests get a gRPC answer). In a response hook it replaces the answer, which then goes out without passing filters again. */
void exch_reply(struct exchange *ex, unsigned status, struct str text, const char *details,
		const char *flags);
/* local_reply_config: the first mapper whose filter holds, on an answer whose fields are in ex->resp.head and whose details are ex's. Changes
 * what it says: fields, status, text, and the text's type. For filters that make such answers themselves. */
void exch_map_reply(struct exchange *ex, unsigned *status, struct str *text, struct str *type);
void exch_fail(struct exchange *ex, enum failure_kind kind);
/* The terminal filter's answer: it filled ex->resp.head; size of the body or -1. Then
 * exch_answer_data. */
void exch_answer_head(struct exchange *ex, int64_t size);
/* Body bytes: moved. end: complete. trailers in ex->arena. */
void exch_answer_data(struct exchange *ex, struct chain *bytes, bool end, struct head *trailers);
/* How many answer bytes the exchange takes now; grows while a filter gathers. */
size_t exch_answer_room(const struct exchange *ex);
/* The rest of the answer passes unseen, and the client's side can take it from a pipe or a file. */
static inline bool exch_unseen(const struct exchange *ex)
{
	const struct leg *r = &ex->resp;
	return ex->port->splice && ex->head_sent && !ex->peer->tls && r->at == ex->nfilters &&
	       !r->watched && !r->batch_waiting && !ex->tunnel && !ex->is_head && !ex->cut &&
	       leg_framing(r) >= 0;
}
/* The origin broke off in mid-answer: cut what has gone out; before that, a reply for kind. */
void exch_answer_broken(struct exchange *ex, enum failure_kind kind);
/* In a response hook, before returning WAIT: the source takes no more than limit bytes of the answer's body from where it has it, until
 * this filter lets the head go on or exch_answer_instead. A source that breaks off meanwhile is over, leg->broke says how, the filter is
 * resumed, and what has come stays. */
void exch_hold_answer(struct exchange *ex, size_t limit);
/* While self has the head of an answer: that answer is forgotten, self is the source of another one from now on (its type has pump). Then
 * fill resp.head, exch_answer_head, exch_answer_data; GO_ON lets it pass. loser (may be NULL): what may become of the rest. */
void exch_answer_instead(struct exchange *ex, const struct filter_cfg *self,
			 const struct call_discard *loser);
/* The terminal filter's work is given up; self answers alone (from a body hook of the request,
 * before there is an answer). */
void exch_take_over(struct exchange *ex, const struct filter_cfg *self);
/* An interim answer (1xx): copied; dropped unless the client speaks 1.1 or 2 and no response
 * hook may still choose another. */
void exch_interim(struct exchange *ex, const struct head *h);
/* Notes where an origin is; sa NULL: stays as it is. */
void exch_addr_set(struct exch_addr *to, const struct sockaddr *sa);
/* 101: from now on raw bytes both ways (the answer's head still passes the response filters). */
void exch_tunnel(struct exchange *ex);

/* In a head hook, before returning WAIT: resume me when the body is complete. It then lies in leg->held, and may be replaced. The limit
 * exceeded: 413 (request) or 500 (response), and the filter is not resumed. limit 0: the configured or default one. */
void exch_gather(struct exchange *ex, enum leg_kind leg, size_t limit);
/* The whole body is there, in leg->held (for the filter that has the head). Gathers what has
 * arrived first. */
bool exch_gathered(struct exchange *ex, enum leg_kind leg);
/* Body bytes have already arrived at the filter that has the head. */
struct chain *exch_held(struct exchange *ex, enum leg_kind leg);
/* The body hook of f is called for this leg from now on (call it in the head hook). */
void exch_watch_body(struct exchange *ex, const struct filter_cfg *f, enum leg_kind leg);
void exch_unwatch_body(struct exchange *ex, const struct filter_cfg *f, enum leg_kind leg);
/* Replaces the gathered body (moved); size and framing follow. */
void exch_replace_body(struct exchange *ex, enum leg_kind leg, struct chain *bytes);

/* Route: computed on first use; NULL route: none matched. */
const struct route *exch_route(struct exchange *ex);
void exch_clear_route(struct exchange *ex);
static inline struct leg *exch_leg(struct exchange *ex, enum leg_kind k)
{
	return k == LEG_REQUEST ? &ex->req : &ex->resp;
}
static inline void exch_guest_add(struct exch_env *env, struct exch_guest *g)
{
	g->next = env->guests;
	g->at = &env->guests;
	if (g->next)
		g->next->at = &g->next;
	env->guests = g;
}
static inline void exch_guest_remove(struct exch_guest *g)
{
	*g->at = g->next;
	if (g->next)
		g->next->at = g->at;
}
/* Frees what env keeps for exchanges; none may be active. */
void exch_env_fini(struct exch_env *env);
/* By number and generation (scripts): NULL when it is over. */
struct exchange *exch_find(struct exch_env *env, uint64_t number);
