/* src/http/names.c */
#include "http/names_int.h"

const struct name_info name_infos[FIELD_IDS] = {[FIELD_OTHER] = {"", 0, 0},
#define X(id, name, flags) [id] = {name, sizeof name - 1, flags},
						FIELD_NAMES(X)
#undef X
};

const char name_padded[FIELD_IDS][NAME_ROOM] = {
#define X(id, name, flags) [id] = name,
	FIELD_NAMES(X)
#undef X
};

const uint8_t name_lengths[FIELD_IDS] = {
#define X(id, name, flags) [id] = sizeof name - 1,
	FIELD_NAMES(X)
#undef X
};

#define X(id, name, flags) _Static_assert(sizeof name - 1 <= NAME_ROOM, "longer than its room");
FIELD_NAMES(X)
#undef X

/* Made by names_test: run it after a change of the list, it prints what belongs here. */
/* clang-format off */
const uint8_t name_slots[NAME_SLOTS] = {
	[1] = FIELD_SEC_FETCH_MODE, [13] = FIELD_DATE, [14] = FIELD_GRPC_STATUS,
	[15] = FIELD_LAST_MODIFIED, [16] = FIELD_ACCEPT_RANGES, [18] = FIELD_PATH,
	[19] = FIELD_CONTENT_ENCODING, [21] = FIELD_AGE, [26] = FIELD_X_FORWARDED_CLIENT_CERT,
	[30] = FIELD_UPGRADE, [33] = FIELD_PROXY_AUTHORIZATION, [35] = FIELD_TRACEPARENT,
	[37] = FIELD_ACA_PN, [38] = FIELD_ACA_METHODS, [47] = FIELD_IF_MODIFIED_SINCE,
	[48] = FIELD_TE, [53] = FIELD_EXPECT, [64] = FIELD_AC_MAX_AGE,
	[72] = FIELD_X_ENVOY_EXPECTED_TIMEOUT, [83] = FIELD_RANGE,
	[88] = FIELD_GRPC_ACCEPT_ENCODING, [97] = FIELD_X_FORWARDED_FOR,
	[99] = FIELD_SEC_FETCH_USER, [105] = FIELD_ACA_CREDENTIALS, [135] = FIELD_METHOD,
	[142] = FIELD_ACCEPT, [146] = FIELD_IF_RANGE, [147] = FIELD_X_ENVOY_ATTEMPT_COUNT,
	[176] = FIELD_ACCEPT_LANGUAGE, [184] = FIELD_GRPC_MESSAGE, [196] = FIELD_RETRY_AFTER,
	[198] = FIELD_X_ENVOY_TIMEOUT, [201] = FIELD_COOKIE, [202] = FIELD_X_FORWARDED_PROTO,
	[204] = FIELD_X_ENVOY_EXTERNAL, [207] = FIELD_CONTENT_LOCATION, [215] = FIELD_CONNECTION,
	[222] = FIELD_CONTENT_LENGTH, [227] = FIELD_REFERER, [237] = FIELD_AUTHORITY,
	[238] = FIELD_PROTOCOL, [246] = FIELD_X_FORWARDED_PORT, [263] = FIELD_HTTP2_SETTINGS,
	[268] = FIELD_LOCATION, [272] = FIELD_ACRH, [273] = FIELD_PROXY_STATUS,
	[279] = FIELD_UPGRADE_INSECURE, [281] = FIELD_VARY, [286] = FIELD_X_ENVOY_MAX_RETRIES,
	[287] = FIELD_X_ENVOY_INTERNAL, [291] = FIELD_USER_AGENT, [292] = FIELD_X_FORWARDED_HOST,
	[301] = FIELD_IF_NONE_MATCH, [311] = FIELD_SEC_FETCH_DEST, [320] = FIELD_ORIGIN,
	[322] = FIELD_CONTENT_RANGE, [323] = FIELD_PROXY_CONNECTION, [325] = FIELD_SERVER,
	[327] = FIELD_VIA, [344] = FIELD_CACHE_CONTROL, [348] = FIELD_EXPIRES,
	[360] = FIELD_PROXY_AUTHENTICATE, [367] = FIELD_SCHEME, [369] = FIELD_ACE_HEADERS,
	[370] = FIELD_FORWARDED, [372] = FIELD_ACA_HEADERS, [373] = FIELD_PRAGMA,
	[376] = FIELD_X_REQUEST_ID, [384] = FIELD_HOST, [389] = FIELD_IF_UNMODIFIED_SINCE,
	[390] = FIELD_ALLOW, [396] = FIELD_GRPC_TIMEOUT, [397] = FIELD_TRAILER,
	[398] = FIELD_ACCEPT_ENCODING, [402] = FIELD_LINK, [406] = FIELD_X_ENVOY_TRY_TIMEOUT,
	[413] = FIELD_IF_MATCH, [416] = FIELD_X_ENVOY_ORIGINAL_PATH,
	[428] = FIELD_TRANSFER_ENCODING, [431] = FIELD_ETAG, [438] = FIELD_ACRM,
	[446] = FIELD_SEC_FETCH_SITE, [455] = FIELD_X_ENVOY_RETRY_ON, [457] = FIELD_CONTENT_TYPE,
	[458] = FIELD_ACRPN, [468] = FIELD_AUTHORIZATION, [471] = FIELD_ACA_ORIGIN,
	[480] = FIELD_X_ENVOY_SERVICE_TIME, [487] = FIELD_STATUS, [493] = FIELD_SET_COOKIE,
	[500] = FIELD_KEEP_ALIVE,
};
/* clang-format on */

enum field_id name_id(const char *p, size_t n)
{
	if (n < 2)
		return FIELD_OTHER;
	unsigned id = name_slots[name_slot(p, n)];
	if (name_lengths[id] != n)
		return FIELD_OTHER;
	const char *want = name_padded[id];
	if (memcmp(p, want, n) == 0) /* in lower case already: scripts, HTTP/2 */
		return (enum field_id)id;
	for (size_t i = 0; i < n; i++) {
		char fold = (char)((want[i] & 0x40) >> 1);
		if ((p[i] | fold) != want[i])
			return FIELD_OTHER;
	}
	return (enum field_id)id;
}

bool name_may_trail(struct str name)
{
	static const char *const others[] = {"www-authenticate", "max-forwards", "x-real-ip",
					     "cdn-loop"};
	enum field_id id = name_id(name.p, name.n);
	if (name_infos[id].flags & (NAME_HOP | NAME_FRAMING | NAME_PSEUDO))
		return false;
	switch (id) {
	case FIELD_HOST:
	case FIELD_PROXY_AUTHENTICATE:
	case FIELD_PROXY_AUTHORIZATION:
	case FIELD_AUTHORIZATION:
	case FIELD_COOKIE:
	case FIELD_SET_COOKIE:
	case FIELD_FORWARDED:
	case FIELD_X_FORWARDED_FOR:
	case FIELD_X_FORWARDED_PROTO:
	case FIELD_X_FORWARDED_HOST:
	case FIELD_X_FORWARDED_PORT:
	case FIELD_X_FORWARDED_CLIENT_CERT:
	case FIELD_X_REQUEST_ID:
	case FIELD_X_ENVOY_ATTEMPT_COUNT:
	case FIELD_X_ENVOY_RETRY_ON:
	case FIELD_X_ENVOY_MAX_RETRIES:
	case FIELD_X_ENVOY_EXTERNAL:
	case FIELD_X_ENVOY_INTERNAL:
	case FIELD_X_ENVOY_TIMEOUT:
	case FIELD_X_ENVOY_TRY_TIMEOUT:
	case FIELD_X_ENVOY_EXPECTED_TIMEOUT:
	case FIELD_X_ENVOY_ORIGINAL_PATH:
	case FIELD_VIA:
	case FIELD_EXPECT:
	case FIELD_CONTENT_ENCODING:
	case FIELD_CONTENT_TYPE:
	case FIELD_CONTENT_RANGE:
	case FIELD_CONTENT_LOCATION:
	case FIELD_CACHE_CONTROL:
	case FIELD_PRAGMA:
	case FIELD_EXPIRES:
	case FIELD_AGE:
	case FIELD_DATE:
	case FIELD_LOCATION:
	case FIELD_VARY:
	case FIELD_RETRY_AFTER:
	case FIELD_RANGE:
	case FIELD_IF_MATCH:
	case FIELD_IF_NONE_MATCH:
	case FIELD_IF_MODIFIED_SINCE:
	case FIELD_IF_UNMODIFIED_SINCE:
	case FIELD_IF_RANGE: return false;
	default: break;
	}
	if (id)
		return true;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (str_ieq(name, str_of(others[i])))
			return false;
	const struct str forwarded = STR("x-forwarded-");
	return name.n < forwarded.n || !str_ieq((struct str){name.p, forwarded.n}, forwarded);
}
