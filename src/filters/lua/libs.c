/* src/filters/lua/libs.c: the globals of scripts, by level of trust (design.md 4, robustness.md
 * L4).
 *
 * Every script gets its own table of globals and its own copies of the library tables. Written in
 * Lua where that is short; the functions made here share an empty, sealed environment, so that
 * getfenv cannot lead from one script to another.
 */
#include "base/must.h"
#include "filters/lua/lua_int.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MODULE_MOST = 1024 * 1024, SOURCE_MOST = 1024 * 1024 };

static const char LIBS[] =
	"local raw, host, MARK, SOURCE_MOST = ...\n"
	"local type, next, select, error, tostring, pcall = raw.type, raw.next, raw.select, "
	"raw.error, raw.tostring, raw.pcall\n"
	"local getmetatable, setmetatable, rload = raw.getmetatable, raw.setmetatable, raw.load\n"
	"local ripairs, pairs, oipairs = raw.ipairs, host.pairs, host.ipairs\n"
	"local gsub, gmatch, sub = raw.string.gsub, raw.string.gmatch, raw.string.sub\n"
	"local function ipairs(t)\n"
	"  if type(t) == 'table' and getmetatable(t) ~= nil then return oipairs(t) end\n"
	"  return ripairs(t)\n"
	"end\n"
	/* The handler of an error runs after unwinding: it can loop no longer than anything else.
	 * */
	"local function handled(h, ok, ...)\n"
	"  if ok then return true, ... end\n"
	"  return false, select(2, pcall(h, ...))\n"
	"end\n"
	"local function xpcall(f, h, ...) return handled(h, pcall(f, ...)) end\n"
	/* Source that a function gives is gathered first: reading it calls the script from the midst
	 * of the compiler, on C's stack. Neither is stopped in there, so the text is bounded. */
	"local function gather(f)\n"
	"  local parts, n, size = {}, 0, 0\n"
	"  while true do\n"
	"    local s = f()\n"
	"    if s == nil or s == '' then return raw.table.concat(parts) end\n"
	"    if type(s) == 'number' then s = tostring(s) end\n"
	"    if type(s) ~= 'string' then error('reader function must return a string', 0) end\n"
	"    n, size = n + 1, size + #s\n"
	"    if size > SOURCE_MOST then return s, true end\n"
	"    parts[n] = s\n"
	"  end\n"
	"end\n"
	"local function load(chunk, name, mode, ...)\n"
	"  local ok, long = true, false\n"
	"  if type(chunk) == 'function' then\n"
	"    ok, chunk, long = pcall(gather, chunk)\n"
	"    if not ok then return nil, chunk end\n"
	"    if name == nil then name = '=(load)' end\n"
	"  end\n"
	"  if long or type(chunk) == 'string' and #chunk > SOURCE_MOST then return nil, 'chunk is "
	"too "
	"long' end\n"
	"  if select('#', ...) > 0 then return rload(chunk, name, 't', (...)) end\n"
	"  return rload(chunk, name, 't')\n"
	"end\n"
	"local function collectgarbage(what)\n"
	"  if what == 'count' then return raw.collectgarbage('count') end\n"
	"  return 0\n"
	"end\n"
	/* Coroutines: a yield for the host (its first value is MARK) is passed up to the hook's
	 * coroutine, its results down. */
	"local create, resume, yield, status, running = raw.coroutine.create, "
	"raw.coroutine.resume, raw.coroutine.yield,\n"
	"  raw.coroutine.status, raw.coroutine.running\n"
	"local hosted, waiting = host.hosted, setmetatable({}, {__mode = 'k'})\n"
	"local busy = 'cannot resume running coroutine'\n"
	"local back, wback\n"
	"local function pass(co, ok, ...)\n"
	"  if ok and (...) == MARK then\n"
	"    waiting[co] = true\n"
	"    return back(co, yield(MARK))\n"
	"  end\n"
	"  return ok, ...\n"
	"end\n"
	"back = function(co, ...)\n"
	"  waiting[co] = nil\n"
	"  return pass(co, resume(co, ...))\n"
	"end\n"
	"local function wpass(co, ok, ...)\n"
	"  if not ok then error((...), 2) end\n"
	"  if (...) == MARK then\n"
	"    waiting[co] = true\n"
	"    return wback(co, yield(MARK))\n"
	"  end\n"
	"  return ...\n"
	"end\n"
	"wback = function(co, ...)\n"
	"  waiting[co] = nil\n"
	"  return wpass(co, resume(co, ...))\n"
	"end\n"
	"local co_lib = {create = create, yield = yield, isyieldable = raw.coroutine.isyieldable}\n"
	"function co_lib.resume(co, ...)\n"
	"  if type(co) ~= 'thread' then return resume(co) end\n"
	"  if hosted[co] or waiting[co] then return false, busy end\n"
	"  host.stack()\n"
	"  return pass(co, resume(co, ...))\n"
	"end\n"
	"function co_lib.wrap(f)\n"
	"  if type(f) ~= 'function' then return create(f) end\n"
	"  local co = create(f)\n"
	"  return function(...)\n"
	"    if waiting[co] then error(busy, 2) end\n"
	"    host.stack()\n"
	"    return wpass(co, resume(co, ...))\n"
	"  end\n"
	"end\n"
	"function co_lib.status(co)\n"
	"  if waiting[co] then return 'normal' end\n"
	"  return status(co)\n"
	"end\n"
	"function co_lib.running() return running(), false end\n"
	"local function copy(t, without)\n"
	"  local c = {}\n"
	"  for k, v in next, t do if not (without and without[k]) then c[k] = v end end\n"
	"  return c\n"
	"end\n"
	"local strings = copy(raw.string, {dump = true})\n"
	"strings.find, strings.match, strings.gmatch, strings.gsub = host.find, host.match, "
	"host.gmatch, host.gsub\n"
	/* Methods of strings: the library as it is, then what the running script has added to its
	 * own copy. */
	"local shared = setmetatable(copy(strings), {__index = host.string_method, __metatable = "
	"false})\n"
	"local mt = getmetatable('')\n"
	"mt.__index, mt.__metatable = shared, false\n"
	"local tables = copy(raw.table)\n"
	"tables.sort, tables.insert, tables.unpack = host.sort, host.insert, raw.unpack\n"
	"tables.pack = host.pack\n"
	"local function pick(t, names)\n"
	"  local c = {}\n"
	"  for name in gmatch(names, '%S+') do c[name] = t[name] end\n"
	"  return c\n"
	"end\n"
	"local base = pick(raw, 'assert error _VERSION getmetatable next pcall print rawequal "
	"rawget rawset select setmetatable tonumber '\n"
	"  .. 'tostring type unpack gcinfo')\n"
	"base.pairs, base.ipairs, base.xpcall, base.load, base.loadstring = pairs, ipairs, xpcall, "
	"load, load\n"
	"base.collectgarbage, base.getfenv, base.setfenv, base.rawlen = collectgarbage, "
	"host.getfenv, host.setfenv, host.rawlen\n"
	/* require: sources only, from configured folders (all folders at full trust), and what
	 * postern brings along. */
	"local function module_text(name, path, allowed, read)\n"
	"  local tried, file = {}, gsub(name, '%.', '/')\n"
	"  for template in gmatch(path, '[^;]+') do\n"
	"    local at = gsub(template, '%?', function() return file end)\n"
	"    local text = (allowed == nil or allowed[template]) and read(at)\n"
	"    if text then return text, at end\n"
	"    tried[#tried + 1] = \"\\n\\tno file '\" .. at .. \"'\"\n"
	"  end\n"
	"  return nil, raw.table.concat(tried)\n"
	"end\n"
	"local function c_module(name, cpath, loadlib)\n"
	"  local file = gsub(name, '%.', '/')\n"
	"  for template in gmatch(cpath, '[^;]+') do\n"
	"    local f = loadlib(gsub(template, '%?', function() return file end), 'luaopen_' .. "
	"gsub(gsub(name, '^.*%-', ''), '%.', '_'))\n"
	"    if f then return f end\n"
	"  end\n"
	"end\n"
	/* What postern brings along: fresh tables for each script. */
	"local algorithms = {'sha1', 'sha224', 'sha256', 'sha384', 'sha512'}\n"
	"local builtin = {}\n"
	"function builtin.json() return {encode = host.json_encode, decode = host.json_decode, "
	"null = host.json_null} end\n"
	"builtin.cjson = builtin.json\n"
	"builtin['cjson.safe'] = function()\n"
	"  local function safe(f) return function(v) local ok, r = pcall(f, v) if ok then return r "
	"end return nil, r end end\n"
	"  return {encode = safe(host.json_encode), decode = safe(host.json_decode), null = "
	"host.json_null}\n"
	"end\n"
	"function builtin.base64() return {encode = host.base64_encode, decode = "
	"host.base64_decode} end\n"
	"function builtin.sha256()\n"
	"  return {hex = function(s) return host.digest('sha256', nil, s) end, raw = function(s) "
	"return host.digest('sha256', nil, s, true) end}\n"
	"end\n"
	"function builtin.hmac()\n"
	"  local m = {}\n"
	"  for i = 1, #algorithms do\n"
	"    local a = algorithms[i]\n"
	"    m[a] = function(key, data, raw_bytes) return host.digest(a, key, data, raw_bytes) "
	"end\n"
	"  end\n"
	"  return m\n"
	"end\n"
	"builtin['postern.shared'] = function()\n"
	"  local dict = {}\n"
	"  dict.__index, dict.__metatable = dict, false\n"
	"  function dict:get(k) return host.shared_get(self[1] .. k) end\n"
	"  function dict:set(k, v, ttl) return host.shared_set(self[1] .. k, v, ttl) end\n"
	"  function dict:add(k, v, ttl) return host.shared_set(self[1] .. k, v, ttl, true) end\n"
	"  function dict:incr(k, by, initial, ttl) return host.shared_incr(self[1] .. k, by or 1, "
	"initial, ttl) end\n"
	"  function dict:delete(k) return host.shared_set(self[1] .. k, nil) end\n"
	"  function dict:ttl(k) return host.shared_ttl(self[1] .. k) end\n"
	"  return function(name) return setmetatable({tostring(name) .. '\\0'}, dict) end\n"
	"end\n"
	"local function find_module(name, env, package, allowed, loadlib)\n"
	"  if type(name) ~= 'string' then error(\"bad argument #1 to 'require' (string expected, "
	"got \" .. type(name) .. ')', 3) end\n"
	"  if #name > 256 then error('module name is too long', 3) end\n"
	"  local loader = package.preload[name]\n"
	"  if loader then return loader end\n"
	"  local text, at = module_text(name, package.path, allowed, host.read)\n"
	"  if text then\n"
	"    local f, e = rload(text, '@' .. at, 't', env)\n"
	"    if not f then error(\"error loading module '\" .. name .. \"' from file '\" .. at .. "
	"\"':\\n\\t\" .. e, 3) end\n"
	"    return f\n"
	"  end\n"
	"  loader = loadlib and c_module(name, package.cpath, loadlib)\n"
	"  loader = loader or builtin[name]\n"
	"  if loader then return loader end\n"
	"  error(\"module '\" .. name .. \"' not found:\\n\\tno field package.preload['\" .. name "
	".. \"']\" .. at, 3)\n"
	"end\n"
	"local function make_require(env, package, allowed, loadlib)\n"
	"  return function(name)\n"
	"    local loaded = package.loaded\n"
	"    if loaded[name] ~= nil then return loaded[name] end\n"
	"    local loader = find_module(name, env, package, allowed, loadlib)\n"
	"    local result = loader(name)\n"
	"    if result ~= nil then loaded[name] = result elseif loaded[name] == nil then "
	"loaded[name] = true end\n"
	"    return loaded[name]\n"
	"  end\n"
	"end\n"
	"local function reader(text)\n"
	"  local at, f = 1, {}\n"
	"  local function read(self, what)\n"
	"    if text == nil then error('attempt to use a closed file', 2) end\n"
	"    what = what or '*l'\n"
	"    if what == '*a' or what == 'a' then local s = sub(text, at) at = #text + 1 return s "
	"end\n"
	"    if at > #text then return nil end\n"
	"    if type(what) == 'number' then local s = sub(text, at, at + what - 1) at = at + #s "
	"return s end\n"
	"    local e = raw.string.find(text, '\\n', at, true)\n"
	"    local s = sub(text, at, e and e - 1 or #text)\n"
	"    at = (e or #text) + 1\n"
	"    return s\n"
	"  end\n"
	"  f.read = read\n"
	"  function f.lines(self) return function() return read(self, '*l') end end\n"
	"  function f.close() text = nil return true end\n"
	"  return f\n"
	"end\n"
	/* Reading only, below the folders that require may use. */
	"local function make_open(folders)\n"
	"  return function(path, mode)\n"
	"    if mode ~= nil and mode ~= 'r' and mode ~= 'rb' then return nil, tostring(path) .. ': "
	"Permission denied', 13 end\n"
	"    for i = 1, #folders do\n"
	"      local text = host.read(path, folders[i])\n"
	"      if text then return reader(text) end\n"
	"    end\n"
	"    return nil, tostring(path) .. ': No such file or directory', 2\n"
	"  end\n"
	"end\n"
	"local STANDARD, STRICT, FULL = 0, 1, 2\n"
	"local default_path = "
	"'./?.lua;/usr/local/share/lua/5.1/?.lua;/usr/local/share/lua/5.1/?/init.lua;'\n"
	"  .. '/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua'\n"
	"local default_cpath = "
	"'./?.so;/usr/local/lib/lua/5.1/?.so;/usr/lib/x86_64-linux-gnu/lua/5.1/?.so'\n"
	"local function join(list, rest)\n"
	"  if #list == 0 then return rest end\n"
	"  return raw.table.concat(list, ';') .. ';' .. rest\n"
	"end\n"
	"return function(level, paths, cpaths, folder, full)\n"
	"  local env = copy(base)\n"
	"  env._G = env\n"
	"  env.string, env.table, env.math, env.bit, env.coroutine =\n"
	"    copy(strings), copy(tables), copy(raw.math), copy(raw.bit), copy(co_lib)\n"
	"  if level == STRICT then\n"
	"    env.os = pick(raw.os, 'time date difftime clock')\n"
	"    return env\n"
	"  end\n"
	"  local package = {loaded = {}, preload = {}}\n"
	"  if folder then paths[#paths + 1] = folder .. '/?.lua' end\n"
	"  local allowed, folders = {}, {}\n"
	"  for i = 1, #paths do\n"
	"    allowed[paths[i]] = true\n"
	"    folders[i] = gsub(paths[i], '[^/]*$', '')\n"
	"  end\n"
	"  package.path, package.cpath = join(paths, default_path), join(cpaths, default_cpath)\n"
	"  env.package = package\n"
	"  env.jit = pick(raw.jit, 'version version_num os arch')\n"
	"  if level == FULL then\n"
	"    for name, lib in next, full do env[name] = type(lib) == 'table' and copy(lib) or lib "
	"end\n"
	"    env.package.loadlib, env.ffi = full.package.loadlib, nil\n"
	"    env.package, package.loadlib = package, full.package.loadlib\n"
	"    package.loaded.ffi = full.ffi\n"
	"    env.require = make_require(env, package, nil, full.package.loadlib)\n"
	"    env.loadfile, env.dofile, env.newproxy, env.collectgarbage = raw.loadfile, "
	"raw.dofile, raw.newproxy, raw.collectgarbage\n"
	"    env.string.dump = raw.string.dump\n"
	"  else\n"
	"    env.os = pick(raw.os, 'time date difftime clock getenv')\n"
	"    env.debug = {traceback = raw.debug.traceback}\n"
	"    env.io = {open = make_open(folders)}\n"
	"    env.require = make_require(env, package, allowed)\n"
	"  end\n"
	"  for name in gmatch('string table math bit coroutine os io debug package jit _G', '%S+') "
	"do package.loaded[name] = env[name] end\n"
	"  return env\n"
	"end\n";

/* --- host functions --- */

/* Methods that the running script has put into its own string table. */
static int string_method(lua_State *L)
{
	lua_pushliteral(L, "string");
	lua_rawget(L, LUA_GLOBALSINDEX);
	if (lua_istable(L, -1)) {
		lua_pushvalue(L, 2);
		lua_rawget(L, -2);
	} else {
		lua_pushnil(L);
	}
	return 1;
}

/* table.pack */
static int pack(lua_State *L)
{
	int n = lua_gettop(L);
	lua_createtable(L, n, 1);
	lua_insert(L, 1);
	for (int i = n; i > 0; i--)
		lua_rawseti(L, 1, i);
	lua_pushinteger(L, n);
	lua_setfield(L, 1, "n");
	return 1;
}

/* table.insert: LuaJIT's counts down to any position in C, two thousand million steps if need
 * be. */
static int insert(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	int n = (int)lua_objlen(L, 1) + 1;
	if (lua_gettop(L) == 2) {
		lua_rawseti(L, 1, n);
		return 0;
	}
	if (lua_gettop(L) != 3)
		return luaL_error(L, "wrong number of arguments to 'insert'");
	int64_t at = obj_integer(L, 2, INT32_MIN, INT32_MAX);
	for (int64_t i = n; i > at; i--) {
		if ((n - i) % 1024 == 1023)
			guard_check(L);
		lua_rawgeti(L, 1, (int)(i - 1));
		lua_rawseti(L, 1, (int)i);
	}
	lua_rawseti(L, 1, (int)at);
	return 0;
}

/* A coroutine is about to be resumed: on C's stack. */
static int stack_room(lua_State *L)
{
	guard_stack(L);
	return 0;
}

static int rawlen(lua_State *L)
{
	if (lua_type(L, 1) != LUA_TTABLE && lua_type(L, 1) != LUA_TSTRING)
		return luaL_argerror(L, 1, "table or string expected");
	lua_pushnumber(L, (lua_Number)lua_objlen(L, 1));
	return 1;
}

/* Upvalue 1: the built-in ipairs. */
static int ipairs(lua_State *L)
{
	if (luaL_getmetafield(L, 1, "__ipairs")) {
		guard_stack(L);
		lua_pushvalue(L, 1);
		lua_call(L, 1, 3);
		return 3;
	}
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_pushvalue(L, 1);
	lua_call(L, 1, 3);
	return 3;
}

/* Pushes the function meant by argument 1 of getfenv and setfenv; false: the thread (level 0). */
static bool push_function(lua_State *L)
{
	if (lua_isfunction(L, 1)) {
		lua_pushvalue(L, 1);
		return true;
	}
	lua_Debug ar;
	int64_t level = lua_isnoneornil(L, 1) ? 1 : obj_integer(L, 1, -1, 1000000);
	luaL_argcheck(L, level >= 0, 1, "level must be non-negative");
	if (level == 0)
		return false;
	if (!lua_getstack(L, (int)level, &ar) || !lua_getinfo(L, "f", &ar) || lua_isnil(L, -1))
		luaL_argerror(L, 1, "invalid level");
	return true;
}

/* Upvalue 1: the sealed environment of our own functions. */
static bool push_own_env(lua_State *L)
{
	if (lua_iscfunction(L, -1))
		return false;
	lua_getfenv(L, -1);
	if (!lua_rawequal(L, -1, lua_upvalueindex(1)))
		return true;
	lua_pop(L, 1);
	return false;
}

static int get_fenv(lua_State *L)
{
	if (!push_function(L) || !push_own_env(L))
		lua_pushvalue(L, LUA_GLOBALSINDEX);
	return 1;
}

static int set_fenv(lua_State *L)
{
	luaL_checktype(L, 2, LUA_TTABLE);
	if (!push_function(L) || !push_own_env(L))
		return luaL_error(L, "'setfenv' cannot change environment of given object");
	lua_pop(L, 1);
	lua_pushvalue(L, 2);
	lua_setfenv(L, -2);
	return 1;
}

/* read(path [, folder]): the file's text, or nil. With a folder it must lie below it, symbolic
 * links resolved. */
static int read_module(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1), *folder = luaL_optstring(L, 2, NULL);
	lua_settop(L, 2);
	if (folder) {
		char *real = realpath(path, NULL), *below = realpath(*folder ? folder : ".", NULL);
		size_t n = below ? strlen(below) : 0;
		bool ok = real && below && strncmp(real, below, n) == 0 &&
			  (real[n] == '/' || strcmp(below, "/") == 0);
		free(real);
		free(below);
		if (!ok)
			return 0;
	}
	/* nothing that an error could leak is open while Lua allocates */
	char *p = lua_newuserdata(L, MODULE_MOST);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	ssize_t got = -1;
	size_t n = 0;
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		while ((got = read(fd, p + n, MODULE_MOST - n)) > 0)
			n += (size_t)got;
	close(fd);
	if (got != 0)
		return 0;
	lua_pushlstring(L, p, n);
	return 1;
}

/* --- opening --- */

static void open_lib(lua_State *L, lua_CFunction opener, const char *name, int results)
{
	lua_pushcfunction(L, opener);
	lua_pushstring(L, name);
	lua_call(L, 1, results);
}

static void host_function(lua_State *L, const char *name, lua_CFunction fn)
{
	lua_pushvalue(L, 1);
	lua_pushvalue(L, 2);
	lua_pushcclosure(L, fn, 2);
	lua_setfield(L, -2, name);
}

/* The table `host`: stack 1 and 2 are the API's two tables; sealed is the environment of our
 * functions. */
static void push_host(lua_State *L, struct vm *vm, int sealed)
{
	static const luaL_Reg fenv[] = {{"getfenv", get_fenv}, {"setfenv", set_fenv}, {NULL, NULL}};
	lua_newtable(L);
	host_function(L, "pairs", obj_pairs);
	host_function(L, "find", pattern_find);
	host_function(L, "match", pattern_match);
	host_function(L, "gmatch", pattern_gmatch);
	host_function(L, "gsub", pattern_gsub);
	host_function(L, "sort", pattern_sort);
	host_function(L, "insert", insert);
	host_function(L, "stack", stack_room);
	host_function(L, "string_method", string_method);
	host_function(L, "pack", pack);
	host_function(L, "rawlen", rawlen);
	host_function(L, "read", read_module);
	for (const luaL_Reg *f = fenv; f->name; f++) {
		lua_pushvalue(L, sealed);
		lua_pushcclosure(L, f->func, 1);
		lua_setfield(L, -2, f->name);
	}
	host_function(L, "json_encode", json_encode);
	host_function(L, "json_decode", json_decode);
	json_push_null(L);
	lua_setfield(L, -2, "json_null");
	host_function(L, "base64_encode", crypto_base64_encode);
	host_function(L, "base64_decode", crypto_base64_read);
	host_function(L, "digest", crypto_digest);
	host_function(L, "shared_get", shared_get);
	host_function(L, "shared_set", shared_set);
	host_function(L, "shared_incr", shared_incr);
	host_function(L, "shared_ttl", shared_ttl);
	lua_getglobal(L, "ipairs");
	lua_pushcclosure(L, ipairs, 1);
	lua_setfield(L, -2, "ipairs");
	lua_newtable(L); /* hosted: the hooks' coroutines */
	lua_newtable(L);
	lua_pushliteral(L, "k");
	lua_setfield(L, -2, "__mode");
	lua_setmetatable(L, -2);
	lua_pushvalue(L, -1);
	vm->hosted_ref = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_setfield(L, -2, "hosted");
}

void libs_open(lua_State *L, struct vm *vm)
{
	int top = lua_gettop(L);
	open_lib(L, luaopen_base, "", 0);
	open_lib(L, luaopen_table, LUA_TABLIBNAME, 0);
	open_lib(L, luaopen_string, LUA_STRLIBNAME, 0);
	open_lib(L, luaopen_math, LUA_MATHLIBNAME, 0);
	open_lib(L, luaopen_os, LUA_OSLIBNAME, 0);
	open_lib(L, luaopen_debug, LUA_DBLIBNAME, 0);
	open_lib(L, luaopen_bit, LUA_BITLIBNAME, 0);
	open_lib(L, luaopen_jit, LUA_JITLIBNAME, 0);
	lua_getglobal(L, "next");
	lua_rawseti(L, 1, TABLE_NEXT);
	lua_newtable(L);
	int sealed = lua_gettop(L);
	if (luaL_loadbuffer(L, LIBS, sizeof LIBS - 1, "=postern"))
		lua_error(L);
	lua_pushvalue(L, sealed);
	lua_setfenv(L, -2);
	lua_pushvalue(L, LUA_GLOBALSINDEX);
	push_host(L, vm, sealed);
	lua_pushlightuserdata(L, &run_now);
	lua_pushinteger(L, SOURCE_MOST);
	lua_call(L, 4, 1);
	vm->globals_ref = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_settop(L, top);
}

/* What only scripts at full trust see: opened when the first of them comes. */
static void push_full(lua_State *L, struct vm *vm)
{
	static const char *const libs[] = {"io", "os", "debug", "package", "jit", NULL};
	if (!vm->full_open) {
		open_lib(L, luaopen_package, LUA_LOADLIBNAME, 0);
		open_lib(L, luaopen_io, LUA_IOLIBNAME, 0);
		open_lib(L, luaopen_ffi, LUA_FFILIBNAME, 1);
		lua_setglobal(L, "ffi");
		vm->full_open = true;
	}
	lua_newtable(L);
	for (int i = 0; libs[i]; i++) {
		lua_getglobal(L, libs[i]);
		lua_setfield(L, -2, libs[i]);
	}
	lua_getglobal(L, "ffi");
	lua_setfield(L, -2, "ffi");
}

static void push_list(lua_State *L, const struct str *list, unsigned n)
{
	lua_createtable(L, (int)n, 0);
	for (unsigned i = 0; i < n; i++) {
		lua_pushlstring(L, list[i].p, list[i].n);
		lua_rawseti(L, -2, (int)i + 1);
	}
}

void libs_globals(lua_State *L, struct vm *vm, const struct script *s)
{
	lua_rawgeti(L, LUA_REGISTRYINDEX, vm->globals_ref);
	lua_pushinteger(L, s->libraries);
	push_list(L, s->paths, s->npaths);
	push_list(L, s->cpaths, s->ncpaths);
	const char *slash = s->path.p ? memrchr(s->path.p, '/', s->path.n) : NULL;
	if (slash)
		lua_pushlstring(L, s->path.p, (size_t)(slash - s->path.p));
	else if (s->path.p)
		lua_pushliteral(L, ".");
	else
		lua_pushnil(L);
	if (s->libraries == LIBRARIES_FULL)
		push_full(L, vm);
	else
		lua_pushnil(L);
	lua_call(L, 5, 1);
}

void libs_after_load(lua_State *L, int globals)
{
	lua_pushliteral(L, "EnvoyTimestampResolution");
	lua_createtable(L, 0, 2);
	lua_pushinteger(L, 0);
	lua_setfield(L, -2, "MILLISECOND");
	lua_pushinteger(L, 1);
	lua_setfield(L, -2, "MICROSECOND");
	lua_rawset(L, globals);
}
