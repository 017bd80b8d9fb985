/* src/config/envoy_show_test.h: a model as text, what is not at its default, one line each; and
 * filter types to compile with. */
#pragma once
#include "base/must.h"
#include "config/config.h"
#include "config/test_int.h"
#include "model/limits.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- filter types: they count their configurations, so that one never freed is seen ---- */

static int show_live;

static void *show_compile(struct compile *c, const struct doc *cfg)
{
	const struct doc *bad = doc_field(cfg, "inline_code");
	if (bad && str_eq(bad->text, STR("bad")))
		diag_add(c->diags, DIAG_ERROR, bad, "script load error");
	char *p = mem_alloc(MEM_OTHER, 1);
	if (!p)
		diag_add(c->diags, DIAG_ERROR, cfg, "no memory");
	else
		show_live++;
	return p;
}

static void show_free(void *p)
{
	show_live--;
	mem_free(MEM_OTHER, p);
}

static const char *const show_router_urls[] = {"envoy.extensions.filters.http.router.v3.Router",
					       NULL};
static const char *const show_lua_urls[] = {"envoy.extensions.filters.http.lua.v3.Lua",
					    "postern.filters.http.lua.v1.Lua", NULL};
static const char *const show_lua_route_urls[] = {
	"envoy.extensions.filters.http.lua.v3.LuaPerRoute", NULL};
static const struct filter_type show_router = {
	.name = "envoy.filters.http.router", .type_urls = show_router_urls, .terminal = true};
static const struct filter_type show_lua = {.name = "envoy.filters.http.lua",
					    .type_urls = show_lua_urls,
					    .route_urls = show_lua_route_urls,
					    .compile = show_compile,
					    .compile_route = show_compile,
					    .free_config = show_free};
static const struct filter_type show_admin = {.name = "postern.admin", .terminal = true};
static const struct filter_type *const show_types[] = {&show_router, &show_lua, &show_admin, NULL};

/* ---- text ---- */

static FILE *show_to;

static void put(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void put(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vfprintf(show_to, fmt, ap);
	va_end(ap);
}

static void put_str(const char *name, struct str s)
{
	if (s.n)
		put(" %s=%.*s", name, STR_ARG(s));
}

static void put_num(const char *name, uint64_t v, uint64_t usual)
{
	if (v != usual)
		put(" %s=%llu", name, (unsigned long long)v);
}

static void put_flag(const char *name, bool on)
{
	if (on)
		put(" %s", name);
}

static void put_strs(const char *name, const struct str *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		put("%s%.*s", i ? "," : "", STR_ARG(s[i]));
	(void)name;
}

static void show_string(const struct string_match *m)
{
	static const char *const kinds[] = {"any", "=", "^", "$", "~", "regex"};
	put("%s%s%.*s", kinds[m->kind], m->ignore_case ? "i" : "", STR_ARG(m->text));
}

static void show_field(const struct field_match *m)
{
	put(" [%s%.*s ", m->invert ? "!" : "", STR_ARG(m->name));
	if (m->kind == FIELD_MATCH_STRING)
		show_string(&m->string);
	else if (m->kind == FIELD_MATCH_RANGE)
		put("%lld..%lld", (long long)m->from, (long long)m->to);
	else
		put("%s", m->present ? "present" : "absent");
	put("%s]", m->missing_as_empty ? " empty" : "");
}

static void show_format(const struct format *f)
{
	for (unsigned i = 0; f && i < f->n; i++)
		if (f->parts[i].op == FMT_TEXT)
			put("%.*s", STR_ARG(f->parts[i].text));
		else
			put("<%d>", f->parts[i].op);
}

static void show_ops(const char *what, const struct header_op *ops, unsigned n)
{
	static const char *const actions[] = {"+", "?", "=", "=?", "-"};
	for (unsigned i = 0; i < n; i++) {
		put(" %s(%s%.*s", what, actions[ops[i].action], STR_ARG(ops[i].name));
		if (ops[i].value) {
			put(":");
			show_format(ops[i].value);
		}
		put(")");
	}
}

static void show_both_ops(const struct header_ops *o)
{
	show_ops("req", o->request, o->nrequest);
	show_ops("resp", o->response, o->nresponse);
}

static void show_per_filter(void *const *v, unsigned n)
{
	for (unsigned i = 0; v && i < n; i++)
		if (v[i])
			put(" filter%u=%s", i, v[i] == FILTER_DISABLED ? "off" : "own");
}

static void show_match(const struct route *t)
{
	static const char *const kinds[] = {"prefix", "path", "regex", "separated", "connect"};
	put("%s", kinds[t->path_kind]);
	put("%s%.*s", t->case_sensitive ? " " : " i:", STR_ARG(t->path));
	for (unsigned i = 0; i < t->nheaders; i++)
		show_field(&t->headers[i]);
	for (unsigned i = 0; i < t->nquery; i++) {
		put(" [?%.*s ", STR_ARG(t->query[i].name));
		if (t->query[i].present_only)
			put("%s", t->query[i].present ? "present" : "absent");
		else
			show_string(&t->query[i].string);
		put("]");
	}
	for (unsigned i = 0; i < t->ncookies; i++) {
		put(" [%scookie %.*s ", t->cookies[i].invert ? "!" : "",
		    STR_ARG(t->cookies[i].name));
		show_string(&t->cookies[i].string);
		put("]");
	}
	if (t->fraction_of)
		put(" %u/%u", t->fraction, t->fraction_of);
	put_flag("grpc", t->grpc_only);
	if (t->tls_presented_set)
		put(" presented=%d", t->tls_presented);
	if (t->tls_validated_set)
		put(" validated=%d", t->tls_validated);
}

static void show_retry(const struct retry_policy *p)
{
	if (!p)
		return;
	put(" retry{on=%x n=%u", p->on, p->num_retries);
	put_num("try", p->per_try_timeout_us, 0);
	put_num("idle", p->per_try_idle_us, 0);
	for (unsigned i = 0; i < p->ncodes; i++)
		put(" %u", p->codes[i]);
	for (unsigned i = 0; i < p->nheaders; i++)
		show_field(&p->headers[i]);
	for (unsigned i = 0; i < p->nrequest_headers; i++)
		show_field(&p->request_headers[i]);
	put_num("base", p->backoff.base_us, 25000);
	put_num("max", p->backoff.max_us, 250000);
	put_flag("previous_hosts", p->previous_hosts);
	put_num("attempts", p->host_attempts, 1);
	put_num("previous_priorities", p->previous_priorities, 0);
	put("}");
}

static void show_action(const struct route *t, unsigned nfilters)
{
	const struct redirect_cfg *x = t->redirect;
	switch (t->action) {
	case ACTION_CLUSTER:
		put(" -> %.*s%s", STR_ARG(t->cluster_name), t->cluster ? "" : "(none)");
		break;
	case ACTION_CLUSTER_HEADER: put(" -> header %.*s", STR_ARG(t->cluster_name)); break;
	case ACTION_NONE: put(" -> none"); break;
	case ACTION_DIRECT:
		put(" -> %u \"%.*s\"", t->direct_status, STR_ARG(t->direct_body));
		break;
	case ACTION_REDIRECT:
		put(" -> redirect %u", x->status);
		put_flag("https", x->https);
		put_flag("strip_query", x->strip_query);
		put_str("scheme", x->scheme);
		put_str("host", x->host);
		put_str("path", x->path);
		put_str("prefix", x->prefix_rewrite);
		put_num("port", x->port, 0);
		put_flag("regex", x->regex != NULL);
		put_str("with", x->regex_rewrite);
		break;
	case ACTION_WEIGHTED:
		put(" -> of %u", t->total_weight);
		for (unsigned i = 0; i < t->nweighted; i++) {
			const struct weighted_cluster *w = &t->weighted[i];
			put(" {%.*s %u", STR_ARG(w->name), w->weight);
			put_str("host", w->host_rewrite);
			show_both_ops(&w->headers);
			show_per_filter(w->per_filter, nfilters);
			put("}");
		}
	}
}

static void show_route(const struct route *t, unsigned nfilters)
{
	static const char *const kinds[] = {"header", "cookie", "ip", "query"};
	put("      ");
	show_match(t);
	show_action(t, nfilters);
	put_str("name", t->name);
	if (t->action <= ACTION_CLUSTER_HEADER)
		put_num("not_found", t->cluster_not_found, 503);
	put_str("prefix_rewrite", t->prefix_rewrite);
	put_flag("regex_rewrite", t->rewrite_regex != NULL);
	put_str("with", t->rewrite_with);
	put_str("host", t->host_rewrite);
	put_flag("auto_host", t->auto_host_rewrite);
	put_str("host_header", t->host_rewrite_header);
	put_flag("host_regex", t->host_rewrite_regex != NULL);
	put_flag("xfh", t->append_x_forwarded_host);
	show_both_ops(&t->headers_ops);
	put_num("timeout", t->timeout_us, LIMIT_ROUTE_US);
	if (t->has_idle)
		put(" idle=%llu", (unsigned long long)t->idle_timeout_us);
	if (t->has_max_duration)
		put(" max=%llu", (unsigned long long)t->max_duration_us);
	show_retry(t->retry);
	for (unsigned i = 0; i < t->nhash; i++) {
		put(" hash(%s %.*s", kinds[t->hash[i].kind], STR_ARG(t->hash[i].name));
		put_num("ttl", t->hash[i].cookie_ttl_us, 0);
		put_flag("make", t->hash[i].make_cookie);
		put_flag("terminal", t->hash[i].terminal);
		put(")");
	}
	put_flag("high", t->priority == 1);
	for (unsigned i = 0; i < t->nupgrades; i++)
		put_str("upgrade", t->upgrades[i]);
	for (unsigned i = 0; i < t->nupgrades_off; i++)
		put_str("no_upgrade", t->upgrades_off[i]);
	put_flag("attempts", t->include_attempt_count);
	put_flag("attempts_back", t->include_attempt_count_response);
	put_flag("metadata", t->metadata != NULL);
	show_per_filter(t->per_filter, nfilters);
	put("\n");
}

static void show_vhosts(const struct hcm_cfg *h)
{
	const struct route_config *rc = h->routes;
	put("    routes %.*s", STR_ARG(rc->name));
	put_num("exact", rc->exact.n, 0);
	for (unsigned i = 0; i < rc->nsuffixes; i++)
		put_str("suffix", rc->suffixes[i].text);
	for (unsigned i = 0; i < rc->nprefixes; i++)
		put_str("prefix", rc->prefixes[i].text);
	put_flag("any", rc->any != NULL);
	put_flag("ignore_port", rc->ignore_port);
	put_flag("most_specific", rc->most_specific_header_mutations_wins);
	show_both_ops(&rc->headers_ops);
	put("\n");
	for (unsigned i = 0; i < rc->nvhosts; i++) {
		const struct vhost *v = rc->vhosts[i];
		put("     vhost %.*s", STR_ARG(v->name));
		put_num("tls", v->require_tls, TLS_NONE);
		show_both_ops(&v->headers_ops);
		for (unsigned k = 0; k < v->nvclusters; k++)
			put_str("virtual", v->vclusters[k].name);
		put("\n");
		for (unsigned k = 0; k < v->nroutes; k++) {
			must(v->routes[k]->index == k && v->routes[k]->vhost == v);
			show_route(v->routes[k], h->nfilters);
		}
	}
}

static void show_logs(const struct access_log_cfg *logs, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct access_log_cfg *l = &logs[i];
		put("    log %.*s%s", STR_ARG(l->path), l->json ? " json" : "");
		put_num("from", l->status_min, 0);
		put_num("to", l->status_max, 0);
		put_num("longer", l->duration_min_us, 0);
		put_flag("not_health", l->not_health_check);
		put_str("flags", l->response_flags);
		if (l->header)
			show_field(l->header);
		if (l->runtime_of)
			put(" %u/%u", l->runtime_fraction, l->runtime_of);
		put(" ");
		show_format(l->format);
		put("\n");
	}
}

static void show_hcm(const struct hcm_cfg *h)
{
	put("   hcm %.*s codec=%d", STR_ARG(h->stat_prefix), h->codec);
	put_flag("admin", h->is_admin);
	put_flag("use_remote", h->use_remote_address);
	put_flag("skip_xff", h->skip_xff_append);
	put_flag("no_request_id", !h->generate_request_id);
	put_flag("preserve_id", h->preserve_request_id);
	put_flag("id_back", h->always_request_id_in_response);
	put_num("hops", h->xff_trusted_hops, 0);
	put_str("via", h->via);
	if (!str_eq(h->server_name, STR("envoy")))
		put_str("server", h->server_name);
	put_num("server_mode", h->server_mode, SERVER_OVERWRITE);
	put_num("xfcc", h->xfcc, XFCC_SANITIZE);
	put_flag("xfcc_subject", h->xfcc_details.subject);
	put_flag("normalize", h->normalize_path);
	put_flag("merge", h->merge_slashes);
	put_num("slashes", h->escaped_slashes, SLASHES_KEEP);
	put_flag("strip_matching", h->strip_matching_port);
	put_flag("strip_any", h->strip_any_port);
	put_flag("strip_dot", h->strip_trailing_dot);
	put_num("underscores", h->underscores, UNDERSCORES_ALLOW);
	put_flag("strict", h->strict_path);
	put_flag("http10", h->accept_http_10);
	put_str("http10_host", h->default_host_http10);
	put_flag("trailers", h->enable_trailers);
	put_flag("proxy_100", h->proxy_100_continue);
	put_flag("proper", h->proper_case);
	put_flag("no_absolute", !h->allow_absolute_url);
	for (unsigned i = 0; i < h->nupgrades; i++)
		put_str("upgrade", h->upgrades[i]);
	put_num("head", h->limits.head, LIMIT_HEAD_KIB * 1024);
	put_num("fields", h->limits.fields, LIMIT_FIELDS);
	put_num("target", h->limits.target, LIMIT_TARGET);
	put_num("streams", h->h2.max_streams, 100);
	put_num("window", h->h2.stream_window, 65536);
	put_num("ping", h->h2.keepalive_interval_us, 0);
	put_str("scheme", h->http_scheme);
	put_num("idle", h->idle_timeout_us, LIMIT_IDLE_US);
	put_num("max_connection", h->max_connection_duration_us, 0);
	put_num("stream_idle", h->stream_idle_timeout_us, LIMIT_STREAM_IDLE_US);
	put_num("request", h->request_timeout_us, 0);
	put_num("headers", h->request_headers_timeout_us, LIMIT_HEADERS_US);
	put_num("drain", h->drain_timeout_us, 5000000);
	put_num("delayed", h->delayed_close_timeout_us, LIMIT_DELAYED_CLOSE_US);
	put_num("max_stream", h->max_stream_duration_us, 0);
	put_num("max_requests", h->max_requests_per_connection, 0);
	for (unsigned i = 0; i < h->nlocal_replies; i++) {
		const struct local_reply *l = &h->local_replies[i];
		put(" reply(%u-%u", l->status_from, l->status_to);
		put_num("status", l->new_status, 0);
		put_str("body", l->body);
		put_flag("format", l->format != NULL);
		show_both_ops(&l->headers);
		put(")");
	}
	put_flag("local_body", h->local_body != NULL);
	put("\n    filters");
	for (unsigned i = 0; i < h->nfilters; i++)
		put(" %.*s%s", STR_ARG(h->filters[i].name), h->filters[i].config ? "*" : "");
	put("\n");
	show_logs(h->logs, h->nlogs);
	show_vhosts(h);
}

static void show_tls(const struct tls_cfg *t)
{
	if (!t)
		return;
	put(" tls{%s certs=%u", t->server ? "server" : "client", t->ncerts);
	put_num("min", (uint64_t)t->min_version, 0);
	put_num("max", (uint64_t)t->max_version, 0);
	for (unsigned i = 0; i < t->nalpn; i++)
		put_str("alpn", t->alpn[i]);
	put_str("ciphers", t->ciphers);
	put_str("curves", t->curves);
	put_flag("ca", t->has_ca);
	put_flag("system", t->system_ca);
	put_flag("crl", t->crl.content.n > 0);
	put_flag("client_cert", t->require_client_cert);
	put_flag("untrusted", t->trust_chain_unverified);
	for (unsigned i = 0; i < t->nsans; i++) {
		put(" san%d", t->sans[i].kind);
		show_string(&t->sans[i].match);
	}
	put_num("spki", t->nspki, 0);
	for (unsigned i = 0; i < t->nhashes; i++)
		put_str("hash", t->hashes[i]);
	put_flag("no_tickets", t->no_tickets);
	put_flag("no_cache", t->no_session_cache);
	put_num("session", t->session_timeout_us, 0);
	put_str("sni", t->sni);
	put_flag("auto_sni", t->auto_sni);
	put_flag("auto_san", t->auto_san);
	put_num("sessions", t->max_session_keys, t->server ? 0 : 1);
	put("}");
}

static void show_chain(const struct chain_cfg *c)
{
	put("  chain %.*s", STR_ARG(c->name));
	if (c->nserver_names) {
		put(" names=");
		put_strs("names", c->server_names, c->nserver_names);
	}
	if (c->nalpns) {
		put(" alpns=");
		put_strs("alpns", c->alpns, c->nalpns);
	}
	put_num("transport", c->transport, TRANSPORT_ANY);
	put_num("port", c->dest_port, 0);
	for (unsigned i = 0; i < c->ndest; i++)
		put(" dest=%u.%u/%u", c->dest[i].bytes[0], c->dest[i].bytes[1], c->dest[i].bits);
	put_num("sources", c->nsource, 0);
	put_num("handshake", c->handshake_us, LIMIT_HANDSHAKE_US);
	show_tls(c->tls);
	put("\n");
	show_hcm(c->hcm);
}

static void show_listener(const struct listener_cfg *l)
{
	put("listener %.*s", STR_ARG(l->name));
	for (unsigned i = 0; i < l->naddresses; i++)
		put(" %.*s", STR_ARG(l->addresses[i].text));
	put_num("backlog", (uint64_t)l->backlog, SOMAXCONN);
	put_num("buffer", l->buffer_limit, 0);
	put_flag("inspector", l->tls_inspector);
	put_flag("transparent", l->transparent);
	put_flag("freebind", l->freebind);
	put_flag("unbound", !l->bind_to_port);
	put_flag("no_reuse_port", !l->reuse_port);
	put_num("inspect", l->inspect_timeout_us, 15000000);
	put_flag("continue", l->inspect_continue);
	put_flag("admin", l->is_admin);
	put_num("mode", l->mode, 0);
	put("\n");
	for (unsigned i = 0; i < l->nchains; i++)
		show_chain(&l->chains[i]);
	if (l->fallback) {
		put("  default");
		show_chain(l->fallback);
	}
}

static void show_cluster(const struct cluster_cfg *c)
{
	static const char *const types[] = {"static", "strict_dns", "logical_dns"};
	static const char *const lbs[] = {"round_robin", "least_request", "random", "ring_hash"};
	put("cluster %.*s %s %s", STR_ARG(c->name), types[c->type], lbs[c->lb]);
	put_str("alt", c->alt_stat_name);
	put_num("connect", c->connect_timeout_us, LIMIT_CONNECT_US);
	put_num("buffer", c->buffer_limit, 0);
	for (int i = 0; i < 2; i++) {
		const struct breaker *b = &c->breakers[i];
		if (b->max_connections != 1024 || b->max_pending != 1024 ||
		    b->max_requests != 1024 || b->max_retries != 3 || b->retry_budget_percent > 0)
			put(" breaker%d=%u,%u,%u,%u,%g", i, b->max_connections, b->max_pending,
			    b->max_requests, b->max_retries, b->retry_budget_percent);
	}
	put_num("family", c->family, DNS_AUTO);
	put_num("refresh", c->dns_refresh_us, 5000000);
	put_flag("ttl", c->respect_dns_ttl);
	for (unsigned i = 0; i < c->nresolvers; i++)
		put_str("resolver", c->resolvers[i].text);
	put_flag("trailers", c->enable_trailers);
	put_flag("proper", c->proper_case);
	put_num("idle", c->idle_timeout_us, LIMIT_UPSTREAM_IDLE_US);
	put_num("max_connection", c->max_connection_duration_us, 0);
	put_num("max_stream", c->max_stream_duration_us, 0);
	put_num("max_requests", c->max_requests_per_connection, 0);
	put_num("head", c->limits.head, LIMIT_HEAD_KIB * 1024);
	put_num("fields", c->limits.fields, LIMIT_FIELDS);
	put_num("choices", c->choice_count, 2);
	put_num("ring_min", c->ring_min, 1024);
	put_num("ring_max", c->ring_max, 8388608);
	put_flag("ring_hostname", c->ring_hostname);
	put_num("panic", (uint64_t)c->healthy_panic, 50);
	put_num("over", c->overprovisioning, 140);
	if (c->tcp_keepalive)
		put(" keepalive=%u,%u,%u", c->keepalive_probes, c->keepalive_time,
		    c->keepalive_interval);
	if (c->bind)
		put_str("from", c->bind->text);
	show_tls(c->tls);
	put("\n");
	for (unsigned i = 0; i < c->nendpoints; i++) {
		const struct endpoint_cfg *e = &c->endpoints[i];
		put("  %.*s", STR_ARG(e->addr.text));
		put_num("weight", e->weight, 1);
		put_num("priority", e->priority, 0);
		put_str("hostname", e->hostname);
		put_flag("unhealthy", e->unhealthy);
		put_flag("metadata", e->metadata != NULL);
		put("\n");
	}
}

static __attribute__((unused)) void show_model(const struct model *m)
{
	put_str("node", m->node_id);
	put_str("of", m->node_cluster);
	if (m->admin)
		put_str("admin", m->admin->text);
	if (m->node_id.n || m->node_cluster.n || m->admin)
		put("\n");
	for (unsigned i = 0; i < m->nclusters; i++)
		show_cluster(m->clusters[i]);
	for (unsigned i = 0; i < m->nlisteners; i++)
		show_listener(m->listeners[i]);
	for (unsigned i = 0; i < m->nwatched; i++)
		put("watches %.*s\n", STR_ARG(m->watched[i]));
}
