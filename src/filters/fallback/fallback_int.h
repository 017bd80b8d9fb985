/* src/filters/fallback/fallback_int.h: what the files of this filter share. */
#pragma once
#include "exchange/exchange.h"
#include "filters/fallback/policy.h"
#include "filters/fallback/replay.h"
#include "filters/fallback/report.h"
#include "obs/stats.h"
#include "upstream/call.h"
#include <stdatomic.h>

enum { FB_ORIGINS = 8, FB_OVERRIDES = 32, FB_STATUSES = 640, FB_SERVED_CODES = 500 };

/* A set of statuses 0 .. 639. */
struct statuses {
	uint64_t bits[FB_STATUSES / 64];
};
static inline bool statuses_has(const struct statuses *s, unsigned status)
{
	return status < FB_STATUSES && s->bits[status / 64] >> (status % 64) & 1;
}

enum served {
	SERVED_PRIMARY,
	SERVED_FALLBACK,
	SERVED_OVERRIDE,
	SERVED_DIRECT,
	SERVED_BOTH_MISS,
	SERVED_DEGRADED,
	SERVED_ERROR,
	SERVED
};
extern const char *const served_names[SERVED]; /* in statistics and log lines */

/* ---- shared.c: what all workers, and the models that follow one another, share; by policy name */

struct misses; /* memory.c */
struct top;    /* top.c */
struct fb_shared {
	struct fb_shared *next;
	unsigned refs; /* under the lock of shared.c */
	struct str name;
	atomic_uint inflight, waiting;  /* requests to fallbacks */
	atomic_uint failures;           /* in a row, to connect */
	_Atomic uint64_t open_until_us; /* breaker; 0: closed */
	_Atomic uint64_t held;          /* bytes promised to held answers */
	_Atomic uint64_t asked,
		wasted; /* hint_budget: requests to fallbacks, those of them that were cancelled; halved now and then */
	atomic_uint chance, shadows;      /* shadow.c: running number; under way */
	struct misses *misses;            /* NULL: none */
	struct top *top, *both, *differs; /* NULL: none */
	stat_id seconds_primary, seconds_fallback, held_bytes, spooled_bytes, inflight_now,
		hints_right, hints_wrong, loops, shadow_same, shadow_differs;
	struct call_discard loser; /* the counters */
	_Atomic stat_id
		responses[SERVED][FB_SERVED_CODES]; /* of 100 .. 599; made when first needed */
};
/* NULL: no memory. entries, paths: 0 none; the first who asks decides. */
struct fb_shared *shared_open(struct str name, unsigned entries, unsigned paths);
void shared_close(struct fb_shared *s);
void shared_count(struct fb_shared *s, enum served what, unsigned status);

/* ---- memory.c: which paths the primary, or both, are known to lack */

enum fact { FACT_MISS = 1, FACT_BOTH = 2 };
struct misses *misses_new(unsigned entries, stat_id gauge);
void misses_free(struct misses *m);
/* now in us. */
bool misses_knows(struct misses *m, enum fact f, struct str authority, struct str path,
		  uint64_t now);
void misses_learn(struct misses *m, enum fact f, struct str authority, struct str path,
		  uint64_t now, uint64_t ttl_us);
void misses_drop(struct misses *m, enum fact f, struct str authority, struct str path);
/* All below a path prefix; "": all. */
void misses_forget(struct misses *m, struct str prefix, uint64_t now);

/* ---- top.c: the most frequent paths in fixed memory (Space-Saving) */

struct top *top_new(unsigned counters);
void top_free(struct top *t);
void top_add(struct top *t, struct str path, unsigned status, uint64_t wall_us);
/* At most n rows, most frequent first, into an array of the caller's; texts are copied into
 * arena. */
unsigned top_read(struct top *t, struct top_row *rows, unsigned n, struct arena *arena,
		  uint64_t *since);

/* ---- config.c */

enum fb_method { METHOD_DIRECT, METHOD_TRY_PRIMARY, METHOD_PRIMARY_ONLY };
enum memory_mode { MEMORY_OFF, MEMORY_HINT, MEMORY_TRUST };
enum { COMPARE_STATUS = 1, COMPARE_HEADERS = 2, COMPARE_BODY = 4 };

struct fb_origin {
	const struct cluster_cfg *cluster;
	uint64_t header_timeout_us;
	struct str host; /* .p NULL: the client's */
	struct statuses keep;
};
struct fb_override {
	enum { OVER_QUERY, OVER_COOKIE, OVER_HEADER } kind;
	struct str name;
	bool present;
	struct string_match match;
};
struct fb_method_row {
	struct str name;
	enum fb_method how;
};
struct fb_cfg {
	bool is_route; /* first: config.c tells its two kinds apart by it */
	bool disabled;
	bool quick; /* a plain GET needs no state of its own before the primary has answered */
	struct fb_origin origins[FB_ORIGINS];
	unsigned norigins;
	struct statuses trigger, try_trigger;
	bool ask_on_failure, error_on_failure;
	unsigned degraded_status;
	uint64_t retry_after_us;
	struct fb_override *overrides;
	unsigned noverrides;
	bool header_overrides; /* one of them looks at a header */
	enum fb_method other_methods;
	struct fb_method_row *methods;
	unsigned nmethods;
	uint64_t memory_bytes, spool_bytes;
	const char *directory;
	uint64_t hold_bytes, hold_total, drain_bytes;
	enum memory_mode memory;
	uint64_t miss_ttl_us, both_ttl_us, hedge_us;
	unsigned max_entries, hint_budget;
	struct str *private_cookies;
	unsigned nprivate_cookies;
	unsigned max_inflight;
	unsigned breaker_failures;
	uint64_t breaker_open_us;
	bool ignore_since, mark_request;
	struct str *rewrite;
	unsigned nrewrite;
	unsigned shadow_percent, shadow_compare;
	struct str served_by; /* .p NULL: off */
	struct str policy;
	unsigned top_paths;
	struct fb_shared *shared;
	struct str *own; /* addresses of this machine, without port, for the loop guard */
	unsigned nown;
};
/* The configuration that holds for this exchange's route. */
const struct fb_cfg *config_of_route(struct exchange *ex, const struct filter_cfg *self);
static inline const struct fb_cfg *config_for(struct exchange *ex, const struct filter_cfg *self)
{
	const struct route *r = ex->route;
	if (__builtin_expect(!r || (!r->per_filter && !(ex->weighted && ex->weighted->per_filter)),
			     1))
		return self->config;
	return config_of_route(ex, self);
}
void *config_compile_fallback(struct compile *c, const struct doc *d);
void *config_compile_route(struct compile *c, const struct doc *d);
void config_free(void *config);

/* ---- match.c */

/* Which condition holds: a query's, a cookie's or header's, none. */
enum override_by { OVERRIDE_NONE, OVERRIDE_QUERY, OVERRIDE_OTHER };
enum override_by override_of(const struct fb_cfg *cfg, const struct exchange *ex);
bool has_private_cookie(const struct fb_cfg *cfg, const struct head *h);
/* The request says that it wants nothing remembered. */
bool no_cache(const struct head *h);
/* Names of origins in Location, Content-Location, Refresh and cookies' Domain become the
 * client's. False: no memory. */
bool rewrite_origins(const struct fb_cfg *cfg, const struct exchange *ex, struct head *answer);
/* An endpoint that leads back to this very policy; NULL: it does not. */
const char *loop_refused(const struct call_request *rq, const struct sockaddr *to);
/* Says so at load time where the endpoints are addresses. */
void loop_verify(const struct filter_cfg *self, const struct model *m, struct diags *d);

/* ---- shadow.c */

/* Of a sample of hits: asks the fallback too and compares. NULL: not this one. resp.head is the
 * primary's. */
struct shadow;
struct shadow *shadow_start(struct exchange *ex, const struct fb_cfg *cfg,
			    const struct head *request);
/* A piece of the primary's body. */
void shadow_body(struct shadow *s, const struct chain *batch);
/* The client's exchange is over; complete: its answer was whole. s goes on by itself. */
void shadow_leave(struct shadow *s, bool complete);

/* ---- fallback.c: one exchange */

/* An exchange that is no plain hit. In its arena. */
struct fb {
	struct exchange *ex;
	const struct filter_cfg *self;
	const struct fb_cfg *cfg;
	struct policy policy;
	enum served alone; /* what a fallback that is asked alone counts as; SERVED: it is not */
	const struct head *client; /* the request before the router changed it; NULL: it does not */
	/* the fallback asked now */
	struct call *call;
	unsigned which;
	uint64_t asked_us, due_us; /* due: of its head */
	uint64_t taken;            /* bytes of the request, when too_late looked last */
	enum failure_kind why;     /* of the last that failed */
	bool asked;                /* one was, at least */
	bool queued;               /* max_inflight is reached */
	bool unable;               /* it could not even be called */
	bool counted;              /* in shared->inflight */
	bool answered;             /* its head was told to the policy */
	bool failed;               /* one of those before it did not answer */
	bool handed;               /* it is what the client gets */
	bool breaks;               /* and breaks off */
	/* the request's body */
	struct replay replay;
	struct chain rest; /* behind what replay has, for the fallback only */
	bool keeping;      /* replay is in use */
	bool direct;       /* nothing more is added to it */
	bool spent; /* something of what came behind it is gone: nobody else can have the whole body */
	bool request_ended; /* keeping: all of it has come */
	bool request_sent;
	bool cut;            /* the primary's page ends here, visibly */
	bool broke_told;     /* the held page broke off, and the policy knows */
	bool waits_request;  /* this filter has the request's head */
	bool private_answer; /* chosen by something that is not in the URL */
	bool hinted;         /* asked before the primary had spoken */
	bool remembers;      /* what happens may be remembered */
	bool both_known;     /* remembered: nobody has it */
	bool over;
	struct shadow *shadow;
	uint64_t reserved; /* of hold_total_bytes */
	uint64_t continue_us, hedge_us, queue_us;
	struct timer timer;
	struct task task;
};

static inline uint64_t fb_now(const struct fb *fb)
{
	return loop_now_us(fb->ex->env->loop);
}
/* Something happened: this filter looks at it in phase 3. */
void fb_mark(struct fb *fb);
/* The timer, to the nearest of what is waited for. */
void fb_arm(struct fb *fb);
/* Tells the policy of ev (NOTHING_NEW: of what the fallback did) and does what it says, until nothing is new. */
enum { NOTHING_NEW = -1 };
enum verdict fb_drive(struct fb *fb, int ev);
/* both: the fallback is asked at the same time. */
static inline enum policy_start fb_start_of(const struct fb_cfg *cfg, bool both)
{
	if (both)
		return cfg->ask_on_failure ? START_BOTH_ANY : START_BOTH;
	return cfg->ask_on_failure ? START_PRIMARY_ANY : START_PRIMARY;
}

/* ---- ask.c: the call to the fallback */

/* Calls the fallback; what goes wrong is seen by fb_news. */
void fb_ask(struct fb *fb);
/* What the fallback did, as an event of the policy's, or NOTHING_NEW. */
int fb_news(struct fb *fb);
/* It failed: the next one is asked (NOTHING_NEW), or the event that says so. */
int fb_went_wrong(struct fb *fb, enum failure_kind why);
/* The fallback's answer is not wanted. */
void fb_lose_call(struct fb *fb);
/* Its place among max_inflight, or in the queue for one. */
void fb_release_slot(struct fb *fb);
/* What becomes of a losing answer. */
struct call_discard fb_discard_of(const struct fb_cfg *cfg);
/* A copy of the head whose fields may be changed; names and values stay where they are. NULL: no memory. */
struct head *fb_copy_head(struct exchange *ex, const struct head *from);

/* ---- body.c: the request's body */

/* The primary is asked first, and its request's body kept. */
void fb_keep_body(struct fb *fb);
/* A piece of a kept body, on its way to the primary. */
enum verdict fb_body_came(struct fb *fb, struct chain *batch, bool end);
/* The body is of no more use to this filter. */
void fb_stop_keeping(struct fb *fb);
/* What there is of it goes to the fallback, as far as the call has room. */
void fb_pump_request(struct fb *fb);
/* 100 of ours, when the fallback has not said it in time. */
void fb_say_continue(struct fb *fb);

/* ---- answer.c: what goes to the client */

/* The primary's page, until the fallback has spoken: as much of it as may be. */
void fb_hold(struct fb *fb);
void fb_release_hold(struct fb *fb);
/* The fallback's answer is what the client gets. False: no memory. */
bool fb_deliver(struct fb *fb);
/* Its body, as it comes. */
void fb_pump_answer(struct fb *fb);
/* The primary's answer, or the router's for it, goes on. */
enum verdict fb_send_primary(struct fb *fb, enum served served);
/* An answer of ours in place of the primary's. */
enum verdict fb_fail(struct fb *fb, enum failure_kind why);

/* ---- hints.c: what is remembered, and what follows from it */

/* GET or HEAD: what is remembered decides who is asked first. */
enum verdict fb_consult(struct fb *fb);
/* What the answer that was chosen teaches. */
void fb_remember(struct fb *fb, enum served served);
/* A hint costs a request that nobody wanted, or saves time. */
void fb_settle_hint(struct fb *fb, bool right);
/* The exchange may have published something: then its path is not missing any more. */
void fb_forget_written(struct fb *fb);

/* ---- marks.c: who is told which answer it was */

/* The field on the answer, dynamic metadata. False: no memory. */
bool fb_account_more(struct exchange *ex, const struct fb_cfg *cfg, enum served served);
/* For /fallback/top. */
void fb_note_paths(struct fb *fb, enum served served);
static inline bool fb_has_others(const struct exchange *ex)
{
	return ex->nfilters > 2;
}
/* The mark on the answer, the counters, the log's facts. False: no memory. Inline: of a plain hit it is all there is to do. */
static inline bool fb_account(struct exchange *ex, const struct fb_cfg *cfg, enum served served)
{
	ex->fallback.served = served_names[served];
	shared_count(cfg->shared, served, ex->resp.head.status);
	return (!cfg->served_by.p && !fb_has_others(ex)) || fb_account_more(ex, cfg, served);
}
