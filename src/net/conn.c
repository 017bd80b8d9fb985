/* src/net/conn.c */
#include "net/conn.h"
#include "base/mem.h"
#include "base/must.h"
#include "base/pressure.h"
#include "base/sockname.h"
#include "loop/sys.h"
#include "net/conn_int.h"
#include "net/listen.h"
#include "net/tls_int.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <unistd.h>

enum { WRITE_PIECES = 64 };

enum state {
	CLOSED,
	CONNECTING,
	SHAKING,
	OPEN,
	BROKEN, /* reading is over, the owner knows or is being told; closed by it */
};

#define OWNER(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* The time limit while dialling or shaking hands: apart, because most connections live long
 * without it. */
struct conn_wait {
	struct timer timer;
	struct conn *conn;
};

static void on_time(struct timer *t);

static bool wait_start(struct conn *c, uint64_t us)
{
	must(!c->wait);
	c->wait = mem_zalloc(MEM_CONN, sizeof *c->wait);
	if (!c->wait)
		return false;
	c->wait->conn = c;
	c->wait->timer.fire = on_time;
	timer_arm(c->loop, &c->wait->timer, us);
	return true;
}

static void wait_end(struct conn *c)
{
	if (!c->wait)
		return;
	timer_cancel(c->loop, &c->wait->timer);
	mem_free(MEM_CONN, c->wait);
	c->wait = NULL;
}

/* Interest. At rest it is READ. It is lowered only when an event has come that nobody wants, so that a
 * pause or a wait for room that is over before the next event costs no system call. */

static void watch_for(struct conn *c, unsigned interest)
{
	if (!c->unwatched) {
		watch_set(c->loop, &c->watch, interest);
		return;
	}
	if (!interest)
		return;
	if (watch_add(c->loop, &c->watch, c->watch.fd, interest)) {
		c->unwatched = false;
		return;
	}
	/* No memory: conn_read and conn_write report the failure; told at the next tick, or, without memory for that too, found by the owner's own
	 * time limits. */
	conn_lost(c, errno, "epoll_ctl");
	c->state = BROKEN;
	if (!c->wait)
		wait_start(c, 1);
}

/* HUP and ERR come whatever the interest is, in every turn: the only way not to hear them is to
 * leave. */
static void unwatch(struct conn *c)
{
	if (c->unwatched)
		return;
	watch_del(c->loop, &c->watch);
	c->unwatched = true;
}

static bool want_read(const struct conn *c)
{
	return !c->paused && !c->read_ended;
}

static void want_room(struct conn *c)
{
	c->blocked = true;
	watch_for(c, c->watch.interest | WATCH_WRITE);
}

/* Failures */

void conn_lost(struct conn *c, int err, const char *step)
{
	c->failure =
		(struct failure){c->server ? FAILED_CLIENT_GONE : FAILED_TERMINATED, err, step};
}

/* c->failure is filled in. */
static void failed(struct conn *c)
{
	c->state = BROKEN;
	wait_end(c);
	c->ops->failed(c);
	if (c->state == BROKEN) /* neither closed nor dialled anew */
		conn_close(c, false);
}

static void failed_as(struct conn *c, enum failure_kind kind, int err, const char *step)
{
	c->failure = (struct failure){kind, err, step};
	failed(c);
}

static void on_time(struct timer *t)
{
	struct conn *c = OWNER(t, struct conn_wait, timer)->conn;
	wait_end(c);
	switch (c->state) {
	case CONNECTING: failed_as(c, FAILED_CONNECT_TIMEOUT, ETIMEDOUT, "connect"); break;
	case SHAKING:
		failed_as(c, c->server ? FAILED_TLS : FAILED_CONNECT_TIMEOUT, ETIMEDOUT,
			  "TLS handshake");
		break;
	case BROKEN: c->ops->ready(c); break;
	default: must(!"a timer of an open connection");
	}
}

/* Getting there */

static void established(struct conn *c)
{
	wait_end(c);
	c->state = OPEN;
	watch_for(c, WATCH_READ | (c->blocked ? WATCH_WRITE : 0u));
	c->ops->established(c);
	/* What came together with the end of the handshake has left the socket already. */
	if (c->state == OPEN && c->tls && want_read(c) && tls_pending(c))
		c->ops->ready(c);
}

static void shake(struct conn *c)
{
	switch (tls_shake(c)) {
	case TLS_SHAKEN: established(c); break;
	case TLS_WAIT: watch_for(c, WATCH_READ | (c->blocked ? WATCH_WRITE : 0u)); break;
	case TLS_BROKEN: failed(c); break;
	}
}

static void connected(struct conn *c)
{
	int err = 0;
	socklen_t len = sizeof err;
	if (getsockopt(c->watch.fd, SOL_SOCKET, SO_ERROR, &err, &len))
		err = errno;
	if (err) {
		failed_as(c, FAILED_CONNECT, err, "connect");
		return;
	}
	if (!c->tls) {
		established(c);
		return;
	}
	c->state = SHAKING;
	shake(c);
}

/* Events */

/* Of a paused connection. */
static void hung_up(struct conn *c)
{
	/* We have not ended our side: so it was a reset, and who resets does not read our answer
	 * either. */
	if (c->server && !c->shut) {
		unwatch(c);
		conn_lost(c, ECONNRESET, "recv");
		failed(c);
		return;
	}
	/* What it sent before is still there for conn_read. */
	unwatch(c);
}

static void on_event(struct watch *w, unsigned events)
{
	struct conn *c = OWNER(w, struct conn, watch);
	switch (c->state) {
	case CONNECTING: connected(c); return;
	case SHAKING: shake(c); return;
	case OPEN: break;
	default: unwatch(c); return;
	}
	if (events & (WATCH_WRITE | WATCH_ERROR)) {
		if (c->blocked) {
			if (c->tls && !tls_flush(c))
				c->write_failed = true;
			if (!c->tls || c->write_failed)
				c->blocked = false;
			if (!c->blocked) {
				if (c->fin_later) {
					c->fin_later = false;
					shutdown(w->fd, SHUT_WR);
				}
				c->ops->writable(c);
				if (c->state != OPEN)
					return;
			}
		} else if (events & WATCH_WRITE) {
			watch_for(c, w->interest & WATCH_READ);
		}
	}
	if (!(events & (WATCH_READ | WATCH_ERROR)))
		return;
	if (want_read(c))
		c->ops->ready(c);
	else if (events & WATCH_ERROR)
		hung_up(c);
	else
		watch_for(c, w->interest & WATCH_WRITE);
}

/* Construction */

static void start(struct conn *c, struct loop *l, const struct conn_ops *ops)
{
	*c = (struct conn){.loop = l, .ops = ops, .born_us = loop_now_us(l)};
	c->watch.ready = on_event;
}

bool conn_accept(struct conn *c, struct loop *l, int fd, const struct conn_ops *ops,
		 struct tls_ctx *tls, uint64_t handshake_us)
{
	start(c, l, ops);
	c->server = true;
	c->watch.fd = fd;
	if (tls && !tls_begin(c, tls, true, NULL, NULL))
		goto fail;
	if (tls && handshake_us && !wait_start(c, handshake_us))
		goto fail;
	if (!watch_add(l, &c->watch, fd, WATCH_READ))
		goto fail;
	c->state = tls ? SHAKING : OPEN;
	pressure_descriptors(1);
	return true;

fail:
	wait_end(c);
	c->failure = (struct failure){FAILED_MEMORY, errno, "accept"};
	if (c->tls)
		tls_end(c, false);
	close(fd);
	acceptor_room(l);
	return false;
}

static bool set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

static bool keep_alive(int fd, const struct dial *d)
{
	return set(fd, SOL_SOCKET, SO_KEEPALIVE, 1) &&
	       (d->keepalive_time_s <= 0 ||
		set(fd, IPPROTO_TCP, TCP_KEEPIDLE, d->keepalive_time_s)) &&
	       (d->keepalive_interval_s <= 0 ||
		set(fd, IPPROTO_TCP, TCP_KEEPINTVL, d->keepalive_interval_s)) &&
	       (d->keepalive_probes <= 0 || set(fd, IPPROTO_TCP, TCP_KEEPCNT, d->keepalive_probes));
}

bool conn_dial(struct conn *c, struct loop *l, const struct conn_ops *ops, const struct dial *d)
{
	const char *step = "socket";
	bool inet = d->to->sa_family == AF_INET || d->to->sa_family == AF_INET6;
	start(c, l, ops);
	int fd = sys_socket(d->to->sa_family, SOCK_STREAM, 0);
	c->watch.fd = fd;
	if (fd < 0)
		goto fail;
	step = "setsockopt";
	if (inet && !set(fd, IPPROTO_TCP, TCP_NODELAY, 1))
		goto fail;
	if (inet && d->keepalive && !keep_alive(fd, d))
		goto fail;
	step = "bind";
	if (d->from) {
		/* Optional: without it the port is taken before the peer is known. */
		if (inet)
			set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
		if (bind(fd, d->from, d->from_len))
			goto fail;
	}
	step = "connect";
	if (sys_connect(fd, d->to, d->to_len) && errno != EINPROGRESS)
		goto fail;
	step = "no memory";
	if (d->tls && !tls_begin(c, d->tls, false, d->sni, d->verify_host)) {
		errno = ENOMEM;
		goto fail;
	}
	if (d->timeout_us && !wait_start(c, d->timeout_us))
		goto fail;
	if (!watch_add(l, &c->watch, fd, WATCH_WRITE))
		goto fail;
	c->state = CONNECTING;
	pressure_descriptors(1);
	return true;

fail:
	wait_end(c);
	c->failure = (struct failure){FAILED_CONNECT, errno, step};
	if (c->tls)
		tls_end(c, false);
	if (fd >= 0) {
		close(fd);
		acceptor_room(l);
	}
	return false;
}

/* Bytes */

ssize_t conn_read(struct conn *c, void *p, size_t n)
{
	if (c->state != OPEN)
		return c->state == CONNECTING || c->state == SHAKING ? CONN_AGAIN : CONN_FAILED;
	if (c->read_ended)
		return 0;
	ssize_t got;
	if (c->tls) {
		got = tls_read(c, p, n);
		if (c->blocked) /* an answer of TLS's own */
			want_room(c);
	} else {
		got = sys_recv(c->watch.fd, p, n);
		if (got < 0) {
			if (errno == EAGAIN || errno == EINTR)
				return CONN_AGAIN;
			conn_lost(c, errno, "recv");
			got = CONN_FAILED;
		}
	}
	if (got > 0)
		c->bytes_in += (uint64_t)got;
	else if (got == 0)
		c->read_ended = true;
	else if (got == CONN_FAILED)
		c->state = BROKEN;
	return got;
}

bool conn_pending(const struct conn *c)
{
	return c->tls && c->state == OPEN && !c->read_ended && tls_pending(c);
}

/* After a send: asked bytes, got of them (or -1 with errno). */
static ssize_t sent(struct conn *c, size_t asked, ssize_t got, const char *step)
{
	if (got < 0) {
		if (errno == EAGAIN || errno == EINTR) {
			want_room(c);
			return CONN_AGAIN;
		}
		conn_lost(c, errno, step);
		c->write_failed = true;
		return CONN_FAILED;
	}
	c->bytes_out += (uint64_t)got;
	if ((size_t)got < asked)
		want_room(c);
	else
		c->blocked = false;
	return got;
}

static ssize_t send_pieces(struct conn *c, const struct iovec *iov, int n)
{
	struct iovec cut[WRITE_PIECES];
	size_t bytes = 0;
	int i;
	if (n > WRITE_PIECES)
		n = WRITE_PIECES;
	for (i = 0; i < n && bytes + iov[i].iov_len <= CONN_WRITE_MAX; i++)
		bytes += iov[i].iov_len;
	if (i < n && bytes < CONN_WRITE_MAX) {
		memcpy(cut, iov, (size_t)i * sizeof *iov);
		cut[i] = (struct iovec){iov[i].iov_base, CONN_WRITE_MAX - bytes};
		iov = cut;
		i++;
		bytes = CONN_WRITE_MAX;
	}
	struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)i};
	return sent(c, bytes, sys_sendmsg(c->watch.fd, &m, c->last ? MSG_MORE : 0), "sendmsg");
}

/* 0: it may be written to. */
static ssize_t cannot_write(const struct conn *c)
{
	if (__builtin_expect(c->state == OPEN && !c->write_failed && !c->shut, 1))
		return 0;
	return c->state == CONNECTING || c->state == SHAKING ? CONN_AGAIN : CONN_FAILED;
}

ssize_t conn_write(struct conn *c, const struct iovec *iov, int n)
{
	ssize_t cannot = cannot_write(c);
	if (cannot || n <= 0)
		return cannot;
	if (c->tls) {
		ssize_t got = tls_write(c, iov, n);
		if (got == CONN_FAILED) {
			c->write_failed = true;
			return CONN_FAILED;
		}
		if (c->blocked)
			want_room(c);
		if (got > 0)
			c->bytes_out += (uint64_t)got;
		return got;
	}
	if (n > 1)
		return send_pieces(c, iov, n);
	size_t bytes = iov->iov_len < CONN_WRITE_MAX ? iov->iov_len : CONN_WRITE_MAX;
	return sent(c, bytes, sys_send(c->watch.fd, iov->iov_base, bytes, c->last ? MSG_MORE : 0),
		    "send");
}

ssize_t conn_read_pipe(struct conn *c, int to, size_t n)
{
	must(!c->tls);
	if (c->state != OPEN)
		return CONN_FAILED;
	if (c->read_ended)
		return 0;
	ssize_t got = splice(c->watch.fd, NULL, to, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (got > 0) {
		c->bytes_in += (uint64_t)got;
	} else if (got == 0) {
		c->read_ended = true;
	} else {
		if (errno == EAGAIN || errno == EINTR)
			return CONN_AGAIN;
		conn_lost(c, errno, "splice");
		c->state = BROKEN;
		got = CONN_FAILED;
	}
	return got;
}

ssize_t conn_write_pipe(struct conn *c, int from, size_t n)
{
	must(!c->tls);
	ssize_t cannot = cannot_write(c);
	if (cannot)
		return cannot;
	return sent(c, n,
		    splice(from, NULL, c->watch.fd, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK),
		    "splice");
}

ssize_t conn_sendfile(struct conn *c, int fd, off_t *at, size_t n)
{
	must(!c->tls);
	ssize_t cannot = cannot_write(c);
	if (cannot)
		return cannot;
	ssize_t got = sys_sendfile(c->watch.fd, fd, at, n);
	if (got < 0 && errno != EAGAIN && errno != EINTR)
		return 0; /* of the file or of the socket: the number does not tell */
	return got == 0 ? 0 : sent(c, n, got, "sendfile");
}

void conn_pause(struct conn *c)
{
	c->paused = true;
}

void conn_resume(struct conn *c)
{
	c->paused = false;
	if (c->state == OPEN && !c->read_ended && !(c->watch.interest & WATCH_READ))
		watch_for(c, c->watch.interest | WATCH_READ);
}

/* The end */

void conn_shutdown(struct conn *c)
{
	if (c->state != OPEN || c->shut)
		return;
	c->shut = true;
	if (c->tls && !c->write_failed) {
		tls_shut(c);
		if (c->blocked) {
			c->fin_later = true;
			want_room(c);
			return;
		}
	}
	shutdown(c->watch.fd, SHUT_WR);
}

void conn_close(struct conn *c, bool reset)
{
	if (c->state == CLOSED)
		return;
	bool gentle = !reset && c->state == OPEN && !c->write_failed;
	int fd = c->watch.fd;
	wait_end(c);
	if (c->tls && gentle && !c->shut && !c->read_ended)
		tls_shut(c);
	bool keep = c->tls && gentle && c->blocked;
	if (!c->unwatched) {
		if (keep)
			watch_del(c->loop, &c->watch);
		else
			watch_forget(c->loop, &c->watch);
	}
	c->state = CLOSED;
	pressure_descriptors(-1);
	if (c->tls && tls_end(c, keep))
		return;
	if (reset) {
		struct linger at_once = {1, 0};
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	}
	close(fd);
	acceptor_room(c->loop);
}

bool conn_open(const struct conn *c)
{
	return c->state != CLOSED;
}

/* Names */

void sock_name_unmap(union sock_name *n)
{
	if (n->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&n->in6.sin6_addr))
		return;
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = n->in6.sin6_port};
	memcpy(&in.sin_addr, n->in6.sin6_addr.s6_addr + 12, 4);
	n->in4 = in;
}

static bool name(const struct conn *c, union sock_name *out,
		 int (*ask)(int, struct sockaddr *, socklen_t *))
{
	if (c->state == CLOSED)
		return false;
	union {
		struct sockaddr_storage any;
		union sock_name n;
	} u;
	socklen_t len = sizeof u;
	if (ask(c->watch.fd, (struct sockaddr *)&u.any, &len) ||
	    (u.any.ss_family != AF_INET && u.any.ss_family != AF_INET6))
		return false;
	*out = u.n;
	sock_name_unmap(out);
	return true;
}

bool conn_local(const struct conn *c, union sock_name *out)
{
	return name(c, out, getsockname);
}

bool conn_peer(const struct conn *c, union sock_name *out)
{
	return name(c, out, getpeername);
}

size_t sock_name_text(const struct sockaddr *sa, char *out)
{
	if (sa->sa_family == AF_UNIX) {
		memcpy(out, "unix", 4);
		return 4;
	}
	return sockname_text(sa, 0, out);
}

bool conn_idle_ok(struct conn *c)
{
	char byte;
	if (c->state != OPEN || c->read_ended || c->write_failed || c->shut)
		return false;
	if (recv(c->watch.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
		return errno == EAGAIN && !(c->tls && tls_pending(c));
	return c->tls && tls_idle(c);
}
