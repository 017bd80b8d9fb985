/* src/filters/lua/handle.c: the stream handle (lua-filter.md 4.1) and the log methods that every
 * object has. */
#include "filters/lua/lua_int.h"
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>

/* --- logging --- */

static int log_at(lua_State *L, enum log_level level)
{
	obj_arg(L, (enum obj_kind)lua_tointeger(L, lua_upvalueindex(3)));
	struct str text = obj_str(L, 2);
	if (log_on(LOG_LUA, level))
		log_text(LOG_LUA, level, STR("script log: "), text);
	return 0;
}

static int log_trace(lua_State *L)
{
	return log_at(L, LOG_TRACE);
}
static int log_debug(lua_State *L)
{
	return log_at(L, LOG_DEBUG);
}
static int log_info(lua_State *L)
{
	return log_at(L, LOG_INFO);
}
static int log_warn(lua_State *L)
{
	return log_at(L, LOG_WARNING);
}
static int log_err(lua_State *L)
{
	return log_at(L, LOG_ERROR);
}
static int log_critical(lua_State *L)
{
	return log_at(L, LOG_CRITICAL);
}

const luaL_Reg handle_log_methods[] = {{"logTrace", log_trace},
				       {"logDebug", log_debug},
				       {"logInfo", log_info},
				       {"logWarn", log_warn},
				       {"logErr", log_err},
				       {"logCritical", log_critical},
				       {NULL, NULL}};

/* --- time --- */

enum resolution { MILLISECOND, MICROSECOND, NEITHER };

static enum resolution resolution_arg(lua_State *L)
{
	struct str s;
	s.p = luaL_optlstring(L, 2, "", &s.n);
	if (s.n == 0)
		return MILLISECOND;
	uint64_t n;
	s = str_trim(s);
	return !str_u64(s, &n) || n > 1 ? NEITHER : n ? MICROSECOND : MILLISECOND;
}

static int timestamp(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	if (resolution_arg(L) != MILLISECOND)
		return luaL_error(L, "timestamp format must be MILLISECOND.");
	lua_pushnumber(L, (lua_Number)(loop_wall_us(run_now->ex->env->loop) / 1000));
	return 1;
}

static int timestamp_string(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	enum resolution res = resolution_arg(L);
	if (res == NEITHER)
		return luaL_error(L, "timestamp format must be MILLISECOND or MICROSECOND.");
	uint64_t us = loop_wall_us(run_now->ex->env->loop);
	char text[24];
	int n = snprintf(text, sizeof text, "%" PRIu64, res == MILLISECOND ? us / 1000 : us);
	lua_pushlstring(L, text, (size_t)n);
	return 1;
}

/* --- routing --- */

static int clear_route_cache(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	if (run_now->kind == LEG_REQUEST && !run_now->continued)
		exch_clear_route(run_now->ex);
	return 0;
}

/* An IP address, with or without port: "1.2.3.4", "1.2.3.4:80", "[::1]", "[::1]:80", "::1". */
static bool ip_host(struct str s)
{
	char text[INET6_ADDRSTRLEN + 1];
	unsigned char addr[16];
	struct str host = s, port = {NULL, 0};
	bool bracket = s.n && s.p[0] == '[';
	bool six = bracket || (s.n && memchr(s.p, ':', s.n) != memrchr(s.p, ':', s.n));
	if (bracket) {
		const char *close = memchr(s.p, ']', s.n);
		if (!close)
			return false;
		host = (struct str){s.p + 1, (size_t)(close - s.p) - 1};
		struct str rest = str_from(s, (size_t)(close - s.p) + 1);
		if (rest.n && rest.p[0] != ':')
			return false;
		if (rest.n)
			port = str_from(rest, 1);
	} else if (!six) {
		struct str before, after;
		if (str_cut(s, ':', &before, &after)) {
			host = before;
			port = after;
		}
	}
	uint64_t n;
	if (port.p && (!str_u64(port, &n) || n > 65535))
		return false;
	if (host.n == 0 || host.n >= sizeof text || memchr(host.p, 0, host.n))
		return false;
	memcpy(text, host.p, host.n);
	text[host.n] = 0;
	return inet_pton(AF_INET, text, addr) == 1 || (six && inet_pton(AF_INET6, text, addr) == 1);
}

static int set_override_host(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	struct str host = obj_str(L, 2);
	bool strict = false;
	if (lua_gettop(L) >= 3) {
		luaL_checktype(L, 3, LUA_TBOOLEAN);
		strict = lua_toboolean(L, 3);
	}
	if (!ip_host(host))
		return luaL_error(L, "host is not a valid IP address");
	struct run *r = run_now;
	if (r->kind != LEG_REQUEST || r->continued)
		return 0;
	r->ex->override_host = obj_copy(L, host);
	r->ex->override_strict = strict;
	return 0;
}

void handle_methods(lua_State *L)
{
	static const luaL_Reg methods[] = {{"headers", headers_handle},
					   {"requestHeaders", headers_handle_request},
					   {"trailers", headers_handle_trailers},
					   {"body", buffer_body},
					   {"bodyChunks", chunks_iterator},
					   {"httpCall", httpcall_handle},
					   {"respond", respond_handle},
					   {"metadata", metadata_route},
					   {"filterContext", metadata_context},
					   {"virtualHost", metadata_vhost},
					   {"route", metadata_of_route},
					   {"streamInfo", streaminfo_handle},
					   {"connection", connection_handle},
					   {"connectionStreamInfo", connection_stream_info},
					   {"setUpstreamOverrideHost", set_override_host},
					   {"clearRouteCache", clear_route_cache},
					   {"importPublicKey", crypto_import},
					   {"verifySignature", crypto_verify},
					   {"base64Escape", crypto_base64_escape},
					   {"base64Decode", crypto_base64_decode},
					   {"timestamp", timestamp},
					   {"timestampString", timestamp_string},
					   {"stats", stats_obj_handle},
					   {NULL, NULL}};
	obj_methods(L, OBJ_HANDLE, methods);
}
