/* src/http/h1_parse_test.c
 *
 * Heads with the verdict each must get (robustness.md 3.1, 3.2), every one of them cut at every offset and
 * damaged at every byte, and held against the reference parser.
 */
#include "http/h1_reference_test.h"

#define G "GET /x HTTP/1.1\r\nHost: t.test\r\n"
#define P "POST /x HTTP/1.1\r\nHost: t.test\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
#define LINE "http1.start_line"
#define VERSION "http1.version"
#define TARGET "http1.target"
#define HOST "http1.host"
#define NAME "http1.field_name"
#define VALUE "http1.field_value"
#define EOL "http1.line_end"
#define CL "http1.content_length"
#define TE "http1.transfer_encoding"
#define BOTH "http1.cl_and_te"
#define CONN "http1.connection"
#define LARGE "http1.too_large"

struct verdict {
	const char *story, *raw;
	unsigned status; /* 0: accepted; 1: incomplete */
	const char *detail;
};

/* clang-format off */
static const struct verdict requests[] = {
	{"nothing", "", 1, 0},
	{"plain", G "\r\n", 0, 0},
	{"body follows", P "Content-Length: 5\r\n\r\nhello", 0, 0},
	{"no version", "GET /x\r\nHost: t.test\r\n\r\n", 400, VERSION},
	{"no target", "GET HTTP/1.1\r\nHost: t.test\r\n\r\n", 400, VERSION},
	{"only a method", "GET\r\n\r\n", 400, LINE},
	{"empty target", "GET  HTTP/1.1\r\nHost: t.test\r\n\r\n", 400, LINE},
	{"blank in target", "GET /a b HTTP/1.1\r\nHost: t.test\r\n\r\n", 400, LINE},
	{"two versions", "GET /x HTTP/1.1 HTTP/1.1\r\nHost: t.test\r\n\r\n", 400, LINE},
	{"control in target", "GET /x\x01 HTTP/1.1\r\n", 400, LINE},
	{"colon in method", "GET: /x HTTP/1.1\r\n", 400, LINE},
	{"brace in method", "G{T /x HTTP/1.1\r\n", 400, LINE},
	{"relative target", "GET c/rel HTTP/1.1\r\n", 400, TARGET},
	{"leading blank", " GET /x HTTP/1.1\r\n", 400, "http1.not_http"},
	{"tabs", "GET\t/x\tHTTP/1.1\r\n", 400, LINE},
	{"trailing blank", "GET /x HTTP/1.1 \r\n", 400, LINE},
	{"fragment", "GET /x#f HTTP/1.1\r\n", 400, LINE},
	{"high bytes", "GET /\xc3\xa9 HTTP/1.1\r\n", 400, LINE},
	{"browsers send these", "GET /\"<>\\^`{|} HTTP/1.1\r\nHost: t\r\n\r\n", 0, 0},
	{"lower-case method", "get /x HTTP/1.1\r\nHost: t.test\r\n\r\n", 0, 0},
	{"custom method", "PROPFIND /x HTTP/1.1\r\nHost: t.test\r\n\r\n", 0, 0},
	{"vertical tab", "GET /x\x0bHTTP/1.1\r\n", 400, LINE},
	{"lower-case version", "GET /x http/1.1\r\n", 400, VERSION},
	{"HTTP/2.0", "GET /x HTTP/2.0\r\n", 505, VERSION},
	{"HTTP/0.9", "GET /x HTTP/0.9\r\n", 505, VERSION},
	{"version of letters", "GET /x HTTP/x.y\r\n", 400, VERSION},
	{"HTTP/1.10", "GET /x HTTP/1.10\r\n", 400, VERSION},
	{"no minor", "GET /x HTTP/1\r\n", 400, VERSION},
	{"another protocol", "GET /x HTCPCP/1.0\r\n", 400, LINE},
	{"HTTP/1.2", "GET /x HTTP/1.2\r\nHost: t.test\r\n\r\n", 0, 0},
	{"1.0 without Host", "GET /x HTTP/1.0\r\n\r\n", 0, 0},
	{"1.0 with coding", "POST /x HTTP/1.0\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n", 400, TE},
	{"1.0 keep-alive", "GET /x HTTP/1.0\r\nHost: t\r\nConnection: keep-alive\r\n\r\n", 0, 0},
	{"no Host", "GET /x HTTP/1.1\r\nAccept: */*\r\n\r\n", 400, HOST},
	{"Host twice", G "Host: t.test\r\n\r\n", 400, HOST},
	{"blank in Host", "GET /x HTTP/1.1\r\nHost: t.test evil.test\r\n\r\n", 400, HOST},
	{"comma in Host", "GET /x HTTP/1.1\r\nHost: t.test,evil.test\r\n\r\n", 400, HOST},
	{"slash in Host", "GET /x HTTP/1.1\r\nHost: t.test/evil\r\n\r\n", 400, HOST},
	{"userinfo in Host", "GET /x HTTP/1.1\r\nHost: user@t.test\r\n\r\n", 400, HOST},
	{"the byte is enough", "GET /x HTTP/1.1\r\nHost: user@", 400, HOST},
	{"port of letters", "GET /x HTTP/1.1\r\nHost: t.test:abc\r\n\r\n", 400, HOST},
	{"port too large", "GET /x HTTP/1.1\r\nHost: t.test:65536\r\n\r\n", 400, HOST},
	{"largest port", "GET /x HTTP/1.1\r\nHost: t.test:65535\r\n\r\n", 0, 0},
	{"empty Host", "GET /x HTTP/1.1\r\nHost: \r\n\r\n", 400, HOST},
	{"IPv6 Host", "GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 0, 0},
	{"bad IPv6 Host", "GET /x HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, HOST},
	{"absolute form", "GET http://t.test/x HTTP/1.1\r\nHost: evil.test\r\n\r\n", 0, 0},
	{"absolute form, query", "GET HTTPS://t.test?a HTTP/1.1\r\nHost: evil.test\r\n\r\n", 0, 0},
	{"absolute form, nothing", "GET http://t.test HTTP/1.1\r\nHost: evil.test\r\n\r\n", 0, 0},
	{"absolute, OPTIONS", "OPTIONS http://t.test HTTP/1.1\r\nHost: t\r\n\r\n", 0, 0},
	{"absolute form, userinfo", "GET http://u:p@t.test/x HTTP/1.1\r\n", 400, HOST},
	{"absolute form, no host", "GET http:///x HTTP/1.1\r\n", 400, HOST},
	{"another scheme", "GET ftp://t.test/x HTTP/1.1\r\n", 400, TARGET},
	{"blank before colon of Host", "GET /x HTTP/1.1\r\nHost : t.test\r\n\r\n", 400, NAME},
	{"blank before colon", G "X-A : 1\r\n\r\n", 400, NAME},
	{"tab before colon", G "X-A\t: 1\r\n\r\n", 400, NAME},
	{"no colon", G "X-A\r\n\r\n", 400, NAME},
	{"no name", G ": v\r\n\r\n", 400, NAME},
	{"DEL in name", G "X\x7f" "A: 1\r\n\r\n", 400, NAME},
	{"high byte in name", G "X-\xff" "A: 1\r\n\r\n", 400, NAME},
	{"parentheses in name", G "X(A): 1\r\n\r\n", 400, NAME},
	{"first line folded", "GET /x HTTP/1.1\r\n Host: t.test\r\n\r\n", 400, NAME},
	{"underscores", G "X_Forwarded_For: 1.2.3.4\r\n\r\n", 0, 0},
	{"pseudo field", G ":path: /admin\r\n\r\n", 400, NAME},
	{"all token characters", G "!#$%&'*+-.^_`|~09azAZ: 1\r\n\r\n", 0, 0},
	{"bare CR", G "X-A: a\rX-B: b\r\n\r\n", 400, VALUE},
	{"bare CR at the end", G "X-A: a\r\r\n\r\n", 400, VALUE},
	{"BEL", G "X-A: a\x07" "b\r\n\r\n", 400, VALUE},
	{"DEL", G "X-A: a\x7f" "b\r\n\r\n", 400, VALUE},
	{"obs-text", G "X-A: caf\xe9\r\n\r\n", 0, 0},
	{"empty value", G "X-A:\r\n\r\n", 0, 0},
	{"tabs round the value", G "X-A:\t v \t\r\n\r\n", 0, 0},
	{"no blank", G "X-A:v\r\n\r\n", 0, 0},
	{"bare LF", G "X-A: 1\nX-B: 2\r\n\r\n", 400, EOL},
	{"bare LF everywhere", "GET /x HTTP/1.1\nHost: t.test\n\n", 400, EOL},
	{"bare LF at the end", G "X-A: 1\r\n\n", 400, EOL},
	{"fold", G "X-A: 1\r\n 2\r\n\r\n", 400, EOL},
	{"fold with tab", G "X-A: 1\r\n\t2\r\n\r\n", 400, EOL},
	{"folded length", P "Content-Length:\r\n 5\r\n\r\nhello", 400, CL},
	{"one empty line", "\r\n" G "\r\n", 0, 0},
	{"three empty lines", "\r\n\r\n\r\n" G "\r\n", 400, LINE},
	{"CR only", "GET /x HTTP/1.1\rHost: t.test\r\r", 400, EOL},
	{"length +5", P "Content-Length: +5\r\n\r\n", 400, CL},
	{"length -5", P "Content-Length: -5\r\n\r\n", 400, CL},
	{"the byte is enough here too", P "Content-Length: 5x", 400, CL},
	{"length 0x5", P "Content-Length: 0x5\r\n\r\n", 400, CL},
	{"length 5.0", P "Content-Length: 5.0\r\n\r\n", 400, CL},
	{"no length", P "Content-Length:\r\n\r\n", 400, CL},
	{"length 5 6", P "Content-Length: 5 6\r\n\r\n", 400, CL},
	{"length with VT", P "Content-Length: 5\x0b\r\n\r\n", 400, VALUE},
	{"length over 64 bits", P "Content-Length: 18446744073709551621\r\n\r\n", 400, CL},
	{"length 2^63", P "Content-Length: 9223372036854775808\r\n\r\n", 400, CL},
	{"length 2^63-1", P "Content-Length: 9223372036854775807\r\n\r\n", 0, 0},
	{"length, leading zeros", P "Content-Length: 00000000000000000000005\r\n\r\n", 0, 0},
	{"two lengths", P "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400, CL},
	{"list of lengths", P "Content-Length: 5, 5\r\n\r\n", 400, CL},
	{"identity", P "Transfer-Encoding: identity\r\n\r\n", 400, TE},
	{"chunked twice", P "Transfer-Encoding: chunked, chunked\r\n\r\n", 400, TE},
	{"two codings fields", P "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, TE},
	{"gzip, chunked", P "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, TE},
	{"gzip,, chunked,", P "Transfer-Encoding: gzip,, chunked,\r\n\r\n", 501, TE},
	{"gzip", P "Transfer-Encoding: gzip\r\n\r\n", 400, TE},
	{"chunked, gzip", P "Transfer-Encoding: chunked, gzip\r\n\r\n", 400, TE},
	{"quoted chunked", P "Transfer-Encoding: \"chunked\"\r\n\r\n", 400, TE},
	{"chunked;q=1", P "Transfer-Encoding: chunked;q=1\r\n\r\n", 400, TE},
	{"no coding", P "Transfer-Encoding:\r\n\r\n", 400, TE},
	{",chunked", P "Transfer-Encoding: ,chunked\r\n\r\n", 400, TE},
	{"kelvin", P "Transfer-Encoding: chun\xe2\x84\xaa" "ed\r\n\r\n", 400, TE},
	{"ChUnKeD", P "Transfer-Encoding: ChUnKeD\r\n\r\n", 0, 0},
	{"length, then coding", P "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n", 400, BOTH},
	{"coding, then length", P "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n", 400, BOTH},
	{"Connection: X-Hop", G "X-Hop: 1\r\nConnection: keep-alive, X-Hop\r\nx-hop: 2\r\n\r\n", 0, 0},
	{"Connection: Content-Length", G "Connection: Content-Length\r\n\r\n", 400, CONN},
	{"Connection: Host", G "Connection: a,, Host\r\n\r\n", 400, CONN},
	{"Connection: :path", G "Connection: :path\r\n\r\n", 400, CONN},
	{"Connection: close", G "Connection: close\r\n\r\n", 0, 0},
	{"TE: trailers", G "TE: gzip, trailers\r\nConnection: TE\r\n\r\n", 0, 0},
	{"upgrade", G "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n", 0, 0},
	{"expectation", P "Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n", 0, 0},
	{"unknown expectation", P "Expect: 200-maybe\r\n\r\n", 417, "expect"},
	{"CONNECT", "CONNECT t.test:443 HTTP/1.1\r\nHost: t.test:443\r\n\r\n", 0, 0},
	{"CONNECT, path", "CONNECT /x HTTP/1.1\r\nHost: t.test\r\n\r\n", 400, TARGET},
	{"CONNECT, no port", "CONNECT t.test HTTP/1.1\r\nHost: t.test\r\n\r\n", 400, TARGET},
	{"CONNECT, v6 without port", "CONNECT [::1] HTTP/1.1\r\nHost: t.test\r\n\r\n", 400, TARGET},
	{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: t.test\r\n\r\n", 0, 0},
	{"GET *", "GET * HTTP/1.1\r\nHost: t.test\r\n\r\n", 400, TARGET},
	{"GET authority", "GET t.test:80 HTTP/1.1\r\nHost: t.test\r\n\r\n", 400, TARGET},
	{"TLS hello", "\x16\x03\x01\x02", 400, "http1.not_http"},
	{"PROXY preamble", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", 400, TARGET},
	{"an answer", "HTTP/1.1 200 OK\r\n", 400, LINE},
	{"h2 preface", "PRI * HTTP/2.0\r\n\r\n", 400, TARGET},
	{"long unknown name", G "X-This-Name-Is-Longer-Than-Sixteen-Bytes_And-Has-It: 1\r\n\r\n", 0, 0},
	{"long known name", G "X-Envoy-Upstream-Rq-Per-Try-Timeout-Ms: 1\r\n\r\n", 0, 0},
};
/* clang-format on */

/* clang-format off */
static const struct verdict responses[] = {
	{"plain", OK "Content-Length: 2\r\n\r\nhi", 0, 0},
	{"garbage", "hello world\r\n\r\n", 502, VERSION},
	{"empty line", "\r\n\r\n", 502, VERSION},
	{"short code", "HTTP/1.1 20 OK\r\n", 502, LINE},
	{"long code", "HTTP/1.1 2000 OK\r\n", 502, LINE},
	{"code of letters", "HTTP/1.1 abc OK\r\n", 502, LINE},
	{"code 000", "HTTP/1.1 000 OK\r\n", 502, LINE},
	{"code 099", "HTTP/1.1 099 OK\r\n", 502, LINE},
	{"code 600", "HTTP/1.1 600 OK\r\n", 502, LINE},
	{"code 599", "HTTP/1.1 599 Odd\r\n\r\n", 0, 0},
	{"no code", "HTTP/1.1\r\n\r\n", 502, LINE},
	{"lower case", "http/1.1 200 OK\r\n", 502, VERSION},
	{"HTTP/2", "HTTP/2 200\r\n", 502, VERSION},
	{"HTTP/1.2", "HTTP/1.2 200 OK\r\n", 502, VERSION},
	{"ICY", "ICY 200 OK\r\n", 502, VERSION},
	{"two blanks", "HTTP/1.1  200 OK\r\n", 502, LINE},
	{"no reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n", 0, 0},
	{"empty reason", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n", 0, 0},
	{"LF behind the code", "HTTP/1.1 200\n\n", 502, EOL},
	{"LF behind the reason", "HTTP/1.1 200 OK\nContent-Length: 2\n\n", 502, EOL},
	{"CR in the reason", "HTTP/1.1 200 O\rK\r\n", 502, EOL},
	{"control in the reason", "HTTP/1.1 200 O\x01K\r\n", 502, LINE},
	{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n", 0, 0},
	{"blank before colon", OK "X-A : 1\r\n\r\n", 502, NAME},
	{"no colon", OK "junk\r\n\r\n", 502, NAME},
	{"bare CR", OK "X-A: a\rSet-Cookie: evil=1\r\n\r\n", 502, VALUE},
	{"fold", OK "X-A: 1  \r\n \t 2\r\n  \r\n\t3 \r\nX-B: 4\r\n\r\n", 0, 0},
	{"fold of nothing", OK "X-A:\r\n 2\r\n\r\n", 0, 0},
	{"fold at the end", OK "X-A: 1\r\n 2\r\n\r\n", 0, 0},
	{"folded length", OK "Content-Length:\r\n 2\r\n\r\nhi", 0, 0},
	{"fold first", "HTTP/1.1 200 OK\r\n X: 1\r\n\r\n", 502, NAME},
	{"fold, bare LF", OK "X-A: 1\r\n 2\n", 502, EOL},
	{"fold, bare CR", OK "X-A: 1\r\n 2\rx", 502, VALUE},
	{"Connection: X-Hop", OK "X-Hop: 1\r\nConnection: X-Hop, content-length\r\nContent-Length: 2\r\n\r\nhi", 0, 0},
	{"length and coding", OK "Content-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 0},
	{"coding and length", OK "Transfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n", 0, 0},
	{"two lengths", OK "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", 502, CL},
	{"one length twice", OK "Content-Length: 2\r\nContent-Length: 02\r\n\r\nhi", 0, 0},
	{"list", OK "Content-Length: 2, 3\r\n\r\n", 502, CL},
	{"plus", OK "Content-Length: +2\r\n\r\n", 502, CL},
	{"overflow", OK "Content-Length: 99999999999999999999999\r\n\r\n", 502, CL},
	{"bogus coding", OK "Transfer-Encoding: bogus\r\n\r\n", 502, TE},
	{"gzip coding", OK "Transfer-Encoding: gzip, chunked\r\n\r\n", 502, TE},
	{"chunked twice", OK "Transfer-Encoding: chunked, chunked\r\n\r\n", 502, TE},
	{"coding in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 502, TE},
	{"interim", "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" OK "\r\n", 0, 0},
	{"switched", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nRAW", 0, 0},
	{"incomplete", OK "X-A: 1\r\n", 1, 0},
};
/* clang-format on */

static void check(const struct h1_limits *lim, bool response, const char *p, size_t n, bool cuts)
{
	struct outcome want = ref_parse(lim, response, p, n);
	struct outcome got = run_parser(lim, response, p, n, true, cut_never, NULL);
	outcome_same(&got, &want, p, n);
	outcome_free(&got);
	got = run_parser(lim, response, p, n, cuts, cut_always, NULL);
	outcome_same(&got, &want, p, n);
	outcome_free(&got);
	for (size_t k = 1; cuts && k < n; k++) {
		got = run_parser(lim, response, p, n, true, cut_once, &k);
		outcome_same(&got, &want, p, n);
		outcome_free(&got);
	}
	if (want.verdict == H1_DONE)
		check_round_trip(lim, response, p, n);
	outcome_free(&want);
}

static void check_verdict(const struct verdict *v, bool response, const char *p, size_t n)
{
	struct outcome o = ref_parse(&h1_default_limits, response, p, n);
	enum h1_verdict want = v->status == 0 ? H1_DONE : v->status == 1 ? H1_MORE : H1_BAD;
	if (o.verdict != want ||
	    (want == H1_BAD && (o.status != v->status || strcmp(o.detail, v->detail)))) {
		fprintf(stderr, "%s: %d %u %s\n", v->story, o.verdict, o.status,
			o.detail ? o.detail : "");
		abort();
	}
	outcome_free(&o);
	check(&h1_default_limits, response, p, n, true);
}

/* The byte replaced, doubled, taken out. */
static void damage(bool response, const char *p, size_t n)
{
	static const char bytes[] = "\0\t\n\r :;,#%/?@_aZ05\x7f\x80\xff";
	char *buf = malloc(n + 1);
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < sizeof bytes - 1; k++) {
			memcpy(buf, p, n);
			buf[i] = bytes[k];
			check(&h1_default_limits, response, buf, n, false);
		}
		memcpy(buf, p, i + 1);
		memcpy(buf + i + 1, p + i, n - i);
		check(&h1_default_limits, response, buf, n + 1, false);
		memcpy(buf + i, p + i + 1, n - i - 1);
		check(&h1_default_limits, response, buf, n - 1, false);
	}
	free(buf);
}

/* A NUL cannot stand in the tables. */
static void test_nul(void)
{
	static const struct {
		const char *raw;
		size_t n;
		const char *detail;
	} t[] = {
#define Z(raw, detail) {raw, sizeof raw - 1, detail}
		Z("GE\0T / HTTP/1.1\r\n", LINE),
		Z("GET /\0x HTTP/1.1\r\n", LINE),
		Z("\0\1\2", "http1.not_http"),
		Z(G "X\0A: 1\r\n\r\n", NAME),
		Z(G "X-A: a\0b\r\n\r\n", VALUE),
		Z(P "Content-Length: 5\0\r\n\r\n", VALUE),
		Z("GET / HTTP/1.1\r\nHost: t.te\0st\r\n\r\n", VALUE),
		Z(P "Transfer-Encoding: chunked\0\r\n\r\n", VALUE),
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		check_verdict(&(struct verdict){"NUL", t[i].raw, 400, t[i].detail}, false, t[i].raw,
			      t[i].n);
	static const char reason[] = "HTTP/1.1 200 O\0K\r\n", value[] = OK "X-A: a\0b\r\n";
	check_verdict(&(struct verdict){"NUL", reason, 502, LINE}, true, reason, sizeof reason - 1);
	check_verdict(&(struct verdict){"NUL", value, 502, VALUE}, true, value, sizeof value - 1);
}

static char *repeat(char *to, const char *s, size_t times)
{
	size_t n = strlen(s);
	while (times--)
		to = (char *)memcpy(to, s, n) + n;
	return to;
}

/* Each limit at its edge, and one over it. */
static void test_limits(void)
{
	char *buf = malloc(300000);
	static const struct {
		const char *before, *part, *after;
		size_t fits;
		unsigned status;
	} t[] = {
		{"", "G", " /x HTTP/1.1\r\nHost: t\r\n\r\n", 32, 501},
		{"GET /", "a", " HTTP/1.1\r\nHost: t\r\n\r\n", 16 * 1024 - 1, 414},
		{G, "a", ": 1\r\n\r\n", 256, 431},
		{G, "X-A: 1\r\n", "\r\n", 99, 431},
		{G "X-A: ", "a", "\r\n\r\n", 60 * 1024 - sizeof G + 1 - 9, 431},
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		for (unsigned over = 0; over < 2; over++) {
			char *end = repeat(buf, t[i].before, 1);
			end = repeat(end, t[i].part, t[i].fits + over);
			end = repeat(end, t[i].after, 1);
			size_t n = (size_t)(end - buf), k;
			struct outcome o = ref_parse(&h1_default_limits, false, buf, n);
			must(o.verdict == (over ? H1_BAD : H1_DONE));
			must(!over || (o.status == t[i].status && !strcmp(o.detail, LARGE)));
			for (k = n > 600 ? n - 300 : 1; k < n; k++) {
				struct outcome got = run_parser(&h1_default_limits, false, buf, n,
								true, cut_once, &k);
				outcome_same(&got, &o, buf, n);
				outcome_free(&got);
			}
			outcome_free(&o);
			check(&h1_default_limits, false, buf, n, false);
		}
	}
	/* All of it twice over, for either direction. */
	char *end = repeat(repeat(buf, OK "X-A: ", 1), "a", 200000);
	must(run_parser(&h1_default_limits, true, buf, (size_t)(end - buf), true, cut_never, NULL)
		     .status == 502);
	end = repeat(repeat(buf, G, 1), "X-A: 1\r\n", 20000);
	must(run_parser(&h1_default_limits, false, buf, (size_t)(end - buf), true, cut_never, NULL)
		     .status == 431);
	/* Options of Connection. */
	end = repeat(repeat(buf, G "Connection: ", 1), "a,", 100);
	end = repeat(end, "\r\n\r\n", 1);
	check_verdict(&(struct verdict){"100 options", buf, 0, 0}, false, buf, (size_t)(end - buf));
	end = repeat(repeat(buf, G "Connection: ", 1), "a,", 101);
	end = repeat(end, "\r\n\r\n", 1);
	check_verdict(&(struct verdict){"101 options", buf, 400, CONN}, false, buf,
		      (size_t)(end - buf));
	/* Blanks alone do not cost a walk each: a megabyte of them byte by byte would never end
	 * if they did. */
	struct h1_limits wide = h1_default_limits;
	wide.head = 400000;
	end = repeat(repeat(buf, G "X-A: ", 1), " ", 250000);
	end = repeat(end, "\r\n\r\n", 1);
	struct outcome o =
		run_parser(&wide, false, buf, (size_t)(end - buf), false, cut_always, NULL);
	must(o.verdict == H1_DONE && o.value[4].n == 0);
	outcome_free(&o);
	end = repeat(repeat(buf, OK "X-A: 1", 1), "\r\n 2", 60000);
	end = repeat(end, "\r\n\r\n", 1);
	o = run_parser(&wide, true, buf, (size_t)(end - buf), false, cut_always, NULL);
	must(o.verdict == H1_DONE && o.value[2].n == 120001);
	outcome_free(&o);
	free(buf);
}

struct parsed {
	struct arena a;
	struct head h;
	struct h1_parse st;
	size_t used;
	char buf[1024];
};

static void parse(struct parsed *t, bool response, const char *raw)
{
	size_t n = strlen(raw);
	memset(t, 0, sizeof *t);
	memcpy(t->buf, raw, n);
	arena_init(&t->a, SIZE_MAX);
	must(head_init(&t->h, &t->a, response, 4));
	must((response ? h1_parse_response(&t->st, &h1_default_limits, t->buf, n, &t->h, &t->used)
		       : h1_parse_request(&t->st, &h1_default_limits, t->buf, n, &t->h,
					  &t->used)) == H1_DONE);
	must(t->used <= n);
}

static void is_field(const struct head *h, unsigned i, const char *name, const char *value)
{
	must(i < h->n);
	must(str_eq(field_name(&h->f[i]), str_of(name)));
	must(str_eq(field_value(&h->f[i]), str_of(value)));
}

static void test_what_a_request_becomes(void)
{
	struct parsed t;
	parse(&t, false,
	      "POST http://a.test:8080?q=1 HTTP/1.1\r\nhOsT: other\r\nX-Odd-Case: v 1 \r\nX-Hop: "
	      "1\r\nTransfer-Encoding: chunked\r\n"
	      "Connection: x-hop, upgrade, close\r\nUpgrade: websocket\r\n\r\n0\r\n\r\n");
	is_field(&t.h, 0, ":authority", "a.test:8080");
	is_field(&t.h, 1, ":path", "/?q=1");
	is_field(&t.h, 2, ":method", "POST");
	is_field(&t.h, 3, ":scheme", "");
	is_field(&t.h, 4, "X-Odd-Case", "v 1");
	is_field(&t.h, 5, "Connection", "x-hop, upgrade, close");
	is_field(&t.h, 6, "Upgrade", "websocket");
	must(t.h.n == 7 && t.h.pseudo == 4 && t.h.method == METHOD_POST && t.h.minor == 1);
	must(t.st.chunked && t.st.close && t.st.upgrade && !t.st.keep_alive);
	must(t.st.target_scheme == H1_SCHEME_HTTP);
	must(h1_request_framing(&t.st, &t.h) == H1_CHUNKED);
	arena_fini(&t.a);

	parse(&t, false, "GET /a HTTP/1.0\r\n\r\n");
	is_field(&t.h, 0, ":path", "/a");
	must(t.h.pseudo == 3 && t.h.n == 3 && t.h.minor == 0 && t.st.close &&
	     !head_has(&t.h, FIELD_AUTHORITY));
	arena_fini(&t.a);

	parse(&t, false, "HEAD /a HTTP/1.1\r\nHost: h\r\nX_y: 1\r\nContent-Length: 0\r\n\r\n");
	must(t.st.underscore && t.st.has_length && h1_request_framing(&t.st, &t.h) == H1_NO_BODY);
	is_field(&t.h, 5, "Content-Length", "0");
	arena_fini(&t.a);
}

static void test_what_an_answer_becomes(void)
{
	struct parsed t;
	parse(&t, true,
	      "HTTP/1.1 404 Gone  fishing\r\nX-A: 1 \r\n\t 2 \r\nContent-Length: "
	      "3\r\nTransfer-Encoding: chunked\r\n\r\n");
	is_field(&t.h, 0, ":status", "404");
	is_field(&t.h, 1, "X-A", "1 2");
	is_field(&t.h, 2, "Transfer-Encoding", "chunked");
	must(t.h.n == 3 && t.h.status == 404 && str_eq(t.h.reason, STR("Gone  fishing")));
	must(t.st.close && !t.st.has_length);
	must(h1_response_framing(&t.st, &t.h, METHOD_GET) == H1_CHUNKED);
	must(h1_response_framing(&t.st, &t.h, METHOD_HEAD) == H1_NO_BODY);
	must(h1_response_framing(&t.st, &t.h, METHOD_CONNECT) == H1_CHUNKED);
	arena_fini(&t.a);

	static const struct {
		const char *raw;
		enum method request;
		enum h1_framing want;
	} f[] = {
		{"HTTP/1.1 200 OK\r\n\r\n", METHOD_GET, H1_UNTIL_CLOSE},
		{"HTTP/1.1 200 OK\r\n\r\n", METHOD_CONNECT, H1_TUNNEL},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", METHOD_GET, H1_NO_BODY},
		{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", METHOD_GET, H1_LENGTH},
		{"HTTP/1.1 204 No\r\nContent-Length: 9\r\n\r\n", METHOD_GET, H1_NO_BODY},
		{"HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", METHOD_GET, H1_NO_BODY},
		{"HTTP/1.1 101 Switch\r\n\r\n", METHOD_GET, H1_TUNNEL},
		{"HTTP/1.1 100 Continue\r\n\r\n", METHOD_GET, H1_NO_BODY},
	};
	for (size_t i = 0; i < sizeof f / sizeof *f; i++) {
		parse(&t, true, f[i].raw);
		must(h1_response_framing(&t.st, &t.h, f[i].request) == f[i].want);
		arena_fini(&t.a);
	}
}

/* No memory is an answer too, wherever it runs out. */
static void test_no_memory(void)
{
	static const char raw[] = "GET http://a?b HTTP/1.1\r\nHost: t\r\nA: 1\r\nB: 2\r\nC: "
				  "3\r\nD: 4\r\nE: 5\r\nF: 6\r\nG: 7\r\n\r\n";
	unsigned done = 0;
	for (size_t cap = 8 * sizeof(struct field); cap < 2000; cap += 8) {
		struct arena a;
		struct head h;
		struct h1_parse st = {0};
		size_t used;
		char buf[256] = "";
		memcpy(buf, raw, sizeof raw);
		arena_init(&a, cap);
		must(head_init(&h, &a, false, 8));
		enum h1_verdict v =
			h1_parse_request(&st, &h1_default_limits, buf, sizeof raw - 1, &h, &used);
		must(v == H1_DONE || (v == H1_BAD && st.status == 503 && a.over));
		done += v == H1_DONE;
		arena_fini(&a);
	}
	must(done > 0 && done < 200);
}

int main(void)
{
	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
		check_verdict(&requests[i], false, requests[i].raw, strlen(requests[i].raw));
		damage(false, requests[i].raw, strlen(requests[i].raw));
	}
	for (size_t i = 0; i < sizeof responses / sizeof *responses; i++) {
		check_verdict(&responses[i], true, responses[i].raw, strlen(responses[i].raw));
		damage(true, responses[i].raw, strlen(responses[i].raw));
	}
	test_nul();
	test_limits();
	test_what_a_request_becomes();
	test_what_an_answer_becomes();
	test_no_memory();
	arena_trim();
	return 0;
}
