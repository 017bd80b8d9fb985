/* src/filters/lua/connection.c: connection(), its TLS object (lua-filter.md 4.6),
 * connectionStreamInfo(). */
#include "filters/lua/lua_int.h"

int connection_handle(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	obj_push(L, OBJ_CONNECTION, PLACE_CONNECTION, 0);
	return 1;
}

/* The TLS object, or nil on plain connections. */
int connection_ssl(lua_State *L)
{
	const struct exchange *ex = run_now->ex;
	if (ex->peer->tls && ex->port->text)
		obj_push(L, OBJ_SSL, PLACE_SSL, 0);
	else
		lua_pushnil(L);
	return 1;
}

static int ssl(lua_State *L)
{
	obj_arg(L, OBJ_CONNECTION);
	return connection_ssl(L);
}

static int text(lua_State *L, enum obj_kind kind, enum peer_text what)
{
	obj_arg(L, kind);
	struct exchange *ex = run_now->ex;
	struct str s = ex->port->text(ex, what, &ex->arena);
	lua_pushlstring(L, s.p ? s.p : "", s.p ? s.n : 0);
	return 1;
}

static int list(lua_State *L, enum obj_kind kind, enum peer_list what)
{
	obj_arg(L, kind);
	struct exchange *ex = run_now->ex;
	struct str *s = NULL;
	unsigned n = ex->port->list(ex, what, &ex->arena, &s);
	lua_createtable(L, (int)n, 0);
	for (unsigned i = 0; i < n; i++) {
		lua_pushlstring(L, s[i].p, s[i].n);
		lua_rawseti(L, -2, (int)i + 1);
	}
	return 1;
}

static int64_t number(lua_State *L, enum peer_number what)
{
	obj_arg(L, OBJ_SSL);
	struct exchange *ex = run_now->ex;
	return ex->port->number(ex, what);
}

/* X(name in Lua, kind of object, what it asks for) */
#define TEXTS(X)                                                             \
	X(sha256PeerCertificateDigest, OBJ_SSL, PEER_SHA256)                 \
	X(serialNumberPeerCertificate, OBJ_SSL, PEER_SERIAL)                 \
	X(issuerPeerCertificate, OBJ_SSL, PEER_ISSUER)                       \
	X(subjectPeerCertificate, OBJ_SSL, PEER_SUBJECT)                     \
	X(subjectLocalCertificate, OBJ_SSL, PEER_LOCAL_SUBJECT)              \
	X(urlEncodedPemEncodedPeerCertificate, OBJ_SSL, PEER_PEM)            \
	X(urlEncodedPemEncodedPeerCertificateChain, OBJ_SSL, PEER_CHAIN_PEM) \
	X(sessionId, OBJ_SSL, PEER_SESSION_ID)                               \
	X(ciphersuiteId, OBJ_SSL, PEER_CIPHER_ID)                            \
	X(ciphersuiteString, OBJ_SSL, PEER_CIPHER)                           \
	X(tlsVersion, OBJ_SSL, PEER_TLS_VERSION)
#define LISTS(X)                                            \
	X(uriSanLocalCertificate, OBJ_SSL, PEER_LOCAL_URIS) \
	X(uriSanPeerCertificate, OBJ_SSL, PEER_URIS)        \
	X(dnsSansLocalCertificate, OBJ_SSL, PEER_LOCAL_DNS) \
	X(dnsSansPeerCertificate, OBJ_SSL, PEER_DNS)        \
	X(oidsPeerCertificate, OBJ_SSL, PEER_OIDS)          \
	X(oidsLocalCertificate, OBJ_SSL, PEER_LOCAL_OIDS)
#define X(name, kind, what)                 \
	static int name(lua_State *L)       \
	{                                   \
		return text(L, kind, what); \
	}
TEXTS(X)
#undef X
#define X(name, kind, what)                 \
	static int name(lua_State *L)       \
	{                                   \
		return list(L, kind, what); \
	}
LISTS(X)
#undef X

static int presented(lua_State *L)
{
	lua_pushboolean(L, number(L, PEER_PRESENTED) != 0);
	return 1;
}

static int validated(lua_State *L)
{
	lua_pushboolean(L, number(L, PEER_VALIDATED) != 0);
	return 1;
}

static int valid_from(lua_State *L)
{
	lua_pushnumber(L, (lua_Number)number(L, PEER_NOT_BEFORE));
	return 1;
}

static int expiration(lua_State *L)
{
	lua_pushnumber(L, (lua_Number)number(L, PEER_NOT_AFTER));
	return 1;
}

static int parsed_subject(lua_State *L)
{
	if (number(L, PEER_PRESENTED))
		obj_new(L, OBJ_PARSED_NAME);
	else
		lua_pushnil(L);
	return 1;
}

static int common_name(lua_State *L)
{
	return text(L, OBJ_PARSED_NAME, PEER_CN);
}

static int organization_name(lua_State *L)
{
	return list(L, OBJ_PARSED_NAME, PEER_ORGS);
}

/* --- connectionStreamInfo(): nothing in postern writes metadata on connections --- */

int connection_stream_info(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	obj_push(L, OBJ_CONNECTION_STREAM_INFO, PLACE_CONNECTION_STREAM_INFO, 0);
	return 1;
}

static int dynamic_metadata(lua_State *L)
{
	obj_arg(L, OBJ_CONNECTION_STREAM_INFO);
	obj_push(L, OBJ_CONNECTION_METADATA, PLACE_CONNECTION_METADATA, 0);
	return 1;
}

static int typed_metadata(lua_State *L)
{
	obj_arg(L, OBJ_CONNECTION_STREAM_INFO);
	obj_str(L, 2);
	lua_pushnil(L);
	return 1;
}

void connection_methods(lua_State *L)
{
	static const luaL_Reg connection[] = {{"ssl", ssl}, {NULL, NULL}};
	static const luaL_Reg info[] = {{"dynamicMetadata", dynamic_metadata},
					{"dynamicTypedMetadata", typed_metadata},
					{NULL, NULL}};
	static const luaL_Reg tls[] = {
#define X(name, kind, what) {#name, name},
		TEXTS(X) LISTS(X)
#undef X
			{"peerCertificatePresented", presented},
		{"peerCertificateValidated", validated},
		{"validFromPeerCertificate", valid_from},
		{"expirationPeerCertificate", expiration},
		{"parsedSubjectPeerCertificate", parsed_subject},
		{NULL, NULL}};
	static const luaL_Reg name[] = {
		{"commonName", common_name}, {"organizationName", organization_name}, {NULL, NULL}};
	obj_methods(L, OBJ_CONNECTION, connection);
	obj_methods(L, OBJ_CONNECTION_STREAM_INFO, info);
	obj_methods(L, OBJ_SSL, tls);
	obj_methods(L, OBJ_PARSED_NAME, name);
}
