/* src/filters/lua/object.c: what all objects share: making, checking, iterating them. */
#include "base/must.h"
#include "filters/lua/lua_int.h"

/* As Envoy's error messages name them (the C++ types' encoded names), and as scripts' tests of
 * those messages do. */
#define HTTP_LUA(name) "N5Envoy10Extensions11HttpFilters3Lua" name "E"
#define COMMON_LUA(name) "N5Envoy10Extensions7Filters6Common3Lua" name "E"
static const char *const kind_names[OBJ_KINDS] = {
	[OBJ_HANDLE] = HTTP_LUA("19StreamHandleWrapper"),
	[OBJ_HEADERS] = HTTP_LUA("16HeaderMapWrapper"),
	[OBJ_BUFFER] = COMMON_LUA("13BufferWrapper"),
	[OBJ_STREAM_INFO] = HTTP_LUA("17StreamInfoWrapper"),
	[OBJ_DYNAMIC_METADATA] = HTTP_LUA("25DynamicMetadataMapWrapper"),
	[OBJ_CONNECTION] = COMMON_LUA("17ConnectionWrapper"),
	[OBJ_CONNECTION_STREAM_INFO] = HTTP_LUA("27ConnectionStreamInfoWrapper"),
	[OBJ_CONNECTION_METADATA] = HTTP_LUA("35ConnectionDynamicMetadataMapWrapper"),
	[OBJ_METADATA] = COMMON_LUA("18MetadataMapWrapper"),
	[OBJ_VIRTUAL_HOST] = HTTP_LUA("18VirtualHostWrapper"),
	[OBJ_ROUTE] = HTTP_LUA("12RouteWrapper"),
	[OBJ_STATS] = HTTP_LUA("17StatsScopeWrapper"),
	[OBJ_COUNTER] = HTTP_LUA("14CounterWrapper"),
	[OBJ_GAUGE] = HTTP_LUA("12GaugeWrapper"),
	[OBJ_HISTOGRAM] = HTTP_LUA("16HistogramWrapper"),
	[OBJ_FILTER_STATE] = HTTP_LUA("18FilterStateWrapper"),
	[OBJ_SSL] = COMMON_LUA("20SslConnectionWrapper"),
	[OBJ_PARSED_NAME] = COMMON_LUA("21ParsedX509NameWrapper"),
	[OBJ_KEY] = HTTP_LUA("16PublicKeyWrapper"),
};

struct obj *obj_new(lua_State *L, enum obj_kind kind)
{
	struct obj *o = lua_newuserdata(L, sizeof *o);
	*o = (struct obj){.mark = OBJ_MARK + kind, .serial = run_now->serial};
	lua_rawgeti(L, UP_TABLE, TABLE_META + (int)kind);
	lua_setmetatable(L, -2);
	return o;
}

void obj_keep(lua_State *L, enum obj_place place)
{
	((struct obj *)lua_touserdata(L, -1))->kept = true;
	lua_pushvalue(L, -1);
	lua_rawseti(L, UP_CACHE, (int)(run_now->slot * PLACES + place + 1));
	run_now->have |= 1u << place;
}

void obj_push(lua_State *L, enum obj_kind kind, enum obj_place place, unsigned which)
{
	if (obj_cached(L, place))
		return;
	struct obj *o = obj_new(L, kind);
	o->which = (uint8_t)which;
	obj_keep(L, place);
}

struct obj *obj_arg_slow(lua_State *L, enum obj_kind kind)
{
	struct obj *o = lua_touserdata(L, 1);
	if (!o || lua_objlen(L, 1) != sizeof *o || o->mark != OBJ_MARK + kind)
		obj_bad(L, kind);
	if (o->serial != run_now->serial)
		obj_stale(L);
	if (o->kept)
		run_now->last = o;
	return o;
}

_Noreturn void obj_bad(lua_State *L, enum obj_kind kind)
{
	luaL_typerror(L, 1, kind_names[kind]);
	must_fail("luaL_typerror returns", __FILE__, __LINE__);
}

_Noreturn void obj_stale(lua_State *L)
{
	luaL_error(L, "object used outside of proper scope");
	must_fail("luaL_error returns", __FILE__, __LINE__);
}

_Noreturn void obj_no_memory(lua_State *L)
{
	luaL_error(L, "not enough memory");
	must_fail("luaL_error returns", __FILE__, __LINE__);
}

struct str obj_str(lua_State *L, int at)
{
	struct str s;
	s.p = luaL_checklstring(L, at, &s.n);
	return s;
}

struct str obj_copy_to(lua_State *L, struct arena *a, struct str s)
{
	struct str c = arena_str(a, s);
	if (!c.p)
		obj_no_memory(L);
	return c;
}

struct str obj_copy(lua_State *L, struct str s)
{
	return obj_copy_to(L, &run_now->ex->arena, s);
}

struct str obj_decimal(struct arena *a, uint64_t n)
{
	char text[24], *p = text + sizeof text;
	do
		*--p = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	return arena_str(a, (struct str){p, (size_t)(text + sizeof text - p)});
}

int64_t obj_integer(lua_State *L, int at, int64_t min, int64_t max)
{
	double d = luaL_checknumber(L, at);
	if (!(d > (double)min)) /* NaN too */
		return min;
	return d >= (double)max ? max : (int64_t)d;
}

/* Stack on entry: 1 the number table, 2 the cache table. */
void obj_methods(lua_State *L, enum obj_kind kind, const luaL_Reg *methods)
{
	lua_createtable(L, 0, 4); /* the metatable */
	lua_createtable(L, 0, 24);
	for (const luaL_Reg *m = methods; m->name; m++) {
		lua_pushvalue(L, 1);
		lua_pushvalue(L, 2);
		lua_pushcclosure(L, m->func, 2);
		lua_setfield(L, -2, m->name);
	}
	/* one function for all kinds */
	for (const luaL_Reg *m = handle_log_methods; m->name; m++) {
		lua_pushvalue(L, 1);
		lua_pushvalue(L, 2);
		lua_pushinteger(L, (lua_Integer)kind);
		lua_pushcclosure(L, m->func, 3);
		lua_setfield(L, -2, m->name);
	}
	lua_setfield(L, -2, "__index");
	lua_pushboolean(L, 0); /* scripts neither see nor change it */
	lua_setfield(L, -2, "__metatable");
	lua_rawseti(L, 1, TABLE_META + (int)kind);
}

bool obj_loop_runs(lua_State *L, const struct obj *o)
{
	lua_Debug ar;
	for (int level = 1; level < 250 && lua_getstack(L, level, &ar); level++) {
		const char *name;
		for (int i = 1; i < 250 && (name = lua_getlocal(L, &ar, i)); i++) {
			bool it = strcmp(name, "(for state)") == 0 &&
				  lua_touserdata(L, -1) == (const void *)o;
			lua_pop(L, 1);
			if (it)
				return true;
		}
	}
	return false;
}

static int plain_pairs(lua_State *L)
{
	lua_rawgeti(L, UP_TABLE, TABLE_NEXT);
	lua_pushvalue(L, 1);
	lua_pushnil(L);
	return 3;
}

/* The global pairs(). */
int obj_pairs(lua_State *L)
{
	if (lua_type(L, 1) == LUA_TTABLE && !lua_getmetatable(L, 1))
		return plain_pairs(L);
	struct obj *o = lua_touserdata(L, 1);
	if (o && lua_objlen(L, 1) == sizeof *o && o->mark - OBJ_MARK < OBJ_KINDS) {
		if (o->serial != run_now->serial)
			obj_stale(L);
		switch (o->mark - OBJ_MARK) {
		case OBJ_HEADERS: return headers_pairs(L, o);
		case OBJ_METADATA:
		case OBJ_DYNAMIC_METADATA:
		case OBJ_CONNECTION_METADATA: return metadata_pairs(L, o);
		}
	}
	if (luaL_getmetafield(L, 1, "__pairs")) { /* Envoy's LuaJIT speaks this much of Lua 5.2 */
		guard_stack(L);
		lua_pushvalue(L, 1);
		lua_call(L, 1, 3);
		return 3;
	}
	luaL_checktype(L, 1, LUA_TTABLE);
	return plain_pairs(L);
}
