/* src/admin/admin_test.c: JSON, queries, Prometheus names, the pages of statistics and clusters. */
#include "admin/admin.c"
#include "admin/certs_page.c"
#include "admin/clusters_page.c"
#include "admin/home_page.c"
#include "admin/page.c"
#include "admin/prom.c"
#include "base/must.h"

static struct endpoint_row fake_rows[2];

/* in place of upstream's */
void upstream_rows(const struct model *m, void (*row)(void *arg, const struct endpoint_row *r),
		   void *arg)
{
	for (unsigned i = 0; i < 2 && i < m->nclusters; i++) {
		fake_rows[i].cluster = m->clusters[i];
		row(arg, &fake_rows[i]);
	}
}

static const char *taken(struct page *p)
{
	static char out[65536];
	must(!p->failed && p->body.n < sizeof out && p->depth == 0);
	chain_read(&p->body, 0, out, p->body.n);
	out[p->body.n] = 0;
	chain_clear(&p->body);
	*p = (struct page){0};
	return out;
}

static void same(const char *got, const char *want)
{
	if (strcmp(got, want))
		fprintf(stderr, "gave %s\nwant %s\n", got, want);
	must(!strcmp(got, want));
}

static void json(void)
{
	struct page p = {0};
	json_open(&p, NULL, '{');
	json_string(&p, "a\"b", STR("c\\\"\n\x01\x7f\xc3\xa4"));
	json_open(&p, "list", '[');
	json_number(&p, NULL, 1);
	json_open(&p, NULL, '{');
	json_close(&p);
	json_field(&p, NULL, "null");
	json_close(&p);
	json_quoted(&p, "big", UINT64_MAX);
	json_close(&p);
	same(taken(&p), "{\n \"a\\\"b\": \"c\\\\\\\"\\u000a\\u0001\\u007f\xc3\xa4\",\n \"list\": "
			"[\n  1,\n  {},\n  null\n ],\n \"big\": \"18446744073709551615\"\n}\n");
	p.compact = true;
	json_open(&p, NULL, '[');
	json_open(&p, NULL, '{');
	json_field(&p, "x", "1.5");
	json_string_at(&p, STR("y"), STR(""));
	json_close(&p);
	json_open(&p, NULL, '[');
	json_close(&p);
	json_close(&p);
	same(taken(&p), "[{\"x\":1.5,\"y\":\"\"},[]]");
	/* long texts go out in pieces */
	char text[3000];
	memset(text, '"', sizeof text);
	json_string(&p, NULL, (struct str){text, sizeof text});
	must(strlen(taken(&p)) == 2 * sizeof text + 2);
	page_addf(&p, "%.*s|", (int)sizeof text, text);
	must(strlen(taken(&p)) == sizeof text + 1);
}

static void queries(void)
{
	struct arena a;
	arena_init(&a, SIZE_MAX);
	const struct query q = {.text = STR("filter=a%2eb+c&usedonly&x=%zz%4&y=1=2&=z&"),
				.arena = &a};
	must(str_eq(query_get(&q, "filter"), STR("a.b+c")));
	must(query_get(&q, "usedonly").p && query_get(&q, "usedonly").n == 0);
	must(str_eq(query_get(&q, "x"), STR("%zz%4")));
	must(str_eq(query_get(&q, "y"), STR("1=2")));
	must(!query_get(&q, "none").p);
	const struct query none = {.arena = &a};
	must(!query_get(&none, "x").p);
	arena_fini(&a);
}

static void prom_is(const char *stat, const struct prom_known *k, const char *want)
{
	char name[PROM_NAME], labels[PROM_NAME], both[2 * PROM_NAME + 4];
	prom_name(str_of(stat), k, name, labels);
	snprintf(both, sizeof both, "%s{%s}", name, labels);
	same(both, want);
}

static void prometheus_names(void)
{
	struct str clusters[] = {STR("a"), STR("a.b"), STR("web")}, https[] = {STR("in")},
		   listeners[] = {STR("127.0.0.1_80"), STR("[::1]:80")};
	const struct prom_known k = {clusters, https, listeners, 3, 1, 2}, none = {0};
	prom_is("cluster.web.upstream_rq_total", &k,
		"envoy_cluster_upstream_rq_total{envoy_cluster_name=\"web\"}");
	prom_is("cluster.a.b.upstream_rq_total", &k,
		"envoy_cluster_upstream_rq_total{envoy_cluster_name=\"a.b\"}");
	prom_is("cluster.a.c", &k, "envoy_cluster_c{envoy_cluster_name=\"a\"}");
	prom_is("cluster.other.ssl.handshake", &k,
		"envoy_cluster_ssl_handshake{envoy_cluster_name=\"other\"}");
	prom_is("cluster.a.b.c", &none, "envoy_cluster_b_c{envoy_cluster_name=\"a\"}");
	prom_is("cluster.web.upstream_rq_2xx", &k,
		"envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"2\",envoy_cluster_name="
		"\"web\"}");
	prom_is("cluster.web.upstream_rq_503", &k,
		"envoy_cluster_upstream_rq{envoy_response_code=\"503\",envoy_cluster_name="
		"\"web\"}");
	prom_is("cluster.web.upstream_rq_abc", &k,
		"envoy_cluster_upstream_rq_abc{envoy_cluster_name=\"web\"}");
	prom_is("http.in.downstream_rq_4xx", &k,
		"envoy_http_downstream_rq_xx{envoy_response_code_class=\"4\",envoy_http_conn_"
		"manager_prefix=\"in\"}");
	prom_is("listener.127.0.0.1_80.downstream_cx_total", &k,
		"envoy_listener_downstream_cx_total{envoy_listener_address=\"127.0.0.1_80\"}");
	prom_is("listener.[::1]:80.ssl.handshake", &k,
		"envoy_listener_ssl_handshake{envoy_listener_address=\"[::1]:80\"}");
	prom_is("server.live", &k, "envoy_server_live{}");
	prom_is("cluster.", &k, "envoy_cluster_{}");
	prom_is("a-b c.d", &k, "envoy_a_b_c_d{}");
	prom_is("cluster.q\"\\.x", &k, "envoy_cluster_x{envoy_cluster_name=\"q\\\"\\\\\"}");
	char long_name[2000];
	memset(long_name, 'x', sizeof long_name - 1);
	memcpy(long_name, "cluster.", 8);
	long_name[1500] = '.';
	long_name[sizeof long_name - 1] = 0;
	char name[PROM_NAME], labels[PROM_NAME];
	prom_name(str_of(long_name), &k, name, labels);
	must(strlen(name) < PROM_NAME && labels[0] == 0);
}

static void statistics(void)
{
	static struct cluster_cfg web = {.name = {"web", 3}};
	struct cluster_cfg *clusters[] = {&web};
	const struct model m = {.clusters = clusters, .nclusters = 1};
	const struct stats_extra extra[] = {{"server.live", 1}};
	char err[512];
	struct page p = {0};
	stat_id rq = stat_register(STAT_COUNTER, STR("cluster.web.up_rq_2xx")),
		active = stat_register(STAT_GAUGE, STR("cluster.web.active")),
		time_id = stat_register(STAT_HISTOGRAM, STR("cluster.web.rq_time")),
		unused = stat_register(STAT_COUNTER, STR("cluster.web.unused"));
	must(rq && active && time_id && unused);
	stat_add(rq, 3);
	stat_sub(active, 1); /* another thread has added it */
	must(stats_page(&p, &m, STATS_TEXT, (struct str){NULL, 0}, false, extra, 1, err,
			sizeof err));
	same(taken(&p), "cluster.web.active: -1\ncluster.web.unused: 0\ncluster.web.up_rq_2xx: "
			"3\nserver.live: 1\ncluster.web.rq_time: No recorded values\n");
	for (int i = 1; i <= 10; i++)
		stat_record(time_id, (uint64_t)i);
	must(stats_page(&p, &m, STATS_TEXT, STR("rq_|^server"), true, extra, 1, err, sizeof err));
	const char *got = taken(&p);
	must(strstr(got,
		    "cluster.web.up_rq_2xx: 3\nserver.live: 1\ncluster.web.rq_time: P0(nan,1) ") &&
	     strstr(got, " P100(nan,10)\n"));
	must(stats_page(&p, &m, STATS_JSON, STR("rq_2xx$|server"), false, extra, 1, err,
			sizeof err));
	same(taken(&p), "{\"stats\":[{\"name\":\"cluster.web.up_rq_2xx\",\"value\":3},{\"name\":"
			"\"server.live\",\"value\":1}]}");
	must(stats_page(&p, &m, STATS_JSON, STR("rq_time"), false, extra, 1, err, sizeof err));
	got = taken(&p);
	must(strstr(got,
		    "{\"stats\":[{\"histograms\":{\"supported_quantiles\":[0,25,50,75,90,95,99,99."
		    "5,99.9,100],\"computed_quantiles\":[{\"name\":"
		    "\"cluster.web.rq_time\",\"values\":[{\"cumulative\":1,\"interval\":null}") ==
	     got);
	must(stats_page(&p, &m, STATS_PROMETHEUS, STR("rq_|active"), false, extra, 1, err,
			sizeof err));
	got = taken(&p);
	must(strstr(got, "# TYPE envoy_cluster_active "
			 "gauge\nenvoy_cluster_active{envoy_cluster_name=\"web\"} -1\n") == got);
	must(strstr(got, "# TYPE envoy_cluster_up_rq_xx "
			 "counter\nenvoy_cluster_up_rq_xx{envoy_response_code_class=\"2\",envoy_"
			 "cluster_name=\"web\"} 3\n"));
	must(strstr(
		got,
		"# TYPE envoy_cluster_rq_time "
		"histogram\nenvoy_cluster_rq_time_bucket{envoy_cluster_name=\"web\",le=\"0.5\"} 0\n"
		"envoy_cluster_rq_time_bucket{envoy_cluster_name=\"web\",le=\"1\"} "
		"1\nenvoy_cluster_rq_time_bucket{envoy_cluster_name=\"web\","
		"le=\"5\"} 5\nenvoy_cluster_rq_time_bucket{envoy_cluster_name=\"web\",le=\"10\"} "
		"10\n"));
	must(strstr(got, "le=\"+Inf\"} 10\nenvoy_cluster_rq_time_sum{envoy_cluster_name=\"web\"} "
			 "55\nenvoy_cluster_rq_time_count{envoy_cluster_name=\"web\"} 10\n"));
	must(!stats_page(&p, &m, STATS_TEXT, STR("("), false, extra, 1, err, sizeof err) &&
	     strstr(err, "Invalid re2 regex"));
	must(!p.body.n);
}

static void clusters_shown(void)
{
	static struct cluster_cfg web = {.name = {"web", 3},
					 .breakers = {{1, 2, 3, 4}, {5, 6, 7, 8}}},
				  bare = {.name = {"bare", 4}};
	struct cluster_cfg *clusters[] = {&web, &bare};
	const struct model m = {.clusters = clusters, .nclusters = 1},
			   both = {.clusters = clusters, .nclusters = 2};
	struct page p = {0};
	fake_rows[0] = (struct endpoint_row){.address = "10.0.0.1:80",
					     .hostname = "web.example",
					     .weight = 2,
					     .healthy = true,
					     .rq_total = 9};
	fake_rows[1] = (struct endpoint_row){.address = "[::1]:81", .weight = 1, .priority = 1};
	clusters_page(&p, &both, false);
	const char *got = taken(&p);
	must(strstr(got, "web::default_priority::max_connections::1\n") &&
	     strstr(got, "web::high_priority::max_retries::8\n"));
	must(strstr(got, "web::10.0.0.1:80::rq_total::9\n") &&
	     strstr(got, "web::10.0.0.1:80::health_flags::healthy\n"));
	must(strstr(got, "bare::[::1]:81::priority::1\n") && !strstr(got, "web::[::1]"));
	clusters_page(&p, &m, true);
	got = taken(&p);
	must(strstr(got, "\"name\": \"web\"") && strstr(got, "\"port_value\": 80\n") &&
	     strstr(got, "\"hostname\": \"web.example\""));
	clusters_page(&p, &both, true);
	must(strstr(taken(&p), "\"address\": \"::1\",\n       \"port_value\": 81\n"));
}

/* Requests from pages of other sites. */
static void other_sites(void)
{
	static const struct {
		const char *site, *origin;
		bool elsewhere;
	} rows[] = {
		{NULL, NULL, false},
		{"none", NULL, false},
		{"same-origin", "http://h:1", false},
		{"same-site", NULL, true},
		{"cross-site", NULL, true},
		{NULL, "http://h:1", false},
		{NULL, "http://evil", true},
		{NULL, "null", true},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct arena a;
		struct head h;
		arena_init(&a, SIZE_MAX);
		must(head_init(&h, &a, false, 8) && head_add(&h, STR(":authority"), STR("h:1")));
		if (rows[i].site)
			must(head_add(&h, STR("sec-fetch-site"), str_of(rows[i].site)));
		if (rows[i].origin)
			must(head_add(&h, STR("origin"), str_of(rows[i].origin)));
		must(from_elsewhere(&h) == rows[i].elsewhere);
		arena_fini(&a);
	}
}

enum { NOW = 1700000000 };

/* As many certificates as the text has letters. */
static unsigned fake_certs(struct str pem, struct arena *a, struct cert_facts **out)
{
	static struct str dns[] = {{"a", 1}, {"*.b", 3}}, uri = {"spiffe://c", 10}, ip = {"::1", 3};
	static struct cert_facts f[2] = {
		{{"0a", 2}, dns, &uri, &ip, 2, 1, 1, 0, NOW + 2 * 86400 - 1},
		{{"0b", 2}, NULL, NULL, NULL, 0, 0, 0, NOW - 86400, NOW - 1},
	};
	(void)a;
	*out = f;
	return (unsigned)pem.n;
}

static void certificates(void)
{
	struct tls_cert chains[2] = {{.chain = {{"f", 1}, {"xx", 2}}},
				     {.chain = {.content = {"x", 1}}}};
	struct tls_cfg both = {
		.certs = chains, .ncerts = 2, .has_ca = true, .ca = {{"ca", 2}, {"xx", 2}}};
	struct tls_cfg bare = {.system_ca = true};
	struct chain_cfg chain = {.tls = &both};
	struct listener_cfg l = {.chains = &chain, .nchains = 1}, *listeners[] = {&l};
	struct cluster_cfg c = {.tls = &bare}, plain = {.tls = NULL}, *clusters[] = {&c, &plain};
	const struct model m = {
		.listeners = listeners, .nlisteners = 1, .clusters = clusters, .nclusters = 2};
	struct page p = {.compact = true};
#define LONG(path)                                                                                \
	"{\"path\":\"" path "\",\"serial_number\":\"0a\",\"subject_alt_names\":[{\"dns\":\"a\"}," \
	"{\"dns\":\"*.b\"},{\"uri\":\"spiffe://c\"},{\"ip_address\":\"::1\"}],"                   \
	"\"days_until_expiration\":\"1\",\"valid_from\":\"1970-01-01T00:00:00Z\","                \
	"\"expiration_time\":\"2023-11-16T22:13:19Z\"}"
	admin_hooks.certs = fake_certs;
	certs_page(&p, &m, NOW);
	same(taken(&p), "{\"certificates\":[{\"ca_cert\":[" LONG(
				"ca") ",{\"path\":\"ca\",\"serial_number\":"
				      "\"0b\",\"subject_alt_names\":[],\"days_until_expiration\":"
				      "\"0\",\"valid_from\":"
				      "\"2023-11-13T22:13:20Z\",\"expiration_time\":\"2023-11-"
				      "14T22:13:19Z\"}],"
				      "\"cert_chain\":[" LONG("f") "," LONG(
					      "<inline>") "]},"
							  "{\"ca_cert\":[],\"cert_chain\":[]}]}");
	admin_hooks.certs = NULL;
}

static void memory_runs_out(void)
{
	for (uint64_t nth = 1; nth < 40; nth++) {
		struct page p = {0};
		const struct model m = {0};
		char err[64];
		mem_fail_nth(nth);
		stats_page(&p, &m, STATS_PROMETHEUS, STR("rq"), false, NULL, 0, err, sizeof err);
		mem_fail_nth(0);
		chain_clear(&p.body);
		chain_trim();
		arena_trim();
	}
}

int main(void)
{
	json();
	queries();
	prometheus_names();
	statistics();
	clusters_shown();
	other_sites();
	certificates();
	memory_runs_out();
	struct page p = {0};
	home_page(&p);
	must(strstr(taken(&p), "</table>"));
	chain_trim();
	arena_trim();
	return 0;
}
