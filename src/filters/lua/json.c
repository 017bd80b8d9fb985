/* src/filters/lua/json.c: the module "json" ("cjson"): encode, decode, null. RFC 8259; numbers as
 * %.14g, as lua-cjson. */
#include "base/must.h"
#include "filters/lua/lua_int.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEEPEST = 100, LOOK_EVERY = 1024 };

static char null_mark; /* its address is json.null */

void json_push_null(lua_State *L)
{
	lua_pushlightuserdata(L, &null_mark);
}

/* --- encode --- */

struct out {
	lua_State *L;
	int at; /* stack place of the userdata that holds p: an error leaves it to the collector */
	char *p;
	size_t n, cap;
	unsigned steps;
};

static void room(struct out *o, size_t more)
{
	if (o->cap - o->n >= more)
		return;
	size_t cap = o->cap * 2 > o->n + more ? o->cap * 2 : o->n + more + 256;
	char *p = lua_newuserdata(o->L, cap);
	if (o->n)
		memcpy(p, o->p, o->n);
	lua_replace(o->L, o->at);
	o->p = p;
	o->cap = cap;
}

static void put(struct out *o, const char *p, size_t n)
{
	if (n == 0)
		return;
	room(o, n);
	memcpy(o->p + o->n, p, n);
	o->n += n;
}

static void put_string(struct out *o, struct str s)
{
	static const char hex[] = "0123456789abcdef";
	room(o, s.n * 6 + 2);
	must(o->p);
	char *q = o->p + o->n;
	*q++ = '"';
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		const char *two = c == '"'    ? "\\\""
				  : c == '\\' ? "\\\\"
				  : c == '/'  ? "\\/"
				  : c == '\n' ? "\\n"
				  : c == '\r' ? "\\r"
				  : c == '\t' ? "\\t"
					      : NULL;
		if (two) {
			*q++ = two[0];
			*q++ = two[1];
		} else if (c < 0x20 || c == 0x7f) {
			memcpy(q, "\\u00", 4);
			q[4] = hex[c >> 4];
			q[5] = hex[c & 15];
			q += 6;
		} else {
			*q++ = (char)c;
		}
	}
	*q++ = '"';
	o->n = (size_t)(q - o->p);
}

static void encode(struct out *o, int at, unsigned depth);

/* The length when the keys are exactly 1 … n, or a few of them; -1: an object. */
static int list_length(lua_State *L, int at)
{
	int n = 0, most = 0;
	lua_pushnil(L);
	while (lua_next(L, at)) {
		lua_pop(L, 1);
		double d = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
		if (d < 1 || d > 1e7 || d != floor(d)) {
			lua_pop(L, 1);
			return -1;
		}
		n++;
		most = d > most ? (int)d : most;
	}
	if (most > 10 && most > n * 2)
		luaL_error(L, "Cannot serialise table: excessively sparse array");
	return n ? most : -1;
}

static void encode_table(struct out *o, int at, unsigned depth)
{
	lua_State *L = o->L;
	bool first = true;
	if (depth >= DEEPEST)
		luaL_error(L, "Cannot serialise, excessive depth (%d)", DEEPEST + 1);
	luaL_checkstack(L, 8, "json");
	int n = list_length(L, at);
	put(o, n < 0 ? "{" : "[", 1);
	for (int i = 1; i <= n; i++) {
		if (i > 1)
			put(o, ",", 1);
		lua_rawgeti(L, at, i);
		encode(o, lua_gettop(L), depth + 1);
		lua_pop(L, 1);
	}
	lua_pushnil(L);
	while (n < 0 && lua_next(L, at)) {
		char number[32];
		struct str key;
		if (lua_type(L, -2) == LUA_TNUMBER) {
			key = (struct str){number, (size_t)snprintf(number, sizeof number, "%.14g",
								    lua_tonumber(L, -2))};
		} else if (lua_type(L, -2) == LUA_TSTRING) {
			key.p = lua_tolstring(L, -2, &key.n);
		} else {
			luaL_error(L, "Cannot serialise %s: table key must be a number or string",
				   luaL_typename(L, -2));
			return;
		}
		if (!first)
			put(o, ",", 1);
		first = false;
		put_string(o, key);
		put(o, ":", 1);
		encode(o, lua_gettop(L), depth + 1);
		lua_pop(L, 1);
	}
	if (n >= 0)
		lua_pop(L, 1); /* the nil that the loop did not use */
	put(o, n < 0 ? "}" : "]", 1);
}

static void encode(struct out *o, int at, unsigned depth)
{
	lua_State *L = o->L;
	struct str s;
	char number[32];
	if (++o->steps % LOOK_EVERY == 0)
		guard_check(L);
	switch (lua_type(L, at)) {
	case LUA_TNIL: put(o, "null", 4); return;
	case LUA_TBOOLEAN:
		s = lua_toboolean(L, at) ? STR("true") : STR("false");
		put(o, s.p, s.n);
		return;
	case LUA_TNUMBER: {
		double d = lua_tonumber(L, at);
		if (!isfinite(d))
			luaL_error(L, "Cannot serialise number: must not be NaN or Infinity");
		put(o, number, (size_t)snprintf(number, sizeof number, "%.14g", d));
		return;
	}
	case LUA_TSTRING:
		s.p = lua_tolstring(L, at, &s.n);
		put_string(o, s);
		return;
	case LUA_TTABLE: encode_table(o, at, depth); return;
	case LUA_TLIGHTUSERDATA:
		if (lua_touserdata(L, at) == &null_mark) {
			put(o, "null", 4);
			return;
		} /* fall through */
	default: luaL_error(L, "Cannot serialise %s: type not supported", luaL_typename(L, at));
	}
}

int json_encode(lua_State *L)
{
	luaL_checkany(L, 1);
	lua_settop(L, 1);
	lua_pushnil(L); /* 2: the text */
	struct out o = {.L = L, .at = 2};
	encode(&o, 1, 0);
	lua_pushlstring(L, o.p, o.n);
	return 1;
}

/* --- decode --- */

struct in {
	lua_State *L;
	const char *start, *p, *end;
	unsigned steps;
};

static _Noreturn void wrong(struct in *in, const char *what)
{
	luaL_error(in->L, "Expected %s at character %d", what, (int)(in->p - in->start) + 1);
	__builtin_unreachable();
}

static void blanks(struct in *in)
{
	while (in->p < in->end &&
	       (*in->p == ' ' || *in->p == '\t' || *in->p == '\n' || *in->p == '\r'))
		in->p++;
}

static unsigned hex4(struct in *in)
{
	unsigned v = 0;
	if (in->end - in->p < 4)
		wrong(in, "four hexadecimal digits");
	for (int i = 0; i < 4; i++) {
		char c = in->p[i];
		int d = c >= '0' && c <= '9'   ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
					       : -1;
		if (d < 0)
			wrong(in, "four hexadecimal digits");
		v = v << 4 | (unsigned)d;
	}
	in->p += 4;
	return v;
}

static char *utf8(char *q, unsigned c)
{
	if (c < 0x80) {
		*q++ = (char)c;
	} else if (c < 0x800) {
		*q++ = (char)(0xc0 | c >> 6);
		*q++ = (char)(0x80 | (c & 63));
	} else if (c < 0x10000) {
		*q++ = (char)(0xe0 | c >> 12);
		*q++ = (char)(0x80 | (c >> 6 & 63));
		*q++ = (char)(0x80 | (c & 63));
	} else {
		*q++ = (char)(0xf0 | c >> 18);
		*q++ = (char)(0x80 | (c >> 12 & 63));
		*q++ = (char)(0x80 | (c >> 6 & 63));
		*q++ = (char)(0x80 | (c & 63));
	}
	return q;
}

static char *escape(struct in *in, char *q)
{
	if (in->p == in->end)
		wrong(in, "an escape");
	char c = *in->p++;
	switch (c) {
	case '"':
	case '\\':
	case '/': *q++ = c; return q;
	case 'b': *q++ = '\b'; return q;
	case 'f': *q++ = '\f'; return q;
	case 'n': *q++ = '\n'; return q;
	case 'r': *q++ = '\r'; return q;
	case 't': *q++ = '\t'; return q;
	case 'u': break;
	default: in->p--; wrong(in, "an escape");
	}
	unsigned u = hex4(in);
	if (u >= 0xd800 && u < 0xdc00) {
		if (in->end - in->p < 6 || in->p[0] != '\\' || in->p[1] != 'u')
			wrong(in, "the second half of a surrogate pair");
		in->p += 2;
		unsigned low = hex4(in);
		if (low < 0xdc00 || low > 0xdfff)
			wrong(in, "the second half of a surrogate pair");
		u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
	} else if (u >= 0xdc00 && u < 0xe000) {
		wrong(in, "the first half of a surrogate pair");
	}
	return utf8(q, u);
}

/* Behind the opening quote. Pushes the string. */
static void string(struct in *in)
{
	const char *from = in->p;
	while (in->p < in->end && *in->p != '"' && *in->p != '\\' && (unsigned char)*in->p >= 0x20)
		in->p++;
	if (in->p < in->end && *in->p == '"') { /* most have no escape */
		lua_pushlstring(in->L, from, (size_t)(in->p++ - from));
		return;
	}
	const char *close = in->p; /* no escape makes a string longer */
	while (close < in->end && *close != '"')
		close += *close == '\\' && close + 1 < in->end ? 2 : 1;
	char *box = lua_newuserdata(in->L, (size_t)(close - from) + 1), *q = box;
	memcpy(q, from, (size_t)(in->p - from));
	q += in->p - from;
	for (;;) {
		if (in->p >= in->end || (unsigned char)*in->p < 0x20)
			wrong(in, "the end of a string");
		char c = *in->p++;
		if (c == '"')
			break;
		if (c == '\\')
			q = escape(in, q);
		else
			*q++ = c;
	}
	lua_pushlstring(in->L, box, (size_t)(q - box));
	lua_remove(in->L, -2);
}

static bool digit(const struct in *in)
{
	return in->p < in->end && *in->p >= '0' && *in->p <= '9';
}

static void number(struct in *in)
{
	const char *from = in->p;
	char text[64];
	if (*in->p == '-')
		in->p++;
	if (!digit(in))
		wrong(in, "a value");
	if (*in->p == '0')
		in->p++;
	else
		while (digit(in))
			in->p++;
	if (in->p < in->end && *in->p == '.') {
		in->p++;
		if (!digit(in))
			wrong(in, "a digit");
		while (digit(in))
			in->p++;
	}
	if (in->p < in->end && (*in->p | 0x20) == 'e') {
		in->p++;
		if (in->p < in->end && (*in->p == '+' || *in->p == '-'))
			in->p++;
		if (!digit(in))
			wrong(in, "a digit");
		while (digit(in))
			in->p++;
	}
	size_t n = (size_t)(in->p - from);
	if (n >= sizeof text) {
		in->p = from;
		wrong(in, "a shorter number");
	}
	memcpy(text, from, n);
	text[n] = 0;
	lua_pushnumber(in->L, strtod(text, NULL));
}

static bool literal(struct in *in, struct str word)
{
	if ((size_t)(in->end - in->p) < word.n || memcmp(in->p, word.p, word.n) != 0)
		return false;
	in->p += word.n;
	return true;
}

static void decode(struct in *in, unsigned depth);

/* True: another one follows; false: the closing mark came. */
static bool more(struct in *in, char close)
{
	blanks(in);
	if (in->p < in->end && *in->p == close) {
		in->p++;
		return false;
	}
	if (in->p == in->end || *in->p != ',')
		wrong(in, close == ']' ? "comma or array end" : "comma or object end");
	in->p++;
	return true;
}

static void list(struct in *in, unsigned depth)
{
	lua_newtable(in->L);
	blanks(in);
	if (in->p < in->end && *in->p == ']') {
		in->p++;
		return;
	}
	int i = 1;
	do {
		decode(in, depth + 1);
		lua_rawseti(in->L, -2, i++);
	} while (more(in, ']'));
}

static void map(struct in *in, unsigned depth)
{
	lua_newtable(in->L);
	blanks(in);
	if (in->p < in->end && *in->p == '}') {
		in->p++;
		return;
	}
	do {
		blanks(in);
		if (in->p == in->end || *in->p != '"')
			wrong(in, "object key string");
		in->p++;
		string(in);
		blanks(in);
		if (in->p == in->end || *in->p != ':')
			wrong(in, "colon");
		in->p++;
		decode(in, depth + 1);
		lua_rawset(in->L, -3);
	} while (more(in, '}'));
}

static void decode(struct in *in, unsigned depth)
{
	if (depth > DEEPEST)
		luaL_error(in->L, "Found too many nested data structures (%d)", (int)depth);
	if (++in->steps % LOOK_EVERY == 0)
		guard_check(in->L);
	luaL_checkstack(in->L, 6, "json");
	blanks(in);
	if (in->p == in->end)
		wrong(in, "a value");
	switch (*in->p) {
	case '{':
		in->p++;
		map(in, depth);
		return;
	case '[':
		in->p++;
		list(in, depth);
		return;
	case '"':
		in->p++;
		string(in);
		return;
	}
	if (literal(in, STR("true")))
		lua_pushboolean(in->L, 1);
	else if (literal(in, STR("false")))
		lua_pushboolean(in->L, 0);
	else if (literal(in, STR("null")))
		json_push_null(in->L);
	else
		number(in);
}

int json_decode(lua_State *L)
{
	struct str s = obj_str(L, 1);
	struct in in = {.L = L, .start = s.p, .p = s.p, .end = s.p + s.n};
	decode(&in, 0);
	blanks(&in);
	if (in.p != in.end)
		wrong(&in, "the end");
	return 1;
}
