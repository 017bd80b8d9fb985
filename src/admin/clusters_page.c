/* src/admin/clusters_page.c: /clusters, in Envoy's words. */
#include "admin/admin_int.h"
#include "base/mem.h"
#include "upstream/upstream.h"

struct rows {
	struct arena arena;
	struct row {
		struct row *next;
		struct endpoint_row r;
	} * first, **last;
	bool failed;
};

static void take(void *arg, const struct endpoint_row *r)
{
	struct rows *rows = arg;
	struct row *row = arena_alloc(&rows->arena, sizeof *row);
	if (!row) {
		rows->failed = true;
		return;
	}
	row->r = *r;
	row->next = NULL;
	*rows->last = row;
	rows->last = &row->next;
}

static struct str shown_name(const struct cluster_cfg *c)
{
	return c->alt_stat_name.n ? c->alt_stat_name : c->name;
}

static const char *const priorities[] = {"default", "high"};

static void host_text(struct page *p, const struct cluster_cfg *c, const struct endpoint_row *r)
{
	const struct {
		const char *name;
		uint64_t value;
	} counts[] = {
		{"cx_active", r->cx_active},   {"cx_connect_fail", r->cx_connect_fail},
		{"cx_total", r->cx_total},     {"rq_active", r->rq_active},
		{"rq_error", r->rq_error},     {"rq_success", r->rq_success},
		{"rq_timeout", r->rq_timeout}, {"rq_total", r->rq_total},
	};
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
		page_addf(p, "%.*s::%s::%s::%llu\n", STR_ARG(c->name), r->address, counts[i].name,
			  (unsigned long long)counts[i].value);
	page_addf(p, "%.*s::%s::hostname::%s\n", STR_ARG(c->name), r->address, r->hostname);
	page_addf(p, "%.*s::%s::health_flags::%s\n", STR_ARG(c->name), r->address,
		  r->healthy ? "healthy" : "/failed_eds_health");
	page_addf(p, "%.*s::%s::weight::%u\n", STR_ARG(c->name), r->address, r->weight);
	page_addf(p, "%.*s::%s::region::\n%.*s::%s::zone::\n%.*s::%s::sub_zone::\n",
		  STR_ARG(c->name), r->address, STR_ARG(c->name), r->address, STR_ARG(c->name),
		  r->address);
	page_addf(p, "%.*s::%s::canary::false\n", STR_ARG(c->name), r->address);
	page_addf(p, "%.*s::%s::priority::%u\n", STR_ARG(c->name), r->address, r->priority);
	page_addf(p, "%.*s::%s::success_rate::-1\n%.*s::%s::local_origin_success_rate::-1\n",
		  STR_ARG(c->name), r->address, STR_ARG(c->name), r->address);
}

static void cluster_text(struct page *p, const struct cluster_cfg *c, const struct rows *rows)
{
	page_addf(p, "%.*s::observability_name::%.*s\n", STR_ARG(c->name), STR_ARG(shown_name(c)));
	for (int i = 0; i < 2; i++) {
		const struct breaker *b = &c->breakers[i];
		page_addf(p, "%.*s::%s_priority::max_connections::%u\n", STR_ARG(c->name),
			  priorities[i], b->max_connections);
		page_addf(p, "%.*s::%s_priority::max_pending_requests::%u\n", STR_ARG(c->name),
			  priorities[i], b->max_pending);
		page_addf(p, "%.*s::%s_priority::max_requests::%u\n", STR_ARG(c->name),
			  priorities[i], b->max_requests);
		page_addf(p, "%.*s::%s_priority::max_retries::%u\n", STR_ARG(c->name),
			  priorities[i], b->max_retries);
	}
	page_addf(p, "%.*s::added_via_api::false\n", STR_ARG(c->name));
	for (const struct row *row = rows->first; row; row = row->next)
		if (row->r.cluster == c)
			host_text(p, c, &row->r);
}

static void json_stat(struct page *p, const char *type, const char *name, uint64_t value)
{
	json_open(p, NULL, '{');
	if (type)
		json_string(p, "type", str_of(type));
	if (value) /* proto-JSON leaves zeros out */
		json_quoted(p, "value", value);
	json_string(p, "name", str_of(name));
	json_close(p);
}

static void json_address(struct page *p, const char *text)
{
	struct str s = str_of(text);
	size_t n = s.n;
	json_open(p, "address", '{');
	while (n && s.p[n - 1] != ':')
		n--;
	if (n == 0 || s.p[0] == '/') {
		json_open(p, "pipe", '{');
		json_string(p, "path", s);
	} else {
		struct str host = {s.p, n - 1};
		uint64_t port = 0;
		if (host.n > 2 && host.p[0] == '[')
			host = (struct str){host.p + 1, host.n - 2};
		str_u64(str_from(s, n), &port);
		json_open(p, "socket_address", '{');
		json_string(p, "address", host);
		json_number(p, "port_value", port);
	}
	json_close(p);
	json_close(p);
}

static void host_json(struct page *p, const struct endpoint_row *r)
{
	json_open(p, NULL, '{');
	json_address(p, r->address);
	json_open(p, "stats", '[');
	json_stat(p, NULL, "cx_connect_fail", r->cx_connect_fail);
	json_stat(p, NULL, "cx_total", r->cx_total);
	json_stat(p, NULL, "rq_error", r->rq_error);
	json_stat(p, NULL, "rq_success", r->rq_success);
	json_stat(p, NULL, "rq_timeout", r->rq_timeout);
	json_stat(p, NULL, "rq_total", r->rq_total);
	json_stat(p, "GAUGE", "cx_active", r->cx_active);
	json_stat(p, "GAUGE", "rq_active", r->rq_active);
	json_close(p);
	json_open(p, "health_status", '{');
	json_string(p, "eds_health_status", r->healthy ? STR("HEALTHY") : STR("UNHEALTHY"));
	json_close(p);
	json_number(p, "weight", r->weight);
	if (r->hostname[0])
		json_string(p, "hostname", str_of(r->hostname));
	if (r->priority)
		json_number(p, "priority", r->priority);
	json_open(p, "locality", '{');
	json_close(p);
	json_close(p);
}

static void cluster_json(struct page *p, const struct cluster_cfg *c, const struct rows *rows)
{
	json_open(p, NULL, '{');
	json_string(p, "name", c->name);
	json_open(p, "host_statuses", '[');
	for (const struct row *row = rows->first; row; row = row->next)
		if (row->r.cluster == c)
			host_json(p, &row->r);
	json_close(p);
	json_open(p, "circuit_breakers", '{');
	json_open(p, "thresholds", '[');
	for (int i = 0; i < 2; i++) {
		const struct breaker *b = &c->breakers[i];
		json_open(p, NULL, '{');
		if (i)
			json_string(p, "priority", STR("HIGH"));
		json_number(p, "max_connections", b->max_connections);
		json_number(p, "max_pending_requests", b->max_pending);
		json_number(p, "max_requests", b->max_requests);
		json_number(p, "max_retries", b->max_retries);
		json_close(p);
	}
	json_close(p);
	json_close(p);
	json_string(p, "observability_name", shown_name(c));
	json_close(p);
}

void clusters_page(struct page *p, const struct model *m, bool json)
{
	struct rows rows = {.last = &rows.first};
	arena_init(&rows.arena, SIZE_MAX);
	upstream_rows(m, take, &rows);
	p->failed |= rows.failed;
	if (json) {
		json_open(p, NULL, '{');
		json_open(p, "cluster_statuses", '[');
	}
	for (unsigned i = 0; i < m->nclusters; i++) {
		if (json)
			cluster_json(p, m->clusters[i], &rows);
		else
			cluster_text(p, m->clusters[i], &rows);
	}
	if (json) {
		json_close(p);
		json_close(p);
	}
	arena_fini(&rows.arena);
}
