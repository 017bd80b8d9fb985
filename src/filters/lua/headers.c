/* src/filters/lua/headers.c: the headers object (lua-filter.md 4.2), for both heads and both sets
 * of trailers. */
#include "base/must.h"
#include "filters/lua/lua_int.h"

enum { NAME_MOST = 1024 };

/* The iterator's upvalues behind the usual two: the known names. */
enum { UP_NAMES = 2 };
_Static_assert(UP_NAMES + FIELD_IDS <= 255, "a closure has so many upvalues");

struct head *headers_of(const struct obj *o)
{
	struct exchange *ex = run_now->ex;
	switch (o->which) {
	case HEADERS_REQUEST: return &ex->req.head;
	case HEADERS_RESPONSE: return &ex->resp.head;
	case TRAILERS_REQUEST: return ex->req.trailers;
	default: return ex->resp.trailers;
	}
}

static struct head *living_head(lua_State *L, const struct obj *o)
{
	struct head *h = headers_of(o);
	if (!h)
		obj_stale(L);
	return h;
}

/* Envoy hides how a request was framed, not how an answer was. */
static bool hidden(const struct head *h, const struct field *f)
{
	return f->id == FIELD_TRANSFER_ENCODING && !h->is_response;
}

static char *lower(char *to, struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		to[i] = (char)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] | 0x20 : s.p[i]);
	return to;
}

void headers_push_name(lua_State *L, int table, const struct field *f)
{
	char small[NAME_MOST];
	if (f->id) {
		lua_rawgeti(L, table, TABLE_NAMES + f->id);
		return;
	}
	struct str n = field_name(f);
	if (n.n <= sizeof small) {
		lua_pushlstring(L, lower(small, n), n.n);
		return;
	}
	lua_pushlstring(L, lower(lua_newuserdata(L, n.n), n), n.n);
	lua_replace(L, -2);
}

/* --- iteration --- */

int headers_next(lua_State *L)
{
	struct obj *o = obj_arg(L, OBJ_HEADERS);
	const struct head *h = living_head(L, o);
	unsigned i = o->at;
	while (__builtin_expect(i < h->n && hidden(h, &h->f[i]), 0))
		i++;
	if (i >= h->n) {
		o->open = false;
		return 0;
	}
	const struct field *f = &h->f[i];
	o->at = (uint16_t)(i + 1);
	if (f->id)
		lua_pushvalue(L, lua_upvalueindex(UP_NAMES + f->id));
	else
		headers_push_name(L, UP_TABLE, f);
	lua_pushlstring(L, f->value_p, f->value_n);
	return 2;
}

/* The object itself is the state of the loop: no closure is made. Only a loop inside a loop over
 * the same object gets an
 * object of its own. */
int headers_pairs(lua_State *L, struct obj *o)
{
	lua_rawgeti(L, UP_TABLE, TABLE_HEADERS_NEXT);
	if (o->open && obj_loop_runs(L, o)) {
		unsigned which = o->which;
		o = obj_new(L, OBJ_HEADERS);
		o->which = (uint8_t)which;
	} else {
		lua_pushvalue(L, 1);
	}
	o->open = true;
	o->at = 0;
	return 2;
}

/* --- what may be written --- */

struct str headers_checked_name(lua_State *L, struct str name, const struct head *h,
				enum field_id *id)
{
	bool response = h->is_response;
	*id = obj_name_id(name);
	if (*id == FIELD_HOST && !response)
		*id = FIELD_AUTHORITY;
	const struct name_info *known = &name_infos[*id];
	if (*id) {
		bool pseudo = known->flags & NAME_PSEUDO;
		if (pseudo && response != (*id == FIELD_STATUS))
			luaL_error(L, "%s cannot be set here", known->name);
		return (struct str){known->name, known->n};
	}
	if (!field_name_ok(name) || name.n > UINT16_MAX)
		luaL_error(L, "invalid header name");
	char *p = arena_alloc(h->arena, name.n);
	if (!p)
		obj_no_memory(L);
	return (struct str){lower(p, name), name.n};
}

void headers_check_value(lua_State *L, struct str name, struct str value)
{
	if (__builtin_expect(!field_value_ok(value), 0)) {
		lua_pushlstring(L, name.p, name.n);
		luaL_error(L, "invalid header value for: %s", lua_tostring(L, -1));
	}
}

/* Asked before the arguments are looked at, as Envoy does. */
static inline __attribute__((always_inline)) struct head *unfrozen(lua_State *L, struct obj *o)
{
	struct run *r = run_now;
	struct head *h = living_head(L, o);
	if (h == r->head && r->continued)
		luaL_error(L, "header map can no longer be modified");
	if (__builtin_expect(o->open, 0)) {
		if (obj_loop_runs(L, o))
			luaL_error(L, "header map cannot be modified while iterating");
		o->open = false;
	}
	return h;
}

static inline __attribute__((always_inline)) void modified(const struct head *h)
{
	struct run *r = run_now;
	if (h != r->head)
		return;
	if (r->kind == LEG_REQUEST &&
	    ((const struct lua_filter *)r->self->config)->clear_route_cache)
		exch_clear_route(r->ex);
	r->modified = true;
}

/* --- methods --- */

static enum field_id id_in(const struct head *h, struct str name)
{
	enum field_id id = obj_name_id(name);
	return id == FIELD_HOST && !h->is_response ? FIELD_AUTHORITY : id;
}

static unsigned single_flags(const struct head *h)
{
	return NAME_PSEUDO | (h->is_response ? NAME_SINGLE_RESP : NAME_SINGLE_REQ);
}

static int get(lua_State *L)
{
	struct obj *o = obj_arg(L, OBJ_HEADERS);
	struct str name = obj_str(L, 2);
	const struct head *h = living_head(L, o);
	enum field_id id = id_in(h, name);
	const struct field *f = id ? head_get(h, id) : head_find(h, name), *more;
	if (!f || hidden(h, f)) {
		lua_pushnil(L);
		return 1;
	}
	more = id && name_infos[id].flags & single_flags(h) ? NULL : head_find_next(h, f, name);
	if (!more) {
		lua_pushlstring(L, f->value_p, f->value_n);
		return 1;
	}
	luaL_Buffer b;
	luaL_buffinit(L, &b);
	luaL_addlstring(&b, f->value_p, f->value_n);
	for (; more; more = head_find_next(h, more, name)) {
		luaL_addchar(&b, ',');
		luaL_addlstring(&b, more->value_p, more->value_n);
	}
	luaL_pushresult(&b);
	return 1;
}

static int get_at_index(lua_State *L)
{
	struct obj *o = obj_arg(L, OBJ_HEADERS);
	struct str name = obj_str(L, 2);
	int64_t i = obj_integer(L, 3, -1, UINT16_MAX);
	const struct head *h = living_head(L, o);
	const struct field *f = head_find(h, name);
	for (; f && i > 0; i--)
		f = head_find_next(h, f, name);
	if (!f || i < 0 || hidden(h, f))
		lua_pushnil(L);
	else
		lua_pushlstring(L, f->value_p, f->value_n);
	return 1;
}

static int get_num_values(lua_State *L)
{
	struct obj *o = obj_arg(L, OBJ_HEADERS);
	struct str name = obj_str(L, 2);
	const struct head *h = living_head(L, o);
	unsigned n = 0;
	for (const struct field *f = head_find(h, name); f; f = head_find_next(h, f, name))
		n += !hidden(h, f);
	lua_pushinteger(L, (lua_Integer)n);
	return 1;
}

/* One slot for all: the new value behind the old one. */
static struct str joined(lua_State *L, struct head *h, const struct field *f, struct str value)
{
	size_t n = (size_t)f->value_n + 1 + value.n;
	char *p = arena_alloc(h->arena, n);
	if (!p)
		obj_no_memory(L);
	memcpy(p, f->value_p, f->value_n);
	p[f->value_n] = ',';
	memcpy(p + f->value_n + 1, value.p, value.n);
	return (struct str){p, n};
}

/* In the place of f, or as one more (f NULL). */
static void put(lua_State *L, struct head *h, enum field_id id, struct str name,
		const struct field *f, struct str value)
{
	if (f    ? !head_set_id(h, id, value)
	    : id ? !head_add_id(h, id, value)
		 : !head_add_other(h, name, value))
		obj_no_memory(L);
}

static int add(lua_State *L)
{
	struct obj *o = obj_arg(L, OBJ_HEADERS);
	struct head *h = unfrozen(L, o);
	struct str name = obj_str(L, 2), value = obj_str(L, 3);
	enum field_id id;
	modified(h);
	name = headers_checked_name(L, name, h, &id);
	headers_check_value(L, name, value);
	struct field *f = name_infos[id].flags & single_flags(h) ? head_get(h, id) : NULL;
	put(L, h, id, name, f, f ? joined(L, h, f, value) : obj_copy_to(L, h->arena, value));
	return 0;
}

static int replace(lua_State *L)
{
	struct obj *o = obj_arg(L, OBJ_HEADERS);
	struct head *h = unfrozen(L, o);
	struct str name = obj_str(L, 2), value = obj_str(L, 3);
	enum field_id id;
	modified(h);
	name = headers_checked_name(L, name, h, &id);
	headers_check_value(L, name, value);
	struct str v = obj_copy_to(L, h->arena, value);
	/* the phrase was that of another status, unless a script has said it */
	if (id == FIELD_STATUS && !run_now->ex->allow_http1_reason)
		h->reason = (struct str){NULL, 0};
	if (id ? !head_replace_id(h, id, v) : !head_replace(h, name, v))
		obj_no_memory(L);
	return 0;
}

static int remove_all(lua_State *L)
{
	struct obj *o = obj_arg(L, OBJ_HEADERS);
	struct head *h = unfrozen(L, o);
	struct str name = obj_str(L, 2);
	enum field_id id = id_in(h, name);
	modified(h);
	if (!id) {
		head_remove(h, name);
		return 0;
	}
	/* asks for chunked, also for a body the script has set */
	if (id == FIELD_CONTENT_LENGTH && h == run_now->head)
		run_now->leg->size_fixed = false;
	head_remove_id(h, id);
	return 0;
}

static int set_reason(lua_State *L)
{
	struct obj *o = obj_arg(L, OBJ_HEADERS);
	struct head *h = unfrozen(L, o);
	struct str s = obj_str(L, 2);
	if (o->which != HEADERS_RESPONSE)
		return 0;
	modified(h);
	headers_check_value(L, STR("reason phrase"), s);
	h->reason = s.n ? obj_copy(L, s) : (struct str){NULL, 0}; /* "": the usual one */
	run_now->ex->allow_http1_reason = true;
	return 0;
}

/* --- handle methods --- */

_Static_assert(FIELD_TE < 64, "one word of head.has tells of them all");
static const uint64_t hop_fields = 1ull << FIELD_CONNECTION | 1ull << FIELD_KEEP_ALIVE |
				   1ull << FIELD_PROXY_CONNECTION | 1ull << FIELD_TE;

/* What concerns the connection alone is not the script's, as in Envoy; of "te" only what is passed
 * on. A configured upgrade keeps its fields. */
static __attribute__((noinline)) void drop_hop_fields(struct head *h, const struct exchange *ex)
{
	static const enum field_id ids[] = {FIELD_CONNECTION, FIELD_KEEP_ALIVE,
					    FIELD_PROXY_CONNECTION};
	if (h == &ex->resp.head) {
		if (head_has(h, FIELD_KEEP_ALIVE))
			head_remove_id(h, FIELD_KEEP_ALIVE);
		return;
	}
	if (h != &ex->req.head || ex->upgrade.p)
		return;
	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
		if (head_has(h, ids[i]))
			head_remove_id(h, ids[i]);
	if (head_has(h, FIELD_TE) && !str_ieq(str_trim(head_value(h, FIELD_TE)), STR("trailers")))
		head_remove_id(h, FIELD_TE);
}

static void first_touch(lua_State *L, struct head *h)
{
	if (__builtin_expect(h->has[0] & hop_fields, 0))
		drop_hop_fields(h, run_now->ex);
	if (!head_join_single(h))
		obj_no_memory(L);
}

int headers_handle(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	if (obj_cached(L, PLACE_HEADERS))
		return 1;
	struct run *r = run_now;
	first_touch(L, r->head);
	obj_push(L, OBJ_HEADERS, PLACE_HEADERS,
		 r->kind == LEG_REQUEST ? HEADERS_REQUEST : HEADERS_RESPONSE);
	return 1;
}

int headers_handle_request(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	if (obj_cached(L, PLACE_REQUEST_HEADERS))
		return 1;
	first_touch(L, &run_now->ex->req.head);
	obj_push(L, OBJ_HEADERS, PLACE_REQUEST_HEADERS, HEADERS_REQUEST);
	return 1;
}

void headers_push_trailers(lua_State *L)
{
	struct run *r = run_now;
	if (!r->leg->trailers) {
		lua_pushnil(L);
		return;
	}
	first_touch(L, r->leg->trailers);
	obj_push(L, OBJ_HEADERS, PLACE_TRAILERS,
		 r->kind == LEG_REQUEST ? TRAILERS_REQUEST : TRAILERS_RESPONSE);
}

/* At once when the message has ended; else when it does. The head and the body go on meanwhile. */
int headers_handle_trailers(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	struct run *r = run_now;
	if (r->end_stream || r->buffered) {
		headers_push_trailers(L);
		return 1;
	}
	run_may_yield(L);
	/* here already; Envoy would have let the head go */
	if (!r->continued && exch_gathered(r->ex, (enum leg_kind)r->kind)) {
		r->continued = r->saw_body = r->end_stream = true;
		headers_push_trailers(L);
		return 1;
	}
	/* Made now, where running out of memory is an ordinary error: the trailers come later. */
	obj_push(L, OBJ_HEADERS, PLACE_TRAILERS,
		 r->kind == LEG_REQUEST ? TRAILERS_REQUEST : TRAILERS_RESPONSE);
	return run_yield(L, PENDING_TRAILERS);
}

/* --- tables of a script as fields: httpCall, respond --- */

static void add_pair(lua_State *L, struct head *h, enum field_id id, struct str name, bool call)
{
	struct str value = {NULL, 0};
	value.p = lua_tolstring(L, -1, &value.n);
	headers_check_value(L, name, value);
	if (call && id == FIELD_TE && !str_ieq(str_trim(value), STR("trailers")))
		return;
	struct field *f = name_infos[id].flags & single_flags(h) ? head_get(h, id) : NULL;
	bool joins = f && !(name_infos[id].flags & NAME_PSEUDO);
	put(L, h, id, name, f, joins ? joined(L, h, f, value) : obj_copy_to(L, h->arena, value));
}

static _Noreturn void bad_value(lua_State *L)
{
	luaL_error(L, "header values must be strings, numbers or lists of them, got %s",
		   luaL_typename(L, -1));
	must_fail("luaL_error returns", __FILE__, __LINE__);
}

/* The name at -2 and the value at -1, of that type. */
static void add_entry(lua_State *L, struct head *h, struct str name, int type, bool call)
{
	enum field_id id;
	if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TTABLE)
		bad_value(L);
	if (!call && name.n && name.p[0] == ':' && !str_eq(name, STR(":status")))
		return; /* has no meaning in an answer */
	name = headers_checked_name(L, name, h, &id);
	/* Framing is not the script's (robustness.md I3). */
	if (id && name_infos[id].flags & NAME_FRAMING && !(call && id == FIELD_TE))
		return;
	if (type != LUA_TTABLE) {
		add_pair(L, h, id, name, call);
		return;
	}
	int list = lua_gettop(L);
	lua_pushnil(L);
	while (lua_next(L, list)) { /* holes are passed over, keys do not matter */
		if (!lua_isstring(L, -1))
			bad_value(L);
		add_pair(L, h, id, name, call);
		lua_pop(L, 1);
	}
}

/* A request's field that is not there yet, of a well-known name in its usual spelling: needs no
 * more checks than its value's. */
static bool add_usual(lua_State *L, struct head *h, struct str name)
{
	enum field_id id = obj_known_name(name.p);
	if (!id || id == FIELD_HOST || id == FIELD_STATUS || head_has(h, id) ||
	    name_infos[id].flags & NAME_FRAMING)
		return false;
	struct str value;
	value.p = lua_tolstring(L, -1, &value.n);
	headers_check_value(L, name, value);
	put(L, h, id, name, NULL, obj_copy_to(L, h->arena, value));
	return true;
}

void headers_from_table(lua_State *L, int at, struct head *h, bool call)
{
	lua_pushnil(L);
	while (lua_next(L, at)) {
		if (lua_type(L, -2) != LUA_TSTRING)
			luaL_error(L, "header names must be strings, got %s", luaL_typename(L, -2));
		struct str name;
		name.p = lua_tolstring(L, -2, &name.n);
		int type = lua_type(L, -1);
		if (!call || type != LUA_TSTRING || !add_usual(L, h, name))
			add_entry(L, h, name, type, call);
		lua_pop(L, 1);
	}
}

void headers_methods(lua_State *L)
{
	static const luaL_Reg methods[] = {{"get", get},
					   {"getAtIndex", get_at_index},
					   {"getNumValues", get_num_values},
					   {"add", add},
					   {"replace", replace},
					   {"remove", remove_all},
					   {"setHttp1ReasonPhrase", set_reason},
					   {NULL, NULL}};
	obj_methods(L, OBJ_HEADERS, methods);
	luaL_checkstack(L, FIELD_IDS + 8, "");
	lua_pushvalue(L, 1);
	lua_pushvalue(L, 2);
	for (int id = 1; id < FIELD_IDS; id++)
		lua_rawgeti(L, 1, TABLE_NAMES + id);
	lua_pushcclosure(L, headers_next, UP_NAMES + FIELD_IDS - 1);
	lua_rawseti(L, 1, TABLE_HEADERS_NEXT);
}
