/* src/filters/fallback/fallback_test.h: the filter before a real router and real calls; the clients are fakes, the origins are sockets that the
 * test plays between turns, and time stands still unless the test lets it pass. */
#pragma once
#pragma GCC diagnostic ignored "-Wunused-function" /* no test needs all of it */
#include "base/hash.h"
#include "base/mem.h"
#include "base/must.h"
#include "filters/fallback/fallback_int.h"
#include "filters/filters.h"
#include "obs/log.h"
#include "upstream/origin_test.h"
#include "upstream/upstream.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ORIGINS = 3 }; /* the primary, two fallbacks */

/* ---- the gateway: one of everything */

struct world {
	struct loop *loop;
	struct exch_env env;
	struct model *model;
	struct upstream *up;
	struct filter_cfg filters[2];
	struct hcm_cfg hcm;
	struct hcm_stats stats;
	struct route_config routes;
	struct vhost vhost;
	struct route route, *route_list[1];
	struct fb_cfg cfg;
	struct cluster_cfg *clusters[ORIGINS];
	struct exch_peer peer;
};

static void statuses_put(struct statuses *s, unsigned n)
{
	s->bits[n / 64] |= 1ull << (n % 64);
}

/* As config_compile_fallback's defaults, small where a limit shall be met. */
static void world_policy(struct world *w)
{
	static struct str login[1];
	struct fb_cfg *cfg = &w->cfg;
	login[0] = STR("wordpress_logged_in_");
	*cfg = (struct fb_cfg){.degraded_status = 404,
			       .memory_bytes = 65536,
			       .spool_bytes = 33554432,
			       .hold_bytes = 65536,
			       .hold_total = 67108864,
			       .drain_bytes = 131072,
			       .max_entries = 64,
			       .hint_budget = 100,
			       .private_cookies = login,
			       .nprivate_cookies = 1,
			       .breaker_open_us = 1000000,
			       .policy = STR("t"),
			       .other_methods = METHOD_DIRECT};
	statuses_put(&cfg->trigger, 404);
	for (unsigned i = 0; i < 4; i++)
		statuses_put(&cfg->try_trigger, (unsigned[]){403, 404, 405, 501}[i]);
	for (unsigned i = 1; i < ORIGINS; i++) {
		struct fb_origin *o = &cfg->origins[i - 1];
		o->cluster = w->clusters[i];
		o->header_timeout_us = 5000000;
		statuses_put(&o->keep, 404);
	}
	cfg->norigins = 1;
	cfg->quick = true;
	cfg->shared = shared_open(cfg->policy, 64, 10);
	must(cfg->shared);
}

static void world_up(struct world *w, const struct listening *const at[ORIGINS], unsigned pass)
{
	static const char *const names[ORIGINS] = {"p", "a", "b"};
	struct diags d;
	memset(w, 0, sizeof *w);
	virtual_us = 1000000000;
	w->loop = loop_new(0);
	w->model = model_new();
	must(w->loop && w->model);
	loop_set_pass(w->loop, pass);
	loop_set_clock(w->loop, read_virtual, NULL);
	w->model->options.max_interim = 32;
	for (unsigned i = 0; i < ORIGINS; i++)
		w->clusters[i] = cluster_new(w->model, names[i], &at[i], 1);
	diags_init(&d);
	must(upstream_prepare(w->model, &d));
	struct compile c = {.arena = &w->model->arena, .diags = &d, .model = w->model};
	world_policy(w);
	w->filters[0] = (struct filter_cfg){
		.type = &filter_fallback, .index = 0, .hcm = &w->hcm, .config = &w->cfg};
	w->filters[1] = (struct filter_cfg){.type = &filter_router,
					    .index = 1,
					    .hcm = &w->hcm,
					    .config = filter_router.compile(&c, NULL)};
	diags_fini(&d);
	w->up = upstream_new(w->loop, w->model);
	must(w->up && w->filters[1].config);
	w->route = (struct route){.path_kind = PATH_PREFIX,
				  .case_sensitive = true,
				  .path = STR("/"),
				  .action = ACTION_CLUSTER,
				  .cluster = w->clusters[0],
				  .vhost = &w->vhost};
	w->route_list[0] = &w->route;
	w->vhost = (struct vhost){
		.name = STR("all"), .routes = w->route_list, .nroutes = 1, .config = &w->routes};
	w->routes.any = &w->vhost;
	w->hcm = (struct hcm_cfg){.filters = w->filters,
				  .nfilters = 2,
				  .routes = &w->routes,
				  .stats = &w->stats,
				  .server_name = STR("postern"),
				  .limits = h1_default_limits,
				  .stream_idle_timeout_us = 60000000};
	w->peer = (struct exch_peer){.remote = STR("127.0.0.1:1"), .local = STR("127.0.0.1:2")};
	w->env = (struct exch_env){.loop = w->loop, .upstream = w->up, .workers = 1};
}

/* Nothing may be left. */
static void world_down(struct world *w)
{
	struct fb_shared *s = w->cfg.shared;
	must(w->env.active == 0);
	must(atomic_load(&s->held) == 0 && atomic_load(&s->inflight) == 0 &&
	     atomic_load(&s->waiting) == 0 && atomic_load(&s->shadows) == 0);
	must(stat_read(s->held_bytes) == 0 && stat_read(s->spooled_bytes) == 0 &&
	     stat_read(s->inflight_now) == 0);
	exch_env_fini(&w->env);
	loop_turn(w->loop, 0);
	for (unsigned i = 0; i < ORIGINS; i++)
		must(stat_read(w->clusters[i]->stats->rq_active) == 0 &&
		     stat_read(w->clusters[i]->stats->rq_pending_active) == 0);
	upstream_free(w->up); /* no call may be left */
	loop_turn(w->loop, 0);
	for (unsigned i = 0; i < ORIGINS; i++)
		must(stat_read(w->clusters[i]->stats->cx_active) == 0);
	must(atomic_load(&w->model->refs) == 1);
	shared_close(s);
	model_unref(w->model);
	loop_free(w->loop);
	arena_trim();
	chain_trim();
}

static void start_tests(void)
{
	signal(SIGPIPE, SIG_IGN);
	hash_seed();
	log_levels[LOG_FILTER] = log_levels[LOG_UPSTREAM] = LOG_OFF;
}
