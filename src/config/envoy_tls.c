/* src/config/envoy_tls.c: TLS contexts. Files are read here, once; whether OpenSSL likes them is
 * net's to say. */
#include "config/envoy_int.h"
#include <ctype.h>

#define TLS_PACKAGE "envoy.extensions.transport_sockets.tls.v3."
#define RAW_BUFFER "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"

enum { PEM_MAX = 1024 * 1024, CA_MAX = 16 * 1024 * 1024, SESSION_KEYS_MAX = 1024 };

/* Names joined by ':'. BoringSSL's groups of equal preference, "[A|B]", become A:B. */
static struct str join(struct reader *r, const struct doc *d, const char *field)
{
	unsigned n;
	struct str *names = read_strs(r, d, field, &n), out = {0};
	size_t bytes = 0;
	if (n == 0)
		return out;
	for (unsigned i = 0; i < n; i++)
		bytes += names[i].n + 1;
	char *p = arena_alloc(r->arena, bytes);
	if (!p) {
		envoy_no_memory(r, d);
		return out;
	}
	for (unsigned i = 0; i < n; i++) {
		if (i)
			p[out.n++] = ':';
		for (size_t k = 0; k < names[i].n; k++)
			if (names[i].p[k] != '[' && names[i].p[k] != ']')
				p[out.n++] = names[i].p[k] == '|' ? ':' : names[i].p[k];
	}
	out.p = p;
	return out;
}

static int read_version(struct reader *r, const struct doc *d, const char *field, bool least)
{
	static const char *const names[] = {"TLS_AUTO", "TLSv1_0", "TLSv1_1",
					    "TLSv1_2",  "TLSv1_3", NULL};
	int v = read_enum(r, d, field, names, 0);
	if (v == 0)
		return 0;
	if (v >= 3)
		return 0x0300 + v;
	if (least) /* asks for less than we do: what it allows is a part of that */
		diag_add(r->diags, DIAG_WARNING, read_field(d, field),
			 "TLS 1.2 is the least that is spoken");
	else
		diag_add(r->diags, DIAG_ERROR, read_field(d, field),
			 "only TLS 1.2 and 1.3 are spoken");
	return 0x0303;
}

static void read_params(struct reader *r, const struct doc *d, struct tls_cfg *t)
{
	if (!d)
		return;
	t->min_version = read_version(r, d, "tls_minimum_protocol_version", true);
	t->max_version = read_version(r, d, "tls_maximum_protocol_version", false);
	if (t->max_version && t->min_version > t->max_version)
		diag_add(r->diags, DIAG_ERROR, d,
			 "the minimum version is above the maximum version");
	t->ciphers = join(r, d, "cipher_suites");
	t->curves = join(r, d, "ecdh_curves");
}

static void read_certs(struct reader *r, const struct doc *list, struct tls_cfg *t)
{
	t->certs = envoy_array(r, list ? list->n : 0, sizeof *t->certs);
	if (!t->certs)
		return;
	doc_each (d, list) {
		struct tls_cert *c = &t->certs[t->ncerts];
		c->at = d->at;
		if (!read_field(d, "certificate_chain") || !read_field(d, "private_key")) {
			diag_add(r->diags, DIAG_ERROR, d,
				 "certificate_chain and private_key are both needed");
			continue;
		}
		bool chain = read_source(r, d, "certificate_chain", PEM_MAX, &c->chain);
		bool key = read_source(r, d, "private_key", PEM_MAX, &c->key);
		if (chain && str_find(c->chain.content, STR("-----BEGIN ")) < 0) {
			diag_add(r->diags, DIAG_ERROR, read_field(d, "certificate_chain"),
				 "holds no PEM certificate");
			chain = false;
		}
		if (key && str_find(c->key.content, STR("PRIVATE KEY-----")) < 0) {
			diag_add(r->diags, DIAG_ERROR, read_field(d, "private_key"),
				 "holds no PEM private key");
			key = false;
		}
		t->ncerts += chain && key;
	}
}

/* verify_certificate_hash: hex with or without colons -> without, lower case. */
static struct str plain_hex(struct reader *r, const struct doc *d)
{
	struct str s = envoy_lower(r, d, NULL);
	char *p = (char *)s.p;
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] != ':')
			p[n++] = s.p[i];
	s.n = n;
	bool ok = s.n == 64;
	for (size_t i = 0; ok && i < n; i++)
		ok = isxdigit((unsigned char)p[i]);
	if (s.p && !ok)
		diag_add(r->diags, DIAG_ERROR, d, "is no SHA-256 in hexadecimal");
	return s;
}

static void read_hashes(struct reader *r, const struct doc *d, struct tls_cfg *t)
{
	const struct doc *list = envoy_list(d, "verify_certificate_hash");
	t->hashes = envoy_array(r, list ? list->n : 0, sizeof *t->hashes);
	if (t->hashes)
		doc_each (h, list)
			t->hashes[t->nhashes++] = plain_hex(r, h);
	t->spki = read_strs(r, d, "verify_certificate_spki", &t->nspki);
	for (unsigned i = 0; i < t->nspki; i++)
		if (t->spki[i].n != 44)
			diag_add(r->diags, DIAG_ERROR, read_field(d, "verify_certificate_spki"),
				 "is no SHA-256 in base64");
}

static void read_sans(struct reader *r, const struct doc *d, struct tls_cfg *t)
{
	static const char *const types[] = {"SAN_TYPE_UNSPECIFIED", "EMAIL",      "DNS", "URI",
					    "IP_ADDRESS",           "OTHER_NAME", NULL};
	static const unsigned char kinds[] = {SAN_ANY, SAN_EMAIL, SAN_DNS,
					      SAN_URI, SAN_IP,    SAN_ANY};
	const struct doc *typed = envoy_list(d, "match_typed_subject_alt_names");
	const struct doc *old = envoy_list(d, "match_subject_alt_names");
	t->sans = envoy_array(r, (typed ? typed->n : 0) + (old ? old->n : 0), sizeof *t->sans);
	if (!t->sans)
		return;
	doc_each (s, typed) {
		int type = read_enum(r, s, "san_type", types, 0);
		const struct doc *m = read_field(s, "matcher");
		if (type == 0 || type == 5)
			diag_add(r->diags, DIAG_ERROR, s,
				 "san_type must be EMAIL, DNS, URI or IP_ADDRESS");
		if (!m)
			diag_add(r->diags, DIAG_ERROR, s, "matcher is missing");
		else if (read_string_match(r, m, &t->sans[t->nsans].match))
			t->sans[t->nsans++].kind = kinds[type];
	}
	doc_each (m, old)
		if (read_string_match(r, m, &t->sans[t->nsans].match))
			t->sans[t->nsans++].kind = SAN_ANY;
}

static void read_validation(struct reader *r, const struct doc *d, struct tls_cfg *t)
{
	static const char *const trust[] = {"VERIFY_TRUST_CHAIN", "ACCEPT_UNTRUSTED", NULL};
	if (!d)
		return;
	if (read_field(d, "trusted_ca")) {
		t->has_ca = read_source(r, d, "trusted_ca", CA_MAX, &t->ca);
		if (t->has_ca && str_find(t->ca.content, STR("-----BEGIN ")) < 0)
			diag_add(r->diags, DIAG_ERROR, read_field(d, "trusted_ca"),
				 "holds no PEM certificate");
	}
	t->system_ca = read_field(d, "system_root_certs") != NULL;
	t->has_ca |= t->system_ca;
	if (read_field(d, "crl") && read_source(r, d, "crl", CA_MAX, &t->crl) && !t->has_ca)
		diag_add(r->diags, DIAG_ERROR, read_field(d, "crl"), "needs trusted_ca");
	read_hashes(r, d, t);
	read_sans(r, d, t);
	t->trust_chain_unverified = read_enum(r, d, "trust_chain_verification", trust, 0) == 1;
	if (t->nsans && !t->has_ca)
		diag_add(r->diags, DIAG_ERROR, d,
			 "names of certificates are only worth matching with trusted_ca");
}

static void read_common(struct reader *r, const struct doc *d, struct tls_cfg *t)
{
	read_params(r, read_field(d, "tls_params"), t);
	read_certs(r, envoy_list(d, "tls_certificates"), t);
	read_validation(r, read_field(d, "validation_context"), t);
	t->alpn = read_strs(r, d, "alpn_protocols", &t->nalpn);
	for (unsigned i = 0; i < t->nalpn; i++)
		if (t->alpn[i].n == 0 || t->alpn[i].n > 255)
			diag_add(r->diags, DIAG_ERROR, read_field(d, "alpn_protocols"),
				 "a name has 1 to 255 bytes");
}

static void read_server(struct reader *r, const struct doc *d, struct tls_cfg *t)
{
	t->require_client_cert = read_bool(r, d, "require_client_certificate", false);
	t->no_tickets = read_bool(r, d, "disable_stateless_session_resumption", false);
	t->no_session_cache = read_bool(r, d, "disable_stateful_session_resumption", false);
	t->session_timeout_us = read_duration(r, d, "session_timeout", 0);
	t->full_scan_certs = read_bool(r, d, "full_scan_certs_on_sni_mismatch", false);
	const struct doc *certs =
		read_field(read_field(d, "common_tls_context"), "tls_certificates");
	if (t->ncerts == 0 && !(certs && certs->n))
		diag_add(r->diags, DIAG_ERROR, d, "a server needs tls_certificates");
}

static void read_client(struct reader *r, const struct doc *d, struct tls_cfg *t)
{
	t->sni = read_str(r, d, "sni");
	if (t->sni.n > 255)
		diag_add(r->diags, DIAG_ERROR, read_field(d, "sni"), "is longer than 255 bytes");
	t->allow_renegotiation = read_bool(r, d, "allow_renegotiation", false);
	t->max_session_keys = (unsigned)read_uint(r, d, "max_session_keys", 1, 0, SESSION_KEYS_MAX);
	if (t->ncerts > 1)
		diag_add(r->diags, DIAG_ERROR, d, "a client has one certificate");
}

struct tls_cfg *envoy_tls(struct reader *r, const struct doc *socket, bool server)
{
	struct str type;
	const struct doc *any = read_field(socket, "typed_config");
	if (!socket)
		return NULL;
	if (!any) {
		diag_add(r->diags, DIAG_ERROR, socket, "typed_config is missing");
		return NULL;
	}
	const struct doc *d = read_any(r, any, &type);
	if (!type.p || str_eq(type, STR(RAW_BUFFER)))
		return NULL;
	if (!str_eq(type, server ? STR(TLS_PACKAGE "DownstreamTlsContext")
				 : STR(TLS_PACKAGE "UpstreamTlsContext"))) {
		if (schema_find(type)) /* else the schema check has reported it */
			diag_add(r->diags, DIAG_ERROR, any, "%.*s is no transport socket for a %s",
				 STR_ARG(type), server ? "listener" : "cluster");
		return NULL;
	}
	struct tls_cfg *t = envoy_array(r, 1, sizeof *t);
	if (!t)
		return NULL;
	t->server = server;
	t->at = socket->at;
	read_common(r, read_field(d, "common_tls_context"), t);
	if (server)
		read_server(r, d, t);
	else
		read_client(r, d, t);
	return t;
}
