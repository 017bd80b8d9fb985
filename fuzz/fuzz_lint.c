/* fuzz/fuzz_lint.c: any bytes as a script to be linted; what lint_breaks changes is free of what
 * it changes. */
#include "base/must.h"
#include "filters/lua/lint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool known(void *arg, struct str name)
{
	return name.n == 1;
}

static void say(void *arg, enum diag_level level, uint32_t line, uint32_t column, const char *text,
		const char *hint)
{
	must(line > 0 && column > 0 && text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const clusters[] = {"one", "two", NULL};
	const struct lint_env env = {.cluster_known = known, .clusters = clusters, .say = say};
	struct str source = {(const char *)data, size};
	struct arena a;
	arena_init(&a, 64u << 20);
	lint_script(source, &a, &env);
	struct str once = lint_breaks(source, &a), twice = lint_breaks(once, &a);
	must(a.over || str_eq(once, twice));
	arena_fini(&a);
	return 0;
}
