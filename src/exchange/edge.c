/* src/exchange/edge.c
 *
 * What an HTTP connection manager does to a request before the first filter and to an answer after the last (Envoy's
 * mutateRequestHeaders and mutateResponseHeaders; robustness.md 3.4).
 */
#include "base/hash.h"
#include "exchange/exch_int.h"
#include "exchange/format.h"
#include "obs/stats.h"

static void refuse(struct exchange *ex, unsigned status, const char *detail)
{
	ex->req.discard = true;
	reply_direct(ex, status, (struct str){NULL, 0}, detail, "");
}

/* The route that an origin which takes "..;" for ".." would think of. */
static const struct route *lenient_route(struct exchange *ex)
{
	struct str path = ex->path_only;
	char *copy = arena_alloc(&ex->arena, path.n);
	size_t n = 0;
	bool slash;
	if (!copy || !ex->vhost)
		return NULL;
	for (size_t i = 0; i < path.n; i++) {
		bool dots = n && copy[n - 1] == '.';
		for (size_t k = n; dots && k && copy[k - 1] != '/'; k--)
			dots = copy[k - 1] == '.';
		if (path.p[i] == ';' && dots)
			while (i < path.n && path.p[i] != '/')
				i++;
		if (i < path.n)
			copy[n++] = path.p[i];
	}
	ptrdiff_t m = path_normalize(copy, n, true, ex->hcm->merge_slashes, false, &slash);
	if (m < 0)
		return NULL;
	struct route_ask ask = {.head = &ex->req.head,
				.path = {copy, (size_t)m},
				.query = ex->query,
				.tls = ex->peer->tls,
				.random = ex->random};
	return route_match(ex->vhost, &ask);
}

/* A route that answers instead of forwarding keeps something shut. */
static bool guards(const struct route *r)
{
	return r && (r->action == ACTION_DIRECT || r->action == ACTION_REDIRECT);
}

/* False: answered. */
static bool normalize(struct exchange *ex)
{
	const struct hcm_cfg *c = ex->hcm;
	struct field *f = head_get(&ex->req.head, FIELD_PATH);
	struct str target = field_value(f), path, query;
	bool has_query = str_cut(target, '?', &path, &query), slash = false;
	if (path.n == 0 || path.p[0] != '/')
		return true;
	bool dirty = !c->normalize_path;
	for (size_t i = 0; c->normalize_path && i < path.n && !dirty; i++) {
		char ch = path.p[i];
		dirty = ch == '%' || ch == '\\' || (ch == '.' && i && path.p[i - 1] == '/') ||
			(ch == '/' && i && path.p[i - 1] == '/');
	}
	if (!dirty)
		return true;
	char *copy = arena_alloc(&ex->arena, target.n + 1);
	if (!copy) {
		refuse(ex, 503, failure_infos[FAILED_MEMORY].details);
		return false;
	}
	memcpy(copy, path.p, path.n);
	bool unescape = c->escaped_slashes == SLASHES_UNESCAPE_REDIRECT ||
			c->escaped_slashes == SLASHES_UNESCAPE_FORWARD;
	ptrdiff_t n =
		path_normalize(copy, path.n, c->normalize_path, c->merge_slashes, unescape, &slash);
	if (n < 0) {
		if (!c->normalize_path)
			return true;
		refuse(ex, 400, "path_normalization_failed");
		return false;
	}
	if (slash && c->escaped_slashes == SLASHES_REJECT) {
		refuse(ex, 400, "path_normalization_failed");
		return false;
	}
	if (!c->normalize_path && !c->merge_slashes && !(slash && unescape))
		return true;
	size_t total = (size_t)n;
	if (has_query) {
		copy[total++] = '?';
		memcpy(copy + total, query.p, query.n);
		total += query.n;
	}
	struct str now = {copy, total};
	if (str_eq(now, target))
		return true;
	ex->original_path = target;
	head_set_id(&ex->req.head, FIELD_PATH, now);
	if (slash && c->escaped_slashes == SLASHES_UNESCAPE_REDIRECT) {
		ex->req.discard = true;
		reply_direct(ex, 307, (struct str){NULL, 0}, "path_normalization_redirect", "");
		head_add_id(&ex->resp.head, FIELD_LOCATION, now);
		return false;
	}
	return true;
}

static const char hex[] = "0123456789abcdef";
static void make_request_id(struct exchange *ex)
{
	uint64_t r[2] = {random_u64(), random_u64()};
	uint8_t b[16];
	memcpy(b, r, 16);
	b[6] = (uint8_t)((b[6] & 15) | 0x40); /* RFC 9562 5.4 */
	b[8] = (uint8_t)((b[8] & 63) | 0x80);
	char *o = ex->request_id;
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*o++ = '-';
		*o++ = hex[b[i] >> 4];
		*o++ = hex[b[i] & 15];
	}
}

/* "ip:port" without the port; brackets of IPv6 too. */
static struct str address_only(struct str a)
{
	size_t n = a.n;
	while (n && a.p[n - 1] != ':')
		n--;
	if (n == 0)
		return a;
	n--;
	if (n >= 2 && a.p[0] == '[' && a.p[n - 1] == ']')
		return (struct str){a.p + 1, n - 2};
	return (struct str){a.p, n};
}

/* The nth address from the right of X-Forwarded-For (0: the last), or .p NULL. */
static struct str xff_from_right(struct str v, unsigned n)
{
	while (v.p) {
		size_t at = v.n;
		while (at && v.p[at - 1] != ',')
			at--;
		struct str part = str_trim(str_from(v, at));
		if (n == 0)
			return part.n ? part : (struct str){NULL, 0};
		if (at == 0)
			break;
		v.n = at - 1;
		n--;
	}
	return (struct str){NULL, 0};
}

static bool looks_like_ip(struct str s)
{
	if (s.n == 0 || s.n > 45)
		return false;
	bool colon = false, dot = false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		colon |= c == ':';
		dot |= c == '.';
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') ||
		      c == ':' || c == '.'))
			return false;
	}
	return colon || dot;
}

static bool forwarded(struct exchange *ex)
{
	const struct hcm_cfg *c = ex->hcm;
	struct head *h = &ex->req.head;
	struct str xff = head_value(h, FIELD_X_FORWARDED_FOR), from = {NULL, 0};
	bool ok = true, unix_peer = ex->peer->remote.n && ex->peer->remote.p[0] == '/';
	ex->remote = ex->peer->remote;
	if (xff.p)
		xff = head_joined(h, STR("x-forwarded-for"), ",", &ex->arena);
	if (c->use_remote_address) {
		if (c->xff_trusted_hops)
			from = xff_from_right(xff, c->xff_trusted_hops - 1);
		if (!c->skip_xff_append && !unix_peer) {
			struct str ip = address_only(ex->peer->remote);
			struct str v = ip;
			if (xff.n) {
				v = arena_printf(&ex->arena, "%.*s,%.*s", STR_ARG(xff),
						 STR_ARG(ip));
				ok &= v.p != NULL;
			}
			ok = ok && head_set_id(h, FIELD_X_FORWARDED_FOR, v);
		}
	} else {
		from = xff_from_right(xff, c->xff_trusted_hops);
	}
	if (from.p && looks_like_ip(from)) {
		ex->remote = arena_printf(&ex->arena,
					  memchr(from.p, ':', from.n) ? "[%.*s]:0" : "%.*s:0",
					  STR_ARG(from));
		ok &= ex->remote.p != NULL;
	}
	struct str scheme = ex->peer->tls ? STR("https") : STR("http");
	if (c->http_scheme.p)
		scheme = c->http_scheme;
	if ((c->use_remote_address && c->xff_trusted_hops == 0) ||
	    !head_has(h, FIELD_X_FORWARDED_PROTO)) {
		ok = ok && head_set_id(h, FIELD_X_FORWARDED_PROTO, scheme);
	} else {
		struct str proto = head_value(h, FIELD_X_FORWARDED_PROTO);
		if (str_ieq(proto, STR("http")) || str_ieq(proto, STR("https")))
			scheme = proto;
	}
	return ok && head_set_id(h, FIELD_SCHEME, scheme);
}

/* Fields that only a gateway inside may set; from an edge's clients they are not believed. */
static const enum field_id internal_fields[] = {
	FIELD_X_ENVOY_INTERNAL,     FIELD_X_ENVOY_RETRY_ON,    FIELD_X_ENVOY_MAX_RETRIES,
	FIELD_X_ENVOY_TIMEOUT,      FIELD_X_ENVOY_TRY_TIMEOUT, FIELD_X_ENVOY_EXPECTED_TIMEOUT,
	FIELD_X_ENVOY_ORIGINAL_PATH};

static void drop_internal(struct head *h)
{
	uint64_t any[2] = {0, 0};
#pragma GCC unroll 16
	for (size_t i = 0; i < sizeof internal_fields / sizeof *internal_fields;
	     i++) /* the compiler adds them up */
		any[internal_fields[i] / 64] |= (uint64_t)1 << internal_fields[i] % 64;
	if (__builtin_expect(!(h->has[0] & any[0]) && !(h->has[1] & any[1]), 1))
		return;
	for (size_t i = 0; i < sizeof internal_fields / sizeof *internal_fields; i++)
		if (head_has(h, internal_fields[i]))
			head_remove_id(h, internal_fields[i]);
}

static bool identity(struct exchange *ex)
{
	const struct hcm_cfg *c = ex->hcm;
	struct head *h = &ex->req.head;
	struct field *id = head_get(h, FIELD_X_REQUEST_ID);
	if (c->use_remote_address)
		drop_internal(h);
	if (id && (!c->use_remote_address || c->preserve_request_id || !c->generate_request_id)) {
		size_t n = id->value_n < sizeof ex->request_id - 1 ? id->value_n
								   : sizeof ex->request_id - 1;
		memcpy(ex->request_id, id->value_p, n);
	} else if (c->generate_request_id) {
		make_request_id(ex);
		if (!head_set_id(h, FIELD_X_REQUEST_ID, (struct str){ex->request_id, 36}))
			return false;
	}
	if (c->via.p) {
		struct str via = head_value(h, FIELD_VIA);
		struct str v = via.n ? arena_printf(&ex->arena, "%.*s, %.*s", STR_ARG(via),
						    STR_ARG(c->via))
				     : c->via;
		if (!v.p || !head_set_id(h, FIELD_VIA, v))
			return false;
	}
	return true;
}

static bool underscores(struct exchange *ex)
{
	struct head *h = &ex->req.head;
	for (unsigned i = h->pseudo; i < h->n;) {
		if (!memchr(h->f[i].name_p, '_', h->f[i].name_n)) {
			i++;
			continue;
		}
		if (ex->hcm->underscores == UNDERSCORES_REJECT) {
			ex->drain_connection = true;
			ex->req.discard = true;
			reply_direct(ex, 400, STR("Bad Request"), "http1.underscore", "");
			return false;
		}
		head_remove_at(h, i);
	}
	return true;
}

/* False: no memory. */
static bool strip_authority(struct exchange *ex)
{
	const struct hcm_cfg *c = ex->hcm;
	struct field *f = head_get(&ex->req.head, FIELD_AUTHORITY);
	if (!f)
		return true;
	struct str a = field_value(f);
	size_t colon = a.n;
	while (colon && a.p[colon - 1] >= '0' && a.p[colon - 1] <= '9')
		colon--;
	bool has_port = colon > 1 && colon < a.n && a.p[colon - 1] == ':';
	if (has_port && (c->strip_any_port || c->strip_matching_port)) {
		uint64_t port = 0, ours = 0;
		struct str local = ex->peer->local;
		size_t k = local.n;
		while (k && local.p[k - 1] != ':')
			k--;
		str_u64(str_from(local, k), &ours);
		str_u64(str_from(a, colon), &port);
		if (c->strip_any_port || port == ours) {
			a.n = colon - 1;
			has_port = false;
		}
	}
	size_t host = has_port ? colon - 1 : a.n; /* "a.example.:80" becomes "a.example:80" */
	if (c->strip_trailing_dot && host > 1 && a.p[host - 1] == '.') {
		char *p = arena_alloc(&ex->arena, a.n);
		if (!p)
			return false;
		memcpy(p, a.p, host - 1);
		memcpy(p + host - 1, a.p + host, a.n - host);
		a = (struct str){p, a.n - 1};
		f->value_p = p;
	}
	f->value_n = (uint32_t)a.n;
	return true;
}

void edge_request(struct exchange *ex)
{
	const struct hcm_cfg *c = ex->hcm;
	struct head *h = &ex->req.head;
	ex->random = random_u64();
	if (!head_has(h, FIELD_AUTHORITY)) {
		if (ex->http10 && c->default_host_http10.p) {
			head_set_id(h, FIELD_AUTHORITY, c->default_host_http10);
		} else {
			refuse(ex, 400, "missing_host_header");
			return;
		}
	}
	struct str path = head_value(h, FIELD_PATH);
	if (path.n == 0 || path.p[0] != '/') { /* "*" among them; before any filter, as Envoy */
		refuse(ex, 404, "absolute_path_rejected");
		return;
	}
	if (ex->underscores && c->underscores != UNDERSCORES_ALLOW && !underscores(ex))
		return;
	if ((c->strip_any_port || c->strip_matching_port || c->strip_trailing_dot) &&
	    !strip_authority(ex)) {
		refuse(ex, 503, failure_infos[FAILED_MEMORY].details);
		return;
	}
	if ((c->normalize_path || c->merge_slashes || c->escaped_slashes != SLASHES_KEEP) &&
	    !normalize(ex))
		return;
	if (!forwarded(ex) || !identity(ex)) {
		refuse(ex, 503, failure_infos[FAILED_MEMORY].details);
		return;
	}
	if (__builtin_expect(
		    head_has(h, FIELD_X_FORWARDED_CLIENT_CERT) || c->xfcc > XFCC_FORWARD_ONLY, 0) &&
	    !xfcc_request(ex)) {
		refuse(ex, 503, failure_infos[FAILED_MEMORY].details);
		return;
	}
	/* the codec has checked the pseudo fields; who changes them now is checked by the router */
	h->touched = false;
	const struct route *r = exch_route(ex);
	uint64_t most = c->max_stream_duration_us;
	if (r && r->has_max_duration)
		most = r->max_duration_us;
	if (most)
		ex->deadline_us[DEADLINE_DURATION] = ex->began_us + most;
	/* ..; and .; : servlet containers take them for dot segments */
	if (ex->path_only.p && path_has_dot_params(ex->path_only) &&
	    (c->strict_path || ex->model->options.strict_path || guards(r) ||
	     guards(lenient_route(ex))))
		refuse(ex, 400, "path_semicolon");
}

void edge_response(struct exchange *ex)
{
	const struct hcm_cfg *c = ex->hcm;
	struct head *h = &ex->resp.head;
	if (ex->answer_edge_done)
		return;
	ex->answer_edge_done = true;
	/* A script may have removed or spoilt the status (robustness.md L8). */
	if (h->status < 100 || h->status > 599 || (h->status < 200 && h->status != 101) ||
	    (h->status == 101 && !ex->tunnel)) {
		const struct failure_info *i = &failure_infos[FAILED_MISSING_STATUS];
		reply_direct(ex, i->status, str_of(i->text), i->details, i->flag);
		return;
	}
	bool ok = true;
	if (c->server_mode == SERVER_OVERWRITE ||
	    (c->server_mode == SERVER_APPEND_IF_ABSENT && !head_has(h, FIELD_SERVER)))
		ok = head_set_id(h, FIELD_SERVER, c->server_name);
	if (!head_has(h, FIELD_DATE)) {
		char *d = arena_alloc(&ex->arena, 32);
		if (d) {
			memcpy(d, loop_http_date(ex->env->loop), 29);
			ok &= head_add_id(h, FIELD_DATE, (struct str){d, 29});
		}
	}
	if (c->via.p) {
		struct str via = head_value(h, FIELD_VIA);
		struct str v = via.n ? arena_printf(&ex->arena, "%.*s, %.*s", STR_ARG(via),
						    STR_ARG(c->via))
				     : c->via;
		ok &= v.p && head_set_id(h, FIELD_VIA, v);
	}
	if (c->always_request_id_in_response && ex->request_id[0] &&
	    !head_has(h, FIELD_X_REQUEST_ID))
		ok &= head_add_id(h, FIELD_X_REQUEST_ID, str_of(ex->request_id));
	if (h->status == 204 || h->status == 304 || ex->is_head) {
		/* RFC 9110 6.4.1: no content, whatever a filter put there */
		if (!chain_empty(&ex->resp.out) && !ex->tunnel)
			chain_clear(&ex->resp.out);
	}
	if (!ok) {
		ex->cut = true;
	}
}
