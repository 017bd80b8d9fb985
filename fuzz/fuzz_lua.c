/* fuzz/fuzz_lua.c
 *
 * The Lua filter's whole API by generated scripts: the input chooses statements, objects, methods and arguments, valid and not,
 * objects kept from earlier runs included, budgets of time and memory, and what client, origin and called origins do meanwhile.
 * Nothing may crash, leak, or leave an exchange without an end. Every method of lua-filter.md is in the tables below, with arguments
 * that are mostly good; tests/tools/test_lua_fuzz.py holds the tables against the methods that there are.
 */
#include "filters/lua/lua_fake.h"

static const uint8_t *in, *in_end;

static unsigned pick(unsigned n)
{
	return in < in_end ? *in++ % n : 0;
}

/* --- a script from bytes --- */

static char script[16384];
static size_t at;

static void put(const char *text)
{
	size_t n = strlen(text);
	if (at + n < sizeof script - 512) { /* room for what closes the open blocks */
		memcpy(script + at, text, n);
		at += n;
	}
}

static void close_with(const char *text)
{
	size_t n = strlen(text);
	if (at + n < sizeof script) {
		memcpy(script + at, text, n);
		at += n;
	}
}

#define PICK(list) list[pick(sizeof list / sizeof *list)]

static void expression(unsigned depth);

/* Too long for one line each: macros, for two strings side by side in a list look like a missing comma. */
#define ODD                                                                                \
	"setmetatable({}, {__index = function() error('in') end, __tostring = function() " \
	"h:body() end})"
#define LONG_OPTIONS "{return_duplicate_headers = true, send_xff = false, trace_sampled = true}"
#define POST_CALL                                                                                  \
	"{[':method'] = 'POST', [':path'] = '/p', [':authority'] = 'b', n = 1, te = 'x', upgrade " \
	"= 'x'}"
#define HEAD_CALL                                                                                  \
	"{[':method'] = 'HEAD', [':path'] = '/', [':authority'] = 'a', ['content-length'] = '9', " \
	"l = {}}"
#define LONG_ANSWER \
	"{[':status'] = '599', ['content-length'] = '7', ['transfer-encoding'] = 'chunked'}"
#define CAUGHT_LOOP "pcall(function() while true do pcall(error, 'x') end end)\n"
#define ITERATED_LOOP "for c in coroutine.wrap(function() while true do end end) do end\n"
#define KEPT_STRINGS \
	"kept[4] = kept[4] or {} for i = 1, 1e5 do kept[4][#kept[4] + 1] = 'k' .. i end\n"
#define UNWINDING                                                                         \
	"local f function f(n) if n == 0 then pcall(coroutine.wrap(f), 1000) while true " \
	"do end else local _ = ('x'):gsub('.', function() f(n - 1) end) end end f(20)\n"

#define REVERSED                                                                                \
	"local t = {} for i = 1, 200 do t[i] = (i * 71) % 199 end table.sort(t) table.sort(t, " \
	"function(a, b) return a > b end)\n"
#define NUMBERED                                                                               \
	"for i = 1, 3 do h:headers():add('x-' .. i, i) end for k, v in pairs(h:headers()) do " \
	"kept[k] = v end\n"
#define ALL_BODY \
	"local b = h:body(true) if b then b:setBytes(b:getBytes(0, b:length()):upper()) end\n"
#define ALL_CHUNKS \
	"for c_ in h:bodyChunks() do c_:setBytes('<' .. c_:getBytes(0, c_:length()) .. '>') end\n"
#define SIGNED                                                                                    \
	"local k = h:importPublicKey(KEY, #KEY) h:verifySignature('sha256', k:get(), SIG, #SIG, " \
	"'data', 4)\n"
#define DECODED                                                   \
	"kept[1] = json.decode('{\"a\": [1, -2.5e3, true, null, " \
	"\"\\\\u00e9\\\\n\\\\ud83d\\\\ude00\"], \"b\": {}}') json.encode(kept[1])\n"
#define PATTERNS                                                                               \
	"local s = 'key = value, (a(b)c) THE (quick) fox' for k, v in "                        \
	"s:gmatch('(%w+)%s*=%s*(%w+)') do kept[k] = v end s:find('%b()') s:gsub('%f[%a]%a+', " \
	"'<%0%%>') s:match('[^%s]-()%1') s:gsub('(h)(e?)', {h = 'H'}) s:gsub('%l*$', "         \
	"string.upper) s:find('[a-c_%d]+-?', -5)\n"
#define STATISTICS                                                                          \
	"local s = h:stats() s:counter('c'):inc() s:gauge('g'):add(2) s:gauge('g'):sub(1) " \
	"s:histogram('t', 'ms'):recordValue(5)\n"
#define CERTIFICATE                                                                             \
	"local s = h:connection():ssl() if s then local p = s:parsedSubjectPeerCertificate() "  \
	"p:commonName() p:organizationName() s:validFromPeerCertificate() "                     \
	"s:expirationPeerCertificate() s:subjectLocalCertificate() s:dnsSansPeerCertificate() " \
	"s:oidsLocalCertificate() end\n"
#define ITERATED                                                                                   \
	"for k, v in pairs(setmetatable({}, {__pairs = function() return next, {a = 1}, nil "      \
	"end})) do end for i in ipairs(setmetatable({}, {__ipairs = function() return next, {1}, " \
	"nil end})) do end\n"

/* Anything at all. */
static void anything(unsigned depth)
{
	static const char *const plain[] = {"nil",
					    "true",
					    "false",
					    "0",
					    "-1",
					    "1",
					    "2.7",
					    "1e300",
					    "0/0",
					    "-2147483649",
					    "''",
					    "'x'",
					    "'x-a'",
					    "':status'",
					    "':path'",
					    "':method'",
					    "'host'",
					    "'content-length'",
					    "'transfer-encoding'",
					    "'te'",
					    "'200'",
					    "'404'",
					    "'a\\r\\nb'",
					    "'a\\0b'",
					    "('x'):rep(3000)",
					    "{}",
					    "{1, 2, {3}}",
					    "{a = 1, b = {c = 'd'}}",
					    "{[':status'] = '200', x = {'1', '2'}}",
					    "{[':status'] = 99}",
					    "CALL",
					    "{timeout_ms = 50, asynchronous = true}",
					    "{timeout_ms = 50, return_duplicate_headers = true}",
					    "'outbound|443||example.com'",
					    "print",
					    "coroutine.create(print)",
					    "h",
					    "kept[1]",
					    "kept[2]",
					    "kept[3]",
					    "'envoy.string'",
					    "'sha256'",
					    "'YWJj'",
					    "LOOP",
					    "DEEP",
					    "WIDE",
					    "KEY",
					    "SIG",
					    ODD,
					    "function(...) return ... end",
					    "function() h:body() return 'x' end",
					    "('x'):rep(1e6)"};
	if (depth < 3 && pick(8) == 0)
		expression(depth + 1);
	else
		put(PICK(plain));
}

/* long: one list for each kind.
 *
 * One argument of a kind: s name, v value, n small number, N any number, b boolean, t a table for metadata, c the headers of a call, o its
 * options or timeout, r the headers of an answer, C a cluster, u a statistics unit, z time resolution, k key, S signature, H hash. */
static void argument(char kind, unsigned depth)
{
	static const char *const names[] = {
		"'x-a'",     "'X-A'",        "'cookie'",         "':path'",
		"':status'", "'host'",       "'content-length'", "'content-type'",
		"'none'",    "'set-cookie'", "':authority'",     "'x-forwarded-proto'"};
	static const char *const values[] = {"'v'",
					     "''",
					     "'/q?a=b'",
					     "'200'",
					     "5",
					     "1.5",
					     "'example.com'",
					     "('v'):rep(100)",
					     "'text/html'",
					     "'a, b'",
					     "h:headers():get('x-a')"};
	static const char *const numbers[] = {"0", "1", "2", "3", "6"};
	static const char *const any[] = {"0",  "1",     "-1",  "7.9", "1e9",  "2^53",
					  "-0", "1e300", "0/0", "'3'", "' 4 '"};
	static const char *const tables[] = {
		"{a = 1}", "{1, 2, 3}", "{}",   "{[3] = 'c'}", "{{}, {x = {y = 'z'}}}",
		"DEEP",    "WIDE",      "LOOP", "'text'",      "true",
		"1.5",     "nil"};
	static const char *const calls[] = {
		"CALL",
		"CALL",
		POST_CALL,
		HEAD_CALL,
		"{[':method'] = 'GET', [':path'] = '/', host = 'a', [':scheme'] = 'https'}",
		"{[':path'] = '/'}"};
	static const char *const options[] = {"50",
					      "0",
					      "5, true",
					      "5, false",
					      "{}",
					      "{timeout_ms = 5}",
					      "{timeout_ms = 0, asynchronous = true}",
					      LONG_OPTIONS,
					      "{nothing = 1}",
					      "-1"};
	static const char *const answers[] = {"{[':status'] = '200'}",
					      "{[':status'] = 204}",
					      "{[':status'] = '304', etag = 'x'}",
					      "{[':status'] = ' 403 ', ['x-l'] = {'1', 2}}",
					      "{[':status'] = '101'}",
					      "{[':status'] = 200, x = {{}}}",
					      LONG_ANSWER};
	static const char *const units[] = {
		"'ms'",    "'milliseconds'", "'microseconds'", "'nanoseconds'",
		"'bytes'", "'unspecified'",  "'hours'",        "nil"};
	static const char *const resolutions[] = {"EnvoyTimestampResolution.MILLISECOND",
						  "EnvoyTimestampResolution.MICROSECOND",
						  "''",
						  "nil",
						  "'0'",
						  "'1'",
						  "2"};
	static const char *const hashes[] = {"'sha256'", "'SHA1'",   "'sha224'",
					     "'sha384'", "'sha512'", "'md5'"};
	if (pick(6) == 0) {
		anything(depth);
		return;
	}
	switch (kind) {
	case 's': put(PICK(names)); break;
	case 'v': put(PICK(values)); break;
	case 'n': put(PICK(numbers)); break;
	case 'N': put(PICK(any)); break;
	case 'b': put(pick(2) ? "true" : "false"); break;
	case 't': put(PICK(tables)); break;
	case 'c': put(PICK(calls)); break;
	case 'o': put(PICK(options)); break;
	case 'r': put(PICK(answers)); break;
	case 'C': put(pick(8) ? "'outbound|443||example.com'" : "'none'"); break;
	case 'u': put(PICK(units)); break;
	case 'z': put(PICK(resolutions)); break;
	case 'k': put(pick(4) ? "KEY" : "'no key'"); break;
	case 'S': put(pick(4) ? "SIG" : "'no signature'"); break;
	case 'H': put(PICK(hashes)); break;
	default: anything(depth);
	}
}

/* Objects, and their methods with the kinds of their arguments. */
static const struct object {
	const char *expr;
	const char *const *methods; /* "name kinds", NULL at the end */
} objects[] = {
#define METHODS(...)                                                                           \
	(const char *const[])                                                                  \
	{                                                                                      \
		__VA_ARGS__, "logTrace v", "logDebug v", "logInfo v", "logWarn v", "logErr v", \
			"logCritical v", NULL                                                  \
	}
	{"h", METHODS("headers", "requestHeaders", "trailers", "body", "body b", "bodyChunks",
		      "httpCall Ccvo", "respond r", "respond rv", "metadata", "filterContext",
		      "virtualHost", "route", "streamInfo", "connection", "connectionStreamInfo",
		      "setUpstreamOverrideHost v", "setUpstreamOverrideHost vb", "clearRouteCache",
		      "importPublicKey kN", "verifySignature HkSNvN", "base64Escape v",
		      "base64Decode v", "timestamp z", "timestampString z", "stats")},
	{"h:headers()", METHODS("get s", "getAtIndex sn", "getNumValues s", "add sv", "replace sv",
				"remove s", "setHttp1ReasonPhrase v")},
	{"h:requestHeaders()", METHODS("get s", "getAtIndex sn", "getNumValues s", "add sv",
				       "replace sv", "remove s", "setHttp1ReasonPhrase v")},
	{"h:trailers()",
	 METHODS("get s", "getAtIndex sn", "getNumValues s", "add sv", "replace sv", "remove s")},
	{"h:body(true)", METHODS("length", "getBytes nn", "setBytes v")},
	{"h:body()", METHODS("length", "getBytes nn", "setBytes v")},
	{"c", METHODS("length", "getBytes nn", "setBytes v")},
	{"h:metadata()", METHODS("get s")},
	{"h:filterContext()", METHODS("get s")},
	{"h:route()", METHODS("metadata")},
	{"h:route():metadata()", METHODS("get s")},
	{"h:virtualHost()", METHODS("metadata")},
	{"h:virtualHost():metadata()", METHODS("get s")},
	{"h:streamInfo()",
	 METHODS("protocol", "routeName", "virtualClusterName", "downstreamLocalAddress",
		 "downstreamDirectLocalAddress", "downstreamDirectRemoteAddress",
		 "downstreamRemoteAddress", "requestedServerName", "downstreamSslConnection",
		 "dynamicMetadata", "dynamicTypedMetadata s", "filterState",
		 "drainConnectionUponCompletion")},
	{"h:streamInfo():dynamicMetadata()", METHODS("get s", "set sst", "set ssv")},
	{"h:streamInfo():filterState()", METHODS("get s", "get ss", "set sev")},
	{"h:connection()", METHODS("ssl")},
	{"h:connectionStreamInfo()", METHODS("dynamicMetadata", "dynamicTypedMetadata s")},
	{"h:connectionStreamInfo():dynamicMetadata()", METHODS("get s")},
	{"(h:connection():ssl() or h)",
	 METHODS("peerCertificatePresented", "peerCertificateValidated", "uriSanLocalCertificate",
		 "uriSanPeerCertificate", "dnsSansLocalCertificate", "dnsSansPeerCertificate",
		 "oidsPeerCertificate", "oidsLocalCertificate", "sha256PeerCertificateDigest",
		 "serialNumberPeerCertificate", "issuerPeerCertificate", "subjectPeerCertificate",
		 "subjectLocalCertificate", "urlEncodedPemEncodedPeerCertificate",
		 "urlEncodedPemEncodedPeerCertificateChain", "validFromPeerCertificate",
		 "expirationPeerCertificate", "sessionId", "ciphersuiteId", "ciphersuiteString",
		 "tlsVersion", "parsedSubjectPeerCertificate")},
	{"(h:streamInfo():downstreamSslConnection() or h):parsedSubjectPeerCertificate()",
	 METHODS("commonName", "organizationName")},
	{"h:stats()", METHODS("counter v", "gauge v", "histogram vu")},
	{"h:stats():counter('c')", METHODS("inc", "add N", "value")},
	{"h:stats():gauge('g')", METHODS("set N", "inc", "dec", "add N", "sub N", "value")},
	{"h:stats():histogram('t', 'ms')", METHODS("recordValue N")},
	{"h:importPublicKey(KEY, #KEY)", METHODS("get")},
	{"kept[1]", METHODS("get s", "set sst", "add sv", "length", "inc")},
	{"kept[2]",
	 METHODS("headers", "body", "httpCall Ccvo", "respond rv", "streamInfo", "setBytes v")},
	{"kept[3]", METHODS("value", "ssl", "metadata", "getBytes nn")},
	{"shared", METHODS("get v", "set vv", "set vvN", "add vv", "incr vN", "incr vNNN",
			   "delete v", "ttl v")},
};

static void call_method(unsigned depth)
{
	const struct object *o = &PICK(objects);
	unsigned n = 0;
	while (o->methods[n])
		n++;
	const char *m = o->methods[pick(n)], *kinds = strchr(m, ' ');
	char name[64];
	snprintf(name, sizeof name, "%.*s", (int)(kinds ? kinds - m : (int)strlen(m)), m);
	put(o->expr);
	put(pick(12) ? ":" : ".");
	put(name);
	put("(");
	if (pick(10) == 0) { /* as many as it likes */
		for (unsigned i = pick(6); i > 0; i--) {
			anything(depth);
			put(i > 1 ? ", " : "");
		}
	} else {
		for (const char *k = kinds ? kinds + 1 : ""; *k; k++) {
			argument(*k, depth);
			put(k[1] ? ", " : "");
		}
	}
	put(")");
}

static void call_function(unsigned depth)
{
	static const char *const functions[] = {"tostring",
						"pairs",
						"ipairs",
						"next",
						"type",
						"rawequal",
						"rawlen",
						"getfenv",
						"setfenv",
						"setmetatable",
						"getmetatable",
						"coroutine.resume",
						"coroutine.wrap",
						"coroutine.status",
						"coroutine.running",
						"coroutine.isyieldable",
						"string.find",
						"string.match",
						"string.gmatch",
						"string.gsub",
						"string.format",
						"string.rep",
						"table.sort",
						"table.insert",
						"table.concat",
						"table.pack",
						"table.unpack",
						"json.decode",
						"json.encode",
						"load",
						"loadstring",
						"xpcall",
						"pcall",
						"select",
						"require",
						"hmac.sha256",
						"sha.hex",
						"sha.raw",
						"b64.encode",
						"b64.decode",
						"cjson.encode",
						"cjson.decode",
						"tonumber",
						"os.date",
						"io.open",
						"error",
						"assert"};
	put(PICK(functions));
	put("(");
	for (unsigned n = pick(5); n > 0; n--) {
		anything(depth);
		put(n > 1 ? ", " : "");
	}
	put(")");
}

static void expression(unsigned depth)
{
	switch (pick(8)) {
	case 0: call_function(depth); break;
	case 1: /* what articles do */
		put("h:httpCall('outbound|443||example.com', CALL, 'b', 50)");
		break;
	default: call_method(depth);
	}
}

static void block(unsigned depth);

/* long: one case for each kind of statement. */
static void statement(unsigned depth)
{
	static const char *const runaways[] = {
		"while true do end\n",
		CAUGHT_LOOP,
		ITERATED_LOOP,
		"local t = {} while true do t[#t + 1] = {#t} end\n",
		"local s = 'x' while true do s = s .. s end\n",
		KEPT_STRINGS,
		"local _ = ('a'):rep(100):find(('.-'):rep(12) .. 'b')\n",
		"local function f() pcall(f) f() end f()\n",
		"local function f() local _ = ('x'):gsub('.', f) end f()\n",
		"table.sort(WIDE, function(a, b) while true do end end)\n",
		"coroutine.yield(1)\n",
		"json.encode(DEEP)\n",
		"load(function() return ' ' end)\n",
		UNWINDING};
	static const char *const usual[] = {
		"h:streamInfo():filterState():set('x-a', 'envoy.string', 'v') "
		"h:streamInfo():dynamicMetadata():set('x-a', 'x-a', {1, a = nil})\n",
		"h:respond({[':status'] = '200', ['content-type'] = 'text/x', ['x-l'] = {'1', 2}}, "
		"'answer')\n",
		"h:respond({[':status'] = 403}, 'n\\195\\169%')\n",
		"if n % 3 == 0 then h:respond({[':status'] = '204'}) end\n",
		REVERSED,
		NUMBERED,
		ALL_BODY,
		ALL_CHUNKS,
		SIGNED,
		DECODED,
		PATTERNS,
		STATISTICS,
		CERTIFICATE,
		ITERATED,
		"h:logInfo(h:streamInfo():routeName() .. h:base64Decode(h:base64Escape('x')))\n",
		"for k, v in pairs(h:filterContext()) do kept[1] = v end kept[2] = "
		"h:metadata():get('m')\n",
		"h:trailers()\n",
		"h:body()\n",
		"h:headers():replace(':path', '/' .. n) h:clearRouteCache()\n",
		"error({})\n"};
	static const char *const loops[] = {"h:headers()",
					    "h:requestHeaders()",
					    "h:streamInfo():dynamicMetadata()",
					    "h:metadata()",
					    "h:filterContext()",
					    "h:trailers() or {}",
					    "kept[1] or {}",
					    "h:connectionStreamInfo():dynamicMetadata()"};
	switch (depth < 4 ? pick(18) : pick(4)) {
	case 0: /* an error ends the hook */
		put("local _ = ");
		expression(0);
		put("\n");
		break;
	case 1:
		put(pick(2) ? "kept[1] = " : pick(2) ? "kept[2] = " : "kept[3] = ");
		put(PICK(objects).expr);
		put("\n");
		break;
	case 2:
	case 3:
	case 4:
	case 5:
		put("pcall(function() return ");
		expression(0);
		close_with(" end)\n");
		break;
	case 6:
		put("for k, v in pairs(");
		put(PICK(loops));
		put(") do\n");
		block(depth + 1);
		close_with(pick(2) ? "break end\n" : "end\n");
		break;
	case 7:
	case 8:
		put("for c_ in h:bodyChunks() do c = c_\n");
		block(depth + 1);
		close_with(pick(3) == 0 ? "break end\n" : "end\n");
		break;
	case 9:
		put("coroutine.wrap(function()\n");
		block(depth + 1);
		close_with("end)()\n");
		break;
	case 10:
		put("pcall(function()\n");
		block(depth + 1);
		close_with("end)\n");
		break;
	case 11:
		put("kept[3] = coroutine.create(function()\n");
		block(depth + 1);
		close_with("end) pcall(coroutine.resume, kept[3])\n");
		break;
	case 12:
		put("if n % 2 == 0 then\n");
		block(depth + 1);
		close_with("end\n");
		break;
	case 13:
	case 16:
	case 17:
		if (pick(6) == 0)
			put(PICK(runaways));
		else
			put(PICK(usual));
		break;
	case 14:
		put("('x'):gsub('.', function()\n");
		block(depth + 1);
		close_with("end)\n");
		break;
	default:
		put("local hd, b = h:httpCall('outbound|443||example.com', CALL, 'b', "
		    "{return_duplicate_headers = true}) kept[1] = hd\n");
	}
}

static void block(unsigned depth)
{
	for (unsigned n = 1 + pick(4); n > 0; n--)
		statement(depth);
}

static void make_script(void)
{
	at = 0;
	put("package.path = ''\n" /* no looking for files */
	    "local json, cjson, hmac, sha, b64 = require('json'), require('cjson.safe'), "
	    "require('hmac'), require('sha256'), require('base64')\n"
	    "local shared = require('postern.shared')('f')\n"
	    "local function unhex(s) return (s:gsub('%x%x', function(x) return "
	    "string.char(tonumber(x, 16)) end)) end\n"
	    "local KEY = "
	    "unhex('"
	    "3059301306072a8648ce3d020106082a8648ce3d03010703420004cdc72bda40b887f68fd99402fec96b85"
	    "0f54ba8ac4b6f156941f5c328e56884a81658ec50483c903f68c978cd7787dff8c16db5a01f80bd35be953"
	    "ad404d72d0')\n"
	    "local SIG = "
	    "unhex('"
	    "30440220593e37c7fa456134d41c49384536887176ecbae641e1ee96ca3e566dbfa070db02206bdcb55f86"
	    "ff155206b0ffd0fc76044d1b858c082543c854938a364c395f006a')\n"
	    "local CALL = {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a', ['x-l'] = "
	    "{'1', '2'}}\n"
	    "local LOOP = {} LOOP[1] = LOOP\nlocal DEEP = {} for i = 1, 120 do DEEP = {DEEP} end\n"
	    "local WIDE = {} for i = 1, 100 do WIDE[i] = i end\n"
	    "kept, n, c = {}, 0, nil\n"
	    "function envoy_on_request(h)\nn = n + 1\n");
	block(0);
	close_with("end\nfunction envoy_on_response(h)\nn = n + 1\n");
	block(0);
	close_with("end\n");
	script[at] = 0;
}

/* --- what the others do --- */

#define FIELDS(...)                            \
	(const char *const[][2]){__VA_ARGS__}, \
		sizeof((const char *const[][2]){__VA_ARGS__}) / sizeof(char *[2])

static struct str peer_text(struct exchange *ex, enum peer_text what, struct arena *a)
{
	return what == PEER_ALPN ? (struct str){NULL, 0} : STR("CN=a,O=b");
}

static unsigned peer_list(struct exchange *ex, enum peer_list what, struct arena *a,
			  struct str **out)
{
	static struct str two[] = {{"one", 3}, {"two", 3}};
	*out = two;
	return what % 3;
}

static int64_t peer_number(struct exchange *ex, enum peer_number what)
{
	return 1 + what;
}

static const struct exch_port tls_port = {.output = port_output,
					  .room = port_room,
					  .over = port_over,
					  .text = peer_text,
					  .list = peer_list,
					  .number = peer_number};

/* NULL: none, or no memory. */
static struct head *some_trailers(struct exchange *ex, bool response)
{
	struct head *t = pick(2) ? arena_zalloc(&ex->arena, sizeof *t) : NULL;
	if (!t || !head_init(t, &ex->arena, response, 4) || !head_add(t, STR("x-a"), STR("t")) ||
	    !head_add(t, STR("x-t"), STR("u")))
		return NULL;
	return t;
}

static void client_sends(struct exchange *ex, const char *text, bool end)
{
	struct chain c = {0};
	if (ex->req.in_ended)
		return;
	must(chain_copy(&c, text, strlen(text)));
	exch_request_data(ex, &c, end, end ? some_trailers(ex, false) : NULL);
}

static void origin_sends(struct exchange *ex, const char *text, bool end)
{
	struct chain c = {0};
	if (!ex->resp.begun || ex->resp.in_ended || ex->local_reply)
		return;
	must(chain_copy(&c, text, strlen(text)));
	exch_answer_data(ex, &c, end, end ? some_trailers(ex, true) : NULL);
}

/* One of the calls that are open, of whatever exchange. */
static struct fake_call *some_call(void)
{
	struct fake_call *f = fake_calls;
	for (unsigned n = pick(3); f && f->next && n > 0; n--)
		f = f->next;
	return f && !f->pub.ended && !f->pub.failed ? f : NULL;
}

/* {s: "t", n: 2.5, b: true, z: null, m: {l: [1, "x"]}} */
static struct doc *some_doc(void)
{
	struct arena *a = &world.arena;
	struct doc *d = fake_map(a), *m = fake_map(a), *l = fake_map(a), *n = fake_text(a, "2.5"),
		   *b = fake_map(a), *z = fake_map(a), *i = fake_text(a, "1");
	l->kind = DOC_LIST;
	n->kind = i->kind = DOC_NUMBER;
	n->number = 2.5;
	i->number = i->integer = i->is_int = 1;
	b->kind = DOC_BOOL;
	z->kind = DOC_NULL;
	doc_add(l, STR(""), i);
	doc_add(l, STR(""), fake_text(a, "x"));
	doc_add(m, STR("l"), l);
	doc_add(d, STR("s"), fake_text(a, "t"));
	doc_add(d, STR("n"), n);
	doc_add(d, STR("b"), b);
	doc_add(d, STR("z"), z);
	doc_add(d, STR("m"), m);
	return d;
}

static struct exchange *begin(void)
{
	static const char *const methods[] = {"POST", "GET", "HEAD", "PUT"};
	world.peer.tls = pick(2);
	world.peer.sni = pick(2) ? STR("a.example") : STR("");
	bool grpc = pick(5) == 4;
	struct exchange *ex =
		fake_begin(PICK(methods), "/p",
			   FIELDS({"x-a", "1"}, {"X-A", "2"}, {"cookie", "a=b"},
				  {"content-length", "6"}, {"x-forwarded-proto", "http"},
				  {"content-type", grpc ? "application/grpc" : "text/plain"}),
			   pick(3) == 0 ? 0
			   : pick(2)    ? 6
					: -1);
	if (ex && world.peer.tls)
		ex->port = &tls_port;
	if (ex && pick(2)) {
		static struct value child = {.kind = VALUE_NUMBER,
					     .key = {"field", 5},
					     .number = 5},
				    message = {.kind = VALUE_MAP};
		message.list.first = &child;
		message.list.n = 1;
		metadata_set_typed(&ex->metadata, &ex->arena, STR("x-a"), &message);
	}
	return ex;
}

/* long: one case for each thing that may happen next. */
static void play(void)
{
	static const char *const fields[][2] = {
		{"x", "1"}, {"x", "2"}, {"cache-control", "a"}, {"cache-control", "b"}};
	static const struct fake_answer answers[] = {
		{.status = 200, .fields = fields, .nfields = 4, .body = "call"},
		{.status = 404},
		{.failure = FAILED_TIMEOUT},
		{.failure = FAILED_CONNECT},
		{.failure = FAILED_TERMINATED}};
	struct exchange *exs[2] = {begin(), NULL};
	uint64_t numbers[2] = {exs[0] ? exs[0]->number : 0, 0};
	fake_call_refused = pick(16) == 15;
	for (unsigned i = 0; i < 24; i++) {
		unsigned k = pick(4) == 3;
		if (k && !exs[1] && (exs[1] = begin()))
			numbers[1] = exs[1]->number;
		struct exchange *ex = exs[k] && exch_find(&world.env, numbers[k]) ? exs[k] : NULL;
		if (!ex)
			exs[k] = NULL;
		switch (pick(10)) {
		case 0:
			if (ex)
				client_sends(ex, "abc", false);
			break;
		case 1:
		case 2:
			if (ex)
				client_sends(ex, "def", true);
			break;
		case 3:
		case 4:
			if (ex && !ex->resp.begun && ex->req.at == ex->nfilters &&
			    !ex->req.discard) /* it has come to the origin */
				fake_origin_head(ex, pick(2) ? 200 : 404,
						 FIELDS({"content-type", "text/html"},
							{"set-cookie", "a"}, {"set-cookie", "b"},
							{"content-length", "6"}),
						 pick(3) == 0 ? 0
						 : pick(2)    ? 6
							      : -1);
			break;
		case 5:
			if (ex)
				origin_sends(ex, "uvw", false);
			break;
		case 6:
			if (ex)
				origin_sends(ex, "xyz", true);
			break;
		case 7: {
			struct fake_call *f = some_call();
			if (f)
				fake_give(f, &answers[pick(5)]);
			break;
		}
		case 8:
			if (ex && pick(6) == 0)
				exch_client_gone(ex);
			else if (ex && pick(6) == 0 && ex->resp.begun && !ex->resp.in_ended)
				exch_answer_broken(ex, FAILED_TERMINATED);
			break;
		default: break;
		}
		fake_turns();
	}
	fake_call_refused = false;
	for (unsigned k = 0; k < 2; k++)
		if (exs[k] && exch_find(&world.env, numbers[k]))
			exch_client_gone(exs[k]);
	fake_turns();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 4096)
		return 0;
	in = data;
	in_end = data + size;
	make_script();
	log_set_level(LOG_OFF);
	if (!world_try((const char *const[FAKE_LUA_FILTERS]){script, pick(2) ? script : NULL})) {
		world_close();
		return 0;
	}
	struct options *o = &world.model->options;
	o->script_time_ms = 10;
	o->lua_worker_mib = 2 + pick(8);
	o->lua_stream_mib = 1 + pick(3);
	o->lua_on_error = pick(2) ? ON_ERROR_FAIL : o->lua_on_error;
	o->lua_respond_in_response = pick(2);
	o->max_calls = 1 + pick(8);
	if (pick(4)) {
		struct doc *metadata = fake_map(&world.arena), *part = some_doc();
		doc_add(metadata, STR("envoy.filters.http.lua"), part);
		world.route.metadata = world.vhost.metadata = metadata;
		((struct lua_filter *)world.filters[0].config)->context = part;
	}
	for (int i = 0; i < 3; i++)
		play();
	world_close();
	return 0;
}
