/* src/net/conn.h
 *
 * A transport connection, TLS or not: bytes to and from a peer. Embedded in its owner's structure. Knows nothing of what
 * the bytes mean. Callbacks come in phase 2 (events only mark); reading and writing are plain calls that never block.
 */
#pragma once
#include "base/failure.h"
#include "loop/loop.h"
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

struct tls_ctx;

/* Small enough for every connection to keep two. */
union sock_name {
	struct sockaddr sa;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
};

enum { CONN_AGAIN = -2, CONN_FAILED = -1 };
/* Bytes that one conn_write takes (request-path.md 5: larger sends cost double). */
enum { CONN_WRITE_MAX = 48 * 1024 };

struct conn;
struct conn_ops {
	/* Bytes, end or failure can be read: conn_read tells. With TLS perhaps CONN_AGAIN. */
	void (*ready)(struct conn *c);
	/* Room again after a conn_write that left c->blocked set. */
	void (*writable)(struct conn *c);
	/* Dialled (and TLS shaken hands), or accepted and TLS shaken hands. A plain accepted
	 * connection is open at once: not called for it. */
	void (*established)(struct conn *c);
	/* Dialling or the handshake failed, or the peer of a paused accepted connection has reset
	 * it; c->failure says why. Nothing follows; c is closed on return, if the owner has not done
	 * so. */
	void (*failed)(struct conn *c);
};

struct conn {
	struct watch watch;
	struct loop *loop;
	const struct conn_ops *ops;
	void *tls; /* SSL, tls_openssl.c; NULL: plain */
	struct conn_wait
		*wait; /* conn.c: time limit while dialling or shaking hands; NULL: none runs */
	/* Dialled: FAILED_CONNECT, FAILED_CONNECT_TIMEOUT, FAILED_TLS, later FAILED_TERMINATED. Accepted:
	 * FAILED_TLS (its time limit too), later FAILED_CLIENT_GONE. step is a static text, for TLS the
	 * reason (and err is 0 unless the socket failed). */
	struct failure failure;
	uint64_t bytes_in, bytes_out; /* as the owner read and wrote them: without TLS's own */
	uint64_t born_us;
	uint8_t state; /* conn.c */
	bool server, paused;
	/* The socket is full; writable comes. With TLS also when all was taken: encrypted bytes wait
	 * in here. */
	bool blocked;
	bool read_ended; /* conn_read has returned 0 */
	/* Set by the owner before a conn_write: conn_shutdown or conn_close follows in this turn. The bytes may wait for
	 * it: a small answer and FIN then are one packet. Should it not follow, the kernel sends them after 200 ms. */
	bool last;
	bool cut; /* TLS: the end came without close_notify: a body that ends there may be truncated */
	bool write_failed, shut, fin_later, unwatched; /* conn.c */
	char alpn[10];                                 /* negotiated, NUL-terminated; "" none */
};

/* Takes over fd. tls: NULL for plain. The handshake must end within handshake_us (0: no limit).
 * False: no memory; fd is closed. */
bool conn_accept(struct conn *c, struct loop *l, int fd, const struct conn_ops *ops,
		 struct tls_ctx *tls, uint64_t handshake_us);

struct dial {
	const struct sockaddr *to;
	socklen_t to_len;
	const struct sockaddr *from; /* bind first; NULL */
	socklen_t from_len;
	struct tls_ctx *tls; /* NULL: plain */
	const char *sni;     /* NULL or "": none */
	/* Auto SAN: the certificate must be for this name; NULL: as the context says. */
	const char *verify_host;
	uint64_t timeout_us; /* to established */
	bool keepalive;
	int keepalive_time_s, keepalive_interval_s, keepalive_probes;
};
/* Starts dialling; established or failed is called later, never from inside (what fails at once, a socket that cannot be made or an
 * address that refuses already: false, c->failure set, nothing else to do). May be written to as soon as established came. */
bool conn_dial(struct conn *c, struct loop *l, const struct conn_ops *ops, const struct dial *d);

/* One recv (or SSL_read). > 0: bytes; 0: the peer ended its side; CONN_AGAIN; CONN_FAILED:
 * c->failure. */
ssize_t conn_read(struct conn *c, void *p, size_t n);
/* TLS: bytes wait inside and a conn_read would get on; epoll will not tell. Exact after the last
 * conn_read. */
bool conn_pending(const struct conn *c);
/* One send or sendmsg (TLS: records of up to 16 KiB, small pieces gathered). Bytes taken, CONN_AGAIN for none, CONN_FAILED (reading may
 * still go on). At most CONN_WRITE_MAX bytes and 64 pieces a call are taken. c->blocked afterwards: the socket is full, writable
 * comes; clear: call again for the rest. */
ssize_t conn_write(struct conn *c, const struct iovec *iov, int n);
/* Plain only: at most n bytes from the socket into a pipe, or from a pipe to the socket, by splice(2). As conn_read and conn_write; an n not
 * reached says nothing about what the socket still holds. */
ssize_t conn_read_pipe(struct conn *c, int to, size_t n);
ssize_t conn_write_pipe(struct conn *c, int from, size_t n);
/* Plain only: at most n bytes of file fd from *at, which moves on, by sendfile(2). As conn_write; 0: not this way, since the file ends here
 * or the kernel refuses (the file's kind, its disk, the connection): reading it and conn_write tell. SIGPIPE must be ignored. */
ssize_t conn_sendfile(struct conn *c, int fd, off_t *at, size_t n);
static inline bool conn_is_tls(const struct conn *c)
{
	return c->tls != 0;
}
void conn_pause(struct conn *c); /* no more ready */
/* Ready again, when there is something. Schedules nothing by itself for conn_pending bytes:
 * check that. */
void conn_resume(struct conn *c);
/* Ends our side (FIN, close_notify), after what was taken before. */
void conn_shutdown(struct conn *c);
/* Closes at once; with reset the peer sees RST. What conn_write has taken still goes out without reset, and
 * close_notify, unless the peer has ended its side: then only conn_shutdown sends it. No callback afterwards; the
 * owner may free c in its grave. Idempotent. */
void conn_close(struct conn *c, bool reset);
/* Between conn_accept or conn_dial and conn_close (or failed). */
bool conn_open(const struct conn *c);
/* False: unknown (closed) or not an IP address. An IPv4 address mapped into IPv6 comes out as
 * IPv4. */
bool conn_local(const struct conn *c, union sock_name *out);
bool conn_peer(const struct conn *c, union sock_name *out);
/* Turns an IPv4 address mapped into IPv6 into an IPv4 one. */
void sock_name_unmap(union sock_name *n);
/* "127.0.0.1:80", "[::1]:80", "unix"; returns bytes written (no NUL). out has 64 bytes. */
size_t sock_name_text(const struct sockaddr *sa, char *out);
/* Before a pooled connection carries a request: nothing has arrived, not even FIN (recv MSG_PEEK). TLS's own messages do not
 * count: they are taken in. */
bool conn_idle_ok(struct conn *c);
