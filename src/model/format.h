/* src/model/format.h
 *
 * Envoy's substitution format strings ("%REQ(:path)%", access logs and header values), compiled to a list of
 * operators. exchange/format.c carries them out.
 */
#pragma once
#include "base/diags.h"
#include "http/head.h"

enum format_op {
	FMT_TEXT,
	FMT_START_TIME,
	FMT_PROTOCOL,
	FMT_RESPONSE_CODE,
	FMT_RESPONSE_CODE_DETAILS,
	FMT_RESPONSE_FLAGS,
	FMT_RESPONSE_FLAGS_LONG,
	FMT_BYTES_RECEIVED,
	FMT_BYTES_SENT,
	FMT_DURATION,
	FMT_REQUEST_DURATION,
	FMT_RESPONSE_DURATION,
	FMT_RESPONSE_TX_DURATION,
	FMT_REQ,
	FMT_RESP,
	FMT_TRAILER,
	FMT_UPSTREAM_HOST,
	FMT_UPSTREAM_CLUSTER,
	FMT_UPSTREAM_LOCAL_ADDRESS,
	FMT_UPSTREAM_REMOTE_ADDRESS,
	FMT_UPSTREAM_TRANSPORT_FAILURE_REASON,
	FMT_UPSTREAM_REQUEST_ATTEMPT_COUNT,
	FMT_DOWNSTREAM_REMOTE_ADDRESS,
	FMT_DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT,
	FMT_DOWNSTREAM_DIRECT_REMOTE_ADDRESS,
	FMT_DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT,
	FMT_DOWNSTREAM_LOCAL_ADDRESS,
	FMT_DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT,
	FMT_DOWNSTREAM_LOCAL_PORT,
	FMT_DOWNSTREAM_REMOTE_PORT,
	FMT_REQUESTED_SERVER_NAME,
	FMT_ROUTE_NAME,
	FMT_VIRTUAL_CLUSTER_NAME,
	FMT_DYNAMIC_METADATA,
	FMT_FILTER_STATE,
	FMT_CONNECTION_ID,
	FMT_STREAM_ID,
	FMT_CONNECTION_TERMINATION_DETAILS,
	FMT_DOWNSTREAM_TLS_VERSION,
	FMT_DOWNSTREAM_TLS_CIPHER,
	FMT_DOWNSTREAM_PEER_SUBJECT,
	FMT_REQUEST_HEADERS_BYTES,
	FMT_RESPONSE_HEADERS_BYTES,
	FMT_HOSTNAME,
	FMT_ENVIRONMENT,
	FMT_METADATA,
	FMT_GRPC_STATUS,
	FMT_PATH,
	FMT_LOCAL_REPLY_BODY,
	FMT_FALLBACK_SERVED,
	FMT_FALLBACK_PRIMARY_STATUS,
	FMT_FALLBACK_STATUS,
	FMT_FALLBACK_PRIMARY_MS,
	FMT_FALLBACK_MS,
	FMT_FALLBACK_HELD_BYTES,
	FMT_OPS
};
enum {
	FORMAT_TEXT_SLACK = 8
}; /* so many bytes behind the text of FMT_TEXT can be read: short ones are copied in one go */
struct format_part {
	enum format_op op;
	bool whole; /* JSON: this operator is a whole value: written with its own quotes, as a number, or as null. Other
				  * operators of a JSON format stand inside quotes that the text around them holds */
	bool quick; /* REQ, RESP: well-known names without a length or no_query: found by id alone */
	bool no_query; /* FMT_REQ that PATH(NQ:…) became: without '?' and what follows */
	struct str
		text; /* FMT_TEXT; START_TIME: strftime text; DYNAMIC_METADATA: "ns:key:…"; ENVIRONMENT, HOSTNAME: value */
	struct str name, alt; /* REQ(name?alt) */
	enum field_id id, alt_id;
	uint32_t max; /* ":n" length limit; 0 none */
	struct str
		key; /* JSON formats: the key of this value (a format may be several parts with the same key) */
};
enum format_kind { FORMAT_TEXT, FORMAT_JSON };
struct format {
	enum format_kind kind;
	struct format_part *parts;
	unsigned n;
	bool omit_empty;
	/* JSON: the tree is flattened to parts; text parts hold the fixed JSON around the values, values are escaped; a value that
	 * is exactly one numeric operator is written as a number, an empty one as null. Members are sorted by name, as Envoy does.
	 * omit_empty: members that came out null go, and objects that are then empty. */
};
/* Envoy's default access log line. */
extern const char format_default_line[];
/* where is only for messages. NULL: errors added. */
struct format *format_compile(struct arena *a, struct diags *d, const struct doc *where,
			      struct str text);
struct format *format_compile_json(struct arena *a, struct diags *d, const struct doc *map);
