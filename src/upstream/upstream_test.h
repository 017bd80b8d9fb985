/* src/upstream/upstream_test.h: a worker's clusters, calls on them, and origins that do what the test says. Everything runs in
 * one thread: the test turns the loop and plays the origins' part on non-blocking sockets between turns. */
#pragma once
#pragma GCC diagnostic ignored "-Wunused-function" /* no test needs all of it */
#include "base/hash.h"
#include "base/mem.h"
#include "base/must.h"
#include "loop/sys.h"
#include "net/dns.h"
#include "obs/log.h"
#include "upstream/origin_test.h"
#include "upstream/upstream_int.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct loop *l;
static void turns(int n)
{
	while (n-- > 0)
		loop_turn(l, 0);
}

/* Turns until cond holds; a test that waits in vain fails. A millisecond passes each time, so
 * that back-offs end. */
#define UNTIL(cond)                                                                   \
	do {                                                                          \
		bool holds_ = false;                                                  \
		for (int tries_ = 0; tries_ < 1000 && !(holds_ = (cond)); tries_++) { \
			virtual_us += 1000;                                           \
			loop_turn(l, tries_ < 20 ? 0 : 2);                            \
		}                                                                     \
		if (!holds_)                                                          \
			must_fail("waited in vain for " #cond, __FILE__, __LINE__);   \
	} while (0)

/* ---- origins */

struct peer {
	int fd;
	size_t n;
	char got[1 << 21];
	bool fin; /* the gateway has closed */
};

static bool try_accept(struct peer *p, const struct listening *s)
{
	p->fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	p->n = 0;
	p->fin = false;
	return p->fd >= 0;
}

static void take_peer(struct peer *p, const struct listening *s)
{
	UNTIL(try_accept(p, s));
}

static void no_peer(const struct listening *s)
{
	turns(5);
	int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	must(fd < 0);
}

static void peer_pull(struct peer *p)
{
	ssize_t n = -1;
	errno = EAGAIN;
	while (p->n < sizeof p->got - 1 &&
	       (n = recv(p->fd, p->got + p->n, sizeof p->got - 1 - p->n, 0)) > 0)
		p->n += (size_t)n;
	if (p->n == sizeof p->got - 1)
		return;
	p->fin |= n == 0 || (n < 0 && errno != EAGAIN);
	p->got[p->n] = 0;
}

static bool peer_has(struct peer *p, const char *text)
{
	peer_pull(p);
	return memmem(p->got, p->n, text, strlen(text)) != NULL;
}

static bool peer_closed(struct peer *p)
{
	if (p->n > sizeof p->got / 2)
		p->n = 0;
	peer_pull(p);
	return p->fin;
}

static void peer_wait(struct peer *p, const char *text)
{
	/* what was asked between turns was asked in a turn of its own: an answer cannot come in
	 * the same one */
	turns(1);
	UNTIL(peer_has(p, text));
}

/* A whole request head; what was got is forgotten. */
static void peer_request(struct peer *p)
{
	peer_wait(p, "\r\n\r\n");
	p->n = 0;
}

static void peer_bytes(struct peer *p, const char *bytes, size_t n)
{
	for (int tries = 0; n; tries++) {
		ssize_t put = send(p->fd, bytes, n, MSG_NOSIGNAL);
		if (put > 0) {
			bytes += put;
			n -= (size_t)put;
			tries = 0;
			continue;
		}
		if (put < 0 && errno != EAGAIN)
			return; /* closed: the test sees that otherwise */
		must(tries < 1000);
		loop_turn(l, tries < 20 ? 0 : 2);
	}
}

static void peer_send(struct peer *p, const char *text)
{
	peer_bytes(p, text, strlen(text));
}

static void peer_close(struct peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static void peer_reset(struct peer *p)
{
	struct linger at_once = {1, 0};
	setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	peer_close(p);
}

/* ---- DNS, answered by the test: these stand before the library's own */

struct dns {
	struct loop *loop;
	char servers[100];
};
struct dns_query {
	struct dns_query *next;
	char name[256];
	enum dns_want want;
	void (*done)(void *arg, const struct dns_answer *);
	void *arg;
};
static struct dns_query *dns_asked; /* oldest first */
static unsigned dns_made;

struct dns *dns_new(struct loop *loop, const char *servers)
{
	struct dns *d = mem_zalloc(MEM_OTHER, sizeof *d);
	if (d && servers)
		snprintf(d->servers, sizeof d->servers, "%s", servers);
	dns_made += d != NULL;
	return d;
}

void dns_free(struct dns *d)
{
	if (d)
		dns_made--;
	mem_free(MEM_OTHER, d);
}

struct dns_query *dns_ask(struct dns *d, const char *name, enum dns_want want, uint64_t timeout_us,
			  void (*answer)(void *arg, const struct dns_answer *), void *arg)
{
	struct dns_query *q = mem_zalloc(MEM_OTHER, sizeof *q), **end = &dns_asked;
	if (!q)
		return NULL;
	snprintf(q->name, sizeof q->name, "%s", name);
	q->want = want;
	q->done = answer;
	q->arg = arg;
	while (*end)
		end = &(*end)->next;
	*end = q;
	return q;
}

void dns_cancel(struct dns_query *q)
{
	struct dns_query **at = &dns_asked;
	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	mem_free(MEM_OTHER, q);
}

/* Answers the oldest query, which must be for name: with addresses ("127.0.0.1 127.0.0.2"), or
 * NULL: a failure. */
static void dns_say(const char *name, const char *addresses, uint32_t ttl_s)
{
	struct dns_query *q = dns_asked;
	struct dns_answer a = {.ttl_s = ttl_s, .why = "SERVFAIL"};
	must(q && !strcmp(q->name, name));
	dns_asked = q->next;
	a.at = calloc(DNS_MAX_ADDRESSES, sizeof *a.at);
	char text[400];
	snprintf(text, sizeof text, "%s", addresses ? addresses : "");
	for (char *save, *at = strtok_r(text, " ", &save); at; at = strtok_r(NULL, " ", &save)) {
		a.at[a.n].in4.sin_family = AF_INET;
		a.at[a.n].in4.sin_addr.s_addr = inet_addr(at);
		a.at[a.n++].len = sizeof a.at->in4;
	}
	a.ok = a.n > 0;
	q->done(q->arg, &a);
	free(a.at);
	mem_free(MEM_OTHER, q);
}

/* ---- the model */

static struct model *model_with_options(void)
{
	struct model *m = model_new();
	must(m);
	m->options.max_interim = 32;
	m->options.retry_non_idempotent = 1;
	return m;
}

static void prepare(struct model *m)
{
	struct diags d;
	diags_init(&d);
	must(upstream_prepare(m, &d));
	diags_fini(&d);
}

static unsigned in_use(const char *name, enum breaker_what what)
{
	struct breaker_use *u = breaker_open(str_of(name));
	must(u);
	unsigned n = breaker_count(u, 0, what);
	breaker_close(u);
	return n;
}

/* ---- calls */

struct asked {
	struct arena arena;
	struct head head;
	struct call_request rq;
	struct call *call;
	int events;
	bool inside; /* call_… is running: no event may come */
};

static void on_event(struct call *c)
{
	struct asked *a = c->owner;
	must(!a->inside);
	must(a->call == c);
	a->events++;
}

static void ask(struct asked *a, const struct model *m, const struct cluster_cfg *c,
		const char *method, const char *path)
{
	memset(a, 0, sizeof *a);
	arena_init(&a->arena, 1 << 20);
	must(head_init(&a->head, &a->arena, false, 16));
	must(head_add_id(&a->head, FIELD_AUTHORITY, STR("t.test")));
	must(head_add_id(&a->head, FIELD_PATH, str_of(path)));
	must(head_add_id(&a->head, FIELD_METHOD, str_of(method)));
	must(head_add_id(&a->head, FIELD_SCHEME, STR("http")));
	a->rq.model = m;
	a->rq.cluster = c;
	a->rq.head = &a->head;
	a->rq.arena = &a->arena;
	a->rq.ended = true;
	a->rq.length = -1;
}

static void open_call(struct asked *a, struct upstream *u)
{
	a->inside = true;
	a->call = call_open(u, &a->rq, on_event, a);
	a->inside = false;
	must(a->call);
}

static void get(struct asked *a, struct upstream *u, const struct model *m,
		const struct cluster_cfg *c, const char *path)
{
	ask(a, m, c, "GET", path);
	open_call(a, u);
}

static void send_body(struct asked *a, const char *bytes, size_t n, bool end)
{
	struct chain body = {0};
	must(chain_copy(&body, bytes, n));
	a->inside = true;
	call_send(a->call, &body, end, NULL);
	a->inside = false;
	must(body.n == 0);
}

/* All of the answer's body that is there now, NUL-terminated; taken. */
static const char *take_in(struct asked *a)
{
	static char text[1 << 21];
	struct chain *in = &a->call->in;
	size_t n = in->n < sizeof text ? in->n : sizeof text - 1;
	chain_read(in, 0, text, n);
	text[n] = 0;
	chain_clear(in);
	a->inside = true;
	call_took(a->call);
	a->inside = false;
	return text;
}

static void done(struct asked *a)
{
	int events = a->events;
	if (a->call) {
		a->inside = true;
		call_close(a->call);
		a->call = NULL;
	}
	turns(1);
	must(a->events == events);
	arena_fini(&a->arena);
}

static unsigned status_of(const struct asked *a)
{
	return a->call->has_head ? a->call->head->status : 0;
}

/* ---- one cluster of one origin, which most tests want */

struct fix {
	struct listening s;
	struct model *m;
	struct cluster_cfg *c;
	struct upstream *u;
};

/* more(c) changes the cluster before it lives. */
static void fix_up(struct fix *f, void (*more)(struct cluster_cfg *c))
{
	f->s = listen_local();
	f->m = model_with_options();
	const struct listening *at[] = {&f->s};
	f->c = cluster_new(f->m, "web", at, 1);
	if (more)
		more(f->c);
	prepare(f->m);
	f->u = upstream_new(l, f->m);
	must(f->u);
}

/* Nothing may be left. */
static void fix_down(struct fix *f)
{
	must(f->u->ncalls == 0);
	upstream_free(f->u);
	for (int i = 0; i < USES; i++)
		must(in_use("web", (enum breaker_what)i) == 0);
	turns(1);
	close(f->s.fd);
	must(atomic_load(&f->m->refs) == 1);
	model_unref(f->m);
}

/* Run with any number of events per pass, an order bug shows. */
static void with_passes(void (*test)(void))
{
	static const unsigned passes[] = {1, 8, 256};
	for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
		l = loop_new(0);
		must(l);
		loop_set_pass(l, passes[i]);
		virtual_us = 1000000000;
		loop_set_clock(l, read_virtual, NULL);
		test();
		loop_free(l);
	}
}

/* So much time passes. Steps small enough that every timer fires near its time. */
static void pass_time(uint64_t us)
{
	for (uint64_t step; us; us -= step) {
		step = us < 100000 ? us : 100000;
		virtual_us += step;
		turns(2);
	}
}

static void start_tests(void)
{
	signal(SIGPIPE, SIG_IGN);
	hash_seed();
}
