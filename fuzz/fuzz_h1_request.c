/* fuzz/fuzz_h1_request.c
 *
 * A request head: whatever the cut, the verdict and the message of the reference parser; what is accepted and
 * written again parses to the same message.
 */
#include "fuzz_cut.h"
#include "http/h1_reference_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct h1_limits small = {
		.head = 300, .fields = 4, .target = 20, .method = 8, .name = 18};
	const char *p = (const char *)data;
	for (unsigned i = 0; i < 2; i++) {
		const struct h1_limits *lim = i ? &small : &h1_default_limits;
		struct outcome want = ref_parse(lim, false, p, size), got;
		struct cuts cuts = cuts_of(data, size);

		got = run_parser(lim, false, p, size, true, cut_never, NULL);
		outcome_same(&got, &want, p, size);
		outcome_free(&got);
		got = run_parser(lim, false, p, size, size < 2000, cut_random, &cuts);
		outcome_same(&got, &want, p, size);
		outcome_free(&got);
		got = run_parser(lim, false, p, size, size < 500, cut_always, NULL);
		outcome_same(&got, &want, p, size);
		outcome_free(&got);
		if (want.verdict == H1_DONE)
			check_round_trip(lim, false, p, size);
		outcome_free(&want);
	}
	return 0;
}
