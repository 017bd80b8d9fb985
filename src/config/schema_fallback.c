/* src/config/schema_fallback.c: the fallback policy's messages, our own. Durations are texts:
 * "5s", "150ms", "10m". */
#include "config/schema_int.h"

static const char *const e_on_primary[] = {"PASS", "FALLBACK", NULL};
static const char *const e_on_fallback[] = {"KEEP", "ERROR", NULL};
static const char *const e_method[] = {"DIRECT", "TRY_PRIMARY", "PRIMARY_ONLY", NULL};
static const char *const e_memory[] = {"OFF", "HINT", "TRUST", NULL};
static const char *const e_compare[] = {"status", "headers", "body", NULL};

static const struct schema_field fallback_origin_fields[] = {
	F(1, cluster, TYPE(STRING)), F(2, header_timeout, TYPE(STRING)),
	F(3, host_rewrite, TYPE(STRING)), F(4, keep_primary, LIST, TYPE(UINT32)), END};
MESSAGE(fallback_origin, "postern.filters.http.fallback.v1.Fallback.Origin");

static const struct schema_field fallback_match_fields[] = {
	F(1, name, TYPE(STRING)),
	F(2, exact, TYPE(STRING), ONEOF(1)),
	F(3, prefix, TYPE(STRING), ONEOF(1)),
	F(4, present, TYPE(BOOL), ONEOF(1)),
	F(5, safe_regex, MSG(regex_matcher), ONEOF(1)),
	END};
MESSAGE(fallback_match, "postern.filters.http.fallback.v1.Fallback.Match");

static const struct schema_field fallback_override_fields[] = {
	F(1, query, MSG(fallback_match), ONEOF(1)), F(2, cookie, MSG(fallback_match), ONEOF(1)),
	F(3, header, MSG(fallback_match), ONEOF(1)), END};
MESSAGE(fallback_override, "postern.filters.http.fallback.v1.Fallback.Override");

static const struct schema_field fallback_body_fields[] = {F(1, memory_bytes, TYPE(UINT64)),
							   F(2, spool_bytes, TYPE(UINT64)),
							   F(3, directory, TYPE(STRING)), END};
MESSAGE(fallback_body, "postern.filters.http.fallback.v1.Fallback.RequestBody");

static const struct schema_field fallback_memory_fields[] = {
	F(1, mode, ENUM(e_memory)),
	F(2, miss_ttl, TYPE(STRING)),
	F(3, both_miss_ttl, TYPE(STRING)),
	F(4, max_entries, TYPE(UINT32)),
	F(5, hedge_after, TYPE(STRING)),
	F(6, hint_budget, TYPE(UINT32)),
	F(7, never_remember_cookies, LIST, TYPE(STRING)),
	END};
MESSAGE(fallback_memory, "postern.filters.http.fallback.v1.Fallback.Memory");

static const struct schema_field fallback_breaker_fields[] = {F(1, failures, TYPE(UINT32)),
							      F(2, open, TYPE(STRING)), END};
MESSAGE(fallback_breaker, "postern.filters.http.fallback.v1.Fallback.Breaker");

static const struct schema_field fallback_shadow_fields[] = {
	F(1, percent, TYPE(UINT32)), F(2, compare, LIST, ENUM(e_compare)), END};
MESSAGE(fallback_shadow, "postern.filters.http.fallback.v1.Fallback.Shadow");

/* clang-format off */
#define COMMON \
	F(1, fallbacks, LIST, MSG(fallback_origin)), \
	F(2, trigger, LIST, TYPE(UINT32)), \
	F(3, on_primary_failure, ENUM(e_on_primary)), \
	F(4, on_fallback_failure, ENUM(e_on_fallback)), \
	F(5, degraded_status, TYPE(UINT32)), \
	F(6, retry_after, TYPE(STRING)), \
	F(7, override, LIST, MSG(fallback_override)), \
	F(8, other_methods, ENUM(e_method)), \
	F(9, methods, MAP, ENUM(e_method)), \
	F(10, try_trigger, LIST, TYPE(UINT32)), \
	F(11, request_body, MSG(fallback_body)), \
	F(12, hold_bytes, TYPE(UINT64)), \
	F(13, hold_total_bytes, TYPE(UINT64)), \
	F(14, drain_bytes, TYPE(UINT64)), \
	F(15, memory, MSG(fallback_memory)), \
	F(16, max_inflight, TYPE(UINT32)), \
	F(17, breaker, MSG(fallback_breaker)), \
	F(18, ignore_if_modified_since, TYPE(BOOL)), \
	F(19, rewrite_location, LIST, TYPE(STRING)), \
	F(20, preset, TYPE(STRING)), \
	F(21, shadow, MSG(fallback_shadow)), \
	F(22, served_by_header, TYPE(STRING)), \
	F(23, mark_request, TYPE(BOOL))
/* clang-format on */

static const struct schema_field fallback_fields[] = {COMMON, F(24, stat_prefix, TYPE(STRING)),
						      F(25, top_paths, TYPE(UINT32)), END};
MESSAGE(fallback, "postern.filters.http.fallback.v1.Fallback");

static const struct schema_field fallback_route_fields[] = {
	COMMON,
	F(24, stat_prefix, TYPE(STRING), REFUSED("one policy has one name, whatever the route")),
	F(25, top_paths, TYPE(UINT32),
	  REFUSED("one policy has one list of paths, whatever the route")),
	F(26, disabled, TYPE(BOOL)), END};
MESSAGE(fallback_route, "postern.filters.http.fallback.v1.FallbackPerRoute");
