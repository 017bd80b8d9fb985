/* src/exchange/format_test.c: format strings and log lines on an exchange made by hand. */
#include "base/mem.h"
#include "base/must.h"
#include "exchange/access_log.c"
#include "exchange/format.c"
#include "exchange/format_out.c"
#include "obs/log.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static struct arena arena;
static struct diags diags;
static struct exchange ex;
static struct exch_env env;
static struct exch_peer peer;
static struct hcm_cfg hcm;
static struct route route;
static struct vhost vhost;
static struct cluster_cfg cluster;

static uint64_t now(void *arg)
{
	return 5000000;
}

static void exchange_by_hand(void)
{
	struct value *list = value_new(&arena, VALUE_LIST), *map = value_new(&arena, VALUE_MAP), *v;
	env.loop = loop_new(0);
	must(env.loop);
	loop_set_clock(env.loop, now, NULL);
	loop_turn(env.loop, 0);
	ex.env = &env;
	ex.peer = &peer;
	ex.hcm = &hcm;
	ex.details = "via_upstream";
	ex.flags = "";
	ex.began_us = loop_now_us(env.loop) - 1234567;
	ex.req_done_us = ex.began_us + 2000;
	ex.resp_head_us = ex.began_us + 3000;
	ex.resp_done_us = ex.began_us + 9000;
	ex.wall_us = 1795505772205699ull;
	ex.bytes_received = 10;
	ex.bytes_sent = 2000;
	ex.attempts = 2;
	strcpy(ex.request_id, "b0cb241a-ec49-4323-8c70-c9120171ab04");
	ex.route = &route;
	ex.vhost = &vhost;
	ex.upstream_cluster = &cluster;
	route.name = STR("the-route");
	cluster.name = STR("web");
	peer.remote = STR("127.0.0.1:4000");
	peer.local = STR("[::1]:8080");
	peer.connection_id = 7;
	ex.upstream_peer.in4 = (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(80), .sin_addr = {htonl(0x0a000001)}};
	arena_init(&ex.arena, SIZE_MAX);
	must(head_init(&ex.req.head, &ex.arena, false, 16) &&
	     head_init(&ex.resp.head, &ex.arena, true, 8));
	struct head *h = &ex.req.head;
	must(head_add(h, STR(":method"), STR("GET")) && head_add(h, STR(":path"), STR("/a?b=c")) &&
	     head_add(h, STR(":authority"), STR("example.com")));
	must(head_add(h, STR("user-agent"),
		      STR("a\"b\\c\xc3\xa4\tz and a rather long rest of it")) &&
	     head_add(h, STR("x-empty"), STR("")) &&
	     head_add(h, STR("x-bad"), STR("\xc3\xa4 \xff")) &&
	     head_add(h, STR("x-long"), STR("abcdef")));
	must(head_set_status(&ex.resp.head, 200) &&
	     head_add(&ex.resp.head, STR("x-out"), STR("out")));
	ex.resp.begun = true;
	v = value_new(&arena, VALUE_STRING);
	v->string = STR("a\"b\xc3\xa4");
	must(list && map && metadata_set(&ex.metadata, &ex.arena, STR("ns"), STR("s"), v));
	v = value_new(&arena, VALUE_NUMBER);
	v->number = 1234.5;
	must(metadata_set(&ex.metadata, &ex.arena, STR("ns"), STR("n"), v));
	v = value_new(&arena, VALUE_BOOL);
	v->boolean = true;
	value_add(list, v);
	value_add(list, value_new(&arena, VALUE_NULL));
	must(metadata_set(&ex.metadata, &ex.arena, STR("ns"), STR("l"), list));
	v = value_new(&arena, VALUE_NUMBER);
	v->number = 2;
	v->key = STR("k");
	value_add(map, v);
	must(metadata_set(&ex.metadata, &ex.arena, STR("ns"), STR("m"), map));
	static struct state_entry state = {.name = {"k", 1}, .value = {"v\"1", 3}};
	ex.filter_state = &state;
}

static const char *line_of(const struct format *f, enum escape how)
{
	static char out[8192];
	struct out o;
	out_init(&o, out, sizeof out - 1, how);
	o.dash = !f->omit_empty;
	o.mark_null = f->kind == FORMAT_JSON && f->omit_empty;
	out_format(&o, &ex, f);
	must(!o.lost);
	size_t n = (size_t)(o.p - out);
	if (o.mark_null)
		n = out_drop_nulls(out, n);
	out[n] = 0;
	return out;
}

static void same(const char *what, const char *got, const char *want)
{
	if (strcmp(got, want)) {
		fprintf(stderr, "%s\n  gave %s\n  want %s\n", what, got, want);
		must(!"same");
	}
}

static void text_is(const char *format, const char *want)
{
	struct format *f = format_compile(&arena, &diags, NULL, str_of(format));
	if (!f)
		diags_print(&diags, stderr);
	must(f);
	same(format, line_of(f, ESCAPE_LINE), want);
}

static void text_operators(void)
{
	text_is("%START_TIME% %START_TIME(%Y/%m/%dT%H:%M:%S %s %3s %f %3f %6f %E3S %E*S %E4Y)%",
		"2026-11-24T07:36:12.205Z 2026/11/24T07:36:12 1795505772 1795505772 205699000 205 "
		"205699 12.205 12.205699 2026");
	text_is("%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% %RESPONSE_CODE%",
		"GET /a?b=c HTTP/1.1 200");
	text_is("%REQ(x-none)% [%REQ(x-empty)%] %REQ(x-long):3% %RESP(x-out)% %TRAILER(x)% "
		"%PATH(NQ)%",
		"- [] abc out - /a");
	text_is("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %BYTES_RECEIVED% %BYTES_SENT% %DURATION%",
		"- - 10 2000 1234");
	text_is("%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "2 3 6");
	text_is("%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% "
		"%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
		"10.0.0.1:80 web - 2");
	text_is("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% "
		"%DOWNSTREAM_REMOTE_PORT%",
		"127.0.0.1:4000 127.0.0.1 4000");
	text_is("%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% "
		"%DOWNSTREAM_LOCAL_PORT%",
		"[::1]:8080 ::1 8080");
	text_is("%ROUTE_NAME% %CONNECTION_ID% %STREAM_ID% %REQUESTED_SERVER_NAME%",
		"the-route 7 b0cb241a-ec49-4323-8c70-c9120171ab04 -");
	text_is("%DYNAMIC_METADATA(ns:n)% %DYNAMIC_METADATA(ns:n):2% %DYNAMIC_METADATA(ns:l)% "
		"%DYNAMIC_METADATA(no)%",
		"1234.5 12 [true,null] -");
	text_is("%DYNAMIC_METADATA(ns:m)% %DYNAMIC_METADATA(ns:m:k)% %METADATA(DYNAMIC:ns:m)%",
		"{\"k\":2} 2 {\"k\":2}");
	text_is("%DYNAMIC_METADATA(ns)%",
		"{\"l\":[true,null],\"m\":{\"k\":2},\"n\":1234.5,\"s\":\"a\\\"b\\u00e4\"}");
	text_is("%FILTER_STATE(k:PLAIN)% %FILTER_STATE(k)% %FILTER_STATE(none)%",
		"v\\x221 \"v\\\"1\" -");
	text_is("%REQUEST_HEADERS_BYTES% %GRPC_STATUS% %RESPONSE_HEADERS_BYTES%", "118 - 18");
	ex.flags = "UF,URX";
	ex.upstream_failure = STR("delayed connect error: refused");
	text_is("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %UPSTREAM_TRANSPORT_FAILURE_REASON%",
		"UF,URX UpstreamConnectionFailure,UpstreamRetryLimitExceeded "
		"delayed_connect_error:_refused");
	ex.flags = "";
	ex.upstream_failure = (struct str){NULL, 0};
}

/* Nothing a peer says can end a line, open or close a quote. */
static void text_is_escaped(void)
{
	text_is("\"%REQ(user-agent)%\" %REQ(x-bad)%",
		"\"a\\x22b\\x5cc\\xc3\\xa4\\x09z and a rather long rest of it\" \\xc3\\xa4 \\xff");
	/* every byte at every place of every short length, against the definition */
	char in[40], got[200], want[200];
	for (size_t n = 1; n <= 33; n++) {
		for (size_t at = 0; at < n; at++) {
			for (int c = 0; c < 256; c += at % 3 ? 7 : 1) {
				memset(in, 'x', sizeof in);
				in[at] = (char)c;
				struct out o;
				out_init(&o, got, sizeof got, ESCAPE_LINE);
				out_text(&o, (struct str){in, n});
				size_t k = 0;
				for (size_t i = 0; i < n; i++) {
					unsigned char b = (unsigned char)in[i];
					if (b < 0x20 || b > 0x7e || b == '"' || b == '\\')
						k += (size_t)snprintf(want + k, sizeof want - k,
								      "\\x%02x", b);
					else
						want[k++] = (char)b;
				}
				must((size_t)(o.p - got) == k && memcmp(got, want, k) == 0 &&
				     !o.lost);
			}
		}
	}
	/* a space too small: the right size comes out, nothing is written behind it */
	for (size_t room = 0; room < 60; room++) {
		struct out o;
		memset(got, '#', sizeof got);
		out_init(&o, got, room, ESCAPE_LINE);
		out_text(&o, STR("some \"text\" that is quoted, and long enough"));
		must((size_t)(o.p - got) + o.lost == 49);
		must(got[room] == '#');
	}
}

static struct doc *map_of(const char *const *pairs)
{
	struct doc *d = doc_new(&arena, DOC_MAP, (struct doc_place){0});
	for (; *pairs; pairs += 2) {
		struct doc *v = doc_new(&arena, DOC_STRING, (struct doc_place){0});
		v->text = str_of(pairs[1]);
		doc_add(d, str_of(pairs[0]), v);
	}
	return d;
}

static void json_is(const char *const *pairs, bool omit, const char *want)
{
	struct format *f = format_compile_json(&arena, &diags, map_of(pairs));
	if (!f)
		diags_print(&diags, stderr);
	must(f);
	f->omit_empty = omit;
	same("JSON", line_of(f, ESCAPE_JSON), want);
}

static void json_lines(void)
{
	const char *const all[] = {
		"code",  "%RESPONSE_CODE%",   "none",  "%REQ(x-none)%",
		"ua",    "%REQ(user-agent)%", "both",  "%PROTOCOL%/%REQ(x-none)%",
		"bad",   "%REQ(x-bad)%",      "md",    "%DYNAMIC_METADATA(ns)%",
		"fs",    "%FILTER_STATE(k)%", "empty", "%REQ(x-empty)%",
		"flags", "%RESPONSE_FLAGS%",  "time",  "%START_TIME%",
		NULL};
	json_is(all, false,
		"{\"bad\":\"\\u00c3\\u00a4 "
		"\\u00ff\",\"both\":\"HTTP/1.1/"
		"-\",\"code\":200,\"empty\":\"\",\"flags\":\"-\",\"fs\":\"v\\\"1\","
		"\"md\":{\"l\":[true,null],\"m\":{\"k\":2},\"n\":1234.5,\"s\":\"a\\\"b\xc3\xa4\"},"
		"\"none\":null,"
		"\"time\":\"2026-11-24T07:36:12.205Z\",\"ua\":\"a\\\"b\\\\c\xc3\xa4\\tz and a "
		"rather long rest of it\"}");
	const char *const some[] = {"a", "%REQ(x-none)%", "b", "%RESPONSE_CODE%",
				    "c", "%REQ(x-none)%", NULL};
	json_is(some, true, "{\"b\":200}");
	const char *const none[] = {"a", "%REQ(x-none)%", NULL};
	json_is(none, true, "{}");
	/* nested */
	struct doc *d = map_of(some), *inner = map_of(none),
		   *list = doc_new(&arena, DOC_LIST, (struct doc_place){0}),
		   *item = doc_new(&arena, DOC_STRING, (struct doc_place){0}),
		   *last = doc_new(&arena, DOC_STRING, (struct doc_place){0});
	item->text = STR("%REQ(x-none)%");
	last->text = STR("x{}\",[");
	doc_add(list, STR(""), item);
	doc_add(list, STR(""), last);
	doc_add(d, STR("z"), inner);
	doc_add(d, STR("y"), list);
	struct format *f = format_compile_json(&arena, &diags, d);
	must(f);
	same("nested", line_of(f, ESCAPE_JSON),
	     "{\"a\":null,\"b\":200,\"c\":null,\"y\":[null,\"x{}\\\",[\"],\"z\":{\"a\":null}}");
	f->omit_empty = true;
	same("nested, without nulls", line_of(f, ESCAPE_JSON), "{\"b\":200,\"y\":[\"x{}\\\",[\"]}");
}

/* --- header operations --- */

static const char *fields_of(const struct head *h)
{
	static char out[1024];
	size_t n = 0;
	out[0] = 0;
	for (unsigned i = h->pseudo; i < h->n; i++)
		n += (size_t)snprintf(out + n, sizeof out - n, "%.*s=%.*s;",
				      STR_ARG(field_name(&h->f[i])),
				      STR_ARG(field_value(&h->f[i])));
	return out;
}

static void header_operations(void)
{
	struct head h;
	must(head_init(&h, &ex.arena, false, 8));
	must(head_add(&h, STR("a"), STR("1")) && head_add(&h, STR("b"), STR("1")) &&
	     head_add(&h, STR("c"), STR("1")) && head_add(&h, STR("user-agent"), STR("me")));
	struct format *none = format_compile(&arena, &diags, NULL, STR("%REQ(x-none)%")),
		      *none2 = format_compile(&arena, &diags, NULL, STR("[%REQ(x-none)%]")),
		      *meta = format_compile(&arena, &diags, NULL,
					     STR("%DYNAMIC_METADATA(bad:x)%"));
	struct value *v = value_new(&arena, VALUE_STRING);
	v->string = STR("a\r\nb: c");
	must(metadata_set(&ex.metadata, &ex.arena, STR("bad"), STR("x"), v));
	const struct header_op ops[] = {
		{HEADER_APPEND, STR("a"), .plain = STR("2")},
		{HEADER_ADD_IF_ABSENT, STR("a"), .plain = STR("3")},
		{HEADER_ADD_IF_ABSENT, STR("d"), .plain = STR("1")},
		{HEADER_OVERWRITE, STR("b"), .plain = STR("2")},
		{HEADER_OVERWRITE, STR("e"), .plain = STR("2")},
		{HEADER_OVERWRITE_IF_EXISTS, STR("f"), .plain = STR("2")},
		{HEADER_APPEND, STR("g"), .value = none},
		{HEADER_APPEND, STR("h"), .value = none, .keep_empty = true},
		{HEADER_APPEND, STR("i"), .value = none2},
		{HEADER_APPEND, STR("j"), .value = meta},
		{HEADER_APPEND, STR("user-agent"), .plain = STR("more")},
		{HEADER_REMOVE, STR("c")},
	};
	header_ops_apply(&ex, &h, ops, sizeof ops / sizeof *ops);
	same("header operations", fields_of(&h), "a=1;user-agent=me,more;b=2;e=2;a=2;d=1;h=;i=[];");
}

/* --- whole lines into a file --- */

static void read_log(int fd, char *out, size_t cap)
{
	sink_flush_thread();
	ssize_t n = pread(fd, out, cap - 1, 0);
	must(n >= 0);
	out[n] = 0;
	must(ftruncate(fd, 0) == 0);
}

static void long_lines(int fd, struct access_log_cfg *c)
{
	char out[70000];
	/* longer than the first room; longer than a line may be */
	hcm.logs = c;
	for (size_t n = 3000; n <= 100000; n = n == 3000 ? 100000 : n + 1) {
		char *long_text = malloc(n);
		must(long_text);
		memset(long_text, 'y', n);
		must(head_replace(&ex.req.head, STR("x-long"), (struct str){long_text, n}));
		c->format = format_compile(&arena, &diags, NULL,
					   STR("<%REQ(x-long)%> %RESPONSE_CODE%\n"));
		access_log_write(&ex);
		read_log(fd, out, sizeof out);
		must(strlen(out) == (n == 3000 ? n : CUT) + 7 &&
		     !strcmp(out + strlen(out) - 6, "> 200\n"));
		must(head_replace(&ex.req.head, STR("x-long"), STR("abcdef")));
		free(long_text);
	}
	/* JSON has its own line end */
	const char *const pairs[] = {"code", "%RESPONSE_CODE%", "none", "%REQ(x-none)%", NULL};
	c->format = format_compile_json(&arena, &diags, map_of(pairs));
	c->json = c->own_newline = true;
	access_log_write(&ex);
	c->format->omit_empty = true;
	access_log_write(&ex);
	read_log(fd, out, sizeof out);
	same("JSON", out, "{\"code\":200,\"none\":null}\n{\"code\":200}\n");
}

static void log_files(void)
{
	char path[] = "/tmp/postern-format-test-XXXXXX", out[70000];
	int fd = mkstemp(path);
	must(fd >= 0);
	struct access_log_cfg c = {
		.format = format_compile(&arena, &diags, NULL, str_of(format_default_line)),
		.sink = sink_open(path)};
	must(c.format && c.sink);
	hcm.logs = &c;
	hcm.nlogs = 1;
	access_log_write(&ex);
	read_log(fd, out, sizeof out);
	same("default line", out,
	     "[2026-11-24T07:36:12.205Z] \"GET /a?b=c HTTP/1.1\" 200 - 10 2000 1234 - \"-\" "
	     "\"a\\x22b\\x5cc\\xc3\\xa4\\x09z and a rather long rest of "
	     "it\" \"-\" \"example.com\" \"10.0.0.1:80\"\n");
	/* filters */
	c.format = format_compile(&arena, &diags, NULL, STR("x\n"));
	const struct {
		struct access_log_cfg f;
		const char *flags;
		bool written;
	} filters[] = {
		{{.status_min = 400}, "", false},
		{{.status_min = 200, .status_max = 200}, "", true},
		{{.status_max = 199}, "", false},
		{{.duration_min_us = 1000000}, "", true},
		{{.duration_min_us = 2000000}, "", false},
		{{.errors_only = true}, "", false},
		{{.errors_only = true}, "UF", true},
		{{.response_flags = STR("UF, NR")}, "", false},
		{{.response_flags = STR("UF, NR")}, "NR", true},
		{{.response_flags = STR("*")}, "DC", true},
		{{.response_flags = STR("*")}, "", false},
		{{.runtime_of = 100, .runtime_fraction = 0}, "", false},
		{{.runtime_of = 100, .runtime_fraction = 100}, "", true},
	};
	for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
		struct access_log_cfg one = filters[i].f;
		one.format = c.format;
		one.sink = c.sink;
		hcm.logs = &one;
		ex.flags = filters[i].flags;
		access_log_write(&ex);
		read_log(fd, out, sizeof out);
		same("filter", out, filters[i].written ? "x\n" : "");
	}
	ex.flags = "";
	long_lines(fd, &c);
	sink_unref(c.sink);
	sink_flush_thread();
	close(fd);
	unlink(path);
	hcm.nlogs = 0;
}

/* An exchange that never had a head, or an answer. */
static void bare_exchange(void)
{
	struct exchange bare = {.env = &env,
				.peer = &peer,
				.hcm = &hcm,
				.details = "",
				.flags = "",
				.began_us = ex.began_us};
	char out[2048];
	struct out o;
	arena_init(&bare.arena, SIZE_MAX);
	for (int op = FMT_START_TIME; op < FMT_OPS; op++) {
		struct format_part part = {.op = (enum format_op)op};
		struct format f = {.parts = &part, .n = 1};
		for (int how = ESCAPE_NONE; how <= ESCAPE_JSON; how++) {
			for (int whole = 0; whole < 2; whole++) {
				part.whole = whole;
				out_init(&o, out, sizeof out, (enum escape)how);
				out_format(&o, &bare, &f);
				must(!o.lost);
			}
		}
	}
	arena_fini(&bare.arena);
}

static void memory_runs_out(void)
{
	struct format *f = format_compile(&arena, &diags, NULL,
					  STR("%DYNAMIC_METADATA(ns)% %FILTER_STATE(k)% "
					      "%RESPONSE_FLAGS_LONG% %REQ(x-long)%"));
	for (uint64_t nth = 1; nth < 20; nth++) {
		struct arena a;
		arena_init(&a, SIZE_MAX);
		mem_fail_nth(nth);
		format_text(&ex, f, &a, true);
		mem_fail_nth(0);
		arena_fini(&a);
	}
}

int main(void)
{
	arena_init(&arena, SIZE_MAX);
	diags_init(&diags);
	exchange_by_hand();
	text_operators();
	text_is_escaped();
	json_lines();
	header_operations();
	log_files();
	bare_exchange();
	memory_runs_out();
	struct format *f =
		format_compile(&arena, &diags, NULL, STR("[%REQ(x-none)%] %RESPONSE_FLAGS%"));
	same("header value", arena_strz(&arena, format_text(&ex, f, &arena, false)), "[] -");
	same("reply text", arena_strz(&arena, format_text(&ex, f, &arena, true)), "[-] -");
	arena_fini(&ex.arena);
	loop_free(env.loop);
	diags_fini(&diags);
	arena_fini(&arena);
	arena_trim();
	return 0;
}
