/* fuzz/fuzz_h1_response.c
 *
 * The first byte chooses the request's method; then an answer: its head as in fuzz_h1_request, and behind it the body
 * as framed, of which no byte is taken twice and none behind the end.
 */
#include "fuzz_cut.h"
#include "http/h1_reference_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_body(const struct h1_parse *st, const struct head *h, enum method method,
		      const char *p, size_t n)
{
	enum h1_framing framing = h1_response_framing(st, h, method);
	struct h1_body b;
	enum h1_verdict v = H1_MORE;
	size_t at = 0, body = 0;
	h1_body_init(&b, framing, st->length, NULL);
	while (at < n && !b.ended && v == H1_MORE) {
		size_t used;
		struct str data;
		v = h1_body_feed(&b, &h1_default_limits, p + at, n - at, &used, &data);
		must(used <= n - at && data.n <= used && (used || v == H1_BAD));
		at += used;
		body += data.n;
	}
	must(body == b.total);
	must(v != H1_BAD || framing == H1_CHUNKED);
	if (framing == H1_NO_BODY)
		must(at == 0 && b.ended);
	if (framing == H1_LENGTH)
		must(body == (st->length < n ? st->length : n) && at == body);
	if (framing == H1_UNTIL_CLOSE || framing == H1_TUNNEL)
		must(body == n && !b.ended);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct h1_limits small = {
		.head = 300, .fields = 4, .target = 20, .method = 8, .name = 18};
	if (size == 0)
		return 0;
	enum method method = *data == 'H'   ? METHOD_HEAD
			     : *data == 'C' ? METHOD_CONNECT
					    : METHOD_GET;
	const char *p = (const char *)data + 1;
	size--;
	for (unsigned i = 0; i < 2; i++) {
		const struct h1_limits *lim = i ? &small : &h1_default_limits;
		struct outcome want = ref_parse(lim, true, p, size), got;
		struct cuts cuts = cuts_of(data, size);

		got = run_parser(lim, true, p, size, true, cut_never, NULL);
		outcome_same(&got, &want, p, size);
		outcome_free(&got);
		got = run_parser(lim, true, p, size, size < 2000, cut_random, &cuts);
		outcome_same(&got, &want, p, size);
		outcome_free(&got);
		got = run_parser(lim, true, p, size, size < 500, cut_always, NULL);
		outcome_same(&got, &want, p, size);
		outcome_free(&got);
		if (want.verdict == H1_DONE)
			check_round_trip(lim, true, p, size);
		outcome_free(&want);
	}

	struct arena a;
	struct head h;
	struct h1_parse st = {0};
	size_t used = 0;
	char *buf = malloc(size + CHUNK_SLACK);
	must(buf);
	memcpy(buf, p, size);
	arena_init(&a, SIZE_MAX);
	must(head_init(&h, &a, true, 16));
	if (h1_parse_response(&st, &h1_default_limits, buf, size, &h, &used) == H1_DONE)
		read_body(&st, &h, method, p + used, size - used);
	free(buf);
	arena_fini(&a);
	return 0;
}
