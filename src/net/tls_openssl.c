/* src/net/tls_openssl.c
 *
 * The one place that knows OpenSSL. A socket BIO of our own stands below each SSL: it goes through
 * loop/sys.h (no SIGPIPE, fault hooks), reads at most once per conn_read, and never tells OpenSSL that
 * the socket is full. What one call writes is collected ("corked") and leaves in one send; what the socket
 * does not take waits, encrypted, in struct tls_conn. So SSL_write never has to be repeated with the same
 * bytes, and a flight of the handshake is one packet train.
 *
 * In order: the BIO and its output, the connection, tickets and sessions, choosing a certificate,
 * verification, contexts, the picker, facts for scripts and logs.
 */
#include "base/hash.h"
#include "base/mem.h"
#include "base/must.h"
#include "loop/sys.h"
#include "net/conn_int.h"
#include "net/listen.h"
#include "net/tls.h"
#include "net/tls_int.h"
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

enum {
	RECORD = 16384,  /* plain bytes of one record */
	HELD_MAX = 4096, /* waiting bytes that are sent in front of the next records */
	CORK = CONN_WRITE_MAX +
	       16384, /* records of one conn_write with their overhead, and HELD_MAX */
	OUT_MAX =
		256 *
		1024, /* encrypted bytes that wait; beyond: the peer provokes answers it does not read */
	READ_AHEAD = 3 * (RECORD + 320),
	PIECES = 64, /* as conn.c */
	LINGER_US = 10000000,
	SERVER_SESSIONS = 2048, /* of one context, TLS 1.2 without tickets */
	CLIENT_SESSIONS = 16,   /* of one context */
	TICKET_KEYS = 3,
	NAME_MAX_BYTES = 255,
	ALPN_MAX = 16,
};
static const uint64_t ticket_key_age =
	3600ull * 1000000; /* us; a ticket lives up to three times as long */

#define OWNER(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

struct pair {
	X509 *leaf;
	EVP_PKEY *key;
	STACK_OF(X509) * chain;
};

struct cert_name {
	char *text; /* lower case; of a wildcard the part from the first dot on */
	bool wild;
	unsigned pair;
};

struct digest {
	unsigned char b[32];
};

struct tls_ctx {
	SSL_CTX *ssl;
	unsigned refs; /* atomic */
	bool server, verify_peer, have_ca, accept_untrusted, default_only;
	uint32_t session_timeout_s;
	char *curves; /* NULL: the default */
	unsigned char *alpn;
	unsigned alpn_n;
	struct pair *pairs;
	struct cert_name *names;
	unsigned npairs, nnames;
	struct digest *spki, *cert;
	unsigned nspki, ncert;
	bool (*san_ok)(void *arg, enum tls_san_kind kind, struct str value);
	void *san_arg;
	struct tls_ctx *(*pick)(void *arg, struct conn *c, struct str sni, const struct str *alpns,
				unsigned n);
	void *pick_arg;
	pthread_mutex_t lock; /* of sessions; all workers share a context */
	struct {
		uint64_t key;
		SSL_SESSION *session;
	} sessions[CLIENT_SESSIONS];
	unsigned next_session;
};

struct tls_conn {
	SSL *ssl;
	struct conn *conn;
	struct tls_ctx *ctx; /* in force: the picker's choice, once it has been asked */
	unsigned char *out;  /* encrypted, to be sent before all else */
	uint32_t out_at, out_n;
	int err;         /* errno of a recv that failed */
	const char *why; /* what our own checks of the certificate found wrong */
	uint64_t session_key;
	bool shaking, eof, dry, more, spent, validated, shut;
	/* Only after conn_close, while the rest of out leaves. */
	struct loop *loop;
	struct watch watch;
	struct timer timer;
	struct grave grave;
};

/* What the running call has written, and its record under construction. */
static _Thread_local struct {
	size_t n;
	unsigned char b[CORK];
} cork;
static _Thread_local unsigned char record[RECORD];

/* dependencies.md 3.1: the queue is per thread, not per connection. Nearly always it is empty. */
static inline void clear_errors(void)
{
	if (__builtin_expect(ERR_peek_error() != 0, 0))
		ERR_clear_error();
}

/* The first error in the queue, as static text; empties the queue. */
static const char *reason(void)
{
	unsigned long e = ERR_peek_error();
	const char *text = e ? ERR_reason_error_string(e) : NULL;
	ERR_clear_error();
	return text ? text : "TLS error";
}

/* The BIO and its output */

static bool hold(struct tls_conn *t, const void *p, size_t n)
{
	if (!n)
		return true;
	if (n > OUT_MAX - t->out_n)
		return false;
	unsigned char *bigger = mem_alloc(MEM_CONN, t->out_n + n);
	if (!bigger)
		return false;
	if (t->out_n)
		memcpy(bigger, t->out + t->out_at, t->out_n);
	memcpy(bigger + t->out_n, p, n);
	mem_free(MEM_CONN, t->out);
	t->out = bigger;
	t->out_at = 0;
	t->out_n += (uint32_t)n;
	return true;
}

static void drop_out(struct tls_conn *t)
{
	mem_free(MEM_CONN, t->out);
	t->out = NULL;
	t->out_at = t->out_n = 0;
}

/* Bytes sent, 0 when there is no room, -1: failed, errno. */
static ssize_t try_send(int fd, const void *p, size_t n)
{
	ssize_t got = sys_send(fd, p, n, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return got;
}

static bool send_out(struct tls_conn *t, int fd)
{
	ssize_t got = try_send(fd, t->out + t->out_at, t->out_n);
	if (got < 0)
		return false;
	t->out_at += (uint32_t)got;
	t->out_n -= (uint32_t)got;
	if (!t->out_n)
		drop_out(t);
	return true;
}

bool tls_flush(struct conn *c)
{
	struct tls_conn *t = c->tls;
	if (t->out_n && !send_out(t, c->watch.fd)) {
		conn_lost(c, errno, "send");
		return false;
	}
	c->blocked = t->out_n != 0;
	return true;
}

/* Sends what has been corked, behind what waits. False: c->failure. */
static bool uncork(struct tls_conn *t)
{
	struct conn *c = t->conn;
	size_t n = cork.n;
	cork.n = 0;
	if (!n)
		return true;
	if (t->out_n) {
		if (hold(t, cork.b, n))
			return tls_flush(c);
		conn_lost(c, ENOMEM, "send");
		return false;
	}
	ssize_t got = try_send(c->watch.fd, cork.b, n);
	if (got < 0) {
		conn_lost(c, errno, "send");
		return false;
	}
	c->blocked = (size_t)got < n;
	if (hold(t, cork.b + got, n - (size_t)got))
		return true;
	conn_lost(c, ENOMEM, "send");
	return false;
}

static int bio_write(BIO *b, const char *p, int n)
{
	struct tls_conn *t = BIO_get_data(b);
	BIO_clear_retry_flags(b);
	if (n <= 0)
		return 0;
	if ((size_t)n > sizeof cork.b - cork.n) {
		/* A long flight of certificates. */
		if (!hold(t, cork.b, cork.n) || !hold(t, p, (size_t)n))
			return -1;
		cork.n = 0;
		return n;
	}
	memcpy(cork.b + cork.n, p, (size_t)n);
	cork.n += (size_t)n;
	return n;
}

static int bio_read(BIO *b, char *p, int n)
{
	struct tls_conn *t = BIO_get_data(b);
	BIO_clear_retry_flags(b);
	if (t->eof || t->err)
		return t->eof ? 0 : -1;
	if (!t->dry) {
		ssize_t got = sys_recv(t->conn->watch.fd, p, (size_t)n);
		if (got > 0) {
			/* A read shorter than the space has emptied the socket; and once per
			 * conn_read. */
			t->dry = got < n || !t->shaking;
			return (int)got;
		}
		if (got == 0) {
			t->eof = true;
			return 0;
		}
		if (errno != EAGAIN && errno != EINTR) {
			t->err = errno;
			return -1;
		}
		t->dry = true;
	}
	BIO_set_retry_read(b);
	return -1;
}

static long bio_ctrl(BIO *b, int what, long n, void *p)
{
	return what == BIO_CTRL_FLUSH || what == BIO_CTRL_DUP;
}

static BIO_METHOD *bio_method;
static EVP_CIPHER *ticket_cipher;

static void init_once(void)
{
	/* Threads may still be in here when main returns. */
	OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
	OPENSSL_init_ssl(0, NULL);
	bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "postern socket");
	ticket_cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
	if (!bio_method || !ticket_cipher || !BIO_meth_set_write(bio_method, bio_write) ||
	    !BIO_meth_set_read(bio_method, bio_read) || !BIO_meth_set_ctrl(bio_method, bio_ctrl))
		bio_method = NULL;
}

static bool init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, init_once);
	return bio_method != NULL;
}

/* The connection */

static struct tls_ctx *ctx_ref(struct tls_ctx *t)
{
	__atomic_fetch_add(&t->refs, 1, __ATOMIC_RELAXED);
	return t;
}

static SSL_SESSION *session_take(struct tls_ctx *t, uint64_t key);

static bool set_names(struct tls_conn *t, const char *sni, const char *verify_host)
{
	struct {
		uint64_t sni, host;
	} key = {0, 0};
	if (sni && *sni) {
		if (strlen(sni) > NAME_MAX_BYTES || !SSL_set_tlsext_host_name(t->ssl, sni))
			return false;
		key.sni = hash_str(str_of(sni));
	}
	if (verify_host && *verify_host) {
		X509_VERIFY_PARAM *param = SSL_get0_param(t->ssl);
		X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
		unsigned char ip[16];
		if (inet_pton(AF_INET, verify_host, ip) == 1 ||
		    inet_pton(AF_INET6, verify_host, ip) == 1) {
			if (!X509_VERIFY_PARAM_set1_ip_asc(param, verify_host))
				return false;
		} else if (!X509_VERIFY_PARAM_set1_host(param, verify_host, 0)) {
			return false;
		}
		key.host = hash_str(str_of(verify_host));
	}
	t->session_key = hash_bytes(&key, sizeof key);
	SSL_SESSION *session = session_take(t->ctx, t->session_key);
	if (session) {
		SSL_set_session(t->ssl, session);
		SSL_SESSION_free(session);
	}
	return true;
}

static void ctx_unref(struct tls_ctx *t);

static void conn_free(struct tls_conn *t)
{
	mem_free(MEM_CONN, t->out);
	SSL_free(t->ssl);
	ctx_unref(t->ctx);
	mem_free(MEM_CONN, t);
}

bool tls_begin(struct conn *c, struct tls_ctx *ctx, bool server, const char *sni,
	       const char *verify_host)
{
	must(ctx->server == server);
	struct tls_conn *t = mem_zalloc(MEM_CONN, sizeof *t);
	if (!t)
		return false;
	t->conn = c;
	t->ctx = ctx_ref(ctx);
	t->shaking = true;
	clear_errors();
	t->ssl = SSL_new(ctx->ssl);
	BIO *bio = t->ssl ? BIO_new(bio_method) : NULL;
	if (!bio)
		goto fail;
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	SSL_set_app_data(t->ssl, t);
	if (server)
		SSL_set_accept_state(t->ssl);
	else
		SSL_set_connect_state(t->ssl);
	if (!server && !set_names(t, sni, verify_host))
		goto fail;
	c->tls = t;
	return true;

fail:
	ERR_clear_error();
	conn_free(t);
	return false;
}

static enum tls_step shaking_failed(struct tls_conn *t)
{
	struct conn *c = t->conn;
	const enum failure_kind kind = FAILED_TLS;
	uncork(t); /* our alert, if it can still be sent */
	if (t->err)
		c->failure = (struct failure){kind, t->err, "TLS handshake: recv"};
	else if (t->eof)
		c->failure = (struct failure){kind, 0, "TLS handshake: the peer closed"};
	else if (t->why)
		c->failure = (struct failure){kind, 0, t->why};
	else if (SSL_get_verify_result(t->ssl) != X509_V_OK)
		c->failure = (struct failure){
			kind, 0, X509_verify_cert_error_string(SSL_get_verify_result(t->ssl))};
	else
		c->failure = (struct failure){kind, 0, reason()};
	ERR_clear_error();
	return TLS_BROKEN;
}

static enum tls_step shaken(struct tls_conn *t)
{
	struct conn *c = t->conn;
	const unsigned char *alpn;
	unsigned n;
	t->shaking = false;
	t->more = SSL_has_pending(t->ssl);
	SSL_get0_alpn_selected(t->ssl, &alpn, &n);
	if (n >= sizeof c->alpn)
		n = sizeof c->alpn - 1;
	if (n)
		memcpy(c->alpn, alpn, n);
	/* A TLS 1.3 server has only its session ticket left to send. It rides with the first answer: one
	 * system call and one packet less per connection. */
	bool ok;
	if (c->server && SSL_version(t->ssl) == TLS1_3_VERSION && cork.n <= HELD_MAX && !t->out_n) {
		ok = hold(t, cork.b, cork.n);
		cork.n = 0;
	} else {
		ok = uncork(t);
	}
	return ok ? TLS_SHAKEN : shaking_failed(t);
}

enum tls_step tls_shake(struct conn *c)
{
	struct tls_conn *t = c->tls;
	if (c->blocked && !tls_flush(c))
		return TLS_BROKEN;
	cork.n = 0;
	t->dry = false;
	clear_errors();
	int r = SSL_do_handshake(t->ssl);
	if (r == 1)
		return shaken(t);
	if (t->eof || t->err || SSL_get_error(t->ssl, r) != SSL_ERROR_WANT_READ)
		return shaking_failed(t);
	return uncork(t) ? TLS_WAIT : TLS_BROKEN;
}

/* SSL_read has returned r <= 0. */
static ssize_t read_stopped(struct tls_conn *t, int r)
{
	struct conn *c = t->conn;
	if (SSL_get_shutdown(t->ssl) & SSL_RECEIVED_SHUTDOWN)
		return 0;
	if (t->eof) {
		c->cut = true;
		return 0;
	}
	if (t->err) {
		conn_lost(c, t->err, "recv");
	} else {
		if (SSL_get_error(t->ssl, r) == SSL_ERROR_WANT_READ)
			return CONN_AGAIN;
		conn_lost(c, EPROTO, reason());
	}
	t->spent = true;
	ERR_clear_error();
	return CONN_FAILED;
}

ssize_t tls_read(struct conn *c, void *p, size_t n)
{
	struct tls_conn *t = c->tls;
	size_t got = 0;
	ssize_t stopped = CONN_AGAIN;
	cork.n = 0;
	t->dry = false;
	t->more = false;
	if (t->spent)
		return CONN_FAILED;
	if (n > INT_MAX)
		n = INT_MAX;
	/* All records that are here, but one recv. */
	while (got < n) {
		clear_errors();
		int r = SSL_read(t->ssl, (char *)p + got, (int)(n - got));
		if (r <= 0) {
			stopped = read_stopped(t, r);
			break;
		}
		got += (size_t)r;
		t->more = SSL_has_pending(t->ssl);
		if (!t->more)
			break;
	}
	if (cork.n && !uncork(t))
		c->write_failed = true;
	if (!got)
		return stopped;
	if (stopped != CONN_AGAIN)
		t->more = true; /* the end is here already, and epoll may not tell of it */
	else if (got < n)
		t->more = false; /* at most a part of a record */
	return (ssize_t)got;
}

bool tls_pending(const struct conn *c)
{
	return ((const struct tls_conn *)c->tls)->more;
}

bool tls_idle(struct conn *c)
{
	struct tls_conn *t = c->tls;
	char byte;
	if (t->more || t->eof || t->err || t->spent)
		return false;
	cork.n = 0;
	t->dry = false;
	clear_errors();
	int r = SSL_peek(t->ssl, &byte, 1);
	bool idle = r <= 0 && !t->eof && !t->err && SSL_get_error(t->ssl, r) == SSL_ERROR_WANT_READ;
	ERR_clear_error();
	return uncork(t) && idle && !t->out_n;
}

static bool encrypt(struct tls_conn *t, const unsigned char *p, size_t n)
{
	while (n) {
		clear_errors();
		int r = SSL_write(t->ssl, p, (int)n);
		if (r <= 0) {
			conn_lost(t->conn, EPROTO, reason());
			return false;
		}
		p += r;
		n -= (size_t)r;
	}
	return true;
}

/* Encrypts up to CONN_WRITE_MAX bytes into the cork. Small pieces share a record, whole records are taken
 * where they lie. */
static ssize_t encrypt_pieces(struct tls_conn *t, const struct iovec *iov, int n)
{
	size_t total = 0, fill = 0;
	for (int i = 0; i < n && total < CONN_WRITE_MAX; i++) {
		const unsigned char *p = iov[i].iov_base;
		size_t left = iov[i].iov_len;
		if (left > CONN_WRITE_MAX - total)
			left = CONN_WRITE_MAX - total;
		total += left;
		while (left) {
			size_t take = left < RECORD - fill ? left : RECORD - fill;
			if (!fill && (take == RECORD || i + 1 == n)) {
				if (!encrypt(t, p, take))
					return CONN_FAILED;
			} else {
				memcpy(record + fill, p, take);
				fill += take;
			}
			if (fill == RECORD) {
				if (!encrypt(t, record, fill))
					return CONN_FAILED;
				fill = 0;
			}
			p += take;
			left -= take;
		}
	}
	if (fill && !encrypt(t, record, fill))
		return CONN_FAILED;
	return (ssize_t)total;
}

ssize_t tls_write(struct conn *c, const struct iovec *iov, int n)
{
	struct tls_conn *t = c->tls;
	cork.n = 0;
	if (t->out_n > HELD_MAX || (t->out_n && c->blocked)) {
		if (!tls_flush(c))
			return CONN_FAILED;
		if (t->out_n)
			return CONN_AGAIN;
	} else if (t->out_n) {
		memcpy(cork.b, t->out + t->out_at, t->out_n);
		cork.n = t->out_n;
		drop_out(t);
	}
	ssize_t total = encrypt_pieces(t, iov, n < PIECES ? n : PIECES);
	if (total == CONN_FAILED || !uncork(t))
		return CONN_FAILED;
	return total;
}

void tls_shut(struct conn *c)
{
	struct tls_conn *t = c->tls;
	if (t->shut || t->shaking || t->spent)
		return;
	t->shut = true;
	cork.n = 0;
	clear_errors();
	SSL_shutdown(t->ssl);
	ERR_clear_error();
	if (!uncork(t) || (t->out_n && !c->blocked && !tls_flush(c)))
		c->write_failed = true;
}

/* Lingering: the descriptor of a closed connection, until the peer has taken the rest. */

static void lingered(struct grave *g)
{
	mem_free(MEM_CONN, OWNER(g, struct tls_conn, grave));
}

static void linger_over(struct tls_conn *t)
{
	timer_cancel(t->loop, &t->timer);
	watch_forget(t->loop, &t->watch);
	close(t->watch.fd);
	acceptor_room(t->loop);
	drop_out(t);
	reap(t->loop, &t->grave);
}

static void linger_ready(struct watch *w, unsigned events)
{
	struct tls_conn *t = OWNER(w, struct tls_conn, watch);
	if (!send_out(t, w->fd) || !t->out_n)
		linger_over(t);
}

static void linger_late(struct timer *timer)
{
	linger_over(OWNER(timer, struct tls_conn, timer));
}

bool tls_end(struct conn *c, bool linger)
{
	struct tls_conn *t = c->tls;
	c->tls = NULL;
	/* Else OpenSSL takes the session for a broken one and forgets it. */
	if (!t->shaking && !t->spent)
		SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	if (!linger || !t->out_n) {
		conn_free(t);
		return false;
	}
	SSL_free(t->ssl);
	ctx_unref(t->ctx);
	t->ssl = NULL;
	t->ctx = NULL;
	t->conn = NULL;
	t->loop = c->loop;
	t->watch.ready = linger_ready;
	t->timer.fire = linger_late;
	t->grave.bury = lingered;
	if (!watch_add(t->loop, &t->watch, c->watch.fd, WATCH_WRITE)) {
		mem_free(MEM_CONN, t->out);
		mem_free(MEM_CONN, t);
		return false;
	}
	timer_arm(t->loop, &t->timer, LINGER_US);
	return true;
}

/* Tickets: keys of the process, so that a context made by a reload resumes what its predecessor began.
 * The newest encrypts; it changes every hour, and two older ones still decrypt. */

struct ticket_key {
	unsigned char name[16], aes[32], mac[32];
};

static struct {
	pthread_mutex_t lock;
	struct ticket_key at[TICKET_KEYS]; /* newest first */
	unsigned n;
	uint64_t born_us;
} tickets = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool newest_key(uint64_t now, struct ticket_key *out)
{
	bool ok = true;
	pthread_mutex_lock(&tickets.lock);
	if (!tickets.n || now - tickets.born_us >= ticket_key_age) {
		struct ticket_key k;
		ok = RAND_bytes((unsigned char *)&k, sizeof k) == 1;
		if (ok) {
			memmove(tickets.at + 1, tickets.at, sizeof tickets.at - sizeof k);
			tickets.at[0] = k;
			tickets.born_us = now;
			if (tickets.n < TICKET_KEYS)
				tickets.n++;
		}
	}
	*out = tickets.at[0];
	pthread_mutex_unlock(&tickets.lock);
	return ok;
}

/* 0: unknown, 1: the newest, 2: an older one. */
static int known_key(const unsigned char *name, struct ticket_key *out)
{
	int found = 0;
	pthread_mutex_lock(&tickets.lock);
	for (unsigned i = 0; i < tickets.n && !found; i++) {
		if (memcmp(tickets.at[i].name, name, sizeof out->name) == 0) {
			*out = tickets.at[i];
			found = i ? 2 : 1;
		}
	}
	pthread_mutex_unlock(&tickets.lock);
	return found;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
		     EVP_MAC_CTX *mac, int encrypting)
{
	const struct tls_conn *t = SSL_get_app_data(ssl);
	struct ticket_key k;
	int known = 1;
	if (encrypting) {
		if (!newest_key(loop_now_us(t->conn->loop), &k) || RAND_bytes(iv, 16) != 1)
			return -1;
		memcpy(name, k.name, sizeof k.name);
	} else {
		known = known_key(name, &k);
		if (!known)
			return 0;
		if (SSL_version(ssl) >= TLS1_3_VERSION)
			known = 2; /* clients use one once: give another */
	}
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k.mac, sizeof k.mac),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_end()};
	bool ok = EVP_MAC_CTX_set_params(mac, params) == 1 &&
		  (encrypting ? EVP_EncryptInit_ex2(cipher, ticket_cipher, k.aes, iv, NULL)
			      : EVP_DecryptInit_ex2(cipher, ticket_cipher, k.aes, iv, NULL)) == 1;
	OPENSSL_cleanse(&k, sizeof k);
	return ok ? known : -1;
}

/* Sessions with origins: the last few of a context. */

static int on_session(SSL *ssl, SSL_SESSION *session)
{
	const struct tls_conn *c = SSL_get_app_data(ssl);
	struct tls_ctx *t = c->ctx;
	pthread_mutex_lock(&t->lock);
	unsigned at = t->next_session++ % CLIENT_SESSIONS;
	SSL_SESSION *old = t->sessions[at].session;
	t->sessions[at].key = c->session_key;
	t->sessions[at].session = session;
	pthread_mutex_unlock(&t->lock);
	SSL_SESSION_free(old);
	return 1; /* kept */
}

/* The newest for key, the caller's to free. One of TLS 1.3 is used once (RFC 8446 C.4). */
static SSL_SESSION *session_take(struct tls_ctx *t, uint64_t key)
{
	SSL_SESSION *found = NULL;
	pthread_mutex_lock(&t->lock);
	for (unsigned i = 0; i < CLIENT_SESSIONS && !found; i++) {
		unsigned at = (t->next_session - 1 - i) % CLIENT_SESSIONS;
		if (!t->sessions[at].session || t->sessions[at].key != key)
			continue;
		found = t->sessions[at].session;
		if (SSL_SESSION_get_protocol_version(found) >= TLS1_3_VERSION)
			t->sessions[at].session = NULL;
		else
			SSL_SESSION_up_ref(found);
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

/* Choosing a certificate, on a server with several */

enum match { MATCH_NONE, MATCH_WILD, MATCH_EXACT };

static enum match name_matches(const struct cert_name *n, const char *sni)
{
	if (!n->wild)
		return strcasecmp(n->text, sni) == 0 ? MATCH_EXACT : MATCH_NONE;
	const char *dot = strchr(sni, '.');
	return dot && dot != sni && strcasecmp(n->text, dot) == 0 ? MATCH_WILD : MATCH_NONE;
}

static bool use_pairs(SSL *ssl, const struct tls_ctx *t, enum match want, const char *sni)
{
	int types[8];
	unsigned ntypes = 0;
	SSL_certs_clear(ssl);
	for (unsigned i = 0; i < t->nnames; i++) {
		if (name_matches(&t->names[i], sni) != want)
			continue;
		const struct pair *p = &t->pairs[t->names[i].pair];
		int type = EVP_PKEY_get_base_id(p->key);
		bool had = false;
		for (unsigned k = 0; k < ntypes; k++)
			had = had || types[k] == type;
		if (had || ntypes == sizeof types / sizeof *types)
			continue;
		types[ntypes++] = type;
		if (!SSL_use_cert_and_key(ssl, p->leaf, p->key, p->chain, 1))
			return false;
	}
	return true;
}

static int on_certificate(SSL *ssl, void *arg)
{
	const struct tls_conn *c = SSL_get_app_data(ssl);
	const struct tls_ctx *t = c->ctx;
	if (t->session_timeout_s) /* the session was made with the picker's */
		SSL_SESSION_set_timeout(SSL_get_session(ssl), (long)t->session_timeout_s);
	const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	if (!sni || t->default_only)
		return 1;
	enum match best = MATCH_NONE;
	for (unsigned i = 0; i < t->nnames && best != MATCH_EXACT; i++) {
		enum match m = name_matches(&t->names[i], sni);
		if (m > best)
			best = m;
	}
	return best == MATCH_NONE || use_pairs(ssl, t, best, sni);
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
		   const unsigned char *offered, unsigned n, void *arg)
{
	const struct tls_ctx *t = arg;
	for (unsigned i = 0; i < t->alpn_n; i += 1u + t->alpn[i]) {
		for (unsigned k = 0; k < n; k += 1u + offered[k]) {
			if (offered[k] != t->alpn[i] || k + 1 + offered[k] > n ||
			    memcmp(offered + k + 1, t->alpn + i + 1, offered[k]) != 0)
				continue;
			*out = offered + k + 1;
			*out_n = offered[k];
			return SSL_TLSEXT_ERR_OK;
		}
	}
	return SSL_TLSEXT_ERR_NOACK; /* as Envoy: go on without */
}

static int on_servername(SSL *ssl, int *alert, void *arg)
{
	return SSL_TLSEXT_ERR_OK;
}

/* Verification */

static bool in(const struct digest *list, unsigned n, const unsigned char *d)
{
	for (unsigned i = 0; i < n; i++)
		if (memcmp(list[i].b, d, sizeof list[i].b) == 0)
			return true;
	return false;
}

static bool pinned(const struct tls_ctx *t, X509 *leaf)
{
	unsigned char d[EVP_MAX_MD_SIZE];
	unsigned n;
	if (t->ncert && X509_digest(leaf, EVP_sha256(), d, &n) && in(t->cert, t->ncert, d))
		return true;
	if (!t->nspki)
		return false;
	unsigned char *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &der);
	bool ok = len > 0 && EVP_Digest(der, (size_t)len, d, &n, EVP_sha256(), NULL) &&
		  in(t->spki, t->nspki, d);
	OPENSSL_free(der);
	return ok;
}

static struct str asn1_str(const ASN1_STRING *s)
{
	return (struct str){(const char *)ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s)};
}

/* ip holds INET6_ADDRSTRLEN. False: a kind we do not know. */
static bool san_value(const GENERAL_NAME *g, char *ip, enum tls_san_kind *kind, struct str *value)
{
	switch (g->type) {
	case GEN_DNS: *kind = TLS_SAN_DNS; break;
	case GEN_URI: *kind = TLS_SAN_URI; break;
	case GEN_EMAIL: *kind = TLS_SAN_EMAIL; break;
	case GEN_IPADD: {
		struct str raw = asn1_str(g->d.iPAddress);
		*kind = TLS_SAN_IP;
		if ((raw.n != 4 && raw.n != 16) ||
		    !inet_ntop(raw.n == 4 ? AF_INET : AF_INET6, raw.p, ip, INET6_ADDRSTRLEN))
			return false;
		*value = str_of(ip);
		return true;
	}
	default: return false;
	}
	*value = asn1_str(g->d.ia5);
	return true;
}

static bool some_san_ok(const struct tls_ctx *t, X509 *leaf)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	bool ok = false;
	for (int i = 0; i < sk_GENERAL_NAME_num(names) && !ok; i++) {
		char ip[INET6_ADDRSTRLEN];
		enum tls_san_kind kind;
		struct str value;
		ok = san_value(sk_GENERAL_NAME_value(names, i), ip, &kind, &value) &&
		     t->san_ok(t->san_arg, kind, value);
	}
	GENERAL_NAMES_free(names);
	return ok;
}

static int on_verify(X509_STORE_CTX *x, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(x, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_conn *c = SSL_get_app_data(ssl);
	const struct tls_ctx *t = c->ctx;
	X509 *leaf = X509_STORE_CTX_get0_cert(x);
	bool pins = t->nspki || t->ncert, checked = false;
	int err = X509_V_OK;
	if (t->have_ca || (t->verify_peer && !pins)) {
		checked = true;
		if (X509_verify_cert(x) <= 0) {
			err = X509_STORE_CTX_get_error(x);
			if (err == X509_V_OK)
				err = X509_V_ERR_UNSPECIFIED;
		}
	}
	if (err == X509_V_OK && pins) {
		checked = true;
		if (!pinned(t, leaf)) {
			err = X509_V_ERR_APPLICATION_VERIFICATION;
			c->why = "certificate matches none of the hashes";
		}
	}
	if (err == X509_V_OK && t->san_ok) {
		checked = true;
		if (!some_san_ok(t, leaf)) {
			err = X509_V_ERR_APPLICATION_VERIFICATION;
			c->why = "certificate has none of the subject alternative names";
		}
	}
	c->validated = checked && err == X509_V_OK;
	if (t->accept_untrusted) {
		err = X509_V_OK;
		c->why = NULL;
	}
	X509_STORE_CTX_set_error(x, err);
	return err == X509_V_OK;
}

/* Contexts */

#include "net/tls_setup_int.h"

/* The picker */

/* server_name of a ClientHello (RFC 6066 3), lower-cased into out; its length, 0: none that can
 * be read. */
static size_t hello_sni(SSL *ssl, char out[NAME_MAX_BYTES])
{
	const unsigned char *p;
	size_t n;
	if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) || n < 5)
		return 0;
	size_t list = (size_t)p[0] << 8 | p[1], len = (size_t)p[3] << 8 | p[4];
	if (list + 2 != n || p[2] != TLSEXT_NAMETYPE_host_name || len + 3 > list ||
	    len > NAME_MAX_BYTES)
		return 0;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = p[5 + i];
		if (!c)
			return 0;
		out[i] = (char)(c >= 'A' && c <= 'Z' ? c | 32 : c);
	}
	return len;
}

static unsigned hello_alpn(SSL *ssl, struct str out[ALPN_MAX])
{
	const unsigned char *p;
	size_t n;
	unsigned count = 0;
	if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &p,
				       &n) ||
	    n < 2 || ((size_t)p[0] << 8 | p[1]) != n - 2)
		return 0;
	for (size_t at = 2; at < n && count < ALPN_MAX; at += 1u + p[at]) {
		if (at + 1 + p[at] > n)
			return 0;
		out[count++] = (struct str){(const char *)p + at + 1, p[at]};
	}
	return count;
}

/* SSL_set_SSL_CTX takes over certificates, stores and callbacks of the context; what SSL_new copied into
 * the SSL has to be set anew. */
static bool switch_to(struct tls_conn *t, struct tls_ctx *chosen)
{
	SSL *ssl = t->ssl;
	SSL_CTX *ctx = chosen->ssl;
	struct tls_ctx *old = t->ctx;
	t->ctx = ctx_ref(chosen);
	ctx_unref(old);
	if (!SSL_set_SSL_CTX(ssl, ctx))
		return false;
	SSL_clear_options(ssl, SSL_get_options(ssl));
	SSL_set_options(ssl, SSL_CTX_get_options(ctx));
	SSL_set_verify(ssl, SSL_CTX_get_verify_mode(ctx), NULL);
	SSL_set_num_tickets(ssl, SSL_CTX_get_num_tickets(ctx));
	return X509_VERIFY_PARAM_set1(SSL_get0_param(ssl), SSL_CTX_get0_param(ctx)) &&
	       SSL_set_min_proto_version(ssl, (int)SSL_CTX_get_min_proto_version(ctx)) &&
	       SSL_set_max_proto_version(ssl, (int)SSL_CTX_get_max_proto_version(ctx)) &&
	       (!chosen->curves || SSL_set1_groups_list(ssl, chosen->curves));
}

static int on_hello(SSL *ssl, int *alert, void *arg)
{
	struct tls_ctx *picker = arg;
	struct tls_conn *t = SSL_get_app_data(ssl);
	char sni[NAME_MAX_BYTES];
	struct str alpns[ALPN_MAX];
	if (t->ctx != picker) /* the second ClientHello, after HelloRetryRequest */
		return SSL_CLIENT_HELLO_SUCCESS;
	struct str name = {sni, hello_sni(ssl, sni)};
	unsigned n = hello_alpn(ssl, alpns);
	struct tls_ctx *chosen = picker->pick(picker->pick_arg, t->conn, name, alpns, n);
	if (!chosen) {
		t->why = "no filter chain for this server name";
		*alert = SSL_AD_UNRECOGNIZED_NAME;
		return SSL_CLIENT_HELLO_ERROR;
	}
	must(chosen->server && !chosen->pick);
	if (switch_to(t, chosen))
		return SSL_CLIENT_HELLO_SUCCESS;
	*alert = SSL_AD_INTERNAL_ERROR;
	return SSL_CLIENT_HELLO_ERROR;
}

struct tls_ctx *tls_picker_new(struct tls_ctx *(*pick)(void *arg, struct conn *c, struct str sni,
						       const struct str *alpns, unsigned n),
			       void *arg)
{
	struct tls_ctx *t = ctx_new(true);
	if (!t)
		return NULL;
	t->pick = pick;
	t->pick_arg = arg;
	server_sessions(t->ssl, true, true, 0);
	SSL_CTX_set_client_hello_cb(t->ssl, on_hello, t);
	/* Bounds are the chosen context's. */
	SSL_CTX_set_min_proto_version(t->ssl, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(t->ssl, TLS1_3_VERSION);
	if (SSL_CTX_set1_groups_list(t->ssl, default_curves))
		return t;
	ERR_clear_error();
	ctx_unref(t);
	return NULL;
}

/* Facts */

static const struct str none = {"", 0};

static SSL *ssl_of(const struct conn *c)
{
	return c->tls ? ((const struct tls_conn *)c->tls)->ssl : NULL;
}

static X509 *peer_of(const struct conn *c)
{
	return c->tls ? SSL_get0_peer_certificate(ssl_of(c)) : NULL;
}

static X509 *local_of(const struct conn *c)
{
	return c->tls ? SSL_get_certificate(ssl_of(c)) : NULL;
}

static struct str hex(struct arena *a, const unsigned char *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	char *o = n ? arena_alloc(a, 2 * n) : NULL;
	if (!o)
		return none;
	for (size_t i = 0; i < n; i++) {
		o[2 * i] = digits[p[i] >> 4];
		o[2 * i + 1] = digits[p[i] & 15];
	}
	return (struct str){o, 2 * n};
}

static struct str copy(struct arena *a, struct str s)
{
	struct str out = s.n ? arena_str(a, s) : none;
	return out.p ? out : none;
}

/* The content of b, which is freed. */
static struct str drain(struct arena *a, BIO *b)
{
	char *p = NULL;
	long n = b ? BIO_get_mem_data(b, &p) : 0;
	struct str out = n > 0 ? copy(a, (struct str){p, (size_t)n}) : none;
	BIO_free(b);
	ERR_clear_error();
	return out;
}

static struct str rfc2253(struct arena *a, const X509_NAME *name)
{
	BIO *b = BIO_new(BIO_s_mem());
	if (b)
		X509_NAME_print_ex(b, name, 0, XN_FLAG_RFC2253);
	return drain(a, b);
}

/* Whole bytes. */
static struct str serial_bytes(struct arena *a, X509 *x)
{
	struct str s = asn1_str(X509_get0_serialNumber(x));
	while (s.n && !s.p[0])
		s = str_from(s, 1);
	return s.n ? hex(a, (const unsigned char *)s.p, s.n) : STR("0");
}

static struct str serial(struct arena *a, X509 *x)
{
	struct str s = serial_bytes(a, x);
	return s.n > 1 && s.p[0] == '0' ? str_from(s, 1) : s;
}

static void url_encode(BIO *to, BIO *from)
{
	char *p = NULL;
	long n = BIO_get_mem_data(from, &p);
	for (long i = 0; i < n; i++) {
		const char *as = p[i] == '\n'  ? "%0A"
				 : p[i] == ' ' ? "%20"
				 : p[i] == '+' ? "%2B"
				 : p[i] == '/' ? "%2F"
				 : p[i] == '=' ? "%3D"
					       : NULL;
		BIO_write(to, as ? as : p + i, as ? 3 : 1);
	}
}

/* The leaf, and with chain what the peer sent behind it. */
static struct str pem_encoded(const struct conn *c, struct arena *a, bool chain)
{
	X509 *leaf = peer_of(c);
	BIO *pem = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	if (leaf && pem && out) {
		STACK_OF(X509) *rest = chain ? SSL_get_peer_cert_chain(ssl_of(c)) : NULL;
		PEM_write_bio_X509(pem, leaf);
		/* On the dialling side the list has the leaf too. */
		for (int i = c->server ? 0 : 1; i < sk_X509_num(rest); i++)
			PEM_write_bio_X509(pem, sk_X509_value(rest, i));
		url_encode(out, pem);
	}
	BIO_free(pem);
	return drain(a, out);
}

static struct str entry_text(struct arena *a, const X509_NAME *name, int at)
{
	unsigned char *utf8 = NULL;
	int n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
	struct str out = n > 0 ? copy(a, (struct str){(char *)utf8, (size_t)n}) : none;
	OPENSSL_free(utf8);
	return out;
}

static struct str peer_text(const struct conn *c, X509 *x, enum tls_text what, struct arena *a)
{
	unsigned char d[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	int at;
	switch (what) {
	case TLS_PEER_SUBJECT: return rfc2253(a, X509_get_subject_name(x));
	case TLS_PEER_ISSUER: return rfc2253(a, X509_get_issuer_name(x));
	case TLS_PEER_SERIAL: return serial(a, x);
	case TLS_PEER_SHA256: return X509_digest(x, EVP_sha256(), d, &n) ? hex(a, d, n) : none;
	case TLS_PEER_PEM_URLENCODED: return pem_encoded(c, a, false);
	case TLS_PEER_CHAIN_URLENCODED: return pem_encoded(c, a, true);
	case TLS_PEER_CN:
		at = X509_NAME_get_index_by_NID(X509_get_subject_name(x), NID_commonName, -1);
		return at >= 0 ? entry_text(a, X509_get_subject_name(x), at) : none;
	default: return none;
	}
}

struct str tls_text(const struct conn *c, enum tls_text what, struct arena *a)
{
	SSL *ssl = ssl_of(c);
	if (!ssl || ((const struct tls_conn *)c->tls)->shaking)
		return none;
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
	X509 *x;
	switch (what) {
	case TLS_VERSION: return copy(a, str_of(SSL_get_version(ssl)));
	case TLS_CIPHER: return cipher ? copy(a, str_of(SSL_CIPHER_get_name(cipher))) : none;
	case TLS_CIPHER_ID:
		return cipher ? arena_printf(a, "0x%04x",
					     (unsigned)SSL_CIPHER_get_protocol_id(cipher))
			      : none;
	case TLS_SESSION_ID: {
		/* In TLS 1.3 it is no identity, only the echo of what the client made up. */
		SSL_SESSION *session = SSL_get_session(ssl);
		unsigned n = 0;
		const unsigned char *id = session ? SSL_SESSION_get_id(session, &n) : NULL;
		return SSL_version(ssl) < TLS1_3_VERSION ? hex(a, id, n) : none;
	}
	case TLS_SNI: return copy(a, str_of(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)));
	case TLS_ALPN: {
		const unsigned char *p;
		unsigned n;
		SSL_get0_alpn_selected(ssl, &p, &n);
		return copy(a, (struct str){(const char *)p, n});
	}
	case TLS_LOCAL_SUBJECT:
		x = local_of(c);
		return x ? rfc2253(a, X509_get_subject_name(x)) : none;
	default: x = peer_of(c); return x ? peer_text(c, x, what, a) : none;
	}
}

static unsigned list_sans(X509 *x, int type, struct arena *a, struct str **out)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	int n = sk_GENERAL_NAME_num(names);
	unsigned count = 0;
	*out = n > 0 ? arena_alloc(a, (size_t)n * sizeof **out) : NULL;
	for (int i = 0; *out && i < n; i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		char ip[INET6_ADDRSTRLEN];
		enum tls_san_kind kind;
		struct str value;
		if (g->type == type && san_value(g, ip, &kind, &value))
			(*out)[count++] = copy(a, value);
	}
	GENERAL_NAMES_free(names);
	ERR_clear_error();
	return count;
}

static unsigned list_oids(X509 *x, struct arena *a, struct str **out)
{
	int n = X509_get_ext_count(x);
	unsigned count = 0;
	*out = n > 0 ? arena_alloc(a, (size_t)n * sizeof **out) : NULL;
	for (int i = 0; *out && i < n; i++) {
		char text[256];
		int len = OBJ_obj2txt(text, sizeof text,
				      X509_EXTENSION_get_object(X509_get_ext(x, i)), 1);
		if (len > 0 && len < (int)sizeof text)
			(*out)[count++] = copy(a, (struct str){text, (size_t)len});
	}
	return count;
}

static unsigned list_orgs(X509 *x, struct arena *a, struct str **out)
{
	const X509_NAME *name = X509_get_subject_name(x);
	int n = X509_NAME_entry_count(name);
	unsigned count = 0;
	*out = n > 0 ? arena_alloc(a, (size_t)n * sizeof **out) : NULL;
	for (int at = -1; *out && (at = X509_NAME_get_index_by_NID((X509_NAME *)name,
								   NID_organizationName, at)) >= 0;)
		(*out)[count++] = entry_text(a, name, at);
	return count;
}

unsigned tls_list(const struct conn *c, enum tls_list what, struct arena *a, struct str **out)
{
	bool local = what >= TLS_LOCAL_URIS;
	X509 *x = local ? local_of(c) : peer_of(c);
	*out = NULL;
	if (!x)
		return 0;
	switch (what) {
	case TLS_PEER_URIS:
	case TLS_LOCAL_URIS: return list_sans(x, GEN_URI, a, out);
	case TLS_PEER_DNS:
	case TLS_LOCAL_DNS: return list_sans(x, GEN_DNS, a, out);
	case TLS_PEER_OIDS:
	case TLS_LOCAL_OIDS: return list_oids(x, a, out);
	case TLS_PEER_ORGS: return list_orgs(x, a, out);
	}
	return 0;
}

bool tls_peer_presented(const struct conn *c)
{
	return peer_of(c) != NULL;
}

bool tls_peer_validated(const struct conn *c)
{
	return c->tls && ((const struct tls_conn *)c->tls)->validated;
}

bool tls_resumed(const struct conn *c)
{
	return c->tls && SSL_session_reused(ssl_of(c));
}

static int64_t seconds(const ASN1_TIME *t)
{
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
	int days = 0, secs = 0;
	if (epoch && t)
		ASN1_TIME_diff(&days, &secs, epoch, t);
	ASN1_TIME_free(epoch);
	return (int64_t)days * 86400 + secs;
}

static struct cert_facts facts_of(X509 *x, struct arena *a)
{
	struct cert_facts f = {.serial = serial_bytes(a, x),
			       .not_before = seconds(X509_get0_notBefore(x)),
			       .not_after = seconds(X509_get0_notAfter(x))};
	f.ndns = list_sans(x, GEN_DNS, a, &f.dns);
	f.nuris = list_sans(x, GEN_URI, a, &f.uris);
	f.nips = list_sans(x, GEN_IPADD, a, &f.ips);
	return f;
}

unsigned tls_cert_facts(struct str pem, struct arena *a, struct cert_facts **out)
{
	STACK_OF(X509) *list = read_certs(pem);
	int n = sk_X509_num(list);
	*out = n > 0 ? arena_alloc(a, (size_t)n * sizeof **out) : NULL;
	for (int i = 0; *out && i < n; i++)
		(*out)[i] = facts_of(sk_X509_value(list, i), a);
	sk_X509_pop_free(list, X509_free);
	ERR_clear_error();
	return *out && !a->over ? (unsigned)n : 0;
}

int64_t tls_peer_not_before(const struct conn *c)
{
	X509 *x = peer_of(c);
	return x ? seconds(X509_get0_notBefore(x)) : 0;
}

int64_t tls_peer_not_after(const struct conn *c)
{
	X509 *x = peer_of(c);
	return x ? seconds(X509_get0_notAfter(x)) : 0;
}
