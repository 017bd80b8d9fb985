/* src/model/route_test.c: virtual hosts, routes, weights, and the model's own life. */
#include "base/must.h"
#include "model/model.h"
#include "model/regex.h"
#include <stdio.h>

static struct arena arena;

static struct vhost hosts[10];
static struct route_config rc;

static void host(int i, const char *name)
{
	hosts[i].name = str_of(name);
}

/* The hosts that a real Envoy was asked about. */
static void build_hosts(void)
{
	static struct wildcard suffixes[] = {{STR(".b.a.com"), &hosts[3]},
					     {STR("-x.a.com"), &hosts[4]},
					     {STR(".a.com"), &hosts[2]}};
	static struct wildcard prefixes[] = {{STR("www.foo."), &hosts[6]},
					     {STR("www."), &hosts[5]}};
	static const char *const names[] = {"ex", "exp", "s1",  "s2", "s3",
					    "p1", "p2",  "any", "v6", "v6p"};
	for (int i = 0; i < 10; i++)
		host(i, names[i]);
	rc = (struct route_config){.suffixes = suffixes,
				   .nsuffixes = 3,
				   .prefixes = prefixes,
				   .nprefixes = 2,
				   .any = &hosts[7]};
	map_init(&rc.exact, MEM_CONFIG);
	must(map_put(&rc.exact, STR("a.com"), &hosts[0]));
	must(map_put(&rc.exact, STR("a.com:81"), &hosts[1]));
	must(map_put(&rc.exact, STR("[::2]"), &hosts[8]));
	must(map_put(&rc.exact, STR("[::1]:80"), &hosts[9]));
}

static void virtual_hosts(void)
{
	static const struct {
		const char *host, *with_port, *without_port;
	} cases[] = {
		{"a.com", "ex", "ex"},         {"A.COM", "ex", "ex"},    {"a.com:80", "any", "ex"},
		{"a.com:81", "exp", "ex"},     {"x.a.com", "s1", "s1"},  {"x.A.com:1", "any", "s1"},
		{".a.com", "any", "any"},      {"b.a.com", "s1", "s1"},  {"c.b.a.com", "s2", "s2"},
		{"y-x.a.com", "s3", "s3"},     {"-x.a.com", "s1", "s1"}, {"www.foo.de", "p2", "p2"},
		{"www.foo.a.com", "s1", "s1"}, {"www.", "any", "any"},   {"WWW.z", "p1", "p1"},
		{"[::2]", "v6", "v6"},         {"[::2]:8", "any", "v6"}, {"[::1]:80", "v6p", "any"},
		{"a.com:", "any", "ex"},       {"a.com:x", "any", "ex"},
	};
	build_hosts();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		rc.ignore_port = false;
		must(str_eq(vhost_match(&rc, str_of(cases[i].host))->name,
			    str_of(cases[i].with_port)));
		rc.ignore_port = true;
		must(str_eq(vhost_match(&rc, str_of(cases[i].host))->name,
			    str_of(cases[i].without_port)));
	}
	must(vhost_match(&rc, STR("")) == NULL);
	char longest[2000];
	memset(longest, 'a', sizeof longest);
	memcpy(longest + sizeof longest - 6, ".A.com", 6);
	must(vhost_match(&rc, (struct str){longest, sizeof longest}) == &hosts[2]);
	rc.any = NULL;
	must(vhost_match(&rc, STR("other")) == NULL);
	map_fini(&rc.exact);
	rc = (struct route_config){.any = &hosts[7]};
	must(vhost_match(&rc, STR("")) == &hosts[7]);
}

static struct head request(const char *method, const char *const *fields)
{
	struct head h;
	must(head_init(&h, &arena, false, 16));
	must(head_add_id(&h, FIELD_METHOD, str_of(method)));
	for (; fields && fields[0]; fields += 2)
		must(head_add(&h, str_of(fields[0]), str_of(fields[1])));
	return h;
}

static bool one(struct route r, struct route_ask ask)
{
	struct route *routes[] = {&r};
	struct vhost v = {.routes = routes, .nroutes = 1};
	const struct route *got = route_match(&v, &ask);
	must(got == NULL || got == &r);
	return got != NULL;
}

static void paths(void)
{
	struct head h = request("GET", NULL);
	static const struct {
		enum path_kind kind;
		bool any_case;
		const char *path, *asked;
		bool yes;
	} cases[] = {
		{PATH_PREFIX, false, "/a", "/abc", true},
		{PATH_PREFIX, false, "/a", "/", false},
		{PATH_PREFIX, false, "", "/x", true},
		{PATH_PREFIX, false, "/A", "/abc", false},
		{PATH_PREFIX, true, "/A", "/abc", true},
		{PATH_EXACT, false, "/a", "/a", true},
		{PATH_EXACT, false, "/a", "/a/", false},
		{PATH_EXACT, false, "", "", true},
		{PATH_EXACT, true, "/A", "/a", true},
		{PATH_SEPARATED_PREFIX, false, "/a", "/a", true},
		{PATH_SEPARATED_PREFIX, false, "/a", "/a/b", true},
		{PATH_SEPARATED_PREFIX, false, "/a", "/ab", false},
		{PATH_SEPARATED_PREFIX, true, "/a", "/A/b", true},
		{PATH_CONNECT, false, "", "/", false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		must(one((struct route){.path_kind = cases[i].kind,
					.case_sensitive = !cases[i].any_case,
					.path = str_of(cases[i].path)},
			 (struct route_ask){.head = &h, .path = str_of(cases[i].asked)}) ==
		     cases[i].yes);
	char err[100];
	struct regex *rx = regex_new(STR("/a/[0-9]+"), err, sizeof err);
	if (rx) {
		struct route r = {.path_kind = PATH_REGEX, .regex = rx};
		must(one(r, (struct route_ask){.head = &h, .path = STR("/a/12")}));
		must(!one(r, (struct route_ask){.head = &h, .path = STR("/a/12/")}));
		regex_free(rx);
	}
	struct head c = request("CONNECT", NULL);
	must(one((struct route){.path_kind = PATH_CONNECT}, (struct route_ask){.head = &c}));
	must(!one((struct route){.path_kind = PATH_PREFIX}, (struct route_ask){.head = &c}));
}

static void conditions(void)
{
	const char *f[] = {"content-type", "application/grpc+proto", "cookie", "a=1", NULL};
	const char *g[] = {"content-type", "application/grpcx", NULL};
	struct head h = request("POST", f), not = request("POST", g);
	struct route_ask ask = {
		.head = &h, .path = STR("/"), .query = STR("q=1"), .random = 1000007};
	must(one((struct route){.grpc_only = true}, ask));
	ask.head = &not ;
	must(!one((struct route){.grpc_only = true}, ask));
	ask.head = &h;
	/* 7 of 1,000,000 with 1000007: the remainder decides. */
	must(one((struct route){.fraction = 8, .fraction_of = 1000000}, ask));
	must(!one((struct route){.fraction = 7, .fraction_of = 1000000}, ask));
	must(!one((struct route){.fraction = 0, .fraction_of = 100}, ask));
	struct query_match q = {.name = STR("q"), .present_only = true, .present = true};
	must(one((struct route){.query = &q, .nquery = 1}, ask));
	q.present = false;
	must(!one((struct route){.query = &q, .nquery = 1}, ask));
	struct cookie_match c = {STR("a"), {STRING_EXACT, false, STR("1")}, false};
	must(one((struct route){.cookies = &c, .ncookies = 1}, ask));
	c.invert = true;
	must(!one((struct route){.cookies = &c, .ncookies = 1}, ask));
	struct route t = {.tls_known = true, .tls_presented_set = true, .tls_presented = true};
	must(!one(t, ask));
	ask.cert_presented = true;
	must(!one(t, ask));
	ask.tls = true;
	must(one(t, ask));
	t.tls_validated_set = t.tls_validated = true;
	must(!one(t, ask));
	ask.cert_validated = true;
	must(one(t, ask));
}

static void first_that_matches(void)
{
	struct field_match want = {STR("cookie"),
				   FIELD_COOKIE,
				   FIELD_MATCH_STRING,
				   {STRING_CONTAINS, false, STR("wp=1")}};
	struct route a = {
		.headers = &want, .nheaders = 1, .path = STR("/"), .case_sensitive = true};
	struct route b = {.path = STR("/"), .case_sensitive = true};
	struct route *routes[] = {&a, &b};
	struct vhost v = {.routes = routes, .nroutes = 2};
	const char *f[] = {"cookie", "x=1; wp=1", NULL};
	struct head with = request("GET", f), without = request("GET", NULL);
	must(route_match(&v, &(struct route_ask){.head = &with, .path = STR("/p")}) == &a);
	must(route_match(&v, &(struct route_ask){.head = &without, .path = STR("/p")}) == &b);
	must(route_match(&v, &(struct route_ask){.head = &without, .path = STR("*")}) == NULL);
}

static void weights(void)
{
	struct weighted_cluster w[] = {{.weight = 10}, {.weight = 0}, {.weight = 30}};
	struct route r = {.weighted = w, .nweighted = 3, .total_weight = 40};
	unsigned got[3] = {0};
	for (uint64_t i = 0; i < 4000; i++)
		got[route_weighted(&r, i) - w]++;
	must(got[0] == 1000 && got[1] == 0 && got[2] == 3000);
	must(route_weighted(&(struct route){0}, 7) == NULL);
}

static int order[8], norder;
static void note(void *p)
{
	order[norder++] = *(int *)p;
}

static void life(void)
{
	static int one_ = 1, two = 2, three = 3;
	struct model *m = model_new();
	must(m && model_seal(m));
	must(model_on_free(m, note, &one_) && model_on_free(m, note, &two));
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 9; i++) {
			char name[16];
			snprintf(name, sizeof name, "/f%d", i);
			must(model_watch(m, str_of(name)));
		}
	must(m->nwatched == 9 && str_eq(m->watched[8], STR("/f8")));
	static struct tls_cfg tls;
	tls = (struct tls_cfg){.ctx = &three, .ctx_free = note};
	static struct cluster_cfg c = {.name = STR("c"), .tls = &tls}, *clusters[] = {&c};
	m->clusters = clusters;
	m->nclusters = 1;
	must(!model_seal(m)); /* not in the map */
	must(map_put(&m->clusters_by_name, c.name, &c) && model_seal(m));
	must(cluster_find(m, STR("c")) == &c && !cluster_find(m, STR("d")));
	const struct model *again = model_ref(m);
	model_unref(m);
	must(norder == 0);
	model_unref(again);
	must(norder == 3 && order[0] == 2 && order[1] == 1 && order[2] == 3);
	model_unref(NULL);
}

int main(void)
{
	arena_init(&arena, 1 << 20);
	virtual_hosts();
	paths();
	conditions();
	first_that_matches();
	weights();
	life();
	arena_fini(&arena);
	return 0;
}
