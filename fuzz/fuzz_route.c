/* fuzz/fuzz_route.c: a request against one rich route configuration. First line: authority; second: path; then fields
 * "name: value". The virtual host must be the one a plain reading of Envoy's rules finds, and a search in a cookie must
 * find what byte by byte comparison finds. */
#include "config/envoy_show_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char bootstrap[] =
	"static_resources:\n"
	"  listeners:\n"
	"  - name: main\n"
	"    address: {socket_address: {address: 127.0.0.1, port_value: 80}}\n"
	"    filter_chains:\n"
	"    - filters:\n"
	"      - name: h\n"
	"        typed_config:\n"
	"          \"@type\": "
	"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
	"HttpConnectionManager\n"
	"          stat_prefix: in\n"
	"          http_filters: [{name: r, typed_config: {\"@type\": "
	"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]\n"
	"          route_config:\n"
	"            virtual_hosts:\n"
	"            - {name: v0, domains: [a.com, '[::1]'], routes: &routes [\n"
	"              {match: {path: /exact, case_sensitive: false}, direct_response: &d {status: "
	"200}},\n"
	"              {match: {path_separated_prefix: /sep}, direct_response: *d},\n"
	"              {match: {safe_regex: {regex: '/[a-z]+/[0-9]+'}}, direct_response: *d},\n"
	"              {match: {prefix: /q, query_parameters: [{name: a, string_match: {exact: "
	"'1'}}, {name: b}, "
	"{name: c, present_match: false}]}, direct_response: *d},\n"
	"              {match: {prefix: /c, cookies: [{name: k, string_match: {prefix: v}}, {name: "
	"m, string_match: "
	"{exact: x}, invert_match: true}]}, direct_response: *d},\n"
	"              {match: {prefix: /h, headers: [{name: x-n, range_match: {start: -10, end: "
	"10}}, {name: x-s, "
	"string_match: {suffix: END, ignore_case: true}}, {name: x-i, string_match: {contains: "
	"mId, ignore_case: true}}, "
	"{name: x-p, present_match: true, invert_match: true}, {name: x-r, string_match: "
	"{safe_regex: "
	"{regex: '(a|b)*c'}}, treat_missing_header_as_empty: true}]}, direct_response: *d},\n"
	"              {match: {prefix: '', grpc: {}}, direct_response: *d},\n"
	"              {match: {prefix: /, headers: [{name: cookie, string_match: {safe_regex: "
	"{regex: "
	"'.*wp_direct=1.*'}}}]}, direct_response: *d},\n"
	"              {match: {prefix: /}, direct_response: *d}]}\n"
	"            - {name: v1, domains: ['a.com:81', '*.a.com'], routes: *routes}\n"
	"            - {name: v2, domains: ['*.b.a.com', '*-x.a.com', 'www.*'], routes: *routes}\n"
	"            - {name: v3, domains: ['www.foo.*', '*'], routes: *routes}\n";
static const char *const domains[][4] = {{"a.com", "[::1]"},
					 {"a.com:81", "*.a.com"},
					 {"*.b.a.com", "*-x.a.com", "www.*"},
					 {"www.foo.*", "*"}};
enum { COOKIE_ROUTE = 7, LAST_ROUTE = 8 };

static const struct route_config *routes(void)
{
	static const struct model *m; /* kept */
	struct config_source src = {.yaml = str_of(bootstrap)};
	struct diags d;
	if (m)
		return m->listeners[0]->chains[0].hcm->routes;
	diags_init(&d);
	m = config_compile(&src, show_types, &d);
	diags_print(&d, stderr);
	must(m != NULL);
	diags_fini(&d);
	return m->listeners[0]->chains[0].hcm->routes;
}

/* How well a domain fits: exact > longer suffix > longer prefix > "*"; 0: not. */
static unsigned fit(const char *domain, struct str host)
{
	struct str d = str_of(domain);
	if (str_eq(d, STR("*")))
		return 1;
	if (d.p[0] == '*') {
		struct str tail = str_from(d, 1);
		bool ends = host.n > tail.n && str_ieq(str_from(host, host.n - tail.n), tail);
		return ends ? 2000 + (unsigned)tail.n : 0;
	}
	if (d.p[d.n - 1] == '*')
		return host.n > d.n - 1 && str_ieq((struct str){host.p, d.n - 1},
						   (struct str){d.p, d.n - 1})
			       ? 1000 + (unsigned)d.n
			       : 0;
	return str_ieq(d, host) ? 3000 : 0;
}

static void check_host(const struct route_config *rc, struct str host)
{
	unsigned best = 0, at = 0;
	const struct vhost *v = vhost_match(rc, host);
	if (host.n == 0) {
		must(v == NULL);
		return;
	}
	for (unsigned i = 0; i < 4; i++)
		for (unsigned k = 0; k < 4 && domains[i][k]; k++)
			if (fit(domains[i][k], host) > best) {
				best = fit(domains[i][k], host);
				at = i;
			}
	must(v == rc->vhosts[at]);
}

static bool slow_find(struct str s, struct str what)
{
	for (size_t i = 0; i + what.n <= s.n; i++)
		if (memcmp(s.p + i, what.p, what.n) == 0)
			return true;
	return false;
}

static struct str line_of(struct str *rest)
{
	struct str line;
	str_cut(*rest, '\n', &line, rest);
	return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct route_config *rc = routes();
	struct str rest = {(const char *)data, size}, host = line_of(&rest), path = line_of(&rest);
	struct route_ask ask = {.tls = size & 1, .random = size};
	struct arena a;
	struct head h;
	bool cookie = false, plain = true;
	arena_init(&a, 1 << 20);
	must(head_init(&h, &a, false, 8));
	if (!head_add_id(&h, FIELD_METHOD, STR("GET")) || !head_add_id(&h, FIELD_PATH, path))
		goto out;
	while (rest.n && h.n < 100) {
		struct str line = line_of(&rest), name, value;
		str_cut(line, ':', &name, &value);
		value = str_trim(value);
		if (!field_name_ok(name) || !head_add(&h, name, value))
			continue;
		if (name_id(name.p, name.n) == FIELD_COOKIE)
			cookie |= slow_find(value, STR("wp_direct=1"));
		else if (name_id(name.p, name.n) == FIELD_CONTENT_TYPE)
			plain = false;
	}
	ask.head = &h;
	str_cut(path, '?', &ask.path, &ask.query);
	check_host(rc, host);
	const struct vhost *v = rc->vhosts[0];
	const struct route *r = route_match(v, &ask);
	bool rooted = path.n && path.p[0] == '/';
	must(r != NULL || !rooted);
	if (r && plain && r->index >= COOKIE_ROUTE)
		must(r->index == (cookie ? COOKIE_ROUTE : LAST_ROUTE));
	cookie_value(&h, host);
	query_matches(
		&(struct query_match){.name = host, .string = {STRING_CONTAINS, true, STR("x")}},
		ask.query);
out:
	arena_fini(&a);
	return 0;
}
