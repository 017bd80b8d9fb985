/* src/net/dns_test.c: against a small DNS server in the same loop. */
#include "base/mem.h"
#include "base/must.h"
#include "net/dns.h"
#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SECOND = 1000000, A = 1, CNAME = 5, AAAA = 28 };

static struct loop *l;

/* The server */

static struct watch server;
static int asked, asked_v6;
static bool mute; /* answers later, by hand */
static unsigned char held[512];
static size_t held_n;
static struct sockaddr_in held_from;

struct packet {
	unsigned char b[4096];
	size_t n;
};

static void put16(struct packet *p, unsigned v)
{
	p->b[p->n++] = (unsigned char)(v >> 8);
	p->b[p->n++] = (unsigned char)v;
}

/* One record; its name is the question's. */
static void record(struct packet *p, unsigned type, unsigned ttl, const void *data, size_t n)
{
	put16(p, 0xC00C);
	put16(p, type);
	put16(p, 1);
	put16(p, 0);
	put16(p, ttl);
	put16(p, (unsigned)n);
	memcpy(p->b + p->n, data, n);
	p->n += n;
	p->b[7]++; /* ANCOUNT */
}

static void address(struct packet *p, unsigned type, unsigned ttl, const char *text)
{
	unsigned char raw[16];
	must(inet_pton(type == A ? AF_INET : AF_INET6, text, raw) == 1);
	record(p, type, ttl, raw, type == A ? 4 : 16);
}

static void answer(struct packet *p, const char *name, unsigned type)
{
	if (strcmp(name, "both.example") == 0) {
		if (type == A) {
			address(p, A, 60, "192.0.2.1");
			address(p, A, 70, "192.0.2.2");
		} else {
			address(p, AAAA, 30, "2001:db8::1");
		}
	} else if (strcmp(name, "v4.example") == 0) {
		if (type == A)
			address(p, A, 20, "192.0.2.4");
	} else if (strcmp(name, "half.example") == 0) {
		if (type == A)
			address(p, A, 20, "192.0.2.5");
		else
			p->b[3] |= 2; /* SERVFAIL */
	} else if (strcmp(name, "alias.example") == 0) {
		/* real.example by pointer to the question's "example" */
		record(p, CNAME, 5, "\004real\300\022", 7);
		size_t rdata = p->n - 7, at = p->n;
		if (type == A) {
			record(p, A, 60, "\300\000\002\007", 4);
			p->b[at + 1] = (unsigned char)rdata; /* the record is real.example's */
		}
	} else if (strcmp(name, "many.example") == 0) {
		for (int i = 1; type == A && i <= 30; i++) { /* 511 bytes */
			char text[32];
			snprintf(text, sizeof text, "192.0.2.%d", i);
			address(p, A, 60, text);
		}
	} else if (strcmp(name, "fail.example") == 0) {
		p->b[3] |= 2;
	} else if (strcmp(name, "garbage.example") == 0) {
		for (size_t i = 12; i < sizeof p->b; i++)
			p->b[i] = (unsigned char)rand();
		p->b[5] = p->b[7] = 9;
		p->n = 12 + (size_t)rand() % 400;
	} else {
		p->b[3] |= 3; /* NXDOMAIN */
	}
}

static void reply(const unsigned char *q, size_t n, const struct sockaddr_in *to)
{
	struct packet p = {.n = n};
	char name[256];
	size_t at = 12, k = 0;
	must(n > 16 && n <= sizeof held);
	memcpy(p.b, q, n);
	while (q[at]) {
		if (k)
			name[k++] = '.';
		memcpy(name + k, q + at + 1, q[at]);
		k += q[at];
		at += 1u + q[at];
	}
	name[k] = 0;
	unsigned type = q[at + 2];
	p.n = at + 5;
	p.b[2] = 0x81;
	p.b[3] = 0x80;
	p.b[10] = p.b[11] = 0;
	answer(&p, name, type);
	sendto(server.fd, p.b, p.n, 0, (const struct sockaddr *)to, sizeof *to);
}

static void question(struct watch *w, unsigned events)
{
	unsigned char q[512];
	struct sockaddr_in from;
	socklen_t len = sizeof from;
	ssize_t n = recvfrom(w->fd, q, sizeof q, 0, (struct sockaddr *)&from, &len);
	must(n > 12);
	asked++;
	asked_v6 += q[n - 3] == AAAA;
	if (mute) {
		memcpy(held, q, (size_t)n);
		held_n = (size_t)n;
		held_from = from;
		return;
	}
	if (memmem(q, (size_t)n, "silent", 6))
		return;
	reply(q, (size_t)n, &from);
}

static char servers[64];

static void serve(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	socklen_t len = sizeof in;
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	must(fd >= 0 && bind(fd, (struct sockaddr *)&in, sizeof in) == 0);
	must(getsockname(fd, (struct sockaddr *)&in, &len) == 0);
	snprintf(servers, sizeof servers, "127.0.0.1:%d", ntohs(in.sin_port));
	server.ready = question;
	must(watch_add(l, &server, fd, WATCH_READ));
}

/* The asker */

static struct {
	int calls;
	bool ok, not_found;
	unsigned n;
	uint32_t ttl;
	char text[DNS_MAX_ADDRESSES * 20 + 64];
	char why[64];
} got;

static void done(void *arg, const struct dns_answer *a)
{
	must(arg == &got);
	got.calls++;
	got.ok = a->ok;
	got.not_found = a->not_found;
	got.n = a->n;
	got.ttl = a->ttl_s;
	got.text[0] = 0;
	snprintf(got.why, sizeof got.why, "%s", a->why ? a->why : "");
	must(a->ok == (a->n > 0) && a->ok == !a->why);
	for (unsigned i = 0; i < a->n; i++) {
		char b[INET6_ADDRSTRLEN];
		bool six = a->at[i].sa.sa_family == AF_INET6;
		must(a->at[i].len ==
		     (six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)));
		must((six ? a->at[i].in6.sin6_port : a->at[i].in4.sin_port) == 0);
		inet_ntop(six ? AF_INET6 : AF_INET,
			  six ? (void *)&a->at[i].in6.sin6_addr : (void *)&a->at[i].in4.sin_addr, b,
			  sizeof b);
		strcat(got.text, i ? " " : "");
		strcat(got.text, b);
	}
}

static void wait_for(int calls)
{
	for (int i = 0; i < 1000 && got.calls < calls; i++)
		loop_turn(l, 10);
	must(got.calls == calls);
}

static void ask(struct dns *d, const char *name, enum dns_want want)
{
	memset(&got, 0, sizeof got);
	must(dns_ask(d, name, want, 5 * SECOND, done, &got));
	must(got.calls == 0); /* never from inside */
	wait_for(1);
	loop_turn(l, 0);
	must(got.calls == 1);
}

static bool is(const char *text, uint32_t ttl)
{
	if (!got.ok || strcmp(got.text, text) || got.ttl != ttl)
		fprintf(stderr, "got %s, ttl %u, %s\n", got.text, got.ttl, got.why);
	return got.ok && strcmp(got.text, text) == 0 && got.ttl == ttl;
}

static void names(struct dns *d)
{
	ask(d, "both.example", DNS_WANT_V4);
	must(is("192.0.2.1 192.0.2.2", 60));
	ask(d, "both.example", DNS_WANT_V6);
	must(is("2001:db8::1", 30));
	ask(d, "both.example", DNS_WANT_AUTO);
	must(is("2001:db8::1", 30));
	ask(d, "both.example", DNS_WANT_V4_FIRST);
	must(is("192.0.2.1 192.0.2.2", 60));
	ask(d, "both.example", DNS_WANT_ALL);
	must(got.ok && got.n == 3 && got.ttl == 30);
	asked = asked_v6 = 0;
	ask(d, "v4.example", DNS_WANT_AUTO);
	must(is("192.0.2.4", 20) && asked == 2 && asked_v6 == 1);
	ask(d, "v4.example", DNS_WANT_ALL);
	must(is("192.0.2.4", 20));
	ask(d, "v4.example", DNS_WANT_V6);
	must(!got.ok && got.not_found);
	ask(d, "half.example", DNS_WANT_AUTO);
	must(is("192.0.2.5", 20));
	ask(d, "alias.example", DNS_WANT_V4);
	must(is("192.0.2.7", 5));
	ask(d, "many.example", DNS_WANT_V4);
	must(got.ok && got.n == 30);
	ask(d, "none.example", DNS_WANT_AUTO);
	must(!got.ok && got.not_found && strstr(got.why, "not found"));
	ask(d, "fail.example", DNS_WANT_V4);
	must(!got.ok && !got.not_found);
	ask(d, "", DNS_WANT_V4);
	must(!got.ok);
	char longer[400];
	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = 0;
	ask(d, longer, DNS_WANT_V4);
	must(!got.ok);
}

static void addresses_and_hosts(struct dns *d)
{
	char path[] = "/tmp/postern-hosts-XXXXXX";
	int fd = mkstemp(path);
	must(fd >= 0 && write(fd, "192.0.2.9 inhosts.example\n", 26) == 26);
	for (int i = 0; i < 200; i++)
		dprintf(fd, "192.0.2.%d crowd.example\n", i);
	close(fd);
	setenv("CARES_HOSTS", path, 1);
	asked = 0;
	ask(d, "127.0.0.9", DNS_WANT_AUTO);
	must(got.ok && strcmp(got.text, "127.0.0.9") == 0 && got.ttl > 0);
	ask(d, "::1", DNS_WANT_V4_FIRST);
	must(got.ok && strcmp(got.text, "::1") == 0);
	ask(d, "::1", DNS_WANT_V4);
	must(!got.ok && got.not_found);
	ask(d, "inhosts.example", DNS_WANT_V4);
	must(got.ok && strcmp(got.text, "192.0.2.9") == 0 && asked == 0);
	ask(d, "crowd.example", DNS_WANT_V4);
	must(got.ok && got.n == DNS_MAX_ADDRESSES && asked == 0);
	unsetenv("CARES_HOSTS");
	unlink(path);
}

static void timeouts_and_cancelling(void)
{
	struct dns *d = dns_new(l, servers);
	memset(&got, 0, sizeof got);
	must(dns_ask(d, "silent.example", DNS_WANT_V4, 50000, done, &got));
	wait_for(1);
	must(!got.ok && !got.not_found && strcmp(got.why, "timeout") == 0);
	/* c-ares goes on with it; we may end all the same. */
	dns_free(d);

	d = dns_new(l, servers);
	memset(&got, 0, sizeof got);
	struct dns_query *q = dns_ask(d, "both.example", DNS_WANT_V4, SECOND, done, &got);
	dns_cancel(q);
	q = dns_ask(d, "127.0.0.1", DNS_WANT_V4, SECOND, done, &got);
	dns_cancel(q);
	for (int i = 0; i < 20; i++)
		loop_turn(l, 1);
	must(got.calls == 0);

	/* The answer is there, but it was cancelled in the same turn. */
	mute = true;
	q = dns_ask(d, "both.example", DNS_WANT_V4, SECOND, done, &got);
	while (!held_n)
		loop_turn(l, 10);
	mute = false;
	reply(held, held_n, &held_from);
	dns_cancel(q);
	for (int i = 0; i < 20; i++)
		loop_turn(l, 1);
	must(got.calls == 0);
	must(dns_ask(d, "silent.example", DNS_WANT_ALL, SECOND, done, &got));
	loop_turn(l, 1);
	dns_free(d); /* with open queries: no callback */
	for (int i = 0; i < 5; i++)
		loop_turn(l, 1);
	must(got.calls == 0);
}

/* From inside the callback everything is allowed. */
static struct dns *ending;
static int ended;

static void ask_again(void *arg, const struct dns_answer *a)
{
	must(a->ok);
	must(dns_ask(ending, "v4.example", DNS_WANT_V4, SECOND, done, &got));
}
static void end_it(void *arg, const struct dns_answer *a)
{
	dns_free(ending);
	must(a->n == 2 && a->at[1].sa.sa_family == AF_INET); /* still there */
	ended++;
}

static void inside_the_callback(void)
{
	ending = dns_new(l, servers);
	memset(&got, 0, sizeof got);
	must(dns_ask(ending, "both.example", DNS_WANT_V4, SECOND, ask_again, NULL));
	wait_for(1);
	must(is("192.0.2.4", 20));
	must(dns_ask(ending, "silent.example", DNS_WANT_V4, SECOND, done, &got));
	must(dns_ask(ending, "both.example", DNS_WANT_V4, SECOND, end_it, NULL));
	for (int i = 0; i < 1000 && !ended; i++)
		loop_turn(l, 10);
	must(ended == 1 && got.calls == 1);
}

static void a_server_that_lies(void)
{
	struct dns *d = dns_new(l, servers);
	srand(3);
	for (int i = 0; i < 100; i++) {
		memset(&got, 0, sizeof got);
		must(dns_ask(d, "garbage.example", DNS_WANT_ALL, 20000, done, &got));
		wait_for(1);
	}
	dns_free(d);
}

static void no_resolver(void)
{
	memset(&got, 0, sizeof got);
	must(!dns_ask(NULL, "x", DNS_WANT_V4, SECOND, done, &got));
	struct dns *d = dns_new(l, "this is no server list");
	must(d);
	ask(d, "both.example", DNS_WANT_V4);
	must(!got.ok && !got.not_found);
	dns_free(d);
	d = dns_new(l, "127.0.0.1:1"); /* nobody there */
	ask(d, "both.example", DNS_WANT_V4);
	must(!got.ok && !got.not_found);
	dns_free(d);
	d = dns_new(l, NULL); /* the system's, whatever it is */
	must(d);
	ask(d, "127.0.0.1", DNS_WANT_V4);
	must(got.ok);
	memset(&got, 0, sizeof got);
	dns_ask(d, "silent.example", DNS_WANT_V4, 10000, done, &got);
	loop_turn(l, 1);
	dns_free(d);
	dns_free(NULL);
}

static void without_memory(void)
{
	for (uint64_t n = 1; n < 25; n++) {
		struct dns *d = dns_new(l, servers);
		memset(&got, 0, sizeof got);
		mem_fail_nth(n);
		struct dns_query *q = dns_ask(d, "both.example", DNS_WANT_AUTO, 30000, done, &got);
		for (int i = 0; q && i < 1000 && !got.calls; i++)
			loop_turn(l, 10);
		mem_fail_nth(0);
		must(!q || got.calls == 1);
		dns_free(d);
	}
}

static void many_at_once(void)
{
	struct dns *d = dns_new(l, servers);
	int n = 0;
	memset(&got, 0, sizeof got);
	while (n < 5000 && dns_ask(d, "127.0.0.1", DNS_WANT_V4, SECOND, done, &got))
		n++;
	must(n == 4096);
	wait_for(4096);
	must(dns_ask(d, "127.0.0.1", DNS_WANT_V4, SECOND, done, &got));
	dns_free(d);
}

int main(void)
{
	struct mem_totals before, after;
	l = loop_new(0);
	must(l);
	serve();
	mem_read_totals(&before);
	struct dns *d = dns_new(l, servers);
	names(d);
	addresses_and_hosts(d);
	dns_free(d);
	timeouts_and_cancelling();
	inside_the_callback();
	a_server_that_lies();
	no_resolver();
	without_memory();
	many_at_once();
	mem_read_totals(&after);
	must(before.bytes[MEM_OTHER] <= after.bytes[MEM_OTHER] &&
	     after.bytes[MEM_OTHER] - before.bytes[MEM_OTHER] < 4096); /* the loop's table only */
	watch_del(l, &server);
	close(server.fd);
	loop_free(l);
	return 0;
}
