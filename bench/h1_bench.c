/* bench/h1_bench.c
 *
 * Instructions per HTTP/1 head, counted by valgrind's callgrind (bench/h1_bench.sh) or, without it, nanoseconds: the
 * race's request (13 fields, 610 bytes) and an answer of 9 fields, each parsed and written ROUNDS times.
 */
#include "http/h1.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef HAVE_CALLGRIND
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_ZERO_STATS
#define CALLGRIND_DUMP_STATS_AT(name) (void)(name)
#endif

enum { ROUNDS = 1000 };

static const char request[] = "GET /2026/01/an-article/ HTTP/1.1\r\n"
			      "Host: example.com\r\n"
			      "Cache-Control: max-age=0\r\n"
			      "Upgrade-Insecure-Requests: 1\r\n"
			      "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 "
			      "(KHTML, like Gecko) Chrome/142.0.0.0 "
			      "Safari/537.36\r\n"
			      "Accept: "
			      "text/html,application/xhtml+xml,application/xml;q=0.9,image/"
			      "avif,image/webp,image/apng,*/*;q=0.8\r\n"
			      "Sec-Fetch-Site: same-origin\r\n"
			      "Sec-Fetch-Mode: navigate\r\n"
			      "Sec-Fetch-Dest: document\r\n"
			      "Referer: https://example.com/2026/01/an-older-post/\r\n"
			      "Accept-Encoding: gzip, deflate, br\r\n"
			      "Accept-Language: en-GB,en-US;q=0.9,en;q=0.8,de;q=0.7\r\n"
			      "Cookie: _ga=GA1.2.1234567890.1700000000; consent=yes; theme=dark\r\n"
			      "\r\n";
static const char answer[] =
	"HTTP/1.1 200 OK\r\n"
	"Date: Mon, 05 Jan 2026 10:00:00 GMT\r\n"
	"Content-Type: text/html; charset=utf-8\r\n"
	"Content-Length: 1024\r\n"
	"Last-Modified: Sun, 04 Jan 2026 09:00:00 GMT\r\n"
	"ETag: \"65980d50-400\"\r\n"
	"Accept-Ranges: bytes\r\n"
	"Server: AmazonS3\r\n"
	"x-amz-request-id: 7D3A1B2C4E5F6071\r\n"
	"x-amz-id-2: 8vX1nq0Zb5q0m1s9w3yqk1c9o4t6h2u7e5r8d0f3g6j9l2p5a8s1d4f7\r\n"
	"\r\n";

struct job {
	char in[2048];
	size_t n;
	bool response;
	struct arena a;
	struct head h;
	struct h1_parse st;
};

static void parse(struct job *j)
{
	size_t used;
	j->st = (struct h1_parse){0};
	arena_fini(&j->a);
	if (!head_init(&j->h, &j->a, j->response, 32) ||
	    (j->response ? h1_parse_response(&j->st, &h1_default_limits, j->in, j->n, &j->h, &used)
			 : h1_parse_request(&j->st, &h1_default_limits, j->in, j->n, &j->h,
					    &used)) != H1_DONE)
		abort();
}

static size_t write_head(const struct job *j, char *out, size_t room)
{
	struct h1_out o = {.framing = j->response ? H1_LENGTH : H1_NO_BODY,
			   .length_known = j->response,
			   .length = j->st.length};
	size_t n = j->response ? h1_write_response_in(out, room, &j->h, &o)
			       : h1_write_request_in(out, room, &j->h, &o);
	if (!n)
		abort();
	return n;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(void)
{
	static struct job j[2];
	static char out[4096];
	static const char *const names[] = {"request", "answer"};
	for (unsigned i = 0; i < 2; i++) {
		const char *raw = i ? answer : request;
		char step[64];
		j[i].response = i;
		j[i].n = strlen(raw);
		memcpy(j[i].in, raw, j[i].n);
		arena_init(&j[i].a, SIZE_MAX);
		parse(&j[i]);
		size_t wrote = write_head(&j[i], out, sizeof out);
		double t0 = now();
		CALLGRIND_ZERO_STATS;
		for (unsigned k = 0; k < ROUNDS; k++)
			parse(&j[i]);
		snprintf(step, sizeof step, "parse %s", names[i]);
		CALLGRIND_DUMP_STATS_AT(step);
		double t1 = now();
		CALLGRIND_ZERO_STATS;
		for (unsigned k = 0; k < ROUNDS; k++)
			wrote = write_head(&j[i], out, sizeof out);
		snprintf(step, sizeof step, "write %s", names[i]);
		CALLGRIND_DUMP_STATS_AT(step);
		double t2 = now();
		printf("%s: %zu bytes, %u fields; parsed in %.0f ns, written (%zu bytes) in %.0f "
		       "ns\n",
		       names[i], j[i].n, (unsigned)j[i].h.n - j[i].h.pseudo, (t1 - t0) / ROUNDS,
		       wrote, (t2 - t1) / ROUNDS);
	}
	return 0;
}
