/* src/config/schema_cluster.c: clusters and endpoints. Numbers, types, oneofs as in Envoy 1.40. */
#include "config/schema_int.h"

static const char *const e_discovery_type[] = {"STATIC", "STRICT_DNS",   "LOGICAL_DNS",
					       "EDS",    "ORIGINAL_DST", NULL};
static const char *const e_lb_policy[] = {"ROUND_ROBIN",
					  "LEAST_REQUEST",
					  "RING_HASH",
					  "RANDOM",
					  "",
					  "MAGLEV",
					  "CLUSTER_PROVIDED",
					  "LOAD_BALANCING_POLICY_CONFIG",
					  NULL};
static const char *const e_dns_lookup_family[] = {"AUTO",         "V4_ONLY", "V6_ONLY",
						  "V4_PREFERRED", "ALL",     NULL};
static const char *const e_cluster_protocol_selection[] = {"USE_CONFIGURED_PROTOCOL",
							   "USE_DOWNSTREAM_PROTOCOL", NULL};
static const char *const e_routing_priority[] = {"DEFAULT", "HIGH", NULL};
static const char *const e_hash_function[] = {"XX_HASH", "MURMUR_HASH_2", NULL};
static const char *const e_health_status[] = {"UNKNOWN", "HEALTHY",  "UNHEALTHY", "DRAINING",
					      "TIMEOUT", "DEGRADED", NULL};

static const struct schema_field cluster_fields[] = {
	F(1, name, TYPE(STRING)),
	F(2, type, ENUM(e_discovery_type), ONEOF(1)),
	F(3, eds_cluster_config, TYPE(MESSAGE),
	  REFUSED("no control planes; write load_assignment")),
	F(4, connect_timeout, TYPE(DURATION)),
	F(5, per_connection_buffer_limit_bytes, TYPE(UINT32), WRAP),
	F(6, lb_policy, ENUM(e_lb_policy)),
	F(8, health_checks, LIST, TYPE(MESSAGE),
	  REFUSED("there are no active health checks yet; endpoints that refuse are passed over by "
		  "retry_policy")),
	F(9, max_requests_per_connection, TYPE(UINT32), WRAP, OLD),
	F(10, circuit_breakers, MSG(circuit_breakers)),
	F(13, http_protocol_options, MSG(http1_options), OLD),
	F(14, http2_protocol_options, MSG(http2_options), OLD),
	F(16, dns_refresh_rate, TYPE(DURATION), OLD),
	F(17, dns_lookup_family, ENUM(e_dns_lookup_family)),
	F(18, dns_resolvers, LIST, MSG(address), OLD),
	F(19, outlier_detection, TYPE(MESSAGE), REFUSED("there is no outlier detection yet")),
	F(20, cleanup_interval, TYPE(DURATION),
	  HARMLESS("endpoints that left are dropped at once")),
	F(21, upstream_bind_config, MSG(bind_config)),
	F(22, lb_subset_config, TYPE(MESSAGE), REFUSED("there are no subsets")),
	F(23, ring_hash_lb_config, MSG(ring_hash), ONEOF(2)),
	F(24, transport_socket, MSG(transport_socket)),
	F(25, metadata, MSG(metadata)),
	F(26, protocol_selection, ENUM(e_cluster_protocol_selection), OLD,
	  REFUSED("use typed_extension_protocol_options")),
	F(27, common_lb_config, MSG(common_lb)),
	F(28, alt_stat_name, TYPE(STRING)),
	F(29, common_http_protocol_options, MSG(http_protocol_options), OLD),
	F(30, upstream_connection_options, MSG(connection_options)),
	F(31, close_connections_on_host_health_failure, TYPE(BOOL),
	  HARMLESS("there are no active health checks")),
	F(32, ignore_health_on_host_removal, TYPE(BOOL),
	  HARMLESS("there are no active health checks")),
	F(33, load_assignment, MSG(load_assignment)),
	F(34, original_dst_lb_config, TYPE(MESSAGE), ONEOF(2), REFUSED("")),
	F(36, typed_extension_protocol_options, MAP, TYPE(ANY)),
	F(37, least_request_lb_config, MSG(least_request), ONEOF(2)),
	F(38, cluster_type, TYPE(MESSAGE), ONEOF(1),
	  REFUSED("use type STATIC, STRICT_DNS or LOGICAL_DNS")),
	F(39, respect_dns_ttl, TYPE(BOOL), OLD),
	F(40, filters, LIST, TYPE(MESSAGE), REFUSED("")),
	F(41, load_balancing_policy, TYPE(MESSAGE), REFUSED("use lb_policy")),
	F(42, lrs_server, TYPE(MESSAGE), REFUSED("no control planes")),
	F(43, transport_socket_matches, LIST, TYPE(MESSAGE), REFUSED("use transport_socket")),
	F(44, dns_failure_refresh_rate, TYPE(MESSAGE), OLD,
	  HARMLESS("a failed lookup is repeated after dns_refresh_rate")),
	F(45, use_tcp_for_dns_lookups, TYPE(BOOL), OLD, REFUSED("DNS retries over TCP by itself")),
	F(46, upstream_http_protocol_options, MSG(upstream_http_options), OLD),
	F(47, track_timeout_budgets, TYPE(BOOL), OLD,
	  HARMLESS("statistics have no such setting here")),
	F(48, upstream_config, MSG(typed_extension), REFUSED("")),
	F(49, track_cluster_stats, TYPE(MESSAGE), HARMLESS("statistics have no such setting here")),
	F(50, preconnect_policy, TYPE(MESSAGE),
	  HARMLESS("connections are opened when they are needed")),
	F(51, connection_pool_per_downstream_connection, TYPE(BOOL), REFUSED("")),
	F(52, maglev_lb_config, TYPE(MESSAGE), ONEOF(2), REFUSED("use RING_HASH")),
	F(53, dns_resolution_config, MSG(dns_resolution_config), OLD),
	F(54, wait_for_warm_on_init, TYPE(BOOL), WRAP,
	  HARMLESS("listeners open when the model is complete")),
	F(55, typed_dns_resolver_config, MSG(typed_extension)),
	F(56, round_robin_lb_config, MSG(round_robin), ONEOF(2)),
	F(57, lrs_report_endpoint_metrics, LIST, TYPE(STRING), HARMLESS("no control planes")),
	F(58, dns_jitter, TYPE(DURATION), OLD, HARMLESS("DNS answers are renewed without jitter")),
	F(59, transport_socket_matcher, TYPE(MESSAGE), REFUSED("use transport_socket")),
	F(60, per_connection_buffer_high_watermark_timeout, TYPE(DURATION),
	  HARMLESS("the route timeout bounds the wait")),
	F(61, stats_matcher, TYPE(MESSAGE), HARMLESS("statistics have no such setting here")),
	F(62, queuing_policies, TYPE(MESSAGE), REFUSED("")),
	END};
MESSAGE(cluster, "envoy.config.cluster.v3.Cluster");

static const struct schema_field circuit_breakers_fields[] = {
	F(1, thresholds, LIST, MSG(thresholds)),
	F(2, per_host_thresholds, LIST, MSG(thresholds),
	  REFUSED("limits hold for the whole cluster")),
	END};
MESSAGE(circuit_breakers, "envoy.config.cluster.v3.CircuitBreakers");

static const struct schema_field thresholds_fields[] = {
	F(1, priority, ENUM(e_routing_priority)),
	F(2, max_connections, TYPE(UINT32), WRAP),
	F(3, max_pending_requests, TYPE(UINT32), WRAP),
	F(4, max_requests, TYPE(UINT32), WRAP),
	F(5, max_retries, TYPE(UINT32), WRAP),
	F(6, track_remaining, TYPE(BOOL), HARMLESS("there are no gauges of what remains")),
	F(7, max_connection_pools, TYPE(UINT32), WRAP,
	  HARMLESS("there is one pool for each worker and endpoint")),
	F(8, retry_budget, MSG(retry_budget)),
	END};
MESSAGE(thresholds, "envoy.config.cluster.v3.CircuitBreakers.Thresholds");

static const struct schema_field retry_budget_fields[] = {
	F(1, budget_percent, MSG(percent)), F(2, min_retry_concurrency, TYPE(UINT32), WRAP),
	F(3, budget_interval, TYPE(DURATION), HARMLESS("the share is of the requests in flight")),
	END};
MESSAGE(retry_budget, "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget");

static const struct schema_field round_robin_fields[] = {
	F(1, slow_start_config, TYPE(MESSAGE), REFUSED("there is no slow start")), END};
MESSAGE(round_robin, "envoy.config.cluster.v3.Cluster.RoundRobinLbConfig");

static const struct schema_field least_request_fields[] = {
	F(1, choice_count, TYPE(UINT32), WRAP),
	F(2, active_request_bias, MSG(runtime_double), REFUSED("")),
	F(3, slow_start_config, TYPE(MESSAGE), REFUSED("there is no slow start")), END};
MESSAGE(least_request, "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig");

static const struct schema_field ring_hash_fields[] = {
	F(1, minimum_ring_size, TYPE(UINT64), WRAP), F(3, hash_function, ENUM(e_hash_function)),
	F(4, maximum_ring_size, TYPE(UINT64), WRAP), END};
MESSAGE(ring_hash, "envoy.config.cluster.v3.Cluster.RingHashLbConfig");

static const struct schema_field common_lb_fields[] = {
	F(1, healthy_panic_threshold, MSG(percent)),
	F(2, zone_aware_lb_config, TYPE(MESSAGE), ONEOF(1),
	  REFUSED("there is no zone-aware balancing")),
	F(3, locality_weighted_lb_config, TYPE(MESSAGE), ONEOF(1),
	  REFUSED("endpoints are weighted one by one")),
	F(4, update_merge_window, TYPE(DURATION), HARMLESS("changes are taken over at once")),
	F(5, ignore_new_hosts_until_first_hc, TYPE(BOOL),
	  HARMLESS("there are no active health checks")),
	F(6, close_connections_on_host_set_change, TYPE(BOOL),
	  HARMLESS("connections to endpoints that left are drained")),
	F(7, consistent_hashing_lb_config, MSG(consistent_hashing)),
	F(8, override_host_status, TYPE(MESSAGE), REFUSED("")),
	END};
MESSAGE(common_lb, "envoy.config.cluster.v3.Cluster.CommonLbConfig");

static const struct schema_field consistent_hashing_fields[] = {
	F(1, use_hostname_for_hashing, TYPE(BOOL)),
	F(2, hash_balance_factor, TYPE(UINT32), WRAP, REFUSED("")), END};
MESSAGE(consistent_hashing,
	"envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig");

static const struct schema_field connection_options_fields[] = {
	F(1, tcp_keepalive, MSG(tcp_keepalive)),
	F(2, set_local_interface_name_on_upstream_connections, TYPE(BOOL),
	  HARMLESS("nothing shows the name")),
	F(3, happy_eyeballs_config, TYPE(MESSAGE), REFUSED("use dns_lookup_family")), END};
MESSAGE(connection_options, "envoy.config.cluster.v3.UpstreamConnectionOptions");

static const struct schema_field load_assignment_fields[] = {
	F(1, cluster_name, TYPE(STRING)), F(2, endpoints, LIST, MSG(locality_endpoints)),
	F(4, policy, MSG(load_policy)), F(5, named_endpoints, MAP, MSG(endpoint), REFUSED("")),
	END};
MESSAGE(load_assignment, "envoy.config.endpoint.v3.ClusterLoadAssignment");

static const struct schema_field load_policy_fields[] = {
	F(2, drop_overloads, LIST, TYPE(MESSAGE), REFUSED("")),
	F(3, overprovisioning_factor, TYPE(UINT32), WRAP),
	F(4, endpoint_stale_after, TYPE(DURATION), HARMLESS("endpoints come from this file")),
	F(6, weighted_priority_health, TYPE(BOOL), REFUSED("")), END};
MESSAGE(load_policy, "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy");

static const struct schema_field locality_endpoints_fields[] = {
	F(1, locality, MSG(locality), HARMLESS("there is no zone-aware balancing")),
	F(2, lb_endpoints, LIST, MSG(lb_endpoint)),
	F(3, load_balancing_weight, TYPE(UINT32), WRAP,
	  HARMLESS("endpoints are weighted one by one")),
	F(5, priority, TYPE(UINT32)),
	F(6, proximity, TYPE(UINT32), WRAP, HARMLESS("there is no zone-aware balancing")),
	F(7, load_balancer_endpoints, TYPE(MESSAGE), ONEOF(1), OLD, REFUSED("use lb_endpoints")),
	F(8, leds_cluster_locality_config, TYPE(MESSAGE), ONEOF(1), REFUSED("no control planes")),
	F(9, metadata, MSG(metadata), HARMLESS("nothing reads the metadata of a locality")),
	END};
MESSAGE(locality_endpoints, "envoy.config.endpoint.v3.LocalityLbEndpoints");

static const struct schema_field lb_endpoint_fields[] = {
	F(1, endpoint, MSG(endpoint), ONEOF(1)),
	F(2, health_status, ENUM(e_health_status)),
	F(3, metadata, MSG(metadata)),
	F(4, load_balancing_weight, TYPE(UINT32), WRAP),
	F(5, endpoint_name, TYPE(STRING), ONEOF(1), REFUSED("")),
	END};
MESSAGE(lb_endpoint, "envoy.config.endpoint.v3.LbEndpoint");

static const struct schema_field endpoint_fields[] = {
	F(1, address, MSG(address)),
	F(2, health_check_config, TYPE(MESSAGE), HARMLESS("there are no active health checks")),
	F(3, hostname, TYPE(STRING)),
	F(4, additional_addresses, LIST, TYPE(MESSAGE), REFUSED("write a second endpoint")),
	F(5, observability_name, TYPE(STRING), HARMLESS("statistics name the address")),
	END};
MESSAGE(endpoint, "envoy.config.endpoint.v3.Endpoint");

static const struct schema_field upstream_options_fields[] = {
	F(1, common_http_protocol_options, MSG(http_protocol_options)),
	F(2, upstream_http_protocol_options, MSG(upstream_http_options)),
	F(3, explicit_http_config, MSG(explicit_http), ONEOF(1)),
	F(4, use_downstream_protocol_config, MSG(downstream_http), ONEOF(1)),
	F(5, auto_config, MSG(auto_http), ONEOF(1)),
	F(6, http_filters, LIST, MSG(http_filter),
	  REFUSED("filters stand in the HTTP connection manager")),
	F(7, header_validation_config, MSG(typed_extension),
	  REFUSED("headers are always validated strictly")),
	F(8, outlier_detection, TYPE(MESSAGE), REFUSED("there is no outlier detection yet")),
	F(9, request_mirror_policies, LIST, TYPE(MESSAGE), REFUSED("requests are not mirrored")),
	F(10, hash_policy, LIST, MSG(hash_policy), REFUSED("write it into the route")),
	F(11, retry_policy, MSG(retry_policy), REFUSED("write it into the route or virtual host")),
	END};
MESSAGE(upstream_options, "envoy.extensions.upstreams.http.v3.HttpProtocolOptions");

static const struct schema_field explicit_http_fields[] = {
	F(1, http_protocol_options, MSG(http1_options), ONEOF(1)),
	F(2, http2_protocol_options, MSG(http2_options), ONEOF(1)),
	F(3, http3_protocol_options, TYPE(MESSAGE), ONEOF(1), REFUSED("HTTP/3 is not spoken")),
	END};
MESSAGE(explicit_http, "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig");

static const struct schema_field downstream_http_fields[] = {
	F(1, http_protocol_options, MSG(http1_options)),
	F(2, http2_protocol_options, MSG(http2_options)),
	F(3, http3_protocol_options, TYPE(MESSAGE), REFUSED("HTTP/3 is not spoken")), END};
MESSAGE(downstream_http,
	"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig");

static const struct schema_field auto_http_fields[] = {
	F(1, http_protocol_options, MSG(http1_options)),
	F(2, http2_protocol_options, MSG(http2_options)),
	F(3, http3_protocol_options, TYPE(MESSAGE), REFUSED("HTTP/3 is not spoken")),
	F(4, alternate_protocols_cache_options, TYPE(MESSAGE), REFUSED("HTTP/3 is not spoken")),
	END};
MESSAGE(auto_http, "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig");

static const struct schema_field cares_fields[] = {
	F(1, resolvers, LIST, MSG(address)),
	F(2, dns_resolver_options, MSG(dns_resolver_options),
	  REFUSED("DNS retries over TCP by itself")),
	F(3, use_resolvers_as_fallback, TYPE(BOOL), REFUSED("")),
	F(4, filter_unroutable_families, TYPE(BOOL),
	  HARMLESS("the resolver keeps its own measure")),
	F(5, udp_max_queries, TYPE(UINT32), WRAP, HARMLESS("the resolver keeps its own measure")),
	F(6, query_timeout_seconds, TYPE(UINT64), WRAP,
	  HARMLESS("the resolver keeps its own measure")),
	F(7, query_tries, TYPE(UINT32), WRAP, HARMLESS("the resolver keeps its own measure")),
	F(8, rotate_nameservers, TYPE(BOOL), HARMLESS("the resolver keeps its own measure")),
	F(9, edns0_max_payload_size, TYPE(UINT32), WRAP,
	  HARMLESS("the resolver keeps its own measure")),
	F(10, max_udp_channel_duration, TYPE(DURATION),
	  HARMLESS("the resolver keeps its own measure")),
	F(11, reinit_channel_on_timeout, TYPE(BOOL),
	  HARMLESS("the resolver keeps its own measure")),
	F(12, qcache_max_ttl, TYPE(UINT32), WRAP, HARMLESS("the resolver keeps its own measure")),
	END};
MESSAGE(cares, "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig");
