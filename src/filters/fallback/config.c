/* src/filters/fallback/config.c: postern.filters.http.fallback.v1.Fallback and FallbackPerRoute
 * (spec/fallback.md 22). */
#include "base/mem.h"
#include "filters/fallback/fallback_int.h"
#include "model/regex.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

/* A route's message: which of its fields are there decides what replaces the filter's own. */
struct fb_route {
	bool is_route; /* first, as in fb_cfg */
	const struct doc *doc;
	struct fb_cfg said; /* what doc says, where it says something */
	pthread_mutex_t lock;
	_Atomic(struct merged *) merged;
};
struct merged { /* over one filter's own; made when first needed */
	struct merged *next;
	const struct fb_cfg *base;
	struct fb_cfg cfg;
};

/* ---- reading */

static uint64_t uint_of(struct compile *c, const struct doc *d, const char *field, uint64_t absent,
			uint64_t min, uint64_t max)
{
	const struct doc *f = doc_field(d, field);
	uint64_t v;
	if (!f || f->kind == DOC_NULL)
		return absent;
	bool ok = (f->kind == DOC_NUMBER && f->is_int && f->integer >= 0) || f->kind == DOC_STRING;
	v = f->kind == DOC_NUMBER ? (uint64_t)f->integer : 0;
	if (ok && f->kind == DOC_STRING)
		ok = str_u64(f->text, &v);
	if (ok && v >= min && v <= max)
		return v;
	diag_add(c->diags, DIAG_ERROR, f, "%s must be a number from %llu to %llu", field,
		 (unsigned long long)min, (unsigned long long)max);
	return absent;
}

static bool bool_of(const struct doc *d, const char *field, bool absent)
{
	const struct doc *f = doc_field(d, field);
	return f && f->kind == DOC_BOOL ? f->boolean : absent;
}

/* "5s", "0.25s", "150ms", "10m", "1h". */
static uint64_t time_of(struct compile *c, const struct doc *d, const char *field,
			uint64_t absent_us)
{
	const struct doc *f = doc_field(d, field);
	if (!f || f->kind == DOC_NULL)
		return absent_us;
	char b[32], *end;
	if (f->kind == DOC_STRING && f->text.n && f->text.n < sizeof b && f->text.p[0] >= '0' &&
	    f->text.p[0] <= '9') {
		memcpy(b, f->text.p, f->text.n);
		b[f->text.n] = 0;
		double v = strtod(b, &end);
		double unit = strcmp(end, "s") == 0    ? 1e6
			      : strcmp(end, "ms") == 0 ? 1e3
			      : strcmp(end, "m") == 0  ? 6e7
			      : strcmp(end, "h") == 0  ? 3.6e9
						       : 0;
		if (unit > 0 && v >= 0 && v * unit < 1e16)
			return (uint64_t)(v * unit + 0.5);
	}
	diag_add(c->diags, DIAG_ERROR, f, "%s must be a duration: \"5s\", \"150ms\", \"10m\"",
		 field);
	return absent_us;
}

/* Copied; .p NULL when absent or empty. */
static struct str text_of(struct compile *c, const struct doc *d, const char *field)
{
	const struct doc *f = doc_field(d, field);
	if (!f || f->kind != DOC_STRING || f->text.n == 0)
		return (struct str){NULL, 0};
	struct str s = arena_str(c->arena, f->text);
	return s;
}

static unsigned enum_of(struct compile *c, const struct doc *f, const char *const *names,
			unsigned absent)
{
	if (!f || f->kind == DOC_NULL)
		return absent;
	for (unsigned i = 0; names[i]; i++)
		if (str_eq(f->text, str_of(names[i])) ||
		    (f->kind == DOC_NUMBER && f->is_int && f->integer == (int64_t)i))
			return i;
	diag_add(c->diags, DIAG_ERROR, f, "\"%.*s\" is unknown", STR_ARG(f->text));
	const char *near = diag_nearest(f->text, names);
	if (near)
		diag_hint(c->diags, "%s", near);
	return absent;
}

static void statuses_of(struct compile *c, const struct doc *d, const char *field,
			struct statuses *out)
{
	const struct doc *f = doc_field(d, field);
	if (!f || f->kind != DOC_LIST)
		return;
	memset(out, 0, sizeof *out);
	doc_each (e, f) {
		if (e->kind != DOC_NUMBER || !e->is_int || e->integer < 200 || e->integer > 599)
			diag_add(c->diags, DIAG_ERROR, e, "%s: a status from 200 to 599", field);
		else
			out->bits[e->integer / 64] |= 1ull << (e->integer % 64);
	}
}

static void add_status(struct statuses *s, unsigned status)
{
	s->bits[status / 64] |= 1ull << (status % 64);
}

static struct str *texts_of(struct compile *c, const struct doc *d, const char *field,
			    struct str *absent, unsigned *n)
{
	const struct doc *f = doc_field(d, field);
	if (!f || f->kind != DOC_LIST)
		return absent;
	struct str *out = arena_zalloc(c->arena, (f->n + 1) * sizeof *out);
	*n = 0;
	doc_each (e, f)
		if (out && e->kind == DOC_STRING)
			out[(*n)++] = arena_str(c->arena, e->text);
	return out;
}

/* ---- the parts */

static void origins_of(struct compile *c, const struct doc *d, struct fb_cfg *cfg)
{
	const struct doc *list = doc_field(d, "fallbacks");
	if (!list || list->kind != DOC_LIST)
		return;
	cfg->norigins = 0;
	doc_each (e, list) {
		if (cfg->norigins == FB_ORIGINS) {
			diag_add(c->diags, DIAG_ERROR, e, "more than %d fallbacks", FB_ORIGINS);
			return;
		}
		struct fb_origin *o = &cfg->origins[cfg->norigins++];
		*o = (struct fb_origin){0};
		add_status(&o->keep, 404);
		statuses_of(c, e, "keep_primary", &o->keep);
		o->header_timeout_us = time_of(c, e, "header_timeout", 5000000);
		o->host = text_of(c, e, "host_rewrite");
		const struct doc *name = doc_field(e, "cluster");
		if (!name || name->kind != DOC_STRING || !name->text.n) {
			diag_add(c->diags, DIAG_ERROR, name ? name : e,
				 "cluster must name the fallback's cluster");
			continue;
		}
		o->cluster = cluster_find(c->model, name->text);
		if (o->cluster)
			continue;
		const char *names[257];
		unsigned n = 0;
		for (unsigned i = 0; i < c->model->nclusters && n < 256; i++)
			names[n++] = arena_strz(c->arena, c->model->clusters[i]->name);
		names[n] = NULL;
		diag_add(c->diags, DIAG_ERROR, name, "unknown cluster \"%.*s\"",
			 STR_ARG(name->text));
		const char *near = diag_nearest(name->text, names);
		if (near)
			diag_hint(c->diags, "%s", near);
	}
	if (cfg->norigins == 0)
		diag_add(c->diags, DIAG_ERROR, list, "fallbacks must name at least one cluster");
}

static void free_regex(void *r)
{
	regex_free(r);
}

static bool match_of(struct compile *c, const struct doc *d, struct fb_override *o)
{
	const struct doc *f;
	char err[256];
	o->name = text_of(c, d, "name");
	if (!o->name.p) {
		diag_add(c->diags, DIAG_ERROR, d, "name is missing");
		return false;
	}
	if ((f = doc_field(d, "exact"))) {
		o->match = (struct string_match){.kind = STRING_EXACT,
						 .text = arena_str(c->arena, f->text)};
	} else if ((f = doc_field(d, "prefix"))) {
		o->match = (struct string_match){.kind = STRING_PREFIX,
						 .text = arena_str(c->arena, f->text)};
	} else if ((f = doc_field(d, "safe_regex"))) {
		const struct doc *r = f->kind == DOC_MAP ? doc_field(f, "regex") : f;
		struct regex *re = r ? regex_new(r->text, err, sizeof err) : NULL;
		if (!re || !model_on_free(c->model, free_regex, re)) {
			diag_add(c->diags, DIAG_ERROR, r ? r : f, "%s",
				 re  ? "no memory"
				 : r ? err
				     : "regex is missing");
			regex_free(re);
			return false;
		}
		o->match = (struct string_match){.kind = STRING_REGEX, .regex = re};
	} else {
		o->present = true;
	}
	return true;
}

static void overrides_of(struct compile *c, const struct doc *d, struct fb_cfg *cfg)
{
	const struct doc *list = doc_field(d, "override");
	if (!list || list->kind != DOC_LIST)
		return;
	if (list->n > FB_OVERRIDES) {
		diag_add(c->diags, DIAG_ERROR, list, "more than %d overrides", FB_OVERRIDES);
		return;
	}
	cfg->noverrides = 0;
	cfg->overrides = arena_zalloc(c->arena, (list->n + 1) * sizeof *cfg->overrides);
	if (!cfg->overrides)
		return;
	doc_each (e, list) {
		static const char *const kinds[] = {"query", "cookie", "header"};
		for (unsigned i = 0; i < 3; i++) {
			const struct doc *m = doc_field(e, kinds[i]);
			struct fb_override *o = &cfg->overrides[cfg->noverrides];
			if (!m)
				continue;
			o->kind = (int)i;
			if (match_of(c, m, o))
				cfg->noverrides++;
			break;
		}
	}
}

static const char *const method_names[] = {"DIRECT", "TRY_PRIMARY", "PRIMARY_ONLY", NULL};

static void methods_of(struct compile *c, const struct doc *d, struct fb_cfg *cfg)
{
	const struct doc *map = doc_field(d, "methods");
	cfg->other_methods = (enum fb_method)enum_of(c, doc_field(d, "other_methods"), method_names,
						     cfg->other_methods);
	if (!map || map->kind != DOC_MAP)
		return;
	cfg->nmethods = 0;
	cfg->methods = arena_zalloc(c->arena, (map->n + 1) * sizeof *cfg->methods);
	if (!cfg->methods)
		return;
	doc_each (e, map) {
		if (!field_name_ok(e->key))
			diag_add(c->diags, DIAG_ERROR, e, "not the name of a method");
		else
			cfg->methods[cfg->nmethods++] = (struct fb_method_row){
				arena_str(c->arena, e->key),
				(enum fb_method)enum_of(c, e, method_names, METHOD_DIRECT)};
	}
}

static void memory_of(struct compile *c, const struct doc *d, struct fb_cfg *cfg)
{
	static const char *const modes[] = {"OFF", "HINT", "TRUST", NULL};
	const struct doc *m = doc_field(d, "memory");
	if (!m || m->kind != DOC_MAP)
		return;
	cfg->memory = (enum memory_mode)enum_of(c, doc_field(m, "mode"), modes, cfg->memory);
	cfg->miss_ttl_us = time_of(c, m, "miss_ttl", cfg->miss_ttl_us);
	cfg->both_ttl_us = time_of(c, m, "both_miss_ttl", cfg->both_ttl_us);
	cfg->max_entries = (unsigned)uint_of(c, m, "max_entries", cfg->max_entries, 64, 1u << 26);
	cfg->hedge_us = time_of(c, m, "hedge_after", cfg->hedge_us);
	cfg->hint_budget = (unsigned)uint_of(c, m, "hint_budget", cfg->hint_budget, 0, 100);
	cfg->private_cookies = texts_of(c, m, "never_remember_cookies", cfg->private_cookies,
					&cfg->nprivate_cookies);
	if (cfg->memory != MEMORY_OFF && !cfg->miss_ttl_us && !cfg->both_ttl_us)
		diag_add(c->diags, DIAG_WARNING, m,
			 "nothing is remembered for longer than 0s: set miss_ttl or both_miss_ttl");
}

static void shadow_of(struct compile *c, const struct doc *d, struct fb_cfg *cfg)
{
	static const char *const what[] = {"status", "headers", "body", NULL};
	const struct doc *s = doc_field(d, "shadow"), *list = doc_field(s, "compare");
	if (!s || s->kind != DOC_MAP)
		return;
	cfg->shadow_percent = (unsigned)uint_of(c, s, "percent", cfg->shadow_percent, 0, 100);
	if (list && list->kind == DOC_LIST) {
		cfg->shadow_compare = 0;
		doc_each (e, list)
			cfg->shadow_compare |= 1u << enum_of(c, e, what, 0);
	}
}

/* Fields that are there replace what cfg has. */
static void fields_of(struct compile *c, const struct doc *d, struct fb_cfg *cfg)
{
	static const char *const on_primary[] = {"PASS", "FALLBACK", NULL};
	static const char *const on_fallback[] = {"KEEP", "ERROR", NULL};
	const struct doc *f;
	struct stat st;
	cfg->disabled = bool_of(d, "disabled", cfg->disabled);
	struct str preset = text_of(c, d, "preset");
	if (preset.p && !str_eq(preset, STR("s3_website"))) {
		diag_add(c->diags, DIAG_ERROR, doc_field(d, "preset"),
			 "unknown preset \"%.*s\"; there is s3_website", STR_ARG(preset));
		preset.p = NULL;
	}
	origins_of(c, d, cfg);
	statuses_of(c, d, "trigger", &cfg->trigger);
	statuses_of(c, d, "try_trigger", &cfg->try_trigger);
	if (preset.p) {
		add_status(&cfg->trigger, 403);
		add_status(&cfg->try_trigger, 400);
	}
	cfg->ask_on_failure =
		enum_of(c, doc_field(d, "on_primary_failure"), on_primary, cfg->ask_on_failure);
	cfg->error_on_failure =
		enum_of(c, doc_field(d, "on_fallback_failure"), on_fallback, cfg->error_on_failure);
	cfg->degraded_status =
		(unsigned)uint_of(c, d, "degraded_status", cfg->degraded_status, 400, 599);
	cfg->retry_after_us = time_of(c, d, "retry_after", cfg->retry_after_us);
	overrides_of(c, d, cfg);
	methods_of(c, d, cfg);
	if ((f = doc_field(d, "request_body")) && f->kind == DOC_MAP) {
		cfg->memory_bytes = uint_of(c, f, "memory_bytes", cfg->memory_bytes, 0, 1u << 30);
		cfg->spool_bytes = uint_of(c, f, "spool_bytes", cfg->spool_bytes, 0, 1ull << 40);
		struct str dir = text_of(c, f, "directory");
		if (dir.p) {
			cfg->directory = arena_strz(c->arena, dir);
			if (!cfg->directory || stat(cfg->directory, &st) || !S_ISDIR(st.st_mode))
				diag_add(c->diags, DIAG_ERROR, doc_field(f, "directory"),
					 "%.*s is no folder", STR_ARG(dir));
		}
	}
	cfg->hold_bytes = uint_of(c, d, "hold_bytes", cfg->hold_bytes, 0, 1u << 30);
	cfg->hold_total = uint_of(c, d, "hold_total_bytes", cfg->hold_total, 0, 1ull << 40);
	cfg->drain_bytes = uint_of(c, d, "drain_bytes", cfg->drain_bytes, 0, 1u << 30);
	memory_of(c, d, cfg);
	cfg->max_inflight = (unsigned)uint_of(c, d, "max_inflight", cfg->max_inflight, 0, 1000000);
	if ((f = doc_field(d, "breaker")) && f->kind == DOC_MAP) {
		cfg->breaker_failures =
			(unsigned)uint_of(c, f, "failures", cfg->breaker_failures, 0, 1000000);
		cfg->breaker_open_us = time_of(c, f, "open", cfg->breaker_open_us);
	}
	cfg->ignore_since = bool_of(d, "ignore_if_modified_since", cfg->ignore_since);
	cfg->mark_request = bool_of(d, "mark_request", cfg->mark_request);
	cfg->rewrite = texts_of(c, d, "rewrite_location", cfg->rewrite, &cfg->nrewrite);
	shadow_of(c, d, cfg);
	if (doc_field(d, "served_by_header")) {
		cfg->served_by = text_of(c, d, "served_by_header");
		if (cfg->served_by.p && !field_name_ok(cfg->served_by))
			diag_add(c->diags, DIAG_ERROR, doc_field(d, "served_by_header"),
				 "not the name of a header");
	}
}

static void settle(struct fb_cfg *cfg)
{
	cfg->header_overrides = false;
	for (unsigned i = 0; i < cfg->noverrides; i++)
		cfg->header_overrides |= cfg->overrides[i].kind == OVER_HEADER;
	cfg->quick = cfg->memory == MEMORY_OFF && !cfg->hedge_us && !cfg->ignore_since &&
		     !cfg->shadow_percent;
}

/* This machine's addresses: what a listener on 0.0.0.0 stands for. */
static void own_addresses(struct compile *c, struct fb_cfg *cfg)
{
	struct ifaddrs *all = NULL;
	unsigned n = 0;
	if (getifaddrs(&all))
		return;
	for (struct ifaddrs *a = all; a; a = a->ifa_next)
		n++;
	cfg->own = n ? arena_zalloc(c->arena, n * sizeof *cfg->own) : NULL;
	for (struct ifaddrs *a = all; a && cfg->own; a = a->ifa_next) {
		if (!a->ifa_addr)
			continue;
		if (a->ifa_addr->sa_family == AF_INET)
			cfg->own[cfg->nown++] = arena_str(
				c->arena,
				(struct str){(char *)&((struct sockaddr_in *)(void *)a->ifa_addr)
						     ->sin_addr,
					     4});
		else if (a->ifa_addr->sa_family == AF_INET6)
			cfg->own[cfg->nown++] = arena_str(
				c->arena,
				(struct str){(char *)&((struct sockaddr_in6 *)(void *)a->ifa_addr)
						     ->sin6_addr,
					     16});
	}
	freeifaddrs(all);
}

void *config_compile_fallback(struct compile *c, const struct doc *d)
{
	static struct str login[1];
	login[0] = STR("wordpress_logged_in_");
	struct fb_cfg *cfg = arena_zalloc(c->arena, sizeof *cfg);
	if (!cfg)
		return NULL;
	cfg->degraded_status = 404;
	cfg->memory_bytes = 65536;
	cfg->spool_bytes = 33554432;
	cfg->hold_bytes = 65536;
	cfg->hold_total = 67108864;
	cfg->drain_bytes = 131072;
	cfg->max_entries = 65536;
	cfg->hint_budget = 10;
	cfg->private_cookies = login;
	cfg->nprivate_cookies = 1;
	cfg->breaker_open_us = 1000000;
	cfg->shadow_compare = COMPARE_STATUS | COMPARE_HEADERS | COMPARE_BODY;
	add_status(&cfg->trigger, 404);
	add_status(&cfg->try_trigger, 403);
	add_status(&cfg->try_trigger, 404);
	add_status(&cfg->try_trigger, 405);
	add_status(&cfg->try_trigger, 501);
	unsigned before = c->diags->errors;
	fields_of(c, d, cfg);
	if (cfg->norigins == 0 && c->diags->errors == before)
		diag_add(c->diags, DIAG_ERROR, d, "fallbacks must name at least one cluster");
	struct str prefix = text_of(c, d, "stat_prefix");
	cfg->policy = prefix.p ? prefix : arena_str(c->arena, c->filter_name);
	cfg->top_paths = (unsigned)uint_of(c, d, "top_paths", 1000, 0, 100000);
	own_addresses(c, cfg);
	settle(cfg);
	if (c->diags->errors != before)
		return NULL;
	cfg->shared =
		cfg->policy.p ? shared_open(cfg->policy, cfg->max_entries, cfg->top_paths) : NULL;
	if (!cfg->shared || c->arena->over) {
		diag_add(c->diags, DIAG_ERROR, d, "no memory");
		return NULL;
	}
	return cfg;
}

/* ---- per route */

void *config_compile_route(struct compile *c, const struct doc *d)
{
	unsigned before = c->diags->errors;
	struct fb_route *r = arena_zalloc(c->arena, sizeof *r);
	if (!r)
		return NULL;
	r->is_route = true;
	r->said.degraded_status = 404;
	fields_of(c, d, &r->said);
	r->doc = doc_copy(c->arena, d);
	if (c->diags->errors != before || !r->doc)
		return NULL;
	pthread_mutex_init(&r->lock, NULL);
	return r;
}

static void overlay(struct fb_cfg *to, const struct fb_cfg *said, const struct doc *d)
{
#define TAKE(in, name, field)    \
	if (doc_field(in, name)) \
	to->field = said->field
	const struct doc *body = doc_field(d, "request_body"), *memory = doc_field(d, "memory"),
			 *breaker = doc_field(d, "breaker");
	const struct doc *shadow = doc_field(d, "shadow"), *preset = doc_field(d, "preset");
	TAKE(d, "disabled", disabled);
	if (doc_field(d, "fallbacks")) {
		memcpy(to->origins, said->origins, sizeof to->origins);
		to->norigins = said->norigins;
	}
	TAKE(d, "trigger", trigger);
	TAKE(d, "try_trigger", try_trigger);
	if (preset && preset->text.n) {
		add_status(&to->trigger, 403);
		add_status(&to->try_trigger, 400);
	}
	TAKE(d, "on_primary_failure", ask_on_failure);
	TAKE(d, "on_fallback_failure", error_on_failure);
	TAKE(d, "degraded_status", degraded_status);
	TAKE(d, "retry_after", retry_after_us);
	TAKE(d, "override", overrides);
	TAKE(d, "override", noverrides);
	TAKE(d, "other_methods", other_methods);
	TAKE(d, "methods", methods);
	TAKE(d, "methods", nmethods);
	TAKE(body, "memory_bytes", memory_bytes);
	TAKE(body, "spool_bytes", spool_bytes);
	TAKE(body, "directory", directory);
	TAKE(d, "hold_bytes", hold_bytes);
	TAKE(d, "hold_total_bytes", hold_total);
	TAKE(d, "drain_bytes", drain_bytes);
	TAKE(memory, "mode", memory);
	TAKE(memory, "miss_ttl", miss_ttl_us);
	TAKE(memory, "both_miss_ttl", both_ttl_us);
	TAKE(memory, "hedge_after", hedge_us);
	TAKE(memory, "hint_budget", hint_budget);
	TAKE(memory, "never_remember_cookies", private_cookies);
	TAKE(memory, "never_remember_cookies", nprivate_cookies);
	TAKE(d, "max_inflight", max_inflight);
	TAKE(breaker, "failures", breaker_failures);
	TAKE(breaker, "open", breaker_open_us);
	TAKE(d, "ignore_if_modified_since", ignore_since);
	TAKE(d, "mark_request", mark_request);
	TAKE(d, "rewrite_location", rewrite);
	TAKE(d, "rewrite_location", nrewrite);
	TAKE(shadow, "percent", shadow_percent);
	TAKE(shadow, "compare", shadow_compare);
	TAKE(d, "served_by_header", served_by);
#undef TAKE
	settle(to);
}

static const struct fb_cfg *merge(struct fb_route *r, const struct fb_cfg *base)
{
	struct merged *m;
	pthread_mutex_lock(&r->lock);
	for (m = atomic_load(&r->merged); m; m = m->next)
		if (m->base == base)
			break;
	if (!m && (m = mem_zalloc(MEM_CONFIG, sizeof *m))) {
		m->base = base;
		m->cfg = *base;
		overlay(&m->cfg, &r->said, r->doc);
		m->next = atomic_load(&r->merged);
		atomic_store(&r->merged, m);
	}
	pthread_mutex_unlock(&r->lock);
	return m ? &m->cfg : base;
}

void config_free(void *config)
{
	struct fb_cfg *cfg = config;
	struct fb_route *r = config;
	if (!cfg->is_route) {
		shared_close(cfg->shared);
		return;
	}
	for (struct merged *m = atomic_load(&r->merged), *next; m; m = next) {
		next = m->next;
		mem_free(MEM_CONFIG, m);
	}
	pthread_mutex_destroy(&r->lock);
}

const struct fb_cfg *config_of_route(struct exchange *ex, const struct filter_cfg *self)
{
	const struct fb_cfg *base = self->config;
	struct fb_route *r = exch_route_config(ex, self);
	if (!r || r == FILTER_DISABLED)
		return base;
	for (const struct merged *m = atomic_load(&r->merged); m; m = m->next)
		if (m->base == base)
			return &m->cfg;
	return merge(r, base);
}
