/* src/model/route.c: on the path of every request; nothing here allocates. */
#include "base/must.h"
#include "model/model.h"
#include "model/regex.h"

/* The longest host name that can be configured exactly (config refuses longer ones). */
enum { HOST_MAX = 512 };

static size_t without_port(struct str host)
{
	const char *colon = memrchr(host.p, ':', host.n);
	/* "[::1]": a colon before the bracket's end is part of the address. */
	if (!colon || memchr(colon, ']', host.n - (size_t)(colon - host.p)))
		return host.n;
	return (size_t)(colon - host.p);
}

static const struct vhost *exact_host(const struct route_config *rc, struct str host)
{
	char low[HOST_MAX];
	unsigned char upper = 0;
	if (rc->exact.n == 0 || host.n > sizeof low)
		return NULL;
	/* Most hosts come in lower case: first only look. */
	for (size_t i = 0; i < host.n; i++)
		upper |= (unsigned char)((unsigned char)host.p[i] - 'A') < 26;
	if (__builtin_expect(upper, 0)) {
		for (size_t i = 0; i < host.n; i++) {
			char c = host.p[i];
			low[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
		}
		host.p = low;
	}
	return map_get(&rc->exact, host);
}

const struct vhost *vhost_match(const struct route_config *rc, struct str authority)
{
	struct str host = authority;
	if (rc->exact.n + rc->nsuffixes + rc->nprefixes == 0)
		return rc->any;
	if (host.n == 0)
		return NULL;
	if (rc->ignore_port)
		host.n = without_port(host);
	const struct vhost *v = exact_host(rc, host);
	if (v)
		return v;
	/* A wildcard stands for at least one character. */
	for (unsigned i = 0; i < rc->nsuffixes; i++) {
		struct str t = rc->suffixes[i].text;
		if (t.n < host.n && str_ieq((struct str){host.p + host.n - t.n, t.n}, t))
			return rc->suffixes[i].vhost;
	}
	for (unsigned i = 0; i < rc->nprefixes; i++) {
		struct str t = rc->prefixes[i].text;
		if (t.n < host.n && str_ieq((struct str){host.p, t.n}, t))
			return rc->prefixes[i].vhost;
	}
	return rc->any;
}

static bool same(const struct route *r, const char *p)
{
	if (r->path.n == 0)
		return true;
	return r->case_sensitive ? memcmp(p, r->path.p, r->path.n) == 0
				 : strncasecmp(p, r->path.p, r->path.n) == 0;
}

static bool path_matches(const struct route *r, const struct route_ask *ask)
{
	struct str p = ask->path;
	/* A CONNECT request names no path; only its own kind of route serves it. */
	bool connect = ask->head->method == METHOD_CONNECT;
	if (__builtin_expect(connect, 0) || r->path_kind == PATH_CONNECT)
		return connect && r->path_kind == PATH_CONNECT;
	switch (r->path_kind) {
	case PATH_PREFIX: return p.n >= r->path.n && same(r, p.p);
	case PATH_EXACT: return p.n == r->path.n && same(r, p.p);
	case PATH_SEPARATED_PREFIX:
		return p.n >= r->path.n && (p.n == r->path.n || p.p[r->path.n] == '/') &&
		       same(r, p.p);
	case PATH_REGEX: return regex_full_match(r->regex, p);
	case PATH_CONNECT: break;
	}
	return false;
}

static bool tls_matches(const struct route *r, const struct route_ask *ask)
{
	if (r->tls_presented_set && (ask->tls && ask->cert_presented) != r->tls_presented)
		return false;
	return !r->tls_validated_set || (ask->tls && ask->cert_validated) == r->tls_validated;
}

/* What most routes do not ask for; kept out of the way of those. */
static __attribute__((noinline)) bool rest_matches(const struct route *r,
						   const struct route_ask *ask)
{
	if (r->fraction_of && ask->random % r->fraction_of >= r->fraction)
		return false;
	if (r->grpc_only && !head_is_grpc(ask->head))
		return false;
	if (r->tls_known && !tls_matches(r, ask))
		return false;
	for (unsigned i = 0; i < r->nquery; i++)
		if (!query_matches(&r->query[i], ask->query))
			return false;
	for (unsigned i = 0; i < r->ncookies; i++)
		if (!cookie_matches(&r->cookies[i], ask->head))
			return false;
	return true;
}

const struct route *route_match(const struct vhost *v, const struct route_ask *ask)
{
	for (unsigned i = 0; i < v->nroutes; i++) {
		const struct route *r = v->routes[i];
		if (!path_matches(r, ask))
			continue;
		unsigned k = 0;
		while (k < r->nheaders && field_matches(&r->headers[k], ask->head))
			k++;
		if (k < r->nheaders)
			continue;
		if ((r->nquery | r->ncookies | r->fraction_of | r->grpc_only | r->tls_known) &&
		    !rest_matches(r, ask))
			continue;
		return r;
	}
	return NULL;
}

const struct weighted_cluster *route_weighted(const struct route *r, uint64_t random)
{
	if (r->nweighted == 0)
		return NULL;
	must(r->total_weight > 0);
	uint64_t at = random % r->total_weight, sum = 0;
	for (unsigned i = 0; i < r->nweighted; i++) {
		sum += r->weighted[i].weight;
		if (at < sum)
			return &r->weighted[i];
	}
	return NULL;
}
