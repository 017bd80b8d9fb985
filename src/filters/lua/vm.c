/* src/filters/lua/vm.c: one worker's Lua state and the scripts in it. */
#include "base/mem.h"
#include "base/must.h"
#include "filters/lua/lua_int.h"

enum {
	LOAD_TIME_US = 1000000,
	ROOMY = 300,
	FRUGAL = 120 /* percent of what is alive, when the next collection begins */
};

/* --- setting up --- */

static int panic(lua_State *L)
{
	const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "?";
	log_line(LOG_LUA, LOG_CRITICAL, "error outside of protected code: %s", text);
	must_fail("Lua code runs protected", __FILE__, __LINE__);
}

/* What a hook is called with. */
static int new_handle(lua_State *L)
{
	obj_new(L, OBJ_HANDLE);
	return 1;
}

/* Stack: 1 number table, 2 cache table. Called in the coroutine, where running out of memory is the
 * script's error. */
static void make_start(lua_State *L, struct vm *vm)
{
	static const char text[] =
		"local handle = ... return function(hook) return hook(handle()) end";
	if (luaL_loadbuffer(L, text, sizeof text - 1, "=postern"))
		lua_error(L);
	lua_pushvalue(L, 1);
	lua_pushvalue(L, 2);
	lua_pushcclosure(L, new_handle, 2);
	lua_call(L, 1, 1);
	vm->start_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

static void learn(struct vm *vm, const char *p, uint32_t id)
{
	unsigned i = (unsigned)((uintptr_t)p >> 3) * 0x9E3779B1u >> 23;
	while (vm->names[i].p)
		i = (i + 1) % NAME_SLOTS;
	vm->names[i] = (struct name_slot){p, id};
}

static int setup(lua_State *L)
{
	struct vm *vm = lua_touserdata(L, 1);
	lua_settop(L, 0);
	lua_createtable(L, TABLE_NAMES + FIELD_IDS, 0);
	lua_createtable(L, 4 * PLACES, 0);
	for (int id = 1; id < FIELD_IDS; id++) {
		lua_pushlstring(L, name_infos[id].name, name_infos[id].n);
		learn(vm, lua_tostring(L, -1), (uint32_t)id);
		learn(vm, name_infos[id].name, (uint32_t)id);
		lua_rawseti(L, 1, TABLE_NAMES + id);
	}
	handle_methods(L);
	headers_methods(L);
	buffer_methods(L);
	metadata_obj_methods(L);
	streaminfo_methods(L);
	connection_methods(L);
	stats_obj_methods(L);
	crypto_methods(L);
	libs_open(L, vm);
	/* guard.c says why; the library "jit" had switched it on */
	luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
	lua_gc(L, LUA_GCSETPAUSE, ROOMY);
	presize_learn(L, &vm->presize);
	make_start(L, vm);
	lua_pushcfunction(L, httpcall_build);
	vm->call_ref = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_newtable(L); /* chunks by source; those that no script holds may go */
	lua_newtable(L);
	lua_pushliteral(L, "v");
	lua_setfield(L, -2, "__mode");
	lua_setmetatable(L, -2);
	vm->chunks_ref = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_pushvalue(L, 2);
	vm->cache_ref = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_pushvalue(L, 1);
	vm->table_ref = luaL_ref(L, LUA_REGISTRYINDEX);
	return 0;
}

int vm_protect(struct vm *vm, lua_CFunction fn, void *arg)
{
	return lua_cpcall(vm->L, fn, arg);
}

struct vm *vm_new(struct exch_env *env, size_t limit)
{
	struct vm *vm = mem_zalloc(MEM_LUA, sizeof *vm);
	if (!vm)
		return NULL;
	vm->env = env;
	vm->seen_epoch = atomic_load(&script_epoch);
	if (heap_init(&vm->heap, limit))
		vm->L = lua_newstate(heap_alloc, &vm->heap);
	vm->heap.opening = false;
	if (!vm->L) {
		heap_fini(&vm->heap);
		mem_free(MEM_LUA, vm);
		return NULL;
	}
	lua_atpanic(vm->L, panic);
	if (vm_protect(vm, setup, vm)) {
		log_line(LOG_LUA, LOG_ERROR, "no Lua state: %s", lua_tostring(vm->L, -1));
		vm_free(vm);
		return NULL;
	}
	vm->guard = guard_new(vm);
	if (!vm->guard) {
		log_line(LOG_LUA, LOG_ERROR, "no Lua state: no timer for its processor time");
		vm_free(vm);
		return NULL;
	}
	return vm;
}

/* --- scripts --- */

static void env_free(struct vm *vm, struct script_env *e)
{
	lua_State *L = vm->L;
	if (!vm->broken) {
		for (unsigned i = 0; i < e->npool; i++)
			luaL_unref(L, LUA_REGISTRYINDEX, e->pool[i].ref);
		luaL_unref(L, LUA_REGISTRYINDEX, e->globals_ref);
		luaL_unref(L, LUA_REGISTRYINDEX, e->chunk_ref);
		luaL_unref(L, LUA_REGISTRYINDEX, e->hook[0]);
		luaL_unref(L, LUA_REGISTRYINDEX, e->hook[1]);
	}
	if (!e->failed)
		stat_sub(script_gauge(), 1);
	mem_free(MEM_LUA, e);
}

static void env_retire(struct vm *vm, struct script_env *e)
{
	vm->envs[e->id] = NULL;
	if (e->users)
		e->dead = true;
	else
		env_free(vm, e);
}

struct loading {
	struct vm *vm;
	const struct script *script;
	struct script_env *env;
};

static void push_chunk(lua_State *L, struct vm *vm, const struct script *s)
{
	lua_rawgeti(L, LUA_REGISTRYINDEX, vm->chunks_ref);
	lua_pushlstring(L, s->source.p, s->source.n);
	lua_pushvalue(L, -1);
	lua_rawget(L, -3);
	if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		if (luaL_loadbufferx(L, s->source.p, s->source.n, s->chunk_name, "t"))
			lua_error(L);
		/* It does without what it cannot have, but LuaJIT does not get over an allocation
		 * that was refused while it read a dump. */
		bool was = vm->heap.hit;
		vm->heap.hit = false;
		presize_function(L, &vm->presize, s->chunk_name);
		if (vm->heap.hit)
			luaL_error(L, "not enough memory");
		vm->heap.hit = was;
		lua_pushvalue(L, -2);
		lua_pushvalue(L, -2);
		lua_rawset(L, -5);
	}
	lua_replace(L, -3);
	lua_pop(L, 1);
}

static int hook_ref(lua_State *L, int globals, const char *name)
{
	lua_pushstring(L, name);
	lua_rawget(L, globals);
	if (lua_isfunction(L, -1))
		return luaL_ref(L, LUA_REGISTRYINDEX);
	lua_pop(L, 1);
	return LUA_NOREF;
}

/* Protected. The chunk runs in a coroutine, so that the globals of that thread are the script's
 * own. */
static int load(lua_State *L)
{
	struct loading *l = lua_touserdata(L, 1);
	struct vm *vm = l->vm;
	struct script_env *e = l->env;
	push_chunk(L, vm, l->script);     /* 2 */
	libs_globals(L, vm, l->script);   /* 3 */
	lua_State *co = lua_newthread(L); /* 4 */
	lua_pushvalue(L, 3);
	lua_setfenv(L, 4);
	lua_pushvalue(L, 3);
	lua_setfenv(L, 2);
	lua_pushvalue(L, 2);
	lua_xmove(L, co, 1);
	struct run *before = run_now;
	int status = guard_resume(vm, co, 0, LOAD_TIME_US);
	must(run_now == before);
	if (status == GUARD_STOPPED)
		return luaL_error(L, "%s", guard_text(vm));
	if (status == LUA_YIELD)
		return luaL_error(L, "attempt to yield while loading");
	if (status) {
		if (lua_type(co, -1) != LUA_TSTRING)
			return luaL_error(L, "unspecified lua error");
		lua_xmove(co, L, 1);
		return lua_error(L);
	}
	libs_after_load(L, 3);
	e->hook[LEG_REQUEST] = hook_ref(L, 3, "envoy_on_request");
	e->hook[LEG_RESPONSE] = hook_ref(L, 3, "envoy_on_response");
	lua_settop(L, 3);
	e->globals_ref = luaL_ref(L, LUA_REGISTRYINDEX);
	e->chunk_ref = luaL_ref(L, LUA_REGISTRYINDEX);
	return 0;
}

static struct script_env *load_script(struct vm *vm, const struct script *s, struct arena *a,
				      struct str *error)
{
	if (s->id >= vm->nenvs) {
		unsigned n = vm->nenvs ? vm->nenvs : 8;
		while (n <= s->id)
			n *= 2;
		void *p = mem_realloc(MEM_LUA, vm->envs, n * sizeof *vm->envs);
		if (!p)
			return NULL;
		vm->envs = p;
		memset(vm->envs + vm->nenvs, 0, (n - vm->nenvs) * sizeof *vm->envs);
		vm->nenvs = n;
	}
	if (vm->envs[s->id])
		env_retire(vm, vm->envs[s->id]);
	struct script_env *e = mem_zalloc(MEM_LUA, sizeof *e);
	if (!e)
		return NULL;
	*e = (struct script_env){.script = s,
				 .id = s->id,
				 .serial = s->serial,
				 .globals_ref = LUA_NOREF,
				 .chunk_ref = LUA_NOREF,
				 .hook = {LUA_NOREF, LUA_NOREF}};
	struct loading l = {vm, s, e};
	if (vm_protect(vm, load, &l)) {
		struct str text = STR("unspecified lua error");
		e->failed = true;
		if (lua_type(vm->L, -1) == LUA_TSTRING)
			text.p = lua_tolstring(vm->L, -1, &text.n);
		if (error)
			*error = arena_str(a, text);
		else
			log_line(LOG_LUA, LOG_ERROR, "script load error: %.*s", STR_ARG(text));
		lua_pop(vm->L, 1);
	}
	vm->envs[s->id] = e;
	if (!e->failed)
		stat_add(script_gauge(), 1);
	return e;
}

struct script_env *vm_script(struct vm *vm, const struct script *s, struct arena *a,
			     struct str *error)
{
	struct script_env *e = s->id < vm->nenvs ? vm->envs[s->id] : NULL;
	if (__builtin_expect(e && e->serial == s->serial, 1))
		return e;
	return load_script(vm, s, a, error);
}

/* Scripts have gone from the process: their globals go from this VM. */
static void sweep(struct vm *vm)
{
	vm->seen_epoch = atomic_load(&script_epoch);
	for (unsigned i = 0; i < vm->nenvs; i++)
		if (vm->envs[i] && !script_alive(i, vm->envs[i]->serial))
			env_retire(vm, vm->envs[i]);
}

/* --- garbage --- */

/* Marking what is alive costs the same each time: with little alive it is done seldom (some
 * megabytes of garbage), with much early enough that garbage alone never meets a run's limit. */
void vm_tune(struct vm *vm)
{
	if (vm->collect_late)
		vm_recover(vm, false);
	vm->frugal = !vm->frugal;
	lua_gc(vm->L, LUA_GCSETPAUSE, vm->frugal ? FRUGAL : ROOMY);
	if (vm->frugal)
		lua_gc(vm->L, LUA_GCRESTART, 0);
}

/* --- coroutines --- */

struct making {
	struct vm *vm;
	struct script_env *env;
	struct coro *co;
};

static int make_coro(lua_State *L)
{
	struct making *m = lua_touserdata(L, 1);
	lua_State *co = lua_newthread(L);
	lua_rawgeti(L, LUA_REGISTRYINDEX, m->env->globals_ref);
	lua_setfenv(L, -2);
	lua_rawgeti(L, LUA_REGISTRYINDEX, m->vm->hosted_ref); /* scripts may not resume it */
	lua_pushvalue(L, -2);
	lua_pushboolean(L, 1);
	lua_rawset(L, -3);
	lua_pop(L, 1);
	m->co->ref = luaL_ref(L, LUA_REGISTRYINDEX);
	m->co->L = co;
	return 0;
}

bool vm_coro_take(struct vm *vm, struct script_env *e, struct coro *co)
{
	e->users++;
	if (__builtin_expect(e->npool, 1)) {
		*co = e->pool[--e->npool];
		return true;
	}
	struct making m = {vm, e, co};
	if (vm_protect(vm, make_coro, &m) == 0)
		return true;
	lua_pop(vm->L, 1);
	e->users--;
	co->L = NULL;
	return false;
}

void vm_coro_give(struct vm *vm, struct script_env *e, struct coro *co, bool alive)
{
	if (__builtin_expect(alive && e->npool < CORO_POOL && !e->dead, 1)) {
		lua_settop(co->L, 0);
		e->pool[e->npool++] = *co;
	} else if (!vm->broken) {
		luaL_unref(vm->L, LUA_REGISTRYINDEX, co->ref);
	}
	if (--e->users == 0 && e->dead)
		env_free(vm, e);
}

/* --- life --- */

static void vm_free_one(struct vm *vm)
{
	vm->doomed = false; /* no call that goes now comes back here (vm_idle) */
	guard_free(vm->guard);
	if (vm->env)
		httpcall_drop_all(vm);
	for (unsigned i = 0; i < vm->nenvs; i++)
		if (vm->envs[i]) {
			if (!vm->envs[i]->failed)
				stat_sub(script_gauge(), 1);
			mem_free(MEM_LUA, vm->envs[i]);
		}
	mem_free(MEM_LUA, vm->envs);
	/* Only files of scripts at full trust have anything to say at their end; all memory goes with the
	 * heap, at once instead of piece by piece. */
	if (vm->full_open && !vm->broken)
		lua_close(vm->L);
	while (vm->spare) {
		struct run *r = vm->spare;
		vm->spare = r->next;
		mem_free(MEM_LUA, r);
	}
	heap_fini(&vm->heap);
	mem_free(MEM_LUA, vm);
}

void vm_free(struct vm *vm)
{
	while (vm) {
		struct vm *older = vm->older;
		vm_free_one(vm);
		vm = older;
	}
}

static void free_all(void *vm)
{
	vm_free(vm);
}

static bool unused(const struct vm *vm)
{
	return vm->nruns == 0 && vm->ncalls == (vm->preparing != NULL);
}

void vm_idle(struct vm *vm)
{
	if (!vm->doomed || !unused(vm) || vm->env->lua == vm)
		return;
	struct vm *v = vm->env->lua;
	while (v->older != vm)
		v = v->older;
	v->older = vm->older;
	vm_free_one(vm);
}

static int collect(lua_State *L)
{
	lua_gc(L, LUA_GCCOLLECT, 0);
	return 0;
}

static void collect_all(void *p)
{
	for (struct vm *vm = p; vm; vm = vm->older)
		if (vm_protect(vm, collect, NULL))
			lua_pop(vm->L, 1);
}

struct vm *vm_of(struct exch_env *env, const struct model *m)
{
	struct vm *vm = env->lua;
	if (__builtin_expect(vm && !vm->doomed, 1)) {
		if (__builtin_expect(vm->seen_epoch != atomic_load_explicit(&script_epoch,
									    memory_order_relaxed),
				     0))
			sweep(vm);
		return vm;
	}
	struct vm *fresh = vm_new(env, (size_t)m->options.lua_worker_mib << 20);
	if (!fresh)
		return NULL;
	env->lua = fresh;
	env->lua_free = free_all;
	env->lua_collect = collect_all;
	fresh->older = vm;
	if (vm)
		vm_idle(vm);
	return fresh;
}

void vm_recover(struct vm *vm, bool late)
{
	size_t much = vm->heap.limit - vm->heap.limit / 8;
	vm->heap.hit = vm->collect_late = false;
	/* the run's own limit: the collector will find what it leaves */
	if (vm->heap.used <= much) {
		lua_gc(vm->L, LUA_GCRESTART, 0);
		return;
	}
	if (late) { /* a whole collection takes as long as half a run: not after one */
		vm->collect_late = true;
		vm->frugal = false; /* vm_off_tune holds: the next run begins with it */
		return;
	}
	if (vm_protect(vm, collect, NULL))
		lua_pop(vm->L, 1);
	if (vm->heap.used > much) {
		log_line(LOG_LUA, LOG_ERROR,
			 "the scripts hold %zu MiB of their %zu: starting afresh without their "
			 "globals",
			 vm->heap.used >> 20, vm->heap.limit >> 20);
		vm->doomed = true;
	}
}
