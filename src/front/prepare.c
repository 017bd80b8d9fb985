/* src/front/prepare.c: what a model needs from net and obs before it is published. */
#include "base/mem.h"
#include "front/sockets_int.h"
#include "obs/sink.h"
#include "obs/stats.h"

static bool san_ok(void *arg, enum tls_san_kind kind, struct str value)
{
	const struct tls_cfg *t = arg;
	static const int kinds[] = {[TLS_SAN_DNS] = SAN_DNS,
				    [TLS_SAN_URI] = SAN_URI,
				    [TLS_SAN_EMAIL] = SAN_EMAIL,
				    [TLS_SAN_IP] = SAN_IP};
	for (unsigned i = 0; i < t->nsans; i++)
		if ((t->sans[i].kind == SAN_ANY || (int)t->sans[i].kind == kinds[kind]) &&
		    string_matches(&t->sans[i].match, value))
			return true;
	return false;
}

static void free_tls(void *ctx)
{
	tls_ctx_free(ctx);
}

static void free_sink(void *sink)
{
	sink_unref(sink);
}

static bool prepare_tls(struct model *m, struct tls_cfg *t, struct diags *d)
{
	struct tls_pair *pairs = arena_zalloc(&m->arena, (t->ncerts + 1) * sizeof *pairs);
	char err[256] = "";
	if (!pairs)
		return false;
	for (unsigned i = 0; i < t->ncerts; i++)
		pairs[i] = (struct tls_pair){t->certs[i].chain.content, t->certs[i].key.content};
	struct tls_setup s = {
		.server = true,
		.pairs = pairs,
		.npairs = t->ncerts,
		.alpn = t->alpn,
		.nalpn = t->nalpn,
		.min_version = t->min_version,
		.max_version = t->max_version,
		.ciphers = t->ciphers,
		.curves = t->curves,
		.ca_pem = t->ca.content,
		.crl_pem = t->crl.content,
		.verify_peer = t->has_ca || t->nspki || t->nhashes,
		.require_peer = t->require_client_cert,
		.accept_untrusted = t->trust_chain_unverified,
		.system_ca = t->system_ca,
		.no_tickets = t->no_tickets,
		.no_session_cache = t->no_session_cache,
		.session_timeout_s = (uint32_t)(t->session_timeout_us / 1000000),
		.spki_sha256_base64 = t->spki,
		.nspki = t->nspki,
		.cert_sha256_hex = t->hashes,
		.ncert = t->nhashes,
		.san_ok = t->nsans ? san_ok : NULL,
		.san_arg = t,
	};
	t->ctx = tls_ctx_new(&s, err, sizeof err);
	t->ctx_free = free_tls;
	if (!t->ctx)
		diag_at(d, DIAG_ERROR, t->at, "TLS: %s", err);
	return t->ctx != NULL;
}

/* What tells chains of one listener apart by the ClientHello. */
static bool needs_hello(const struct listener_cfg *l)
{
	unsigned n = l->nchains + (l->fallback != NULL);
	for (unsigned i = 0; i < l->nchains; i++)
		if (l->chains[i].nserver_names || l->chains[i].nalpns)
			return true;
	return n > 1;
}

static void mixed(const struct listener_cfg *l, struct diags *d)
{
	bool tls = false, plain = false;
	for (unsigned i = 0; i < l->nchains; i++) {
		tls |= l->chains[i].tls != NULL;
		plain |= l->chains[i].tls == NULL;
	}
	if (tls && plain)
		diag_at(d, DIAG_ERROR, l->at,
			"listener %.*s mixes filter chains with and without TLS: not supported; "
			"give each its own port",
			STR_ARG(l->name));
}

static stat_id reg(enum stat_kind kind, struct str prefix, const char *name)
{
	return stat_registerf(kind, "http.%.*s.%s", STR_ARG(prefix), name);
}

/* One row of struct hcm_stats: member, kind, Envoy's name. */
#define HCM_STATS(X)                                                       \
	X(rq_total, STAT_COUNTER, "downstream_rq_total")                   \
	X(rq_active, STAT_GAUGE, "downstream_rq_active")                   \
	X(rq_1xx, STAT_COUNTER, "downstream_rq_1xx")                       \
	X(rq_2xx, STAT_COUNTER, "downstream_rq_2xx")                       \
	X(rq_3xx, STAT_COUNTER, "downstream_rq_3xx")                       \
	X(rq_4xx, STAT_COUNTER, "downstream_rq_4xx")                       \
	X(rq_5xx, STAT_COUNTER, "downstream_rq_5xx")                       \
	X(rq_completed, STAT_COUNTER, "downstream_rq_completed")           \
	X(rq_time, STAT_HISTOGRAM, "downstream_rq_time")                   \
	X(rq_http1, STAT_COUNTER, "downstream_rq_http1_total")             \
	X(rq_http2, STAT_COUNTER, "downstream_rq_http2_total")             \
	X(rq_rx_reset, STAT_COUNTER, "downstream_rq_rx_reset")             \
	X(rq_timeout, STAT_COUNTER, "downstream_rq_timeout")               \
	X(rq_idle_timeout, STAT_COUNTER, "downstream_rq_idle_timeout")     \
	X(rq_header_timeout, STAT_COUNTER, "downstream_rq_header_timeout") \
	X(rq_rejected, STAT_COUNTER, "downstream_rq_rejected")             \
	X(rq_overload_close, STAT_COUNTER, "downstream_rq_overload_close") \
	X(cx_total, STAT_COUNTER, "downstream_cx_total")                   \
	X(cx_active, STAT_GAUGE, "downstream_cx_active")                   \
	X(cx_http1, STAT_COUNTER, "downstream_cx_http1_total")             \
	X(cx_http2, STAT_COUNTER, "downstream_cx_http2_total")             \
	X(cx_ssl, STAT_COUNTER, "downstream_cx_ssl_total")                 \
	X(cx_destroy, STAT_COUNTER, "downstream_cx_destroy")               \
	X(cx_protocol_error, STAT_COUNTER, "downstream_cx_protocol_error") \
	X(cx_idle_timeout, STAT_COUNTER, "downstream_cx_idle_timeout")     \
	X(cx_rx_bytes, STAT_COUNTER, "downstream_cx_rx_bytes_total")       \
	X(cx_tx_bytes, STAT_COUNTER, "downstream_cx_tx_bytes_total")       \
	X(cx_drain_close, STAT_COUNTER, "downstream_cx_drain_close")       \
	X(cx_length_ms, STAT_HISTOGRAM, "downstream_cx_length_ms")         \
	X(no_route, STAT_COUNTER, "no_route")                              \
	X(no_cluster, STAT_COUNTER, "no_cluster")                          \
	X(rq_direct_response, STAT_COUNTER, "rq_direct_response")          \
	X(rq_redirect, STAT_COUNTER, "rq_redirect")                        \
	X(cx_upgrades, STAT_COUNTER, "downstream_cx_upgrades_total")       \
	X(cx_upgrades_active, STAT_GAUGE, "downstream_cx_upgrades_active")

static bool prepare_hcm(struct model *m, struct hcm_cfg *h, struct diags *d)
{
	if (h->stats)
		return true; /* shared by chains */
	h->stats = arena_zalloc(&m->arena, sizeof *h->stats);
	if (!h->stats)
		return false;
#define X(member, kind, name) h->stats->member = reg(kind, h->stat_prefix, name);
	HCM_STATS(X)
#undef X
	for (unsigned i = 0; i < h->nlogs; i++) {
		struct access_log_cfg *a = &h->logs[i];
		char *path = arena_strz(&m->arena, a->path);
		a->sink = path ? sink_open(path) : NULL;
		a->sink_free = free_sink;
		if (!a->sink)
			diag_at(d, DIAG_ERROR, h->at, "cannot open access log %.*s: %m",
				STR_ARG(a->path));
	}
	return true;
}

static bool prepare_chain(struct model *m, struct chain_cfg *c, struct diags *d)
{
	if (c->tls && !c->tls->ctx && !prepare_tls(m, c->tls, d) && !d->errors)
		return false;
	return prepare_hcm(m, (struct hcm_cfg *)c->hcm, d);
}

/* "listener.127.0.0.1_80.": the address with its colons as underscores, "admin" for the admin
 * listener, as Envoy. */
static stat_id listener_stat(enum stat_kind kind, const struct listener_cfg *l, const char *name)
{
	char address[160];
	struct str text = l->is_admin ? STR("admin") : l->addresses[0].text;
	size_t n = text.n < sizeof address ? text.n : sizeof address;
	for (size_t i = 0; i < n; i++)
		address[i] = text.p[i] == ':' ? '_' : text.p[i];
	return stat_registerf(kind, "listener.%.*s.%s", (int)n, address, name);
}

bool front_prepare(struct model *m, struct diags *d)
{
	unsigned before = d->errors;
	bool ok = true;
	for (unsigned i = 0; i < m->nlisteners && ok; i++) {
		struct listener_cfg *l = m->listeners[i];
		for (unsigned k = 0; k < l->nchains && ok; k++)
			ok = prepare_chain(m, &l->chains[k], d);
		if (l->fallback && ok)
			ok = prepare_chain(m, l->fallback, d);
		mixed(l, d);
		bool tls = l->nchains ? l->chains[0].tls != NULL : l->fallback && l->fallback->tls;
		if (ok && tls && needs_hello(l)) {
			l->picker = front_picker(l);
			ok = l->picker && model_on_free(m, free_tls, l->picker);
			if (l->picker && !ok) {
				free_tls(l->picker);
				l->picker = NULL;
			}
		}
		l->cx_total = listener_stat(STAT_COUNTER, l, "downstream_cx_total");
		l->cx_active = listener_stat(STAT_GAUGE, l, "downstream_cx_active");
		l->cx_overflow = listener_stat(STAT_COUNTER, l, "downstream_cx_overflow");
		l->no_chain = listener_stat(STAT_COUNTER, l, "no_filter_chain_match");
		l->ssl_error = listener_stat(STAT_COUNTER, l, "ssl.connection_error");
		l->ssl_handshake = listener_stat(STAT_COUNTER, l, "ssl.handshake");
	}
	if (!ok && d->errors == before)
		diag_add(d, DIAG_ERROR, NULL, "no memory to prepare the configuration");
	return d->errors == before;
}

const struct chain_cfg *sockets_first_chain(const struct listener_cfg *l, int fd,
					    const struct sockaddr *remote, struct tls_ctx **tls)
{
	struct address la = {0}, ra = {0};
	struct chain_ask ask = {.local = &la, .remote = &ra};
	*tls = NULL;
	if (l->picker) { /* statistics of the first chain until the hello decides */
		*tls = l->picker;
		return l->nchains ? &l->chains[0] : l->fallback;
	}
	const struct chain_cfg *c =
		l->nchains == 1 && !l->chains[0].ndest && !l->chains[0].nsource &&
				!l->chains[0].ndirect_source && !l->chains[0].dest_port
			? &l->chains[0]
			: NULL;
	if (!c) {
		la.len = sizeof la.any;
		if (getsockname(fd, &la.sa, &la.len))
			la.len = 0;
		memcpy(&ra.any, remote, sizeof(union sock_name));
		ra.len = sizeof(union sock_name);
		ask.tls = l->nchains && l->chains[0].tls;
		c = model_chain_for(l, &ask);
	}
	if (c && c->tls)
		*tls = c->tls->ctx;
	return c;
}
