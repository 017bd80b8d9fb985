/* src/front/front.c: accepting, the life of a client connection, following model swaps. */
#include "base/mem.h"
#include "base/must.h"
#include "front/front_int.h"
#include "front/sockets_int.h"
#include "obs/log.h"
#include "obs/stats.h"

enum { SPARE_CLIENTS = 256 };

static void got(struct acceptor *a, int fd, const struct sockaddr *peer, socklen_t len);
static void bury_client(struct grave *g);

/* --- clients --- */

static void ready(struct conn *conn)
{
	struct client *c = (struct client *)conn;
	if (c->h2)
		h2_client_ready(c);
	else
		h1_client_ready(c);
}

static void writable(struct conn *conn)
{
	struct client *c = (struct client *)conn;
	if (c->h2)
		h2_client_writable(c);
	else if (c->work)
		later(c->front->loop, PHASE_WRITE, &c->work->write);
}

static void established(struct conn *conn)
{
	struct client *c = (struct client *)conn;
	struct front *f = c->front;
	stat_add(c->listener->ssl_handshake, 1);
	stat_add(c->hcm->stats->cx_ssl, 1);
	timer_cancel(f->loop, &c->timer);
	struct arena scratch;
	arena_init(&scratch, 4096);
	struct str sni = tls_text(conn, TLS_SNI, &scratch);
	if (sni.n)
		c->sni = mem_strndup(MEM_CONN, sni.p, sni.n);
	arena_fini(&scratch);
	h1_client_start(c);
	c->active_us = loop_now_us(f->loop);
	if (c->hcm->idle_timeout_us)
		client_timer(c, c->hcm->idle_timeout_us);
	bool h2 = strcmp(conn->alpn, "h2") == 0 || c->hcm->codec == CODEC_H2;
	if (h2) {
		if (!h2_client_start(c)) {
			client_close(c, true);
			return;
		}
	} else {
		stat_add(c->hcm->stats->cx_http1, 1);
	}
	if (conn_pending(conn) && client_work(c))
		later(f->loop, PHASE_AGAIN, &c->work->again);
}

static void failed(struct conn *conn)
{
	struct client *c = (struct client *)conn;
	char b[SOCKNAME_TEXT];
	if (conn->failure.kind == FAILED_TLS) {
		struct str remote = client_remote(c, b);
		stat_add(c->listener->ssl_error, 1);
		log_limited(LOG_CONN, LOG_INFO, "tls.handshake",
			    "[C%llu] tls.handshake from %.*s on %.*s: %s",
			    (unsigned long long)c->id, STR_ARG(remote), STR_ARG(c->listener->name),
			    conn->failure.step ? conn->failure.step : "failed");
	}
	client_close(c, false);
}

const struct conn_ops client_ops = {
	.ready = ready, .writable = writable, .established = established, .failed = failed};

static void timer_fired(struct timer *t)
{
	struct client *c = (struct client *)((char *)t - offsetof(struct client, timer));
	if (c->state == CLIENT_DEAD)
		return;
	if (c->h2)
		h2_client_timer(c);
	else
		h1_client_timer(c);
}

void client_timer(struct client *c, uint64_t after_us)
{
	timer_arm(c->front->loop, &c->timer, after_us);
}

void client_close(struct client *c, bool reset)
{
	struct front *f = c->front;
	if (c->state == CLIENT_DEAD)
		return;
	c->state = CLIENT_DEAD;
	if (c->h2)
		h2_client_gone(c);
	h1_client_gone(c);
	timer_cancel(f->loop, &c->timer);
	stat_add(c->hcm->stats->cx_destroy, 1);
	stat_sub(c->hcm->stats->cx_active, 1);
	stat_sub(c->listener->cx_active, 1);
	stat_record(c->hcm->stats->cx_length_ms, (loop_now_us(f->loop) - c->conn.born_us) / 1000);
	conn_close(&c->conn, reset);
	acceptor_room(f->loop);
	if (c->prev)
		c->prev->next = c->next;
	else
		f->clients = c->next;
	if (c->next)
		c->next->prev = c->prev;
	if (c->is_admin)
		f->nadmin--;
	else
		f->nclients--;
	c->grave.bury = bury_client;
	reap(f->loop, &c->grave);
}

/* --- work --- */

static const struct address *accepted_at(const struct client *c)
{
	return &c->listener->addresses[c->accepting_address];
}

static bool wildcard(const struct address *a)
{
	if (a->sa.sa_family == AF_INET)
		return a->in4.sin_addr.s_addr == 0;
	if (a->sa.sa_family == AF_INET6)
		return IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
	return false;
}

/* The end of an accepted socket that is ours; the conn need not be open yet. */
static bool socket_name(int fd, union sock_name *out)
{
	union {
		struct sockaddr_storage any;
		union sock_name name;
	} u;
	socklen_t len = sizeof u;
	if (getsockname(fd, (struct sockaddr *)&u.any, &len) ||
	    (u.any.ss_family != AF_INET && u.any.ss_family != AF_INET6))
		return false;
	*out = u.name;
	sock_name_unmap(out);
	return true;
}

/* Our end: what the listener says, unless that leaves the address or the port open. */
static void local_name(const struct client *c, union sock_name *out)
{
	const struct address *a = accepted_at(c);
	memset(out, 0, sizeof *out);
	if (a->len <= sizeof *out && !wildcard(a) && sockets_port(a))
		memcpy(out, &a->any, a->len);
	else if (!socket_name(c->conn.watch.fd, out))
		out->sa.sa_family = AF_UNIX;
}

struct str client_remote(const struct client *c, char *out)
{
	size_t n = sockname_text(&c->remote_sa.sa, sizeof c->remote_sa, out);
	if (c->remote_sa.sa.sa_family == AF_UNIX)
		out[n++] = '/'; /* an unnamed unix peer */
	return (struct str){out, n};
}

static struct str keep_name(char *to, struct str name)
{
	size_t n = name.n < WORK_NAME ? name.n : WORK_NAME;
	memcpy(to, name.p, n);
	return (struct str){to, n};
}

void client_busy(struct client *c)
{
	struct front *f = c->front;
	struct work *w = c->work;
	if (!w || !w->idle)
		return;
	*(w->prev ? &w->prev->next : &f->idle_first) = w->next;
	*(w->next ? &w->next->prev : &f->idle_last) = w->prev;
	w->next = w->prev = NULL;
	w->idle = false;
	f->nidle--;
}

static void drop_work(struct client *c)
{
	struct front *f = c->front;
	struct work *w = c->work;
	if (!w)
		return;
	client_busy(c);
	c->work = NULL;
	if (f->nspare_works < SPARE_WORKS) {
		w->next = f->spare_works;
		f->spare_works = w;
		f->nspare_works++;
	} else {
		mem_free(MEM_CONN, w);
	}
}

void client_idle(struct client *c)
{
	struct front *f = c->front;
	struct work *w = c->work;
	if (!w || w->idle || c->state != CLIENT_IDLE || task_scheduled(&w->write) ||
	    task_scheduled(&w->again) || task_scheduled(&w->again_write))
		return;
	w->idle = true;
	w->next = NULL;
	w->prev = f->idle_last;
	*(f->idle_last ? &f->idle_last->next : &f->idle_first) = w;
	f->idle_last = w;
	if (++f->nidle > IDLE_WORKS)
		drop_work(f->idle_first->client);
}

/* Our end's text, of the connections of one listener the same again and again. */
static struct str local_text(const union sock_name *sa)
{
	static _Thread_local struct {
		union sock_name sa;
		size_t n;
		char text[SOCKNAME_TEXT];
	} seen;
	if (!seen.n || memcmp(&seen.sa, sa, sizeof seen.sa) != 0) {
		seen.sa = *sa;
		seen.n = sockname_text(&sa->sa, sizeof *sa, seen.text);
	}
	return (struct str){seen.text, seen.n};
}

struct work *client_work(struct client *c)
{
	struct front *f = c->front;
	struct work *w = c->work;
	char b[SOCKNAME_TEXT];
	if (w) {
		client_busy(c);
		return w;
	}
	w = f->spare_works;
	if (w) {
		f->spare_works = w->next;
		f->nspare_works--;
		memset(w, 0, sizeof *w);
	} else {
		w = mem_zalloc(MEM_CONN, sizeof *w);
		if (!w)
			return NULL;
	}
	c->work = w;
	w->client = c;
	h1_work_start(w);
	local_name(c, &w->local_sa);
	w->peer.remote = keep_name(w->names, client_remote(c, b));
	w->peer.local = keep_name(w->names + WORK_NAME, local_text(&w->local_sa));
	w->peer.remote_sa = &c->remote_sa.sa;
	w->peer.local_sa = &w->local_sa.sa;
	w->peer.tls = c->tls;
	if (c->sni)
		w->peer.sni = str_of(c->sni);
	w->peer.connection_id = c->id;
	w->peer.listener = c->listener;
	w->peer.buffer_limit = c->listener->buffer_limit;
	w->peer.has_inspector = c->listener->tls_inspector;
	return w;
}

static void bury_client(struct grave *g)
{
	struct client *c = (struct client *)((char *)g - offsetof(struct client, grave));
	struct front *f = c->front;
	drop_work(c);
	model_unref(c->model);
	mem_free(MEM_CONN, c->sni);
	if (f->nspare < SPARE_CLIENTS) {
		c->next = f->spare;
		f->spare = c;
		f->nspare++;
	} else {
		mem_free(MEM_CONN, c);
	}
}

static struct client *take_client(struct front *f)
{
	struct client *c = f->spare;
	if (!c)
		return mem_zalloc(MEM_CONN, sizeof *c);
	f->spare = c->next;
	f->nspare--;
	memset(c, 0, sizeof *c);
	return c;
}

static struct tls_ctx *pick_chain(void *arg, struct conn *conn, struct str sni,
				  const struct str *alpns, unsigned n);

static void got(struct acceptor *acc, int fd, const struct sockaddr *peer, socklen_t len)
{
	struct accepting *a = (struct accepting *)acc;
	struct front *f = a->front;
	const struct listener_cfg *l = a->listener;
	struct client *c = take_client(f);
	stat_add(l->cx_total, 1);
	if (!c) {
		stat_add(l->cx_overflow, 1);
		close(fd);
		return;
	}
	c->front = f;
	c->listener = l;
	c->accepting_address = (uint16_t)a->address;
	c->timer.fire = timer_fired;
	c->id = ++f->next_id * f->env->workers + f->env->worker;
	if (peer->sa_family == AF_INET || peer->sa_family == AF_INET6)
		memcpy(&c->remote_sa, peer, len < sizeof c->remote_sa ? len : sizeof c->remote_sa);
	else
		c->remote_sa.sa.sa_family = AF_UNIX;
	struct tls_ctx *tls = NULL;
	c->chain = sockets_first_chain(l, fd, &c->remote_sa.sa, &tls);
	if (!c->chain) {
		stat_add(l->no_chain, 1);
		close(fd);
		c->next = f->spare;
		f->spare = c;
		f->nspare++;
		return;
	}
	c->model = model_ref(f->model);
	c->hcm = c->chain->hcm;
	c->is_admin = l->is_admin;
	c->tls = tls != NULL;
	c->next = f->clients;
	if (c->next)
		c->next->prev = c;
	f->clients = c;
	if (c->is_admin)
		f->nadmin++;
	else
		f->nclients++;
	stat_add(l->cx_active, 1);
	stat_add(c->hcm->stats->cx_total, 1);
	stat_add(c->hcm->stats->cx_active, 1);
	uint64_t handshake = c->chain->handshake_us ? c->chain->handshake_us : LIMIT_HANDSHAKE_US;
	h1_client_start(c);
	c->state = tls ? CLIENT_HANDSHAKE : CLIENT_IDLE;
	if (!conn_accept(&c->conn, f->loop, fd, &client_ops, tls, handshake)) {
		client_close(c, false);
		return;
	}
	c->active_us = c->conn.born_us;
	if (!tls) {
		stat_add(c->hcm->stats->cx_http1, 1);
		if (c->hcm->codec == CODEC_H2 && !h2_client_start(c)) {
			client_close(c, true);
			return;
		}
		if (c->hcm->idle_timeout_us)
			client_timer(c, c->hcm->idle_timeout_us);
	}
}

/* In the handshake: the chain that serves this name. arg: the listener. */
static struct tls_ctx *pick_chain(void *arg, struct conn *conn, struct str sni,
				  const struct str *alpns, unsigned n)
{
	struct client *c = (struct client *)conn;
	const struct listener_cfg *l = arg;
	struct chain_ask ask = {
		.sni = sni, .alpns = (struct str *)(uintptr_t)alpns, .nalpns = n, .tls = true};
	struct address local = {0}, remote = {0};
	union sock_name ours;
	local_name(c, &ours);
	memcpy(&local.any, &ours, sizeof ours);
	memcpy(&remote.any, &c->remote_sa, sizeof c->remote_sa);
	local.len = remote.len = sizeof ours;
	ask.local = &local;
	ask.remote = &remote;
	const struct chain_cfg *chain = model_chain_for(l, &ask);
	if (!chain || !chain->tls) {
		stat_add(l->no_chain, 1);
		return NULL;
	}
	if (chain != c->chain) {
		stat_sub(c->hcm->stats->cx_active, 1);
		c->chain = chain;
		c->hcm = chain->hcm;
		stat_add(c->hcm->stats->cx_total, 1);
		stat_add(c->hcm->stats->cx_active, 1);
	}
	return chain->tls->ctx;
}

struct tls_ctx *front_picker(struct listener_cfg *l)
{
	return tls_picker_new(pick_chain, l);
}

/* --- model swaps --- */

static bool same_address(const struct address *a, const struct address *b)
{
	return str_eq(a->text, b->text);
}

static const struct listener_cfg *
same_listener(const struct model *m, const struct listener_cfg *old, unsigned address, unsigned *at)
{
	for (unsigned i = 0; i < m->nlisteners; i++)
		for (unsigned k = 0; k < m->listeners[i]->naddresses; k++)
			if (same_address(&m->listeners[i]->addresses[k],
					 &old->addresses[address])) {
				*at = k;
				return m->listeners[i];
			}
	return NULL;
}

static const struct chain_cfg *same_chain(const struct listener_cfg *l, const struct client *c)
{
	struct str sni = c->sni ? str_of(c->sni) : (struct str){"", 0};
	struct str alpn = str_of(c->conn.alpn);
	struct address local = {0}, remote = {0};
	union sock_name ours;
	local_name(c, &ours);
	memcpy(&local.any, &ours, sizeof ours);
	memcpy(&remote.any, &c->remote_sa, sizeof c->remote_sa);
	local.len = remote.len = sizeof ours;
	struct chain_ask ask = {.sni = sni,
				.alpns = &alpn,
				.nalpns = alpn.n ? 1 : 0,
				.tls = c->tls,
				.local = &local,
				.remote = &remote};
	const struct chain_cfg *chain = model_chain_for(l, &ask);
	return chain && (chain->tls != NULL) == c->tls ? chain : NULL;
}

bool client_renew(struct client *c)
{
	struct front *f = c->front;
	unsigned at = 0;
	if (c->model == f->model)
		return true;
	const struct listener_cfg *l =
		same_listener(f->model, c->listener, c->accepting_address, &at);
	const struct chain_cfg *chain = l ? same_chain(l, c) : NULL;
	if (!chain) { /* gone: this connection ends after the request it has begun */
		c->close_after = true;
		return true;
	}
	stat_sub(c->hcm->stats->cx_active, 1);
	stat_sub(c->listener->cx_active, 1);
	const struct model *old = c->model;
	c->model = model_ref(f->model);
	c->listener = l;
	c->chain = chain;
	c->hcm = chain->hcm;
	c->accepting_address = (uint16_t)at;
	if (c->work) {
		c->work->peer.listener = l;
		c->work->peer.buffer_limit = l->buffer_limit;
		c->work->peer.has_inspector = l->tls_inspector;
	}
	stat_add(c->hcm->stats->cx_active, 1);
	stat_add(l->cx_active, 1);
	model_unref(old);
	return true;
}

static void start_accepting(struct front *f, const struct listener_cfg *l, unsigned address, int fd)
{
	struct accepting *a = mem_zalloc(MEM_CONN, sizeof *a);
	if (!a) {
		log_line(LOG_MAIN, LOG_CRITICAL, "no memory to listen on %.*s",
			 STR_ARG(l->addresses[address].text));
		return;
	}
	a->front = f;
	a->listener = l;
	a->address = address;
	a->fd = fd;
	a->next = f->accepting;
	f->accepting = a;
	if (!acceptor_start(&a->acceptor, f->loop, fd, got))
		log_line(LOG_MAIN, LOG_CRITICAL, "cannot watch the listener on %.*s",
			 STR_ARG(l->addresses[address].text));
}

static void adopt(struct front *f, const struct sockets *s)
{
	const struct model *m = f->model;
	for (struct accepting *a = f->accepting; a; a = a->next)
		a->dead = true;
	for (unsigned i = 0; i < m->nlisteners; i++) {
		const struct listener_cfg *l = m->listeners[i];
		for (unsigned k = 0; k < l->naddresses; k++) {
			/* another listener may be bound to the address of one that is not */
			int fd = l->bind_to_port ? sockets_fd(s, l, k, f->env->worker) : -1;
			struct accepting *a = f->accepting;
			if (fd < 0)
				continue;
			while (a && a->fd != fd)
				a = a->next;
			if (a) {
				a->listener = l;
				a->address = k;
				a->dead = false;
			} else {
				start_accepting(f, l, k, fd);
			}
		}
	}
	struct accepting **at = &f->accepting;
	while (*at) {
		struct accepting *a = *at;
		if (!a->dead) {
			at = &a->next;
			continue;
		}
		*at = a->next;
		acceptor_stop(&a->acceptor);
		mem_free(MEM_CONN, a);
	}
}

struct front *front_new(struct loop *l, struct exch_env *env, const struct model *m,
			const struct sockets *s)
{
	struct front *f = mem_zalloc(MEM_CONN, sizeof *f);
	if (!f)
		return NULL;
	f->loop = l;
	f->env = env;
	f->model = model_ref(m);
	adopt(f, s);
	return f;
}

void front_swap(struct front *f, const struct model *m, const struct sockets *s)
{
	const struct model *old = f->model;
	f->model = model_ref(m);
	if (!f->stopped)
		adopt(f, s);
	/* clients of listeners that went away are told on their next answer; idle ones close now */
	for (struct client *c = f->clients, *next; c; c = next) {
		unsigned at;
		next = c->next;
		if (same_listener(m, c->listener, c->accepting_address, &at))
			continue;
		if (c->h2)
			h2_client_drain(c, true);
		else if (c->state == CLIENT_IDLE)
			client_close(c, false);
		else
			c->close_after = true;
	}
	model_unref(old);
}

void front_drain(struct front *f, bool listeners_too)
{
	f->draining = f->env->draining = true;
	if (listeners_too && !f->stopped) {
		f->stopped = true;
		struct accepting **at = &f->accepting;
		while (*at) {
			struct accepting *a = *at;
			if (a->listener->is_admin) {
				at = &a->next;
				continue;
			}
			*at = a->next;
			acceptor_stop(&a->acceptor);
			/* the main thread has it open still: nobody shall wait in its queue */
			shutdown(a->fd, SHUT_RDWR);
			mem_free(MEM_CONN, a);
		}
	}
	for (struct client *c = f->clients, *next; c; c = next) {
		next = c->next;
		if (c->is_admin)
			continue;
		if (c->h2)
			h2_client_drain(c, listeners_too);
		else
			h1_client_drain(c);
	}
}

uint64_t client_idle_us(const struct client *c)
{
	bool lean = c->front->env->pressure >= PRESSURE_LEAN && !c->is_admin;
	return lean ? c->hcm->idle_timeout_us / 10 : c->hcm->idle_timeout_us;
}

void front_pressure(struct front *f)
{
	unsigned percent = f->env->pressure;
	for (struct accepting *a = f->accepting; a; a = a->next)
		if (!a->listener->is_admin)
			acceptor_pause(&a->acceptor, percent >= PRESSURE_DEAF);
	if (percent < PRESSURE_LEAN)
		return;
	for (struct client *c = f->clients, *next; c; c = next) {
		next = c->next;
		if (c->is_admin)
			continue;
		if (c->h2 && percent >= PRESSURE_LAST_REQUEST)
			h2_client_drain(c, false);
		if (c->h2)
			h2_client_timer(c); /* client_idle_us has become shorter */
		else if (c->state == CLIENT_IDLE)
			h1_client_timer(c);
	}
}

unsigned front_clients(const struct front *f)
{
	return f->nclients;
}

void front_close(struct front *f)
{
	while (f->accepting) {
		struct accepting *a = f->accepting;
		f->accepting = a->next;
		acceptor_stop(&a->acceptor);
		mem_free(MEM_CONN, a);
	}
	while (f->clients)
		client_close(f->clients, true);
}

void front_free(struct front *f)
{
	must(!f->clients);
	while (f->spare_works) {
		struct work *w = f->spare_works;
		f->spare_works = w->next;
		mem_free(MEM_CONN, w);
	}
	while (f->spare) {
		struct client *c = f->spare;
		f->spare = c->next;
		mem_free(MEM_CONN, c);
	}
	model_unref(f->model);
	mem_free(MEM_CONN, f);
}
