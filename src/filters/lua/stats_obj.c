/* src/filters/lua/stats_obj.c: handle:stats() (lua-filter.md 4.7). A gauge is one number for all
 * workers in Envoy; here it is the
 * sum of theirs, so set() adds the difference. */
#include "filters/lua/lua_int.h"
#include <stdio.h>

enum {
	NAMES_MOST = 4096, /* a script may register so many; more is an error, not a leak */
	NAME_MOST = 512
};

int stats_obj_handle(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	obj_push(L, OBJ_STATS, PLACE_STATS, 0);
	return 1;
}

static int make(lua_State *L, enum obj_kind kind, enum stat_kind what, struct str name)
{
	struct run *r = run_now;
	struct str prefix = ((const struct lua_filter *)r->self->config)->stat_prefix;
	char full[NAME_MOST * 2];
	if (name.n > NAME_MOST || prefix.n + name.n > sizeof full)
		return luaL_error(L, "statistic name is too long");
	uint32_t before = stat_count();
	if (r->env->nstats >= NAMES_MOST)
		return luaL_error(L, "too many statistics");
	memcpy(full, prefix.p, prefix.n);
	memcpy(full + prefix.n, name.p, name.n);
	stat_id id = stat_register(what, (struct str){full, prefix.n + name.n});
	if (stat_count() != before)
		r->env->nstats++;
	obj_new(L, kind)->sub = id;
	return 1;
}

static int counter(lua_State *L)
{
	obj_arg(L, OBJ_STATS);
	return make(L, OBJ_COUNTER, STAT_COUNTER, obj_str(L, 2));
}

static int gauge(lua_State *L)
{
	obj_arg(L, OBJ_STATS);
	return make(L, OBJ_GAUGE, STAT_GAUGE, obj_str(L, 2));
}

static int histogram(lua_State *L)
{
	static const char *const units[] = {
		"ms", "milliseconds", "microseconds", "nanoseconds", "bytes", "unspecified", NULL};
	obj_arg(L, OBJ_STATS);
	struct str name = obj_str(L, 2), unit;
	unit.p = luaL_optlstring(L, 3, "unspecified", &unit.n);
	unsigned i = 0;
	while (units[i] && !str_eq(unit, str_of(units[i])))
		i++;
	if (!units[i])
		return luaL_error(L,
				  "invalid histogram unit '%s', expected 'ms', 'milliseconds', "
				  "'microseconds', 'nanoseconds', 'bytes', or "
				  "'unspecified'",
				  unit.p);
	return make(L, OBJ_HISTOGRAM, STAT_HISTOGRAM, name);
}

/* A number that may not be negative, its fraction cut off. */
static uint64_t amount(lua_State *L, const char *what)
{
	double d = luaL_checknumber(L, 2);
	if (!(d > -1))
		luaL_error(L, "%s must be non-negative", what);
	if (d < 0)
		return 0;
	return d >= 9e18 ? (uint64_t)9e18 : (uint64_t)d;
}

static int counter_inc(lua_State *L)
{
	stat_add((stat_id)obj_arg(L, OBJ_COUNTER)->sub, 1);
	return 0;
}

static int counter_add(lua_State *L)
{
	struct obj *o = obj_arg(L, OBJ_COUNTER);
	stat_add((stat_id)o->sub, amount(L, "counter add amount"));
	return 0;
}

static int value(lua_State *L, enum obj_kind kind)
{
	stat_id id = (stat_id)obj_arg(L, kind)->sub;
	lua_pushnumber(L, id ? (lua_Number)stat_read(id) : 0);
	return 1;
}

static int counter_value(lua_State *L)
{
	return value(L, OBJ_COUNTER);
}

static int gauge_value(lua_State *L)
{
	return value(L, OBJ_GAUGE);
}

static int gauge_set(lua_State *L)
{
	stat_id id = (stat_id)obj_arg(L, OBJ_GAUGE)->sub;
	uint64_t n = amount(L, "gauge set value");
	if (id)
		stat_add(id, n - stat_read(id));
	return 0;
}

static int gauge_inc(lua_State *L)
{
	stat_add((stat_id)obj_arg(L, OBJ_GAUGE)->sub, 1);
	return 0;
}

static int gauge_dec(lua_State *L)
{
	stat_sub((stat_id)obj_arg(L, OBJ_GAUGE)->sub, 1);
	return 0;
}

static int gauge_add(lua_State *L)
{
	struct obj *o = obj_arg(L, OBJ_GAUGE);
	stat_add((stat_id)o->sub, amount(L, "gauge add amount"));
	return 0;
}

static int gauge_sub(lua_State *L)
{
	struct obj *o = obj_arg(L, OBJ_GAUGE);
	stat_sub((stat_id)o->sub, amount(L, "gauge sub amount"));
	return 0;
}

static int record_value(lua_State *L)
{
	struct obj *o = obj_arg(L, OBJ_HISTOGRAM);
	uint64_t n = amount(L, "histogram value");
	if (o->sub)
		stat_record((stat_id)o->sub, n);
	return 0;
}

void stats_obj_methods(lua_State *L)
{
	static const luaL_Reg stats[] = {
		{"counter", counter}, {"gauge", gauge}, {"histogram", histogram}, {NULL, NULL}};
	static const luaL_Reg counters[] = {
		{"inc", counter_inc}, {"add", counter_add}, {"value", counter_value}, {NULL, NULL}};
	static const luaL_Reg gauges[] = {
		{"set", gauge_set}, {"inc", gauge_inc},     {"dec", gauge_dec}, {"add", gauge_add},
		{"sub", gauge_sub}, {"value", gauge_value}, {NULL, NULL}};
	static const luaL_Reg histograms[] = {{"recordValue", record_value}, {NULL, NULL}};
	obj_methods(L, OBJ_STATS, stats);
	obj_methods(L, OBJ_COUNTER, counters);
	obj_methods(L, OBJ_GAUGE, gauges);
	obj_methods(L, OBJ_HISTOGRAM, histograms);
}
