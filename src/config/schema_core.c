/* src/config/schema_core.c: messages used in several places. Numbers, types, oneofs as in Envoy
 * 1.40. */
#include "config/schema_int.h"

static const char *const e_protocol[] = {"TCP", "UDP", NULL};
static const char *const e_denominator_type[] = {"HUNDRED", "TEN_THOUSAND", "MILLION", NULL};
static const char *const e_header_append_action[] = {"APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT",
						     "OVERWRITE_IF_EXISTS_OR_ADD",
						     "OVERWRITE_IF_EXISTS", NULL};
static const char *const e_headers_with_underscores_action[] = {"ALLOW", "REJECT_REQUEST",
								"DROP_HEADER", NULL};

static const struct schema_field address_fields[] = {
	F(1, socket_address, MSG(socket_address), ONEOF(1)), F(2, pipe, MSG(pipe), ONEOF(1)),
	F(3, envoy_internal_address, TYPE(MESSAGE), ONEOF(1),
	  REFUSED("there are no internal listeners")),
	END};
MESSAGE(address, "envoy.config.core.v3.Address");

static const struct schema_field socket_address_fields[] = {
	F(1, protocol, ENUM(e_protocol)),
	F(2, address, TYPE(STRING)),
	F(3, port_value, TYPE(UINT32), ONEOF(1)),
	F(4, named_port, TYPE(STRING), ONEOF(1), REFUSED("write port_value")),
	F(5, resolver_name, TYPE(STRING), REFUSED("")),
	F(6, ipv4_compat, TYPE(BOOL), REFUSED("write a second address for IPv4")),
	F(7, network_namespace_filepath, TYPE(STRING), REFUSED("")),
	END};
MESSAGE(socket_address, "envoy.config.core.v3.SocketAddress");

static const struct schema_field pipe_fields[] = {F(1, path, TYPE(STRING)),
						  F(2, mode, TYPE(UINT32)), END};
MESSAGE(pipe, "envoy.config.core.v3.Pipe");

static const struct schema_field bind_config_fields[] = {
	F(1, source_address, MSG(socket_address)),
	F(2, freebind, TYPE(BOOL), WRAP, REFUSED("")),
	F(3, socket_options, LIST, TYPE(MESSAGE), REFUSED("")),
	F(4, additional_source_addresses, LIST, MSG(socket_address), OLD,
	  REFUSED("one source address for each cluster")),
	F(5, extra_source_addresses, LIST, TYPE(MESSAGE),
	  REFUSED("one source address for each cluster")),
	F(6, local_address_selector, MSG(typed_extension), REFUSED("")),
	F(7, validate_network_namespaces, TYPE(BOOL), REFUSED("")),
	END};
MESSAGE(bind_config, "envoy.config.core.v3.BindConfig");

static const struct schema_field tcp_keepalive_fields[] = {
	F(1, keepalive_probes, TYPE(UINT32), WRAP), F(2, keepalive_time, TYPE(UINT32), WRAP),
	F(3, keepalive_interval, TYPE(UINT32), WRAP), END};
MESSAGE(tcp_keepalive, "envoy.config.core.v3.TcpKeepalive");

static const struct schema_field cidr_range_fields[] = {F(1, address_prefix, TYPE(STRING)),
							F(2, prefix_len, TYPE(UINT32), WRAP), END};
MESSAGE(cidr_range, "envoy.config.core.v3.CidrRange");

static const struct schema_field locality_fields[] = {
	F(1, region, TYPE(STRING)), F(2, zone, TYPE(STRING)), F(3, sub_zone, TYPE(STRING)), END};
MESSAGE(locality, "envoy.config.core.v3.Locality");

static const struct schema_field metadata_fields[] = {
	F(1, filter_metadata, MAP, TYPE(STRUCT)),
	F(2, typed_filter_metadata, MAP, TYPE(ANY), LENIENT,
	  HARMLESS("scripts see filter_metadata only")),
	END};
MESSAGE(metadata, "envoy.config.core.v3.Metadata");

static const struct schema_field runtime_uint32_fields[] = {
	F(2, default_value, TYPE(UINT32)),
	F(3, runtime_key, TYPE(STRING),
	  HARMLESS("runtime keys are not looked up; the value given here holds")),
	END};
MESSAGE(runtime_uint32, "envoy.config.core.v3.RuntimeUInt32");

static const struct schema_field runtime_double_fields[] = {
	F(1, default_value, TYPE(DOUBLE)),
	F(2, runtime_key, TYPE(STRING),
	  HARMLESS("runtime keys are not looked up; the value given here holds")),
	END};
MESSAGE(runtime_double, "envoy.config.core.v3.RuntimeDouble");

static const struct schema_field runtime_fraction_fields[] = {
	F(1, default_value, MSG(fraction)),
	F(2, runtime_key, TYPE(STRING),
	  HARMLESS("runtime keys are not looked up; the value given here holds")),
	END};
MESSAGE(runtime_fraction, "envoy.config.core.v3.RuntimeFractionalPercent");

static const struct schema_field fraction_fields[] = {
	F(1, numerator, TYPE(UINT32)), F(2, denominator, ENUM(e_denominator_type)), END};
MESSAGE(fraction, "envoy.type.v3.FractionalPercent");

static const struct schema_field percent_fields[] = {F(1, value, TYPE(DOUBLE)), END};
MESSAGE(percent, "envoy.type.v3.Percent");

static const struct schema_field int64_range_fields[] = {F(1, start, TYPE(INT64)),
							 F(2, end, TYPE(INT64)), END};
MESSAGE(int64_range, "envoy.type.v3.Int64Range");

static const struct schema_field header_value_fields[] = {
	F(1, key, TYPE(STRING)), F(2, value, TYPE(STRING)), F(3, raw_value, TYPE(BYTES)), END};
MESSAGE(header_value, "envoy.config.core.v3.HeaderValue");

static const struct schema_field header_value_option_fields[] = {
	F(1, header, MSG(header_value)), F(2, append, TYPE(BOOL), WRAP, OLD),
	F(3, append_action, ENUM(e_header_append_action)), F(4, keep_empty_value, TYPE(BOOL)), END};
MESSAGE(header_value_option, "envoy.config.core.v3.HeaderValueOption");

static const struct schema_field data_source_fields[] = {
	F(1, filename, TYPE(STRING), ONEOF(1)),
	F(2, inline_bytes, TYPE(BYTES), ONEOF(1)),
	F(3, inline_string, TYPE(STRING), ONEOF(1)),
	F(4, environment_variable, TYPE(STRING), ONEOF(1)),
	F(5, watched_directory, MSG(watched_directory), HARMLESS("the file itself is watched")),
	END};
MESSAGE(data_source, "envoy.config.core.v3.DataSource");

static const struct schema_field watched_directory_fields[] = {
	F(1, path, TYPE(STRING)),
	F(2, watch_modify, TYPE(BOOL), HARMLESS("the files themselves are watched")), END};
MESSAGE(watched_directory, "envoy.config.core.v3.WatchedDirectory");

static const struct schema_field transport_socket_fields[] = {
	F(1, name, TYPE(STRING)), F(3, typed_config, TYPE(ANY), ONEOF(1)), END};
MESSAGE(transport_socket, "envoy.config.core.v3.TransportSocket");

static const struct schema_field typed_extension_fields[] = {F(1, name, TYPE(STRING)),
							     F(2, typed_config, TYPE(ANY)), END};
MESSAGE(typed_extension, "envoy.config.core.v3.TypedExtensionConfig");

static const struct schema_field backoff_strategy_fields[] = {
	F(1, base_interval, TYPE(DURATION)), F(2, max_interval, TYPE(DURATION)), END};
MESSAGE(backoff_strategy, "envoy.config.core.v3.BackoffStrategy");

static const struct schema_field http_protocol_options_fields[] = {
	F(1, idle_timeout, TYPE(DURATION)),
	F(2, max_headers_count, TYPE(UINT32), WRAP),
	F(3, max_connection_duration, TYPE(DURATION)),
	F(4, max_stream_duration, TYPE(DURATION)),
	F(5, headers_with_underscores_action, ENUM(e_headers_with_underscores_action)),
	F(6, max_requests_per_connection, TYPE(UINT32), WRAP),
	F(7, max_response_headers_kb, TYPE(UINT32), WRAP),
	F(8, max_connection_duration_jitter, MSG(percent),
	  HARMLESS("connections end without jitter")),
	END};
MESSAGE(http_protocol_options, "envoy.config.core.v3.HttpProtocolOptions");

static const struct schema_field http1_options_fields[] = {
	F(1, allow_absolute_url, TYPE(BOOL), WRAP),
	F(2, accept_http_10, TYPE(BOOL)),
	F(3, default_host_for_http_10, TYPE(STRING)),
	F(4, header_key_format, MSG(header_key_format)),
	F(5, enable_trailers, TYPE(BOOL)),
	F(6, allow_chunked_length, TYPE(BOOL),
	  HARMLESS("a message with both Content-Length and Transfer-Encoding stays refused")),
	F(7, override_stream_error_on_invalid_http_message, TYPE(BOOL), WRAP,
	  HARMLESS("a malformed message always closes its connection")),
	F(8, send_fully_qualified_url, TYPE(BOOL), REFUSED("")),
	F(9, use_balsa_parser, TYPE(BOOL), WRAP, OLD, HARMLESS("there is one parser")),
	F(10, allow_custom_methods, TYPE(BOOL), HARMLESS("every token is taken as a method")),
	F(11, ignore_http_11_upgrade, LIST, MSG(string_matcher), REFUSED("")),
	END};
MESSAGE(http1_options, "envoy.config.core.v3.Http1ProtocolOptions");

static const struct schema_field header_key_format_fields[] = {
	F(1, proper_case_words, MSG(proper_case_words), ONEOF(1)),
	F(8, stateful_formatter, MSG(typed_extension), ONEOF(1),
	  HARMLESS("names keep their case from HTTP/1 to HTTP/1")),
	END};
MESSAGE(header_key_format, "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat");

EMPTY(proper_case_words,
      "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat.ProperCaseWords");

static const struct schema_field http2_options_fields[] = {
	F(1, hpack_table_size, TYPE(UINT32), WRAP),
	F(2, max_concurrent_streams, TYPE(UINT32), WRAP),
	F(3, initial_stream_window_size, TYPE(UINT32), WRAP),
	F(4, initial_connection_window_size, TYPE(UINT32), WRAP),
	F(5, allow_connect, TYPE(BOOL), HARMLESS("CONNECT is refused")),
	F(6, allow_metadata, TYPE(BOOL), REFUSED("METADATA frames are not supported")),
	F(7, max_outbound_frames, TYPE(UINT32), WRAP,
	  HARMLESS("windows and max_outbound_control_frames bound what waits")),
	F(8, max_outbound_control_frames, TYPE(UINT32), WRAP),
	F(9, max_consecutive_inbound_frames_with_empty_payload, TYPE(UINT32), WRAP),
	F(10, max_inbound_priority_frames_per_stream, TYPE(UINT32), WRAP),
	F(11, max_inbound_window_update_frames_per_data_frame_sent, TYPE(UINT32), WRAP),
	F(12, stream_error_on_invalid_http_messaging, TYPE(BOOL), OLD,
	  HARMLESS("a malformed message resets its stream")),
	F(13, custom_settings_parameters, LIST, TYPE(MESSAGE), REFUSED("")),
	F(14, override_stream_error_on_invalid_http_message, TYPE(BOOL), WRAP,
	  HARMLESS("a malformed message resets its stream")),
	F(15, connection_keepalive, MSG(keepalive_settings),
	  HARMLESS("no PINGs are sent; idle_timeout ends silent connections")),
	F(16, use_oghttp2_codec, TYPE(BOOL), WRAP, HARMLESS("there is one codec")),
	F(17, max_metadata_size, TYPE(UINT64), WRAP, HARMLESS("METADATA frames are not supported")),
	F(18, enable_huffman_encoding, TYPE(BOOL), WRAP, HARMLESS("the codec decides")),
	F(19, max_header_field_size_kb, TYPE(UINT32), WRAP, REFUSED("use max_request_headers_kb")),
	F(20, disallow_obs_text, TYPE(BOOL), WRAP, REFUSED("")),
	F(21, stream_reset_burst, TYPE(UINT64), WRAP, REFUSED("")),
	F(22, stream_reset_rate, TYPE(UINT64), WRAP, REFUSED("")),
	END};
MESSAGE(http2_options, "envoy.config.core.v3.Http2ProtocolOptions");

static const struct schema_field keepalive_settings_fields[] = {
	F(1, interval, TYPE(DURATION)), F(2, timeout, TYPE(DURATION)),
	F(3, interval_jitter, MSG(percent), HARMLESS("PINGs are sent without jitter")),
	F(4, connection_idle_interval, TYPE(DURATION), REFUSED("")), END};
MESSAGE(keepalive_settings, "envoy.config.core.v3.KeepaliveSettings");

static const struct schema_field scheme_transformation_fields[] = {
	F(1, scheme_to_overwrite, TYPE(STRING), ONEOF(1)),
	F(2, match_upstream, TYPE(BOOL), REFUSED("")), END};
MESSAGE(scheme_transformation, "envoy.config.core.v3.SchemeHeaderTransformation");

static const struct schema_field format_string_fields[] = {
	F(1, text_format, TYPE(STRING), ONEOF(1), OLD),
	F(2, json_format, TYPE(STRUCT), ONEOF(1)),
	F(3, omit_empty_values, TYPE(BOOL)),
	F(4, content_type, TYPE(STRING)),
	F(5, text_format_source, MSG(data_source), ONEOF(1)),
	F(6, formatters, LIST, MSG(typed_extension),
	  REFUSED("only the built-in operators are known")),
	F(7, json_format_options, TYPE(MESSAGE),
	  HARMLESS("properties keep the order they are written in")),
	END};
MESSAGE(format_string, "envoy.config.core.v3.SubstitutionFormatString");

static const struct schema_field dns_resolution_config_fields[] = {
	F(1, resolvers, LIST, MSG(address)),
	F(2, dns_resolver_options, MSG(dns_resolver_options),
	  REFUSED("DNS retries over TCP by itself, and always takes the search domains")),
	END};
MESSAGE(dns_resolution_config, "envoy.config.core.v3.DnsResolutionConfig");

static const struct schema_field dns_resolver_options_fields[] = {
	F(1, use_tcp_for_dns_lookups, TYPE(BOOL), REFUSED("DNS retries over TCP by itself")),
	F(2, no_default_search_domain, TYPE(BOOL), REFUSED("")), END};
MESSAGE(dns_resolver_options, "envoy.config.core.v3.DnsResolverOptions");

static const struct schema_field upstream_http_options_fields[] = {
	F(1, auto_sni, TYPE(BOOL)), F(2, auto_san_validation, TYPE(BOOL)),
	F(3, override_auto_sni_header, TYPE(STRING), REFUSED("")), END};
MESSAGE(upstream_http_options, "envoy.config.core.v3.UpstreamHttpProtocolOptions");

static const struct schema_field string_matcher_fields[] = {
	F(1, exact, TYPE(STRING), ONEOF(1)),
	F(2, prefix, TYPE(STRING), ONEOF(1)),
	F(3, suffix, TYPE(STRING), ONEOF(1)),
	F(5, safe_regex, MSG(regex_matcher), ONEOF(1)),
	F(6, ignore_case, TYPE(BOOL)),
	F(7, contains, TYPE(STRING), ONEOF(1)),
	F(8, custom, TYPE(MESSAGE), ONEOF(1), REFUSED("")),
	END};
MESSAGE(string_matcher, "envoy.type.matcher.v3.StringMatcher");

static const struct schema_field regex_matcher_fields[] = {
	F(1, google_re2, MSG(google_re2), ONEOF(1), OLD,
	  HARMLESS("every regular expression is RE2's")),
	F(2, regex, TYPE(STRING)), END};
MESSAGE(regex_matcher, "envoy.type.matcher.v3.RegexMatcher");

static const struct schema_field google_re2_fields[] = {
	F(1, max_program_size, TYPE(UINT32), WRAP, OLD,
	  HARMLESS("the size of expressions is bounded by memory, their time by their length")),
	END};
MESSAGE(google_re2, "envoy.type.matcher.v3.RegexMatcher.GoogleRE2");

static const struct schema_field regex_substitute_fields[] = {
	F(1, pattern, MSG(regex_matcher)), F(2, substitution, TYPE(STRING)), END};
MESSAGE(regex_substitute, "envoy.type.matcher.v3.RegexMatchAndSubstitute");
