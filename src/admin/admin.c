/* src/admin/admin.c: the terminal filter that answers on the admin listener. */
#include "admin/admin_int.h"
#include "base/mem.h"
#include "base/pressure.h"
#include "exchange/exchange.h"
#include "obs/log.h"
#include "obs/sink.h"
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { OPTIONS_MAX = 16 };
struct admin_hooks admin_hooks;
static atomic_uint state;   /* enum admin_state */
static atomic_bool failing; /* /healthcheck/fail */
static time_t started;

void admin_register(const struct admin_hooks *hooks)
{
	static struct admin_option options[OPTIONS_MAX];
	admin_hooks = *hooks;
	if (admin_hooks.noptions > OPTIONS_MAX)
		admin_hooks.noptions = OPTIONS_MAX;
	for (unsigned i = 0; i < admin_hooks.noptions; i++)
		options[i] = hooks->options[i];
	admin_hooks.options = options;
	started = time(NULL);
}

void admin_set_state(enum admin_state s)
{
	atomic_store(&state, s);
}

/* --- the query --- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static struct str decoded(struct arena *a, struct str s)
{
	char *out = arena_alloc(a, s.n + 1);
	size_t n = 0;
	if (!out)
		return (struct str){NULL, 0};
	for (size_t i = 0; i < s.n; i++) {
		int hi = s.p[i] == '%' && s.n - i > 2 ? hex_digit(s.p[i + 1]) : -1,
		    lo = hi < 0 ? -1 : hex_digit(s.p[i + 2]);
		if (lo >= 0) {
			out[n++] = (char)(hi << 4 | lo);
			i += 2;
		} else {
			out[n++] = s.p[i]; /* a plus is a plus: expressions are full of them */
		}
	}
	out[n] = 0;
	return (struct str){out, n};
}

bool query_next(const struct query *q, size_t *at, struct str *name, struct str *value)
{
	struct str rest = str_from(q->text, *at), one, after;
	if (*at >= q->text.n)
		return false;
	str_cut(rest, '&', &one, &after);
	*at += one.n + 1;
	if (!str_cut(one, '=', name, value))
		*value = STR("");
	*value = decoded(q->arena, *value);
	return true;
}

struct str query_get(const struct query *q, const char *name)
{
	size_t at = 0;
	struct str n, v;
	while (query_next(q, &at, &n, &v))
		if (str_eq(n, str_of(name)))
			return v;
	return (struct str){NULL, 0};
}

/* --- pages --- */

struct ask {
	struct exchange *ex;
	const struct model *model;
	struct query query;
	struct page page;
	unsigned status;
	struct str type;
};

static const struct str type_text = {"text/plain; charset=UTF-8", 25},
			type_json = {"application/json", 16},
			type_html = {"text/html; charset=UTF-8", 24};

static bool wants_json(const struct ask *q)
{
	return str_eq(query_get(&q->query, "format"), STR("json"));
}

static bool live(void)
{
	return atomic_load(&state) == ADMIN_LIVE && !atomic_load(&failing);
}

static const char *state_name(void)
{
	enum admin_state s = atomic_load(&state);
	return s == ADMIN_INITIALIZING ? "INITIALIZING" : live() ? "LIVE" : "DRAINING";
}

static void ready(struct ask *q)
{
	if (!live())
		q->status = 503;
	page_addf(&q->page, "%s\n", state_name());
}

static void ok(struct ask *q)
{
	page_add(&q->page, STR("OK\n"));
}

static void server_info(struct ask *q)
{
	struct page *p = &q->page;
	struct control_status s = {0};
	char b[32];
	q->type = type_json;
	snprintf(b, sizeof b, "%llds", (long long)(time(NULL) - started));
	json_open(p, NULL, '{');
	json_string(p, "version", STR("postern/" POSTERN_VERSION));
	json_string(p, "state", str_of(state_name()));
	json_string(p, "uptime_current_epoch", str_of(b));
	json_string(p, "uptime_all_epochs", str_of(b));
	json_string(p, "hot_restart_version", STR("disabled"));
	json_open(p, "command_line_options", '{');
	json_number(p, "concurrency", admin_hooks.workers);
	for (unsigned i = 0; i < admin_hooks.noptions; i++) {
		const struct admin_option *o = &admin_hooks.options[i];
		if (o->plain)
			json_field(p, o->name, o->value);
		else
			json_string(p, o->name, str_of(o->value ? o->value : ""));
	}
	json_close(p);
	json_open(p, "node", '{');
	json_string(p, "id", q->model->node_id);
	json_string(p, "cluster", q->model->node_cluster);
	json_string(p, "user_agent_name", STR("postern"));
	json_close(p);
	if (admin_hooks.status) {
		admin_hooks.status(&s);
		json_open(p, "configuration", '{');
		json_number(p, "generation", s.generation);
		json_number(p, "reloads", s.reloads);
		json_number(p, "rejected", s.rejected);
		json_string(p, "error", str_of(s.error));
		json_close(p);
	}
	json_close(p);
}

static void stats_in(struct ask *q, enum stats_form form)
{
	struct control_status s = {0};
	struct mem_totals mem;
	struct pressure full = pressure_read();
	char err[512];
	uint64_t bytes = 0;
	enum admin_state now = atomic_load(&state);
	mem_read_totals(&mem);
	for (int i = 0; i < MEM_CLASSES; i++)
		bytes += mem.bytes[i];
	if (admin_hooks.status)
		admin_hooks.status(&s);
	const struct stats_extra extra[] = {
		{"cluster_manager.active_clusters", q->model->nclusters},
		{"listener_manager.total_listeners_active",
		 q->model->nlisteners ? q->model->nlisteners - (q->model->admin != NULL) : 0},
		{"listener_manager.workers_started", now != ADMIN_INITIALIZING},
		{"postern.generation", s.generation},
		{"postern.allocations", mem.calls},
		{"postern.log_dropped", log_dropped() + sink_dropped()},
		{"overload.envoy.resource_monitors.fixed_heap.pressure", full.heap},
		{"overload.postern.descriptors.pressure", full.descriptors},
		{"server.concurrency", admin_hooks.workers},
		{"server.live", live()},
		{"server.memory_allocated", bytes},
		{"server.state", now == ADMIN_INITIALIZING ? 3
				 : live()                  ? 0
							   : 1},
		{"server.uptime", (uint64_t)(time(NULL) - started)},
	};
	q->type = form == STATS_JSON ? type_json : type_text;
	struct str filter = query_get(&q->query, "filter");
	bool used = query_get(&q->query, "usedonly").p != NULL;
	if (stats_page(&q->page, q->model, form, filter, used, extra, sizeof extra / sizeof *extra,
		       err, sizeof err))
		return;
	if (!*err) {
		q->page.failed = true;
		return;
	}
	q->status = 400;
	q->type = type_text;
	page_add(&q->page, str_of(err));
	page_add(&q->page, STR("\n"));
}

static void stats(struct ask *q)
{
	struct str f = query_get(&q->query, "format");
	if (!f.n || str_eq(f, STR("text"))) {
		stats_in(q, STATS_TEXT);
	} else if (str_eq(f, STR("json"))) {
		stats_in(q, STATS_JSON);
	} else if (str_eq(f, STR("prometheus"))) {
		stats_in(q, STATS_PROMETHEUS);
	} else {
		q->status = 400;
		page_add(&q->page, STR("usage: /stats?format=(json|prometheus|text)\n\n"));
	}
}

static void stats_prometheus(struct ask *q)
{
	stats_in(q, STATS_PROMETHEUS);
}

static void json_time(struct page *p, const char *key, uint64_t ms)
{
	char b[40];
	time_t t = (time_t)(ms / 1000);
	struct tm tm;
	gmtime_r(&t, &tm);
	size_t n = strftime(b, sizeof b, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(b + n, sizeof b - n, ".%03uZ", (unsigned)(ms % 1000));
	json_string(p, key, str_of(b));
}

static void config_dump(struct ask *q)
{
	struct page *p = &q->page;
	char *text = NULL;
	size_t n = 0;
	q->type = type_json;
	if (!admin_hooks.dump || !admin_hooks.dump(admin_hooks.arg, q->model, &text, &n)) {
		p->failed = true;
		return;
	}
	while (n && (text[n - 1] == '\n' || text[n - 1] == 0))
		n--;
	p->compact = true; /* the tree comes as it is */
	json_open(p, NULL, '{');
	json_open(p, "configs", '[');
	json_open(p, NULL, '{');
	json_string(p, "@type", STR("type.googleapis.com/envoy.admin.v3.BootstrapConfigDump"));
	json_field(p, "bootstrap", n ? "" : "{}");
	page_add(p, (struct str){text, n});
	json_time(p, "last_updated", q->model->loaded_at_ms);
	json_close(p);
	json_close(p);
	json_close(p);
	page_add(p, STR("\n"));
	free(text);
}

static void clusters(struct ask *q)
{
	bool json = wants_json(q);
	if (json)
		q->type = type_json;
	clusters_page(&q->page, q->model, json);
}

static struct str bound(const struct listener_cfg *l, unsigned i, char buffer[128])
{
	struct str s = {NULL, 0};
	if (admin_hooks.address)
		s = admin_hooks.address(admin_hooks.arg, l, i, buffer);
	return s.n ? s : l->addresses[i].text;
}

static void listener_json(struct page *p, const struct listener_cfg *l)
{
	char buffer[128];
	json_open(p, NULL, '{');
	json_string(p, "name", l->name);
	for (unsigned i = 0; i < l->naddresses; i++) {
		struct str s = bound(l, i, buffer), host, port;
		uint64_t number = 0;
		size_t colon = s.n;
		while (colon && s.p[colon - 1] != ':')
			colon--;
		bool path = l->addresses[i].sa.sa_family == AF_UNIX || !colon;
		host = path ? s : (struct str){s.p, colon - 1};
		port = path ? STR("") : str_from(s, colon);
		if (i == 1)
			json_open(p, "additional_local_addresses", '[');
		json_open(p, i ? NULL : "local_address", '{');
		json_open(p, path ? "pipe" : "socket_address", '{');
		if (!path && host.n > 2 && host.p[0] == '[')
			host = (struct str){host.p + 1, host.n - 2};
		json_string(p, path ? "path" : "address", host);
		if (!path && str_u64(port, &number))
			json_number(p, "port_value", number);
		json_close(p);
		json_close(p);
	}
	if (l->naddresses > 1)
		json_close(p);
	json_close(p);
}

static void listeners(struct ask *q)
{
	bool json = wants_json(q);
	char buffer[128];
	if (json) {
		q->type = type_json;
		json_open(&q->page, NULL, '{');
		json_open(&q->page, "listener_statuses", '[');
	}
	for (unsigned i = 0; i < q->model->nlisteners; i++) {
		const struct listener_cfg *l = q->model->listeners[i];
		if (l->is_admin)
			continue;
		if (json)
			listener_json(&q->page, l);
		for (unsigned k = 0; k < l->naddresses && !json; k++)
			page_addf(&q->page, "%.*s::%.*s\n", STR_ARG(l->name),
				  STR_ARG(bound(l, k, buffer)));
	}
	if (json) {
		json_close(&q->page);
		json_close(&q->page);
	}
}

static void certs(struct ask *q)
{
	q->type = type_json;
	certs_page(&q->page, q->model, time(NULL));
}

static void logging_wrong(struct ask *q, const char *what)
{
	q->status = 400;
	page_addf(&q->page,
		  "error: %s\n\n"
		  "usage: /logging?<name>=<level> (change single level)\n"
		  "usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n"
		  "usage: /logging?level=<level> (change all levels)\n"
		  "levels: trace debug info warning error critical off \n",
		  what);
}

/* Sets levels only if all of paths is right. */
static const char *set_paths(struct str paths, bool really)
{
	struct str one, name, level;
	while (paths.n) {
		str_cut(paths, ',', &one, &paths);
		if (!str_cut(one, ':', &name, &level) || log_part_of(name) < 0)
			return "unknown logger name";
		if (log_level_of(level) < 0)
			return "unknown logger level";
		if (really)
			log_levels[log_part_of(name)] = (unsigned char)log_level_of(level);
	}
	return NULL;
}

static const char *set_level(struct str name, struct str value)
{
	int level = log_level_of(value);
	if (str_eq(name, STR("paths"))) {
		const char *why = set_paths(value, false);
		if (!why)
			set_paths(value, true);
		return why;
	}
	if (!str_eq(name, STR("level")) && log_part_of(name) < 0)
		return "unknown logger name";
	if (level < 0)
		return "unknown logger level";
	if (str_eq(name, STR("level")))
		log_set_level((enum log_level)level);
	else
		log_levels[log_part_of(name)] = (unsigned char)level;
	return NULL;
}

static void logging(struct ask *q)
{
	size_t at = 0;
	struct str name, value;
	while (query_next(&q->query, &at, &name, &value)) {
		const char *why = set_level(name, value);
		if (why) {
			logging_wrong(q, why);
			break;
		}
	}
	page_add(&q->page, STR("active loggers:\n"));
	for (int i = 0; i < LOG_PARTS; i++)
		page_addf(&q->page, "  %s: %s\n", log_part_name((enum log_part)i),
			  log_level_name((enum log_level)log_levels[i]));
	page_add(&q->page, STR("\n"));
}

static void order(struct ask *q, enum admin_order what)
{
	if (admin_hooks.order && admin_hooks.order(admin_hooks.arg, what)) {
		ok(q);
		return;
	}
	q->status = 503;
	page_add(&q->page, STR("not possible now\n"));
}

static void drain_listeners(struct ask *q)
{
	order(q, ADMIN_DRAIN_LISTENERS);
}

static void quit(struct ask *q)
{
	order(q, ADMIN_QUIT);
}

static void reload(struct ask *q)
{
	order(q, ADMIN_RELOAD);
}

static void health_fail(struct ask *q)
{
	atomic_store(&failing, true);
	ok(q);
}

static void health_ok(struct ask *q)
{
	atomic_store(&failing, false);
	ok(q);
}

static void reopen_logs(struct ask *q)
{
	log_reopen();
	sink_reopen_all();
	ok(q);
}

static void reset_counters(struct ask *q)
{
	stat_reset_counters();
	ok(q);
}

static void memory(struct ask *q)
{
	static const char *const classes[MEM_CLASSES] = {
		"config", "connections", "exchanges", "buffers", "lua", "observability", "other"};
	struct page *p = &q->page;
	struct mem_totals t;
	struct mallinfo2 m = mallinfo2();
	unsigned long long pages = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	if (f) {
		if (fscanf(f, "%llu %llu", &pages, &resident) != 2)
			resident = 0;
		fclose(f);
	}
	mem_read_totals(&t);
	q->type = type_json;
	json_open(p, NULL, '{');
	json_quoted(p, "allocated", m.uordblks + m.hblkhd);
	json_quoted(p, "heap_size", m.arena + m.hblkhd);
	json_quoted(p, "pageheap_unmapped", 0);
	json_quoted(p, "pageheap_free", m.fordblks);
	json_quoted(p, "total_thread_cache", 0);
	json_quoted(p, "total_physical_bytes",
		    resident * (unsigned long long)sysconf(_SC_PAGESIZE));
	json_open(p, "by_class", '{');
	for (int i = 0; i < MEM_CLASSES; i++)
		json_quoted(p, classes[i], t.bytes[i]);
	json_close(p);
	json_close(p);
}

static void runtime(struct ask *q)
{
	struct page *p = &q->page;
	char b[24];
	q->type = type_json;
	json_open(p, NULL, '{');
	json_open(p, "entries", '{');
#define X(field, key, def, min, max)                                                \
	snprintf(b, sizeof b, "%llu", (unsigned long long)q->model->options.field); \
	json_open(p, "postern." key, '{');                                          \
	json_string(p, "final_value", str_of(b));                                   \
	json_close(p);
	OPTIONS(X)
#undef X
	json_close(p);
	json_close(p);
}

static void home(struct ask *q)
{
	q->type = type_html;
	home_page(&q->page);
}

static void help(struct ask *q);

/* changes: POST only. may_show: as it stands, without parameters, it changes nothing and may be
 * asked for by GET. */
static const struct path {
	const char *path, *what;
	void (*serve)(struct ask *q);
	bool changes, may_show;
} paths[] = {
	{"/", "Admin home page", home, false, false},
	{"/certs", "print certs on machine", certs, false, false},
	{"/clusters", "upstream cluster status", clusters, false, false},
	{"/config_dump", "dump the configuration in use", config_dump, false, false},
	{"/drain_listeners", "drain listeners", drain_listeners, true, false},
	{"/healthcheck/fail", "cause the server to fail health checks", health_fail, true, false},
	{"/healthcheck/ok", "cause the server to pass health checks", health_ok, true, false},
	{"/help", "print out list of admin commands", help, false, false},
	{"/listeners", "print listener info", listeners, false, false},
	{"/logging", "query/change logging levels", logging, true, true},
	{"/memory", "print current allocation/heap usage", memory, false, false},
	{"/quitquitquit", "exit the server", quit, true, false},
	{"/ready", "print server state, return 200 if LIVE, otherwise return 503", ready, false,
	 false},
	{"/reload", "read the configuration again", reload, true, false},
	{"/reopen_logs", "reopen access logs", reopen_logs, true, false},
	{"/reset_counters", "reset all counters to zero", reset_counters, true, false},
	{"/runtime", "print postern's own options", runtime, false, false},
	{"/server_info", "print server version/status information", server_info, false, false},
	{"/stats", "print server stats", stats, false, false},
	{"/stats/prometheus", "print server stats in prometheus format", stats_prometheus, false,
	 false},
};
enum { PATHS = sizeof paths / sizeof *paths };

static struct str get_parameter(const void *q, const char *name)
{
	return query_get(q, name);
}

static void serve_page(struct ask *q, const struct admin_page *x)
{
	q->type = type_json;
	q->status = x->serve(&q->page, get_parameter, &q->query, &q->ex->arena, &q->type);
}

static void help(struct ask *q)
{
	page_add(&q->page, STR("admin commands are:\n"));
	for (const struct admin_page *x = admin_hooks.pages; x && x->path; x++)
		page_addf(&q->page, "  %s%s: %s\n", x->path, x->changes ? " (POST)" : "", x->what);
	for (int i = 0; i < PATHS; i++)
		page_addf(&q->page, "  %s%s: %s\n", paths[i].path,
			  paths[i].changes ? " (POST)" : "", paths[i].what);
}

/* --- the filter --- */

/* A browser on a page from elsewhere may send a form here; it says where it comes from (Fetch
 * Metadata; RFC 6454 Origin before that). */
static bool from_elsewhere(const struct head *h)
{
	struct str site = head_value(h, FIELD_SEC_FETCH_SITE), origin = head_value(h, FIELD_ORIGIN),
		   host = head_value(h, FIELD_AUTHORITY);
	if (site.p)
		return !str_eq(site, STR("same-origin")) && !str_eq(site, STR("none"));
	if (!origin.p)
		return false;
	ptrdiff_t at = str_find(origin, STR("://"));
	return at < 0 || !str_ieq(str_from(origin, (size_t)at + 3), host);
}

static void serve(struct ask *q, struct str path)
{
	const struct head *h = &q->ex->req.head;
	const struct path *it = paths;
	bool read = h->method == METHOD_GET || h->method == METHOD_HEAD;
	struct path of_page;
	while (it < paths + PATHS && !str_eq(path, str_of(it->path)))
		it++;
	const struct admin_page *x = admin_hooks.pages;
	while (x && x->path && !str_eq(path, str_of(x->path)))
		x++;
	if (x && x->path) {
		of_page = (struct path){x->path, x->what, NULL, x->changes, false};
		it = &of_page;
	} else {
		x = NULL;
	}
	if (it == paths + PATHS) {
		q->status = 404;
		page_add(&q->page, STR("invalid path. "));
		help(q);
		return;
	}
	bool shows = !it->changes || (it->may_show && !q->query.text.n);
	if (h->method != METHOD_POST && !(read && shows)) {
		struct str method = head_value(h, FIELD_METHOD);
		q->status = 405;
		page_addf(&q->page, "Method %.*s not allowed, %s required.",
			  (int)(method.n > 32 ? 32 : method.n), method.p ? method.p : "",
			  it->changes ? "POST" : "GET");
		return;
	}
	if (it->changes && !shows)
		log_line(LOG_ADMIN, LOG_INFO, "%s, asked for by %.*s", it->path,
			 STR_ARG(q->ex->peer->remote));
	if (it->changes && !read && from_elsewhere(h)) {
		q->status = 403;
		page_add(&q->page, STR("requests from pages of other sites are refused\n"));
		return;
	}
	if (x)
		serve_page(q, x);
	else
		it->serve(q);
}

static enum verdict admin_request(struct exchange *ex, const struct filter_cfg *self)
{
	struct ask q = {.ex = ex, .model = ex->model, .status = 200, .type = type_text};
	struct head *h = &ex->resp.head;
	struct str path;
	q.query.arena = &ex->arena;
	str_cut(head_value(&ex->req.head, FIELD_PATH), '?', &path, &q.query.text);
	serve(&q, path);
	struct str length = arena_printf(&ex->arena, "%zu", q.page.body.n);
	bool good = !q.page.failed && !ex->arena.over && length.p &&
		    head_init(h, &ex->arena, true, 12) && head_set_status(h, q.status) &&
		    head_add_id(h, FIELD_CONTENT_TYPE, q.type) &&
		    head_add_id(h, FIELD_CACHE_CONTROL, STR("no-cache, max-age=0")) &&
		    head_add(h, STR("x-content-type-options"), STR("nosniff")) &&
		    head_add_id(h, FIELD_CONTENT_LENGTH, length);
	if (good && q.status == 405)
		good = head_add_id(h, FIELD_ALLOW,
				   str_starts(path, STR("/logging")) ? STR("GET, POST")
								     : STR("POST"));
	if (!good) {
		chain_clear(&q.page.body);
		exch_fail(ex, FAILED_MEMORY);
		return ANSWERED;
	}
	exch_answer(ex, &q.page.body, "admin");
	return ANSWERED;
}

static const char *const urls[] = {NULL};
const struct filter_type filter_admin = {
	.name = "postern.admin",
	.type_urls = urls,
	.terminal = true,
	.request = admin_request,
};
