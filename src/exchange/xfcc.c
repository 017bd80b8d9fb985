/* src/exchange/xfcc.c: x-forwarded-client-cert, which tells origins who the client of mutual TLS is. By
 * default nobody may say so but us, and we do not: what a client sends is dropped
 * (forward_client_cert_details). */
#include "exchange/exch_int.h"

/* A text that grows in the exchange's arena. */
struct text {
	struct arena *a;
	struct str s;
	bool failed;
};

static void add(struct text *t, const char *key, const char *quote, struct str value)
{
	struct str s = arena_printf(t->a, "%.*s%s%s=%s%.*s%s", STR_ARG(t->s), t->s.n ? ";" : "",
				    key, quote, STR_ARG(value), quote);
	t->failed |= !s.p;
	t->s = s;
}

static struct str ask(struct exchange *ex, enum peer_text what)
{
	struct str s = ex->port->text(ex, what, &ex->arena);
	return s.p ? s : STR("");
}

/* Envoy's order, whatever the order of the configuration. */
static struct str details(struct exchange *ex)
{
	const struct hcm_cfg *c = ex->hcm;
	struct text t = {.a = &ex->arena, .s = STR("")};
	struct str *list, s;
	if (ex->port->list(ex, PEER_LOCAL_URIS, t.a, &list))
		add(&t, "By", "", list[0]);
	if ((s = ask(ex, PEER_SHA256)).n)
		add(&t, "Hash", "", s);
	if (c->xfcc_details.cert && (s = ask(ex, PEER_PEM)).n)
		add(&t, "Cert", "\"", s);
	if (c->xfcc_details.chain && (s = ask(ex, PEER_CHAIN_PEM)).n)
		add(&t, "Chain", "\"", s);
	if (c->xfcc_details.subject)
		add(&t, "Subject", "\"", ask(ex, PEER_SUBJECT));
	if (c->xfcc_details.uri) {
		unsigned n = ex->port->list(ex, PEER_URIS, t.a, &list);
		for (unsigned i = 0; i < n; i++)
			add(&t, "URI", "", list[i]);
		if (n == 0)
			add(&t, "URI", "", STR(""));
	}
	if (c->xfcc_details.dns) {
		unsigned n = ex->port->list(ex, PEER_DNS, t.a, &list);
		for (unsigned i = 0; i < n; i++)
			add(&t, "DNS", "", list[i]);
	}
	return t.failed ? (struct str){NULL, 0} : t.s;
}

bool xfcc_request(struct exchange *ex)
{
	const struct hcm_cfg *c = ex->hcm;
	struct head *h = &ex->req.head;
	if (c->xfcc == XFCC_ALWAYS_FORWARD)
		return true;
	bool mutual = ex->peer->tls && ex->port->number && ex->port->number(ex, PEER_PRESENTED);
	if (c->xfcc == XFCC_SANITIZE || !mutual) {
		head_remove_id(h, FIELD_X_FORWARDED_CLIENT_CERT);
		return true;
	}
	if (c->xfcc == XFCC_FORWARD_ONLY)
		return true;
	struct str mine = details(ex);
	if (mine.p && c->xfcc == XFCC_APPEND_FORWARD &&
	    head_has(h, FIELD_X_FORWARDED_CLIENT_CERT)) {
		if (!head_join_single(h))
			return false;
		struct str old = head_value(h, FIELD_X_FORWARDED_CLIENT_CERT);
		mine = arena_printf(&ex->arena, "%.*s,%.*s", STR_ARG(old), STR_ARG(mine));
	}
	return mine.p && head_set_id(h, FIELD_X_FORWARDED_CLIENT_CERT, mine);
}
