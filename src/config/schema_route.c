/* src/config/schema_route.c: route configurations. Numbers, types, oneofs as in Envoy 1.40. */
#include "config/schema_int.h"

static const char *const e_tls_requirement_type[] = {"NONE", "EXTERNAL_ONLY", "ALL", NULL};
static const char *const e_routing_priority[] = {"DEFAULT", "HIGH", NULL};
static const char *const e_cluster_not_found_response_code[] = {"SERVICE_UNAVAILABLE", "NOT_FOUND",
								"INTERNAL_SERVER_ERROR", NULL};
static const char *const e_internal_redirect_action[] = {"PASS_THROUGH_INTERNAL_REDIRECT",
							 "HANDLE_INTERNAL_REDIRECT", NULL};
static const char *const e_redirect_response_code[] = {"MOVED_PERMANENTLY",  "FOUND",
						       "SEE_OTHER",          "TEMPORARY_REDIRECT",
						       "PERMANENT_REDIRECT", NULL};

static const struct schema_field route_config_fields[] = {
	F(1, name, TYPE(STRING)),
	F(2, virtual_hosts, LIST, MSG(virtual_host)),
	F(3, internal_only_headers, LIST, TYPE(STRING),
	  REFUSED("remove them with request_headers_to_remove")),
	F(4, response_headers_to_add, LIST, MSG(header_value_option)),
	F(5, response_headers_to_remove, LIST, TYPE(STRING)),
	F(6, request_headers_to_add, LIST, MSG(header_value_option)),
	F(7, validate_clusters, TYPE(BOOL), WRAP),
	F(8, request_headers_to_remove, LIST, TYPE(STRING)),
	F(9, vhds, TYPE(MESSAGE), REFUSED("no control planes")),
	F(10, most_specific_header_mutations_wins, TYPE(BOOL)),
	F(11, max_direct_response_body_size_bytes, TYPE(UINT32), WRAP),
	F(12, cluster_specifier_plugins, LIST, TYPE(MESSAGE), REFUSED("")),
	F(13, request_mirror_policies, LIST, TYPE(MESSAGE), REFUSED("requests are not mirrored")),
	F(14, ignore_port_in_host_matching, TYPE(BOOL)),
	F(15, ignore_path_parameters_in_path_matching, TYPE(BOOL), REFUSED("")),
	F(16, typed_per_filter_config, MAP, TYPE(ANY)),
	F(17, metadata, MSG(metadata)),
	F(18, vhost_header, TYPE(STRING), REFUSED("")),
	F(19, route_specifiers, LIST, MSG(typed_extension), REFUSED("")),
	END};
MESSAGE(route_config, "envoy.config.route.v3.RouteConfiguration");

static const struct schema_field virtual_host_fields[] = {
	F(1, name, TYPE(STRING)),
	F(2, domains, LIST, TYPE(STRING)),
	F(3, routes, LIST, MSG(route)),
	F(4, require_tls, ENUM(e_tls_requirement_type)),
	F(5, virtual_clusters, LIST, MSG(virtual_cluster)),
	F(6, rate_limits, LIST, TYPE(MESSAGE), REFUSED("there is no rate limit filter")),
	F(7, request_headers_to_add, LIST, MSG(header_value_option)),
	F(8, cors, TYPE(MESSAGE), OLD,
	  REFUSED("there is no CORS filter; set the headers with response_headers_to_add or in "
		  "Lua")),
	F(10, response_headers_to_add, LIST, MSG(header_value_option)),
	F(11, response_headers_to_remove, LIST, TYPE(STRING)),
	F(13, request_headers_to_remove, LIST, TYPE(STRING)),
	F(14, include_request_attempt_count, TYPE(BOOL)),
	F(15, typed_per_filter_config, MAP, TYPE(ANY)),
	F(16, retry_policy, MSG(retry_policy)),
	F(17, hedge_policy, TYPE(MESSAGE), REFUSED("")),
	F(18, per_request_buffer_limit_bytes, TYPE(UINT32), WRAP, OLD,
	  REFUSED("use per_connection_buffer_limit_bytes of the listener")),
	F(19, include_attempt_count_in_response, TYPE(BOOL)),
	F(20, retry_policy_typed_config, TYPE(ANY), REFUSED("use retry_policy")),
	F(21, matcher, TYPE(MESSAGE), REFUSED("use routes")),
	F(22, request_mirror_policies, LIST, TYPE(MESSAGE), REFUSED("requests are not mirrored")),
	F(23, include_is_timeout_retry_header, TYPE(BOOL), REFUSED("")),
	F(24, metadata, MSG(metadata)),
	F(25, request_body_buffer_limit, TYPE(UINT64), WRAP,
	  REFUSED("use per_connection_buffer_limit_bytes of the listener")),
	F(26, route_specifiers, LIST, MSG(typed_extension), REFUSED("")),
	END};
MESSAGE(virtual_host, "envoy.config.route.v3.VirtualHost");

static const struct schema_field route_fields[] = {
	F(1, match, MSG(route_match)),
	F(2, route, MSG(route_action), ONEOF(1)),
	F(3, redirect, MSG(redirect), ONEOF(1)),
	F(4, metadata, MSG(metadata)),
	F(5, decorator, TYPE(MESSAGE), HARMLESS("no traces are sent")),
	F(7, direct_response, MSG(direct_response), ONEOF(1)),
	F(9, request_headers_to_add, LIST, MSG(header_value_option)),
	F(10, response_headers_to_add, LIST, MSG(header_value_option)),
	F(11, response_headers_to_remove, LIST, TYPE(STRING)),
	F(12, request_headers_to_remove, LIST, TYPE(STRING)),
	F(13, typed_per_filter_config, MAP, TYPE(ANY)),
	F(14, name, TYPE(STRING)),
	F(15, tracing, TYPE(MESSAGE), HARMLESS("no traces are sent")),
	F(16, per_request_buffer_limit_bytes, TYPE(UINT32), WRAP, OLD,
	  REFUSED("use per_connection_buffer_limit_bytes of the listener")),
	F(17, filter_action, TYPE(MESSAGE), ONEOF(1), REFUSED("")),
	F(18, non_forwarding_action, MSG(non_forwarding), ONEOF(1)),
	F(19, stat_prefix, TYPE(STRING), HARMLESS("there are no statistics for each route")),
	F(20, request_body_buffer_limit, TYPE(UINT64), WRAP,
	  REFUSED("use per_connection_buffer_limit_bytes of the listener")),
	F(21, route_specifiers, LIST, MSG(typed_extension), REFUSED("")),
	END};
MESSAGE(route, "envoy.config.route.v3.Route");

EMPTY(non_forwarding, "envoy.config.route.v3.NonForwardingAction");

static const struct schema_field weighted_fields[] = {
	F(1, clusters, LIST, MSG(cluster_weight)),
	F(2, runtime_key_prefix, TYPE(STRING),
	  HARMLESS("runtime keys are not looked up; the value given here holds")),
	F(3, total_weight, TYPE(UINT32), WRAP, OLD, HARMLESS("the sum of the weights counts")),
	F(4, header_name, TYPE(STRING), ONEOF(1), REFUSED("")),
	F(5, use_hash_policy, TYPE(BOOL), WRAP, ONEOF(1), REFUSED("")),
	END};
MESSAGE(weighted, "envoy.config.route.v3.WeightedCluster");

static const struct schema_field cluster_weight_fields[] = {
	F(1, name, TYPE(STRING)),
	F(2, weight, TYPE(UINT32), WRAP),
	F(3, metadata_match, MSG(metadata), REFUSED("there are no subsets")),
	F(4, request_headers_to_add, LIST, MSG(header_value_option)),
	F(5, response_headers_to_add, LIST, MSG(header_value_option)),
	F(6, response_headers_to_remove, LIST, TYPE(STRING)),
	F(9, request_headers_to_remove, LIST, TYPE(STRING)),
	F(10, typed_per_filter_config, MAP, TYPE(ANY)),
	F(11, host_rewrite_literal, TYPE(STRING), ONEOF(1)),
	F(12, cluster_header, TYPE(STRING), REFUSED("")),
	END};
MESSAGE(cluster_weight, "envoy.config.route.v3.WeightedCluster.ClusterWeight");

static const struct schema_field route_match_fields[] = {
	F(1, prefix, TYPE(STRING), ONEOF(1)),
	F(2, path, TYPE(STRING), ONEOF(1)),
	F(4, case_sensitive, TYPE(BOOL), WRAP),
	F(6, headers, LIST, MSG(header_matcher)),
	F(7, query_parameters, LIST, MSG(query_matcher)),
	F(8, grpc, MSG(match_grpc)),
	F(9, runtime_fraction, MSG(runtime_fraction)),
	F(10, safe_regex, MSG(regex_matcher), ONEOF(1)),
	F(11, tls_context, MSG(match_tls)),
	F(12, connect_matcher, TYPE(MESSAGE), ONEOF(1), REFUSED("CONNECT is refused")),
	F(13, dynamic_metadata, LIST, TYPE(MESSAGE), REFUSED("")),
	F(14, path_separated_prefix, TYPE(STRING), ONEOF(1)),
	F(15, path_match_policy, MSG(typed_extension), ONEOF(1), REFUSED("use safe_regex")),
	F(16, filter_state, LIST, TYPE(MESSAGE), REFUSED("")),
	F(17, cookies, LIST, MSG(cookie_matcher)),
	END};
MESSAGE(route_match, "envoy.config.route.v3.RouteMatch");

EMPTY(match_grpc, "envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions");

static const struct schema_field match_tls_fields[] = {F(1, presented, TYPE(BOOL), WRAP),
						       F(2, validated, TYPE(BOOL), WRAP), END};
MESSAGE(match_tls, "envoy.config.route.v3.RouteMatch.TlsContextMatchOptions");

static const struct schema_field cookie_matcher_fields[] = {F(1, name, TYPE(STRING)),
							    F(2, string_match, MSG(string_matcher)),
							    F(3, invert_match, TYPE(BOOL)), END};
MESSAGE(cookie_matcher, "envoy.config.route.v3.CookieMatcher");

static const struct schema_field route_action_fields[] = {
	F(1, cluster, TYPE(STRING), ONEOF(1)),
	F(2, cluster_header, TYPE(STRING), ONEOF(1)),
	F(3, weighted_clusters, MSG(weighted), ONEOF(1)),
	F(4, metadata_match, MSG(metadata), REFUSED("there are no subsets")),
	F(5, prefix_rewrite, TYPE(STRING)),
	F(6, host_rewrite_literal, TYPE(STRING), ONEOF(2)),
	F(7, auto_host_rewrite, TYPE(BOOL), WRAP, ONEOF(2)),
	F(8, timeout, TYPE(DURATION)),
	F(9, retry_policy, MSG(retry_policy)),
	F(11, priority, ENUM(e_routing_priority)),
	F(13, rate_limits, LIST, TYPE(MESSAGE), REFUSED("there is no rate limit filter")),
	F(14, include_vh_rate_limits, TYPE(BOOL), WRAP, OLD,
	  HARMLESS("there is no rate limit filter")),
	F(15, hash_policy, LIST, MSG(hash_policy)),
	F(17, cors, TYPE(MESSAGE), OLD,
	  REFUSED("there is no CORS filter; set the headers with response_headers_to_add or in "
		  "Lua")),
	F(20, cluster_not_found_response_code, ENUM(e_cluster_not_found_response_code)),
	F(23, max_grpc_timeout, TYPE(DURATION), OLD,
	  HARMLESS("grpc-timeout is not read; timeout holds")),
	F(24, idle_timeout, TYPE(DURATION)),
	F(25, upgrade_configs, LIST, MSG(route_upgrade)),
	F(26, internal_redirect_action, ENUM(e_internal_redirect_action), OLD,
	  REFUSED("redirects go to the client")),
	F(27, hedge_policy, TYPE(MESSAGE), REFUSED("")),
	F(28, grpc_timeout_offset, TYPE(DURATION), OLD,
	  HARMLESS("grpc-timeout is not read; timeout holds")),
	F(29, host_rewrite_header, TYPE(STRING), ONEOF(2)),
	F(30, request_mirror_policies, LIST, TYPE(MESSAGE), REFUSED("requests are not mirrored")),
	F(31, max_internal_redirects, TYPE(UINT32), WRAP, OLD,
	  REFUSED("redirects go to the client")),
	F(32, regex_rewrite, MSG(regex_substitute)),
	F(33, retry_policy_typed_config, TYPE(ANY), REFUSED("use retry_policy")),
	F(34, internal_redirect_policy, TYPE(MESSAGE), REFUSED("redirects go to the client")),
	F(35, host_rewrite_path_regex, MSG(regex_substitute), ONEOF(2)),
	F(36, max_stream_duration, MSG(max_stream)),
	F(37, cluster_specifier_plugin, TYPE(STRING), ONEOF(1), REFUSED("")),
	F(38, append_x_forwarded_host, TYPE(BOOL)),
	F(39, inline_cluster_specifier_plugin, TYPE(MESSAGE), ONEOF(1), REFUSED("")),
	F(40, early_data_policy, MSG(typed_extension), HARMLESS("there is no TLS early data")),
	F(41, path_rewrite_policy, MSG(typed_extension),
	  REFUSED("use prefix_rewrite or regex_rewrite")),
	F(42, flush_timeout, TYPE(DURATION),
	  HARMLESS("stream_idle_timeout bounds the flushing too")),
	F(44, host_rewrite, TYPE(STRING), ONEOF(2), REFUSED("use host_rewrite_literal")),
	F(45, path_rewrite, TYPE(STRING), REFUSED("use prefix_rewrite or regex_rewrite")),
	END};
MESSAGE(route_action, "envoy.config.route.v3.RouteAction");

static const struct schema_field hash_policy_fields[] = {
	F(1, header, MSG(hash_header), ONEOF(1)),
	F(2, cookie, MSG(hash_cookie), ONEOF(1)),
	F(3, connection_properties, MSG(hash_connection), ONEOF(1)),
	F(4, terminal, TYPE(BOOL)),
	F(5, query_parameter, MSG(hash_query), ONEOF(1)),
	F(6, filter_state, TYPE(MESSAGE), ONEOF(1), REFUSED("")),
	END};
MESSAGE(hash_policy, "envoy.config.route.v3.RouteAction.HashPolicy");

static const struct schema_field hash_header_fields[] = {
	F(1, header_name, TYPE(STRING)), F(2, regex_rewrite, MSG(regex_substitute)), END};
MESSAGE(hash_header, "envoy.config.route.v3.RouteAction.HashPolicy.Header");

static const struct schema_field hash_cookie_fields[] = {
	F(1, name, TYPE(STRING)), F(2, ttl, TYPE(DURATION)), F(3, path, TYPE(STRING)),
	F(4, attributes, LIST, TYPE(MESSAGE), REFUSED("")), END};
MESSAGE(hash_cookie, "envoy.config.route.v3.RouteAction.HashPolicy.Cookie");

static const struct schema_field hash_connection_fields[] = {F(1, source_ip, TYPE(BOOL)), END};
MESSAGE(hash_connection, "envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties");

static const struct schema_field hash_query_fields[] = {F(1, name, TYPE(STRING)), END};
MESSAGE(hash_query, "envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter");

static const struct schema_field route_upgrade_fields[] = {
	F(1, upgrade_type, TYPE(STRING)), F(2, enabled, TYPE(BOOL), WRAP),
	F(3, connect_config, TYPE(MESSAGE), REFUSED("CONNECT is refused")), END};
MESSAGE(route_upgrade, "envoy.config.route.v3.RouteAction.UpgradeConfig");

static const struct schema_field max_stream_fields[] = {
	F(1, max_stream_duration, TYPE(DURATION)),
	F(2, grpc_timeout_header_max, TYPE(DURATION),
	  HARMLESS("grpc-timeout is not read; timeout holds")),
	F(3, grpc_timeout_header_offset, TYPE(DURATION),
	  HARMLESS("grpc-timeout is not read; timeout holds")),
	END};
MESSAGE(max_stream, "envoy.config.route.v3.RouteAction.MaxStreamDuration");

static const struct schema_field retry_policy_fields[] = {
	F(1, retry_on, TYPE(STRING)),
	F(2, num_retries, TYPE(UINT32), WRAP),
	F(3, per_try_timeout, TYPE(DURATION)),
	F(4, retry_priority, MSG(retry_priority)),
	F(5, retry_host_predicate, LIST, MSG(retry_host)),
	F(6, host_selection_retry_max_attempts, TYPE(INT64)),
	F(7, retriable_status_codes, LIST, TYPE(UINT32)),
	F(8, retry_back_off, MSG(retry_backoff)),
	F(9, retriable_headers, LIST, MSG(header_matcher)),
	F(10, retriable_request_headers, LIST, MSG(header_matcher)),
	F(11, rate_limited_retry_back_off, TYPE(MESSAGE), REFUSED("")),
	F(12, retry_options_predicates, LIST, MSG(typed_extension), REFUSED("")),
	F(13, per_try_idle_timeout, TYPE(DURATION)),
	F(14, refresh_cluster_on_retry, TYPE(BOOL), REFUSED("")),
	END};
MESSAGE(retry_policy, "envoy.config.route.v3.RetryPolicy");

static const struct schema_field retry_priority_fields[] = {
	F(1, name, TYPE(STRING)), F(3, typed_config, TYPE(ANY), ONEOF(1)), END};
MESSAGE(retry_priority, "envoy.config.route.v3.RetryPolicy.RetryPriority");

static const struct schema_field retry_host_fields[] = {
	F(1, name, TYPE(STRING)), F(3, typed_config, TYPE(ANY), ONEOF(1)), END};
MESSAGE(retry_host, "envoy.config.route.v3.RetryPolicy.RetryHostPredicate");

static const struct schema_field retry_backoff_fields[] = {F(1, base_interval, TYPE(DURATION)),
							   F(2, max_interval, TYPE(DURATION)), END};
MESSAGE(retry_backoff, "envoy.config.route.v3.RetryPolicy.RetryBackOff");

EMPTY(previous_hosts, "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate");

static const struct schema_field previous_priorities_fields[] = {
	F(1, update_frequency, TYPE(INT32)), END};
MESSAGE(previous_priorities,
	"envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig");

static const struct schema_field header_matcher_fields[] = {
	F(1, name, TYPE(STRING)),
	F(4, exact_match, TYPE(STRING), ONEOF(1), OLD),
	F(6, range_match, MSG(int64_range), ONEOF(1)),
	F(7, present_match, TYPE(BOOL), ONEOF(1)),
	F(8, invert_match, TYPE(BOOL)),
	F(9, prefix_match, TYPE(STRING), ONEOF(1), OLD),
	F(10, suffix_match, TYPE(STRING), ONEOF(1), OLD),
	F(11, safe_regex_match, MSG(regex_matcher), ONEOF(1), OLD),
	F(12, contains_match, TYPE(STRING), ONEOF(1), OLD),
	F(13, string_match, MSG(string_matcher), ONEOF(1)),
	F(14, treat_missing_header_as_empty, TYPE(BOOL)),
	END};
MESSAGE(header_matcher, "envoy.config.route.v3.HeaderMatcher");

static const struct schema_field redirect_fields[] = {
	F(1, host_redirect, TYPE(STRING)),
	F(2, path_redirect, TYPE(STRING), ONEOF(1)),
	F(3, response_code, ENUM(e_redirect_response_code)),
	F(4, https_redirect, TYPE(BOOL), ONEOF(2)),
	F(5, prefix_rewrite, TYPE(STRING), ONEOF(1)),
	F(6, strip_query, TYPE(BOOL)),
	F(7, scheme_redirect, TYPE(STRING), ONEOF(2)),
	F(8, port_redirect, TYPE(UINT32)),
	F(9, regex_rewrite, MSG(regex_substitute), ONEOF(1)),
	F(10, path_rewrite, TYPE(STRING), ONEOF(1), REFUSED("use prefix_rewrite or regex_rewrite")),
	END};
MESSAGE(redirect, "envoy.config.route.v3.RedirectAction");

static const struct schema_field direct_response_fields[] = {
	F(1, status, TYPE(UINT32)), F(2, body, MSG(data_source)),
	F(3, body_format, MSG(format_string), REFUSED("the body is fixed text")), END};
MESSAGE(direct_response, "envoy.config.route.v3.DirectResponseAction");

static const struct schema_field virtual_cluster_fields[] = {
	F(2, name, TYPE(STRING)), F(4, headers, LIST, MSG(header_matcher)), END};
MESSAGE(virtual_cluster, "envoy.config.route.v3.VirtualCluster");

static const struct schema_field query_matcher_fields[] = {
	F(1, name, TYPE(STRING)), F(5, string_match, MSG(string_matcher), ONEOF(1)),
	F(6, present_match, TYPE(BOOL), ONEOF(1)), END};
MESSAGE(query_matcher, "envoy.config.route.v3.QueryParameterMatcher");

static const struct schema_field filter_config_fields[] = {
	F(1, config, TYPE(ANY)), F(2, is_optional, TYPE(BOOL)), F(3, disabled, TYPE(BOOL)), END};
MESSAGE(filter_config, "envoy.config.route.v3.FilterConfig");
