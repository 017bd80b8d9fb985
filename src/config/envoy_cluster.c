/* src/config/envoy_cluster.c: clusters and their endpoints. */
#include "config/envoy_int.h"

#define HTTP_OPTIONS "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
#define CARES "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"

enum { PRIORITY_MAX = 128, RING_MIN = 1024, RING_MAX = 8388608 };

/* ---- endpoints ---- */

static bool address_fits(struct reader *r, const struct cluster_cfg *c, const struct doc *at,
			 const struct address *a)
{
	if (c->type == CLUSTER_STATIC || a->len == 0 || a->sa.sa_family != AF_UNIX)
		return true;
	diag_add(r->diags, DIAG_ERROR, at, "a unix socket needs a cluster of type STATIC");
	return false;
}

static void read_endpoint(struct reader *r, const struct doc *d, unsigned priority,
			  struct cluster_cfg *c)
{
	static const char *const states[] = {"UNKNOWN", "HEALTHY",  "UNHEALTHY", "DRAINING",
					     "TIMEOUT", "DEGRADED", NULL};
	const struct doc *ep = read_field(d, "endpoint");
	struct endpoint_cfg *e = &c->endpoints[c->nendpoints];
	if (!ep) {
		diag_add(r->diags, DIAG_ERROR, d, "endpoint is missing");
		return;
	}
	int state = read_enum(r, d, "health_status", states, 0);
	*e = (struct endpoint_cfg){
		.hostname = read_str(r, ep, "hostname"),
		.weight = (unsigned)read_uint(r, d, "load_balancing_weight", 1, 1, UINT32_MAX),
		.priority = priority,
		.unhealthy = state == 2 || state == 3 || state == 4,
		.metadata = read_field(read_field(d, "metadata"), "filter_metadata")};
	if (read_address(r, ep, "address", c->type != CLUSTER_STATIC, &e->addr) &&
	    address_fits(r, c, read_field(ep, "address"), &e->addr))
		c->nendpoints++;
}

static void read_endpoints(struct reader *r, const struct doc *d, struct cluster_cfg *c)
{
	const struct doc *assignment = read_field(d, "load_assignment");
	const struct doc *groups = envoy_list(assignment, "endpoints");
	size_t n = 0;
	c->overprovisioning = (unsigned)read_uint(r, read_field(assignment, "policy"),
						  "overprovisioning_factor", 140, 1, UINT32_MAX);
	c->npriorities = 1;
	doc_each (group, groups) {
		const struct doc *list = envoy_list(group, "lb_endpoints");
		n += list ? list->n : 0;
	}
	if (c->type == CLUSTER_LOGICAL_DNS && n != 1)
		diag_add(r->diags, DIAG_ERROR, groups ? groups : d,
			 "a cluster of type LOGICAL_DNS has exactly one endpoint");
	c->endpoints = envoy_array(r, n, sizeof *c->endpoints);
	if (!c->endpoints)
		return;
	doc_each (group, groups) {
		unsigned priority = (unsigned)read_uint(r, group, "priority", 0, 0, PRIORITY_MAX);
		doc_each (ep, envoy_list(group, "lb_endpoints"))
			read_endpoint(r, ep, priority, c);
		if (priority + 1 > c->npriorities)
			c->npriorities = priority + 1;
	}
}

/* ---- limits ---- */

static void read_breakers(struct reader *r, const struct doc *d, struct cluster_cfg *c)
{
	static const char *const priorities[] = {"DEFAULT", "HIGH", NULL};
	bool seen[2] = {false, false};
	for (int i = 0; i < 2; i++)
		c->breakers[i] = (struct breaker){1024, 1024, 1024, 3, false, 0, 3};
	doc_each (t, envoy_list(read_field(d, "circuit_breakers"), "thresholds")) {
		int p = read_enum(r, t, "priority", priorities, 0);
		if (seen[p]) { /* Envoy takes the first in silence */
			diag_add(r->diags, DIAG_WARNING, t,
				 "has no effect: there are thresholds of this priority already");
			continue;
		}
		seen[p] = true;
		struct breaker *b = &c->breakers[p];
		b->max_connections =
			(uint32_t)read_uint(r, t, "max_connections", 1024, 0, UINT32_MAX);
		b->max_pending =
			(uint32_t)read_uint(r, t, "max_pending_requests", 1024, 0, UINT32_MAX);
		b->max_requests = (uint32_t)read_uint(r, t, "max_requests", 1024, 0, UINT32_MAX);
		b->max_retries = (uint32_t)read_uint(r, t, "max_retries", 3, 0, UINT32_MAX);
		b->track_remaining = read_bool(r, t, "track_remaining", false);
		const struct doc *budget = read_field(t, "retry_budget");
		if (budget) {
			b->retry_budget_percent = read_double(
				r, read_field(budget, "budget_percent"), "value", 20, 0, 100);
			b->retry_min = (uint32_t)read_uint(r, budget, "min_retry_concurrency", 3, 0,
							   UINT32_MAX);
		}
	}
}

static void read_balancing(struct reader *r, const struct doc *d, struct cluster_cfg *c)
{
	static const char *const names[] = {"ROUND_ROBIN",
					    "LEAST_REQUEST",
					    "RING_HASH",
					    "RANDOM",
					    "",
					    "MAGLEV",
					    "CLUSTER_PROVIDED",
					    "LOAD_BALANCING_POLICY_CONFIG",
					    NULL};
	static const char *const hashes[] = {"XX_HASH", "MURMUR_HASH_2", NULL};
	const struct doc *least = read_field(d, "least_request_lb_config"),
			 *ring = read_field(d, "ring_hash_lb_config");
	const struct doc *common = read_field(d, "common_lb_config");
	switch (read_enum(r, d, "lb_policy", names, 0)) {
	case 0: c->lb = LB_ROUND_ROBIN; break;
	case 1: c->lb = LB_LEAST_REQUEST; break;
	case 2: c->lb = LB_RING_HASH; break;
	case 3: c->lb = LB_RANDOM; break;
	default:
		diag_add(r->diags, DIAG_ERROR, read_field(d, "lb_policy"), "is not supported");
		diag_hint(r->diags, "use ROUND_ROBIN, LEAST_REQUEST, RING_HASH or RANDOM");
	}
	c->choice_count = (unsigned)read_uint(r, least, "choice_count", 2, 2, 64);
	c->ring_min = read_uint(r, ring, "minimum_ring_size", RING_MIN, 1, RING_MAX);
	c->ring_max = read_uint(r, ring, "maximum_ring_size", RING_MAX, 1, RING_MAX);
	if (c->ring_min > c->ring_max) {
		diag_add(r->diags, DIAG_ERROR, ring,
			 "minimum_ring_size is larger than maximum_ring_size");
		c->ring_min = c->ring_max;
	}
	if (read_enum(r, ring, "hash_function", hashes, 0) != 0)
		diag_add(r->diags, DIAG_ERROR, read_field(ring, "hash_function"),
			 "only XX_HASH is supported");
	c->healthy_panic =
		read_double(r, read_field(common, "healthy_panic_threshold"), "value", 50, 0, 100);
	c->ring_hostname = read_bool(r, read_field(common, "consistent_hashing_lb_config"),
				     "use_hostname_for_hashing", false);
}

/* ---- names ---- */

static void read_resolvers(struct reader *r, const struct doc *list, struct cluster_cfg *c)
{
	if (!list)
		return;
	c->resolvers = envoy_array(r, list->n, sizeof *c->resolvers);
	c->nresolvers = 0;
	if (c->resolvers)
		doc_each (a, list)
			if (read_address(r, a, NULL, false, &c->resolvers[c->nresolvers]))
				c->nresolvers++;
}

static void read_dns(struct reader *r, const struct doc *d, struct cluster_cfg *c)
{
	static const char *const families[] = {"AUTO",         "V4_ONLY", "V6_ONLY",
					       "V4_PREFERRED", "ALL",     NULL};
	const struct doc *typed = read_field(d, "typed_dns_resolver_config"), *any;
	struct str type;
	c->family = (enum dns_family)read_enum(r, d, "dns_lookup_family", families, 0);
	c->dns_refresh_us = read_duration(r, d, "dns_refresh_rate", 5000000);
	if (c->dns_refresh_us < 1000) {
		diag_add(r->diags, DIAG_ERROR, read_field(d, "dns_refresh_rate"),
			 "must be at least 1 ms");
		c->dns_refresh_us = 5000000;
	}
	c->respect_dns_ttl = read_bool(r, d, "respect_dns_ttl", false);
	read_resolvers(r, envoy_list(d, "dns_resolvers"), c);
	read_resolvers(r, envoy_list(read_field(d, "dns_resolution_config"), "resolvers"), c);
	if (typed && (any = read_field(typed, "typed_config"))) {
		const struct doc *body = read_any(r, any, &type);
		if (type.p && str_eq(type, STR(CARES)))
			read_resolvers(r, envoy_list(body, "resolvers"), c);
	}
}

/* ---- protocol ---- */

static void read_http1(struct reader *r, const struct doc *d, struct cluster_cfg *c)
{
	if (!d)
		return;
	c->enable_trailers = read_bool(r, d, "enable_trailers", c->enable_trailers);
	c->accept_http_10 = read_bool(r, d, "accept_http_10", c->accept_http_10);
	c->proper_case = envoy_proper_case(d) || c->proper_case;
}

static void no_http2(struct reader *r, const struct doc *at)
{
	diag_add(r->diags, DIAG_ERROR, at, "HTTP/2 towards origins is not spoken yet");
	diag_hint(r->diags, "leave it out: the origin is then asked over HTTP/1.1");
}

static void read_auto_sni(struct reader *r, const struct doc *d, struct cluster_cfg *c)
{
	if (!d || !c->tls)
		return;
	c->tls->auto_sni = read_bool(r, d, "auto_sni", c->tls->auto_sni);
	c->tls->auto_san = read_bool(r, d, "auto_san_validation", c->tls->auto_san);
	if (c->tls->auto_san && !c->tls->has_ca)
		diag_add(r->diags, DIAG_ERROR, d,
			 "auto_san_validation needs trusted_ca in the validation context");
}

static void read_typed_protocol(struct reader *r, const struct doc *d, struct cluster_cfg *c,
				struct envoy_common_http *common)
{
	const struct doc *map = read_field(d, "typed_extension_protocol_options");
	doc_each (any, map && map->kind == DOC_MAP ? map : NULL) {
		struct str type;
		const struct doc *o = read_any(r, any, &type), *how;
		if (!str_eq(any->key, STR(HTTP_OPTIONS))) {
			diag_add(r->diags, DIAG_ERROR, any, "only %s is read here", HTTP_OPTIONS);
			continue;
		}
		if (!type.p || !str_eq(type, STR(HTTP_OPTIONS)))
			continue; /* the schema reported what it is */
		envoy_common_http(r, read_field(o, "common_http_protocol_options"), common);
		read_auto_sni(r, read_field(o, "upstream_http_protocol_options"), c);
		if ((how = read_field(o, "explicit_http_config"))) {
			read_http1(r, read_field(how, "http_protocol_options"), c);
			if (read_field(how, "http2_protocol_options"))
				no_http2(r, read_field(how, "http2_protocol_options"));
		} else if ((how = read_field(o, "use_downstream_protocol_config")) ||
			   (how = read_field(o, "auto_config"))) {
			read_http1(r, read_field(how, "http_protocol_options"), c);
			if (read_field(how, "http2_protocol_options"))
				diag_add(r->diags, DIAG_NOTICE, how,
					 "HTTP/1.1 is spoken, HTTP/2 towards origins not yet");
		} else {
			diag_add(r->diags, DIAG_ERROR, any,
				 "needs explicit_http_config, use_downstream_protocol_config or "
				 "auto_config");
		}
	}
}

/* The old fields of the cluster first, then today's, which say more. */
static void read_protocol(struct reader *r, const struct doc *d, struct cluster_cfg *c)
{
	struct envoy_common_http common = {.idle_us = LIMIT_UPSTREAM_IDLE_US,
					   .fields = LIMIT_FIELDS};
	common.max_requests =
		(uint32_t)read_uint(r, d, "max_requests_per_connection", 0, 0, UINT32_MAX);
	envoy_common_http(r, read_field(d, "common_http_protocol_options"), &common);
	read_http1(r, read_field(d, "http_protocol_options"), c);
	read_auto_sni(r, read_field(d, "upstream_http_protocol_options"), c);
	if (read_field(d, "http2_protocol_options"))
		no_http2(r, read_field(d, "http2_protocol_options"));
	read_typed_protocol(r, d, c, &common);
	c->idle_timeout_us = common.idle_us;
	c->max_connection_duration_us = common.max_connection_us;
	c->max_stream_duration_us = common.max_stream_us;
	c->max_requests_per_connection = common.max_requests;
	c->limits = h1_default_limits;
	c->limits.fields = common.fields;
	if (common.head_kib)
		c->limits.head = common.head_kib * 1024;
}

static void read_socket(struct reader *r, const struct doc *d, struct cluster_cfg *c)
{
	const struct doc *keep =
		read_field(read_field(d, "upstream_connection_options"), "tcp_keepalive");
	const struct doc *from =
		read_field(read_field(d, "upstream_bind_config"), "source_address");
	if (keep) {
		c->tcp_keepalive = true;
		c->keepalive_probes = (unsigned)read_uint(r, keep, "keepalive_probes", 0, 0, 127);
		c->keepalive_time = (unsigned)read_uint(r, keep, "keepalive_time", 0, 0, 32767);
		c->keepalive_interval =
			(unsigned)read_uint(r, keep, "keepalive_interval", 0, 0, 32767);
	}
	if (!from)
		return;
	struct str host = read_str_needed(r, from, "address");
	uint16_t port = (uint16_t)read_uint(r, from, "port_value", 0, 0, 65535);
	c->bind = envoy_array(r, 1, sizeof *c->bind);
	if (!host.p || !c->bind)
		return;
	if (!envoy_ip(host, port, c->bind))
		diag_add(r->diags, DIAG_ERROR, read_field(from, "address"),
			 "\"%.*s\" is no IP address", STR_ARG(host));
	c->bind->text = host;
}

/* ---- a cluster ---- */

static enum cluster_type read_type(struct reader *r, const struct doc *d)
{
	static const char *const types[] = {"STATIC", "STRICT_DNS",   "LOGICAL_DNS",
					    "EDS",    "ORIGINAL_DST", NULL};
	int t = read_enum(r, d, "type", types, 0);
	if (t <= 2)
		return (enum cluster_type)t;
	diag_add(r->diags, DIAG_ERROR, read_field(d, "type"), "%s is not supported", types[t]);
	diag_hint(r->diags, "use STATIC, STRICT_DNS or LOGICAL_DNS");
	/* the one that takes most addresses: no mistakes that follow from this one */
	return CLUSTER_STRICT_DNS;
}

static struct cluster_cfg *read_cluster(struct reader *r, const struct doc *d)
{
	struct cluster_cfg *c = envoy_array(r, 1, sizeof *c);
	if (!c)
		return NULL;
	c->name = read_str_needed(r, d, "name");
	c->alt_stat_name = read_str(r, d, "alt_stat_name");
	c->at = d->at;
	c->type = read_type(r, d);
	c->connect_timeout_us = read_duration(r, d, "connect_timeout", LIMIT_CONNECT_US);
	if (c->connect_timeout_us == 0)
		diag_add(r->diags, DIAG_ERROR, read_field(d, "connect_timeout"),
			 "must be longer than 0");
	c->buffer_limit = (uint32_t)read_uint(r, d, "per_connection_buffer_limit_bytes", 0, 0,
					      LIMIT_GATHER_HARD);
	c->metadata = read_field(read_field(d, "metadata"), "filter_metadata");
	c->tls = envoy_tls(r, read_field(d, "transport_socket"), false);
	read_endpoints(r, d, c);
	read_breakers(r, d, c);
	read_balancing(r, d, c);
	read_dns(r, d, c);
	read_protocol(r, d, c);
	read_socket(r, d, c);
	return c->name.p ? c : NULL;
}

void envoy_clusters(struct reader *r, const struct doc *list)
{
	struct model *m = r->model;
	m->clusters = envoy_array(r, list ? list->n : 0, sizeof(struct cluster_cfg *));
	if (!m->clusters)
		return;
	doc_each (d, list) {
		struct cluster_cfg *c = read_cluster(r, d);
		if (!c)
			continue;
		const struct cluster_cfg *twin = cluster_find(m, c->name);
		if (twin) {
			diag_add(r->diags, DIAG_ERROR, read_field(d, "name"),
				 "there is a cluster \"%.*s\" already, on line %u",
				 STR_ARG(c->name), twin->at.line);
			continue;
		}
		if (!map_put(&m->clusters_by_name, c->name, c)) {
			envoy_no_memory(r, d);
			return;
		}
		c->index = m->nclusters;
		m->clusters[m->nclusters++] = c;
	}
}
