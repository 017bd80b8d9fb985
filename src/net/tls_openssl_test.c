/* src/net/tls_openssl_test.c: our server against our client, over sockets, with the certificates
 * of tests/certs. */
#include "base/mem.h"
#include "base/must.h"
#include "loop/sys.h"
#include "net/tls.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SECOND = 1000000, TLS12 = 0x0303, TLS13 = 0x0304 };

/* One per thread: what a worker has. */
static _Thread_local struct loop *l;

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

static void turns(int n)
{
	while (n-- > 0)
		loop_turn(l, 0);
}

static void until(const int *what, int n)
{
	for (int i = 0; i < 500 && *what < n; i++)
		loop_turn(l, 10);
	must(*what >= n);
}

/* Files of tests/certs */

static struct str file(const char *name)
{
	static char space[64 * 1024];
	static size_t used;
	char path[256];
	snprintf(path, sizeof path, "tests/certs/%s", name);
	FILE *f = fopen(path, "r");
	must(f);
	char *p = space + used;
	size_t n = fread(p, 1, sizeof space - used - 1, f);
	fclose(f);
	must(n > 0);
	while (n && p[n - 1] == '\n' && strchr(name, '.') &&
	       strcmp(strchr(name, '.'), ".hash") == 0)
		n--;
	p[n] = 0;
	used += n + 1;
	return (struct str){p, n};
}

static struct tls_pair pair_a, pair_a_rsa, pair_b, pair_client, pair_stranger;
static struct str ca, crl;

static void load(void)
{
	pair_a = (struct tls_pair){file("a.pem"), file("a.key")};
	pair_a_rsa = (struct tls_pair){file("a-rsa.pem"), file("a-rsa.key")};
	pair_b = (struct tls_pair){file("b.pem"), file("b.key")};
	pair_client = (struct tls_pair){file("client.pem"), file("client.key")};
	pair_stranger = (struct tls_pair){file("stranger.pem"), file("stranger.key")};
	ca = file("ca.pem");
	crl = file("crl.pem");
}

static struct tls_ctx *made(const struct tls_setup *s)
{
	char err[256] = "";
	struct tls_ctx *t = tls_ctx_new(s, err, sizeof err);
	if (!t)
		fprintf(stderr, "%s\n", err);
	must(t);
	return t;
}

static struct tls_setup server_setup(const struct tls_pair *pairs, unsigned n)
{
	return (struct tls_setup){.server = true, .pairs = pairs, .npairs = n};
}

static struct tls_setup client_setup(void)
{
	return (struct tls_setup){.ca_pem = ca, .verify_peer = true};
}

/* One connection: the client dials, over a real TCP socket. */

static _Thread_local struct peer client, server;
static _Thread_local struct sockaddr_in at;
static _Thread_local int listen_fd = -1;

static void dial_as(struct tls_ctx *st, const struct dial *how)
{
	struct dial d = *how;
	memset(&client, 0, sizeof client);
	memset(&server, 0, sizeof server);
	if (listen_fd < 0) {
		socklen_t len = sizeof at;
		at = (struct sockaddr_in){.sin_family = AF_INET};
		at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		listen_fd = socket(AF_INET, SOCK_STREAM, 0);
		must(listen_fd >= 0 && bind(listen_fd, (struct sockaddr *)&at, sizeof at) == 0);
		must(getsockname(listen_fd, (struct sockaddr *)&at, &len) == 0);
		must(listen(listen_fd, 16) == 0);
	}
	d.to = (struct sockaddr *)&at;
	d.to_len = sizeof at;
	if (!d.timeout_us)
		d.timeout_us = 5 * SECOND;
	must(conn_dial(&client.c, l, &ops, &d));
	int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK);
	must(fd >= 0);
	must(conn_accept(&server.c, l, fd, &ops, st, 5 * SECOND));
}

/* True: both sides are established. */
static bool shake(struct tls_ctx *st, const struct dial *how)
{
	dial_as(st, how);
	for (int i = 0; i < 500; i++) {
		loop_turn(l, 10);
		if ((client.established || client.failed) && (server.established || server.failed))
			break;
	}
	return client.established && server.established;
}

static bool meet(struct tls_ctx *st, struct tls_ctx *ct, const char *sni)
{
	struct dial d = {.tls = ct, .sni = sni};
	return shake(st, &d);
}

static void part(void)
{
	conn_close(&client.c, false);
	conn_close(&server.c, false);
	turns(3);
}

static ssize_t put(struct conn *c, const char *text)
{
	struct iovec v = {(void *)text, strlen(text)};
	return conn_write(c, &v, 1);
}

/* Reads until n bytes are there. */
static void expect(struct peer *p, const char *text)
{
	char b[256];
	size_t got = 0, n = strlen(text);
	for (int i = 0; i < 500 && got < n; i++) {
		ssize_t r = conn_read(&p->c, b + got, sizeof b - got);
		must(r > 0 || r == CONN_AGAIN);
		if (r > 0)
			got += (size_t)r;
		else
			loop_turn(l, 10);
	}
	must(got == n && memcmp(b, text, n) == 0);
}

static bool is(const struct conn *c, enum tls_text what, const char *want)
{
	struct arena a;
	arena_init(&a, SIZE_MAX);
	struct str s = tls_text(c, what, &a);
	bool same = str_eq(s, str_of(want));
	if (!same)
		fprintf(stderr, "text %d: %.*s, expected %s\n", (int)what, STR_ARG(s), want);
	arena_fini(&a);
	return same;
}

/* The list, comma-separated. */
static bool lists(const struct conn *c, enum tls_list what, const char *want)
{
	struct arena a;
	struct str *s;
	char b[1024] = "";
	arena_init(&a, SIZE_MAX);
	unsigned n = tls_list(c, what, &a, &s);
	for (unsigned i = 0; i < n; i++) {
		strcat(b, i ? "|" : "");
		strncat(b, s[i].p, s[i].n);
	}
	arena_fini(&a);
	if (strcmp(b, want))
		fprintf(stderr, "list %d: %s, expected %s\n", (int)what, b, want);
	return strcmp(b, want) == 0;
}

static int sends;
static ssize_t counted_send(int fd, const void *p, size_t n, int flags)
{
	sends++;
	return send(fd, p, n, MSG_NOSIGNAL);
}
static int recvs;
static ssize_t counted_recv(int fd, void *p, size_t n)
{
	recvs++;
	return recv(fd, p, n, 0);
}

static void bytes_go_both_ways(int version)
{
	char b[64 * 1024];
	struct tls_setup ss = server_setup(&pair_a, 1), cs = client_setup();
	ss.min_version = ss.max_version = version;
	struct tls_ctx *st = made(&ss), *ct = made(&cs);
	struct dial d = {.tls = ct, .sni = "a.example", .verify_host = "a.example"};
	must(shake(st, &d));
	must(conn_is_tls(&client.c) && client.c.alpn[0] == 0);
	must(is(&client.c, TLS_VERSION, version == TLS12 ? "TLSv1.2" : "TLSv1.3"));
	must(is(&server.c, TLS_SNI, "a.example"));
	must(tls_peer_validated(&client.c) && !tls_peer_presented(&server.c));

	/* A request: head and 1 KiB of body are one record, one send, one recv. */
	static char body[1024];
	memset(body, 'b', sizeof body);
	struct iovec v[3] = {{(char *)"head ", 5}, {body, sizeof body}, {(char *)"!", 1}};
	sys_hooks.send = counted_send;
	sys_hooks.recv = counted_recv;
	for (int i = 0; i < 3; i++) {
		sends = recvs = 0;
		must(conn_write(&client.c, v, 3) == 1030 && sends == 1);
		until(&server.ready, i + 1);
		must(conn_read(&server.c, b, sizeof b) == 1030 && !conn_pending(&server.c));
		must(recvs == 1 && b[5] == 'b' && b[1029] == '!');
		sends = recvs = 0;
		must(conn_write(&server.c, v, 2) == 1029 &&
		     sends == 1); /* with the ticket, the first time */
		until(&client.ready, i + 1);
		must(conn_read(&client.c, b, sizeof b) == 1029 && recvs == 1);
	}
	sys_hooks.send = NULL;
	sys_hooks.recv = NULL;
	must(client.c.bytes_out == 3 * 1030 && client.c.bytes_in == 3 * 1029);

	/* A small buffer: the rest waits inside, where epoll does not see it. */
	must(put(&client.c, "0123456789") == 10);
	until(&server.ready, 4);
	must(conn_read(&server.c, b, 4) == 4 && conn_pending(&server.c));
	must(conn_read(&server.c, b, 6) == 6 && !conn_pending(&server.c));
	must(conn_read(&server.c, b, 6) == CONN_AGAIN);

	must(conn_idle_ok(&client.c) && conn_idle_ok(&server.c));
	/* The clean end, both sides. */
	conn_shutdown(&client.c);
	until(&server.ready, 5);
	must(conn_read(&server.c, b, 4) == 0 && !server.c.cut);
	must(!conn_idle_ok(&server.c));
	must(put(&server.c, "late answer") == 11);
	expect(&client, "late answer");
	conn_shutdown(&server.c);
	conn_close(&server.c, false);
	int before = client.ready;
	until(&client.ready, before + 1);
	must(conn_read(&client.c, b, 4) == 0 && !client.c.cut);
	part();
	tls_ctx_free(st);
	tls_ctx_free(ct);
}

static char pattern(size_t at_byte)
{
	return (char)(at_byte * 7 + (at_byte >> 11));
}

static int short_send_max;
static ssize_t short_send(int fd, const void *p, size_t n, int flags)
{
	if (short_send_max && rand() % 3 == 0) {
		errno = EAGAIN;
		return -1;
	}
	if (short_send_max && n > (size_t)short_send_max)
		n = 1 + (size_t)rand() % (size_t)short_send_max;
	return send(fd, p, n, MSG_NOSIGNAL);
}
static ssize_t short_recv(int fd, void *p, size_t n)
{
	if (short_send_max && n > (size_t)short_send_max)
		n = 1 + (size_t)rand() % (size_t)short_send_max;
	return recv(fd, p, n, 0);
}

/* 8 MiB through a socket that fills up, from a buffer that moves and never shows the same pieces
 * twice. */
static void a_full_socket(int version, int max, size_t total)
{
	static char from[64 * 1024], to[64 * 1024];
	struct tls_setup ss = server_setup(&pair_a, 1), cs = client_setup();
	ss.max_version = version;
	struct tls_ctx *st = made(&ss), *ct = made(&cs);
	sys_hooks.send = short_send;
	sys_hooks.recv = short_recv;
	short_send_max = max;
	must(meet(st, ct, "a.example"));
	size_t sent = 0, received = 0;
	int stalls = 0, small = 64 * 1024;
	must(setsockopt(server.c.watch.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
	for (int i = 0; i < 2000000 && received < total; i++) {
		while (sent < total) {
			size_t n = 1 + (size_t)rand() % sizeof from;
			if (n > total - sent)
				n = total - sent;
			for (size_t k = 0; k < n; k++)
				from[k] = pattern(sent + k);
			size_t a = n / 3;
			struct iovec v[3] = {{from, a}, {from + a, 1 < n - a ? 1 : n - a}, {0}};
			v[2] = (struct iovec){from + a + v[1].iov_len, n - a - v[1].iov_len};
			ssize_t w = conn_write(&server.c, v, 3);
			must(w > 0 || w == CONN_AGAIN);
			if (w == CONN_AGAIN) {
				must(server.c.blocked);
				stalls++;
				break;
			}
			must(w <= CONN_WRITE_MAX);
			sent += (size_t)w;
		}
		loop_turn(l, 1);
		for (int k = 0; k < 20; k++) {
			ssize_t r = conn_read(&client.c, to, 1 + (size_t)rand() % sizeof to);
			must(r > 0 || r == CONN_AGAIN);
			if (r < 0)
				break;
			for (ssize_t j = 0; j < r; j++)
				must(to[j] == pattern(received + (size_t)j));
			received += (size_t)r;
		}
	}
	must(received == total && stalls > 0);
	/* The last bytes are taken, encrypted and stuck: they go out all the same after a close. */
	short_send_max = 0;
	while (put(&server.c, "0123456789abcdef") == 16)
		;
	must(server.c.blocked);
	uint64_t out = server.c.bytes_out;
	conn_close(&server.c, false);
	for (int i = 0; i < 100000; i++) {
		ssize_t r = conn_read(&client.c, to, sizeof to);
		if (r == 0)
			break;
		must(r > 0 || r == CONN_AGAIN);
		if (r == CONN_AGAIN)
			loop_turn(l, 10);
	}
	must(client.c.read_ended && !client.c.cut && client.c.bytes_in == out);
	sys_hooks.send = NULL;
	sys_hooks.recv = NULL;
	part();
	tls_ctx_free(st);
	tls_ctx_free(ct);
}

static void a_shutdown_waits_for_what_was_taken(void)
{
	static char block[48 * 1024], to[64 * 1024];
	struct tls_setup ss = server_setup(&pair_a, 1), cs = client_setup();
	struct tls_ctx *st = made(&ss), *ct = made(&cs);
	must(meet(st, ct, "a.example"));
	struct iovec v = {block, sizeof block};
	while (conn_write(&server.c, &v, 1) > 0)
		;
	must(server.c.blocked);
	conn_shutdown(&server.c);
	must(conn_write(&server.c, &v, 1) == CONN_FAILED);
	for (int i = 0; i < 100000; i++) {
		ssize_t r = conn_read(&client.c, to, sizeof to);
		if (r == 0)
			break;
		must(r > 0 || r == CONN_AGAIN);
		if (r == CONN_AGAIN)
			loop_turn(l, 10);
	}
	must(!client.c.cut && client.c.bytes_in == server.c.bytes_out);
	must(put(&client.c, "still read") == 10);
	expect(&server, "still read");
	part();
	tls_ctx_free(st);
	tls_ctx_free(ct);
}

static void an_end_without_close_notify_is_cut(void)
{
	char b[16];
	struct tls_setup ss = server_setup(&pair_a, 1), cs = client_setup();
	struct tls_ctx *st = made(&ss), *ct = made(&cs);
	must(meet(st, ct, "a.example"));
	must(put(&server.c, "part") == 4);
	shutdown(server.c.watch.fd, SHUT_WR);
	expect(&client, "part");
	int before = client.ready;
	until(&client.ready, before + 1);
	must(conn_read(&client.c, b, sizeof b) == 0 && client.c.cut);
	part();
	/* A reset. */
	must(meet(st, ct, "a.example"));
	conn_close(&server.c, true);
	until(&client.ready, 1);
	must(conn_read(&client.c, b, sizeof b) == CONN_FAILED);
	must(client.c.failure.kind == FAILED_TERMINATED && client.c.failure.err == ECONNRESET);
	must(conn_read(&client.c, b, sizeof b) == CONN_FAILED);
	part();
	/* Bytes that are no record. */
	must(meet(st, ct, "a.example"));
	must(send(client.c.watch.fd, "GET / HTTP/1.1\r\n\r\n", 18, 0) == 18);
	until(&server.ready, 1);
	must(conn_read(&server.c, b, sizeof b) == CONN_FAILED);
	must(server.c.failure.kind == FAILED_CLIENT_GONE && server.c.failure.step);
	must(conn_read(&server.c, b, sizeof b) == CONN_FAILED && put(&server.c, "x") <= 1);
	part();
	tls_ctx_free(st);
	tls_ctx_free(ct);
}

static void bytes_behind_the_handshake(void)
{
	/* TLS 1.3: the client's first request arrives together with its Finished. */
	struct tls_setup ss = server_setup(&pair_a, 1), cs = client_setup();
	struct tls_ctx *st = made(&ss), *ct = made(&cs);
	struct dial d = {.tls = ct, .sni = "a.example"};
	char b[64];
	dial_as(st, &d);
	conn_pause(&server.c);
	for (int i = 0; i < 100 && !client.established; i++) {
		/* the server's turn is withheld: its events are only read once the client is
		 * through */
		loop_turn(l, 10);
	}
	must(client.established);
	must(put(&client.c, "request") == 7);
	until(&server.established, 1);
	conn_resume(&server.c);
	if (conn_pending(&server.c))
		server.ready++;
	until(&server.ready, 1);
	must(conn_read(&server.c, b, sizeof b) == 7);
	part();
	tls_ctx_free(st);
	tls_ctx_free(ct);
}

/* Handshakes that fail */

static void raw_client(struct tls_ctx *st, const char *bytes, size_t n, bool reset)
{
	int fds[2];
	memset(&server, 0, sizeof server);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
	must(conn_accept(&server.c, l, fds[0], &ops, st, 100000));
	must(send(fds[1], bytes, n, 0) == (ssize_t)n);
	if (reset)
		close(fds[1]);
	until(&server.failed, 1);
	must(!conn_open(&server.c) && server.established == 0);
	must(server.c.failure.kind == FAILED_TLS && server.c.failure.step);
	if (!reset)
		close(fds[1]);
	turns(2);
}

static void no_tls_at_all(void)
{
	struct tls_setup ss = server_setup(&pair_a, 1);
	struct tls_ctx *st = made(&ss);
	char junk[20000];
	raw_client(st, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27, false);
	must(strcmp(server.c.failure.step, "http request") == 0);
	raw_client(st, "\0", 1, true);
	must(strstr(server.c.failure.step, "closed"));
	raw_client(st, "\x16\x03\x01", 3, false); /* silence */
	must(server.c.failure.err == ETIMEDOUT);
	srand(7);
	for (int i = 0; i < 300; i++) {
		size_t n = 1 + (size_t)rand() % (i % 10 ? 300 : sizeof junk);
		for (size_t k = 0; k < n; k++)
			junk[k] = (char)rand();
		if (i % 2) { /* a record at least, perhaps a ClientHello */
			memcpy(junk, "\x16\x03\x01\x00\x80\x01\x00\x00\x7c\x03\x03",
			       n < 11 ? n : 11);
		}
		raw_client(st, junk, n, true);
	}
	tls_ctx_free(st);
}

static void a_client_that_meets_no_tls(void)
{
	struct tls_setup cs = client_setup();
	struct tls_ctx *ct = made(&cs);
	struct dial d = {.tls = ct, .sni = "a.example"};
	dial_as(NULL, &d);
	must(put(&server.c, "HTTP/1.1 400 Bad Request\r\n\r\n") > 0);
	until(&client.failed, 1);
	must(client.c.failure.kind == FAILED_TLS && client.c.failure.step);
	part();
	dial_as(NULL, &d);
	conn_close(&server.c, false);
	until(&client.failed, 1);
	part();
	d.timeout_us = 50000;
	dial_as(NULL, &d);
	conn_pause(&server.c);
	until(&client.failed, 1);
	must(client.c.failure.kind == FAILED_CONNECT_TIMEOUT);
	part();
	tls_ctx_free(ct);
}

/* Verification by the client */

static bool only_spiffe_a(void *arg, enum tls_san_kind kind, struct str v)
{
	++*(int *)arg;
	return kind == TLS_SAN_URI && str_eq(v, STR("spiffe://td/a"));
}
static bool no_san(void *arg, enum tls_san_kind kind, struct str v)
{
	return false;
}

/* long: one small story after the other, with the same two servers */
static void verifying_the_server(void)
{
	struct tls_setup ss = server_setup(&pair_a, 1), strange = server_setup(&pair_stranger, 1);
	struct tls_ctx *st = made(&ss), *xt = made(&strange), *ct;
	struct tls_setup cs = client_setup();
	int asked = 0;

	ct = made(&cs);
	struct dial d = {.tls = ct, .verify_host = "a.example"};
	must(shake(st, &d));
	must(is(&client.c, TLS_PEER_SERIAL, "a1b"));
	must(lists(&client.c, TLS_PEER_DNS, "a.example|*.wild.example"));
	part();
	d.verify_host = "x.wild.example";
	must(shake(st, &d));
	part();
	d.verify_host = "127.0.0.1";
	must(shake(st, &d));
	part();
	d.verify_host = "b.example";
	must(!shake(st, &d));
	must(client.failed && client.c.failure.kind == FAILED_TLS);
	must(strcmp(client.c.failure.step, "hostname mismatch") == 0);
	part();
	must(!meet(xt, ct, "a.example") && client.failed);
	must(strcmp(client.c.failure.step, "unable to get local issuer certificate") == 0);
	part();
	tls_ctx_free(ct);

	cs = (struct tls_setup){0}; /* no verification */
	ct = made(&cs);
	must(meet(xt, ct, "a.example") && !tls_peer_validated(&client.c));
	must(tls_peer_presented(&client.c));
	part();
	tls_ctx_free(ct);

	cs = client_setup();
	cs.accept_untrusted = true;
	ct = made(&cs);
	must(meet(xt, ct, "a.example") && !tls_peer_validated(&client.c));
	part();
	must(meet(st, ct, "a.example") && tls_peer_validated(&client.c));
	part();
	tls_ctx_free(ct);

	cs = client_setup();
	cs.san_ok = only_spiffe_a;
	cs.san_arg = &asked;
	ct = made(&cs);
	must(meet(st, ct, "a.example") && asked == 3);
	part();
	tls_ctx_free(ct);
	cs.san_ok = no_san;
	ct = made(&cs);
	must(!meet(st, ct, "a.example") && strstr(client.c.failure.step, "alternative"));
	part();
	tls_ctx_free(ct);

	/* The certificate itself as its anchor. */
	cs = client_setup();
	cs.ca_pem = pair_stranger.chain_pem;
	ct = made(&cs);
	must(meet(xt, ct, "a.example"));
	part();
	must(!meet(st, ct, "a.example"));
	part();
	tls_ctx_free(ct);

	/* No CA at all: nothing is trusted. */
	cs.ca_pem = (struct str){0};
	ct = made(&cs);
	must(!meet(st, ct, "a.example"));
	part();
	tls_ctx_free(ct);
	tls_ctx_free(st);
	tls_ctx_free(xt);
}

static void pins(void)
{
	struct tls_setup ss = server_setup(&pair_a, 1), strange = server_setup(&pair_stranger, 1);
	struct tls_ctx *st = made(&ss), *xt = made(&strange);
	struct str spki = file("a-spki.hash"), cert = file("a-cert.hash"),
		   wrong = file("client-cert.hash");
	struct tls_setup cs = {.verify_peer = true, .spki_sha256_base64 = &spki, .nspki = 1};
	struct tls_ctx *ct = made(&cs);
	must(meet(st, ct, "a.example") && tls_peer_validated(&client.c));
	part();
	must(!meet(xt, ct, "a.example") && strstr(client.c.failure.step, "hashes"));
	part();
	tls_ctx_free(ct);
	cs = (struct tls_setup){.cert_sha256_hex = &cert, .ncert = 1};
	ct = made(&cs);
	must(meet(st, ct, "a.example"));
	part();
	must(!meet(xt, ct, "a.example"));
	part();
	tls_ctx_free(ct);
	cs = client_setup();
	cs.cert_sha256_hex = &wrong;
	cs.ncert = 1;
	ct = made(&cs);
	must(!meet(st, ct, "a.example"));
	part();
	tls_ctx_free(ct);
	tls_ctx_free(st);
	tls_ctx_free(xt);
}

/* Client certificates */

/* long: one small story after the other, with the same clients */
static void client_certificates(int version)
{
	struct tls_setup ss = server_setup(&pair_a, 1), cs = client_setup();
	ss.ca_pem = ca;
	ss.verify_peer = ss.require_peer = true;
	ss.max_version = version;
	struct tls_ctx *st = made(&ss), *without = made(&cs);
	cs.pairs = &pair_client;
	cs.npairs = 1;
	struct tls_ctx *with = made(&cs);
	cs.pairs = &pair_stranger;
	struct tls_ctx *stranger = made(&cs);

	must(meet(st, with, "a.example"));
	must(tls_peer_presented(&server.c) && tls_peer_validated(&server.c));
	must(is(&server.c, TLS_PEER_SUBJECT, "O=Second\\, Sons,O=First,CN=client"));
	must(is(&server.c, TLS_PEER_ISSUER, "CN=ca"));
	must(is(&server.c, TLS_PEER_CN, "client"));
	must(is(&server.c, TLS_PEER_SERIAL, "ff01"));
	struct str hash = file("client-cert.hash");
	must(is(&server.c, TLS_PEER_SHA256, hash.p));
	must(is(&server.c, TLS_LOCAL_SUBJECT, "CN=ignored"));
	must(lists(&server.c, TLS_PEER_URIS, "spiffe://td/ns/x|spiffe://td/ns/y"));
	must(lists(&server.c, TLS_PEER_DNS, "client.example"));
	must(lists(&server.c, TLS_PEER_ORGS, "First|Second, Sons"));
	must(lists(&server.c, TLS_PEER_OIDS, "2.5.29.17|2.5.29.37|2.5.29.14|2.5.29.35") ||
	     lists(&server.c, TLS_PEER_OIDS, "2.5.29.17|2.5.29.37"));
	must(lists(&server.c, TLS_LOCAL_URIS, "spiffe://td/a"));
	must(lists(&server.c, TLS_LOCAL_DNS, "a.example|*.wild.example"));
	must(tls_peer_not_before(&server.c) == 1577836800);
	must(tls_peer_not_after(&server.c) == 4701974400);
	struct arena a;
	arena_init(&a, SIZE_MAX);
	struct str pem = tls_text(&server.c, TLS_PEER_PEM_URLENCODED, &a);
	must(str_starts(pem, STR("-----BEGIN%20CERTIFICATE-----%0AMI")));
	must(str_ends(pem, STR("-----END%20CERTIFICATE-----%0A")) && !memchr(pem.p, '\n', pem.n));
	must(str_eq(tls_text(&server.c, TLS_PEER_CHAIN_URLENCODED, &a), pem));
	must(str_eq(tls_text(&client.c, TLS_PEER_CHAIN_URLENCODED, &a),
		    tls_text(&client.c, TLS_PEER_PEM_URLENCODED, &a)));
	arena_fini(&a);
	must(put(&client.c, "hi") == 2);
	expect(&server, "hi");
	part();

	/* The server refuses. In TLS 1.3 the client hears it after its own handshake is over. */
	must(!meet(st, without, "a.example") && server.failed);
	must(server.c.failure.kind == FAILED_TLS);
	must(strcmp(server.c.failure.step, "peer did not return a certificate") == 0);
	part();
	must(!meet(st, stranger, "a.example") && server.failed);
	must(strcmp(server.c.failure.step, "unable to get local issuer certificate") == 0);
	part();
	tls_ctx_free(st);

	ss.require_peer = false; /* asked for, not demanded */
	st = made(&ss);
	must(meet(st, without, "a.example") && !tls_peer_presented(&server.c));
	must(!tls_peer_validated(&server.c) && tls_peer_not_after(&server.c) == 0);
	must(is(&server.c, TLS_PEER_SUBJECT, "") && is(&server.c, TLS_PEER_PEM_URLENCODED, ""));
	part();
	tls_ctx_free(st);

	ss.crl_pem = crl;
	st = made(&ss);
	must(!meet(st, with, "a.example"));
	must(strcmp(server.c.failure.step, "certificate revoked") == 0);
	part();
	tls_ctx_free(st);

	ss = server_setup(&pair_a, 1); /* demanded, whoever signed it */
	ss.require_peer = true;
	ss.max_version = version;
	st = made(&ss);
	must(meet(st, stranger, "a.example"));
	must(tls_peer_presented(&server.c) && !tls_peer_validated(&server.c));
	part();
	must(!meet(st, without, "a.example"));
	part();
	tls_ctx_free(st);
	tls_ctx_free(with);
	tls_ctx_free(without);
	tls_ctx_free(stranger);
}

static void alpn(void)
{
	struct str ours[] = {STR("h2"), STR("http/1.1")}, theirs[] = {STR("http/1.1"), STR("h2")};
	struct tls_setup ss = server_setup(&pair_a, 1), cs = client_setup();
	ss.alpn = ours;
	ss.nalpn = 2;
	cs.alpn = theirs;
	cs.nalpn = 2;
	struct tls_ctx *st = made(&ss), *ct = made(&cs);
	must(meet(st, ct, "a.example"));
	must(strcmp(client.c.alpn, "h2") == 0 && strcmp(server.c.alpn, "h2") == 0);
	must(is(&server.c, TLS_ALPN, "h2"));
	part();
	tls_ctx_free(ct);
	cs.nalpn = 1;
	ct = made(&cs);
	must(meet(st, ct, "a.example") && strcmp(server.c.alpn, "http/1.1") == 0);
	part();
	tls_ctx_free(ct);
	struct str other = STR("something-long");
	cs.alpn = &other;
	ct = made(&cs);
	must(meet(st, ct, "a.example")); /* no overlap: go on without */
	must(server.c.alpn[0] == 0 && client.c.alpn[0] == 0);
	part();
	tls_ctx_free(ct);
	tls_ctx_free(st);
}

static void versions_and_ciphers(void)
{
	struct tls_setup ss = server_setup(&pair_a, 1), cs = client_setup();
	struct tls_ctx *ct = made(&cs), *st;
	cs.max_version = TLS12;
	struct tls_ctx *ct12 = made(&cs);
	ss.min_version = TLS13;
	st = made(&ss);
	must(meet(st, ct, "a.example"));
	must(is(&server.c, TLS_CIPHER, "TLS_AES_128_GCM_SHA256"));
	must(is(&server.c, TLS_CIPHER_ID, "0x1301") && is(&server.c, TLS_SESSION_ID, ""));
	part();
	must(!meet(st, ct12, "a.example") && server.failed && client.failed);
	must(strcmp(server.c.failure.step, "unsupported protocol") == 0);
	part();
	tls_ctx_free(st);

	ss.min_version = 0;
	ss.ciphers = STR("[ECDHE-ECDSA-AES256-GCM-SHA384|ECDHE-ECDSA-CHACHA20-POLY1305]:"
			 "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
	ss.curves = STR("P-384,X25519");
	st = made(&ss);
	must(meet(st, ct12, "a.example"));
	must(is(&server.c, TLS_CIPHER, "ECDHE-ECDSA-AES256-GCM-SHA384"));
	must(is(&server.c, TLS_CIPHER_ID, "0xc02c"));
	part();
	must(meet(st, ct, "a.example"));
	part();
	tls_ctx_free(st);
	tls_ctx_free(ct);
	tls_ctx_free(ct12);

	/* The old versions, for who asks for them. */
	ss = server_setup(&pair_a, 1);
	cs = client_setup();
	cs.min_version = ss.min_version = 0x0301;
	cs.max_version = ss.max_version = 0x0302;
	cs.ciphers = ss.ciphers = STR("ECDHE-ECDSA-AES128-SHA");
	st = made(&ss);
	ct = made(&cs);
	must(meet(st, ct, "a.example") && is(&server.c, TLS_VERSION, "TLSv1.1"));
	part();
	tls_ctx_free(st);
	tls_ctx_free(ct);
}

/* The subject tells which certificate came: a's is found by its names. */
static bool gave(const char *names)
{
	return lists(&client.c, TLS_PEER_DNS, names);
}

static void certificates_by_sni(void)
{
	struct tls_pair pairs[] = {pair_b, pair_a, pair_a_rsa};
	struct tls_setup ss = server_setup(pairs, 3), cs = client_setup();
	struct tls_ctx *st = made(&ss), *ct = made(&cs);
	must(meet(st, ct, "A.Example") && gave("a.example|*.wild.example"));
	part();
	must(meet(st, ct, "x.wild.example") && gave("a.example|*.wild.example"));
	part();
	must(meet(st, ct, "x.y.wild.example") && gave("")); /* the first */
	must(is(&client.c, TLS_PEER_SUBJECT, "CN=b.example"));
	part();
	must(meet(st, ct, "b.example") && is(&client.c, TLS_PEER_SUBJECT, "CN=b.example"));
	must(is(&server.c, TLS_LOCAL_SUBJECT, "CN=b.example"));
	part();
	must(meet(st, ct, "wild.example") && gave(""));
	part();
	must(meet(st, ct, NULL) && gave("") && is(&server.c, TLS_SNI, ""));
	part();
	tls_ctx_free(ct);
	/* A client that can RSA only gets that one. */
	cs.max_version = TLS12;
	cs.ciphers = STR("ECDHE-RSA-AES128-GCM-SHA256");
	ct = made(&cs);
	must(meet(st, ct, "a.example") && gave("a.example"));
	part();
	must(!meet(st, ct, "b.example") && server.failed);
	part();
	tls_ctx_free(st);
	/* Both kinds for one name, and no other: nothing to choose. */
	ss = server_setup(pairs + 1, 2);
	st = made(&ss);
	must(meet(st, ct, "elsewhere.example") && gave("a.example"));
	part();
	tls_ctx_free(ct);
	cs = client_setup();
	ct = made(&cs);
	must(meet(st, ct, "elsewhere.example") && gave("a.example|*.wild.example"));
	part();
	tls_ctx_free(ct);
	tls_ctx_free(st);
}

/* Resumption */

static void resumption(int version)
{
	struct tls_setup ss = server_setup(&pair_a, 1), cs = client_setup();
	ss.max_version = version;
	struct tls_ctx *st = made(&ss), *ct = made(&cs);
	must(meet(st, ct, "a.example") && !tls_resumed(&client.c));
	must(put(&server.c, "with a ticket") == 13);
	expect(&client, "with a ticket");
	part();
	must(meet(st, ct, "a.example") && tls_resumed(&client.c) && tls_resumed(&server.c));
	must(is(&server.c, TLS_SNI, "a.example"));
	must(tls_peer_presented(&client.c) && !tls_peer_validated(&client.c));
	must(put(&server.c, "x") == 1);
	expect(&client, "x");
	part();
	/* A reload makes a new context; the tickets are the process's. */
	tls_ctx_free(st);
	st = made(&ss);
	must(meet(st, ct, "a.example") && tls_resumed(&client.c));
	must(put(&server.c, "x") == 1);
	expect(&client, "x");
	part();
	must(meet(st, ct, "x.wild.example") && !tls_resumed(&client.c)); /* another name */
	part();
	tls_ctx_free(st);
	/* Not where client certificates are asked for. */
	ss.ca_pem = ca;
	ss.verify_peer = true;
	st = made(&ss);
	must(meet(st, ct, "a.example") && !tls_resumed(&client.c));
	part();
	tls_ctx_free(st);
	/* Without tickets: by the server's memory. */
	ss = server_setup(&pair_a, 1);
	ss.max_version = version;
	ss.no_tickets = true;
	ss.session_timeout_s = 100;
	st = made(&ss);
	for (int i = 0; i < 2; i++) {
		must(meet(st, ct, "a.example") && tls_resumed(&client.c) == (i == 1));
		must(put(&server.c, "x") == 1);
		expect(&client, "x");
		part();
	}
	tls_ctx_free(st);
	ss.no_session_cache = true;
	st = made(&ss);
	for (int i = 0; i < 2; i++) {
		must(meet(st, ct, "a.example") && !tls_resumed(&client.c));
		must(put(&server.c, "x") == 1);
		expect(&client, "x");
		part();
	}
	tls_ctx_free(ct);
	/* Neither on the client's side. */
	tls_ctx_free(st);
	ss = server_setup(&pair_a, 1);
	ss.max_version = version;
	st = made(&ss);
	cs.no_session_cache = cs.no_tickets = true;
	ct = made(&cs);
	for (int i = 0; i < 2; i++) {
		must(meet(st, ct, "a.example") && !tls_resumed(&client.c));
		must(put(&server.c, "x") == 1);
		expect(&client, "x");
		part();
	}
	tls_ctx_free(ct);
	tls_ctx_free(st);
}

static void resumption_with_client_certificates(void)
{
	struct tls_setup ss = server_setup(&pair_a, 1), cs = client_setup();
	ss.ca_pem = ca;
	ss.require_peer = ss.verify_peer = true;
	cs.pairs = &pair_client;
	cs.npairs = 1;
	struct tls_ctx *st = made(&ss), *ct = made(&cs);
	for (int i = 0; i < 2; i++) {
		must(meet(st, ct, "a.example") && tls_resumed(&server.c) == (i == 1));
		must(tls_peer_presented(&server.c) && tls_peer_validated(&server.c) == (i == 0));
		must(is(&server.c, TLS_PEER_CN, "client"));
		must(put(&server.c, "x") == 1);
		expect(&client, "x");
		part();
	}
	tls_ctx_free(st);
	ss.ca_pem = file("other-ca.pem"); /* the rules have changed */
	st = made(&ss);
	must(!meet(st, ct, "a.example"));
	part();
	tls_ctx_free(st);
	tls_ctx_free(ct);
}

/* The picker */

static struct tls_ctx *pick_a, *pick_b;
static int picked;

static struct tls_ctx *pick(void *arg, struct conn *c, struct str sni, const struct str *alpns,
			    unsigned n)
{
	must(arg == &picked && c == &server.c);
	picked++;
	if (str_eq(sni, STR("a.example")))
		return pick_a;
	if (n == 2 && str_eq(alpns[0], STR("x")) && str_eq(alpns[1], STR("h2")))
		return pick_b;
	if (sni.n == 0)
		return pick_b;
	return NULL;
}

static void picking_contexts(void)
{
	struct str h2 = STR("h2"), protocols[] = {STR("x"), STR("h2")};
	struct tls_setup sa = server_setup(&pair_a, 1), sb = server_setup(&pair_b, 1),
			 cs = client_setup();
	sa.ca_pem = ca;
	sa.verify_peer = sa.require_peer = true;
	sa.min_version = TLS13;
	sa.curves = STR("P-521"); /* the client's first share does not fit: a second ClientHello */
	sb.alpn = &h2;
	sb.nalpn = 1;
	sb.max_version = TLS12;
	sb.ciphers = STR("ECDHE-ECDSA-AES256-GCM-SHA384");
	pick_a = made(&sa);
	pick_b = made(&sb);
	struct tls_ctx *picker = tls_picker_new(pick, &picked), *plain, *with, *named;
	must(picker);
	plain = made(&cs);
	cs.pairs = &pair_client;
	cs.npairs = 1;
	cs.curves = STR("X25519:P-521");
	with = made(&cs);
	cs = client_setup();
	cs.alpn = protocols;
	cs.nalpn = 2;
	named = made(&cs);

	must(meet(picker, with, "A.example") && picked == 1);
	must(is(&server.c, TLS_VERSION, "TLSv1.3") && is(&server.c, TLS_PEER_CN, "client"));
	must(gave("a.example|*.wild.example") && tls_peer_validated(&server.c));
	must(put(&server.c, "x") == 1);
	expect(&client, "x");
	part();
	must(meet(picker, with, "A.example") && tls_resumed(&server.c));
	part();
	must(!meet(picker, plain, "a.example") && server.failed); /* no common curve */
	part();
	must(meet(picker, named, "other.example"));
	must(strcmp(server.c.alpn, "h2") == 0 && is(&server.c, TLS_VERSION, "TLSv1.2"));
	must(is(&server.c, TLS_CIPHER, "ECDHE-ECDSA-AES256-GCM-SHA384"));
	must(is(&client.c, TLS_PEER_SUBJECT, "CN=b.example"));
	part();
	must(meet(picker, plain, NULL) && is(&server.c, TLS_SNI, ""));
	part();
	must(!meet(picker, plain, "other.example") && server.failed && client.failed);
	must(strstr(server.c.failure.step, "filter chain"));
	must(strstr(client.c.failure.step, "unrecognized name"));
	part();

	/* Contexts may be let go while connections made with them live. */
	must(meet(picker, plain, NULL));
	tls_ctx_free(pick_a);
	tls_ctx_free(pick_b);
	tls_ctx_free(picker);
	tls_ctx_free(plain);
	must(put(&server.c, "still") == 5);
	expect(&client, "still");
	part();

	picker = tls_picker_new(pick, &picked);
	raw_client(picker, "GET / HTTP/1.1\r\n\r\n", 18, false);
	tls_ctx_free(picker);
	tls_ctx_free(with);
	tls_ctx_free(named);
}

/* Setups that are wrong */

static bool refused(struct tls_setup s, const char *words)
{
	char err[256] = "";
	struct tls_ctx *t = tls_ctx_new(&s, err, sizeof err);
	tls_ctx_free(t);
	if (t || !strstr(err, words))
		fprintf(stderr, "said: %s, expected: %s\n", err, words);
	return !t && strstr(err, words);
}

static void wrong_setups(void)
{
	struct tls_pair mixed = {pair_a.chain_pem, pair_b.key_pem}, two[] = {pair_a, mixed};
	struct tls_pair broken = {STR("not a certificate"), pair_b.key_pem};
	struct tls_pair keyless = {pair_a.chain_pem, STR("x")};
	struct tls_pair locked = {pair_b.chain_pem, file("locked.key")};
	struct tls_setup good = server_setup(&pair_a, 1), s;
	must(refused(server_setup(NULL, 0), "no certificate"));
	must(refused(server_setup(two, 2), "private key 2 does not belong to its certificate"));
	must(refused(server_setup(&broken, 1), "certificate chain 1: no PEM"));
	must(refused(server_setup(&keyless, 1), "private key 1: no PEM"));
	must(refused(server_setup(&locked, 1), "without passphrase"));
	s = good, s.ciphers = STR("ECDHE-ECDSA-AES128-GCM-SHA256:NONSENSE");
	must(refused(s, "cipher suite \"NONSENSE\" is unknown"));
	s = good, s.curves = STR("P-256:Q-1");
	must(refused(s, "curves \"P-256:Q-1\""));
	s = good, s.min_version = TLS13, s.max_version = TLS12;
	must(refused(s, "above the highest"));
	s = good, s.ca_pem = STR("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	must(refused(s, "trusted CA"));
	s = good, s.crl_pem = STR("nothing");
	must(refused(s, "revocation list"));
	struct str bad = STR("zz"), empty = STR("");
	s = good, s.spki_sha256_base64 = &bad, s.nspki = 1;
	must(refused(s, "public key hash 1"));
	s = good, s.cert_sha256_hex = &bad, s.ncert = 1;
	must(refused(s, "certificate hash 1"));
	s = good, s.alpn = &empty, s.nalpn = 1;
	must(refused(s, "ALPN"));
	struct tls_setup sys = {.system_ca = true, .verify_peer = true};
	struct tls_ctx *t = made(&sys), *u = made(&sys);
	tls_ctx_free(t);
	tls_ctx_free(u);
	tls_ctx_free(NULL);
}

static void without_memory(void)
{
	struct tls_pair pairs[] = {pair_a, pair_b};
	struct str p = STR("h2"), pin = file("a-spki.hash");
	struct tls_setup s = server_setup(pairs, 2);
	s.alpn = &p;
	s.nalpn = 1;
	s.curves = STR("P-256");
	s.ciphers = STR("ECDHE-ECDSA-AES128-GCM-SHA256");
	s.ca_pem = ca;
	s.spki_sha256_base64 = &pin;
	s.nspki = 1;
	unsigned failed = 0;
	for (uint64_t n = 1; n < 40; n++) {
		char err[256];
		mem_fail_nth(n);
		struct tls_ctx *t = tls_ctx_new(&s, err, sizeof err);
		mem_fail_nth(0);
		failed += !t;
		must(t || strstr(err, "out of memory"));
		tls_ctx_free(t);
	}
	must(failed > 5);
	struct tls_setup ss = server_setup(&pair_a, 1), cs = client_setup();
	struct tls_ctx *st = made(&ss), *ct = made(&cs);
	for (uint64_t n = 1; n < 12; n++) {
		struct dial d = {.tls = ct, .sni = "a.example"};
		dial_as(st, &d);
		mem_fail_nth(n);
		for (int i = 0; i < 20; i++)
			loop_turn(l, 1);
		if (server.established)
			put(&server.c, "x");
		mem_fail_nth(0);
		part();
	}
	tls_ctx_free(st);
	tls_ctx_free(ct);
}

/* A connection at rest holds no record buffers; what our own part of it takes. */
static void memory_at_rest(void)
{
	struct mem_totals before, after;
	struct tls_setup ss = server_setup(&pair_a, 1), cs = client_setup();
	struct tls_ctx *st = made(&ss), *ct = made(&cs);
	must(meet(st, ct, "a.example"));
	part();
	mem_read_totals(&before);
	must(meet(st, ct, "a.example"));
	must(put(&server.c, "x") == 1);
	expect(&client, "x");
	mem_read_totals(&after);
	must(after.bytes[MEM_CONN] - before.bytes[MEM_CONN] <= 2 * 400);
	part();
	mem_read_totals(&after);
	must(after.bytes[MEM_CONN] == before.bytes[MEM_CONN]);
	tls_ctx_free(st);
	tls_ctx_free(ct);
}

/* Workers share contexts, sessions and ticket keys. */

static struct tls_ctx *shared_server, *shared_client;

static void *worker(void *arg)
{
	l = loop_new((unsigned)(intptr_t)arg);
	must(l);
	for (int i = 0; i < 15; i++) {
		must(meet(shared_server, shared_client, i % 2 ? "a.example" : "x.wild.example"));
		must(put(&client.c, "question") == 8);
		expect(&server, "question");
		must(put(&server.c, "answer") == 6);
		expect(&client, "answer");
		part();
	}
	close(listen_fd);
	loop_free(l);
	return NULL;
}

static void two_workers(void)
{
	struct tls_pair pairs[] = {pair_b, pair_a};
	struct tls_setup ss = server_setup(pairs, 2), cs = client_setup();
	pthread_t thread[2];
	shared_server = made(&ss);
	shared_client = made(&cs);
	for (int i = 0; i < 2; i++)
		must(pthread_create(&thread[i], NULL, worker, (void *)(intptr_t)(i + 1)) == 0);
	for (int i = 0; i < 2; i++)
		must(pthread_join(thread[i], NULL) == 0);
	tls_ctx_free(shared_server);
	tls_ctx_free(shared_client);
}

static void what_certificates_say(void)
{
	struct arena a;
	struct cert_facts *f;
	char pem[16 * 1024];
	struct str leaf = file("a.pem"), root = file("ca.pem"), other = file("client.pem");
	arena_init(&a, SIZE_MAX);
	int n = snprintf(pem, sizeof pem, "%.*s%.*s%.*s", STR_ARG(leaf), STR_ARG(root),
			 STR_ARG(other));
	must(tls_cert_facts((struct str){pem, (size_t)n}, &a, &f) == 3);
	must(str_eq(f[0].serial, STR("0a1b")) && str_eq(f[1].serial, STR("10")));
	must(str_eq(f[2].serial, STR("ff01")));
	for (int i = 0; i < 3; i++)
		must(f[i].not_before == 1577836800 && f[i].not_after == 4701974400);
	must(f[0].ndns == 2 && str_eq(f[0].dns[0], STR("a.example")));
	must(str_eq(f[0].dns[1], STR("*.wild.example")));
	must(f[0].nuris == 1 && str_eq(f[0].uris[0], STR("spiffe://td/a")));
	must(f[0].nips == 1 && str_eq(f[0].ips[0], STR("127.0.0.1")));
	must(f[1].ndns + f[1].nuris + f[1].nips == 0);
	must(f[2].ndns == 1 && f[2].nuris == 2 && f[2].nips == 0);
	must(tls_cert_facts(STR("no certificate"), &a, &f) == 0);
	must(tls_cert_facts((struct str){pem, leaf.n + 100}, &a, &f) == 0); /* a broken one */
	arena_fini(&a);
	arena_init(&a, 256);
	must(tls_cert_facts((struct str){pem, (size_t)n}, &a, &f) == 0 && a.over);
	arena_fini(&a);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	l = loop_new(0);
	must(l);
	load();
	bytes_go_both_ways(TLS13);
	bytes_go_both_ways(TLS12);
	a_full_socket(TLS13, 0, 8u << 20);
	a_full_socket(TLS12, 0, 2u << 20);
	a_full_socket(TLS13, 3000, 1u << 20);
	a_full_socket(TLS12, 3000, 1u << 20);
	a_shutdown_waits_for_what_was_taken();
	an_end_without_close_notify_is_cut();
	bytes_behind_the_handshake();
	no_tls_at_all();
	a_client_that_meets_no_tls();
	verifying_the_server();
	pins();
	client_certificates(TLS13);
	client_certificates(TLS12);
	alpn();
	versions_and_ciphers();
	certificates_by_sni();
	resumption(TLS13);
	resumption(TLS12);
	resumption_with_client_certificates();
	picking_contexts();
	wrong_setups();
	what_certificates_say();
	without_memory();
	memory_at_rest();
	two_workers();
	close(listen_fd);
	loop_free(l);
	return 0;
}
