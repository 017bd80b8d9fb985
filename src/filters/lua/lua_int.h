/* src/filters/lua/lua_int.h
 *
 * What the files of the Lua filter share. One VM per worker holds every script; a script's globals
 * are a table of its own
 * (script_env). A hook of one exchange is a run: it has a serial number that no other run of the
 * process ever gets, and every
 * object a script holds carries the serial of the run that made it. An object whose serial is not
 * the current run's is dead:
 * no pointer to an exchange ever lies in Lua's hands.
 */
#pragma once
#include "exchange/exchange.h"
#include "model/model.h"
#include "obs/log.h"
#include "obs/stats.h"
#include "upstream/call.h"
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>

/* --- heap.c: a VM's memory. Size classes over 64 KiB blocks, counted, with a hard limit. --- */
enum { HEAP_CLASSES = 32 + 20 };
struct heap {
	size_t used;     /* bytes Lua asked for and has not given back */
	size_t limit;    /* of the VM */
	size_t run_most; /* `used` may not pass this in the current run */
	bool hit;        /* an allocation was refused since this was last cleared */
	char *at, *end;  /* unused rest of the newest block */
	struct heap_block *blocks, *first;
	bool opening; /* lua_newstate is at work */
	struct heap_free *cls[HEAP_CLASSES];
	struct heap_big *big; /* what is larger than the largest class */
};
/* False: no memory. */
bool heap_init(struct heap *h, size_t limit);
void *heap_alloc(void *heap, void *p, size_t old, size_t n); /* a lua_Alloc */
void heap_fini(struct heap *h);

/* --- configuration (script.c) --- */
enum libraries {
	LIBRARIES_UNSET = -1,
	LIBRARIES_STANDARD = LIBS_STANDARD,
	LIBRARIES_STRICT = LIBS_STRICT,
	LIBRARIES_FULL = LIBS_FULL
};
struct policy {
	int8_t on_error, libraries, respond_in_response; /* -1: as the options say */
	uint16_t error_status;                           /* 0: as the options say */
};
/* One script with globals of its own. Counted (filters that name the same shared_vm_id share one);
 * else immutable. */
struct script {
	atomic_uint refs;
	uint32_t id;     /* small, given again after its end */
	uint64_t serial; /* never given again */
	struct str source;
	const char *chunk_name; /* the source up to its first NUL: Lua makes [string "..."] of it */
	struct str path;        /* the script's own file; .p NULL: inline */
	struct str *paths, *cpaths;
	unsigned npaths, ncpaths;
	int8_t libraries;   /* enum libraries */
	bool writes_chunks; /* the text speaks of setBytes: what it streams may change */
	struct str shared_vm_id;
};
struct named_script {
	struct str name;
	const struct script *script;
};
struct lua_filter {                  /* Lua */
	bool is_route;               /* false; first in both, for free_config */
	const struct script *script; /* NULL: none */
	struct named_script *named;
	unsigned nnamed;
	struct policy policy;
	bool clear_route_cache;
	const struct doc *context;
	struct str stat_prefix; /* "http.x.lua." or "http.x.lua.p." */
	stat_id errors, executions, cpu_ms;
};
struct lua_route {     /* LuaPerRoute */
	bool is_route; /* true */
	bool disabled;
	struct str name; /* .p NULL: none */
	const struct script *script;
	struct policy policy;
	const struct doc *context;
};
extern const struct filter_type filter_lua;
void *script_compile(struct compile *c, const struct doc *cfg);
void *script_compile_route(struct compile *c, const struct doc *cfg);
void script_free_config(void *config);
/* The gauge lua.lua_vm_count: one for each script in each VM. */
stat_id script_gauge(void);
/* Counts the scripts that have gone: a VM that sees a new number looks which of its own are dead.
 * */
extern atomic_ullong script_epoch;
bool script_alive(uint32_t id, uint64_t serial);

/* --- objects --- */
enum obj_kind {
	OBJ_HANDLE,
	OBJ_HEADERS,
	OBJ_BUFFER,
	OBJ_STREAM_INFO,
	OBJ_DYNAMIC_METADATA,
	OBJ_CONNECTION,
	OBJ_CONNECTION_STREAM_INFO,
	OBJ_CONNECTION_METADATA,
	OBJ_METADATA,
	OBJ_VIRTUAL_HOST,
	OBJ_ROUTE,
	OBJ_STATS,
	OBJ_COUNTER,
	OBJ_GAUGE,
	OBJ_HISTOGRAM,
	OBJ_FILTER_STATE,
	OBJ_SSL,
	OBJ_PARSED_NAME,
	OBJ_KEY,
	OBJ_KINDS
};
struct obj {           /* the userdata; nothing else in Lua's reach has exactly this size */
	uint32_t mark; /* OBJ_MARK + kind */
	uint8_t which; /* headers: enum headers_of; metadata: enum metadata_of */
	bool open : 1; /* headers, metadata: a pairs loop is under way */
	bool kept : 1; /* it lies in the cache: its address is its own as long as the run lives */
	uint16_t at;   /* the loop's position */
	uint64_t serial;
	uint64_t sub; /* chunk: its number in the run; statistics: the id */
};
#define OBJ_MARK 0x4c554100u
enum headers_of { HEADERS_REQUEST, HEADERS_RESPONSE, TRAILERS_REQUEST, TRAILERS_RESPONSE };
enum metadata_of { METADATA_ROUTE, METADATA_CONTEXT, METADATA_OF_VHOST, METADATA_OF_ROUTE };
/* Objects a run makes once: places in its part of the cache table. */
enum obj_place {
	PLACE_HANDLE,
	PLACE_HEADERS,
	PLACE_REQUEST_HEADERS,
	PLACE_TRAILERS,
	PLACE_BODY,
	PLACE_STREAM_INFO,
	PLACE_DYNAMIC_METADATA,
	PLACE_CONNECTION,
	PLACE_CONNECTION_STREAM_INFO,
	PLACE_CONNECTION_METADATA,
	PLACE_METADATA,
	PLACE_CONTEXT,
	PLACE_VHOST,
	PLACE_ROUTE,
	PLACE_VHOST_METADATA,
	PLACE_ROUTE_METADATA,
	PLACE_CHUNK,
	PLACE_STATS,
	PLACE_FILTER_STATE,
	PLACE_SSL,
	PLACE_KEY,
	PLACES = 32
};
/* Every API function is a closure over two tables. UP_TABLE: metatables, iterators and field names
 * by number; UP_CACHE: the
 * objects of runs. */
#define UP_TABLE lua_upvalueindex(1)
#define UP_CACHE lua_upvalueindex(2)
enum {
	TABLE_META = 1,
	TABLE_HEADERS_NEXT = TABLE_META + OBJ_KINDS,
	TABLE_PAIRS_NEXT,
	TABLE_NEXT,
	TABLE_NAMES = 40
};

/* --- runs --- */
enum pending {
	PENDING_NONE,
	PENDING_BODY,
	PENDING_WHOLE /* bodyChunks over a small body */,
	PENDING_CHUNK,
	PENDING_TRAILERS,
	PENDING_CALL,
	PENDING_RESPOND
};
struct coro {
	lua_State *L;
	int ref; /* in the registry */
};
struct lua_call;
struct run {
	uint64_t serial;
	struct vm *vm;
	struct exchange *ex;
	const struct filter_cfg *self;
	struct leg *leg;
	struct head *head; /* leg's */
	struct script_env *env;
	const struct lua_route *route;
	struct coro co;
	uint32_t slot;      /* of the cache */
	uint32_t have;      /* bit place: made in this run */
	struct obj *last;   /* the kept object last looked at: known to be ours and alive */
	uint8_t kind;       /* enum leg_kind */
	uint8_t pending;    /* what the coroutine waits for */
	bool kept;          /* the exchange's state knows this run */
	bool continued;     /* the head went on */
	bool modified;      /* the head was changed */
	bool buffered;      /* body() was asked for, or answered */
	bool saw_body;      /* bytes went by or were gathered */
	bool end_stream;    /* as far as the script knows, the message has ended */
	bool forced_body;   /* body(true) on a message without one */
	bool in_place;      /* bodyChunks over a body that is here whole */
	bool changed;       /* such a body was rewritten */
	bool fixed;         /* streaming with an announced length: rewriting must keep it */
	uint8_t stage;      /* bodyChunks: 0 bytes, 1 the empty end, 2 over */
	struct chain rest;  /* in_place: not yet shown */
	struct chain chunk; /* the round's bytes */
	struct chain done;  /* earlier rounds' bytes of this batch */
	bool in_chunk;
	bool called;    /* since the round began, a call was waited for */
	bool streaming; /* the body hook drives it */
	bool batch_end;
	uint64_t chunk_number;
	struct lua_call *call;
	struct head answer; /* respond() */
	struct chain answer_body;
	struct run *next; /* spare */
};
/* The run whose script executes on this thread; never NULL (run_none has serial 0). */
extern _Thread_local struct run *run_now;

/* exch_state() of this filter. In the exchange's arena. */
struct lua_state {
	struct run *run[2]; /* by leg: suspended ones */
	struct lua_key *keys;
};
struct lua_key { /* imported by importPublicKey */
	struct lua_key *next;
	struct str der;
	void *pkey; /* EVP_PKEY, crypto.c */
};
/* NULL: no memory. */
struct lua_state *run_state(struct run *r);

/* --- one script in one VM --- */
enum { CORO_POOL = 64 };
struct script_env {
	const struct script *script; /* valid while script_alive(id, serial) */
	uint32_t id;
	uint64_t serial;
	int globals_ref, chunk_ref;
	int hook[2];    /* references, LUA_NOREF: none */
	bool failed;    /* did not load in this VM: memory was short, for the check had passed */
	unsigned users; /* runs */
	bool dead;      /* freed with its last run */
	struct coro pool[CORO_POOL];
	unsigned npool;
	unsigned nstats; /* names registered by the script */
};
/* --- presize.c: room for the tables that loops fill --- */
enum { PRESIZE_OPS = 6 };
struct presize {
	bool known; /* else nothing is done */
	uint8_t op[PRESIZE_OPS];
};
/* What this LuaJIT's instructions look like. False: not as expected. Raises an error when memory
 * is short. */
bool presize_learn(lua_State *L, struct presize *ps);
/* Replaces the function on top of the stack by one that does the same. Returns how many {} got
 * room. */
unsigned presize_function(lua_State *L, const struct presize *ps, const char *chunk_name);

enum { NAME_SLOTS = 512 }; /* a power of two, more than four times FIELD_IDS */
struct vm {
	lua_State *L;
	struct heap heap;
	/* Field names by address: the text of the interned Lua string (anchored for the VM's life),
	 * or of name_infos. */
	struct name_slot {
		const char *p;
		uint32_t id;
	} names[NAME_SLOTS];
	bool frugal;              /* much is alive: garbage is collected early */
	bool collect_late;        /* before the next run */
	struct exch_env *env;     /* NULL: the main thread's check */
	bool full_open;           /* the libraries of full trust are there */
	struct script_env **envs; /* by script id */
	unsigned nenvs;
	uint64_t seen_epoch;
	int table_ref, cache_ref;
	int start_ref, call_ref, chunks_ref, hosted_ref, globals_ref;
	struct run *spare;
	uint32_t nslots; /* runs made so far: each keeps its part of the cache */
	struct lua_call *calls, *spare_calls, *preparing;
	unsigned ncalls;
	struct presize presize;
	struct guard *guard;
	bool doomed;      /* out of memory: replaced as soon as no run is on the stack */
	bool broken;      /* left by force (guard.c): doomed, and nothing in it may be touched */
	unsigned nruns;   /* alive */
	struct vm *older; /* doomed VMs whose runs have not ended */
};
/* vm.c. The worker's VM, made when missing; NULL: no memory. */
struct vm *vm_of(struct exch_env *env, const struct model *m);
/* env NULL: for the load check. NULL: no memory. */
struct vm *vm_new(struct exch_env *env, size_t limit);
void vm_free(struct vm *vm);
/* The script in this VM, loaded when missing. NULL: no memory, or (check) *error says why in the
 * arena. */
struct script_env *vm_script(struct vm *vm, const struct script *s, struct arena *a,
			     struct str *error);
/* A coroutine with that script's globals. False: no memory. */
bool vm_coro_take(struct vm *vm, struct script_env *e, struct coro *co);
/* alive: it ended well and may be used again. */
void vm_coro_give(struct vm *vm, struct script_env *e, struct coro *co, bool alive);
/* A run or a call has ended: frees a VM that was replaced and has none left. */
void vm_idle(struct vm *vm);
/* After a refused allocation: collects when the VM is nearly full; one that stays so is replaced.
 * late: the run has taken long already, let the next one pay. */
void vm_recover(struct vm *vm, bool late);
/* Between runs: sets how early garbage is collected, by what the VM holds. */
void vm_tune(struct vm *vm);
enum { VM_MUCH = 6 << 20, VM_LITTLE = 3 << 20 };
static inline bool vm_off_tune(const struct vm *vm)
{
	return vm->frugal ? vm->heap.used < VM_LITTLE : vm->heap.used > VM_MUCH;
}
/* fn(L) with arg as its light userdata argument, protected, leaving nothing. 0 or Lua's error code
 * (the message stays on vm->L's
 * stack and is the caller's to pop). */
int vm_protect(struct vm *vm, lua_CFunction fn, void *arg);

/* run.c */
enum verdict run_request(struct exchange *ex, const struct filter_cfg *self);
enum verdict run_response(struct exchange *ex, const struct filter_cfg *self);
enum verdict run_resume(struct exchange *ex, const struct filter_cfg *self, enum leg_kind leg);
enum verdict run_body(struct exchange *ex, const struct filter_cfg *self, enum leg_kind leg,
		      struct chain *batch, bool end);
void run_end(struct exchange *ex, const struct filter_cfg *self);
/* Called by API functions that must wait: L7. Raises an error where it is not possible. */
void run_may_yield(lua_State *L);
/* What API functions return when the coroutine has to wait. */
int run_yield(lua_State *L, enum pending what);

/* --- object helpers (object.c) --- */
/* Pushes a new object of the current run. Only in API functions. */
struct obj *obj_new(lua_State *L, enum obj_kind kind);
/* Pushes the run's object at that place; true when it had to be made (*made is it). */
static inline bool obj_cached(lua_State *L, enum obj_place place)
{
	if (!(run_now->have >> place & 1))
		return false;
	lua_rawgeti(L, UP_CACHE, (int)(run_now->slot * PLACES + place + 1));
	return true;
}
/* The object on top of the stack is the one of that place from now on. */
void obj_keep(lua_State *L, enum obj_place place);
/* Pushes the object of that place and kind, made when missing. */
void obj_push(lua_State *L, enum obj_kind kind, enum obj_place place, unsigned which);
_Noreturn void obj_bad(lua_State *L, enum obj_kind kind);
_Noreturn void obj_stale(lua_State *L);
/* By address, in lower case: the names that scripts got from us, or wrote so themselves.
 * FIELD_OTHER: not known. */
static inline enum field_id obj_known_name(const char *p)
{
	const struct name_slot *names = run_now->vm->names;
	unsigned i = (unsigned)((uintptr_t)p >> 3) * 0x9E3779B1u >> 23;
	for (; names[i].p; i = (i + 1) % NAME_SLOTS)
		if (names[i].p == p)
			return (enum field_id)names[i].id;
	return FIELD_OTHER;
}
/* As name_id. */
static inline enum field_id obj_name_id(struct str s)
{
	enum field_id id = obj_known_name(s.p);
	return id ? id : name_id(s.p, s.n);
}
struct obj *obj_arg_slow(lua_State *L, enum obj_kind kind);
/* Argument 1 as a living object of that kind; raises an error. */
static inline struct obj *obj_arg(lua_State *L, enum obj_kind kind)
{
	struct obj *o = lua_touserdata(L, 1);
	if (__builtin_expect(o && o == run_now->last && o->mark == OBJ_MARK + kind, 1))
		return o;
	return obj_arg_slow(L, kind);
}
struct str obj_str(lua_State *L, int at); /* luaL_checklstring */
/* Is a for loop over o still running? An iteration left by break or an error leaves no trace but
 * the missing loop. */
bool obj_loop_runs(lua_State *L, const struct obj *o);
void obj_methods(lua_State *L, enum obj_kind kind, const luaL_Reg *methods);
/* Copies into an arena (obj_copy: the exchange's); raises an error when it is full. */
struct str obj_copy_to(lua_State *L, struct arena *a, struct str s);
struct str obj_copy(lua_State *L, struct str s);
struct str obj_decimal(struct arena *a, uint64_t n); /* .p NULL: the arena is full */
_Noreturn void obj_no_memory(lua_State *L);
/* A whole number from an argument, truncated towards zero, held within [min, max]. */
int64_t obj_integer(lua_State *L, int at, int64_t min, int64_t max);

/* Each object's file adds its methods; upvalue tables are at stack 1 and 2. */
void handle_methods(lua_State *L);
void headers_methods(lua_State *L);
void buffer_methods(lua_State *L);
void metadata_obj_methods(lua_State *L);
void streaminfo_methods(lua_State *L);
void connection_methods(lua_State *L);
void stats_obj_methods(lua_State *L);
void crypto_methods(lua_State *L);

/* headers.c */
struct head *headers_of(const struct obj *o);
/* Pushes a field's name in lower case. */
void headers_push_name(lua_State *L, int table, const struct field *f);
/* May a script write this field? Raises an error (L8). Gives the name in lower case, static or in
 * h's arena. */
struct str headers_checked_name(lua_State *L, struct str name, const struct head *h,
				enum field_id *id);
void headers_check_value(lua_State *L, struct str name, struct str value);
/* pairs() of headers; called by obj_pairs. */
int headers_pairs(lua_State *L, struct obj *o);
int headers_handle(lua_State *L);         /* handle:headers() */
int headers_handle_request(lua_State *L); /* handle:requestHeaders() */
int headers_handle_trailers(lua_State *L);
/* Pushes the trailers object, or nil (0 results in Envoy; here one nil). */
void headers_push_trailers(lua_State *L);
int headers_next(lua_State *L);
/* Adds all pairs of the table at `at` to h (values: strings, numbers, lists of those), framing
 * fields left out. call: for
 * httpCall, where te: trailers may be sent. */
void headers_from_table(lua_State *L, int at, struct head *h, bool call);

/* buffer.c, chunks.c */
int buffer_body(lua_State *L);
/* Trailers came, and no byte before them: for body() there was none. Notes it when it is so. */
bool buffer_absent(struct run *r);
void buffer_push(lua_State *L);
int chunks_iterator(lua_State *L);
/* bodyChunks with these bytes at hand (end: no more will come). 1: a round has begun, its object
 * lies at PLACE_CHUNK; 0: the
 * loop ends; -1: it has to wait. */
int chunks_step(struct run *r, struct chain *bytes, bool end);
/* The last round's bytes join those before it. */
void chunks_settle(struct run *r);
/* PENDING_WHOLE is over: 1: the first round has begun, 0: the loop ends. */
int chunks_whole(struct run *r);
enum { CHUNKS_WHOLE = LIMIT_STREAM_HIGH };

/* metadata_obj.c */
int metadata_route(lua_State *L), metadata_context(lua_State *L), metadata_vhost(lua_State *L),
	metadata_of_route(lua_State *L);
int metadata_dynamic(lua_State *L);
int metadata_pairs(lua_State *L, struct obj *o);
void metadata_push_doc(lua_State *L, const struct doc *d);
void metadata_push_value(lua_State *L, const struct value *v);
/* The Lua value at `at` as a value tree in the exchange's arena; raises errors as
 * dynamicMetadata():set does. */
struct value *metadata_value(lua_State *L, int at);

/* streaminfo.c, connection.c, stats_obj.c, crypto.c, httpcall.c, respond.c */
int streaminfo_handle(lua_State *L);
int connection_handle(lua_State *L);
int connection_ssl(lua_State *L);
int connection_stream_info(lua_State *L);
int stats_obj_handle(lua_State *L);
int crypto_import(lua_State *L), crypto_verify(lua_State *L), crypto_base64_escape(lua_State *L),
	crypto_base64_decode(lua_State *L);
/* For modules: no handle in front. */
int crypto_base64_encode(lua_State *L), crypto_base64_read(lua_State *L),
	crypto_digest(lua_State *L);
void crypto_free_keys(struct lua_key *k);
bool crypto_decode(struct arena *a, struct str text,
		   struct str *out); /* base64, for inline_bytes */
int httpcall_handle(lua_State *L);
/* The run's call has an answer: its results are pushed on `to`; false: no memory. */
bool httpcall_results(struct run *r, lua_State *to, int *n);
int httpcall_build(lua_State *L); /* used by httpcall_results, kept in the registry */
bool httpcall_done(const struct lua_call *c);
void httpcall_cancel(struct lua_call *c); /* the run does not want it any more */
void httpcall_drop_all(struct vm *vm);
int respond_handle(lua_State *L);
/* The yielded respond() is carried out. */
void respond_send(struct run *r);
/* What a head must have when a script lets it go. False: the exchange was answered (L8). */
bool respond_check_head(struct run *r);
/* A request head by the rules for received ones: method, path, authority. */
bool respond_request_ok(const struct head *h);

/* log methods: every object has them. */
extern const luaL_Reg handle_log_methods[];

/* --- libs.c: what scripts find as globals --- */
/* Once per VM: leaves nothing. Protected by the caller. */
void libs_open(lua_State *L, struct vm *vm);
/* Pushes a new table of globals for s. */
void libs_globals(lua_State *L, struct vm *vm, const struct script *s);
void libs_after_load(lua_State *L, int globals);
int obj_pairs(lua_State *L);

/* --- json.c, shared.c: modules of ours --- */
void json_push_null(lua_State *L);
int json_encode(lua_State *L), json_decode(lua_State *L);
int shared_get(lua_State *L), shared_set(lua_State *L), shared_incr(lua_State *L),
	shared_ttl(lua_State *L);

/* --- pattern.c: string.find, match, gmatch, gsub with a step budget --- */
int pattern_find(lua_State *L), pattern_match(lua_State *L), pattern_gmatch(lua_State *L),
	pattern_gsub(lua_State *L);
int pattern_sort(lua_State *L);

/* --- guard.c: processor time --- */
/* NULL: no memory or no timer; then no script runs. */
struct guard *guard_new(struct vm *vm);
void guard_free(struct guard *g);
/* lua_resume, and its result, with that much processor time; nests. GUARD_STOPPED: it was too
 * much, guard_text says where it was, and the coroutine must not be used again, but for a
 * traceback, and not even that when the VM is broken. */
enum { GUARD_STOPPED = 100, GUARD_GONE, GUARD_TEXT = 160 };
int guard_resume(struct vm *vm, lua_State *co, int nargs, uint64_t limit_us);
const char *guard_text(const struct vm *vm);
/* The last run took a good part of its time. */
bool guard_late(const struct vm *vm);
/* For C loops: raises the error when the time is over. Cheap. */
void guard_check(lua_State *L);
/* For C that calls scripts: raises an error when too much of C's stack is in use. Cheap. */
void guard_stack(lua_State *L);
