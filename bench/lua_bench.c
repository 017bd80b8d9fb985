/* bench/lua_bench.c: what the article's script costs in the Lua filter, without sockets: CPU ns per
 * exchange for the request hook,
 * a hit (both hooks), a fallback and a double miss. The request has 17 fields, the answers 12 and
 * 13, values differ from one
 * request to the next, 64 exchanges take turns.
 *
 *   lua_bench [EXCHANGES [KIND]]     in the project's root; KIND 1 … 4: only that one, for counting
 * instructions
 */
#include "filters/lua/httpcall.c"
#include "filters/lua/lua_fake.h"
#include <time.h>

enum { SLOTS = 64, ROUNDS = 7 };
enum what { PREPARE, REQUEST, HIT, FALLBACK, DOUBLE_MISS, KINDS };

static struct exchange slots[SLOTS];
static char path[] = "/2026/01/post-........",
	    cookie[] = "_ga=GA1.2.1234567890.1700000000; s=........",
	    etag[] = "\"9f86d081884c7d-........\"";

static void fields_into(struct head *h, const char *const (*fields)[2], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		must(head_add(h, str_of(fields[i][0]), str_of(fields[i][1])));
}

static void make_request(struct exchange *ex)
{
	static const char *const front[][2] = {
		{"cache-control", "max-age=0"},
		{"upgrade-insecure-requests", "1"},
		{"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like "
			       "Gecko) Chrome/142.0.0.0 Safari/537.36"},
		{"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/"
			   "webp,image/apng,*/*;q=0.8"},
		{"sec-fetch-site", "same-origin"},
		{"sec-fetch-mode", "navigate"},
		{"sec-fetch-dest", "document"},
		{"referer", "https://example.com/2026/01/an-older-post/"},
		{"accept-encoding", "gzip, deflate, br"},
		{"accept-language", "en-GB,en-US;q=0.9,en;q=0.8,de;q=0.7"}};
	struct head *h = &ex->req.head;
	must(head_init(h, &ex->arena, false, 24));
	must(head_add_id(h, FIELD_AUTHORITY, STR("example.com")) &&
	     head_add_id(h, FIELD_PATH, str_of(path)) && head_add_id(h, FIELD_METHOD, STR("GET")) &&
	     head_add_id(h, FIELD_SCHEME, STR("https")));
	fields_into(h, front, 10);
	must(head_add_id(h, FIELD_COOKIE, str_of(cookie)) &&
	     head_add_id(h, FIELD_X_FORWARDED_FOR, STR("127.0.0.1")) &&
	     head_add_id(h, FIELD_X_FORWARDED_PROTO, STR("https")));
	ex->req.size = 0;
	ex->req.begun = ex->req.in_ended = true;
}

static void make_answer(struct exchange *ex, unsigned status)
{
	static const char *const front[][2] = {{"date", "Mon, 23 Nov 2026 07:00:00 GMT"},
					       {"content-type", "text/html; charset=utf-8"}};
	static const char *const back[][2] = {{"last-modified", "Sun, 22 Nov 2026 10:11:12 GMT"},
					      {"cache-control", "public, max-age=300"},
					      {"accept-ranges", "bytes"},
					      {"x-amz-request-id", "1D0F7A3B5C9E2846"},
					      {"x-origin", "primary"},
					      {"vary", "Origin, Accept-Encoding"},
					      {"content-length", "2048"},
					      {"x-envoy-upstream-service-time", "1"}};
	struct head *h = &ex->resp.head;
	must(head_init(h, &ex->arena, true, 24) && head_set_status(h, status));
	fields_into(h, front, 2);
	must(head_add_id(h, FIELD_ETAG, str_of(etag)));
	fields_into(h, back, 8);
	ex->resp.size = 2048;
	ex->resp.begun = ex->resp.in_ended = true;
	ex->resp.at = ex->resp.end_at = 1; /* the Lua filter, after the terminal one */
}

static char page[1024];
static struct head fallback_head;
static struct arena fallback_arena;

/* The fallback's answer, as the upstream would have parsed it. */
static void make_fallback(unsigned status)
{
	static const char *const fields[][2] = {
		{"date", "Mon, 23 Nov 2026 07:00:00 GMT"},
		{"server", "Apache/2.4.62 (Debian)"},
		{"x-powered-by", "PHP/8.2.26"},
		{"content-type", "text/html; charset=UTF-8"},
		{"link", "<https://example.com/wp-json/>; rel=\"https://api.w.org/\""},
		{"cache-control", "no-cache, must-revalidate, max-age=0"},
		{"expires", "Wed, 11 Jan 1984 05:00:00 GMT"},
		{"set-cookie", "wp_lang=en_GB; path=/; Max-Age=31536000"},
		{"x-origin", "fallback"},
		{"vary", "Accept-Encoding"},
		{"content-length", "1024"}};
	arena_fini(&fallback_arena);
	arena_init(&fallback_arena, 1 << 16);
	must(head_init(&fallback_head, &fallback_arena, true, 16));
	must(head_set_status(&fallback_head, status));
	fields_into(&fallback_head, fields, 11);
	must(head_add_id(&fallback_head, FIELD_ETAG, str_of(etag)));
}

static void answer_call(struct lua_call *c)
{
	struct call *u = c->call;
	u->head = &fallback_head;
	u->has_head = u->ended = true;
	must(chain_append(&u->in, NULL, page, sizeof page));
	c->done = true;
}

static void one(enum what what, unsigned n)
{
	struct exchange *ex = &slots[n % SLOTS];
	const struct filter_cfg *f = &world.filters[0];
	static struct chain body;
	for (unsigned i = 0, k = n; i < 8; i++, k >>= 4)
		path[14 + i] = cookie[35 + i] = etag[16 + i] = "0123456789abcdef"[k & 15];
	*ex = (struct exchange){.env = &world.env,
				.port = &fake_port,
				.peer = &world.peer,
				.model = world.model,
				.hcm = &world.hcm,
				.number = n + 1,
				.nfilters = 2,
				.stage = 1,
				.routed = true,
				.details = "",
				.flags = ""};
	arena_init(&ex->arena, 1 << 20);
	make_request(ex);
	make_answer(ex, what <= HIT ? 200 : 404);
	make_fallback(what == DOUBLE_MISS ? 404 : 200);
	if (what >= REQUEST)
		must(f->type->request(ex, f) == GO_ON);
	if (what >= HIT) {
		if (what >= FALLBACK)
			must(chain_append(&ex->resp.held, NULL, page, sizeof page));
		enum verdict v = f->type->response(ex, f);
		if (v == WAIT) {
			struct lua_state *st = exch_state(ex, f);
			answer_call(st->run[LEG_RESPONSE]->call);
			v = f->type->resume(ex, f, LEG_RESPONSE);
		}
		must(v == GO_ON);
		if (what == FALLBACK)
			must(ex->resp.head.status == 200 && ex->resp.head.n == 13 &&
			     !head_find(&ex->resp.head, STR("x-amz-request-id")));
	}
	if (exch_state(ex, f))
		f->type->end(ex, f);
	chain_move(&body, &ex->resp.held);
	chain_clear(&body);
	arena_fini(&ex->arena);
}

static double cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	static const char *const names[KINDS] = {"preparing alone", "request hook",
						 "hit: both hooks", "fallback", "double miss"};
	unsigned total = argc > 1 ? (unsigned)atoi(argv[1]) : 50000, n = 0;
	double ns[KINDS][ROUNDS];
	memset(page, 'F', sizeof page);
	fake_quiet = true;
	world_open((const char *const[FAKE_LUA_FILTERS]){fake_article()});
	if (argc > 2) {
		while (n < total)
			one((enum what)atoi(argv[2]), n++);
		world_close();
		return 0;
	}
	for (int round = 0; round < ROUNDS; round++)
		for (int what = 0; what < KINDS; what++) {
			for (unsigned i = 0; i < total / 10; i++)
				one((enum what)what, n++);
			double from = cpu_ns();
			for (unsigned i = 0; i < total; i++)
				one((enum what)what, n++);
			ns[what][round] = (cpu_ns() - from) / total;
		}
	for (int what = 0; what < KINDS; what++)
		qsort(ns[what], ROUNDS, sizeof(double), by_value);
	printf("ns of CPU per exchange, median of %d, %u exchanges each; preparing subtracted\n",
	       ROUNDS, total);
	for (int what = 1; what < KINDS; what++)
		printf("%-16s %6.0f\n", names[what],
		       ns[what][ROUNDS / 2] - ns[PREPARE][ROUNDS / 2]);
	printf("(%s: %.0f)\n", names[PREPARE], ns[PREPARE][ROUNDS / 2]);
	world_close();
	return 0;
}
