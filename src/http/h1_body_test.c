/* src/http/h1_body_test.c */
#include "http/h1_chunked_test.h"

#define CHUNK "http1.chunk"
#define TRAILER "http1.trailer"
#define LARGE "http1.too_large"

static const struct {
	const char *raw, *body, *detail; /* detail NULL: complete; "": incomplete */
	size_t n;
} cases[] = {
/* clang-format off */
#define C(raw, body, detail) {raw, body, detail, sizeof raw - 1}
	C("5\r\nhello\r\n0\r\n\r\n", "hello", NULL),
	C("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /", "hello world", NULL),
	C("0\r\n\r\n", "", NULL),
	C("0A\r\n0123456789\r\n000\r\n\r\n", "0123456789", NULL),
	C("+5\r\nhello\r\n0\r\n\r\n", "", CHUNK),
	C("-5\r\nhello", "", CHUNK),
	C("0x5\r\nhello", "", CHUNK),
	C("\r\nhello", "", CHUNK),
	C("zz\r\n", "", CHUNK),
	C(" 5\r\nhello", "", CHUNK),
	C("10000000000000005\r\nhello", "", CHUNK),
	C("FFFFFFFFFFFFFFFE\r\nhello", "", CHUNK),
	C("8000000000000000\r\n", "", CHUNK),
	C("7FFFFFFFFFFFFFFF\r\nhello", "hello", ""),
	C("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello", NULL),
	C("00000000000000005\r\nhello", "", CHUNK),
	C("5 \r\nhello", "", CHUNK),
	C("5 ;a\r\nhello\r\n0\r\n\r\n", "hello", NULL),
	C("5\r\nhel\r\n0\r\n\r\n", "hel\r\n", CHUNK),
	C("5\r\nhello!!\r\n", "hello", CHUNK),
	C("5\r\nhello0\r\n", "hello", CHUNK),
	C("5\nhello", "", CHUNK),
	C("5\r\nhello\n0\r\n\r\n", "hello", CHUNK),
	C("5\rhello", "", CHUNK),
	C("5;name=value\r\nhello\r\n0;last\r\n\r\n", "hello", NULL),
	C("5;n=\"a b;\\\"c\"\r\nhello\r\n0\r\n\r\n", "hello", NULL),
	C("5; a = b ;c\t=\t\"\";d\r\nhello\r\n0\r\n\r\n", "hello", NULL),
	C("5;\r\n", "", CHUNK),
	C("5;a=\r\n", "", CHUNK),
	C("5;a=b \r\n", "", CHUNK),
	C("5;a \r\n", "", CHUNK),
	C("5;a=\"b\"c\r\n", "", CHUNK),
	C("5;x=\ny\r\n", "", CHUNK),
	C("5;a\rb\r\n", "", CHUNK),
	C("5;a\0b\r\n", "", CHUNK),
	C("5;a=\"\x7f\"\r\n", "", CHUNK),
	C("2;\nxx\r\n4c\r\n", "", CHUNK),
	C("5\r\nhel", "hel", ""),
	C("5\r\nhello\r\n0\r\n", "hello", ""),
	C("0\r\nX-T: 1\r\n\r\n", "", NULL),
	C("0\r\nX T: 1\r\n\r\n", "", TRAILER),
	C("0\r\njunk\r\n\r\n", "", TRAILER),
	C("0\r\n: v\r\n\r\n", "", TRAILER),
	C("0\r\nX-T: 1\nX-U: 2\r\n\r\n", "", TRAILER),
	C("0\r\nX-T: 1\r\n fold\r\n\r\n", "", TRAILER),
	C("0\r\nX-T: a\0b\r\n\r\n", "", TRAILER),
	C("0\r\n\rX", "", TRAILER),
#undef C
	/* clang-format on */
};

static size_t cut_never(void *arg, size_t at, size_t n)
{
	return n;
}
static size_t cut_always(void *arg, size_t at, size_t n)
{
	return at + 1;
}
static size_t cut_once(void *arg, size_t at, size_t n)
{
	size_t k = *(size_t *)arg;
	return at < k && k < n ? k : n;
}

static void check(const struct h1_limits *lim, const char *p, size_t n, bool cuts)
{
	struct chunked want = ref_chunked(lim, p, n), got = run_chunked(lim, p, n, cut_never, NULL);
	chunked_same(&got, &want, p, n);
	chunked_free(&got);
	got = run_chunked(lim, p, n, cut_always, NULL);
	chunked_same(&got, &want, p, n);
	chunked_free(&got);
	for (size_t k = 1; cuts && k < n; k++) {
		got = run_chunked(lim, p, n, cut_once, &k);
		chunked_same(&got, &want, p, n);
		chunked_free(&got);
	}
	chunked_free(&want);
}

static void test_cases(void)
{
	static const char bytes[] = "\0\t\n\r :;,=\"\\05aFg\x7f\x80";
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct chunked o = ref_chunked(&h1_default_limits, cases[i].raw, cases[i].n);
		const char *d = cases[i].detail;
		bool ok = o.verdict == (!d   ? H1_DONE
					: *d ? H1_BAD
					     : H1_MORE) &&
			  o.body_n == strlen(cases[i].body) &&
			  !memcmp(o.body, cases[i].body, o.body_n);
		ok &= o.verdict != H1_BAD || !strcmp(o.detail, d);
		if (!ok)
			fprintf(stderr, "case %zu: %s: %d %s\n", i, cases[i].raw, o.verdict,
				o.detail ? o.detail : "");
		must(ok);
		chunked_free(&o);
		check(&h1_default_limits, cases[i].raw, cases[i].n, true);
		for (size_t at = 0; at < cases[i].n; at++)
			for (size_t k = 0; k < sizeof bytes - 1; k++) {
				char buf[128];
				memcpy(buf, cases[i].raw, cases[i].n);
				buf[at] = bytes[k];
				check(&h1_default_limits, buf, cases[i].n, false);
			}
	}
}

static char *repeat(char *to, const char *s, size_t times)
{
	size_t n = strlen(s);
	while (times--)
		to = (char *)memcpy(to, s, n) + n;
	return to;
}

static void is_large(const char *buf, const char *end, bool over)
{
	struct chunked o = ref_chunked(&h1_default_limits, buf, (size_t)(end - buf));
	must(over ? o.verdict == H1_BAD && !strcmp(o.detail, LARGE) : o.verdict == H1_DONE);
	chunked_free(&o);
	check(&h1_default_limits, buf, (size_t)(end - buf), false);
}

static void test_limits(void)
{
	char *buf = malloc(200000);
	must(buf);
	for (unsigned over = 0; over < 2; over++) {
		char *end = repeat(repeat(buf, "5;", 1), "x", 254 + over);
		is_large(buf, repeat(end, "\r\nhello\r\n0\r\n\r\n", 1), over);
		end = repeat(buf, "1;aaaaaaaaaaaaaaa\r\nx\r\n", 1024);
		is_large(buf, repeat(end, over ? "0;a\r\n\r\n" : "0\r\n\r\n", 1), over);
		end = repeat(repeat(buf, "0\r\n", 1), "X: 1\r\n", 20 + over);
		is_large(buf, repeat(end, "\r\n", 1), over);
		end = repeat(repeat(buf, "0\r\nX: ", 1), "a", 8192 - 3 - 2 - 1 + over);
		is_large(buf, repeat(end, "\r\n\r\n", 1), over);
	}
	char *end = repeat(buf, "1\r\nx\r\n", 3000);
	end = repeat(end, "0\r\n\r\n", 1);
	check(&h1_default_limits, buf, (size_t)(end - buf), false);
	free(buf);
}

static void test_trailers(void)
{
	static const char raw[] =
		"0\r\nX-T:  1 \r\ngRPC-Status: 0\r\nContent-Length: 100\r\nTransfer-Encoding: "
		"chunked\r\n"
		"Host: evil\r\nAuthorization: x\r\nCookie: a\r\nX-Forwarded-For: 1\r\nX-U:\r\n\r\n";
	struct chunked o = run_chunked(&h1_default_limits, raw, sizeof raw - 1, cut_always, NULL);
	must(o.verdict == H1_DONE);
	must(o.trailers_n == strlen("X-T: 1\ngRPC-Status: 0\nX-U: \n"));
	must(!memcmp(o.trailers, "X-T: 1\ngRPC-Status: 0\nX-U: \n", o.trailers_n));
	chunked_free(&o);
	check(&h1_default_limits, raw, sizeof raw - 1, true);

	/* Nobody wants them: the syntax still holds. */
	struct h1_body b;
	size_t used;
	struct str data;
	h1_body_init(&b, H1_CHUNKED, 0, NULL);
	must(h1_body_feed(&b, &h1_default_limits, raw, sizeof raw - 1, &used, &data) == H1_DONE);
	must(used == sizeof raw - 1 && data.n == 0 && b.ended);
	h1_body_init(&b, H1_CHUNKED, 0, NULL);
	must(h1_body_feed(&b, &h1_default_limits, "0\r\na b:\r\n", 9, &used, &data) == H1_BAD);

	/* No memory for them, wherever it runs out. */
	unsigned done = 0;
	for (size_t cap = 8 * sizeof(struct field); cap < 2000; cap += 8) {
		struct arena a;
		struct head t;
		arena_init(&a, cap);
		must(head_init(&t, &a, false, 0));
		h1_body_init(&b, H1_CHUNKED, 0, &t);
		enum h1_verdict v =
			h1_body_feed(&b, &h1_default_limits, raw, sizeof raw - 1, &used, &data);
		must(v == H1_DONE || (v == H1_BAD && b.status == 503));
		done += v == H1_DONE;
		arena_fini(&a);
	}
	must(done > 0 && done < 200);
}

static void test_other_framings(void)
{
	struct h1_body b;
	size_t used;
	struct str data;

	h1_body_init(&b, H1_LENGTH, 5, NULL);
	must(!b.ended);
	must(h1_body_feed(&b, &h1_default_limits, "hel", 3, &used, &data) == H1_MORE);
	must(used == 3 && data.n == 3 && b.left == 2);
	must(h1_body_feed(&b, &h1_default_limits, "loGET", 5, &used, &data) == H1_DONE);
	must(used == 2 && data.n == 2 && b.ended && b.total == 5);
	must(h1_body_feed(&b, &h1_default_limits, "GET", 3, &used, &data) == H1_DONE && used == 0);

	h1_body_init(&b, H1_LENGTH, 0, NULL);
	must(b.ended);
	h1_body_init(&b, H1_NO_BODY, 7, NULL);
	must(b.ended);

	h1_body_init(&b, H1_UNTIL_CLOSE, 0, NULL);
	must(h1_body_feed(&b, &h1_default_limits, "x", 1, &used, &data) == H1_MORE && used == 1 &&
	     data.n == 1);
	h1_body_init(&b, H1_TUNNEL, 0, NULL);
	must(h1_body_feed(&b, &h1_default_limits, "xy", 2, &used, &data) == H1_MORE && used == 2 &&
	     !b.ended);
}

int main(void)
{
	test_cases();
	test_limits();
	test_trailers();
	test_other_framings();
	arena_trim();
	return 0;
}
