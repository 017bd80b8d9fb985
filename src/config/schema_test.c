/* src/config/schema_test.c: mistakes and what is said about them; and that the tables are in
 * order. */
#include "config/options_int.h"
#include "config/schema_int.h"
#include "config/test_int.h"

static char *outcome(const char *yaml, const struct schema_message *m)
{
	struct arena a;
	struct diags d;
	arena_init(&a, SIZE_MAX);
	diags_init(&d);
	struct doc *root = doc_from_yaml(&a, &d, "t", str_of(yaml));
	must(root != NULL);
	schema_check(&d, root, m);
	char *out = test_diags(&d);
	diags_fini(&d);
	arena_fini(&a);
	return out;
}

struct story {
	const struct schema_message *m;
	const char *yaml, *wanted;
};

static void check(const struct story *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *got = outcome(s[i].yaml, s[i].m);
		test_same(s[i].yaml, got, s[i].wanted);
		free(got);
	}
}
#define CHECK(list) check(list, sizeof list / sizeof *list)

static void names(void)
{
	static const struct story list[] = {
		{&schema_msg_cluster, "name: a\ntype: STATIC\nconnectTimeout: 1s", ""},
		{&schema_msg_cluster, "nmae: a",
		 "E 1:1 nmae: unknown field of Cluster (did you mean \"name\"?)"},
		{&schema_msg_cluster, "conectTimeout: 1s",
		 "E 1:1 conectTimeout: unknown field of Cluster (did you mean "
		 "\"connectTimeout\"?)"},
		{&schema_msg_cluster, "connect_timeout: 1s\nconnectTimeout: 2s",
		 "E 2:1 connectTimeout: is given twice, also as \"connect_timeout\""},
		{&schema_msg_cluster, "hosts: []",
		 "E 1:1 hosts: unknown field of Cluster (write load_assignment)"},
		{&schema_msg_cluster, "endpoints: []",
		 "E 1:1 endpoints: unknown field of Cluster (it is a field of load_assignment)"},
		{&schema_msg_route, "match: {prefix: /}\ntimeout: 1s",
		 "E 2:1 timeout: unknown field of Route (it is a field of route)"},
		{&schema_msg_route_match, "regex: x",
		 "E 1:1 regex: unknown field of RouteMatch (write safe_regex)"},
		{&schema_msg_route_match, "prefix: /a\npath: /b",
		 "E 2:1 path: excludes \"prefix\", give one of them"},
		{&schema_msg_bootstrap, "statics: {}\nadmin: {adress: {}}\n",
		 "E 1:1 statics: unknown field of Bootstrap\n"
		 "E 2:9 admin.adress: unknown field of Admin (did you mean \"address\"?)"},
		{&schema_msg_bootstrap, "- a", "E 1:1: a list where a map is needed (Bootstrap)"},
		{&schema_msg_cluster, "name: null\nlb_policy: ~", ""},
	};
	CHECK(list);
}

static void types(void)
{
	static const struct story list[] = {
		{&schema_msg_cluster, "name: 8080",
		 "E 1:7 name: a number where a string is needed (write it in quotes: \"8080\")"},
		{&schema_msg_cluster, "name: on",
		 "E 1:7 name: true or false where a string is needed (write it in quotes: \"on\")"},
		{&schema_msg_cluster, "name: [a]", "E 1:7 name: a list where a string is needed"},
		{&schema_msg_cluster, "respect_dns_ttl: 'true'",
		 "N 1:1 respect_dns_ttl: is deprecated in Envoy's API, and works\n"
		 "E 1:18 respect_dns_ttl: a string where true or false is needed (write it without "
		 "quotes)"},
		{&schema_msg_socket_address, "port_value: '80'", ""},
		{&schema_msg_socket_address, "port_value: 8e1", ""},
		{&schema_msg_socket_address, "port_value: 80.5",
		 "E 1:13 port_value: must be a whole number"},
		{&schema_msg_socket_address, "port_value: -1",
		 "E 1:13 port_value: must not be negative"},
		{&schema_msg_socket_address, "port_value: 4294967296",
		 "E 1:13 port_value: is too large, the most is 4294967295"},
		{&schema_msg_socket_address, "port_value: http",
		 "E 1:13 port_value: a string where a number is needed (\"http\" is no number)"},
		{&schema_msg_ring_hash, "minimum_ring_size: 18446744073709551615", ""},
		{&schema_msg_ring_hash, "minimum_ring_size: '18446744073709551616'",
		 "E 1:20 minimum_ring_size: is too large, the most is 18446744073709551615"},
		{&schema_msg_int64_range, "start: -9223372036854775808\nend: '9223372036854775807'",
		 ""},
		{&schema_msg_int64_range, "end: '9223372036854775808'",
		 "E 1:6 end: is out of range, -9223372036854775808 to 9223372036854775807"},
		{&schema_msg_previous_priorities, "update_frequency: 2147483648",
		 "E 1:19 update_frequency: is out of range, -2147483648 to 2147483647"},
		{&schema_msg_percent, "value: 0.5", ""},
		{&schema_msg_percent, "value: '1e2'", ""},
		{&schema_msg_percent, "value: NaN", ""},
		{&schema_msg_percent, "value: x", "E 1:8 value: a string where a number is needed"},
		{&schema_msg_cluster, "lb_policy: RANDOM", ""},
		{&schema_msg_cluster, "lb_policy: 3", ""},
		{&schema_msg_cluster, "lb_policy: 4",
		 "E 1:12 lb_policy: unknown value \"4\" (one of ROUND_ROBIN, "
		 "LEAST_REQUEST, RING_HASH, RANDOM, MAGLEV, CLUSTER_PROVIDED, "
		 "LOAD_BALANCING_POLICY_CONFIG)"},
		{&schema_msg_cluster, "lb_policy: RANDOMM",
		 "E 1:12 lb_policy: unknown value \"RANDOMM\" (did you mean \"RANDOM\"?)"},
		{&schema_msg_cluster, "lb_policy: round_robin",
		 "E 1:12 lb_policy: unknown value \"round_robin\" (did you mean \"ROUND_ROBIN\"?)"},
		{&schema_msg_header_value, "raw_value: aGk=", ""},
		{&schema_msg_header_value, "raw_value: a*b",
		 "E 1:12 raw_value: a string where base64 is needed"},
		{&schema_msg_static_resources, "clusters: {name: a}",
		 "E 1:11 clusters: a map where a list is needed (put \"- \" in front of it)"},
		{&schema_msg_static_resources, "clusters: [{name: a}, null, 5]",
		 "E 1:23 clusters[1]: a list cannot hold null here\n"
		 "E 1:29 clusters[2]: a number where a map is needed (Cluster)"},
		{&schema_msg_metadata, "filter_metadata: {a: {b: [1, {}]}, c: 1}",
		 "E 1:39 filter_metadata.c: a number where a map is needed"},
	};
	CHECK(list);
}

static void durations(void)
{
	static const struct story list[] = {
		{&schema_msg_cluster, "connect_timeout: 1.5s", ""},
		{&schema_msg_cluster, "connect_timeout: 0.000001s", ""},
		{&schema_msg_cluster, "connect_timeout: -1s", ""}, /* the readers judge values */
		{&schema_msg_cluster, "connect_timeout: 315576000000s", ""},
		{&schema_msg_cluster, "connect_timeout: 315576000001s",
		 "E 1:18 connect_timeout: \"315576000001s\" is no duration: seconds such as "
		 "\"1.5s\""},
		{&schema_msg_cluster, "connect_timeout: 3h",
		 "E 1:18 connect_timeout: \"3h\" is no duration: seconds "
		 "such as \"1.5s\" (did you mean \"10800s\"?)"},
		{&schema_msg_cluster, "connect_timeout: 1m30s",
		 "E 1:18 connect_timeout: \"1m30s\" is no duration: seconds such as \"1.5s\" (did "
		 "you mean \"90s\"?)"},
		{&schema_msg_cluster, "connect_timeout: 250ms",
		 "E 1:18 connect_timeout: \"250ms\" is no duration: seconds such as \"1.5s\" (did "
		 "you mean \"0.25s\"?)"},
		{&schema_msg_cluster, "connect_timeout: 5",
		 "E 1:18 connect_timeout: a number where a duration such as \"1.5s\" is needed "
		 "(did you mean \"5s\"?)"},
		{&schema_msg_cluster, "connect_timeout: {seconds: 1}",
		 "E 1:18 connect_timeout: a map where a duration such as \"1.5s\" is needed"},
		{&schema_msg_cluster, "connect_timeout: 1.s",
		 "E 1:18 connect_timeout: \"1.s\" is no duration: seconds such as \"1.5s\""},
		{&schema_msg_cluster, "connect_timeout: 0.0000000001s",
		 "E 1:18 connect_timeout: \"0.0000000001s\" is no duration: seconds such as "
		 "\"1.5s\""},
	};
	CHECK(list);
}

static void statuses(void)
{
	static const struct story list[] = {
		{&schema_msg_cluster, "outlier_detection: {}",
		 "E 1:1 outlier_detection: known to Envoy, not supported by postern: there is no "
		 "outlier detection yet"},
		{&schema_msg_listener,
		 "enable_mptcp: false\nsocket_options: []\nuse_original_dst: null", ""},
		{&schema_msg_listener, "use_original_dst: false",
		 "E 1:1 use_original_dst: known to Envoy, not supported by postern"},
		{&schema_msg_downstream_tls, "ocsp_staple_policy: LENIENT_STAPLING", ""},
		{&schema_msg_bootstrap, "stats_config: {x: 1}",
		 "N 1:1 stats_config: has no effect here: statistics keep their full names"},
		{&schema_msg_static_resources,
		 "listeners: [{traffic_direction: INBOUND}, {traffic_direction: OUTBOUND}]",
		 "N 1:14 listeners[0].traffic_direction: has no effect here: it is only said to "
		 "control planes"},
		{&schema_msg_locality_endpoints,
		 "locality: {region: x}\nmetadata: {typed_filter_metadata: {}}",
		 "N 1:1 locality: has no effect here: there is no zone-aware balancing\n"
		 "N 2:1 metadata: has no effect here: nothing reads the metadata of a locality"},
		{&schema_msg_listener, "traffic_direction: 7",
		 "N 1:1 traffic_direction: has no effect here: it is only "
		 "said to control planes\n"
		 "E 1:20 traffic_direction: unknown value \"7\" (one of "
		 "UNSPECIFIED, INBOUND, OUTBOUND)"},
	};
	CHECK(list);
}

#define TYPE_OF "\"@type\": type.googleapis.com/"
static void any(void)
{
	static const struct story list[] = {
		{&schema_msg_http_filter,
		 "name: x\ntyped_config: {" TYPE_OF
		 "envoy.extensions.filters.http.router.v3.Router}",
		 ""},
		{&schema_msg_http_filter,
		 "typed_config: {" TYPE_OF "envoy.config.filter.http.lua.v2.Lua, inlineCode: x}",
		 "N 1:25 typed_config.@type: is the old name of "
		 "envoy.extensions.filters.http.lua.v3.Lua, and works\n"
		 "N 1:82 typed_config.inlineCode: is deprecated in Envoy's API, and works"},
		{&schema_msg_http_filter,
		 "typed_config: {" TYPE_OF "envoy.extensions.filters.http.lua.v3.Lua, x: 1}",
		 "E 1:87 typed_config.x: unknown field of Lua"},
		{&schema_msg_http_filter,
		 "typed_config: {" TYPE_OF "envoy.extensions.filters.http.luaa.v3.Lua}",
		 "E 1:25 typed_config.@type: unknown type "
		 "envoy.extensions.filters.http.luaa.v3.Lua "
		 "(did you mean \"envoy.extensions.filters.http.lua.v3.Lua\"?)"},
		{&schema_msg_http_filter,
		 "typed_config: {" TYPE_OF "envoy.extensions.filters.http.csrf.v3.CsrfPolicy}",
		 "E 1:25 typed_config.@type: envoy.extensions.filters.http.csrf.v3.CsrfPolicy is "
		 "known to Envoy, not "
		 "supported by postern"},
		{&schema_msg_http_filter,
		 "is_optional: true\ntyped_config: {" TYPE_OF
		 "envoy.extensions.filters.http.csrf.v3.CsrfPolicy}",
		 "N 2:25 typed_config.@type: envoy.extensions.filters.http.csrf.v3.CsrfPolicy is "
		 "known to Envoy, not "
		 "supported by postern; left out, it is optional"},
		{&schema_msg_http_filter, "typed_config: {}",
		 "E 1:15 typed_config: \"@type\" is missing"},
		{&schema_msg_http_filter, "config: {}",
		 "E 1:1 config: unknown field of HttpFilter (write typed_config with \"@type\")"},
		{&schema_msg_http_filter,
		 "typed_config: {" TYPE_OF "udpa.type.v1.TypedStruct, type_url: "
		 "envoy.extensions.filters.http.lua.v3.Lua, value: {x: 1}}",
		 "E 1:131 typed_config.value.x: unknown field of Lua"},
		{&schema_msg_virtual_host,
		 "typed_per_filter_config: {a: {" TYPE_OF
		 "envoy.extensions.filters.http.lua.v3.LuaPerRoute, name: x, disabled: true}}",
		 "E 1:119 typed_per_filter_config.a.disabled: excludes \"name\", give one of them"},
		{&schema_msg_metadata,
		 "typed_filter_metadata: {a: {" TYPE_OF
		 "envoy.config.core.v3.SocketAddress, ipv4_compat: true}, b: {\"@type\": x/y.Z}}",
		 "N 1:1 typed_filter_metadata: has no effect here: scripts see filter_metadata "
		 "only"},
		{&schema_msg_http_filter,
		 "typed_config: {" TYPE_OF
		 "postern.filters.http.lua.v1.Lua, on_error: FAIL, libraries: strict}",
		 ""},
		{&schema_msg_http_filter,
		 "typed_config: {" TYPE_OF "postern.filters.http.lua.v1.Lua, on_error: fial}",
		 "E 1:88 typed_config.on_error: unknown value \"fial\" (did you mean \"fail\"?)"},
		{&schema_msg_http_filter,
		 "typed_config: {" TYPE_OF "postern.filters.http.static.v1.Static, rot: /x}",
		 "E 1:84 typed_config.rot: unknown field of Static (did you mean \"root\"?)"},
	};
	CHECK(list);
}

static void canonical(void)
{
	must(str_eq(schema_canonical_type(STR("envoy.router")),
		    STR("envoy.extensions.filters.http.router.v3.Router")));
	must(str_eq(schema_canonical_type(STR("type.googleapis.com/envoy.api.v2.Listener")),
		    STR("envoy.config.listener.v3.Listener")));
	must(str_eq(schema_canonical_type(STR("envoy.config.cluster.v3.Cluster")),
		    STR("envoy.config.cluster.v3.Cluster")));
	must(schema_canonical_type(STR("envoy.nothing")).p == NULL);
	must(schema_find(STR("envoy.lua")) == &schema_msg_lua);
	must(schema_find(STR("")) == NULL);
}

/* Every row well formed, every number and name once, every old name pointing at something there
 * is. */
static void tables(void)
{
	unsigned fields = 0, messages = 0;
	for (const struct schema_message *const *m = schema_messages; *m; m++, messages++) {
		must(schema_find(str_of((*m)->name)) == *m);
		for (const struct schema_field *f = (*m)->fields; f->name; f++, fields++) {
			must(f->number > 0 && f - (*m)->fields < 96 && strlen(f->name) < 64 &&
			     f->oneof < 16);
			must((f->kind == SCHEMA_ENUM) == (f->enum_names != NULL));
			must(f->kind != SCHEMA_MESSAGE || f->message || f->status != SCHEMA_USED);
			must((f->status == SCHEMA_USED) == (f->why == NULL));
			must(f->status != SCHEMA_HARMLESS || f->why[0]);
			for (const struct schema_field *g = (*m)->fields; g != f; g++)
				must(g->number != f->number && strcmp(g->name, f->name) != 0);
		}
	}
	must(messages > 130 && fields > 700);
	for (const struct schema_old *o = schema_old_types; o->old; o++)
		must(schema_find(str_of(o->now)) || strcmp(o->now, "xds.type.v3.TypedStruct") == 0);
	for (const struct schema_old *o = schema_old_names; o->old; o++)
		must(schema_find(str_of(o->now)) != NULL);
}

static char *options_of(const char *yaml, const struct str *sets, unsigned nsets, struct options *o)
{
	struct arena a;
	struct diags d;
	arena_init(&a, SIZE_MAX);
	diags_init(&d);
	struct reader r = {.arena = &a, .diags = &d};
	struct doc *root = doc_from_yaml(&a, &d, "t", str_of(yaml));
	must(root != NULL);
	options_read(&r, root, sets, nsets, o);
	char *out = test_diags(&d);
	diags_fini(&d);
	arena_fini(&a);
	return out;
}

static void options(void)
{
	struct options o;
	char *got = options_of(
		"layered_runtime: {layers: [{static_layer: {postern.max_calls: 5, postern: {lua: "
		"{on_error: fail, error_status: 503, respond_in_response: true}, strict_path: "
		"true}}}, "
		"{static_layer: {postern.max_calls: '7', envoy.reloadable_features.x: false, re2: "
		"{a: 1}}}]}",
		(struct str[]){STR("postern.lua.libraries=STRICT"), STR("postern.hard_stop=60"),
			       STR("postern.retry_non_idempotent=false")},
		3, &o);
	test_same(
		"options", got,
		"N 1:236 layered_runtime.layers[1].static_layer[\"envoy.reloadable_features.x\"]: "
		"has no effect here: "
		"of runtime keys only postern.* are read");
	free(got);
	must(o.max_calls == 7 && o.lua_on_error == ON_ERROR_FAIL && o.lua_error_status == 503 &&
	     o.strict_path == 1);
	must(o.lua_respond_in_response && o.lua_libraries == LIBS_STRICT && o.hard_stop == 60);
	must(o.retry_non_idempotent == 0 && o.max_interim == 32 && o.script_time_ms == 100);

	got = options_of(
		"layered_runtime: {layers: [{static_layer: {postern.max_call: 5, postern: "
		"{max_calls: 0, "
		"lua: {on_error: stop}, strict_path: 2, hard_stop: x}}}]}",
		(struct str[]){STR("postern.x=1"), STR("max_calls=1"), STR("postern.max_calls")}, 3,
		&o);
	test_same("wrong options", got,
		  "E 1:62 layered_runtime.layers[0].static_layer[\"postern.max_call\"]: unknown "
		  "option "
		  "postern.max_call (did you mean \"postern.max_calls\"?)\n"
		  "E 1:86 layered_runtime.layers[0].static_layer.postern.max_calls: 0 is out of "
		  "range, 1 to 65536\n"
		  "E 1:105 layered_runtime.layers[0].static_layer.postern.lua.on_error: must be "
		  "one of continue, fail\n"
		  "E 1:125 layered_runtime.layers[0].static_layer.postern.strict_path: 2 is out of "
		  "range, 0 to 1\n"
		  "E 1:139 layered_runtime.layers[0].static_layer.postern.hard_stop: must be a "
		  "whole number, 0 to 86400\n"
		  "E 0:0: unknown option postern.x\n"
		  "E 0:0: max_calls: only postern.* options can be set here\n"
		  "E 0:0: postern.max_calls: write postern.NAME=VALUE");
	free(got);
	must(o.max_calls == 4096);
}

int main(void)
{
	names();
	types();
	durations();
	statuses();
	any();
	canonical();
	tables();
	options();
	return 0;
}
