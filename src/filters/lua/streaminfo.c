/* src/filters/lua/streaminfo.c: streamInfo() and filterState() (lua-filter.md 4.5). */
#include "filters/lua/lua_int.h"

static int push_str(lua_State *L, struct str s)
{
	lua_pushlstring(L, s.p ? s.p : "", s.n);
	return 1;
}

static int protocol(lua_State *L)
{
	obj_arg(L, OBJ_STREAM_INFO);
	const struct exchange *ex = run_now->ex;
	return push_str(L, ex->http2    ? STR("HTTP/2")
			   : ex->http10 ? STR("HTTP/1.0")
					: STR("HTTP/1.1"));
}

/* As last chosen: a changed request shows its new route only when that is needed. */
static int route_name(lua_State *L)
{
	obj_arg(L, OBJ_STREAM_INFO);
	const struct route *r = run_now->ex->route;
	return push_str(L, r ? r->name : STR(""));
}

static int virtual_cluster_name(lua_State *L)
{
	obj_arg(L, OBJ_STREAM_INFO);
	const struct exchange *ex = run_now->ex;
	const struct vhost *v = run_now->kind == LEG_RESPONSE ? ex->vhost : NULL;
	for (unsigned i = 0; v && i < v->nvclusters; i++) {
		const struct virtual_cluster *c = &v->vclusters[i];
		bool all = true;
		for (unsigned k = 0; k < c->nheaders && all; k++)
			all = field_matches(&c->headers[k], &ex->req.head);
		if (all)
			return push_str(L, c->name);
	}
	return push_str(L, STR(""));
}

static int local_address(lua_State *L)
{
	obj_arg(L, OBJ_STREAM_INFO);
	return push_str(L, run_now->ex->peer->local);
}

static int direct_remote_address(lua_State *L)
{
	obj_arg(L, OBJ_STREAM_INFO);
	return push_str(L, run_now->ex->peer->remote);
}

static int remote_address(lua_State *L)
{
	obj_arg(L, OBJ_STREAM_INFO);
	const struct exchange *ex = run_now->ex;
	return push_str(L, ex->remote.p ? ex->remote : ex->peer->remote);
}

static int requested_server_name(lua_State *L)
{
	obj_arg(L, OBJ_STREAM_INFO);
	const struct exch_peer *p = run_now->ex->peer;
	return push_str(L, p->has_inspector ? p->sni : STR(""));
}

static int ssl_connection(lua_State *L)
{
	obj_arg(L, OBJ_STREAM_INFO);
	return connection_ssl(L);
}

static int typed_metadata(lua_State *L)
{
	obj_arg(L, OBJ_STREAM_INFO);
	struct str ns = obj_str(L, 2);
	const struct value *v = metadata_typed(&run_now->ex->metadata, ns);
	if (v)
		metadata_push_value(L, v);
	else
		lua_pushnil(L);
	return 1;
}

static int drain(lua_State *L)
{
	obj_arg(L, OBJ_STREAM_INFO);
	run_now->ex->drain_connection = true;
	return 0;
}

/* --- filter state --- */

static int filter_state(lua_State *L)
{
	obj_arg(L, OBJ_STREAM_INFO);
	obj_push(L, OBJ_FILTER_STATE, PLACE_FILTER_STATE, 0);
	return 1;
}

static int state_get(lua_State *L)
{
	obj_arg(L, OBJ_FILTER_STATE);
	struct str name = obj_str(L, 2);
	const struct state_entry *e = state_find(run_now->ex->filter_state, name);
	bool field = e && !lua_isnoneornil(L, 3);
	if (field)
		obj_str(L, 3);
	if (e && !field) /* strings have no fields */
		return push_str(L, e->value);
	lua_pushnil(L);
	return 1;
}

static int state_set(lua_State *L)
{
	obj_arg(L, OBJ_FILTER_STATE);
	struct str name = obj_str(L, 2), factory = obj_str(L, 3), value = obj_str(L, 4);
	struct exchange *ex = run_now->ex;
	if (!str_eq(factory, STR("envoy.string")))
		return luaL_error(L, "'%s' does not have an object factory", factory.p);
	struct state_entry *e = state_find(run_now->ex->filter_state, name);
	if (!e) {
		e = arena_zalloc(&ex->arena, sizeof *e);
		if (!e)
			obj_no_memory(L);
		e->name = obj_copy(L, name);
		e->value = obj_copy(L, value);
		e->next = ex->filter_state;
		ex->filter_state = e;
		return 0;
	}
	if (!e->read_only)
		e->value = obj_copy(L, value);
	return 0;
}

int streaminfo_handle(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	obj_push(L, OBJ_STREAM_INFO, PLACE_STREAM_INFO, 0);
	return 1;
}

void streaminfo_methods(lua_State *L)
{
	static const luaL_Reg info[] = {{"protocol", protocol},
					{"routeName", route_name},
					{"virtualClusterName", virtual_cluster_name},
					{"downstreamLocalAddress", local_address},
					{"downstreamDirectLocalAddress", local_address},
					{"downstreamDirectRemoteAddress", direct_remote_address},
					{"downstreamRemoteAddress", remote_address},
					{"requestedServerName", requested_server_name},
					{"downstreamSslConnection", ssl_connection},
					{"dynamicMetadata", metadata_dynamic},
					{"dynamicTypedMetadata", typed_metadata},
					{"filterState", filter_state},
					{"drainConnectionUponCompletion", drain},
					{NULL, NULL}};
	static const luaL_Reg state[] = {{"get", state_get}, {"set", state_set}, {NULL, NULL}};
	obj_methods(L, OBJ_STREAM_INFO, info);
	obj_methods(L, OBJ_FILTER_STATE, state);
}
