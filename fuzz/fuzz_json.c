/* fuzz/fuzz_json.c: any bytes as JSON, the tree held against the bootstrap's schema, and written
 * out. */
#include "base/must.h"
#include "config/config.h"
#include "config/schema.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena a;
	struct diags d;
	char *one = NULL, *two = NULL;
	size_t n = 0, m = 0;
	arena_init(&a, SIZE_MAX);
	diags_init(&d);
	struct doc *root = doc_from_json(&a, &d, "fuzz", (struct str){(const char *)data, size});
	must((root == NULL) == (d.errors > 0));
	if (root) {
		must(doc_to_json(root, &one, &n, false));
		struct doc *again = doc_from_json(&a, &d, "again", (struct str){one, n});
		must(again && doc_to_json(again, &two, &m, false));
		must(n == m && memcmp(one, two, n) == 0);
		free(one);
		free(two);
		schema_check(&d, root, schema_find(STR("envoy.config.bootstrap.v3.Bootstrap")));
	}
	diags_fini(&d);
	arena_fini(&a);
	return 0;
}
