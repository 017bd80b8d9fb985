/* src/config/schema_int.h
 *
 * How the tables of schema_*.c are written. A row: F(number, name, [LIST | MAP,] TYPE(x) | MSG(x) | ENUM(x), more...). Fields
 * of one ONEOF exclude each other. A field with neither HARMLESS nor REFUSED is used.
 */
#pragma once
#include "config/schema.h"

/* clang-format off */
#define F(num, nm, ...) {.number = num, .name = #nm, __VA_ARGS__}
#define END {.name = NULL}
#define LIST .shape = SCHEMA_LIST
#define MAP .shape = SCHEMA_MAP
#define TYPE(t) .kind = SCHEMA_##t
#define MSG(m) .kind = SCHEMA_MESSAGE, .message = &schema_msg_##m
#define ENUM(e) .kind = SCHEMA_ENUM, .enum_names = e
#define ONEOF(n) .oneof = n
#define WRAP .wrapper = true
#define OLD .deprecated = true
#define LENIENT .lenient = true
#define HARMLESS(w) .status = SCHEMA_HARMLESS, .why = w
#define REFUSED(w) .status = SCHEMA_REFUSED, .why = w
#define MESSAGE(id, full) const struct schema_message schema_msg_##id = {full, id##_fields}
#define EMPTY(id, full) const struct schema_message schema_msg_##id = {full, schema_no_fields}

extern const struct schema_field schema_no_fields[];

/* Every message there is. */
#define SCHEMA_MESSAGES(X) \
	X(bootstrap) \
	X(static_resources) \
	X(cluster_manager) \
	X(admin) \
	X(layered_runtime) \
	X(runtime_layer) \
	X(node) \
	X(address) \
	X(socket_address) \
	X(pipe) \
	X(bind_config) \
	X(tcp_keepalive) \
	X(cidr_range) \
	X(locality) \
	X(metadata) \
	X(runtime_uint32) \
	X(runtime_double) \
	X(runtime_fraction) \
	X(fraction) \
	X(percent) \
	X(int64_range) \
	X(header_value) \
	X(header_value_option) \
	X(data_source) \
	X(watched_directory) \
	X(transport_socket) \
	X(typed_extension) \
	X(backoff_strategy) \
	X(http_protocol_options) \
	X(http1_options) \
	X(header_key_format) \
	X(proper_case_words) \
	X(http2_options) \
	X(keepalive_settings) \
	X(scheme_transformation) \
	X(format_string) \
	X(dns_resolution_config) \
	X(dns_resolver_options) \
	X(upstream_http_options) \
	X(string_matcher) \
	X(regex_matcher) \
	X(google_re2) \
	X(regex_substitute) \
	X(listener) \
	X(additional_address) \
	X(filter_chain) \
	X(filter_chain_match) \
	X(filter) \
	X(listener_filter) \
	X(tls_inspector) \
	X(hcm) \
	X(client_cert_details) \
	X(hcm_upgrade) \
	X(http_filter) \
	X(local_reply_config) \
	X(response_mapper) \
	X(access_log) \
	X(log_filter) \
	X(log_comparison) \
	X(log_status) \
	X(log_duration) \
	X(log_not_health) \
	X(log_runtime) \
	X(log_and) \
	X(log_header) \
	X(log_flags) \
	X(log_file) \
	X(log_stdout) \
	X(log_stderr) \
	X(tls_params) \
	X(tls_certificate) \
	X(san_matcher) \
	X(validation) \
	X(system_roots) \
	X(common_tls) \
	X(upstream_tls) \
	X(downstream_tls) \
	X(raw_buffer) \
	X(route_config) \
	X(virtual_host) \
	X(route) \
	X(non_forwarding) \
	X(weighted) \
	X(cluster_weight) \
	X(route_match) \
	X(match_grpc) \
	X(match_tls) \
	X(cookie_matcher) \
	X(route_action) \
	X(hash_policy) \
	X(hash_header) \
	X(hash_cookie) \
	X(hash_connection) \
	X(hash_query) \
	X(route_upgrade) \
	X(max_stream) \
	X(retry_policy) \
	X(retry_priority) \
	X(retry_host) \
	X(retry_backoff) \
	X(previous_hosts) \
	X(previous_priorities) \
	X(header_matcher) \
	X(redirect) \
	X(direct_response) \
	X(virtual_cluster) \
	X(query_matcher) \
	X(filter_config) \
	X(cluster) \
	X(circuit_breakers) \
	X(thresholds) \
	X(retry_budget) \
	X(round_robin) \
	X(least_request) \
	X(ring_hash) \
	X(common_lb) \
	X(consistent_hashing) \
	X(connection_options) \
	X(load_assignment) \
	X(load_policy) \
	X(locality_endpoints) \
	X(lb_endpoint) \
	X(endpoint) \
	X(upstream_options) \
	X(explicit_http) \
	X(downstream_http) \
	X(auto_http) \
	X(cares) \
	X(router) \
	X(lua) \
	X(lua_route) \
	X(own_lua) \
	X(own_lua_route) \
	X(own_static) \
	X(fallback_origin) \
	X(fallback_match) \
	X(fallback_override) \
	X(fallback_body) \
	X(fallback_memory) \
	X(fallback_breaker) \
	X(fallback_shadow) \
	X(fallback) \
	X(fallback_route) \
	X(set_metadata) \
	X(set_metadata_entry) \
	X(set_filter_state) \
	X(filter_state_value) \
	X(empty) \
	X(any_struct) \
	X(any_value) \
	X(any_string) \
	X(any_bool) \
	X(any_uint32) \
	X(any_int64) \
	X(any_double)

#define X(m) extern const struct schema_message schema_msg_##m;
SCHEMA_MESSAGES(X)
#undef X
/* clang-format on */

/* The field of m that key names, in either spelling; NULL. */
const struct schema_field *schema_field_of(const struct schema_message *m, struct str key);

struct schema_old {
	const char *old, *now;
};
/* Old type names and old extension names with today's full type name; old NULL ends. */
extern const struct schema_old schema_old_types[], schema_old_names[];
/* A type that Envoy knows and postern does not: why, "" without a reason; NULL: nobody knows it. */
const char *schema_unsupported(struct str type);
/* A field of Envoy's v2 API that is gone: what to write today; NULL. */
const char *schema_retired(const struct schema_message *m, struct str key);
