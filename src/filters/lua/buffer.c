/* src/filters/lua/buffer.c: body() and the buffer object (lua-filter.md 4.3, 5.1), also for the
 * chunks of bodyChunks(). */
#include "filters/lua/lua_int.h"

enum { BUFFER_BODY, BUFFER_CHUNK };

static bool is_chunk(const struct obj *o)
{
	return o->which == BUFFER_CHUNK;
}

/* The bytes an object stands for. */
static struct chain *content(lua_State *L, const struct obj *o)
{
	struct run *r = run_now;
	if (!is_chunk(o))
		return exch_held(r->ex, (enum leg_kind)r->kind);
	if (!r->in_chunk || o->sub != r->chunk_number)
		obj_stale(L);
	return &r->chunk;
}

static int length(lua_State *L)
{
	const struct obj *o = obj_arg(L, OBJ_BUFFER);
	lua_pushnumber(L, (lua_Number)content(L, o)->n);
	return 1;
}

static int get_bytes(lua_State *L)
{
	const struct obj *o = obj_arg(L, OBJ_BUFFER);
	struct chain *c = content(L, o);
	int64_t at = obj_integer(L, 2, -1, INT64_MAX / 4), n = obj_integer(L, 3, -1, INT64_MAX / 4);
	if (at < 0 || n < 0 || (uint64_t)at + (uint64_t)n > c->n)
		return luaL_error(
			L, "index/length must be >= 0 and (index + length) must be <= buffer size");
	if (n == 0) {
		lua_pushlstring(L, "", 0);
		return 1;
	}
	/* What the API hands over counts for the worker, not for the run (robustness.md 5.1). */
	run_now->vm->heap.run_most += (size_t)n;
	struct str flat;
	if (!chain_flat(c, &flat))
		obj_no_memory(L);
	lua_pushlstring(L, flat.p + at, (size_t)n);
	return 1;
}

static void set_length(lua_State *L, struct run *r, size_t n)
{
	struct str v = obj_decimal(&r->ex->arena, n);
	if (!v.p || !head_set_id(r->head, FIELD_CONTENT_LENGTH, v))
		obj_no_memory(L);
	r->modified = true;
}

static int set_bytes(lua_State *L)
{
	const struct obj *o = obj_arg(L, OBJ_BUFFER);
	struct run *r = run_now;
	struct chain *c = content(L, o);
	struct str s = obj_str(L, 2);
	struct chain fresh = {0};
	if (is_chunk(o) && r->fixed && s.n != c->n)
		return luaL_error(L, "setBytes cannot change the length of a message whose length "
				     "was announced");
	if (!is_chunk(o) && r->continued)
		return luaL_error(L, "header map can no longer be modified");
	if (s.n && !chain_copy(&fresh, s.p, s.n))
		obj_no_memory(L);
	if (is_chunk(o)) {
		chain_clear(c);
		chain_move(c, &fresh);
		r->changed = true;
	} else {
		exch_replace_body(r->ex, (enum leg_kind)r->kind, &fresh);
		set_length(L, r, s.n);
	}
	lua_pushnumber(L, (lua_Number)s.n);
	return 1;
}

void buffer_push(lua_State *L)
{
	obj_push(L, OBJ_BUFFER, PLACE_BODY, BUFFER_BODY);
}

/* Is the whole body here, and no larger than may be gathered? Larger: the exchange refuses it while
 * we wait. */
static bool here(struct run *r)
{
	struct exchange *ex = r->ex;
	uint32_t limit = ex->peer->buffer_limit;
	return exch_gathered(ex, (enum leg_kind)r->kind) && (!limit || r->leg->held.n <= limit);
}

bool buffer_absent(struct run *r)
{
	if (!r->leg->trailers || !chain_empty(exch_held(r->ex, (enum leg_kind)r->kind)))
		return false;
	r->end_stream = true;
	r->buffered = false;
	return true;
}

/* handle:body([always_wrap]) */
int buffer_body(lua_State *L)
{
	struct run *r = run_now;
	obj_arg(L, OBJ_HANDLE);
	bool wrap = false;
	if (lua_gettop(L) >= 2) {
		luaL_checktype(L, 2, LUA_TBOOLEAN);
		wrap = lua_toboolean(L, 2);
	}
	if (r->end_stream) {
		if (r->saw_body && !r->buffered)
			return luaL_error(L, "cannot call body() after body has been streamed");
		if (!r->saw_body && !r->forced_body) {
			if (!wrap) {
				lua_pushnil(L);
				return 1;
			}
			r->forced_body = true;
			/* A message without a body becomes one with an empty one: chunked, unless
			 * its head names a length. */
			bool may = r->kind == LEG_REQUEST ||
				   (!r->ex->is_head && r->head->status != 204 &&
				    r->head->status != 304);
			if (may && !head_has(r->head, FIELD_CONTENT_LENGTH))
				r->leg->size = -1;
		}
		buffer_push(L);
		return 1;
	}
	if (r->saw_body)
		return luaL_error(L, "cannot call body() after body streaming has started");
	run_may_yield(L);
	buffer_push(L); /* made now, where running out of memory is an ordinary error */
	if (here(r)) {
		if (buffer_absent(r)) {
			lua_pushnil(L);
			return 1;
		}
		r->buffered = r->saw_body = r->end_stream = r->leg->whole = true;
		return 1;
	}
	r->buffered = true;
	return run_yield(L, PENDING_BODY);
}

void buffer_methods(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{"length", length}, {"getBytes", get_bytes}, {"setBytes", set_bytes}, {NULL, NULL}};
	obj_methods(L, OBJ_BUFFER, methods);
}
