/* src/model/chain.c
 *
 * Which filter chain serves a connection. As Envoy: the criteria are asked in a fixed order, at each the closest fit
 * among the chains left decides, and there is no way back. That is the lexicographic maximum of how well a
 * chain fits at each step, where "does not fit" ends a chain's row: if the best row ends so, nothing serves.
 */
#include "model/model.h"

enum step {
	DEST_PORT,
	DEST,
	NAME,
	TRANSPORT,
	ALPN,
	DIRECT_SOURCE,
	SOURCE_TYPE,
	SOURCE,
	SOURCE_PORT,
	STEPS
};

struct ip {
	uint8_t bytes[16];
	uint8_t family; /* 0: no IP address */
	uint16_t port;
};

static struct ip ip_of(const struct address *a)
{
	struct ip ip = {0};
	if (!a || a->len == 0)
		return ip;
	if (a->sa.sa_family == AF_INET) {
		memcpy(ip.bytes, &a->in4.sin_addr, 4);
		ip.port = ntohs(a->in4.sin_port);
		ip.family = AF_INET;
	} else if (a->sa.sa_family == AF_INET6) {
		static const uint8_t mapped[12] = {[10] = 0xff, 0xff};
		ip.port = ntohs(a->in6.sin6_port);
		if (memcmp(&a->in6.sin6_addr, mapped, 12) ==
		    0) { /* IPv4 through a dual-stack socket */
			memcpy(ip.bytes, (const uint8_t *)&a->in6.sin6_addr + 12, 4);
			ip.family = AF_INET;
		} else {
			memcpy(ip.bytes, &a->in6.sin6_addr, 16);
			ip.family = AF_INET6;
		}
	}
	return ip;
}

static bool in_range(const struct cidr *c, const struct ip *ip)
{
	unsigned whole = c->bits / 8, left = c->bits % 8;
	if (c->family != ip->family || memcmp(c->bytes, ip->bytes, whole) != 0)
		return false;
	return left == 0 || ((c->bytes[whole] ^ ip->bytes[whole]) >> (8 - left)) == 0;
}

/* -1: no; 0: the chain does not ask; more: the longer the prefix the better. */
static int fit_range(const struct cidr *c, unsigned n, const struct ip *ip)
{
	int best = n ? -1 : 0;
	for (unsigned i = 0; i < n; i++)
		if (in_range(&c[i], ip) && c[i].bits + 1 > best)
			best = c[i].bits + 1;
	return best;
}

static int fit_name(const struct chain_cfg *c, struct str sni)
{
	int best = c->nserver_names ? -1 : 0;
	for (unsigned i = 0; i < c->nserver_names && sni.n; i++) {
		struct str n = c->server_names[i];
		if (str_eq(n, sni))
			return INT32_MAX;
		/* "*.example.com" stands for one or more labels before it. */
		if (n.n > 2 && n.p[0] == '*' && sni.n >= n.n && str_ends(sni, str_from(n, 1)) &&
		    (int)n.n > best)
			best = (int)n.n;
	}
	return best;
}

/* The client's first wish counts most. */
static int fit_alpn(const struct chain_cfg *c, const struct chain_ask *ask)
{
	if (c->nalpns == 0)
		return 0;
	for (unsigned k = 0; k < ask->nalpns; k++)
		for (unsigned i = 0; i < c->nalpns; i++)
			if (str_eq(c->alpns[i], ask->alpns[k]))
				return (int)(ask->nalpns - k);
	return -1;
}

static bool is_local(const struct ip *from, const struct ip *to)
{
	static const uint8_t loopback6[16] = {[15] = 1};
	if (from->family == AF_INET && from->bytes[0] == 127)
		return true;
	if (from->family == AF_INET6 && memcmp(from->bytes, loopback6, 16) == 0)
		return true;
	return from->family == 0 ||
	       (from->family == to->family && memcmp(from->bytes, to->bytes, 16) == 0);
}

static int fit(enum step s, const struct chain_cfg *c, const struct chain_ask *ask,
	       const struct ip *to, const struct ip *from)
{
	switch (s) {
	case DEST_PORT: return c->dest_port == 0 ? 0 : c->dest_port == to->port ? 1 : -1;
	case DEST: return fit_range(c->dest, c->ndest, to);
	case NAME: return fit_name(c, ask->sni);
	case TRANSPORT:
		return c->transport == TRANSPORT_ANY                 ? 0
		       : (c->transport == TRANSPORT_TLS) == ask->tls ? 1
								     : -1;
	case ALPN: return fit_alpn(c, ask);
	case DIRECT_SOURCE: return fit_range(c->direct_source, c->ndirect_source, from);
	case SOURCE_TYPE:
		return c->source_type == SOURCE_ANY                                           ? 0
		       : (c->source_type == SOURCE_SAME_IP_OR_LOOPBACK) == is_local(from, to) ? 1
											      : -1;
	case SOURCE: return fit_range(c->source, c->nsource, from);
	case SOURCE_PORT:
		for (unsigned i = 0; i < c->nsource_ports; i++)
			if (c->source_ports[i] == from->port)
				return 1;
		return c->nsource_ports ? -1 : 0;
	case STEPS: break;
	}
	return -1;
}

/* Fills row; the steps behind one that does not fit count as not fitting. True: all fit. */
static bool fit_all(int row[STEPS], const struct chain_cfg *c, const struct chain_ask *ask,
		    const struct ip *to, const struct ip *from)
{
	bool fits = true;
	for (int s = 0; s < STEPS; s++) {
		row[s] = fits ? fit((enum step)s, c, ask, to, from) : -1;
		fits = row[s] >= 0;
	}
	return fits;
}

static bool is_better(const int a[STEPS], const int b[STEPS])
{
	int s = 0;
	while (s < STEPS - 1 && a[s] == b[s])
		s++;
	return a[s] > b[s];
}

const struct chain_cfg *model_chain_for(const struct listener_cfg *l, const struct chain_ask *ask)
{
	struct ip to = ip_of(ask->local), from = ip_of(ask->remote);
	const struct chain_cfg *best = NULL;
	int row[STEPS], have[STEPS];
	for (int s = 0; s < STEPS; s++)
		have[s] = -1;
	for (unsigned i = 0; i < l->nchains; i++) {
		bool fits = fit_all(row, &l->chains[i], ask, &to, &from);
		if (!is_better(row, have))
			continue;
		best = fits ? &l->chains[i] : NULL;
		memcpy(have, row, sizeof have);
	}
	return best ? best : l->fallback;
}

static bool share_names(const struct str *a, unsigned na, const struct str *b, unsigned nb)
{
	for (unsigned i = 0; i < na; i++)
		for (unsigned k = 0; k < nb; k++)
			if (str_eq(a[i], b[k]))
				return true;
	return na == 0 && nb == 0;
}

static bool share_ranges(const struct cidr *a, unsigned na, const struct cidr *b, unsigned nb)
{
	for (unsigned i = 0; i < na; i++)
		for (unsigned k = 0; k < nb; k++)
			if (memcmp(&a[i], &b[k], sizeof *a) == 0)
				return true;
	return na == 0 && nb == 0;
}

static bool share_ports(const struct chain_cfg *a, const struct chain_cfg *b)
{
	for (unsigned i = 0; i < a->nsource_ports; i++)
		for (unsigned k = 0; k < b->nsource_ports; k++)
			if (a->source_ports[i] == b->source_ports[k])
				return true;
	return a->nsource_ports == 0 && b->nsource_ports == 0;
}

bool chains_overlap(const struct chain_cfg *a, const struct chain_cfg *b)
{
	return a->dest_port == b->dest_port && a->transport == b->transport &&
	       a->source_type == b->source_type &&
	       share_ranges(a->dest, a->ndest, b->dest, b->ndest) &&
	       share_names(a->server_names, a->nserver_names, b->server_names, b->nserver_names) &&
	       share_names(a->alpns, a->nalpns, b->alpns, b->nalpns) &&
	       share_ranges(a->direct_source, a->ndirect_source, b->direct_source,
			    b->ndirect_source) &&
	       share_ranges(a->source, a->nsource, b->source, b->nsource) && share_ports(a, b);
}
