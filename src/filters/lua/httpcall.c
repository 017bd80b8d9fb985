/* src/filters/lua/httpcall.c: httpCall() (lua-filter.md 6).
 *
 * A call has its own arena: it may outlive the exchange (asynchronous). Events of the upstream
 * only mark; a task takes them up in phase 3. A synchronous call belongs to a run; when the
 * exchange ends first, the run cancels it.
 */
#include "base/mem.h"
#include "base/must.h"
#include "filters/lua/lua_int.h"
#include <math.h>
#include <stdio.h>

#define TIMEOUT_MOST_US 300000000ull /* of a call without limit of its own, robustness.md 4 */

struct lua_call {
	struct lua_call *next, **at; /* in vm->calls */
	struct vm *vm;
	struct exch_env *env;
	struct arena arena;
	struct head head;
	struct call *call;
	struct run *run; /* NULL: asynchronous, or nobody waits any more */
	struct task task;
	size_t body_most;
	bool done, duplicates, too_large;
};

/* --- life --- */

static struct lua_call *call_new(struct vm *vm)
{
	struct lua_call *c = vm->spare_calls;
	if (c)
		vm->spare_calls = c->next;
	else if (!(c = mem_alloc(MEM_LUA, sizeof *c)))
		return NULL;
	*c = (struct lua_call){.vm = vm, .env = vm->env, .next = vm->calls, .at = &vm->calls};
	arena_init(&c->arena, 4u << 20);
	if (vm->calls)
		vm->calls->at = &c->next;
	vm->calls = c;
	vm->ncalls++;
	return c;
}

static void call_free(struct lua_call *c)
{
	struct vm *vm = c->vm;
	if (c->call)
		call_cancel(c->call);
	task_drop(c->env->loop, &c->task);
	arena_fini(&c->arena);
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	c->next = vm->spare_calls;
	vm->spare_calls = c;
	vm->ncalls--;
	vm_idle(vm);
}

void httpcall_cancel(struct lua_call *c)
{
	call_free(c);
}

void httpcall_drop_all(struct vm *vm)
{
	vm->preparing = NULL;
	while (vm->calls)
		call_free(vm->calls);
	while (vm->spare_calls) {
		struct lua_call *c = vm->spare_calls;
		vm->spare_calls = c->next;
		mem_free(MEM_LUA, c);
	}
}

bool httpcall_done(const struct lua_call *c)
{
	return c->done;
}

/* Phase 3: what an event marked. */
static void act(struct task *t)
{
	struct lua_call *c = (struct lua_call *)((char *)t - offsetof(struct lua_call, task));
	struct call *u = c->call;
	if (c->done)
		return;
	if (!c->run) { /* the outcome interests nobody */
		chain_clear(&u->in);
		if (u->ended || u->failed)
			call_free(c);
		else
			call_took(u);
		return;
	}
	if (u->in.n > c->body_most)
		c->too_large = true;
	else if (!u->ended && !u->failed)
		return;
	c->done = true;
	exch_wake(c->run->ex, c->run->self, (enum leg_kind)c->run->kind);
}

static void event(struct call *u)
{
	struct lua_call *c = u->owner;
	later(c->env->loop, PHASE_RUN, &c->task);
}

/* --- arguments --- */

struct call_options {
	double timeout_ms;
	bool asynchronous, duplicates, xff;
};

/* Where Envoy has the key and the value of an option on its stack: its messages say so. */
enum { AT_KEY = 7, AT_VALUE = 8 };

static _Noreturn void bad_option(lua_State *L, int at, const char *wanted, int got)
{
	luaL_argerror(L, at,
		      lua_pushfstring(L, "%s expected, got %s", wanted, luaL_typename(L, got)));
	must_fail("luaL_argerror returns", __FILE__, __LINE__);
}

/* Milliseconds, their fraction cut off. */
static double timeout_arg(lua_State *L, int at, bool option)
{
	if (option && !lua_isnumber(L, at))
		bad_option(L, AT_VALUE, "number", at);
	double ms = luaL_checknumber(L, at);
	if (!(ms > -1))
		luaL_error(L, "http call timeout must be >= 0");
	return ms < 0 ? 0 : ms;
}

static void read_options(lua_State *L, int at, struct call_options *o)
{
	lua_pushnil(L);
	while (lua_next(L, at)) {
		if (!lua_isstring(L, -2))
			bad_option(L, AT_KEY, "string", -2);
		const char *key = lua_tostring(L, -2); /* no number comes past the last error */
		bool flag = lua_toboolean(L, -1);
		if (strcmp(key, "timeout_ms") == 0)
			o->timeout_ms = timeout_arg(L, lua_gettop(L), true);
		else if (strcmp(key, "asynchronous") == 0)
			o->asynchronous = flag;
		else if (strcmp(key, "return_duplicate_headers") == 0)
			o->duplicates = flag;
		else if (strcmp(key, "send_xff") == 0)
			o->xff = flag;
		else if (strcmp(key, "trace_sampled") != 0)
			luaL_error(L, "\"%s\" is not valid key for httpCall() options", key);
		lua_pop(L, 1);
	}
}

static void read_arguments(lua_State *L, struct call_options *o)
{
	*o = (struct call_options){.xff = true};
	if (lua_istable(L, 5)) {
		read_options(L, 5, o);
		return;
	}
	if (lua_gettop(L) >= 6) {
		if (!lua_isboolean(L, 6))
			luaL_error(L,
				   "http call asynchronous flag must be 'true', 'false', or empty");
		o->asynchronous = lua_toboolean(L, 6);
	}
	o->timeout_ms = timeout_arg(L, 5, false);
}

/* The host part of our own end of the client's connection. */
static struct str own_address(const struct exchange *ex)
{
	struct str a = ex->peer->local;
	const char *colon = a.n ? memrchr(a.p, ':', a.n) : NULL;
	if (!colon)
		return STR("127.0.0.1");
	a.n = (size_t)(colon - a.p);
	if (a.n > 2 && a.p[0] == '[')
		a = (struct str){a.p + 1, a.n - 2};
	return a;
}

/* What Envoy's client adds to the script's fields. */
static bool add_own_fields(struct lua_call *c, const struct exchange *ex,
			   const struct call_options *o, uint64_t timeout_ms)
{
	struct head *h = &c->head;
	if (o->xff) {
		struct str own = own_address(ex), old = head_value(h, FIELD_X_FORWARDED_FOR);
		size_t n = old.p ? old.n + 1 : 0;
		char *p = arena_alloc(&c->arena, n + own.n);
		if (!p)
			return false;
		if (n) {
			memcpy(p, old.p, old.n);
			p[old.n] = ',';
		}
		memcpy(p + n, own.p, own.n);
		if (!head_set_id(h, FIELD_X_FORWARDED_FOR, (struct str){p, n + own.n}))
			return false;
	}
	if (!head_set_id(h, FIELD_X_ENVOY_INTERNAL, STR("true")))
		return false;
	if (timeout_ms) {
		struct str t = obj_decimal(&c->arena, timeout_ms);
		if (!t.p || !head_set_id(h, FIELD_X_ENVOY_EXPECTED_TIMEOUT, t))
			return false;
	}
	return head_has(h, FIELD_SCHEME) || head_add_id(h, FIELD_SCHEME, STR("http"));
}

/* --- the call --- */

/* A call of which only the head is filled. An error in the script's table leaves it to the next
 * one. */
static struct lua_call *prepare(lua_State *L, struct vm *vm)
{
	struct lua_call *c = vm->preparing;
	if (!c) {
		c = vm->preparing = call_new(vm);
		if (!c)
			obj_no_memory(L);
	} else {
		arena_fini(&c->arena);
		arena_init(&c->arena, 4u << 20);
	}
	if (!head_init(&c->head, &c->arena, false, 24))
		obj_no_memory(L);
	headers_from_table(L, 3, &c->head, true);
	if (!head_has(&c->head, FIELD_METHOD) || !head_has(&c->head, FIELD_PATH) ||
	    !head_has(&c->head, FIELD_AUTHORITY))
		luaL_error(L,
			   "http call headers must include ':path', ':method', and ':authority'");
	if (!respond_request_ok(&c->head))
		luaL_error(L, "http call headers ':path', ':method' or ':authority' are invalid");
	return c;
}

/* A policy that retries nothing: Envoy's client does not either, not even on a connection that was
 * lost. */
static const struct retry_policy no_retry;

int httpcall_handle(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	struct run *r = run_now;
	struct vm *vm = r->vm;
	struct exchange *ex = r->ex;
	struct call_options o;
	read_arguments(L, &o);
	struct str cluster_name = obj_str(L, 2), body = {NULL, 0};
	luaL_checktype(L, 3, LUA_TTABLE);
	bool has_body = !lua_isnil(L, 4);
	if (has_body)
		body = obj_str(L, 4);
	const struct cluster_cfg *cluster = cluster_find(ex->model, cluster_name);
	if (!cluster)
		return luaL_error(L, "http call cluster invalid. Must be configured");
	if (!o.asynchronous)
		run_may_yield(L);
	if (vm->ncalls >= ex->model->options.max_calls)
		return luaL_error(L, "too many http calls in flight");
	struct lua_call *c = prepare(L, vm);
	uint64_t ms = o.timeout_ms >= 1e15 ? 0 : (uint64_t)o.timeout_ms,
		 most = ex->hcm->max_stream_duration_us;
	if (!add_own_fields(c, ex, &o, ms))
		obj_no_memory(L);
	if (!most)
		most = TIMEOUT_MOST_US;
	enum method m = (enum method)c->head.method;
	bool announced = has_body || !method_is_bare(m);
	struct chain bytes = {0};
	if (body.n && !chain_copy(&bytes, body.p, body.n))
		obj_no_memory(L);
	struct call_request rq = {.model = ex->model,
				  .cluster = cluster,
				  .head = &c->head,
				  .arena = &c->arena,
				  .ended = body.n == 0,
				  .length = announced ? (int64_t)body.n : -1,
				  .timeout_us = ms ? ms * 1000 : most,
				  .retry = &no_retry,
				  .no_interim = true,
				  .sheddable = true};
	c->task = (struct task){.run = act};
	c->duplicates = o.duplicates;
	c->body_most = ex->model->options.max_call_body_bytes;
	c->call = call_open(ex->env->upstream, &rq, event, c);
	if (!c->call) {
		chain_clear(&bytes);
		obj_no_memory(L);
	}
	vm->preparing = NULL;
	if (body.n)
		call_send(c->call, &bytes, true, NULL);
	if (o.asynchronous)
		return 0;
	call_gather(c->call, c->body_most + 1);
	c->run = r;
	r->call = c;
	r->called = true;
	return run_yield(L, PENDING_CALL);
}

/* --- results --- */

/* Sets t[name] = value in the table on top; repeated names: the last value, or a list of all. */
static void set_field(lua_State *L, const struct field *f, bool duplicates, int table)
{
	headers_push_name(L, table, f);
	if (!duplicates) {
		lua_pushlstring(L, f->value_p, f->value_n);
		lua_rawset(L, -3);
		return;
	}
	lua_pushvalue(L, -1);
	lua_rawget(L, -3);
	if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		lua_pushlstring(L, f->value_p, f->value_n);
		lua_rawset(L, -3);
		return;
	}
	if (!lua_istable(L, -1)) { /* the second one: a list begins */
		lua_createtable(L, 2, 0);
		lua_insert(L, -2);
		lua_rawseti(L, -2, 1);
		lua_pushvalue(L, -2);
		lua_pushvalue(L, -2);
		lua_rawset(L, -5);
	}
	lua_pushlstring(L, f->value_p, f->value_n);
	lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
	lua_pop(L, 2);
}

static void set_text(lua_State *L, const char *name, const char *value)
{
	lua_pushstring(L, value);
	lua_setfield(L, -2, name);
}

/* A failure looks like a response (lua-filter.md 6). */
static void push_failure(lua_State *L, const struct lua_call *c)
{
	const struct call *u = c->call;
	const struct failure_info *why = &failure_infos[u->failure];
	char number[24];
	bool in_body = u->has_head && u->failure != FAILED_TIMEOUT;
	lua_createtable(L, 0, 5);
	if (c->too_large || in_body) {
		set_text(L, ":status", "503");
		lua_pushstring(L, c->too_large ? "response body too large" : "upstream failure");
		return;
	}
	snprintf(number, sizeof number, "%u", why->status ? why->status : 503u);
	set_text(L, ":status", number);
	snprintf(number, sizeof number, "%zu", strlen(why->text));
	set_text(L, "content-length", number);
	if (*why->text)
		set_text(L, "content-type", "text/plain");
	lua_pushlstring(L, loop_http_date(c->env->loop), 29);
	lua_setfield(L, -2, "date");
	set_text(L, "server", "envoy");
	if (*why->text)
		lua_pushstring(L, why->text);
	else
		lua_pushnil(L);
}

static _Thread_local struct lua_call *building;

/* Builds the two results on the main state: running out of memory there is an ordinary error. */
int httpcall_build(lua_State *L)
{
	struct lua_call *c = building;
	struct call *u = c->call;
	lua_rawgeti(L, LUA_REGISTRYINDEX, c->vm->table_ref);
	int table = lua_gettop(L);
	if (u->failed || c->too_large) {
		push_failure(L, c);
		return 2;
	}
	if (!head_join_single(u->head))
		return luaL_error(L, "not enough memory");
	lua_createtable(L, 0, u->head->n);
	for (unsigned i = 0; i < u->head->n; i++)
		set_field(L, &u->head->f[i], c->duplicates, table);
	struct str flat;
	if (u->in.n == 0)
		lua_pushnil(L);
	else if (chain_flat(&u->in, &flat))
		lua_pushlstring(L, flat.p, flat.n);
	else
		return luaL_error(L, "not enough memory");
	return 2;
}

bool httpcall_results(struct run *r, lua_State *to, int *n)
{
	struct lua_call *c = r->call;
	lua_State *L = r->vm->L;
	r->call = NULL;
	building = c;
	lua_rawgeti(L, LUA_REGISTRYINDEX, r->vm->call_ref);
	bool ok = lua_pcall(L, 0, 2, 0) == 0;
	if (ok)
		lua_xmove(L, to, 2);
	else
		lua_pop(L, 1);
	*n = 2;
	call_free(c);
	return ok;
}
