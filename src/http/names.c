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
	[1] = FIELD_X_FORWARDED_HOST, [4] = FIELD_PROTOCOL, [6] = FIELD_PRAGMA,
	[9] = FIELD_ACA_METHODS, [14] = FIELD_ACA_PN, [31] = FIELD_X_ENVOY_MAX_RETRIES,
	[33] = FIELD_ETAG, [35] = FIELD_X_ENVOY_INTERNAL, [46] = FIELD_RANGE,
	[48] = FIELD_X_FORWARDED_CLIENT_CERT, [49] = FIELD_PROXY_STATUS, [53] = FIELD_FORWARDED,
	[61] = FIELD_IF_MATCH, [62] = FIELD_PROXY_AUTHENTICATE, [71] = FIELD_METHOD,
	[77] = FIELD_IF_NONE_MATCH, [84] = FIELD_TRAILER, [86] = FIELD_CACHE_CONTROL,
	[92] = FIELD_GRPC_STATUS, [97] = FIELD_SEC_FETCH_USER, [102] = FIELD_ACRPN,
	[105] = FIELD_X_ENVOY_EXPECTED_TIMEOUT, [112] = FIELD_CONTENT_ENCODING,
	[114] = FIELD_UPGRADE, [115] = FIELD_AUTHORIZATION, [119] = FIELD_GRPC_ACCEPT_ENCODING,
	[122] = FIELD_REFERER, [125] = FIELD_EXPIRES, [129] = FIELD_SET_COOKIE,
	[132] = FIELD_KEEP_ALIVE, [150] = FIELD_ORIGIN, [151] = FIELD_LOCATION,
	[173] = FIELD_LAST_MODIFIED, [176] = FIELD_USER_AGENT, [179] = FIELD_STATUS,
	[185] = FIELD_UPGRADE_INSECURE, [189] = FIELD_ALLOW, [190] = FIELD_X_FORWARDED_FOR,
	[191] = FIELD_SEC_FETCH_DEST, [230] = FIELD_AGE, [244] = FIELD_X_ENVOY_TIMEOUT,
	[253] = FIELD_X_ENVOY_SERVICE_TIME, [254] = FIELD_RETRY_AFTER, [258] = FIELD_ACCEPT,
	[261] = FIELD_IF_RANGE, [264] = FIELD_PROXY_CONNECTION, [268] = FIELD_X_ENVOY_RETRY_ON,
	[270] = FIELD_SERVER, [274] = FIELD_IF_MODIFIED_SINCE, [277] = FIELD_X_REQUEST_ID,
	[278] = FIELD_X_ENVOY_EXTERNAL, [280] = FIELD_DATE, [281] = FIELD_PROXY_AUTHORIZATION,
	[285] = FIELD_X_FORWARDED_PROTO, [289] = FIELD_ACCEPT_ENCODING, [295] = FIELD_TRACEPARENT,
	[296] = FIELD_AC_MAX_AGE, [297] = FIELD_CONTENT_RANGE, [301] = FIELD_ACRM,
	[302] = FIELD_ACA_CREDENTIALS, [318] = FIELD_CONTENT_LENGTH, [322] = FIELD_COOKIE,
	[323] = FIELD_ACA_HEADERS, [326] = FIELD_ACA_ORIGIN, [332] = FIELD_HTTP2_SETTINGS,
	[338] = FIELD_TRANSFER_ENCODING, [346] = FIELD_ACCEPT_LANGUAGE,
	[357] = FIELD_IF_UNMODIFIED_SINCE, [367] = FIELD_HOST, [371] = FIELD_TE,
	[375] = FIELD_LINK, [376] = FIELD_AUTHORITY, [384] = FIELD_VIA,
	[398] = FIELD_X_ENVOY_TRY_TIMEOUT, [400] = FIELD_SEC_FETCH_SITE,
	[407] = FIELD_SEC_FETCH_MODE, [408] = FIELD_X_ENVOY_ATTEMPT_COUNT, [409] = FIELD_EXPECT,
	[411] = FIELD_ACCEPT_RANGES, [417] = FIELD_X_FORWARDED_PORT, [429] = FIELD_VARY,
	[432] = FIELD_GRPC_TIMEOUT, [437] = FIELD_SCHEME, [439] = FIELD_CONNECTION,
	[455] = FIELD_GRPC_MESSAGE, [456] = FIELD_CONTENT_LOCATION, [473] = FIELD_ACE_HEADERS,
	[481] = FIELD_PATH, [482] = FIELD_X_ENVOY_ORIGINAL_PATH, [495] = FIELD_CONTENT_TYPE,
	[497] = FIELD_ACRH,
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
	for (size_t i = 0; i < n; i++) {
		char fold = (char)((want[i] & 0x40) >> 1);
		if ((p[i] | fold) != want[i])
			return FIELD_OTHER;
	}
	return (enum field_id)id;
}
