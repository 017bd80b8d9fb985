/* src/base/failure.h
 *
 * What the outside did wrong, once: Envoy's response flag, the status the client gets, the body text of
 * the local reply, and the response code detail word for access log and counters.
 */
#pragma once

/* X(name, flag, status, details, text) */
#define FAILURES(X)                                                                                \
	X(FAILED_NONE, "", 0, "", "")                                                              \
	X(FAILED_CONNECT, "UF", 503,                                                               \
	  "upstream_reset_before_response_started{remote_connection_failure}",                     \
	  "upstream connect error or disconnect/reset before headers. reset reason: remote "       \
	  "connection failure")                                                                    \
	X(FAILED_CONNECT_TIMEOUT, "UF", 503,                                                       \
	  "upstream_reset_before_response_started{connection_timeout}",                            \
	  "upstream connect error or disconnect/reset before headers. reset reason: connection "   \
	  "timeout")                                                                               \
	X(FAILED_TERMINATED, "UC", 503,                                                            \
	  "upstream_reset_before_response_started{connection_termination}",                        \
	  "upstream connect error or disconnect/reset before headers. reset reason: connection "   \
	  "termination")                                                                           \
	X(FAILED_REMOTE_RESET, "UR", 503, "upstream_reset_before_response_started{remote_reset}",  \
	  "upstream connect error or disconnect/reset before headers. reset reason: remote reset") \
	X(FAILED_PROTOCOL, "UPE", 502, "upstream_reset_before_response_started{protocol_error}",   \
	  "upstream connect error or disconnect/reset before headers. reset reason: protocol "     \
	  "error")                                                                                 \
	X(FAILED_OVERFLOW, "UO", 503, "upstream_reset_before_response_started{overflow}",          \
	  "upstream connect error or disconnect/reset before headers. reset reason: overflow")     \
	X(FAILED_NO_HEALTHY, "UH", 503, "no_healthy_upstream", "no healthy upstream")              \
	X(FAILED_NO_CLUSTER, "NC", 503, "cluster_not_found", "")                                   \
	X(FAILED_DNS, "DF", 503, "dns_resolution_failure",                                         \
	  "upstream connect error or disconnect/reset before headers. reset reason: remote "       \
	  "connection failure")                                                                    \
	X(FAILED_TIMEOUT, "UT", 504, "response_timeout", "upstream request timeout")               \
	X(FAILED_PER_TRY_TIMEOUT, "UT", 504, "upstream_per_try_timeout",                           \
	  "upstream request timeout")                                                              \
	X(FAILED_STREAM_IDLE, "SI", 504, "stream_idle_timeout", "stream timeout")                  \
	X(FAILED_REQUEST_IDLE, "SI", 408, "stream_idle_timeout", "stream timeout")                 \
	X(FAILED_REQUEST_TIMEOUT, "", 408, "request_overall_timeout", "request timeout")           \
	X(FAILED_MAX_DURATION, "DT", 408, "max_duration_timeout", "downstream duration timeout")   \
	X(FAILED_NO_ROUTE, "NR", 404, "route_not_found", "")                                       \
	X(FAILED_BODY_TOO_LARGE, "", 413, "request_payload_too_large", "Payload Too Large")        \
	X(FAILED_ANSWER_TOO_LARGE, "", 500, "response_payload_too_large", "Internal Server Error") \
	X(FAILED_MISSING_STATUS, "", 502, "missing_required_header",                               \
	  "missing required header: :status")                                                      \
	X(FAILED_CLIENT_GONE, "DC", 0, "downstream_remote_disconnect", "")                         \
	X(FAILED_CLIENT_PROTOCOL, "DPE", 400, "http1.codec_error", "")                             \
	X(FAILED_MEMORY, "OM", 503, "out_of_memory", "overloaded")                                 \
	X(FAILED_OVERLOAD, "OM", 503, "overload", "overloaded")                                    \
	X(FAILED_SCRIPT, "", 500, "lua_error", "")                                                 \
	X(FAILED_LISTEN, "", 0, "listen", "")                                                      \
	X(FAILED_TLS, "", 0, "tls", "")                                                            \
	X(FAILED_FILE, "", 0, "file", "")

enum failure_kind {
#define X(name, flag, status, details, text) name,
	FAILURES(X)
#undef X
		FAILURE_KINDS
};

struct failure_info {
	const char *name, *flag;
	unsigned short status;
	const char *details, *text;
};
extern const struct failure_info failure_infos[FAILURE_KINDS];

/* One that happened: kind, errno (0: none), the step that failed (static text). */
struct failure {
	enum failure_kind kind;
	int err;
	const char *step;
};
