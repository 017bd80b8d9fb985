/* src/http/names.h
 *
 * The field names postern knows: an id each, so that the data path compares bytes once, in the parser.
 * Flags: P pseudo; Q single-slot in requests, R in responses (lua-filter.md 4.2); H hop-by-hop (RFC 9110
 * 7.6.1); F framing, owned by the codec (robustness.md I3).
 */
#pragma once
#include "base/str.h"

enum {
	NAME_PSEUDO = 1,
	NAME_SINGLE_REQ = 2,
	NAME_SINGLE_RESP = 4,
	NAME_HOP = 8,
	NAME_FRAMING = 16
};
/* X(id, "lower-case name", flags) */
#define FIELD_NAMES(X)                                                                            \
	X(FIELD_AUTHORITY, ":authority", NAME_PSEUDO)                                             \
	X(FIELD_PATH, ":path", NAME_PSEUDO)                                                       \
	X(FIELD_METHOD, ":method", NAME_PSEUDO)                                                   \
	X(FIELD_SCHEME, ":scheme", NAME_PSEUDO)                                                   \
	X(FIELD_STATUS, ":status", NAME_PSEUDO)                                                   \
	X(FIELD_PROTOCOL, ":protocol", NAME_PSEUDO)                                               \
	X(FIELD_HOST, "host", 0)                                                                  \
	X(FIELD_CONNECTION, "connection", NAME_HOP | NAME_FRAMING)                                \
	X(FIELD_KEEP_ALIVE, "keep-alive",                                                         \
	  NAME_HOP | NAME_FRAMING | NAME_SINGLE_REQ | NAME_SINGLE_RESP)                           \
	X(FIELD_PROXY_CONNECTION, "proxy-connection", NAME_HOP | NAME_FRAMING | NAME_SINGLE_REQ)  \
	X(FIELD_TRANSFER_ENCODING, "transfer-encoding", NAME_HOP | NAME_FRAMING)                  \
	X(FIELD_CONTENT_LENGTH, "content-length", NAME_FRAMING)                                   \
	X(FIELD_UPGRADE, "upgrade", NAME_HOP | NAME_FRAMING | NAME_SINGLE_REQ | NAME_SINGLE_RESP) \
	X(FIELD_HTTP2_SETTINGS, "http2-settings", NAME_HOP)                                       \
	X(FIELD_TE, "te", NAME_HOP | NAME_FRAMING | NAME_SINGLE_REQ)                              \
	X(FIELD_TRAILER, "trailer", NAME_FRAMING)                                                 \
	X(FIELD_PROXY_AUTHENTICATE, "proxy-authenticate", 0)                                      \
	X(FIELD_PROXY_AUTHORIZATION, "proxy-authorization", 0)                                    \
	X(FIELD_EXPECT, "expect", NAME_SINGLE_REQ)                                                \
	X(FIELD_ACCEPT, "accept", NAME_SINGLE_REQ)                                                \
	X(FIELD_ACCEPT_ENCODING, "accept-encoding", NAME_SINGLE_REQ)                              \
	X(FIELD_ACCEPT_LANGUAGE, "accept-language", 0)                                            \
	X(FIELD_ACRM, "access-control-request-method", NAME_SINGLE_REQ)                           \
	X(FIELD_ACRH, "access-control-request-headers", NAME_SINGLE_REQ)                          \
	X(FIELD_ACRPN, "access-control-request-private-network", NAME_SINGLE_REQ)                 \
	X(FIELD_AUTHORIZATION, "authorization", NAME_SINGLE_REQ)                                  \
	X(FIELD_CACHE_CONTROL, "cache-control", NAME_SINGLE_REQ | NAME_SINGLE_RESP)               \
	X(FIELD_CONTENT_ENCODING, "content-encoding", NAME_SINGLE_REQ | NAME_SINGLE_RESP)         \
	X(FIELD_CONTENT_TYPE, "content-type", NAME_SINGLE_REQ | NAME_SINGLE_RESP)                 \
	X(FIELD_CONTENT_RANGE, "content-range", 0)                                                \
	X(FIELD_CONTENT_LOCATION, "content-location", 0)                                          \
	X(FIELD_COOKIE, "cookie", 0)                                                              \
	X(FIELD_SET_COOKIE, "set-cookie", 0)                                                      \
	X(FIELD_GRPC_ACCEPT_ENCODING, "grpc-accept-encoding", NAME_SINGLE_REQ)                    \
	X(FIELD_GRPC_TIMEOUT, "grpc-timeout", NAME_SINGLE_REQ)                                    \
	X(FIELD_GRPC_STATUS, "grpc-status", NAME_SINGLE_RESP)                                     \
	X(FIELD_GRPC_MESSAGE, "grpc-message", NAME_SINGLE_RESP)                                   \
	X(FIELD_IF_MATCH, "if-match", NAME_SINGLE_REQ)                                            \
	X(FIELD_IF_NONE_MATCH, "if-none-match", NAME_SINGLE_REQ)                                  \
	X(FIELD_IF_MODIFIED_SINCE, "if-modified-since", NAME_SINGLE_REQ)                          \
	X(FIELD_IF_UNMODIFIED_SINCE, "if-unmodified-since", NAME_SINGLE_REQ)                      \
	X(FIELD_IF_RANGE, "if-range", NAME_SINGLE_REQ)                                            \
	X(FIELD_RANGE, "range", 0)                                                                \
	X(FIELD_ORIGIN, "origin", NAME_SINGLE_REQ)                                                \
	X(FIELD_PRAGMA, "pragma", NAME_SINGLE_REQ)                                                \
	X(FIELD_PROXY_STATUS, "proxy-status", NAME_SINGLE_REQ | NAME_SINGLE_RESP)                 \
	X(FIELD_REFERER, "referer", NAME_SINGLE_REQ)                                              \
	X(FIELD_USER_AGENT, "user-agent", NAME_SINGLE_REQ)                                        \
	X(FIELD_VIA, "via", NAME_SINGLE_REQ | NAME_SINGLE_RESP)                                   \
	X(FIELD_FORWARDED, "forwarded", 0)                                                        \
	X(FIELD_X_FORWARDED_FOR, "x-forwarded-for", NAME_SINGLE_REQ)                              \
	X(FIELD_X_FORWARDED_PROTO, "x-forwarded-proto", NAME_SINGLE_REQ)                          \
	X(FIELD_X_FORWARDED_HOST, "x-forwarded-host", NAME_SINGLE_REQ)                            \
	X(FIELD_X_FORWARDED_PORT, "x-forwarded-port", NAME_SINGLE_REQ)                            \
	X(FIELD_X_FORWARDED_CLIENT_CERT, "x-forwarded-client-cert", NAME_SINGLE_REQ)              \
	X(FIELD_X_REQUEST_ID, "x-request-id", NAME_SINGLE_REQ | NAME_SINGLE_RESP)                 \
	X(FIELD_X_ENVOY_ATTEMPT_COUNT, "x-envoy-attempt-count",                                   \
	  NAME_SINGLE_REQ | NAME_SINGLE_RESP)                                                     \
	X(FIELD_X_ENVOY_RETRY_ON, "x-envoy-retry-on", NAME_SINGLE_REQ)                            \
	X(FIELD_X_ENVOY_MAX_RETRIES, "x-envoy-max-retries", 0)                                    \
	X(FIELD_X_ENVOY_EXTERNAL, "x-envoy-external-address", 0)                                  \
	X(FIELD_X_ENVOY_INTERNAL, "x-envoy-internal", 0)                                          \
	X(FIELD_X_ENVOY_TIMEOUT, "x-envoy-upstream-rq-timeout-ms", 0)                             \
	X(FIELD_X_ENVOY_TRY_TIMEOUT, "x-envoy-upstream-rq-per-try-timeout-ms", 0)                 \
	X(FIELD_X_ENVOY_EXPECTED_TIMEOUT, "x-envoy-expected-rq-timeout-ms", 0)                    \
	X(FIELD_X_ENVOY_ORIGINAL_PATH, "x-envoy-original-path", 0)                                \
	X(FIELD_X_ENVOY_SERVICE_TIME, "x-envoy-upstream-service-time", NAME_SINGLE_RESP)          \
	X(FIELD_TRACEPARENT, "traceparent", 0)                                                    \
	X(FIELD_ACA_ORIGIN, "access-control-allow-origin", NAME_SINGLE_RESP)                      \
	X(FIELD_ACA_METHODS, "access-control-allow-methods", NAME_SINGLE_RESP)                    \
	X(FIELD_ACA_HEADERS, "access-control-allow-headers", NAME_SINGLE_RESP)                    \
	X(FIELD_ACA_CREDENTIALS, "access-control-allow-credentials", NAME_SINGLE_RESP)            \
	X(FIELD_ACA_PN, "access-control-allow-private-network", NAME_SINGLE_RESP)                 \
	X(FIELD_ACE_HEADERS, "access-control-expose-headers", NAME_SINGLE_RESP)                   \
	X(FIELD_AC_MAX_AGE, "access-control-max-age", NAME_SINGLE_RESP)                           \
	X(FIELD_AGE, "age", NAME_SINGLE_RESP)                                                     \
	X(FIELD_DATE, "date", NAME_SINGLE_RESP)                                                   \
	X(FIELD_ETAG, "etag", NAME_SINGLE_RESP)                                                   \
	X(FIELD_EXPIRES, "expires", NAME_SINGLE_RESP)                                             \
	X(FIELD_LAST_MODIFIED, "last-modified", NAME_SINGLE_RESP)                                 \
	X(FIELD_LOCATION, "location", NAME_SINGLE_RESP)                                           \
	X(FIELD_SERVER, "server", NAME_SINGLE_RESP)                                               \
	X(FIELD_VARY, "vary", NAME_SINGLE_RESP)                                                   \
	X(FIELD_ACCEPT_RANGES, "accept-ranges", 0)                                                \
	X(FIELD_ALLOW, "allow", 0)                                                                \
	X(FIELD_LINK, "link", 0)                                                                  \
	X(FIELD_RETRY_AFTER, "retry-after", 0)                                                    \
	X(FIELD_UPGRADE_INSECURE, "upgrade-insecure-requests", 0)                                 \
	X(FIELD_SEC_FETCH_SITE, "sec-fetch-site", 0)                                              \
	X(FIELD_SEC_FETCH_MODE, "sec-fetch-mode", 0)                                              \
	X(FIELD_SEC_FETCH_DEST, "sec-fetch-dest", 0)                                              \
	X(FIELD_SEC_FETCH_USER, "sec-fetch-user", 0)

enum field_id {
	FIELD_OTHER = 0,
#define X(id, name, flags) id,
	FIELD_NAMES(X)
#undef X
		FIELD_IDS
};
_Static_assert(FIELD_IDS <= 128, "head.has[] holds 128 bits");

struct name_info {
	const char *name; /* lower case */
	uint8_t n, flags;
};
extern const struct name_info name_infos[FIELD_IDS];

/* FIELD_OTHER when the name is not listed; case is ignored. */
enum field_id name_id(const char *p, size_t n);
/* Whether a field may come behind a body (RFC 9110 6.5.1, robustness.md 3.1): not framing, routing, authentication, cookies, who
 * forwarded it, how to read the content, nor what steers caches or asks for conditions. */
bool name_may_trail(struct str name);
