/* src/upstream/prepare.c
 *
 * What a model needs before workers see it: TLS contexts for its clusters, and their statistics.
 */
#include "base/mem.h"
#include "base/must.h"
#include "model/regex.h"
#include "net/tls.h"
#include "upstream/upstream_int.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tls_share *shares;

/* ---- one TLS context for all who say the same */

static bool strs_same(const struct str *a, unsigned na, const struct str *b, unsigned nb)
{
	for (unsigned i = 0; i < na && na == nb; i++)
		if (!str_eq(a[i], b[i]))
			return false;
	return na == nb;
}

static bool sans_same(const struct tls_cfg *a, const struct tls_cfg *b)
{
	for (unsigned i = 0; i < a->nsans && a->nsans == b->nsans; i++) {
		const struct san_match *x = &a->sans[i], *y = &b->sans[i];
		if (x->kind != y->kind || x->match.kind != y->match.kind ||
		    x->match.ignore_case != y->match.ignore_case ||
		    !str_eq(x->match.text, y->match.text) || x->match.regex != y->match.regex)
			return false;
	}
	return a->nsans == b->nsans;
}

static bool certs_same(const struct tls_cfg *a, const struct tls_cfg *b)
{
	for (unsigned i = 0; i < a->ncerts && a->ncerts == b->ncerts; i++)
		if (!str_eq(a->certs[i].chain.content, b->certs[i].chain.content) ||
		    !str_eq(a->certs[i].key.content, b->certs[i].key.content))
			return false;
	return a->ncerts == b->ncerts;
}

/* What a context is made of; SNI and verification by name belong to the connection. */
static bool context_same(const struct tls_cfg *a, const struct tls_cfg *b)
{
	return certs_same(a, b) && strs_same(a->alpn, a->nalpn, b->alpn, b->nalpn) &&
	       a->min_version == b->min_version && a->max_version == b->max_version &&
	       str_eq(a->ciphers, b->ciphers) && str_eq(a->curves, b->curves) &&
	       a->has_ca == b->has_ca && a->system_ca == b->system_ca &&
	       str_eq(a->ca.content, b->ca.content) && str_eq(a->crl.content, b->crl.content) &&
	       a->trust_chain_unverified == b->trust_chain_unverified && sans_same(a, b) &&
	       strs_same(a->spki, a->nspki, b->spki, b->nspki) &&
	       strs_same(a->hashes, a->nhashes, b->hashes, b->nhashes) &&
	       a->allow_renegotiation == b->allow_renegotiation &&
	       a->max_session_keys == b->max_session_keys;
}

bool tls_cfg_same(const struct tls_cfg *a, const struct tls_cfg *b)
{
	return str_eq(a->sni, b->sni) && a->auto_sni == b->auto_sni && a->auto_san == b->auto_san &&
	       context_same(a, b);
}

/* RFC 6125 6.4.3: one label, the leftmost, and only as a whole. */
static bool dns_name_covers(struct str pattern, struct str name)
{
	if (!str_starts(pattern, STR("*.")))
		return str_ieq(pattern, name);
	const char *dot = name.n ? memchr(name.p, '.', name.n) : NULL;
	return dot && dot != name.p &&
	       str_ieq(str_from(pattern, 1), str_from(name, (size_t)(dot - name.p)));
}

static bool san_ok(void *arg, enum tls_san_kind kind, struct str value)
{
	static const int kinds[] = {[TLS_SAN_DNS] = SAN_DNS,
				    [TLS_SAN_URI] = SAN_URI,
				    [TLS_SAN_EMAIL] = SAN_EMAIL,
				    [TLS_SAN_IP] = SAN_IP};
	const struct tls_share *s = arg;
	for (unsigned i = 0; i < s->cfg.nsans; i++) {
		const struct san_match *m = &s->cfg.sans[i];
		if (m->kind != SAN_ANY && (int)m->kind != kinds[kind])
			continue;
		if (kind == TLS_SAN_DNS && m->match.kind == STRING_EXACT) {
			if (dns_name_covers(value, m->match.text))
				return true;
		} else if (string_matches(&m->match, value)) {
			return true;
		}
	}
	return false;
}

static bool copy_strs(struct arena *a, struct str **to, const struct str *from, unsigned n)
{
	*to = n ? arena_alloc(a, n * sizeof **to) : NULL;
	for (unsigned i = 0; i < n && *to; i++) {
		(*to)[i] = arena_str(a, from[i]);
		if (!(*to)[i].p)
			return false;
	}
	return !n || *to;
}

static bool copy_str(struct arena *a, struct str *s)
{
	return !s->p || (*s = arena_str(a, *s)).p;
}

/* Texts live as long as the share: the model they came from may go first. */
static bool copy_cfg(struct tls_share *s, const struct tls_cfg *from)
{
	struct arena *a = &s->arena;
	struct tls_cfg *to = &s->cfg;
	*to = *from;
	to->ctx = NULL;
	to->certs = from->ncerts ? arena_zalloc(a, from->ncerts * sizeof *to->certs) : NULL;
	to->sans = from->nsans ? arena_zalloc(a, from->nsans * sizeof *to->sans) : NULL;
	bool ok = (!from->ncerts || to->certs) && (!from->nsans || to->sans);
	for (unsigned i = 0; ok && i < from->ncerts; i++) {
		to->certs[i].chain.content = from->certs[i].chain.content;
		to->certs[i].key.content = from->certs[i].key.content;
		ok = copy_str(a, &to->certs[i].chain.content) &&
		     copy_str(a, &to->certs[i].key.content);
	}
	for (unsigned i = 0; ok && i < from->nsans; i++) {
		to->sans[i] = from->sans[i];
		ok = copy_str(a, &to->sans[i].match.text);
	}
	return ok && copy_str(a, &to->ciphers) && copy_str(a, &to->curves) &&
	       copy_str(a, &to->ca.content) && copy_str(a, &to->crl.content) &&
	       copy_strs(a, &to->alpn, from->alpn, from->nalpn) &&
	       copy_strs(a, &to->spki, from->spki, from->nspki) &&
	       copy_strs(a, &to->hashes, from->hashes, from->nhashes);
}

static void share_free(struct tls_share *s)
{
	tls_ctx_free(s->ctx);
	arena_fini(&s->arena);
	mem_free(MEM_CONFIG, s);
}

void tls_share_ref(struct tls_share *s)
{
	pthread_mutex_lock(&lock);
	s->refs++;
	pthread_mutex_unlock(&lock);
}

static void share_unref(void *arg)
{
	struct tls_share *s = arg;
	if (!s)
		return;
	pthread_mutex_lock(&lock);
	bool last = --s->refs == 0;
	if (last) {
		struct tls_share **at = &shares;
		while (*at != s)
			at = &(*at)->next;
		*at = s->next;
	}
	pthread_mutex_unlock(&lock);
	if (last)
		share_free(s);
}

void tls_share_unref(struct tls_share *s)
{
	share_unref(s);
}

static struct tls_ctx *make_context(struct tls_share *s, char *err, size_t cap)
{
	const struct tls_cfg *t = &s->cfg;
	struct tls_pair *pairs =
		t->ncerts ? arena_alloc(&s->arena, t->ncerts * sizeof *pairs) : NULL;
	for (unsigned i = 0; pairs && i < t->ncerts; i++)
		pairs[i] = (struct tls_pair){t->certs[i].chain.content, t->certs[i].key.content};
	struct tls_setup setup = {.pairs = pairs,
				  .npairs = pairs ? t->ncerts : 0,
				  .alpn = t->alpn,
				  .nalpn = t->nalpn,
				  .min_version = t->min_version,
				  .max_version = t->max_version,
				  .ciphers = t->ciphers,
				  .curves = t->curves,
				  .ca_pem = t->has_ca ? t->ca.content : (struct str){NULL, 0},
				  .crl_pem = t->crl.content,
				  .verify_peer =
					  (t->has_ca || t->system_ca) && !t->trust_chain_unverified,
				  .accept_untrusted = t->trust_chain_unverified,
				  .system_ca = t->system_ca,
				  .no_session_cache = t->max_session_keys == 0,
				  .spki_sha256_base64 = t->spki,
				  .nspki = t->nspki,
				  .cert_sha256_hex = t->hashes,
				  .ncert = t->nhashes,
				  .san_ok = t->nsans ? san_ok : NULL,
				  .san_arg = s};
	return tls_ctx_new(&setup, err, cap);
}

/* NULL: err says why, empty for no memory. */
static struct tls_share *share_for(const struct tls_cfg *t, char *err, size_t cap)
{
	*err = 0;
	pthread_mutex_lock(&lock);
	struct tls_share *s = shares;
	while (s && !context_same(&s->cfg, t))
		s = s->next;
	if (s)
		s->refs++;
	pthread_mutex_unlock(&lock);
	if (s)
		return s;
	s = mem_zalloc(MEM_CONFIG, sizeof *s);
	if (!s)
		return NULL;
	arena_init(&s->arena, SIZE_MAX);
	s->refs = 1;
	if (!copy_cfg(s, t) || !(s->ctx = make_context(s, err, cap))) {
		arena_fini(&s->arena);
		mem_free(MEM_CONFIG, s);
		return NULL;
	}
	pthread_mutex_lock(&lock);
	s->next = shares;
	shares = s;
	pthread_mutex_unlock(&lock);
	return s;
}

static bool prepare_tls(struct cluster_cfg *c, struct diags *d)
{
	char err[512];
	if (!c->tls || c->tls->ctx)
		return true;
	struct tls_share *s = share_for(c->tls, err, sizeof err);
	if (!s) {
		diag_at(d, DIAG_ERROR, c->tls->at, "cluster %.*s: %s", STR_ARG(c->name),
			*err ? err : "no memory for its TLS context");
		return false;
	}
	c->tls->ctx = s;
	c->tls->ctx_free = share_unref;
	return true;
}

/* ---- statistics, by Envoy's names */

static const struct {
	const char *name;
	enum stat_kind kind;
	size_t at;
} names[] = {
#define S(field, kind, name)                                             \
	{                                                                \
		name, STAT_##kind, offsetof(struct cluster_stats, field) \
	}
	S(rq_total, COUNTER, "upstream_rq_total"),
	S(rq_active, GAUGE, "upstream_rq_active"),
	S(rq_pending_total, COUNTER, "upstream_rq_pending_total"),
	S(rq_pending_active, GAUGE, "upstream_rq_pending_active"),
	S(rq_pending_overflow, COUNTER, "upstream_rq_pending_overflow"),
	S(rq_timeout, COUNTER, "upstream_rq_timeout"),
	S(rq_per_try_timeout, COUNTER, "upstream_rq_per_try_timeout"),
	S(rq_rx_reset, COUNTER, "upstream_rq_rx_reset"),
	S(rq_tx_reset, COUNTER, "upstream_rq_tx_reset"),
	S(rq_retry, COUNTER, "upstream_rq_retry"),
	S(rq_retry_success, COUNTER, "upstream_rq_retry_success"),
	S(rq_retry_overflow, COUNTER, "upstream_rq_retry_overflow"),
	S(rq_retry_limit_exceeded, COUNTER, "upstream_rq_retry_limit_exceeded"),
	S(rq_cancelled, COUNTER, "upstream_rq_cancelled"),
	S(rq_maintenance, COUNTER, "upstream_rq_maintenance_mode"),
	S(rq_completed, COUNTER, "upstream_rq_completed"),
	S(rq_1xx, COUNTER, "upstream_rq_1xx"),
	S(rq_2xx, COUNTER, "upstream_rq_2xx"),
	S(rq_3xx, COUNTER, "upstream_rq_3xx"),
	S(rq_4xx, COUNTER, "upstream_rq_4xx"),
	S(rq_5xx, COUNTER, "upstream_rq_5xx"),
	S(rq_time, HISTOGRAM, "upstream_rq_time"),
	S(cx_total, COUNTER, "upstream_cx_total"),
	S(cx_active, GAUGE, "upstream_cx_active"),
	S(cx_http1, COUNTER, "upstream_cx_http1_total"),
	S(cx_http2, COUNTER, "upstream_cx_http2_total"),
	S(cx_connect_fail, COUNTER, "upstream_cx_connect_fail"),
	S(cx_connect_timeout, COUNTER, "upstream_cx_connect_timeout"),
	S(cx_overflow, COUNTER, "upstream_cx_overflow"),
	S(cx_destroy, COUNTER, "upstream_cx_destroy"),
	S(cx_idle_timeout, COUNTER, "upstream_cx_idle_timeout"),
	S(cx_protocol_error, COUNTER, "upstream_cx_protocol_error"),
	S(cx_rx_bytes, COUNTER, "upstream_cx_rx_bytes_total"),
	S(cx_tx_bytes, COUNTER, "upstream_cx_tx_bytes_total"),
	S(cx_connect_ms, HISTOGRAM, "upstream_cx_connect_ms"),
	S(cx_none_healthy, COUNTER, "upstream_cx_none_healthy"),
	S(membership_total, GAUGE, "membership_total"),
	S(membership_healthy, GAUGE, "membership_healthy"),
	S(update_success, COUNTER, "update_success"),
	S(update_failure, COUNTER, "update_failure"),
	S(update_attempt, COUNTER, "update_attempt"),
	S(ssl_handshake, COUNTER, "ssl.handshake"),
	S(ssl_error, COUNTER, "ssl.connection_error"),
	S(cx_pool_overflow, COUNTER, "upstream_cx_pool_overflow"),
#undef S
};

/* Envoy writes a colon of a name as "_" in statistics. */
static struct str stat_name(struct arena *a, const struct cluster_cfg *c)
{
	struct str name = arena_str(a, c->alt_stat_name.n ? c->alt_stat_name : c->name);
	for (char *p = (char *)(uintptr_t)name.p; p && p < name.p + name.n; p++)
		if (*p == ':')
			*p = '_';
	return name;
}

stat_id prepare_code_stat(const struct cluster_cfg *c, unsigned status)
{
	struct arena a;
	arena_init(&a, SIZE_MAX);
	struct str name = stat_name(&a, c);
	stat_id id = name.p ? stat_registerf(STAT_COUNTER, "cluster.%.*s.upstream_rq_%u",
					     STR_ARG(name), status)
			    : 0;
	arena_fini(&a);
	return id;
}

/* False: no memory. */
static bool prepare_stats(struct model *m, struct cluster_cfg *c)
{
	if (c->stats)
		return true;
	struct str name = stat_name(&m->arena, c);
	struct cluster_stats *st = arena_zalloc(&m->arena, sizeof *st);
	if (!name.p || !st)
		return false;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		*(stat_id *)(void *)((char *)st + names[i].at) = stat_registerf(
			names[i].kind, "cluster.%.*s.%s", STR_ARG(name), names[i].name);
	c->stats = st;
	return true;
}

bool upstream_prepare(struct model *m, struct diags *d)
{
	bool ok = true;
	for (unsigned i = 0; i < m->nclusters; i++) {
		ok &= prepare_tls(m->clusters[i], d);
		if (!prepare_stats(m, m->clusters[i])) {
			diag_at(d, DIAG_ERROR, m->clusters[i]->at,
				"no memory for the statistics of cluster %.*s",
				STR_ARG(m->clusters[i]->name));
			ok = false;
		}
	}
	return ok;
}
