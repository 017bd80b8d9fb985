/* src/filters/lua/run.c: hooks, and what happens when a script waits, ends or fails (lua-filter.md
 * 2). */
#include "base/mem.h"
#include "base/must.h"
#include "filters/lua/lua_int.h"
#include <stdio.h>

static struct run run_none;
static _Thread_local uint64_t serials;
_Thread_local struct run *run_now = &run_none;

/* --- life of a run --- */

static struct run *run_take(struct vm *vm)
{
	struct run *r = vm->spare;
	uint32_t slot;
	if (r) {
		vm->spare = r->next;
		slot = r->slot;
	} else {
		r = mem_alloc(MEM_LUA, sizeof *r);
		if (!r)
			return NULL;
		slot = vm->nslots++;
	}
	*r = (struct run){.vm = vm, .slot = slot};
	r->serial = ++serials;
	vm->nruns++;
	return r;
}

static void run_drop(struct run *r, bool ended_well)
{
	struct vm *vm = r->vm;
	if (r->call)
		httpcall_cancel(r->call);
	if (r->kept) {
		struct lua_state *st = exch_state(r->ex, r->self);
		st->run[r->kind] = NULL;
	}
	if (r->kept || r->in_place) {
		chain_clear(&r->rest);
		chain_clear(&r->chunk);
		chain_clear(&r->done);
	}
	chain_clear(&r->answer_body);
	if (r->co.L)
		vm_coro_give(vm, r->env, &r->co, ended_well);
	r->next = vm->spare;
	vm->spare = r;
	vm->nruns--;
	if (__builtin_expect(vm->doomed, 0))
		vm_idle(vm);
}

struct lua_state *run_state(struct run *r)
{
	struct lua_state *st = exch_state(r->ex, r->self);
	if (!st) {
		st = arena_zalloc(&r->ex->arena, sizeof *st);
		if (st)
			exch_state_set(r->ex, r->self, st);
	}
	return st;
}

/* The run outlives this call: the exchange's state knows it. */
static bool keep(struct run *r)
{
	if (r->kept)
		return true;
	struct lua_state *st = run_state(r);
	if (!st)
		return false;
	st->run[r->kind] = r;
	return r->kept = true;
}

void run_end(struct exchange *ex, const struct filter_cfg *self)
{
	struct lua_state *st = exch_state(ex, self);
	if (!st)
		return;
	for (int i = 0; i < 2; i++)
		if (st->run[i])
			run_drop(st->run[i], false);
	crypto_free_keys(st->keys);
	st->keys = NULL;
}

/* --- yielding --- */

void run_may_yield(lua_State *L)
{
	if (!lua_isyieldable(L))
		luaL_error(L, "attempt to yield across C-call boundary");
}

int run_yield(lua_State *L, enum pending what)
{
	run_now->pending = (uint8_t)what;
	if (L == run_now->co.L)
		return lua_yield(L, 0);
	/* In a coroutine of the script's: our coroutine.resume passes this up (libs.c). */
	lua_pushlightuserdata(L, &run_now);
	return lua_yield(L, 1);
}

/* --- policies --- */

static const struct policy *policy_of(const struct run *r, bool status)
{
	if (r->route &&
	    (status ? r->route->policy.error_status != 0 : r->route->policy.on_error >= 0))
		return &r->route->policy;
	return &((const struct lua_filter *)r->self->config)->policy;
}

static bool fails(const struct run *r)
{
	int v = policy_of(r, false)->on_error;
	return (v >= 0 ? v : (int)r->ex->model->options.lua_on_error) == ON_ERROR_FAIL;
}

static unsigned error_status(const struct run *r)
{
	unsigned n = policy_of(r, true)->error_status;
	if (!n)
		n = r->ex->model->options.lua_error_status;
	return n >= 200 && n <= 599 ? n : 500;
}

/* --- errors --- */

enum { MESSAGE_MOST = 4096 };

static void log_error(const struct vm *vm, lua_State *co, int status, bool spent)
{
	char number[32];
	struct str s = STR("unspecified lua error");
	if (status == GUARD_STOPPED)
		s = str_of(guard_text(vm));
	else if (status == GUARD_GONE)
		s = STR("the state of the scripts was given up while this one waited");
	else if (status == LUA_YIELD)
		s = STR("script performed an unexpected yield");
	else if (status == LUA_ERRMEM)
		s = STR("not enough memory");
	else if (lua_type(co, -1) == LUA_TSTRING)
		s = str_of(lua_tostring(co, -1)); /* up to a zero byte, as Envoy */
	else if (lua_type(co, -1) == LUA_TNUMBER)
		s = (struct str){number, (size_t)snprintf(number, sizeof number, "%.14g",
							  lua_tonumber(co, -1))};
	if (s.n > MESSAGE_MOST &&
	    spent) /* the places of all that the error left stand before the text */
		s = STR("not enough memory");
	if (s.n > MESSAGE_MOST)
		s.n = MESSAGE_MOST;
	if (log_on(LOG_LUA, LOG_ERROR))
		log_text(LOG_LUA, LOG_ERROR, STR("script log: "), s);
}

static int push_traceback(lua_State *L)
{
	lua_State *co = lua_touserdata(L, 1);
	luaL_traceback(L, co, NULL, 0);
	struct str s;
	s.p = lua_tolstring(L, -1, &s.n);
	log_text(LOG_LUA, LOG_DEBUG, STR("script trace: "), s);
	return 0;
}

/* The script is over, with an error. True: the exchange was answered for it. */
static bool failed(struct run *r, int status, bool spent)
{
	struct exchange *ex = r->ex;
	struct vm *vm = r->vm;
	stat_add(((const struct lua_filter *)r->self->config)->errors, 1);
	if (r->co.L) {
		log_error(vm, r->co.L, status, spent);
		if (log_on(LOG_LUA, LOG_DEBUG) && !vm->broken &&
		    vm_protect(vm, push_traceback, r->co.L))
			lua_pop(vm->L, 1);
		vm_coro_give(vm, r->env, &r->co, false);
		r->co.L = NULL;
	}
	if (vm->broken)
		log_line(LOG_LUA, LOG_ERROR,
			 "a script could only be stopped by force: starting afresh without the "
			 "scripts' globals");
	else if (spent && vm->heap.hit)
		vm_recover(vm, guard_late(vm));
	if (!spent && !fails(r))
		return false;
	exch_reply(ex, error_status(r), STR(""), "lua_error", "");
	return true;
}

/* --- running --- */

static int resume(struct run *r, int nargs, bool *spent)
{
	struct vm *vm = r->vm;
	struct run *before = run_now;
	size_t run_most = vm->heap.run_most;
	const struct options *o = &r->ex->model->options;
	if (__builtin_expect(vm_off_tune(vm), 0))
		vm_tune(vm);
	run_now = r;
	r->pending = PENDING_NONE;
	vm->heap.hit = false;
	vm->heap.run_most = vm->heap.used + (size_t)o->lua_stream_mib * 1024 * 1024;
	int status = guard_resume(vm, r->co.L, nargs, o->script_time_ms * 1000);
	vm->heap.run_most = run_most;
	run_now = before;
	/* Out of time or of memory, the scripts' or the exchange's: nothing to go on with. */
	*spent = status == GUARD_STOPPED ||
		 (status != 0 && status != LUA_YIELD && (vm->heap.hit || r->ex->arena.over));
	return status;
}

/* Pushes an object that was made before the script began to wait. */
static void push_kept(struct run *r, enum obj_place place)
{
	lua_State *co = r->co.L;
	lua_rawgeti(co, LUA_REGISTRYINDEX, r->vm->cache_ref);
	lua_rawgeti(co, -1, (int)(r->slot * PLACES + place + 1));
	lua_remove(co, -2);
}

/* A body that was walked in place goes back to where it came from, with a length that is true. */
static void body_back(struct run *r)
{
	struct leg *leg = r->leg;
	chunks_settle(r);
	chain_move(&r->done, &r->rest);
	chain_move(&r->done, &leg->held);
	chain_move(&leg->held, &r->done);
	if (!r->changed || leg->size < 0)
		return;
	leg->size = (int64_t)leg->held.n;
	if (head_has(r->head, FIELD_CONTENT_LENGTH)) {
		struct str n = arena_printf(&r->ex->arena, "%zu", leg->held.n);
		if (n.p)
			head_set_id(r->head, FIELD_CONTENT_LENGTH, n);
	}
}

/* The script has ended (well or not) and the head is still here. */
static enum verdict let_go(struct run *r, bool ended_well)
{
	if (r->in_place)
		body_back(r);
	bool ok = respond_check_head(r);
	run_drop(r, ended_well);
	return ok ? GO_ON : ANSWERED;
}

static enum verdict head_failed(struct run *r, int status, bool spent)
{
	if (!failed(r, status, spent))
		return let_go(r, false);
	run_drop(r, false);
	return ANSWERED;
}

static enum verdict wait_for_body(struct run *r)
{
	struct exchange *ex = r->ex;
	enum leg_kind k = (enum leg_kind)r->kind;
	exch_gather(ex, k, 0);
	if (!exch_gathered(ex, k))
		return WAIT;
	run_drop(r, false); /* here whole, and larger than may be gathered (buffer.c) */
	exch_fail(ex, k == LEG_REQUEST ? FAILED_BODY_TOO_LARGE : FAILED_ANSWER_TOO_LARGE);
	return ANSWERED;
}

/* Runs a script whose head is here. */
static enum verdict head_step(struct run *r, int nargs)
{
	bool spent;
	int status = resume(r, nargs, &spent);
	if (__builtin_expect(status == 0, 1))
		return let_go(r, true);
	if (status != LUA_YIELD || r->pending == PENDING_NONE)
		return head_failed(r, status, spent);
	if (r->pending == PENDING_RESPOND) {
		respond_send(r);
		run_drop(r, false);
		return ANSWERED;
	}
	if (!keep(r))
		return head_failed(r, LUA_ERRMEM, true);
	switch (r->pending) {
	case PENDING_BODY: return wait_for_body(r);
	case PENDING_WHOLE: exch_gather(r->ex, (enum leg_kind)r->kind, CHUNKS_WHOLE); return WAIT;
	case PENDING_CALL: return WAIT;
	default: /* the rest of the message will be seen as it passes */
		r->continued = r->streaming = true;
		if (!respond_check_head(r)) {
			run_drop(r, false);
			return ANSWERED;
		}
		exch_watch_body(r->ex, r->self, (enum leg_kind)r->kind);
		return GO_ON;
	}
}

/* The script has ended while bytes pass. */
static enum verdict body_over(struct run *r, struct chain *batch, bool ended_well)
{
	chunks_settle(r);
	chain_move(&r->done, batch);
	chain_move(batch, &r->done);
	exch_unwatch_body(r->ex, r->self, (enum leg_kind)r->kind);
	run_drop(r, ended_well);
	return GO_ON;
}

/* Runs a script that has let the head go: nargs values are ready for it (-1: it waits for the
 * batch). What the batch becomes
 * lies in *batch when the verdict is GO_ON. */
static enum verdict body_step(struct run *r, int nargs, struct chain *batch)
{
	for (;;) {
		if (nargs >= 0) {
			bool spent;
			int status = resume(r, nargs, &spent);
			if (status == 0)
				return body_over(r, batch, true);
			if (status != LUA_YIELD || r->pending == PENDING_NONE) {
				if (!failed(r, status, spent))
					return body_over(r, batch, false);
				run_drop(r, false);
				return ANSWERED;
			}
		}
		switch (r->pending) {
		case PENDING_CALL: return WAIT;
		case PENDING_CHUNK:
			nargs = chunks_step(r, batch, r->batch_end);
			if (nargs < 0) {
				chunks_settle(r);
				chain_move(batch, &r->done);
				return GO_ON;
			}
			if (nargs)
				push_kept(r, PLACE_CHUNK);
			break;
		default:
			must(r->pending == PENDING_TRAILERS);
			r->saw_body |= batch->n > 0;
			if (!r->batch_end)
				return GO_ON;
			r->saw_body = r->end_stream = true;
			if (r->leg->trailers && head_join_single(r->leg->trailers))
				push_kept(r, PLACE_TRAILERS);
			else
				lua_pushnil(r->co.L);
			nargs = 1;
		}
	}
}

/* --- hooks --- */

static const struct script *choose(const struct lua_filter *f, const struct lua_route *rc)
{
	if (!rc || (!rc->disabled && !rc->name.p && !rc->script))
		return f->script;
	if (rc->disabled)
		return NULL;
	if (rc->script)
		return rc->script;
	for (unsigned i = 0; i < f->nnamed; i++)
		if (str_eq(f->named[i].name, rc->name))
			return f->named[i].script;
	return NULL; /* an unknown name runs nothing */
}

/* Nothing for the script to wait for: the message has no body. */
static bool bodiless(const struct exchange *ex, enum leg_kind k, const struct leg *leg)
{
	return leg->size == 0 || (k == LEG_RESPONSE && (ex->is_head || ex->tunnel));
}

/* No VM, no coroutine, no run: as a script that ran out of memory. */
static enum verdict no_memory(struct exchange *ex, const struct lua_filter *f)
{
	stat_add(f->errors, 1);
	log_limited(LOG_LUA, LOG_ERROR, "lua memory", "script not run: not enough memory");
	exch_reply(ex, 500, STR(""), "lua_error", "");
	return ANSWERED;
}

static enum verdict hook(struct exchange *ex, const struct filter_cfg *self, enum leg_kind k)
{
	const struct lua_filter *f = self->config;
	const struct lua_route *rc = exch_route_config(ex, self);
	const struct script *s = choose(f, rc);
	if (!s)
		return GO_ON;
	struct vm *vm = vm_of(ex->env, ex->model);
	struct script_env *e = vm ? vm_script(vm, s, NULL, NULL) : NULL;
	if (!e || e->failed)
		return no_memory(ex, f);
	if (e->hook[k] == LUA_NOREF)
		return GO_ON;
	struct run *r = run_take(vm);
	if (!r)
		return no_memory(ex, f);
	r->ex = ex;
	r->self = self;
	r->kind = (uint8_t)k;
	r->leg = exch_leg(ex, k);
	r->head = &r->leg->head;
	r->env = e;
	r->route = rc;
	r->end_stream = bodiless(ex, k, r->leg);
	if (!vm_coro_take(vm, e, &r->co)) {
		run_drop(r, false);
		return no_memory(ex, f);
	}
	stat_add(f->executions, 1);
	lua_rawgeti(r->co.L, LUA_REGISTRYINDEX, vm->start_ref);
	lua_rawgeti(r->co.L, LUA_REGISTRYINDEX, e->hook[k]);
	return head_step(r, 1);
}

enum verdict run_request(struct exchange *ex, const struct filter_cfg *self)
{
	return hook(ex, self, LEG_REQUEST);
}

enum verdict run_response(struct exchange *ex, const struct filter_cfg *self)
{
	return hook(ex, self, LEG_RESPONSE);
}

/* What arrived while a call was under way, and was not asked for, has gone by as far as the script
 * may know (5.1). */
static void note_arrivals(struct run *r)
{
	enum leg_kind k = (enum leg_kind)r->kind;
	if (r->buffered || r->continued || r->end_stream)
		return;
	if (exch_gathered(r->ex, k))
		r->saw_body = r->end_stream = r->leg->whole = true;
	else if (exch_held(r->ex, k)->n > 0)
		r->saw_body = true;
}

/* The script waited in a VM that another one broke. */
static enum verdict vm_gone(struct run *r)
{
	failed(r, GUARD_GONE, true);
	run_drop(r, false);
	return ANSWERED;
}

enum verdict run_resume(struct exchange *ex, const struct filter_cfg *self, enum leg_kind k)
{
	struct lua_state *st = exch_state(ex, self);
	struct run *r = st ? st->run[k] : NULL;
	int nargs = 1;
	bool ok = true;
	if (!r)
		return GO_ON;
	if (__builtin_expect(r->vm->broken, 0))
		return vm_gone(r);
	switch (r->pending) {
	case PENDING_BODY:
		if (!exch_gathered(ex, k))
			return WAIT;
		if (buffer_absent(r)) {
			lua_pushnil(r->co.L);
			break;
		}
		r->saw_body = r->end_stream = r->leg->whole = true;
		push_kept(r, PLACE_BODY);
		break;
	case PENDING_WHOLE:
		if (!exch_gathered(ex, k))
			return WAIT;
		nargs = chunks_whole(r);
		if (nargs)
			push_kept(r, PLACE_CHUNK);
		break;
	case PENDING_CALL:
		if (!httpcall_done(r->call))
			return WAIT;
		note_arrivals(r);
		ok = httpcall_results(r, r->co.L, &nargs);
		break;
	default: return r->streaming ? GO_ON : WAIT;
	}
	if (!ok || r->vm->doomed) { /* the VM is given up; those who wait in it get an error */
		r->vm->heap.hit = true;
		lua_settop(r->co.L, 0);
		if (!failed(r, LUA_ERRMEM, true))
			return GO_ON;
		run_drop(r, false);
		return ANSWERED;
	}
	return r->streaming ? body_step(r, nargs, &r->leg->batch) : head_step(r, nargs);
}

enum verdict run_body(struct exchange *ex, const struct filter_cfg *self, enum leg_kind k,
		      struct chain *batch, bool end)
{
	struct lua_state *st = exch_state(ex, self);
	struct run *r = st ? st->run[k] : NULL;
	if (!r || !r->streaming) {
		exch_unwatch_body(ex, self, k);
		return GO_ON;
	}
	if (__builtin_expect(r->vm->broken, 0))
		return vm_gone(r);
	r->stage = 0;
	r->batch_end = end;
	return body_step(r, -1, batch);
}
