/* src/http/h1_write_test.c: the very bytes that go out. h1_parse_test has the round trips. */
#include "base/must.h"
#include "http/h1.h"
#include <stdio.h>
#include <stdlib.h>

static void is(const struct head *h, struct h1_out o, const char *want)
{
	size_t room = h1_head_size(h, &o);
	char *out = malloc(room); /* exactly: ASan sees a byte too many */
	must(out);
	size_t n = h->is_response ? h1_write_response(out, h, &o) : h1_write_request(out, h, &o);
	must(n <= room);
	if (n != strlen(want) || memcmp(out, want, n))
		fprintf(stderr, "written:\n%.*s\nexpected:\n%s\n", (int)n, out, want);
	must(n == strlen(want) && !memcmp(out, want, n));
	free(out);
	bool fitted = false;
	for (size_t some = 0; some <= room + 128;
	     some += some < 64 ? 1 : 3) { /* in any room: the same, or nothing */
		out = malloc(some ? some : 1);
		must(out);
		n = h->is_response ? h1_write_response_in(out, some, h, &o)
				   : h1_write_request_in(out, some, h, &o);
		must(n ? n == strlen(want) && n <= some && !memcmp(out, want, n) : !fitted);
		fitted |= n != 0;
		free(out);
	}
	must(fitted);
}

static void request(struct head *h, struct arena *a)
{
	arena_init(a, SIZE_MAX);
	must(head_init(h, a, false, 16));
	must(head_add(h, STR(":path"), STR("/a?b")) && head_add(h, STR(":method"), STR("POST")));
	must(head_add(h, STR(":scheme"), STR("https")) &&
	     head_add(h, STR(":authority"), STR("h:1")));
	must(head_add(h, STR("X-Case"), STR("v")) && head_add(h, STR("x"), STR("")));
	must(head_add(h, STR("Content-Length"), STR("999")) &&
	     head_add(h, STR("Transfer-Encoding"), STR("gzip")));
	must(head_add(h, STR("Connection"), STR("x")) && head_add(h, STR("Keep-Alive"), STR("1")));
	must(head_add(h, STR("Proxy-Connection"), STR("x")) &&
	     head_add(h, STR("Upgrade"), STR("h2c")));
	must(head_add(h, STR("HTTP2-Settings"), STR("x")) && head_add(h, STR("TE"), STR("gzip")));
	must(head_add(h, STR("Trailer"), STR("x-t")) &&
	     head_add(h, STR("x-ab"), STR("a value of more than sixteen bytes")));
	must(head_add(h, STR(":odd"), STR("never")));
}

#define LINES "POST /a?b HTTP/1.1\r\nhost: h:1\r\nX-Case: v\r\nx: \r\n"
#define REST "x-ab: a value of more than sixteen bytes\r\n"

static void test_requests(void)
{
	struct arena a;
	struct head h;
	request(&h, &a);
	is(&h, (struct h1_out){.framing = H1_NO_BODY}, LINES REST "\r\n");
	is(&h, (struct h1_out){.framing = H1_NO_BODY, .length_known = true},
	   LINES REST "content-length: 0\r\n\r\n");
	is(&h, (struct h1_out){.framing = H1_LENGTH, .length_known = true, .length = UINT64_MAX},
	   LINES REST "content-length: 18446744073709551615\r\n\r\n");
	is(&h, (struct h1_out){.framing = H1_CHUNKED, .length_known = true, .length = 5},
	   LINES REST "transfer-encoding: chunked\r\n\r\n");
	is(&h, (struct h1_out){.framing = H1_CHUNKED, .trailers = true},
	   LINES "Trailer: x-t\r\n" REST "transfer-encoding: chunked\r\n\r\n");
	is(&h,
	   (struct h1_out){.close = true,
			   .keep_alive = true,
			   .te_trailers = true,
			   .upgrade = STR("websocket")},
	   LINES REST
	   "connection: close, te, upgrade\r\nte: trailers\r\nupgrade: websocket\r\n\r\n");
	is(&h, (struct h1_out){.keep_alive = true}, LINES REST "connection: keep-alive\r\n\r\n");
	arena_fini(&a);
}

static void test_answers(void)
{
	struct arena a;
	struct head h;
	arena_init(&a, SIZE_MAX);
	must(head_init(&h, &a, true, 4));
	must(head_set_status(&h, 200) && head_add(&h, STR("Server"), STR("s")));
	is(&h, (struct h1_out){.length_known = true, .length = 10, .framing = H1_LENGTH},
	   "HTTP/1.1 200 OK\r\nServer: s\r\ncontent-length: 10\r\n\r\n");
	h.reason = STR("Fine");
	is(&h, (struct h1_out){.close = true},
	   "HTTP/1.1 200 Fine\r\nServer: s\r\nconnection: close\r\n\r\n");
	h.reason = STR("");
	is(&h, (struct h1_out){0}, "HTTP/1.1 200 \r\nServer: s\r\n\r\n");
	h.reason = (struct str){NULL, 0};
	must(head_set_status(&h, 404));
	is(&h, (struct h1_out){0}, "HTTP/1.1 404 Not Found\r\nServer: s\r\n\r\n");
	must(head_set_status(&h, 299));
	is(&h, (struct h1_out){0}, "HTTP/1.1 299 \r\nServer: s\r\n\r\n");
	must(head_set_status(&h, 204));
	is(&h, (struct h1_out){.length_known = true, .length = 10},
	   "HTTP/1.1 204 No Content\r\nServer: s\r\n\r\n");
	must(head_remove_id(&h, FIELD_STATUS) == 1);
	is(&h, (struct h1_out){0}, "HTTP/1.1 500 Internal Server Error\r\nServer: s\r\n\r\n");
	arena_fini(&a);
}

/* Names and values of every length, side by side as received and apart. */
static void test_lengths(void)
{
	char line[256], want[512];
	for (size_t n = 1; n < 40; n++)
		for (size_t v = 0; v < 40; v++) {
			struct arena a;
			struct head h;
			arena_init(&a, SIZE_MAX);
			must(head_init(&h, &a, true, 4));
			for (size_t i = 0; i < n + 2 + v; i++)
				line[i] = (char)('a' + i % 26);
			char *value = malloc(v ? v : 1);
			must(value);
			memcpy(value, line + n + 2, v);
			must(head_add(&h, (struct str){line, n}, (struct str){line + n + 2, v}));
			must(head_add(&h, (struct str){line, n}, (struct str){value, v}));
			h.status = 200;
			snprintf(want, sizeof want,
				 "HTTP/1.1 200 OK\r\n%.*s: %.*s\r\n%.*s: %.*s\r\n\r\n", (int)n,
				 line, (int)v, value, (int)n, line, (int)v, value);
			is(&h, (struct h1_out){0}, want);
			free(value);
			arena_fini(&a);
		}
}

/* Lines side by side as received, with what must not be copied along: a tab behind the colon, ends of lines that are
 * none, a field that is not passed on, nothing behind the last value. */
static void test_runs(void)
{
	static const char text[] = "a: 1\r\nbb: 22\r\nz: 0\r\nc:\t3\r\nd: 4\r\ne: 5..f: "
				   "6\r\nconnection: x\r\ng: 7\r\nh: 8";
	static const struct {
		size_t name, value;
	} sizes[] = {{1, 1}, {2, 2}, {1, 1},  {1, 1}, {1, 1},
		     {1, 1}, {1, 1}, {10, 1}, {1, 1}, {1, 1}};
	struct arena a;
	struct head h;
	arena_init(&a, SIZE_MAX);
	must(head_init(&h, &a, true, 16));
	char *lines = malloc(sizeof text - 1), *at = lines; /* exactly: ASan sees a byte too many */
	must(lines);
	memcpy(lines, text, sizeof text - 1);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		size_t name = sizes[i].name, value = sizes[i].value;
		must(head_add(&h, (struct str){at, name}, (struct str){at + name + 2, value}));
		at += name + value + 4;
	}
	h.status = 200;
	is(&h, (struct h1_out){0},
	   "HTTP/1.1 200 OK\r\na: 1\r\nbb: 22\r\nz: 0\r\nc: 3\r\nd: 4\r\ne: 5\r\nf: 6\r\ng: "
	   "7\r\nh: "
	   "8\r\n\r\n");
	must(head_remove(&h, STR("bb")) == 1 && head_remove(&h, STR("g")) == 1);
	is(&h, (struct h1_out){0},
	   "HTTP/1.1 200 OK\r\na: 1\r\nz: 0\r\nc: 3\r\nd: 4\r\ne: 5\r\nf: 6\r\nh: 8\r\n\r\n");
	free(lines);
	arena_fini(&a);
}

static void test_chunks(void)
{
	static const uint64_t sizes[] = {0,   1,    9,        10,         15,        16,        255,
					 256, 4096, 0xabcdef, UINT32_MAX, INT64_MAX, UINT64_MAX};
	char out[20], want[40];
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		int n = snprintf(want, sizeof want, "%llx\r\n", (unsigned long long)sizes[i]);
		must(h1_write_chunk_line(out, sizes[i]) == (size_t)n &&
		     !memcmp(out, want, (size_t)n));
	}
	must(h1_write_last_chunk(out, NULL) == 5 && !memcmp(out, "0\r\n\r\n", 5));
	struct arena a;
	struct head t;
	char big[512];
	arena_init(&a, SIZE_MAX);
	must(head_init(&t, &a, false, 0));
	must(head_add(&t, STR("X-T"), STR("1")) && head_add(&t, STR("Content-Length"), STR("5")));
	must(head_add(&t, STR("x-u"), STR("")));
	must(h1_head_size(&t, &(struct h1_out){0}) <= sizeof big);
	must(h1_write_last_chunk(big, &t) == 20 &&
	     !memcmp(big, "0\r\nX-T: 1\r\nx-u: \r\n\r\n", 20));
	arena_fini(&a);
}

int main(void)
{
	test_requests();
	test_answers();
	test_lengths();
	test_runs();
	test_chunks();
	arena_trim();
	return 0;
}
