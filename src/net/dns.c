/* src/net/dns.c: the one place that knows c-ares. */
#include "net/dns.h"
#include "base/mem.h"
#include "base/must.h"
#include <ares.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
	MAX_QUERIES = 4096, /* open at once */
	TRY_MS = 1500,      /* first wait for one server; doubles */
	TRIES = 3,
	LOOK_US = 1000000,   /* how often resolv.conf is looked at */
	NUMERIC_TTL_S = 3600 /* of a name that is an address already */
};
#define RESOLV_CONF "/etc/resolv.conf"

#define OWNER(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* A socket of c-ares. */
struct sock {
	struct sock *next;
	struct watch watch;
	struct chan *chan;
};

/* A c-ares channel. When resolv.conf has changed there is a new one, and the old ones end with their last
 * query (1.18 cannot read it again). */
struct chan {
	struct chan *next;
	struct dns *dns;
	ares_channel ares;
	struct sock *socks;
	struct timer timer;
	struct task end;
	unsigned open; /* queries that c-ares still owes an answer to */
	bool old;
};

struct answer_at {
	union {
		struct sockaddr sa;
		struct sockaddr_in in4;
		struct sockaddr_in6 in6;
	};
	socklen_t len;
};

struct dns_query {
	struct dns_query *next, *prev;
	struct dns *dns;
	struct chan *chan; /* asked and not answered yet; NULL: none */
	struct task finish;
	struct timer timer;
	void (*done)(void *arg, const struct dns_answer *);
	void *arg;
	enum dns_want want;
	bool second;  /* the other family's turn, the first had nothing */
	bool passing; /* the first family's failure may pass */
	bool settled; /* the owner has been told, or does not want to be */
	bool ok, not_found;
	const char *why;
	uint32_t ttl_s;
	unsigned n;
	struct answer_at *at;
	char name[];
};

struct dns {
	struct loop *loop;
	struct chan *chans; /* the newest first */
	struct dns_query *queries;
	unsigned n_queries;
	char *servers; /* NULL: the system's */
	struct timespec conf_changed;
	ino_t conf_inode;
	uint64_t looked_us;
	const char *why; /* there is no channel */
	bool ending;
};

/* Sockets and time */

static void arm(struct chan *ch)
{
	struct timeval tv;
	if (!ares_timeout(ch->ares, NULL, &tv)) {
		timer_cancel(ch->dns->loop, &ch->timer);
		return;
	}
	timer_arm(ch->dns->loop, &ch->timer,
		  (uint64_t)tv.tv_sec * 1000000 + (uint64_t)tv.tv_usec + 1);
}

static void on_time(struct timer *t)
{
	struct chan *ch = OWNER(t, struct chan, timer);
	ares_process_fd(ch->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	arm(ch);
}

static void on_ready(struct watch *w, unsigned events)
{
	struct chan *ch = OWNER(w, struct sock, watch)->chan;
	int fd = w->fd;
	bool error = events & WATCH_ERROR;
	/* w may be gone afterwards. */
	ares_process_fd(ch->ares, events & WATCH_READ || error ? fd : ARES_SOCKET_BAD,
			events & WATCH_WRITE || error ? fd : ARES_SOCKET_BAD);
	arm(ch);
}

/* c-ares wants to hear of fd, or no more (it closes it afterwards). */
static void on_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct chan *ch = arg;
	struct loop *l = ch->dns->loop;
	unsigned interest = (readable ? WATCH_READ : 0u) | (writable ? WATCH_WRITE : 0u);
	struct sock **at = &ch->socks, *s;
	while (*at && (*at)->watch.fd != fd)
		at = &(*at)->next;
	s = *at;
	if (s && !interest) {
		*at = s->next;
		watch_del(l, &s->watch);
		mem_free(MEM_OTHER, s);
	} else if (s) {
		watch_set(l, &s->watch, interest);
	} else if (interest) {
		s = mem_zalloc(MEM_OTHER, sizeof *s);
		if (!s)
			return; /* the query times out */
		s->watch.ready = on_ready;
		s->chan = ch;
		if (!watch_add(l, &s->watch, fd, interest)) {
			mem_free(MEM_OTHER, s);
			return;
		}
		s->next = ch->socks;
		ch->socks = s;
	}
}

/* Channels */

static void chan_free(struct chan *ch)
{
	struct dns *d = ch->dns;
	struct chan **at = &d->chans;
	while (*at != ch)
		at = &(*at)->next;
	*at = ch->next;
	task_drop(d->loop, &ch->end);
	timer_cancel(d->loop, &ch->timer);
	ares_destroy(ch->ares); /* closes its sockets, each through on_socket */
	must(!ch->socks && !ch->open);
	mem_free(MEM_OTHER, ch);
}

static void chan_end(struct task *t)
{
	struct chan *ch = OWNER(t, struct chan, end);
	if (ch->old && !ch->open)
		chan_free(ch);
}

/* An old channel goes, but never from within one of its own callbacks. */
static void chan_idle(struct chan *ch)
{
	if (ch->old && !ch->open && !ch->dns->ending)
		later(ch->dns->loop, PHASE_RUN, &ch->end);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int library_status;

static void init_library(void)
{
	library_status = ares_library_init(ARES_LIB_INIT_ALL);
}

/* Puts a new channel in front. False: d->why. */
static bool chan_new(struct dns *d)
{
	pthread_once(&once, init_library);
	d->why = "out of memory";
	struct chan *ch = mem_zalloc(MEM_OTHER, sizeof *ch);
	if (!ch)
		return false;
	struct ares_options o = {.timeout = TRY_MS, .tries = TRIES};
	o.sock_state_cb = on_socket;
	o.sock_state_cb_data = ch;
	ch->dns = d;
	ch->timer.fire = on_time;
	ch->end.run = chan_end;
	int status = library_status
			     ? library_status
			     : ares_init_options(&ch->ares, &o,
						 ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS |
							 ARES_OPT_TRIES);
	if (status == ARES_SUCCESS && d->servers) {
		status = ares_set_servers_ports_csv(ch->ares, d->servers);
		if (status != ARES_SUCCESS)
			ares_destroy(ch->ares);
	}
	if (status != ARES_SUCCESS) {
		d->why = ares_strerror(status);
		mem_free(MEM_OTHER, ch);
		return false;
	}
	for (struct chan *old = d->chans; old; old = old->next) {
		old->old = true;
		chan_idle(old);
	}
	ch->next = d->chans;
	d->chans = ch;
	d->why = NULL;
	return true;
}

/* The channel to ask with; a new one when resolv.conf is another, or when there was none. */
static struct chan *current(struct dns *d)
{
	uint64_t now = loop_now_us(d->loop);
	if (!d->servers && (!d->looked_us || now - d->looked_us >= LOOK_US)) {
		struct stat st = {0};
		stat(RESOLV_CONF, &st);
		d->looked_us = now ? now : 1;
		if (d->conf_inode != st.st_ino || d->conf_changed.tv_sec != st.st_mtim.tv_sec ||
		    d->conf_changed.tv_nsec != st.st_mtim.tv_nsec) {
			d->conf_inode = st.st_ino;
			d->conf_changed = st.st_mtim;
			if (!chan_new(d)) /* the old one goes on */
				d->conf_inode = 0;
			return d->chans;
		}
	}
	if (!d->chans)
		chan_new(d);
	return d->chans;
}

/* Queries */

static void query_free(struct dns_query *q)
{
	struct dns *d = q->dns;
	must(!q->chan);
	timer_cancel(d->loop, &q->timer);
	task_drop(d->loop, &q->finish);
	if (q->next)
		q->next->prev = q->prev;
	if (q->prev)
		q->prev->next = q->next;
	else
		d->queries = q->next;
	d->n_queries--;
	mem_free(MEM_OTHER, q->at);
	mem_free(MEM_OTHER, q);
}

/* Tells the owner, who may ask, cancel and even free dns from there. c-ares may owe q an answer
 * still. */
static void query_finish(struct task *t)
{
	struct dns_query *q = OWNER(t, struct dns_query, finish);
	void (*done)(void *, const struct dns_answer *) = q->done;
	void *arg = q->arg;
	struct answer_at *at = q->at;
	struct dns_answer a = {.ok = q->ok,
			       .not_found = q->not_found,
			       .n = q->n,
			       .ttl_s = q->ttl_s,
			       .why = q->ok ? NULL : q->why};
	/* The header's element type has no name. */
	_Static_assert(sizeof *a.at == sizeof *at, "the same layout");
	a.at = (void *)at;
	q->at = NULL;
	q->settled = true;
	timer_cancel(q->dns->loop, &q->timer);
	if (!q->chan)
		query_free(q);
	done(arg, &a);
	mem_free(MEM_OTHER, at);
}

static void fail(struct dns_query *q, bool not_found, const char *why)
{
	q->ok = false;
	q->not_found = not_found;
	q->why = why;
	later(q->dns->loop, PHASE_RUN, &q->finish);
}

static void on_late(struct timer *t)
{
	struct dns_query *q = OWNER(t, struct dns_query, timer);
	if (!task_scheduled(&q->finish))
		fail(q, false, "timeout");
}

static bool add(struct dns_query *q, const struct sockaddr *sa)
{
	struct answer_at *at = &q->at[q->n];
	memset(at, 0, sizeof *at);
	if (sa->sa_family == AF_INET) {
		memcpy(&at->in4, sa, sizeof at->in4);
		at->in4.sin_port = 0;
		at->len = sizeof at->in4;
	} else if (sa->sa_family == AF_INET6) {
		memcpy(&at->in6, sa, sizeof at->in6);
		at->in6.sin6_port = 0;
		at->len = sizeof at->in6;
	} else {
		return false;
	}
	q->n++;
	return true;
}

/* False: no memory. */
static bool take(struct dns_query *q, const struct ares_addrinfo *info)
{
	unsigned n = 0;
	uint32_t ttl = UINT32_MAX;
	for (const struct ares_addrinfo_node *a = info->nodes; a && n < DNS_MAX_ADDRESSES;
	     a = a->ai_next)
		n++;
	if (!n)
		return true;
	q->at = mem_alloc(MEM_OTHER, n * sizeof *q->at);
	if (!q->at)
		return false;
	for (const struct ares_addrinfo_node *a = info->nodes; a && q->n < n; a = a->ai_next)
		if (add(q, a->ai_addr) && (uint32_t)(a->ai_ttl < 0 ? 0 : a->ai_ttl) < ttl)
			ttl = (uint32_t)(a->ai_ttl < 0 ? 0 : a->ai_ttl);
	for (const struct ares_addrinfo_cname *c = info->cnames; c; c = c->next)
		if ((uint32_t)(c->ttl < 0 ? 0 : c->ttl) < ttl)
			ttl = (uint32_t)(c->ttl < 0 ? 0 : c->ttl);
	q->ttl_s = q->n ? ttl : 0;
	return true;
}

static int family(const struct dns_query *q)
{
	switch (q->want) {
	case DNS_WANT_V4: return AF_INET;
	case DNS_WANT_V6: return AF_INET6;
	case DNS_WANT_ALL: return AF_UNSPEC;
	case DNS_WANT_AUTO: return q->second ? AF_INET : AF_INET6;
	case DNS_WANT_V4_FIRST: return q->second ? AF_INET6 : AF_INET;
	}
	return AF_UNSPEC;
}

static void ask(struct dns_query *q, struct chan *ch);

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct dns_query *q = arg;
	struct chan *ch = q->chan;
	q->chan = NULL;
	ch->open--;
	chan_idle(ch);
	if (q->settled) {
		ares_freeaddrinfo(info);
		query_free(q);
		return;
	}
	if (task_scheduled(&q->finish)) { /* too late, in the same turn */
		ares_freeaddrinfo(info);
		return;
	}
	bool memory = status != ARES_ENOMEM && (status != ARES_SUCCESS || take(q, info));
	ares_freeaddrinfo(info);
	/* A family that has no answer, or whose answer failed: the other one may have. */
	bool two = q->want == DNS_WANT_AUTO || q->want == DNS_WANT_V4_FIRST;
	bool nothing = status == ARES_SUCCESS || status == ARES_ENOTFOUND || status == ARES_ENODATA;
	if (memory && !q->n && two && !q->second && !ch->dns->ending) {
		q->second = true;
		q->passing = !nothing;
		ask(q, ch);
		return;
	}
	if (q->n) {
		q->ok = true;
		later(q->dns->loop, PHASE_RUN, &q->finish);
	} else if (!memory) {
		fail(q, false, "out of memory");
	} else {
		fail(q, nothing && !q->passing,
		     status == ARES_SUCCESS ? "no address" : ares_strerror(status));
	}
}

static void ask(struct dns_query *q, struct chan *ch)
{
	struct ares_addrinfo_hints hints = {.ai_family = family(q),
					    .ai_socktype = SOCK_STREAM,
					    .ai_flags = ARES_AI_NOSORT | ARES_AI_ENVHOSTS};
	q->chan = ch;
	ch->open++;
	ares_getaddrinfo(ch->ares, q->name, NULL, &hints, on_answer, q); /* may answer at once */
}

/* A name that is an address asks nobody. False: it is none. */
static bool numeric(struct dns_query *q)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in in4;
		struct sockaddr_in6 in6;
	} u;
	memset(&u, 0, sizeof u);
	if (inet_pton(AF_INET, q->name, &u.in4.sin_addr) == 1)
		u.sa.sa_family = AF_INET;
	else if (inet_pton(AF_INET6, q->name, &u.in6.sin6_addr) == 1)
		u.sa.sa_family = AF_INET6;
	else
		return false;
	int only = q->want == DNS_WANT_V4 ? AF_INET : q->want == DNS_WANT_V6 ? AF_INET6 : 0;
	if (only && only != u.sa.sa_family) {
		fail(q, true, "an address of the other family");
		return true;
	}
	q->at = mem_alloc(MEM_OTHER, sizeof *q->at);
	if (!q->at) {
		fail(q, false, "out of memory");
		return true;
	}
	add(q, &u.sa);
	q->ttl_s = NUMERIC_TTL_S;
	q->ok = true;
	later(q->dns->loop, PHASE_RUN, &q->finish);
	return true;
}

struct dns_query *dns_ask(struct dns *d, const char *name, enum dns_want want, uint64_t timeout_us,
			  void (*done)(void *arg, const struct dns_answer *), void *arg)
{
	size_t n = strlen(name);
	if (!d || d->n_queries >= MAX_QUERIES)
		return NULL;
	struct dns_query *q = mem_zalloc(MEM_OTHER, sizeof *q + n + 1);
	if (!q)
		return NULL;
	memcpy(q->name, name, n + 1);
	q->dns = d;
	q->want = want;
	q->done = done;
	q->arg = arg;
	q->finish.run = query_finish;
	q->timer.fire = on_late;
	q->next = d->queries;
	if (q->next)
		q->next->prev = q;
	d->queries = q;
	d->n_queries++;
	if (numeric(q))
		return q;
	struct chan *ch = current(d);
	if (!ch) {
		fail(q, false, d->why);
		return q;
	}
	if (timeout_us)
		timer_arm(d->loop, &q->timer, timeout_us);
	ask(q, ch);
	arm(ch);
	return q;
}

void dns_cancel(struct dns_query *q)
{
	if (!q || q->settled)
		return;
	q->settled = true;
	timer_cancel(q->dns->loop, &q->timer);
	task_drop(q->dns->loop, &q->finish);
	if (!q->chan) /* else c-ares still refers to it */
		query_free(q);
}

struct dns *dns_new(struct loop *l, const char *servers)
{
	struct dns *d = mem_zalloc(MEM_OTHER, sizeof *d);
	if (!d)
		return NULL;
	d->loop = l;
	if (servers && *servers) {
		d->servers = mem_strndup(MEM_OTHER, servers, strlen(servers));
		if (!d->servers) {
			mem_free(MEM_OTHER, d);
			return NULL;
		}
	}
	return d;
}

void dns_free(struct dns *d)
{
	if (!d)
		return;
	d->ending = true;
	for (struct dns_query *q = d->queries, *next; q; q = next) {
		next = q->next;
		dns_cancel(q);
	}
	while (d->chans)
		chan_free(d->chans);
	must(!d->queries);
	mem_free(MEM_OTHER, d->servers);
	mem_free(MEM_OTHER, d);
}
