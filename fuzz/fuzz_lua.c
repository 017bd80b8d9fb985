/* fuzz/fuzz_lua.c
 *
 * The Lua filter's whole API by generated scripts: the input chooses statements, objects, methods
 * and arguments, valid and not, objects kept from
 * earlier runs included, and what client, origin and called origins do meanwhile. Nothing may
 * crash, leak, or leave an exchange without an end.
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

static void argument(unsigned depth)
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
					    "''",
					    "'x'",
					    "'x-a'",
					    "':status'",
					    "':path'",
					    "':method'",
					    "'host'",
					    "'content-length'",
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
					    "'envoy.string'",
					    "'sha256'",
					    "'YWJj'",
					    "LOOP",
					    "DEEP"};
	if (depth < 3 && pick(8) == 0)
		expression(depth + 1);
	else
		put(PICK(plain));
}

/* long: one case for each kind of expression. */
static void expression(unsigned depth)
{
	static const char *const objects[] = {"h",
					      "h:headers()",
					      "h:requestHeaders()",
					      "h:streamInfo()",
					      "h:streamInfo():dynamicMetadata()",
					      "h:streamInfo():filterState()",
					      "h:body(true)",
					      "h:body()",
					      "h:trailers()",
					      "h:metadata()",
					      "h:filterContext()",
					      "h:route():metadata()",
					      "h:virtualHost()",
					      "h:connection()",
					      "h:connectionStreamInfo():dynamicMetadata()",
					      "h:stats()",
					      "h:stats():counter('c')",
					      "h:stats():gauge('g')",
					      "h:stats():histogram('h')",
					      "h:importPublicKey('k', 1)",
					      "c",
					      "kept[1]",
					      "kept[2]",
					      "kept[3]",
					      "getmetatable(h)",
					      "json"};
	static const char *const methods[] = {"headers",
					      "requestHeaders",
					      "trailers",
					      "body",
					      "bodyChunks",
					      "httpCall",
					      "respond",
					      "metadata",
					      "filterContext",
					      "virtualHost",
					      "route",
					      "streamInfo",
					      "connection",
					      "connectionStreamInfo",
					      "setUpstreamOverrideHost",
					      "clearRouteCache",
					      "importPublicKey",
					      "verifySignature",
					      "base64Escape",
					      "base64Decode",
					      "timestamp",
					      "timestampString",
					      "stats",
					      "logInfo",
					      "logTrace",
					      "get",
					      "getAtIndex",
					      "getNumValues",
					      "add",
					      "replace",
					      "remove",
					      "setHttp1ReasonPhrase",
					      "length",
					      "getBytes",
					      "setBytes",
					      "set",
					      "protocol",
					      "routeName",
					      "virtualClusterName",
					      "downstreamRemoteAddress",
					      "requestedServerName",
					      "downstreamSslConnection",
					      "dynamicMetadata",
					      "dynamicTypedMetadata",
					      "filterState",
					      "drainConnectionUponCompletion",
					      "ssl",
					      "counter",
					      "gauge",
					      "histogram",
					      "inc",
					      "dec",
					      "sub",
					      "value",
					      "recordValue",
					      "encode",
					      "decode"};
	static const char *const functions[] = {"tostring",    "pairs",        "ipairs",
						"next",        "type",         "rawequal",
						"getfenv",     "setmetatable", "coroutine.resume",
						"string.find", "string.gsub",  "table.sort",
						"json.decode", "json.encode"};
	unsigned kind = pick(8);
	if (kind == 0) {
		put(PICK(functions));
	} else if (kind == 1) { /* what articles do */
		put("h:httpCall('outbound|443||example.com', CALL, 'b', 50)");
		return;
	} else {
		put(PICK(objects));
		put(":");
		put(PICK(methods));
	}
	put("(");
	for (unsigned n = pick(5); n > 0; n--) {
		argument(depth);
		put(n > 1 ? ", " : "");
	}
	put(")");
}

static void block(unsigned depth);

static void statement(unsigned depth)
{
	switch (depth < 4 ? pick(12) : pick(4)) {
	case 0: /* an error ends the hook */
		put("local _ = ");
		expression(0);
		put("\n");
		break;
	case 1:
		put(pick(2) ? "kept[1] = " : "kept[2] = ");
		expression(0);
		put("\n");
		break;
	case 2:
	case 3:
	case 4:
		put("pcall(function() return ");
		expression(0);
		close_with(" end)\n");
		break;
	case 5:
		put("for k, v in pairs(h:headers()) do\n");
		block(depth + 1);
		close_with(pick(2) ? "break end\n" : "end\n");
		break;
	case 6:
		put("for c in h:bodyChunks() do\n");
		block(depth + 1);
		close_with(pick(3) == 0 ? "break end\n" : "end\n");
		break;
	case 7:
		put("coroutine.wrap(function()\n");
		block(depth + 1);
		close_with("end)()\n");
		break;
	case 8:
		put("pcall(function()\n");
		block(depth + 1);
		close_with("end)\n");
		break;
	case 9:
		put("kept[3] = coroutine.create(function()\n");
		block(depth + 1);
		close_with("end) pcall(coroutine.resume, kept[3])\n");
		break;
	case 10:
		put("if n % 2 == 0 then\n");
		block(depth + 1);
		close_with("end\n");
		break;
	default:
		put("for k, v in pairs(h:streamInfo():dynamicMetadata()) do\n");
		block(depth + 1);
		close_with("end\n");
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
	put("local json = require('json')\n"
	    "local CALL = {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a', ['x-l'] = "
	    "{'1', '2'}}\n"
	    "local LOOP = {} LOOP[1] = LOOP\nlocal DEEP = {} for i = 1, 300 do DEEP = {DEEP} end\n"
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

static void play(void)
{
	static const char *const fields[][2] = {{"x", "1"}, {"x", "2"}};
	static const struct fake_answer answers[] = {
		{.status = 200, .fields = fields, .nfields = 2, .body = "call"},
		{.status = 404},
		{.failure = FAILED_TIMEOUT},
		{.failure = FAILED_CONNECT}};
	struct exchange *ex =
		fake_begin(pick(4) == 0 ? "HEAD" : "POST", "/p",
			   FIELDS({"x-a", "1"}, {"X-A", "2"}, {"cookie", "a=b"},
				  {"content-length", "6"}, {"x-forwarded-proto", "http"}),
			   pick(3) == 0 ? 0
			   : pick(2)    ? 6
					: -1);
	if (!ex)
		return;
	uint64_t number = ex->number;
	for (unsigned i = 0; i < 16 && exch_find(&world.env, number); i++) {
		switch (pick(8)) {
		case 0:
			if (!ex->req.in_ended)
				fake_client_sends(ex, "abc", false);
			break;
		case 1:
			if (!ex->req.in_ended)
				fake_client_sends(ex, "def", true);
			break;
		case 2:
			if (!ex->resp.begun && *fake_origin && !ex->req.discard)
				fake_origin_head(ex, pick(2) ? 200 : 404,
						 FIELDS({"content-type", "text/html"},
							{"set-cookie", "a"}, {"set-cookie", "b"},
							{"content-length", "6"}),
						 pick(3) == 0 ? 0
						 : pick(2)    ? 6
							      : -1);
			break;
		case 3:
			if (ex->resp.begun && !ex->resp.in_ended && !ex->local_reply)
				fake_origin_sends(ex, "uvw", false);
			break;
		case 4:
			if (ex->resp.begun && !ex->resp.in_ended && !ex->local_reply)
				fake_origin_sends(ex, "xyz", true);
			break;
		case 5:
			if (fake_calls && !fake_calls->pub.ended && !fake_calls->pub.failed)
				fake_give(fake_calls, &answers[pick(4)]);
			break;
		case 6:
			if (pick(6) == 0)
				exch_client_gone(ex);
			break;
		default: break;
		}
		fake_turns();
	}
	if (exch_find(&world.env, number))
		exch_client_gone(ex);
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
	for (int i = 0; i < 3; i++)
		play();
	world_close();
	return 0;
}
