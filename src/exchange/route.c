/* src/exchange/route.c: which route an exchange takes, and what is configured for it there. */
#include "exchange/exch_int.h"

char exch_no_host[1];

const struct route *exch_route(struct exchange *ex)
{
	if (ex->routed)
		return ex->route;
	const struct head *h = &ex->req.head;
	struct route_ask ask = {.head = h, .tls = ex->peer->tls, .random = ex->random};
	struct str path = head_value(h, FIELD_PATH), rest;
	ex->routed = true;
	ex->route = NULL;
	ex->weighted = NULL;
	ex->cluster = NULL;
	/* A path without one, or without a scheme, is routed nowhere, as in Envoy (lua-filter.md
	 * 4.2). */
	ex->vhost = path.p && head_has(h, FIELD_X_FORWARDED_PROTO)
			    ? vhost_match(ex->hcm->routes, head_value(h, FIELD_AUTHORITY))
			    : NULL;
	if (!ex->vhost)
		return NULL;
	str_cut(path, '?', &ask.path, &rest);
	ask.query = rest;
	ex->path_only = ask.path;
	ex->query = rest;
	if (ex->peer->tls && ex->port->number) {
		/* asked only by routes that look at certificates; cheap enough on TLS */
		ask.cert_presented = ex->port->number(ex, PEER_PRESENTED) != 0;
		ask.cert_validated = ex->port->number(ex, PEER_VALIDATED) != 0;
	}
	ex->route = route_match(ex->vhost, &ask);
	if (!ex->route)
		return NULL;
	switch (ex->route->action) {
	case ACTION_CLUSTER: ex->cluster = ex->route->cluster; break;
	case ACTION_WEIGHTED:
		ex->weighted = route_weighted(ex->route, ex->random);
		ex->cluster = ex->weighted ? ex->weighted->cluster : NULL;
		break;
	case ACTION_CLUSTER_HEADER: {
		const struct field *f = head_find(h, ex->route->cluster_name);
		ex->cluster = f ? cluster_find(ex->model, field_value(f)) : NULL;
		break;
	}
	default: break;
	}
	return ex->route;
}

void exch_clear_route(struct exchange *ex)
{
	ex->routed = false;
}

void *exch_route_config(struct exchange *ex, const struct filter_cfg *f)
{
	const struct route *r = exch_route(ex);
	if (!r)
		return NULL;
	if (ex->weighted && ex->weighted->per_filter && ex->weighted->per_filter[f->index])
		return ex->weighted->per_filter[f->index];
	return r->per_filter ? r->per_filter[f->index] : NULL;
}
