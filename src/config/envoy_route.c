/* src/config/envoy_route.c: route configurations, virtual hosts, routes. */
#include "config/envoy_int.h"
#include <stdlib.h>

#define FILTER_CONFIG "envoy.config.route.v3.FilterConfig"

enum {
	HOST_MAX = 512 /* as model/route.c looks up */,
	DIRECT_BODY = 4096,
	DIRECT_BODY_HARD = 16 * 1024 * 1024
};

/* What the routes of one configuration have in common. */
struct scope {
	struct reader *r;
	const struct hcm_cfg *hcm;
	bool validate_clusters;
	size_t body_max; /* of a direct response */
};

/* ---- per-filter configuration ---- */

static void **per_filter_copy(struct scope *s, void *const *from)
{
	void **to = envoy_array(s->r, s->hcm->nfilters, sizeof(void *));
	if (to && from)
		memcpy(to, from, s->hcm->nfilters * sizeof(void *));
	return to;
}

static void no_such_filter(struct scope *s, const struct doc *entry)
{
	const char *names[LIMIT_FILTERS + 1];
	unsigned n = 0;
	for (unsigned i = 0; i < s->hcm->nfilters; i++) {
		char *z = s->hcm->filters[i].name.p
				  ? arena_strz(s->r->arena, s->hcm->filters[i].name)
				  : NULL;
		if (z)
			names[n++] = z;
	}
	names[n] = NULL;
	diag_add(s->r->diags, DIAG_WARNING, entry,
		 "has no effect: no filter of this connection manager has that name");
	const char *near = diag_nearest(entry->key, names);
	if (near)
		diag_hint(s->r->diags, "%s", near);
}

/* Compiles any for filter i into *out. False: a mistake, or an unknown type that is optional. */
static bool compile_one(struct scope *s, const struct doc *any, const struct filter_cfg *f,
			bool optional, void **out)
{
	struct reader *r = s->r;
	struct str type;
	const struct doc *body = read_any(r, any, &type);
	if (!type.p)
		return false;
	const struct filter_type *t = envoy_filter_type(r, type, true);
	if (!t || t != f->type) {
		if (!optional &&
		    schema_find(type)) /* what is unknown the schema check has reported */
			diag_add(r->diags, DIAG_ERROR, any,
				 "%.*s does not configure %.*s, a filter of type %s", STR_ARG(type),
				 STR_ARG(f->name), f->type->name);
		return false;
	}
	struct compile c = {r->arena, r->diags, r->model, NULL, f->name, &envoy_hooks};
	*out = t->compile_route ? t->compile_route(&c, body) : NULL;
	if (*out && t->free_config && !envoy_on_free(r, t->free_config, *out))
		*out = NULL;
	return true;
}

static void read_entry(struct scope *s, const struct doc *entry, void **to)
{
	struct reader *r = s->r;
	struct str type;
	const struct doc *any = entry, *body = read_any(r, entry, &type);
	bool disabled = false, optional = false, found = false;
	if (!type.p)
		return;
	if (str_eq(type, STR(FILTER_CONFIG))) {
		disabled = read_bool(r, body, "disabled", false);
		optional = read_bool(r, body, "is_optional", false);
		any = read_field(body, "config");
		if (!any && !disabled) {
			diag_add(r->diags, DIAG_ERROR, entry, "needs config or disabled: true");
			return;
		}
	}
	for (unsigned i = 0; i < s->hcm->nfilters; i++) {
		const struct filter_cfg *f = &s->hcm->filters[i];
		void *got = FILTER_DISABLED;
		if (!str_eq(entry->key, f->name))
			continue;
		found = true;
		if (disabled && f->type->terminal)
			diag_add(r->diags, DIAG_ERROR, entry,
				 "the filter that answers cannot be disabled");
		else if (disabled || compile_one(s, any, f, optional, &got))
			to[i] = got;
	}
	if (!found)
		no_such_filter(s, entry);
}

/* What d says over what stands above it; above itself when d says nothing. */
static void **read_per_filter(struct scope *s, const struct doc *d, void **above)
{
	const struct doc *map = read_field(d, "typed_per_filter_config");
	if (!map || map->kind != DOC_MAP || map->n == 0 || s->hcm->nfilters == 0)
		return above;
	void **to = per_filter_copy(s, above);
	if (!to)
		return above;
	doc_each (e, map)
		read_entry(s, e, to);
	return to;
}

/* ---- match ---- */

static void read_query(struct reader *r, const struct doc *d, struct route *t)
{
	const struct doc *list = envoy_list(d, "query_parameters");
	t->query = envoy_array(r, list ? list->n : 0, sizeof *t->query);
	if (!t->query)
		return;
	doc_each (q, list) {
		struct query_match *m = &t->query[t->nquery];
		const struct doc *text = read_field(q, "string_match");
		m->name = read_str_needed(r, q, "name");
		m->present_only = !text;
		m->present = read_bool(r, q, "present_match", true);
		if (m->name.p && (!text || read_string_match(r, text, &m->string)))
			t->nquery++;
	}
}

static void read_cookies(struct reader *r, const struct doc *d, struct route *t)
{
	const struct doc *list = envoy_list(d, "cookies");
	t->cookies = envoy_array(r, list ? list->n : 0, sizeof *t->cookies);
	if (!t->cookies)
		return;
	doc_each (c, list) {
		struct cookie_match *m = &t->cookies[t->ncookies];
		const struct doc *text = read_field(c, "string_match");
		m->name = read_str_needed(r, c, "name");
		m->invert = read_bool(r, c, "invert_match", false);
		if (!text)
			diag_add(r->diags, DIAG_ERROR, c, "string_match is missing");
		else if (m->name.p && read_string_match(r, text, &m->string))
			t->ncookies++;
	}
}

static void read_path_match(struct reader *r, const struct doc *d, struct route *t)
{
	const struct doc *v;
	t->path = STR("");
	if ((v = read_field(d, "prefix"))) {
		t->path_kind = PATH_PREFIX;
		t->path = read_str(r, v, NULL);
	} else if ((v = read_field(d, "path"))) {
		t->path_kind = PATH_EXACT;
		t->path = read_str(r, v, NULL);
	} else if ((v = read_field(d, "safe_regex"))) {
		t->path_kind = PATH_REGEX;
		t->regex = read_regex(r, v);
	} else if ((v = read_field(d, "path_separated_prefix"))) {
		t->path_kind = PATH_SEPARATED_PREFIX;
		t->path = read_str_needed(r, v, NULL);
		if (t->path.n &&
		    (t->path.n < 2 || memchr("/?#", t->path.p[t->path.n - 1], 3) ||
		     memchr(t->path.p, '?', t->path.n) || memchr(t->path.p, '#', t->path.n)))
			diag_add(r->diags, DIAG_ERROR, v,
				 "must not end with '/' nor hold '?' or '#'");
	} else if (!read_field(d, "connect_matcher") && !read_field(d, "path_match_policy")) {
		diag_add(r->diags, DIAG_ERROR, d,
			 "needs prefix, path, safe_regex or path_separated_prefix");
	}
	if ((t->path_kind == PATH_PREFIX || t->path_kind == PATH_EXACT) && t->path.n &&
	    (memchr(t->path.p, '?', t->path.n) || memchr(t->path.p, '#', t->path.n)))
		diag_add(r->diags, DIAG_WARNING, v,
			 "never matches: paths are matched without the query");
}

static void read_match(struct reader *r, const struct doc *route, struct route *t)
{
	const struct doc *d = read_field(route, "match"), *tls = read_field(d, "tls_context");
	if (!d) {
		diag_add(r->diags, DIAG_ERROR, route, "match is missing");
		return;
	}
	read_path_match(r, d, t);
	t->case_sensitive = read_bool(r, d, "case_sensitive", true);
	t->headers = envoy_field_matches(r, d, "headers", &t->nheaders);
	read_query(r, d, t);
	read_cookies(r, d, t);
	read_fraction(r, d, "runtime_fraction", &t->fraction, &t->fraction_of);
	t->grpc_only = read_field(d, "grpc") != NULL;
	if (tls) {
		t->tls_presented_set = read_field(tls, "presented") != NULL;
		t->tls_presented = read_bool(r, tls, "presented", false);
		t->tls_validated_set = read_field(tls, "validated") != NULL;
		t->tls_validated = read_bool(r, tls, "validated", false);
		t->tls_known = true;
	}
}

/* ---- actions ---- */

static const struct cluster_cfg *find_cluster(struct scope *s, const struct doc *at,
					      struct str name)
{
	const struct model *m = s->r->model;
	const struct cluster_cfg *c = cluster_find(m, name);
	const char *best = NULL;
	if (c || !s->validate_clusters || !name.n)
		return c;
	diag_add(s->r->diags, DIAG_ERROR, at, "there is no cluster \"%.*s\"", STR_ARG(name));
	unsigned cap = (unsigned)(name.n < 3 ? 1 : name.n / 3);
	for (unsigned i = 0; i < m->nclusters; i++) {
		unsigned far = str_distance(name, m->clusters[i]->name, cap);
		if (far <= cap) {
			cap = far;
			best = arena_strz(s->r->arena, m->clusters[i]->name);
		}
	}
	if (best)
		diag_hint(s->r->diags, "did you mean \"%s\"?", best);
	return NULL;
}

static void read_weighted(struct scope *s, const struct doc *d, struct route *t)
{
	struct reader *r = s->r;
	const struct doc *list = envoy_list(d, "clusters");
	uint64_t sum = 0;
	t->action = ACTION_WEIGHTED;
	t->weighted = envoy_array(r, list ? list->n : 0, sizeof *t->weighted);
	if (!list || list->n == 0)
		diag_add(r->diags, DIAG_ERROR, d, "clusters is missing");
	if (!t->weighted)
		return;
	doc_each (c, list) {
		struct weighted_cluster *w = &t->weighted[t->nweighted++];
		w->name = read_str_needed(r, c, "name");
		w->cluster = find_cluster(s, read_field(c, "name"), w->name);
		w->weight = (unsigned)read_uint(r, c, "weight", 0, 0, UINT32_MAX);
		sum += w->weight;
		read_header_ops(r, c, &w->headers);
		w->per_filter = read_per_filter(s, c, NULL);
		w->host_rewrite = read_str(r, c, "host_rewrite_literal");
	}
	if (sum == 0 || sum > UINT32_MAX) {
		diag_add(r->diags, DIAG_ERROR, d,
			 sum ? "the weights add up to more than 4294967295"
			     : "the weights add up to 0");
		sum = 1;
	}
	t->total_weight = (unsigned)sum;
}

static void read_hash(struct reader *r, const struct doc *d, struct hash_policy *h)
{
	const struct doc *v;
	h->terminal = read_bool(r, d, "terminal", false);
	if ((v = read_field(d, "header"))) {
		h->kind = HASH_HEADER;
		h->name = envoy_lower(r, v, "header_name");
		h->id = name_id(h->name.p ? h->name.p : "", h->name.n);
		envoy_substitute(r, v, "regex_rewrite", &h->regex, &h->regex_rewrite);
	} else if ((v = read_field(d, "cookie"))) {
		h->kind = HASH_COOKIE;
		h->name = read_str_needed(r, v, "name");
		h->make_cookie = read_field(v, "ttl") != NULL;
		h->cookie_ttl_us = read_duration(r, v, "ttl", 0);
		h->cookie_path = read_str(r, v, "path");
		if ((h->name.n && !field_name_ok(h->name)) ||
		    (h->cookie_path.n && (!field_value_ok(h->cookie_path) ||
					  memchr(h->cookie_path.p, ';', h->cookie_path.n))))
			diag_add(r->diags, DIAG_ERROR, v, "name or path cannot stand in a cookie");
	} else if ((v = read_field(d, "connection_properties"))) {
		h->kind = HASH_SOURCE_IP;
		if (!read_bool(r, v, "source_ip", false))
			diag_add(r->diags, DIAG_ERROR, v, "needs source_ip: true");
	} else if ((v = read_field(d, "query_parameter"))) {
		h->kind = HASH_QUERY;
		h->name = read_str_needed(r, v, "name");
	} else {
		diag_add(r->diags, DIAG_ERROR, d,
			 "needs header, cookie, connection_properties or query_parameter");
	}
}

static void read_route_upgrades(struct reader *r, const struct doc *d, struct route *t)
{
	const struct doc *list = envoy_list(d, "upgrade_configs");
	t->upgrades = envoy_array(r, list ? list->n : 0, sizeof *t->upgrades);
	t->upgrades_off = envoy_array(r, list ? list->n : 0, sizeof *t->upgrades_off);
	if (!t->upgrades || !t->upgrades_off)
		return;
	doc_each (u, list) {
		struct str type = envoy_lower(r, u, "upgrade_type");
		if (type.n == 0)
			diag_add(r->diags, DIAG_ERROR, u, "upgrade_type is missing");
		else if (str_starts(type, STR("connect")))
			diag_add(r->diags, DIAG_ERROR, u, "CONNECT is refused");
		else if (read_bool(r, u, "enabled", true))
			t->upgrades[t->nupgrades++] = type;
		else
			t->upgrades_off[t->nupgrades_off++] = type;
	}
}

static void read_rewrites(struct reader *r, const struct doc *d, struct route *t)
{
	t->prefix_rewrite = read_str(r, d, "prefix_rewrite");
	envoy_substitute(r, d, "regex_rewrite", &t->rewrite_regex, &t->rewrite_with);
	if (t->prefix_rewrite.n && t->rewrite_regex)
		diag_add(r->diags, DIAG_ERROR, read_field(d, "regex_rewrite"),
			 "excludes prefix_rewrite");
	t->host_rewrite = read_str(r, d, "host_rewrite_literal");
	t->auto_host_rewrite = read_bool(r, d, "auto_host_rewrite", false);
	t->host_rewrite_header = envoy_lower(r, d, "host_rewrite_header");
	if (t->host_rewrite_header.n)
		t->host_rewrite_header_id =
			name_id(t->host_rewrite_header.p, t->host_rewrite_header.n);
	envoy_substitute(r, d, "host_rewrite_path_regex", &t->host_rewrite_regex,
			 &t->host_rewrite_with);
	t->append_x_forwarded_host = read_bool(r, d, "append_x_forwarded_host", false);
	if (t->host_rewrite.n && !authority_ok(t->host_rewrite))
		diag_add(r->diags, DIAG_ERROR, read_field(d, "host_rewrite_literal"),
			 "is no host name");
	if (t->prefix_rewrite.n && memchr(t->prefix_rewrite.p, ' ', t->prefix_rewrite.n))
		diag_add(r->diags, DIAG_ERROR, read_field(d, "prefix_rewrite"),
			 "cannot stand in a path");
}

static void read_route_action(struct scope *s, const struct doc *d, struct route *t)
{
	static const char *const priorities[] = {"DEFAULT", "HIGH", NULL};
	static const char *const not_found[] = {"SERVICE_UNAVAILABLE", "NOT_FOUND",
						"INTERNAL_SERVER_ERROR", NULL};
	static const uint16_t codes[] = {503, 404, 500};
	struct reader *r = s->r;
	const struct doc *v, *hash = envoy_list(d, "hash_policy");
	if ((v = read_field(d, "cluster"))) {
		t->action = ACTION_CLUSTER;
		t->cluster_name = read_str_needed(r, v, NULL);
		t->cluster = find_cluster(s, v, t->cluster_name);
	} else if ((v = read_field(d, "cluster_header"))) {
		t->action = ACTION_CLUSTER_HEADER;
		t->cluster_name = envoy_lower(r, v, NULL);
		if (t->cluster_name.n == 0)
			diag_add(r->diags, DIAG_ERROR, v, "must not be empty");
	} else if ((v = read_field(d, "weighted_clusters"))) {
		read_weighted(s, v, t);
	} else if (!read_field(d, "cluster_specifier_plugin") &&
		   !read_field(d, "inline_cluster_specifier_plugin")) {
		diag_add(r->diags, DIAG_ERROR, d,
			 "needs cluster, weighted_clusters or cluster_header");
	}
	t->cluster_not_found =
		codes[read_enum(r, d, "cluster_not_found_response_code", not_found, 0)];
	read_rewrites(r, d, t);
	t->timeout_us = read_duration(r, d, "timeout", LIMIT_ROUTE_US);
	t->has_idle = read_field(d, "idle_timeout") != NULL;
	t->idle_timeout_us = read_duration(r, d, "idle_timeout", 0);
	v = read_field(read_field(d, "max_stream_duration"), "max_stream_duration");
	t->has_max_duration = v != NULL;
	t->max_duration_us = v ? read_duration(r, v, NULL, 0) : 0;
	if ((v = read_field(d, "retry_policy")))
		t->retry = envoy_retry(r, v);
	t->priority = (unsigned)read_enum(r, d, "priority", priorities, 0);
	t->hash = envoy_array(r, hash ? hash->n : 0, sizeof *t->hash);
	if (t->hash)
		doc_each (h, hash)
			read_hash(r, h, &t->hash[t->nhash++]);
	read_route_upgrades(r, d, t);
}

static void read_redirect(struct reader *r, const struct doc *d, struct route *t)
{
	static const char *const names[] = {"MOVED_PERMANENTLY",  "FOUND",
					    "SEE_OTHER",          "TEMPORARY_REDIRECT",
					    "PERMANENT_REDIRECT", NULL};
	static const uint16_t codes[] = {301, 302, 303, 307, 308};
	struct redirect_cfg *x = envoy_array(r, 1, sizeof *x);
	t->action = ACTION_REDIRECT;
	t->redirect = x;
	if (!x)
		return;
	x->https = read_bool(r, d, "https_redirect", false);
	x->strip_query = read_bool(r, d, "strip_query", false);
	x->scheme = envoy_lower(r, d, "scheme_redirect");
	x->host = read_str(r, d, "host_redirect");
	x->path = read_str(r, d, "path_redirect");
	x->prefix_rewrite = read_str(r, d, "prefix_rewrite");
	x->port = (uint32_t)read_uint(r, d, "port_redirect", 0, 0, 65535);
	envoy_substitute(r, d, "regex_rewrite", &x->regex, &x->regex_rewrite);
	x->status = codes[read_enum(r, d, "response_code", names, 0)];
	const struct str parts[] = {x->scheme, x->host, x->path, x->prefix_rewrite};
	for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
		if (parts[i].n && !field_value_ok(parts[i]))
			diag_add(r->diags, DIAG_ERROR, d,
				 "a part of the redirect cannot stand in a header (control bytes)");
}

static void read_direct(struct scope *s, const struct doc *d, struct route *t)
{
	struct source body;
	t->action = ACTION_DIRECT;
	if (!read_field(d, "status"))
		diag_add(s->r->diags, DIAG_ERROR, d, "status is missing");
	t->direct_status = (uint16_t)read_uint(s->r, d, "status", 200, 200, 599);
	if (read_source(s->r, d, "body", s->body_max, &body))
		t->direct_body = body.content;
}

/* ---- routes and virtual hosts ---- */

static struct route *read_route(struct scope *s, const struct doc *d, struct vhost *v,
				const struct doc *vd, void **above)
{
	struct reader *r = s->r;
	struct route *t = envoy_array(r, 1, sizeof *t);
	const struct doc *a;
	if (!t)
		return NULL;
	t->at = d->at;
	t->vhost = v;
	t->name = read_str(r, d, "name");
	t->timeout_us = LIMIT_ROUTE_US;
	t->metadata = read_field(read_field(d, "metadata"), "filter_metadata");
	read_match(r, d, t);
	if ((a = read_field(d, "route")))
		read_route_action(s, a, t);
	else if ((a = read_field(d, "redirect")))
		read_redirect(r, a, t);
	else if ((a = read_field(d, "direct_response")))
		read_direct(s, a, t);
	else if (read_field(d, "non_forwarding_action"))
		t->action = ACTION_NONE;
	else if (!read_field(d, "filter_action"))
		diag_add(r->diags, DIAG_ERROR, d, "needs route, redirect or direct_response");
	read_header_ops(r, d, &t->headers_ops);
	t->per_filter = read_per_filter(s, d, above);
	t->include_attempt_count = read_bool(r, vd, "include_request_attempt_count", false);
	t->include_attempt_count_response =
		read_bool(r, vd, "include_attempt_count_in_response", false);
	return t;
}

static void read_virtual_clusters(struct reader *r, const struct doc *d, struct vhost *v)
{
	const struct doc *list = envoy_list(d, "virtual_clusters");
	v->vclusters = envoy_array(r, list ? list->n : 0, sizeof *v->vclusters);
	if (!v->vclusters)
		return;
	doc_each (c, list) {
		struct virtual_cluster *x = &v->vclusters[v->nvclusters++];
		x->name = read_str_needed(r, c, "name");
		x->headers = envoy_field_matches(r, c, "headers", &x->nheaders);
		if (x->nheaders == 0)
			diag_add(r->diags, DIAG_ERROR, c, "headers is missing");
	}
}

static struct vhost *read_vhost(struct scope *s, const struct doc *d, struct route_config *rc,
				void **above)
{
	static const char *const tls[] = {"NONE", "EXTERNAL_ONLY", "ALL", NULL};
	struct reader *r = s->r;
	const struct doc *routes = envoy_list(d, "routes");
	const struct retry_policy *retry;
	struct vhost *v = envoy_array(r, 1, sizeof *v);
	if (!v)
		return NULL;
	v->at = d->at;
	v->config = rc;
	v->name = read_str_needed(r, d, "name");
	v->require_tls = (unsigned)read_enum(r, d, "require_tls", tls, 0);
	v->metadata = read_field(read_field(d, "metadata"), "filter_metadata");
	read_header_ops(r, d, &v->headers_ops);
	read_virtual_clusters(r, d, v);
	above = read_per_filter(s, d, above);
	retry = envoy_retry(r, read_field(d, "retry_policy"));
	v->routes = envoy_array(r, routes ? routes->n : 0, sizeof(struct route *));
	if (!v->routes)
		return v;
	doc_each (x, routes) {
		struct route *t = read_route(s, x, v, d, above);
		if (!t)
			break;
		if (!t->retry && t->action != ACTION_REDIRECT && t->action != ACTION_DIRECT)
			t->retry = retry;
		t->index = v->nroutes;
		v->routes[v->nroutes++] = t;
	}
	return v;
}

/* ---- domains ---- */

static void twice(struct reader *r, const struct doc *at, struct str domain,
		  const struct vhost *other)
{
	diag_add(r->diags, DIAG_ERROR, at,
		 "\"%.*s\" belongs to the virtual host \"%.*s\" on line %u already",
		 STR_ARG(domain), STR_ARG(other->name), other->at.line);
}

static void add_wildcard(struct reader *r, const struct doc *at, struct wildcard *list, unsigned *n,
			 struct str text, struct vhost *v)
{
	for (unsigned i = 0; i < *n; i++)
		if (str_eq(list[i].text, text)) {
			twice(r, at, at->text, list[i].vhost);
			return;
		}
	list[(*n)++] = (struct wildcard){text, v};
}

static void add_domain(struct reader *r, const struct doc *at, struct route_config *rc,
		       struct vhost *v)
{
	struct str s = envoy_lower(r, at, NULL);
	if (!s.p)
		return;
	if (s.n == 0 || s.n > HOST_MAX) {
		diag_add(r->diags, DIAG_ERROR, at, "a domain has 1 to %d bytes", HOST_MAX);
		return;
	}
	if (str_eq(s, STR("*"))) {
		if (rc->any)
			twice(r, at, s, rc->any);
		rc->any = v;
	} else if (memchr(s.p + 1, '*', s.n - 1) &&
		   (s.p[0] == '*' || memchr(s.p + 1, '*', s.n - 2))) {
		diag_add(r->diags, DIAG_ERROR, at,
			 "\"%.*s\" never matches: a * stands only first or last",
			 STR_ARG(at->text));
	} else if (s.p[0] == '*') {
		add_wildcard(r, at, rc->suffixes, &rc->nsuffixes, str_from(s, 1), v);
	} else if (s.p[s.n - 1] == '*') {
		add_wildcard(r, at, rc->prefixes, &rc->nprefixes, (struct str){s.p, s.n - 1}, v);
	} else {
		const struct vhost *other = map_get(&rc->exact, s);
		if (other)
			twice(r, at, s, other);
		else if (!map_put(&rc->exact, s, v))
			envoy_no_memory(r, at);
	}
}

static int longest_first(const void *a, const void *b)
{
	size_t x = ((const struct wildcard *)a)->text.n, y = ((const struct wildcard *)b)->text.n;
	return (x < y) - (x > y);
}

static void free_map(void *m)
{
	map_fini(m);
}

static void read_vhosts(struct scope *s, const struct doc *d, struct route_config *rc, void **above)
{
	struct reader *r = s->r;
	const struct doc *list = envoy_list(d, "virtual_hosts");
	size_t domains = 0;
	doc_each (v, list) {
		const struct doc *l = envoy_list(v, "domains");
		domains += l ? l->n : 0;
		if (!l || l->n == 0)
			diag_add(r->diags, DIAG_ERROR, v, "domains is missing");
	}
	rc->vhosts = envoy_array(r, list ? list->n : 0, sizeof(struct vhost *));
	rc->suffixes = envoy_array(r, domains, sizeof *rc->suffixes);
	rc->prefixes = envoy_array(r, domains, sizeof *rc->prefixes);
	if (!rc->vhosts || (domains && (!rc->suffixes || !rc->prefixes)))
		return;
	doc_each (x, list) {
		struct vhost *v = read_vhost(s, x, rc, above);
		if (!v)
			return;
		rc->vhosts[rc->nvhosts++] = v;
		doc_each (name, envoy_list(x, "domains"))
			add_domain(r, name, rc, v);
	}
	if (rc->nsuffixes)
		qsort(rc->suffixes, rc->nsuffixes, sizeof *rc->suffixes, longest_first);
	if (rc->nprefixes)
		qsort(rc->prefixes, rc->nprefixes, sizeof *rc->prefixes, longest_first);
}

const struct route_config *envoy_route_config(struct reader *r, const struct doc *d,
					      const struct hcm_cfg *hcm, const bool *off)
{
	struct scope s = {r, hcm, read_bool(r, d, "validate_clusters", true),
			  read_uint(r, d, "max_direct_response_body_size_bytes", DIRECT_BODY, 0,
				    DIRECT_BODY_HARD)};
	struct route_config *rc = envoy_array(r, 1, sizeof *rc);
	void **above = NULL;
	if (!rc)
		return NULL;
	map_init(&rc->exact, MEM_CONFIG);
	if (!envoy_on_free(r, free_map, &rc->exact))
		return NULL;
	rc->name = read_str(r, d, "name");
	rc->ignore_port = read_bool(r, d, "ignore_port_in_host_matching", false);
	rc->most_specific_header_mutations_wins =
		read_bool(r, d, "most_specific_header_mutations_wins", false);
	rc->metadata = read_field(read_field(d, "metadata"), "filter_metadata");
	read_header_ops(r, d, &rc->headers_ops);
	if (off && (above = per_filter_copy(&s, NULL)))
		for (unsigned i = 0; i < hcm->nfilters; i++)
			above[i] = off[i] ? FILTER_DISABLED : NULL;
	above = read_per_filter(&s, d, above);
	read_vhosts(&s, d, rc, above);
	return rc;
}
