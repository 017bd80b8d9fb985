/* fuzz/fuzz_yaml.c: any bytes as YAML, the tree held against the bootstrap's schema, and written
 * out. */
#include "base/must.h"
#include "config/config.h"
#include "config/schema.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was written as JSON must come back as the same tree. */
static void round_trip(const struct doc *root)
{
	char *one = NULL, *two = NULL;
	size_t n = 0, m = 0;
	struct arena a;
	struct diags d;
	must(doc_to_json(root, &one, &n, false));
	arena_init(&a, SIZE_MAX);
	diags_init(&d);
	struct doc *again = doc_from_json(&a, &d, "again", (struct str){one, n});
	/* jansson takes no key with a NUL; all else it must take. */
	must(again || memmem(one, n, "\\u0000", 6));
	if (again) {
		must(doc_to_json(again, &two, &m, false));
		must(n == m && memcmp(one, two, n) == 0);
	}
	free(one);
	free(two);
	diags_fini(&d);
	arena_fini(&a);
}

static void once(struct str text, bool all)
{
	struct arena a;
	struct diags d;
	arena_init(&a, SIZE_MAX);
	diags_init(&d);
	struct doc *root = (all ? doc_from_yaml_all : doc_from_yaml)(&a, &d, "fuzz", text);
	must((root == NULL) == (d.errors > 0));
	if (root) {
		round_trip(root);
		schema_check(&d, root, schema_find(STR("envoy.config.bootstrap.v3.Bootstrap")));
	}
	diags_fini(&d);
	arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {(const char *)data, size};
	once(text, false);
	once(text, true);
	return 0;
}
