/* src/net/tls.h
 *
 * TLS contexts and what a handshake brought. The only place that knows OpenSSL is tls_openssl.c. A context is made once per
 * configuration and shared by all threads.
 */
#pragma once
#include "base/arena.h"
#include "base/cert.h"
#include "base/str.h"
#include "net/conn.h"

struct tls_ctx;
struct tls_pair {
	struct str chain_pem, key_pem;
};
enum tls_san_kind { TLS_SAN_DNS, TLS_SAN_URI, TLS_SAN_EMAIL, TLS_SAN_IP };
struct tls_setup {
	bool server;
	/* RSA and ECDSA side by side, and one per name: chosen by SNI among their DNS SANs (without any, the
	 * common name), else the first. */
	const struct tls_pair *pairs;
	unsigned npairs;
	const struct str *alpn; /* server: in our order of preference; client: offered */
	unsigned nalpn;
	int min_version, max_version; /* 0x0303, 0x0304; 0: TLS 1.2 to 1.3 */
	/* Empty: defaults. Envoy's form ([A|B]:C), OpenSSL's or IANA's names. */
	struct str ciphers, curves;
	struct str ca_pem, crl_pem;
	bool verify_peer; /* client: check the server's chain; server: check a certificate when given */
	bool require_peer; /* server: a certificate must be given */
	bool accept_untrusted;
	bool system_ca;
	bool no_tickets, no_session_cache;
	uint32_t session_timeout_s;
	const struct str *spki_sha256_base64, *cert_sha256_hex;
	unsigned nspki, ncert;
	/* At least one SAN must satisfy this; NULL: not asked. Called in the handshake, on any thread. */
	bool (*san_ok)(void *arg, enum tls_san_kind kind, struct str value);
	void *san_arg; /* must outlive the context and the handshakes begun with it */
};
/* NULL: err (cap bytes, NUL-terminated) says which part is wrong, in words. */
struct tls_ctx *tls_ctx_new(const struct tls_setup *s, char *err, size_t cap);
/* Connections made with it go on. NULL is allowed. */
void tls_ctx_free(struct tls_ctx *t);

/* A listener whose chains differ in SNI or ALPN: contexts are chosen when the ClientHello is there. pick returns
 * the context to use (a server's, no picker; it need only live until pick has returned), or NULL to refuse
 * (unrecognized_name). sni is lower-cased, "" when absent; of the offered ALPN names the first 16. pick must not
 * close c. The picker itself is what conn_accept gets. */
struct tls_ctx *tls_picker_new(struct tls_ctx *(*pick)(void *arg, struct conn *c, struct str sni,
						       const struct str *alpns, unsigned n),
			       void *arg);

/* After established. Texts live in the arena; absent ones are "". */
enum tls_text {
	TLS_VERSION,
	TLS_CIPHER,
	TLS_CIPHER_ID,
	TLS_SESSION_ID,
	TLS_SNI,
	TLS_ALPN,
	TLS_PEER_SUBJECT,
	TLS_PEER_ISSUER,
	TLS_PEER_SERIAL,
	TLS_PEER_SHA256,
	TLS_PEER_PEM_URLENCODED,
	TLS_PEER_CHAIN_URLENCODED,
	TLS_LOCAL_SUBJECT,
	TLS_PEER_CN
};
struct str tls_text(const struct conn *c, enum tls_text what, struct arena *a);
enum tls_list {
	TLS_PEER_URIS,
	TLS_PEER_DNS,
	TLS_PEER_OIDS,
	TLS_PEER_ORGS,
	TLS_LOCAL_URIS,
	TLS_LOCAL_DNS,
	TLS_LOCAL_OIDS
};
/* In certificate order; returns the number, *out in the arena. */
unsigned tls_list(const struct conn *c, enum tls_list what, struct arena *a, struct str **out);
/* What the certificates of a PEM text say, in its order; lists and texts in the arena. Returns how many; 0: none, a broken one, or the arena
 * is over. */
unsigned tls_cert_facts(struct str pem, struct arena *a, struct cert_facts **out);
bool tls_peer_presented(const struct conn *c);
bool tls_peer_validated(const struct conn *c);
bool tls_resumed(const struct conn *c);
/* Seconds since the epoch; 0: no certificate. */
int64_t tls_peer_not_before(const struct conn *c);
int64_t tls_peer_not_after(const struct conn *c);
