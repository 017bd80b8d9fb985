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
