/* src/main.c: from the command line to a running gateway, and to its end. With workers.c the
 * only file that sees every room. */
#include "admin/admin.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/pressure.h"
#include "cli.h"
#include "control/control.h"
#include "control/supervise.h"
#include "filters/filters.h"
#include "front/front.h"
#include "net/tls.h"
#include "obs/log.h"
#include "obs/sink.h"
#include "obs/stats.h"
#include "pages.h"
#include "testverb.h"
#include "upstream/upstream.h"
#include "workers.h"
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static const struct filter_type *const types[] = {&filter_router,       &filter_lua,
						  &filter_static,       &filter_fallback,
						  &filter_set_metadata, &filter_set_filter_state,
						  &filter_admin,        NULL};

#define POLL_US 20000ull

struct gateway {
	struct cli cli;
	struct loop *loop;
	struct workers *workers;
	struct control *control;
	struct sockets *prepared; /* between prepare and publish */
	unsigned concurrency;
	int keeper; /* channel to the supervisor, -1: none */
	enum { SERVING, DRAINING, STOPPED_LISTENING } stage;
	struct timer timer;
	uint64_t stop_at_us, hard_stop_us;
	bool failed;
};

/* --- models --- */

static void verify_chain(const struct chain_cfg *c, const struct model *m, struct diags *d)
{
	for (unsigned i = 0; c && c->hcm && i < c->hcm->nfilters; i++)
		if (c->hcm->filters[i].type->verify)
			c->hcm->filters[i].type->verify(&c->hcm->filters[i], m, d);
}

static void verify_filters(const struct model *m, struct diags *d)
{
	for (unsigned i = 0; i < m->nlisteners; i++) {
		const struct listener_cfg *l = m->listeners[i];
		for (unsigned k = 0; k < l->nchains; k++)
			verify_chain(&l->chains[k], m, d);
		verify_chain(l->fallback, m, d);
	}
}

static bool prepare(void *arg, struct model *m, struct diags *d)
{
	struct gateway *g = arg;
	if (m->admin && !model_add_admin_listener(m, types, d))
		return false;
	verify_filters(m, d);
	if (d->errors || !upstream_prepare(m, d) || !front_prepare(m, d))
		return false;
	if (g->cli.verb == VERB_CHECK)
		return true;
	if (g->stage != SERVING) {
		diag_add(d, DIAG_ERROR, NULL, "shutting down");
		return false;
	}
	g->prepared = sockets_open(m, g->concurrency, workers_sockets(g->workers), d);
	return g->prepared != NULL;
}

static void publish(void *arg, struct model *m)
{
	struct gateway *g = arg;
	struct sockets *s = g->prepared;
	g->prepared = NULL;
	mem_set_limit(m->options.heap_limit ? m->options.heap_limit : pressure_heap_default());
	if (!workers_publish(g->workers, m, s)) {
		g->failed = true;
		return;
	}
	if (g->keeper >= 0) {
		supervise_clear(g->keeper);
		for (unsigned i = 0; i < sockets_count(s); i++) {
			const char *address;
			int fd;
			if (sockets_at(s, i, &address, &fd))
				supervise_keep(g->keeper, address, fd);
		}
	}
}

/* --- the end --- */

static void watch_end(struct timer *t)
{
	struct gateway *g = (struct gateway *)((char *)t - offsetof(struct gateway, timer));
	uint64_t now = loop_now_us(g->loop);
	if (g->stage == DRAINING && now >= g->stop_at_us) {
		g->stage = STOPPED_LISTENING;
		workers_drain(g->workers, true);
	}
	if ((g->stage == STOPPED_LISTENING && workers_clients(g->workers) == 0) ||
	    now >= g->hard_stop_us) {
		loop_stop(g->loop);
		return;
	}
	timer_arm(g->loop, t, POLL_US);
}

/* listeners stay open for half of the drain time, robustness.md 10. */
static void drain(struct gateway *g, bool at_once)
{
	uint64_t now = loop_now_us(g->loop),
		 hard = workers_model(g->workers)->options.hard_stop * 1000000ull;
	if (g->stage != SERVING) {
		loop_stop(g->loop);
		return;
	}
	log_line(LOG_MAIN, LOG_INFO, at_once ? "shutting down" : "draining, then shutting down");
	admin_set_state(ADMIN_DRAINING);
	g->stage = at_once ? STOPPED_LISTENING : DRAINING;
	g->stop_at_us = now + g->cli.drain_time_s * 500000ull;
	g->hard_stop_us = now + (at_once ? 5000000ull : hard);
	workers_drain(g->workers, at_once);
	timer_arm(g->loop, &g->timer, POLL_US);
}

static void got_signal(int signal, void *arg)
{
	struct gateway *g = arg;
	switch (signal) {
	case SIGTERM: drain(g, false); break;
	case SIGINT:
	case SIGQUIT: drain(g, true); break;
	case SIGHUP: control_reload(g->control); break;
	case SIGUSR1:
		log_reopen();
		sink_reopen_all();
		break;
	}
}

/* --- what the admin listener asks; called on worker 0, so it goes by way of the main loop --- */

struct order {
	struct post post;
	struct gateway *g;
	enum admin_order what;
};
static void carry_out(struct post *p, struct loop *l)
{
	struct order *o = (struct order *)p;
	switch (o->what) {
	case ADMIN_QUIT: drain(o->g, true); break;
	case ADMIN_DRAIN_LISTENERS: workers_drain(o->g->workers, true); break;
	case ADMIN_RELOAD: control_reload(o->g->control); break;
	}
	mem_free(MEM_OTHER, o);
}
static bool give_order(void *arg, enum admin_order what)
{
	struct order *o = mem_zalloc(MEM_OTHER, sizeof *o);
	if (!o)
		return false;
	o->g = arg;
	o->what = what;
	o->post.run = carry_out;
	loop_post(o->g->loop, &o->post);
	return true;
}
static bool dump(void *arg, const struct model *m, char **out, size_t *n)
{
	return doc_to_json(m->root, out, n, true);
}

/* A worker asks: sockets live until every worker has moved on to the next ones, it included. */
static struct str bound_address(void *arg, const struct listener_cfg *l, unsigned address,
				char out[128])
{
	const struct gateway *g = arg;
	const struct sockets *s = workers_sockets(g->workers);
	return s ? sockets_address(s, l, address, out) : (struct str){"", 0};
}

/* --- start --- */

static unsigned cpus(void)
{
	cpu_set_t set;
	unsigned n = sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
	FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
	unsigned long quota, period;
	if (f) {
		if (fscanf(f, "%lu %lu", &quota, &period) == 2 && period && quota) {
			unsigned long q = (quota + period - 1) / period;
			if (q < n)
				n = (unsigned)q;
		}
		fclose(f);
	}
	return n ? n : 1;
}

static bool set_log_levels(const struct cli *c)
{
	if (c->log_level)
		log_set_level((enum log_level)log_level_of(str_of(c->log_level)));
	struct str rest = str_of(c->component_log_levels), one;
	while (rest.n) {
		struct str part, lvl;
		str_cut(rest, ',', &one, &rest);
		if (!str_cut(one, ':', &part, &lvl) || log_level_of(lvl) < 0) {
			fprintf(stderr,
				"postern: --component-log-level: \"%.*s\" is not COMPONENT:LEVEL\n",
				STR_ARG(one));
			return false;
		}
		int p = log_part_of(part);
		if (p >= 0) /* Envoy has more components than we do */
			log_levels[p] = (unsigned char)log_level_of(lvl);
	}
	if (c->log_path && !log_open(c->log_path)) {
		fprintf(stderr, "postern: cannot open %s: %m\n", c->log_path);
		return false;
	}
	return true;
}

static int check(struct gateway *g)
{
	struct diags d;
	diags_init(&d);
	g->cli.source.lint = true;
	struct model *m = config_compile(&g->cli.source, types, &d);
	bool ok = m && prepare(g, m, &d);
	diags_print(&d, stderr);
	if (m)
		model_unref(m);
	printf("configuration '%s' %s: %u errors, %u warnings, %u notices\n",
	       g->cli.source.path ? g->cli.source.path : "(yaml)", ok ? "OK" : "refused", d.errors,
	       d.warnings, d.notices);
	diags_fini(&d);
	return ok ? 0 : 1;
}

static bool start(struct gateway *g)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1};
	struct control_hooks hooks = {.prepare = prepare, .publish = publish, .arg = g};
	struct diags d;
	const struct cli *c = &g->cli;
	static char drain[32]; /* kept by the admin pages */
	snprintf(drain, sizeof drain, "%us", c->drain_time_s);
	const struct admin_option options[] = {
		{"config_path", c->source.path, false},
		{"log_level", c->log_level ? c->log_level : "info", false},
		{"component_log_level", c->component_log_levels, false},
		{"log_path", c->log_path, false},
		{"service_cluster", c->source.node_cluster, false},
		{"service_node", c->source.node_id, false},
		{"service_zone", c->service_zone, false},
		{"drain_time", drain, false},
		{"mode", "Serve", false},
		{"disable_hot_restart", "true", true},
		{"restart_epoch", "0", true},
	};
	struct admin_hooks admin = {.order = give_order,
				    .dump = dump,
				    .status = control_status,
				    .certs = tls_cert_facts,
				    .address = bound_address,
				    .arg = g,
				    .workers = g->concurrency,
				    .pages = pages,
				    .options = options,
				    .noptions = sizeof options / sizeof *options};
	g->loop = loop_new(g->concurrency);
	g->workers = workers_new(g->loop, g->concurrency);
	if (!g->loop || !g->workers ||
	    !loop_signals(g->loop, signals, sizeof signals / sizeof *signals, got_signal, g)) {
		fprintf(stderr, "postern: cannot start: %m\n");
		return false;
	}
	g->timer.fire = watch_end;
	admin_register(&admin);
	diags_init(&d);
	g->control = control_start(g->loop, &g->cli.source, types, &hooks, true, &d);
	fflush(stdout);
	diags_print(&d, stderr);
	diags_fini(&d);
	return g->control && !g->failed;
}

/* From the first moment: a signal that comes during the start is carried out after it. */
static void block_signals(void)
{
	static const int blocked[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1};
	sigset_t set;
	sigemptyset(&set);
	for (unsigned i = 0; i < sizeof blocked / sizeof *blocked; i++)
		sigaddset(&set, blocked[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static int serve(struct gateway *g)
{
	struct rlimit files;
	g->concurrency = g->cli.concurrency ? g->cli.concurrency : cpus();
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	bool ok = start(g);
	if (ok) {
		admin_set_state(ADMIN_LIVE);
		log_line(LOG_MAIN, LOG_INFO, "postern " POSTERN_VERSION " serves with %u workers",
			 g->concurrency);
		oneline_probe(&g->cli.oneline, &g->cli.source, types, g->concurrency + 1);
		loop_run(g->loop);
	}
	oneline_probe_end();
	if (g->workers)
		workers_stop(g->workers);
	control_stop(g->control);
	if (g->loop)
		loop_free(g->loop);
	sink_flush_thread();
	return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
	static struct gateway g;
	g.keeper = -1;
	hash_seed();
	if (argc > 1 && strcmp(argv[1], "test") == 0)
		return testverb(argc - 1, argv + 1);
	if (!cli_parse(&g.cli, argc, argv) || !set_log_levels(&g.cli))
		return 2;
	switch (g.cli.verb) {
	case VERB_VERSION: puts("postern " POSTERN_VERSION); return 0;
	case VERB_HELP: cli_help(); return 0;
	case VERB_CHECK: return check(&g);
	case VERB_CONVERT:
		fwrite(g.cli.source.yaml.p ? g.cli.source.yaml.p : "", 1, g.cli.source.yaml.n,
		       stdout);
		return fflush(stdout) ? 1 : 0;
	case VERB_TOP: return pages_top(g.cli.source.admin ? g.cli.source.admin : "127.0.0.1:9901");
	case VERB_RUN: block_signals(); break;
	}
	if (g.cli.supervise) {
		int status = supervise(&g.keeper, sockets_inherit);
		if (g.keeper < 0)
			return status;
	}
	return serve(&g);
}
