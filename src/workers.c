/* src/workers.c */
#include "workers.h"
#include "base/chain.h"
#include "base/mem.h"
#include "base/must.h"
#include "base/pressure.h"
#include "obs/log.h"
#include "obs/sink.h"
#include "obs/stats.h"
#include "upstream/upstream.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#define FLUSH_US 1000000ull
#define PRESSURE_US 100000ull /* robustness.md 8 */
#define STACK_BYTES ((size_t)16 << 20)

struct worker {
	struct workers *all;
	unsigned index;
	pthread_t thread;
	struct loop *loop;
	struct exch_env env;
	struct upstream *upstream;
	struct front *front;
	struct timer flush;
	atomic_uint clients;
	struct post stop;
};
struct workers {
	struct loop *main_loop;
	unsigned n;
	bool started;
	const struct model *model;
	struct sockets *sockets;
	struct worker worker[];
};

/* One publication: a post per worker; the last one to carry it out hands it back to the main
 * thread, which closes what is left over. */
struct publication {
	struct post back;
	struct workers *all;
	const struct model *model;
	struct sockets *sockets, *old;
	atomic_uint left;
	struct publication_post {
		struct post post;
		struct publication *of;
		struct worker *worker;
	} posts[];
};

static void count_clients(struct worker *w)
{
	atomic_store_explicit(&w->clients, front_clients(w->front), memory_order_relaxed);
}

static uint64_t flush_after(const struct worker *w)
{
	return w->env.draining                    ? FLUSH_US / 20
	       : w->env.pressure >= PRESSURE_LEAN ? PRESSURE_US
						  : FLUSH_US;
}

static void flush(struct timer *t)
{
	struct worker *w = (struct worker *)((char *)t - offsetof(struct worker, flush));
	sink_flush_thread();
	count_clients(w);
	timer_arm(w->loop, t, flush_after(w));
}

/* A busy worker looks every 100 ms, one that sleeps when flush wakes it. */
static void feel_pressure(void *arg)
{
	struct worker *w = arg;
	struct pressure p = pressure_read();
	unsigned before = w->env.pressure, now = pressure_percent(&p);
	w->env.pressure = (uint8_t)now;
	if (__builtin_expect(now < PRESSURE_LEAN && before < PRESSURE_LEAN, 1))
		return;
	if (before < PRESSURE_LEAN) {
		log_limited(LOG_MAIN, LOG_WARNING, "overload",
			    "overload: heap %u %% of its limit, descriptors %u %%", p.heap,
			    p.descriptors);
		if (w->env.lua)
			w->env.lua_collect(w->env.lua);
		timer_arm(w->loop, &w->flush, flush_after(w));
	}
	upstream_pressure(w->upstream, now);
	front_pressure(w->front);
	uint64_t calm = p.heap_limit / 100 * PRESSURE_REFUSE;
	if (p.heap >= PRESSURE_CUT && p.heap_bytes > calm)
		exch_shed(&w->env, (p.heap_bytes - calm) / w->all->n + 1);
}

static void *thread_main(void *arg)
{
	struct worker *w = arg;
	char name[16];
	snprintf(name, sizeof name, "wrk:%u", w->index);
	pthread_setname_np(pthread_self(), name);
	w->flush.fire = flush;
	timer_arm(w->loop, &w->flush, FLUSH_US);
	loop_beat(w->loop, PRESSURE_US, feel_pressure, w);
	loop_run(w->loop);
	/* front is closed; what died has been buried */
	loop_beat(w->loop, 0, NULL, NULL);
	timer_cancel(w->loop, &w->flush);
	loop_turn(w->loop, 0);
	exch_env_fini(&w->env);
	loop_turn(w->loop, 0);
	upstream_free(w->upstream);
	loop_turn(w->loop, 0);
	front_free(w->front);
	loop_free(w->loop);
	sink_flush_thread();
	arena_trim();
	chain_trim();
	return NULL;
}

struct workers *workers_new(struct loop *main_loop, unsigned n)
{
	struct workers *ws = mem_zalloc(MEM_OTHER, sizeof *ws + n * sizeof ws->worker[0]);
	if (!ws)
		return NULL;
	ws->main_loop = main_loop;
	ws->n = n;
	return ws;
}

static bool start(struct worker *w, const struct model *m, const struct sockets *s)
{
	w->loop = loop_new(w->index);
	if (!w->loop)
		return false;
	w->upstream = upstream_new(w->loop, m);
	w->env = (struct exch_env){
		.loop = w->loop, .upstream = w->upstream, .worker = w->index, .workers = w->all->n};
	if (!w->upstream)
		return false;
	w->front = front_new(w->loop, &w->env, m, s);
	if (!w->front)
		return false;
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	/* The limit of the environment may be any: scripts are told by how much of the stack they use
	 * (guard_stack), and what LuaJIT itself calls back may take some megabytes more. */
	pthread_attr_t attr;
	bool ok = pthread_attr_init(&attr) == 0 &&
		  pthread_attr_setstacksize(&attr, STACK_BYTES) == 0 &&
		  pthread_create(&w->thread, &attr, thread_main, w) == 0;
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ok;
}

static void published(struct post *p, struct loop *l)
{
	struct publication *pub = (struct publication *)p;
	sockets_free(pub->old);
	model_unref(pub->model);
	mem_free(MEM_OTHER, pub);
}

static void swap(struct post *p, struct loop *l)
{
	struct publication_post *pp = (struct publication_post *)p;
	struct publication *pub = pp->of;
	upstream_swap(pp->worker->upstream, pub->model);
	front_swap(pp->worker->front, pub->model, pub->sockets);
	if (atomic_fetch_sub(&pub->left, 1) == 1) {
		pub->back.run = published;
		loop_post(pub->all->main_loop, &pub->back);
	}
}

bool workers_publish(struct workers *ws, const struct model *m, struct sockets *s)
{
	const struct model *old_model = ws->model;
	struct sockets *old = ws->sockets;
	if (!ws->started) {
		ws->model = m;
		ws->sockets = s;
		ws->started = true;
		for (unsigned i = 0; i < ws->n; i++) {
			ws->worker[i].all = ws;
			ws->worker[i].index = i;
			if (!start(&ws->worker[i], m, s)) {
				log_line(LOG_MAIN, LOG_CRITICAL, "worker %u cannot be started", i);
				return false;
			}
		}
		return true;
	}
	struct publication *pub = mem_zalloc(MEM_OTHER, sizeof *pub + ws->n * sizeof pub->posts[0]);
	if (!pub)
		return false;
	pub->all = ws;
	pub->model = model_ref(m);
	pub->sockets = s;
	pub->old = old;
	atomic_store(&pub->left, ws->n);
	ws->model = m;
	ws->sockets = s;
	for (unsigned i = 0; i < ws->n; i++) {
		pub->posts[i].post.run = swap;
		pub->posts[i].of = pub;
		pub->posts[i].worker = &ws->worker[i];
		loop_post(ws->worker[i].loop, &pub->posts[i].post);
	}
	model_unref(old_model);
	return true;
}

/* An order to one worker, freed when it has been carried out. */
struct drain_order {
	struct post post;
	struct worker *worker;
	bool listeners_too;
};

static void drain(struct post *p, struct loop *l)
{
	struct drain_order *o = (struct drain_order *)p;
	struct worker *w = o->worker;
	front_drain(w->front, o->listeners_too);
	if (o->listeners_too)
		upstream_drain(w->upstream);
	count_clients(w);
	timer_arm(w->loop, &w->flush, FLUSH_US / 20);
	mem_free(MEM_OTHER, o);
}

void workers_drain(struct workers *ws, bool listeners_too)
{
	for (unsigned i = 0; i < ws->n; i++) {
		struct worker *w = &ws->worker[i];
		struct drain_order *o = mem_zalloc(MEM_OTHER, sizeof *o);
		if (!o)
			continue;             /* the hard stop still ends it */
		atomic_store(&w->clients, 1); /* until it has said otherwise */
		o->post.run = drain;
		o->worker = w;
		o->listeners_too = listeners_too;
		loop_post(w->loop, &o->post);
	}
}

unsigned workers_clients(const struct workers *ws)
{
	unsigned n = 0;
	for (unsigned i = 0; i < ws->n; i++)
		n += atomic_load_explicit(&ws->worker[i].clients, memory_order_relaxed);
	return n;
}

struct sockets *workers_sockets(const struct workers *ws)
{
	return ws->sockets;
}

const struct model *workers_model(const struct workers *ws)
{
	return ws->model;
}

static void stop(struct post *p, struct loop *l)
{
	struct worker *w = (struct worker *)((char *)p - offsetof(struct worker, stop));
	front_close(w->front);
	loop_stop(l);
}

void workers_stop(struct workers *ws)
{
	for (unsigned i = 0; i < ws->n && ws->started; i++) {
		struct worker *w = &ws->worker[i];
		if (!w->loop || !w->front)
			continue;
		w->stop.run = stop;
		loop_post(w->loop, &w->stop);
		pthread_join(w->thread, NULL);
	}
	sockets_free(ws->sockets);
	if (ws->model)
		model_unref(ws->model);
	mem_free(MEM_OTHER, ws);
}
