/* src/filters/lua/shared.c: the module "postern.shared": values that all scripts of all workers
 * may share. Bounded; what was not touched for longest goes first. One lock for the process, held
 * for one operation. */
#include "base/map.h"
#include "base/mem.h"
#include "filters/lua/lua_int.h"
#include <pthread.h>
#include <time.h>

enum { KEY_MOST = 512, VALUE_MOST = 64 * 1024, BYTES_MOST = 16 * 1024 * 1024, ITEM_COST = 128 };

struct item {
	struct item *newer, *older;
	struct str key, text; /* text: of strings */
	uint64_t until_ms;    /* 0: for ever */
	double number;        /* numbers, and 0 or 1 */
	int type;             /* of Lua */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct map items = {.mem = MEM_LUA};
static struct item *newest, *oldest;
static size_t bytes;

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static size_t cost(const struct item *i)
{
	return ITEM_COST + i->key.n + i->text.n;
}

static void unlink_item(struct item *i)
{
	*(i->newer ? &i->newer->older : &newest) = i->older;
	*(i->older ? &i->older->newer : &oldest) = i->newer;
}

static void link_newest(struct item *i)
{
	i->newer = NULL;
	i->older = newest;
	*(newest ? &newest->newer : &oldest) = i;
	newest = i;
}

static void drop(struct item *i)
{
	map_del(&items, i->key);
	unlink_item(i);
	bytes -= cost(i);
	mem_free(MEM_LUA, i);
}

/* The living item of that key, now the newest; NULL. */
static struct item *find(struct str key)
{
	struct item *i = map_get(&items, key);
	if (!i)
		return NULL;
	if (i->until_ms && i->until_ms <= now_ms()) {
		drop(i);
		return NULL;
	}
	unlink_item(i);
	link_newest(i);
	return i;
}

/* Replaces what is there. False: no memory. */
static bool store(struct str key, int type, struct str text, double number, uint64_t ttl_ms)
{
	struct item *old = map_get(&items, key);
	if (old)
		drop(old);
	while (oldest && bytes + ITEM_COST + key.n + text.n > BYTES_MOST)
		drop(oldest);
	struct item *i = mem_alloc(MEM_LUA, sizeof *i + key.n + text.n);
	if (!i)
		return false;
	char *p = (char *)(i + 1);
	*i = (struct item){.key = {p, key.n},
			   .text = {p + key.n, text.n},
			   .type = type,
			   .number = number,
			   .until_ms = ttl_ms ? now_ms() + ttl_ms : 0};
	memcpy(p, key.p, key.n);
	if (text.n)
		memcpy(p + key.n, text.p, text.n);
	if (!map_put(&items, i->key, i)) {
		mem_free(MEM_LUA, i);
		return false;
	}
	link_newest(i);
	bytes += cost(i);
	return true;
}

static struct str key_arg(lua_State *L)
{
	struct str key = obj_str(L, 1);
	if (key.n > KEY_MOST)
		luaL_argerror(L, 1, "the key is too long");
	return key;
}

/* Seconds, fractions allowed. */
static uint64_t ttl_arg(lua_State *L, int at)
{
	double s = luaL_optnumber(L, at, 0);
	if (!(s >= 0))
		luaL_argerror(L, at, "must not be negative");
	return s > 1e9 ? 0 : (uint64_t)(s * 1000 + 0.999);
}

int shared_get(lua_State *L)
{
	struct str key = key_arg(L);
	char copy[VALUE_MOST]; /* Lua may raise an error while it allocates: not under the lock */
	size_t n = 0;
	double number = 0;
	int type = LUA_TNIL;
	pthread_mutex_lock(&lock);
	const struct item *i = find(key);
	if (i) {
		type = i->type;
		number = i->number;
		n = i->text.n;
		memcpy(copy, i->text.p, n);
	}
	pthread_mutex_unlock(&lock);
	if (type == LUA_TSTRING)
		lua_pushlstring(L, copy, n);
	else if (type == LUA_TNUMBER)
		lua_pushnumber(L, number);
	else if (type == LUA_TBOOLEAN)
		lua_pushboolean(L, number != 0);
	else
		lua_pushnil(L);
	return 1;
}

/* set(key, value, ttl, only_new): true; false: it exists (only_new); nil, why. */
int shared_set(lua_State *L)
{
	struct str key = key_arg(L), text = {"", 0};
	int type = lua_type(L, 2);
	uint64_t ttl = ttl_arg(L, 3);
	bool only_new = lua_toboolean(L, 4), exists = false, ok = true;
	double number = 0;
	switch (type) {
	case LUA_TNIL: break;
	case LUA_TBOOLEAN: number = lua_toboolean(L, 2); break;
	case LUA_TNUMBER: number = lua_tonumber(L, 2); break;
	case LUA_TSTRING: text = obj_str(L, 2); break;
	default: return luaL_argerror(L, 2, "string, number, boolean or nil expected");
	}
	if (text.n > VALUE_MOST)
		return luaL_argerror(L, 2, "the value is too long");
	pthread_mutex_lock(&lock);
	struct item *old = find(key);
	exists = old != NULL;
	if (type == LUA_TNIL) {
		if (old)
			drop(old);
	} else if (!(only_new && exists)) {
		ok = store(key, type, text, number, ttl);
	}
	pthread_mutex_unlock(&lock);
	if (!ok)
		return luaL_error(L, "not enough memory");
	lua_pushboolean(L, !(only_new && exists));
	return 1;
}

/* incr(key, by, initial, ttl): the new number; nil when there is none and no initial one, or it is
 * no number. */
int shared_incr(lua_State *L)
{
	struct str key = key_arg(L);
	double by = luaL_checknumber(L, 2), number = 0;
	bool has_initial = !lua_isnoneornil(L, 3), ok = true, found = true;
	double initial = has_initial ? luaL_checknumber(L, 3) : 0;
	uint64_t ttl = ttl_arg(L, 4);
	pthread_mutex_lock(&lock);
	struct item *i = find(key);
	if (i && i->type == LUA_TNUMBER)
		number = i->number += by;
	else if (i || !has_initial)
		found = false;
	else
		ok = store(key, LUA_TNUMBER, (struct str){"", 0}, number = initial + by, ttl);
	pthread_mutex_unlock(&lock);
	if (!ok)
		return luaL_error(L, "not enough memory");
	if (found)
		lua_pushnumber(L, number);
	else
		lua_pushnil(L);
	return 1;
}

/* Seconds left; 0: for ever; nil: not there. */
int shared_ttl(lua_State *L)
{
	struct str key = key_arg(L);
	double left = -1;
	pthread_mutex_lock(&lock);
	const struct item *i = find(key);
	if (i)
		left = i->until_ms ? (double)(i->until_ms - now_ms()) / 1000 : 0;
	pthread_mutex_unlock(&lock);
	if (left < 0)
		lua_pushnil(L);
	else
		lua_pushnumber(L, left);
	return 1;
}
