/* src/filters/fallback/match.c: what is read out of, or written into, heads (spec/fallback.md 9,
 * 12); the loop guard (14). */
#include "filters/fallback/fallback_int.h"
#include "filters/filters.h"
#include "obs/log.h"
#include <arpa/inet.h>

enum { DECODED = 1024 };

/* ---- override */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'                     ? c - '0'
	       : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
							: -1;
}

/* Percent-decoded into b; itself when there is nothing to decode. What is too long to match
 * anything becomes "". */
static struct str decoded(struct str s, char b[DECODED])
{
	size_t n = 0;
	if (s.n == 0 || !memchr(s.p, '%', s.n))
		return s;
	if (s.n > DECODED)
		return STR("");
	for (size_t i = 0; i < s.n; i++) {
		int hi = s.p[i] == '%' && i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1,
		    lo = hi >= 0 ? hex_digit(s.p[i + 2]) : -1;
		b[n++] = lo >= 0 ? (char)(hi << 4 | lo) : s.p[i];
		i += lo >= 0 ? 2 : 0;
	}
	return (struct str){b, n};
}

static bool value_holds(const struct fb_override *o, struct str v)
{
	return o->present || string_matches(&o->match, v);
}

static bool query_holds_decoded(const struct fb_override *o, struct str rest)
{
	char b[DECODED];
	struct str item, name, value;
	while (rest.n) {
		str_cut(rest, '&', &item, &rest);
		str_cut(item, '=', &name, &value);
		if (str_eq(decoded(name, b), o->name) && value_holds(o, decoded(value, b)))
			return true;
	}
	return false;
}

/* The name and what follows it at p, an item's beginning: "NAME" or "NAME=VALUE" up to sep. */
static bool item_holds(const struct fb_override *o, const char *p, const char *end, char sep)
{
	size_t n = o->name.n;
	if ((size_t)(end - p) < n || memcmp(p, o->name.p, n) != 0)
		return false;
	const char *v = p + n, *stop = memchr(v, sep, (size_t)(end - v));
	if (!stop)
		stop = end;
	while (sep == ';' && stop > v && (stop[-1] == ' ' || stop[-1] == '\t'))
		stop--;
	if (v < stop && *v != '=')
		return false;
	return value_holds(o, v < stop ? (struct str){v + 1, (size_t)(stop - v) - 1}
				       : (struct str){v, 0});
}

/* Looks for the name's first letter, and then at what stands before it: most lines do not have
 * it at all. */
static bool line_holds(const struct fb_override *o, struct str line, char sep)
{
	const char *p = line.p, *end = p + line.n;
	while (p < end && (p = memchr(p, o->name.p[0], (size_t)(end - p)))) {
		const char *before = p;
		while (sep == ';' && before > line.p && (before[-1] == ' ' || before[-1] == '\t'))
			before--;
		if ((before == line.p || before[-1] == sep) && item_holds(o, p, end, sep))
			return true;
		p++;
	}
	return false;
}

static bool query_holds(const struct fb_override *o, struct str query)
{
	if (memchr(query.p, '%', query.n))
		return query_holds_decoded(o, query);
	return line_holds(o, query, '&');
}

static bool cookie_holds(const struct fb_override *o, const struct head *h)
{
	const struct field *f = h->f + h->pseudo, *end = h->f + h->n;
	for (; f < end; f++)
		if (f->id == FIELD_COOKIE && line_holds(o, field_value(f), ';'))
			return true;
	return false;
}

static bool header_holds(const struct fb_override *o, const struct head *h)
{
	for (const struct field *f = head_find(h, o->name); f; f = head_find_next(h, f, o->name))
		if (value_holds(o, field_value(f)))
			return true;
	return false;
}

enum override_by override_of(const struct fb_cfg *cfg, const struct exchange *ex)
{
	const struct head *h = &ex->req.head;
	bool cookies = head_has(h, FIELD_COOKIE);
	for (unsigned i = 0; i < cfg->noverrides; i++) {
		const struct fb_override *o = &cfg->overrides[i];
		switch (o->kind) {
		case OVER_QUERY:
			if (ex->query.n && query_holds(o, ex->query))
				return OVERRIDE_QUERY;
			break;
		case OVER_COOKIE:
			if (cookies && cookie_holds(o, h))
				return OVERRIDE_OTHER;
			break;
		case OVER_HEADER:
			if (header_holds(o, h))
				return OVERRIDE_OTHER;
			break;
		}
	}
	return OVERRIDE_NONE;
}

bool has_private_cookie(const struct fb_cfg *cfg, const struct head *h)
{
	for (const struct field *f = h->f; f < h->f + h->n; f++) {
		struct str rest = field_value(f), item;
		if (f->id != FIELD_COOKIE)
			continue;
		while (rest.n) {
			str_cut(rest, ';', &item, &rest);
			for (unsigned i = 0; i < cfg->nprivate_cookies; i++)
				if (str_starts(str_trim(item), cfg->private_cookies[i]))
					return true;
		}
	}
	return false;
}

bool no_cache(const struct head *h)
{
	if (!head_has(h, FIELD_CACHE_CONTROL))
		return head_has(h, FIELD_PRAGMA) &&
		       list_has(head_value(h, FIELD_PRAGMA), STR("no-cache"));
	for (const struct field *f = h->f; f < h->f + h->n; f++)
		if (f->id == FIELD_CACHE_CONTROL && (list_has(field_value(f), STR("no-cache")) ||
						     list_has(field_value(f), STR("no-store"))))
			return true;
	return false;
}

/* ---- names of origins in answers */

static bool is_origin(const struct fb_cfg *cfg, struct str host)
{
	for (unsigned i = 0; i < cfg->nrewrite; i++)
		if (str_ieq(cfg->rewrite[i], host))
			return true;
	return false;
}

/* url with the client's scheme and authority when it names an origin; .p NULL: it does not. */
static struct str public_url(const struct fb_cfg *cfg, const struct exchange *ex, struct str url,
			     struct arena *a)
{
	ptrdiff_t at = str_find(url, STR("//"));
	if (at < 0 || (at > 0 && url.p[at - 1] != ':'))
		return (struct str){NULL, 0};
	struct str rest = str_from(url, (size_t)at + 2);
	size_t n = 0;
	while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?' && rest.p[n] != '#')
		n++;
	struct str host = {rest.p, n}, name = host, port;
	if (!is_origin(cfg, host) && (!str_cut(host, ':', &name, &port) || !is_origin(cfg, name)))
		return (struct str){NULL, 0};
	struct str to = head_value(&ex->req.head, FIELD_AUTHORITY),
		   scheme = head_value(&ex->req.head, FIELD_SCHEME);
	return arena_printf(a, "%.*s%s//%.*s%.*s", at ? (int)scheme.n : 0, scheme.p, at ? ":" : "",
			    STR_ARG(to), STR_ARG(str_from(rest, n)));
}

/* Refresh: seconds; url=URL */
static struct str public_refresh(const struct fb_cfg *cfg, const struct exchange *ex, struct str v,
				 struct arena *a)
{
	ptrdiff_t at = -1;
	for (size_t i = 0; i + 4 <= v.n && at < 0; i++)
		if (str_ieq((struct str){v.p + i, 4}, STR("url=")))
			at = (ptrdiff_t)i + 4;
	if (at < 0)
		return (struct str){NULL, 0};
	struct str url = public_url(cfg, ex, str_from(v, (size_t)at), a);
	return url.p ? arena_printf(a, "%.*s%.*s", (int)at, v.p, STR_ARG(url)) : url;
}

/* The Domain attribute of a cookie. */
static struct str public_cookie(const struct fb_cfg *cfg, const struct exchange *ex, struct str v,
				struct arena *a)
{
	struct str rest = v, item, name, value, host, port;
	str_cut(v, ';', &item, &rest);
	while (rest.n) {
		str_cut(rest, ';', &item, &rest);
		if (!str_cut(item, '=', &name, &value) || !str_ieq(str_trim(name), STR("domain")))
			continue;
		value = str_trim(value);
		struct str bare = value.n && value.p[0] == '.' ? str_from(value, 1) : value;
		if (!is_origin(cfg, bare))
			return (struct str){NULL, 0};
		str_cut(head_value(&ex->req.head, FIELD_AUTHORITY), ':', &host, &port);
		const char *end = value.p + value.n;
		return arena_printf(a, "%.*s%.*s%.*s", (int)(bare.p - v.p), v.p, STR_ARG(host),
				    (int)(v.p + v.n - end), end);
	}
	return (struct str){NULL, 0};
}

bool rewrite_origins(const struct fb_cfg *cfg, const struct exchange *ex, struct head *h)
{
	struct arena *a = h->arena;
	for (struct field *f = h->f; f < h->f + h->n; f++) {
		struct str v = field_value(f), now = {NULL, 0};
		if (f->id == FIELD_LOCATION || f->id == FIELD_CONTENT_LOCATION)
			now = public_url(cfg, ex, v, a);
		else if (f->id == FIELD_SET_COOKIE)
			now = public_cookie(cfg, ex, v, a);
		else if (str_ieq(field_name(f), STR("refresh")))
			now = public_refresh(cfg, ex, v, a);
		if (!now.p)
			continue;
		f->value_p = now.p;
		f->value_n = (uint32_t)now.n;
	}
	return !a->over;
}

/* ---- loops */

static bool is_loopback(const struct sockaddr *to)
{
	if (to->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)to)->sin_addr.s_addr) >>
			       24 ==
		       127;
	return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)to)->sin6_addr);
}

static bool is_ours(const struct fb_cfg *cfg, const struct sockaddr *to)
{
	struct str a =
		to->sa_family == AF_INET
			? (struct str){(const char *)&((const struct sockaddr_in *)(const void *)to)
					       ->sin_addr,
				       4}
			: (struct str){
				  (const char *)&((const struct sockaddr_in6 *)(const void *)to)
					  ->sin6_addr,
				  16};
	for (unsigned i = 0; i < cfg->nown; i++)
		if (str_eq(cfg->own[i], a))
			return true;
	return is_loopback(to);
}

static bool listens(const struct fb_cfg *cfg, const struct address *at, const struct sockaddr *to)
{
	if (to->sa_family == AF_UNIX || at->sa.sa_family == AF_UNIX)
		return to->sa_family == at->sa.sa_family &&
		       strcmp(((const struct sockaddr_un *)(const void *)to)->sun_path,
			      at->un.sun_path) == 0;
	in_port_t port = at->in4.sin_port; /* at the same place in both families */
	if (port == 0 || port != ((const struct sockaddr_in *)(const void *)to)->sin_port)
		return false;
	if (at->sa.sa_family == AF_INET && at->in4.sin_addr.s_addr == INADDR_ANY)
		return to->sa_family == AF_INET && is_ours(cfg, to);
	if (at->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&at->in6.sin6_addr))
		return is_ours(cfg, to);
	if (at->sa.sa_family != to->sa_family)
		return false;
	return to->sa_family == AF_INET
		       ? at->in4.sin_addr.s_addr ==
				 ((const struct sockaddr_in *)(const void *)to)->sin_addr.s_addr
		       : memcmp(&at->in6.sin6_addr,
				&((const struct sockaddr_in6 *)(const void *)to)->sin6_addr,
				16) == 0;
}

/* Quick: whether listens() could be true of one of its addresses. */
static bool may_listen(const struct listener_cfg *l, const struct sockaddr *to)
{
	in_port_t port = to->sa_family == AF_UNIX
				 ? 0
				 : ((const struct sockaddr_in *)(const void *)to)->sin_port;
	for (unsigned k = 0; k < l->naddresses; k++)
		if (l->addresses[k].sa.sa_family == AF_UNIX
			    ? to->sa_family == AF_UNIX
			    : port && l->addresses[k].in4.sin_port == port)
			return true;
	return false;
}

/* A policy of this chain that would ask that cluster again. */
static const struct fb_cfg *same_policy(const struct hcm_cfg *h, struct str cluster)
{
	for (unsigned i = 0; h && i < h->nfilters; i++) {
		const struct fb_cfg *cfg =
			h->filters[i].type == &filter_fallback ? h->filters[i].config : NULL;
		for (unsigned k = 0; cfg && k < cfg->norigins; k++)
			if (str_eq(cfg->origins[k].cluster->name, cluster))
				return cfg;
	}
	return NULL;
}

/* The listener that to leads to, when its chain would ask cluster again; NULL. */
static const struct listener_cfg *loop_of(const struct model *m, struct str cluster,
					  const struct sockaddr *to)
{
	for (unsigned i = 0; i < m->nlisteners; i++) {
		const struct listener_cfg *l = m->listeners[i];
		const struct fb_cfg *cfg = NULL;
		if (__builtin_expect(!may_listen(l, to), 1))
			continue;
		for (unsigned k = 0; k < l->nchains && !cfg; k++)
			cfg = same_policy(l->chains[k].hcm, cluster);
		if (!cfg && l->fallback)
			cfg = same_policy(l->fallback->hcm, cluster);
		for (unsigned k = 0; cfg && k < l->naddresses; k++)
			if (listens(cfg, &l->addresses[k], to))
				return l;
	}
	return NULL;
}

const char *loop_refused(const struct call_request *rq, const struct sockaddr *to)
{
	const struct listener_cfg *l = loop_of(rq->model, rq->cluster->name, to);
	if (!l)
		return NULL;
	log_limited(LOG_FILTER, LOG_ERROR, "fallback loop",
		    "fallback: cluster %.*s leads back to our listener %.*s, whose requests it "
		    "would get again: not asked",
		    STR_ARG(rq->cluster->name), STR_ARG(l->name));
	return "the fallback leads back to this gateway";
}

void loop_verify(const struct filter_cfg *self, const struct model *m, struct diags *d)
{
	const struct fb_cfg *cfg = self->config;
	for (unsigned i = 0; cfg && i < cfg->norigins; i++) {
		const struct cluster_cfg *c = cfg->origins[i].cluster;
		for (unsigned k = 0; k < c->nendpoints; k++) {
			const struct listener_cfg *l =
				c->endpoints[k].addr.len
					? loop_of(m, c->name, &c->endpoints[k].addr.sa)
					: NULL;
			if (l)
				diag_at(d, DIAG_ERROR, self->at,
					"the fallback's cluster %.*s leads to %.*s, which is our "
					"listener %.*s with the same fallback: an endless loop",
					STR_ARG(c->name), STR_ARG(c->endpoints[k].addr.text),
					STR_ARG(l->name));
		}
	}
}
