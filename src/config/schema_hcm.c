/* src/config/schema_hcm.c: the HTTP connection manager and access logs. Numbers, types, oneofs
 * as in Envoy 1.40. */
#include "config/schema_int.h"

static const char *const e_codec_type[] = {"AUTO", "HTTP1", "HTTP2", "HTTP3", NULL};
static const char *const e_forward_client_cert_details[] = {
	"SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY", NULL};
static const char *const e_server_header_transformation[] = {"OVERWRITE", "APPEND_IF_ABSENT",
							     "PASS_THROUGH", NULL};
static const char *const e_path_with_escaped_slashes_action[] = {
	"IMPLEMENTATION_SPECIFIC_DEFAULT", "KEEP_UNCHANGED",       "REJECT_REQUEST",
	"UNESCAPE_AND_REDIRECT",           "UNESCAPE_AND_FORWARD", NULL};
static const char *const e_forward_client_cert_format[] = {"TEXT", "JSON", NULL};
static const char *const e_op[] = {"EQ", "GE", "LE", "NE", NULL};

static const struct schema_field hcm_fields[] = {
	F(1, codec_type, ENUM(e_codec_type)),
	F(2, stat_prefix, TYPE(STRING)),
	F(3, rds, TYPE(MESSAGE), ONEOF(1), REFUSED("no control planes; write route_config")),
	F(4, route_config, MSG(route_config), ONEOF(1)),
	F(5, http_filters, LIST, MSG(http_filter)),
	F(6, add_user_agent, TYPE(BOOL), WRAP, REFUSED("")),
	F(7, tracing, TYPE(MESSAGE), HARMLESS("no traces are sent")),
	F(8, http_protocol_options, MSG(http1_options)),
	F(9, http2_protocol_options, MSG(http2_options)),
	F(10, server_name, TYPE(STRING)),
	F(12, drain_timeout, TYPE(DURATION)),
	F(13, access_log, LIST, MSG(access_log)),
	F(14, use_remote_address, TYPE(BOOL), WRAP),
	F(15, generate_request_id, TYPE(BOOL), WRAP),
	F(16, forward_client_cert_details, ENUM(e_forward_client_cert_details)),
	F(17, set_current_client_cert_details, MSG(client_cert_details)),
	F(18, proxy_100_continue, TYPE(BOOL)),
	F(19, xff_num_trusted_hops, TYPE(UINT32)),
	F(20, represent_ipv4_remote_address_as_ipv4_mapped_ipv6, TYPE(BOOL), REFUSED("")),
	F(21, skip_xff_append, TYPE(BOOL)),
	F(22, via, TYPE(STRING)),
	F(23, upgrade_configs, LIST, MSG(hcm_upgrade)),
	F(24, stream_idle_timeout, TYPE(DURATION)),
	F(25, internal_address_config, TYPE(MESSAGE),
	  HARMLESS("no address is trusted more than another")),
	F(26, delayed_close_timeout, TYPE(DURATION)),
	F(28, request_timeout, TYPE(DURATION)),
	F(29, max_request_headers_kb, TYPE(UINT32), WRAP),
	F(30, normalize_path, TYPE(BOOL), WRAP),
	F(31, scoped_routes, TYPE(MESSAGE), ONEOF(1), REFUSED("write route_config")),
	F(32, preserve_external_request_id, TYPE(BOOL)),
	F(33, merge_slashes, TYPE(BOOL)),
	F(34, server_header_transformation, ENUM(e_server_header_transformation)),
	F(35, common_http_protocol_options, MSG(http_protocol_options)),
	F(36, request_id_extension, TYPE(MESSAGE), HARMLESS("request ids are always UUIDs")),
	F(37, always_set_request_id_in_response, TYPE(BOOL)),
	F(38, local_reply_config, MSG(local_reply_config)),
	F(39, strip_matching_host_port, TYPE(BOOL)),
	F(40, stream_error_on_invalid_http_message, TYPE(BOOL), WRAP,
	  HARMLESS("a malformed message always ends its connection or stream")),
	F(41, request_headers_timeout, TYPE(DURATION)),
	F(42, strip_any_host_port, TYPE(BOOL), ONEOF(2)),
	F(43, path_normalization_options, TYPE(MESSAGE),
	  REFUSED("use normalize_path and merge_slashes")),
	F(44, http3_protocol_options, TYPE(MESSAGE), REFUSED("HTTP/3 is not served")),
	F(45, path_with_escaped_slashes_action, ENUM(e_path_with_escaped_slashes_action)),
	F(46, original_ip_detection_extensions, LIST, MSG(typed_extension),
	  REFUSED("use use_remote_address and xff_num_trusted_hops")),
	F(47, strip_trailing_host_dot, TYPE(BOOL)),
	F(48, scheme_header_transformation, MSG(scheme_transformation)),
	F(49, proxy_status_config, TYPE(MESSAGE), REFUSED("")),
	F(50, typed_header_validation_config, MSG(typed_extension),
	  REFUSED("headers are always validated strictly")),
	F(51, append_x_forwarded_port, TYPE(BOOL), REFUSED("")),
	F(52, early_header_mutation_extensions, LIST, MSG(typed_extension), REFUSED("")),
	F(53, add_proxy_protocol_connection_state, TYPE(BOOL), WRAP,
	  HARMLESS("the PROXY protocol is not spoken")),
	F(54, access_log_flush_interval, TYPE(DURATION), OLD,
	  HARMLESS("a line is written when the exchange ends")),
	F(55, flush_access_log_on_new_request, TYPE(BOOL), OLD,
	  HARMLESS("a line is written when the exchange ends")),
	F(56, access_log_options, TYPE(MESSAGE),
	  HARMLESS("a line is written when the exchange ends")),
	F(57, append_local_overload, TYPE(BOOL), HARMLESS("there is no such header")),
	F(58, http1_safe_max_connection_duration, TYPE(BOOL),
	  HARMLESS("a connection always ends between two requests")),
	F(59, stream_flush_timeout, TYPE(DURATION),
	  HARMLESS("stream_idle_timeout bounds the flushing too")),
	F(60, forward_client_cert_matcher, TYPE(MESSAGE),
	  REFUSED("use forward_client_cert_details")),
	F(61, forward_proto_config, TYPE(MESSAGE), REFUSED("")),
	F(62, drain_timeout_jitter, MSG(percent), HARMLESS("there is no jitter")),
	F(63, record_route_resolution_stats, TYPE(BOOL),
	  HARMLESS("statistics have no such setting here")),
	END};
MESSAGE(hcm, "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager");

static const struct schema_field client_cert_details_fields[] = {
	F(1, subject, TYPE(BOOL), WRAP),
	F(3, cert, TYPE(BOOL)),
	F(4, dns, TYPE(BOOL)),
	F(5, uri, TYPE(BOOL)),
	F(6, chain, TYPE(BOOL)),
	F(7, format, ENUM(e_forward_client_cert_format), REFUSED("")),
	F(8, issuer, TYPE(BOOL), REFUSED("")),
	END};
MESSAGE(client_cert_details, "envoy.extensions.filters.network.http_connection_manager.v3."
			     "HttpConnectionManager.SetCurrentClientCertDetails");

static const struct schema_field hcm_upgrade_fields[] = {
	F(1, upgrade_type, TYPE(STRING)),
	F(2, filters, LIST, MSG(http_filter),
	  REFUSED("upgrades pass through the filters of the connection manager")),
	F(3, enabled, TYPE(BOOL), WRAP), END};
MESSAGE(hcm_upgrade, "envoy.extensions.filters.network.http_connection_manager.v3."
		     "HttpConnectionManager.UpgradeConfig");

static const struct schema_field http_filter_fields[] = {
	F(1, name, TYPE(STRING)),
	F(4, typed_config, TYPE(ANY), ONEOF(1)),
	F(5, config_discovery, TYPE(MESSAGE), ONEOF(1), REFUSED("no control planes")),
	F(6, is_optional, TYPE(BOOL)),
	F(7, disabled, TYPE(BOOL)),
	END};
MESSAGE(http_filter, "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter");

static const struct schema_field local_reply_config_fields[] = {
	F(1, mappers, LIST, MSG(response_mapper)), F(2, body_format, MSG(format_string)), END};
MESSAGE(local_reply_config,
	"envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig");

static const struct schema_field response_mapper_fields[] = {
	F(1, filter, MSG(log_filter)),
	F(2, status_code, TYPE(UINT32), WRAP),
	F(3, body, MSG(data_source)),
	F(4, body_format_override, MSG(format_string)),
	F(5, headers_to_add, LIST, MSG(header_value_option)),
	END};
MESSAGE(response_mapper,
	"envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper");

static const struct schema_field access_log_fields[] = {
	F(1, name, TYPE(STRING)), F(2, filter, MSG(log_filter)),
	F(4, typed_config, TYPE(ANY), ONEOF(1)), END};
MESSAGE(access_log, "envoy.config.accesslog.v3.AccessLog");

static const struct schema_field log_filter_fields[] = {
	F(1, status_code_filter, MSG(log_status), ONEOF(1)),
	F(2, duration_filter, MSG(log_duration), ONEOF(1)),
	F(3, not_health_check_filter, MSG(log_not_health), ONEOF(1)),
	F(4, traceable_filter, TYPE(MESSAGE), ONEOF(1), REFUSED("no traces are sent")),
	F(5, runtime_filter, MSG(log_runtime), ONEOF(1)),
	F(6, and_filter, MSG(log_and), ONEOF(1)),
	F(7, or_filter, TYPE(MESSAGE), ONEOF(1), REFUSED("write two access logs")),
	F(8, header_filter, MSG(log_header), ONEOF(1)),
	F(9, response_flag_filter, MSG(log_flags), ONEOF(1)),
	F(10, grpc_status_filter, TYPE(MESSAGE), ONEOF(1), REFUSED("")),
	F(11, extension_filter, TYPE(MESSAGE), ONEOF(1), REFUSED("")),
	F(12, metadata_filter, TYPE(MESSAGE), ONEOF(1), REFUSED("")),
	F(13, log_type_filter, TYPE(MESSAGE), ONEOF(1),
	  REFUSED("a line is written when the exchange ends")),
	END};
MESSAGE(log_filter, "envoy.config.accesslog.v3.AccessLogFilter");

static const struct schema_field log_comparison_fields[] = {F(1, op, ENUM(e_op)),
							    F(2, value, MSG(runtime_uint32)), END};
MESSAGE(log_comparison, "envoy.config.accesslog.v3.ComparisonFilter");

static const struct schema_field log_status_fields[] = {F(1, comparison, MSG(log_comparison)), END};
MESSAGE(log_status, "envoy.config.accesslog.v3.StatusCodeFilter");

static const struct schema_field log_duration_fields[] = {F(1, comparison, MSG(log_comparison)),
							  END};
MESSAGE(log_duration, "envoy.config.accesslog.v3.DurationFilter");

EMPTY(log_not_health, "envoy.config.accesslog.v3.NotHealthCheckFilter");

static const struct schema_field log_runtime_fields[] = {
	F(1, runtime_key, TYPE(STRING),
	  HARMLESS("runtime keys are not looked up; the value given here holds")),
	F(2, percent_sampled, MSG(fraction)),
	F(3, use_independent_randomness, TYPE(BOOL), HARMLESS("sampling is always independent")),
	END};
MESSAGE(log_runtime, "envoy.config.accesslog.v3.RuntimeFilter");

static const struct schema_field log_and_fields[] = {F(1, filters, LIST, MSG(log_filter)), END};
MESSAGE(log_and, "envoy.config.accesslog.v3.AndFilter");

static const struct schema_field log_header_fields[] = {F(1, header, MSG(header_matcher)), END};
MESSAGE(log_header, "envoy.config.accesslog.v3.HeaderFilter");

static const struct schema_field log_flags_fields[] = {F(1, flags, LIST, TYPE(STRING)), END};
MESSAGE(log_flags, "envoy.config.accesslog.v3.ResponseFlagFilter");

static const struct schema_field log_file_fields[] = {
	F(1, path, TYPE(STRING)),
	F(2, format, TYPE(STRING), ONEOF(1), OLD),
	F(3, json_format, TYPE(STRUCT), ONEOF(1), OLD),
	F(4, typed_json_format, TYPE(STRUCT), ONEOF(1), OLD),
	F(5, log_format, MSG(format_string), ONEOF(1)),
	END};
MESSAGE(log_file, "envoy.extensions.access_loggers.file.v3.FileAccessLog");

static const struct schema_field log_stdout_fields[] = {
	F(1, log_format, MSG(format_string), ONEOF(1)), END};
MESSAGE(log_stdout, "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog");

static const struct schema_field log_stderr_fields[] = {
	F(1, log_format, MSG(format_string), ONEOF(1)), END};
MESSAGE(log_stderr, "envoy.extensions.access_loggers.stream.v3.StderrAccessLog");
