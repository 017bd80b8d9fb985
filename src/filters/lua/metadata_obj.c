/* src/filters/lua/metadata_obj.c: metadata(), filterContext(), virtualHost(), route() and
 * dynamicMetadata() (lua-filter.md 4.4, 4.5). Static metadata are documents of the model; dynamic
 * metadata are values in the exchange's arena. */
#include "filters/lua/lua_int.h"
#include <stdio.h>

enum {
	DEEPEST = 100, /* tables in tables */
	LIST_MOST = 65536
};

/* --- configuration to Lua --- */

/* Envoy's YAML reader keeps booleans and whole numbers of 32 bits and makes strings of all other
 * numbers; its JSON reader does
 * not. */
static void push_number(lua_State *L, const struct doc *d)
{
	const char *dot = d->at.file ? strrchr(d->at.file, '.') : NULL;
	bool json = dot && strcmp(dot, ".json") == 0,
	     hex = d->text.n > 2 && (d->text.p[1] | 0x20) == 'x';
	bool whole = d->is_int && (hex || (!memchr(d->text.p, '.', d->text.n) &&
					   !memchr(d->text.p, 'e', d->text.n) &&
					   !memchr(d->text.p, 'E', d->text.n)));
	char text[24];
	if (json || d->text.n == 0 || (whole && d->integer >= INT32_MIN && d->integer <= INT32_MAX))
		lua_pushnumber(L, d->number);
	else if (whole)
		lua_pushlstring(L, text,
				(size_t)snprintf(text, sizeof text, "%lld", (long long)d->integer));
	else
		lua_pushlstring(L, d->text.p, d->text.n);
}

static void push_doc(lua_State *L, const struct doc *d, unsigned depth)
{
	if (depth > DEEPEST)
		luaL_error(L, "metadata is nested too deeply");
	luaL_checkstack(L, 4, "metadata");
	switch (d->kind) {
	case DOC_NULL: lua_pushnil(L); break;
	case DOC_BOOL: lua_pushboolean(L, d->boolean); break;
	case DOC_NUMBER: push_number(L, d); break;
	case DOC_STRING: lua_pushlstring(L, d->text.p, d->text.n); break;
	case DOC_LIST: {
		lua_createtable(L, (int)d->n, 0);
		int i = 1;
		doc_each (c, d) {
			push_doc(L, c, depth + 1);
			lua_rawseti(L, -2, i++);
		}
		break;
	}
	case DOC_MAP:
		lua_createtable(L, 0, (int)d->n);
		doc_each (c, d) {
			lua_pushlstring(L, c->key.p, c->key.n);
			push_doc(L, c, depth + 1);
			lua_rawset(L, -3);
		}
		break;
	}
}

void metadata_push_doc(lua_State *L, const struct doc *d)
{
	push_doc(L, d, 0);
}

/* --- static metadata objects --- */

/* filter_metadata[the filter's name in the chain], else of the usual name. */
static const struct doc *filter_part(const struct doc *metadata)
{
	if (!metadata)
		return NULL;
	const struct doc *d = doc_get_str(metadata, run_now->self->name);
	return d ? d : doc_get(metadata, "envoy.filters.http.lua");
}

/* The route as it was last chosen: a changed path shows only when the route is next needed. */
static const struct route *known_route(void)
{
	struct exchange *ex = run_now->ex;
	return ex->route || ex->routed ? ex->route : exch_route(ex);
}

static const struct doc *document(const struct obj *o)
{
	const struct run *r = run_now;
	const struct route *route;
	switch (o->which) {
	case METADATA_CONTEXT:
		return r->route && r->route->context
			       ? r->route->context
			       : ((const struct lua_filter *)r->self->config)->context;
	case METADATA_OF_VHOST:
		known_route();
		return r->ex->vhost ? filter_part(r->ex->vhost->metadata) : NULL;
	default: route = known_route(); return route ? filter_part(route->metadata) : NULL;
	}
}

static int push_key(lua_State *L, const struct doc *d, struct str key)
{
	const struct doc *v = d && d->kind == DOC_MAP ? doc_get_str(d, key) : NULL;
	if (v)
		push_doc(L, v, 0);
	else
		lua_pushnil(L);
	return 1;
}

static int get(lua_State *L)
{
	const struct obj *o = obj_arg(L, OBJ_METADATA);
	struct str key = obj_str(L, 2);
	return push_key(L, document(o), key);
}

/* metadata: methods first; a filter context also answers to its keys, as Envoy's own pages have it.
 * Upvalue 3: the methods. */
static int index_metadata(lua_State *L)
{
	lua_pushvalue(L, 2);
	lua_rawget(L, lua_upvalueindex(3));
	if (!lua_isnil(L, -1))
		return 1;
	const struct obj *o = lua_touserdata(L, 1);
	if (o->which != METADATA_CONTEXT || lua_type(L, 2) != LUA_TSTRING)
		return 1;
	o = obj_arg(L, OBJ_METADATA);
	return push_key(L, document(o), obj_str(L, 2));
}

static int push_metadata(lua_State *L, enum obj_place place, enum metadata_of which)
{
	obj_push(L, OBJ_METADATA, place, which);
	return 1;
}

int metadata_route(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	/* a first look chooses the route anew when fields have changed */
	if (run_now->kind == LEG_REQUEST && !(run_now->have >> PLACE_METADATA & 1))
		exch_route(run_now->ex);
	return push_metadata(L, PLACE_METADATA, METADATA_ROUTE);
}

int metadata_context(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	return push_metadata(L, PLACE_CONTEXT, METADATA_CONTEXT);
}

int metadata_vhost(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	obj_push(L, OBJ_VIRTUAL_HOST, PLACE_VHOST, 0);
	return 1;
}

int metadata_of_route(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	obj_push(L, OBJ_ROUTE, PLACE_ROUTE, 0);
	return 1;
}

static int vhost_metadata(lua_State *L)
{
	obj_arg(L, OBJ_VIRTUAL_HOST);
	return push_metadata(L, PLACE_VHOST_METADATA, METADATA_OF_VHOST);
}

static int route_metadata(lua_State *L)
{
	obj_arg(L, OBJ_ROUTE);
	return push_metadata(L, PLACE_ROUTE_METADATA, METADATA_OF_ROUTE);
}

/* --- dynamic metadata: Lua to values --- */

static struct value *value_of(lua_State *L, int at, unsigned depth);

static struct value *fresh(lua_State *L, enum value_kind kind)
{
	struct value *v = value_new(&run_now->ex->arena, kind);
	if (!v)
		obj_no_memory(L);
	return v;
}

/* The largest key when all are whole numbers from 1 on, else 0. */
static uint32_t list_length(lua_State *L, int at)
{
	uint32_t most = 0;
	lua_pushnil(L);
	while (lua_next(L, at)) {
		lua_pop(L, 1);
		double d = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
		if (!(d >= 1) || d > LIST_MOST || d != (double)(uint32_t)d) {
			lua_pop(L, 1);
			return 0;
		}
		if (d > most)
			most = (uint32_t)d;
	}
	return most;
}

static struct value *list_of(lua_State *L, int at, uint32_t n, unsigned depth)
{
	struct value *list = fresh(L, VALUE_LIST);
	for (uint32_t i = 1; i <= n; i++) {
		lua_rawgeti(L, at, (int)i);
		value_add(list, value_of(L, lua_gettop(L), depth + 1));
		lua_pop(L, 1);
	}
	return list;
}

static struct value *map_of(lua_State *L, int at, unsigned depth)
{
	struct arena *a = &run_now->ex->arena;
	struct value *map = fresh(L, VALUE_MAP);
	lua_pushnil(L);
	while (lua_next(L, at)) {
		struct value *v;
		struct str key;
		if (__builtin_expect(lua_type(L, -2) != LUA_TSTRING, 0))
			luaL_error(
				L,
				"unexpected type %s in table key (only string keys are supported)",
				luaL_typename(L, -2));
		key.p = lua_tolstring(L, -2, &key.n);
		/* what nearly all are: key, value and node in one piece */
		if (lua_type(L, -1) == LUA_TSTRING) {
			struct str s;
			s.p = lua_tolstring(L, -1, &s.n);
			enum field_id id = obj_known_name(key.p); /* very often it is a header's */
			size_t copied = id ? 0 : key.n;
			v = arena_alloc(a, sizeof *v + copied + s.n);
			if (!v)
				obj_no_memory(L);
			char *p = (char *)(v + 1);
			v->kind = VALUE_STRING;
			v->key = (struct str){id ? name_infos[id].name : memcpy(p, key.p, key.n),
					      key.n};
			v->string = (struct str){memcpy(p + copied, s.p, s.n), s.n};
		} else {
			v = value_of(L, lua_gettop(L), depth + 1);
			v->key = obj_copy(L, key);
		}
		value_add(map, v);
		lua_pop(L, 1);
	}
	return map;
}

static struct value *value_of(lua_State *L, int at, unsigned depth)
{
	struct value *v;
	int type = lua_type(L, at);
	switch (type) {
	case LUA_TNONE:
	case LUA_TNIL: return fresh(L, VALUE_NULL);
	case LUA_TBOOLEAN:
		v = fresh(L, VALUE_BOOL);
		v->boolean = lua_toboolean(L, at);
		return v;
	case LUA_TNUMBER:
		v = fresh(L, VALUE_NUMBER);
		v->number = lua_tonumber(L, at);
		return v;
	case LUA_TSTRING:
		v = fresh(L, VALUE_STRING);
		v->string = obj_copy(L, obj_str(L, at));
		return v;
	case LUA_TTABLE: break;
	default: luaL_error(L, "unexpected type '%s' in dynamicMetadata", lua_typename(L, type));
	}
	if (depth >= DEEPEST)
		luaL_error(L, "table nested too deeply in dynamicMetadata");
	luaL_checkstack(L, 6, "dynamicMetadata");
	lua_pushnil(L); /* a string key first: no list */
	bool empty = !lua_next(L, at), list = !empty && lua_type(L, -2) == LUA_TNUMBER;
	lua_pop(L, empty ? 0 : 2);
	uint32_t n = list ? list_length(L, at) : 0;
	return n ? list_of(L, at, n, depth) : map_of(L, at, depth);
}

struct value *metadata_value(lua_State *L, int at)
{
	return value_of(L, at, 0);
}

/* --- dynamic metadata: values to Lua --- */

void metadata_push_value(lua_State *L, const struct value *v)
{
	switch (v->kind) {
	case VALUE_NULL: lua_pushnil(L); return;
	case VALUE_BOOL: lua_pushboolean(L, v->boolean); return;
	case VALUE_NUMBER: lua_pushnumber(L, v->number); return;
	case VALUE_STRING: lua_pushlstring(L, v->string.p, v->string.n); return;
	case VALUE_LIST: {
		luaL_checkstack(L, 4, "dynamicMetadata");
		lua_createtable(L, (int)v->list.n, 0);
		int i = 1;
		for (const struct value *c = v->list.first; c; c = c->next) {
			metadata_push_value(L, c);
			lua_rawseti(L, -2, i++);
		}
		return;
	}
	case VALUE_MAP:
		luaL_checkstack(L, 4, "dynamicMetadata");
		lua_createtable(L, 0, (int)v->list.n);
		for (const struct value *c = v->list.first; c; c = c->next) {
			enum field_id id = obj_known_name(c->key.p);
			if (id)
				lua_rawgeti(L, UP_TABLE, TABLE_NAMES + (int)id);
			else
				lua_pushlstring(L, c->key.p, c->key.n);
			if (c->kind == VALUE_STRING)
				lua_pushlstring(L, c->string.p, c->string.n);
			else
				metadata_push_value(L, c);
			lua_rawset(L, -3);
		}
		return;
	}
}

static int dynamic_get(lua_State *L)
{
	obj_arg(L, OBJ_DYNAMIC_METADATA);
	struct str ns = obj_str(L, 2);
	const struct value *v = metadata_get(&run_now->ex->metadata, ns);
	if (v)
		metadata_push_value(L, v);
	else
		lua_pushnil(L);
	return 1;
}

static int dynamic_set(lua_State *L)
{
	struct obj *o = obj_arg(L, OBJ_DYNAMIC_METADATA);
	struct exchange *ex = run_now->ex;
	if (o->open) {
		if (obj_loop_runs(L, o))
			return luaL_error(
				L, "dynamic metadata map cannot be modified while iterating");
		o->open = false;
	}
	struct str ns = obj_str(L, 2), key = obj_str(L, 3);
	struct value *v = metadata_value(L, 4);
	if (!metadata_set(&ex->metadata, &ex->arena, ns, key, v))
		obj_no_memory(L);
	return 0;
}

int metadata_dynamic(lua_State *L)
{
	obj_arg(L, OBJ_STREAM_INFO);
	obj_push(L, OBJ_DYNAMIC_METADATA, PLACE_DYNAMIC_METADATA, 0);
	return 1;
}

/* --- the connection's own, of which there is none --- */

static int nothing(lua_State *L)
{
	obj_arg(L, OBJ_CONNECTION_METADATA);
	obj_str(L, 2);
	lua_pushnil(L);
	return 1;
}

/* --- pairs --- */

static int next_pair(lua_State *L)
{
	struct obj *o = lua_touserdata(L, 1);
	if (!o || lua_objlen(L, 1) != sizeof *o || o->mark - OBJ_MARK >= OBJ_KINDS)
		obj_bad(L, OBJ_METADATA);
	if (o->serial != run_now->serial)
		obj_stale(L);
	unsigned n = o->at++;
	if (o->mark == OBJ_MARK + OBJ_DYNAMIC_METADATA) {
		const struct value *v = run_now->ex->metadata.first;
		while (v && n--)
			v = v->next;
		if (v) {
			lua_pushlstring(L, v->key.p, v->key.n);
			metadata_push_value(L, v);
			return 2;
		}
	} else if (o->mark == OBJ_MARK + OBJ_METADATA) {
		const struct doc *d = document(o), *c = d && d->kind == DOC_MAP ? d->first : NULL;
		while (c && n--)
			c = c->next;
		if (c) {
			lua_pushlstring(L, c->key.p, c->key.n);
			push_doc(L, c, 0);
			return 2;
		}
	}
	o->open = false;
	return 0;
}

int metadata_pairs(lua_State *L, struct obj *o)
{
	lua_rawgeti(L, UP_TABLE, TABLE_PAIRS_NEXT);
	if (o->open && obj_loop_runs(L, o)) { /* a loop in a loop */
		unsigned which = o->which;
		o = obj_new(L, (enum obj_kind)(o->mark - OBJ_MARK));
		o->which = (uint8_t)which;
	} else {
		lua_pushvalue(L, 1);
	}
	o->open = true;
	o->at = 0;
	return 2;
}

void metadata_obj_methods(lua_State *L)
{
	static const luaL_Reg metadata[] = {{"get", get}, {NULL, NULL}};
	static const luaL_Reg dynamic[] = {
		{"get", dynamic_get}, {"set", dynamic_set}, {NULL, NULL}};
	static const luaL_Reg connection[] = {{"get", nothing}, {NULL, NULL}};
	static const luaL_Reg vhost[] = {{"metadata", vhost_metadata}, {NULL, NULL}};
	static const luaL_Reg route[] = {{"metadata", route_metadata}, {NULL, NULL}};
	obj_methods(L, OBJ_METADATA, metadata);
	obj_methods(L, OBJ_DYNAMIC_METADATA, dynamic);
	obj_methods(L, OBJ_CONNECTION_METADATA, connection);
	obj_methods(L, OBJ_VIRTUAL_HOST, vhost);
	obj_methods(L, OBJ_ROUTE, route);
	lua_rawgeti(L, 1, TABLE_META + OBJ_METADATA);
	lua_pushvalue(L, 1);
	lua_pushvalue(L, 2);
	lua_getfield(L, -3, "__index");
	lua_pushcclosure(L, index_metadata, 3);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
	lua_pushvalue(L, 1);
	lua_pushvalue(L, 2);
	lua_pushcclosure(L, next_pair, 2);
	lua_rawseti(L, 1, TABLE_PAIRS_NEXT);
}
