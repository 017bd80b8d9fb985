/* src/filters/router/router.c
 *
 * The terminal filter of most chains: redirects, direct answers, and the call to the origin that the route selects. Glues a call
 * (upstream) to an exchange; what they have to do with each other is only here.
 */
#include "base/hash.h"
#include "exchange/exchange.h"
#include "exchange/format.h"
#include "filters/filters.h"
#include "filters/origin.h"
#include "model/regex.h"
#include "obs/stats.h"
#include "upstream/call.h"
#include "upstream/upstream.h"
#include <stdio.h>
#include <stdlib.h>

struct router_cfg {
	bool suppress_envoy_headers, respect_expected_timeout;
};
struct router {
	struct call *call;
	bool head_done; /* the answer's head was handed over */
	bool request_sent;
	bool limited;      /* the call reads no more than a filter lets it */
	struct str cookie; /* made for a hash policy, to be set in the answer; .p NULL none */
	uint64_t begun_us;
};

static void *router_compile(struct compile *c, const struct doc *cfg)
{
	struct router_cfg *r = arena_zalloc(c->arena, sizeof *r);
	const struct doc *d = doc_field(cfg, "suppress_envoy_headers");
	if (r && d && d->kind == DOC_BOOL)
		r->suppress_envoy_headers = d->boolean;
	return r;
}

static struct str scheme_of(const struct exchange *ex)
{
	return head_value(&ex->req.head, FIELD_SCHEME);
}

static bool redirect_to(struct exchange *ex, unsigned status, struct str location)
{
	struct head *h = &ex->resp.head;
	return head_init(h, &ex->arena, true, 12) && head_set_status(h, status) && location.p &&
	       head_add_id(h, FIELD_LOCATION, location);
}

/* Route, virtual host and route configuration add and remove fields, the most specific first
 * (Envoy's order). */
static __attribute__((noinline)) void apply_some_ops(struct exchange *ex, struct head *h,
						     bool request)
{
	const struct header_ops *r = &ex->route->headers_ops, *v = &ex->vhost->headers_ops,
				*c = &ex->vhost->config->headers_ops;
	const struct header_ops *ops[4];
	unsigned n = 0;
	if (ex->weighted)
		ops[n++] = &ex->weighted->headers;
	ops[n++] = r;
	ops[n++] = v;
	ops[n++] = c;
	if (ex->vhost->config->most_specific_header_mutations_wins)
		for (unsigned i = 0; i < n / 2; i++) {
			const struct header_ops *t = ops[i];
			ops[i] = ops[n - 1 - i];
			ops[n - 1 - i] = t;
		}
	for (unsigned i = 0; i < n; i++) {
		const struct header_op *list = request ? ops[i]->request : ops[i]->response;
		unsigned k = request ? ops[i]->nrequest : ops[i]->nresponse;
		if (k)
			header_ops_apply(ex, h, list, k);
	}
}

static inline void apply_ops(struct exchange *ex, struct head *h, bool request)
{
	const struct header_ops *r = &ex->route->headers_ops, *v = &ex->vhost->headers_ops,
				*c = &ex->vhost->config->headers_ops;
	if (ex->weighted || (request ? r->nrequest | v->nrequest | c->nrequest
				     : r->nresponse | v->nresponse | c->nresponse))
		apply_some_ops(ex, h, request);
}

/* The path with the route's rewrite; .p NULL: no memory; unchanged when there is none. */
static struct str rewritten(struct exchange *ex, struct str prefix_rewrite,
			    const struct regex *regex, struct str with, bool strip_query)
{
	const struct route *r = ex->route;
	struct str target = head_value(&ex->req.head, FIELD_PATH), path, query;
	bool has_query = str_cut(target, '?', &path, &query);
	struct str now = path;
	if (prefix_rewrite.p && r->path_kind != PATH_REGEX && path.n >= r->path.n) {
		struct str rest = r->path_kind == PATH_EXACT ? (struct str){"", 0}
							     : str_from(path, r->path.n);
		now = arena_printf(&ex->arena, "%.*s%.*s", STR_ARG(prefix_rewrite), STR_ARG(rest));
	} else if (regex) {
		char *out;
		size_t n;
		if (!regex_replace(regex, path, with, &out, &n))
			return (struct str){NULL, 0};
		now = arena_str(&ex->arena, (struct str){out, n});
		free(out);
	} else if (!strip_query) {
		return target;
	}
	if (!now.p)
		return now;
	if (has_query && !strip_query)
		now = arena_printf(&ex->arena, "%.*s?%.*s", STR_ARG(now), STR_ARG(query));
	return now;
}

static enum verdict redirect(struct exchange *ex)
{
	const struct redirect_cfg *d = ex->route->redirect;
	struct str scheme = scheme_of(ex), host = head_value(&ex->req.head, FIELD_AUTHORITY),
		   path = head_value(&ex->req.head, FIELD_PATH);
	char port[8] = "";
	size_t colon = host.n;
	struct str old_scheme = scheme;
	if (d->https)
		scheme = STR("https");
	else if (d->scheme.p)
		scheme = d->scheme;
	while (colon && host.p[colon - 1] >= '0' && host.p[colon - 1] <= '9')
		colon--;
	bool has_port = colon > 1 && colon <= host.n && host.p[colon - 1] == ':';
	if (has_port && d->port)
		host.n = colon - 1;
	/* a default port of the old scheme goes with it */
	if (has_port && !d->port && !d->host.p && !str_ieq(scheme, old_scheme)) {
		struct str p = str_from(host, colon);
		if (str_eq(p, str_ieq(old_scheme, STR("http")) ? STR("80") : STR("443")))
			host.n = colon - 1;
	}
	if (d->host.p)
		host = d->host;
	if (d->port)
		snprintf(port, sizeof port, ":%u", d->port & 0xffffu);
	if (d->path.p) {
		struct str p, q;
		bool has_query = str_cut(path, '?', &p, &q);
		path = d->path;
		if (has_query && !d->strip_query && !memchr(d->path.p, '?', d->path.n))
			path = arena_printf(&ex->arena, "%.*s?%.*s", STR_ARG(d->path), STR_ARG(q));
	} else {
		path = rewritten(ex, d->prefix_rewrite, d->regex, d->regex_rewrite, d->strip_query);
	}
	struct str to = path.p ? arena_printf(&ex->arena, "%.*s://%.*s%s%.*s", STR_ARG(scheme),
					      STR_ARG(host), port, STR_ARG(path))
			       : path;
	if (!redirect_to(ex, d->status ? d->status : 301, to)) {
		exch_fail(ex, FAILED_MEMORY);
		return ANSWERED;
	}
	apply_ops(ex, &ex->resp.head, false);
	stat_add(ex->hcm->stats->rq_redirect, 1);
	exch_answer(ex, NULL, "direct_response");
	return ANSWERED;
}

/* RFC 9110 10.2.2: Envoy names the place for 201 and every 3xx, which is the target itself here. */
static bool direct_location(struct exchange *ex)
{
	unsigned status = ex->resp.head.status;
	if (status != 201 && status / 100 != 3)
		return true;
	struct str to = arena_printf(&ex->arena, "%.*s://%.*s%.*s", STR_ARG(scheme_of(ex)),
				     STR_ARG(head_value(&ex->req.head, FIELD_AUTHORITY)),
				     STR_ARG(head_value(&ex->req.head, FIELD_PATH)));
	return to.p && head_set_id(&ex->resp.head, FIELD_LOCATION, to);
}

static enum verdict direct(struct exchange *ex)
{
	stat_add(ex->hcm->stats->rq_direct_response, 1);
	exch_reply(ex, ex->route->direct_status,
		   ex->route->direct_body.p ? ex->route->direct_body : STR(""), "direct_response",
		   "");
	if (!ex->refused && ex->resp.begun && !ex->head_sent && !exch_answer_ready(ex)) {
		if (direct_location(ex))
			apply_ops(ex, &ex->resp.head, false);
		else
			exch_fail(ex, FAILED_MEMORY);
	}
	return ANSWERED;
}

static bool host_rewrites(struct exchange *ex)
{
	const struct route *r = ex->route;
	struct head *h = &ex->req.head;
	struct str to = r->host_rewrite, was = head_value(h, FIELD_AUTHORITY);
	if (ex->weighted && ex->weighted->host_rewrite.p)
		to = ex->weighted->host_rewrite;
	if (!to.p && r->host_rewrite_header.p) {
		const struct field *f = head_find(h, r->host_rewrite_header);
		if (f && f->value_n)
			to = field_value(f);
	}
	if (!to.p && r->host_rewrite_regex) {
		char *out;
		size_t n;
		struct str path = ex->path_only;
		if (!regex_replace(r->host_rewrite_regex, path, r->host_rewrite_with, &out, &n))
			return false;
		to = arena_str(&ex->arena, (struct str){out, n});
		free(out);
		if (!to.p)
			return false;
	}
	if (!to.p && r->auto_host_rewrite && ex->cluster && ex->cluster->nendpoints &&
	    ex->cluster->type != CLUSTER_STATIC)
		to = ex->cluster->endpoints[0].hostname.p ? ex->cluster->endpoints[0].hostname
							  : ex->cluster->endpoints[0].addr.name;
	if (!to.p)
		return true;
	if (r->append_x_forwarded_host && was.p && !str_eq(was, to)) {
		struct str xfh = head_value(h, FIELD_X_FORWARDED_HOST);
		struct str v =
			xfh.n ? arena_printf(&ex->arena, "%.*s,%.*s", STR_ARG(xfh), STR_ARG(was))
			      : was;
		if (!v.p || !head_set_id(h, FIELD_X_FORWARDED_HOST, v))
			return false;
	}
	return head_set_id(h, FIELD_AUTHORITY, to);
}

/* Envoy's finalizeRequestHeaders. */
static bool finish_request(struct exchange *ex, const struct router_cfg *cfg, uint64_t timeout_us)
{
	const struct route *r = ex->route;
	struct head *h = &ex->req.head;
	if (r->prefix_rewrite.p || r->rewrite_regex) {
		struct str was = head_value(h, FIELD_PATH);
		struct str now =
			rewritten(ex, r->prefix_rewrite, r->rewrite_regex, r->rewrite_with, false);
		if (!now.p)
			return false;
		if (!str_eq(now, was)) {
			if (!cfg->suppress_envoy_headers &&
			    !head_set_id(h, FIELD_X_ENVOY_ORIGINAL_PATH, was))
				return false;
			if (!head_set_id(h, FIELD_PATH, now))
				return false;
		}
	}
	apply_ops(ex, h, true);
	if ((r->host_rewrite.p || r->host_rewrite_header.p || r->host_rewrite_regex ||
	     r->auto_host_rewrite || (ex->weighted && ex->weighted->host_rewrite.p)) &&
	    !host_rewrites(ex))
		return false;
	if (!cfg->suppress_envoy_headers && timeout_us) {
		struct str ms =
			arena_printf(&ex->arena, "%llu", (unsigned long long)(timeout_us / 1000));
		if (!ms.p || !head_set_id(h, FIELD_X_ENVOY_EXPECTED_TIMEOUT, ms))
			return false;
	}
	return !h->arena->over;
}

/* As Envoy's: NAME="VALUE"; Max-Age=…; Path=…; HttpOnly. */
static struct str make_cookie(struct exchange *ex, const struct hash_policy *p, struct str value)
{
	struct str age = STR(""), path = STR("");
	if (p->cookie_ttl_us)
		age = arena_printf(&ex->arena, "; Max-Age=%llu",
				   (unsigned long long)(p->cookie_ttl_us / 1000000));
	if (p->cookie_path.n)
		path = arena_printf(&ex->arena, "; Path=%.*s", STR_ARG(p->cookie_path));
	return arena_printf(&ex->arena, "%.*s=\"%.*s\"%.*s%.*s; HttpOnly", STR_ARG(p->name),
			    STR_ARG(value), STR_ARG(age), STR_ARG(path));
}

static bool hash_of(struct exchange *ex, struct router *rt, uint64_t *out)
{
	const struct route *r = ex->route;
	bool any = false;
	uint64_t hash = 0;
	for (unsigned i = 0; i < r->nhash; i++) {
		const struct hash_policy *p = &r->hash[i];
		struct str v = {NULL, 0};
		switch (p->kind) {
		case HASH_HEADER: {
			const struct field *f = head_find(&ex->req.head, p->name);
			if (f)
				v = field_value(f);
			break;
		}
		case HASH_COOKIE:
			v = cookie_value(&ex->req.head, p->name);
			if (!v.p && p->make_cookie) {
				v = arena_printf(&ex->arena, "%016llx",
						 (unsigned long long)random_u64());
				rt->cookie = make_cookie(ex, p, v);
			}
			break;
		case HASH_SOURCE_IP: {
			struct str a = ex->remote;
			while (a.n && a.p[a.n - 1] != ':')
				a.n--;
			if (a.n)
				a.n--;
			v = a;
			break;
		}
		case HASH_QUERY: {
			struct str q = ex->query, part;
			while (q.n && !v.p) {
				struct str name, value;
				str_cut(q, '&', &part, &q);
				if (str_cut(part, '=', &name, &value) ? str_eq(name, p->name)
								      : str_eq(part, p->name))
					v = value;
			}
			break;
		}
		}
		if (!v.p)
			continue;
		uint64_t one = hash_fixed(v.p, v.n);
		hash = any ? (hash << 1 | hash >> 63) ^ one : one;
		any = true;
		if (p->terminal)
			break;
	}
	*out = hash;
	return any;
}

static void call_event(struct call *c)
{
	struct exchange *ex = c->owner;
	ex->pump_due = true;
	exch_run_later(ex);
}

/* A value that x-envoy-upstream-rq-timeout-ms gives, else the route's. */
static uint64_t timeout_of(const struct exchange *ex)
{
	struct str v = head_value(&ex->req.head, FIELD_X_ENVOY_TIMEOUT);
	uint64_t ms;
	if (v.p && str_u64(v, &ms) && ms < UINT64_MAX / 1000)
		return ms * 1000;
	return ex->route->timeout_us;
}

static bool upgrade_allowed(const struct exchange *ex)
{
	const struct route *r = ex->route;
	for (unsigned i = 0; i < r->nupgrades_off; i++)
		if (str_ieq(r->upgrades_off[i], ex->upgrade))
			return false;
	return true;
}

static enum verdict answer_status(struct exchange *ex, unsigned status, const char *text,
				  const char *details, const char *flags)
{
	exch_reply(ex, status, str_of(text), details, flags);
	return ANSWERED;
}

/* Before anything is sent: what a script or a client left must make a request (robustness.md
 * L8). */
static enum verdict check_request(struct exchange *ex)
{
	const struct head *h = &ex->req.head;
	struct str path = head_value(h, FIELD_PATH), method = head_value(h, FIELD_METHOD),
		   authority = head_value(h, FIELD_AUTHORITY);
	if (!method.p || !field_name_ok(method))
		return answer_status(ex, 503, "missing required header: :method",
				     "filter_removed_required_request_headers", "");
	if (!authority.p || !authority_ok(authority))
		return answer_status(ex, 400, "", "missing_host_header", "");
	if (!path.n || (path.p[0] != '/' && !(path.n == 1 && path.p[0] == '*')))
		return answer_status(ex, 404, "", "missing_path", "");
	for (size_t i = 0; i < path.n; i++)
		if ((unsigned char)path.p[i] <= ' ' || (unsigned char)path.p[i] >= 0x7f ||
		    path.p[i] == '#')
			return answer_status(ex, 400, "", "invalid_path", "");
	return GO_ON;
}

static enum verdict to_https(struct exchange *ex)
{
	struct str to = arena_printf(&ex->arena, "https://%.*s%.*s",
				     STR_ARG(head_value(&ex->req.head, FIELD_AUTHORITY)),
				     STR_ARG(head_value(&ex->req.head, FIELD_PATH)));
	if (!redirect_to(ex, 301, to)) {
		exch_fail(ex, FAILED_MEMORY);
		return ANSWERED;
	}
	stat_add(ex->hcm->stats->rq_redirect, 1);
	exch_answer(ex, NULL, "direct_response");
	return ANSWERED;
}

/* Everything that is answered here, without an origin. GO_ON: there is a cluster to be asked. */
static enum verdict answer_here(struct exchange *ex, const struct route *r)
{
	if (ex->vhost && ex->vhost->require_tls != TLS_NONE &&
	    !str_ieq(scheme_of(ex), STR("https")) && head_has(&ex->req.head, FIELD_PATH))
		return to_https(ex);
	if (!r) {
		stat_add(ex->hcm->stats->no_route, 1);
		return answer_status(ex, 404, "", "route_not_found", "NR");
	}
	if (ex->req.head.method == METHOD_TRACE)
		return answer_status(ex, 405, "", "method", "");
	if (r->action == ACTION_REDIRECT)
		return redirect(ex);
	if (r->action == ACTION_DIRECT)
		return direct(ex);
	if (!ex->cluster) {
		stat_add(ex->hcm->stats->no_cluster, 1);
		return answer_status(ex, r->cluster_not_found ? r->cluster_not_found : 503, "",
				     "cluster_not_found", "NC");
	}
	enum verdict v = ex->req.head.touched ? check_request(ex) : GO_ON;
	if (v == GO_ON && ex->upgrade.p && !upgrade_allowed(ex))
		return answer_status(ex, 403, "", "upgrade_failed", "");
	return v;
}

static bool open_call(struct exchange *ex, struct router *rt, uint64_t timeout)
{
	const struct route *r = ex->route;
	struct leg *leg = &ex->req;
	bool ended = leg->in_ended && chain_empty(&leg->in) && chain_empty(&leg->held) &&
		     !leg->batch_waiting && leg->size == 0;
	bool hooks = false;
	for (unsigned i = 0; i + 1 < ex->nfilters; i++)
		hooks |= ex->hcm->filters[i].type->response != NULL;
	struct call_request rq = {
		.model = ex->model,
		.cluster = ex->cluster,
		.head = &leg->head,
		.arena = &ex->arena,
		.ended = ended,
		.length = ended && method_is_bare(leg->head.method) &&
					  !head_has(&leg->head, FIELD_CONTENT_LENGTH)
				  ? -1
				  : leg_framing(leg),
		.timeout_us = ex->upgrade.p ? 0 : timeout,
		.retry = r->retry,
		.priority = r->priority,
		.override_host = ex->override_host,
		.override_strict = ex->override_strict,
		.upgrade = ex->upgrade,
		.keep_interim = ex->expect_continue,
		.no_interim = hooks && !ex->expect_continue,
		.attempt_count = r->include_attempt_count,
		.trailers_ok = ex->cluster->enable_trailers,
	};
	if (r->nhash)
		rq.has_hash = hash_of(ex, rt, &rq.hash);
	rt->call = call_open(ex->env->upstream, &rq, call_event, ex);
	rt->request_sent = ended;
	return rt->call != NULL;
}

static enum verdict router_request(struct exchange *ex, const struct filter_cfg *self)
{
	const struct route *r = exch_route(ex);
	enum verdict v = answer_here(ex, r);
	if (v != GO_ON)
		return v;
	uint64_t timeout = timeout_of(ex);
	struct router *rt = arena_zalloc(&ex->arena, sizeof *rt);
	if (rt)
		rt->begun_us = loop_now_us(ex->env->loop);
	exch_state_set(ex, self, rt);
	if (!rt || !finish_request(ex, self->config, timeout) || !open_call(ex, rt, timeout)) {
		exch_fail(ex, FAILED_MEMORY);
		return ANSWERED;
	}
	return GO_ON;
}

/* A call is about to be left. */
static void note_last(struct exchange *ex, const struct call *c)
{
	ex->attempts = c->attempts;
	origin_note(ex, c);
}

static bool hand_over_head(struct exchange *ex, const struct filter_cfg *self, struct router *rt)
{
	struct call *c = rt->call;
	const struct router_cfg *cfg = self->config;
	ex->attempts = c->attempts;
	origin_head(ex, c);
	if (!cfg->suppress_envoy_headers) {
		char b[24];
		uint64_t now = loop_now_us(ex->env->loop);
		int n = snprintf(b, sizeof b, "%llu",
				 (unsigned long long)((now - rt->begun_us) / 1000));
		if (!head_add_copy(&ex->resp.head, STR("x-envoy-upstream-service-time"),
				   (struct str){b, (size_t)n}))
			return false;
	}
	if (rt->cookie.p && !head_add_id(&ex->resp.head, FIELD_SET_COOKIE, rt->cookie))
		return false;
	if (ex->route && ex->vhost) {
		if (ex->route->include_attempt_count_response) {
			struct str v = arena_printf(&ex->arena, "%u", c->attempts);
			if (!v.p || !head_set_id(&ex->resp.head, FIELD_X_ENVOY_ATTEMPT_COUNT, v))
				return false;
		}
		apply_ops(ex, &ex->resp.head, false);
	}
	unsigned s = c->head->status;
	bool bodyless = ex->is_head || s == 204 || s == 304;
	rt->head_done = true;
	if (c->tunnel)
		exch_tunnel(ex);
	/* a chunked answer without a byte stays a chunked one */
	bool empty = c->ended && chain_empty(&c->in) && !head_has(c->head, FIELD_TRANSFER_ENCODING);
	int64_t size = bodyless || empty ? 0 : c->length;
	exch_answer_head(ex, c->tunnel ? -1 : size);
	return true;
}

/* Until it is all sent, or the call has said that it is full: only then does it tell us of room. */
static void pump_request(struct exchange *ex, struct router *rt)
{
	struct call *c = rt->call;
	struct leg *leg = &ex->req;
	while (leg->out.n || (leg->ended && !rt->request_sent)) {
		size_t room = call_room(c);
		if (c->request_lost) {
			chain_clear(&leg->out);
			ex->req.discard = !ex->keep_request;
			break;
		}
		if (!room && leg->out.n)
			break;
		struct chain some = {0};
		if (leg->out.n <= room)
			chain_move(&some, &leg->out);
		else if (!chain_split(&some, &leg->out, room))
			break;
		bool end = leg->ended && chain_empty(&leg->out);
		ex->last_active_us = loop_now_us(ex->env->loop);
		call_send(c, &some, end, end ? leg->trailers : NULL);
		rt->request_sent = end;
	}
	if (!leg->in_ended && exch_request_room(ex))
		ex->port->room(ex);
}

/* The call is over for us; what is known of it stays in ex. */
static void leave_call(struct exchange *ex, struct router *rt)
{
	struct call *c = rt->call;
	note_last(ex, c);
	rt->call = NULL;
	call_close(c);
}

static void pump_answer(struct exchange *ex, struct router *rt)
{
	struct call *c = rt->call;
	size_t room = ex->is_head || ex->resp.holding ? SIZE_MAX : exch_answer_room(ex);
	if (!room && !c->ended)
		return;
	struct chain some = {0};
	if (c->in.n <= room || !chain_split(&some, &c->in, room))
		chain_move(&some, &c->in);
	bool end = c->ended && chain_empty(&c->in);
	struct head *trailers = end ? c->trailers : NULL;
	if (end)
		leave_call(ex, rt);
	exch_answer_data(ex, &some, end, trailers);
	if (!end)
		call_took(c);
}

/* A filter holds the head: what may come of the body stays with the call, which reads no more. */
static void hold_answer(struct exchange *ex, struct router *rt)
{
	const struct leg *leg = &ex->resp;
	size_t have = leg->in.n + leg->held.n + leg->batch.n;
	rt->limited = true;
	call_limit(rt->call, have < leg->hold_limit ? leg->hold_limit - have : 0);
}

/* Moves what can be moved, both ways. */
static void router_pump(struct exchange *ex, const struct filter_cfg *self)
{
	struct router *rt = exch_state(ex, self);
	if (!rt || !rt->call) {
		/* others want the rest of the request */
		if (rt && ex->keep_request && ex->req.out.n) {
			chain_clear(&ex->req.out);
			ex->port->room(ex);
		}
		return;
	}
	struct call *c = rt->call;
	pump_request(ex, rt);
	while (c->interim) {
		struct interim *i = c->interim;
		c->interim = i->next;
		exch_interim(ex, i->head);
	}
	enum failure_kind why = c->failure;
	if (c->failed && !c->has_head) {
		leave_call(ex, rt);
		exch_fail(ex, why);
		if (why == FAILED_OVERFLOW && ex->resp.begun && !ex->head_sent)
			head_add(&ex->resp.head, STR("x-envoy-overloaded"), STR("true"));
		return;
	}
	if (!rt->head_done) {
		if (!c->has_head)
			return;
		if (!hand_over_head(ex, self, rt)) {
			exch_fail(ex, FAILED_MEMORY);
			return;
		}
		/* both came at once: the filters see the head first, then the break shows */
		if (c->failed) {
			ex->pump_due = true;
			return;
		}
	}
	if (ex->resp.holding && !c->ended && !c->failed) {
		hold_answer(ex, rt);
		return;
	}
	if (rt->limited) {
		rt->limited = false;
		call_limit(c, SIZE_MAX);
	}
	call_gather(c, ex->resp.gathering ? exch_answer_room(ex) : 0);
	if (c->in.n || (c->ended && !ex->resp.in_ended))
		pump_answer(ex, rt);
	/* one pipe's content at a time: what the client has not taken yet stops the next */
	if (rt->call && c->length >= LIMIT_SPLICE)
		call_splice(c, chain_empty(&ex->resp.out) && exch_unseen(ex));
	if (rt->call && c->failed) {
		leave_call(ex, rt);
		exch_answer_broken(ex, why);
	}
}

/* Another answer goes out instead: the connection may still be of use. */
static void router_lose(struct exchange *ex, const struct filter_cfg *self,
			const struct call_discard *how)
{
	struct router *rt = exch_state(ex, self);
	if (!rt || !rt->call)
		return;
	note_last(ex, rt->call);
	call_drain(rt->call, how);
	rt->call = NULL;
}

static void router_end(struct exchange *ex, const struct filter_cfg *self)
{
	struct router *rt = exch_state(ex, self);
	if (!rt || !rt->call)
		return;
	note_last(ex, rt->call);
	call_cancel(rt->call);
	rt->call = NULL;
}

static const char *const urls[] = {"envoy.extensions.filters.http.router.v3.Router", NULL};
const struct filter_type filter_router = {
	.name = "envoy.filters.http.router",
	.type_urls = urls,
	.terminal = true,
	.compile = router_compile,
	.request = router_request,
	.pump = router_pump,
	.lose = router_lose,
	.end = router_end,
};
