/* src/filters/lua/lua_fake.h
 *
 * For lua_test.c and bench/lua_bench.c: the real exchange between a scripted client and a scripted
 * origin (a terminal filter), and calls (upstream/call.h) whose answers the test writes. No
 * sockets.
 */
#pragma once
#include "base/hash.h"
#include "base/mem.h"
#include "base/must.h"
#include "filters/filters.h"
#include "filters/lua/lua_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FAKE_MAYBE __attribute__((unused))

/* --- calls --- */

struct fake_call {
	struct call pub;
	void (*event)(struct call *c);
	struct fake_call *next;
	struct task task;
	struct head head;
	char request[2048]; /* "METHOD path authority\nname: value\n…\n\nbody" */
	bool ended;
};
static struct fake_call *fake_calls; /* open ones, newest first */
static unsigned fake_opened, fake_closed;
/* What calls get, at once (NULL: the test answers itself). */
static struct fake_answer {
	unsigned status; /* 0: failure */
	enum failure_kind failure;
	const char *const (*fields)[2];
	unsigned nfields;
	const char *body;
} * fake_answer;
static struct loop *fake_loop;
static bool fake_call_refused; /* call_open returns NULL */
static bool fake_quiet;        /* requests of calls are not noted */

static void fake_fire(struct task *t)
{
	struct fake_call *f = (struct fake_call *)((char *)t - offsetof(struct fake_call, task));
	f->event(&f->pub);
}

static void fake_give(struct fake_call *f, const struct fake_answer *a)
{
	uint64_t left = mem_fail_left();
	mem_fail_nth(0); /* what the fake needs is not what the test refuses */
	if (a->status) {
		must(head_init(&f->head, f->head.arena, true, a->nfields + 2));
		must(head_set_status(&f->head, a->status));
		for (unsigned i = 0; i < a->nfields; i++)
			must(head_add(&f->head, str_of(a->fields[i][0]), str_of(a->fields[i][1])));
		f->pub.head = &f->head;
		f->pub.has_head = true;
		if (a->body && *a->body)
			must(chain_copy(&f->pub.in, a->body, strlen(a->body)));
	}
	mem_fail_nth(left);
	f->pub.failure = a->failure;
	f->pub.failed = a->failure != FAILED_NONE;
	f->pub.ended = !f->pub.failed;
	later(fake_loop, PHASE_RUN, &f->task);
}

static void fake_note(struct fake_call *f, const struct head *h)
{
	size_t at = 0;
	for (unsigned i = 0; i < h->n && !fake_quiet; i++)
		at += (size_t)snprintf(f->request + at, sizeof f->request - at, "%.*s: %.*s\n",
				       (int)h->f[i].name_n, h->f[i].name_p, (int)h->f[i].value_n,
				       h->f[i].value_p);
}

struct call *call_open(struct upstream *u, const struct call_request *rq,
		       void (*on_event)(struct call *c), void *owner)
{
	static struct fake_call bench; /* when quiet, one at a time, and no cost of its own */
	struct fake_call *f = fake_call_refused ? NULL : fake_quiet ? &bench : calloc(1, sizeof *f);
	if (!f)
		return NULL;
	if (fake_quiet)
		memset(f, 0, offsetof(struct fake_call, request));
	f->pub.cluster = rq->cluster;
	f->pub.owner = owner;
	f->pub.length = -1;
	f->event = on_event;
	f->ended = rq->ended;
	f->head.arena = rq->arena;
	f->task.run = fake_fire;
	f->next = fake_calls;
	fake_calls = f;
	fake_opened++;
	fake_note(f, rq->head);
	if (fake_answer)
		fake_give(f, fake_answer);
	return &f->pub;
}

void call_send(struct call *c, struct chain *bytes, bool end, const struct head *trailers)
{
	struct fake_call *f = (struct fake_call *)c;
	size_t at = strlen(f->request),
	       n = bytes->n < sizeof f->request - at - 2 ? bytes->n : sizeof f->request - at - 2;
	f->request[at++] = '\n';
	chain_read(bytes, 0, f->request + at, n);
	f->ended = end;
	chain_clear(bytes);
}

void call_took(struct call *c)
{
}

void call_gather(struct call *c, size_t limit)
{
}

void call_hold(struct call *c, bool hold)
{
}

size_t call_room(const struct call *c)
{
	return 1 << 20;
}

void call_cancel(struct call *c)
{
	struct fake_call *f = (struct fake_call *)c, **at = &fake_calls;
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	task_drop(fake_loop, &f->task);
	chain_clear(&c->in);
	if (!fake_quiet)
		free(f);
	fake_closed++;
}

void call_close(struct call *c)
{
	call_cancel(c);
}

/* --- the origin: a terminal filter --- */

static char fake_origin[8192]; /* what it was sent: head lines, empty line, body */
static bool fake_origin_ended;
static unsigned fake_origin_asked;

static enum verdict origin_request(struct exchange *ex, const struct filter_cfg *f)
{
	size_t at = 0;
	const struct head *h = &ex->req.head;
	for (unsigned i = 0; i < h->n; i++)
		at += (size_t)snprintf(fake_origin + at, sizeof fake_origin - at, "%.*s: %.*s\n",
				       (int)h->f[i].name_n, h->f[i].name_p, (int)h->f[i].value_n,
				       h->f[i].value_p);
	snprintf(fake_origin + at, sizeof fake_origin - at, "\n");
	fake_origin_asked++;
	fake_origin_ended = ex->req.ended;
	return GO_ON;
}

static void origin_pump(struct exchange *ex, const struct filter_cfg *f)
{
	size_t at = strlen(fake_origin), n = ex->req.out.n;
	must(at + n < sizeof fake_origin);
	chain_read(&ex->req.out, 0, fake_origin + at, n);
	fake_origin[at + n] = 0;
	chain_clear(&ex->req.out);
	fake_origin_ended = ex->req.ended;
}

static const struct filter_type fake_terminal = {
	.name = "origin", .terminal = true, .request = origin_request, .pump = origin_pump};

/* --- the client --- */

static unsigned fake_overs;
static void port_output(struct exchange *ex)
{
}
static void port_room(struct exchange *ex)
{
}
static void port_over(struct exchange *ex, bool cut)
{
	fake_overs++;
}
static const struct exch_port fake_port = {
	.output = port_output, .room = port_room, .over = port_over};

/* --- the world --- */

enum { FAKE_LUA_FILTERS = 2 };
static struct world {
	struct exch_env env;
	struct model *model;
	struct hcm_cfg hcm;
	struct hcm_stats stats;
	struct route_config routes;
	struct vhost vhost;
	struct route route, *route_list[1];
	struct cluster_cfg cluster;
	struct filter_cfg filters[FAKE_LUA_FILTERS + 1];
	struct exch_peer peer;
	struct diags diags;
	struct arena arena;
} world;

static struct doc *fake_map(struct arena *a)
{
	return doc_new(a, DOC_MAP, (struct doc_place){"test.json", 1, 1});
}

static struct doc *fake_text(struct arena *a, const char *s)
{
	struct doc *d = doc_new(a, DOC_STRING, (struct doc_place){"test.json", 1, 1});
	d->text = str_of(s);
	return d;
}

/* The Lua message with this script. */
static struct doc *fake_config(struct arena *a, const char *script)
{
	struct doc *cfg = fake_map(a), *source = fake_map(a);
	doc_add(source, STR("inline_string"), fake_text(a, script));
	doc_add(cfg, STR("default_source_code"), source);
	return cfg;
}

static void *fake_compile(struct doc *cfg)
{
	struct compile c = {.arena = &world.arena,
			    .diags = &world.diags,
			    .model = world.model,
			    .hcm = &world.hcm,
			    .filter_name = STR("envoy.filters.http.lua")};
	return filter_lua.compile(&c, cfg);
}

static void fake_options(struct options *o)
{
#define X(field, key, def, min, max) o->field = (def);
	OPTIONS(X)
#undef X
	o->lua_error_status = 500;
}

/* scripts[1] NULL: one Lua filter. False: a script does not load; world_close is due all the same.
 * */
static bool world_try(const char *const scripts[FAKE_LUA_FILTERS])
{
	struct world *w = &world;
	bool ok = true;
	hash_seed();
	memset(w, 0, sizeof *w);
	arena_init(&w->arena, SIZE_MAX);
	diags_init(&w->diags);
	w->model = model_new();
	must(w->model);
	fake_options(&w->model->options);
	fake_loop = loop_new(0);
	must(fake_loop);
	w->env = (struct exch_env){.loop = fake_loop, .workers = 1};
	w->peer = (struct exch_peer){.remote = STR("127.0.0.1:1000"), .local = STR("127.0.0.1:80")};
	w->cluster = (struct cluster_cfg){.name = STR("outbound|443||example.com")};
	must(map_put(&w->model->clusters_by_name, w->cluster.name, &w->cluster));
	w->route = (struct route){
		.name = STR("r"), .vhost = &w->vhost, .path_kind = PATH_PREFIX, .path = STR("/")};
	w->route_list[0] = &w->route;
	w->vhost = (struct vhost){
		.name = STR("v"), .routes = w->route_list, .nroutes = 1, .config = &w->routes};
	w->routes.any = &w->vhost;
	w->hcm = (struct hcm_cfg){.stat_prefix = STR("x"),
				  .filters = w->filters,
				  .routes = &w->routes,
				  .stats = &w->stats,
				  .server_name = STR("envoy"),
				  .limits = h1_default_limits};
	unsigned n = 0;
	for (int i = 0; i < FAKE_LUA_FILTERS && scripts[i]; i++) {
		w->filters[n] = (struct filter_cfg){
			.type = &filter_lua,
			.name = STR("envoy.filters.http.lua"),
			.index = n,
			.config = fake_compile(fake_config(&w->arena, scripts[i])),
			.hcm = &w->hcm};
		ok = ok && w->filters[n].config;
		n++;
	}
	w->filters[n] = (struct filter_cfg){
		.type = &fake_terminal, .name = STR("origin"), .index = n, .hcm = &w->hcm};
	w->hcm.nfilters = n + 1;
	return ok;
}

static FAKE_MAYBE void world_open(const char *const scripts[FAKE_LUA_FILTERS])
{
	bool ok = world_try(scripts);
	if (!ok)
		diags_print(&world.diags, stderr);
	must(ok);
}

static void fake_turns(void)
{
	for (int i = 0; i < 8; i++)
		loop_turn(fake_loop, 0);
}

static void world_close(void)
{
	struct world *w = &world;
	fake_turns();
	exch_env_fini(&w->env);
	for (unsigned i = 0; i + 1 < w->hcm.nfilters; i++)
		filter_lua.free_config(w->filters[i].config);
	fake_turns();
	must(!fake_calls);
	loop_free(fake_loop);
	model_unref(w->model);
	diags_fini(&w->diags);
	arena_fini(&w->arena);
}

/* A request has come; head fields after the pseudo fields. */
static FAKE_MAYBE struct exchange *fake_begin(const char *method, const char *path,
					      const char *const (*fields)[2], unsigned n,
					      int64_t size)
{
	struct exchange *ex =
		exch_new(&world.env, &fake_port, NULL, &world.peer, world.model, &world.hcm);
	if (!ex)
		return NULL;
	struct head *h = &ex->req.head;
	bool ok = head_add_id(h, FIELD_AUTHORITY, STR("example.com")) &&
		  head_add_id(h, FIELD_PATH, str_of(path)) &&
		  head_add_id(h, FIELD_METHOD, str_of(method)) &&
		  head_add_id(h, FIELD_SCHEME, STR("http"));
	for (unsigned i = 0; i < n && ok; i++)
		ok = head_add(h, str_of(fields[i][0]), str_of(fields[i][1]));
	if (!ok) {
		exch_drop(ex);
		return NULL;
	}
	fake_origin[0] = 0;
	exch_begin(ex, size);
	return ex;
}

static FAKE_MAYBE void fake_client_sends(struct exchange *ex, const char *text, bool end)
{
	struct chain c = {0};
	must(chain_copy(&c, text, strlen(text)));
	exch_request_data(ex, &c, end, NULL);
}

static FAKE_MAYBE bool fake_origin_head(struct exchange *ex, unsigned status,
					const char *const (*fields)[2], unsigned n, int64_t size)
{
	struct head *h = &ex->resp.head;
	bool ok = head_init(h, &ex->arena, true, n + 2) && head_set_status(h, status);
	for (unsigned i = 0; i < n && ok; i++)
		ok = head_add(h, str_of(fields[i][0]), str_of(fields[i][1]));
	if (ok)
		exch_answer_head(ex, size);
	return ok;
}

static FAKE_MAYBE void fake_origin_sends(struct exchange *ex, const char *text, bool end)
{
	struct chain c = {0};
	must(chain_copy(&c, text, strlen(text)));
	exch_answer_data(ex, &c, end, NULL);
}

/* The client takes what is there: "STATUS\nname: value\n…\n\nbody", "" when there is no answer yet.
 * */
static FAKE_MAYBE const char *fake_answer_text(struct exchange *ex)
{
	static char text[1 << 16];
	size_t at = 0;
	text[0] = 0;
	if (!exch_answer_ready(ex))
		return text;
	const struct head *h = &ex->resp.head;
	at += (size_t)snprintf(text, sizeof text, "%u\n", h->status);
	for (unsigned i = h->pseudo; i < h->n; i++)
		at += (size_t)snprintf(text + at, sizeof text - at, "%.*s: %.*s\n",
				       (int)h->f[i].name_n, h->f[i].name_p, (int)h->f[i].value_n,
				       h->f[i].value_p);
	text[at++] = '\n';
	size_t n = ex->resp.out.n < sizeof text - at - 1 ? ex->resp.out.n : sizeof text - at - 1;
	chain_read(&ex->resp.out, 0, text + at, n);
	text[at + n] = 0;
	return text;
}

static FAKE_MAYBE void fake_done(struct exchange *ex)
{
	chain_clear(&ex->resp.out);
	exch_answer_done(ex);
	fake_turns();
}

/* The article's script. Tests and bench run in the project's root. */
static FAKE_MAYBE const char *fake_article(void)
{
	static char text[8192];
	FILE *f = fopen("examples/article/article.lua", "r");
	must(f);
	size_t n = fread(text, 1, sizeof text - 1, f);
	must(n > 0 && n < sizeof text - 1);
	fclose(f);
	return text;
}

static FAKE_MAYBE uint64_t fake_errors(void)
{
	return stat_read(stat_register(STAT_COUNTER, STR("http.x.lua.errors")));
}
