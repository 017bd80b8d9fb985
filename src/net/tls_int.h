/* src/net/tls_int.h: what conn.c asks of tls_openssl.c. c->tls is owned by tls_openssl.c. */
#pragma once
#include "net/conn.h"

enum tls_step { TLS_SHAKEN, TLS_WAIT, TLS_BROKEN };

/* Sets c->tls. sni, verify_host: client only, may be NULL. False: no memory. */
bool tls_begin(struct conn *c, struct tls_ctx *t, bool server, const char *sni,
	       const char *verify_host);
/* TLS_WAIT: for bytes, or, when c->blocked, for room. TLS_BROKEN: c->failure is filled in. */
enum tls_step tls_shake(struct conn *c);
/* As conn_read, conn_write. */
ssize_t tls_read(struct conn *c, void *p, size_t n);
ssize_t tls_write(struct conn *c, const struct iovec *iov, int n);
bool tls_pending(const struct conn *c);
/* Sends encrypted bytes that wait; sets or clears c->blocked. False: the connection is broken,
 * c->failure. */
bool tls_flush(struct conn *c);
/* close_notify, once. */
void tls_shut(struct conn *c);
/* Frees c->tls. With linger, encrypted bytes that the socket has no room for yet keep the descriptor open for a
 * while: true, and fd is no longer the caller's. The watch must be gone already. */
bool tls_end(struct conn *c, bool linger);
/* Looks at what has arrived on an idle connection: true when it was nothing but TLS's own
 * messages. */
bool tls_idle(struct conn *c);
