/* src/config/hooks_test.c: typed messages as protobuf reflection shows them; formats asked for
 * by filters. */
#include "config/envoy_int.h"
#include "config/test_int.h"
#include "model/filter.h"
#include "model/format.h"

static void form_is(const char *yaml, const char *wanted)
{
	struct arena a;
	struct diags d;
	arena_init(&a, SIZE_MAX);
	diags_init(&d);
	struct doc *any = doc_from_yaml(&a, &d, "x.yaml", str_of(yaml));
	must(any != NULL);
	struct compile c = {.arena = &a, .diags = &d};
	struct doc *m = envoy_hooks.message(&c, any);
	char *got = m ? test_json(m, false) : test_diags(&d);
	test_same(yaml, got, wanted);
	free(got);
	diags_fini(&d);
	arena_fini(&a);
}
#define TYPE "\"@type\": type.googleapis.com/"

static void no_memory(void)
{
	for (uint64_t nth = 1; nth < 60; nth++) {
		struct arena a;
		struct diags d;
		arena_init(&a, SIZE_MAX);
		diags_init(&d);
		struct doc *any = doc_from_yaml(
			&a, &d, "x.yaml",
			STR("{" TYPE "envoy.config.core.v3.Metadata, filter_metadata: {ns: {k: [1, "
			    "a, {b: null}]}}}"));
		must(any != NULL);
		a.cap = a.used + nth * 16;
		struct compile c = {.arena = &a, .diags = &d};
		must(envoy_hooks.message(&c, any) || d.errors);
		diags_fini(&d);
		arena_fini(&a);
	}
}

int main(void)
{
	form_is("{" TYPE "envoy.config.core.v3.SocketAddress, address: 192.0.2.1, portValue: 0, "
		"protocol: UDP, ipv4_compat: false}",
		"{\"address\": \"192.0.2.1\",\"port_value\": 0,\"protocol\": 1}");
	form_is("{" TYPE "envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: '', "
		"endpoints: [], policy: {overprovisioning_factor: 0}}",
		"{\"policy\": {\"overprovisioning_factor\": {}}}");
	form_is("{" TYPE "google.protobuf.Struct, value: {a: 1, b: 1.5, c: [x, true], d: {}}}",
		"{\"fields\": {\"a\": {\"number_value\": 1},\"b\": {\"string_value\": "
		"\"1.5\"},\"c\": {\"list_value\": {\"values\": ["
		"{\"string_value\": \"x\"},{\"bool_value\": true}]}},\"d\": {\"struct_value\": "
		"{}}}}");
	form_is("{" TYPE "google.protobuf.UInt32Value, value: 7}", "{\"value\": 7}");
	form_is("{" TYPE "no.such.Thing}", "E 1:1: no.such.Thing is no message that postern knows");
	no_memory();
	puts("hooks ok");
	return 0;
}
