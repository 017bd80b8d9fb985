/* src/front/peer.c: facts about the client's connection that exchange may ask for, and checks
 * common to both codecs. */
#include "front/front_int.h"

static struct conn *conn_of(const struct exchange *ex)
{
	return &client_of(ex)->conn;
}

struct client *client_of(const struct exchange *ex)
{
	/* every exchange's peer is embedded in its client's work */
	return ((struct work *)((char *)(uintptr_t)ex->peer - offsetof(struct work, peer)))->client;
}

struct str port_text(struct exchange *ex, enum peer_text what, struct arena *a)
{
	static const enum tls_text map[] = {
		[PEER_TLS_VERSION] = TLS_VERSION,
		[PEER_CIPHER] = TLS_CIPHER,
		[PEER_CIPHER_ID] = TLS_CIPHER_ID,
		[PEER_SESSION_ID] = TLS_SESSION_ID,
		[PEER_SNI] = TLS_SNI,
		[PEER_ALPN] = TLS_ALPN,
		[PEER_SUBJECT] = TLS_PEER_SUBJECT,
		[PEER_ISSUER] = TLS_PEER_ISSUER,
		[PEER_SERIAL] = TLS_PEER_SERIAL,
		[PEER_SHA256] = TLS_PEER_SHA256,
		[PEER_PEM] = TLS_PEER_PEM_URLENCODED,
		[PEER_CHAIN_PEM] = TLS_PEER_CHAIN_URLENCODED,
		[PEER_LOCAL_SUBJECT] = TLS_LOCAL_SUBJECT,
		[PEER_CN] = TLS_PEER_CN,
	};
	if (!conn_is_tls(conn_of(ex)))
		return (struct str){"", 0};
	return tls_text(conn_of(ex), map[what], a);
}

unsigned port_list(struct exchange *ex, enum peer_list what, struct arena *a, struct str **out)
{
	static const enum tls_list map[] = {
		[PEER_URIS] = TLS_PEER_URIS,        [PEER_DNS] = TLS_PEER_DNS,
		[PEER_OIDS] = TLS_PEER_OIDS,        [PEER_ORGS] = TLS_PEER_ORGS,
		[PEER_LOCAL_URIS] = TLS_LOCAL_URIS, [PEER_LOCAL_DNS] = TLS_LOCAL_DNS,
		[PEER_LOCAL_OIDS] = TLS_LOCAL_OIDS,
	};
	*out = NULL;
	if (!conn_is_tls(conn_of(ex)))
		return 0;
	return tls_list(conn_of(ex), map[what], a, out);
}

int64_t port_number(struct exchange *ex, enum peer_number what)
{
	const struct conn *c = conn_of(ex);
	if (!conn_is_tls(c))
		return 0;
	switch (what) {
	case PEER_PRESENTED: return tls_peer_presented(c);
	case PEER_VALIDATED: return tls_peer_validated(c);
	case PEER_NOT_BEFORE: return tls_peer_not_before(c);
	case PEER_NOT_AFTER: return tls_peer_not_after(c);
	}
	return 0;
}

/* The upgrade asked for, when the configuration names it; .p NULL otherwise. */
static struct str upgrade_of(const struct exchange *ex)
{
	struct str v = head_value(&ex->req.head, FIELD_UPGRADE);
	if (!v.p)
		return v;
	for (unsigned i = 0; i < ex->hcm->nupgrades; i++)
		if (str_ieq(str_trim(v), ex->hcm->upgrades[i]))
			return str_trim(v);
	return (struct str){NULL, 0};
}

bool request_refused(struct exchange *ex)
{
	struct head *h = &ex->req.head;
	if (__builtin_expect(ex->env->pressure >= PRESSURE_REFUSE, 0) &&
	    !ex->peer->listener->is_admin) {
		exch_refuse_overload(ex);
		return true;
	}
	if (h->method == METHOD_CONNECT) {
		exch_refuse(ex, 404, "route_not_found");
		return true;
	}
	if (h->method == METHOD_TRACE) {
		exch_refuse(ex, 405, "method");
		return true;
	}
	if (head_has(h, FIELD_EXPECT)) {
		if (!str_ieq(head_value(h, FIELD_EXPECT), STR("100-continue"))) {
			exch_refuse(ex, 417, "expect");
			return true;
		}
		if (ex->hcm->proxy_100_continue)
			ex->expect_continue = true;
		else
			head_remove_id(h, FIELD_EXPECT); /* answered here, RFC 9110 10.1.1 */
	}
	if (head_has(h, FIELD_UPGRADE)) {
		ex->upgrade = upgrade_of(ex);
		if (!ex->upgrade.p)
			head_remove_id(h, FIELD_UPGRADE);
	}
	if (head_has(h, FIELD_HTTP2_SETTINGS))
		head_remove_id(h, FIELD_HTTP2_SETTINGS);
	return false;
}
