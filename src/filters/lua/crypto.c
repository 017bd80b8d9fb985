/* src/filters/lua/crypto.c: keys, signatures (lua-filter.md 8), base64. */
#include "filters/lua/lua_int.h"
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/x509.h>

/* --- base64: standard alphabet, padding optional, white space ignored --- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int encode_at(lua_State *L, int at)
{
	struct str s = obj_str(L, at);
	size_t n = (s.n + 2) / 3 * 4;
	char *out = lua_newuserdata(L, n ? n : 1), *q = out;
	const unsigned char *p = (const unsigned char *)s.p;
	size_t i = 0;
	for (; i + 2 < s.n; i += 3) {
		unsigned v = (unsigned)p[i] << 16 | (unsigned)p[i + 1] << 8 | p[i + 2];
		*q++ = digits[v >> 18];
		*q++ = digits[v >> 12 & 63];
		*q++ = digits[v >> 6 & 63];
		*q++ = digits[v & 63];
	}
	if (i < s.n) {
		bool two = i + 1 < s.n;
		unsigned v = (unsigned)p[i] << 16 | (two ? (unsigned)p[i + 1] << 8 : 0);
		*q++ = digits[v >> 18];
		*q++ = digits[v >> 12 & 63];
		*q++ = two ? digits[v >> 6 & 63] : '=';
		*q++ = '=';
	}
	lua_pushlstring(L, out, (size_t)(q - out));
	return 1;
}

int crypto_base64_escape(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	return encode_at(L, 2);
}

int crypto_base64_encode(lua_State *L)
{
	return encode_at(L, 1);
}

static int digit_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* out holds s.n bytes. -1: not base64. */
static ptrdiff_t decode(struct str s, unsigned char *out)
{
	uint32_t bits = 0;
	unsigned have = 0, pads = 0;
	size_t n = 0, seen = 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c == ' ' || (c >= '\t' && c <= '\r'))
			continue;
		if (c == '=') {
			pads++;
			continue;
		}
		int d = digit_of(c);
		if (d < 0 || pads)
			return -1;
		bits = bits << 6 | (uint32_t)d;
		have += 6;
		seen++;
		if (have >= 8) {
			have -= 8;
			out[n++] = (unsigned char)(bits >> have);
		}
	}
	if (seen % 4 == 1)
		return -1;
	if (pads && (pads > 2 || (seen + pads) % 4))
		return -1;
	return (ptrdiff_t)n;
}

static int decode_at(lua_State *L, int at)
{
	struct str s = obj_str(L, at);
	unsigned char *out = lua_newuserdata(L, s.n ? s.n : 1);
	ptrdiff_t n = decode(s, out);
	if (n < 0)
		lua_pushnil(L);
	else
		lua_pushlstring(L, (char *)out, (size_t)n);
	return 1;
}

int crypto_base64_decode(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	return decode_at(L, 2);
}

int crypto_base64_read(lua_State *L)
{
	return decode_at(L, 1);
}

bool crypto_decode(struct arena *a, struct str text, struct str *out)
{
	unsigned char *p = arena_alloc(a, text.n ? text.n : 1);
	ptrdiff_t n = p ? decode(text, p) : -1;
	*out = (struct str){(char *)p, n < 0 ? 0 : (size_t)n};
	return n >= 0;
}

/* --- keys --- */

static struct str clamped(lua_State *L, int at, int len_at)
{
	struct str s = obj_str(L, at);
	int64_t n = obj_integer(L, len_at, 0, (int64_t)s.n);
	s.n = (size_t)n;
	return s;
}

void crypto_free_keys(struct lua_key *k)
{
	for (; k; k = k->next) {
		EVP_PKEY_free(k->pkey);
		k->pkey = NULL;
	}
}

static struct lua_key *find_key(const struct lua_state *st, struct str der)
{
	struct lua_key *k = st ? st->keys : NULL;
	while (k && !str_eq(k->der, der))
		k = k->next;
	return k;
}

/* importPublicKey(der, length): an object even when the key is no key. */
int crypto_import(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	struct str der = clamped(L, 2, 3);
	struct lua_state *st = run_state(run_now);
	if (!st)
		obj_no_memory(L);
	if (!find_key(st, der)) {
		struct lua_key *k = arena_zalloc(&run_now->ex->arena, sizeof *k);
		if (!k)
			obj_no_memory(L);
		k->der = obj_copy(L, der);
		const unsigned char *p = (const unsigned char *)k->der.p;
		ERR_clear_error();
		k->pkey = d2i_PUBKEY(NULL, &p, (long)der.n);
		k->next = st->keys;
		st->keys = k;
	}
	lua_pushlstring(L, der.p, der.n);
	if (obj_cached(L, PLACE_KEY)) { /* the same key again: the same object */
		lua_getfenv(L, -1);
		lua_rawgeti(L, -1, 1);
		bool same = lua_rawequal(L, -1, -4);
		lua_pop(L, 2);
		if (same)
			return 1;
		lua_pop(L, 1);
	}
	/* The object holds the string itself, in its environment. */
	struct obj *o = obj_new(L, OBJ_KEY);
	o->open = find_key(st, der)->pkey != NULL;
	lua_createtable(L, 1, 0);
	lua_pushvalue(L, -3);
	lua_rawseti(L, -2, 1);
	lua_setfenv(L, -2);
	obj_keep(L, PLACE_KEY);
	return 1;
}

static int key_get(lua_State *L)
{
	const struct obj *o = obj_arg(L, OBJ_KEY);
	if (!o->open) {
		lua_pushnil(L);
		return 1;
	}
	lua_getfenv(L, 1);
	lua_rawgeti(L, -1, 1);
	return 1;
}

/* --- signatures --- */

static const EVP_MD *digest_of(struct str name)
{
	static const char *const names[] = {"sha1", "sha224", "sha256", "sha384", "sha512"};
	for (unsigned i = 0; i < 5; i++)
		if (str_ieq(name, str_of(names[i])))
			return EVP_get_digestbyname(names[i]);
	return NULL;
}

static bool verify(EVP_PKEY *key, const EVP_MD *md, struct str sig, struct str data)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, md, NULL, key) == 1 &&
		  EVP_DigestVerify(ctx, (const unsigned char *)sig.p, sig.n,
				   (const unsigned char *)data.p, data.n) == 1;
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return ok;
}

int crypto_verify(lua_State *L)
{
	obj_arg(L, OBJ_HANDLE);
	struct str hash = obj_str(L, 2), der = obj_str(L, 3);
	const struct lua_key *k = find_key(run_state(run_now), der);
	if (!k || !k->pkey)
		return luaL_error(L, "invalid public key");
	struct str sig = clamped(L, 4, 5), data = clamped(L, 6, 7);
	const EVP_MD *md = digest_of(hash);
	if (!md) {
		lua_pushboolean(L, 0);
		lua_pushfstring(L, "%s is not supported.", hash.p);
		return 2;
	}
	if (!verify(k->pkey, md, sig, data)) {
		lua_pushboolean(L, 0);
		lua_pushliteral(L, "Failed to verify digest. Error code: 0");
		return 2;
	}
	lua_pushboolean(L, 1);
	lua_pushnil(L);
	return 2;
}

/* --- the modules "hmac" and "sha256": (algorithm, key or nil, data, raw) --- */

int crypto_digest(lua_State *L)
{
	static const char hex[] = "0123456789abcdef";
	struct str name = obj_str(L, 1), key = {NULL, 0}, data = obj_str(L, 3);
	unsigned char sum[EVP_MAX_MD_SIZE];
	char text[2 * EVP_MAX_MD_SIZE];
	unsigned n = 0;
	const EVP_MD *md = digest_of(name);
	if (!lua_isnil(L, 2))
		key = obj_str(L, 2);
	bool ok = md && key.n <= INT32_MAX &&
		  (key.p ? HMAC(md, key.p, (int)key.n, (const unsigned char *)data.p, data.n, sum,
				&n) != NULL
			 : EVP_Digest(data.p, data.n, sum, &n, md, NULL) == 1);
	ERR_clear_error();
	if (!ok)
		return luaL_error(L, "%s is not supported.", name.p);
	if (lua_toboolean(L, 4)) {
		lua_pushlstring(L, (char *)sum, n);
		return 1;
	}
	for (unsigned i = 0; i < n; i++) {
		text[2 * i] = hex[sum[i] >> 4];
		text[2 * i + 1] = hex[sum[i] & 15];
	}
	lua_pushlstring(L, text, 2 * n);
	return 1;
}

void crypto_methods(lua_State *L)
{
	static const luaL_Reg methods[] = {{"get", key_get}, {NULL, NULL}};
	obj_methods(L, OBJ_KEY, methods);
}
