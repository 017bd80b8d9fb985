/* fuzz/fuzz_path.c: a target under every combination of the normalization options, against the
 * reference. */
#include "http/path_reference_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (unsigned o = 0; o < 8; o++)
		check_path((const char *)data, size, o & 1, o & 2, o & 4);
	path_has_dot_params((struct str){(const char *)data, size});
	return 0;
}
