/* src/net/conn_test.c: plain connections, listeners, acceptors, and what the kernel can do to
 * them. */
#include "base/mem.h"
#include "base/must.h"
#include "loop/sys.h"
#include "net/conn.h"
#include "net/listen.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECOND = 1000000 };

static struct loop *l;

/* A connection that only counts what it is told. */
struct peer {
	struct conn c;
	int ready, writable, established, failed;
};

static void on_ready(struct conn *c)
{
	((struct peer *)(void *)c)->ready++;
}
static void on_writable(struct conn *c)
{
	((struct peer *)(void *)c)->writable++;
}
static void on_established(struct conn *c)
{
	((struct peer *)(void *)c)->established++;
}
static void on_failed(struct conn *c)
{
	((struct peer *)(void *)c)->failed++;
}
static const struct conn_ops ops = {on_ready, on_writable, on_established, on_failed};

/* Turns until *what is at least n; a test that waits in vain fails. */
static void until(const int *what, int n)
{
	for (int i = 0; i < 400 && *what < n; i++)
		loop_turn(l, 10);
	must(*what >= n);
}

static void turns(int n)
{
	while (n-- > 0)
		loop_turn(l, 0);
}

static struct acceptor acceptor;
static struct peer served;
static int accepted;
static struct sockaddr_storage from;
static bool keep_fds; /* only keep what was accepted */
static int kept[80];

static void got(struct acceptor *a, int fd, const struct sockaddr *peer, socklen_t len)
{
	memcpy(&from, peer, len);
	if (keep_fds)
		kept[accepted] = fd;
	else
		must(conn_accept(&served.c, l, fd, &ops, NULL, 0));
	accepted++;
}

static struct sockaddr_in here(uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return in;
}

static struct sockaddr_in bound(int fd)
{
	struct sockaddr_in in;
	socklen_t len = sizeof in;
	must(getsockname(fd, (struct sockaddr *)&in, &len) == 0);
	return in;
}

static int listening(struct sockaddr_in *at)
{
	struct listen_opts o = {0};
	struct failure f;
	*at = here(0);
	int fd = listen_open((struct sockaddr *)at, sizeof *at, &o, &f);
	must(fd >= 0);
	*at = bound(fd);
	return fd;
}

/* A dialled connection and the accepted one, both open. */
struct pair {
	struct peer near;
	int listen_fd;
};

static void start(struct pair *p)
{
	struct sockaddr_in at;
	memset(p, 0, sizeof *p);
	memset(&served, 0, sizeof served);
	accepted = 0;
	p->listen_fd = listening(&at);
	must(acceptor_start(&acceptor, l, p->listen_fd, got));
	struct dial d = {.to = (struct sockaddr *)&at, .to_len = sizeof at, .timeout_us = SECOND};
	must(conn_dial(&p->near.c, l, &ops, &d));
	must(p->near.established == 0);
	until(&p->near.established, 1);
	until(&accepted, 1);
}

static void stop(struct pair *p)
{
	conn_close(&p->near.c, false);
	conn_close(&served.c, false);
	acceptor_stop(&acceptor);
	close(p->listen_fd);
	turns(1);
}

static ssize_t put(struct conn *c, const char *text)
{
	struct iovec v = {(void *)text, strlen(text)};
	return conn_write(c, &v, 1);
}

static void bytes_go_both_ways(void)
{
	struct pair p;
	char b[64];
	start(&p);
	must(served.established == 0); /* plain: open at once */
	must(!conn_is_tls(&served.c) && !conn_pending(&served.c));
	must(conn_read(&p.near.c, b, sizeof b) == CONN_AGAIN);
	must(put(&p.near.c, "hello") == 5);
	until(&served.ready, 1);
	must(conn_read(&served.c, b, sizeof b) == 5 && memcmp(b, "hello", 5) == 0);
	struct iovec v[3] = {{(char *)"a", 1}, {(char *)"", 0}, {(char *)"bc", 2}};
	must(conn_write(&served.c, v, 3) == 3);
	until(&p.near.ready, 1);
	must(conn_read(&p.near.c, b, 2) == 2 && conn_read(&p.near.c, b + 2, 2) == 1);
	must(memcmp(b, "abc", 3) == 0);
	must(p.near.c.bytes_out == 5 && p.near.c.bytes_in == 3);
	must(served.c.bytes_out == 3 && served.c.bytes_in == 5);

	union sock_name n1, n2;
	char text[64];
	must(conn_local(&p.near.c, &n1) && conn_peer(&served.c, &n2));
	must(n1.in4.sin_port == n2.in4.sin_port && n1.in4.sin_port != 0);
	must(((struct sockaddr_in *)(void *)&from)->sin_port == n1.in4.sin_port);
	size_t k = sock_name_text(&n1.sa, text);
	char want[64];
	snprintf(want, sizeof want, "127.0.0.1:%d", ntohs(n1.in4.sin_port));
	must(k == strlen(want) && memcmp(text, want, k) == 0);

	conn_shutdown(&p.near.c);
	int before = served.ready;
	until(&served.ready, before + 1);
	must(conn_read(&served.c, b, sizeof b) == 0 && conn_read(&served.c, b, sizeof b) == 0);
	must(put(&p.near.c, "x") == CONN_FAILED); /* after our own end */
	/* A half-closed client still gets its answer, and we do not spin meanwhile. */
	before = served.ready;
	turns(5);
	must(served.ready == before);
	must(put(&served.c, "answer") == 6);
	until(&p.near.ready, 2);
	must(conn_read(&p.near.c, b, sizeof b) == 6);
	stop(&p);
	must(!conn_open(&p.near.c) && !conn_peer(&p.near.c, &n1));
	conn_close(&p.near.c, true);
	must(conn_read(&p.near.c, b, 1) == CONN_FAILED && put(&p.near.c, "x") == CONN_FAILED);
}

static void names_as_text(void)
{
	char t[64];
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
	six.sin6_addr = in6addr_loopback;
	must(sock_name_text((struct sockaddr *)&six, t) == 8 && memcmp(t, "[::1]:80", 8) == 0);
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	must(sock_name_text((struct sockaddr *)&un, t) == 4 && memcmp(t, "unix", 4) == 0);
}

static void a_full_socket_blocks_and_room_comes(void)
{
	struct pair p;
	static char block[256 * 1024], sink[1 << 20];
	start(&p);
	struct iovec v[2] = {{block, 20000}, {block, sizeof block - 20000}};
	size_t sent = 0, received = 0;
	for (;;) {
		ssize_t n = conn_write(&p.near.c, v, 2);
		if (n == CONN_AGAIN)
			break;
		must(n > 0 && n <= CONN_WRITE_MAX);
		must(n == CONN_WRITE_MAX || p.near.c.blocked);
		sent += (size_t)n;
		must(sent < 64u << 20);
	}
	must(p.near.c.blocked);
	turns(3);
	must(p.near.writable == 0);
	/* The receiver pauses: it hears once at most of what waits. */
	conn_pause(&served.c);
	int before = served.ready;
	turns(5);
	must(served.ready == before);
	conn_resume(&served.c);
	for (int i = 0; i < 10000 && received < sent; i++) {
		loop_turn(l, 10);
		ssize_t n = conn_read(&served.c, sink, sizeof sink);
		must(n > 0 || n == CONN_AGAIN);
		received += n > 0 ? (size_t)n : 0;
	}
	must(received == sent);
	until(&p.near.writable, 1);
	must(!p.near.c.blocked);
	must(put(&p.near.c, "x") == 1);
	before = p.near.writable;
	turns(5);
	must(p.near.writable == before);
	stop(&p);
}

static void many_pieces(void)
{
	struct pair p;
	char b[256];
	struct iovec v[100];
	start(&p);
	for (int i = 0; i < 100; i++)
		v[i] = (struct iovec){(char *)"ab", 2};
	ssize_t n = conn_write(&p.near.c, v, 100);
	must(n == 128 && !p.near.c.blocked); /* 64 pieces, call again */
	until(&served.ready, 1);
	must(conn_read(&served.c, b, sizeof b) == 128);
	stop(&p);
}

static ssize_t again_sendfile(int fd, int file, off_t *at, size_t n)
{
	(void)fd, (void)file, (void)at, (void)n;
	errno = EAGAIN;
	return -1;
}

static ssize_t refused_sendfile(int fd, int file, off_t *at, size_t n)
{
	(void)fd, (void)file, (void)at, (void)n;
	errno = EINVAL;
	return -1;
}

static void files(void)
{
	struct pair p;
	char name[] = "/tmp/postern-conn-XXXXXX", b[32];
	int fd = mkstemp(name);
	must(fd >= 0 && unlink(name) == 0 && write(fd, "0123456789", 10) == 10);
	start(&p);
	off_t at = 3;
	must(conn_sendfile(&served.c, fd, &at, 4) == 4 && at == 7);
	must(conn_sendfile(&served.c, fd, &at, 10) == 3 && at == 10);
	must(conn_sendfile(&served.c, fd, &at, 10) == 0);
	until(&p.near.ready, 1);
	must(conn_read(&p.near.c, b, sizeof b) == 7 && memcmp(b, "3456789", 7) == 0);
	until(&served.writable, 1); /* asked for more than there was: it had seemed full */

	/* A call takes more than one of conn_write's. */
	enum { MORE = 2 * CONN_WRITE_MAX };
	must(ftruncate(fd, MORE) == 0);
	at = 0;
	ssize_t n = conn_sendfile(&served.c, fd, &at, MORE);
	must(n > CONN_WRITE_MAX && at == n);

	at = 0;
	sys_hooks.sendfile = again_sendfile;
	must(conn_sendfile(&served.c, fd, &at, 5) == CONN_AGAIN && served.c.blocked && at == 0);
	/* Whose fault it was is not known: the connection stays as it is. */
	sys_hooks.sendfile = refused_sendfile;
	must(conn_sendfile(&served.c, fd, &at, 5) == 0 && at == 0 && !served.c.write_failed);
	sys_hooks.sendfile = NULL;
	close(fd);
	stop(&p);
}

static void a_reset_is_heard_while_paused(void)
{
	struct pair p;
	char b[8];
	start(&p);
	conn_pause(&served.c);
	must(put(&p.near.c, "unread") == 6);
	turns(3);
	conn_close(&p.near.c, true);
	until(&served.failed, 1);
	must(!conn_open(&served.c));
	must(served.c.failure.kind == FAILED_CLIENT_GONE && served.c.failure.err == ECONNRESET);
	stop(&p);

	/* Unpaused it is read. */
	start(&p);
	conn_close(&p.near.c, true);
	until(&served.ready, 1);
	must(conn_read(&served.c, b, sizeof b) == CONN_FAILED);
	must(served.c.failure.kind == FAILED_CLIENT_GONE && served.c.failure.err == ECONNRESET);
	turns(5);
	must(served.ready == 1);
	stop(&p);

	/* An origin's last bytes survive its reset: the dialled side reads on when it resumes. */
	start(&p);
	conn_pause(&p.near.c);
	must(put(&served.c, "answer") == 6);
	turns(2);
	conn_close(&served.c, true);
	turns(5);
	must(p.near.failed == 0);
	conn_resume(&p.near.c);
	until(&p.near.ready, 1);
	must(conn_read(&p.near.c, b, sizeof b) == 6);
	must(conn_read(&p.near.c, b, sizeof b) == CONN_FAILED);
	must(p.near.c.failure.kind == FAILED_TERMINATED);
	stop(&p);
}

static void pausing_costs_nothing(void)
{
	struct pair p;
	char b[8];
	start(&p);
	unsigned before = served.c.watch.interest;
	conn_pause(&served.c);
	must(served.c.watch.interest == before);
	must(put(&p.near.c, "x") == 1);
	turns(3);
	must(served.ready == 0 && served.c.watch.interest == 0);
	conn_resume(&served.c);
	must(served.c.watch.interest == WATCH_READ);
	until(&served.ready, 1);
	must(conn_read(&served.c, b, sizeof b) == 1);
	stop(&p);
}

static void idle_connections(void)
{
	struct pair p;
	start(&p);
	must(conn_idle_ok(&p.near.c));
	must(put(&served.c, "?") == 1);
	turns(2);
	must(!conn_idle_ok(&p.near.c));
	stop(&p);
	start(&p);
	conn_close(&served.c, false);
	turns(2);
	must(!conn_idle_ok(&p.near.c));
	stop(&p);
	must(!conn_idle_ok(&p.near.c));
}

/* Dialling that fails */

static int refuse(int fd, const struct sockaddr *sa, socklen_t len)
{
	errno = ENETUNREACH;
	return -1;
}
static int no_socket(int f, int t, int p)
{
	errno = EMFILE;
	return -1;
}

/* An address that nobody listens on (it was just bound and closed). */
static struct sockaddr_in nobody(void)
{
	struct sockaddr_in at;
	close(listening(&at));
	return at;
}

static void dialling_fails(void)
{
	struct peer p = {0};
	struct sockaddr_in at = nobody();
	struct dial d = {.to = (struct sockaddr *)&at, .to_len = sizeof at, .timeout_us = SECOND};
	must(conn_dial(&p.c, l, &ops, &d));
	until(&p.failed, 1);
	must(p.c.failure.kind == FAILED_CONNECT && p.c.failure.err == ECONNREFUSED);
	must(strcmp(p.c.failure.step, "connect") == 0 && !conn_open(&p.c));

	sys_hooks.connect = refuse;
	must(!conn_dial(&p.c, l, &ops, &d));
	must(p.c.failure.err == ENETUNREACH && !conn_open(&p.c));
	sys_hooks.connect = NULL;

	sys_hooks.socket = no_socket;
	must(!conn_dial(&p.c, l, &ops, &d));
	must(p.c.failure.err == EMFILE && strcmp(p.c.failure.step, "socket") == 0);
	sys_hooks.socket = NULL;

	struct sockaddr_in not_ours = {.sin_family = AF_INET};
	not_ours.sin_addr.s_addr = htonl(0xC0000201); /* 192.0.2.1 */
	d.from = (struct sockaddr *)&not_ours;
	d.from_len = sizeof not_ours;
	must(!conn_dial(&p.c, l, &ops, &d));
	must(strcmp(p.c.failure.step, "bind") == 0 && p.failed == 1);
}

/* A listener whose queue is full lets a SYN wait. */
static void dialling_times_out(void)
{
	struct sockaddr_in at = here(0);
	struct listen_opts o = {.backlog = 1};
	struct failure f;
	int fd = listen_open((struct sockaddr *)&at, sizeof at, &o, &f);
	must(fd >= 0);
	at = bound(fd);
	struct peer p[8];
	struct dial d = {.to = (struct sockaddr *)&at, .to_len = sizeof at, .timeout_us = 50000};
	memset(p, 0, sizeof p);
	for (int i = 0; i < 8; i++)
		must(conn_dial(&p[i].c, l, &ops, &d));
	until(&p[7].failed, 1);
	must(p[7].c.failure.kind == FAILED_CONNECT_TIMEOUT && p[7].established == 0);
	for (int i = 0; i < 8; i++)
		conn_close(&p[i].c, true);
	close(fd);
	turns(1);

	/* The owner may dial again from inside failed: covered by closing there. */
	struct peer q = {0};
	at = nobody();
	must(conn_dial(&q.c, l, &ops, &d));
	conn_close(&q.c, false);
	turns(10);
	must(q.failed == 0 && q.established == 0);
}

static int redials;
static struct sockaddr_in redial_to;
static void redial(struct conn *c);
static const struct conn_ops redial_ops = {on_ready, on_writable, on_established, redial};
static void redial(struct conn *c)
{
	redials++;
	struct dial d = {.to = (struct sockaddr *)&redial_to,
			 .to_len = sizeof redial_to,
			 .timeout_us = SECOND};
	conn_close(c, false);
	must(conn_dial(c, l, &ops, &d));
}

static void dialling_anew_from_failed(void)
{
	struct peer p = {0};
	struct sockaddr_in at = nobody();
	int fd = listening(&redial_to);
	struct dial d = {.to = (struct sockaddr *)&at, .to_len = sizeof at};
	must(conn_dial(&p.c, l, &redial_ops, &d));
	until(&p.established, 1);
	must(redials == 1 && conn_open(&p.c));
	conn_close(&p.c, false);
	close(fd);
}

/* Faults */

static ssize_t one_byte(int fd, const void *p, size_t n, int flags)
{
	return send(fd, p, 1, MSG_NOSIGNAL);
}
static ssize_t again_send(int fd, const void *p, size_t n, int flags)
{
	errno = EAGAIN;
	return -1;
}
static ssize_t broken_send(int fd, const void *p, size_t n, int flags)
{
	errno = EPIPE;
	return -1;
}
static ssize_t broken_sendmsg(int fd, const struct msghdr *m, int flags)
{
	errno = ECONNRESET;
	return -1;
}
static ssize_t again_recv(int fd, void *p, size_t n)
{
	errno = EAGAIN;
	return -1;
}
static ssize_t broken_recv(int fd, void *p, size_t n)
{
	errno = ECONNRESET;
	return -1;
}

static int flags_seen;

static ssize_t noted_send(int fd, const void *p, size_t n, int flags)
{
	flags_seen = flags;
	return send(fd, p, n, MSG_NOSIGNAL | flags);
}

static ssize_t noted_sendmsg(int fd, const struct msghdr *m, int flags)
{
	flags_seen = flags;
	return sendmsg(fd, m, MSG_NOSIGNAL | flags);
}

/* What is written last may wait for the end, and both arrive. */
static void last_bytes(void)
{
	struct pair p;
	char b[8];
	start(&p);
	sys_hooks.send = noted_send;
	sys_hooks.sendmsg = noted_sendmsg;
	must(put(&served.c, "a") == 1 && flags_seen == 0);
	served.c.last = true;
	must(put(&served.c, "b") == 1 && flags_seen == MSG_MORE);
	struct iovec v[2] = {{(char *)"c", 1}, {(char *)"d", 1}};
	flags_seen = 0;
	must(conn_write(&served.c, v, 2) == 2 && flags_seen == MSG_MORE);
	conn_shutdown(&served.c);
	size_t n = 0;
	ssize_t got = CONN_AGAIN;
	while (got != 0) {
		until(&p.near.ready, p.near.ready + 1);
		got = conn_read(&p.near.c, b + n, sizeof b - n);
		must(got >= 0);
		n += (size_t)got;
	}
	must(n == 4 && memcmp(b, "abcd", 4) == 0);
	sys_hooks.send = NULL;
	sys_hooks.sendmsg = NULL;
	stop(&p);
}

static void faults(void)
{
	struct pair p;
	char b[8];
	start(&p);
	sys_hooks.send = one_byte;
	must(put(&p.near.c, "abc") == 1 && p.near.c.blocked);
	until(&p.near.writable, 1);
	must(!p.near.c.blocked);
	sys_hooks.send = again_send;
	must(put(&p.near.c, "bc") == CONN_AGAIN && p.near.c.blocked);
	until(&p.near.writable, 2);
	sys_hooks.send = NULL;
	must(put(&p.near.c, "bc") == 2);
	until(&served.ready, 1);
	sys_hooks.recv = again_recv;
	must(conn_read(&served.c, b, sizeof b) == CONN_AGAIN);
	sys_hooks.recv = NULL;
	must(conn_read(&served.c, b, sizeof b) == 3 && memcmp(b, "abc", 3) == 0);

	/* A write that fails leaves reading alive: an origin's early answer. */
	sys_hooks.send = broken_send;
	must(put(&p.near.c, "x") == CONN_FAILED);
	must(p.near.c.failure.kind == FAILED_TERMINATED && p.near.c.failure.err == EPIPE);
	sys_hooks.send = NULL;
	must(put(&p.near.c, "x") == CONN_FAILED);
	must(put(&served.c, "early") == 5);
	until(&p.near.ready, 1);
	must(conn_read(&p.near.c, b, sizeof b) == 5);
	sys_hooks.recv = broken_recv;
	must(conn_read(&p.near.c, b, sizeof b) == CONN_FAILED);
	sys_hooks.recv = NULL;
	must(conn_read(&p.near.c, b, sizeof b) == CONN_FAILED);

	struct iovec v[2] = {{b, 1}, {b, 1}};
	sys_hooks.sendmsg = broken_sendmsg;
	must(conn_write(&served.c, v, 2) == CONN_FAILED);
	must(served.c.failure.kind == FAILED_CLIENT_GONE);
	sys_hooks.sendmsg = NULL;
	stop(&p);
}

/* Listening */

static void listeners(void)
{
	struct failure f;
	struct listen_opts o = {.reuse_port = true, .freebind = true, .backlog = 5};
	struct sockaddr_in at;
	int fd = listening(&at), one = 0;
	socklen_t len = sizeof one;
	must(getsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one, &len) == 0 && one);
	must(listen_open((struct sockaddr *)&at, sizeof at, &o, &f) == -1);
	must(f.kind == FAILED_LISTEN && f.err == EADDRINUSE && strcmp(f.step, "bind") == 0);
	close(fd);
	fd = listen_open((struct sockaddr *)&at, sizeof at, &o, &f);
	int twin = listen_open((struct sockaddr *)&at, sizeof at, &o, &f);
	must(fd >= 0 && twin >= 0);
	close(fd);
	close(twin);
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any};
	o = (struct listen_opts){.ipv4_compat = true, .defer_accept_s = 1};
	fd = listen_open((struct sockaddr *)&six, sizeof six, &o, &f);
	if (fd < 0) {
		must(f.err == EAFNOSUPPORT || f.err == EADDRNOTAVAIL); /* no IPv6 here */
		return;
	}
	/* An IPv4 client of a dual listener has an IPv4 name. */
	o.defer_accept_s = 0;
	close(fd);
	fd = listen_open((struct sockaddr *)&six, sizeof six, &o, &f);
	must(fd >= 0);
	at = bound(fd);
	struct sockaddr_in to = here(ntohs(at.sin_port));
	accepted = 0;
	memset(&served, 0, sizeof served);
	must(acceptor_start(&acceptor, l, fd, got));
	struct peer p = {0};
	struct dial d = {.to = (struct sockaddr *)&to, .to_len = sizeof to};
	must(conn_dial(&p.c, l, &ops, &d));
	until(&accepted, 1);
	must(from.ss_family == AF_INET);
	union sock_name n;
	must(conn_peer(&served.c, &n) && n.sa.sa_family == AF_INET);
	must(n.in4.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	conn_close(&p.c, false);
	conn_close(&served.c, false);
	acceptor_stop(&acceptor);
	close(fd);
}

static void unix_sockets(void)
{
	struct failure f;
	char dir[] = "/tmp/postern-conn-XXXXXX";
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct listen_opts o = {.unix_mode = 0600};
	struct stat st;
	must(mkdtemp(dir));
	snprintf(un.sun_path, sizeof un.sun_path, "%s/s", dir);
	int fd = listen_open((struct sockaddr *)&un, sizeof un, &o, &f);
	must(fd >= 0 && stat(un.sun_path, &st) == 0 && (st.st_mode & 0777) == 0600);
	must(listen_open((struct sockaddr *)&un, sizeof un, &o, &f) == -1 && f.err == EADDRINUSE);
	accepted = 0;
	memset(&served, 0, sizeof served);
	must(acceptor_start(&acceptor, l, fd, got));
	struct peer p = {0};
	struct dial d = {.to = (struct sockaddr *)&un, .to_len = sizeof un, .timeout_us = SECOND};
	must(conn_dial(&p.c, l, &ops, &d) && p.established == 0);
	until(&p.established, 1);
	until(&accepted, 1);
	union sock_name n;
	must(!conn_peer(&served.c, &n));
	must(put(&p.c, "x") == 1);
	until(&served.ready, 1);
	/* A client on a unix socket that has gone is heard while paused, too. */
	conn_pause(&served.c);
	conn_close(&p.c, false);
	until(&served.failed, 1);
	acceptor_stop(&acceptor);
	close(fd);
	/* The file stays behind; nobody listens on it: replaced. */
	fd = listen_open((struct sockaddr *)&un, sizeof un, &o, &f);
	must(fd >= 0);
	close(fd);
	unlink(un.sun_path);
	must(!conn_dial(&p.c, l, &ops, &d) && p.c.failure.err == ENOENT);
	rmdir(dir);
}

static int full;
static int full_accept(int fd, struct sockaddr *sa, socklen_t *len)
{
	if (!full)
		return accept4(fd, sa, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	full++;
	errno = EMFILE;
	return -1;
}

static uint64_t fake_us = 1000000;
static uint64_t fake_clock(void *arg)
{
	return fake_us;
}

static void out_of_descriptors(void)
{
	struct sockaddr_in at;
	struct loop *real = l;
	l = loop_new(1);
	must(l);
	loop_set_clock(l, fake_clock, NULL);
	int fd = listening(&at);
	accepted = 0;
	keep_fds = true;
	must(acceptor_start(&acceptor, l, fd, got));
	int c = socket(AF_INET, SOCK_STREAM, 0);
	must(connect(c, (struct sockaddr *)&at, sizeof at) == 0);
	sys_hooks.accept = full_accept;
	full = 1;
	turns(20);
	must(full == 2); /* one try, then the listener is out of the poll set */
	fake_us += 110000;
	turns(20);
	must(full == 3); /* 100 ms later another one */
	full = 0;
	turns(5);
	must(accepted == 0);
	acceptor_room(l); /* a descriptor was closed */
	turns(2);
	must(accepted == 1);
	close(kept[0]);

	/* The owner's pause is another one. */
	acceptor_pause(&acceptor, true);
	int c2 = socket(AF_INET, SOCK_STREAM, 0);
	must(connect(c2, (struct sockaddr *)&at, sizeof at) == 0);
	acceptor_room(l);
	fake_us += 500000;
	turns(5);
	must(accepted == 1);
	acceptor_pause(&acceptor, false);
	turns(2);
	must(accepted == 2);
	close(kept[1]);
	sys_hooks.accept = NULL;
	close(c);
	close(c2);
	acceptor_stop(&acceptor);
	acceptor_stop(&acceptor);
	close(fd);
	keep_fds = false;
	loop_free(l);
	l = real;
}

static void at_most_64_in_one_event(void)
{
	struct sockaddr_in at;
	int fd = listening(&at), c[70];
	accepted = 0;
	keep_fds = true;
	for (int i = 0; i < 70; i++) {
		c[i] = socket(AF_INET, SOCK_STREAM, 0);
		must(connect(c[i], (struct sockaddr *)&at, sizeof at) == 0);
	}
	must(acceptor_start(&acceptor, l, fd, got));
	loop_turn(l, 10);
	must(accepted == 64);
	loop_turn(l, 10);
	must(accepted == 70);
	acceptor_stop(&acceptor);
	for (int i = 0; i < 70; i++) {
		close(c[i]);
		close(kept[i]);
	}
	close(fd);
	keep_fds = false;
}

/* Every allocation fails once. */
static void without_memory(void)
{
	struct sockaddr_in at;
	int fd = listening(&at);
	for (uint64_t n = 1; n < 20; n++) {
		struct loop *fresh = loop_new(2);
		struct peer p = {0};
		struct dial d = {.to = (struct sockaddr *)&at, .to_len = sizeof at};
		must(fresh);
		mem_fail_nth(n);
		bool ok = conn_dial(&p.c, fresh, &ops, &d);
		mem_fail_nth(0);
		must(ok || p.c.failure.kind == FAILED_CONNECT);
		conn_close(&p.c, true);
		int pair[2];
		must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
		mem_fail_nth(n);
		conn_accept(&p.c, fresh, pair[0], &ops, NULL, 0);
		mem_fail_nth(0);
		conn_close(&p.c, true);
		close(pair[1]);
		loop_free(fresh);
	}
	close(fd);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	l = loop_new(0);
	must(l);
	bytes_go_both_ways();
	names_as_text();
	a_full_socket_blocks_and_room_comes();
	many_pieces();
	files();
	a_reset_is_heard_while_paused();
	pausing_costs_nothing();
	idle_connections();
	dialling_fails();
	dialling_times_out();
	dialling_anew_from_failed();
	last_bytes();
	faults();
	listeners();
	unix_sockets();
	out_of_descriptors();
	at_most_64_in_one_event();
	without_memory();
	loop_free(l);
	return 0;
}
