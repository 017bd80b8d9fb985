/* src/filters/lua/chunks.c: bodyChunks() (lua-filter.md 5.2).
 *
 * Two ways. A body that lies here whole when the loop starts is walked in place while the head is
 * still held, so that what the script writes gets a truthful length; so is one whose announced
 * length is small, once it has come, when the script's text speaks of setBytes. Any other body
 * streams: the head goes on, run.c hands over one batch after the other, and a message whose
 * length is announced is sent chunked when the script may write (10.6: what was announced and what
 * is sent must never differ).
 */
#include "filters/lua/lua_int.h"

/* Envoy lets the object of the last round live on: only the next round ends it. */
void chunks_settle(struct run *r)
{
	chain_move(&r->done, &r->chunk);
	r->in_chunk = false;
}

static void start_round(struct run *r, struct chain *bytes)
{
	chunks_settle(r);
	if (bytes)
		chain_move(&r->chunk, bytes);
	r->in_chunk = true;
	r->called = false;
	r->chunk_number++;
}

/* Envoy hands on what it made itself, and what a filter before this one held whole, as one piece
 * that is also the end. */
static bool in_one_piece(const struct run *r)
{
	return r->leg->whole || (r->kind == LEG_RESPONSE && r->ex->local_reply);
}

/* Where the loop stands with the bytes at hand. 1: a round has begun; 0: the loop ends; -1: it has
 * to wait for bytes. */
int chunks_step(struct run *r, struct chain *bytes, bool end)
{
	if (r->stage == 0) {
		r->stage = 1;
		if (!chain_empty(bytes)) {
			r->saw_body = true;
			start_round(r, bytes);
			return 1;
		}
	}
	if (r->stage == 1) {
		if (!end)
			return -1;
		r->stage = 2;
		r->saw_body = r->end_stream = true;
		/* The end comes as a chunk of its own, an empty one, but from the wire only. */
		if (!r->leg->trailers && !(r->chunk_number > 0 && in_one_piece(r))) {
			start_round(r, NULL);
			return 1;
		}
	}
	r->end_stream = true;
	return 0;
}

static void walk_in_place(struct run *r)
{
	r->in_place = true;
	r->continued = true;
	r->stage = 0;
	chain_move(&r->rest, exch_held(r->ex, (enum leg_kind)r->kind));
}

static void walk_streaming(struct run *r)
{
	struct leg *leg = r->leg;
	r->continued = true;
	r->fixed = false;
	if (leg->size >= 0 && head_has(r->head, FIELD_CONTENT_LENGTH)) {
		if (r->env->script->writes_chunks)
			leg->size = -1;
		else
			r->fixed = true;
	}
}

int chunks_whole(struct run *r)
{
	walk_in_place(r);
	return chunks_step(r, &r->rest, true);
}

static bool small_and_written(const struct run *r)
{
	return r->env->script->writes_chunks && r->leg->size > 0 && r->leg->size <= CHUNKS_WHOLE &&
	       head_has(r->head, FIELD_CONTENT_LENGTH);
}

/* The end came while the script waited for a call: Envoy makes no round of it. */
static bool end_passed(const struct run *r)
{
	if (!r->called || r->stage != 1)
		return false;
	return r->in_place || r->batch_end || (r->leg->in_ended && chain_empty(&r->leg->in));
}

/* The iterator: a closure over the handle (upvalue 3), for its generation. */
static int next_chunk(lua_State *L)
{
	struct run *r = run_now;
	const struct obj *handle = lua_touserdata(L, lua_upvalueindex(3));
	if (handle->serial != r->serial)
		obj_stale(L);
	if (end_passed(r))
		r->saw_body = r->end_stream = true;
	if (r->end_stream)
		return 0;
	run_may_yield(L);
	struct obj *o = obj_new(L, OBJ_BUFFER);
	o->which = 1;
	o->sub = r->chunk_number + 1;
	obj_keep(L, PLACE_CHUNK);
	if (!r->continued) {
		if (!r->saw_body && exch_gathered(r->ex, (enum leg_kind)r->kind))
			walk_in_place(r);
		else if (!r->saw_body && small_and_written(r))
			return run_yield(L, PENDING_WHOLE);
		else
			walk_streaming(r);
	}
	if (r->in_place)
		return chunks_step(r, &r->rest, true) == 1;
	return run_yield(L, PENDING_CHUNK);
}

int chunks_iterator(lua_State *L)
{
	struct run *r = run_now;
	obj_arg(L, OBJ_HANDLE);
	if (r->saw_body)
		return luaL_error(L, "cannot call bodyChunks after body processing has begun");
	lua_pushvalue(L, UP_TABLE);
	lua_pushvalue(L, UP_CACHE);
	lua_pushvalue(L, 1);
	lua_pushcclosure(L, next_chunk, 3);
	return 1;
}
