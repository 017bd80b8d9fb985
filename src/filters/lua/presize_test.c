/* src/filters/lua/presize_test.c: hints change the room of tables, and nothing else. */
#include "base/must.h"
#include "filters/lua/lua_int.h"
#include <stdio.h>
#include <stdlib.h>

static const struct {
	const char *text;
	unsigned hints;
} cases[] = {
	/* what a loop fills gets room */
	{"local t = {} for i = 1, 9 do t['k' .. i] = i end return t.k3", 1},
	{"local t = {} for _, k in ipairs({'a', 'b'}) do t[k] = k end return t.b", 1},
	{"local t, i = {}, 0 while i < 5 do i = i + 1 t[i] = i end return #t", 1},
	{"local t, i = {}, 0 repeat i = i + 1 t[i] = i until i == 5 return #t", 1},
	{"local t = {} for i = 1, 3 do table.insert(t, i) end return table.concat(t, ',')", 1},
	{"local t = {} for i = 1, 3 do for j = 1, 2 do t[i * j] = j end end return #t", 1},
	{"local function f() local t = {} for i = 1, 3 do t[i] = i end return #t end return f()",
	 1},
	{"local a, b = {}, {} for i = 1, 3 do a[i] = i b[a[i]] = i end return #a + #b", 2},
	/* what it does not is left alone */
	{"local t = {} t.a = 1 return t.a", 0},
	{"local n = 0 for i = 1, 3 do local t = {} t[i] = i n = n + #t end return n", 0},
	{"local t = {1, 2} for i = 1, 3 do t[i] = i end return #t", 0},
	{"local t = {} for i = 1, 3 do t.x = i end return t.x", 0},
	{"return 1", 0},
	/* upvalues, varargs, closures, errors with their lines */
	{"local t = {} local function put(k) t[k] = k end for i = 1, 3 do put(i) end return #t", 0},
	{"local function f(...) local t = {} for i = 1, select('#', ...) do t[i] = (select(i, "
	 "...)) "
	 "end return table.concat(t) end return f('a', 'b', 'c')",
	 1},
	{"local t = {}\nfor i = 1, 3 do\nt[i] = i\nend\nlocal ok, e = pcall(function()\nerror('x') "
	 "end) return e",
	 1},
	{"local t = {} for i = 1, 2 do t[i] = function() return i end end return t[1]() + t[2]()",
	 1},
	{"local t = {} for i = 1, 40 do t[i] = 2 ^ i + 0.5 end return t[40]", 1},
};

static const char *result(lua_State *L)
{
	must(lua_pcall(L, 0, 1, 0) == 0);
	const char *s = lua_tostring(L, -1);
	must(s);
	return s;
}

static void same(lua_State *L, const struct presize *ps, const char *text, unsigned hints)
{
	must(luaL_loadbuffer(L, text, strlen(text), "=t") == 0);
	lua_pushvalue(L, -1);
	unsigned n = presize_function(L, ps, "=t");
	if (n != hints)
		fprintf(stderr, "%u hints, not %u: %s\n", n, hints, text);
	must(n == hints);
	const char *with = result(L);
	lua_insert(L, 1);
	const char *without = result(L);
	must(strcmp(with, without) == 0);
	lua_settop(L, 0);
}

/* The room is really there: no more growing. */
static size_t taken;
static void *counted(void *unused, void *p, size_t old, size_t n)
{
	if (n == 0) {
		free(p);
		return NULL;
	}
	taken += n > old;
	return realloc(p, n);
}

static size_t growths(bool hints)
{
	static const char text[] = "return function() local t = {} for i = 1, 20 do t[i + 0.5] = i "
				   "end end";
	struct presize ps;
	lua_State *L = lua_newstate(counted, NULL);
	must(L && presize_learn(L, &ps));
	must(luaL_loadbuffer(L, text, strlen(text), "=t") == 0);
	if (hints)
		must(presize_function(L, &ps, "=t") == 1);
	must(lua_pcall(L, 0, 1, 0) == 0);
	lua_gc(L, LUA_GCCOLLECT, 0);
	lua_gc(L, LUA_GCSTOP, 0);
	taken = 0;
	must(lua_pcall(L, 0, 0, 0) == 0);
	size_t n = taken;
	lua_close(L);
	return n;
}

int main(void)
{
	struct presize ps;
	lua_State *L = luaL_newstate();
	must(L);
	luaL_openlibs(L);
	must(presize_learn(L, &ps));
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		same(L, &ps, cases[i].text, cases[i].hints);
	ps.known = false; /* an unknown LuaJIT */
	same(L, &ps, cases[0].text, 0);
	lua_close(L);
	must(growths(true) == 2 && growths(false) > 4);
	return 0;
}
