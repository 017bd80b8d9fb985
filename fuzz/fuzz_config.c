/* fuzz/fuzz_config.c: any text as a bootstrap. What compiles is walked whole, then freed;
 * nothing may stay behind. */
#include "config/envoy_show_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config_source src = {.yaml = {(const char *)data, size}};
	struct diags d;
	if (!show_to)
		show_to = fopen("/dev/null", "w");
	must(show_to != NULL);
	if (size == 0)
		return 0;
	diags_init(&d);
	struct model *m = config_compile(&src, show_types, &d);
	must((m == NULL) == (d.errors > 0));
	if (m && model_add_admin_listener(m, show_types, &d)) {
		must(model_seal(m));
		show_model(m);
	}
	model_unref(m);
	must(show_live == 0);
	diags_print(&d, show_to);
	diags_fini(&d);
	return 0;
}
