/* src/filters/lua/lua_test.c: scripts in an exchange without sockets (lua_fake.h). */
#include "filters/lua/lua_fake.h"
#include <fcntl.h>
#include <time.h>

static const char *article;

#define FIELDS(...)                            \
	(const char *const[][2]){__VA_ARGS__}, \
		sizeof((const char *const[][2]){__VA_ARGS__}) / sizeof(char *[2])
#define ONE(script)                           \
	(const char *const[FAKE_LUA_FILTERS]) \
	{                                     \
		script                        \
	}
#define TWO(a, b)                             \
	(const char *const[FAKE_LUA_FILTERS]) \
	{                                     \
		a, b                          \
	}

static bool has(const char *text, const char *part)
{
	bool yes = strstr(text, part) != NULL;
	if (!yes)
		fprintf(stderr, "\"%s\" is not in:\n%s\n", part, text);
	return yes;
}

static bool lacks(const char *text, const char *part)
{
	bool no = strstr(text, part) == NULL;
	if (!no)
		fprintf(stderr, "\"%s\" is in:\n%s\n", part, text);
	return no;
}

/* --- the article --- */

static struct fake_answer wordpress = {.status = 200,
				       .fields = (const char *const[][2]){{"content-type",
									   "text/html"},
									  {"x-powered-by", "php"}},
				       .nfields = 2,
				       .body = "<p>wordpress</p>"},
			  wordpress_miss = {.status = 404, .body = "no such post"};

static struct exchange *article_request(const char *path)
{
	struct exchange *ex = fake_begin(
		"GET", path,
		FIELDS({"user-agent", "u"}, {"cookie", "a=1"}, {"x-forwarded-proto", "http"}), 0);
	must(ex);
	fake_turns();
	return ex;
}

static void a_hit_passes_untouched(void)
{
	uint64_t errors = fake_errors();
	world_open(ONE(article));
	struct exchange *ex = article_request("/page");
	must(has(fake_origin, ":path: /page\n"));
	must(fake_origin_head(ex, 200, FIELDS({"content-length", "5"}, {"x-amz", "s3"}), 5));
	fake_origin_sends(ex, "hello", true);
	fake_turns();
	must(has(fake_answer_text(ex), "200\ncontent-length: 5\nx-amz: s3\n"));
	must(has(fake_answer_text(ex), "\n\nhello"));
	must(fake_opened == 0);
	fake_done(ex);
	world_close();
	must(fake_errors() == errors);
}

static void a_miss_is_answered_by_the_fallback(void)
{
	world_open(ONE(article));
	fake_answer = &wordpress;
	struct exchange *ex = article_request("/old");
	must(fake_origin_head(ex, 404, FIELDS({"content-length", "3"}, {"x-amz", "s3"}), 3));
	fake_origin_sends(ex, "404", true);
	fake_turns();
	const char *text = fake_answer_text(ex);
	must(has(text, "200\n") && has(text, "x-powered-by: php\n") &&
	     has(text, "content-length: 16\n") && has(text, "<p>wordpress</p>"));
	must(lacks(text, "x-amz"));
	must(leg_framing(&ex->resp) == 16);
	fake_done(ex);
	fake_answer = NULL;
	world_close();
}

static void when_both_miss_the_origin_keeps_its_own_page(void)
{
	world_open(ONE(article));
	fake_answer = &wordpress_miss;
	struct exchange *ex = article_request("/gone");
	must(fake_origin_head(ex, 404, FIELDS({"content-length", "3"}, {"x-amz", "s3"}), 3));
	fake_origin_sends(ex, "404", true);
	fake_turns();
	must(has(fake_answer_text(ex), "404\ncontent-length: 3\nx-amz: s3\n"));
	must(has(fake_answer_text(ex), "\n\n404"));
	fake_done(ex);
	fake_answer = NULL;
	world_close();
}

static void a_client_that_leaves_cancels_the_call(void)
{
	unsigned closed = fake_closed;
	world_open(ONE(article));
	struct exchange *ex = article_request("/old");
	must(fake_origin_head(ex, 404, FIELDS({"content-length", "3"}), 3));
	fake_origin_sends(ex, "404", true);
	fake_turns();
	must(fake_calls && fake_closed == closed);
	must(has(fake_calls->request, "user-agent: u\n") &&
	     has(fake_calls->request, "x-forwarded-for: 127.0.0.1\n"));
	exch_client_gone(ex);
	must(!fake_calls && fake_closed == closed + 1);
	world_close();
}

/* --- scripts that check themselves: an assertion that fails is a script error --- */

static const char headers_script[] =
	"function envoy_on_request(h)\n"
	"  local hd = h:headers()\n"
	"  assert(hd == h:headers() and hd:get('X-A') == '1,2' and hd:getNumValues('x-a') == 2)\n"
	"  assert(hd:getAtIndex('x-a', 1) == '2' and hd:getAtIndex('x-a', 2) == nil and "
	"hd:getAtIndex('x-a', -1) == nil)\n"
	"  assert(hd:get('none') == nil and select('#', hd:get('none')) == 1)\n"
	"  local names = {}\n"
	"  for k, v in pairs(hd) do names[#names + 1] = k .. '=' .. v end\n"
	"  assert(table.concat(names, '|') == "
	"':authority=example.com|:path=/"
	"|:method=GET|:scheme=http|x-a=1|accept=a,b|x-a=2|x-forwarded-proto=http')\n"
	"  for k in pairs(hd) do\n"
	"    local ok, e = pcall(hd.remove, hd, k)\n"
	"    assert(not ok and e:find('cannot be modified while iterating', 1, true))\n"
	"    local n = 0\n"
	"    for k2 in pairs(hd) do n = n + 1 end\n"
	"    assert(n == 8)\n"
	"  end\n"
	"  for k in pairs(hd) do break end\n"
	"  hd:add('accept', 'c') hd:add('x-a', 3) hd:replace('X-B', 'b')\n"
	"  assert(hd:get('accept') == 'a,b,c' and hd:get('x-a') == '1,2,3' and hd:get('x-b') == "
	"'b')\n"
	"  assert(not pcall(hd.add, hd, 'x', 'a\\r\\nb') and not pcall(hd.add, hd, 'x\\n', 'a') "
	"and not pcall(hd.add, hd, '', 'a'))\n"
	"  assert(not pcall(hd.add, hd, ':status', '1') and not pcall(hd.add, hd, 'x', 'a\\0b'))\n"
	"  hd:remove('x-a') hd:replace('host', 'other')\n"
	"  assert(hd:get(':authority') == 'other' and hd:get('x-a') == nil)\n"
	"  assert(not pcall(function() return #hd end) and not pcall(ipairs, hd) and hd.nothing == "
	"nil)\n"
	"  assert(not pcall(function() hd.x = 1 end) and getmetatable(hd) == false)\n"
	"end\n";

static const char values_script[] =
	"function envoy_on_request(h)\n"
	"  local d = h:streamInfo():dynamicMetadata()\n"
	"  d:set('ns', 'l', {1, nil, 'c'}) d:set('ns', 'm', {a = {b = true}}) d:set('ns', 'bin', "
	"'a\\0b') d:set('ns', 'e', {})\n"
	"  local t = d:get('ns')\n"
	"  assert(t.l[1] == 1 and t.l[2] == nil and t.l[3] == 'c' and t.m.a.b == true and #t.bin "
	"== 3 and next(t.e) == nil)\n"
	"  t.m.a = 1\n"
	"  assert(d:get('ns').m.a.b == true)\n"
	"  local deep = {} for i = 1, 50000 do deep = {deep} end\n"
	"  assert(not pcall(d.set, d, 'ns', 'deep', deep))\n"
	"  local loop = {} loop.me = loop\n"
	"  assert(not pcall(d.set, d, 'ns', 'loop', loop) and not pcall(d.set, d, 'ns', 'f', "
	"print))\n"
	"  local ok, e = pcall(function() d:set('ns', 'k', {1, x = 2}) end)\n"
	"  assert(e:find('unexpected type number in table key (only string keys are supported)', "
	"1, true))\n"
	"  local n = 0\n"
	"  for ns, v in pairs(d) do n = n + 1 assert(ns == 'ns' and v.bin) end\n"
	"  assert(n == 1)\n"
	"  local fs = h:streamInfo():filterState()\n"
	"  fs:set('k', 'envoy.string', 'v') assert(fs:get('k') == 'v' and fs:get('none') == nil "
	"and not pcall(fs.set, fs, 'k', 'x', 'v'))\n"
	"  assert(h:base64Escape('\\0\\1\\255') == 'AAH/' and h:base64Decode('AAH/') == "
	"'\\0\\1\\255' and h:base64Decode('!') == nil)\n"
	"  assert(h:base64Decode('YR==') == 'a' and h:base64Decode(' Y Q = = ') == 'a' and "
	"h:base64Decode('=') == nil)\n"
	"  assert(h:timestamp() > 1e12 and "
	"#h:timestampString(EnvoyTimestampResolution.MICROSECOND) == 16)\n"
	"  assert(h:importPublicKey('abc', 2e9):get() == nil and h:importPublicKey('abc', "
	"-1):get() == nil)\n"
	"  assert(h:connection():ssl() == nil and h:streamInfo():protocol() == 'HTTP/1.1' and "
	"h:streamInfo():routeName() == 'r')\n"
	"  local s = h:stats() s:counter('c'):add(2) assert(s:counter('c'):value() >= 2)\n"
	"  s:gauge('g'):set(7) s:gauge('g'):sub(2) assert(s:gauge('g'):value() == 5)\n"
	"  assert(not pcall(s.counter, s) and not pcall(s.histogram, s, 'x', 'parsecs'))\n"
	"end\n";

static const char sandbox_script[] =
	"local at_load = coroutine.running()\n"
	"helper = function() return 'global' end\n"
	"function envoy_on_request(h)\n"
	"  for _, name in ipairs({'dofile', 'loadfile', 'newproxy', 'module', 'ffi'}) do "
	"assert(_G[name] == nil, name) end\n"
	"  assert(os.exit == nil and os.execute == nil and io.popen == nil and debug.getregistry "
	"== nil and string.dump == nil)\n"
	"  assert(not pcall(require, 'ffi') and not pcall(require, 'io.nothing') and "
	"require('string') == string)\n"
	"  assert(load('\\27LJ') == nil and loadstring('return helper()')() == 'global')\n"
	"  assert(getfenv(0) == _G and getfenv(1) == _G and getfenv(pairs) == _G and "
	"getfenv(print) == _G and getfenv(coroutine.wrap) == _G)\n"
	"  assert(not pcall(setfenv, pairs, {}) and not pcall(setfenv, print, {}) and not "
	"pcall(setfenv, 0, {}))\n"
	"  local f = function() return x end\n"
	"  assert(setfenv(f, {x = 5})() == 5 and getmetatable('') == false)\n"
	"  string.twice = function(s) return s .. s end\n"
	"  assert(('ab'):twice() == 'abab' and ('x').nothing == nil and ('abc'):find('b') == 2)\n"
	"  local t = setmetatable({}, {__pairs = function() return function(_, k) if not k then "
	"return 1, 2 end end, nil, nil end})\n"
	"  for k, v in pairs(t) do assert(k == 1 and v == 2) end\n"
	"  assert(table.pack(1, nil, 3).n == 3 and table.unpack({1, 2}) == 1 and rawlen({1, 2}) == "
	"2 and rawlen('abc') == 3)\n"
	"  local co, main = coroutine.running() assert(type(co) == 'thread' and main == false)\n"
	"  assert(select('#', coroutine.resume(coroutine.create(function() end))) == 1)\n"
	"  local w = coroutine.wrap(function(a) local b = coroutine.yield(a + 1) return b * 2 "
	"end)\n"
	"  assert(w(1) == 2 and w(5) == 10 and not pcall(w))\n"
	"  assert(coroutine.resume(coroutine.running()) == false)\n"
	"  local ok, e = xpcall(function() error('x', 0) end, function(m) return m .. '!' end) "
	"assert(not ok and e == 'x!')\n"
	"  assert(select('#', xpcall(function(...) return ... end, print, 1, nil)) == 3 and "
	"collectgarbage('count') > 0)\n"
	"  assert(package.path:find('./?.lua', 1, true) and jit.version and bit.band(7, 2) == 2)\n"
	"end\n";

static const char modules_script[] =
	"local json, b64, sha256, hmac, shared = require('json'), require('base64'), "
	"require('sha256'), require('hmac'), require('postern.shared')\n"
	"local early = shared('early') early:set('k', 'at load')\n"
	"function envoy_on_request(h)\n"
	"  assert(require('json') == json and require('cjson') ~= json)\n"
	"  local t = json.decode('{\"a\": [1, 2.5e1, -0, true, false, null, "
	"\"x\\\\u00e9\\\\ud83d\\\\ude00\\\\n\"], \"b\": {}, \"c\": []}')\n"
	"  assert(t.a[1] == 1 and t.a[2] == 25 and t.a[3] == 0 and t.a[4] == true and t.a[5] == "
	"false and t.a[6] == json.null and t.a[7] == 'x\\195\\169\\240\\159\\152\\128\\n', "
	"t.a[7])\n"
	"  for _, bad in ipairs({'', '{', '[1,]', '{\"a\"}', '01', '1.', '+1', 'nul', '\"a', "
	"'\"\\\\x\"', '\"\\\\ud800\"', '[1] 2', '{a:1}', '\"\\n\"', ('['):rep(200) .. "
	"(']'):rep(200), '[' .. ('1'):rep(80) .. ']'}) do\n"
	"    assert(not pcall(json.decode, bad), bad)\n"
	"  end\n"
	"  assert(json.encode({1, 'a\"\\n/', {x = true}, json.null}) == "
	"'[1,\"a\\\\\"\\\\n\\\\/\",{\"x\":true},null]', json.encode({1, 'a\"\\n/', {x = true}, "
	"json.null}))\n"
	"  assert(json.encode({}) == '{}' and json.encode('\\1\\127') == '\"\\\\u0001\\\\u007f\"' "
	"and json.encode({[2] = 1}) == '[null,1]' and json.encode(0.1) == '0.1')\n"
	"  local loop = {} loop[1] = loop\n"
	"  assert(not pcall(json.encode, loop) and not pcall(json.encode, print) and not "
	"pcall(json.encode, 0/0) and not pcall(json.encode, {[1] = 1, [1000] = 2}) and not "
	"pcall(json.encode))\n"
	"  local big = {} for i = 1, 3000 do big[i] = {id = i, s = ('x'):rep(i % 50)} end\n"
	"  assert(json.decode(json.encode(big))[3000].id == 3000)\n"
	"  local v, e = require('cjson.safe').decode('{') assert(v == nil and e)\n"
	"  assert(b64.decode(b64.encode('\\0\\255')) == '\\0\\255' and b64.decode('!') == nil)\n"
	"  assert(sha256.hex('abc') == "
	"'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad' and #sha256.raw('') == "
	"32)\n"
	"  assert(hmac.sha256('key', 'The quick brown fox jumps over the lazy dog') == "
	"'f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8')\n"
	"  assert(#hmac.sha512('', '', true) == 64 and not pcall(hmac.sha1, 'k'))\n"
	"  local d = shared('test') assert(early:get('k') == 'at load' and d:get('k') == nil and "
	"getmetatable(d) == false)\n"
	"  assert(d:set('k', 'v') and d:get('k') == 'v' and not d:add('k', 'w') and d:set('n', 5) "
	"and d:incr('n') == 6 and d:incr('n', -10) == -4)\n"
	"  assert(d:incr('fresh') == nil and d:incr('fresh', 2, 40) == 42 and d:incr('k') == nil "
	"and d:set('b', false) and d:get('b') == false)\n"
	"  assert(d:delete('k') and d:get('k') == nil and d:ttl('k') == nil and d:ttl('n') == 0 "
	"and d:set('t', 1, 100) and d:ttl('t') > 99)\n"
	"  assert(d:set('gone', 1, 0.001)) local until_ = os.clock() + 0.03 while os.clock() < "
	"until_ do end assert(d:get('gone') == nil)\n"
	"  assert(not pcall(d.set, d, 'k', {}) and not pcall(d.set, d, ('k'):rep(600), 1) and not "
	"pcall(d.set, d, 'k', ('v'):rep(70000)) and not pcall(d.set, d, 'k', 1, -1))\n"
	"  for i = 1, 400 do d:set('big' .. i, ('x'):rep(60000)) end assert(d:get('big1') == nil "
	"and #d:get('big400') == 60000)\n"
	"end\n";

/* Every pattern function against LuaJIT's own, which an environment of full trust would not have
 * changed either. */
static const char pattern_script[] =
	"local texts = {'', 'a', 'abc abc', 'hello world from Lua', 'key = value; k2=v2', "
	"'(a(b)c)', '\\0x\\0', 'aaa', 'THE (quick) fox', '2026-11-24', 'x--y'}\n"
	"local patterns = {'', '.', 'a*', 'a-', 'a-$', '^a', '%w+', '(%w+)%s*=%s*(%w+)', '%b()', "
	"'%f[%w]%w+', '()a()', '(a)(b?)', '[^%s]+', '[a-c]+', '[]]', '[^]]',\n"
	"  '%d%d%d%d%-(%d+)', '.-b', '(.)%1', '%z', '%x+', '[%a-]+', '%u%l*', '(', '%', '[a', "
	"'%f', '%b', ')', '(()', '%1', 'a?b?c?', '^(.-)%s', '$', '^$', 'o.-o', '-%-'}\n"
	"function check(raw, mine, ...)\n"
	"  local a, b = {pcall(raw, ...)}, {pcall(mine, ...)}\n"
	"  local same = #a == #b and a[1] == b[1]\n"
	"  for i = 2, #a do if a[1] then same = same and a[i] == b[i] end end\n"
	"  if not same then error(tostring(select(2, ...)) .. ' on ' .. tostring((...)) .. ': ' .. "
	"tostring(a[2]) .. ' ' .. tostring(b[2]), 0) end\n"
	"end\n"
	"function envoy_on_request(h)\n"
	"  for _, t in ipairs(texts) do for _, p in ipairs(patterns) do\n"
	"    check(raw.find, string.find, t, p) check(raw.match, string.match, t, p) if #t > 0 "
	"then check(raw.find, string.find, t, p, 2) end check(raw.find, string.find, t, p, -2)\n"
	"    check(raw.find, string.find, t, p, 1, true) check(raw.gsub, string.gsub, t, p, "
	"'<%0>') check(raw.gsub, string.gsub, t, p, '%1%%', 2)\n"
	"    check(raw.gsub, string.gsub, t, p, {a = 'b', hello = false}) check(raw.gsub, "
	"string.gsub, t, p, function(a, b) if a == 'a' then return nil end return b end)\n"
	"    check(function(...) local r = {} for a, b in raw.gmatch(...) do r[#r + 1] = "
	"tostring(a) .. tostring(b) end return raw.concat(r, ',') end,\n"
	"      function(...) local r = {} for a, b in string.gmatch(...) do r[#r + 1] = "
	"tostring(a) .. tostring(b) end return raw.concat(r, ',') end, t, p)\n"
	"  end end\n"
	"  math.randomseed(7)\n"
	"  for n = 0, 200, 7 do\n"
	"    local a, b = {}, {}\n"
	"    for i = 1, n do a[i] = math.random(n) b[i] = a[i] end\n"
	"    raw.sort(a) table.sort(b) for i = 1, n do assert(a[i] == b[i]) end\n"
	"    table.sort(b, function(x, y) return x > y end) for i = 1, n do assert(a[n + 1 - i] == "
	"b[i]) end\n"
	"  end\n"
	"  local t = {} for i = 1, 5000 do t[i] = i % 3 end table.sort(t) for i = 2, 5000 do "
	"assert(t[i - 1] <= t[i]) end\n"
	"  local t = {} for i = 1, 5000 do t[i] = 5000 - i end table.sort(t) for i = 2, 5000 do "
	"assert(t[i - 1] <= t[i]) end\n"
	"  pcall(table.sort, {3, 1, 2, 5, 4, 9, 8, 7, 6, 11, 12, 13, 14, 15, 16, 17}, function() "
	"return true end)\n"
	"  assert(not pcall(table.sort, {1, 'a', {}}) and not pcall(table.sort, 5))\n"
	"end\n";

static void run_checked(const char *script)
{
	uint64_t errors = fake_errors();
	world_open(ONE(script));
	struct exchange *ex = fake_begin("GET", "/",
					 FIELDS({"X-A", "1"}, {"Accept", "a"}, {"x-a", "2"},
						{"accept", "b"}, {"x-forwarded-proto", "http"}),
					 0);
	must(ex);
	fake_turns();
	must(fake_errors() == errors);
	exch_client_gone(ex);
	world_close();
}

static void headers_do_what_they_should(void)
{
	run_checked(headers_script);
}

static void values_do_what_they_should(void)
{
	run_checked(values_script);
}

static void the_sandbox_holds(void)
{
	run_checked(sandbox_script);
}

static void modules_of_ours_work(void)
{
	run_checked(modules_script);
}

static int raw_functions(lua_State *L)
{
	struct script_env *e = lua_touserdata(L, 1);
	static const char *const names[] = {"find", "match", "gmatch", "gsub", NULL};
	lua_rawgeti(L, LUA_REGISTRYINDEX, e->globals_ref);
	lua_newtable(L);
	lua_getglobal(L, "string");
	for (int i = 0; names[i]; i++) {
		lua_getfield(L, -1, names[i]);
		lua_setfield(L, -3, names[i]);
	}
	lua_pop(L, 1);
	lua_getglobal(L, "table");
	lua_getfield(L, -1, "sort");
	lua_setfield(L, -3, "sort");
	lua_getfield(L, -1, "concat");
	lua_setfield(L, -3, "concat");
	lua_pop(L, 1);
	lua_setfield(L, -2, "raw");
	return 0;
}

static void patterns_agree_with_the_originals(void)
{
	uint64_t errors = fake_errors();
	world_open(ONE(pattern_script));
	world.model->options.script_time_ms = 5000;
	struct vm *vm = vm_of(&world.env, world.model);
	struct script_env *e =
		vm_script(vm, ((struct lua_filter *)world.filters[0].config)->script, NULL, NULL);
	must(vm_protect(vm, raw_functions, e) == 0);
	struct exchange *ex = fake_begin("GET", "/", FIELDS({"x-forwarded-proto", "http"}), 0);
	fake_turns();
	must(fake_errors() == errors);
	exch_client_gone(ex);
	world_close();
}

/* --- bodies --- */

static void chunks_may_be_rewritten_as_they_pass(void)
{
	world_open(ONE("function envoy_on_response(h) for c in h:bodyChunks() do c:setBytes('<' .. "
		       "c:getBytes(0, c:length()) .. '>') end end"));
	struct exchange *ex = article_request("/");
	must(fake_origin_head(ex, 200, FIELDS({"content-length", "50000"}), 50000));
	fake_turns();
	must(leg_framing(&ex->resp) == -1); /* what was announced would not be true */
	fake_origin_sends(ex, "ab", false);
	fake_turns();
	must(has(fake_answer_text(ex), "\n\n<ab>"));
	fake_origin_sends(ex, "cde", true);
	fake_turns();
	must(has(fake_answer_text(ex), "\n\n<ab><cde><>") && ex->resp.ended);
	fake_done(ex);
	world_close();
}

static void a_small_body_is_awaited_for_its_true_length(void)
{
	world_open(ONE("function envoy_on_response(h) for c in h:bodyChunks() do c:setBytes('<' .. "
		       "c:getBytes(0, c:length()) .. '>') end end"));
	struct exchange *ex = article_request("/");
	must(fake_origin_head(ex, 200, FIELDS({"content-length", "5"}), 5));
	fake_origin_sends(ex, "ab", false);
	fake_turns();
	must(!*fake_answer_text(ex));
	fake_origin_sends(ex, "cde", true);
	fake_turns();
	must(has(fake_answer_text(ex), "content-length: 9\n") &&
	     has(fake_answer_text(ex), "\n\n<abcde><>") && leg_framing(&ex->resp) == 9);
	fake_done(ex);
	world_close();
}

static void a_body_that_is_whole_keeps_a_true_length(void)
{
	world_open(ONE("function envoy_on_request(h) for c in h:bodyChunks() do "
		       "c:setBytes(c:getBytes(0, c:length()):upper() .. '!') end end"));
	struct exchange *ex = fake_begin(
		"POST", "/", FIELDS({"content-length", "3"}, {"x-forwarded-proto", "http"}), 3);
	fake_client_sends(ex, "abc", true);
	fake_turns();
	must(has(fake_origin, "content-length: 5\n") && has(fake_origin, "\n\nABC!!") &&
	     fake_origin_ended);
	must(leg_framing(&ex->req) == 5);
	exch_client_gone(ex);
	world_close();
}

static void bodies_wait_and_are_replaced(void)
{
	world_open(ONE("function envoy_on_request(h) local hd = h:headers() local b = h:body() "
		       "hd:add('x-n', b:length()) b:setBytes('new') end"));
	struct exchange *ex = fake_begin("POST", "/", FIELDS({"x-forwarded-proto", "http"}), -1);
	fake_turns();
	fake_client_sends(ex, "ab", false);
	fake_turns();
	must(!*fake_origin);
	fake_client_sends(ex, "c", true);
	fake_turns();
	must(has(fake_origin, "x-n: 3\n") && has(fake_origin, "content-length: 3\n") &&
	     has(fake_origin, "\n\nnew"));
	exch_client_gone(ex);
	world_close();
}

static void two_filters_share_one_exchange(void)
{
	uint64_t errors = fake_errors();
	world_open(TWO("n = 0 function envoy_on_request(h) n = n + 1 "
		       "h:streamInfo():dynamicMetadata():set('s', 'n', n) for c in h:bodyChunks() "
		       "do c:setBytes('[' .. c:getBytes(0, c:length()) .. ']') end end",
		       "function envoy_on_request(h) assert(n == nil and "
		       "h:streamInfo():dynamicMetadata():get('s').n == 1) h:headers():add('x-len', "
		       "h:body():length()) end"));
	struct exchange *ex = fake_begin("POST", "/", FIELDS({"x-forwarded-proto", "http"}), -1);
	fake_turns();
	fake_client_sends(ex, "ab", false);
	fake_turns();
	fake_client_sends(ex, "c", true);
	fake_turns();
	must(has(fake_origin, "x-len: 9\n") && has(fake_origin, "\n\n[ab][c][]"));
	must(fake_errors() == errors);
	exch_client_gone(ex);
	world_close();
}

/* --- calls --- */

static const char coroutine_script[] =
	"local base = {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a', ['x-l'] = {'1', "
	"'2'}}\n"
	"local name = 'outbound|443||example.com'\n"
	"function envoy_on_request(h)\n"
	"  local hd, si = h:headers(), h:streamInfo()\n"
	"  local co = coroutine.wrap(function() local r, b = h:httpCall(name, base, 'x', 100) "
	"coroutine.yield(r[':status']) return b end)\n"
	"  assert(co() == '200' and co() == '<p>wordpress</p>')\n"
	"  local ok, r = pcall(h.httpCall, h, name, base, nil, {timeout_ms = 5, "
	"return_duplicate_headers = true})\n"
	"  assert(ok and r['content-type'] == 'text/html')\n"
	"  for k in pairs(hd) do h:httpCall(name, base, nil, 0) end\n"
	"  assert(hd:get(':path') == '/' and si:protocol() == 'HTTP/1.1')\n"
	"  assert(not pcall(table.sort, {3, 2, 1}, function(a, b) h:httpCall(name, base, nil, 0) "
	"return a < b end))\n"
	"  assert(select('#', h:httpCall(name, base, 'copy', 100, true)) == 0)\n"
	"  local ok, e = pcall(h.httpCall, h, 'nope', base, nil, 1) assert(e:find('cluster "
	"invalid'))\n"
	"  assert(not pcall(h.httpCall, h, name, {}, nil, 1) and not pcall(h.httpCall, h, name, "
	"base, nil, -1) and not pcall(h.httpCall, h, name, base, nil, 0/0))\n"
	"  assert(not pcall(h.httpCall, h, name, {[':method'] = 'GET', [':path'] = '/ HTTP/1.1', "
	"[':authority'] = 'a'}, nil, 1))\n"
	"  hd:add('x-done', '1')\n"
	"end\n";

static void calls_work_in_coroutines_and_loops(void)
{
	uint64_t errors = fake_errors();
	world_open(ONE(coroutine_script));
	fake_answer = &wordpress;
	struct exchange *ex = article_request("/");
	fake_turns();
	must(has(fake_origin, "x-done: 1\n"));
	must(fake_errors() == errors);
	exch_client_gone(ex);
	fake_answer = NULL;
	world_close();
}

static void an_asynchronous_call_outlives_its_exchange(void)
{
	world_open(ONE(
		"function envoy_on_request(h) h:httpCall('outbound|443||example.com', {[':method'] "
		"= 'POST', [':path'] = '/m', [':authority'] = 'a'}, 'copy', 100, true) end"));
	struct exchange *ex = article_request("/");
	must(fake_calls && has(fake_calls->request, "\n\ncopy"));
	exch_client_gone(ex);
	fake_turns();
	must(fake_calls);
	fake_give(fake_calls, &wordpress);
	fake_turns();
	must(!fake_calls);
	ex = article_request("/");
	must(fake_calls); /* the next one is still open when all ends */
	exch_client_gone(ex);
	world_close();
}

static void failures_look_like_answers(void)
{
	static const struct {
		enum failure_kind why;
		const char *status;
	} cases[] = {{FAILED_TIMEOUT, "504"},
		     {FAILED_CONNECT, "503"},
		     {FAILED_TERMINATED, "503"},
		     {FAILED_NO_HEALTHY, "503"},
		     {FAILED_PROTOCOL, "502"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct fake_answer a = {.failure = cases[i].why};
		char want[64];
		world_open(ONE("function envoy_on_request(h) local r, b = "
			       "h:httpCall('outbound|443||example.com', {[':method'] = 'GET', "
			       "[':path'] = '/m', [':authority'] = 'a'}, nil, 100) "
			       "h:respond({[':status'] = r[':status'], ['x-len'] = #b}, b) end"));
		fake_answer = &a;
		struct exchange *ex = article_request("/");
		snprintf(want, sizeof want, "%s\n", cases[i].status);
		must(has(fake_answer_text(ex), want) &&
		     has(fake_answer_text(ex), failure_infos[cases[i].why].text));
		fake_answer = NULL;
		fake_done(ex);
		world_close();
	}
}

/* --- what must not hurt --- */

static double cpu_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void runaways_are_stopped(void)
{
	static const char *const bodies[] = {
		"while true do end",
		"while true do pcall(function() while true do end end) end",
		"while true do pcall(error, 'x') end",
		"local co = coroutine.wrap(function() while true do coroutine.yield() end end) "
		"while true do co() end",
		"local function f() return pcall(f) end while true do f() end",
		"local function f() pcall(f) f() end f()",
		"string.find(('a'):rep(40000), ('.-'):rep(12) .. 'b')",
		"local s = ('a'):rep(2000000) while true do s:find(('a'):rep(1000000) .. 'b', 1, "
		"true) end",
		"local n = 0 for i = 1, 1e15 do n = n + i % 7 end",
		"xpcall(function() while true do end end, function() while true do end end) while "
		"true do end",
		"for k in string.gmatch(('ab'):rep(1e6), '(.-)-') do end while true do end",
		"local t = {} for i = 1, 100000 do t[i] = i end while true do table.sort(t, "
		"function(a, b) return a > b end) end",
		"('x'):rep(100000):gsub('.', function() while true do end end)",
		"setmetatable({}, {__index = function(t, k) while true do end end}).x = nil local "
		"t = setmetatable({}, {__index = function() while true do end end}) return t.x",
		"while true do h:headers():add('x', 'y') h:headers():remove('x') end",
	};
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		char script[512];
		uint64_t errors = fake_errors();
		snprintf(script, sizeof script,
			 "function envoy_on_request(h) if h:headers():get(':path') == '/bad' then "
			 "%s end end",
			 bodies[i]);
		world_open(ONE(script));
		struct exchange *ex = article_request("/warm");
		exch_client_gone(ex);
		fake_turns();
		double t = cpu_ms();
		ex = article_request("/bad");
		t = cpu_ms() - t;
		if (fake_errors() != errors + 1 || t > 300)
			fprintf(stderr, "%s: %.0f ms\n", bodies[i], t);
		must(fake_errors() == errors + 1);
		must(has(fake_answer_text(ex), "500\n"));
#ifndef __SANITIZE_ADDRESS__
		must(t < 150);
#endif
		fake_done(ex);
		ex = article_request("/good");
		must(has(fake_origin, ":path: /good\n"));
		exch_client_gone(ex);
		world_close();
	}
}

static void computing_time_is_counted(void)
{
	stat_id id = stat_register(STAT_COUNTER, STR("http.x.lua.cpu_ms"));
	uint64_t before = stat_read(id);
	world_open(ONE(
		"function envoy_on_request(h) local n = 0 for i = 1, 1e6 do n = n + i end end"));
	for (int i = 0; i < 20; i++) {
		struct exchange *ex = article_request("/");
		exch_client_gone(ex);
		fake_turns();
	}
	world_close();
	must(stat_read(id) > before);
}

static void memory_bombs_end_their_own_request_only(void)
{
	static const char *const bodies[] = {
		"local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
		"local s = 'x' while true do s = s .. s end",
		"return #('x'):rep(1900000000)",
		"local t = {} for i = 1, 1e9 do t[i] = coroutine.create(function() end) end",
		"kept = kept or {} for i = 1, 1e9 do kept[#kept + 1] = {i} end",
		"return unpack({}, 1, 1e8)",
		"local function f(n) return 1 + f(n + 1) end return f(1)",
		"h:body(true):setBytes(('x'):rep(6e7))",
	};
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		char script[512];
		uint64_t errors = fake_errors();
		snprintf(script, sizeof script,
			 "function envoy_on_request(h) if h:headers():get(':path') == '/bad' then "
			 "%s end end",
			 bodies[i]);
		world_open(ONE(script));
		world.model->options.script_time_ms = 10000;
		for (int k = 0; k < 3; k++) {
			struct exchange *ex = article_request("/bad");
			exch_client_gone(ex);
			fake_turns();
			ex = article_request("/good");
			must(has(fake_origin, ":path: /good\n"));
			exch_client_gone(ex);
			fake_turns();
		}
		must(fake_errors() >= errors + 3);
		world_close();
	}
}

static void fields_without_end_are_answered(void)
{
	static const char *const bodies[] = {
		"while true do h:headers():replace('x', ('y'):rep(10000)) end",
		"pcall(function() while true do h:headers():replace('x', ('y'):rep(10000)) end "
		"end) error('x')",
	};
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		char script[512];
		uint64_t errors = fake_errors();
		snprintf(script, sizeof script, "function envoy_on_request(h) %s end", bodies[i]);
		world_open(ONE(script));
		world.model->options.script_time_ms = 10000;
		struct exchange *ex = article_request("/");
		must(fake_errors() == errors + 1);
		must(ex->arena.over);
		must(has(fake_answer_text(ex), "500\n"));
		fake_done(ex);
		world_close();
	}
}

static void a_full_vm_starts_afresh(void)
{
	world_open(ONE("kept = {} function envoy_on_request(h) if h:headers():get(':path') == "
		       "'/keep' then for i = 1, 6 do kept[#kept + 1] = ('x'):rep(1e6) .. #kept end "
		       "end h:headers():add('x-kept', #kept) end"));
	unsigned fresh = 0;
	struct vm *first = NULL;
	for (int i = 0; i < 30; i++) {
		struct exchange *ex = article_request("/keep");
		if (i == 0)
			first = world.env.lua;
		fresh += world.env.lua != first;
		exch_client_gone(ex);
		fake_turns();
	}
	must(fresh > 0);
	struct exchange *ex = article_request("/good");
	must(has(fake_origin, ":path: /good\n"));
	exch_client_gone(ex);
	world_close();
}

static void kept_objects_are_dead_in_the_next_run(void)
{
	uint64_t errors = fake_errors();
	world_open(ONE("local kept = {}\n"
		       "local function dead(o, m, ...) local ok, e = pcall(o[m], o, ...) "
		       "assert(not ok and e:find('outside of proper scope'), m) end\n"
		       "function envoy_on_request(h)\n"
		       "  if kept.h then\n"
		       "    dead(kept.h, 'headers') dead(kept.h, 'logInfo', 'x') dead(kept.hd, "
		       "'get', 'x') dead(kept.si, 'protocol') dead(kept.d, 'get', 'x')\n"
		       "    dead(kept.b, 'length') assert(not pcall(kept.it, kept.hd)) assert(not "
		       "pcall(kept.chunks)) assert(not pcall(pairs, kept.hd))\n"
		       "    assert(coroutine.resume(kept.co) == false)\n"
		       "  end\n"
		       "  kept = {h = h, hd = h:headers(), si = h:streamInfo(), d = "
		       "h:streamInfo():dynamicMetadata(), b = h:body(true), it = "
		       "pairs(h:headers()), chunks = h:bodyChunks(), co = coroutine.running()}\n"
		       "end\n"
		       "function envoy_on_response(h) dead(kept.h, 'headers') end\n"));
	for (int i = 0; i < 3; i++) {
		struct exchange *ex = article_request("/");
		must(fake_origin_head(ex, 200, FIELDS({"content-length", "0"}), 0));
		fake_turns();
		fake_done(ex);
	}
	must(fake_errors() == errors);
	world_close();
}

static void a_shared_vm_is_one_and_others_are_not(void)
{
	static const char script[] =
		"n = 0 function envoy_on_request(h) n = n + 1 h:headers():add('x-n', n) end";
	world_open(TWO(script, script));
	struct exchange *ex = article_request("/");
	must(has(fake_origin, "x-n: 1\nx-n: 1\n"));
	exch_client_gone(ex);
	fake_turns();
	for (int i = 0; i < 2; i++) {
		struct doc *cfg = fake_config(&world.arena, script);
		doc_add(cfg, STR("shared_vm_id"), fake_text(&world.arena, "v"));
		filter_lua.free_config(world.filters[i].config);
		world.filters[i].config = fake_compile(cfg);
		must(world.filters[i].config);
	}
	ex = article_request("/");
	must(has(fake_origin, "x-n: 1\nx-n: 2\n")); /* and those that went have left the VM */
	exch_client_gone(ex);
	world_close();
}

static void a_script_that_does_not_load_is_refused(void)
{
	static const char *const bad[] = {"function (",
					  "error('boom')",
					  "local t = nil t.x = 1",
					  "require('no.such')",
					  "while true do end",
					  "coroutine.yield()",
					  "\33LJ",
					  "error({})"};
	world_open(ONE("local x = 1"));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		unsigned errors = world.diags.errors;
		must(!fake_compile(fake_config(&world.arena, bad[i])));
		must(world.diags.errors == errors + 1);
	}
	world_close();
}

static void errors_may_fail_the_request(void)
{
	world_open(ONE("function envoy_on_request(h) error('no') end"));
	struct exchange *ex = article_request("/");
	must(has(fake_origin, ":path: /\n"));
	exch_client_gone(ex);
	fake_turns();
	world.model->options.lua_on_error = ON_ERROR_FAIL;
	world.model->options.lua_error_status = 599;
	ex = article_request("/");
	must(!*fake_origin && has(fake_answer_text(ex), "599\n"));
	fake_done(ex);
	world_close();
}

/* Everything that allocates fails once, at each place: no crash, no leak, and every exchange ends.
 * */
static void every_allocation_may_fail(void)
{
	for (uint64_t n = 1; n < 4000; n++) {
		world_open(ONE(article));
		fake_answer = &wordpress;
		mem_fail_nth(n);
		struct exchange *ex =
			fake_begin("GET", "/old",
				   FIELDS({"user-agent", "u"}, {"x-forwarded-proto", "http"}), 0);
		uint64_t number = ex ? ex->number : 0;
		if (ex)
			fake_turns();
		if (ex && exch_find(&world.env, number) && !ex->resp.begun)
			fake_origin_head(ex, 404, FIELDS({"content-length", "3"}), 0);
		fake_turns();
		bool over = mem_fail_left() > 0;
		mem_fail_nth(0);
		if (ex && exch_find(&world.env, number))
			exch_client_gone(ex);
		fake_answer = NULL;
		world_close();
		if (over)
			return;
	}
	must(!"the loop ends");
}

static void heaps_count_and_refuse(void)
{
	struct heap h;
	must(heap_init(&h, 1 << 20));
	h.opening = false;
	void *p[64] = {0};
	size_t size[64] = {0};
	uint64_t seed = 1;
	for (int i = 0; i < 200000; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		unsigned k = (unsigned)(seed >> 58), kind = (unsigned)(seed >> 40) % 4;
		size_t n = kind == 0   ? 0
			   : kind == 1 ? (seed >> 20) % 64
			   : kind == 2 ? (seed >> 20) % 2048
				       : (seed >> 20) % 40000;
		void *q = heap_alloc(&h, p[k], size[k], n);
		if (n && !q) {
			must(h.hit && n > size[k]);
			continue;
		}
		if (n && size[k])
			must(((unsigned char *)q)[0] == k || size[k] == 0);
		if (n) {
			memset(q, (int)k, n);
		}
		p[k] = n ? q : NULL;
		size[k] = n;
		size_t sum = 0;
		for (int j = 0; j < 64; j++)
			sum += size[j];
		must(sum == h.used && sum <= h.limit);
	}
	must(!heap_alloc(&h, NULL, 0, 2 << 20) && h.hit);
	heap_fini(&h);
}

/* An argument: only the test of that number. */
int main(int argc, char **argv)
{
	static void (*const tests[])(void) = {heaps_count_and_refuse,
					      a_hit_passes_untouched,
					      a_miss_is_answered_by_the_fallback,
					      when_both_miss_the_origin_keeps_its_own_page,
					      a_client_that_leaves_cancels_the_call,
					      headers_do_what_they_should,
					      values_do_what_they_should,
					      the_sandbox_holds,
					      modules_of_ours_work,
					      patterns_agree_with_the_originals,
					      chunks_may_be_rewritten_as_they_pass,
					      a_small_body_is_awaited_for_its_true_length,
					      a_body_that_is_whole_keeps_a_true_length,
					      bodies_wait_and_are_replaced,
					      two_filters_share_one_exchange,
					      calls_work_in_coroutines_and_loops,
					      an_asynchronous_call_outlives_its_exchange,
					      failures_look_like_answers,
					      kept_objects_are_dead_in_the_next_run,
					      a_shared_vm_is_one_and_others_are_not,
					      a_script_that_does_not_load_is_refused,
					      errors_may_fail_the_request,
					      runaways_are_stopped,
					      computing_time_is_counted,
					      memory_bombs_end_their_own_request_only,
					      fields_without_end_are_answered,
					      a_full_vm_starts_afresh,
					      every_allocation_may_fail};
	article = fake_article();
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		if (argc < 2 || (size_t)atoi(argv[1]) == i)
			tests[i]();
	return 0;
}
