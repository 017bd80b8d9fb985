/* src/filters/lua/lint_test.c: each finding, and scripts that give none. */
#include "base/must.h"
#include "filters/lua/lint_int.h"
#include <stdio.h>
#include <stdlib.h>

static char said[16384];

static bool known(void *arg, struct str name)
{
	return str_eq(name, STR("wordpress")) || str_eq(name, STR("auth"));
}

static void say(void *arg, enum diag_level level, uint32_t line, uint32_t column, const char *text,
		const char *hint)
{
	size_t n = strlen(said);
	snprintf(said + n, sizeof said - n, "%c%u:%u %s%s%s%s\n", "EWN"[level], line, column, text,
		 hint[0] ? " (" : "", hint, hint[0] ? ")" : "");
}

static void lint(struct str source)
{
	static const char *const clusters[] = {"wordpress", "auth", NULL};
	const struct lint_env env = {.cluster_known = known, .clusters = clusters, .say = say};
	struct arena a;
	said[0] = 0;
	arena_init(&a, SIZE_MAX);
	lint_script(source, &a, &env);
	arena_fini(&a);
}

/* wanted: what must be said, "" nothing at all. */
static void finds(const char *source, const char *wanted)
{
	lint(str_of(source));
	if (wanted[0] ? !strstr(said, wanted) : said[0] != 0) {
		fprintf(stderr, "%s\nsaid:   %s\nwanted: %s\n", source, said, wanted);
		must(!"found");
	}
}

static void finds_not(const char *source, const char *unwanted)
{
	lint(str_of(source));
	if (strstr(said, unwanted)) {
		fprintf(stderr, "%s\nsaid: %s\n", source, said);
		must(!"quiet");
	}
}

#define REQUEST(x) "function envoy_on_request(h)\n" x "\nend\n"
#define RESPONSE(x) "function envoy_on_response(h)\n" x "\nend\n"
#define CALL                                                                                    \
	"h:httpCall('wordpress', {[':method']='GET', [':path']='/', [':authority']='a'}, nil, " \
	"100)"

static void clusters(void)
{
	finds(REQUEST(CALL), "");
	finds(REQUEST("  h:httpCall('wordpres', {[':method']='GET'}, 'x', 1)"),
	      "W2:14 httpCall names the cluster \"wordpres\", which");
	finds(REQUEST("h:httpCall('wordpres', {}, 'x', 1)"), "did you mean \"wordpress\"?");
	finds(REQUEST("h:httpCall([[nobody]], {}, 'x', 1)"),
	      "W2:12 httpCall names the cluster \"nobody\"");
	finds(REQUEST("h:httpCall('word' .. 'press', {}, 'x', 1)"), "");
	finds(REQUEST("h:httpCall(name, {}, 'x', 1)"), "");
	finds(REQUEST("-- h:httpCall('nobody', {}, 'x', 1)\n--[[ h:httpCall('nobody') ]] local s = "
		      "\"h:httpCall('nobody')\""),
	      "");
}

static void dots(void)
{
	finds(REQUEST("h.headers():add('a', 'b')"),
	      "W2:2 \"h.headers(\" calls the method without its object and raises an error: write "
	      "\"h:headers(\"");
	finds(REQUEST("h:headers().get('a')"), "W2:12 \".get(\" calls");
	finds(REQUEST("local hd = h:headers()\nhd.add('a', 'b')"), "W3:3 \"hd.add(\"");
	finds(REQUEST("h.headers(h):add('a', 'b')"), "");
	finds(REQUEST("local t = {get = print}\nt.get('a')\nstring.len('a')\nx.h.headers()"), "");
	finds(REQUEST("h:header():get('a')"),
	      "W2:3 the stream handle has no method \"header\" (did you mean \"headers\"?)");
}

static void breaks(void)
{
	finds(REQUEST("while true do break h:logInfo('x') end"),
	      "N2:15 break stands in the middle");
	finds(REQUEST("while true do if h then break end h:logInfo('x') break; end repeat break "
		      "until true"),
	      "");
	struct arena a;
	arena_init(&a, SIZE_MAX);
	must(str_eq(lint_breaks(STR("while 1 do break x() end"), &a),
		    STR("while 1 do do break end x() end")));
	must(str_eq(lint_breaks(STR("while 1 do break; x() end -- break x"), &a),
		    STR("while 1 do do break end; x() end -- break x")));
	must(str_eq(lint_breaks(STR("while 1 do break end s='break x'"), &a),
		    STR("while 1 do break end s='break x'")));
	arena_fini(&a);
}

static void waits(void)
{
	finds(REQUEST("local hd = h:headers()\nh:body()\nhd:add('a', 'b')"),
	      "N4:1 \"hd\" is older than the wait in line 3");
	finds(REQUEST("local hd = h:headers()\n" CALL "\nfor k, v in pairs(hd) do print(k) end"),
	      "N4:19 \"hd\" is older");
	finds(REQUEST("local hd = h:headers()\nhd:add('a', 'b')\nlocal b = h:body()\nb:length()"),
	      "");
	finds(REQUEST("local hd = h:headers()\nh:body()\nhd = h:headers()\nhd:add('a', 'b')"), "");
	finds(REQUEST("h:headers():add('n', h:body():length())"), "N2:13 the arguments wait");
	finds(REQUEST("local n = h:body():length()\nh:headers():add('n', n)"), "");
	finds(REQUEST("local b = h:body()\nlocal s = h:body():getBytes(0, "
		      "h:body():length())\nb:setBytes(s)"),
	      "");
	/* not on this path */
	finds(REQUEST("local hd = h:headers()\nif x then\nh:body()\nelse\nhd:get('a')\nend"), "");
	finds(REQUEST("local hd = h:headers()\nif x then\nh:body()\nreturn\nend\nhd:get('a')"), "");
	finds(REQUEST("local hd = h:headers()\nif x then\nh:body()\nelseif y "
		      "then\nhd:get('b')\nend\nhd:get('a')"),
	      "N8:1");
	finds(REQUEST("local hd = h:headers()\nh:httpCall('auth', {}, 'x', 5, true)\nhd:get('a')"),
	      "");
	finds(REQUEST("local hd = h:headers()\nh:httpCall('auth', {}, 'x', {asynchronous = "
		      "true})\nhd:get('a')"),
	      "");
	finds(REQUEST("local hd = h:headers()\nfor c in h:bodyChunks() do\nhd:get('a')\nend"),
	      "N4:1");
	finds(REQUEST("for c in h:bodyChunks() do\nc:setBytes('a')\nend"), "");
	finds(REQUEST("local hd = h:headers()\nh:body()")
		      RESPONSE("local hd = h:headers()\nhd:get('a')"),
	      "");
}

static void late_bodies(void)
{
	finds(RESPONSE(CALL "\nh:body():setBytes('x')"),
	      "W3:3 body() comes after the httpCall of line 2 only");
	finds(RESPONSE("h:body()\n" CALL "\nh:body():setBytes('x')"), "");
	finds(RESPONSE("h:body()\n") REQUEST(CALL "\nh:body()"), "W7:3 body() comes");
}

static void copies(void)
{
	finds(REQUEST("local t = {}\nfor k, v in pairs(h:headers()) do\nt[k] = v\nend"),
	      "W4:1 the table keeps one value of each name");
	finds(REQUEST("local hd, t = h:headers(), {}\nfor k, v in pairs(hd) do t[k] = v end"),
	      "W3:26");
	finds(REQUEST("local t = {}\nfor k, v in pairs(h:headers()) do\nif t[k] then add(t[k], v) "
		      "else t[k] = v end\nend"),
	      "");
	finds(REQUEST("local t = {}\nfor k, v in pairs(u) do\nt[k] = v\nend"), "");
}

static void bodies(void)
{
#define COPY "local t = {}\nfor k, v in pairs(h:headers()) do t[k] = v end\n"
	finds(REQUEST(COPY "h:httpCall('auth', t, '', 5)"),
	      "W4:3 httpCall repeats the client's request without its body");
	finds(REQUEST(COPY "h:httpCall('auth', t, nil, 5)"), "W4:3 httpCall repeats");
	finds_not(REQUEST(COPY "h:httpCall('auth', t, body, 5)"), "httpCall repeats");
	finds(REQUEST("h:httpCall('auth', {[':method'] = h:headers():get(':method')}, '', 5)"),
	      "W2:3 httpCall repeats");
	finds(REQUEST("local m = h:headers():get(':method')\nh:httpCall('auth', {[':method'] = m}, "
		      "nil, 5)"),
	      "W3:3 httpCall repeats");
	finds(REQUEST("for _, m in ipairs(all) do h:httpCall('auth', {[':method'] = m}, nil, 5) "
		      "end"),
	      "");
	finds(REQUEST("local t = {[':method'] = 'GET'}\nh:httpCall('auth', t, nil, 5)"), "");
}

static void fallbacks(void)
{
#define FALLBACK(check)                                                                            \
	RESPONSE(                                                                                  \
		"if tonumber(h:headers():get(':status')) == 404 then\n"                            \
		"local fh, fb = h:httpCall('wordpress', {[':method'] = 'GET'}, nil, 5000)\n" check \
		"\n"                                                                               \
		"for k, v in pairs(fh) do h:headers():replace(k, v) "                              \
		"end\nh:body(true):setBytes(fb or '')\nend")
	finds(FALLBACK(""), "W3:18 an httpCall that fails gives 503 or 504");
	finds(FALLBACK("if tonumber(fh[':status']) == 404 then return end"),
	      "W3:18 an httpCall that fails");
	finds(FALLBACK(""),
	      "fallbacks: [{cluster: \"wordpress\", header_timeout: 5.000s}], trigger: [404]}}");
	finds_not(FALLBACK("if tonumber(fh[':status']) >= 400 then return end"), "that fails");
	finds_not(FALLBACK("if 500 <= tonumber(fh[':status']) then return end"), "that fails");
	finds_not(FALLBACK("if fh[':status'] ~= '200' then return end"), "that fails");
	finds_not(FALLBACK("local st = tonumber(fh[':status'])\nif st > 399 then return end"),
		  "that fails");
	finds_not(RESPONSE(CALL), "policy");
}

static void articles(void)
{
	static char text[65536];
	FILE *f = fopen("examples/article/article.lua", "re");
	must(f != NULL);
	size_t n = fread(text, 1, sizeof text, f);
	fclose(f);
	lint((struct str){text, n});
	static const char *const wanted[] = {
		"W6:9 the table keeps", "which the configuration does not have",
		"httpCall repeats the client's request without", "that fails gives 503 or 504",
		"fallbacks: [{cluster: \"outbound|443||example.com\", header_timeout: 5.000s}]"};
	for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++)
		if (!strstr(said, wanted[i])) {
			fprintf(stderr, "%s\nwanted: %s\n", said, wanted[i]);
			must(!"said");
		}
	must(!strstr(said, "is older than"));
}

/* Cut anywhere, with memory for some of it: no finding matters, only that it ends. */
static void torn(void)
{
	static const char text[] = FALLBACK("x = [==[ ]] ]==] .. \"\\\"\" 1e+5 ... :: 'a'")
		REQUEST(COPY "h:headers().get('a') break");
	const struct lint_env env = {
		.cluster_known = known, .clusters = (const char *const[]){NULL}, .say = say};
	for (size_t n = 0; n < sizeof text; n++) {
		struct arena a;
		arena_init(&a, n % 7 ? SIZE_MAX : n * 3);
		char *exact = malloc(n ? n : 1); /* a sanitizer sees a byte too far */
		must(exact != NULL);
		memcpy(exact, text, n);
		said[0] = 0;
		lint_script((struct str){exact, n}, &a, &env);
		lint_breaks((struct str){exact, n}, &a);
		free(exact);
		arena_fini(&a);
	}
}

int main(void)
{
	clusters();
	dots();
	breaks();
	waits();
	late_bodies();
	copies();
	bodies();
	fallbacks();
	articles();
	torn();
	puts("lint ok");
	return 0;
}
