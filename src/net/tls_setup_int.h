/* src/net/tls_setup_int.h
 *
 * The second half of tls_openssl.c, included there and nowhere else: from a struct tls_setup to a context, every
 * mistake of the operator said in words. It names OpenSSL's types but includes none of its headers: one place does.
 */
#pragma once

struct maker { /* of one context */
	const struct tls_setup *s;
	struct tls_ctx *t;
	char *err;
	size_t cap;
};

static bool wrong(struct maker *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool wrong(struct maker *m, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(m->err, m->cap, fmt, ap);
	va_end(ap);
	ERR_clear_error();
	return false;
}

static bool no_memory(struct maker *m)
{
	return wrong(m, "out of memory");
}

/* Never asks the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	return -1;
}

static BIO *pem_bio(struct str pem)
{
	clear_errors();
	return pem.n < INT_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
}

/* All certificates of pem, NULL: none or a broken one, and the error queue says why. */
static STACK_OF(X509) * read_certs(struct str pem)
{
	BIO *b = pem_bio(pem);
	STACK_OF(X509) *list = sk_X509_new_null();
	X509 *x;
	bool ok = b && list;
	while (ok && (x = PEM_read_bio_X509(b, NULL, no_passphrase, NULL))) {
		ok = sk_X509_push(list, x) > 0;
		if (!ok)
			X509_free(x);
	}
	unsigned long e = ERR_peek_last_error();
	bool end = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
	BIO_free(b);
	if (ok && end && sk_X509_num(list) > 0) {
		ERR_clear_error();
		return list;
	}
	sk_X509_pop_free(list, X509_free);
	return NULL;
}

static bool read_pair(struct maker *m, unsigned i)
{
	const struct tls_pair *from = &m->s->pairs[i];
	struct pair *p = &m->t->pairs[i];
	p->chain = read_certs(from->chain_pem);
	if (!p->chain)
		return wrong(m, "certificate chain %u: no PEM certificates that can be read (%s)",
			     i + 1, reason());
	p->leaf = sk_X509_shift(p->chain);
	BIO *b = pem_bio(from->key_pem);
	p->key = b ? PEM_read_bio_PrivateKey(b, NULL, no_passphrase, NULL) : NULL;
	BIO_free(b);
	if (!p->key)
		return wrong(m,
			     "private key %u: no PEM key without passphrase that can be read (%s)",
			     i + 1, reason());
	clear_errors();
	if (!X509_check_private_key(p->leaf, p->key))
		return wrong(m, "private key %u does not belong to its certificate", i + 1);
	return true;
}

static bool add_name(struct maker *m, unsigned pair, struct str name)
{
	struct tls_ctx *t = m->t;
	if (!name.n || memchr(name.p, 0, name.n))
		return true;
	bool wild = name.n > 2 && name.p[0] == '*' && name.p[1] == '.';
	struct cert_name *names =
		mem_realloc(MEM_CONFIG, t->names, (t->nnames + 1) * sizeof *names);
	if (!names)
		return no_memory(m);
	t->names = names;
	char *text = mem_strndup(MEM_CONFIG, name.p + wild, name.n - wild);
	if (!text)
		return no_memory(m);
	names[t->nnames++] = (struct cert_name){text, wild, pair};
	return true;
}

/* DNS names of the certificate, or without any its common name. */
static bool add_names(struct maker *m, unsigned pair)
{
	X509 *x = m->t->pairs[pair].leaf;
	GENERAL_NAMES *sans = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	unsigned before = m->t->nnames;
	bool ok = true;
	for (int i = 0; ok && i < sk_GENERAL_NAME_num(sans); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(sans, i);
		if (g->type == GEN_DNS)
			ok = add_name(m, pair, asn1_str(g->d.dNSName));
	}
	GENERAL_NAMES_free(sans);
	if (!ok || m->t->nnames > before)
		return ok;
	X509_NAME *subject = X509_get_subject_name(x);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	if (at < 0)
		return true;
	return add_name(m, pair,
			asn1_str(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at))));
}

static const char *first_name(const struct tls_ctx *t, unsigned pair)
{
	for (unsigned i = 0; i < t->nnames; i++)
		if (t->names[i].pair == pair)
			return t->names[i].text;
	return "";
}

/* The first pair is the default, together with those of other key types for the same name. */
static bool use_default_pairs(struct maker *m)
{
	struct tls_ctx *t = m->t;
	int types[8];
	unsigned ntypes = 0;
	t->default_only = true;
	for (unsigned i = 0; i < t->npairs; i++) {
		const struct pair *p = &t->pairs[i];
		int type = EVP_PKEY_get_base_id(p->key);
		bool fits = ntypes < sizeof types / sizeof *types &&
			    strcasecmp(first_name(t, i), first_name(t, 0)) == 0;
		for (unsigned k = 0; k < ntypes; k++)
			fits = fits && types[k] != type;
		if (!fits) {
			t->default_only = false;
			/* Would the library take it? Better said now than in a handshake. */
			SSL_CTX *scratch = SSL_CTX_new(TLS_method());
			bool ok = scratch && SSL_CTX_use_certificate(scratch, p->leaf);
			SSL_CTX_free(scratch);
			if (!ok)
				return wrong(m, "certificate %u: %s", i + 1, reason());
			continue;
		}
		types[ntypes++] = type;
		clear_errors();
		if (!SSL_CTX_use_cert_and_key(t->ssl, p->leaf, p->key, p->chain, 0))
			return wrong(m, "certificate %u: %s", i + 1, reason());
	}
	return true;
}

static bool make_pairs(struct maker *m)
{
	struct tls_ctx *t = m->t;
	if (!m->s->npairs)
		return !m->s->server || wrong(m, "no certificate");
	t->pairs = mem_zalloc(MEM_CONFIG, m->s->npairs * sizeof *t->pairs);
	if (!t->pairs)
		return no_memory(m);
	t->npairs = m->s->npairs;
	for (unsigned i = 0; i < t->npairs; i++)
		if (!read_pair(m, i) || !add_names(m, i))
			return false;
	return use_default_pairs(m);
}

static const char default_ciphers[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
				      "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
				      "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
static const char default_suites[] =
	"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char default_curves[] = "X25519:P-256:P-384";

/* name: Envoy's and OpenSSL's, or IANA's, which is replaced. scratch knows every suite. */
static bool known_cipher(SSL_CTX *scratch, const char **name)
{
	STACK_OF(SSL_CIPHER) *all = SSL_CTX_get_ciphers(scratch);
	for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
		const SSL_CIPHER *c = sk_SSL_CIPHER_value(all, i);
		const char *iana = SSL_CIPHER_standard_name(c);
		if (strcmp(SSL_CIPHER_get_name(c), *name) == 0)
			return true;
		if (iana && strcmp(iana, *name) == 0) {
			*name = SSL_CIPHER_get_name(c);
			return true;
		}
	}
	return false;
}

/* An alias such as ECDHE or HIGH, perhaps with an operator before it. */
static bool known_alias(const char *name)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	const char *bare = name + (*name == '!' || *name == '-' || *name == '+');
	bool ok = *name == '@' || (ctx && SSL_CTX_set_cipher_list(ctx, bare) == 1);
	SSL_CTX_free(ctx);
	ERR_clear_error();
	return ok;
}

/* Sorts the names of s->ciphers into the list for TLS 1.2 and the suites of TLS 1.3. Envoy's groups of equal
 * preference ([A|B]) become a plain order. Every name is looked at: the library passes over unknown ones. */
static bool sort_ciphers(struct maker *m, SSL_CTX *scratch, char *list, char *suites)
{
	struct str s = m->s->ciphers;
	for (size_t i = 0; i < s.n;) {
		char word[64];
		size_t n = 0;
		while (i < s.n && strchr(":,;|[] \t\n", s.p[i]))
			i++;
		for (; i < s.n && !strchr(":,;|[] \t\n", s.p[i]); i++)
			if (n < sizeof word - 1)
				word[n++] = s.p[i];
		word[n] = 0;
		const char *name = word;
		if (!n)
			continue;
		if (!known_cipher(scratch, &name) && !known_alias(name))
			return wrong(m, "cipher suite \"%s\" is unknown", word);
		char *to = str_starts(str_of(name), STR("TLS_AES_")) ||
					   str_starts(str_of(name), STR("TLS_CHACHA20_"))
				   ? suites
				   : list;
		if (*to)
			strcat(to, ":");
		strcat(to, name);
	}
	return true;
}

static bool set_ciphers(struct maker *m, const char *list, const char *suites)
{
	SSL_CTX *ctx = m->t->ssl;
	clear_errors();
	if (!SSL_CTX_set_cipher_list(ctx, *list ? list : default_ciphers))
		return wrong(m, "cipher suites: %s", reason());
	if (!SSL_CTX_set_ciphersuites(ctx, *suites ? suites : default_suites))
		return wrong(m, "cipher suites: %s", reason());
	if (strstr(list, "DHE"))
		SSL_CTX_set_dh_auto(ctx, 1);
	return true;
}

static bool make_ciphers(struct maker *m)
{
	struct str s = m->s->ciphers;
	if (!s.n)
		return set_ciphers(m, "", "");
	/* Each name may grow from IANA's spelling to nothing longer than itself and one colon. */
	size_t cap = 2 * s.n + 64;
	char *list = mem_zalloc(MEM_CONFIG, cap), *suites = mem_zalloc(MEM_CONFIG, cap);
	SSL_CTX *scratch = SSL_CTX_new(TLS_method());
	bool ok = list && suites && scratch &&
		  SSL_CTX_set_cipher_list(scratch, "ALL:COMPLEMENTOFALL");
	if (!ok)
		no_memory(m);
	ok = ok && sort_ciphers(m, scratch, list, suites) && set_ciphers(m, list, suites);
	SSL_CTX_free(scratch);
	mem_free(MEM_CONFIG, list);
	mem_free(MEM_CONFIG, suites);
	return ok;
}

static bool make_curves(struct maker *m)
{
	struct str s = m->s->curves;
	clear_errors();
	if (!s.n)
		return SSL_CTX_set1_groups_list(m->t->ssl, default_curves) || no_memory(m);
	m->t->curves = mem_strndup(MEM_CONFIG, s.p, s.n);
	if (!m->t->curves)
		return no_memory(m);
	for (char *p = m->t->curves; *p; p++)
		if (*p == ',' || *p == '|')
			*p = ':';
	if (!SSL_CTX_set1_groups_list(m->t->ssl, m->t->curves))
		return wrong(m, "curves \"%s\": %s", m->t->curves, reason());
	return true;
}

static bool make_versions(struct maker *m)
{
	SSL_CTX *ctx = m->t->ssl;
	int min = m->s->min_version ? m->s->min_version : TLS1_2_VERSION;
	int max = m->s->max_version ? m->s->max_version : TLS1_3_VERSION;
	if (min > max)
		return wrong(m, "the lowest TLS version is above the highest");
	if (min < TLS1_2_VERSION) /* the library refuses the old hashes otherwise */
		SSL_CTX_set_security_level(ctx, 0);
	clear_errors();
	if (!SSL_CTX_set_min_proto_version(ctx, min) || !SSL_CTX_set_max_proto_version(ctx, max))
		return wrong(m, "TLS versions 0x%04x to 0x%04x: %s", (unsigned)min, (unsigned)max,
			     reason());
	return true;
}

static bool make_alpn(struct maker *m)
{
	struct tls_ctx *t = m->t;
	size_t n = 0;
	for (unsigned i = 0; i < m->s->nalpn; i++) {
		if (!m->s->alpn[i].n || m->s->alpn[i].n > 255)
			return wrong(m, "ALPN protocol %u has no name of 1 to 255 bytes", i + 1);
		n += 1 + m->s->alpn[i].n;
	}
	if (!n)
		return true;
	if (n > 65535)
		return wrong(m, "too many ALPN protocols");
	t->alpn = mem_alloc(MEM_CONFIG, n);
	if (!t->alpn)
		return no_memory(m);
	for (unsigned i = 0; i < m->s->nalpn; i++) {
		struct str a = m->s->alpn[i];
		t->alpn[t->alpn_n++] = (unsigned char)a.n;
		memcpy(t->alpn + t->alpn_n, a.p, a.n);
		t->alpn_n += (unsigned)a.n;
	}
	if (t->server)
		SSL_CTX_set_alpn_select_cb(t->ssl, on_alpn, t);
	else if (SSL_CTX_set_alpn_protos(t->ssl, t->alpn, t->alpn_n))
		return no_memory(m);
	return true;
}

static X509_STORE *system_store;

static void load_system_store(void)
{
	system_store = X509_STORE_new();
	if (system_store && !X509_STORE_set_default_paths(system_store)) {
		X509_STORE_free(system_store);
		system_store = NULL;
	}
}

/* The system's bundle, read once: a copy per cluster would be a megabyte each. */
static bool use_system_store(SSL_CTX *ctx)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, load_system_store);
	if (!system_store)
		return false;
	SSL_CTX_set1_cert_store(ctx, system_store);
	return true;
}

static bool add_ca(struct maker *m, X509_STORE *store)
{
	STACK_OF(X509) *list = read_certs(m->s->ca_pem);
	if (!list)
		return wrong(m, "trusted CA: no PEM certificates that can be read (%s)", reason());
	bool ok = true;
	for (int i = 0; i < sk_X509_num(list) && ok; i++) {
		ok = X509_STORE_add_cert(store, sk_X509_value(list, i)) == 1;
		/* What the server tells clients to choose a certificate by; only when it asks
		 * for one. */
		if (ok && m->t->server)
			ok = SSL_CTX_add_client_CA(m->t->ssl, sk_X509_value(list, i)) == 1;
	}
	sk_X509_pop_free(list, X509_free);
	return ok || wrong(m, "trusted CA: %s", reason());
}

static bool add_crl(struct maker *m, X509_STORE *store)
{
	BIO *b = pem_bio(m->s->crl_pem);
	int n = 0;
	X509_CRL *crl;
	while (b && (crl = PEM_read_bio_X509_CRL(b, NULL, no_passphrase, NULL))) {
		bool ok = X509_STORE_add_crl(store, crl) == 1;
		X509_CRL_free(crl);
		if (!ok)
			break;
		n++;
	}
	unsigned long e = ERR_peek_last_error();
	BIO_free(b);
	if (!n || ERR_GET_LIB(e) != ERR_LIB_PEM || ERR_GET_REASON(e) != PEM_R_NO_START_LINE)
		return wrong(m, "revocation list: no PEM list that can be read (%s)", reason());
	ERR_clear_error();
	X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(m->t->ssl),
				    X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return true;
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static bool hex_digest(struct str s, struct digest *d)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == ':')
			continue;
		int v = hex_value(s.p[i]);
		if (v < 0 || n == 2 * sizeof d->b)
			return false;
		d->b[n / 2] = (unsigned char)(n % 2 ? d->b[n / 2] << 4 | v : v);
		n++;
	}
	return n == 2 * sizeof d->b;
}

static bool base64_digest(struct str s, struct digest *d)
{
	unsigned char out[33];
	if (s.n != 44 || s.p[43] != '=' || s.p[42] == '=')
		return false;
	if (EVP_DecodeBlock(out, (const unsigned char *)s.p, (int)s.n) != sizeof out)
		return false;
	memcpy(d->b, out, sizeof d->b);
	return true;
}

static bool make_pins(struct maker *m)
{
	struct tls_ctx *t = m->t;
	if (m->s->nspki + m->s->ncert == 0)
		return true;
	t->spki = mem_alloc(MEM_CONFIG, (m->s->nspki + m->s->ncert) * sizeof *t->spki);
	if (!t->spki)
		return no_memory(m);
	t->cert = t->spki + m->s->nspki;
	for (; t->nspki < m->s->nspki; t->nspki++)
		if (!base64_digest(m->s->spki_sha256_base64[t->nspki], &t->spki[t->nspki]))
			return wrong(m, "public key hash %u is not the base64 of 32 bytes",
				     t->nspki + 1);
	for (; t->ncert < m->s->ncert; t->ncert++)
		if (!hex_digest(m->s->cert_sha256_hex[t->ncert], &t->cert[t->ncert]))
			return wrong(m, "certificate hash %u is not 64 hex digits", t->ncert + 1);
	return true;
}

static bool make_trust(struct maker *m)
{
	const struct tls_setup *s = m->s;
	struct tls_ctx *t = m->t;
	bool own = s->ca_pem.n || s->crl_pem.n;
	t->have_ca = s->ca_pem.n || s->system_ca;
	clear_errors();
	if (s->system_ca && !own && !use_system_store(t->ssl))
		return wrong(m, "the system's CA bundle cannot be read");
	X509_STORE *store = SSL_CTX_get_cert_store(t->ssl);
	if (s->system_ca && own && !X509_STORE_set_default_paths(store))
		return wrong(m, "the system's CA bundle cannot be read");
	if (s->ca_pem.n && !add_ca(m, store))
		return false;
	if (s->crl_pem.n && !add_crl(m, store))
		return false;
	/* As Envoy: an intermediate, or the certificate itself, may be the anchor. */
	X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(t->ssl), X509_V_FLAG_PARTIAL_CHAIN);
	if (!make_pins(m))
		return false;
	bool ask = s->verify_peer || s->require_peer || t->nspki || t->ncert || s->san_ok ||
		   (s->server && t->have_ca);
	SSL_CTX_set_verify(t->ssl,
			   !ask ? SSL_VERIFY_NONE
				: SSL_VERIFY_PEER |
					   (s->require_peer ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
			   NULL);
	SSL_CTX_set_cert_verify_callback(t->ssl, on_verify, t);
	return true;
}

static void hash_part(EVP_MD_CTX *h, const void *p, size_t n)
{
	uint64_t len = n;
	EVP_DigestUpdate(h, &len, sizeof len);
	EVP_DigestUpdate(h, p, n);
}

/* A session may only be resumed where the peer was checked by the same rules. Contexts that ask for no
 * certificate are all alike. */
static bool session_scope(struct maker *m)
{
	static uint64_t made;
	const struct tls_setup *s = m->s;
	unsigned char id[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	EVP_MD_CTX *h = EVP_MD_CTX_new();
	bool ok = h && EVP_DigestInit_ex(h, EVP_sha256(), NULL);
	if (ok && SSL_CTX_get_verify_mode(m->t->ssl) != SSL_VERIFY_NONE) {
		bool flags[] = {s->verify_peer, s->require_peer, s->accept_untrusted, s->system_ca};
		hash_part(h, flags, sizeof flags);
		hash_part(h, s->ca_pem.p, s->ca_pem.n);
		hash_part(h, s->crl_pem.p, s->crl_pem.n);
		hash_part(h, m->t->spki, m->t->nspki * sizeof *m->t->spki);
		hash_part(h, m->t->cert, m->t->ncert * sizeof *m->t->cert);
		if (s->san_ok) { /* what it accepts cannot be seen from here */
			uint64_t nonce = __atomic_add_fetch(&made, 1, __ATOMIC_RELAXED);
			hash_part(h, &nonce, sizeof nonce);
		}
	}
	ok = ok && EVP_DigestFinal_ex(h, id, &n) &&
	     SSL_CTX_set_session_id_context(
		     m->t->ssl, id, n < SSL_MAX_SID_CTX_LENGTH ? n : SSL_MAX_SID_CTX_LENGTH);
	EVP_MD_CTX_free(h);
	return ok || no_memory(m);
}

static void server_sessions(SSL_CTX *ctx, bool tickets_on, bool cache_on, uint32_t timeout_s)
{
	SSL_CTX_set_session_cache_mode(ctx, cache_on ? SSL_SESS_CACHE_SERVER : SSL_SESS_CACHE_OFF);
	SSL_CTX_sess_set_cache_size(ctx, SERVER_SESSIONS);
	if (timeout_s)
		SSL_CTX_set_timeout(ctx, (long)timeout_s);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
	if (!tickets_on)
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	/* One is enough for a client that opens one connection after the other, and half the
	 * work. */
	SSL_CTX_set_num_tickets(ctx, tickets_on || cache_on ? 1 : 0);
}

static bool make_sessions(struct maker *m)
{
	const struct tls_setup *s = m->s;
	SSL_CTX *ctx = m->t->ssl;
	m->t->session_timeout_s = s->session_timeout_s;
	if (s->server) {
		server_sessions(ctx, !s->no_tickets, !s->no_session_cache, s->session_timeout_s);
		return session_scope(m);
	}
	if (s->no_tickets)
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	if (s->no_session_cache) {
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
		return true;
	}
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_session);
	return true;
}

static struct tls_ctx *ctx_new(bool server)
{
	if (!init())
		return NULL;
	struct tls_ctx *t = mem_zalloc(MEM_CONFIG, sizeof *t);
	if (!t)
		return NULL;
	t->refs = 1;
	t->server = server;
	pthread_mutex_init(&t->lock, NULL);
	clear_errors();
	t->ssl = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	if (!t->ssl) {
		ERR_clear_error();
		ctx_unref(t);
		return NULL;
	}
	SSL_CTX_set_options(t->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					    SSL_OP_CIPHER_SERVER_PREFERENCE |
					    SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_mode(t->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
					 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					 SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(t->ssl, 1);
	if (!server) /* answers come in long runs: as many records in one recv as conn_read has room for */
		SSL_CTX_set_default_read_buffer_len(t->ssl, READ_AHEAD);
	if (server) {
		SSL_CTX_set_tlsext_servername_callback(t->ssl, on_servername);
		SSL_CTX_set_cert_cb(t->ssl, on_certificate, NULL);
	}
	return t;
}

struct tls_ctx *tls_ctx_new(const struct tls_setup *s, char *err, size_t cap)
{
	struct maker m = {s, ctx_new(s->server), err, cap};
	if (!m.t) {
		no_memory(&m);
		return NULL;
	}
	m.t->verify_peer = s->verify_peer;
	m.t->accept_untrusted = s->accept_untrusted;
	m.t->san_ok = s->san_ok;
	m.t->san_arg = s->san_arg;
	if (make_versions(&m) && make_ciphers(&m) && make_curves(&m) && make_pairs(&m) &&
	    make_trust(&m) && make_alpn(&m) && make_sessions(&m))
		return m.t;
	ctx_unref(m.t);
	return NULL;
}

static void ctx_unref(struct tls_ctx *t)
{
	if (!t || __atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL))
		return;
	SSL_CTX_free(t->ssl);
	for (unsigned i = 0; i < CLIENT_SESSIONS; i++)
		SSL_SESSION_free(t->sessions[i].session);
	for (unsigned i = 0; i < t->npairs; i++) {
		X509_free(t->pairs[i].leaf);
		EVP_PKEY_free(t->pairs[i].key);
		sk_X509_pop_free(t->pairs[i].chain, X509_free);
	}
	for (unsigned i = 0; i < t->nnames; i++)
		mem_free(MEM_CONFIG, t->names[i].text);
	mem_free(MEM_CONFIG, t->names);
	mem_free(MEM_CONFIG, t->pairs);
	mem_free(MEM_CONFIG, t->curves);
	mem_free(MEM_CONFIG, t->alpn);
	mem_free(MEM_CONFIG, t->spki);
	pthread_mutex_destroy(&t->lock);
	mem_free(MEM_CONFIG, t);
}

void tls_ctx_free(struct tls_ctx *t)
{
	ctx_unref(t);
}
