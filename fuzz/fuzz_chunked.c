/* fuzz/fuzz_chunked.c: a chunked body with trailers, whatever the cut, as the reference decoder
 * reads it. */
#include "fuzz_cut.h"
#include "http/h1_chunked_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t cut_never(void *arg, size_t at, size_t n)
{
	return n;
}
static size_t cut_always(void *arg, size_t at, size_t n)
{
	return at + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct h1_limits small = {
		.chunk_line = 12, .chunk_ext = 30, .trailer = 60, .trailer_fields = 3};
	const char *p = (const char *)data;
	for (unsigned i = 0; i < 2; i++) {
		const struct h1_limits *lim = i ? &small : &h1_default_limits;
		struct chunked want = ref_chunked(lim, p, size), got;
		struct cuts cuts = cuts_of(data, size);

		got = run_chunked(lim, p, size, cut_never, NULL);
		chunked_same(&got, &want, p, size);
		chunked_free(&got);
		got = run_chunked(lim, p, size, cut_random, &cuts);
		chunked_same(&got, &want, p, size);
		chunked_free(&got);
		got = run_chunked(lim, p, size, cut_always, NULL);
		chunked_same(&got, &want, p, size);
		chunked_free(&got);
		chunked_free(&want);
	}
	return 0;
}
