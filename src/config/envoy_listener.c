/* src/config/envoy_listener.c: listeners and their filter chains. */
#include "config/envoy_int.h"

#define HCM "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
#define INSPECTOR "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"

enum { BACKLOG_MAX = 1 << 20, INSPECT_US = 15000000 };

/* ---- filter_chain_match ---- */

static struct cidr *read_ranges(struct reader *r, const struct doc *d, const char *field,
				unsigned *n)
{
	const struct doc *list = envoy_list(d, field);
	struct cidr *out = envoy_array(r, list ? list->n : 0, sizeof *out);
	*n = 0;
	if (!out)
		return NULL;
	doc_each (range, list) {
		struct str text = read_str_needed(r, range, "address_prefix");
		struct address a;
		struct cidr *c = &out[*n];
		if (!text.p)
			continue;
		if (!envoy_ip(text, 0, &a)) {
			diag_add(r->diags, DIAG_ERROR, read_field(range, "address_prefix"),
				 "\"%.*s\" is no IP address", STR_ARG(text));
			continue;
		}
		bool v4 = a.sa.sa_family == AF_INET;
		c->family = v4 ? AF_INET : AF_INET6;
		c->bits = (uint8_t)read_uint(r, range, "prefix_len", 0, 0, v4 ? 32 : 128);
		memcpy(c->bytes, v4 ? (void *)&a.in4.sin_addr : (void *)&a.in6.sin6_addr,
		       v4 ? 4 : 16);
		for (unsigned bit = c->bits; bit < 128; bit++) /* the host part does not count */
			c->bytes[bit / 8] &= (uint8_t) ~(0x80u >> (bit % 8));
		(*n)++;
	}
	return out;
}

static void read_names(struct reader *r, const struct doc *d, struct chain_cfg *c)
{
	const struct doc *list = envoy_list(d, "server_names");
	c->server_names = envoy_array(r, list ? list->n : 0, sizeof *c->server_names);
	if (!c->server_names)
		return;
	doc_each (v, list) {
		struct str s = envoy_lower(r, v, NULL);
		if (!s.p)
			continue;
		struct str star = s.n && s.p[0] == '*' ? str_from(s, 1) : s;
		bool whole = star.n == s.n || (star.n > 1 && star.p[0] == '.');
		if (s.n == 0 || !whole || memchr(star.p, '*', star.n)) {
			diag_add(r->diags, DIAG_ERROR, v,
				 "is neither a host name nor \"*.\" and a host name");
			continue;
		}
		c->server_names[c->nserver_names++] = s;
	}
}

static void read_match(struct reader *r, const struct doc *d, struct chain_cfg *c)
{
	if (!d)
		return;
	c->dest_port = (uint16_t)read_uint(r, d, "destination_port", 0, 1, 65535);
	c->dest = read_ranges(r, d, "prefix_ranges", &c->ndest);
	c->source = read_ranges(r, d, "source_prefix_ranges", &c->nsource);
	c->direct_source = read_ranges(r, d, "direct_source_prefix_ranges", &c->ndirect_source);
	read_names(r, d, c);
	c->alpns = read_strs(r, d, "application_protocols", &c->nalpns);
	struct str t = read_str(r, d, "transport_protocol");
	if (str_eq(t, STR("tls")))
		c->transport = TRANSPORT_TLS;
	else if (str_eq(t, STR("raw_buffer")))
		c->transport = TRANSPORT_RAW;
	else if (t.n) {
		diag_add(r->diags, DIAG_ERROR, read_field(d, "transport_protocol"),
			 "must be tls or raw_buffer");
		diag_hint(r->diags, "%s", t.p[0] == 't' || t.p[0] == 's' ? "tls" : "raw_buffer");
	}
}

/* ---- a chain ---- */

static void read_chain(struct reader *r, const struct doc *d, struct chain_cfg *c)
{
	const struct doc *filters = envoy_list(d, "filters");
	struct str type;
	c->at = d->at;
	c->name = read_str(r, d, "name");
	read_match(r, read_field(d, "filter_chain_match"), c);
	c->tls = envoy_tls(r, read_field(d, "transport_socket"), true);
	c->handshake_us =
		read_duration(r, d, "transport_socket_connect_timeout", LIMIT_HANDSHAKE_US);
	if (!filters || filters->n != 1) {
		diag_add(r->diags, DIAG_ERROR, filters ? filters : d,
			 "a filter chain needs one filter, the HTTP connection manager");
		if (!filters)
			return;
	}
	doc_each (f, filters) {
		const struct doc *any = read_field(f, "typed_config");
		if (!any) {
			diag_add(r->diags, DIAG_ERROR, f, "typed_config is missing");
			continue;
		}
		const struct doc *body = read_any(r, any, &type);
		if (type.p && str_eq(type, STR(HCM)))
			c->hcm = envoy_hcm(r, body);
		else if (type.p && schema_find(type))
			diag_add(r->diags, DIAG_ERROR, any, "%.*s is no network filter",
				 STR_ARG(type));
	}
}

static void read_chains(struct reader *r, const struct doc *d, struct listener_cfg *l)
{
	unsigned before = r->diags->errors;
	const struct doc *list = envoy_list(d, "filter_chains"),
			 *rest = read_field(d, "default_filter_chain");
	l->chains = envoy_array(r, list ? list->n : 0, sizeof *l->chains);
	if (l->chains)
		doc_each (c, list)
			read_chain(r, c, &l->chains[l->nchains++]);
	if (rest && (l->fallback = envoy_array(r, 1, sizeof *l->fallback)))
		read_chain(r, rest, l->fallback);
	if (!list && !rest)
		diag_add(r->diags, DIAG_ERROR, d, "filter_chains is missing");
	/* What was read wrongly may look alike. */
	for (unsigned i = 0; l->chains && r->diags->errors == before && i < l->nchains; i++)
		for (unsigned k = 0; k < i; k++)
			if (chains_overlap(&l->chains[i], &l->chains[k])) {
				diag_at(r->diags, DIAG_ERROR, l->chains[i].at,
					"this filter chain matches the same connections as the one "
					"on line %u",
					l->chains[k].at.line);
				break;
			}
}

/* ---- a listener ---- */

static void read_inspectors(struct reader *r, const struct doc *d, struct listener_cfg *l)
{
	bool asked = false;
	doc_each (f, envoy_list(d, "listener_filters")) {
		const struct doc *any = read_field(f, "typed_config");
		struct str type = {0};
		if (any)
			read_any(r, any, &type);
		else
			type = schema_canonical_type(read_str(r, f, "name"));
		if (type.p && str_eq(type, STR(INSPECTOR)))
			l->tls_inspector = true;
		else if (!any || (type.p && schema_find(type)))
			diag_add(r->diags, DIAG_ERROR, f,
				 "is no listener filter; tls_inspector is the one there is");
	}
	for (unsigned i = 0; i < l->nchains; i++) {
		const struct chain_cfg *c = &l->chains[i];
		asked |= c->nserver_names || c->nalpns || c->transport != TRANSPORT_ANY;
	}
	if (asked && !l->tls_inspector) {
		diag_add(r->diags, DIAG_NOTICE, d,
			 "the TLS inspector that the filter chains need is put in, as Envoy does");
		l->tls_inspector = true;
	}
	l->inspect_timeout_us = read_duration(r, d, "listener_filters_timeout", INSPECT_US);
	l->inspect_continue = read_bool(r, d, "continue_on_listener_filters_timeout", false);
}

static void read_addresses(struct reader *r, const struct doc *d, struct listener_cfg *l)
{
	const struct doc *more = envoy_list(d, "additional_addresses");
	l->addresses = envoy_array(r, 1 + (more ? more->n : 0), sizeof *l->addresses);
	if (!l->addresses)
		return;
	l->naddresses += read_address(r, d, "address", false, &l->addresses[0]);
	doc_each (a, more)
		l->naddresses += read_address(r, a, "address", false, &l->addresses[l->naddresses]);
	const struct doc *pipe = read_field(read_field(d, "address"), "pipe");
	l->mode = (uint32_t)read_uint(r, pipe, "mode", 0, 0, 0777);
}

static struct listener_cfg *read_listener(struct reader *r, const struct doc *d)
{
	struct listener_cfg *l = envoy_array(r, 1, sizeof *l);
	if (!l)
		return NULL;
	l->at = d->at;
	read_addresses(r, d, l);
	l->name = read_str(r, d, "name");
	if (l->name.n == 0 && l->naddresses)
		l->name = l->addresses[0].text;
	l->backlog = (int)read_uint(r, d, "tcp_backlog_size", SOMAXCONN, 1, BACKLOG_MAX);
	l->buffer_limit = (uint32_t)read_uint(r, d, "per_connection_buffer_limit_bytes", 0, 0,
					      LIMIT_GATHER_HARD);
	l->transparent = read_bool(r, d, "transparent", false);
	l->freebind = read_bool(r, d, "freebind", false);
	l->bind_to_port = read_bool(r, d, "bind_to_port", true);
	l->reuse_port = read_bool(r, d, "enable_reuse_port", read_bool(r, d, "reuse_port", true));
	read_chains(r, d, l);
	read_inspectors(r, d, l);
	return l;
}

static bool same_address(const struct address *a, const struct address *b)
{
	bool any_port = a->sa.sa_family != AF_UNIX && a->port == 0;
	return !any_port && a->len == b->len && str_eq(a->text, b->text);
}

static void find_twins(struct reader *r, const struct doc *d, const struct listener_cfg *l,
		       const struct listener_cfg *o)
{
	if (l->name.n && str_eq(l->name, o->name)) {
		diag_add(r->diags, DIAG_ERROR, d,
			 "there is a listener \"%.*s\" already, on line %u", STR_ARG(l->name),
			 o->at.line);
		return;
	}
	for (unsigned i = 0; i < l->naddresses; i++)
		for (unsigned k = 0; k < o->naddresses; k++)
			if (l->bind_to_port && o->bind_to_port &&
			    same_address(&l->addresses[i], &o->addresses[k])) {
				diag_add(r->diags, DIAG_ERROR, d,
					 "%.*s is taken by the listener on line %u",
					 STR_ARG(l->addresses[i].text), o->at.line);
				return;
			}
}

void envoy_listeners(struct reader *r, const struct doc *list)
{
	struct model *m = r->model;
	m->listeners = envoy_array(r, list ? list->n : 0, sizeof(struct listener_cfg *));
	if (!m->listeners)
		return;
	doc_each (d, list) {
		struct listener_cfg *l = read_listener(r, d);
		if (!l)
			return;
		for (unsigned i = 0; i < m->nlisteners; i++)
			find_twins(r, d, l, m->listeners[i]);
		m->listeners[m->nlisteners++] = l;
	}
}
